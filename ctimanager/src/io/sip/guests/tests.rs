use super::*;
use crate::io::now;
use security::shares::Share;

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    guests: Guests,
    shares: Shares,
    now: Instant,
}

impl Bench {
    fn new(rows: &[(Place, u64)]) -> Self {
        let mut shares = Shares::new();
        rows.iter().for_each(|(place, most)| shares.set(Share::Place(*place), *most));
        Self { guests: Guests::default(), shares, now: now() }
    }

    fn admit(&mut self, id: u64, from: &str) -> bool {
        let until = self.now + PATIENCE;
        self.guests.admit(&mut self.shares, self.now, ConnectionId(id), ip(from), until)
    }

    /// Somebody proves himself on a new connection, for so many seconds.
    fn proves(&mut self, id: u64, from: &str, who: Who, seconds: u64) -> bool {
        assert!(self.admit(id, from));
        self.learn(id, who, seconds)
    }

    fn learn(&mut self, id: u64, who: Who, seconds: u64) -> bool {
        let until = self.now + Duration::from_secs(seconds);
        self.guests.learn(&mut self.shares, self.now, ConnectionId(id), who, Some(until))
    }

    fn stands(&mut self, id: u64) -> Stands {
        self.guests.stands(self.now, ConnectionId(id), PATIENCE).0
    }

