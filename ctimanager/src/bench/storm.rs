//! Logins: how many a second, what a storm of them does to the calls that run meanwhile, and what the time of a refusal
//! tells of its user.
//!
//! 100 calls a second run all the time, on their own threads. The storm comes from a thread of lower priority,
//! since on a real network it has machines of its own.

use super::application::{Application, Media, OpenFailure, trusting};
use super::figures::{Percentiles, Spent, Step};
use super::node::NodeWish;
use super::{BenchError, HOLD, MEDIA, Site, alone, joined, node, now, proc};
use security::Secret;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::rustls::ClientConfig;

/// Calls a second while the logins come.
const RATE: u32 = 100;
/// Applications that log in over and over.
const CROWD: usize = 64;
/// How much lower the priority of the storm is than that of caller and application.
const NICE: i32 = 10;
/// An application that was told to come again comes after this time, sooner than it was told.
const AGAIN: Duration = Duration::from_millis(10);

/// How long it takes.
#[derive(Clone, Copy, Debug)]
pub struct LoginOptions {
    /// Seconds of each phase.
    pub seconds: u32,
    /// Refused logins of each kind of user, one after the other.
    pub refusals: u32,
}

impl LoginOptions {
    /// All of it: some two minutes.
    #[must_use]
    pub fn whole() -> Self {
        Self { seconds: 15, refusals: 200 }
    }

    /// A look: some half a minute.
    #[must_use]
    pub fn quick() -> Self {
        Self { seconds: 3, refusals: 30 }
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct LoginFigures {
    /// The machine that all shared.
    pub machine: String,
    /// In their order.
    pub phases: Vec<Phase>,
    /// How long a refusal takes, by the kind of user.
    pub refusals: Vec<Refusal>,
}

/// What came beside the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Storm {
    /// Nothing.
    Calm,
    /// Right passwords, each on a connection of its own.
    Right,
    /// Wrong passwords, each of which is hashed.
    Wrong,
    /// Wrong passwords at the default of `max_login_failures_per_minute`.
    Guesses,
}

/// Some seconds of calls and logins.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What came beside the calls.
    pub storm: Storm,
    /// The calls.
    pub calls: Step,
    /// Logins that were decided (opened, or `LOGIN_FAILED`) a second.
    pub logins_per_second: f64,
    /// Those that were told to come again (`RATE_LIMITED`) a second.
    pub put_off_per_second: f64,
    /// From `provider.open` to its decision.
    pub login_ms: Percentiles,
}

/// Refusals of one kind of user.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// Which.
    pub user: &'static str,
    /// From `provider.open` to `LOGIN_FAILED`.
    pub ms: Percentiles,
    /// The median against that of the first kind.
    pub ratio: f64,
}

/// Measures.
///
/// # Errors
/// When the node does not run or the application is not served.
pub async fn run(options: LoginOptions, say: &mut dyn FnMut(&str)) -> Result<LoginFigures, BenchError> {
    let mut phases = Vec::new();
    let storms = [Storm::Calm, Storm::Right, Storm::Wrong, Storm::Calm];
    let wish = NodeWish { login_failures: 1_000_000, persist: false };
    let site = Site::open("logins", wish, Media::Static(MEDIA)).await?;
    for (index, storm) in storms.into_iter().enumerate() {
        say(&format!("{RATE} calls/s for {} s, logins: {storm}", options.seconds));
        phases.push(phase(&site, index, storm, options.seconds).await?);
    }
    say(&format!("{} refusals of each kind of user", options.refusals));
    let refusals = refusals(&site, options.refusals).await?;
    site.close().await?;
    let wish = NodeWish { login_failures: 10, persist: false };
    let site = Site::open("guesses", wish, Media::Static(MEDIA)).await?;
    for (index, storm) in [Storm::Calm, Storm::Guesses].into_iter().enumerate() {
        say(&format!("{RATE} calls/s for {} s, logins: {storm}", options.seconds));
        phases.push(phase(&site, index, storm, options.seconds).await?);
    }
    site.close().await?;
    Ok(LoginFigures { machine: proc::describe(), phases, refusals })
}

