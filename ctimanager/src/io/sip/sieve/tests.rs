//! Tests of the sieve: what passes is asked of the system itself.

use super::floods::{MAX_THINNED, WINDOW};
use super::*;
use crate::io::now;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A socket of the node's with a sieve before it.
struct Bench {
    socket: UdpSocket,
    at: SocketAddr,
}

impl Bench {
    /// None where the machine has no such addresses.
    fn new(address: &str) -> Option<Bench> {
        let socket = UdpSocket::bind(at(address)).ok()?;
        socket.set_nonblocking(true).expect("it can");
        let at = socket.local_addr().expect("bound");
        Some(Bench { socket, at })
    }

    fn fit(&self, sieve: &Sieve) -> &Self {
        sieve.fit(&self.socket, self.at.is_ipv4());
        self
    }

    /// How many of so many datagrams pass. Over loopback each has been judged when it is sent.
    fn passes(&self, from: &UdpSocket, count: usize) -> usize {
        let mut buffer = [0; 100];
        let passed = |_: &usize| {
            from.send_to(b"OPTIONS", self.at).expect("sent");
            self.socket.recv(&mut buffer).is_ok()
        };
        (0..count).filter(passed).count()
    }
}

fn phone(address: &str) -> UdpSocket {
    UdpSocket::bind(at(address)).expect("an address of loopback")
}

fn port(phone: &UdpSocket) -> u16 {
    phone.local_addr().expect("bound").port()
}

fn nothing() -> Option<Part> {
    Some(Part::of(0.0))
}

#[test]
fn of_a_thinned_address_the_known_pass_and_all_of_others() {
    let bench = Bench::new("127.0.0.1:0").expect("loopback");
    let [known, other, thinned, elsewhere] =
        ["127.0.0.7:0", "127.0.0.7:0", "127.0.0.7:0", "127.0.0.8:0"].map(phone);
    let ports = [(port(&known), None), (port(&thinned), Some(Part::of(0.25)))].into();
    let mut sieve = Sieve::default();
    sieve.addresses.insert(ip("127.0.0.7"), Holes { ports, rest: nothing() });
    bench.fit(&sieve);
    assert_eq!([&known, &other, &elsewhere].map(|phone| bench.passes(phone, 20)), [20, 0, 20]);
    let quarter = bench.passes(&thinned, 4_000);
    assert!((800..1_200).contains(&quarter), "{quarter} of 4,000");
    // Beside many others, whose addresses make a tree of it.
    for n in 0..MAX_THINNED {
        let address = Ipv4Addr::from_bits(0x7f00_0001 + 3 * u32::try_from(n).expect("few"));
        sieve.addresses.entry(address.into()).or_insert(Holes { ports: [].into(), rest: nothing() });
    }
    bench.fit(&sieve);
    assert_eq!([&known, &other, &elsewhere].map(|phone| bench.passes(phone, 20)), [20, 0, 20]);
    assert_eq!(bench.passes(&phone("127.0.0.10:0"), 20), 0, "each of them");
    bench.fit(&Sieve::default());
    assert_eq!([&known, &other, &thinned].map(|phone| bench.passes(phone, 20)), [20; 3], "it is gone");
}

#[test]
fn where_the_crowd_is_thinned_the_known_pass() {
    let bench = Bench::new("127.0.0.1:0").expect("loopback");
    let [known, other, elsewhere, thinned] =
        ["127.0.0.7:0", "127.0.0.7:0", "127.0.1.8:0", "127.0.0.9:0"].map(phone);
    let mut sieve = Sieve { crowd: nothing(), ..Sieve::default() };
    sieve.known = [&known, &thinned].map(|phone| phone.local_addr().expect("bound")).into();
    sieve
        .addresses
        .insert(ip("127.0.0.9"), Holes { ports: [(port(&thinned), nothing())].into(), rest: None });
    bench.fit(&sieve);
    let passes = |bench: &Bench| [&known, &other, &elsewhere, &thinned].map(|phone| bench.passes(phone, 20));
    assert_eq!(passes(&bench), [20, 0, 0, 0]);
    sieve.crowd = Some(Part::of(0.5));
    let half = bench.fit(&sieve).passes(&other, 4_000);
    assert!((1_800..2_200).contains(&half), "{half} of 4,000");
    sieve.known.clear();
    sieve.crowd = nothing();
    assert_eq!(passes(bench.fit(&sieve)), [0; 4], "nobody is known");
}

