//! The auto-attendant: a menu prompt, one digit, a redirect. `examples/auto-attendant.rs` runs it, and so does the demo.

use crate::ivr::{IvrCall, IvrError};
use crate::media::tone;
use crate::provider::{Calls, TerminalConnection};
use device_model::LegId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Calls that are attended to at once; further ones wait, and go where the route point forwards them.
pub const MAX_CALLS: usize = 10_000;

/// Hears which digits the caller at a leg has pressed.
type Hears = dyn Fn(&LegId, &str) + Send + Sync;

/// Is told of what callers choose, before it is carried out.
#[derive(Clone)]
pub struct Listener(Arc<Hears>);

impl Listener {
    /// With the leg and its digits; they are empty for a caller who pressed nothing.
    pub fn new(hears: impl Fn(&LegId, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hears))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// What the attendant says and where it sends callers.
#[derive(Clone, Debug)]
pub struct Menu {
    /// Where its RTP is received: an address that telephones can reach.
    pub ip: IpAddr,
    /// The prompt (8 kHz mono).
    pub prompt: Arc<[i16]>,
    /// Digit → number.
    pub choices: BTreeMap<char, String>,
    /// For callers that press nothing, or what is not in the menu.
    pub operator: String,
    /// How long to wait for a digit after the prompt.
    pub timeout: Duration,
    /// How often a caller is asked again when the destination can't be reached.
    pub attempts: u32,
    /// Who is told.
    pub listener: Option<Listener>,
}

impl Menu {
    /// The tone that callers hear in place of a spoken prompt, in Hz.
    pub const PROMPT_HZ: f64 = 440.0;
    /// The tone that says "busy", in Hz.
    pub const BUSY_HZ: f64 = 620.0;
}

/// Attends to calls, each in a task of its own, until the provider is shut down.
pub async fn run(mut calls: Calls, menu: Arc<Menu>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            call = calls.next(), if tasks.len() < MAX_CALLS => match call {
                Some(leg) => { tasks.spawn(attend(leg, menu.clone())); }
                None => return,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn attend(leg: TerminalConnection, menu: Arc<Menu>) {
    match serve(leg.clone(), &menu).await {
        Ok(()) | Err(IvrError::Gone) => {}
        // Who hangs up in between makes requests fail; that is no trouble.
        Err(_) if leg.status().is_over() => {}
        Err(error) => {
            tracing::warn!(leg = %leg.id(), %error, "a call was not attended to; it goes to the operator");
            if leg.redirect(&menu.operator).await.is_err() {
                // It may have gone by itself.
                let _ = leg.drop_leg().await;
            }
        }
    }
}

/// One call: ask for a digit and send the caller there; when that can't be reached, say so and ask again.
async fn serve(leg: TerminalConnection, menu: &Menu) -> Result<(), IvrError> {
    let call = IvrCall::answer(leg, menu.ip).await?;
    for _ in 0..menu.attempts {
        let asked = call.ask(menu.prompt.clone(), 1, menu.timeout, menu.timeout, None).await;
        let Some(asked) = asked else { return Ok(()) };
        if let Some(Listener(tell)) = &menu.listener {
            tell(&call.leg().id(), &asked.digits);
        }
        let chosen = asked.digits.chars().next().and_then(|digit| menu.choices.get(&digit));
        match call.redirect(chosen.unwrap_or(&menu.operator)).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_destination() => {
                call.play_all(tone::sine(Menu::BUSY_HZ, Duration::from_millis(600))).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(call.hang_up().await?)
}
