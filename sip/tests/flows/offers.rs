//! Offers that nobody can accept: each gets an answer, and what fails for good gets a BYE (RFC 3261 §13.2.2.4).

use crate::world::*;
use sip::message::{Method, Request};
use sip::port::{Audio, Command, Event, Sdp};

const NAMED: &str = "v=0\r\no=- 5 1 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 media.example.org\r\nt=0 0\r\n\
m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 99\r\n";
const REFUSED: [&str; 2] = ["m=audio 0 RTP/AVP 0", "m=video 0 RTP/AVP 99"];

fn lines(request: &Request) -> Vec<String> {
    body(&request.body).lines().filter(|line| line.starts_with("m=")).map(str::to_owned).collect()
}

/// Called without an offer; its 200 has this body.
fn late(offer: &str) -> (World, Ua) {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, None);
    let invite = b.take(&mut w, Method::Invite);
    assert!(invite.body.is_empty());
    b.reply(&mut w, &invite, 200, &[], offer);
    (w, b)
}

#[test]
fn a_late_offer_that_cannot_be_read_is_refused_line_by_line_and_ended() {
    for (offer, refused) in [(NAMED, &REFUSED[..]), ("hello", &[]), ("", &[])] {
        let (mut w, mut b) = late(offer);
        assert_eq!(lines(&b.take(&mut w, Method::Ack)), refused, "{offer}");
        b.take(&mut w, Method::Bye);
        match w.event() {
            Event::Refused { call: CALL, status: 488, cause: Some(65), .. } => {}
            other => panic!("{other:?}"),
        }
        w.all_quiet();
    }
}

#[test]
fn a_late_offer_that_the_node_does_not_want_is_refused_line_by_line_and_ended() {
    let offer = NAMED.replace("media.example.org", "203.0.113.2");
    let (mut w, mut b) = late(&offer);
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
    w.command(Command::End(CALL, refusal(488, 65)));
    assert_eq!(lines(&b.take(&mut w, Method::Ack)), REFUSED);
    b.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn an_answer_that_cannot_be_written_is_a_refusal_and_the_end() {
    let offer = NAMED.replace("media.example.org", "203.0.113.2");
    let (mut w, mut b) = late(&offer);
    assert!(matches!(w.event(), Event::Answered(CALL, Some(_))));
    let Sdp::Local(audio) = local() else { panic!("a description of our own") };
    w.command(Command::Answer(CALL, Sdp::Local(Audio { line: 1, ..audio })));
    assert_eq!(lines(&b.take(&mut w, Method::Ack)), REFUSED);
    b.take(&mut w, Method::Bye);
    assert!(matches!(w.event(), Event::Ended { call: CALL, cause: 65 }));
    w.all_quiet();
}

#[test]
fn a_late_offer_that_crosses_the_end_of_the_call_is_refused_too() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    w.invite(&b, None);
    let invite = b.take(&mut w, Method::Invite);
    b.reply(&mut w, &invite, 180, &[], "");
    w.event();
    w.command(Command::End(CALL, refusal(480, 16)));
    let cancel = b.take(&mut w, Method::Cancel);
    b.reply(&mut w, &cancel, 200, &[], "");
    b.reply(&mut w, &invite, 200, &[], OFFER);
    assert_eq!(lines(&b.take(&mut w, Method::Ack)), ["m=audio 0 RTP/AVP 0 101"]);
    b.take(&mut w, Method::Bye);
    w.all_quiet();
}

#[test]
fn an_offer_that_cannot_be_read_is_refused_with_what_is_wrong() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    for (offer, warning) in [(NAMED, "301 198.51.100.1 "), ("hello", "399 198.51.100.1 ")] {
        a.request(&mut w, "INVITE", &[], offer);
        let refused = a.expect(&mut w, 488);
        assert!(refused.headers.get("Warning").is_some_and(|w| w.starts_with(warning)), "{offer}");
        a.acknowledge_refusal(&mut w);
        a.remote_tag = None;
        w.no_event();
    }
    a.established(&mut w);
    for method in ["INVITE", "UPDATE"] {
        a.request(&mut w, method, &[], NAMED);
        assert!(a.expect(&mut w, 488).headers.get("Warning").is_some(), "{method}");
        if method == "INVITE" {
            a.acknowledge_refusal(&mut w);
        }
    }
    a.hangs_up(&mut w);
    w.all_quiet();
}
