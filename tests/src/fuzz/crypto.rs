//! Keys of encrypted media: `a=crypto` lines of an offer and of an answer, between peers of every setting.

use sip::port::Sdp;
use sip::sdp::{Describer, Keys, LineFaults, MediaPolicy, crypto};
use std::net::{IpAddr, Ipv4Addr};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const ALL: [Keys; 4] = [Keys::Never, Keys::Optional, Keys::Required, Keys::Impossible];

fn describer(keys: Keys) -> Describer {
    let policy = MediaPolicy { peer: "P".into(), keys, over_tls: keys != Keys::Never };
    Describer::new(77, OWN).with_policy(policy)
}

fn description(proto: &str, lines: &str) -> Vec<u8> {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let mut text = format!("{head}m=audio 4000 {proto} 0\r\n");
    lines.lines().for_each(|line| text.push_str(&format!("a=crypto:{line}\r\n")));
    text.into_bytes()
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text).into_owned();
    text.lines().filter(|line| line.starts_with("a=crypto")).map(str::to_owned).collect()
}

/// The lines of an offer, a line of `---`, and those of the answer.
pub(super) fn crypto(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    text.lines().for_each(one_line);
    let (offered, answered) = text.split_once("\n---\n").unwrap_or((&text, &text));
    for proto in ["RTP/AVP", "RTP/SAVP"] {
        for caller in ALL {
            offer_of(caller, &description(proto, offered), &description(proto, answered));
        }
    }
}

fn one_line(value: &str) {
    let Ok(read) = crypto::read_line(value) else { return };
    let (key, salt) = read.key.suite.lengths();
    assert_eq!((read.key.key.len(), read.key.salt.len()), (key, salt), "{value}");
    assert!(
        read.tag <= 999_999_999 && read.key.lifetime.is_none_or(|packets| (1..=1 << 48).contains(&packets))
    );
    assert!(read.key.mki.as_ref().is_none_or(|mki| (1..=128).contains(&mki.len())));
    assert!(!format!("{read:?}").contains("inline"), "a key is printed");
}

fn offer_of(caller: Keys, offer: &[u8], answer: &[u8]) {
    let mut faults = LineFaults::default();
    let Ok(read) = describer(caller).read_offer(offer, &mut faults) else { return };
    let passed = lines(&read.text);
    assert!(caller != Keys::Never || passed.is_empty(), "keys are taken by a way that is open");
    assert!(passed.len() <= 16 && passed.len() == read.audio[0].crypto.len());
    let came = lines(offer);
    assert!(passed.iter().all(|line| came.contains(line)), "lines pass as they are");
    for callee in ALL {
        let mut there = describer(callee);
        let Ok(told) = there.offer(&Sdp::Relay(read.text.clone(), None)) else { continue };
        let told = lines(&told);
        assert_eq!(
            told.is_empty(),
            callee == Keys::Never || passed.is_empty(),
            "who has keys is offered them"
        );
        let Ok(answer) = there.read_answer(answer, &mut faults) else { continue };
        let chosen = &answer.audio[0].crypto;
        assert!(chosen.len() <= 1 && chosen.len() <= told.len(), "an answer to what was offered");
        let Ok(back) = describer(caller).answer(&Sdp::Relay(answer.text.clone(), None), &read.text) else {
            assert!(caller == Keys::Required || chosen.is_empty(), "a good answer passes");
            continue;
        };
        assert_eq!(lines(&back).len(), chosen.len(), "the answer's key passes");
    }
}

/// Inputs that get far.
pub(super) fn samples() -> Vec<Vec<u8>> {
    const K30: &str = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    const K28: &str = "inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYg==";
    const K44: &str = "inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXI=";
    let of = |offer: String, answer: String| format!("{offer}\n---\n{answer}\n").into_bytes();
    let one = format!("1 AES_CM_128_HMAC_SHA1_80 {K30}");
    vec![
        of(one.clone(), one.clone()),
        of(
            format!("1 AEAD_AES_256_GCM {K44}\n2 AEAD_AES_128_GCM {K28}"),
            format!("2 AEAD_AES_128_GCM {K28}"),
        ),
        of(format!("{one}|2^20|1:4 WSH=64"), format!("{one}|65536")),
        of(format!("{one}|1:1;{K30}|2:1"), format!("1 AES_CM_128_HMAC_SHA1_32 {K30}")),
        of(format!("{one} UNENCRYPTED_SRTP"), format!("{one} KDR=1")),
        of(format!("{one}\n{one}\n123456789 AES_CM_128_HMAC_SHA1_32 {K30}"), "x".into()),
    ]
}
