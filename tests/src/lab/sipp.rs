//! SIPp: exact SIP flows, odd peers, and load, from the scenario files in `tests/sipp/`.

use super::process::Process;
use super::{Lab, SOON};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Blanks of the scenarios, where a run doesn't say otherwise: time allowed for the answer, time from answer to the
/// next step, time of ringing, asked expiry of a registration, last digit of the awaited 18x, where a peer's audio goes.
pub const DEFAULTS: [(&str, &str); 6] = [
    ("ANSWER_MS", "10000"),
    ("TALK_MS", "500"),
    ("RING_MS", "100"),
    ("EXPIRES", "600"),
    ("DIGIT", "0"),
    ("MEDIA_PORT", "[media_port]"),
];

/// Passages that most scenarios share: the headers of a caller's first request, of its requests in the call, and who
/// calls whom alone; a response's; each side's Contact; descriptions of audio, as they are, held, or holding.
const PASSAGES: [(&str, &str); 10] = [
    ("ASK", "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\n{{CALLER}}"),
    (
        "IN_CALL",
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\n[routes]\n{{CALLER}}",
    ),
    (
        "CALLER",
        "From: \"Caller\" <sip:4000@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
         To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]\nCall-ID: [call_id]",
    ),
    ("REPLY", "[last_Via:]\n[last_Record-Route:]\n[last_Call-ID:]\n[last_CSeq:]\n[last_From:]\n[last_To:]"),
    (
        "CONTACT",
        "Contact: <sip:4000@[local_ip]:[local_port];transport=[transport]>\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE",
    ),
    ("UAS_CONTACT", "Contact: <sip:uas@[local_ip]:[local_port];transport=[transport]>"),
    ("SDP_HOLD", "{{MEDIA}}\na=sendonly"),
    ("SDP_HELD", "{{MEDIA}}\na=recvonly"),
    ("SDP", "{{MEDIA}}\na=sendrecv"),
    (
        "MEDIA",
        "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\n\
    o=sipp 1 1 IN IP[local_ip_type] [local_ip]\ns=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\n\
    m=audio {{MEDIA_PORT}} RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n\
    a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=ptime:20",
    ),
];

/// One run of SIPp.
pub struct Sipp {
    /// Where it sends from and listens.
    pub local: SocketAddr,
    folder: PathBuf,
    process: Process,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// 0 = every call went as the scenario says.
    pub exit: Option<i32>,
    /// Calls that went well.
    pub successful: u64,
    /// Calls that didn't.
    pub failed: u64,
    /// Messages sent again.
    pub retransmissions: u64,
    /// What was unexpected, in SIPp's words.
    pub errors: String,
}

impl Report {
    /// # Panics
    /// If any call failed.
    pub fn all_went_well(&self, calls: u64) {
        assert_eq!((self.exit, self.failed, self.successful), (Some(0), 0, calls), "{}", self.errors);
    }
}

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// File in `tests/sipp/`, without `.xml`.
    pub scenario: &'static str,
    /// Whom to call; none for a scenario that waits for calls.
    pub to: Option<SocketAddr>,
    /// Number to call.
    pub number: String,
    /// Where to send from; a free address if none is given.
    pub local: Option<SocketAddr>,
    /// Calls in all; 0 = until it is ended.
    pub calls: u64,
    /// Calls a second.
    pub rate: u32,
    /// Most calls at once; 0 = no bound.
    pub at_once: u32,
    /// What stands for `{{NAME}}` in the scenario, beside the defaults of [`DEFAULTS`].
    pub keys: Vec<(&'static str, String)>,
    /// Over TCP instead of UDP, one connection for all calls.
    pub tcp: bool,
    /// Ports for audio, free and side by side; 4 apart for `[auto_media_port]`.
    pub media_ports: u16,
    /// What lies beside the scenario, by name.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Lines of `[field0];[field1]…`.
    pub fields: Vec<String>,
}

