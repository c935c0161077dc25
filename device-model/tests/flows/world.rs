//! A small world around the machine: phones, applications and a clock that the test moves. What the machine says is
//! written down as one line each, so that a flow reads as a ladder.

use device_model::media::{
    AudioLine, Codec, Crypto, Description, Direction, Format, KeyRef, MediaTermination, Profile, SrtpSuite,
    StreamDirection,
};
use device_model::plan::{DeviceKind, DevicePlan, Identity, NumberPlan, PatternPlan, Plan};
use device_model::port::{Body, Event, Origin, Reply, Target};
use device_model::view::Security;
use device_model::{
    CallControl, DeviceName, Dn, EndCommand, EndId, Input, LegId, LegView, News, Output, OwnerEpoch, Party,
    PreparedPlan, Request, RequestToken, Revocation, Sender, SessionId, Signal, Standing, Transition,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct World {
    pub control: CallControl,
    /// What the records say.
    standing: Standing,
    /// The records since the last look.
    pub records: Vec<Transition>,
    pub plan: Plan,
    in_force: Arc<Plan>,
    now: Instant,
    token: u64,
    /// Every line since the last look.
    log: String,
    /// The far leg that the last `Call` command placed.
    pub placed: Vec<LegId>,
    /// The leg of the last event.
    pub last_event_leg: Option<LegId>,
    /// On which line of each leg's description audio was written last.
    places: BTreeMap<LegId, usize>,
}

pub const APP: SessionId = SessionId(1);
pub const APP2: SessionId = SessionId(2);

pub fn number(dn: &str) -> NumberPlan {
    NumberPlan::plain(&dn.into())
}

pub fn device(name: &str, kind: DeviceKind, lines: &[&str]) -> DevicePlan {
    DevicePlan::plain(name.into(), kind, lines.iter().map(|dn| (*dn).into()).collect())
}

/// A pattern whose access code is not sent.
pub fn pattern(pattern: &str, trunk: &str, partition: Option<&str>) -> PatternPlan {
    let partition = partition.map(Into::into);
    PatternPlan { pattern: pattern.into(), trunk: trunk.into(), discard_pre_dot: true, partition }
}

/// Phones A 2001, B 2002, C 2003; phones D and E share 2100; route point RP 5000; ports P 6001, Q 6002; `9.!` to a trunk.
pub fn plan() -> Plan {
    let kinds = [
        ("A", DeviceKind::Phone, "2001"),
        ("B", DeviceKind::Phone, "2002"),
        ("C", DeviceKind::Phone, "2003"),
        ("D", DeviceKind::Phone, "2100"),
        ("E", DeviceKind::Phone, "2100"),
        ("RP", DeviceKind::RoutePoint, "5000"),
        ("P", DeviceKind::CtiPort, "6001"),
        ("Q", DeviceKind::CtiPort, "6002"),
    ];
    let numbers = ["2001", "2002", "2003", "2100", "5000", "6001", "6002"];
    Plan {
        numbers: numbers.iter().map(|dn| number(dn)).collect(),
        devices: kinds.iter().map(|(name, kind, dn)| device(name, *kind, &[dn])).collect(),
        trunks: vec!["PSTN".into()],
        patterns: vec![pattern("9.!", "PSTN", None)],
        ..Plan::default()
    }
}

pub fn sdp(address: &str, codecs: &[&str]) -> Description {
    let format = |(i, name): (usize, &&str)| {
        let codec = Codec::from_rtp_name(name);
        let payload_type = codec.defaults().map_or(96 + i as u8, |(_, _, pt)| pt);
        Format { payload_type, codec }
    };
    let line = AudioLine {
        place: 0,
        profile: Profile::Plain,
        address: address.parse().expect("an address"),
        formats: codecs.iter().enumerate().map(format).collect(),
        dtmf_payload_type: Some(101),
        direction: Direction::SendReceive,
        packet_ms: 20,
        crypto: Crypto::none(),
    };
    Description {
        audio: [line].into_iter().collect(),
        other_media: false,
        other_clear: false,
        over_tls: false,
        text: address.as_bytes().into(),
    }
}

/// One key of the strongest suite.
pub fn keys(key: u64) -> smallvec::SmallVec<[Crypto; 1]> {
    smallvec::smallvec![Crypto { tag: 1, suite: SrtpSuite::AeadAes256Gcm, key: KeyRef(key) }]
}

/// A description whose only line is other than [`sdp`]'s.
pub fn altered(description: Description, change: impl FnOnce(&mut AudioLine)) -> Description {
    let mut description = description;
    change(&mut description.audio[0]);
    description
}

pub fn directed(direction: Direction, description: Description) -> Description {
    altered(description, |line| line.direction = direction)
}

pub fn dynamic(codecs: &[&str]) -> MediaTermination {
    MediaTermination::Dynamic {
        codecs: codecs.iter().map(|c| Codec::from_rtp_name(c)).collect(),
        srtp: vec![],
    }
}

pub fn fixed(address: &str, codecs: &[&str]) -> MediaTermination {
    let codecs = codecs.iter().map(|c| Codec::from_rtp_name(c)).collect();
    MediaTermination::Static { address: address.parse().expect("an address"), codecs, srtp: vec![] }
}

/// The leg with which an end began: in these tests none gets another.
pub fn leg_of(end: EndId) -> LegId {
    LegId(end.0)
}

pub fn end_of(leg: LegId) -> EndId {
    EndId(leg.0)
}

impl World {
    /// A world with all phones registered.
    pub fn new(plan: Plan) -> Self {
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let in_force = Arc::new(plan.clone());
        let control = CallControl::new(identity(), in_force.clone());
        let log = String::new();
        let standing = control.standing();
        let mut world = Self {
            control,
            standing,
            records: vec![],
            plan,
            in_force,
            now,
            token: 0,
            log,
            placed: vec![],
            last_event_leg: None,
            places: BTreeMap::new(),
        };
        for phone in ["A", "B", "C", "D", "E"] {
            world.input(Input::Registered(phone.into()));
        }
        world
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.control.handle(self.now, input, &mut out);
        for output in &out {
            match output {
                Output::Transition(record) => {
                    self.standing.apply(record).unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.log));
                    self.records.push(record.clone());
                    continue;
                }
                Output::End(end, EndCommand::Call { .. }) => self.placed.push(leg_of(*end)),
                Output::End(
                    end,
                    EndCommand::Answer { media: Body::Local(line) }
                    | EndCommand::AnswerOffer(Body::Local(line))
                    | EndCommand::Offer(Some(Body::Local(line))),
                ) => drop(self.places.insert(leg_of(*end), line.place)),
                Output::Event(_, Event::Leg(view)) => self.last_event_leg = Some(view.leg),
                _ => {}
            }
            if !matches!(
                output,
                Output::Discard(_)
                    | Output::News(News::Departed { .. } | News::Opened { .. } | News::Closed { .. })
            ) {
                let _ = writeln!(self.log, "{}", counted(&self.line(output)));
            }
        }
        let checked = self.control.check().and_then(|()| self.control.check_records(&self.standing));
        checked.unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.log));
    }

    /// Puts a plan in force; [`World::settle`] carries out what follows.
    pub fn switch(&mut self, plan: &Plan, revoked: Vec<Revocation>) {
        let plan = PreparedPlan::between(&self.in_force, &Arc::new(plan.clone())).map(Box::new);
        if let Some(plan) = &plan {
            self.in_force = plan.plan();
        }
        self.input(Input::Configure { plan, revoked });
    }

    /// Carries out what is left of new plans.
    pub fn settle(&mut self) {
        while self.control.unsettled().is_some() {
            self.input(Input::Settle { legs: 100 });
        }
    }

    pub fn configure(&mut self, plan: &Plan) {
        self.switch(plan, Vec::new());
        self.settle();
    }

    pub fn request(&mut self, session: SessionId, request: Request) {
        self.token += 1;
        let _ = writeln!(self.log, "> {session} {}", counted(&short(&format!("{request:?}"))));
        self.input(Input::Request {
            session,
            token: RequestToken(self.token),
            owner: OwnerEpoch::FIRST,
            request,
        });
    }

    pub fn signal(&mut self, leg: LegId, signal: Signal) {
        let name = format!("{signal:?}");
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        let _ = writeln!(self.log, "> {} {name}", counted(&self.who(leg)));
        self.input(Input::Signal(end_of(leg), signal));
    }

    /// A phone dials; its leg.
    pub fn dial(&mut self, device: &str, number: &str, offer: Option<Description>) -> LegId {
        let leg = leg_of(self.control.new_end_id());
        let dn =
            self.plan.devices.iter().find(|d| d.name.as_str() == device).expect("a phone").lines[0].clone();
        let _ = writeln!(self.log, "> {device} dials {number}");
        let calling = Party { number: dn.as_str().into(), ..Party::default() };
        let origin = Origin::Phone { device: device.into(), dn: Some(dn) };
        self.input(Input::IncomingCall {
            end: end_of(leg),
            origin,
            dialled: number.into(),
            calling,
            diverted: None,
            offer,
            hops: 0,
        });
        leg
    }

    pub fn ring(&mut self, leg: LegId) {
        self.signal(leg, Signal::Ringing { early: None });
    }

    pub fn answered(&mut self, leg: LegId, media: Description) {
        self.signal(leg, Signal::Answered { media: Some(media) });
    }

    pub fn hang_up(&mut self, leg: LegId) {
        self.signal(leg, Signal::Released { cause: device_model::Cause::NORMAL_CLEARING });
    }

    pub fn open(&mut self, session: SessionId, device: &str, media: Option<MediaTermination>) {
        self.request(session, Request::OpenDevice { device: device.into(), media });
    }

    pub fn redirect(&mut self, leg: LegId, to: &str, keep_on_failure: bool) {
        let destination = to.into();
        self.request(
            APP,
            Request::Redirect {
                leg,
                destination,
                calling_number: None,
                original_called: None,
                keep_on_failure,
            },
        );
    }

    pub fn blind_transfer(&mut self, leg: LegId, to: &str) {
        self.request(APP, Request::BlindTransfer { leg, destination: to.into() });
    }

    /// The leg of the consultation.
    pub fn consult(&mut self, leg: LegId, to: &str) -> LegId {
        let device = self.control.device_of_leg(leg).cloned().expect("a device");
        self.request(APP, Request::Consult { leg, destination: to.into() });
        self.leg_at(device.as_str())
    }

    pub fn transfer(&mut self, leg: LegId, with: LegId) {
        self.request(APP, Request::Transfer { leg, with });
    }

    pub fn make_call(&mut self, device: &str, to: &str) {
        let (destination, user_data) = (to.into(), Default::default());
        self.request(
            APP,
            Request::MakeCall {
                device: device.into(),
                dn: None,
                destination,
                calling_number: None,
                user_data,
            },
        );
    }

    pub fn set_media(&mut self, session: SessionId, leg: LegId, address: &str) {
        self.request(session, Request::SetMedia { leg, address: address.parse().expect("an address") });
    }

    /// Lets time pass, timers and all.
    pub fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        let _ = writeln!(self.log, "> {duration:?} pass");
        while let Some(at) = self.control.next_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.input(Input::Timeout);
        }
        self.now = until;
    }

    pub fn written_place(&self, leg: LegId) -> Option<usize> {
        self.places.get(&leg).copied()
    }

    pub fn last_placed(&self) -> LegId {
        *self.placed.last().expect("a call was placed")
    }

    /// The only leg at a device.
    pub fn leg_at(&self, device: &str) -> LegId {
        self.control.legs_of_device(&DeviceName::from(device)).last().expect("a leg there").leg
    }

    /// What was said since the last look.
    pub fn said(&mut self) -> String {
        std::mem::take(&mut self.log)
    }

    /// The records since the last look, a line each.
    pub fn recorded(&mut self) -> String {
        let lines: Vec<String> = self.records.drain(..).map(|record| record.to_string()).collect();
        counted(&lines.join("\n"))
    }

    /// Whether something was said since the last look; doesn't look.
    pub fn heard(&self, text: &str) -> bool {
        self.log.contains(text)
    }

    fn who(&self, leg: LegId) -> String {
        self.control.leg(leg).map_or_else(|| leg.to_string(), |view| format!("{}:{leg}", view.device))
    }

    fn line(&self, output: &Output) -> String {
        match output {
            Output::End(end, command) => {
                format!("{} <- {}", self.who(leg_of(*end)), command_line(command))
            }
            Output::Reply(session, _, Ok(Reply::Done)) => format!("reply {session} done"),
            Output::Reply(session, _, Ok(Reply::Opened { device, legs })) => {
                let legs: Vec<String> = legs.iter().map(leg_line).collect();
                format!("reply {session} opened {} in_service={} {legs:?}", device.name, device.in_service)
            }
            Output::Reply(session, _, Ok(Reply::Call { call, leg })) => {
                format!("reply {session} call {call} {leg}")
            }
            Output::Reply(session, _, Err(refusal)) => format!("reply {session} REFUSED {:?}", refusal.kind),
            Output::Event(sessions, event) => format!("event {sessions:?} {}", event_line(event)),
            Output::Hidden(event) => format!("hidden {}", event_line(event)),
            Output::MessageLamp { dn, lamp, phones } => format!("lamp {dn} {lamp:?} at {phones:?}"),
            Output::Limit(limit) => format!("{limit:?}"),
            Output::Refused(refused) => {
                let who = match &refused.sender {
                    Sender::Line { device, .. } => device.to_string(),
                    Sender::Number(dn) => dn.to_string(),
                    Sender::Trunk(trunk) => trunk.to_string(),
                };
                format!("refused {who} -> {} by {:?}", refused.dialled, refused.rule)
            }
            Output::News(News::Announced { device, itself: None, line: None }) => {
                format!("news {} announced in_service={}", device.name, device.in_service)
            }
            Output::News(News::Announced { device, itself, line }) => {
                format!("news {} restricted itself={itself:?} line={line:?}", device.name)
            }
            Output::News(News::Settled { device }) => {
                let lines = device.lines.iter();
                let lines = lines.map(|line| {
                    format!(
                        "{}->{:?} accept={}",
                        line.dn,
                        line.forward_all.as_ref().map(Dn::as_str),
                        line.auto_accept
                    )
                });
                let lines: Vec<String> = lines.collect();
                format!("news {} settled in_service={} {}", device.name, device.in_service, lines.join(" "))
            }
            Output::News(News::Revoked { session, devices }) => format!("news {session} lost {devices:?}"),
            Output::News(News::Removed { device, .. }) => {
                format!("news {} removed, opened={}", device.name, device.opened)
            }
            Output::News(News::Hidden { device, legs }) => format!("news {device} hides {legs:?}"),
            Output::News(News::Reached { device }) => format!("news {} reached", device.name),
            Output::Contradiction(contradiction) => format!("{contradiction:?}"),
            Output::News(News::Departed { .. } | News::Opened { .. } | News::Closed { .. })
            | Output::Discard(_)
            | Output::Transition(_) => String::new(),
        }
    }
}