async fn phase(site: &Site, index: usize, storm: Storm, seconds: u32) -> Result<Phase, BenchError> {
    let (me, node) = (std::process::id(), site.node.id());
    let (stop, stopped) = watch::channel(());
    let tally = Arc::new(Mutex::new(Tally::default()));
    let crowd = match storm {
        Storm::Calm => None,
        Storm::Right | Storm::Wrong | Storm::Guesses => {
            let target = Target::of(site, storm == Storm::Right)?;
            Some(rage(target, Arc::clone(&tally), stopped)?)
        }
    };
    let load = site.load(index, RATE, RATE * seconds, HOLD);
    let (before, started, first) = (Spent::now(node, me), now(), load.first);
    let outcomes = joined(site.call(load)?).await?;
    let (spent, lasted) = (Spent::now(node, me).since(&before), (now() - started).as_secs_f64());
    drop(stop);
    if let Some(crowd) = crowd {
        joined(crowd).await?;
    }
    let refused = site.heard.take_refused();
    let calls = Step::of(RATE, first, &outcomes, &site.heard.take_offered(), refused, spent);
    let Tally { decided, put_off } =
        std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Phase {
        storm,
        calls,
        logins_per_second: decided.len() as f64 / lasted,
        put_off_per_second: put_off as f64 / lasted,
        login_ms: Percentiles::of(decided),
    })
}

/// What became of the logins of a phase.
#[derive(Debug, Default)]
struct Tally {
    decided: Vec<Duration>,
    put_off: u64,
}

/// Where to log in, and as whom.
#[derive(Clone)]
struct Target {
    server: SocketAddr,
    trust: Arc<ClientConfig>,
    password: Secret,
}

impl Target {
    fn of(site: &Site, right: bool) -> Result<Self, BenchError> {
        let password = if right { site.node.password.clone() } else { Secret::new("wrong".to_owned()) };
        Ok(Self { server: site.node.cti, trust: trusting(&site.node.ca)?, password })
    }
}

/// Logs in over and over until told to stop.
fn rage(
    target: Target,
    tally: Arc<Mutex<Tally>>,
    stop: watch::Receiver<()>,
) -> Result<JoinHandle<Result<(), BenchError>>, BenchError> {
    let crowd = async move {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CROWD {
            let (target, tally, mut stop) = (target.clone(), Arc::clone(&tally), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    result = log_in_for_ever(&target, &tally) => result,
                    // The end of the phase is the drop of the other end.
                    _ = stop.changed() => Ok(()),
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|_| BenchError::Thread)??;
        }
        Ok(())
    };
    Ok(std::thread::Builder::new().name("bench-storm".into()).spawn(move || {
        // Where that is not to be had the storm is only rougher.
        let _ = rustix::process::nice(NICE);
        alone(crowd)
    })?)
}

async fn log_in_for_ever(target: &Target, tally: &Mutex<Tally>) -> Result<(), BenchError> {
    let tell = |step: &dyn Fn(&mut Tally)| step(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        // What is closed in between (10 s without a provider, no place) is made anew.
        let Ok(mut application) = Application::connect(target.server, target.trust.clone()).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        loop {
            let started = now();
            match application.log_in(node::USER, Some(&target.password)).await {
                Ok(()) => {
                    let took = now() - started;
                    tell(&|tally| tally.decided.push(took));
                    break;
                }
                Err(OpenFailure::Refused(symbol)) if symbol == "LOGIN_FAILED" => {
                    let took = now() - started;
                    tell(&|tally| tally.decided.push(took));
                }
                Err(OpenFailure::Refused(symbol)) if symbol == "RATE_LIMITED" => {
                    tell(&|tally| tally.put_off += 1);
                    tokio::time::sleep(AGAIN).await;
                }
                Err(OpenFailure::Refused(symbol)) => {
                    return Err(BenchError::Application(format!("a login was refused: {symbol}")));
                }
                Err(OpenFailure::Lost) => break,
            }
        }
    }
}

