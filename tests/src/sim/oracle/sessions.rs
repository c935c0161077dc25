//! Who is there of the applications, and what each has open: heartbeats, graces, resumes, and whom an event may reach
//! (protocol §2).

use super::wire::text;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Events of a session that are remembered, to compare a replay with what was told.
const REMEMBERED: usize = 400;
/// What a resumed session missed has been written by then.
const CAUGHT_UP: Duration = Duration::from_secs(2);
/// How exactly the last moment of a node's earlier life is known to the next one.
const LAST_MOMENT: Duration = Duration::from_millis(1_500);

/// A request that has no answer yet.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) params: Value,
}

/// A connection from an application.
#[derive(Debug, Default)]
struct Line {
    session: Option<String>,
    asked: BTreeMap<u64, Asked>,
    heard: Duration,
    /// It was told why it ends.
    told_why: bool,
}

/// A session as its application knows it from what it was answered and told.
#[derive(Debug)]
struct Session {
    user: String,
    connection: Option<u64>,
    /// Since when somebody listens, or nobody.
    since: Duration,
    /// The moment from which the grace counts is not known exactly.
    vague: bool,
    grace: Duration,
    heartbeat: Duration,
    devices: BTreeMap<String, Duration>,
    /// It may have them open: the answer went down with its connection.
    perhaps: BTreeSet<String>,
    last_seq: u64,
    told: VecDeque<(u64, u64)>,
    /// What the node said last before its death went down with it: it may number anew what nobody had read beyond this.
    anew_after: Option<u64>,
    /// Keys that were asked with, and those that have had their first answer.
    asked: BTreeSet<String>,
    keys: BTreeSet<String>,
    /// Keys of which a node that died may have lost the answer, before anybody had it.
    lost_keys: BTreeSet<String>,
    ended: bool,
}

/// What was read of a frame of the node's.
pub(super) enum Heard {
    /// Nothing that others need to know.
    Nothing,
    /// The first answer to a request.
    Answer { asked: Asked, result: Value, error: Value },
    /// An event that was not told before.
    Event(Value),
}

/// Who has a device open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Openers {
    Some,
    NoneSince(Duration),
    /// Not known exactly, or somebody may have it.
    Unknown,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    lines: BTreeMap<u64, Line>,
    sessions: BTreeMap<String, Session>,
    /// Since when nobody has the device, where it is known.
    deserted: BTreeMap<String, Duration>,
}

impl Sessions {
    /// A request of an application's; nothing before it has a session, and for what was asked before.
    pub(super) fn asked(&mut self, now: Duration, connection: u64, frame: &Value) -> Option<Asked> {
        let line = self.lines.entry(connection).or_default();
        line.heard = now;
        let asked = Asked { method: text(frame, "method").to_owned(), params: frame["params"].clone() };
        line.asked.insert(frame["id"].as_u64()?, asked.clone());
        let session = line.session.as_ref().and_then(|id| self.sessions.get_mut(id))?;
        let repeated = asked.params["idem"].as_str().is_some_and(|key| !session.asked.insert(key.to_owned()));
        (!repeated).then_some(asked)
    }

    /// The session of a connection, if it has one.
    fn session_of(&self, connection: u64) -> Option<&str> {
        self.lines.get(&connection)?.session.as_deref()
    }

