//! The registrar (RFC 3261 §10.3): who can be reached where, for how long, and along which way.

#[cfg(test)]
mod tests;
mod way;

pub(crate) use way::{Listed, is_listed, same_host, told, way_back};

use crate::message::text;
use crate::message::{NameAddr, Request, Response, Scheme, Uri};
use crate::port::{Account, BindingRecord, Config, ConnectionId, Event, Hop, KeptBinding, Output, Transport};
use crate::transaction::Ids;
use crate::transaction::timers::Timers;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use way::Way;

/// Contacts that one REGISTER may name, those that it removes among them; 403 beyond.
const MAX_NAMED: usize = 256;
/// Contacts that are let go in the step in which they are lost.
const AT_ONCE: usize = 8;

/// One contact of an address of record.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The account.
    pub account: Arc<str>,
    /// The user of the address of record: one of the account's numbers, or its digest user.
    pub number: Arc<str>,
    /// The contact as it was given; Request-URI of what is sent there.
    pub contact: Uri,
    /// Preference in thousandths.
    pub q_thousandths: u16,
    /// Where to send: the connection that it came on while that is open; over UDP the address that can be reached
    /// (RFC 3581); else where it can be dialled.
    pub hop: Hop,
    /// Path values in their order (RFC 3327): the Route of what is sent there.
    pub path: Vec<String>,
    /// When it ends.
    pub expires_at: Instant,
    call_id: Box<str>,
    cseq: u32,
    /// `+sip.instance` and `reg-id` (RFC 5626): a phone that has started again replaces its old contact.
    instance: Option<Box<str>>,
    /// Where it is reached without the connection that it came on; `None`: it dies with that.
    anew: Option<(Transport, SocketAddr)>,
    /// Counts REGISTERs: the lowest of a number has been silent for the longest time.
    renewed: u64,
}

/// The bounds of registrations.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A shorter registration is refused with 423.
    pub min_expires: Duration,
    /// A longer one is shortened, unless the account has a maximum of its own. What asks for none gets it.
    pub max_expires: Duration,
    /// Contacts of one address of record; for one more the oldest gives way.
    pub max_contacts: usize,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            min_expires: config.min_expires,
            max_expires: config.max_expires,
            max_contacts: config.max_contacts,
        }
    }
}

/// All bindings. Their number is bounded by the accounts of the directory, their numbers and `max_contacts`.
#[derive(Debug)]
pub struct Registrar {
    limits: Limits,
    /// Our listening addresses.
    listen: Arc<[(Transport, SocketAddr)]>,
    /// Proxies that a Path may name, wherever it comes from.
    listed: Listed,
    next_id: u64,
    registers: u64,
    bindings: BTreeMap<u64, Binding>,
    /// Ids by account.
    accounts: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Ids by what they can be lost with.
    holds: BTreeMap<Hold, BTreeSet<u64>>,
    /// Listeners that a call went to since it was known that somebody listens there.
    called: BTreeSet<Hold>,
    timers: Timers<u64>,
    /// What was lost and is not let go yet, by what it was lost with.
    leaving: BTreeMap<Hold, Leaving>,
    /// The time of the step that is being taken.
    now: Option<Instant>,
    /// More was lost than one step lets go.
    busy: bool,
    /// Connections on which nothing is registered any more, and whose the last contact was.
    released: Vec<(Arc<str>, Hop)>,
}

/// Contacts that were lost together.
#[derive(Debug, Default)]
struct Leaving {
    ids: BTreeSet<u64>,
    /// Where it is being tried whether somebody listens.
    tried: BTreeSet<Hold>,
}

/// With what a binding is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// The connection that it came on.
    Connection(ConnectionId),
    /// The listener that it is dialled at.
    Listener(Transport, SocketAddr),
}

/// A step of a REGISTER that was checked and can be carried out, and the bindings that it concerns.
enum Change {
    Bind { replaces: Vec<u64>, contact: Box<NameAddr>, lasts: Duration },
    Remove(Vec<u64>),
}

