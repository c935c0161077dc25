//! Keeps the phones' registrations in a file of the state directory, on a thread of its own. The answer to a REGISTER waits
//! for it, [`PATIENCE`] at the most; no call does.
//!
//! `registrations` is a journal: a line for each record, appended as soon as it is said, so that it survives the process
//! however that ends. When it goes to the disk is the kernel's business: to wait for that would delay the next lines, and a
//! machine that loses its power may lose the last half minute, for phones register again. Each line has a checksum. What
//! one life needs no more is left out when the next one begins, and whenever the file has grown to several times of what it
//! says.

use super::counters::Counters;
use super::queue::Queue;
use super::{Core, now, report, wall};
use crate::node::registrations::{Registration, RegistrationNews, RegistrationRecord};
use crate::node::{Input, Output};
use serde::{Deserialize, Serialize};
use sip::Hop;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{error, warn};

/// Steps of the core whose records may wait for the thread; beyond it they are dropped and the core says all anew.
const MAX_BATCHES: usize = 16_384;
/// Steps that are written together at most.
const MAX_GROUP: usize = 1_024;
/// How often the thread looks around, and how long it waits after a failure.
const TICK: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(10);
/// How long the answer to a REGISTER waits until it is written that the phone is registered: what a phone was told is true
/// even if the process ends the moment after.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// Answers that wait at once; one more doesn't.
const MAX_HELD: usize = 4_096;
/// A journal is written anew when it is so many times as long as what it says, and longer than this.
const GROWTH: usize = 4;
const SMALL: usize = 1024 * 1024;
/// The first line: another one is another program's file.
const HEAD: &str = "ctimanager registrations 1";

/// One line.
#[derive(Serialize, Deserialize)]
struct Line<R> {
    id: u64,
    /// `None`: it is no more.
    bound: Option<R>,
}

/// The journal of a node, read, and not begun anew yet.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    /// Held for as long as this life may write.
    _lock: File,
    /// The lines that count, by id.
    live: BTreeMap<u64, String>,
    /// The same, as long as they are.
    live_bytes: usize,
    file: Option<File>,
    file_bytes: usize,
}

/// What a journal said.
#[derive(Debug, Default)]
struct Found {
    live: BTreeMap<u64, (String, Registration)>,
    damage: Option<String>,
}

/// Reads what the earlier life left and gives it to the core; what is not to be kept any more is left out. `None`: nothing
/// can be kept here, and the log has why.
pub(super) fn begin<C: Core>(core: &mut C, counters: &Counters, folder: &Path) -> Option<Journal> {
    let opened = lock(folder).and_then(|lock| Ok((lock, read(&folder.join("registrations"))?)));
    let (lock, found) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            error!(folder = %folder.display(), %error, "registrations are not kept");
            return None;
        }
    };
    let kept = found.live.iter().map(|(id, (_, registration))| (*id, registration.clone())).collect();
    let records = tell(core, counters, RegistrationNews::Restored(kept, found.damage));
    let live: BTreeMap<u64, String> = found.live.into_iter().map(|(id, (line, _))| (id, line)).collect();
    let live_bytes = live.values().map(String::len).sum();
    let folder = folder.to_owned();
    let mut journal = Journal { folder, _lock: lock, live, live_bytes, file: None, file_bytes: 0 };
    let mut text = String::new();
    records.into_iter().for_each(|record| journal.apply(record, &mut text));
    Some(journal)
}

/// Before the owner runs there is nobody to be told but administrators.
fn tell<C: Core>(core: &mut C, counters: &Counters, news: RegistrationNews) -> Vec<RegistrationRecord> {
    let mut outputs = Vec::new();
    core.handle(now(), wall(), Input::Registrations(news), &mut outputs);
    let mut records = Vec::new();
    for output in outputs {
        match output {
            Output::Registrations(said) => records.extend(said),
            Output::Report(report) => report::log(&report),
            Output::Transition { transition, .. } => {
                counters.transition(&transition);
                report::transition(&transition);
            }
            Output::Audit(record) => report::audit(&record),
            other => error!(?other, "a core that knows nobody yet wants to speak"),
        }
    }
    records
}

fn lock(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("registrations.lock");
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    lock.try_lock().map_err(|_| io::Error::other("another process keeps its registrations here"))?;
    Ok(lock)
}

/// What the file says. One that is damaged, or none of ours, is set aside as `registrations.unreadable`.
fn read(path: &Path) -> io::Result<Found> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    match parse(&bytes) {
        Ok(live) => Ok(Found { live, damage: None }),
        Err(why) => {
            std::fs::rename(path, path.with_extension("unreadable"))?;
            Ok(Found { live: BTreeMap::new(), damage: Some(format!("{}: {why}", path.display())) })
        }
    }
}

