//! A real node: the `ctimanager` program with a configuration of the test's own.

use super::baresip::{Account, Transport};
use super::cti::Cti;
use super::process::Process;
use super::{Lab, SOON, built, eventually};
use serde_json::{Value, json};
use std::fmt;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::SystemTime;

/// The password of every user that [`Config`] makes.
pub const PASSWORD: &str = "lab-password";
/// Its argon2id hash, made by another program than the node.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$fpwV0B+gJFZSv/gmAk9v0w$33Sf47kZaINGvHk5RHvf7D1r5lwNxeOOdWunUAEKPdQ";

/// The lines of `/etc/hosts` as a node sees them, in its folder, where they are other than the machine's.
const HOSTS: &str = "hosts";

/// What a node is to be. The file is written as JSON, which is YAML.
#[derive(Clone, Debug)]
pub struct Config {
    root: Value,
}

impl Config {
    /// One node `cm1` at the lab's address, with free ports for everything, the plain CTI port among them.
    #[must_use]
    pub fn new(lab: &Lab) -> Config {
        let host = lab.host().to_string();
        let port = || lab.port();
        let sip = port();
        let root = json!({
            "cluster": {"name": "lab", "security": {"mode": "non_secure", "pki": "./pki"}},
            "service_parameters": {},
            "nodes": [{
                "name": "cm1", "host": host, "services": ["callmanager", "ctimanager"],
                "sip": {"udp": sip, "tcp": sip, "tls": port()},
                "cti": {"tls": port(), "plain": port()},
                "web": port(), "cluster": port(), "state_dir": "./state",
            }],
            "call_manager_groups": [{"name": "Default", "members": ["cm1"]}],
            "device_pools": [{"name": "Default", "call_manager_group": "Default"}],
            "directory_numbers": [], "devices": [], "trunks": [], "route_patterns": [], "users": [],
        });
        Config { root }
    }

    /// Nodes of these names, each at an address of its own, with ports for the others; all of them lie in the file of each.
    #[must_use]
    pub fn nodes(self, nodes: &[(&str, IpAddr)]) -> Config {
        self.changed(|root| {
            let first = root["nodes"][0].clone();
            let each = nodes.iter().map(|(name, host)| {
                let mut node = first.clone();
                node["name"] = json!(name);
                node["host"] = json!(host.to_string());
                node["state_dir"] = json!(format!("./state-{name}"));
                node
            });
            root["nodes"] = each.collect();
        })
    }

    /// A SIP phone `SEP` + number with this one line.
    #[must_use]
    pub fn phone(self, number: &str) -> Config {
        self.phone_with(number, &json!({}))
    }

    /// The same with more settings.
    #[must_use]
    pub fn phone_with(self, number: &str, settings: &Value) -> Config {
        let digest = json!({"user": number, "password": digest_password(number)});
        let mut phone = json!({"name": format!("SEP{number}"), "type": "phone", "protocol": "sip",
                               "pool": "Default", "lines": [number], "digest": digest});
        for (name, value) in settings.as_object().into_iter().flatten() {
            phone[name] = value.clone();
        }
        self.add("devices", phone)
    }

    /// A route point with this line.
    #[must_use]
    pub fn route_point(self, name: &str, number: &str) -> Config {
        self.add(
            "devices",
            json!({"name": name, "type": "route_point", "pool": "Default", "lines": [number]}),
        )
    }

    /// A CTI port with this line.
    #[must_use]
    pub fn port(self, name: &str, number: &str) -> Config {
        self.add("devices", json!({"name": name, "type": "cti_port", "pool": "Default", "lines": [number]}))
    }

    /// Settings of a number, beside `dn`.
    #[must_use]
    pub fn number(self, dn: &str, settings: Value) -> Config {
        let mut entry = settings;
        entry["dn"] = json!(dn);
        self.add("directory_numbers", entry)
    }

    /// A trunk to this address over UDP.
    #[must_use]
    pub fn trunk(self, name: &str, peer: SocketAddr) -> Config {
        let (host, port) = (peer.ip().to_string(), peer.port());
        self.add("trunks", json!({"name": name, "host": host, "port": port, "transport": "udp"}))
    }

    /// A route pattern.
    #[must_use]
    pub fn pattern(self, pattern: &str, trunk: &str) -> Config {
        self.add("route_patterns", json!({"pattern": pattern, "trunk": trunk}))
    }

