//! What an application does.

use super::{Application, Deed, HEARTBEAT, Link, Todo};
use crate::sim::phone::Mood;
use crate::sim::scene::{Media, NUMBERS};
use crate::sim::tally::Happening;
use serde_json::{Value, json};
use std::time::Duration;

impl Application {
    pub(super) fn opened(&mut self, now: Duration, result: &Value) -> Result<(), String> {
        let session = result["session"].as_str().unwrap_or_default().to_owned();
        let resumed = result["resumed"] == true;
        // An answer to what it asked before may still be read.
        if let Some((other, _)) = self.borrowed.take_if(|(other, _)| self.asked_for.as_ref() == Some(other)) {
            if resumed || result["reason"] != "unknown_session" {
                return Err(format!("{other} is another user's, and the answer to a resume is {result}"));
            }
            self.tally.add(Happening::Borrowed);
            self.session = None;
        }
        match (&self.session, resumed) {
            (Some((old, _)), true) if *old == session => {
                if result["next_seq"] != self.last_seq + 1 {
                    return Err(format!("resumed after {}, next_seq {}", self.last_seq, result["next_seq"]));
                }
                self.tally.add(Happening::Resumed);
                self.repeat_unanswered(now);
            }
            (Some((_, life)), false) => {
                let reason = result["reason"].as_str().unwrap_or("none");
                match reason {
                    "log_overrun" => self.tally.add(Happening::Overrun),
                    "expired" => self.tally.add(Happening::Expired),
                    "unknown_session"
                        if *life != self.node_life && !(self.node_keeps && self.grace_ms > 0) =>
                    {
                        self.tally.add(Happening::Unknown);
                    }
                    _ => return Err(format!("not resumed, reason {reason}, in the same life of the node")),
                }
                self.start_anew(session);
            }
            (None, false) => self.start_anew(session),
            (Some(_) | None, true) => {
                return Err(format!("resumed a session that nobody asked for: {result}"));
            }
        }
        self.grace_ms = result["resume_grace_ms"].as_u64().unwrap_or(0);
        self.link = Link::Open;
        self.plan(now + HEARTBEAT * 4 / 5, Todo::Heartbeat);
        let after = self.dice.ms(500, 5_000);
        self.plan(now + after, Todo::Wander);
        self.open_devices(now);
        Ok(())
    }

    fn start_anew(&mut self, session: String) {
        let listening: Vec<_> = self
            .todo
            .iter()
            .filter(|(_, t)| matches!(t, Todo::Listen))
            .map(|(k, t)| (*k, t.clone()))
            .collect();
        self.forget();
        self.todo.extend(listening);
        self.session = Some((session, self.connection_life));
        self.record.iter_mut().for_each(|record| record.push(Vec::new()));
    }

