//! The longest step of the owner where much happens at once: phones by the thousand that are lost, a long log that is
//! replayed, thousands of calls at one route point, thousands of sessions that end together. Nothing else happens in it.
//!
//! `cargo bench -p ctimanager --bench steps [NAME]` prints of each the step of the input and the longest of the steps
//! that follow from it.

#![allow(clippy::print_stdout)] // the figures are what it is for

mod wire;

use ctimanager::config;
use ctimanager::node::registrations::{By, Registration, RegistrationNews};
use ctimanager::node::{
    AdminRequest, AdminToken, CtiConnection, CtiTransport, Input, Node, Output, Settings, Surroundings,
    Switch,
};
use sip::{Hop, Transport};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use wire::{address, between, clock};

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";
const MEDIA: &str = r#"{"mode":"static","ip":"127.0.0.1","port":30000,"codecs":["PCMU"]}"#;
const DYNAMIC: &str = r#"{"mode":"dynamic","codecs":["PCMU"]}"#;
/// What the world around the nodes begins with.
const DAYS: Duration = Duration::from_secs(20_000 * 24 * 60 * 60);

/// Calls at one route point, sessions, and events of a log.
const CALLS: u32 = 5_000;
const SESSIONS: u64 = 2_500;
const EVENTS: usize = 100_000;

/// A configuration with so many phones and ports beside one route point.
fn text(phones: u32, ports: u32, hash: &str) -> String {
    let mut devices =
        String::from("  - {name: RP_MAIN, type: route_point, pool: Default, lines: [\"5000\"]}\n");
    for phone in 1..=phones {
        let digest = format!("digest: {{user: p{phone:06}, password: secret}}");
        let _ = writeln!(
            devices,
            "  - {{name: SEP{phone:06}, type: phone, pool: Default, lines: [\"{}\"], {digest}}}",
            200_000 + phone
        );
    }
    if ports > 0 {
        let _ = writeln!(
            devices,
            "  - {{name: \"PORT_[000001-{ports:06}]\", type: cti_port, pool: Default, lines: [\"[600001-{}]\"]}}",
            600_000 + ports
        );
    }
    format!(
        "cluster: {{name: bench, security: {{mode: non_secure}}}}\n\
         service_parameters: {{max_requests_per_second: 1000000, max_requests_per_second_per_user: 10000000, \
         max_requests_per_second_per_address: 10000000, max_cti_connections: 10000, max_cti_connections_per_user: 10000, \
         max_unopened_connections: 10000, max_unopened_connections_per_address: 10000, max_devices_per_provider: 100000, \
         max_devices_per_node: 100000, session_log_events: 1000000, session_log_bytes: 1GiB, max_legs: 100000, \
         max_calls_per_second_per_trunk: 100000, max_calls_per_trunk: 100000, max_calls_per_second_per_line: 100000, \
         max_calls_per_second_per_device: 100000, max_dialog_requests_per_second: 100000}}\n\
         nodes: [{{name: cm1, host: 127.0.0.1, services: [callmanager, ctimanager], \
         sip: {{udp: 5060, tcp: 5060}}, cti: {{tls: 2749}}}}]\n\
         call_manager_groups: [{{name: Default, members: [cm1]}}]\n\
         device_pools: [{{name: Default, call_manager_group: Default}}]\n\
         trunks: [{{name: pstn, host: 127.0.0.1, port: 5070, transport: udp}}]\n\
         devices:\n{devices}\
         users: [{{id: ivr, kind: application_user, password_hash: \"{hash}\", groups: [Standard CTI Enabled], \
         session_resume_grace: 0s, controlled_devices: [RP_MAIN, \"PORT_*\", \"SEP*\"]}}]\n"
    )
}

