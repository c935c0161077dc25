//! Message lamps: which numbers have theirs on. An application switches that of a number; all phones with the number show it.

use crate::control::{CallControl, refusal};
use crate::ids::{DeviceName, Dn};
use crate::operations::Asker;
use crate::port::{MessageLamp, Output, Refusal, RefusalKind};

impl CallControl {
    /// What the message lamp of a number shows.
    #[must_use]
    pub fn message_lamp(&self, dn: &Dn) -> MessageLamp {
        MessageLamp::when(self.lit.contains(dn))
    }

    /// The devices with a number.
    #[must_use]
    pub fn devices_with(&self, dn: &Dn) -> &[DeviceName] {
        self.numbers.get(dn).map_or(&[], |number| &number.appearances)
    }

    /// Who asks need not have the device open; that he controls it was decided before.
    pub(crate) fn set_message_waiting(
        &mut self,
        asker: Asker,
        device: &DeviceName,
        dn: &Dn,
        lamp: MessageLamp,
    ) -> Result<(), Refusal> {
        let line = self.devices.get(device).filter(|device| device.plan.allow_cti_control);
        if line.and_then(|device| device.line(dn)).is_none_or(|line| line.restricted) {
            return refusal(RefusalKind::NoSuchLine, "no device that this user controls has this number");
        }
        self.done(asker);
        let changed = match lamp {
            MessageLamp::On => self.lit.insert(dn.clone()),
            MessageLamp::Off => self.lit.remove(dn),
        };
        if changed {
            let is_phone =
                |name: &&DeviceName| self.devices.known(name).is_some_and(|device| !device.is_application());
            let phones = self.devices_with(dn).iter().filter(is_phone).cloned().collect();
            self.out.push(Output::MessageLamp { dn: dn.clone(), lamp, phones });
        }
        Ok(())
    }

    /// A number that a new plan takes away loses its lamp with it.
    pub(crate) fn carry_lamps(&mut self) {
        let numbers = &self.numbers;
        self.lit.retain(|dn| numbers.get(dn).is_some());
    }
}
