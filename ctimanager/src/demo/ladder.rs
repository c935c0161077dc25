//! Calls as ladders: what goes between the telephones, the node and the application, drawn as it happens.

use super::screen::Screen;
use crate::io::Tap;
use crate::node::{Input, Output};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

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

/// One message, or what is heard.
#[derive(Clone, Debug)]
struct Rung {
    at: Instant,
    /// Which call.
    call: u32,
    lane: Lane,
    kind: Kind,
    label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Towards the node.
    Inward,
    /// From the node.
    Outward,
    /// What the ladder can't see at the node's door: sounds and keys.
    Note,
}

/// Listens at the node's door while it runs.
pub struct Ladder {
    screen: Screen,
    state: Mutex<State>,
    /// A rung was added.
    grown: Notify,
}

#[derive(Default)]
struct State {
    /// When each call began; the last one is the newest.
    calls: Recent<u32, Instant>,
    /// Whose telephone calls are by their Call-ID, and of which call.
    telephones: Recent<String, (u32, Lane)>,
    /// Which call a leg of the application is in.
    legs: Recent<String, u32>,
    count: u32,
    /// The rungs of the first call, for its times.
    first: Vec<Rung>,
}

/// Rungs of the first call that are kept: far more than it has.
const MAX_RUNGS: usize = 500;

impl State {
    fn first_is_over(&self) -> bool {
        let count = |label: &str| self.first.iter().filter(|rung| rung.label.starts_with(label)).count();
        count("BYE") >= 2 && count("200 OK (BYE)") >= 2
    }
}

/// What is remembered of each kind; the oldest is forgotten.
const MAX_REMEMBERED: usize = 256;

/// A map that forgets the oldest.
struct Recent<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }
}

