//! `openssl s_client` and `s_server`: TLS as another library speaks it.

use super::process::Process;
use super::{Lab, SOON, eventually};
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

/// A running `openssl s_client`.
pub struct Client {
    process: Process,
    input: Option<ChildStdin>,
}

impl Client {
    /// Connects; the server must show a certificate of this authority. `words` are more of its arguments.
    ///
    /// # Panics
    /// If openssl isn't there.
    #[must_use]
    pub fn connect(lab: &Lab, to: SocketAddr, ca: &Path, words: &[&str]) -> Client {
        Client::logging(&lab.file("openssl", "client"), to, ca, words)
    }

    /// The same with a folder of its own for what it says.
    ///
    /// # Panics
    /// If openssl isn't there.
    #[must_use]
    pub fn connect_in(folder: &Path, to: SocketAddr, ca: &Path, words: &[&str]) -> Client {
        Client::logging(&folder.join("log"), to, ca, words)
    }

    fn logging(log: &Path, to: SocketAddr, ca: &Path, words: &[&str]) -> Client {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &to.to_string(), "-verify_return_error", "-CAfile"]).arg(ca);
        // TLS 1.0 and 1.1 are below what openssl itself still speaks: at level 0 it offers them all the same.
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]).args(words);
        let (process, input) = Process::prompted("openssl", command, log);
        Client { process, input: Some(input) }
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        // That it has ended shows in what it says.
        let _ = self.input.as_mut().map(|input| writeln!(input, "{line}"));
    }

    /// Waits until it has said this.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn says(&mut self, text: &str) {
        self.process.wait_for_log(text, SOON).await;
    }

    /// Has nothing more to say, and waits for the end; gives all that it said.
    ///
    /// # Panics
    /// If it goes on.
    pub async fn finish(&mut self) -> String {
        drop(self.input.take());
        self.ends().await
    }

    /// Waits for the end, which is the server's doing; gives all that it said.
    ///
    /// # Panics
    /// If it goes on.
    pub async fn ends(&mut self) -> String {
        self.process.wait(SOON).await;
        self.process.log()
    }
}

/// An `openssl s_server` that speaks this version of TLS alone: what proves that the client can.
///
/// # Panics
/// If it doesn't come up.
pub async fn server(lab: &Lab, at: SocketAddr, identity: (&Path, &Path), version: &str) -> Process {
    let mut command = Command::new("openssl");
    // With -www it doesn't wait for what is typed.
    command.args([
        "s_server",
        "-www",
        "-accept",
        &at.to_string(),
        "-cipher",
        "DEFAULT@SECLEVEL=0",
        version,
        "-cert",
    ]);
    command.arg(identity.0).arg("-key").arg(identity.1);
    let process = Process::start("openssl", command, &lab.file("openssl", "server"));
    eventually("openssl listens", SOON, async || TcpStream::connect(at).ok()).await;
    process
}

/// A running `openssl s_server` that shows what it is sent, and asks for the client's certificate.
pub struct Listener {
    process: Process,
    /// At its end the server would end, too.
    _input: ChildStdin,
}

impl Listener {
    /// Listens with this certificate; clients are to be of this authority.
    ///
    /// # Panics
    /// If it doesn't come up.
    pub async fn start(lab: &Lab, at: SocketAddr, identity: (&Path, &Path), ca: &Path) -> Listener {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-verify", "2", "-accept", &at.to_string(), "-CAfile"]).arg(ca);
        command.arg("-cert").arg(identity.0).arg("-key").arg(identity.1);
        let log = lab.file("openssl", "listener");
        let (mut process, input) = Process::prompted("openssl", command, &log);
        process.wait_for_log("ACCEPT", SOON).await;
        Listener { process, _input: input }
    }

    /// Waits until it has shown this.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn shows(&mut self, text: &str) {
        self.process.wait_for_log(text, SOON).await;
    }

    /// All that it has shown.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// What `openssl x509` says of a certificate's file.
///
/// # Panics
/// If it can't be read.
#[must_use]
pub fn x509(certificate: &Path, words: &[&str]) -> String {
    let file = File::open(certificate).unwrap_or_else(|e| panic!("{}: {e}", certificate.display()));
    let output = Command::new("openssl").args(["x509", "-noout"]).args(words).stdin(file).output();
    let output = output.unwrap_or_else(|e| panic!("openssl: {e}; run scripts/install-lab.sh"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An MD5 as hex digits: what digest authentication is made of.
///
/// # Panics
/// If openssl isn't there.
#[must_use]
pub fn md5(text: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-md5", "-r"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("openssl: {e}; run scripts/install-lab.sh"));
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned()
}
