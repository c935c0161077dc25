//! What must hold between the rooms of a node after every step (P5, P6): for tests and simulations.

use super::Node;
use device_model::Standing;

impl Node {
    /// Compares what the rooms know of each other.
    ///
    /// # Errors
    /// A sentence on the first contradiction found.
    pub fn check(&self) -> Result<(), String> {
        self.call_manager.check()?;
        // A node that stops lets its connections go before their sessions.
        if !self.stopping.has_begun() {
            self.cti_manager.check_sessions(self.call_manager.devices())?;
        }
        self.cti_manager.check_mirror(self.call_manager.devices())?;
        self.cti_manager.check_permissions(self.call_manager.devices())
    }

    /// Holds what records told of calls, legs, devices and sessions against what is: for tests and simulations.
    ///
    /// # Errors
    /// A sentence on the first difference.
    pub fn check_records(&self, told: &Standing) -> Result<(), String> {
        self.call_manager.devices().check_records(told)?;
        self.cti_manager.check_records(told)
    }

    /// What records are added to from the start of the node on.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.call_manager.devices().standing()
    }
}
