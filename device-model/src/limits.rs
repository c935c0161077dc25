//! How many calls, and how many new ones a second, a line, a device and a trunk may have.

use crate::cause::Cause;
use crate::control::CallControl;
use crate::devices::Device;
use crate::dialling::{Barred, Sender};
use crate::failure::{Failure, FailureOrigin};
use crate::ids::{DeviceName, Dn, TrunkName};
use crate::leg::At;
use crate::pace::Pace;
use crate::port::{Output, Refused, Rule};
use std::time::{Duration, Instant};

/// A limit that one more call would pass.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) rule: Rule,
    /// Of a rate: how long until another call may begin.
    pub(crate) wait: Option<Duration>,
}

impl Over {
    /// How a call ends for it. Without a status: its cause says that it is this node (SIP: 503) that has no room.
    pub(crate) fn failure(&self) -> Failure {
        let cause =
            if self.wait.is_some() { Cause::SWITCHING_CONGESTION } else { Cause::NO_CIRCUIT_AVAILABLE };
        Failure::new(FailureOrigin::Limit, cause)
    }
}

fn full(rule: Rule) -> Over {
    Over { rule, wait: None }
}

fn within(pace: &Pace, now: Option<Instant>, rate: u32, rule: impl FnOnce() -> Rule) -> Result<(), Over> {
    let Some(now) = now else { return Ok(()) };
    pace.allows(now, rate).map_err(|wait| Over { rule: rule(), wait: Some(wait) })
}

impl Device {
    /// Whether it may have one more call on all its lines together.
    pub(crate) fn has_room(&self) -> bool {
        let calls = || self.lines.iter().map(|line| line.calls).fold(0, u32::saturating_add);
        self.plan.max_calls.is_none_or(|most| calls() < most)
    }
}

impl CallControl {
    /// Counts a call that begins at a line, if line and device may have one more.
    pub(crate) fn begin_at_line(&mut self, name: &DeviceName, dn: &Dn) -> Result<(), Over> {
        let (now, parameters) = (self.known_now(), &self.plan.parameters);
        let of_number = self.numbers.known(dn).and_then(|number| number.plan.max_calls_per_second);
        let line_rate = of_number.unwrap_or(parameters.max_calls_per_second_per_line);
        let Some(device) = self.devices.known_mut(name) else { return Ok(()) };
        let rate = device.plan.max_calls_per_second.unwrap_or(parameters.max_calls_per_second_per_device);
        if !device.has_room() {
            return Err(full(Rule::DeviceCalls));
        }
        within(&device.pace, now, rate, || Rule::DeviceRate)?;
        let line = device.lines.iter_mut().find(|line| line.dn == *dn);
        if let Some(line) = self.contradictions.known(line, "a call begins at a line that is not there") {
            if line.calls >= line.max_calls {
                return Err(full(Rule::LineCalls));
            }
            within(&line.pace, now, line_rate, || Rule::LineRate)?;
            now.into_iter().for_each(|now| line.pace.count(now, line_rate));
        }
        now.into_iter().for_each(|now| device.pace.count(now, rate));
        Ok(())
    }

    /// The same of a trunk, from which it comes.
    pub(crate) fn begin_at_trunk(&mut self, name: &TrunkName) -> Result<(), Over> {
        self.use_trunk(name, |trunk| &mut trunk.incoming)
    }

    /// The same of a trunk, to which it is sent.
    pub(crate) fn send_to_trunk(&mut self, name: &TrunkName) -> Result<(), Over> {
        self.use_trunk(name, |trunk| &mut trunk.outgoing)
    }

    fn use_trunk(
        &mut self,
        name: &TrunkName,
        pace: fn(&mut crate::dialling::Trunk) -> &mut Pace,
    ) -> Result<(), Over> {
        let now = self.known_now();
        // One that no plan names has no limits.
        let Some(trunk) = self.trunks.get_mut(name) else { return Ok(()) };
        let Some((most, rate)) = trunk.plan.as_ref().map(|plan| (plan.max_calls, plan.max_calls_per_second))
        else {
            return Ok(());
        };
        if trunk.calls >= most {
            return Err(full(Rule::TrunkCalls(name.clone())));
        }
        let pace = pace(trunk);
        within(pace, now, rate, || Rule::TrunkRate(name.clone()))?;
        now.into_iter().for_each(|now| pace.count(now, rate));
        Ok(())
    }

    /// Says by which rule a number was refused, for counters and the log.
    pub(crate) fn say_refused(&mut self, rule: Rule, sender: Sender, dialled: Dn) {
        self.out.push(Output::Refused(Refused { rule, sender, dialled }));
    }

    /// The same of a number that can't be dialled; that nobody has it is no rule.
    pub(crate) fn say_barred(&mut self, barred: Barred, sender: Sender, dialled: Dn) {
        match barred {
            Barred::Unknown => {}
            Barred::Partition => self.say_refused(Rule::Partition, sender, dialled),
            Barred::OffnetToOffnet => self.say_refused(Rule::OffnetToOffnet, sender, dialled),
        }
    }

    /// A leg is there now.
    pub(crate) fn count_leg(&mut self, at: &At) {
        if let At::Trunk { trunk, .. } = at {
            let trunk = self.trunks.entry(trunk.clone()).or_default();
            trunk.calls = trunk.calls.saturating_add(1);
        }
    }

    /// It has gone from there. A trunk that no plan names is forgotten with its last call.
    pub(crate) fn discount_leg(&mut self, at: &At) {
        let At::Trunk { trunk: name, .. } = at else { return };
        let trunk = self.trunks.get_mut(name);
        let Some(trunk) = self.contradictions.known(trunk, "a leg's trunk is not there") else { return };
        trunk.calls = self.contradictions.one_less(trunk.calls, "a trunk without a call loses one");
        if trunk.calls == 0 && trunk.plan.is_none() {
            self.trunks.remove(name);
        }
    }
}
