//! Ends: what is at the far side of a leg. A leg's state, parties and watchers do not depend on it, and a leg may get
//! another. The media exchange is between ends: each tells its peer where it receives.

use crate::ids::{EndId, LegId, NodeName, OwnerEpoch, SessionId};
use crate::leg::Hold;
use crate::media::{AudioLine, Description, Direction, MediaTermination};
use crate::table::Table;
use std::net::SocketAddr;
use std::sync::Arc;

/// An end. Each variant has what its kind needs and nothing else.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most ends are dialogs")]
pub(crate) enum End {
    /// A dialog of the signalling, to a phone or trunk.
    Dialog(Dialog),
    /// The application of a CTI port or route point.
    Application(Application),
    /// An end of another node of the cluster, which has the dialog or the application.
    Remote(Remote),
    /// A bridge or relay, as one of its ends talks to it.
    BridgePort(Port),
    /// A source of music, of a prompt, or of what others say.
    Source(Resource),
}

pub(crate) type Ends = Table<EndId, End>;

/// Media of the node itself, which has no leg: it is the peer of one end.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: EndId,
    /// Where it receives and what it speaks.
    pub(crate) media: MediaTermination,
}

/// A port of a bridge or relay.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) own: Resource,
    /// Of a relay: whose media comes out here. A bridge mixes that of all others.
    pub(crate) across: Option<EndId>,
}

/// An end of another node: that node is told what a dialog would be, and says what one would say.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) place: RemotePlace,
    /// Whose id is this node's. What that node says has been read there: to the model it is one more far end.
    pub(crate) dialog: Dialog,
}

/// Where an end of another node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePlace {
    /// The node.
    pub node: NodeName,
    /// Its id there.
    pub end: EndId,
    /// The owner of its device as that node is one: what an older one says of it counts no more.
    pub epoch: OwnerEpoch,
}

/// A dialog of the signalling.
#[derive(Debug)]
pub(crate) struct Dialog {
    id: EndId,
    leg: LegId,
    state: DialogState,
    exchange: Exchange,
    /// The last description that is in force or about to be.
    far: Option<Description>,
    /// Grows when its description changes for its peer.
    version: u32,
    /// What it knows of its peer.
    told: Option<Told>,
    /// The audio that it was told last, where the peer's media is the model's to describe.
    said: Option<AudioLine>,
    /// The peer with whom an exchange was completed.
    agreed_with: Option<EndId>,
    /// Offers that we made on our own account since somebody last wanted something.
    rounds: u8,
    /// Whether the phone put its far end on hold.
    hold: Hold,
}

/// Where a dialog stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialogState {
    /// The far end called us and waits for our answer.
    Incoming,
    /// We called the far end and wait for its answer.
    Placed,
    /// Answered.
    Confirmed,
    /// The far end has ended it.
    Terminated,
}

/// The application of a port or route point, for one leg.
#[derive(Debug)]
pub(crate) struct Application {
    id: EndId,
    leg: LegId,
    /// Grows when its address changes for its peer.
    version: u32,
    /// How it ends media.
    termination: Option<Arc<MediaTermination>>,
    /// Dynamic media: the address for this media session.
    channel: Channel,
    /// Dynamic media: the last address, written where media stands still.
    last_address: Option<SocketAddr>,
}

/// The offer/answer exchange of a dialog (RFC 3264).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Nothing is under way.
    Idle,
    /// It made an offer and waits for our answer.
    Owed {
        /// What it said before, in force again if we refuse.
        before: Option<Box<Description>>,
        /// Whether it puts its far end on hold by this offer.
        hold: Hold,
    },
    /// We made an offer and wait for its answer.
    Offered,
}

impl Exchange {
    /// Whether it waits for our answer.
    pub(crate) fn is_owed(&self) -> bool {
        match self {
            Exchange::Owed { .. } => true,
            Exchange::Idle | Exchange::Offered => false,
        }
    }
}

