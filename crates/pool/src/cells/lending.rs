//! Lending, queueing, taking back.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::task::Waker;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Lane, Moment};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use super::{Cells, Held, Joined, More, lock};
use crate::checkout::Lease;
use crate::event;
use crate::machine::{Back, Condition, Lent, Next, Onward, Take, Wait};
use crate::worker::Desk;

/// Who asks for a worker.
#[derive(Clone, Copy)]
pub(crate) struct Borrower<'a> {
    pub(crate) location: &'static Location<'static>,
    pub(crate) actor: Option<&'a ActorPath>,
}

impl Borrower<'_> {
    pub(super) fn held(self, since: Moment) -> Held {
        self.held_with(since, self.more())
    }

    #[inline(always)]
    fn held_with(self, since: Moment, more: Option<Arc<More>>) -> Held {
        Held {
            since,
            location: self.location,
            more,
        }
    }

    #[inline(always)]
    fn more(self) -> Option<Arc<More>> {
        // Where nobody listens there is no span, and no need to look for it.
        match (self.actor, LevelFilter::current()) {
            (None, LevelFilter::OFF) => None,
            (_, level) => self.look_for_more(level),
        }
    }

    #[inline(never)]
    fn look_for_more(self, level: LevelFilter) -> Option<Arc<More>> {
        let span = match level {
            LevelFilter::OFF => tracing::Span::none(),
            _ => tracing::Span::current(),
        };
        let more = self.actor.is_some() || !span.is_none();
        more.then(|| {
            Arc::new(More {
                actor: self.actor.cloned(),
                span,
            })
        })
    }
}

/// A worker in somebody's hands.
pub(crate) struct Taken {
    pub(crate) desk: Arc<Desk>,
    pub(crate) loan: u64,
    pub(crate) since: Moment,
}

/// What a borrower is given.
#[repr(u64)]
pub(crate) enum Offer {
    Worker(Taken),
    /// A worker that was idle for so long that it is to be asked whether it is in order.
    Unchecked(Taken),
    /// Boxed, for it is rare, and all that is handed on is as large as the largest.
    Start(Box<Claim>),
}

/// What somebody is given who joins the queue if there is nothing.
#[repr(u64)]
pub(crate) enum Turn {
    Now(Offer),
    Later(Joined),
    /// Too many wait already.
    Never,
    /// The pool lends nothing now.
    Shut,
}

impl Cells {
    /// Gives a worker, or the right to start one, to somebody who comes.
    pub(crate) fn take(self: &Arc<Self>, borrower: Borrower<'_>, now: Moment) -> Option<Offer> {
        let held = borrower.held(now);
        let lane = Lane::current().index();
        let mut books = self.books();
        if !self.is_open() {
            return None;
        }
        let take = books.take(lane, held, |desk| desk.is_alive(), || self.is_startable());
        let counts = (books.idle(), books.in_use());
        drop(books);
        self.offer(take, now, counts)
    }

    /// As [`take`](Self::take); whoever is given nothing joins the queue, and nobody comes in between.
    #[inline(always)]
    pub(crate) fn take_or_join(
        self: &Arc<Self>,
        borrower: Borrower<'_>,
        now: Moment,
        wait: Wait,
        waker: &Waker,
    ) -> Turn {
        let more = borrower.more();
        let lane = Lane::current().index();
        // Bare, since nothing that follows is to be done outside, and what is dropped in more steps is moved first.
        let mut books = lock(&self.machine.0);
        // Under the lock: who drains the pool opens the books after he has said so, and finds all that was lent before.
        if !self.is_open() {
            return Turn::Shut;
        }
        // Who holds it is made where it is kept, and what is lent is taken apart at once: what is moved as a whole is read
        // at once as it was just written in parts.
        match books.next(lane, |desk| desk.is_alive(), || self.is_startable()) {
            Next::Worker { place, desk } => {
                let held = borrower.held_with(now, more);
                let Lent {
                    desk,
                    loan,
                    idle_since,
                    ..
                } = books.lend_out(place, desk, held);
                let counts = (books.idle(), books.in_use());
                drop(books);
                let taken = Taken {
                    desk,
                    loan,
                    since: now,
                };
                return Turn::Now(self.lend_idle(taken, idle_since, counts));
            }
            Next::Start { place, life } => {
                drop(books);
                return Turn::Now(self.claim(place, life));
            }
            Next::None => {}
        }
        let limit = self.config.max_waiting;
        let held = borrower.held_with(now, more);
        let ticket = match books.join(limit, wait, held, || waker.clone()) {
            Ok(ticket) => ticket,
            Err(held) => {
                drop(books);
                drop(held);
                return Turn::Never;
            }
        };
        let alarm = books.alarm.looks_by(wait.deadline);
        let waiting = books.waiting();
        let is_short = books.is_short();
        drop(books);
        event::pending(self.meters(), waiting);
        Turn::Later(Joined {
            ticket,
            alarm,
            is_short,
        })
    }

