//! Trying destinations: look a number up, ring its appearances, follow its forwards, and what happens when all refuse.

use crate::call::{Alerting, Attempt, AttemptId, Call, Conversation, Parties, Ringing, Setup, Step};
use crate::cause::Cause;
use crate::clearing::{Clearing, Role};
use crate::codec_choice::{Abilities, abilities};
use crate::control::CallControl;
use crate::devices::AutoAccept;
use crate::dialling::{Barred, Found, Sender};
use crate::end::{Application, Channel, Dialog, DialogState, End, Exchange, Remote, Told};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, TrunkName};
use crate::leg::{At, Hold, Leg};
use crate::media::{Description, Direction, MediaTermination};
use crate::media_exchange::{is_dynamic, local_address, local_offer, said};
use crate::plan::{DeviceKind, OfferTime};
use crate::port::{Body, Diverted, EndCommand, Event, Target};
use crate::timers::Timer;
use crate::transitions::Recorder;
use crate::view::{LegState, Party, Reason};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// How long a trunk may ring (RFC 3261 Timer C, Q.931 T301).
const TRUNK_RINGS: Duration = Duration::from_secs(180);

/// What became of a number.
enum Lookup {
    Ring(SmallVec<[DeviceName; 2]>),
    Trunk(TrunkName, Dn),
    Forward(Dn, Reason),
    Barred(Barred),
    Fail(Failure),
}

/// Numbers that are followed to see where a call may ring; no call is sent on so often.
const MAX_REACHED: usize = 64;

impl CallControl {
    /// Sends the call's other end to a number, as far as `sender` reaches. `parties.called` is that number already.
    pub(crate) fn route(&mut self, call: CallId, dn: Dn, reason: Reason, sender: Sender) {
        let (mut dn, mut reason, mut sender) = (dn, reason, sender);
        self.end_early_media(call);
        // Ends, for each round is a hop, whose count is bounded.
        loop {
            match self.look_up(call, &sender, &dn) {
                Lookup::Ring(devices) if self.wants_address(call) && self.offers_early(&devices) => {
                    return self.ask_first(call, dn, reason, sender);
                }
                Lookup::Trunk(trunk, _)
                    if self.wants_address(call) && self.trunk_offer(&trunk) == OfferTime::Early =>
                {
                    return self.ask_first(call, dn, reason, sender);
                }
                Lookup::Ring(devices) => return self.ring(call, dn, reason, &devices),
                Lookup::Trunk(trunk, number) => {
                    if let Err(over) = self.send_to_trunk(&trunk) {
                        let failure = over.failure();
                        self.say_refused(over.rule, sender, dn);
                        return self.final_failure(call, failure);
                    }
                    return self.place_trunk(call, dn, reason, trunk, number);
                }
                Lookup::Barred(barred) => {
                    self.say_barred(barred, sender, dn);
                    return self.final_failure(call, unroutable(Cause::UNALLOCATED_NUMBER, 404));
                }
                Lookup::Fail(why) => return self.final_failure(call, why),
                Lookup::Forward(to, why) => {
                    if !(self.hop(call) && self.follow(call, &dn, &to)) {
                        return self.final_failure(call, Failure::LOOP);
                    }
                    sender = Sender::Number(std::mem::replace(&mut dn, to));
                    reason = why;
                }
            }
        }
    }

    /// The phones at which a call to this number may ring, however it is forwarded.
    #[must_use]
    pub fn phones_within_reach(&self, dialled: &Dn) -> Vec<DeviceName> {
        let (mut numbers, mut phones) = (vec![dialled.clone()], Vec::new());
        let mut next = 0;
        while let Some(dn) = numbers.get(next) {
            next += 1;
            let Some(number) = self.numbers.get(dn) else { continue };
            let devices = number.appearances.iter().filter(|name| !phones.contains(*name));
            let is_phone =
                |name: &&DeviceName| self.devices.known(name).is_some_and(|device| !device.is_application());
            let found: Vec<DeviceName> = devices.filter(is_phone).cloned().collect();
            phones.extend(found);
            let plan = &number.plan.forward;
            let forwards =
                [&number.forward_all, &plan.busy, &plan.no_answer, &plan.unregistered, &plan.on_failure];
            for to in forwards.into_iter().flatten() {
                if numbers.len() < MAX_REACHED && !numbers.contains(to) {
                    numbers.push(to.clone());
                }
            }
        }
        phones
    }

