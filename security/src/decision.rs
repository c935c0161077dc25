//! The permission decision: one function, [`Policy::decide`], for every question "may he?" (protocol §2, §3, §7;
//! reference §2.5).

use crate::Transport;
use crate::groups::StandardGroup;
use crate::policy::{Mode, Policy};
use crate::users::User;
use device_model::{DeviceName, Dn};
use std::fmt;

/// Who asks, and how he is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor<'a> {
    /// The user's id; who he is was proved before.
    pub user: &'a str,
    /// His connection.
    pub transport: Transport,
}

/// What he wants. An action carries its resource, so that no pair can be asked that means nothing; those without one are
/// about the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action<'a> {
    /// Open a provider.
    OpenProvider,
    /// See devices.
    ListDevices(Scope),
    /// Open this device.
    OpenDevice(&'a DeviceName),
    /// Switch the message lamp of this number, which this device has.
    SwitchMessageLamp(&'a DeviceName, &'a Dn),
    /// Show another calling number.
    ModifyCallingNumber,
    /// Watch the cluster's park numbers.
    MonitorPark,
    /// Get the keys of encrypted media.
    ReceiveSrtpKeys,
    /// Listen to a call unheard.
    MonitorCalls,
    /// Have a call recorded.
    RecordCalls,
    /// Hear an event about this.
    Hear(Topic<'a>),
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic<'a> {
    /// The provider itself: its service, its privileges, the alarms that concern it.
    Provider,
    /// A device, be it restricted or gone: that it is there, in service, restricted.
    Device(&'a DeviceName),
    /// What happens on a line of a device: its calls with all their parties, their media and keys, its forward.
    Line(&'a DeviceName, &'a Dn),
    /// The cluster's park numbers and who waits there.
    ParkNumbers,
}

/// Which devices a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of the user's controlled list.
    Controlled,
    /// Every controllable device.
    All,
}

/// The answer, with the rule that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// He may.
    Allowed(Rule),
    /// He may not.
    Refused(Refusal),
}

/// Which rule allowed or would have allowed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Membership of a group.
    Group(StandardGroup),
    /// An entry of the user's controlled devices; `None` when none matches.
    ControlledDevices(Option<String>),
    /// The connection's kind.
    Transport,
    /// The device's `allow_cti_control`.
    AllowCtiControl,
    /// The line's `allow_cti_control`.
    LineAllowsCtiControl,
    /// The device is in the configuration.
    DeviceExists,
    /// The user is in the configuration.
    UserExists,
}

/// A refusal: why, and what would change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub kind: RefusalKind,
    /// What is missing.
    pub rule: Rule,
    /// A sentence for the application's author, naming the group or list that would allow it.
    pub message: String,
}

/// The refusals of protocol §8 that come from permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the wire's own
pub enum RefusalKind {
    LoginFailed,
    SecureConnectionRequired,
    UserNotCtiEnabled,
    DeviceNotControlled,
    NoSuchDevice,
    DeviceRestricted,
    LineRestricted,
    PrivilegeViolation,
    CallingNumberModificationNotAllowed,
}

impl RefusalKind {
    /// The symbol on the wire.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            RefusalKind::LoginFailed => "LOGIN_FAILED",
            RefusalKind::SecureConnectionRequired => "SECURE_CONNECTION_REQUIRED",
            RefusalKind::UserNotCtiEnabled => "USER_NOT_CTI_ENABLED",
            RefusalKind::DeviceNotControlled => "DEVICE_NOT_CONTROLLED",
            RefusalKind::NoSuchDevice => "NO_SUCH_DEVICE",
            RefusalKind::DeviceRestricted => "DEVICE_RESTRICTED",
            RefusalKind::LineRestricted => "LINE_RESTRICTED",
            RefusalKind::PrivilegeViolation => "PRIVILEGE_VIOLATION",
            RefusalKind::CallingNumberModificationNotAllowed => "CALLING_NUMBER_MODIFICATION_NOT_ALLOWED",
        }
    }
}

