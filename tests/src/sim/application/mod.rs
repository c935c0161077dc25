//! An application: opens, answers, redirects, holds, drops; crashes, freezes and comes back with what it last heard. It
//! checks everything it is told as it reads it.

mod checks;
mod deeds;

use super::dice::Dice;
use super::phone::Mood;
use super::scene::{ApplicationOfScene, PASSWORD};
use super::tally::{Happening, Tally};
use checks::LegSeen;
use protocol::frame::Decoder;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The heartbeat that applications wish for, and get.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// No request takes longer on a connection that lives: a phone that doesn't answer an INVITE costs 32 s.
const BOUND: Duration = Duration::from_secs(60);
/// Silence after which the node counts as gone.
const SILENCE: Duration = Duration::from_millis(12_500);

/// What the application wants of the world.
pub(super) enum Act {
    Connect,
    Write(Vec<u8>),
    Close,
}

/// Where its connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Off,
    /// Connected; `provider.open` has no answer yet.
    Opening,
    Open,
}

/// Something it means to do.
#[derive(Clone, Debug)]
enum Todo {
    Connect,
    Heartbeat,
    Listen,
    Wander,
    Leg(String, Deed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Answer,
    Accept,
    Redirect,
    Reject,
    Drop,
    Hold,
    Retrieve,
    SetMedia,
}

struct Pending {
    method: &'static str,
    params: Value,
    asked_at: Duration,
    /// The device was lost since it was first asked for: an answer that says otherwise may be the old one.
    void: bool,
}

/// An application.
pub(super) struct Application {
    pub(super) scene: &'static ApplicationOfScene,
    pub(super) mood: Mood,
    pub(super) acts: Vec<Act>,
    pub(super) frozen_until: Duration,
    pub(super) tally: Tally,
    /// How long its next absence lasts, if that is not its own affair.
    pub(super) absence: Option<Duration>,
    /// The node's lives so far: a session of an earlier one may be unknown.
    pub(super) node_life: u32,
    /// That of the node to which the connection was made: its answer may be read after its death.
    pub(super) connection_life: u32,
    /// The node keeps its sessions: one with a grace is known in the next life.
    pub(super) node_keeps: bool,
    grace_ms: u64,
    /// Until then an administrator may have locked its user out.
    pub(super) locked_out_until: Duration,
    /// In which of the node's lives it was last let in.
    pub(super) let_in: Option<u32>,
    /// A session of another user's that it asks for instead of its own, and an event of that.
    pub(super) borrowed: Option<(String, u64)>,
    /// The session that it asked for last.
    asked_for: Option<String>,
    /// It always wants the longest grace.
    pub(super) patient: bool,
    /// All events of legs that were read, by session, when a record is kept.
    pub(super) record: Option<Vec<Vec<u64>>>,
    /// Legs whose last event was read: what was told of them, event by event.
    pub(super) told: Vec<(String, Vec<u64>)>,
    dice: Dice,
    link: Link,
    decoder: Decoder,
    session: Option<(String, u32)>,
    last_seq: u64,
    last_heard: Duration,
    last_id: u64,
    last_token: u64,
    pending: BTreeMap<u64, Pending>,
    todo: BTreeMap<(Duration, u64), Todo>,
    todo_count: u64,
    devices: BTreeSet<String>,
    legs: BTreeMap<String, LegSeen>,
    gone: BTreeSet<String>,
    /// Something was hidden from it for a while: it takes the next snapshot for true.
    stale: bool,
    /// Devices that another application had when it wanted them.
    refused: BTreeSet<String>,
    /// The event that is being read, without its number.
    reading: u64,
    /// The last changes that had a key: a cautious application repeats them after a break.
    recent: VecDeque<(&'static str, Value)>,
    /// The first answer to each idempotency key.
    answers: BTreeMap<String, String>,
    /// The call that each `call.make` of ours made.
    made: BTreeMap<String, String>,
}

impl Application {
    pub(super) fn new(scene: &'static ApplicationOfScene, mut dice: Dice) -> Self {
        let mut application = Self {
            scene,
            mood: Mood::Still,
            acts: Vec::new(),
            frozen_until: Duration::ZERO,
            tally: Tally::default(),
            absence: None,
            node_life: 0,
            connection_life: 0,
            node_keeps: false,
            grace_ms: 0,
            locked_out_until: Duration::ZERO,
            let_in: None,
            borrowed: None,
            asked_for: None,
            patient: false,
            record: None,
            told: Vec::new(),
            link: Link::Off,
            decoder: Decoder::new(),
            session: None,
            last_seq: 0,
            last_heard: Duration::ZERO,
            last_id: 0,
            last_token: 0,
            pending: BTreeMap::new(),
            todo: BTreeMap::new(),
            todo_count: 0,
            devices: BTreeSet::new(),
            legs: BTreeMap::new(),
            gone: BTreeSet::new(),
            stale: false,
            refused: BTreeSet::new(),
            reading: 0,
            recent: VecDeque::new(),
            answers: BTreeMap::new(),
            made: BTreeMap::new(),
            dice: dice.split(),
        };
        let first = dice.ms(100, 1_500);
        application.plan(first, Todo::Connect);
        application
    }