    fn look_up(&self, call: CallId, sender: &Sender, dn: &Dn) -> Lookup {
        let number = match self.dial(sender, dn) {
            Ok(Found::Number(number)) => number,
            Ok(Found::Pattern(pattern)) => return Lookup::Trunk(pattern.trunk.clone(), pattern.sends(dn)),
            Err(barred) => return Lookup::Barred(barred),
        };
        // Whom the line forwards to may call the line, as a secretary calls her chief.
        let caller = self.sought(call).map(|parties| &*parties.calling.number);
        if let Some(to) = number.forward_all.as_ref().filter(|to| Some(to.as_str()) != caller) {
            return Lookup::Forward(to.clone(), Reason::ForwardAll);
        }
        let forwards = &number.plan.forward;
        let mut here: SmallVec<[DeviceName; 2]> =
            number.appearances.iter().filter(|name| self.appears(name, dn)).cloned().collect();
        if here.is_empty() {
            return match (&forwards.unregistered, &forwards.no_answer) {
                (Some(to), _) => Lookup::Forward(to.clone(), Reason::ForwardUnregistered),
                (None, Some(to)) => Lookup::Forward(to.clone(), Reason::ForwardNoAnswer),
                (None, None) => Lookup::Fail(unroutable(Cause::SUBSCRIBER_ABSENT, 480)),
            };
        }
        here.retain(|name| self.has_room(name, dn));
        if here.is_empty() {
            return match &forwards.busy {
                Some(to) => Lookup::Forward(to.clone(), Reason::ForwardBusy),
                None => Lookup::Fail(unroutable(Cause::USER_BUSY, 486)),
            };
        }
        here.retain(|name| self.has_codec(call, name));
        match here.is_empty() {
            true => Lookup::Fail(unroutable(Cause::BEARER_NOT_IMPLEMENTED, 488)),
            false => Lookup::Ring(here),
        }
    }

    fn appears(&self, name: &DeviceName, dn: &Dn) -> bool {
        self.devices.known(name).is_some_and(|device| {
            device.takes_calls()
                && (self.is_opened(device) || !device.is_application())
                && device.line(dn).is_some_and(|line| !(line.restricted && device.is_application()))
        })
    }

    fn has_room(&self, name: &DeviceName, dn: &Dn) -> bool {
        let Some(device) = self.devices.known(name).filter(|device| device.has_room()) else { return false };
        device.line(dn).is_some_and(|line| line.calls < line.busy_trigger && line.calls < line.max_calls)
    }

    /// Whether an application's device and the caller have a codec in common, as far as one can know.
    fn has_codec(&self, call: CallId, name: &DeviceName) -> bool {
        let Some(anchor) = self.anchor(call).and_then(|anchor| self.end_at(anchor)) else { return false };
        let media = self.devices.known(name).and_then(|device| device.media.as_deref());
        let Some(able) = media.and_then(Abilities::of) else { return true };
        match (anchor.far(), abilities(anchor)) {
            (Some(offer), _) => able.choose(offer).is_some(),
            (None, Some(own)) => own.codecs.iter().any(|codec| able.codecs.contains(codec)),
            (None, None) => true,
        }
    }

