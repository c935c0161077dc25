//! A node that says anything to another: it is cut into messages, read, and heard by a membership.

use ::cluster::framing::{MAX_MESSAGE_BYTES, framed};
use ::cluster::message::{Facts, Heard, read, write};
use ::cluster::{Frames, Heartbeat, Input, Life, LinkId, Membership, Mode, Output, Own};
use std::time::{Duration, Instant, SystemTime};

const LINK: LinkId = LinkId(1);

/// A stream as it comes from a link, in pieces that the first byte sizes.
#[allow(clippy::disallowed_methods, reason = "any moment will do: only the time since then is looked at")]
pub(super) fn cluster(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let mut now = Instant::now();
    let wall = SystemTime::UNIX_EPOCH;
    let own = Own { node: "cm1".into(), life: life(1), revision: "r".into() };
    let mut membership =
        Membership::new(own, vec!["cm2".into(), "cm3".into()], Duration::from_secs(1), now, wall);
    let mut out = Vec::new();
    membership.handle(now, wall, Input::Opened { link: LINK, node: "cm2".into() }, &mut out);
    let mut frames = Frames::default();
    for piece in stream.chunks(usize::from(*size).max(1)) {
        frames.push(piece);
        loop {
            let message = match frames.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // The link ends with it.
                Err(_) => return,
            };
            assert!(message.len() <= MAX_MESSAGE_BYTES);
            let Ok(Some(heartbeat)) = read(message) else { continue };
            let again = write(&heartbeat).expect("what was read is short enough to be said");
            assert_eq!(
                read(&again[4..]),
                Ok(Some(heartbeat.clone())),
                "what is read can be written and read again"
            );
            now += Duration::from_millis(50);
            membership.handle(now, wall, Input::Received(LINK, Box::new(heartbeat)), &mut out);
        }
    }
    // It goes on, and what it says is short enough.
    for _ in 0..30 {
        now = now.max(membership.next_timeout());
        membership.handle(now, wall, Input::Timeout, &mut out);
    }
    assert_eq!(membership.others().count(), 2, "nobody comes to be one of the file");
    for output in out {
        if let Output::Send(_, heartbeat) = output {
            assert!(write(&heartbeat).is_some(), "{} lives are too many", heartbeat.heard.len());
        }
    }
}

fn life(incarnation: u32) -> Life {
    Life { started_ms: 1, life: u64::from(incarnation), incarnation }
}

/// Heartbeats that answer those of the node, tell of others and of itself, and pieces of none.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let facts = || Facts { mode: Mode::Running, settled: true, duplicate: false, revision: "r".into() };
    let heard = |node: &str, incarnation, seq| Heard {
        node: node.into(),
        life: life(incarnation),
        seq,
        direct: Some(seq),
        facts: facts(),
    };
    let heartbeat = |seq| Heartbeat {
        node: "cm2".into(),
        life: life(2),
        seq,
        facts: facts(),
        heard: vec![heard("cm1", 1, 1), heard("cm1", 9, seq), heard("cm3", 3, seq), heard("cm4", 3, seq)],
    };
    let one = |seq| write(&heartbeat(seq)).expect("short");
    let many: Vec<u8> = (1..6).flat_map(one).collect();
    let later = framed(br#"{"v":2,"type":"claim","device":"RP_MAIN"}"#).expect("short");
    let streams = [one(1), many, [later, one(2)].concat(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 4]];
    streams
        .into_iter()
        .flat_map(|stream| [[&[255], &stream[..]].concat(), [&[7], &stream[..]].concat()])
        .collect()
}
