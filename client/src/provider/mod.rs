//! The SDK in JTAPI's words: a [`Provider`] has [`Terminal`]s, these have [`Address`]es; a [`Call`] has
//! [`Connection`]s to addresses, these have [`TerminalConnection`]s, which are the contract's legs.
//!
//! Handles are cheap to clone and stay valid: what they name may go, then their requests are refused. Nothing here
//! panics because of what a server sends or because it goes away; that is an event ([`ProviderEvent`]).

// The network half of the SDK: it has sockets, heartbeats and time limits, and so the clock.
#![allow(clippy::disallowed_methods)]

mod call;
mod connector;
mod driver;
mod error;
mod link;
mod observer;
mod reconnect;
mod registry;
mod terminal;

pub use call::{Call, Connection, ConnectionState, Redirect, TerminalConnection, Transfer};
pub use connector::{Connecting, Connector, Stream};
pub use error::{ConnectError, Error};
pub use observer::{
    Events, GaveUp, LostReason, MAX_WAITING_EVENTS, MAX_WAITING_LEG_EVENTS, Observed, ProviderEvent,
    ProviderState,
};
pub use registry::{LegStatus, MAX_WAITING_CALLS};
pub use terminal::{Address, Calls, MakeCall, Terminal};

use device_model::{CallId, Dn, LegId};
use driver::{Adopt, Answer, Command, Driver};
use link::Dialer;
use protocol::Secret;
use protocol::frame::MAX_LINE_BYTES;
use protocol::methods::{
    self, Call as Method, Cursor, Glob, PageSize, ProviderClose, ProviderDevices, ProviderMonitorPark,
    ProviderOpened, ProviderSnapshot, Scope, Snapshot,
};
use protocol::rpc::{self, Id};
use protocol::wire::{Device, DeviceType};
use registry::{LegRef, Registry};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Requests on their way to the driver; the next one waits for a place.
const MAX_COMMANDS: usize = 256;

/// How often a snapshot is begun whose pages could not be fetched in time.
const SNAPSHOT_ATTEMPTS: usize = 3;

/// Whether a cursor was worth nothing any more.
fn is_late(error: &Error) -> bool {
    matches!(error, Error::Refused(refused) if refused.data.field.as_deref() == Some("cursor"))
}

/// How to reach a CTIManager. There is no falling back from one to the other.
#[derive(Clone)]
pub enum Transport {
    /// NDJSON over TLS 1.2 or later.
    Tls {
        /// The authority to trust, and no other (PEM).
        ca_pem: String,
        /// The name that the server's certificate must have; `None` = the host of the server's address.
        server_name: Option<String>,
        /// A client certificate (PEM chain) and its key (PEM), in place of or beside a password.
        identity: Option<(String, security::secret::Secret)>,
    },
    /// NDJSON over plain TCP: everybody on the way can read and change everything, the password too.
    PlainTcp,
    /// NDJSON over connections that the author makes.
    Through(Arc<dyn Connector>),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Tls { server_name, identity, ca_pem: _ } => f
                .debug_struct("Tls")
                .field("server_name", server_name)
                .field("identity", &identity.is_some())
                .finish_non_exhaustive(),
            Transport::PlainTcp => f.write_str("PlainTcp"),
            Transport::Through(_) => f.write_str("Through"),
        }
    }
}

/// What a provider needs to know.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// `host:port` of CTIManagers, the preferred first.
    pub servers: Vec<String>,
    /// To come back to `servers` alone, and not to those that the cluster names: for a network in which its names lead
    /// nowhere (a tunnel, a load balancer).
    pub only_configured: bool,
    /// How to reach them.
    pub transport: Transport,
    /// The application's user.
    pub user: String,
    /// Its password; `None` with a client certificate.
    pub password: Option<Secret>,
    /// The application's name, as operators will see it.
    pub application: String,
    /// Which of several of the same application.
    pub instance: Option<String>,
    /// The heartbeat wished for; the server decides.
    pub heartbeat: Option<Duration>,
    /// Event types (globs) to be told; `None` = all. The handles know only what is told.
    pub subscribe: Option<Vec<String>>,
    /// How long the session shall be held after a lost connection; the server decides.
    pub resume_grace: Option<Duration>,
    /// How long a request may wait for its answer.
    pub request_timeout: Duration,
    /// How long connecting to one server may take.
    pub connect_timeout: Duration,
    /// Whether and how to come back after a lost connection; `None` = the provider shuts down.
    pub reconnect: Option<Reconnect>,
}