#[test]
fn a_crowd_is_told_from_many_known_less_exactly() {
    let bench = Bench::new("127.0.0.1:0").expect("loopback");
    let [known, beside, near, far] =
        ["127.9.0.7:0", "127.9.0.7:0", "127.9.0.200:0", "127.200.0.1:0"].map(phone);
    let mut passed = Vec::new();
    for (networks, each) in [(1, 1), (1, 250), (200, 10), (20_000, 1)] {
        let mut sieve = Sieve { crowd: nothing(), ..Sieve::default() };
        sieve.known.push(known.local_addr().expect("bound"));
        for network in 1..networks {
            for host in 0..each {
                let address = Ipv4Addr::from_bits(0x0a00_0000 + (network << 8) + host);
                sieve.known.push(SocketAddr::new(address.into(), 5060));
            }
        }
        for host in 10..each {
            sieve.known.push(SocketAddr::new(Ipv4Addr::from_bits(0x7f09_0000 + host).into(), 5060));
        }
        bench.fit(&sieve);
        passed.push([&known, &beside, &near, &far].map(|phone| bench.passes(phone, 20)));
    }
    assert_eq!(passed[0], [20, 0, 0, 0], "one way");
    assert_eq!(passed[1], [20, 0, 0, 0], "hundreds of ways");
    assert_eq!(passed[2], [20, 20, 20, 0], "their networks");
    assert_eq!(passed[3], [20, 20, 20, 0], "thousands of networks are their regions");
}

#[test]
fn of_ipv6_a_network_is_thinned() {
    let Some(bench) = Bench::new("[::1]:0") else { return };
    let [known, other] = ["[::1]:0", "[::1]:0"].map(phone);
    let network = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let mut sieve = Sieve::default();
    sieve.addresses.insert(network, Holes { ports: [(port(&known), None)].into(), rest: nothing() });
    for n in 1..20_u128 {
        let rest = nothing();
        // Two of each second word, which tells them apart first.
        let other = Ipv6Addr::from_bits((n % 2) << 96 | (n / 2) << 64);
        sieve.addresses.insert(other.into(), Holes { ports: [].into(), rest });
    }
    assert_eq!([&known, &other].map(|phone| bench.fit(&sieve).passes(phone, 20)), [20, 0]);
    let sieve =
        Sieve { crowd: nothing(), known: vec![known.local_addr().expect("bound")], ..Sieve::default() };
    assert_eq!([&known, &other].map(|phone| bench.fit(&sieve).passes(phone, 20)), [20, 0]);
    let known_alone = Sieve { addresses: [(ip("127.0.0.1"), Holes::default())].into(), ..Sieve::default() };
    assert_eq!([&known, &other].map(|phone| bench.fit(&known_alone).passes(phone, 20)), [20, 20], "IPv4's");
}

#[test]
fn what_does_not_fit_is_told_less_exactly_or_not_thinned() {
    let mut sieve = Sieve { crowd: Some(Part::of(0.1)), ..Sieve::default() };
    for n in 0..60_000_u32 {
        sieve.known.push(SocketAddr::new(Ipv4Addr::from_bits(n << 15).into(), 5060));
    }
    for n in 0..64_u32 {
        let ports = (0..128).map(|port| (port, None)).collect();
        sieve.addresses.insert(Ipv4Addr::from_bits(n).into(), Holes { ports, rest: nothing() });
    }
    for most in SIZES {
        let program = program::of(&sieve, true, most).map_or(0, |program| program.len());
        assert!(program <= most, "{program} of {most}");
    }
    sieve.known.clear();
    assert!(
        program::of(&sieve, true, SIZES[0]).is_some_and(|program| program.len() > 3_000),
        "what fits is thinned"
    );
    assert_eq!(program::of(&Sieve::default(), true, SIZES[0]), None);
    assert_eq!(program::of(&sieve, false, 3), None, "not even the crowd");
}

