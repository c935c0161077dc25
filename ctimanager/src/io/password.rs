//! Passwords are verified on threads of their own, few and of the lowest priority: each check costs tens of milliseconds
//! of a core by design, and calls need the cores more.

use super::places::{Place, Places};
use super::queue::Queue;
use super::run::Limits;
use crate::node::{CtiConnection, Input};
use arc_swap::ArcSwap;
use security::Secret;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{error, warn};

/// Checks that the channel to the threads holds whatever the configuration says: the range of `max_waiting_passwords`.
const MOST_WAITING: usize = 10_000;
/// How much lower their priority is than that of calls (`nice`): all that there is.
const LOWER: i32 = 19;

/// The pool. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Passwords {
    jobs: SyncSender<Job>,
    waiting: Arc<Places>,
    limits: Arc<ArcSwap<Limits>>,
}

struct Job {
    connection: CtiConnection,
    hash: Arc<str>,
    password: Secret,
    _place: Place,
}

impl Passwords {
    /// A pool of so many threads; it answers by way of `queue`.
    pub(super) fn new(queue: Queue, threads: usize, limits: Arc<ArcSwap<Limits>>) -> Self {
        let (jobs, inbox) = sync_channel(MOST_WAITING);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..threads.max(1) {
            let (queue, inbox) = (queue.clone(), Arc::clone(&inbox));
            let thread = std::thread::Builder::new().name("passwords".into());
            // Without any thread the channel is closed, and every check is told to come again.
            if let Err(error) = thread.spawn(move || work(&inbox, &queue)) {
                error!(%error, "a thread for passwords can't be started");
            }
        }
        Self { jobs, waiting: Arc::default(), limits }
    }

    /// Starts a check; [`Input::PasswordChecked`] follows. `false`: too many wait, nothing will follow.
    pub(super) fn check(&self, connection: CtiConnection, hash: Arc<str>, password: Secret) -> bool {
        let Some(place) = self.waiting.take(self.limits.load().max_waiting_passwords) else { return false };
        self.jobs.try_send(Job { connection, hash, password, _place: place }).is_ok()
    }
}

fn work(inbox: &Mutex<Receiver<Job>>, queue: &Queue) {
    // For this thread alone, as Linux has it.
    if let Err(error) = rustix::process::nice(LOWER) {
        warn!(%error, "passwords are verified at the priority of calls");
    }
    let mut verifier = security::password::Verifier::default();
    loop {
        // Who waits for a job waits with the lock; the others wait for the lock.
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { connection, hash, password, _place }) = job else { return };
        // A panic in there means: not verified.
        let verify = || verifier.verify(&hash, &password);
        let right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(verify)).unwrap_or(false);
        if queue.send_blocking(Input::PasswordChecked(connection, right)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::queue::{Event, queue};
    use crate::io::tests::Wishes;

    #[tokio::test]
    async fn right_and_wrong_are_told_apart_and_beyond_the_limit_nothing_is_started() {
        // The first verdict finds the queue full, so that the pool stands still.
        let (sender, mut events) = queue(1, 1024);
        sender.try_send(Event::Input(Input::Timeout)).expect("room");
        let limits = Limits { max_waiting_passwords: 2, ..Wishes::default().limits };
        let pool = Passwords::new(sender, 1, Arc::new(ArcSwap::from_pointee(limits)));
        let secret = |text: &str| Secret::new(text.to_owned());
        let hash: Arc<str> = security::password::hash(&secret("open sesame"), [7; 16]).expect("hash").into();
        assert!(pool.check(CtiConnection(1), Arc::clone(&hash), secret("open sesame")));
        assert!(pool.check(CtiConnection(2), Arc::clone(&hash), secret("open barley")));
        assert!(!pool.check(CtiConnection(3), hash, secret("open sesame")), "two wait already");
        events.recv().await.expect("the first");
        let mut verdicts = Vec::new();
        for _ in 0..2 {
            match events.recv().await.expect("an answer").event {
                Event::Input(Input::PasswordChecked(connection, right)) => {
                    verdicts.push((connection.0, right));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(verdicts, [(1, true), (2, false)], "in their order");
        while pool.waiting.taken() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
