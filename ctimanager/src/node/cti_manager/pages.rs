//! Answers in pages. No line is longer than the protocol allows, and no answer is made in one step if that takes long.
//!
//! A long list (`provider.devices`) is gathered in portions and goes on by name. A snapshot is one moment: what the session
//! has open is captured in portions, what changes meanwhile is captured again, and the moment is that of the last one. If
//! that does not fit into a line the events after it wait in the log until the last page is fetched, or until somebody takes
//! too long: then they are told, and the cursor is worth nothing any more. `device.open` at a device with more calls than
//! fit into a line answers in the same way.

use super::CtiManager;
use super::portions::{Portion, Task};
use crate::node::Step;
use device_model::{DeviceName, LegView, Reply, RequestToken, SessionId};
use protocol::frame::MAX_LINE_BYTES;
use protocol::methods::{Cursor, PageSize, ProviderDevices, ProviderSnapshot, Scope};
use protocol::wire::{Device, Leg};
use protocol::{CtiError, Event, rpc};
use security::Topic;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// What the lists of an answer may hold of a line; the rest is for its envelope.
const PAGE_BYTES: usize = MAX_LINE_BYTES - 4 * 1024;
/// Devices on a page of `provider.devices` when the application does not say.
const PAGE: usize = 100;
/// Devices looked at in one piece of a list, and captured in one piece of a snapshot.
const LISTED_AT_ONCE: usize = 128;
const CAPTURED_AT_ONCE: usize = 32;
/// Open devices whose snapshot is taken in one step; they may have four times as many calls.
const SMALL: usize = 128;
/// What of a portion a device of a list, and one of a snapshot, counts.
const WORK_OF_LISTED: usize = 4;
const WORK_OF_CAPTURED: usize = 12;
const WORK_OF_LEG_CAPTURED: usize = 4;
/// Devices of a list, and names looked at, that cost as much as another request does.
const DEVICES_A_REQUEST: usize = 25;
const NAMES_A_REQUEST: usize = 1_000;
/// How long the next page is waited for, and all of them.
const PAGE_PATIENCE: Duration = Duration::from_secs(2);
const ALL_PATIENCE: Duration = Duration::from_secs(10);
/// Snapshots in pages at once, those of one user among them.
const MAX_SNAPSHOTS: usize = 8;
const MAX_SNAPSHOTS_OF_USER: usize = 2;
/// When to ask again if they are used up.
const RETRY_MS: u64 = 100;

/// A page of `provider.devices` that is being gathered.
pub(in crate::node) struct Listing {
    pub(in crate::node) session: SessionId,
    token: RequestToken,
    wish: ProviderDevices,
    from: Bound<DeviceName>,
    found: Vec<Device>,
    bytes: usize,
    looked_at: usize,
    /// Of its price, in requests, so much is paid.
    paid: usize,
}

/// What a session has open, as far as it is captured.
pub(in crate::node) struct Capture {
    pub(in crate::node) session: SessionId,
    token: RequestToken,
    limit: Option<PageSize>,
    last: Option<DeviceName>,
    whole: bool,
    entries: BTreeMap<DeviceName, Entry>,
}

/// A device as written, with its calls as they were then: those are written when their page is.
struct Entry {
    device: Box<RawValue>,
    legs: Vec<LegView>,
}

/// Pages that wait to be fetched.
struct Kept {
    number: u64,
    what: What,
    entries: Vec<Entry>,
    until: Instant,
    ends: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// `provider.snapshot`, with the last event that it includes.
    Snapshot(u64),
    /// `device.open`
    Device(DeviceName),
}

/// Where a page begins: an entry, and a leg of it.
type Place = (usize, usize);

/// All of them.
#[derive(Default)]
pub(in crate::node) struct Pages {
    kept: HashMap<SessionId, Kept>,
    /// Sessions whose snapshot is being captured, with what changed since.
    changed: HashMap<SessionId, BTreeSet<DeviceName>>,
    last_number: u64,
}

impl Pages {
    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.kept.values().map(|kept| kept.until.min(kept.ends)).min()
    }
}