    /// One frame of the node's.
    pub(super) fn said(
        &mut self,
        now: Duration,
        slack: Duration,
        connection: u64,
        frame: &Value,
        number: u64,
    ) -> Result<Heard, String> {
        if frame["method"] == "event" {
            return self.event(now, connection, &frame["params"], number);
        }
        let Some(line) = self.lines.get_mut(&connection) else { return Ok(Heard::Nothing) };
        let Some(asked) = frame["id"].as_u64().and_then(|id| line.asked.remove(&id)) else {
            return Err(format!("nobody on {connection} has asked what is answered: {frame}"));
        };
        let (result, error) = (frame["result"].clone(), frame["error"].clone());
        if asked.method == "provider.open" && error.is_null() {
            self.opened(now, slack, connection, &asked.params, &result)?;
            return Ok(Heard::Nothing);
        }
        let Some(session) = line.session.as_ref().and_then(|id| self.sessions.get_mut(id)) else {
            return Ok(Heard::Nothing);
        };
        // A repeat has the first answer, which may be true no more.
        let put_off = error["data"]["cti"] == "RATE_LIMITED";
        if let Some(key) = asked.params["idem"].as_str().filter(|_| !put_off)
            && !session.keys.insert(key.to_owned())
        {
            if asked.method == "device.open" && error.is_null() && session.lost_keys.contains(key) {
                session.perhaps.insert(text(&asked.params, "device").to_owned());
            }
            return Ok(Heard::Nothing);
        }
        let device = text(&asked.params, "device");
        match asked.method.as_str() {
            "device.open" if error.is_null() || error["data"]["cti"] == "DEVICE_ALREADY_OPEN" => {
                session.devices.entry(device.to_owned()).or_insert(now);
                self.deserted.remove(device);
            }
            "device.close" if error.is_null() => {
                session.devices.remove(device);
                self.let_go(now, device);
            }
            "provider.close" if error.is_null() => {
                if let Some(id) = line.session.clone() {
                    self.end(now, &id);
                }
            }
            _ => {}
        }
        Ok(Heard::Answer { asked, result, error })
    }

    fn opened(
        &mut self,
        now: Duration,
        slack: Duration,
        connection: u64,
        params: &Value,
        result: &Value,
    ) -> Result<(), String> {
        let id = text(result, "session").to_owned();
        let wished = text(&params["resume"], "session");
        self.resume_is_right(now, slack, params, result)?;
        let duration = |name: &str| Duration::from_millis(result[name].as_u64().unwrap_or(0));
        let fresh = Session {
            user: text(params, "user").to_owned(),
            connection: None,
            since: now,
            vague: false,
            grace: Duration::ZERO,
            heartbeat: Duration::ZERO,
            devices: BTreeMap::new(),
            perhaps: BTreeSet::new(),
            last_seq: 0,
            told: VecDeque::new(),
            anew_after: None,
            asked: BTreeSet::new(),
            keys: BTreeSet::new(),
            lost_keys: BTreeSet::new(),
            ended: false,
        };
        if result["resumed"] != true && result["reason"] == "log_overrun" {
            self.end(now, wished);
        }
        let session = self.sessions.entry(id.clone()).or_insert(fresh);
        if session.vague {
            session.anew_after = params["resume"]["last_seq"].as_u64();
        }
        (session.connection, session.since, session.vague) = (Some(connection), now, false);
        (session.grace, session.heartbeat) = (duration("resume_grace_ms"), duration("heartbeat_ms"));
        let line = self.lines.entry(connection).or_default();
        (line.session, line.heard) = (Some(id), now);
        Ok(())
    }