/// Somebody registered a contact with a Call-ID that the account had not used: a phone that has started again, or another.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Whose.
    pub account: Arc<str>,
    /// Its contact.
    pub contact: Uri,
    /// The way to it.
    pub hop: Hop,
    /// What it has replaced: the contact and the way of an earlier life of the same phone.
    pub replaced: Vec<(Uri, Hop)>,
}

/// Whose address of record, and for how long at most.
struct Owner {
    account: Arc<str>,
    number: Arc<str>,
    max_expires: Duration,
}

impl Registrar {
    /// An empty registrar of a node that listens there.
    #[must_use]
    pub fn new(limits: Limits, listen: Arc<[(Transport, SocketAddr)]>) -> Self {
        Self {
            limits,
            listen,
            listed: Listed::default(),
            next_id: 0,
            registers: 0,
            bindings: BTreeMap::new(),
            accounts: HashMap::new(),
            holds: BTreeMap::new(),
            called: BTreeSet::new(),
            timers: Timers::default(),
            leaving: BTreeMap::new(),
            now: None,
            busy: false,
            released: Vec::new(),
        }
    }

    /// Other bounds, from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Other proxies that a Path may name, from the next REGISTER on.
    pub(crate) fn set_listed(&mut self, listed: Listed) {
        self.listed = listed;
    }

    /// Handles a REGISTER of an account that has proved itself as `user`; what is to be told and kept goes to `out`.
    ///
    /// 403 for an address of record that isn't the account's, whether it exists or not, and for more contacts at once
    /// than there may be; 400 for contacts or a Path that can't be read; 423; 500 for what comes out of order; else 200 with all
    /// contacts of the address of record.
    #[allow(clippy::too_many_arguments)] // one door for the one thing the registrar does
    pub fn register(
        &mut self,
        now: Instant,
        hop: &Hop,
        request: &Request,
        user: &str,
        account: &Account,
        ids: &mut Ids,
        out: &mut Vec<Output>,
    ) -> (Response, Vec<Newcomer>) {
        let tag = ids.tag();
        let number = request.headers.to().ok().and_then(|to| own_number(account, user, &to.uri));
        let Some(number) = number else { return (Response::to(request, 403, Some(&tag)), Vec::new()) };
        let max_expires = account.max_expires.unwrap_or(self.limits.max_expires);
        let owner = Owner { account: Arc::clone(&account.id), number, max_expires };
        let before = self.count(&owner.account);
        let changes = match self.plan(request, &owner) {
            Ok(changes) => changes,
            Err(status) => return (self.refusal(request, status, &tag), Vec::new()),
        };
        let newcomers = self.carry_out(now, hop, request, &owner, changes, out);
        let after = self.count(&owner.account);
        if before != after {
            out.push(registration(Arc::clone(&owner.account), after));
        }
        (self.accepted(now, request, &owner, &tag), newcomers)
    }

    /// Whose each way is that leads to a contact, and until when.
    pub fn ways(&self) -> impl Iterator<Item = (&Arc<str>, Hop, Instant)> {
        self.bindings.values().map(|binding| (&binding.account, binding.hop, binding.expires_at))
    }

    /// Until when something is registered on a connection.
    pub(crate) fn registered_on(&self, connection: ConnectionId) -> Option<Instant> {
        let ids = self.holds.get(&Hold::Connection(connection))?;
        ids.iter().filter_map(|id| self.bindings.get(id)).map(|binding| binding.expires_at).max()
    }

    /// Whose a contact is that is dialled there, and until when.
    pub(crate) fn dialled_at(&self, hop: &Hop) -> Option<(&Arc<str>, Instant)> {
        let ids = self.holds.get(&Hold::Listener(hop.transport, hop.remote))?;
        let binding = ids.first().and_then(|id| self.bindings.get(id))?;
        Some((&binding.account, binding.expires_at))
    }

    /// Connections that the last contact has left since this was asked, though they are open, and whose it was.
    pub(crate) fn released(&mut self) -> Vec<(Arc<str>, Hop)> {
        std::mem::take(&mut self.released)
    }

