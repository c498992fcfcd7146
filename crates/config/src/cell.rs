//! What outlives the actor: the settings as they are now, and who wants to know of changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, broadcast};

use crate::machine::Snapshot;
use crate::{ConfigChange, Schema};

/// How many changes a subscriber may be behind.
const BACKLOG: usize = 256;

pub(crate) struct Cell {
    snapshot: ArcSwap<Snapshot>,
    changes: broadcast::Sender<ConfigChange>,
    /// Held by whoever reads or writes the store, and by a write that is under way, even when the actor
    /// that began it is dead: its successor must read what that write leaves.
    pub(crate) store: Arc<Mutex<()>>,
}

impl Cell {
    pub(crate) fn new(schema: &Schema) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::defaults(schema)),
            changes: broadcast::Sender::new(BACKLOG),
            store: Arc::default(),
        }
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ConfigChange> {
        self.changes.subscribe()
    }

    /// Replaces the settings, then tells the subscribers what is different.
    ///
    /// Only the actor publishes, so nothing comes between the reading and the writing.
    pub(crate) fn publish(&self, schema: &Schema, new: Snapshot) -> Vec<ConfigChange> {
        let new = Arc::new(new);
        let old = self.snapshot.swap(Arc::clone(&new));
        let changes = new.changes_since(&old, schema);
        for change in &changes {
            // Fails when nobody has subscribed.
            drop(self.changes.send(change.clone()));
        }
        changes
    }
}
