//! Who may dial what, whoever sends the call there, and how many calls there may be.

use crate::world::*;
use device_model::plan::{Plan, SpacePlan, TrunkPlan};
use device_model::port::{Event, Origin, Target, TransferTo};
use device_model::{
    Cause, DeviceName, Dn, EndCommand, Input, LegId, Output, OwnerEpoch, Party, Request, RequestToken, Signal,
};
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const A: &str = "10.0.0.1:4000";
const APP_RTP: &str = "10.0.0.9:7000";
const REFUSED: &str = "Reject { cause: Cause(1 unallocated_number), status: Some(404) }";

fn space(name: &str, partitions: &[&str]) -> SpacePlan {
    SpacePlan { name: name.into(), partitions: partitions.iter().map(|name| (*name).into()).collect() }
}

fn numbered<'a>(plan: &'a mut Plan, dn: &str) -> &'a mut device_model::plan::NumberPlan {
    plan.numbers.iter_mut().find(|number| number.dn.as_str() == dn).expect("a number")
}

fn device_of<'a>(plan: &'a mut Plan, name: &str) -> &'a mut device_model::plan::DevicePlan {
    plan.devices.iter_mut().find(|device| device.name.as_str() == name).expect("a device")
}

/// The world's plan, where `9.!` is outside, 2003 is the boss's, `0.!` leads everybody to trunk TIE, and A has the space
/// `staff` by its line, B `lobby` by its device, P `staff` by its device.
fn plan_of_spaces() -> Plan {
    let mut plan = plan();
    plan.spaces =
        vec![space("staff", &["boss", "outside"]), space("lobby", &["inside"]), space("out", &["outside"])];
    plan.patterns = vec![pattern("9.!", "PSTN", Some("outside")), pattern("0.!", "TIE", None)];
    plan.trunks = vec!["PSTN".into(), "TIE".into()];
    numbered(&mut plan, "2003").partition = Some("boss".into());
    numbered(&mut plan, "2001").calling_search_space = Some("staff".into());
    device_of(&mut plan, "B").calling_search_space = Some("lobby".into());
    device_of(&mut plan, "P").calling_search_space = Some("staff".into());
    plan
}

fn world_with(change: impl FnOnce(&mut Plan)) -> World {
    let mut plan = plan_of_spaces();
    change(&mut plan);
    World::new(plan)
}

/// A call from a trunk; its leg.
fn from_trunk(w: &mut World, trunk: &str, number: &str) -> LegId {
    let leg = leg_of(w.control.new_end_id());
    let calling = Party { number: "030".into(), ..Party::default() };
    let (origin, offer) = (Origin::Trunk(trunk.into()), Some(sdp(A, &["PCMU"])));
    w.input(Input::IncomingCall {
        end: end_of(leg),
        origin,
        dialled: number.into(),
        calling,
        diverted: None,
        offer,
        hops: 0,
    });
    leg
}

/// Whether what was said since the last look is a refusal as of an unknown number, by this rule.
fn refused_by(w: &mut World, rule: &str) {
    let said = w.said();
    assert!(said.contains(REFUSED), "{said}");
    assert!(said.contains(&format!("by {rule}")), "{said}");
    assert!(w.control.is_quiet(), "{said}");
}

#[test]
fn a_phone_dials_what_its_line_and_its_device_reach() {
    for (phone, number, reached) in [
        ("A", "91", true),
        ("A", "2003", true),
        ("A", "2002", true),
        ("B", "91", false),
        ("B", "2003", false),
        ("B", "2001", true),
        ("B", "01", true),
        ("D", "2003", false),
        ("D", "91", false),
    ] {
        let mut w = world_with(|_| {});
        w.said();
        w.dial(phone, number, Some(sdp(A, &["PCMU"])));
        match reached {
            true => assert!(w.heard("<- Call "), "{phone} {number}: {}", w.said()),
            false => refused_by(&mut w, "Partition"),
        }
    }
    // The line's space and the device's are added to each other.
    let mut w = world_with(|p| numbered(p, "2002").calling_search_space = Some("out".into()));
    w.dial("B", "91", Some(sdp(A, &["PCMU"])));
    assert!(w.heard("<- Call PSTN 1"), "{}", w.said());
    // What nobody has is refused in the same way, by no rule.
    w.said();
    w.dial("A", "7777", Some(sdp(A, &["PCMU"])));
    let said = w.said();
    assert!(said.contains(REFUSED) && !said.contains("refused "), "{said}");
}

