//! Starts and stops a node: sockets, owner, signals.

use super::bind::{Bound, Listen};
use super::cluster::{self, ClusterShell, Peer};
use super::control::{self, ControlShell};
use super::counters::Counters;
use super::cti::{self, CtiShell};
use super::limits::{Alive, Limits, Patience};
use super::owner::{End, Inlets, Owner};
use super::password::Passwords;
use super::queue::{Event, Queue, lanes, queue};
use super::registrations::{Journal, RegistrationStore};
use super::reload::{Reload, ReloadOrder, reload_on_order};
use super::report::Orderer;
use super::sip::{self, SipContext, SipShell};
use super::store::Progress;
use super::store::gate::Gate;
use super::tls::TlsConfigs;
use super::web::{self, Readiness, WebShell};
use super::{Core, Tap};
use crate::node::Input;
use arc_swap::ArcSwap;
use security::shares::Share;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info};

/// How long the core may take to end its calls.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// How long connections may take after it to write their last.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(1_500);
/// Inputs of the other nodes that wait.
const NODES_INPUTS: usize = 1_024;
/// Reloads that wait.
const MAX_RELOADS: usize = 4;

/// All that a node needs besides its core and its sockets.
pub struct Setup {
    /// Its name, for log lines.
    pub node: String,
    /// The first TLS configurations.
    pub tls: TlsConfigs,
    /// The first limits.
    pub limits: Limits,
    /// The first shares; the core tells of others ([`crate::node::Output::SipShares`]).
    pub shares: Vec<(Share, u64)>,
    /// How long to wait for peers.
    pub patience: Patience,
    /// How to read the configuration again; without it `reload` is refused.
    pub reload: Option<Box<dyn Reload>>,
    /// Watches the core.
    pub tap: Option<Arc<dyn Tap>>,
    /// Whether SIGTERM and SIGINT stop the node and SIGHUP reloads.
    pub signals: bool,
    /// What keeps its sessions; the core has heard of them already.
    pub store: Option<Keeping>,
    /// What keeps the phones' registrations; the core has heard of them already.
    pub registrations: Option<KeptRegistrations>,
    /// What was counted before it runs, and is from then on.
    pub counters: Arc<Counters>,
    /// The other nodes of the cluster.
    pub peers: Vec<Peer>,
}

/// The journal of a node's registrations, read and not written yet.
#[derive(Debug)]
pub struct KeptRegistrations(pub(super) Journal);

/// What keeps the sessions of a node that is about to run.
#[derive(Debug)]
pub struct Keeping {
    pub(super) gate: Gate,
    pub(super) progress: watch::Receiver<Progress>,
}

/// Why a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// In order.
    Stopped,
    /// The core did not end within the limit.
    Overdue,
    /// The owner task or another task of the node itself panicked; the log has it.
    Panicked,
    /// Another process of this node is up, and this one gave way.
    Yielded,
}

/// A running node. To drop it ends it at once, without a goodbye; [`Running::stop`] ends it in order.
#[derive(Debug)]
pub struct Running {
    /// The node's name.
    pub node: String,
    /// Where it really listens.
    pub addresses: Listen,
    /// What the shell counts.
    pub counters: Arc<Counters>,
    queue: Queue,
    owner: JoinHandle<End>,
    tasks: Tasks,
    pub(super) readiness: Arc<Readiness>,
    /// Ends when no connection's task is left.
    last_words: mpsc::Receiver<()>,
    stop_wanted: mpsc::Receiver<()>,
}

/// Tasks that end with the node.
#[derive(Debug, Default)]
struct Tasks(JoinSet<()>);

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Comes back when one of them has panicked: a node without its listeners must not look like one that runs.
    async fn panicked(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            if ended.is_err_and(|error| error.is_panic()) {
                return;
            }
        }
        std::future::pending().await
    }

    fn abort(&mut self) {
        self.0.abort_all();
    }
}

