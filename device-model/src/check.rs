//! What must always hold between the tables (design §6, P5 and P6): for tests and simulations, after every step.

use crate::call::{Call, Conversation, Setup, Step};
use crate::control::CallControl;
use crate::end::End;
use crate::ids::{LegId, SessionId, TrunkName};
use crate::leg::At;
use crate::timers::Timer;
use crate::view::LegState;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a leg that is there may have such an end.
fn fits(end: &End, at: &At) -> bool {
    match (end, at) {
        (End::Dialog(_), At::Phone { .. } | At::Trunk { .. })
        | (End::Application(_), At::Application { .. })
        | (End::Remote(_), At::Phone { .. } | At::Application { .. } | At::Trunk { .. }) => true,
        (End::Dialog(_), At::Application { .. })
        | (End::Application(_), At::Phone { .. } | At::Trunk { .. })
        | (End::BridgePort(_) | End::Source(_), _) => false,
    }
}

impl CallControl {
    /// Compares all tables with each other.
    ///
    /// # Errors
    /// A sentence on the first contradiction found: an orphan call, leg or timer, a wrong counter or list.
    pub fn check(&self) -> Result<(), String> {
        self.check_calls()?;
        self.check_attempts()?;
        self.check_operations()?;
        self.check_legs()?;
        self.check_devices()?;
        self.check_trunks()?;
        self.check_timers()
    }

    fn check_calls(&self) -> Result<(), String> {
        let mut seen = 0;
        for call in self.calls.all() {
            let legs = self.calls.legs_of(call);
            seen += legs.len();
            let mut unique = legs.clone();
            unique.sort();
            unique.dedup();
            if unique.len() != legs.len() {
                return Err(format!("{} has a leg twice: {legs:?}", call.id));
            }
            if let Some(leg) =
                legs.iter().find(|leg| self.calls.find_leg(**leg).is_none_or(|leg| leg.call != call.id))
            {
                return Err(format!("{} has leg {leg}, which isn't its own", call.id));
            }
            let enough = match &call.conversation {
                Conversation::Setup(Setup { step: Step::AwaitingAddress { .. }, .. })
                | Conversation::Waiting(_) => 1,
                Conversation::Setup(Setup { step: Step::Routing | Step::Trying(_), .. })
                | Conversation::Pair(..) => 2,
                Conversation::Relayed(_) | Conversation::Mixed(_) => 3,
            };
            if legs.len() < enough {
                return Err(format!("{} has {} legs: {:?}", call.id, legs.len(), call.conversation));
            }
            self.check_waiting(call)?;
        }
        if seen != self.calls.leg_count() {
            return Err(format!("{} legs, but the calls have {seen}", self.calls.leg_count()));
        }
        Ok(())
    }

    fn is_waited_for(&self, leg: LegId) -> bool {
        self.end_of_leg(leg).is_some_and(|end| self.timers.has(Timer::MediaExchange(end)))
    }

    /// Each attempt is the present or the left one of its call, and each of those is there.
    fn check_attempts(&self) -> Result<(), String> {
        let left = |call: &Call| call.left.as_ref().and_then(|left| left.conversation.attempt());
        let named = self.calls.all().flat_map(|call| {
            [call.conversation.attempt(), left(call)].into_iter().flatten().map(|attempt| (call.id, attempt))
        });
        let mut count = 0;
        for (call, attempt) in named {
            count += 1;
            if self.calls.find_attempt(attempt).is_none_or(|attempt| attempt.call != call) {
                return Err(format!("{call} has {attempt:?}, which isn't its own"));
            }
        }
        match self.calls.attempt_count() == count {
            true => Ok(()),
            false => Err(format!("{} attempts, but the calls have {count}", self.calls.attempt_count())),
        }
    }

