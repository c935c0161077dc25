//! Transactions: RFC 3261 §17 with RFC 6026, sans-IO.
//!
//! What is repeated is absorbed here, what is unreliable is repeated from here, and each request gets one end: an
//! answer, a timeout or a transport error. Server transactions of INVITEs have no time limit of their own while the TU
//! has not answered; everything else ends by itself within 64·T1.

mod client;
mod ids;
mod key;
mod route;
mod server;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
pub(crate) mod timers;

pub use ids::Ids;

use crate::message::{CSeq, Malformed, Message, Method, Request, Response, Via};
use crate::port::{Config, Hop, Output, Transport};
use client::{Cancel, Client};
use key::{ClientKey, MergeKey, ServerKey};
use server::Server;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use timers::Timers;

/// The longest interval between repetitions (RFC 3261 Table 4).
const T2: Duration = Duration::from_secs(4);
/// How long a message may live in the network.
const T4: Duration = Duration::from_secs(5);
/// Timer D over UDP.
const TIMER_D: Duration = Duration::from_secs(32);
/// Retry-After of a 503 at the limit, seconds.
const RETRY_AFTER: u32 = 5;

/// Names a server transaction for as long as the node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(u64);

/// Names a client transaction for as long as the node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// What the transaction user is told.
#[derive(Debug)]
pub enum TuEvent {
    /// A new request, of whatever method but ACK and CANCEL. Wants one final [`Transactions::respond`].
    Request {
        /// Its transaction.
        id: ServerId,
        /// How it came.
        hop: Hop,
        /// The request; its topmost Via says where it came from.
        request: Request,
    },
    /// The ACK of a 2xx, or one that belongs to nothing.
    Ack {
        /// How it came.
        hop: Hop,
        /// The request.
        request: Request,
    },
    /// A CANCEL, already answered with 200. The INVITE wants its 487.
    Cancelled {
        /// The INVITE's transaction.
        invite: ServerId,
        /// The value of its Reason header.
        reason: Option<String>,
    },
    /// A response to a request of ours. Every 2xx of an INVITE comes, repeated and forked ones too: each wants its ACK.
    Response {
        /// The transaction.
        id: ClientId,
        /// How it came.
        hop: Hop,
        /// The response.
        response: Response,
        /// With a 401 or 407: the request as it was sent, without its Via, for another try with credentials.
        challenged: Option<Box<Challenged>>,
    },
    /// A 2xx to an INVITE of ours whose transaction is over: its dialog must acknowledge it again.
    StrayResponse {
        /// How it came.
        hop: Hop,
        /// The response.
        response: Response,
    },
    /// Nobody answered in time (408), or not even to the CANCEL.
    ClientTimeout(ClientId),
    /// The connection was lost or never came about (503).
    ClientTransportError(ClientId),
    /// Our refusal of an INVITE was never acknowledged.
    NoAck(ServerId),
}

/// A request of ours that the peer wants credentials for.
#[derive(Debug)]
pub struct Challenged {
    /// Where it was sent.
    pub hop: Hop,
    /// What was sent, without its Via.
    pub request: Request,
    /// A challenge with a new nonce in place of a stale one has been answered on its behalf.
    pub renewed: bool,
}

/// What the layer is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// T1 of RFC 3261.
    pub t1: Duration,
    /// Transactions at once. Beyond it a new request outside a dialog gets 503 and Retry-After; one inside a dialog is
    /// taken until a quarter more, so that calls can still end. Requests of our own count but are never refused: calls,
    /// subscriptions and registered contacts bound them.
    pub max: usize,
    /// Bytes of server transactions for one address ([`Transactions::has_room`]).
    pub max_bytes_per_address: usize,
    /// Our addresses, for Via.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// What others are told of them.
    pub advertised: Arc<[crate::port::Advertised]>,
    /// `Server` and `User-Agent`.
    pub product: Arc<str>,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            t1: config.t1,
            max: config.max_transactions,
            max_bytes_per_address: config.max_bytes_per_address,
            listen: config.listen.clone(),
            advertised: Arc::clone(&config.advertised),
            product: Arc::clone(&config.product),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Server(ServerId),
    Client(ClientId),
}

impl Owner {
    fn client(&self) -> Option<ClientId> {
        match self {
            Owner::Server(_) => None,
            Owner::Client(id) => Some(*id),
        }
    }
}

