use std::fmt;
use std::sync::Arc;

use crate::ring::{Begin, Ring};
use crate::{ActorPath, Event, EventKind, Events, WallTime};

/// Where the events of a tree go: a bounded log, read by whoever subscribed; cheap to clone.
///
/// Emitting never waits for a subscriber, and costs the same whether it reads or not. One that is too slow
/// learns how many events it [`Missed`](crate::Missed). All events of a bus have one order, and
/// [`Event::seq`] counts them without gaps.
#[derive(Clone)]
pub struct EventBus(Arc<Bus>);

/// Closes the log with the last handle; the subscribers have the log, and not this.
struct Bus(Arc<Ring>);

impl Drop for Bus {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl EventBus {
    /// Makes a bus that remembers `capacity` events, one at the least.
    ///
    /// That is also how far a subscriber may fall behind before it misses events. Those that are no longer remembered
    /// are dropped a few at a time.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Bus(Arc::new(Ring::new(capacity)))))
    }

    /// Records an event and wakes the subscribers that wait for one.
    #[inline]
    pub fn emit(&self, path: &ActorPath, kind: EventKind) {
        self.ring().push(path, kind, None);
    }

    /// Records an event whose time is known already.
    #[inline]
    pub fn emit_at(&self, path: &ActorPath, kind: EventKind, at: WallTime) {
        self.ring().push(path, kind, Some(at));
    }

    /// Receives every event from now on.
    pub fn subscribe(&self) -> Events {
        Events::new(self.ring(), Begin::Now)
    }

    /// Receives the events that are remembered, oldest first, and then every event from now on.
    ///
    /// Both are one sequence: nothing between them is left out or comes twice.
    pub fn subscribe_with_recent(&self) -> Events {
        Events::new(self.ring(), Begin::Oldest)
    }

    /// Receives every event from the one that has or will have this [`seq`](Event::seq).
    ///
    /// What is no longer remembered counts as missed. So a reader can go on after the last event that it
    /// has dealt with.
    pub fn subscribe_from(&self, seq: u64) -> Events {
        Events::new(self.ring(), Begin::At(seq))
    }

    /// Returns the events that are remembered, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Event> {
        self.latest(usize::MAX)
    }

    /// Returns the last `limit` events that are remembered, oldest first.
    ///
    /// They are copied in small portions, so that nobody who emits waits for all of them.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<Event> {
        self.ring().latest(limit)
    }

    fn ring(&self) -> &Arc<Ring> {
        &self.0.0
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus").finish_non_exhaustive()
    }
}