#[test]
fn the_lines_partition_goes_before_the_devices_where_two_patterns_match_alike() {
    let two = |line: &str, device: &str| {
        world_with(|p| {
            p.patterns = vec![pattern("9.!", "PSTN", Some("outside")), pattern("9.!", "TIE", Some("boss"))];
            p.spaces.push(space("only_boss", &["boss"]));
            numbered(p, "2002").calling_search_space = Some(line.into());
            device_of(p, "B").calling_search_space = Some(device.into());
        })
    };
    for (line, device, trunk) in
        [("out", "only_boss", "PSTN"), ("only_boss", "out", "TIE"), ("staff", "out", "TIE")]
    {
        let mut w = two(line, device);
        w.dial("B", "91", Some(sdp(A, &["PCMU"])));
        assert!(w.heard(&format!("<- Call {trunk} 1")), "{line} {device}: {}", w.said());
    }
}

#[test]
fn a_trunk_reaches_numbers_alone_unless_it_says_otherwise() {
    let mut w = world_with(|_| {});
    w.said();
    from_trunk(&mut w, "PSTN", "01");
    refused_by(&mut w, "OffnetToOffnet");
    from_trunk(&mut w, "PSTN", "91");
    refused_by(&mut w, "Partition");
    from_trunk(&mut w, "PSTN", "2003");
    refused_by(&mut w, "Partition");
    from_trunk(&mut w, "PSTN", "2002");
    assert!(w.heard("<- Call B"), "{}", w.said());

    // A space alone opens no trunk; a trunk that may leave needs a space for what is in a partition.
    let mut w = world_with(|p| {
        p.trunks[0].calling_search_space = Some("staff".into());
        p.trunks[1].block_offnet_to_offnet = false;
    });
    w.said();
    from_trunk(&mut w, "PSTN", "91");
    refused_by(&mut w, "OffnetToOffnet");
    from_trunk(&mut w, "TIE", "91");
    refused_by(&mut w, "Partition");
    from_trunk(&mut w, "TIE", "01");
    assert!(w.heard("<- Call TIE 1"), "{}", w.said());
    from_trunk(&mut w, "PSTN", "2003");
    assert!(w.heard("<- Call C"), "{}", w.said());
}

#[test]
fn a_forward_is_judged_by_the_number_that_forwards() {
    type Change = fn(&mut Plan);
    let cases: &[(&str, Change, bool)] = &[
        ("the line's space", |p| numbered(p, "2001").forward.all = Some("91".into()), true),
        ("the device's", |p| numbered(p, "6001").forward.all = Some("91".into()), true),
        ("another's space", |p| numbered(p, "2002").forward.all = Some("91".into()), false),
        ("no space", |p| numbered(p, "6002").forward.all = Some("2003".into()), false),
        (
            "two devices, one of which reaches it",
            |p| {
                device_of(p, "D").calling_search_space = Some("out".into());
                numbered(p, "2100").forward.all = Some("91".into());
            },
            false,
        ),
        (
            "two devices that both reach it",
            |p| {
                device_of(p, "D").calling_search_space = Some("out".into());
                device_of(p, "E").calling_search_space = Some("staff".into());
                numbered(p, "2100").forward.all = Some("91".into());
            },
            true,
        ),
        (
            "a number without a device",
            |p| {
                p.numbers.push(number("2999"));
                numbered(p, "2999").calling_search_space = Some("out".into());
                numbered(p, "2999").forward.all = Some("91".into());
            },
            true,
        ),
        (
            "the second of two",
            |p| {
                numbered(p, "2001").forward.all = Some("2002".into());
                numbered(p, "2002").forward.all = Some("91".into());
            },
            false,
        ),
    ];
    for (what, change, reached) in cases {
        for caller in ["D", "PSTN"] {
            let mut w = world_with(change);
            let forwarding = |n: &&device_model::plan::NumberPlan| n.forward.all.is_some();
            let number = w.plan.numbers.iter().find(forwarding).expect("one forwards").dn.to_string();
            w.said();
            match caller {
                "PSTN" => from_trunk(&mut w, "PSTN", &number),
                phone => w.dial(phone, &number, Some(sdp(A, &["PCMU"]))),
            };
            match reached {
                true => assert!(w.heard("<- Call PSTN 1"), "{what} from {caller}: {}", w.said()),
                false => refused_by(&mut w, "Partition"),
            }
        }
    }
}

