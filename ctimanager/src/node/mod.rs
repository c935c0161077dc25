//! The node: its two machines, and what is neither's (alarms, shares, a stop, administrators). [`call_manager`] has devices,
//! calls and SIP; [`cti_manager`] has applications and their sessions, asks it and hears what it tells. Pure: no socket, no
//! clock, no lock.
//!
//! [`Node::handle`] takes one input and carries it as far as it goes: what applications ask is handed to CallManager, and
//! what CallManager tells becomes frames of sessions, until nothing is left to do.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod admin;
pub mod alarms;
mod call_manager;
mod check;
mod cti_manager;
mod delay;
mod messages;
mod millis;
mod nodes;
pub mod port;
mod seldom;
mod settings;
mod shares;
mod step;
mod stopping;

pub use call_manager::directory::Accounts;
pub use call_manager::registrations;
pub use call_manager::sip_legs::{Certified, PeerProof, TrunkPeer};
pub use cti_manager::kept;
pub use cti_manager::reload::Switch;
pub use port::{
    AdminRequest, AdminToken, CtiConnection, CtiTransport, Frame, Input, NodesInput, NodesOutput, Output,
    Report, Severity,
};
pub use settings::{SessionParameters, Settings, SignallingParameters, Surroundings, shares_of};

use call_manager::{CallManager, Said, Turn};
use cti_manager::CtiManager;
use device_model::Identity;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};
use security::shares::Shares;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use step::{At, Step};

