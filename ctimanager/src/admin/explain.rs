//! `ctimanager explain`: may this user open that device, and why not?

use super::{Format, Outcome, check_config};
use crate::config;
use security::Transport;
use serde_json::Value;
use std::path::Path;

/// Explains from a configuration, without a node. Exit code 0 when he may, 1 when he may not.
#[must_use]
pub fn explain(path: &Path, device: &str, user: &str, transport: Transport, format: Format) -> Outcome {
    let config = match config::load(path) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => return check_config::bad(&mistakes),
    };
    show(&serde_json::json!(config.explain(device, user, transport)), format)
}

/// The same of a running node's answer.
pub(super) fn show(told: &Value, format: Format) -> Outcome {
    let allowed = told["allowed"].as_bool().unwrap_or(false);
    let output = match format {
        Format::Json => format!("{told:#}"),
        Format::Table => {
            let text = |key: &str| told[key].as_str().unwrap_or_default();
            let verdict = if allowed { "allowed" } else { "refused" };
            let place = match told["line"].as_u64() {
                Some(line) => format!("\n  {}:{line}:{}", text("file"), told["column"]),
                None => String::new(),
            };
            let plain = match (allowed, told["allowed_over_plain"].as_bool()) {
                (true, Some(false)) => "\n  over TLS only: the user must not come over the plain port",
                _ => "",
            };
            format!("{verdict} by {}: {}{place}{plain}", text("rule"), text("message"))
        }
    };
    Outcome { code: u8::from(!allowed), ..Outcome::good(output) }
}

#[cfg(test)]
mod tests {
    use super::{Format, Transport, explain};
    use std::path::Path;

    #[test]
    fn the_exit_code_is_the_answer() {
        let hq = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/hq.yaml");
        let ask = |device| explain(&hq, device, "attendant", Transport::Tls, Format::Table);
        let yes = ask("PORT_007");
        assert_eq!(yes.code, 0, "{yes:?}");
        assert!(yes.output.starts_with("allowed by controlled_devices PORT_*: "), "{}", yes.output);
        let no = ask("SEP0019E8D3A001");
        assert_eq!(no.code, 1);
        assert!(no.output.starts_with("refused by controlled_devices: "), "{}", no.output);
        assert!(no.output.contains("hq.yaml:"), "{}", no.output);
    }
}
