//! The records in a file: `sessions.redb` in the state directory, an embedded store with one table for each kind.
//!
//! Each life begins a new file beside the old one and puts it in its place with the first commit, so that a file is never
//! larger than what one life needed, and a crash at the start leaves the old one as it was.

use super::Keeper;
use crate::node::kept::{Answer, Ended, Head, Kept, KeptDevice, KeptLeg, Record, is_forgotten};
use bytes::Bytes;
use device_model::{DeviceName, LegId, SessionId};
use protocol::Encoded;
use protocol::event::EventType;
use protocol::session::MAX_ENDED;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// Of the tables below; another number is another program's file.
const VERSION: u64 = 1;
/// Pages that the store keeps in memory, in bytes: the node has the sessions in memory anyway.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// `version`, `alive`, `incarnation`.
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
const FIRST_EVENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("first_events");
/// By session and number: type and body.
const EVENTS: TableDefinition<'_, (u64, u64), (&str, &[u8])> = TableDefinition::new("events");
/// By session and number: key, fingerprint, outcome.
const ANSWERS: TableDefinition<'_, (u64, u64), (&str, u128, &str)> = TableDefinition::new("answers");
const DEVICES: TableDefinition<'_, (u64, &str), &[u8]> = TableDefinition::new("devices");
const LEGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("legs");
/// By time and session: the user.
const ENDED: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("ended");

/// What a file said of the life before.
#[derive(Debug, Default)]
pub(in crate::io) struct Found {
    /// The sessions.
    pub(in crate::io) kept: Kept,
    /// The number of that life; 0 when there was none.
    pub(in crate::io) incarnation: u32,
    /// Why the file could not be read. It was set aside.
    pub(in crate::io) damage: Option<String>,
}

/// The file of a node's sessions, for its one user.
#[derive(Debug)]
pub(in crate::io) struct SessionFile {
    folder: PathBuf,
    incarnation: u32,
    /// Held for as long as this life may write. `None`: it wasn't to be had yet.
    lock: Option<File>,
    database: Option<Database>,
    /// The file that is written is the one that the next life will read.
    in_place: bool,
}

impl SessionFile {
    /// The file in this folder, which is made where it isn't there.
    pub(in crate::io) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), incarnation: 0, lock: None, database: None, in_place: false }
    }

    /// Reads what the life before left. A file that is damaged, or no file of ours, is set aside as
    /// `sessions.redb.unreadable` and described.
    ///
    /// # Errors
    /// When nothing can be said of the file: another process has it, or the system won't let us read it.
    pub(in crate::io) fn read(&mut self) -> Result<Found, String> {
        self.take_lock()?;
        for leftover in [self.fresh(), self.stale()] {
            remove(&leftover)?;
        }
        let path = self.path();
        if !path.exists() {
            return Ok(Found::default());
        }
        // The store is written to survive a torn file; should it trip over one all the same, the node must not.
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| read(&path)));
        match read.unwrap_or_else(|_| Err(Unread::Damaged("the store could not make sense of it".into()))) {
            Ok(found) => Ok(found),
            Err(Unread::Failed(why)) => Err(why),
            Err(Unread::Damaged(why)) => {
                let aside = self.folder.join("sessions.redb.unreadable");
                std::fs::rename(&path, &aside).map_err(|error| said(&path, &error))?;
                Ok(Found { damage: Some(why), ..Found::default() })
            }
        }
    }

    /// The number of this life, written into the file.
    pub(in crate::io) fn set_incarnation(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
    }

    fn take_lock(&mut self) -> Result<(), String> {
        if self.lock.is_some() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder).map_err(|error| said(&self.folder, &error))?;
        let path = self.folder.join("sessions.lock");
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let lock = open.map_err(|error| said(&path, &error))?;
        lock.try_lock()
            .map_err(|_| format!("{}: another process keeps its sessions here", path.display()))?;
        self.lock = Some(lock);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.join("sessions.redb")
    }

    fn fresh(&self) -> PathBuf {
        self.folder.join("sessions.redb.new")
    }

    fn stale(&self) -> PathBuf {
        stale(&self.folder)
    }

    fn put_in_place(&mut self) -> Result<(), String> {
        std::fs::rename(self.fresh(), self.path()).map_err(|error| said(&self.path(), &error))?;
        // The name, too, must be on the disk.
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|error| said(&self.folder, &error))?;
        self.in_place = true;
        Ok(())
    }
}

