//! The door of the room: what the model is told and what it says.
//!
//! One [`Input`] in, any number of [`Output`]s out, in the order in which they must be carried out. A reply stands before
//! the events that its request caused (protocol §1, "Order").

use crate::cause::Cause;
use crate::dialling::Sender;
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, OwnerEpoch, RequestToken, SessionId, TrunkName};
use crate::media::{AudioLine, Codec, Description, MediaTermination, Stream, StreamDirection};
use crate::prepared_plan::{PreparedPlan, Revocation};
use crate::table::Contradiction;
use crate::transitions::Transition;
use crate::view::{DeviceView, LegState, LegView, LineView, Party, Reason, WholeLeg};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A new configuration: everything holds from this step on, and [`Input::Settle`] carries out what follows from it.
    Configure {
        /// Another plan; `None` = the plan stays.
        plan: Option<Box<PreparedPlan>>,
        /// DeviceCounts that end with it.
        revoked: Vec<Revocation>,
    },
    /// Carry out what follows from a new configuration for one more device, while [`crate::CallControl::unsettled`].
    Settle {
        /// End at most so many legs.
        legs: usize,
    },
    /// Carry out what follows from the end of sessions for so many more devices, while
    /// [`crate::CallControl::is_departing`].
    Depart {
        /// Let go of so many devices.
        devices: usize,
        /// End at most so many legs there.
        legs: usize,
    },
    /// The same as [`Input::Settle`] for this device, whole and at once.
    SettleDevice(DeviceName),
    /// A phone has at least one contact now.
    Registered(DeviceName),
    /// A phone has no contact any more.
    Unregistered(DeviceName),
    /// Somebody at the signalling dials.
    IncomingCall {
        /// From [`crate::CallControl::new_end_id`].
        end: EndId,
        /// Who.
        origin: Origin,
        /// What was dialled.
        dialled: Dn,
        /// The calling party, by the word of a trunk. Of a phone only whether it wants to be hidden: number and name are
        /// its line's.
        calling: Party,
        /// Who sent the call on before it came to us.
        diverted: Option<Diverted>,
        /// The offer; `None` = the callee's side makes it (late offer).
        offer: Option<Description>,
        /// How often it was forwarded or redirected before it came here.
        hops: u32,
    },
    /// Something happened on a dialog of the signalling.
    Signal(EndId, Signal),
    /// An application asks. Permission was checked by `security` before.
    Request {
        /// The session that asks.
        session: SessionId,
        /// Comes back in [`Output::Reply`].
        token: RequestToken,
        /// The owner that is asked: what was told of the device last ([`DeviceView::owner`]). Another one's is refused.
        owner: OwnerEpoch,
        /// What it asks.
        request: Request,
    },
    /// A session is gone for good (closed or failed): every device is closed for it (protocol §2, "Failure"). It has
    /// nothing open from then on; [`Input::Depart`] carries out what follows, beyond a few devices.
    SessionEnded(SessionId),
    /// The same of many sessions at once, each named once: they have nothing open from this step on.
    SessionsEnded(Vec<SessionId>),
    /// A session may no longer have this device open: like [`Request::CloseDevice`], but nobody asked and nobody is answered.
    Revoked {
        /// Whose hold.
        session: SessionId,
        /// On what.
        device: DeviceName,
    },
    /// A session of an earlier process holds this device again, restricted or not. Nobody is told, and nothing happens
    /// where the device is gone or ends its media otherwise: [`crate::CallControl::is_open`] says.
    Restored {
        /// Whose hold.
        session: SessionId,
        /// On what.
        device: DeviceName,
        /// The media with which it was opened.
        media: Option<MediaTermination>,
    },
    /// The node stops: so many calls, in the order of their ids, are cleared with cause 41
    /// ([`crate::CallControl::has_calls`]).
    Shutdown {
        /// How many at the most.
        calls: usize,
    },
    /// A time that [`crate::CallControl::next_timeout`] named has come.
    Timeout,
}

/// Where a call comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a phone.
    Phone {
        /// The phone.
        device: DeviceName,
        /// Its line; `None` = its first.
        dn: Option<Dn>,
    },
    /// A trunk.
    Trunk(TrunkName),
}

