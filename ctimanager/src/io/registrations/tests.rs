use super::super::queue::{Event, queue};
use super::*;
use crate::node::registrations::By;
use std::time::SystemTime;

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let folder = std::env::temp_dir().join(format!("ctimanager-registrations-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    Folder(folder)
}

fn registration(account: &str) -> Registration {
    Registration {
        account: account.into(),
        number: "2001".into(),
        contact: "sip:2001@192.0.2.1:5070".into(),
        q: 1000,
        path: vec!["<sip:192.0.2.5;lr>".into()],
        call_id: "c".into(),
        cseq: 7,
        instance: Some("<urn:uuid:1>;".into()),
        transport: By::Tcp,
        remote: "192.0.2.5:5060".parse().expect("an address"),
        expires: 1_700_000_000_000,
    }
}

fn bound(id: u64, account: &str) -> RegistrationRecord {
    RegistrationRecord::Bound(id, Box::new(registration(account)))
}

/// A core that notes what it is given back, and has no place for one account.
#[derive(Default)]
struct Memory {
    restored: Vec<(u64, Registration)>,
    damage: Option<String>,
}

impl Core for Memory {
    fn handle(&mut self, _: Instant, _: SystemTime, input: Input, out: &mut Vec<Output>) {
        if let Input::Registrations(RegistrationNews::Restored(kept, damage)) = input {
            let gone = kept.iter().filter(|(_, of)| &*of.account == "REMOVED");
            out.push(Output::Registrations(gone.map(|(id, _)| RegistrationRecord::Gone(*id)).collect()));
            (self.restored, self.damage) = (kept, damage);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }
}

fn life(folder: &Path) -> (Memory, Option<Journal>) {
    let mut core = Memory::default();
    let journal = begin(&mut core, &Counters::default(), folder);
    (core, journal)
}

/// What a life that said these records leaves to the next.
fn after(folder: &Path, records: Vec<RegistrationRecord>) {
    let (queue, _inlet) = queue(8, 1024);
    let mut store = RegistrationStore::start(life(folder).1.expect("a journal"), queue);
    assert!(store.keep(records).is_none());
    drop(store);
    // The thread holds the lock until all is written.
    let lock = File::open(folder.join("registrations.lock")).expect("it is there");
    lock.lock().expect("the thread ends");
}

#[test]
fn what_was_said_is_there_in_the_next_life() {
    let folder = folder("next");
    after(&folder, vec![bound(1, "A"), bound(2, "B"), RegistrationRecord::Gone(1), bound(3, "REMOVED")]);
    let (core, journal) = life(&folder);
    assert_eq!(core.restored, [(2, registration("B")), (3, registration("REMOVED"))]);
    drop(journal);
    after(&folder, Vec::new());
    assert_eq!(life(&folder).0.restored, [(2, registration("B"))], "what has no place is not kept on");
}

#[test]
fn a_line_that_was_cut_says_nothing_and_all_before_it_counts() {
    let folder = folder("cut");
    after(&folder, vec![bound(1, "A"), bound(2, "B")]);
    let path = folder.join("registrations");
    let whole = std::fs::read(&path).expect("it was written");
    std::fs::write(&path, &whole[..whole.len() - 9]).expect("written");
    let (core, _journal) = life(&folder);
    assert_eq!((core.restored, core.damage), (vec![(1, registration("A"))], None));
}

#[test]
fn a_damaged_file_is_set_aside_and_the_node_starts_without() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.iter_mut().for_each(|byte| *byte = 0xff),
        |bytes| *bytes = b"something else\n".to_vec(),
        // One digit of a contact: still JSON.
        |bytes| {
            let at = String::from_utf8_lossy(bytes).find("192.0.2.1").expect("a contact");
            bytes[at] = b'2';
        },
        |bytes| bytes.drain(..40).for_each(drop),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = folder(&format!("damaged-{number}"));
        after(&folder, vec![bound(1, "A"), bound(2, "B")]);
        let path = folder.join("registrations");
        let mut bytes = std::fs::read(&path).expect("it was written");
        damage(&mut bytes);
        std::fs::write(&path, &bytes).expect("written");
        let (core, journal) = life(&folder);
        assert!(core.restored.is_empty() && core.damage.is_some(), "{number}: {:?}", core.damage);
        drop(journal);
        assert!(folder.join("registrations.unreadable").exists());
        after(&folder, vec![bound(5, "C")]);
        assert_eq!(life(&folder).0.restored, [(5, registration("C"))], "it goes on from there");
    }
}