/// The two sockets at an address, as the node binds them.
struct Two([UdpSocket; 2]);

impl Two {
    async fn at(address: &str) -> Option<Two> {
        let listen = crate::io::Listen { sip_udp: vec![at(address)], ..Default::default() };
        let mut bound = crate::io::bind(&listen).await.ok()?;
        let crate::io::sip::UdpSockets { known, strangers } = bound.sip_udp.pop().expect("bound");
        let strangers = strangers.expect("the system can choose");
        Some(Two([known, strangers].map(|socket| {
            let socket = std::sync::Arc::into_inner(socket).expect("nobody else's");
            let socket = socket.into_std().expect("a socket");
            socket.set_nonblocking(true).expect("it can");
            socket
        })))
    }

    /// Of so many datagrams, what each of the two gets.
    fn get(&self, from: &UdpSocket, count: usize) -> [usize; 2] {
        let to = self.0[0].local_addr().expect("bound");
        for _ in 0..count {
            from.send_to(b"OPTIONS", to).expect("sent");
        }
        let mut buffer = [0; 100];
        [0, 1].map(|one: usize| std::iter::from_fn(|| self.0[one].recv(&mut buffer).ok()).count())
    }

    fn choose(&self, known: &[SocketAddr]) -> &Self {
        let first = &self.0[0];
        assert!(choose(known, first, first.local_addr().expect("bound").is_ipv4()));
        self
    }
}

#[tokio::test]
async fn the_known_have_a_buffer_of_their_own() {
    for (address, other) in
        [("127.0.0.1:0", "127.0.0.7:0"), ("[::1]:0", "[::1]:0"), ("0.0.0.0:0", "127.0.0.7:0")]
    {
        // A machine may be without IPv6; none is without IPv4.
        let Some(two) = Two::at(address).await else {
            assert!(address.starts_with('['), "{address}");
            continue;
        };
        let phones = [other; 40].map(phone);
        let (known, strangers) = phones.split_at(20);
        assert_eq!(two.get(&known[0], 20), [0, 20], "nobody is known yet");
        let ways: Vec<_> = known.iter().map(|phone| phone.local_addr().expect("bound")).collect();
        two.choose(&ways);
        for (known, stranger) in known.iter().zip(strangers) {
            assert_eq!([known, stranger].map(|phone| two.get(phone, 20)), [[20, 0], [0, 20]], "{address}");
        }
        two.choose(&ways[1..]);
        assert_eq!([&known[0], &known[1]].map(|phone| two.get(phone, 20)), [[0, 20], [20, 0]]);
        // Beyond what a program holds their networks are known.
        let many = (0..200_u32).flat_map(|net| (0..10).map(move |host| 0x7f09_0000 + (net << 8) + host));
        let many: Vec<_> = many.map(|bits| SocketAddr::new(Ipv4Addr::from_bits(bits).into(), 5060)).collect();
        if other.starts_with('1') {
            two.choose(&many);
            let [near, far] = ["127.9.9.200:0", "127.200.0.1:0"].map(phone);
            assert_eq!([&near, &far].map(|phone| two.get(phone, 20)), [[20, 0], [0, 20]], "{address}");
        }
    }
}

#[tokio::test]
async fn an_address_that_somebody_has_is_not_shared() {
    let two = Two::at("127.0.0.1:0").await.expect("loopback");
    let taken = two.0[0].local_addr().expect("bound");
    for address in [taken, at(&format!("0.0.0.0:{}", taken.port()))] {
        let listen = crate::io::Listen { sip_udp: vec![address], ..Default::default() };
        assert!(crate::io::bind(&listen).await.is_err(), "{address}");
        assert!(UdpSocket::bind(address).is_err(), "{address}");
    }
}

#[test]
fn a_choice_fits_whoever_is_known() {
    for ipv4 in [true, false] {
        for count in [0, 1, 500, 1_000, 60_000_u32] {
            let ip = |n: u32| match ipv4 {
                true => IpAddr::V4(Ipv4Addr::from_bits(n << 15)),
                false => IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 80)),
            };
            let known: Vec<_> = (0..count).map(|n| SocketAddr::new(ip(n), 5060)).collect();
            for most in SIZES {
                let length = program::choice(&known, ipv4, most).len();
                assert!((1..=most).contains(&length), "{count}: {length} of {most}");
            }
        }
    }
}