impl Kept {
    /// The page that begins there, and where the next one does.
    fn page(&self, begin: Place, limit: Option<PageSize>) -> (Box<RawValue>, Option<Place>) {
        let most = limit.map_or(usize::MAX, |limit| usize::from(limit.0));
        let (mut text, mut count, mut at) = (String::new(), 0, begin);
        let whole_devices = matches!(self.what, What::Snapshot(_));
        'page: while let Some(entry) = self.entries.get(at.0) {
            let head = entry.device.get().len() + 32;
            if whole_devices && (count >= most || count > 0 && text.len() + head > PAGE_BYTES) {
                break;
            }
            text += if count > 0 && whole_devices { ",{\"device\":" } else { "{\"device\":" };
            text += entry.device.get();
            text += ",\"legs\":[";
            let first = at.1;
            for leg in entry.legs.iter().skip(first) {
                let leg = rpc::raw(&Leg::from(leg));
                let full =
                    text.len() + leg.get().len() + 2 > PAGE_BYTES || !whole_devices && at.1 - first >= most;
                if full && at.1 > first {
                    text += "]";
                    text += if whole_devices { "}" } else { "" };
                    break 'page;
                }
                text += if at.1 > first { "," } else { "" };
                text += leg.get();
                at.1 += 1;
            }
            text += if whole_devices { "]}" } else { "]" };
            at = (at.0 + 1, 0);
            count += 1;
        }
        let next = (at.0 < self.entries.len()).then_some(at);
        let mut page = match &self.what {
            What::Snapshot(seq) => format!("{{\"devices\":[{text}],\"seq\":{seq}"),
            What::Device(_) => text,
        };
        if let Some((entry, leg)) = next {
            page += &format!(",\"cursor\":\"{}-{entry}-{leg}\"", self.number);
        }
        page.push('}');
        (RawValue::from_string(page).expect("JSON texts joined are a JSON text"), next)
    }
}

/// Which pages, and where.
fn place(cursor: &Cursor) -> Option<(u64, Place)> {
    let mut parts = cursor.as_str().split('-');
    let number = parts.next()?.parse().ok()?;
    let (entry, leg) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some((number, (entry, leg)))
}

fn worthless() -> CtiError {
    let message = "`cursor` is none of this session's, or its time is over; begin anew without it";
    CtiError::invalid_params("cursor", message)
}

impl CtiManager {
    pub(in crate::node) fn list_devices(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        wish: ProviderDevices,
    ) {
        let from = wish.cursor.as_ref().map_or(Bound::Unbounded, |c| Bound::Excluded(c.as_str().into()));
        let listing =
            Listing { session: id, token, wish, from, found: Vec::new(), bytes: 0, looked_at: 0, paid: 0 };
        let Some(rest) = self.list_on(step, Box::new(listing)) else { return };
        if self.has_no_turn_for(id) {
            return self.refuse(id, token, CtiError::rate_limited(RETRY_MS));
        }
        self.add_task(Task::Listing(rest));
    }

    pub(in crate::node) fn carry_on_listing(
        &mut self,
        step: &mut Step<'_>,
        listing: Box<Listing>,
        portion: &mut Portion,
    ) -> Option<Box<Listing>> {
        portion.work(LISTED_AT_ONCE * WORK_OF_LISTED);
        self.applications.providers.contains_key(&listing.session).then_some(())?;
        self.list_on(step, listing)
    }

    /// One piece; what is left of it.
    fn list_on(&mut self, step: &mut Step<'_>, mut listing: Box<Listing>) -> Option<Box<Listing>> {
        self.hear_all(step);
        let limit = listing.wish.limit.map_or(PAGE, |limit| usize::from(limit.0));
        for _ in 0..LISTED_AT_ONCE {
            listing.looked_at += 1;
            let next = self.next_listed(step, &mut listing);
            let Some(device) = next else {
                self.answer_listing(step, *listing, false);
                return None;
            };
            let Some(device) = device else { continue };
            let bytes = rpc::raw(&device).get().len() + 1;
            if listing.found.len() == limit || !listing.found.is_empty() && listing.bytes + bytes > PAGE_BYTES
            {
                self.answer_listing(step, *listing, true);
                return None;
            }
            listing.bytes += bytes;
            listing.found.push(device);
        }
        self.pay_for(step, &mut listing);
        Some(listing)
    }