#[test]
fn one_process_keeps_its_registrations_in_a_folder() {
    let folder = folder("lock");
    let (_, first) = life(&folder);
    assert!(first.is_some() && life(&folder).1.is_none());
}

/// Renewed a hundred thousand times, it is no longer than a few times of what it says.
#[test]
fn the_journal_stays_short() {
    let folder = folder("short");
    let mut journal = life(&folder).1.expect("a journal");
    journal.append("").expect("written");
    for _ in 0..20_000 {
        let mut text = String::new();
        journal.apply(bound(1, "A"), &mut text);
        journal.append(&text).expect("written");
    }
    let length = std::fs::metadata(folder.join("registrations")).expect("it is there").len();
    assert!(length <= SMALL as u64 + 1_000, "{length}");
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_tried_again() {
    let folder = folder("full");
    // Where the fresh file would be, there is a folder.
    std::fs::create_dir(folder.join("registrations.new")).expect("a folder");
    let mut journal = life(&folder).1.expect("a journal");
    let (queue, mut inlet) = queue(8, 1024);
    let mut text = String::new();
    journal.apply(bound(1, "A"), &mut text);
    let mut writer = Writer { journal, queue, written: watch::channel(0).0, failed: None };
    writer.write(&text);
    let news = |inlet: &mut tokio::sync::mpsc::Receiver<super::super::queue::Queued>| match inlet
        .try_recv()
        .expect("news")
        .event
    {
        Event::Input(Input::Registrations(news)) => news,
        other => panic!("{other:?}"),
    };
    assert!(matches!(news(&mut inlet), RegistrationNews::Suspended(_)));
    std::fs::remove_dir(folder.join("registrations.new")).expect("removed");
    writer.failed = writer.failed.map(|since| since - RETRY);
    writer.look_around();
    assert!(matches!(news(&mut inlet), RegistrationNews::Resumed));
    drop(writer);
    assert_eq!(life(&folder).0.restored, [(1, registration("A"))], "what came meanwhile is there, too");
}

#[test]
fn records_beyond_the_bound_are_said_anew_once_there_is_room() {
    let (batches, waiting) = sync_channel(1);
    let (_writer, written) = watch::channel(0);
    let mut store = RegistrationStore::of(batches, written);
    assert!(store.keep(vec![bound(1, "A")]).is_none());
    assert!(store.keep(vec![bound(2, "B")]).is_none(), "dropped");
    waiting.recv().expect("a batch");
    assert!(matches!(store.keep(vec![bound(3, "C")]), Some(Input::Registrations(RegistrationNews::Wanted))));
    waiting.recv().expect("the question for room");
    assert!(store.keep(vec![RegistrationRecord::Anew, bound(1, "A")]).is_none() && !store.behind);
}

fn hop() -> Hop {
    let at = |text: &str| text.parse().expect("an address");
    let (local, remote) = (at("192.0.2.9:5060"), at("192.0.2.1:5060"));
    Hop { transport: sip::Transport::Udp, local, remote, connection: None }
}

#[test]
fn an_answer_waits_until_it_is_true_and_not_for_ever() {
    let (batches, _waiting) = sync_channel(8);
    let (writer, written) = watch::channel(0);
    let mut store = RegistrationStore::of(batches, written);
    let start = now();
    store.keep(vec![bound(1, "A")]);
    assert!(store.hold(start, hop(), b"first".to_vec()).is_none());
    store.keep(vec![bound(2, "B")]);
    assert!(store.hold(start, hop(), b"second".to_vec()).is_none());
    assert!(store.next(start).is_none());
    writer.send_replace(1);
    assert_eq!(store.next(start).map(|(_, bytes)| bytes), Some(b"first".to_vec()));
    assert_eq!((store.next(start), store.deadline()), (None, Some(start + PATIENCE)));
    assert_eq!(store.next(start + PATIENCE).map(|(_, bytes)| bytes), Some(b"second".to_vec()));
    store.keep(vec![bound(3, "C")]);
    for _ in 0..MAX_HELD {
        assert!(store.hold(start, hop(), Vec::new()).is_none());
    }
    assert!(store.hold(start, hop(), Vec::new()).is_some(), "beyond the bound nobody waits");
    drop(writer);
    store.held.clear();
    assert!(store.hold(start, hop(), Vec::new()).is_some(), "nor for a thread that is gone");
}
