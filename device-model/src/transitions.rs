//! Transitions: one record for each change of state of a call, leg, device or session: what changed, whose it is, and why.
//! The record is made where the state is written and nowhere else ([`Recorder`]), so that none changes without one. When it
//! was is the time of the step, which the model is given: whoever carries the record on puts it beside.
//!
//! Records hold ids, names of devices and trunks, states, causes and reasons. Numbers of people stand in [`Private`] alone,
//! which prints nothing.
//!
//! Sessions come and go outside the model. Their records are of the same type, so that one reader reads all.

pub use crate::call::Parties;
use crate::cause::Cause;
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, SessionId, TrunkName};
use crate::leg::At;
use crate::port::{Input, Output, Request, Signal};
use crate::timers::Timer;
use crate::view::{LegState, Reason};
use std::fmt;
use std::sync::Arc;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What changed, and of what.
    pub what: What,
    /// What made it do so.
    pub why: Why,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A call.
    Call(CallId, CallChange),
    /// A leg, as it is after the change.
    Leg {
        /// The leg.
        leg: LegId,
        /// Its call.
        call: CallId,
        /// What is at its far side; `None`: another appearance of its line has the call.
        end: Option<EndId>,
        /// Where it is.
        place: Place,
        /// By which feature it came about: forwards and redirects among them.
        reason: Reason,
        /// Who calls whom, as this leg sees it then.
        parties: Private<Arc<Parties>>,
        /// What it did.
        change: LegChange,
    },
    /// A device.
    Device(DeviceName, DeviceChange),
    /// The same change of many devices at once, in order.
    Devices(Arc<[DeviceName]>, DeviceChange),
    /// A session.
    Session(SessionId, SessionChange),
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallChange {
    /// It is there; its first leg follows.
    Begun,
    /// It has no leg any more.
    Ended,
    /// It has none, for those that stay are legs of this call now.
    Joined(CallId),
}

/// What a leg did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegChange {
    /// It entered a state.
    State {
        /// `None`: it begins.
        from: Option<LegState>,
        /// The state. After `Disconnected` it is gone.
        to: LegState,
        /// Why it failed or ended.
        cause: Option<Cause>,
    },
    /// It came from this call into another.
    Moved(CallId),
    /// It had this end, and has another.
    End(EndId),
}

/// What became of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// A phone has a contact.
    Registered,
    /// It has none any more.
    Unregistered,
    /// Applications may use it.
    InService,
    /// They may not.
    OutOfService,
    /// This session has it open.
    Opened(SessionId),
    /// This session has it open no more.
    Closed(SessionId),
    /// The administrator keeps applications off.
    Restricted,
    /// He does so no more.
    Unrestricted,
    /// It is gone, or another one has its name.
    Removed,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// A provider was opened.
    Opened,
    /// Its connection is gone; it waits for its application.
    Lost,
    /// Its application is back, or has come by another connection.
    Resumed,
    /// It has outlived the node's process, and waits for its application.
    Restored,
    /// It is over.
    Closed,
}

/// Where a leg is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a device.
    Line {
        /// The device.
        device: DeviceName,
        /// The line's number.
        dn: Private<Dn>,
    },
    /// A trunk.
    Trunk(TrunkName),
}

/// A number or name of a person: it has to be asked for, and prints as `…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Private<T>(T);

impl<T> Private<T> {
    /// What nobody sees by chance.
    pub fn new(hidden: T) -> Self {
        Self(hidden)
    }