#[test]
fn each_of_the_forwards_is_judged_so() {
    // 2002's forwards lead outside, which B does not reach; then it does.
    for space in [None, Some("out")] {
        let world = || {
            let mut w = world_with(|p| {
                let number = numbered(p, "2002");
                number.calling_search_space = space.map(Into::into);
                number.forward.busy = Some("91".into());
                number.forward.no_answer = Some("92".into());
                number.forward.unregistered = Some("93".into());
                let point = numbered(p, "5000");
                point.calling_search_space = space.map(Into::into);
                point.forward.on_failure = Some("94".into());
            });
            w.said();
            w
        };
        let check = |w: &mut World, sent: &str| match space {
            Some(_) => assert!(w.heard(&format!("<- Call PSTN {sent}")), "{}", w.said()),
            None => refused_by(w, "Partition"),
        };
        let mut busy = world();
        busy.dial("C", "2002", Some(sdp(A, &["PCMU"])));
        let leg = busy.last_placed();
        busy.signal(
            leg,
            Signal::Rejected { cause: Cause::USER_BUSY, status: Some(486), redirect_to: vec![] },
        );
        check(&mut busy, "1");
        let mut silent = world();
        silent.dial("C", "2002", Some(sdp(A, &["PCMU"])));
        silent.ring(silent.last_placed());
        silent.wait(Duration::from_secs(12));
        check(&mut silent, "2");
        let mut gone = world();
        gone.input(Input::Unregistered("B".into()));
        gone.dial("C", "2002", Some(sdp(A, &["PCMU"])));
        check(&mut gone, "3");
        let mut failed = world();
        failed.open(APP, "RP", None);
        failed.dial("C", "5000", Some(sdp(A, &["PCMU"])));
        failed.input(Input::SessionEnded(APP));
        check(&mut failed, "4");
    }
}

#[test]
fn a_phone_or_trunk_that_sends_a_call_elsewhere_is_judged_by_its_own_space() {
    let elsewhere = |to: &[&str]| Signal::Rejected {
        cause: Cause::NORMAL_UNSPECIFIED,
        status: Some(302),
        redirect_to: to.iter().map(|to| (*to).into()).collect(),
    };
    for (callee, to, placed) in [
        ("2001", &["91"][..], Some("PSTN 1")),
        ("2001", &["2003"], Some("C")),
        ("2002", &["91"], None),
        ("2002", &["2003"], None),
        ("2002", &["2001"], Some("A")),
        ("2002", &["91", "2001"], Some("A")),
        ("2002", &["91", "2003"], None),
        ("01", &["91"], None),
        ("01", &["05"], None),
        ("01", &["05", "91"], None),
        ("01", &["05", "2002"], Some("B")),
    ] {
        let mut w = world_with(|_| {});
        w.dial("D", callee, Some(sdp(A, &["PCMU"])));
        w.said();
        let leg = w.last_placed();
        w.signal(leg, elsewhere(to));
        match placed {
            Some(whom) => assert!(w.heard(&format!("<- Call {whom}")), "{callee} to {to:?}: {}", w.said()),
            None => {
                let said = w.said();
                assert!(said.contains(REFUSED) && said.contains("refused "), "{callee} to {to:?}: {said}");
            }
        }
    }
}

