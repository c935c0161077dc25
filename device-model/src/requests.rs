//! What applications ask of lines and legs.

use crate::call::{MAX_USER_DATA, Parties};
use crate::cause::Cause;
use crate::clearing::{Clearing, Role};
use crate::codec_choice::Abilities;
use crate::control::{CallControl, refusal};
use crate::devices::AutoAccept;
use crate::dialling::Sender;
use crate::end::{Application, Channel, End};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, OwnerEpoch, RequestToken, SessionId};
use crate::leg::{At, Hold, Leg, is_offered, wrong_state};
use crate::media::MediaTermination;
use crate::operations::{Asker, OnFailure};
use crate::plan::DeviceKind;
use crate::port::{Event, MessageLamp, Param, Refusal, RefusalKind, Reply, Request, Subject};
use crate::redirect::Redirect;
use crate::view::{LegState, Party, Reason};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The params of `call.make`.
struct NewCall {
    device: DeviceName,
    dn: Option<Dn>,
    destination: Dn,
    calling_number: Option<Dn>,
    user_data: BTreeMap<String, String>,
}

impl CallControl {
    pub(crate) fn request(
        &mut self,
        session: SessionId,
        token: RequestToken,
        owner: OwnerEpoch,
        request: Request,
    ) {
        let asker = Asker { session, token };
        if let Err(refused) = self.fence(owner, &request) {
            return self.reply(session, token, Err(refused));
        }
        let refused = match request {
            Request::OpenDevice { device, media } => return self.open_device(session, token, &device, media),
            Request::CloseDevice { device } => return self.close_device(session, token, &device),
            Request::SetForwardAll { device, dn, destination } => {
                self.forward_all(asker, &device, &dn, destination)
            }
            Request::SetAutoAccept { device, dn, on } => {
                self.auto_accept(asker, &device, &dn, AutoAccept::when(on))
            }
            Request::SetMessageWaiting { device, dn, on } => {
                self.set_message_waiting(asker, &device, &dn, MessageLamp::when(on))
            }
            Request::MakeCall { device, dn, destination, calling_number, user_data } => {
                self.make_call(asker, NewCall { device, dn, destination, calling_number, user_data })
            }
            Request::Accept { leg } => self.accept(asker, leg),
            Request::Answer { leg } => self.answer(asker, leg),
            Request::Reject { leg, cause } => self.reject(asker, leg, cause),
            Request::Redirect { leg, destination, calling_number, original_called, keep_on_failure } => {
                let on_failure = if keep_on_failure { OnFailure::Keep } else { OnFailure::Drop };
                let reason = Reason::Redirect;
                self.redirect(
                    asker.into(),
                    Redirect { leg, destination, calling_number, original_called, on_failure, reason },
                )
            }
            Request::BlindTransfer { leg, destination } => {
                self.redirect(asker.into(), Redirect::blind_transfer(leg, destination))
            }
            Request::Consult { leg, destination } => self.consult(asker, leg, destination),
            Request::Transfer { leg, with } => self.transfer(asker.into(), leg, with),
            Request::Drop { leg } => self.drop_request(asker, leg),
            Request::Hold { leg } => self.hold(asker, leg),
            Request::Retrieve { leg } => self.retrieve(asker, leg),
            Request::SetUserData { leg, user_data } => self.set_user_data(asker, leg, user_data),
            Request::SetMedia { leg, address } => self.set_media(asker, leg, address),
        };
        if let Err(refused) = refused {
            self.reply(session, token, Err(refused));
        }
    }

    /// Refuses what was meant for another owner of the device (P1). What there isn't has no owner.
    fn fence(&self, owner: OwnerEpoch, request: &Request) -> Result<(), Refusal> {
        let device = match request.subject() {
            Subject::Device(device) => self.devices.get(device),
            Subject::Leg(leg) => self.device_of_leg(leg).and_then(|device| self.devices.get(device)),
        };
        match device.filter(|device| device.owner != owner) {
            None => Ok(()),
            Some(device) => {
                let name = &device.plan.name;
                refusal(RefusalKind::NotOwner, format!("{name} has changed its node; nothing was done"))
            }
        }
    }

