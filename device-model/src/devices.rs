//! Devices and lines: who has them open, what they can take, and a new plan.

use crate::control::{CallControl, refusal};
use crate::departing::LEGS_AT_ONCE;
use crate::dialling::Sender;
use crate::ids::{DeviceName, Dn, LegId, RequestToken, SessionId};
use crate::media::{Codec, MediaTermination};
use crate::muting::Unheard;
use crate::pace::Pace;
use crate::plan::{DeviceKind, DevicePlan, NumberPlan};
use crate::port::{Event, OutOfServiceReason, Refusal, RefusalKind, Reply};
use crate::spaces::{Partition, Spaces};
use crate::view::{DeviceView, LineView};
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) dn: Dn,
    /// Calls there, in and out.
    pub(crate) calls: u32,
    pub(crate) max_calls: u32,
    pub(crate) busy_trigger: u32,
    /// Calls that begin there.
    pub(crate) pace: Pace,
    pub(crate) auto_accept: bool,
    /// What the plan says, to see whether it changed.
    planned_auto_accept: bool,
    pub(crate) restricted: bool,
    /// While its device is unsettled: what was told of `restricted`.
    pub(crate) told_restricted: bool,
    /// A new plan changed Forward All; it is not told yet.
    pub(crate) forward_untold: bool,
    /// The same of Auto Accept.
    pub(crate) auto_accept_untold: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) plan: DevicePlan,
    pub(crate) lines: SmallVec<[Line; 1]>,
    pub(crate) registered: bool,
    pub(crate) openers: Arc<[SessionId]>,
    pub(crate) media: Option<Arc<MediaTermination>>,
    pub(crate) legs: BTreeSet<LegId>,
    /// Calls that begin there.
    pub(crate) pace: Pace,
    /// It goes, or calls that may not stay here are being cleared: no new call comes, and its openers hear the end of
    /// those that are there.
    pub(crate) leaving: bool,
    /// Of a prepared plan: the same as in the plan before.
    pub(crate) kept: bool,
    /// A new plan changed it and that is not told yet: what was told of it last.
    pub(crate) unsettled: Option<Told>,
    /// Legs that its openers knew, and whose end was hidden from them.
    pub(crate) unheard: Vec<Unheard>,
}

/// Whether a phone has a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    Present,
    Absent,
}

/// What the applications know of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) in_service: bool,
    pub(crate) restricted: bool,
}

impl Line {
    pub(crate) fn new(number: &NumberPlan, default_calls: u32) -> Self {
        let max_calls = number.max_calls.unwrap_or(default_calls);
        Self {
            dn: number.dn.clone(),
            calls: 0,
            max_calls,
            busy_trigger: number.busy_trigger.unwrap_or(max_calls).min(max_calls),
            pace: Pace::default(),
            auto_accept: number.auto_accept,
            planned_auto_accept: number.auto_accept,
            restricted: !number.allow_cti_control,
            told_restricted: !number.allow_cti_control,
            forward_untold: false,
            auto_accept_untold: false,
        }
    }

    /// Goes on where the same line was under the plan before. What an application set stays unless the plan says
    /// something else than it did.
    fn succeed(&mut self, before: &Line, untold: bool, forward_changed: bool) {
        self.told_restricted = if untold { before.told_restricted } else { before.restricted };
        self.forward_untold = before.forward_untold || forward_changed;
        self.pace = before.pace;
        if before.planned_auto_accept == self.planned_auto_accept {
            self.auto_accept = before.auto_accept;
        }
        self.auto_accept_untold = before.auto_accept_untold || before.auto_accept != self.auto_accept;
    }
}

impl Device {
    pub(crate) fn new(plan: DevicePlan, lines: SmallVec<[Line; 1]>, nobody: Arc<[SessionId]>) -> Self {
        Self {
            plan,
            lines,
            registered: false,
            openers: nobody,
            media: None,
            legs: BTreeSet::new(),
            pace: Pace::default(),
            leaving: false,
            kept: false,
            unsettled: None,
            unheard: Vec::new(),
        }
    }

    /// Goes on where the same device was under the plan before, as described now. It is unsettled then.
    pub(crate) fn succeed(&mut self, before: &mut Device, forward_changed: impl Fn(&Dn) -> bool) {
        let told = Told { in_service: before.in_service(), restricted: !before.plan.allow_cti_control };
        let untold = before.unsettled.is_some();
        self.unsettled = before.unsettled.or(Some(told));
        self.registered = before.registered;
        std::mem::swap(&mut self.openers, &mut before.openers);
        self.media = before.media.take();
        self.pace = before.pace;
        self.legs = std::mem::take(&mut before.legs);
        self.unheard = std::mem::take(&mut before.unheard);
        for line in &mut self.lines {
            if let Some(before) = before.line(&line.dn) {
                line.succeed(before, untold, forward_changed(&line.dn));
            }
        }
    }

