//! Message lamps from an application to a phone: who may switch which, and what phones are told.

use super::strangers::{phones, register};
use super::world::{CONFIG, World, header};
use crate::node::{CtiConnection, Input};
use serde_json::{Value, json};
use sip::{Hop, Transport};
use std::time::Duration;

const PHONE: &str = "192.0.2.1:5070";

fn config() -> String {
    let users = "users:\n  - {id: mail, kind: application_user, password_hash: \"HASH\", \
                 groups: [Standard CTI Enabled], controlled_devices: [SEP1]}\n";
    phones(CONFIG).replace("users:\n", users)
}

fn switch(world: &mut World, app: CtiConnection, dn: &str, on: bool) -> Value {
    world.call(app, "line.set_message_waiting", json!({"dn": dn, "on": on}))
}

fn symbol(answer: &Value) -> Option<&str> {
    answer["error"]["data"]["cti"].as_str()
}

/// Answers the last NOTIFY.
fn answer(world: &mut World, notify: &str, status: &str) {
    let copied: String = ["Via", "From", "To", "Call-ID", "CSeq"]
        .map(|name| format!("{name}: {}\r\n", header(notify, name)))
        .concat();
    let hop = Hop {
        transport: Transport::Udp,
        local: "127.0.0.1:5060".parse().expect("an address"),
        remote: PHONE.parse().expect("an address"),
        connection: None,
    };
    let text = format!("SIP/2.0 {status}\r\n{copied}Content-Length: 0\r\n\r\n");
    world.input(Input::Sip { hop, bytes: text.into_bytes() });
}

#[test]
fn a_number_of_a_controlled_device_is_switched_open_or_not_and_no_other() {
    let mut world = World::with(&config());
    let app = world.application(1, "mail");
    assert_eq!(switch(&mut world, app, "2001", true)["result"], json!({}), "nobody has the phone open");
    for (dn, audited) in [("2002", true), ("5000", true), ("7777", false), ("9001", false)] {
        world.audits.clear();
        assert_eq!(symbol(&switch(&mut world, app, dn, true)), Some("NO_SUCH_LINE"), "{dn}");
        assert_eq!(!world.audits.is_empty(), audited, "{dn}: {:?}", world.audits);
    }
    world.no_frames(app);
    // A restricted device or line is nobody's.
    for (what, with) in
        [("name: SEP1,", "name: SEP1, allow_cti_control: false,"), ("[\"2001\"]", "[\"2001\"]")]
    {
        let mut yaml = config().replace(what, with);
        if what == with {
            yaml = yaml.replace(
                "directory_numbers:\n",
                "directory_numbers:\n  - {dn: \"2001\", allow_cti_control: false}\n",
            );
        }
        world.reload(&yaml);
        world.heard(app);
        assert_eq!(symbol(&switch(&mut world, app, "2001", false)), Some("NO_SUCH_LINE"), "{with}");
    }
}

#[test]
fn a_phone_hears_of_its_lamp_at_each_change_and_after_each_registration() {
    let mut world = World::with(&config());
    let app = world.application(1, "mail");
    assert_eq!(register(&mut world, 1, PHONE, "2001", "right"), 200);
    assert!(world.sip.is_empty(), "the lamp is off");
    switch(&mut world, app, "2001", true);
    let on = world.sent("NOTIFY sip:2001@192.0.2.1:5070 SIP/2.0");
    assert!(on.contains("\r\n\r\nMessages-Waiting: yes\r\nMessage-Account: sip:2001@"), "{on}");
    assert_eq!(header(&on, "Event"), "message-summary");
    answer(&mut world, &on, "200 OK");
    switch(&mut world, app, "2001", true);
    assert!(world.sip.is_empty(), "it was on");
    assert_eq!(register(&mut world, 2, PHONE, "2001", "right"), 200);
    let again = world.sent("NOTIFY");
    answer(&mut world, &again, "481 No");
    // The lamp is the number's: it stays when the configuration changes, and goes with the number.
    world.reload(&config().replace("description: Auto attendant", "description: Other"));
    switch(&mut world, app, "2001", true);
    assert!(world.sip.is_empty());
    switch(&mut world, app, "2001", false);
    let off = world.sent("NOTIFY");
    assert!(off.contains("Messages-Waiting: no"), "{off}");
    answer(&mut world, &off, "200 OK");
    assert_eq!(register(&mut world, 3, PHONE, "2001", "right"), 200);
    assert!(world.sip.is_empty());
    world.pass(Duration::from_secs(40));
}

#[test]
fn a_subscription_is_told_and_ends_with_the_phone_it_is_for() {
    let mut world = World::with(&config());
    let app = world.application(1, "mail");
    assert_eq!(register(&mut world, 1, PHONE, "2001", "right"), 200);
    let subscribe = |world: &mut World, number: usize, to: &str| {
        super::strangers::signed(
            world,
            number,
            PHONE,
            ("SUBSCRIBE", to),
            ("2001", "right"),
            "Event: message-summary\r\n",
        )
    };
    assert_eq!(subscribe(&mut world, 2, "2002"), 403);
    assert_eq!(subscribe(&mut world, 3, "5000"), 403);
    assert_eq!(subscribe(&mut world, 4, "2001"), 200);
    let first = world.sent("NOTIFY");
    assert!(header(&first, "Subscription-State").starts_with("active;expires="), "{first}");
    assert!(first.contains("Messages-Waiting: no"), "{first}");
    answer(&mut world, &first, "200 OK");
    world.pass(Duration::from_secs(2));
    switch(&mut world, app, "2001", true);
    world.pass(Duration::ZERO);
    let on = world.sent("NOTIFY");
    assert_eq!(header(&on, "Call-ID"), header(&first, "Call-ID"));
    assert!(on.contains("Messages-Waiting: yes"), "{on}");
    answer(&mut world, &on, "200 OK");
    assert!(world.sip.is_empty(), "told once");
    world.pass(Duration::from_secs(2));
    // By its digest user, too, a phone means its own number.
    world.reload(&config().replace("lines: [\"2001\"]", "lines: [\"2003\"]"));
    world.pass(Duration::ZERO);
    let other = world.sent("NOTIFY");
    assert!(other.contains("Messages-Waiting: no\r\nMessage-Account: sip:2003@"), "{other}");
    answer(&mut world, &other, "200 OK");
    world.pass(Duration::from_secs(2));
    // It has neither any more.
    let changed = config()
        .replace("lines: [\"2001\"], digest: {user: \"2001\"", "lines: [\"2003\"], digest: {user: \"p1\"");
    world.reload(&changed);
    world.pass(Duration::ZERO);
    let last = world.sent("NOTIFY");
    assert_eq!(header(&last, "Subscription-State"), "terminated;reason=rejected");
    assert!(last.ends_with("\r\n\r\n"), "{last}");
    answer(&mut world, &last, "200 OK");
    world.quiet();
}
