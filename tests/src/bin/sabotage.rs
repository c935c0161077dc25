//! Puts known bugs back into a copy of the tree, and sees that the simulator finds each:
//! `cargo run -p tests --bin sabotage [NAME]`.
//!
//! The copy and what is built of it live in `target/sabotage`; the tree itself is not touched. All bugs are built in at
//! once, each behind its name in the environment, so that the copy is built only once.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use tests::sim::bugs::{BUGS, SWITCH};

/// Seeds within which each bug must be found, and the minutes of trouble of each.
const SEEDS: &str = "40";
const MINUTES: &str = "5";

/// Where the name of the bug stands that is to be there.
const VARIABLE: &str = "SABOTAGE";

/// What the switch asks, in each room that has one.
const ASKED: &str = r#"
/// Whether this bug is to be there.
#[allow(missing_docs, clippy::all)]
pub(crate) fn sabotaged(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("SABOTAGE").unwrap_or_default()) == name
}
"#;

#[allow(clippy::print_stdout, reason = "a command")]
fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let built = copy().and_then(|tree| {
        spoil(&tree)?;
        build(&tree)
    });
    let simulator = match built.and_then(|simulator| without_bugs(&simulator).map(|()| simulator)) {
        Ok(simulator) => simulator,
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut missed = 0;
    for bug in BUGS.iter().filter(|bug| only.as_deref().is_none_or(|only| bug.name == only)) {
        match simulate(&simulator, bug.name, SEEDS) {
            Ok(Some(how)) => println!("found   {}: {how}", bug.name),
            Ok(None) => {
                missed += 1;
                println!("MISSED  {}: {SEEDS} seeds of {MINUTES} minutes went well", bug.name);
            }
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

/// Builds all bugs in, each behind its switch.
fn spoil(tree: &Path) -> Result<(), String> {
    let mut rooms = std::collections::BTreeSet::new();
    for bug in BUGS {
        for (file, good, bad) in bug.edits {
            let path = tree.join(file);
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{file}: {e}"))?;
            if text.matches(good).count() != 1 {
                return Err(format!("{file} does not say once: {good}"));
            }
            let bad = bad.replace(SWITCH, &format!("crate::sabotaged(\"{}\")", bug.name));
            std::fs::write(&path, text.replace(good, &bad)).map_err(|e| format!("{file}: {e}"))?;
            rooms.extend(file.split('/').next());
        }
    }
    for room in rooms {
        let path = tree.join(room).join("src/lib.rs");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{room}: {e}"))?;
        std::fs::write(&path, text + ASKED).map_err(|e| format!("{room}: {e}"))?;
    }
    Ok(())
}

fn build(tree: &Path) -> Result<PathBuf, String> {
    let target = tree.with_file_name("target");
    let arguments =
        ["build", "--quiet", "--locked", "--profile", "simulate", "-p", "tests", "--bin", "simulate"];
    succeed(Command::new("cargo").current_dir(tree).env("CARGO_TARGET_DIR", &target).args(arguments))?;
    Ok(target.join("simulate/simulate"))
}

/// Without any bug nothing may be found.
fn without_bugs(simulator: &Path) -> Result<(), String> {
    match simulate(simulator, "", "2")? {
        None => Ok(()),
        Some(found) => Err(format!("found without any bug: {found}")),
    }
}

/// How the simulator finds the bug, if it does.
fn simulate(simulator: &Path, bug: &str, seeds: &str) -> Result<Option<String>, String> {
    let run = Command::new(simulator)
        .env(VARIABLE, bug)
        .args(["--seed", "1", "--seeds", seeds, "--minutes", MINUTES])
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&run.stdout);
    let found = said.lines().find(|line| line.starts_with("seed ") && line.contains(" s: "));
    match (run.status.success(), found) {
        (true, _) => Ok(None),
        (false, Some(found)) => Ok(Some(found.chars().take(200).collect())),
        (false, None) => Err(format!("the simulator ended without a word: {}", run.status)),
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
