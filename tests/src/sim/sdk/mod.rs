//! The SDK in the simulator: the very `Provider` that authors use, against the very node, in one thread of tokio under
//! virtual time. The network cuts its connections at any byte, delays, stalls and refuses; the node dies and comes back
//! empty. What the application hears through the SDK must be one consistent story ([`story`]), and when all is quiet, what
//! its handles say must be what the node says.

mod author;
mod hub;
mod line;
mod story;
mod witness;

use super::Failure;
use super::phone::{Mood, Stage};
use super::scene::{APPLICATIONS, PHONES};
use author::{Author, GIVE_UP, REQUEST};
use client::provider::{GaveUp, ProviderState};
use client::wire::LegState;
use client::{Error, Provider};
use ctimanager::node::AdminRequest;
use hub::SharedHub;
use line::{Fate, pass};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Every transaction, every ringing phone, every grace and every pause of an application is over by then.
const SETTLED: Duration = Duration::from_secs(150);
/// The trunk's peer among the phones.
const TRUNK: usize = PHONES.len() - 1;

/// What a run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A number made of everything that happened, to the byte.
    pub hash: u64,
    /// Inputs of the node.
    pub steps: u64,
    /// Events that observers heard from the node.
    pub told: u64,
    /// Events that the SDK concluded by itself.
    pub concluded: u64,
    /// Of these, how many were compared with what the witness heard.
    pub witnessed: u64,
    /// Lost connections.
    pub lost: u64,
    /// Sessions that went on after one.
    pub resumed: u64,
    /// Sessions that began anew.
    pub restarted: u64,
    /// Requests that were made.
    pub requests: u64,
    /// Requests of which the application does not know whether they were carried out.
    pub uncertain: u64,
    /// Calls that were offered to applications.
    pub calls: u64,
    /// Lives of the node.
    pub lives: u32,
}

/// Runs one seed with so many rounds of a minute of trouble, each followed by calm.
///
/// # Errors
/// The first rule that did not hold.
///
/// # Panics
/// When there is no room for a runtime.
pub fn run(seed: u64, rounds: u32, loud: bool) -> Result<Outcome, Box<Failure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without sockets").block_on(async {
        let hub = SharedHub::new(seed, seed.is_multiple_of(2));
        hub.with(|h| h.trace.loud = loud);
        tokio::spawn(hub.clone().run());
        let mut world = World { hub: hub.clone(), authors: Vec::new(), witnessed: 0 };
        let went = world.run(rounds).await;
        let failed = hub.with(|h| h.failure.clone()).map_or(went, Err);
        match failed {
            Ok(()) => Ok(world.outcome()),
            Err(what) => {
                hub.with(|h| Err(Box::new(Failure { seed, at: h.now(), what, trace: h.trace.last_lines() })))
            }
        }
    })
}

struct World {
    hub: SharedHub,
    authors: Vec<Arc<Author>>,
    witnessed: u64,
}

impl World {
    async fn run(&mut self, rounds: u32) -> Result<(), String> {
        pass(Duration::from_secs(5)).await;
        for index in 0..APPLICATIONS.len() {
            self.authors.push(Author::start(self.hub.clone(), index).await?);
        }
        for _ in 0..rounds {
            self.trouble().await?;
            self.calm().await?;
        }
        self.the_end().await
    }

    /// Nothing has gone wrong so far.
    fn fine(&self) -> Result<(), String> {
        self.hub.with(|h| h.failure.clone()).map_or(Ok(()), Err)
    }

    fn mood(&self, mood: Mood) {
        self.hub.with(|h| h.mood(mood));
        self.authors.iter().for_each(|author| author.set_mood(mood));
    }

