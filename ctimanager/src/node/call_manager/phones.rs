//! Phones that are lost by the thousand, because their edge proxy fails or their registrations expire at the same time. The
//! stack removes a few of their contacts in each step; then the sessions that have these phones open get their events. A
//! phone that an input concerns, or at which a call may ring, is brought up to date before that.

use super::{CallManager, Turn};
use device_model::port::{Signal, TransferTo};
use device_model::{DeviceName, Dn, Input, Request};

impl CallManager {
    /// Brings a phone up to date, if any may not be.
    pub(in crate::node) fn update_phone(&mut self, turn: &mut Turn<'_>, phone: &DeviceName) {
        if !self.stack.is_losing() {
            return;
        }
        // What waits comes after it.
        let waiting = std::mem::take(&mut self.pending);
        self.sip(turn, sip::Input::Command(sip::Command::Update(phone.as_str().into())));
        while self.settle_one(turn) {}
        self.pending.extend(waiting);
    }

    /// The same of all phones that a request concerns.
    pub(super) fn update_phones_of(&mut self, turn: &mut Turn<'_>, request: &Request) {
        if !self.stack.is_losing() {
            return;
        }
        let (device, number) = match request {
            Request::OpenDevice { device, .. }
            | Request::CloseDevice { device }
            | Request::SetForwardAll { device, .. }
            | Request::SetAutoAccept { device, .. }
            | Request::SetMessageWaiting { device, .. } => (Some(device.clone()), None),
            Request::MakeCall { device, destination, .. } => (Some(device.clone()), Some(destination)),
            Request::Redirect { leg, destination, .. }
            | Request::BlindTransfer { leg, destination }
            | Request::Consult { leg, destination } => {
                (self.model.device_of_leg(*leg).cloned(), Some(destination))
            }
            Request::Accept { leg }
            | Request::Answer { leg }
            | Request::Reject { leg, .. }
            | Request::Drop { leg }
            | Request::Transfer { leg, .. }
            | Request::Hold { leg }
            | Request::Retrieve { leg }
            | Request::SetUserData { leg, .. }
            | Request::SetMedia { leg, .. } => (self.model.device_of_leg(*leg).cloned(), None),
        };
        if let Some(number) = number {
            self.update_phones_at(turn, number);
        }
        if let Some(device) = device {
            self.update_phone(turn, &device);
        }
    }

    /// The same of all phones at which a call may ring that begins with this input or is sent on by it.
    pub(super) fn update_phones_before(&mut self, turn: &mut Turn<'_>, input: &Input) {
        if !self.stack.is_losing() {
            return;
        }
        match input {
            Input::IncomingCall { dialled, .. } => self.update_phones_at(turn, dialled),
            Input::Signal(_, Signal::Rejected { redirect_to, .. }) => {
                redirect_to.iter().for_each(|number| self.update_phones_at(turn, number));
            }
            Input::Signal(_, Signal::Transfer(TransferTo::Number(number))) => {
                self.update_phones_at(turn, number);
            }
            // A call that was there before and is forwarded finds by itself that a phone can't be reached.
            Input::Signal(..)
            | Input::Request { .. }
            | Input::Configure { .. }
            | Input::Settle { .. }
            | Input::SettleDevice(_)
            | Input::Depart { .. }
            | Input::Registered(_)
            | Input::Unregistered(_)
            | Input::SessionEnded(_)
            | Input::SessionsEnded(_)
            | Input::Revoked { .. }
            | Input::Restored { .. }
            | Input::Shutdown { .. }
            | Input::Timeout => {}
        }
    }

    fn update_phones_at(&mut self, turn: &mut Turn<'_>, number: &Dn) {
        for phone in self.model.phones_within_reach(number) {
            self.update_phone(turn, &phone);
        }
    }
}
