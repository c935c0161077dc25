//! Tests of the shares, each at its limit.

use super::acquaintances::{MAX_MET, REMEMBERED};
use super::doors::{MAX_HOMES, MAX_REMEMBERED};
use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nth(n: u32) -> Who {
    Who::address(IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
}

/// Tests need some instant to count from; which one makes no difference.
#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn a_rate_has_a_burst_counts_the_price_and_refuses_one_alone() {
    let (mut shares, t0, rate) = (Shares::new(), start(), Rate::SipOfAddress);
    shares.set(Share::Rate(rate), 100);
    let (one, other) = (nth(1), nth(2));
    assert!((0..20).all(|_| shares.take(t0, rate, &one, 5).is_ok()));
    assert_eq!(shares.take(t0, rate, &one, 5), Err(TooMany { retry_after: 50 * MS }));
    assert_eq!(shares.take(t0, rate, &other, 100), Ok(()));
    assert_eq!(shares.take(t0 + 50 * MS, rate, &one, 5), Ok(()));
    assert!(shares.take(t0 + 50 * MS, rate, &one, 1).is_err());
    assert!((0..100).all(|_| shares.take(t0 + 10 * S, rate, &one, 1).is_ok()), "no more than one burst");
    assert!(shares.take(t0 + 10 * S, rate, &one, 1).is_err());
    assert_eq!(shares.refused(Share::Rate(rate)), 3);
}

#[test]
fn what_costs_more_than_a_burst_is_taken_of_a_full_bucket() {
    let (mut shares, t0, rate) = (Shares::new(), start(), Rate::SipOfDevice);
    shares.set(Share::Rate(rate), 10);
    let who = Who::Device("d".into());
    assert_eq!(shares.take(t0, rate, &who, 64), Ok(()));
    assert_eq!(shares.take(t0, rate, &who, 1), Err(TooMany { retry_after: 5_500 * MS }));
    assert!(shares.take(t0 + 6 * S, rate, &who, 64).is_err());
    assert_eq!(shares.take(t0 + 6_400 * MS, rate, &who, 64), Ok(()));
}

/// Spoofed addresses make no work and no memory, and take nothing from those who were there before.
#[test]
fn of_a_crowd_so_many_are_told_apart_and_the_rest_share_one_share() {
    let (mut shares, t0, rate) = (Shares::new(), start(), Rate::SipOfAddress);
    shares.set(Share::Rate(rate), 10);
    for n in 0..200_000 {
        let _ = shares.take(t0, rate, &nth(n), 1);
    }
    assert_eq!(shares.rates[rate as usize].len(), MAX_KNOWN);
    assert!((0..9).all(|_| shares.take(t0, rate, &nth(0), 1).is_ok()), "the first one's share is whole");
    assert!(shares.take(t0, rate, &nth(1_000_000), 1).is_err(), "the late ones' is used up");
    // After a second of silence nothing is left of them.
    for n in 0..2_000 {
        assert_eq!(shares.take(t0 + 2 * S, rate, &nth(2_000_000 + n), 1), Ok(()));
    }
    assert!(shares.rates[rate as usize].len() <= 4_096);
}

#[test]
fn what_a_request_cost_is_paid_before_the_next_one() {
    let (mut shares, t0, rate) = (Shares::new(), start(), Rate::RequestsOfUser);
    shares.set(Share::Rate(rate), 100);
    let who = Who::User("alice".into());
    assert_eq!(shares.take(t0, rate, &who, 1), Ok(()));
    shares.charge(t0, rate, &who, 49);
    assert!((0..50).all(|_| shares.take(t0, rate, &who, 1).is_ok()), "half of the burst is left");
    assert!(shares.take(t0, rate, &who, 1).is_err());
    shares.charge(t0, rate, &who, 49);
    assert_eq!(shares.take(t0, rate, &who, 1), Err(TooMany { retry_after: 500 * MS }));
    assert_eq!(shares.take(t0 + 500 * MS, rate, &who, 1), Ok(()));
    let later = t0 + 60 * S;
    assert_eq!(shares.take(later, rate, &who, 1), Ok(()));
    (0..9).for_each(|_| shares.charge(later, rate, &who, u64::MAX));
    assert_eq!(
        shares.take(later, rate, &who, 1),
        Err(TooMany { retry_after: S + 10 * MS }),
        "a second's worth"
    );
    shares.set(Share::Rate(rate), 100);
    assert!(shares.take(later, rate, &who, 1).is_err(), "the same rate is no other");
    shares.set(Share::Rate(rate), 1);
    assert_eq!(shares.take(later, rate, &who, 1), Ok(()), "another one begins anew");
    shares.set(Share::Rate(rate), 100);
    shares.charge(later, rate, &Who::User("nobody".into()), 100);
    assert_eq!(shares.take(later, rate, &Who::User("bob".into()), 100), Ok(()));
}

