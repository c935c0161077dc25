//! One application's life on the wire, both machines together, as a snapshot that reads like a log.

use super::*;
use crate::methods::{NotResumed, ProviderOpen, ProviderOpened};
use std::collections::BTreeMap;

/// The least of a node: it grants every open and answers every request with `{}` and one event.
struct Server {
    now: Instant,
    begun: Instant,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: Sessions,
    opened: u64,
    story: Vec<String>,
}

impl Server {
    fn new() -> Self {
        let now = start();
        Self {
            now,
            begun: now,
            connections: BTreeMap::new(),
            sessions: Sessions::new(),
            opened: 0,
            story: Vec::new(),
        }
    }

    fn tell(&mut self, text: String) {
        self.story.push(format!("{:>5} ms  {text}", (self.now - self.begun).as_millis()));
    }

    fn accept(&mut self, n: u64) -> ConnectionId {
        self.connections.insert(ConnectionId(n), Connection::new(self.now));
        self.tell(format!("{n}    connected"));
        ConnectionId(n)
    }

    fn send(&mut self, from: ConnectionId, line: &str) {
        self.tell(format!("{} → {line}", from.0));
        let connection = self.connections.get_mut(&from).expect("connected");
        match connection.frame(line.as_bytes()) {
            Step::Ignored => {}
            Step::Answer(frame) => self.write(from, &frame),
            Step::Open(open) => self.open(from, &open),
            Step::SessionAnswer(id, frame) => self.sessions.get_mut(id).expect("lives").push(self.now, frame),
            Step::Request(id, request) => {
                let mut session = self.sessions.get_mut(id).expect("lives");
                if let Begin::Execute { token, .. } = session.begin(self.now, request) {
                    session.reply(token, Ok(rpc::raw(&crate::methods::Empty {})));
                    session.event(&event());
                }
            }
        }
        self.flush();
    }

    fn open(&mut self, from: ConnectionId, open: &ProviderOpen) {
        let user = open.user.as_str();
        let wish = open
            .resume
            .as_ref()
            .map(|r| (r.last_seq, self.sessions.resume(self.now, r.session, user, r.last_seq)));
        let connection = self.connections.get_mut(&from).expect("connected");
        match wish {
            Some((_, Resume::Refused(error))) => {
                let frame = connection.refused(&error).expect("was opening");
                self.write(from, &frame);
            }
            Some((last_seq, Resume::Yes(id))) => {
                let request = connection.opened(id).expect("was opening");
                let reply = rpc::result_frame(&request, &rpc::raw(&answer(id, None, Some(last_seq))));
                let superseded =
                    self.sessions.get_mut(id).expect("lives").attach(self.now, from, last_seq, reply);
                if let Some(old) = superseded {
                    let frame = self.connections.get_mut(&old).and_then(|c| c.supersede(wall()));
                    self.write(old, &frame.expect("was open"));
                }
            }
            Some((_, Resume::No(why))) => self.start(from, Some(why)),
            None => self.start(from, None),
        }
    }

    fn start(&mut self, from: ConnectionId, why: Option<NotResumed>) {
        self.opened += 1;
        let id = SessionId(self.opened);
        let request = self.connections.get_mut(&from).and_then(|c| c.opened(id)).expect("was opening");
        let reply = rpc::result_frame(&request, &rpc::raw(&answer(id, why, None)));
        self.sessions.open(self.now, id, config(), from, reply);
    }

    fn lose(&mut self, connection: ConnectionId) {
        self.tell(format!("{}    lost", connection.0));
        let id = self.connections.remove(&connection).and_then(|c| c.session()).expect("had a session");
        self.sessions.get_mut(id).expect("lives").detach(self.now, connection);
    }

    fn happen(&mut self, events: u32) {
        self.tell(format!("     {events} events happen"));
        let ids: Vec<SessionId> = self.sessions.iter().map(Session::id).collect();
        for id in ids {
            let mut session = self.sessions.get_mut(id).expect("lives");
            (0..events).for_each(|_| assert_ne!(session.event(&event()), Delivery::Filtered));
        }
        self.flush();
    }

