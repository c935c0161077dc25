use super::*;
use crate::port::{Audio, MediaDirection, PayloadFormat, Profile, Sdp};
use proptest::prelude::*;

const BARESIP: &str = "v=0\r\no=- 1620 9 IN IP4 10.77.0.2\r\ns=-\r\nc=IN IP4 10.77.0.2\r\nt=0 0\r\na=tool:baresip 1.0.0\r\n\
m=audio 19012 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\na=sendrecv\r\na=label:1\r\na=ptime:30\r\n";

fn text(lines: &[&str]) -> Vec<u8> {
    let mut all = String::from("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n");
    for line in lines {
        all.push_str(line);
        all.push_str("\r\n");
    }
    all.into_bytes()
}

fn first_audio(text: &[u8]) -> Audio {
    read(text).unwrap().first_audio().unwrap().clone()
}

fn pcmu() -> Audio {
    at_line(0)
}

fn at_line(line: usize) -> Audio {
    Audio {
        line,
        profile: Profile::Plain,
        address: "192.0.2.9:4000".parse().unwrap(),
        formats: vec![PayloadFormat { payload_type: 0, name: "PCMU".into(), clock_rate: 8000, channels: 1 }],
        dtmf_payload_type: Some(101),
        direction: MediaDirection::SendReceive,
        packet_ms: 20,
        crypto: Vec::new(),
    }
}

/// Of a phone that has keys.
fn describer() -> Describer {
    let policy = MediaPolicy { peer: "P".into(), keys: Keys::Optional, over_tls: true };
    Describer::new(4 * 77, "198.51.100.1".parse().unwrap()).with_policy(policy)
}

const CRYPTO: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

fn written(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap()
}

#[test]
fn a_phones_offer_is_read() {
    let audio = first_audio(BARESIP.as_bytes());
    assert_eq!(audio.address, "10.77.0.2:19012".parse().unwrap());
    let names: Vec<_> = audio.formats.iter().map(|f| (f.payload_type, f.name.as_str())).collect();
    assert_eq!(names, [(0, "PCMU"), (8, "PCMA")]);
    assert_eq!(audio.dtmf_payload_type, Some(101));
    assert_eq!(audio.packet_ms, 30);
    assert_eq!(audio.crypto.len(), 1);
}

#[test]
fn static_payload_types_need_no_rtpmap() {
    let audio = first_audio(&text(&["c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/AVP 18 9 96"]));
    let names: Vec<_> = audio.formats.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["G729", "G722"]);
    assert_eq!((audio.packet_ms, audio.crypto), (20, vec![]));
}

#[test]
fn directions_stand_on_the_session_and_on_the_media() {
    let direction = |session: &str, media: &str, c: &str| {
        let lines = [c, "t=0 0", session, "m=audio 4000 RTP/AVP 0", media];
        first_audio(&text(&lines)).direction
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
    let read_one = first_audio(&text(&lines));
    assert_eq!((read_one.address.port(), read_one.formats[0].payload_type), (0, 8));
    let mut lines = lines.to_vec();
    lines.extend(["m=audio 6000 RTP/SAVP 0", "c=IN IP6 2001:db8::1", CRYPTO]);
    let read_two = first_audio(&text(&lines));
    assert_eq!(read_two.address, "[2001:db8::1]:6000".parse().unwrap());
    assert_eq!(read_two.crypto.len(), 1);
}

#[test]
fn what_webrtc_sdp_would_refuse_is_read() {
    // No t=, a fax line, an attribute without a value, a broken rtpmap, Latin-1 in the session name.
    let mut bytes =
        b"v=0\no=- 99999999999999999999 1 IN IP4 192.0.2.1\ns=B\xfcro\nc=IN IP4 192.0.2.1\n".to_vec();
    bytes.extend(
        b"m=audio 4000 RTP/AVP 0 97\na=rtpmap:97\na=ptime:\nm=image 0 udptl t38\na=T38FaxVersion:0\n",
    );
    let audio = first_audio(&bytes);
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
    let silent = read(&text(&["t=0 0", "m=image 4000 udptl t38"])).unwrap();
    assert!(silent.audio.is_empty() && silent.other_media);
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
    assert!(
        held.contains(
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
        )
    );
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
    let local = written(&describer().answer(&Sdp::Local(at_line(1)), &offer).unwrap());
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
            let written = first_audio(&describer().answer(&answer, &offer).unwrap()).direction;
            let expected =
                text(&["c=IN IP4 192.0.2.1", "t=0 0", &format!("a={expected}"), "m=audio 1 RTP/AVP 0"]);
            assert_eq!(written, first_audio(&expected).direction, "{offered}");
        }
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    written(text).lines().filter(|l| l.starts_with("m=")).map(str::to_owned).collect()
}

const TWO_PROFILES: &[&str] = &[
    "c=IN IP4 192.0.2.1",
    "t=0 0",
    "m=audio 30000 RTP/SAVP 0",
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
    "m=audio 30002 RTP/AVP 0",
];

