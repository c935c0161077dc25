//! The messages between CallManager and CTIManager: requests to the one, answers and events to the other. Each is a value of its
//! own in an envelope with its sender and a number, by which the receiver finds out that one is missing.

use super::port::{Report, Severity};
use device_model::media::MediaTermination;
use device_model::port::{Event, Limit};
use device_model::{
    DeviceView, Identity, News, NodeName, OwnerEpoch, Refusal, Reply, Request, RequestToken, SessionId,
    WholeLeg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// A message with its place among all that its sender has sent this way.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Envelope<T> {
    /// The sender's node.
    pub(super) node: NodeName,
    /// Which life of it.
    pub(super) incarnation: u32,
    /// One more than the message before.
    pub(super) number: u64,
    /// When it was sent; written as nanoseconds since 1970.
    #[serde(with = "nanoseconds")]
    pub(super) at: SystemTime,
    pub(super) what: T,
}

/// What CallManager is asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// A request at a device, or at a leg of one.
    Request {
        /// Who asks.
        session: SessionId,
        /// Comes back with the answer.
        token: RequestToken,
        /// Who owned the device by what was told of it last.
        owner: OwnerEpoch,
        request: Request,
    },
    /// All devices that are open with all that is there: something that was told is missing. Comes back with it.
    Whole { round: u64 },
}

/// Whether more messages of the same whole follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    More,
    Last,
}

/// An open device with all that is there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WholeDevice {
    pub(super) device: DeviceView,
    /// Who has it open.
    pub(super) openers: Arc<[SessionId]>,
    /// How its media ends; `None` at a phone.
    pub(super) media: Option<Arc<MediaTermination>>,
    pub(super) legs: Vec<WholeLeg>,
}

/// What CallManager tells.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "most of what is told are events")]
pub(super) enum Told {
    /// The one answer to an [`Ask`]; it stands before the events that the request caused.
    Answer { session: SessionId, token: RequestToken, result: Result<Reply, Refusal> },
    /// Something happened that these sessions hear of.
    Event { sessions: Arc<[SessionId]>, event: Event },
    /// The same of a leg that is hidden from them: for the mirror of its device.
    Hidden(Event),
    /// A soft limit was passed or is kept again.
    Limit(Limit),
    /// What became of a device, or which devices a session has open no more.
    Directory(News),
    /// Some of the devices that are open, by [`Ask::Whole`].
    Whole { round: u64, devices: Vec<WholeDevice>, place: Place },
}

/// How messages pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Passage {
    /// As values, within one process.
    #[default]
    Moved,
    /// Written as JSON and read again, as between nodes: for tests and simulations.
    Written,
}

impl Passage {
    /// The message as it arrives. What is lost on the way is a mistake of the program.
    pub(super) fn pass<T>(self, envelope: Envelope<T>) -> Envelope<T>
    where
        T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
    {
        if self == Passage::Moved {
            return envelope;
        }
        let text = serde_json::to_string(&envelope).expect("every message can be written");
        let read = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert_eq!(envelope, read, "written and read again");
        read
    }
}

mod nanoseconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::{Duration, SystemTime};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        serializer.serialize_u64(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::deserialize(deserializer)?))
    }
}

/// Puts messages into envelopes.
#[derive(Debug)]
pub(super) struct Sender {
    node: NodeName,
    incarnation: u32,
    last: u64,
}

impl Sender {
    pub(super) fn new(identity: &Identity) -> Self {
        Self { node: identity.node.clone(), incarnation: identity.incarnation, last: 0 }
    }

    pub(super) fn send<T>(&mut self, at: SystemTime, what: T) -> Envelope<T> {
        self.last += 1;
        Envelope { node: self.node.clone(), incarnation: self.incarnation, number: self.last, at, what }
    }
}

/// Takes messages of one sender, and finds what is missing between them.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    incarnation: u32,
    last: u64,
}

/// Messages that never came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) node: NodeName,
    /// The last one that came before.
    pub(super) after: u64,
    /// The one that came now.
    pub(super) number: u64,
}

impl Receiver {
    /// The message, and what is missing before it. Another life of the sender begins anew.
    pub(super) fn take<T>(&mut self, envelope: Envelope<T>) -> (T, Option<Gap>) {
        let Envelope { node, incarnation, number, at: _, what } = envelope;
        if self.incarnation != incarnation {
            *self = Self { incarnation, last: 0 };
        }
        let after = std::mem::replace(&mut self.last, number);
        let gap = (number != after + 1).then_some(Gap { node, after, number });
        (what, gap)
    }
}

impl Gap {
    pub(super) fn report(&self) -> Report {
        let parameters = vec![
            ("from", self.node.to_string()),
            ("after", self.after.to_string()),
            ("number", self.number.to_string()),
        ];
        Report { name: "MessagesLost", severity: Severity::Warning, parameters }
    }
}

#[cfg(test)]
mod tests;