    /// The contacts of an account for this number, or all of the account if the number has none; best first, of equals
    /// the youngest first.
    #[must_use]
    pub fn contacts(&self, account: &str, number: &str) -> Vec<&Binding> {
        let mut all: Vec<&Binding> = self.of(account).map(|(_, binding)| binding).collect();
        if all.iter().any(|binding| &*binding.number == number) {
            all.retain(|binding| &*binding.number == number);
        }
        all.sort_by_key(|binding| std::cmp::Reverse((binding.q_thousandths, binding.renewed)));
        all
    }

    /// Whether an account has registered contacts for this number, not only others.
    #[must_use]
    pub(crate) fn has_own(&self, account: &str, number: &str) -> bool {
        self.of(account).any(|(_, binding)| *binding.number == *number)
    }

    /// How many contacts an account has.
    #[must_use]
    pub fn count(&self, account: &str) -> usize {
        self.accounts.get(account).map_or(0, BTreeSet::len)
    }

    /// Whether the account has registered from this way: what else comes from there may be its.
    #[must_use]
    pub fn is_registered_from(&self, account: &str, hop: &Hop) -> bool {
        let over = |binding: &Binding| self.now.is_some_and(|now| binding.expires_at <= now);
        self.of(account).any(|(_, binding)| {
            !over(binding)
                && binding.hop.transport == hop.transport
                && binding.hop.connection == hop.connection
                && binding.hop.remote == hop.remote
        })
    }

    /// A connection has ended. What was registered on it is dialled anew when it is wanted; whether anybody listens at a
    /// Contact is tried at once, since most phones over TCP or TLS don't. A flow (RFC 5626) and what is behind a NAT can't be
    /// reached any more.
    pub fn closed(&mut self, connection: ConnectionId, out: &mut Vec<Output>) {
        self.lose(Hold::Connection(connection), out);
    }

    /// Nobody listens there: the contacts that are dialled there are dead.
    pub fn unreachable(&mut self, hop: &Hop, out: &mut Vec<Output>) {
        self.lose(Hold::Listener(hop.transport, hop.remote), out);
    }

    /// An edge proxy may have had thousands of phones: they are let go a few at a time.
    fn lose(&mut self, hold: Hold, out: &mut Vec<Output>) {
        let Some(ids) = self.holds.remove(&hold) else { return };
        self.called.remove(&hold);
        self.leaving.entry(hold).or_default().ids.extend(ids);
        self.begin_to_let_go(out);
    }

    /// The time of this step. What expired by then is let go, the first of it at once.
    pub fn observe(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.now = Some(now);
        if self.timers.next().is_some_and(|at| at <= now) {
            self.begin_to_let_go(out);
        }
    }

    fn begin_to_let_go(&mut self, out: &mut Vec<Output>) {
        if !self.busy {
            self.let_go(AT_ONCE, out);
        }
    }

    /// Whether contacts were lost that are not let go yet ([`Registrar::let_go`]). Nobody may be told of one before its
    /// account is brought up to date ([`Registrar::update`]).
    #[must_use]
    pub fn is_losing(&self) -> bool {
        self.busy
    }

    /// Lets go of so many of the contacts that were lost.
    pub fn let_go(&mut self, most: usize, out: &mut Vec<Output>) {
        let mut lost = BTreeSet::new();
        while let Some(id) = self.now.filter(|_| lost.len() < most).and_then(|now| self.timers.pop(now)) {
            lost.insert(id);
        }
        for _ in lost.len()..most {
            let Some(mut first) = self.leaving.first_entry() else { break };
            let (hold, id) = (*first.key(), first.get_mut().ids.pop_first());
            match id {
                Some(id) => lost.extend(self.leave(hold, id, out).then_some(id)),
                None => drop(first.remove()),
            }
        }
        self.remove_all(lost, out);
        self.leaving.retain(|_, leaving| !leaving.ids.is_empty());
        let due = self.timers.next().zip(self.now).is_some_and(|(at, now)| at <= now);
        self.busy = due || !self.leaving.is_empty();
    }

