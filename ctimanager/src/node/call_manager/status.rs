//! SIP statuses and Q.850 causes, each as the other (RFC 3398 §7.2.4.1 and §8.2.6.1; protocol §4: 21 ↔ 603).

use device_model::Cause;

/// The status that refuses a call for this cause, where no status came from another SIP side.
#[must_use]
pub fn of_cause(cause: Cause) -> u16 {
    match cause.code() {
        1..=3 | 26 => 404,
        17 => 486,
        18 => 408,
        16 | 19 | 20 | 31 => 480,
        21 => 603,
        22 | 23 => 410,
        25 => 482,
        27 => 502,
        28 => 484,
        29 | 79 => 501,
        55 | 57 | 87 => 403,
        65 | 70 => 488,
        34 | 38 | 41 | 42 | 47 | 58 | 88 => 503,
        102 => 504,
        _ => 500,
    }
}

/// The cause of a final SIP status. Only 3xx to 6xx come here; a success has no cause.
#[must_use]
pub fn to_cause(status: u16) -> Cause {
    match status {
        404 | 485 | 604 => Cause::UNALLOCATED_NUMBER,
        401 | 402 | 403 | 407 | 603 | 608 => Cause::CALL_REJECTED,
        405 => Cause::SERVICE_UNAVAILABLE,
        406 | 415 | 501 => Cause::SERVICE_NOT_IMPLEMENTED,
        408 | 504 => Cause::RECOVERY_ON_TIMER_EXPIRY,
        410 => Cause::NUMBER_CHANGED,
        480 => Cause::NO_USER_RESPONDING,
        482 | 483 => Cause::EXCHANGE_ROUTING_ERROR,
        484 => Cause::INVALID_NUMBER_FORMAT,
        486 | 600 => Cause::USER_BUSY,
        488 | 606 => Cause::BEARER_NOT_IMPLEMENTED,
        487 => Cause::NORMAL_CLEARING,
        400 | 481 | 500 | 503 => Cause::TEMPORARY_FAILURE,
        502 => Cause::NETWORK_OUT_OF_ORDER,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => Cause::INTERWORKING,
        _ => Cause::NORMAL_UNSPECIFIED,
    }
}

/// The cause that a peer wrote into a `Reason: Q.850` header, else that of its status.
#[must_use]
pub fn cause_of(status: u16, reason: Option<u16>) -> Cause {
    reason.and_then(Cause::from_code).unwrap_or_else(|| to_cause(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pairs_that_the_contract_names_go_both_ways() {
        for (cause, status) in
            [(Cause::USER_BUSY, 486), (Cause::CALL_REJECTED, 603), (Cause::UNALLOCATED_NUMBER, 404)]
        {
            assert_eq!(of_cause(cause), status);
            assert_eq!(to_cause(status), cause);
        }
        assert_eq!(of_cause(Cause::SUBSCRIBER_ABSENT), 480);
        assert_eq!(of_cause(Cause::NO_ANSWER), 480);
        assert_eq!(to_cause(408), Cause::RECOVERY_ON_TIMER_EXPIRY);
    }

    #[test]
    fn statuses_have_the_causes_of_rfc_3398() {
        let table = [
            (&[404, 485, 604][..], 1),
            (&[486, 600], 17),
            (&[480], 18),
            (&[401, 402, 403, 407, 603], 21),
            (&[410], 22),
            (&[482, 483], 25),
            (&[484], 28),
            (&[502], 38),
            (&[400, 481, 500, 503], 41),
            (&[405], 63),
            (&[406, 415, 501], 79),
            (&[408, 504], 102),
            (&[413, 414, 416, 420, 421, 423, 505, 513], 127),
        ];
        for (statuses, cause) in table {
            for status in statuses {
                assert_eq!(to_cause(*status).code(), cause, "{status}");
            }
        }
    }

    #[test]
    fn every_cause_has_a_refusing_status_and_every_status_a_cause() {
        for code in 1..=127 {
            let status = of_cause(Cause::from_code(code).expect("in range"));
            assert!((400..700).contains(&status), "{code} → {status}");
        }
        for status in 300..700 {
            assert!(to_cause(status).code() > 0);
        }
    }
}