impl Decision {
    /// Whether he may.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// The rule that decided.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        match self {
            Decision::Allowed(rule) | Decision::Refused(Refusal { rule, .. }) => rule,
        }
    }

    /// For `?`: the refusal as an error.
    ///
    /// # Errors
    /// The refusal, when it is one.
    pub fn into_result(self) -> Result<Rule, Refusal> {
        match self {
            Decision::Allowed(rule) => Ok(rule),
            Decision::Refused(refusal) => Err(refusal),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Group(group) => write!(f, "group {group}"),
            Rule::ControlledDevices(Some(entry)) => write!(f, "controlled_devices {entry}"),
            Rule::ControlledDevices(None) => f.write_str("controlled_devices"),
            Rule::Transport => f.write_str("transport"),
            Rule::AllowCtiControl => f.write_str("allow_cti_control"),
            Rule::LineAllowsCtiControl => f.write_str("allow_cti_control of the line"),
            Rule::DeviceExists => f.write_str("device exists"),
            Rule::UserExists => f.write_str("user exists"),
        }
    }
}

impl Policy {
    /// May this actor do this? The checks that hold for every action (the user exists, his transport, CTI Enabled) come
    /// first and in the order of protocol §2, so that a right withdrawn from an open provider is refused everywhere.
    #[must_use]
    pub fn decide(&self, actor: Actor<'_>, action: Action<'_>) -> Decision {
        match self.admitted(actor).and_then(|user| self.permitted(user, actor.transport, action)) {
            Ok(rule) => Decision::Allowed(rule),
            Err(refusal) => Decision::Refused(refusal),
        }
    }

    fn admitted(&self, actor: Actor<'_>) -> Result<&User, Refusal> {
        let Some(user) = self.user(actor.user) else {
            return Err(refuse(
                RefusalKind::LoginFailed,
                Rule::UserExists,
                "the user name or the password is wrong, or the certificate is not this user's".into(),
            ));
        };
        let must_be_secure =
            self.mode() == Mode::Secure && user.groups.contains(StandardGroup::SecureConnection);
        if must_be_secure && actor.transport == Transport::Plain {
            return Err(refuse(
                RefusalKind::SecureConnectionRequired,
                Rule::Transport,
                format!(
                    "a member of {} must connect over TLS while the cluster's security mode is secure",
                    StandardGroup::SecureConnection
                ),
            ));
        }
        let enabled = StandardGroup::CtiEnabled;
        member(user, enabled, RefusalKind::UserNotCtiEnabled, "to use CTI")?;
        Ok(user)
    }

    fn permitted(&self, user: &User, transport: Transport, action: Action<'_>) -> Result<Rule, Refusal> {
        match action {
            Action::OpenProvider | Action::ListDevices(Scope::Controlled) => {
                Ok(Rule::Group(StandardGroup::CtiEnabled))
            }
            Action::ListDevices(Scope::All) => {
                let wish = "to see every device; the scope `controlled` is open to all";
                privilege(user, StandardGroup::ControlOfAllDevices, wish)
            }
            Action::OpenDevice(device) => self.open_device(user, device),
            Action::SwitchMessageLamp(device, dn) => self.use_line(user, device, dn),
            Action::ModifyCallingNumber => member(
                user,
                StandardGroup::CallingNumberModification,
                RefusalKind::CallingNumberModificationNotAllowed,
                "to show another calling number",
            ),
            Action::MonitorPark => {
                privilege(user, StandardGroup::CallParkMonitoring, "to watch park numbers")
            }
            Action::ReceiveSrtpKeys => srtp_keys(user, transport),
            Action::MonitorCalls => privilege(user, StandardGroup::CallMonitoring, "to monitor calls"),
            Action::RecordCalls => privilege(user, StandardGroup::CallRecording, "to record calls"),
            Action::Hear(topic) => self.hear(user, topic),
        }
    }

