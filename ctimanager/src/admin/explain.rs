//! `ctimanager explain`: may this user open that device, and why not?

use super::{Format, Outcome, check_config};
use crate::config;
use security::Transport;
use std::path::Path;

/// Explains from a configuration, without a node. Exit code 0 when he may, 1 when he may not.
#[must_use]
pub fn explain(path: &Path, device: &str, user: &str, transport: Transport, format: Format) -> Outcome {
    let config = match config::load(path) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => return check_config::bad(&mistakes),
    };
    let told = config.explain(device, user, transport);
    let code = u8::from(!told.allowed);
    let output = match format {
        Format::Json => serde_json::json!(told).to_string(),
        Format::Table => {
            let verdict = if told.allowed { "allowed" } else { "refused" };
            let place = told.place.map(|place| format!("\n  {place}")).unwrap_or_default();
            format!("{verdict} by {}: {}{place}", told.rule, told.message)
        }
    };
    Outcome { code, ..Outcome::good(output) }
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
