//! Who may switch a number's message lamp: whoever controls a device with that number, be it open or not (protocol §3).

use super::CtiManager;
use crate::node::Step;
use crate::node::messages::Ask;
use crate::node::port::Output;
use device_model::{DeviceName, Dn, Request, RequestToken, SessionId};
use protocol::CtiError;
use protocol::error::Symbol;
use protocol::methods::LineSetMessageWaiting;
use security::audit::{AuditRecord, Outcome};
use security::{Action, Actor};

impl CtiManager {
    pub(in crate::node) fn switch_lamp(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        LineSetMessageWaiting { dn, on }: LineSetMessageWaiting,
    ) {
        let Some(device) = self.controlled_with(step, id, &dn) else {
            let message = "no device that this user controls has this number";
            return self.refuse(id, token, CtiError::new(Symbol::NoSuchLine, message.to_owned()));
        };
        self.catch_up(step, &device);
        let request = Request::SetMessageWaiting { device, dn, on };
        let owner = self.owner_of(&request);
        self.ask(step, Ask::Request { session: id, token, owner, request });
    }

    /// A device with this number of those that the session's user controls. Others are refused alike, whether there is such a
    /// number or not; the audit log has the difference.
    fn controlled_with(&self, step: &mut Step<'_>, id: SessionId, dn: &Dn) -> Option<DeviceName> {
        let provider = self.applications.providers.get(&id)?;
        let actor = Actor { user: &provider.user, transport: provider.transport };
        let mut refused = None;
        for device in step.calls.devices().devices_with(dn) {
            let decision = self.settings.policy.decide(actor, Action::SwitchMessageLamp(device, dn));
            if decision.allowed() {
                return Some(device.clone());
            }
            refused.get_or_insert((device.clone(), Outcome::from(&decision)));
        }
        let (device, outcome) = refused?;
        step.out.push(Output::Audit(AuditRecord {
            at: step.wall,
            user: (&*provider.user).into(),
            peer: Some(provider.peer),
            action: "line.set_message_waiting",
            device: Some(device),
            stream: None,
            outcome,
        }));
        None
    }
}
