//! Devices and lines: who has them open, what they can take, and a new plan.

use crate::calling_search_spaces::{Partition, Spaces};
use crate::control::{CallControl, refusal};
use crate::departing::LEGS_AT_ONCE;
use crate::dialling::Sender;
use crate::ids::{DeviceName, Dn, LegId, OwnerEpoch, RequestToken, SessionId};
use crate::media::{Codec, MediaTermination};
use crate::pace::Pace;
use crate::plan::{DeviceKind, DevicePlan, NumberPlan};
use crate::port::{Event, News, OutOfServiceReason, Output, Param, Refusal, RefusalKind, Reply};
use crate::transitions::{DeviceChange, Recorder, What};
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
    pub(crate) auto_accept: AutoAccept,
    /// What the plan says, to see whether it changed.
    planned_auto_accept: AutoAccept,
    pub(crate) restricted: bool,
    /// While its device is unsettled: what was told of `restricted`.
    pub(crate) told_restricted: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) plan: DevicePlan,
    /// That of the node which owns it: commands for another one are refused.
    pub(crate) owner: OwnerEpoch,
    pub(crate) lines: SmallVec<[Line; 1]>,
    pub(crate) registered: bool,
    pub(crate) openers: Arc<[SessionId]>,
    pub(crate) media: Option<Arc<MediaTermination>>,
    pub(crate) legs: BTreeSet<LegId>,
    /// Calls that begin there.
    pub(crate) pace: Pace,
    pub(crate) stay: Stay,
    /// Of a prepared plan: the same as in the plan before.
    pub(crate) kept: bool,
    /// A new plan changed it and that is not told yet: what was told of it last.
    pub(crate) unsettled: Option<Told>,
    /// What the records say.
    recorded: Service,
}

/// Whether a line's calls are accepted as soon as they are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoAccept {
    Off,
    On,
}

impl AutoAccept {
    pub(crate) fn when(on: bool) -> Self {
        if on { AutoAccept::On } else { AutoAccept::Off }
    }
}

/// Whether a device stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    Stays,
    /// It goes, or calls that may not stay here are being cleared: no new call comes, and its openers hear the end of
    /// those that are there.
    Leaves,
}

/// Whether a phone has a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    Present,
    Absent,
}

/// Whether applications may use a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    In,
    Out,
}

/// Who opens a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    /// Nobody had it open.
    First,
    /// Others have it open, too.
    Further,
}

/// What was said of a device that a plan changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// To everybody: whether it is restricted.
    pub(crate) restricted: bool,
    /// To those who have it open: how it is by the plan in force.
    pub(crate) announced: bool,
    /// That what is no longer hidden may be told.
    pub(crate) reached: bool,
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
            auto_accept: AutoAccept::when(number.auto_accept),
            planned_auto_accept: AutoAccept::when(number.auto_accept),
            restricted: !number.allow_cti_control,
            told_restricted: !number.allow_cti_control,
        }
    }

    /// Goes on where the same line was under the plan before. What an application set stays unless the plan says
    /// something else than it did.
    fn succeed(&mut self, before: &Line, told: Option<Told>) {
        // What was told last, where that is not what was.
        self.told_restricted = if told.is_some() { before.told_restricted } else { before.restricted };
        self.pace = before.pace;
        if before.planned_auto_accept == self.planned_auto_accept {
            self.auto_accept = before.auto_accept;
        }
    }
}

impl Device {
    pub(crate) fn new(plan: DevicePlan, lines: SmallVec<[Line; 1]>, nobody: Arc<[SessionId]>) -> Self {
        Self {
            plan,
            owner: OwnerEpoch::FIRST,
            lines,
            registered: false,
            openers: nobody,
            media: None,
            legs: BTreeSet::new(),
            pace: Pace::default(),
            stay: Stay::Stays,
            kept: false,
            unsettled: None,
            recorded: Service::Out,
        }
    }

