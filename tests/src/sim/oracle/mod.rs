//! What should have happened: a model of what users are promised, written from the protocol and the reference and not from
//! the product. It reads what phones, the trunk, applications and administrators do and what the node says to them, and
//! compares after each step or when something is due.
//!
//! Where the network decides what the node can know, or a configuration changes in between, more than one outcome is
//! legal: then the model says nothing of that call, leg or device (each file says when), and the other rules look on.

mod journeys;
mod legs;
mod media;
mod plan;
mod sessions;
mod wire;

pub(super) use journeys::CALLERS;
pub(super) use media::Fact;
pub(super) use plan::Plan;
pub(super) use wire::Way;

use journeys::Journeys;
use legs::{Legs, News};
use media::Media;
use serde_json::Value;
use sessions::{Asked, Heard, Sessions};
use sip::message::Method;
use std::time::Duration;
use wire::{SipMessage, number_of, text, time_of};

/// How late a thing may be that is due: the portions in which the node carries out what is much.
const SLACK: Duration = Duration::from_millis(300);
/// After another configuration nothing is due for a while: its consequences are told in portions, and timers begin anew.
const AFTER_A_CHANGE: Duration = Duration::from_secs(20);
/// How often it is asked what is due, in virtual time.
const LOOK: Duration = Duration::from_millis(20);

/// The model.
#[derive(Default)]
pub(super) struct Oracle {
    plan: Plan,
    sessions: Sessions,
    legs: Legs,
    journeys: Journeys,
    media: Media,
    looked_at: Duration,
    unclear_until: Duration,
    /// How old an answer may be when it is heard.
    late: Duration,
}

