//! Transfer: two calls of one device become one, and the device leaves both. The party of each goes on in the call that
//! survives, also where that of one still rings.

use crate::call::{AttemptId, Call, Conversation, Setup, Step};
use crate::codec_choice::agreed_by_applications;
use crate::control::{CallControl, refusal};
use crate::conversation::Joining;
use crate::end::End;
use crate::ids::{CallId, EndId, LegId, SessionId};
use crate::leg::{Leg, wrong_state};
use crate::operations::Asking;
use crate::plan::DeviceKind;
use crate::port::{Event, Param, Refusal, RefusalKind, Reply, TransferTo};
use crate::redirect::Redirect;
use crate::view::{LegState, Reason};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Who is at the other end of a leg.
#[derive(Clone, Copy, Debug)]
enum Other {
    /// Somebody who has answered.
    Talks(LegId),
    /// A destination that is being tried.
    Rings(AttemptId),
}

impl CallControl {
    /// The parties of two legs of one device talk to each other, in the call of `leg`.
    pub(crate) fn transfer(&mut self, asking: Asking, leg: LegId, with: LegId) -> Result<(), Refusal> {
        let first = match asking {
            Asking::Application(asker) => self.leg_for(asker.session, leg)?,
            Asking::Person(_) => self.own_leg(leg)?,
        };
        if self.kind_at(first) == Some(DeviceKind::RoutePoint) {
            return refusal(
                RefusalKind::OperationNotSupported,
                "a route point can only send a call to a number",
            );
        }
        let same_device = |other: &&Leg| match (other.at.line(), first.at.line()) {
            (Some((there, _)), Some((here, _))) => there == here,
            (Some(_) | None, Some(_) | None) => false,
        };
        let second = self.calls.find_leg(with).filter(same_device);
        let seen = |second: &Leg| match asking {
            Asking::Application(_) => !self.is_hidden(second),
            Asking::Person(_) => true,
        };
        let other_call = |second: &&Leg| second.call != first.call && seen(second);
        let second = second.filter(other_call);
        let Some(second) = second else {
            return refusal(
                RefusalKind::InvalidParams { field: Param::With },
                "`with` is another leg of the same device, of another call",
            );
        };
        let Some(one) = self.transferable(first, with) else { return wrong_state(first) };
        let Some(two) = self.transferable(second, leg) else { return wrong_state(second) };
        // Who is called because of the other call is the consulted party; else the one whose call ends.
        let (one, two) = if first.consult_of == Some(with) { (two, one) } else { (one, two) };
        let (x, y) = match (one, two) {
            (Other::Talks(x), y) => (x, y),
            (Other::Rings(_), Other::Talks(x)) => (x, one),
            // Two that ring have nobody who waits.
            (Other::Rings(_), Other::Rings(_)) => return wrong_state(second),
        };
        self.can_talk(x, y)?;
        let (into, from, by) = (first.call, second.call, second.party.clone());
        let told = self.who_sees([into, from]);
        self.answer_to(asking, Ok(Reply::Done));
        let how = Joining { into, why: Reason::Transfer, by: Some(by) };
        match y {
            Other::Talks(y) => self.pair_anew(x, y, &how),
            Other::Rings(attempt) => self.pair_ringing(x, attempt, &how),
        }
        self.tell(told, Event::Transferred { from_call: from, to_call: into, ok: true });
        self.settle(into);
        Ok(())
    }

    /// A person wants the other end of his call elsewhere, and is answered when that is decided.
    pub(crate) fn person_transfers(&mut self, end: EndId, leg: LegId, to: TransferTo) {
        let asking = Asking::Person(end);
        let asked = match to {
            TransferTo::Number(dn) => self.redirect(asking, Redirect::blind_transfer(leg, dn)),
            TransferTo::End(other) => match self.leg_of_end(other) {
                Some(with) => self.transfer(asking, leg, with),
                None => ended(),
            },
            TransferTo::Ended => ended(),
        };
        if let Err(refused) = asked {
            self.answer_to(asking, Err(refused));
        }
    }

    /// The leg of a person who asks.
    pub(crate) fn own_leg(&self, id: LegId) -> Result<&Leg, Refusal> {
        self.calls.leg(id).map_or_else(ended, Ok)
    }

    /// Who is at the other end of a leg that may be transferred with another one. Who consults may do so while it rings; at
    /// a phone the node can't know about whom.
    fn transferable(&self, leg: &Leg, with: LegId) -> Option<Other> {
        let consults = leg.consult_of == Some(with) || !leg.is_application();
        let fits = match leg.state() {
            LegState::Connected | LegState::Held => true,
            LegState::Ringback => consults,
            LegState::Dialtone
            | LegState::Dialing
            | LegState::Proceeding
            | LegState::Offering
            | LegState::Ringing
            | LegState::Failed
            | LegState::Disconnected => false,
        };
        // What a redirect left is not decided yet.
        let call = self.calls.call(leg.call).filter(|call| fits && call.left.is_none())?;
        match &call.conversation {
            Conversation::Setup(Setup { anchor, step: Step::Trying(attempt) }) if *anchor == leg.id => {
                let taken = self.calls.attempt(*attempt)?.answering.is_some();
                (!taken).then_some(Other::Rings(*attempt))
            }
            Conversation::Pair(..) | Conversation::Relayed(_) => self.peer_of(leg.id).map(Other::Talks),
            Conversation::Setup(_) | Conversation::Mixed(_) | Conversation::Waiting(_) => None,
        }
    }

    /// Two applications need a codec in common. Where a phone or trunk is one of the two it is asked, and may say no.
    fn can_talk(&self, x: LegId, y: Other) -> Result<(), Refusal> {
        let legs = match y {
            Other::Talks(y) => vec![y],
            Other::Rings(attempt) => {
                self.calls.attempt(attempt).map(|attempt| attempt.branches.to_vec()).unwrap_or_default()
            }
        };
        let local = |leg: LegId| self.end_at(leg).filter(|end| end.is_local());
        let deaf = |one: &End| {
            legs.iter().filter_map(|leg| local(*leg)).any(|two| agreed_by_applications(one, two).is_none())
        };
        match local(x).is_some_and(deaf) {
            true => {
                refusal(RefusalKind::MediaCapabilityMismatch, "the two that are left have no codec in common")
            }
            false => Ok(()),
        }
    }

    /// The sessions that may hear of these calls, in order.
    fn who_sees(&self, calls: [CallId; 2]) -> Arc<[SessionId]> {
        let calls = calls.into_iter().filter_map(|call| self.calls.call(call));
        let legs = calls.flat_map(|call: &Call| self.calls.legs_of(call));
        let legs = legs.filter_map(|leg| self.calls.leg(leg)).filter(|leg| !self.is_hidden(leg));
        let sessions: BTreeSet<SessionId> =
            legs.filter_map(|leg| self.watchers(leg)).flat_map(|watchers| watchers.iter().copied()).collect();
        sessions.into_iter().collect()
    }
}

fn ended<T>() -> Result<T, Refusal> {
    refusal(RefusalKind::NoSuchLeg, "the call has ended")
}
