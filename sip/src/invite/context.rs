//! What an INVITE session works with while it handles one input: the time, the transactions below it, its timers, and the
//! node above it.

use super::leg::Leg;
use super::parties::{self, Side};
use crate::dialog::{Dialog, DialogId, Reach, Seed};
use crate::message::{Headers, Method, Request, Response, Uri};
use crate::own;
use crate::port::{
    Config, ConnectionId, Event, Hop, Identity, InviteHandle, MediaEncryption, Output, SecureMediaRefusal,
    Transport,
};
use crate::registrar::Listed;
use crate::sdp::{self, Describer, Keys, LineFaults, MediaPolicy, SdpError};
use crate::transaction::{ClientId, ServerId, Transactions};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that came, and where its responses go.
#[derive(Clone)]
pub(crate) struct Server {
    pub id: ServerId,
    pub hop: Hop,
    pub request: Arc<Request>,
    /// Our tag.
    pub tag: Arc<str>,
}

impl Server {
    /// A response to it.
    pub fn reply(&self, status: u16) -> Response {
        Response::to(&self.request, status, Some(&self.tag))
    }
}

/// The timers of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// Our 2xx goes again.
    AckRetransmit,
    /// No ACK came.
    AckTimeout,
    /// Our reliable provisional goes again.
    ReliableRetransmit,
    /// No PRACK came.
    ReliableTimeout,
    /// Our offer goes again after a 491.
    Retry,
    /// The session wants to be renewed by us.
    Refresh,
    /// Nobody renewed the session.
    Expiry,
    /// Somebody who said that it rings has not been heard again (Timer C of RFC 3261 §16.6).
    NoAnswer,
    /// A phone that may have started again has not said whether it knows the call.
    Asked,
    /// The caller's invitation is no longer valid (RFC 3261 §13.3.1).
    Invitation,
}

impl Timer {
    pub const ALL: [Timer; 10] = [
        Timer::AckRetransmit,
        Timer::AckTimeout,
        Timer::ReliableRetransmit,
        Timer::ReliableTimeout,
        Timer::Retry,
        Timer::Refresh,
        Timer::Expiry,
        Timer::NoAnswer,
        Timer::Asked,
        Timer::Invitation,
    ];
}

/// All timers of all calls.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Instant, InviteHandle, Timer)>,
    set: HashMap<(InviteHandle, Timer), Instant>,
}

impl Timers {
    fn set(&mut self, call: InviteHandle, timer: Timer, at: Instant) {
        self.clear(call, timer);
        self.set.insert((call, timer), at);
        self.due.insert((at, call, timer));
    }

    fn clear(&mut self, call: InviteHandle, timer: Timer) {
        if let Some(at) = self.set.remove(&(call, timer)) {
            self.due.remove(&(at, call, timer));
        }
    }

