//! One input on its way: what CallManager and CTIManager are handed with it, and what passes between them in the step.

use super::alarms::{AlarmState, Alarms, Definition};
use super::call_manager::{CallManager, Said, Turn};
use super::cti_manager::CtiManager;
use super::port::Output;
use super::settings::Settings;
use device_model::{DeviceName, Transition};
use security::shares::{Share, Shares};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The time of an input, and where it is said what follows.
pub(super) struct At<'a> {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    pub(super) out: &'a mut Vec<Output>,
    /// Records of transitions among these, which no portion counts: nobody waits for them.
    pub(super) recorded: usize,
}

impl At<'_> {
    /// How much was said that somebody waits for.
    pub(super) fn said_so_far(&self) -> usize {
        self.out.len() - self.recorded
    }
}

/// The same with all that CTIManager needs and does not own.
pub(super) struct Step<'a> {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    pub(super) out: &'a mut Vec<Output>,
    /// As [`At::recorded`].
    pub(super) recorded: &'a mut usize,
    pub(super) settings: Arc<Settings>,
    pub(super) calls: &'a mut CallManager,
    /// What CallManager says, until it is carried out.
    pub(super) said: &'a mut Vec<Said>,
    pub(super) alarms: &'a mut Alarms,
    pub(super) shares: &'a mut Shares,
    /// The node stops: nothing begins any more.
    pub(super) stops: bool,
}

impl Step<'_> {
    /// Says the record of a change of state.
    pub(super) fn record(&mut self, transition: Transition) {
        *self.recorded += 1;
        self.out.push(Output::Transition { at: self.wall, transition });
    }

    /// How much was said that somebody waits for.
    pub(super) fn said_so_far(&self) -> usize {
        self.out.len() - *self.recorded
    }

    /// A condition that concerns no session begins or ends.
    pub(super) fn condition(
        &mut self,
        definition: &'static Definition,
        key: String,
        state: AlarmState,
        parameters: Vec<(&'static str, String)>,
    ) {
        let telling = self.alarms.condition(self.now, definition, key, state, parameters, Vec::new());
        self.out.extend(telling.map(|telling| Output::Report(telling.report)));
    }

    /// Does what CallManager wants of the node.
    fn carry(&mut self, said: Said) {
        match said {
            Said::Told(_) => debug_assert!(false, "what is told is CTIManager's to hear"),
            Said::Send { hop, bytes } => self.out.push(Output::Sip { hop, bytes }),
            Said::Connect(hop) => self.out.push(Output::SipConnect(hop)),
            Said::Close(connection) => self.out.push(Output::SipClose(connection)),
            Said::Attempt(attempt) => self.attempt(attempt),
            Said::Refused(refused) => self.requests_refused(refused),
            Said::NoShare(bound) => self.shares.count_elsewhere(Share::Bound(bound), 1),
            Said::Report(report) => self.out.push(Output::Report(report)),
            Said::Transition(transition) => self.record(transition),
            Said::Occurred(alarm, parameters) => {
                let report = self.alarms.occur(alarm, parameters);
                self.out.push(Output::Report(report));
            }
            Said::Condition { alarm, key, state, parameters } => {
                self.condition(alarm, key, state, parameters)
            }
            Said::Discard(what) => self.out.push(Output::Discard(what)),
        }
    }
}

impl CtiManager {
    /// Has CallManager do something, hears what it tells, and has the node do what else it says, in its order.
    pub(super) fn calls(&mut self, step: &mut Step<'_>, act: impl FnOnce(&mut CallManager, &mut Turn<'_>)) {
        let mut said = std::mem::take(step.said);
        let mut turn = Turn { now: step.now, wall: step.wall, shares: step.shares, out: &mut said };
        act(step.calls, &mut turn);
        for said in said.drain(..) {
            if let Said::Told(told) = said {
                self.told(step, told);
            } else {
                step.carry(said);
            }
        }
        *step.said = said;
        self.ask_for_what_is_missing(step);
    }

    /// Has the model do in this step what is no request, and hears all that it says and has said: who does that goes on with
    /// what it made of the devices.
    pub(super) fn model(&mut self, step: &mut Step<'_>, input: device_model::Input) {
        self.calls(step, |calls, turn| calls.model(turn, input));
        self.hear_all(step);
    }

    /// Brings a phone up to date, if any may not be.
    pub(super) fn update_phone(&mut self, step: &mut Step<'_>, phone: &DeviceName) {
        if step.calls.is_losing() {
            self.calls(step, |calls, turn| calls.update_phone(turn, phone));
            self.hear_all(step);
        }
    }

    /// Has the model hear what the signalling has said.
    pub(super) fn settle(&mut self, step: &mut Step<'_>) {
        let mut more = true;
        while more {
            self.calls(step, |calls, turn| more = calls.settle_one(turn));
        }
    }
}