    /// Lets time pass up to there, from one due time to the next.
    fn wait_until(&mut self, milliseconds: u64) {
        let until = self.begun + Duration::from_millis(milliseconds);
        while let Some(at) = self.next_timeout().filter(|at| *at <= until) {
            self.now = at;
            let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
            for id in ids {
                if let Some(frame) = self.connections.get_mut(&id).and_then(|c| c.timeout(at, wall())) {
                    self.write(id, &frame);
                }
            }
            while let Some((id, said)) = self.sessions.timeout(at, wall()) {
                self.timed_out(id, said);
            }
            self.flush();
        }
        self.now = until;
    }

    fn timed_out(&mut self, id: SessionId, said: SessionTimeout) {
        match said {
            SessionTimeout::Heartbeat => {}
            SessionTimeout::Silent { connection, .. } => {
                let close = crate::event::CloseReason::HeartbeatTimeout;
                let frame = self.connections.get_mut(&connection).and_then(|c| c.close(close, wall()));
                self.write(connection, &frame.expect("was open"));
            }
            SessionTimeout::GraceOver => {
                self.tell(format!("     {id} has failed"));
                self.sessions.end(self.now, id).expect("lives");
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let connections = self.connections.values().filter_map(Connection::next_timeout);
        connections.chain(self.sessions.next_timeout()).min()
    }

    fn flush(&mut self) {
        let attached: Vec<_> = self.sessions.iter().filter_map(|s| Some((s.id(), s.connection()?))).collect();
        for (id, connection) in attached {
            while let Some(frame) = self.sessions.get_mut(id).and_then(|mut s| s.poll_frame(self.now)) {
                self.write(connection, &frame);
            }
        }
    }

    fn write(&mut self, to: ConnectionId, frame: &Frame) {
        let short = text(frame)
            .replace(r#""jsonrpc":"2.0","#, "")
            .replace(r#""time":"2026-11-20T20:01:02.123Z","#, "");
        self.tell(format!("{} ← {short}", to.0));
    }
}

fn answer(session: SessionId, reason: Option<NotResumed>, after: Option<u64>) -> ProviderOpened {
    ProviderOpened {
        session,
        resumed: after.is_some(),
        reason,
        next_seq: after.map_or(1, |seq| seq + 1),
        heartbeat_ms: 5000,
        resume_grace_ms: 10_000,
        node: "cm1".into(),
        cluster: "hq".into(),
        ctimanagers: Vec::new(),
        device_count: 1,
        privileges: crate::wire::Privileges::default(),
    }
}

fn open_line(resume: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{{"user":"ivr","application":"a"{resume}}}}}"#
    )
}

#[test]
fn an_application_comes_goes_and_comes_back() {
    let mut server = Server::new();
    let drop_leg = |id: u32| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"call.drop","params":{{"leg":"l1","idem":"d"}}}}"#)
    };

    let one = server.accept(1);
    server.send(one, &drop_leg(1));
    server.send(one, "nonsense");
    server.send(one, &open_line(""));
    server.send(one, &open_line(""));
    server.send(one, &drop_leg(2));
    server.wait_until(7_000);
    server.lose(one);
    server.happen(2);

    server.wait_until(8_000);
    let two = server.accept(2);
    server.send(two, &open_line(r#","resume":{"session":"s1","last_seq":9}"#));
    server.send(two, &open_line(r#","resume":{"session":"s1","last_seq":1}"#));
    server.send(two, &drop_leg(3));
    let three = server.accept(3);
    server.send(three, &open_line(r#","resume":{"session":"s1","last_seq":3}"#));
    server.happen(1);

    server.accept(4);
    server.wait_until(40_000);
    let five = server.accept(5);
    server.send(five, &open_line(r#","resume":{"session":"s1","last_seq":4}"#));
    insta::assert_snapshot!(server.story.join("\n"));
}