    /// Rings all appearances of a number.
    fn ring(&mut self, call: CallId, dn: Dn, reason: Reason, devices: &[DeviceName]) {
        self.proceed(call);
        let Some(attempt) = self.begin_attempt(call, &dn) else { return };
        let mut route_points_only = true;
        let mut auto_accept: SmallVec<[LegId; 2]> = SmallVec::new();
        for name in devices {
            let Some(device) = self.devices.known(name) else { continue };
            let (kind, accepts) =
                (device.plan.kind, device.line(&dn).is_some_and(|line| line.auto_accept == AutoAccept::On));
            let media = device.media.clone();
            let at = match kind {
                DeviceKind::Phone => At::Phone { device: name.clone(), dn: dn.clone() },
                DeviceKind::CtiPort | DeviceKind::RoutePoint => {
                    At::Application { device: name.clone(), dn: dn.clone() }
                }
            };
            let Some(leg) = self.add_branch(call, at, self.party(&dn), reason, media) else {
                break;
            };
            route_points_only &= kind == DeviceKind::RoutePoint;
            match kind {
                DeviceKind::Phone => self.place(call, leg, Target::Phone(name.clone())),
                DeviceKind::CtiPort | DeviceKind::RoutePoint if accepts => auto_accept.push(leg),
                DeviceKind::CtiPort | DeviceKind::RoutePoint => {}
            }
            self.tell_of(leg, Event::Leg);
        }
        if self.attempt(call).is_none_or(|attempt| attempt.branches.is_empty()) {
            return self.final_failure(call, Failure::NO_ROOM);
        }
        if route_points_only {
            self.set_timer(Timer::NewCallAccept(attempt), self.plan.parameters.new_call_accept);
        } else {
            self.set_timer(Timer::NoAnswer(attempt), self.ring_duration(&dn));
        }
        for leg in auto_accept {
            self.branch_rings(leg, None);
        }
    }

    fn place_trunk(&mut self, call: CallId, dn: Dn, reason: Reason, trunk: TrunkName, number: Dn) {
        self.proceed(call);
        let Some(attempt) = self.begin_attempt(call, &dn) else { return };
        let at = At::Trunk { trunk: trunk.clone(), number: number.clone() };
        let Some(leg) = self.add_branch(call, at, self.party(&dn), reason, None) else {
            return self.final_failure(call, Failure::NO_ROOM);
        };
        self.place(call, leg, Target::Trunk(trunk, number));
        self.set_timer(Timer::NoAnswer(attempt), TRUNK_RINGS);
    }

    fn begin_attempt(&mut self, call: CallId, dn: &Dn) -> Option<AttemptId> {
        let attempt = Attempt {
            call,
            dn: dn.clone(),
            branches: SmallVec::new(),
            answering: None,
            refused: None,
            alerting: Alerting::Offered,
            early: None,
        };
        self.calls.begin_attempt(attempt)
    }

    /// The caller's number is routed.
    fn proceed(&mut self, call: CallId) {
        let Some(anchor) = self.anchor(call) else { return };
        if self.calls.leg(anchor).is_some_and(|leg| leg.state() == LegState::Dialing) {
            self.enter(anchor, LegState::Proceeding);
        }
    }

    fn add_branch(
        &mut self,
        call: CallId,
        at: At,
        party: Party,
        reason: Reason,
        media: Option<Arc<MediaTermination>>,
    ) -> Option<LegId> {
        if self.calls.leg_count() >= self.plan.parameters.max_legs as usize {
            return None;
        }
        let parties = Arc::clone(self.parties(self.anchor(call)?)?);
        let id = self.new_leg();
        let end = EndId(id.0);
        let far = match at {
            At::Application { .. } => End::Application(Application::new(end, id, media)),
            At::Phone { .. } | At::Trunk { .. } => End::Dialog(Dialog::new(end, id, DialogState::Placed)),
        };
        let begins = (LegState::Offering, reason);
        let leg = Leg::begin((id, call), at, party, parties, begins, end);
        self.attempt_mut(call)?.branches.push(id);
        self.add_leg(leg, far);
        Some(id)
    }

    /// Puts a leg and its end into the tables; its call knows it already.
    pub(crate) fn add_leg(&mut self, leg: Leg, end: End) {
        if let Some((device, dn)) = leg.at.line()
            && let Some(device) = self.devices.known_mut(device)
        {
            device.legs.insert(leg.id);
            let line = device.line_mut(dn);
            if let Some(line) = self.contradictions.known(line, "a leg begins on a line that is not there") {
                line.calls += 1;
            }
        }
        if !leg.state().may_begin() {
            self.contradictions.note("a leg begins in a state in which none begins");
        }
        self.count_leg(&leg.at);
        self.calls.add_leg(leg, end, &mut Recorder { why: self.why, out: &mut self.out });
    }