    /// When [`Application::timeout`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.todo.first_key_value().map(|((at, _), _)| (*at).max(self.frozen_until))
    }

    pub(super) fn timeout(&mut self, now: Duration) -> Result<(), String> {
        while let Some(entry) = self.todo.first_entry().filter(|entry| entry.key().0 <= now) {
            let todo = entry.remove();
            self.carry_out(now, todo)?;
        }
        Ok(())
    }

    /// Whether it has a provider.
    pub(super) fn is_open(&self) -> bool {
        self.link == Link::Open
    }

    /// Whether it has the device open.
    pub(super) fn has(&self, device: &str) -> bool {
        self.devices.contains(device)
    }

    /// The session that it would resume, and the last event of it that it has.
    pub(super) fn position(&self) -> Option<(&str, u64)> {
        self.session.as_ref().map(|(session, _)| (session.as_str(), self.last_seq))
    }

    /// Whether it has waited for the outcome of a redirect for a moment.
    pub(super) fn waits_for_a_redirect(&self, now: Duration) -> bool {
        let mut pending = self.pending.values();
        let moment = Duration::from_millis(100);
        pending.any(|pending| pending.method == "call.redirect" && now > pending.asked_at + moment)
    }

    /// How long the node waits for it.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    /// Bytes of the node's.
    pub(super) fn read(&mut self, now: Duration, bytes: &[u8]) -> Result<(), String> {
        self.decoder.push(bytes).map_err(|e| format!("{e} from the node"))?;
        while let Some(line) = self.decoder.next_line() {
            let frame: Value = serde_json::from_slice(&line)
                .map_err(|e| format!("a line that is no JSON ({e}): {}", String::from_utf8_lossy(&line)))?;
            self.last_heard = now;
            self.reading = checks::without_number(&line);
            self.on_frame(now, &frame)?;
        }
        Ok(())
    }

    /// The connection is gone: it comes back, and goes on if it can.
    pub(super) fn lost(&mut self, now: Duration) {
        self.link = Link::Off;
        self.decoder = Decoder::new();
        self.todo.retain(|_, todo| matches!(todo, Todo::Leg(..)));
        let after = match self.absence.take() {
            Some(absence) => absence,
            // Who is locked out doesn't hammer at the door.
            None if self.locked_out_until > now => self.dice.ms(8_000, 40_000),
            None if self.dice.percent(60) => self.dice.ms(20, 3_000),
            None => self.dice.ms(3_000, 40_000),
        };
        self.plan(now + after, Todo::Connect);
    }

    /// It dies and is started again: it knows nothing.
    pub(super) fn crash(&mut self, now: Duration) {
        if self.link != Link::Off {
            self.acts.push(Act::Close);
        }
        self.forget();
        self.session = None;
        self.lost(now);
    }

    /// After a freeze the clock of its requests starts anew.
    pub(super) fn thaw(&mut self, now: Duration) {
        for pending in self.pending.values_mut() {
            pending.asked_at = now;
        }
        self.last_heard = now;
    }