    /// Whether calls on this line may not stay: the device has lost it, or applications have lost it.
    pub(crate) fn loses(&self, dn: &Dn) -> bool {
        let shut = !self.plan.allow_cti_control || self.openers.is_empty();
        self.line(dn).is_none_or(|line| self.is_application() && (shut || line.restricted))
    }

    pub(crate) fn line(&self, dn: &Dn) -> Option<&Line> {
        self.lines.iter().find(|line| line.dn == *dn)
    }

    pub(crate) fn line_mut(&mut self, dn: &Dn) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.dn == *dn)
    }

    /// Phones work as phones, whether applications may control them or not.
    pub(crate) fn takes_calls(&self) -> bool {
        match self.plan.kind {
            DeviceKind::Phone => self.registered && !self.leaving,
            DeviceKind::CtiPort | DeviceKind::RoutePoint => self.in_service() && !self.leaving,
        }
    }

    /// In service for applications.
    pub(crate) fn in_service(&self) -> bool {
        let alive = match self.plan.kind {
            DeviceKind::Phone => self.registered,
            DeviceKind::CtiPort | DeviceKind::RoutePoint => !self.openers.is_empty(),
        };
        alive && self.restriction().is_none()
    }

    /// Why applications may not use it now: the device is restricted, or all its lines are.
    pub(crate) fn restriction(&self) -> Option<OutOfServiceReason> {
        let lines = !self.lines.is_empty() && self.lines.iter().all(|line| line.restricted);
        match (self.plan.allow_cti_control, lines) {
            (false, _) => Some(OutOfServiceReason::DeviceRestricted),
            (true, true) => Some(OutOfServiceReason::LineRestricted),
            (true, false) => None,
        }
    }

    pub(crate) fn is_application(&self) -> bool {
        match self.plan.kind {
            DeviceKind::Phone => false,
            DeviceKind::CtiPort | DeviceKind::RoutePoint => true,
        }
    }
}

/// A directory number and where it appears.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub(crate) plan: NumberPlan,
    /// Forward All, which applications may change.
    pub(crate) forward_all: Option<Dn>,
    pub(crate) partition: Partition,
    pub(crate) appearances: SmallVec<[DeviceName; 1]>,
}

impl CallControl {
    pub(crate) fn device_view(&self, device: &Device) -> DeviceView {
        self.view_with(device, &self.numbers)
    }

    /// A device with the numbers of its time.
    pub(crate) fn view_with(&self, device: &Device, numbers: &HashMap<Dn, Number>) -> DeviceView {
        let held = self.is_held(device);
        let in_service = device.in_service() && (held || !device.is_application());
        DeviceView {
            name: device.plan.name.clone(),
            kind: device.plan.kind,
            description: device.plan.description.clone(),
            pool: device.plan.pool.clone(),
            in_service,
            node: in_service.then(|| self.identity.node.clone()),
            registered: device.registered || (device.is_application() && held),
            restricted: !device.plan.allow_cti_control,
            opened: held,
            lines: (1..).zip(&device.lines).map(|(index, line)| line_view(line, index, numbers)).collect(),
        }
    }

    pub(crate) fn registered(&mut self, name: &DeviceName, registration: Registration) {
        let Some(device) = self.devices.get_mut(name).filter(|device| device.plan.kind == DeviceKind::Phone)
        else {
            return;
        };
        let before = device.in_service();
        let registered = registration == Registration::Present;
        if std::mem::replace(&mut device.registered, registered) != registered {
            self.registered =
                if registered { self.registered + 1 } else { self.registered.saturating_sub(1) };
        }
        self.tell_service(name, before, OutOfServiceReason::DeviceUnregistered);
    }

    /// Tells the openers if the service state is another than before.
    pub(crate) fn tell_service(&mut self, name: &DeviceName, before: bool, reason: OutOfServiceReason) {
        let Some(device) = self.devices.get(name) else { return };
        let now = device.in_service();
        if now == before || device.openers.is_empty() {
            return;
        }
        let (openers, view) = (device.openers.clone(), self.device_view(device));
        self.tell(
            openers,
            if now { Event::DeviceInService(view) } else { Event::DeviceOutOfService(view, reason) },
        );
    }

