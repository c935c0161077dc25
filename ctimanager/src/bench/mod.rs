//! `ctimanager bench`: what a node costs and how fast it is, measured from outside.
//!
//! The node is a process of its own; here are a caller (a SIP trunk over UDP) and an application (over TLS), each on a
//! thread of its own. Times are taken in this process, the node's processor time and memory come from the kernel.
//! How it is read, and what was measured where: docs/performance.md.

mod application;
mod figures;
mod load;
mod node;
mod proc;
mod storm;
mod subscribers;
mod table;

pub use figures::{Figures, Held, Idle, Limit, Percentiles, Step, Subscribers};
pub use storm::{LoginFigures, LoginOptions, Phase, Refusal, Storm, run as logins};

use application::{Application, Heard, Media};
use figures::Spent;
use load::Load;
use node::{NodeProcess, NodeWish};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Where both sides say that they want their RTP. No audio flows in this measurement.
const MEDIA: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 30_000);
/// How long each call of the steps is held.
const HOLD: Duration = Duration::from_millis(500);
/// The default of `max_login_failures_per_minute`.
const LOGIN_FAILURES: u32 = 10;
/// Calls' numbers of one step; the next step begins at the next multiple.
const NUMBERS: u64 = 1_000_000;
/// Room for bursts of datagrams; the kernel grants what it may.
const UDP_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Seconds at the first rate, 100 calls a second.
    pub first_seconds: u32,
    /// The higher rates, calls a second, in order; the first that fails ends them.
    pub rates: Vec<u32>,
    /// Seconds at each of them.
    pub seconds: u32,
    /// Calls held at once for the memory of one.
    pub held: u32,
    /// Devices opened for the memory of one; at most 10,000.
    pub idle: u32,
    /// Sessions that all have one device open, and calls a second at it.
    pub subscribers: Vec<(u32, u32)>,
    /// Seconds with each number of them.
    pub subscriber_seconds: u32,
    /// Whether the node keeps its sessions (`persist_sessions`).
    pub persist: bool,
}

impl BenchOptions {
    fn node(&self) -> NodeWish {
        NodeWish { login_failures: LOGIN_FAILURES, persist: self.persist }
    }

    /// All of it: some four minutes.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            first_seconds: 20,
            rates: vec![200, 700, 1_500, 2_100, 3_000, 4_000, 6_000],
            seconds: 10,
            held: 5_000,
            idle: 10_000,
            subscribers: vec![(1, 700), (100, 100), (1_000, 20)],
            subscriber_seconds: 10,
            persist: false,
        }
    }

    /// A look: some half a minute.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            first_seconds: 5,
            rates: vec![700, 2_100, 4_000],
            seconds: 3,
            held: 1_000,
            idle: 2_000,
            subscribers: vec![(1, 700), (100, 100)],
            subscriber_seconds: 3,
            persist: false,
        }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the sentences say it
pub enum BenchError {
    #[error("the node: {0}")]
    Node(String),
    #[error("the application: {0}")]
    Application(String),
    #[error("the system gives no random numbers")]
    Entropy,
    #[error("a thread of the measurement ended unexpectedly")]
    Thread,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Measures; tells what it is about to do. It takes the time that its options add up to, and ends everything that it
/// has begun.
///
/// # Errors
/// When the node does not run or the application is not served.
pub async fn run(options: &BenchOptions, say: &mut dyn FnMut(&str)) -> Result<Figures, BenchError> {
    say(&format!("{}; the caller, the application and the node share it", proc::describe()));
    let steps = steps(options, say).await?;
    say(&format!("{} calls held at once", options.held));
    let held = held(options).await?;
    say(&format!("{} devices opened", options.idle));
    let idle = idle(options).await?;
    let subscribers = subscribers::measure(options, say).await?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(Figures { machine: proc::describe(), version, steps, held, idle, subscribers })
}

/// A node, an application that answers its calls, and a socket to call from.
struct Site {
    node: NodeProcess,
    heard: Heard,
    socket: std::net::UdpSocket,
    stop: oneshot::Sender<()>,
    answering: JoinHandle<Result<(), BenchError>>,
}

impl Site {
    async fn open(name: &str, wish: NodeWish, media: Media) -> Result<Self, BenchError> {
        let (socket, node) = caller_and_node(name, wish).await?;
        let (sip, cti, ca, password) = (node.sip, node.cti, node.ca.clone(), node.password.clone());
        debug_assert!(sip.port() != 0, "the log says where it really listens");
        let heard = Heard::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, opened) = oneshot::channel();
        let answering = {
            let heard = heard.clone();
            std::thread::Builder::new().name("bench-app".into()).spawn(move || {
                alone(async move {
                    let mut application = Application::open(cti, &ca, node::USER, &password).await?;
                    application.open_device(node::ROUTE_POINT, media).await?;
                    // Whoever waits may have given up.
                    let _ = ready.send(());
                    application.answer_calls(heard, stopped).await
                })
            })?
        };
        if opened.await.is_err() {
            return Err(joined(answering).await.err().unwrap_or(BenchError::Thread));
        }
        Ok(Self { node, heard, socket, stop, answering })
    }

