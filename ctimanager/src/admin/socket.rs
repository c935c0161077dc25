//! The commands that a running node answers by its Unix socket.

use super::table::{Column, object, table};
use super::{Format, Outcome};
use crate::config;
use crate::io::{Answer, Request, UnixAddress};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The node answers within ten seconds or says that it can't; a reload may look names up first.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// More than the list of a million devices.
const MAX_ANSWER_BYTES: u64 = 1 << 30;

/// The socket's name in the state directory.
const SOCKET: &str = "ctimanager.sock";

/// Which node, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// The node's socket
    #[arg(long, env = "CTIMANAGER_SOCKET", value_parser = socket_path())]
    socket: Option<PathBuf>,
    /// The node's configuration, which says where its socket is
    #[arg(long)]
    config: Option<PathBuf>,
    /// Which node of the configuration
    #[arg(long)]
    node: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Format,
}

impl Node {
    /// The configuration, when it is to answer instead of the node: no socket is named beside it, or `file_only`.
    pub(super) fn configuration_to_ask(&self, file_only: bool) -> Option<&Path> {
        self.config.as_deref().filter(|_| file_only || named(self.socket.as_deref()).is_none())
    }
}

/// Reads a socket's path; an empty one, too, for so a variable is unset where it can't be removed.
pub(super) fn socket_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The path, unless it is empty.
pub(super) fn named(socket: Option<&Path>) -> Option<&Path> {
    socket.filter(|path| !path.as_os_str().is_empty())
}

/// What may be asked.
#[derive(Clone, Debug, Subcommand)]
pub enum Question {
    /// How the node is
    Status(Node),
    /// The devices and their states
    Devices(Node),
    /// The calls and their legs
    Calls(Node),
    /// The applications' sessions
    Sessions(Node),
    /// What needs an administrator
    Alarms(Node),
    /// The nodes of the cluster
    Nodes(Node),
    /// What refers to a number or device
    Dependencies {
        /// The number, or the name of the device
        dn: String,
        /// Of which node
        #[command(flatten)]
        node: Node,
    },
    /// Read the configuration again
    Reload(Node),
    /// Take no new calls; those that are there go on
    Drain(Node),
    /// End all calls and sessions in order, and the node
    Stop(Node),
}

/// Asks the node and shows its answer. Exit code 1 when it can't be reached or refuses.
#[must_use]
pub fn ask(question: Question) -> Outcome {
    let (request, node) = match question {
        Question::Status(node) => (Request::Status, node),
        Question::Devices(node) => (Request::Devices, node),
        Question::Calls(node) => (Request::Calls, node),
        Question::Sessions(node) => (Request::Sessions, node),
        Question::Alarms(node) => (Request::Alarms, node),
        Question::Nodes(node) => (Request::Nodes, node),
        Question::Dependencies { dn, node } => (Request::Dependencies { dn }, node),
        Question::Reload(node) => (Request::Reload, node),
        Question::Drain(node) => (Request::Drain, node),
        Question::Stop(node) => (Request::Stop, node),
    };
    match answer(&node, &request) {
        Ok(value) => Outcome::good(show(&request, &value, node.output)),
        Err(reason) => Outcome::failed(reason),
    }
}

/// May this user open that device? Asked of the running node. Exit code 0 yes, 1 no.
#[must_use]
pub fn explain(device: String, user: String, node: &Node) -> Outcome {
    let request = Request::Explain { device, user };
    match answer(node, &request) {
        Ok(value) => super::explain::show(&value, node.output),
        Err(reason) => Outcome::failed(reason),
    }
}

/// May this device or trunk dial that number? Asked of the running node. Exit code 0 yes, 1 no.
#[must_use]
pub fn explain_number(number: String, from: String, line: Option<String>, node: &Node) -> Outcome {
    match answer(node, &Request::ExplainNumber { number, from, line }) {
        Ok(value) => super::explain::show(&value, node.output),
        Err(reason) => Outcome::failed(reason),
    }
}

fn answer(node: &Node, request: &Request) -> Result<Value, String> {
    let path = socket(node)?;
    if let Some(name) = &node.node {
        // Before anything is done there: `stop --node cm2` must not end cm1.
        let status = ask_at(&path, &Request::Status)?;
        let answers = status["node"].as_str().unwrap_or_default();
        if answers != name {
            let path = path.display();
            return Err(format!(
                "node {answers} answers at {path}, and not {name}: --socket or --config should name another one"
            ));
        }
    }
    ask_at(&path, request)
}

fn ask_at(path: &Path, request: &Request) -> Result<Value, String> {
    match exchange(path, request) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(reason)) => Err(reason),
        Err(error) => Err(unreachable(path, &error)),
    }
}

