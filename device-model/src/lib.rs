//! # device-model: "a device, line or call may become…"
//!
//! The pure machine of a node's devices, lines, calls and legs. It receives what happened ([`Input`]) together with the
//! time, and returns what follows ([`Output`]). It does no I/O, waits for nothing and takes no locks, and it knows nothing of
//! SIP, of bytes, of users and of where time comes from: what is behind a leg of a phone or trunk is "the signalling".
//!
//! # How it is built
//!
//! A **leg** is one call on one line: its state, its parties as it sees them, who watches it. What is at its far side is its
//! **end**: a dialog of the signalling, an application, or an end at another node; the peer of an end may also be a port of a
//! bridge or relay, or a source of music. A **call** is legs and a *conversation*: a set-up, a pair, a pair by a relay that
//! others hear, a mix, or one who waits. While it is set up one leg stays (the set-up's *anchor*: the caller, or who remains
//! after a redirect) and destinations are tried. A redirect is an **operation**, which is answered later; it keeps what it
//! left until it is decided, so that a failure can go back to it.
//!
//! `dialling` decides who may dial what (`calling_search_spaces`, `route_patterns`), `limits` how many calls a line, a device
//! and a trunk may have, `call_setup` tries destinations, `new_call_accept` says how long each may take, `forwarding` where a
//! call goes on, `failure` why one failed, `redirect` sends on what an application wants elsewhere, `clearing` ends legs and
//! calls, `media_exchange` brings the media of two ends to what is true, `codec_choice` finds the codec that both have,
//! `transfer` joins two calls of a device, `conversation` pairs their ends anew, `requests` and `signalling` are the two
//! doors, `devices` knows who has what open, `leg_states` which state a leg may enter, `transitions` is the record of each
//! change of state and `standing` what stands by these records alone, `table` how entries name each other, and `check`
//! compares all tables after every step of a test. What there is stands in tables that alone add and remove their entries:
//! `calls` (calls, legs, ends, attempts), `device_table` (devices and numbers of the plan in force), `openings` (what each
//! session has open) and `device_limits` (how much), `operations` (what is not answered yet), `timers` (every time that
//! anything waits for); `identity` knows which ids it issues. A new plan is made ready (`prepared_plan`) before anybody has
//! to wait for it, put in force in one step, and carried out device by device (`reconcile`); `departing` does the same for a
//! session that has ended; `restriction` says what a restriction hides.
//!
//! # What it decides where the reference leaves a choice
//!
//! - A call that no application takes within the New Call Accept Timer goes to CFNA, else ends with cause 19 (SIP 480);
//!   at ports an offered call stays under the no-answer timer (§4.2).
//! - A destination that rings for the no-answer time and has no CFNA ends the call with cause 19; trunks ring for 180 s.
//! - Nobody has the device open: CFUR, else CFNA, else cause 20 (SIP 480) (§5.1).
//! - A call, and each step of its way on, is judged by who sends it there: who dials by his line's space, then his
//!   device's; who redirects or answers 3xx likewise; a number's forwards by its own space, then by what the spaces of all
//!   its devices have in common. A trunk reaches directory numbers alone while it blocks off-net to off-net; that a number
//!   or an application of ours sends its call out again is theirs to answer for.
//! - Whom a line is forwarded to may call that line. No number is visited twice by forwards until somebody redirects.
//! - Forwards and redirects count as hops of the call, whoever sends it on, and beyond the limit it fails with cause 25;
//!   the count begins anew with a redirect of two ends that have talked for 10 s.
//! - What a redirection (SIP 3xx) named beside the best is tried after any failure of the one before, its forwards included.
//! - A phone that fails by itself (cause 41) has no forward: CFOF is of ports and route points (§5.1).
//! - A phone's leg that another appearance answered can only be watched. A leg that the phone itself holds can only be
//!   retrieved at the phone. Redirects start from offering, ringing and connected legs, one at a time; a phone that
//!   picks up while it is being redirected keeps the call.
//! - Two calls of one device are joined where both talk, on hold or not; a consultation, and any call that a phone makes,
//!   also while it rings. Who waits then hears nothing, and the call goes on as any other does that is sent there.
//! - A phone that answered with what an application can't speak, or with nothing, ends the call with cause 65 (SIP 488).
//! - A dynamic device that calls a phone or trunk is asked for its address once the number is routed; the number is looked
//!   up anew when the address is there.
//! - An offer that crosses another, or comes while an application is asked for its address, is refused as glare.
//! - A re-INVITE without an offer is offered what the peer last said.
//! - Number and name of a calling phone are its line's. Whom a trunk asserts in mid-call is told to both sides; while it
//!   rings, another caller is told, another callee when it answers.
//! - An application that opens a phone in mid-call sees its legs, and of the streams what changes from then on.
//!
//! The words are those of CUCM, JTAPI (a [`LegView`] is a TerminalConnection with its Connection) and TAPI (an hCall).

#![deny(clippy::wildcard_enum_match_arm, clippy::fn_params_excessive_bools)]

mod call;
mod call_setup;
mod calling_search_spaces;
mod calls;
pub mod cause;
mod check;
mod clearing;
mod codec_choice;
mod control;
mod conversation;
mod departing;
mod device_limits;
mod device_table;
mod devices;
pub mod dialling;
mod end;
mod failure;
mod forwarding;
mod identity;
pub mod ids;
mod leg;
pub mod leg_states;
mod limits;
pub mod media;
mod media_exchange;
mod message_lamps;
mod new_call_accept;
mod openings;
mod operations;
mod pace;
pub mod plan;
pub mod port;
pub mod prepared_plan;
mod reconcile;
mod redirect;
mod requests;
mod restriction;
mod route_patterns;
mod signalling;
pub mod standing;
mod streams;
mod table;
mod timers;
mod transfer;
pub mod transitions;
pub mod view;

pub use cause::Cause;
pub use control::{CallControl, Counts};
pub use dialling::Sender;
pub use end::RemotePlace;
pub use identity::{Identity, NodeNumber};
pub use ids::{
    CallId, DeviceName, Dn, EndId, LegId, NodeName, OwnerEpoch, PartitionName, RequestToken, SearchSpaceName,
    SessionId, TrunkName, is_visual_separator,
};
pub use port::{EndCommand, Input, MessageLamp, News, Output, Refusal, RefusalKind, Reply, Request, Signal};
pub use prepared_plan::{PreparedPlan, Revocation};
pub use standing::Standing;
pub use table::Contradiction;
pub use transitions::Transition;
pub use view::{DeviceView, LegState, LegView, LineView, Party, Reason, WholeLeg};
