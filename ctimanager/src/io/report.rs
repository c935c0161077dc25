//! Reports of the core become log lines.

use super::wall;
use crate::node::{Report, Severity};
use device_model::Transition;
use device_model::transitions::{Parties, Place, What};
use security::audit::{AuditRecord, Outcome};
use std::fmt::{self, Write as _};
use tracing::{debug, error, info, warn};

/// Writes one line; nothing is formatted when nobody listens at its level.
pub(super) fn log(report: &Report) {
    let (name, parameters) = (report.name, Parameters(&report.parameters));
    match report.severity {
        Severity::Critical => {
            error!(target: "ctimanager", critical = true, "{name} {parameters}")
        }
        Severity::Error => error!(target: "ctimanager", "{name} {parameters}"),
        Severity::Warning => warn!(target: "ctimanager", "{name} {parameters}"),
        Severity::Informational => info!(target: "ctimanager", "{name} {parameters}"),
        Severity::Debug => debug!(target: "ctimanager", "{name} {parameters}"),
    }
}

/// Writes a change of state, with the numbers of its line and parties, which stand at DEBUG alone. Nothing is formatted when
/// nobody listens.
pub(super) fn transition(record: &Transition) {
    debug!(target: "ctimanager::transitions", "{record}{}", Numbers(&record.what));
}

/// Writes one line of the audit log. It has a target of its own, so that it can be kept apart and switched on alone.
pub(super) fn audit(record: &AuditRecord) {
    info!(target: "ctimanager::audit", "{record}");
}

/// Who gave an administrator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orderer {
    /// A system user, by the control socket.
    SystemUser(u32),
    /// A signal, which doesn't say whose it is.
    Signal,
}

/// Writes what an administrator ordered into the audit log.
pub(super) fn audit_order(by: Orderer, action: &'static str, outcome: Outcome) {
    let user = match by {
        Orderer::SystemUser(uid) => format!("uid {uid}"),
        Orderer::Signal => "SIGHUP".to_owned(),
    };
    audit(&AuditRecord {
        at: wall(),
        user: user.as_str().into(),
        peer: None,
        action,
        device: None,
        stream: None,
        outcome,
    });
}

struct Numbers<'a>(&'a What);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let What::Leg { place, parties, .. } = self.0 else { return Ok(()) };
        let line = match place {
            Place::Line { dn, .. } => Some(("line", dn.reveal().as_str())),
            Place::Trunk(_) => None,
        };
        let Parties { calling, called, original_called, last_redirecting } = &**parties.reveal();
        let others = [("original_called", original_called), ("last_redirecting", last_redirecting)];
        let others = others.into_iter().filter_map(|(name, party)| Some((name, &*party.as_ref()?.number)));
        let both = [("calling", &*calling.number), ("called", &*called.number)];
        for (name, number) in line.into_iter().chain(both).chain(others) {
            f.write_char(' ')?;
            parameter(f, name, number)?;
        }
        Ok(())
    }
}

struct Parameters<'a>(&'a [(&'static str, String)]);

impl fmt::Display for Parameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_char(' ')?;
            }
            parameter(f, name, value)?;
        }
        Ok(())
    }
}

/// `name=value`, the value in quotes and escaped where it could be mistaken: it may come from outside.
fn parameter(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
    if plain { write!(f, "{name}={value}") } else { write!(f, "{name}={value:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_from_outside_cannot_forge_a_line() {
        let parameters = [
            ("user", "alice".to_owned()),
            ("application", "x\nERROR forged=1".to_owned()),
            ("reason", String::new()),
        ];
        assert_eq!(
            Parameters(&parameters).to_string(),
            r#"user=alice application="x\nERROR forged=1" reason="""#
        );
    }
}