    /// A user of the group Standard CTI Enabled with the password [`PASSWORD`].
    #[must_use]
    pub fn user(self, id: &str, devices: &[&str]) -> Config {
        self.add(
            "users",
            json!({"id": id, "kind": "application_user", "password_hash": PASSWORD_HASH,
                   "groups": ["Standard CTI Enabled"], "controlled_devices": devices}),
        )
    }

    /// A user of these groups alone, with the same password.
    #[must_use]
    pub fn member(self, id: &str, groups: &[&str], devices: &[&str]) -> Config {
        self.add(
            "users",
            json!({"id": id, "kind": "application_user", "password_hash": PASSWORD_HASH,
                   "groups": groups, "controlled_devices": devices}),
        )
    }

    /// A service parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: Value) -> Config {
        self.root["service_parameters"][name] = value;
        self
    }

    /// Anything else: one more entry of a list at the top.
    ///
    /// # Panics
    /// If there is no such list.
    #[must_use]
    pub fn add(mut self, list: &str, entry: Value) -> Config {
        self.root[list].as_array_mut().unwrap_or_else(|| panic!("{list} is a list")).push(entry);
        self
    }

    /// The cluster's mode is `secure`.
    #[must_use]
    pub fn secure(self) -> Config {
        self.changed(|root| root["cluster"]["security"]["mode"] = json!("secure"))
    }

    /// The same with any change: for reloads.
    #[must_use]
    pub fn changed(mut self, change: impl FnOnce(&mut Value)) -> Config {
        change(&mut self.root);
        self
    }

    /// Another value for a key of the entry of a list whose `name`, `id` or `dn` this is.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn set(self, list: &str, name: &str, key: &str, value: Value) -> Config {
        self.changed(|root| {
            let entries = root[list].as_array_mut().into_iter().flatten();
            let is_it = |entry: &&mut Value| ["name", "id", "dn"].iter().any(|key| entry[*key] == name);
            entries.into_iter().find(is_it).unwrap_or_else(|| panic!("no {name} in {list}"))[key] = value;
        })
    }

    /// Without this entry.
    #[must_use]
    pub fn without(self, list: &str, name: &str) -> Config {
        self.changed(|root| {
            if let Some(entries) = root[list].as_array_mut() {
                entries.retain(|entry| ["name", "id", "dn"].iter().all(|key| entry[*key] != name));
            }
        })
    }

    fn port_of(&self, path: &str) -> u16 {
        let value = self.root.pointer(&format!("/nodes/0/{path}")).and_then(Value::as_u64);
        value.and_then(|port| u16::try_from(port).ok()).unwrap_or_else(|| panic!("no port at {path}"))
    }
}

impl fmt::Display for Config {
    /// The file's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.root)
    }
}

/// The digest password of a phone that [`Config::phone`] makes.
#[must_use]
pub fn digest_password(number: &str) -> String {
    format!("pass-{number}")
}

/// A running node.
pub struct Node {
    /// SIP over UDP and TCP.
    pub sip: SocketAddr,
    /// SIP over TLS.
    pub sips: SocketAddr,
    /// CTI over TLS.
    pub cti: SocketAddr,
    /// CTI over plain TCP.
    pub cti_plain: SocketAddr,
    /// Console, WebSocket, health.
    pub web: SocketAddr,
    folder: PathBuf,
    socket: PathBuf,
    process: Process,
    program: &'static str,
    lives: u32,
}

impl Node {
    /// Makes its certificates, starts it, and waits until SIP and CTI listen.
    ///
    /// # Panics
    /// If it doesn't come up; its log is shown.
    pub async fn start(lab: &Lab, config: Config) -> Node {
        let level = std::env::var("CTIMANAGER_LAB_LOG").unwrap_or_else(|_| "info".into());
        Node::start_logging(lab, &config, Some(&level)).await
    }

    /// The same with this `RUST_LOG`, or without one.
    ///
    /// # Panics
    /// If it doesn't come up; its log is shown.
    pub async fn start_logging(lab: &Lab, config: &Config, level: Option<&str>) -> Node {
        Node::start_program("ctimanager", lab, config, level).await
    }