    /// Each operation has its deadline, and something that waits for it.
    fn check_operations(&self) -> Result<(), String> {
        let waiting = self.calls.all().filter(|call| call.left.is_some()).count();
        if self.operations.len() != waiting {
            return Err(format!("{} operations, {waiting} calls wait for one", self.operations.len()));
        }
        for call in self.calls.all() {
            let Some(left) = &call.left else { continue };
            let operation = self.operations.get(left.operation);
            let own = operation.filter(|operation| operation.kind.call() == call.id);
            let Some(own) = own else {
                return Err(format!("{} waits for {:?}, which isn't its own", call.id, left.operation));
            };
            if self.timers.at(Timer::Operation(left.operation)) != Some(own.deadline) {
                return Err(format!("{} waits for {:?} without a deadline", call.id, left.operation));
            }
        }
        Ok(())
    }

    /// Whatever a call waits for has an end.
    fn check_waiting(&self, call: &Call) -> Result<(), String> {
        let ends = match &call.conversation {
            Conversation::Pair(..)
            | Conversation::Relayed(_)
            | Conversation::Mixed(_)
            | Conversation::Waiting(_) => true,
            Conversation::Setup(Setup { step: Step::Routing, .. }) => false,
            Conversation::Setup(Setup { anchor, step: Step::AwaitingAddress { .. } }) => {
                self.is_waited_for(*anchor)
            }
            Conversation::Setup(Setup { step: Step::Trying(attempt), .. }) => {
                match self.calls.find_attempt(*attempt).map(|attempt| attempt.answering) {
                    Some(Some(leg)) => self.is_waited_for(leg),
                    Some(None) => {
                        let timers = [Timer::NoAnswer(*attempt), Timer::NewCallAccept(*attempt)];
                        timers.into_iter().any(|timer| self.timers.has(timer))
                    }
                    None => false,
                }
            }
        };
        if ends { Ok(()) } else { Err(format!("{} waits for ever: {:?}", call.id, call.conversation)) }
    }

    fn check_legs(&self) -> Result<(), String> {
        for leg in self.calls.legs() {
            let id = leg.id;
            if matches!(leg.state(), LegState::Disconnected | LegState::Failed) {
                return Err(format!("{id} is {:?} and still there", leg.state()));
            }
            let end = leg.end.map(|end| (end, self.calls.find_end(end)));
            match end {
                None if self.calls.find_call(leg.call).is_some_and(|call| call.is_passive(id)) => {}
                Some((_, Some(end))) if end.leg() == Some(id) && fits(end, &leg.at) => {}
                None | Some(_) => return Err(format!("{id} has the wrong end: {end:?}")),
            }
            if leg.at.line().is_some() && !self.device_at(leg).is_some_and(|device| device.legs.contains(&id))
            {
                return Err(format!("{id} isn't at its device"));
            }
            let running = leg.running.iter().any(Option::is_some);
            let early = self
                .calls
                .find_call(leg.call)
                .is_some_and(|call| self.calls.anchor(call.id) == Some(id) && self.calls.plays_early(call));
            let peer = leg.end.and_then(|end| self.peer_end(end));
            if running && peer.is_none() && !early {
                return Err(format!("{id} has streams to nobody"));
            }
        }
        self.check_ends()
    }

    /// Each end is some leg's, and waits for what it waits for.
    fn check_ends(&self) -> Result<(), String> {
        let with_end = self.calls.legs().filter(|leg| leg.end.is_some()).count();
        let bridges = self.calls.all().flat_map(Call::conversations).filter_map(|of| match of {
            Conversation::Relayed(relay) => Some(relay.bridge),
            Conversation::Mixed(mix) => Some(mix.bridge),
            Conversation::Setup(_) | Conversation::Pair(..) | Conversation::Waiting(_) => None,
        });
        let mut seen = BTreeSet::new();
        if let Some(bridge) = bridges.into_iter().find(|bridge| !seen.insert(*bridge)) {
            return Err(format!("{bridge:?} is of two calls"));
        }
        let resources = |of: &Conversation| of.resources().len();
        let of_node: usize = self.calls.all().flat_map(Call::conversations).map(resources).sum();
        if with_end + of_node != self.calls.end_count() {
            return Err(format!(
                "{} ends, {with_end} of legs, {of_node} of the node",
                self.calls.end_count()
            ));
        }
        for (x, y) in self.calls.all().flat_map(Call::links) {
            let (Some(x), Some(y)) = (self.calls.find_end(x), self.calls.find_end(y)) else {
                return Err(format!("{x} talks to {y}, and one of them is not there"));
            };
            if x.leg().is_none() {
                return Err(format!("{:?} is nobody's end", x.id()));
            }
            if y.leg().is_none() != matches!(y, End::BridgePort(_) | End::Source(_)) {
                return Err(format!("{:?} has no leg", y.id()));
            }
        }
        for end in self.calls.ends() {
            let (id, asked) = (end.id(), end.is_asked());
            if asked != self.timers.has(Timer::MediaExchange(id)) {
                return Err(format!("{id}: address asked for {asked}, its timer disagrees"));
            }
        }
        Ok(())
    }

