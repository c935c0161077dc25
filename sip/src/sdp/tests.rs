use super::*;
use crate::port::{Audio, MediaDirection, PayloadFormat, Sdp};
use proptest::prelude::*;

const BARESIP: &str = "v=0\r\no=- 1620 9 IN IP4 10.77.0.2\r\ns=-\r\nc=IN IP4 10.77.0.2\r\nt=0 0\r\na=tool:baresip 1.0.0\r\n\
m=audio 19012 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\na=sendrecv\r\na=label:1\r\na=ptime:30\r\n";

fn text(lines: &[&str]) -> Vec<u8> {
    let mut all = String::from("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n");
    for line in lines {
        all.push_str(line);
        all.push_str("\r\n");
    }
    all.into_bytes()
}

fn pcmu() -> Audio {
    Audio {
        address: "192.0.2.9:4000".parse().unwrap(),
        formats: vec![PayloadFormat { payload_type: 0, name: "PCMU".into(), clock_rate: 8000, channels: 1 }],
        dtmf_payload_type: Some(101),
        direction: MediaDirection::SendReceive,
        packet_ms: 20,
        encrypted: false,
    }
}

fn describer() -> Describer {
    Describer::new(4 * 77, "198.51.100.1".parse().unwrap())
}

fn written(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap()
}

#[test]
fn a_phones_offer_is_read() {
    let audio = read(BARESIP.as_bytes()).unwrap().audio;
    assert_eq!(audio.address, "10.77.0.2:19012".parse().unwrap());
    let names: Vec<_> = audio.formats.iter().map(|f| (f.payload_type, f.name.as_str())).collect();
    assert_eq!(names, [(0, "PCMU"), (8, "PCMA")]);
    assert_eq!(audio.dtmf_payload_type, Some(101));
    assert_eq!(audio.packet_ms, 30);
    assert!(audio.encrypted);
}

#[test]
fn static_payload_types_need_no_rtpmap() {
    let audio = read(&text(&["c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/AVP 18 9 96"])).unwrap().audio;
    let names: Vec<_> = audio.formats.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["G729", "G722"]);
    assert_eq!((audio.packet_ms, audio.encrypted), (20, false));
}

#[test]
fn directions_stand_on_the_session_and_on_the_media() {
    let direction = |session: &str, media: &str, c: &str| {
        let lines = [c, "t=0 0", session, "m=audio 4000 RTP/AVP 0", media];
        read(&text(&lines)).unwrap().audio.direction
    };
    let here = "c=IN IP4 192.0.2.1";
    assert_eq!(direction("a=sendonly", "a=x", here), MediaDirection::SendOnly);
    assert_eq!(direction("a=sendonly", "a=recvonly", here), MediaDirection::ReceiveOnly);
    assert_eq!(direction("a=x", "a=x", here), MediaDirection::SendReceive);
    assert_eq!(direction("a=x", "a=sendrecv", "c=IN IP4 0.0.0.0"), MediaDirection::Inactive);
}

#[test]
fn the_first_live_audio_counts_and_refused_audio_needs_no_address() {
    let lines = ["t=0 0", "m=video 5000 RTP/AVP 99", "c=IN IP4 192.0.2.3", "m=audio 0 RTP/AVP 8"];
    let read_one = read(&text(&lines)).unwrap().audio;
    assert_eq!((read_one.address.port(), read_one.formats[0].payload_type), (0, 8));
    let mut lines = lines.to_vec();
    lines.extend(["m=audio 6000 RTP/SAVP 0", "c=IN IP6 2001:db8::1"]);
    let read_two = read(&text(&lines)).unwrap().audio;
    assert_eq!(read_two.address, "[2001:db8::1]:6000".parse().unwrap());
    assert!(read_two.encrypted);
}

#[test]
fn what_webrtc_sdp_would_refuse_is_read() {
    // No t=, a fax line, an attribute without a value, a broken rtpmap, Latin-1 in the session name.
    let mut bytes =
        b"v=0\no=- 99999999999999999999 1 IN IP4 192.0.2.1\ns=B\xfcro\nc=IN IP4 192.0.2.1\n".to_vec();
    bytes.extend(
        b"m=audio 4000 RTP/AVP 0 97\na=rtpmap:97\na=ptime:\nm=image 0 udptl t38\na=T38FaxVersion:0\n",
    );
    let audio = read(&bytes).unwrap().audio;
    assert_eq!((audio.formats.len(), audio.packet_ms), (1, 20));
}