fn let_in(shares: &mut Shares, at: Instant, listener: Listener, from: &str) -> usize {
    (0..1_000).filter(|_| shares.knock(at, listener, address(from)).is_ok()).count()
}

fn with_few_knocks() -> Shares {
    let mut shares = Shares::new();
    for (strange, known) in [Listener::Sip, Listener::Cti, Listener::Web].map(Listener::rates) {
        shares.set(Share::Rate(strange), 2);
        shares.set(Share::Rate(known), 10);
    }
    shares
}

#[test]
fn who_knocks_too_often_is_refused_at_that_kind_of_listener_alone() {
    let (mut shares, t0) = (with_few_knocks(), start());
    for listener in [Listener::Sip, Listener::Cti, Listener::Web] {
        assert_eq!(
            let_in(&mut shares, t0, listener, AWAY),
            40,
            "{listener:?}: twenty seconds' worth at once"
        );
        assert_eq!(let_in(&mut shares, t0, listener, HOME), 40, "{listener:?}: another has his own");
    }
    assert_eq!(let_in(&mut shares, t0 + S, Listener::Sip, AWAY), 2);
    assert_eq!(let_in(&mut shares, t0 + 21 * S, Listener::Sip, AWAY), 40);
    assert_eq!(let_in(&mut shares, t0, Listener::Web, "2001:db8::1"), 40);
    assert_eq!(let_in(&mut shares, t0, Listener::Web, "2001:db8::2"), 0, "a network is one address");
    let strange = Share::Rate(Rate::NewSipConnectionsOfAddress);
    assert_eq!(shares.refused(strange), 960 + 960 + 998 + 960);
    let news = shares.news(t0 + 21 * S);
    assert!(news.iter().any(|news| news.share == strange && news.who == Who::address(address(AWAY))));
    shares.set(strange, 4);
    assert_eq!(let_in(&mut shares, t0 + 22 * S, Listener::Sip, AWAY), 80, "another share, from now on");
}

#[test]
fn where_somebody_has_proved_himself_many_may_come_back_at_once() {
    let (mut shares, t0) = (with_few_knocks(), start());
    assert_eq!(let_in(&mut shares, t0, Listener::Sip, HOME), 40);
    shares.met(t0, address(HOME));
    assert_eq!(let_in(&mut shares, t0, Listener::Sip, HOME), 200, "a stranger's flood took nothing of that");
    assert_eq!(let_in(&mut shares, t0, Listener::Cti, HOME), 200);
    assert_eq!(let_in(&mut shares, t0, Listener::Sip, AWAY), 40);
    assert_eq!(let_in(&mut shares, t0 + REMEMBERED - S, Listener::Sip, HOME), 200);
    assert_eq!(let_in(&mut shares, t0 + REMEMBERED, Listener::Web, HOME), 40, "a day later nobody knows it");
    shares.named([address(AWAY)]);
    assert_eq!(
        let_in(&mut shares, t0 + 30 * REMEMBERED, Listener::Sip, AWAY),
        200,
        "a trunk's is known for good"
    );
    shares.named([]);
    assert_eq!(let_in(&mut shares, t0 + 60 * REMEMBERED, Listener::Sip, AWAY), 40);
}

#[test]
fn memory_of_who_was_met_is_bounded_and_the_stalest_is_forgotten() {
    let (mut shares, t0) = (with_few_knocks(), start());
    let nth = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    let most = u32::try_from(MAX_MET).unwrap();
    (0..most).for_each(|n| shares.met(t0 + n * MS, nth(n)));
    // Again, after a while: it is the youngest now.
    shares.met(t0 + 120 * S, nth(0));
    (most..most + 5).for_each(|n| shares.met(t0 + 130 * S, nth(n)));
    assert_eq!(shares.acquaintances.remembered(), [MAX_MET; 2]);
    let mut many = |n: u32| let_in(&mut shares, t0 + 131 * S, Listener::Sip, &nth(n).to_string()) == 200;
    assert!(many(0) && !many(1) && !many(5) && many(6) && many(most + 4));
}

