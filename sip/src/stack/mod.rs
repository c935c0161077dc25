//! The whole machine behind the door: bytes and commands in, bytes and events out.

mod access;
mod belonging;
mod commands;
mod door;
mod requests;
mod subscriptions;

use crate::dialog::{Dialog, DialogId, End, Peer};
use crate::invite::context::{Abandoned, AckKey};
use crate::invite::{Core, Cx, InviteSession, NoResponse};
use crate::message::{self, Message, Method, Request, Response};
use crate::port::{
    BindingRecord, Config, Directory, Hop, Input, InviteHandle, MediaEncryption, Output, Source,
};
use crate::registrar::{Limits, Listed, Registrar};
use crate::subscribe::Subscriptions;
use crate::transaction::{ClientId, Settings, Transactions, TuEvent};
use access::Access;
use belonging::{Pace, Refusals};
use door::Proved;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Incoming calls have this bit in their handle; the node's own never have.
const INCOMING: u64 = 1 << 63;

/// Timers of transactions, and as many of calls, that run in one step.
const TIMERS_AT_ONCE: usize = 128;

/// Answers from elsewhere to one INVITE that are acknowledged and ended; a fork that makes more is no fork.
const MAX_FORKS: u8 = 16;

/// How much the stack holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that the node has not ended and that have not ended.
    pub calls: usize,
    /// Transactions in whatever state.
    pub transactions: usize,
    /// About how many bytes the server transactions keep.
    pub transaction_bytes: usize,
    /// Registered contacts.
    pub contacts: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Requests within dialogs that were refused since the start: from elsewhere than the dialog's peer.
    pub refused_elsewhere: u64,
    /// The same: beyond the rate.
    pub refused_too_many: u64,
}

/// The SIP side of a node. Sans-IO: [`Stack::handle`] takes one input and says what follows; [`Stack::next_timeout`]
/// says when it wants to be called without one.
pub struct Stack {
    core: Core,
    sessions: HashMap<InviteHandle, Slot>,
    /// The calls with each account's phones.
    by_account: HashMap<Arc<str>, BTreeSet<InviteHandle>>,
    registrar: Registrar,
    subscriptions: Subscriptions,
    access: Access,
    /// What `Date` says.
    wall: Option<SystemTime>,
    refusals: Refusals,
    next_incoming: u64,
}

impl std::fmt::Debug for Stack {
    /// Counts only: inside are messages with numbers, names and keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({:?})", self.counts())
    }
}

/// A call and what finds it.
struct Slot {
    session: InviteSession,
    /// All dialogs that its INVITEs may have made.
    dialogs: SmallVec<[DialogId; 1]>,
    /// Who is at its other end.
    source: Option<Source>,
    /// Of its requests within dialogs, if it is a trunk's.
    pace: Pace,
}

