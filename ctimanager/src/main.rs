//! The `ctimanager` command.
fn main() {}