    /// Brings an account up to date: what it has lost is let go.
    pub fn update(&mut self, account: &str, out: &mut Vec<Output>) {
        if !self.busy {
            return;
        }
        let all: Vec<(u64, Option<Hold>, Instant)> =
            self.of(account).map(|(id, binding)| (id, binding.hold(), binding.expires_at)).collect();
        let mut lost = BTreeSet::new();
        for (id, hold, expires_at) in all {
            if self.now.is_some_and(|now| expires_at <= now) {
                lost.insert(id);
            } else if let Some(hold) = hold
                && self.leaving.get_mut(&hold).is_some_and(|leaving| leaving.ids.remove(&id))
            {
                lost.extend(self.leave(hold, id, out).then_some(id));
            }
        }
        self.remove_all(lost, out);
    }

    /// A connection that was dialled to a Contact has ended. If a call went there, the phone may be gone: whether anybody
    /// still listens is tried once. (Not after each connection: a phone that closes what is idle would be dialled for ever.)
    pub fn hung_up(&mut self, hop: &Hop, out: &mut Vec<Output>) {
        if self.called.remove(&Hold::Listener(hop.transport, hop.remote)) {
            out.push(Output::Connect(Hop { connection: None, ..*hop }));
        }
    }

    /// A call goes to the contacts of an account.
    pub fn called(&mut self, account: &str) {
        let holds = self.of(account).filter_map(|(_, binding)| binding.hold());
        let dialled: Vec<Hold> = holds.filter(|hold| matches!(hold, Hold::Listener(..))).collect();
        self.called.extend(dialled);
    }

    /// A contact has lost what it was held by. True when it is dead, false when it can be dialled anew.
    fn leave(&mut self, hold: Hold, id: u64, out: &mut Vec<Output>) -> bool {
        let Some(binding) = self.bindings.get_mut(&id) else { return false };
        let anew = match hold {
            Hold::Connection(_) => binding.anew,
            Hold::Listener(..) => None,
        };
        let Some(hop) = anew.and_then(|anew| way::without_connection(anew, &self.listen)) else {
            return true;
        };
        binding.hop = hop;
        if let Some(other) = binding.hold() {
            self.holds.entry(other).or_default().insert(id);
            let leaving = self.leaving.entry(hold).or_default();
            if leaving.tried.insert(other) {
                self.called.remove(&other);
                out.push(Output::Connect(hop));
            }
        }
        false
    }

    /// Forgets all contacts of an account.
    pub fn forget(&mut self, account: &str, out: &mut Vec<Output>) {
        let lost = self.accounts.get(account).cloned().unwrap_or_default();
        self.remove_all(lost, out);
    }

