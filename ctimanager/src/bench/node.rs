//! The node that is measured: `ctimanager run` as a process of its own, with a configuration and certificates of its
//! own in a folder that goes with it.

use super::BenchError;
use crate::admin::pki;
use rand::TryRng;
use rand::rngs::SysRng;
use security::{Secret, password, tls};
use serde::Deserialize;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

/// The number that the caller dials; its route point is [`ROUTE_POINT`].
pub(super) const NUMBER: &str = "5000";
/// What the application opens to answer calls.
pub(super) const ROUTE_POINT: &str = "RP_BENCH";
/// The application's user.
pub(super) const USER: &str = "bench";
/// A user without a password.
pub(super) const CERTIFIED: &str = "certified";
/// A user with a password who may not use CTI.
pub(super) const DISABLED: &str = "disabled";

const CONFIG: &str = include_str!("bench.yaml");
/// How long the node may take to start, its ten thousand devices included.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END: Duration = Duration::from_secs(10);
/// Lines of its log that are kept.
const LAST_WORDS: usize = 8;

/// Only sessions with a grace are kept.
const KEPT: &str = "persist_sessions: true, session_resume_grace: 30s";

/// What of a node's configuration differs from one measurement to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeWish {
    /// `max_login_failures_per_minute`
    pub(super) login_failures: u32,
    /// `persist_sessions`, on the disk of the folder for temporary files.
    pub(super) persist: bool,
}

/// A running node. To drop it kills it and removes its folder.
#[derive(Debug)]
pub(super) struct NodeProcess {
    /// SIP over UDP.
    pub(super) sip: SocketAddr,
    /// CTI over TLS.
    pub(super) cti: SocketAddr,
    /// Its authority (PEM).
    pub(super) ca: String,
    /// The application's password.
    pub(super) password: Secret,
    /// The same user's way in without a password.
    pub(super) certified: Arc<ClientConfig>,
    child: Child,
    last_words: LastWords,
    _folder: Folder,
}

/// The last lines of a node's log, to be shown when it fails.
#[derive(Clone, Debug, Default)]
struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > LAST_WORDS {
            lines.pop_front();
        }
    }

    fn failed(&self, what: &str) -> BenchError {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = lines.iter().map(|line| format!("\n{line}")).collect();
        BenchError::Node(format!("{what}; its log ends with{lines}"))
    }
}

/// A folder for this process alone.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind in the folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn make(name: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ctimanager-bench-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl NodeProcess {
    /// Starts a node whose trunk is `caller`, and waits until it listens.
    pub(super) async fn start(name: &str, caller: SocketAddr, wish: NodeWish) -> Result<Self, BenchError> {
        let folder = Folder::make(name)?;
        let mut random = [0; 32];
        SysRng.try_fill_bytes(&mut random).map_err(|_| BenchError::Entropy)?;
        let (salt, rest) = random.split_at(16);
        let password = Secret::new(rest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let salt = <[u8; 16]>::try_from(salt).map_err(|_| BenchError::Entropy)?;
        let hash = password::hash(&password, salt).map_err(|e| BenchError::Node(e.to_string()))?;
        let config = CONFIG.replace("CALLER_PORT", &caller.port().to_string()).replace("HASH", &hash);
        let config = config.replace("PERSIST", if wish.persist { KEPT } else { "persist_sessions: false" });
        let config = config.replace("LOGIN_FAILURES", &wish.login_failures.to_string());
        let file = folder.path().join("bench.yaml");
        std::fs::write(&file, config)?;
        let keys = folder.path().join("pki");
        pki::init_files(&keys, "bench", &[("cm1".to_owned(), Vec::new())], false, super::wall())
            .map_err(|e| BenchError::Node(e.to_string()))?;
        let ca = std::fs::read_to_string(keys.join("ca.pem"))?;
        let certified = certified(&keys, &ca)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(&file).arg("--state").arg(folder.path().join("state"));
        command.arg("--socket").arg(folder.path().join("socket")).args(["--log", "json"]);
        command.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let log = child.stderr.take().ok_or_else(|| BenchError::Node("it has no log".into()))?;
        let last_words = LastWords::default();
        let (sip, cti) = match timeout(START, listening(log, last_words.clone())).await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(last_words.failed("it ended at its start")),
            Err(_) => return Err(last_words.failed("it did not start in time")),
        };
        Ok(Self { sip, cti, ca, password, certified, child, last_words, _folder: folder })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Asks it to end, as an operator would, and waits.
    pub(super) async fn stop(mut self) -> Result<(), BenchError> {
        let id =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself; waiting for it says so.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        match timeout(END, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(status)) => Err(self.last_words.failed(&format!("it ended with {status}"))),
            Err(_) => Err(self.last_words.failed("it did not end in time")),
        }
    }
}

fn certified(keys: &Path, ca: &str) -> Result<Arc<ClientConfig>, BenchError> {
    let failed = |error: &dyn std::fmt::Display| BenchError::Application(error.to_string());
    let certificate = pki::client_files(keys, USER, false, super::wall()).map_err(|e| failed(&e))?;
    let key = Secret::new(std::fs::read_to_string(certificate.with_extension("key"))?);
    let chain = std::fs::read_to_string(certificate)?;
    let identity = tls::Identity::from_pem(&chain, &key).map_err(|e| failed(&e))?;
    tls::client(ca, Some(identity)).map_err(|e| failed(&e))
}

/// What is needed of a line of its log.
#[derive(Deserialize)]
struct LogLine {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    message: String,
    address: Option<String>,
}

/// Reads the log until it has said where the node listens, and goes on reading, so that the node never waits for us.
/// `None` when it ends before.
async fn listening(log: ChildStderr, last_words: LastWords) -> Option<(SocketAddr, SocketAddr)> {
    let (found, mut finding) = watch::channel((None, None));
    tokio::spawn(async move {
        let mut lines = BufReader::new(log).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let read = serde_json::from_str(&line);
            last_words.push(line);
            let Ok(LogLine { fields }) = read else { continue };
            let Some(address) = fields.address.and_then(|a| a.parse::<SocketAddr>().ok()) else { continue };
            found.send_modify(|(sip, cti)| match fields.message.as_str() {
                "SIP over UDP" => *sip = Some(address),
                "CTI over TLS" => *cti = Some(address),
                _ => {}
            });
        }
    });
    let both = finding.wait_for(|(sip, cti)| sip.is_some() && cti.is_some()).await.ok()?;
    both.0.zip(both.1)
}
