//! Those who wait, and whatever else the threads must agree on.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ObjectPoolStats;
use super::queue::Queue;
use crate::CheckoutError;
use crate::event::{self, Meters};

/// The line of those who wait.
pub(super) struct Line<T> {
    /// Shelves are not to be used: somebody waits for whom nothing is reserved, or the pool is not open. Written under
    /// the lock of the books.
    busy: AtomicBool,
    pub(super) name: Arc<str>,
    books: Mutex<Books<T>>,
    queue: Queue,
    /// Tells those who wait that the pool lends nothing any more, and who drains it that an object is back.
    news: Notify,
    meters: OnceLock<Meters>,
}

/// Decisions: who gets an object that comes back while others wait.
#[derive(Debug)]
pub(super) struct Books<T> {
    phase: Phase,
    /// Objects that came back while somebody waited, or while the pool was drained.
    pile: Vec<T>,
    /// How many of them are meant for who waits.
    reserved: usize,
    /// How many wait, those included who were given a turn and have not used it.
    waiting: usize,
    max_waiting: usize,
    /// All objects, on loan or not.
    pub(super) size: usize,
    stats: ObjectPoolStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Lends nothing until it is resumed.
    Drained,
    Closed,
}

/// What a borrower is given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Take<T> {
    Object(T),
    /// Nothing yet.
    Wait,
    /// The pool lends nothing now.
    Shut(Phase),
}

/// What follows from a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    Unchanged,
    /// The first who waits may fetch an object.
    Grant,
    /// One who was told so need not come.
    Revoke,
}

impl<T> Books<T> {
    fn new(max_waiting: Option<usize>) -> Self {
        Self {
            phase: Phase::Open,
            pile: Vec::new(),
            reserved: 0,
            waiting: 0,
            max_waiting: max_waiting.unwrap_or(usize::MAX),
            size: 0,
            stats: ObjectPoolStats::default(),
        }
    }

    fn is_busy(&self) -> bool {
        self.phase != Phase::Open || self.waiting > self.reserved
    }

    /// Gives what is meant for nobody to one that comes.
    fn take(&mut self) -> Take<T> {
        match self.phase {
            Phase::Open if self.pile.len() > self.reserved => {
                self.pile.pop().map_or(Take::Wait, Take::Object)
            }
            Phase::Open => Take::Wait,
            phase => Take::Shut(phase),
        }
    }

    /// Joins the line, unless too many stand there already.
    fn join(&mut self) -> bool {
        let joins = self.waiting < self.max_waiting;
        self.waiting += usize::from(joins);
        joins
    }

    /// Gives what was reserved to the one whose turn it is; it leaves the line with it.
    fn serve(&mut self) -> Take<T> {
        match self.phase {
            Phase::Open if self.reserved > 0 => {
                self.reserved -= 1;
                self.waiting -= 1;
                self.pile.pop().map_or(Take::Wait, Take::Object)
            }
            Phase::Open => Take::Wait,
            phase => Take::Shut(phase),
        }
    }

    /// Leaves the line with nothing.
    fn leave(&mut self) -> Turns {
        self.waiting -= 1;
        if self.reserved > self.waiting {
            self.reserved -= 1;
            return Turns::Revoke;
        }
        Turns::Unchanged
    }

    /// Receives an object that is free; `Err` when the pool is closed, and has no more use for it.
    fn receive(&mut self, object: T) -> Result<Turns, T> {
        if self.phase == Phase::Closed {
            self.size -= 1;
            return Err(object);
        }
        self.pile.push(object);
        if self.waiting > self.reserved {
            self.reserved += 1;
            return Ok(Turns::Grant);
        }
        Ok(Turns::Unchanged)
    }

    /// Returns how many objects are on no shelf and not on loan.
    pub(super) fn idle(&self) -> usize {
        self.pile.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn stats(&self) -> ObjectPoolStats {
        self.stats
    }
}

impl<T> Line<T> {
    pub(super) fn new(name: Arc<str>, max_waiting: Option<usize>) -> Self {
        Self {
            busy: AtomicBool::new(false),
            name,
            books: Mutex::new(Books::new(max_waiting)),
            queue: Queue::new(),
            news: Notify::new(),
            meters: OnceLock::new(),
        }
    }

    /// Asked with the lock of a shelf, which orders it against those who join the line and then look at the shelf.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Who holds this may lock shelves, and not the other way round.
    pub(super) fn books(&self) -> MutexGuard<'_, Books<T>> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the books after a change.
    fn changed(&self, books: MutexGuard<'_, Books<T>>, turns: Turns) {
        self.busy.store(books.is_busy(), Relaxed);
        // Under the lock, so that whoever takes a turn back finds it.
        match turns {
            Turns::Unchanged => {}
            Turns::Grant => self.queue.grant(),
            Turns::Revoke => self.queue.revoke(),
        }
        drop(books);
    }

    /// Gives what lies on no shelf to one that found nothing there.
    pub(super) fn take(&self) -> Take<T> {
        self.books().take()
    }

