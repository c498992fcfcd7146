//! How a borrower comes to an object: from its own shelf, from another, or after a wait.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::Lane;
use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::builder::ObjectPoolBuilder;
use super::line::{self, Line, Phase, Waiter};
use super::object::Object;
use super::shelf::{self, Shelf};
use super::{ObjectPoolStats, ObjectPoolStatus};
use crate::{CheckoutError, PoolStrategy, Timeout};

pub(super) struct Shelves<T> {
    /// A power of two of them.
    shelves: Box<[Arc<Shelf<T>>]>,
    pub(super) line: Arc<Line<T>>,
    pub(super) wait_timeout: Duration,
}

impl<T> Shelves<T> {
    pub(super) fn new(settings: ObjectPoolBuilder<T>) -> Self {
        let ObjectPoolBuilder {
            name,
            objects,
            strategy,
            wait_timeout,
            max_waiting,
        } = settings;
        let line = Arc::new(Line::new(name, max_waiting));
        let shelves = match strategy {
            PoolStrategy::Lifo => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                let most = threads.min(Lane::COUNT).min(objects.len());
                1 << most.max(1).ilog2()
            }
            // One order for all.
            PoolStrategy::Fifo => 1,
        };
        let shelf = |_| Arc::new(Shelf::new(strategy, &line));
        let shelves: Box<[_]> = (0..shelves).map(shelf).collect();
        line.books().size = objects.len();
        for (number, object) in objects.into_iter().enumerate() {
            // Nobody has closed it yet.
            drop(shelves[number & (shelves.len() - 1)].add(object));
        }
        Self {
            shelves,
            line,
            wait_timeout,
        }
    }

    /// Returns the shelf of the calling thread.
    #[inline]
    fn own(&self) -> &Arc<Shelf<T>> {
        &self.shelves[Lane::current().index() & (self.shelves.len() - 1)]
    }

    #[inline]
    pub(super) async fn borrow(
        &self,
        limit: impl FnOnce() -> Timeout,
        location: &'static Location<'static>,
    ) -> Result<Object<T>, CheckoutError> {
        // Who gets an object at the first poll needs no clock.
        let began = (!has_budget_remaining()).then(Instant::now);
        // Before anything is taken: an object that waits for its turn with the scheduler helps nobody.
        consume_budget().await;
        if let Some(object) = self.lend(location) {
            return Ok(object);
        }
        let began = began.unwrap_or_else(Instant::now);
        match self.take_or_join(location)? {
            Ok(object) => Ok(object),
            // Boxed, so that who need not wait carries no room for it.
            Err(waiter) => Box::pin(self.wait(limit(), began, location, waiter)).await,
        }
    }

    /// Lends what lies on the thread's own shelf.
    #[inline]
    fn lend(&self, location: &'static Location<'static>) -> Option<Object<T>> {
        let own = self.own();
        let lent = own.lend(location)?;
        Some(Object::new(lent, own, location))
    }

    /// Lends what lay elsewhere; it belongs on the thread's own shelf from now on.
    fn adopt(&self, object: T, location: &'static Location<'static>) -> Object<T> {
        let own = self.own();
        let lent = own.books().adopt(object, location);
        Object::new(lent, own, location)
    }

    /// Finds an object on any shelf.
    fn find(&self) -> Option<T> {
        self.shelves.iter().find_map(|shelf| shelf.books().pick())
    }

    pub(super) fn borrow_now(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Object<T>, CheckoutError> {
        if let Some(object) = self.lend(location) {
            return Ok(object);
        }
        match self.take_elsewhere() {
            Some(object) => Ok(self.adopt(object, location)),
            None => Err(match self.line.lends() {
                Ok(()) => self.line.exhausted(self.in_use()),
                Err(phase) => self.not_open(phase),
            }),
        }
    }

    /// Takes an object from another shelf, unless the line has to be asked first.
    fn take_elsewhere(&self) -> Option<T> {
        if self.line.is_busy() {
            return None;
        }
        self.shelves.iter().find_map(|shelf| shelf.pick())
    }

    /// Takes an object from any shelf for one who has joined the line, unless nothing is lent since then. Then that one must
    /// go: what lies on a shelf would be lent to others when the pool is resumed, and not to who stands in the line.
    fn take_in_line(&self) -> Result<Option<T>, Phase> {
        // Held meanwhile: who drains the pool opens them after he has said so, and finds all that was lent before.
        let line = self.line.books();
        line.lends()?;
        Ok(self.find())
    }

    /// Lends an object from elsewhere; whoever gets none joins the line.
    #[cold]
    fn take_or_join(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Result<Object<T>, Waiter<'_, T>>, CheckoutError> {
        if let Some(object) = self.take_elsewhere() {
            return Ok(Ok(self.adopt(object, location)));
        }
        match self.line.join(self.own()) {
            Err(phase) => Err(self.not_open(phase)),
            Ok(None) => Err(self.line.exhausted(self.in_use())),
            // From here on whatever comes back goes to the line. What came back before may lie on a shelf, since the
            // first look.
            Ok(Some(waiter)) => match self.take_in_line() {
                Ok(Some(object)) => Ok(Ok(self.adopt(object, location))),
                Ok(None) => Ok(Err(waiter)),
                Err(phase) => {
                    drop(waiter);
                    Err(self.not_open(phase))
                }
            },
        }
    }

    async fn wait(
        &self,
        limit: Timeout,
        began: Instant,
        location: &'static Location<'static>,
        mut waiter: Waiter<'_, T>,
    ) -> Result<Object<T>, CheckoutError> {
        // One that is too far away to be told is no deadline.
        let deadline = match limit {
            Timeout::Never => None,
            Timeout::After(limit) => began.checked_add(limit),
        };
        let outcome = {
            let span = tracing::debug_span!("pool.checkout", pool.name = &*self.line.name);
            let served = async {
                let object = waiter.served().await?;
                // From here on it comes back whatever happens.
                Ok(self.adopt(object, location))
            };
            let served = served.instrument(span);
            match deadline {
                Some(deadline) => timeout_at(deadline, served).await,
                None => Ok(served.await),
            }
        };
        let waited = began.elapsed();
        // What a refusal says counts those who wait beside the one that gave up.
        drop(waiter);
        match outcome {
            Ok(Ok(object)) => {
                self.line.note_wait(waited);
                Ok(object)
            }
            Ok(Err(phase)) => Err(self.not_open(phase)),
            Err(_) => Err(self.line.timed_out(waited, self.in_use())),
        }
    }

    pub(super) fn add(&self, object: T) -> Result<(), T> {
        self.line.books().size += 1;
        self.own().add(object)
    }

    fn not_open(&self, phase: Phase) -> CheckoutError {
        self.line.not_open(phase, self.in_use())
    }

    /// Looks at all books at one moment.
    fn look<R>(
        &self,
        look: impl FnOnce(&line::Books<T>, &mut dyn Iterator<Item = &shelf::Books<T>>) -> R,
    ) -> R {
        let line = self.line.books();
        let shelves: Vec<_> = self.shelves.iter().map(|shelf| shelf.books()).collect();
        look(&line, &mut shelves.iter().map(|books| &**books))
    }

    pub(super) fn status(&self) -> ObjectPoolStatus {
        self.look(|line, shelves| {
            let on_shelves: usize = shelves.map(shelf::Books::idle).sum();
            let idle = line.idle() + on_shelves;
            ObjectPoolStatus {
                size: line.size,
                idle,
                in_use: line.size - idle,
                waiting: line.waiting(),
            }
        })
    }

    pub(super) fn stats(&self) -> ObjectPoolStats {
        self.look(|line, shelves| ObjectPoolStats {
            checkouts: shelves.map(shelf::Books::checkouts).sum(),
            ..line.stats()
        })
    }

    pub(super) fn holders(&self) -> Vec<&'static Location<'static>> {
        self.look(|_, shelves| shelves.flat_map(shelf::Books::holders).collect())
    }

    fn in_use(&self) -> usize {
        self.status().in_use
    }

    /// Lends again after a drain; says whether it did.
    pub(super) fn resume(&self) -> bool {
        self.line.resume(self.own())
    }

    pub(super) fn phase(&self) -> Phase {
        self.line.books().phase()
    }

    /// Waits until nothing is on loan, or the pool lends again.
    pub(super) async fn returned(&self) {
        loop {
            // Before the look, so that nothing after it is missed.
            let news = self.line.news();
            if self.in_use() == 0 || self.phase() == Phase::Open {
                return;
            }
            news.await;
        }
    }

    /// Drops what is not on loan, once the pool is closed.
    pub(super) fn clear(&self) {
        // Without a lock, for it is the user's code that drops them.
        while let Some(object) = self.find().or_else(|| self.line.clear()) {
            self.line.removed();
            drop(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread::yield_now;

    use super::*;
    use crate::ObjectPool;

    fn drain(shelves: &Shelves<u32>) {
        shelves.line.go_on(|_| Some(Phase::Drained));
    }

    #[test]
    fn who_looks_elsewhere_just_as_the_pool_is_drained_is_given_nothing() {
        let pool = ObjectPool::builder("db", [1]).build().unwrap();
        let shelves = &*pool.0;
        let both = Barrier::new(2);
        std::thread::scope(|threads| {
            let books = shelves.shelves[0].books();
            let comes = threads.spawn(|| {
                both.wait();
                shelves.take_elsewhere()
            });
            both.wait();
            // Time to come as far as the shelf, for one who asks the line before that.
            (0..1_000).for_each(|_| yield_now());
            drain(shelves);
            drop(books);
            assert_eq!(comes.join().unwrap(), None);
        });
        assert!(shelves.resume());
        assert_eq!(shelves.take_elsewhere(), Some(1));
    }

    #[test]
    fn who_joins_the_line_just_as_the_pool_is_drained_is_refused_and_does_not_wait_past_what_is_idle()
     {
        let pool = ObjectPool::builder("db", [1]).build().unwrap();
        let shelves = &*pool.0;
        let waiter = shelves.line.join(shelves.own()).unwrap().unwrap();
        drain(shelves);
        assert_eq!(shelves.take_in_line(), Err(Phase::Drained));
        drop(waiter);
        assert!(shelves.resume());
        assert_eq!(shelves.take_in_line(), Ok(Some(1)));
    }
}