    /// When the next contact expires that has not yet.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.now {
            Some(now) => self.timers.next_after(now),
            None => self.timers.next(),
        }
    }

    /// All contacts of all accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether nobody is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Brings back what an earlier life of the node kept under this id. What can't be read or reached, or is over, is gone.
    pub fn restore(&mut self, now: Instant, id: u64, kept: KeptBinding, out: &mut Vec<Output>) {
        self.next_id = self.next_id.max(id);
        let hop = way::without_connection((kept.transport, kept.remote), &self.listen);
        // Each is one value of a Route: no comma makes two of it.
        let is_one = |path: &str| text::list(path).count() == 1 && NameAddr::read(path).is_ok();
        let readable = kept.path.iter().all(|path| is_one(path));
        let (Some(hop), Ok(contact)) =
            (hop.filter(|_| readable && kept.expires_at > now), Uri::read(&kept.contact))
        else {
            return out.push(Output::Keep(BindingRecord::Gone(id)));
        };
        self.registers += 1;
        let account = Arc::clone(&kept.account);
        self.insert(
            id,
            Binding {
                account: kept.account,
                number: kept.number,
                contact,
                q_thousandths: kept.q_thousandths,
                hop,
                path: kept.path,
                expires_at: kept.expires_at,
                call_id: kept.call_id.into(),
                cseq: kept.cseq,
                instance: kept.instance.map(Into::into),
                anew: Some((kept.transport, kept.remote)),
                renewed: self.registers,
            },
        );
        let contacts = self.count(&account);
        out.push(registration(account, contacts));
    }

    /// All that is to be kept.
    #[must_use]
    pub fn records(&self) -> Vec<BindingRecord> {
        self.bindings.iter().map(|(id, binding)| binding.record(*id)).collect()
    }

    fn of(&self, account: &str) -> impl Iterator<Item = (u64, &Binding)> {
        let ids = self.accounts.get(account).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.bindings.get(id)?)))
    }

    fn of_number<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (u64, &'a Binding)> {
        self.of(&owner.account).filter(|(_, binding)| binding.number == owner.number)
    }

    /// Checks a whole REGISTER before anything of it is done (RFC 3261 §10.3 steps 6 and 7).
    fn plan(&self, request: &Request, owner: &Owner) -> Result<Vec<Change>, u16> {
        let contacts = request.headers.contacts().map_err(|_| 400_u16)?;
        // It becomes the Route of what is sent there.
        if request.headers.name_addrs("Path").is_err() {
            return Err(400);
        }
        let header = request.headers.number("Expires");
        if contacts.iter().any(NameAddr::is_star) {
            if contacts.len() > 1 || header != Some(0) {
                return Err(400);
            }
            let all: Vec<(u64, &Binding)> = self.of_number(owner).collect();
            all.iter().try_for_each(|(_, binding)| in_order(request, binding))?;
            return Ok(vec![Change::Remove(all.into_iter().map(|(id, _)| id).collect())]);
        }
        if contacts.len() > MAX_NAMED {
            return Err(403);
        }
        let mut changes = Vec::new();
        for mut names in by_contact(contacts) {
            if names.iter().any(|name| !matches!(name.uri.scheme(), Scheme::Sip | Scheme::Sips)) {
                return Err(400);
            }
            let is_named = |binding: &Binding| names.iter().any(|name| is_same(binding, name));
            let mut replaces = Vec::new();
            for (id, binding) in self.of_number(owner).filter(|(_, binding)| is_named(binding)) {
                in_order(request, binding)?;
                replaces.push(id);
            }
            let Some(contact) = names.pop() else { continue };
            let lasts = contact.expires().or(header).map_or(owner.max_expires, |seconds| {
                Duration::from_secs(u64::from(seconds)).min(owner.max_expires)
            });
            match lasts {
                Duration::ZERO => changes.push(Change::Remove(replaces)),
                _ if lasts < self.limits.min_expires => return Err(423),
                _ => changes.push(Change::Bind { replaces, contact: Box::new(contact), lasts }),
            }
        }
        let bound = changes.iter().filter(|change| matches!(change, Change::Bind { .. })).count();
        if bound > self.limits.max_contacts { Err(403) } else { Ok(changes) }
    }

    fn refusal(&self, request: &Request, status: u16, tag: &str) -> Response {
        let response = Response::to(request, status, Some(tag));
        match status {
            423 => response.with("Min-Expires", self.limits.min_expires.as_secs().to_string()),
            403 => response.with_phrase("Too Many Contacts"),
            _ => response,
        }
    }

    fn carry_out(
        &mut self,
        now: Instant,
        hop: &Hop,
        request: &Request,
        owner: &Owner,
        changes: Vec<Change>,
        out: &mut Vec<Output>,
    ) -> Vec<Newcomer> {
        self.registers += 1;
        let call_id = request.headers.call_id();
        let is_new = self.of(&owner.account).all(|(_, binding)| &*binding.call_id != call_id);
        let (mut newcomers, mut grows) = (Vec::new(), false);
        for change in changes {
            match change {
                Change::Remove(ids) => ids.into_iter().for_each(|id| drop(self.remove(id, out))),
                Change::Bind { replaces, contact, lasts } => {
                    grows |= replaces.is_empty();
                    let newcomer = self.bind((now, lasts), hop, request, owner, replaces, *contact, out);
                    newcomers.extend(newcomer.filter(|_| is_new));
                }
            }
        }
        // What only renews never drives others out, even when the limit was lowered.
        while grows && self.of_number(owner).count() > self.limits.max_contacts {
            let oldest = self.of_number(owner).min_by_key(|(_, binding)| binding.renewed).map(|(id, _)| id);
            let Some(oldest) = oldest else { break };
            self.remove(oldest, out);
        }
        newcomers
    }

    #[allow(clippy::too_many_arguments)] // one contact with all that its REGISTER says of it
    fn bind(
        &mut self,
        (now, lasts): (Instant, Duration),
        hop: &Hop,
        request: &Request,
        owner: &Owner,
        replaces: Vec<u64>,
        contact: NameAddr,
        out: &mut Vec<Output>,
    ) -> Option<Newcomer> {
        let id = replaces.first().copied().unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id
        });
        let path: Vec<String> =
            request.headers.elements("Path").filter_map(Result::ok).map(str::to_owned).collect();
        let Way { hop, anew } =
            Way::of_register(hop, request, &contact, path.first(), &self.listed, &self.listen);
        let mut replaced = Vec::new();
        for old in replaces {
            // The one that is written anew under its id need not be forgotten first.
            let binding = if old == id { self.take(old) } else { self.remove(old, out) };
            replaced.extend(binding.map(|binding| (binding.contact, binding.hop)));
        }
        let binding = Binding {
            account: Arc::clone(&owner.account),
            number: Arc::clone(&owner.number),
            q_thousandths: contact.q_thousandths(),
            hop,
            path,
            expires_at: now + lasts,
            call_id: request.headers.call_id().into(),
            cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
            instance: instance(&contact),
            anew,
            renewed: self.registers,
            contact: contact.uri,
        };
        out.push(Output::Keep(binding.record(id)));
        let newcomer =
            Newcomer { account: Arc::clone(&owner.account), contact: binding.contact.clone(), hop, replaced };
        self.insert(id, binding);
        Some(newcomer)
    }

    fn insert(&mut self, id: u64, binding: Binding) {
        if let Some(hold) = binding.hold() {
            let all = self.holds.entry(hold).or_default();
            all.insert(id);
            if all.len() == 1 {
                // It has just spoken.
                self.called.remove(&hold);
            }
        }
        self.timers.set(id, None, Some(binding.expires_at));
        self.accounts.entry(Arc::clone(&binding.account)).or_default().insert(id);
        self.bindings.insert(id, binding);
    }

    fn accepted(&self, now: Instant, request: &Request, owner: &Owner, tag: &str) -> Response {
        let mut response = Response::to(request, 200, Some(tag));
        for (_, binding) in self.of_number(owner) {
            let left = binding.expires_at.saturating_duration_since(now).as_secs();
            let q = match binding.q_thousandths {
                1000 => String::new(),
                q => format!(";q=0.{q:03}"),
            };
            response.headers.push("Contact", format!("<{}>{q};expires={left}", binding.contact));
        }
        if request.headers.has_token("Supported", "path") {
            response.headers.copy("Path", &request.headers);
        }
        response
    }

    fn remove(&mut self, id: u64, out: &mut Vec<Output>) -> Option<Binding> {
        let binding = self.take(id)?;
        out.push(Output::Keep(BindingRecord::Gone(id)));
        Some(binding)
    }

    fn take(&mut self, id: u64) -> Option<Binding> {
        let binding = self.bindings.remove(&id)?;
        self.timers.set(id, Some(binding.expires_at), None);
        if let Some(ids) = self.accounts.get_mut(&binding.account) {
            ids.remove(&id);
            if ids.is_empty() {
                self.accounts.remove(&binding.account);
            }
        }
        if let Some(hold) = binding.hold() {
            if let Some(ids) = self.holds.get_mut(&hold) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.holds.remove(&hold);
                    self.called.remove(&hold);
                    let left = binding.hop.connection.map(|_| (Arc::clone(&binding.account), binding.hop));
                    self.released.extend(left);
                }
            }
            if let Some(leaving) = self.leaving.get_mut(&hold) {
                leaving.ids.remove(&id);
            }
        }
        Some(binding)
    }

    /// Removes bindings and tells each account's new count once.
    fn remove_all(&mut self, ids: BTreeSet<u64>, out: &mut Vec<Output>) {
        let mut touched = BTreeSet::new();
        for id in ids {
            touched.extend(self.remove(id, out).map(|binding| binding.account));
        }
        for account in touched {
            let contacts = self.count(&account);
            out.push(registration(account, contacts));
        }
    }
}

