use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, OnceLock};

use crate::{ActorPath, Directory, EventBus, ExitReason, Node, Totals, Traffic};

/// How many events a tree remembers unless told otherwise.
const EVENTS: usize = 4096;

/// What all actors of one tree share: its namespace, its nodes, its events and its directory of names.
///
/// Two trees in one process know nothing of each other, but which of their actors wait for each other's answers.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    root: Arc<Node>,
    events: EventBus,
    directory: OnceLock<Arc<dyn Directory>>,
    detached: AtomicU64,
    /// The root is being started.
    starts: AtomicBool,
    traffic: Arc<Traffic>,
}

/// The right to start the root of a tree, until it is dropped; see [`Scope::begin_root`].
#[derive(Debug)]
#[must_use]
pub struct RootStart<'a>(&'a Scope);

impl Drop for RootStart<'_> {
    fn drop(&mut self) {
        self.0.0.starts.store(false, Release);
    }
}

impl Scope {
    /// Makes the scope of a new tree.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self(Arc::new(Inner {
            root: Node::new(ActorPath::root(namespace)),
            events: EventBus::new(EVENTS),
            directory: OnceLock::new(),
            detached: AtomicU64::new(0),
            starts: AtomicBool::new(false),
            traffic: Arc::new(Traffic::new()),
        }))
    }

    /// Says where named actors are entered; the first directory stands.
    pub fn set_directory(&self, directory: Arc<dyn Directory>) {
        // A second directory would split the names of one tree over two places.
        drop(self.0.directory.set(directory));
    }

    /// Returns the node of the root supervisor.
    #[must_use]
    pub fn root(&self) -> &Arc<Node> {
        &self.0.root
    }

    /// Gives the right to start the root; `None` while somebody else starts it, or one runs that nobody has asked to stop.
    pub fn begin_root(&self) -> Option<RootStart<'_>> {
        if self.0.starts.swap(true, Acquire) {
            return None;
        }
        let start = RootStart(self);
        let is_taken = self.root().current().is_some_and(|run| !run.is_ending());
        (!is_taken).then_some(start)
    }

    /// Says that nobody will start the root again: all places are [retired](Node::retire) for good, also those at which a
    /// supervisor that is going itself begins a start at this moment.
    pub fn give_up(&self) {
        // Before the places: a start that does not see it is found by this.
        self.traffic().closing().end();
        self.root().retire();
    }

    /// For a start that has taken its place: says whether it comes too late.
    pub(crate) fn is_over(&self) -> bool {
        self.traffic().is_over()
    }

    /// Says whether a place is being cleared because a supervisor above it was lost: what stops there now
    /// is about to come back.
    #[must_use]
    pub fn is_orphaned(&self, place: &ActorPath) -> bool {
        let mut node = Arc::clone(self.root());
        let below = place.as_str().strip_prefix(node.path().as_str());
        for id in below.unwrap_or_default().split('/').skip(1) {
            let Some(child) = node.child(id) else {
                return false;
            };
            node = child;
            // The topmost orphan is asked by its lost parent's end, and stops the rest in the ordinary way.
            let current = node.current();
            if current.is_some_and(|it| matches!(it.asked(), Some(ExitReason::Killed))) {
                return true;
            }
        }
        false
    }

    /// Returns the tree's events.
    #[must_use]
    pub fn events(&self) -> &EventBus {
        &self.0.events
    }

    /// Returns what all messages of the tree have in common.
    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.0.traffic
    }

    /// Returns the books of all places of the tree together, of those that are gone, and of messages that came to none.
    #[must_use]
    pub fn books(&self) -> Totals {
        let mut all = self.books_of_gone_places();
        let mut open = vec![Arc::clone(self.root())];
        while let Some(node) = open.pop() {
            if let Some(figures) = node.figures() {
                all.add(&Totals::from(&figures));
            }
            open.extend(node.children());
        }
        all
    }

    /// Returns the books of the places that are no longer in the tree, and of messages that were refused before they came
    /// to any.
    ///
    /// Whoever adds up the places of the tree begins with this: one that goes meanwhile is missing then, and not
    /// counted twice.
    #[must_use]
    pub fn books_of_gone_places(&self) -> Totals {
        self.0.traffic.buried()
    }

    /// Returns how many actors were left behind, because they did not yield to a kill, and still have not.
    #[must_use]
    pub fn detached(&self) -> u64 {
        self.0.detached.load(Relaxed)
    }

    pub(crate) fn count_detached(&self) {
        self.0.detached.fetch_add(1, Relaxed);
    }

    pub(crate) fn uncount_detached(&self) {
        self.0.detached.fetch_sub(1, Relaxed);
    }

    /// Returns the directory, if one was set.
    #[must_use]
    pub fn directory(&self) -> Option<&Arc<dyn Directory>> {
        self.0.directory.get()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("root", self.0.root.path())
            .finish_non_exhaustive()
    }
}
