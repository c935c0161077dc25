// A test needs some instant to count from.
#![allow(clippy::disallowed_methods)]

use super::*;
use proptest::prelude::*;

const FRAME: usize = 160;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A packet whose samples say which it is.
fn samples(n: u32) -> Vec<i16> {
    vec![n as i16 + 1; FRAME]
}

struct Line {
    start: Instant,
    buffer: JitterBuffer,
}

impl Line {
    fn new() -> Self {
        Self { start: Instant::now(), buffer: JitterBuffer::new() }
    }
    fn push(&mut self, at_ms: u64, n: u32) {
        self.buffer.push(self.start + ms(at_ms), n.wrapping_mul(FRAME as u32), samples(n));
    }
    /// The packet that is heard, `Some(0)` for made-up silence.
    fn pull(&mut self, at_ms: u64) -> Option<i16> {
        let frame = self.buffer.pull(self.start + ms(at_ms), FRAME)?;
        assert_eq!(frame.len(), FRAME);
        Some(frame[0])
    }
}

#[test]
fn nothing_is_played_before_the_delay_has_passed() {
    let mut line = Line::new();
    assert_eq!(line.pull(0), None);
    line.push(0, 0);
    assert_eq!(line.pull(10), None);
    assert_eq!(line.pull(20), Some(1));
}

