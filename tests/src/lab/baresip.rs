//! baresip, a desk phone that nobody here wrote, driven over its control connection.

use super::process::Process;
use super::tone;
use super::{Lab, SOON, eventually};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How a phone reaches its registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// What a phone is.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its number: user part of its address and digest user.
    pub number: String,
    /// Its digest password.
    pub password: String,
    /// Where it registers.
    pub registrar: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The frequency of the tone it speaks with.
    pub tone_hz: u32,
    /// Answers by itself.
    pub auto_answer: bool,
    /// The proxy that it sends everything through; the registrar itself without one.
    pub proxy: Option<SocketAddr>,
    /// `srtp` (offered beside plain RTP) or `srtp-mand` (RTP/SAVP); none without.
    pub media_encryption: Option<&'static str>,
    /// Subscribes to its message lamp (RFC 3842).
    pub message_waiting: bool,
    /// The certificate authority that it trusts, for TLS.
    pub ca: Option<PathBuf>,
}

/// Its voice and what it heard, in its folder.
const SPEECH: &str = "tone.wav";
const RECORDINGS: &str = "recordings";

/// A running phone.
pub struct Baresip {
    account: Account,
    control: TcpStream,
    received: Vec<u8>,
    events: VecDeque<Value>,
    recordings: PathBuf,
    next_token: u64,
    process: Process,
}

impl Baresip {
    /// Starts a phone; see [`Baresip::registered`].
    pub async fn start(lab: &Lab, account: Account) -> Baresip {
        let control = lab.address();
        // The port tells phones of one number apart.
        let folder = lab.folder(&format!("baresip-{}-{}", account.number, control.port()));
        let recordings = folder.join(RECORDINGS);
        std::fs::create_dir_all(&recordings).expect("the lab's folder can be written to");
        write_configuration(lab, &folder, &account, control);
        let mut command = Command::new("baresip");
        // What it reads and writes is named from here: a path in its files ends at a space.
        command.args(["-s", "-f", "."]).current_dir(&folder);
        let mut process =
            Process::start(&format!("baresip {}", account.number), command, &folder.join("log"));
        let control = eventually("baresip's control connection", SOON, async || {
            assert!(process.ended().is_none(), "baresip ended");
            TcpStream::connect(control).await.ok()
        })
        .await;
        Baresip {
            account,
            control,
            received: Vec::new(),
            events: VecDeque::new(),
            recordings,
            next_token: 1,
            process,
        }
    }

    /// Starts a phone and waits until it is registered.
    pub async fn registered(lab: &Lab, account: Account) -> Baresip {
        let mut phone = Baresip::start(lab, account).await;
        let what = format!("baresip {} registers", phone.account.number);
        // The event may have come before the control connection, so ask.
        eventually(what, SOON, async || phone.is_registered().await.then_some(())).await;
        phone
    }

    /// What it says about its registration.
    pub async fn is_registered(&mut self) -> bool {
        let info = self.command("reginfo", "").await;
        info["data"].as_str().is_some_and(|text| text.contains("OK"))
    }

    /// Waits until its registrar refuses it; gives baresip's words, the status among them.
    ///
    /// # Panics
    /// If it isn't refused.
    pub async fn registration_refused(&mut self) -> String {
        let what = format!("baresip {} is refused", self.account.number);
        // The event may have come before the control connection, so read the log.
        eventually(what, SOON, async || {
            let log = self.log();
            log.lines().find_map(|line| line.split_once("reg: ").map(|(_, said)| said.to_owned()))
        })
        .await
    }

