//! Workers come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use perennial_lifecycle::{ExitReason, Incarnation, Moment, Node, StartError};
use perennial_supervisor::{DynamicChild, DynamicSupervisor, StartChildError};
use tokio::time::Instant;

use super::{Books, Cells, FIRST_PAUSE, Home, LONGEST_PAUSE, lock};
use crate::actor::{Child, Life};
use crate::event;
use crate::machine::{Ending, How};
use crate::worker::Desk;

/// The golden ratio in 64 bits: its multiples fill the circle evenly, whatever their number.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Home {
    /// Returns the supervisor, if it is up; one that was asked to stop would take nothing more.
    fn supervisor(&self) -> Option<DynamicSupervisor<Child>> {
        let supervisor = DynamicSupervisor::at(&self.node)?;
        (!self.is_stopping()).then_some(supervisor)
    }
}

/// Returns the id of the worker at a place.
fn id(place: usize) -> String {
    format!("worker-{}", place + 1)
}

impl Cells {
    /// Asked before a worker is started, restarts included.
    pub(crate) fn begin(self: &Arc<Self>, life: &Life) -> bool {
        let wanted = self.change(|books| books.begin(life.place, life.number));
        // A death on loan is heard of here.
        self.note_return();
        wanted
    }

    /// A worker was started; `false` when it is not wanted any more.
    pub(crate) fn up(
        self: &Arc<Self>,
        life: &Life,
        node: &Arc<Node>,
        run: &Arc<Incarnation>,
        took: Duration,
    ) -> bool {
        let before = std::mem::take(&mut *lock(&self.failures));
        // Not under the lock: an error is the host's.
        drop(before);
        self.failing.store(false, Release);
        let now = self.now();
        let (node, run) = (Arc::clone(node), Arc::clone(run));
        let desk = Desk::new(Arc::clone(self), node, run, life.place);
        let desk = Arc::new(desk);
        let expires = self.lifetime().map(|lifetime| now.after(lifetime));
        let wanted = self.change(|books| books.up(life.place, life.number, desk, expires, now));
        event::created(self.meters(), took);
        // Starts that were put off because of failures need wait no longer.
        self.mend();
        wanted
    }

