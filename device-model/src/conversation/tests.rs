//! Calls of every kind, built at random: pairs that are paired anew, mixes and those who wait, with far ends that answer
//! offers sooner, later or never. The tables agree after every step, every end comes to know its present peer, and when all
//! have gone nothing is left.

use super::*;
use crate::ids::SessionId;
use crate::media::{AudioLine, Codec, Description, Direction, Format, MediaTermination, Profile};
use crate::plan::{DeviceKind, DevicePlan, Identity, NumberPlan, Plan};
use crate::port::{EndCommand, Input, Origin, Output, Request, Signal};
use crate::{RequestToken, view::LegState};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

const PHONES: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
const APP: SessionId = SessionId(1);

fn plan() -> Plan {
    let mut plan = Plan::default();
    let kinds = PHONES.map(|name| (name, DeviceKind::Phone)).into_iter().chain([("P", DeviceKind::CtiPort)]);
    for (index, (name, kind)) in kinds.enumerate() {
        let dn = format!("200{index}");
        plan.numbers.push(NumberPlan::plain(&dn.as_str().into()));
        plan.devices.push(DevicePlan::plain(name.into(), kind, vec![dn.into()]));
    }
    plan
}

fn local(port: u16) -> MediaTermination {
    let address = format!("10.0.9.1:{port}").parse().expect("an address");
    MediaTermination::Static { address, codecs: vec![Codec::Pcmu], srtp: vec![] }
}

fn description(host: usize, direction: Direction) -> Description {
    let line = AudioLine {
        place: 0,
        profile: Profile::Plain,
        address: format!("10.0.1.{host}:4000").parse().expect("an address"),
        formats: [Format { payload_type: 0, codec: Codec::Pcmu }].into_iter().collect(),
        dtmf_payload_type: None,
        direction,
        packet_ms: 20,
        encrypted: false,
    };
    Description { audio: [line].into_iter().collect(), other_media: false, text: Arc::from(vec![]) }
}

struct Calls {
    control: CallControl,
    now: Instant,
    /// The far ends that are there, and whether they owe an answer.
    far: BTreeMap<EndId, bool>,
    said: Vec<String>,
}

impl Calls {
    fn new() -> Self {
        let identity = Identity { node: "cm1".into(), incarnation: 1 };
        let control = CallControl::new(identity, Arc::new(plan()));
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let mut calls = Self { control, now, far: BTreeMap::new(), said: Vec::new() };
        PHONES.iter().for_each(|phone| calls.input(Input::Registered((*phone).into())));
        let open = |device: &str, media| Request::OpenDevice { device: device.into(), media };
        calls.request(open("P", Some(local(7000))));
        calls.request(open("A", None));
        calls
    }

    fn request(&mut self, request: Request) {
        self.input(Input::Request { session: APP, token: RequestToken(1), request });
    }

    fn input(&mut self, input: Input) {
        self.said.push(format!("> {input:?}"));
        let mut out = Vec::new();
        self.control.handle(self.now, input, &mut out);
        self.hear(&out);
    }

    /// Something that no request reaches yet.
    fn act(&mut self, what: &str, act: impl FnOnce(&mut CallControl)) {
        self.said.push(format!("> {what}"));
        act(&mut self.control);
        let out = std::mem::take(&mut self.control.out);
        self.hear(&out);
    }

    fn hear(&mut self, out: &[Output]) {
        for output in out {
            self.said.push(format!("    {output:?}"));
            let Output::End(end, command) = output else { continue };
            match command {
                EndCommand::Call { .. } => drop(self.far.insert(*end, false)),
                EndCommand::Reject { .. } | EndCommand::Release { .. } => drop(self.far.remove(end)),
                EndCommand::Offer(_) => {
                    let owes = self.far.insert(*end, true);
                    assert_eq!(owes, Some(false), "{end} is offered something while it owes an answer");
                }
                EndCommand::Answer { .. }
                | EndCommand::Alert { .. }
                | EndCommand::AnswerOffer(_)
                | EndCommand::RejectOffer(_)
                | EndCommand::Connected(_)
                | EndCommand::Digit { .. } => {}
            }
        }
        if let Err(wrong) = self.control.check() {
            panic!("{wrong}\n{}", self.said.join("\n"));
        }
    }

    fn signal(&mut self, end: EndId, signal: Signal) {
        self.input(Input::Signal(end, signal));
    }

    /// A phone calls another, or the port, and is answered.
    fn call(&mut self, from: usize, to: usize) {
        let end = self.control.new_end_id();
        self.far.insert(end, false);
        let before = self.far.len();
        self.input(Input::IncomingCall {
            end,
            origin: Origin::Phone { device: PHONES[from % 6].into(), dn: None },
            dialled: format!("200{}", to % 7).as_str().into(),
            calling: Default::default(),
            diverted: None,
            offer: Some(description(from % 6, Direction::SendReceive)),
            hops: 0,
        });
        let called = self.far.keys().next_back().copied().filter(|_| self.far.len() > before);
        match called {
            Some(called) => {
                let media = Some(description(to % 7, Direction::SendReceive));
                self.signal(called, Signal::Answered { media });
            }
            None => {
                let legs = self.control.legs_of_device(&"P".into());
                let offered = legs.iter().find(|leg| leg.state == LegState::Offering).map(|leg| leg.leg);
                offered.into_iter().for_each(|leg| self.request(Request::Answer { leg }));
            }
        }
    }

