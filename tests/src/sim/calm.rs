//! What must hold once faults have stopped: phones and node agree, everything ends when everybody hangs up, and a fresh
//! call completes (P5, P6, P8, P10).

use super::phone::{Mood, Stage};
use super::scene::{Media, PHONES, TIGHT};
use super::world::{FAIR, World};
use ctimanager::node::AdminRequest;
use serde_json::Value;
use std::time::Duration;

/// Every transaction, every ringing phone, every grace and every pause of an application is over by then.
pub(super) const SETTLED: Duration = Duration::from_secs(150);
/// The trunk's peer among the phones.
const TRUNK: usize = PHONES.len() - 1;

/// Lets calm come, and looks at everything.
pub(super) fn calm(world: &mut World) -> Result<(), String> {
    world.weather = FAIR;
    world.reload(Vec::new())?;
    world.mood(Mood::Still);
    world.neighbour_leaves()?;
    world.run_until(world.now + SETTLED)?;
    in_service(world)?;
    agreement(world)?;
    world.hang_up_all()?;
    // A crossing of messages may leave somebody with a call that he has just been given.
    world.run_until(world.now + Duration::from_secs(40))?;
    world.hang_up_all()?;
    world.run_until(world.now + Duration::from_secs(80))?;
    quiet(world)?;
    world.phones.iter_mut().for_each(|phone| phone.amnesiac = false);
    fresh_calls(world)?;
    quiet(world)?;
    world.stories.clear();
    Ok(())
}

/// P8: every application has its devices, every phone is registered. What is at one address, one of them has.
fn in_service(world: &World) -> Result<(), String> {
    for application in &world.applications {
        let lacks = |(device, media): &&(&str, Media)| {
            let have = world.applications.iter().filter(|any| any.has(device)).count();
            if *media == Media::Static { have != 1 } else { !application.has(device) }
        };
        let lacking = application.scene.devices.iter().find(lacks).map(|(device, _)| device);
        if lacking.is_some() || !application.is_open() {
            return Err(format!("application {} did not come back: {lacking:?}", application.scene.instance));
        }
    }
    match world.phones.iter().take(TRUNK).find(|phone| !phone.registered) {
        Some(phone) => Err(format!("{} is not registered", phone.device)),
        None => Ok(()),
    }
}

/// P5: what the phones have is what the node has, and the two ends of a call are each other's.
fn agreement(world: &mut World) -> Result<(), String> {
    let calls = world.ask(AdminRequest::Calls)?;
    let status = world.ask(AdminRequest::Status)?;
    let legs: Vec<&Value> = calls
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|call| call["legs"].as_array().into_iter().flatten())
        .collect();
    let mut total = 0;
    for phone in &world.phones {
        let node = legs.iter().filter(|leg| leg["device"] == phone.device && leg["remote_in_use"] == false);
        let (node, own) = (node.count(), phone.established().count());
        // What it has forgotten, others end.
        if node != own && !phone.amnesiac {
            let tokens: Vec<&str> = phone.established().map(|call| call.token.as_str()).collect();
            return Err(format!("{} has {tokens:?}, the node says {node}: {calls}", phone.device));
        }
        total += own;
    }
    let forgotten = world.phones.iter().any(|phone| phone.amnesiac);
    if status["sip_calls"] != total && !forgotten {
        return Err(format!("the phones have {total} calls, the SIP stack {}", status["sip_calls"]));
    }
    if !forgotten {
        world.at_rest()?;
    }
    pairs(world)
}

fn pairs(world: &World) -> Result<(), String> {
    for call in world.phones.iter().flat_map(|phone| phone.established()) {
        // An application's description names nobody.
        let Some(peer) = &call.peer else { continue };
        let other = world.phones.iter().find_map(|phone| phone.live_call(peer));
        let amnesiac = world.phones.iter().any(|phone| phone.amnesiac && peer.starts_with(phone.device));
        let fine = amnesiac
            || other.is_some_and(|other| {
                other.stage == Stage::Up && other.peer.as_deref() == Some(call.token.as_str())
            });
        if !fine {
            return Err(format!(
                "{} hears {peer}, who hears {:?}",
                call.token,
                other.map(|other| (other.stage, other.peer.as_deref()))
            ));
        }
    }
    Ok(())
}

/// P6: nothing is left of any call, anywhere.
fn quiet(world: &mut World) -> Result<(), String> {
    if let Some(phone) = world.phones.iter().find(|phone| !phone.is_quiet()) {
        let left: Vec<_> = phone.calls.values().map(|call| (&call.token, call.stage)).collect();
        return Err(format!("{} still has {left:?}", phone.device));
    }
    for application in &world.applications {
        application.is_quiet()?;
    }
    let status = world.ask(AdminRequest::Status)?;
    for name in ["calls", "legs", "sip_calls", "sip_transactions"] {
        // Registrations go on: five lines, twice in half a minute with their challenges.
        let allowed = if name == "sip_transactions" { 24 } else { 0 };
        if status[name].as_u64().is_none_or(|count| count > allowed) {
            return Err(format!("the node still has {} {name}: {status}", status[name]));
        }
    }
    let applications = world.applications.len();
    if status["sessions"] != applications {
        return Err(format!("{} sessions of {applications} applications", status["sessions"]));
    }
    world.all_is_kept()?;
    if status["unopened_connections"] != 0 {
        return Err(format!("connections without a provider are left: {status}"));
    }
    bounded(world)
}

/// P8: when faults have stopped, calls come about.
fn fresh_calls(world: &mut World) -> Result<(), String> {
    world.mood(Mood::Polite);
    let calls = [(0, "1002"), (TRUNK, "1001"), (TRUNK, "5000"), (0, "5101"), (TRUNK, "1003")];
    for (from, to) in calls {
        let token = world.dial(from, to)?;
        world.run_until(world.now + Duration::from_secs(4))?;
        let up = world.phones[from].live_call(&token).is_some_and(|call| call.stage == Stage::Up);
        if !up {
            return Err(format!("a fresh call of {} to {to} did not come about", world.phones[from].device));
        }
        agreement(world)?;
        world.hang_up_all()?;
        world.run_until(world.now + Duration::from_secs(40))?;
    }
    world.mood(Mood::Still);
    Ok(())
}

/// P10: no queue is longer than its limit and one replay.
pub(super) fn bounded(world: &World) -> Result<(), String> {
    let longest = world.longest_queue();
    if longest > TIGHT.queue_events + 2 * TIGHT.log_events {
        return Err(format!("{longest} frames wait for one application"));
    }
    Ok(())
}