#[test]
fn a_redirect_is_judged_by_the_line_that_redirects() {
    for (port, to, reached) in
        [("P", "91", true), ("P", "2003", true), ("Q", "91", false), ("Q", "2003", false)]
    {
        for caller in ["A", "PSTN"] {
            let mut w = world_with(|_| {});
            w.open(APP, port, Some(fixed(APP_RTP, &["PCMU"])));
            let number = if port == "P" { "6001" } else { "6002" };
            match caller {
                "PSTN" => from_trunk(&mut w, "PSTN", number),
                phone => w.dial(phone, number, Some(sdp(A, &["PCMU"]))),
            };
            w.said();
            let leg = w.leg_at(port);
            w.redirect(leg, to, true);
            let said = w.said();
            match reached {
                true => assert!(said.contains("<- Call "), "{port} to {to} for {caller}: {said}"),
                false => {
                    assert!(said.contains("REFUSED DestinationUnknown"), "{said}");
                    assert!(said.contains("by Partition"), "{said}");
                    assert_eq!(w.leg_at(port), leg, "the leg is as it was");
                }
            }
        }
    }
}

#[test]
fn an_application_calls_and_forwards_as_far_as_its_line_reaches() {
    let mut w = world_with(|_| {});
    for port in ["P", "Q"] {
        w.open(APP, port, Some(fixed(APP_RTP, &["PCMU"])));
    }
    w.said();
    w.make_call("P", "91");
    assert!(w.heard("<- Call PSTN 1"), "{}", w.said());
    w.said();
    w.make_call("Q", "91");
    let said = w.said();
    assert!(said.contains("Failed") && said.contains("cause=1"), "{said}");
    let forward = |device: &str, dn: &str, to: &str| Request::SetForwardAll {
        device: device.into(),
        dn: dn.into(),
        destination: Some(to.into()),
    };
    for (device, dn, to, answer) in [
        ("P", "6001", "91", "done"),
        ("Q", "6002", "91", "REFUSED DestinationUnknown"),
        ("Q", "6002", "2003", "REFUSED DestinationUnknown"),
        ("Q", "6002", "7777", "REFUSED DestinationUnknown"),
        ("Q", "6002", "2002", "done"),
    ] {
        w.request(APP, forward(device, dn, to));
        let said = w.said();
        assert!(said.contains(&format!("reply s1 {answer}")), "{device} to {to}: {said}");
    }
    assert_eq!(w.control.device(&"Q".into()).expect("there").lines[0].forward_all, Some("2002".into()));
}

#[test]
fn a_new_plan_changes_what_is_reached_at_once() {
    let mut w = world_with(|_| {});
    let mut plan = w.plan.clone();
    w.said();
    w.dial("B", "91", Some(sdp(A, &["PCMU"])));
    refused_by(&mut w, "Partition");
    plan.spaces[1] = space("lobby", &["outside"]);
    w.configure(&plan);
    w.said();
    let leg = w.dial("B", "91", Some(sdp(A, &["PCMU"])));
    assert!(w.heard("<- Call PSTN 1"), "a space that changed: {}", w.said());
    w.hang_up(leg);
    plan.trunks[0].block_offnet_to_offnet = false;
    plan.patterns[0].partition = None;
    w.configure(&plan);
    let leg = from_trunk(&mut w, "PSTN", "91");
    assert!(w.heard("<- Call PSTN 1"), "a trunk that may: {}", w.said());
    // Its calls are counted on, though the trunk goes and comes back.
    let trunk = std::mem::take(&mut plan.trunks);
    w.configure(&plan);
    plan.trunks = trunk;
    plan.trunks[0].max_calls = 2;
    w.configure(&plan);
    w.said();
    from_trunk(&mut w, "PSTN", "2002");
    assert!(w.heard("by TrunkCalls"), "{}", w.said());
    w.hang_up(leg);
    w.said();
    from_trunk(&mut w, "PSTN", "2002");
    assert!(w.heard("<- Call B"), "{}", w.said());
}

const FULL: &str = "Reject { cause: Cause(34 no_circuit_available), status: None }";
const TOO_FAST: &str = "Reject { cause: Cause(42 switching_equipment_congestion), status: None }";

