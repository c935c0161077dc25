//! What each state does with each event, as snapshots that a reviewer reads.

use super::*;
use crate::error::Symbol;
use crate::event::CloseReason;
use std::fmt::Write;

type ConnectionState = (&'static str, fn(&mut Connection));
type ConnectionEvent = (&'static str, fn(&mut Connection, Instant) -> String);

const OPEN: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{"user":"a","password":"p","application":"x"}}"#;

fn step(step: Step) -> String {
    match step {
        Step::Ignored => "ignored".into(),
        Step::Answer(frame) => format!("answer {}", outcome(&frame)),
        Step::Open(open) => format!("open for {}", open.user.as_str()),
        Step::Request(session, request) => format!("request {} of {session}", request.method),
        Step::SessionAnswer(session, frame) => format!("answer {} in {session}", outcome(&frame)),
    }
}

fn outcome(frame: &Frame) -> String {
    let value: serde_json::Value = serde_json::from_slice(&frame.to_vec()).expect("JSON");
    for path in ["/error/data/cti", "/params/reason", "/params/type"] {
        if let Some(text) = value.pointer(path).and_then(|v| v.as_str()) {
            return text.to_owned();
        }
    }
    "result".into()
}

fn written(frame: Option<Frame>) -> String {
    frame.map_or_else(|| "nothing".into(), |f| format!("write {}", outcome(&f)))
}

const CONNECTION_STATES: [ConnectionState; 4] = [
    ("unopened", |_| ()),
    ("opening", |c| drop(c.frame(OPEN))),
    ("open", |c| {
        c.frame(OPEN);
        c.opened(SESSION).expect("was opening");
    }),
    ("closed", |c| drop(c.close(CloseReason::Stopping, wall()))),
];

const CONNECTION_EVENTS: [ConnectionEvent; 12] = [
    ("provider.open", |c, _| step(c.frame(OPEN))),
    ("provider.open without a user", |c, _| {
        step(c.frame(br#"{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{"application":"x"}}"#))
    }),
    ("provider.open without an id", |c, _| {
        step(
            c.frame(br#"{"jsonrpc":"2.0","method":"provider.open","params":{"user":"a","application":"x"}}"#),
        )
    }),
    ("another method", |c, _| step(c.frame(br#"{"jsonrpc":"2.0","id":1,"method":"call.drop"}"#))),
    ("an unknown method", |c, _| step(c.frame(br#"{"jsonrpc":"2.0","id":1,"method":"x"}"#))),
    ("no JSON", |c, _| step(c.frame(b"GET / HTTP/1.1"))),
    ("a batch", |c, _| step(c.frame(b"[]"))),
    ("opened", |c, _| c.opened(SESSION).map_or("nothing".into(), |id| format!("answer to {id:?}"))),
    ("refused", |c, _| written(c.refused(&CtiError::new(Symbol::LoginFailed, "no")))),
    ("time before 10 s", |c, t| written(c.timeout(t + Duration::from_millis(9_999), wall()))),
    ("time at 10 s", |c, t| written(c.timeout(t + seconds(10), wall()))),
    ("superseded", |c, _| written(c.supersede(wall()))),
];

#[test]
fn connection() {
    let mut table = String::new();
    for (state, prepare) in CONNECTION_STATES {
        writeln!(table, "{state}").expect("a String");
        for (event, apply) in CONNECTION_EVENTS {
            let now = start();
            let mut connection = Connection::new(now);
            prepare(&mut connection);
            let said = apply(&mut connection, now);
            let next = if connection.state_name() == state { "-" } else { connection.state_name() };
            writeln!(table, "  {event:30} {said:36} {next}").expect("a String");
        }
    }
    insta::assert_snapshot!(table);
}

type SessionState = (&'static str, fn(&mut Session, Instant));
type SessionEvent = (&'static str, fn(&mut Session, Instant) -> String);

fn begun(begin: &Begin) -> String {
    match begin {
        Begin::Execute { token, method } => format!("execute {} {token}", method.name()),
        Begin::Replayed => "replayed".into(),
        Begin::Joined => "joined".into(),
        Begin::Refused(symbol) => format!("refused {symbol}"),
        Begin::Heartbeat => "heartbeat".into(),
        Begin::Ignored => "ignored".into(),
    }
}

fn timed(said: Option<SessionTimeout>) -> String {
    match said {
        None => "nothing".into(),
        Some(SessionTimeout::Heartbeat) => "heartbeat due".into(),
        Some(SessionTimeout::Silent { connection, fate }) => {
            format!("{connection:?} silent, {}", fated(fate))
        }
        Some(SessionTimeout::GraceOver) => "failed".into(),
    }
}

fn fated(fate: Fate) -> &'static str {
    match fate {
        Fate::HeldUntil(_) => "held",
        Fate::Failed => "failed",
    }
}

const DROP: &str = r#"{"leg":"l1","idem":"k"}"#;

const SESSION_STATES: [SessionState; 6] = [
    ("attached", |_, _| ()),
    ("attached, no grace", |s, _| s.renegotiate(seconds(5), Duration::ZERO, None)),
    ("attached, idem k running as r1", |s, t| drop(s.begin(t, request(1, "call.drop", DROP)))),
    ("attached, idem k answered", |s, t| {
        s.begin(t, request(1, "call.drop", DROP));
        s.reply(device_model::RequestToken(1), Ok(rpc::raw(&1)));
    }),
    ("attached, queue full", |s, _| while !matches!(s.event(&event()), Delivery::Overflow(_)) {}),
    ("held", |s, t| assert!(s.detach(t, ONE).is_some())),
];

const SESSION_EVENTS: [SessionEvent; 19] = [
    ("call.drop", |s, t| begun(&s.begin(t, request(2, "call.drop", r#"{"leg":"l1"}"#)))),
    ("call.drop, idem k", |s, t| begun(&s.begin(t, request(2, "call.drop", DROP)))),
    ("call.hold, idem k", |s, t| begun(&s.begin(t, request(2, "call.hold", DROP)))),
    ("call.drop of another leg, idem k", |s, t| {
        begun(&s.begin(t, request(2, "call.drop", r#"{"leg":"l2","idem":"k"}"#)))
    }),
    ("call.drop, idem too long", |s, t| {
        let params = format!(r#"{{"leg":"l1","idem":"{}"}}"#, "k".repeat(65));
        begun(&s.begin(t, request(2, "call.drop", &params)))
    }),
    ("call.drop without a leg", |s, t| begun(&s.begin(t, request(2, "call.drop", "{}")))),
    ("call.drop with a list", |s, t| begun(&s.begin(t, request(2, "call.drop", "[1]")))),
    ("an unknown method", |s, t| begun(&s.begin(t, request(2, "call.juggle", "{}")))),
    ("provider.heartbeat", |s, t| begun(&s.begin(t, request(2, "provider.heartbeat", r#"{"last_seq":0}"#)))),
    ("heartbeat as a notification", |s, t| {
        let mut heartbeat = request(2, "provider.heartbeat", "{}");
        heartbeat.id = None;
        begun(&s.begin(t, heartbeat))
    }),
    ("call.drop as a notification", |s, t| {
        let mut drop = request(2, "call.drop", DROP);
        drop.id = None;
        begun(&s.begin(t, drop))
    }),
    ("reply to r1", |s, _| format!("first {}", s.reply(device_model::RequestToken(1), Ok(rpc::raw(&2))))),
    ("event", |s, _| format!("{:?}", s.event(&event()))),
    ("time 4.999 s", |s, t| timed(s.timeout(t + Duration::from_millis(4_999), wall()))),
    ("time 5 s", |s, t| timed(s.timeout(t + seconds(5), wall()))),
    ("time 10 s", |s, t| timed(s.timeout(t + seconds(10), wall()))),
    ("its connection is lost", |s, t| s.detach(t, ONE).map_or("nothing", fated).into()),
    ("another connection is lost", |s, t| s.detach(t, TWO).map_or("nothing", fated).into()),
    ("attach on another connection", |s, t| {
        format!("superseded {:?}", s.attach(t, TWO, 0, Frame::whole(b"{\"result\":0}".to_vec())))
    }),
];

#[test]
fn session_machine() {
    let mut table = String::new();
    for (state, prepare) in SESSION_STATES {
        writeln!(table, "{state}").expect("a String");
        for (event, apply) in SESSION_EVENTS {
            let now = start();
            let mut session = session(config(), now);
            prepare(&mut session, now);
            let before = session.queued();
            let said = apply(&mut session, now);
            let queued = session.queued() as i64 - before as i64;
            let link = match session.connection() {
                Some(connection) if session.is_slow() => format!("{connection:?}, slow"),
                Some(connection) => format!("{connection:?}"),
                None => "held".into(),
            };
            writeln!(table, "  {event:34} {said:30} queued {queued:+3}  {link}").expect("a String");
        }
    }
    insta::assert_snapshot!(table);
}
