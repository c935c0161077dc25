//! Calls of every kind, built at random: pairs that are paired anew, mixes and those who wait, with far ends that answer
//! offers sooner, later or never. The tables agree after every step, every end comes to know its present peer, and when all
//! have gone nothing is left.

use super::*;
use crate::RequestToken;
use crate::ids::{OwnerEpoch, SessionId};
use crate::media::{AudioLine, Codec, Crypto, Description, Direction, Format, MediaTermination, Profile};
use crate::plan::{DeviceKind, DevicePlan, Identity, NumberPlan, Plan};
use crate::port::{EndCommand, Input, Origin, Output, Request, Signal, TransferTo};
use crate::standing::Standing;
use crate::view::{LegState, LegView};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

const PHONES: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
const APP: SessionId = SessionId(1);

/// Where an end is that moved away from here.
fn elsewhere(end: EndId) -> RemotePlace {
    RemotePlace { node: "cm2".into(), end: EndId(end.0 + 1000), epoch: OwnerEpoch(2) }
}

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
        crypto: Crypto::none(),
    };
    Description {
        audio: [line].into_iter().collect(),
        other_media: false,
        other_clear: false,
        over_tls: false,
        text: Arc::from(vec![]),
    }
}

struct Calls {
    control: CallControl,
    /// What the records say.
    standing: Standing,
    now: Instant,
    /// The far ends that are there, and whether they owe an answer.
    far: BTreeMap<EndId, bool>,
    said: Vec<String>,
    /// Requests, and their replies.
    asked: u64,
    answered: u64,
}

