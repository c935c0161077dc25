//! The node: composes `sip`, `device-model`, `security` and `protocol`. Pure: no socket, no clock, no lock.
//!
//! [`Node::handle`] takes one input and carries it as far as it goes: what the SIP stack says becomes an input of the
//! model, what the model says becomes commands of the stack and frames of sessions, until nothing is left to do.

mod admin;
pub mod alarms;
mod applications;
mod bridge;
mod certificates;
mod check;
mod credentials;
mod directory;
mod hearing;
mod keeping;
pub mod kept;
mod media;
mod methods;
mod open;
mod pages;
mod phones;
pub mod port;
mod portions;
pub mod registrations;
mod reload;
mod restore;
mod screening;
mod settings;
mod shares;
mod status;
mod unopened;

pub use bridge::{Certified, PeerProof, TrunkPeer};
pub use directory::Accounts;
pub use port::{
    AdminRequest, AdminToken, CtiConnection, CtiTransport, Frame, Input, Output, Report, Severity,
};
pub use reload::Switch;
pub use settings::{SessionParameters, Settings, SignallingParameters, Surroundings, shares_of};

use applications::Applications;
use bridge::Bridge;
use device_model::plan::Identity;
use device_model::port::Limit;
use device_model::{CallControl, EndCommand, EndId, SessionId};
use directory::Directory;
use keeping::Keeping;
use protocol::event::CloseReason;
use rand::SeedableRng;
use rand::rngs::StdRng;
use screening::Screening;
use sip::{Event as SipEvent, Stack};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a stopping node waits for its last messages to be acknowledged.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// A node of the cluster, without its sockets and its clock.
pub struct Node {
    settings: Arc<Settings>,
    model: CallControl,
    stack: Stack,
    bridge: Bridge,
    directory: Directory,
    applications: Applications,
    alarms: alarms::Alarms,
    expiries: certificates::Expiries,
    old_passwords: credentials::OldPasswords,
    keeping: Keeping,
    registrations: registrations::Registrations,
    portions: portions::Portions,
    pages: pages::Pages,
    screening: Screening,
    random: StdRng,
    started: Option<SystemTime>,
    /// The shell has heard of the ways that are known without a message.
    ways_told: bool,
    /// What is still to be told to the model in this step.
    pending: VecDeque<Pending>,
    sip_out: Vec<sip::Output>,
    model_out: Vec<device_model::Output>,
    /// Whether every event is held against the permission decision, and what was found.
    witness: hearing::Witness,
    /// Set when the node ends: until then it waits for the wire to fall silent.
    stopping: Option<Instant>,
    stopped: bool,
}

/// One input on its way, with its time.
struct Step<'a> {
    now: Instant,
    wall: SystemTime,
    out: &'a mut Vec<Output>,
}

enum Pending {
    Sip(SipEvent),
    Model(device_model::Input),
}

impl Node {
    /// A node that has not heard anything yet.
    ///
    /// `seed` is all the randomness that it will ever use; `incarnation` makes its ids differ from those of its earlier
    /// lives and of other nodes.
    #[must_use]
    pub fn new(settings: Arc<Settings>, seed: [u8; 32], incarnation: u32) -> Self {
        let mut random = StdRng::from_seed(seed);
        let mut stack_seed = [0; 32];
        rand::Rng::fill_bytes(&mut random, &mut stack_seed);
        // The top bit of an id tells whose it is (`sip::CallHandle`).
        let identity = Identity { node: settings.node.clone(), incarnation: incarnation & 0x007f_ffff };
        let mut directory = Directory::default();
        directory.configure(settings.accounts.clone(), settings.trunks.iter().cloned());
        let mut stack = Stack::new(sip_config(&settings), stack_seed);
        stack.set_proxies(&settings.config.cluster.sip_proxies);
        settings.set_shares(&mut directory.shares);
        Self {
            model: CallControl::new(identity, settings.plan.clone()),
            stack,
            bridge: Bridge::default(),
            directory,
            applications: Applications::new(),
            alarms: alarms::Alarms::default(),
            expiries: certificates::Expiries::default(),
            old_passwords: credentials::OldPasswords::default(),
            keeping: Keeping::default(),
            registrations: registrations::Registrations::default(),
            portions: portions::Portions::default(),
            pages: pages::Pages::default(),
            screening: Screening::default(),
            random,
            started: None,
            ways_told: false,
            pending: VecDeque::new(),
            sip_out: Vec::new(),
            model_out: Vec::new(),
            witness: hearing::Witness::default(),
            stopping: None,
            stopped: false,
            settings,
        }
    }

