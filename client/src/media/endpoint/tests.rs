use super::*;
use crate::media::AudioCodec;
use crate::media::rtp::RtpPacket;
use crate::media::tone;
use std::net::Ipv4Addr;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TELEPHONE_EVENT: u8 = 101;

fn stream(to: SocketAddr, codec: AudioCodec) -> MediaStream {
    let payload_type = codec.static_payload_type();
    MediaStream { address: to, codec, payload_type, packet_ms: 20, dtmf_payload_type: Some(TELEPHONE_EVENT) }
}

async fn pair(codec: AudioCodec) -> (RtpEndpoint, RtpEndpoint) {
    let (a, b) = (
        RtpEndpoint::bind(LOOPBACK).await.expect("binds"),
        RtpEndpoint::bind(LOOPBACK).await.expect("binds"),
    );
    a.start(stream(b.local_addr(), codec)).await.expect("runs");
    b.start(stream(a.local_addr(), codec)).await.expect("runs");
    (a, b)
}

#[tokio::test]
async fn ports_are_even_and_rtcp_is_reserved() {
    let endpoint = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    let port = endpoint.local_addr().port();
    assert_eq!(port % 2, 0);
    let taken = UdpSocket::bind((LOOPBACK, port + 1)).await;
    assert_eq!(taken.map_err(|e| e.kind()).err(), Some(io::ErrorKind::AddrInUse));
}

#[tokio::test]
async fn each_hears_the_tone_of_the_other() {
    for codec in AudioCodec::ALL {
        let (a, b) = pair(codec).await;
        let (at_a, at_b) = (a.record().await, b.record().await);
        let (from_a, from_b) = (
            a.play(tone::sine(440.0, Duration::from_millis(600))).await,
            b.play(tone::sine(1_000.0, Duration::from_millis(600))).await,
        );
        assert_eq!((from_a.await, from_b.await), (PlayEnd::Finished, PlayEnd::Finished));
        // A digit after the tone: when it has come, the tone has been played out of the jitter buffer's sight, too.
        a.send_digits("1").await.expect("sent");
        b.send_digits("1").await.expect("sent");
        assert_eq!((a.next_digit().await, b.next_digit().await), (Some('1'), Some('1')));
        let (heard_a, heard_b) = (at_a.finish().await.expect("audio"), at_b.finish().await.expect("audio"));
        for (heard, wanted, other) in [(&heard_b, 440.0, 1_000.0), (&heard_a, 1_000.0, 440.0)] {
            let length = tone::heard(heard, wanted);
            assert!(length >= Duration::from_millis(500), "{codec:?}: {wanted} Hz heard for {length:?}");
            assert_eq!(tone::heard(heard, other), Duration::ZERO);
        }
    }
}

#[tokio::test]
async fn digits_cross_once_each_and_in_order() {
    let (a, b) = pair(AudioCodec::Pcmu).await;
    let (sent, collected) = tokio::join!(
        a.send_digits("12#"),
        b.collect(8, Duration::from_secs(10), Duration::from_secs(10), Some('#'))
    );
    sent.expect("sent");
    assert_eq!(collected, Collected { digits: "12".to_owned(), end: CollectEnd::Terminator });
    a.send_digits("77").await.expect("sent");
    let two = b.collect(2, Duration::from_secs(10), Duration::from_secs(10), None).await;
    assert_eq!(two, Collected { digits: "77".to_owned(), end: CollectEnd::Count });
    let none = b.collect(1, Duration::from_millis(1), Duration::ZERO, None).await;
    assert_eq!(none, Collected { digits: String::new(), end: CollectEnd::Timeout }, "and nothing more came");
}

