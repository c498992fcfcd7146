//! Who waits for whose answer.

mod answer;

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::iter;
use std::sync::{Arc, LazyLock};
use std::task::{Wake, Waker};

use tokio::time::Instant;

pub use self::answer::{Listening, poll_answer};
use crate::ActorPath;
use crate::sync::{Mutex, lock};

/// Room for so many waiters is never given back.
const ROOM: usize = 1024;

/// Who waits for whose answer, in one tree and beyond it: the trees of a process share what they know, so that a cycle
/// through several of them is seen as well.
///
/// An actor has one message in hand at a time. So when its handler waits for another actor's answer, the actor
/// answers nobody until then, and a call that closes a cycle of such waits could end only by its timeout.
/// [`Waits::begin`] refuses it before anything is sent. Only calls made inside handlers belong here.
///
/// Places are noted, not runs: a call that waits for an actor to be restarted waits for its place.
///
/// ```
/// use std::sync::Arc;
/// use perennial_lifecycle::{ActorPath, Waits};
///
/// let waits = Arc::new(Waits::default());
/// let shop = ActorPath::root("shop");
/// let (billing, ledger) = (shop.child("billing"), shop.child("ledger"));
///
/// let waiting = waits.begin(&billing, &ledger)?;
/// let refused = waits.begin(&ledger, &billing).unwrap_err();
/// assert_eq!(refused.path, [ledger.clone(), billing.clone(), ledger.clone()]);
///
/// drop(waiting);
/// assert!(waits.begin(&ledger, &billing).is_ok());
/// # Ok::<_, perennial_lifecycle::Cycle>(())
/// ```
///
/// # What it takes for granted
///
/// - That a handler goes on only when it has its answers. One that selects over calls may go on earlier, and a call to
///   it is refused all the same.
/// - That an actor answers its calls itself. One that hands the reply port on to another may call its caller without
///   harm, and is refused all the same.
/// - That an answer ends the wait at once, for which a call [listens](Waiting::listen) to it.
pub struct Waits {
    graph: Arc<Mutex<Graph>>,
    /// The number of the tree, which no other one of the graph has.
    tree: u64,
}

/// One actor that waits for the answer of another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// Who waits.
    pub caller: ActorPath,
    /// Who is to answer.
    pub callee: ActorPath,
    /// When the oldest of these calls began.
    pub since: Instant,
    /// How many calls from the one to the other wait for an answer.
    pub calls: usize,
}

/// A call that would let actors wait for each other for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} would wait for itself: {}", First(.path), Arrows(.path))]
#[non_exhaustive]
pub struct Cycle {
    /// The caller, the callee, whom the callee waits for, and so on back to the caller.
    pub path: Vec<ActorPath>,
}

/// A call that waits for its answer; dropped, it waits no longer.
///
/// It borrows what the call has at hand: to count handles would be a good part of its cost.
#[must_use = "dropped, the caller no longer waits"]
pub struct Waiting<'a> {
    waits: &'a Arc<Waits>,
    caller: &'a ActorPath,
    number: u64,
}

/// Ends a wait, then wakes who waited.
#[derive(Debug)]
struct Answered {
    waits: Arc<Waits>,
    caller: ActorPath,
    number: u64,
    then: Waker,
}

#[derive(Default)]
struct Graph {
    /// Few: a process has one, as a rule.
    trees: Vec<Tree>,
    /// Counts the attempts to wait: the number of an attempt names its edge, and marks what its walk has seen. Trees are
    /// numbered with them.
    attempts: u64,
}

/// Those who wait in one tree, and nobody else.
struct Tree {
    number: u64,
    waiters: HashMap<ActorPath, Waiter, foldhash::fast::RandomState>,
}

/// A place, by the number of its tree: another tree may have the same paths.
type Place<'a> = (u64, &'a ActorPath);

/// The waits of one caller, of which there is one nearly always: it takes no allocation.
struct Waiter {
    first: Edge,
    more: Vec<Edge>,
    /// The last attempt whose walk came by.
    seen: Cell<u64>,
}