/// The socket that is named, else the one of the configuration, else the one in `./state`.
fn socket(node: &Node) -> Result<PathBuf, String> {
    if let Some(path) = named(node.socket.as_deref()) {
        return Ok(path.to_owned());
    }
    let Some(path) = &node.config else { return Ok(Path::new("state").join(SOCKET)) };
    let name = node.node.as_deref();
    match config::load(path) {
        Ok(loaded) => Ok(loaded.config.node(name)?.state_dir.join(SOCKET)),
        Err(mistakes) => {
            // The node runs on by an earlier file; `reload` is to hear from it what is bad.
            let socket = config::state_dir(path, name).map(|folder| folder.join(SOCKET));
            let lines = || mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            socket.filter(|socket| socket.exists()).ok_or_else(lines)
        }
    }
}

fn exchange(path: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(UnixAddress::of(path)?.path())?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&answer)?)
}

fn unreachable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no node answers at {path}: it does not run, or --socket or --config should name another one"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{path}: only the node's own system user and root may ask it")
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => format!(
            "{path}: the node hung up: it answers its own system user and root, and some 30 askers at once"
        ),
        io::ErrorKind::UnexpectedEof => format!("{path}: the node hung up without an answer"),
        _ => format!("{path}: {error}"),
    }
}

fn show(request: &Request, value: &Value, format: Format) -> String {
    if format == Format::Json {
        return format!("{value:#}");
    }
    match request {
        Request::Devices => table(value, DEVICES),
        Request::Sessions => table(value, SESSIONS),
        Request::Alarms => table(value, ALARMS),
        Request::Nodes => table(value, NODES),
        Request::Calls => table(&rows_of_calls(value), CALLS),
        Request::Reload => "the configuration is in force".into(),
        Request::Drain => "no new calls are taken; `ctimanager calls` shows those that go on".into(),
        Request::Stop => "the node ends its calls and stops".into(),
        Request::Dependencies { .. } if value.is_array() => table(value, DEPENDENCIES),
        Request::Status
        | Request::Explain { .. }
        | Request::ExplainNumber { .. }
        | Request::Dependencies { .. } => object(value),
    }
}