/// What a dialog was last told of its peer's media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) peer: EndId,
    /// The peer's [`End::version`].
    pub(crate) version: u32,
    /// Whether an application held one of the two.
    pub(crate) hold: Hold,
}

/// The address of an application with dynamic media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// None for this media session.
    Closed,
    /// The applications were asked.
    Asked,
    /// One of them said.
    Open { at: SocketAddr, by: SessionId },
}

impl Dialog {
    pub(crate) fn new(id: EndId, leg: LegId, state: DialogState) -> Self {
        Self {
            id,
            leg,
            state,
            exchange: Exchange::Idle,
            far: None,
            version: 0,
            told: None,
            said: None,
            agreed_with: None,
            rounds: 0,
            hold: Hold::Off,
        }
    }

    /// The far end calls us: with this offer, by which it may hold from the beginning, or with none.
    pub(crate) fn incoming(id: EndId, leg: LegId, offer: Option<(Description, Hold)>) -> Self {
        let dialog = Self::new(id, leg, DialogState::Incoming);
        match offer {
            Some((offer, hold)) => Self {
                exchange: Exchange::Owed { before: None, hold },
                version: 1,
                far: Some(offer),
                ..dialog
            },
            None => dialog,
        }
    }

    /// It talks, and has said this of its media.
    pub(crate) fn confirmed(id: EndId, leg: LegId, far: Description) -> Self {
        Self { version: 1, far: Some(far), ..Self::new(id, leg, DialogState::Confirmed) }
    }

    pub(crate) fn leg(&self) -> LegId {
        self.leg
    }

    pub(crate) fn state(&self) -> DialogState {
        self.state
    }

    pub(crate) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// What its far end said last.
    pub(crate) fn far(&self) -> Option<&Description> {
        self.far.as_ref()
    }

    pub(crate) fn told(&self) -> Option<Told> {
        self.told
    }

    pub(crate) fn said(&self) -> Option<&AudioLine> {
        self.said.as_ref()
    }

    /// Whether it has agreed on media with this peer.
    pub(crate) fn has_agreed_with(&self, peer: EndId) -> bool {
        self.agreed_with == Some(peer)
    }

    pub(crate) fn rounds(&self) -> u8 {
        self.rounds
    }

    /// We call the far end, with an offer or without one.
    pub(crate) fn place(&mut self, told: Option<Told>, said: Option<AudioLine>) {
        (self.told, self.said) = (told, said);
    }

    /// The far end answers our offer before it takes the call; it may be all of its answer.
    pub(crate) fn answer_early(&mut self, answer: Description) {
        self.far = Some(answer);
    }

    /// The far end takes our call. What it says answers our offer or, where we made none, is an offer.
    pub(crate) fn answer_call(&mut self, media: Option<Description>) {
        self.state = DialogState::Confirmed;
        self.version += 1;
        if media.is_some() {
            self.far = media;
        }
        match self.told {
            Some(told) => self.agreed_with = Some(told.peer),
            None => self.exchange = Exchange::Owed { before: None, hold: Hold::Off },
        }
    }

    /// The far end makes an offer, by which it may hold.
    pub(crate) fn take_offer(&mut self, offer: Description, hold: Hold) {
        let before = self.far.replace(offer).map(Box::new);
        self.exchange = Exchange::Owed { before, hold };
        self.version += 1;
    }

    /// The far end makes another offer before the call is answered, which is answered at once. What it owes for its first
    /// one stays owed.
    pub(crate) fn exchange_early(
        &mut self,
        offer: Description,
        wanted: Hold,
        told: Told,
        said: Option<AudioLine>,
    ) {
        if let Exchange::Owed { hold, .. } = &mut self.exchange {
            *hold = wanted;
        }
        self.far = Some(offer);
        self.version += 1;
        (self.told, self.said) = (Some(told), said);
    }