    fn stays(&mut self, ids: impl IntoIterator<Item = u64>) -> Vec<u64> {
        ids.into_iter().filter(|id| self.stands(*id) != Stands::Leaves).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn held(&self, place: Place, who: &Who) -> u64 {
        self.shares.held(place, who)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn phone(name: &str) -> Who {
    Who::Device(name.into())
}

#[test]
fn connections_of_strangers_have_places_until_they_prove_something_or_end() {
    let mut bench = Bench::new(&[(Place::SipConnectionsOfAddress, 2), (Place::SipConnectionsOfStrangers, 3)]);
    assert!(bench.admit(1, "192.0.2.1") && bench.admit(2, "192.0.2.1") && !bench.admit(3, "192.0.2.1"));
    assert!(bench.admit(4, "192.0.2.2") && !bench.admit(5, "192.0.2.3"), "all places are taken");
    assert!(!bench.learn(1, phone("SEP1"), 60));
    assert!(bench.admit(6, "192.0.2.1"));
    for id in [6, 6, 2, 4] {
        bench.guests.forget(&mut bench.shares, ConnectionId(id));
    }
    assert_eq!(bench.held(Place::SipConnectionsOfStrangers, &Who::Strangers), 0);
    assert_eq!(bench.stays([1, 2, 3, 4, 5, 6]), [1]);
}

#[test]
fn a_stranger_leaves_in_time_and_who_proved_himself_when_the_core_no_longer_says_so() {
    let mut bench = Bench::new(&[]);
    assert!(bench.admit(1, "192.0.2.1"));
    assert!(!bench.proves(2, "192.0.2.1", phone("SEP1"), 60));
    bench.pass(10);
    assert_eq!(bench.stays([1, 2]), [2]);
    bench.pass(50);
    assert_eq!(bench.guests.whose(bench.now, ConnectionId(2)), None, "a stranger's again");
    assert_eq!(bench.stands(2), Stands::Asks(Some(phone("SEP1"))));
    let last = bench.now + PATIENCE;
    assert_eq!(bench.stands(2), Stands::Stays(Some(last)), "asked once");
    bench.pass(9);
    bench.learn(2, phone("SEP1"), 30);
    bench.pass(30);
    assert_eq!(bench.stands(2), Stands::Asks(Some(phone("SEP1"))), "it was his for a call");
    bench.pass(10);
    assert_eq!(bench.stands(2), Stands::Leaves);
    bench.guests.forget(&mut bench.shares, ConnectionId(2));
    let address = Who::address(ip("192.0.2.1"));
    assert_eq!(bench.held(Place::SipConnectionsOfDevice, &phone("SEP1")), 0);
    assert_eq!(bench.held(Place::ProvedSipConnectionsOfAddress, &address), 0);
    assert!(bench.guests.held.is_empty() && bench.guests.there.is_empty());
}

#[test]
fn a_registration_that_goes_elsewhere_lets_go_of_its_connection_within_seconds() {
    let mut bench = Bench::new(&[]);
    bench.proves(1, "192.0.2.1", phone("SEP1"), 3_600);
    bench.learn(1, phone("SEP1"), 0);
    assert_eq!(bench.stands(1), Stands::Asks(Some(phone("SEP1"))), "a call may go over it");
    bench.learn(1, phone("SEP1"), 0);
    bench.pass(10);
    assert_eq!(bench.stands(1), Stands::Leaves);
}

#[test]
fn of_a_phones_connections_the_one_that_was_proved_longest_ago_gives_way() {
    let mut bench = Bench::new(&[(Place::SipConnectionsOfDevice, 3)]);
    assert!((1..=3).all(|id| !bench.proves(id, "192.0.2.1", phone("SEP1"), 60)));
    bench.learn(1, phone("SEP1"), 60);
    assert!(bench.proves(4, "192.0.2.2", phone("SEP1"), 60), "from another address, too");
    assert!(!bench.proves(5, "192.0.2.1", phone("SEP2"), 60), "another phone's are another's");
    assert_eq!(bench.stays(1..=5), [1, 3, 4, 5]);
    assert!(!bench.learn(2, phone("SEP1"), 60), "too late");
    assert_eq!(bench.stands(2), Stands::Leaves);
    assert_eq!(bench.held(Place::SipConnectionsOfDevice, &phone("SEP1")), 3);
}

#[test]
fn of_an_address_with_too_many_whoever_has_most_there_gives_way() {
    let mut bench = Bench::new(&[(Place::ProvedSipConnectionsOfAddress, 5)]);
    bench.proves(1, "192.0.2.1", phone("honest"), 60);
    for id in 2..=5 {
        bench.proves(id, "192.0.2.1", phone("greedy"), 60);
    }
    bench.proves(6, "192.0.2.2", phone("greedy"), 60);
    assert!(bench.proves(7, "192.0.2.1", phone("other"), 60));
    assert_eq!(bench.stays(1..=7), [1, 3, 4, 5, 6, 7]);
    assert!(bench.proves(8, "192.0.2.1", phone("greedy"), 60));
    assert_eq!(bench.stays(1..=8), [1, 4, 5, 6, 7, 8]);
}

#[test]
fn trunks_and_proxies_count_for_no_address_and_a_trunk_for_itself() {
    let mut bench = Bench::new(&[
        (Place::ProvedSipConnectionsOfAddress, 1),
        (Place::SipConnectionsOfTrunk, 3),
        (Place::SipConnectionsOfDevice, 1),
    ]);
    let (trunk, proxy) = (Who::Trunk("pstn".into()), Who::Proxy(ip("192.0.2.1")));
    assert!((1..=3).all(|id| !bench.proves(id, "192.0.2.1", trunk.clone(), 60)));
    assert!((4..=9).all(|id| !bench.proves(id, "192.0.2.1", proxy.clone(), 60)));
    assert!(!bench.proves(10, "192.0.2.1", phone("SEP1"), 60));
    assert_eq!(bench.stays(1..=10), (1..=10).collect::<Vec<_>>());
    assert!(bench.proves(11, "192.0.2.1", trunk, 60));
    assert_eq!(bench.stands(1), Stands::Leaves);
}

#[test]
fn what_we_have_made_is_asked_after_and_is_its_addresss_until_it_is_somebodys() {
    let mut bench = Bench::new(&[(Place::ProvedSipConnectionsOfAddress, 2)]);
    let made = |bench: &mut Bench, id| {
        bench.guests.made(&mut bench.shares, bench.now, ConnectionId(id), ip("192.0.2.1"))
    };
    assert!(!made(&mut bench, 1) && !made(&mut bench, 2));
    assert_eq!(bench.stands(1), Stands::Asks(None));
    assert_eq!(bench.stands(1), Stands::Stays(None), "it need not be anybody's");
    assert_eq!(bench.guests.whose(bench.now, ConnectionId(1)), None, "nor known");
    bench.learn(2, phone("SEP1"), 60);
    assert!(made(&mut bench, 3));
    assert_eq!(bench.stays(1..=3), [2, 3], "of equals the first");
    bench.pass(60);
    assert_eq!(bench.stands(2), Stands::Asks(Some(phone("SEP1"))));
    bench.pass(10);
    assert_eq!(bench.stands(2), Stands::Leaves, "its phone is no longer registered");
}
