//! One answer for each request: what is being carried out, and the answers that repeats of an `idem` get again.

use crate::error::{CtiError, Symbol};
use crate::rpc::Id;
use device_model::RequestToken;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The answer to a request.
pub type Answer = Result<Box<RawValue>, CtiError>;

/// Who waits for an answer: a request's id on one attachment of the session. Ids belong to their connection: after a
/// resume the same id may stand for something else.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) id: Id,
    pub(super) attachment: u64,
}

/// What is known of a request's key.
pub(super) enum Known {
    /// Never seen, or forgotten.
    New,
    /// Answered.
    Done(Arc<Answer>),
    /// Being carried out: the waiter was added.
    Joined,
    /// The key stood for another method or other params.
    Conflict,
    /// Too many wait already.
    Full,
}

#[derive(Debug)]
struct Pending {
    waiters: Vec<Waiter>,
    idem: Option<Arc<str>>,
}

#[derive(Debug)]
struct Memo {
    fingerprint: u128,
    state: MemoState,
}

#[derive(Debug)]
enum MemoState {
    Running(RequestToken),
    Done(Arc<Answer>),
}

/// The answer to a request with an idempotency key, as it is kept.
#[derive(Clone, Debug)]
pub struct KeptAnswer {
    /// The key.
    pub idem: Arc<str>,
    /// Of method and params: the same key with others is refused.
    pub fingerprint: u128,
    /// What a repeat gets.
    pub answer: Arc<Answer>,
}

/// Requests that wait for their answer, and answers that may be asked for again.
#[derive(Debug)]
pub(super) struct Answers {
    pending: BTreeMap<RequestToken, Pending>,
    waiting: usize,
    memos: BTreeMap<Arc<str>, Memo>,
    /// Keys with an answer, oldest first.
    done: VecDeque<Arc<str>>,
    /// How many answers were ever remembered.
    remembered: u64,
    next_token: RequestToken,
    max_pending: usize,
    max_done: usize,
}

impl Answers {
    pub(super) fn new(max_pending: usize, max_done: usize) -> Self {
        Self {
            pending: BTreeMap::new(),
            waiting: 0,
            memos: BTreeMap::new(),
            done: VecDeque::new(),
            remembered: 0,
            next_token: RequestToken(1),
            max_pending,
            max_done,
        }
    }

    pub(super) fn count_from(&mut self, token: RequestToken) {
        self.next_token = token;
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting >= self.max_pending
    }

    /// Looks a key up, and lets the request wait for the answer that is on its way.
    pub(super) fn look_up(&mut self, idem: &str, fingerprint: u128, waiter: Waiter) -> Known {
        let full = self.is_full();
        let Some(memo) = self.memos.get(idem) else { return Known::New };
        if memo.fingerprint != fingerprint {
            return Known::Conflict;
        }
        match &memo.state {
            MemoState::Done(answer) => Known::Done(answer.clone()),
            MemoState::Running(_) if full => Known::Full,
            MemoState::Running(token) => {
                let pending = self.pending.get_mut(token).expect("a running memo has its pending request");
                pending.waiters.push(waiter);
                self.waiting += 1;
                Known::Joined
            }
        }
    }

    /// Starts a request; [`Answers::finish`] ends it.
    pub(super) fn start(&mut self, waiter: Waiter, key: Option<(Arc<str>, u128)>) -> RequestToken {
        let token = self.next_token;
        self.next_token = RequestToken(token.0 + 1);
        let idem = key.map(|(idem, fingerprint)| {
            self.memos.insert(idem.clone(), Memo { fingerprint, state: MemoState::Running(token) });
            idem
        });
        self.pending.insert(token, Pending { waiters: vec![waiter], idem });
        self.waiting += 1;
        token
    }

    /// Ends a request: who waited for it. `None` when it had its answer before.
    pub(super) fn finish(&mut self, token: RequestToken, answer: &Arc<Answer>) -> Option<Vec<Waiter>> {
        let Pending { waiters, idem } = self.pending.remove(&token)?;
        self.waiting -= waiters.len();
        if let Some(idem) = idem {
            let fingerprint = self.memos.remove(&idem).map(|memo| memo.fingerprint);
            if let Some(fingerprint) = fingerprint {
                self.remember(idem, fingerprint, answer.clone());
            }
        }
        Some(waiters)
    }