/// A last line without an end was being written when the machine stopped: it says nothing.
fn parse(bytes: &[u8]) -> Result<BTreeMap<u64, (String, Registration)>, String> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..=end]);
    let text = std::str::from_utf8(whole).map_err(|error| error.to_string())?;
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, head)| head != HEAD) {
        return Err("it doesn't begin as registrations do".into());
    }
    let mut live = BTreeMap::new();
    for (number, line) in lines {
        let wrong = || format!("line {} is damaged", number + 1);
        let (sum, json) = line.split_once(' ').ok_or_else(wrong)?;
        if u64::from_str_radix(sum, 16) != Ok(checksum(json)) {
            return Err(wrong());
        }
        let Line::<Registration> { id, bound } = serde_json::from_str(json).map_err(|_| wrong())?;
        match bound {
            Some(registration) => drop(live.insert(id, (format!("{line}\n"), registration))),
            None => drop(live.remove(&id)),
        }
    }
    Ok(live)
}

/// What a journal's bytes say, by id.
///
/// # Errors
/// A sentence that says why they are no journal.
pub fn read_journal(bytes: &[u8]) -> Result<BTreeMap<u64, Registration>, String> {
    Ok(parse(bytes)?.into_iter().map(|(id, (_, registration))| (id, registration)).collect())
}

/// A journal of these lines, each with its checksum; what is in them may be anything.
#[must_use]
pub fn write_journal<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let lines = lines.into_iter().map(|json| format!("{:016x} {json}\n", checksum(json)));
    std::iter::once(format!("{HEAD}\n")).chain(lines).collect()
}