    /// Takes one input; what is to be done for it is appended to `out`, in order.
    pub fn handle(&mut self, now: Instant, wall: SystemTime, input: Input, out: &mut Vec<Output>) {
        let begin = out.len();
        let mut step = Step { now, wall, out };
        self.alarms.set_time(wall);
        self.stack.set_time(wall);
        if self.started.is_none() {
            self.started = Some(wall);
            self.look_at_certificates(&mut step);
        }
        // What an earlier life has left comes before the shell runs: nobody would hear it.
        if !self.ways_told && !matches!(input, Input::Restored(..) | Input::Registrations(_)) {
            self.ways_told = true;
            self.know_trunks(&mut step);
            self.know_phones(&mut step);
        }
        match input {
            Input::Sip { hop, bytes } => self.sip(&mut step, sip::Input::Received { hop, bytes }),
            Input::Refused(news) => self.shell_refused(&mut step, news),
            Input::SipCertified(connection, certified) => self.directory.certify(connection, certified),
            Input::SipClosed(hop) => {
                if let Some(connection) = hop.connection {
                    self.directory.forget(connection);
                }
                self.sip(&mut step, sip::Input::Closed(hop));
            }
            Input::SipUnreachable(hop) => self.sip(&mut step, sip::Input::Unreachable(hop)),
            Input::SipUndelivered { hop, quoted } => {
                self.sip(&mut step, sip::Input::Undelivered { hop, quoted });
            }
            Input::CtiOpened { connection, peer, transport } => {
                self.application_connected(&mut step, connection, peer, transport);
            }
            Input::CtiFrame(connection, bytes) => self.application_frame(&mut step, connection, &bytes),
            Input::CtiLineTooLong(connection) => {
                self.application_line_too_long(&mut step, connection);
            }
            Input::CtiClosed(connection) => self.application_gone(&mut step, connection),
            Input::CtiOverflow(connection) => self.application_overflow(&mut step, connection),
            Input::CtiBehind(connection, behind) => self.application_behind(&step, connection, behind),
            Input::PasswordChecked(connection, matches) => {
                self.password_checked(&mut step, connection, matches);
            }
            Input::PasswordBusy(connection) => self.password_busy(&mut step, connection),
            Input::Configure(switch) => self.configure(&mut step, *switch),
            Input::Restored(kept, damage) => self.restore(&mut step, *kept, damage),
            Input::Registrations(news) => self.registration_news(&mut step, news),
            Input::StoreLost(reason) => self.store_lost(&mut step, reason),
            Input::StoreReady => self.store_ready(&mut step),
            Input::Admin(token, request) => self.administer(&mut step, token, request),
            Input::Pressure(age) => self.pressed(&mut step, age),
            Input::Stop => self.stop(&mut step),
            Input::Timeout => self.timeouts(&mut step),
        }
        self.settle(&mut step);
        self.flush(&mut step);
        self.look_for_work(&step);
        self.say_records(&mut step, begin);
        self.say_registrations(&mut step, begin);
        self.finish(&mut step);
    }