    #[inline(always)]
    pub(super) fn offer<H>(
        self: &Arc<Self>,
        take: Take<Arc<Desk>, H>,
        since: Moment,
        counts: (usize, usize),
    ) -> Option<Offer> {
        match take {
            Take::Worker(Lent {
                desk,
                loan,
                idle_since,
                ..
            }) => {
                let taken = Taken { desk, loan, since };
                Some(self.lend_idle(taken, idle_since, counts))
            }
            Take::Start { place, life } => Some(self.claim(place, life)),
            Take::Wait(_) => None,
        }
    }

    #[cold]
    fn claim(self: &Arc<Self>, place: usize, life: u64) -> Offer {
        Offer::Start(Box::new(Claim {
            cells: Arc::clone(self),
            place,
            life,
            asked: false,
        }))
    }

    #[inline(always)]
    fn lend_idle(
        &self,
        taken: Taken,
        idle_since: Option<Moment>,
        (idle, used): (usize, usize),
    ) -> Offer {
        event::counted(self.meters(), idle, used);
        let since = taken.since;
        self.lend(taken, || {
            idle_since.map_or(Duration::ZERO, |idle| since.since(idle))
        })
    }

    #[inline(always)]
    pub(super) fn lend(&self, taken: Taken, was_idle: impl FnOnce() -> Duration) -> Offer {
        taken.desk.begin_loan(taken.loan);
        let check_after = self.config.check_after;
        if check_after.is_some_and(|limit| was_idle() >= limit) {
            Offer::Unchecked(taken)
        } else {
            Offer::Worker(taken)
        }
    }

    /// Says whether a worker can be started for one that comes, as soon as one that is ending has ended.
    pub(crate) fn has_room_soon(self: &Arc<Self>) -> bool {
        self.is_startable() && self.books().has_room_soon()
    }

    /// Says whether a worker can be started now.
    fn is_startable(&self) -> bool {
        self.ready.load(Acquire)
            && !(self.failing.load(Acquire)
                && lock(&self.failures)
                    .retry_at
                    .is_some_and(|at| at > Instant::now()))
    }

    pub(crate) fn check_in(self: &Arc<Self>, lease: &Lease) {
        self.give_back(&lease.desk, lease.loan, lease.since);
        event::checked_in(self.meters(), || self.since(lease.since));
    }

    /// Takes back what was lent to somebody who waited and has no use for it.
    #[cold]
    pub(super) fn take_back(self: &Arc<Self>, taken: &Taken, wait: Wait) {
        let Taken { desk, loan, since } = taken;
        self.books().note_unused(since.since(wait.since));
        self.give_back(desk, *loan, *since);
    }

