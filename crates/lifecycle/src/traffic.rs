//! What all messages of one tree have in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::closing::Closing;
use crate::mailbox::ledger::Totals;
use crate::{Clock, DeadLetters, Node, Waits};

/// Among so many places that are gone nobody looks for those that nobody holds.
const FEW: usize = 16;

/// The clock that messages are timed by, the dead letters, who waits for whom, whether the tree still takes messages, and
/// the books of places that are gone.
#[derive(Debug)]
pub struct Traffic {
    clock: Clock,
    dead: DeadLetters,
    waits: Arc<Waits>,
    closing: Closing,
    /// Of places that are no longer in the tree, and of messages that came to none.
    buried: Mutex<Totals>,
    gone: Mutex<Gone>,
}

/// Places that are no longer in the tree and that somebody still holds, as a name does.
#[derive(Debug, Default)]
struct Gone {
    places: Vec<Weak<Node>>,
    /// At this number those that nobody holds any more are looked for.
    full: usize,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            clock: Clock::new(),
            dead: DeadLetters::new(),
            waits: Arc::new(Waits::of_process()),
            closing: Closing::default(),
            buried: Mutex::default(),
            gone: Mutex::default(),
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

    pub(crate) fn closing(&self) -> &Closing {
        &self.closing
    }

    pub(crate) fn bury(&self, totals: &Totals) {
        self.lock().add(totals);
    }

    /// Counts a message that was refused before it came to any place: it is in the books of the tree alone.
    pub fn count_refused(&self) {
        self.lock().refused += 1;
    }

    pub(crate) fn add_gone(&self, place: &Arc<Node>) {
        let mut gone = self.lock_gone();
        if gone.places.len() >= gone.full.max(FEW) {
            gone.places.retain(|it| it.strong_count() > 0);
            gone.full = gone.places.len() * 2;
        }
        gone.places.push(Arc::downgrade(place));
    }

    /// Returns the books of the places that are no longer in the tree, and of messages that came to none.
    pub(crate) fn buried(&self) -> Totals {
        // First those that nobody holds: one that is let go meanwhile is missing, and not counted twice.
        let mut all = *self.lock();
        let gone: Vec<_> = {
            let gone = self.lock_gone();
            gone.places.iter().filter_map(Weak::upgrade).collect()
        };
        for figures in gone.iter().filter_map(|it| it.figures()) {
            all.add(&Totals::from(&figures));
        }
        all
    }

    fn lock_gone(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.buried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
