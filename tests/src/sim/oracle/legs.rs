//! Legs as applications are told of them: how long each may stay where it is, whose parties and data it shows, and why it
//! ends (protocol §4).

use super::plan::{Kind, MEDIA_EXCHANGE, NEW_CALL_ACCEPT, Plan, RINGS};
use super::sessions::Asked;
use super::wire::{party, text, time_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// The parties of a leg that a redirect changes, and a redirect that fails must not.
const PARTIES: [&str; 4] = ["calling", "called", "original_called", "last_redirecting"];
/// Timers of the node and of this page count the same microseconds; events are dated in milliseconds.
const ONE_MILLISECOND: Duration = Duration::from_millis(1);
const ROUNDING: Duration = Duration::from_millis(2);

/// A stream of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) address: Option<SocketAddr>,
}

/// A leg as it was told last.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) device: String,
    pub(super) dn: String,
    call: String,
    pub(super) state: String,
    /// Who calls.
    pub(super) calling: String,
    /// It was there when somebody came: since when is not known.
    known_from: Option<Duration>,
    /// Since when it is in its state.
    since: Duration,
    /// When that was said, which may be in a replay.
    heard: Duration,
    /// A replay told of it: what came after that may have been told to others, or to nobody who still has the device.
    replayed: bool,
    /// When something that was asked of it was answered last.
    pub(super) answered: Option<(Duration, String)>,
    /// What was asked of it last and is not answered. Who asked may be gone before he is.
    asked: Option<(Duration, String)>,
    /// Redirects that are not decided.
    pub(super) redirects: u32,
    redirected: bool,
    /// Who calls has given up: at the moment of a timer either may be first.
    given_up: bool,
    before: Option<Value>,
    must_show: Option<Value>,
    last_event: Duration,
    told: BTreeSet<u64>,
    /// Where the application receives, of a leg with an address of its own.
    pub(super) address: Option<SocketAddr>,
    pub(super) input: Option<Stream>,
    pub(super) output: Option<Stream>,
    /// Where its media went last.
    pub(super) far: Option<SocketAddr>,
    whole: Value,
}

/// Something about a leg that others want to know.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// The first event of a leg.
    Arrived(Value),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Legs {
    legs: BTreeMap<String, Leg>,
    gone: BTreeSet<String>,
    /// When a device was unrestricted last: the legs that are told of then began before.
    unrestricted: BTreeMap<String, Duration>,
    /// The data of each call.
    data: BTreeMap<String, Value>,
    /// When the node died last.
    died: Duration,
}

impl Legs {
    pub(super) fn node_died(&mut self, now: Duration) {
        *self = Self { died: now, ..Self::default() };
    }

    pub(super) fn get(&self, leg: &str) -> Option<&Leg> {
        self.legs.get(leg)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Leg)> + Clone {
        self.legs.iter()
    }

    /// An application wants something of a leg.
    pub(super) fn asked(&mut self, now: Duration, asked: &Asked) {
        let Some(leg) = self.legs.get_mut(text(&asked.params, "leg")) else { return };
        leg.asked = Some((now, asked.method.clone()));
        if asked.method == "call.redirect" {
            let call = leg.call.clone();
            if leg.redirects == 0 && leg.before.is_none() {
                leg.before = Some(leg.whole.clone());
            }
            leg.redirects += 1;
            leg.redirected = true;
            // From now on its other legs may see something else than after a redirect that failed before.
            self.legs.values_mut().filter(|leg| leg.call == call).for_each(|leg| leg.must_show = None);
        }
    }

    /// The caller of this number has given up.
    pub(super) fn given_up(&mut self, calling: &str) {
        self.legs.values_mut().filter(|leg| leg.calling == calling).for_each(|leg| leg.given_up = true);
    }