impl Calls {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = plan();
        change(&mut plan);
        let identity = Identity { node: "cm1".into(), incarnation: 1 };
        let control = CallControl::new(identity, Arc::new(plan));
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let (far, said) = (BTreeMap::new(), Vec::new());
        let standing = control.standing();
        let mut calls = Self { control, standing, now, far, said, asked: 0, answered: 0 };
        PHONES.iter().for_each(|phone| calls.input(Input::Registered((*phone).into())));
        let open = |device: &str, media| Request::OpenDevice { device: device.into(), media };
        calls.request(open("P", Some(local(7000))));
        calls.request(open("A", None));
        calls
    }

    fn request(&mut self, request: Request) {
        self.asked += 1;
        let token = RequestToken(self.asked);
        self.input(Input::Request { session: APP, token, owner: OwnerEpoch::FIRST, request });
    }

    fn redirect(&mut self, leg: LegId, to: &str) {
        let (destination, keep_on_failure) = (to.into(), true);
        let (calling_number, original_called) = (None, None);
        self.request(Request::Redirect {
            leg,
            destination,
            calling_number,
            original_called,
            keep_on_failure,
        });
    }

    /// In the call of the first.
    fn pair_anew(&mut self, x: LegId, y: LegId, why: Reason, by: Option<LegId>) {
        self.act("pair anew", |control| {
            let by = by.and_then(|by| control.calls.leg(by)).map(|by| by.party.clone());
            let Some(into) = control.calls.leg(x).map(|leg| leg.call) else { return };
            control.pair_anew(x, y, &Joining { into, why, by });
            control.settle(into);
        });
    }

    /// The leg's end gets another place; what it had there is over.
    fn move_to_another_node(&mut self, leg: LegId) {
        let end = self.control.new_end_id();
        let there = description(leg.0 as usize % 100, Direction::SendReceive);
        self.change_end(leg, end, NewEnd::Remote(elsewhere(end), there));
    }

    /// The leg's phone goes on at another dialog.
    fn replace_dialog(&mut self, leg: LegId) {
        let end = self.control.new_end_id();
        let offer = description(leg.0 as usize % 100, Direction::SendReceive);
        self.change_end(leg, end, NewEnd::Dialog(offer));
    }

    fn change_end(&mut self, leg: LegId, end: EndId, new: NewEnd) {
        self.far.insert(end, false);
        self.act("another end", |control| control.give_end(leg, end, new));
        if self.control.leg_of_end(end).is_none() {
            self.far.remove(&end);
        }
    }

    fn is_at_port(&self, leg: LegId) -> bool {
        self.control.device_of_leg(leg).is_some_and(|device| device.as_str() == "P")
    }

    fn let_time_pass(&mut self) {
        let Some(at) = self.control.next_timeout() else { return };
        self.now = self.now.max(at);
        self.input(Input::Timeout);
    }

    fn hang_up(&mut self, leg: LegId) {
        let gone = self.control.end_of_leg(leg).expect("an end");
        self.far.remove(&gone);
        self.signal(gone, Signal::Released { cause: Cause::NORMAL_CLEARING });
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
            self.answered += u64::from(matches!(output, Output::Reply(..)));
            if let Output::Transition(record) = output
                && let Err(wrong) = self.standing.apply(record)
            {
                panic!("{wrong}\n{}", self.said.join("\n"));
            }
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
                | EndCommand::Transferred(_)
                | EndCommand::Digit { .. } => {}
            }
        }
        let checked = self.control.check().and_then(|()| self.control.check_records(&self.standing));
        if let Err(wrong) = checked {
            panic!("{wrong}\n{}", self.said.join("\n"));
        }
    }

    fn signal(&mut self, end: EndId, signal: Signal) {
        self.input(Input::Signal(end, signal));
    }

    /// A phone dials.
    fn dial(&mut self, from: usize, to: usize) -> EndId {
        let end = self.control.new_end_id();
        self.far.insert(end, false);
        self.input(Input::IncomingCall {
            end,
            origin: Origin::Phone { device: PHONES[from % 6].into(), dn: None },
            dialled: format!("200{}", to % 7).as_str().into(),
            calling: Default::default(),
            diverted: None,
            offer: Some(description(from % 6, Direction::SendReceive)),
            hops: 0,
        });
        end
    }

    /// A phone calls another, or the port, and is answered.
    fn call(&mut self, from: usize, to: usize) {
        let caller = self.dial(from, to);
        let called = self.far.keys().next_back().copied().filter(|called| *called > caller);
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
        let mut calls: Vec<&Call> = self.control.calls.all().collect();
        calls.sort_by_key(|call| call.id);
        let talking = calls.into_iter().filter(|call| !call.conversation.is_setup());
        talking.map(|call| self.control.calls.legs_of(call).to_vec()).collect()
    }

    /// Each of two that talk, by a relay or without, sees the other as the one whom it is connected with.
    fn those_who_talk_see_each_other(&self) {
        for call in self.control.calls.all().filter(|call| call.left.is_none()) {
            let pair = match &call.conversation {
                Conversation::Pair(x, y) => [*x, *y],
                Conversation::Relayed(relay) => relay.pair.map(|(end, _)| end),
                Conversation::Setup(_) | Conversation::Mixed(_) | Conversation::Waiting(_) => continue,
            };
            let [x, y] = pair.map(|end| self.control.leg_of_end(end).expect("a leg"));
            for (leg, other) in [(x, y), (y, x)] {
                let connected = self.control.leg(leg).expect("a leg").connected;
                let party = self.control.calls.find_leg(other).map(|other| &other.party);
                assert_eq!(connected.as_ref(), party, "{leg} talks to {other}\n{}", self.said.join("\n"));
            }
        }
    }

    /// Each end of the signalling has been told of its peer, and of no one else.
    fn all_know_their_peers(&self) {
        for (x, y) in self.control.calls.all().flat_map(Call::links) {
            for (end, peer) in [(x, y), (y, x)] {
                let told = self.control.calls.find_end(end).and_then(End::dialog).map(|dialog| dialog.told());
                let right = told.is_none_or(|told| told.is_some_and(|told| told.peer == peer));
                assert!(right, "{end} talks to {peer} and knows {told:?}\n{}", self.said.join("\n"));
            }
        }
    }
}

fn pick<T: Copy>(of: &[T], which: u8) -> Option<T> {
    of.get(usize::from(which) % of.len().max(1)).copied()
}