    /// The same on a machine whose `/etc/hosts` has these lines: in a mount namespace of its own (`unshare`).
    ///
    /// # Panics
    /// If it doesn't come up; its log is shown.
    pub async fn start_knowing(lab: &Lab, config: Config, hosts: &str) -> Node {
        std::fs::write(lab.folder("cm1").join(HOSTS), hosts).expect("the lab's folder can be written to");
        Node::start(lab, config).await
    }

    /// The same with another program of this workspace that is a node.
    ///
    /// # Panics
    /// If it doesn't come up; its log is shown.
    pub async fn start_program(
        program: &'static str,
        lab: &Lab,
        config: &Config,
        level: Option<&str>,
    ) -> Node {
        let folder = lab.folder("cm1");
        let file = folder.join("config.yaml");
        std::fs::write(&file, config.to_string()).expect("the lab's folder can be written to");
        let mut pki = Command::new(built("ctimanager"));
        pki.args(["pki", "init"]).arg(folder.join("pki")).arg("--config").arg(&file);
        succeed("pki init", &pki.output().expect("the program runs"));
        let socket = folder.join("state").join("ctimanager.sock");
        let process = run(program, &folder, &socket, level, 1);
        let at = |path: &str| SocketAddr::new(lab.host(), config.port_of(path));
        let mut node = Node {
            sip: at("sip/udp"),
            sips: at("sip/tls"),
            cti: at("cti/tls"),
            cti_plain: at("cti/plain"),
            web: at("web"),
            folder,
            socket,
            process,
            program,
            lives: 1,
        };
        node.until_it_listens().await;
        node
    }

    /// Ends it without a word (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after its end, with the same configuration and state, and waits until it listens.
    ///
    /// # Panics
    /// If it still runs, or doesn't come up.
    pub async fn start_again(&mut self) {
        assert!(self.process.ended().is_some(), "it still runs");
        self.lives += 1;
        self.process = run(self.program, &self.folder, &self.socket, Some("info"), self.lives);
        self.until_it_listens().await;
    }

    /// It has let go of the connections by which that is seen, too: who counts its files counts none of them.
    async fn until_it_listens(&mut self) {
        let mut wanted = vec![self.sip, self.sips, self.cti, self.cti_plain];
        let mut seen = Vec::new();
        eventually("the node listens", SOON, async || {
            assert!(self.process.ended().is_none(), "the node ended at its start:\n{}", self.process.log());
            wanted.retain(|address| TcpStream::connect(address).map(|stream| seen.push(stream)).is_err());
            wanted.is_empty().then_some(())
        })
        .await;
        for mut stream in seen {
            let waits = stream.shutdown(Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(SOON)));
            waits.expect("a connection");
            // An alert may come before the end, or the end be a reset.
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it closes who says nothing")
                }
            }
        }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.pki().join("ca.pem")
    }

    /// Connects an application over TLS and opens a provider.
    pub async fn application(&self, user: &str) -> Cti {
        let mut cti = self.connect().await;
        cti.open(user, PASSWORD).await;
        cti
    }

    /// Connects over TLS without opening.
    pub async fn connect(&self) -> Cti {
        Cti::tls(self.cti, &self.ca()).await
    }

    /// The account of a phone that [`Config::phone`] made.
    #[must_use]
    pub fn account(&self, number: &str, transport: Transport, tone_hz: u32) -> Account {
        Account {
            number: number.to_owned(),
            password: digest_password(number),
            registrar: if transport == Transport::Tls { self.sips } else { self.sip },
            transport,
            tone_hz,
            auto_answer: false,
            proxy: None,
            media_encryption: None,
            message_waiting: false,
            ca: (transport == Transport::Tls).then(|| self.ca()),
        }
    }

    /// An administrator's command on the running node; gives what it prints as JSON.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn admin(&self, command: &str) -> Value {
        let output = Command::new(built("ctimanager"))
            .args([command, "--output", "json", "--socket"])
            .arg(&self.socket)
            .output()
            .expect("the program runs");
        succeed(command, &output);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{command} prints JSON: {e}"))
    }

    /// Any command of the command line on the running node, with these words; nothing is expected of it.
    ///
    /// # Panics
    /// If the program doesn't run.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Output {
        let mut command = Command::new(built("ctimanager"));
        command.args(words).arg("--socket").arg(&self.socket);
        command.output().expect("the program runs")
    }

    /// Writes another configuration and tells the node to read it; gives what `reload` says and how it ended.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn reload(&self, config: &Config) -> Output {
        std::fs::write(self.file(), config.to_string()).expect("the lab's folder can be written to");
        self.command(&["reload"])
    }

    /// The same, and it must be taken.
    ///
    /// # Panics
    /// If it is not.
    pub fn reloads(&self, config: &Config) {
        succeed("reload", &self.reload(config));
    }

    /// Tells it by SIGHUP to read its configuration.
    pub fn hang_up(&mut self) {
        self.process.signal("HUP");
    }

    /// Its configuration's file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    /// Its folder of certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// Its folder of state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Waits until no call is left.
    ///
    /// # Panics
    /// If one is left when the time is over; shows it.
    pub async fn is_quiet(&self) {
        eventually("no call is left on the node", SOON, async || {
            (self.admin("calls") == json!([])).then_some(())
        })
        .await;
    }

    /// Asserts that it still runs and has not panicked.
    ///
    /// # Panics
    /// If not.
    pub fn is_well(&mut self) {
        assert!(self.process.ended().is_none(), "the node ended");
        let log = self.process.log();
        assert!(!log.contains("panicked at"), "the node panicked:\n{log}");
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// When it wrote its first line that contains all of these: its own account.
    #[must_use]
    pub fn wrote(&self, words: &[&str]) -> Option<SystemTime> {
        let log = self.log();
        let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)))?;
        humantime::parse_rfc3339(line.split(' ').next()?).ok()
    }

    /// Waits until it has written such a line; when that was.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn writes(&self, words: &[&str]) -> SystemTime {
        eventually(format!("a line with {words:?}"), SOON, async || self.wrote(words)).await
    }

    /// The status and the body of a page of its web port.
    pub async fn page(&self, path: &str) -> (u16, String) {
        super::web::get(self.web, &self.ca(), path).await
    }

    /// Its resident memory in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Sends its process a signal by its name.
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end.
    pub async fn ends(&mut self) -> ExitStatus {
        self.process.wait(SOON).await
    }

    /// What the kernel says of it: a file of its folder in `/proc`.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process.id());
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Files and sockets that it has open.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").count()
    }

    /// From now on it may have so many files and sockets open.
    ///
    /// # Panics
    /// Without `prlimit`.
    pub fn limit_files(&self, files: usize) {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg(format!("--nofile={files}:{files}")).arg("--pid").arg(self.process.id().to_string());
        succeed("prlimit", &prlimit.output().expect("util-linux is everywhere"));
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.terminate().await
    }
}