struct Edge {
    number: u64,
    /// The number of the tree of whoever is to answer.
    tree: u64,
    callee: ActorPath,
    since: Instant,
}

impl Waits {
    /// Makes those of one more tree of the process.
    pub(crate) fn of_process() -> Self {
        static ALL: LazyLock<Arc<Mutex<Graph>>> = LazyLock::new(Arc::default);
        Self::of(Arc::clone(&ALL))
    }

    fn of(graph: Arc<Mutex<Graph>>) -> Self {
        let tree = lock(&graph).add_tree();
        Self { graph, tree }
    }

    /// Notes that `caller` waits for the answer of `callee`.
    ///
    /// To look for a cycle and to note the wait is one step: of two calls that would close one cycle from both sides
    /// exactly one is refused. It takes time with the number of those for whom `callee` waits already, directly or
    /// not, which is none as a rule.
    ///
    /// # Errors
    ///
    /// [`Cycle`] when `callee` waits for `caller`, directly or not, or is the same.
    pub fn begin<'a>(
        self: &'a Arc<Self>,
        caller: &'a ActorPath,
        callee: &ActorPath,
    ) -> Result<Waiting<'a>, Cycle> {
        self.begin_across(caller, self, callee)
    }

    /// As [`begin`](Self::begin), for a callee whose tree has these waits.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_across<'a>(
        self: &'a Arc<Self>,
        caller: &'a ActorPath,
        tree: &Self,
        callee: &ActorPath,
    ) -> Result<Waiting<'a>, Cycle> {
        // Before the lock: the clock of tests has one of its own.
        let since = Instant::now();
        let (from, to) = ((self.tree, caller), (tree.tree, callee));
        let number = lock(&self.graph).begin(from, to, since)?;
        Ok(Waiting {
            waits: self,
            caller,
            number,
        })
    }

    /// Lists who of the tree waits for whom, who may be of another tree, in the order of the paths.
    #[must_use]
    pub fn list(&self) -> Vec<Wait> {
        let mut all = lock(&self.graph).all(self.tree);
        all.sort_unstable_by(|a, b| {
            (&a.caller, &a.callee, a.since).cmp(&(&b.caller, &b.callee, b.since))
        });
        all.dedup_by(|newer, older| {
            let same = (&newer.caller, &newer.callee) == (&older.caller, &older.callee);
            older.calls += usize::from(same);
            same
        });
        all
    }

    fn end(&self, caller: &ActorPath, number: u64) {
        lock(&self.graph).end((self.tree, caller), number);
    }
}

