//! What is to be told where no lock is held.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::shield;

/// What code that is not ours is still to be told, in order.
///
/// It may be slow, panic, or come back to whoever tells it. So it is noted where a lock keeps the order, and told without
/// any. One thread at a time empties the outbox.
#[derive(Debug)]
pub struct Outbox<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    entries: VecDeque<T>,
    has_teller: bool,
}

impl<T> Outbox<T> {
    /// Makes an empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Waiting {
            entries: VecDeque::new(),
            has_teller: false,
        }))
    }

    /// Notes what is to be told; to be followed by [`empty`](Self::empty).
    pub fn push(&self, entry: T) {
        self.lock().entries.push_back(entry);
    }

    /// Tells all there is, unless somebody is about it: then he tells that as well.
    ///
    /// A panic of who is told is reported by the panic hook; whoever tells it has nothing to do with it.
    pub fn empty(&self, tell: impl Fn(T)) {
        let mut waiting = self.lock();
        if waiting.has_teller {
            return;
        }
        waiting.has_teller = true;
        while let Some(entry) = waiting.entries.pop_front() {
            drop(waiting);
            shield(|| tell(entry));
            waiting = self.lock();
        }
        waiting.has_teller = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn all_is_told_once_and_in_order_whatever_is_done_where_it_is_told() {
        let (outbox, told) = (Outbox::new(), Mutex::new(Vec::new()));
        (0..3).for_each(|n| outbox.push(n));
        let tell = |n: u32| {
            told.lock().unwrap().push(n);
            if n < 3 {
                outbox.push(n + 10);
                // Whoever is at it goes on with that.
                outbox.empty(|_| unreachable!("two are at it"));
                panic!("told of {n}");
            }
        };
        outbox.empty(tell);
        assert_eq!(*told.lock().unwrap(), [0, 1, 2, 10, 11, 12]);
        outbox.push(20);
        outbox.empty(tell);
        assert_eq!(told.lock().unwrap().last(), Some(&20));
    }
}
