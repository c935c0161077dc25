//! Who hears whom: what the node has said to each phone of the other end's media, held against what both ends want, once all
//! is quiet (protocol §4, §5; RFC 3264).

use super::legs::{Leg, Stream};
use super::plan::{Kind, Plan};
use super::wire::{SipMessage, Told, Way};
use sip::message::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// A call of a phone's, as it is there.
pub(in crate::sim) struct Fact {
    pub(in crate::sim) device: &'static str,
    pub(in crate::sim) call_id: String,
    pub(in crate::sim) token: String,
    /// Where it receives.
    pub(in crate::sim) address: SocketAddr,
    /// Its person holds.
    pub(in crate::sim) held: bool,
}

/// What the node says of the media in one dialog.
#[derive(Debug, Default)]
struct Dialog {
    told: Option<Told>,
    device: &'static str,
    /// Which way its 200 went.
    answered: Option<Way>,
    /// Both sides have it.
    up: bool,
    /// An offer that has no answer, by its number.
    offered: Option<(u32, Told)>,
}

/// All of them, by Call-ID.
#[derive(Debug, Default)]
pub(super) struct Media {
    dialogs: BTreeMap<String, Dialog>,
    /// Those that a BYE has ended.
    over: BTreeSet<String>,
}

impl Media {
    pub(super) fn sip(&mut self, message: &SipMessage) {
        if message.status.is_none() && message.method == Method::Bye {
            self.dialogs.remove(&message.call_id);
            self.over.insert(message.call_id.clone());
            return;
        }
        // What crosses the BYE begins nothing anew.
        if self.over.contains(&message.call_id) {
            return;
        }
        let offers = matches!(message.method, Method::Invite | Method::Update);
        let dialog = self.dialogs.entry(message.call_id.clone()).or_default();
        dialog.device = message.device;
        let refused = message.method == Method::Invite && matches!(message.status, Some(300..));
        if refused && dialog.answered.is_none() {
            self.dialogs.remove(&message.call_id);
            return;
        }
        // Both sides have a call when its 200 was acknowledged: by the node, or to the node (RFC 3261 §15).
        let answers = message.method == Method::Invite && matches!(message.status, Some(200..=299));
        if answers {
            dialog.answered = Some(message.way);
        }
        dialog.up |= message.method == Method::Ack && dialog.answered.is_some_and(|way| way != message.way);
        match (message.way, message.status, &message.description) {
            (Way::FromNode, None, Some(said)) if offers => {
                dialog.offered = Some((message.cseq, said.clone()));
            }
            // An answer; or the offer in a 200, which its ACK answers.
            (Way::FromNode, Some(200..=299) | None, Some(said)) => dialog.told = Some(said.clone()),
            (Way::ToNode, Some(status), _) if offers && status >= 200 => {
                let offered = dialog.offered.take_if(|(cseq, _)| *cseq == message.cseq);
                if let Some((_, said)) = offered.filter(|_| status < 300) {
                    dialog.told = Some(said);
                }
            }
            _ => {}
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Calls of a phone, those too that are not answered yet.
    pub(super) fn calls_at(&self, device: &str) -> usize {
        self.dialogs.values().filter(|dialog| dialog.device == device).count()
    }

    /// The node has stopped.
    pub(super) fn nobody_talks(&self) -> Result<(), String> {
        match self.dialogs.iter().find(|(_, dialog)| dialog.up) {
            Some((call_id, _)) => Err(format!("the node has stopped, and {call_id} was not ended")),
            None => Ok(()),
        }
    }

    fn told(&self, fact: &Fact) -> Option<&Told> {
        self.dialogs.get(&fact.call_id)?.told.as_ref()
    }

    /// All is quiet: `legs` are those that applications know, each seen by somebody who is connected.
    pub(super) fn agrees<'a>(
        &self,
        plan: &Plan,
        facts: &[Fact],
        legs: impl Iterator<Item = (&'a String, &'a Leg)> + Clone,
    ) -> Result<(), String> {
        for fact in facts {
            let Some(told) = self.told(fact) else { continue };
            if let Some(other) = facts.iter().find(|other| other.address == told.address) {
                self.phones_hear(fact, told, other, legs.clone())?;
            }
        }
        let at_application = |leg: &Leg| plan.kind(&leg.device) != Some(Kind::Phone);
        for (id, leg) in legs.clone().filter(|(_, leg)| at_application(leg)) {
            self.application_hears(id, leg, facts, legs.clone())?;
        }
        holds_are_told(facts, legs)
    }

    /// A phone and another one: nobody is on hold unless somebody holds.
    fn phones_hear<'a>(
        &self,
        fact: &Fact,
        told: &Told,
        other: &Fact,
        legs: impl Iterator<Item = (&'a String, &'a Leg)>,
    ) -> Result<(), String> {
        let mut held = legs.filter(|(_, leg)| leg.state == "held");
        let by_application = held.any(|(_, leg)| leg.device == fact.device || leg.device == other.device);
        let right = match (fact.held, other.held) {
            (_, true) => matches!(&*told.direction, "sendonly" | "inactive"),
            (false, false) => told.direction == "sendrecv" || by_application,
            (true, false) => told.direction != "sendonly",
        };
        if right {
            return Ok(());
        }
        Err(format!(
            "{} (holds: {}) was told {} of {} (holds: {})",
            fact.token, fact.held, told.direction, other.token, other.held
        ))
    }

