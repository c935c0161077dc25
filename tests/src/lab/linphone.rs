//! linphonec, a soft phone of another family than baresip, driven by the lines of its prompt.

use super::baresip::Account;
use super::process::Process;
use super::{Lab, SOON, eventually, tone};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command};

/// A running phone, over UDP.
pub struct Linphone {
    account: Account,
    prompt: ChildStdin,
    recording: PathBuf,
    /// What its stack says of itself.
    story: PathBuf,
    process: Process,
}

/// G.711 alone: what it hears is recorded at its codec's rate.
fn codecs() -> String {
    let known = [
        ("opus", 48_000, 2),
        ("speex", 8_000, 1),
        ("speex", 16_000, 1),
        ("speex", 32_000, 1),
        ("G722", 8_000, 1),
        ("GSM", 8_000, 1),
        ("L16", 44_100, 1),
        ("L16", 44_100, 2),
        ("PCMU", 8_000, 1),
        ("PCMA", 8_000, 1),
    ];
    let section = |(number, (mime, rate, channels)): (usize, (&str, u32, u8))| {
        let enabled = u8::from(mime.starts_with("PCM"));
        format!("[audio_codec_{number}]\nmime={mime}\nrate={rate}\nchannels={channels}\nenabled={enabled}\n")
    };
    known.into_iter().enumerate().map(section).collect()
}

impl Linphone {
    /// Starts a phone and waits until it is registered.
    ///
    /// # Panics
    /// If it isn't in time.
    pub async fn registered(lab: &Lab, account: Account) -> Linphone {
        Linphone::registered_with(lab, account, "").await
    }

    /// The same with these lines in the section `[sip]` of its configuration.
    ///
    /// # Panics
    /// If it isn't in time.
    pub async fn registered_with(lab: &Lab, account: Account, sip_lines: &str) -> Linphone {
        let folder = lab.folder(&format!("linphone-{}", account.number));
        let recording = folder.join("heard.wav");
        tone::write_wav(&folder.join("tone.wav"), account.tone_hz, 120);
        let host = lab.host();
        let (sip, rtp) = (lab.port(), lab.ports(2));
        let configuration = format!(
            "[sip]\nsip_port={sip}\nsip_tcp_port=0\nsip_tls_port=0\nuse_ipv6=0\nguess_hostname=0\n\
             bind_address={host}\nmedia_encryption=none\n{sip_lines}[rtp]\naudio_rtp_port={rtp}\nbind_address={host}\n\
             [net]\nfirewall_policy=none\n{codecs}",
            codecs = codecs(),
        );
        std::fs::write(folder.join("rc"), configuration).expect("the lab's folder can be written to");
        std::fs::create_dir_all(folder.join(".local/share/linphone"))
            .expect("the lab's folder can be written to");
        // It does its work while it waits at a terminal's prompt, so it gets a terminal. Paths are named from its folder.
        let mut command = Command::new("script");
        command.env("HOME", &folder).current_dir(&folder);
        command.args(["-qfec", "exec linphonec -c rc -d 4 -l sip.log", "/dev/null"]);
        let (process, prompt) =
            Process::prompted(&format!("linphonec {}", account.number), command, &folder.join("log"));
        let mut phone = Linphone { account, prompt, recording, story: folder.join("sip.log"), process };
        phone.process.wait_for_log("linphonec>", SOON).await;
        phone.say("soundcard use files");
        phone.say("play tone.wav");
        phone.say("record heard.wav");
        let Account { number, registrar, password, .. } = &phone.account;
        let register = format!("register sip:{number}@{registrar} sip:{registrar} {password}");
        phone.say(&register);
        phone.comes_to("[LinphoneRegistrationOk]").await;
        phone
    }

    /// Writes a line at its prompt.
    ///
    /// # Panics
    /// If it has ended.
    pub fn say(&mut self, line: &str) {
        writeln!(self.prompt, "{line}")
            .and_then(|()| self.prompt.flush())
            .expect("linphonec reads its prompt");
    }

    /// What its stack says of itself, the SIP messages in it.
    #[must_use]
    pub fn story(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.story).unwrap_or_default()).into_owned()
    }

    /// Waits until it comes to this state: `[LinphoneRegistrationOk]`, `LinphoneCallIncomingReceived`, ….
    pub async fn comes_to(&self, state: &str) {
        let words = format!("to {state}");
        let what = format!("linphonec {} comes {words}", self.account.number);
        let reads = async || {
            let story = std::fs::read(&self.story).unwrap_or_default();
            String::from_utf8_lossy(&story).contains(&words).then_some(())
        };
        eventually(what, SOON, reads).await;
    }

    /// Dials a number at its registrar.
    pub fn dial(&mut self, number: &str) {
        let line = format!("call sip:{number}@{}", self.account.registrar);
        self.say(&line);
    }

    /// Waits until it has heard this tone for a quarter of a second more than before.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn hears(&self, hz: u32) {
        // The header is written at the end of the call; until then there is only room for it.
        const HEADER: usize = 44;
        let frames = || {
            let bytes = std::fs::read(&self.recording).unwrap_or_default();
            let samples = bytes.get(HEADER..).unwrap_or_default().chunks_exact(2);
            let samples: Vec<i16> = samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
            tone::frames_with(&samples, hz)
        };
        let before = frames();
        let what = format!("linphonec {} hears {hz} Hz", self.account.number);
        eventually(what, SOON, async || (frames() >= before + 13).then_some(())).await;
    }
}