/// Who sent a call on; of several the last and the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverted {
    /// The last that did.
    pub by: Party,
    /// For whom the call was at first.
    pub original: Party,
}

/// What the signalling reports of an end.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The far end rings, with early media if it has some (SIP 180, 183).
    Ringing {
        /// Answer to our offer, before the call is answered.
        early: Option<Description>,
    },
    /// The far end answers a call that we placed. The description answers our offer, or is an offer when we made none
    /// (then [`EndCommand::AnswerOffer`] follows).
    Answered {
        /// Offer or answer, see above. `None` when the answer came with early media and is unchanged.
        media: Option<Description>,
    },
    /// The far end refuses a call that we placed.
    Rejected {
        /// Why, as a cause.
        cause: Cause,
        /// The status of the signalling (a SIP code), handed through unchanged from one side to another.
        status: Option<u16>,
        /// Try these numbers instead, the best first (SIP 3xx).
        redirect_to: Vec<Dn>,
    },
    /// The far end hung up or gave up, in any state.
    Released {
        /// Why.
        cause: Cause,
    },
    /// The far end wants other media in mid-call; `None` = it asks for our offer.
    Offer(Option<Description>),
    /// The answer to our offer (mid-call, or to the offer of our answer to a late offer).
    Answer(Description),
    /// Our mid-call offer was refused; the session is as before.
    OfferRejected {
        /// Why.
        cause: Cause,
    },
    /// Somebody else is at the end of a trunk's leg than was known before.
    Identified(Party),
    /// A digit that the signalling itself carried (SIP INFO).
    Digit {
        /// 0-9, A-D, * and #.
        digit: char,
        /// Milliseconds.
        duration_ms: u32,
    },
    /// Whoever is there wants the other end of his call elsewhere (SIP REFER), and to hear what came of it
    /// ([`EndCommand::Transferred`]). One at a time.
    Transfer(TransferTo),
}

/// Where a person wants the other end of his call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferTo {
    /// To this number.
    Number(Dn),
    /// To the other end of another call of his.
    End(EndId),
    /// The same of a call that has ended.
    Ended,
}

/// What the signalling shall do with an end.
#[derive(Clone, Debug)]
pub enum EndCommand {
    /// Place a new call.
    Call {
        /// To whom.
        target: Target,
        /// The caller to show.
        calling: Party,
        /// The number that is called.
        called: Party,
        /// Who sent it here by forward or redirect.
        diverted: Option<Diverted>,
        /// Why the last of them did.
        reason: Reason,
        /// `None` = late offer.
        offer: Option<Body>,
        /// How often the call was forwarded or redirected by now.
        hops: u32,
    },
    /// Tell the caller that it rings (180), or with early media (183).
    Alert {
        /// Early media for the caller.
        early: Option<Body>,
    },
    /// Answer the caller. With an answer to its offer, or an offer where it made none.
    Answer {
        /// The answer or offer.
        media: Body,
    },
    /// Refuse the caller's unanswered call.
    Reject {
        /// Why.
        cause: Cause,
        /// Use this status unchanged where there is one.
        status: Option<u16>,
    },
    /// End it in whatever state it is (CANCEL, BYE, or a refusal).
    Release {
        /// Why.
        cause: Cause,
    },
    /// Offer other media in mid-call; `None` = ask for its offer.
    Offer(Option<Body>),
    /// Answer its mid-call offer, or the late offer of its answer.
    AnswerOffer(Body),
    /// Refuse its mid-call offer; the session stays as it was.
    RejectOffer(OfferRefusal),
    /// Show it whom it talks to now (P-Asserted-Identity in UPDATE or the next re-INVITE).
    Connected(Party),
    /// Send a digit by the signalling.
    Digit {
        /// 0-9, A-D, * and #.
        digit: char,
        /// Milliseconds.
        duration_ms: u32,
    },
    /// What came of [`Signal::Transfer`]. If it was done the end of this dialog follows.
    Transferred(Result<(), Cause>),
}

