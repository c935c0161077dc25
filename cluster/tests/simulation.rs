//! Whole clusters under virtual time, many seeds of each misfortune: the bounds of the contract, measured.
//! `CLUSTER_SEEDS=N` runs so many of each instead of the usual number.

#[path = "simulation/world.rs"]
mod world;

use cluster::{LinkState, Mode, NodeState};
use world::{Chances, Process, T, World, ms};

const KILLED: u64 = T * 3 / 2;
const FROZEN: u64 = T * 2;
const HEALED: u64 = T * 2 + 1_000_000;
const YIELDED: u64 = T * 2 + 3_000_000;

fn seeds(of: u64) -> impl Iterator<Item = u64> {
    let count = std::env::var("CLUSTER_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    (0..count).map(move |seed| of * 1_000_000 + seed)
}

/// A cluster whose nodes have all settled.
fn settled(seed: u64, chances: Chances) -> World {
    let mut world = World::new(seed, chances);
    world.run_for(T * 4);
    world.all_agree();
    assert!(world.living().all(|process| world.membership(process).is_settled()), "{seed}");
    world
}

#[test]
fn nobody_is_called_down_who_is_not_with_loss_and_pauses() {
    for seed in seeds(1) {
        let mut world = settled(seed, Chances::BAD_NETWORK);
        let from = world.now;
        world.run_for(T * 20);
        let wrong: Vec<_> = world.changes_since(from).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        world.all_agree();
    }
}

#[test]
fn a_killed_node_is_down_at_all_others_in_one_and_a_half_timeouts_and_comes_back_as_another_life() {
    for seed in seeds(2) {
        let mut world = settled(seed, Chances::of(seed));
        let victim = world.any();
        let at = world.now;
        world.crash(victim);
        for other in world.living().collect::<Vec<_>>() {
            world.until(seed, at + KILLED, |world| world.state(other, victim) == NodeState::Down);
            assert_eq!(world.view(other, victim).link, LinkState::Down);
        }
        world.only_changed(seed, at, victim);
        let before = world.life(victim);
        let at = world.now;
        let keeps_state = seed.is_multiple_of(3);
        let next = world.start_again(victim, keeps_state);
        world.until(seed, at + HEALED, World::agrees);
        world.only_changed(seed, at, victim);
        let after = world.life(next);
        assert!(after.life != before.life && (!keeps_state || after.incarnation > before.incarnation));
        world.living().for_each(|one| assert!(one == next || world.view(one, next).life == Some(after)));
    }
}

#[test]
fn a_node_that_starts_again_at_once_is_another_life_and_no_duplicate() {
    for seed in seeds(3) {
        let mut world = settled(seed, Chances::of(seed));
        let victim = world.any();
        let at = world.now;
        world.crash(victim);
        world.run_for(seed % ms(900));
        let next = world.start_again(victim, seed.is_multiple_of(2));
        world.run_for(T * 5);
        world.all_agree();
        world.only_changed(seed, at, victim);
        assert_eq!(world.duplicates(), [""; 0], "seed {seed}");
        assert!(world.membership(next).is_settled(), "seed {seed}");
    }
}

#[test]
fn a_frozen_node_is_down_in_two_timeouts_and_thawed_it_is_the_same_life_again() {
    for seed in seeds(4) {
        let mut world = settled(seed, Chances::of(seed));
        let victim = world.any();
        let (at, life) = (world.now, world.life(victim));
        world.freeze(victim);
        for other in world.living().filter(|one| *one != victim).collect::<Vec<_>>() {
            world.until(seed, at + FROZEN, |world| world.state(other, victim) == NodeState::Down);
        }
        world.run_for(T * (seed % 7));
        let at = world.now;
        world.thaw(victim);
        world.until(seed, at + HEALED, World::agrees);
        world.only_changed(seed, at, victim);
        assert!(world.living().all(|one| one == victim || world.view(one, victim).life == Some(life)));
    }
}

#[test]
fn a_link_that_is_down_is_no_node_that_is_down() {
    for seed in seeds(5) {
        let mut world = settled(seed, Chances::of(seed));
        if world.living().count() < 3 {
            continue;
        }
        let (one, other) = world.two();
        let at = world.now;
        let one_way = seed.is_multiple_of(2);
        world.cut(one, other);
        if !one_way {
            world.cut(other, one);
        }
        for (from, to) in [(one, other), (other, one)] {
            world.until(seed, at + T * 2, |world| world.state(from, to) == NodeState::Unreachable);
        }
        world.run_for(T * (seed % 5));
        assert_eq!(
            (world.state(one, other), world.state(other, one)),
            (NodeState::Unreachable, NodeState::Unreachable)
        );
        let wrong: Vec<_> =
            world.changes_since(at).filter(|change| change.state == NodeState::Down).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        let at = world.now;
        world.heal();
        world.until(seed, at + HEALED, World::agrees);
    }
}

#[test]
fn islands_call_each_other_down_and_agree_after_the_heal() {
    for seed in seeds(6) {
        let mut world = settled(seed, Chances::of(seed));
        let all: Vec<Process> = world.living().collect();
        let border = 1 + usize::try_from(seed).unwrap_or(0) % (all.len() - 1);
        let (left, right) = all.split_at(border);
        let one_way = seed.is_multiple_of(3);
        for (a, b) in left.iter().flat_map(|a| right.iter().map(|b| (*a, *b))) {
            world.cut(a, b);
            if !one_way {
                world.cut(b, a);
            }
        }
        let at = world.now;
        world.run_for(T * 3 + T * (seed % 6));
        for from in &all {
            for to in all.iter().filter(|to| *to != from) {
                let same = left.contains(from) == left.contains(to);
                let expected = if same { NodeState::Running } else { NodeState::Down };
                assert_eq!(world.state(*from, *to), expected, "seed {seed}: {from:?} {to:?}");
            }
        }
        let side = |one: Process| left.contains(&one);
        assert!(
            world.changes_since(at).all(|change| side(change.at) != side(world.named(&change.node))),
            "{seed}"
        );
        let at = world.now;
        world.heal();
        world.until(seed, at + HEALED, World::agrees);
    }
}

#[test]
fn the_second_of_a_name_yields_and_the_first_does_not() {
    for seed in seeds(7) {
        let mut world = settled(seed, Chances::of(seed));
        let first = world.any();
        let at = world.now;
        let second = world.start_second(first);
        world.until(seed, at + YIELDED, |world| world.has_yielded(second));
        assert!(!world.has_yielded(first), "seed {seed}");
        // It told the others why before it went.
        for one in world.living().filter(|one| *one != second).collect::<Vec<_>>() {
            world.until(seed, at + YIELDED, |world| world.began_duplicate(one, first));
        }
        world.crash(second);
        world.run_for(T * 3);
        world.all_agree();
        assert!(!world.has_yielded(first), "seed {seed}");
        assert!(world.living().all(|one| one == first || world.view(first, one).link == LinkState::Up));
        assert_eq!(world.standing_duplicates(), [""; 0], "seed {seed}");
    }
}

#[test]
fn of_two_that_start_together_one_stays() {
    for seed in seeds(8) {
        let mut world = World::new(seed, Chances::of(seed));
        let first = world.any();
        world.run_for(seed % T);
        let second = world.start_second(first);
        world.run_for(YIELDED);
        let yielded = [first, second].into_iter().filter(|one| world.has_yielded(*one)).count();
        assert_eq!(yielded, 1, "seed {seed}");
    }
}

#[test]
fn who_was_replaced_while_it_was_frozen_yields_when_it_thaws() {
    for seed in seeds(9) {
        let mut world = settled(seed, Chances::of(seed));
        let first = world.any();
        world.freeze(first);
        world.run_for(T * 2 + T * (seed % 20));
        let second = world.start_second(first);
        world.run_for(T * 5);
        assert!(!world.has_yielded(second), "seed {seed}: the first is frozen");
        let life = world.life(second);
        let elsewhere: Vec<Process> = world.living().filter(|one| *one != second && *one != first).collect();
        assert!(elsewhere.iter().all(|one| world.view(*one, first).life == Some(life)), "seed {seed}");
        let at = world.now;
        world.thaw(first);
        world.until(seed, at + T * 2 + ms(500), |world| world.has_yielded(first));
        assert!(!world.has_yielded(second), "seed {seed}");
        world.crash(first);
        world.run_for(T * 3);
        assert!(elsewhere.iter().all(|one| world.view(*one, first).life == Some(life)), "seed {seed}");
        assert!(elsewhere.iter().all(|one| world.state(*one, first) == NodeState::Running), "seed {seed}");
    }
}

#[test]
fn what_a_node_does_is_shown_at_all_others() {
    for seed in seeds(10).take(50) {
        let mut world = settled(seed, Chances::of(seed));
        let one = world.any();
        for (mode, state) in [(Mode::Draining, NodeState::Draining), (Mode::Stopping, NodeState::Stopping)] {
            let at = world.now;
            world.set_mode(one, mode);
            world.until(seed, at + T, |world| {
                world.living().all(|o| o == one || world.state(o, one) == state)
            });
        }
    }
}

/// Whatever happens, once it is over all agree; and nobody was down who was up and connected all the time.
#[test]
fn after_any_storm_all_agree() {
    for seed in seeds(11) {
        let mut world = settled(seed, Chances::BAD_NETWORK);
        for _ in 0..20 {
            world.misfortune();
            world.run_for(T / 2);
        }
        world.end_all_misfortune();
        let at = world.now;
        world.run_for(HEALED + ms(500));
        world.until(seed, at + HEALED * 2, World::agrees);
        let from = world.now;
        world.run_for(T * 5);
        let wrong: Vec<_> = world.changes_since(from).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        assert!(world.living().all(|one| !world.has_yielded(one)), "seed {seed}");
    }
}