#[test]
fn what_is_no_description_is_refused() {
    assert_eq!(read(b"hello"), Err(SdpError::Malformed));
    assert_eq!(read(&vec![b'a'; MAX_LEN + 1]), Err(SdpError::TooLong));
    assert_eq!(read(&text(&["t=0 0", "m=audio 4000 RTP/AVP 0"])), Err(SdpError::Address));
    let named = text(&["c=IN IP4 phone.example.org", "t=0 0", "m=audio 4000 RTP/AVP 0"]);
    assert_eq!(read(&named), Err(SdpError::Address));
    let many: Vec<&str> = std::iter::repeat_n("m=audio 0 RTP/AVP 0", MAX_MEDIA + 1).collect();
    assert_eq!(read(&text(&many)), Err(SdpError::TooLong));
    assert_eq!(read(&text(&["t=0 0"])).unwrap().audio.address.port(), 0);
}

#[test]
fn a_relayed_offer_keeps_all_but_the_origin() {
    let mut describer = describer();
    let relay = |direction| Sdp::Relay(BARESIP.as_bytes().into(), direction);
    let first = written(&describer.offer(&relay(None)).unwrap());
    assert!(
        first.starts_with("v=0\r\no=- 77 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 10.77.0.2\r\n"),
        "{first}"
    );
    assert_eq!(first.split("m=").nth(1), BARESIP.split("m=").nth(1));
    assert_eq!(written(&describer.offer(&relay(None)).unwrap()), first, "no change, no new version");
    let held = written(&describer.offer(&relay(Some(MediaDirection::SendOnly))).unwrap());
    assert!(
        held.contains("o=- 77 2 IN") && held.contains("a=sendonly\r\n") && !held.contains("sendrecv"),
        "{held}"
    );
    assert!(held.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n"));
}

#[test]
fn a_later_offer_keeps_the_number_of_media_lines() {
    let mut describer = describer();
    let two =
        text(&["c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 99", "a=x"]);
    describer.offer(&Sdp::Relay(two.into(), None)).unwrap();
    let local = written(&describer.offer(&Sdp::Local(pcmu())).unwrap());
    assert!(local.ends_with("a=sendrecv\r\nm=video 0 RTP/AVP 99\r\n"), "{local}");
}

#[test]
fn an_answer_has_the_offers_media_lines() {
    let offer = text(&[
        "c=IN IP4 192.0.2.1",
        "t=0 0",
        "m=image 4004 udptl t38",
        "m=audio 4000 RTP/AVP 0",
        "m=video 4002 RTP/AVP 99",
    ]);
    let local = written(&describer().answer(&Sdp::Local(pcmu()), &offer).unwrap());
    let lines: Vec<_> = local.lines().filter(|l| l.starts_with("m=")).collect();
    assert_eq!(lines, ["m=image 0 udptl t38", "m=audio 4000 RTP/AVP 0 101", "m=video 0 RTP/AVP 99"]);
    assert!(
        local.contains("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n"),
        "{local}"
    );
    let relayed = written(&describer().answer(&Sdp::Relay(BARESIP.as_bytes().into(), None), &offer).unwrap());
    let lines: Vec<_> = relayed.lines().filter(|l| l.starts_with("m=")).collect();
    assert_eq!(lines, ["m=image 0 udptl t38", "m=audio 19012 RTP/AVP 0 8 101", "m=video 0 RTP/AVP 99"]);
}

#[test]
fn an_answer_stays_within_the_offered_directions() {
    for (offered, expected) in [
        ("sendonly", "recvonly"),
        ("recvonly", "sendonly"),
        ("inactive", "inactive"),
        ("sendrecv", "sendrecv"),
    ] {
        let direction = format!("a={offered}");
        let offer = text(&["c=IN IP4 192.0.2.1", "t=0 0", &direction, "m=audio 4000 RTP/AVP 0"]);
        for answer in [Sdp::Local(pcmu()), Sdp::Relay(BARESIP.as_bytes().into(), None)] {
            let written = read(&describer().answer(&answer, &offer).unwrap()).unwrap().audio.direction;
            let expected =
                text(&["c=IN IP4 192.0.2.1", "t=0 0", &format!("a={expected}"), "m=audio 1 RTP/AVP 0"]);
            assert_eq!(written, read(&expected).unwrap().audio.direction, "{offered}");
        }
    }
}

#[test]
fn an_answer_without_keys_to_secure_audio_is_an_error() {
    let offer = text(&["c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/SAVP 0"]);
    assert_eq!(describer().answer(&Sdp::Local(pcmu()), &offer), Err(SdpError::Secure));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_mangled_phones_offer_never_breaks_reading_or_writing(
        cuts in proptest::collection::vec((0..BARESIP.len(), any::<u8>()), 0..6),
    ) {
        let mut bytes = BARESIP.as_bytes().to_vec();
        for (at, byte) in cuts {
            bytes[at] = byte;
        }
        if read(&bytes).is_ok() {
            let relay = Sdp::Relay(bytes.clone().into(), Some(MediaDirection::Inactive));
            let text = describer().offer(&relay).unwrap();
            prop_assert!(read(&text).is_ok());
            prop_assert!(describer().answer(&relay, &bytes).is_ok());
        }
    }
}
