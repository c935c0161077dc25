//! `ctimanager demo`: the main job in this process, told as it happens.

use super::Outcome;
use crate::demo::{self, DemoOptions, Screen};
use crate::io::{self, LogFormat};
use clap::Args;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::sync_channel;

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

/// What is logged beside the ladder: whose media come from elsewhere than agreed, and that strangers send.
const MEDIA_ALONE: &str = "off,client::media=info,ctimanager::audit=off";

/// Lines that may wait to be printed.
const WAITING_LINES: usize = 1_000;

/// Runs the demo.
#[must_use]
pub fn run(options: &Demo) -> Outcome {
    let _logging = io::start_logging(LogFormat::Text, MEDIA_ALONE);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(format!("no runtime: {error}")),
    };
    let options = DemoOptions { keep: options.keep, host: options.host };
    let (lines, waiting) = sync_channel::<String>(WAITING_LINES);
    let printer = std::thread::spawn(move || {
        for line in waiting {
            // A reader who went away (`| head`) is no failure.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    });
    let screen =
        Screen::new(lines, in_colour(std::io::stdout().is_terminal(), |name| std::env::var_os(name)));
    let outcome = match runtime.block_on(demo::run(options, &screen)) {
        Ok(()) => Outcome::default(),
        Err(error) => Outcome::failed(format!("the demo failed: {error}")),
    };
    // What still holds the screen goes with the runtime; then the printer has said all.
    drop((screen, runtime));
    let _ = printer.join();
    outcome
}

/// Colours are for terminals that know them, unless nobody wants them (<https://no-color.org>).
fn in_colour(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let unwanted = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !unwanted && variable("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::in_colour;
    use std::ffi::OsString;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let with = |terminal, set: &[(&str, &str)]| {
            in_colour(terminal, |name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            })
        };
        assert!(with(true, &[]) && with(true, &[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!with(false, &[]) && !with(true, &[("NO_COLOR", "1")]) && !with(true, &[("TERM", "dumb")]));
    }
}