#[tokio::test]
async fn digits_need_keys_and_a_telephone_event_stream() {
    let endpoint = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    assert_eq!(endpoint.send_digits("1").await, Err(SendDigitsError::NoTelephoneEvents), "no stream");
    let no_events =
        MediaStream { dtmf_payload_type: None, ..stream(endpoint.local_addr(), AudioCodec::Pcmu) };
    endpoint.start(no_events).await.expect("runs");
    assert_eq!(endpoint.send_digits("1").await, Err(SendDigitsError::NoTelephoneEvents));
    for wrong in ["", "x", "1 2", &"1".repeat(MAX_SENT_DIGITS + 1)] {
        assert_eq!(endpoint.send_digits(wrong).await, Err(SendDigitsError::NotDigits), "{wrong:?}");
    }
}

#[tokio::test]
async fn dropping_a_playing_stops_it_and_another_takes_its_place() {
    let (a, b) = pair(AudioCodec::Pcmu).await;
    let first = a.play(tone::sine(440.0, Duration::from_secs(60))).await;
    let second = a.play(tone::sine(440.0, Duration::from_secs(60))).await;
    assert_eq!(first.await, PlayEnd::Replaced);
    drop(second);
    let third = a.play(tone::sine(440.0, Duration::from_millis(40))).await;
    assert_eq!(third.await, PlayEnd::Finished, "the minute was not waited for");
    drop((a, b));
}

#[tokio::test]
async fn what_plays_waits_for_the_stream_and_ends_with_the_endpoint() {
    let endpoint = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    let playing = endpoint.play(tone::silence(Duration::from_millis(20))).await;
    assert_eq!(endpoint.stats().await.expect("runs").rtp.sent, 0);
    endpoint.start(stream(endpoint.local_addr(), AudioCodec::Pcmu)).await.expect("runs");
    assert_eq!(playing.await, PlayEnd::Finished);
    endpoint.stop().await.expect("runs");
    let playing = endpoint.play(tone::silence(Duration::from_secs(1))).await;
    let recording = endpoint.record().await;
    drop(endpoint);
    assert_eq!(playing.await, PlayEnd::Closed);
    assert_eq!(recording.finish().await, Err(EndpointClosed));
}

/// A digit that goes the same way behind the others tells when they have arrived.
async fn press(socket: &UdpSocket, to: SocketAddr, code: u8, timestamp: u32) {
    let mut bytes = Vec::new();
    let payload = [code, 0x8a, 0, 160];
    let packet = RtpPacket {
        marker: true,
        payload_type: TELEPHONE_EVENT,
        sequence: 1,
        timestamp,
        ssrc: 1,
        payload: &payload,
    };
    packet.write(&mut bytes);
    socket.send_to(&bytes, to).await.expect("sends");
}

#[tokio::test]
async fn strangers_and_noise_are_counted_and_left_out() {
    let endpoint = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    let far = UdpSocket::bind((LOOPBACK, 0)).await.expect("binds");
    let stranger = UdpSocket::bind((LOOPBACK, 0)).await.expect("binds");
    endpoint.start(stream(far.local_addr().expect("bound"), AudioCodec::Pcmu)).await.expect("runs");
    press(&stranger, endpoint.local_addr(), 6, 1).await;
    far.send_to(b"not RTP", endpoint.local_addr()).await.expect("sends");
    far.send_to(&[0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], endpoint.local_addr()).await.expect("sends");
    press(&far, endpoint.local_addr(), 7, 1).await;
    assert_eq!(endpoint.next_digit().await, Some('7'));
    let stats = endpoint.stats().await.expect("runs").rtp;
    assert_eq!((stats.strangers, stats.unreadable, stats.received), (1, 2, 1));
}

/// What a digit looks like on the wire: packets 20 ms apart, the last three with the end bit.
async fn dial(socket: &UdpSocket, to: SocketAddr, code: u8, sequence: u16, timestamp: u32) {
    for n in 0..6_u16 {
        let end = if n >= 3 { 0x80 } else { 0 };
        let payload = [code, end | 10, 0, u8::try_from(20 * (n + 1)).expect("short")];
        let (marker, sequence) = (n == 0, sequence + n);
        let packet = RtpPacket {
            marker,
            payload_type: TELEPHONE_EVENT,
            sequence,
            timestamp,
            ssrc: 5,
            payload: &payload,
        };
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        socket.send_to(&bytes, to).await.expect("sends");
    }
}

