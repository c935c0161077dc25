//! What an earlier life left: whatever its files say, the node starts, is whole, and in the end nothing of it is left.

use super::food::{Food, steps};
use super::node::{WALL, World};
use ctimanager::io::{read_journal, write_journal};
use ctimanager::node::Input;
use ctimanager::node::kept::{Answer, Ended, Head, Kept, KeptDevice, KeptLeg, Record};
use ctimanager::node::registrations::{Registration, RegistrationNews};
use device_model::{LegId, SessionId};
use protocol::event::Received;
use protocol::rpc::Incoming;
use std::time::{Duration, SystemTime};

/// The journal of registrations: `!` and its bytes, or its lines without their checksums. Then somebody calls them.
pub(super) fn registrations(data: &[u8]) {
    let bytes = match data.split_first() {
        Some((b'!', bytes)) => bytes.to_vec(),
        _ => write_journal(String::from_utf8_lossy(data).lines()).into_bytes(),
    };
    let Ok(kept) = read_journal(&bytes) else { return };
    let line = |(id, bound): (&u64, &Registration)| serde_json::json!({"id": id, "bound": bound}).to_string();
    let lines: Vec<String> = kept.iter().map(line).collect();
    let again = write_journal(lines.iter().map(String::as_str));
    assert_eq!(
        read_journal(again.as_bytes()).as_ref(),
        Ok(&kept),
        "what is read can be written and read again"
    );

    let mut world = World::new();
    world.restore(Input::Registrations(RegistrationNews::Restored(kept.into_iter().collect(), None)));
    for number in ["1001", "1003"] {
        let call = format!(
            "INVITE sip:{number}@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.99:5070;branch=z9hG4bK{number}\r\n\
             From: <sip:2001@h>;tag=1\r\nTo: <sip:{number}@10.0.0.1>\r\nCall-ID: {number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:10.0.0.99:5070>\r\nContent-Length: 0\r\n\r\n"
        );
        world.step(b'T', call.as_bytes());
    }
    world.end();
}

/// The records of the sessions; then their applications come back.
///
/// Steps: `S` a session, `E` an event of its log, `D` a device of its, `A` an answer of its, `F` where its log begins, `L` a
/// leg, `G` a session that has ended, `T` when the node lived last; after `|` those of [`super::node`].
pub(super) fn sessions(data: &[u8]) {
    let mut kept = Kept { alive: WALL * 1_000, ..Kept::default() };
    let mut steps = steps(data).take(64);
    for (letter, rest) in steps.by_ref().take_while(|(letter, _)| *letter != b'|') {
        let mut food = Food(rest);
        let id = SessionId(food.byte().into());
        if letter == b'T' {
            kept.alive = (WALL * 1_000).saturating_add_signed(far(&mut food));
        } else if let Some(record) = record(letter, id, &mut food) {
            kept.apply(record);
        }
    }
    let mut world = World::new();
    world.restore(Input::Restored(Box::new(kept), None));
    steps.for_each(|(letter, rest)| world.step(letter, rest));
    world.end();
}

fn record(letter: u8, id: SessionId, food: &mut Food<'_>) -> Option<Record> {
    Some(match letter {
        b'S' => Record::Session(id, serde_json::from_slice::<Head>(food.0).ok()?),
        b'E' => {
            let seq = food.byte().into();
            let Ok(Incoming::Event(params)) = Incoming::parse(food.0) else { return None };
            let Ok(Received::Event { event, .. }) = Received::parse(&params) else { return None };
            Record::Event(id, seq, event.encode(&"cm1".into(), SystemTime::UNIX_EPOCH))
        }
        b'D' => {
            let device: KeptDevice = serde_json::from_slice(food.0).ok()?;
            Record::Device(id, device.device.name.clone(), device)
        }
        b'A' => {
            let number = food.byte().into();
            let idem = food.text().into();
            let outcome = String::from_utf8_lossy(food.0).into();
            Record::Answer(id, number, Answer { idem, fingerprint: 7, outcome })
        }
        b'F' => Record::FirstEvent(id, food.byte().into()),
        b'L' => Record::Leg(LegId(id.0), serde_json::from_slice::<KeptLeg>(food.0).ok()?),
        b'G' => {
            let at = (WALL * 1_000).saturating_add_signed(far(food));
            Record::Ended(id, Ended { user: food.text().into(), at })
        }
        _ => return None,
    })
}

/// Some time before or after, milliseconds.
fn far(food: &mut Food<'_>) -> i64 {
    let unit = Duration::from_secs(60 * u64::from(food.byte())).as_millis() as i64;
    if food.byte().is_multiple_of(2) { -unit } else { unit }
}
