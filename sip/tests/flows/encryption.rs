//! Keys of encrypted media (RFC 4568) in the dialogs of peers that have them, that must have them, and whose way is not TLS.

use crate::world::*;
use sip::message::Method;
use sip::port::{Command, Event, LineFault, MediaEncryption, SecureMediaRefusal, Transport};

const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

/// A description with these `a=crypto` values.
fn secure(base: &str, proto: &str, crypto: &[&str]) -> String {
    let mut text = base.replace("RTP/AVP", proto);
    crypto.iter().for_each(|value| text.push_str(&format!("a=crypto:{value}\r\n")));
    text
}

fn line(tag: u32) -> String {
    format!("{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}")
}

fn peer(transport: Transport, encryption: MediaEncryption) -> (World, Ua) {
    let mut world = World::new();
    world.book.encryption = encryption;
    let connection = (transport != Transport::Udp).then_some(7);
    let mut ua = Ua::over(transport, "203.0.113.2:5061", connection);
    ua.contact = format!("<sip:5000@203.0.113.2:5061;transport={transport:?}>").to_lowercase();
    (world, ua)
}

fn faults(world: &World) -> Vec<(LineFault, u64)> {
    world.stack.crypto_lines_refused().iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn keys_pass_as_they_are_where_both_may_have_them() {
    let (mut w, mut b) = peer(Transport::Tls, MediaEncryption::Optional);
    let offer = secure(OFFER, "RTP/SAVP", &[&line(1), &line(2)]);
    w.invite(&b, Some(relay(&offer)));
    let invite = b.take(&mut w, Method::Invite);
    assert!(body(&invite.body).contains(&format!("a=crypto:{}\r\na=crypto:{}\r\n", line(1), line(2))));
    b.reply(&mut w, &invite, 200, &[], &secure(ANSWER, "RTP/SAVP", &[&line(2)]));
    b.take(&mut w, Method::Ack);
    match w.event() {
        Event::Answered(CALL, Some(read)) => {
            assert_eq!(read.audio[0].crypto.iter().map(|crypto| crypto.tag).collect::<Vec<_>>(), [2]);
            assert!(read.over_tls);
        }
        other => panic!("{other:?}"),
    }
    // Another key in mid-call.
    let other = line(1).replace("WVN", "AAA");
    b.request(&mut w, "INVITE", &[], &secure(OFFER, "RTP/SAVP", &[&other]));
    b.expect(&mut w, 100);
    let Event::Offer(CALL, Some(read)) = w.event() else { panic!("an offer") };
    assert_eq!(read.audio[0].crypto.len(), 1);
    w.command(Command::Answer(CALL, relay(&secure(ANSWER, "RTP/SAVP", &[&line(1)]))));
    assert!(body(&b.expect(&mut w, 200).body).contains(&line(1)));
    b.request(&mut w, "ACK", &[], "");
    assert!(w.insecure.is_empty() && faults(&w).is_empty());
    b.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn an_answer_whose_key_answers_nothing_ends_the_call() {
    let short = "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA".to_owned();
    let unknown = format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}");
    let other_suite = format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}");
    for (answer, proto, fault) in [
        (vec![line(3)], "RTP/SAVP", LineFault::Answer),
        (vec![other_suite], "RTP/SAVP", LineFault::Answer),
        (vec![short], "RTP/SAVP", LineFault::Length),
        (vec![unknown], "RTP/AVP", LineFault::Suite),
        (vec![line(1), line(2)], "RTP/SAVP", LineFault::Answer),
    ] {
        let (mut w, mut b) = peer(Transport::Tls, MediaEncryption::Optional);
        let offer = secure(OFFER, "RTP/SAVP", &[&line(1), &line(2)]);
        w.invite(&b, Some(relay(&offer)));
        let invite = b.take(&mut w, Method::Invite);
        let answer: Vec<&str> = answer.iter().map(String::as_str).collect();
        b.reply(&mut w, &invite, 200, &[], &secure(ANSWER, proto, &answer));
        b.take(&mut w, Method::Ack);
        let bye = b.take(&mut w, Method::Bye);
        assert_eq!(bye.headers.get("Reason"), Some("Q.850;cause=65"), "{answer:?}");
        b.reply(&mut w, &bye, 200, &[], "");
        assert!(matches!(w.event(), Event::Refused { status: 488, cause: Some(65), .. }), "{answer:?}");
        assert_eq!(faults(&w).first().map(|(fault, _)| *fault), Some(fault), "{answer:?}");
        assert!(w.insecure.is_empty(), "nobody insists");
        w.all_quiet();
    }
}

