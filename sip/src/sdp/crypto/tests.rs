use super::*;
use crate::port::Sdp;
use crate::sdp::{Describer, MediaPolicy};
use proptest::prelude::*;

const K30: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const K28: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYg==";
const K44: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXI=";

fn line(rest: &str) -> String {
    format!("1 AES_CM_128_HMAC_SHA1_80 inline:{K30}{rest}")
}

#[test]
fn what_rfc_4568_and_7714_allow_is_read() {
    for (suite, key) in [
        ("AES_CM_128_HMAC_SHA1_80", K30),
        ("AES_CM_128_HMAC_SHA1_32", K30),
        ("AEAD_AES_128_GCM", K28),
        ("AEAD_AES_256_GCM", K44),
        ("AEAD_AES_256_GCM", K44.trim_end_matches('=')),
    ] {
        let read = read_line(&format!("7 {suite} inline:{key}")).unwrap();
        assert_eq!((read.tag, read.key.suite.name()), (7, suite));
        let (key, salt) = read.key.suite.lengths();
        assert_eq!((read.key.key.len(), read.key.salt.len()), (key, salt));
        assert_eq!((read.key.lifetime, read.key.mki.clone()), (None, None));
    }
    let whole = read_line(&line("|2^20|1:4 WSH=64")).unwrap();
    assert_eq!((whole.key.lifetime, whole.key.mki.clone()), (Some(1 << 20), Some(vec![0, 0, 0, 1])));
    assert_eq!(read_line(&line("|65536")).unwrap().key.lifetime, Some(65_536));
    assert_eq!(read_line(&line("|66051:3")).unwrap().key.mki, Some(vec![1, 2, 3]));
    assert_eq!(read_line(&line("|0:128")).unwrap().key.mki, Some(vec![0; 128]));
    let two = line(&format!("|1:1;inline:{K30}|2:1"));
    assert_eq!(read_line(&two).unwrap().key.mki, Some(vec![1]), "of several the first");
    assert!(read_line(&line("|2^48")).is_ok() && read_line(&line("|2^0")).is_ok());
}

