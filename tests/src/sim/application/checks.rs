//! What an application checks of what it is told: numbers, answers, the order of a leg's states, its streams, and that
//! the snapshot is what the events said (P2, P3).

use super::{Application, BOUND, Link};
use crate::sim::tally::Happening;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// A leg as the events told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LegSeen {
    pub(super) state: String,
    pub(super) device: String,
    dn: String,
    streams: BTreeSet<String>,
    /// What was told of it, event by event, without their numbers.
    story: Vec<u64>,
}

impl Application {
    pub(super) fn on_frame(&mut self, now: Duration, frame: &Value) -> Result<(), String> {
        if frame["method"] == "event" {
            return self.on_event(now, &frame["params"]);
        }
        let id = frame["id"].as_u64().ok_or_else(|| format!("an answer without an id: {frame}"))?;
        let Some(pending) = self.pending.remove(&id) else {
            return Err(format!("a second answer, or one to a request that was never made: {frame}"));
        };
        let (result, error) = (&frame["result"], &frame["error"]);
        if result.is_null() == error.is_null() {
            return Err(format!("an answer has a result or an error: {frame}"));
        }
        self.same_as_before(&pending.params["idem"], result, error)?;
        if error["data"]["cti"] == "RATE_LIMITED" && pending.method != "provider.open" {
            return Err(format!("{} of one that asks for little was put off: {error}", pending.method));
        }
        if error["data"]["cti"] == "INTERNAL" {
            return Err(format!("{} {} ended in {error}", pending.method, pending.params));
        }
        let device = pending.params["device"].as_str().unwrap_or_default();
        match pending.method {
            "provider.open" if error.is_null() => {
                self.let_in = Some(self.connection_life);
                self.opened(now, result)?;
            }
            "provider.open" => {
                match error["data"]["cti"].as_str().unwrap_or_default() {
                    // A user who was deleted for a while has guessed wrong by his own password.
                    "RATE_LIMITED" if self.locked_out_until > Duration::ZERO => {}
                    "RATE_LIMITED" if self.let_in != Some(self.connection_life) => {}
                    "LOGIN_FAILED" | "USER_NOT_CTI_ENABLED" if now < self.locked_out_until => {
                        self.tally.add(Happening::LockedOut);
                    }
                    _ => return Err(format!("provider.open was refused: {error}")),
                }
                self.acts.push(super::Act::Close);
                self.lost(now);
            }
            // Whether it was answered before or after that, the snapshot says.
            "device.open" if error.is_null() && pending.void => self.stale = true,
            "device.open" if error.is_null() => self.device_opened(device, result),
            "device.open" => self.device_refused(device, error["data"]["cti"].as_str().unwrap_or_default()),
            "provider.snapshot" if error.is_null() => self.compare(result)?,
            _ => {}
        }
        Ok(())
    }

    /// A key has one answer for ever.
    fn same_as_before(&mut self, idem: &Value, result: &Value, error: &Value) -> Result<(), String> {
        let Some(idem) = idem.as_str().filter(|_| error["data"]["cti"] != "RATE_LIMITED") else {
            return Ok(());
        };
        let answer = format!("{result} {error}");
        match self.answers.get(idem) {
            Some(first) if *first != answer => {
                Err(format!("the key {idem} was answered {first}, and now {answer}"))
            }
            Some(_) => Ok(()),
            None => {
                self.answers.insert(idem.to_owned(), answer);
                Ok(())
            }
        }
    }

    fn device_refused(&mut self, device: &str, why: &str) {
        if why == "MEDIA_ALREADY_TERMINATED_STATIC" {
            self.refused.insert(device.to_owned());
        }
        // It came open by a request whose answer was lost; what is there the snapshot says.
        if why == "DEVICE_ALREADY_OPEN" && self.devices.insert(device.to_owned()) {
            self.stale = true;
        }
    }

    fn device_lost(&mut self, device: &str) {
        self.devices.remove(device);
        self.legs.retain(|_, leg| leg.device != device);
        self.outdate(device);
    }

    /// What was answered when the device was asked for is no longer true.
    fn outdate(&mut self, device: &str) {
        let opens = |method: &str, params: &Value| method == "device.open" && params["device"] == device;
        self.recent.retain(|(method, params)| !opens(method, params));
        for pending in self.pending.values_mut().filter(|p| opens(p.method, &p.params)) {
            pending.void = true;
        }
    }