impl Stack {
    /// A stack without calls and registrations. All its randomness comes from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32]) -> Stack {
        let mut transactions = Transactions::new(Settings::from(&config), seed);
        let access = Access::new(config.realm.clone(), transactions.ids().secret());
        let registrar = Registrar::new(Limits::from(&config), config.listen.as_slice().into());
        let core = Core::new(Arc::new(config), transactions);
        Stack {
            core,
            sessions: HashMap::new(),
            by_account: HashMap::new(),
            registrar,
            subscriptions: Subscriptions::default(),
            access,
            wall: None,
            refusals: Refusals::default(),
            next_incoming: INCOMING,
        }
    }

    /// Other bounds of calls, transactions and registrations, from now on. What is beyond them already stays.
    pub fn set_bounds(
        &mut self,
        max_calls: usize,
        max_transactions: usize,
        max_bytes_per_address: usize,
        max_contacts: usize,
        max_expires: Duration,
    ) {
        let config = Arc::make_mut(&mut self.core.config);
        (config.max_calls, config.max_transactions) = (max_calls, max_transactions);
        (config.max_contacts, config.max_expires) = (max_contacts, max_expires);
        config.max_bytes_per_address = max_bytes_per_address;
        self.registrar.set_limits(Limits::from(&*self.core.config));
        self.core.transactions.set_max(max_transactions, max_bytes_per_address);
    }

    /// The proxies that a phone's Path and a peer's routes and Contacts may name, wherever they come from. All else that a
    /// peer writes leads to the peer's own address, or nowhere.
    pub fn set_proxies(&mut self, proxies: &[IpAddr]) {
        let listed: Listed = proxies.into();
        self.core.listed = Arc::clone(&listed);
        self.registrar.set_listed(listed);
    }

    /// What the wall clock shows: for `Date`, which no answer has before.
    pub fn set_time(&mut self, wall: SystemTime) {
        self.wall = Some(wall);
    }

    /// All bindings that outlive the process, as [`Output::Keep`] would say them.
    #[must_use]
    pub fn bindings(&self) -> Vec<BindingRecord> {
        self.registrar.records()
    }

    /// Another longest session interval, of calls that begin from now on, and another rate of requests within dialogs.
    pub fn set_dialog_limits(&mut self, session_expires: Duration, requests_per_second: u32) {
        let config = Arc::make_mut(&mut self.core.config);
        config.session_expires = session_expires;
        config.max_dialog_requests_per_second = requests_per_second;
    }

    /// Handles one input; what follows is appended to `out` in the order in which it must be carried out.
    pub fn handle(&mut self, now: Instant, input: Input, directory: &dyn Directory, out: &mut Vec<Output>) {
        // Whoever is late with his timers decides nothing by contacts that are over.
        self.registrar.observe(now, out);
        match input {
            Input::Received { hop, bytes } => self.receive(now, hop, &bytes, directory, out),
            Input::Closed(hop) => self.closed(now, hop, directory, out),
            Input::Unreachable(hop) => {
                self.closed(now, hop, directory, out);
                self.registrar.unreachable(&hop, out);
            }
            Input::Undelivered { hop, quoted } => self.undelivered(now, &hop, &quoted, directory, out),
            Input::Command(command) => self.command(now, command, out),
            Input::Timeout => self.timeout(now, directory, out),
        }
        self.tell_released(now, out);
    }

    /// When [`Input::Timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let lists = [
            self.core.next_timeout(),
            self.core.transactions.next_timeout(),
            self.registrar.next_timeout(),
            self.subscriptions.next_timeout(),
            self.refusals.next_timeout(),
        ];
        lists.into_iter().flatten().min()
    }

    /// Whether every call has ended and the peers have acknowledged it. What lingers after that only absorbs repeats.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.sessions.is_empty() && self.core.transactions.awaited() == 0
    }

    /// How much it holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            calls: self.sessions.len(),
            transactions: self.core.transactions.len(),
            transaction_bytes: self.core.transactions.bytes(),
            contacts: self.registrar.len(),
            subscriptions: self.subscriptions.len(),
            refused_elsewhere: self.refusals.elsewhere,
            refused_too_many: self.refusals.too_many,
        }
    }

    /// How many `a=crypto` lines were refused since the start, by what was wrong with them.
    #[must_use]
    pub fn crypto_lines_refused(&self) -> &crate::sdp::LineFaults {
        &self.core.crypto_faults
    }

    /// Whose each way is that leads to a registered contact, and until when.
    pub fn ways(&self) -> impl Iterator<Item = (&Arc<str>, Hop, Instant)> {
        self.registrar.ways()
    }

    /// Whether more contacts were lost at once, with an edge or by their time, than are let go in one step. Until they are
    /// ([`Command::LetGo`]) whoever decides by what an account has brings it up to date first ([`Command::Update`]); the
    /// stack itself does so.
    #[must_use]
    pub fn is_losing(&self) -> bool {
        self.registrar.is_losing()
    }

    /// Whether nothing is left of any call: no call, no dialog, no timer, no transaction. Registrations may be there.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.sessions.is_empty() && self.core.is_quiet() && self.core.transactions.is_empty()
    }

    fn receive(
        &mut self,
        now: Instant,
        hop: Hop,
        bytes: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        match message::read(bytes, hop.transport) {
            Ok(mut message) => {
                self.core.connections.extend(hop.connection);
                let proved = match &mut message {
                    Message::Request(request) => self.at_the_door(now, hop, request, directory, out),
                    Message::Response(response) => {
                        self.may_answer(now, &hop, response, directory).then_some(Proved::Nothing)
                    }
                };
                if let Some(proved) = proved
                    && let Some(event) = self.core.transactions.receive(now, hop, message, out)
                {
                    self.on_event(now, event, proved, directory, out);
                }
                self.refusals.tell(now, out);
            }
            Err(malformed) => self.core.transactions.refuse(hop, malformed, out),
        }
    }

    fn on_event(
        &mut self,
        now: Instant,
        event: TuEvent,
        proved: Proved,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        match event {
            TuEvent::Request { id, hop, request } => {
                self.on_request(now, id, hop, request, proved, directory, out);
            }
            TuEvent::Ack { hop, request } => self.on_ack(now, &hop, &request, directory, out),
            TuEvent::Cancelled { invite, reason } => {
                let cause = reason.as_deref().and_then(crate::invite::values::cause_of);
                if let Some(call) = self.core.servers.get(&invite).copied() {
                    self.with_session(now, call, out, |session, cx| session.on_cancel(cx, cause));
                }
            }
            TuEvent::Response { id, hop, response, challenged } => {
                if self.notify_answered(now, id, &response, directory, out) {
                    return;
                }
                let answered = challenged
                    .is_some_and(|asked| self.answer_challenge(now, id, &response, *asked, directory, out));
                if !answered {
                    self.on_response(now, Some(id), hop, &response, out);
                }
            }
            TuEvent::StrayResponse { hop, response } => self.on_response(now, None, hop, &response, out),
            TuEvent::ClientTimeout(id) => {
                if !self.notify_failed(now, id, directory, out) {
                    self.on_no_response(now, id, NoResponse::TimedOut, out);
                }
            }
            TuEvent::ClientTransportError(id) => {
                if !self.notify_failed(now, id, directory, out) {
                    self.on_no_response(now, id, NoResponse::NotSent, out);
                }
            }
            // The caller has vanished after our refusal; there is nothing to end.
            TuEvent::NoAck(_) => {}
        }
    }

    /// Lets a call handle something; it comes back unless it is over.
    fn with_session(
        &mut self,
        now: Instant,
        handle: InviteHandle,
        out: &mut Vec<Output>,
        step: impl FnOnce(InviteSession, &mut Cx<'_>) -> Option<InviteSession>,
    ) {
        let Some(Slot { session, dialogs, source, pace }) = self.sessions.remove(&handle) else { return };
        let muted = session.is_muted();
        let mut cx = Cx { core: &mut self.core, now, call: handle, out, muted };
        match step(session, &mut cx) {
            Some(session) => {
                self.sessions.insert(handle, Slot { session, dialogs, source, pace });
            }
            None => {
                self.core.forget(handle, &dialogs);
                self.forget_session_of(handle, account_of(source.as_ref()));
            }
        }
    }

    fn add_session(&mut self, handle: InviteHandle, slot: Slot) {
        if let Some(account) = account_of(slot.source.as_ref()) {
            self.by_account.entry(account.into()).or_default().insert(handle);
        }
        self.sessions.insert(handle, slot);
    }

    fn forget_session_of(&mut self, handle: InviteHandle, account: Option<&str>) {
        let Some(account) = account else { return };
        let Some(calls) = self.by_account.get_mut(account) else { return };
        calls.remove(&handle);
        if calls.is_empty() {
            self.by_account.remove(account);
        }
    }

    fn on_ack(
        &mut self,
        now: Instant,
        hop: &Hop,
        ack: &Request,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let Some((handle, tag)) = self.dialog_of(ack) else { return };
        if !self.may_acknowledge(now, handle, hop, ack, &tag, directory) {
            return;
        }
        self.with_session(now, handle, out, |session, cx| session.on_ack(cx, ack));
    }

    /// The call whose dialog a request names, and our tag.
    fn dialog_of(&self, request: &Request) -> Option<(InviteHandle, Arc<str>)> {
        let local_tag: Arc<str> = request.headers.to_tag()?.into();
        let id = DialogId { call_id: request.headers.call_id().into(), local_tag: local_tag.clone() };
        let handle = *self.core.dialogs.get(&id)?;
        let peer_tag = request.headers.from_tag().unwrap_or("");
        self.sessions
            .get(&handle)
            .filter(|slot| slot.session.knows_peer(peer_tag))
            .map(|_| (handle, local_tag))
    }

    fn on_response(
        &mut self,
        now: Instant,
        client: Option<ClientId>,
        hop: Hop,
        response: &Response,
        out: &mut Vec<Output>,
    ) {
        if response.is_success() && self.acknowledges_again(now, response, out) {
            if let Some(client) = client {
                self.core.clients.remove(&client);
            }
            return;
        }
        let Some(client) = client else { return };
        if let Some(abandoned) = self.core.abandoned.get_mut(&client) {
            if response.is_success() {
                let (dialog, late) = (abandoned.unwanted(response, hop), !abandoned.seed.offered);
                let offer = late.then_some(&response.body[..]);
                self.end_unwanted(now, dialog, response, offer, out);
            } else if !response.is_provisional() && abandoned.winner.is_none() {
                self.core.abandoned.remove(&client);
            }
            return;
        }
        let Some(handle) = self.core.clients.get(&client).copied() else { return };
        if !response.is_provisional() {
            self.core.clients.remove(&client);
        }
        self.with_session(now, handle, out, |session, cx| session.on_response(cx, client, response, hop));
    }

    /// Whether a 2xx is a copy, or the answer to a re-INVITE whose call is over: both get their ACK and no more.
    fn acknowledges_again(&mut self, now: Instant, response: &Response, out: &mut Vec<Output>) -> bool {
        let Some(key) = ack_key(response) else { return false };
        if let Some(mut late) = self.core.take_late(&key) {
            let offer: &[u8] = if late.asked { &response.body } else { &[] };
            late.leg.acknowledge_late(&mut self.cx(now, out), key.2, offer);
            return true;
        }
        self.core.acknowledge_again(&key, out)
    }

    /// A dialog that nobody wants: ACK and BYE. The offer of a 2xx is answered with a refusal (RFC 3261 §13.2.2.4).
    fn end_unwanted(
        &mut self,
        now: Instant,
        dialog: Option<Dialog>,
        response: &Response,
        offer: Option<&[u8]>,
        out: &mut Vec<Output>,
    ) {
        let (Some(dialog), Ok(cseq)) = (dialog, response.headers.cseq()) else { return };
        let describer = self.core.describer(dialog.peer_hop(), "".into(), MediaEncryption::None);
        let config = self.core.config.clone();
        let session = crate::invite::SessionTimer::new(config.session_expires, config.min_session_expires);
        let mut leg = crate::invite::Leg::new(dialog, describer, "".into(), session);
        let mut cx = Cx { core: &mut self.core, now, call: InviteHandle(0), out, muted: true };
        let refusal = offer.and_then(|offer| leg.unchanged(offer).ok());
        leg.acknowledge(&mut cx, cseq.number, refusal);
        leg.hang_up(&mut cx, Some(format!("Q.850;cause={}", crate::invite::values::NORMAL_CLEARING)));
    }

    fn on_no_response(&mut self, now: Instant, client: ClientId, why: NoResponse, out: &mut Vec<Output>) {
        if self.core.abandoned.remove(&client).is_some() {
            return;
        }
        if let Some(handle) = self.core.clients.remove(&client) {
            self.with_session(now, handle, out, |session, cx| session.on_no_response(cx, client, why));
        }
    }

    fn closed(&mut self, now: Instant, hop: Hop, directory: &dyn Directory, out: &mut Vec<Output>) {
        if let Some(connection) = hop.connection {
            self.core.connections.remove(&connection);
        }
        let mut events = Vec::new();
        self.core.transactions.closed(hop, out, &mut events);
        for event in events {
            self.on_event(now, event, Proved::Nothing, directory, out);
        }
        if let Some(connection) = hop.connection {
            self.registrar.closed(connection, out);
        }
        self.registrar.hung_up(&hop, out);
    }

    fn undelivered(
        &mut self,
        now: Instant,
        hop: &Hop,
        quoted: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let mut events = Vec::new();
        self.core.transactions.unreachable(hop, quoted, &mut events);
        for event in events {
            self.on_event(now, event, Proved::Nothing, directory, out);
        }
    }

    fn timeout(&mut self, now: Instant, directory: &dyn Directory, out: &mut Vec<Output>) {
        let mut events = Vec::new();
        // The next ones are due at once; others have their turn in between.
        self.core.transactions.timeout(now, TIMERS_AT_ONCE, out, &mut events);
        for event in events {
            self.on_event(now, event, Proved::Nothing, directory, out);
        }
        for _ in 0..TIMERS_AT_ONCE {
            let Some((handle, timer)) = self.core.timers.pop_due(now) else { break };
            self.with_session(now, handle, out, |session, cx| session.on_timer(cx, timer));
        }
        self.core.expire(now);
        self.subscriptions_due(now, directory, out);
        self.refusals.tell(now, out);
    }
}

/// Whose phone is at the other end; none at a trunk's.
fn account_of(source: Option<&Source>) -> Option<&str> {
    match source? {
        Source::Account(account) => Some(account),
        Source::Trunk(_) => None,
    }
}

/// Which 2xx to an INVITE a response is; `None` for other responses.
fn ack_key(response: &Response) -> Option<AckKey> {
    let cseq = response.headers.cseq().ok().filter(|cseq| cseq.method == Method::Invite)?;
    let id = DialogId {
        call_id: response.headers.call_id().into(),
        local_tag: response.headers.from_tag()?.into(),
    };
    Some((id, response.headers.to_tag().unwrap_or("").into(), cseq.number))
}

impl Abandoned {
    /// The dialog that a 2xx makes, unless it is the winner's own 2xx, whose ACK waits for the node.
    fn unwanted(&mut self, response: &Response, hop: Hop) -> Option<Dialog> {
        let to = response.headers.to().ok()?;
        if self.winner.as_deref().is_some_and(|winner| to.tag() == Some(winner)) || self.ended >= MAX_FORKS {
            return None;
        }
        self.ended += 1;
        Some(Dialog::of_caller(&self.seed, End::of(&to), Peer::of(&response.headers), hop))
    }
}
