//! The ups and downs of a name, run by run.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::{Stream, stream};
use perennial_lifecycle::{
    ActorName, ActorPath, ExitReason, Incarnation, Node, RunObserver, shield,
};
use tokio::sync::Notify;

use crate::Present;
use crate::slot::Slot;

/// How many runs a watched name remembers. Each holds what is left of an actor, so they are few.
const KEPT: usize = 16;

/// What a watcher of a name hears.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NameEvent {
    /// A run has begun: messages to the name reach it.
    Up(Present),
    /// The run that was up has ended.
    Down {
        /// The epoch of the run.
        epoch: u64,
        /// Where it lived.
        path: ActorPath,
        /// Why it ended.
        reason: ExitReason,
    },
}

impl NameEvent {
    /// Returns the epoch of the run that it is about.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Up(present) => present.epoch,
            Self::Down { epoch, .. } => *epoch,
        }
    }
}

impl fmt::Display for NameEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(Present { epoch, path, .. }) => write!(f, "{path} is up (epoch {epoch})"),
            Self::Down {
                epoch,
                path,
                reason,
            } => write!(f, "{path} is down (epoch {epoch}): {reason}"),
        }
    }
}

/// A watcher was too slow for this many runs of its name: it hears neither of their beginning nor of their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missed runs: {runs}")]
#[non_exhaustive]
pub struct MissedRuns {
    /// How many.
    pub runs: u64,
}

/// Follows a name over all its runs; made by [`Registry::watch`](crate::Registry::watch).
///
/// It begins with the run that is up, if one is. Then each run gives one [`NameEvent::Up`] and one
/// [`NameEvent::Down`], in order, however short it was, and also when the name moves to another place in the tree. The
/// actor never waits for a watcher: one that has fallen more than 16 runs behind is given [`MissedRuns`] with the
/// number of those it can't hear of any more, and goes on with the oldest that is remembered. An `Up` that was given
/// is always followed by its `Down`.
#[must_use = "it holds a place among the runs and does nothing by itself"]
pub struct NameWatch {
    slot: Arc<Slot>,
    hub: Arc<Hub>,
    /// The number in the log of the next run.
    at: u64,
    /// The run whose end comes next.
    up: Option<Present>,
}

impl NameWatch {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        let hub = slot.hub();
        let at = hub.begin();
        Self {
            slot,
            hub,
            at,
            up: None,
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        &self.slot.name
    }

    /// Waits for the next up or down; `None` when the tree has ended, or the registry is gone, and nothing is left to tell.
    ///
    /// By the time of a `Down` the tree's events hold the end, and the name no longer leads to that run.
    ///
    /// # Errors
    ///
    /// The item is [`MissedRuns`] when runs were forgotten before they were read here.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not returned comes with the next call.
    pub async fn next(&mut self) -> Option<Result<NameEvent, MissedRuns>> {
        if let Some(up) = &self.up {
            let reason = up.incarnation.ended().await;
            let Present { epoch, path, .. } = self.up.take()?;
            return Some(Ok(NameEvent::Down {
                epoch,
                path,
                reason,
            }));
        }
        let traffic = &self.slot.common.traffic;
        loop {
            // Before the looks, or a run that begins between a look and the wait would be lost.
            let changed = self.hub.changed.notified();
            let is_over = traffic.is_over();
            match self.hub.read(self.at) {
                Read::Began(present, node) => {
                    if let Some(node) = node.upgrade() {
                        found(&node, &present.incarnation).await;
                    }
                    // Only now, so that a drop before this loses nothing.
                    self.at += 1;
                    self.up = Some(present.clone());
                    return Some(Ok(NameEvent::Up(present)));
                }
                Read::Missed(runs) => {
                    self.at += runs;
                    return Some(Err(MissedRuns { runs }));
                }
                Read::End => return None,
                Read::Nothing if is_over => return None,
                Read::Nothing => {
                    tokio::select! {
                        () = changed => {}
                        () = traffic.over() => {}
                    }
                }
            }
        }
    }

    /// Turns it into a stream of the same items.
    pub fn into_stream(self) -> impl Stream<Item = Result<NameEvent, MissedRuns>> + Send {
        stream::unfold(self, async |mut watch| {
            let item = watch.next().await?;
            Some((item, watch))
        })
    }
}

impl Drop for NameWatch {
    fn drop(&mut self) {
        self.hub.leave();
    }
}

impl fmt::Debug for NameWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameWatch")
            .field("name", &self.slot.name)
            .field("up", &self.up)
            .finish_non_exhaustive()
    }
}

/// The last runs of one name. Watchers keep only their place in it, so one who never reads costs nothing.
pub(crate) struct Hub {
    log: Mutex<Log>,
    changed: Notify,
}