#[test]
fn what_is_wrong_with_a_line_is_said() {
    use LineFault as F;
    let other = |value: &str| value.to_owned();
    for (value, fault) in [
        (other(""), F::Tag),
        (other(" 1 AES_CM_128_HMAC_SHA1_80"), F::Tag),
        (other("x AES_CM_128_HMAC_SHA1_80"), F::Tag),
        (other("+1 AES_CM_128_HMAC_SHA1_80"), F::Tag),
        (format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{K30}"), F::Tag),
        (other("1"), F::Suite),
        (format!("1 F8_128_HMAC_SHA1_80 inline:{K30}"), F::Suite),
        (other("1 AES_CM_128_HMAC_SHA1_80"), F::KeyMethod),
        (format!("1 AES_CM_128_HMAC_SHA1_80 uri:{K30}"), F::KeyMethod),
        (other("1 AES_CM_128_HMAC_SHA1_80 inline"), F::KeyMethod),
        (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{K30};"), F::KeyMethod),
        (other("1 AES_CM_128_HMAC_SHA1_80 inline:"), F::Base64),
        (format!("1 AES_CM_128_HMAC_SHA1_80 inline:*{}", &K30[1..]), F::Base64),
        (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{K30}="), F::Base64),
        (format!("1 AEAD_AES_128_GCM inline:{}", K28.replace("Yg==", "Yh==")), F::Base64),
        (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{K28}"), F::Length),
        (format!("1 AEAD_AES_256_GCM inline:{K30}"), F::Length),
        (line("|0"), F::Lifetime),
        (line("|2^49"), F::Lifetime),
        (line("|2^99999999999"), F::Lifetime),
        (line("|281474976710657"), F::Lifetime),
        (line("|"), F::Lifetime),
        (line("|1:0"), F::Mki),
        (line("|1:129"), F::Mki),
        (line("|256:1"), F::Mki),
        (line("|1:1|2:1"), F::Mki),
        (line("|2^20|1:1|x"), F::Mki),
        (line(&format!(";inline:{K30}")), F::Mki),
        (line(&format!("|1:1;inline:{K30}|1:1")), F::Mki),
        (line(&format!("|1:1;inline:{K30}|1:2")), F::Mki),
        (line(" UNENCRYPTED_SRTP"), F::Parameter),
        (line(" UNENCRYPTED_SRTCP"), F::Parameter),
        (line(" UNAUTHENTICATED_SRTP"), F::Parameter),
        (line(" KDR=1"), F::Parameter),
        (line(" FEC_ORDER=SRTP_FEC"), F::Parameter),
        (line(" WSH=x"), F::Parameter),
    ] {
        assert_eq!(read_line(&value).map(|read| read.tag), Err(fault), "{value}");
    }
}

fn text(medias: &[&str]) -> Vec<u8> {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let mut all = head.to_owned();
    medias.iter().for_each(|line| all.push_str(&format!("{line}\r\n")));
    all.into_bytes()
}

fn of(keys: Keys) -> Describer {
    let policy = MediaPolicy { peer: "P".into(), keys, over_tls: true };
    Describer::new(77, "198.51.100.1".parse().unwrap()).with_policy(policy)
}

fn written(text: Result<Arc<[u8]>, SdpError>) -> String {
    match text {
        Ok(text) => {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let told = |line: &&str| line.starts_with("m=") || line.starts_with("a=crypto");
            text.lines().filter(told).collect::<Vec<_>>().join(" / ")
        }
        Err(error) => format!("{error:?}"),
    }
}

/// What an offer of the caller becomes at the callee, and what the callee's answer becomes at the caller.
#[test]
fn the_table_of_the_contract() {
    let plain = "m=audio 4000 RTP/AVP 0";
    let secure = "m=audio 4000 RTP/SAVP 0";
    let (one, two) =
        (format!("a=crypto:{}", line("")), format!("a=crypto:{}", line("").replacen('1', "2", 1)));
    let mut table = String::new();
    for (caller, offer) in [
        (Keys::Never, vec![plain, &one]),
        (Keys::Never, vec![secure, &one]),
        (Keys::Optional, vec![plain]),
        (Keys::Optional, vec![plain, &one, &two]),
        (Keys::Optional, vec![secure, &one, &two]),
        (Keys::Optional, vec![secure, "a=crypto:1 UNKNOWN inline:x"]),
        (Keys::Required, vec![plain]),
        (Keys::Required, vec![plain, &one, &two]),
        (Keys::Required, vec![secure, &one]),
        (Keys::Impossible, vec![secure, &one]),
    ] {
        let shown = offer.join(" / ").replace(K30, "KEY");
        table.push_str(&format!("{caller:?} offers {shown}\n"));
        let mut faults = LineFaults::default();
        let read = match of(caller).read_offer(&text(&offer), &mut faults) {
            Ok(read) => read,
            Err(error) => {
                table.push_str(&format!("    refused: {error:?}\n"));
                continue;
            }
        };
        for callee in [Keys::Never, Keys::Optional, Keys::Required, Keys::Impossible] {
            let mut there = of(callee);
            let told = written(there.offer(&Sdp::Relay(read.text.clone(), None)));
            table.push_str(&format!("    {callee:?} is offered {told}\n"));
            for answer in [vec![plain], vec![plain, &two], vec![secure, &two]] {
                let shown = answer.join(" / ");
                let said = match there.read_answer(&text(&answer), &mut faults) {
                    _ if there.last().is_none() => continue,
                    Ok(answer) => {
                        let answer = Sdp::Relay(answer.text, None);
                        written(of(caller).answer(&answer, &read.text))
                    }
                    Err(error) => format!("the call ends: {error:?}"),
                };
                table.push_str(&format!("        answers {shown}: {said}\n"));
            }
        }
    }
    insta::assert_snapshot!(table.replace(K30, "KEY"));
}

#[test]
fn lines_are_counted_by_what_is_wrong_and_the_others_pass_as_they_are() {
    let mut lines = vec!["m=audio 4000 RTP/AVP 0".to_owned()];
    lines.extend((1..=20).map(|tag| format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{K30} WSH=64")));
    lines[2] = lines[1].clone();
    lines[3] = "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:AAAA".into();
    lines.push("k=clear:secret".into());
    lines.push("a=acap:1 crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA".into());
    let mut faults = LineFaults::default();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let read = of(Keys::Optional).read_offer(&text(&lines), &mut faults).unwrap();
    let tags: Vec<u32> = read.audio[0].crypto.iter().map(|crypto| crypto.tag).collect();
    assert_eq!(tags, [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let counted: Vec<_> = faults.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [(LineFault::Tag, 1), (LineFault::Length, 1), (LineFault::Number, 4)]);
    let passed = String::from_utf8(read.text.to_vec()).unwrap();
    let of_them =
        |text: &str| text.lines().filter(|l| l.starts_with("a=crypto")).map(str::to_owned).collect();
    let (kept, came): (Vec<String>, Vec<String>) = (of_them(&passed), of_them(&lines.join("\r\n")));
    assert!(kept.len() == 14 && kept.iter().all(|line| came.contains(line)), "{passed}");
    assert!(!passed.contains("secret") && !passed.contains("acap"), "{passed}");
}

#[test]
fn an_answer_that_was_an_offer_gets_the_tag_of_the_one_that_it_answers() {
    let gcm = format!("a=crypto:1 AEAD_AES_256_GCM inline:{K44}");
    let two = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{K30}");
    let asked = format!("a=crypto:9 AES_CM_128_HMAC_SHA1_80 inline:{K30}");
    let audio = "m=audio 4000 RTP/SAVP 0";
    let own = text(&[audio, &gcm, &two]);
    let answer = of(Keys::Optional).answer(&Sdp::Relay(own.into(), None), &text(&[audio, &asked]));
    assert_eq!(written(answer), format!("{audio} / {asked}"));
}

#[test]
fn a_text_for_another_way_than_tls_has_no_key() {
    let one = format!("a=crypto:{}", line(""));
    let bare = text(&["m=audio 4000 RTP/AVP 0", "a=x"]);
    let with = text(&["m=audio 4000 RTP/AVP 0", "k=clear:secret", &one, "a=key-mgmt:mikey x", "a=x"]);
    assert_eq!(without_keys(&with), bare);
    assert_eq!(without_keys(&bare), bare);
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(value in ".{0,120}") {
        let _ = read_line(&value);
    }

    #[test]
    fn a_mangled_line_never_breaks_reading(cuts in proptest::collection::vec((0_usize..80, any::<char>()), 1..4)) {
        let mut value: Vec<char> = line("|2^20|1:4 WSH=64").chars().collect();
        for (at, with) in cuts {
            if let Some(one) = value.get_mut(at) {
                *one = with;
            }
        }
        if let Ok(read) = read_line(&value.into_iter().collect::<String>()) {
            let (key, salt) = read.key.suite.lengths();
            prop_assert_eq!((read.key.key.len(), read.key.salt.len()), (key, salt));
        }
    }
}
