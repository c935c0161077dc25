//! Phones that are lost by the thousand, with their edge or because their registrations end at the same time. The stack lets
//! go of their contacts a few at a time, and those who have the phones open are told then. Nobody can see that it takes a
//! moment: a phone that an input concerns, or at which a call may ring, is brought up to date first.

use super::{Node, Step};
use device_model::port::Signal;
use device_model::{DeviceName, Dn, Input, Request};

impl Node {
    /// Brings a phone up to date, if any may not be.
    pub(super) fn update_phone(&mut self, step: &mut Step<'_>, phone: &DeviceName) {
        if !self.stack.is_losing() {
            return;
        }
        // What waits comes after it.
        let waiting = std::mem::take(&mut self.pending);
        self.sip(step, sip::Input::Command(sip::Command::Update(phone.as_str().into())));
        self.settle(step);
        self.pending.extend(waiting);
    }

    /// The same of all phones that a request concerns.
    pub(super) fn update_phones_of(&mut self, step: &mut Step<'_>, request: &Request) {
        if !self.stack.is_losing() {
            return;
        }
        let (device, number) = match request {
            Request::OpenDevice { device, .. }
            | Request::CloseDevice { device }
            | Request::SetForwardAll { device, .. }
            | Request::SetAutoAccept { device, .. } => (Some(device.clone()), None),
            Request::MakeCall { device, destination, .. } => (Some(device.clone()), Some(destination)),
            Request::Redirect { leg, destination, .. } => {
                (self.model.device_of_leg(*leg).cloned(), Some(destination))
            }
            Request::Accept { leg }
            | Request::Answer { leg }
            | Request::Reject { leg, .. }
            | Request::Drop { leg }
            | Request::Hold { leg }
            | Request::Retrieve { leg }
            | Request::SetUserData { leg, .. }
            | Request::SetMedia { leg, .. } => (self.model.device_of_leg(*leg).cloned(), None),
        };
        if let Some(number) = number {
            self.update_phones_at(step, number);
        }
        if let Some(device) = device {
            self.update_phone(step, &device);
        }
    }

    /// The same of all phones at which a call may ring that begins with this input or is sent on by it.
    pub(super) fn update_phones_before(&mut self, step: &mut Step<'_>, input: &Input) {
        if !self.stack.is_losing() {
            return;
        }
        match input {
            Input::IncomingCall { dialled, .. } => self.update_phones_at(step, dialled),
            Input::Signal(_, Signal::Rejected { redirect_to, .. }) => {
                redirect_to.iter().for_each(|number| self.update_phones_at(step, number));
            }
            // A call that was there before and is forwarded finds by itself that a phone can't be reached.
            _ => {}
        }
    }

    fn update_phones_at(&mut self, step: &mut Step<'_>, number: &Dn) {
        for phone in self.model.phones_within_reach(number) {
            self.update_phone(step, &phone);
        }
    }
}
