//! Two stacks with a bad network between them: messages are lost, doubled and overtaken as a seed says, both nodes do
//! what comes to their mind, and in the end everybody agrees that it is over and nothing is left.

use crate::world::{HOLD, OFFER, config, local, refusal, relay};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sip::port::{
    Account, Command, Config, Destination, Directory, Event, Hop, Identity, Input, InviteHandle, KnownTrunk,
    Output, Proof, Sdp, Transport,
};
use sip::stack::Stack;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

struct Everybody;

impl Directory for Everybody {
    fn account(&self, _user: &str) -> Option<Account> {
        None
    }
    fn trunk(&self, _hop: &Hop) -> Option<KnownTrunk> {
        Some(KnownTrunk { name: "T".into(), by: Proof::AddressAndPort })
    }
}

/// What a node thinks of a call.
#[derive(Debug, Default)]
struct Seen {
    over: bool,
    /// Our offer is out since.
    offering: Option<Instant>,
    /// The peer's offer wants an answer.
    asked: bool,
    up: bool,
}

struct Side {
    stack: Stack,
    address: SocketAddr,
    calls: HashMap<InviteHandle, Seen>,
}

enum What {
    Deliver { to: usize, bytes: Vec<u8> },
    Decide { side: usize, call: InviteHandle },
}

struct Network {
    sides: [Side; 2],
    now: Instant,
    queue: BTreeMap<(Instant, u64), What>,
    serial: u64,
    chance: StdRng,
    /// Of a hundred messages so many are lost; as many come twice.
    loss: u32,
    log: Vec<String>,
}

impl Network {
    #[allow(clippy::disallowed_methods)] // the origin of virtual time; nothing is measured
    fn new(seed: u64, loss: u32) -> Network {
        let side = |index: u8| {
            let address: SocketAddr = format!("203.0.113.{}:5060", index + 1).parse().unwrap();
            let mut key = [index; 32];
            key[..8].copy_from_slice(&seed.to_be_bytes());
            let config = Config { listen: vec![(Transport::Udp, address)], ..config() };
            Side { stack: Stack::new(config, key), address, calls: HashMap::new() }
        };
        Network {
            sides: [side(0), side(1)],
            now: Instant::now(),
            queue: BTreeMap::new(),
            serial: 0,
            chance: StdRng::seed_from_u64(seed),
            loss,
            log: Vec::new(),
        }
    }

    fn later(&mut self, milliseconds: u64, what: What) {
        self.serial += 1;
        self.queue.insert((self.now + Duration::from_millis(milliseconds), self.serial), what);
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.chance.random_range(0..100) < percent
    }

    fn input(&mut self, at: usize, input: Input) {
        let mut out = Vec::new();
        self.sides[at].stack.handle(self.now, input, &Everybody, &mut out);
        for output in out {
            match output {
                Output::Send { bytes, .. } => {
                    let copies =
                        if self.percent(self.loss) { 0 } else { 1 + u32::from(self.percent(self.loss)) };
                    for _ in 0..copies {
                        let delay = self.chance.random_range(1..60);
                        self.later(delay, What::Deliver { to: 1 - at, bytes: bytes.clone() });
                    }
                }
                Output::Connect(_)
                | Output::Close(_)
                | Output::Keep(_)
                | Output::SecureMediaRefused { .. } => {}
                Output::Refused(_) | Output::Attempt(_) => {}
                Output::Event(event) => self.event(at, event),
            }
        }
    }

    fn seen(&mut self, at: usize, call: InviteHandle) -> &mut Seen {
        let seen = self.sides[at].calls.get_mut(&call).expect("a call that the node knows");
        assert!(!seen.over, "an event after the end");
        seen
    }

    fn decide_later(&mut self, at: usize, call: InviteHandle) {
        let delay = self.chance.random_range(0..4000);
        self.later(delay, What::Decide { side: at, call });
    }

    fn event(&mut self, at: usize, event: Event) {
        self.log.push(format!("{at} {event:?}"));
        match event {
            Event::Incoming { call, .. } => {
                self.sides[at].calls.insert(call, Seen::default());
                self.decide_later(at, call);
            }
            Event::Ringing(call, _) => {
                self.seen(at, call);
            }
            Event::Answered(call, _) => {
                self.seen(at, call).up = true;
                self.decide_later(at, call);
            }
            Event::Refused { call, .. } | Event::Ended { call, .. } => self.seen(at, call).over = true,
            Event::Offer(call, _) => {
                let seen = self.seen(at, call);
                // An answer to a question of ours for its offer is one, too.
                seen.offering = None;
                assert!(!std::mem::replace(&mut seen.asked, true), "one offer at a time");
                self.decide_later(at, call);
            }
            Event::Answer(call, _) | Event::OfferRefused(call, _) => self.seen(at, call).offering = None,
            Event::Digit(call, _, _) | Event::Identified(call, _) | Event::Referred(call, _) => {
                self.seen(at, call);
            }
            Event::Registration { .. } => panic!("nobody registers"),
        }
    }

