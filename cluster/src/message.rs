//! What nodes say to each other: JSON with a version; what a later version adds passes unread.

use crate::framing::{MAX_MESSAGE_BYTES, framed};
use device_model::NodeName;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The version that this node writes. A later one may add fields and kinds of messages; it never changes the meaning of one.
pub const VERSION: u32 = 1;
/// Lives that a heartbeat may tell of.
pub const MAX_HEARD: usize = 1_024;
/// Bytes of a revision.
const MAX_REVISION_BYTES: usize = 128;

/// One process of a node, from its start to its end. Of two the one that started later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// When it was started, by its own clock: milliseconds since the epoch.
    pub started_ms: u64,
    /// A random number: two processes with one state, or none, are told apart by it.
    pub life: u64,
    /// How often the node was started.
    pub incarnation: u32,
}

/// What a node does, by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It takes calls and applications.
    Running,
    /// It takes no new ones.
    Draining,
    /// It ends what it has.
    Stopping,
    /// What only a later version knows: it is up.
    #[default]
    #[serde(other)]
    Other,
}

/// What a life says of itself, and others say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What it does.
    #[serde(default)]
    pub mode: Mode,
    /// It has listened for a while and heard of no other life of its name.
    #[serde(default)]
    pub settled: bool,
    /// It hears of another life of its name.
    #[serde(default)]
    pub duplicate: bool,
    /// Of its configuration.
    #[serde(default)]
    pub revision: Arc<str>,
}

/// That a node is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose it is.
    pub node: NodeName,
    /// Of which process.
    #[serde(flatten)]
    pub life: Life,
    /// Its count; each is greater than the one before.
    pub seq: u64,
    /// What it says of itself.
    #[serde(flatten)]
    pub facts: Facts,
    /// What it knows of the others.
    #[serde(default)]
    pub heard: Vec<Heard>,
}

/// What a node knows of a life of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Whose.
    pub node: NodeName,
    /// Which.
    #[serde(flatten)]
    pub life: Life,
    /// The greatest count that it knows of it, by whatever way; 0 without.
    pub seq: u64,
    /// The greatest that it has heard from it directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<u64>,
    /// What that life says of itself.
    #[serde(flatten)]
    pub facts: Facts,
}

/// Why a message is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No JSON, or not of this form.
    #[error("no message of ours: {0}")]
    Form(String),
    /// Version 0, or none.
    #[error("a message without a version")]
    Version,
    /// Longer or with more in it than any node says.
    #[error("a message that says too much")]
    Size,
}

/// What is read first: it tells how to read the rest.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    v: u32,
    #[serde(default)]
    r#type: String,
}

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    r#type: &'static str,
    #[serde(flatten)]
    heartbeat: &'a Heartbeat,
}

/// Reads a message; `None` is a kind that only a later version knows.
///
/// # Errors
/// When it is none of ours.
pub fn read(bytes: &[u8]) -> Result<Option<Heartbeat>, MessageError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::Size);
    }
    let form = |error: serde_json::Error| MessageError::Form(error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(form)?;
    if head.v == 0 {
        return Err(MessageError::Version);
    }
    if head.r#type != "heartbeat" {
        return Ok(None);
    }
    let heartbeat: Heartbeat = serde_json::from_slice(bytes).map_err(form)?;
    let revisions = heartbeat.heard.iter().map(|heard| &heard.facts.revision);
    let too_long = |revision: &Arc<str>| revision.len() > MAX_REVISION_BYTES;
    if heartbeat.heard.len() > MAX_HEARD || revisions.chain([&heartbeat.facts.revision]).any(too_long) {
        return Err(MessageError::Size);
    }
    Ok(Some(heartbeat))
}

/// Writes a heartbeat as it goes on the wire; `None` if it says more than a message may.
#[must_use]
pub fn write(heartbeat: &Heartbeat) -> Option<Vec<u8>> {
    let written = Written { v: VERSION, r#type: "heartbeat", heartbeat };
    framed(&serde_json::to_vec(&written).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Heartbeat {
        let life = |incarnation| Life { started_ms: 1_700_000_000_000, life: u64::MAX, incarnation };
        let facts = |mode| Facts { mode, settled: true, duplicate: false, revision: "a1b2".into() };
        let heard = |node: &str, direct| Heard {
            node: node.into(),
            life: life(2),
            seq: 7,
            direct,
            facts: facts(Mode::Running),
        };
        Heartbeat {
            node: "cm1".into(),
            life: life(3),
            seq: 12,
            facts: facts(Mode::Draining),
            heard: vec![heard("cm2", Some(6)), heard("cm3", None)],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let wire = write(&heartbeat()).expect("short");
        assert_eq!(read(&wire[4..]), Ok(Some(heartbeat())));
        insta::assert_snapshot!(String::from_utf8_lossy(&wire[4..]));
    }

    #[test]
    fn what_a_later_version_adds_passes() {
        let later = r#"{"v":9,"type":"heartbeat","node":"cm1","started_ms":1,"life":2,"incarnation":3,"seq":4,
            "mode":"hibernating","load":0.5,"heard":[{"node":"cm2","started_ms":1,"life":2,"incarnation":1,"seq":1,"by":{}}]}"#;
        let read_it = read(later.as_bytes()).expect("a message").expect("a heartbeat");
        assert_eq!((read_it.facts.mode, read_it.seq, read_it.heard.len()), (Mode::Other, 4, 1));
        assert_eq!(read(br#"{"v":2,"type":"claim","device":"RP_MAIN"}"#), Ok(None), "a kind of its own");
    }

    #[test]
    fn what_is_none_of_ours_is_refused() {
        for text in ["", "{", "null", r#"{"v":1,"type":"heartbeat"}"#, r#"{"v":-1}"#, "\u{0}"] {
            assert!(matches!(read(text.as_bytes()), Err(MessageError::Form(_))), "{text}");
        }
        for text in ["[]", r#"{"type":"heartbeat"}"#] {
            assert_eq!(read(text.as_bytes()), Err(MessageError::Version), "{text}");
        }
        let mut many = heartbeat();
        many.heard = vec![many.heard[0].clone(); MAX_HEARD + 1];
        let text =
            serde_json::to_vec(&Written { v: 1, r#type: "heartbeat", heartbeat: &many }).expect("JSON");
        assert_eq!(read(&text), Err(MessageError::Size));
        let mut long = heartbeat();
        long.heard[1].facts.revision = "r".repeat(MAX_REVISION_BYTES + 1).into();
        let text =
            serde_json::to_vec(&Written { v: 1, r#type: "heartbeat", heartbeat: &long }).expect("JSON");
        assert_eq!(read(&text), Err(MessageError::Size));
    }
}