impl Oracle {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, ..Self::default() }
    }

    /// What CallManager says waits before it is heard.
    pub(super) fn delay(&mut self) {
        self.late = SLACK;
    }

    /// The administrator has put another configuration in force.
    pub(super) fn configured(&mut self, now: Duration, plan: Plan) {
        let before = std::mem::replace(&mut self.plan, plan);
        self.plan.keeps_forwards(&before);
        self.journeys.configured(&before);
        self.legs.touched(now);
        self.sessions.dismiss(now, |user| self.plan.admits(user));
        self.unclear_until = now + AFTER_A_CHANGE;
    }

    /// The node is dead, and may keep its sessions.
    pub(super) fn node_died(&mut self, now: Duration, keeps: bool) {
        self.sessions.node_died(now, keeps);
        self.legs.node_died(now);
        self.journeys.node_died();
        self.media.forget();
        self.unclear_until = now + AFTER_A_CHANGE;
    }

    /// A SIP message reaches the node, or leaves it.
    pub(super) fn sip(
        &mut self,
        now: Duration,
        way: Way,
        device: &'static str,
        bytes: &[u8],
    ) -> Result<(), String> {
        let Some(message) = SipMessage::read(way, device, bytes) else { return Ok(()) };
        self.media.sip(&message);
        if way == Way::ToNode && message.status.is_none() && message.method == Method::Cancel {
            self.legs.given_up(&message.from);
        }
        let sessions = &self.sessions;
        let media = &self.media;
        let calls_at = |device: &str| media.calls_at(device);
        self.journeys.sip(now, &self.plan, |device| sessions.openers(now, device), calls_at, &message)
    }

    /// A frame of an application reaches the node.
    pub(super) fn asked(&mut self, now: Duration, connection: u64, line: &[u8]) {
        let Ok(frame) = serde_json::from_slice::<Value>(line) else { return };
        let Some(asked) = self.sessions.asked(now, connection, &frame) else { return };
        self.legs.asked(now, &asked);
        self.sets_forward(&asked, false);
        let Some(leg) = self.legs.get(text(&asked.params, "leg")) else { return };
        match asked.method.as_str() {
            "call.redirect" => {
                let to = text(&asked.params, "destination");
                self.journeys.redirect_asked(now, &leg.calling, &leg.dn, to);
            }
            "call.drop" if leg.state == "connected" => self.journeys.dropped(now, &leg.calling),
            _ => {}
        }
    }

    /// A frame of the node's leaves it.
    pub(super) fn said(&mut self, now: Duration, connection: u64, line: &[u8]) -> Result<(), String> {
        let frame: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let number = number_of(line);
        match self.sessions.said(now, SLACK, connection, &frame, number)? {
            Heard::Nothing => Ok(()),
            Heard::Answer { asked, result, error } => {
                self.answered(now, &asked, &result, &error);
                Ok(())
            }
            Heard::Event(event) => match self.legs.told(now, SLACK, &self.plan, &event, number)? {
                Some(News::Arrived(leg)) => {
                    // Events are dated in whole milliseconds.
                    let at = time_of(&event).map_or(now, |at| now.min(at + Duration::from_millis(1)));
                    self.journeys.told(at, &self.plan, &leg)
                }
                None => Ok(()),
            },
        }
    }

    fn sets_forward(&mut self, asked: &Asked, answered: bool) {
        if asked.method == "line.set_forward" {
            let to = asked.params["destination"].as_str();
            if answered {
                self.journeys.forward_changes(&self.plan, text(&asked.params, "dn"));
            }
            self.plan.forwards_all(text(&asked.params, "dn"), to, answered);
        }
    }

    fn answered(&mut self, now: Duration, asked: &Asked, result: &Value, error: &Value) {
        if error.is_null() {
            self.sets_forward(asked, true);
        }
        if let Some(leg) = self.legs.get(text(&asked.params, "leg")) {
            match asked.method.as_str() {
                "call.redirect" => {
                    let to = text(&asked.params, "destination");
                    let failed = !error.is_null();
                    self.journeys.redirect_decided(now, &leg.calling, &leg.dn, to, failed);
                }
                "call.reject" if error.is_null() => self.journeys.rejected(now, &leg.calling),
                _ => {}
            }
        }
        self.legs.answered(now, self.late, asked, result, error);
    }

    /// A connection of an application is gone, as the node knows.
    pub(super) fn lost(&mut self, now: Duration, connection: u64) {
        self.sessions.lost(now, connection);
    }

    /// The node closes a connection: it has said why.
    pub(super) fn closed(&mut self, now: Duration, connection: u64) -> Result<(), String> {
        self.sessions.says_why(connection)?;
        self.sessions.lost(now, connection);
        Ok(())
    }

    /// The node is told to stop.
    pub(super) fn stops(&mut self, now: Duration) {
        self.journeys.configured(&self.plan);
        self.unclear_until = now + AFTER_A_CHANGE;
    }

    /// And has stopped: nobody is left who has not been told.
    pub(super) fn stopped(&self) -> Result<(), String> {
        self.sessions.nobody_is_connected()?;
        self.journeys.nobody_waits()?;
        self.media.nobody_talks()
    }

    /// Before the next thing happens: what should have happened until now.
    pub(super) fn due(&mut self, now: Duration) -> Result<(), String> {
        if now < self.looked_at + LOOK {
            return Ok(());
        }
        self.looked_at = now;
        self.sessions.due(now, SLACK)?;
        if now < self.unclear_until {
            return Ok(());
        }
        let sessions = &self.sessions;
        self.legs.due(now, SLACK, &self.plan, |device| sessions.is_watched(now, device))?;
        self.journeys.due(now, SLACK, &self.plan, |device| sessions.openers(now, device))
    }

    /// All is quiet: who hears whom.
    pub(super) fn at_rest(&self, now: Duration, facts: &[Fact]) -> Result<(), String> {
        let seen = self.legs.iter().filter(|(_, leg)| {
            self.sessions.is_watched(now, &leg.device) && !self.plan.is_restricted(&leg.device, &leg.dn)
        });
        self.media.agrees(&self.plan, facts, seen)
    }
}
