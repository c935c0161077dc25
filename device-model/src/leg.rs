//! A leg: one call on one line of one device, or on a trunk.

use crate::call::Parties;
use crate::cause::Cause;
use crate::ids::{CallId, DeviceName, Dn, EndId, LegId, TrunkName};
use crate::media::Stream;
use crate::port::{Refusal, RefusalKind};
use crate::transitions::{LegChange, Private, Recorder, What};
use crate::view::{LegState, Party, Reason, Security};
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
    /// The other parties, as this leg sees them.
    pub(crate) parties: Arc<Parties>,
    state: LegState,
    pub(crate) cause: Option<Cause>,
    pub(crate) reason: Reason,
    /// What is at its far side. `None`: another appearance of its line has the call.
    pub(crate) end: Option<EndId>,
    /// Whether an application put it on hold.
    pub(crate) hold: Hold,
    /// The leg for whose sake its application began it.
    pub(crate) consult_of: Option<LegId>,
    /// The streams that run: input, output.
    pub(crate) running: [Option<Stream>; 2],
    /// What was said last of its media.
    pub(crate) security: Security,
}

impl Leg {
    /// A leg that begins, with its end.
    pub(crate) fn begin(
        (id, call): (LegId, CallId),
        at: At,
        party: Party,
        parties: Arc<Parties>,
        (state, reason): (LegState, Reason),
        end: EndId,
    ) -> Self {
        let (cause, end, hold, consult_of, running) = (None, Some(end), Hold::Off, None, [None, None]);
        let security = Security::None;
        Self { id, call, at, party, parties, state, cause, reason, end, hold, consult_of, running, security }
    }

    pub(crate) fn state(&self) -> LegState {
        self.state
    }

    /// A step that the table of transitions has ([`crate::leg_states`]), recorded; false, and nothing happens, at any other.
    #[must_use]
    pub(crate) fn enter(&mut self, state: LegState, recorder: &mut Recorder<'_>) -> bool {
        let may = self.state.may_become(state);
        if may {
            let from = Some(std::mem::replace(&mut self.state, state));
            self.record(LegChange::State { from, to: state, cause: self.cause }, recorder);
        }
        may
    }

    /// Goes into another call.
    pub(crate) fn join(&mut self, call: CallId, recorder: &mut Recorder<'_>) {
        let from = std::mem::replace(&mut self.call, call);
        if from != call {
            self.record(LegChange::Moved(from), recorder);
        }
    }

    /// Says what changed. Only for what changes legs.
    pub(crate) fn record(&self, change: LegChange, recorder: &mut Recorder<'_>) {
        let Self { id: leg, call, end, reason, .. } = *self;
        let (place, parties) = ((&self.at).into(), Private::new(Arc::clone(&self.parties)));
        recorder.record(What::Leg { leg, call, end, place, reason, parties, change });
    }

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

/// Whether a call on it waits to be answered.
pub(crate) fn is_offered(state: LegState) -> bool {
    matches!(state, LegState::Offering | LegState::Ringing)
}

/// What is asked of a leg that is in another state than it must be.
pub(crate) fn wrong_state<T>(leg: &Leg) -> Result<T, Refusal> {
    let message = "the leg's state doesn't allow this now".to_owned();
    Err(Refusal { kind: RefusalKind::IllegalCallState { state: leg.state() }, message })
}
