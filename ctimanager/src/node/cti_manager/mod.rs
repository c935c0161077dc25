//! CTIManager: applications, their connections and sessions, what they may and are told, and what is kept of them. Pure, as
//! the whole node is.
//!
//! It asks CallManager ([`crate::node::messages::Ask`]) and hears what it tells ([`hearing`]), knows nothing of SIP, and reaches
//! it by the step that it is handed alone ([`Step`](crate::node::Step)): that is also where it looks at devices and calls.

mod applications;
mod asking;
mod certificates;
mod check;
mod credentials;
pub(in crate::node) mod dismissals;
mod hearing;
mod keeping;
pub mod kept;
mod keys;
mod lamps;
pub(in crate::node) mod lists;
mod methods;
mod mirror;
mod missing;
mod open;
mod owners;
mod pages;
mod pending_connections;
mod portions;
pub(in crate::node) mod reload;
mod restore;
mod session_records;
mod tasks;
mod visibility;

use crate::node::Settings;
use crate::node::messages::Passage;
use applications::Applications;
use device_model::Identity;
use hearing::Hearing;
use keeping::Keeping;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Instant;

/// The machine of a node's applications.
pub(in crate::node) struct CtiManager {
    settings: Arc<Settings>,
    identity: Identity,
    pub(in crate::node) applications: Applications,
    expiries: certificates::Expiries,
    old_passwords: credentials::OldPasswords,
    dismissals: dismissals::Dismissals,
    pub(in crate::node) keeping: Keeping,
    mirror: mirror::Mirror,
    portions: portions::Portions,
    pages: pages::Pages,
    random: StdRng,
    hearing: Hearing,
    /// How messages pass to CallManager and from it.
    passage: Passage,
    /// Whether every event is held against the permission decision, and what was found.
    witness: visibility::Witness,
}

impl CtiManager {
    pub(in crate::node) fn new(identity: Identity, settings: Arc<Settings>, random: StdRng) -> Self {
        Self {
            settings,
            applications: Applications::new(&identity),
            identity,
            expiries: certificates::Expiries::default(),
            old_passwords: credentials::OldPasswords::default(),
            dismissals: dismissals::Dismissals::default(),
            keeping: Keeping::default(),
            mirror: mirror::Mirror::default(),
            portions: portions::Portions::default(),
            pages: pages::Pages::default(),
            random,
            hearing: Hearing::default(),
            passage: Passage::default(),
            witness: visibility::Witness::default(),
        }
    }

    /// When something of it is due.
    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        let rooms = [
            self.applications.next_timeout(),
            self.hearing.next_timeout(),
            self.expiries.next_timeout(),
            self.old_passwords.next_timeout(),
            self.portions.next_timeout(),
            self.pages.next_timeout(),
        ];
        rooms.into_iter().flatten().min()
    }

    /// From now on each message is written and read again.
    pub(in crate::node) fn write_messages(&mut self) {
        self.passage = Passage::Written;
    }
}
