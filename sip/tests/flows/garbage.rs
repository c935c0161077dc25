//! Whatever comes from a socket, in whatever order, is answered or dropped, and leaves nothing behind.

use crate::subscriptions::{EVENT, switch, watching};
use crate::world::*;
use proptest::prelude::*;
use sip::port::{Command, Event, Input, Waiting};
use std::time::Duration;

const METHODS: [&str; 10] =
    ["INVITE", "ACK", "BYE", "CANCEL", "UPDATE", "PRACK", "INFO", "OPTIONS", "REFER", "NONSENSE"];
const HEADERS: [&str; 14] = [
    "Require: 100rel",
    "Supported: 100rel, timer",
    "Require: x",
    "RAck: 1 1 INVITE",
    "Session-Expires: 1",
    "Session-Expires: 4294967295;refresher=uac",
    "Min-SE: 99999999999",
    "Content-Type: text/plain",
    "Allow: UPDATE",
    "Record-Route: <sip:203.0.113.7;lr>, <nonsense",
    "Reason: Q.850;cause=99999",
    "Max-Forwards: 0",
    "Refer-To: <sip:2003@h>",
    "Refer-To: <sip:2003@h?Replaces=x%3Bto-tag%3Dy%3Bfrom-tag%3Dz>",
];
const BODIES: [&str; 4] = ["", OFFER, HOLD, "nonsense"];

#[derive(Clone, Debug)]
enum Step {
    /// A request of the peer, in the dialog or not.
    Request { method: usize, headers: Vec<usize>, body: usize, in_dialog: bool, forget_cseq: bool },
    /// An answer to whatever the stack has asked last.
    Reply { status: u16, header: usize, body: usize, tag: bool },
    /// A command for the call that is there.
    Command(u8),
    /// Time passes.
    Wait(u64),
    /// Bytes of a good message with some of them changed.
    Bytes(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let headers = proptest::collection::vec(0..HEADERS.len(), 0..3);
    prop_oneof![
        4 => (0..METHODS.len(), headers, 0..BODIES.len(), any::<bool>(), proptest::bool::weighted(0.1)).prop_map(
            |(method, headers, body, in_dialog, forget_cseq)| Step::Request { method, headers, body, in_dialog, forget_cseq },
        ),
        4 => (
            prop_oneof![Just(100u16), Just(180), Just(183), Just(200), Just(302), Just(422), Just(481), Just(491), Just(603)],
            0..HEADERS.len(),
            0..BODIES.len(),
            any::<bool>(),
        )
            .prop_map(|(status, header, body, tag)| Step::Reply { status, header, body, tag }),
        4 => (0u8..13).prop_map(Step::Command),
        2 => (0u64..40_000).prop_map(Step::Wait),
        1 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Step::Bytes),
    ]
}

fn command(call: sip::InviteHandle, which: u8) -> Command {
    match which {
        0 => Command::Ring(call, None),
        1 => Command::Ring(call, Some(relay(ANSWER))),
        2 => Command::Accept(call, relay(ANSWER)),
        3 => Command::Accept(call, sip::port::Sdp::Relay(b"nonsense"[..].into(), None)),
        4 => Command::Refuse(call, refusal(486, 17)),
        5 => Command::Offer(call, Some(local())),
        6 => Command::Offer(call, None),
        7 => Command::Answer(call, local()),
        8 => Command::RefuseOffer(call, 488),
        9 => Command::Connected(call, sip::port::Identity::default()),
        10 => Command::Digit(call, '\n', u32::MAX),
        11 => Command::Referred(call, 486),
        _ => Command::End(call, refusal(480, 16)),
    }
}

fn take_step(w: &mut World, ua: &mut Ua, call: sip::InviteHandle, step: Step) {
    match step {
        Step::Request { method, headers, body, in_dialog, forget_cseq } => {
            let tag = ua.remote_tag.clone();
            if !in_dialog {
                ua.remote_tag = None;
            }
            if forget_cseq {
                ua.cseq = 0;
            }
            let headers: Vec<&str> = headers.into_iter().map(|h| HEADERS[h]).collect();
            ua.request(w, METHODS[method], &headers, BODIES[body]);
            ua.remote_tag = ua.remote_tag.take().or(tag);
        }
        Step::Reply { status, header, body, tag } => {
            let inbox = w.inboxes.remove(&ua.hop.remote).unwrap_or_default();
            let asked = inbox.into_iter().rev().find_map(|message| match message {
                sip::message::Message::Request(request) => Some(request),
                sip::message::Message::Response(response) => {
                    ua.remote_tag = response.headers.to_tag().map(Into::into).or(ua.remote_tag.take());
                    None
                }
            });
            if let Some(request) = asked {
                let tag = if tag { "one" } else { "two" };
                ua.reply_as(w, &request, tag, status, &[HEADERS[header], "RSeq: 1"], BODIES[body]);
            }
        }
        Step::Command(which) => w.command(command(call, which)),
        Step::Wait(milliseconds) => w.pass(Duration::from_millis(milliseconds)),
        Step::Bytes(bytes) => w.input(Input::Received { hop: ua.hop, bytes }),
    }
}