    /// And has its answer, which may be so late.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        late: Duration,
        asked: &Asked,
        result: &Value,
        error: &Value,
    ) {
        match asked.method.as_str() {
            "call.make" if error.is_null() => {
                let data = asked.params["user_data"].clone();
                self.data.insert(text(result, "call").to_owned(), data);
            }
            "device.open" if error.is_null() => self.looked_at(now, late, &asked.params, result),
            _ => {}
        }
        let id = text(&asked.params, "leg");
        let Some(leg) = self.legs.get_mut(id) else { return };
        leg.asked = leg.asked.take().filter(|(_, method)| *method != asked.method);
        leg.answered = Some((now, asked.method.clone())).filter(|_| error.is_null()).or(leg.answered.take());
        let (call, sent_on) = (leg.call.clone(), asked.method == "call.redirect" && error.is_null());
        match asked.method.as_str() {
            "call.redirect" => leg.redirect_decided(now, asked, error),
            "call.set_media" if error.is_null() => {
                let address = format!("{}:{}", text(&asked.params, "ip"), asked.params["port"]);
                leg.address = address.parse().ok();
            }
            _ => {}
        }
        if sent_on {
            // Whoever stays sees where the call went.
            self.legs.values_mut().filter(|leg| leg.call == call).for_each(|leg| leg.must_show = None);
        }
    }

    /// What is there when a device is opened is all that is there.
    fn looked_at(&mut self, now: Duration, late: Duration, params: &Value, result: &Value) {
        let device = text(params, "device");
        let listed = || result["legs"].as_array().into_iter().flatten();
        if result["cursor"].is_null() {
            let there: BTreeSet<&str> = listed().map(|leg| text(leg, "leg")).collect();
            let (stay, over): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.legs)
                .into_iter()
                .partition(|(id, leg)| leg.device != device || there.contains(id.as_str()));
            self.legs = stay;
            self.gone.extend(over.into_keys());
        }
        for leg in listed() {
            let id = text(leg, "leg");
            let known = self.legs.get(id).is_some_and(|known| known.whole["state"] == leg["state"]);
            if !self.gone.contains(id) && !known {
                let seen = Leg { last_event: now.saturating_sub(late), ..Leg::new(leg, now, None) };
                self.legs.insert(id.to_owned(), seen);
            }
        }
    }

    /// One event that a session was not told before.
    pub(super) fn told(
        &mut self,
        now: Duration,
        slack: Duration,
        plan: &Plan,
        event: &Value,
        number: u64,
    ) -> Result<Option<News>, String> {
        let (view, at) = (&event["leg"], time_of(event).unwrap_or(now));
        let id = text(view, "leg");
        if text(event, "type").ends_with(".unrestricted") {
            self.unrestricted.insert(text(&event["device"], "name").to_owned(), at);
        }
        if id.is_empty() || self.gone.contains(id) {
            return Ok(None);
        }
        self.data_travels(view)?;
        let fresh = !self.legs.contains_key(id);
        let call = text(view, "call");
        let undecided = self.legs.values().any(|leg| leg.call == call && leg.redirects > 0);
        let began_before =
            self.unrestricted.get(text(view, "device")).is_some_and(|then| at <= *then + slack);
        // What ended with an earlier life of the node is told in a replay, with its own time.
        let known_from = Some(at).filter(|_| !began_before && at > self.died);
        let seen = || Leg { heard: now, ..Leg::new(view, at, known_from) };
        let leg = self.legs.entry(id.to_owned()).or_insert_with(seen);
        // Another session has heard this, or later news.
        if at + ONE_MILLISECOND <= leg.last_event || !leg.told.insert(number) {
            return Ok(None);
        }
        leg.last_event = at;
        leg.replayed = at + slack < now;
        if !undecided {
            leg.parties_as_before(view)?;
        }
        let before = std::mem::replace(&mut leg.state, text(view, "state").to_owned());
        let stayed = leg.since;
        if before != leg.state {
            (leg.since, leg.heard) = (at, now);
        }
        leg.whole = view.clone();
        leg.media(event);
        if text(event, "type") == "media.open_channel" && matches!(&*leg.state, "offering" | "ringing") {
            // It is answered, whoever did that and whether or not he is told.
            leg.answered = Some((at, "call.answer".to_owned()));
        }
        if leg.state == "disconnected" {
            let leg = self.legs.remove(id);
            self.gone.insert(id.to_owned());
            if let Some(leg) = leg {
                leg.ends_rightly(plan, slack, &before, stayed, at)?;
            }
        }
        Ok(fresh.then(|| News::Arrived(view.clone())))
    }

    /// User data travel with the call, whatever becomes of it.
    fn data_travels(&mut self, view: &Value) -> Result<(), String> {
        let (call, data) = (text(view, "call"), &view["user_data"]);
        let empty = |data: &Value| data.as_object().is_none_or(serde_json::Map::is_empty);
        let known = self.data.entry(call.to_owned()).or_insert_with(|| data.clone());
        if known == data || (empty(known) && empty(data)) {
            return Ok(());
        }
        Err(format!("the data of {call} were {known}, and now {data}: {view}"))
    }

    /// What stands still for too long, where somebody would have been told that it moves.
    pub(super) fn due(
        &self,
        now: Duration,
        slack: Duration,
        plan: &Plan,
        watched: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        for (id, leg) in &self.legs {
            let Some(limit) = leg.limit(plan) else { continue };
            if now > limit + slack && !plan.is_restricted(&leg.device, &leg.dn) && watched(&leg.device) {
                return Err(format!(
                    "{id} at {} is {} since {:?}, {:?} was answered, and nothing comes of it",
                    leg.device, leg.state, leg.since, leg.answered
                ));
            }
        }
        Ok(())
    }

    /// The configuration has changed: what timers run no longer follows from what was told.
    pub(super) fn touched(&mut self, now: Duration) {
        self.legs.values_mut().for_each(|leg| (leg.known_from, leg.since) = (None, now));
    }
}

