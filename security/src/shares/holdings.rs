//! What is held until it is given back.

use super::Who;
use std::collections::HashMap;

/// How much of one row each holds. Who holds nothing is not known: the memory is bounded by what there is to hold.
#[derive(Debug)]
pub(super) struct Holdings {
    most: u64,
    held: HashMap<Who, u64>,
}

impl Holdings {
    pub(super) fn new(most: u64) -> Self {
        Self { most, held: HashMap::new() }
    }

    pub(super) fn set(&mut self, most: u64) {
        self.most = most;
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }

    pub(super) fn hold(&mut self, who: &Who, amount: u64) -> bool {
        let fits = |held: u64| held.checked_add(amount).filter(|held| *held <= self.most);
        if let Some(held) = self.held.get_mut(who) {
            return fits(*held).map(|more| *held = more).is_some();
        }
        match fits(0) {
            Some(held) if held > 0 => self.held.insert(who.clone(), held).is_none(),
            Some(_) => true,
            None => false,
        }
    }

    pub(super) fn release(&mut self, who: &Who, amount: u64) {
        if let Some(held) = self.held.get_mut(who) {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.held.remove(who);
            }
        }
    }

    pub(super) fn held(&self, who: &Who) -> u64 {
        self.held.get(who).copied().unwrap_or(0)
    }
}
