//! CallManager: devices, calls, and all that is SIP. Pure, as the whole node is.
//!
//! It receives requests ([`Ask`]) and sends answers and events ([`Told`]), each in a numbered envelope. Of applications it knows
//! the ids of their sessions alone, not their users, permissions or connections. What the shell is to do, and alarms, it
//! returns to the node ([`Said`]).

mod check;
pub mod directory;
mod media;
mod message_lamps;
mod phones;
pub mod registrations;
mod screening;
pub mod sip_legs;
mod status;

use crate::node::alarms::{self, AlarmState, Definition};
use crate::node::messages::{Ask, Envelope, Place, Receiver, Sender, Told, WholeDevice};
use crate::node::port::{Report, Severity};
use crate::node::settings::Settings;
use device_model::media::KeyRef;
use device_model::port::Event;
use device_model::{CallControl, DeviceName, EndCommand, EndId, Identity, SessionId, Transition};
use directory::{Directory, Gate};
use registrations::Registrations;
use screening::Screening;
use security::shares::{Bound, Shares};
use security::srtp::{KeyCustody, SrtpKey};
use sip::port::ConnectionId;
use sip::{Event as SipEvent, Hop, Stack};
use sip_legs::{Certified, SipLegs};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Devices in one message of those that say all that is open.
const WHOLE_AT_ONCE: usize = 64;

/// The machine of a node's devices and calls, with the SIP below them.
pub(in crate::node) struct CallManager {
    model: CallControl,
    stack: Stack,
    sip_legs: SipLegs,
    directory: Directory,
    registrations: Registrations,
    screening: Screening,
    /// What is still to be told to the model in this step.
    pending: VecDeque<Pending>,
    sip_out: Vec<sip::Output>,
    model_out: Vec<device_model::Output>,
    asked: Receiver,
    telling: Sender,
    /// The keys of the ends' media.
    keys: KeyCustody,
    /// How long they are held when their end is over.
    keys_held: Duration,
    keys_delivered: u64,
}

/// What it is handed with each input: the time, who has used up what, and where it says what follows.
pub(in crate::node) struct Turn<'a> {
    pub(in crate::node) now: Instant,
    pub(in crate::node) wall: SystemTime,
    pub(in crate::node) shares: &'a Shares,
    pub(in crate::node) out: &'a mut Vec<Said>,
}

/// What it says, in the order in which it is to be done.
#[allow(
    clippy::large_enum_variant,
    reason = "most of what is said is told, and each is moved into a list that is kept"
)]
pub(in crate::node) enum Said {
    /// For those who ask.
    Told(Envelope<Told>),
    /// Send a SIP message.
    Send { hop: Hop, bytes: Vec<u8> },
    /// Make a SIP connection.
    Connect(Hop),
    /// Close one.
    Close(ConnectionId),
    /// What somebody's request proved.
    Attempt(sip::Attempt),
    /// What the stack refused.
    Refused(sip::Refused),
    /// A call was refused for want of this share.
    NoShare(Bound),
    /// A line of the log.
    Report(Report),
    /// The record of a change of state.
    Transition(Transition),
    /// Something happened.
    Occurred(&'static Definition, Vec<(&'static str, String)>),
    /// A condition of this key begins or ends.
    Condition {
        alarm: &'static Definition,
        key: String,
        state: AlarmState,
        parameters: Vec<(&'static str, String)>,
    },
    /// To be dropped where nobody waits.
    Discard(Arc<dyn Any + Send + Sync>),
}

enum Pending {
    Sip(SipEvent),
    Model(device_model::Input),
}

