//! Wakes whoever waits for something to change; next to nothing while nobody ever waited.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use once_cell::race::OnceBox;
use tokio::sync::Notify;

use crate::shield;

/// Made by the first who waits: most actors run and end without anybody waiting at them.
///
/// Who changes something does so by a sequentially consistent read-modify-write and then rings. Who waits asks for
/// the next ring and then looks, by a sequentially consistent load. In the one order of these four either the look
/// sees the change, or whoever rings sees that it is awaited. The flag lies beside the bell, since it takes one byte
/// there and eight in it.
pub(crate) struct Bell(OnceBox<Notify>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(OnceBox::new())
    }

    /// Waits for the next ring. Made first, and what is waited for looked at after: then none is missed.
    pub(crate) fn next(&self, awaited: &AtomicBool) -> impl Future<Output = ()> + '_ {
        let notified = self.0.get_or_init(Box::default).notified();
        awaited.store(true, SeqCst);
        notified
    }

    /// Wakes all who wait.
    pub(crate) fn ring(&self, awaited: &AtomicBool) {
        if awaited.load(SeqCst)
            && let Some(notify) = self.0.get()
        {
            // A waker may run anything.
            shield(|| notify.notify_waiters());
        }
    }
}