/// FNV-1a: it tells a damaged line, not a forged one.
fn checksum(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn line(id: u64, bound: Option<&Registration>) -> String {
    let json = serde_json::to_string(&Line { id, bound }).expect("texts and numbers only");
    format!("{:016x} {json}\n", checksum(&json))
}

impl Journal {
    /// Begins the file of this life before anything is said, lest what is said first be lost with the process while the
    /// disk is waited for.
    pub(super) fn prepare(&mut self) {
        if let Err(error) = self.write_anew() {
            // The thread tries again, and tells.
            warn!(folder = %self.folder.display(), %error, "registrations can't be written");
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("registrations")
    }

    /// Notes a record; what is to be appended for it goes to `text`.
    fn apply(&mut self, record: RegistrationRecord, text: &mut String) {
        match record {
            RegistrationRecord::Anew => {
                self.live.clear();
                (self.live_bytes, self.file) = (0, None);
                text.clear();
            }
            RegistrationRecord::Bound(id, registration) => {
                let line = line(id, Some(&registration));
                // Writing to a String can't fail.
                let _ = text.write_str(&line);
                self.live_bytes += line.len();
                self.live_bytes -= self.live.insert(id, line).map_or(0, |old| old.len());
            }
            RegistrationRecord::Gone(id) => {
                if let Some(old) = self.live.remove(&id) {
                    self.live_bytes -= old.len();
                    let _ = text.write_str(&line(id, None));
                }
            }
        }
    }

    /// Appends, or writes all anew where there is no file yet or where it has grown too long.
    fn append(&mut self, text: &str) -> io::Result<()> {
        let long = self.file_bytes + text.len() > SMALL.max(self.live_bytes * GROWTH);
        match &mut self.file {
            Some(file) if !long => {
                file.write_all(text.as_bytes())?;
                self.file_bytes += text.len();
                Ok(())
            }
            Some(_) | None => self.write_anew(),
        }
    }

    /// A crash meanwhile leaves the old file as it was.
    fn write_anew(&mut self) -> io::Result<()> {
        self.file = None;
        let fresh = self.folder.join("registrations.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        let text: String = std::iter::once(format!("{HEAD}\n")).chain(self.live.values().cloned()).collect();
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&fresh, self.path())?;
        (self.file, self.file_bytes) = (Some(file), text.len());
        Ok(())
    }
}

/// The records of one step of the core, by their number.
type Batch = (u64, Vec<RegistrationRecord>);

/// The owner's end. To drop it ends the thread when all that waits is written.
#[derive(Debug)]
pub(super) struct RegistrationStore {
    batches: SyncSender<Batch>,
    /// Records were dropped: the core is to say all anew once there is room.
    behind: bool,
    /// The last batch that was sent, and the last that is written.
    sent: u64,
    written: watch::Receiver<u64>,
    held: VecDeque<Held>,
}

/// An answer that waits.
#[derive(Debug)]
struct Held {
    behind: u64,
    since: Instant,
    hop: Hop,
    bytes: Vec<u8>,
}

impl RegistrationStore {
    /// Starts the thread. What goes wrong there is told by the queue.
    pub(super) fn start(journal: Journal, queue: Queue) -> Self {
        let (batches, waiting) = sync_channel(MAX_BATCHES);
        let (written, how_far) = watch::channel(0);
        let writer = Writer { journal, queue, written, failed: None };
        let spawned =
            std::thread::Builder::new().name("registrations".into()).spawn(move || writer.run(&waiting));
        if let Err(error) = spawned {
            error!(%error, "the thread that keeps registrations can't be started");
        }
        Self::of(batches, how_far)
    }

    fn of(batches: SyncSender<Batch>, written: watch::Receiver<u64>) -> Self {
        Self { batches, behind: false, sent: 0, written, held: VecDeque::new() }
    }

    /// Tells when more is written.
    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Takes records of the core; gives what the core is to be told.
    pub(super) fn keep(&mut self, records: Vec<RegistrationRecord>) -> Option<Input> {
        let anew = records.first() == Some(&RegistrationRecord::Anew);
        // An empty batch only asks whether there is room again.
        let records = if self.behind && !anew { Vec::new() } else { records };
        match self.batches.try_send((self.sent + 1, records)) {
            Ok(()) => {
                self.sent += 1;
                if self.behind && !anew {
                    return Some(Input::Registrations(RegistrationNews::Wanted));
                }
                self.behind = false;
            }
            Err(TrySendError::Full(_)) => {
                if !std::mem::replace(&mut self.behind, true) {
                    warn!("registrations come faster than they can be kept");
                }
            }
            // The log has why.
            Err(TrySendError::Disconnected(_)) => {}
        }
        None
    }

    /// Takes an answer, if it must wait for what was sent last.
    pub(super) fn hold(&mut self, now: Instant, hop: Hop, bytes: Vec<u8>) -> Option<(Hop, Vec<u8>)> {
        let lost = self.behind || self.written.has_changed().is_err();
        if lost || *self.written.borrow() >= self.sent || self.held.len() >= MAX_HELD {
            return Some((hop, bytes));
        }
        self.held.push_back(Held { behind: self.sent, since: now, hop, bytes });
        None
    }

    /// The next answer that may leave.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Hop, Vec<u8>)> {
        let written = *self.written.borrow();
        let free = |held: &mut Held| held.behind <= written || held.since + PATIENCE <= now;
        self.held.pop_front_if(free).map(|held| (held.hop, held.bytes))
    }

    /// When patience ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|held| held.since + PATIENCE)
    }
}

struct Writer {
    journal: Journal,
    queue: Queue,
    written: watch::Sender<u64>,
    /// Since when it can't write.
    failed: Option<Instant>,
}

impl Writer {
    fn run(mut self, batches: &Receiver<Batch>) {
        self.write("");
        loop {
            match batches.recv_timeout(TICK) {
                Ok(first) => {
                    let (mut text, mut last) = (String::new(), 0);
                    for (number, records) in std::iter::once(first).chain(batches.try_iter()).take(MAX_GROUP)
                    {
                        records.into_iter().for_each(|record| self.journal.apply(record, &mut text));
                        last = number;
                    }
                    self.write(&text);
                    // Nobody waits for a disk that takes nothing.
                    self.written.send_replace(last);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look_around();
        }
    }

    fn write(&mut self, text: &str) {
        // What can't be written now is in `live`, and all of that is written with the next attempt.
        if self.failed.is_none() {
            let written = self.journal.append(text);
            self.judge(written);
        }
    }

    fn look_around(&mut self) {
        if self.failed.is_some_and(|since| now() >= since + RETRY) {
            let written = self.journal.write_anew();
            self.judge(written);
        }
    }

    fn judge(&mut self, result: io::Result<()>) {
        let news = match result {
            Ok(()) if self.failed.take().is_some() => RegistrationNews::Resumed,
            Ok(()) => return,
            Err(error) => {
                self.journal.file = None;
                if self.failed.replace(now()).is_some() {
                    return;
                }
                RegistrationNews::Suspended(format!("{}: {error}", self.journal.path().display()))
            }
        };
        // If the owner is gone, nobody is left to be told.
        let _ = self.queue.send_blocking(Input::Registrations(news));
    }
}

#[cfg(test)]
mod tests;
