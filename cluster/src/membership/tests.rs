//! The table of states and events, and what a link may not do.

use super::*;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

const T: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

fn life(incarnation: u32) -> Life {
    Life { started_ms: 1_000 + u64::from(incarnation), life: 7, incarnation }
}

fn facts(mode: Mode) -> Facts {
    Facts { mode, settled: true, duplicate: false, revision: "r1".into() }
}

/// cm1, to which cm3 is always linked; cm2 is looked at.
struct Bench {
    membership: Membership,
    now: Instant,
    out: Vec<Output>,
    /// The counts of cm2 and cm3.
    seq: [u64; 2],
}

impl Bench {
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    fn new() -> Self {
        let now = Instant::now();
        let own = Own { node: "cm1".into(), life: life(1), revision: "r1".into() };
        let membership = Membership::new(own, vec!["cm2".into(), "cm3".into()], T, now, UNIX_EPOCH);
        let mut bench = Self { membership, now, out: Vec::new(), seq: [0; 2] };
        bench.take(Input::Opened { link: LinkId(2), node: "cm2".into() });
        bench.take(Input::Opened { link: LinkId(3), node: "cm3".into() });
        bench.pass(STEP * 3);
        bench
    }

    fn take(&mut self, input: Input) {
        self.membership.handle(self.now, UNIX_EPOCH, input, &mut self.out);
    }

    /// So much time, in which cm3 goes on.
    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.now += STEP;
            self.take(Input::Timeout);
            self.witness(Vec::new());
        }
    }

    /// What cm3 says; it hears us.
    fn witness(&mut self, more: Vec<Heard>) {
        self.seq[1] += 1;
        let heartbeat = self.heartbeat("cm3", life(1), self.seq[1], Mode::Running, more);
        self.take(Input::Received(LinkId(3), Box::new(heartbeat)));
    }

    /// A heartbeat of somebody who has heard our last.
    fn heartbeat(&self, node: &str, of: Life, seq: u64, mode: Mode, mut heard: Vec<Heard>) -> Heartbeat {
        let last = self.membership.seq;
        heard.push(Heard {
            node: "cm1".into(),
            life: life(1),
            seq: last,
            direct: Some(last),
            facts: facts(Mode::Running),
        });
        Heartbeat { node: node.into(), life: of, seq, facts: facts(mode), heard }
    }

    fn own(&mut self, of: Life, mode: Mode) {
        self.seq[0] += 1;
        let heartbeat = self.heartbeat("cm2", of, self.seq[0], mode, Vec::new());
        self.take(Input::Received(LinkId(2), Box::new(heartbeat)));
    }

    /// cm2 doesn't hear us.
    fn deaf(&mut self) {
        self.seq[0] += 1;
        let mut heartbeat = self.heartbeat("cm2", life(1), self.seq[0], Mode::Running, Vec::new());
        heartbeat.heard.clear();
        self.take(Input::Received(LinkId(2), Box::new(heartbeat)));
    }

    /// cm3 has heard another one of cm2.
    fn word(&mut self) {
        self.seq[0] += 1;
        let seq = self.seq[0];
        let heard =
            Heard { node: "cm2".into(), life: life(1), seq, direct: Some(seq), facts: facts(Mode::Running) };
        self.witness(vec![heard]);
    }

    fn again(&mut self, mut act: impl FnMut(&mut Self)) {
        for _ in 0..20 {
            self.now += STEP;
            self.take(Input::Timeout);
            self.witness(Vec::new());
            act(self);
        }
    }

    fn shown(&self) -> String {
        let view = self.membership.other(&"cm2".into()).expect("it is of the file");
        let life = view.life.map_or("–".into(), |life| life.incarnation.to_string());
        format!("{} {} {life}", view.state.word(), view.link.word())
    }
}

type Act = fn(&mut Bench);

const STATES: &[(&str, Act)] = &[
    ("unknown", |_| {}),
    ("running", |bench| bench.own(life(1), Mode::Running)),
    ("draining", |bench| bench.own(life(1), Mode::Draining)),
    ("unreachable", |bench| {
        bench.own(life(1), Mode::Running);
        bench.again(Bench::word);
    }),
    ("down", |bench| {
        bench.own(life(1), Mode::Running);
        bench.pass(T * 2);
    }),
];

