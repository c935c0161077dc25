//! The registrar (RFC 3261 §10.3): who can be reached where, for how long, and along which way.

#[cfg(test)]
mod tests;

use crate::digest::{Authenticator, Verdict};
use crate::message::{NameAddr, Request, Response, Scheme, Uri};
use crate::port::{Account, Config, ConnectionId, Directory, Event, Hop, Transport};
use crate::transaction::Ids;
use crate::transaction::timers::Timers;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Where to send, whatever the contact says: the connection that it came on, or over UDP the address that can be
    /// reached (RFC 5626 §5.3, RFC 3581).
    pub hop: Hop,
    /// Path values in their order (RFC 3327): the Route of what is sent there.
    pub path: Vec<String>,
    /// When it ends.
    pub expires_at: Instant,
    call_id: Box<str>,
    cseq: u32,
    /// `+sip.instance` and `reg-id` (RFC 5626): a phone that has started again replaces its old contact.
    instance: Option<Box<str>>,
}

/// The bounds of registrations.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A shorter registration is refused with 423.
    pub min_expires: Duration,
    /// A longer one is shortened.
    pub max_expires: Duration,
    /// Contacts of one address of record; one more is refused with 403.
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
    next_id: u64,
    bindings: HashMap<u64, Binding>,
    /// Ids by account, oldest first.
    accounts: HashMap<Arc<str>, BTreeSet<u64>>,
    connections: BTreeMap<ConnectionId, BTreeSet<u64>>,
    timers: Timers<u64>,
}

/// A step of a REGISTER that was checked and can be carried out.
enum Change {
    Bind { replaces: Option<u64>, contact: Box<NameAddr>, lasts: Duration },
    Remove(u64),
}

