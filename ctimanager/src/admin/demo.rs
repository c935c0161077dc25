//! `ctimanager demo`: the main job in this process, told as it happens.

use super::Outcome;
use crate::demo::{self, DemoOptions};
use clap::Args;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

/// How the demo runs.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Go on after the call, and say how to point a softphone of your own at it
    #[arg(long)]
    keep: bool,
    /// The address to listen on; another than loopback lets softphones on other machines in
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
}

/// Runs the demo.
#[must_use]
pub fn run(options: &Demo) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(format!("no runtime: {error}")),
    };
    let options = DemoOptions { keep: options.keep, host: options.host };
    let mut say = |line: &str| {
        // A reader who went away (`| head`) is no failure.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    };
    match runtime.block_on(demo::run(options, &mut say)) {
        Ok(()) => Outcome::default(),
        Err(error) => Outcome::failed(format!("the demo failed: {error}")),
    }
}
