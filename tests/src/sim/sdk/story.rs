//! What an application hears through the SDK, and whether it is a story that holds together.

use client::provider::{GaveUp, LostReason, ProviderState};
use client::{Event, ProviderEvent, wire};
use protocol::event::DeviceChange;
use std::collections::{BTreeMap, BTreeSet};
use wire::{LegState, MediaDirection, ServiceReason};

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) told: u64,
    pub(super) concluded: u64,
    pub(super) resumed: u64,
    pub(super) restarted: u64,
    pub(super) lost: u64,
    pub(super) requests: u64,
    /// Requests of which nobody knows whether they were carried out.
    pub(super) uncertain: u64,
    pub(super) calls: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// The connection is lost; nothing may be told until it is back.
    Lost,
    /// In service again; `Resumed` or `Restarted` follows.
    Returning,
}

struct LegHeard {
    rank: u8,
    device: String,
    streams: BTreeSet<&'static str>,
}

/// One application's story.
pub(super) struct Story {
    pub(super) tally: Tally,
    pub(super) gave_up: Option<GaveUp>,
    link: Link,
    state: ProviderState,
    next_seq: u64,
    legs: BTreeMap<String, LegHeard>,
    gone: BTreeSet<String>,
    tokens: BTreeMap<String, String>,
    /// Devices that the loss of the connection took out of service.
    cut_off: BTreeSet<String>,
    /// Of these, the ones whose calls were told of already: they did not come into service before.
    early: BTreeSet<String>,
    /// By device: what was told without a break, again and again.
    pub(super) runs: BTreeMap<String, Vec<Vec<Event>>>,
    /// Legs that an open has given: no event needs to tell of them.
    pub(super) given: BTreeSet<String>,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            tally: Tally::default(),
            gave_up: None,
            link: Link::Up,
            state: ProviderState::InService,
            next_seq: 1,
            legs: BTreeMap::new(),
            gone: BTreeSet::new(),
            tokens: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            early: BTreeSet::new(),
            runs: BTreeMap::new(),
            given: BTreeSet::new(),
        }
    }
}

impl Story {
    pub(super) fn hear(&mut self, event: &ProviderEvent) -> Result<(), String> {
        match event {
            ProviderEvent::Told { seq, event, .. } => self.told(*seq, event),
            ProviderEvent::Concluded(event) => self.concluded(event),
            ProviderEvent::State(state) => self.state_changed(*state),
            ProviderEvent::ConnectionLost(reason) => self.lost(reason),
            ProviderEvent::Resumed if self.link == Link::Returning => {
                self.tally.resumed += 1;
                self.link = Link::Up;
                Ok(())
            }
            ProviderEvent::Restarted(_) if self.link == Link::Returning => {
                self.tally.restarted += 1;
                self.link = Link::Up;
                self.next_seq = 1;
                self.early.clear();
                self.runs.values_mut().for_each(|runs| runs.push(Vec::new()));
                Ok(())
            }
            ProviderEvent::GaveUp(why) => {
                self.gave_up = Some(why.clone());
                Ok(())
            }
            ProviderEvent::Resumed
            | ProviderEvent::Restarted(_)
            | ProviderEvent::Gap { .. }
            | ProviderEvent::Unreadable { .. }
            | ProviderEvent::NotReopened { .. } => Err(format!("while {:?}: {event:?}", self.link)),
        }
    }

    fn told(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        self.tally.told += 1;
        if self.link != Link::Up || self.state != ProviderState::InService {
            return Err(format!("told while {:?} and {:?}: {event:?}", self.link, self.state));
        }
        if seq != self.next_seq {
            return Err(format!("event {seq} in place of {}: {event:?}", self.next_seq));
        }
        self.next_seq += 1;
        if let Some(leg) = event.leg() {
            let runs = self.runs.entry(leg.device.to_string()).or_insert_with(|| vec![Vec::new()]);
            if let Some(run) = runs.last_mut() {
                run.push(event.clone());
            }
        }
        self.take_in(event)
    }

    fn concluded(&mut self, event: &Event) -> Result<(), String> {
        self.tally.concluded += 1;
        match event {
            Event::Device { change: DeviceChange::OutOfService, device, reason } => {
                self.early.remove(device.name.as_str());
                let first = self.cut_off.insert(device.name.to_string());
                let fits =
                    self.link == Link::Up && *reason == Some(ServiceReason::CtimanagerFailure) && first;
                fits.then_some(()).ok_or_else(|| format!("while {:?}: {event:?}", self.link))
            }
            Event::Device { change: DeviceChange::InService, device, .. } => {
                let name = device.name.as_str();
                let was = self.cut_off.remove(name) && !self.early.contains(name);
                let fits = self.link == Link::Up && self.state == ProviderState::InService && was;
                fits.then_some(())
                    .ok_or_else(|| format!("while {:?}, {:?}: {event:?}", self.link, self.state))
            }
            _ if self.link != Link::Up => Err(format!("concluded while {:?}: {event:?}", self.link)),
            _ => {
                let at = event.leg().map(|leg| leg.device.to_string());
                self.early.extend(at.filter(|device| self.cut_off.contains(device)));
                self.take_in(event)
            }
        }
    }

