//! Tasks of several steps, in turns: whoever has many of them waiting delays only himself.

use super::CtiManager;
use super::portions::Task;
use crate::node::Step;
use device_model::SessionId;
use std::collections::VecDeque;
use std::sync::Arc;

/// Tasks that wait at once, those of one user among them; the next request for one is put off. Replays are their sessions'
/// own, and do not count.
pub(in crate::node) const MAX_TASKS: usize = 256;
pub(in crate::node) const MAX_TASKS_OF_USER: usize = 32;

/// For whom a task is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) enum For {
    /// All sessions of a user.
    User(Arc<str>),
    /// Administrators.
    Administrators,
    /// The node itself: what is told to many, kept, or logged.
    Node,
}

/// What waits of each, who is next first. Nobody is in it without a task.
#[derive(Default)]
pub(in crate::node) struct Tasks {
    waiting: VecDeque<(For, VecDeque<Task>)>,
}

impl Tasks {
    pub(in crate::node) fn add(&mut self, whose: For, task: Task) {
        match self.waiting.iter_mut().find(|(other, _)| *other == whose) {
            Some((_, tasks)) => tasks.push_back(task),
            None => self.waiting.push_back((whose, [task].into())),
        }
    }

    /// The next task of whoever is next. He is the last one now; what is left of the task is the last of his.
    pub(in crate::node) fn take(&mut self) -> Option<(For, Task)> {
        let (whose, mut tasks) = self.waiting.pop_front()?;
        let task = tasks.pop_front()?;
        if !tasks.is_empty() {
            self.waiting.push_back((whose.clone(), tasks));
        }
        Some((whose, task))
    }

    pub(in crate::node) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(in crate::node) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.waiting.iter().flat_map(|(_, tasks)| tasks)
    }

    fn counted<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> usize {
        tasks.into_iter().filter(|task| !matches!(task, Task::Replay(_))).count()
    }

    fn is_full_for(&self, whose: &For) -> bool {
        let his =
            self.waiting.iter().find(|(other, _)| other == whose).map(|(_, tasks)| Self::counted(tasks));
        his.is_some_and(|his| his >= MAX_TASKS_OF_USER) || Self::counted(self.iter()) >= MAX_TASKS
    }
}

impl CtiManager {
    /// For later, in his turn.
    pub(in crate::node) fn add_task(&mut self, task: Task) {
        let whose = match &task {
            Task::Listing(listing) => self.whose_session(listing.session),
            Task::Capture(capture) => self.whose_session(capture.session),
            Task::Replay(session) => self.whose_session(*session),
            Task::Answer(_) => For::Administrators,
            Task::Closed(..) | Task::Tell(..) | Task::First | Task::Keep(_) | Task::TakeOut => For::Node,
        };
        self.portions.tasks.add(whose, task);
    }

    /// Whether this session can't have another task now.
    pub(in crate::node) fn has_no_turn_for(&self, id: SessionId) -> bool {
        self.portions.tasks.is_full_for(&self.whose_session(id))
    }

    /// One piece of the next task.
    pub(in crate::node) fn carry_on_next_task(
        &mut self,
        step: &mut Step<'_>,
        portion: &mut super::portions::Portion,
    ) {
        let Some((whose, task)) = self.portions.tasks.take() else { return };
        if let Some(rest) = self.carry_on_task(step, task, portion) {
            self.portions.tasks.add(whose, rest);
        }
    }

    fn whose_session(&self, id: SessionId) -> For {
        let provider = self.applications.providers.get(&id);
        provider.map_or(For::Node, |provider| For::User(Arc::clone(&provider.user)))
    }
}
