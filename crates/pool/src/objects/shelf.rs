//! Where idle objects lie: each thread has a shelf of its own, so that threads do not wait for each other.

use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::line::Line;
use crate::PoolStrategy;

/// The objects that one of the lanes uses, idle and on loan.
///
/// On cache lines of its own.
#[repr(align(128))]
pub(super) struct Shelf<T> {
    books: Mutex<Books<T>>,
    pub(super) line: Arc<Line<T>>,
}

/// What lies on a shelf, and what was lent from it.
#[derive(Debug)]
pub(super) struct Books<T> {
    strategy: PoolStrategy,
    places: Vec<Place<T>>,
    /// The list of those idle: the next to be lent, and the last.
    first: usize,
    last: usize,
    idle: usize,
    checkouts: u64,
    vacant: Vec<usize>,
}

#[derive(Debug)]
struct Place<T> {
    /// `None` while it is on loan, and where there is none.
    object: Option<T>,
    holder: Option<&'static Location<'static>>,
    /// The place after this one in the list of those idle.
    next: usize,
}

/// The end of the list.
const NONE: usize = usize::MAX;

/// An object on loan, and its place on its shelf.
#[derive(Debug)]
pub(super) struct Lent<T> {
    pub(super) object: T,
    place: usize,
}

impl<T> Shelf<T> {
    pub(super) fn new(strategy: PoolStrategy, line: &Arc<Line<T>>) -> Self {
        Self {
            books: Mutex::new(Books::new(strategy)),
            line: Arc::clone(line),
        }
    }

    #[inline]
    pub(super) fn books(&self) -> MutexGuard<'_, Books<T>> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends an idle object, unless the line has to be asked first.
    #[inline]
    pub(super) fn lend(&self, holder: &'static Location<'static>) -> Option<Lent<T>> {
        let mut books = self.books();
        if self.line.is_busy() {
            return None;
        }
        books.lend(holder)
    }

    /// Takes an idle object away, for somebody whose own shelf has none, unless the line has to be asked first.
    pub(super) fn pick(&self) -> Option<T> {
        let mut books = self.books();
        // Under the lock, as in `lend`.
        if self.line.is_busy() {
            return None;
        }
        books.pick()
    }

    /// Takes an object back.
    #[inline]
    pub(super) fn give_back(&self, lent: Lent<T>) {
        let mut books = self.books();
        // Under the lock. Who joins the line looks at all shelves after it was marked as busy: either that look finds
        // what is put here, or the mark is seen.
        if self.line.is_busy() {
            let object = books.remove(lent);
            drop(books);
            // A closed pool has no more use for it.
            drop(self.line.receive(object, self));
        } else {
            books.free(lent);
        }
    }

    /// Puts a new object here, or gives it to the line; `Err` when the pool is closed.
    pub(super) fn add(&self, object: T) -> Result<(), T> {
        let mut books = self.books();
        if self.line.is_busy() {
            drop(books);
            return self.line.receive(object, self);
        }
        books.put(object);
        Ok(())
    }
}

impl<T> Books<T> {
    fn new(strategy: PoolStrategy) -> Self {
        Self {
            strategy,
            places: Vec::new(),
            first: NONE,
            last: NONE,
            idle: 0,
            checkouts: 0,
            vacant: Vec::new(),
        }
    }

    #[inline]
    fn lend(&mut self, holder: &'static Location<'static>) -> Option<Lent<T>> {
        let place = self.first;
        let it = self.places.get_mut(place)?;
        let object = it.object.take()?;
        it.holder = Some(holder);
        self.first = it.next;
        self.idle -= 1;
        self.checkouts += 1;
        Some(Lent { object, place })
    }

    /// Lends an object that did not lie here, and will when it comes back.
    pub(super) fn adopt(&mut self, object: T, holder: &'static Location<'static>) -> Lent<T> {
        let place = self.open();
        self.places[place].holder = Some(holder);
        self.checkouts += 1;
        Lent { object, place }
    }

    #[inline]
    fn free(&mut self, lent: Lent<T>) {
        let Lent { object, place } = lent;
        let (first, last) = (self.first, self.last);
        let it = &mut self.places[place];
        it.object = Some(object);
        it.holder = None;
        match self.strategy {
            PoolStrategy::Lifo => {
                it.next = first;
                self.first = place;
            }
            PoolStrategy::Fifo => {
                it.next = NONE;
                self.last = place;
                if self.idle == 0 {
                    self.first = place;
                } else {
                    self.places[last].next = place;
                }
            }
        }
        self.idle += 1;
    }

    /// Puts an object here that did not lie here.
    pub(super) fn put(&mut self, object: T) {
        let place = self.open();
        self.free(Lent { object, place });
    }

    /// As [`put`](Self::put), to be lent before all others.
    pub(super) fn put_first(&mut self, object: T) {
        let place = self.open();
        let first = self.first;
        let it = &mut self.places[place];
        it.object = Some(object);
        it.next = first;
        self.first = place;
        if self.idle == 0 {
            self.last = place;
        }
        self.idle += 1;
    }

    /// Finds a place for one more object.
    fn open(&mut self) -> usize {
        self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place {
                object: None,
                holder: None,
                next: NONE,
            });
            self.places.len() - 1
        })
    }

    /// Forgets an object that is on loan.
    pub(super) fn remove(&mut self, lent: Lent<T>) -> T {
        self.places[lent.place].holder = None;
        self.vacant.push(lent.place);
        lent.object
    }

    /// Takes away an object that is idle.
    pub(super) fn pick(&mut self) -> Option<T> {
        let place = self.first;
        let it = self.places.get_mut(place)?;
        let object = it.object.take()?;
        self.first = it.next;
        self.idle -= 1;
        self.vacant.push(place);
        Some(object)
    }

    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    pub(super) fn checkouts(&self) -> u64 {
        self.checkouts
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = &'static Location<'static>> {
        self.places.iter().filter_map(|it| it.holder)
    }
}
