//! A sieve as a program of the packet filter (classic BPF), and who is known as one that chooses between two sockets.
//!
//! ```text
//! the source's address, in a tree of those that are thinned
//!   found: its port among the known ones there: all of it or a part; any other port: a part
//!   else, of the crowd: in a tree of the known: all of it; else a part
//!
//! the source's address, in a tree of the known
//!   found, and its port: the first socket; else the second
//! ```

use super::{Holes, Part, Sieve};
use nix::libc;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    /// How many to skip where a comparison holds.
    pub(super) jt: u8,
    /// And where not.
    pub(super) jf: u8,
    pub(super) k: u32,
}

const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const MASK: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Of an IPv4 header the source; of an IPv6 one the second word of it, which tells more networks apart than the first.
const KEY: u32 = (libc::SKF_NET_OFF + 12) as u32;
const FIRST_WORD: u32 = (libc::SKF_NET_OFF + 8) as u32;
/// What a filter sees begins with the UDP header, and that with it.
const SOURCE_PORT: u32 = 0;
/// What a choice of sockets sees begins behind that header. Where an IP header is longer than it need be (options,
/// extensions), something else is read, and the sender is one of the crowd.
const SOURCE_PORT_IPV4: u32 = (libc::SKF_NET_OFF + 20) as u32;
const SOURCE_PORT_IPV6: u32 = (libc::SKF_NET_OFF + 40) as u32;
/// The sockets' numbers, in the order in which they were bound.
const KNOWN: u32 = 0;
const STRANGERS: u32 = 1;
const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
const ALL_OF_IT: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// How exactly the known are told from the crowd: if there are many, those beside them pass, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// An address and port.
    Way,
    /// An address, or a /64 of IPv6.
    Address,
    /// A network: /24, or /48 of IPv6.
    Network,
    /// A /16, or /32 of IPv6.
    Region,
}

impl Grain {
    const ALL: [Grain; 4] = [Grain::Way, Grain::Address, Grain::Network, Grain::Region];

    fn mask(self, ipv4: bool) -> u32 {
        match (self, ipv4) {
            (Grain::Way | Grain::Address, _) => u32::MAX,
            (Grain::Network, true) => u32::MAX << 8,
            (Grain::Network, false) | (Grain::Region, true) => u32::MAX << 16,
            (Grain::Region, false) => 0,
        }
    }
}

/// No known one of a tree takes fewer.
const LEAST_OF_LEAF: usize = 5;

/// The program for a socket of that family, of at most so many instructions; `None` when it would let all pass. What does
/// not fit is told apart less exactly, and what doesn't fit then is not thinned.
pub(super) fn of(sieve: &Sieve, ipv4: bool, most: usize) -> Option<Vec<Instruction>> {
    let mut addresses: Vec<(&IpAddr, &Holes)> =
        sieve.addresses.iter().filter(|(address, _)| address.is_ipv4() == ipv4).collect();
    addresses.sort_by_key(|(_, holes)| holes.ports.len());
    let crowd = sieve.crowd.and_then(|part| {
        let mut grains = Grain::ALL.into_iter();
        let (known, grain) =
            grains.find_map(|grain| known(&sieve.known, ipv4, grain, most / 2).zip(Some(grain)))?;
        let crowd = (part, known, grain);
        (Assembly::of(&[], Some(&crowd), ipv4).len() <= most).then_some(crowd)
    });
    while !addresses.is_empty() || crowd.is_some() {
        let program = Assembly::of(&addresses, crowd.as_ref(), ipv4);
        if program.len() <= most {
            return Some(program);
        }
        // The address with the most phones behind it is the one that least can be done about.
        addresses.pop();
    }
    None
}

/// The program that chooses between the socket of the known and that of strangers, of at most so many instructions. Where
/// there are more known ones than it can hold, those beside them go with them; where their regions are too many, too, all do.
pub(super) fn choice(all: &[SocketAddr], ipv4: bool, most: usize) -> Vec<Instruction> {
    let of = |grain| Some(Assembly::choice(&known(all, ipv4, grain, most)?, grain, ipv4));
    let fits = |program: &Vec<Instruction>| program.len() <= most;
    let mut programs = Grain::ALL.into_iter().filter_map(of).filter(fits);
    programs.next().unwrap_or_else(|| vec![Instruction { code: RETURN as u16, jt: 0, jf: 0, k: KNOWN }])
}