    /// Events are filtered by the decisions that open what they are about.
    fn hear(&self, user: &User, topic: Topic<'_>) -> Result<Rule, Refusal> {
        match topic {
            Topic::Provider => Ok(Rule::Group(StandardGroup::CtiEnabled)),
            Topic::Device(device) => controls(user, device),
            Topic::Line(device, dn) => self.use_line(user, device, dn),
            Topic::ParkNumbers => {
                privilege(user, StandardGroup::CallParkMonitoring, "to hear of park numbers")
            }
        }
    }

    fn use_line(&self, user: &User, device: &DeviceName, dn: &Dn) -> Result<Rule, Refusal> {
        let rule = self.open_device(user, device)?;
        if self.is_restricted(dn) {
            return Err(refuse(
                RefusalKind::LineRestricted,
                Rule::LineAllowsCtiControl,
                format!("a line of {device} is restricted: allow_cti_control of its number would open it"),
            ));
        }
        Ok(rule)
    }

    /// A name that the user may not control is refused alike whether it exists or not (protocol §3).
    fn open_device(&self, user: &User, device: &DeviceName) -> Result<Rule, Refusal> {
        let everything = StandardGroup::ControlOfAllDevices;
        let grant = controls(user, device)?;
        match self.device(device.as_str()) {
            // A glob of the user's list fits, but his list is of devices: only a super provider hears more.
            None if !user.groups.contains(everything) => Err(refuse(
                RefusalKind::DeviceNotControlled,
                Rule::DeviceExists,
                format!("{device} is not among the devices that user {} may control", user.id),
            )),
            None => Err(refuse(
                RefusalKind::NoSuchDevice,
                Rule::DeviceExists,
                format!("there is no device {device}"),
            )),
            Some(facts) if !facts.allow_cti_control => Err(refuse(
                RefusalKind::DeviceRestricted,
                Rule::AllowCtiControl,
                format!(
                    "{device} is restricted: allow_cti_control of the device would open it to applications"
                ),
            )),
            Some(_) => Ok(grant),
        }
    }
}

/// The list or group by which he controls a device of this name, if there is one.
fn controls(user: &User, device: &DeviceName) -> Result<Rule, Refusal> {
    let everything = StandardGroup::ControlOfAllDevices;
    match user.controlled.entry_for(device.as_str()) {
        Some(entry) => Ok(Rule::ControlledDevices(Some(entry.to_owned()))),
        None if user.groups.contains(everything) => Ok(Rule::Group(everything)),
        None => Err(refuse(
            RefusalKind::DeviceNotControlled,
            Rule::ControlledDevices(None),
            format!(
                "{device} is not among the controlled_devices of user {}, who is not in {everything} either",
                user.id
            ),
        )),
    }
}

/// Keys go over TLS only, to members of three groups (protocol §5, reference §8.1).
fn srtp_keys(user: &User, transport: Transport) -> Result<Rule, Refusal> {
    let wish = "to receive SRTP keys";
    privilege(user, StandardGroup::SecureConnection, wish)?;
    let rule = privilege(user, StandardGroup::ReceptionOfSrtpKeyMaterial, wish)?;
    match transport {
        Transport::Tls => Ok(rule),
        Transport::Plain => Err(refuse(
            RefusalKind::SecureConnectionRequired,
            Rule::Transport,
            "SRTP keys are sent over TLS only".into(),
        )),
    }
}

fn privilege(user: &User, group: StandardGroup, wish: &str) -> Result<Rule, Refusal> {
    member(user, group, RefusalKind::PrivilegeViolation, wish)
}

fn member(user: &User, group: StandardGroup, kind: RefusalKind, wish: &str) -> Result<Rule, Refusal> {
    if user.groups.contains(group) {
        return Ok(Rule::Group(group));
    }
    Err(refuse(kind, Rule::Group(group), format!("user {} must be in {group} {wish}", user.id)))
}

fn refuse(kind: RefusalKind, rule: Rule, message: String) -> Refusal {
    Refusal { kind, rule, message }
}

#[cfg(test)]
mod tests;