#[test]
fn what_is_bounded_elsewhere_is_told_as_all_else() {
    let (mut shares, t0, bound) = (Shares::new(), start(), Bound::SipBytesOfAddress);
    shares.note(t0, bound, &nth(1), 0);
    assert_eq!((shares.next_timeout(), shares.news(t0)), (None, vec![]));
    shares.note(t0, bound, &nth(1), 7);
    let news = shares.news(t0);
    assert_eq!((news.len(), news[0].refused, news[0].state), (1, 7, State::Began));
    assert_eq!(shares.refused(Share::Bound(bound)), 7);
}

#[test]
fn what_is_held_is_bounded_and_given_back() {
    let (mut shares, t0, place) = (Shares::new(), start(), Place::SipConnectionsOfAddress);
    shares.set(Share::Place(place), 3);
    let (one, other) = (nth(1), nth(2));
    assert_eq!(shares.hold(t0, place, &one, 2), Ok(()));
    assert!(shares.hold(t0, place, &one, 2).is_err(), "all or nothing");
    assert_eq!(shares.hold(t0, place, &one, 1), Ok(()));
    assert_eq!(shares.hold(t0, place, &other, 3), Ok(()));
    shares.release(place, &one, 3);
    shares.release(place, &one, 3);
    assert_eq!((shares.held(place, &one), shares.held(place, &other)), (0, 3));
    assert!(shares.hold(t0, place, &one, u64::MAX).is_err());
    assert!(shares.hold(t0, place, &other, u64::MAX).is_err(), "no overflow");
}

#[test]
fn a_slash_64_counts_as_one_address_and_mapped_ones_as_ipv4() {
    assert_eq!(Who::address(address("2001:db8:1:2::1")), Who::address(address("2001:db8:1:2:ffff::9")));
    assert_ne!(Who::address(address("2001:db8:1:2::1")), Who::address(address("2001:db8:1:3::1")));
    assert_eq!(Who::address(address("::ffff:192.0.2.1")), Who::address(address("192.0.2.1")));
}

const HOME: &str = "192.0.2.1";
const AWAY: &str = "198.51.100.1";

fn fail(shares: &mut Shares, at: Instant, name: &str, from: &str) {
    shares.disproved(at, Door::Cti, name, address(from));
}

fn may(shares: &Shares, at: Instant, name: &str, from: &str) -> Result<(), TooMany> {
    shares.may_prove(at, Door::Cti, name, address(from))
}

#[test]
fn the_eleventh_try_of_a_minute_waits_until_the_first_failure_is_a_minute_old() {
    let (mut shares, t0) = (Shares::new(), start());
    for n in 0..10 {
        assert_eq!(may(&shares, t0 + n * MS, "alice", AWAY), Ok(()));
        fail(&mut shares, t0 + n * MS, "alice", AWAY);
    }
    let refused = may(&shares, t0 + 10 * MS, "alice", AWAY).unwrap_err();
    assert_eq!(refused.retry_after_ms(), 59_990);
    assert!(may(&shares, t0 + 10 * MS, "alice", "192.0.2.2").is_err(), "the user from elsewhere");
    assert!(may(&shares, t0 + 10 * MS, "bob", AWAY).is_err(), "another user from there");
    assert_eq!(may(&shares, t0 + 10 * MS, "bob", "192.0.2.2"), Ok(()));
    assert!(may(&shares, t0 + 60 * S - MS, "alice", AWAY).is_err());
    assert_eq!(may(&shares, t0 + 60 * S, "alice", AWAY), Ok(()));
    assert_eq!(shares.may_prove(t0, Door::Sip, "alice", address(AWAY)), Ok(()), "another door");
}

#[test]
fn the_resume_of_a_session_is_nobody_elses_to_use_up_and_has_an_end_too() {
    let (mut shares, t0) = (Shares::new(), start());
    (0..50).for_each(|n| fail(&mut shares, t0 + n * MS, "alice", AWAY));
    assert!(may(&shares, t0 + S, "alice", AWAY).is_err());
    for n in 0..100 {
        assert_eq!(shares.may_resume(t0 + S + n * MS, Door::Cti, "alice", address(AWAY)), Ok(()));
        shares.not_resumed(t0 + S + n * MS, Door::Cti, "alice", address(AWAY));
    }
    assert!(shares.may_resume(t0 + 2 * S, Door::Cti, "alice", address(AWAY)).is_err());
    let told = shares.news(t0 + 2 * S);
    assert!(told.iter().any(|news| news.share == Share::Door(Door::Cti)), "{told:?}");
    assert_eq!(shares.may_resume(t0 + 2 * S, Door::Cti, "alice", address(HOME)), Ok(()), "from elsewhere");
    assert_eq!(shares.may_resume(t0 + 62 * S, Door::Cti, "alice", address(AWAY)), Ok(()));
}