    /// To be shown at DEBUG, or to whom it may be shown.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What made something change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// What happened.
    pub trigger: Trigger,
    /// Who did it, where that was an application or a far end.
    pub by: Option<By>,
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An application.
    Session(SessionId),
    /// A phone or trunk: the far side of a leg.
    End(EndId),
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "their words say what they are")]
        pub enum $name { $($variant,)* }

        impl $name {
            /// Each of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its word in log lines and labels.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// What happened: what the model was told, or what a session's application or its connection did.
    Trigger {
        IncomingCall = "incoming_call",
        Ringing = "signal_ringing",
        Answered = "signal_answered",
        Rejected = "signal_rejected",
        Released = "signal_released",
        Offer = "signal_offer",
        Answer = "signal_answer",
        OfferRejected = "signal_offer_rejected",
        Identified = "signal_identified",
        Digit = "signal_digit",
        Transfer = "signal_transfer",
        OpenDevice = "request_open_device",
        CloseDevice = "request_close_device",
        SetForwardAll = "request_set_forward_all",
        SetAutoAccept = "request_set_auto_accept",
        SetMessageWaiting = "request_set_message_waiting",
        MakeCall = "request_make_call",
        AcceptLeg = "request_accept",
        AnswerLeg = "request_answer",
        RejectLeg = "request_reject",
        RedirectLeg = "request_redirect",
        BlindTransferLeg = "request_blind_transfer",
        ConsultLeg = "request_consult",
        TransferLeg = "request_transfer",
        DropLeg = "request_drop",
        HoldLeg = "request_hold",
        RetrieveLeg = "request_retrieve",
        SetUserData = "request_set_user_data",
        SetMedia = "request_set_media",
        NoAnswer = "timer_no_answer",
        NewCallAccept = "timer_new_call_accept",
        MediaExchange = "timer_media_exchange",
        OperationOverdue = "timer_operation",
        Registered = "registered",
        Unregistered = "unregistered",
        SessionEnded = "session_ended",
        Revoked = "revoked",
        Restored = "restored",
        Reload = "reload",
        Stop = "stopping",
        ProviderOpen = "provider_open",
        ProviderClose = "provider_close",
        ConnectionLost = "connection_lost",
        HeartbeatTimeout = "heartbeat_timeout",
        SlowConsumer = "slow_consumer",
        LineTooLong = "line_too_long",
        CertificateExpired = "certificate_expired",
        CertificateRevoked = "certificate_revoked",
        CredentialChanged = "credential_changed",
        UserDeleted = "user_deleted",
        NotCtiEnabled = "not_cti_enabled",
        GraceOver = "grace_over",
        LogOverrun = "log_overrun",
    }
}

words! {
    /// What kind of change a record is of, for counting: the state that was entered, or what else became of it.
    Kind {
        CallBegun = "begun",
        CallEnded = "ended",
        CallJoined = "joined",
        LegDialtone = "dialtone",
        LegDialing = "dialing",
        LegProceeding = "proceeding",
        LegRingback = "ringback",
        LegOffering = "offering",
        LegRinging = "ringing",
        LegConnected = "connected",
        LegHeld = "held",
        LegFailed = "failed",
        LegDisconnected = "disconnected",
        LegMoved = "moved",
        LegEnd = "other_end",
        DeviceRegistered = "registered",
        DeviceUnregistered = "unregistered",
        DeviceInService = "in_service",
        DeviceOutOfService = "out_of_service",
        DeviceOpened = "opened",
        DeviceClosed = "closed",
        DeviceRestricted = "restricted",
        DeviceUnrestricted = "unrestricted",
        DeviceRemoved = "removed",
        SessionOpened = "opened",
        SessionLost = "lost",
        SessionResumed = "resumed",
        SessionRestored = "restored",
        SessionClosed = "closed",
    }
}