    fn state_changed(&mut self, state: ProviderState) -> Result<(), String> {
        if self.state == state || self.state == ProviderState::Shutdown {
            return Err(format!("{state:?} after {:?}", self.state));
        }
        self.state = state;
        if (self.link, state) == (Link::Lost, ProviderState::InService) {
            self.link = Link::Returning;
        }
        Ok(())
    }

    fn lost(&mut self, reason: &LostReason) -> Result<(), String> {
        self.tally.lost += 1;
        if self.link != Link::Up || self.state != ProviderState::OutOfService {
            return Err(format!("lost by {reason:?} while {:?} and {:?}", self.link, self.state));
        }
        if let LostReason::Superseded | LostReason::Protocol(_) = reason {
            return Err(format!("lost by {reason:?}"));
        }
        self.link = Link::Lost;
        Ok(())
    }

    fn take_in(&mut self, event: &Event) -> Result<(), String> {
        if let Event::Device { change: DeviceChange::Closed | DeviceChange::Removed, .. } = event {
            return Err(format!("nobody takes devices away: {event:?}"));
        }
        if let Event::Device { change: DeviceChange::InService, device, .. } = event {
            self.cut_off.remove(device.name.as_str());
            self.early.remove(device.name.as_str());
        }
        let Some(leg) = event.leg() else { return Ok(()) };
        let id = leg.leg.to_string();
        if self.gone.contains(&id) {
            return Err(format!("after call.disconnected: {event:?}"));
        }
        if let Some(token) = leg.user_data.get("token") {
            self.made(token, &leg.call.to_string())?;
        }
        let heard = self.legs.entry(id.clone()).or_insert_with(|| LegHeard {
            rank: 0,
            device: leg.device.to_string(),
            streams: BTreeSet::new(),
        });
        if rank(leg.state) < heard.rank {
            return Err(format!("a leg went back: {event:?}"));
        }
        heard.rank = rank(leg.state);
        match event {
            Event::MediaStarted { stream, .. } => {
                heard.streams.insert(direction(stream.direction));
            }
            Event::MediaStopped { direction: ceased, .. } => {
                heard.streams.remove(direction(*ceased));
            }
            Event::Call { leg } if leg.state == LegState::Disconnected => {
                if !heard.streams.is_empty() {
                    return Err(format!("streams still run after the end: {:?} {event:?}", heard.streams));
                }
                self.legs.remove(&id);
                self.gone.insert(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// One request made one call.
    pub(super) fn made(&mut self, token: &str, call: &str) -> Result<(), String> {
        let first = self.tokens.entry(token.to_owned()).or_insert_with(|| call.to_owned());
        if first == call { Ok(()) } else { Err(format!("{token} made {first} and {call}")) }
    }

    /// What the events say is what the handles say.
    pub(super) fn agrees_with(&self, device: &str, known: &BTreeMap<String, LegState>) -> Result<(), String> {
        let told = self.legs.iter().filter(|(_, leg)| leg.device == device);
        let told: BTreeMap<&String, u8> = told.map(|(id, leg)| (id, leg.rank)).collect();
        let untold = known.keys().find(|id| !told.contains_key(id) && !self.given.contains(*id));
        if let Some(leg) = untold {
            return Err(format!("no event told of {leg} at {device}"));
        }
        match told.iter().find(|(id, told)| known.get(**id).is_none_or(|state| rank(*state) != **told)) {
            Some((leg, _)) => Err(format!("the events know of {leg} at {device}, the handles of {known:?}")),
            None => Ok(()),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link == Link::Up && self.state == ProviderState::InService && self.cut_off.is_empty()
    }
}

fn direction(direction: MediaDirection) -> &'static str {
    match direction {
        MediaDirection::Input => "input",
        MediaDirection::Output => "output",
    }
}

/// States may be skipped, never reordered (protocol §4).
fn rank(state: LegState) -> u8 {
    match state {
        LegState::Dialtone => 0,
        LegState::Dialing => 1,
        LegState::Proceeding => 2,
        LegState::Ringback | LegState::Offering => 3,
        LegState::Ringing => 4,
        LegState::Connected | LegState::Held => 5,
        LegState::Failed => 6,
        LegState::Disconnected => 7,
    }
}