/// One row a leg.
fn rows_of_calls(calls: &Value) -> Value {
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    calls
        .iter()
        .flat_map(|call| call.get("legs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default())
        .cloned()
        .collect()
}

const DEVICES: &[Column] = &[
    ("NAME", "/name"),
    ("TYPE", "/type"),
    ("STATE", "/state"),
    ("REGISTERED", "/registered"),
    ("RESTRICTED", "/restricted"),
    ("LINES", "/lines/*/dn"),
    ("DESCRIPTION", "/description"),
];
const CALLS: &[Column] = &[
    ("CALL", "/call"),
    ("LEG", "/leg"),
    ("DEVICE", "/device"),
    ("DN", "/dn"),
    ("STATE", "/state"),
    ("CALLING", "/calling/number"),
    ("CALLED", "/called/number"),
    ("REASON", "/reason"),
];
const SESSIONS: &[Column] = &[
    ("SESSION", "/session"),
    ("USER", "/user"),
    ("APPLICATION", "/application"),
    ("INSTANCE", "/instance"),
    ("ADDRESS", "/address"),
    ("STATE", "/state"),
    ("LAST SEQ", "/last_seq"),
    ("DEVICES", "/devices/*"),
];
const ALARMS: &[Column] = &[
    ("TIME", "/time"),
    ("NAME", "/name"),
    ("SEVERITY", "/severity"),
    ("STATE", "/state"),
    ("TEXT", "/text"),
    ("CURE", "/cure"),
];
const NODES: &[Column] = &[
    ("NODE", "/node"),
    ("STATE", "/state"),
    ("LINK", "/link"),
    ("SINCE", "/since"),
    ("INCARNATION", "/incarnation"),
    ("REVISION", "/revision"),
    ("SERVICES", "/services/*"),
];
const DEPENDENCIES: &[Column] = &[("KIND", "/kind"), ("NAME", "/name"), ("HOW", "/how")];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::net::UnixListener;

    fn node_at(socket: PathBuf) -> Node {
        Node { socket: Some(socket), config: None, node: None, output: Format::Table }
    }

    /// A node that answers one question with this line, and what it was asked.
    fn asked(name: &str, answer: &'static str, question: impl FnOnce(Node) -> Question) -> (String, Outcome) {
        let path = std::env::temp_dir().join(format!("ctimanager-ask-{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener =
            UnixListener::bind(UnixAddress::of(&path).expect("its address").path()).expect("a socket");
        let node = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("an asker");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a question");
            (&stream).write_all(answer.as_bytes()).expect("answered");
            line
        });
        let outcome = ask(question(node_at(path.clone())));
        std::fs::remove_file(path).expect("removed");
        (node.join().expect("it served"), outcome)
    }

    #[test]
    fn what_the_node_says_is_shown_as_a_table() {
        let answer = concat!(
            r#"{"ok":[{"name":"RP_MAIN","type":"route_point","state":"in_service","registered":true,"#,
            r#""restricted":false,"lines":[{"dn":"5000"},{"dn":"5001"}],"description":""}]}"#,
            "\n"
        );
        let (line, outcome) = asked("table", answer, Question::Devices);
        assert_eq!(line, "{\"command\":\"devices\"}\n");
        assert_eq!(outcome.code, 0);
        assert_eq!(
            outcome.output,
            "NAME     TYPE         STATE       REGISTERED  RESTRICTED  LINES      DESCRIPTION\n\
             RP_MAIN  route_point  in_service  true        false       5000 5001\n"
        );
    }

    #[test]
    fn a_refusal_is_told_with_exit_code_1() {
        let (_, outcome) = asked("refusal", "{\"error\":\"this needs a restart: …\"}\n", Question::Reload);
        assert_eq!(outcome, Outcome::failed("this needs a restart: …"));
    }

    #[test]
    fn another_node_than_the_named_one_is_asked_for_its_name_alone() {
        let named = |node| Question::Stop(Node { node: Some("cm2".into()), ..node });
        let (line, outcome) = asked("another", "{\"ok\":{\"node\":\"cm1\"}}\n", named);
        assert_eq!(line, "{\"command\":\"status\"}\n");
        assert_eq!(outcome.code, 1);
        assert!(
            outcome.notes.contains("node cm1 answers at ") && outcome.notes.contains("not cm2"),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_file_that_is_bad_now_still_leads_to_the_node_that_runs() {
        let folder = std::env::temp_dir().join(format!("ctimanager-spoilt-{}", std::process::id()));
        let file = folder.join("hq.yaml");
        let lead = |text: &str, name: Option<&str>| {
            std::fs::write(&file, text).expect("written");
            let node = Node {
                socket: None,
                config: Some(file.clone()),
                node: name.map(str::to_owned),
                output: Format::Table,
            };
            socket(&node).map(|path| path.strip_prefix(&folder).expect("beside the file").to_owned())
        };
        for state in ["state", "elsewhere", "other"] {
            std::fs::create_dir_all(folder.join(state)).expect("a folder");
            std::fs::write(folder.join(state).join(SOCKET), "").expect("something is there");
        }
        let own = "nodes:\n - {name: cm1, host: 127.0.0.1, state_dir: ./elsewhere, sip: {udp: 99999}}\n";
        let both = format!("{own} - {{name: cm2, host: 127.0.0.1, state_dir: other}}\n");
        assert_eq!(lead(own, None).as_deref(), Ok(Path::new("elsewhere/ctimanager.sock")));
        assert_eq!(lead(&both, Some("cm2")).as_deref(), Ok(Path::new("other/ctimanager.sock")));
        assert!(lead(&both, None).is_err(), "which of them?");
        for default in ["nodes: [{name: cm1, state_dir: ~}]", "nodes: ["] {
            assert_eq!(lead(default, None).as_deref(), Ok(Path::new("state/ctimanager.sock")), "{default}");
        }
        std::fs::remove_file(folder.join("elsewhere").join(SOCKET)).expect("it was there");
        let said = lead(own, None).expect_err("no node runs");
        assert!(said.contains("nodes[0].sip.udp: 99999 is out of range"), "{said}");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn an_empty_path_names_no_socket() {
        let Ok(place) = socket(&node_at(PathBuf::new())) else { panic!("there is always one") };
        assert_eq!(place, Path::new("state/ctimanager.sock"));
        assert_eq!(named(Some(Path::new("x.sock"))), Some(Path::new("x.sock")));
    }

    #[test]
    fn a_node_that_hangs_up_or_does_not_run_is_told() {
        let (_, outcome) = asked("mute", "", Question::Status);
        assert!(outcome.notes.contains("without an answer"), "{}", outcome.notes);
        let refused = unreachable(Path::new("x.sock"), &io::ErrorKind::ConnectionReset.into());
        assert!(refused.contains("its own system user and root"), "{refused}");
        let outcome = ask(Question::Stop(node_at("/nonexistent/ctimanager.sock".into())));
        assert_eq!(outcome.code, 1);
        assert!(outcome.notes.contains("no node answers at"), "{}", outcome.notes);
    }

    #[test]
    fn each_leg_of_a_call_is_a_row() {
        let calls = json!([{"call": "1", "legs": [{"leg": "a"}, {"leg": "b"}]}, {"call": "2", "legs": []}]);
        assert_eq!(rows_of_calls(&calls), json!([{"leg": "a"}, {"leg": "b"}]));
    }
}
