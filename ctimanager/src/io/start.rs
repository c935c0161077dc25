//! From a configuration to a running node.

use super::bind::{BindError, Bound, Listen, bind};
use super::certificates::{self, CertificateError};
use super::counters::Counters;
use super::limits::{Limits, Patience};
use super::lookup::{addresses_of, look_up_trunks};
use super::registrations;
use super::reload::{FileReload, Reload};
use super::run::{Keeping, KeptRegistrations, Running, Setup, dump_no_core, raise_file_limit, start};
use super::store::{self, SessionFile};
use super::{Core, Tap, TlsConfigs, wall};
use crate::config::{self, Config, Listener, Mistake, lines};
use crate::node::{Input, Node, Output, Settings, Surroundings, shares_of};
use device_model::TrunkName;
use rand::TryRng;
use rand::rngs::SysRng;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tracing::warn;

/// The node is a core.
impl Core for Node {
    fn handle(&mut self, now: Instant, wall: SystemTime, input: Input, out: &mut Vec<Output>) {
        Node::handle(self, now, wall, input, out);
    }

    fn next_timeout(&self) -> Option<Instant> {
        Node::next_timeout(self)
    }
}

/// Why a node can't start; each says what would help.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the sentences say it
pub enum StartError {
    #[error("{}", lines(.0))]
    Configuration(Vec<Mistake>),
    #[error("{0}")]
    Node(String),
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error("the address of {host} can't be found: {error}")]
    Lookup { host: String, error: io::Error },
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the system gives no random numbers")]
    Entropy,
}

/// A node from files: what `ctimanager run` was told.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The configuration's file or folder.
    pub config: PathBuf,
    /// Which of its nodes; may be left out when there is one.
    pub node: Option<String>,
    /// Instead of the configured state directory.
    pub state: Option<PathBuf>,
    /// Instead of `ctimanager.sock` in the state directory.
    pub socket: Option<PathBuf>,
}

/// Starts the node of a configuration file, with its certificates, its reloads, signals and control socket.
///
/// # Errors
/// When the configuration is bad, the certificates can't be read, or a port can't be had.
pub async fn run(options: RunOptions) -> Result<Running, StartError> {
    run_core(options, |node| node).await
}

/// The same with what `core` makes of the node: a test's own core around it.
///
/// # Errors
/// As [`run`].
pub async fn run_core<C: Core>(
    options: RunOptions,
    core: impl FnOnce(Node) -> C,
) -> Result<Running, StartError> {
    let path = options.config.clone();
    let loaded = blocking(move || config::load(&path)).await.map_err(StartError::Configuration)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let (config, node) = (loaded.config, options.node.as_deref());
    let node = config.node(node).map_err(StartError::Node)?.clone();
    let state = options.state.unwrap_or_else(|| node.state_dir.clone());
    let tls = certificates::of_node(&config, &node)?;
    let mut listen = listen(&node).await?;
    if config.is_clustered() {
        listen.cluster = listen_for_nodes(&node).await?;
    }
    listen.sip_udp_buffer_bytes = udp_buffer(&config);
    listen.control = Some(options.socket.unwrap_or_else(|| state.join("ctimanager.sock")));
    let reload = FileReload::new(options.config, &config, &node);
    let launch = Launch {
        config,
        node,
        tls,
        listen,
        reload: Some(reload),
        tap: None,
        state: Some(state),
        signals: true,
    };
    launch.start_core(core).await
}

/// A node whose parts are at hand: what `run` makes of files, and `demo` of texts.
pub struct Launch {
    /// The configuration.
    pub config: Config,
    /// Which of its nodes.
    pub node: config::Node,
    /// Its certificates.
    pub tls: TlsConfigs,
    /// Where to listen; [`listen`] makes it of the node.
    pub listen: Listen,
    /// How to read the configuration again.
    pub reload: Option<FileReload>,
    /// Watches the core.
    pub tap: Option<Arc<dyn Tap>>,
    /// Where the node remembers its lives; without it only chance keeps the ids of two lives apart.
    pub state: Option<PathBuf>,
    /// Whether SIGTERM and SIGINT stop the node and SIGHUP reloads.
    pub signals: bool,
}

impl Launch {
    /// Opens the sockets and starts.
    ///
    /// # Errors
    /// When a port can't be had.
    pub async fn start(self) -> Result<Running, StartError> {
        self.start_core(|node| node).await
    }