    pub fn clear_all(&mut self, call: InviteHandle) {
        Timer::ALL.into_iter().for_each(|timer| self.clear(call, timer));
    }

    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _, _)| *at)
    }

    pub fn pop_due(&mut self, now: Instant) -> Option<(InviteHandle, Timer)> {
        let (_, call, timer) = *self.due.first().filter(|(at, _, _)| *at <= now)?;
        self.clear(call, timer);
        Some((call, timer))
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

/// An INVITE of ours that nobody wants any more, or that one answer has won: a 2xx from somewhere else still makes a
/// dialog, which is acknowledged and ended (RFC 3261 §13.2.2.4).
pub(crate) struct Abandoned {
    pub seed: Seed,
    /// The tag of the peer that has won.
    pub winner: Option<Arc<str>>,
    /// Dialogs of it that were ended.
    pub ended: u8,
}

/// The ACK that a 2xx got; its copies get it again.
struct Acknowledged {
    hop: Hop,
    bytes: Vec<u8>,
}

/// A re-INVITE of ours whose call is over.
pub(crate) struct Late {
    pub leg: Box<Leg>,
    /// It asked for the peer's offer: the 2xx has one.
    pub asked: bool,
}

/// Which 2xx: the dialog, the peer's tag, the number of the INVITE.
pub(crate) type AckKey = (DialogId, Arc<str>, u32);

/// What all calls share.
pub(crate) struct Core {
    pub config: Arc<Config>,
    pub listen: Arc<[(Transport, SocketAddr)]>,
    /// Proxies that peers may name.
    pub listed: Listed,
    pub transactions: Transactions,
    pub timers: Timers,
    /// Whose dialog it is.
    pub dialogs: HashMap<DialogId, InviteHandle>,
    /// Who waits for the response.
    pub clients: HashMap<ClientId, InviteHandle>,
    /// Whose INVITE it is, until its final response.
    pub servers: HashMap<ServerId, InviteHandle>,
    pub abandoned: HashMap<ClientId, Abandoned>,
    /// Connections that messages came on and that are still open.
    pub connections: HashSet<ConnectionId>,
    abandoned_until: VecDeque<(Instant, ClientId)>,
    acknowledged: HashMap<AckKey, Acknowledged>,
    acknowledged_until: VecDeque<(Instant, AckKey)>,
    /// Re-INVITEs of ours that had no answer when their call ended.
    late: HashMap<AckKey, Late>,
    late_until: VecDeque<(Instant, AckKey)>,
    /// `a=crypto` lines that were refused.
    pub crypto_faults: LineFaults,
}

impl Core {
    pub fn new(config: Arc<Config>, transactions: Transactions) -> Core {
        Core {
            listen: config.listen.as_slice().into(),
            listed: Listed::default(),
            config,
            transactions,
            timers: Timers::default(),
            dialogs: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            abandoned: HashMap::new(),
            connections: HashSet::new(),
            abandoned_until: VecDeque::new(),
            acknowledged: HashMap::new(),
            acknowledged_until: VecDeque::new(),
            late: HashMap::new(),
            late_until: VecDeque::new(),
            crypto_faults: LineFaults::default(),
        }
    }

    /// How long a transaction may linger (64·T1).
    fn lifetime(&self) -> Duration {
        self.config.t1 * 64
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        let lists = [
            self.timers.next(),
            self.abandoned_until.front().map(|(at, _)| *at),
            self.acknowledged_until.front().map(|(at, _)| *at),
            self.late_until.front().map(|(at, _)| *at),
        ];
        lists.into_iter().flatten().min()
    }

    /// Forgets what has lived long enough.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, client)) = self.abandoned_until.pop_front_if(|(at, _)| *at <= now) {
            self.abandoned.remove(&client);
        }
        while let Some((_, key)) = self.acknowledged_until.pop_front_if(|(at, _)| *at <= now) {
            self.acknowledged.remove(&key);
        }
        while let Some((_, key)) = self.late_until.pop_front_if(|(at, _)| *at <= now) {
            self.late.remove(&key);
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.timers.is_empty()
            && self.abandoned.is_empty()
            && self.acknowledged.is_empty()
            && self.late.is_empty()
            && self.dialogs.is_empty()
            && self.clients.is_empty()
            && self.servers.is_empty()
    }

    /// A tag that nobody can guess.
    pub fn tag(&mut self) -> Arc<str> {
        self.transactions.ids().tag().into()
    }

    /// A fresh Call-ID.
    pub fn call_id(&mut self) -> Arc<str> {
        self.transactions.ids().call_id().into()
    }

    /// The host that stands behind our numbers on this hop.
    pub fn own_host(&self, hop: &Hop) -> String {
        own::name(&self.listen, &self.config.advertised, hop).0
    }

    /// The URI of our Contact on this hop.
    pub fn contact(&self, user: &str, hop: &Hop) -> Arc<str> {
        let (host, port) = own::name(&self.listen, &self.config.advertised, hop);
        let uri = Uri::sip(user, &host, Some(port));
        let uri = match hop.transport {
            Transport::Udp => uri,
            Transport::Tcp => uri.with_param("transport", Some("tcp")),
            Transport::Tls => uri.with_param("transport", Some("tls")),
        };
        uri.as_str().into()
    }

    /// The writer of a dialog's descriptions.
    pub fn describer(&mut self, hop: &Hop, peer: Arc<str>, encryption: MediaEncryption) -> Describer {
        // An origin line names its author and is no way to him: where the name is none of an address, ours will do.
        let told = self.own_host(hop).trim_matches(['[', ']']).parse();
        let address = told.unwrap_or(hop.local.ip());
        let keys = Keys::by(encryption, hop.transport);
        let policy = MediaPolicy { peer, keys, over_tls: hop.transport == Transport::Tls };
        Describer::new(self.transactions.ids().below(u64::MAX), address).with_policy(policy)
    }

    /// Answers a copy of a 2xx to an INVITE; `false` when it is no copy.
    pub fn acknowledge_again(&mut self, key: &AckKey, out: &mut Vec<Output>) -> bool {
        match self.acknowledged.get(key) {
            Some(done) => {
                out.push(Output::Send { hop: done.hop, bytes: done.bytes.clone() });
                true
            }
            None => false,
        }
    }

    /// The dialog of a re-INVITE that nobody waits for any more, if this 2xx is its first.
    pub fn take_late(&mut self, key: &AckKey) -> Option<Late> {
        self.late.remove(key)
    }

    fn acknowledge(
        &mut self,
        dialog: &Dialog,
        hop: Hop,
        cseq: u32,
        mut ack: Request,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        keep_keys(&hop, &mut ack.body);
        let bytes = self.transactions.send_stateless(hop, ack, out);
        let tag = dialog.remote.tag.clone().unwrap_or_default();
        let key = (dialog.id.clone(), tag, cseq);
        self.acknowledged_until.push_back((now + self.lifetime(), key.clone()));
        self.acknowledged.insert(key, Acknowledged { hop, bytes });
    }

    /// A call is over.
    pub fn forget(&mut self, call: InviteHandle, dialogs: &[DialogId]) {
        self.timers.clear_all(call);
        for id in dialogs {
            self.dialogs.remove(id);
        }
    }

    /// Nobody waits for this INVITE any more; see [`Abandoned`].
    pub fn abandon(&mut self, client: ClientId, abandoned: Abandoned, now: Instant) {
        self.clients.remove(&client);
        self.abandoned.insert(client, abandoned);
        // A CANCEL may wait for a provisional and its 487 for the CANCEL: twice a transaction's life.
        self.abandoned_until.push_back((now + self.lifetime() * 2, client));
    }
}

