//! Which state a leg may enter from which. This table is the only place that says so: `Leg::enter` refuses any other step,
//! and the snapshot of the tests and the diagram in `docs/leg-states.md` are made of it.

use crate::view::LegState;

/// One step of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// `None`: the leg begins.
    pub from: Option<LegState>,
    /// The state that it enters.
    pub to: LegState,
    /// What makes it do so.
    pub when: &'static str,
}

const fn begin(to: LegState, when: &'static str) -> Step {
    Step { from: None, to, when }
}

const fn step(from: LegState, to: LegState, when: &'static str) -> Step {
    Step { from: Some(from), to, when }
}

/// All steps of legs, in the order of a call.
pub const TRANSITIONS: &[Step] = &[
    begin(LegState::Dialing, "a phone, trunk or application dials"),
    step(LegState::Dialing, LegState::Proceeding, "the number leads somewhere"),
    step(LegState::Dialing, LegState::Failed, "the number leads nowhere"),
    step(LegState::Dialing, LegState::Disconnected, "it is dropped"),
    step(LegState::Proceeding, LegState::Ringback, "a destination rings"),
    step(LegState::Proceeding, LegState::Connected, "a destination answers"),
    step(LegState::Proceeding, LegState::Failed, "no destination takes the call"),
    step(LegState::Proceeding, LegState::Disconnected, "it hangs up or is dropped"),
    step(LegState::Ringback, LegState::Connected, "a destination answers"),
    step(LegState::Ringback, LegState::Failed, "no destination takes the call"),
    step(LegState::Ringback, LegState::Disconnected, "it hangs up, is dropped or transferred"),
    begin(LegState::Offering, "a call comes to its line"),
    step(LegState::Offering, LegState::Ringing, "its phone rings, its application accepts"),
    step(LegState::Offering, LegState::Connected, "it answers, or another appearance of its line does"),
    step(LegState::Offering, LegState::Disconnected, "it is refused, sent on, or not taken in time"),
    step(LegState::Ringing, LegState::Connected, "it answers, or another appearance of its line does"),
    step(LegState::Ringing, LegState::Disconnected, "it is refused, sent on, or not answered in time"),
    step(LegState::Connected, LegState::Held, "its application or its phone holds"),
    step(LegState::Connected, LegState::Disconnected, "either end hangs up, or it is sent on or transferred"),
    step(LegState::Held, LegState::Connected, "who held it retrieves it"),
    step(LegState::Held, LegState::Disconnected, "either end hangs up, or it is transferred"),
    step(LegState::Failed, LegState::Disconnected, "at once"),
];

impl LegState {
    /// Whether a leg in this state may enter `to`.
    #[must_use]
    pub fn may_become(self, to: LegState) -> bool {
        TRANSITIONS.iter().any(|step| step.from == Some(self) && step.to == to)
    }

    /// Whether a leg may begin in this state.
    #[must_use]
    pub fn may_begin(self) -> bool {
        TRANSITIONS.iter().any(|step| step.from.is_none() && step.to == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// The page's diagram and table.
    fn drawn() -> String {
        let mut text = String::from("```mermaid\nstateDiagram-v2\n");
        for Step { from, to, .. } in TRANSITIONS {
            let from = from.map_or("[*]".to_owned(), |from| format!("{from:?}"));
            let _ = writeln!(text, "    {from} --> {to:?}");
        }
        text += "    Disconnected --> [*]\n```\n\n| from | to | when |\n|---|---|---|\n";
        for Step { from, to, when } in TRANSITIONS {
            let from = from.map_or("(begins)".to_owned(), |from| format!("`{}`", word(from)));
            let _ = writeln!(text, "| {from} | `{}` | {when} |", word(*to));
        }
        text
    }

    fn word(state: LegState) -> String {
        format!("{state:?}").to_lowercase()
    }

    #[test]
    fn the_page_draws_the_table() {
        let page = include_str!("../../docs/leg-states.md");
        let drawn = drawn();
        assert!(page.contains(&drawn), "docs/leg-states.md is to have this:\n{drawn}");
    }

    #[test]
    fn each_step_is_there_once_and_every_leg_comes_to_its_end() {
        for (index, step) in TRANSITIONS.iter().enumerate() {
            let again =
                TRANSITIONS[index + 1..].iter().any(|other| (other.from, other.to) == (step.from, step.to));
            assert!(!again, "{step:?} is there twice");
            assert!(
                step.to == LegState::Disconnected || step.to.may_become(LegState::Disconnected),
                "{step:?}"
            );
            assert!(step.from.is_none_or(|from| !LegState::Disconnected.may_become(from)));
        }
        assert!(TRANSITIONS.iter().all(|step| step.from != Some(LegState::Disconnected)), "the last state");
    }
}