/// How to come back after a lost connection: all servers in turn, at once after a connection that has lasted, then after a
/// pause, twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// When to give up.
    pub give_up_after: Duration,
    /// Where the chance in the pauses comes from.
    pub jitter: Jitter,
}

/// Where the chance in a pause comes from; it lasts from half of its time to all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// The system.
    #[default]
    System,
    /// This number, for runs that are to be repeated.
    Seed(u64),
}

impl Default for Reconnect {
    /// 100 ms to 10 s, for an hour.
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            give_up_after: Duration::from_secs(3_600),
            jitter: Jitter::System,
        }
    }
}

impl ProviderConfig {
    /// A configuration with the usual limits: 30 s for a request, 5 s to connect, coming back after a loss.
    #[must_use]
    pub fn new(server: &str, transport: Transport, user: &str, password: Secret, application: &str) -> Self {
        Self {
            servers: vec![server.to_owned()],
            only_configured: false,
            transport,
            user: user.to_owned(),
            password: Some(password),
            application: application.to_owned(),
            instance: None,
            heartbeat: None,
            subscribe: None,
            resume_grace: None,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            reconnect: Some(Reconnect::default()),
        }
    }

    fn dialer(&self) -> Result<Dialer, ConnectError> {
        Ok(match &self.transport {
            Transport::PlainTcp => Dialer::Plain,
            Transport::Through(connector) => Dialer::Through(connector.clone()),
            Transport::Tls { ca_pem, server_name, identity } => {
                let identity = identity.as_ref();
                let identity = identity.map(|(chain, key)| security::tls::Identity::from_pem(chain, key));
                let config = security::tls::client(ca_pem, identity.transpose()?)?;
                Dialer::Tls { config, server_name: server_name.clone() }
            }
        })
    }
}

/// An application's session with a cluster.
///
/// When the last handle (of this provider, its terminals, legs…) is dropped, the session is closed in order.
#[derive(Clone, Debug)]
pub struct Provider {
    shared: Arc<Shared>,
}

/// What all handles share.
#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    registry: Arc<Registry>,
    ids: Arc<AtomicU64>,
    request_timeout: Duration,
}

impl Shared {
    async fn call<C: Method>(&self, call: &C) -> Result<C::Answer, Error> {
        self.request(call, Adopt::Nothing).await.map(|(answer, _)| answer)
    }

    async fn request<C: Method>(&self, call: &C, adopt: Adopt) -> Result<(C::Answer, Vec<LegRef>), Error> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let idem = C::CHANGES.then(|| driver::idempotency_key(id));
        let frame = rpc::request_frame(&Id::number(id), C::METHOD, &methods::params(call, idem.as_deref()));
        if frame.head.len() + frame.tail.len() > MAX_LINE_BYTES {
            return Err(Error::TooLong);
        }
        // To open a device that is open already, or to close twice, is the same as once.
        let repeatable = !C::CHANGES || matches!(adopt, Adopt::Opened { .. } | Adopt::ProviderClosed);
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            let until = Instant::now() + self.request_timeout;
            let command = Command { id, frame, adopt, repeatable, until, reply: Some(reply) };
            self.commands.send(command).await.map_err(|_| Error::ShutDown)?;
            answer.await.map_err(|_| Error::ShutDown)?
        };
        let timed = tokio::time::timeout(self.request_timeout, exchange).await;
        let Answer { result, legs } = timed.map_err(|_| Error::Timeout)??;
        let answer = serde_json::from_str(result.get()).map_err(|e| Error::BadAnswer(e.to_string()))?;
        Ok((answer, legs))
    }
}

