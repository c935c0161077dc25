//! Service parameters: one table of names, defaults and ranges, from which the reader and the JSON Schema are made.

use super::fields::At;
use super::mistake::Report;
use super::units;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration in the table below.
const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a device's or the cluster's longest registration may be.
pub(super) const REGISTRATION_EXPIRY: RangeInclusive<Duration> = s(60)..=s(86_400);

macro_rules! service_parameters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $kind:ident ($default:expr $(, $range:expr)?);)*) => {
        /// The cluster-wide service parameters (defaults and ranges: docs/configuration.md).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct ServiceParameters {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for ServiceParameters {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl ServiceParameters {
            /// The keys.
            pub(super) const KEYS: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Reads what is written; what is left out or wrong keeps its default.
            pub(super) fn read(at: &At<'_>, report: &mut Report) -> Self {
                let mut read = Self::default();
                let Some(fields) = at.fields(Self::KEYS, report) else { return read };
                $(if let Some(at) = fields.get(stringify!($name))
                    && let Some(value) = <$kind>::read(&at, $kind::range($($range)?), report) {
                    read.$name = value;
                })*
                read
            }

            /// JSON Schema of a parameter.
            pub(super) fn schema(key: &str) -> Value {
                $(if key == stringify!($name) {
                    let mut doc = String::new();
                    $(doc.push_str(doc_text(stringify!($doc)));)*
                    let mut schema = <$kind>::schema(&$default, $kind::range($($range)?));
                    schema["description"] = json!(doc);
                    return schema;
                })*
                json!({})
            }
        }
    };
}