    /// Charges what the list has cost so far: each piece at once, so that nobody begins many before the first is paid.
    fn pay_for(&mut self, step: &mut Step<'_>, listing: &mut Listing) {
        let price = listing.found.len() / DEVICES_A_REQUEST + listing.looked_at / NAMES_A_REQUEST;
        let due = price.saturating_sub(std::mem::replace(&mut listing.paid, price));
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.applications.charge(step.shares, step.now, listing.session, due);
    }

    /// The next device by name; `None` when there is none, `Some(None)` when that is not one of those that are wanted.
    #[allow(clippy::option_option, reason = "the end of the list is not a device that is left out")]
    fn next_listed(&mut self, step: &mut Step<'_>, listing: &mut Listing) -> Option<Option<Device>> {
        let name = step.calls.devices().first_device(&listing.from)?.clone();
        let text = name.as_str();
        let all = listing.wish.scope == Some(Scope::All);
        if !all {
            let provider = self.applications.providers.get(&listing.session)?;
            let controlled = &self.settings.policy.user(&provider.user)?.controlled;
            let next = controlled.next_from(text)?;
            if next != text {
                listing.from = Bound::Included(next.into());
                return Some(None);
            }
            listing.from = Bound::Excluded(name.clone());
            if controlled.entry_for(text).is_none() {
                return Some(None);
            }
        }
        listing.from = Bound::Excluded(name.clone());
        if listing.wish.name.as_ref().is_some_and(|glob| !glob.matches(text)) {
            return Some(None);
        }
        self.update_phone(step, &name);
        let Some(view) = step.calls.devices().device(&name) else { return Some(None) };
        // "Every controllable device": a restricted one is not (protocol §2).
        if all && view.restricted {
            return Some(None);
        }
        let device = Device::from(&view);
        Some(Some(device).filter(|device| listing.wish.type_.is_none_or(|kind| kind == device.kind)))
    }

    fn answer_listing(&mut self, step: &mut Step<'_>, mut listing: Listing, more: bool) {
        self.pay_for(step, &mut listing);
        let Listing { session, token, found, .. } = listing;
        let cursor = found.last().filter(|_| more).map(|last| last.name.as_str().into());
        let answer = rpc::raw(&protocol::methods::Devices { devices: found, cursor });
        self.reply(session, token, Ok(answer));
    }

    /// `provider.snapshot`: at once when that is little, else in portions and pages.
    pub(in crate::node) fn snapshot(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        wish: &ProviderSnapshot,
    ) {
        if let Some(cursor) = &wish.cursor {
            return self.next_page(step, id, token, cursor, wish.limit, None);
        }
        if !self.has_room_for_snapshot(id) {
            return self.refuse(id, token, CtiError::rate_limited(RETRY_MS));
        }
        self.hear_all(step);
        self.forget_pages(id);
        let (last, entries) = (None, BTreeMap::new());
        let mut capture = Capture { session: id, token, limit: wish.limit, last, whole: false, entries };
        if self.is_small(id) {
            let names: Vec<DeviceName> = self.mirror.open_devices(id).cloned().collect();
            for name in names {
                self.update_phone(step, &name);
                self.capture_one(step, &mut capture, name);
            }
            return self.captured(step, capture);
        }
        self.pages.changed.insert(id, BTreeSet::new());
        self.add_task(Task::Capture(Box::new(capture)));
    }

    /// Whether a snapshot of what the session has open is taken in one step: few devices, with few calls.
    fn is_small(&self, id: SessionId) -> bool {
        let legs = || self.mirror.open_devices(id).map(|name| self.mirror.leg_count(name)).sum::<usize>();
        self.mirror.open_count(id) <= SMALL && legs() <= 4 * SMALL
    }