    /// A leg of an application that is connected has its media both ways, unless its far end is on hold, and the far end
    /// knows its address; one that is held has none.
    fn application_hears<'a>(
        &self,
        id: &str,
        leg: &Leg,
        facts: &[Fact],
        legs: impl Iterator<Item = (&'a String, &'a Leg)> + Clone,
    ) -> Result<(), String> {
        let far = leg.far.and_then(|far| facts.iter().find(|fact| fact.address == far));
        let rests = |fact: &Fact| {
            fact.held || legs.clone().any(|(_, leg)| leg.device == fact.device && leg.state == "held")
        };
        let wrong = match (leg.state.as_str(), &leg.input, &leg.output) {
            ("held", None, None) => None,
            ("held", _, _) => Some("and its streams run"),
            ("connected", Some(input), Some(output)) => match far {
                Some(fact) if rests(fact) => None,
                Some(fact) => self.mutual(leg, input, fact),
                None => {
                    let mut inputs =
                        legs.filter(|(other, _)| *other != id).filter_map(|(_, leg)| leg.input.as_ref());
                    let known = inputs.any(|input| input.address == output.address);
                    (!known).then_some("and its media goes where nobody is")
                }
            },
            ("connected", _, _) if far.is_some_and(|fact| !rests(fact)) => Some("and its media does not run"),
            _ => None,
        };
        let Some(wrong) = wrong else { return Ok(()) };
        let told = far.and_then(|fact| self.told(fact));
        let far = far.map(|fact| (&fact.token, fact.held));
        Err(format!("{id} at {} is {}, {wrong}: {leg:?}, far {far:?}, told {told:?}", leg.device, leg.state))
    }

    /// A leg and a phone that talk: each is told of the other.
    fn mutual(&self, leg: &Leg, input: &Stream, fact: &Fact) -> Option<&'static str> {
        let told = self.told(fact)?;
        if Some(told.address) != input.address {
            return Some("and the far end was told another address");
        }
        if told.direction != "sendrecv" {
            return Some("and the far end does not hear it");
        }
        let elsewhere = leg.address.is_some_and(|given| Some(given) != input.address);
        elsewhere.then_some("and receives elsewhere than its application said")
    }
}

/// A phone's own holds are told of its legs.
fn holds_are_told<'a>(
    facts: &[Fact],
    legs: impl Iterator<Item = (&'a String, &'a Leg)> + Clone,
) -> Result<(), String> {
    let mut holds: BTreeMap<&str, usize> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.held) {
        *holds.entry(fact.device).or_default() += 1;
    }
    for (device, count) in holds {
        let told = legs.clone().filter(|(_, leg)| leg.device == device);
        let (mut known, mut held) = (0, 0);
        told.for_each(|(_, leg)| {
            known += 1;
            held += usize::from(leg.state == "held");
        });
        // A leg that nobody was told of live may be told otherwise.
        if known > 0 && held == 0 {
            return Err(format!(
                "{device} holds {count} calls, and {held} of {known} legs are told to be held"
            ));
        }
    }
    Ok(())
}
