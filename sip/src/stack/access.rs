//! Who may come in: registrations, digest, trunks.

use super::door::{Proved, Visitor};
use super::{Slot, Stack};
use crate::dialog::{Dialog, DialogId, Reach};
use crate::digest::{Ask, Authenticator, NONCE_LIFETIME, Verdict};
use crate::invite::{Server, Target};
use crate::message::{Request, Response, Uri};
use crate::port::{
    Account, Attempt, ConnectionId, Directory, Hop, KeptBinding, Outcome, Output, Proof, Source, Transport,
};
use crate::registrar::{Binding, Newcomer, same_host};
use crate::transaction::{Challenged, ClientId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// How long where a trunk's INVITE came from counts as the trunk's.
const TRUNK_KNOWN: Duration = Duration::from_secs(3_600);
/// How long a connection is an account's for a call that goes over it, before it is looked at again.
const CALL_HOLDS: Duration = Duration::from_secs(30);
/// Of what somebody calls himself so much is told.
const MAX_AGENT_CHARS: usize = 64;

/// Digest, which counts its time from the first request that needs it.
pub(super) struct Access {
    realm: Arc<str>,
    key: Zeroizing<[u8; 32]>,
    authenticator: Option<Authenticator>,
    /// By what the log says that a trunk is known; bounded by the trunks that were ever configured.
    known: HashMap<Arc<str>, Proof>,
    /// When the log last said that somebody at a trunk's address is not the trunk.
    last_kept_out: Option<Instant>,
}

/// The log says no more often that somebody at a trunk's address was not let in.
const KEPT_OUT_EVERY: Duration = Duration::from_secs(1);

impl Access {
    /// `key` is secret and random: the nonces are made with it.
    pub fn new(realm: Arc<str>, key: [u8; 32]) -> Access {
        let (known, last_kept_out) = (HashMap::new(), None);
        Access { realm, key: Zeroizing::new(key), authenticator: None, known, last_kept_out }
    }

    /// Says by what a trunk is known, when that is other than before.
    fn let_in(&mut self, trunk: &Arc<str>, by: Proof, hop: &Hop) {
        if self.known.insert(trunk.clone(), by) != Some(by) {
            let (from, transport) = (hop.remote, hop.transport);
            tracing::info!(%trunk, %from, ?transport, %by, "a trunk is known");
        }
    }

    /// A trunk may have been configured otherwise than it is, or somebody tries to be it.
    fn kept_out(&mut self, now: Instant, trunk: &str, hop: &Hop) {
        let recent = |last: Instant| now.saturating_duration_since(last) < KEPT_OUT_EVERY;
        if self.last_kept_out.is_some_and(recent) {
            return;
        }
        self.last_kept_out = Some(now);
        let (from, transport) = (hop.remote, hop.transport);
        let wanted = match transport {
            Transport::Udp | Transport::Tcp => "its port or source_port, or its digest",
            Transport::Tls => "a certificate with its name, or its digest",
        };
        tracing::warn!(%trunk, %from, ?transport, wanted, "somebody at a trunk's address is not known as the trunk");
    }

    pub fn authenticator(&mut self, now: Instant) -> &mut Authenticator {
        self.authenticator.get_or_insert_with(|| Authenticator::new(self.realm.clone(), *self.key, now))
    }
}

impl Stack {
    /// Who sent a new INVITE: a trunk by where it comes from, a phone by its password. A phone that is not registered
    /// may not call: nobody could call it back. The refusal is for sending without a transaction.
    pub(super) fn source_of(
        &mut self,
        visitor: Visitor<'_>,
        out: &mut Vec<Output>,
    ) -> Result<Proved, Box<Response>> {
        let Visitor { now, hop, request, directory } = visitor;
        if let Some(trunk) = self.trunk_at(visitor, out) {
            return Ok(Proved::Caller(trunk));
        }
        let (user, account) = self.digest(visitor, out).inspect_err(|_| {
            if let Some(trunk) = directory.trunk_of_address(hop) {
                self.access.kept_out(now, &trunk, hop);
            }
        })?;
        self.registrar.update(&account.id, out);
        let proved = if self.registrar.count(&account.id) > 0 {
            Proved::Caller(Source::Account(Arc::clone(&account.id)))
        } else if directory.is_trunk(&account.id) {
            self.access.let_in(&account.id, Proof::Digest, hop);
            Proved::Caller(Source::Trunk(Arc::clone(&account.id)))
        } else {
            Proved::Unregistered
        };
        if let Proved::Caller(source) = &proved {
            let known = self.known_until(now, &account.id, hop).max(now + CALL_HOLDS);
            let outcome = Outcome::Right(source.clone(), known);
            out.push(Output::Attempt(attempt(hop, request, Some(user), outcome)));
        }
        Ok(proved)
    }

    /// The registered account that a request's digest proves; `None`: nobody is registered there.
    pub(super) fn registered(
        &mut self,
        visitor: Visitor<'_>,
        out: &mut Vec<Output>,
    ) -> Result<Option<Account>, Box<Response>> {
        let Visitor { now, hop, request, .. } = visitor;
        let (user, account) = self.digest(visitor, out)?;
        self.registrar.update(&account.id, out);
        if self.registrar.count(&account.id) == 0 {
            return Ok(None);
        }
        let outcome = Outcome::Right(
            Source::Account(Arc::clone(&account.id)),
            self.known_until(now, &account.id, hop).max(now + CALL_HOLDS),
        );
        out.push(Output::Attempt(attempt(hop, request, Some(user), outcome)));
        Ok(Some(account))
    }

    /// The trunk that a request's address proves.
    pub(super) fn trunk_at(&mut self, visitor: Visitor<'_>, out: &mut Vec<Output>) -> Option<Source> {
        let Visitor { now, hop, request, directory } = visitor;
        let trunk = directory.trunk(hop)?;
        self.access.let_in(&trunk.name, trunk.by, hop);
        let source = Source::Trunk(trunk.name);
        let outcome = Outcome::Right(source.clone(), now + TRUNK_KNOWN);
        out.push(Output::Attempt(attempt(hop, request, None, outcome)));
        Some(source)
    }

    /// The account whose password a request knows, or the answer to it: a challenge, the same for all who don't know one.
    pub(super) fn digest(
        &mut self,
        visitor: Visitor<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(String, Account), Box<Response>> {
        let Visitor { now, hop, request, directory } = visitor;
        let authenticator = self.access.authenticator(now);
        let (ask, failed) = match authenticator.check(now, request, hop, directory) {
            Verdict::Accepted { user, account } => return Ok((user, account)),
            Verdict::OtherUri => {
                return Err(Box::new(Response::to(request, 400, None).with_phrase("Digest URI Mismatch")));
            }
            Verdict::Missing => (Ask::Password, None),
            Verdict::Stale => (Ask::NewNonce, None),
            Verdict::Wrong { user, known: true } => (Ask::Password, Some((user, Outcome::WrongPassword))),
            Verdict::Wrong { user, known: false } => (Ask::Password, Some((user, Outcome::UnknownAccount))),
            Verdict::PutOff { user } => (Ask::Password, Some((user, Outcome::PutOff))),
        };
        if let Some((user, outcome)) = failed {
            out.push(Output::Attempt(attempt(hop, request, Some(user), outcome)));
        }
        Err(Box::new(authenticator.challenge(now, self.core.transactions.ids(), request, hop, ask)))
    }

    /// How long what comes from where an account has just proved itself counts as its own.
    fn known_until(&self, now: Instant, account: &str, hop: &Hop) -> Instant {
        if let Some(connection) = hop.connection {
            return self.held_until(now, Some(account), connection).unwrap_or(now);
        }
        let bindings = self.registrar.contacts(account, "");
        let end = bindings.iter().map(|binding| binding.expires_at).max();
        end.unwrap_or(now).max(now + NONCE_LIFETIME)
    }

    /// Until when a connection is somebody's: while something is registered on it, or a call of this account goes over it.
    /// Ask again then. `None`: its place is wanted for others.
    #[must_use]
    pub fn held_until(
        &self,
        now: Instant,
        account: Option<&str>,
        connection: ConnectionId,
    ) -> Option<Instant> {
        let registered = self.registrar.registered_on(connection).filter(|until| *until > now);
        registered.or_else(|| {
            let calls = self.by_account.get(account?)?;
            let goes_over = |slot: &Slot| slot.session.goes_over(connection);
            let held = calls.iter().filter_map(|call| self.sessions.get(call)).any(goes_over);
            held.then(|| now + CALL_HOLDS)
        })
    }

    /// Whose registered contact a connection that we have made leads to, and until when.
    #[must_use]
    pub fn dialled_for(&self, hop: &Hop) -> Option<(&Arc<str>, Instant)> {
        self.registrar.dialled_at(hop)
    }

    /// Says that nothing is registered on a connection any more, so that it doesn't keep the place of a phone for ever.
    pub(super) fn tell_released(&mut self, now: Instant, out: &mut Vec<Output>) {
        for (account, hop) in self.registrar.released() {
            let open = |connection: &ConnectionId| {
                self.core.connections.contains(connection)
                    && self.registrar.registered_on(*connection).is_none()
            };
            let Some(connection) = hop.connection.filter(open) else { continue };
            let until = self.held_until(now, Some(&account), connection).unwrap_or(now);
            let outcome = Outcome::Right(Source::Account(account), until);
            out.push(Output::Attempt(Attempt { hop, user: None, agent: String::new(), outcome }));
        }
    }

    /// Sends a request again with our credentials, if we have any at the peer that it was sent to. A peer that refuses
    /// them is not asked again, but once more where it only says that their nonce was too old and names a new one.
    pub(super) fn answer_challenge(
        &mut self,
        now: Instant,
        client: ClientId,
        response: &Response,
        Challenged { hop, mut request, renewed }: Challenged,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) -> bool {
        let proof = if response.status == 407 { "Proxy-Authorization" } else { "Authorization" };
        let again = request.headers.get(proof).is_some();
        if self.core.abandoned.contains_key(&client) || (again && renewed) {
            return false;
        }
        let Some(login) = directory.login(&hop) else { return false };
        let cnonce = self.core.transactions.ids().tag();
        if !login.answer(&response.headers, response.status, &mut request, &cnonce) {
            return false;
        }
        let id = DialogId {
            call_id: request.headers.call_id().into(),
            local_tag: request.headers.from_tag().unwrap_or("").into(),
        };
        let mut call = self.core.dialogs.get(&id).and_then(|call| self.sessions.get_mut(call));
        let used = request.headers.cseq().map_or(0, |cseq| cseq.number);
        let peer_tag = request.headers.to_tag().unwrap_or("").to_owned();
        // A call that is over counts no further: this is its BYE.
        let cseq = call
            .as_mut()
            .and_then(|slot| slot.session.next_cseq(client, &id, &peer_tag))
            .unwrap_or_else(|| used.wrapping_add(1));
        request.headers.set("CSeq", format!("{cseq} {}", request.method));
        let next = self.core.transactions.request(now, hop, request, out);
        if again || renewed {
            self.core.transactions.set_renewed(next);
        }
        if let Some(slot) = call {
            slot.session.sent_again(client, next, cseq);
        }
        if let Some(handle) = self.core.clients.remove(&client) {
            self.core.clients.insert(next, handle);
        }
        true
    }

    /// Whether it was accepted.
    pub(super) fn register(
        &mut self,
        now: Instant,
        server: &Server,
        user: &str,
        account: &Account,
        out: &mut Vec<Output>,
    ) -> bool {
        self.registrar.update(&account.id, out);
        let mut news = Vec::new();
        let ids = self.core.transactions.ids();
        let (hop, request) = (&server.hop, &server.request);
        let (mut response, newcomers) =
            self.registrar.register(now, hop, request, user, account, ids, &mut news);
        let accepted = response.status == 200;
        if let Some(date) = self.wall.filter(|_| accepted).and_then(date) {
            response.headers.push("Date", date);
        }
        let until = self.known_until(now, &account.id, hop);
        let outcome = Outcome::Right(Source::Account(Arc::clone(&account.id)), until);
        out.push(Output::Attempt(attempt(hop, request, Some(user.to_owned()), outcome)));
        self.cx(now, out).respond(server, response);
        out.extend(news);
        for newcomer in &newcomers {
            self.ask_after(now, newcomer, out);
        }
        accepted
    }

    /// A phone that has started again, or another of its account, registered: calls of an earlier life, ringing ones too, of
    /// which the phone knows nothing any more, end when they are asked after. Who still knows them answers, at most from its new place.
    fn ask_after(&mut self, now: Instant, newcomer: &Newcomer, out: &mut Vec<Output>) {
        let calls = self.by_account.get(&newcomer.account).cloned().unwrap_or_default();
        for handle in calls {
            self.with_session(now, handle, out, |session, cx| {
                Some(session.ask_after(cx, |dialog| way_to(dialog, newcomer)))
            });
        }
    }

    /// Everybody to be called for a number of an account.
    pub(super) fn contacts(&self, account: &str, number: &str) -> Vec<Target> {
        self.registrar.contacts(account, number).into_iter().map(target).collect()
    }

    pub(super) fn forget_account(&mut self, now: Instant, account: &str, out: &mut Vec<Output>) {
        self.registrar.forget(account, out);
        self.subscriptions.changed_for(now, account);
    }

    pub(super) fn restore(&mut self, now: Instant, kept: Vec<(u64, KeptBinding)>, out: &mut Vec<Output>) {
        for (id, binding) in kept {
            self.registrar.restore(now, id, binding, out);
        }
    }
}

/// Along which way a dialog is to be asked after; `None`: it is another phone's. A contact that was replaced is the same
/// phone at its new place; who shares but the address is asked where it was.
fn way_to(dialog: &Dialog, newcomer: &Newcomer) -> Option<Option<Hop>> {
    let at = |hop: &Hop| (hop.transport, hop.remote);
    let is_its = |(contact, hop): &(Uri, Hop)| {
        dialog.target().same_resource(contact) || at(dialog.peer_hop()) == at(hop)
    };
    if dialog.target().same_resource(&newcomer.contact) || newcomer.replaced.iter().any(is_its) {
        return Some(Some(newcomer.hop));
    }
    same_host(dialog.peer_hop().remote.ip(), newcomer.hop.remote.ip()).then_some(None)
}

/// RFC 3261 §20.17; none beyond what the format can say.
fn date(wall: SystemTime) -> Option<String> {
    /// The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    let since = wall.duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() <= LAST).then(|| httpdate::fmt_http_date(wall))
}

fn attempt(hop: &Hop, request: &Request, user: Option<String>, outcome: Outcome) -> Attempt {
    let agent = request.headers.get("User-Agent").unwrap_or("");
    Attempt { hop: *hop, user, agent: agent.chars().take(MAX_AGENT_CHARS).collect(), outcome }
}

fn target(binding: &Binding) -> Target {
    Target {
        uri: binding.contact.clone(),
        hop: binding.hop,
        routes: binding.path.clone(),
        reach: Reach::AsItCame,
    }
}