/// Kinds of users whose refusals take equally long: else the time would tell who exists.
const KINDS: [(&str, &str); 4] = [
    ("known, wrong password", node::USER),
    ("unknown", "nobody-of-this-name"),
    ("without a password", node::CERTIFIED),
    ("without CTI Enabled, wrong password", node::DISABLED),
];

/// One after the other, so that whatever else the machine does meets all kinds alike.
async fn refusals(site: &Site, count: u32) -> Result<Vec<Refusal>, BenchError> {
    let target = Target::of(site, false)?;
    let mut times: [Vec<Duration>; KINDS.len()] = Default::default();
    let mut application = Application::connect(target.server, target.trust.clone()).await?;
    for round in 0..count as usize * KINDS.len() {
        let kind = round % KINDS.len();
        loop {
            let started = now();
            match application.log_in(KINDS[kind].1, Some(&target.password)).await {
                Err(OpenFailure::Refused(symbol)) if symbol == "LOGIN_FAILED" => {
                    times[kind].push(now() - started);
                    break;
                }
                Err(OpenFailure::Lost) => {
                    application = Application::connect(target.server, target.trust.clone()).await?;
                }
                other => return Err(BenchError::Application(format!("a wrong password: {other:?}"))),
            }
        }
    }
    let ms: Vec<Percentiles> = times.into_iter().map(Percentiles::of).collect();
    let first = ms.first().map_or(1.0, |first| first.p50);
    let kinds = KINDS.into_iter().zip(ms);
    Ok(kinds.map(|((user, _), ms)| Refusal { user, ms, ratio: ms.p50 / first }).collect())
}

impl Display for Storm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Storm::Calm => "none",
            Storm::Right => "right",
            Storm::Wrong => "wrong, each hashed",
            Storm::Guesses => "wrong, limited",
        })
    }
}

impl Display for LoginFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "ctimanager {} on {}", env!("CARGO_PKG_VERSION"), self.machine)?;
        writeln!(f)?;
        writeln!(
            f,
            "logins              decided/s  put off/s  login p50/p99 ms  event p50/p99 ms  200 p50/p99 ms  done       node  machine"
        )?;
        for phase in &self.phases {
            let calls = &phase.calls;
            writeln!(
                f,
                "{:<18}  {:>9.1}  {:>9.1}  {:>16}  {:>16}  {:>14}  {:<9}  {:>4.2}  {:>6.0}%",
                phase.storm,
                phase.logins_per_second,
                phase.put_off_per_second,
                phase.login_ms,
                calls.event_ms,
                calls.answer_ms,
                format!("{}/{}", calls.completed, calls.calls),
                calls.node_cores,
                calls.machine_busy * 100.0
            )?;
        }
        writeln!(f)?;
        writeln!(f, "refused user                         p50/p99 ms       of the first")?;
        for (n, refusal) in self.refusals.iter().enumerate() {
            let end = if n + 1 == self.refusals.len() { "" } else { "\n" };
            write!(f, "{:<35}  {:>14}  {:>6.3}{end}", refusal.user, refusal.ms, refusal.ratio)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_phase_and_each_kind_of_user() {
        let before = Spent::now(0, 0);
        let calls = Step::of(RATE, 0, &[], &[], 0, Spent::now(0, 0).since(&before));
        let phase = |storm| Phase {
            storm,
            calls: calls.clone(),
            logins_per_second: 12.5,
            put_off_per_second: 0.0,
            login_ms: Percentiles::of(vec![Duration::from_millis(20)]),
        };
        let ms = Percentiles::of(vec![Duration::from_millis(20)]);
        let figures = LoginFigures {
            machine: "a machine".into(),
            phases: vec![phase(Storm::Calm), phase(Storm::Wrong)],
            refusals: vec![Refusal { user: "unknown", ms, ratio: 1.0 }],
        };
        let table = figures.to_string();
        assert_eq!(table.lines().count(), 8, "{table}");
        assert!(table.contains("wrong, each hashed       12.5"), "{table}");
        assert!(table.ends_with("20.00/20.00   1.000"), "{table}");
    }
}
