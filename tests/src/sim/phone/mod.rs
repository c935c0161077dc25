//! A phone (or a trunk's peer): a small user agent that speaks SIP by the letter of RFC 3261, repeats what is lost, and
//! does what people do with phones. It shares the message reader with the product and nothing else.

mod calls;
mod transactions;

use super::dice::Dice;
use super::oracle::Fact;
use super::scene::{PASSWORD, PhoneOfScene, address};
use super::tally::Tally;
use sip::Transport;
use sip::port::Login;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use transactions::{Client, Repeated, Server};

/// Registrations are for a minute, refreshed after half of it.
const REFRESH: Duration = Duration::from_secs(30);

/// A call that was begun before the node came back has rung to its end by then.
const PATIENCE_AFTER_DEATH: Duration = Duration::from_secs(120);

/// What a phone is about to do on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Dials, answers, holds, hangs up as it likes.
    Busy,
    /// Does nothing but what the protocol wants.
    Still,
    /// Answers at once and stays in the call.
    Polite,
}

/// Where a call of a phone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// We dialled.
    Calling { heard: bool },
    /// It rings here.
    Alerting,
    /// Our 200 waits for its ACK.
    Confirming,
    /// Both sides have it.
    Up,
    /// We hang up.
    Ending,
}

/// Something that a person does at this very moment, whatever his mood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forced {
    HangUp,
    /// Or goes on.
    Hold,
    Answer,
}

/// A call of a phone.
pub(super) struct Call {
    /// Named so in our descriptions: who reads one knows who is at the other end.
    pub(super) token: String,
    pub(super) stage: Stage,
    /// The token in the last description that was heard.
    pub(super) peer: Option<String>,
    /// The node that knew it is gone.
    pub(super) orphan: bool,
    call_id: String,
    tag: String,
    /// From and To as we write them.
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    /// `CSeq` and branch of our INVITE in progress.
    inviting: Option<(u32, String)>,
    /// The INVITE that we have not answered yet.
    asked: Option<sip::message::Request>,
    cancelled: bool,
    held: bool,
    /// The last provisional that was acknowledged.
    reliable: Option<u32>,
    version: u32,
    act_at: Option<Duration>,
    give_up_at: Option<Duration>,
    forced: Option<(Duration, Forced)>,
}

/// What somebody on the way sees of a call: all that its requests are made of.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) address: SocketAddr,
    pub(super) call_id: String,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) target: String,
    pub(super) cseq: u32,
    /// `CSeq` and branch of an INVITE that has no answer yet.
    pub(super) inviting: Option<(u32, String)>,
}

/// A phone.
pub(super) struct Phone {
    pub(super) device: &'static str,
    pub(super) address: SocketAddr,
    /// Over UDP it repeats what has no answer; over a connection nothing is lost.
    pub(super) transport: Transport,
    pub(super) mood: Mood,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) registered: bool,
    /// Datagrams to send.
    pub(super) out: Vec<Vec<u8>>,
    /// Calls that the far side ended while they were up: their tokens and peers.
    pub(super) ended_by_peer: Vec<(String, Option<String>)>,
    /// Rules of SIP that the node did not keep.
    pub(super) complaints: Vec<String>,
    pub(super) tally: Tally,
    scene: &'static PhoneOfScene,
    login: Option<Login>,
    /// The node has just been dead: what it did not answer is no complaint.
    patient_until: Duration,
    dice: Dice,
    clients: BTreeMap<String, Client>,
    servers: BTreeMap<String, Server>,
    acknowledged: BTreeMap<(String, u32), Repeated>,
    counter: u64,
    register_at: Option<Duration>,
    register_cseq: u32,
    dial_at: Duration,
    /// It has no power.
    pub(super) off_until: Duration,
    /// Until then a caller may be without power: nobody answers an offer of ours.
    pub(super) lonely_until: Duration,
    /// It has forgotten calls that the node knows of.
    pub(super) amnesiac: bool,
}

impl Phone {
    pub(super) fn new(scene: &'static PhoneOfScene, mut dice: Dice) -> Self {
        let login = scene.user.map(|user| Login { user: user.into(), password: PASSWORD.to_owned().into() });
        let register_at = login.as_ref().map(|_| dice.ms(0, 2_000));
        Self {
            device: scene.device,
            address: address(scene.address),
            transport: Transport::Udp,
            mood: Mood::Still,
            calls: BTreeMap::new(),
            registered: false,
            out: Vec::new(),
            ended_by_peer: Vec::new(),
            complaints: Vec::new(),
            tally: Tally::default(),
            scene,
            login,
            patient_until: Duration::ZERO,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            counter: 0,
            register_at,
            register_cseq: 0,
            dial_at: dice.ms(2_000, 8_000),
            off_until: Duration::ZERO,
            lonely_until: Duration::ZERO,
            amnesiac: false,
            dice,
        }
    }

