//! What an application checks of what it is told: numbers, answers, the order of a leg's states, its streams, and that
//! the snapshot is what the events said (P2, P3).

use super::{Application, BOUND, Link};
use crate::sim::tally::Happening;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A leg as the events told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LegSeen {
    pub(super) state: String,
    pub(super) device: String,
    streams: BTreeSet<String>,
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
        if error["data"]["cti"] == "INTERNAL" {
            return Err(format!("{} {} ended in {error}", pending.method, pending.params));
        }
        let device = pending.params["device"].as_str().unwrap_or_default();
        match pending.method {
            "provider.open" if error.is_null() => self.opened(now, result)?,
            "provider.open" => {
                if error["data"]["cti"] != "RATE_LIMITED" {
                    return Err(format!("provider.open was refused: {error}"));
                }
                self.acts.push(super::Act::Close);
                self.lost(now);
            }
            "device.open" if error.is_null() => self.device_opened(device, result),
            "device.open" if error["data"]["cti"] == "DEVICE_ALREADY_OPEN" => {
                self.devices.insert(device.to_owned());
            }
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

    fn device_opened(&mut self, device: &str, result: &Value) {
        self.devices.insert(device.to_owned());
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
        if kind == "device.closed" {
            let device = event["device"]["name"].as_str().unwrap_or_default().to_owned();
            self.devices.remove(&device);
            self.legs.retain(|_, leg| leg.device != device);
        }
        let leg = &event["leg"];
        match leg["leg"].as_str() {
            Some(id) => self.on_leg(now, kind, id, event),
            None => Ok(()),
        }
    }

    fn on_leg(&mut self, now: Duration, kind: &str, id: &str, event: &Value) -> Result<(), String> {
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
        let direction = event["direction"].as_str().unwrap_or_default().to_owned();
        match kind {
            "media.started" => drop(seen.streams.insert(direction)),
            "media.stopped" => drop(seen.streams.remove(&direction)),
            "call.disconnected" => {
                if !seen.streams.is_empty() {
                    return Err(format!("streams still run after the end: {:?} {event}", seen.streams));
                }
                self.legs.remove(id);
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
    fn compare(&self, snapshot: &Value) -> Result<(), String> {
        if snapshot["seq"] != self.last_seq {
            return Err(format!("a snapshot as of {} after event {}", snapshot["seq"], self.last_seq));
        }
        let mut theirs = BTreeMap::new();
        for entry in snapshot["devices"].as_array().into_iter().flatten() {
            for leg in entry["legs"].as_array().into_iter().flatten() {
                let (id, state) = (leg["leg"].as_str().unwrap_or_default(), leg["state"].as_str());
                theirs.insert(id, state.unwrap_or_default());
            }
        }
        let ours: BTreeMap<&str, &str> =
            self.legs.iter().map(|(id, seen)| (id.as_str(), seen.state.as_str())).collect();
        if theirs == ours {
            Ok(())
        } else {
            Err(format!("the snapshot says {theirs:?}, the events said {ours:?}"))
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
        Self { state: text("state"), device: text("device"), streams: BTreeSet::new() }
    }
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
