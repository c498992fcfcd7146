//! Lending, queueing, taking back.

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Lane, Moment};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::level_filters::LevelFilter;

use super::alarm::{Number, Setting, Watch};
use super::{Cells, Held, More, lock};
use crate::checkout::Lease;
use crate::event;
use crate::machine::{Back, Condition, Lent, Look, Next, Onward, Take, Wait};
use crate::worker::Desk;

/// Who asks for a worker.
#[derive(Clone, Copy)]
pub(crate) struct Borrower<'a> {
    pub(crate) location: &'static Location<'static>,
    pub(crate) actor: Option<&'a ActorPath>,
}

impl Borrower<'_> {
    fn held(self, since: Moment) -> Held {
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
    fn offer<H>(
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
    fn lend(&self, taken: Taken, was_idle: impl FnOnce() -> Duration) -> Offer {
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
    fn take_back(self: &Arc<Self>, taken: &Taken, wait: Wait) {
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

    /// Gives somebody his place in line again: what he was given was of no use.
    pub(crate) fn stand_again(
        self: &Arc<Self>,
        ticket: u64,
        wait: Wait,
        borrower: Borrower<'_>,
    ) -> Waiter<'_> {
        self.rejoin(ticket, wait, borrower);
        Waiter {
            cells: self,
            ticket,
            wait,
            timer: None,
        }
    }

    #[cold]
    fn rejoin(self: &Arc<Self>, ticket: u64, wait: Wait, borrower: Borrower<'_>) {
        let held = borrower.held(self.now());
        let mut books = self.books();
        books.rejoin(ticket, wait, held);
        let waiting = books.waiting();
        drop(books);
        event::pending(self.meters(), waiting);
        self.mend();
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

/// A place in the queue, just taken; to be made a [`Waiter`] of, where that is to stay, before anything else.
pub(crate) struct Joined {
    ticket: u64,
    alarm: Option<Number>,
    is_short: bool,
}

/// A place in the queue; left when it is dropped.
pub(crate) struct Waiter<'a> {
    cells: &'a Arc<Cells>,
    /// 0 once it was served.
    pub(crate) ticket: u64,
    pub(crate) wait: Wait,
    /// Where the pool's alarm cannot be set.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Waiter<'a> {
    #[inline(always)]
    pub(crate) fn new(cells: &'a Arc<Cells>, joined: &Joined, wait: Wait) -> Self {
        Self {
            cells,
            ticket: joined.ticket,
            wait,
            timer: None,
        }
    }

    /// Sees to its being called in time, and to a worker for it.
    #[inline(always)]
    pub(crate) fn begin(&mut self, joined: &Joined) {
        let (cells, deadline) = (self.cells, self.wait.deadline);
        let setting = cells.set_alarm(joined.alarm, deadline);
        if !matches!(setting, Setting::Set) {
            self.settle(setting);
        }
        // It may be the first that waits for a start that was put off.
        if joined.is_short {
            cells.mend();
        }
    }

    #[cold]
    fn settle(&mut self, setting: Setting) {
        match setting {
            Setting::Set => {}
            Setting::Ring(bell) => bell.notify_one(),
            Setting::Begin(there, bell) => {
                // First of all: whatever becomes of this, it takes the alarm away again.
                let watch = Watch::new(self.cells);
                // A runtime without timers is told so here, and not by a task that nobody looks at.
                drop(tokio::time::sleep(Duration::ZERO));
                there.spawn(watch.run(bell));
            }
            Setting::Elsewhere => {
                let left = self.wait.deadline.since(self.cells.now());
                // One that is too far away to be told is no deadline.
                let until = Instant::now().checked_add(left);
                self.timer = until.map(|until| Box::pin(sleep_until(until)));
            }
        }
    }

    /// Waits for its turn, and takes what it is given; `None`: its time is over.
    #[inline(always)]
    pub(crate) fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        borrower: Borrower<'_>,
    ) -> Poll<Option<Offer>> {
        let (cells, ticket) = (self.cells, self.ticket);
        if ticket == 0 {
            return Poll::Ready(None);
        }
        match cells.handovers.fetch(ticket) {
            Some(taken) => self.take_up(taken, context, borrower),
            None => self.poll_queue(context, borrower),
        }
    }

    /// Takes what was lent to it while it waited.
    #[inline(always)]
    fn take_up(
        &mut self,
        taken: Taken,
        context: &mut Context<'_>,
        borrower: Borrower<'_>,
    ) -> Poll<Option<Offer>> {
        let cells = self.cells;
        if !taken.desk.is_alive() {
            return self.wait_again(&taken, context, borrower);
        }
        self.ticket = 0;
        event::checked_out(cells.meters(), taken.since.since(self.wait.since));
        Poll::Ready(Some(cells.lend(taken, Duration::default)))
    }

    /// What was lent to it has died on the way: it stands where it stood before.
    #[cold]
    fn wait_again(
        &mut self,
        taken: &Taken,
        context: &mut Context<'_>,
        borrower: Borrower<'_>,
    ) -> Poll<Option<Offer>> {
        let cells = self.cells;
        cells.take_back(taken, self.wait);
        cells.rejoin(self.ticket, self.wait, borrower);
        self.poll_queue(context, borrower)
    }

    /// Looks into the books for what is kept for it.
    #[inline(never)]
    fn poll_queue(
        &mut self,
        context: &mut Context<'_>,
        borrower: Borrower<'_>,
    ) -> Poll<Option<Offer>> {
        let (cells, ticket) = (self.cells, self.ticket);
        let now = cells.now();
        let waker = context.waker();
        // Goes when the books are closed.
        let mut before = None;
        let mut books = cells.books();
        if !cells.is_open() {
            drop(books);
            // Looked at next by whoever polls this; unless it is open again by then, and this is to look once more.
            waker.wake_by_ref();
            return Poll::Pending;
        }
        let begin = |held: &mut Held| held.since = now;
        let take = books.serve(ticket, |desk| desk.is_alive(), begin);
        let waited = match take {
            Take::Worker(_) => {
                let waited = now.since(self.wait.since);
                books.note_wait(waited);
                Some(waited)
            }
            Take::Start { .. } => None,
            Take::Wait(_) => {
                let look = books.waits_on(ticket, |call| {
                    if !call.as_ref().is_some_and(|call| call.will_wake(waker)) {
                        before = call.replace(waker.clone());
                    }
                });
                let alarm = books.alarm().looks_by(self.wait.deadline);
                drop(books);
                return match look {
                    Look::Waits => {
                        if self.timer.is_none() {
                            self.settle(cells.set_alarm(alarm, self.wait.deadline));
                        }
                        self.poll_timer(context)
                    }
                    Look::Late => Poll::Ready(None),
                    // It was lent something since it looked whether it was.
                    Look::Gone => match cells.handovers.fetch(ticket) {
                        Some(taken) => self.take_up(taken, context, borrower),
                        None => Poll::Ready(None),
                    },
                };
            }
        };
        self.ticket = 0;
        let counts = (books.idle(), books.in_use());
        let waiting = books.waiting();
        drop(books);
        event::pending(cells.meters(), waiting);
        if let Some(waited) = waited {
            event::checked_out(cells.meters(), waited);
        }
        Poll::Ready(cells.offer(take, now, counts))
    }

    /// Waits for the end of its time where the pool's alarm cannot be set. All there is to be done at first: who has
    /// just come was given nothing, and is called from then on.
    pub(crate) fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Option<Offer>> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let ticket = std::mem::take(&mut self.ticket);
        if ticket == 0 {
            return;
        }
        let cells = self.cells;
        let mut books = cells.books();
        let left = books.leave(ticket, cells.now());
        let waiting = books.waiting();
        drop(books);
        event::pending(cells.meters(), waiting);
        if left.is_none()
            && let Some(taken) = cells.handovers.fetch(ticket)
        {
            cells.take_back(&taken, self.wait);
        }
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
