//! How the end of a tree comes about, as its actors and those who send to them meet it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{ActorPath, Incarnation, Node, Scope, Traffic, current, shield};

/// Everybody may send.
const OPEN: u8 = 0;
/// Only the handlers of the tree may: what they have begun is brought to its end.
const SHUT: u8 = 1;
/// The tree stops: what still waits will not be handled.
const STOPPING: u8 = 2;

/// How far the shutdown of a tree has come.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    phase: AtomicU8,
    /// Rings when those who wait from outside need not wait any more.
    shut: Notify,
    /// The tree was given up: nobody will start anybody any more.
    is_over: AtomicBool,
    /// Rings when it is.
    over: Notify,
    /// Rings when nobody need wait any more.
    stop: Notify,
    /// Tells the one who drains the tree that it may look again.
    stirred: Notify,
    losses: Mutex<Vec<Loss>>,
    overdue: Mutex<Vec<ActorPath>>,
}

/// What was cut off when one run ended in the shutdown of its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Where it lived.
    pub path: ActorPath,
    /// How many messages waited.
    pub waiting: u64,
    /// The type of the message in hand, if there was one.
    pub in_hand: Option<&'static str>,
}

impl Closing {
    /// For those who have made something that the shutdown has to find: it is found, or this is `true`.
    pub(crate) fn has_begun(&self) -> bool {
        // With the one in `begin`: of two who each write and then look, one at least sees the other.
        fence(SeqCst);
        self.phase.load(Relaxed) != OPEN
    }

    /// As [`has_begun`](Self::has_begun), for those who have made it under the lock of a place, without a barrier: the
    /// shutdown takes that lock at each place, and finds what was made before; whoever has it later sees that it has begun.
    pub(crate) fn has_begun_before_lock(&self) -> bool {
        self.phase.load(Relaxed) != OPEN
    }

    fn begin(&self) {
        // Later phases stay.
        self.phase.fetch_max(SHUT, SeqCst);
        fence(SeqCst);
        shield(|| self.shut.notify_waiters());
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, SeqCst);
        shield(|| self.over.notify_waiters());
    }

    /// Something has come to rest, or gone.
    pub(crate) fn stir(&self) {
        if self.has_begun() {
            self.tell_stirred();
        }
    }

    /// As [`stir`](Self::stir), for what was noted under the lock of its place.
    pub(crate) fn stir_after_lock(&self) {
        if self.has_begun_before_lock() {
            self.tell_stirred();
        }
    }

    #[cold]
    fn tell_stirred(&self) {
        // Keeps the word for one who looks at this moment, and waits later.
        self.stirred.notify_one();
    }

    /// Notes what is lost with a run; `is_stopped` says whether it was stopped in order. `loss` is told whether the tree
    /// stops.
    pub(crate) fn note_loss(&self, is_stopped: bool, loss: impl FnOnce(bool) -> Option<Loss>) {
        let phase = self.phase.load(SeqCst);
        // Before the tree stops, only what a supervisor has stopped does not come back.
        if phase == STOPPING || phase == SHUT && is_stopped {
            lock(&self.losses).extend(loss(phase == STOPPING));
        }
    }

    /// Notes a letter that nobody will handle, since its place was given up before the tree stops. When it does, its letters
    /// are lost with the run.
    pub(crate) fn note_given_up(&self, path: &ActorPath) {
        if self.phase.load(SeqCst) != SHUT {
            return;
        }
        let mut losses = lock(&self.losses);
        match losses.last_mut().filter(|last| last.path == *path) {
            Some(last) => last.waiting += 1,
            None => losses.push(Loss {
                path: path.clone(),
                waiting: 1,
                in_hand: None,
            }),
        }
    }
}

fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traffic {
    /// Says whether whoever sends at this moment, on this thread, is a handler of the tree.
    pub(crate) fn is_sender_inside(&self) -> bool {
        current::with(|run| run.is_some_and(|run| std::ptr::eq(&**run.traffic(), self)))
    }

    /// Says whether the tree is shutting down, whoever asks.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.closing().has_begun()
    }

    /// Says whether the tree is shutting down and takes nothing from whoever asks: no handler of the tree does.
    #[must_use]
    pub fn refuses_sender(&self) -> bool {
        self.is_shutting_down() && !self.is_sender_inside()
    }

    /// Says whether the tree was [given up](Scope::give_up): nobody will be started in it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.closing().is_over.load(SeqCst)
    }

    /// Waits until the tree is [given up](Scope::give_up).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn over(&self) {
        rung(&self.closing().over, || self.is_over()).await;
    }

    /// Waits until the tree [refuses](Self::refuses_sender) whoever waits here; for ever in a handler of the tree.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn refusal(&self) {
        if self.is_sender_inside() {
            return std::future::pending().await;
        }
        let closing = self.closing();
        rung(&closing.shut, || closing.has_begun()).await;
    }
}

/// Waits for a ring, unless there has been one.
async fn rung(bell: &Notify, has_rung: impl FnOnce() -> bool) {
    let mut ring = pin!(bell.notified());
    // Before the look, or a ring between the look and the wait would be missed.
    ring.as_mut().enable();
    if !has_rung() {
        ring.await;
    }
}

impl Scope {
    /// Takes messages from now on only from the handlers of the tree, for good: a shutdown begins.
    ///
    /// Whoever else waits for room, or for an actor to come up, is refused. What the framework itself has to say still
    /// goes through. All [pauses](crate::Incarnation::pause) end, so that what they held back is handled.
    pub fn shut(&self) {
        self.traffic().closing().begin();
        // Whatever begins after this is shut from its beginning.
        let mut open = vec![Arc::clone(self.root())];
        while let Some(node) = open.pop() {
            node.shut();
            open.extend(node.children());
        }
    }

    /// Notes from now on what is lost when actors end; see [`losses`](Self::losses).
    pub fn begin_to_stop(&self) {
        let closing = self.traffic().closing();
        closing.phase.store(STOPPING, SeqCst);
        shield(|| closing.stop.notify_waiters());
    }

    /// Waits until the tree [begins to stop](Self::begin_to_stop).
    ///
    /// For a start that waits for something: its supervisor stops nobody before that start has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn stopping(&self) {
        let closing = self.traffic().closing();
        rung(&closing.stop, || closing.phase.load(SeqCst) == STOPPING).await;
    }

    /// Returns what was cut off by the ends of actors since the tree began to stop.
    ///
    /// With what was lost before that, since the tree was [shut](Self::shut), by the ends of actors that were stopped, and
    /// what waited where nobody will be started again.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        lock(&self.traffic().closing().losses).clone()
    }

    /// Returns where actors [had to be killed](Incarnation::note_overdue) since the tree began to stop.
    #[must_use]
    pub fn overdue(&self) -> Vec<ActorPath> {
        lock(&self.traffic().closing().overdue).clone()
    }

    /// Waits until an actor of a tree that is [shut](Self::shut) has come to rest, has begun or has ended.
    ///
    /// For one who waits at a time; what happens while nobody does is told to the next. The mark by which an actor knows
    /// that it is waited for may come too late for the message in hand at that moment, so look again a moment later.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is missed.
    pub async fn stirred(&self) {
        self.traffic().closing().stirred.notified().await;
    }
}

impl Incarnation {
    /// Notes that it was asked to stop, and killed because it had not when its time was over.
    pub fn note_overdue(&self) {
        let closing = self.traffic().closing();
        if closing.phase.load(SeqCst) == STOPPING {
            lock(&closing.overdue).push(self.node().path().clone());
        }
    }
}

impl Node {
    fn shut(&self) {
        self.shut_post();
        // By the lock, also where nobody lives: see `Closing::has_begun_before_lock`.
        if let Some(run) = self.current_by_lock() {
            run.shut();
            run.go_on();
        }
    }
}
