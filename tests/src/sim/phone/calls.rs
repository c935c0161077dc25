//! The phone's calls: what it does of its own will, and what it does when it is asked (RFC 3261 §12–15, RFC 3264).

use super::transactions::{Draft, Purpose};
use super::{Call, Forced, Mood, Phone, Stage};
use crate::sim::oracle::CALLERS;
use crate::sim::scene::NUMBERS;
use crate::sim::tally::Happening;
use sip::message::{Method, Request, Response};
use std::time::Duration;

/// A person lets it ring that long.
const RING: Duration = Duration::from_secs(50);

impl Phone {
    pub(in crate::sim) fn dial(&mut self, now: Duration, number: &str) -> String {
        let n = self.count();
        let token = format!("{}-{n}", self.device);
        let line = (*self.dice.pick(self.scene.lines)).to_owned();
        // Each caller of the trunk's has a number of its own.
        let line = if self.scene.user.is_none() { format!("{CALLERS}{n:05}") } else { line };
        let tag = format!("t{n}");
        let call = Call {
            token: token.clone(),
            stage: Stage::Calling { heard: false },
            peer: None,
            orphan: false,
            call_id: format!("call-{token}"),
            local: format!("<sip:{line}@10.0.0.1>;tag={tag}"),
            tag,
            remote: format!("<sip:{number}@10.0.0.1>"),
            target: format!("sip:{number}@10.0.0.1:5060"),
            cseq: 0,
            inviting: None,
            asked: None,
            cancelled: false,
            held: false,
            reliable: None,
            version: 1,
            act_at: None,
            give_up_at: None,
            forced: None,
        };
        self.calls.insert(n, call);
        // A late offer now and then.
        let late = self.mood == Mood::Busy && self.dice.percent(5);
        let body = if late { String::new() } else { self.describe(n, "sendrecv") };
        let wishes = self.wishes();
        self.in_call(now, n, "INVITE", &wishes, body, Purpose::Invite(n));
        if self.mood == Mood::Busy && self.dice.percent(15) {
            let after = self.dice.ms(0, 6_000);
            self.calls.entry(n).and_modify(|call| call.act_at = Some(now + after));
        }
        token
    }

    /// Extensions that the phone supports this time: session timers that the node is to renew (RFC 4028), reliable
    /// provisionals (RFC 3262), both, or none.
    fn wishes(&mut self) -> String {
        let chance = if self.mood == Mood::Busy { self.dice.below(10) } else { 9 };
        let timer = "Session-Expires: 90;refresher=uas\r\n";
        match chance {
            0 => format!("Supported: timer\r\n{timer}"),
            1 => "Supported: 100rel\r\n".to_owned(),
            2 => format!("Supported: timer, 100rel\r\n{timer}"),
            _ => String::new(),
        }
    }

    /// A provisional that wants to be acknowledged is, once.
    fn acknowledge_provisional(&mut self, now: Duration, id: u64, response: &Response) {
        let headers = &response.headers;
        let number = headers.number("RSeq").filter(|_| headers.has_token("Require", "100rel"));
        let (Some(number), Some(call)) = (number, self.calls.get_mut(&id)) else { return };
        let Some((invite, _)) = call.inviting.clone().filter(|_| call.reliable != Some(number)) else {
            return;
        };
        call.reliable = Some(number);
        call.cseq += 1;
        let contact = headers.contacts().ok().and_then(|c| c.first().map(|c| c.uri.to_string()));
        let draft = Draft {
            method: "PRACK",
            uri: contact.unwrap_or_else(|| call.target.clone()),
            from: call.local.clone(),
            to: headers.get("To").unwrap_or_default().to_owned(),
            call_id: call.call_id.clone(),
            headers: format!("RAck: {number} {invite} INVITE\r\n"),
            body: String::new(),
            purpose: Purpose::Prack(id),
        };
        let cseq = call.cseq;
        self.tally.add(Happening::Reliable);
        self.send_request(now, draft, cseq);
    }

    /// What we want to hear, where, and which call it is.
    pub(super) fn describe(&self, id: u64, direction: &str) -> String {
        let Some(call) = self.calls.get(&id) else { return String::new() };
        let ip = self.address.ip();
        format!(
            "v=0\r\no=- {id} {} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP 0 8 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=x-call:{}\r\na={direction}\r\n",
            call.version,
            media_port(id),
            call.token
        )
    }