    fn check_devices(&self) -> Result<(), String> {
        let mut open = 0;
        let mut lines = BTreeMap::new();
        for leg in self.calls.legs().filter(|leg| !leg.is_remote_in_use()) {
            let present = |name| self.devices.get(name).is_some_and(|device| device.legs.contains(&leg.id));
            if let Some(line) = leg.at.line().filter(|(name, _)| present(*name)) {
                *lines.entry(line).or_insert(0u32) += 1;
            }
        }
        for (name, device) in self.devices.iter() {
            open += u32::from(!device.openers.is_empty());
            if let Some(leg) = device.legs.iter().find(|leg| self.device_of_leg(**leg) != Some(name)) {
                return Err(format!("{name} has {leg}, which isn't there"));
            }
            if device.is_application()
                && device.openers.is_empty()
                && !self.is_uncleared(name)
                && (!device.legs.is_empty() || device.media.is_some())
            {
                return Err(format!("{name} is open to nobody and has legs or media"));
            }
            let knows = |session: &&SessionId| {
                self.departing.holds(**session, name) || self.openings.has(**session, name)
            };
            if let Some(session) = device.openers.iter().find(|session| !knows(session)) {
                return Err(format!("{name} is open for {session}, who doesn't know"));
            }
            if let Some(line) = device
                .lines
                .iter()
                .find(|line| lines.get(&(name, &line.dn)).copied().unwrap_or(0) != line.calls)
            {
                return Err(format!("{name} counts {} calls on a line wrongly", line.calls));
            }
        }
        let registered = self.devices.iter().filter(|(_, device)| device.registered).count();
        if registered != self.registered {
            return Err(format!("{registered} phones are registered, {} counted", self.registered));
        }
        if open != self.device_counts.devices() {
            return Err(format!("{open} devices are open, {} counted", self.device_counts.devices()));
        }
        for (session, devices) in self.openings.all() {
            let settled = self.unsettled().is_none();
            if devices.is_empty() || settled && devices.iter().any(|name| !self.is_open(session, name)) {
                return Err(format!("{session} holds what isn't open"));
            }
        }
        Ok(())
    }

    fn check_trunks(&self) -> Result<(), String> {
        let mut legs: BTreeMap<&TrunkName, u32> = BTreeMap::new();
        for leg in self.calls.legs() {
            if let At::Trunk { trunk, .. } = &leg.at {
                *legs.entry(trunk).or_default() += 1;
            }
        }
        for (name, trunk) in &self.trunks {
            let calls = legs.remove(name).unwrap_or(0);
            if trunk.calls != calls || (trunk.plan.is_none() && calls == 0) {
                return Err(format!("trunk {name} counts {} calls, and has {calls}", trunk.calls));
            }
        }
        legs.keys().next().map_or(Ok(()), |name| Err(format!("trunk {name} has calls and isn't counted")))
    }

    fn check_timers(&self) -> Result<(), String> {
        for timer in self.timers.iter() {
            let fine = match timer {
                Timer::NoAnswer(attempt) | Timer::NewCallAccept(attempt) => {
                    let call = self
                        .calls
                        .find_attempt(attempt)
                        .and_then(|attempt| self.calls.find_call(attempt.call));
                    call.is_some_and(|call| call.conversation.attempt() == Some(attempt))
                }
                Timer::MediaExchange(end) => self.calls.find_end(end).is_some(),
                Timer::Operation(operation) => self.operations.contains(operation),
            };
            if !fine {
                return Err(format!("{timer:?} is for nothing"));
            }
        }
        Ok(())
    }
}