impl Keeper for SessionFile {
    fn begin(&mut self) -> Result<(), String> {
        self.take_lock()?;
        (self.database, self.in_place) = (None, false);
        let path = self.fresh();
        remove(&path)?;
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| said(&path, &error))?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file);
        let database = database.map_err(|error| said(&path, &error))?;
        let incarnation = self.incarnation;
        in_one(&database, |write| {
            let mut facts = write.open_table(FACTS)?;
            facts.insert("version", VERSION)?;
            facts.insert("incarnation", u64::from(incarnation))?;
            Ok(())
        })
        .map_err(|error| said(&path, &error))?;
        self.database = Some(database);
        Ok(())
    }

    fn keep(&mut self, records: &[Record], alive: u64) -> Result<(), String> {
        let path = self.path();
        let Some(database) = &self.database else { return Err(said(&path, &"it isn't open")) };
        in_one(database, |write| {
            write.open_table(FACTS)?.insert("alive", alive)?;
            Tables::open(write)?.apply(records)
        })
        .map_err(|error| said(&path, &error))?;
        if self.in_place { Ok(()) } else { self.put_in_place() }
    }

    fn forget(&mut self) {
        if self.lock.is_none() {
            // What is there is another's.
            return;
        }
        (self.database, self.in_place) = (None, false);
        for path in [self.path(), self.fresh(), self.stale()] {
            if let Err(error) = remove(&path) {
                tracing::error!(%error, "sessions that are no use any more can't be removed");
            }
        }
    }
}

/// Makes sure that the next life doesn't find the file, without waiting for whoever writes it.
pub(super) fn set_aside(folder: &Path) {
    if let Err(error) = std::fs::rename(folder.join("sessions.redb"), stale(folder))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(%error, "sessions that are no use any more can't be set aside");
    }
}

fn stale(folder: &Path) -> PathBuf {
    folder.join("sessions.redb.stale")
}

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(said(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn said(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// One transaction: all of it, or nothing.
fn in_one(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    work(&write)?;
    Ok(write.commit()?)
}

struct Tables<'a> {
    sessions: redb::Table<'a, u64, &'static [u8]>,
    first_events: redb::Table<'a, u64, u64>,
    events: redb::Table<'a, (u64, u64), (&'static str, &'static [u8])>,
    answers: redb::Table<'a, (u64, u64), (&'static str, u128, &'static str)>,
    devices: redb::Table<'a, (u64, &'static str), &'static [u8]>,
    legs: redb::Table<'a, u64, &'static [u8]>,
    ended: redb::Table<'a, (u64, u64), &'static str>,
}

impl<'a> Tables<'a> {
    fn open(write: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            sessions: write.open_table(SESSIONS)?,
            first_events: write.open_table(FIRST_EVENTS)?,
            events: write.open_table(EVENTS)?,
            answers: write.open_table(ANSWERS)?,
            devices: write.open_table(DEVICES)?,
            legs: write.open_table(LEGS)?,
            ended: write.open_table(ENDED)?,
        })
    }

    fn apply(mut self, records: &[Record]) -> Result<(), redb::Error> {
        records.iter().try_for_each(|record| self.record(record))
    }

    fn record(&mut self, record: &Record) -> Result<(), redb::Error> {
        match record {
            Record::Session(id, head) => drop(self.sessions.insert(id.0, json(head).as_slice())?),
            Record::SessionGone(id) => self.session_gone(id.0)?,
            Record::Ended(id, Ended { user, at }) => {
                self.ended.insert((*at, id.0), &**user)?;
                self.forget_ended(*at)?;
            }
            Record::Device(id, name, device) => {
                self.devices.insert((id.0, name.as_str()), json(device).as_slice())?;
            }
            Record::DeviceGone(id, name) => drop(self.devices.remove((id.0, name.as_str()))?),
            Record::Event(id, seq, event) => {
                self.events.insert((id.0, *seq), (event.event_type().name(), &event.tail()[..]))?;
            }
            Record::FirstEvent(id, first) => {
                self.first_events.insert(id.0, first)?;
                self.events.retain_in((id.0, 0)..(id.0, *first), |_, _| false)?;
            }
            Record::Answer(id, number, Answer { idem, fingerprint, outcome }) => {
                self.answers.insert((id.0, *number), (&**idem, *fingerprint, &**outcome))?;
            }
            Record::FirstAnswer(id, first) => {
                self.answers.retain_in((id.0, 0)..(id.0, *first), |_, _| false)?;
            }
            Record::Leg(id, leg) => drop(self.legs.insert(id.0, json(leg).as_slice())?),
            Record::LegGone(id) => drop(self.legs.remove(id.0)?),
        }
        Ok(())
    }

    fn session_gone(&mut self, id: u64) -> Result<(), redb::Error> {
        self.sessions.remove(id)?;
        self.first_events.remove(id)?;
        self.events.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
        self.answers.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
        let devices = self.devices.range((id, "")..)?;
        let of_session = |key: &(u64, String)| key.0 == id;
        let mut names = Vec::new();
        for entry in devices {
            let (key, _) = entry?;
            let (session, name) = key.value();
            let key = (session, name.to_owned());
            if !of_session(&key) {
                break;
            }
            names.push(key.1);
        }
        for name in names {
            self.devices.remove((id, name.as_str()))?;
        }
        Ok(())
    }

    fn forget_ended(&mut self, now: u64) -> Result<(), redb::Error> {
        loop {
            let full = self.ended.len()? > MAX_ENDED as u64;
            let oldest = self.ended.first()?.map(|(key, _)| key.value().0);
            match oldest {
                Some(at) if full || is_forgotten(at, now) => drop(self.ended.pop_first()?),
                Some(_) | None => return Ok(()),
            }
        }
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers only")
}

