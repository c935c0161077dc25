use super::*;

fn headers(lines: &[&str]) -> Headers {
    let mut headers = Headers::default();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header line");
        headers.push(name, value);
    }
    headers
}

/// `number "name"`, with `!` in front where it is restricted.
fn shown(identity: &Identity) -> String {
    let restricted = if identity.restricted { "!" } else { "" };
    let name = identity.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    format!("{restricted}{}{name}", identity.number)
}

#[test]
fn the_caller_is_whom_the_trunk_asserts() {
    let from = "From: \"F\" <sip:1000@h>;tag=x";
    for (lines, expected) in [
        (&[from][..], "1000 \"F\""),
        (&[from, "P-Asserted-Identity: \"A\" <sip:+1-555-0100@h;user=phone>"], "+15550100 \"A\""),
        (&[from, "P-Asserted-Identity: \"Ann\" <sip:ann@h>, <tel:+1-555-0100>"], "+15550100 \"Ann\""),
        (
            &[
                from,
                "P-Asserted-Identity: <sip:ann@h>",
                "P-Asserted-Identity: <tel:5550100;phone-context=+1>",
            ],
            "5550100",
        ),
        (&[from, "P-Asserted-Identity: <sip:ann@h>"], "ann"),
        (&[from, "P-Asserted-Identity: <sip:2@h>", "Privacy: id;critical"], "!2"),
        (&[from, "P-Asserted-Identity: <sip:2@h>", "Privacy: none"], "2"),
        (&[from, "Privacy: user;header"], "!1000 \"F\""),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;party=calling;screen=yes;privacy=off"], "3 \"R\""),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;privacy=full"], "!3 \"R\""),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;privacy=uri-network"], "!3 \"R\""),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;privacy=\"name,uri\""], "!3"),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;privacy=\"uri-network, name\""], "!3"),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;privacy=\"off\""], "3 \"R\""),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;party=called;screen=yes"], "1000 \"F\""),
        (&[from, "Remote-Party-ID: \"R\" <sip:3@h>;privacy=name;party=calling"], "3"),
        (&[from, "Remote-Party-ID: <sip:4@h>;party=called, \"R\" <sip:3@h>;party=calling"], "3 \"R\""),
        (&[from, "Remote-Party-ID: <sip:4@h>;party=\"third\""], "1000 \"F\""),
        (&[from, "Remote-Party-ID: <sip:3@h>", "P-Asserted-Identity: <sip:2@h>"], "2"),
        (&[from, "P-Preferred-Identity: <sip:5@h>"], "5"),
        (&[from, "P-Preferred-Identity: <sip:5@h>", "Remote-Party-ID: <sip:3@h>"], "3"),
        (&[from, "P-Asserted-Identity: <sip:", "Remote-Party-ID: \"x <sip:3@h>"], "1000 \"F\""),
        (&[from, "P-Asserted-Identity: ,, <sip:9@h>", "P-Asserted-Identity: <sip:2@h>"], "9"),
        (&["From: nonsense", "P-Asserted-Identity: <sip:2@h>"], "2"),
        (&["From: nonsense"], ""),
    ] {
        assert_eq!(shown(&caller(&headers(lines))), expected, "{lines:?}");
    }
}

#[test]
fn who_names_nobody_is_restricted_and_has_no_number() {
    for from in [
        "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
        "<sip:c8oqz84zk7z@anonymous.invalid>",
        "\"Anonymous\" <sip:+15550100@h>",
        "anonymous <sip:5550100@h>",
        "\"Anony\u{34f}mous\u{202e}\" <sip:5550100@h>",
        "sip:Anonymous@10.0.0.1",
        "<sip:unavailable@unknown.invalid>",
        "<sip:Unavailable@h;user=phone>",
        "<sip:Restricted@h>",
    ] {
        let line = format!("From: {from};tag=x");
        assert_eq!(shown(&caller(&headers(&[&line]))), "!", "{from}");
        let asserted = [line.as_str(), "P-Asserted-Identity: \"Ann\" <sip:2@h>"];
        assert_eq!(
            shown(&caller(&headers(&asserted))),
            "!2 \"Ann\"",
            "the trunk may know, others may not: {from}"
        );
    }
    let nobody = ["From: <sip:1@h>", "P-Asserted-Identity: <sip:anonymous@anonymous.invalid>"];
    assert_eq!(shown(&caller(&headers(&nobody))), "!");
}