    /// Keeps an answer for repeats. `RATE_LIMITED` is none: the repeat is to be carried out.
    pub(super) fn remember(&mut self, idem: Arc<str>, fingerprint: u128, answer: Arc<Answer>) {
        if matches!(&*answer, Err(error) if error.symbol == Symbol::RateLimited) {
            return;
        }
        self.memos.insert(idem.clone(), Memo { fingerprint, state: MemoState::Done(answer) });
        self.done.push_back(idem);
        self.remembered += 1;
        self.keep_bounds();
    }

    fn keep_bounds(&mut self) {
        while self.done.len() > self.max_done
            && let Some(oldest) = self.done.pop_front()
        {
            self.memos.remove(&oldest);
        }
    }

    /// Other bounds, from now on.
    pub(super) fn set_bounds(&mut self, max_pending: usize, max_done: usize) {
        (self.max_pending, self.max_done) = (max_pending, max_done);
        self.keep_bounds();
    }

    /// The number of the newest answer that was remembered; 0 before the first.
    pub(super) fn last_answer(&self) -> u64 {
        self.remembered
    }

    /// The number of the oldest answer that is still known; of the next one when there is none.
    pub(super) fn first_answer(&self) -> u64 {
        self.remembered + 1 - self.done.len() as u64
    }

    /// The answers after number `last`, with their numbers.
    pub(super) fn after(&self, last: u64) -> impl Iterator<Item = (u64, KeptAnswer)> {
        let first = self.first_answer();
        let skip = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        (first..).zip(&self.done).skip(skip).filter_map(|(number, idem)| {
            let Memo { fingerprint, state: MemoState::Done(answer) } = self.memos.get(idem)? else {
                return None;
            };
            let (fingerprint, answer) = (*fingerprint, answer.clone());
            Some((number, KeptAnswer { idem: idem.clone(), fingerprint, answer }))
        })
    }
}

/// Method and params in 128 bits (FNV-1a), the same for every order of members. It tells an application's requests
/// apart from each other, nothing more: who makes two of his own collide cheats himself.
pub(super) fn fingerprint(method: &str, params: &Map<String, Value>) -> u128 {
    let mut hash = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    hash.text(method);
    hash.object(params);
    hash.0
}

struct Fnv(u128);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// Length first, so that no two texts run into one another.
    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    fn object(&mut self, map: &Map<String, Value>) {
        let mut members: Vec<_> = map.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        self.bytes(b"{");
        for (name, value) in members {
            self.text(name);
            self.value(value);
        }
        self.bytes(b"}");
    }

    /// Values are at most 128 deep: the reader of the params refuses more.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"n"),
            Value::Bool(b) => self.bytes(if *b { b"t" } else { b"f" }),
            Value::Number(n) => {
                self.bytes(b"#");
                self.text(&n.to_string());
            }
            Value::String(s) => {
                self.bytes(b"s");
                self.text(s);
            }
            Value::Array(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            Value::Object(map) => self.object(map),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fingerprint;
    use serde_json::{Value, json};

    fn of(method: &str, params: Value) -> u128 {
        let Value::Object(map) = params else { panic!("an object") };
        fingerprint(method, &map)
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let one = of("call.make", json!({"a": 1, "b": {"c": [1, "2", null], "d": true}}));
        let reordered =
            serde_json::from_str(r#"{"b": {"d": true, "c": [1, "2", null]}, "a": 1}"#).expect("JSON");
        assert_eq!(one, of("call.make", reordered));
        for other in [
            of("call.drop", json!({"a": 1, "b": {"c": [1, "2", null], "d": true}})),
            of("call.make", json!({"a": 2, "b": {"c": [1, "2", null], "d": true}})),
            of("call.make", json!({"a": 1, "b": {"c": [1, 2, null], "d": true}})),
            of("call.make", json!({"a": 1, "b": {"c": [1, "2"], "d": true}})),
            of("call.make", json!({"a": 1})),
        ] {
            assert_ne!(one, other);
        }
    }
}