/// What no request reaches yet: calls are transferred, joined, parked, recorded, and ends move.
fn act(calls: &mut Calls, (what, x, y): (u8, u8, u8)) {
    let legs = calls.legs();
    let all: Vec<LegId> = legs.iter().flatten().copied().collect();
    let call_of = |leg| legs.iter().position(|legs| legs.contains(&leg));
    match what % 6 {
        0 => {
            // One leg of each of two calls, as a transfer leaves them.
            let (Some(x), Some(y)) = (pick(&all, x), pick(&all, y)) else { return };
            if call_of(x) != call_of(y) {
                let by = legs[call_of(y).expect("one of them")].iter().copied().find(|leg| *leg != y);
                calls.pair_anew(x, y, Reason::Transfer, by);
            }
        }
        1 => {
            let mixed: Vec<LegId> =
                all.iter().copied().skip(usize::from(x % 3)).take(3 + usize::from(y % 3)).collect();
            if mixed.len() >= 3 {
                calls.act("mix", |control| control.mix(&mixed, &local(7100)));
            }
        }
        2 => {
            let Some(leg) = pick(&all, x) else { return };
            let lot = (y % 2 == 0).then(|| Party { number: "4001".into(), ..Party::default() });
            calls.act("wait", |control| control.wait(leg, &local(7200), Reason::Park, lot));
        }
        3 => {
            // Two that talk, and one of another call hears them.
            let pairs: Vec<[LegId; 2]> = legs.iter().filter_map(|of| of.as_slice().try_into().ok()).collect();
            let (Some(pair), Some(hears)) = (pick(&pairs, x), pick(&all, y)) else { return };
            if !pair.contains(&hears) {
                calls.act("relay", |control| control.relay(pair, hears, &local(7300)));
            }
        }
        4 => pick(&all, x).into_iter().for_each(|leg| calls.move_to_another_node(leg)),
        _ => {
            let phones: Vec<LegId> = all.into_iter().filter(|leg| !calls.is_at_port(*leg)).collect();
            pick(&phones, x).into_iter().for_each(|leg| calls.replace_dialog(leg));
        }
    }
}

/// The port is called and consults, and who is called answers or does not.
fn consult(calls: &mut Calls, x: u8, y: u8) {
    let connected = |calls: &Calls| {
        let legs = calls.control.legs_of_device(&"P".into());
        legs.iter().filter(|leg| leg.state == LegState::Connected).map(|leg| leg.leg).collect::<Vec<_>>()
    };
    if connected(calls).is_empty() {
        calls.call(x.into(), 6);
    }
    let Some(leg) = pick(&connected(calls), x) else { return };
    let before = calls.far.keys().next_back().copied();
    calls.request(Request::Consult { leg, destination: format!("200{}", y % 6).as_str().into() });
    let called = calls.far.keys().next_back().copied().filter(|called| Some(*called) > before);
    let Some(called) = called else { return };
    match y % 3 {
        0 => calls.signal(called, Signal::Ringing { early: None }),
        1 => {
            let media = Some(description(usize::from(y) % 6, Direction::SendReceive));
            calls.signal(called, Signal::Answered { media });
        }
        _ => {}
    }
}

/// A phone's person sends a call away, or brings two together.
fn person_transfers(calls: &mut Calls, x: u8, y: u8) {
    let ends: Vec<EndId> = calls.far.keys().copied().collect();
    let Some(end) = pick(&ends, x) else { return };
    let others: Vec<EndId> = {
        let device = |end: &EndId| {
            let leg = calls.control.leg_of_end(*end)?;
            calls.control.device_of_leg(leg).cloned()
        };
        ends.iter().copied().filter(|other| *other != end && device(other) == device(&end)).collect()
    };
    calls.signal(
        end,
        Signal::Transfer(match pick(&others, y) {
            Some(other) if !y.is_multiple_of(4) => TransferTo::End(other),
            Some(_) | None => TransferTo::Number(format!("200{}", y % 7).as_str().into()),
        }),
    );
}

