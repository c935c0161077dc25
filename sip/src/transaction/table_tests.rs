//! The state × event tables of both machines, as snapshots for a reviewer to read.

use super::client::{self, Cancel, Client};
use super::key::{ClientKey, ServerKey};
use super::server::{self, Server};
use super::*;
use crate::message::Uri;
use std::fmt::Write as _;

/// A machine in each of its states meets each event; what it becomes and what it wants done.
struct Setting {
    now: Instant,
    later: Instant,
    settings: Settings,
}

impl Setting {
    #[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
    fn new() -> Self {
        let now = Instant::now();
        let t1 = Duration::from_millis(500);
        let settings = Settings {
            t1,
            max: 1,
            max_bytes_per_address: 1 << 20,
            listen: Vec::new(),
            advertised: [].into(),
            product: "x".into(),
        };
        Self { now, later: now + Duration::from_secs(9), settings }
    }

    fn server_states(&self) -> Vec<(&'static str, server::State)> {
        use server::State;
        let until = self.later;
        let last = || Arc::from(*b"last");
        let (again, interval) = (Some(self.now), self.settings.t1);
        vec![
            ("InviteProceeding, nothing said", State::InviteProceeding { last: None }),
            ("InviteProceeding, 1xx said", State::InviteProceeding { last: Some(last()) }),
            ("InviteCompleted", State::InviteCompleted { last: last(), again, interval, give_up: until }),
            (
                "InviteCompleted, Timer H due",
                State::InviteCompleted { last: last(), again, interval, give_up: self.now },
            ),
            ("InviteConfirmed", State::InviteConfirmed { until }),
            ("InviteAccepted", State::InviteAccepted { until }),
            ("Trying, nothing said", State::Trying { last: None, give_up: until }),
            ("Trying, 1xx said", State::Trying { last: Some(last()), give_up: until }),
            ("Completed", State::Completed { last: last(), until }),
        ]
    }

    fn client_states(&self) -> Vec<(&'static str, client::State, Cancel)> {
        use client::State;
        let until = self.later;
        let (again, interval) = (Some(self.now), self.settings.t1);
        let waiting = |give_up| State::Waiting { again, interval, give_up };
        vec![
            ("Waiting", waiting(until), Cancel::No),
            ("Waiting, shall be cancelled", waiting(until), Cancel::Wanted { reason: None }),
            ("Waiting, Timer B or F due", waiting(self.now), Cancel::No),
            ("InviteProceeding", State::InviteProceeding, Cancel::No),
            ("InviteProceeding, CANCEL sent", State::InviteProceeding, Cancel::Sent { give_up: self.now }),
            ("Proceeding", State::Proceeding { again, give_up: until }, Cancel::No),
            ("InviteAccepted", State::InviteAccepted { until }, Cancel::No),
            ("InviteCompleted", State::InviteCompleted { ack: Arc::from(*b"ack"), until }, Cancel::No),
            ("Completed", State::Completed { until }, Cancel::No),
        ]
    }
}

fn hop(transport: Transport) -> Hop {
    let address = "192.0.2.1:5060".parse().unwrap();
    Hop { transport, local: address, remote: address, connection: None }
}

/// The name of a state or a step, without what is in it.
fn name(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
}

fn server(transport: Transport, state: server::State) -> Server {
    let via = Via::read("SIP/2.0/UDP h;branch=z9hG4bKa").unwrap();
    let request = Request::new(Method::Invite, Uri::sip("a", "h", None));
    let key = ServerKey::of(&request, &via, &CSeq { number: 1, method: Method::Invite }, &hop(transport));
    Server {
        key,
        merge: None,
        via,
        hop: hop(transport),
        tag: None,
        cancelled: false,
        state,
        weight: 0,
        due: None,
    }
}

fn client(transport: Transport, state: client::State, cancel: Cancel) -> Client {
    let request = Box::new(Request::new(Method::Invite, Uri::sip("a", "h", None)));
    let key = ClientKey { branch: "z9hG4bKa".into(), method: Method::Invite };
    let bytes = Arc::from(*b"request");
    Client {
        key,
        hop: hop(transport),
        request,
        bytes,
        cancel,
        internal: false,
        renewed: false,
        sent_anew: false,
        state,
        due: None,
    }
}

#[test]
fn server_table() {
    type Event = (&'static str, fn(&mut Server, &Setting) -> Option<server::Step>);
    fn say(server: &mut Server, setting: &Setting, status: u16) -> Option<server::Step> {
        server.answered(setting.now, status, &Arc::from(*b"new"), &setting.settings)
    }
    let events: [Event; 6] = [
        ("request again", |server, _| Some(server.repeated())),
        ("ACK", |server, setting| Some(server.acknowledged(setting.now))),
        ("TU says 1xx", |server, setting| say(server, setting, 180)),
        ("TU says 2xx", |server, setting| say(server, setting, 200)),
        ("TU says 3xx-6xx", |server, setting| say(server, setting, 486)),
        ("time", |server, setting| Some(server.timeout(setting.now))),
    ];
    let setting = Setting::new();
    let mut table = String::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        for (label, state) in setting.server_states() {
            let _ = writeln!(table, "{transport:?}: {label}");
            for (event, apply) in &events {
                let mut server = server(transport, state.clone());
                let step = apply(&mut server, &setting).map_or("too late".to_owned(), |step| name(&step));
                let _ = writeln!(table, "    {event:<16}{:<17}{step}", name(&server.state));
            }
        }
    }
    insta::assert_snapshot!("server", table);
}

#[test]
fn client_table() {
    type Event = (&'static str, fn(&mut Client, &Setting) -> client::Step);
    let events: [Event; 8] = [
        ("INVITE: 1xx", |client, setting| client.invite_response(setting.now, 180, &setting.settings)),
        ("INVITE: 2xx", |client, setting| client.invite_response(setting.now, 200, &setting.settings)),
        ("INVITE: 3xx-6xx", |client, setting| client.invite_response(setting.now, 486, &setting.settings)),
        ("INVITE: time", |client, setting| client.timeout(setting.now)),
        ("other: 1xx", |client, setting| client.response(setting.now, 180)),
        ("other: 2xx", |client, setting| client.response(setting.now, 200)),
        ("other: 3xx-6xx", |client, setting| client.response(setting.now, 486)),
        ("other: time", |client, setting| {
            client.key.method = Method::Options;
            client.timeout(setting.now)
        }),
    ];
    let setting = Setting::new();
    let mut table = String::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        for (label, state, cancel) in setting.client_states() {
            let _ = writeln!(table, "{transport:?}: {label}");
            for (event, apply) in &events {
                let mut client = client(transport, state.clone(), cancel.clone());
                let step = apply(&mut client, &setting);
                let _ = writeln!(table, "    {event:<16}{:<17}{}", name(&client.state), name(&step));
            }
        }
    }
    insta::assert_snapshot!("client", table);
}
