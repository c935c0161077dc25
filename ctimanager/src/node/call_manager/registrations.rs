//! Registrations that outlive the process: the records that the node emits for the journal, and how a node that starts takes
//! up what they add up to.
//!
//! The journal may lose its last records without harm, since each phone registers again. No call waits for it.

use super::{CallManager, Said, Turn};
use crate::node::alarms;
use crate::node::millis::{Millis, millis};
use crate::node::settings::Settings;
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
    /// registrations are to be kept; from then on the node says [`crate::node::port::Output::Registrations`].
    Restored(Vec<(u64, Registration)>, Option<String>),
    /// Records were lost: the node says all that there is.
    Wanted,
    /// They can't be kept, and why.
    Suspended(String),
    /// They are kept again.
    Resumed,
}

/// CallManager's side of the keeping.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    on: bool,
    records: Vec<RegistrationRecord>,
    /// The longest that any may be.
    longest: Duration,
}

impl Registrations {
    /// A wall clock that was set back doesn't make a registration longer than any may be.
    pub(super) fn configure(&mut self, settings: &Settings) {
        let config = &settings.config;
        let own = config.devices.iter().filter_map(|device| device.registration_expiry_maximum);
        self.longest = own.fold(config.parameters.registration_expiry_maximum, Duration::max);
    }

    pub(super) fn keep(&mut self, turn: &Turn<'_>, record: BindingRecord) {
        if self.on {
            self.records.push(match record {
                BindingRecord::Bound(id, binding) => {
                    RegistrationRecord::Bound(id, Box::new(Registration::of(turn, *binding)))
                }
                BindingRecord::Gone(id) => RegistrationRecord::Gone(id),
            });
        }
    }
}

impl CallManager {
    pub(in crate::node) fn registration_news(&mut self, turn: &mut Turn<'_>, news: RegistrationNews) {
        match news {
            RegistrationNews::Restored(kept, damage) => self.restore_registrations(turn, kept, damage),
            RegistrationNews::Wanted => {
                let records = self.stack.bindings();
                self.registrations.records = vec![RegistrationRecord::Anew];
                records.into_iter().for_each(|record| self.registrations.keep(turn, record));
            }
            RegistrationNews::Suspended(reason) => {
                turn.out.push(suspended(alarms::AlarmState::Raised, vec![("reason", reason)]));
            }
            RegistrationNews::Resumed => turn.out.push(suspended(alarms::AlarmState::Cleared, Vec::new())),
        }
    }

    fn restore_registrations(
        &mut self,
        turn: &mut Turn<'_>,
        kept: Vec<(u64, Registration)>,
        damage: Option<String>,
    ) {
        self.registrations.on = true;
        if let Some(reason) = damage {
            let parameters = vec![("reason", reason)];
            turn.out.push(Said::Occurred(&alarms::REGISTRATION_STORE_UNREADABLE, parameters));
        }
        // What the configuration has no place for any more, a removed device or line, does not come back.
        let (held, gone): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(_, of)| self.directory.may_register(&of.account, &of.number));
        self.registrations.records.extend(gone.into_iter().map(|(id, _)| RegistrationRecord::Gone(id)));
        let longest = self.registrations.longest;
        let held = held.into_iter().map(|(id, of)| (id, of.binding(turn, longest))).collect();
        self.sip(turn, sip::Input::Command(sip::Command::Restore(held)));
    }

    /// What is to be kept of this step, if anything.
    pub(in crate::node) fn take_registrations(&mut self) -> Option<Vec<RegistrationRecord>> {
        let records = std::mem::take(&mut self.registrations.records);
        (!records.is_empty()).then_some(records)
    }
}

fn suspended(state: alarms::AlarmState, parameters: Vec<(&'static str, String)>) -> Said {
    Said::Condition { alarm: &alarms::REGISTRATION_STORE_SUSPENDED, key: String::new(), state, parameters }
}

impl Registration {
    fn of(turn: &Turn<'_>, binding: KeptBinding) -> Self {
        let left = binding.expires_at.saturating_duration_since(turn.now);
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
            expires: millis(turn.wall + left),
        }
    }

    fn binding(self, turn: &Turn<'_>, longest: Duration) -> KeptBinding {
        let left = Duration::from_millis(self.expires.saturating_sub(millis(turn.wall))).min(longest);
        let expires_at: Instant = turn.now + left;
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