service_parameters! {
    /// Soft limit of devices that one provider has open: an alarm, and the open succeeds.
    max_devices_per_provider: u32 = Count(2_000, 1..=1_000_000);
    /// Soft limit of devices open on a node.
    max_devices_per_node: u32 = Count(800, 1..=1_000_000);
    /// Hard limit of sessions of a node, those in their grace included.
    max_cti_connections: u32 = Count(2_500, 1..=100_000);
    /// The same of one user, so that one can't take all places.
    max_cti_connections_per_user: u32 = Count(1_000, 1..=100_000);
    /// The shortest heartbeat interval that an application may wish for.
    application_heartbeat_minimum_interval: Duration = Time(s(5), s(1)..=s(3_600));
    /// The longest heartbeat interval that an application may wish for.
    application_heartbeat_maximum_interval: Duration = Time(s(3_600), s(1)..=s(3_600));
    /// How long a call at a route point waits for an application to accept it.
    cti_new_call_accept_timer: Duration = Time(s(4), s(1)..=s(60));
    /// How long a call waits for an application to name its media address.
    media_exchange_timer: Duration = Time(s(12), s(1)..=s(60));
    /// How long a call rings before it is forwarded.
    forward_no_answer_timer: Duration = Time(s(12), s(1)..=s(300));
    /// How long a call stays parked before it returns.
    park_reversion_timer: Duration = Time(s(60), s(5)..=s(3_600));
    /// How long a lost session waits for its application without the application's wish.
    session_resume_grace: Duration = Time(s(0), s(0)..=s(600));
    /// The longest grace that an application may wish for.
    session_resume_grace_maximum: Duration = Time(s(30), s(0)..=s(600));
    /// Events that a session's log holds at most.
    session_log_events: u32 = Count(10_000, 100..=1_000_000);
    /// Bytes that a session's log holds at most.
    session_log_bytes: u64 = Size(16 << 20, 64 << 10..=1 << 30);
    /// Events that wait for a slow reader at most.
    session_queue_events: u32 = Count(4_096, 16..=1_000_000);
    /// Whether session logs live in the state directory and outlive the process.
    persist_sessions: bool = Flag(false);
    /// Answers that a session keeps for repeats of their `idem`.
    session_idem_keys: u32 = Count(1_024, 1_024..=1_000_000);
    /// Requests of a session that may wait for their answers at once.
    session_pending_requests: u32 = Count(1_024, 1..=100_000);
    /// Bytes of an application's line or WebSocket message, of connections that are made from then on.
    max_line_bytes: u64 = Size(1 << 20, 16 << 10..=1 << 20);
    /// Globs in a session's `subscribe`.
    session_subscriptions: u32 = Count(64, 1..=1_024);
    /// Requests a second of one session; the burst is the same.
    max_requests_per_second: u32 = Count(500, 1..=1_000_000);
    /// Requests a second of all sessions of a user together; no less than those of one session.
    max_requests_per_second_per_user: u32 = Count(10_000, 1..=10_000_000);
    /// Requests a second from one address, those before a provider is open among them; no less than those of one session.
    max_requests_per_second_per_address: u32 = Count(10_000, 1..=10_000_000);
    /// Failed logins a minute: of a user, from where he was not let in before, and of an address.
    max_login_failures_per_minute: u32 = Count(10, 1..=1_000_000);
    /// How long a session that logged in with a password which is no longer the user's is left to log in anew.
    credential_change_grace: Duration = Time(s(0), s(0)..=s(3_600));
    /// Wrong digests a minute: of a phone's account, from where it was not let in before, and of an address.
    max_digest_failures_per_minute: u32 = Count(10, 1..=1_000_000);
    /// Connections without an open provider at once.
    max_unopened_connections: u32 = Count(1_000, 1..=100_000);
    /// Those of one address, so that one can't take all places.
    max_unopened_connections_per_address: u32 = Count(500, 1..=100_000);
    /// New connections a second from one address, at each kind of listener (SIP, CTI, web); twenty times as many at once.
    max_new_connections_per_second_per_address: u32 = Count(50, 1..=1_000_000);
    /// Those from an address behind which a phone, trunk or application has proved itself; no less than those of another.
    max_new_connections_per_second_per_known_address: u32 = Count(500, 1..=1_000_000);
    /// Threads that verify passwords, at the lowest priority; each needs the memory of a hash while it works.
    password_threads: u32 = Count(1, 1..=16);
    /// Passwords that wait for them.
    max_waiting_passwords: u32 = Count(256, 1..=10_000);
    /// Those of one address.
    max_waiting_passwords_per_address: u32 = Count(64, 1..=10_000);
    /// Those for one user, from where he was not let in before.
    max_waiting_passwords_per_user: u32 = Count(64, 1..=10_000);
    /// Inputs that wait for the node, of phones and of all others each.
    input_queue: u32 = Count(4_096, 64..=1_000_000);
    /// The bytes of those among them that are longer than 8 KiB.
    input_queue_bytes: u64 = Size(32 << 20, 2 << 20..=4 << 30);
    /// Room in the system for datagrams that wait to be read, of each UDP socket of SIP; it grants `net.core.rmem_max`.
    sip_udp_buffer_bytes: u64 = Size(4 << 20, 64 << 10..=1 << 30);
    /// Legs (ends of calls) of a node at once.
    max_legs: u32 = Count(50_000, 2..=1_000_000);
    /// Whether what a trunk dials must not leave by a trunk again; a trunk may have its own.
    block_offnet_to_offnet: bool = Flag(true);
    /// Calls that begin at a line in a second, of each device; the burst is the same. A number may have its own.
    max_calls_per_second_per_line: u32 = Count(100, 1..=100_000);
    /// Calls that begin at a device in a second; the burst is the same. A device may have its own.
    max_calls_per_second_per_device: u32 = Count(200, 1..=100_000);
    /// Calls of a trunk at once, in and out. A trunk may have its own.
    max_calls_per_trunk: u32 = Count(10_000, 1..=1_000_000);
    /// New calls of a trunk in a second, in and out each; the burst is the same. A trunk may have its own.
    max_calls_per_second_per_trunk: u32 = Count(1_000, 1..=100_000);
    /// SIP transactions of a node at once.
    max_sip_transactions: u32 = Count(200_000, 100..=10_000_000);
    /// Bytes of SIP transactions that are kept for one address, trunks not counted.
    max_sip_bytes_per_address: u64 = Size(16 << 20, 64 << 10..=4 << 30);
    /// SIP messages a second from everywhere that has proved nothing; a long message counts more, one for each KiB.
    max_stranger_sip_messages_per_second: u32 = Count(5_000, 10..=10_000_000);
    /// Those from one address.
    max_stranger_sip_messages_per_second_per_address: u32 = Count(1_000, 10..=10_000_000);
    /// SIP messages a second from where a phone has proved its account, counted alike.
    max_sip_messages_per_second_per_phone: u32 = Count(500, 10..=10_000_000);
    /// SIP connections on which nobody has proved anything yet; each for 10 s at most.
    max_stranger_sip_connections: u32 = Count(2_000, 1..=1_000_000);
    /// Those of one address.
    max_stranger_sip_connections_per_address: u32 = Count(500, 1..=1_000_000);
    /// SIP connections (TCP, TLS) of a node at once.
    max_sip_connections: u32 = Count(20_000, 1..=1_000_000);
    /// Of these on which one phone's account has proved itself.
    max_sip_connections_per_phone: u32 = Count(32, 1..=1_000_000);
    /// Of these of one trunk.
    max_sip_connections_per_trunk: u32 = Count(10_000, 1..=1_000_000);
    /// Of these with one address (IPv6: a /64), of phones that have proved themselves and made by the node; trunks and
    /// listed proxies are not counted.
    max_sip_connections_per_address: u32 = Count(5_000, 1..=1_000_000);
    /// SIP connections that are just being made, their TLS handshakes included.
    max_sip_connecting: u32 = Count(1_000, 1..=100_000);
    /// Contacts that phones register for one number.
    max_contacts_per_number: u32 = Count(10, 1..=100);
    /// The longest registration, which a REGISTER that asks for none gets; a device may have its own.
    registration_expiry_maximum: Duration = Time(s(120), REGISTRATION_EXPIRY);
    /// Requests a second within the calls of a phone, or within one call of a trunk; the burst is the same.
    max_dialog_requests_per_second: u32 = Count(30, 1..=100_000);
    /// The longest session interval of a call's side: who says nothing for so long is asked, and let go.
    session_expires_maximum: Duration = Time(s(1_800), s(90)..=s(86_400));
    /// HTTP connections at once, not counting WebSockets.
    max_web_connections: u32 = Count(512, 1..=100_000);
    /// Those of one address; the next one takes the place of its oldest.
    max_web_connections_per_address: u32 = Count(64, 1..=100_000);
    /// How long a node may be silent before it counts as failed.
    node_failure_timeout: Duration = Time(s(1), Duration::from_millis(200)..=s(60));
}

