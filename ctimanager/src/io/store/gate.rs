//! Holds back what applications are told until it is kept: an application must never know of an event that a restarted
//! node doesn't.
//!
//! Everything for applications that the core says after records waits behind them, in order; SIP doesn't. When the disk
//! doesn't keep up (frames wait for [`PATIENCE`], or too many do), nothing waits any longer: what was kept is set aside,
//! the core is told, frames leave as they come, and the store begins anew by itself.

use super::{Progress, Refused, Store, file};
use crate::node::kept::Record;
use crate::node::{CtiConnection, Frame, Input};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a frame may wait for the disk.
pub(in crate::io) const PATIENCE: Duration = Duration::from_secs(2);
/// Frames that may wait for it.
const MAX_HELD: usize = 65_536;
/// And their bytes.
const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;

/// What is for an application's connection.
#[derive(Debug)]
pub(in crate::io) enum Told {
    Frame(CtiConnection, Frame),
    Close(CtiConnection),
}

#[derive(Debug)]
struct Held {
    behind: u64,
    since: Instant,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Keeping,
    Suspended,
}

/// Between the core and the connections.
#[derive(Debug)]
pub(in crate::io) struct Gate {
    store: Store,
    /// Where the file is, to be set aside without the store's thread; none with a test's stand-in.
    folder: Option<PathBuf>,
    state: State,
    epoch: u64,
    /// The last batch that was sent, the last that frames wait for, and the last that is kept.
    sent: u64,
    awaited: u64,
    kept: u64,
    held: VecDeque<Held>,
    bytes: usize,
}

impl Gate {
    /// A gate before this store. `working`: it keeps everything that was said so far; else the core knows that it doesn't.
    pub(in crate::io) fn new(store: Store, folder: Option<PathBuf>, working: bool) -> Self {
        let mut gate = Self {
            store,
            folder,
            state: State::Keeping,
            epoch: 0,
            sent: 0,
            awaited: 0,
            kept: 0,
            held: VecDeque::new(),
            bytes: 0,
        };
        if !working {
            gate.give_up(OnDisk::Nothing);
        }
        gate
    }

    /// The core said records. When they can't be taken the core is to be told.
    pub(in crate::io) fn persist(&mut self, records: Vec<Record>) -> Option<Input> {
        if self.state == State::Suspended {
            return None;
        }
        // That something need not be kept any more is no news for anybody.
        let lazy = records.iter().all(|r| matches!(r, Record::FirstEvent(..) | Record::FirstAnswer(..)));
        self.sent += 1;
        if !lazy {
            self.awaited = self.sent;
        }
        match self.store.send(self.epoch, self.sent, records, lazy) {
            Ok(()) => None,
            Err(Refused::Full) => Some(self.suspend("the disk doesn't keep up", OnDisk::Something)),
            Err(Refused::Gone) => {
                Some(self.suspend("the thread that writes them has ended", OnDisk::Something))
            }
        }
    }

    /// Takes what is for an application, if it must wait.
    pub(in crate::io) fn hold(&mut self, now: Instant, told: Told) -> Option<Told> {
        if self.held.is_empty() && self.kept >= self.awaited {
            return Some(told);
        }
        self.bytes += told.bytes();
        self.held.push_back(Held { behind: self.awaited, since: now, told });
        None
    }

    /// The store is further, or has failed.
    pub(in crate::io) fn progress(&mut self, progress: &Progress) -> Option<Input> {
        match (progress, self.state) {
            (Progress::Kept(last), State::Keeping) => {
                self.kept = self.kept.max(*last);
                None
            }
            (Progress::Failed(why), State::Keeping) => Some(self.suspend(why, OnDisk::Nothing)),
            (Progress::Ready(epoch), State::Suspended) if *epoch == self.epoch => {
                self.state = State::Keeping;
                (self.sent, self.awaited, self.kept) = (0, 0, 0);
                Some(Input::StoreReady)
            }
            (Progress::Kept(_) | Progress::Failed(_) | Progress::Ready(_), _) => None,
        }
    }

    /// The next thing that may leave.
    pub(in crate::io) fn next(&mut self) -> Option<Told> {
        let free = self.kept;
        let held = self.held.pop_front_if(|held| held.behind <= free)?;
        self.bytes -= held.told.bytes();
        Some(held.told)
    }

    /// Whether nothing waits.
    pub(in crate::io) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// When patience ends.
    pub(in crate::io) fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|held| held.since + PATIENCE)
    }

    /// Suspends the keeping if too much waits, or for too long.
    pub(in crate::io) fn look(&mut self, now: Instant) -> Option<Input> {
        let late = self.deadline().is_some_and(|at| at <= now);
        let much = self.held.len() > MAX_HELD || self.bytes > MAX_HELD_BYTES;
        (self.state == State::Keeping && (late || much))
            .then(|| self.suspend("the disk doesn't keep up", OnDisk::Something))
    }

    /// Frames of a connection that is being given up: after one that was dropped none may follow.
    pub(in crate::io) fn drop_frames(&mut self, connection: CtiConnection) {
        self.held.retain(|held| !matches!(held.told, Told::Frame(of, _) if of == connection));
        self.bytes = self.held.iter().map(|held| held.told.bytes()).sum();
    }

    /// Nothing waits any more, and the core is to be told.
    fn suspend(&mut self, why: &str, on_disk: OnDisk) -> Input {
        self.give_up(on_disk);
        Input::StoreLost(why.to_owned())
    }

    /// What is on the disk is no use from here on, for applications will know more. Only when it is out of the way may the
    /// store begin anew.
    fn give_up(&mut self, on_disk: OnDisk) {
        self.state = State::Suspended;
        self.kept = u64::MAX;
        self.epoch += 1;
        let (begin, folder) = (self.store.begin_epoch(self.epoch), self.folder.clone());
        match (on_disk, folder) {
            (OnDisk::Something, Some(folder)) => {
                let set_aside = move || {
                    file::set_aside(&folder);
                    begin();
                };
                // It may wait for the same disk, and the owner must not.
                if let Err(error) = std::thread::Builder::new().name("set-aside".into()).spawn(set_aside) {
                    tracing::error!(%error, "sessions that are no use any more can't be set aside");
                }
            }
            (OnDisk::Something | OnDisk::Nothing, _) => begin(),
        }
    }
}

/// Whether the next life would find something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
    Something,
    Nothing,
}

impl Told {
    fn bytes(&self) -> usize {
        match self {
            Told::Frame(_, frame) => frame.len(),
            Told::Close(_) => 0,
        }
    }
}
