//! Coming (back) to a server: which one, when, and when not any more.

use super::ProviderConfig;
use super::error::ConnectError;
use super::link::{Dialer, Inbound, Link};
use super::observer::LostReason;
use super::{Jitter, Reconnect};
use protocol::Symbol;
use protocol::event::CloseReason;
use protocol::methods::{self, Call, ProviderOpen, ProviderOpened, Resume};
use protocol::rpc::{self, Id};
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Servers of the cluster's list that are remembered.
const MAX_SERVERS: usize = 64;

/// How long a server that asks for rest is left alone at the most.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// Opens a session at the first configured server that answers.
pub(super) async fn open_first(
    config: &ProviderConfig,
    dialer: &Dialer,
) -> Result<(Link, ProviderOpened), ConnectError> {
    let mut failure = ConnectError::NoServer;
    for server in &config.servers {
        match open(config, dialer, server, None).await {
            Ok(opened) => return Ok(opened),
            Err(error) if error.is_the_clusters_word() => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Opens a session at this server, or goes on with one. A session that the server can't have known as we do (it came back
/// with an older state) is begun anew.
async fn open(
    config: &ProviderConfig,
    dialer: &Dialer,
    server: &str,
    resume: Option<Resume>,
) -> Result<(Link, ProviderOpened), ConnectError> {
    let resumes = resume.is_some();
    match open_once(config, dialer, server, resume).await {
        Err(ConnectError::Refused(error)) if resumes && error.symbol == Symbol::InvalidParams => {
            tracing::warn!(server, %error, "the session can't be resumed there; a new one begins");
            open_once(config, dialer, server, None).await
        }
        outcome => outcome,
    }
}

async fn open_once(
    config: &ProviderConfig,
    dialer: &Dialer,
    server: &str,
    resume: Option<Resume>,
) -> Result<(Link, ProviderOpened), ConnectError> {
    let mut link = Link::connect(server, dialer, config.connect_timeout).await?;
    let no_answer = |what: &str| ConnectError::NoAnswer { server: server.to_owned(), what: what.to_owned() };
    let request = ProviderOpen {
        user: config.user.as_str().into(),
        password: config.password.clone(),
        application: config.application.as_str().into(),
        instance: config.instance.as_deref().map(Into::into),
        heartbeat_ms: config.heartbeat.map(|h| h.as_millis() as u64),
        subscribe: config.subscribe.as_ref().map(|globs| globs.iter().map(|g| g.as_str().into()).collect()),
        resume_grace_ms: config.resume_grace.map(|g| g.as_millis() as u64),
        resume,
    };
    let frame = rpc::request_frame(&Id::number(0), ProviderOpen::METHOD, &methods::params(&request, None));
    link.send(frame).map_err(|_| no_answer("the connection ended at once"))?;
    let answer = tokio::time::timeout(config.request_timeout, link.receive()).await;
    match answer.map_err(|_| no_answer("no answer to provider.open"))? {
        Inbound::Reply { outcome: Ok(result), .. } => {
            let opened = serde_json::from_str(result.get()).map_err(|e| no_answer(&e.to_string()))?;
            Ok((link, opened))
        }
        Inbound::Reply { outcome: Err(error), .. } => Err(ConnectError::Refused(error)),
        Inbound::Event(_) | Inbound::Unreadable(_) => Err(no_answer("something else than an answer came")),
        Inbound::End(reason) => Err(no_answer(&format!("the connection ended: {reason:?}"))),
    }
}

/// The servers, and which of them wish to be left alone until when.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<String>,
    resting: BTreeMap<String, Instant>,
}

impl Servers {
    pub(super) fn new(config: &ProviderConfig, dialer: &Dialer, opened: &ProviderOpened) -> Self {
        Self { servers: where_to_reconnect(config, dialer, opened), resting: BTreeMap::new() }
    }

    /// One round: each server in turn, until one takes us or says what all would say.
    pub(super) async fn open_any(
        &mut self,
        config: &ProviderConfig,
        dialer: &Dialer,
        resume: Resume,
    ) -> Result<(Link, ProviderOpened), ConnectError> {
        let mut failure = ConnectError::NoServer;
        for server in &self.servers {
            if self.resting.get(server).is_some_and(|until| *until > Instant::now()) {
                continue;
            }
            match open(config, dialer, server, Some(resume.clone())).await {
                Ok(opened) => return Ok(opened),
                Err(error) if error.is_the_clusters_word() => return Err(error),
                Err(error) => {
                    let rest = error.retry_after().map(|rest| Instant::now() + rest.min(LONGEST_REST));
                    self.resting.extend(rest.map(|until| (server.clone(), until)));
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// How long all of them wish to be left alone.
    pub(super) fn rest(&self) -> Duration {
        let now = Instant::now();
        let rest = |server| {
            self.resting.get(server).map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
        };
        self.servers.iter().map(rest).min().unwrap_or_default()
    }
}

/// How long to wait before the next round: not at all after a connection that lasted, else twice as long each time.
#[derive(Debug)]
pub(super) struct Backoff {
    wishes: Reconnect,
    random: StdRng,
    pause: Duration,
}

impl Backoff {
    pub(super) fn new(wishes: Reconnect) -> Self {
        let random = match wishes.jitter {
            Jitter::System => StdRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| StdRng::seed_from_u64(0)),
            Jitter::Seed(seed) => StdRng::seed_from_u64(seed),
        };
        Self { wishes, random, pause: Duration::ZERO }
    }

    /// A connection was lost after so long. One that ends as soon as it is made is as good as none.
    pub(super) fn lost_after(&mut self, lived: Duration) {
        if lived >= self.wishes.longest_pause {
            self.pause = Duration::ZERO;
        }
    }

    /// The next pause. Half of it is chance, so that a thousand applications do not come back in the same moment.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).clamp(self.wishes.first_pause, self.wishes.longest_pause);
        self.spread(pause)
    }

    /// Half of the time to all of it.
    pub(super) fn spread(&mut self, time: Duration) -> Duration {
        time / 2 + (time / 2) * u32::from(self.random.random::<u16>()) / u32::from(u16::MAX)
    }
}

/// The cluster's own list first, in its order, then what was configured. The list is of TLS addresses; what a connector
/// makes of them is its affair.
fn where_to_reconnect(config: &ProviderConfig, dialer: &Dialer, opened: &ProviderOpened) -> Vec<String> {
    let told = match dialer {
        Dialer::Plain => &[][..],
        Dialer::Tls { .. } | Dialer::Through(_) if config.only_configured => &[][..],
        Dialer::Tls { .. } | Dialer::Through(_) => {
            &opened.ctimanagers[..opened.ctimanagers.len().min(MAX_SERVERS)]
        }
    };
    let port = config.servers.first().and_then(|s| s.rsplit_once(':')).map_or("2749", |(_, port)| port);
    let mut servers: Vec<String> = Vec::new();
    for server in told.iter().map(|told| with_port(told, port)).chain(config.servers.iter().cloned()) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// The address as it is when it names a port, else with this one.
fn with_port(address: &str, port: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        Ok(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Err(_) if address.contains(':') => address.to_owned(),
        Err(_) => format!("{address}:{port}"),
    }
}

/// Whether a connection that ended so is worth another one. A session that another has taken over is his: to take it back
/// would begin a quarrel without end. A user who may not, may not again; a certificate that has ended or was taken
/// back stays so, and an old password stays old.
pub(super) fn may_come_back(reason: &LostReason) -> bool {
    match reason {
        LostReason::Superseded
        | LostReason::Closed(
            CloseReason::UserDeleted
            | CloseReason::NotCtiEnabled
            | CloseReason::CertificateExpired
            | CloseReason::CertificateRevoked
            | CloseReason::CredentialChanged,
        ) => false,
        LostReason::Closed(
            CloseReason::SlowConsumer
            | CloseReason::HeartbeatTimeout
            | CloseReason::OpenTimeout
            | CloseReason::LineTooLong
            | CloseReason::Draining
            | CloseReason::Stopping,
        )
        | LostReason::EndOfFile
        | LostReason::Network(_)
        | LostReason::Silence
        | LostReason::Protocol(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, with_port};
    use crate::provider::{Jitter, Reconnect};
    use std::time::Duration;

    fn backoff(seed: u64) -> Backoff {
        let wishes = Reconnect {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            give_up_after: Duration::from_secs(3_600),
            jitter: Jitter::Seed(seed),
        };
        Backoff::new(wishes)
    }

    #[test]
    fn the_first_attempt_is_at_once_and_the_pauses_double_up_to_their_bound_half_by_chance() {
        let pauses = |seed| {
            let mut backoff = backoff(seed);
            std::iter::repeat_with(|| backoff.next_pause()).take(12).collect::<Vec<_>>()
        };
        let bounds = [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000, 10_000];
        for seed in 0..50 {
            for (pause, bound) in pauses(seed).into_iter().zip(bounds.map(Duration::from_millis)) {
                assert!(bound / 2 <= pause && pause <= bound, "seed {seed}: {pause:?} of {bound:?}");
            }
        }
        assert_ne!(pauses(1), pauses(2), "two applications do not come back in step");
        assert_eq!(pauses(1), pauses(1));
    }

    #[test]
    fn a_connection_that_ends_as_soon_as_it_is_made_does_not_reset_the_pause() {
        let mut backoff = backoff(1);
        for _ in 0..20 {
            backoff.lost_after(Duration::from_millis(5));
            backoff.next_pause();
        }
        assert!(backoff.next_pause() >= Duration::from_secs(5));
        backoff.lost_after(Duration::from_secs(10));
        assert_eq!(backoff.next_pause(), Duration::ZERO);
    }

    #[test]
    fn addresses_without_a_port_get_one() {
        for (address, wanted) in [
            ("cm2", "cm2:2749"),
            ("cm2:4711", "cm2:4711"),
            ("192.0.2.1", "192.0.2.1:2749"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("2001:db8::1", "[2001:db8::1]:2749"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
        ] {
            assert_eq!(with_port(address, "2749"), wanted);
        }
    }
}