    pub(crate) fn open_device(
        &mut self,
        session: SessionId,
        token: RequestToken,
        name: &DeviceName,
        media: Option<MediaTermination>,
    ) {
        let media = match self.may_open(session, name, media) {
            Ok(media) => media,
            Err(refused) => return self.reply(session, token, Err(refused)),
        };
        let before = self.devices.get(name).is_some_and(Device::in_service);
        let first = self.grant(session, name, media);
        let Some(view) = self.device(name) else { return };
        let mut legs = self.legs_of_device(name);
        legs.retain(|leg| !view.lines.iter().any(|line| line.dn == leg.dn && line.restricted));
        self.reply(session, token, Ok(Reply::Opened { device: view, legs }));
        self.tell_service(name, before, OutOfServiceReason::DeviceFailure);
        self.count_hold(session, first);
    }

    /// Gives the session its hold; true when nobody had the device open.
    fn grant(&mut self, session: SessionId, name: &DeviceName, media: Option<MediaTermination>) -> bool {
        let Some(device) = self.devices.get_mut(name) else { return false };
        let first = device.openers.is_empty();
        device.openers = device.openers.iter().copied().chain([session]).collect();
        if device.media.is_none() {
            device.media = media.map(Arc::new);
        }
        self.sessions.entry(session).or_default().insert(name.clone());
        first
    }

    /// A hold of an earlier process: it was granted then, and stands as if the plan had been changed meanwhile.
    pub(crate) fn restore_hold(
        &mut self,
        session: SessionId,
        name: &DeviceName,
        media: Option<MediaTermination>,
    ) {
        use MediaTermination as M;
        let Some(device) = self.devices.get(name) else { return };
        let fits = match (device.plan.kind, &media) {
            (DeviceKind::Phone, media) => media.is_none(),
            (DeviceKind::CtiPort, media) => matches!(media, Some(M::Static { .. } | M::Dynamic { .. })),
            (DeviceKind::RoutePoint, media) => media.is_some(),
        };
        let same = device.openers.is_empty() || device.media.as_deref() == media.as_ref();
        if !fits || !same || device.openers.contains(&session) {
            return;
        }
        let first = self.grant(session, name, media);
        self.count_hold(session, first);
    }

    /// The rules of reference §3.3.
    fn may_open(
        &self,
        session: SessionId,
        name: &DeviceName,
        media: Option<MediaTermination>,
    ) -> Result<Option<MediaTermination>, Refusal> {
        use RefusalKind as R;
        let Some(device) = self.devices.get(name) else {
            return refusal(R::NoSuchDevice, format!("there is no device {name}"));
        };
        if !device.plan.allow_cti_control {
            return refusal(
                R::DeviceRestricted,
                "the administrator allows no CTI control of this device (allow_cti_control)",
            );
        }
        if device.openers.contains(&session) {
            return refusal(R::DeviceAlreadyOpen, "this provider has the device open already");
        }
        let media = match device.plan.kind {
            DeviceKind::Phone if media.is_some() => {
                return refusal(
                    R::CannotTerminateMediaOnPhone,
                    "a phone ends its own media: open it without `media`",
                );
            }
            DeviceKind::Phone => return Ok(None),
            DeviceKind::CtiPort | DeviceKind::RoutePoint => {
                normal_media(media.unwrap_or(MediaTermination::None))?
            }
        };
        if device.plan.kind == DeviceKind::CtiPort && media == MediaTermination::None {
            return refusal(R::MediaRequired, "a CTI port needs `media` of mode static or dynamic");
        }
        use MediaTermination as M;
        match (device.media.as_deref(), &media) {
            (None, _) | (Some(M::None), M::None) => Ok(Some(media)),
            (Some(M::None), M::Static { .. } | M::Dynamic { .. }) => refusal(
                R::MediaAlreadyTerminatedNone,
                "another application has the device open without media",
            ),
            (Some(M::Static { .. }), _) => refusal(
                R::MediaAlreadyTerminatedStatic,
                "another application ends this device's media at its own address",
            ),
            (Some(M::Dynamic { .. }), M::None | M::Static { .. }) => refusal(
                R::MediaAlreadyTerminatedDynamic,
                "another application has the device open with dynamic media",
            ),
            (Some(open @ M::Dynamic { .. }), M::Dynamic { .. }) if *open == media => Ok(Some(media)),
            (Some(M::Dynamic { .. }), M::Dynamic { .. }) => refusal(
                R::MediaCapabilityMismatch,
                "codecs and srtp must be those with which the device is open already",
            ),
        }
    }

