//! What passes on the loopback device, and what another library (libsrtp, by way of Python) makes of it with a key.

use super::process::Process;
use super::{Lab, SOON};
use std::path::PathBuf;
use std::process::Command;

/// The program that captures and decrypts.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/capture/libsrtp.py");

/// A capture that goes on.
pub struct Capture {
    file: PathBuf,
    folder: PathBuf,
    process: Process,
}

/// A key as an application gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaKey {
    /// The suite's registered name.
    pub algorithm: String,
    /// Base64.
    pub key: String,
    /// Base64.
    pub salt: String,
}

/// What a key made of the packets to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decrypted {
    /// Packets that it opened.
    pub packets: usize,
    /// All that came.
    pub of: usize,
    /// What was said in them, mu-law (RFC 3551 §4.5.14) as samples.
    pub samples: Vec<i16>,
}

impl Capture {
    /// Captures what the lab's address sends and receives from now on.
    pub async fn start(lab: &Lab) -> Capture {
        let folder = lab.folder("capture");
        let file = folder.join("packets");
        let mut command = Command::new("python3");
        command.args([PROGRAM, "capture", &lab.host().to_string()]).arg(&file);
        let mut process = Process::start("the capture", command, &folder.join("log"));
        process.wait_for_log("capturing", SOON).await;
        Capture { file, folder, process }
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.process.kill();
    }

    /// What a key makes of the RTP packets to an address.
    ///
    /// # Panics
    /// If the program does not say.
    #[must_use]
    pub fn decrypt(&self, to: &str, key: &MediaKey) -> Decrypted {
        let out = self.folder.join("payloads");
        let mut command = Command::new("python3");
        command.args([PROGRAM, "decrypt"]).arg(&self.file);
        command.args([to, &key.algorithm, &key.key, &key.salt]).arg(&out);
        let output = command.output().expect("python3 runs");
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{wrong}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let counts: Vec<usize> = said.split_whitespace().filter_map(|count| count.parse().ok()).collect();
        let [packets, of] = counts[..] else { panic!("{said}") };
        let payloads = std::fs::read(&out).expect("it was written");
        Decrypted { packets, of, samples: payloads.into_iter().map(of_mu_law).collect() }
    }
}

/// ITU-T G.711, mu-law.
fn of_mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 15) << 3) + 132) << (byte >> 4 & 7);
    if byte & 128 == 0 { magnitude - 132 } else { 132 - magnitude }
}
