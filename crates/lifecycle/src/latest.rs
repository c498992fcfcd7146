//! Who lives at a place now, for those who ask for every message.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use crate::{Incarnation, Node};

/// A place and the run that was seen there last: while it lives, asking for it again takes no lock.
///
/// The run that was seen is held until the next one is, or until somebody asks and finds the place empty.
pub struct Latest {
    node: Arc<Node>,
    seen: ArcSwapOption<Incarnation>,
}

impl Latest {
    /// Begins to look at a place.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            seen: ArcSwapOption::empty(),
        }
    }

    /// Returns the place.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the run that is alive now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Incarnation>> {
        let seen = self.seen.load();
        if self.is_present(&seen) {
            return Guard::into_inner(seen);
        }
        drop(seen);
        self.look()
    }

    /// Does something with the run that is alive now, without taking a handle of it.
    #[inline]
    pub fn with_current<T>(&self, work: impl FnOnce(Option<&Arc<Incarnation>>) -> T) -> T {
        let seen = self.seen.load();
        if self.is_present(&seen) {
            return work(seen.as_ref());
        }
        drop(seen);
        work(self.look().as_ref())
    }

    fn is_present(&self, seen: &Option<Arc<Incarnation>>) -> bool {
        let known = seen.as_ref().map_or(0, |run| run.number());
        known == self.node.occupant()
    }

    fn look(&self) -> Option<Arc<Incarnation>> {
        let current = self.node.current();
        // Two that look at once may store in either order; that the older run is not the present one shows the next
        // time.
        self.seen.store(current.clone());
        current
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
