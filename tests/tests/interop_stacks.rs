//! The calls of foreign stacks that can be had quickly: the scripts of `tests/interop`, side by side. What each does and what
//! is known of it is in docs/sip.md; the stacks that need more than this are run by `tests/interop/run.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::lab::process::Process;
use tests::lab::{Lab, built};

/// Each script has deadlines of its own for each of its steps; this is for all of them together on a busy machine.
const ALL: Duration = Duration::from_secs(200);

fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

fn start(lab: &Lab, python: &Path, script: &str) -> Process {
    let mut command = Command::new(python);
    command.arg(interop().join(script)).env("CTIMANAGER", built("ctimanager"));
    Process::start(script, command, &lab.folder("log").join(script)).with_children()
}

/// `scripts/install-lab.sh` makes it where there is a wheel for the machine, and says so where there is none.
fn python_with_pjsua() -> Option<PathBuf> {
    let python = interop().join("../../target/interop/python/bin/python");
    let has_it = Command::new(&python).args(["-c", "import pjsua2"]).output();
    has_it.is_ok_and(|output| output.status.success()).then_some(python)
}

#[tokio::test]
async fn foreign_stacks_register_call_hold_and_leave() {
    let lab = Lab::new("stacks");
    let system = Path::new("python3");
    let mut running =
        vec![start(&lab, system, "linphone_calls.py"), start(&lab, system, "kamailio_calls.py")];
    match python_with_pjsua() {
        Some(python) => running.push(start(&lab, &python, "pjsua_calls.py")),
        None => eprintln!("without pjsua: scripts/install-lab.sh has found no wheel for this machine"),
    }
    for mut script in running {
        let status = script.wait(ALL).await;
        assert!(status.success(), "{status}\n{}", script.log());
        assert!(script.log().contains(": none failed"), "{}", script.log());
    }
}