impl CallManager {
    pub(in crate::node) fn new(identity: &Identity, settings: &Settings, seed: [u8; 32]) -> Self {
        let mut directory = Directory::default();
        directory.configure(settings);
        let mut registrations = Registrations::default();
        registrations.configure(settings);
        let mut stack = Stack::new(sip_config(settings), seed);
        stack.set_proxies(&settings.config.cluster.sip_proxies);
        Self {
            model: CallControl::new(identity.clone(), settings.plan.clone()),
            stack,
            sip_legs: SipLegs::default(),
            directory,
            registrations,
            screening: Screening::default(),
            pending: VecDeque::new(),
            sip_out: Vec::new(),
            model_out: Vec::new(),
            asked: Receiver::default(),
            telling: Sender::new(identity),
            keys: KeyCustody::default(),
            keys_held: settings.sessions.resume_grace_maximum,
            keys_delivered: 0,
        }
    }

    /// The devices and calls, to be looked at.
    pub(in crate::node) fn devices(&self) -> &CallControl {
        &self.model
    }

    /// How much there is of SIP.
    pub(in crate::node) fn wire(&self) -> sip::Counts {
        self.stack.counts()
    }

    /// Accounts, trunks, and whether new calls are taken.
    pub(in crate::node) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Calls that each rule refused since the start.
    pub(in crate::node) fn refused_calls(&self) -> BTreeMap<&'static str, u64> {
        self.screening.counts()
    }

    /// `a=crypto` lines that were refused since the start, by what was wrong with them.
    pub(in crate::node) fn crypto_lines_refused(&self) -> BTreeMap<&'static str, u64> {
        self.stack.crypto_lines_refused().iter().map(|(fault, count)| (fault.name(), count)).collect()
    }

    /// A key of a stream, and since when it is in use.
    pub(in crate::node) fn key(&self, key: KeyRef) -> Option<(&SrtpKey, Option<SystemTime>)> {
        self.keys.key(key)
    }

    /// A key went out to an application.
    pub(in crate::node) fn key_was_delivered(&mut self) {
        self.keys_delivered += 1;
    }

    /// How often one did.
    pub(in crate::node) fn keys_delivered(&self) -> u64 {
        self.keys_delivered
    }

    /// Ways that registered phones are reached by.
    pub(in crate::node) fn ways(&self) -> impl Iterator<Item = (&Arc<str>, Hop, Instant)> {
        self.stack.ways()
    }

    /// The trunk that a way is, by its address or certificate.
    pub(in crate::node) fn trunk_at(&self, hop: &Hop) -> Option<Arc<str>> {
        self.directory.trunk(hop).map(|trunk| trunk.name)
    }

    /// Until when a connection is a phone's, if it still is.
    pub(in crate::node) fn held_until(
        &self,
        now: Instant,
        device: &str,
        connection: ConnectionId,
    ) -> Option<Instant> {
        self.stack.held_until(now, Some(device), connection)
    }

    /// Whose contact a connection leads to that we have made, and until when.
    pub(in crate::node) fn dialled_for(&self, hop: &Hop) -> Option<(&Arc<str>, Instant)> {
        self.stack.dialled_for(hop)
    }

    /// Whether contacts are being let go of.
    pub(in crate::node) fn is_losing(&self) -> bool {
        self.stack.is_losing()
    }

    /// Whether nothing goes on: no call, no leg, no transaction.
    pub(in crate::node) fn is_quiet(&self) -> bool {
        self.sip_legs.is_empty() && self.model.is_quiet() && self.stack.is_quiet()
    }

    /// Whether all that was sent is acknowledged.
    pub(in crate::node) fn is_settled(&self) -> bool {
        self.stack.is_settled()
    }

    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        let keys = self.keys.next_expiry(self.keys_held);
        let rooms =
            [self.stack.next_timeout(), self.model.next_timeout(), self.screening.next_timeout(), keys];
        rooms.into_iter().flatten().min()
    }

    pub(in crate::node) fn set_time(&mut self, wall: SystemTime) {
        self.stack.set_time(wall);
    }

    /// The peer of a connection has shown this certificate.
    pub(in crate::node) fn certify(&mut self, connection: ConnectionId, certified: Certified) {
        self.directory.certify(connection, certified);
    }

    /// How far behind the shell is. True when this changed whether new calls are taken.
    pub(in crate::node) fn set_pressure(&mut self, age: Duration) -> bool {
        self.directory.set_pressure(age)
    }

    /// From now on no new call is taken.
    pub(in crate::node) fn drain(&mut self) {
        self.directory.drain();
    }

    /// Other accounts and trunks, and other bounds of signalling.
    pub(in crate::node) fn configure(&mut self, settings: &Settings) {
        self.directory.configure(settings);
        self.registrations.configure(settings);
        self.keys_held = settings.sessions.resume_grace_maximum;
        let bounds = sip_config(settings);
        self.stack.set_bounds(
            bounds.max_calls,
            bounds.max_transactions,
            bounds.max_bytes_per_address,
            bounds.max_contacts,
            bounds.max_expires,
        );
        self.stack.set_proxies(&settings.config.cluster.sip_proxies);
        self.stack.set_dialog_limits(bounds.session_expires, bounds.max_dialog_requests_per_second);
    }

    /// Closes the connections whose peer's certificate is taken back. The handshake refuses it from now on.
    pub(in crate::node) fn dismiss_peers(&mut self, turn: &mut Turn<'_>, settings: &Settings) {
        for (connection, certified) in self.directory.revoked(settings) {
            self.directory.forget(connection);
            let name = certified.names.into_iter().next().unwrap_or_default();
            let parameters = vec![("subject", name), ("serial", certified.serial.to_string())];
            turn.out.push(Said::Occurred(&crate::node::alarms::SIP_CERTIFICATE_REVOKED, parameters));
            turn.out.push(Said::Close(connection));
        }
    }

    /// Takes what is asked. The answer may come in this turn or in a later one.
    pub(in crate::node) fn asked(&mut self, turn: &mut Turn<'_>, envelope: Envelope<Ask>) {
        let (ask, gap) = self.asked.take(envelope);
        if let Some(gap) = gap {
            debug_assert!(false, "within one process no request is lost: {gap:?}");
            turn.out.push(Said::Report(gap.report()));
        }
        match ask {
            Ask::Request { session, token, owner, request } => {
                self.update_phones_of(turn, &request);
                self.model(turn, device_model::Input::Request { session, token, owner, request });
            }
            Ask::Whole { round } => self.say_whole(turn, round),
        }
    }

    /// All that is open, as it is once what is new by the plan in force is told of it.
    fn say_whole(&mut self, turn: &mut Turn<'_>, round: u64) {
        let mut names = BTreeSet::new();
        for session in self.model.opening_sessions() {
            let mut last = None;
            while let Some(name) = self.model.next_opened(session, last) {
                names.insert(name.clone());
                last = Some(name);
            }
        }
        for name in names.iter().filter(|_| self.model.unsettled().is_some()).cloned().collect::<Vec<_>>() {
            self.model(turn, device_model::Input::SettleDevice(name));
        }
        let whole = |name: &DeviceName| {
            let openers: Arc<[SessionId]> = self.model.openers(name).into();
            let device = self.model.device(name).filter(|_| !openers.is_empty())?;
            let (media, legs) = (self.model.media(name).cloned(), self.model.whole_legs(name));
            Some(WholeDevice { device, openers, media, legs })
        };
        let mut whole: Vec<WholeDevice> = names.iter().filter_map(whole).collect();
        while whole.len() > WHOLE_AT_ONCE {
            let rest = whole.split_off(WHOLE_AT_ONCE);
            let devices = std::mem::replace(&mut whole, rest);
            self.tell(turn, Told::Whole { round, devices, place: Place::More });
        }
        self.tell(turn, Told::Whole { round, devices: whole, place: Place::Last });
    }

    /// Hands an input to the SIP stack; its events wait for [`CallManager::settle_one`].
    pub(in crate::node) fn sip(&mut self, turn: &mut Turn<'_>, input: sip::Input) {
        if let sip::Input::Closed(Hop { connection: Some(connection), .. }) = &input {
            self.directory.forget(*connection);
        }
        let mut said = std::mem::take(&mut self.sip_out);
        let gate = Gate { directory: &self.directory, shares: turn.shares, model: &self.model };
        self.stack.handle(turn.now, input, &gate, &mut said);
        for output in said.drain(..) {
            match output {
                sip::Output::Send { hop, bytes } => turn.out.push(Said::Send { hop, bytes }),
                sip::Output::Connect(hop) => turn.out.push(Said::Connect(hop)),
                sip::Output::Close(connection) => turn.out.push(Said::Close(connection)),
                sip::Output::Refused(refused) => turn.out.push(Said::Refused(refused)),
                sip::Output::Attempt(attempt) => turn.out.push(Said::Attempt(attempt)),
                sip::Output::Event(event) => self.pending.push_back(Pending::Sip(event)),
                sip::Output::Keep(record) => self.registrations.keep(turn, record),
                sip::Output::SecureMediaRefused { peer, reason } => {
                    let parameters = vec![("device", peer.to_string()), ("reason", reason.name().into())];
                    turn.out.push(Said::Occurred(&alarms::SECURE_MEDIA_REFUSED, parameters));
                }
            }
        }
        self.sip_out = said;
    }

    /// An account that is gone loses its contacts.
    pub(in crate::node) fn forget_account(&mut self, turn: &mut Turn<'_>, account: Arc<str>) {
        self.sip(turn, sip::Input::Command(sip::Command::ForgetAccount(account)));
    }

    /// Lets go of so many more contacts that were lost together.
    pub(in crate::node) fn let_go(&mut self, turn: &mut Turn<'_>, contacts: usize) {
        self.sip(turn, sip::Input::Command(sip::Command::LetGo(contacts)));
    }

    /// Hands an input to the model and carries out what it says, in its order.
    pub(in crate::node) fn model(&mut self, turn: &mut Turn<'_>, input: device_model::Input) {
        let mut said = std::mem::take(&mut self.model_out);
        self.model.handle(turn.now, input, &mut said);
        for output in said.drain(..) {
            match output {
                device_model::Output::End(end, command) => self.command(turn, end, command),
                device_model::Output::Reply(session, token, result) => {
                    self.tell(turn, Told::Answer { session, token, result });
                }
                device_model::Output::Event(sessions, event) => {
                    self.use_key(turn.wall, &event);
                    self.tell(turn, Told::Event { sessions, event });
                }
                device_model::Output::Hidden(event) => {
                    self.use_key(turn.wall, &event);
                    self.tell(turn, Told::Hidden(event));
                }
                device_model::Output::MessageLamp { dn, lamp, phones } => {
                    self.switch_lamps(turn, &dn, lamp, &phones);
                }
                device_model::Output::Limit(limit) => self.tell(turn, Told::Limit(limit)),
                device_model::Output::News(news) => self.tell(turn, Told::Directory(news)),
                device_model::Output::Refused(refused) => self.screening.refused(turn, &refused),
                device_model::Output::Transition(record) => turn.out.push(Said::Transition(record)),
                device_model::Output::Contradiction(found) => turn.out.push(Said::Report(mistaken(&found))),
                device_model::Output::Discard(what) => turn.out.push(Said::Discard(what)),
            }
        }
        self.model_out = said;
    }

    /// A stream runs with a key from now on.
    fn use_key(&mut self, now: SystemTime, event: &Event) {
        if let Event::MediaStarted(_, stream) | Event::KeyChanged(_, stream) = event
            && let Some(key) = stream.key
        {
            self.keys.used(key, now);
        }
    }

    fn tell(&mut self, turn: &mut Turn<'_>, told: Told) {
        turn.out.push(Said::Told(self.telling.send(turn.wall, told)));
    }

    /// The next thing that waits for the model; false when there is none.
    pub(in crate::node) fn settle_one(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(pending) = self.pending.pop_front() else { return false };
        let input = match pending {
            Pending::Model(input) => Some(input),
            Pending::Sip(event) => self.sip_event(event),
        };
        self.let_keys_go(turn.now);
        if let Some(input) = input {
            self.update_phones_before(turn, &input);
            self.model(turn, input);
        }
        true
    }

    pub(in crate::node) fn sip_timeouts(&mut self, turn: &mut Turn<'_>) {
        if self.stack.next_timeout().is_some_and(|at| at <= turn.now) {
            self.sip(turn, sip::Input::Timeout);
        }
    }

    pub(in crate::node) fn model_timeouts(&mut self, turn: &mut Turn<'_>) {
        self.keys.expire(turn.now, self.keys_held);
        if self.model.next_timeout().is_some_and(|at| at <= turn.now) {
            self.model(turn, device_model::Input::Timeout);
        }
    }

    /// Ends the alarms of trunks of which nothing was refused for a while.
    pub(in crate::node) fn trunks_have_room(&mut self, turn: &mut Turn<'_>) {
        self.screening.trunks_have_room(turn);
    }

    fn command(&mut self, turn: &mut Turn<'_>, end: EndId, command: EndCommand) {
        let placed = matches!(command, EndCommand::Call { .. });
        let hops = if placed { self.hops_left(end) } else { sip_legs::MAX_FORWARDS };
        let directory = &self.directory;
        let encryption = |name: &str| directory.media_encryption(name);
        let command = self.sip_legs.command(end, command, |trunk| directory.peer(trunk), encryption, hops);
        self.let_keys_go(turn.now);
        match command {
            Ok(Some(command)) => self.sip(turn, sip::Input::Command(command)),
            Ok(None) => {}
            Err(no_way) => {
                let input = device_model::Input::Signal(end, no_way.into());
                self.pending.push_back(Pending::Model(input));
            }
        }
    }

    /// The keys of calls that are over are held for those who come back to their sessions, and no longer.
    fn let_keys_go(&mut self, now: Instant) {
        for end in self.sip_legs.take_over() {
            self.keys.end(now, end);
        }
    }

    /// An end that we place for a call from outside has one hop less than that call had (RFC 3261 §16.6).
    fn hops_left(&self, end: EndId) -> u8 {
        let inherited = self.model.ends_beside(end).filter_map(|sibling| self.sip_legs.hops(sibling)).min();
        inherited.map_or(sip_legs::MAX_FORWARDS, |hops| hops.saturating_sub(1))
    }

    fn sip_event(&mut self, event: SipEvent) -> Option<device_model::Input> {
        let (directory, model) = (&self.directory, &mut self.model);
        self.sip_legs.event(
            event,
            |account, number| directory.is_line(account, number),
            || model.new_end_id(),
            &mut self.keys,
        )
    }
}

