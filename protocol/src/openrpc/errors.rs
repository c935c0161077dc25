//! Which errors a method may answer with, and when. A test holds every error that a node of the tests answers with against
//! this table.

use crate::error::Symbol as S;
use crate::planned;

/// An error of a method, and when it comes about.
pub(super) type Entry = (S, &'static str);

const PARAMS: Entry = (S::InvalidParams, "A parameter is missing or wrong; `data.field` is its path.");
const NOT_OPEN: Entry = (S::NotOpen, "The connection has no open provider yet.");
const RATE: Entry = (
    S::RateLimited,
    "More than the session, its user or its address may ask; `data.retry_after_ms` says when to try again.",
);
const PLANNED: Entry = (S::OperationNotSupported, "Always, in this version.");

const NOT_CONTROLLED: Entry = (
    S::DeviceNotControlled,
    "The device is not on the user's list, whether it exists or not; `data.needs` names what would allow it.",
);
const NO_DEVICE: Entry = (S::NoSuchDevice, "There is no such device; only super providers are told so.");
const DEVICE_NOT_OPEN: Entry = (S::DeviceNotOpen, "This session has not opened the device.");
const RESTRICTED: Entry = (S::DeviceRestricted, "The administrator keeps applications off this device.");
const NO_LINE: Entry = (S::NoSuchLine, "The device has no line with this number.");
const LINE_RESTRICTED: Entry = (S::LineRestricted, "The administrator keeps applications off this line.");
const NO_LEG: Entry =
    (S::NoSuchLeg, "The leg is gone, never was, or is on a device that this session has not opened.");
const STATE: Entry = (S::IllegalCallState, "The leg's state does not allow it; `data.state` is the state.");
const BY_PHONE: Entry =
    (S::OperationNotSupported, "The leg is a phone's, which accepts and answers by itself.");
const CALLING_NUMBER: Entry = (
    S::CallingNumberModificationNotAllowed,
    "`calling_number` is there, and the user may not set it; `data.needs` is the group.",
);

/// Of everything that is asked of a leg.
const AT_A_LEG: &[Entry] = &[NO_LEG, STATE];
/// Of everything that is asked of a line.
const AT_A_LINE: &[Entry] =
    &[NOT_CONTROLLED, NO_DEVICE, DEVICE_NOT_OPEN, RESTRICTED, NO_LINE, LINE_RESTRICTED];

/// All that this method may answer, by their codes.
pub(super) fn of(method: &str) -> Vec<Entry> {
    let mut entries = vec![PARAMS, RATE];
    if method != "provider.open" {
        entries.push(NOT_OPEN);
    }
    match planned::method(method) {
        Some(_) => {
            entries.push(PLANNED);
            entries.extend(own_of_planned(method));
        }
        None => entries.extend(own(method).into_iter().flatten()),
    }
    entries.sort_by_key(|(symbol, _)| std::cmp::Reverse(symbol.code()));
    entries
}

/// What is asked before anybody says that the method is planned.
fn own_of_planned(method: &str) -> &'static [Entry] {
    match method {
        "provider.monitor_park" => {
            &[(S::PrivilegeViolation, "The user is not in the group that `data.needs` names.")]
        }
        "call.unpark" | "call.pickup" => &[NOT_CONTROLLED, NO_DEVICE],
        "call.conference" | "call.park" | "call.dtmf" => &[NO_LEG],
        _ => &[],
    }
}

const OPEN_PROVIDER: &[Entry] = &[
    (S::AlreadyOpen, "The connection has a provider, or one is being opened."),
    (S::LoginFailed, "User or password is wrong, or the certificate is another user's; which is not said."),
    (S::SecureConnectionRequired, "The user may come by TLS only."),
    (S::UserNotCtiEnabled, "The user is not in the group that `data.needs` names."),
    (S::MaxConnections, "The node, or the user, has as many sessions as may be; those in their grace count."),
];

const OPEN_DEVICE: &[Entry] = &[
    NOT_CONTROLLED,
    NO_DEVICE,
    RESTRICTED,
    (S::DeviceAlreadyOpen, "This session has the device open already."),
    (S::CannotTerminateMediaOnPhone, "The device is a phone, and `media` is there."),
    (S::MediaRequired, "The device is a CTI port, and there is no `media`, or its mode is `none`."),
    (S::MediaAlreadyTerminatedStatic, "Another application has it open with static media."),
    (S::MediaAlreadyTerminatedDynamic, "Another application has it open with dynamic media."),
    (S::MediaAlreadyTerminatedNone, "Another application has it open without media."),
    (S::MediaCapabilityMismatch, "Codecs or SRTP suites differ from those with which it is open already."),
];