    /// Changes what workers there are, and shows it.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Books) -> T) -> T {
        let mut books = self.books();
        let changed = change(&mut books);
        let (idle, used) = (books.idle(), books.in_use());
        drop(books);
        event::counted(self.meters(), idle, used);
        changed
    }

    /// Shows how the books stand.
    pub(crate) fn report(self: &Arc<Self>) {
        let books = self.books();
        let (idle, used, waiting) = (books.idle(), books.in_use(), books.waiting());
        drop(books);
        event::counted(self.meters(), idle, used);
        event::pending(self.meters(), waiting);
    }

    /// Returns how long the next worker may live.
    fn lifetime(&self) -> Option<Duration> {
        let longest = self.config.max_lifetime?;
        let birth = self.births.fetch_add(1, Relaxed);
        let turn = birth.wrapping_mul(GOLDEN).wrapping_add(self.seed) >> 32;
        let part = f64::from(u32::try_from(turn).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        Some(shortened(longest, self.config.lifetime_jitter, part))
    }

    /// A worker did not start. Returns how long to pause before the next attempt.
    pub(crate) fn start_failed(self: &Arc<Self>, reason: &ExitReason) -> Duration {
        let mut failures = lock(&self.failures);
        let before = failures.last.replace(reason.clone());
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.in_a_row.min(10));
        let pause = pause.min(LONGEST_PAUSE);
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.retry_at = Some(Instant::now() + pause);
        let attempts = failures.in_a_row;
        drop(failures);
        // As above.
        drop(before);
        self.failing.store(true, Release);
        event::start_failed(&self.name, attempts, pause, reason);
        // Some who wait may not want to wait so long.
        self.tell();
        pause
    }

    /// Returns why nothing can be started before `deadline`, when no worker is up either.
    #[inline]
    pub(crate) fn hopeless_before(self: &Arc<Self>, deadline: Moment) -> Option<StartError> {
        if !self.failing.load(Acquire) {
            return None;
        }
        self.hopeless_after_failures(deadline)
    }

    #[cold]
    fn hopeless_after_failures(self: &Arc<Self>, deadline: Moment) -> Option<StartError> {
        let left = deadline.since(self.now());
        // One that is too far away to be told is no deadline.
        let end = Instant::now().checked_add(left);
        let end = end.filter(|_| deadline != Moment::NEVER);
        let failures = lock(&self.failures);
        let too_late = failures.retry_at.zip(end).is_some_and(|(at, end)| at > end);
        let reason = failures.last.clone().filter(|_| too_late);
        drop(failures);
        reason
            .filter(|_| self.books().is_bare())
            .map(StartError::new)
    }

    /// The supervisor knows nothing of a life any more.
    pub(crate) fn gone(self: &Arc<Self>, place: usize, life: u64) {
        self.change(|books| books.gone(place, life));
        self.note_return();
        self.mend();
    }

    /// Starts what is missing, unless it has to wait for the end of a pause.
    pub(crate) fn mend(self: &Arc<Self>) {
        if !self.ready.load(Acquire) || !self.books().is_short() {
            return;
        }
        let Some(home) = self.home() else { return };
        let now = Instant::now();
        let retry_at = lock(&self.failures).retry_at.filter(|at| *at > now);
        if let Some(at) = retry_at {
            if !self.waking.swap(true, AcqRel) {
                let cells = Arc::clone(self);
                home.runtime.spawn(async move {
                    tokio::time::sleep_until(at).await;
                    cells.waking.store(false, Release);
                    cells.mend();
                });
            }
            return;
        }
        self.books().pump();
        for (place, life) in self.missing() {
            let cells = Arc::clone(self);
            home.runtime.spawn(async move {
                // Made in here: a runtime that is shutting down drops the task, which must not mend again.
                let life = Life::new(&cells, place, life);
                // One that fails ends its life, and so is mended again.
                drop(cells.start(life).await);
            });
        }
    }

    /// Begins the lives of the workers that the pool has too few of.
    fn missing(self: &Arc<Self>) -> Vec<(usize, u64)> {
        let mut books = self.books();
        std::iter::from_fn(|| books.want()).collect()
    }

    /// Starts the workers that the pool keeps, a number of them beside each other.
    pub(crate) async fn warm_up(self: &Arc<Self>) -> Result<(), StartError> {
        use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
        let all = self.missing();
        let at_once = self.config.warm_up.map_or(all.len().max(1), usize::from);
        let lives: Vec<_> = all
            .into_iter()
            .map(|(place, life)| Life::new(self, place, life))
            .collect();
        let starts = lives
            .into_iter()
            .map(async |life| match self.start(life).await {
                // Taken by a request that was meant for the last supervisor, and is declined: mended later.
                Err(StartChildError::Ignored { .. }) => Ok(()),
                other => other,
            });
        let started = stream::iter(starts).buffered(at_once);
        match started.try_collect::<()>().await {
            Ok(()) => Ok(()),
            Err(StartChildError::Failed(failed)) => Err(StartError::new(ExitReason::ShutdownWith(
                perennial_lifecycle::Cause::new(failed),
            ))),
            Err(other) => Err(StartError::new(ExitReason::failed(other))),
        }
    }

    /// Has a worker started.
    pub(crate) async fn start(self: &Arc<Self>, life: Life) -> Result<(), StartChildError> {
        let (place, number) = (life.place, life.number);
        let declined = || StartChildError::Ignored { id: id(place) };
        let Some(home) = self.home() else {
            return Err(declined());
        };
        let Some(supervisor) = home.supervisor() else {
            self.not_ready(home.epoch);
            return Err(declined());
        };
        if !self.books().is_current(place, number) {
            return Err(declined());
        }
        let outcome = supervisor
            .start_child_named(id(place), Child::Worker(life))
            .await;
        match &outcome {
            // Its start function has said so already.
            Ok(_) | Err(StartChildError::Failed(_) | StartChildError::Ignored { .. }) => {}
            // It may have been replaced while this was on its way.
            Err(StartChildError::Down(_)) => self.not_ready(home.epoch),
            // The supervisor was replaced in the last moment: its workers are none of this life's business.
            Err(
                StartChildError::AlreadyPresent { .. } | StartChildError::AlreadyStarted { .. },
            ) => return Err(declined()),
            Err(other) => {
                self.start_failed(&ExitReason::failed(other.to_string()));
            }
        }
        outcome.map(drop)
    }

    /// Ends a worker.
    pub(super) fn carry_out(self: &Arc<Self>, ending: Ending<Arc<Desk>>) {
        let Ending {
            place,
            life,
            desk,
            how,
        } = ending;
        let home = self.home();
        match how {
            How::Retire => {
                desk.incarnation.kill();
                let scope = home.as_ref().map(|home| &home.scope);
                return event::retired(&self.name, scope, &desk.node, &desk.incarnation);
            }
            How::Renew => event::renewed(&self.name, &desk.node),
            How::Dismiss => event::dismissed(&self.name, &desk.node),
        }
        let Some(home) = home else { return };
        let cells = Arc::clone(self);
        home.runtime.clone().spawn(async move {
            // Fails when the supervisor is gone, and its workers with it, or when the worker is.
            if let Some(supervisor) = home.supervisor() {
                // This very run: it may have ended by itself and have a successor, or a supervisor that was replaced
                // meanwhile may be starting another of this id.
                let (node, run) = (Arc::clone(&desk.node), Arc::clone(&desk.incarnation));
                let worker = DynamicChild::new(node, run);
                if how == How::Renew {
                    drop(supervisor.bounce_child(&worker).await);
                } else {
                    drop(supervisor.terminate_child(&worker).await);
                }
            }
            if how == How::Dismiss {
                cells.books().left(place, life);
                cells.mend();
            }
        });
    }

    /// Changes how many workers there are.
    pub(crate) fn resize(self: &Arc<Self>, size: usize, max_overflow: usize) {
        self.change(|books| books.resize(size, max_overflow));
        event::resized(&self.name, size, max_overflow);
        self.mend();
    }

    /// Looks at the times of idleness and life, and at who holds a worker for long.
    pub(crate) fn tick(self: &Arc<Self>) {
        let now = self.now();
        self.change(|books| books.sweep(now));
        let books = self.books();
        let mut long = Vec::new();
        if let Some(limit) = self.config.hold_warning {
            for (desk, loan, held) in books.loans() {
                if now.since(held.since) >= limit && desk.is_to_be_warned_about(loan) {
                    long.push((Arc::clone(desk), held.clone()));
                }
            }
        }
        drop(books);
        let home = self.home();
        let scope = home.as_ref().map(|home| &home.scope);
        for (desk, held) in long {
            let holder = held.show(&desk, now);
            event::held_for_long(&self.name, scope, &desk.node, &holder);
        }
    }
}

/// Returns `longest` less a part of `jitter`, which is shorter; the product may be rounded up, and beyond any time.
fn shortened(longest: Duration, jitter: Duration, part: f64) -> Duration {
    let less = Duration::try_from_secs_f64(jitter.as_secs_f64() * part);
    longest - less.map_or(jitter, |less| less.min(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_lifetimes_can_be_shortened() {
        let tick = Duration::from_nanos(1);
        for longest in [Duration::MAX, Duration::from_secs(1 << 40), 2 * tick] {
            let jitter = longest - tick;
            assert_eq!(shortened(longest, jitter, 1.0), tick);
            assert_eq!(shortened(longest, jitter, 0.0), longest);
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(shortened(2 * hour, hour, 0.25), hour * 7 / 4);
    }
}
