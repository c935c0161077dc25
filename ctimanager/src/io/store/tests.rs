//! The file: whole, torn, foreign, in the midst of things. The thread and the gate: with a stand-in for the disk.

use super::gate::{Gate, PATIENCE, Told};
use super::*;
use crate::node::kept::{Answer, Ended, Head, Kept, KeptDevice, KeptLeg};
use crate::node::{CtiConnection, Frame};
use device_model::{DeviceName, LegId, NodeName};
use protocol::Event;
use protocol::session::ConnectionId;
use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle, UntypedTableHandle};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

const ONE: SessionId = SessionId(1);
const TWO: SessionId = SessionId(u64::MAX);

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ctimanager-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("sessions.redb")
    }

    /// What the next life reads after a crash at this moment: the files as they are now.
    fn crash(&self) -> Found {
        let image = Folder(self.0.with_extension("image"));
        let _ = std::fs::remove_dir_all(&image.0);
        std::fs::create_dir_all(&image.0).expect("a folder");
        for entry in std::fs::read_dir(&self.0).expect("the folder").flatten() {
            std::fs::copy(entry.path(), image.0.join(entry.file_name())).expect("a copy");
        }
        SessionFile::new(&image.0).read().expect("readable")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn head(user: &str) -> Head {
    Head {
        user: user.into(),
        application: "test".into(),
        instance: Some("a".into()),
        peer: "127.0.0.1:4000".parse().expect("an address"),
        tls: true,
        heartbeat_ms: 5_000,
        grace_ms: 10_000,
        subscription: Some(vec!["call.offering".into()]),
        held_until: None,
    }
}

fn device(name: &str) -> KeptDevice {
    let device = serde_json::json!({
        "name": name, "type": "route_point", "description": "", "pool": "Default", "state": "in_service", "node": "cm1",
        "registered": true, "restricted": false, "opened": true,
        "lines": [{"dn": "5000", "index": 1, "max_calls": 4, "busy_trigger": 4, "auto_accept": false,
                   "forward_all": null, "restricted": false}]});
    let media = serde_json::json!({"mode": "static", "ip": "10.0.0.1", "port": 4000, "codecs": ["PCMA"]});
    KeptDevice {
        media: Some(serde_json::from_value(media).expect("media")),
        device: serde_json::from_value(device).expect("a device"),
    }
}

fn leg() -> KeptLeg {
    let party = serde_json::json!({"number": "2001", "presentation": "allowed"});
    let leg = serde_json::json!({"leg": "l7", "call": "c7", "device": "RP", "dn": "5000", "state": "connected",
        "reason": "normal", "calling": party, "called": party, "remote_in_use": false, "security": "none",
        "user_data": {"order": "4711"}});
    KeptLeg { leg: serde_json::from_value(leg).expect("a leg"), input: true, output: false }
}

fn event(id: SessionId, seq: u64) -> Record {
    Record::Event(id, seq, Event::ProviderInService.encode(&NodeName::from("cm1"), std::time::UNIX_EPOCH))
}

fn answer(idem: &str) -> Answer {
    Answer { idem: idem.into(), fingerprint: u128::MAX - 7, outcome: r#"{"result":{}}"#.into() }
}

/// Every kind of record, most of them twice.
fn everything() -> Vec<Record> {
    let name = |name: &str| DeviceName::from(name);
    vec![
        Record::Session(ONE, head("ivr")),
        Record::Session(TWO, head("other")),
        Record::Session(ONE, Head { held_until: Some(9), subscription: None, ..head("ivr") }),
        event(ONE, 1),
        event(ONE, 2),
        event(TWO, 1),
        Record::FirstEvent(ONE, 2),
        Record::Answer(ONE, 1, answer("k1")),
        Record::Answer(ONE, 2, answer("k2")),
        Record::Answer(TWO, 1, answer("k1")),
        Record::FirstAnswer(ONE, 2),
        Record::Device(ONE, name("RP"), device("RP")),
        Record::Device(ONE, name("PORT"), device("PORT")),
        Record::Device(TWO, name("RP"), device("RP")),
        Record::DeviceGone(ONE, name("PORT")),
        Record::Leg(LegId(7), leg()),
        Record::Leg(LegId(8), leg()),
        Record::LegGone(LegId(8)),
        Record::Ended(SessionId(3), Ended { user: "ivr".into(), at: 1_000 }),
        Record::Ended(SessionId(4), Ended { user: "ivr".into(), at: 601_000 }),
    ]
}

fn sum(records: &[Record], alive: u64) -> Kept {
    let mut kept = Kept { alive, ..Kept::default() };
    records.iter().cloned().for_each(|record| kept.apply(record));
    kept
}

/// A file with these records.
fn written(folder: &Folder, records: &[Record]) -> SessionFile {
    let mut file = SessionFile::new(&folder.0);
    file.read().expect("nothing yet");
    file.set_incarnation(41);
    file.begin().expect("begun");
    file.keep(records, 77).expect("kept");
    file
}

/// Rows of all tables but the facts.
fn rows(path: &Path) -> u64 {
    let read = redb::Database::open(path).expect("a database").begin_read().expect("readable");
    let tables: Vec<UntypedTableHandle> = read.list_tables().expect("tables").collect();
    let tables = tables.into_iter().filter(|table| table.name() != "facts");
    tables.map(|table| read.open_untyped_table(table).expect("a table").len().expect("a length")).sum()
}

#[test]
fn what_was_kept_is_read_again_to_the_letter() {
    let folder = Folder::new("everything");
    let records = everything();
    let (first, second) = records.split_at(9);
    let mut file = written(&folder, first);
    assert_eq!(folder.crash().kept, sum(first, 77), "after the first commit");
    file.keep(second, 78).expect("kept");
    let mode = std::fs::metadata(folder.file()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    assert_eq!(folder.crash().kept, sum(&records, 78), "the process was killed");
    drop(file);
    let found = SessionFile::new(&folder.0).read().expect("readable");
    assert_eq!((found.kept, found.incarnation, found.damage), (sum(&records, 78), 41, None));
}

#[test]
fn a_crash_before_the_first_commit_of_a_life_leaves_the_one_before() {
    let folder = Folder::new("between");
    drop(written(&folder, &everything()));
    let mut next = SessionFile::new(&folder.0);
    next.read().expect("readable");
    next.begin().expect("begun");
    assert_eq!(folder.crash().kept, sum(&everything(), 77));
    next.keep(&[], 99).expect("kept");
    assert_eq!(folder.crash().kept, sum(&[], 99), "from then on the new one is true");
}

#[test]
fn what_is_forgotten_takes_no_place() {
    let folder = Folder::new("size");
    let mut file = written(&folder, &[Record::Session(ONE, head("ivr"))]);
    let mut largest = 0;
    for round in 0..40 {
        let first = round * 500;
        let mut records: Vec<Record> = (1..=500).map(|n| event(ONE, first + n)).collect();
        records.extend((1..=50).map(|n| Record::Answer(ONE, round * 50 + n, answer("k"))));
        records.push(Record::FirstEvent(ONE, first + 401));
        records.push(Record::FirstAnswer(ONE, round * 50 + 41));
        file.keep(&records, 78).expect("kept");
        let size = std::fs::metadata(folder.file()).expect("it is there").len();
        if round < 10 {
            largest = size.max(largest);
        }
        assert!(size <= largest, "round {round}: {size} bytes, {largest} before");
    }
    drop(file);
    // The session, its first number, 100 events, 10 answers.
    assert_eq!(rows(&folder.file()), 112);
    let mut file = written(&folder, &everything());
    file.keep(&[Record::SessionGone(ONE), Record::SessionGone(TWO), Record::LegGone(LegId(7))], 79)
        .expect("kept");
    drop(file);
    assert_eq!(rows(&folder.file()), 1, "who ended last is still known");
}

#[test]
fn a_file_that_is_damaged_or_foreign_is_set_aside_and_a_new_one_is_kept() {
    let good = Folder::new("good");
    drop(written(&good, &everything()));
    let bytes = std::fs::read(good.file()).expect("the file");
    let flipped = |from: usize, to: usize| {
        let mut bytes = bytes.clone();
        bytes[from..to].iter_mut().for_each(|byte| *byte = !*byte);
        bytes
    };
    let cases: [(&str, Vec<u8>); 7] = [
        ("nothing", Vec::new()),
        (
            "text",
            b"SQLite format 3\0 and so on, for a while, until there is enough of it to be a header".to_vec(),
        ),
        ("torn", bytes[..bytes.len() / 2].to_vec()),
        ("torn early", bytes[..100].to_vec()),
        ("header", flipped(0, 64)),
        ("everything", flipped(0, bytes.len())),
        ("zeros", vec![0; bytes.len()]),
    ];
    for (what, bytes) in cases {
        let folder = Folder::new("damaged");
        std::fs::create_dir_all(&folder.0).expect("a folder");
        std::fs::write(folder.file(), &bytes).expect("written");
        let mut file = SessionFile::new(&folder.0);
        let found = file.read().unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(found.damage.is_some() && found.kept == Kept::default(), "{what}: {found:?}");
        let aside = folder.0.join("sessions.redb.unreadable");
        assert_eq!(std::fs::read(aside).expect("set aside").len(), bytes.len(), "{what}");
        file.begin().and_then(|()| file.keep(&everything(), 77)).expect(what);
        assert_eq!(folder.crash().kept, sum(&everything(), 77), "{what}");
    }
}

/// A disk that forgets a page: either it doesn't matter, or it is noticed. Never a session that is not as it was.
#[test]
fn a_damaged_page_is_noticed() {
    let good = Folder::new("pages");
    drop(written(&good, &everything()));
    let bytes = std::fs::read(good.file()).expect("the file");
    let mut noticed = 0;
    for page in
        (4096..bytes.len()).step_by(4096).filter(|page| bytes[*page..*page + 4096].iter().any(|b| *b != 0))
    {
        let folder = Folder::new("page");
        std::fs::create_dir_all(&folder.0).expect("a folder");
        let mut damaged = bytes.clone();
        damaged[page..page + 4096].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(folder.file(), &damaged).expect("written");
        let found = SessionFile::new(&folder.0).read().expect("readable");
        match found.damage {
            Some(_) => noticed += 1,
            None => assert_eq!(found.kept, sum(&everything(), 77), "page at {page}"),
        }
    }
    assert!(noticed > 0);
}

#[test]
fn a_file_of_another_version_is_foreign() {
    let folder = Folder::new("version");
    drop(written(&folder, &everything()));
    let database = redb::Database::open(folder.file()).expect("a database");
    let write = database.begin_write().expect("writable");
    let facts: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("facts");
    write.open_table(facts).expect("a table").insert("version", 2).expect("inserted");
    write.commit().expect("committed");
    drop(database);
    let damage = SessionFile::new(&folder.0).read().expect("readable").damage;
    assert!(damage.as_ref().is_some_and(|why| why.contains("version 2")), "{damage:?}");
}

#[test]
fn two_processes_never_share_a_file() {
    let folder = Folder::new("lock");
    let file = written(&folder, &everything());
    let mut other = SessionFile::new(&folder.0);
    assert!(other.read().expect_err("taken").contains("another process"));
    assert!(other.begin().expect_err("taken").contains("another process"));
    other.forget();
    assert!(folder.file().exists(), "what is another's stays");
    drop(file);
    other.begin().expect("free now");
}

/// A disk that does what the test says, each time when it says so.
struct Disk {
    orders: mpsc::Receiver<Result<(), String>>,
    said: mpsc::SyncSender<String>,
}

impl Disk {
    fn new() -> (Disk, mpsc::SyncSender<Result<(), String>>, mpsc::Receiver<String>) {
        let ((allow, orders), (said, heard)) = (mpsc::sync_channel(1_000), mpsc::sync_channel(1_000));
        (Disk { orders, said }, allow, heard)
    }

    fn say(&self, what: String) {
        self.said.send(what).expect("the test listens");
    }
}

impl Keeper for Disk {
    fn begin(&mut self) -> Result<(), String> {
        self.say("begin".into());
        self.orders.recv().expect("an order")
    }

    fn keep(&mut self, records: &[Record], _: u64) -> Result<(), String> {
        // A tick writes the time alone; tests don't count them.
        if records.is_empty() {
            return Ok(());
        }
        self.say(format!("keep {}", records.len()));
        self.orders.recv().expect("an order")
    }

    fn forget(&mut self) {
        self.say("forget".into());
    }
}

const PACE: Pace = Pace { tick: Duration::from_millis(20), retry_ticks: 2 };

/// What a shell keeps its sessions with, on such a disk.
pub(in crate::io) fn on_a_disk_of_the_tests_own()
-> (crate::io::Keeping, mpsc::SyncSender<Result<(), String>>, mpsc::Receiver<String>) {
    let (disk, allow, heard) = Disk::new();
    let (store, progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    (crate::io::Keeping { gate: Gate::new(store, None, true), progress }, allow, heard)
}

fn frame(connection: u64) -> Told {
    Told::Frame(ConnectionId(connection), Frame::whole(b"{}".to_vec()))
}

fn is_close(told: Option<&Told>, of: CtiConnection) -> bool {
    matches!(told, Some(Told::Close(connection)) if *connection == of)
}

#[tokio::test]
async fn frames_wait_for_what_they_tell_and_leave_in_order() {
    let (disk, allow, heard) = Disk::new();
    let (store, mut progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, None, true);
    let at = now();
    assert!(gate.hold(at, frame(1)).is_some(), "nothing is awaited");
    assert!(gate.persist(vec![Record::FirstEvent(ONE, 3)]).is_none());
    assert!(gate.hold(at, frame(1)).is_some(), "that something is forgotten is no news");
    assert!(gate.persist(vec![Record::Session(ONE, head("ivr")), event(ONE, 1)]).is_none());
    assert!(gate.hold(at, frame(1)).is_none() && gate.hold(at, Told::Close(ConnectionId(1))).is_none());
    assert!(gate.next().is_none());
    assert_eq!(heard.recv().expect("the disk"), "keep 3", "what was no hurry goes with it");
    // While it is under way more comes: it is committed together.
    for seq in 2..6 {
        assert!(gate.persist(vec![event(ONE, seq)]).is_none());
        assert!(gate.hold(at, frame(2)).is_none());
    }
    allow.send(Ok(())).expect("the disk lives");
    progress.changed().await.expect("the store lives");
    assert!(gate.progress(&progress.borrow_and_update()).is_none());
    assert!(matches!(gate.next(), Some(Told::Frame(ConnectionId(1), _))));
    assert!(is_close(gate.next().as_ref(), ConnectionId(1)));
    assert!(gate.next().is_none() && !gate.is_empty());
    assert_eq!(heard.recv().expect("the disk"), "keep 4");
    allow.send(Ok(())).expect("the disk lives");
    progress.changed().await.expect("the store lives");
    assert!(gate.progress(&progress.borrow_and_update()).is_none());
    assert_eq!(std::iter::from_fn(|| gate.next()).count(), 4);
    assert!(gate.is_empty() && gate.hold(at, frame(3)).is_some());
}

#[tokio::test]
async fn an_error_of_the_disk_suspends_the_keeping_and_it_begins_anew() {
    let (disk, allow, heard) = Disk::new();
    let (store, mut progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, None, true);
    let at = now();
    gate.persist(vec![event(ONE, 1)]);
    assert!(gate.hold(at, frame(1)).is_none());
    allow.send(Err("no space left on device".into())).expect("the disk lives");
    assert_eq!(heard.recv().expect("the disk"), "keep 1");
    assert_eq!(heard.recv().expect("the disk"), "forget", "before anybody hears of it");
    progress.changed().await.expect("the store lives");
    let told = gate.progress(&progress.borrow_and_update());
    assert!(matches!(told, Some(Input::StoreLost(why)) if why == "no space left on device"));
    assert!(gate.next().is_some(), "nothing waits any more");
    assert!(gate.persist(vec![event(ONE, 2)]).is_none() && gate.hold(at, frame(1)).is_some());
    // It tries again by itself, as often as it must.
    assert_eq!(heard.recv().expect("the disk"), "begin");
    allow.send(Err("still none".into())).expect("the disk lives");
    assert_eq!(heard.recv().expect("the disk"), "begin");
    allow.send(Ok(())).expect("the disk lives");
    progress.changed().await.expect("the store lives");
    assert!(matches!(gate.progress(&progress.borrow_and_update()), Some(Input::StoreReady)));
    gate.persist(vec![event(ONE, 9)]);
    assert!(gate.hold(at, frame(1)).is_none());
    assert_eq!(heard.recv().expect("the disk"), "keep 1", "nothing of before");
    allow.send(Ok(())).expect("the disk lives");
    progress.changed().await.expect("the store lives");
    assert!(gate.progress(&progress.borrow_and_update()).is_none() && gate.next().is_some());
}

#[tokio::test]
async fn a_disk_that_does_not_come_back_is_waited_for_two_seconds_and_no_more() {
    let folder = Folder::new("stalled");
    let (disk, allow, heard) = Disk::new();
    std::fs::create_dir_all(&folder.0).expect("a folder");
    std::fs::write(folder.file(), b"what was kept").expect("written");
    let (store, mut progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, Some(folder.0.clone()), true);
    let at = now();
    gate.persist(vec![event(ONE, 1)]);
    assert!(gate.hold(at, frame(1)).is_none());
    assert_eq!(heard.recv().expect("the disk"), "keep 1", "it is at work");
    assert_eq!(gate.deadline(), Some(at + PATIENCE));
    assert!(gate.look(at + PATIENCE - Duration::from_millis(1)).is_none());
    assert!(matches!(gate.look(at + PATIENCE), Some(Input::StoreLost(_))));
    assert!(gate.look(at + 2 * PATIENCE).is_none(), "said once");
    assert!(gate.next().is_some());
    // When the disk is back, what it kept of that time is no use: it is gone, and the store begins anew.
    allow.send(Ok(())).expect("the disk lives");
    assert_eq!(heard.recv().expect("the disk"), "forget");
    assert!(!folder.file().exists(), "set aside without the store's thread");
    assert_eq!(heard.recv().expect("the disk"), "begin");
    allow.send(Ok(())).expect("the disk lives");
    while *progress.borrow_and_update() != Progress::Ready(1) {
        progress.changed().await.expect("the store lives");
    }
    assert!(matches!(gate.progress(&Progress::Ready(1)), Some(Input::StoreReady)));
}

#[test]
fn too_much_that_waits_suspends_the_keeping_too() {
    let (disk, _allow, _heard) = Disk::new();
    let (store, _progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, None, true);
    let at = now();
    let mut refused = None;
    // The thread has taken the first ones, and waits for the disk for ever.
    for seq in 1..=2 * MAX_BATCHES as u64 {
        refused = gate.persist(vec![event(ONE, seq)]);
        if refused.is_some() {
            break;
        }
    }
    assert!(matches!(refused, Some(Input::StoreLost(_))));
    let (disk, _allow, _heard) = Disk::new();
    let (store, _progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, None, true);
    gate.persist(vec![event(ONE, 1)]);
    let large = Frame::whole(vec![b' '; 1024 * 1024]);
    let held = (0..1_000).take_while(|_| {
        assert!(gate.hold(at, Told::Frame(ConnectionId(1), large.clone())).is_none());
        gate.look(at).is_none()
    });
    assert_eq!(held.count(), 64);
}

#[tokio::test]
async fn a_connection_that_is_given_up_gets_nothing_of_what_waited() {
    let (disk, allow, _heard) = Disk::new();
    let (store, mut progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, None, true);
    gate.persist(vec![event(ONE, 1)]);
    for connection in [1, 2, 1] {
        assert!(gate.hold(now(), frame(connection)).is_none());
    }
    assert!(gate.hold(now(), Told::Close(ConnectionId(1))).is_none());
    gate.drop_frames(ConnectionId(1));
    allow.send(Ok(())).expect("the disk lives");
    progress.changed().await.expect("the store lives");
    gate.progress(&progress.borrow_and_update());
    assert!(matches!(gate.next(), Some(Told::Frame(ConnectionId(2), _))));
    assert!(is_close(gate.next().as_ref(), ConnectionId(1)));
    assert!(gate.next().is_none());
}

#[test]
fn when_the_owner_is_gone_all_that_waits_is_kept() {
    let (disk, allow, heard) = Disk::new();
    let (store, progress) = Store::start(disk, Ok(()), BTreeSet::new(), PACE);
    let mut gate = Gate::new(store, None, true);
    gate.persist(vec![Record::FirstEvent(ONE, 3)]);
    drop((gate, progress));
    assert_eq!(heard.recv().expect("the disk"), "keep 1");
    allow.send(Ok(())).expect("the disk lives");
}
