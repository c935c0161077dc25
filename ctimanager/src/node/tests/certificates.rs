//! Client certificates: who comes with one, and what happens when it ends.

use super::world::{CONFIG, World, settings};
use crate::node::{CtiConnection, CtiTransport};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A connection with a certificate of this name that ends so many days from now.
fn with_certificate(world: &mut World, number: u64, cn: &str, days: u32) -> CtiConnection {
    let end = (world.wall + days * DAY).duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let transport =
        CtiTransport::Tls { client_cn: Some(cn.into()), not_after: Some(end.as_secs()), serial: None };
    world.connect_by(number, transport)
}

fn open(world: &mut World, connection: CtiConnection, user: &str) -> Value {
    let open = json!({"user": user, "application": "test", "heartbeat_ms": 3_600_000});
    world.call(connection, "provider.open", open)
}

/// Days go by while the application sends its heartbeats.
fn days(world: &mut World, app: CtiConnection, days: u32) {
    for _ in 0..days * 24 {
        world.send(app, "provider.heartbeat", json!({}));
        world.pass(Duration::from_secs(60 * 60));
    }
    let frames = world.frames.entry(app).or_default();
    frames.retain(|frame| frame.get("id").is_none() && frame["params"]["type"] != "session.heartbeat");
}

#[test]
fn the_certificates_name_is_the_user_and_nobody_else() {
    let mut world = World::new();
    let app = with_certificate(&mut world, 1, "ivr", 365);
    assert_eq!(open(&mut world, app, "other")["error"]["data"]["cti"], "LOGIN_FAILED");
    assert!(open(&mut world, app, "ivr")["result"]["session"].is_string());
    let stranger = with_certificate(&mut world, 2, "nobody", 365);
    assert_eq!(open(&mut world, stranger, "nobody")["error"]["data"]["cti"], "LOGIN_FAILED");
    let bare = world.connect(3);
    assert_eq!(open(&mut world, bare, "ivr")["error"]["data"]["cti"], "LOGIN_FAILED");
    let plain = world.connect_by(4, CtiTransport::Plain);
    assert_eq!(open(&mut world, plain, "ivr")["error"]["data"]["cti"], "LOGIN_FAILED");
}

#[test]
fn an_end_is_told_thirty_days_ahead_and_closes_the_connection() {
    let mut world = World::new();
    let app = with_certificate(&mut world, 1, "ivr", 32);
    assert!(open(&mut world, app, "ivr")["result"].is_object());
    days(&mut world, app, 1);
    world.no_frames(app);
    world.reported();
    days(&mut world, app, 2);
    let told = world.event(app, "alarm");
    assert_eq!(told["alarm"]["name"], "CtiProviderPeerCertExpireSoon");
    assert_eq!(told["alarm"]["parameters"]["user"], "ivr");
    assert_eq!(world.reported(), ["CtiProviderPeerCertExpireSoon"]);
    days(&mut world, app, 28);
    world.no_frames(app);
    assert!(world.closed.is_empty());
    days(&mut world, app, 1);
    let last = world.frame(app).expect("a last word");
    assert_eq!(last["params"]["type"], "session.closed");
    assert_eq!(last["params"]["reason"], "certificate_expired");
    assert_eq!(world.closed, [app]);
    assert_eq!(
        world.reported(),
        ["CtiProviderClosePeerCertExpired", "CtiProviderPeerCertExpireSoon", "CtiProviderClosed"]
    );
    assert_eq!(world.node.next_timeout(), None, "nothing is left to watch");
}

#[test]
fn a_session_goes_on_with_a_new_certificate() {
    let mut world = World::with(&CONFIG.replace("id: ivr,", "id: ivr, session_resume_grace: 30s,"));
    let app = with_certificate(&mut world, 1, "ivr", 1);
    let opened = open(&mut world, app, "ivr");
    assert_eq!(world.heard(app), ["alarm CtiProviderPeerCertExpireSoon raised"], "at once, after the reply");
    days(&mut world, app, 1);
    assert_eq!(world.closed, [app]);
    let again = with_certificate(&mut world, 2, "ivr", 365);
    let resume = json!({"session": opened["result"]["session"], "last_seq": 1});
    let wish = json!({"user": "ivr", "application": "test", "resume": resume});
    assert_eq!(world.call(again, "provider.open", wish)["result"]["resumed"], true);
    let last = world.reports.iter().rfind(|r| r.name == "CtiProviderPeerCertExpireSoon").expect("reported");
    assert!(last.parameters.contains(&("state", "cleared".to_owned())), "{last:?}");
}

#[test]
fn a_wall_clock_that_is_put_forward_is_noticed_within_the_hour() {
    let mut world = World::new();
    let app = with_certificate(&mut world, 1, "ivr", 365);
    assert!(open(&mut world, app, "ivr")["result"].is_object());
    world.wall += 400 * DAY;
    world.send(app, "provider.heartbeat", json!({}));
    world.pass(Duration::from_secs(60 * 60));
    assert_eq!(world.closed, [app]);
}

#[test]
fn the_nodes_own_certificate_is_watched_and_a_reload_brings_a_new_one() {
    let mut world = World::new();
    let ends = |world: &mut World, days: u32| {
        let end = Some(world.wall + days * DAY);
        world.configure(crate::node::Settings { certificate_ends: end, ..settings(CONFIG) });
    };
    ends(&mut world, 31);
    assert_eq!(world.reported(), ["ConfigurationLoaded"]);
    world.pass(2 * DAY);
    assert_eq!(world.reported(), ["NodeCertificateExpiresSoon"]);
    world.pass(30 * DAY);
    assert_eq!(
        world.reported(),
        ["NodeCertificateExpiresSoon", "NodeCertificateExpired"],
        "cleared and raised"
    );
    ends(&mut world, 700);
    assert_eq!(world.reported(), ["NodeCertificateExpired", "ConfigurationLoaded"], "cleared");
}
