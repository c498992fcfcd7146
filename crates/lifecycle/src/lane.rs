//! Counts that many threads add to without getting in each other's way.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Lanes that have one thread each.
const OWN: usize = 4;
/// Lanes of all further threads.
const SHARED: usize = 4;

/// The place of the calling thread among a few: whoever counts much keeps one count per lane, on cache lines of its
/// own, and adds them up when it is asked.
///
/// The first few threads have a lane each, until they end, and nobody else writes to it: they add with a plain load and
/// a plain store, in a quarter of the time. All others share what lanes are left. Each count is exact as soon as who
/// asks knows, by whatever synchronises them, that what is counted is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(usize);

impl Lane {
    /// How many lanes there are.
    pub const COUNT: usize = OWN + SHARED;

    /// Returns the lane of the calling thread.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        let lane = CURRENT.get();
        if lane == UNSET {
            return Self::enter();
        }
        Self(lane)
    }

    /// Returns its number, below [`COUNT`](Self::COUNT).
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        self.0 % Self::COUNT
    }

    /// Adds one to a count of this lane.
    #[inline]
    pub fn count(self, count: &AtomicU64) {
        if self.0 < OWN {
            count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
        } else {
            count.fetch_add(1, Relaxed);
        }
    }

    #[cold]
    fn enter() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);

        let own = || {
            let own = Own::take()?;
            let lane = own.0;
            // Fails in a thread that is ending, which then shares.
            LEAVES.try_with(|leaves| leaves.replace(Some(own))).ok()?;
            Some(lane)
        };
        let lane = own().unwrap_or_else(|| OWN + NEXT.fetch_add(1, Relaxed) % SHARED);
        CURRENT.set(lane);
        Self(lane)
    }
}

const UNSET: usize = usize::MAX;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(UNSET) };
    static LEAVES: RefCell<Option<Own>> = const { RefCell::new(None) };
}

const ALL: u64 = (1 << OWN) - 1;

/// Which lanes have a thread, by bits.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A lane that no other thread has, until this is dropped.
struct Own(usize);

impl Own {
    fn take() -> Option<Self> {
        let free = |taken: u64| (taken != ALL).then_some(taken | (taken + 1));
        // What the thread before it has counted there is seen from here on.
        let taken = TAKEN.fetch_update(Acquire, Relaxed, free).ok()?;
        Some(Self(taken.trailing_ones() as usize))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Before the lane is free: what this thread still counts while it ends is counted among others.
        CURRENT.set(OWN);
        TAKEN.fetch_and(!(1 << self.0), Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn counts_of_many_threads_that_come_and_go_add_up() {
        const THREADS: usize = 2 * Lane::COUNT;
        const EACH: u64 = 50_000;

        let counts: [AtomicU64; Lane::COUNT] = Default::default();
        for _ in 0..3 {
            let all = Barrier::new(THREADS);
            let work = || {
                all.wait();
                for _ in 0..EACH {
                    let lane = Lane::current();
                    lane.count(&counts[lane.index()]);
                }
            };
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(work);
                }
            });
        }
        let sum: u64 = counts.iter().map(|count| count.load(Relaxed)).sum();
        assert_eq!(sum, 3 * THREADS as u64 * EACH);
    }

    #[test]
    fn no_count_is_lost_where_threads_share_a_lane() {
        const EACH: u64 = 2_000_000;

        let (count, both) = (AtomicU64::new(0), Barrier::new(2));
        let work = || {
            both.wait();
            for _ in 0..EACH {
                Lane(OWN).count(&count);
            }
        };
        thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        assert_eq!(count.load(Relaxed), 2 * EACH);
    }

    #[test]
    fn no_two_threads_have_one_lane_of_their_own() {
        let all = Barrier::new(2 * Lane::COUNT);
        let lanes: Vec<_> = thread::scope(|scope| {
            let enter = || {
                let lane = Lane::current();
                all.wait();
                assert_eq!(Lane::current(), lane);
                lane
            };
            let threads: Vec<_> = (0..2 * Lane::COUNT).map(|_| scope.spawn(enter)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let own: Vec<_> = lanes.iter().filter(|lane| lane.0 < OWN).collect();
        let distinct: HashSet<_> = own.iter().map(|lane| lane.0).collect();
        assert_eq!(own.len(), distinct.len());
    }

    #[test]
    fn a_thread_that_is_ending_counts_among_others() {
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                let Lane(lane) = Lane::current();
                assert!(lane >= OWN || TAKEN.load(Acquire) & (1 << lane) != 0);
            }
        }
        thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
        // One is dropped before the lane is left, and one after it.
        let before = thread::spawn(|| {
            LAST.set(Some(Last));
            Lane::current()
        });
        before.join().unwrap();
        let after = thread::spawn(|| {
            let lane = Lane::current();
            LAST.set(Some(Last));
            lane
        });
        after.join().unwrap();
    }
}