    /// `device.*`: what an administrator or another application did to a device of ours.
    fn on_device(&mut self, kind: &str, event: &Value) {
        let device = event["device"]["name"].as_str().unwrap_or_default();
        match kind {
            "device.closed" | "device.removed" => {
                if self.devices.contains(device) {
                    self.tally.add(Happening::DeviceLost);
                }
                self.device_lost(device);
            }
            "device.restricted" => {
                self.tally.add(Happening::DeviceRestricted);
                self.outdate(device);
            }
            "device.unrestricted" => self.outdate(device),
            _ => {}
        }
    }

    fn device_opened(&mut self, device: &str, result: &Value) {
        self.devices.insert(device.to_owned());
        if self.refused.remove(device) {
            self.tally.add(Happening::StandbyTookOver);
        }
        for leg in result["legs"].as_array().into_iter().flatten() {
            let id = leg["leg"].as_str().unwrap_or_default();
            // Two openings of one key have one answer; what was told since then is newer.
            if !self.gone.contains(id) {
                self.legs.entry(id.to_owned()).or_insert_with(|| LegSeen::of(leg));
            }
        }
    }

    fn on_event(&mut self, now: Duration, event: &Value) -> Result<(), String> {
        let kind = event["type"].as_str().ok_or_else(|| format!("an event without a type: {event}"))?;
        let Some(seq) = event["seq"].as_u64() else {
            return if kind.starts_with("session.") {
                let dismissed = matches!(event["reason"].as_str(), Some("user_deleted" | "not_cti_enabled"));
                if dismissed {
                    self.tally.add(Happening::Dismissed);
                }
                Ok(())
            } else {
                Err(format!("an event without a number: {event}"))
            };
        };
        if self.link != Link::Open {
            return Err(format!("an event before the answer to provider.open: {event}"));
        }
        if seq != self.last_seq + 1 {
            return Err(format!("after event {} came {event}", self.last_seq));
        }
        self.last_seq = seq;
        self.tally.add(Happening::Event);
        if kind.starts_with("device.") {
            self.on_device(kind, event);
        }
        let leg = &event["leg"];
        match leg["leg"].as_str() {
            Some(id) => self.on_leg(now, kind, id, event),
            None => Ok(()),
        }
    }

    fn on_leg(&mut self, now: Duration, kind: &str, id: &str, event: &Value) -> Result<(), String> {
        if let Some(session) = self.record.as_mut().and_then(|record| record.last_mut()) {
            session.push(self.reading);
        }
        let leg = &event["leg"];
        if self.gone.contains(id) {
            return Err(format!("an event after call.disconnected: {event}"));
        }
        if let (Some(token), Some(call)) = (leg["user_data"]["token"].as_str(), leg["call"].as_str()) {
            let first = self.made.entry(token.to_owned()).or_insert_with(|| call.to_owned());
            if first != call {
                return Err(format!("one call.make made {first} and {call}"));
            }
        }
        let before = self.legs.get(id).map(|seen| seen.state.clone());
        let seen = self.legs.entry(id.to_owned()).or_insert_with(|| LegSeen::of(leg));
        let state = leg["state"].as_str().unwrap_or_default();
        if before.as_deref().is_some_and(|before| rank(state) < rank(before)) {
            return Err(format!("{} went back from {before:?}: {event}", leg["leg"]));
        }
        state.clone_into(&mut seen.state);
        seen.story.push(self.reading);
        let direction = event["direction"].as_str().unwrap_or_default().to_owned();
        match kind {
            "media.started" => drop(seen.streams.insert(direction)),
            "media.stopped" => drop(seen.streams.remove(&direction)),
            "call.disconnected" => {
                if !seen.streams.is_empty() {
                    return Err(format!("streams still run after the end: {:?} {event}", seen.streams));
                }
                self.told.extend(self.legs.remove(id).map(|seen| (id.to_owned(), seen.story)));
                self.gone.insert(id.to_owned());
            }
            "media.open_channel" => self.channel_asked(now, id),
            _ if kind.strip_prefix("call.") == Some(state) && before.as_deref() != Some(state) => {
                self.consider(now, leg);
            }
            _ => {}
        }
        Ok(())
    }

