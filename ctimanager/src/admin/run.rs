//! `ctimanager run`: a node in this process.

use super::Outcome;
use super::socket::{named, socket_path};
use crate::io::{self, LogFormat, RunOptions, StopCause};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the node finds what it needs.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// The configuration: a file, or a folder whose *.yaml are read as one
    #[arg(long)]
    config: PathBuf,
    /// Which node of it; may be left out when there is one
    #[arg(long)]
    node: Option<String>,
    /// The folder for its socket and what it remembers, instead of the configured one
    #[arg(long)]
    state: Option<PathBuf>,
    /// The administrators' socket, instead of ctimanager.sock in that folder
    #[arg(long, env = "CTIMANAGER_SOCKET", value_parser = socket_path())]
    socket: Option<PathBuf>,
    /// How log lines on stderr look; RUST_LOG chooses what is logged
    #[arg(long, value_enum, default_value_t)]
    log: Log,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Log {
    #[default]
    Text,
    Json,
}

/// Runs the node until a signal or `ctimanager stop` ends it.
#[must_use]
pub fn run(run: Run) -> Outcome {
    let format = match run.log {
        Log::Text => LogFormat::Text,
        Log::Json => LogFormat::Json,
    };
    let _logging = io::start_logging(format, io::USUAL_LOG);
    io::report_panics();
    let socket = named(run.socket.as_deref()).map(Path::to_owned);
    let options = RunOptions { config: run.config, node: run.node, state: run.state, socket };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(format!("no runtime: {error}")),
    };
    runtime.block_on(async {
        let running = match io::run(options).await {
            Ok(running) => running,
            Err(error) => return Outcome::failed(error),
        };
        say_ready(&running.node);
        let name = running.node.clone();
        match running.wait().await {
            StopCause::Stopped => Outcome::default(),
            StopCause::Overdue => Outcome::failed("the node did not end in time and was ended"),
            StopCause::Yielded => Outcome::failed(format!(
                "another process of the node {name} is up: a node runs once in a cluster, and this process ends"
            )),
            StopCause::Panicked => Outcome::failed("the node failed; its log says where"),
        }
    })
}

/// For scripts, on a thread of its own: one that does not read must not keep the node from hearing its signals, and one
/// that has closed its end does not want to know.
fn say_ready(node: &str) {
    let line = format!("ctimanager {node} ready\n");
    let told = std::thread::Builder::new().name("ready".into()).spawn(move || {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    });
    if let Err(error) = told {
        tracing::warn!(%error, "no thread to say that the node is ready");
    }
}