/// Two legs of the port, or of a phone, are transferred.
fn transfer(calls: &mut Calls, x: u8, y: u8) {
    let legs = |device: &str| {
        let legs = calls.control.legs_of_device(&device.into());
        legs.iter().map(|leg| leg.leg).collect::<Vec<_>>()
    };
    let several = if legs("P").len() > 1 { legs("P") } else { legs("A") };
    let (Some(leg), Some(with)) = (pick(&several, x), pick(&several, x.wrapping_add(1 + y % 2))) else {
        return;
    };
    calls.request(Request::Transfer { leg, with });
}

fn step(calls: &mut Calls, (what, x, y): (u8, u8, u8)) {
    let ends: Vec<EndId> = calls.far.keys().copied().collect();
    let of_application = || {
        let legs = ["A", "P"].map(|device| calls.control.legs_of_device(&device.into()));
        pick(&legs.concat().iter().map(|leg| leg.leg).collect::<Vec<_>>(), x)
    };
    match what % 20 {
        19 => person_transfers(calls, x, y),
        16 => consult(calls, x, y),
        17 | 18 => transfer(calls, x, y),
        0..=2 => calls.call(x.into(), y.into()),
        3..=8 => act(calls, (what - 3, x, y)),
        9 => pick(&ends, x).into_iter().for_each(|end| calls.answer(end)),
        10 => {
            // It answers a call, or it says something that is late.
            let Some(end) = pick(&ends, x) else { return };
            let media = Some(description(usize::from(y), Direction::SendReceive));
            calls.signal(end, Signal::Answered { media });
        }
        11 => {
            let Some(leg) = of_application() else { return };
            calls.request(if y % 2 == 0 { Request::Hold { leg } } else { Request::Retrieve { leg } });
        }
        12 => {
            let Some(leg) = of_application() else { return };
            let destination = format!("200{}", y % 7).as_str().into();
            calls.request(match y % 4 {
                0 => Request::BlindTransfer { leg, destination },
                _ => Request::Redirect {
                    leg,
                    destination,
                    calling_number: None,
                    original_called: None,
                    keep_on_failure: y % 3 > 0,
                },
            });
        }
        13 => {
            let Some(end) = pick(&ends, x) else { return };
            calls.signal(end, Signal::Digit { digit: '5', duration_ms: 100 });
        }
        14 => calls.let_time_pass(),
        _ => {
            let Some(end) = pick(&ends, x) else { return };
            calls.far.remove(&end);
            calls.signal(end, Signal::Released { cause: Cause::NORMAL_CLEARING });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn calls_of_every_kind_agree_with_themselves_and_leave_nothing(
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 1..40),
    ) {
        let mut calls = Calls::new();
        for one in steps {
            step(&mut calls, one);
        }
        calls.answer_all();
        calls.all_know_their_peers();
        calls.those_who_talk_see_each_other();
        while let Some((end, _)) = calls.far.pop_first() {
            calls.signal(end, Signal::Released { cause: Cause::NORMAL_CLEARING });
        }
        calls.input(Input::SessionEnded(APP));
        prop_assert!(calls.control.is_quiet(), "left: {:?}", calls.control.counts());
        prop_assert!(calls.control.calls.end_count() == 0);
        prop_assert_eq!(calls.asked, calls.answered, "each request has one answer");
    }
}

/// 2,000 unless `PROPTEST_CASES` says how many.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

fn numbers(view: &LegView) -> [Option<String>; 4] {
    let shown = |party: &Party| party.number.to_string();
    [
        Some(shown(&view.calling)),
        Some(shown(&view.called)),
        view.last_redirecting.as_ref().map(shown),
        view.connected.as_ref().map(shown),
    ]
}

fn some(texts: [&str; 4]) -> [Option<String>; 4] {
    texts.map(|text| (!text.is_empty()).then(|| text.to_owned()))
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
    let views = mixed.map(|leg| calls.control.leg(leg).expect("a leg"));
    assert!(views.iter().all(|view| view.conference));
    assert_eq!(views.map(|view| view.reason), [Reason::Normal, Reason::Normal, Reason::Conference]);
    calls.hang_up(mixed[2]);
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
    let parked = legs[0][0];
    let lot = Party { number: "4001".into(), ..Party::default() };
    calls.act("wait", |control| control.wait(parked, &local(7200), Reason::Park, Some(lot)));
    let said = calls.said.join("\n");
    assert!(said.contains("10.0.9.1:7200") && said.contains("SendOnly"), "{said}");
    calls.answer_all();
    assert_eq!(calls.legs(), [vec![parked]]);
    let view = calls.control.leg(parked).expect("a leg");
    assert_eq!((numbers(&view), view.reason), (some(["2000", "2001", "", "4001"]), Reason::Park));
    calls.call(2, 3);
    let other = calls.legs()[1][1];
    calls.pair_anew(parked, other, Reason::Unpark, None);
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.legs(), [vec![parked, other]]);
}

