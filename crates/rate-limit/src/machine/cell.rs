//! States that many threads may share: [`Cell`] without a lock, [`Locked`] with one.

use std::{fmt, marker::PhantomData};

use super::{Meter, Verdict};
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

#[cfg(all(test, loom))]
mod loom;

/// A meter whose state fits into one word. The word of a new key is zero.
pub(crate) trait Word: Meter {
    fn pack(&self, state: &Self::State) -> u64;
    fn unpack(&self, word: u64) -> Self::State;
}

/// One key's state under the meter `M` in one atomic word: a step is lock-free, and lost or applied as a whole.
///
/// Nothing else is published through the word, so relaxed ordering is enough: the modification order of a single
/// atomic is total.
pub struct Cell<M>(AtomicU64, PhantomData<fn(M)>);

impl<M> Cell<M> {
    pub(crate) fn word(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn spend(&self, meter: &M, n: u32, now: Nanos) -> Verdict
    where
        M: Word,
    {
        let mut word = self.word();
        loop {
            let mut state = meter.unpack(word);
            let verdict = meter.spend(&mut state, n, now);
            let next = meter.pack(&state);
            if next == word {
                return verdict;
            }
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return verdict,
                Err(seen) => word = seen,
            }
        }
    }
}

impl<M> Default for Cell<M> {
    fn default() -> Self {
        Self(AtomicU64::new(0), PhantomData)
    }
}

impl<M> fmt::Debug for Cell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cell").field(&self.word()).finish()
    }
}

impl<M> PartialEq for Cell<M> {
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word()
    }
}

impl<M> Eq for Cell<M> {}

/// One key's state that is too long for a word, behind a lock of its own.
pub struct Locked<S>(Mutex<S>);

impl<S> Locked<S> {
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut lock(&self.0))
    }
}

impl<S: Default> Default for Locked<S> {
    fn default() -> Self {
        Self(Mutex::new(S::default()))
    }
}

impl<S: fmt::Debug> fmt::Debug for Locked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state| f.debug_tuple("Locked").field(state).finish())
    }
}

impl<S: Clone + PartialEq> PartialEq for Locked<S> {
    fn eq(&self, other: &Self) -> bool {
        // One after the other: two locks at once could be taken in two orders.
        let other = other.with(|state| state.clone());
        self.with(|state| *state == other)
    }
}

impl<S: Clone + Eq> Eq for Locked<S> {}
