//! Puts known bugs back, one after the other, into a copy of the tree, and sees that the simulator finds each:
//! `cargo run -p tests --bin sabotage [NAME]`.
//!
//! The copy and what is built of it live in `target/sabotage`; the tree itself is not touched.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Seeds within which each bug must be found, and the minutes of trouble of each.
const SEEDS: &str = "10";
const MINUTES: &str = "3";

/// A bug: in these files this text becomes that. Each text must be there once.
struct Bug {
    name: &'static str,
    edits: &'static [(&'static str, &'static str, &'static str)],
}

const BUGS: &[Bug] = &[
    Bug {
        name: "a-replay-without-its-first-event",
        edits: &[(
            "protocol/src/session/machine.rs",
            "self.log.after(last_seq).map(",
            "self.log.after(last_seq + 1).map(",
        )],
    },
    Bug {
        name: "events-in-the-grace-are-lost",
        edits: &[(
            "protocol/src/session/machine.rs",
            "let seq = self.log.push(event.clone());",
            "if self.connection().is_none() { return Delivery::Filtered; }\nlet seq = self.log.push(event.clone());",
        )],
    },
    Bug {
        name: "keys-are-forgotten-at-a-resume",
        edits: &[(
            "protocol/src/session/machine.rs",
            "        self.log.trim(last_seq);\n",
            "        self.log.trim(last_seq);\nself.answers = Answers::new(self.config.pending_requests, self.config.idem_keys);\n",
        )],
    },
    Bug {
        name: "the-reply-after-the-replay",
        edits: &[(
            "protocol/src/session/machine.rs",
            "self.replaying = self.queue.len();",
            "self.queue.rotate_left(1);\nself.replaying = self.queue.len();",
        )],
    },
    Bug {
        name: "a-log-without-a-bound",
        edits: &[(
            "protocol/src/session/log.rs",
            "while self.events.len() > self.max_events || self.bytes > self.max_bytes {",
            "while self.events.len() > 100 * self.max_events || self.bytes > 100 * self.max_bytes {",
        )],
    },
    Bug {
        name: "a-silent-application-is-never-missed",
        edits: &[
            (
                "protocol/src/session/machine.rs",
                "now >= *received + 2 * self.config.heartbeat",
                "now >= *received + 20_000 * self.config.heartbeat",
            ),
            ("protocol/src/session/link.rs", "(received + 2 * interval)", "(received + 20_000 * interval)"),
        ],
    },
    Bug {
        name: "a-failed-application-keeps-its-devices",
        edits: &[(
            "ctimanager/src/node/applications.rs",
            "self.model(step, device_model::Input::SessionEnded(id));",
            "",
        )],
    },
    Bug {
        name: "a-takeover-leaves-the-old-connection",
        edits: &[
            (
                "ctimanager/src/node/open.rs",
                "if let Some(old) = superseded {",
                "if let Some(old) = superseded.filter(|_| step.now < provider_epoch(step.now)) {",
            ),
            (
                "ctimanager/src/node/open.rs",
                "fn milliseconds(",
                "fn provider_epoch(now: std::time::Instant) -> std::time::Instant { now }\n\nfn milliseconds(",
            ),
        ],
    },
    Bug {
        name: "a-released-leg-keeps-its-sip-call",
        edits: &[(
            "ctimanager/src/node/bridge.rs",
            "LegCommand::Release { cause } => {\n                self.forget_leg(leg);",
            "LegCommand::Release { cause } => {",
        )],
    },
    Bug {
        name: "a-repeated-200-is-not-acknowledged-again",
        edits: &[(
            "sip/src/stack/mod.rs",
            "self.core.acknowledge_again(&key, out)",
            "self.core.acknowledge_again(&key, &mut Vec::new())",
        )],
    },
    Bug {
        name: "streams-that-never-stop",
        edits: &[("device-model/src/ending.rs", "        self.stop_streams(id);\n", "")],
    },
    Bug {
        name: "the-other-end-is-not-told",
        edits: &[(
            "device-model/src/ending.rs",
            "self.say_end(*leg, why.cause, why.status, gone != Some(*leg));",
            "self.say_end(*leg, why.cause, why.status, gone.is_none());",
        )],
    },
];

#[allow(clippy::print_stdout, reason = "a command")]
fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let tree = match copy() {
        Ok(tree) => tree,
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut missed = 0;
    for bug in BUGS.iter().filter(|bug| only.as_deref().is_none_or(|only| bug.name == only)) {
        match find(&tree, bug) {
            Ok(how) => println!("found   {}: {how}", bug.name),
            Err(why) => {
                missed += 1;
                println!("MISSED  {}: {why}", bug.name);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A copy of what is checked in, and of what is not yet.
fn copy() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the workspace's folder")?;
    let tree = root.join("target/sabotage/tree");
    std::fs::create_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    let script = "git ls-files -z --cached --others --exclude-standard | \
                  tar --null --ignore-failed-read -cf - -T - | tar -xf - -C \"$1\"";
    succeed(Command::new("sh").current_dir(root).args(["-c", script, "sh"]).arg(&tree))?;
    Ok(tree)
}

/// How the simulator finds the bug.
fn find(tree: &Path, bug: &Bug) -> Result<String, String> {
    let mut kept = Vec::new();
    let spoiled = bug.edits.iter().try_for_each(|edit| spoil(tree, edit, &mut kept));
    let found = spoiled.and_then(|()| simulate(tree));
    // Backwards: a file that was edited twice is as it was at first.
    for (path, text) in kept.into_iter().rev() {
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    found
}

fn spoil(
    tree: &Path,
    (file, good, bad): &(&str, &str, &str),
    kept: &mut Vec<(PathBuf, String)>,
) -> Result<(), String> {
    let path = tree.join(file);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{file}: {e}"))?;
    if text.matches(good).count() != 1 {
        return Err(format!("{file} does not say once: {good}"));
    }
    std::fs::write(&path, text.replace(good, bad)).map_err(|e| format!("{file}: {e}"))?;
    kept.push((path, text));
    Ok(())
}

fn simulate(tree: &Path) -> Result<String, String> {
    let target = tree.with_file_name("target");
    succeed(
        Command::new("cargo")
            .current_dir(tree)
            .env("CARGO_TARGET_DIR", &target)
            .args(["build", "--quiet", "--locked", "-p", "tests", "--bin", "simulate"]),
    )?;
    let run = Command::new(target.join("debug/simulate"))
        .args(["--seed", "1", "--seeds", SEEDS, "--minutes", MINUTES])
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&run.stdout);
    let found = said.lines().find(|line| line.starts_with("seed ") && line.contains(" s: "));
    match (run.status.success(), found) {
        (false, Some(found)) => Ok(found.chars().take(200).collect()),
        (true, _) => Err(format!("{SEEDS} seeds of {MINUTES} minutes went well")),
        (false, None) => {
            Ok(format!("a panic: {}", String::from_utf8_lossy(&run.stderr).lines().next().unwrap_or("?")))
        }
    }
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).lines().take(20).collect::<Vec<_>>().join("\n"))
    }
}