#[test]
fn order_is_restored_and_doubles_are_absorbed() {
    let mut line = Line::new();
    for n in [0, 2, 1, 1, 3] {
        line.push(0, n);
    }
    let played: Vec<_> = (0..4).map(|n| line.pull(200 + n * 20)).collect();
    assert_eq!(played, [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(line.buffer.stats().duplicate, 1);
    assert_eq!(line.buffer.stats().concealed_samples, 0);
}

#[test]
fn a_packet_before_the_first_one_still_finds_its_place() {
    let mut line = Line::new();
    line.push(0, 1);
    line.push(1, 0);
    assert_eq!([line.pull(200), line.pull(220)], [Some(1), Some(2)]);
}

#[test]
fn a_loss_is_an_echo_and_then_silence_and_the_time_line_holds() {
    let mut line = Line::new();
    line.buffer.push(line.start, 0, vec![1_000; FRAME]);
    line.push(1, 3);
    let played: Vec<_> = (0..4).map(|n| line.pull(200 + n * 20)).collect();
    assert_eq!(played, [Some(1_000), Some(500), Some(0), Some(4)]);
    assert_eq!(line.buffer.stats().concealed_samples, 2 * FRAME as u64);
}

#[test]
fn what_comes_after_its_time_is_counted_and_left_out() {
    let mut line = Line::new();
    line.push(0, 0);
    line.push(0, 2);
    assert_eq!([line.pull(200), line.pull(220).map(|_| 0)], [Some(1), Some(0)]);
    line.push(230, 1);
    assert_eq!(line.buffer.stats().late, 1);
    assert_eq!(line.pull(240), Some(3));
}

#[test]
fn a_pause_ends_the_playing_and_the_next_packet_starts_it_anew() {
    let mut line = Line::new();
    line.push(0, 0);
    assert_eq!(line.pull(20), Some(1));
    let made_up = (1..10).map_while(|n| line.pull(20 + n * 20)).count();
    assert_eq!(made_up, 3, "60 ms are bridged");
    line.push(1_000, 50);
    assert_eq!(line.pull(1_005), None);
    assert_eq!(line.pull(1_200), Some(51));
}

#[test]
fn a_wrap_of_the_timestamp_is_no_jump() {
    let mut line = Line::new();
    let first = u32::MAX - 79;
    line.buffer.push(line.start, first, samples(0));
    line.buffer.push(line.start, first.wrapping_add(160), samples(1));
    assert_eq!([line.pull(200), line.pull(220)], [Some(1), Some(2)]);
    assert_eq!(line.buffer.stats().resets, 0);
}

#[test]
fn another_time_line_begins_anew() {
    let mut line = Line::new();
    line.push(0, 0);
    assert_eq!(line.pull(20), Some(1));
    line.push(40, 1_000_000);
    assert_eq!(line.buffer.stats().resets, 1);
    assert_eq!(line.pull(240), Some(samples(1_000_000)[0]));
}

#[test]
fn jitter_makes_the_delay_grow_and_calm_makes_it_shrink() {
    let mut line = Line::new();
    for n in 0..50 {
        line.push(u64::from(n) * 20 + if n % 2 == 0 { 0 } else { 15 }, n);
        line.pull(u64::from(n) * 20);
    }
    let rough = line.buffer.delay();
    assert!(rough > ms(40), "{rough:?}");
    for n in 50..200 {
        line.push(u64::from(n) * 20, n);
        line.pull(u64::from(n) * 20);
    }
    assert!(line.buffer.delay() < ms(25), "{:?}", line.buffer.delay());
}

#[test]
fn a_backlog_is_worked_off() {
    let mut line = Line::new();
    for n in 0..20 {
        line.push(0, n);
    }
    for n in 0..800 {
        line.push(300 + u64::from(n) * 20, 20 + n);
        line.pull(300 + u64::from(n) * 20);
    }
    assert!(line.buffer.held_samples < 8 * FRAME as u64, "{} samples held", line.buffer.held_samples);
}

#[test]
fn a_flood_holds_a_second_at_most() {
    let mut line = Line::new();
    for n in 0..500 {
        line.push(0, n);
    }
    assert!(line.buffer.held_samples <= MAX_HELD_SAMPLES);
    assert_eq!(line.buffer.stats().overflow, 450);
    for n in 0..1_000 {
        line.buffer.push(line.start, 80_000 + n * 2, vec![1; 1]);
    }
    assert!(line.buffer.packets.len() <= MAX_HELD_PACKETS);
}

proptest! {
    #[test]
    fn any_stream_is_survived_within_bounds(
        steps in proptest::collection::vec((0u64..100, any::<u32>(), 0usize..600, any::<bool>()), 0..200)
    ) {
        let mut buffer = JitterBuffer::new();
        let (mut now, mut timestamp) = (Instant::now(), 0u32);
        for (wait, value, len, near) in steps {
            now += ms(wait);
            timestamp = if near { timestamp.wrapping_add(value % 1_000).wrapping_sub(300) } else { value };
            buffer.push(now, timestamp, vec![7; len]);
            let held: u64 = buffer.packets.values().map(|p| p.len() as u64).sum();
            prop_assert_eq!(held, buffer.held_samples);
            prop_assert!(held <= MAX_HELD_SAMPLES && buffer.packets.len() <= MAX_HELD_PACKETS);
            if let Some(frame) = buffer.pull(now, 160) {
                prop_assert_eq!(frame.len(), 160);
            }
        }
    }

    /// Packets that arrive within the delay are all heard, each once and in order.
    #[test]
    fn nothing_is_lost_within_the_delay(late in proptest::collection::vec(0u64..18, 10..60)) {
        let mut line = Line::new();
        let mut arrivals: Vec<_> =
            late.iter().enumerate().map(|(n, late)| (n as u64 * 20 + late, n as u32)).collect();
        arrivals.sort_unstable();
        let first = arrivals[0].0;
        let (mut arrivals, mut played) = (arrivals.into_iter().peekable(), Vec::new());
        for tick in 0..late.len() as u64 + 30 {
            let now = first + tick * 20;
            while let Some((at, n)) = arrivals.next_if(|(at, _)| *at <= now) {
                line.push(at, n);
            }
            played.extend(line.pull(now).filter(|_| line.buffer.stats().concealed_samples == 0));
        }
        let expected: Vec<_> = (1..=late.len() as i16).collect();
        prop_assert_eq!(played, expected);
    }
}
