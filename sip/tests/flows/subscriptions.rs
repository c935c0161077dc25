//! SUBSCRIBE and NOTIFY (RFC 6665, RFC 3842): who is told, what, how often, and what becomes of those who don't answer.

use crate::world::*;
use sip::message::{Method, Request};
use sip::port::{Command, Input, Package, Transport, Waiting};
use std::time::Duration;

pub const EVENT: &str = "Event: message-summary";

/// A registered phone that watches its number, and the first NOTIFY that it has answered.
pub fn watching(w: &mut World, address: &str) -> Ua {
    let mut phone = registered(w, address);
    let first = subscribes(&mut phone, w, &[EVENT]);
    says(&first, Some("no"), "active;expires=3600");
    phone.reply(w, &first, 200, &[], "");
    phone
}

pub fn registered(w: &mut World, address: &str) -> Ua {
    let mut phone = Ua::new(address);
    phone.to = "sip:2001@node".into();
    phone.registers(w);
    phone.forget(w);
    w.events.clear();
    phone.call_id += "-watch";
    phone.user = "2001";
    phone
}

/// Subscribes with its password; the NOTIFY that follows.
pub fn subscribes(phone: &mut Ua, w: &mut World, headers: &[&str]) -> Request {
    refused_or_not(phone, w, headers);
    let accepted = phone.expect(w, 200);
    assert_eq!(accepted.headers.get("Allow-Events"), Some("message-summary"));
    assert!(accepted.headers.get("Contact").is_some() && accepted.headers.get("Expires").is_some());
    phone.take(w, Method::Notify)
}

/// The same whatever the answer. A challenge comes only to what could be served.
fn refused_or_not(phone: &mut Ua, w: &mut World, headers: &[&str]) {
    phone.remote_tag = None;
    phone.request(w, "SUBSCRIBE", headers, "");
    let challenge = phone.expect(w, 401);
    phone.remote_tag = None;
    let authorization = phone.answer_to(&challenge, "SUBSCRIBE", "2001", "secret");
    let mut headers = headers.to_vec();
    headers.push(&authorization);
    phone.request(w, "SUBSCRIBE", &headers, "");
}

/// What a NOTIFY says of the lamp, and of the subscription.
pub fn says(notify: &Request, waiting: Option<&str>, state: &str) {
    assert_eq!(notify.headers.get("Subscription-State"), Some(state));
    let text = body(&notify.body);
    match waiting {
        None => assert_eq!(text, ""),
        Some(waiting) => {
            assert!(
                text.starts_with(&format!("Messages-Waiting: {waiting}\r\nMessage-Account: sip:2001@")),
                "{text}"
            );
            assert_eq!(notify.headers.content_type().as_deref(), Some("application/simple-message-summary"));
        }
    }
}

/// Switches the lamp of 2001.
pub fn switch(w: &mut World, waiting: Waiting) {
    w.book.lamps.clear();
    if waiting == Waiting::Yes {
        w.book.lamps.push("2001".into());
    }
    w.command(Command::Lamp { account: "phone".into(), number: "2001".into(), waiting });
    w.pass(Duration::ZERO);
}

fn next_says(phone: &mut Ua, w: &mut World, waiting: &str) -> Request {
    let notify = phone.take(w, Method::Notify);
    let state = notify.headers.get("Subscription-State").unwrap_or("").to_owned();
    assert!(state.starts_with("active;expires="), "{state}");
    says(&notify, Some(waiting), &state);
    notify
}

fn nothing_is_left(w: &mut World) {
    assert_eq!(w.stack.counts().subscriptions, 0);
    w.all_quiet();
}

#[test]
fn a_phone_watches_its_lamp_renews_and_leaves() {
    let mut w = World::with_account();
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    w.seconds(5);
    switch(&mut w, Waiting::Yes);
    let on = next_says(&mut phone, &mut w, "yes");
    assert_eq!(on.headers.get("Event"), Some("message-summary"));
    assert_eq!(on.uri.as_str(), "sip:5000@192.0.2.1:5060", "its Contact");
    assert_eq!(on.headers.call_id(), phone.call_id);
    phone.reply(&mut w, &on, 200, &[], "");
    w.seconds(1_800);
    phone.request(&mut w, "SUBSCRIBE", &[EVENT, "Expires: 600"], "");
    assert_eq!(phone.expect(&mut w, 200).headers.get("Expires"), Some("600"));
    let again = phone.take(&mut w, Method::Notify);
    says(&again, Some("yes"), "active;expires=600");
    phone.reply(&mut w, &again, 200, &[], "");
    phone.request(&mut w, "SUBSCRIBE", &[EVENT, "Expires: 0"], "");
    phone.expect(&mut w, 200);
    let last = phone.take(&mut w, Method::Notify);
    says(&last, Some("yes"), "terminated;reason=timeout");
    // It ends with the last NOTIFY, whatever is asked meanwhile.
    phone.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    let tag = phone.remote_tag.clone();
    phone.expect(&mut w, 481);
    phone.remote_tag = tag;
    phone.reply(&mut w, &last, 200, &[], "");
    nothing_is_left(&mut w);
}

