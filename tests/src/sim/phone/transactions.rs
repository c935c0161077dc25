//! The phone's transactions: what it sends again until it is answered, and what it answers again (RFC 3261 §17).

use super::calls::answer_to;
use super::{Phone, Stage};
use sip::message::{self, Message, Method, Request, Response};
use std::time::Duration;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// 64 × T1.
const PATIENCE: Duration = Duration::from_secs(32);
/// How long a phone waits for the answer of a call that was heard of.
const RING_PATIENCE: Duration = Duration::from_secs(70);

/// A request that may have to be sent again with a signature or another number.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) method: &'static str,
    pub(super) uri: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) call_id: String,
    pub(super) headers: String,
    pub(super) body: String,
    pub(super) purpose: Purpose,
}

/// What a request of ours is for; calls by their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Invite(u64),
    Reinvite(u64),
    Bye(u64),
    Info(u64),
    Prack(u64),
}

pub(super) struct Client {
    draft: Draft,
    cseq: u32,
    bytes: Vec<u8>,
    signed: bool,
    interval: Duration,
    repeat_at: Option<Duration>,
    give_up_at: Duration,
}

impl Client {
    pub(super) fn due(&self) -> Duration {
        self.repeat_at.map_or(self.give_up_at, |at| at.min(self.give_up_at))
    }
}

pub(super) struct Server {
    pub(super) bytes: Vec<u8>,
    call_id: String,
    cseq: u32,
    /// A final answer to an INVITE is repeated until its ACK comes.
    repeat: Option<(Duration, Duration)>,
    until: Duration,
}

impl Server {
    pub(super) fn due(&self) -> Duration {
        self.repeat.map_or(self.until, |(at, _)| at.min(self.until))
    }
}

/// An ACK that is sent again when its answer comes again.
pub(super) struct Repeated {
    bytes: Vec<u8>,
    pub(super) until: Duration,
}

impl Phone {
    pub(super) fn send_request(&mut self, now: Duration, draft: Draft, cseq: u32) -> String {
        let branch = self.branch();
        self.send_as(now, draft, cseq, branch, None)
    }

    fn branch(&mut self) -> String {
        let n = self.count();
        format!("z9hG4bK{}x{n}", self.device)
    }

    /// `signature` is the value of an Authorization header.
    pub(super) fn send_as(
        &mut self,
        now: Duration,
        draft: Draft,
        cseq: u32,
        branch: String,
        signature: Option<String>,
    ) -> String {
        let bytes = self.write(&draft, cseq, &branch, signature.as_deref());
        self.out.push(bytes.clone());
        let client = Client {
            draft,
            cseq,
            bytes,
            signed: signature.is_some(),
            interval: T1,
            repeat_at: (self.transport == sip::Transport::Udp).then_some(now + T1),
            give_up_at: now + PATIENCE,
        };
        self.clients.insert(branch.clone(), client);
        branch
    }