impl Leg {
    fn new(view: &Value, at: Duration, known_from: Option<Duration>) -> Self {
        Self {
            device: text(view, "device").to_owned(),
            dn: text(view, "dn").to_owned(),
            call: text(view, "call").to_owned(),
            state: text(view, "state").to_owned(),
            calling: party(view, "calling").unwrap_or_default().to_owned(),
            // A leg that calls ends for reasons of where it calls.
            known_from: known_from.filter(|_| text(view, "state") == "offering"),
            since: at,
            heard: at,
            replayed: false,
            answered: None,
            asked: None,
            redirects: 0,
            redirected: false,
            given_up: false,
            before: None,
            must_show: None,
            last_event: Duration::ZERO,
            told: BTreeSet::new(),
            address: None,
            input: None,
            output: None,
            far: None,
            whole: view.clone(),
        }
    }

    fn redirect_decided(&mut self, now: Duration, asked: &Asked, error: &Value) {
        self.redirects = self.redirects.saturating_sub(1);
        let kind = text(&error["data"], "cti");
        let failed = kind.starts_with("DESTINATION_") || kind == "TIMEOUT";
        if failed || kind == "NO_SUCH_LEG" {
            // Its timers begin anew, or its end follows.
            self.answered = Some((now, asked.method.clone()));
        }
        if failed && asked.params["keep_on_failure"] != false {
            self.must_show = self.before.take();
        } else if error.is_null() {
            (self.before, self.must_show) = (None, None);
        }
        if self.redirects == 0 {
            self.before = None;
        }
    }

    /// A leg whose redirect has failed is as it was.
    fn parties_as_before(&mut self, view: &Value) -> Result<(), String> {
        let Some(before) = &self.must_show else { return Ok(()) };
        let other = PARTIES.into_iter().find(|name| before[*name] != view[*name]);
        match other {
            Some(name) => Err(format!(
                "a redirect of {} failed, {name} was {}, and now is {}",
                view["leg"], before[name], view[name]
            )),
            None => Ok(()),
        }
    }

    fn media(&mut self, event: &Value) {
        let address = || format!("{}:{}", text(event, "ip"), event["port"]).parse().ok();
        let input = event["direction"] == "input";
        match text(event, "type") {
            "media.open_channel" => self.address = None,
            "media.started" => {
                let stream = Stream { address: address() };
                if input {
                    self.input = Some(stream);
                } else {
                    self.far = stream.address;
                    self.output = Some(stream);
                }
            }
            "media.stopped" if input => self.input = None,
            "media.stopped" => self.output = None,
            _ => {}
        }
    }

    /// Until when it must have left its state, if something drives it on.
    fn limit(&self, plan: &Plan) -> Option<Duration> {
        let kind = plan.kind(&self.device)?;
        let since = self.since.max(self.heard);
        let done = || self.answered.iter().chain(&self.asked);
        let from = done().map(|(at, _)| *at).fold(since, Duration::max);
        let answered = done().find(|(at, method)| *at >= self.since && method == "call.answer");
        if self.replayed
            || self.redirects > 0
            || self.redirected && answered.is_none() && self.state == "ringing"
        {
            return None;
        }
        match (self.state.as_str(), kind) {
            (_, Kind::Phone) => None,
            ("offering" | "ringing", _) if answered.is_some() => Some(from + MEDIA_EXCHANGE),
            ("offering", Kind::RoutePoint) if self.asked.is_none() => Some(from + NEW_CALL_ACCEPT),
            ("offering" | "ringing", _) => Some(from + RINGS),
            _ => None,
        }
    }

    /// Why a leg ended, where what was done to it leaves one reason.
    fn ends_rightly(
        &self,
        plan: &Plan,
        slack: Duration,
        before: &str,
        since: Duration,
        at: Duration,
    ) -> Result<(), String> {
        let cause = self.whole["cause"]["code"].as_u64().unwrap_or(0);
        let said = |method: &str| {
            self.answered.as_ref().is_some_and(|(when, last)| last == method && at <= *when + slack)
        };
        let talked = matches!(before, "connected" | "held");
        let expected = match before {
            "offering" | "ringing" if said("call.reject") => Some(21),
            "connected" | "held" if said("call.drop") => Some(16),
            _ => None,
        };
        if expected.is_some_and(|expected| expected != cause) {
            return Err(format!("{} was asked for, and the leg ended with {}", self.done(), self.whole));
        }
        let (Some(begun), false, false) = (self.known_from, talked, self.redirected) else { return Ok(()) };
        let Some(kind) = plan.kind(&self.device) else { return Ok(()) };
        let alone = self.answered.is_none() && self.asked.is_none() && !self.given_up;
        let untouched = alone && before == "offering" && kind == Kind::RoutePoint;
        if untouched
            && at >= since + NEW_CALL_ACCEPT
            && at <= since + NEW_CALL_ACCEPT + ROUNDING
            && cause != 19
        {
            return Err(format!("nobody took the call, and the leg ended with {}", self.whole));
        }
        let least = if kind == Kind::RoutePoint && before == "offering" { NEW_CALL_ACCEPT } else { RINGS };
        if cause == 19 && at + ROUNDING < begun + least {
            return Err(format!(
                "begun at {begun:?}, and ended for want of an answer at {at:?}: {}",
                self.whole
            ));
        }
        Ok(())
    }

    fn done(&self) -> &str {
        self.answered.as_ref().map_or("nothing", |(_, method)| method)
    }
}
