//! What a session asks for: permission first, then the model's answer or the node's own.

use super::applications::{Reported, unsupported};
use super::open::permission_error;
use super::port::Output;
use super::{Node, Step, alarms};
use device_model::{DeviceName, RequestToken, SessionId};
use protocol::CtiError;
use protocol::methods::{DeviceOpen, Method, ProviderDevices, Scope};
use security::audit::{AuditRecord, Outcome};
use security::{Action, Actor, Decision, RefusalKind};

impl Node {
    pub(super) fn execute(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        method: Method,
    ) {
        if !self.puts_off(id, token, &method) {
            self.carry_out_request(step, id, token, method);
        }
    }

    pub(super) fn carry_out_request(
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
            other => match other.to_model() {
                Some(request) => {
                    self.wish_page(if let Method::DeviceOpen(open) = &other { Some(open) } else { None });
                    self.ask_model(step, id, token, request);
                    self.wish_page(None);
                }
                None => self.refuse(id, token, unsupported(&other)),
            },
        }
    }

    fn discover(&mut self, id: SessionId, token: RequestToken) {
        let document = protocol::openrpc::answer(&self.settings.servers);
        self.reply(id, token, Ok(document));
    }

    fn ask_model(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        request: device_model::Request,
    ) {
        use device_model::Request as R;
        self.applications.reported = match &request {
            R::OpenDevice { device, .. } => Some(Reported {
                session: id,
                token,
                device: device.clone(),
                on_success: &alarms::DEVICE_OPENED,
                on_failure: Some(&alarms::DEVICE_OPEN_FAILURE),
            }),
            R::CloseDevice { device } => Some(Reported {
                session: id,
                token,
                device: device.clone(),
                on_success: &alarms::DEVICE_CLOSED,
                on_failure: None,
            }),
            _ => None,
        };
        if let R::CloseDevice { device } = &request {
            self.note_opened(id, device);
            self.keeping.device(id, device);
        }
        self.update_phones_of(step, &request);
        self.model(step, device_model::Input::Request { session: id, token, request });
        self.applications.reported = None;
    }

    /// The permission decisions for what a method needs beyond an open provider: its device, then a privilege. What is
    /// open was opened under the same decision, and what is withdrawn later closes it, so that open devices and their
    /// legs need none of their own. Refusals are audited, and so is every `device.open`.
    fn permitted(&self, step: &mut Step<'_>, id: SessionId, method: &Method) -> Result<(), CtiError> {
        let Some(provider) = self.applications.providers.get(&id) else { return Ok(()) };
        let opens = matches!(method, Method::DeviceOpen(_));
        let device = device_of(method).filter(|device| opens || !self.model.is_open(id, device));
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
        let report = self.alarms.occur(&alarms::DEVICE_OPEN_FAILURE, parameters);
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
        _ => None,
    }
}

/// The device that a method names. A name that the user may not control is refused in all of them as in `device.open`,
/// whether it exists or not (protocol §3).
pub(super) fn device_of(method: &Method) -> Option<&DeviceName> {
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
