//! Who waits for a worker.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::alarm::{Number, Setting, Watch};
use super::{Borrower, Cells, Held, Offer, Taken};
use crate::event;
use crate::machine::{Look, Take, Wait};

/// A place in the queue, just taken; to be made a [`Waiter`] of, where that is to stay, before anything else.
pub(crate) struct Joined {
    pub(crate) ticket: u64,
    pub(super) alarm: Option<Number>,
    pub(super) is_short: bool,
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
    pub(crate) fn new(cells: &'a Arc<Cells>, ticket: u64, wait: Wait) -> Self {
        Self {
            cells,
            ticket,
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

impl Cells {
    /// Gives somebody his place in line again: what he was given was of no use.
    pub(crate) fn stand_again(
        self: &Arc<Self>,
        ticket: u64,
        wait: Wait,
        borrower: Borrower<'_>,
    ) -> Waiter<'_> {
        self.rejoin(ticket, wait, borrower);
        Waiter::new(self, ticket, wait)
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
}