#[tokio::test]
async fn digits_of_a_phone_that_sends_from_elsewhere_are_heard_and_it_is_answered_there() {
    let endpoint = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    let (said, real) = (UdpSocket::bind((LOOPBACK, 0)), UdpSocket::bind((LOOPBACK, 0)));
    let (said, real) = (said.await.expect("binds"), real.await.expect("binds"));
    let stranger = UdpSocket::bind((LOOPBACK, 0)).await.expect("binds");
    endpoint.start(stream(said.local_addr().expect("bound"), AudioCodec::Pcmu)).await.expect("runs");
    dial(&real, endpoint.local_addr(), 4, 10, 1_000).await;
    assert_eq!(endpoint.next_digit().await, Some('4'), "the very first one");
    dial(&stranger, endpoint.local_addr(), 9, 10, 1_000).await;
    dial(&real, endpoint.local_addr(), 2, 16, 9_000).await;
    assert_eq!(endpoint.next_digit().await, Some('2'), "and not the stranger's");
    let stats = endpoint.stats().await.expect("runs").rtp;
    assert_eq!((stats.latched, stats.strangers), (1, 2 + 6));
    assert_eq!(endpoint.play(tone::silence(Duration::from_millis(20))).await.await, PlayEnd::Finished);
    let mut answer = [0; 200];
    let (_, from) = real.recv_from(&mut answer).await.expect("a packet");
    assert_eq!(from, endpoint.local_addr());
    // The address that was said sends, after all: it is right.
    press(&said, endpoint.local_addr(), 7, 1).await;
    assert_eq!(endpoint.next_digit().await, Some('7'));
    dial(&real, endpoint.local_addr(), 3, 30, 20_000).await;
    press(&said, endpoint.local_addr(), 8, 8_000).await;
    assert_eq!(endpoint.next_digit().await, Some('8'));
}

#[tokio::test]
async fn more_digits_than_the_queue_holds_are_counted() {
    let endpoint = RtpEndpoint::bind(LOOPBACK).await.expect("binds");
    let far = UdpSocket::bind((LOOPBACK, 0)).await.expect("binds");
    endpoint.start(stream(far.local_addr().expect("bound"), AudioCodec::Pcmu)).await.expect("runs");
    for n in 0..MAX_DIGITS as u32 + 10 {
        press(&far, endpoint.local_addr(), 1, n * 800).await;
    }
    while endpoint.stats().await.expect("runs").digits_dropped < 10 {
        tokio::task::yield_now().await;
    }
    assert!(!endpoint.push_digit('2'), "full");
    endpoint.flush_digits().await;
    assert!(endpoint.push_digit('2'));
    assert_eq!(endpoint.next_digit().await, Some('2'));
}

#[tokio::test]
async fn a_recording_becomes_a_file_and_a_file_is_played() {
    let folder = std::env::temp_dir().join(format!("ctimanager-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (prompt, heard) = (folder.join("prompt.wav"), folder.join("heard.wav"));
    wav::write(&prompt, &tone::sine(620.0, Duration::from_millis(400))).expect("writes");
    let (a, b) = pair(AudioCodec::Pcma).await;
    let recording = b.record().await;
    assert_eq!(a.play_file(&prompt).await.expect("reads").await, PlayEnd::Finished);
    a.send_digits("1").await.expect("sent");
    recording.save(&heard).await.expect("writes");
    let samples = wav::read(&heard).expect("reads");
    assert!(tone::heard(&samples, 620.0) >= Duration::from_millis(300));
    std::fs::remove_dir_all(&folder).expect("removes");
}