    fn in_call(
        &mut self,
        now: Duration,
        id: u64,
        method: &'static str,
        headers: &str,
        body: String,
        purpose: Purpose,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.cseq += 1;
        let cseq = call.cseq;
        let draft = Draft {
            method,
            uri: call.target.clone(),
            from: call.local.clone(),
            to: call.remote.clone(),
            call_id: call.call_id.clone(),
            headers: headers.into(),
            body,
            purpose,
        };
        let branch = self.send_request(now, draft, cseq);
        self.sent_again(now, purpose, cseq, branch);
    }

    pub(super) fn next_cseq(&mut self, purpose: Purpose, sent: u32) -> u32 {
        let call = match purpose {
            Purpose::Register => {
                self.register_cseq += 1;
                return self.register_cseq;
            }
            Purpose::Invite(id)
            | Purpose::Reinvite(id)
            | Purpose::Bye(id)
            | Purpose::Info(id)
            | Purpose::Prack(id) => id,
        };
        let Some(call) = self.calls.get_mut(&call) else { return sent + 1 };
        call.cseq += 1;
        call.cseq
    }

    /// Notes which INVITE is the one in progress.
    pub(super) fn sent_again(&mut self, now: Duration, purpose: Purpose, cseq: u32, branch: String) {
        if let Purpose::Invite(id) | Purpose::Reinvite(id) = purpose
            && let Some(call) = self.calls.get_mut(&id)
        {
            call.inviting = Some((cseq, branch));
            if call.stage == (Stage::Calling { heard: true }) {
                call.stage = Stage::Calling { heard: false };
                call.give_up_at = None;
            }
            let _ = now;
        }
    }

    pub(super) fn heard(&mut self, now: Duration, purpose: Purpose, response: &Response, patience: Duration) {
        let Purpose::Invite(id) = purpose else { return };
        self.acknowledge_provisional(now, id, response);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.stage == (Stage::Calling { heard: false }) {
            call.stage = Stage::Calling { heard: true };
            call.give_up_at = Some(now + patience);
        }
        if call.cancelled {
            self.cancel(now, id);
        }
    }

    pub(super) fn answered(&mut self, now: Duration, purpose: Purpose, response: &Response) {
        match purpose {
            Purpose::Register => self.registered = response.is_success(),
            Purpose::Invite(id) => self.invite_answered(now, id, response),
            Purpose::Reinvite(id) => {
                let Some(call) = self.calls.get_mut(&id) else { return };
                call.inviting = None;
                if response.is_success() {
                    call.listen(&response.body);
                    return;
                }
                call.held = !call.held;
                if response.status == 491 {
                    self.tally.add(Happening::Glare);
                }
                if matches!(response.status, 408 | 481) {
                    self.hang_up(now, id);
                }
            }
            Purpose::Bye(id) => drop(self.calls.remove(&id)),
            Purpose::Info(_) | Purpose::Prack(_) => {}
        }
    }

    fn invite_answered(&mut self, now: Duration, id: u64, response: &Response) {
        let linger = self.linger();
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.inviting = None;
        call.give_up_at = None;
        if !response.is_success() {
            self.calls.remove(&id);
            return;
        }
        call.remote = response.headers.get("To").unwrap_or_default().to_owned();
        call.aim(&response.headers);
        call.listen(&response.body);
        if call.stage == Stage::Ending {
            return;
        }
        call.stage = Stage::Up;
        call.act_at = linger.map(|time| now + time);
        let cancelled = call.cancelled;
        self.tally.add(Happening::CallUp);
        if cancelled {
            self.tally.add(Happening::CancelCrossed);
            self.hang_up(now, id);
        }
    }

    /// How long until a person does something in a call.
    fn linger(&mut self) -> Option<Duration> {
        match self.mood {
            Mood::Busy => Some(self.dice.ms(200, 25_000)),
            Mood::Still | Mood::Polite => None,
        }
    }