    pub(crate) fn close_device(&mut self, session: SessionId, token: RequestToken, name: &DeviceName) {
        if !self.devices.contains_key(name) {
            return self.reply(
                session,
                token,
                refusal(RefusalKind::NoSuchDevice, format!("there is no device {name}")),
            );
        }
        if !self.is_open(session, name) {
            return self.reply(
                session,
                token,
                refusal(RefusalKind::DeviceNotOpen, "this provider hasn't opened the device"),
            );
        }
        self.reply(session, token, Ok(Reply::Done));
        self.release_hold(session, name);
    }

    /// Ends a session's hold on a device; the last one takes an application's device out of service (protocol §2). Else
    /// the calls stay with the others, but not the address of an application that has gone.
    pub(crate) fn release_hold(&mut self, session: SessionId, name: &DeviceName) {
        let last = self.forget_hold(session, name);
        if last {
            return self.fail_in_portions(name, &mut { LEGS_AT_ONCE });
        }
        self.orphan_at_once(session, name);
    }

    /// Takes the device from the session; true when nobody has it open any more.
    fn forget_hold(&mut self, session: SessionId, name: &DeviceName) -> bool {
        self.forget_name(session, name);
        if self.is_open(session, name) {
            self.holds.take(session);
            self.weigh_session(session);
        }
        self.take_hold(session, name).unwrap_or(false)
    }

    /// Takes the session from the device, if it is there; true when it was the last.
    pub(crate) fn take_hold(&mut self, session: SessionId, name: &DeviceName) -> Option<bool> {
        let device = self.devices.get_mut(name).filter(|device| device.openers.contains(&session))?;
        device.openers = device.openers.iter().copied().filter(|opener| *opener != session).collect();
        let last = device.openers.is_empty();
        if last {
            device.unheard.clear();
            self.holds.take_device();
            self.weigh_node();
        }
        Some(last)
    }

    /// Strikes a device from what a session has opened.
    pub(crate) fn forget_name(&mut self, session: SessionId, name: &DeviceName) {
        if let Some(open) = self.sessions.get_mut(&session) {
            open.remove(name);
            if open.is_empty() {
                self.sessions.remove(&session);
            }
        }
    }

    /// Counts a hold that was granted; `first`: nobody had the device open.
    fn count_hold(&mut self, session: SessionId, first: bool) {
        self.holds.add(session);
        self.weigh_session(session);
        if first {
            self.holds.add_device();
            self.weigh_node();
        }
    }

    pub(crate) fn set_forward_all(
        &mut self,
        session: SessionId,
        device: &DeviceName,
        dn: &Dn,
        to: Option<Dn>,
    ) -> Result<(), Refusal> {
        self.open_line(session, device, dn)?;
        if to.as_ref().is_some_and(|to| to == dn || to.as_str().is_empty()) {
            return refusal(
                RefusalKind::InvalidParams { field: "destination" },
                "a line can't be forwarded to itself or to nothing",
            );
        }
        if let Some(to) = &to
            && let Err(barred) = self.dial(&Sender::Number(dn.clone()), to)
        {
            self.say_barred(barred, Sender::Number(dn.clone()), to.clone());
            return refusal(RefusalKind::DestinationUnknown, "nobody has this number");
        }
        let Some(number) = self.numbers.get_mut(dn) else { return Ok(()) };
        number.forward_all.clone_from(&to);
        if number.plan.forward.all == to {
            self.forwarded.remove(dn);
        } else {
            self.forwarded.insert(dn.clone(), to);
        }
        Ok(())
    }

    pub(crate) fn tell_forward(&mut self, dn: &Dn) {
        let devices = self.numbers.get(dn).map(|number| number.appearances.clone()).unwrap_or_default();
        for name in devices {
            self.tell_line(&name, dn, Event::ForwardChanged);
        }
    }

    pub(crate) fn set_auto_accept(
        &mut self,
        session: SessionId,
        name: &DeviceName,
        dn: &Dn,
        on: bool,
    ) -> Result<bool, Refusal> {
        self.open_line(session, name, dn)?;
        let Some(device) = self.devices.get_mut(name) else { return Ok(false) };
        if !device.is_application() {
            return refusal(RefusalKind::OperationNotSupported, "phones accept by themselves");
        }
        let changed =
            device.line_mut(dn).is_some_and(|line| std::mem::replace(&mut line.auto_accept, on) != on);
        Ok(changed)
    }