#[test]
fn who_asks_once_is_told_once() {
    let mut w = World::with_account();
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    let only = subscribes(&mut phone, &mut w, &[EVENT, "Expires: 0"]);
    says(&only, Some("no"), "terminated;reason=timeout");
    phone.reply(&mut w, &only, 200, &[], "");
    nothing_is_left(&mut w);
}

#[test]
fn a_subscription_that_nobody_renews_ends_in_time() {
    let mut w = World::with_account();
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    w.seconds(3_599);
    phone.nothing(&w);
    w.seconds(1);
    let last = phone.take(&mut w, Method::Notify);
    says(&last, Some("no"), "terminated;reason=timeout");
    w.seconds(40);
    assert_eq!(w.stack.counts().subscriptions, 0, "nobody has answered, and it is over all the same");
}

/// The headers of a SUBSCRIBE, the status that it gets, and a header of the answer.
type Refusal<'a> = (&'a [&'a str], u16, Option<(&'a str, &'a str)>);

#[test]
fn what_can_not_be_served_is_said_before_anybody_is_asked_who_he_is() {
    let mut w = World::with_account();
    let asked: &[Refusal] = &[
        (&["Event: presence"], 489, Some(("Allow-Events", "message-summary"))),
        (&[], 489, Some(("Allow-Events", "message-summary"))),
        (&[EVENT, EVENT], 400, None),
        (&["Event: message-summary;id=\"a b\""], 400, None),
        (
            &[EVENT, "Accept: application/pidf+xml"],
            406,
            Some(("Accept", "application/simple-message-summary")),
        ),
        (&[EVENT, "Expires: 59"], 423, Some(("Min-Expires", "60"))),
        (&[EVENT, "Require: eventlist"], 420, Some(("Unsupported", "eventlist"))),
        (&[EVENT, "Max-Forwards: 0"], 483, None),
        (&["o: message-summary"], 401, None),
        (&[EVENT], 401, None),
    ];
    for (headers, status, said) in asked {
        let mut stranger = Ua::new("192.0.2.77:5060");
        stranger.request(&mut w, "SUBSCRIBE", headers, "");
        let answer = stranger.expect(&mut w, *status);
        if let Some((name, value)) = said {
            assert_eq!(answer.headers.get(name), Some(*value), "{headers:?}");
        }
        assert_eq!((w.stack.counts().transactions, w.stack.next_timeout()), (0, None), "{headers:?}");
    }
    w.book.busy = Some(2);
    let mut stranger = Ua::new("192.0.2.77:5060");
    stranger.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    assert_eq!(stranger.expect(&mut w, 503).headers.get("Retry-After"), Some("2"));
}

#[test]
fn who_is_not_registered_or_names_another_number_is_refused() {
    let mut w = World::with_account();
    let mut phone = Ua::new("192.0.2.1:5060");
    phone.user = "2001";
    refused_or_not(&mut phone, &mut w, &[EVENT]);
    phone.expect(&mut w, 403);
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    for foreign in ["2003", "phone"] {
        phone.user = foreign;
        refused_or_not(&mut phone, &mut w, &[EVENT]);
        phone.expect(&mut w, 403);
    }
    assert_eq!(w.stack.counts().subscriptions, 0);
    // A trunk's address proves that a call is the trunk's, not that it may watch.
    let mut trunk = Ua::new("203.0.113.1:5060");
    trunk.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    trunk.expect(&mut w, 401);
}

#[test]
fn a_subscriptions_dialog_is_its_phones() {
    let mut w = World::with_account();
    let mut other = w.book.accounts["2001"].clone();
    other.id = "other".into();
    w.book.accounts.insert("2002".into(), other);
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    let tag = phone.remote_tag.clone();
    let mut elsewhere = Ua::new("192.0.2.66:5060");
    (elsewhere.call_id, elsewhere.local_tag) = (phone.call_id.clone(), phone.local_tag.clone());
    (elsewhere.cseq, elsewhere.user) = (phone.cseq + 10, "2001");
    elsewhere.remote_tag.clone_from(&tag);
    elsewhere.request(&mut w, "SUBSCRIBE", &[EVENT, "Expires: 0"], "");
    elsewhere.expect(&mut w, 401);
    elsewhere.remote_tag.clone_from(&tag);
    elsewhere.signed_as(&mut w, "2002", "SUBSCRIBE", &[EVENT, "Expires: 0"], "");
    elsewhere.expect(&mut w, 481);
    assert_eq!(w.stack.counts().refused_elsewhere, 3);
    // The phone itself, whose address has changed: it is told there.
    elsewhere.remote_tag.clone_from(&tag);
    elsewhere.signed_as(&mut w, "2001", "SUBSCRIBE", &[EVENT], "");
    elsewhere.expect(&mut w, 200);
    let moved = elsewhere.take(&mut w, Method::Notify);
    elsewhere.reply(&mut w, &moved, 200, &[], "");
    // From where it was, its old numbers come out of order.
    phone.forget(&mut w);
    phone.cseq = 1;
    phone.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    phone.expect(&mut w, 500);
    phone.cseq = 100;
    for (method, headers) in [
        ("SUBSCRIBE", &["Event: message-summary;id=other"][..]),
        ("BYE", &[]),
        ("INVITE", &[]),
        ("NOTIFY", &[EVENT]),
    ] {
        phone.remote_tag.clone_from(&tag);
        phone.request(&mut w, method, headers, "");
        phone.expect(&mut w, 481);
    }
    assert_eq!(w.stack.counts().subscriptions, 1);
}

#[test]
fn refreshes_have_the_rate_of_requests_within_dialogs() {
    let mut w = World::with_account();
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    let tag = phone.remote_tag.clone();
    for n in 0..40 {
        phone.remote_tag.clone_from(&tag);
        phone.request(&mut w, "SUBSCRIBE", &[EVENT], "");
        phone.expect(&mut w, if n < 30 { 200 } else { 503 });
        if let Some(notify) =
            w.inboxes.get_mut(&phone.hop.remote).and_then(std::collections::VecDeque::pop_front)
        {
            let sip::message::Message::Request(notify) = notify else { panic!("a NOTIFY") };
            phone.reply(&mut w, &notify, 200, &[], "");
        }
    }
    assert_eq!(w.stack.counts().refused_too_many, 10);
}

#[test]
fn many_changes_are_one_notify_and_the_last_state_always_comes() {
    let mut w = World::with_account();
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    for _ in 0..50 {
        switch(&mut w, Waiting::Yes);
        switch(&mut w, Waiting::No);
    }
    switch(&mut w, Waiting::Yes);
    phone.nothing(&w);
    w.seconds(1);
    let on = next_says(&mut phone, &mut w, "yes");
    // While it waits for its answer nothing else goes.
    switch(&mut w, Waiting::No);
    phone.nothing(&w);
    phone.reply(&mut w, &on, 200, &[], "");
    w.seconds(1);
    let off = next_says(&mut phone, &mut w, "no");
    phone.reply(&mut w, &off, 200, &[], "");
    // What is as it was told is not told again.
    switch(&mut w, Waiting::Yes);
    switch(&mut w, Waiting::No);
    w.seconds(2);
    phone.nothing(&w);
}

#[test]
fn a_notify_that_nobody_knows_ends_the_subscription() {
    for status in [404, 405, 410, 480, 481, 489, 501] {
        let mut w = World::with_account();
        let mut phone = watching(&mut w, "192.0.2.1:5060");
        w.seconds(2);
        switch(&mut w, Waiting::Yes);
        let on = next_says(&mut phone, &mut w, "yes");
        phone.reply(&mut w, &on, status, &[], "");
        assert_eq!(w.stack.counts().subscriptions, 0, "{status}");
    }
}

#[test]
fn a_notify_that_fails_goes_again_and_then_no_more() {
    let mut w = World::with_account();
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    w.seconds(2);
    switch(&mut w, Waiting::Yes);
    let on = next_says(&mut phone, &mut w, "yes");
    phone.reply(&mut w, &on, 503, &["Retry-After: 20"], "");
    w.seconds(19);
    phone.nothing(&w);
    // The one that goes again says how it is then.
    switch(&mut w, Waiting::No);
    w.seconds(1);
    let off = next_says(&mut phone, &mut w, "no");
    phone.reply(&mut w, &off, 500, &[], "");
    w.seconds(9);
    phone.nothing(&w);
    w.seconds(1);
    let third = next_says(&mut phone, &mut w, "no");
    phone.reply(&mut w, &third, 200, &[], "");
    assert_eq!(w.stack.counts().subscriptions, 1, "a success forgives the failures");
    // A phone that is gone: three NOTIFYs in vain.
    switch(&mut w, Waiting::Yes);
    w.seconds(1 + 32 + 5 + 32 + 10 + 32);
    assert_eq!(w.stack.counts().subscriptions, 0);
}

#[test]
fn a_right_that_is_withdrawn_ends_the_subscription() {
    let ends: [fn(&mut World); 3] = [
        |w| w.command(Command::Recheck),
        |w| w.command(Command::Changed(Package::MessageSummary, "2001".into())),
        |w| w.command(Command::ForgetAccount("phone".into())),
    ];
    for end in ends {
        let mut w = World::with_account();
        let mut phone = watching(&mut w, "192.0.2.1:5060");
        w.command(Command::Recheck);
        w.seconds(3);
        phone.nothing(&w);
        w.book.hidden.push("2001".into());
        end(&mut w);
        w.pass(Duration::ZERO);
        let last = phone.take(&mut w, Method::Notify);
        says(&last, None, "terminated;reason=rejected");
        phone.reply(&mut w, &last, 200, &[], "");
        w.events.clear();
        nothing_is_left(&mut w);
    }
    // A refresh finds it out, too.
    let mut w = World::with_account();
    let mut phone = watching(&mut w, "192.0.2.1:5060");
    w.book.hidden.push("2001".into());
    phone.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    phone.expect(&mut w, 403);
    says(&phone.take(&mut w, Method::Notify), None, "terminated;reason=rejected");
}

#[test]
fn many_subscriptions_are_looked_at_again_some_in_each_step() {
    let mut w = World::with_account_and(sip::Config {
        max_subscriptions: 1000,
        max_subscriptions_per_account: 1000,
        ..config()
    });
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    for n in 0..300 {
        phone.call_id = format!("call-{n}");
        let first = subscribes(&mut phone, &mut w, &[EVENT]);
        phone.reply(&mut w, &first, 200, &[], "");
    }
    w.seconds(40);
    w.book.hidden.push("2001".into());
    w.command(Command::Recheck);
    let mut steps = Vec::new();
    while w.stack.next_timeout().is_some_and(|at| at <= w.now) {
        w.input(Input::Timeout);
        steps.push(w.inboxes.remove(&phone.hop.remote).map_or(0, |inbox| inbox.len()));
    }
    assert_eq!(steps.iter().sum::<usize>(), 300, "{steps:?}");
    assert!(steps.iter().all(|told| *told <= 128), "{steps:?}");
}

#[test]
fn for_one_subscription_more_than_a_phone_may_have_its_oldest_gives_way() {
    let mut w = World::with_account();
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    for n in 0..4 {
        phone.call_id = format!("life-{n}");
        let first = subscribes(&mut phone, &mut w, &[EVENT]);
        phone.reply(&mut w, &first, 200, &[], "");
    }
    phone.call_id = "life-4".into();
    refused_or_not(&mut phone, &mut w, &[EVENT]);
    phone.expect(&mut w, 200);
    let oldest = phone.take(&mut w, Method::Notify);
    assert_eq!(oldest.headers.call_id(), "life-0");
    says(&oldest, None, "terminated;reason=rejected");
    assert_eq!(phone.take(&mut w, Method::Notify).headers.call_id(), "life-4");
    assert_eq!(w.stack.counts().subscriptions, 4);
}

#[test]
fn subscriptions_are_limited_in_all() {
    let mut w = World::with_account_and(sip::Config { max_subscriptions: 2, ..config() });
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    for n in 0..2 {
        phone.call_id = format!("life-{n}");
        let first = subscribes(&mut phone, &mut w, &[EVENT]);
        phone.reply(&mut w, &first, 200, &[], "");
    }
    let tag = phone.remote_tag.clone();
    let mut another = Ua::new("192.0.2.1:5060");
    another.user = "2001";
    another.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    assert_eq!(another.expect(&mut w, 503).headers.get("Retry-After"), Some("5"));
    // Those that are there go on.
    phone.remote_tag = tag;
    phone.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    phone.expect(&mut w, 200);
}

#[test]
fn a_phone_without_a_subscription_is_told_at_each_change_and_after_each_registration() {
    let mut w = World::with_account();
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    switch(&mut w, Waiting::Yes);
    let on = phone.take(&mut w, Method::Notify);
    says(&on, Some("yes"), "active");
    assert_eq!(on.uri.as_str(), "sip:5000@192.0.2.1:5060");
    assert_eq!(on.headers.to().unwrap().uri.number(), "2001");
    phone.reply(&mut w, &on, 481, &[], "");
    let mut register = Ua::new("192.0.2.1:5060");
    register.to = "sip:2001@node".into();
    for _ in 0..2 {
        register.cseq += 10;
        register.registers(&mut w);
        let reminded = register.take(&mut w, Method::Notify);
        says(&reminded, Some("yes"), "active");
        register.reply(&mut w, &reminded, 200, &[], "");
    }
    // Who registers another number that has contacts of its own is not told of this one.
    let mut second = Ua::new("192.0.2.2:5060");
    second.to = "sip:2002@node".into();
    second.registers(&mut w);
    second.nothing(&w);
    register.nothing(&w);
    switch(&mut w, Waiting::No);
    let off = register.take(&mut w, Method::Notify);
    says(&off, Some("no"), "active");
    register.reply(&mut w, &off, 200, &[], "");
    register.cseq += 10;
    register.registers(&mut w);
    register.nothing(&w);
    // Once it subscribes it is told by that alone.
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    let first = subscribes(&mut phone, &mut w, &[EVENT]);
    phone.reply(&mut w, &first, 200, &[], "");
    w.seconds(40);
    switch(&mut w, Waiting::Yes);
    let on = next_says(&mut phone, &mut w, "yes");
    assert_eq!(on.headers.call_id(), phone.call_id);
    phone.reply(&mut w, &on, 200, &[], "");
    phone.nothing(&w);
}

#[test]
fn a_subscription_follows_its_phone_to_another_connection() {
    let mut w = World::with_account();
    let mut phone = Ua::over(Transport::Tcp, "192.0.2.1:40000", Some(1));
    phone.to = "sip:2001@node".into();
    phone.registers(&mut w);
    w.events.clear();
    phone.user = "2001";
    phone.call_id += "-watch";
    let first = subscribes(&mut phone, &mut w, &[EVENT]);
    phone.reply(&mut w, &first, 200, &[], "");
    w.input(Input::Closed(phone.hop));
    let mut again = Ua::over(Transport::Tcp, "192.0.2.1:40002", Some(2));
    again.to = "sip:2001@node".into();
    again.registers(&mut w);
    (again.call_id, again.local_tag) = (phone.call_id.clone(), phone.local_tag.clone());
    (again.cseq, again.user) = (phone.cseq, "2001");
    again.remote_tag.clone_from(&phone.remote_tag);
    again.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    again.expect(&mut w, 200);
    let told = again.take(&mut w, Method::Notify);
    again.reply(&mut w, &told, 200, &[], "");
    assert_eq!(w.stack.counts().subscriptions, 1);
}

#[test]
fn a_repeated_subscribe_is_answered_once_more_and_makes_no_second_subscription() {
    let mut w = World::with_account();
    let mut phone = registered(&mut w, "192.0.2.1:5060");
    phone.request(&mut w, "SUBSCRIBE", &[EVENT], "");
    let challenge = phone.expect(&mut w, 401);
    phone.remote_tag = None;
    let authorization = phone.answer_to(&challenge, "SUBSCRIBE", "2001", "secret");
    phone.request(&mut w, "SUBSCRIBE", &[EVENT, &authorization], "");
    let first = phone.expect(&mut w, 200);
    phone.take(&mut w, Method::Notify);
    phone.remote_tag = None;
    phone.repeat(&mut w, "SUBSCRIBE", &[EVENT, &authorization]);
    assert_eq!(phone.expect(&mut w, 200).headers.to_tag(), first.headers.to_tag());
    assert_eq!(w.stack.counts().subscriptions, 1);
}
