//! Glare: offers that cross, and which side has to wait (RFC 3261 §14, RFC 3311 §5.2).

use super::{Ack, Carrier, Leg, Ours, Purpose, Theirs};
use crate::message::{Method, Request};

impl Leg {
    /// Who has to wait (RFC 3261 §14.2, RFC 3311 §5.2): `None` when the peer's offer may be looked at.
    pub(super) fn glare(&self, request: &Request) -> Option<u16> {
        let is_invite = request.method == Method::Invite;
        if !is_invite && request.body.is_empty() {
            return None;
        }
        if is_invite && !self.confirmed {
            return Some(if self.dialog.own_call_id { 491 } else { 500 });
        }
        match (&self.ours, &self.theirs) {
            (_, Theirs::Asked { .. }) => Some(500),
            (_, Theirs::AckDue { ack, .. }) => {
                Some(if is_invite || *ack == Ack::WithAnswer { 491 } else { 500 })
            }
            (Ours::Sent { carrier, purpose, .. }, Theirs::Idle) => {
                let offers = match purpose {
                    Purpose::Offer(_) => true,
                    Purpose::Refresh => *carrier == Carrier::Invite,
                };
                (offers || is_invite).then_some(491)
            }
            (Ours::AnswerDue { .. }, Theirs::Idle) => Some(491),
            // Before the first answer only the INVITE itself speaks of media.
            (Ours::Idle | Ours::Waiting { .. }, Theirs::Idle) if !self.agreed => {
                Some(if self.dialog.own_call_id { 491 } else { 500 })
            }
            (Ours::Idle | Ours::Waiting { .. }, Theirs::Idle) => None,
        }
    }
}
