//! Requests within dialogs, and responses: whose they are, and how many requests are taken.
//!
//! Who has seen the tags of a dialog can write its requests, but it comes from elsewhere. A request must come by the
//! connection or from the address of its dialog, of a trunk from one of its addresses, of a phone from where it is registered
//! now; or it answers a digest challenge as the account that the dialog belongs to. Everybody else learns no more than of a
//! dialog that there is not (481).

use super::door::Visitor;
use super::{Slot, Stack};
use crate::dialog::Dialog;
use crate::message::{Method, Request, Response};
use crate::port::{Directory, Hop, InviteHandle, Output, Refused, Source, Transport};
use crate::registrar::{is_listed, same_host};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Retry-After of a request beyond the rate, seconds.
const RETRY_AFTER: u32 = 1;
/// Refusals are told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Accounts whose pace is remembered before those who were quiet are forgotten.
const MANY_ACCOUNTS: usize = 1024;

/// When the next request of somebody would be due at an even pace; a burst of one second's requests may come before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace(Option<Instant>);

impl Pace {
    /// Whether one more may come now.
    fn take(&mut self, now: Instant, per_second: u32) -> bool {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let due = self.0.map_or(now, |due| due.max(now));
        if due + interval > now + Duration::from_secs(1) {
            return false;
        }
        self.0 = Some(due + interval);
        true
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.0.is_none_or(|due| due <= now)
    }
}

/// What was refused, and what of it is still to be told.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    paces: HashMap<Arc<str>, Pace>,
    untold: Option<Refused>,
    tell_at: Option<Instant>,
    /// From elsewhere than the dialog's peer, since the start.
    pub elsewhere: u64,
    /// Beyond the rate, since the start.
    pub too_many: u64,
}

/// Why a request is refused.
pub(super) enum Reason {
    /// It comes from elsewhere than its dialog's peer.
    Elsewhere,
    /// There are more than the pace of the call's other end allows.
    TooMany(Option<Source>),
    /// Its address has as much kept as it may.
    NoRoom,
}

impl Refusals {
    pub fn note(&mut self, now: Instant, from: SocketAddr, why: Reason) {
        let none = Refused { elsewhere: 0, too_many: 0, whose: None, no_room: 0, from };
        let untold = self.untold.get_or_insert(none);
        untold.from = from;
        match why {
            Reason::Elsewhere => {
                (self.elsewhere, untold.elsewhere) = (self.elsewhere + 1, untold.elsewhere + 1)
            }
            Reason::TooMany(whose) => {
                untold.whose = whose;
                (self.too_many, untold.too_many) = (self.too_many + 1, untold.too_many + 1);
            }
            Reason::NoRoom => untold.no_room += 1,
        }
        self.tell_at.get_or_insert(now);
    }

    /// Whether one more request within dialogs of this account may come now.
    pub fn keeps_its_pace(&mut self, now: Instant, account: &Arc<str>, per_second: u32) -> bool {
        if self.paces.len() >= MANY_ACCOUNTS {
            self.paces.retain(|_, pace| !pace.is_quiet(now));
        }
        self.paces.entry(account.clone()).or_default().take(now, per_second)
    }

    /// When [`Refusals::tell`] has something to say.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.tell_at
    }

    /// Says what was refused since the last time, once a second.
    pub fn tell(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.tell_at.is_none_or(|at| now < at) {
            return;
        }
        // A second without any ends the telling.
        self.tell_at = self.untold.as_ref().map(|_| now + TELL_EVERY);
        out.extend(self.untold.take().map(Output::Refused));
    }
}

/// A request that names a dialog.
pub(super) struct Asked<'a> {
    pub visitor: Visitor<'a>,
    /// Our tag of the dialog.
    pub tag: &'a str,
}

