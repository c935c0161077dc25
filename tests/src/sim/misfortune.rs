//! What goes wrong in a run.

use super::application::Application;
use super::phone::Forced;
use super::pipe::{Heard, To};
use super::scene::CHANGES;
use super::tally::Happening;
use super::world::{Weather, World};
use std::time::Duration;

impl World {
    /// One misfortune, or none.
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        let index = self.dice.up_to(self.applications.len() - 1);
        let phone = self.dice.up_to(self.phones.len() - 1);
        match self.dice.below(100) {
            0..=9 => self.cut_who_waits(index),
            10..=29 => self.cut(index, Heard::OrNot),
            34..=39 => {
                self.happens(Happening::Crash, self.applications[index].scene.instance);
                self.applications[index].crash(self.now);
                self.after_application(index)?;
            }
            40..=54 => self.freeze(index),
            55..=64 => self.stall(index),
            65..=69 => self.any_reload()?,
            // Where it keeps its sessions, it is worth while to see it come back more often.
            74..=76 if self.disk.is_some() => self.kill_node(),
            70..=76 => {
                let until = self.now + self.dice.ms(200, 3_000);
                self.happens(Happening::Unplugged, self.phones[phone].device);
                self.unplugged_until[phone] = until;
            }
            77 => match self.dice.percent(50) {
                true => self.kill_node(),
                false => self.stop_node()?,
            },
            30..=31 => self.borrow(index),
            32..=33 => self.twins()?,
            78..=81 => self.rush(index)?,
            82 => self.power_off(phone)?,
            83 => self.lapse(phone)?,
            84..=86 => self.any_reload()?,
            87..=94 => self.race(),
            _ => self.weather = self.any_weather(),
        }
        Ok(())
    }

    fn any_weather(&mut self) -> Weather {
        Weather { lost: self.dice.below(60), doubled: self.dice.below(80), late: self.dice.below(150) }
    }

    pub(super) fn cut(&mut self, index: usize, heard: Heard) {
        if let Some((_, pipe)) = self.connected[index].and_then(|id| self.pipes.get_mut(&id)) {
            let instance = self.applications[index].scene.instance;
            self.trace.line(self.now, Happening::Cut.text(), instance.as_bytes());
            self.tally.add(Happening::Cut);
            pipe.cut(self.now, &mut self.dice, heard);
        }
    }

    /// An application that waits for the outcome of a redirect is cut off, and back before it is decided.
    fn cut_who_waits(&mut self, index: usize) {
        let waits = |application: &Application| application.waits_for_a_redirect(self.now);
        let found = self.applications.iter().position(waits);
        if let Some(waiting) = found {
            self.applications[waiting].absence = Some(self.dice.ms(20, 700));
        }
        self.cut(found.unwrap_or(index), if found.is_some() { Heard::Always } else { Heard::OrNot });
    }

    /// An application comes back with the session of another user's.
    fn borrow(&mut self, index: usize) {
        let user = self.applications[index].scene.user;
        let others = self.applications.iter().filter(|other| other.scene.user != user);
        let position = |other: &Application| other.position().map(|(session, seq)| (session.to_owned(), seq));
        let others: Vec<(String, u64)> = others.filter_map(position).collect();
        if !others.is_empty() && self.connected[index].is_some() {
            self.applications[index].borrowed = Some(self.dice.pick(&others).clone());
            self.cut(index, Heard::OrNot);
        }
    }

    /// The machine on which two applications run is gone: both are lost at the same moment, and for the same time.
    fn twins(&mut self) -> Result<(), String> {
        let all = 0..self.applications.len();
        let grace = |index: usize| self.applications[index].grace();
        let open = |index: &usize| self.applications[*index].is_open() && self.connected[*index].is_some();
        let pairs: Vec<(usize, usize)> = all
            .clone()
            .filter(open)
            .flat_map(|one| all.clone().filter(open).map(move |other| (one, other)))
            .filter(|(one, other)| one < other && grace(*one) == grace(*other))
            .collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let (one, other) = *self.dice.pick(&pairs);
        let absence = grace(one) + Duration::from_secs(10);
        for index in [one, other] {
            self.happens(Happening::Twins, self.applications[index].scene.instance);
            self.applications[index].absence = Some(absence);
            self.vanish(index)?;
        }
        Ok(())
    }

    /// Everybody calls while an application is away.
    fn rush(&mut self, index: usize) -> Result<(), String> {
        self.applications[index].absence = Some(self.dice.ms(12_000, 50_000));
        self.cut(index, Heard::OrNot);
        let trunk = self.phones.len() - 1;
        for _ in 0..20 {
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

    /// A phone's power fails until its registration has run out. Whoever talked to it hangs up soon.
    fn power_off(&mut self, phone: usize) -> Result<(), String> {
        let name = self.phones[phone].device;
        let of_itself =
            self.phones[phone].talking().any(|(_, peer)| peer.is_some_and(|p| p.starts_with(name)));
        // Two that have forgotten each other would leave a call that nobody ends.
        let forgotten = self.phones.iter().any(|phone| phone.amnesiac);
        if phone == self.phones.len() - 1 || of_itself || forgotten {
            return Ok(());
        }
        self.happens(Happening::PoweredOff, name);
        let until = self.now + self.dice.ms(62_000, 90_000);
        self.phones[phone].power_off(until);
        self.streams[phone] = None;
        for other in &mut self.phones {
            other.lonely_until = until + Duration::from_secs(32);
            let lonely = other.talking().filter(|(_, peer)| peer.is_some_and(|p| p.starts_with(name)));
            let lonely: Vec<u64> = lonely.map(|(id, _)| id).collect();
            for id in lonely {
                other.force(id, self.now + self.dice.ms(1_000, 20_000), Forced::HangUp);
            }
        }
        self.after_phone(phone)
    }

    /// A phone's registration ends while its calls go on.
    fn lapse(&mut self, phone: usize) -> Result<(), String> {
        if phone == self.phones.len() - 1 || self.phones[phone].off_until > self.now {
            return Ok(());
        }
        self.happens(Happening::Lapsed, self.phones[phone].device);
        let politely = self.dice.percent(50);
        let until =
            self.now + if politely { self.dice.ms(2_000, 30_000) } else { self.dice.ms(40_000, 90_000) };
        self.phones[phone].lapse(self.now, until, politely);
        self.after_phone(phone)
    }

    /// One of the changes in the place of another, or none again (docs/testing.md says why only one).
    fn any_reload(&mut self) -> Result<(), String> {
        let change = self.dice.percent(75).then(|| self.dice.up_to(CHANGES.len() - 1));
        self.reload(change.into_iter().collect())
    }

    /// Two that are at the same call act within the time that a datagram takes.
    fn race(&mut self) {
        let (soon, later) = (self.dice.ms(0, 6), self.dice.ms(0, 6));
        let (first, second) = (self.now + soon, self.now + later);
        let kind = self.dice.below(6);
        let found = match kind {
            0 | 1 => self.race_for_an_answer(first, second),
            2 | 3 => self.race_with_an_application(first, second),
            _ => {
                const DEEDS: [Forced; 3] = [Forced::HangUp, Forced::Hold, Forced::Hold];
                let deeds = (*self.dice.pick(&DEEDS), *self.dice.pick(&DEEDS));
                self.race_in_a_call((first, deeds.0), (second, deeds.1))
            }
        };
        if found {
            self.happens(Happening::Race, &kind.to_string());
        }
    }

    /// Who is called answers while the caller gives up.
    fn race_for_an_answer(&mut self, first: Duration, second: Duration) -> bool {
        let ringing = self.phones.iter().enumerate();
        let ringing = ringing.flat_map(|(at, phone)| phone.ringing().map(move |(id, token)| (at, id, token)));
        let pairs: Vec<_> = ringing
            .filter_map(|(at, id, token)| {
                let caller = self.phones.iter().position(|phone| phone.call_of(&token).is_some())?;
                Some((at, id, caller, self.phones[caller].call_of(&token)?))
            })
            .collect();
        if pairs.is_empty() {
            return false;
        }
        let (callee, answers, caller, cancels) = *self.dice.pick(&pairs);
        self.phones[callee].force(answers, first, Forced::Answer);
        self.phones[caller].force(cancels, second, Forced::HangUp);
        true
    }

    /// Both ends of a call do something.
    fn race_in_a_call(&mut self, first: (Duration, Forced), second: (Duration, Forced)) -> bool {
        let talking = self.phones.iter().enumerate();
        let talking = talking.flat_map(|(at, phone)| phone.talking().map(move |(id, peer)| (at, id, peer)));
        let pairs: Vec<_> = talking
            .filter_map(|(at, id, peer)| {
                let other =
                    self.phones.iter().position(|phone| phone.call_of(peer.unwrap_or_default()).is_some())?;
                Some((at, id, other, self.phones[other].call_of(peer?)?))
            })
            .collect();
        if pairs.is_empty() {
            return false;
        }
        let (one, call, other, call_there) = *self.dice.pick(&pairs);
        self.phones[one].force(call, first.0, first.1);
        self.phones[other].force(call_there, second.0, second.1);
        true
    }

    /// An application redirects, holds or drops a leg while phones that may be at its other end hold or hang up.
    fn race_with_an_application(&mut self, first: Duration, second: Duration) -> bool {
        let index = self.dice.up_to(self.applications.len() - 1);
        if self.applications[index].scene.passive {
            return false;
        }
        let Some(device) = self.applications[index].force(first) else { return false };
        let deed = *self.dice.pick(&[Forced::HangUp, Forced::Hold]);
        for phone in &mut self.phones {
            let own = phone.device == device;
            // An application's description names nobody.
            let at_it =
                phone.talking().filter(|(_, peer)| own || peer.is_none_or(|p| p.starts_with(&device)));
            let at_it: Vec<u64> = at_it.map(|(id, _)| id).collect();
            at_it.into_iter().for_each(|id| phone.force(id, second, deed));
        }
        true
    }

    fn happens(&mut self, what: Happening, to: &str) {
        self.trace.line(self.now, what.text(), to.as_bytes());
        self.tally.add(what);
    }
}
