//! Applications as processes that leave, crash, freeze, or lose their network or machine: what becomes of their calls,
//! and when, by the times that the node, the callers and another application write down.

use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tests::lab::app::{App, Media};
use tests::lab::baresip::{Baresip, Transport};
use tests::lab::cable::Cable;
use tests::lab::cti::{Message, leg_of, time_of};
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::process::Process;
use tests::lab::trunk::{Party, Trunk};
use tests::lab::{Lab, SOON, built, eventually, wall};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// "Nothing of the application is left after 1 s" (protocol §2, "Failure").
const GONE: Duration = Duration::from_secs(1);

/// Where calls go whose application failed, and those that come after it.
const AWAY: &str = "5999";

/// A heartbeat of the desk that freezes, in milliseconds; longer than the New Call Accept Timer of 2 s, in two of them.
const SLOW_BEAT: u64 = 2_000;

/// How an application ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `provider.close`
    Leaves,
    /// SIGTERM to an application on the SDK, which closes its provider.
    IsTerminated,
    Crashes,
    IsKilled,
    Freezes,
    LosesItsCable,
    LosesItsMachine,
}

/// The ways, each with its route point, number and forwards.
const WAYS: [(Way, &str, &str, [Option<&str>; 3]); 7] = [
    (Way::Leaves, "RP_LEAVES", "5001", [Some(AWAY), Some(AWAY), Some("2001")]),
    (Way::IsTerminated, "RP_TERM", "5002", [Some(AWAY), None, Some(AWAY)]),
    (Way::Crashes, "RP_CRASH", "5003", [None, None, None]),
    (Way::IsKilled, "RP_KILL", "5004", [Some(AWAY), None, None]),
    (Way::Freezes, "RP_FREEZE", "5005", [Some(AWAY), None, Some(AWAY)]),
    (Way::LosesItsCable, "RP_CABLE", "5006", [Some(AWAY), None, None]),
    (Way::LosesItsMachine, "RP_MACHINE", "5007", [Some(AWAY), None, None]),
];

/// A node with desks, callers, two phones, and somebody at [`AWAY`].
struct Office {
    lab: Lab,
    node: Node,
    trunk: Trunk,
    away: Away,
}

impl Office {
    async fn open(test: &str) -> Office {
        let lab = Lab::new(test);
        let callers = lab.address();
        let mut config = Config::new(&lab)
            .route_point("RP_AWAY", AWAY)
            .phone("2001")
            .phone("2002")
            .trunk("pstn", callers)
            .user("away", &["RP_AWAY"])
            .user(
                "desk",
                &["RP_LEAVES", "RP_TERM", "RP_CRASH", "RP_KILL", "RP_FREEZE", "RP_CABLE", "RP_MACHINE"],
            )
            .parameter("application_heartbeat_minimum_interval", json!("1s"))
            .parameter("cti_new_call_accept_timer", json!("2s"))
            // Ringing calls wait for what the test does, however busy the machine is.
            .parameter("forward_no_answer_timer", json!("300s"));
        for (_, device, number, [on_failure, unregistered, no_answer]) in WAYS {
            let forward =
                json!({"on_failure": on_failure, "unregistered": unregistered, "no_answer": no_answer});
            config = config.route_point(device, number).number(number, json!({"forward": forward}));
        }
        let node = Node::start(&lab, config).await;
        let trunk = Trunk::at(callers, node.sip).await;
        let away = Away::sits(&lab, &node).await;
        Office { lab, node, trunk, away }
    }

    /// A desk that answers so many calls, as a process of its own, once it has its device.
    async fn desk(&self, device: &str, places: u32, heartbeat_ms: u64, prefix: &[&str]) -> Process {
        let mut desk = self.start_desk(device, places, heartbeat_ms, prefix);
        desk.wait_for_log("device.open ok", SOON).await;
        desk
    }

