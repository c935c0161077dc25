//! What a session asks for: permission first, then the model's answer or the node's own.

use super::applications::{Reported, unsupported};
use super::open::permission_error;
use super::port::Output;
use super::{Node, Step, alarms};
use device_model::{DeviceName, RequestToken, SessionId};
use protocol::methods::{DeviceOpened, Devices, Method, ProviderDevices, Scope, Snapshot};
use protocol::wire::{Device, Leg};
use protocol::{CtiError, rpc};
use security::audit::{AuditRecord, Outcome};
use security::{Action, Actor, Decision, RefusalKind, Topic};
use serde_json::value::RawValue;

/// Devices on a page of `provider.devices` when the application does not say.
const PAGE: usize = 100;

impl Node {
    pub(super) fn execute(
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
        let answer = match &method {
            Method::ProviderClose(_) => return self.close_provider(step, id, token),
            Method::ProviderDevices(wish) => self.list_devices(id, wish),
            Method::ProviderSnapshot(_) => Ok(self.snapshot(id)),
            Method::RpcDiscover(_) => Ok(protocol::openrpc::answer()),
            other => match other.to_model() {
                Some(request) => return self.ask_model(step, id, token, request),
                None => Err(unsupported(other)),
            },
        };
        self.reply(id, token, answer);
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
            self.keeping.device(id, device);
        }
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

    /// A page of devices, by name; the cursor is the last name of the page before.
    fn list_devices(&self, id: SessionId, wish: &ProviderDevices) -> Result<Box<RawValue>, CtiError> {
        let policy = &self.settings.policy;
        let user = self.applications.providers.get(&id).and_then(|p| policy.user(&p.user));
        let limit = wish.limit.map_or(PAGE, |limit| usize::from(limit.0));
        let after = wish.cursor.as_ref().map(|cursor| cursor.as_str());
        let all = wish.scope == Some(Scope::All);
        let mine = |name: &str| all || user.is_some_and(|u| u.controlled.entry_for(name).is_some());
        let named = |name: &str| wish.name.as_ref().is_none_or(|glob| glob.matches(name));
        let mut devices = Vec::new();
        let mut cursor = None;
        for name in self.model.device_names() {
            let text = name.as_str();
            if after.is_some_and(|after| text <= after) || !mine(text) || !named(text) {
                continue;
            }
            let Some(view) = self.model.device(name) else { continue };
            // "Every controllable device": a restricted one is not (protocol §2).
            if all && view.restricted {
                continue;
            }
            let device = Device::from(&view);
            if wish.type_.is_some_and(|kind| kind != device.kind) {
                continue;
            }
            if devices.len() == limit {
                cursor = devices.last().map(|last: &Device| last.name.as_str().into());
                break;
            }
            devices.push(device);
        }
        Ok(rpc::raw(&Devices { devices, cursor }))
    }

    /// The devices that the session has open, with the legs of which it is told.
    fn snapshot(&self, id: SessionId) -> Box<RawValue> {
        let devices = self
            .model
            .open_devices(id)
            .filter_map(|name| {
                let device = Device::from(&self.model.device(name)?);
                let mut legs = self.model.legs_of_device(name);
                legs.retain(|leg| self.may_hear(id, Topic::Line(name, &leg.dn)));
                Some(DeviceOpened { device, legs: legs.iter().map(Leg::from).collect() })
            })
            .collect();
        let seq = self.applications.sessions.get(id).map_or(0, |s| s.last_seq());
        rpc::raw(&Snapshot { devices, seq })
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
fn device_of(method: &Method) -> Option<&DeviceName> {
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