impl Kind {
    /// Of what it is.
    #[must_use]
    pub const fn of(self) -> &'static str {
        match self {
            Kind::CallBegun | Kind::CallEnded | Kind::CallJoined => "call",
            Kind::LegDialtone
            | Kind::LegDialing
            | Kind::LegProceeding
            | Kind::LegRingback
            | Kind::LegOffering
            | Kind::LegRinging
            | Kind::LegConnected
            | Kind::LegHeld
            | Kind::LegFailed
            | Kind::LegDisconnected
            | Kind::LegMoved
            | Kind::LegEnd => "leg",
            Kind::DeviceRegistered
            | Kind::DeviceUnregistered
            | Kind::DeviceInService
            | Kind::DeviceOutOfService
            | Kind::DeviceOpened
            | Kind::DeviceClosed
            | Kind::DeviceRestricted
            | Kind::DeviceUnrestricted
            | Kind::DeviceRemoved => "device",
            Kind::SessionOpened
            | Kind::SessionLost
            | Kind::SessionResumed
            | Kind::SessionRestored
            | Kind::SessionClosed => "session",
        }
    }

    fn of_state(state: LegState) -> Self {
        match state {
            LegState::Dialtone => Kind::LegDialtone,
            LegState::Dialing => Kind::LegDialing,
            LegState::Proceeding => Kind::LegProceeding,
            LegState::Ringback => Kind::LegRingback,
            LegState::Offering => Kind::LegOffering,
            LegState::Ringing => Kind::LegRinging,
            LegState::Connected => Kind::LegConnected,
            LegState::Held => Kind::LegHeld,
            LegState::Failed => Kind::LegFailed,
            LegState::Disconnected => Kind::LegDisconnected,
        }
    }
}

impl What {
    /// What kind of change it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            What::Call(_, CallChange::Begun) => Kind::CallBegun,
            What::Call(_, CallChange::Ended) => Kind::CallEnded,
            What::Call(_, CallChange::Joined(_)) => Kind::CallJoined,
            What::Leg { change: LegChange::State { to, .. }, .. } => Kind::of_state(*to),
            What::Leg { change: LegChange::Moved(_), .. } => Kind::LegMoved,
            What::Leg { change: LegChange::End(_), .. } => Kind::LegEnd,
            What::Device(_, change) | What::Devices(_, change) => match change {
                DeviceChange::Registered => Kind::DeviceRegistered,
                DeviceChange::Unregistered => Kind::DeviceUnregistered,
                DeviceChange::InService => Kind::DeviceInService,
                DeviceChange::OutOfService => Kind::DeviceOutOfService,
                DeviceChange::Opened(_) => Kind::DeviceOpened,
                DeviceChange::Closed(_) => Kind::DeviceClosed,
                DeviceChange::Restricted => Kind::DeviceRestricted,
                DeviceChange::Unrestricted => Kind::DeviceUnrestricted,
                DeviceChange::Removed => Kind::DeviceRemoved,
            },
            What::Session(_, SessionChange::Opened) => Kind::SessionOpened,
            What::Session(_, SessionChange::Lost) => Kind::SessionLost,
            What::Session(_, SessionChange::Resumed) => Kind::SessionResumed,
            What::Session(_, SessionChange::Restored) => Kind::SessionRestored,
            What::Session(_, SessionChange::Closed) => Kind::SessionClosed,
        }
    }

    /// How many changes it stands for.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            What::Devices(devices, _) => devices.len(),
            What::Call(..) | What::Leg { .. } | What::Device(..) | What::Session(..) => 1,
        }
    }
}

impl Why {
    /// Something that nobody did who could be named.
    #[must_use]
    pub const fn of(trigger: Trigger) -> Self {
        Self { trigger, by: None }
    }

    /// An application did it.
    #[must_use]
    pub const fn session(trigger: Trigger, session: SessionId) -> Self {
        Self { trigger, by: Some(By::Session(session)) }
    }

    /// A phone or trunk did it.
    #[must_use]
    pub const fn end(trigger: Trigger, end: EndId) -> Self {
        Self { trigger, by: Some(By::End(end)) }
    }
}

impl Why {
    /// What an input does by itself; what has waited for a portion has a reason of its own.
    pub(crate) fn of_input(input: &Input) -> Self {
        match input {
            Input::Configure { .. } | Input::Settle { .. } | Input::SettleDevice(_) => {
                Self::of(Trigger::Reload)
            }
            Input::Depart { .. } | Input::SessionsEnded(_) => Self::of(Trigger::SessionEnded),
            Input::Registered(_) => Self::of(Trigger::Registered),
            Input::Unregistered(_) => Self::of(Trigger::Unregistered),
            Input::IncomingCall { end, .. } => Self::end(Trigger::IncomingCall, *end),
            Input::Signal(end, signal) => Self::end(Trigger::of_signal(signal), *end),
            Input::Request { session, request, .. } => Self::session(Trigger::of_request(request), *session),
            Input::SessionEnded(session) => Self::session(Trigger::SessionEnded, *session),
            Input::Revoked { session, .. } => Self::session(Trigger::Revoked, *session),
            Input::Restored { session, .. } => Self::session(Trigger::Restored, *session),
            Input::Shutdown { .. } => Self::of(Trigger::Stop),
            // Each timer has its own.
            Input::Timeout => Self::of(Trigger::OperationOverdue),
        }
    }
}

