// A test needs some instant to count from.
#![allow(clippy::disallowed_methods)]

use super::*;

const START: [u8; 10] = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0x00, 0xff, 0xff];

fn far() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4_000))
}

/// A session under virtual time, with what it sent: milliseconds, marker, payload type, sequence, timestamp.
struct Bench {
    start: Instant,
    session: RtpSession,
    told: Vec<SessionEvent>,
    sent: Vec<(u64, bool, u8, u16, u32)>,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let mut session = RtpSession::new(START, start);
        let stream = MediaStream {
            address: far(),
            codec: AudioCodec::Pcmu,
            payload_type: 0,
            packet_ms: 20,
            dtmf_payload_type: Some(101),
        };
        session.set_output(start, Some(stream));
        session.set_input(Some(stream));
        Self { start, session, told: Vec::new(), sent: Vec::new() }
    }

    fn play(&mut self, at_ms: u64, length_ms: usize) {
        let samples = vec![100; length_ms * SAMPLES_PER_MS].into();
        self.session.play(self.start + Duration::from_millis(at_ms), samples);
    }

    /// Wakes the session at this time, as late as that may be.
    fn wake(&mut self, at_ms: u64) {
        let now = self.start + Duration::from_millis(at_ms);
        let mut packets = Vec::new();
        self.session.tick(now, |packet: &[u8], to: SocketAddr| {
            assert_eq!(to, far());
            packets.push(packet.to_vec());
            true
        });
        self.told.extend(self.session.take_events());
        self.sent.extend(packets.iter().map(|bytes| {
            let p = RtpPacket::parse(bytes).expect("our own packet");
            (at_ms, p.marker, p.payload_type, p.sequence, p.timestamp)
        }));
    }

    /// Wakes the session whenever it wants, up to this time.
    fn run(&mut self, until_ms: u64) {
        while let Some(due) = self.session.next_tick() {
            let at_ms = due.duration_since(self.start).as_millis() as u64;
            if at_ms > until_ms {
                return;
            }
            self.wake(at_ms);
        }
    }

    fn timestamps(&self) -> Vec<u32> {
        self.sent.iter().map(|s| s.4.wrapping_sub(0xffff_ff00)).collect()
    }
}

#[test]
fn packets_leave_at_an_absolute_pace_with_wrapping_numbers() {
    let mut bench = Bench::new();
    bench.play(5, 50);
    bench.run(1_000);
    let times: Vec<_> = bench.sent.iter().map(|s| s.0).collect();
    assert_eq!(times, [5, 25, 45]);
    assert_eq!(bench.timestamps(), [40, 200, 360]);
    let sequences: Vec<_> = bench.sent.iter().map(|s| s.3).collect();
    assert_eq!(sequences, [0xffff, 0, 1]);
    let markers: Vec<_> = bench.sent.iter().map(|s| s.1).collect();
    assert_eq!(markers, [true, false, false]);
    assert_eq!(bench.told, [SessionEvent::Played]);
    assert_eq!(bench.session.next_tick(), None, "an idle session does not tick");
}

#[test]
fn what_follows_at_once_keeps_the_rhythm_and_what_follows_later_is_a_new_spurt() {
    let mut bench = Bench::new();
    bench.play(0, 20);
    bench.run(0);
    bench.play(3, 20);
    bench.run(100);
    bench.play(203, 20);
    bench.run(300);
    let seen: Vec<_> = bench.sent.iter().map(|s| (s.0, s.1)).collect();
    assert_eq!(seen, [(0, true), (20, false), (203, true)]);
    assert_eq!(bench.timestamps(), [0, 160, 203 * 8], "the clock runs through the pause");
}

#[test]
fn a_short_delay_is_caught_up_and_a_long_one_is_not() {
    let mut bench = Bench::new();
    bench.play(0, 2_000);
    bench.wake(0);
    bench.wake(65);
    assert_eq!(bench.sent.len(), 4, "20, 40 and 60 are sent at 65");
    assert_eq!(bench.timestamps(), [0, 160, 320, 480]);
    bench.wake(1_000);
    let late = bench.sent.len() - 4;
    assert!(late <= 2, "{late} packets at once after a second");
    bench.run(1_020);
    assert_eq!(bench.timestamps().last(), Some(&(1_020 * 8)));
}

