//! Who monitors what lives at a place.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, OnceLock};

use super::{Detail, Ended, Node};
use crate::{ActorPath, Incarnation, current};

/// A [`Monitor`](crate::Monitor) as the place that it watches knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watcher {
    /// The actor in one of whose functions it was made, which may be one of another tree; `None` for one that was made
    /// elsewhere.
    pub actor: Option<ActorPath>,
    /// Where in the code it was made.
    pub location: &'static Location<'static>,
    /// The run whose end it waits for; `None` where the first is still to come.
    pub incarnation: Option<u64>,
}

/// The watchers of one place; most have none.
#[derive(Default)]
pub(super) struct Watchers {
    made: u64,
    known: BTreeMap<u64, Watcher>,
}

impl Watchers {
    pub(super) fn all(&self) -> Vec<Watcher> {
        self.known.values().cloned().collect()
    }
}

/// What somebody who begins to watch a place finds there.
pub(crate) enum Found {
    Alive(Arc<Incarnation>),
    /// How the last run ended, or why it did not start.
    Ended(Ended),
    /// Nothing yet. The first that comes is noted here.
    Nothing(Arc<OnceLock<First>>),
}

/// The first that was heard of a place.
pub(crate) enum First {
    Run(Arc<Incarnation>),
    FailedStart(Ended),
}

impl Detail {
    /// Notes for those who watch the place since before anything was there what is there first.
    pub(super) fn note_first(&mut self, first: impl FnOnce() -> First) {
        let awaited = self.more.as_mut().and_then(|more| more.first.take());
        if let Some(awaited) = awaited {
            awaited.get_or_init(first);
        }
    }
}

/// Lists a watcher for as long as it lives.
pub(crate) struct Entry {
    node: Arc<Node>,
    number: u64,
}

impl Entry {
    #[track_caller]
    pub(crate) fn new(node: &Arc<Node>, incarnation: Option<u64>) -> Self {
        let watcher = Watcher {
            actor: current::path(),
            location: Location::caller(),
            incarnation,
        };
        let mut detail = node.detail();
        let watchers = &mut detail.more().watchers;
        watchers.made += 1;
        let number = watchers.made;
        watchers.known.insert(number, watcher);
        drop(detail);
        Self {
            node: Arc::clone(node),
            number,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut detail = self.node.detail();
        detail.more().watchers.known.remove(&self.number);
    }
}

impl Node {
    /// Looks at what is here, at one moment.
    pub(crate) fn found(&self) -> Found {
        let mut detail = self.detail();
        if let Some(run) = &detail.current {
            return Found::Alive(Arc::clone(run));
        }
        match detail.history.last() {
            Some(end) => Found::Ended(end),
            None => Found::Nothing(Arc::clone(detail.more().first.get_or_insert_default())),
        }
    }

    /// Lists the monitors of what lives here whose notice was not taken yet, in the order in which they were made.
    #[must_use]
    pub fn watchers(&self) -> Vec<Watcher> {
        let detail = self.detail();
        let more = detail.more.as_ref();
        more.map_or_else(Vec::new, |more| more.watchers.all())
    }
}
