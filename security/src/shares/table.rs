//! The table: which resource, who, how much, by which key, and what happens beyond it.

use super::Who;
use std::time::Duration;

/// What kind of somebody a row gives a share to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Strangers,
    Address,
    KnownAddress,
    Account,
    Device,
    Line,
    Trunk,
    User,
    Session,
}

impl Kind {
    /// As the documents and metrics say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Strangers => "strangers",
            Kind::Address => "address",
            Kind::KnownAddress => "known_address",
            Kind::Account => "account",
            Kind::Device => "device",
            Kind::Line => "line",
            Kind::Trunk => "trunk",
            Kind::User => "user",
            Kind::Session => "session",
        }
    }
}

/// One row.
#[derive(Debug)]
pub struct Row {
    /// The resource, as metrics and log lines name it.
    pub name: &'static str,
    /// Who has a share.
    pub who: Kind,
    /// The service parameter that sets it; `fixed` for none.
    pub key: &'static str,
    /// Its default.
    pub default: u64,
}

macro_rules! rows {
    ($(#[$meta:meta])* $set:ident { $($(#[$doc:meta])* $row:ident = $name:literal, $who:ident, $key:literal, $default:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $set { $($(#[$doc])* $row,)* }

        impl $set {
            /// All of them, in their order.
            pub const ALL: &'static [$set] = &[$($set::$row,)*];

            /// What the table says of it.
            #[must_use]
            pub fn row(self) -> &'static Row {
                const ROWS: &[Row] =
                    &[$(Row { name: $name, who: Kind::$who, key: $key, default: $default },)*];
                &ROWS[self as usize]
            }
        }
    };
}

rows! {
    /// What is used up, so much a second; the burst is that of [`burst`](super::table::Rate::burst).
    Rate {
        /// SIP messages from everywhere that has proved nothing, in [`sip_price`](super::table::Rate::sip_price).
        SipOfStrangers = "sip_messages", Strangers, "max_stranger_sip_messages_per_second", 5_000;
        /// Those of one address.
        SipOfAddress = "sip_messages", Address, "max_stranger_sip_messages_per_second_per_address", 1_000;
        /// SIP messages from where a phone has proved its account.
        SipOfDevice = "sip_messages", Device, "max_sip_messages_per_second_per_phone", 500;
        /// Requests of a session of the CTI side.
        RequestsOfSession = "cti_requests", Session, "max_requests_per_second", 500;
        /// Those of all sessions of a user.
        RequestsOfUser = "cti_requests", User, "max_requests_per_second_per_user", 10_000;
        /// Those from one address, before a provider is open, too.
        RequestsOfAddress = "cti_requests", Address, "max_requests_per_second_per_address", 10_000;
        /// New connections over TCP and TLS at SIP's listeners, from an address that is no [`KnownAddress`](Kind::KnownAddress).
        NewSipConnectionsOfAddress = "new_sip_connections", Address, "max_new_connections_per_second_per_address", 50;
        /// Those from an address behind which somebody has proved himself.
        NewSipConnectionsOfKnown = "new_sip_connections", KnownAddress, "max_new_connections_per_second_per_known_address", 500;
        /// The same at applications' listeners.
        NewCtiConnectionsOfAddress = "new_cti_connections", Address, "max_new_connections_per_second_per_address", 50;
        /// The same of the known.
        NewCtiConnectionsOfKnown = "new_cti_connections", KnownAddress, "max_new_connections_per_second_per_known_address", 500;
        /// The same at the web port.
        NewWebConnectionsOfAddress = "new_web_connections", Address, "max_new_connections_per_second_per_address", 50;
        /// The same of the known.
        NewWebConnectionsOfKnown = "new_web_connections", KnownAddress, "max_new_connections_per_second_per_known_address", 500;
    }
}

rows! {
    /// What is held until it is given back.
    Place {
        /// SIP connections on which nobody has proved anything yet.
        SipConnectionsOfStrangers = "sip_connections", Strangers, "max_stranger_sip_connections", 2_000;
        /// Those of one address.
        SipConnectionsOfAddress = "sip_connections", Address, "max_stranger_sip_connections_per_address", 500;
        /// SIP connections on which a phone's account was proved.
        SipConnectionsOfDevice = "proved_sip_connections", Device, "max_sip_connections_per_phone", 32;
        /// Those of a trunk.
        SipConnectionsOfTrunk = "proved_sip_connections", Trunk, "max_sip_connections_per_trunk", 10_000;
        /// SIP connections from one address on which phones' accounts were proved, and to it that we have made; those of trunks
        /// and listed proxies are not counted.
        ProvedSipConnectionsOfAddress = "proved_sip_connections", Address, "max_sip_connections_per_address", 5_000;
        /// Passwords of one address that wait to be verified.
        PasswordsOfAddress = "waiting_passwords", Address, "max_waiting_passwords_per_address", 64;
        /// Passwords for one user that wait to be verified.
        PasswordsOfUser = "waiting_passwords", User, "max_waiting_passwords_per_user", 64;
    }
}

rows! {
    /// Where passwords are asked for: failures a minute, of a name and of an address.
    Door {
        /// Phones and trunks: SIP digest.
        Sip = "sip_passwords", Account, "max_digest_failures_per_minute", 10;
        /// Applications: `provider.open`.
        Cti = "cti_passwords", User, "max_login_failures_per_minute", 10;
    }
}