#[test]
fn names_and_numbers_are_cut_to_what_may_be_shown() {
    let long = format!("From: \"{}\" <sip:{}@h>", "N".repeat(100), "1".repeat(65));
    assert_eq!(shown(&caller(&headers(&[&long]))), format!(" \"{}\"", "N".repeat(64)));
    let odd = headers(&["From: \"A\u{34f}n\u{3164}n\u{202e}\u{feff} \u{115f}Lee\u{2800}\" <sip:1%0D%0A2@h>"]);
    assert_eq!(shown(&caller(&odd)), " \"Ann Lee\"");
    assert_eq!(number_of(&Uri::read("sip:55%E2%80%AE66@h").expect("a URI")), "");
    assert_eq!(number_of(&Uri::read("tel:+1-(555)-0100;ext=12").expect("a URI")), "+15550100");
    assert_eq!(number_of(&Uri::read("sip:%2B1%20555%200100;npdi@h").expect("a URI")), "+15550100");
}

#[test]
fn diversions_name_the_last_and_the_first() {
    let told = |lines: &[&str]| {
        diverted(&headers(lines))
            .map(|d| format!("{} / {}", shown(&d.by), shown(&d.original)))
            .unwrap_or_default()
    };
    for (lines, expected) in [
        (&["Diversion: \"B\" <sip:2@h>;reason=user-busy;counter=1"][..], "2 \"B\" / 2 \"B\""),
        (&["Diversion: <sip:3@h>;reason=no-answer, \"B\" <tel:+1-2>;reason=unconditional"], "3 / +12 \"B\""),
        (
            &["Diversion: <sip:4@h>", "Diversion: <sip:3@h>;reason=time-of-day", "Diversion: <sip:2@h>"],
            "4 / 2",
        ),
        (&["Diversion: \"B\" <sip:2@h>;privacy=\"full\";screen=no"], "!2 \"B\" / !2 \"B\""),
        (&["Diversion: \"B\" <sip:2@h>;privacy=name"], "2 / 2"),
        (&["Diversion: <sip:anonymous@anonymous.invalid>;reason=unknown"], "! / !"),
        (&["Diversion: <sip:h>;reason=x"], ""),
        (&["Diversion: \"broken <sip:2@h>", "Diversion: <sip:3@h>"], "3 / 3"),
        (&["Diversion: "], ""),
        (
            &["Diversion: <sip:2@h>", "History-Info: <sip:7@h>;index=1, <sip:8@h;cause=302>;index=1.1"],
            "2 / 2",
        ),
    ] {
        assert_eq!(told(lines), expected, "{lines:?}");
    }
}

#[test]
fn history_names_who_sent_the_call_on() {
    let told = |value: &str, privacy: &str| {
        let headers = headers(&[&format!("History-Info: {value}"), &format!("Privacy: {privacy}")]);
        diverted(&headers).map(|d| format!("{} / {}", shown(&d.by), shown(&d.original))).unwrap_or_default()
    };
    for (value, expected) in [
        // RFC 7044 §B.3: mapped twice, with the causes of RFC 4458.
        (
            "<sip:2@h>;index=1, <sip:3@h;cause=302>;index=1.1;mp=1, <sip:4@h;cause=486>;index=1.2;mp=1.1",
            "3 / 2",
        ),
        // `mp` alone; an entry that only found the contact (`rc`) sent nothing on.
        ("<sip:2@h>;index=1, <sip:2@10.0.0.1>;index=1.1;rc=1, <sip:3@h>;index=1.2;mp=1", "2 / 2"),
        // RFC 4244 alone: a Reason in those that did not take the call.
        ("\"B\" <sip:2@h?Reason=SIP%3Bcause%3D486>;index=1, <sip:3@h>;index=2", "2 \"B\" / 2 \"B\""),
        ("<sip:2@h?Privacy=history&Reason=SIP%3Bcause%3D302>;index=1, <sip:3@h>;index=2", "!2 / !2"),
        // The cause without `mp`: the entry before it.
        ("<sip:+1-2@h>;index=1, <sip:3@h;user=phone;cause=408>;index=1.1", "+12 / +12"),
        ("<sip:2@h>;index=1, <sip:2@10.0.0.1>;index=1.1;rc=1", ""),
        ("<sip:3@h;cause=302>;index=1;mp=1", ""),
        ("<sip:2@h>;index=1", ""),
        ("nonsense, <sip:", ""),
    ] {
        assert_eq!(told(value, "none"), expected, "{value}");
    }
    assert_eq!(told("<sip:2@h>;index=1, <sip:3@h;cause=302>;index=1.1", "history"), "!2 / !2");
}