/// Why a mid-call offer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferRefusal {
    /// Two exchanges at once (SIP 491): try again.
    Glare,
    /// Nothing in common, or not possible now (SIP 488).
    NotAcceptable,
}

/// Whom a placed leg is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A phone: all its contacts.
    Phone(DeviceName),
    /// A number behind a trunk.
    Trunk(TrunkName, Dn),
}

/// What is written to the far end of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Somebody else's description, rewritten at the door, with this direction.
    Relay(Description, WrittenDirection),
    /// Audio of the model's own making, for an application's media: at its place among the lines, each other refused.
    Local(AudioLine),
}

/// The direction to write over a relayed description's own; `None` keeps it.
pub type WrittenDirection = Option<crate::media::Direction>;

/// What an application asks (protocol §3, §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // field for field the methods' params
#[serde(rename_all = "snake_case")]
pub enum Request {
    OpenDevice {
        device: DeviceName,
        media: Option<MediaTermination>,
    },
    CloseDevice {
        device: DeviceName,
    },
    SetForwardAll {
        device: DeviceName,
        dn: Dn,
        destination: Option<Dn>,
    },
    SetAutoAccept {
        device: DeviceName,
        dn: Dn,
        on: bool,
    },
    SetMessageWaiting {
        device: DeviceName,
        dn: Dn,
        on: bool,
    },
    MakeCall {
        device: DeviceName,
        dn: Option<Dn>,
        destination: Dn,
        calling_number: Option<Dn>,
        user_data: BTreeMap<String, String>,
    },
    Accept {
        leg: LegId,
    },
    Answer {
        leg: LegId,
    },
    Reject {
        leg: LegId,
        cause: Cause,
    },
    Redirect {
        leg: LegId,
        destination: Dn,
        calling_number: Option<Dn>,
        original_called: Option<Dn>,
        keep_on_failure: bool,
    },
    BlindTransfer {
        leg: LegId,
        destination: Dn,
    },
    Consult {
        leg: LegId,
        destination: Dn,
    },
    Transfer {
        leg: LegId,
        with: LegId,
    },
    Drop {
        leg: LegId,
    },
    Hold {
        leg: LegId,
    },
    Retrieve {
        leg: LegId,
    },
    SetUserData {
        leg: LegId,
        user_data: BTreeMap<String, String>,
    },
    SetMedia {
        leg: LegId,
        address: SocketAddr,
    },
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A device.
    Device(&'a DeviceName),
    /// A leg of one.
    Leg(LegId),
}

impl Request {
    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Request::OpenDevice { device, .. }
            | Request::CloseDevice { device }
            | Request::SetForwardAll { device, .. }
            | Request::SetAutoAccept { device, .. }
            | Request::SetMessageWaiting { device, .. }
            | Request::MakeCall { device, .. } => Subject::Device(device),
            Request::Accept { leg }
            | Request::Answer { leg }
            | Request::Reject { leg, .. }
            | Request::Redirect { leg, .. }
            | Request::BlindTransfer { leg, .. }
            | Request::Consult { leg, .. }
            | Request::Transfer { leg, .. }
            | Request::Drop { leg }
            | Request::Hold { leg }
            | Request::Retrieve { leg }
            | Request::SetUserData { leg, .. }
            | Request::SetMedia { leg, .. } => Subject::Leg(*leg),
        }
    }
}

/// What the model says.
#[derive(Clone, Debug)]
pub enum Output {
    /// The signalling shall do this.
    End(EndId, EndCommand),
    /// The one final answer to a request.
    Reply(SessionId, RequestToken, Result<Reply, Refusal>),
    /// Tell these sessions. Never empty.
    Event(Arc<[SessionId]>, Event),
    /// The same of a leg that is hidden from applications: for whoever keeps a mirror of its device, which is open.
    Hidden(Event),
    /// The message lamp of a number was switched; these phones have it.
    MessageLamp {
        /// The number.
        dn: Dn,
        /// What it shows now.
        lamp: MessageLamp,
        /// The phones.
        phones: Vec<DeviceName>,
    },
    /// A soft limit was passed or is kept again, and the like; the node makes an alarm of it.
    Limit(Limit),
    /// A rule refused a call, or its way on.
    Refused(Refused),
    /// What a new plan made of a device.
    News(News),
    /// A mistake of the program was found and survived; for counters and the log.
    Contradiction(Contradiction),
    /// The record of a change of state, at its place among what follows from it.
    Transition(Transition),
    /// Nobody needs this any more, and to drop it takes time: let it be done elsewhere.
    Discard(Arc<dyn Any + Send + Sync>),
}

