//! Who may call which method, over the wire: the text of the node's own matrix, row by row, asked of the real process by a
//! client that shares no code with it, over TLS, WebSocket and plain TCP, in both modes of the cluster.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use tests::lab::agent::{Agent, Ask};
use tests::lab::cti::{Cti, Reply};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::{Lab, SOON};

const MATRIX: &str = "ctimanager__node__tests__matrix__the_whole_matrix_of_methods.snap";

const GROUPS: [&str; 10] = [
    "Standard CTI Enabled",
    "Standard CTI Allow Control of All Devices",
    "Standard CTI Secure Connection",
    "Standard CTI Allow Reception of SRTP Key Material",
    "Standard CTI Allow Call Park Monitoring",
    "Standard CTI Allow Calling Number Modification",
    "Standard CTI Allow Call Monitoring",
    "Standard CTI Allow Call Recording",
    "Standard CTI Allow Control of Phones supporting Connected Xfer and conf",
    "Standard CTI Allow Control of Phones supporting Rollover Mode",
];

/// The refusals by permission, and what their sentence must name: the group or list that would help.
const REFUSALS: [(&str, &str); 13] = [
    ("LOGIN_FAILED", ""),
    ("SECURE_CONNECTION_REQUIRED", "Standard CTI Secure Connection"),
    ("USER_NOT_CTI_ENABLED", "Standard CTI Enabled"),
    ("NOT_OPEN", "provider.open"),
    ("DEVICE_NOT_CONTROLLED", "control"),
    ("NO_SUCH_DEVICE", ""),
    ("DEVICE_RESTRICTED", "allow_cti_control"),
    ("LINE_RESTRICTED", "CTI control"),
    ("DEVICE_NOT_OPEN", ""),
    ("NO_SUCH_LEG", ""),
    ("PRIVILEGE_VIOLATION", "Standard CTI "),
    ("CALLING_NUMBER_MODIFICATION_NOT_ALLOWED", "Standard CTI Allow Calling Number Modification"),
    ("NO_SUCH_LINE", "controls"),
];

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=-\r\nc=IN IP4 10.77.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// One heading of the matrix.
#[derive(Clone, Debug)]
struct Who {
    groups: Vec<&'static str>,
    secure: bool,
    plain: bool,
}

impl Who {
    /// `# CTI Enabled, Allow Call Park Monitoring; secure cluster; TLS`
    fn read(heading: &str) -> Who {
        let parts: Vec<&str> = heading.trim_start_matches("# ").split("; ").collect();
        let [groups, mode, way] = parts[..] else { panic!("{heading}") };
        let groups = match groups {
            "no group" => Vec::new(),
            "every group" => GROUPS.to_vec(),
            "every group but CTI Enabled" => GROUPS[1..].to_vec(),
            some => some.split(", ").map(group).collect(),
        };
        Who { groups, secure: mode == "secure cluster", plain: way == "plain" }
    }

    fn user(&self) -> String {
        let bits = (0..GROUPS.len()).filter(|at| self.groups.contains(&GROUPS[*at]));
        format!("user{}", bits.fold(0, |id, at| id | 1 << at))
    }
}

fn group(short: &str) -> &'static str {
    let named =
        |group: &&&str| **group == format!("Standard {short}") || **group == format!("Standard CTI {short}");
    let known = GROUPS.iter().find(named);
    known.unwrap_or_else(|| panic!("{short:?} is no group"))
}

/// Each heading with its rows.
fn matrix() -> Vec<(Who, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ctimanager/src/node/tests/snapshots");
    let text = std::fs::read_to_string(folder.join(MATRIX)).expect("the node's matrix is checked in");
    let (_, text) = text.split_once("\n---\n").expect("a snapshot has a head");
    let sections = text.split("\n\n").filter(|section| !section.trim().is_empty());
    let read = sections.flat_map(|section| {
        let (who, rows): (Vec<&str>, Vec<&str>) =
            section.trim().lines().partition(|line| line.starts_with('#'));
        let rows: Vec<String> = rows.into_iter().map(str::to_owned).collect();
        who.into_iter().map(move |heading| (Who::read(heading), rows.clone()))
    });
    read.collect()
}

/// The part of a row that is asked: `call.park {}`.
fn question(row: &str) -> (&str, Value) {
    let asked = row.split("  ").next().unwrap_or_default();
    let (method, params) = asked.split_once(' ').unwrap_or((asked, "{}"));
    (method, serde_json::from_str(params).unwrap_or_else(|e| panic!("{row}: {e}")))
}

fn verdict(method: &str, reply: &Reply) -> String {
    let Err(error) = reply else { return "yes".to_owned() };
    if error.message.contains("not supported by this version") {
        return "unsupported".to_owned();
    }
    let Some((symbol, named)) = REFUSALS.iter().find(|(symbol, _)| *symbol == error.symbol) else {
        return "yes".to_owned();
    };
    assert!(error.message.contains(named), "{method}: {error} should name {named:?}");
    (*symbol).to_owned()
}

/// A running node with a user for each set of groups, and bob with a call at a route point of his.
struct Office {
    node: Node,
    trunk: Agent,
    calls: usize,
    bob: Cti,
    foreign: Value,
}