    /// Its frequency.
    #[must_use]
    pub fn tone_hz(&self) -> u32 {
        self.account.tone_hz
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> &str {
        &self.account.number
    }

    /// Dials a number at its registrar.
    pub async fn dial(&mut self, number: &str) {
        // baresip adds the account's transport.
        let uri = format!("sip:{number}@{}", self.account.registrar);
        self.command("dial", &uri).await;
    }

    /// Answers.
    pub async fn accept(&mut self) {
        self.command("accept", "").await;
    }

    /// Hangs up, or refuses.
    pub async fn hang_up(&mut self) {
        self.command("hangup", "").await;
    }

    /// Holds.
    pub async fn hold(&mut self) {
        self.command("hold", "").await;
    }

    /// Takes back from hold.
    pub async fn resume(&mut self) {
        self.command("resume", "").await;
    }

    /// Presses a key (RFC 4733).
    pub async fn press(&mut self, digit: char) {
        self.command("sndcode", &digit.to_string()).await;
    }

    /// Its transfer key: it holds, and wants its call at this number (REFER).
    pub async fn transfer(&mut self, number: &str) {
        let uri = format!("sip:{number}@{}", self.account.registrar);
        self.command("transfer", &uri).await;
    }

    /// Waits until a message is in its log that begins with `first` and has `word` in it.
    ///
    /// # Panics
    /// If there is none.
    pub async fn reads(&self, first: &str, word: &str) {
        let what = format!("baresip {} reads {first} … {word}", self.account.number);
        eventually(what, SOON, async || {
            let log = self.log();
            let found = log
                .split("\n#")
                .any(|message| message.find(first).is_some_and(|at| message[at..].contains(word)));
            found.then_some(())
        })
        .await;
    }

    /// Any other command of baresip's menu; gives its answer.
    ///
    /// # Panics
    /// If the phone doesn't answer.
    pub async fn command(&mut self, command: &str, parameters: &str) -> Value {
        let token = self.next_token.to_string();
        self.next_token += 1;
        let text = json!({"command": command, "params": parameters, "token": token}).to_string();
        let netstring = format!("{}:{text},", text.len());
        self.control.write_all(netstring.as_bytes()).await.expect("baresip reads its control connection");
        let deadline = Instant::now() + SOON;
        loop {
            let Some(message) = self.next_message(deadline).await else {
                panic!("baresip {} doesn't answer {command}", self.account.number)
            };
            if message["event"] == json!(true) {
                self.events.push_back(message);
            } else if message["token"] == json!(token) {
                return message;
            }
        }
    }

    /// The next event of this type (`CALL_INCOMING`, `CALL_ESTABLISHED`, `CALL_CLOSED`, …); those before it are kept.
    ///
    /// # Panics
    /// If there is none within the time; says what came instead.
    pub async fn expect(&mut self, kind: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        let mut looked_at = 0;
        loop {
            if let Some(at) = self.events.iter().skip(looked_at).position(|event| event["type"] == kind) {
                return self.events.remove(looked_at + at).expect("found just now");
            }
            looked_at = self.events.len();
            match self.next_message(deadline).await {
                Some(message) if message["event"] == json!(true) => self.events.push_back(message),
                Some(_) => {}
                None => {
                    let kinds: Vec<&str> = self.events.iter().filter_map(|e| e["type"].as_str()).collect();
                    panic!("baresip {}: no {kind} within {within:?}; it had {kinds:?}", self.account.number)
                }
            }
        }
    }

    /// What the phone has received so far, all calls in order.
    #[must_use]
    pub fn heard(&self) -> Vec<i16> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.recordings)
            .map(|entries| entries.filter_map(|e| e.ok().map(|e| e.path())).collect())
            .unwrap_or_default();
        files.retain(|path| {
            path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.ends_with("-dec.wav"))
        });
        files.sort();
        files.iter().flat_map(|path| tone::read_wav(path)).collect()
    }

    /// Waits until it has heard this tone for a quarter of a second more than before.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn hears(&mut self, hz: u32, within: Duration) {
        const FRAMES: usize = 13;
        let before = tone::frames_with(&self.heard(), hz);
        let what = format!("baresip {} hears {hz} Hz", self.account.number);
        eventually(what, within, async || {
            (tone::frames_with(&self.heard(), hz) >= before + FRAMES).then_some(())
        })
        .await;
    }

    /// Waits until it sees audio arrive. baresip 1.0.0 loses its recorder at the first hold
    /// (`audio_decoder_set` flushes the filters and doesn't set them up again), but it still measures.
    ///
    /// # Panics
    /// If none arrives.
    pub async fn receives_audio(&mut self) {
        let what = format!("baresip {} receives audio", self.account.number);
        eventually(what, SOON, async || (self.received_bit_rate() > Some(0)).then_some(())).await;
    }

    /// Waits until it sees no more audio arrive.
    ///
    /// # Panics
    /// If it goes on.
    pub async fn receives_nothing(&mut self) {
        let what = format!("baresip {} receives nothing", self.account.number);
        eventually(what, SOON, async || (self.received_bit_rate() == Some(0)).then_some(())).await;
    }

    /// From the line of state that it shows while a call lasts: `audio=SENT/RECEIVED (bit/s)`.
    fn received_bit_rate(&self) -> Option<u64> {
        let log = self.log();
        let (_, last) = log.rsplit_once("audio=")?;
        last.split_once('/')?.1.split(' ').next()?.parse().ok()
    }

    /// Its log, the SIP messages in it.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it without warning, as if its plug had been pulled.
    pub fn pull_the_plug(&mut self) {
        self.process.kill();
    }

    async fn next_message(&mut self, deadline: Instant) -> Option<Value> {
        loop {
            if let Some(message) = take_netstring(&mut self.received) {
                return serde_json::from_slice(&message).ok();
            }
            let mut piece = [0; 4096];
            match timeout_at(deadline, self.control.read(&mut piece)).await {
                Ok(Ok(length)) if length > 0 => self.received.extend_from_slice(&piece[..length]),
                Ok(_) => panic!("baresip {} closed its control connection", self.account.number),
                Err(_) => return None,
            }
        }
    }
}