#[test]
fn a_line_a_device_and_a_trunk_begin_so_many_calls_a_second() {
    type Change = fn(&mut Plan);
    let cases: [(&str, Change); 4] = [
        ("LineRate", |p| numbered(p, "2001").max_calls_per_second = Some(3)),
        ("LineRate", |p| p.parameters.max_calls_per_second_per_line = 3),
        ("DeviceRate", |p| device_of(p, "A").max_calls_per_second = Some(3)),
        ("TrunkRate", |p| p.trunks[0].max_calls_per_second = 3),
    ];
    for (rule, change) in cases {
        let mut w = world_with(change);
        let attempt = |w: &mut World| {
            w.said();
            let leg = match rule {
                "TrunkRate" => from_trunk(w, "PSTN", "2002"),
                _ => w.dial("A", "2002", Some(sdp(A, &["PCMU"]))),
            };
            let said = w.said();
            let refused = said.contains(TOO_FAST);
            assert_eq!(refused, said.contains(&format!("by {rule}")), "{said}");
            if !refused {
                w.hang_up(leg);
            }
            !refused
        };
        let at_once = (0..10).filter(|_| attempt(&mut w)).count();
        assert_eq!(at_once, 3, "{rule}");
        w.wait(Duration::from_millis(334));
        assert_eq!((0..10).filter(|_| attempt(&mut w)).count(), 1, "{rule}: a third of a second, one more");
        w.wait(Duration::from_secs(5));
        assert_eq!((0..10).filter(|_| attempt(&mut w)).count(), 3, "{rule}: a pause gives the burst");
        // A reload is no way around it.
        let mut plan = w.plan.clone();
        numbered(&mut plan, "2100").display = "other".into();
        device_of(&mut plan, "A").description = "other".into();
        w.configure(&plan);
        assert!(!attempt(&mut w), "{rule}");
    }
}

#[test]
fn calls_to_a_trunk_have_their_rate_too_and_an_application_is_told_when_to_come_again() {
    let mut w = world_with(|p| {
        p.trunks[0].max_calls_per_second = 1;
        numbered(p, "6001").max_calls_per_second = Some(2);
        numbered(p, "6001").max_calls = Some(100);
    });
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.said();
    w.make_call("P", "91");
    assert!(w.heard("<- Call PSTN 1"), "{}", w.said());
    w.make_call("P", "92");
    let said = w.said();
    assert!(said.contains("cause=42") && said.contains("by TrunkRate"), "{said}");
    w.make_call("P", "93");
    let said = w.said();
    assert!(said.contains("REFUSED RateLimited { retry_after_ms: 500 }"), "{said}");
    assert!(said.contains("by LineRate"), "{said}");
    w.wait(Duration::from_secs(1));
    w.said();
    w.make_call("P", "93");
    assert!(w.heard("<- Call PSTN 3"), "{}", w.said());
}

#[test]
fn a_device_and_a_trunk_have_so_many_calls_at_once() {
    let mut w = world_with(|p| {
        device_of(p, "A").lines.push("2009".into());
        device_of(p, "A").max_calls = Some(2);
        p.trunks[0].max_calls = 2;
        numbered(p, "2001").calling_search_space = None;
        device_of(p, "A").calling_search_space = Some("staff".into());
    });
    w.said();
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let second = leg_of(w.control.new_end_id());
    let origin = Origin::Phone { device: "A".into(), dn: Some("2009".into()) };
    let (calling, offer) = (Party::default(), Some(sdp(A, &["PCMU"])));
    w.input(Input::IncomingCall {
        end: end_of(second),
        origin,
        dialled: "2002".into(),
        calling,
        diverted: None,
        offer,
        hops: 0,
    });
    w.said();
    w.dial("A", "2002", Some(sdp(A, &["PCMU"])));
    let said = w.said();
    assert!(said.contains(FULL) && said.contains("by DeviceCalls"), "{said}");
    w.dial("B", "2001", Some(sdp(A, &["PCMU"])));
    let said = w.said();
    assert!(said.contains("Cause(17 user_busy), status: Some(486)"), "for others it is busy: {said}");
    w.hang_up(second);
    w.said();
    w.dial("A", "91", Some(sdp(A, &["PCMU"])));
    assert!(w.heard("<- Call PSTN 1"), "{}", w.said());
    from_trunk(&mut w, "PSTN", "2002");
    w.said();
    from_trunk(&mut w, "PSTN", "2002");
    let said = w.said();
    assert!(said.contains(FULL) && said.contains("by TrunkCalls"), "in and out count together: {said}");
    from_trunk(&mut w, "TIE", "2002");
    assert!(w.heard("<- Call B"), "another trunk has its own: {}", w.said());

    let mut w = world_with(|p| device_of(p, "P").max_calls = Some(1));
    w.open(APP, "P", Some(fixed(APP_RTP, &["PCMU"])));
    w.make_call("P", "2002");
    w.said();
    w.make_call("P", "2002");
    let said = w.said();
    assert!(said.contains("REFUSED MaxCalls") && said.contains("by DeviceCalls"), "{said}");
}

