//! `ctimanager api`: the OpenRPC document, for those who make clients of it.

use super::{Outcome, check_config};
use crate::config::{self, CtiListeners};
use protocol::openrpc::{Server, document};
use std::path::Path;

/// Prints the document. Its servers are those of a configuration, or of a node with the protocol's own ports.
#[must_use]
pub fn api(path: Option<&Path>) -> Outcome {
    let servers = match path.map(config::load) {
        None => Server::defaults(),
        Some(Ok(loaded)) => {
            loaded.config.nodes.iter().flat_map(|node| node.servers(CtiListeners::default())).collect()
        }
        Some(Err(mistakes)) => return check_config::bad(&mistakes),
    };
    Outcome::good(format!("{:#}", document(&servers)))
}

#[cfg(test)]
mod tests {
    use super::api;
    use serde_json::Value;

    fn urls(path: Option<&str>) -> Vec<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let told = api(path.map(|path| folder.join(path)).as_deref());
        assert_eq!(told.code, 0, "{}", told.notes);
        let document: Value = serde_json::from_str(&told.output).expect("JSON");
        let servers = document["servers"].as_array().expect("a list");
        servers.iter().filter_map(|server| server["url"].as_str().map(str::to_owned)).collect()
    }

    #[test]
    fn servers_are_the_usual_ports_without_a_configuration() {
        assert_eq!(urls(None), ["wss://localhost:8443/cti/v1", "tls://localhost:2749"]);
    }

    #[test]
    fn servers_are_those_of_the_configuration() {
        let urls = urls(Some("../config/minimal.yaml"));
        assert_eq!(urls, ["wss://127.0.0.1:8443/cti/v1", "tls://127.0.0.1:2749"]);
    }

    #[test]
    fn a_configuration_that_is_wrong_is_said_to_be() {
        assert_eq!(api(Some(std::path::Path::new("/nowhere"))).code, 1);
    }
}
