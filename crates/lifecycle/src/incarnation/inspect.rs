//! What an operator has put on a run: a pause, traces.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Incarnation;
use crate::Moment;
use crate::trace::Tracer;

/// Made by the first pause or trace of a run; most runs have none.
#[derive(Default)]
pub(super) struct Inspection {
    /// Since when it is paused, in nanoseconds and plus one; 0 while it is not.
    paused: AtomicU64,
    /// Rings when the pause ends, or a stop is asked for.
    changed: Notify,
    tracers: Mutex<Vec<Arc<Tracer>>>,
}

impl Inspection {
    fn tracers(&self) -> MutexGuard<'_, Vec<Arc<Tracer>>> {
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits in a pause looks again.
    pub(super) fn ring(&self) {
        self.changed.notify_waiters();
    }
}

impl Incarnation {
    /// Lets the actor take no message any more, until it is told to [go on](Self::go_on) or ends.
    ///
    /// `false`, and nothing is changed, for one that takes its stop as a message, as supervisors do: it could not be
    /// stopped any more. So in a tree that is shutting down: what waits is to be handled, and the shutdown has ended all
    /// pauses.
    ///
    /// The message in hand is finished. A stop and a kill take effect at once: what the pause held back is then a
    /// message that waited. Events of actors that it has linked by ractor's own means are held back, too.
    pub fn pause(&self) -> bool {
        if self.nature.stops_by_mailbox {
            return false;
        }
        let now = self.traffic.clock().now().as_nanos() + 1;
        self.inspect(|inspection, _| {
            // Whoever was first has paused it. All that write do under the lock.
            if inspection.paused.load(SeqCst) == 0 {
                inspection.paused.store(now, SeqCst);
            }
        });
        // After it is paused: the shutdown finds it, or is seen here.
        if self.traffic.is_shutting_down() {
            self.go_on();
            return false;
        }
        true
    }

    /// Lets an actor that was paused take messages again; says whether it was.
    pub fn go_on(&self) -> bool {
        let Some(inspection) = self.inspection() else {
            return false;
        };
        let mut was_paused = false;
        self.inspect(|inspection, _| was_paused = inspection.paused.swap(0, SeqCst) != 0);
        inspection.ring();
        was_paused
    }

    /// Returns for how long it has been paused; `None` when it is not.
    #[must_use]
    pub fn paused(&self) -> Option<Duration> {
        let since = self.inspection()?.paused.load(Relaxed).checked_sub(1)?;
        let since = Moment::from_nanos(since);
        (!self.has_ended()).then(|| self.traffic.clock().since(since))
    }

    /// Says whether there is anything to look after: all that a message costs where there is not.
    #[inline]
    pub(crate) fn is_inspected(&self) -> bool {
        self.is_inspected.load(Relaxed)
    }

    /// Waits while it is paused; `false` when it was asked to stop meanwhile.
    pub(crate) async fn pass(&self) -> bool {
        let Some(inspection) = self.inspection() else {
            return true;
        };
        loop {
            let mut changed = pin!(inspection.changed.notified());
            // Before the look, or a ring between the look and the wait would be missed.
            changed.as_mut().enable();
            if inspection.paused.load(SeqCst) == 0 {
                return true;
            }
            if self.asked().is_some() {
                return false;
            }
            changed.await;
        }
    }

    pub(crate) fn attach(&self, tracer: &Arc<Tracer>) {
        self.inspect(|_, tracers| tracers.push(Arc::clone(tracer)));
    }

    pub(crate) fn detach_tracer(&self, tracer: &Arc<Tracer>) {
        if self.inspection().is_some() {
            self.inspect(|_, tracers| tracers.retain(|it| !Arc::ptr_eq(it, tracer)));
        }
    }

    /// Returns the traces that want the message which is about to be handled, and forgets those that are through.
    pub(crate) fn wanted_by(&self) -> Vec<Arc<Tracer>> {
        let mut wanted = Vec::new();
        if !self.is_inspected() {
            return wanted;
        }
        self.inspect(|_, tracers| {
            tracers.retain(|it| it.is_open());
            wanted.extend(tracers.iter().cloned());
        });
        wanted
    }

    /// Returns how long the message in hand had waited, where that is written on it.
    pub(crate) fn waited(&self, message: &dyn std::any::Any) -> Option<Duration> {
        self.known_letterbox()?.age(message)
    }

    /// Changes something, and says afterwards whether there is anything to look after.
    fn inspect(&self, change: impl FnOnce(&Inspection, &mut Vec<Arc<Tracer>>)) {
        let inspection = self.more().inspection.get_or_init(Box::default);
        // The flag is written under the lock, so that it says what the last change made true.
        let mut tracers = inspection.tracers();
        change(inspection, &mut tracers);
        let is_inspected = inspection.paused.load(Relaxed) != 0 || !tracers.is_empty();
        // Whoever sends a message after this hands it over with all that happened before.
        self.is_inspected.store(is_inspected, Relaxed);
    }
}