/// The text with each id of the world's life as its place in the count: which node's it is says nothing here.
pub fn counted(text: &str) -> String {
    const COUNTER: usize = 9;
    let first = format!("{:x}", identity().first_token().0);
    let mut parts = text.split(&first[..first.len() - COUNTER]);
    let begin = parts.next().unwrap_or_default().to_owned();
    parts.fold(begin, |text, part| text + part[..COUNTER].trim_start_matches('0') + &part[COUNTER..])
}

/// Whose ids they are.
fn identity() -> Identity {
    Identity { node: "cm1".into(), incarnation: 0 }
}

fn short(text: &str) -> String {
    text.replace("DeviceName", "").replace("Dn", "").replace("None", "-")
}

fn body_line(body: &Body) -> String {
    match body {
        Body::Relay(d, direction) => match d.audio.iter().find(|line| line.is_live()).or(d.audio.first()) {
            Some(line) => format!("relay {} {:?}", line.address, direction.unwrap_or(line.direction)),
            None => "relay no audio".into(),
        },
        Body::Local(d) => {
            let formats: Vec<String> =
                d.formats.iter().map(|f| format!("{}/{}", f.codec.rtp_name(), f.payload_type)).collect();
            format!(
                "local {} {:?} {} dtmf={:?}",
                d.address,
                d.direction,
                formats.join(","),
                d.dtmf_payload_type
            )
        }
    }
}