    pub(crate) fn done(&mut self, asker: Asker) {
        self.reply(asker.session, asker.token, Ok(Reply::Done));
    }

    fn forward_all(
        &mut self,
        asker: Asker,
        device: &DeviceName,
        dn: &Dn,
        to: Option<Dn>,
    ) -> Result<(), Refusal> {
        let before = self.numbers.get(dn).and_then(|number| number.forward_all.clone());
        self.set_forward_all(asker.session, device, dn, to.clone())?;
        self.done(asker);
        if before != to {
            self.tell_forward(dn);
        }
        Ok(())
    }

    fn auto_accept(
        &mut self,
        asker: Asker,
        device: &DeviceName,
        dn: &Dn,
        wanted: AutoAccept,
    ) -> Result<(), Refusal> {
        let changed = self.set_auto_accept(asker.session, device, dn, wanted)?;
        self.done(asker);
        if changed {
            self.tell_line(device, dn, Event::AutoAcceptChanged);
        }
        Ok(())
    }

    fn make_call(&mut self, asker: Asker, new: NewCall) -> Result<(), Refusal> {
        let (dn, media) = self.may_call(asker.session, &new)?;
        let user_data = checked_user_data(new.user_data)?;
        self.admit(&new.device, &dn, &new.destination)?;
        let at = At::Application { device: new.device, dn };
        let sender = at.sender();
        let (call, leg) = self.begin_at(at, media, &new.destination, new.calling_number, user_data);
        self.reply(asker.session, asker.token, Ok(Reply::Call { call, leg }));
        self.tell_of(leg, Event::Leg);
        self.route(call, new.destination, Reason::Normal, sender);
        Ok(())
    }

    /// An application's call with its first leg, not told yet.
    fn begin_at(
        &mut self,
        at: At,
        media: Option<Arc<MediaTermination>>,
        destination: &Dn,
        calling_number: Option<Dn>,
        user_data: Arc<BTreeMap<String, String>>,
    ) -> (CallId, LegId) {
        let leg = self.new_leg();
        let end = End::Application(Application::new(EndId(leg.0), leg, media));
        let calling = at.line().map(|(_, dn)| self.party(dn)).unwrap_or_default();
        let shown = calling_number.map(|number| Party { number: number.as_str().into(), ..calling.clone() });
        let parties = Parties {
            calling: shown.unwrap_or_else(|| calling.clone()),
            called: self.party(destination),
            ..Parties::default()
        };
        let call = self.begin_call(leg, at, calling, parties, end);
        if let Some(call) = self.calls.call_mut(call) {
            call.set_user_data(user_data);
        }
        (call, leg)
    }

    /// A CTI port holds a leg, and calls somebody about it from the same line.
    fn consult(&mut self, asker: Asker, id: LegId, destination: Dn) -> Result<(), Refusal> {
        self.can_consult(self.leg_for(asker.session, id)?)?;
        let leg = self.leg_in(asker.session, id, |state| state == LegState::Connected)?;
        if self.peer_of(id).is_none() || self.role(id) == Some(Role::Redirected) {
            return wrong_state(leg);
        }
        let (at, held) = (leg.at.clone(), leg.call);
        let Some((device, dn)) = at.line().map(|(device, dn)| (device.clone(), dn.clone())) else {
            return wrong_state(leg);
        };
        let (calling_number, user_data) = (None, BTreeMap::new());
        let new = NewCall { device, dn: Some(dn), destination, calling_number, user_data };
        let (dn, media) = self.may_call(asker.session, &new)?;
        self.admit(&new.device, &dn, &new.destination)?;
        let data = self.calls.call(held).map(|call| Arc::clone(call.user_data())).unwrap_or_default();
        let sender = at.sender();
        let (call, leg) = self.begin_at(at, media, &new.destination, None, data);
        if let Some(leg) = self.calls.leg_mut(leg) {
            leg.consult_of = Some(id);
        }
        self.reply(asker.session, asker.token, Ok(Reply::Call { call, leg }));
        self.hold_leg(id);
        self.tell_of(leg, Event::Leg);
        self.route(call, new.destination, Reason::Normal, sender);
        Ok(())
    }