    pub(super) fn no_answer(&mut self, now: Duration, purpose: Purpose) {
        match purpose {
            Purpose::Register => {
                self.registered = false;
                if self.patient_until < now {
                    self.complaints.push("a REGISTER had no answer".into());
                }
            }
            Purpose::Invite(id) | Purpose::Bye(id) => {
                self.complain(now, id, "an INVITE or BYE had no final answer");
                self.calls.remove(&id);
            }
            Purpose::Reinvite(id) => {
                self.complain(now, id, "a re-INVITE had no final answer");
                self.hang_up(now, id);
            }
            Purpose::Info(id) => self.complain(now, id, "an INFO had no answer"),
            Purpose::Prack(id) => self.complain(now, id, "a PRACK had no answer"),
        }
    }

    /// Cables are out for seconds and not for half a minute: whoever lives has answered by then.
    pub(super) fn complain(&mut self, now: Duration, id: u64, what: &str) {
        if let Some(call) = self.calls.get(&id).filter(|call| !call.orphan && self.patient_until < now) {
            self.complaints.push(format!("{}: {what}", call.token));
        }
    }

    pub(super) fn do_forced(&mut self, now: Duration) {
        let due =
            |call: &mut Call| call.forced.take_if(|(at, _)| *at <= now).map(|(_, what)| (what, call.stage));
        let forced: Vec<_> = self.calls.iter_mut().filter_map(|(id, call)| Some((*id, due(call)?))).collect();
        for (id, (what, stage)) in forced {
            match (what, stage) {
                (Forced::HangUp, _) => self.hang_up(now, id),
                (Forced::Hold, Stage::Up) => self.toggle_hold(now, id),
                (Forced::Answer, Stage::Alerting) => self.accept_call(now, id),
                (Forced::Hold | Forced::Answer, _) => {}
            }
        }
    }

    /// Something the person at the phone does, or gives up.
    pub(super) fn act(&mut self, now: Duration, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let given_up = call.give_up_at.take_if(|at| *at <= now).is_some();
        let acts = call.act_at.take_if(|at| *at <= now).is_some();
        match call.stage {
            Stage::Calling { .. } => self.hang_up(now, id),
            Stage::Alerting if given_up => self.refuse_call(now, id, 480),
            Stage::Alerting if acts => self.decide(now, id),
            Stage::Up if acts && self.mood == Mood::Busy => self.act_in_call(now, id),
            Stage::Alerting | Stage::Confirming | Stage::Up | Stage::Ending => {}
        }
    }

    fn act_in_call(&mut self, now: Duration, id: u64) {
        let next = self.linger();
        match self.dice.below(10) {
            0..=4 => return self.hang_up(now, id),
            5 | 6 => self.toggle_hold(now, id),
            7 | 8 => {
                let digit = *self.dice.pick(&["1", "5", "*", "#"]);
                let body = format!("Signal={digit}\r\nDuration=160\r\n");
                self.in_call(now, id, "INFO", "", body, Purpose::Info(id));
            }
            _ => {}
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.act_at = next.map(|time| now + time);
        }
    }

    fn toggle_hold(&mut self, now: Duration, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.inviting.is_some() || call.asked.is_some() {
            return;
        }
        call.held = !call.held;
        call.version += 1;
        let direction = if call.held { "sendonly" } else { "sendrecv" };
        let body = self.describe(id, direction);
        self.in_call(now, id, "INVITE", "", body, Purpose::Reinvite(id));
    }

    pub(super) fn hang_up(&mut self, now: Duration, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.act_at = None;
        match call.stage {
            Stage::Calling { heard } => {
                call.cancelled = true;
                call.give_up_at = None;
                if heard {
                    self.cancel(now, id);
                }
            }
            Stage::Alerting => self.refuse_call(now, id, 486),
            Stage::Confirming | Stage::Up => {
                call.stage = Stage::Ending;
                self.in_call(now, id, "BYE", "", String::new(), Purpose::Bye(id));
            }
            Stage::Ending => {}
        }
    }

    fn cancel(&mut self, now: Duration, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        let Some((cseq, branch)) = call.inviting.clone() else { return };
        let draft = Draft {
            method: "CANCEL",
            uri: call.target.clone(),
            from: call.local.clone(),
            to: call.remote.clone(),
            call_id: call.call_id.clone(),
            headers: String::new(),
            body: String::new(),
            purpose: Purpose::Invite(id),
        };
        // It has the INVITE's branch, and is repeated until the INVITE has its answer.
        let bytes = self.write(&draft, cseq, &branch, None);
        self.out.push(bytes);
        self.hurry(now, &branch);
        if let Some(call) = self.calls.get_mut(&id) {
            call.give_up_at = Some(now + Duration::from_secs(1));
        }
    }

