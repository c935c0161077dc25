//! Alarms: named as CUCM names them where it has them (reference §10.1), each with a cause and a cure.
//!
//! A *condition* is raised and cleared; an *occurrence* (a provider opened, a login refused) is over when it is told.
//! Both become a log line and a metric; `alarms` shows the conditions that stand and the newest of all others.

use super::port::{Report, Severity};
use device_model::SessionId;
pub use protocol::event::AlarmState;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// What is known of an alarm before it happens.
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// How grave.
    pub severity: Severity,
    /// What it says.
    pub text: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

impl Definition {
    /// What is told of it.
    #[must_use]
    pub fn report(&'static self, parameters: Vec<(&'static str, String)>) -> Report {
        Report { name: self.name, severity: self.severity, parameters }
    }
}

macro_rules! alarms {
    ($($(#[$doc:meta])* $name:ident = $string:literal, $severity:ident, $text:literal, $cause:literal, $cure:literal;)*) => {
        $($(#[$doc])* pub static $name: Definition = Definition {
            name: $string, severity: Severity::$severity, text: $text, cause: $cause, cure: $cure,
        };)*
    };
}

alarms! {
    /// An application is in.
    PROVIDER_OPENED = "CtiProviderOpened", Informational,
        "An application opened a provider.", "A login succeeded.", "None is needed.";
    /// An application was refused.
    PROVIDER_OPEN_FAILURE = "CtiProviderOpenFailure", Error,
        "An application could not open a provider.",
        "Wrong credentials, a missing group, the wrong transport, or a limit; `reason` says which.",
        "Correct the application's credentials, the user's groups or the limit.";
    /// An application is out.
    PROVIDER_CLOSED = "CtiProviderClosed", Informational,
        "A provider was closed.", "The application left, failed, or was told to leave; `reason` says which.",
        "None is needed when the application meant to leave.";
    /// An application fell silent.
    PROVIDER_HEARTBEAT_TIMEOUT = "CtiProviderCloseHeartbeatTimeout", Warning,
        "A provider was closed for its silence.",
        "No message came from the application for two heartbeat intervals.",
        "Look at the application's process and at the network between.";
    /// A connection is gone.
    CONNECTION_DROPPED = "ApplicationConnectionDropped", Warning,
        "The connection to an application was lost.", "The connection was reset or ended without provider.close.",
        "Look at the application's process and at the network between.";
    /// Too slow a reader.
    SLOW_CONSUMER = "CtiSlowConsumer", Warning,
        "An application reads too slowly and was disconnected.",
        "More frames than session_queue_events waited for it.",
        "Let the application read without pause, or subscribe to fewer events.";
    /// A line or WebSocket message over the limit.
    MESSAGE_TOO_LONG = "kCtiQbeMessageTooLong", Warning,
        "An application sent a message over the limit and was disconnected.",
        "The line or WebSocket message was longer than max_line_bytes.",
        "Look at what the application sends, or raise the limit where it is below 1MiB.";
    /// A client certificate ends soon.
    PEER_CERTIFICATE_EXPIRES_SOON = "CtiProviderPeerCertExpireSoon", Warning,
        "The certificate of an application ends within 30 days.", "`expires` says when.",
        "`ctimanager pki client DIR --user ID --renew`, and let the application reconnect with it.";
    /// A client certificate has ended.
    PROVIDER_PEER_CERTIFICATE_EXPIRED = "CtiProviderClosePeerCertExpired", Warning,
        "A connection was closed because the application's certificate has ended.",
        "The certificate was not renewed in time.",
        "`ctimanager pki client DIR --user ID --renew`, and let the application reconnect with it.";
    /// A certificate is taken back.
    PROVIDER_CERTIFICATE_REVOKED = "CtiProviderCloseCertRevoked", Warning,
        "A session was closed because its certificate is taken back.",
        "The certificate's serial number is in a list of crl.pem.",
        "`ctimanager pki client DIR --user ID --renew` makes another one for its user.";
    /// A SIP peer's certificate is taken back.
    SIP_CERTIFICATE_REVOKED = "SipCertificateRevoked", Warning,
        "A SIP connection over TLS was closed because its peer's certificate is taken back.",
        "The certificate's serial number is in a list of crl.pem, or of the crl of a trunk with its own authority.",
        "Let the peer get another certificate of its authority; nothing is needed if it was meant to be shut out.";
    /// A session goes on with a password that is no longer the user's.
    CREDENTIAL_CHANGED = "CtiProviderCredentialChanged", Warning,
        "The user's password is another one now: a session that logged in with the old one is closed.",
        "The configuration has another password_hash; `closes` says when the session is closed.",
        "Let the application log in anew with the new password; credential_change_grace gives it time.";
    /// The node's own certificate ends soon.
    CERTIFICATE_EXPIRES_SOON = "NodeCertificateExpiresSoon", Warning,
        "The node's certificate ends within 30 days.", "`expires` says when.",
        "`ctimanager pki init DIR --config FILE --renew`, then `ctimanager reload`.";
    /// The node's own certificate has ended.
    CERTIFICATE_EXPIRED = "NodeCertificateExpired", Error,
        "The node's certificate has ended: applications and phones refuse new connections.",
        "The certificate was not renewed in time.",
        "`ctimanager pki init DIR --config FILE --renew`, then `ctimanager reload`.";
    /// The hard limit of providers.
    MAX_CONNECTIONS = "CtiMaxConnectionReached", Warning,
        "As many providers are open as there may be: further ones are refused.",
        "max_cti_connections is reached; sessions in their grace count.",
        "Close providers that nobody needs, spread the applications over several nodes, or raise the limit.";
    /// One user's share of the providers.
    MAX_CONNECTIONS_OF_USER = "CtiMaxConnectionsOfUserReached", Warning,
        "A user has as many providers open as one may have: his further ones are refused, nobody else's.",
        "max_cti_connections_per_user is reached by the `user`; sessions in their grace count.",
        "Look for an application that opens providers and leaves them, or raise the limit.";
    /// A digest that is not right.
    SIP_AUTHENTICATION_FAILED = "SipAuthenticationFailed", Warning,
        "A phone's or trunk's password was wrong, or there is no such account.",
        "`reason` is wrong_password, unknown_account, or put_off: not looked at after too many of them.",
        "Correct the phone's password, or find who guesses from the `address`; a firewall may keep it out.";
    /// Too many wrong passwords.
    PASSWORD_GUESSING = "PasswordGuessing", Warning,
        "Passwords are not looked at for a while: too many were wrong.",
        "The failures a minute that the parameter `limit` allows were used up by the `address`, user or device.",
        "Find who guesses and keep the address out; correct what logs in with an old password.";
    /// More than somebody's share.
    SHARE_EXCEEDED = "ShareExceeded", Warning,
        "Somebody uses more than his share of a resource; what is beyond it is refused.",
        "The parameter `limit` sets the share of each; `refused` is how often it was refused.",
        "Find what sends so much. If it is honest, as many phones behind one address, raise the limit.";
    /// The bounds of connections that have no provider yet.
    MAX_UNOPENED = "CtiMaxUnopenedConnectionsReached", Warning,
        "Connections are closed at once: too many others have not opened a provider.",
        "max_unopened_connections is reached, or max_unopened_connections_per_address by the `address`.",
        "Find who connects without opening a provider; behind a common address, raise the limit.";
    /// A device is open.
    DEVICE_OPENED = "CtiDeviceOpened", Informational,
        "An application opened a device.", "device.open succeeded.", "None is needed.";
    /// A device could not be opened.
    DEVICE_OPEN_FAILURE = "CtiDeviceOpenFailure", Warning,
        "An application could not open a device.",
        "It is unknown, restricted, not in the user's list, or open with other media; `reason` says which.",
        "`ctimanager explain DEVICE --user ID` says what would allow it.";
    /// A device is closed.
    DEVICE_CLOSED = "CtiDeviceClosed", Informational,
        "An application closed a device.", "device.close, or the end of the provider.", "None is needed.";
    /// Soft limit.
    MAX_DEVICES_PER_PROVIDER = "MaxDevicesPerProviderExceeded", Warning,
        "A provider has more devices open than it should.",
        "max_devices_per_provider is passed; the open succeeded all the same.",
        "Spread the devices over several providers, or raise the limit.";
    /// Soft limit.
    MAX_DEVICES_PER_NODE = "MaxDevicesPerNodeExceeded", Warning,
        "This node has more devices open than it should.",
        "max_devices_per_node is passed; the open succeeded all the same.",
        "Spread the applications over several nodes, or raise the limit.";
    /// Overload.
    CALL_ADMISSION = "CallAdmissionRefused", Warning,
        "New calls are refused with 503.", "The node is further behind its work than it may be.",
        "Spread the calls over several nodes, or look for what else uses this machine.";
    /// A trunk has its share.
    TRUNK_CALL_LIMIT = "TrunkCallLimitReached", Warning,
        "Calls of a trunk are refused: it has as many as it may have, or more began in a second than may.",
        "max_calls or max_calls_per_second of the trunk; `rule` says which was met first.",
        "Find who calls (`ctimanager calls`); raise the limit where the trunk is meant to carry more.";
    /// Media must be encrypted and can't be.
    SECURE_MEDIA_REFUSED = "SecureMediaRefused", Warning,
        "A call of a device or trunk whose media must be encrypted was refused.",
        "media_encryption is `required`; `reason` says what was in the way: transport, no_crypto or peer_not_secure.",
        "Let the device register over TLS and encrypt (SDES), or its peer; or set media_encryption to `optional`.";
    /// Sessions of an earlier life go on.
    SESSIONS_RESTORED = "SessionsRestored", Informational,
        "The sessions of the node's earlier life are held for their applications.",
        "The node was started with persist_sessions.", "None is needed.";
    /// Sessions don't outlive the process now.
    SESSION_STORE_SUSPENDED = "SessionStoreSuspended", Error,
        "Sessions are not kept: if the node ended now, its applications would have to start new ones.",
        "The file sessions.redb in the state directory can't be written, or not in time; `reason` says why.",
        "Free space on the disk, or repair what `reason` names. The node tries again by itself.";
    /// The file of the sessions is no use.
    SESSION_STORE_UNREADABLE = "SessionStoreUnreadable", Warning,
        "The sessions of the node's earlier life can't be read: their applications start new ones.",
        "The file sessions.redb in the state directory is damaged or not the node's; `reason` says what is wrong.",
        "None is needed; the file was set aside as sessions.redb.unreadable. Look for faults of the disk.";
    /// Registrations don't outlive the process now.
    REGISTRATION_STORE_SUSPENDED = "RegistrationStoreSuspended", Error,
        "Registrations are not kept: if the node ended now, its phones would be out of service until they register again.",
        "The file registrations in the state directory can't be written; `reason` says why.",
        "Free space on the disk, or repair what `reason` names. The node tries again by itself.";
    /// The file of the registrations is no use.
    REGISTRATION_STORE_UNREADABLE = "RegistrationStoreUnreadable", Warning,
        "The registrations of the node's earlier life can't be read: phones are in service when they register again.",
        "The file registrations in the state directory is damaged or not the node's; `reason` says what is wrong.",
        "None is needed; the file was set aside as registrations.unreadable. Look for faults of the disk.";
    /// A link to another node.
    SDL_LINK_OUT_OF_SERVICE = "SDLLinkOOS", Error,
        "This node and another one don't hear each other.",
        "The `node` is down, or the network between carries nothing, or one direction alone.",
        "`ctimanager nodes` here and elsewhere tells a dead node from a cut: look at the process or at the network.";
    /// Another node.
    SERVER_DOWN = "ServerDown", Critical,
        "A node of the cluster is down: nobody hears it.",
        "Its process or machine has ended or stands still, or it is cut off from all that this node hears.",
        "Start the node again, or look at its machine and at the network.";
    /// Two processes of one node.
    DUPLICATE_NODE = "DuplicateNode", Critical,
        "Two processes of one `node` were up at the same time: one of them ends by itself.",
        "The node was started again while it ran, or it stood still, was replaced, and goes on.",
        "Look who starts the node where it doesn't belong.";
    /// A stranger at the cluster port.
    CLUSTER_PEER_REFUSED = "ClusterPeerRefused", Warning,
        "Who would be a node of this cluster was refused in the handshake.",
        "`reason` says why: its certificate is another authority's, or names no node of the file or none of its hosts.",
        "Give the node its certificate (`ctimanager pki init`), or find who connects from the `address`.";
    /// A configuration took effect.
    CONFIGURATION_LOADED = "ConfigurationLoaded", Informational,
        "A configuration took effect.", "The node started, or was told to reload.", "None is needed.";
}

/// Occurrences and cleared conditions of each alarm that are remembered: a thousand of one push none of another out.
const REMEMBERED: usize = 32;

/// Conditions that may stand at once; a further one is reported but not kept.
const STANDING: usize = 4096;

#[derive(Clone, Debug)]
struct Alarm {
    name: &'static str,
    at: Option<SystemTime>,
    state: &'static str,
    parameters: Vec<(&'static str, String)>,
}

/// Changes of one condition that are told within a minute. Later ones wait, so that one that toggles is no work for those
/// who are told.
const CHANGES_A_MINUTE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// Conditions whose changes are counted.
const PACES: usize = 4096;

/// A change of a condition, as it is to be told.
#[derive(Debug)]
pub struct Telling {
    /// For the log and the counters.
    pub report: Report,
    /// For those whom it concerns.
    pub alarm: protocol::event::Alarm,
    /// Who they are.
    pub concerned: Vec<SessionId>,
}

/// How often a condition was told, and how it is to be told when it may be again.
#[derive(Debug)]
struct Pace {
    told: VecDeque<Instant>,
    late: Option<Late>,
}

struct Late {
    at: Instant,
    definition: &'static Definition,
    state: AlarmState,
    parameters: Vec<(&'static str, String)>,
    concerned: Vec<SessionId>,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late")
            .field("name", &self.definition.name)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Pace {
    /// Takes one change, or says when there is room for one.
    fn may_tell(&mut self, now: Instant) -> Result<(), Instant> {
        while self.told.front().is_some_and(|first| *first + MINUTE <= now) {
            self.told.pop_front();
        }
        match self.told.front() {
            Some(first) if self.told.len() >= CHANGES_A_MINUTE => Err(*first + MINUTE),
            Some(_) | None => {
                self.told.push_back(now);
                Ok(())
            }
        }
    }

    fn is_fast(&self, now: Instant) -> bool {
        self.told.back().is_some_and(|last| *last + MINUTE > now)
    }
}

/// The alarms of a node.
#[derive(Debug, Default)]
pub struct Alarms {
    paces: BTreeMap<(&'static str, String), Pace>,
    /// Those that are told late, by when.
    late: BTreeSet<(Instant, (&'static str, String))>,
    standing: BTreeMap<(&'static str, String), Alarm>,
    /// The newest last, each with its number among all.
    newest: BTreeMap<&'static str, VecDeque<(u64, Alarm)>>,
    told: u64,
    /// The time of the step.
    time: Option<SystemTime>,
}

impl Alarms {
    /// When that is which is told from now on.
    pub fn set_time(&mut self, wall: SystemTime) {
        self.time = Some(wall);
    }

    /// Something happened that is over with its telling.
    pub fn occur(
        &mut self,
        definition: &'static Definition,
        parameters: Vec<(&'static str, String)>,
    ) -> Report {
        let (name, at) = (definition.name, self.time);
        self.remember(Alarm { name, at, state: "raised", parameters: parameters.clone() });
        definition.report(parameters)
    }

    /// A condition begins (or ends) for this key. `None` when it was so already, or when it changes so often that it is
    /// told later how it is then ([`Alarms::overdue`]).
    pub fn condition(
        &mut self,
        now: Instant,
        definition: &'static Definition,
        key: String,
        state: AlarmState,
        parameters: Vec<(&'static str, String)>,
        concerned: Vec<SessionId>,
    ) -> Option<Telling> {
        let key = (definition.name, key);
        let same = state == AlarmState::when(self.standing.contains_key(&key));
        let Some(pace) = self.paces.get_mut(&key) else {
            if same {
                return None;
            }
            self.forget_paces(now);
            self.paces.insert(key.clone(), Pace { told: VecDeque::from([now]), late: None });
            return Some(self.tell(definition, key, state, parameters, concerned));
        };
        if let Some(late) = pace.late.take() {
            self.late.remove(&(late.at, key.clone()));
        }
        if same {
            return None;
        }
        match pace.may_tell(now) {
            Ok(()) => Some(self.tell(definition, key, state, parameters, concerned)),
            Err(at) => {
                pace.late = Some(Late { at, definition, state, parameters, concerned });
                self.late.insert((at, key));
                None
            }
        }
    }

    fn tell(
        &mut self,
        definition: &'static Definition,
        key: (&'static str, String),
        state: AlarmState,
        mut parameters: Vec<(&'static str, String)>,
        concerned: Vec<SessionId>,
    ) -> Telling {
        let (word, severity) = match state {
            AlarmState::Raised => ("raised", definition.severity),
            AlarmState::Cleared => ("cleared", Severity::Informational),
        };
        let alarm =
            Alarm { name: definition.name, at: self.time, state: word, parameters: parameters.clone() };
        match state {
            AlarmState::Raised if self.standing.len() < STANDING => drop(self.standing.insert(key, alarm)),
            AlarmState::Raised => {}
            AlarmState::Cleared => {
                self.standing.remove(&key);
                self.remember(alarm);
            }
        }
        let alarm = event(definition, state, &parameters);
        parameters.push(("state", word.to_owned()));
        Telling { report: Report { name: definition.name, severity, parameters }, alarm, concerned }
    }

    /// When [`Alarms::overdue`] has something to tell.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.late.first().map(|(at, _)| *at)
    }

    /// The next condition that could not be told at once, as it is now.
    pub fn overdue(&mut self, now: Instant) -> Option<Telling> {
        let (_, key) = self.late.first().filter(|(at, _)| *at <= now).cloned()?;
        self.late.pop_first();
        let pace = self.paces.get_mut(&key)?;
        let Late { definition, state, parameters, concerned, at: _ } = pace.late.take()?;
        pace.told.push_back(now);
        Some(self.tell(definition, key, state, parameters, concerned))
    }

    /// Conditions that have been quiet need not be known: they have their whole pace again.
    fn forget_paces(&mut self, now: Instant) {
        if self.paces.len() >= PACES {
            self.paces.retain(|_, pace| pace.late.is_some() || pace.is_fast(now));
        }
        while self.paces.len() >= PACES {
            if let Some((key, pace)) = self.paces.pop_first()
                && let Some(late) = pace.late
            {
                self.late.remove(&(late.at, key));
            }
        }
    }

    /// The conditions that stand, then the newest others, as the protocol's `alarm` objects.
    #[must_use]
    pub fn list(&self) -> Vec<Value> {
        let mut newest: Vec<&(u64, Alarm)> = self.newest.values().flatten().collect();
        newest.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        self.standing.values().chain(newest.into_iter().map(|(_, alarm)| alarm)).map(view).collect()
    }

    /// Whether a condition of this alarm stands, for whichever key.
    #[must_use]
    pub fn any(&self, definition: &'static Definition) -> bool {
        let first = self.standing.range((definition.name, String::new())..).next();
        first.is_some_and(|((name, _), _)| *name == definition.name)
    }

    /// How many conditions stand.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.standing.len()
    }

    /// How many conditions of each alarm stand; those without are left out.
    #[must_use]
    pub fn standing_by_name(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (name, _) in self.standing.keys() {
            *counts.entry(*name).or_default() += 1;
        }
        counts
    }

    fn remember(&mut self, alarm: Alarm) {
        self.told += 1;
        let newest = self.newest.entry(alarm.name).or_default();
        if newest.len() == REMEMBERED {
            newest.pop_front();
        }
        newest.push_back((self.told, alarm));
    }
}

/// Every alarm that there is.
pub static ALL: [&Definition; 36] = [
    &PROVIDER_OPENED,
    &PROVIDER_OPEN_FAILURE,
    &PROVIDER_CLOSED,
    &PROVIDER_HEARTBEAT_TIMEOUT,
    &CONNECTION_DROPPED,
    &SLOW_CONSUMER,
    &MESSAGE_TOO_LONG,
    &PEER_CERTIFICATE_EXPIRES_SOON,
    &PROVIDER_PEER_CERTIFICATE_EXPIRED,
    &PROVIDER_CERTIFICATE_REVOKED,
    &SIP_CERTIFICATE_REVOKED,
    &CREDENTIAL_CHANGED,
    &CERTIFICATE_EXPIRES_SOON,
    &CERTIFICATE_EXPIRED,
    &MAX_CONNECTIONS,
    &MAX_CONNECTIONS_OF_USER,
    &MAX_UNOPENED,
    &SIP_AUTHENTICATION_FAILED,
    &PASSWORD_GUESSING,
    &SHARE_EXCEEDED,
    &DEVICE_OPENED,
    &DEVICE_OPEN_FAILURE,
    &DEVICE_CLOSED,
    &MAX_DEVICES_PER_PROVIDER,
    &MAX_DEVICES_PER_NODE,
    &CALL_ADMISSION,
    &TRUNK_CALL_LIMIT,
    &SECURE_MEDIA_REFUSED,
    &SESSIONS_RESTORED,
    &SESSION_STORE_SUSPENDED,
    &SESSION_STORE_UNREADABLE,
    &SDL_LINK_OUT_OF_SERVICE,
    &SERVER_DOWN,
    &DUPLICATE_NODE,
    &CLUSTER_PEER_REFUSED,
    &CONFIGURATION_LOADED,
];

/// Its place among [`ALL`].
#[must_use]
pub fn index(name: &str) -> Option<usize> {
    ALL.iter().position(|d| d.name == name)
}

/// The definition of a name.
#[must_use]
pub fn definition(name: &str) -> Option<&'static Definition> {
    index(name).map(|index| ALL[index])
}

/// How the protocol names a severity.
#[must_use]
pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Informational => "informational",
        Severity::Debug => "debug",
    }
}

/// A condition as the sessions that it concerns are told of it.
#[must_use]
pub fn event(
    definition: &Definition,
    state: AlarmState,
    parameters: &[(&'static str, String)],
) -> protocol::event::Alarm {
    protocol::event::Alarm {
        name: definition.name.into(),
        severity: severity_name(definition.severity).into(),
        state,
        text: definition.text.into(),
        cause: definition.cause.into(),
        cure: definition.cure.into(),
        parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}

fn view(alarm: &Alarm) -> Value {
    let parameters: BTreeMap<_, _> = alarm.parameters.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let known = definition(alarm.name);
    json!({
        "name": alarm.name,
        "severity": known.map_or("informational", |d| severity_name(d.severity)),
        "state": alarm.state,
        "time": alarm.at.map(protocol::event::rfc3339),
        "text": known.map_or("", |d| d.text),
        "cause": known.map_or("", |d| d.cause),
        "cure": known.map_or("", |d| d.cure),
        "parameters": parameters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_told_once_each_way_and_listed_while_it_stands() {
        let mut alarms = Alarms::default();
        let raise = |alarms: &mut Alarms, on| {
            let parameters = vec![("open", "801".into())];
            let told = alarms.condition(
                start(),
                &MAX_DEVICES_PER_NODE,
                String::new(),
                AlarmState::when(on),
                parameters,
                Vec::new(),
            );
            told.map(|told| told.report)
        };
        assert!(raise(&mut alarms, false).is_none());
        alarms.set_time(SystemTime::UNIX_EPOCH);
        assert_eq!(raise(&mut alarms, true).expect("raised").severity, Severity::Warning);
        assert!(raise(&mut alarms, true).is_none());
        assert_eq!(alarms.list()[0]["state"], "raised");
        alarms.set_time(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60));
        assert_eq!(alarms.list()[0]["time"], "1970-01-01T00:00:00.000Z", "when it was raised");
        assert_eq!(alarms.standing_by_name(), BTreeMap::from([("MaxDevicesPerNodeExceeded", 1)]));
        assert_eq!(raise(&mut alarms, false).expect("cleared").severity, Severity::Informational);
        assert_eq!(alarms.standing(), 0);
        assert_eq!(alarms.list()[0]["state"], "cleared");
        assert_eq!(alarms.list()[0]["time"], "1970-01-01T00:01:00.000Z");
    }

    /// Tests need some instant to count from; which one makes no difference.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_condition_that_toggles_is_told_six_times_a_minute_and_then_as_it_is() {
        let (mut alarms, begin) = (Alarms::default(), start());
        let set = |alarms: &mut Alarms, at: Instant, on| {
            alarms
                .condition(
                    at,
                    &MAX_DEVICES_PER_NODE,
                    String::new(),
                    AlarmState::when(on),
                    Vec::new(),
                    Vec::new(),
                )
                .is_some()
        };
        let ms = Duration::from_millis(1);
        let told = (0..1_000).filter(|n| set(&mut alarms, begin + *n * ms, n % 2 == 0)).count();
        assert_eq!(told, 6);
        assert!(alarms.standing() == 0 && alarms.next_timeout().is_none(), "it ended as it was told last");
        assert!(!set(&mut alarms, begin + 1_000 * ms, true));
        let due = alarms.next_timeout().expect("told later");
        assert_eq!(due, begin + MINUTE);
        assert!(alarms.overdue(due - ms).is_none());
        let late = alarms.overdue(due).expect("told now");
        assert!(late.report.parameters.contains(&("state", "raised".to_owned())));
        assert_eq!((alarms.standing(), alarms.next_timeout()), (1, None));
        // Another key has its own pace.
        let other = alarms.condition(
            due,
            &MAX_DEVICES_PER_NODE,
            "x".into(),
            AlarmState::Raised,
            Vec::new(),
            Vec::new(),
        );
        assert!(other.is_some());
    }

    #[test]
    fn the_paces_of_millions_of_conditions_are_bounded() {
        let (mut alarms, begin) = (Alarms::default(), start());
        for n in 0..3 * PACES {
            alarms.condition(begin, &MAX_UNOPENED, n.to_string(), AlarmState::Raised, Vec::new(), Vec::new());
        }
        assert!(alarms.paces.len() <= PACES && alarms.late.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut alarms = Alarms::default();
        alarms.occur(&DEVICE_OPENED, Vec::new());
        for n in 0..2 * REMEMBERED {
            alarms.occur(&PROVIDER_OPENED, vec![("n", n.to_string())]);
        }
        alarms.occur(&DEVICE_CLOSED, Vec::new());
        let list = alarms.list();
        let names: Vec<&str> = list.iter().filter_map(|alarm| alarm["name"].as_str()).collect();
        assert_eq!(names[..2], ["CtiDeviceClosed", "CtiProviderOpened"], "the newest first");
        assert_eq!(list[1]["parameters"]["n"], (2 * REMEMBERED - 1).to_string());
        assert_eq!(list[REMEMBERED]["parameters"]["n"], REMEMBERED.to_string());
        assert_eq!(names[REMEMBERED + 1..], ["CtiDeviceOpened"], "many of one push none of another out");
    }

    #[test]
    fn conditions_beyond_the_limit_are_told_and_not_listed() {
        let mut alarms = Alarms::default();
        let now = start();
        let mut raise = |key: usize| {
            alarms.condition(now, &SLOW_CONSUMER, key.to_string(), AlarmState::Raised, Vec::new(), Vec::new())
        };
        assert!((0..=STANDING).all(|key| raise(key).is_some()));
        assert_eq!((alarms.standing(), alarms.list().len()), (STANDING, STANDING));
    }

    #[test]
    fn every_alarm_has_a_cause_and_a_cure_and_is_in_the_document() {
        let document = include_str!("../../../docs/operations.md");
        for definition in ALL {
            assert!(!definition.cause.is_empty() && !definition.cure.is_empty());
            let row = format!("| `{}` | {} |", definition.name, severity_name(definition.severity));
            assert!(document.contains(&row), "docs/operations.md lacks: {row}");
        }
    }
}