fn settings(text: &str) -> Arc<Settings> {
    let loaded = config::parse("bench.yaml", text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    let own = |transport| (transport, address(5060));
    let surroundings = Surroundings {
        sip_listen: vec![own(Transport::Udp), own(Transport::Tcp)],
        ..Surroundings::default()
    };
    Arc::new(Settings::of(&loaded.config, &loaded.config.nodes[0], &surroundings))
}

struct Bench {
    node: Node,
    settings: Arc<Settings>,
    now: Instant,
    out: Vec<Output>,
    calls: u32,
}

impl Bench {
    fn new(text: &str) -> Self {
        let settings = settings(text);
        let node = Node::new(settings.clone(), [7; 32], 1);
        Self { node, settings, now: clock(), out: Vec::new(), calls: 0 }
    }

    /// What is kept of sessions and registrations is said, as with a state directory.
    fn keeping(text: &str, registrations: Vec<(u64, Registration)>) -> Self {
        let mut bench = Self::new(text);
        bench.step(Input::Registrations(RegistrationNews::Restored(registrations, None)));
        bench.step(Input::Restored(Box::default(), None));
        bench
    }

    fn provider(&mut self, connection: u64, grace_ms: u64, not_after: Option<u64>) -> String {
        let (connection, peer) = (protocol::session::ConnectionId(connection), address(40_000));
        let transport = CtiTransport::Tls { client_cn: Some("ivr".into()), not_after, serial: None };
        self.step(Input::CtiOpened { connection, peer, transport });
        let open = format!(
            r#"{{"user":"ivr","application":"bench","heartbeat_ms":3600000,"resume_grace_ms":{grace_ms}}}"#
        );
        self.ask(connection, "provider.open", &open);
        let answer = self.said().concat();
        between(&answer, r#""session":""#, "\"").unwrap_or_else(|| panic!("no session: {answer}"))
    }

    fn by_password(&mut self, connection: u64) {
        let (connection, peer) = (protocol::session::ConnectionId(connection), address(40_000));
        let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        self.step(Input::CtiOpened { connection, peer, transport });
        let open = r#"{"user":"ivr","password":"x","application":"bench","heartbeat_ms":3600000}"#;
        self.ask(connection, "provider.open", open);
        self.step(Input::PasswordChecked(connection, true));
    }

    fn open(&mut self, connection: u64, device: &str, media: &str) {
        let media = if media.is_empty() { String::new() } else { format!(r#","media":{media}"#) };
        let connection = protocol::session::ConnectionId(connection);
        self.ask(connection, "device.open", &format!(r#"{{"device":"{device}"{media}}}"#));
        let answer = self.said().concat();
        assert!(answer.contains("\"result\""), "{answer}");
    }

    /// An answered call of the trunk, or one that is only offered.
    fn call(&mut self, connection: u64, number: u32, answer: bool, dynamic: bool) {
        self.calls += 1;
        let (call, connection) = (self.calls, protocol::session::ConnectionId(connection));
        self.hear(wire::invite(number, call));
        let leg = wire::leg(&self.said()).unwrap_or_else(|| panic!("the call is offered: {:?}", self.said()));
        if !answer {
            return;
        }
        self.ask(connection, "call.answer", &format!(r#"{{"leg":"{leg}"}}"#));
        if dynamic {
            let media = format!(r#"{{"leg":"{leg}","ip":"127.0.0.1","port":30000}}"#);
            self.ask(connection, "call.set_media", &media);
        }
        self.hear(wire::ack(number, call, &self.said()));
    }

    fn hear(&mut self, text: String) {
        self.step(Input::Sip { hop: wire::hop(), bytes: text.into_bytes() });
    }

    fn ask(&mut self, connection: CtiConnection, method: &str, params: &str) {
        self.step(Input::CtiFrame(connection, request(method, params)));
    }

    fn said(&self) -> Vec<String> {
        wire::said(&self.out)
    }

    fn step(&mut self, input: Input) -> (Duration, usize) {
        self.out.clear();
        let begin = clock();
        let wall = SystemTime::UNIX_EPOCH + DAYS;
        self.node.handle(self.now, wall, input, &mut self.out);
        let took = begin.elapsed();
        (
            took,
            self.out.iter().filter(|output| matches!(output, Output::Cti(..) | Output::Sip { .. })).count(),
        )
    }

    /// An input and what follows from it within `within`.
    fn measure(&mut self, what: &str, input: Input, within: Duration) {
        let begin = self.now;
        let (took, mut told) = self.step(input);
        let (mut longest, mut last, mut steps) = (Duration::ZERO, begin, 0);
        let end = self.now + within;
        while let Some(at) = self.node.next_timeout().filter(|at| *at < end) {
            self.now = self.now.max(at);
            let (took, more) = self.step(Input::Timeout);
            (longest, told, steps) = (longest.max(took), told + more, steps + 1);
            if more > 0 {
                last = self.now;
            }
        }
        let (took, longest) = (took.as_secs_f64() * 1e3, longest.as_secs_f64() * 1e3);
        println!(
            "  {what:62} {took:8.2} ms {longest:8.2} ms {told:7} told in {:5.2} s, {steps} steps",
            last.saturating_duration_since(begin).as_secs_f64()
        );
    }

    fn request(&mut self, what: &str, connection: u64, method: &str, params: &str) {
        let connection = protocol::session::ConnectionId(connection);
        self.measure(what, Input::CtiFrame(connection, request(method, params)), Duration::from_secs(3));
    }
}

fn request(method: &str, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#).into_bytes()
}

/// Phones behind one edge that is dialled over TCP, or each by itself over UDP; all of them end at the same time.
fn registered(phones: u32, transport: By) -> Vec<(u64, Registration)> {
    let registration = |phone: u32| Registration {
        account: format!("SEP{phone:06}").into(),
        number: (200_000 + phone).to_string().into(),
        contact: format!("sip:{}@127.0.0.1:5099", 200_000 + phone),
        q: 1_000,
        path: Vec::new(),
        call_id: format!("{phone}"),
        cseq: 1,
        instance: None,
        transport,
        remote: address(5_099),
        expires: u64::try_from((DAYS + Duration::from_secs(600)).as_millis()).expect("a time"),
    };
    (1..=phones).map(|phone| (u64::from(phone), registration(phone))).collect()
}

fn lost_phones(phones: u32) {
    let text = text(phones, 0, HASH);
    for (what, transport) in [("expire", By::Udp), ("are lost with their edge", By::Tcp)] {
        let mut bench = Bench::keeping(&text, registered(phones, transport));
        bench.provider(1, 0, None);
        for phone in 1..=phones {
            bench.open(1, &format!("SEP{phone:06}"), "");
        }
        let what = format!("{phones} open phones {what}");
        match transport {
            By::Udp => {
                bench.now += Duration::from_secs(600);
                bench.measure(&what, Input::Timeout, Duration::from_secs(10));
            }
            By::Tcp | By::Tls => {
                let (local, remote) = (address(5_060), address(5_099));
                let hop = Hop { transport: Transport::Tcp, local, remote, connection: None };
                bench.measure(&what, Input::SipUnreachable(hop), Duration::from_secs(10));
            }
        }
    }
}

fn replay() {
    for keeping in [false, true] {
        let mut bench = match keeping {
            false => Bench::new(&text(1, 1, HASH)),
            true => Bench::keeping(&text(1, 1, HASH), Vec::new()),
        };
        let session = bench.provider(1, 60_000, None);
        for event in 0..EVENTS / 2 {
            let _ = event;
            bench.open(1, "PORT_000001", MEDIA);
            bench.ask(protocol::session::ConnectionId(1), "device.close", r#"{"device":"PORT_000001"}"#);
        }
        bench.step(Input::CtiClosed(protocol::session::ConnectionId(1)));
        let transport = CtiTransport::Tls { client_cn: Some("ivr".into()), not_after: None, serial: None };
        let connection = protocol::session::ConnectionId(2);
        bench.step(Input::CtiOpened { connection, peer: address(40_000), transport });
        let open = format!(
            r#"{{"user":"ivr","application":"bench","resume":{{"session":"{session}","last_seq":0}}}}"#
        );
        let kept = if keeping { ", kept" } else { "" };
        bench.request(&format!("a resume with {EVENTS} events{kept}"), 2, "provider.open", &open);
        if keeping {
            bench.step(Input::StoreLost("full".into()));
            bench.measure("keeping begins anew", Input::StoreReady, Duration::from_secs(10));
        }
    }
}

fn kept_session(ports: u32) {
    let text = text(1, ports, HASH);
    let mut bench = Bench::keeping(&text, Vec::new());
    bench.provider(1, 10_000, None);
    for port in 1..=ports {
        bench.open(1, &format!("PORT_{port:06}"), MEDIA);
    }
    for call in 1..=CALLS.min(ports) {
        bench.call(1, 600_000 + call, true, false);
    }
    bench.step(Input::CtiClosed(protocol::session::ConnectionId(1)));
    bench.now += Duration::from_secs(11);
    let what = format!("the grace of a kept session with {ports} devices is over");
    bench.measure(&what, Input::Timeout, Duration::from_secs(10));
    let mut bench = Bench::keeping(&text, Vec::new());
    bench.provider(1, 10_000, None);
    for port in 1..=ports {
        bench.open(1, &format!("PORT_{port:06}"), MEDIA);
    }
    for call in 1..=CALLS.min(ports) {
        bench.call(1, 600_000 + call, true, false);
    }
    let empty = settings(&self::text(1, 0, HASH));
    let switch = Switch::between(&bench.settings, empty);
    let what = format!("a reload removes {ports} devices of a kept session");
    bench.measure(&what, Input::Configure(Box::new(switch)), Duration::from_secs(30));
}

fn route_point() {
    let busy = |dynamic: bool, answered: bool| {
        let mut bench = Bench::new(&text(1, 1, HASH));
        let media = if dynamic { DYNAMIC } else { MEDIA };
        bench.provider(1, 0, None);
        bench.open(1, "RP_MAIN", media);
        for _ in 0..CALLS {
            bench.call(1, 5_000, answered, dynamic);
        }
        bench
    };
    let open = format!(r#"{{"device":"RP_MAIN","media":{DYNAMIC}}}"#);
    let mut bench = busy(true, true);
    bench.provider(2, 0, None);
    bench.request(&format!("a route point with {CALLS} calls is opened by another"), 2, "device.open", &open);
    bench.request("a snapshot of it", 2, "provider.snapshot", "{}");
    bench.request("closed by the first", 1, "device.close", r#"{"device":"RP_MAIN"}"#);
    let mut bench = busy(true, true);
    bench.provider(2, 0, None);
    bench.request("closed by the only one", 1, "device.close", r#"{"device":"RP_MAIN"}"#);
    let mut bench = busy(true, true);
    bench.provider(2, 0, None);
    bench.step(Input::CtiClosed(protocol::session::ConnectionId(1)));
    bench.request("opened while its calls are ended", 2, "device.open", &open);
    let mut bench = busy(false, false);
    bench.now += Duration::from_secs(60);
    bench.measure(&format!("{CALLS} accept timers are due"), Input::Timeout, Duration::from_secs(5));
    let mut bench = busy(false, true);
    bench.now += Duration::from_secs(64);
    bench.measure("all that was due in a minute is late", Input::Timeout, Duration::from_secs(1));
    bench.measure("the node stops", Input::Stop, Duration::from_secs(4));
}

fn sessions() {
    let with = |not_after: Option<u64>, password: bool| {
        let mut bench = Bench::new(&text(1, SESSIONS as u32 * 4, HASH));
        let begin = clock();
        for session in 1..=SESSIONS {
            match password {
                true => bench.by_password(session),
                false => drop(bench.provider(session, 0, not_after)),
            }
        }
        println!("  {SESSIONS} sessions opened in {:?}", begin.elapsed());
        for session in 1..=SESSIONS {
            for port in 0..4 {
                bench.open(session, &format!("PORT_{:06}", (session - 1) * 4 + port + 1), MEDIA);
            }
            bench.call(session, 600_000 + (session as u32 - 1) * 4 + 1, true, false);
        }
        bench
    };
    let mut bench = with(Some(DAYS.as_secs() + 3_600), false);
    bench.now += Duration::from_secs(3_600);
    bench.measure("the certificates are looked at", Input::Timeout, Duration::from_secs(2));
    let other = HASH.replace("9RkOGW", "9RkOGX");
    let mut bench = with(None, true);
    let ports = SESSIONS as u32 * 4;
    let switch = Switch::between(&bench.settings, settings(&text(1, ports, &other)));
    bench.measure(
        "their password is another one",
        Input::Configure(Box::new(switch)),
        Duration::from_secs(10),
    );
    let mut bench = with(None, false);
    let gone = text(1, ports, HASH).replace("id: ivr", "id: other");
    let switch = Switch::between(&bench.settings, settings(&gone));
    bench.measure("their user is deleted", Input::Configure(Box::new(switch)), Duration::from_secs(10));
    let mut bench = with(None, false);
    bench.measure("the node stops", Input::Stop, Duration::from_secs(4));
}

fn administrator(ports: u32) {
    let mut bench = Bench::new(&text(1, ports, HASH));
    bench.provider(1, 0, None);
    for port in 1..=ports {
        bench.open(1, &format!("PORT_{port:06}"), MEDIA);
    }
    for call in 1..=CALLS.min(ports) {
        bench.call(1, 600_000 + call, true, false);
    }
    println!("  {ports} devices");
    for (what, request) in [
        ("metrics", AdminRequest::Metrics),
        ("status", AdminRequest::Status),
        ("devices", AdminRequest::Devices),
        ("calls", AdminRequest::Calls),
        ("sessions", AdminRequest::Sessions),
    ] {
        bench.measure(what, Input::Admin(AdminToken(1), request), Duration::from_secs(1));
    }
}

fn main() {
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    let parts: [(&str, &dyn Fn()); 8] = [
        ("phones", &|| lost_phones(10_000)),
        ("many_phones", &|| lost_phones(60_000)),
        ("replay", &replay),
        ("kept", &|| kept_session(10_000)),
        ("route_point", &route_point),
        ("sessions", &sessions),
        ("admin", &|| administrator(10_000)),
        ("many_admin", &|| administrator(99_000)),
    ];
    println!("  {:62} {:>11} {:>11}", "", "step", "longest after");
    for (name, part) in parts {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            println!("{name}");
            part();
        }
    }
}
