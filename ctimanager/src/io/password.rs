//! Passwords are verified on threads of their own, few and of the lowest priority: each check costs tens of milliseconds
//! of a core by design, and calls need the cores more.

use super::limits::Limits;
use super::places::{Place, Places};
use super::queue::Queue;
use crate::node::{CtiConnection, Input};
use arc_swap::ArcSwap;
use security::Secret;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tracing::{error, warn};

/// How much lower their priority is than that of calls (`nice`): all that there is.
const LOWER: i32 = 19;

/// The pool. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Passwords {
    jobs: Arc<Jobs>,
    waiting: Arc<Places>,
    limits: Arc<ArcSwap<Limits>>,
}

struct Job {
    connection: CtiConnection,
    hash: Arc<str>,
    password: Secret,
    _place: Place,
}

/// What waits. Those who were let in from where they are before go first: whoever guesses keeps none of them waiting
/// for longer than one check.
#[derive(Default)]
struct Jobs {
    state: Mutex<Waiting>,
    come: Condvar,
}

#[derive(Default)]
struct Waiting {
    at_home: VecDeque<Job>,
    strangers: VecDeque<Job>,
    ended: bool,
}

impl std::fmt::Debug for Jobs {
    /// Nothing of what is in there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jobs")
    }
}

impl Jobs {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Job, at_home: bool) {
        let mut state = self.state();
        if at_home {
            state.at_home.push_back(job)
        } else {
            state.strangers.push_back(job)
        }
        self.come.notify_one();
    }

    /// Waits for one; `None` when the pool has ended.
    fn next(&self) -> Option<Job> {
        let idle =
            |state: &mut Waiting| !state.ended && state.at_home.is_empty() && state.strangers.is_empty();
        let mut state = self.come.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return None;
        }
        state.at_home.pop_front().or_else(|| state.strangers.pop_front())
    }
}

impl Passwords {
    /// A pool of so many threads; it answers by way of `queue`.
    pub(super) fn new(queue: Queue, threads: usize, limits: Arc<ArcSwap<Limits>>) -> Self {
        let jobs = Arc::new(Jobs::default());
        for _ in 0..threads.max(1) {
            let (queue, jobs) = (queue.clone(), Arc::clone(&jobs));
            let thread = std::thread::Builder::new().name("passwords".into());
            // Without any thread all places are taken soon, and every check is told to come again.
            if let Err(error) = thread.spawn(move || work(&jobs, &queue)) {
                error!(%error, "a thread for passwords can't be started");
            }
        }
        Self { jobs, waiting: Arc::default(), limits }
    }

    /// Starts a check; [`Input::PasswordChecked`] follows. `false`: too many wait, nothing will follow. The last quarter
    /// of the places is for those who were let in before from where they are.
    pub(super) fn check(
        &self,
        connection: CtiConnection,
        hash: Arc<str>,
        password: Secret,
        at_home: bool,
    ) -> bool {
        let most = self.limits.load().max_waiting_passwords;
        let most = if at_home { most } else { most - most / 4 };
        let Some(place) = self.waiting.take(most) else { return false };
        self.jobs.put(Job { connection, hash, password, _place: place }, at_home);
        true
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.jobs.state().ended = true;
        self.jobs.come.notify_all();
    }
}

fn work(jobs: &Jobs, queue: &Queue) {
    // For this thread alone, as Linux has it.
    if let Err(error) = rustix::process::nice(LOWER) {
        warn!(%error, "passwords are verified at the priority of calls");
    }
    let mut verifier = security::password::Verifier::default();
    while let Some(Job { connection, hash, password, _place }) = jobs.next() {
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
        assert!(pool.check(CtiConnection(1), Arc::clone(&hash), secret("open sesame"), true));
        assert!(pool.check(CtiConnection(2), Arc::clone(&hash), secret("open barley"), true));
        assert!(!pool.check(CtiConnection(3), hash, secret("open sesame"), true), "two wait already");
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

    #[tokio::test]
    async fn who_was_let_in_before_waits_for_no_stranger_and_has_places_of_his_own() {
        let (sender, mut events) = queue(1, 1024);
        sender.try_send(Event::Input(Input::Timeout)).expect("room");
        let limits = Limits { max_waiting_passwords: 8, ..Wishes::default().limits };
        let pool = Passwords::new(sender, 1, Arc::new(ArcSwap::from_pointee(limits)));
        let hash: Arc<str> =
            security::password::hash(&Secret::new("x".into()), [7; 16]).expect("hash").into();
        let ask = |id: u64, at_home| {
            pool.check(CtiConnection(id), Arc::clone(&hash), Secret::new("guess".into()), at_home)
        };
        let taken = (1..100).filter(|id| ask(*id, false)).count();
        assert_eq!(taken, 6, "a quarter is kept free of strangers");
        assert!(ask(100, true));
        events.recv().await.expect("the first");
        let mut order = Vec::new();
        for _ in 0..=taken {
            match events.recv().await.expect("an answer").event {
                Event::Input(Input::PasswordChecked(connection, false)) => order.push(connection.0),
                other => panic!("{other:?}"),
            }
        }
        let place = order.iter().position(|id| *id == 100).expect("it was verified");
        assert!(place <= 2, "at most what was at work before: {order:?}");
    }
}