#[test]
fn a_stranger_locks_nobody_out_where_he_was_let_in_before() {
    let (mut shares, t0) = (Shares::new(), start());
    shares.proved(Door::Cti, "alice", address(HOME));
    for n in 0..50 {
        fail(&mut shares, t0 + n * MS, "alice", AWAY);
        fail(&mut shares, t0 + n * MS, "nobody", HOME);
    }
    assert!(may(&shares, t0 + S, "alice", AWAY).is_err());
    assert!(may(&shares, t0 + S, "alice", "203.0.113.9").is_err(), "where she never was");
    assert_eq!(may(&shares, t0 + S, "alice", HOME), Ok(()), "neither her name's share nor the address'");
    assert!(may(&shares, t0 + S, "bob", HOME).is_err(), "who was never let in from there");
    for n in 0..100 {
        assert_eq!(may(&shares, t0 + S + n * MS, "alice", HOME), Ok(()));
        fail(&mut shares, t0 + S + n * MS, "alice", HOME);
    }
    assert!(may(&shares, t0 + 2 * S, "alice", HOME).is_err(), "at home a name has ten times the share");
    shares.proved(Door::Cti, "bob", address("2001:db8::1"));
    fail(&mut shares, t0, "bob", HOME);
    assert_eq!(may(&shares, t0 + S, "bob", "2001:db8::2"), Ok(()), "a network is one home");
}