#[test]
fn a_trunk_is_told_as_cucm_tells_it_and_a_phone_less() {
    let ann = |restricted| Identity { number: "2001".into(), name: Some("Ann".into()), restricted };
    let written = |identity: &Identity, side, reach| {
        let mut headers = Headers::default();
        write_identity(identity, side, "h", reach, &mut headers);
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        written(&ann(false), Side::Calling, Reach::Contact),
        [
            "P-Asserted-Identity: \"Ann\" <sip:2001@h>",
            "Remote-Party-ID: \"Ann\" <sip:2001@h>;party=calling;screen=yes;privacy=off",
        ]
    );
    assert_eq!(
        written(&ann(true), Side::Called, Reach::Contact),
        [
            "P-Asserted-Identity: \"Ann\" <sip:2001@h>",
            "Remote-Party-ID: \"Ann\" <sip:2001@h>;party=called;screen=yes;privacy=full",
            "Privacy: id",
        ]
    );
    assert_eq!(
        written(&ann(false), Side::Calling, Reach::AsItCame),
        ["P-Asserted-Identity: \"Ann\" <sip:2001@h>"]
    );
    assert_eq!(written(&ann(true), Side::Calling, Reach::AsItCame), ["Privacy: id"]);
    let nobody = Identity { restricted: true, ..Identity::default() };
    assert_eq!(written(&nobody, Side::Calling, Reach::Contact), ["Privacy: id"]);
}

#[test]
fn diversions_are_written_the_last_first() {
    let party = |number: &str, restricted| Identity { number: number.into(), name: None, restricted };
    let written = |by: &Identity, original: &Identity, reach| {
        let mut headers = Headers::default();
        let diverted = Diverted { by: by.clone(), original: original.clone() };
        write_diverted(&diverted, DiversionReason::NoAnswer, 4, "h", reach, &mut headers);
        headers.all("Diversion").map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, two, secret) = (party("1", false), party("2", false), party("3", true));
    assert_eq!(
        written(&one, &two, Reach::Contact),
        [
            "<sip:1@h>;reason=no-answer;privacy=off;screen=yes;counter=3",
            "<sip:2@h>;reason=unknown;privacy=off;screen=yes;counter=1",
        ]
    );
    assert_eq!(written(&one, &one, Reach::AsItCame).len(), 1);
    assert_eq!(
        written(&secret, &one, Reach::Contact)[0],
        "<sip:3@h>;reason=no-answer;privacy=full;screen=yes;counter=3"
    );
    assert_eq!(
        written(&secret, &one, Reach::AsItCame),
        ["<sip:1@h>;reason=unknown;privacy=off;screen=yes;counter=1"]
    );
}

#[test]
fn a_flood_of_identities_is_left_unread() {
    let many: Vec<String> = (0..100).map(|n| format!("<sip:{n}@h>")).collect();
    let all = headers(&[&format!("Diversion: {}", many.join(", "))]);
    let diverted = diverted(&all).expect("some are read");
    assert_eq!((shown(&diverted.by), shown(&diverted.original)), ("0".into(), "31".into()));
}
