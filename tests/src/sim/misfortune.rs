//! What goes wrong in a run.

use super::pipe::To;
use super::tally::Happening;
use super::world::{Weather, World};

impl World {
    /// One misfortune, or none.
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        let index = self.dice.up_to(self.applications.len() - 1);
        let phone = self.dice.up_to(self.phones.len() - 1);
        match self.dice.below(100) {
            0..=29 => self.cut(index),
            30..=39 => {
                self.happens(Happening::Crash, self.applications[index].scene.instance);
                self.applications[index].crash(self.now);
                self.after_application(index)?;
            }
            40..=54 => self.freeze(index),
            55..=69 => self.stall(index),
            // Where it keeps its sessions, it is worth while to see it come back more often.
            82..=84 if self.disk.is_some() => self.kill_node(),
            70..=84 => {
                let until = self.now + self.dice.ms(200, 3_000);
                self.happens(Happening::Unplugged, self.phones[phone].device);
                self.unplugged_until[phone] = until;
            }
            85 => self.kill_node(),
            86..=89 => self.rush(index)?,
            _ => self.weather = self.any_weather(),
        }
        Ok(())
    }

    fn any_weather(&mut self) -> Weather {
        Weather { lost: self.dice.below(60), doubled: self.dice.below(80), late: self.dice.below(150) }
    }

    fn cut(&mut self, index: usize) {
        if let Some((_, pipe)) = self.connected[index].and_then(|id| self.pipes.get_mut(&id)) {
            let instance = self.applications[index].scene.instance;
            self.trace.line(self.now, Happening::Cut.text(), instance.as_bytes());
            self.tally.add(Happening::Cut);
            pipe.cut(self.now, &mut self.dice);
        }
    }

    /// Everybody calls while an application is away.
    fn rush(&mut self, index: usize) -> Result<(), String> {
        self.applications[index].absence = Some(self.dice.ms(12_000, 28_000));
        self.cut(index);
        let trunk = self.phones.len() - 1;
        for _ in 0..12 {
            let number = *self.dice.pick(&["5000", "5000", "5101"]);
            self.dial(trunk, number)?;
        }
        Ok(())
    }

    fn freeze(&mut self, index: usize) {
        let until = self.now + self.dice.ms(500, 25_000);
        let application = &mut self.applications[index];
        self.trace.line(self.now, Happening::Freeze.text(), application.scene.instance.as_bytes());
        self.tally.add(Happening::Freeze);
        application.frozen_until = until;
        // Its clock of what it waits for stands still, too.
        application.thaw(until);
        if let Some((_, pipe)) = self.connected[index].and_then(|id| self.pipes.get_mut(&id)) {
            pipe.stall(To::Application, until);
        }
    }

    fn stall(&mut self, index: usize) {
        let until = self.now + self.dice.ms(100, 9_000);
        let to = if self.dice.percent(50) { To::Node } else { To::Application };
        if let Some((_, pipe)) = self.connected[index].and_then(|id| self.pipes.get_mut(&id)) {
            let instance = self.applications[index].scene.instance;
            self.trace.line(self.now, Happening::Stall.text(), instance.as_bytes());
            self.tally.add(Happening::Stall);
            pipe.stall(to, until);
        }
    }

    fn happens(&mut self, what: Happening, to: &str) {
        self.trace.line(self.now, what.text(), to.as_bytes());
        self.tally.add(what);
    }
}