const SET_FORWARD: &[Entry] =
    &[(S::DestinationUnknown, "Nobody has that number, or the line may not dial it.")];

const SET_AUTO_ACCEPT: &[Entry] =
    &[(S::OperationNotSupported, "The device is a phone, which accepts by itself.")];

const SET_MESSAGE_WAITING: &[Entry] = &[(S::NoSuchLine, "No device that the user controls has this number.")];

const MAKE_CALL: &[Entry] = &[
    CALLING_NUMBER,
    (S::OperationNotSupported, "The device is a phone: calls are made from CTI ports and route points."),
    (S::MediaRequired, "The device is open without media."),
    (S::MaxCalls, "The line, the device or the node has as many calls as it may have."),
];

const ANSWER: &[Entry] =
    &[BY_PHONE, (S::MediaRequired, "The route point is open without media: it can only redirect.")];

const RETRIEVE: &[Entry] =
    &[(S::OperationNotSupported, "The phone itself holds the call: only the phone can retrieve it.")];

const REDIRECT: &[Entry] = &[
    CALLING_NUMBER,
    (S::DestinationUnknown, "Nobody has that number, or the line may not dial it."),
    (S::DestinationBusy, "The destination is busy or refused the call."),
    (S::DestinationOutOfService, "The destination can't be reached now."),
    (S::Timeout, "The destination did not decide in time: all is as before."),
];

const CONSULT: &[Entry] = &[
    (S::OperationNotSupported, "The leg is a route point's, or a phone's, at which a person has to dial."),
    (S::MaxCalls, "The line, the device or the node has as many calls as it may have."),
];

const TRANSFER: &[Entry] = &[
    (S::OperationNotSupported, "`with` is there, and the leg is a route point's."),
    (S::MediaCapabilityMismatch, "`with` is there, and the two applications left have no codec in common."),
    (S::DestinationUnknown, "Nobody has that number, or the line may not dial it."),
    (S::DestinationBusy, "The destination is busy or refused the call."),
    (S::DestinationOutOfService, "The destination can't be reached now."),
    (S::Timeout, "The destination did not decide in time: all is as before."),
];

const SET_MEDIA: &[Entry] = &[
    (S::CannotTerminateMediaOnPhone, "The leg is a phone's, which ends its own media."),
    (S::MediaRequired, "The device is open without media."),
    (S::MediaAlreadyTerminatedStatic, "The device has one address for all its calls."),
    (S::MediaAlreadySet, "An address was given already, maybe by another application."),
];

/// Those that it shares with others, and its own.
fn own(method: &str) -> [&'static [Entry]; 2] {
    match method {
        "provider.open" => [&[], OPEN_PROVIDER],
        "provider.devices" => {
            [&[], &[(S::PrivilegeViolation, "`scope` is `all`, and the user is no super provider.")]]
        }
        "device.open" => [&[], OPEN_DEVICE],
        "device.close" => [&[], &[NOT_CONTROLLED, NO_DEVICE, DEVICE_NOT_OPEN]],
        "line.set_forward" => [AT_A_LINE, SET_FORWARD],
        "line.set_auto_accept" => [AT_A_LINE, SET_AUTO_ACCEPT],
        "line.set_message_waiting" => [&[], SET_MESSAGE_WAITING],
        "call.make" => [AT_A_LINE, MAKE_CALL],
        "call.accept" | "call.reject" => [AT_A_LEG, &[BY_PHONE]],
        "call.answer" => [AT_A_LEG, ANSWER],
        "call.redirect" => [AT_A_LEG, REDIRECT],
        "call.transfer" => [AT_A_LEG, TRANSFER],
        "call.consult" => [AT_A_LEG, CONSULT],
        "call.drop" | "call.hold" | "call.set_user_data" => [AT_A_LEG, &[]],
        "call.retrieve" => [AT_A_LEG, RETRIEVE],
        "call.set_media" => [AT_A_LEG, SET_MEDIA],
        _ => [&[], &[]],
    }
}