    fn description(&mut self) -> Sdp {
        match self.chance.random_range(0..3) {
            0 => local(),
            1 => relay(OFFER),
            _ => relay(HOLD),
        }
    }

    fn decide(&mut self, at: usize, call: InviteHandle) {
        let Some(seen) = self.sides[at].calls.get(&call).filter(|seen| !seen.over) else { return };
        let (asked, up, offering) = (seen.asked, seen.up, seen.offering);
        let waits = offering.map_or(Duration::ZERO, |since| self.now - since);
        assert!(waits < Duration::from_secs(120), "an offer without an end: {:#?}", self.log);
        let incoming = call.0 >> 63 == 1;
        let sdp = self.description();
        let command = match self.chance.random_range(0..10) {
            _ if asked => {
                self.seen(at, call).asked = false;
                if self.percent(80) { Command::Answer(call, sdp) } else { Command::RefuseOffer(call, 488) }
            }
            0 | 1 => {
                self.seen(at, call).over = true;
                Command::End(call, refusal(486, 17))
            }
            2 if incoming && !up => Command::Ring(call, None),
            3 if incoming && !up => Command::Ring(call, Some(sdp)),
            _ if incoming && !up => {
                self.seen(at, call).up = true;
                Command::Accept(call, sdp)
            }
            4 | 5 if up && offering.is_none() => {
                let now = self.now;
                self.seen(at, call).offering = Some(now);
                Command::Offer(call, Some(sdp))
            }
            6 if up && offering.is_none() => {
                let now = self.now;
                self.seen(at, call).offering = Some(now);
                Command::Offer(call, None)
            }
            7 => Command::Digit(call, '5', 100),
            8 => Command::Connected(call, Identity { number: "9".into(), name: None, restricted: false }),
            _ => return self.decide_later(at, call),
        };
        self.log.push(format!("{at} does {command:?}"));
        self.input(at, Input::Command(command));
        self.decide_later(at, call);
    }

    fn call(&mut self, number: u64) {
        let call = InviteHandle(number);
        self.sides[0].calls.insert(call, Seen::default());
        let party = |number: &str| Identity { number: number.into(), name: None, restricted: false };
        let to = Destination::Peer {
            trunk: "T".into(),
            transport: Transport::Udp,
            remote: self.sides[1].address,
            user: "5000".into(),
            host: "b".into(),
        };
        let offer = if self.percent(70) { Some(self.description()) } else { None };
        // A late offer is answered on `Answered`.
        self.sides[0].calls.get_mut(&call).unwrap().asked = false;
        let late = offer.is_none();
        let (from, called) = (party("2001"), party("5000"));
        self.input(
            0,
            Input::Command(Command::Invite {
                call,
                to,
                from,
                called,
                diverted: None,
                hops: 0,
                offer,
                media_encryption: sip::port::MediaEncryption::None,
                max_forwards: 70,
            }),
        );
        if late {
            self.sides[0].calls.get_mut(&call).unwrap().asked = true;
        }
        if self.percent(30) {
            self.decide_later(0, call);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timeouts = [self.sides[0].stack.next_timeout(), self.sides[1].stack.next_timeout()];
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = timeouts.iter().flatten().chain(queued.iter()).min().copied();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if queued == Some(next) {
                let (_, what) = self.queue.pop_first().expect("it was there");
                match what {
                    What::Deliver { to, bytes } => {
                        let (local, remote) = (self.sides[to].address, self.sides[1 - to].address);
                        let hop = Hop { transport: Transport::Udp, local, remote, connection: None };
                        self.input(to, Input::Received { hop, bytes });
                    }
                    What::Decide { side, call } => self.decide(side, call),
                }
                continue;
            }
            for (side, due) in timeouts.into_iter().enumerate() {
                if due.is_some_and(|at| at <= self.now) {
                    self.input(side, Input::Timeout);
                }
            }
        }
        self.now = end;
    }
}

fn play(seed: u64, loss: u32) {
    let mut network = Network::new(seed, loss);
    for number in 1..=4 {
        network.call(number);
        network.run(Duration::from_millis(300));
    }
    // Whoever is left ends by its own dice; whoever lost its peer ends by the session timer.
    network.run(Duration::from_secs(3 * 3600));
    for side in &network.sides {
        for (call, seen) in &side.calls {
            assert!(seen.over, "seed {seed}: {call:?} {seen:?} never ended\n{:#?}", network.log);
        }
        assert!(side.stack.is_quiet(), "seed {seed}: {:#?}\n{:?}", network.log, side.stack.counts());
    }
}

#[test]
fn on_a_good_network_all_calls_end() {
    (0..100).for_each(|seed| play(seed, 0));
}

#[test]
fn on_a_bad_network_all_calls_end() {
    (0..100).for_each(|seed| play(seed, 20));
}

#[test]
fn on_a_terrible_network_all_calls_end() {
    (0..100).for_each(|seed| play(seed, 60));
}