/// What a message lamp shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MessageLamp {
    On,
    Off,
}

impl MessageLamp {
    pub(crate) fn when(on: bool) -> Self {
        if on { MessageLamp::On } else { MessageLamp::Off }
    }
}

/// A call, or the next step of its way, that a rule refused. Outside it looks like an unknown number, or like a node that
/// has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which rule.
    pub rule: Rule,
    /// Who sent it.
    pub sender: Sender,
    /// To this number.
    pub dialled: Dn,
}

/// What refuses calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The number's partition is out of the sender's reach.
    Partition,
    /// From a trunk to a trunk.
    OffnetToOffnet,
    /// The line has as many calls as it may have.
    LineCalls,
    /// More calls began at the line than may in a second.
    LineRate,
    /// The same of the device.
    DeviceCalls,
    /// The same of the device.
    DeviceRate,
    /// The same of this trunk, in or out.
    TrunkCalls(TrunkName),
    /// The same of this trunk, in or out.
    TrunkRate(TrunkName),
}

/// What a new plan made of a device; whom it concerns beside those who have it open is for the node to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// A plan has changed it: whether it or a line of it is restricted or unrestricted by that, and, to those who have it open,
    /// how it is now. Calls that end with it and its being out of service are told after this.
    Announced {
        /// As it is now.
        device: DeviceView,
        /// The device itself: restricted now, or no longer; `None` = as before.
        itself: Option<bool>,
        /// The same of any of its lines.
        line: Option<bool>,
    },
    /// All of that is carried out at this device, which is open: settings of lines may be others, and it may be out of
    /// service.
    Settled {
        /// As it is now.
        device: DeviceView,
    },
    /// These are not open to a session any more, by [`crate::Revocation`]; they are in order.
    Revoked {
        /// Whose.
        session: SessionId,
        /// On what.
        devices: Arc<[DeviceName]>,
    },
    /// A session has this device open from here on.
    Opened {
        /// Whose.
        session: SessionId,
        /// The device.
        device: DeviceView,
        /// How its media ends; `None` at a phone.
        media: Option<Arc<MediaTermination>>,
        /// All that is there.
        legs: Vec<WholeLeg>,
    },
    /// It has it open no more: it closed it.
    Closed {
        /// Whose.
        session: SessionId,
        /// Which.
        device: DeviceName,
    },
    /// By the plan in force applications hear no more of these legs, which go on, until it is said again that a plan has
    /// reached their device.
    Hidden {
        /// Where they are; it is open.
        device: DeviceName,
        /// In order.
        legs: Vec<LegId>,
    },
    /// The plan in force has reached an open phone: its restrictions are told, and what is no longer hidden may be.
    Reached {
        /// As it is now.
        device: DeviceView,
    },
    /// A session that has ended has let go of these.
    Departed {
        /// Whose.
        session: SessionId,
        /// In order.
        devices: Vec<DeviceName>,
        /// That was all that it had.
        over: bool,
    },
    /// It is gone, or another one has its name. Its openers have been told that it is closed.
    Removed {
        /// As it was last, out of service and open to nobody.
        device: DeviceView,
        /// By which plan: [`crate::CallControl::generation`] at its `Configure`.
        generation: u64,
    },
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// `{}`
    Done,
    /// `device.open`
    Opened {
        /// The device.
        device: DeviceView,
        /// Its calls.
        legs: Vec<LegView>,
    },
    /// `call.make` and its like.
    Call {
        /// The call.
        call: CallId,
        /// The leg at the device that asked.
        leg: LegId,
    },
}

/// A refusal: the symbol and what to say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub kind: RefusalKind,
    /// A sentence that helps.
    pub message: String,
}