/// Starts reading the sockets.
#[must_use]
pub fn start<C: Core>(mut bound: Bound, core: C, setup: Setup) -> Running {
    let counters = setup.counters;
    let tls = Arc::new(ArcSwap::from_pointee(setup.tls));
    let limits = Arc::new(ArcSwap::from_pointee(setup.limits));
    let (alive, last_words) = Alive::new();
    let (inputs, bytes) = (setup.limits.input_queue, setup.limits.input_queue_bytes);
    let (sip_lanes, sip_inlet) = lanes(inputs, bytes);
    let (rest_queue, rest_inlet) = queue(inputs, bytes);
    let (nodes_queue, nodes_inlet) = queue(NODES_INPUTS, bytes);
    let mut tasks = Tasks::default();

    let sip_context = Arc::new(SipContext::new(
        sip_lanes,
        Arc::clone(&tls),
        Arc::clone(&counters),
        alive.clone(),
        setup.patience,
        Arc::clone(&limits),
    ));
    let cti_shell = Arc::new(CtiShell::new(
        rest_queue.clone(),
        Arc::clone(&limits),
        Arc::clone(&counters),
        Arc::clone(&sip_context.door),
        Arc::clone(&tls),
        alive.clone(),
        setup.patience,
    ));
    sip_context.door.set(&setup.shares);
    let sip_shell = start_sip(&mut bound, &sip_context, &mut tasks);
    let readiness = start_cti_and_web(&mut bound, &cti_shell, &mut tasks);
    let listens_first = !setup.peers.is_empty();
    start_cluster(&mut bound, ClusterShell::beside(&cti_shell, nodes_queue), setup.peers, &mut tasks);

    let passwords = Passwords::new(rest_queue.clone(), setup.limits.password_threads, Arc::clone(&limits));
    let (gate, progress) = setup.store.map(|keeping| (keeping.gate, keeping.progress)).unzip();
    let registrations = setup.registrations.map(|kept| RegistrationStore::start(kept.0, rest_queue.clone()));
    let written = registrations.as_ref().map(RegistrationStore::progress);
    let owner = Owner::new(core, sip_shell, passwords, Arc::clone(&counters), setup.tap, gate, registrations);
    let inlets = Inlets { sip: sip_inlet, rest: rest_inlet, nodes: nodes_inlet, progress, written };
    let owner = tokio::spawn(owner.run(inlets));

    let (reloads, reload_orders) = mpsc::channel(MAX_RELOADS);
    let (want_stop, stop_wanted) = mpsc::channel(1);
    let listening = listens_first.then(|| limits.load().node_failure_timeout * 2);
    tasks.spawn(reload_on_order(setup.reload, reload_orders, rest_queue.clone(), tls, limits));
    if let Some(socket) = bound.control.take() {
        let (queue, readiness) = (rest_queue.clone(), Arc::clone(&readiness));
        let shell = ControlShell { queue, reloads: reloads.clone(), readiness, alive };
        tasks.spawn(control::listen(socket, Arc::new(shell)));
    }
    if setup.signals {
        tasks.spawn(watch_signals(want_stop, reloads));
    }
    tasks.spawn(super::logging::tell_lost_lines());
    say_where(&setup.node, &bound.addresses);
    readiness.set_listening();
    match listening {
        None => readiness.set_ready(),
        Some(time) => tasks.spawn(listen_first(Arc::clone(&readiness), time)),
    }
    let addresses = bound.addresses;
    let node = setup.node;
    Running { node, addresses, counters, queue: rest_queue, owner, tasks, readiness, last_words, stop_wanted }
}

fn start_sip(bound: &mut Bound, context: &Arc<SipContext>, tasks: &mut Tasks) -> SipShell {
    let addresses = &bound.addresses;
    let mut udp = Vec::new();
    for (sockets, local) in bound.sip_udp.drain(..).zip(&addresses.sip_udp) {
        udp.push(sip::listen_udp(sockets, *local, context, &mut |task| tasks.spawn(task)));
    }
    for (listener, local) in bound.sip_tcp.drain(..).zip(&addresses.sip_tcp) {
        tasks.spawn(sip::listen_tcp(listener, *local, Arc::clone(context)));
    }
    for (listener, local) in bound.sip_tls.drain(..).zip(&addresses.sip_tls) {
        tasks.spawn(sip::listen_tls(listener, *local, Arc::clone(context)));
    }
    SipShell::new(Arc::clone(context), udp)
}

fn start_cti_and_web(bound: &mut Bound, shell: &Arc<CtiShell>, tasks: &mut Tasks) -> Arc<Readiness> {
    let readiness = Arc::new(Readiness::default());
    for listener in bound.cti_plain.drain(..) {
        tasks.spawn(cti::listen_plain(listener, Arc::clone(shell)));
    }
    for listener in bound.cti_tls.drain(..) {
        tasks.spawn(cti::listen_tls(listener, Arc::clone(shell)));
    }
    let web = Arc::new(WebShell::new(Arc::clone(shell), Arc::clone(&readiness)));
    for listener in bound.web.drain(..) {
        tasks.spawn(web::listen(listener, Arc::clone(&web)));
    }
    readiness
}

