//! How long the owner of a node is busy with a reload: nothing else happens in that time.
//!
//! `cargo bench -p ctimanager --bench reload` prints, for 10,000 and 99,000 devices (with the route point the most is 100,000), what is done beforehand on a thread
//! of its own and the longest single step of the node.

#![allow(clippy::print_stdout)] // the figures are what it is for

use ctimanager::config;
use ctimanager::node::{CtiConnection, CtiTransport, Input, Node, Output, Settings, Surroundings, Switch};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";

fn text(devices: u32, description: &str, allow: bool) -> String {
    let range = if devices == 0 {
        String::new()
    } else {
        format!(
            "  - {{name: \"PORT_[000001-{devices:06}]\", type: cti_port, pool: Default, description: {description}, \
             allow_cti_control: {allow}, lines: [\"[600001-{}]\"]}}\n",
            600_000 + devices
        )
    };
    format!(
        "cluster: {{name: bench, security: {{mode: non_secure}}}}\n\
         nodes: [{{name: cm1, host: 127.0.0.1, services: [callmanager, ctimanager], cti: {{tls: 2749}}}}]\n\
         call_manager_groups: [{{name: Default, members: [cm1]}}]\n\
         device_pools: [{{name: Default, call_manager_group: Default}}]\n\
         devices:\n  - {{name: RP_MAIN, type: route_point, pool: Default, lines: [\"5000\"]}}\n{range}\
         users: [{{id: ivr, kind: application_user, password_hash: \"{HASH}\", groups: [Standard CTI Enabled], \
         controlled_devices: [RP_MAIN, \"PORT_*\"]}}]\n"
    )
}

struct Bench {
    node: Node,
    settings: Arc<Settings>,
    now: Instant,
}

impl Bench {
    fn new(settings: Arc<Settings>) -> Self {
        let now = clock();
        let mut bench = Self { node: Node::new(settings.clone(), [7; 32], 1), settings, now };
        let connection = CtiConnection(1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let transport = CtiTransport::Tls { client_cn: Some("ivr".into()), not_after: None };
        bench.step(Input::CtiOpened { connection, peer, transport });
        let open = br#"{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{"user":"ivr","application":"bench"}}"#;
        bench.step(Input::CtiFrame(connection, open.to_vec()));
        bench
    }

    fn step(&mut self, input: Input) -> (Duration, usize) {
        let mut out = Vec::new();
        let begin = clock();
        self.node.handle(self.now, SystemTime::UNIX_EPOCH, input, &mut out);
        let took = begin.elapsed();
        (took, out.iter().filter(|output| matches!(output, Output::Cti(..))).count())
    }

    /// The longest step of the reload and of everything that it makes follow, and the events told.
    fn reload(&mut self, settings: &Arc<Settings>) -> (Duration, usize) {
        let switch = Switch::between(&self.settings, settings.clone());
        self.settings = settings.clone();
        let (mut longest, mut events) = self.step(Input::Configure(Box::new(switch)));
        let end = self.now + Duration::from_secs(4);
        while let Some(at) = self.node.next_timeout().filter(|at| *at < end) {
            self.now = self.now.max(at);
            let (took, told) = self.step(Input::Timeout);
            (longest, events) = (longest.max(took), events + told);
        }
        (longest, events)
    }
}

fn clock() -> Instant {
    #[allow(clippy::disallowed_methods)] // a bench measures real time
    Instant::now()
}

fn main() {
    for devices in [10_000, 99_000] {
        println!("{devices} devices");
        let begin = clock();
        let settings = |text: &str| {
            let loaded = config::parse("bench.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
            Arc::new(Settings::of(&loaded.config, &loaded.config.nodes[0], &Surroundings::default()))
        };
        let full = settings(&text(devices, "one", true));
        println!("  read, checked and made ready on another thread: {:?}", begin.elapsed());
        let again = settings(&text(devices, "one", true));
        let renamed = settings(&text(devices, "two", true));
        let restricted = settings(&text(devices, "two", false));
        let empty = settings(&text(0, "one", true));
        let mut bench = Bench::new(full.clone());
        for (what, settings) in [
            ("nothing changed", &again),
            ("each device described anew", &renamed),
            ("each device restricted", &restricted),
            ("each device unrestricted", &renamed),
            ("each device removed", &empty),
            ("each device added", &full),
        ] {
            let (longest, events) = bench.reload(settings);
            println!("  {what}: longest step {longest:?}, {events} events");
        }
    }
}