/// The refusals that the model itself can give; the names are those of protocol §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    InvalidParams {
        field: Param,
    },
    NoSuchDevice,
    DeviceRestricted,
    LineRestricted,
    DeviceNotOpen,
    DeviceAlreadyOpen,
    DeviceOutOfService,
    CannotTerminateMediaOnPhone,
    MediaRequired,
    MediaAlreadyTerminatedStatic,
    MediaAlreadyTerminatedDynamic,
    MediaAlreadyTerminatedNone,
    MediaCapabilityMismatch,
    MediaAlreadySet,
    NoSuchLine,
    NoSuchLeg,
    IllegalCallState {
        state: LegState,
    },
    OperationNotSupported,
    DestinationUnknown,
    DestinationBusy,
    DestinationOutOfService,
    MaxCalls,
    /// The device has had another owner since: the request was not carried out.
    NotOwner,
    RateLimited {
        retry_after_ms: u64,
    },
    Timeout,
}

/// A parameter of a request that is wrong: by its path among the method's params (protocol §8, `data.field`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Param {
    Destination,
    Ip,
    Port,
    UserData,
    With,
    MediaCodecs,
    MediaIp,
    MediaPort,
}

impl Param {
    /// The path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Param::Destination => "destination",
            Param::Ip => "ip",
            Param::Port => "port",
            Param::UserData => "user_data",
            Param::With => "with",
            Param::MediaCodecs => "media.codecs",
            Param::MediaIp => "media.ip",
            Param::MediaPort => "media.port",
        }
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.path(), f)
    }
}

/// What sessions are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The leg is in the state that its view says now: `call.dialtone` … `call.disconnected`.
    Leg(LegView),
    /// `call.changed`
    LegChanged(LegView),
    /// `call.transferred`
    Transferred {
        /// The call that ended.
        from_call: CallId,
        /// The one that its parties are in now.
        to_call: CallId,
        /// Whether it was done.
        ok: bool,
    },
    /// `call.dtmf`
    Digit(LegView, char),
    /// `media.open_channel`
    OpenChannel {
        /// The leg that needs an address.
        leg: LegView,
        /// What it will receive.
        codec: Codec,
        /// Under this payload type.
        payload_type: u8,
        /// Milliseconds.
        packet_ms: u16,
        /// The far address, where it is known.
        far: Option<SocketAddr>,
        /// Milliseconds left for `call.set_media`.
        deadline_ms: u64,
    },
    /// `media.started`
    MediaStarted(LegView, Stream),
    /// A stream goes on with another key.
    KeyChanged(LegView, Stream),
    /// `media.stopped`
    MediaStopped(LegView, StreamDirection),
    /// `device.in_service`
    DeviceInService(DeviceView),
    /// `device.out_of_service`
    DeviceOutOfService(DeviceView, OutOfServiceReason),
    /// `device.closed`: the device is not open to the session any more, and the session has not closed it.
    DeviceClosed(DeviceView, OutOfServiceReason),
    /// `line.forward_changed`
    ForwardChanged(DeviceName, LineView),
    /// `line.auto_accept_changed`
    AutoAcceptChanged(DeviceName, LineView),
}

/// Why a device is out of service (protocol §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[serde(rename_all = "snake_case")]
pub enum OutOfServiceReason {
    CallmanagerFailure,
    CtimanagerFailure,
    RehomeToHigherPriority,
    RehomingFailure,
    NoCallmanagerAvailable,
    DeviceUnregistered,
    DeviceRestricted,
    LineRestricted,
    DeviceFailure,
}

/// Soft limits (reference §3.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// A provider has more devices open than its soft limit, or no longer.
    DevicesPerProvider {
        /// Whose.
        session: SessionId,
        /// Devices open.
        open: u32,
        /// The limit.
        limit: u32,
        /// Passed (true) or kept again.
        exceeded: bool,
    },
    /// The node has.
    DevicesPerNode {
        /// Devices open.
        open: u32,
        /// The limit.
        limit: u32,
        /// Passed (true) or kept again.
        exceeded: bool,
    },
}
