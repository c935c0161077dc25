//! An application as an author writes it: with the SDK alone, and without a line about lost connections.

use super::hub::{SERVERS, SharedHub};
use super::line::{Network, pass};
use super::story::Story;
use crate::sim::dice::Dice;
use crate::sim::phone::Mood;
use crate::sim::scene::{APPLICATIONS, ApplicationOfScene, Media, NUMBERS, PASSWORD};
use client::provider::{Jitter, MakeCall, Observed, ProviderState, Reconnect};
use client::wire::LegState;
use client::{
    Codec, Error, MediaTermination, Provider, ProviderConfig, Secret, Symbol, TerminalConnection, Transport,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a request may wait for its answer.
pub(super) const REQUEST: Duration = Duration::from_secs(30);
/// When an application gives up.
pub(super) const GIVE_UP: Duration = Duration::from_secs(3_600);

pub(super) struct Author {
    pub(super) scene: &'static ApplicationOfScene,
    pub(super) story: Mutex<Story>,
    pub(super) provider: Mutex<Option<Provider>>,
    hub: SharedHub,
    dice: Mutex<Dice>,
    mood: Mutex<Mood>,
    last: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Author {
    /// Connects, opens its devices and begins to work.
    pub(super) async fn start(hub: SharedHub, index: usize) -> Result<Arc<Self>, String> {
        let (dice, seed) = hub.with(|h| (h.dice.split(), h.dice.below(u64::MAX)));
        let scene = &APPLICATIONS[index];
        let transport = Transport::Through(Arc::new(Network { hub: hub.clone(), application: index }));
        let password = Secret::from(PASSWORD.to_owned());
        let config = ProviderConfig::new(SERVERS[1], transport, scene.user, password, "author");
        let config = ProviderConfig {
            instance: Some(scene.instance.to_owned()),
            heartbeat: Some(Duration::from_secs(5)),
            resume_grace: [None, Some(Duration::from_secs(4)), Some(Duration::from_secs(30))][index % 3],
            request_timeout: REQUEST,
            reconnect: Some(Reconnect {
                give_up_after: GIVE_UP,
                jitter: Jitter::Seed(seed),
                ..Reconnect::default()
            }),
            ..config
        };
        let provider = Provider::connect(config).await.map_err(|error| error.to_string())?;
        let author = Arc::new(Self {
            scene,
            story: Mutex::default(),
            provider: Mutex::new(Some(provider.clone())),
            hub,
            dice: Mutex::new(dice),
            mood: Mutex::new(Mood::Still),
            last: Mutex::new(0),
        });
        tokio::spawn(author.clone().observe(provider.events()));
        for (device, media) in scene.devices {
            author.clone().work_at(&provider, device, *media).await?;
        }
        tokio::spawn(author.clone().wander(provider));
        Ok(author)
    }

    /// Writes down and checks everything that is told.
    async fn observe(self: Arc<Self>, mut events: client::provider::Events<client::ProviderEvent>) {
        while let Some(event) = events.next().await {
            let heard = match &event {
                Observed::Event(event) => lock(&self.story).hear(event),
                Observed::Lagged(missed) => Err(format!("{missed} events missed")),
            };
            let at_a_loss = matches!(event, Observed::Event(client::ProviderEvent::ConnectionLost(_)));
            self.hub.with(|h| h.trace.line(h.now(), self.scene.instance, format!("{event:?}").as_bytes()));
            self.expect(heard);
            if at_a_loss {
                self.nothing_is_in_service();
            }
        }
    }

    fn nothing_is_in_service(&self) {
        let Some(provider) = lock(&self.provider).clone() else { return };
        for (device, _) in self.scene.devices {
            let state = provider.terminal(device).device().map(|device| device.state);
            if state == Some(client::wire::DeviceState::InService) {
                self.expect(Err(format!("{device} is in service without a connection")));
            }
        }
    }

    /// Notes what a rule did not allow.
    pub(super) fn expect(&self, held: Result<(), String>) {
        if let Err(what) = held {
            self.hub.with(|h| h.fail(format!("application {}: {what}", self.scene.instance)));
        }
    }

    async fn work_at(self: Arc<Self>, provider: &Provider, device: &str, media: Media) -> Result<(), String> {
        let terminal = provider.terminal(device);
        let mut calls = terminal.calls();
        let codecs = vec![Codec::Pcmu, Codec::Pcma];
        let termination = match media {
            Media::Phone => None,
            Media::None => Some(MediaTermination::None),
            Media::Dynamic => Some(MediaTermination::Dynamic { codecs, srtp: Vec::new() }),
            Media::Static => Some(MediaTermination::Static {
                address: SocketAddr::from(([10, 0, 0, 50], 30_000)),
                codecs,
                srtp: Vec::new(),
            }),
        };
        let legs = terminal.open(termination).await.map_err(|error| format!("{device}: {error}"))?;
        lock(&self.story).given.extend(legs.iter().map(|leg| leg.id().to_string()));
        tokio::spawn(async move {
            while let Some(leg) = calls.next().await {
                lock(&self.story).tally.calls += 1;
                tokio::spawn(self.clone().tend(leg, media));
            }
        });
        Ok(())
    }

    /// Something now and then.
    async fn wander(self: Arc<Self>, provider: Provider) {
        while provider.state() != ProviderState::Shutdown {
            let pause = self.ms(500, 6_000);
            pass(pause).await;
            if self.mood() != Mood::Busy {
                continue;
            }
            if self.percent(30) {
                let _ = self.ask("provider.snapshot", provider.snapshot()).await;
            }
            if !self.scene.calls_from.is_empty() && self.percent(70) {
                let device = *lock(&self.dice).pick(self.scene.calls_from);
                let media = self.scene.devices.iter().find(|(name, _)| *name == device);
                let media = media.map_or(Media::None, |(_, media)| *media);
                tokio::spawn(self.clone().make_call(provider.clone(), device, media));
            }
        }
    }

    async fn make_call(self: Arc<Self>, provider: Provider, device: &'static str, media: Media) {
        let token = {
            let mut last = lock(&self.last);
            *last += 1;
            format!("{}-{last}", self.scene.instance)
        };
        let destination = *lock(&self.dice).pick(NUMBERS);
        let user_data = BTreeMap::from([("token".to_owned(), token.clone())]);
        let how = MakeCall { user_data, ..MakeCall::default() };
        let terminal = provider.terminal(device);
        if let Ok(leg) = self.ask("call.make", terminal.make_call(destination, how)).await {
            let made = lock(&self.story).made(&token, &leg.leg().call.to_string());
            self.expect(made);
            self.tend(leg, media).await;
        }
    }

    /// One call, until it is gone.
    async fn tend(self: Arc<Self>, leg: TerminalConnection, media: Media) {
        tokio::select! {
            biased;
            () = leg.gone() => {}
            () = self.give_media(&leg, media) => {}
            () = self.handle(&leg, media) => {}
        }
    }

    /// Gives each media session an address; another application may be first.
    async fn give_media(&self, leg: &TerminalConnection, media: Media) {
        let mut answered = 0;
        while let Some(status) = leg.wait_for(|status| status.channels_asked > answered).await {
            answered = status.channels_asked;
            if media == Media::Dynamic {
                let address = SocketAddr::from(([10, 0, 0, 50], 31_000));
                let _ = self.ask("call.set_media", leg.set_media(address)).await;
            }
        }
        leg.gone().await;
    }

    async fn handle(&self, leg: &TerminalConnection, media: Media) {
        let first = if self.mood() == Mood::Polite { Duration::from_millis(50) } else { self.ms(0, 3_000) };
        pass(first).await;
        match (self.mood(), self.below(20), media) {
            (Mood::Polite, _, Media::Dynamic | Media::Static)
            | (Mood::Busy, 0..=8, Media::Dynamic | Media::Static) => {
                let _ = self.ask("call.answer", leg.answer()).await;
            }
            (Mood::Busy, 9..=11, Media::Dynamic | Media::Static) => {
                let _ = self.ask("call.accept", leg.accept()).await;
                pass(self.ms(0, 3_000)).await;
                let _ = self.ask("call.answer", leg.answer()).await;
            }
            (Mood::Busy, 12..=15, Media::Dynamic | Media::Static | Media::None) => self.redirect(leg).await,
            (Mood::Busy, 16, Media::Dynamic | Media::Static | Media::None) => {
                let _ = self.ask("call.reject", leg.reject(None)).await;
            }
            _ => {}
        }
        while self.mood() == Mood::Busy {
            pass(self.ms(200, 15_000)).await;
            match (self.mood(), leg.state(), self.below(4)) {
                (Mood::Busy, LegState::Connected, 0) if media != Media::Phone => {
                    let _ = self.ask("call.hold", leg.hold()).await;
                }
                (Mood::Busy, LegState::Connected, 1) => self.redirect(leg).await,
                (Mood::Busy, LegState::Connected, 2) | (Mood::Busy, LegState::Held, 0) => {
                    let _ = self.ask("call.drop", leg.drop_leg()).await;
                }
                (Mood::Busy, LegState::Held, 1..) => {
                    let _ = self.ask("call.retrieve", leg.retrieve()).await;
                }
                _ => {}
            }
        }
        leg.gone().await;
    }

    async fn redirect(&self, leg: &TerminalConnection) {
        let destination = *lock(&self.dice).pick(NUMBERS);
        let _ = self.ask("call.redirect", leg.redirect(destination)).await;
    }

    /// A request: it has one result, in time, and no result that tells of a mistake in the SDK.
    pub(super) async fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let Ok(result) = tokio::time::timeout(REQUEST + Duration::from_secs(1), request).await else {
            self.expect(Err(format!("{what} has no result after {:?}", begun.elapsed())));
            return Err(Error::Timeout);
        };
        let mut story = lock(&self.story);
        story.tally.requests += 1;
        let (expected, uncertain) = match &result {
            Ok(_) | Err(Error::NotConnected) => (true, false),
            Err(Error::ConnectionLost | Error::Timeout) => (true, true),
            Err(Error::ShutDown) => (story.gave_up.is_some(), false),
            Err(Error::Refused(error)) => (may_be_refused(error.symbol), false),
            Err(Error::Overloaded | Error::TooLong | Error::BadAnswer(_)) => (false, false),
        };
        story.tally.uncertain += u64::from(uncertain);
        drop(story);
        if let (false, Err(error)) = (expected, &result) {
            self.expect(Err(format!("{what}: {error}")));
        }
        result
    }

    /// Ends whatever there is.
    pub(super) async fn drop_all(&self) {
        let Some(provider) = lock(&self.provider).clone() else { return };
        for (device, _) in self.scene.devices {
            for leg in provider.terminal(device).terminal_connections() {
                let _ = self.ask("call.drop", leg.drop_leg()).await;
            }
        }
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        *lock(&self.mood) = mood;
    }

    fn mood(&self) -> Mood {
        *lock(&self.mood)
    }

    fn ms(&self, from: u64, to: u64) -> Duration {
        lock(&self.dice).ms(from, to)
    }

    fn percent(&self, percent: u64) -> bool {
        lock(&self.dice).percent(percent)
    }

    fn below(&self, bound: u64) -> u64 {
        lock(&self.dice).below(bound)
    }
}

/// What an application of the scene may be refused for: calls change under its hands.
fn may_be_refused(symbol: Symbol) -> bool {
    !matches!(
        symbol,
        Symbol::Internal
            | Symbol::InvalidParams
            | Symbol::InvalidRequest
            | Symbol::ParseError
            | Symbol::MethodNotFound
            | Symbol::NotOpen
            | Symbol::AlreadyOpen
            | Symbol::NoSuchDevice
            | Symbol::DeviceNotControlled
            | Symbol::PrivilegeViolation
    )
}