const EVENTS: &[(&str, Act)] = &[
    ("a heartbeat of its, which has heard ours", |bench| bench.own(life(1), Mode::Running)),
    ("the same: it drains", |bench| bench.own(life(1), Mode::Draining)),
    ("the same of a next life", |bench| bench.own(life(2), Mode::Running)),
    ("heartbeats of its, which hear nothing of us", |bench| bench.again(Bench::deaf)),
    ("cm3 is told of once", Bench::word),
    ("cm3 goes on hearing it", |bench| bench.again(Bench::word)),
    ("the link closes", |bench| bench.take(Input::Closed(LinkId(2)))),
    ("one with the count that was known last", |bench| {
        bench.seq[0] = bench.seq[0].saturating_sub(1);
        bench.own(life(1), Mode::Running);
    }),
    ("silence", |bench| bench.pass(T * 2)),
    ("we stand still for ten timeouts", |bench| {
        bench.now += T * 10;
        bench.take(Input::Timeout);
    }),
];

#[test]
fn the_whole_table_of_states_and_events() {
    let mut table = String::new();
    for (state, reach) in STATES {
        for (event, happen) in EVENTS {
            let mut bench = Bench::new();
            reach(&mut bench);
            let before = bench.shown();
            assert!(before.starts_with(state), "{state}: {before}");
            bench.out.clear();
            happen(&mut bench);
            let told = bench.out.iter().filter(|output| **output == Output::Changed("cm2".into())).count();
            let _ = writeln!(table, "{before:<20} | {event:<44} | {:<20} | told {told}", bench.shown());
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn who_says_that_he_is_another_than_his_certificate_is_let_go_of() {
    let mut bench = Bench::new();
    let of_another = bench.heartbeat("cm3", life(9), 1, Mode::Running, Vec::new());
    bench.out.clear();
    bench.take(Input::Received(LinkId(2), Box::new(of_another)));
    assert!(bench.out.contains(&Output::Close(LinkId(2))), "{:?}", bench.out);
    bench.out.clear();
    bench.own(life(1), Mode::Running);
    assert_eq!(bench.shown(), "unknown down –", "nothing is believed on a link that is closed");
}

#[test]
fn names_that_are_not_of_the_file_are_neither_linked_nor_told_of() {
    let mut bench = Bench::new();
    bench.out.clear();
    bench.take(Input::Opened { link: LinkId(9), node: "cm9".into() });
    assert!(bench.out.contains(&Output::Close(LinkId(9))));
    let heard =
        Heard { node: "cm9".into(), life: life(1), seq: 4, direct: None, facts: facts(Mode::Running) };
    bench.witness(vec![heard]);
    bench.out.clear();
    bench.pass(STEP);
    let sent = bench.out.iter().find_map(|output| match output {
        Output::Send(_, heartbeat) => Some(heartbeat.heard.iter().any(|heard| heard.node.as_str() == "cm9")),
        _ => None,
    });
    assert_eq!(sent, Some(false));
}

#[test]
fn links_and_lives_are_bounded() {
    let mut bench = Bench::new();
    for link in 10..3_000 {
        bench.take(Input::Opened { link: LinkId(link), node: "cm2".into() });
    }
    assert_eq!(bench.membership.links.len(), MAX_LINKS);
    for incarnation in 0..100 {
        bench.own(life(incarnation), Mode::Running);
    }
    assert!(bench.membership.peers[0].lives.iter().count() <= crate::lives::MAX_LIVES);
    bench.pass(T * 2);
    assert_eq!(bench.membership.peers[0].lives.iter().count(), 1, "the one that is shown");
}

#[test]
fn another_timeout_and_revision_hold_at_once() {
    let mut bench = Bench::new();
    bench.own(life(1), Mode::Running);
    bench.membership.configure(T * 5, "r2".into(), bench.now);
    bench.out.clear();
    bench.take(Input::Timeout);
    let sent = bench.out.iter().find_map(|output| match output {
        Output::Send(_, heartbeat) => Some(heartbeat.facts.revision.to_string()),
        _ => None,
    });
    assert_eq!(sent.as_deref(), Some("r2"));
    bench.pass(T * 4);
    assert_eq!(bench.shown(), "running up 1");
    bench.pass(T * 3);
    assert_eq!(bench.shown(), "down down 1");
}