/// A kind of parameter: how it is read and described.
trait Parameter {
    type Value;
    type Bound;
    fn read(at: &At<'_>, range: RangeInclusive<Self::Bound>, report: &mut Report) -> Option<Self::Value>;
    fn schema(default: &Self::Value, range: RangeInclusive<Self::Bound>) -> Value;
}

struct Count;
struct Time;
struct Size;
struct Flag;

impl Count {
    fn range(range: RangeInclusive<u64>) -> RangeInclusive<u64> {
        range
    }
}

impl Time {
    fn range(range: RangeInclusive<Duration>) -> RangeInclusive<Duration> {
        range
    }
}

impl Size {
    fn range(range: RangeInclusive<u64>) -> RangeInclusive<u64> {
        range
    }
}

impl Flag {
    fn range() -> RangeInclusive<bool> {
        false..=true
    }
}

impl Parameter for Count {
    type Value = u32;
    type Bound = u64;

    fn read(at: &At<'_>, range: RangeInclusive<u64>, report: &mut Report) -> Option<u32> {
        at.integer(range, report).and_then(|n| u32::try_from(n).ok())
    }

    fn schema(default: &u32, range: RangeInclusive<u64>) -> Value {
        json!({"type": "integer", "default": default, "minimum": range.start(), "maximum": range.end()})
    }
}

impl Parameter for Time {
    type Value = Duration;
    type Bound = Duration;

    fn read(at: &At<'_>, range: RangeInclusive<Duration>, report: &mut Report) -> Option<Duration> {
        at.duration(range, report)
    }

    fn schema(default: &Duration, _: RangeInclusive<Duration>) -> Value {
        json!({"$ref": "#/definitions/duration", "default": units::show_duration(*default)})
    }
}

impl Parameter for Size {
    type Value = u64;
    type Bound = u64;

    fn read(at: &At<'_>, range: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        at.size(range, report)
    }

    fn schema(default: &u64, _: RangeInclusive<u64>) -> Value {
        json!({"$ref": "#/definitions/size", "default": units::show_size(*default)})
    }
}

impl Parameter for Flag {
    type Value = bool;
    type Bound = bool;

    fn read(at: &At<'_>, _: RangeInclusive<bool>, report: &mut Report) -> Option<bool> {
        at.boolean(report)
    }

    fn schema(default: &bool, _: RangeInclusive<bool>) -> Value {
        json!({"type": "boolean", "default": default})
    }
}

/// The text of `doc = r" …"`, as the compiler writes a documentation comment.
fn doc_text(attribute: &str) -> &str {
    attribute.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or("", |(text, _)| text.trim())
}