    fn decide(&mut self, now: Duration, id: u64) {
        match (self.mood, self.dice.below(11)) {
            (Mood::Polite, _) | (Mood::Busy | Mood::Still, 0..=6) => self.accept_call(now, id),
            (Mood::Busy | Mood::Still, 10) => self.send_on(now, id),
            (Mood::Busy | Mood::Still, 7) => self.refuse_call(now, id, 486),
            (Mood::Busy | Mood::Still, 8) => self.refuse_call(now, id, 603),
            (Mood::Busy | Mood::Still, _) => {}
        }
    }

    fn refuse_call(&mut self, now: Duration, id: u64, status: u16) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        if let Some(request) = call.asked.take() {
            let response = Response::to(&request, status, Some(&call.tag));
            self.respond(now, &request, &response);
        }
    }

    /// Whoever calls shall call another number.
    fn send_on(&mut self, now: Duration, id: u64) {
        let number = *self.dice.pick(NUMBERS);
        let Some(mut call) = self.calls.remove(&id) else { return };
        if let Some(request) = call.asked.take() {
            self.tally.add(Happening::Redirected);
            let response = Response::to(&request, 302, Some(&call.tag))
                .with("Contact", format!("<sip:{number}@10.0.0.1>"));
            self.respond(now, &request, &response);
        }
    }

    fn accept_call(&mut self, now: Duration, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(request) = call.asked.take() else { return };
        call.stage = Stage::Confirming;
        call.give_up_at = None;
        self.accept(now, id, &request);
    }

    /// 200 with our answer, or with an offer where there was none.
    fn accept(&mut self, now: Duration, id: u64, request: &Request) {
        let mut direction = answer_to(&request.body);
        if let Some(call) = self.calls.get_mut(&id) {
            call.listen(&request.body);
            if call.held {
                direction =
                    if matches!(direction, "sendrecv" | "sendonly") { "sendonly" } else { "inactive" };
            }
        }
        let body = self.describe(id, direction);
        let Some(call) = self.calls.get(&id) else { return };
        let response = Response::to(request, 200, Some(&call.tag))
            .with("Contact", self.contact())
            .with_body("application/sdp", body.into_bytes());
        self.respond(now, request, &response);
    }

    pub(super) fn on_confirmed(&mut self, now: Duration, ack: &Request) {
        let linger = self.linger();
        let Some(id) = self.find(ack) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.listen(&ack.body);
        if call.stage == Stage::Confirming {
            call.stage = Stage::Up;
            call.act_at = linger.map(|time| now + time);
            self.tally.add(Happening::CallUp);
        }
    }

    fn find(&self, request: &Request) -> Option<u64> {
        let (call_id, tag) = (request.headers.call_id(), request.headers.to_tag()?);
        self.calls.iter().find(|(_, call)| call.call_id == call_id && call.tag == tag).map(|(id, _)| *id)
    }

    pub(super) fn on_new_request(&mut self, now: Duration, request: Request, branch: &str) {
        if request.headers.to_tag().is_none() && request.method == Method::Invite {
            return self.on_call(now, request);
        }
        if request.method == Method::Cancel {
            return self.on_cancel(now, &request, branch);
        }
        let Some(id) = self.find(&request) else {
            let status = if request.method == Method::Options { 200 } else { 481 };
            let response = Response::to(&request, status, Some("none"));
            return self.respond(now, &request, &response);
        };
        match request.method {
            Method::Invite | Method::Update => self.on_offer(now, id, &request),
            Method::Bye => self.on_bye(now, id, &request),
            _ => {
                let response = Response::to(&request, 200, None);
                self.respond(now, &request, &response);
            }
        }
    }

    fn on_call(&mut self, now: Duration, request: Request) {
        let n = self.count();
        let tag = format!("t{n}");
        let proved = request.headers.get("Authorization").is_some_and(|value| value.contains("\"gw\""));
        if proved {
            self.tally.add(Happening::TrunkProved);
        } else if self.scene.user.is_none() && self.dice.percent(15) {
            let challenge = format!("Digest realm=\"pstn\", nonce=\"x{n}\", algorithm=MD5, qop=\"auth\"");
            let response = Response::to(&request, 401, Some(&tag)).with("WWW-Authenticate", challenge);
            return self.respond(now, &request, &response);
        }
        if self.calls.len() >= self.scene.max_calls {
            let response = Response::to(&request, 486, Some(&tag));
            return self.respond(now, &request, &response);
        }
        let decides = match self.mood {
            Mood::Busy => self.dice.ms(0, 9_000),
            Mood::Still => RING,
            Mood::Polite => Duration::from_millis(200),
        };
        let mut call = Call {
            token: format!("{}-{n}", self.device),
            stage: Stage::Alerting,
            peer: None,
            orphan: false,
            call_id: request.headers.call_id().to_owned(),
            local: format!("{};tag={tag}", request.headers.get("To").unwrap_or_default()),
            remote: request.headers.get("From").unwrap_or_default().to_owned(),
            tag: tag.clone(),
            target: String::new(),
            cseq: 100,
            inviting: None,
            asked: Some(request.clone()),
            cancelled: false,
            held: false,
            reliable: None,
            version: 1,
            act_at: Some(now + decides),
            give_up_at: Some(now + RING),
            forced: None,
        };
        call.aim(&request.headers);
        self.calls.insert(n, call);
        let ringing = Response::to(&request, 180, Some(&tag)).with("Contact", self.contact());
        self.respond(now, &request, &ringing);
    }

    fn on_cancel(&mut self, now: Duration, request: &Request, branch: &str) {
        let known = self.calls.iter().find(|(_, call)| {
            call.asked
                .as_ref()
                .is_some_and(|asked| asked.headers.top_via().is_ok_and(|via| via.branch() == branch))
        });
        let id = known.map(|(id, _)| *id);
        let response = Response::to(request, 200, Some("cancel"));
        self.respond(now, request, &response);
        match id {
            Some(id) => self.refuse_call(now, id, 487),
            None => self.tally.add(Happening::CancelCrossed),
        }
    }

    fn on_offer(&mut self, now: Duration, id: u64, request: &Request) {
        let Some(call) = self.calls.get(&id) else { return };
        let answer = |status| Response::to(request, status, None);
        if call.inviting.is_some() && matches!(call.stage, Stage::Up | Stage::Confirming) {
            self.tally.add(Happening::Glare);
            return self.respond(now, request, &answer(491));
        }
        if request.method == Method::Update && request.body.is_empty() {
            return self.respond(now, request, &answer(200));
        }
        match call.stage {
            Stage::Up | Stage::Confirming => self.accept(now, id, request),
            Stage::Ending => self.respond(now, request, &answer(481)),
            Stage::Calling { .. } | Stage::Alerting => self.respond(now, request, &answer(488)),
        }
    }

    fn on_bye(&mut self, now: Duration, id: u64, request: &Request) {
        let response = Response::to(request, 200, None);
        self.respond(now, request, &response);
        let Some(mut call) = self.calls.remove(&id) else { return };
        if call.stage == Stage::Ending {
            self.tally.add(Happening::ByeCrossed);
        }
        if call.stage == Stage::Up && !call.orphan {
            self.ended_by_peer.push((call.token.clone(), call.peer.clone()));
        }
        if let Some(asked) = call.asked.take() {
            let response = Response::to(&asked, 487, Some(&call.tag));
            self.respond(now, &asked, &response);
        }
    }
}

impl Call {
    fn aim(&mut self, headers: &sip::message::Headers) {
        if let Some(contact) = headers.contacts().ok().and_then(|c| c.first().map(|c| c.uri.to_string())) {
            self.target = contact;
        }
    }

    /// Whose description this is.
    fn listen(&mut self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        self.peer = token_in(body);
    }
}

/// Where a phone receives the media of its call.
pub(super) fn media_port(id: u64) -> u16 {
    u16::try_from(20_000 + 2 * (id % 5_000)).unwrap_or(0)
}

/// Whose description this is.
pub(super) fn token_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    text.lines().find_map(|line| line.strip_prefix("a=x-call:")).map(str::to_owned)
}

/// The direction that answers a description (RFC 3264 §6.1).
pub(super) fn answer_to(body: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(body);
    if text.contains("a=inactive") {
        "inactive"
    } else if text.contains("a=sendonly") {
        "recvonly"
    } else if text.contains("a=recvonly") {
        "sendonly"
    } else {
        "sendrecv"
    }
}