    fn answer(&mut self, end: EndId) {
        if self.far.get(&end) == Some(&true) {
            self.far.insert(end, false);
            let host = usize::try_from(end.0 % 100).expect("small");
            self.signal(end, Signal::Answer(description(host, Direction::SendReceive)));
        }
    }

    fn answer_all(&mut self) {
        while let Some((end, _)) = self.far.iter().find(|(_, owes)| **owes) {
            self.answer(*end);
        }
    }

    /// The legs of the calls in which nobody is being looked for, by call.
    fn legs(&self) -> Vec<Vec<LegId>> {
        let mut calls: Vec<&Call> = self.control.calls.values().collect();
        calls.sort_by_key(|call| call.id);
        let talking = calls.into_iter().filter(|call| !call.conversation.is_setup());
        talking.map(|call| call.legs(&self.control.attempts, &self.control.ends).to_vec()).collect()
    }

    /// Each end of the signalling has been told of its peer, and of no one else.
    fn all_know_their_peers(&self) {
        for (x, y) in self.control.calls.values().flat_map(Call::links) {
            for (end, peer) in [(x, y), (y, x)] {
                let told = self.control.ends.get(end).and_then(End::dialog).map(|dialog| dialog.told);
                let right = told.is_none_or(|told| told.is_some_and(|told| told.peer == peer));
                assert!(right, "{end} talks to {peer} and knows {told:?}\n{}", self.said.join("\n"));
            }
        }
    }
}

fn pick<T: Copy>(of: &[T], which: u8) -> Option<T> {
    of.get(usize::from(which) % of.len().max(1)).copied()
}

fn step(calls: &mut Calls, (what, x, y): (u8, u8, u8)) {
    let legs = calls.legs();
    let all: Vec<LegId> = legs.iter().flatten().copied().collect();
    match what % 8 {
        0..=2 => calls.call(x.into(), y.into()),
        3 => {
            // One leg of each of two calls, as a transfer leaves them.
            let (Some(x), Some(y)) = (pick(&all, x), pick(&all, y)) else { return };
            let call_of = |leg| legs.iter().position(|legs| legs.contains(&leg));
            if call_of(x) != call_of(y) {
                calls.act("pair anew", |control| control.pair_anew(x, y));
            }
        }
        4 => {
            let mixed: Vec<LegId> =
                all.iter().copied().skip(usize::from(x % 3)).take(3 + usize::from(y % 3)).collect();
            if mixed.len() >= 3 {
                calls.act("mix", |control| control.mix(&mixed, &local(7100)));
            }
        }
        5 => {
            let Some(leg) = pick(&all, x) else { return };
            calls.act("wait", |control| control.wait(leg, local(7200)));
        }
        6 => {
            let ends: Vec<EndId> = calls.far.keys().copied().collect();
            pick(&ends, x).into_iter().for_each(|end| calls.answer(end));
        }
        _ => {
            let ends: Vec<EndId> = calls.far.keys().copied().collect();
            let Some(end) = pick(&ends, x) else { return };
            calls.far.remove(&end);
            calls.signal(end, Signal::Released { cause: Cause::NORMAL_CLEARING });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ends_are_paired_anew_mixed_and_wait_and_nothing_is_left(
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 1..80),
    ) {
        let mut calls = Calls::new();
        for one in steps {
            step(&mut calls, one);
        }
        calls.answer_all();
        calls.all_know_their_peers();
        while let Some((end, _)) = calls.far.pop_first() {
            calls.signal(end, Signal::Released { cause: Cause::NORMAL_CLEARING });
        }
        calls.input(Input::SessionEnded(APP));
        prop_assert!(calls.control.is_quiet(), "left: {:?}", calls.control.counts());
        prop_assert!(calls.control.ends.is_empty());
    }
}

#[test]
fn a_conference_of_three_is_a_plain_call_when_one_has_gone() {
    let mut calls = Calls::new();
    calls.call(0, 1);
    calls.call(2, 3);
    let legs = calls.legs();
    let mixed = [legs[0][0], legs[0][1], legs[1][0]];
    calls.act("mix", |control| control.mix(&mixed, &local(7100)));
    calls.answer_all();
    assert_eq!(calls.legs(), [mixed.to_vec()], "one call, and who was not asked has gone");
    assert!(calls.control.leg(mixed[0]).expect("a leg").conference);
    let gone = calls.control.end_of_leg(mixed[2]).expect("an end");
    calls.far.remove(&gone);
    calls.signal(gone, Signal::Released { cause: Cause::NORMAL_CLEARING });
    calls.answer_all();
    calls.all_know_their_peers();
    let view = calls.control.leg(mixed[0]).expect("a leg");
    assert_eq!(
        (view.conference, view.connected.map(|party| party.number.to_string())),
        (false, Some("2001".into()))
    );
}

#[test]
fn who_waits_is_told_of_the_source_alone_and_comes_back_to_a_pair() {
    let mut calls = Calls::new();
    calls.call(0, 1);
    let legs = calls.legs();
    calls.act("wait", |control| control.wait(legs[0][0], local(7200)));
    let said = calls.said.join("\n");
    assert!(said.contains("10.0.9.1:7200") && said.contains("SendOnly"), "{said}");
    calls.answer_all();
    assert_eq!(calls.legs(), [vec![legs[0][0]]]);
    calls.call(2, 3);
    let other = calls.legs()[1][1];
    calls.act("pair anew", |control| control.pair_anew(legs[0][0], other));
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.legs(), [vec![legs[0][0], other]]);
}