impl Trigger {
    fn of_signal(signal: &Signal) -> Self {
        match signal {
            Signal::Ringing { .. } => Self::Ringing,
            Signal::Answered { .. } => Self::Answered,
            Signal::Rejected { .. } => Self::Rejected,
            Signal::Released { .. } => Self::Released,
            Signal::Offer(_) => Self::Offer,
            Signal::Answer(_) => Self::Answer,
            Signal::OfferRejected { .. } => Self::OfferRejected,
            Signal::Identified(_) => Self::Identified,
            Signal::Digit { .. } => Self::Digit,
            Signal::Transfer(_) => Self::Transfer,
        }
    }

    fn of_request(request: &Request) -> Self {
        match request {
            Request::OpenDevice { .. } => Self::OpenDevice,
            Request::CloseDevice { .. } => Self::CloseDevice,
            Request::SetForwardAll { .. } => Self::SetForwardAll,
            Request::SetAutoAccept { .. } => Self::SetAutoAccept,
            Request::SetMessageWaiting { .. } => Self::SetMessageWaiting,
            Request::MakeCall { .. } => Self::MakeCall,
            Request::Accept { .. } => Self::AcceptLeg,
            Request::Answer { .. } => Self::AnswerLeg,
            Request::Reject { .. } => Self::RejectLeg,
            Request::Redirect { .. } => Self::RedirectLeg,
            Request::BlindTransfer { .. } => Self::BlindTransferLeg,
            Request::Consult { .. } => Self::ConsultLeg,
            Request::Transfer { .. } => Self::TransferLeg,
            Request::Drop { .. } => Self::DropLeg,
            Request::Hold { .. } => Self::HoldLeg,
            Request::Retrieve { .. } => Self::RetrieveLeg,
            Request::SetUserData { .. } => Self::SetUserData,
            Request::SetMedia { .. } => Self::SetMedia,
        }
    }

    pub(crate) fn of_timer(timer: Timer) -> Self {
        match timer {
            Timer::NoAnswer(_) => Self::NoAnswer,
            Timer::NewCallAccept(_) => Self::NewCallAccept,
            Timer::MediaExchange(_) => Self::MediaExchange,
            Timer::Operation(_) => Self::OperationOverdue,
        }
    }
}

impl From<&At> for Place {
    fn from(at: &At) -> Self {
        match at {
            At::Phone { device, dn } | At::Application { device, dn } => {
                Place::Line { device: device.clone(), dn: Private::new(dn.clone()) }
            }
            At::Trunk { trunk, .. } => Place::Trunk(trunk.clone()),
        }
    }
}

/// Where records are written: those who change a state are given one, for without it they can't.
pub(crate) struct Recorder<'a> {
    pub(crate) why: Why,
    pub(crate) out: &'a mut Vec<Output>,
}

impl Recorder<'_> {
    #[inline]
    pub(crate) fn record(&mut self, what: What) {
        self.out.push(Output::Transition(Transition { what, why: self.why }));
    }
}