impl Office {
    async fn open(lab: &Lab, secure: bool, everybody: &[Who]) -> Office {
        let address = lab.address();
        let shut = json!({"name": "RP_SHUT", "type": "route_point", "pool": "Default", "lines": ["7000"],
                          "allow_cti_control": false});
        let mut config = Config::new(lab)
            .route_point("RP_MAIN", "5000")
            .route_point("RP_OTHER", "6000")
            .add("devices", shut)
            .trunk("pstn", address)
            .parameter("max_requests_per_second", json!(10_000))
            .parameter("cti_new_call_accept_timer", json!("60s"))
            .user("bob", &["RP_OTHER"]);
        let mut known = Vec::new();
        for who in everybody.iter().filter(|who| !who.plain) {
            known.push(who.user());
            config = config.member(&who.user(), &who.groups, &["RP_MAIN", "RP_SHUT"]);
        }
        let node = Node::start(lab, if secure { config.secure() } else { config }).await;
        let trunk = Agent::at(address, node.sip).await;
        let bob = node.application("bob").await;
        let mut office = Office { node, trunk, calls: 0, bob, foreign: Value::Null };
        office.bob.call("device.open", json!({"device": "RP_OTHER", "media": {"mode": "none"}})).await;
        office.ring("6000").await;
        office.foreign = office.bob.expect("call.offering").await["leg"]["leg"].clone();
        office
    }

    /// The trunk calls, and leaves the rest to the node.
    async fn ring(&mut self, number: &str) {
        self.calls += 1;
        let call = format!("call{}", self.calls);
        let headers = Vec::new();
        let invite =
            Ask { method: "INVITE", to: number, from: "4000", call: &call, cseq: 1, headers, body: SDP };
        let text = self.trunk.write(&invite);
        self.trunk.send(text.as_bytes()).await;
    }

    /// The rows as this user finds them.
    async fn ask(&mut self, mut cti: Cti, who: &Who, rows: &[String]) -> String {
        let mut own = None;
        let mut found = String::new();
        for row in rows {
            let (method, mut params) = question(row);
            let cells: Vec<(&str, Value)> = if method == "provider.open" {
                vec![("", json!({"user": who.user(), "password": PASSWORD, "application": "matrix"}))]
            } else if row.contains("unknown: ") {
                devices(method)
            } else if row.contains("foreign: ") {
                if own.is_none() {
                    own = Some(self.own_leg(&mut cti).await);
                }
                let own = own.clone().unwrap_or_default();
                vec![("own", json!({"leg": own})), ("foreign", json!({"leg": self.foreign}))]
            } else {
                vec![("", json!({}))]
            };
            let asked = row.split("  ").next().unwrap_or_default();
            let _ = write!(found, "{asked} ");
            for (what, more) in cells {
                for (key, value) in more.as_object().into_iter().flatten() {
                    params[key] = value.clone();
                }
                let said = verdict(method, &cti.try_call(method, params.clone()).await);
                let _ =
                    if what.is_empty() { write!(found, " {said}") } else { write!(found, " {what}: {said}") };
            }
            found.push('\n');
        }
        found
    }

    /// A leg that rings at the user's own device; none where he may not open it.
    async fn own_leg(&mut self, cti: &mut Cti) -> Value {
        let media = json!({"mode": "static", "ip": "127.0.0.1", "port": 30_000, "codecs": ["PCMU"]});
        if cti.try_call("device.open", json!({"device": "RP_MAIN", "media": media})).await.is_err() {
            return json!("l1");
        }
        self.ring("5000").await;
        cti.expect_event("call.offering", |event| event["leg"]["device"] == "RP_MAIN", SOON).await["leg"]["leg"].clone()
    }
}

fn devices(method: &str) -> Vec<(&'static str, Value)> {
    let all = [
        ("own", "RP_MAIN", "5000"),
        ("foreign", "RP_OTHER", "6000"),
        ("restricted", "RP_SHUT", "7000"),
        ("unknown", "RP_NONE", "8000"),
    ];
    let params = all.map(|(what, device, dn)| match method.starts_with("device.") {
        true => (what, json!({"device": device})),
        false => (what, json!({"device": device, "dn": dn})),
    });
    params.to_vec()
}

async fn holds_over_the_wire(secure: bool) {
    let lab = Lab::new(if secure { "matrix-secure" } else { "matrix" });
    let sections: Vec<(Who, Vec<String>)> =
        matrix().into_iter().filter(|(who, _)| who.secure == secure).collect();
    assert_eq!(sections.len(), 26, "thirteen sets of groups, two ways");
    let everybody: Vec<Who> = sections.iter().map(|(who, _)| who.clone()).collect();
    let mut office = Office::open(&lab, secure, &everybody).await;
    let mut asked = 0;
    for (who, rows) in &sections {
        let ways = if who.plain { &["plain"][..] } else { &["TLS", "WebSocket"][..] };
        for way in ways {
            let cti = match *way {
                "plain" => Cti::plain(office.node.cti_plain).await,
                "TLS" => Cti::tls(office.node.cti, &office.node.ca()).await,
                _ => Cti::websocket(office.node.web, &office.node.ca()).await,
            };
            let found = office.ask(cti, who, rows).await;
            let wanted = rows.iter().fold(String::new(), |text, row| text + row + "\n");
            assert_eq!(found, wanted, "{way}, {who:?}");
            asked += rows.len();
        }
    }
    eprintln!("{asked} rows");
    office.node.is_well();
}

#[tokio::test]
async fn the_matrix_of_methods_holds_over_the_wire_in_a_secure_cluster() {
    holds_over_the_wire(true).await;
}

#[tokio::test]
async fn the_matrix_of_methods_holds_over_the_wire_in_a_cluster_that_is_not() {
    holds_over_the_wire(false).await;
}