    pub(super) fn write(&self, draft: &Draft, cseq: u32, branch: &str, signature: Option<&str>) -> Vec<u8> {
        let Draft { method, uri, from, to, call_id, headers, body, .. } = draft;
        let (address, contact) = (self.address, self.contact());
        let transport = match self.transport {
            sip::Transport::Udp => "UDP",
            sip::Transport::Tcp => "TCP",
            sip::Transport::Tls => "TLS",
        };
        let signature = signature.map(|s| format!("Authorization: {s}\r\n")).unwrap_or_default();
        let kind = match *method {
            _ if body.is_empty() => "",
            "INFO" => "Content-Type: application/dtmf-relay\r\n",
            _ => "Content-Type: application/sdp\r\n",
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {address};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: {contact}\r\n{headers}{signature}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// One datagram of the node's.
    pub(in crate::sim) fn receive(&mut self, now: Duration, bytes: &[u8]) -> Result<(), String> {
        match message::read(bytes, sip::Transport::Udp) {
            Ok(Message::Request(request)) => self.on_request(now, request),
            Ok(Message::Response(response)) => self.on_response(now, &response),
            Err(wrong) => {
                return Err(format!("{}: the node wrote what is no SIP: {wrong:?}", self.device));
            }
        }
        Ok(())
    }

    fn on_request(&mut self, now: Duration, request: Request) {
        let branch = request.headers.top_via().map(|via| via.branch().to_owned()).unwrap_or_default();
        if request.method == Method::Ack {
            return self.on_ack(now, &request, &branch);
        }
        let key = server_key(&branch, &request.method);
        if let Some(server) = self.servers.get(&key) {
            let again = server.bytes.clone();
            if !again.is_empty() {
                self.out.push(again);
            }
            return;
        }
        self.on_new_request(now, request, &branch);
    }

    /// Answers a request, for good if the status is final.
    pub(super) fn respond(&mut self, now: Duration, request: &Request, response: &Response) {
        let branch = request.headers.top_via().map(|via| via.branch().to_owned()).unwrap_or_default();
        let bytes = response.write();
        self.out.push(bytes.clone());
        let final_one =
            response.status >= 200 && (self.transport == sip::Transport::Udp || response.status < 300);
        let repeats = request.method == Method::Invite && final_one;
        let server = Server {
            bytes,
            call_id: request.headers.call_id().to_owned(),
            cseq: request.headers.cseq().map(|cseq| cseq.number).unwrap_or(0),
            repeat: repeats.then_some((now + T1, T1)),
            until: now + if response.status < 200 { 4 * PATIENCE } else { PATIENCE },
        };
        self.servers.insert(server_key(&branch, &request.method), server);
    }

    fn on_ack(&mut self, now: Duration, ack: &Request, branch: &str) {
        let (call_id, cseq) = (ack.headers.call_id(), ack.headers.cseq().map_or(0, |cseq| cseq.number));
        let key = server_key(branch, &Method::Invite);
        for (of, server) in &mut self.servers {
            if *of == key || (server.call_id == call_id && server.cseq == cseq) {
                server.repeat = None;
            }
        }
        self.on_confirmed(now, ack);
    }

    pub(super) fn repeat_responses(&mut self, now: Duration) {
        let mut unheard = Vec::new();
        self.servers.retain(|_, server| {
            if server.until <= now {
                unheard.extend(server.repeat.map(|_| server.call_id.clone()));
                return false;
            }
            if let Some((at, interval)) = server.repeat.filter(|(at, _)| *at <= now) {
                let interval = (interval * 2).min(T2);
                server.repeat = Some((at.max(now) + interval, interval));
                self.out.push(server.bytes.clone());
            }
            true
        });
        for call_id in unheard {
            let found = self.calls.iter().find(|(_, c)| c.call_id == call_id && c.stage == Stage::Confirming);
            if let Some((id, offered)) = found.map(|(id, call)| (*id, call.peer.is_none())) {
                // The offer was ours, in the 200: the ACK waits for the caller's answer.
                if !offered || self.lonely_until <= now {
                    self.complain(now, id, "our 200 was never acknowledged");
                }
                self.hang_up(now, id);
            }
        }
    }

    pub(super) fn repeat_requests(&mut self, now: Duration) {
        let late: Vec<String> =
            self.clients.iter().filter(|(_, c)| c.give_up_at <= now).map(|(b, _)| b.clone()).collect();
        for branch in late {
            if let Some(client) = self.clients.remove(&branch) {
                self.no_answer(now, client.draft.purpose);
            }
        }
        for client in self.clients.values_mut() {
            if client.repeat_at.is_some_and(|at| at <= now) {
                let invite = client.draft.method == "INVITE";
                client.interval = if invite { client.interval * 2 } else { (client.interval * 2).min(T2) };
                client.repeat_at = Some(now + client.interval);
                self.out.push(client.bytes.clone());
            }
        }
    }

    /// A cancelled request's answer comes soon or not at all.
    pub(super) fn hurry(&mut self, now: Duration, branch: &str) {
        if let Some(client) = self.clients.get_mut(branch) {
            client.give_up_at = client.give_up_at.min(now + PATIENCE);
        }
    }

    fn on_response(&mut self, now: Duration, response: &Response) {
        let branch = response.headers.top_via().map(|via| via.branch().to_owned()).unwrap_or_default();
        let cancel = response.headers.cseq().is_ok_and(|cseq| cseq.method == Method::Cancel);
        if cancel || self.acknowledge_again(response) {
            return;
        }
        let Some(client) = self.clients.get_mut(&branch) else { return };
        let invite = client.draft.method == "INVITE";
        if response.is_provisional() {
            if invite {
                client.repeat_at = None;
                client.give_up_at = now + RING_PATIENCE + PATIENCE;
            }
            let purpose = client.draft.purpose;
            return self.heard(now, purpose, response, RING_PATIENCE);
        }
        let Some(client) = self.clients.remove(&branch) else { return };
        if invite {
            self.acknowledge(now, &client, &branch, response);
        }
        if response.status == 401
            && !client.signed
            && self.login.is_some()
            && self.sign(now, &client, response)
        {
            return;
        }
        self.answered(now, client.draft.purpose, response);
    }

    fn sign(&mut self, now: Duration, client: &Client, challenge: &Response) -> bool {
        let Some(login) = self.login.clone() else { return false };
        let Ok(Message::Request(mut request)) = message::read(&client.bytes, sip::Transport::Udp) else {
            return false;
        };
        if !login.answer(&challenge.headers, 401, &mut request, "c0ffee") {
            return false;
        }
        let signature = request.headers.get("Authorization").map(str::to_owned);
        let cseq = self.next_cseq(client.draft.purpose, client.cseq);
        let branch = self.branch();
        let purpose = client.draft.purpose;
        let branch = self.send_as(now, client.draft.clone(), cseq, branch, signature);
        self.sent_again(now, purpose, cseq, branch);
        true
    }

    fn acknowledge_again(&mut self, response: &Response) -> bool {
        let Ok(cseq) = response.headers.cseq() else { return false };
        if cseq.method != Method::Invite || response.is_provisional() {
            return false;
        }
        let key = (response.headers.call_id().to_owned(), cseq.number);
        let Some(ack) = self.acknowledged.get(&key) else { return false };
        self.out.push(ack.bytes.clone());
        true
    }

    fn acknowledge(&mut self, now: Duration, client: &Client, branch: &str, response: &Response) {
        let good = response.is_success();
        let branch = if good { self.branch() } else { branch.to_owned() };
        let body = if good { self.late_answer(client, response) } else { String::new() };
        let contact = response.headers.contacts().ok().and_then(|c| c.first().map(|c| c.uri.to_string()));
        let draft = Draft {
            method: "ACK",
            uri: contact.filter(|_| good).unwrap_or_else(|| client.draft.uri.clone()),
            to: response.headers.get("To").unwrap_or_default().to_owned(),
            headers: String::new(),
            body,
            ..client.draft.clone()
        };
        let bytes = self.write(&draft, client.cseq, &branch, None);
        self.out.push(bytes.clone());
        let key = (client.draft.call_id.clone(), client.cseq);
        self.acknowledged.insert(key, Repeated { bytes, until: now + 2 * PATIENCE });
    }

    /// The answer to the offer in a 200, where the INVITE had none; now and then a phone forgets it.
    fn late_answer(&mut self, client: &Client, response: &Response) -> String {
        match client.draft.purpose {
            Purpose::Invite(id) | Purpose::Reinvite(id)
                if client.draft.body.is_empty() && !response.body.is_empty() && !self.dice.percent(10) =>
            {
                self.describe(id, answer_to(&response.body))
            }
            _ => String::new(),
        }
    }
}

fn server_key(branch: &str, method: &Method) -> String {
    format!("{branch} {}", method.as_str())
}