/// A calls B, who calls C and brings the two together.
#[test]
fn each_of_two_who_were_transferred_sees_its_own_parties() {
    let mut calls = Calls::new();
    calls.call(0, 1);
    calls.call(1, 2);
    let legs = calls.legs();
    let ([a, b], [b_again, c]) = ([legs[0][0], legs[0][1]], [legs[1][0], legs[1][1]]);
    let user_data = BTreeMap::from([("case".to_owned(), "7".to_owned())]);
    calls.request(Request::SetUserData { leg: a, user_data: user_data.clone() });
    calls.pair_anew(a, c, Reason::Transfer, Some(b_again));
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.legs(), [vec![a, c]], "{b} has gone");
    let [at_a, at_c] = [a, c].map(|leg| calls.control.leg(leg).expect("a leg"));
    assert_eq!(numbers(&at_a), some(["2000", "2001", "", "2002"]));
    assert_eq!(numbers(&at_c), some(["2000", "2002", "2001", "2000"]));
    assert_eq!((at_a.reason, at_c.reason, at_c.call), (Reason::Transfer, Reason::Transfer, at_a.call));
    assert_eq!(*at_c.user_data, user_data, "it is the call that survives");
    // The application sends the other on, and it comes to nothing: each sees what it saw.
    calls.redirect(a, "2009");
    let now = [a, c].map(|leg| calls.control.leg(leg).expect("a leg"));
    assert_eq!(now.each_ref().map(numbers), [numbers(&at_a), numbers(&at_c)]);
}

/// Whom another appearance's leg shows as connected is whom that one talks to, also when the caller has sent the call on.
#[test]
fn who_watches_a_line_sees_whom_it_talks_to() {
    let mut calls = Calls::with(|plan| plan.devices[3].lines = vec!["2002".into()]);
    let end = calls.dial(0, 2);
    let placed: Vec<EndId> = calls.far.keys().copied().filter(|far| *far != end).collect();
    let media = Some(description(2, Direction::SendReceive));
    calls.signal(placed[0], Signal::Answered { media });
    let [a, _, watching] = calls.legs()[0][..] else { panic!("three legs") };
    let connected = |calls: &Calls| numbers(&calls.control.leg(watching).expect("a leg"))[3].clone();
    assert_eq!(connected(&calls).as_deref(), Some("2000"));
    calls.redirect(a, "2004");
    assert_eq!(connected(&calls).as_deref(), Some("2000"), "it is not decided yet");
    let called = calls.far.keys().next_back().copied().expect("the one that is called");
    calls.signal(called, Signal::Ringing { early: None });
    assert_eq!(connected(&calls), None, "nobody has answered");
    calls.signal(called, Signal::Answered { media: Some(description(4, Direction::SendReceive)) });
    assert_eq!(connected(&calls).as_deref(), Some("2004"));
}

/// A and B talk by a relay that C's leg hears, as a recorder's does.
fn recorded(calls: &mut Calls) -> [LegId; 3] {
    calls.call(0, 1);
    calls.call(2, 3);
    let legs = calls.legs();
    let (pair, hears) = ([legs[0][0], legs[0][1]], legs[1][0]);
    calls.act("relay", |control| control.relay(pair, hears, &local(7300)));
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.legs(), [vec![pair[0], pair[1], hears]]);
    [pair[0], pair[1], hears]
}