/// The events of a call obey the door: one end, and nothing after it.
fn check(w: &mut World, call: sip::InviteHandle, ended_by_node: bool) {
    let mut over = 0;
    for event in w.events.drain(..) {
        let of_call = match &event {
            Event::Refused { call, .. } | Event::Ended { call, .. } => {
                over += usize::from(*call == CALL);
                *call
            }
            Event::Ringing(call, _) | Event::Answered(call, _) | Event::Digit(call, _, _) => *call,
            Event::Offer(call, _) | Event::Answer(call, _) | Event::OfferRefused(call, _) => *call,
            Event::Incoming { call, .. } | Event::Identified(call, _) | Event::Referred(call, _) => *call,
            Event::Registration { .. } => panic!("nobody registers"),
        };
        assert!(of_call != call || over <= 1, "{event:?} after the end");
    }
    assert!(over <= 1 && (over == 1 || ended_by_node));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_placed_call_ends_once_whatever_the_peer_does(steps in proptest::collection::vec(step(), 0..30)) {
        let (mut w, mut b) = (World::new(), Ua::new("203.0.113.2:5060"));
        w.invite(&b, Some(relay(OFFER)));
        let mut ended = false;
        for step in steps {
            ended |= matches!(step, Step::Command(4 | 12..));
            take_step(&mut w, &mut b, CALL, step);
        }
        // Whatever else the peer began is ended by the clock; nobody answers any more.
        let handles: Vec<_> = w.events.iter().filter_map(|e| match e {
            Event::Incoming { call, .. } => Some(*call),
            _ => None,
        }).collect();
        for handle in handles {
            w.command(Command::End(handle, refusal(480, 16)));
        }
        w.seconds(90_000);
        check(&mut w, CALL, ended);
        prop_assert!(w.stack.is_quiet(), "{:?}", w.stack.counts());
    }

    #[test]
    fn a_call_that_comes_leaves_nothing_whatever_the_peer_does(steps in proptest::collection::vec(step(), 0..30)) {
        let (mut w, mut a) = (World::new(), Ua::new("203.0.113.1:5060"));
        a.request(&mut w, "INVITE", &["Supported: 100rel, timer", "Allow: UPDATE"], OFFER);
        let call = match w.event() {
            Event::Incoming { call, .. } => call,
            other => panic!("{other:?}"),
        };
        for step in steps {
            take_step(&mut w, &mut a, call, step);
        }
        let others: Vec<_> = w.events.drain(..).filter_map(|e| match e {
            Event::Incoming { call, .. } => Some(call),
            _ => None,
        }).collect();
        for handle in others.into_iter().chain([call]) {
            w.command(Command::End(handle, refusal(480, 16)));
        }
        w.seconds(90_000);
        prop_assert!(w.events.is_empty(), "{:?}", w.events);
        prop_assert!(w.stack.is_quiet(), "{:?}", w.stack.counts());
    }

    #[test]
    fn a_subscription_leaves_nothing_whatever_its_phone_does(
        steps in proptest::collection::vec((step(), 0..6u8), 0..30),
    ) {
        let mut w = World::with_account();
        let mut phone = watching(&mut w, "192.0.2.1:5060");
        let tag = phone.remote_tag.clone();
        for (step, event) in steps {
            match event {
                0 => switch(&mut w, Waiting::Yes),
                1 => switch(&mut w, Waiting::No),
                2 => phone.request(&mut w, "SUBSCRIBE", &[EVENT], ""),
                3 => phone.request(&mut w, "SUBSCRIBE", &[EVENT, "Expires: 0"], ""),
                _ => take_step(&mut w, &mut phone, CALL, step),
            }
            phone.remote_tag.clone_from(&tag);
        }
        phone.forget(&mut w);
        w.seconds(90_000);
        prop_assert_eq!(w.stack.counts().subscriptions, 0);
        prop_assert!(w.stack.is_quiet(), "{:?}", w.stack.counts());
    }

    #[test]
    fn any_bytes_on_any_transport(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        transport in prop_oneof![Just(sip::Transport::Udp), Just(sip::Transport::Tcp)],
    ) {
        let mut w = World::new();
        let ua = Ua::over(transport, "192.0.2.1:5060", None);
        w.input(Input::Received { hop: ua.hop, bytes });
        w.all_quiet();
    }
}