    /// Whether the device of a leg can make a second call about it.
    fn can_consult(&self, leg: &Leg) -> Result<(), Refusal> {
        let message = match self.kind_at(leg) {
            Some(DeviceKind::CtiPort) | None => return Ok(()),
            Some(DeviceKind::RoutePoint) => {
                "a route point can't consult: it holds, makes calls and redirects"
            }
            Some(DeviceKind::Phone) => {
                "the second call has to be dialled at the phone: the two can then be joined by `call.transfer`"
            }
        };
        refusal(RefusalKind::OperationNotSupported, message)
    }

    /// What a leg's device is; none where that is a trunk.
    pub(crate) fn kind_at(&self, leg: &Leg) -> Option<DeviceKind> {
        leg.at.line()?;
        self.device_at(leg).map(|device| device.plan.kind)
    }

    /// The line and media of a new call.
    fn may_call(
        &self,
        session: SessionId,
        new: &NewCall,
    ) -> Result<(Dn, Option<Arc<MediaTermination>>), Refusal> {
        use RefusalKind as R;
        let Some(device) = self.devices.get(&new.device) else {
            return refusal(R::NoSuchDevice, format!("there is no device {}", new.device));
        };
        if !device.openers.contains(&session) {
            return refusal(R::DeviceNotOpen, "open the device first");
        }
        if !device.is_application() {
            return refusal(R::OperationNotSupported, "calls can be made from CTI ports and route points");
        }
        let Some(dn) = new.dn.clone().or_else(|| device.lines.first().map(|line| line.dn.clone())) else {
            return refusal(R::NoSuchLine, "the device has no line");
        };
        self.open_line(session, &new.device, &dn)?;
        if new.destination.as_str().is_empty() {
            return refusal(R::InvalidParams { field: Param::Destination }, "whom to call?");
        }
        if device.media.as_deref().and_then(Abilities::of).is_none() {
            return refusal(R::MediaRequired, "the device is open without media: it can't talk");
        }
        if self.calls.leg_count() + 2 > self.plan.parameters.max_legs as usize {
            return refusal(R::MaxCalls, "the node has as many calls as it may have");
        }
        Ok((dn, device.media.clone()))
    }

    /// Counts a new call of a line and its device, if both may have one more.
    fn admit(&mut self, device: &DeviceName, dn: &Dn, destination: &Dn) -> Result<(), Refusal> {
        let Err(over) = self.begin_at_line(device, dn) else { return Ok(()) };
        let sender = Sender::Line { device: device.clone(), dn: dn.clone() };
        self.say_refused(over.rule, sender, destination.clone());
        let Some(wait) = over.wait else {
            return refusal(
                RefusalKind::MaxCalls,
                "the line, or the device, has as many calls as it may have",
            );
        };
        let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        refusal(
            RefusalKind::RateLimited { retry_after_ms },
            "too many calls at once from this line or device; try again a little later",
        )
    }

    /// A leg that the session may act on: on a device that it opened, unless device or line is restricted.
    pub(crate) fn leg_for(&self, session: SessionId, id: LegId) -> Result<&Leg, Refusal> {
        let opened = |leg: &&Leg| self.watchers(leg).is_some_and(|openers| openers.contains(&session));
        match self.calls.find_leg(id).filter(opened).filter(|leg| !self.is_hidden(leg)) {
            Some(leg) => Ok(leg),
            None => refusal(RefusalKind::NoSuchLeg, "no such leg on a device that this provider has open"),
        }
    }

