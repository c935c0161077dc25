//! Where calls from the trunk go: each has a number of its own, by which its legs and INVITEs are known. A call that comes to
//! another number has a reason and shows who sent it there; who called hears the true end (protocol §4, reference §5).

use super::plan::{Kind, Plan, RINGS};
use super::sessions::Openers;
use super::wire::{SipMessage, Way, party, text};
use serde_json::Value;
use sip::message::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the numbers begin that the trunk's callers have.
pub(in crate::sim) const CALLERS: &str = "0302";
/// The trunk's peer.
const TRUNK: &str = "pstn";
/// What follows from one happening follows within this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Events are dated in milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);
/// Forwards that nobody may have seen, for no application was connected, one after the other.
const UNSEEN: usize = 3;

/// A number at which a call has been.
#[derive(Clone, Debug)]
struct Stop {
    number: String,
    at: Duration,
    /// An application has heard of it there.
    seen: bool,
}

/// What a phone said to a call.
#[derive(Clone, Debug)]
struct Refusal {
    number: String,
    status: u16,
    at: Duration,
    /// To where it sends the call.
    contacts: Vec<String>,
}

/// An application sends the call on.
#[derive(Clone, Debug)]
struct Redirect {
    from: String,
    to: String,
    undecided: bool,
    decided_at: Duration,
    /// The call is where it was sent, whether anybody there is told or not.
    succeeded: bool,
    /// Where the call is again if it fails.
    back: Option<String>,
}

/// A call.
#[derive(Clone, Debug)]
struct Journey {
    caller: String,
    begun: Duration,
    path: Vec<Stop>,
    cancelled: bool,
    answered: bool,
    refusals: Vec<Refusal>,
    redirects: Vec<Redirect>,
    rejected: Option<Duration>,
    /// An application that has taken the call drops it: its 200 may still wait for the caller's PRACK (RFC 3262 §3).
    dropped: Option<Duration>,
    /// Since then another configuration is in force.
    other_plan: bool,
    /// Forwards of all calls, from and to, that applications have changed since: it may have followed them unseen.
    earlier_forwards: BTreeSet<(String, String)>,
}

/// An INVITE of the node's.
#[derive(Clone, Debug)]
struct Sent {
    caller: String,
    number: String,
    device: &'static str,
    at: Duration,
    /// Since when it rings, as the node knows.
    rings: Option<Duration>,
}

/// All calls from the trunk that are not over, by Call-ID.
#[derive(Debug, Default)]
pub(super) struct Journeys {
    calls: BTreeMap<String, Journey>,
    sent: BTreeMap<String, Sent>,
    /// Calls that are over: their INVITEs may come again.
    over: BTreeSet<String>,
    /// The configuration before the last change.
    before: Plan,
}

/// How a call came to a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) number: &'a str,
    /// Where it is known.
    pub(super) reason: Option<&'a str>,
    pub(super) last: Option<&'a str>,
    pub(super) original: Option<&'a str>,
}

impl Journeys {
    pub(super) fn node_died(&mut self) {
        self.calls.clear();
        self.sent.clear();
    }

    pub(super) fn configured(&mut self, before: &Plan) {
        self.before = before.clone();
        self.calls.values_mut().for_each(|journey| journey.other_plan = true);
    }

    /// Calls of this number go elsewhere from now on.
    pub(super) fn forward_changes(&mut self, plan: &Plan, dn: &str) {
        let before: Vec<_> = plan.all_calls_go(dn).map(|to| (dn.to_owned(), to.to_owned())).collect();
        for journey in self.calls.values_mut() {
            journey.earlier_forwards.extend(before.iter().cloned());
        }
    }

