//! Several real nodes of one configuration, each a process at an address of its own.

use super::node::Config;
use super::process::Process;
use super::{Lab, built, eventually, web};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a test waits for what happens between nodes: the bounds of the contract are measured under virtual time, where
/// nobody else uses the machine.
pub const BY_AND_BY: Duration = Duration::from_secs(60);

/// The nodes of one file.
pub struct Cluster {
    /// One for each address; the first has the files.
    labs: Vec<Lab>,
    folder: PathBuf,
    config: Config,
    members: BTreeMap<String, Member>,
    started: usize,
}

struct Member {
    process: Process,
    /// Its web port.
    web: SocketAddr,
    socket: PathBuf,
}

impl Cluster {
    /// A file with these nodes, and their certificates; none of them runs yet.
    ///
    /// # Panics
    /// When the files can't be made.
    #[must_use]
    pub fn new(test: &str, names: &[&str]) -> Cluster {
        let labs: Vec<Lab> = names.iter().map(|name| Lab::new(&format!("{test}-{name}"))).collect();
        let hosts: Vec<(&str, IpAddr)> =
            names.iter().zip(&labs).map(|(name, lab)| (*name, lab.host())).collect();
        let config = Config::new(&labs[0]).nodes(&hosts).parameter("node_failure_timeout", json!("2s"));
        let folder = labs[0].folder("cluster");
        let cluster = Cluster { labs, folder, config, members: BTreeMap::new(), started: 0 };
        cluster.write("config.yaml", &cluster.config);
        cluster.make_certificates("pki");
        cluster
    }

    /// Another authority and its certificates for the same nodes, in this folder beside the file.
    ///
    /// # Panics
    /// When they can't be made.
    pub fn make_certificates(&self, folder: &str) {
        self.run(&["pki", "init"], &[&self.folder.join(folder)], &["--config"], &[&self.file("config.yaml")]);
    }