impl fmt::Display for Transition {
    /// One line, without numbers: what changed first, then `name=value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.what.kind();
        write!(f, "{} {}", kind.of(), kind.word())?;
        match &self.what {
            What::Call(call, change) => {
                write!(f, " call={call}")?;
                if let CallChange::Joined(into) = change {
                    write!(f, " into={into}")?;
                }
            }
            What::Leg { leg, call, end, place, reason, change, parties: _ } => {
                write!(f, " call={call} leg={leg} {place}")?;
                if let Some(end) = end {
                    write!(f, " end={end}")?;
                }
                write!(f, "{change} reason={}", word(*reason))?;
            }
            What::Device(device, change) => write!(f, " device={device}{change}")?,
            What::Devices(devices, change) => write!(f, " devices={}{change}", devices.len())?,
            What::Session(session, _) => write!(f, " session={session}")?,
        }
        write!(f, " {}", self.why)
    }
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Normal => "normal",
        Reason::Redirect => "redirect",
        Reason::Transfer => "transfer",
        Reason::BlindTransfer => "blind_transfer",
        Reason::Conference => "conference",
        Reason::ForwardAll => "forward_all",
        Reason::ForwardBusy => "forward_busy",
        Reason::ForwardNoAnswer => "forward_no_answer",
        Reason::ForwardUnregistered => "forward_unregistered",
        Reason::ForwardOnFailure => "forward_on_failure",
        Reason::Park => "park",
        Reason::Unpark => "unpark",
        Reason::ParkReversion => "park_reversion",
        Reason::Pickup => "pickup",
        Reason::Barge => "barge",
        Reason::SilentMonitoring => "silent_monitoring",
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { device, .. } => write!(f, "device={device}"),
            Place::Trunk(trunk) => write!(f, "trunk={trunk}"),
        }
    }
}

impl fmt::Display for LegChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LegChange::State { from, cause, .. } => {
                from.map_or(Ok(()), |from| write!(f, " from={}", Kind::of_state(from).word()))?;
                cause.map_or(Ok(()), |cause| write!(f, " cause={}", cause.code()))
            }
            LegChange::Moved(from) => write!(f, " from={from}"),
            LegChange::End(before) => write!(f, " before={before}"),
        }
    }
}

impl fmt::Display for DeviceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChange::Opened(session) | DeviceChange::Closed(session) => write!(f, " session={session}"),
            DeviceChange::Registered
            | DeviceChange::Unregistered
            | DeviceChange::InService
            | DeviceChange::OutOfService
            | DeviceChange::Restricted
            | DeviceChange::Unrestricted
            | DeviceChange::Removed => Ok(()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "why={}", self.trigger.word())?;
        match self.by {
            Some(By::Session(session)) => write!(f, " by={session}"),
            Some(By::End(end)) => write!(f, " by={end}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Party;

    #[test]
    fn no_number_is_printed_unless_it_is_asked_for() {
        let dn = Private::new(Dn::from("2001"));
        assert_eq!(dn.reveal().as_str(), "2001");
        let what = What::Leg {
            leg: LegId(1),
            call: CallId(2),
            end: Some(EndId(1)),
            place: Place::Line { device: "SEP1".into(), dn },
            reason: Reason::ForwardBusy,
            parties: Private::new(Arc::new(Parties {
                called: Party { number: "2001".into(), ..Party::default() },
                ..Parties::default()
            })),
            change: LegChange::State {
                from: Some(LegState::Ringing),
                to: LegState::Disconnected,
                cause: Some(Cause::NO_ANSWER),
            },
        };
        let record = Transition { what, why: Why::end(Trigger::Released, EndId(9)) };
        assert!(!format!("{record:?}").contains("2001"), "{record:?}");
        assert_eq!(
            record.to_string(),
            "leg disconnected call=c2 leg=l1 device=SEP1 end=e1 from=ringing cause=19 reason=forward_busy \
             why=signal_released by=e9"
        );
    }

    #[test]
    fn kinds_and_triggers_have_words_of_their_own() {
        let mut kinds: Vec<_> = Kind::ALL.iter().map(|kind| (kind.of(), kind.word())).collect();
        let mut triggers: Vec<_> = Trigger::ALL.iter().map(|trigger| trigger.word()).collect();
        let before = (kinds.len(), triggers.len());
        kinds.sort_unstable();
        kinds.dedup();
        triggers.sort_unstable();
        triggers.dedup();
        assert_eq!((kinds.len(), triggers.len()), before);
        // Counters are in their order.
        assert!(Kind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(Trigger::ALL.iter().enumerate().all(|(index, trigger)| *trigger as usize == index));
    }
}