fn uri_transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    }
}

fn write_configuration(lab: &Lab, folder: &Path, account: &Account, control: SocketAddr) {
    tone::write_wav(&folder.join(SPEECH), account.tone_hz, 120);
    let host = lab.host();
    let (sip, rtp) = (lab.ports(4), lab.ports(40));
    let mut config = format!(
        "poll_method epoll\nsip_listen {host}:{sip}\nnet_interface {host}\nrtp_ports {rtp}-{}\n\
         call_max_calls 8\ncall_local_timeout 120\naudio_source aufile,{SPEECH}\nausrc_srate 8000\nauplay_srate 8000\n\
         ausrc_channels 1\nauplay_channels 1\nctrl_tcp_listen {control}\nsnd_path {RECORDINGS}\nmodule_path {}\n",
        rtp + 38,
        module_folder().display(),
    );
    if let Some(ca) = &account.ca {
        std::fs::copy(ca, folder.join("ca.pem")).expect("the authority's certificate is there");
        let _ = writeln!(config, "sip_cafile ca.pem\nsip_verify_server yes");
    }
    for module in ["g711", "aufile", "sndfile", "stun", "srtp", "uuid"] {
        let _ = writeln!(config, "module {module}.so");
    }
    // 1.0.0's `mwi` walks its subscriptions once, a millisecond after it was loaded, and never comes to an end if the phone is
    // registered by then. It is loaded first, so that its millisecond is over when the account registers.
    for module in ["mwi", "account", "menu", "ctrl_tcp"] {
        let _ = writeln!(config, "module_app {module}.so");
    }
    let Account { number, password, registrar, transport, .. } = account;
    let answer = if account.auto_answer { "auto" } else { "manual" };
    // Without the outbound proxy 1.0.0 sends requests within a dialog to the name in the Contact over a connection
    // of its own choice.
    let line = format!(
        "<sip:{number}@{registrar}{transport}>;auth_user={number};auth_pass={password};audio_codecs=pcmu,pcma;\
         regint=600;audio_source=aufile,{SPEECH};answermode={answer};dtmfmode=rtpevent;\
         outbound=\"sip:{proxy}{transport}\"{encryption};mwi={mwi}\n",
        mwi = if account.message_waiting { "yes" } else { "no" },
        encryption = account.media_encryption.map(|how| format!(";mediaenc={how}")).unwrap_or_default(),
        proxy = account.proxy.unwrap_or(*registrar),
        transport = uri_transport(*transport),
    );
    std::fs::write(folder.join("config"), config).expect("the phone's folder can be written to");
    std::fs::write(folder.join("accounts"), line).expect("the phone's folder can be written to");
}

/// Debian keeps the modules in one of these.
fn module_folder() -> PathBuf {
    [
        "/usr/lib/baresip/modules",
        "/usr/lib/x86_64-linux-gnu/baresip/modules",
        "/usr/lib/aarch64-linux-gnu/baresip/modules",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|path| path.is_dir())
    .unwrap_or_else(|| PathBuf::from("/usr/local/lib/baresip/modules"))
}

/// Takes one whole `LENGTH:BYTES,` from the front.
fn take_netstring(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let colon = received.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&received[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    if received.len() <= end {
        return None;
    }
    let message = received[colon + 1..end].to_vec();
    received.drain(..=end);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::take_netstring;

    #[test]
    fn netstrings_are_cut_where_they_end() {
        let mut received = b"2:{},3:[1]".to_vec();
        assert_eq!(take_netstring(&mut received).as_deref(), Some(&b"{}"[..]));
        assert_eq!(take_netstring(&mut received), None, "its comma is still to come");
        received.push(b',');
        assert_eq!(take_netstring(&mut received).as_deref(), Some(&b"[1]"[..]));
        assert!(received.is_empty());
    }
}
