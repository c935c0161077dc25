//! Tables, scenarios and properties of connection and session.

mod dialogue;
mod properties;
mod scenarios;
mod tables;

use super::*;
use crate::error::CtiError;
use crate::event::{Encoded, Event, Subscription};
use crate::frame::Frame;
use crate::methods::Glob;
use crate::rpc::{self, Request};
use device_model::{NodeName, SessionId};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(super) const SESSION: SessionId = SessionId(0x1a);
pub(super) const ONE: ConnectionId = ConnectionId(1);
pub(super) const TWO: ConnectionId = ConnectionId(2);

/// A clock that starts anywhere: machines only see differences.
#[allow(clippy::disallowed_methods)] // the one base that all times of a test are counted from
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_204_862_123)
}

pub(super) fn config() -> SessionConfig {
    SessionConfig {
        user: "ivr".into(),
        application: "test".into(),
        instance: None,
        heartbeat: seconds(5),
        grace: seconds(10),
        subscription: Subscription::all(),
        log_events: 100,
        log_bytes: 1 << 20,
        queue_events: 50,
        idem_keys: 4,
        pending_requests: 3,
    }
}

pub(super) fn session(config: SessionConfig, now: Instant) -> Session {
    let mut session = Session::new(SESSION, config, ONE, Frame::whole(b"opened".to_vec()), now);
    assert_eq!(frames(&mut session, now), ["opened"]);
    session
}

pub(super) fn text(frame: &Frame) -> String {
    String::from_utf8(frame.to_vec()).expect("frames are UTF-8")
}

/// Everything that is queued.
pub(super) fn frames(session: &mut Session, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| session.poll_frame(now)).map(|f| text(&f)).collect()
}

/// The numbers of queued events; answers count as 0.
pub(super) fn seqs(session: &mut Session, now: Instant) -> Vec<u64> {
    let seq = |frame: String| {
        let value: serde_json::Value = serde_json::from_str(&frame).unwrap_or_default();
        value["params"]["seq"].as_u64().unwrap_or(0)
    };
    frames(session, now).into_iter().map(seq).collect()
}

pub(super) fn event() -> Encoded {
    Event::ProviderInService.encode(&NodeName::from("cm1"), wall())
}

pub(super) fn request(id: u64, method: &str, params: &str) -> Request {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
    rpc::parse_request(text.as_bytes()).expect("a request")
}

pub(super) fn subscribe(globs: &[&str]) -> Subscription {
    Subscription::of(&globs.iter().map(|g| Glob::from(*g)).collect::<Vec<_>>())
}

pub(super) fn busy() -> CtiError {
    CtiError::rate_limited(7)
}