    /// The snapshot says what the events said: every device that is open, every leg, in the same state.
    fn compare(&mut self, snapshot: &Value) -> Result<(), String> {
        if snapshot["seq"] != self.last_seq {
            return Err(format!("a snapshot as of {} after event {}", snapshot["seq"], self.last_seq));
        }
        if std::mem::take(&mut self.stale) {
            self.adopt(snapshot);
            return Ok(());
        }
        let mut theirs = BTreeMap::new();
        // What goes on there is told when it is free again.
        let mut hidden = BTreeSet::new();
        for entry in snapshot["devices"].as_array().into_iter().flatten() {
            let device = &entry["device"];
            let lines = device["lines"].as_array().into_iter().flatten();
            let shut = lines.filter(|line| device["restricted"] == true || line["restricted"] == true);
            hidden.extend(shut.map(|line| (device["name"].as_str(), line["dn"].as_str())));
            for leg in entry["legs"].as_array().into_iter().flatten() {
                let (id, state) = (leg["leg"].as_str().unwrap_or_default(), leg["state"].as_str());
                theirs.insert(id, state.unwrap_or_default());
            }
        }
        let known =
            self.legs.iter().filter(|(_, seen)| !hidden.contains(&(Some(&*seen.device), Some(&*seen.dn))));
        let ours: BTreeMap<&str, &str> = known.map(|(id, seen)| (id.as_str(), seen.state.as_str())).collect();
        if theirs == ours {
            Ok(())
        } else {
            Err(format!("the snapshot says {theirs:?}, the events said {ours:?}"))
        }
    }

    fn adopt(&mut self, snapshot: &Value) {
        let entries = snapshot["devices"].as_array().into_iter().flatten();
        let legs: Vec<&Value> =
            entries.flat_map(|entry| entry["legs"].as_array().into_iter().flatten()).collect();
        self.legs.retain(|id, _| legs.iter().any(|leg| leg["leg"] == id.as_str()));
        for leg in legs {
            let id = leg["leg"].as_str().unwrap_or_default();
            let state = leg["state"].as_str().unwrap_or_default();
            let seen = self.legs.entry(id.to_owned()).or_insert_with(|| LegSeen::of(leg));
            state.clone_into(&mut seen.state);
        }
    }

    /// No request waits for ever (P2).
    pub(super) fn overdue(&self, now: Duration) -> Result<(), String> {
        let late = self.pending.values().find(|p| self.link == Link::Open && now > p.asked_at + BOUND);
        match late {
            Some(pending) => {
                Err(format!("{} {} has no answer after {BOUND:?}", pending.method, pending.params))
            }
            None => Ok(()),
        }
    }

    /// Nothing may be left of any call when all is quiet.
    pub(in crate::sim) fn is_quiet(&self) -> Result<(), String> {
        if self.legs.is_empty() {
            Ok(())
        } else {
            Err(format!("application {} still knows of {:?}", self.scene.instance, self.legs))
        }
    }
}

impl LegSeen {
    fn of(leg: &Value) -> Self {
        let text = |name: &str| leg[name].as_str().unwrap_or_default().to_owned();
        Self { state: text("state"), device: text("device"), dn: text("dn"), ..Self::default() }
    }

    /// Whether it is in a conversation, held or not.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "connected" | "held")
    }
}

/// An event's line in one number, all but the number that it has in this session.
pub(super) fn without_number(line: &[u8]) -> u64 {
    const BEFORE: &[u8] = b"\"seq\":";
    let start = line.windows(BEFORE.len()).position(|part| part == BEFORE).unwrap_or(0);
    let after = line.iter().skip(start).position(|byte| *byte == b',').map_or(0, |at| start + at);
    let mut hasher = DefaultHasher::new();
    line[after..].hash(&mut hasher);
    hasher.finish()
}

/// States may be skipped, never reordered (protocol §4).
fn rank(state: &str) -> u8 {
    match state {
        "dialtone" => 0,
        "dialing" => 1,
        "proceeding" => 2,
        "ringback" | "offering" => 3,
        "ringing" => 4,
        "connected" | "held" => 5,
        "failed" => 6,
        _ => 7,
    }
}