    pub(crate) fn tell_line(&mut self, name: &DeviceName, dn: &Dn, event: fn(DeviceName, LineView) -> Event) {
        let Some(device) = self.devices.get(name) else { return };
        let found = (1..).zip(&device.lines).find(|(_, line)| line.dn == *dn && !line.restricted);
        if let Some((index, line)) = found.filter(|_| device.plan.allow_cti_control) {
            let (openers, view) = (device.openers.clone(), line_view(line, index, &self.numbers));
            self.tell(openers, event(name.clone(), view));
        }
    }

    /// A line that the session may act on.
    pub(crate) fn open_line(&self, session: SessionId, name: &DeviceName, dn: &Dn) -> Result<(), Refusal> {
        let Some(device) = self.devices.get(name) else {
            return refusal(RefusalKind::NoSuchDevice, format!("there is no device {name}"));
        };
        if !device.openers.contains(&session) {
            return refusal(RefusalKind::DeviceNotOpen, "open the device first");
        }
        if !device.plan.allow_cti_control {
            return refusal(
                RefusalKind::DeviceRestricted,
                "the administrator allows no CTI control of this device",
            );
        }
        match device.line(dn) {
            None => refusal(RefusalKind::NoSuchLine, format!("{name} has no line with this number")),
            Some(line) if line.restricted => {
                refusal(RefusalKind::LineRestricted, "the administrator allows no CTI control of this line")
            }
            Some(_) => Ok(()),
        }
    }
}

impl Number {
    /// Whether a call to it can go anywhere at all.
    pub(crate) fn leads_somewhere(&self) -> bool {
        let forward = &self.plan.forward;
        !self.appearances.is_empty()
            || self.forward_all.is_some()
            || forward.unregistered.is_some()
            || forward.no_answer.is_some()
    }

    pub(crate) fn new(plan: &NumberPlan, spaces: &Spaces) -> Self {
        Self {
            plan: plan.clone(),
            forward_all: plan.forward.all.clone(),
            partition: spaces.partition(plan.partition.as_ref()),
            appearances: SmallVec::new(),
        }
    }

    /// A number that only a device names.
    pub(crate) fn plain(dn: &Dn) -> Self {
        Self::new(&NumberPlan::plain(dn), &Spaces::default())
    }
}

fn line_view(line: &Line, index: u32, numbers: &HashMap<Dn, Number>) -> LineView {
    LineView {
        dn: line.dn.clone(),
        partition: numbers.get(&line.dn).and_then(|number| number.plan.partition.clone()),
        index,
        max_calls: line.max_calls,
        busy_trigger: line.busy_trigger,
        auto_accept: line.auto_accept,
        forward_all: numbers.get(&line.dn).and_then(|number| number.forward_all.clone()),
        restricted: line.restricted,
    }
}

/// Checks what an application says of its media, and sorts its sets.
fn normal_media(media: MediaTermination) -> Result<MediaTermination, Refusal> {
    let invalid = |field, message: &str| refusal(RefusalKind::InvalidParams { field }, message);
    let sort = |mut codecs: Vec<Codec>| {
        codecs.sort();
        codecs.dedup();
        codecs
    };
    let sort_srtp = |mut srtp: Vec<Arc<str>>| {
        srtp.sort();
        srtp.dedup();
        srtp
    };
    let fine = |codecs: &[Codec]| !codecs.is_empty() && codecs.iter().all(|codec| codec.defaults().is_some());
    match media {
        MediaTermination::None => Ok(MediaTermination::None),
        MediaTermination::Static { codecs, .. } | MediaTermination::Dynamic { codecs, .. }
            if !fine(&codecs) =>
        {
            invalid("media.codecs", "name at least one codec, of PCMU, PCMA, G722, G729, opus")
        }
        MediaTermination::Static { address, .. }
            if address.port() == 0 || !address.port().is_multiple_of(2) =>
        {
            invalid("media.port", "RTP ports are even numbers")
        }
        MediaTermination::Static { address, .. }
            if address.ip().is_unspecified() || address.ip().is_multicast() =>
        {
            invalid("media.ip", "media needs an address of one host")
        }
        MediaTermination::Static { address, codecs, srtp } => {
            Ok(MediaTermination::Static { address, codecs: sort(codecs), srtp: sort_srtp(srtp) })
        }
        MediaTermination::Dynamic { codecs, srtp } => {
            Ok(MediaTermination::Dynamic { codecs: sort(codecs), srtp: sort_srtp(srtp) })
        }
    }
}
