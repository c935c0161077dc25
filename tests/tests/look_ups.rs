//! Look-ups that say nothing when they find nothing. In `device-model` an entry that another one names can't be absent: it
//! is looked up by `known` (or `call`, `leg`, `end`…), which stops a test and is counted in production. Where it may be
//! absent (`get`, `find_…`), the function and the reason are written down here.

use crate::tidy::{function_name, lines_with_gate, read, root};
use std::collections::BTreeSet;

/// Files that own a table, and those that compare all of them.
const TABLES: &[&str] = &[
    "calls.rs",
    "check.rs",
    "device_limits.rs",
    "device_table.rs",
    "openings.rs",
    "standing.rs",
    "table.rs",
    "timers.rs",
];

/// Why something may be absent, and the functions that look for it, as `file function`.
const MAY_BE_ABSENT: &[(&str, &[&str])] = &[
    (
        "whoever asks may name anything",
        &[
            "control device",
            "control device_of_leg",
            "control end_of_leg",
            "control is_open",
            "control leg",
            "control leg_count",
            "control leg_of_end",
            "control legs_at",
            "control legs_of_call",
            "control legs_of_device",
            "control media",
            "control openers",
            "control place_of_end",
            "control streams",
            "departing holds",
            "departing depart_beside",
            "departing depart_from",
            "devices may_open",
            "devices open_line",
            "message_lamps devices_with",
            "message_lamps set_message_waiting",
            "reconcile clear_beside",
            "reconcile clear_without",
            "reconcile legs_to_clear",
            "requests fence",
            "requests forward_all",
            "requests leg_for",
            "requests may_call",
            "restriction say_reached",
            "restriction whole_legs",
            "signalling incoming_call",
            "signalling origin",
            "signalling signal",
            "transfer transfer",
        ],
    ),
    (
        "nobody needs to have a number that is dialled or shown",
        &[
            "call_setup phones_within_reach",
            "control party",
            "dialling judge",
            "dialling reach",
            "dialling spaces_of",
        ],
    ),
    ("a trunk that no plan names", &["dialling trunk_plan", "limits use_trunk"]),
    (
        "a configuration names what there need not be",
        &["calling_search_spaces partition", "calling_search_spaces space"],
    ),
    (
        "a new plan may have taken the device or number away",
        &[
            "departing orphan",
            "devices registered",
            "devices restore_opening",
            "devices take_opening",
            "forwarding forward_for",
            "message_lamps carry_lamps",
            "new_call_accept resume_ringing",
            "new_call_accept ring_duration",
            "reconcile announce",
            "reconcile bury",
            "reconcile clear_device",
            "reconcile device_at_mut",
            "reconcile find_device_at",
            "reconcile is_lost",
            "reconcile leaving",
            "reconcile exchange_stay",
            "reconcile say_settled",
            "reconcile waits_to_be_cleared",
        ],
    ),
    (
        "two plans are compared",
        &[
            "prepared_plan between",
            "prepared_plan compare_numbers",
            "reconcile carry_forwards",
            "reconcile settle_next",
        ],
    ),
    (
        "it may have ended a moment ago, with what was ended before it",
        &[
            "call see_again",
            "clearing drop_leg",
            "clearing fail_leg",
            "clearing no_address",
            "clearing role",
            "departing ask_for",
            "new_call_accept no_answer",
            "operations answer_to",
            "operations operation_overdue",
            "reconcile clear_call",
        ],
    ),
    ("a mix, or one who waits, has no leg that stays", &["media_exchange is_reached_from"]),
    (
        "a list or set that is searched",
        &[
            "call role",
            "call_setup phones_within_reach",
            "calling_search_spaces contains",
            "departing depart",
            "ids written",
            "reconcile clear_leg",
        ],
    ),
    (
        "found, it is known; not found, it is noted in the same function",
        &[
            "call anchor",
            "departing depart_from",
            "devices line_view",
            "dialling explain_dialling",
            "limits discount_leg",
            "operations get",
            "reconcile bury",
            "reconcile device_at",
            "reconcile retired_device_mut",
        ],
    ),
];

#[test]
fn a_look_up_that_says_nothing_has_its_reason() {
    let known: BTreeSet<String> =
        MAY_BE_ABSENT.iter().flat_map(|(_, functions)| *functions).map(|name| (*name).to_owned()).collect();
    let mut found = BTreeSet::new();
    let folder = root().join("device-model/src");
    for entry in std::fs::read_dir(&folder).expect("the room has a folder") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !TABLES.contains(&name.as_str()) {
            let stem = name.trim_end_matches(".rs");
            found.extend(silent(&read(&path)).into_iter().map(|function| format!("{stem} {function}")));
        }
    }
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "look these up by `known`, or say why they may be absent: {new:?}");
    let old: Vec<_> = known.difference(&found).collect();
    assert!(old.is_empty(), "these look nothing up any more: {old:?}");
}

#[test]
fn look_ups_that_say_nothing_are_found() {
    let code = "fn a() {\n    x.get(1);\n    x.known(1);\n}\nfn b() {\n    calls\n        .find_leg(1);\n}\nfn c() {\n    \
                // x.get(1)\n    x.iter().find_map(f);\n}\nfn d() {\n    x.get_mut(1);\n}\n#[cfg(test)]\nmod tests {\n    \
                fn e() {\n        x.get(1);\n    }\n}\n";
    assert_eq!(silent(code), ["a", "b", "d"].into());
}

/// The functions of a file that look something up and say nothing when it is not there.
fn silent(code: &str) -> BTreeSet<&str> {
    const WAYS: &[&str] = &[".get(", ".get_mut(", ".calls.anchor("];
    const TABLES_WAYS: &[&str] = &["find_call", "find_leg", "find_end", "find_attempt", "find_device"];
    let (mut found, mut function) = (BTreeSet::new(), "");
    for (line, gated) in lines_with_gate(code) {
        function = function_name(line).unwrap_or(function);
        let calls = |name: &&str| line.contains(&format!(".{name}(")) || line.contains(&format!(".{name}_"));
        let looks = WAYS.iter().any(|way| line.contains(way)) || TABLES_WAYS.iter().any(calls);
        if looks && !gated && !line.trim_start().starts_with("//") {
            found.insert(function);
        }
    }
    found
}