/// The core for one call at one moment.
pub(crate) struct Cx<'a> {
    pub core: &'a mut Core,
    pub now: Instant,
    pub call: InviteHandle,
    pub out: &'a mut Vec<Output>,
    /// The node has ended the call; it hears no more of it.
    pub muted: bool,
}

impl Cx<'_> {
    pub fn event(&mut self, event: Event) {
        if !self.muted {
            self.out.push(Output::Event(event));
        }
    }

    pub fn random(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (start, end) = (*range.start(), *range.end());
        start + self.core.transactions.ids().below(end - start + 1)
    }

    pub fn t1(&self) -> Duration {
        self.core.config.t1
    }

    /// T2 of RFC 3261: eight times T1.
    pub fn t2(&self) -> Duration {
        self.core.config.t1 * 8
    }

    pub fn set(&mut self, timer: Timer, after: Duration) {
        self.core.timers.set(self.call, timer, self.now + after);
    }

    pub fn clear(&mut self, timer: Timer) {
        self.core.timers.clear(self.call, timer);
    }

    /// Sends a request whose response comes back to this call.
    pub fn request(&mut self, hop: Hop, request: Request) -> ClientId {
        let client = self.request_and_forget(hop, request);
        self.core.clients.insert(client, self.call);
        client
    }

    /// A description of a peer that must encrypt was refused, or one for it.
    pub fn description_refused(&mut self, policy: &MediaPolicy, error: SdpError) {
        match error {
            SdpError::Encryption(reason) => self.secure_media_refused(policy, reason),
            SdpError::Malformed | SdpError::Address | SdpError::Line | SdpError::TooLong => {}
        }
    }

    /// The same, by its reason; of others nobody is told.
    pub fn secure_media_refused(&mut self, policy: &MediaPolicy, reason: SecureMediaRefusal) {
        if policy.keys.are_required() {
            let peer = policy.peer.clone();
            self.out.push(Output::SecureMediaRefused { peer, reason });
        }
    }

    /// Sends a request whatever its response.
    pub fn request_and_forget(&mut self, hop: Hop, mut request: Request) -> ClientId {
        keep_keys(&hop, &mut request.body);
        self.core.transactions.request(self.now, hop, request, self.out)
    }

    pub fn respond(&mut self, server: &Server, mut response: Response) {
        keep_keys(&server.hop, &mut response.body);
        if response.status >= 200 && server.request.method == Method::Invite {
            self.core.servers.remove(&server.id);
        }
        self.core.transactions.respond(self.now, server.id, response, self.out);
    }

    /// A response that its status says all of.
    pub fn refuse(&mut self, server: &Server, status: u16) {
        self.respond(server, server.reply(status));
    }

    /// A 2xx to this re-INVITE will be acknowledged, though its call is over (RFC 3261 §13.2.2.4): its peer repeats it
    /// for 32 s otherwise.
    pub fn expect_late(&mut self, cseq: u32, late: Late) {
        let dialog = &late.leg.dialog;
        let key = (dialog.id.clone(), dialog.remote.tag.clone().unwrap_or_default(), cseq);
        self.core.late_until.push_back((self.now + self.core.lifetime() * 2, key.clone()));
        self.core.late.insert(key, late);
    }

    /// The ACK of a 2xx, kept for its copies.
    pub fn acknowledge(&mut self, dialog: &Dialog, hop: Hop, cseq: u32, ack: Request) {
        self.core.acknowledge(dialog, hop, cseq, ack, self.now, self.out);
    }

    /// CANCEL, and what a 2xx that crosses it needs.
    pub fn cancel(&mut self, client: ClientId, seed: Seed, reason: Option<String>) {
        self.core.abandon(client, Abandoned { seed, winner: None, ended: 0 }, self.now);
        self.core.transactions.cancel(self.now, client, reason, self.out);
    }

    /// Says who is at our end of a dialog.
    pub fn identity_headers(
        &self,
        identity: &Identity,
        side: Side,
        reach: Reach,
        hop: &Hop,
        headers: &mut Headers,
    ) {
        parties::write_identity(identity, side, &self.core.own_host(hop), reach, headers);
    }
}

/// A peer whose keys came over TLS may go on elsewhere: no key follows it there.
fn keep_keys(hop: &Hop, body: &mut Vec<u8>) {
    if hop.transport != Transport::Tls && !body.is_empty() {
        *body = sdp::crypto::without_keys(body);
    }
}
