//! What all supervisors of the model share: the clock, the list of what happened, the places in the tree.

use std::time::Duration;

use crate::script::{Id, Outcome, Outcomes, SupervisorPlan, parent};
use crate::seen::{Answer, Entry, Place};

#[derive(Default)]
pub(crate) struct World {
    /// Time since the start of the test.
    pub(crate) now: Duration,
    /// What happened in this step.
    pub(crate) log: Vec<Entry>,
    /// What the operations of this step came to, as far as they were answered.
    pub(crate) answers: Vec<Option<Answer>>,
    /// Dynamic children that were started by calls of this step, and their processes.
    pub(crate) started: Vec<(Id, u64)>,
    /// When the next supervisor takes up its queue, if several things happen at once.
    pub(crate) phase: Option<Duration>,
    pub(crate) outcomes: Outcomes,
    /// Runs and restarts of each place, which outlive the supervisor but not the child's spec. Those below one
    /// supervisor are in start order.
    pub(crate) places: Vec<(Id, Place)>,
    keys: u64,
}

impl World {
    /// Makes a key that nobody has.
    pub(crate) fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    pub(crate) fn next_outcome(&mut self, id: Id) -> Outcome {
        self.outcomes.next(id)
    }

    /// Waits until it is the next supervisor's turn.
    pub(crate) fn begin_phase(&mut self, length: Duration) {
        if let Some(begin) = self.phase {
            assert!(self.now <= begin, "a phase was too short");
            self.now = begin;
            self.phase = Some(begin + length);
        }
    }

    /// A child is added: its place is behind the others.
    pub(crate) fn add(&mut self, id: Id) {
        let place = *self.place(id);
        self.places.retain(|(it, _)| *it != id);
        self.places.push((id, place));
    }

    /// Puts the places below a supervisor that starts anew in the order of its specs, where any are there.
    pub(crate) fn arrange(&mut self, supervisor: Id, plan: &SupervisorPlan) {
        if self.places.iter().any(|(id, _)| parent(id) == supervisor) {
            plan.children.iter().for_each(|child| self.add(child.id));
        }
    }

    pub(crate) fn place(&mut self, id: Id) -> &mut Place {
        let known = self.places.iter().position(|(it, _)| *it == id);
        let index = known.unwrap_or_else(|| {
            self.places.push((id, Place::default()));
            self.places.len() - 1
        });
        &mut self.places[index].1
    }

    /// A place ends with the spec of its child, and so do those below it.
    pub(crate) fn forget(&mut self, id: Id) {
        self.places.retain(|(it, _)| *it != id && parent(it) != id);
    }

    /// Forgets the places below a supervisor that are not those of its specs.
    pub(crate) fn forget_others(&mut self, supervisor: Id, plan: &SupervisorPlan) {
        let known = |id: Id| plan.children.iter().any(|it| it.id == id);
        let ids: Vec<Id> = self.places.iter().map(|(id, _)| *id).collect();
        for id in ids {
            if parent(id) == supervisor && !known(id) {
                self.forget(id);
            }
        }
    }
}
