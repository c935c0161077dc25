//! Clients that generators make of the OpenRPC document (`scripts/install-clients.sh`), in folders of the test's own.

use super::built;
use super::process::Process;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const LOCKS: [(&str, &str); 2] =
    [("typescript/package-lock.json", "npm.installed"), ("python/requirements.txt", "python.installed")];

/// Where the generators are.
///
/// # Panics
/// Unless they were installed, and in the versions that the lock files say now.
#[must_use]
pub fn installed() -> PathBuf {
    let folder = super::target_folder().join("clients");
    for (lock, copy) in LOCKS {
        let (wanted, found) = (std::fs::read(sources().join(lock)), std::fs::read(folder.join(copy)));
        let same = matches!((&wanted, &found), (Ok(wanted), Ok(found)) if wanted == found);
        assert!(
            same,
            "the generators of clients are missing or old ({lock}): run scripts/install-clients.sh"
        );
    }
    folder
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// `ctimanager api` into the folder.
///
/// # Panics
/// If it can't be made.
pub fn document(folder: &Path, config: &Path) -> Value {
    let output =
        Command::new(built("ctimanager")).arg("api").arg("--config").arg(config).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(folder.join("openrpc.json"), &output.stdout).expect("the lab's folder can be written to");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Makes the client of `@open-rpc/generator` and the attendant on it; gives what runs it.
///
/// # Panics
/// If the generator or the compiler does not take it.
#[must_use]
pub fn typescript(folder: &Path, document: &Value) -> Command {
    let npm = installed().join("npm");
    std::os::unix::fs::symlink(npm.join("node_modules"), folder.join("node_modules"))
        .expect("a link can be made");
    for file in ["attendant.ts", "generator.json", "tsconfig.json"] {
        std::fs::copy(sources().join("typescript").join(file), folder.join(file))
            .expect("a copy can be made");
    }
    let packages = Path::new("node_modules/@open-rpc/generator/build/cli.js");
    run(Command::new("node").arg(packages).args(["generate", "-c", "generator.json"]).current_dir(folder));
    // The generator writes a method's name as it is, and no member may have a dot outside of quotes.
    let made = folder.join("generated/client/typescript/src/index.ts");
    let mut text = std::fs::read_to_string(&made).expect("the generator wrote a client");
    for method in document["methods"].as_array().into_iter().flatten() {
        let name = method["name"].as_str().unwrap_or_default();
        let member = format!("  public {name}: ");
        assert_eq!(text.matches(&member).count(), 1, "{name} is a member");
        text = text.replace(&member, &format!("  public \"{name}\": "));
    }
    std::fs::write(&made, text).expect("the lab's folder can be written to");
    run(Command::new("node")
        .args(["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"])
        .current_dir(folder));
    let mut attendant = Command::new("node");
    attendant.arg("built/attendant.js").current_dir(folder);
    attendant
}

/// Makes the client of `orpc`; gives what runs the attendant on it.
///
/// # Panics
/// If the generator does not take the document.
#[must_use]
pub fn python(folder: &Path, url: &str) -> Command {
    let python = installed().join("python").join("bin").join("python");
    let mut generator = Command::new(&python);
    // It writes its output into a folder that is there.
    std::fs::create_dir_all(folder.join("made")).expect("the lab's folder can be written to");
    run(generator.args(["-m", "openrpcclientgenerator.orpc", "python", url, "made"]).current_dir(folder));
    let mut attendant = Command::new(python);
    attendant.arg(sources().join("python").join("attendant.py")).current_dir(folder);
    // Not from the root: a colon ends a path in this list.
    attendant.env("PYTHONPATH", "made/python/cti-protocol-of-ctimanager-ws-client");
    attendant
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{wrong}", output.status);
}

/// What an attendant told, by its kind, in its order.
#[must_use]
pub fn told(process: &Process, what: &str) -> Vec<Value> {
    let lines = process.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["what"] == what).map(|line| line["about"].clone()).collect()
}
