//! The whole state × event table of a call, as it looks from outside: what is sent and what the node hears. The snapshot
//! is there to be read; a cell that changes wants a reason.

use crate::world::*;
use sip::InviteHandle;
use sip::message::{Message, Method, Request};
use sip::port::{Command, Event, Identity};
use std::fmt::Write as _;
use std::time::Duration;

/// A call in some state: the world, its peer, the call's handle, and the request of ours that waits for its response.
struct Scene {
    world: World,
    peer: Ua,
    call: InviteHandle,
    asked: Option<Request>,
}

type Setting = (&'static str, fn() -> Scene);

const STATES: &[Setting] = &[
    ("calling", || calling(|_, _, _| {})),
    ("calling, rings", || calling(|w, b, invite| b.reply(w, invite, 180, &[], ""))),
    ("calling, early media agreed", || {
        calling(|w, b, invite| {
            b.reply(w, invite, 183, &["Require: 100rel", "RSeq: 1", "Allow: UPDATE"], ANSWER);
            let prack = b.take(w, Method::Prack);
            b.reply(w, &prack, 200, &[], "");
        })
    }),
    ("calling, late offer unanswered", || late_offer()),
    ("called", || called(&[], |_, _, _| {})),
    ("called, reliable 183 open", || {
        called(&["Supported: 100rel"], |w, _, call| w.command(Command::Ring(call, Some(relay(ANSWER)))))
    }),
    ("accepted, no ACK yet", || called(&[], |w, _, call| w.command(Command::Accept(call, relay(ANSWER))))),
    ("hanging up, no ACK yet", || {
        called(&[], |w, _, call| {
            w.command(Command::Accept(call, relay(ANSWER)));
            w.command(Command::End(call, refusal(480, 16)));
        })
    }),
    ("up", || up(|_, _| None)),
    ("up, our offer is out", || up(offered)),
    ("up, our offer waits after 491", || {
        up(|w, b| {
            let invite = offered(w, b)?;
            b.reply(w, &invite, 491, &[], "");
            None
        })
    }),
    ("up, the peer's offer is open", || {
        up(|w, b| {
            b.request(w, "INVITE", &[], HOLD);
            b.expect(w, 100);
            None
        })
    }),
    ("up, the peer wants the call elsewhere", || {
        up(|w, b| {
            b.request(w, "REFER", &["Refer-To: <sip:2003@h>"], "");
            None
        })
    }),
    ("over", || {
        up(|w, b| {
            b.request(w, "BYE", &[], "");
            None
        })
    }),
];

fn calling(step: fn(&mut World, &mut Ua, &Request)) -> Scene {
    let (mut world, mut peer) = (World::new(), Ua::new("203.0.113.2:5060"));
    world.invite(&peer, Some(relay(OFFER)));
    let invite = peer.take(&mut world, Method::Invite);
    step(&mut world, &mut peer, &invite);
    Scene { world, peer, call: CALL, asked: Some(invite) }
}

fn late_offer() -> Scene {
    let (mut world, mut peer) = (World::new(), Ua::new("203.0.113.2:5060"));
    world.invite(&peer, None);
    let invite = peer.take(&mut world, Method::Invite);
    peer.reply(&mut world, &invite, 200, &[], OFFER);
    Scene { world, peer, call: CALL, asked: Some(invite) }
}

fn called(headers: &[&str], step: fn(&mut World, &mut Ua, InviteHandle)) -> Scene {
    let (mut world, mut peer) = (World::new(), Ua::new("203.0.113.1:5060"));
    peer.request(&mut world, "INVITE", headers, OFFER);
    peer.expect(&mut world, 100);
    let call = match world.event() {
        Event::Incoming { call, .. } => call,
        other => panic!("{other:?}"),
    };
    step(&mut world, &mut peer, call);
    if let Some(Message::Response(response)) = world.inboxes.get(&peer.hop.remote).and_then(|i| i.back()) {
        peer.remote_tag = response.headers.to_tag().map(Into::into);
    }
    Scene { world, peer, call, asked: None }
}

fn up(step: fn(&mut World, &mut Ua) -> Option<Request>) -> Scene {
    let (mut world, mut peer) = (World::new(), Ua::new("203.0.113.2:5060"));
    peer.answered(&mut world, &["Allow: INVITE, UPDATE"]);
    peer.cseq = 10;
    let asked = step(&mut world, &mut peer);
    Scene { world, peer, call: CALL, asked }
}

fn offered(w: &mut World, b: &mut Ua) -> Option<Request> {
    w.command(Command::Offer(CALL, Some(relay(HOLD))));
    Some(b.take(w, Method::Invite))
}

type Happening = (&'static str, fn(&mut Scene));

fn request(scene: &mut Scene, method: &str, headers: &[&str], body: &str) {
    scene.peer.request(&mut scene.world, method, headers, body);
}

fn reply(scene: &mut Scene, status: u16, headers: &[&str], body: &str) {
    if let Some(asked) = scene.asked.take() {
        scene.peer.reply(&mut scene.world, &asked, status, headers, body);
    }
}

fn command(scene: &mut Scene, command: fn(InviteHandle) -> Command) {
    let command = command(scene.call);
    scene.world.command(command);
}

const EVENTS: &[Happening] = &[
    ("peer: INVITE with offer", |s| request(s, "INVITE", &[], HOLD)),
    ("peer: INVITE without offer", |s| request(s, "INVITE", &[], "")),
    ("peer: UPDATE with offer", |s| request(s, "UPDATE", &[], HOLD)),
    ("peer: UPDATE without offer", |s| request(s, "UPDATE", &[], "")),
    ("peer: PRACK of nothing", |s| request(s, "PRACK", &["RAck: 9 9 INVITE"], "")),
    ("peer: INFO with digit", |s| request(s, "INFO", &["Content-Type: application/dtmf"], "5")),
    ("peer: OPTIONS", |s| request(s, "OPTIONS", &[], "")),
    ("peer: REFER without a target", |s| request(s, "REFER", &[], "")),
    ("peer: REFER", |s| request(s, "REFER", &["Refer-To: <sip:2003@h>"], "")),
    ("peer: CANCEL", |s| request(s, "CANCEL", &[], "")),
    ("peer: ACK", |s| request(s, "ACK", &[], "")),
    ("peer: BYE", |s| request(s, "BYE", &[], "")),
    ("peer: 180", |s| reply(s, 180, &[], "")),
    ("peer: 183 with answer", |s| reply(s, 183, &[], ANSWER)),
    ("peer: 200 with answer", |s| reply(s, 200, &[], ANSWER)),
    ("peer: 200 without answer", |s| reply(s, 200, &[], "")),
    ("peer: 302", |s| reply(s, 302, &[], "")),
    ("peer: 422", |s| reply(s, 422, &["Min-SE: 2000"], "")),
    ("peer: 481", |s| reply(s, 481, &[], "")),
    ("peer: 486", |s| reply(s, 486, &[], "")),
    ("peer: 491", |s| reply(s, 491, &[], "")),
    ("node: Ring", |s| command(s, |call| Command::Ring(call, None))),
    ("node: Ring with media", |s| command(s, |call| Command::Ring(call, Some(relay(ANSWER))))),
    ("node: Accept", |s| command(s, |call| Command::Accept(call, relay(ANSWER)))),
    ("node: Refuse", |s| command(s, |call| Command::Refuse(call, refusal(486, 17)))),
    ("node: Offer", |s| command(s, |call| Command::Offer(call, Some(local())))),
    ("node: Offer asked for", |s| command(s, |call| Command::Offer(call, None))),
    ("node: Answer", |s| command(s, |call| Command::Answer(call, local()))),
    ("node: RefuseOffer", |s| command(s, |call| Command::RefuseOffer(call, 488))),
    ("node: Connected", |s| command(s, |call| Command::Connected(call, Identity::default()))),
    ("node: Digit", |s| command(s, |call| Command::Digit(call, '1', 100))),
    ("node: Referred", |s| command(s, |call| Command::Referred(call, 200))),
    ("node: End", |s| command(s, |call| Command::End(call, refusal(480, 16)))),
    ("clock: 0.6 s", |s| s.world.pass(Duration::from_millis(600))),
];

/// What was sent and said, shortly.
fn told(scene: &mut Scene) -> String {
    let mut text = String::new();
    for message in scene.world.inboxes.remove(&scene.peer.hop.remote).unwrap_or_default() {
        let (what, body) = match &message {
            Message::Request(request) => (request.method.to_string(), &request.body),
            Message::Response(response) => {
                let cseq = response.headers.cseq().map(|c| c.method.to_string()).unwrap_or_default();
                (format!("{}/{cseq}", response.status), &response.body)
            }
        };
        let _ = write!(text, " > {what}{}", if body.is_empty() { "" } else { "+body" });
    }
    for event in scene.world.events.drain(..) {
        let what = match event {
            Event::Registration { .. } => "Registration".into(),
            Event::Incoming { .. } => "Incoming".into(),
            Event::Ringing(_, sdp) => format!("Ringing{}", if sdp.is_some() { "+sdp" } else { "" }),
            Event::Answered(_, sdp) => format!("Answered{}", if sdp.is_some() { "+sdp" } else { "" }),
            Event::Refused { status, .. } => format!("Refused({status})"),
            Event::Ended { cause, .. } => format!("Ended({cause})"),
            Event::Offer(_, sdp) => format!("Offer{}", if sdp.is_some() { "+sdp" } else { "" }),
            Event::Answer(..) => "Answer".into(),
            Event::OfferRefused(_, status) => format!("OfferRefused({status})"),
            Event::Identified(..) => "Identified".into(),
            Event::Digit(_, digit, _) => format!("Digit({digit})"),
            Event::Referred(..) => "Referred".into(),
        };
        let _ = write!(text, " ! {what}");
    }
    if text.is_empty() { " -".into() } else { text }
}

#[test]
fn the_state_event_table() {
    let mut table = String::from("`>` is sent, `!` is told to the node.\n");
    for (state, scene) in STATES {
        let _ = writeln!(table, "\n{state}");
        for (event, happens) in EVENTS {
            let mut scene = scene();
            if event.starts_with("peer: ") && event.as_bytes()[6].is_ascii_digit() && scene.asked.is_none() {
                continue;
            }
            told(&mut scene);
            happens(&mut scene);
            let told = told(&mut scene);
            let _ = writeln!(table, "  {event:<28}{told}");
        }
    }
    insta::assert_snapshot!(table);
}