impl Binding {
    /// A datagram needs nobody's consent, and a proxy that doesn't listen just now will do so again.
    fn hold(&self) -> Option<Hold> {
        match (self.hop.connection, self.hop.transport) {
            (Some(connection), _) => Some(Hold::Connection(connection)),
            (None, Transport::Tcp | Transport::Tls) if self.path.is_empty() => {
                Some(Hold::Listener(self.hop.transport, self.hop.remote))
            }
            (None, Transport::Udp | Transport::Tcp | Transport::Tls) => None,
        }
    }

    /// What outlives the process. A flow doesn't: its connection ends with it.
    fn record(&self, id: u64) -> BindingRecord {
        let Some((transport, remote)) = self.anew else { return BindingRecord::Gone(id) };
        let kept = KeptBinding {
            account: Arc::clone(&self.account),
            number: Arc::clone(&self.number),
            contact: self.contact.as_str().to_owned(),
            q_thousandths: self.q_thousandths,
            path: self.path.clone(),
            call_id: self.call_id.to_string(),
            cseq: self.cseq,
            instance: self.instance.as_deref().map(str::to_owned),
            transport,
            remote,
            expires_at: self.expires_at,
        };
        BindingRecord::Bound(id, Box::new(kept))
    }
}

fn registration(account: Arc<str>, contacts: usize) -> Output {
    Output::Event(Event::Registration { account, contacts })
}