#[test]
fn who_listens_by_a_relay_is_nobody_to_the_two_and_goes_without_them() {
    let mut calls = Calls::new();
    let [a, b, hears] = recorded(&mut calls);
    calls.those_who_talk_see_each_other();
    let offers = calls.said.iter().filter(|line| line.contains("10.0.9.1:7300"));
    let to_listener = offers.clone().filter(|line| line.contains("SendOnly")).count();
    assert!(to_listener > 0 && offers.count() > to_listener, "{}", calls.said.join("\n"));
    calls.hang_up(hears);
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.legs(), [vec![a, b]], "the two talk without a relay");
    assert_eq!(calls.control.calls.end_count(), 2);
}

#[test]
fn a_relay_ends_with_one_of_the_two() {
    let mut calls = Calls::new();
    let [_, b, _] = recorded(&mut calls);
    calls.hang_up(b);
    assert!(calls.control.calls.count() == 0 && calls.far.is_empty(), "{:?}", calls.far);
}

#[test]
fn who_is_held_hears_so_through_a_relay_and_digits_pass_it() {
    let mut calls = Calls::new();
    let [a, b, _] = recorded(&mut calls);
    let [end_of_a, end_of_b] = [a, b].map(|leg| calls.control.end_of_leg(leg).expect("an end"));
    let said = |calls: &Calls, end: EndId, what: &str| {
        let at = format!("End({end}, {what}");
        calls.said.iter().rev().take_while(|line| !line.starts_with("> mark")).any(|line| line.contains(&at))
    };
    calls.said.push("> mark".into());
    calls.request(Request::Hold { leg: a });
    assert!(said(&calls, end_of_a, "Offer") && said(&calls, end_of_b, "Offer"), "{}", calls.said.join("\n"));
    calls.answer_all();
    calls.request(Request::Retrieve { leg: a });
    calls.answer_all();
    calls.all_know_their_peers();
    calls.signal(end_of_a, Signal::Digit { digit: '7', duration_ms: 100 });
    assert!(said(&calls, end_of_b, "Digit"), "{}", calls.said.join("\n"));
}

#[test]
fn a_recorded_call_is_redirected_and_goes_back_when_it_fails() {
    let mut calls = Calls::new();
    let [a, b, hears] = recorded(&mut calls);
    calls.redirect(a, "2004");
    calls.hang_up(hears);
    calls.answer_all();
    let called = calls.far.keys().next_back().copied().expect("the one that is called");
    calls.far.remove(&called);
    let refuses = Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] };
    calls.signal(called, refuses);
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.legs(), [vec![b, a]]);
}

#[test]
fn an_end_moves_to_another_node_and_its_leg_stays() {
    let mut calls = Calls::new();
    calls.call(0, 1);
    let [a, b] = calls.legs()[0][..] else { panic!("two legs") };
    let before = calls.control.leg(b).expect("a leg");
    let [was, other] = [b, a].map(|leg| calls.control.end_of_leg(leg).expect("an end"));
    calls.move_to_another_node(b);
    assert!(!calls.far.contains_key(&was), "the dialog here is over");
    calls.answer_all();
    calls.all_know_their_peers();
    assert_eq!(calls.control.leg(b), Some(before), "its device and its line see nothing of it");
    let now = calls.control.end_of_leg(b).expect("an end");
    assert_eq!(calls.control.place_of_end(now), Some(&elsewhere(now)));
    // What that node says of it counts as a dialog's word.
    calls.signal(now, Signal::Offer(Some(description(9, Direction::SendReceive))));
    calls.answer_all();
    let told = calls.said.iter().rev().find(|line| line.contains(&format!("End({other}, Offer"))).cloned();
    assert!(told.is_some_and(|told| told.contains("10.0.1.9")), "{}", calls.said.join("\n"));
    calls.hang_up(b);
    assert!(calls.control.calls.count() == 0);
}
