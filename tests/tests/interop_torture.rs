//! The 49 torture messages of RFC 4475, each sent to a real node over TCP (an answer over UDP would go to the address in
//! the message's Via). All come from a stranger, so that a request in order meets the refusal of a stranger at best.

use std::path::Path;
use tests::lab::app::Answerer;
use tests::lab::node::{Config, Node};
use tests::lab::sipp;
use tests::lab::wire::first_final_status;
use tests::lab::{Lab, SOON};

/// A request in order from a stranger: challenged, forbidden, or not for us.
const STRANGER: &[u16] = &[401, 403, 404];
/// Syntax that the RFC calls broken.
const BROKEN: &[u16] = &[400];

/// What is right for each message. `None` = it must not be answered: a response, or bytes in which a stream can't tell
/// where the message ends (the connection may be closed then).
const EXPECTED: &[(&str, Option<&[u16]>)] = &[
    // §3.1.1, well-formed however odd.
    // Its To has a tag, but there is no such dialog.
    ("wsinv", Some(&[481, 401, 403, 404])),
    ("intmeth", Some(&[405, 501])),
    ("esc01", Some(STRANGER)),
    ("escnull", Some(STRANGER)),
    ("esc02", Some(&[405, 501])),
    ("lwsdisp", Some(&[200, 404])),
    ("longreq", Some(STRANGER)),
    ("dblreq", Some(STRANGER)),
    ("semiuri", Some(&[200, 404])),
    ("transports", Some(&[200, 404])),
    ("mpart01", Some(&[405, 501])),
    ("unreason", None),
    ("noreason", None),
    // §3.1.2, broken syntax. Where the RFC lets an element be liberal, so may we be.
    ("badinv01", Some(BROKEN)),
    ("clerr", None),
    ("ncl", None),
    ("scalar02", Some(BROKEN)),
    ("scalarlg", None),
    ("quotbal", Some(BROKEN)),
    ("ltgtruri", Some(BROKEN)),
    ("lwsruri", Some(BROKEN)),
    ("lwsstart", Some(BROKEN)),
    ("trws", Some(&[400, 200, 404])),
    ("escruri", Some(&[400, 401, 403, 404])),
    ("baddate", Some(&[400, 401, 403, 404])),
    ("regbadct", Some(&[400, 401, 403, 404])),
    ("badaspec", Some(&[400, 200, 404])),
    ("baddn", Some(&[400, 200, 404])),
    ("badvers", Some(&[505, 400])),
    ("mismatch01", Some(BROKEN)),
    ("mismatch02", Some(&[400, 501, 405])),
    ("bigcode", None),
    // §3.2 to §3.4, the layers above.
    ("badbranch", Some(&[400, 200, 404])),
    ("insuf", Some(BROKEN)),
    ("unkscm", Some(&[416])),
    ("novelsc", Some(&[416])),
    ("unksm2", Some(&[400, 401, 403, 404])),
    ("bext01", Some(&[420])),
    ("invut", Some(&[401, 403, 404, 415])),
    ("regaut01", Some(STRANGER)),
    ("multi01", Some(BROKEN)),
    // Two lengths that differ: over a stream nobody knows where it ends.
    ("mcl01", None),
    ("bcast", None),
    ("zeromf", Some(&[483, 200, 404])),
    ("cparam01", Some(STRANGER)),
    ("cparam02", Some(STRANGER)),
    ("regescrt", Some(STRANGER)),
    ("sdp01", Some(&[401, 403, 404, 406])),
    ("inv2543", Some(&[400, 401, 403, 404])),
];

#[tokio::test]
async fn the_torture_messages_of_rfc_4475_get_the_answers_that_are_right() {
    let lab = Lab::new("torture");
    let trunk = lab.address();
    let config =
        Config::new(&lab).route_point("RP_MAIN", "5000").trunk("pstn", trunk).user("attendant", &["RP_MAIN"]);
    let mut node = Node::start(&lab, config).await;
    let mut wrong = String::new();
    for (name, expected) in EXPECTED {
        let message = std::fs::read(file(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let got = first_final_status(node.sip, &message).await;
        let right = match (expected, got) {
            (Some(codes), Some(code)) => codes.contains(&code),
            // A stream may be closed with a 400 as a farewell.
            (None, None | Some(400)) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !right {
            wrong += &format!("{name}: {got:?}, not {expected:?}\n");
        }
        node.is_well();
    }
    assert!(wrong.is_empty(), "{wrong}");

    let mut app = Answerer::start(&lab, &node, "attendant", "RP_MAIN").await;
    let call = sipp::Run {
        scenario: "uac",
        to: Some(node.sip),
        number: "5000".into(),
        local: Some(trunk),
        calls: 1,
        ..sipp::Run::default()
    };
    sipp::run(&lab, &call, SOON).await.all_went_well(1);
    app.has_seen_end(1, SOON).await;
    node.is_quiet().await;
}

#[test]
fn no_message_of_rfc_4475_is_forgotten() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".dat").map(str::to_owned))
        .collect();
    let mut names: Vec<&str> = EXPECTED.iter().map(|(name, _)| *name).collect();
    files.sort();
    names.sort_unstable();
    assert_eq!(files, names);
    assert_eq!(names.len(), 49, "as many as the RFC has");
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/torture"))
}

fn file(name: &str) -> std::path::PathBuf {
    folder().join(format!("{name}.dat"))
}
