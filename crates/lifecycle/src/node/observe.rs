//! Who is told of each run that begins at a place.

use std::ptr;
use std::sync::Arc;

use super::{Detail, Node};
use crate::Incarnation;

/// Is told of every run that begins at the places it observes, one after the other.
///
/// Looking at a place now and then shows only the run of that moment; this misses none. That a run has ended is asked
/// of the run itself: it does before the next one at its place begins.
pub trait RunObserver: Send + Sync + 'static {
    /// A run has begun. Called in the actor's own task, ahead of its first message and before anybody finds it at its
    /// place, so it must return at once.
    ///
    /// One that is called while another thread takes the observer away may still come through; who minds asks
    /// [`Node::is_observed_by`].
    fn run_began(&self, node: &Node, run: &Arc<Incarnation>);
}

type List = Arc<[Arc<dyn RunObserver>]>;

/// The observers of one place; most have none.
#[derive(Clone, Default)]
pub(super) struct Observers(Option<List>);

impl Observers {
    /// Tells all of them; not under any lock, since what they do is theirs.
    pub(super) fn tell(&self, node: &Node, run: &Arc<Incarnation>) {
        for observer in self.0.iter().flat_map(|list| list.iter()) {
            observer.run_began(node, run);
        }
    }

    fn has(&self, observer: &dyn RunObserver) -> bool {
        let mut all = self.0.iter().flat_map(|list| list.iter());
        all.any(|known| is_same(&**known, observer))
    }

    fn add(&mut self, observer: Arc<dyn RunObserver>) {
        if !self.has(&*observer) {
            let known = self.0.iter().flat_map(|list| list.iter().cloned());
            self.0 = Some(known.chain([observer]).collect());
        }
    }

    /// Returns what is to be dropped once the lock is given back.
    #[must_use]
    fn remove(&mut self, observer: &dyn RunObserver) -> Option<List> {
        let known = self.0.as_ref()?;
        let others = known.iter().filter(|known| !is_same(&***known, observer));
        let others: List = others.cloned().collect();
        let old = self.0.take();
        self.0 = (!others.is_empty()).then_some(others);
        old
    }
}

fn is_same(one: &dyn RunObserver, other: &dyn RunObserver) -> bool {
    ptr::addr_eq(one, other)
}

impl Detail {
    /// Returns who is to be told; `None`, without a look at more than one word, at almost every place.
    pub(super) fn observers(&self) -> Option<Observers> {
        let more = self.more.as_ref()?;
        more.observers.0.is_some().then(|| more.observers.clone())
    }
}

impl Node {
    /// Tells `observer` of every run that begins here from now on, and returns the run that lives here already.
    ///
    /// Each run is either returned or told. An observer that is known already is told once, as before.
    pub fn observe(&self, observer: Arc<dyn RunObserver>) -> Option<Arc<Incarnation>> {
        let mut detail = self.detail();
        detail.more().observers.add(observer);
        detail.current.clone()
    }

    /// Takes an observer away again.
    pub fn unobserve(&self, observer: &dyn RunObserver) {
        let mut detail = self.detail();
        let more = detail.more.as_mut();
        let removed = more.and_then(|more| more.observers.remove(observer));
        drop(detail);
        drop(removed);
    }

    /// Says whether `observer` is told of the runs that begin here.
    #[must_use]
    pub fn is_observed_by(&self, observer: &dyn RunObserver) -> bool {
        let detail = self.detail();
        let more = detail.more.as_ref();
        more.is_some_and(|more| more.observers.has(observer))
    }
}
