//! The node with a bug: a SIP message with the header `X-Fail` makes its core panic, with the message's words in the
//! panic's own. Everything else is the very node: `failing_node run --config FILE --state DIR --socket PATH`.

use ctimanager::io::{Core, LogFormat, RunOptions, StopCause};
use ctimanager::node::{Input, Node, Output};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

struct Fails(Node);

impl Core for Fails {
    fn handle(&mut self, now: Instant, wall: SystemTime, input: Input, out: &mut Vec<Output>) {
        if let Input::Sip { bytes, .. } = &input {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("X-Fail:"), "a message that this core can't bear: {text}");
        }
        self.0.handle(now, wall, input, out);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.0.next_timeout()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let _logging = ctimanager::io::start_logging(LogFormat::Text, ctimanager::io::USUAL_LOG);
    ctimanager::io::report_panics();
    let option = |name: &str| std::env::args().skip_while(|word| word != name).nth(1).map(PathBuf::from);
    let options = RunOptions {
        config: option("--config").unwrap_or_default(),
        node: None,
        state: option("--state"),
        socket: option("--socket"),
    };
    match ctimanager::io::run_core(options, Fails).await {
        Ok(running) => match running.wait().await {
            StopCause::Stopped => ExitCode::SUCCESS,
            StopCause::Overdue | StopCause::Panicked | StopCause::Yielded => ExitCode::FAILURE,
        },
        Err(_) => ExitCode::FAILURE,
    }
}