    pub(super) fn sip(
        &mut self,
        now: Duration,
        plan: &Plan,
        openers: impl Fn(&str) -> Openers,
        calls_at: impl Fn(&str) -> usize,
        message: &SipMessage,
    ) -> Result<(), String> {
        let begins = message.status.is_none() && message.method == Method::Invite && !message.to_tag;
        match (message.way, message.status) {
            (Way::ToNode, None) if begins && message.from.starts_with(CALLERS) => self.begin(now, message),
            (Way::ToNode, None) if message.method == Method::Cancel => {
                if let Some(journey) = self.calls.get_mut(&message.call_id) {
                    journey.cancelled = true;
                }
            }
            (Way::FromNode, None) if message.method == Method::Cancel => {
                self.sent.remove(&message.call_id);
            }
            (Way::FromNode, None) if begins => return self.on_the_way(now, plan, message),
            (_, None) if message.method == Method::Bye => self.end(&message.call_id),
            (Way::ToNode, Some(status)) if message.method == Method::Invite => {
                self.phone_says(now, status, message);
            }
            (Way::FromNode, Some(status)) if message.method == Method::Invite => {
                // A phone that has calls may be busy without a word of its own.
                let busy = |dn: &str| plan.appearances(dn).any(|(device, _)| calls_at(device) > 1);
                return self.caller_hears(now, plan, openers, busy, status, message);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, now: Duration, message: &SipMessage) {
        if self.over.contains(&message.call_id) {
            return;
        }
        self.calls.entry(message.call_id.clone()).or_insert_with(|| Journey {
            caller: message.from.clone(),
            begun: now,
            path: vec![Stop { number: message.to.clone(), at: now, seen: false }],
            cancelled: false,
            answered: false,
            refusals: Vec::new(),
            redirects: Vec::new(),
            rejected: None,
            dropped: None,
            other_plan: false,
            earlier_forwards: BTreeSet::new(),
        });
    }

    fn of(&mut self, caller: &str) -> Option<&mut Journey> {
        self.calls.values_mut().find(|journey| journey.caller == caller)
    }

    /// The node calls a phone or the trunk.
    fn on_the_way(&mut self, now: Duration, plan: &Plan, message: &SipMessage) -> Result<(), String> {
        if !message.from.starts_with(CALLERS) || self.sent.contains_key(&message.call_id) {
            return Ok(());
        }
        let sent = Sent {
            caller: message.from.clone(),
            number: message.to.clone(),
            device: message.device,
            at: now,
            rings: None,
        };
        self.sent.insert(message.call_id.clone(), sent);
        let arrival = Arrival {
            number: &message.to,
            reason: None,
            last: message.diverted.first().map(String::as_str),
            original: message.diverted.last().map(String::as_str),
        };
        self.arrived(now, plan, &message.from, arrival)
    }

    /// An application is told of a leg that began at this time, or of which it hears since then.
    pub(super) fn told(&mut self, at: Duration, plan: &Plan, leg: &Value) -> Result<(), String> {
        let caller = party(leg, "calling").unwrap_or_default().to_owned();
        if !caller.starts_with(CALLERS) || !matches!(text(leg, "state"), "offering" | "ringing") {
            return Ok(());
        }
        let number = text(leg, "dn");
        if party(leg, "called") != Some(number) {
            return Err(format!("the called party is not who is called: {leg}"));
        }
        let arrival = Arrival {
            number,
            reason: Some(text(leg, "reason")),
            last: party(leg, "last_redirecting"),
            original: party(leg, "original_called"),
        };
        self.arrived(at, plan, &caller, arrival).map_err(|why| format!("{why}: {leg}"))?;
        let last = self.of(&caller).and_then(|journey| journey.path.last_mut());
        if let Some(stop) = last.filter(|stop| stop.number == number) {
            stop.seen = true;
        }
        Ok(())
    }

    fn arrived(
        &mut self,
        now: Duration,
        plan: &Plan,
        caller: &str,
        arrival: Arrival<'_>,
    ) -> Result<(), String> {
        let before = self.before.clone();
        let Some(journey) = self.of(caller) else { return Ok(()) };
        let plans: &[&Plan] = if journey.other_plan { &[plan, &before] } else { &[plan] };
        if !journey.may_come_to(plans, arrival) {
            return Err(format!(
                "the call of {caller} has been at {:?}, was sent on {:?}, refused {:?}, and now comes as {arrival:?}",
                journey.path.iter().map(|stop| &stop.number).collect::<Vec<_>>(),
                journey.redirects,
                journey.refusals,
            ));
        }
        // A replay tells of where it was before.
        if journey.path.last().is_none_or(|stop| stop.number != arrival.number && stop.at <= now + ROUNDING) {
            journey.path.push(Stop { number: arrival.number.to_owned(), at: now, seen: false });
            journey.path.extend(journey.returned_since(now));
        }
        Ok(())
    }

    /// An application sends a leg's call elsewhere.
    pub(super) fn redirect_asked(&mut self, now: Duration, caller: &str, from: &str, to: &str) {
        if let Some(journey) = self.of(caller) {
            let (from, to) = (from.to_owned(), to.to_owned());
            let back = journey.path.last().map(|stop| stop.number.clone());
            journey.redirects.push(Redirect {
                from,
                to,
                undecided: true,
                decided_at: now,
                succeeded: false,
                back,
            });
        }
    }

    pub(super) fn redirect_decided(
        &mut self,
        now: Duration,
        caller: &str,
        from: &str,
        to: &str,
        failed: bool,
    ) {
        let Some(journey) = self.of(caller) else { return };
        let found =
            journey.redirects.iter_mut().find(|one| one.undecided && one.from == from && one.to == to);
        if let Some(redirect) = found {
            (redirect.undecided, redirect.decided_at, redirect.succeeded) = (false, now, !failed);
            let back = redirect.back.clone().filter(|_| failed);
            // Where it came in this very step it was sent after the redirect had failed.
            let came_before = |stop: &Stop, back: &String| stop.number != *back && stop.at < now;
            let elsewhere =
                back.filter(|back| journey.path.last().is_some_and(|stop| came_before(stop, back)));
            journey.path.extend(elsewhere.map(|number| Stop { number, at: now, seen: true }));
        }
    }

    pub(super) fn rejected(&mut self, now: Duration, caller: &str) {
        if let Some(journey) = self.of(caller) {
            journey.rejected = Some(now);
        }
    }

    pub(super) fn dropped(&mut self, now: Duration, caller: &str) {
        if let Some(journey) = self.of(caller) {
            journey.dropped = Some(now);
        }
    }

    fn phone_says(&mut self, now: Duration, status: u16, message: &SipMessage) {
        let Some(sent) = self.sent.get_mut(&message.call_id) else { return };
        match status {
            100 | 401 | 407 => return,
            101..=199 => {
                sent.rings.get_or_insert(now);
                return;
            }
            _ => {}
        }
        let Some(sent) = self.sent.remove(&message.call_id) else { return };
        if status < 300 {
            return;
        }
        let refusal =
            Refusal { number: sent.number.clone(), status, at: now, contacts: message.contacts.clone() };
        if let Some(journey) = self.of(&sent.caller) {
            journey.refusals.push(refusal);
        }
    }

    fn caller_hears(
        &mut self,
        now: Duration,
        plan: &Plan,
        openers: impl Fn(&str) -> Openers,
        busy: impl Fn(&str) -> bool,
        status: u16,
        message: &SipMessage,
    ) -> Result<(), String> {
        if status < 200 {
            return Ok(());
        }
        if status < 300 {
            if let Some(journey) = self.calls.get_mut(&message.call_id) {
                journey.answered = true;
            }
            return Ok(());
        }
        let Some(journey) = self.calls.get(&message.call_id).filter(|journey| !journey.answered) else {
            return Ok(());
        };
        let right = journey.ends_rightly(now, plan, openers, busy, status);
        self.end(&message.call_id);
        right
    }

    fn end(&mut self, call_id: &str) {
        if self.calls.remove(call_id).is_some() {
            self.over.insert(call_id.to_owned());
        }
    }

    /// The node has stopped.
    pub(super) fn nobody_waits(&self) -> Result<(), String> {
        match self.calls.values().find(|journey| !journey.answered) {
            Some(journey) => Err(format!("the node has stopped, and {} still calls", journey.caller)),
            None => Ok(()),
        }
    }

    /// Calls that wait at a device that nobody has any more.
    pub(super) fn due(
        &self,
        now: Duration,
        slack: Duration,
        plan: &Plan,
        openers: impl Fn(&str) -> Openers,
    ) -> Result<(), String> {
        self.ring_on(now, slack)?;
        for journey in self.calls.values() {
            let waits = !journey.cancelled && !journey.answered && !journey.is_being_redirected();
            let here = |stop: &&Stop| waits && stop.seen && !journey.is_sent_on_from(stop);
            let Some(stop) = journey.path.last().filter(here) else { continue };
            let Some(device) = plan.application_device(&stop.number) else { continue };
            let Openers::NoneSince(since) = openers(device) else { continue };
            if now > since + AT_ONCE + slack && stop.at < since && !journey.other_plan {
                return Err(format!(
                    "nobody has {device} since {since:?}, and the call of {} waits there",
                    journey.caller
                ));
            }
        }
        Ok(())
    }
}

impl Journeys {
    /// Phones that ring for longer than their number may.
    fn ring_on(&self, now: Duration, slack: Duration) -> Result<(), String> {
        for sent in self.sent.values().filter(|sent| sent.device != TRUNK) {
            let Some(rings) = sent.rings else { continue };
            let limit = rings.max(sent.at + RINGS) + slack;
            let journey = self.calls.values().find(|journey| journey.caller == sent.caller);
            let alone = journey.is_some_and(|one| one.redirects.is_empty() && !one.other_plan);
            if alone && now > limit {
                return Err(format!(
                    "{} rings for the call of {} since {:?}, and nobody answers",
                    sent.device, sent.caller, sent.at
                ));
            }
        }
        Ok(())
    }
}

impl Journey {
    fn is_being_redirected(&self) -> bool {
        self.redirects.iter().any(|redirect| redirect.undecided)
    }

    /// Where a redirect that failed since then has left it.
    fn returned_since(&self, then: Duration) -> Option<Stop> {
        let failed = |one: &&Redirect| !one.undecided && !one.succeeded && one.decided_at > then;
        let redirect = self.redirects.iter().rfind(failed)?;
        Some(Stop { number: redirect.back.clone()?, at: redirect.decided_at, seen: true })
    }

    fn has_been_at(&self, number: &str) -> bool {
        self.path.iter().any(|stop| stop.number == number)
    }

    /// Whether the call may come to this number so: it was dialled; or it comes from a number where it was, by that number's
    /// forwards, by an application or a phone there; or from one to which it went unseen.
    fn may_come_to(&self, plans: &[&Plan], arrival: Arrival<'_>) -> bool {
        let dialled = self.path.first().map(|stop| stop.number.as_str());
        let Some(last) = arrival.last else {
            let plain = arrival.reason.is_none_or(|reason| reason == "normal");
            return plain && arrival.original.is_none() && dialled == Some(arrival.number);
        };
        if arrival.original != dialled {
            return false;
        }
        let known = self.has_been_at(last) || self.unseen(plans).contains(last);
        known && self.is_sent(plans, last, arrival.number, arrival.reason)
    }

    /// Whether something sends the call from there to here, for this reason.
    fn is_sent(&self, plans: &[&Plan], from: &str, to: &str, reason: Option<&str>) -> bool {
        let redirected = || {
            let by_application = self.redirects.iter().any(|one| one.from == from && one.to == to);
            let by_phone =
                |one: &Refusal| one.number == from && one.contacts.iter().any(|number| number == to);
            by_application || self.refusals.iter().any(by_phone)
        };
        let earlier = reason.is_none_or(|reason| reason == "forward_all")
            && self.earlier_forwards.contains(&(from.to_owned(), to.to_owned()));
        let forwards = || earlier || plans.iter().any(|plan| plan.sends(from, reason).contains(&to));
        match reason {
            Some("redirect") => redirected(),
            Some(_) => forwards(),
            None => redirected() || forwards(),
        }
    }

    /// Numbers to which the call may have come without a word: an application's while nobody listened there, a phone's that is
    /// busy, not registered, or forwards all.
    fn unseen(&self, plans: &[&Plan]) -> BTreeSet<String> {
        let mut from: Vec<String> = self.path.iter().map(|stop| stop.number.clone()).collect();
        from.extend(self.redirects.iter().map(|one| one.to.clone()));
        from.extend(self.refusals.iter().flat_map(|one| one.contacts.clone()));
        let mut unseen: BTreeSet<String> = from.iter().cloned().collect();
        for _ in 0..UNSEEN {
            let next = |number: &String| {
                let earlier = self.earlier_forwards.iter().filter(|(from, _)| from == number);
                let earlier = earlier.map(|(_, to)| to.as_str());
                let now = plans.iter().flat_map(|plan| plan.sends(number, None));
                now.chain(earlier).map(str::to_owned).collect::<Vec<_>>()
            };
            from = from.iter().flat_map(next).filter(|number| !unseen.contains(number)).collect();
            unseen.extend(from.iter().cloned());
        }
        unseen
    }

    /// An application or a phone has sent it on from there, to where nobody is told of it.
    fn is_sent_on_from(&self, stop: &Stop) -> bool {
        let by_application = self.redirects.iter().any(|one| {
            one.succeeded
                && one.decided_at >= stop.at
                && one.from == stop.number
                && !self.has_been_at(&one.to)
        });
        let by_phone =
            |one: &Refusal| one.at >= stop.at && one.number == stop.number && !one.contacts.is_empty();
        by_application || self.refusals.iter().any(by_phone)
    }

    /// Who called hears why the call ended, and a number's forward is tried before it ends.
    fn ends_rightly(
        &self,
        now: Duration,
        plan: &Plan,
        openers: impl Fn(&str) -> Openers,
        busy: impl Fn(&str) -> bool,
        status: u16,
    ) -> Result<(), String> {
        let Some(stop) = self.path.last() else { return Ok(()) };
        let recently = |at: Duration| now <= at + AT_ONCE;
        let redirected_lately = self.redirects.iter().any(|one| one.undecided || recently(one.decided_at));
        if self.cancelled || self.other_plan || redirected_lately || self.dropped.is_some_and(recently) {
            return Ok(());
        }
        let (caller, begun, number) = (&self.caller, self.begun, &stop.number);
        let since = || format!("the call of {caller} since {begun:?} is at {number}");
        let wrong = |what: &str| Err(format!("{}, {what}, and its end is {status}", since()));
        if self.rejected.is_some_and(recently) && status != 603 {
            return wrong("was rejected there");
        }
        let forward = |reason: &str| plan.forward(&stop.number, reason).filter(|to| !self.has_been_at(to));
        let open = |reason: &str| forward(reason).is_some();
        // A phone there may have no registration.
        let phones = |dn: &str| plan.appearances(dn).any(|(_, kind)| kind == Kind::Phone);
        let open_to_applications = |reason: &str| forward(reason).is_some_and(|to| !phones(to));
        if let Some(device) = plan.application_device(&stop.number) {
            return match openers(device) {
                Openers::NoneSince(since) if recently(since) && stop.at < since => {
                    let forward = open("forward_on_failure");
                    if forward && status == 503 { wrong("whose application failed") } else { Ok(()) }
                }
                Openers::NoneSince(since)
                    if since < stop.at && status == 480 && open_to_applications("forward_unregistered") =>
                {
                    wrong("where no application is")
                }
                Openers::Some
                    if status == 480
                        && stop.seen
                        && !self.is_sent_on_from(stop)
                        && open("forward_no_answer") =>
                {
                    wrong("where nobody took it")
                }
                _ => Ok(()),
            };
        }
        let Some(refusal) = self.refusals.last().filter(|one| recently(one.at) && one.number == stop.number)
        else {
            // It rang there.
            let rang = now >= stop.at + RINGS;
            let lost = rang && status == 480 && !self.is_sent_on_from(stop) && open("forward_no_answer");
            return if lost { wrong("where nobody answered") } else { Ok(()) };
        };
        let alone = plan.is_one_phones(&stop.number);
        let forward = match refusal.status {
            486 => plan.forward(&stop.number, "forward_busy"),
            480 => plan.forward(&stop.number, "forward_no_answer"),
            _ => None,
        };
        match (forward, refusal.status) {
            (Some(to), refused) if !self.has_been_at(to) && status == refused && !busy(to) => {
                wrong("which has a forward for that")
            }
            (None, refused @ (480 | 486 | 603)) if alone && status != refused => {
                wrong(&format!("whose phone said {refused}"))
            }
            _ => Ok(()),
        }
    }
}
