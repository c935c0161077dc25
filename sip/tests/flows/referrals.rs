//! The transfer key of a phone: REFER, what is reported of it, and the other dialog that it may name.

use crate::world::*;
use sip::InviteHandle;
use sip::message::{Method, Request};
use sip::port::{Command, Event, ReferTo};

const TO_BOB: &str = "Refer-To: <sip:2003@198.51.100.1>";

/// A report: its body, its Event, its Subscription-State.
fn report(ua: &mut Ua, w: &mut World) -> [String; 3] {
    let notify = ua.take(w, Method::Notify);
    let header = |notify: &Request, name: &str| notify.headers.get(name).unwrap_or("none").to_owned();
    assert_eq!(header(&notify, "Content-Type"), "message/sipfrag;version=2.0");
    assert!(header(&notify, "Contact").starts_with("<sip:"));
    ua.reply(w, &notify, 200, &[], "");
    [
        body(&notify.body).trim_end().to_owned(),
        header(&notify, "Event"),
        header(&notify, "Subscription-State"),
    ]
}

fn wants(w: &mut World, of: InviteHandle) -> ReferTo {
    match w.event() {
        Event::Referred(call, to) if call == of => to,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refer_is_accepted_and_its_outcome_reported() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "REFER", &[TO_BOB, "Referred-By: <sip:2001@h>"], "");
    let accepted = a.expect(&mut w, 202);
    assert!(accepted.headers.get("Contact").is_some(), "it may change the target");
    assert_eq!(report(&mut a, &mut w), ["SIP/2.0 100 Trying", "refer", "active;expires=600"]);
    assert_eq!(wants(&mut w, call), ReferTo::Number("2003".into()));
    a.request(&mut w, "REFER", &[TO_BOB], "");
    a.expect(&mut w, 491);
    w.command(Command::Referred(call, 486));
    assert_eq!(report(&mut a, &mut w), ["SIP/2.0 486 Busy Here", "refer", "terminated;reason=noresource"]);
    // The next one is told from it.
    a.request(&mut w, "REFER", &[TO_BOB], "");
    a.expect(&mut w, 202);
    let id = format!("refer;id={}", a.cseq);
    assert_eq!(report(&mut a, &mut w), ["SIP/2.0 100 Trying", &*id, "active;expires=600"]);
    wants(&mut w, call);
    w.command(Command::Referred(call, 200));
    assert_eq!(report(&mut a, &mut w), ["SIP/2.0 200 OK", &*id, "terminated;reason=noresource"]);
    w.command(Command::End(call, refusal(480, 16)));
    let bye = a.take(&mut w, Method::Bye);
    a.reply(&mut w, &bye, 200, &[], "");
    w.all_quiet();
}

#[test]
fn who_wants_no_reports_gets_none() {
    let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
    b.answered(&mut w, &[]);
    b.cseq = 50;
    b.request(&mut w, "REFER", &[TO_BOB, "Refer-Sub: false"], "");
    assert_eq!(b.expect(&mut w, 202).headers.get("Refer-Sub"), Some("false"));
    wants(&mut w, CALL);
    w.command(Command::Referred(CALL, 200));
    b.nothing(&w);
    b.hangs_up(&mut w);
    w.all_quiet();
}

/// The phone has called twice; it names the second dialog, whose INVITE may still be unanswered.
#[test]
fn a_refer_names_another_call_of_the_node() {
    for answered in [true, false] {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        let call = a.established(&mut w);
        let mut again = Ua::new("203.0.113.1:5062");
        again.request(&mut w, "INVITE", &[], OFFER);
        again.expect(&mut w, 100);
        let Event::Incoming { call: second, .. } = w.event() else { panic!("a call") };
        w.command(if answered {
            Command::Accept(second, relay(ANSWER))
        } else {
            Command::Ring(second, None)
        });
        let said = again.expect(&mut w, if answered { 200 } else { 180 });
        if answered {
            again.request(&mut w, "ACK", &[], "");
        }
        let (ours, theirs) = (said.headers.to_tag().expect("a tag"), said.headers.from_tag().expect("a tag"));
        let replaces = format!("{};to-tag={ours};from-tag={theirs}", said.headers.call_id());
        let replaces = replaces.replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
        a.request(&mut w, "REFER", &[&format!("Refer-To: <sip:2003@h?Replaces={replaces}>")], "");
        a.expect(&mut w, 202);
        report(&mut a, &mut w);
        assert_eq!(wants(&mut w, call), ReferTo::Call(second));
        w.command(Command::Referred(call, 200));
        assert_eq!(report(&mut a, &mut w)[0], "SIP/2.0 200 OK");
        for (ua, call) in [(&mut a, call), (&mut again, second)] {
            w.command(Command::End(call, refusal(480, 16)));
            if !answered && call == second {
                ua.expect(&mut w, 480);
                ua.acknowledge_refusal(&mut w);
                continue;
            }
            let bye = ua.take(&mut w, Method::Bye);
            ua.reply(&mut w, &bye, 200, &[], "");
        }
        w.all_quiet();
    }
}

#[test]
fn a_dialog_that_nobody_knows_is_reported_and_the_call_stays() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    a.established(&mut w);
    a.request(&mut w, "REFER", &["Refer-To: <sip:2003@h?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>"], "");
    a.expect(&mut w, 202);
    assert_eq!(report(&mut a, &mut w)[0], "SIP/2.0 100 Trying");
    assert_eq!(report(&mut a, &mut w)[0], "SIP/2.0 481 Call/Transaction Does Not Exist");
    w.no_event();
    a.hangs_up(&mut w);
    w.all_quiet();
}

#[test]
fn a_refer_out_of_place_is_refused() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let mut stranger = Ua::new("203.0.113.1:5064");
    stranger.request(&mut w, "REFER", &[TO_BOB], "");
    stranger.expect(&mut w, 403);
    a.request(&mut w, "INVITE", &[], OFFER);
    a.expect(&mut w, 100);
    let Event::Incoming { call, .. } = w.event() else { panic!("a call") };
    w.command(Command::Ring(call, None));
    a.expect(&mut w, 180);
    a.request(&mut w, "REFER", &[TO_BOB], "");
    a.expect(&mut w, 403);
    w.command(Command::Accept(call, relay(ANSWER)));
    a.expect(&mut w, 200);
    // The 2xx has no ACK yet, and the node has ended the call.
    w.command(Command::End(call, refusal(480, 16)));
    a.request(&mut w, "REFER", &[TO_BOB], "");
    a.expect(&mut w, 403);
    w.no_event();
    w.seconds(64);
    a.forget(&mut w);
    w.all_quiet();
}

/// Whoever hangs up while it is under way hears no more of it.
#[test]
fn a_referrer_that_hangs_up_meanwhile() {
    let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
    let call = a.established(&mut w);
    a.request(&mut w, "REFER", &[TO_BOB], "");
    a.expect(&mut w, 202);
    report(&mut a, &mut w);
    wants(&mut w, call);
    a.hangs_up(&mut w);
    w.command(Command::Referred(call, 200));
    a.nothing(&w);
    w.all_quiet();
}