#[test]
fn an_answer_in_mid_call_that_answers_nothing_ends_it() {
    let (mut w, mut b) = peer(Transport::Tls, MediaEncryption::Optional);
    w.invite(&b, Some(relay(&secure(OFFER, "RTP/SAVP", &[&line(1)]))));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &[], &secure(ANSWER, "RTP/SAVP", &[&line(1)]));
    b.take(&mut w, Method::Ack);
    w.event();
    w.command(Command::Offer(CALL, Some(relay(&secure(HOLD, "RTP/SAVP", &[&line(1)])))));
    let again = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &again, 200, &[], &secure(ANSWER, "RTP/SAVP", &[&line(9)]));
    b.take(&mut w, Method::Ack);
    let bye = b.take(&mut w, Method::Bye);
    b.reply(&mut w, &bye, 200, &[], "");
    assert!(matches!(w.event(), Event::Ended { call: CALL, cause: 65 }));
    w.all_quiet();
}

/// Phones exist that name a key whatever was offered.
#[test]
fn a_key_in_an_answer_to_a_clear_offer_means_nothing_in_rtp_avp() {
    let (mut w, mut b) = peer(Transport::Tls, MediaEncryption::Optional);
    w.invite(&b, Some(relay(OFFER)));
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 200, &[], &secure(ANSWER, "RTP/AVP", &[&line(1)]));
    b.take(&mut w, Method::Ack);
    let Event::Answered(_, Some(read)) = w.event() else { panic!("an answer") };
    assert!(read.audio[0].crypto.is_empty() && !String::from_utf8_lossy(&read.text).contains("crypto"));
    assert_eq!(faults(&w), [(LineFault::Answer, 1)]);
    b.hangs_up(&mut w);
    w.all_quiet();
}

/// The way decides before the setting does.
#[test]
fn keys_neither_go_nor_come_by_another_way_than_tls() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (mut w, mut b) = peer(transport, MediaEncryption::Optional);
        w.invite(&b, Some(relay(&secure(OFFER, "RTP/AVP", &[&line(1)]))));
        let invite = b.take(&mut w, Method::Invite);
        assert!(!body(&invite.body).contains("crypto"), "{}", body(&invite.body));
        b.reply(&mut w, &invite, 200, &[], ANSWER);
        b.take(&mut w, Method::Ack);
        let Event::Answered(_, Some(read)) = w.event() else { panic!("an answer") };
        assert!(!read.over_tls);
        b.request(&mut w, "INVITE", &[], &secure(HOLD, "RTP/AVP", &[&line(1)]));
        b.expect(&mut w, 100);
        let Event::Offer(CALL, Some(read)) = w.event() else { panic!("an offer") };
        let text = String::from_utf8_lossy(&read.text).into_owned();
        assert!(read.audio[0].crypto.is_empty() && !text.contains("crypto"), "{text}");
        w.command(Command::Answer(CALL, relay(&secure(ANSWER, "RTP/AVP", &[&line(1)]))));
        assert!(!body(&b.expect(&mut w, 200).body).contains("crypto"));
        b.request(&mut w, "ACK", &[], "");
        assert!(faults(&w).is_empty(), "they are not looked at");
        b.hangs_up(&mut w);
        w.all_quiet();
    }
}