    async fn trouble(&self) -> Result<(), String> {
        self.mood(Mood::Busy);
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let pause = self.hub.with(|h| h.dice.ms(200, 3_000));
            pass(pause).await;
            self.misfortune();
            self.fine()?;
        }
        Ok(())
    }

    fn misfortune(&self) {
        self.hub.with(|h| {
            let application = h.dice.up_to(APPLICATIONS.len() - 1);
            let way = h.dice.up_to(1);
            match h.dice.below(100) {
                0..=39 => h.befall(application, Fate::Cut),
                40..=59 => {
                    let until = Instant::now() + h.dice.ms(100, 14_000);
                    h.befall(application, Fate::Stalled(until));
                }
                60..=69 => {
                    let (silent, lasts) = (h.dice.percent(50), h.dice.ms(500, 9_000));
                    h.block_way(way, silent, lasts);
                    h.befall(application, Fate::Cut);
                }
                70..=74 => {
                    for way in 0..2 {
                        let (silent, lasts) = (h.dice.percent(50), h.dice.ms(500, 40_000));
                        h.block_way(way, silent, lasts);
                    }
                    h.befall(application, Fate::Cut);
                }
                75..=77 => h.kill_node(),
                78..=85 => {
                    // Everybody calls while an application is away.
                    h.befall(application, Fate::Cut);
                    for _ in 0..8 {
                        let number = *h.dice.pick(&["5000", "5000", "5101", "1003"]);
                        h.dial(TRUNK, number);
                    }
                }
                _ => h.lost = h.dice.below(40),
            }
        });
    }

    async fn calm(&mut self) -> Result<(), String> {
        self.hub.with(|h| h.lost = 0);
        self.mood(Mood::Still);
        pass(SETTLED).await;
        self.fine()?;
        self.agreement()?;
        self.compare_with_witness()?;
        self.hang_up().await;
        pass(Duration::from_secs(40)).await;
        self.hang_up().await;
        pass(Duration::from_secs(80)).await;
        self.quiet()?;
        self.fresh_call("5000").await?;
        self.fresh_call("5101").await?;
        self.quiet()?;
        self.fine()
    }

    /// What each application knows is what the node knows, and what it was told.
    fn agreement(&self) -> Result<(), String> {
        let calls = self.hub.with(|h| h.ask(AdminRequest::Calls));
        let legs: Vec<client::wire::Leg> = calls
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|call| call["legs"].as_array().into_iter().flatten())
            .map(|leg| serde_json::from_value(leg.clone()).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?;
        for author in &self.authors {
            let provider = provider(author)?;
            let story = author.story.lock().unwrap_or_else(PoisonError::into_inner);
            if provider.state() != ProviderState::InService || !story.is_settled() {
                return Err(format!("application {} is not in service again", author.scene.instance));
            }
            for (device, _) in author.scene.devices {
                let at = legs.iter().filter(|leg| leg.device.as_str() == *device);
                let node: BTreeMap<String, LegState> =
                    at.map(|leg| (leg.leg.to_string(), leg.state)).collect();
                let known = known(&provider, device);
                if known != node {
                    let instance = author.scene.instance;
                    return Err(format!("{instance} knows of {known:?} at {device}, the node of {node:?}"));
                }
                story.agrees_with(device, &known)?;
            }
        }
        Ok(())
    }

    /// What an observer was told in one session is a stretch of what a session was told that was never cut.
    fn compare_with_witness(&mut self) -> Result<(), String> {
        let mut compared = 0;
        let outcome = self.hub.with(|h| {
            let Some(witness) = &h.witness else { return Ok(()) };
            for author in &self.authors {
                let story = author.story.lock().unwrap_or_else(PoisonError::into_inner);
                for (device, runs) in story.runs.iter().filter(|(device, _)| witness.watches(device)) {
                    let mut from = 0;
                    for run in runs {
                        let found = witness.find(device, run, from);
                        let instance = author.scene.instance;
                        from = found.ok_or_else(|| {
                            format!("{instance} was told at {device} what nobody else was: {run:#?}")
                        })?;
                        compared += run.len() as u64;
                    }
                }
            }
            Ok(())
        });
        self.witnessed = compared;
        outcome
    }

    async fn hang_up(&self) {
        self.hub.with(|h| h.hang_up_all());
        for author in &self.authors {
            author.drop_all().await;
        }
    }

    /// Nothing is left of any call, anywhere.
    fn quiet(&self) -> Result<(), String> {
        self.fine()?;
        let (status, noisy) = self.hub.with(|h| {
            let noisy = h.phones.iter().find(|phone| !phone.is_quiet()).map(|phone| phone.device);
            (h.ask(AdminRequest::Status), noisy)
        });
        if let Some(device) = noisy {
            return Err(format!("{device} still has a call"));
        }
        for name in ["calls", "legs", "sip_calls"] {
            if status[name] != 0 {
                return Err(format!("the node still has {} {name}: {status}", status[name]));
            }
        }
        for author in &self.authors {
            let provider = provider(author)?;
            for (device, _) in author.scene.devices {
                let known = known(&provider, device);
                if !known.is_empty() {
                    return Err(format!("{} still knows of {known:?} at {device}", author.scene.instance));
                }
            }
        }
        Ok(())
    }

    async fn fresh_call(&self, number: &str) -> Result<(), String> {
        self.mood(Mood::Polite);
        let token = self.hub.with(|h| h.dial(TRUNK, number));
        pass(Duration::from_secs(4)).await;
        let up =
            |h: &mut hub::Hub| h.phones[TRUNK].live_call(&token).is_some_and(|call| call.stage == Stage::Up);
        if !self.hub.with(up) {
            return Err(format!("a fresh call to {number} did not come about"));
        }
        self.agreement()?;
        self.mood(Mood::Still);
        self.hang_up().await;
        pass(Duration::from_secs(40)).await;
        Ok(())
    }

    /// Applications leave: in order, while they are cut off, or because nobody is there any more.
    async fn the_end(&self) -> Result<(), String> {
        let [first, second, third, last] = &self.authors[..] else { return Err("four applications".into()) };
        let closed = first.ask("close", provider(first)?.close()).await;
        ended(first, closed == Ok(())).await?;
        // The answer is lost, maybe the request as well.
        let leaving = tokio::spawn({
            let (second, provider) = (second.clone(), provider(second)?);
            async move { second.ask("close", provider.close()).await }
        });
        let after = self.hub.with(|h| h.dice.ms(0, 60));
        pass(after).await;
        self.hub.with(|h| h.befall(1, Fate::Cut));
        let closed = leaving.await.map_err(|e| e.to_string())?;
        ended(second, closed.is_ok() || closed == Err(Error::NotConnected)).await?;
        self.hub.with(|h| {
            h.for_ever = true;
            h.kill_node();
        });
        // Nobody answers any more: requests fail in time, leaving ends at once.
        pass(Duration::from_secs(1)).await;
        let asked = third.ask("provider.snapshot", provider(third)?.snapshot()).await;
        let closed = third.ask("close", provider(third)?.close()).await;
        ended(third, asked.is_err() && closed == Err(Error::NotConnected)).await?;
        pass(GIVE_UP + REQUEST).await;
        let gave_up = last.story.lock().unwrap_or_else(PoisonError::into_inner).gave_up.clone();
        ended(last, matches!(gave_up, Some(GaveUp::TooLong { .. }))).await?;
        self.fine()
    }

    fn outcome(&self) -> Outcome {
        let mut outcome = Outcome { witnessed: self.witnessed, ..Outcome::default() };
        self.hub.with(|h| {
            (outcome.hash, outcome.steps, outcome.lives) = (h.trace.hash(), h.steps, h.life);
        });
        for author in &self.authors {
            let tally = author.story.lock().unwrap_or_else(PoisonError::into_inner).tally;
            outcome.told += tally.told;
            outcome.concluded += tally.concluded;
            outcome.lost += tally.lost;
            outcome.resumed += tally.resumed;
            outcome.restarted += tally.restarted;
            outcome.requests += tally.requests;
            outcome.uncertain += tally.uncertain;
            outcome.calls += tally.calls;
        }
        outcome
    }
}

