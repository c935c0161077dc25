//! What must hold between the rooms of CallManager after every step (P5, P6): for tests and simulations.

use super::CallManager;
use device_model::LegView;

impl CallManager {
    /// Compares what the rooms know of each other.
    ///
    /// # Errors
    /// A sentence on the first contradiction found.
    pub(in crate::node) fn check(&self) -> Result<(), String> {
        self.model.check()?;
        self.check_legs()
    }

    /// Every end that the signalling carries has a SIP call, and no SIP call is without its end.
    fn check_legs(&self) -> Result<(), String> {
        if let Some(end) = self.sip_legs.ends().find(|end| self.model.leg_of_end(*end).is_none()) {
            return Err(format!("the SIP call of {end} is left over"));
        }
        if self.sip_legs.len() > self.stack.counts().calls {
            return Err(format!("{} ends on {} SIP calls", self.sip_legs.len(), self.stack.counts().calls));
        }
        for (call, legs) in self.model.calls() {
            let has =
                |leg: &LegView| self.model.end_of_leg(leg.leg).is_some_and(|end| self.sip_legs.has(end));
            let silent = |leg: &&LegView| !leg.remote_in_use && !self.is_application(leg) && !has(leg);
            if let Some(leg) = legs.iter().find(silent) {
                return Err(format!("{} of {call} has no SIP call: {:?}", leg.leg, leg.state));
            }
        }
        Ok(())
    }

    fn is_application(&self, leg: &LegView) -> bool {
        let device = self.model.device(&leg.device);
        device.is_some_and(|device| device.kind != device_model::plan::DeviceKind::Phone)
    }
}