/// A life of the node, with a log of its own.
fn run(program: &str, folder: &Path, socket: &Path, level: Option<&str>, life: u32) -> Process {
    let hosts = folder.join(HOSTS);
    let mut command = if hosts.is_file() { knowing(&hosts) } else { Command::new(built(program)) };
    if hosts.is_file() {
        command.arg(built(program));
    }
    match level {
        Some(level) => command.env("RUST_LOG", level),
        None => command.env_remove("RUST_LOG"),
    };
    command.arg("run").arg("--config").arg(folder.join("config.yaml"));
    command.arg("--state").arg(folder.join("state")).arg("--socket").arg(socket);
    let log = if life == 1 { "log".to_owned() } else { format!("log-{life}") };
    Process::start("ctimanager", command, &folder.join(log))
}

/// Runs the program that follows, in the same process, where these are the machine's hosts.
fn knowing(hosts: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"").arg("sh").arg(hosts);
    command
}

/// Whether this machine lets a test give a program hosts of its own.
#[must_use]
pub fn hosts_can_be_given() -> bool {
    Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .status()
        .is_ok_and(|status| status.success())
}

fn succeed(what: &str, output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_configuration_has_no_mistakes() {
        let lab = Lab::new("configuration");
        let config = Config::new(&lab)
            .route_point("RP_MAIN", "5000")
            .number("5000", json!({"max_calls": 200, "busy_trigger": 150, "forward": {"on_failure": "2001"}}))
            .port("PORT_001", "5101")
            .phone("2001")
            .trunk("pstn", lab.address())
            .pattern("9.!", "pstn")
            .parameter("cti_new_call_accept_timer", json!("1s"))
            .parameter("max_requests_per_second", json!(5_000))
            .user("attendant", &["RP_MAIN", "PORT_*"]);
        let mistakes = ctimanager::config::parse("lab.yaml", &config.to_string()).err().unwrap_or_default();
        let shown: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{shown:#?}");
    }
}
