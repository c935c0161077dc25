//! What happened how often: a net that catches nothing may be an empty one.

use std::fmt;
use std::ops::AddAssign;

macro_rules! happenings {
    ($($name:ident: $text:literal,)*) => {
        /// Something that a run is there to see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the texts below say it")]
        pub enum Happening {
            $($name,)*
        }

        impl Happening {
            /// All of them.
            pub const ALL: &'static [Happening] = &[$(Happening::$name,)*];

            /// What it is.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Happening::$name => $text,)*
                }
            }
        }
    };
}

happenings! {
    CallUp: "call ends at phones that came up",
    Event: "events that applications read",
    Request: "requests that applications made",
    Cut: "connections cut at a random byte",
    Crash: "applications that crashed",
    Freeze: "applications that froze",
    Stall: "directions of a connection that stood still",
    SlowConsumer: "connections closed for a slow reader",
    HeartbeatTimeout: "connections closed for silence",
    Superseded: "connections taken over by a newer one",
    Resumed: "sessions resumed",
    Overrun: "resumes refused: log_overrun",
    Expired: "resumes refused: expired",
    Unknown: "resumes refused: unknown_session, after the node died",
    NodeDeath: "deaths of the node",
    Stop: "orderly stops of the node",
    Borrowed: "resumes refused: another user's session",
    Twins: "two applications lost at the same moment for the same time",
    Reliable: "provisionals acknowledged (100rel)",
    TrunkProved: "calls to the trunk that were challenged and came with the right user",
    Connected: "SIP connections of phones",
    Redirected: "calls that phones sent elsewhere (3xx)",
    Unplugged: "phones unplugged for seconds",
    PoweredOff: "phones without power until their registration ran out",
    Lapsed: "registrations given up or let run out",
    Race: "two people made to act at the same moment",
    CancelCrossed: "CANCELs that crossed a 200",
    ByeCrossed: "BYEs that crossed each other",
    Glare: "offers that crossed each other (491)",
    Reload: "reloads of the configuration",
    DeviceLost: "devices taken from an application by a reload",
    DeviceRestricted: "devices or lines restricted while open",
    Dismissed: "sessions closed because the user may no longer",
    LockedOut: "openings refused meanwhile",
    StandbyTookOver: "ports that a waiting application took over",
    LegStory: "legs of which several applications were told alike",
    DatagramLost: "datagrams lost",
    DatagramDoubled: "datagrams doubled",
    DatagramLate: "datagrams late",
    Flood: "neighbour: requests of somebody without a password",
    WrongDigest: "neighbour: guesses at phones' passwords",
    GiantVia: "neighbour: INVITEs with a giant Via",
    Elsewhere: "neighbour: requests in others' calls from elsewhere",
    Guess: "neighbour: guesses at applications' passwords",
    Idle: "neighbour: connections that only lie there",
    Greed: "neighbour: rounds of greedy requests",
    PutOff: "neighbour: its requests that were put off",
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally([u64; Happening::ALL.len()]);

impl Default for Tally {
    /// Nothing has happened.
    fn default() -> Self {
        Self([0; Happening::ALL.len()])
    }
}

impl Tally {
    /// How often it happened.
    #[must_use]
    pub fn of(&self, what: Happening) -> u64 {
        self.0[what as usize]
    }

    pub(super) fn add(&mut self, what: Happening) {
        self.0[what as usize] += 1;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = Happening::ALL.iter().map(|what| format!("{:>12} {}", self.of(*what), what.text()));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}