#[test]
fn who_insists_on_keys_that_may_not_be_is_refused() {
    for (transport, encryption) in [
        (Transport::Udp, MediaEncryption::None),
        (Transport::Udp, MediaEncryption::Optional),
        (Transport::Tls, MediaEncryption::None),
    ] {
        let (mut w, mut a) = peer(transport, encryption);
        a.request(&mut w, "INVITE", &[], &secure(OFFER, "RTP/SAVP", &[&line(1)]));
        let refused = a.expect(&mut w, 488);
        assert_eq!(refused.headers.get("Reason"), Some("Q.850;cause=65"));
        assert!(refused.headers.get("Warning").is_some_and(|warning| warning.starts_with("399 ")));
        a.acknowledge_refusal(&mut w);
        a.remote_tag = None;
        assert!(w.insecure.is_empty(), "nobody must encrypt");
        // Nor is it offered to it.
        w.invite(&a, Some(relay(&secure(OFFER, "RTP/SAVP", &[&line(1)]))));
        assert!(matches!(w.event(), Event::Refused { status: 488, cause: Some(65), .. }));
        a.nothing(&w);
        w.all_quiet();
    }
}

#[test]
fn who_must_encrypt_does_or_is_refused_with_an_alarm() {
    use SecureMediaRefusal::{NoCrypto, PeerNotSecure, Transport as Way};
    let told = |world: &mut World| world.insecure.drain(..).map(|(_, reason)| reason).collect::<Vec<_>>();
    // Its way.
    let (mut w, mut a) = peer(Transport::Tcp, MediaEncryption::Required);
    for offer in ["", OFFER, &secure(OFFER, "RTP/SAVP", &[&line(1)])] {
        a.request(&mut w, "INVITE", &[], offer);
        let refused = a.expect(&mut w, 488);
        assert!(refused.headers.get("Warning").is_some_and(|warning| warning.starts_with("399 ")));
        a.acknowledge_refusal(&mut w);
        a.remote_tag = None;
        assert_eq!(told(&mut w), [Way]);
    }
    for offer in [None, Some(relay(&secure(OFFER, "RTP/SAVP", &[&line(1)])))] {
        w.invite(&a, offer);
        assert!(matches!(w.event(), Event::Refused { status: 488, cause: Some(65), .. }));
        assert_eq!(told(&mut w), [Way]);
    }
    a.nothing(&w);
    w.all_quiet();
    // What it offers, and what it is offered.
    let (mut w, mut a) = peer(Transport::Tls, MediaEncryption::Required);
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 488);
    a.acknowledge_refusal(&mut w);
    a.remote_tag = None;
    assert_eq!(told(&mut w), [NoCrypto]);
    w.invite(&a, Some(local()));
    assert!(matches!(w.event(), Event::Refused { status: 488, cause: Some(65), .. }));
    assert_eq!(told(&mut w), [PeerNotSecure]);
    w.invite(&a, Some(relay(&secure(OFFER, "RTP/AVP", &[&line(1)]))));
    let invite = a.take(&mut w, Method::Invite);
    assert!(body(&invite.body).contains("RTP/SAVP"), "{}", body(&invite.body));
    a.reply(&mut w, &invite, 200, &[], ANSWER);
    a.take(&mut w, Method::Ack);
    let bye = a.take(&mut w, Method::Bye);
    a.reply(&mut w, &bye, 200, &[], "");
    assert!(matches!(w.event(), Event::Refused { status: 488, .. }));
    assert_eq!(told(&mut w), [NoCrypto]);
    w.all_quiet();
    // What the other end answers.
    a = Ua::over(Transport::Tls, "203.0.113.3:5061", Some(7));
    a.request(&mut w, "INVITE", &[], &secure(OFFER, "RTP/AVP", &[&line(1)]));
    a.expect(&mut w, 100);
    let Event::Incoming { call, .. } = w.event() else { panic!("a call") };
    w.command(Command::Accept(call, relay(ANSWER)));
    let refused = a.expect(&mut w, 488);
    assert_eq!(refused.headers.get("Reason"), Some("Q.850;cause=65"));
    a.acknowledge_refusal(&mut w);
    assert!(matches!(w.event(), Event::Ended { cause: 65, .. }));
    assert_eq!(told(&mut w), [PeerNotSecure]);
    w.all_quiet();
}
