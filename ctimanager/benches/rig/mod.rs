//! A whole node under virtual time, a trunk that calls and an application that answers.

use ctimanager::config;
use ctimanager::node::{CtiConnection, CtiTransport, Input, Node, Output, Settings, Surroundings};
use protocol::session::ConnectionId;
use sip::{Hop, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const CONFIG: &str = r#"
cluster: {name: bench, security: {mode: non_secure}}
service_parameters: {max_requests_per_second: 1000000}
nodes: [{name: cm1, host: 127.0.0.1, services: [callmanager, ctimanager], sip: {udp: 5060}, cti: {tls: 2749}}]
call_manager_groups: [{name: Default, members: [cm1]}]
device_pools: [{name: Default, call_manager_group: Default}]
devices: [{name: RP, type: route_point, pool: Default, lines: ["5000"]}]
trunks: [{name: pstn, host: 127.0.0.1, port: 5070, transport: udp}]
users:
  - {id: ivr, kind: application_user, groups: [Standard CTI Enabled], controlled_devices: [RP], password_hash: "HASH"}
"#;
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9RkOGWpZSYnVM+zSNGLQDZ+nmPCDqcLpyKmHiyGVAkA";
const TRUNK: &str = "127.0.0.1:5070";
const APPLICATION: CtiConnection = ConnectionId(1);
/// Virtual time from one call to the next: 200 calls a second, so that the tables hold what they would hold then.
const BETWEEN: Duration = Duration::from_millis(5);

/// How long the node took for each part of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    pub invite: Duration,
    pub answer: Duration,
    pub ack: Duration,
    pub bye: Duration,
}

impl Call {
    pub fn total(&self) -> Duration {
        self.invite + self.answer + self.ack + self.bye
    }
}

pub struct Rig {
    node: Node,
    now: Instant,
    wall: SystemTime,
    calls: u64,
    out: Vec<Output>,
}

impl Rig {
    /// An application has opened the route point with static media.
    pub fn new() -> Self {
        let loaded = config::parse("bench.yaml", &CONFIG.replace("HASH", HASH)).expect("no mistakes");
        let surroundings = Surroundings {
            sip_listen: vec![(Transport::Udp, "127.0.0.1:5060".parse().expect("an address"))],
            ..Surroundings::default()
        };
        let settings = Settings::of(&loaded.config, &loaded.config.nodes[0], &surroundings);
        let mut rig = Self {
            node: Node::new(Arc::new(settings), [7; 32], 1),
            now: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            calls: 0,
            out: Vec::new(),
        };
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let transport = CtiTransport::Tls { client_cn: None, not_after: None, serial: None };
        rig.step(Input::CtiOpened { connection: APPLICATION, peer, transport });
        let heartbeat = r#""heartbeat_ms":3600000"#;
        rig.frame(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{{"user":"ivr","password":"x","application":"bench",{heartbeat}}}}}"#
        ));
        rig.step(Input::PasswordChecked(APPLICATION, true));
        let media = r#"{"mode":"static","ip":"127.0.0.1","port":30000,"codecs":["PCMU"]}"#;
        rig.frame(&format!(
            r#"{{"jsonrpc":"2.0","id":2,"method":"device.open","params":{{"device":"RP","media":{media}}}}}"#
        ));
        rig
    }

    /// One call from INVITE to the 200 of its BYE.
    pub fn call(&mut self) -> Call {
        self.pass();
        self.calls += 1;
        let tag = self.calls.to_string();
        let mut took = Call { invite: self.input_sip(&invite(&tag, "5000")), ..Call::default() };
        let event = self.frames().find(|f| f.contains("call.offering")).expect("the call is offered");
        let leg = between(&event, r#""leg":{"leg":""#, "\"").expect("the event names the leg").to_owned();
        took.answer = self.frame(&answer(&leg));
        let ok = self.sent().find(|m| m.starts_with("SIP/2.0 200")).expect("the call is answered");
        let to = between(&ok, "\r\nTo: ", "\r\n").expect("a response has a To").to_owned();
        took.ack = self.input_sip(&in_dialog(&tag, "ACK", 1, &to));
        took.bye = self.input_sip(&in_dialog(&tag, "BYE", 2, &to));
        assert!(self.sent().any(|m| m.starts_with("SIP/2.0 200")), "the BYE is answered");
        took
    }

    /// The texts of a call, without the node.
    pub fn texts(&mut self) -> usize {
        let texts =
            [invite("7", "5000"), answer("l1"), in_dialog("7", "ACK", 1, "x"), in_dialog("7", "BYE", 2, "x")];
        texts.iter().map(String::len).sum()
    }

    /// A datagram from the trunk; how long the node took for it.
    pub fn input_sip(&mut self, text: &str) -> Duration {
        let hop = Hop {
            transport: Transport::Udp,
            local: "127.0.0.1:5060".parse().expect("an address"),
            remote: TRUNK.parse().expect("an address"),
            connection: None,
        };
        self.step(Input::Sip { hop, bytes: text.as_bytes().to_vec() })
    }

    fn frame(&mut self, text: &str) -> Duration {
        self.step(Input::CtiFrame(APPLICATION, text.as_bytes().to_vec()))
    }

    fn step(&mut self, input: Input) -> Duration {
        self.out.clear();
        let start = Instant::now();
        self.node.handle(self.now, self.wall, input, &mut self.out);
        start.elapsed()
    }

    /// What falls due in the time until the next call is done then, and is in no figure.
    fn pass(&mut self) {
        let end = self.now + BETWEEN;
        while let Some(at) = self.node.next_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.step(Input::Timeout);
        }
        self.now = end;
    }

    fn frames(&self) -> impl Iterator<Item = String> {
        self.out.iter().filter_map(|output| match output {
            Output::Cti(_, frame) => String::from_utf8(frame.to_vec()).ok(),
            _ => None,
        })
    }

    fn sent(&self) -> impl Iterator<Item = String> {
        self.out.iter().filter_map(|output| match output {
            Output::Sip { bytes, .. } => String::from_utf8(bytes.clone()).ok(),
            _ => None,
        })
    }
}

/// An INVITE of the trunk with PCMU, PCMA and digits.
pub fn invite(tag: &str, number: &str) -> String {
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
               m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
               a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
    format!(
        "INVITE sip:{number}@127.0.0.1 SIP/2.0\r\n{}To: <sip:{number}@127.0.0.1>\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:pstn@{TRUNK}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        head(tag, "i"),
        sdp.len()
    )
}

fn answer(leg: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":3,"method":"call.answer","params":{{"leg":"{leg}"}}}}"#)
}

fn in_dialog(tag: &str, method: &str, sequence: u32, to: &str) -> String {
    format!(
        "{method} sip:cm1@127.0.0.1:5060 SIP/2.0\r\n{}To: {to}\r\nCSeq: {sequence} {method}\r\nContent-Length: 0\r\n\r\n",
        head(tag, method)
    )
}

fn head(tag: &str, branch: &str) -> String {
    format!(
        "Via: SIP/2.0/UDP {TRUNK};branch=z9hG4bK{tag}{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:0301234@{TRUNK}>;tag={tag}\r\nCall-ID: {tag}@{TRUNK}\r\n"
    )
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}
