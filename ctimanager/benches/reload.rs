//! How long the owner of a node is busy with a reload, and with an application that has everything open and looks at it or
//! leaves: nothing else happens in that time.
//!
//! `cargo bench -p ctimanager --bench reload` prints, for 10,000 and 99,999 devices (with the route point the most
//! that there may be), what is done beforehand on a thread of its own, and of the node the step of the switch, the longest of the
//! steps that follow from it, and how many events they tell in which (virtual) time.

#![allow(clippy::print_stdout)] // the figures are what it is for

mod wire;

use ctimanager::config;
use ctimanager::node::{CtiConnection, CtiTransport, Input, Node, Output, Settings, Surroundings, Switch};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use wire::clock;

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";
const APPLICATION: CtiConnection = CtiConnection(1);
/// Calls that live while devices that are open change.
const CALLS: u32 = 1_000;

/// What a configuration says.
#[derive(Clone, Copy)]
struct Plan {
    devices: u32,
    description: &'static str,
    allow: bool,
    list: &'static str,
    group: &'static str,
    user: &'static str,
}

impl Plan {
    fn of(devices: u32) -> Self {
        let list = "\"PORT_*\"";
        Self { devices, description: "one", allow: true, list, group: "Standard CTI Enabled", user: "ivr" }
    }

    fn settings(&self) -> Arc<Settings> {
        let loaded = config::parse("bench.yaml", &self.text()).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        Arc::new(Settings::of(&loaded.config, &loaded.config.nodes[0], &Surroundings::default()))
    }

    fn text(&self) -> String {
        let Self { devices, description, allow, list, group, user } = self;
        let range = match devices {
            0 => String::new(),
            _ => format!(
                "  - {{name: \"PORT_[000001-{devices:06}]\", type: cti_port, pool: Default, \
                 description: {description}, allow_cti_control: {allow}, lines: [\"[600001-{}]\"]}}\n",
                600_000 + devices
            ),
        };
        format!(
            "cluster: {{name: bench, security: {{mode: non_secure}}}}\n\
             service_parameters: {{max_requests_per_second: 1000000, max_calls_per_second_per_line: 100000, \
             max_calls_per_second_per_device: 100000, max_calls_per_second_per_trunk: 100000, \
             max_dialog_requests_per_second: 100000}}\n\
             nodes: [{{name: cm1, host: 127.0.0.1, services: [callmanager, ctimanager], sip: {{udp: 5060}}, \
             cti: {{tls: 2749}}}}]\n\
             call_manager_groups: [{{name: Default, members: [cm1]}}]\n\
             device_pools: [{{name: Default, call_manager_group: Default}}]\n\
             trunks: [{{name: pstn, host: 127.0.0.1, port: 5070, transport: udp}}]\n\
             devices:\n  - {{name: RP_MAIN, type: route_point, pool: Default, lines: [\"5000\"]}}\n{range}\
             users: [{{id: {user}, kind: application_user, password_hash: \"{HASH}\", groups: [{group}], \
             controlled_devices: [RP_MAIN, {list}]}}]\n"
        )
    }
}

struct Bench {
    node: Node,
    settings: Arc<Settings>,
    now: Instant,
    out: Vec<Output>,
}