    /// A certificate of the cluster's authority for a user; gives its file.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn certify(&self, user: &str) -> PathBuf {
        self.run(&["pki", "client"], &[&self.pki()], &["--user", user], &[]);
        self.pki().join("clients").join(format!("{user}.pem"))
    }

    fn run(&self, words: &[&str], paths: &[&Path], more: &[&str], more_paths: &[&Path]) {
        let mut command = Command::new(built("ctimanager"));
        command.args(words).args(paths).args(more).args(more_paths);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn write(&self, name: &str, config: &Config) {
        std::fs::write(self.file(name), config.to_string()).expect("the lab's folder can be written to");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// The lab of the first node.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.labs[0]
    }

    /// Where a node listens for the others.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn port(&self, name: &str) -> SocketAddr {
        self.address("config.yaml", name, "cluster")
    }

    fn address(&self, file: &str, name: &str, key: &str) -> SocketAddr {
        let text = std::fs::read_to_string(self.file(file)).expect("it was written");
        let root: Value = serde_json::from_str(&text).expect("it was written as JSON");
        let nodes = root["nodes"].as_array().expect("a list");
        let node = nodes.iter().find(|node| node["name"] == name).expect("it is of the file");
        let host = node["host"].as_str().or_else(|| node["host"][key].as_str());
        let host: IpAddr = host.and_then(|host| host.parse().ok()).expect("an address");
        let port = node[key].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        SocketAddr::new(host, port)
    }

    /// Starts a node, with the state that it has; waits until it answers.
    pub async fn start(&mut self, name: &str) {
        self.start_as(name, name, "config.yaml").await;
    }

    /// Starts another process of a node at an address of its own, with a state of its own. From now on it has this name here.
    pub async fn start_second(&mut self, name: &str, called: &str) {
        let lab = Lab::new(called);
        // Its pages are asked for at an address that the node's certificate names.
        let (host, web) = (lab.host().to_string(), self.labs[0].address());
        let host = json!({"sip": host, "cti": host, "web": web.ip().to_string()});
        let config = self.config.clone().set("nodes", name, "host", host);
        let config = config.set("nodes", name, "web", json!(web.port()));
        let file = format!("{called}.yaml");
        self.write(&file, &config);
        self.labs.push(lab);
        self.start_as(name, called, &file).await;
    }

    async fn start_as(&mut self, node: &str, called: &str, file: &str) {
        self.started += 1;
        let state = self.folder.join(format!("state-{called}"));
        let socket = state.join("ctimanager.sock");
        let mut command = Command::new(built("ctimanager"));
        command.env("RUST_LOG", "info").arg("run").arg("--config").arg(self.file(file));
        command.args(["--node", node]).arg("--state").arg(&state).arg("--socket").arg(&socket);
        let log = self.file(&format!("log-{called}-{}", self.started));
        let mut process = Process::start(called, command, &log);
        process.wait_for_log(&format!("ctimanager {node} ready"), BY_AND_BY).await;
        let web = self.address(file, node, "web");
        self.members.insert(called.to_owned(), Member { process, web, socket });
    }

    /// The process of a node.
    ///
    /// # Panics
    /// If it was never started.
    pub fn process(&mut self, name: &str) -> &mut Process {
        &mut self.members.get_mut(name).expect("it was started").process
    }

    /// What a command says of a running node, as JSON; `None` if it does not answer.
    ///
    /// # Panics
    /// If it was never started, or answers with what is no JSON.
    #[must_use]
    pub fn ask(&self, name: &str, command: &str) -> Option<Value> {
        let socket = &self.members.get(name).expect("it was started").socket;
        let mut asked = Command::new(built("ctimanager"));
        asked.args([command, "--output", "json", "--socket"]).arg(socket);
        let output = asked.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(|| serde_json::from_str(&said).expect("JSON"))
    }

    /// A node's row of `nodes`, as another sees it.
    #[must_use]
    pub fn row(&self, at: &str, of: &str) -> Option<Value> {
        let rows = self.ask(at, "nodes")?;
        rows.as_array()?.iter().find(|row| row["node"] == of).cloned()
    }

    /// Waits until a node is so for another one; gives its row.
    ///
    /// # Panics
    /// If it is not by and by.
    pub async fn until(&self, at: &str, of: &str, state: &str) -> Value {
        let what = format!("{of} is {state} at {at}");
        eventually(what, BY_AND_BY, async || self.row(at, of).filter(|row| row["state"] == state)).await
    }

    /// Waits until each of these hears each other one.
    ///
    /// # Panics
    /// If not by and by.
    pub async fn all_run(&self, names: &[&str]) {
        for at in names {
            for of in names {
                let row = self.until(at, of, "running").await;
                assert_eq!(row["link"], if at == of { "self" } else { "up" }, "{row}");
            }
        }
    }

    /// The alarms of this name that are listed at a node, each with its parameters.
    #[must_use]
    pub fn alarms(&self, at: &str, name: &str) -> Vec<Value> {
        let all = self.ask(at, "alarms").unwrap_or_default();
        all.as_array().into_iter().flatten().filter(|alarm| alarm["name"] == name).cloned().collect()
    }

    /// Waits until an alarm of this name about a node is so at another.
    ///
    /// # Panics
    /// If it is not by and by.
    pub async fn until_alarm(&self, at: &str, name: &str, of: &str, state: &str) {
        eventually(format!("{name} of {of} {state} at {at}"), BY_AND_BY, async || {
            let alarms = self.alarms(at, name);
            let is_it = |alarm: &Value| alarm["state"] == state && alarm["parameters"]["node"] == of;
            alarms
                .iter()
                .find(|alarm| alarm["parameters"]["node"] == of)
                .filter(|alarm| is_it(alarm))
                .map(drop)
        })
        .await;
    }

    /// Waits until a node says that it is ready.
    ///
    /// # Panics
    /// If it does not by and by.
    pub async fn until_ready(&self, name: &str) {
        eventually(format!("{name} is ready"), BY_AND_BY, async || {
            (self.page(name, "/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// A page of a node's web port.
    ///
    /// # Panics
    /// If it was never started.
    pub async fn page(&self, name: &str, path: &str) -> (u16, String) {
        let member = self.members.get(name).expect("it was started");
        web::get(member.web, &self.pki().join("ca.pem"), path).await
    }
}
