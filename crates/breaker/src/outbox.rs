//! What is to be told where no lock is held.

use std::collections::VecDeque;

use perennial_lifecycle::shield;

use crate::sync::{Mutex, lock};

/// What code that is not ours is still to be told, in order.
///
/// It may be slow, panic, or call a breaker, this one included. So it is noted where a lock keeps the order, and told
/// without any. One thread at a time empties the outbox.
#[derive(Debug)]
pub(crate) struct Outbox<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    entries: VecDeque<T>,
    has_teller: bool,
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Waiting {
            entries: VecDeque::new(),
            has_teller: false,
        }))
    }

    pub(crate) fn push(&self, entry: T) {
        lock(&self.0).entries.push_back(entry);
    }

    /// Tells all there is, unless somebody is about it: then he tells that as well.
    pub(crate) fn empty(&self, tell: impl Fn(&T)) {
        let mut waiting = lock(&self.0);
        if waiting.has_teller {
            return;
        }
        waiting.has_teller = true;
        while let Some(entry) = waiting.entries.pop_front() {
            drop(waiting);
            // Who panics where he is told has been reported by the panic hook; the call that it met here has nothing to
            // do with it.
            shield(|| tell(&entry));
            waiting = lock(&self.0);
        }
        waiting.has_teller = false;
    }
}
