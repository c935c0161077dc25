//! Whatever is cut and wherever: a client that resumes sees 1, 2, 3, … without gap or double.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    /// So many events happen.
    Events(u8),
    /// So many frames reach the client.
    Deliver(u8),
    /// The connection breaks: what was polled and not read is lost.
    Cut { lost: u8 },
    /// The client comes back, or takes the session over.
    Resume,
    /// The client says what it has.
    Heartbeat,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1u8..30).prop_map(Act::Events),
        any::<u8>().prop_map(Act::Deliver),
        (0u8..20).prop_map(|lost| Act::Cut { lost }),
        Just(Act::Resume),
        Just(Act::Heartbeat),
    ]
}

struct Client {
    connection: u64,
    seen: Vec<u64>,
    overrun: bool,
}

impl Client {
    fn last(&self) -> u64 {
        self.seen.last().copied().unwrap_or(0)
    }

    fn resume(&mut self, session: &mut Session, now: Instant) {
        match session.can_resume(self.last()) {
            Ok(true) => {
                self.connection += 1;
                session.attach(now, ConnectionId(self.connection), self.last(), Frame::whole(b"{}".to_vec()));
            }
            Ok(false) => self.overrun = true,
            Err(error) => panic!("it only claims what it has: {error}"),
        }
    }

    fn apply(&mut self, session: &mut Session, act: &Act, now: Instant) {
        match act {
            Act::Events(n) => {
                for _ in 0..*n {
                    session.event(&event());
                }
                if session.is_slow() {
                    session.detach(now, ConnectionId(self.connection));
                }
            }
            Act::Deliver(n) => {
                for _ in 0..*n {
                    self.read(session, now, true);
                }
            }
            Act::Cut { lost } => {
                for _ in 0..*lost {
                    self.read(session, now, false);
                }
                session.detach(now, ConnectionId(self.connection));
            }
            Act::Resume => self.resume(session, now),
            Act::Heartbeat => {
                let heartbeat =
                    request(1, "provider.heartbeat", &format!(r#"{{"last_seq":{}}}"#, self.last()));
                if session.connection().is_some() {
                    session.begin(now, heartbeat);
                }
            }
        }
    }

    fn read(&mut self, session: &mut Session, now: Instant, arrives: bool) {
        let Some(frame) = session.poll_frame(now) else { return };
        let value: serde_json::Value = serde_json::from_slice(&frame.to_vec()).expect("JSON");
        if let (Some(seq), true) = (value["params"]["seq"].as_u64(), arrives) {
            self.seen.push(seq);
        }
    }
}

proptest! {
    #[test]
    fn a_client_that_resumes_sees_every_event_once_and_in_order(acts in proptest::collection::vec(act(), 1..80)) {
        let now = start();
        let mut session = session(config(), now);
        let mut client = Client { connection: 1, seen: Vec::new(), overrun: false };
        for act in &acts {
            client.apply(&mut session, act, now);
            if client.overrun {
                break;
            }
        }
        if !client.overrun {
            client.resume(&mut session, now);
        }
        if client.overrun {
            prop_assert!(session.last_seq() - client.last() > 100, "overrun only when the log could not hold it");
        } else {
            client.apply(&mut session, &Act::Deliver(255), now);
            prop_assert_eq!(client.last(), session.last_seq());
        }
        let expected: Vec<u64> = (1..=client.last()).collect();
        prop_assert_eq!(client.seen, expected);
    }

    #[test]
    fn no_frame_makes_a_session_panic_or_go_without_an_answer(texts in proptest::collection::vec(any_request(), 1..40)) {
        let now = start();
        let mut session = session(SessionConfig { queue_events: 1000, pending_requests: 1000, ..config() }, now);
        let mut tokens = Vec::new();
        let mut asked = 0;
        for text in &texts {
            if let Ok(request) = rpc::parse_request(text.as_bytes()) {
                asked += usize::from(request.id.is_some());
                if let Begin::Execute { token, .. } = session.begin(now, request) {
                    tokens.push(token);
                }
            }
        }
        for token in tokens {
            prop_assert!(session.reply(token, Ok(rpc::raw(&()))));
        }
        prop_assert_eq!(session.queued(), asked);
        prop_assert_eq!(session.pending(), 0);
    }
}

/// Requests that are often nearly right.
fn any_request() -> impl Strategy<Value = String> {
    let id = prop_oneof![Just(r#""id":1,"#), Just(r#""id":"a","#), Just("")];
    let method = prop_oneof![
        Just("call.drop"),
        Just("call.make"),
        Just("device.open"),
        Just("provider.heartbeat"),
        Just("provider.open"),
        Just("nothing.such"),
    ];
    let param = prop_oneof![
        Just(r#""leg":"l1""#),
        Just(r#""leg":7"#),
        Just(r#""device":"P""#),
        Just(r#""destination":"1""#),
        Just(r#""idem":"a""#),
        Just(r#""idem":"b""#),
        Just(r#""last_seq":3"#),
    ];
    (id, method, proptest::collection::vec(param, 0..4)).prop_map(|(id, method, params)| {
        format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}","params":{{{}}}}}"#, params.join(","))
    })
}
