//! `ctimanager explain`: may this user open that device, may this device or trunk dial that number, and why not?

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

/// Explains how a device or trunk dials a number. Exit code 0 when it may, 1 when it may not.
#[must_use]
pub fn explain_number(path: &Path, number: &str, from: &str, line: Option<&str>, format: Format) -> Outcome {
    let config = match config::load(path) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => return check_config::bad(&mistakes),
    };
    show(&serde_json::json!(config.explain_number(&config.model(), number, from, line)), format)
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
            let lines = if allowed { restricted_lines(told) } else { String::new() };
            format!("{verdict} by {}: {}{place}{plain}{lines}", text("rule"), text("message"))
        }
    };
    Outcome { code: u8::from(!allowed), ..Outcome::good(output) }
}

/// Lines that stay shut though the device opens.
fn restricted_lines(told: &Value) -> String {
    let lines = told["restricted_lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        format!(
            "\n  but not its line {}, which allow_cti_control restricts\n  {}:{}:{}",
            text("dn"),
            text("file"),
            line["line"],
            line["column"]
        )
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Format, Transport, explain, explain_number, show};
    use serde_json::json;
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

    #[test]
    fn a_number_is_explained_by_the_same_rule() {
        let hq = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/hq.yaml");
        let ask = |number, from| explain_number(&hq, number, from, None, Format::Table);
        let yes = ask("90301234567", "SEP0019E8D3A001");
        assert_eq!(yes.code, 0, "{yes:?}");
        assert!(yes.output.starts_with("allowed by calling_search_space staff: "), "{}", yes.output);
        assert!(yes.output.contains("leaves by trunk pstn as 0301234567"), "{}", yes.output);
        let no = ask("90301234567", "pstn");
        assert_eq!(no.code, 1);
        assert!(no.output.starts_with("refused by partition outside: "), "{}", no.output);
        assert!(no.output.contains("hq.yaml:"), "{}", no.output);
    }

    #[test]
    fn a_line_that_stays_shut_is_said_beside_the_yes() {
        let place = |line: u32| json!({"file": "f.yaml", "line": line, "column": 5});
        let mut told = place(9);
        told["allowed"] = true.into();
        told["allowed_over_plain"] = true.into();
        told["rule"] = "controlled_devices P*".into();
        told["message"] = "user a may open P".into();
        told["restricted_lines"] = json!([place(4)]);
        told["restricted_lines"][0]["dn"] = "5101".into();
        let outcome = show(&told, Format::Table);
        assert_eq!(outcome.code, 0);
        assert_eq!(
            outcome.output.trim_end(),
            "allowed by controlled_devices P*: user a may open P\n  f.yaml:9:5\n  \
             but not its line 5101, which allow_cti_control restricts\n  f.yaml:4:5"
        );
    }
}