// ---- a call never reaches a partition outside the space of who sends it on ----

const PARTITIONS: [&str; 4] = ["p0", "p1", "p2", "p3"];
/// What the driver does, in kinds.
const KINDS: u8 = 14;
/// Each has one device, so that a number tells who sends.
const NUMBERS: [(&str, &str); 5] =
    [("A", "2001"), ("B", "2002"), ("C", "2003"), ("P", "6001"), ("Q", "6002")];
const DIALLED: [&str; 9] = ["2001", "2002", "2003", "6001", "6002", "91", "92", "811", "77"];

/// Everything random of a plan: of each number its partition (4 = none), its own and its device's partitions as bits, and
/// where it forwards; of each pattern its partition.
#[derive(Clone, Debug)]
struct Draw {
    numbers: Vec<(usize, u8, u8, Vec<Option<usize>>)>,
    patterns: Vec<usize>,
    trunks: Vec<(u8, bool)>,
}

fn draw() -> impl Strategy<Value = Draw> {
    let forwards = proptest::collection::vec(proptest::option::weighted(0.4, 0..DIALLED.len()), 5);
    let number = (0..5usize, 0..16u8, 0..16u8, forwards);
    (
        proptest::collection::vec(number, NUMBERS.len()),
        proptest::collection::vec(0..5usize, 4),
        proptest::collection::vec((0..16u8, any::<bool>()), 2),
    )
        .prop_map(|(numbers, patterns, trunks)| Draw { numbers, patterns, trunks })
}

impl Draw {
    fn plan(&self) -> Plan {
        let mut plan = plan();
        let of_bits = |bits: u8| (0..4).filter(move |bit| bits & (1 << bit) != 0).map(|bit| PARTITIONS[bit]);
        plan.spaces =
            (0..16).map(|bits| space(&format!("s{bits}"), &of_bits(bits).collect::<Vec<_>>())).collect();
        let name = |bits: u8| Some(format!("s{bits}").into());
        for ((device, dn), (own, line, whole, forwards)) in NUMBERS.iter().zip(&self.numbers) {
            let number = numbered(&mut plan, dn);
            number.partition = PARTITIONS.get(*own).map(|name| (*name).into());
            number.calling_search_space = name(*line);
            let to = |index: usize| forwards[index].map(|to| Dn::from(DIALLED[to]));
            number.forward = device_model::plan::Forwards {
                all: to(0).filter(|_| forwards[1].is_some()),
                busy: to(1),
                no_answer: to(2),
                unregistered: to(3),
                on_failure: to(4),
            };
            device_of(&mut plan, device).calling_search_space = name(*whole);
        }
        let texts = [("9.!", "PSTN"), ("9.2", "TIE"), ("9.!", "TIE"), ("8.XX", "PSTN")];
        let patterns = texts.iter().zip(&self.patterns);
        plan.patterns = patterns
            .map(|((text, trunk), own)| pattern(text, trunk, PARTITIONS.get(*own).copied()))
            .collect();
        plan.trunks = ["PSTN", "TIE"]
            .iter()
            .zip(&self.trunks)
            .map(|(trunk, (bits, block))| TrunkPlan {
                calling_search_space: name(*bits),
                block_offnet_to_offnet: *block,
                ..TrunkPlan::from(*trunk)
            })
            .collect();
        plan
    }