    /// Goes on where the same device was under the plan before, as described now. It is unsettled then.
    pub(crate) fn succeed(&mut self, before: &mut Device) {
        let untold = before.unsettled;
        let restricted = untold.map_or(!before.plan.allow_cti_control, |told| told.restricted);
        self.unsettled = Some(Told { restricted, announced: false, reached: false });
        self.registered = before.registered;
        self.recorded = before.recorded;
        self.owner = before.owner;
        std::mem::swap(&mut self.openers, &mut before.openers);
        self.media = before.media.take();
        self.pace = before.pace;
        self.legs = std::mem::take(&mut before.legs);
        for line in &mut self.lines {
            if let Some(before) = before.line(&line.dn) {
                line.succeed(before, untold);
            }
        }
    }

    /// Whether calls on this line may not stay: the device has lost it, or applications have lost it.
    pub(crate) fn loses(&self, dn: &Dn) -> bool {
        let shut = !self.plan.allow_cti_control || self.openers.is_empty();
        self.line(dn).is_none_or(|line| self.is_application() && (shut || line.restricted))
    }

    /// Whether its calls on this line are said to whoever has it open, told or hidden.
    pub(crate) fn speaks_of(&self, dn: &Dn) -> bool {
        let open = |line: &Line| self.plan.allow_cti_control && !line.restricted;
        self.line(dn).is_some_and(|line| !self.is_application() || open(line))
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
            DeviceKind::Phone => self.registered && !self.is_leaving(),
            DeviceKind::CtiPort | DeviceKind::RoutePoint => self.in_service() && !self.is_leaving(),
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.stay == Stay::Leaves
    }

    /// Whether it is in service for applications.
    pub(crate) fn service(&self) -> Service {
        if self.in_service() { Service::In } else { Service::Out }
    }