impl Stack {
    /// Whether a request that names this dialog may be taken; if not, its answer, for sending without a transaction.
    pub(super) fn may_ask(
        &mut self,
        handle: InviteHandle,
        asked: &Asked<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Box<Response>> {
        let Visitor { now, hop, request, directory } = asked.visitor;
        // A call of ours that is not answered yet has the dialogs that its responses made, and no other.
        if self.dialog_with(handle, request, asked.tag).is_none() {
            return Err(Box::new(asked.visitor.reply(481)));
        }
        if !self.comes_from_its_peer(handle, hop, request, asked.tag, directory)
            && let Err(refusal) = self.proves_itself(handle, asked, out)
        {
            self.refusals.note(now, hop.remote, Reason::Elsewhere);
            return Err(refusal);
        }
        // Whoever wants to end it may, always.
        if request.method == Method::Bye || self.keeps_its_pace(now, handle) {
            return Ok(());
        }
        let whose = self.sessions.get(&handle).and_then(|slot| slot.source.clone());
        self.refusals.note(now, hop.remote, Reason::TooMany(whose));
        Err(Box::new(asked.visitor.reply(503).with("Retry-After", RETRY_AFTER.to_string())))
    }

    /// Whether an ACK is its dialog's. It can't be challenged, so it is dropped otherwise, and told if it would have been
    /// taken: that of a refusal has no transaction to end in, for the refusal had none, and the refused INVITE was told.
    pub(super) fn may_acknowledge(
        &mut self,
        now: Instant,
        handle: InviteHandle,
        hop: &Hop,
        ack: &Request,
        tag: &str,
        directory: &dyn Directory,
    ) -> bool {
        let its = self.comes_from_its_peer(handle, hop, ack, tag, directory);
        if !its && self.sessions.get(&handle).is_some_and(|slot| slot.session.awaits(ack)) {
            self.refusals.note(now, hop.remote, Reason::Elsewhere);
        }
        its
    }

    /// Whether a response comes from where its request went: from that host, from another address of the same trunk, or
    /// from a listed proxy. Whoever has seen the request could answer it, but from elsewhere: such an answer is dropped.
    pub(super) fn may_answer(
        &mut self,
        now: Instant,
        hop: &Hop,
        response: &Response,
        directory: &dyn Directory,
    ) -> bool {
        // What answers nothing is the transactions' matter.
        let Some(asked) = self.core.transactions.asked(response) else { return true };
        let trunk = |hop: &Hop| directory.trunk(hop).map(|trunk| trunk.name);
        let its = same_host(asked.remote.ip(), hop.remote.ip())
            || is_listed(&self.core.listed, hop.remote.ip())
            || trunk(asked).is_some_and(|name| trunk(hop) == Some(name));
        if !its {
            self.refusals.note(now, hop.remote, Reason::Elsewhere);
        }
        its
    }

    /// The dialog of this session that a request from its peer names.
    fn dialog_with(&self, handle: InviteHandle, request: &Request, tag: &str) -> Option<(&Slot, &Dialog)> {
        let slot = self.sessions.get(&handle)?;
        let peer_tag = request.headers.from_tag().unwrap_or("");
        Some((slot, slot.session.dialog_with(request.headers.call_id(), tag, peer_tag)?))
    }

    fn comes_from_its_peer(
        &self,
        handle: InviteHandle,
        hop: &Hop,
        request: &Request,
        tag: &str,
        directory: &dyn Directory,
    ) -> bool {
        let Some((slot, dialog)) = self.dialog_with(handle, request, tag) else { return false };
        let next = dialog.next_hop(&self.core.listed);
        if [dialog.peer_hop(), dialog.source(), &next].into_iter().any(|way| is_same_way(way, hop)) {
            return true;
        }
        match &slot.source {
            Some(Source::Trunk(name)) => directory.trunk(hop).is_some_and(|trunk| trunk.name == *name),
            Some(Source::Account(id)) => self.registrar.is_registered_from(id, hop),
            None => false,
        }
    }

    fn proves_itself(
        &mut self,
        handle: InviteHandle,
        asked: &Asked<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Box<Response>> {
        let no_dialog = || Box::new(asked.visitor.reply(481));
        let owner = self.sessions.get(&handle).and_then(|slot| slot.source.clone()).ok_or_else(no_dialog)?;
        let (id, has_password) = match &owner {
            Source::Account(id) => (id, true),
            Source::Trunk(id) => (id, false),
        };
        // A trunk that is known by its address has nothing to answer with.
        if !has_password && !asked.visitor.directory.has_digest(id) {
            return Err(no_dialog());
        }
        let (_, account) = self.digest(asked.visitor, out)?;
        if account.id == *id { Ok(()) } else { Err(no_dialog()) }
    }

    /// A phone has one pace for all its calls, a trunk one for each.
    fn keeps_its_pace(&mut self, now: Instant, handle: InviteHandle) -> bool {
        let per_second = self.core.config.max_dialog_requests_per_second;
        let Some(slot) = self.sessions.get_mut(&handle) else { return true };
        match &slot.source {
            Some(Source::Account(id)) => self.refusals.keeps_its_pace(now, id, per_second),
            Some(Source::Trunk(_)) | None => slot.pace.take(now, per_second),
        }
    }
}

/// The same connection, or the same address.
pub(super) fn is_same_way(known: &Hop, came: &Hop) -> bool {
    let address = |hop: &Hop| (hop.remote.ip().to_canonical(), hop.remote.port());
    let connected = came.transport != Transport::Udp && known.connection.is_some();
    known.transport == came.transport
        && ((connected && known.connection == came.connection) || address(known) == address(came))
}
