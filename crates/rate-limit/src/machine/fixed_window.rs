//! Fixed windows, aligned to multiples of their length since the epoch.

use std::{num::NonZeroU32, time::Duration};

use ratelimit_meter::{
    GCRA, InconsistentCapacity, NegativeMultiDecision, algorithms::Algorithm as MeterAlgorithm,
};

use super::{Cell, Meter, NotUntil, Step, Verdict, count};
use crate::{
    clock::{Nanos, nanos},
    quota::Quota,
};

/// The word is the start of a window plus the cells counted in it.
///
/// A limit is less than the window's nanoseconds, so the sum never reaches the
/// next window: one word says both, exactly, and a later window always has the
/// greater word. A reading from before the word's window (two threads, one
/// clock) is counted in the word's window; opening the older one again would
/// admit twice.
///
/// A denied check counts as well, once the window is used up. A batch that is
/// denied while cells are left does not: it would take them from smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedWindow {
    /// Length in nanoseconds; at least 2.
    window: u64,
    limit: u32,
}

/// A word taken apart, as seen at some time.
struct Count {
    start: u64,
    cells: u64,
}

impl FixedWindow {
    pub(super) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit())
    }

    fn with(window: u64, limit: u32) -> Self {
        let window = window.max(2);
        Self {
            window,
            limit: limit.min(count(window - 1)),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.limit == 0
    }

    pub(super) fn same_windows(&self, other: &Self) -> bool {
        self.window == other.window
    }

    fn start_of(&self, at: u64) -> u64 {
        at - at % self.window
    }

    fn count(&self, word: u64, now: Nanos) -> Count {
        let current = self.start_of(now.0);
        match word.checked_sub(current) {
            None => Count {
                start: current,
                cells: 0,
            },
            Some(cells) if cells < self.window => Count {
                start: current,
                cells,
            },
            Some(_) => Count {
                start: self.start_of(word),
                cells: word % self.window,
            },
        }
    }

    fn word(&self, start: u64, cells: u64) -> u64 {
        start.saturating_add(cells.min(self.window - 1))
    }
}

impl Meter for FixedWindow {
    fn step(&self, word: u64, n: u32, now: Nanos) -> Step {
        let Count { start, cells } = self.count(word, now);
        let (n, limit) = (u64::from(n), u64::from(self.limit));
        let left = limit.saturating_sub(cells);
        if n == 0 {
            let remaining = count(left);
            return Step {
                verdict: Verdict::Allowed { remaining },
                word,
            };
        }
        if n > limit {
            return Step {
                verdict: Verdict::Never,
                word,
            };
        }
        if n <= left {
            return Step {
                verdict: Verdict::Allowed {
                    remaining: count(left - n),
                },
                word: self.word(start, cells + n),
            };
        }
        Step {
            verdict: Verdict::NotUntil(Nanos(start.saturating_add(self.window))),
            word: match left {
                0 => self.word(start, cells + n),
                _ => word,
            },
        }
    }

    fn spent(&self, word: u64, now: Nanos) -> u32 {
        count(self.count(word, now).cells)
    }

    fn remaining(&self, word: u64, now: Nanos) -> u32 {
        count(u64::from(self.limit).saturating_sub(self.count(word, now).cells))
    }

    fn resets_at(&self, word: u64, now: Nanos) -> Nanos {
        Nanos(self.count(word, now).start.saturating_add(self.window))
    }

    fn idle_at(&self, word: u64) -> Nanos {
        match word {
            0 => Nanos(0),
            word => Nanos(self.start_of(word).saturating_add(self.window)),
        }
    }

    fn word_with(&self, cells: u32, now: Nanos) -> u64 {
        match cells {
            0 => 0,
            cells => self.word(self.start_of(now.0), u64::from(cells)),
        }
    }
}

impl MeterAlgorithm<Nanos> for FixedWindow {
    type BucketState = Cell;
    type NegativeDecision = NotUntil;

    fn construct(
        capacity: NonZeroU32,
        cell_weight: NonZeroU32,
        per_time_unit: Duration,
    ) -> Result<Self, InconsistentCapacity> {
        // Only the library can make its error, so its own algorithm judges the weight.
        GCRA::<Nanos>::construct(capacity, cell_weight, per_time_unit)?;
        Ok(Self::with(
            nanos(per_time_unit),
            capacity.get() / cell_weight.get(),
        ))
    }

    fn test_n_and_update(
        &self,
        state: &Cell,
        n: u32,
        at: Nanos,
    ) -> Result<(), NegativeMultiDecision<NotUntil>> {
        state.spend(self, n, at).for_batch(n)
    }
}
