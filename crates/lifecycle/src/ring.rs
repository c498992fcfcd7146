mod record;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use self::record::Record;
use crate::{ActorPath, Event, EventKind, WallTime, shield};

/// How many events are looked at before the lock is given back: whoever emits does not wait for longer.
const BATCH: usize = 64;

/// How many events make a page, which are dropped together: a restart makes three, with one error between them, and
/// allocators keep about so many freed blocks at hand.
const PAGE: usize = 16;

/// The last events of a tree, and who waits for the next one.
///
/// Subscribers keep only their place in it. So there is one copy of each event however many read it, and
/// one who never reads costs nothing.
pub(crate) struct Ring(Mutex<Inner>);

struct Inner {
    /// The `seq` of the next event.
    next: u64,
    /// The time of the last event.
    at: WallTime,
    /// All but the newest page, each of them full; up to a page more than are remembered.
    pages: VecDeque<Vec<Record>>,
    /// The newest, which has room.
    fresh: Vec<Record>,
    /// An empty page, which is the next to be filled: one whose events have just been dropped. All that is remembered
    /// takes more memory than processors keep at hand, and this they still have.
    spare: Vec<Record>,
    capacity: usize,
    closed: bool,
    waiting: Vec<(u64, Waker)>,
    readers: u64,
}

/// A subscriber's place.
pub(crate) struct Cursor {
    id: u64,
    /// The `seq` of the next event to be read.
    at: u64,
    below: Option<ActorPath>,
    /// A waker of this subscriber may lie in the ring.
    registered: bool,
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    Now,
    Oldest,
    At(u64),
}

/// What a subscriber finds.
pub(crate) enum Found {
    Event(Event),
    Missed(u64),
    Nothing,
    End,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Mutex::new(Inner {
            next: 0,
            at: WallTime::default(),
            pages: VecDeque::new(),
            fresh: Vec::with_capacity(PAGE),
            spare: Vec::new(),
            capacity: capacity.max(1),
            closed: false,
            waiting: Vec::new(),
            readers: 0,
        }))
    }

    /// In place as far as it makes the record; see [`Record::new`].
    #[inline]
    pub(crate) fn push(&self, path: &ActorPath, kind: EventKind, at: Option<WallTime>) {
        self.add(Record::new(path, kind), at);
    }

    #[inline(never)]
    fn add(&self, mut record: Record, at: Option<WallTime>) {
        let mut inner = self.lock();
        inner.next += 1;
        // Under the lock, so that no event is older than the one before it.
        let at = at.unwrap_or_else(WallTime::recent).max(inner.at);
        inner.at = at;
        record.set_at(at);
        inner.fresh.push(record);
        if inner.fresh.len() == PAGE || !inner.waiting.is_empty() {
            self.follow_up(inner);
        }
    }

    /// Does what few events ask for: apart, so that the others need not carry it along.
    #[cold]
    fn follow_up(&self, mut inner: MutexGuard<'_, Inner>) {
        let is_full = inner.fresh.len() == PAGE;
        let forgotten = is_full.then(|| inner.turn_page()).flatten();
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        // Foreign code: an error in an event has a destructor, and a waker may run anything.
        if let Some(forgotten) = forgotten {
            self.forget(forgotten);
        }
        for (_, waker) in waiting {
            shield(|| waker.wake());
        }
    }

    /// Drops events, and looks at what they point to before: so it is fetched for all of them at the same time, while
    /// an atomic operation on each would wait for the one before.
    #[cold]
    fn forget(&self, mut page: Vec<Record>) {
        page.iter().for_each(Record::look);
        shield(|| page.clear());
        self.lock().spare = page;
    }

    /// Says that no more events will come.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for (_, waker) in waiting {
            shield(|| waker.wake());
        }
    }

    pub(crate) fn cursor(&self, begin: Begin) -> Cursor {
        let mut inner = self.lock();
        inner.readers += 1;
        Cursor {
            id: inner.readers,
            at: match begin {
                Begin::Now => inner.next,
                Begin::Oldest => inner.oldest(),
                Begin::At(seq) => seq,
            },
            below: None,
            registered: false,
        }
    }

    /// Moves the cursor on. When there is nothing, the waker is woken by the next event.
    pub(crate) fn read(&self, cursor: &mut Cursor, waker: Option<&Waker>) -> Found {
        loop {
            let mut inner = self.lock();
            let oldest = inner.oldest();
            if cursor.at < oldest {
                let missed = oldest - cursor.at;
                cursor.at = oldest;
                return Found::Missed(missed);
            }
            if cursor.at >= inner.next {
                if inner.closed {
                    return Found::End;
                }
                let replaced = waker.and_then(|waker| inner.register(cursor, waker));
                drop(inner);
                // The last waker of a task may take the task with it, and that may hold a subscriber.
                drop(replaced);
                return Found::Nothing;
            }
            for (seq, record) in inner.starting_at(cursor.at).take(BATCH) {
                cursor.at += 1;
                let wanted = match &cursor.below {
                    Some(base) => record.is_below(base),
                    None => true,
                };
                if wanted {
                    return Found::Event(record.event(seq));
                }
            }
        }
    }

    /// Forgets the waker of a subscriber that is going away.
    pub(crate) fn leave(&self, cursor: &mut Cursor) {
        if !std::mem::take(&mut cursor.registered) {
            return;
        }
        let mut inner = self.lock();
        let at = inner.waiting.iter().position(|(id, _)| *id == cursor.id);
        let gone = at.map(|at| inner.waiting.swap_remove(at));
        drop(inner);
        drop(gone);
    }

    /// Copies the last `limit` events, oldest first and without gaps.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Event> {
        self.copy(limit, BATCH, || ())
    }

    /// `between` is called whenever the lock is given back.
    fn copy(&self, limit: usize, mut batch: usize, between: impl Fn()) -> Vec<Event> {
        // Dropped behind the lock: it may have the last handles on errors of the host's by then.
        let mut overtaken = Vec::new();
        let mut inner = self.lock();
        let count = inner.remembered().min(limit);
        let end = inner.next;
        let mut at = end - as_seq(count);
        let mut copied = Vec::with_capacity(count);
        while at < end {
            if at < inner.oldest() {
                // Overtaken between two batches: what is copied already no longer joins up. Once more, and
                // this time in one go.
                overtaken = std::mem::replace(&mut copied, Vec::with_capacity(count));
                at = inner.next - as_seq(count);
                batch = count;
            }
            let before = copied.len();
            let left = batch.min(count - before);
            let records = inner.starting_at(at).take(left);
            copied.extend(records.map(|(seq, record)| record.event(seq)));
            at += as_seq(copied.len() - before);
            drop(inner);
            between();
            inner = self.lock();
        }
        drop(inner);
        drop(overtaken);
        copied
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Begins a page, and returns the oldest if all of it is to be dropped: see [`Ring::forget`].
    fn turn_page(&mut self) -> Option<Vec<Record>> {
        let mut page = std::mem::take(&mut self.spare);
        page.reserve_exact(PAGE);
        let full = std::mem::replace(&mut self.fresh, page);
        self.pages.push_back(full);
        let is_too_much = self.held() - PAGE >= self.capacity;
        is_too_much.then(|| self.pages.pop_front()).flatten()
    }

    /// How many are remembered.
    fn remembered(&self) -> usize {
        self.held().min(self.capacity)
    }

    /// How many are here, with those that are no longer remembered.
    fn held(&self) -> usize {
        self.pages.len() * PAGE + self.fresh.len()
    }

    /// The `seq` of the oldest event that is remembered.
    fn oldest(&self) -> u64 {
        self.next - as_seq(self.remembered())
    }

    /// The events from `seq` on, which is not older than the oldest, each with its own.
    fn starting_at(&self, seq: u64) -> impl Iterator<Item = (u64, &Record)> {
        let first = self.next - as_seq(self.held());
        let skip = usize::try_from(seq - first).unwrap_or(usize::MAX);
        let (pages, events) = (skip / PAGE, skip % PAGE);
        let pages = self.pages.iter().chain([&self.fresh]).skip(pages);
        (seq..).zip(pages.flatten().skip(events))
    }

    /// Enters a waker and returns the one that it replaces.
    fn register(&mut self, cursor: &mut Cursor, waker: &Waker) -> Option<Waker> {
        cursor.registered = true;
        let known = self.waiting.iter_mut().find(|(id, _)| *id == cursor.id);
        match known {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(std::mem::replace(known, waker.clone())),
            None => {
                self.waiting.push((cursor.id, waker.clone()));
                None
            }
        }
    }
}