type Heads = BTreeMap<u32, BTreeMap<u32, Leaf>>;

/// What becomes of an address.
#[derive(Clone, Debug)]
struct Leaf {
    ports: BTreeMap<u16, Verdict>,
    rest: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Pass,
    Thin(Part),
    AsTheCrowd,
}

/// The key of an address and, of IPv6, the word before it.
fn words(address: IpAddr) -> (u32, u32) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits(), 0),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u32, (v6.to_bits() >> 96) as u32),
    }
}

/// The known, where as many can be told apart in so many instructions.
fn known(all: &[SocketAddr], ipv4: bool, grain: Grain, most: usize) -> Option<Heads> {
    let port = |way: &SocketAddr| (grain == Grain::Way).then(|| way.port());
    let mut ways: Vec<_> = all
        .iter()
        .filter(|way| way.is_ipv4() == ipv4)
        .map(|way| (words(way.ip()), port(way)))
        .map(|((key, first), port)| (key & grain.mask(ipv4), first, port))
        .collect();
    ways.sort_unstable();
    ways.dedup();
    if ways.len() > most / LEAST_OF_LEAF {
        return None;
    }
    let mut heads = Heads::new();
    for (key, first, port) in ways {
        let rest = if port.is_some() { Verdict::AsTheCrowd } else { Verdict::Pass };
        let leaf = heads.entry(key).or_default().entry(first);
        let leaf = leaf.or_insert(Leaf { ports: BTreeMap::new(), rest });
        leaf.ports.extend(port.map(|port| (port, Verdict::Pass)));
    }
    Some(heads)
}

fn thinned(addresses: &[(&IpAddr, &Holes)]) -> Heads {
    let mut heads = Heads::new();
    for (address, holes) in addresses {
        let (key, first) = words(**address);
        let verdict = |part: Option<Part>, without| part.map_or(without, Verdict::Thin);
        let ports = holes.ports.iter().map(|(port, part)| (*port, verdict(*part, Verdict::Pass))).collect();
        let leaf = Leaf { ports, rest: verdict(holes.rest, Verdict::AsTheCrowd) };
        heads.entry(key).or_default().insert(first, leaf);
    }
    heads
}

/// A place in the program that is not known yet.
#[derive(Clone, Copy, Debug)]
struct Label(usize);

#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(u32, u32),
    /// Goes on with the next one where it holds, else with the one after that.
    If(u32, u32),
    /// The next one is left out where it holds.
    Unless(u32, u32),
    Go(Label),
}

#[derive(Debug)]
struct Assembly {
    ipv4: bool,
    /// Where the source's port is read.
    source_port: u32,
    steps: Vec<Step>,
    labels: Vec<Option<usize>>,
    parts: BTreeMap<Part, Label>,
}

impl Assembly {
    fn new(ipv4: bool, source_port: u32) -> Self {
        Self { ipv4, source_port, steps: Vec::new(), labels: Vec::new(), parts: BTreeMap::new() }
    }

    fn choice(known: &Heads, grain: Grain, ipv4: bool) -> Vec<Instruction> {
        let mut program = Self::new(ipv4, if ipv4 { SOURCE_PORT_IPV4 } else { SOURCE_PORT_IPV6 });
        let (found, others) = (program.label(), program.label());
        if !known.is_empty() {
            program.add(WORD, KEY);
            program.add(MASK, grain.mask(ipv4));
            program.tree(&known.iter().collect::<Vec<_>>(), found, others, others);
        }
        program.here(others);
        program.add(RETURN, STRANGERS);
        program.here(found);
        program.add(RETURN, KNOWN);
        program.resolve()
    }

