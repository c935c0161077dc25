//! Subscriptions (RFC 6665): who is told what, until when. What is told is the directory's to say, at each NOTIFY anew: nothing
//! is kept of it here but what was told last.

mod package;
mod progress;

pub(crate) use package::{EVENTS, SHORTEST, Unserved, Wish};
pub(crate) use progress::{Deed, Happening, News, Progress};

use crate::dialog::{Dialog, DialogId};
use crate::message::Request;
use crate::port::{Package, WatchedState};
use crate::transaction::ClientId;
use crate::transaction::timers::Timers;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

/// Subscriptions that are looked at in one step after rights have changed.
const RECHECKED_AT_ONCE: usize = 128;

/// Names a subscription; a later one has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubscriptionId(u64);

/// One of them.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub dialog: Dialog,
    /// Whose phone it is.
    pub account: Arc<str>,
    pub package: Package,
    /// Whom its SUBSCRIBE named.
    pub user: Arc<str>,
    /// The number that this means.
    pub number: Arc<str>,
    /// The Event of its NOTIFYs.
    pub event: String,
    /// URI of our Contact.
    pub contact: Arc<str>,
    /// What was told last.
    pub last: Option<WatchedState>,
    pub progress: Progress,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    all: BTreeMap<SubscriptionId, Subscription>,
    dialogs: HashMap<DialogId, SubscriptionId>,
    accounts: HashMap<Arc<str>, BTreeSet<SubscriptionId>>,
    watchers: HashMap<(Package, Arc<str>), BTreeSet<SubscriptionId>>,
    clients: HashMap<ClientId, SubscriptionId>,
    timers: Timers<SubscriptionId>,
    next_id: u64,
    /// Since when all are being looked at again, and which was the last.
    recheck: Option<(Instant, Bound<SubscriptionId>)>,
}

impl Subscriptions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The subscription in whose dialog a request is.
    pub fn find(&self, request: &Request) -> Option<SubscriptionId> {
        let local_tag: Arc<str> = request.headers.to_tag()?.into();
        let id = *self.dialogs.get(&DialogId { call_id: request.headers.call_id().into(), local_tag })?;
        let peer_tag = request.headers.from_tag();
        self.all.get(&id).filter(|found| found.dialog.remote.tag.as_deref() == peer_tag).map(|_| id)
    }

    pub fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.all.get(&id)
    }

    /// The subscription that waits for the answer to this NOTIFY.
    pub fn of_client(&self, client: ClientId) -> Option<SubscriptionId> {
        self.clients.get(&client).copied()
    }

    /// How many an account has.
    pub fn count(&self, account: &str) -> usize {
        self.accounts.get(account).map_or(0, BTreeSet::len)
    }

    /// An account's oldest.
    pub fn oldest(&self, account: &str) -> Option<SubscriptionId> {
        self.accounts.get(account).and_then(|ids| ids.first()).copied()
    }

    /// Whether an account is told of a number by a subscription.
    pub fn tells(&self, account: &str, package: Package, number: &str) -> bool {
        let of = self.accounts.get(account).into_iter().flatten().filter_map(|id| self.all.get(id));
        of.into_iter()
            .any(|one| one.package == package && *one.number == *number && !one.progress.is_ending())
    }

    pub fn add(&mut self, subscription: Subscription) -> SubscriptionId {
        self.next_id += 1;
        let id = SubscriptionId(self.next_id);
        self.put(id, subscription);
        id
    }

    /// Changes one; what finds it is kept true.
    pub fn update<T>(
        &mut self,
        id: SubscriptionId,
        change: impl FnOnce(&mut Subscription) -> T,
    ) -> Option<T> {
        let mut subscription = self.remove(id)?;
        let result = change(&mut subscription);
        self.put(id, subscription);
        Some(result)
    }

    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let removed = self.all.remove(&id)?;
        self.timers.set(id, removed.progress.due(), None);
        self.dialogs.remove(&removed.dialog.id);
        if let Some(client) = removed.progress.client() {
            self.clients.remove(&client);
        }
        leave(&mut self.accounts, &removed.account, id);
        leave(&mut self.watchers, &(removed.package, Arc::clone(&removed.number)), id);
        Some(removed)
    }

    fn put(&mut self, id: SubscriptionId, subscription: Subscription) {
        self.timers.set(id, None, subscription.progress.due());
        self.dialogs.insert(subscription.dialog.id.clone(), id);
        self.clients.extend(subscription.progress.client().map(|client| (client, id)));
        self.accounts.entry(Arc::clone(&subscription.account)).or_default().insert(id);
        let watched = (subscription.package, Arc::clone(&subscription.number));
        self.watchers.entry(watched).or_default().insert(id);
        self.all.insert(id, subscription);
    }

    /// What is watched of a number may have changed: its watchers are due. They are told by [`Subscriptions::pop_due`], some in
    /// each step.
    pub fn changed(&mut self, now: Instant, package: Package, number: &Arc<str>) {
        let watchers = self.watchers.get(&(package, Arc::clone(number))).cloned().unwrap_or_default();
        watchers.into_iter().for_each(|id| self.is_due(now, id));
    }

    /// The same of all that an account watches.
    pub fn changed_for(&mut self, now: Instant, account: &str) {
        let all = self.accounts.get(account).cloned().unwrap_or_default();
        all.into_iter().for_each(|id| self.is_due(now, id));
    }

    /// All are looked at again, some in each step.
    pub fn recheck(&mut self, now: Instant) {
        if !self.all.is_empty() {
            self.recheck = Some((now, Bound::Unbounded));
        }
    }

    /// Goes on looking at them.
    pub fn recheck_some(&mut self, now: Instant) {
        let Some((since, last)) = self.recheck.take() else { return };
        let next = self.all.range((last, Bound::Unbounded)).map(|(id, _)| *id);
        let some: Vec<SubscriptionId> = next.take(RECHECKED_AT_ONCE).collect();
        some.iter().for_each(|id| self.is_due(now, *id));
        if let Some(last) = some.last().filter(|_| some.len() == RECHECKED_AT_ONCE) {
            self.recheck = Some((since, Bound::Excluded(*last)));
        }
    }

    fn is_due(&mut self, now: Instant, id: SubscriptionId) {
        self.update(id, |one| one.progress.happens(now, Happening::Changed));
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        let recheck = self.recheck.map(|(since, _)| since);
        [self.timers.next(), recheck].into_iter().flatten().min()
    }

    /// One whose time has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<SubscriptionId> {
        self.timers.pop(now)
    }
}

fn leave<K: std::hash::Hash + Eq>(
    sets: &mut HashMap<K, BTreeSet<SubscriptionId>>,
    key: &K,
    id: SubscriptionId,
) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&id);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