#[derive(Default)]
struct Log {
    /// Where the name leads, and what the numbers of the runs there are added to.
    ///
    /// Weak, since the place has the hub.
    place: Option<(Weak<Node>, u64)>,
    /// How many runs there were.
    next: u64,
    last: VecDeque<Began>,
    watchers: usize,
    closed: bool,
}

/// Waits until the run can be found at its place, which follows at once on its beginning, or has ended.
async fn found(node: &Node, run: &Arc<Incarnation>) {
    loop {
        let changed = node.changed();
        // It has a reason before it leaves, and whoever leaves rings.
        let current = node.current();
        if run.exit_reason().is_some() || current.is_some_and(|it| Arc::ptr_eq(&it, run)) {
            return;
        }
        changed.await;
    }
}

/// One run in the log.
struct Began {
    present: Present,
    /// Weak, since the place has the hub.
    node: Weak<Node>,
}

/// What a watcher finds.
enum Read {
    Began(Present, Weak<Node>),
    Missed(u64),
    Nothing,
    End,
}

impl Log {
    /// Notes a run at the place, unless it is known, and returns what is [forgotten](Self::forget) for it.
    #[must_use]
    fn note(&mut self, run: &Arc<Incarnation>) -> Vec<Began> {
        let known = self.last.back().map(|it| &it.present.incarnation);
        let known = known.is_some_and(|known| Arc::ptr_eq(known, run));
        let Some((node, base)) = self.place.as_ref().filter(|_| !known) else {
            return Vec::new();
        };
        self.last.push_back(Began {
            present: Present {
                epoch: base + run.number(),
                path: run.node().path().clone(),
                incarnation: Arc::clone(run),
            },
            node: Weak::clone(node),
        });
        self.next += 1;
        self.forget()
    }

    /// Takes out what is of no more use: without a watcher all but the last run, which may be the one that is up. To be
    /// dropped without the lock: each may be the last handle on what is the host's.
    #[must_use]
    fn forget(&mut self) -> Vec<Began> {
        let kept = if self.watchers == 0 { 1 } else { KEPT };
        let surplus = self.last.len().saturating_sub(kept);
        self.last.drain(..surplus).collect()
    }

    fn oldest(&self) -> u64 {
        self.next - self.last.len() as u64
    }
}

impl Hub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Follows the runs of the place that `find` returns, and no longer those of another; none once it is closed.
    pub(crate) fn follow(self: &Arc<Self>, find: impl FnOnce() -> Option<(Arc<Node>, u64)>) {
        let mut log = self.lock();
        if log.closed {
            return;
        }
        let Some((node, base)) = find() else {
            return;
        };
        let old = log.place.as_ref().and_then(|(old, _)| old.upgrade());
        if let Some(old) = old.as_ref().filter(|old| !Arc::ptr_eq(old, &node)) {
            old.unobserve(&**self);
        }
        // Under the lock, so that a run which begins meanwhile is noted after this one.
        log.place = Some((Arc::downgrade(&node), base));
        let run = node.observe(Arc::clone(self) as Arc<dyn RunObserver>);
        let forgotten = run.as_ref().map(|run| log.note(run));
        drop(log);
        // See `forget`.
        drop((forgotten, run, old));
        shield(|| self.changed.notify_waiters());
    }

    pub(crate) fn close(&self) {
        let place = {
            let mut log = self.lock();
            log.closed = true;
            log.place.take()
        };
        if let Some(node) = place.and_then(|(node, _)| node.upgrade()) {
            node.unobserve(self);
        }
        shield(|| self.changed.notify_waiters());
    }

    /// Returns where a new watcher begins: at the run that is up, or at the next.
    fn begin(&self) -> u64 {
        let mut log = self.lock();
        log.watchers += 1;
        let up = log
            .last
            .back()
            .filter(|it| !it.present.incarnation.has_ended());
        log.next - u64::from(up.is_some())
    }

    fn leave(&self) {
        let mut log = self.lock();
        log.watchers -= 1;
        let forgotten = log.forget();
        drop(log);
        // See `forget`.
        drop(forgotten);
    }

    fn read(&self, at: u64) -> Read {
        let log = self.lock();
        let oldest = log.oldest();
        if at < oldest {
            return Read::Missed(oldest - at);
        }
        let index = usize::try_from(at - oldest).ok();
        match index.and_then(|index| log.last.get(index)) {
            Some(began) => Read::Began(began.present.clone(), Weak::clone(&began.node)),
            None if log.closed => Read::End,
            None => Read::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunObserver for Hub {
    fn run_began(&self, node: &Node, run: &Arc<Incarnation>) {
        let mut log = self.lock();
        let place = log.place.as_ref();
        // The name may have moved to another place at this moment.
        if place.is_some_and(|(place, _)| std::ptr::eq(place.as_ptr(), node)) {
            let forgotten = log.note(run);
            drop(log);
            // See `forget`.
            drop(forgotten);
            shield(|| self.changed.notify_waiters());
        }
    }
}