    fn of(
        addresses: &[(&IpAddr, &Holes)],
        crowd: Option<&(Part, Heads, Grain)>,
        ipv4: bool,
    ) -> Vec<Instruction> {
        let mut program = Self::new(ipv4, SOURCE_PORT);
        let (pass, strangers, others) = (program.label(), program.label(), program.label());
        let heads = thinned(addresses);
        if !heads.is_empty() {
            program.add(WORD, KEY);
            program.tree(&heads.iter().collect::<Vec<_>>(), pass, strangers, strangers);
        }
        program.here(strangers);
        if let Some((part, known, grain)) = crowd {
            if !known.is_empty() {
                program.add(WORD, KEY);
                program.add(MASK, grain.mask(ipv4));
                program.tree(&known.iter().collect::<Vec<_>>(), pass, others, others);
            }
            program.here(others);
            program.thin(*part);
        }
        program.here(pass);
        program.add(RETURN, ALL_OF_IT);
        for (part, label) in std::mem::take(&mut program.parts) {
            program.here(label);
            program.thin(part);
            program.add(RETURN, ALL_OF_IT);
        }
        program.resolve()
    }

    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn here(&mut self, label: Label) {
        self.labels[label.0] = Some(self.steps.len());
    }

    fn add(&mut self, code: u32, k: u32) {
        self.steps.push(Step::Plain(code, k));
    }

    /// Throws all but a part away.
    fn thin(&mut self, Part(part): Part) {
        self.add(WORD, RANDOM);
        self.steps.push(Step::If(ABOVE, part));
        self.add(RETURN, NOTHING);
    }

    /// Finds the key, which has been loaded.
    fn tree(&mut self, heads: &[(&u32, &BTreeMap<u32, Leaf>)], pass: Label, crowd: Label, missing: Label) {
        match heads {
            [] => self.steps.push(Step::Go(missing)),
            [(key, leaves)] => self.head(**key, leaves, pass, crowd, missing),
            _ => {
                let (low, high) = heads.split_at(heads.len() / 2);
                let right = self.label();
                self.steps.push(Step::If(AT_LEAST, *high[0].0));
                self.steps.push(Step::Go(right));
                self.tree(low, pass, crowd, missing);
                self.here(right);
                self.tree(high, pass, crowd, missing);
            }
        }
    }

    fn head(&mut self, key: u32, leaves: &BTreeMap<u32, Leaf>, pass: Label, crowd: Label, missing: Label) {
        self.steps.push(Step::Unless(EQUAL, key));
        self.steps.push(Step::Go(missing));
        if self.ipv4 {
            for leaf in leaves.values() {
                self.leaf(leaf, pass, crowd);
            }
            return;
        }
        self.add(WORD, FIRST_WORD);
        let mut places = Vec::new();
        for first in leaves.keys() {
            let place = self.label();
            self.steps.push(Step::If(EQUAL, *first));
            self.steps.push(Step::Go(place));
            places.push(place);
        }
        self.steps.push(Step::Go(missing));
        for (place, leaf) in places.into_iter().zip(leaves.values()) {
            self.here(place);
            self.leaf(leaf, pass, crowd);
        }
    }

    fn leaf(&mut self, leaf: &Leaf, pass: Label, crowd: Label) {
        if !leaf.ports.is_empty() {
            self.add(HALF, self.source_port);
        }
        for (port, verdict) in &leaf.ports {
            self.steps.push(Step::If(EQUAL, u32::from(*port)));
            self.follow(*verdict, pass, crowd);
        }
        self.follow(leaf.rest, pass, crowd);
    }

    fn follow(&mut self, verdict: Verdict, pass: Label, crowd: Label) {
        let label = match verdict {
            Verdict::Pass => pass,
            Verdict::AsTheCrowd => crowd,
            Verdict::Thin(part) => match self.parts.get(&part) {
                Some(label) => *label,
                None => {
                    let label = self.label();
                    self.parts.insert(part, label);
                    label
                }
            },
        };
        self.steps.push(Step::Go(label));
    }

    fn resolve(self) -> Vec<Instruction> {
        let Self { steps, labels, .. } = self;
        let to = |label: Label, from: usize| labels[label.0].map_or(0, |place| (place - from - 1) as u32);
        let each = steps.into_iter().enumerate().map(|(index, step)| match step {
            Step::Plain(code, k) => (code, 0, 0, k),
            Step::If(code, k) => (code, 0, 1, k),
            Step::Unless(code, k) => (code, 1, 0, k),
            Step::Go(label) => (JUMP, 0, 0, to(label, index)),
        });
        each.map(|(code, jt, jf, k)| Instruction { code: code as u16, jt, jf, k }).collect()
    }
}
