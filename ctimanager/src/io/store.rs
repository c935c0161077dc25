//! Keeps what the node says of its sessions (`persist_sessions`), on a thread of its own: only it waits for the disk.
//!
//! The thread takes everything that waits and commits it at once, so that the cost of a commit is shared by all that came
//! while the one before was under way. The owner hears how far it is ([`Progress`]) and lets frames go that far
//! ([`gate::Gate`]). When something goes wrong, what is on the disk is taken away before anything else happens: a later
//! life must not find a state that applications are ahead of.

mod file;
pub(super) mod gate;

pub(super) use file::{Found, SessionFile};

use super::counters::Counters;
use super::{Core, now, report, wall};
use crate::node::kept::{Record, millis};
use crate::node::{Input, Output};
use device_model::SessionId;
use gate::Gate;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// Steps of the core whose records may wait for the disk.
const MAX_BATCHES: usize = 16_384;
/// Steps that are committed together at most.
const MAX_GROUP: usize = 4_096;
/// How often the store looks around.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How exactly the last moment of the node's life is known, and how long what is no hurry may wait.
    tick: Duration,
    /// Ticks between two attempts to begin anew.
    retry_ticks: u32,
}

const PACE: Pace = Pace { tick: Duration::from_secs(1), retry_ticks: 10 };

/// What keeps records on a disk, or a stand-in of a test. Each call may block, and may fail with a sentence that says why.
pub(super) trait Keeper: Send + 'static {
    /// Begins anew, with nothing. What was kept before stays until the first [`Keeper::keep`] has succeeded.
    fn begin(&mut self) -> Result<(), String>;
    /// Keeps all of these or none, and that the node lived then (milliseconds since the epoch).
    fn keep(&mut self, records: &[Record], alive: u64) -> Result<(), String>;
    /// Takes away what is kept.
    fn forget(&mut self);
}

/// How far the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All batches up to this one of the present epoch are kept.
    Kept(u64),
    /// It begins anew: only batches of this epoch count.
    Ready(u64),
    /// It can't, and why. It waits for a new epoch.
    Failed(String),
}

/// The records of one step.
#[derive(Debug)]
struct Batch {
    epoch: u64,
    number: u64,
    records: Vec<Record>,
    /// Nobody waits for it.
    lazy: bool,
}

/// The owner's end. To drop it ends the thread when all that waits is kept.
#[derive(Debug)]
pub(super) struct Store {
    batches: SyncSender<Batch>,
    /// The epoch that the owner is in; each failure begins another.
    epoch: Arc<AtomicU64>,
}

/// The store didn't take a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many wait already.
    Full,
    /// Its thread is gone.
    Gone,
}

impl Store {
    /// Starts the thread. `working`: the keeper has begun and has kept what there was, else it begins with the next epoch.
    fn start(
        keeper: impl Keeper,
        working: Result<(), String>,
        sessions: BTreeSet<SessionId>,
        pace: Pace,
    ) -> (Store, watch::Receiver<Progress>) {
        let (batches, waiting) = sync_channel(MAX_BATCHES);
        let epoch = Arc::new(AtomicU64::new(0));
        let (progress, how_far) = watch::channel(match &working {
            Ok(()) => Progress::Kept(0),
            Err(why) => Progress::Failed(why.clone()),
        });
        let worker = Worker {
            keeper,
            pace,
            wanted: Arc::clone(&epoch),
            progress,
            epoch: 0,
            works: working.is_ok(),
            rest: 0,
            pending: Vec::new(),
            last: 0,
            sessions,
        };
        let spawned = std::thread::Builder::new().name("sessions".into()).spawn(move || worker.run(&waiting));
        if let Err(error) = spawned {
            // The receiver went with the closure: the owner's first batch finds it gone.
            warn!(%error, "the thread that keeps sessions can't be started");
        }
        (Store { batches, epoch }, how_far)
    }

    fn send(&self, epoch: u64, number: u64, records: Vec<Record>, lazy: bool) -> Result<(), Refused> {
        self.batches.try_send(Batch { epoch, number, records, lazy }).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Gone,
        })
    }

    /// What lets the store begin this epoch.
    fn begin_epoch(&self, epoch: u64) -> impl FnOnce() + Send + 'static {
        let wanted = Arc::clone(&self.epoch);
        move || {
            wanted.fetch_max(epoch, Ordering::AcqRel);
        }
    }
}

struct Worker<K> {
    keeper: K,
    pace: Pace,
    wanted: Arc<AtomicU64>,
    progress: watch::Sender<Progress>,
    epoch: u64,
    works: bool,
    /// Ticks until the next attempt to begin.
    rest: u32,
    pending: Vec<Record>,
    /// The last batch whose records are pending or kept.
    last: u64,
    /// The sessions that are kept: without one it doesn't matter how long the node lived.
    sessions: BTreeSet<SessionId>,
}