fn start_cluster(bound: &mut Bound, shell: ClusterShell, peers: Vec<Peer>, tasks: &mut Tasks) {
    let shell = Arc::new(shell);
    for listener in bound.cluster.drain(..) {
        tasks.spawn(cluster::listen(listener, Arc::clone(&shell)));
    }
    for peer in peers {
        tasks.spawn(cluster::dial(peer, Arc::clone(&shell)));
    }
}

/// A node of several is ready when it has listened to the others for two failure timeouts, whether it hears any or not.
async fn listen_first(readiness: Arc<Readiness>, time: Duration) {
    tokio::time::sleep(time).await;
    readiness.set_ready();
}

fn say_where(node: &str, addresses: &Listen) {
    let all = [
        ("SIP over UDP", &addresses.sip_udp),
        ("SIP over TCP", &addresses.sip_tcp),
        ("SIP over TLS", &addresses.sip_tls),
        ("CTI over TLS", &addresses.cti_tls),
        ("CTI over plain TCP", &addresses.cti_plain),
        ("HTTPS", &addresses.web),
        ("other nodes", &addresses.cluster),
    ];
    for (what, addresses) in all {
        for address in addresses {
            info!(%address, "{what}");
        }
    }
    if let Some(path) = &addresses.control {
        info!(path = %path.display(), "administrators");
    }
    info!("ctimanager {node} ready");
}

impl Running {
    /// Waits for a reason to end (a signal, an administrator's `stop`), and ends in order.
    pub async fn wait(mut self) -> StopCause {
        tokio::select! {
            result = &mut self.owner => self.ended(result.ok()).await,
            () = self.tasks.panicked() => self.ended(None).await,
            Some(()) = self.stop_wanted.recv() => self.stop().await,
        }
    }

    /// Ends in order: calls are ended, applications told, connections closed. Takes no more than about 6 s.
    pub async fn stop(mut self) -> StopCause {
        self.readiness.set_stopping();
        let ended = async {
            // The owner may be ending already; then it won't take this, and need not.
            let _ = self.queue.send(Event::Input(Input::Stop)).await;
            (&mut self.owner).await.ok()
        };
        match tokio::time::timeout(STOP_LIMIT, ended).await {
            Ok(end) => self.ended(end).await,
            Err(_) => {
                error!("the node did not end in time");
                self.owner.abort();
                StopCause::Overdue
            }
        }
    }

    /// `None`: by a panic.
    async fn ended(mut self, end: Option<End>) -> StopCause {
        self.readiness.set_stopping();
        self.owner.abort();
        self.tasks.abort();
        // The owner has dropped all its outboxes: connections write what is queued and end.
        let _ = tokio::time::timeout(LAST_WORDS_LIMIT, self.last_words.recv()).await;
        match end {
            Some(End::Stopped) => {
                info!("stopped");
                StopCause::Stopped
            }
            Some(End::Yielded) => {
                error!("another process of this node is up: this one ends");
                StopCause::Yielded
            }
            None => {
                error!("one of the node's tasks panicked: the process ends");
                StopCause::Panicked
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.owner.abort();
    }
}

async fn watch_signals(stop: mpsc::Sender<()>, reloads: mpsc::Sender<ReloadOrder>) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        return error!("signals can't be watched");
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let (answer, _) = oneshot::channel();
                if reloads.try_send(ReloadOrder { by: Orderer::Signal, answer }).is_err() {
                    error!("configuration not reloaded: earlier reloads are still at work");
                }
            }
        }
    }
    info!("stopping");
    // Full means that a stop is wanted already.
    let _ = stop.try_send(());
}

/// No core file and no dump to a program of the system's: the memory has keys and passwords.
pub fn dump_no_core() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    let dumps = [
        setrlimit(Resource::Core, nothing),
        // A program that the system pipes dumps to does not ask for the limit.
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    ];
    for error in dumps.into_iter().filter_map(Result::err) {
        error!(%error, "the process can still be dumped");
    }
}

/// As many open files as the system allows: each connection needs one, and the usual soft limit is 1,024. Gives the
/// limit that now holds; `None` = there is none.
pub fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        info!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current
}