impl Registrar {
    /// An empty registrar.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_id: 0,
            bindings: HashMap::new(),
            accounts: HashMap::new(),
            connections: BTreeMap::new(),
            timers: Timers::default(),
        }
    }

    /// Another bound of contacts, from now on.
    pub fn set_max_contacts(&mut self, max_contacts: usize) {
        self.limits.max_contacts = max_contacts;
    }

    /// Handles a REGISTER from authentication to its answer; changes of an account's contacts go to `events`.
    ///
    /// 401 without the right credentials; 403 for an address of record that isn't the account's, whether it exists or
    /// not; 400 for contacts that can't be read; 423, 403 at the limits; 500 for what comes out of order; else 200
    /// with all contacts of the address of record.
    #[allow(clippy::too_many_arguments)] // one door for the one thing the registrar does
    pub fn register(
        &mut self,
        now: Instant,
        hop: &Hop,
        request: &Request,
        authenticator: &mut Authenticator,
        directory: &dyn Directory,
        ids: &mut Ids,
        events: &mut Vec<Event>,
    ) -> Response {
        let (user, account) = match authenticator.check(now, request, directory) {
            Verdict::Accepted { user, account } => (user, account),
            Verdict::Missing | Verdict::Wrong => return authenticator.challenge(now, ids, request, false),
            Verdict::Stale => return authenticator.challenge(now, ids, request, true),
        };
        let tag = ids.tag();
        let number = request.headers.to().ok().and_then(|to| own_number(&account, &user, &to.uri));
        let Some(number) = number else { return Response::to(request, 403, Some(&tag)) };
        let before = self.count(&account.id);
        let changes = match self.plan(request, &account.id, &number) {
            Ok(changes) => changes,
            Err(status) => return self.refusal(request, status, &tag),
        };
        for change in changes {
            self.carry_out(now, hop, request, &account.id, &number, change);
        }
        let after = self.count(&account.id);
        if before != after {
            events.push(Event::Registration { account: Arc::clone(&account.id), contacts: after });
        }
        self.accepted(now, request, &account.id, &number, &tag)
    }

    /// The contacts of an account for this number, or all of the account if the number has none; best first, of equals
    /// the youngest first.
    #[must_use]
    pub fn contacts(&self, account: &str, number: &str) -> Vec<&Binding> {
        let mut all: Vec<&Binding> = self.of(account).rev().map(|(_, binding)| binding).collect();
        if all.iter().any(|binding| &*binding.number == number) {
            all.retain(|binding| &*binding.number == number);
        }
        all.sort_by_key(|binding| std::cmp::Reverse(binding.q_thousandths));
        all
    }

    /// How many contacts an account has.
    #[must_use]
    pub fn count(&self, account: &str) -> usize {
        self.accounts.get(account).map_or(0, BTreeSet::len)
    }

    /// Whether the account has registered from this way: what else comes from there may be its.
    #[must_use]
    pub fn is_registered_from(&self, account: &str, hop: &Hop) -> bool {
        self.of(account).any(|(_, binding)| {
            binding.hop.transport == hop.transport
                && binding.hop.connection == hop.connection
                && binding.hop.remote == hop.remote
        })
    }

    /// A connection has ended: what was registered on it can't be reached any more.
    pub fn closed(&mut self, connection: ConnectionId, events: &mut Vec<Event>) {
        let lost = self.connections.remove(&connection).unwrap_or_default();
        self.remove_all(lost, events);
    }

    /// Forgets all contacts of an account.
    pub fn forget(&mut self, account: &str, events: &mut Vec<Event>) {
        let lost = self.accounts.get(account).cloned().unwrap_or_default();
        self.remove_all(lost, events);
    }

    /// Removes what has expired.
    pub fn timeout(&mut self, now: Instant, events: &mut Vec<Event>) {
        let mut expired = BTreeSet::new();
        while let Some(id) = self.timers.pop(now) {
            expired.insert(id);
        }
        self.remove_all(expired, events);
    }

    /// When [`Registrar::timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
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

    fn of(&self, account: &str) -> impl DoubleEndedIterator<Item = (u64, &Binding)> {
        let ids = self.accounts.get(account).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.bindings.get(id)?)))
    }

    /// Checks a whole REGISTER before anything of it is done (RFC 3261 §10.3 steps 6 and 7).
    fn plan(&self, request: &Request, account: &str, number: &str) -> Result<Vec<Change>, u16> {
        let contacts = request.headers.contacts().map_err(|_| 400_u16)?;
        let header = request.headers.number("Expires");
        if contacts.iter().any(NameAddr::is_star) {
            if contacts.len() > 1 || header != Some(0) {
                return Err(400);
            }
            let all = self.of(account).filter(|(_, binding)| &*binding.number == number);
            return all
                .map(|(id, binding)| in_order(request, binding).map(|()| Change::Remove(id)))
                .collect();
        }
        let mut changes = Vec::new();
        let mut count = self.of(account).filter(|(_, binding)| &*binding.number == number).count();
        for contact in contacts {
            if !matches!(contact.uri.scheme(), Scheme::Sip | Scheme::Sips) {
                return Err(400);
            }
            let known = self
                .of(account)
                .find(|(_, binding)| &*binding.number == number && is_same(binding, &contact));
            if let Some((_, binding)) = known {
                in_order(request, binding)?;
            }
            let lasts = contact.expires().or(header).map_or(self.limits.max_expires, |seconds| {
                Duration::from_secs(u64::from(seconds)).min(self.limits.max_expires)
            });
            match known {
                Some((id, _)) if lasts.is_zero() => changes.push(Change::Remove(id)),
                None if lasts.is_zero() => {}
                Some(_) | None if lasts < self.limits.min_expires => return Err(423),
                known => {
                    count += usize::from(known.is_none());
                    let replaces = known.map(|(id, _)| id);
                    changes.push(Change::Bind { replaces, contact: Box::new(contact), lasts });
                }
            }
        }
        let removed = changes.iter().filter(|change| matches!(change, Change::Remove(_))).count();
        let grows = changes.iter().any(|change| matches!(change, Change::Bind { replaces: None, .. }));
        // What shrinks is always allowed, even when the limit was lowered.
        if grows && count.saturating_sub(removed) > self.limits.max_contacts { Err(403) } else { Ok(changes) }
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
        account: &Arc<str>,
        number: &Arc<str>,
        change: Change,
    ) {
        let (replaces, contact, lasts) = match change {
            Change::Remove(id) => return self.remove(id),
            Change::Bind { replaces, contact, lasts } => (replaces, contact, lasts),
        };
        let id = replaces.unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id
        });
        self.remove(id);
        let expires_at = now + lasts;
        let path: Vec<String> =
            request.headers.elements("Path").filter_map(Result::ok).map(str::to_owned).collect();
        let binding = Binding {
            account: Arc::clone(account),
            number: Arc::clone(number),
            q_thousandths: contact.q_thousandths(),
            // A proxy that wants to stay in the path sent this request itself.
            hop: if path.is_empty() { reach(hop, &contact.uri) } else { *hop },
            path,
            expires_at,
            call_id: request.headers.call_id().into(),
            cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
            instance: instance(&contact),
            contact: contact.uri,
        };
        if let Some(connection) = binding.hop.connection {
            self.connections.entry(connection).or_default().insert(id);
        }
        self.timers.set(id, None, Some(expires_at));
        self.accounts.entry(Arc::clone(account)).or_default().insert(id);
        self.bindings.insert(id, binding);
    }

    fn accepted(&self, now: Instant, request: &Request, account: &str, number: &str, tag: &str) -> Response {
        let mut response = Response::to(request, 200, Some(tag));
        for (_, binding) in self.of(account).filter(|(_, binding)| &*binding.number == number) {
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

    fn remove(&mut self, id: u64) {
        let Some(binding) = self.bindings.remove(&id) else { return };
        self.timers.set(id, Some(binding.expires_at), None);
        if let Some(ids) = self.accounts.get_mut(&binding.account) {
            ids.remove(&id);
            if ids.is_empty() {
                self.accounts.remove(&binding.account);
            }
        }
        if let Some(connection) = binding.hop.connection
            && let Some(ids) = self.connections.get_mut(&connection)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }

    /// Removes bindings and tells each account's new count once.
    fn remove_all(&mut self, ids: BTreeSet<u64>, events: &mut Vec<Event>) {
        let mut touched = BTreeSet::new();
        for id in ids {
            touched.extend(self.bindings.get(&id).map(|binding| Arc::clone(&binding.account)));
            self.remove(id);
        }
        for account in touched {
            let contacts = self.count(&account);
            events.push(Event::Registration { account, contacts });
        }
    }
}

/// The user of the address of record, if this account may register it.
fn own_number(account: &Account, user: &str, to: &Uri) -> Option<Arc<str>> {
    let wanted = to.user();
    let number = account.numbers.iter().find(|number| ***number == *wanted).cloned();
    number.or_else(|| (wanted == user).then(|| Arc::from(user)))
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

/// The way to a contact. A connection is used again. Over UDP the contact's own address is good when it is the one
/// that the request came from; otherwise there is a NAT between, and only the source can be reached.
fn reach(hop: &Hop, contact: &Uri) -> Hop {
    match (hop.transport, contact.ip()) {
        (Transport::Udp, Some(ip)) if ip == hop.remote.ip() => {
            Hop { remote: SocketAddr::new(ip, contact.port().unwrap_or(5060)), ..*hop }
        }
        (Transport::Udp | Transport::Tcp | Transport::Tls, _) => *hop,
    }
}