    /// Whether this sender may send a call to this number: a number of ours, a trunk by its name, or a number that one of
    /// the trunks was called by.
    fn reaches(&self, sender: &str, dialled: &str, leaves: bool) -> bool {
        let (bits, blocked) = match (NUMBERS.iter().position(|(_, dn)| *dn == sender), sender) {
            (Some(at), _) => (self.numbers[at].1 | self.numbers[at].2, false),
            (None, "PSTN") => self.trunks[0],
            (None, "TIE") => self.trunks[1],
            (None, _) => {
                return ["PSTN", "TIE"].iter().any(|trunk| self.reaches(trunk, dialled, leaves));
            }
        };
        let within = |own: usize| own == 4 || bits & (1 << own) != 0;
        if !leaves {
            let at = NUMBERS.iter().position(|(_, dn)| *dn == dialled).expect("one of ours");
            return within(self.numbers[at].0);
        }
        let matching: &[usize] = match dialled {
            "92" => &[0, 1, 2],
            "811" => &[3],
            _ => &[0, 2],
        };
        !blocked && matching.iter().any(|pattern| within(self.patterns[*pattern]))
    }
}

/// What drives the calls: who begins them, and what far ends and applications do.
struct Drive {
    control: device_model::CallControl,
    now: Instant,
    draw: Draw,
    placed: Vec<LegId>,
    checked: usize,
}

impl Drive {
    fn new(draw: Draw) -> Self {
        let World { control, .. } = World::new(draw.plan());
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let mut drive = Self { control, now, draw, placed: Vec::new(), checked: 0 };
        for (device, session) in [("P", APP), ("Q", APP)] {
            let media = Some(fixed(APP_RTP, &["PCMU"]));
            drive.ask(session, Request::OpenDevice { device: device.into(), media });
        }
        drive
    }

    fn ask(&mut self, session: device_model::SessionId, request: Request) {
        self.input(Input::Request { session, token: RequestToken(1), owner: OwnerEpoch::FIRST, request });
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.control.handle(self.now, input, &mut out);
        self.control.check().unwrap_or_else(|wrong| panic!("{wrong}"));
        for output in out {
            match output {
                Output::End(end, EndCommand::Call { target, calling, called, diverted, .. }) => {
                    self.placed.push(leg_of(end));
                    let leaves = matches!(target, Target::Trunk(..));
                    let sender = diverted.map(|diverted| diverted.by.number).unwrap_or(calling.number);
                    self.judge(&sender, &called.number, leaves);
                }
                Output::Event(_, Event::Leg(leg)) if leg.state == device_model::LegState::Offering => {
                    let sender = leg.last_redirecting.as_ref().unwrap_or(&leg.calling);
                    self.judge(&sender.number, &leg.called.number, false);
                }
                _ => {}
            }
        }
    }

    /// A trunk's party has the trunk's name for a number.
    fn judge(&mut self, sender: &str, dialled: &str, leaves: bool) {
        self.checked += 1;
        let allowed = self.draw.reaches(sender, dialled, leaves);
        assert!(allowed, "{sender} reached {dialled}, leaving: {leaves}, of {:?}", self.draw);
    }

