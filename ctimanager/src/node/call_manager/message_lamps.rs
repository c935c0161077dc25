//! Message lamps on the wire: a number's lamp is switched, and the phones with that number are told.

use super::directory::waiting;
use super::{CallManager, Turn};
use device_model::{DeviceName, Dn, MessageLamp};
use sip::Command;
use std::sync::Arc;

impl CallManager {
    pub(super) fn switch_lamps(
        &mut self,
        turn: &mut Turn<'_>,
        dn: &Dn,
        lamp: MessageLamp,
        phones: &[DeviceName],
    ) {
        let number: Arc<str> = dn.as_str().into();
        for phone in phones {
            let (account, number) = (phone.as_str().into(), Arc::clone(&number));
            let command = Command::Lamp { account, number, waiting: waiting(lamp) };
            self.sip(turn, sip::Input::Command(command));
        }
    }

    /// Rights may have changed: who may no longer watch what he subscribed to is told so.
    pub(in crate::node) fn recheck_subscriptions(&mut self, turn: &mut Turn<'_>) {
        self.sip(turn, sip::Input::Command(Command::Recheck));
    }
}