/// The user of the address of record, if this account may register it.
fn own_number(account: &Account, user: &str, to: &Uri) -> Option<Arc<str>> {
    let wanted = to.number();
    let number = account.numbers.iter().find(|number| ***number == *wanted).cloned();
    number.or_else(|| (to.user() == user).then(|| Arc::from(user)))
}

/// A contact that one REGISTER names twice is one contact: all its names, of which the last one counts.
fn by_contact(contacts: Vec<NameAddr>) -> Vec<Vec<NameAddr>> {
    let mut groups: Vec<Vec<NameAddr>> = Vec::with_capacity(contacts.len());
    for contact in contacts {
        let instance = instance(&contact);
        let same = |earlier: &NameAddr| {
            let same_phone = instance.is_some() && instance == self::instance(earlier);
            earlier.uri.same_resource(&contact.uri) || same_phone
        };
        let (mut names, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|names: &Vec<NameAddr>| names.iter().any(same));
        groups = others;
        names.push(vec![contact]);
        groups.push(names.concat());
    }
    groups
}

/// A binding is changed only by a later request (RFC 3261 §10.3 step 7).
fn in_order(request: &Request, binding: &Binding) -> Result<(), u16> {
    let cseq = request.headers.cseq().map_or(0, |cseq| cseq.number);
    let late = &*binding.call_id == request.headers.call_id() && cseq <= binding.cseq;
    if late { Err(500) } else { Ok(()) }
}

fn is_same(binding: &Binding, contact: &NameAddr) -> bool {
    binding.contact.same_resource(&contact.uri)
        || (binding.instance.is_some() && binding.instance == instance(contact))
}

fn instance(contact: &NameAddr) -> Option<Box<str>> {
    let instance = contact.params.get("+sip.instance").filter(|instance| instance.len() <= 256)?;
    let registration = contact.params.get("reg-id").unwrap_or("").chars().take(16).collect::<String>();
    Some(format!("{instance};{registration}").into())
}