#[test]
fn the_wait_of_an_address_doubles_and_that_of_a_name_does_not() {
    let (mut shares, t0) = (Shares::new(), start());
    let mut now = t0;
    let mut waits = Vec::new();
    for round in 0..7 {
        for n in 0..10 {
            fail(&mut shares, now, &format!("user{round}-{n}"), AWAY);
        }
        let wait = may(&shares, now, "fresh", AWAY).unwrap_err().retry_after;
        waits.push(wait.as_secs() / 60);
        now += wait;
        assert_eq!(may(&shares, now, "fresh", AWAY), Ok(()));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
    now += 40 * 60 * S;
    for _ in 0..10 {
        fail(&mut shares, now, "alice", AWAY);
    }
    assert_eq!(may(&shares, now, "fresh", AWAY).unwrap_err().retry_after, 60 * S, "forgiven");
    for round in 0..3 {
        now += 60 * S;
        for n in 0..10 {
            fail(&mut shares, now, "bob", &format!("10.0.{round}.{n}"));
        }
        assert_eq!(may(&shares, now, "bob", "10.1.1.1").unwrap_err().retry_after, 60 * S);
    }
}

#[test]
fn a_lower_limit_binds_at_once() {
    let (mut shares, t0) = (Shares::new(), start());
    for n in 0..3 {
        fail(&mut shares, t0 + n * MS, "alice", AWAY);
    }
    shares.set(Share::Door(Door::Cti), 2);
    let refused = may(&shares, t0 + 3 * MS, "alice", "192.0.2.9").unwrap_err();
    assert_eq!(refused.retry_after_ms(), 59_998, "from the second failure on");
}

/// A hundred thousand names within a second: the stalest goes each time, at no more cost than the first.
#[test]
fn memory_of_failures_and_homes_is_bounded_and_the_stalest_is_forgotten() {
    let (mut shares, t0) = (Shares::new(), start());
    shares.set(Share::Door(Door::Cti), 1);
    let from = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    for n in 0..30_000 {
        let at = t0 + n * Duration::from_micros(1);
        shares.disproved(at, Door::Cti, &format!("user{n}"), from(n));
    }
    assert_eq!(shares.doors[Door::Cti as usize].remembered(), [MAX_REMEMBERED; 4]);
    assert_eq!(may(&shares, t0 + S, "user0", AWAY), Ok(()), "the oldest went");
    assert!(may(&shares, t0 + S, "user29999", AWAY).is_err());
    shares.disproved(t0 + 120 * S, Door::Cti, "late", from(1));
    assert_eq!(shares.doors[Door::Cti as usize].remembered()[0], 1, "what is over is thrown away first");
    for n in 0..=u32::try_from(MAX_HOMES).unwrap() {
        shares.proved(Door::Cti, "alice", from(n));
    }
    fail(&mut shares, t0 + 200 * S, "alice", AWAY);
    assert!(shares.may_prove(t0 + 200 * S, Door::Cti, "alice", from(0)).is_err(), "no home any more");
    assert_eq!(shares.may_prove(t0 + 200 * S, Door::Cti, "alice", from(1)), Ok(()));
}

#[test]
fn a_refusal_is_told_once_a_second_and_its_alarm_ends_when_it_is_quiet() {
    let (mut shares, t0, place) = (Shares::new(), start(), Place::SipConnectionsOfAddress);
    shares.set(Share::Place(place), 1);
    assert_eq!(shares.next_timeout(), None);
    let refuse = |shares: &mut Shares, at| shares.hold(at, place, &nth(1), 2).unwrap_err();
    let told = |shares: &mut Shares, at| {
        let all: Vec<_> = shares.news(at).into_iter().map(|news| (news.refused, news.state)).collect();
        all
    };
    refuse(&mut shares, t0);
    assert_eq!(shares.next_timeout(), Some(t0));
    assert_eq!(told(&mut shares, t0), [(1, State::Began)]);
    for n in 1..=500 {
        refuse(&mut shares, t0 + n * MS);
        assert_eq!(told(&mut shares, t0 + n * MS), []);
    }
    assert_eq!(shares.next_timeout(), Some(t0 + S));
    assert_eq!(told(&mut shares, t0 + S), [(500, State::GoesOn)]);
    assert_eq!(shares.next_timeout(), Some(t0 + 500 * MS + QUIET), "the last refusal counts");
    assert_eq!(told(&mut shares, t0 + 60 * S), []);
    assert_eq!(told(&mut shares, t0 + 61 * S), [(0, State::Over)]);
    assert_eq!((shares.next_timeout(), told(&mut shares, t0 + 99 * S)), (None, vec![]));
}

#[test]
fn of_a_crowd_so_many_are_told_of_and_the_rest_together() {
    let (mut shares, t0, place) = (Shares::new(), start(), Place::SipConnectionsOfAddress);
    for n in 0..1_000 {
        assert!(shares.hold(t0, place, &nth(n), u64::MAX).is_err());
    }
    let news = shares.news(t0);
    assert_eq!(news.len(), MAX_TOLD + 1);
    let others = news.iter().find(|news| news.who == Who::Others).unwrap();
    assert_eq!(others.refused, 1_000 - u64::try_from(MAX_TOLD).unwrap());
    assert_eq!(shares.refused(Share::Place(place)), 1_000);
}

#[test]
fn a_line_a_second_for_each_and_for_a_crowd_together() {
    let (mut shares, t0) = (Shares::new(), start());
    assert_eq!(shares.line(t0, &nth(0)), Some(0));
    assert_eq!((shares.line(t0, &nth(0)), shares.line(t0 + 999 * MS, &nth(0))), (None, None));
    assert_eq!(shares.line(t0 + S, &nth(0)), Some(2));
    let lines = (0..100_000).filter(|n| shares.line(t0 + S, &nth(*n)).is_some()).count();
    assert!(lines <= MAX_TOLD + 1, "{lines}");
    let later = (0..100_000).filter(|n| shares.line(t0 + 3 * S, &nth(*n)).is_some()).count();
    assert!((MAX_TOLD - 2..=MAX_TOLD + 1).contains(&later), "{later}: the silent make room");
}

#[test]
fn every_row_is_in_the_document() {
    let document = include_str!("../../../docs/security.md");
    for row in Share::all().map(Share::row) {
        let line = format!("| `{}` | {} | {} | `{}` |", row.name, row.who.name(), row.default, row.key);
        assert!(document.contains(&line), "docs/security.md lacks: {line}");
    }
}

#[test]
fn every_row_has_its_index_a_default_and_a_name() {
    for (index, share) in Share::all().enumerate() {
        assert_eq!(share.index(), index);
        let row = share.row();
        assert!(row.default > 0 && !row.name.is_empty() && !row.key.is_empty());
    }
}