/// A node of the cluster, without its sockets and its clock: CallManager and CTIManager, and what is neither's.
pub struct Node {
    settings: Arc<Settings>,
    call_manager: CallManager,
    cti_manager: CtiManager,
    /// Who has used up how much of what.
    shares: Shares,
    alarms: alarms::Alarms,
    started: Option<SystemTime>,
    /// The shell has heard of the ways that are known without a message.
    ways_told: bool,
    /// What CallManager says in the step that is being taken.
    said: Vec<Said>,
    stopping: stopping::Stopping,
    nodes: nodes::Nodes,
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
        random.fill_bytes(&mut stack_seed);
        let identity = Identity { node: settings.node.clone(), incarnation };
        let mut shares = Shares::default();
        settings.set_shares(&mut shares);
        // A node that is alone draws what it always drew.
        let life = if settings.config.is_clustered() { random.next_u64() } else { 0 };
        Self {
            call_manager: CallManager::new(&identity, &settings, stack_seed),
            cti_manager: CtiManager::new(identity, Arc::clone(&settings), random),
            shares,
            alarms: alarms::Alarms::default(),
            started: None,
            ways_told: false,
            said: Vec::new(),
            stopping: stopping::Stopping::No,
            nodes: nodes::Nodes::new(incarnation, life),
            settings,
        }
    }

    /// Takes one input; what is to be done for it is appended to `out`, in order.
    pub fn handle(&mut self, now: Instant, wall: SystemTime, input: Input, out: &mut Vec<Output>) {
        let begin = out.len();
        let mut at = At { now, wall, out, recorded: 0 };
        self.alarms.set_time(wall);
        self.call_manager.set_time(wall);
        if self.started.is_none() {
            self.started = Some(wall);
            self.nodes.begin(&self.settings, now, wall);
            self.cti(&mut at, CtiManager::look_at_certificates);
        }
        // What an earlier life has left comes before the shell runs: nobody would hear it.
        if !self.ways_told && !matches!(input, Input::Restored(..) | Input::Registrations(_)) {
            self.ways_told = true;
            self.cti(&mut at, |_, step| step.know_trunks());
            self.cti(&mut at, |_, step| step.know_phones());
            self.cti(&mut at, |cti, step| cti.know_applications(step));
        }
        self.cti(&mut at, CtiManager::hear_some);
        self.cti(&mut at, CtiManager::deliver_some);
        self.take(&mut at, input);
        self.cti(&mut at, |cti, step| {
            cti.settle(step);
            cti.flush(step);
            cti.look_for_work(step);
            cti.say_records(step, begin);
        });
        // Before all else that the step says: the answer to a REGISTER may wait until they are written.
        if let Some(records) = self.call_manager.take_registrations() {
            at.out.insert(begin, Output::Registrations(records));
        }
        self.finish(&mut at);
        self.nodes.follow(&self.settings, self.mode(), now);
    }

    fn take(&mut self, at: &mut At<'_>, input: Input) {
        match input {
            Input::Sip { hop, bytes } => self.sip(at, sip::Input::Received { hop, bytes }),
            Input::Refused(news) => self.cti(at, |_, step| step.shell_refused(&news)),
            Input::SipWhose { hop, who } => self.cti(at, |_, step| step.whose(hop, who)),
            Input::SipCertified(connection, certified) => self.call_manager.certify(connection, certified),
            Input::SipClosed(hop) => self.sip(at, sip::Input::Closed(hop)),
            Input::SipUnreachable(hop) => self.sip(at, sip::Input::Unreachable(hop)),
            Input::SipUndelivered { hop, quoted } => self.sip(at, sip::Input::Undelivered { hop, quoted }),
            Input::CtiOpened { connection, peer, transport } => {
                self.cti(at, |cti, step| cti.application_connected(step, connection, peer, transport));
            }
            Input::CtiFrame(connection, bytes) => {
                self.cti(at, |cti, step| cti.application_frame(step, connection, &bytes));
            }
            Input::CtiLineTooLong(connection) => {
                self.cti(at, |cti, step| cti.application_line_too_long(step, connection));
            }
            Input::CtiClosed(connection) => self.cti(at, |cti, step| cti.application_gone(step, connection)),
            Input::CtiOverflow(connection) => {
                self.cti(at, |cti, step| cti.application_overflow(step, connection));
            }
            Input::CtiBehind(connection, behind) => {
                self.cti(at, |cti, step| cti.application_behind(step, connection, behind));
            }
            Input::PasswordChecked(connection, matches) => {
                self.cti(at, |cti, step| cti.password_checked(step, connection, matches));
            }
            Input::PasswordBusy(connection) => self.cti(at, |cti, step| cti.password_busy(step, connection)),
            Input::Configure(switch) => {
                self.cti(at, |cti, step| cti.configure(step, *switch));
            }
            Input::Restored(kept, damage) => self.cti(at, |cti, step| cti.restore(step, *kept, damage)),
            Input::Registrations(news) => self.calls(at, |calls, turn| calls.registration_news(turn, news)),
            Input::StoreLost(reason) => self.cti(at, |cti, step| cti.store_lost(step, reason)),
            Input::StoreReady => self.cti(at, CtiManager::store_ready),
            Input::Nodes(input) => self.nodes_input(at, input),
            Input::Admin(token, request) => self.administer(at, token, request),
            Input::Pressure(age) => self.pressed(at, age),
            Input::Stop => self.stop(at),
            Input::Timeout => self.timeouts(at),
        }
    }

    /// When [`Input::Timeout`] is wanted.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let rooms = [
            self.call_manager.next_timeout(),
            self.cti_manager.next_timeout(),
            self.alarms.next_timeout(),
            self.shares.next_timeout(),
            self.stopping.next_timeout(),
            self.nodes.next_timeout(),
        ];
        rooms.into_iter().flatten().min()
    }

    /// Whether nothing goes on: no call, no leg, no transaction, and nothing that is still to be heard.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.call_manager.is_quiet() && self.cti_manager.has_heard_all()
    }

    /// Whether something waits between CallManager and those who ask it: for tests and simulations.
    #[must_use]
    pub fn has_waiting_messages(&self) -> bool {
        self.cti_manager.has_requests_waiting() || !self.cti_manager.has_heard_all()
    }

    /// From now on [`Node::check`] says whether anybody was told what he may not hear: for tests and simulations.
    pub fn watch_permissions(&mut self) {
        self.cti_manager.watch_permissions();
    }

    /// From now on what is asked of CallManager waits for some steps, as it does between nodes: for tests and simulations.
    pub fn delay_requests(&mut self, seed: u64) {
        self.cti_manager.delay_requests(seed);
    }

    /// From now on what CallManager tells waits for some steps, as it does between nodes: for tests and simulations.
    pub fn delay_told(&mut self, seed: u64) {
        self.cti_manager.delay_told(seed);
    }

    /// From now on some of what CallManager tells of devices and legs is lost, as it may be between nodes; `None`: nothing is.
    /// For tests.
    #[cfg(test)]
    pub(crate) fn lose_told(&mut self, seed: Option<u64>) {
        self.cti_manager.lose_told(seed);
    }

    /// From now on each message between CallManager and those who ask it is written and read again, as between nodes: for
    /// tests and simulations.
    ///
    /// # Panics
    /// [`Node::handle`] does if one is not read as it was written.
    pub fn write_messages(&mut self) {
        self.cti_manager.write_messages();
    }

    /// Whether all that is to be kept is in the records said so far. For tests and simulations.
    #[must_use]
    pub fn has_kept_all(&self) -> bool {
        self.cti_manager.has_kept_all()
    }

    /// All that is to be kept now: what the records said so far add up to. For tests and simulations.
    #[must_use]
    pub fn kept(&self, now: Instant, wall: SystemTime) -> kept::Kept {
        self.cti_manager.kept(now, wall)
    }

    fn timeouts(&mut self, at: &mut At<'_>) {
        self.calls(at, CallManager::sip_timeouts);
        self.calls(at, CallManager::model_timeouts);
        self.cti(at, |cti, step| {
            cti.application_timeouts(step);
            cti.page_timeouts(step);
            cti.portion_timeouts(step);
            cti.alarm_timeouts(step);
            cti.certificate_timeouts(step);
            cti.carry_on_old_passwords(step);
            step.share_timeouts();
        });
        self.calls(at, CallManager::trunks_have_room);
        self.nodes_timeout(at);
        self.stop_timeouts(at);
    }

    /// CTIManager's part of a step, with all that it needs beside itself.
    fn cti<R>(&mut self, at: &mut At<'_>, act: impl FnOnce(&mut CtiManager, &mut Step<'_>) -> R) -> R {
        let mut step = Step {
            now: at.now,
            wall: at.wall,
            out: at.out,
            recorded: &mut at.recorded,
            settings: Arc::clone(&self.settings),
            calls: &mut self.call_manager,
            said: &mut self.said,
            alarms: &mut self.alarms,
            shares: &mut self.shares,
            stops: self.stopping.has_begun(),
        };
        let result = act(&mut self.cti_manager, &mut step);
        // Other settings may be in force now.
        let Step { settings, .. } = step;
        self.settings = settings;
        result
    }

    /// Has CallManager do something, and carries out what it says, in its order.
    fn calls(&mut self, at: &mut At<'_>, act: impl FnOnce(&mut CallManager, &mut Turn<'_>)) {
        self.cti(at, |cti, step| cti.calls(step, act));
    }

    /// Hands an input to the SIP stack; its events wait until the end of the step.
    fn sip(&mut self, at: &mut At<'_>, input: sip::Input) {
        self.calls(at, |calls, turn| calls.sip(turn, input));
    }

    fn pressed(&mut self, at: &mut At<'_>, age: Duration) {
        if self.call_manager.set_pressure(age) {
            let parameters = vec![("behind_ms", age.as_millis().to_string())];
            let state = alarms::AlarmState::when(self.call_manager.directory().pressed());
            self.cti(at, |_, step| step.condition(&alarms::CALL_ADMISSION, String::new(), state, parameters));
        }
    }
}

#[cfg(test)]
mod tests;
