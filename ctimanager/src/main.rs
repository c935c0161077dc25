//! The `ctimanager` command.

use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "the process's beginning is where time comes from")]
    let now = SystemTime::now();
    ctimanager::admin::cli::main(now)
}
