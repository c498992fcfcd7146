use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A list that many tasks write to and a test waits on; cheap to clone.
#[derive(Debug)]
pub struct Journal<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    entries: Mutex<Vec<T>>,
    grown: Notify,
}

impl<T: Clone> Journal<T> {
    /// Makes an empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            entries: Mutex::new(Vec::new()),
            grown: Notify::new(),
        }))
    }

    /// Adds an entry.
    pub fn push(&self, entry: T) {
        let mut entries = self
            .0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        drop(entries);
        self.0.grown.notify_waiters();
    }

    /// Returns all entries so far.
    #[must_use]
    pub fn entries(&self) -> Vec<T> {
        let entries = self
            .0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        entries.clone()
    }

    /// Waits until there are `count` entries, and returns them.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn wait_for(&self, count: usize) -> Vec<T> {
        loop {
            let grown = self.0.grown.notified();
            let entries = self.entries();
            if entries.len() >= count {
                return entries;
            }
            grown.await;
        }
    }
}

impl<T: Clone> Default for Journal<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