    /// Requests that had no answer are repeated by their keys; without one nobody may know what became of them.
    fn repeat_unanswered(&mut self, now: Duration) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            if pending.params["idem"].is_string() {
                self.ask(now, pending.method, pending.params);
            }
        }
        for (method, params) in self.recent.clone() {
            self.ask(now, method, params);
        }
    }

    fn open_devices(&mut self, now: Duration) {
        for (device, media) in self.scene.devices {
            if self.devices.contains(*device) {
                continue;
            }
            let mut params = json!({"device": device});
            match media {
                Media::Phone => {}
                Media::None => params["media"] = json!({"mode": "none"}),
                Media::Dynamic => params["media"] = json!({"mode": "dynamic", "codecs": ["PCMU", "PCMA"]}),
                Media::Static => {
                    params["media"] = json!({"mode": "static", "ip": "10.0.0.50", "port": 30_000, "codecs": ["PCMA", "PCMU"]});
                }
            }
            self.change(now, "device.open", params);
        }
    }

    /// Something now and then.
    pub(super) fn wander(&mut self, now: Duration) {
        if self.link != Link::Open {
            return;
        }
        let after = self.dice.ms(500, 8_000);
        self.plan(now + after, Todo::Wander);
        self.open_devices(now);
        if self.stale || self.dice.percent(30) {
            self.ask(now, "provider.snapshot", json!({}));
        }
        if self.mood == Mood::Busy && !self.scene.calls_from.is_empty() && self.dice.percent(60) {
            self.make_call(now);
        }
        if self.mood == Mood::Busy && self.dice.percent(10) {
            self.set_a_line(now);
        }
    }

    /// Something about a line that no fresh call of the calm depends on.
    fn set_a_line(&mut self, now: Duration) {
        if self.devices.contains("PHONE_3") && !self.scene.passive {
            let destination = *self.dice.pick(&[None, Some("1001"), Some("5000"), Some("1003")]);
            let params = json!({"device": "PHONE_3", "dn": "1004", "destination": destination});
            self.change(now, "line.set_forward", params);
        } else if self.devices.contains("PORT_2") {
            let on = self.dice.percent(50);
            self.change(now, "line.set_auto_accept", json!({"device": "PORT_2", "dn": "5102", "on": on}));
        }
    }

    fn make_call(&mut self, now: Duration) {
        self.last_token += 1;
        let token = format!("{}-{}", self.scene.instance, self.last_token);
        let device = *self.dice.pick(self.scene.calls_from);
        let destination = *self.dice.pick(NUMBERS);
        // Long notes make long events, which a log holds few of.
        let note = "n".repeat(self.dice.up_to(3_000));
        let user_data = json!({"token": token, "note": note});
        let params = json!({"device": device, "destination": destination, "user_data": user_data});
        self.change(now, "call.make", params);
    }

    /// Decides what to do with a leg that has come to a state.
    pub(super) fn consider(&mut self, now: Duration, leg: &Value) {
        let (id, state) =
            (leg["leg"].as_str().unwrap_or_default(), leg["state"].as_str().unwrap_or_default());
        let ours = !leg["device"].as_str().unwrap_or_default().starts_with("PHONE");
        let deed = match (self.mood, state, ours) {
            _ if self.scene.passive => None,
            (Mood::Still, _, _) | (Mood::Polite, _, false) => None,
            (Mood::Polite, "offering" | "ringing", true) => Some(Deed::Answer),
            (Mood::Busy, "offering", true) => match self.dice.below(20) {
                0..=8 => Some(Deed::Answer),
                9..=11 => Some(Deed::Accept),
                12..=15 => Some(Deed::Redirect),
                16 | 17 => Some(Deed::Reject),
                _ => None,
            },
            (Mood::Busy, "ringing", true) => Some(Deed::Answer),
            (Mood::Busy, "connected", _) if ours || self.dice.percent(25) => {
                Some(*self.dice.pick(&[Deed::Drop, Deed::Drop, Deed::Hold, Deed::Redirect]))
            }
            (Mood::Busy, "held", _) => Some(*self.dice.pick(&[Deed::Retrieve, Deed::Retrieve, Deed::Drop])),
            (Mood::Busy | Mood::Polite, _, _) => None,
        };
        let Some(deed) = deed else { return };
        let after = match (self.mood, state) {
            (Mood::Polite, _) => Duration::from_millis(50),
            (_, "connected" | "held") => self.dice.ms(100, 15_000),
            _ => self.dice.ms(0, 3_000),
        };
        self.plan(now + after, Todo::Leg(id.to_owned(), deed));
    }

    /// The media of a leg is asked for.
    pub(super) fn channel_asked(&mut self, now: Duration, leg: &str) {
        if !self.scene.passive && (self.mood == Mood::Polite || self.dice.percent(85)) {
            let after = self.dice.ms(0, 800);
            self.plan(now + after, Todo::Leg(leg.to_owned(), Deed::SetMedia));
        }
    }

    pub(super) fn do_to_leg(&mut self, now: Duration, leg: &str, deed: Deed) {
        if self.link != Link::Open || !self.legs.contains_key(leg) {
            return;
        }
        if self.mood == Mood::Still && deed != Deed::SetMedia {
            return;
        }
        let mut params = json!({"leg": leg});
        let method = match deed {
            Deed::Answer => "call.answer",
            Deed::Accept => "call.accept",
            Deed::Reject => "call.reject",
            Deed::Drop => "call.drop",
            Deed::Hold => "call.hold",
            Deed::Retrieve => "call.retrieve",
            Deed::SetMedia => {
                params["ip"] = "10.0.0.60".into();
                params["port"] = (20_000 + 2 * self.dice.below(5_000)).into();
                "call.set_media"
            }
            Deed::Redirect => {
                params["destination"] = (*self.dice.pick(NUMBERS)).into();
                if self.dice.percent(30) {
                    params["keep_on_failure"] = false.into();
                }
                "call.redirect"
            }
        };
        self.change(now, method, params);
    }

    /// Ends every leg that it knows of.
    pub(in crate::sim) fn drop_all(&mut self, now: Duration) {
        if self.link != Link::Open {
            return;
        }
        let legs: Vec<String> = self.legs.keys().cloned().collect();
        for leg in legs.into_iter().filter(|_| !self.scene.passive) {
            self.change(now, "call.drop", json!({"leg": leg}));
        }
    }
}
