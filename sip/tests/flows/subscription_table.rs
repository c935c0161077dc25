//! The whole state × event table of a subscription, as it looks from outside: what is sent, and whether it is there still.

use crate::subscriptions::{EVENT, registered, subscribes, switch, watching};
use crate::world::*;
use sip::message::{Message, Method, Request};
use sip::port::{Command, Waiting};
use std::fmt::Write as _;
use std::time::Duration;

/// A subscription in some state, and the NOTIFY that waits for its answer.
struct Scene {
    world: World,
    phone: Ua,
    asked: Option<Request>,
}

type Setting = (&'static str, fn() -> Scene);

const STATES: &[Setting] = &[
    ("told", || watched(|_, _| None)),
    ("a change is due", || {
        watched(|w, _| {
            switch(w, Waiting::Yes);
            None
        })
    }),
    ("telling", || watched(|w, phone| Some(telling(w, phone)))),
    ("telling, and something has changed", || {
        watched(|w, phone| {
            let told = telling(w, phone);
            switch(w, Waiting::No);
            Some(told)
        })
    }),
    ("telling, and a SUBSCRIBE asked", || {
        watched(|w, phone| {
            let told = telling(w, phone);
            phone.request(w, "SUBSCRIBE", &[EVENT], "");
            Some(told)
        })
    }),
    ("failed once", || {
        watched(|w, phone| {
            let told = telling(w, phone);
            phone.reply(w, &told, 500, &[], "");
            None
        })
    }),
    ("telling after two failures", || {
        watched(|w, phone| {
            for wait in [5, 10] {
                let told = if wait == 5 { telling(w, phone) } else { phone.take(w, Method::Notify) };
                phone.reply(w, &told, 500, &[], "");
                w.seconds(wait);
            }
            Some(phone.take(w, Method::Notify))
        })
    }),
    ("ending", || {
        watched(|w, phone| {
            phone.request(w, "SUBSCRIBE", &[EVENT, "Expires: 0"], "");
            phone.expect(w, 200);
            Some(phone.take(w, Method::Notify))
        })
    }),
    ("over", || {
        watched(|w, phone| {
            let told = telling(w, phone);
            phone.reply(w, &told, 481, &[], "");
            None
        })
    }),
];

fn watched(then: fn(&mut World, &mut Ua) -> Option<Request>) -> Scene {
    let mut world = World::with_account();
    let mut phone = watching(&mut world, "192.0.2.1:5060");
    let tag = phone.remote_tag.clone();
    let asked = then(&mut world, &mut phone);
    phone.remote_tag = tag;
    Scene { world, phone, asked }
}

fn telling(w: &mut World, phone: &mut Ua) -> Request {
    w.seconds(2);
    switch(w, Waiting::Yes);
    phone.take(w, Method::Notify)
}

type Happens = (&'static str, fn(&mut Scene));

fn reply(scene: &mut Scene, status: u16, headers: &[&str]) {
    if let Some(asked) = scene.asked.take() {
        scene.phone.reply(&mut scene.world, &asked, status, headers, "");
    }
}

fn subscribe(scene: &mut Scene, headers: &[&str]) {
    scene.phone.request(&mut scene.world, "SUBSCRIBE", headers, "");
}

const EVENTS: &[Happens] = &[
    ("phone: SUBSCRIBE", |s| subscribe(s, &[EVENT])),
    ("phone: SUBSCRIBE, Expires: 0", |s| subscribe(s, &[EVENT, "Expires: 0"])),
    ("phone: SUBSCRIBE, Expires: 1", |s| subscribe(s, &[EVENT, "Expires: 1"])),
    ("phone: SUBSCRIBE, other package", |s| subscribe(s, &["Event: dialog.x"])),
    ("phone: 100", |s| reply(s, 100, &[])),
    ("phone: 200", |s| reply(s, 200, &[])),
    ("phone: 481", |s| reply(s, 481, &[])),
    ("phone: 500", |s| reply(s, 500, &[])),
    ("phone: 503, Retry-After: 2", |s| reply(s, 503, &["Retry-After: 2"])),
    ("node: the lamp goes on", |s| switch(&mut s.world, Waiting::Yes)),
    ("node: the lamp goes off", |s| switch(&mut s.world, Waiting::No)),
    ("node: Recheck", |s| s.world.command(Command::Recheck)),
    ("node: Recheck, right withdrawn", |s| {
        s.world.book.hidden.push("2001".into());
        s.world.command(Command::Recheck);
    }),
    ("clock: 1 s", |s| s.world.seconds(1)),
    ("clock: 6 s", |s| s.world.seconds(6)),
    ("clock: 33 s", |s| s.world.seconds(33)),
    ("clock: an hour", |s| s.world.seconds(3_600)),
];

/// What was sent, repetitions once, and what is there then.
fn told(scene: &mut Scene) -> String {
    scene.world.pass(Duration::ZERO);
    let mut text = String::new();
    let mut last = None;
    for message in scene.world.inboxes.remove(&scene.phone.hop.remote).unwrap_or_default() {
        let cseq = message.headers().cseq().ok();
        if last == cseq {
            continue;
        }
        let what = match &message {
            Message::Response(response) => response.status.to_string(),
            Message::Request(request) => {
                last.clone_from(&cseq);
                let state = request.headers.get("Subscription-State").unwrap_or("unsolicited");
                let state = state.split(';').find(|part| !part.starts_with("expires")).unwrap_or(state);
                let reason = request.headers.get("Subscription-State").and_then(|s| s.split_once("reason="));
                let reason = reason.map_or(String::new(), |(_, reason)| format!("/{reason}"));
                let lamp = match body(&request.body).split("\r\n").next() {
                    Some("") | None => "",
                    Some(line) => line.trim_start_matches("Messages-Waiting: "),
                };
                let own = if request.headers.call_id() == scene.phone.call_id { "" } else { "unsolicited " };
                format!("{own}NOTIFY({state}{reason} {lamp})")
            }
        };
        let _ = write!(text, " > {what}");
    }
    if text.is_empty() {
        text.push_str(" -");
    }
    let there = if scene.world.stack.counts().subscriptions == 0 { "  (gone)" } else { "" };
    text + there
}

#[test]
fn the_state_event_table_of_a_subscription() {
    let mut table = String::from("`>` is sent. Answers go to the NOTIFY that waits for one.\n");
    for (state, setting) in STATES {
        let _ = writeln!(table, "\n{state}");
        for (event, happens) in EVENTS {
            let mut scene = setting();
            let is_answer = event.starts_with("phone: ") && event.as_bytes()[7].is_ascii_digit();
            if is_answer && scene.asked.is_none() {
                continue;
            }
            told(&mut scene);
            happens(&mut scene);
            let told = told(&mut scene);
            let _ = writeln!(table, "  {event:<34}{told}");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_subscription_begins_with_its_state() {
    let mut world = World::with_account();
    world.book.lamps.push("2001".into());
    let mut phone = registered(&mut world, "192.0.2.1:5060");
    let first = subscribes(&mut phone, &mut world, &["Event: message-summary;id=7", "Expires: 120"]);
    assert_eq!(first.headers.get("Event"), Some("message-summary;id=7"));
    crate::subscriptions::says(&first, Some("yes"), "active;expires=120");
}