    /// When [`Phone::timeout`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let times = |call: &Call| [call.act_at, call.give_up_at, call.forced.map(|(at, _)| at)];
        let calls = self.calls.values().flat_map(times).flatten();
        let clients = self.clients.values().map(Client::due);
        let servers = self.servers.values().map(Server::due);
        let dial = (self.mood == Mood::Busy).then_some(self.dial_at);
        calls.chain(clients).chain(servers).chain(dial).chain(self.register_at).min()
    }

    pub(super) fn timeout(&mut self, now: Duration) {
        if self.register_at.is_some_and(|at| at <= now) {
            self.register_at = Some(now + REFRESH);
            self.register(now, "60");
        }
        self.repeat_requests(now);
        self.repeat_responses(now);
        self.acknowledged.retain(|_, repeated| repeated.until > now);
        let due: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| [call.act_at, call.give_up_at].into_iter().flatten().any(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.act(now, id);
        }
        self.do_forced(now);
        if self.mood == Mood::Busy && self.dial_at <= now {
            self.dial_at = now + self.dice.ms(200, self.scene.dials_within_ms);
            if self.calls.len() < self.scene.max_calls {
                let number = *self.dice.pick(super::scene::NUMBERS);
                self.dial(now, number);
            }
        }
    }

    /// Whether nothing of a call is left here.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }

    /// Calls that both sides have.
    pub(super) fn established(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().filter(|call| call.stage == Stage::Up && !call.orphan)
    }

    /// The call of this token, unless it is over or being ended.
    pub(super) fn live_call(&self, token: &str) -> Option<&Call> {
        self.calls.values().find(|call| call.token == token && call.stage != Stage::Ending)
    }

    /// The node is gone; what it knew of our calls is, too.
    pub(super) fn node_gone(&mut self, now: Duration) {
        for call in self.calls.values_mut() {
            call.orphan |= call.stage != (Stage::Calling { heard: false });
        }
        self.registered = false;
        self.patient_until = now + PATIENCE_AFTER_DEATH;
    }

    /// The power is cut until then: it forgets everything, and its registration runs out.
    pub(super) fn power_off(&mut self, until: Duration) {
        self.calls.clear();
        self.clients.clear();
        self.servers.clear();
        self.acknowledged.clear();
        self.registered = false;
        self.register_at = Some(until);
        self.dial_at = until;
        self.off_until = until;
        self.amnesiac = true;
        // An INVITE may reach it just before the node gives up: it rings for nobody, and nobody acknowledges its answer.
        self.patient_until = self.patient_until.max(until + PATIENCE_AFTER_DEATH);
    }

    /// It takes its leave of the registrar, or just doesn't come back in time, until then.
    pub(super) fn lapse(&mut self, now: Duration, until: Duration, politely: bool) {
        if politely {
            self.register(now, "0");
        }
        self.register_at = Some(until);
    }

    /// Calls that ring here, with the token of who calls.
    pub(super) fn ringing(&self) -> impl Iterator<Item = (u64, String)> {
        self.calls.iter().filter_map(|(id, call)| {
            Some((*id, calls::token_in(&call.asked.as_ref()?.body)?))
                .filter(|_| call.stage == Stage::Alerting)
        })
    }

    /// Calls that are up, with the token of the other end where one is known.
    pub(super) fn talking(&self) -> impl Iterator<Item = (u64, Option<&str>)> {
        let up = self.calls.iter().filter(|(_, call)| call.stage == Stage::Up && !call.orphan);
        up.map(|(id, call)| (*id, call.peer.as_deref()))
    }

    /// Its calls, as whoever is at it knows them.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let up = self.calls.iter().filter(|(_, call)| call.stage == Stage::Up && !call.orphan);
        up.map(|(id, call)| Fact {
            device: self.device,
            call_id: call.call_id.clone(),
            token: call.token.clone(),
            address: SocketAddr::new(self.address.ip(), calls::media_port(*id)),
            held: call.held,
        })
    }

    /// Its digest user.
    pub(super) fn user(&self) -> Option<&'static str> {
        self.scene.user
    }

    /// Its calls as they can be seen on the way.
    pub(super) fn seen_calls(&self) -> impl Iterator<Item = Seen> {
        self.calls.values().map(|call| Seen {
            address: self.address,
            call_id: call.call_id.clone(),
            local: call.local.clone(),
            remote: call.remote.clone(),
            target: call.target.clone(),
            cseq: call.cseq,
            inviting: call.inviting.clone(),
        })
    }

    /// Which of its calls has this token.
    pub(super) fn call_of(&self, token: &str) -> Option<u64> {
        self.calls.iter().find(|(_, call)| call.token == token).map(|(id, _)| *id)
    }

    /// The person will do that then.
    pub(super) fn force(&mut self, id: u64, at: Duration, what: Forced) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.forced = Some((at, what));
        }
    }

    /// Ends whatever there is.
    pub(super) fn hang_up_all(&mut self, now: Duration) {
        let all: Vec<u64> = self.calls.keys().copied().collect();
        for id in all {
            self.hang_up(now, id);
        }
    }

    /// Where it is reached.
    fn contact(&self) -> String {
        let parameter = match self.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        format!("<sip:{}@{}{parameter}>", self.scene.lines[0], self.address)
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn register(&mut self, now: Duration, expires: &str) {
        let Some(user) = self.scene.user else { return };
        for line in self.scene.lines {
            self.register_cseq += 1;
            let draft = transactions::Draft {
                method: "REGISTER",
                uri: "sip:10.0.0.1".into(),
                from: format!("<sip:{line}@10.0.0.1>;tag=r{line}"),
                to: format!("<sip:{line}@10.0.0.1>"),
                call_id: format!("register-{user}-{line}"),
                headers: format!("Expires: {expires}\r\n"),
                body: String::new(),
                purpose: transactions::Purpose::Register,
            };
            self.send_request(now, draft, self.register_cseq);
        }
    }
}