    fn start_desk(&self, device: &str, places: u32, heartbeat_ms: u64, prefix: &[&str]) -> Process {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/desk.py");
        let mut words = prefix.to_vec();
        words.push("python3");
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(script).arg(self.node.cti.to_string()).arg(self.node.ca());
        command.args(["desk", device, &places.to_string(), &heartbeat_ms.to_string()]);
        command.env("CTI_PASSWORD", PASSWORD);
        Process::start(device, command, &self.lab.folder(device).join("log"))
    }

    /// The auto-attendant of the SDK's examples.
    async fn attendant(&self, device: &str) -> Process {
        let mut command = Command::new(built("examples/auto-attendant"));
        let host = self.lab.host().to_string();
        command.args(["--server", &self.node.cti.to_string(), "--user", "desk", "--route-point", device]);
        command
            .args(["--ip", &host, "--menu", "1=2001", "--operator", "2001", "--timeout-s", "100"])
            .arg("--ca");
        command.arg(self.node.ca()).env("CTI_PASSWORD", PASSWORD);
        let attendant = Process::start(device, command, &self.lab.folder(device).join("log"));
        let what = format!("{device} is open");
        eventually(what, SOON, async || self.session_of(device)).await;
        attendant
    }

    /// The session that has the device open.
    fn session_of(&self, device: &str) -> Option<String> {
        let sessions = self.node.admin("sessions");
        let has =
            |session: &&Value| session["devices"].as_array().is_some_and(|d| d.contains(&json!(device)));
        sessions.as_array()?.iter().find(has)?["session"].as_str().map(str::to_owned)
    }

    /// So many calls to a desk that are answered, and so many after them that ring.
    async fn calls(&self, number: &str, answered: usize, ringing: usize) -> (Vec<Party>, Vec<Party>) {
        let (mut talk, mut ring) = (Vec::new(), Vec::new());
        for _ in 0..answered {
            talk.push(self.trunk.call(number).await);
        }
        for call in &talk {
            call.is_answered().await;
        }
        for _ in 0..ringing {
            ring.push(self.trunk.call(number).await);
        }
        for call in &ring {
            call.rings().await;
        }
        (talk, ring)
    }

    /// Nothing of it is left, by the node's own account; when that was.
    async fn forgets(&self, device: &str, session: &str) -> SystemTime {
        let closed = self.node.writes(&["CtiDeviceClosed", session, &format!("device={device}")]).await;
        let left = self.node.writes(&["CtiProviderClosed", session]).await;
        assert_ne!(self.session_of(device).as_deref(), Some(session), "its session is gone");
        closed.max(left)
    }
}

/// Another application, which takes what is forwarded and notes when it came.
struct Away {
    seen: watch::Receiver<Vec<Value>>,
    task: JoinHandle<()>,
}

impl Away {
    async fn sits(lab: &Lab, node: &Node) -> Away {
        let app = App::open(lab, node, "away", "RP_AWAY", Media::Static).await;
        let (sender, seen) = watch::channel(Vec::new());
        Away { seen, task: tokio::spawn(Away::answer(app, sender)) }
    }

    async fn answer(mut app: App, seen: watch::Sender<Vec<Value>>) {
        loop {
            match app.cti.next(Duration::from_secs(5)).await {
                Some(Message::Event(event)) if event["type"] == "call.offering" => {
                    app.cti.send("call.answer", json!({"leg": leg_of(&event)})).await;
                    seen.send_modify(|seen| seen.push(event));
                }
                Some(Message::Event(_) | Message::Reply(..)) => {}
                None => drop(app.cti.send("provider.heartbeat", json!({})).await),
                Some(Message::Closed) => return,
            }
        }
    }