    /// One at a time for a session, few for a user, and few in all.
    fn has_room_for_snapshot(&self, id: SessionId) -> bool {
        if self.is_small(id) && !self.pages.changed.contains_key(&id) {
            return true;
        }
        let user = self.applications.providers.get(&id).map(|provider| &provider.user);
        let others = || self.pages.kept.keys().chain(self.pages.changed.keys()).filter(|other| **other != id);
        let his = others().filter(|id| self.applications.providers.get(id).map(|p| &p.user) == user);
        !self.pages.changed.contains_key(&id)
            && !self.has_no_turn_for(id)
            && others().count() < MAX_SNAPSHOTS
            && his.count() < MAX_SNAPSHOTS_OF_USER
    }

    pub(in crate::node) fn carry_on_capture(
        &mut self,
        step: &mut Step<'_>,
        mut capture: Box<Capture>,
        portion: &mut Portion,
    ) -> Option<Box<Capture>> {
        let id = capture.session;
        self.applications.providers.contains_key(&id).then_some(())?;
        self.hear_all(step);
        for _ in 0..CAPTURED_AT_ONCE {
            let next = match capture.whole {
                false => self.mirror.next_open(id, capture.last.as_ref()).cloned(),
                true => self.pages.changed.get_mut(&id).and_then(BTreeSet::pop_first),
            };
            match next {
                Some(name) => {
                    portion.work(WORK_OF_CAPTURED + WORK_OF_LEG_CAPTURED * self.mirror.leg_count(&name));
                    if !capture.whole {
                        capture.last = Some(name.clone());
                    }
                    self.update_phone(step, &name);
                    self.capture_one(step, &mut capture, name);
                }
                None if capture.whole => {
                    self.pages.changed.remove(&id);
                    self.captured(step, *capture);
                    return None;
                }
                None => capture.whole = true,
            }
        }
        Some(capture)
    }

    /// A device as it is now, with the legs of which the session is told.
    fn capture_one(&self, step: &Step<'_>, capture: &mut Capture, name: DeviceName) {
        let view = step.calls.devices().device(&name);
        let view = view.filter(|_| self.mirror.is_open(capture.session, &name));
        let Some(view) = view else { return drop(capture.entries.remove(&name)) };
        // As they are now: a party that was found meanwhile is told with the next event.
        let mut legs = step.calls.devices().legs_of_device(&name);
        legs.retain(|leg| self.may_hear(capture.session, Topic::Line(&name, &leg.dn)));
        capture.entries.insert(name, Entry { device: rpc::raw(&Device::from(&view)), legs });
    }

    fn captured(&mut self, step: &mut Step<'_>, capture: Capture) {
        let Capture { session, token, limit, entries, .. } = capture;
        let seq = self.applications.sessions.get(session).map_or(0, |s| s.last_seq());
        let entries = entries.into_values().collect();
        let answer = self.first_page(step, session, What::Snapshot(seq), entries, limit);
        self.reply(session, token, Ok(answer));
    }

    /// The first page. If there are more, the events after this moment wait.
    fn first_page(
        &mut self,
        step: &Step<'_>,
        id: SessionId,
        what: What,
        entries: Vec<Entry>,
        limit: Option<PageSize>,
    ) -> Box<RawValue> {
        self.pages.last_number += 1;
        let (until, ends) = (step.now + PAGE_PATIENCE, step.now + ALL_PATIENCE);
        let kept = Kept { number: self.pages.last_number, what, entries, until, ends };
        let (page, next) = kept.page((0, 0), limit);
        self.forget_kept(id);
        if next.is_some() {
            self.pages.kept.insert(id, kept);
            if let Some(mut session) = self.applications.sessions.get_mut(id) {
                session.hold();
            }
        }
        page
    }

