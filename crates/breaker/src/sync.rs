//! The lock and the atomics of the admission path, named in one place so that a model checker's can stand in for them.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also when a panic has left the lock poisoned.
///
/// No code of a user runs under any lock of this crate, and each critical section leaves a whole value behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