    /// The leg, if it is in a state that `fits`; never another appearance's call.
    pub(crate) fn leg_in(
        &self,
        session: SessionId,
        id: LegId,
        fits: fn(LegState) -> bool,
    ) -> Result<&Leg, Refusal> {
        let leg = self.leg_for(session, id)?;
        if fits(leg.state()) && !leg.is_remote_in_use() { Ok(leg) } else { wrong_state(leg) }
    }

    /// An application's own leg that nobody has taken yet, and isn't being answered or redirected.
    fn offered_leg(
        &self,
        session: SessionId,
        id: LegId,
        fits: fn(LegState) -> bool,
    ) -> Result<&Leg, Refusal> {
        let leg = self.leg_in(session, id, fits)?;
        if !leg.is_application() {
            return refusal(RefusalKind::OperationNotSupported, "this phone accepts and answers by itself");
        }
        let free = self.attempt(leg.call).is_some_and(|attempt| attempt.answering != Some(id));
        if free && self.role(id) == Some(Role::Branch) { Ok(leg) } else { wrong_state(leg) }
    }

    fn accept(&mut self, asker: Asker, leg: LegId) -> Result<(), Refusal> {
        self.offered_leg(asker.session, leg, |state| state == LegState::Offering)?;
        self.done(asker);
        self.branch_rings(leg, None);
        Ok(())
    }

    fn answer(&mut self, asker: Asker, id: LegId) -> Result<(), Refusal> {
        let leg = self.offered_leg(asker.session, id, is_offered)?;
        let call = leg.call;
        let dynamic = match self.end_at(id).and_then(End::termination) {
            None | Some(MediaTermination::None) => {
                return refusal(
                    RefusalKind::MediaRequired,
                    "the route point is open without media: it can only redirect",
                );
            }
            Some(MediaTermination::Static { .. }) => false,
            Some(MediaTermination::Dynamic { .. }) => true,
        };
        self.done(asker);
        if !dynamic {
            self.establish(call, id);
            return Ok(());
        }
        self.stop_ringing(call);
        if let Some(attempt) = self.attempt_mut(call) {
            attempt.answering = Some(id);
        }
        self.answer_with_address(call, id);
        Ok(())
    }

    fn reject(&mut self, asker: Asker, leg: LegId, cause: Cause) -> Result<(), Refusal> {
        self.offered_leg(asker.session, leg, is_offered)?;
        self.done(asker);
        self.branch_failed(leg, Failure::new(FailureOrigin::Decided, cause), &[], Clearing::ByUs);
        Ok(())
    }

    fn drop_request(&mut self, asker: Asker, id: LegId) -> Result<(), Refusal> {
        let leg = self
            .leg_in(asker.session, id, |state| !matches!(state, LegState::Disconnected | LegState::Failed))?;
        let cause = if is_offered(leg.state()) { Cause::CALL_REJECTED } else { Cause::NORMAL_CLEARING };
        self.done(asker);
        self.drop_leg(id, Failure::new(FailureOrigin::Decided, cause));
        Ok(())
    }

    fn hold(&mut self, asker: Asker, id: LegId) -> Result<(), Refusal> {
        let leg = self.leg_in(asker.session, id, |state| state == LegState::Connected)?;
        if self.peer_of(id).is_none() {
            return wrong_state(leg);
        }
        self.done(asker);
        self.hold_leg(id);
        Ok(())
    }

    fn hold_leg(&mut self, id: LegId) {
        let Some(call) = self.calls.leg(id).map(|leg| leg.call) else { return };
        self.set_hold(id, Hold::On);
        self.enter(id, LegState::Held);
        self.settle(call);
    }

    fn retrieve(&mut self, asker: Asker, id: LegId) -> Result<(), Refusal> {
        let leg = self.leg_in(asker.session, id, |state| state == LegState::Held)?;
        let call = leg.call;
        if leg.hold == Hold::Off {
            return refusal(
                RefusalKind::OperationNotSupported,
                "the phone itself holds this call, and only the phone can retrieve it",
            );
        }
        if self.peer_of(id).is_none() {
            return wrong_state(leg);
        }
        self.done(asker);
        self.set_hold(id, Hold::Off);
        if self.end_at(id).is_some_and(|end| !end.phone_holds()) {
            self.enter(id, LegState::Connected);
        }
        self.settle(call);
        Ok(())
    }