/// A mistake of the program, which the model has survived.
fn mistaken(found: &device_model::Contradiction) -> Report {
    let parameters = vec![
        ("what", found.what.to_owned()),
        ("where", format!("{}:{}", found.file, found.line)),
        ("times", found.times.to_string()),
    ];
    Report { name: "ModelContradiction", severity: Severity::Warning, parameters }
}

fn sip_config(settings: &Settings) -> sip::Config {
    sip::Config {
        realm: settings.cluster.clone(),
        product: concat!("ctimanager/", env!("CARGO_PKG_VERSION")).into(),
        listen: settings.sip_listen.clone(),
        advertised: Arc::clone(&settings.advertised),
        session_expires: settings.signalling.session_expires,
        min_session_expires: Duration::from_secs(90),
        min_expires: Duration::from_secs(60),
        max_expires: settings.signalling.registration_expiry_maximum,
        max_contacts: settings.signalling.max_contacts,
        max_transactions: settings.signalling.max_transactions,
        max_dialog_requests_per_second: settings.signalling.dialog_requests_per_second,
        max_bytes_per_address: settings.signalling.max_bytes_per_address,
        max_calls: settings.plan.parameters.max_legs as usize,
        max_subscriptions: 20_000,
        max_subscriptions_per_account: 128,
        t1: Duration::from_millis(500),
    }
}