impl<K: Keeper> Worker<K> {
    fn run(mut self, batches: &Receiver<Batch>) {
        let mut next_tick = now() + self.pace.tick;
        loop {
            match batches.recv_timeout(next_tick.saturating_duration_since(now())) {
                Ok(first) => self.group(first, batches),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
            if now() >= next_tick {
                next_tick = now() + self.pace.tick;
                self.tick();
            }
        }
    }

    /// Takes all that waits; commits unless nobody waits for any of it.
    fn group(&mut self, first: Batch, batches: &Receiver<Batch>) {
        let mut hurry = false;
        for batch in std::iter::once(first).chain(batches.try_iter()).take(MAX_GROUP) {
            if batch.epoch == self.epoch && self.works {
                hurry |= !batch.lazy;
                self.last = batch.number;
                self.count(&batch.records);
                self.pending.extend(batch.records);
            }
        }
        if hurry {
            self.commit();
        }
    }

    fn count(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Session(id, _) => drop(self.sessions.insert(*id)),
                Record::SessionGone(id) => drop(self.sessions.remove(id)),
                _ => {}
            }
        }
    }

    fn tick(&mut self) {
        if self.works && !(self.sessions.is_empty() && self.pending.is_empty()) {
            self.commit();
        }
        self.look_for_an_epoch();
    }

    fn commit(&mut self) {
        if !self.works || self.wanted.load(Ordering::Acquire) != self.epoch {
            return;
        }
        match self.keeper.keep(&self.pending, millis(wall())) {
            Ok(()) => drop(self.progress.send_replace(Progress::Kept(self.last))),
            Err(why) => self.fail(Some(why)),
        }
        self.pending.clear();
    }

    /// What was kept is no use any more: it goes, before anybody hears of it.
    fn fail(&mut self, why: Option<String>) {
        self.works = false;
        self.rest = self.pace.retry_ticks;
        self.pending = Vec::new();
        self.sessions.clear();
        self.keeper.forget();
        if let Some(why) = why {
            self.progress.send_replace(Progress::Failed(why));
        }
    }

    /// The owner has given up the epoch: after a rest another begins.
    fn look_for_an_epoch(&mut self) {
        let wanted = self.wanted.load(Ordering::Acquire);
        if wanted == self.epoch {
            return;
        }
        if self.works {
            self.fail(None);
        }
        self.rest = self.rest.saturating_sub(1);
        if self.rest > 0 {
            return;
        }
        match self.keeper.begin() {
            Ok(()) => {
                (self.epoch, self.works, self.last) = (wanted, true, 0);
                self.progress.send_replace(Progress::Ready(wanted));
            }
            Err(_) => self.rest = self.pace.retry_ticks,
        }
    }
}

/// Gives a core what its earlier life left, and keeps at once what it says of it: nothing has been heard yet then, and
/// nobody has been told anything. Gives the gate for all that follows, and its news.
pub(super) fn begin<C: Core>(
    core: &mut C,
    counters: &Counters,
    mut file: SessionFile,
    found: Result<Found, String>,
    incarnation: u32,
    folder: PathBuf,
) -> (Gate, watch::Receiver<Progress>) {
    file.set_incarnation(incarnation);
    let (found, mut working) = match found {
        Ok(found) => (found, Ok(())),
        Err(why) => (Found::default(), Err(why)),
    };
    let records = tell(core, counters, Input::Restored(Box::new(found.kept), found.damage));
    if working.is_ok() {
        working = file.begin().and_then(|()| file.keep(&records, millis(wall())));
    }
    if let Err(why) = &working {
        file.forget();
        tell(core, counters, Input::StoreLost(why.clone()));
    }
    let is_working = working.is_ok();
    let (store, progress) = Store::start(file, working, sessions_of(&records), PACE);
    (Gate::new(store, Some(folder), is_working), progress)
}

/// Before the owner runs there is nobody but administrators to be told, and the records to be kept.
fn tell<C: Core>(core: &mut C, counters: &Counters, input: Input) -> Vec<Record> {
    let mut outputs = Vec::new();
    core.handle(now(), wall(), input, &mut outputs);
    let mut records = Vec::new();
    for output in outputs {
        match output {
            Output::Persist(said) => records.extend(said),
            Output::Report(report) => report::log(&report),
            Output::Transition { transition, .. } => {
                counters.transition(&transition);
                report::transition(&transition);
            }
            Output::Audit(record) => report::audit(&record),
            other => tracing::error!(?other, "a core that knows nobody yet wants to speak"),
        }
    }
    records
}

fn sessions_of(records: &[Record]) -> BTreeSet<SessionId> {
    let sessions = records.iter().filter_map(|record| match record {
        Record::Session(id, _) => Some(*id),
        _ => None,
    });
    sessions.collect()
}

#[cfg(test)]
pub(super) mod tests;
