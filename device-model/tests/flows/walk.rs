//! Random walks: whatever phones, trunks and applications do, valid or not, the tables agree after every step, nobody is
//! told nonsense, every request has one answer, and when all have gone nothing is left.

use crate::world::{dynamic, end_of, fixed, keys, leg_of, pattern, plan, sdp};
use device_model::media::{AudioLine, Description, Direction, Profile, StreamDirection};
use device_model::plan::{DeviceKind, Identity, OfferTime, Plan, TrunkPlan};
use device_model::port::{Event, Origin, TransferTo};
use device_model::{
    CallControl, CallId, Cause, DeviceName, EndCommand, Input, LegId, LegState, LegView, Output, OwnerEpoch,
    Party, PreparedPlan, Request, RequestToken, Revocation, SessionId, Signal, Standing,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NUMBERS: [&str; 12] =
    ["2001", "2002", "2003", "2100", "5000", "6001", "6002", "9123", "404", "2005", "8123", "2007"];
const DEVICES: [&str; 9] = ["A", "B", "C", "D", "E", "RP", "P", "Q", "NOBODY"];
const CODECS: [&[&str]; 3] = [&["PCMU"], &["PCMA", "PCMU"], &["G722"]];

/// The far end of a leg, as its signalling would see it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FarEnd {
    /// It called; with an offer or without.
    Waiting {
        offered: bool,
    },
    /// We called it.
    Called {
        offered: bool,
    },
    Up(Exchange),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Exchange {
    Idle,
    TheyOwe,
    WeOwe,
    WeOweAnOffer,
}

/// Some descriptions have several lines, lines that nobody but a phone can speak, fax, or nothing at all.
fn unusual(mut description: Description, pick: u8) -> Description {
    let line = &mut description.audio[0];
    match pick % 16 {
        0 => line.address.set_port(0),
        1 => (line.address, description.other_media) = (SocketAddr::new(line.address.ip(), 0), true),
        2 => line.profile = Profile::Secure,
        3 => {
            let second = AudioLine { place: 1, ..line.clone() };
            line.profile = Profile::Dtls;
            description.audio.push(second);
        }
        4 => line.address = "[2001:db8::1]:4000".parse().expect("an address"),
        5 => description.audio.clear(),
        6 => line.formats.iter_mut().for_each(|format| format.payload_type += 96),
        _ => {}
    }
    description
}

struct Walk {
    control: CallControl,
    /// What the records say.
    standing: Standing,
    plan: Plan,
    now: Instant,
    far: BTreeMap<LegId, FarEnd>,
    gone: HashSet<LegId>,
    streams: HashSet<(LegId, bool)>,
    /// The leg as it was told last.
    told: HashMap<LegId, LegView>,
    /// Those whose person waits to hear what came of a transfer.
    transferring: HashSet<LegId>,
    /// Its call, by whatever was told of it last.
    calls: HashMap<LegId, CallId>,
    /// Calls that have ended in another.
    joined: HashSet<CallId>,
    pending: BTreeSet<RequestToken>,
    token: u64,
    legs: Vec<LegId>,
    story: Vec<String>,
    /// Who had what open before the step.
    open: HashSet<(SessionId, DeviceName)>,
    /// Who lost what by a new plan and was not told yet.
    closing: HashSet<(SessionId, DeviceName)>,
    in_force: Arc<Plan>,
}

impl Walk {
    fn new() -> Self {
        let mut plan = plan();
        plan.numbers.iter_mut().for_each(|number| number.ring_duration = Some(Duration::from_secs(5)));
        let to = |dn: &str| Some(dn.into());
        plan.numbers[0].forward.busy = to("5000");
        plan.numbers[1].forward.no_answer = to("2003");
        plan.numbers[2].forward.no_answer = to("2002");
        plan.numbers[4].forward.on_failure = to("2001");
        plan.numbers[4].forward.unregistered = to("6001");
        plan.numbers[5].forward.on_failure = to("2100");
        plan.numbers[5].max_calls = Some(2);
        plan.devices[2].offer = OfferTime::Late;
        plan.trunks.push(TrunkPlan { offer: OfferTime::Late, ..TrunkPlan::from("LATE") });
        plan.patterns.push(pattern("8.!", "LATE", None));
        plan.parameters.max_legs = 14;
        let identity = Identity { node: "cm1".into(), incarnation: 7 };
        let in_force = Arc::new(plan.clone());
        let control = CallControl::new(identity, in_force.clone());
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let standing = control.standing();
        Self {
            control,
            standing,
            plan,
            now,
            far: BTreeMap::new(),
            gone: HashSet::new(),
            streams: HashSet::new(),
            told: HashMap::new(),
            transferring: HashSet::new(),
            calls: HashMap::new(),
            joined: HashSet::new(),
            pending: BTreeSet::new(),
            token: 0,
            legs: vec![],
            story: vec![],
            open: HashSet::new(),
            closing: HashSet::new(),
            in_force,
        }
    }

    fn input(&mut self, input: Input) {
        self.story.push(match &input {
            Input::Configure { revoked, .. } => {
                format!("> Configure, {revoked:?} {:?}", self.in_force.devices)
            }
            other => format!("> {other:?}"),
        });
        self.open = (0..3)
            .map(SessionId)
            .flat_map(|s| self.control.open_devices(s).map(move |d| (s, d.clone())))
            .collect();
        let configures = matches!(&input, Input::Configure { plan: Some(_), .. });
        let mut out = Vec::new();
        self.control.handle(self.now, input, &mut out);
        self.closing.extend(
            self.open
                .iter()
                .filter(|(session, device)| configures && !self.control.is_open(*session, device))
                .cloned(),
        );
        for output in &out {
            self.story.push(format!("    {output:?}"));
            if let Err(wrong) = self.hear(output) {
                panic!("{}\n{wrong}", self.story.join("\n"));
            }
        }
        let control = &self.control;
        // Where nobody listens any more, nobody hears the end.
        let heard = |leg: &LegId| {
            control.device_of_leg(*leg).is_none_or(|device| !control.openers(device).is_empty())
        };
        self.streams.retain(|(leg, _)| heard(leg));
        self.told.retain(|leg, told| heard(leg) && !control.openers(&told.device).is_empty());
        let recorded = || self.control.check_records(&self.standing);
        if let Err(wrong) = self.control.check().and_then(|()| self.all_is_told()).and_then(|()| recorded()) {
            panic!("{}\n{wrong}", self.story.join("\n"));
        }
    }

    /// Whether nothing is said of a leg any more but its end.
    fn is_lost(&self, leg: &LegView) -> bool {
        let device = self.control.device(&leg.device);
        device.is_none_or(|device| {
            let line = device.lines.iter().find(|line| line.dn == leg.dn);
            let restricted = device.restricted || line.is_some_and(|line| line.restricted);
            line.is_none() || restricted && device.kind != DeviceKind::Phone
        })
    }

    /// Whether applications may not hear of a leg.
    fn hides(&self, leg: &LegView) -> bool {
        let device = self.control.device(&leg.device);
        device.is_some_and(|device| {
            let line = device.lines.iter().find(|line| line.dn == leg.dn);
            device.restricted || line.is_some_and(|line| line.restricted)
        })
    }

    /// What was told of a leg, or was hidden, is what it is.
    fn all_is_told(&self) -> Result<(), String> {
        if self.control.unsettled().is_some() {
            return Ok(());
        }
        for told in self.told.values().filter(|leg| !self.is_lost(leg)) {
            let now = self.control.leg(told.leg);
            let state = now.map_or(LegState::Disconnected, |now| now.state);
            if told.state != state {
                return Err(format!("{} is {state:?} and was told as {:?}", told.leg, told.state));
            }
            let (call, of) = (self.control.leg(told.leg).map(|leg| leg.call), self.calls.get(&told.leg));
            if call.is_some() && call.as_ref() != of {
                return Err(format!("{} is in {call:?} and was told to be in {of:?}", told.leg));
            }
        }
        Ok(())
    }

    fn hear(&mut self, output: &Output) -> Result<(), String> {
        match output {
            Output::End(end, command) => self.command(leg_of(*end), command),
            Output::Reply(_, token, _) if self.pending.remove(token) => Ok(()),
            Output::Reply(_, token, _) => Err(format!("{token} was answered twice")),
            Output::Event(sessions, _) if sessions.is_empty() => Err("told to nobody".into()),
            Output::Event(sessions, event) => self.event(Some(sessions), event),
            Output::Hidden(event) => self.event(None, event),
            Output::Contradiction(contradiction) => Err(format!("{contradiction:?}")),
            Output::Transition(record) => self.standing.apply(record),
            Output::Limit(_)
            | Output::Refused(_)
            | Output::News(_)
            | Output::MessageLamp { .. }
            | Output::Discard(_) => Ok(()),
        }
    }

    /// Something that is told to these sessions, or is hidden.
    fn event(&mut self, sessions: Option<&[SessionId]>, event: &Event) -> Result<(), String> {
        let leg = match event {
            Event::Leg(leg) | Event::LegChanged(leg) | Event::Digit(leg, _) => leg,
            Event::OpenChannel { leg, .. }
            | Event::MediaStarted(leg, _)
            | Event::KeyChanged(leg, _)
            | Event::MediaStopped(leg, _) => leg,
            Event::Transferred { from_call, to_call, ok } => {
                return match *ok && from_call != to_call && self.joined.insert(*from_call) {
                    true => Ok(()),
                    false => Err(format!("{from_call} can't become {to_call}")),
                };
            }
            Event::DeviceClosed(device, _) => {
                let mut closed = |session: &SessionId| self.closing.remove(&(*session, device.name.clone()));
                return match sessions.is_some_and(|sessions| sessions.iter().all(&mut closed)) {
                    true => Ok(()),
                    false => Err(format!("{} is closed that was not open", device.name)),
                };
            }
            _ => return Ok(()),
        };
        if self.joined.contains(&leg.call) {
            return Err(format!("{} is in {}, which has ended in another", leg.leg, leg.call));
        }
        self.calls.insert(leg.leg, leg.call);
        if self.gone.contains(&leg.leg) {
            return Err(format!("{} speaks after its end", leg.leg));
        }
        // Of a device that went or is restricted nothing is heard but how its calls end.
        let ends = match event {
            Event::Leg(leg) => matches!(leg.state, LegState::Failed | LegState::Disconnected),
            Event::MediaStopped(..) => true,
            _ => false,
        };
        if !ends && sessions.is_some() == self.hides(leg) {
            return Err(format!("{} is restricted and heard, or it is hidden and need not be", leg.device));
        }
        let open = |s: SessionId| {
            let place = (s, leg.device.clone());
            self.control.is_open(s, &leg.device)
                || self.open.contains(&place)
                || ends && self.closing.contains(&place)
        };
        if let Some(session) = sessions.unwrap_or_default().iter().find(|session| !open(**session)) {
            return Err(format!("{session} is told of {}, which it hasn't open", leg.device));
        }
        let input = |d: StreamDirection| d == StreamDirection::Input;
        match event {
            Event::MediaStarted(_, stream) if !self.streams.insert((leg.leg, input(stream.direction))) => {
                return Err(format!("{} started twice", leg.leg));
            }
            // Who opened the device in mid-call hears the end of streams whose begin it missed.
            Event::MediaStopped(_, direction) => drop(self.streams.remove(&(leg.leg, input(*direction)))),
            Event::Leg(leg) => self.state_told(leg)?,
            _ => {}
        }
        if !self.legs.contains(&leg.leg) {
            self.legs.push(leg.leg);
        }
        Ok(())
    }

    /// A leg's states follow each other as the table of transitions says, and nothing runs after its end.
    fn state_told(&mut self, leg: &LegView) -> Result<(), String> {
        let before = self.told.insert(leg.leg, leg.clone()).map(|before| before.state);
        if before.is_some_and(|before| !before.may_become(leg.state)) {
            return Err(format!("{} goes from {before:?} to {:?}", leg.leg, leg.state));
        }
        if leg.state == LegState::Disconnected {
            self.gone.insert(leg.leg);
            if self.streams.iter().any(|(id, _)| *id == leg.leg) {
                return Err(format!("{} ends with a stream", leg.leg));
            }
        }
        Ok(())
    }

    fn command(&mut self, leg: LegId, command: &EndCommand) -> Result<(), String> {
        use Exchange as X;
        let far = self.far.get(&leg).copied();
        let next = match (command, far) {
            (EndCommand::Call { offer, .. }, None) => Some(FarEnd::Called { offered: offer.is_some() }),
            (EndCommand::Alert { .. }, Some(FarEnd::Waiting { .. })) => far,
            (EndCommand::Answer { .. }, Some(FarEnd::Waiting { offered })) => {
                Some(FarEnd::Up(if offered { X::Idle } else { X::TheyOwe }))
            }
            (EndCommand::Reject { .. }, Some(FarEnd::Waiting { .. })) => None,
            (EndCommand::Release { .. }, Some(FarEnd::Called { .. } | FarEnd::Up(_))) => None,
            (EndCommand::Offer(_), Some(FarEnd::Up(X::Idle))) => Some(FarEnd::Up(X::TheyOwe)),
            (EndCommand::AnswerOffer(_), Some(FarEnd::Up(X::WeOwe))) => Some(FarEnd::Up(X::Idle)),
            (EndCommand::AnswerOffer(_), Some(FarEnd::Up(X::WeOweAnOffer))) => Some(FarEnd::Up(X::TheyOwe)),
            (EndCommand::RejectOffer(_), Some(FarEnd::Up(X::WeOwe | X::WeOweAnOffer))) => {
                Some(FarEnd::Up(X::Idle))
            }
            (EndCommand::Connected(_), Some(FarEnd::Up(_) | FarEnd::Waiting { .. })) => far,
            (EndCommand::Digit { .. }, Some(FarEnd::Up(_))) => far,
            (EndCommand::Transferred(_), Some(FarEnd::Up(_))) if self.transferring.remove(&leg) => far,
            _ => return Err(format!("{leg} is {far:?} and is told {command:?}")),
        };
        match next {
            Some(next) => drop(self.far.insert(leg, next)),
            None => {
                self.transferring.remove(&leg);
                self.far.remove(&leg);
            }
        }
        Ok(())
    }

    /// Where a person wants the other end of his call: mostly to the other end of another one, if he has one.
    fn transfer_to(&self, leg: LegId, x: u8, z: u8) -> TransferTo {
        let device = self.control.device_of_leg(leg);
        let legs = device.map(|device| self.control.legs_of_device(device)).unwrap_or_default();
        let other = legs.iter().map(|other| other.leg).find(|other| *other != leg);
        match other.filter(|_| !z.is_multiple_of(4)) {
            Some(other) => TransferTo::End(end_of(other)),
            None if z == 1 => TransferTo::Ended,
            None => TransferTo::Number(NUMBERS[x as usize % 12].into()),
        }
    }

    fn request(&mut self, session: u64, request: Request) {
        self.token += 1;
        let token = RequestToken(self.token);
        self.pending.insert(token);
        self.input(Input::Request { session: SessionId(session), token, owner: OwnerEpoch::FIRST, request });
    }

    fn some_leg(&self, pick: u8) -> LegId {
        let recent = self.legs.len().saturating_sub(8);
        let legs = &self.legs[recent..];
        if legs.is_empty() { LegId(99) } else { legs[pick as usize % legs.len()] }
    }

    /// Mostly two legs of one device that may be transferred, or one that may consult; else any.
    fn two_legs(&self, x: u8, y: u8) -> [LegId; 2] {
        let talks =
            |leg: &&LegView| matches!(leg.state, LegState::Connected | LegState::Held | LegState::Ringback);
        let at = |device: &&str| {
            let legs = self.control.legs_of_device(&(**device).into());
            legs.iter().filter(talks).map(|leg| leg.leg).collect::<Vec<LegId>>()
        };
        let mut of: Vec<Vec<LegId>> = DEVICES.iter().map(at).filter(|legs| !legs.is_empty()).collect();
        of.sort_by_key(|legs| std::cmp::Reverse(legs.len().min(2)));
        let legs = of.first().filter(|_| !x.is_multiple_of(8)).cloned().unwrap_or_else(|| self.legs.clone());
        let pick = |which: usize| legs.get(which % legs.len().max(1)).copied().unwrap_or(LegId(99));
        [pick(x.into()), pick(usize::from(x) + usize::from(y % 4))]
    }

    fn some_far(&self, pick: u8) -> Option<(LegId, FarEnd)> {
        self.far.iter().nth(pick as usize % self.far.len().max(1)).map(|(leg, far)| (*leg, *far))
    }

    fn step(&mut self, (what, x, y, z): (u8, u8, u8, u8)) {
        match what % 32 {
            0..=4 => self.dial(x, y, z),
            5..=14 => self.far_acts(x, y, z),
            15..=25 => self.application_acts(what, x, y, z),
            26 => self.input(Input::SessionEnded(SessionId(u64::from(x % 3)))),
            27 => self.wait(Duration::from_millis(u64::from(x) * 40)),
            28 => self.input(Input::Unregistered(DEVICES[x as usize % 9].into())),
            29 if x < 96 => self.reconfigure(y, z),
            29 | 30 => self.input(Input::Registered(DEVICES[x as usize % 9].into())),
            _ if x.is_multiple_of(2) => self.settle(y % 4),
            _ => self.nonsense(x, y),
        }
    }

    /// Nobody fails and nothing is configured: calls that are consulted about, transferred and sent away.
    fn calm_step(&mut self, (what, x, y, z): (u8, u8, u8, u8)) {
        match what % 16 {
            0 => self.dial(x, y, z),
            1 => self.call_port(x, y, 1),
            2..=6 => self.far_acts(x, y, z),
            7..=9 => self.consult(x, y, 1),
            10..=12 => {
                let [leg, with] = self.two_legs(x, y);
                self.request(1, Request::Transfer { leg, with });
            }
            13 => self.application_acts(18 + what / 16 % 8, x, y, z & !1),
            14 => self.wait(Duration::from_millis(u64::from(x) * 20)),
            _ => {
                let [leg, _] = self.two_legs(x, 0);
                let hold = y.is_multiple_of(2);
                self.request(1, if hold { Request::Hold { leg } } else { Request::Retrieve { leg } });
            }
        }
    }

    fn dial(&mut self, x: u8, y: u8, z: u8) {
        let leg = leg_of(self.control.new_end_id());
        let offered = !z.is_multiple_of(4);
        let device: DeviceName = DEVICES[x as usize % 5].into();
        let origin = if z.is_multiple_of(7) {
            Origin::Trunk("PSTN".into())
        } else {
            Origin::Phone { device, dn: None }
        };
        let offer = offered.then(|| unusual(sdp(&format!("10.0.1.{x}:4000"), CODECS[z as usize % 3]), x ^ y));
        self.far.insert(leg, FarEnd::Waiting { offered });
        let dialled = NUMBERS[y as usize % NUMBERS.len()].into();
        self.input(Input::IncomingCall {
            end: end_of(leg),
            origin,
            dialled,
            calling: Party::default(),
            diverted: None,
            offer,
            hops: 0,
        });
    }

    /// Something that the far end of a leg may really do now.
    fn far_acts(&mut self, x: u8, y: u8, z: u8) {
        use Exchange as X;
        let Some((leg, far)) = self.some_far(x) else { return };
        let mut media = sdp(&format!("10.0.2.{}:4000", z % 16), CODECS[y as usize % 3]);
        let line = &mut media.audio[0];
        if z.is_multiple_of(11) {
            line.crypto = keys(u64::from(z));
        }
        line.direction =
            [Direction::SendReceive, Direction::SendReceive, Direction::SendOnly, Direction::Inactive]
                [z as usize % 4];
        let media = unusual(media, x ^ z);
        let (signal, next) = match (far, y % 8) {
            (FarEnd::Waiting { .. }, 0) => (Signal::Released { cause: Cause::NORMAL_CLEARING }, None),
            (FarEnd::Waiting { .. }, _) => return,
            (FarEnd::Called { .. }, 0..=2) => {
                (Signal::Ringing { early: (z > 200).then_some(media) }, Some(far))
            }
            (FarEnd::Called { offered }, 3..=5) => (
                Signal::Answered { media: Some(media) },
                Some(FarEnd::Up(if offered { X::Idle } else { X::WeOwe })),
            ),
            (FarEnd::Called { .. }, _) => {
                let cause = [Cause::USER_BUSY, Cause::NO_ANSWER, Cause::CALL_REJECTED][z as usize % 3];
                let redirect_to = (231..=z)
                    .step_by(6)
                    .map(|n| NUMBERS[(usize::from(n) + usize::from(y)) % 12].into())
                    .collect();
                (Signal::Rejected { cause, status: None, redirect_to }, None)
            }
            (FarEnd::Up(_), 0) => (Signal::Released { cause: Cause::NORMAL_CLEARING }, None),
            (FarEnd::Up(X::TheyOwe), 1) => {
                (Signal::OfferRejected { cause: Cause::INCOMPATIBLE_DESTINATION }, Some(FarEnd::Up(X::Idle)))
            }
            (FarEnd::Up(X::TheyOwe), _) => (Signal::Answer(media), Some(FarEnd::Up(X::Idle))),
            (FarEnd::Up(X::Idle), 1..=4) => (Signal::Offer(Some(media)), Some(FarEnd::Up(X::WeOwe))),
            (FarEnd::Up(X::Idle), 5) => (Signal::Offer(None), Some(FarEnd::Up(X::WeOweAnOffer))),
            (FarEnd::Up(_), 6) if !self.transferring.contains(&leg) => {
                self.transferring.insert(leg);
                (Signal::Transfer(self.transfer_to(leg, x, z)), Some(far))
            }
            (FarEnd::Up(_), _) => (Signal::Digit { digit: '5', duration_ms: 100 }, Some(far)),
        };
        match next {
            Some(next) => drop(self.far.insert(leg, next)),
            None => {
                self.transferring.remove(&leg);
                self.far.remove(&leg);
            }
        }
        self.input(Input::Signal(end_of(leg), signal));
    }

    fn application_acts(&mut self, what: u8, x: u8, y: u8, z: u8) {
        let session = u64::from(z % 2) + 1;
        let leg = self.some_leg(x);
        let device: DeviceName = DEVICES[y as usize % 9].into();
        let address = match z % 16 {
            15 => format!("[2001:db8::2]:{}", 6000 + u16::from(x)),
            other => format!("10.0.3.{}:{}", other % 4, 6000 + u16::from(x)),
        };
        let address = address.parse().expect("an address");
        let request = match what % 32 {
            15 | 16 => {
                let media = match (DEVICES[y as usize % 9], z % 5) {
                    ("RP" | "P" | "Q", 0) => Some(fixed("10.0.4.1:7000", CODECS[1])),
                    ("RP" | "P" | "Q", 1..=3) => Some(dynamic(CODECS[1])),
                    _ => None,
                };
                Request::OpenDevice { device, media }
            }
            17 if x < 20 => Request::CloseDevice { device },
            17 => Request::SetUserData { leg, user_data: BTreeMap::from([("k".into(), z.to_string())]) },
            18 => Request::Accept { leg },
            19 | 20 => Request::Answer { leg },
            21 => Request::SetMedia { leg, address },
            22 if z % 5 > 2 => {
                let [leg, with] = self.two_legs(x, y);
                Request::Transfer { leg, with }
            }
            22 if z % 5 == 1 => return self.consult(x, y, session),
            22 if z.is_multiple_of(5) => {
                Request::BlindTransfer { leg, destination: NUMBERS[y as usize % 12].into() }
            }
            22 => Request::Redirect {
                leg,
                destination: NUMBERS[y as usize % 12].into(),
                calling_number: None,
                original_called: None,
                keep_on_failure: z.is_multiple_of(3),
            },
            23 if z.is_multiple_of(4) => Request::Reject { leg, cause: Cause::CALL_REJECTED },
            23 => Request::Hold { leg },
            24 if z.is_multiple_of(4) => Request::Drop { leg },
            24 => Request::Retrieve { leg },
            _ if z.is_multiple_of(8) => Request::SetForwardAll {
                device,
                dn: NUMBERS[x as usize % 7].into(),
                destination: (z > 99).then(|| "2003".into()),
            },
            _ if z % 8 == 1 => {
                Request::SetAutoAccept { device, dn: NUMBERS[x as usize % 7].into(), on: z > 99 }
            }
            _ if z % 8 == 2 => {
                Request::SetMessageWaiting { device, dn: NUMBERS[x as usize % 7].into(), on: z > 99 }
            }
            _ => Request::MakeCall {
                device: ["P", "Q", "RP", "A"][y as usize % 4].into(),
                dn: None,
                destination: NUMBERS[x as usize % 12].into(),
                calling_number: None,
                user_data: BTreeMap::new(),
            },
        };
        self.request(session, request);
    }

    /// A leg of a port that talks.
    fn talking_port(&self, pick: u8) -> Option<LegId> {
        let legs = ["P", "Q"].iter().flat_map(|port| self.control.legs_of_device(&(*port).into()));
        let legs: Vec<LegId> =
            legs.filter(|leg| leg.state == LegState::Connected).map(|leg| leg.leg).collect();
        legs.get(pick as usize % legs.len().max(1)).copied()
    }

    /// A port is called, and its application answers and says where.
    fn call_port(&mut self, x: u8, y: u8, session: u64) {
        self.dial(x, 5 + y % 2, 1 + y % 3);
        let port: DeviceName = ["P", "Q"][y as usize % 2].into();
        let Some(leg) = self.control.legs_of_device(&port).last().map(|leg| leg.leg) else { return };
        self.request(session, Request::Answer { leg });
        let address = format!("10.0.3.{}:6000", y % 4).parse().expect("an address");
        self.request(session, Request::SetMedia { leg, address });
    }

    /// A port that has a call, or is called first, consults; who is called answers, or does not yet.
    fn consult(&mut self, x: u8, y: u8, session: u64) {
        if self.talking_port(x).is_none() {
            self.call_port(x, y, session);
        }
        let Some(leg) = self.talking_port(x) else { return };
        self.request(session, Request::Consult { leg, destination: NUMBERS[x as usize % 4].into() });
        if let Some(leg) = self.control.legs_of_device(&"Q".into()).last().map(|leg| leg.leg) {
            let address = format!("10.0.3.{}:6002", y % 4).parse().expect("an address");
            self.request(session, Request::SetMedia { leg, address });
        }
        let called = self.far.iter().filter(|(_, far)| matches!(far, FarEnd::Called { offered: true }));
        let Some(called) = called.map(|(leg, _)| *leg).next_back() else { return };
        let signal = match y % 4 {
            0 => return,
            1 => Signal::Ringing { early: None },
            _ => {
                self.far.insert(called, FarEnd::Up(Exchange::Idle));
                Signal::Answered { media: Some(sdp("10.0.5.1:4000", CODECS[1])) }
            }
        };
        self.input(Input::Signal(end_of(called), signal));
    }

    /// What no stack would say, of legs that are there or not.
    fn nonsense(&mut self, x: u8, y: u8) {
        let leg = self.some_leg(y);
        if self.far.contains_key(&leg) {
            return;
        }
        let media = sdp("10.9.9.9:9", CODECS[0]);
        let signal = match x % 8 {
            0 => Signal::Ringing { early: None },
            1 => Signal::Answered { media: Some(media) },
            2 => Signal::Offer(Some(media)),
            3 => Signal::Answer(media),
            4 => Signal::OfferRejected { cause: Cause::PROTOCOL_ERROR },
            5 => Signal::Rejected { cause: Cause::USER_BUSY, status: None, redirect_to: vec![] },
            6 => Signal::Transfer(TransferTo::Number("2001".into())),
            _ => Signal::Digit { digit: 'x', duration_ms: 0 },
        };
        self.input(Input::Signal(end_of(leg), signal));
    }

    /// Up to three plans, one upon the other; what follows of each is carried out at once, partly, or later.
    fn reconfigure(&mut self, y: u8, z: u8) {
        let mut plan = self.plan.clone();
        for change in 0..z % 4 {
            let device = y.wrapping_add(change * 5) as usize % plan.devices.len();
            match (y / 8 + change * 3) % 8 {
                0 | 1 => drop(plan.devices.remove(device)),
                2 | 3 => plan.devices[device].allow_cti_control = false,
                4 => plan.devices[device].lines = vec!["2007".into()],
                5 => plan.numbers[device % 6].allow_cti_control = false,
                6 => plan.devices[device].kind = DeviceKind::RoutePoint,
                _ => plan.devices[device].lines.push("2007".into()),
            }
            self.switch(&plan, Vec::new());
            self.settle(z / 4 % 4);
        }
        if z.is_multiple_of(5) {
            let listed: Vec<DeviceName> = DEVICES.iter().map(|name| (*name).into()).collect();
            let mut listed = listed[y as usize % 9..].to_vec();
            listed.sort();
            let devices = listed.into();
            let plan = self.in_force.clone();
            self.switch(&plan, vec![Revocation { session: SessionId(u64::from(y % 3)), devices }]);
            self.settle(y / 4 % 4);
        }
        if z < 128 {
            self.switch(&self.plan.clone(), Vec::new());
            self.settle(z % 8);
        }
    }

    fn switch(&mut self, plan: &Plan, revoked: Vec<Revocation>) {
        let plan = PreparedPlan::between(&self.in_force, &Arc::new(plan.clone())).map(Box::new);
        if let Some(plan) = &plan {
            self.in_force = plan.plan();
        }
        self.input(Input::Configure { plan, revoked });
    }

    /// All, or so many devices with a leg each.
    fn settle(&mut self, devices: u8) {
        for _ in 0..if devices == 3 { u8::MAX } else { devices } {
            if self.control.unsettled().is_some() {
                self.input(Input::Settle { legs: 1 });
            }
        }
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.control.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = until;
    }

    /// All go home: nothing may be left.
    fn end(mut self, shutdown: bool) {
        self.settle(u8::from(shutdown) * 3);
        if shutdown {
            (0..3).for_each(|session| self.input(Input::SessionEnded(SessionId(session))));
        } else {
            self.input(Input::SessionsEnded((0..3).map(SessionId).collect()));
        }
        if shutdown {
            self.input(Input::Shutdown { calls: usize::MAX });
        }
        while let Some((leg, _)) = self.far.pop_first() {
            self.input(Input::Signal(end_of(leg), Signal::Released { cause: Cause::NORMAL_CLEARING }));
        }
        self.settle(3);
        assert_eq!(self.control.unsettled(), None);
        assert!(self.closing.is_empty(), "never closed: {:?}\n{}", self.closing, self.story.join("\n"));
        assert!(
            self.control.is_quiet(),
            "something is left: {:?}\n{}",
            self.control.counts(),
            self.story.join("\n")
        );
        assert!(self.pending.is_empty(), "{:?} never had an answer\n{}", self.pending, self.story.join("\n"));
        assert_eq!(self.control.counts().open_devices, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_tables_agree_and_nothing_is_left(
        steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..250),
        shutdown in any::<bool>(),
    ) {
        let mut walk = Walk::new();
        for phone in ["A", "B", "C", "D", "E"] {
            walk.input(Input::Registered(phone.into()));
        }
        walk.request(1, Request::OpenDevice { device: "RP".into(), media: Some(dynamic(CODECS[1])) });
        walk.request(1, Request::OpenDevice { device: "P".into(), media: Some(fixed("10.0.4.1:7000", CODECS[1])) });
        walk.request(2, Request::OpenDevice { device: "Q".into(), media: Some(dynamic(CODECS[1])) });
        walk.request(1, Request::OpenDevice { device: "A".into(), media: None });
        for step in steps {
            walk.step(step);
        }
        walk.end(shutdown);
    }

    #[test]
    fn whoever_is_transferred_the_tables_agree_and_nothing_is_left(
        steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..120),
    ) {
        let mut walk = Walk::new();
        for phone in ["A", "B", "C", "D", "E"] {
            walk.input(Input::Registered(phone.into()));
        }
        for (device, media) in [
            ("RP", Some(dynamic(CODECS[1]))),
            ("P", Some(fixed("10.0.4.1:7000", CODECS[1]))),
            ("Q", Some(dynamic(CODECS[1]))),
            ("A", None),
            ("B", None),
        ] {
            walk.request(1, Request::OpenDevice { device: device.into(), media });
        }
        for step in steps {
            walk.calm_step(step);
        }
        walk.end(false);
    }
}