/// Why a file has no sessions for us.
#[derive(Debug)]
enum Unread {
    /// The system, not the file, is to blame.
    Failed(String),
    /// What is in it is no use.
    Damaged(String),
}

fn damaged(error: impl std::fmt::Display) -> Unread {
    Unread::Damaged(error.to_string())
}

fn read(path: &Path) -> Result<Found, Unread> {
    use redb::DatabaseError as E;
    let open = Builder::new().set_cache_size(CACHE_BYTES).open(path);
    let mut database = open.map_err(|error| match &error {
        E::DatabaseAlreadyOpen => Unread::Failed(said(path, &"another process has it open")),
        E::Storage(redb::StorageError::Io(io)) if is_of_the_system(io) => Unread::Failed(said(path, io)),
        _ => damaged(error),
    })?;
    database.check_integrity().map_err(damaged)?;
    let read = database.begin_read().map_err(damaged)?;
    let facts = read.open_table(FACTS).map_err(damaged)?;
    let fact = |name: &str| facts.get(name).map(|fact| fact.map_or(0, |fact| fact.value())).map_err(damaged);
    match fact("version")? {
        VERSION => {}
        other => return Err(Unread::Damaged(format!("version {other}, and this program writes {VERSION}"))),
    }
    let incarnation = u32::try_from(fact("incarnation")?).unwrap_or(0);
    let mut kept = Kept { alive: fact("alive")?, ..Kept::default() };
    rows(&read, &mut kept)?;
    Ok(Found { kept, incarnation, damage: None })
}

/// Whether an error says something of the machine and nothing of the file's contents.
fn is_of_the_system(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    !matches!(error.kind(), K::InvalidData | K::UnexpectedEof | K::InvalidInput)
}

fn rows(read: &redb::ReadTransaction, kept: &mut Kept) -> Result<(), Unread> {
    for row in table(read, SESSIONS)?.iter().map_err(damaged)? {
        let (id, head) = row.map_err(damaged)?;
        kept.apply(Record::Session(SessionId(id.value()), parse::<Head>(head.value())?));
    }
    for row in table(read, FIRST_EVENTS)?.iter().map_err(damaged)? {
        let (id, first) = row.map_err(damaged)?;
        kept.apply(Record::FirstEvent(SessionId(id.value()), first.value()));
    }
    for row in table(read, EVENTS)?.iter().map_err(damaged)? {
        let (key, event) = row.map_err(damaged)?;
        let ((id, seq), (name, tail)) = (key.value(), event.value());
        let kind = EventType::from_name(name).ok_or_else(|| damaged(format!("an event of type {name}")))?;
        let event = Encoded::restore(kind, Bytes::copy_from_slice(tail));
        kept.apply(Record::Event(SessionId(id), seq, event));
    }
    for row in table(read, ANSWERS)?.iter().map_err(damaged)? {
        let (key, answer) = row.map_err(damaged)?;
        let ((id, number), (idem, fingerprint, outcome)) = (key.value(), answer.value());
        let answer = Answer { idem: idem.into(), fingerprint, outcome: outcome.into() };
        kept.apply(Record::Answer(SessionId(id), number, answer));
    }
    for row in table(read, DEVICES)?.iter().map_err(damaged)? {
        let (key, device) = row.map_err(damaged)?;
        let (id, name) = key.value();
        let device = parse::<KeptDevice>(device.value())?;
        kept.apply(Record::Device(SessionId(id), DeviceName::from(name), device));
    }
    for row in table(read, LEGS)?.iter().map_err(damaged)? {
        let (id, leg) = row.map_err(damaged)?;
        kept.apply(Record::Leg(LegId(id.value()), parse::<KeptLeg>(leg.value())?));
    }
    for row in table(read, ENDED)?.iter().map_err(damaged)? {
        let (key, user) = row.map_err(damaged)?;
        let (at, id) = key.value();
        kept.apply(Record::Ended(SessionId(id), Ended { user: user.value().into(), at }));
    }
    Ok(())
}

fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &redb::ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<redb::ReadOnlyTable<K, V>, Unread> {
    read.open_table(definition).map_err(damaged)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unread> {
    serde_json::from_slice(bytes).map_err(damaged)
}