    fn act(&mut self, what: u8, who: u8, to: u8) {
        let dialled: Dn = DIALLED[usize::from(to) % DIALLED.len()].into();
        let (device, dn) = NUMBERS[usize::from(who) % 3];
        self.placed.retain(|leg| self.control.leg(*leg).is_some());
        let leg = self.placed.get(usize::from(who) % self.placed.len().max(1)).copied();
        match what % KINDS {
            0..=2 => self.begin(Origin::Phone { device: device.into(), dn: None }, dn, dialled),
            3 => {
                let trunk = ["PSTN", "TIE"][usize::from(who) % 2];
                self.begin(Origin::Trunk(trunk.into()), trunk, dialled);
            }
            4 => {
                let device = ["P", "Q"][usize::from(who) % 2].into();
                let user_data = Default::default();
                let (dn, calling_number) = (None, None);
                let call = Request::MakeCall { device, dn, destination: dialled, calling_number, user_data };
                self.ask(APP, call);
            }
            5 => {
                let cause =
                    [Cause::USER_BUSY, Cause::NO_ANSWER, Cause::TEMPORARY_FAILURE][usize::from(to) % 3];
                self.signal(leg, Signal::Rejected { cause, status: Some(486), redirect_to: vec![] });
            }
            6 => self.signal(
                leg,
                Signal::Rejected {
                    cause: Cause::NORMAL_UNSPECIFIED,
                    status: Some(302),
                    redirect_to: vec![DIALLED[usize::from(who) % DIALLED.len()].into(), dialled],
                },
            ),
            7 => self.signal(leg, Signal::Answered { media: Some(sdp(A, &["PCMU"])) }),
            8 => {
                let name: DeviceName = ["P", "Q"][usize::from(who) % 2].into();
                let Some(leg) = self.control.legs_of_device(&name).last().map(|leg| leg.leg) else { return };
                let (calling_number, original_called, keep_on_failure) = (None, None, true);
                let destination = dialled;
                let redirect =
                    Request::Redirect { leg, destination, calling_number, original_called, keep_on_failure };
                self.ask(APP, redirect);
            }
            9 => self.signal(leg, Signal::Transfer(TransferTo::Number(dialled))),
            10..=12 => self.transfer(what % KINDS, who, dialled),
            _ => {
                self.now += Duration::from_secs(15);
                self.input(Input::Timeout);
                let name: DeviceName = device.into();
                match to % 3 {
                    0 => self.input(Input::Unregistered(name)),
                    1 => self.input(Input::Registered(name)),
                    _ => {}
                }
            }
        }
    }

    /// An application's transfers at a port: blind, by a consultation, of two calls.
    fn transfer(&mut self, what: u8, who: u8, destination: Dn) {
        let legs = self.control.legs_of_device(&["P", "Q"][usize::from(who) % 2].into());
        let legs: Vec<LegId> = legs.iter().map(|leg| leg.leg).collect();
        match (what, legs.as_slice()) {
            (10, [.., leg]) => {
                self.ask(APP, Request::Answer { leg: *leg });
                self.ask(APP, Request::BlindTransfer { leg: *leg, destination });
            }
            (11, [.., leg]) => {
                self.ask(APP, Request::Answer { leg: *leg });
                self.ask(APP, Request::Consult { leg: *leg, destination });
            }
            (12, [leg, with, ..]) => self.ask(APP, Request::Transfer { leg: *leg, with: *with }),
            _ => {}
        }
    }

    fn begin(&mut self, origin: Origin, number: &str, dialled: Dn) {
        let leg = leg_of(self.control.new_end_id());
        let calling = Party { number: number.into(), ..Party::default() };
        let offer = Some(sdp(A, &["PCMU"]));
        self.input(Input::IncomingCall {
            end: end_of(leg),
            origin,
            dialled,
            calling,
            diverted: None,
            offer,
            hops: 0,
        });
    }

    fn signal(&mut self, leg: Option<LegId>, signal: Signal) {
        if let Some(leg) = leg {
            self.input(Input::Signal(end_of(leg), signal));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_call_never_reaches_a_partition_outside_the_space_of_who_sends_it_on(
        draw in draw(),
        acts in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..60),
    ) {
        let mut drive = Drive::new(draw);
        for (what, who, to) in acts {
            drive.act(what, who, to);
        }
    }
}

#[test]
fn the_property_is_put_to_the_test() {
    // Everything within reach: the driver places calls of every kind, so that the property above says something.
    let all = (4, 15, 15, vec![None; 5]);
    let draw = Draw { numbers: vec![all; NUMBERS.len()], patterns: vec![4; 4], trunks: vec![(15, false); 2] };
    let mut drive = Drive::new(draw);
    let mut kinds = HashSet::new();
    for step in 0..250u8 {
        let before = drive.checked;
        drive.act(step, step / 10, step.wrapping_mul(7));
        if drive.checked > before {
            kinds.insert(step % KINDS);
        }
    }
    for kind in [0, 3, 4, 6, 8, 9, 10, 11] {
        assert!(kinds.contains(&kind), "no call of kind {kind}: {kinds:?}");
    }
}