fn provider(author: &Author) -> Result<Provider, String> {
    let provider = author.provider.lock().unwrap_or_else(PoisonError::into_inner).clone();
    provider.ok_or_else(|| "an application without a provider".to_owned())
}

fn known(provider: &Provider, device: &str) -> BTreeMap<String, LegState> {
    let legs = provider.terminal(device).terminal_connections();
    legs.iter().map(|leg| (leg.id().to_string(), leg.state())).collect()
}

/// A provider that was left is shut down, and everything with it.
async fn ended(author: &Author, as_wished: bool) -> Result<(), String> {
    let instance = author.scene.instance;
    if !as_wished {
        return Err(format!("application {instance} did not leave as it should"));
    }
    let provider = provider(author)?;
    let mut state = provider.state_changes();
    let shut_down = state.wait_for(|state| *state == ProviderState::Shutdown);
    let shut_down = tokio::time::timeout(Duration::from_secs(5), shut_down).await;
    if shut_down.is_err() || provider.snapshot().await != Err(Error::ShutDown) {
        return Err(format!("application {instance} is not shut down"));
    }
    match author.scene.devices.iter().find(|(device, _)| !known(&provider, device).is_empty()) {
        Some((device, _)) => Err(format!("application {instance} still has calls at {device}")),
        None => Ok(()),
    }
}
