//! Reading the configuration again: parse, check, find what would need a restart, and hand over the rest.

use super::certificates;
use super::limits::Limits;
use super::lookup::look_up_trunks;
use super::queue::{Event, Queue};
use super::report::Orderer;
use super::tls::TlsConfigs;
use crate::config::{self, Config, Listener, Mistake, lines};
use crate::node::{Settings, Surroundings, Switch};
use arc_swap::ArcSwap;
use security::audit::Outcome;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

/// What a reload brings.
pub struct Reloaded {
    /// For the core.
    pub switch: Box<Switch>,
    /// For new connections.
    pub tls: TlsConfigs,
    /// For new connections.
    pub limits: Limits,
}

/// Reads the configuration again. It may block: it runs on a thread of its own.
pub trait Reload: Send + 'static {
    /// What is new.
    ///
    /// # Errors
    /// When the configuration is bad or would need a restart; nothing changes then.
    fn reload(&mut self) -> Result<Reloaded, NotReloaded>;
}

/// Why a configuration was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReloaded {
    /// All that is wrong with it, in words for the administrator.
    pub told: String,
    /// The same for the log: without what the file says, for that may be people's numbers.
    pub logged: String,
}

impl<T: Into<String>> From<T> for NotReloaded {
    /// Words that hold nothing of the file.
    fn from(what: T) -> Self {
        let told = what.into();
        Self { logged: told.clone(), told }
    }
}

/// A configuration file and what of it can't change while the node runs.
#[derive(Clone, Debug)]
pub struct FileReload {
    path: PathBuf,
    node: String,
    fixed: Vec<(String, String)>,
    surroundings: Surroundings,
    /// What was handed over last: the next is compared with it here, so that the node need not.
    in_force: Option<Arc<Settings>>,
}

impl FileReload {
    /// Of the file that `config` was read from, for this node.
    #[must_use]
    pub fn new(path: PathBuf, config: &Config, node: &config::Node) -> Self {
        Self {
            path,
            node: node.name.to_string(),
            fixed: fixed(config, node),
            surroundings: Surroundings::default(),
            in_force: None,
        }
    }

    /// With the addresses at which the node really listens, and what it starts with.
    #[must_use]
    pub(super) fn within(self, surroundings: Surroundings, in_force: Arc<Settings>) -> Self {
        Self { surroundings, in_force: Some(in_force), ..self }
    }
}

impl Reload for FileReload {
    fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let loaded = config::load(&self.path).map_err(|mistakes| bad(&mistakes))?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let config = loaded.config;
        let node = config.node(Some(&self.node)).map_err(|what| format!("{what}; this needs a restart"))?;
        let changed = differences(&self.fixed, &fixed(&config, node));
        if !changed.is_empty() {
            return Err(format!("this needs a restart: {}", changed.join(", ")).into());
        }
        let tls = certificates::of_node(&config, node).map_err(|error| error.to_string())?;
        self.surroundings.resolved = look_up_trunks(&config);
        let sip_peers = tls.sip_peers.clone().located(&config, &self.surroundings.resolved);
        let tls = TlsConfigs { sip_peers, ..tls };
        self.surroundings.certificate_ends = Some(tls.ends);
        self.surroundings.revoked = Arc::clone(&tls.revoked);
        let settings = Arc::new(Settings::of(&config, node, &self.surroundings));
        let before = self.in_force.replace(Arc::clone(&settings)).unwrap_or_else(|| Arc::clone(&settings));
        let switch = Box::new(Switch::between(&before, settings));
        Ok(Reloaded { switch, tls, limits: Limits::of(&config) })
    }
}

/// Places that the log names; `check-config` says them all.
const LOGGED_PLACES: usize = 20;

/// What a bad file is: the mistakes for who asked, their places for the log.
fn bad(mistakes: &[Mistake]) -> NotReloaded {
    let places: Vec<String> =
        mistakes.iter().take(LOGGED_PLACES).map(|mistake| mistake.place.to_string()).collect();
    let more = if mistakes.len() > LOGGED_PLACES { ", …" } else { "" };
    let (count, places) = (mistakes.len(), places.join(", "));
    let word = if count == 1 { "mistake" } else { "mistakes" };
    let logged = format!("{count} {word}, at {places}{more}: `ctimanager check-config` says what is wrong");
    NotReloaded { told: lines(mistakes), logged }
}