    fn set_hold(&mut self, id: LegId, hold: Hold) {
        let legs = [Some(id), self.peer_of(id)].into_iter().flatten();
        let ends: SmallVec<[EndId; 2]> = legs.filter_map(|leg| self.end_of(leg)).collect();
        self.new_rounds(ends);
        if let Some(leg) = self.calls.leg_mut(id) {
            leg.hold = hold;
        }
    }

    /// Data travels with the call; each leg's new state is told to all who watch it, the asker too (protocol §4).
    fn set_user_data(
        &mut self,
        asker: Asker,
        id: LegId,
        data: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let id_of_call = self
            .leg_in(asker.session, id, |state| !matches!(state, LegState::Disconnected | LegState::Failed))?
            .call;
        let data = checked_user_data(data)?;
        self.done(asker);
        let Some(call) = self.calls.call_mut(id_of_call) else { return Ok(()) };
        if !call.set_user_data(data) {
            return Ok(());
        }
        let legs = self.calls.call(id_of_call).map(|call| self.calls.legs_of(call));
        for leg in legs.into_iter().flatten() {
            self.tell_of(leg, Event::LegChanged);
        }
        Ok(())
    }

    fn set_media(&mut self, asker: Asker, id: LegId, address: SocketAddr) -> Result<(), Refusal> {
        let leg = self.leg_for(asker.session, id)?;
        let end = leg.end.and_then(|end| self.calls.end(end)).and_then(End::application);
        let channel = end.map_or(Channel::Closed, Application::channel);
        // Of a leg that another appearance has, the device knows.
        let of_device = || self.device_at(leg).and_then(|device| device.media.as_deref());
        match (end.map_or_else(of_device, Application::termination), channel) {
            (None, _) => {
                return refusal(RefusalKind::CannotTerminateMediaOnPhone, "a phone ends its own media");
            }
            (Some(MediaTermination::None), _) => {
                return refusal(RefusalKind::MediaRequired, "the device is open without media");
            }
            (Some(MediaTermination::Static { .. }), _) => {
                return refusal(
                    RefusalKind::MediaAlreadyTerminatedStatic,
                    "the device has one address for all calls",
                );
            }
            (Some(MediaTermination::Dynamic { .. }), Channel::Closed) => return wrong_state(leg),
            (Some(MediaTermination::Dynamic { .. }), Channel::Open { .. }) => {
                return refusal(RefusalKind::MediaAlreadySet, "an address was given already");
            }
            (Some(MediaTermination::Dynamic { .. }), Channel::Asked) => {}
        }
        if address.port() == 0 || !address.port().is_multiple_of(2) {
            return refusal(RefusalKind::InvalidParams { field: Param::Port }, "RTP ports are even numbers");
        }
        if address.ip().is_unspecified() || address.ip().is_multicast() {
            return refusal(
                RefusalKind::InvalidParams { field: Param::Ip },
                "media needs an address of one host",
            );
        }
        if !self.is_reached_from(id, address) {
            let message = "the other end's media has addresses of the other family alone (IPv4, IPv6)";
            return refusal(RefusalKind::InvalidParams { field: Param::Ip }, message);
        }
        let session = asker.session;
        self.done(asker);
        self.address_given(id, session, address);
        Ok(())
    }
}

fn checked_user_data(data: BTreeMap<String, String>) -> Result<Arc<BTreeMap<String, String>>, Refusal> {
    let bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
    let (entries, limit) = MAX_USER_DATA;
    if data.len() > entries || bytes > limit {
        return refusal(
            RefusalKind::InvalidParams { field: Param::UserData },
            format!("at most {entries} entries and {limit} bytes"),
        );
    }
    Ok(Arc::new(data))
}