    /// As [`take`](Self::take); whoever is given nothing joins the line, and nobody comes in between. `Err(None)`: too
    /// many stand there already.
    pub(super) fn take_or_join(&self) -> Result<Take<T>, Option<Waiter<'_, T>>> {
        let mut books = self.books();
        match books.take() {
            Take::Wait => {}
            taken => return Ok(taken),
        }
        if !books.join() {
            return Err(None);
        }
        let waiting = books.waiting;
        self.changed(books, Turns::Unchanged);
        event::pending(self.meters(), waiting);
        Err(Some(Waiter {
            line: self,
            stands: true,
        }))
    }

    /// Takes an object that is free, for who waits or for later; `Err` when the pool is closed.
    pub(super) fn receive(&self, object: T) -> Result<(), T> {
        let mut books = self.books();
        let received = books.receive(object);
        let is_open = books.phase == Phase::Open;
        let turns = received.as_ref().copied();
        self.changed(books, turns.unwrap_or(Turns::Unchanged));
        if !is_open {
            self.news.notify_waiters();
        }
        received.map(drop)
    }

    /// An object was taken out of the pool.
    pub(super) fn removed(&self) {
        self.books().size -= 1;
        self.news.notify_waiters();
    }

    /// Goes over to another phase, if there is a next one; says whether it did.
    pub(super) fn go_on(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        let mut books = self.books();
        let Some(phase) = next(books.phase) else {
            return false;
        };
        books.phase = phase;
        self.changed(books, Turns::Unchanged);
        self.news.notify_waiters();
        true
    }

    /// Takes an object that lies on no shelf, once the pool is closed.
    pub(super) fn clear(&self) -> Option<T> {
        self.books().pile.pop()
    }

    /// Waits for news after this call; look at what they are about once it is made.
    pub(super) fn news(&self) -> impl Future<Output = ()> + '_ {
        self.news.notified()
    }

    pub(super) fn note_wait(&self, waited: Duration) {
        let mut books = self.books();
        let stats = &mut books.stats;
        stats.waits += 1;
        stats.wait_total += waited;
        stats.wait_max = stats.wait_max.max(waited);
        drop(books);
        event::checked_out(self.meters(), waited);
    }

    fn meters(&self) -> &Meters {
        // Made at first use, by when a host has installed its recorder.
        self.meters.get_or_init(|| Meters::of_objects(&self.name))
    }

    #[cold]
    pub(super) fn not_open(&self, phase: Phase, in_use: usize) -> CheckoutError {
        self.books().stats.refused += 1;
        let pool = Arc::clone(&self.name);
        let error = match phase {
            Phase::Open | Phase::Drained => CheckoutError::Drained { pool, in_use },
            Phase::Closed => CheckoutError::Closed { pool },
        };
        event::refused(&error);
        error
    }

    #[cold]
    pub(super) fn exhausted(&self, in_use: usize) -> CheckoutError {
        let mut books = self.books();
        books.stats.refused += 1;
        let error = CheckoutError::Exhausted {
            pool: Arc::clone(&self.name),
            waited: Duration::ZERO,
            waiting: books.waiting,
            in_use,
            size: books.size,
            max_overflow: 0,
            last_start_error: None,
        };
        drop(books);
        event::refused(&error);
        error
    }

    /// Called when the one that gave up has left the line.
    #[cold]
    pub(super) fn timed_out(&self, waited: Duration, in_use: usize) -> CheckoutError {
        let mut books = self.books();
        books.stats.timeouts += 1;
        let error = CheckoutError::TimedOut {
            pool: Arc::clone(&self.name),
            waited,
            waiting: books.waiting,
            in_use,
            size: books.size,
            max_overflow: 0,
            last_start_error: None,
        };
        drop(books);
        event::timed_out(self.meters(), None, &error);
        error
    }
}

/// A place in the line; left when it is dropped.
pub(super) struct Waiter<'a, T> {
    line: &'a Line<T>,
    stands: bool,
}

impl<T> Waiter<'_, T> {
    /// Waits for its turn, and takes what it is given; the pool may lend nothing before that.
    pub(super) async fn served(&mut self) -> Result<T, Phase> {
        let line = self.line;
        let look = || match line.books().phase {
            Phase::Open => Ok(()),
            phase => Err(phase),
        };
        loop {
            line.queue.turn(&line.news, look).await?;
            let mut books = line.books();
            match books.serve() {
                Take::Object(object) => {
                    self.stands = false;
                    let waiting = books.waiting;
                    line.changed(books, Turns::Unchanged);
                    event::pending(line.meters(), waiting);
                    return Ok(object);
                }
                // It was taken back while it was on its way.
                Take::Wait => {}
                Take::Shut(phase) => return Err(phase),
            }
        }
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        if !self.stands {
            return;
        }
        let mut books = self.line.books();
        let turns = books.leave();
        let waiting = books.waiting;
        self.line.changed(books, turns);
        event::pending(self.line.meters(), waiting);
    }
}