    /// At this very moment something is done to a leg of its, if there is one that is up: at which device.
    pub(super) fn force(&mut self, at: Duration) -> Option<String> {
        let up: Vec<(&String, &LegSeen)> = self.legs.iter().filter(|(_, leg)| leg.is_up()).collect();
        if up.is_empty() || self.link != Link::Open {
            return None;
        }
        let (leg, seen) = *self.dice.pick(&up);
        let (leg, device) = (leg.clone(), seen.device.clone());
        let deed = *self.dice.pick(&[Deed::Redirect, Deed::Redirect, Deed::Hold, Deed::Retrieve, Deed::Drop]);
        self.plan(at, Todo::Leg(leg, deed));
        Some(device)
    }

    fn forget(&mut self) {
        self.last_seq = 0;
        self.pending.clear();
        self.todo.clear();
        self.devices.clear();
        self.legs.clear();
        self.gone.clear();
        self.recent.clear();
        self.answers.clear();
        self.made.clear();
        self.stale = false;
        self.refused.clear();
    }

    fn plan(&mut self, at: Duration, todo: Todo) {
        self.todo_count += 1;
        self.todo.insert((at, self.todo_count), todo);
    }

    fn carry_out(&mut self, now: Duration, todo: Todo) -> Result<(), String> {
        match todo {
            Todo::Connect => {
                self.link = Link::Opening;
                self.last_heard = now;
                self.acts.push(Act::Connect);
                self.open(now);
                self.plan(now + HEARTBEAT, Todo::Listen);
            }
            Todo::Heartbeat => {
                if self.link == Link::Open {
                    let last_seq =
                        if self.dice.percent(50) { json!({"last_seq": self.last_seq}) } else { json!({}) };
                    self.ask(now, "provider.heartbeat", last_seq);
                    self.plan(now + HEARTBEAT * 4 / 5, Todo::Heartbeat);
                }
            }
            Todo::Listen => {
                if now.saturating_sub(self.last_heard) > SILENCE {
                    self.acts.push(Act::Close);
                    self.lost(now);
                } else if self.link != Link::Off {
                    self.plan(now + HEARTBEAT / 2, Todo::Listen);
                }
                self.overdue(now)?;
            }
            Todo::Wander => self.wander(now),
            Todo::Leg(leg, deed) => self.do_to_leg(now, &leg, deed),
        }
        Ok(())
    }

    fn open(&mut self, now: Duration) {
        let mut params = json!({
            "user": self.scene.user, "password": PASSWORD, "application": "sim",
            "instance": self.scene.instance, "heartbeat_ms": 5000,
        });
        if self.patient {
            params["resume_grace_ms"] = 60_000.into();
        } else if self.dice.percent(85) {
            params["resume_grace_ms"] = (*self.dice.pick(&[4_000, 30_000, 60_000])).into();
        }
        if let Some((session, last_seq)) = &self.borrowed {
            params["resume"] = json!({"session": session, "last_seq": last_seq});
        } else if let Some((session, _)) = &self.session {
            params["resume"] = json!({"session": session, "last_seq": self.last_seq});
        }
        self.asked_for = params["resume"]["session"].as_str().map(str::to_owned);
        self.ask(now, "provider.open", params);
    }

    /// Sends a request; it must be answered once.
    fn ask(&mut self, now: Duration, method: &'static str, params: Value) {
        self.last_id += 1;
        self.tally.add(Happening::Request);
        let id = self.last_id;
        let frame = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut line = frame.to_string().into_bytes();
        line.push(b'\n');
        self.acts.push(Act::Write(line));
        self.pending.insert(id, Pending { method, params, asked_at: now, void: false });
    }

    /// A request that changes something: often with a key, now and then twice.
    fn change(&mut self, now: Duration, method: &'static str, mut params: Value) {
        if self.dice.percent(70) {
            self.last_token += 1;
            params["idem"] = format!("k{}", self.last_token).into();
            self.recent.push_back((method, params.clone()));
            if self.recent.len() > 4 {
                self.recent.pop_front();
            }
            if self.dice.percent(10) {
                self.ask(now, method, params.clone());
            }
        }
        self.ask(now, method, params);
    }
}
