//! A leg: one call on one line of one device, or on a trunk.

use crate::cause::Cause;
use crate::ids::{CallId, DeviceName, Dn, LegId, SessionId, TrunkName};
use crate::media::{AudioLine, Description, MediaTermination, Stream};
use crate::muting::Muted;
use crate::view::{LegState, Party, Reason};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where a leg is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Phone { device: DeviceName, dn: Dn },
    Application { device: DeviceName, dn: Dn },
    Trunk { trunk: TrunkName, number: Dn },
}

impl At {
    /// The device and line, which a trunk hasn't.
    pub(crate) fn line(&self) -> Option<(&DeviceName, &Dn)> {
        match self {
            At::Phone { device, dn } | At::Application { device, dn } => Some((device, dn)),
            At::Trunk { .. } => None,
        }
    }
}

/// The signalling of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// An application's leg has none.
    Absent,
    /// The far end called us and waits for our answer.
    Incoming,
    /// We called the far end and wait for its answer.
    Placed,
    /// Answered.
    Up,
    /// Gone, while the leg lives on: another appearance of a shared line took the call.
    Over,
}

/// The offer/answer exchange of a leg's signalling (RFC 3264).
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

/// Whether somebody holds: no audio flows then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Off,
    On,
}

impl Hold {
    pub(crate) fn when(held: bool) -> Self {
        if held { Hold::On } else { Hold::Off }
    }
}

/// What the signalling was last told of its peer's media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) peer: LegId,
    /// The peer's [`LegMedia::version`].
    pub(crate) version: u32,
    /// Whether an application held one of the two.
    pub(crate) hold: Hold,
}

/// The address of a dynamic leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// None for this media session.
    Closed,
    /// The applications were asked.
    Asked,
    /// One of them said.
    Open(SocketAddr),
}

/// A leg's media: what its far end said and was told, or what its application gave.
#[derive(Clone, Debug)]
pub(crate) struct LegMedia {
    /// Signalling: see there.
    pub(crate) exchange: Exchange,
    /// Signalling: the last description that is in force or about to be.
    pub(crate) far: Option<Description>,
    /// Grows when this end's description changes for its peer.
    pub(crate) version: u32,
    /// Signalling: what it knows of its peer.
    pub(crate) told: Option<Told>,
    /// Signalling: the audio that it was told last, where the peer is an application.
    pub(crate) said: Option<AudioLine>,
    /// Signalling: the peer with whom an exchange was completed.
    pub(crate) agreed_with: Option<LegId>,
    /// Offers that we made on our own account since somebody last wanted something.
    pub(crate) rounds: u8,
    /// Application: how it ends media.
    pub(crate) termination: Option<Arc<MediaTermination>>,
    /// Application, dynamic: the address for this media session.
    pub(crate) channel: Channel,
    /// Application, dynamic: whose address it is.
    pub(crate) given_by: Option<SessionId>,
    /// Application, dynamic: the last address, written where media stands still.
    pub(crate) last_address: Option<SocketAddr>,
    /// Whether an application put it on hold.
    pub(crate) held_by_application: Hold,
    /// Whether the phone put its far end on hold.
    pub(crate) held_by_phone: Hold,
    /// The streams that were announced: input, output.
    pub(crate) running: [Option<Stream>; 2],
}

impl LegMedia {
    pub(crate) fn new(termination: Option<Arc<MediaTermination>>) -> Self {
        Self {
            exchange: Exchange::Idle,
            far: None,
            version: 0,
            told: None,
            said: None,
            agreed_with: None,
            rounds: 0,
            termination,
            channel: Channel::Closed,
            given_by: None,
            last_address: None,
            held_by_application: Hold::Off,
            held_by_phone: Hold::Off,
            running: [None, None],
        }
    }
}

/// A leg.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    pub(crate) call: CallId,
    pub(crate) at: At,
    /// Who is at this leg.
    pub(crate) party: Party,
    pub(crate) state: LegState,
    pub(crate) cause: Option<Cause>,
    pub(crate) reason: Reason,
    pub(crate) wire: Wire,
    pub(crate) media: LegMedia,
    /// Another appearance of its line has the call.
    pub(crate) remote_in_use: bool,
    /// It is hidden from applications.
    pub(crate) muted: Option<Muted>,
}

impl Leg {
    pub(crate) fn is_application(&self) -> bool {
        match self.at {
            At::Application { .. } => true,
            At::Phone { .. } | At::Trunk { .. } => false,
        }
    }
}
