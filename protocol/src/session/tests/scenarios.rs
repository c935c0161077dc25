//! One thing after another: what the contract promises of a session, told as it happens.

use super::*;
use crate::error::Symbol;
use crate::methods::NotResumed;
use device_model::RequestToken;

fn execute(begin: Begin) -> RequestToken {
    let Begin::Execute { token, .. } = begin else { panic!("not executed: {begin:?}") };
    token
}

fn tell(session: &mut Session, events: u32) {
    for _ in 0..events {
        session.event(&event());
    }
}

fn drop_leg(id: u64, idem: &str) -> Request {
    request(id, "call.drop", &format!(r#"{{"leg":"l1","idem":"{idem}"}}"#))
}

#[test]
fn a_reply_stands_before_the_events_that_follow_it() {
    let now = start();
    let mut session = session(config(), now);
    let token = execute(session.begin(now, request(1, "call.drop", r#"{"leg":"l1"}"#)));
    session.reply(token, Ok(rpc::raw(&())));
    session.event(&event());
    let out = frames(&mut session, now);
    assert_eq!(out[0], r#"{"jsonrpc":"2.0","id":1,"result":null}"#);
    assert!(out[1].contains(r#""seq":1,"#), "{}", out[1]);
    assert!(!session.reply(token, Ok(rpc::raw(&()))), "one answer, no more");
}

#[test]
fn what_the_subscription_filters_takes_no_number() {
    let now = start();
    let mut session = session(SessionConfig { subscription: subscribe(&["call.*"]), ..config() }, now);
    assert_eq!(session.event(&event()), Delivery::Filtered);
    assert_eq!(session.last_seq(), 0);
    session.renegotiate(seconds(5), seconds(10), Some(subscribe(&["provider.*"])));
    assert_eq!(session.event(&event()), Delivery::Queued(1));
}

#[test]
fn a_repeat_gets_the_first_answer_also_an_error_and_after_a_resume() {
    let now = start();
    let mut session = session(config(), now);
    let token = execute(session.begin(now, drop_leg(1, "a")));
    assert!(matches!(session.begin(now, drop_leg(2, "a")), Begin::Joined));
    session.reply(token, Err(CtiError::new(Symbol::NoSuchLeg, "gone")));
    let answers = frames(&mut session, now);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1], answers[0].replace("\"id\":1", "\"id\":2"));

    session.detach(now, ONE);
    session.attach(now, TWO, 0, Frame::whole(b"resumed".to_vec()));
    assert!(matches!(session.begin(now, drop_leg(3, "a")), Begin::Replayed));
    assert_eq!(frames(&mut session, now)[1], answers[0].replace("\"id\":1", "\"id\":3"));
}

#[test]
fn an_answer_goes_to_the_connection_that_asked_and_nowhere_else() {
    let now = start();
    let mut session = session(config(), now);
    let token = execute(session.begin(now, drop_leg(1, "a")));
    session.attach(now, TWO, 0, Frame::whole(b"resumed".to_vec()));
    assert!(matches!(session.begin(now, drop_leg(9, "a")), Begin::Joined), "still being carried out");
    session.reply(token, Ok(rpc::raw(&())));
    assert_eq!(frames(&mut session, now), ["resumed", r#"{"jsonrpc":"2.0","id":9,"result":null}"#]);
}

#[test]
fn rate_limited_is_no_answer() {
    let now = start();
    let mut session = session(config(), now);
    let token = execute(session.begin(now, drop_leg(1, "a")));
    session.reply(token, Err(busy()));
    let again = execute(session.begin(now, drop_leg(2, "a")));
    assert_ne!(again, token);
}

#[test]
fn a_refusal_of_form_is_an_answer_too() {
    let now = start();
    let mut session = session(config(), now);
    let wrong = |id| request(id, "call.reject", r#"{"leg":"l1","cause":0,"idem":"a"}"#);
    assert!(matches!(session.begin(now, wrong(1)), Begin::Refused(Symbol::InvalidParams)));
    assert!(matches!(session.begin(now, wrong(2)), Begin::Replayed));
    let out = frames(&mut session, now);
    assert_eq!(out[1], out[0].replace("\"id\":1", "\"id\":2"));
    let mended = request(3, "call.reject", r#"{"leg":"l1","cause":17,"idem":"a"}"#);
    assert!(matches!(session.begin(now, mended), Begin::Refused(Symbol::InvalidParams)));
    assert!(frames(&mut session, now)[0].contains(r#""field":"idem""#));
}

#[test]
fn the_last_keys_are_kept_and_no_more() {
    let now = start();
    let mut session = session(config(), now);
    for n in 0..5 {
        let token = execute(session.begin(now, drop_leg(n, &format!("key {n}"))));
        session.reply(token, Ok(rpc::raw(&())));
    }
    for n in 1..5 {
        assert!(matches!(session.begin(now, drop_leg(n, &format!("key {n}"))), Begin::Replayed), "{n}");
    }
    execute(session.begin(now, drop_leg(9, "key 0")));
}

#[test]
fn a_key_has_64_bytes_at_most() {
    let now = start();
    let mut session = session(config(), now);
    execute(session.begin(now, drop_leg(1, &"k".repeat(64))));
    let beyond = session.begin(now, drop_leg(2, &"k".repeat(65)));
    assert!(matches!(beyond, Begin::Refused(Symbol::InvalidParams)));
    assert!(frames(&mut session, now)[0].contains(r#""field":"idem""#));
}

#[test]
fn too_many_requests_at_once_are_told_to_wait() {
    let now = start();
    let mut session = session(config(), now);
    let tokens: Vec<_> = (0..3).map(|n| execute(session.begin(now, drop_leg(n, &n.to_string())))).collect();
    assert!(matches!(session.begin(now, drop_leg(7, "x")), Begin::Refused(Symbol::RateLimited)));
    assert!(
        matches!(session.begin(now, drop_leg(8, "0")), Begin::Refused(Symbol::RateLimited)),
        "joining counts"
    );
    assert!(frames(&mut session, now)[0].contains(r#""retry_after_ms":100"#));
    session.reply(tokens[0], Ok(rpc::raw(&())));
    execute(session.begin(now, drop_leg(9, "x")));
}

#[test]
fn a_full_queue_is_slow_and_nothing_of_it_is_lost_to_a_resume() {
    let now = start();
    let mut session = session(config(), now);
    let delivered = (0..60).filter(|_| matches!(session.event(&event()), Delivery::Queued(_))).count();
    assert_eq!((delivered, session.is_slow(), session.queued()), (50, true, 50));
    let seen = seqs(&mut session, now);
    assert_eq!(session.event(&event()), Delivery::Overflow(61), "no gap, even when the reader wakes up");
    assert_eq!(session.detach(now, ONE), Some(Fate::HeldUntil(now + seconds(10))));
    assert_eq!(session.can_resume(50), Ok(true));
    session.attach(now, TWO, 50, Frame::whole(b"resumed".to_vec()));
    let replayed = seqs(&mut session, now);
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
    assert_eq!(replayed[1..], (51..=61).collect::<Vec<_>>());
    assert!(!session.is_slow());
}

#[test]
fn a_replay_longer_than_the_queue_is_not_slow() {
    let now = start();
    let mut session = session(config(), now);
    session.detach(now, ONE);
    (0..80).for_each(|_| assert!(matches!(session.event(&event()), Delivery::Logged(_))));
    session.attach(now, TWO, 0, Frame::whole(b"resumed".to_vec()));
    assert_eq!(session.event(&event()), Delivery::Queued(81));
    let order = seqs(&mut session, now);
    assert_eq!(order, (0..=81).collect::<Vec<_>>(), "the reply, the replay, what is new");
}

#[test]
fn the_log_is_bounded_by_count_and_by_bytes_and_trimmed_by_the_client() {
    let now = start();
    let mut by_count = session(SessionConfig { log_events: 3, ..config() }, now);
    tell(&mut by_count, 5);
    assert_eq!((by_count.can_resume(1), by_count.can_resume(2)), (Ok(false), Ok(true)));
    let never = by_count.can_resume(6).expect_err("never sent");
    assert_eq!((never.symbol, never.data.field.as_deref()), (Symbol::InvalidParams, Some("resume.last_seq")));

    let mut by_bytes = session(SessionConfig { log_bytes: 1000, ..config() }, now);
    tell(&mut by_bytes, 100);
    let (events, bytes) = by_bytes.logged();
    assert!(bytes <= 1000 && events > 0 && events < 100, "{events} {bytes}");

    let mut trimmed = session(config(), now);
    tell(&mut trimmed, 9);
    trimmed.begin(now, request(1, "provider.heartbeat", r#"{"last_seq":4}"#));
    assert_eq!(trimmed.logged().0, 5);
    assert_eq!((trimmed.can_resume(3), trimmed.can_resume(4)), (Ok(false), Ok(true)));
    trimmed.begin(now, request(2, "provider.heartbeat", r#"{"last_seq":900}"#));
    assert_eq!((trimmed.logged(), trimmed.last_seq()), ((0, 0), 9));
    assert_eq!(trimmed.event(&event()), Delivery::Queued(10), "numbers go on");
}

#[test]
fn heartbeats_go_both_ways_and_any_message_counts() {
    let now = start();
    let mut session = session(config(), now);
    assert_eq!(session.next_timeout(), now + seconds(5));
    assert_eq!(session.timeout(now + seconds(5), wall()), Some(SessionTimeout::Heartbeat));
    assert!(frames(&mut session, now + seconds(5))[0].contains("session.heartbeat"));
    session.begin(now + seconds(9), request(1, "provider.devices", "{}"));
    session.event(&event());
    frames(&mut session, now + seconds(9));
    assert_eq!(session.timeout(now + seconds(13), wall()), None, "it was told something at 9 s");
    assert_eq!(session.timeout(now + seconds(14), wall()), Some(SessionTimeout::Heartbeat));
    assert_eq!(
        session.timeout(now + seconds(19), wall()),
        Some(SessionTimeout::Silent { connection: ONE, fate: Fate::HeldUntil(now + seconds(29)) })
    );
    assert_eq!(session.timeout(now + seconds(28), wall()), None);
    assert_eq!(session.timeout(now + seconds(29), wall()), Some(SessionTimeout::GraceOver));
}

#[test]
fn a_node_that_stood_still_itself_calls_nobody_silent_before_it_has_read_what_waits() {
    let now = start();
    let mut session = session(config(), now);
    let awake = now + seconds(60);
    assert_eq!(session.timeout(awake, wall()), Some(SessionTimeout::Heartbeat), "not at once");
    assert_eq!(session.next_timeout(), awake + seconds(5), "one interval more, and no longer");
    assert!(matches!(session.timeout(awake + seconds(5), wall()), Some(SessionTimeout::Silent { .. })));

    let mut session = self::session(config(), now);
    session.timeout(awake, wall());
    assert!(
        session.timeout(awake + seconds(60), wall()).is_some_and(|said| said != SessionTimeout::Heartbeat),
        "once"
    );

    let mut session = self::session(config(), now);
    session.timeout(awake, wall());
    session.received(awake);
    let again = awake + seconds(60);
    assert_eq!(session.timeout(again, wall()), Some(SessionTimeout::Heartbeat), "it spoke in between");
}

#[test]
fn the_server_decides_interval_and_grace() {
    let decide = |wish| heartbeat_interval(wish, seconds(5), seconds(60));
    assert_eq!(decide(None), seconds(30));
    assert_eq!(decide(Some(1)), seconds(5));
    assert_eq!(decide(Some(7_000)), seconds(7));
    assert_eq!(decide(Some(u64::MAX)), seconds(60));
    assert!(heartbeat_interval(Some(0), Duration::ZERO, seconds(1)) > Duration::ZERO);
    assert_eq!(grace(None, seconds(20), seconds(5)), seconds(20));
    assert_eq!(grace(Some(60_000), seconds(0), seconds(30)), seconds(30));
    assert_eq!(grace(Some(0), seconds(20), seconds(30)), Duration::ZERO);
}

fn registry(now: Instant) -> Sessions {
    let mut sessions = Sessions::new();
    sessions.open(now, SESSION, config(), ONE, Frame::whole(b"opened".to_vec()));
    sessions
}

#[test]
fn only_its_user_resumes_a_session_and_only_while_it_lives() {
    let now = start();
    let mut sessions = registry(now);
    let no = |reason| Resume::No(reason);
    assert_eq!(sessions.resume(now, Some(SESSION), "ivr", 0), Resume::Yes(SESSION));
    assert_eq!(sessions.resume(now, Some(SESSION), "other", 0), no(NotResumed::UnknownSession));
    assert_eq!(sessions.resume(now, Some(SessionId(9)), "ivr", 0), no(NotResumed::UnknownSession));
    assert_eq!(sessions.resume(now, None, "ivr", 0), no(NotResumed::UnknownSession));
    assert!(matches!(sessions.resume(now, Some(SESSION), "ivr", 1), Resume::Refused(_)));
    assert_eq!(sessions.of_user("ivr").collect::<Vec<_>>(), [SESSION]);

    sessions.end(now, SESSION).expect("lives");
    assert!(sessions.is_empty() && sessions.next_timeout().is_none());
    assert_eq!(sessions.of_user("ivr").count(), 0);
    assert_eq!(sessions.resume(now, Some(SESSION), "ivr", 0), no(NotResumed::Expired));
    assert_eq!(sessions.resume(now, Some(SESSION), "other", 0), no(NotResumed::UnknownSession));
    let later = now + REMEMBER_ENDED;
    assert_eq!(sessions.resume(later, Some(SESSION), "ivr", 0), no(NotResumed::UnknownSession));
}

#[test]
fn the_memory_of_ended_sessions_is_bounded() {
    let now = start();
    let mut sessions = Sessions::new();
    for n in 0..=MAX_ENDED as u64 {
        sessions.open(now, SessionId(n), config(), ONE, Frame::whole(Vec::new()));
        sessions.end(now, SessionId(n)).expect("lives");
    }
    let ended = |s: &mut Sessions, n| s.resume(now, Some(SessionId(n)), "ivr", 0);
    assert_eq!(ended(&mut sessions, 0), Resume::No(NotResumed::UnknownSession));
    assert_eq!(ended(&mut sessions, 1), Resume::No(NotResumed::Expired));
}

#[test]
fn a_log_that_was_overrun_refuses_a_resume() {
    let now = start();
    let mut sessions = Sessions::new();
    let small = SessionConfig { log_events: 2, ..config() };
    sessions.open(now, SESSION, small, ONE, Frame::whole(Vec::new()));
    let mut session = sessions.get_mut(SESSION).expect("lives");
    tell(&mut session, 3);
    drop(session);
    assert_eq!(sessions.resume(now, Some(SESSION), "ivr", 0), Resume::No(NotResumed::LogOverrun));
    assert_eq!(sessions.resume(now, Some(SESSION), "ivr", 1), Resume::Yes(SESSION));
}

#[test]
fn the_table_of_timers_finds_each_session_in_its_time() {
    let now = start();
    let mut sessions = registry(now);
    let second = SessionConfig { grace: seconds(1), ..config() };
    sessions.open(now, SessionId(2), second, TWO, Frame::whole(Vec::new()));
    assert_eq!(sessions.next_timeout(), Some(now + seconds(5)));

    // A loss brings the session's next time forward.
    let at = now + seconds(2);
    sessions.get_mut(SessionId(2)).expect("lives").detach(at, TWO);
    assert_eq!(sessions.next_timeout(), Some(now + seconds(3)));
    assert_eq!(sessions.timeout(at, wall()), None);
    let over = sessions.timeout(now + seconds(3), wall());
    assert_eq!(over, Some((SessionId(2), SessionTimeout::GraceOver)));
    assert_eq!(sessions.timeout(now + seconds(3), wall()), None, "said once, then it is the caller's");
    sessions.end(now + seconds(3), SessionId(2)).expect("lives until it is ended");

    // Traffic pushes it back without touching the table.
    let mut session = sessions.get_mut(SESSION).expect("lives");
    session.event(&event());
    while session.poll_frame(now + seconds(4)).is_some() {}
    drop(session);
    assert_eq!(sessions.next_timeout(), Some(now + seconds(5)));
    assert_eq!(sessions.timeout(now + seconds(5), wall()), None);
    assert_eq!(sessions.next_timeout(), Some(now + seconds(9)));
    assert_eq!(sessions.timeout(now + seconds(9), wall()), Some((SESSION, SessionTimeout::Heartbeat)));
}

#[test]
fn what_a_kept_session_says_adds_up_to_itself_and_a_session_made_of_it_goes_on() {
    let now = start();
    let small = SessionConfig { log_events: 3, idem_keys: 2, ..config() };
    let mut session = session(small.clone(), now);
    session.event(&event());
    assert!(session.changes().is_empty(), "nobody keeps it yet");
    session.begin_keeping();
    let whole = session.changes();
    assert_eq!((whole.head, whole.events.len(), whole.first_seq), (true, 1, None));
    assert!(session.changes().is_empty());
    for id in 0..3 {
        let params = format!(r#"{{"leg":"l{id}","idem":"k{id}"}}"#);
        let Begin::Execute { token, .. } = session.begin(now, request(id, "call.drop", &params)) else {
            panic!("executed")
        };
        session.event(&event());
        session.reply(token, Err(CtiError::new(crate::Symbol::NoSuchLeg, "gone")));
    }
    let changes = session.changes();
    let numbers: Vec<u64> = changes.events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!((changes.first_seq, numbers), (Some(2), vec![2, 3, 4]));
    let answers: Vec<(u64, &str)> = changes.answers.iter().map(|(n, kept)| (*n, &*kept.idem)).collect();
    assert_eq!((changes.first_answer, answers), (Some(2), vec![(2, "k1"), (3, "k2")]));
    session.detach(now, ONE);
    assert!(session.changes().head);

    let memory = Memory {
        first_seq: 2,
        events: changes.events.into_iter().map(|(_, event)| event).collect(),
        answers: changes.answers.into_iter().map(|(_, kept)| kept).collect(),
    };
    let mut again = Session::restore(SESSION, small, memory, now + seconds(4));
    assert_eq!(again.held_until(), Some(now + seconds(4)));
    assert_eq!((again.last_seq(), again.logged().0), (4, 3));
    assert_eq!(again.can_resume(0), Ok(false));
    assert!(again.can_resume(5).is_err());
    again.event(&event());
    again.attach(now, TWO, 3, Frame::whole(b"reply".to_vec()));
    assert_eq!(seqs(&mut again, now), [0, 4, 5]);
    let repeat = again.begin(now, request(9, "call.drop", r#"{"leg":"l2","idem":"k2"}"#));
    assert!(matches!(repeat, Begin::Replayed), "{repeat:?}");
    assert!(frames(&mut again, now)[0].contains("NO_SUCH_LEG"));
}

#[test]
fn ended_sessions_of_an_earlier_process_are_known_for_what_is_left() {
    let now = start();
    let mut sessions = Sessions::new();
    sessions.remember_ended(now, SESSION, "ivr".into(), seconds(5));
    let known: Vec<_> = sessions.ended(now + seconds(2)).map(|(id, _, left)| (id, left)).collect();
    assert_eq!(known, [(SESSION, seconds(3))]);
    let reason = |sessions: &mut Sessions, at| sessions.resume(at, Some(SESSION), "ivr", 0);
    assert_eq!(reason(&mut sessions, now + seconds(4)), Resume::No(NotResumed::Expired));
    assert_eq!(reason(&mut sessions, now + seconds(5)), Resume::No(NotResumed::UnknownSession));
}

#[test]
fn a_replay_is_read_as_it_is_written_and_keeps_its_order_whatever_comes_meanwhile() {
    let now = start();
    let mut session = session(SessionConfig { log_events: 100, queue_events: 1_000, ..config() }, now);
    session.detach(now, ONE);
    tell(&mut session, 100);
    session.attach(now, TWO, 0, Frame::whole(b"resumed".to_vec()));
    let read = |session: &mut Session, n: usize| -> Vec<u64> {
        let next = |_| text(&session.poll_frame(now).expect("a frame waits"));
        (0..n).map(next).map(|frame| seq_of(&frame)).collect()
    };
    assert_eq!(read(&mut session, 11), (0..=10).collect::<Vec<_>>(), "the reply, ten events");
    assert!(session.is_replaying());
    // An answer and new events come behind the replay, although the log gives up what was not written yet.
    let token = execute(session.begin(now, request(7, "provider.devices", "{}")));
    session.reply(token, Ok(rpc::raw(&())));
    tell(&mut session, 95);
    session.begin(now, request(8, "provider.heartbeat", r#"{"last_seq":150}"#));
    assert_eq!((session.queued(), session.logged().0), (90 + 95 + 2, 45));
    assert_eq!(read(&mut session, 90), (11..=100).collect::<Vec<_>>());
    assert!(!session.is_replaying());
    let rest: Vec<u64> = [0].into_iter().chain(101..=195).chain([0]).collect();
    assert_eq!(seqs(&mut session, now), rest);
    assert_eq!(session.can_resume(149), Ok(false), "what was trimmed is gone");
}

#[test]
fn a_snapshot_during_a_replay_holds_what_is_new_and_tells_it_once() {
    let now = start();
    let mut session = session(config(), now);
    session.detach(now, ONE);
    tell(&mut session, 30);
    session.attach(now, TWO, 0, Frame::whole(b"resumed".to_vec()));
    tell(&mut session, 5);
    session.hold();
    tell(&mut session, 10);
    assert_eq!(session.queued(), 1 + 30 + 5);
    session.release();
    tell(&mut session, 1);
    assert_eq!(seqs(&mut session, now), (0..=46).collect::<Vec<_>>());
}

fn seq_of(frame: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(frame).unwrap_or_default();
    value["params"]["seq"].as_u64().unwrap_or(0)
}
