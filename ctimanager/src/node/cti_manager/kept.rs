//! What of the sessions outlives the process (`persist_sessions`): the records that the node says, and what they add up
//! to. Whoever keeps them (a file, a test) applies them in order and hands the sum to the next life of the node.

pub use crate::node::millis::{Millis, millis};
use device_model::{DeviceName, LegId, SessionId};
use protocol::session::{KeptAnswer, MAX_ENDED, REMEMBER_ENDED};
use protocol::wire::{Device, Leg, Media};
use protocol::{CtiError, Encoded};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One thing to be kept, or to be forgotten.
#[derive(Clone, Debug)]
pub enum Record {
    /// A session is there, or is another than before.
    Session(SessionId, Head),
    /// A session is no longer kept, with all that belongs to it.
    SessionGone(SessionId),
    /// A session has ended: it is known for a while.
    Ended(SessionId, Ended),
    /// A session has this device open, and knows it so.
    Device(SessionId, DeviceName, KeptDevice),
    /// It has it open no more.
    DeviceGone(SessionId, DeviceName),
    /// An event of a session's log.
    Event(SessionId, u64, Encoded),
    /// The log begins here: what was before is forgotten.
    FirstEvent(SessionId, u64),
    /// The answer to a request that had a key.
    Answer(SessionId, u64, Answer),
    /// The answers begin here.
    FirstAnswer(SessionId, u64),
    /// A leg of a device that a kept session has open.
    Leg(LegId, KeptLeg),
    /// It is gone, or nobody's who is kept.
    LegGone(LegId),
}

/// Who a session belongs to, and what was agreed with him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The user that opened it.
    pub user: Arc<str>,
    /// What the application calls itself.
    pub application: Arc<str>,
    /// Which of its instances.
    pub instance: Option<Arc<str>>,
    /// From where it was connected last.
    pub peer: SocketAddr,
    /// Whether that was over TLS.
    pub tls: bool,
    /// The heartbeat interval, milliseconds.
    pub heartbeat_ms: u64,
    /// The grace, milliseconds; never 0 in what is kept.
    pub grace_ms: u64,
    /// The event types that it wants, by name; `None`: all, those of later versions too.
    pub subscription: Option<Vec<String>>,
    /// Until when it is held; `None`: it is connected.
    pub held_until: Option<Millis>,
}

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Whose.
    pub user: Arc<str>,
    /// When.
    pub at: Millis,
}

/// A device that a session has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDevice {
    /// With which media; `None` of phones.
    pub media: Option<Media>,
    /// As the session knows it.
    pub device: Device,
}

/// A leg as the sessions know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLeg {
    /// The leg.
    pub leg: Leg,
    /// Whether its input stream runs.
    pub input: bool,
    /// Whether its output stream runs.
    pub output: bool,
}

/// An answer with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The key.
    pub idem: Arc<str>,
    /// Of method and params.
    pub fingerprint: u128,
    /// `{"result": …}` or `{"error": …}`.
    pub outcome: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<CtiError>,
}

/// All that is kept of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptSession {
    /// Who, and what was agreed.
    pub head: Head,
    /// The number of the oldest event of the log; of the next one when there is none.
    pub first_event: u64,
    /// The log.
    pub events: BTreeMap<u64, Encoded>,
    /// The answers by their numbers.
    pub answers: BTreeMap<u64, Answer>,
    /// The devices that it has open.
    pub devices: BTreeMap<DeviceName, KeptDevice>,
}

/// What the records add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The last moment at which the node was known to live. Whoever keeps the records notes it.
    pub alive: Millis,
    /// The sessions.
    pub sessions: BTreeMap<SessionId, KeptSession>,
    /// The legs that they know.
    pub legs: BTreeMap<LegId, KeptLeg>,
    /// The sessions that have ended, in the order of their ends.
    pub ended: BTreeMap<(Millis, SessionId), Arc<str>>,
}

impl Kept {
    /// Adds a record. One about a session that isn't there says nothing.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Session(id, head) => match self.sessions.get_mut(&id) {
                Some(session) => session.head = head,
                None => drop(self.sessions.insert(id, KeptSession::new(head))),
            },
            Record::SessionGone(id) => drop(self.sessions.remove(&id)),
            Record::Ended(id, ended) => {
                self.ended.insert((ended.at, id), ended.user);
                self.forget_ended(ended.at);
            }
            Record::Leg(id, leg) => drop(self.legs.insert(id, leg)),
            Record::LegGone(id) => drop(self.legs.remove(&id)),
            Record::Device(id, name, device) => self.change(id, |s| drop(s.devices.insert(name, device))),
            Record::DeviceGone(id, name) => self.change(id, |s| drop(s.devices.remove(&name))),
            Record::Event(id, seq, event) => self.change(id, |s| drop(s.events.insert(seq, event))),
            Record::FirstEvent(id, first) => self.change(id, |s| {
                s.first_event = first;
                s.events = s.events.split_off(&first);
            }),
            Record::Answer(id, number, answer) => self.change(id, |s| drop(s.answers.insert(number, answer))),
            Record::FirstAnswer(id, first) => self.change(id, |s| s.answers = s.answers.split_off(&first)),
        }
    }

    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut KeptSession)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            change(session);
        }
    }

    /// Forgets the sessions whose end is too long ago at this time, and the oldest beyond the bound.
    pub fn forget_ended(&mut self, now: Millis) {
        while let Some(((at, _), _)) = self.ended.first_key_value()
            && (is_forgotten(*at, now) || self.ended.len() > MAX_ENDED)
        {
            self.ended.pop_first();
        }
    }
}

impl KeptSession {
    fn new(head: Head) -> Self {
        Self {
            head,
            first_event: 1,
            events: BTreeMap::new(),
            answers: BTreeMap::new(),
            devices: BTreeMap::new(),
        }
    }
}

impl Answer {
    pub(in crate::node) fn of(kept: &KeptAnswer) -> Self {
        let outcome = match &*kept.answer {
            Ok(result) => Outcome { result: Some(result.clone()), error: None },
            Err(error) => Outcome { result: None, error: Some(error.clone()) },
        };
        let outcome = serde_json::to_string(&outcome).expect("texts and numbers only");
        Self { idem: kept.idem.clone(), fingerprint: kept.fingerprint, outcome: outcome.into() }
    }

    /// The answer again; `None` of a text that is none.
    pub(in crate::node) fn read(&self) -> Option<KeptAnswer> {
        let answer = match serde_json::from_str(&self.outcome).ok()? {
            Outcome { result: Some(result), error: None } => Ok(result),
            Outcome { result: None, error: Some(error) } => Err(error),
            Outcome { .. } => return None,
        };
        Some(KeptAnswer { idem: self.idem.clone(), fingerprint: self.fingerprint, answer: Arc::new(answer) })
    }
}

/// Whether a session that ended then is no longer known.
#[must_use]
pub fn is_forgotten(ended: Millis, now: Millis) -> bool {
    Duration::from_millis(now.saturating_sub(ended)) >= REMEMBER_ENDED
}
