//! What all handles of a debugger and its actor know.

use std::sync::{Arc, OnceLock};

use perennial_breaker::{Breaker, Breakers};
use perennial_lifecycle::{ActorPath, Node, Scope};
use perennial_pool::{PoolView, Pools};
use perennial_registry::Registry;
use tokio::sync::watch;

use crate::declared::Declarations;

pub(crate) struct Shared {
    pub(crate) scope: Scope,
    pub(crate) names: OnceLock<Registry>,
    pub(crate) breakers: OnceLock<Below<Breakers>>,
    pub(crate) pools: OnceLock<Below<Pools>>,
    pub(crate) declared: Declarations,
    /// Where the debug actor lives, once it was started.
    pub(crate) home: watch::Sender<Option<Arc<Node>>>,
}

impl Shared {
    /// Says whether the debug actor lives here.
    pub(crate) fn is_home(&self, node: &Arc<Node>) -> bool {
        let home = self.home.borrow();
        home.as_ref().is_some_and(|it| Arc::ptr_eq(it, node))
    }

    /// Says whether the debug actor lives here, or below.
    pub(crate) fn is_at_or_above_home(&self, node: &Node) -> bool {
        let home = self.home.borrow();
        home.as_ref()
            .is_some_and(|it| it.path().starts_with(node.path()))
    }
}

/// All of a kind, and the place that they are children of.
pub(crate) struct Below<T> {
    pub(crate) place: ActorPath,
    pub(crate) all: T,
}

impl<T> Below<T> {
    /// The child id in a path of a child.
    fn id<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.place.as_str())?.strip_prefix('/')
    }
}

impl Below<Breakers> {
    // By its path alone: one that was registered late has no actor in the tree, and one whose actor is down works on.
    pub(crate) fn find(&self, path: &str) -> Option<Breaker> {
        self.all.get(self.id(path)?)
    }

    pub(crate) fn places(&self) -> Vec<ActorPath> {
        let all = self.all.iter();
        all.map(|it| self.place.child(it.name())).collect()
    }
}

impl Below<Pools> {
    pub(crate) fn find(&self, path: &str) -> Option<PoolView> {
        let id = self.id(path)?;
        let all = self.all.views().into_iter();
        all.into_iter().find(|it| **it.name() == *id)
    }

    pub(crate) fn places(&self) -> Vec<ActorPath> {
        let all = self.all.views().into_iter();
        all.map(|it| self.place.child(it.name())).collect()
    }
}