#[test]
fn digits_interrupt_the_playing_with_one_timestamp_each() {
    let mut bench = Bench::new();
    bench.play(0, 40);
    let digits = ['1', '2'].map(|c| Digit::from_char(c).expect("a key")).to_vec();
    assert_eq!(bench.session.send_digits(bench.start, digits), Ok(()));
    bench.run(2_000);
    let types: Vec<_> = bench.sent.iter().map(|s| s.2).collect();
    assert_eq!(types, [[101; 8], [101; 8]].concat().into_iter().chain([0, 0]).collect::<Vec<_>>());
    let timestamps = bench.timestamps();
    assert!(timestamps[..8].iter().all(|t| *t == timestamps[0]));
    assert!(timestamps[8..16].iter().all(|t| *t == timestamps[8] && t != &timestamps[0]));
    let gap = bench.sent[8].0 - bench.sent[7].0;
    assert!((80..=120).contains(&gap), "{gap} ms between two keys");
    assert_eq!(bench.told, [SessionEvent::DigitsSent(true), SessionEvent::Played]);
}

#[test]
fn a_stop_ends_digits_and_keeps_the_playing() {
    let mut bench = Bench::new();
    bench.play(0, 40);
    let digit = Digit::from_char('1').expect("a key");
    assert_eq!(bench.session.send_digits(bench.start, vec![digit]), Ok(()));
    bench.session.set_output(bench.start + Duration::from_millis(10), None);
    bench.run(100);
    assert!(bench.session.take_events().eq([SessionEvent::DigitsSent(false)]));
    assert_eq!((bench.sent.len(), bench.session.next_tick()), (0, None));
    assert_eq!(bench.session.send_digits(bench.start, vec![digit]), Err(NoTelephoneEvents));
}

#[test]
fn the_far_end_is_learnt_from_the_first_packet_when_nobody_told() {
    let mut bench = Bench::new();
    let input = bench.session.input.as_ref().map(|input| input.stream);
    bench.session.set_output(bench.start, None);
    bench.session.set_input(None);
    bench.session.set_input(input);
    let mut bytes = Vec::new();
    RtpPacket { marker: true, payload_type: 0, sequence: 1, timestamp: 1, ssrc: 9, payload: &[0xff; 160] }
        .write(&mut bytes);
    let other = SocketAddr::from(([192, 0, 2, 7], 4_000));
    bench.session.packet(bench.start, other, b"noise");
    assert!(!bench.session.far.is_heard(), "noise teaches nothing");
    bench.session.packet(bench.start, other, &bytes);
    bench.session.packet(bench.start, far(), &bytes);
    assert!(bench.session.far.knows(other) && !bench.session.far.knows(far()));
    assert_eq!((bench.session.stats().received, bench.session.stats().strangers), (1, 1));
}

#[test]
fn a_recording_keeps_what_came_and_ends_at_its_limit() {
    let mut bench = Bench::new();
    bench.session.record(bench.start);
    let mut bytes = Vec::new();
    RtpPacket { marker: true, payload_type: 0, sequence: 1, timestamp: 1, ssrc: 9, payload: &[0x80; 160] }
        .write(&mut bytes);
    bench.session.packet(bench.start, far(), &bytes);
    bench.run(2_000);
    let heard = bench.session.finish_recording(bench.start).expect("it runs");
    assert_eq!(heard.iter().filter(|sample| **sample != 0).count(), 160 + 160, "the packet, and its echo");
    bench.session.record(bench.start + Duration::from_secs(3));
    bench.run(3_000 + MAX_RECORDING.as_millis() as u64 + 1_000);
    let [SessionEvent::Recorded(all)] = &bench.told[..] else { panic!("{:?}", bench.told) };
    assert_eq!(all.len(), MAX_RECORDING.as_millis() as usize * SAMPLES_PER_MS);
    assert_eq!(bench.session.next_tick(), None);
}