    /// We answer its offer; returns the state before, which may be that of a call that is answered by this.
    pub(crate) fn answer(&mut self, told: Told, said: Option<AudioLine>) -> DialogState {
        self.exchange = Exchange::Idle;
        (self.told, self.agreed_with, self.said) = (Some(told), Some(told.peer), said);
        std::mem::replace(&mut self.state, DialogState::Confirmed)
    }

    /// We make an offer on our own account; returns the state before, as [`Dialog::answer`] does.
    pub(crate) fn offer(&mut self, told: Told, said: Option<AudioLine>) -> DialogState {
        self.exchange = Exchange::Offered;
        (self.told, self.said) = (Some(told), said);
        self.rounds += 1;
        std::mem::replace(&mut self.state, DialogState::Confirmed)
    }

    /// It asked for an offer and gets one.
    pub(crate) fn offer_as_asked(&mut self, told: Told, said: Option<AudioLine>) {
        self.exchange = Exchange::Offered;
        (self.told, self.said) = (Some(told), said);
        self.rounds = 0;
    }

    /// The far end answers our offer. True when it has agreed with another peer before, or with none.
    pub(crate) fn take_answer(&mut self, answer: Description, peer: Option<EndId>) -> bool {
        self.exchange = Exchange::Idle;
        if self.far.as_ref().is_none_or(|far| far.is_other_for_peer(&answer)) {
            self.version += 1;
        }
        self.far = Some(answer);
        std::mem::replace(&mut self.agreed_with, peer) != peer
    }

    /// By its answer its phone holds, or does no more: where that is another thing than before, the other end is to hear it.
    pub(crate) fn changes_direction(&mut self, hold: Hold) {
        if self.hold != hold {
            self.version += 1;
        }
    }

    /// The far end refuses our offer.
    pub(crate) fn offer_refused(&mut self) {
        self.exchange = Exchange::Idle;
    }

    /// An offer that it made is to be refused: what it said before is in force again. False when it made none.
    pub(crate) fn withdraw_offer(&mut self) -> bool {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Owed { before, .. } => {
                self.far = before.map(|before| *before);
                true
            }
            other @ (Exchange::Idle | Exchange::Offered) => {
                self.exchange = other;
                false
            }
        }
    }

    /// Its offer is answered with silence: it has no peer now.
    pub(crate) fn answer_with_silence(&mut self, said: Option<AudioLine>) {
        self.exchange = Exchange::Idle;
        (self.told, self.agreed_with, self.said) = (None, None, said);
    }

    /// A peer has answered its offer.
    pub(crate) fn agree_with(&mut self, peer: EndId) {
        self.agreed_with = Some(peer);
    }

    /// Somebody wants something new: offers on our own account are counted anew.
    pub(crate) fn new_rounds(&mut self) {
        self.rounds = 0;
    }

    /// Its phone holds or retrieves; returns what was before.
    pub(crate) fn exchange_hold(&mut self, hold: Hold) -> Hold {
        std::mem::replace(&mut self.hold, hold)
    }

    /// Takes another state for a while; returns the one before.
    pub(crate) fn exchange_state(&mut self, state: DialogState) -> DialogState {
        std::mem::replace(&mut self.state, state)
    }
}

impl Application {
    pub(crate) fn new(id: EndId, leg: LegId, termination: Option<Arc<MediaTermination>>) -> Self {
        Self { id, leg, version: 0, termination, channel: Channel::Closed, last_address: None }
    }

    pub(crate) fn id(&self) -> EndId {
        self.id
    }

    pub(crate) fn leg(&self) -> LegId {
        self.leg
    }

    /// How it ends media.
    pub(crate) fn termination(&self) -> Option<&MediaTermination> {
        self.termination.as_deref()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel
    }

    /// The address of an earlier media session.
    pub(crate) fn last_address(&self) -> Option<SocketAddr> {
        self.last_address
    }

    pub(crate) fn is_given_by(&self, session: SessionId) -> bool {
        match self.channel {
            Channel::Open { by, .. } => by == session,
            Channel::Closed | Channel::Asked => false,
        }
    }