impl Bench {
    fn new(settings: Arc<Settings>) -> Self {
        let node = Node::new(settings.clone(), [7; 32], 1);
        let mut bench = Self { node, settings, now: clock(), out: Vec::new() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let transport = CtiTransport::Tls { client_cn: Some("ivr".into()), not_after: None, serial: None };
        bench.step(Input::CtiOpened { connection: APPLICATION, peer, transport });
        bench.ask("provider.open", r#"{"user":"ivr","application":"bench","heartbeat_ms":3600000}"#);
        bench
    }

    /// With all ports open, and calls that were answered on some of them.
    fn open(settings: Arc<Settings>, devices: u32) -> Self {
        let mut bench = Self::new(settings);
        let media = r#"{"mode":"static","ip":"127.0.0.1","port":30000,"codecs":["PCMU"]}"#;
        for port in 1..=devices {
            bench.ask("device.open", &format!(r#"{{"device":"PORT_{port:06}","media":{media}}}"#));
        }
        for call in 1..=CALLS {
            bench.talk(call);
        }
        bench
    }

    fn talk(&mut self, call: u32) {
        self.talk_to(call, 600_000 + call);
    }

    fn talk_to(&mut self, call: u32, number: u32) {
        self.hear(wire::invite(number, call));
        let leg = wire::leg(&self.said()).expect("the call is offered");
        self.ask("call.answer", &format!(r#"{{"leg":"{leg}"}}"#));
        self.hear(wire::ack(number, call, &self.said()));
    }

    fn hear(&mut self, text: String) {
        self.step(Input::Sip { hop: wire::hop(), bytes: text.into_bytes() });
    }

    fn ask(&mut self, method: &str, params: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        self.step(Input::CtiFrame(APPLICATION, text.into_bytes()));
    }

    fn said(&self) -> Vec<String> {
        wire::said(&self.out)
    }

    fn step(&mut self, input: Input) -> (Duration, usize) {
        self.out.clear();
        let begin = clock();
        self.node.handle(self.now, SystemTime::UNIX_EPOCH, input, &mut self.out);
        let took = begin.elapsed();
        (took, self.out.iter().filter(|output| matches!(output, Output::Cti(..))).count())
    }

    /// A reload and everything that it makes follow.
    fn reload(&mut self, what: &str, settings: &Arc<Settings>) {
        let switch = Switch::between(&self.settings, settings.clone());
        self.settings = settings.clone();
        self.measure(what, Input::Configure(Box::new(switch)));
    }

    /// A request and everything that it makes follow.
    fn request(&mut self, what: &str, method: &str, params: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        self.measure(what, Input::CtiFrame(APPLICATION, text.into_bytes()));
    }

    /// An input and everything that it makes follow.
    fn measure(&mut self, what: &str, input: Input) {
        let begin = self.now;
        let (took, mut events) = self.step(input);
        let (mut longest, mut last) = (Duration::ZERO, begin);
        let end = self.now + Duration::from_secs(30);
        while let Some(at) = self.node.next_timeout().filter(|at| *at < end) {
            self.now = self.now.max(at);
            let (took, told) = self.step(Input::Timeout);
            (longest, events) = (longest.max(took), events + told);
            if told > 0 {
                last = self.now;
            }
        }
        let (took, longest) = (took.as_secs_f64() * 1e3, longest.as_secs_f64() * 1e3);
        println!(
            "  {what:58} {took:8.2} ms {longest:8.2} ms {events:7} events in {:5.2} s",
            last.saturating_duration_since(begin).as_secs_f64()
        );
    }
}

fn main() {
    for devices in [10_000, 99_999] {
        let plan = Plan::of(devices);
        let begin = clock();
        let full = plan.settings();
        let read = begin.elapsed();
        let renamed = Plan { description: "two", ..plan }.settings();
        let begin = clock();
        drop(Switch::between(&full, renamed.clone()));
        println!("{devices} devices: read and checked {read:?}, the difference found {:?}", begin.elapsed());
        println!("  {:58} {:>11} {:>11}", "", "switch", "longest after");
        let restricted = Plan { allow: false, ..plan }.settings();
        let empty = Plan { devices: 0, ..plan }.settings();
        let mut bench = Bench::new(full.clone());
        for (what, settings) in [
            ("nothing changed", &plan.settings()),
            ("each described anew", &renamed),
            ("each restricted, on one provider's list", &restricted),
            ("each unrestricted", &full),
            ("each removed", &empty),
            ("each added", &full),
        ] {
            bench.reload(what, settings);
        }
        let unlisted = Plan { list: "\"NONE_*\"", ..plan }.settings();
        let other_group =
            Plan { group: "Standard CTI Allow Call Park Monitoring, Standard CTI Enabled", ..plan };
        for (what, settings) in [
            ("open, with calls: each described anew", &renamed),
            ("open, with calls: the user's groups changed", &other_group.settings()),
            ("open, with calls: each restricted", &restricted),
            ("open, with calls: each removed", &empty),
            ("open, with calls: each taken from the user's list", &unlisted),
            ("open, with calls: the user deleted", &Plan { user: "other", ..plan }.settings()),
        ] {
            Bench::open(full.clone(), devices).reload(what, settings);
        }
        leave_and_look(&full, devices);
    }
}

/// What one application with everything open does to the others when it looks at it, and when it leaves.
fn leave_and_look(full: &Arc<Settings>, devices: u32) {
    println!("  {:58} {:>11} {:>11}", "one application", "request", "longest after");
    let mut bench = Bench::open(full.clone(), devices);
    bench.request("a page of a list", "provider.devices", r#"{"limit":1000}"#);
    bench.request("a list that finds nothing", "provider.devices", r#"{"name":"NOBODY*"}"#);
    bench.request("a snapshot", "provider.snapshot", "{}");
    bench.request("provider.close", "provider.close", "{}");
    let mut bench = Bench::open(full.clone(), devices);
    bench.measure("the connection lost, and with it the session", Input::CtiClosed(APPLICATION));
    let mut bench = Bench::new(full.clone());
    let media = r#"{"mode":"static","ip":"127.0.0.1","port":30000,"codecs":["PCMU"]}"#;
    bench.ask("device.open", &format!(r#"{{"device":"RP_MAIN","media":{media}}}"#));
    for call in 1..=4 * CALLS {
        bench.talk_to(call, 5_000);
    }
    bench.measure("the connection lost with 4,000 calls at one route point", Input::CtiClosed(APPLICATION));
}