impl Sipp {
    /// Starts it, and waits until it hears: before that, the machine itself tells a caller that nobody is there.
    ///
    /// # Panics
    /// If it neither listens nor ends.
    #[must_use]
    pub fn start(lab: &Lab, run: &Run) -> Sipp {
        let local = run.local.unwrap_or_else(|| lab.address());
        let folder = lab.folder(&format!("sipp-{}-{}", run.scenario, local.port()));
        let mut command = Command::new("sipp");
        command.current_dir(&folder);
        if let Some(to) = run.to {
            command.arg(to.to_string());
        }
        // It keeps names of files in 250 bytes, and a comma ends one in a scenario: they are named from its folder.
        std::fs::write(folder.join("scenario.xml"), scenario(run)).expect("the folder is writable");
        for (name, bytes) in &run.files {
            std::fs::write(folder.join(name), bytes).expect("the folder is writable");
        }
        command.args(["-sf", "scenario.xml"]).args(["-nostdin", "-trace_err", "-error_file", "errors.log"]);
        command.args(["-trace_stat", "-stf", "stat.csv", "-fd", "1s"]);
        command.args(["-i", &local.ip().to_string(), "-p", &local.port().to_string()]);
        command.args(["-mi", &local.ip().to_string(), "-mp", &lab.ports(run.media_ports.max(4)).to_string()]);
        command.args(["-s", &run.number, "-t", if run.tcp { "t1" } else { "u1" }]);
        command.args(["-ci", &local.ip().to_string(), "-cp", &lab.port().to_string()]);
        if run.calls > 0 {
            command.args(["-m", &run.calls.to_string()]);
        }
        if run.rate > 0 {
            command.args(["-r", &run.rate.to_string()]);
        }
        if run.at_once > 0 {
            command.args(["-l", &run.at_once.to_string()]);
        }
        if !run.fields.is_empty() {
            let text = format!("SEQUENTIAL\n{}\n", run.fields.join("\n"));
            std::fs::write(folder.join("fields.csv"), text).expect("the folder is writable");
            command.args(["-inf", "fields.csv"]);
        }
        let mut process = Process::start(&format!("sipp {}", run.scenario), command, &folder.join("log"));
        if !run.tcp {
            await_socket(&mut process, local);
        }
        Sipp { local, folder, process }
    }

    /// Waits for its end and says how it went.
    ///
    /// # Panics
    /// If it still runs when the time is over.
    pub async fn finish(&mut self, within: Duration) -> Report {
        let status = self.process.wait(within).await;
        let totals = last_totals(&self.folder.join("stat.csv"));
        let total = |name: &str| totals.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        let mut errors = std::fs::read_to_string(self.folder.join("errors.log")).unwrap_or_default();
        errors.truncate(errors.char_indices().nth(4_000).map_or(errors.len(), |(at, _)| at));
        Report {
            exit: status.code(),
            successful: total("SuccessfulCall(C)"),
            failed: total("FailedCall(C)"),
            retransmissions: total("Retransmissions(C)"),
            errors,
        }
    }

    /// Its figures so far, by the names of SIPp's columns.
    #[must_use]
    pub fn totals(&self) -> HashMap<String, String> {
        last_totals(&self.folder.join("stat.csv"))
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.process.kill();
    }
}

/// Runs a scenario to its end.
pub async fn run(lab: &Lab, run: &Run, within: Duration) -> Report {
    Sipp::start(lab, run).finish(within).await
}

/// Waits until a UDP socket is at `local`, or the program has ended. Looks at the system's table: binding the address to
/// find out would take it from the program.
fn await_socket(process: &mut Process, local: SocketAddr) {
    const STEPS: u64 = SOON.as_secs() * 1_000 / 5;
    let (table, host) = match local.ip() {
        IpAddr::V4(ip) => ("/proc/net/udp", ip.octets().to_vec()),
        IpAddr::V6(ip) => ("/proc/net/udp6", ip.octets().to_vec()),
    };
    // Words as the machine reads them.
    let words = host.as_chunks().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    let wanted = format!("{}:{:04X}", words.collect::<String>(), local.port());
    for _ in 0..STEPS {
        let sockets = std::fs::read_to_string(table).unwrap_or_else(|e| panic!("{table}: {e}"));
        let bound = sockets.lines().any(|line| line.split_whitespace().nth(1) == Some(&wanted));
        if bound || process.ended().is_some() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("SIPp is not at {local} after {SOON:?}:\n{}", process.log());
}

/// The scenario's text with its blanks filled in.
fn scenario(run: &Run) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp").join(format!("{}.xml", run.scenario));
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let given = run.keys.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in PASSAGES.into_iter().chain(given).chain(DEFAULTS) {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    assert!(!text.contains("{{"), "{}: a blank is not filled in", path.display());
    text
}

fn last_totals(file: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    let Some(names) = lines.next() else { return HashMap::new() };
    let Some(values) = lines.next_back() else { return HashMap::new() };
    names.split(';').map(str::to_owned).zip(values.split(';').map(str::to_owned)).collect()
}

/// A line of [`Run::fields`] for the registering scenarios: who registers, and as which user with which password.
#[must_use]
pub fn credentials(number: &str, user: &str, password: &str) -> String {
    format!("{number};[authentication username={user} password={password}]")
}
