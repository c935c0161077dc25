//! Configurations that nobody meant well with.

use ctimanager::config;
use ctimanager::node::{Node, Settings, Surroundings};
use std::sync::Arc;

/// YAML text: every mistake has a place in the file, and what has none makes a node.
pub(super) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match config::parse("fuzz.yaml", &text) {
        Ok(loaded) => {
            for node in &loaded.config.nodes {
                let settings = Settings::of(&loaded.config, node, &Surroundings::default());
                let made = Node::new(Arc::new(settings), [1; 32], 1);
                made.check().expect("a fresh node is whole");
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            let lines = text.split(['\n', '\r']).count() + 1;
            for mistake in &mistakes {
                let (line, column) = (mistake.place.line as usize, mistake.place.column as usize);
                assert!(
                    line <= lines && column <= text.chars().count() + 1,
                    "{mistake} is outside of the file"
                );
            }
        }
    }
}