    /// Within the grace a session goes on, after it it is expired, and another user's is nobody's.
    fn resume_is_right(
        &self,
        now: Duration,
        slack: Duration,
        params: &Value,
        result: &Value,
    ) -> Result<(), String> {
        let wished = text(&params["resume"], "session");
        let Some(session) = self.sessions.get(wished) else { return Ok(()) };
        let (resumed, reason) = (result["resumed"] == true, text(result, "reason"));
        if session.user != text(params, "user") {
            return match (resumed, reason) {
                (false, "unknown_session") => Ok(()),
                _ => {
                    Err(format!("another user's session {wished} was asked for, and the answer is {result}"))
                }
            };
        }
        let over = session.since + session.grace;
        match session.connection {
            _ if session.vague => Ok(()),
            None if resumed && now > over + slack => {
                Err(format!("{wished} was lost at {:?} for {:?}, and goes on", session.since, session.grace))
            }
            None if reason == "expired" && !session.ended && now + slack < over => Err(format!(
                "{wished} was lost at {:?} for {:?}, and is expired",
                session.since, session.grace
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn event(&mut self, now: Duration, connection: u64, event: &Value, number: u64) -> Result<Heard, String> {
        let kind = text(event, "type");
        let Some(id) = self.session_of(connection).map(str::to_owned) else { return Ok(Heard::Nothing) };
        if event["seq"].is_null() {
            return self.about_the_connection(now, connection, &id, event);
        }
        let seq = event["seq"].as_u64().unwrap_or(0);
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.ended) else {
            return Ok(Heard::Nothing);
        };
        if seq <= session.last_seq {
            match session.told.iter().find(|(known, _)| *known == seq) {
                Some((_, told)) if *told != number => {}
                Some(_) | None => return Ok(Heard::Nothing),
            }
            if session.anew_after.is_none_or(|read| seq <= read) {
                return Err(format!(
                    "the replay tells event {seq} of {id} otherwise than it was told: {event}"
                ));
            }
            session.told.retain(|(known, _)| *known < seq);
        }
        session.last_seq = seq;
        session.told.push_back((seq, number));
        if session.told.len() > REMEMBERED {
            session.told.pop_front();
        }
        let device = text(&event["device"], "name").to_owned();
        if matches!(kind, "device.closed" | "device.removed") {
            session.devices.remove(&device);
            session.perhaps.remove(&device);
            self.let_go(now, &device);
            return Ok(Heard::Event(event.clone()));
        }
        let device = text(&event["leg"], "device");
        if !device.is_empty() && !session.devices.contains_key(device) && !session.perhaps.contains(device) {
            return Err(format!("{} has not opened {device}, and {id} is told {event}", session.user));
        }
        Ok(Heard::Event(event.clone()))
    }

    fn about_the_connection(
        &mut self,
        now: Duration,
        connection: u64,
        id: &str,
        event: &Value,
    ) -> Result<Heard, String> {
        let heard = self.lines.get(&connection).map_or(now, |line| line.heard);
        if let Some(line) = self.lines.get_mut(&connection) {
            line.told_why |= matches!(text(event, "type"), "session.closed" | "session.superseded");
        }
        let Some(session) = self.sessions.get(id) else { return Ok(Heard::Nothing) };
        match text(event, "reason") {
            "heartbeat_timeout" if now < heard + 2 * session.heartbeat => Err(format!(
                "{id} was heard at {heard:?}, its heartbeat is {:?}, and it is given up at {now:?}",
                session.heartbeat
            )),
            "user_deleted" | "not_cti_enabled" => {
                self.end(now, id);
                Ok(Heard::Nothing)
            }
            _ => Ok(Heard::Nothing),
        }
    }

    /// A connection with a provider is closed with a reason.
    pub(super) fn says_why(&self, connection: u64) -> Result<(), String> {
        let silent = self.lines.get(&connection).filter(|line| line.session.is_some() && !line.told_why);
        let ended = |id: &String| self.sessions.get(id).is_some_and(|session| session.ended);
        match silent.and_then(|line| line.session.as_ref()).filter(|id| !ended(id)) {
            Some(id) => Err(format!("the connection of {id} is closed without a word")),
            None => Ok(()),
        }
    }

    /// The node has stopped.
    pub(super) fn nobody_is_connected(&self) -> Result<(), String> {
        match self.lines.iter().find(|(_, line)| line.session.is_some()) {
            Some((connection, line)) => {
                Err(format!("the node has stopped, and {connection} of {:?} is connected", line.session))
            }
            None => Ok(()),
        }
    }

    /// The connection is gone, as the node knows.
    pub(super) fn lost(&mut self, now: Duration, connection: u64) {
        let Some(line) = self.lines.remove(&connection) else { return };
        let Some(session) = line.session.and_then(|id| self.sessions.get_mut(&id)) else { return };
        let opens = line.asked.values().filter(|asked| asked.method == "device.open");
        session.perhaps.extend(opens.map(|asked| text(&asked.params, "device").to_owned()));
        if session.connection == Some(connection) {
            (session.connection, session.since) = (None, now);
        }
    }

    /// The node is dead; where it keeps its sessions those with a grace outlive it.
    pub(super) fn node_died(&mut self, now: Duration, keeps: bool) {
        self.lines.clear();
        self.deserted.clear();
        self.sessions.retain(|_, session| keeps && session.grace > Duration::ZERO && !session.ended);
        for session in self.sessions.values_mut() {
            session.vague = true;
            session.lost_keys.clone_from(&session.keys);
            if session.connection.take().is_some() {
                session.since = now;
            }
        }
    }

    /// Another configuration is in force, in which some users may not come any more.
    pub(super) fn dismiss(&mut self, now: Duration, admitted: impl Fn(&str) -> bool) {
        let gone = self.sessions.iter().filter(|(_, session)| !admitted(&session.user));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.end(now, id));
    }

    fn end(&mut self, now: Duration, id: &str) {
        let Some(session) = self.sessions.get_mut(id).filter(|session| !session.ended) else { return };
        session.ended = true;
        let vague = session.vague;
        let devices = std::mem::take(&mut session.devices);
        for device in devices.keys().filter(|_| !vague) {
            self.let_go(now, device);
        }
    }

    fn let_go(&mut self, now: Duration, device: &str) {
        if self.sessions.values().all(|session| !session.may_have(device)) {
            self.deserted.entry(device.to_owned()).or_insert(now);
        }
    }

    /// What is over by now; who is silent for too long without having been given up.
    pub(super) fn due(&mut self, now: Duration, slack: Duration) -> Result<(), String> {
        for (connection, line) in &self.lines {
            let session = line.session.as_ref().and_then(|id| self.sessions.get(id));
            let Some(session) = session.filter(|session| session.connection == Some(*connection)) else {
                continue;
            };
            if now > line.heard + 2 * session.heartbeat + slack {
                return Err(format!(
                    "an application of {} was heard last at {:?}, its heartbeat is {:?}, and it is not given up",
                    session.user, line.heard, session.heartbeat
                ));
            }
        }
        let over = |session: &&Session| session.connection.is_none() && !session.ended;
        let late = self.sessions.iter().filter(|(_, session)| over(session) && session.until() <= now);
        let late: Vec<(String, Duration)> = late.map(|(id, session)| (id.clone(), session.until())).collect();
        late.into_iter().for_each(|(id, at)| self.end(at, &id));
        Ok(())
    }

    pub(super) fn openers(&self, now: Duration, device: &str) -> Openers {
        // Whose grace is over may be given up already.
        let has = |one: &Session| {
            let lives = one.connection.is_some() || now < one.since + one.grace;
            lives && !one.vague && one.devices.contains_key(device)
        };
        let have: Vec<&Session> = self.sessions.values().filter(|session| session.may_have(device)).collect();
        match (have.as_slice(), self.deserted.get(device)) {
            ([], Some(since)) => Openers::NoneSince(*since),
            ([], None) => Openers::Unknown,
            (have, _) if have.iter().any(|one| has(one)) => Openers::Some,
            _ => Openers::Unknown,
        }
    }

    /// Whether somebody has been told all that happens at the device, for a while.
    pub(super) fn is_watched(&self, now: Duration, device: &str) -> bool {
        self.sessions.values().any(|session| {
            let open = session.devices.get(device).is_some_and(|since| now >= *since + CAUGHT_UP);
            session.connection.is_some() && now >= session.since + CAUGHT_UP && open && !session.ended
        })
    }
}

impl Session {
    fn may_have(&self, device: &str) -> bool {
        !self.ended && (self.devices.contains_key(device) || self.perhaps.contains(device))
    }

    /// When it has failed for sure, if nobody comes back.
    fn until(&self) -> Duration {
        self.since + self.grace + if self.vague { LAST_MOMENT } else { Duration::ZERO }
    }
}