    async fn start_core<C: Core>(self, core: impl FnOnce(Node) -> C) -> Result<Running, StartError> {
        dump_no_core();
        let files = raise_file_limit();
        let Self { config, node, tls, listen, reload, tap, state, signals } = self;
        let wanted = files_wanted(&Limits::of(&config));
        if let Some(files) = files.filter(|files| *files < wanted) {
            warn!(files, wanted, "fewer open files are allowed than the configured connections may need");
        }
        let (config, node) = (Arc::new(config), Arc::new(node));
        let bound = bind(&listen).await?;
        let (wanted, granted) = (listen.sip_udp_buffer_bytes, bound.addresses.sip_udp_buffer_bytes);
        if !bound.sip_udp.is_empty() && granted < wanted {
            warn!(
                wanted,
                granted, "the system grants SIP over UDP a smaller buffer: raise net.core.rmem_max"
            );
        }
        let resolved = {
            let config = Arc::clone(&config);
            blocking(move || look_up_trunks(&config)).await
        };
        let tls = TlsConfigs { sip_peers: tls.sip_peers.clone().located(&config, &resolved), ..tls };
        let surroundings = Surroundings {
            certificate_ends: Some(tls.ends),
            revoked: Arc::clone(&tls.revoked),
            ..surroundings(&bound, resolved)
        };
        let settings = {
            let (config, node, surroundings) = (Arc::clone(&config), Arc::clone(&node), surroundings.clone());
            blocking(move || Arc::new(Settings::of(&config, &node, &surroundings))).await
        };
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).map_err(|_| StartError::Entropy)?;
        let keep = state.clone().filter(|_| config.parameters.persist_sessions);
        let begin = Arc::clone(&settings);
        let counters = Arc::new(Counters::default());
        let counting = Arc::clone(&counters);
        let (node_core, store, registrations) =
            blocking(move || life(begin, &counting, seed, state.as_deref(), keep)).await;
        let reload = reload.map(|reload| Box::new(reload.within(surroundings, settings)) as Box<dyn Reload>);
        let setup = Setup {
            node: node.name.to_string(),
            tls,
            limits: Limits::of(&config),
            shares: shares_of(&config.parameters),
            patience: Patience::default(),
            reload,
            tap,
            signals,
            store,
            registrations,
            counters,
            peers: super::cluster::peers_of(&config, &node),
        };
        Ok(start(bound, core(node_core), setup))
    }
}

/// The bytes that the configuration wants in the system for each UDP socket of SIP.
#[must_use]
pub fn udp_buffer(config: &Config) -> usize {
    usize::try_from(config.parameters.sip_udp_buffer_bytes).unwrap_or(usize::MAX)
}

/// Open files that the connections within their bounds may need, and a few for the node itself.
fn files_wanted(limits: &Limits) -> u64 {
    const OWN: usize = 128;
    let applications = limits.max_cti_connections + limits.max_unopened_connections;
    (applications + limits.max_sip_connections + limits.max_web_connections + OWN) as u64
}

/// Where a node listens; host names are looked up.
///
/// # Errors
/// When a host has no address.
pub async fn listen(node: &config::Node) -> Result<Listen, StartError> {
    let node = node.clone();
    blocking(move || listen_of(&node)).await
}

