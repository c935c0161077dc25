//! A phone that applications are kept off for a while, with CallManager's model beside the mirror: what is told when they may
//! hear again.

use super::*;
use device_model::media::{AudioLine, Codec, Crypto, Description, Direction, Format, Profile};
use device_model::plan::{DeviceKind, DevicePlan, Identity, NumberPlan, Plan};
use device_model::port::Origin;
use device_model::{
    CallControl, Cause, EndCommand, EndId, Input, News, Output, OwnerEpoch, Party, PreparedPlan, Request,
    RequestToken, Signal,
};
use std::time::Instant;

const APP: SessionId = SessionId(1);
const AUDIO: [&str; 3] = ["10.0.0.1:4000", "10.0.0.2:4000", "10.0.0.3:4000"];

/// Phones A 2001, B 2002 and C 2003, and an application that has A open.
struct World {
    control: CallControl,
    mirror: Mirror,
    plan: Arc<Plan>,
    now: Instant,
    placed: Option<EndId>,
    told: Vec<String>,
}

fn sdp(address: &str, direction: Direction) -> Description {
    let line = AudioLine {
        place: 0,
        profile: Profile::Plain,
        address: address.parse().expect("an address"),
        formats: [Format { payload_type: 0, codec: Codec::from_rtp_name("PCMU") }].into_iter().collect(),
        dtmf_payload_type: Some(101),
        direction,
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

fn line(event: &Event) -> String {
    let parties = |leg: &LegView| format!("{}->{}", leg.calling.number, leg.called.number);
    match event {
        Event::Leg(leg) => match leg.cause {
            Some(cause) => format!("{:?} {} {}", leg.state, parties(leg), cause.code()),
            None => format!("{:?} {}", leg.state, parties(leg)),
        },
        Event::KeyChanged(leg, stream) => format!("key {:?} {}", stream.direction, parties(leg)),
        Event::MediaStopped(leg, direction) => format!("stopped {direction:?} {}", parties(leg)),
        Event::MediaStarted(leg, stream) => format!("started {:?} {}", stream.direction, parties(leg)),
        Event::DeviceClosed(device, _) => format!("closed {}", device.name),
        Event::ForwardChanged(device, line) => {
            format!("forward of {device} {}", line.forward_all.as_ref().map_or("none", Dn::as_str))
        }
        Event::DeviceInService(device) => format!("in service {}", device.name),
        Event::DeviceOutOfService(device, reason) => format!("out of service {} {reason:?}", device.name),
        Event::LegChanged(leg) => format!("changed {}", parties(leg)),
        Event::Digit(..)
        | Event::OpenChannel { .. }
        | Event::Transferred { .. }
        | Event::AutoAcceptChanged(..) => String::new(),
    }
}

impl World {
    fn new() -> Self {
        let phones = [("A", "2001"), ("B", "2002"), ("C", "2003")];
        let phone = |(name, dn): &(&str, &str)| {
            DevicePlan::plain((*name).into(), DeviceKind::Phone, vec![(*dn).into()])
        };
        let plan = Arc::new(Plan {
            numbers: phones.iter().map(|(_, dn)| NumberPlan::plain(&(*dn).into())).collect(),
            devices: phones.iter().map(phone).collect(),
            ..Plan::default()
        });
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let control = CallControl::new(Identity { node: "cm1".into(), incarnation: 0 }, Arc::clone(&plan));
        let mut world =
            Self { control, mirror: Mirror::default(), plan, now, placed: None, told: Vec::new() };
        phones.iter().for_each(|(name, _)| world.input(Input::Registered((*name).into())));
        let request = Request::OpenDevice { device: "A".into(), media: None };
        let (token, owner) = (RequestToken(1), OwnerEpoch::FIRST);
        world.input(Input::Request { session: APP, token, owner, request });
        world
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.control.handle(self.now, input, &mut out);
        out.iter().for_each(|output| self.hear(output));
        if self.control.unsettled().is_none() {
            self.mirror.check(&self.control).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    }

    fn tell(&mut self, events: &[Event]) {
        self.told.extend(events.iter().map(line).filter(|line| !line.is_empty()));
    }

    fn difference(&mut self, difference: Option<Difference>) {
        let events = difference.map(|difference| difference.events);
        events.iter().for_each(|events| self.tell(events));
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "what concerns the mirror")]
    fn hear(&mut self, output: &Output) {
        match output {
            Output::End(end, EndCommand::Call { .. }) => self.placed = Some(*end),
            Output::Hidden(event) => self.mirror.hidden(event),
            Output::Event(_, event) => {
                if let Event::DeviceClosed(device, _) = event {
                    let unheard = self.mirror.leaves(&device.name);
                    self.difference(unheard);
                }
                match self.mirror.event(event) {
                    Heard::AsItIs => self.tell(std::slice::from_ref(event)),
                    Heard::Instead(events) => self.tell(&events),
                }
            }
            Output::News(News::Opened { session, device, media, legs }) => {
                self.mirror.opened(*session, device, media.clone(), legs.clone());
            }
            Output::News(News::Closed { session, device }) => self.mirror.closed(*session, device),
            Output::News(News::Departed { session, devices, .. }) => {
                devices.iter().for_each(|device| self.mirror.closed(*session, device));
            }
            Output::News(News::Hidden { device, legs }) => self.mirror.hide(device, legs),
            Output::News(News::Announced { device, .. }) => {
                let difference = self.mirror.announced(device);
                self.difference(difference);
            }
            Output::News(News::Settled { device }) => {
                let difference = self.mirror.settled(device);
                self.difference(difference);
            }
            Output::News(News::Reached { device }) => {
                let difference = self.mirror.reached(device);
                self.difference(difference);
            }
            _ => {}
        }
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn dial(&mut self, from: usize, to: &str) -> EndId {
        let end = self.control.new_end_id();
        let phone = &self.plan.devices[from];
        let (name, dn) = (phone.name.clone(), phone.lines[0].clone());
        self.input(Input::IncomingCall {
            end,
            origin: Origin::Phone { device: name, dn: Some(dn) },
            dialled: to.into(),
            calling: Party::default(),
            diverted: None,
            offer: Some(sdp(AUDIO[from], Direction::SendReceive)),
            hops: 0,
        });
        end
    }

    fn placed(&mut self) -> EndId {
        self.placed.take().expect("a call that was placed")
    }

    fn signal(&mut self, end: EndId, signal: Signal) {
        self.input(Input::Signal(end, signal));
    }

    fn hang_up(&mut self, end: EndId) {
        self.signal(end, Signal::Released { cause: Cause::NORMAL_CLEARING });
    }

    fn reload(&mut self, change: impl FnOnce(&mut Plan)) {
        self.switch(change);
        while self.control.unsettled().is_some() {
            self.input(Input::Settle { legs: 100 });
        }
    }

    fn switch(&mut self, change: impl FnOnce(&mut Plan)) {
        let mut plan = Plan::clone(&self.plan);
        change(&mut plan);
        let plan = PreparedPlan::between(&self.plan, &Arc::new(plan)).expect("another plan");
        self.plan = plan.plan();
        self.input(Input::Configure { plan: Some(Box::new(plan)), revoked: Vec::new() });
    }

    /// A talks to B; C rings at A.
    fn with_one_call_up_and_one_ringing() -> (Self, [EndId; 3]) {
        let mut world = Self::new();
        let a = world.dial(0, "2002");
        let b = world.placed();
        world.signal(b, Signal::Answered { media: Some(sdp(AUDIO[1], Direction::SendReceive)) });
        world.dial(2, "2001");
        let ringing = world.placed();
        world.signal(ringing, Signal::Ringing { early: None });
        world.said();
        (world, [a, b, ringing])
    }
}

fn restrict(restricted: bool) -> impl FnOnce(&mut Plan) {
    move |plan| plan.devices[0].allow_cti_control = !restricted
}

#[test]
fn what_happens_at_a_restricted_phone_is_told_when_it_is_free_again() {
    let (mut world, [a, b, ringing]) = World::with_one_call_up_and_one_ringing();
    world.reload(restrict(true));
    world.signal(a, Signal::Offer(Some(sdp(AUDIO[0], Direction::SendOnly))));
    world.signal(b, Signal::Answer(sdp(AUDIO[1], Direction::ReceiveOnly)));
    world.hang_up(ringing);
    // One that comes and goes, and one that comes and stays.
    let short = world.dial(0, "2003");
    world.hang_up(short);
    world.dial(0, "2003");
    assert_eq!(world.said(), ["out of service A DeviceRestricted"]);
    world.reload(restrict(false));
    let told = [
        "in service A",
        "Disconnected 2003->2001 16",
        "Held 2001->2002",
        "stopped Input 2001->2002",
        "Proceeding 2001->2003",
    ];
    assert_eq!(world.said(), told);
}

#[test]
fn a_call_that_is_as_it_was_is_told_all_the_same_for_no_snapshot_showed_it() {
    let (mut world, _) = World::with_one_call_up_and_one_ringing();
    world.reload(restrict(true));
    assert_eq!(world.said(), ["out of service A DeviceRestricted"]);
    world.reload(restrict(false));
    assert_eq!(world.said(), ["in service A", "Connected 2001->2002", "Ringing 2003->2001"]);
    // Two plans at once, the first of which nobody was told.
    world.switch(restrict(true));
    world.reload(restrict(false));
    assert_eq!(world.said(), ["Connected 2001->2002", "Ringing 2003->2001"]);
}

#[test]
fn what_changes_before_the_plan_has_reached_the_phone_is_told_once_as_it_is_then() {
    let (mut world, [a, ..]) = World::with_one_call_up_and_one_ringing();
    world.reload(restrict(true));
    world.said();
    world.switch(restrict(false));
    world.hang_up(a);
    let told = [
        "in service A",
        "stopped Input 2001->2002",
        "stopped Output 2001->2002",
        "Disconnected 2001->2002 16",
    ];
    assert_eq!(world.said(), [&told[..], &["Ringing 2003->2001"]].concat());
    world.reload(|plan| plan.devices[0].description = "another".into());
    assert!(world.said().is_empty());
}

#[test]
fn a_restricted_phone_that_goes_has_the_ends_told_of_what_was_known() {
    let (mut world, [.., ringing]) = World::with_one_call_up_and_one_ringing();
    world.reload(restrict(true));
    world.dial(0, "2003");
    world.hang_up(ringing);
    assert_eq!(world.said(), ["out of service A DeviceRestricted"]);
    world.reload(|plan| drop(plan.devices.remove(0)));
    let told = [
        "stopped Input 2001->2002",
        "stopped Output 2001->2002",
        "Disconnected 2001->2002 41",
        // What ended before is not lost.
        "Disconnected 2003->2001 16",
        "closed A",
    ];
    assert_eq!(world.said(), told);
}

#[test]
fn nobody_is_told_who_has_closed_the_phone_meanwhile() {
    let (mut world, [a, ..]) = World::with_one_call_up_and_one_ringing();
    world.reload(restrict(true));
    world.said();
    world.input(Input::SessionEnded(APP));
    world.hang_up(a);
    world.reload(restrict(false));
    assert!(world.said().is_empty());
    assert!(world.mirror.devices.is_empty());
}

#[test]
fn a_reload_tells_what_is_other_than_was_told_of_the_device() {
    let mut world = World::new();
    let forward = |to: Option<&str>| {
        let to = to.map(Into::into);
        move |plan: &mut Plan| plan.numbers[0].forward.all = to
    };
    world.reload(forward(Some("2002")));
    assert_eq!(world.said(), ["forward of A 2002"]);
    // Two plans at once: it is as it was told.
    world.switch(forward(Some("2003")));
    world.reload(forward(Some("2002")));
    assert!(world.said().is_empty());
    // What is set while the line is restricted is nobody's to hear, then and later.
    world.reload(|plan| plan.numbers[0].allow_cti_control = false);
    assert_eq!(world.said(), ["out of service A LineRestricted"]);
    world.reload(forward(None));
    assert!(world.said().is_empty());
    world.reload(|plan| plan.numbers[0].allow_cti_control = true);
    assert_eq!(world.said(), ["in service A"]);
}

#[test]
fn after_something_was_missed_the_whole_is_compared_with_what_was_told() {
    let (mut world, [a, _, ringing]) = World::with_one_call_up_and_one_ringing();
    let name: DeviceName = "A".into();
    let whole = |world: &World| {
        let device = world.control.device(&name).expect("there");
        (device, world.control.whole_legs(&name))
    };
    // Nothing was missed.
    let (device, legs) = whole(&world);
    assert!(world.mirror.whole(device, legs).expect("open").events.is_empty());
    // An end, a restriction and a call that began hidden were.
    let mut missed = Vec::new();
    world.control.handle(
        world.now,
        Input::Signal(ringing, Signal::Released { cause: Cause::NORMAL_CLEARING }),
        &mut missed,
    );
    let mut plan = Plan::clone(&world.plan);
    restrict(true)(&mut plan);
    let plan = PreparedPlan::between(&world.plan, &Arc::new(plan)).expect("another plan");
    world.plan = plan.plan();
    world.control.handle(
        world.now,
        Input::Configure { plan: Some(Box::new(plan)), revoked: Vec::new() },
        &mut missed,
    );
    world.control.handle(world.now, Input::SettleDevice(name.clone()), &mut missed);
    let (device, legs) = whole(&world);
    let difference = world.mirror.whole(device, legs);
    world.difference(difference);
    assert_eq!(world.said(), ["Disconnected 2003->2001 41", "out of service A DeviceRestricted"]);
    while world.control.unsettled().is_some() {
        world.control.handle(world.now, Input::Settle { legs: 100 }, &mut missed);
    }
    // The call that is up is hidden from here on, and its end is heard when that is over.
    world.hang_up(a);
    assert!(world.said().is_empty());
    world.reload(restrict(false));
    let told = ["stopped Input 2001->2002", "stopped Output 2001->2002", "Disconnected 2001->2002 16"];
    assert_eq!(world.said(), [&["in service A"], &told[..]].concat());
}
