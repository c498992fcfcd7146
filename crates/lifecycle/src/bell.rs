//! Wakes whoever waits for something to change; costs one word, and next to nothing while nobody ever waited.

use std::future::Future;
use std::sync::atomic::{Ordering::SeqCst, fence};

use once_cell::race::OnceBox;
use tokio::sync::Notify;

/// Made by the first who waits: most actors run and end without anybody waiting at them.
#[derive(Default)]
pub(crate) struct Bell(OnceBox<Notify>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(OnceBox::new())
    }

    /// Waits for the next ring. Made first, and what is waited for looked at after: then none is missed.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + '_ {
        let notified = self.0.get_or_init(Box::default).notified();
        // With the one in `ring`: either the change is seen by the look that follows, or the bell by who rings.
        fence(SeqCst);
        notified
    }

    /// Wakes all who wait. What they wait for is stored before.
    pub(crate) fn ring(&self) {
        fence(SeqCst);
        if let Some(notify) = self.0.get() {
            notify.notify_waiters();
        }
    }
}
