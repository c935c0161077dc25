//! The call as a ladder: what went between the telephones, the node and the application, on one time line.

use crate::io::Tap;
use crate::node::{Input, Output};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who stands in a column; the node is in the second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The caller's phone.
    Caller,
    /// The application.
    Application,
    /// The phone that is called in the end.
    Callee,
}

/// One message.
#[derive(Clone, Debug)]
struct Rung {
    at: Instant,
    lane: Lane,
    /// Towards the node.
    inward: bool,
    label: String,
}

/// Listens at the node's door while it runs.
pub struct Ladder {
    state: Mutex<State>,
}

struct State {
    /// Numbers and their lanes; the phones' addresses are learned from their REGISTERs.
    numbers: HashMap<String, Lane>,
    phones: HashMap<SocketAddr, Lane>,
    rungs: Vec<Rung>,
}

/// Rungs that are kept: far more than a call has.
const MAX_RUNGS: usize = 500;

/// The time between two messages of the call.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// What it is the time of.
    pub what: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl Ladder {
    /// A ladder for a call between these two numbers.
    #[must_use]
    pub fn new(caller: &str, callee: &str) -> Self {
        let numbers = [(caller.to_owned(), Lane::Caller), (callee.to_owned(), Lane::Callee)];
        let state = State { numbers: numbers.into(), phones: HashMap::new(), rungs: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another holder leaves at worst one rung too few.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that the ladder can't see at the door: media.
    pub fn note(&self, at: Instant, lane: Lane, label: impl Into<String>) {
        self.state().push(Rung { at, lane, inward: false, label: format!("♪ {}", label.into()) });
    }

    /// The ladder as text.
    #[must_use]
    pub fn draw(&self, caller: &str, callee: &str) -> String {
        let state = self.state();
        let start = state.rungs.first().map(|rung| rung.at);
        let mut text = format!(
            "{:>9}   {:<WIDTH$}{:<WIDTH$}{:<WIDTH$}{}\n",
            "ms",
            format!("phone {caller}"),
            "node",
            "application",
            format_args!("phone {callee}")
        );
        for rung in &state.rungs {
            let since = start.map_or(0.0, |start| (rung.at - start).as_secs_f64() * 1000.0);
            let _ = writeln!(text, "{since:>9.1}   {}", rung.draw());
        }
        text
    }

    /// How long the steps of the call took, as the node's own door saw them. What the node did within one step has one
    /// time there: its length can only be measured from outside (`ctimanager bench`), so it is left out.
    #[must_use]
    pub fn timings(&self) -> Vec<Timing> {
        let state = self.state();
        let at = |lane: Lane, label: &str| {
            state.rungs.iter().find(|r| r.lane == lane && r.label.starts_with(label)).map(|r| r.at)
        };
        // The first INVITE is challenged; the call begins with the one that proves who it is from.
        let offered = at(Lane::Application, "call.offering");
        let invites = state.rungs.iter().filter(|r| r.lane == Lane::Caller && r.label.starts_with("INVITE"));
        let between = |what, from: Option<Instant>, to: Option<Instant>| {
            Some(Timing { what, took: to?.checked_duration_since(from?)? })
        };
        let invite = invites.map(|r| r.at).rfind(|at| offered.is_none_or(|offered| *at <= offered));
        [
            between("INVITE → event at the application", invite, offered),
            between("INVITE → 200 OK", invite, at(Lane::Caller, "200 OK (INVITE)")),
            between(
                "call.redirect → INVITE to the second phone",
                at(Lane::Application, "call.redirect"),
                at(Lane::Callee, "INVITE"),
            ),
        ]
        .into_iter()
        .flatten()
        .filter(|timing| !timing.took.is_zero())
        .collect()
    }
}

/// Columns between two lanes.
const WIDTH: usize = 30;

impl Rung {
    fn draw(&self) -> String {
        let label = &self.label;
        if label.starts_with('♪') {
            let indent = self.lane.column() * WIDTH;
            return format!("{:indent$}{label}", "");
        }
        let room = WIDTH - 4;
        let shaft = "─".repeat(room.saturating_sub(label.chars().count() + 2));
        let (head, tail) = match (self.lane, self.inward) {
            (Lane::Caller, true) | (Lane::Application | Lane::Callee, false) => ("─", "►"),
            (Lane::Caller, false) | (Lane::Application | Lane::Callee, true) => ("◄", "─"),
        };
        let arrow = format!("│{head} {label} {shaft}{tail}");
        match self.lane {
            Lane::Caller => arrow,
            Lane::Application => format!("{:WIDTH$}{arrow}", "│"),
            Lane::Callee => format!("{:WIDTH$}{arrow}{}{tail}│", "│", "─".repeat(WIDTH)),
        }
    }
}

impl Lane {
    fn column(self) -> usize {
        match self {
            Lane::Caller => 0,
            Lane::Application => 2,
            Lane::Callee => 3,
        }
    }
}

impl State {
    fn push(&mut self, rung: Rung) {
        let begun = !self.rungs.is_empty() || rung.label.starts_with("INVITE");
        if begun && self.rungs.len() < MAX_RUNGS {
            self.rungs.push(rung);
        }
    }

    fn sip(&mut self, at: Instant, remote: SocketAddr, bytes: &[u8], inward: bool) {
        let text = String::from_utf8_lossy(bytes);
        if text.starts_with("REGISTER") && inward {
            let lane = self.numbers.iter().find(|(number, _)| text.contains(&format!("sip:{number}@")));
            if let Some((_, lane)) = lane {
                self.phones.insert(remote, *lane);
            }
        }
        let label = sip_label(&text);
        if let Some(&lane) = self.phones.get(&remote)
            && !label.contains("REGISTER")
        {
            self.push(Rung { at, lane, inward, label });
        }
    }

    fn cti(&mut self, at: Instant, bytes: &[u8], inward: bool) {
        let Ok(message) = serde_json::from_slice::<Value>(bytes) else { return };
        let label = cti_label(&message);
        if let Some(label) = label {
            self.push(Rung { at, lane: Lane::Application, inward, label });
        }
    }
}

/// `INVITE 5000`, `200 OK (INVITE)`.
fn sip_label(text: &str) -> String {
    let start = text.lines().next().unwrap_or_default();
    if let Some(status) = start.strip_prefix("SIP/2.0 ") {
        let method = text
            .lines()
            .find_map(|line| line.strip_prefix("CSeq: ")?.split_ascii_whitespace().nth(1))
            .unwrap_or_default();
        return format!("{status} ({method})");
    }
    let mut words = start.split_ascii_whitespace();
    let method = words.next().unwrap_or_default();
    let user =
        words.next().and_then(|uri| uri.trim_start_matches("sip:").split_once('@')).map(|(user, _)| user);
    let again =
        method == "INVITE" && text.lines().any(|line| line.starts_with("To:") && line.contains(";tag="));
    match (method, user) {
        ("INVITE", _) if again => "re-INVITE".to_owned(),
        ("INVITE", Some(user)) => format!("INVITE {user}"),
        (other, _) => other.to_owned(),
    }
}

/// The method of a request, the type of an event; answers only where they are errors.
fn cti_label(message: &Value) -> Option<String> {
    let method = message["method"].as_str();
    match method {
        Some("event") => {
            message["params"]["type"].as_str().map(|kind| match message["params"]["direction"].as_str() {
                Some(direction) => format!("{kind} {direction}"),
                None => kind.to_owned(),
            })
        }
        Some(method) => Some(match message["params"]["destination"].as_str() {
            Some(destination) => format!("{method} {destination}"),
            None => method.to_owned(),
        }),
        None => message["error"]["data"]["cti"].as_str().map(|symbol| format!("error {symbol}")),
    }
}

impl Tap for Ladder {
    fn input(&self, now: Instant, input: &Input) {
        match input {
            Input::Sip { hop, bytes } => self.state().sip(now, hop.remote, bytes, true),
            Input::CtiFrame(_, bytes) => self.state().cti(now, bytes, true),
            _ => {}
        }
    }

    fn output(&self, now: Instant, output: &Output) {
        match output {
            Output::Sip { hop, bytes } => self.state().sip(now, hop.remote, bytes, false),
            Output::Cti(_, frame) => self.state().cti(now, &frame.to_vec(), false),
            _ => {}
        }
    }
}