/// The time between two messages of the call.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// What it is the time of.
    pub what: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl Ladder {
    /// A ladder that is drawn there.
    #[must_use]
    pub fn new(screen: Screen) -> Self {
        Self { screen, state: Mutex::default(), grown: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another holder leaves at worst one rung too few.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of the newest call that the ladder can't see at the door.
    pub fn note(&self, at: Instant, lane: Lane, label: impl Into<String>) {
        let mut state = self.state();
        let rung =
            Rung { at, call: state.count, lane, kind: Kind::Note, label: format!("♪ {}", label.into()) };
        self.push(&mut state, rung);
    }

    /// The same of the call that this leg is in.
    pub fn note_of_leg(&self, at: Instant, leg: &str, label: impl Into<String>) {
        let mut state = self.state();
        let call = state.legs.map.get(leg).copied().unwrap_or(state.count);
        let label = format!("♪ {}", label.into());
        self.push(&mut state, Rung { at, call, lane: Lane::Application, kind: Kind::Note, label });
    }

    fn push(&self, state: &mut State, rung: Rung) {
        let Some(start) = state.calls.map.get(&rung.call) else { return };
        let since = rung.at.saturating_duration_since(*start).as_secs_f64() * 1000.0;
        let drawn = rung.draw(self.screen.colour());
        // A screen that is behind misses a line; the node waits for nobody.
        self.screen.draw(format!("{since:>9.1}  {:>2}  {drawn}", rung.call));
        if rung.call == 1 && state.first.len() < MAX_RUNGS {
            state.first.push(rung);
            self.grown.notify_waiters();
        }
    }

    /// Waits until both telephones of the first call have said goodbye and were answered.
    pub async fn first_call_ends(&self) {
        loop {
            let mut grown = pin!(self.grown.notified());
            grown.as_mut().enable();
            if self.state().first_is_over() {
                return;
            }
            grown.await;
        }
    }

    fn sip(&self, at: Instant, bytes: &[u8], inward: bool) {
        let text = String::from_utf8_lossy(bytes);
        let Some(id) = header(&text, "Call-ID", "i") else { return };
        let mut state = self.state();
        if !state.telephones.map.contains_key(id) {
            if !text.starts_with("INVITE ") || is_in_dialog(&text) {
                return;
            }
            let lane = if inward { Lane::Caller } else { Lane::Callee };
            if inward {
                self.begin(&mut state, at, &text);
            }
            let call = state.count;
            state.telephones.insert(id.to_owned(), (call, lane));
        }
        let Some(&(call, lane)) = state.telephones.map.get(id) else { return };
        let kind = if inward { Kind::Inward } else { Kind::Outward };
        self.push(&mut state, Rung { at, call, lane, kind, label: sip_label(&text) });
    }

    /// A new call: its heading.
    fn begin(&self, state: &mut State, at: Instant, invite: &str) {
        state.count += 1;
        let call = state.count;
        state.calls.insert(call, at);
        let caller = header(invite, "From", "f").and_then(user).unwrap_or("?");
        let dialled = invite.split_ascii_whitespace().nth(1).and_then(user).unwrap_or("?");
        let lanes: String =
            [format!("phone {caller}"), "node".into(), "application".into(), "phone called".into()]
                .iter()
                .map(|name| format!("{name:<WIDTH$}"))
                .collect();
        self.screen.draw(format!(
            "\ncall {call}: {caller} dials {dialled}\n{:>9}      {}",
            "ms",
            lanes.trim_end()
        ));
    }

    fn cti(&self, at: Instant, bytes: &[u8], inward: bool) {
        let Ok(message) = serde_json::from_slice::<Value>(bytes) else { return };
        let Some(label) = cti_label(&message) else { return };
        let mut state = self.state();
        let leg = &message["params"]["leg"];
        let leg = leg.as_str().or_else(|| leg["leg"].as_str());
        let call = match leg {
            Some(leg) => {
                let call = state.legs.map.get(leg).copied().unwrap_or(state.count);
                state.legs.insert(leg.to_owned(), call);
                call
            }
            None => state.count,
        };
        let kind = if inward { Kind::Inward } else { Kind::Outward };
        self.push(&mut state, Rung { at, call, lane: Lane::Application, kind, label });
    }

    /// How long the steps of the first call took, as the node's own door saw them. What the node did within one step has
    /// one time there: its length can only be measured from outside (`ctimanager bench`), so it is left out.
    #[must_use]
    pub fn timings(&self) -> Vec<Timing> {
        let state = self.state();
        let at = |lane: Lane, label: &str| {
            state.first.iter().find(|r| r.lane == lane && r.label.starts_with(label)).map(|r| r.at)
        };
        // The first INVITE is challenged; the call begins with the one that proves who it is from.
        let offered = at(Lane::Application, "call.offering");
        let invites = state.first.iter().filter(|r| r.lane == Lane::Caller && r.label.starts_with("INVITE"));
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
const WIDTH: usize = 28;
/// Where the lanes stand: the caller, the node, the application, the phone that is called.
const LANES: [usize; 4] = [0, WIDTH, 2 * WIDTH, 3 * WIDTH];
const NODE: usize = LANES[1];

impl Rung {
    fn draw(&self, colour: bool) -> String {
        let lane = self.lane.column();
        let (left, right) = (lane.min(NODE), lane.max(NODE));
        let mut cells: Vec<char> = vec![' '; LANES[3] + 1];
        LANES.iter().for_each(|at| cells[*at] = '│');
        let (from, to) = match self.kind {
            Kind::Note => {
                let end = lane + 2 + self.label.chars().count();
                cells.resize(cells.len().max(end), ' ');
                self.label.chars().enumerate().for_each(|(at, c)| cells[lane + 2 + at] = c);
                (lane + 2, end)
            }
            Kind::Inward | Kind::Outward => {
                cells[left + 1..right].fill('─');
                let to_right = (self.kind == Kind::Inward) == (lane < NODE);
                cells[if to_right { right - 1 } else { left + 1 }] = if to_right { '►' } else { '◄' };
                let label = shortened(&self.label, WIDTH - 6);
                format!(" {label} ").chars().enumerate().for_each(|(at, c)| cells[left + 2 + at] = c);
                (left + 1, right)
            }
        };
        let text = |cells: &[char]| cells.iter().collect::<String>();
        let Some(paint) = self.paint().filter(|_| colour) else { return text(&cells).trim_end().to_owned() };
        format!(
            "{}\x1b[{paint}m{}\x1b[0m{}",
            text(&cells[..from]),
            text(&cells[from..to]),
            text(&cells[to..])
        )
        .trim_end()
        .to_owned()
    }

    /// The colour: what is heard, failures, the application, signalling.
    fn paint(&self) -> Option<u8> {
        // A challenge is no failure.
        let challenged = self.label.starts_with("401 ") || self.label.starts_with("407 ");
        let refused = self.label.starts_with(['4', '5', '6']) && !challenged;
        match (self.kind, self.lane) {
            (Kind::Note, _) => Some(33),
            _ if refused || self.label.starts_with("error ") || self.label == "call.failed" => Some(31),
            (_, Lane::Application) => Some(32),
            (_, Lane::Caller | Lane::Callee) => Some(36),
        }
    }
}

/// At most so many characters, the last one saying that there were more.
fn shortened(label: &str, most: usize) -> String {
    if label.chars().count() <= most {
        return label.to_owned();
    }
    label.chars().take(most - 1).chain(['…']).collect()
}

impl Lane {
    fn column(self) -> usize {
        match self {
            Lane::Caller => LANES[0],
            Lane::Application => LANES[2],
            Lane::Callee => LANES[3],
        }
    }
}

/// The value of a header by its name or its short form.
fn header<'a>(text: &'a str, name: &str, short: &str) -> Option<&'a str> {
    let lines = text.lines().skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_once(':')).find_map(|(key, value)| {
        let key = key.trim();
        (key.eq_ignore_ascii_case(name) || key.eq_ignore_ascii_case(short)).then_some(value.trim())
    })
}

fn is_in_dialog(text: &str) -> bool {
    header(text, "To", "t").is_some_and(|to| to.contains(";tag="))
}

/// The user part of the SIP URI in a text.
fn user(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("sip:").or_else(|| text.split_once("sips:"))?;
    rest.split_once('@').map(|(user, _)| user)
}

/// `INVITE 5000`, `200 OK (INVITE)`.
fn sip_label(text: &str) -> String {
    let start = text.lines().next().unwrap_or_default();
    if let Some(status) = start.strip_prefix("SIP/2.0 ") {
        let method = header(text, "CSeq", "CSeq").and_then(|cseq| cseq.split_ascii_whitespace().nth(1));
        return format!("{status} ({})", method.unwrap_or_default());
    }
    let mut words = start.split_ascii_whitespace();
    let method = words.next().unwrap_or_default();
    match (method, words.next().and_then(user)) {
        ("INVITE", _) if is_in_dialog(text) => "re-INVITE".to_owned(),
        ("INVITE", Some(user)) => format!("INVITE {user}"),
        (other, _) => other.to_owned(),
    }
}

/// The method of a request, the type of an event; answers only where they are errors.
fn cti_label(message: &Value) -> Option<String> {
    let params = &message["params"];
    match message["method"].as_str() {
        Some("event") => {
            let kind = params["type"].as_str()?;
            // What is about the session and not about a call is no part of a ladder.
            if !kind.starts_with("call.") && !kind.starts_with("media.") {
                return None;
            }
            let more = params["direction"].as_str().or_else(|| params["digit"].as_str());
            Some(more.map_or_else(|| kind.to_owned(), |more| format!("{kind} {more}")))
        }
        Some(method) if method.starts_with("call.") => Some(match params["destination"].as_str() {
            Some(destination) => format!("{method} {destination}"),
            None => method.to_owned(),
        }),
        Some(_) => None,
        None => message["error"]["data"]["cti"].as_str().map(|symbol| format!("error {symbol}")),
    }
}

impl Tap for Ladder {
    fn input(&self, now: Instant, input: &Input) {
        match input {
            Input::Sip { bytes, .. } => self.sip(now, bytes, true),
            Input::CtiFrame(_, bytes) => self.cti(now, bytes, true),
            _ => {}
        }
    }

    fn output(&self, now: Instant, output: &Output) {
        match output {
            Output::Sip { bytes, .. } => self.sip(now, bytes, false),
            Output::Cti(_, frame) => self.cti(now, &frame.to_vec(), false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    fn ladder(colour: bool) -> (Ladder, Receiver<String>) {
        let (lines, drawn) = sync_channel(100);
        (Ladder::new(Screen::new(lines, colour)), drawn)
    }

    fn lines(drawn: &Receiver<String>) -> Vec<String> {
        drawn.try_iter().flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    const INVITE: &str =
        "INVITE sip:5000@h SIP/2.0\r\ni: a\r\nf: \"Me\" <sip:2003@h>;tag=1\r\nTo: <sip:5000@h>\r\n\r\n";
    const ONWARD: &str =
        "INVITE sip:2001@p SIP/2.0\r\nCall-ID: b\r\nFrom: <sip:2003@h>;tag=2\r\nTo: <sip:2001@p>\r\n\r\n";

    #[test]
    fn each_message_is_drawn_at_once_and_ends_at_its_lane() {
        let (ladder, drawn) = ladder(false);
        let at = start();
        ladder.sip(at, b"REGISTER sip:h SIP/2.0\r\nCall-ID: r\r\n\r\n", true);
        assert!(lines(&drawn).is_empty(), "no call");
        ladder.sip(at, INVITE.as_bytes(), true);
        ladder.cti(at, br#"{"method":"event","params":{"type":"call.offering","leg":{"leg":"l1"}}}"#, false);
        ladder.note_of_leg(at, "l1", "hears digit 1");
        ladder.cti(
            at,
            br#"{"id":1,"method":"call.redirect","params":{"leg":"l1","destination":"2001"}}"#,
            true,
        );
        ladder.sip(at, ONWARD.as_bytes(), false);
        let answer = "SIP/2.0 407 Proxy Authentication Required\r\nCSeq: 1 INVITE\r\nCall-ID: ";
        ladder.sip(at, format!("{answer}b\r\n\r\n").as_bytes(), true);
        ladder.sip(at, format!("{answer}a\r\n\r\n").as_bytes(), false);
        assert_eq!(
            lines(&drawn),
            [
                "",
                "call 1: 2003 dials 5000",
                "       ms      phone 2003                  node                        application                 phone called",
                "      0.0   1  │─ INVITE 5000 ────────────►│                           │                           │",
                "      0.0   1  │                           │─ call.offering ──────────►│                           │",
                "      0.0   1  │                           │                           │ ♪ hears digit 1           │",
                "      0.0   1  │                           │◄ call.redirect 2001 ──────│                           │",
                "      0.0   1  │                           │─ INVITE 2001 ────────────────────────────────────────►│",
                "      0.0   1  │                           │◄ 407 Proxy Authenticat… ──────────────────────────────│",
                "      0.0   1  │◄ 407 Proxy Authenticat… ──│                           │                           │",
            ]
        );
    }

    #[test]
    fn calls_side_by_side_are_told_apart() {
        let (ladder, drawn) = ladder(false);
        let at = start();
        ladder.sip(at, INVITE.as_bytes(), true);
        ladder.cti(at, br#"{"method":"event","params":{"type":"call.offering","leg":{"leg":"l1"}}}"#, false);
        ladder.sip(at, INVITE.replace("i: a", "i: c").as_bytes(), true);
        ladder.cti(at, br#"{"method":"event","params":{"type":"call.offering","leg":{"leg":"l2"}}}"#, false);
        ladder.cti(at, br#"{"method":"event","params":{"type":"call.connected","leg":{"leg":"l1"}}}"#, false);
        let shown = lines(&drawn);
        let of = |what: &str| {
            let line = shown.iter().rfind(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}"));
            line.split_ascii_whitespace().nth(1).map(str::to_owned)
        };
        assert_eq!((of("call.offering"), of("call.connected")), (Some("2".into()), Some("1".into())));
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let (plain, of_plain) = ladder(false);
        let (bright, of_bright) = ladder(true);
        let at = start();
        for ladder in [&plain, &bright] {
            ladder.sip(at, INVITE.as_bytes(), true);
            ladder.note(at, Lane::Callee, "hears 700 Hz, a longer note than the lane is wide");
            ladder.cti(at, br#"{"id":1,"error":{"data":{"cti":"DESTINATION_BUSY"}}}"#, false);
        }
        let bright: Vec<String> = lines(&of_bright);
        assert!(bright.iter().filter(|line| line.contains("\x1b[")).count() == 3, "{bright:?}");
        let bare: Vec<String> = bright
            .iter()
            .map(|line| {
                ["\x1b[36m", "\x1b[33m", "\x1b[31m", "\x1b[0m"]
                    .iter()
                    .fold(line.clone(), |l, c| l.replace(c, ""))
            })
            .collect();
        assert_eq!(bare, lines(&of_plain));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (ladder, _drawn) = ladder(false);
        for n in 0..1_000 {
            ladder.sip(start(), INVITE.replace("i: a", &format!("i: {n}")).as_bytes(), true);
        }
        let state = ladder.state();
        assert_eq!((state.telephones.map.len(), state.calls.map.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        assert!(state.first.len() <= MAX_RUNGS);
    }
}