    /// Waits for so many calls that this number sent on for this reason; when the last of them came.
    async fn gets(&mut self, number: &str, reason: &str, count: usize) -> SystemTime {
        let fits = |event: &&Value| {
            let leg = &event["leg"];
            leg["last_redirecting"]["number"] == number && leg["reason"] == reason
        };
        let enough = |seen: &Vec<Value>| seen.iter().filter(fits).count() >= count;
        let Ok(Ok(seen)) = tokio::time::timeout(SOON, self.seen.wait_for(enough)).await else {
            panic!("not {count} calls of {number}, {reason}: {:#?}", self.seen.borrow())
        };
        let all: Vec<SystemTime> = seen.iter().filter(fits).map(time_of).collect();
        assert_eq!(all.len(), count, "{number}, {reason}");
        all.into_iter().max().expect("some")
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The node writes its log behind what it does, and on a busy machine another program may run in between.
const LATE_LOG: Duration = Duration::from_millis(250);

/// # Panics
/// If it took longer than it may, from the moment at which the node noticed.
fn within(bound: Duration, noticed: SystemTime, done: SystemTime, what: &str) {
    let took = done.duration_since(noticed).unwrap_or_default();
    eprintln!("{what}: {took:?} after it was noticed");
    // It may have noticed earlier than its log says, by so much.
    assert!(took + LATE_LOG < bound, "{what}: {took:?}");
    assert!(done + LATE_LOG >= noticed, "{what}: done before it was noticed?");
}

/// All of them were cleared with cause 41; when the last was.
async fn cleared(calls: &[Party]) -> SystemTime {
    let mut last = SystemTime::UNIX_EPOCH;
    for call in calls {
        let over = call.is_over().await;
        assert_eq!((over.refused, over.cause), (None, Some(41)), "{over:?}");
        last = last.max(over.at);
    }
    last
}

#[tokio::test]
async fn a_killed_attendant_with_five_calls_ringing_and_five_connected() {
    let mut office = Office::open("killed-desk").await;
    let (device, number) = ("RP_KILL", "5004");
    let mut desk = office.desk(device, 5, 1_000, &[]).await;
    let session = office.session_of(device).expect("its session");
    let (connected, ringing) = office.calls(number, 5, 5).await;

    desk.kill();
    let noticed = office.node.writes(&["ApplicationConnectionDropped", &session]).await;
    within(GONE, noticed, cleared(&connected).await, "five cleared");
    within(GONE, noticed, office.away.gets(number, "forward_on_failure", 5).await, "five to CFOF");
    within(GONE, noticed, office.forgets(device, &session).await, "device and session closed");
    let devices = office.node.admin("devices");
    let gone = devices.as_array().into_iter().flatten().find(|d| d["name"] == device).expect("it is planned");
    assert_eq!((&gone["opened"], &gone["state"]), (&json!(false), &json!("out_of_service")), "{gone}");
    assert_eq!(office.node.admin("status")["open_devices"], 1, "the one at {AWAY}");
    for call in &ringing {
        call.is_answered().await;
        call.hang_up().await;
    }
    office.node.is_quiet().await;

    let _desk = office.desk(device, 1, 1_000, &[]).await;
    let again = office.session_of(device).expect("its session");
    let back = office.node.writes(&["CtiProviderOpened", &again]).await;
    let (taken, _) = office.calls(number, 1, 0).await;
    within(2 * GONE, back, taken[0].is_answered().await, "the restarted one takes a call");
    taken[0].hang_up().await;
    office.node.is_quiet().await;
    office.node.is_well();
}

/// One application on its way out.
struct Victim {
    way: Way,
    device: &'static str,
    number: &'static str,
    forwards: [Option<&'static str>; 3],
    process: Process,
    cable: Option<Cable>,
    session: String,
    connected: Vec<Party>,
    ringing: Vec<Party>,
}

impl Victim {
    /// Brings it up with a call that it has answered and one that rings; `None` where it needs a cable and may have none.
    async fn prepare(office: &Office, way: Way) -> Option<Victim> {
        let (_, device, number, forwards) = *WAYS.iter().find(|w| w.0 == way).expect("each way is there");
        let cable = match way {
            Way::LosesItsCable => Some(Cable::plug(&office.lab, 0)?),
            Way::LosesItsMachine => Some(Cable::plug(&office.lab, 1)?),
            Way::Leaves | Way::IsTerminated | Way::Crashes | Way::IsKilled | Way::Freezes => None,
        };
        let inside = cable.as_ref().map(|cable| ["ip", "netns", "exec", &cable.namespace]);
        let process = match way {
            Way::IsTerminated => office.attendant(device).await,
            Way::Freezes => office.desk(device, 1, SLOW_BEAT, &[]).await,
            _ => office.desk(device, 1, 1_000, inside.as_ref().map_or(&[], |words| words)).await,
        };
        let session = office.session_of(device).expect("its session");
        // The attendant answers all.
        let ringing = usize::from(way != Way::IsTerminated);
        let (connected, ringing) = office.calls(number, 2 - ringing, ringing).await;
        Some(Victim { way, device, number, forwards, process, cable, session, connected, ringing })
    }

    fn goes(&mut self, office: &Office) {
        match self.way {
            Way::Leaves => self.process.signal("USR1"),
            Way::IsTerminated => self.process.signal("TERM"),
            Way::Crashes => self.process.signal("USR2"),
            Way::IsKilled => self.process.kill(),
            Way::Freezes => self.process.signal("STOP"),
            Way::LosesItsCable => self.cable.as_ref().expect("plugged").pull(),
            Way::LosesItsMachine => {
                let Victim { cable, process, device, .. } = self;
                let cable = cable.as_ref().expect("plugged");
                cable.reboot(|| process.kill());
                let inside = ["ip", "netns", "exec", &cable.namespace];
                *process = office.start_desk(device, 5, 1_000, &inside);
            }
        }
    }

    /// When the node noticed, by its log, and that it noticed as it should.
    async fn is_missed(&self, office: &Office, gone: SystemTime) -> SystemTime {
        let log = async |words: &str| office.node.writes(&[words, &self.session]).await;
        let (noticed, bounds) = match self.way {
            Way::Leaves | Way::IsTerminated => {
                return office.node.writes(&["CtiProviderClosed", &self.session, "reason=closed"]).await;
            }
            // The kernel tells at once.
            Way::Crashes | Way::IsKilled => (log("ApplicationConnectionDropped").await, (0, 1_000)),
            // Two intervals after its last message, of which it sends two in an interval.
            Way::Freezes => (
                log("CtiProviderCloseHeartbeatTimeout").await,
                (3 * SLOW_BEAT / 2 - 100, 2 * SLOW_BEAT + 1_000),
            ),
            Way::LosesItsCable => (log("CtiProviderCloseHeartbeatTimeout").await, (1_400, 3_000)),
            // The new machine knows nothing of the connection and says so when the node's next heartbeat comes.
            Way::LosesItsMachine => (log("ApplicationConnectionDropped").await, (0, 2_000)),
        };
        let took = noticed.duration_since(gone).unwrap_or_default();
        eprintln!("{:?}: noticed after {took:?}", self.way);
        let (least, most) = bounds;
        assert!((least..most).contains(&(took.as_millis() as u64)), "{:?}: {took:?}", self.way);
        noticed
    }

    /// What the contract says of its calls, and of those that come after it.
    async fn is_cleaned_up(&mut self, office: &mut Office, gone: SystemTime) {
        let noticed = self.is_missed(office, gone).await;
        let what = |part: &str| format!("{:?}: {part}", self.way);
        within(GONE, noticed, office.forgets(self.device, &self.session).await, &what("device and session"));
        within(GONE, noticed, cleared(&self.connected).await, &what("connected calls"));
        let [on_failure, unregistered, no_answer] = self.forwards;
        for call in &self.ringing {
            let done = match on_failure {
                Some(_) => office.away.gets(self.number, "forward_on_failure", 1).await,
                None => {
                    let over = call.is_over().await;
                    assert_eq!((over.refused, over.cause), (Some(503), Some(41)), "{over:?}");
                    over.at
                }
            };
            within(GONE, noticed, done, &what("ringing calls"));
        }
        if self.way == Way::LosesItsMachine {
            self.is_back(office, gone).await;
        } else {
            self.is_unopened(office, unregistered, no_answer).await;
        }
        for call in &self.ringing {
            call.hang_up().await;
        }
    }

    /// The application of the new machine waits until the node has found out about the old one, and takes calls.
    async fn is_back(&mut self, office: &Office, gone: SystemTime) {
        self.process.wait_for_log("device.open ok", SOON).await;
        let (taken, _) = office.calls(self.number, 1, 0).await;
        let back = taken[0].is_answered().await.duration_since(gone).unwrap_or_default();
        eprintln!("{:?}: answers again after {back:?}", self.way);
        taken[0].hang_up().await;
    }

    /// New calls go to CFUR, else to CFNA, else they get 480 with cause 20.
    async fn is_unopened(&self, office: &mut Office, unregistered: Option<&str>, no_answer: Option<&str>) {
        let after = office.trunk.call(self.number).await;
        match (unregistered, no_answer) {
            (Some(_), _) => drop(office.away.gets(self.number, "forward_unregistered", 1).await),
            // One more has come by the New Call Accept Timer while it was frozen.
            (None, Some(_)) => {
                let count = 1 + usize::from(self.way == Way::Freezes);
                office.away.gets(self.number, "forward_no_answer", count).await;
            }
            (None, None) => {
                let over = after.is_over().await;
                assert_eq!((over.refused, over.cause), (Some(480), Some(20)), "{over:?}");
            }
        }
        after.hang_up().await;
    }
}

/// Every way at the same time, on one node, while two phones talk: they notice nothing.
#[tokio::test]
async fn applications_end_in_every_way_and_phones_talk_on() {
    let mut office = Office::open("all-ways").await;
    let mut alice = Baresip::registered(&office.lab, office.node.account("2001", Transport::Udp, 450)).await;
    let mut bob = Baresip::registered(&office.lab, office.node.account("2002", Transport::Udp, 900)).await;
    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    alice.hears(900, SOON).await;

    let mut victims = Vec::new();
    for (way, ..) in WAYS {
        match Victim::prepare(&office, way).await {
            Some(victim) => victims.push(victim),
            None => {
                eprintln!("skipped {way:?}: without the right to make network namespaces there is no cable")
            }
        }
    }
    let mut gone = Vec::new();
    for victim in &mut victims {
        gone.push(wall());
        victim.goes(&office);
    }
    let frozen = office.trunk.call("5005").await;
    let forwarded = office.away.gets("5005", "forward_no_answer", 1).await;
    let found = office.node.wrote(&["CtiProviderCloseHeartbeatTimeout", &victims[4].session]);
    assert!(found.is_none_or(|found| found > forwarded), "the New Call Accept Timer was first");
    for (victim, gone) in victims.iter_mut().zip(gone) {
        victim.is_cleaned_up(&mut office, gone).await;
    }
    frozen.hang_up().await;

    for victim in &mut victims {
        match victim.way {
            Way::Leaves | Way::IsTerminated => {
                let status = victim.process.wait(SOON).await;
                assert!(status.success(), "it left in order: {status}");
            }
            Way::Freezes => {
                victim.process.signal("CONT");
                victim.process.wait_for_log("session.closed heartbeat_timeout", SOON).await;
            }
            Way::LosesItsMachine => victim.process.kill(),
            Way::Crashes | Way::IsKilled | Way::LosesItsCable => {}
        }
    }

    alice.hears(900, SOON).await;
    bob.hears(450, SOON).await;
    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
    office.node.is_quiet().await;
    eventually("only the session at RP_AWAY is left", SOON, async || {
        (office.node.admin("sessions").as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    office.node.is_well();
}