fn command_line(command: &EndCommand) -> String {
    let optional = |body: &Option<Body>| body.as_ref().map_or("nothing".into(), body_line);
    match command {
        EndCommand::Call { target, calling, called, diverted, offer, .. } => {
            let target = match target {
                Target::Phone(device) => device.to_string(),
                Target::Trunk(trunk, number) => format!("{trunk} {number}"),
            };
            let by =
                diverted.as_ref().map_or(String::new(), |diverted| format!(" by {}", diverted.by.number));
            format!("Call {target} {}->{}{by}: {}", calling.number, called.number, optional(offer))
        }
        EndCommand::Alert { early } => format!("Alert {}", optional(early)),
        EndCommand::Answer { media } => format!("Answer {}", body_line(media)),
        EndCommand::Offer(offer) => format!("Offer {}", optional(offer)),
        EndCommand::AnswerOffer(answer) => format!("AnswerOffer {}", body_line(answer)),
        EndCommand::Connected(party) => format!("Connected {}", party.number),
        other => format!("{other:?}"),
    }
}

fn leg_line(leg: &LegView) -> String {
    let mut line = format!("{}:{} {}->{}", leg.device, leg.leg, leg.calling.number, leg.called.number);
    if leg.reason != device_model::Reason::Normal {
        let _ = write!(line, " {:?}", leg.reason);
    }
    let mut add = |name: &str, party: &Option<Party>| {
        if let Some(party) = party {
            let _ = write!(line, " {name}={}", party.number);
        }
    };
    add("original", &leg.original_called);
    add("redirecting", &leg.last_redirecting);
    add("connected", &leg.connected);
    if let Some(other) = leg.consult_of {
        let _ = write!(line, " consult_of={other}");
    }
    if let Some(cause) = leg.cause {
        let _ = write!(line, " cause={}", cause.code());
    }
    if leg.remote_in_use {
        line.push_str(" remote_in_use");
    }
    // In all that is not about it nobody signals over TLS.
    if leg.security != Security::None {
        let _ = write!(line, " security={:?}", leg.security);
    }
    line
}