    /// Places calls on a thread of their own.
    fn call(&self, load: Load) -> Result<JoinHandle<Result<Vec<load::Outcome>, BenchError>>, BenchError> {
        let socket = self.socket.try_clone()?;
        let place = async move {
            let socket = UdpSocket::from_std(socket)?;
            Ok(load::place(&socket, &load).await?)
        };
        Ok(std::thread::Builder::new().name("bench-caller".into()).spawn(move || alone(place))?)
    }

    fn load(&self, step: usize, rate: u32, calls: u32, hold: Duration) -> Load {
        let first = NUMBERS * (step as u64 + 1);
        Load { node: self.node.sip, number: node::NUMBER.into(), first, rate, calls, hold, media: MEDIA }
    }

    async fn close(self) -> Result<(), BenchError> {
        // An application that has failed says so when it is joined.
        let _ = self.stop.send(());
        joined(self.answering).await?;
        self.node.stop().await
    }
}

async fn caller_and_node(
    name: &str,
    wish: NodeWish,
) -> Result<(std::net::UdpSocket, NodeProcess), BenchError> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // The kernel grants what it may; less only loses more at the highest rates.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let socket = std::net::UdpSocket::from(socket);
    let node = NodeProcess::start(name, socket.local_addr()?, wish).await?;
    Ok((socket, node))
}

/// The rates, one after the other, on one node.
async fn steps(options: &BenchOptions, say: &mut dyn FnMut(&str)) -> Result<Vec<Step>, BenchError> {
    let site = Site::open("steps", options.node(), Media::Static(MEDIA)).await?;
    let mut steps = Vec::new();
    let rates = std::iter::once((100, options.first_seconds))
        .chain(options.rates.iter().map(|rate| (*rate, options.seconds)));
    for (index, (rate, seconds)) in rates.enumerate() {
        say(&format!("{rate} calls/s for {seconds} s"));
        let load = site.load(index, rate, rate * seconds, HOLD);
        let (me, node) = (std::process::id(), site.node.id());
        let before = Spent::now(node, me);
        let first = load.first;
        let outcomes = joined(site.call(load)?).await?;
        let spent = Spent::now(node, me).since(&before);
        let refused = site.heard.take_refused();
        let step = Step::of(rate, first, &outcomes, &site.heard.take_offered(), refused, spent);
        let clean = step.is_clean();
        steps.push(step);
        if !clean {
            break;
        }
    }
    site.close().await?;
    Ok(steps)
}

/// So many calls at once on a fresh node, and its memory before and with them.
async fn held(options: &BenchOptions) -> Result<Held, BenchError> {
    let calls = options.held;
    let site = Site::open("held", options.node(), Media::Static(MEDIA)).await?;
    let node = site.node.id();
    let before = proc::resident(node);
    let rate = 250;
    let placing = Duration::from_secs_f64(f64::from(calls) / f64::from(rate));
    // Nobody hangs up before all are there and were looked at.
    let load = site.load(0, rate, calls, placing + Duration::from_secs(6));
    let caller = site.call(load)?;
    sleep(placing + Duration::from_secs(3)).await;
    let with = proc::resident(node);
    let threads = proc::threads(node);
    let outcomes = joined(caller).await?;
    site.close().await?;
    let answered = outcomes.iter().filter(|outcome| outcome.answered.is_some()).count();
    let held = u32::try_from(answered).unwrap_or(u32::MAX);
    Ok(Held { calls: held, wanted: calls, threads, resident_before: before, resident_with: with })
}

/// So many open devices on a fresh node, and its memory before and with them.
async fn idle(options: &BenchOptions) -> Result<Idle, BenchError> {
    let devices = options.idle;
    let (_socket, node) = caller_and_node("idle", options.node()).await?;
    let mut application = Application::open(node.cti, &node.ca, node::USER, &node.password).await?;
    let before = proc::resident(node.id());
    let names = (1..=devices.min(10_000)).map(|number| format!("PORT_{number:05}"));
    let started = now();
    let opened = application.open_devices(names, Media::Static(MEDIA)).await?;
    let took = now() - started;
    let with = proc::resident(node.id());
    drop(application);
    node.stop().await?;
    let devices = u32::try_from(opened).unwrap_or(u32::MAX);
    Ok(Idle {
        devices,
        opened_in_ms: took.as_secs_f64() * 1_000.0,
        resident_before: before,
        resident_with: with,
    })
}

/// Runs a task on this thread until it ends.
fn alone<T>(task: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

async fn joined<T: Send + 'static>(thread: JoinHandle<Result<T, BenchError>>) -> Result<T, BenchError> {
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    joined.map_err(|_| BenchError::Thread)?.map_err(|_| BenchError::Thread)?
}

#[allow(clippy::disallowed_methods)] // a measurement has a clock
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)] // certificates begin now
fn wall() -> SystemTime {
    SystemTime::now()
}
