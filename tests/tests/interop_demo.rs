//! The main job in one command, as a new user meets it: the demo alone, and with softphones that nobody here wrote.

use serde_json::json;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::linphone::Linphone;
use tests::lab::process::Process;
use tests::lab::{Lab, SOON, built, eventually};

const PROMPT_HZ: u32 = 440;
/// What 2001 and 2002 answer with.
const FIRST_HZ: u32 = 1_000;
const SECOND_HZ: u32 = 700;

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
    assert_in_order(&demo.log(), &["presses 1", "digit 1", "call.redirect 2001", "INVITE 2001", "proved:"]);
    assert!(!demo.log().contains('\u{1b}'), "no colours but on a terminal");
}

#[tokio::test]
async fn an_address_that_no_phone_could_reach_is_refused() {
    let mut command = Command::new(built("ctimanager"));
    let output = command.args(["demo", "--host", "0.0.0.0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--host names one of this machine"));
}

fn assert_in_order(text: &str, wanted: &[&str]) {
    let mut rest = text;
    for what in wanted {
        let at = rest.find(what).unwrap_or_else(|| panic!("no {what:?} after the others in:\n{text}"));
        rest = &rest[at + what.len()..];
    }
}

/// A demo that goes on, and what it printed for softphones.
struct Demo {
    process: Process,
    server: SocketAddr,
    user: String,
    password: String,
}

impl Demo {
    async fn start(lab: &Lab) -> Demo {
        let mut command = Command::new(built("ctimanager"));
        command.args(["demo", "--keep"]);
        let mut process = Process::start("ctimanager demo", command, &lab.folder("log").join("log"));
        process.wait_for_log("Your own softphone:", Duration::from_secs(60)).await;
        let log = process.log();
        let line = log.lines().find(|line| line.trim_start().starts_with("server ")).expect("it is printed");
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["server", server, "(UDP)", "user", user, "password", password] = words[..] else {
            panic!("{line}")
        };
        let server = server.parse().expect("an address");
        let (user, password) = (user.to_owned(), password.to_owned());
        Demo { process, server, user, password }
    }

    fn account(&self, number: &str) -> Account {
        Account {
            number: number.to_owned(),
            password: self.password.clone(),
            registrar: self.server,
            transport: Transport::Udp,
            tone_hz: 500,
            auto_answer: false,
            proxy: None,
            media_encryption: None,
            message_waiting: false,
            ca: None,
        }
    }

    /// Waits until this has been drawn after the first `from` bytes of what is drawn.
    async fn draws(&self, from: usize, wanted: &[&str]) {
        eventually(format!("the ladder has {wanted:?}"), SOON, async || {
            let log = self.process.log();
            let mut rest = log.get(from..)?;
            for what in wanted {
                rest = rest.split_once(what)?.1;
            }
            Some(())
        })
        .await;
    }
}

/// It registers as printed, calls, hears the prompt, presses, and hears who answers: twice, each digit another phone. Its
/// digits and its voice come from another address than its description says, as on any machine with a network.
#[tokio::test]
async fn baresip_reaches_both_phones_by_their_digits_and_each_call_is_drawn() {
    let lab = Lab::new("demo-baresip");
    let demo = Demo::start(&lab).await;
    let mut phone = Baresip::registered(&lab, demo.account(&demo.user)).await;
    for (digit, number, hz) in [('1', "2001", FIRST_HZ), ('2', "2002", SECOND_HZ), ('1', "2001", FIRST_HZ)] {
        let drawn = demo.process.log().len();
        phone.dial("5000").await;
        phone.expect("CALL_ESTABLISHED", SOON).await;
        phone.hears(PROMPT_HZ, SOON).await;
        phone.press(digit).await;
        phone.hears(hz, SOON).await;
        let (heading, chosen) = (format!("{} dials 5000", demo.user), format!("digit {digit}"));
        let (redirect, onward) = (format!("call.redirect {number}"), format!("INVITE {number}"));
        let wanted =
            [&heading, "INVITE 5000", "call.offering", &chosen, &redirect, &onward, "answers and beeps"];
        demo.draws(drawn, &wanted).await;
        phone.hang_up().await;
        phone.expect("CALL_CLOSED", SOON).await;
        demo.draws(drawn, &["BYE"]).await;
    }
    let drawn = demo.process.log().len();
    phone.dial("2002").await;
    phone.hears(SECOND_HZ, SOON).await;
    demo.draws(drawn, &["dials 2002", "INVITE 2002"]).await;
}

/// The same with linphone, whose digits go by RFC 4733 in one call and by INFO in the other.
#[tokio::test]
async fn linphone_reaches_the_phones_with_digits_of_both_kinds() {
    let lab = Lab::new("demo-linphone");
    let demo = Demo::start(&lab).await;
    for (user, lines, digit, hz) in [
        (demo.user.as_str(), "use_info=0\nuse_rfc2833=1\n", "1", FIRST_HZ),
        ("2004", "use_info=1\nuse_rfc2833=0\n", "2", SECOND_HZ),
    ] {
        let drawn = demo.process.log().len();
        let mut phone = Linphone::registered_with(&lab, demo.account(user), lines).await;
        phone.dial("5000");
        phone.hears(PROMPT_HZ).await;
        phone.say(digit);
        phone.hears(hz).await;
        let chosen = format!("digit {digit}");
        let by_info: &[&str] = if lines.contains("use_info=1") { &["INFO", "call.dtmf"] } else { &[] };
        demo.draws(drawn, &[by_info, &[&chosen, "call.redirect"]].concat()).await;
        phone.say("terminate");
        demo.draws(drawn, &["answers and beeps", "BYE"]).await;
    }
}

/// Who is in a call is busy for the next one, who hears it and is asked again; nobody is left in a call.
#[tokio::test]
async fn two_softphones_share_the_demo() {
    let lab = Lab::new("demo-two");
    let demo = Demo::start(&lab).await;
    let mut first = Baresip::registered(&lab, demo.account(&demo.user)).await;
    let mut second = Baresip::registered(&lab, demo.account("2004")).await;
    first.dial("2001").await;
    first.hears(FIRST_HZ, SOON).await;
    second.dial("5000").await;
    second.hears(PROMPT_HZ, SOON).await;
    second.press('1').await;
    demo.draws(0, &["486 Busy Here (INVITE)", "error DESTINATION_BUSY"]).await;
    second.hears(620, SOON).await;
    second.press('2').await;
    second.hears(SECOND_HZ, SOON).await;
    first.hears(FIRST_HZ, SOON).await;
    assert_eq!(first.command("hangup", "").await["ok"], json!(true));
    first.expect("CALL_CLOSED", SOON).await;
}
