//! What an administrator types: the command line. Each command is a function of its own that returns an [`Outcome`];
//! only [`cli`] reads arguments, and only [`Outcome::tell`] writes.

mod api;
pub mod bench;
pub mod check_config;
pub mod cli;
pub mod demo;
mod explain;
pub mod password;
pub mod pki;
pub mod run;
pub mod socket;
mod table;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// What a command has to say, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For stdout: what the command is for. Ends with a line end unless it is empty.
    pub output: String,
    /// For stderr: what is about the command.
    pub notes: String,
    /// 0 fine, 1 not fine, 2 wrongly called.
    pub code: u8,
}

impl Outcome {
    /// All is well, and this is the result.
    #[must_use]
    pub fn good(output: impl Display) -> Self {
        Self { output: format!("{output}\n"), ..Self::default() }
    }

    /// It can't be done, for this reason.
    #[must_use]
    pub fn failed(reason: impl Display) -> Self {
        Self { notes: format!("ctimanager: {reason}\n"), code: 1, ..Self::default() }
    }

    /// Writes what there is to say. A reader who went away (`| head`) is no failure.
    #[must_use]
    pub fn tell(&self) -> ExitCode {
        let _ = std::io::stdout().lock().write_all(self.output.as_bytes());
        let _ = std::io::stderr().lock().write_all(self.notes.as_bytes());
        ExitCode::from(self.code)
    }
}

/// How a command shows its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; stable.
    Json,
}