impl Provider {
    /// Connects and opens a session. To be called in a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing is tried again here.
    pub async fn connect(config: ProviderConfig) -> Result<Self, ConnectError> {
        let dialer = config.dialer()?;
        let (link, opened) = reconnect::open_first(&config, &dialer).await?;
        let (commands, command_rx) = mpsc::channel(MAX_COMMANDS);
        let (registry, ids) = (Arc::new(Registry::new()), Arc::new(AtomicU64::new(1)));
        let shared = Shared {
            commands,
            registry: registry.clone(),
            ids: ids.clone(),
            request_timeout: config.request_timeout,
        };
        let driver = Driver::new(Arc::new(config), dialer, registry, command_rx, ids, opened);
        tokio::spawn(driver.run(link));
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the server said of the session when it was opened, or last opened again.
    #[must_use]
    pub fn session(&self) -> Option<Arc<ProviderOpened>> {
        self.shared.registry.session()
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> ProviderState {
        *self.shared.registry.state().borrow()
    }

    /// The state, to be watched.
    #[must_use]
    pub fn state_changes(&self) -> watch::Receiver<ProviderState> {
        self.shared.registry.state()
    }

    /// Everything that is told to this session from now on, and what happens to its connection.
    #[must_use]
    pub fn events(&self) -> Events<ProviderEvent> {
        Events::new(self.shared.registry.observe())
    }

    /// A terminal (device) by its name. Whether it exists shows when it is opened.
    #[must_use]
    pub fn terminal(&self, name: &str) -> Terminal {
        Terminal::new(self.shared.clone(), name.into())
    }

    /// The devices that fit, all pages of the list.
    ///
    /// # Errors
    /// `PRIVILEGE_VIOLATION` for [`Scope::All`] without the group; any [`Error`].
    pub async fn devices(
        &self,
        kind: Option<DeviceType>,
        name: Option<&str>,
        scope: Option<Scope>,
    ) -> Result<Vec<Device>, Error> {
        let (mut devices, mut cursor) = (Vec::new(), None::<Cursor>);
        loop {
            let request = ProviderDevices {
                type_: kind,
                name: name.map(Glob::from),
                cursor: cursor.clone(),
                limit: Some(PageSize(1_000)),
                scope,
            };
            let page = self.shared.call(&request).await?;
            let next = page.cursor.map(|c| Cursor::from(&*c));
            // A page without devices that names a next one would never end.
            let ended = next.is_none() || next == cursor || page.devices.is_empty();
            devices.extend(page.devices);
            if ended {
                return Ok(devices);
            }
            cursor = next;
        }
    }

    /// Everything that the session has open, as it is now: one moment, in however many pages it comes. While they are
    /// fetched the server holds events back, as long as that does not take too long; then it is begun anew.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut attempts = 1;
        loop {
            match self.snapshot_once().await {
                Err(error) if attempts < SNAPSHOT_ATTEMPTS && is_late(&error) => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn snapshot_once(&self) -> Result<Snapshot, Error> {
        let mut whole = self.shared.call(&ProviderSnapshot { cursor: None, limit: None }).await?;
        while let Some(cursor) = whole.cursor.take() {
            let request = ProviderSnapshot { cursor: Some(Cursor::from(&*cursor)), limit: None };
            let page = self.shared.call(&request).await?;
            // A page that names itself as the next one would never end.
            whole.cursor = page.cursor.filter(|next| *next != cursor);
            for device in page.devices {
                match whole.devices.last_mut() {
                    // Its calls did not fit on the page before.
                    Some(last) if last.device.name == device.device.name => last.legs.extend(device.legs),
                    Some(_) | None => whole.devices.push(device),
                }
            }
        }
        Ok(whole)
    }

    /// Starts or stops the events of parked calls; gives the park numbers.
    ///
    /// *Planned*: no node of this version does it, the answer is `OPERATION_NOT_SUPPORTED`.
    ///
    /// # Errors
    /// `PRIVILEGE_VIOLATION` without Allow Call Park Monitoring; any [`Error`].
    pub async fn monitor_park(&self, on: bool) -> Result<Vec<Dn>, Error> {
        let (answer, _) = self.shared.request(&ProviderMonitorPark { on }, Adopt::ParkMonitored(on)).await?;
        Ok(answer.park_numbers)
    }

    /// A leg that the session knows now.
    #[must_use]
    pub fn terminal_connection(&self, leg: LegId) -> Option<TerminalConnection> {
        let leg = self.shared.registry.leg(leg)?;
        Some(TerminalConnection::new(self.shared.clone(), leg))
    }

    /// A call, as the session sees it: by its legs on open devices.
    #[must_use]
    pub fn call(&self, call: CallId) -> Call {
        Call::new(self.shared.clone(), call)
    }

    /// Leaves in order: the session's devices are closed, the provider is shut down.
    ///
    /// # Errors
    /// Any [`Error`]; the provider is shut down all the same when there was no connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.request(&ProviderClose {}, Adopt::ProviderClosed).await.map(|_| ())
    }
}
