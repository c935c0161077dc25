//! The administrators' Unix socket: one JSON request a line, one JSON answer a line.
//!
//! Request: `{"command": "status"}`, with `device` and `user` for `explain`, `dn` for `dependencies`.
//! Answer: `{"ok": …}` or `{"error": "a sentence"}`.

use super::limits::Alive;
use super::queue::{Event, Queue};
use super::reload::ReloadOrder;
use super::report::{self, Orderer};
use super::unix::Address;
use super::web::Readiness;
use crate::node::AdminRequest;
use security::audit::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

/// The longest request.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// A request must be whole, and an idle asker gone, after this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The node answers within this time or not at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Askers at once.
const MAX_ASKERS: usize = 32;

/// What an administrator may ask a running node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)] // the commands of the command line
pub enum Request {
    Status,
    Devices,
    Calls,
    Sessions,
    Alarms,
    Nodes,
    Explain { device: String, user: String },
    ExplainNumber { number: String, from: String, line: Option<String> },
    Dependencies { dn: String },
    Reload,
    Drain,
    Stop,
}

/// What the node says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The command's own object or list.
    Ok(Value),
    /// Why not.
    Error(String),
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    owner: u32,
}

impl Socket {
    /// Opens the socket for this system user alone. A file that a dead node left is replaced; one that somebody still
    /// answers on, or that is no socket, is not.
    pub(super) async fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(file) if !file.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file that is no socket",
                ));
            }
            Ok(_) => match UnixStream::connect(Address::of(path)?.path()).await {
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another node answers there"));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(error) => return Err(error),
            },
        }
        let listener = UnixListener::bind(Address::of(path)?.path())?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let file = std::fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), inode: file.ino(), owner: file.uid() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A node that started since may have put its own there.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What the askers' tasks share.
#[derive(Debug)]
pub(super) struct ControlShell {
    pub(super) queue: Queue,
    pub(super) reloads: mpsc::Sender<ReloadOrder>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) alive: Alive,
}

/// Serves askers for ever.
pub(super) async fn listen(socket: Socket, shell: Arc<ControlShell>) {
    let places = Arc::default();
    loop {
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "an administrator's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // The file's mode keeps others out; this keeps them out as well where a file system has no modes.
        let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
        let asker = uid.filter(|uid| *uid == 0 || *uid == socket.owner);
        let place = super::places::Places::take(&places, MAX_ASKERS);
        let (Some(asker), Some(place)) = (asker, place) else {
            warn!(allowed = asker.is_some(), "an administrator's connection was refused");
            continue;
        };
        let shell = Arc::clone(&shell);
        tokio::spawn(async move {
            let _alive = shell.alive.clone();
            // A broken connection needs nothing: nobody is left to be told.
            let _ = serve(stream, Orderer::SystemUser(asker), &shell).await;
            drop(place);
        });
    }
}

async fn serve(stream: UnixStream, by: Orderer, shell: &ControlShell) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut stream).take(MAX_REQUEST_BYTES);
        let read = timeout(REQUEST_LIMIT, limited.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => carry_out(request, by, shell).await,
            Err(error) => Answer::Error(format!("not a request: {error}")),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        stream.get_mut().write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn carry_out(request: Request, by: Orderer, shell: &ControlShell) -> Answer {
    let request = match request {
        Request::Reload => return reload(by, shell).await,
        Request::Status => AdminRequest::Status,
        Request::Devices => AdminRequest::Devices,
        Request::Calls => AdminRequest::Calls,
        Request::Sessions => AdminRequest::Sessions,
        Request::Alarms => AdminRequest::Alarms,
        Request::Nodes => AdminRequest::Nodes,
        Request::Explain { device, user } => AdminRequest::Explain { device, user },
        Request::ExplainNumber { number, from, line } => AdminRequest::ExplainNumber { number, from, line },
        Request::Dependencies { dn } => AdminRequest::Dependencies { dn },
        Request::Drain => AdminRequest::Drain,
        Request::Stop => AdminRequest::Stop,
    };
    let (asker, answer) = oneshot::channel();
    if shell.queue.send(Event::Admin(request.clone(), asker)).await.is_err() {
        return Answer::Error("the node is stopping".into());
    }
    match timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(Ok(value))) => {
            // Before the administrator hears that it is done, so that whoever asks `/readyz` then hears it, too.
            carried_out(&request, by, &shell.readiness);
            Answer::Ok(value)
        }
        Ok(Ok(Err(what))) => Answer::Error(what),
        Ok(Err(_)) => Answer::Error("the node is stopping".into()),
        Err(_) => Answer::Error("the node did not answer in time".into()),
    }
}

/// What changes the node is for the audit log, and for `/readyz`.
fn carried_out(request: &AdminRequest, by: Orderer, readiness: &Readiness) {
    let audit = |action| report::audit_order(by, action, Outcome::Allowed("control socket".into()));
    match request {
        AdminRequest::Drain => {
            readiness.set_draining();
            audit("drain");
        }
        AdminRequest::Stop => {
            readiness.set_stopping();
            audit("stop");
        }
        AdminRequest::Status
        | AdminRequest::Devices
        | AdminRequest::Calls
        | AdminRequest::Sessions
        | AdminRequest::Alarms
        | AdminRequest::Nodes
        | AdminRequest::Metrics
        | AdminRequest::Explain { .. }
        | AdminRequest::ExplainNumber { .. }
        | AdminRequest::Dependencies { .. } => {}
    }
}

async fn reload(by: Orderer, shell: &ControlShell) -> Answer {
    let (answer, done) = oneshot::channel();
    if shell.reloads.try_send(ReloadOrder { by, answer }).is_err() {
        return Answer::Error("earlier reloads are still at work; try again".into());
    }
    match done.await {
        Ok(Ok(())) => Answer::Ok(json!({"reloaded": true})),
        Ok(Err(what)) => Answer::Error(what),
        Err(_) => Answer::Error("the node is stopping".into()),
    }
}
