//! Passwords are verified on blocking threads, few at once: each costs tens of milliseconds of a core by design, and
//! calls need the cores more.

use super::places::Places;
use super::queue::{Event, Queue};
use crate::node::{CtiConnection, Input};
use security::Secret;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Checks that wait or run; beyond it the application is told to try again. With some 30 ms each they are done before
/// the 10 s in which a provider must be open.
const MAX_WAITING: usize = 256;

/// The pool.
#[derive(Debug)]
pub(super) struct Passwords {
    queue: Queue,
    waiting: Arc<Places>,
    running: Arc<Semaphore>,
    max_waiting: usize,
}

impl Passwords {
    /// A pool for a machine of `cores`; it answers by way of `queue`.
    pub(super) fn new(queue: Queue, cores: usize) -> Self {
        let at_once = (cores / 2).clamp(1, 2);
        Self {
            queue,
            waiting: Arc::default(),
            running: Arc::new(Semaphore::new(at_once)),
            max_waiting: MAX_WAITING,
        }
    }

    /// Starts a check; [`Input::PasswordChecked`] follows. `false`: too many wait, nothing will follow.
    pub(super) fn check(&self, connection: CtiConnection, hash: Arc<str>, password: Secret) -> bool {
        let Some(place) = self.waiting.take(self.max_waiting) else { return false };
        let (queue, running) = (self.queue.clone(), Arc::clone(&self.running));
        tokio::spawn(async move {
            // The semaphore is never closed.
            let Ok(_turn) = running.acquire_owned().await else { return };
            let verified = tokio::task::spawn_blocking(move || security::password::verify(&hash, &password));
            // A panic in there means: not verified.
            let right = verified.await.unwrap_or(false);
            drop(place);
            // The owner may be gone: then the connection is, too.
            let _ = queue.send(Event::Input(Input::PasswordChecked(connection, right))).await;
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::queue::queue;

    #[tokio::test]
    async fn right_and_wrong_are_told_apart_and_beyond_the_limit_nothing_is_started() {
        let (sender, mut events) = queue(16);
        let mut pool = Passwords::new(sender, 2);
        pool.max_waiting = 2;
        let secret = |text: &str| Secret::new(text.to_owned());
        let hash: Arc<str> = security::password::hash(&secret("open sesame"), [7; 16]).expect("hash").into();
        assert!(pool.check(CtiConnection(1), Arc::clone(&hash), secret("open sesame")));
        assert!(pool.check(CtiConnection(2), Arc::clone(&hash), secret("open barley")));
        assert!(!pool.check(CtiConnection(3), hash, secret("open sesame")), "two wait already");
        let mut verdicts = Vec::new();
        for _ in 0..2 {
            match events.recv().await.expect("an answer").event {
                Event::Input(Input::PasswordChecked(connection, right)) => {
                    verdicts.push((connection.0, right))
                }
                other => panic!("{other:?}"),
            }
        }
        verdicts.sort_unstable();
        assert_eq!(verdicts, [(1, true), (2, false)]);
        assert_eq!(pool.waiting.taken(), 0);
    }
}
