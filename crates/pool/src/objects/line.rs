//! Those who wait, and whatever else the threads must agree on.

use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use perennial_lifecycle::shield;
use tokio::sync::Notify;

use super::ObjectPoolStats;
use super::queue::Queue;
use super::shelf::Shelf;
use crate::CheckoutError;
use crate::event::{self, Meters};

/// The line of those who wait.
pub(super) struct Line<T> {
    /// Shelves are not to be used: somebody waits for whom nothing is reserved, or the pool is not open. Written under
    /// the lock of the books.
    busy: AtomicBool,
    /// As the books say it, for who shows it.
    waiting: AtomicUsize,
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
    /// How many of them are meant for who waits: all, while the pool is open.
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

    /// Says whether anything is lent at all.
    pub(super) fn lends(&self) -> Result<(), Phase> {
        match self.phase {
            Phase::Open => Ok(()),
            phase => Err(phase),
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

    /// Leaves the line with nothing; returns what is meant for nobody then.
    fn leave(&mut self) -> Option<T> {
        self.waiting -= 1;
        if self.reserved <= self.waiting {
            return None;
        }
        self.reserved -= 1;
        // What a closed pool has goes from here.
        if self.phase == Phase::Closed {
            return None;
        }
        self.pile.pop()
    }

    /// Returns what came back for nobody while nothing was lent, the first first.
    fn unreserved(&mut self) -> impl Iterator<Item = T> {
        let unreserved = self.pile.len() - self.reserved;
        self.pile.drain(..unreserved)
    }

    /// Receives an object that is free; `Err` when it is not to lie here: nobody waits, or the pool is closed.
    fn receive(&mut self, object: T) -> Result<Turns, T> {
        match self.phase {
            Phase::Closed => Err(object),
            _ if self.waiting > self.reserved => {
                self.pile.push(object);
                self.reserved += 1;
                Ok(Turns::Grant)
            }
            Phase::Open => Err(object),
            Phase::Drained => {
                self.pile.push(object);
                Ok(Turns::Unchanged)
            }
        }
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
            waiting: AtomicUsize::new(0),
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
        self.waiting.store(books.waiting, SeqCst);
        drop(books);
        // Without the lock: it wakes who waits, and a waker may run anything. Whoever takes a turn back meanwhile may not
        // find it: then there is one too many, and who has that finds nothing and waits on.
        match turns {
            Turns::Unchanged => {}
            Turns::Grant => shield(|| self.queue.grant()),
            Turns::Revoke => self.queue.revoke(),
        }
    }

    /// Shows how many wait, after that has changed.
    fn show_waiting(&self) {
        let mut shown = self.waiting.load(SeqCst);
        loop {
            event::pending(self.meters(), shown);
            // Who has changed it meanwhile may have been the first to show it.
            let waiting = self.waiting.load(SeqCst);
            if waiting == shown {
                return;
            }
            shown = waiting;
        }
    }

    /// Says whether anything is lent at all.
    pub(super) fn lends(&self) -> Result<(), Phase> {
        self.books().lends()
    }

    /// Joins the line, unless nothing is lent; `None`: too many stand there already. What was meant for one that leaves
    /// goes to `shelf`.
    pub(super) fn join<'a>(&'a self, shelf: &'a Shelf<T>) -> Result<Option<Waiter<'a, T>>, Phase> {
        let mut books = self.books();
        books.lends()?;
        if !books.join() {
            return Ok(None);
        }
        self.changed(books, Turns::Unchanged);
        self.show_waiting();
        Ok(Some(Waiter {
            line: self,
            shelf,
            stands: true,
        }))
    }

    /// Takes an object that is free, for who waits or for later; `Err` when the pool is closed. Whoever waited may have
    /// left meanwhile: then it goes to `shelf`.
    pub(super) fn receive(&self, object: T, shelf: &Shelf<T>) -> Result<(), T> {
        let mut books = self.books();
        let phase = books.phase;
        let (turns, unused) = match books.receive(object) {
            Ok(turns) => (turns, None),
            Err(object) if phase == Phase::Open => {
                shelf.books().put(object);
                (Turns::Unchanged, None)
            }
            Err(object) => {
                books.size -= 1;
                (Turns::Unchanged, Some(object))
            }
        };
        self.changed(books, turns);
        if phase != Phase::Open {
            self.tell();
        }
        unused.map_or(Ok(()), Err)
    }

    /// An object was taken out of the pool.
    pub(super) fn removed(&self) {
        self.books().size -= 1;
        self.tell();
    }

    /// Goes over to another phase, if there is a next one; says whether it did.
    pub(super) fn go_on(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        let mut books = self.books();
        let Some(phase) = next(books.phase) else {
            return false;
        };
        books.phase = phase;
        self.changed(books, Turns::Unchanged);
        self.tell();
        true
    }

    /// Lends again after a drain; says whether it did. What lies here for nobody goes to `shelf`.
    pub(super) fn resume(&self, shelf: &Shelf<T>) -> bool {
        let mut books = self.books();
        if books.phase != Phase::Drained {
            return false;
        }
        books.phase = Phase::Open;
        let mut places = shelf.books();
        books.unreserved().for_each(|object| places.put(object));
        drop(places);
        self.changed(books, Turns::Unchanged);
        self.tell();
        true
    }

    /// Takes an object that lies on no shelf, once the pool is closed.
    pub(super) fn clear(&self) -> Option<T> {
        self.books().pile.pop()
    }

    /// Tells of news.
    fn tell(&self) {
        shield(|| self.news.notify_waiters());
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
    shelf: &'a Shelf<T>,
    stands: bool,
}

impl<T> Waiter<'_, T> {
    /// Waits for its turn, and takes what it is given; the pool may lend nothing before that.
    pub(super) async fn served(&mut self) -> Result<T, Phase> {
        let line = self.line;
        loop {
            line.queue.turn(&line.news, || line.lends()).await?;
            if let Some(object) = self.use_turn()? {
                return Ok(object);
            }
        }
    }

    /// Takes what it is given; nothing if that was taken back while its turn was on its way.
    fn use_turn(&mut self) -> Result<Option<T>, Phase> {
        let line = self.line;
        let mut books = line.books();
        match books.serve() {
            Take::Object(object) => {
                self.stands = false;
                line.changed(books, Turns::Unchanged);
                line.show_waiting();
                Ok(Some(object))
            }
            Take::Wait => Ok(None),
            Take::Shut(phase) => {
                // Drained since the turn came: it is that of who waits behind, who may not look before the pool is resumed.
                line.changed(books, Turns::Grant);
                Err(phase)
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
        let turns = match books.leave() {
            // What lies there came back later than this: otherwise this one would have taken it and not waited.
            Some(object) => {
                self.shelf.books().put_first(object);
                Turns::Revoke
            }
            None => Turns::Unchanged,
        };
        self.line.changed(books, turns);
        self.line.show_waiting();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::PoolStrategy;

    #[test]
    fn a_turn_that_comes_just_as_the_pool_is_drained_goes_to_who_waits_behind() {
        let line = Arc::new(Line::new("db".into(), None));
        let shelf = Shelf::new(PoolStrategy::Lifo, &line);
        let join = || line.join(&shelf).unwrap().unwrap();
        let (mut first, mut second) = (join(), join());
        line.receive(7, &shelf).unwrap();
        let turn = line.queue.turn(&line.news, || line.lends());
        assert_eq!(turn.now_or_never(), Some(Ok(())));
        line.go_on(|_| Some(Phase::Drained));
        assert_eq!(first.use_turn(), Err(Phase::Drained));
        drop(first);
        // Before the second one has looked.
        assert!(line.resume(&shelf));
        assert_eq!(second.served().now_or_never(), Some(Ok(7)));
    }
}