    /// When [`Input::Timeout`] is wanted.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let rooms = [
            self.stack.next_timeout(),
            self.model.next_timeout(),
            self.applications.next_timeout(),
            self.expiries.next_timeout(),
            self.old_passwords.next_timeout(),
            self.alarms.next_timeout(),
            self.portions.next_timeout(),
            self.pages.next_timeout(),
            self.directory.shares.next_timeout(),
            self.screening.next_timeout(),
        ];
        rooms.into_iter().chain([self.stopping.filter(|_| !self.stopped)]).flatten().min()
    }

    /// Whether nothing goes on: no call, no leg, no transaction.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.bridge.is_empty() && self.model.is_quiet() && self.stack.is_quiet()
    }

    fn timeouts(&mut self, step: &mut Step<'_>) {
        if self.stack.next_timeout().is_some_and(|at| at <= step.now) {
            self.sip(step, sip::Input::Timeout);
        }
        if self.model.next_timeout().is_some_and(|at| at <= step.now) {
            self.model(step, device_model::Input::Timeout);
        }
        self.application_timeouts(step);
        self.page_timeouts(step);
        self.portion_timeouts(step);
        self.alarm_timeouts(step);
        self.certificate_timeouts(step);
        self.close_old_passwords(step);
        self.share_timeouts(step);
        self.trunks_have_room(step);
    }

    /// Hands an input to the SIP stack; its events wait until the present statement of the model is carried out.
    fn sip(&mut self, step: &mut Step<'_>, input: sip::Input) {
        let mut said = std::mem::take(&mut self.sip_out);
        self.stack.handle(step.now, input, &self.directory, &mut said);
        for output in said.drain(..) {
            match output {
                sip::Output::Send { hop, bytes } => step.out.push(Output::Sip { hop, bytes }),
                sip::Output::Connect(hop) => step.out.push(Output::SipConnect(hop)),
                sip::Output::Close(connection) => step.out.push(Output::SipClose(connection)),
                sip::Output::Refused(refused) => self.requests_refused(step, refused),
                sip::Output::Attempt(attempt) => self.attempt(step, attempt),
                sip::Output::Event(event) => self.pending.push_back(Pending::Sip(event)),
                sip::Output::Keep(record) => self.keep_binding(step, record),
            }
        }
        self.sip_out = said;
    }

    /// Hands an input to the model and carries out what it says, in its order.
    fn model(&mut self, step: &mut Step<'_>, input: device_model::Input) {
        let mut said = std::mem::take(&mut self.model_out);
        self.model.handle(step.now, input, &mut said);
        for output in said.drain(..) {
            match output {
                device_model::Output::End(end, command) => self.command(step, end, command),
                device_model::Output::Reply(session, token, result) => {
                    if let Ok(reply) = &result {
                        self.keeping.opened(session, reply);
                    }
                    self.model_reply(step, session, token, result);
                }
                device_model::Output::Event(sessions, event) => {
                    self.keeping.event(&sessions, &event);
                    self.tell_event(step, &sessions, (&event).into());
                }
                device_model::Output::Limit(limit) => self.limit(step, &limit),
                device_model::Output::Refused(refused) => self.refused(step, &refused),
                device_model::Output::News(news) => self.tell_news(step, news),
                device_model::Output::Contradiction(found) => step.out.push(Output::Report(mistaken(&found))),
                device_model::Output::Discard(what) => step.out.push(Output::Discard(what)),
            }
        }
        self.model_out = said;
    }

    fn command(&mut self, step: &mut Step<'_>, end: EndId, command: EndCommand) {
        let placed = matches!(command, EndCommand::Call { .. });
        let hops = if placed { self.hops_left(end) } else { bridge::MAX_FORWARDS };
        let directory = &self.directory;
        match self.bridge.command(end, command, |trunk| directory.peer(trunk), hops) {
            Ok(Some(command)) => self.sip(step, sip::Input::Command(command)),
            Ok(None) => {}
            Err(no_way) => {
                let input = device_model::Input::Signal(end, no_way.into());
                self.pending.push_back(Pending::Model(input));
            }
        }
    }

    /// An end that we place for a call from outside has one hop less than that call had (RFC 3261 §16.6).
    fn hops_left(&self, end: EndId) -> u8 {
        let inherited = self.model.ends_beside(end).filter_map(|sibling| self.bridge.hops(sibling)).min();
        inherited.map_or(bridge::MAX_FORWARDS, |hops| hops.saturating_sub(1))
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        while let Some(pending) = self.pending.pop_front() {
            let input = match pending {
                Pending::Model(input) => Some(input),
                Pending::Sip(event) => self.sip_event(event),
            };
            if let Some(input) = input {
                self.update_phones_before(step, &input);
                self.model(step, input);
            }
        }
    }

    fn sip_event(&mut self, event: SipEvent) -> Option<device_model::Input> {
        let (directory, model) = (&self.directory, &mut self.model);
        self.bridge.event(event, |account, number| directory.is_line(account, number), || model.new_end_id())
    }

    /// A soft limit is passed or kept again: an alarm, and an event for the providers that can do something about it.
    fn limit(&mut self, step: &mut Step<'_>, limit: &Limit) {
        let (definition, key, open, bound, on, concerned) = match limit {
            Limit::DevicesPerProvider { session, open, limit, exceeded } => {
                let key = session.to_string();
                (&alarms::MAX_DEVICES_PER_PROVIDER, key, open, limit, *exceeded, vec![*session])
            }
            Limit::DevicesPerNode { open, limit, exceeded } => {
                let everybody = self.applications.everybody();
                (&alarms::MAX_DEVICES_PER_NODE, String::new(), open, limit, *exceeded, everybody)
            }
        };
        let parameters = vec![("open", open.to_string()), ("limit", bound.to_string())];
        self.alarm_condition(step, definition, key, on, parameters, &concerned);
    }

    /// A condition begins or ends: it is reported, and told to the sessions that it concerns.
    fn alarm_condition(
        &mut self,
        step: &mut Step<'_>,
        definition: &'static alarms::Definition,
        key: String,
        on: bool,
        parameters: Vec<(&'static str, String)>,
        concerned: &[SessionId],
    ) {
        let telling = self.alarms.condition(step.now, definition, key, on, parameters, concerned.to_vec());
        telling.into_iter().for_each(|telling| self.tell_condition(step, telling));
    }

    fn tell_condition(&mut self, step: &mut Step<'_>, telling: alarms::Telling) {
        let alarms::Telling { report, alarm, concerned } = telling;
        step.out.push(Output::Report(report));
        if !concerned.is_empty() {
            self.tell_many(step, &concerned, protocol::Event::Alarm { alarm });
        }
    }

    /// Conditions that changed too often to be told at once, as they are now.
    fn alarm_timeouts(&mut self, step: &mut Step<'_>) {
        while let Some(telling) = self.alarms.overdue(step.now) {
            self.tell_condition(step, telling);
        }
    }

    fn pressed(&mut self, step: &mut Step<'_>, age: Duration) {
        if self.directory.set_pressure(age) {
            let parameters = vec![("behind_ms", age.as_millis().to_string())];
            let on = self.directory.pressed();
            self.alarm_condition(step, &alarms::CALL_ADMISSION, String::new(), on, parameters, &[]);
        }
    }

    /// Ends every call in order and lets go of every application: a session with a grace is held, and another life of the
    /// node may go on with it. [`Node::finish`] says when the wire is silent.
    fn stop(&mut self, step: &mut Step<'_>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(step.now + STOP_PATIENCE);
        self.directory.drain();
        self.model(step, device_model::Input::Shutdown);
        self.settle(step);
        self.flush(step);
        // By their numbers: the same step says the same thing in the same order.
        let mut connections: Vec<_> = self.applications.links.keys().copied().collect();
        connections.sort_unstable();
        for connection in connections {
            self.lose_connection(step, connection, CloseReason::Stopping);
        }
    }

    fn finish(&mut self, step: &mut Step<'_>) {
        let Some(deadline) = self.stopping else { return };
        if !self.stopped && (self.stack.is_settled() || step.now >= deadline) {
            self.stopped = true;
            step.out.push(Output::Stopped);
        }
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
        t1: Duration::from_millis(500),
    }
}

#[cfg(test)]
mod tests;