    fn place(&mut self, call: CallId, leg: LegId, target: Target) {
        let Some(hops) = self.calls.call(call).map(Call::hops) else { return };
        let Some(caller) = self.anchor(call).and_then(|anchor| self.calls.leg(anchor)) else { return };
        let (parties, hold) = (Parties::clone(&caller.parties), caller.hold);
        let Some(anchor) = self.end_at(caller.id) else { return };
        let told = Told { peer: anchor.id(), version: anchor.version(), hold };
        let time = match &target {
            Target::Phone(device) => self.phone_offer(device),
            Target::Trunk(trunk, _) => self.trunk_offer(trunk),
        };
        let offer = match time {
            OfferTime::Early => first_offer(anchor, hold),
            OfferTime::Late => None,
        };
        let Some(reason) = self.calls.leg(leg).map(|leg| leg.reason) else { return };
        if let Some(placed) = self.known_end(leg).and_then(|end| self.known_dialog(end)) {
            placed.place(offer.is_some().then_some(told), offer.as_ref().and_then(said));
        }
        let Parties { calling, called, original_called, last_redirecting } = parties;
        let diverted = last_redirecting.map(|by| {
            let original = original_called.unwrap_or_else(|| by.clone());
            Diverted { by, original }
        });
        self.command(leg, EndCommand::Call { target, calling, called, diverted, reason, offer, hops });
    }

    fn phone_offer(&self, device: &DeviceName) -> OfferTime {
        self.devices.known(device).map(|device| device.plan.offer).unwrap_or_default()
    }

    fn trunk_offer(&self, name: &TrunkName) -> OfferTime {
        self.trunk_plan(name).map(|trunk| trunk.offer).unwrap_or_default()
    }

    /// Whether one of these is a phone that is to be offered media with the call.
    fn offers_early(&self, devices: &[DeviceName]) -> bool {
        let phone = |name: &&DeviceName| {
            self.devices.known(name).is_some_and(|device| device.plan.kind == DeviceKind::Phone)
        };
        devices.iter().filter(phone).any(|name| self.phone_offer(name) == OfferTime::Early)
    }

    /// Whether the calling application has to say first where it will receive, for there is no offer without that.
    fn wants_address(&self, call: CallId) -> bool {
        let Some(anchor) = self.anchor(call) else { return false };
        let held = self.calls.leg(anchor).is_some_and(|leg| leg.hold == Hold::On);
        let wants = |caller: &End| is_dynamic(caller) && local_address(caller).is_none();
        !held && self.end_at(anchor).is_some_and(wants)
    }

    /// Asks the calling application for its address; the number is called when it is there.
    fn ask_first(&mut self, call: CallId, dn: Dn, reason: Reason, sender: Sender) {
        self.proceed(call);
        let Some(anchor) = self.anchor(call) else { return };
        if let Some(call) = self.calls.call_mut(call) {
            let step = Step::AwaitingAddress { dn, reason, sender };
            call.conversation = Conversation::Setup(Setup { anchor, step });
        }
        let end = self.end_at(anchor).and_then(End::application);
        let Some(end) = self.contradictions.known(end, "who is asked for an address is no application")
        else {
            return;
        };
        if end.channel() == Channel::Closed {
            self.ask_for_address(end.id(), None);
        }
    }

    /// Whether a call waits for this leg's address to call its destination.
    pub(crate) fn is_awaited(&self, leg: LegId) -> bool {
        let call = self.calls.leg(leg).and_then(|leg| self.calls.call(leg.call));
        call.is_some_and(|call| call.conversation.awaits_address_of(leg))
    }

    /// Nobody is to be called any more: without an address another number is no better.
    pub(crate) fn cancel_routing(&mut self, call: CallId) {
        let anchor = self.anchor(call);
        if let (Some(anchor), Some(call)) = (anchor, self.calls.call_mut(call)) {
            call.conversation = Conversation::routing(anchor);
            call.forget_alternatives();
        }
    }

    /// The address that a call waited for is there. The number is looked up anew, for time has passed.
    pub(crate) fn dial_on(&mut self, id: CallId) {
        let Some(call) = self.calls.call_mut(id) else { return };
        // Whoever gives an address asks for it: mostly nothing waits.
        let Conversation::Setup(Setup { step, .. }) = &mut call.conversation else { return };
        match std::mem::replace(step, Step::Routing) {
            Step::AwaitingAddress { dn, reason, sender } => self.route(id, dn, reason, sender),
            other @ (Step::Routing | Step::Trying(_)) => *step = other,
        }
    }

