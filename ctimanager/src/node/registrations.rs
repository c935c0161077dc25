//! What of the phones' registrations outlives the process: the records that the node says, and how the next life takes up
//! what they add up to.
//!
//! They are no secret and no session: whoever keeps them (a file, a test) may lose the last moment without harm, for each
//! phone registers again. No call waits for them.

use super::kept::{Millis, millis};
use super::port::Output;
use super::{Node, Step, alarms};
use serde::{Deserialize, Serialize};
use sip::Transport;
use sip::port::{BindingRecord, KeptBinding};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A registered contact as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The device.
    pub account: Arc<str>,
    /// The number, or the digest user.
    pub number: Arc<str>,
    /// The contact's URI.
    pub contact: String,
    /// Its preference in thousandths.
    pub q: u16,
    /// Path values (RFC 3327).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Call-ID of the last REGISTER.
    pub call_id: String,
    /// CSeq of the last REGISTER.
    pub cseq: u32,
    /// `+sip.instance` and `reg-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How it is reached.
    pub transport: By,
    /// Where it is reached.
    pub remote: SocketAddr,
    /// When it ends, by the wall clock.
    pub expires: Millis,
}

impl fmt::Debug for Registration {
    /// Neither its number nor its contact: they are a person's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({}, {:?} {})", self.account, self.transport, self.remote)
    }
}

/// A transport, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum By {
    Udp,
    Tcp,
    Tls,
}

/// One thing to be kept, or to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationRecord {
    /// Nothing of what was kept is true any more: all that there is follows.
    Anew,
    /// The registration of this id.
    Bound(u64, Box<Registration>),
    /// It is no more.
    Gone(u64),
}

/// What the node is told of the keeping.
#[derive(Debug)]
pub enum RegistrationNews {
    /// What the earlier life left, maybe nothing, and why that could not be read if so. It comes before any other input if
    /// registrations are to be kept; from then on the node says [`Output::Registrations`].
    Restored(Vec<(u64, Registration)>, Option<String>),
    /// Records were lost: the node says all that there is.
    Wanted,
    /// They can't be kept, and why.
    Suspended(String),
    /// They are kept again.
    Resumed,
}

/// The node's side of the keeping.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    on: bool,
    records: Vec<RegistrationRecord>,
}

impl Node {
    pub(super) fn registration_news(&mut self, step: &mut Step<'_>, news: RegistrationNews) {
        match news {
            RegistrationNews::Restored(kept, damage) => self.restore_registrations(step, kept, damage),
            RegistrationNews::Wanted => {
                let records = self.stack.bindings();
                self.registrations.records = vec![RegistrationRecord::Anew];
                records.into_iter().for_each(|record| self.keep_binding(step, record));
            }
            RegistrationNews::Suspended(reason) => {
                let parameters = vec![("reason", reason)];
                let definition = &alarms::REGISTRATION_STORE_SUSPENDED;
                self.alarm_condition(step, definition, String::new(), true, parameters, &[]);
            }
            RegistrationNews::Resumed => {
                let definition = &alarms::REGISTRATION_STORE_SUSPENDED;
                self.alarm_condition(step, definition, String::new(), false, Vec::new(), &[]);
            }
        }
    }

    fn restore_registrations(
        &mut self,
        step: &mut Step<'_>,
        kept: Vec<(u64, Registration)>,
        damage: Option<String>,
    ) {
        self.registrations.on = true;
        if let Some(reason) = damage {
            let report = self.alarms.occur(&alarms::REGISTRATION_STORE_UNREADABLE, vec![("reason", reason)]);
            step.out.push(Output::Report(report));
        }
        // What the configuration has no place for any more, a removed device or line, does not come back.
        let (held, gone): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(_, of)| self.directory.may_register(&of.account, &of.number));
        self.registrations.records.extend(gone.into_iter().map(|(id, _)| RegistrationRecord::Gone(id)));
        let longest = self.longest_registration();
        let held = held.into_iter().map(|(id, of)| (id, of.binding(step, longest))).collect();
        self.sip(step, sip::Input::Command(sip::Command::Restore(held)));
    }

    /// A wall clock that was set back doesn't make a registration longer than any may be.
    fn longest_registration(&self) -> Duration {
        let config = &self.settings.config;
        let own = config.devices.iter().filter_map(|device| device.registration_expiry_maximum);
        own.fold(config.parameters.registration_expiry_maximum, Duration::max)
    }

    pub(super) fn keep_binding(&mut self, step: &Step<'_>, record: BindingRecord) {
        if self.registrations.on {
            self.registrations.records.push(match record {
                BindingRecord::Bound(id, binding) => {
                    RegistrationRecord::Bound(id, Box::new(Registration::of(step, *binding)))
                }
                BindingRecord::Gone(id) => RegistrationRecord::Gone(id),
            });
        }
    }

    /// Before all else that the step says: the answer to a REGISTER may wait until they are written.
    pub(super) fn say_registrations(&mut self, step: &mut Step<'_>, from: usize) {
        if !self.registrations.records.is_empty() {
            let records = std::mem::take(&mut self.registrations.records);
            step.out.insert(from, Output::Registrations(records));
        }
    }
}

impl Registration {
    fn of(step: &Step<'_>, binding: KeptBinding) -> Self {
        let left = binding.expires_at.saturating_duration_since(step.now);
        Self {
            account: binding.account,
            number: binding.number,
            contact: binding.contact,
            q: binding.q_thousandths,
            path: binding.path,
            call_id: binding.call_id,
            cseq: binding.cseq,
            instance: binding.instance,
            transport: match binding.transport {
                Transport::Udp => By::Udp,
                Transport::Tcp => By::Tcp,
                Transport::Tls => By::Tls,
            },
            remote: binding.remote,
            expires: millis(step.wall + left),
        }
    }

    fn binding(self, step: &Step<'_>, longest: Duration) -> KeptBinding {
        let left = Duration::from_millis(self.expires.saturating_sub(millis(step.wall))).min(longest);
        let expires_at: Instant = step.now + left;
        KeptBinding {
            account: self.account,
            number: self.number,
            contact: self.contact,
            q_thousandths: self.q,
            path: self.path,
            call_id: self.call_id,
            cseq: self.cseq,
            instance: self.instance,
            transport: match self.transport {
                By::Udp => Transport::Udp,
                By::Tcp => Transport::Tcp,
                By::Tls => Transport::Tls,
            },
            remote: self.remote,
            expires_at,
        }
    }
}