    /// The page that a cursor names.
    pub(in crate::node) fn next_page(
        &mut self,
        step: &Step<'_>,
        id: SessionId,
        token: RequestToken,
        cursor: &Cursor,
        limit: Option<PageSize>,
        device: Option<&DeviceName>,
    ) {
        let holds = self.applications.sessions.get(id).is_some_and(|session| session.is_holding());
        let fits = |kept: &&mut Kept| match &kept.what {
            What::Snapshot(_) => device.is_none(),
            What::Device(name) => device == Some(name),
        };
        let kept = self.pages.kept.get_mut(&id).filter(fits).filter(|_| holds);
        let found = place(cursor).and_then(|(number, at)| {
            let kept = kept.filter(|kept| kept.number == number && at.0 < kept.entries.len())?;
            kept.until = step.now + PAGE_PATIENCE;
            Some(kept.page(at, limit))
        });
        match found {
            None => self.refuse(id, token, worthless()),
            Some((page, next)) => {
                self.reply(id, token, Ok(page));
                if next.is_none() {
                    self.forget_pages(id);
                }
            }
        }
    }

    /// The answer to a request of the model's: one to `device.open` may take several pages, of `limit` legs each.
    pub(in crate::node) fn answer_in_pages(
        &mut self,
        step: &Step<'_>,
        id: SessionId,
        reply: &Reply,
        limit: Option<PageSize>,
    ) -> Box<RawValue> {
        let Reply::Opened { device, legs } = reply else { return protocol::methods::answer(reply) };
        self.note_opened(id, &device.name);
        let most = limit.map_or(usize::MAX, |limit| usize::from(limit.0));
        if legs.len() <= most.min(SMALL) {
            let answer = protocol::methods::answer(reply);
            if answer.get().len() <= PAGE_BYTES {
                return answer;
            }
        }
        let entries = vec![Entry { device: rpc::raw(&Device::from(device)), legs: legs.clone() }];
        let what = What::Device(device.name.clone());
        self.first_page(step, id, what, entries, limit)
    }

    /// The pages of a session are not wanted any more: its events go on.
    pub(in crate::node) fn forget_pages(&mut self, id: SessionId) {
        self.pages.changed.remove(&id);
        self.forget_kept(id);
    }

    fn forget_kept(&mut self, id: SessionId) {
        if self.pages.kept.remove(&id).is_some() {
            if let Some(mut session) = self.applications.sessions.get_mut(id) {
                session.release();
            }
            self.applications.touch(id);
        }
    }

    pub(in crate::node) fn page_timeouts(&mut self, step: &Step<'_>) {
        let over = |kept: &Kept| kept.until <= step.now || kept.ends <= step.now;
        let late: Vec<SessionId> =
            self.pages.kept.iter().filter(|(_, kept)| over(kept)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.forget_pages(id));
    }

    /// An event changes something of a device: whoever captures it does so again.
    pub(in crate::node) fn note_change(&mut self, sessions: &[SessionId], event: &Event) {
        if self.pages.changed.is_empty() {
            return;
        }
        if let Some(device) = device_of(event) {
            sessions.iter().for_each(|id| self.note_opened(*id, device));
        }
    }

    /// The same for what the session itself opens or closes.
    pub(in crate::node) fn note_opened(&mut self, id: SessionId, device: &DeviceName) {
        if let Some(changed) = self.pages.changed.get_mut(&id) {
            changed.insert(device.clone());
        }
    }
}

fn device_of(event: &Event) -> Option<&DeviceName> {
    match event {
        Event::Device { device, .. } => Some(&device.name),
        Event::Line { device, .. } => Some(device),
        Event::Call { leg }
        | Event::CallChanged { leg }
        | Event::CallDtmf { leg, .. }
        | Event::CallParked { leg, .. }
        | Event::MediaStarted { leg, .. }
        | Event::MediaStopped { leg, .. }
        | Event::MediaSrtpKey { leg, .. } => Some(&leg.device),
        Event::MediaOpenChannel(channel) => Some(&channel.leg.device),
        Event::CallConferenced { .. }
        | Event::CallTransferred { .. }
        | Event::Park { .. }
        | Event::Alarm { .. }
        | Event::ProviderInService
        | Event::ProviderOutOfService { .. }
        | Event::ProviderPrivilegesChanged { .. } => None,
    }
}