    /// The applications are asked where they will receive in this media session.
    pub(crate) fn ask(&mut self) {
        self.channel = Channel::Asked;
    }

    /// One of them has said.
    pub(crate) fn open(&mut self, at: SocketAddr, by: SessionId) {
        self.channel = Channel::Open { at, by };
        self.version += 1;
    }

    /// The media session is over.
    pub(crate) fn close(&mut self) {
        if let Channel::Open { at, .. } = self.channel {
            self.last_address = Some(at);
        }
        self.channel = Channel::Closed;
    }

    /// What was agreed with the last peer holds no more.
    pub(crate) fn renew(&mut self) {
        self.version += 1;
    }
}

impl RemotePlace {
    pub(crate) fn with(self, dialog: Dialog) -> Remote {
        Remote { place: self, dialog }
    }
}

impl End {
    pub(crate) fn id(&self) -> EndId {
        match self {
            End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => dialog.id,
            End::Application(application) => application.id,
            End::BridgePort(Port { own, .. }) | End::Source(own) => own.id,
        }
    }

    /// The leg whose end it is; the node's own media has none.
    pub(crate) fn leg(&self) -> Option<LegId> {
        match self {
            End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => Some(dialog.leg),
            End::Application(application) => Some(application.leg),
            End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn version(&self) -> u32 {
        match self {
            End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => dialog.version,
            End::Application(application) => application.version,
            End::BridgePort(_) | End::Source(_) => 0,
        }
    }

    /// The dialog of a far end, whichever node has it.
    pub(crate) fn dialog(&self) -> Option<&Dialog> {
        match self {
            End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => Some(dialog),
            End::Application(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn dialog_mut(&mut self) -> Option<&mut Dialog> {
        match self {
            End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => Some(dialog),
            End::Application(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn application(&self) -> Option<&Application> {
        match self {
            End::Application(application) => Some(application),
            End::Dialog(_) | End::Remote(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn application_mut(&mut self) -> Option<&mut Application> {
        match self {
            End::Application(application) => Some(application),
            End::Dialog(_) | End::Remote(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    /// Whether the model describes its media, and not a far end.
    pub(crate) fn is_local(&self) -> bool {
        self.dialog().is_none()
    }

    /// What a dialog's far end said last.
    pub(crate) fn far(&self) -> Option<&Description> {
        self.dialog()?.far.as_ref()
    }

    /// A dialog that waits for our answer to its offer.
    pub(crate) fn is_owed(&self) -> bool {
        self.dialog().is_some_and(|dialog| dialog.exchange.is_owed())
    }

    /// No offer is unanswered, whoever made it.
    pub(crate) fn is_idle(&self) -> bool {
        self.dialog().is_none_or(|dialog| dialog.exchange == Exchange::Idle)
    }

    /// The application was asked where it will receive.
    pub(crate) fn is_asked(&self) -> bool {
        self.application().is_some_and(|application| application.channel == Channel::Asked)
    }

    /// How media ends here, if the model describes it.
    pub(crate) fn termination(&self) -> Option<&MediaTermination> {
        match self {
            End::Dialog(_) | End::Remote(_) => None,
            End::Application(application) => application.termination.as_deref(),
            End::BridgePort(Port { own, .. }) | End::Source(own) => Some(&own.media),
        }
    }

    /// Which way the media flows of which the model makes an offer.
    pub(crate) fn direction(&self) -> Direction {
        match self {
            End::Dialog(_) | End::Application(_) | End::Remote(_) | End::BridgePort(_) => {
                Direction::SendReceive
            }
            End::Source(_) => Direction::SendOnly,
        }
    }

    /// Whether the phone holds.
    pub(crate) fn phone_holds(&self) -> bool {
        self.dialog().is_some_and(|dialog| dialog.hold == Hold::On)
    }
}
