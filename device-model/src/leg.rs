//! A leg: one call on one line of one device, or on a trunk.

use crate::cause::Cause;
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, TrunkName};
use crate::media::Stream;
use crate::muting::Muted;
use crate::view::{LegState, Party, Reason};

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
    /// What is at its far side. `None`: another appearance of its line has the call.
    pub(crate) end: Option<EndId>,
    /// Whether an application put it on hold.
    pub(crate) hold: Hold,
    /// The streams that were announced: input, output.
    pub(crate) running: [Option<Stream>; 2],
    /// It is hidden from applications.
    pub(crate) muted: Option<Muted>,
}

impl Leg {
    /// Another appearance of its line has the call: it can only be watched.
    pub(crate) fn is_remote_in_use(&self) -> bool {
        self.end.is_none()
    }

    pub(crate) fn is_application(&self) -> bool {
        match self.at {
            At::Application { .. } => true,
            At::Phone { .. } | At::Trunk { .. } => false,
        }
    }
}