impl Default for Waits {
    /// Makes those of a tree that knows of no other.
    fn default() -> Self {
        Self::of(Arc::default())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        lock(&self.graph).remove_tree(self.tree);
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Graph {
    fn add_tree(&mut self) -> u64 {
        self.attempts += 1;
        let number = self.attempts;
        let waiters = HashMap::default();
        self.trees.push(Tree { number, waiters });
        number
    }

    fn remove_tree(&mut self, number: u64) {
        self.trees.retain(|it| it.number != number);
    }

    fn tree(&self, number: u64) -> Option<&Tree> {
        self.trees.iter().find(|it| it.number == number)
    }

    fn tree_mut(&mut self, number: u64) -> Option<&mut Tree> {
        self.trees.iter_mut().find(|it| it.number == number)
    }

    fn begin(
        &mut self,
        caller: Place<'_>,
        callee: Place<'_>,
        since: Instant,
    ) -> Result<u64, Cycle> {
        self.attempts += 1;
        let number = self.attempts;
        if let Some(path) = self.cycle(caller, callee) {
            return Err(Cycle { path });
        }
        let (tree, caller) = caller;
        let edge = Edge {
            number,
            tree: callee.0,
            callee: callee.1.clone(),
            since,
        };
        if let Some(tree) = self.tree_mut(tree) {
            tree.begin(caller, edge);
        }
        Ok(number)
    }

    /// Looks for a way from `callee` to `caller`, depth first: each waiter once, so that ways that meet again do not
    /// multiply.
    fn cycle(&self, caller: Place<'_>, callee: Place<'_>) -> Option<Vec<ActorPath>> {
        let mut way = Vec::new();
        let mut place = callee;
        loop {
            if place == caller {
                let between = way.iter().map(|&(place, _)| place);
                let path = iter::once(caller.1).chain(between).chain([caller.1]);
                return Some(path.cloned().collect());
            }
            let (tree, path) = place;
            if let Some(waiter) = self.tree(tree).and_then(|it| it.waiters.get(path))
                && waiter.seen.replace(self.attempts) != self.attempts
            {
                way.push((path, waiter.edges()));
            }
            place = loop {
                let (_, edges) = way.last_mut()?;
                match edges.next() {
                    Some(edge) => break (edge.tree, &edge.callee),
                    None => way.pop(),
                };
            };
        }
    }

    /// Forgets a wait, unless that was done before.
    fn end(&mut self, (tree, caller): Place<'_>, number: u64) {
        if let Some(tree) = self.tree_mut(tree) {
            tree.end(caller, number);
        }
    }

    /// Returns the waits that begin in a tree.
    fn all(&self, number: u64) -> Vec<Wait> {
        let waiters = self.tree(number).into_iter().flat_map(|it| &it.waiters);
        let waits = waiters.flat_map(|(caller, waiter)| {
            waiter.edges().map(|edge| Wait {
                caller: caller.clone(),
                callee: edge.callee.clone(),
                since: edge.since,
                calls: 1,
            })
        });
        waits.collect()
    }
}

impl Tree {
    fn begin(&mut self, caller: &ActorPath, edge: Edge) {
        match self.waiters.entry(caller.clone()) {
            Entry::Occupied(mut waiter) => waiter.get_mut().more.push(edge),
            Entry::Vacant(place) => {
                place.insert(Waiter {
                    seen: Cell::new(edge.number),
                    first: edge,
                    more: Vec::new(),
                });
            }
        }
    }

    fn end(&mut self, caller: &ActorPath, number: u64) {
        let Some(waiter) = self.waiters.get_mut(caller) else {
            return;
        };
        if waiter.first.number != number {
            if let Some(at) = waiter.more.iter().position(|edge| edge.number == number) {
                waiter.more.swap_remove(at);
            }
        } else if let Some(edge) = waiter.more.pop() {
            waiter.first = edge;
        } else {
            self.waiters.remove(caller);
            let (len, room) = (self.waiters.len(), self.waiters.capacity());
            // Seldom enough that it costs each wait next to nothing.
            if room > ROOM && len < room / 8 {
                self.waiters.shrink_to(len * 2);
            }
        }
    }
}

impl Waiter {
    fn edges(&self) -> impl Iterator<Item = &Edge> {
        iter::once(&self.first).chain(&self.more)
    }
}

impl Waiting<'_> {
    /// Returns what ends the wait and then wakes `then`. Nothing but the answer, or that there will be none, may wake it.
    fn answered(&self, then: &Waker) -> Arc<Answered> {
        Arc::new(Answered {
            waits: Arc::clone(self.waits),
            caller: self.caller.clone(),
            number: self.number,
            then: then.clone(),
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.end(self.caller, self.number);
    }
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("caller", self.caller)
            .finish_non_exhaustive()
    }
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.waits.end(&self.caller, self.number);
        self.then.wake_by_ref();
    }
}

/// The first of the places.
struct First<'a>(&'a [ActorPath]);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(1).try_for_each(|place| place.fmt(f))
    }
}

/// The places with arrows between them.
struct Arrows<'a>(&'a [ActorPath]);

impl fmt::Display for Arrows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arrow = "";
        for place in self.0 {
            write!(f, "{arrow}{place}")?;
            arrow = " -> ";
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
