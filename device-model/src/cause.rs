//! Causes: ITU-T Q.850 numbers and names (reference §1.9).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a call or leg ended or failed: an ITU-T Q.850 cause value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Cause(u16);

macro_rules! causes {
    ($($(#[$doc:meta])* $const:ident = $code:literal, $name:literal;)*) => {
        impl Cause {
            $($(#[$doc])* pub const $const: Cause = Cause($code);)*

            /// The name on the wire (`user_busy`); `cause_N` for a number without one.
            #[must_use]
            pub fn name(self) -> std::borrow::Cow<'static, str> {
                match self.0 {
                    $($code => $name.into(),)*
                    other => format!("cause_{other}").into(),
                }
            }

            /// The cause of a name that [`Cause::name`] gave.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Cause> {
                match name {
                    $($name => Some(Cause($code)),)*
                    _ => name.strip_prefix("cause_").and_then(|n| n.parse().ok()).and_then(Cause::from_code),
                }
            }
        }
    };
}

causes! {
    /// 1
    UNALLOCATED_NUMBER = 1, "unallocated_number";
    /// 2
    NO_ROUTE_TO_TRANSIT_NETWORK = 2, "no_route_to_transit_network";
    /// 3
    NO_ROUTE_TO_DESTINATION = 3, "no_route_to_destination";
    /// 16
    NORMAL_CLEARING = 16, "normal_call_clearing";
    /// 17
    USER_BUSY = 17, "user_busy";
    /// 18
    NO_USER_RESPONDING = 18, "no_user_responding";
    /// 19
    NO_ANSWER = 19, "no_answer";
    /// 20
    SUBSCRIBER_ABSENT = 20, "subscriber_absent";
    /// 21
    CALL_REJECTED = 21, "call_rejected";
    /// 22
    NUMBER_CHANGED = 22, "number_changed";
    /// 25
    EXCHANGE_ROUTING_ERROR = 25, "exchange_routing_error";
    /// 26
    NON_SELECTED_USER_CLEARING = 26, "non_selected_user_clearing";
    /// 27
    DESTINATION_OUT_OF_ORDER = 27, "destination_out_of_order";
    /// 28
    INVALID_NUMBER_FORMAT = 28, "invalid_number_format";
    /// 29
    FACILITY_REJECTED = 29, "facility_rejected";
    /// 31
    NORMAL_UNSPECIFIED = 31, "normal_unspecified";
    /// 34
    NO_CIRCUIT_AVAILABLE = 34, "no_circuit_available";
    /// 38
    NETWORK_OUT_OF_ORDER = 38, "network_out_of_order";
    /// 41
    TEMPORARY_FAILURE = 41, "temporary_failure";
    /// 42
    SWITCHING_CONGESTION = 42, "switching_equipment_congestion";
    /// 47
    RESOURCE_UNAVAILABLE = 47, "resource_unavailable";
    /// 55
    INCOMING_CALLS_BARRED = 55, "incoming_calls_barred";
    /// 57
    BEARER_NOT_AUTHORIZED = 57, "bearer_capability_not_authorized";
    /// 58
    BEARER_NOT_AVAILABLE = 58, "bearer_capability_not_available";
    /// 63
    SERVICE_UNAVAILABLE = 63, "service_or_option_unavailable";
    /// 65
    BEARER_NOT_IMPLEMENTED = 65, "bearer_capability_not_implemented";
    /// 70
    RESTRICTED_DIGITAL_ONLY = 70, "only_restricted_digital_available";
    /// 79
    SERVICE_NOT_IMPLEMENTED = 79, "service_not_implemented";
    /// 87
    NOT_A_MEMBER_OF_CUG = 87, "not_a_member_of_cug";
    /// 88
    INCOMPATIBLE_DESTINATION = 88, "incompatible_destination";
    /// 95
    INVALID_MESSAGE = 95, "invalid_message";
    /// 102
    RECOVERY_ON_TIMER_EXPIRY = 102, "recovery_on_timer_expiry";
    /// 111
    PROTOCOL_ERROR = 111, "protocol_error";
    /// 127
    INTERWORKING = 127, "interworking";
}

impl Cause {
    /// A cause by its number; Q.850 has 1 to 127.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Cause> {
        (1..=127).contains(&code).then_some(Cause(code))
    }

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }
}

impl From<Cause> for u16 {
    fn from(cause: Cause) -> Self {
        cause.0
    }
}

/// A number that is no cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no cause: Q.850 has 1 to 127")]
pub struct NoCause(u16);

impl TryFrom<u16> for Cause {
    type Error = NoCause;
    fn try_from(code: u16) -> Result<Self, NoCause> {
        Cause::from_code(code).ok_or(NoCause(code))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cause({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Cause;

    #[test]
    fn every_number_has_a_name_that_reads_back() {
        for code in 1..=127 {
            let cause = Cause::from_code(code).expect("in range");
            assert_eq!(Cause::from_name(&cause.name()), Some(cause));
        }
        assert_eq!(Cause::from_code(0), None);
        assert_eq!(Cause::from_code(128), None);
        assert_eq!(Cause::from_name("cause_999"), None);
    }
}