    /// Whether a destination that is being tried was offered this leg's address.
    pub(crate) fn is_offered(&self, leg: LegId) -> bool {
        let Some(end) = self.end_at(leg).filter(|end| is_dynamic(end)) else { return false };
        let Some(call) = self.calls.leg(leg).map(|leg| leg.call) else { return false };
        let offered = |branch: &LegId| {
            let told = self.end_at(*branch).and_then(End::dialog).and_then(Dialog::told);
            told.is_some_and(|told| (told.peer, told.version) == (end.id(), end.version()))
        };
        self.attempt(call).is_some_and(|attempt| attempt.branches.iter().any(offered))
    }

    /// Whoever played to the caller before it answered does so no more. What an undecided redirect left plays on.
    fn end_early_media(&mut self, id: CallId) {
        let Some(call) = self.calls.call(id).filter(|call| call.left.is_none()) else { return };
        if let Conversation::Setup(Setup { anchor, .. }) = call.conversation {
            self.stop_streams(anchor);
        }
    }

    /// A branch rings: its phone said so, or its application accepted.
    pub(crate) fn branch_rings(&mut self, leg: LegId, early: Option<Description>) {
        let Some(call) = self.calls.leg(leg).map(|leg| leg.call) else { return };
        if self.role(leg) == Some(Role::Redirected) {
            return self.redirected_rings(call, leg);
        }
        let Some(Conversation::Setup(Setup { anchor, step: Step::Trying(id) })) =
            self.calls.call(call).map(|call| &call.conversation)
        else {
            return;
        };
        let (anchor, id) = (*anchor, *id);
        let Some(attempt) = self.calls.attempt_mut(id) else { return };
        let alone = attempt.branches.len() == 1;
        let before = std::mem::replace(&mut attempt.alerting, Alerting::Ringing);
        let dn = attempt.dn.clone();
        if self.calls.leg(leg).is_some_and(|leg| leg.state() == LegState::Offering) {
            self.enter(leg, LegState::Ringing);
        }
        if before == Alerting::Offered {
            self.timers.cancel(Timer::NewCallAccept(id));
            if !self.timers.has(Timer::NoAnswer(id)) {
                self.set_timer(Timer::NoAnswer(id), self.ring_duration(&dn));
            }
        }
        if let Some(early) = &early
            && let Some(dialog) = self.end_at_mut(leg).and_then(End::dialog_mut)
            && dialog.told().is_some()
        {
            dialog.answer_early(early.clone());
        }
        self.alert_caller(call, anchor, leg, early.filter(|_| alone));
        self.commit_redirect(call);
        self.update_early_streams(call);
    }

    fn alert_caller(&mut self, call: CallId, anchor: LegId, branch: LegId, early: Option<Description>) {
        let Some(caller) = self.calls.leg(anchor) else { return };
        let (state, is_trunk) = (caller.state(), matches!(caller.at, At::Trunk { .. }));
        let (early, waits) = match self.end_at(anchor) {
            Some(End::Application(_)) => (early, false),
            // An early answer makes sense only where an offer was relayed.
            Some(End::Dialog(dialog) | End::Remote(Remote { dialog, .. })) => {
                (early.filter(|_| dialog.far().is_some()), dialog.state() == DialogState::Incoming)
            }
            Some(End::BridgePort(_) | End::Source(_)) | None => return,
        };
        let told = self.end_at(branch).and_then(End::dialog).and_then(Dialog::told);
        let offered = told.is_some_and(|told| Some(told.peer) == self.end_of(anchor));
        if early.is_some()
            && offered
            && let Some(attempt) = self.attempt_mut(call)
        {
            attempt.early = Some(branch);
        }
        // After early media plain ringing is news: its stream may have ended, with a forward for instance.
        let plain = early.is_none();
        let ringing = if plain { Ringing::Plain } else { Ringing::EarlyMedia };
        let alerted = self.calls.call_mut(call).is_some_and(|call| call.exchange_alerted(ringing));
        if waits && !(alerted && plain) {
            if let Some(ringing) = self.calls.leg(branch).filter(|_| is_trunk).map(|leg| leg.party.clone()) {
                self.command(anchor, EndCommand::Connected(ringing));
            }
            self.command(anchor, EndCommand::Alert { early: early.map(|early| Body::Relay(early, None)) });
        }
        if matches!(state, LegState::Dialing | LegState::Proceeding) {
            self.enter(anchor, LegState::Ringback);
        }
    }

