//! # device-model: "a device, line or call may become…"
//!
//! The pure machine of a node's devices, lines, calls and legs. It is told what happened ([`Input`]) together with the
//! time, and says what follows ([`Output`]). It never sleeps, opens, locks or awaits, and it refuses to know of SIP, of
//! bytes, of users and of where time comes from: a leg's far side is "the signalling", whoever that is.
//!
//! The words are those of CUCM, JTAPI (a [`LegView`] is a TerminalConnection with its Connection) and TAPI (an hCall).

mod attempt;
mod call;
pub mod cause;
mod check;
mod control;
mod devices;
mod ending;
pub mod ids;
mod leg;
pub mod media;
mod media_exchange;
pub mod plan;
pub mod port;
mod requests;
mod routing;
mod signals;
mod timers;
pub mod view;

pub use cause::Cause;
pub use control::{CallControl, Counts};
pub use ids::{CallId, DeviceName, Dn, LegId, NodeName, RequestToken, SessionId, TrunkName};
pub use port::{Input, LegCommand, Output, Refusal, RefusalKind, Reply, Request, Signal};
pub use view::{DeviceView, LegState, LegView, LineView, Party, Reason};
