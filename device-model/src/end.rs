//! Ends: what is at the far side of a leg. A leg's state, parties and watchers do not depend on it, and a leg may get
//! another. The media exchange is between ends: each tells its peer where it receives.

use crate::ids::{EndId, LegId, SessionId};
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
    /// A bridge, as one of its ends talks to it.
    BridgePort(Resource),
    /// A source of music or of a prompt.
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

/// A dialog of the signalling.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) id: EndId,
    pub(crate) leg: LegId,
    pub(crate) state: DialogState,
    pub(crate) exchange: Exchange,
    /// The last description that is in force or about to be.
    pub(crate) far: Option<Description>,
    /// Grows when its description changes for its peer.
    pub(crate) version: u32,
    /// What it knows of its peer.
    pub(crate) told: Option<Told>,
    /// The audio that it was told last, where the peer's media is the model's to describe.
    pub(crate) said: Option<AudioLine>,
    /// The peer with whom an exchange was completed.
    pub(crate) agreed_with: Option<EndId>,
    /// Offers that we made on our own account since somebody last wanted something.
    pub(crate) rounds: u8,
    /// Whether the phone put its far end on hold.
    pub(crate) hold: Hold,
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
    pub(crate) id: EndId,
    pub(crate) leg: LegId,
    /// Grows when its address changes for its peer.
    pub(crate) version: u32,
    /// How it ends media.
    pub(crate) termination: Option<Arc<MediaTermination>>,
    /// Dynamic media: the address for this media session.
    pub(crate) channel: Channel,
    /// Dynamic media: whose address it is.
    pub(crate) given_by: Option<SessionId>,
    /// Dynamic media: the last address, written where media stands still.
    pub(crate) last_address: Option<SocketAddr>,
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
    Open(SocketAddr),
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
}

impl Application {
    pub(crate) fn new(id: EndId, leg: LegId, termination: Option<Arc<MediaTermination>>) -> Self {
        Self {
            id,
            leg,
            version: 0,
            termination,
            channel: Channel::Closed,
            given_by: None,
            last_address: None,
        }
    }
}

impl End {
    pub(crate) fn id(&self) -> EndId {
        match self {
            End::Dialog(dialog) => dialog.id,
            End::Application(application) => application.id,
            End::BridgePort(resource) | End::Source(resource) => resource.id,
        }
    }

    /// The leg whose end it is; the node's own media has none.
    pub(crate) fn leg(&self) -> Option<LegId> {
        match self {
            End::Dialog(dialog) => Some(dialog.leg),
            End::Application(application) => Some(application.leg),
            End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn version(&self) -> u32 {
        match self {
            End::Dialog(dialog) => dialog.version,
            End::Application(application) => application.version,
            End::BridgePort(_) | End::Source(_) => 0,
        }
    }

    pub(crate) fn dialog(&self) -> Option<&Dialog> {
        match self {
            End::Dialog(dialog) => Some(dialog),
            End::Application(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn dialog_mut(&mut self) -> Option<&mut Dialog> {
        match self {
            End::Dialog(dialog) => Some(dialog),
            End::Application(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn application(&self) -> Option<&Application> {
        match self {
            End::Application(application) => Some(application),
            End::Dialog(_) | End::BridgePort(_) | End::Source(_) => None,
        }
    }

    pub(crate) fn application_mut(&mut self) -> Option<&mut Application> {
        match self {
            End::Application(application) => Some(application),
            End::Dialog(_) | End::BridgePort(_) | End::Source(_) => None,
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
            End::Dialog(_) => None,
            End::Application(application) => application.termination.as_deref(),
            End::BridgePort(resource) | End::Source(resource) => Some(&resource.media),
        }
    }

    /// Which way the media flows of which the model makes an offer.
    pub(crate) fn direction(&self) -> Direction {
        match self {
            End::Dialog(_) | End::Application(_) | End::BridgePort(_) => Direction::SendReceive,
            End::Source(_) => Direction::SendOnly,
        }
    }

    /// Whether the phone holds.
    pub(crate) fn phone_holds(&self) -> bool {
        self.dialog().is_some_and(|dialog| dialog.hold == Hold::On)
    }
}