    /// A branch is no more: refused, hung up, or its application gave up.
    pub(crate) fn branch_failed(&mut self, leg: LegId, why: Failure, redirect_to: &[Dn], clearing: Clearing) {
        let Some((call_id, sender)) = self.calls.leg(leg).map(|leg| (leg.call, leg.at.sender())) else {
            return;
        };
        self.finish_leg(leg, why.cause, why.status, clearing);
        let Some(attempt) = self.attempt_mut(call_id) else { return };
        attempt.branches.retain(|branch| *branch != leg);
        attempt.answering.take_if(|answering| *answering == leg);
        attempt.early.take_if(|early| *early == leg);
        if attempt.refused.is_none_or(|best| best.cause != Cause::USER_BUSY) {
            attempt.refused = Some(why);
        }
        if !attempt.branches.is_empty() && redirect_to.is_empty() {
            return self.ring_on(call_id);
        }
        let best = attempt.refused.unwrap_or(why);
        let (dn, branches) = (attempt.dn.clone(), std::mem::take(&mut attempt.branches));
        attempt.early = None;
        for branch in branches {
            self.finish_leg(branch, Cause::NON_SELECTED_USER_CLEARING, None, Clearing::ByUs);
        }
        self.stop_ringing(call_id);
        let to = match redirect_to {
            [] => self.forward_for(&dn, best.cause, why.origin),
            [first, others @ ..] => {
                self.note_alternatives(call_id, &dn, others, &sender);
                Some((first.clone(), Reason::Redirect, sender))
            }
        };
        self.forward_or_fail(call_id, &dn, to, best);
    }

    /// Nobody takes the call there. What a redirection named beside is tried; a redirect of an application that isn't
    /// decided goes back; else the call is over.
    pub(crate) fn final_failure(&mut self, call_id: CallId, why: Failure) {
        self.stop_ringing(call_id);
        let Some(anchor) = self.anchor(call_id) else { return };
        let Some(call) = self.calls.call_mut(call_id) else { return };
        let tried = std::mem::replace(&mut call.conversation, Conversation::routing(anchor));
        for branch in self.close_conversation(anchor, &tried) {
            self.finish_leg(branch, why.cause, None, Clearing::ByUs);
        }
        while let Some(next) = self.calls.call_mut(call_id).and_then(Call::next_alternative) {
            if self.follow(call_id, &next.from, &next.to) {
                return self.try_next(call_id, next.to, Reason::Redirect, next.sender);
            }
        }
        match self.calls.call_mut(call_id).and_then(|call| call.left.take()) {
            Some(left) => self.redirect_failed(call_id, left, why),
            None => self.end_call(call_id, why, None),
        }
    }
}

/// A number that a call can't go to, and has no forward that says where else.
fn unroutable(cause: Cause, status: u16) -> Failure {
    Failure::new(FailureOrigin::Routing, cause).with_status(status)
}

/// What a new destination is offered; `None` leaves the offer to it. It is told of a phone that holds, or is about to, what that
/// phone says: its answer to the next offer says nothing new.
fn first_offer(anchor: &End, hold: Hold) -> Option<Body> {
    match anchor {
        End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => {
            let begins_to_hold = matches!(dialog.exchange(), Exchange::Owed { hold: Hold::On, .. });
            let as_it_says =
                dialog.state() == DialogState::Incoming || anchor.phone_holds() || begins_to_hold;
            let far = dialog.far()?.clone();
            Some(Body::Relay(far, (!as_it_says).then_some(Direction::SendReceive)))
        }
        End::Application(application) => match application.termination()? {
            MediaTermination::Static { .. } | MediaTermination::Dynamic { .. } => {
                local_offer(anchor, None, hold)
            }
            MediaTermination::None => None,
        },
        End::BridgePort(_) | End::Source(_) => local_offer(anchor, None, hold),
    }
}
