//! The lock of the waits and what an intake is made of, named in one place so that the model checker's can stand in for
//! them.

#[cfg(all(test, loom))]
mod notify;

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(all(test, loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(not(all(test, loom)))]
pub(crate) use tokio::sync::Notify;

#[cfg(all(test, loom))]
pub(crate) use self::notify::{Notify, block_on};

/// Wakes somebody: a waker may run anything, and panic.
#[cfg(not(all(test, loom)))]
pub(crate) use crate::shield as wake;

/// The model checker's own panics are for nobody else.
#[cfg(all(test, loom))]
pub(crate) fn wake(ring: impl FnOnce()) {
    ring();
}

/// Locks, also when a panic has left the lock poisoned: no critical section leaves half a state behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