fn event_line(event: &Event) -> String {
    let direction = |d: &StreamDirection| if *d == StreamDirection::Input { "input" } else { "output" };
    match event {
        Event::Leg(leg) => format!("{:?} {}", leg.state, leg_line(leg)),
        Event::LegChanged(leg) => format!("changed({:?}) {}", leg.state, leg_line(leg)),
        Event::Transferred { from_call, to_call, ok } => {
            format!("transferred {from_call} -> {to_call} ok={ok}")
        }
        Event::Digit(leg, digit) => format!("digit {digit} at {}", leg.leg),
        Event::OpenChannel { leg, codec, payload_type, far, deadline_ms, .. } => {
            let far = far.map(|f: SocketAddr| f.to_string()).unwrap_or("?".into());
            format!(
                "open_channel {}:{} {}/{payload_type} far={far} within {deadline_ms} ms",
                leg.device,
                leg.leg,
                codec.rtp_name()
            )
        }
        Event::MediaStarted(leg, s) => {
            let (d, c) = (direction(&s.direction), s.codec.rtp_name());
            // Only where a codec has a number of its own making are those of events worth a look.
            let dtmf = s.dtmf_payload_type.map_or("-".into(), |payload_type| payload_type.to_string());
            let dtmf = if s.codec == Codec::Opus { format!(" dtmf={dtmf}") } else { String::new() };
            format!(
                "media.started {}:{} {d} {} {c}/{}{dtmf} {:?}{}",
                leg.device,
                leg.leg,
                s.address,
                s.payload_type,
                s.mode,
                s.key.map_or(String::new(), |key| format!(" {key:?} {:?}", leg.security))
            )
        }
        Event::KeyChanged(leg, s) => {
            format!("key of {}:{} {} {:?}", leg.device, leg.leg, direction(&s.direction), s.key)
        }
        Event::MediaStopped(leg, d) => format!("media.stopped {}:{} {}", leg.device, leg.leg, direction(d)),
        Event::DeviceInService(device) => format!("device.in_service {}", device.name),
        Event::DeviceOutOfService(device, reason) => {
            format!("device.out_of_service {} {reason:?}", device.name)
        }
        Event::DeviceClosed(device, reason) => format!("device.closed {} {reason:?}", device.name),
        Event::ForwardChanged(device, line) => {
            format!("line.forward_changed {device} {:?}", line.forward_all)
        }
        Event::AutoAcceptChanged(device, line) => {
            format!("line.auto_accept_changed {device} {}", line.auto_accept)
        }
    }
}