const SHARE: u64 = 1_000;

/// A flood at so many a second, as the sieve lets it pass, for this time; what passed a second at its end.
fn flooded(floods: &mut Floods, from: Instant, rate: u32, time: Duration, price: u64) -> (Instant, f64) {
    let source = Source::Address(ip("192.0.2.1"));
    let (mut now, end) = (from, from + time);
    let (mut taken, mut passed, mut owed, mut counted) = (0.0, 0, 0.0, from);
    while now < end {
        now += SECOND / rate;
        if floods.next_turn().is_some_and(|at| at <= now) {
            floods.turn(now);
            (passed, counted) = (0, now);
        }
        let sieve = floods.sieve(std::iter::empty());
        owed += sieve.addresses.get(&ip("192.0.2.1")).and_then(|holes| holes.rest).map_or(1.0, Part::share);
        if owed < 1.0 {
            continue;
        }
        owed -= 1.0;
        passed += 1;
        let budget = now.saturating_duration_since(from).as_secs_f64() * SHARE as f64;
        if taken + price as f64 <= budget {
            taken += price as f64;
        } else {
            floods.refused(now, source, price, SHARE);
        }
    }
    (now, f64::from(passed) / now.saturating_duration_since(counted).as_secs_f64())
}

#[test]
fn a_flood_is_thinned_to_twice_its_share_and_let_go_when_it_is_over() {
    for (rate, price) in [(5_000, 1), (32_000, 1), (20_000, 17)] {
        let mut floods = Floods::default();
        let (now, passed) = flooded(&mut floods, now(), rate, 3 * SECOND + WINDOW / 2, price);
        let passed = passed * price as f64;
        assert!((1_500.0..3_000.0).contains(&passed), "{rate} of {price}: {passed} a second pass");
        let mut over = now;
        while let Some(at) = floods.next_turn() {
            over = at;
            floods.turn(over);
        }
        let took = over.saturating_duration_since(now);
        assert!(took < 4 * SECOND, "{took:?}");
        assert_eq!(floods.sieve(std::iter::empty()), Sieve::default());
    }
}

#[test]
fn a_few_refusals_are_no_flood_and_of_many_floods_so_many_are_thinned() {
    let (mut floods, t0) = (Floods::default(), now());
    for n in 0..100 {
        assert!(!floods.refused(t0 + n * Duration::from_millis(10), Source::Crowd, 1, SHARE));
    }
    assert_eq!(floods.next_turn(), None);
    let later = t0 + 10 * SECOND;
    let mut thinned = 0;
    for n in 0..200_u32 {
        let source = Source::Address(Ipv4Addr::from_bits(n).into());
        thinned += usize::from((0..300).any(|_| floods.refused(later, source, 1, SHARE)));
    }
    assert_eq!(thinned, MAX_THINNED);
}

#[test]
fn who_is_known_passes_whatever_floods_from_his_address() {
    let (mut floods, t0) = (Floods::default(), now());
    let [mad, well, elsewhere] = ["192.0.2.1:5060", "192.0.2.1:5062", "192.0.2.2:5060"].map(at);
    for _ in 0..400 {
        floods.refused(t0, Source::Way(mad), 1, 500);
    }
    let sieve = floods.sieve([mad, well, elsewhere].into_iter());
    let holes = &sieve.addresses[&ip("192.0.2.1")];
    assert!(holes.ports[&5060].is_some(), "the phone that floods, too");
    assert_eq!((holes.ports[&5062], holes.rest, sieve.crowd), (None, None, None));
    assert_eq!((sieve.addresses.len(), sieve.known), (1, vec![]));
    floods.refused(t0, Source::Crowd, 5_000, 5_000);
    assert_eq!(floods.sieve([mad, well, elsewhere].into_iter()).known, [mad, well, elsewhere]);
    // Of so many behind one address nobody is told from the others.
    let crowd = (1..1_000).map(|port| SocketAddr::new(ip("192.0.2.1"), port));
    assert!(floods.sieve(crowd).addresses.is_empty());
}