/// All transactions of a node.
pub struct Transactions {
    settings: Settings,
    ids: Ids,
    next_id: u64,
    servers: HashMap<ServerId, Server>,
    server_keys: HashMap<ServerKey, ServerId>,
    merge_keys: HashMap<MergeKey, ServerId>,
    clients: HashMap<ClientId, Client>,
    client_keys: HashMap<ClientKey, ClientId>,
    /// Who waits on which peer; ordered, so that a lost connection ends its transactions in the order they began.
    by_peer: BTreeMap<(Transport, SocketAddr), BTreeSet<Owner>>,
    /// What the server transactions of an address keep, bytes.
    held: HashMap<IpAddr, usize>,
    timers: Timers<Owner>,
    /// Keeps To tags of stateless answers unguessable and the same for a repeated request.
    stateless: std::hash::BuildHasherDefault<std::hash::DefaultHasher>,
    stateless_key: [u8; 32],
}

impl std::fmt::Debug for Transactions {
    /// Neither the key nor messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transactions({} servers, {} clients)", self.servers.len(), self.clients.len())
    }
}

impl Transactions {
    /// An empty table. `seed` is the source of all tags, branches and Call-IDs.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let mut ids = Ids::new(seed);
        let stateless_key = ids.secret();
        Self {
            settings,
            ids,
            next_id: 0,
            servers: HashMap::new(),
            server_keys: HashMap::new(),
            merge_keys: HashMap::new(),
            clients: HashMap::new(),
            client_keys: HashMap::new(),
            by_peer: BTreeMap::new(),
            held: HashMap::new(),
            timers: Timers::default(),
            stateless: std::hash::BuildHasherDefault::default(),
            stateless_key,
        }
    }

    /// Other bounds, from now on.
    pub fn set_max(&mut self, max: usize, max_bytes_per_address: usize) {
        (self.settings.max, self.settings.max_bytes_per_address) = (max, max_bytes_per_address);
    }

    /// Notes in a request where it came from, as [`Transactions::receive`] does; false without a Via to note it in.
    pub fn note_source(hop: &Hop, request: &mut Request) -> bool {
        route::note_source(request, hop).is_some()
    }

    /// Whether a request whose source was noted is a repetition of one that has its transaction.
    #[must_use]
    pub fn knows(&self, hop: &Hop, request: &Request) -> bool {
        let (Ok(via), Ok(cseq)) = (request.headers.top_via(), request.headers.cseq()) else { return false };
        self.server_keys.contains_key(&ServerKey::of(request, &via, &cseq, hop))
    }

    /// Whether one more server transaction of the address behind this hop keeps within its bytes.
    #[must_use]
    pub fn has_room(&self, hop: &Hop) -> bool {
        self.held.get(&hop.remote.ip()).is_none_or(|held| *held < self.settings.max_bytes_per_address)
    }

    /// What the server transactions of all addresses keep, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.held.values().sum() // any order: a sum
    }

    /// The maker of tags and Call-IDs.
    pub fn ids(&mut self) -> &mut Ids {
        &mut self.ids
    }

    /// A message has come. Repetitions and ACKs of refusals end here.
    pub fn receive(
        &mut self,
        now: Instant,
        hop: Hop,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Option<TuEvent> {
        match message {
            Message::Request(request) => self.receive_request(now, hop, request, out),
            Message::Response(response) => self.receive_response(now, hop, response, out),
        }
    }

    /// Answers what the screen refused.
    pub fn refuse(&mut self, hop: Hop, malformed: Malformed, out: &mut Vec<Output>) {
        if let Malformed::Answer(response) = malformed {
            self.answer_stateless(hop, *response, out);
        }
    }

    /// Answers without a transaction: nothing is kept, nothing is repeated, and each repetition of the request gets an
    /// answer with the same To tag again (RFC 3261 §8.2.7).
    pub fn answer(&mut self, hop: Hop, response: Response, out: &mut Vec<Output>) {
        self.answer_stateless(hop, response, out);
    }

    /// Answers a request without a transaction: each repetition gets the same answer again.
    pub fn respond_stateless(&mut self, hop: Hop, request: &Request, status: u16, out: &mut Vec<Output>) {
        self.answer_stateless(hop, Response::to(request, status, None), out);
    }

    /// Sends a request of ours. It comes without Via; Via, and Max-Forwards and User-Agent where absent, are added.
    pub fn request(
        &mut self,
        now: Instant,
        hop: Hop,
        mut request: Request,
        out: &mut Vec<Output>,
    ) -> ClientId {
        let branch = self.ids.branch();
        let bytes: Arc<[u8]> = self.dress(&hop, &mut request, &branch).into();
        let key = ClientKey { branch: branch.into(), method: request.method.clone() };
        self.start_client(now, hop, key, request, bytes, out)
    }

    /// Notes that this request answers a challenge with a new nonce in place of a stale one; see [`Challenged`].
    pub fn set_renewed(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.renewed = true;
        }
    }

    /// Answers a request. Several provisional answers, then a final one; a 2xx to an INVITE may be given again and is
    /// sent again. An answer that comes after the final one, or after the transaction's end, is dropped.
    pub fn respond(&mut self, now: Instant, id: ServerId, mut response: Response, out: &mut Vec<Output>) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if response.status != 100 && response.headers.get("Server").is_none() {
            response.headers.push("Server", &*self.settings.product);
        }
        let bytes: Arc<[u8]> = response.write().into();
        let Some(step) = server.answered(now, response.status, &bytes, &self.settings) else { return };
        let (address, before) = (server.hop.remote.ip(), server.weight);
        server.weigh();
        let after = server.weight;
        // Refused is no longer ongoing: a proxy may try the same request by another way.
        if response.status >= 300
            && let Some(merge) = server.merge.take()
        {
            self.merge_keys.remove(&merge);
        }
        if server.tag.is_none() {
            server.tag = response.headers.to_tag().map(Into::into);
        }
        send(server.hop, &bytes, out);
        self.hold(address, before, after);
        self.after_server(id, step, out);
    }

    /// Says 100 to an INVITE.
    pub fn trying(&mut self, now: Instant, id: ServerId, request: &Request, out: &mut Vec<Output>) {
        self.respond(now, id, Response::to(request, 100, None), out);
    }

    /// Cancels an INVITE of ours, as soon as a provisional response is there. `reason` becomes the Reason header.
    /// Nothing happens once it has a final answer; the INVITE's own end is told in any case.
    pub fn cancel(&mut self, now: Instant, id: ClientId, reason: Option<String>, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match (&client.state, &client.cancel) {
            (client::State::Waiting { .. }, Cancel::No) => client.cancel = Cancel::Wanted { reason },
            (client::State::InviteProceeding, Cancel::No) => self.send_cancel(now, id, reason, out),
            (
                client::State::Waiting { .. }
                | client::State::InviteProceeding
                | client::State::Proceeding { .. }
                | client::State::InviteAccepted { .. }
                | client::State::InviteCompleted { .. }
                | client::State::Completed { .. },
                Cancel::No | Cancel::Wanted { .. } | Cancel::Sent { .. },
            ) => {}
        }
    }

    /// Sends a request that has no transaction: the ACK of a 2xx. Gives what was sent, to send it again for each
    /// repetition of the 2xx (RFC 3261 §13.2.2.4).
    pub fn send_stateless(&mut self, hop: Hop, mut request: Request, out: &mut Vec<Output>) -> Vec<u8> {
        let branch = self.ids.branch();
        let bytes = self.dress(&hop, &mut request, &branch);
        out.push(Output::Send { hop, bytes: bytes.clone() });
        bytes
    }

    /// A connection has ended or could not be made: its client transactions end with an error, its server transactions
    /// will answer on a new one. A request to an address that went by an open connection may never have arrived: without
    /// any response it is sent once more, by a new connection; if it did arrive, its branch says that it is the same.
    pub fn closed(&mut self, hop: Hop, out: &mut Vec<Output>, events: &mut Vec<TuEvent>) {
        let Some(owners) = self.by_peer.get(&(hop.transport, hop.remote)) else { return };
        for owner in owners.clone() {
            match owner {
                Owner::Client(id) => {
                    let Some(client) = self.clients.get_mut(&id) else { continue };
                    if client.hop.connection.is_some() && client.hop.connection != hop.connection {
                        continue;
                    }
                    if hop.connection.is_some() && client.may_be_sent_anew() {
                        client.sent_anew = true;
                        out.push(Output::Send { hop: client.hop, bytes: client.bytes.to_vec() });
                        continue;
                    }
                    let awaited = client.is_awaited();
                    self.end_client(id);
                    events.extend(awaited.then_some(TuEvent::ClientTransportError(id)));
                }
                Owner::Server(id) => self.reroute(id, &hop),
            }
        }
    }

    /// A datagram to this peer did not arrive: our requests there that nobody has answered yet fail, or that one whose
    /// branch is quoted. What has had any response is known to have arrived; and a quoted branch that is none of ours, of a
    /// response for instance, concerns nobody.
    pub fn unreachable(&mut self, hop: &Hop, quoted: &[u8], events: &mut Vec<TuEvent>) {
        let Some(owners) = self.by_peer.get(&peer(hop)) else { return };
        // A dead trunk may have a hundred thousand transactions, and answer each datagram so.
        let meant: Vec<ClientId> = match route::quoted_branch(quoted) {
            Some(branch) => self
                .client_of(branch, quoted)
                .filter(|id| owners.contains(&Owner::Client(*id)))
                .into_iter()
                .collect(),
            None => owners.range(Owner::Client(ClientId(0))..).filter_map(Owner::client).collect(),
        };
        for id in meant {
            let Some(client) = self.clients.get(&id) else { continue };
            if matches!(client.state, client::State::Waiting { .. }) {
                let awaited = client.is_awaited();
                self.end_client(id);
                events.extend(awaited.then_some(TuEvent::ClientTransportError(id)));
            }
        }
    }

    /// The transaction of a request of ours, by its branch and the beginning of its first line.
    fn client_of(&self, branch: &[u8], quoted: &[u8]) -> Option<ClientId> {
        let method =
            quoted.split(|byte| *byte == b' ').next().and_then(|word| std::str::from_utf8(word).ok())?;
        let key =
            ClientKey { branch: std::str::from_utf8(branch).ok()?.into(), method: Method::read(method)? };
        self.client_keys.get(&key).copied()
    }

    /// A time has come: so many of the timers run that are due.
    pub fn timeout(&mut self, now: Instant, most: usize, out: &mut Vec<Output>, events: &mut Vec<TuEvent>) {
        for _ in 0..most {
            let Some(owner) = self.timers.pop(now) else { return };
            match owner {
                Owner::Server(id) => {
                    let Some(server) = self.servers.get_mut(&id) else { continue };
                    server.due = None;
                    let step = server.timeout(now);
                    let unacknowledged = step == server::Step::EndWithoutAck;
                    self.after_server(id, step, out);
                    events.extend(unacknowledged.then_some(TuEvent::NoAck(id)));
                }
                Owner::Client(id) => {
                    let Some(client) = self.clients.get_mut(&id) else { continue };
                    client.due = None;
                    let awaited = !client.internal;
                    let step = client.timeout(now);
                    let gave_up = step == client::Step::GiveUp;
                    match step {
                        client::Step::Send(bytes) => send(client.hop, &bytes, out),
                        client::Step::GiveUp | client::Step::End => self.end_client(id),
                        client::Step::Stay
                        | client::Step::Pass
                        | client::Step::PassAndCancel { .. }
                        | client::Step::AcknowledgeAndPass { .. }
                        | client::Step::PassAndEnd => {}
                    }
                    self.time_client(id);
                    events.extend((gave_up && awaited).then_some(TuEvent::ClientTimeout(id)));
                }
            }
        }
    }

    /// When [`Transactions::timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// How many of our own requests still wait for their final response.
    #[must_use]
    pub fn awaited(&self) -> usize {
        // Any order: a number.
        self.clients.values().filter(|client| client.is_awaited()).count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn receive_request(
        &mut self,
        now: Instant,
        hop: Hop,
        mut request: Request,
        out: &mut Vec<Output>,
    ) -> Option<TuEvent> {
        // The screen has seen both; a message that came another way is not ours to answer.
        let via = route::note_source(&mut request, &hop)?;
        let cseq = request.headers.cseq().ok()?;
        let key = ServerKey::of(&request, &via, &cseq, &hop);
        let known = self.server_keys.get(&key).copied();
        match (&request.method, known) {
            (Method::Ack, known) => self.receive_ack(now, hop, request, known),
            (Method::Cancel, _) => self.receive_cancel(hop, &request, &key, out),
            (_, Some(id)) => {
                let step = self.servers.get(&id).map(Server::repeated)?;
                self.after_server(id, step, out);
                None
            }
            (_, None) => self.new_server(now, hop, request, via, &cseq, key, out),
        }
    }

    fn receive_ack(
        &mut self,
        now: Instant,
        hop: Hop,
        request: Request,
        known: Option<ServerId>,
    ) -> Option<TuEvent> {
        let Some(id) = known else { return Some(TuEvent::Ack { hop, request }) };
        match self.servers.get_mut(&id)?.acknowledged(now) {
            server::Step::PassAck => Some(TuEvent::Ack { hop, request }),
            server::Step::End => {
                self.end_server(id);
                None
            }
            server::Step::Stay | server::Step::Send(_) | server::Step::EndWithoutAck => {
                self.time_server(id);
                None
            }
        }
    }

    /// A CANCEL needs no transaction of its own: the answer is the same each time, and the TU hears of the first.
    fn receive_cancel(
        &mut self,
        hop: Hop,
        request: &Request,
        key: &ServerKey,
        out: &mut Vec<Output>,
    ) -> Option<TuEvent> {
        let invite = self.server_keys.get(&key.cancelled()).copied();
        let Some((id, server)) = invite.and_then(|id| Some((id, self.servers.get_mut(&id)?))) else {
            self.respond_stateless(hop, request, 481, out);
            return None;
        };
        let tag = server.tag.clone();
        let first = matches!(server.state, server::State::InviteProceeding { .. }) && !server.cancelled;
        server.cancelled = true;
        self.answer_stateless(hop, Response::to(request, 200, tag.as_deref()), out);
        let reason = request.headers.get("Reason").map(str::to_owned);
        first.then_some(TuEvent::Cancelled { invite: id, reason })
    }

    #[allow(clippy::too_many_arguments)]
    fn new_server(
        &mut self,
        now: Instant,
        hop: Hop,
        request: Request,
        via: Via,
        cseq: &CSeq,
        key: ServerKey,
        out: &mut Vec<Output>,
    ) -> Option<TuEvent> {
        let in_dialog = request.headers.to_tag().is_some();
        let limit = if in_dialog { self.settings.max + self.settings.max / 4 } else { self.settings.max };
        if self.len() >= limit {
            let busy = Response::to(&request, 503, None).with("Retry-After", RETRY_AFTER.to_string());
            self.answer_stateless(hop, busy, out);
            return None;
        }
        let merge = MergeKey::of(&request, cseq);
        if merge.as_ref().is_some_and(|merge| self.merge_keys.contains_key(merge)) {
            self.respond_stateless(hop, &request, 482, out);
            return None;
        }
        let id = ServerId(self.fresh_id());
        let state = if request.method == Method::Invite {
            server::State::InviteProceeding { last: None }
        } else {
            server::State::Trying { last: None, give_up: now + self.settings.t1 * 64 }
        };
        let response_hop = route::response_hop(&via, &hop);
        self.by_peer.entry(peer(&response_hop)).or_default().insert(Owner::Server(id));
        self.server_keys.insert(key.clone(), id);
        if let Some(merge) = &merge {
            self.merge_keys.insert(merge.clone(), id);
        }
        let (tag, cancelled, weight, due) = (None, false, 0, None);
        let mut server = Server { key, merge, via, hop: response_hop, tag, cancelled, state, weight, due };
        server.weigh();
        self.hold(response_hop.remote.ip(), 0, server.weight);
        self.servers.insert(id, server);
        self.time_server(id);
        Some(TuEvent::Request { id, hop, request })
    }

    /// Where the request went that a response names; `None`: it is an answer to nothing that waits.
    #[must_use]
    pub fn asked(&self, response: &Response) -> Option<&Hop> {
        let (via, cseq) = (response.headers.top_via().ok()?, response.headers.cseq().ok()?);
        let key = ClientKey { branch: via.branch().into(), method: cseq.method };
        self.client_keys.get(&key).and_then(|id| self.clients.get(id)).map(|client| &client.hop)
    }

    fn receive_response(
        &mut self,
        now: Instant,
        hop: Hop,
        response: Response,
        out: &mut Vec<Output>,
    ) -> Option<TuEvent> {
        let via = response.headers.top_via().ok()?;
        let cseq = response.headers.cseq().ok()?;
        if !route::is_own(&self.settings, &hop, &via) || response.headers.elements("Via").nth(1).is_some() {
            return None;
        }
        let key = ClientKey { branch: via.branch().into(), method: cseq.method };
        let Some(id) = self.client_keys.get(&key).copied() else {
            let stray = key.method == Method::Invite && response.is_success();
            return stray.then_some(TuEvent::StrayResponse { hop, response });
        };
        let client = self.clients.get_mut(&id)?;
        let internal = client.internal;
        let challenged = challenged_by(&response, client);
        let step = if key.method == Method::Invite {
            client.invite_response(now, response.status, &self.settings)
        } else {
            client.response(now, response.status)
        };
        let pass = self.after_response(now, id, step, &response, out);
        (pass && !internal).then_some(TuEvent::Response { id, hop, response, challenged })
    }

    /// Does what a response led to; whether the TU shall see it.
    fn after_response(
        &mut self,
        now: Instant,
        id: ClientId,
        step: client::Step,
        response: &Response,
        out: &mut Vec<Output>,
    ) -> bool {
        let pass = match step {
            client::Step::Pass => true,
            client::Step::Stay | client::Step::GiveUp | client::Step::End => false,
            client::Step::Send(bytes) => {
                self.clients.get(&id).iter().for_each(|client| send(client.hop, &bytes, out));
                false
            }
            client::Step::PassAndCancel { reason } => {
                self.send_cancel(now, id, reason, out);
                true
            }
            client::Step::AcknowledgeAndPass { end } => {
                if let Some(client) = self.clients.get_mut(&id) {
                    let ack: Arc<[u8]> = client.ack(response).write().into();
                    send(client.hop, &ack, out);
                    client.state = client::State::InviteCompleted { ack, until: now + TIMER_D };
                }
                if end {
                    self.end_client(id);
                }
                true
            }
            client::Step::PassAndEnd => {
                self.end_client(id);
                true
            }
        };
        self.time_client(id);
        pass
    }

    fn send_cancel(&mut self, now: Instant, id: ClientId, reason: Option<String>, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.cancel = Cancel::Sent { give_up: now + self.settings.t1 * 64 };
        let mut cancel = client.companion(Method::Cancel);
        cancel.headers.copy("To", &client.request.headers);
        if let Some(reason) = reason {
            cancel.headers.push("Reason", reason);
        }
        let hop = client.hop;
        let key = ClientKey { branch: client.key.branch.clone(), method: Method::Cancel };
        let bytes = cancel.write().into();
        self.start_client(now, hop, key, cancel, bytes, out);
        self.time_client(id);
    }

    fn start_client(
        &mut self,
        now: Instant,
        hop: Hop,
        key: ClientKey,
        mut request: Request,
        bytes: Arc<[u8]>,
        out: &mut Vec<Output>,
    ) -> ClientId {
        let id = ClientId(self.fresh_id());
        send(hop, &bytes, out);
        request.body = Vec::new();
        self.by_peer.entry(peer(&hop)).or_default().insert(Owner::Client(id));
        self.client_keys.insert(key.clone(), id);
        // A CANCEL is the layer's own: what is answered to it is nobody's concern.
        let internal = key.method == Method::Cancel;
        let state = Client::waiting(now, &hop, &self.settings);
        let request = Box::new(request);
        let client = Client {
            key,
            hop,
            request,
            bytes,
            cancel: Cancel::No,
            internal,
            renewed: false,
            sent_anew: false,
            state,
            due: None,
        };
        self.clients.insert(id, client);
        self.time_client(id);
        id
    }

    /// Adds what every request of ours has; the bytes.
    fn dress(&self, hop: &Hop, request: &mut Request, branch: &str) -> Vec<u8> {
        request.headers.push_front("Via", route::own_via(&self.settings, hop, branch).to_string());
        if request.headers.get("Max-Forwards").is_none() {
            request.headers.push("Max-Forwards", "70");
        }
        if request.headers.get("User-Agent").is_none() && request.method != Method::Ack {
            request.headers.push("User-Agent", &*self.settings.product);
        }
        request.write()
    }

    fn answer_stateless(&mut self, hop: Hop, mut response: Response, out: &mut Vec<Output>) {
        let Ok(mut via) = response.headers.top_via() else { return };
        // What the screen refused has not had its source noted.
        if via.rport() == Some(None) {
            via.params.set("rport", Some(&hop.remote.port().to_string()));
            via.params.set("received", Some(&hop.remote.ip().to_string()));
            response.headers.set_top_via(&via);
        }
        let tag = self.stateless_tag(&response);
        response.headers.tag_to(&tag);
        response.headers.push("Server", &*self.settings.product);
        out.push(Output::Send { hop: route::response_hop(&via, &hop), bytes: response.write() });
    }

    /// The same tag for the same request (RFC 3261 §8.2.7).
    fn stateless_tag(&self, response: &Response) -> String {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = self.stateless.build_hasher();
        self.stateless_key.hash(&mut hasher);
        response.headers.get("Via").hash(&mut hasher);
        response.headers.call_id().hash(&mut hasher);
        response.headers.get("CSeq").hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn after_server(&mut self, id: ServerId, step: server::Step, out: &mut Vec<Output>) {
        match step {
            server::Step::Send(bytes) => {
                self.servers.get(&id).iter().for_each(|server| send(server.hop, &bytes, out));
                self.time_server(id);
            }
            server::Step::End | server::Step::EndWithoutAck => self.end_server(id),
            server::Step::Stay | server::Step::PassAck => self.time_server(id),
        }
    }

    /// A server transaction whose connection is lost answers at the port that its client listens on.
    fn reroute(&mut self, id: ServerId, lost: &Hop) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if server.hop.connection.is_none() || server.hop.connection != lost.connection {
            return;
        }
        let old = peer(&server.hop);
        server.hop = route::response_hop_without_connection(&server.via, &server.hop);
        let new = peer(&server.hop);
        self.leave_peer(old, Owner::Server(id));
        self.by_peer.entry(new).or_default().insert(Owner::Server(id));
    }

    fn end_server(&mut self, id: ServerId) {
        let Some(server) = self.servers.remove(&id) else { return };
        self.timers.set(Owner::Server(id), server.due, None);
        self.server_keys.remove(&server.key);
        if let Some(merge) = &server.merge {
            self.merge_keys.remove(merge);
        }
        self.leave_peer(peer(&server.hop), Owner::Server(id));
        self.hold(server.hop.remote.ip(), server.weight, 0);
    }

    /// An address' server transactions keep so many bytes instead of so many.
    fn hold(&mut self, address: IpAddr, before: usize, after: usize) {
        let held = self.held.entry(address).or_default();
        *held = held.saturating_sub(before) + after;
        if *held == 0 {
            self.held.remove(&address);
        }
    }

    fn end_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.timers.set(Owner::Client(id), client.due, None);
        self.client_keys.remove(&client.key);
        self.leave_peer(peer(&client.hop), Owner::Client(id));
    }

    fn leave_peer(&mut self, peer: (Transport, SocketAddr), owner: Owner) {
        if let Some(owners) = self.by_peer.get_mut(&peer) {
            owners.remove(&owner);
            if owners.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
    }

    fn time_server(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get_mut(&id) {
            let due = server.state.due();
            self.timers.set(Owner::Server(id), server.due, due);
            server.due = due;
        }
    }

    fn time_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            let due = client.wants();
            self.timers.set(Owner::Client(id), client.due, due);
            client.due = due;
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// The bytes are read back, since the table keeps no body: challenges are rare.
fn challenged_by(response: &Response, client: &Client) -> Option<Box<Challenged>> {
    if !matches!(response.status, 401 | 407) {
        return None;
    }
    match crate::message::read(&client.bytes, client.hop.transport) {
        Ok(Message::Request(mut request)) => {
            request.headers.pop_via();
            Some(Box::new(Challenged { hop: client.hop, request, renewed: client.renewed }))
        }
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

fn peer(hop: &Hop) -> (Transport, SocketAddr) {
    (hop.transport, hop.remote)
}

fn send(hop: Hop, bytes: &[u8], out: &mut Vec<Output>) {
    out.push(Output::Send { hop, bytes: bytes.to_vec() });
}
