// A test needs some instant to count from.
#![allow(clippy::disallowed_methods)]

use super::*;
use proptest::prelude::*;

fn digit(c: char) -> Digit {
    Digit::from_char(c).expect("a key")
}

fn pressed(told: impl IntoIterator<Item = Option<KeyEvent>>) -> String {
    told.into_iter()
        .flatten()
        .filter_map(|event| match event {
            KeyEvent::Pressed(digit) => Some(digit.as_char()),
            KeyEvent::Released { .. } => None,
        })
        .collect()
}

#[test]
fn an_event_is_a_marker_growing_durations_and_three_ends() {
    let packets: Vec<_> = EventSender::new(digit('5'), 100, 20).collect();
    let durations: Vec<_> =
        packets.iter().map(|p| u16::from_be_bytes([p.payload[2], p.payload[3]])).collect();
    assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800, 800]);
    let ends: Vec<_> = packets.iter().map(|p| p.payload[1] >> 7).collect();
    assert_eq!(ends, [0, 0, 0, 0, 0, 1, 1, 1]);
    assert!(packets.iter().all(|p| p.payload[0] == 5 && p.payload[1] & 0x3f == VOLUME));
    let markers: Vec<_> = packets.iter().map(|p| p.marker).collect();
    assert_eq!(markers.iter().position(|m| *m), Some(0));
    assert_eq!(markers.iter().filter(|m| **m).count(), 1);
}

#[test]
fn durations_are_brought_into_what_detectors_and_sixteen_bits_allow() {
    assert_eq!(EventSender::new(digit('1'), 0, 20).duration_ms(), 40);
    assert_eq!(EventSender::new(digit('1'), u32::MAX, 20).duration_ms(), 8_000);
    let last = EventSender::new(digit('1'), u32::MAX, 20).last().expect("packets");
    assert_eq!(u16::from_be_bytes([last.payload[2], last.payload[3]]), 64_000);
}

#[test]
fn every_key_has_its_own_event() {
    for (code, key) in "0123456789*#ABCD".chars().enumerate() {
        assert_eq!(digit(key), Digit::from_event(code as u8).expect("a key"));
        assert_eq!(digit(key).as_char(), key);
    }
    assert_eq!(digit('b'), digit('B'));
    assert_eq!(Digit::from_char('x'), None);
    assert_eq!(Digit::from_char('é'), None);
    assert_eq!(Digit::from_event(16), None);
}

#[test]
fn a_key_held_is_told_once_and_released_with_its_length() {
    let mut receiver = EventReceiver::new();
    let now = Instant::now();
    let told: Vec<_> = EventSender::new(digit('7'), 120, 20)
        .flat_map(|p| receiver.receive(now, 4_000, &p.payload))
        .flatten()
        .collect();
    assert_eq!(
        told,
        [KeyEvent::Pressed(digit('7')), KeyEvent::Released { digit: digit('7'), duration_ms: 120 }]
    );
    assert_eq!(receiver.next_timeout(), None);
}

#[test]
fn the_end_alone_is_a_key_too() {
    let mut receiver = EventReceiver::new();
    let end = EventSender::new(digit('9'), 100, 20).last().expect("packets");
    assert_eq!(pressed(receiver.receive(Instant::now(), 1, &end.payload)), "9");
    assert_eq!(receiver.receive(Instant::now(), 1, &end.payload), [None, None], "the second end");
}

#[test]
fn an_event_without_its_end_ends_by_time() {
    let mut receiver = EventReceiver::new();
    let start = Instant::now();
    let first = EventSender::new(digit('3'), 100, 20).next().expect("a packet");
    assert_eq!(pressed(receiver.receive(start, 1, &first.payload)), "3");
    assert_eq!(receiver.timeout(start + LOST_END - Duration::from_millis(1)), None);
    assert_eq!(receiver.next_timeout(), Some(start + LOST_END));
    let released = KeyEvent::Released { digit: digit('3'), duration_ms: 20 };
    assert_eq!(receiver.timeout(start + LOST_END), Some(released));
    assert_eq!(receiver.receive(start + LOST_END, 1, &first.payload), [None, None], "its packet comes late");
}

#[test]
fn the_same_key_twice_is_two_keys() {
    let mut receiver = EventReceiver::new();
    let first = EventSender::new(digit('1'), 60, 20).next().expect("a packet");
    let told = receiver.receive(Instant::now(), 100, &first.payload);
    assert_eq!(told, [None, Some(KeyEvent::Pressed(digit('1')))]);
    let told = receiver.receive(Instant::now(), 2_000, &first.payload);
    let released = KeyEvent::Released { digit: digit('1'), duration_ms: 20 };
    assert_eq!(told, [Some(released), Some(KeyEvent::Pressed(digit('1')))], "the end of the first was lost");
}

#[test]
fn a_key_held_beyond_sixteen_bits_is_one_key() {
    let mut receiver = EventReceiver::new();
    let now = Instant::now();
    assert_eq!(pressed(receiver.receive(now, 10, &[4, VOLUME, 0xff, 0xff])), "4");
    assert_eq!(receiver.receive(now, 10 + 0xffff, &[4, VOLUME, 0, 160]), [None, None]);
    let told = receiver.receive(now, 10 + 0xffff, &[4, 0x80 | VOLUME, 3, 0x20]);
    assert_eq!(told[1], Some(KeyEvent::Released { digit: digit('4'), duration_ms: 8_191 + 100 }));
}

proptest! {
    /// Lost, doubled and swapped packets: as long as one of a key's packets arrives, the key is told once.
    #[test]
    fn each_key_once_whatever_the_network_does(keys in "[0-9*#]{1,8}",
                                               fates in proptest::collection::vec(0u8..3, 80),
                                               swaps in proptest::collection::vec(any::<bool>(), 80)) {
        let (mut packets, mut fates) = (Vec::new(), fates.into_iter().cycle());
        for (n, key) in keys.chars().enumerate() {
            let all: Vec<_> = EventSender::new(digit(key), 100, 20).map(|p| (n as u32 * 1_600, p.payload)).collect();
            packets.push(all[2]);
            for packet in all {
                packets.extend(std::iter::repeat_n(packet, usize::from(fates.next().unwrap_or(1))));
            }
        }
        let mut n = 0;
        while n + 1 < packets.len() {
            if swaps[n % swaps.len()] && packets[n].0 == packets[n + 1].0 {
                packets.swap(n, n + 1);
            }
            n += 1;
        }
        let mut receiver = EventReceiver::new();
        let now = Instant::now();
        let told = pressed(packets.iter().flat_map(|(at, payload)| receiver.receive(now, *at, payload)));
        prop_assert_eq!(told, keys);
    }

    #[test]
    fn any_payload_is_survived(stream in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 0..8)), 0..50)) {
        let mut receiver = EventReceiver::new();
        let now = Instant::now();
        for (timestamp, payload) in stream {
            for event in receiver.receive(now, timestamp, &payload).into_iter().flatten() {
                let (KeyEvent::Pressed(digit) | KeyEvent::Released { digit, .. }) = event;
                prop_assert!(KEYS.contains(&(digit.as_char() as u8)));
            }
        }
        receiver.timeout(now + LOST_END);
        prop_assert_eq!(receiver.next_timeout(), None);
    }
}