/// Where a node listens for the others.
async fn listen_for_nodes(node: &config::Node) -> Result<Vec<SocketAddr>, StartError> {
    let node = node.clone();
    let found = move || {
        let mut found = Vec::new();
        for host in node.cluster.iter().flat_map(|_| node.cluster_hosts()) {
            let addresses = addresses_of(host, node.cluster.unwrap_or_default());
            found.extend(addresses.map_err(|error| StartError::Lookup { host: host.to_string(), error })?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    };
    blocking(found).await
}

fn listen_of(node: &config::Node) -> Result<Listen, StartError> {
    let at = |listener: Listener, port: Option<u16>| -> Result<Vec<SocketAddr>, StartError> {
        let Some(port) = port.filter(|_| node.listens(listener)) else { return Ok(Vec::new()) };
        let mut found: Vec<SocketAddr> = Vec::new();
        for host in node.addresses.hosts(listener) {
            for address in addresses_of(host, port)
                .map_err(|error| StartError::Lookup { host: host.to_string(), error })?
            {
                // Two names may mean the same.
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        Ok(found)
    };
    Ok(Listen {
        sip_udp: at(Listener::SipUdp, node.sip.udp)?,
        sip_tcp: at(Listener::SipTcp, node.sip.tcp)?,
        sip_tls: at(Listener::SipTls, node.sip.tls)?,
        cti_tls: at(Listener::Cti, node.cti.tls)?,
        cti_plain: at(Listener::Cti, node.cti.plain)?,
        web: at(Listener::Web, node.web)?,
        cluster: Vec::new(),
        sip_udp_buffer_bytes: 0,
        control: None,
    })
}

fn surroundings(bound: &Bound, resolved: HashMap<TrunkName, SocketAddr>) -> Surroundings {
    let Listen {
        sip_udp,
        sip_tcp,
        sip_tls,
        cti_tls,
        cti_plain,
        web,
        sip_udp_buffer_bytes,
        cluster: _,
        control: _,
    } = &bound.addresses;
    let sip_listen =
        [(sip::Transport::Udp, sip_udp), (sip::Transport::Tcp, sip_tcp), (sip::Transport::Tls, sip_tls)];
    let each =
        sip_listen.into_iter().flat_map(|(transport, all)| all.iter().map(move |own| (transport, *own)));
    Surroundings {
        sip_listen: each.collect(),
        cti_tls: cti_tls.clone(),
        cti_plain: cti_plain.clone(),
        web: web.clone(),
        sip_udp_buffer_bytes: *sip_udp_buffer_bytes,
        resolved,
        ..Surroundings::default()
    }
}

/// A new life of the node; with what its earlier one kept in that folder, if there is one. It blocks.
fn life(
    settings: Arc<Settings>,
    counters: &Counters,
    seed: [u8; 32],
    state: Option<&Path>,
    keep: Option<PathBuf>,
) -> (Node, Option<Keeping>, Option<KeptRegistrations>) {
    let mut before = keep.map(|folder| (SessionFile::new(&folder), folder));
    let found = before.as_mut().map(|(file, _)| file.read());
    let last = found.as_ref().and_then(|found| found.as_ref().ok()).map_or(0, |found| found.incarnation);
    let incarnation = incarnation(state, seed, last);
    let mut core = Node::new(settings, seed, incarnation);
    // Before the sessions, which are told of the phones that are in service.
    let registrations = state.and_then(|folder| registrations::begin(&mut core, counters, folder));
    let keeping = before.zip(found).map(|((file, folder), found)| {
        let (gate, progress) = store::begin(&mut core, counters, file, found, incarnation, folder);
        Keeping { gate, progress }
    });
    let registrations = registrations.map(|mut journal| {
        journal.prepare();
        KeptRegistrations(journal)
    });
    (core, keeping, registrations)
}

/// Counts the node's lives in a file of its state directory, so that no life's ids come again: neither those of the lives
/// counted there nor those of the one that kept its sessions, whatever became of that file.
fn incarnation(state: Option<&Path>, seed: [u8; 32], at_least: u32) -> u32 {
    let counted = state.map(|folder| {
        let path = folder.join("incarnation");
        let last = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(_) => 0_u32,
        };
        let next = last.max(at_least).wrapping_add(1);
        let fresh = folder.join("incarnation.new");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&fresh, format!("{next}\n")))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map(|()| next)
    });
    match counted {
        Some(Ok(next)) => next,
        Some(Err(error)) => {
            warn!(%error, "the state directory can't be written; this life is numbered by the clock");
            let seconds = wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            u32::try_from(seconds & u64::from(u32::MAX)).unwrap_or(0)
        }
        None => u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]),
    }
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_has_another_number() {
        let folder = std::env::temp_dir().join(format!("ctimanager-lives-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let lives: Vec<u32> = (0..3).map(|_| incarnation(Some(&folder), [9; 32], 0)).collect();
        assert_eq!(lives, [1, 2, 3]);
        std::fs::write(folder.join("incarnation"), "no number").expect("written");
        assert_eq!(incarnation(Some(&folder), [9; 32], 0), 1);
        assert_eq!(incarnation(Some(&folder), [9; 32], 7), 8, "the sessions' file knows of more lives");
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(incarnation(None, [9; 32], 0), 0x0909_0909);
    }
}
