//! The door: what belongs to no dialog and no transaction proves who sent it, or is answered there and then.
//!
//! Nothing is kept for who has not said who he is (RFC 3261 §26.3.2.4): his refusals and challenges are sent once, without
//! a transaction (§8.2.7), and the ACK of one leads nowhere. Only a trunk's INVITE, and an INVITE or REGISTER with the
//! right digest, get a transaction.

use super::Stack;
use super::belonging::{Asked, Reason};
use crate::invite::refusals;
use crate::message::{Method, Request, Response};
use crate::port::{Account, Directory, Hop, Output, Source};
use crate::subscribe::{SubscriptionId, Wish};
use std::sync::Arc;
use std::time::Instant;

/// Retry-After of a call beyond the limit of calls, and of a request whose address has used up its bytes, seconds.
const RETRY_AFTER: u32 = 5;

/// A request that comes in: by which way, and who knows its sender.
#[derive(Clone, Copy)]
pub(super) struct Visitor<'a> {
    pub now: Instant,
    pub hop: &'a Hop,
    pub request: &'a Request,
    pub directory: &'a dyn Directory,
}

impl Visitor<'_> {
    pub(super) fn reply(&self, status: u16) -> Response {
        Response::to(self.request, status, None)
    }
}

/// What is known of the sender of a request that may come in.
pub(super) enum Proved {
    /// It belongs to a transaction, or to a dialog whose peer has sent it.
    Nothing,
    /// An INVITE of this source.
    Caller(Source),
    /// An INVITE with the right password of an account that nobody could call back.
    Unregistered,
    /// A REGISTER of this account.
    Registers {
        /// The digest user name.
        user: String,
        /// The account.
        account: Account,
    },
    /// A SUBSCRIBE of this account.
    Subscribes {
        /// The account's id.
        account: Arc<str>,
        /// What it asks.
        wish: Wish,
    },
    /// A SUBSCRIBE within the dialog of this subscription.
    Refreshes(SubscriptionId),
}

impl Stack {
    /// Whether a request may come in, and what it has proved. `None`: it was answered.
    pub(super) fn at_the_door(
        &mut self,
        now: Instant,
        hop: Hop,
        request: &mut Request,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) -> Option<Proved> {
        let needs_none = matches!(request.method, Method::Ack | Method::Cancel);
        if needs_none || !crate::transaction::Transactions::note_source(&hop, request) {
            return Some(Proved::Nothing);
        }
        if self.core.transactions.knows(&hop, request) {
            return Some(Proved::Nothing);
        }
        let visitor = Visitor { now, hop: &hop, request, directory };
        let judged = self.judge(visitor, out);
        match judged.and_then(|proved| self.find_room(visitor).map(|()| proved)) {
            Ok(proved) => Some(proved),
            Err(refusal) => {
                self.core.transactions.answer(hop, *refusal, out);
                None
            }
        }
    }

    fn judge(&mut self, visitor: Visitor<'_>, out: &mut Vec<Output>) -> Result<Proved, Box<Response>> {
        let request = visitor.request;
        let reply = |status| visitor.reply(status);
        if request.headers.to_tag().is_some() {
            if let Some(subscription) = self.subscriptions.find(request) {
                return self.may_refresh(subscription, visitor, out);
            }
            let Some((handle, tag)) = self.dialog_of(request) else { return Err(Box::new(reply(481))) };
            return self.may_ask(handle, &Asked { visitor, tag: &tag }, out).map(|()| Proved::Nothing);
        }
        match &request.method {
            Method::Invite => self.caller(visitor, out),
            Method::Register => match refusals::unacceptable(request, reply) {
                Some(refusal) => Err(Box::new(refusal)),
                None => self.digest(visitor, out).map(|(user, account)| Proved::Registers { user, account }),
            },
            Method::Subscribe => self.subscriber(visitor, out),
            Method::Options => {
                // A trunk's connection is its own before its first call.
                drop(self.trunk_at(visitor, out));
                let refusal = refusals::unacceptable(request, reply);
                Err(Box::new(refusal.unwrap_or_else(|| refusals::options(reply))))
            }
            // Requests that only a dialog of ours could mean (RFC 3261 §12.2.2).
            Method::Bye | Method::Update | Method::Prack | Method::Info => Err(Box::new(reply(481))),
            Method::Ack | Method::Cancel => Ok(Proved::Nothing),
            // Whoever wants a call that is not his has to make it himself.
            Method::Refer => Err(Box::new(reply(403))),
            other @ (Method::Message | Method::Notify | Method::Publish | Method::Other(_)) => {
                Err(Box::new(refusals::method(other, reply)))
            }
        }
    }

    /// An INVITE without a dialog. What it asks is looked at before its sender, so that a caller learns at once what we
    /// can't do for anybody.
    fn caller(&mut self, visitor: Visitor<'_>, out: &mut Vec<Output>) -> Result<Proved, Box<Response>> {
        let reply = |status| visitor.reply(status);
        let full = self.sessions.len() >= self.core.config.max_calls;
        let admitted = if full { Err(RETRY_AFTER) } else { visitor.directory.admit() };
        if let Err(seconds) = admitted {
            return Err(Box::new(reply(503).with("Retry-After", seconds.to_string())));
        }
        if let Some(refusal) = refusals::unacceptable(visitor.request, reply) {
            return Err(Box::new(refusal));
        }
        if visitor.request.headers.max_forwards() == 0 {
            return Err(Box::new(reply(483)));
        }
        self.source_of(visitor, out)
    }

    /// Trunks speak for many: they have no share but the whole table.
    fn find_room(&mut self, visitor: Visitor<'_>) -> Result<(), Box<Response>> {
        if self.core.transactions.has_room(visitor.hop) || visitor.directory.trunk(visitor.hop).is_some() {
            return Ok(());
        }
        self.refusals.note(visitor.now, visitor.hop.remote, Reason::NoRoom);
        Err(Box::new(visitor.reply(503).with("Retry-After", RETRY_AFTER.to_string())))
    }
}