    #[inline]
    fn give_back(self: &Arc<Self>, desk: &Arc<Desk>, loan: u64, since: Moment) {
        desk.end_loan();
        let unfit = desk.is_discarded(loan) || desk.has_open_call();
        // Not read where nobody asks for how long a worker was idle, or lives.
        let now = match self.is_timed {
            true => self.now(),
            false => since,
        };
        let lane = Lane::current().index();
        let mut books = self.books();
        // Who held it goes with this call, when the books are closed.
        let (back, _holder) = books.give_back(
            (desk.place, loan),
            lane,
            now,
            |desk| match (desk.is_alive(), unfit) {
                (false, _) => Condition::Dead,
                (true, true) => Condition::Unfit,
                (true, false) => Condition::Fit,
            },
            // Nobody is lent anything by a pool that lends nothing: who waits is about to leave.
            |ticket| self.handovers.reach(ticket).filter(|_| self.is_open()),
            |held| {
                held.since = self.now();
                held.since
            },
        );
        let (idle, used, waiting) = (books.idle(), books.in_use(), books.waiting());
        drop(books);
        match back {
            Back::Lent(Onward {
                loan,
                since,
                to,
                call,
            }) => {
                let desk = Arc::clone(desk);
                to.lay_down(Taken { desk, loan, since });
                call.into_iter().for_each(super::call);
                event::pending(self.meters(), waiting);
            }
            // Its supervisor was replaced and waits for it, while it works for nobody.
            Back::Stale if unfit => desk.incarnation.kill(),
            Back::Stale | Back::Ended => {}
        }
        event::counted(self.meters(), idle, used);
        self.note_return();
    }

    /// A worker that was lent is asked first whether it is in order; returns the place in line of who is to have it.
    pub(crate) fn note_check(&self, ticket: u64) -> u64 {
        let mut books = lock(&self.machine.0);
        books.note_check();
        books.place_in_line(ticket)
    }

    /// Returns the place in line of who may have to wait again: that of this ticket, or a new one if it is 0.
    pub(crate) fn place_in_line(&self, ticket: u64) -> u64 {
        lock(&self.machine.0).place_in_line(ticket)
    }

    pub(crate) fn note_checked(&self) {
        lock(&self.machine.0).note_checked();
    }

    pub(crate) fn note_wait(self: &Arc<Self>, waited: Duration) {
        self.books().note_wait(waited);
        event::checked_out(self.meters(), waited);
    }

    pub(crate) fn note_no_wait(&self) {
        event::checked_out(self.meters(), Duration::ZERO);
    }
}

/// The right to start one worker.
pub(crate) struct Claim {
    cells: Arc<Cells>,
    pub(crate) place: usize,
    pub(crate) life: u64,
    /// The supervisor may be carrying it out.
    pub(crate) asked: bool,
}

impl Claim {
    /// Turns the claim into the worker that was started; `None` when it has ended already.
    pub(crate) fn redeem(self, borrower: Borrower<'_>) -> Option<Offer> {
        let cells = &self.cells;
        let since = cells.now();
        let held = borrower.held(since);
        let mut books = cells.books();
        if !cells.is_open() {
            return None;
        }
        let take = books.redeem(self.place, self.life, held, |desk| desk.is_alive());
        let counts = (books.idle(), books.in_use());
        drop(books);
        cells.offer(take, since, counts)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut books = self.cells.books();
        books.cancel_start(self.place, self.life, self.asked, self.cells.now());
        drop(books);
        self.cells.mend();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::Ordering::Release;
    use std::thread::yield_now;

    use super::super::{DRAINED, OPEN};
    use super::*;
    use crate::PoolConfig;

    #[test]
    fn who_comes_just_as_the_pool_is_drained_is_given_nothing() {
        let cells = Cells::new("db".into(), PoolConfig::new(1));
        cells.ready.store(true, Release);
        let borrower = Borrower {
            location: Location::caller(),
            actor: None,
        };
        let both = Barrier::new(2);
        std::thread::scope(|threads| {
            let books = lock(&cells.machine.0);
            let comes = threads.spawn(|| {
                both.wait();
                cells.take(borrower, Moment::default()).is_some()
            });
            both.wait();
            // Time to come as far as the books, for one who looks before he has them.
            (0..1_000).for_each(|_| yield_now());
            cells.phase.fetch_or(DRAINED, Release);
            drop(books);
            assert!(!comes.join().unwrap());
        });
        cells.phase.store(OPEN, Release);
        assert!(cells.take(borrower, Moment::default()).is_some());
    }
}
