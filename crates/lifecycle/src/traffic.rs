//! What all messages of one tree have in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mailbox::ledger::Totals;
use crate::{Clock, DeadLetters, Waits};

/// The clock that messages are timed by, the dead letters, who waits for whom, and the books of places that are gone.
#[derive(Debug)]
pub struct Traffic {
    clock: Clock,
    dead: DeadLetters,
    waits: Arc<Waits>,
    /// Of places that are no longer in the tree.
    buried: Mutex<Totals>,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            clock: Clock::new(),
            dead: DeadLetters::new(),
            waits: Arc::default(),
            buried: Mutex::default(),
        }
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the messages that nobody handled.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.dead
    }

    /// Returns who waits for whose answer.
    #[must_use]
    pub fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }

    pub(crate) fn bury(&self, totals: &Totals) {
        self.lock().add(totals);
    }

    pub(crate) fn buried(&self) -> Totals {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.buried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
