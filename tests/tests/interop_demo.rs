//! The main job in one command, as a new user meets it.

use std::process::Command;
use std::time::Duration;
use tests::lab::process::Process;
use tests::lab::{Lab, built};

#[tokio::test]
async fn the_demo_needs_nothing_and_ends_well() {
    let lab = Lab::new("demo");
    let folder = lab.folder("empty");
    let mut command = Command::new(built("ctimanager"));
    command.arg("demo").current_dir(&folder);
    let mut demo = Process::start("ctimanager demo", command, &lab.folder("log").join("log"));
    let status = demo.wait(Duration::from_secs(60)).await;
    assert!(status.success(), "{status}");
    let left: Vec<_> = std::fs::read_dir(&folder).expect("the folder is there").collect();
    assert!(left.is_empty(), "the demo leaves nothing behind: {left:?}");
}