/// What needs a restart, as (path, value).
fn fixed(config: &Config, node: &config::Node) -> Vec<(String, String)> {
    let port = |port: Option<u16>| port.map_or("none".to_owned(), |port| port.to_string());
    let names: Vec<&str> = config.nodes.iter().map(|node| node.name.as_str()).collect();
    let own = |key: &str| format!("nodes[{}].{key}", node.name);
    vec![
        ("cluster.name".into(), config.cluster.name.to_string()),
        ("the nodes' names".into(), names.join(" ")),
        (own("host"), hosts(node)),
        (own("advertise"), advertised(node)),
        (own("services"), format!("callmanager {}, ctimanager {}", node.callmanager, node.ctimanager)),
        (own("sip.udp"), port(node.sip.udp)),
        (own("sip.tcp"), port(node.sip.tcp)),
        (own("sip.tls"), port(node.sip.tls)),
        (own("cti.tls"), port(node.cti.tls)),
        (own("cti.plain"), port(node.cti.plain)),
        (own("web"), port(node.web)),
        (own("cluster"), port(node.cluster)),
        ("where the other nodes are reached (`host`, `advertise`, `cluster`)".into(), others(config, node)),
        ("service_parameters.password_threads".into(), config.parameters.password_threads.to_string()),
        ("service_parameters.input_queue".into(), config.parameters.input_queue.to_string()),
        ("service_parameters.input_queue_bytes".into(), config.parameters.input_queue_bytes.to_string()),
        (
            "service_parameters.sip_udp_buffer_bytes".into(),
            config.parameters.sip_udp_buffer_bytes.to_string(),
        ),
        (own("state_dir"), node.state_dir.display().to_string()),
        ("service_parameters.persist_sessions".into(), config.parameters.persist_sessions.to_string()),
    ]
}

/// Where the other nodes are, for who connects to them.
fn others(config: &Config, node: &config::Node) -> String {
    let each = super::cluster::peers_of(config, node).into_iter().map(|peer| {
        let addresses: Vec<String> =
            peer.addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{} {}", peer.node, addresses.join(" "))
    });
    each.collect::<Vec<_>>().join(", ")
}

/// A node's hosts: each once where all that listens has the same.
fn hosts(node: &config::Node) -> String {
    let mut texts: Vec<String> =
        Listener::ALL.iter().map(|listener| node.addresses.hosts(*listener).join(" ")).collect();
    texts.dedup();
    texts.join(", ")
}

/// What is told of each of them, where it is told.
fn advertised(node: &config::Node) -> String {
    let mut texts: Vec<String> =
        Listener::ALL.iter().map(|listener| node.addresses.advertise(*listener)).collect();
    texts.dedup();
    match texts.join(", ") {
        none if none.is_empty() => "none".to_owned(),
        texts => texts,
    }
}

fn differences(before: &[(String, String)], after: &[(String, String)]) -> Vec<String> {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|((_, old), (_, new))| old != new)
        .map(|((path, old), (_, new))| format!("{path} ({old} → {new})"))
        .collect()
}

/// An order to reload; the answer goes back to whoever gave it.
#[derive(Debug)]
pub(super) struct ReloadOrder {
    pub(super) by: Orderer,
    pub(super) answer: oneshot::Sender<Result<(), String>>,
}

/// Carries out one order after the other.
pub(super) async fn reload_on_order(
    mut reload: Option<Box<dyn Reload>>,
    mut orders: mpsc::Receiver<ReloadOrder>,
    queue: Queue,
    tls: Arc<ArcSwap<TlsConfigs>>,
    limits: Arc<ArcSwap<Limits>>,
) {
    while let Some(order) = orders.recv().await {
        let Some(mut reader) = reload.take() else {
            let _ = order.answer.send(Err("this node has no configuration file to read again".into()));
            continue;
        };
        let read = tokio::task::spawn_blocking(move || {
            let result = reader.reload();
            (reader, result)
        });
        let result = match read.await {
            Ok((reader, result)) => {
                reload = Some(reader);
                result
            }
            Err(_) => Err("reading the configuration failed unexpectedly; restart to change it".into()),
        };
        let result = match result {
            Ok(new) => apply(new, &queue, &tls, &limits).await.map_err(NotReloaded::from),
            Err(what) => Err(what),
        };
        let rule = "checked configuration".to_owned();
        let outcome = match &result {
            Ok(()) => {
                info!("configuration reloaded");
                Outcome::Allowed(rule)
            }
            Err(what) => {
                error!("configuration not reloaded: {}", what.logged);
                debug!("configuration not reloaded: {}", what.told);
                Outcome::Refused { symbol: "CONFIGURATION_REFUSED", rule }
            }
        };
        super::report::audit_order(order.by, "reload", outcome);
        // SIGHUP waits for no answer.
        let _ = order.answer.send(result.map_err(|what| what.told));
    }
}

async fn apply(
    new: Reloaded,
    queue: &Queue,
    tls: &ArcSwap<TlsConfigs>,
    limits: &ArcSwap<Limits>,
) -> Result<(), String> {
    const STOPPING: &str = "the node is stopping";
    let (asker, in_force) = oneshot::channel();
    queue.send(Event::Configure(new.switch, asker)).await.map_err(|_| STOPPING)?;
    in_force.await.map_err(|_| STOPPING)?;
    tls.store(Arc::new(new.tls));
    limits.store(Arc::new(new.limits));
    Ok(())
}