#[test]
fn an_answer_takes_the_line_that_it_is_told_and_refuses_each_other_in_its_place() {
    let offer = text(TWO_PROFILES);
    let profiles: Vec<_> = read(&offer).unwrap().audio.iter().map(|a| (a.line, a.profile)).collect();
    assert_eq!(profiles, [(0, Profile::Secure), (1, Profile::Plain)]);
    let mut describer = describer();
    let answer = describer.answer(&Sdp::Local(at_line(1)), &offer).unwrap();
    assert_eq!(lines(&answer), ["m=audio 0 RTP/SAVP 0", "m=audio 4000 RTP/AVP 0 101"]);
    let held = Audio { direction: MediaDirection::Inactive, ..at_line(1) };
    let held = describer.offer(&Sdp::Local(held)).unwrap();
    assert_eq!(lines(&held), ["m=audio 0 RTP/SAVP 0", "m=audio 4000 RTP/AVP 0 101"], "the same places");
    for line in [0, 2] {
        assert_eq!(describer.answer(&Sdp::Local(at_line(line)), &offer), Err(SdpError::Line), "{line}");
    }
}

#[test]
fn a_profile_is_read_whatever_its_case() {
    for (proto, profile) in [
        ("rtp/avp", Profile::Plain),
        ("RTP/AVPF", Profile::Plain),
        ("RTP/SAVPF", Profile::Secure),
        ("UDP/TLS/RTP/SAVPF", Profile::Dtls),
        ("TCP/RTP/AVP", Profile::Other),
    ] {
        let line = format!("m=audio 4000 {proto} 0");
        let lines = ["c=IN IP4 192.0.2.1", "t=0 0", &line, CRYPTO];
        assert_eq!(first_audio(&text(&lines)).profile, profile, "{proto}");
    }
}

#[test]
fn every_line_of_an_offer_can_be_refused() {
    let offer = text(TWO_PROFILES);
    let refusal = describer().refusal(&offer).unwrap();
    assert_eq!(lines(&refusal), ["m=audio 0 RTP/SAVP 0", "m=audio 0 RTP/AVP 0"]);
    assert_eq!(describer().refusal(b"hello"), Err(SdpError::Malformed));
}

#[test]
fn a_relayed_offer_keeps_the_places_of_what_was_described_before() {
    let mut describer = describer();
    let before = text(&["c=IN IP4 192.0.2.1", "t=0 0", "m=video 5000 RTP/AVP 99", "m=audio 4000 RTP/AVP 0"]);
    describer.offer(&Sdp::Relay(before.into(), None)).unwrap();
    let relay = |medias: &[&str]| {
        let mut all = vec!["c=IN IP4 192.0.2.1", "t=0 0"];
        all.extend(medias);
        Sdp::Relay(text(&all).into(), None)
    };
    let audio = describer.offer(&relay(&["m=audio 6000 RTP/AVP 8"])).unwrap();
    assert_eq!(lines(&audio), ["m=video 0 RTP/AVP 99", "m=audio 6000 RTP/AVP 8"]);
    let fax = describer.offer(&relay(&["m=audio 0 RTP/AVP 8", "m=image 6002 udptl t38"])).unwrap();
    assert_eq!(lines(&fax), ["m=video 0 RTP/AVP 99", "m=audio 0 RTP/AVP 8", "m=image 6002 udptl t38"]);
    let secure = describer.offer(&relay(&["m=audio 6000 RTP/SAVP 8", CRYPTO])).unwrap();
    assert_eq!(
        lines(&secure),
        ["m=video 0 RTP/AVP 99", "m=audio 6000 RTP/SAVP 8", "m=image 0 udptl t38"],
        "a place may change its transport"
    );
}

#[test]
fn an_answer_is_put_where_its_transport_was_offered() {
    let offer = text(TWO_PROFILES);
    let plain = text(&["c=IN IP4 192.0.2.5", "t=0 0", "m=audio 6000 RTP/AVP 0"]);
    let answer = describer().answer(&Sdp::Relay(plain.into(), None), &offer).unwrap();
    assert_eq!(lines(&answer), ["m=audio 0 RTP/SAVP 0", "m=audio 6000 RTP/AVP 0"]);
    let feedback = text(&["c=IN IP4 192.0.2.5", "t=0 0", "m=audio 0 RTP/SAVP 0", "m=audio 6000 RTP/AVPF 0"]);
    let answer = describer().answer(&Sdp::Relay(feedback.into(), None), &offer).unwrap();
    assert_eq!(lines(&answer), ["m=audio 0 RTP/SAVP 0", "m=audio 6000 RTP/AVP 0"]);
}

#[test]
fn an_origin_that_nobody_can_read_is_no_reason_to_refuse() {
    for origin in ["o=- 1 1", "o=- 1 1 IN IP4", "o=-", "o=", "o=- 1 99999999999999999999999 IN IP4 h x"] {
        let text =
            format!("v=0\r\n{origin}\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(first_audio(text.as_bytes()).address.port(), 4000, "{origin}");
        let relayed = describer().offer(&Sdp::Relay(text.into_bytes().into(), None)).unwrap();
        assert!(written(&relayed).contains("o=- 77 1 IN IP4 198.51.100.1\r\n"), "{origin}");
    }
}

#[test]
fn a_line_at_a_named_host_is_left_out_where_another_can_be_read() {
    let lines = [
        "t=0 0",
        "m=audio 4000 RTP/AVP 0",
        "c=IN IP4 phone.example.org",
        "m=audio 4002 RTP/AVP 0",
        "c=IN IP4 192.0.2.1",
    ];
    assert_eq!(read(&text(&lines)).unwrap().audio.iter().map(|a| a.line).collect::<Vec<_>>(), [1]);
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