impl Cursor {
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn below(&self) -> Option<&ActorPath> {
        self.below.as_ref()
    }

    pub(crate) fn keep_below(&mut self, base: &ActorPath) {
        self.below = Some(base.clone());
    }
}

fn as_seq(count: usize) -> u64 {
    // No list is longer than a `u64` counts.
    count as u64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fmt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::ExitReason;

    #[test]
    fn a_copy_that_is_overtaken_has_no_gap_and_lacks_nothing() {
        let ring = Ring::new(50);
        let path = ActorPath::root("t");
        let emit = || ring.push(&path, EventKind::Started { incarnation: 1 }, None);
        (0..50).for_each(|_| emit());
        let over = AtomicBool::new(false);
        let copies: Vec<_> = std::thread::scope(|threads| {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    emit();
                }
            });
            // Event by event, so that one emit in between is enough.
            let copies = (0..1_000).map(|_| ring.copy(50, 1, || ())).collect();
            over.store(true, Ordering::Relaxed);
            copies
        });
        for copy in copies {
            assert_eq!(copy.len(), 50);
            assert!(copy.windows(2).all(|it| it[0].seq + 1 == it[1].seq));
        }
    }

    #[test]
    fn what_an_overtaken_copy_has_kept_is_dropped_where_it_may_look_at_the_events() {
        /// Looks at the events when it is dropped.
        #[derive(thiserror::Error)]
        #[error("nosy")]
        struct Nosy(Arc<Ring>, Arc<AtomicUsize>);

        impl fmt::Debug for Nosy {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Drop for Nosy {
            fn drop(&mut self) {
                // To wait for the lock here would be to wait for ever.
                assert!(self.0.0.try_lock().is_ok() || std::thread::panicking());
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }

        let (ring, dropped) = (Arc::new(Ring::new(50)), Arc::default());
        let path = ActorPath::root("t");
        let emit = || {
            let reason = ExitReason::failed(Nosy(Arc::clone(&ring), Arc::clone(&dropped)));
            let incarnation = 1;
            let exited = EventKind::Exited {
                incarnation,
                reason,
            };
            ring.push(&path, exited, None);
        };
        (0..50).for_each(|_| emit());
        // What was copied first is forgotten by the ring meanwhile.
        let (is_first, before) = (Cell::new(true), Cell::new(0));
        let overtake = || {
            if is_first.take() {
                (0..200).for_each(|_| emit());
                before.set(dropped.load(Ordering::Relaxed));
            }
        };
        let copied = ring.copy(50, 10, overtake);
        assert_eq!((copied.len(), copied[0].seq), (50, 200));
        assert_eq!(dropped.load(Ordering::Relaxed), before.get() + 10);
    }
}