rows! {
    /// What is bounded where it is kept: in rooms that know nothing of this table, or with an alarm of its own. Its refusals
    /// are counted here, and told by [`Shares::note`](super::Shares::note) where nothing else tells of them.
    Bound {
        /// Connections without a provider.
        ConnectionsOfAll = "cti_connections", Strangers, "max_unopened_connections", 1_000;
        /// Those of one address.
        ConnectionsOfAddress = "cti_connections", Address, "max_unopened_connections_per_address", 500;
        /// Sessions of one user.
        SessionsOfUser = "cti_sessions", User, "max_cti_connections_per_user", 1_000;
        /// HTTP connections.
        WebOfAll = "web_connections", Strangers, "max_web_connections", 512;
        /// Those of one address.
        WebOfAddress = "web_connections", Address, "max_web_connections_per_address", 64;
        /// What SIP transactions keep for one address.
        SipBytesOfAddress = "sip_bytes", Address, "max_sip_bytes_per_address", 16 << 20;
        /// Requests within all calls of a phone.
        DialogRequestsOfDevice = "sip_dialog_requests", Device, "max_dialog_requests_per_second", 30;
        /// Requests within one call of a trunk.
        DialogRequestsOfTrunk = "sip_dialog_requests", Trunk, "max_dialog_requests_per_second", 30;
        /// Calls that begin at a line of a device.
        NewCallsOfLine = "new_calls", Line, "max_calls_per_second_per_line", 100;
        /// Those of a device.
        NewCallsOfDevice = "new_calls", Device, "max_calls_per_second_per_device", 200;
        /// Those of a trunk, in and out each.
        NewCallsOfTrunk = "new_calls", Trunk, "max_calls_per_second_per_trunk", 1_000;
        /// Calls of a trunk at once.
        CallsOfTrunk = "calls", Trunk, "max_calls_per_trunk", 10_000;
    }
}

/// The kinds of listeners that take connections; each has shares of its own of an address' new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Listener {
    Sip,
    Cti,
    Web,
}

impl Listener {
    /// The rows of its new connections: from an address that nobody is known to be behind, and from another.
    #[must_use]
    pub fn rates(self) -> (Rate, Rate) {
        match self {
            Listener::Sip => (Rate::NewSipConnectionsOfAddress, Rate::NewSipConnectionsOfKnown),
            Listener::Cti => (Rate::NewCtiConnectionsOfAddress, Rate::NewCtiConnectionsOfKnown),
            Listener::Web => (Rate::NewWebConnectionsOfAddress, Rate::NewWebConnectionsOfKnown),
        }
    }
}

impl Rate {
    /// How many seconds' worth may be used up at once. All phones and applications behind an address come back together.
    #[must_use]
    pub fn burst(self) -> Duration {
        Duration::from_secs(match self {
            Rate::NewSipConnectionsOfAddress
            | Rate::NewSipConnectionsOfKnown
            | Rate::NewCtiConnectionsOfAddress
            | Rate::NewCtiConnectionsOfKnown
            | Rate::NewWebConnectionsOfAddress
            | Rate::NewWebConnectionsOfKnown => 20,
            Rate::SipOfStrangers | Rate::SipOfAddress | Rate::SipOfDevice => 1,
            Rate::RequestsOfSession | Rate::RequestsOfUser | Rate::RequestsOfAddress => 1,
        })
    }

    /// What a SIP message of so many bytes costs: one, and one more for each KiB, since its parts are read and kept.
    #[must_use]
    pub fn sip_price(bytes: usize) -> u64 {
        1 + u64::try_from(bytes / 1024).unwrap_or(u64::MAX - 1)
    }
}

impl Door {
    /// The name as somebody with a share.
    #[must_use]
    pub fn who(self, name: &str) -> Who {
        match self {
            Door::Sip => Who::Account(name.into()),
            Door::Cti => Who::User(name.into()),
        }
    }
}

/// Any row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Share {
    Rate(Rate),
    Place(Place),
    Door(Door),
    Bound(Bound),
}

impl Share {
    /// Every row of the table.
    pub fn all() -> impl Iterator<Item = Share> {
        let rates = Rate::ALL.iter().copied().map(Share::Rate);
        let places = Place::ALL.iter().copied().map(Share::Place);
        let doors = Door::ALL.iter().copied().map(Share::Door);
        rates.chain(places).chain(doors).chain(Bound::ALL.iter().copied().map(Share::Bound))
    }

    /// What the table says of it.
    #[must_use]
    pub fn row(self) -> &'static Row {
        match self {
            Share::Rate(rate) => rate.row(),
            Share::Place(place) => place.row(),
            Share::Door(door) => door.row(),
            Share::Bound(bound) => bound.row(),
        }
    }

    /// Its place among [`Share::all`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Share::Rate(rate) => rate as usize,
            Share::Place(place) => Rate::ALL.len() + place as usize,
            Share::Door(door) => Rate::ALL.len() + Place::ALL.len() + door as usize,
            Share::Bound(bound) => Rate::ALL.len() + Place::ALL.len() + Door::ALL.len() + bound as usize,
        }
    }
}
