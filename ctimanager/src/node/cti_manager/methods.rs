//! What a session asks for: permission first, then the model's answer or the node's own.

use super::CtiManager;
use super::applications::unsupported;
use super::asking::Asked;
use super::open::permission_error;
use crate::node::messages::Ask;
use crate::node::port::Output;
use crate::node::{Step, alarms};
use device_model::{DeviceName, RequestToken, SessionId};
use protocol::CtiError;
use protocol::methods::{DeviceOpen, Method, ProviderDevices, Scope};
use security::audit::{AuditRecord, Outcome};
use security::{Action, Actor, Decision, RefusalKind};

impl CtiManager {
    pub(in crate::node) fn execute(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        method: Method,
    ) {
        if !self.puts_off(step, id, token, &method) {
            self.carry_out_request(step, id, token, method);
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "`to_model` says of each other what it asks of CallManager"
    )]
    pub(in crate::node) fn carry_out_request(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        method: Method,
    ) {
        if let Some(device) = device_of(&method) {
            self.catch_up(step, device);
        }
        if let Err(error) = self.permitted(step, id, &method) {
            if let Method::DeviceOpen(open) = &method {
                self.report_open_failure(step, id, &open.device, &error);
            }
            return self.refuse(id, token, error);
        }
        match method {
            Method::ProviderClose(_) => self.close_provider(step, id, token),
            Method::ProviderDevices(wish) => self.list_devices(step, id, token, wish),
            Method::ProviderSnapshot(wish) => self.snapshot(step, id, token, &wish),
            Method::RpcDiscover(_) => self.discover(id, token),
            Method::DeviceOpen(DeviceOpen { device, cursor: Some(cursor), limit, .. }) => {
                self.next_page(step, id, token, &cursor, limit, Some(&device));
            }
            Method::LineSetMessageWaiting(wish) => self.switch_lamp(step, id, token, wish),
            other => match other.to_model() {
                Some(request) => {
                    self.remember_asked(id, token, Asked::of(&other));
                    let owner = self.owner_of(&request);
                    self.ask(step, Ask::Request { session: id, token, owner, request });
                }
                None => self.refuse(id, token, unsupported(&other)),
            },
        }
    }

    fn discover(&mut self, id: SessionId, token: RequestToken) {
        let document = protocol::openrpc::answer(&self.settings.servers);
        self.reply(id, token, Ok(document));
    }

    /// The permission decisions for what a method needs beyond an open provider: its device, then a privilege. What is
    /// open was opened under the same decision, and what is withdrawn later closes it, so that open devices and their
    /// legs need none of their own. Refusals are audited, and so is every `device.open`.
    fn permitted(&self, step: &mut Step<'_>, id: SessionId, method: &Method) -> Result<(), CtiError> {
        let Some(provider) = self.applications.providers.get(&id) else { return Ok(()) };
        let opens = matches!(method, Method::DeviceOpen(_));
        let device = device_of(method).filter(|device| opens || !self.mirror.is_open(id, device));
        let actor = Actor { user: &provider.user, transport: provider.transport };
        for action in device.map(Action::OpenDevice).into_iter().chain(privilege_of(method)) {
            let decision = self.settings.policy.decide(actor, action);
            match &decision {
                Decision::Allowed(_) if !opens => continue,
                // Nobody has it open then; what opening it would meet is not what was asked.
                Decision::Refused(refusal) if refusal.kind == RefusalKind::DeviceRestricted && !opens => {
                    continue;
                }
                Decision::Allowed(_) | Decision::Refused(_) => {}
            }
            step.out.push(Output::Audit(AuditRecord {
                at: step.wall,
                user: (&*provider.user).into(),
                peer: Some(provider.peer),
                action: method.name(),
                device: device_of(method).cloned(),
                stream: None,
                outcome: Outcome::from(&decision),
            }));
            decision.into_result().map_err(|refusal| permission_error(&refusal))?;
        }
        Ok(())
    }

    fn report_open_failure(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        device: &DeviceName,
        error: &CtiError,
    ) {
        let mut parameters = self.who(id);
        parameters.push(("device", device.to_string()));
        parameters.push(("reason", error.symbol.name().to_owned()));
        let report = step.alarms.occur(&alarms::DEVICE_OPEN_FAILURE, parameters);
        step.out.push(Output::Report(report));
    }
}

/// The privilege that a method needs, if it needs one.
fn privilege_of(method: &Method) -> Option<Action<'static>> {
    match method {
        Method::ProviderDevices(ProviderDevices { scope: Some(Scope::All), .. }) => {
            Some(Action::ListDevices(security::Scope::All))
        }
        Method::ProviderMonitorPark(_) => Some(Action::MonitorPark),
        Method::CallMake(make) if make.calling_number.is_some() => Some(Action::ModifyCallingNumber),
        Method::CallRedirect(redirect) if redirect.calling_number.is_some() => {
            Some(Action::ModifyCallingNumber)
        }
        Method::ProviderOpen(_)
        | Method::ProviderHeartbeat(_)
        | Method::ProviderClose(_)
        | Method::ProviderDevices(_)
        | Method::ProviderSnapshot(_)
        | Method::RpcDiscover(_)
        | Method::DeviceOpen(_)
        | Method::DeviceClose(_)
        | Method::LineSetForward(_)
        | Method::LineSetAutoAccept(_)
        | Method::LineSetMessageWaiting(_)
        | Method::CallMake(_)
        | Method::CallAccept(_)
        | Method::CallAnswer(_)
        | Method::CallReject(_)
        | Method::CallRedirect(_)
        | Method::CallDrop(_)
        | Method::CallHold(_)
        | Method::CallRetrieve(_)
        | Method::CallConsult(_)
        | Method::CallTransfer(_)
        | Method::CallConference(_)
        | Method::CallPark(_)
        | Method::CallUnpark(_)
        | Method::CallPickup(_)
        | Method::CallDtmf(_)
        | Method::CallSetUserData(_)
        | Method::CallSetMedia(_) => None,
    }
}

/// The device that a method names. A name that the user may not control is refused in all of them as in `device.open`,
/// whether it exists or not (protocol §3).
pub(in crate::node) fn device_of(method: &Method) -> Option<&DeviceName> {
    match method {
        Method::DeviceOpen(open) => Some(&open.device),
        Method::DeviceClose(close) => Some(&close.device),
        Method::LineSetForward(forward) => Some(&forward.device),
        Method::LineSetAutoAccept(accept) => Some(&accept.device),
        Method::CallMake(make) => Some(&make.device),
        Method::CallUnpark(unpark) => Some(&unpark.device),
        Method::CallPickup(pickup) => Some(&pickup.device),
        Method::ProviderOpen(_)
        | Method::ProviderHeartbeat(_)
        | Method::ProviderClose(_)
        | Method::ProviderDevices(_)
        | Method::ProviderMonitorPark(_)
        | Method::ProviderSnapshot(_)
        | Method::RpcDiscover(_)
        | Method::LineSetMessageWaiting(_)
        | Method::CallAccept(_)
        | Method::CallAnswer(_)
        | Method::CallReject(_)
        | Method::CallRedirect(_)
        | Method::CallDrop(_)
        | Method::CallHold(_)
        | Method::CallRetrieve(_)
        | Method::CallConsult(_)
        | Method::CallTransfer(_)
        | Method::CallConference(_)
        | Method::CallPark(_)
        | Method::CallDtmf(_)
        | Method::CallSetUserData(_)
        | Method::CallSetMedia(_) => None,
    }
}
