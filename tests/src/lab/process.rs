//! A process that ends with its guard.

use super::{SOON, eventually};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How much of a log a failed test shows.
const LOG_TAIL_LINES: usize = 60;

/// How long a program with processes of its own may take to end them: 2 s, looked at often.
const FAREWELL_STEPS: u32 = 100;
const FAREWELL_STEP: Duration = Duration::from_millis(20);

/// A running program. Dropping it ends it; in a failing test the end of its log is shown.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    has_children: bool,
}

impl Process {
    /// Starts it with both outputs in `log` and nothing to read.
    ///
    /// # Panics
    /// If the program isn't there.
    #[must_use]
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        command.stdin(Stdio::null());
        Process::spawn(name, command, log)
    }

    /// The same with a pipe into its standard input.
    ///
    /// # Panics
    /// If the program isn't there.
    #[must_use]
    pub fn prompted(name: &str, mut command: Command, log: &Path) -> (Process, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut process = Process::spawn(name, command, log);
        let prompt = process.child.stdin.take().expect("it was asked for");
        (process, prompt)
    }

    fn spawn(name: &str, mut command: Command, log: &Path) -> Process {
        let file = File::create(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let copy = file.try_clone().expect("a file can be shared");
        let child = command.stdout(file).stderr(copy).spawn().unwrap_or_else(|e| {
            panic!("{name} ({}): {e}; run scripts/install-lab.sh", command.get_program().display())
        });
        Process { name: name.to_owned(), child, log: log.to_owned(), has_children: false }
    }

    /// It has processes of its own, which it ends itself when it is asked to end: so ask before killing it.
    #[must_use]
    pub fn with_children(mut self) -> Process {
        self.has_children = true;
        self
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it still runs when the time is over.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(what, within, async || self.ended()).await
    }

    /// Waits for a line of its log that contains `text`.
    ///
    /// # Panics
    /// If it ends or the time is over before that.
    pub async fn wait_for_log(&mut self, text: &str, within: Duration) {
        let what = format!("{} says {text:?}", self.name);
        eventually(what, within, async || {
            if self.log().contains(text) {
                return Some(());
            }
            let ended = self.ended();
            assert!(
                ended.is_none(),
                "{} ended ({ended:?}) before it said {text:?}:\n{}",
                self.name,
                self.log()
            );
            None
        })
        .await;
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(SOON).await
    }

    /// Ends it without warning (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn end_with_children(&mut self) {
        self.signal("TERM");
        for _ in 0..FAREWELL_STEPS {
            if self.ended().is_some() {
                return;
            }
            std::thread::park_timeout(FAREWELL_STEP);
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&mut self, name: &str) {
        if self.ended().is_none() {
            let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
            assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
            eprintln!("---- {} ({}):\n{tail}\n----", self.name, self.log.display());
        }
        if self.has_children {
            self.end_with_children();
        }
        self.kill();
    }
}