    /// Whether the records are to say that it is in or out of service now: they do from then on.
    pub(crate) fn service_news(&mut self) -> Option<DeviceChange> {
        let now = self.service();
        (std::mem::replace(&mut self.recorded, now) != now).then_some(match now {
            Service::In => DeviceChange::InService,
            Service::Out => DeviceChange::OutOfService,
        })
    }

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
        self.view_with(device, self.numbers.all())
    }

    /// A device with the numbers of its time.
    pub(crate) fn view_with(&self, device: &Device, numbers: &HashMap<Dn, Number>) -> DeviceView {
        let opened = self.is_opened(device);
        let in_service = device.in_service() && (opened || !device.is_application());
        DeviceView {
            name: device.plan.name.clone(),
            kind: device.plan.kind,
            description: device.plan.description.clone(),
            pool: device.plan.pool.clone(),
            in_service,
            owner: device.owner,
            node: in_service.then(|| self.identity.node.clone()),
            registered: device.registered || (device.is_application() && opened),
            restricted: !device.plan.allow_cti_control,
            opened,
            lines: (1..)
                .zip(&device.lines)
                .map(|(index, line)| self.line_view(line, index, numbers))
                .collect(),
        }
    }

    fn line_view(&self, line: &Line, index: u32, numbers: &HashMap<Dn, Number>) -> LineView {
        let number = self.contradictions.known(numbers.get(&line.dn), "a line has no number");
        LineView {
            dn: line.dn.clone(),
            partition: number.and_then(|number| number.plan.partition.clone()),
            index,
            max_calls: line.max_calls,
            busy_trigger: line.busy_trigger,
            auto_accept: line.auto_accept == AutoAccept::On,
            forward_all: number.and_then(|number| number.forward_all.clone()),
            restricted: line.restricted,
        }
    }

    /// A phone has a contact or none; the registrar also knows devices that a new plan has taken away.
    pub(crate) fn registered(&mut self, name: &DeviceName, registration: Registration) {
        let Some(device) = self.devices.get_mut(name).filter(|device| device.plan.kind == DeviceKind::Phone)
        else {
            return;
        };
        let before = device.service();
        let registered = registration == Registration::Present;
        if std::mem::replace(&mut device.registered, registered) != registered {
            let count = if registered { Some(self.registered + 1) } else { self.registered.checked_sub(1) };
            let count = self.contradictions.known(count, "of no registered phone one is not any more");
            self.registered = count.unwrap_or_default();
            let change = if registered { DeviceChange::Registered } else { DeviceChange::Unregistered };
            self.record_device(name, change);
        }
        self.record_service(name);
        self.tell_service(name, before, OutOfServiceReason::DeviceUnregistered);
    }

    pub(crate) fn record_device(&mut self, name: &DeviceName, change: DeviceChange) {
        Recorder { why: self.why, out: &mut self.out }.record(What::Device(name.clone(), change));
    }

    /// A device may be in service, or no longer: after each change of what decides it.
    pub(crate) fn record_service(&mut self, name: &DeviceName) {
        let news = self.devices.known_mut(name).and_then(Device::service_news);
        news.into_iter().for_each(|change| self.record_device(name, change));
    }

    /// Tells the openers if the service state is another than before.
    pub(crate) fn tell_service(&mut self, name: &DeviceName, before: Service, reason: OutOfServiceReason) {
        let Some(device) = self.devices.known(name) else { return };
        let now = device.service();
        if now == before || device.openers.is_empty() {
            return;
        }
        let (openers, view) = (device.openers.clone(), self.device_view(device));
        let event = match now {
            Service::In => Event::DeviceInService(view),
            Service::Out => Event::DeviceOutOfService(view, reason),
        };
        self.tell(openers, event);
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
        let before = self.devices.known(name).map_or(Service::Out, Device::service);
        let opener = self.grant(session, name, media);
        let Some(view) = self.devices.known(name).map(|device| self.device_view(device)) else { return };
        let mut legs = self.legs_of_device(name);
        legs.retain(|leg| !view.lines.iter().any(|line| line.dn == leg.dn && line.restricted));
        self.reply(session, token, Ok(Reply::Opened { device: view, legs }));
        self.tell_service(name, before, OutOfServiceReason::DeviceFailure);
        self.count_opening(session, opener);
    }

    /// The session has the device open from now on.
    fn grant(&mut self, session: SessionId, name: &DeviceName, media: Option<MediaTermination>) -> Opener {
        let Some(device) = self.devices.known_mut(name) else { return Opener::Further };
        let opener = if device.openers.is_empty() { Opener::First } else { Opener::Further };
        device.openers = device.openers.iter().copied().chain([session]).collect();
        if device.media.is_none() {
            device.media = media.map(Arc::new);
        }
        let recorder = &mut Recorder { why: self.why, out: &mut self.out };
        self.openings.add(session, name.clone(), recorder);
        self.record_service(name);
        if let Some(device) = self.devices.known(name) {
            let (media, legs) = (device.media.clone(), self.whole_legs(name));
            let device = self.device_view(device);
            self.out.push(Output::News(News::Opened { session, device, media, legs }));
        }
        opener
    }

    /// A session of an earlier process had the device open: it was granted then, and has it open still, as if the plan had been
    /// changed meanwhile.
    pub(crate) fn restore_opening(
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
        let opener = self.grant(session, name, media);
        self.count_opening(session, opener);
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
        if !self.devices.contains(name) {
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
        self.release_opening(session, name);
    }

    /// Closes a device for a session; the last one takes an application's device out of service (protocol §2). Else
    /// the calls stay with the others, but not the address of an application that has gone.
    pub(crate) fn release_opening(&mut self, session: SessionId, name: &DeviceName) {
        let last = self.forget_opening(session, name);
        self.out.push(Output::News(News::Closed { session, device: name.clone() }));
        if last {
            return self.fail_in_portions(name, &mut { LEGS_AT_ONCE });
        }
        self.orphan_at_once(session, name);
    }

    /// Takes the device from the session; true when nobody has it open any more.
    fn forget_opening(&mut self, session: SessionId, name: &DeviceName) -> bool {
        let recorder = &mut Recorder { why: self.why, out: &mut self.out };
        self.openings.strike(session, name, recorder);
        if self.is_open(session, name) {
            self.device_counts.take(session);
            self.weigh_session(session);
        }
        self.take_opening(session, name).unwrap_or(false)
    }

    /// Takes the session from the device; true when it was the last. `None`: a new plan has taken the device, or the session
    /// from it.
    pub(crate) fn take_opening(&mut self, session: SessionId, name: &DeviceName) -> Option<bool> {
        let device = self.devices.get_mut(name).filter(|device| device.openers.contains(&session))?;
        device.openers = device.openers.iter().copied().filter(|opener| *opener != session).collect();
        let last = device.openers.is_empty();
        if last {
            self.device_counts.take_device();
            self.weigh_node();
            self.record_service(name);
        }
        Some(last)
    }

    /// Counts a hold that was granted.
    fn count_opening(&mut self, session: SessionId, opener: Opener) {
        self.device_counts.add(session);
        self.weigh_session(session);
        match opener {
            Opener::First => {
                self.device_counts.add_device();
                self.weigh_node();
            }
            Opener::Further => {}
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
                RefusalKind::InvalidParams { field: Param::Destination },
                "a line can't be forwarded to itself or to nothing",
            );
        }
        if let Some(to) = &to
            && let Err(barred) = self.dial(&Sender::Number(dn.clone()), to)
        {
            self.say_barred(barred, Sender::Number(dn.clone()), to.clone());
            return refusal(RefusalKind::DestinationUnknown, "nobody has this number");
        }
        let Some(number) = self.numbers.known_mut(dn) else { return Ok(()) };
        number.forward_all.clone_from(&to);
        if number.plan.forward.all == to {
            self.forwarded.remove(dn);
        } else {
            self.forwarded.insert(dn.clone(), to);
        }
        Ok(())
    }

    pub(crate) fn tell_forward(&mut self, dn: &Dn) {
        let devices = self.numbers.known(dn).map(|number| number.appearances.clone()).unwrap_or_default();
        for name in devices {
            self.tell_line(&name, dn, Event::ForwardChanged);
        }
    }

    pub(crate) fn set_auto_accept(
        &mut self,
        session: SessionId,
        name: &DeviceName,
        dn: &Dn,
        wanted: AutoAccept,
    ) -> Result<bool, Refusal> {
        self.open_line(session, name, dn)?;
        let Some(device) = self.devices.known_mut(name) else { return Ok(false) };
        if !device.is_application() {
            return refusal(RefusalKind::OperationNotSupported, "phones accept by themselves");
        }
        let line = self.contradictions.known(device.line_mut(dn), "an open line is not there");
        Ok(line.is_some_and(|line| std::mem::replace(&mut line.auto_accept, wanted) != wanted))
    }

    pub(crate) fn tell_line(&mut self, name: &DeviceName, dn: &Dn, event: fn(DeviceName, LineView) -> Event) {
        let Some(device) = self.devices.known(name) else { return };
        let Some((index, line)) = (1..).zip(&device.lines).find(|(_, line)| line.dn == *dn) else { return };
        let (openers, view) = (device.openers.clone(), self.line_view(line, index, self.numbers.all()));
        if device.plan.allow_cti_control && !line.restricted {
            self.tell(openers, event(name.clone(), view));
        } else if !openers.is_empty() {
            self.out.push(Output::Hidden(event(name.clone(), view)));
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
            invalid(Param::MediaCodecs, "name at least one codec, of PCMU, PCMA, G722, G729, opus")
        }
        MediaTermination::Static { address, .. }
            if address.port() == 0 || !address.port().is_multiple_of(2) =>
        {
            invalid(Param::MediaPort, "RTP ports are even numbers")
        }
        MediaTermination::Static { address, .. }
            if address.ip().is_unspecified() || address.ip().is_multicast() =>
        {
            invalid(Param::MediaIp, "media needs an address of one host")
        }
        MediaTermination::Static { address, codecs, srtp } => {
            Ok(MediaTermination::Static { address, codecs: sort(codecs), srtp: sort_srtp(srtp) })
        }
        MediaTermination::Dynamic { codecs, srtp } => {
            Ok(MediaTermination::Dynamic { codecs: sort(codecs), srtp: sort_srtp(srtp) })
        }
    }
}
