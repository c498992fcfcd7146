//! Fixed windows, aligned to multiples of their length since the epoch.

use super::{Debt, Meter, Times, Verdict, cell::Word, count};
use crate::{clock::Nanos, quota::Quota};

/// Fixed windows, aligned to multiples of their length since the epoch, as ExRated counts them.
///
/// A reading from before the window that was counted in last (two threads, one clock) is counted in that window;
/// opening the older one again would admit twice.
///
/// A denied check counts as well, once the window is used up. A batch that is denied while cells are left does not:
/// it would take them from smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FixedWindow {
    /// Length in nanoseconds; at least 2.
    window: u64,
    limit: u32,
}

/// The cells counted since a window began. With none counted there was no window yet.
///
/// It says the same to windows of any length. The count ends with a window that ends after the last cell was admitted,
/// and no earlier than one length after `start`: under one length that is the window that it began in, and under several
/// in turn there is never less than the shortest of them between two ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    start: Nanos,
    first: Nanos,
    last: Nanos,
    /// When the last cell was admitted.
    spent: Nanos,
    /// Those asked for, the denied ones included.
    cells: u32,
    admitted: u32,
}

impl FixedWindow {
    pub(in crate::machine) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit(), quota.limit())
    }

    /// Less than one cell per nanosecond, so that a window's start and its count fit into one word.
    pub(super) fn with(window: u64, limit: u32, _: u32) -> Self {
        let window = window.max(2);
        Self {
            window,
            limit: limit.min(count(window - 1)),
        }
    }

    fn start_of(&self, at: Nanos) -> u64 {
        at.0 - at.0 % self.window
    }

    /// The cells of the present window; none if it has no count yet.
    #[inline]
    fn cells(&self, state: &Count, now: Nanos) -> u32 {
        match state.cells {
            0 => 0,
            _ if self.ends_at(state) <= now => 0,
            cells => cells,
        }
    }

    fn left(&self, state: &Count, now: Nanos) -> u32 {
        self.limit.saturating_sub(self.cells(state, now))
    }

    /// When the count ends.
    fn ends_at(&self, state: &Count) -> Nanos {
        let within = state.start.0.saturating_add(self.window - 1);
        self.next_window(Nanos(within).max(state.spent))
    }

    fn next_window(&self, at: Nanos) -> Nanos {
        Nanos(self.start_of(at).saturating_add(self.window))
    }

    /// When the present window was first and last asked for.
    pub(super) fn times(&self, state: &Count, now: Nanos) -> Option<Times> {
        (self.cells(state, now) > 0).then_some(Times {
            first: state.first,
            last: state.last,
        })
    }

    /// Decides for a window with so many cells counted.
    #[inline]
    fn decide(&self, cells: u32, state: &Count, n: u32) -> Verdict {
        let left = self.limit.saturating_sub(cells);
        if n == 0 {
            return Verdict::Allowed { remaining: left };
        }
        if n > self.limit {
            return Verdict::Never;
        }
        match left.checked_sub(n) {
            Some(remaining) => Verdict::Allowed { remaining },
            // It has a count, or there would be cells left.
            None => Verdict::NotUntil(self.ends_at(state)),
        }
    }
}

impl Meter for FixedWindow {
    type State = Count;

    fn ask(&self, state: &Count, n: u32, now: Nanos) -> Verdict {
        self.decide(self.cells(state, now), state, n)
    }

    #[inline]
    fn spend(&self, state: &mut Count, n: u32, now: Nanos) -> Verdict {
        let cells = self.cells(state, now);
        let verdict = self.decide(cells, state, n);
        let counts = match verdict {
            Verdict::Allowed { .. } => n > 0,
            Verdict::NotUntil(_) => cells >= self.limit,
            Verdict::Never => false,
        };
        if counts {
            if cells == 0 {
                *state = Count {
                    start: Nanos(self.start_of(now)),
                    first: now,
                    ..Count::default()
                };
            }
            state.last = state.last.max(now);
            state.cells = state.cells.saturating_add(n);
            if verdict.is_allowed() {
                state.spent = state.spent.max(now);
                state.admitted = state.admitted.saturating_add(n);
            }
        }
        verdict
    }

    fn spent(&self, state: &Count, now: Nanos) -> u32 {
        self.cells(state, now)
    }

    fn remaining(&self, state: &Count, now: Nanos) -> u32 {
        self.left(state, now)
    }

    fn idle_at(&self, state: &Count) -> Nanos {
        match state.cells {
            0 => Nanos(0),
            _ => self.ends_at(state),
        }
    }

    /// A window ends when it ends, also when nothing is spent.
    fn resets_at(&self, state: &Count, now: Nanos) -> Nanos {
        self.idle_at(state).max(self.next_window(now))
    }

    fn most(&self) -> u32 {
        self.limit
    }

    fn debt(&self, state: &Count, now: Nanos) -> Debt {
        match self.cells(state, now) {
            0 => Debt::whole(0),
            _ => Debt::whole(u64::from(state.admitted)),
        }
    }

    fn falls_to(&self, state: &Count, cells: u32) -> Nanos {
        if state.admitted <= cells {
            return Nanos(0);
        }
        self.ends_at(state)
    }

    fn owing(&self, debt: Debt, now: Nanos) -> Count {
        match debt.cells() {
            0 => Count::default(),
            cells => Count {
                start: Nanos(self.start_of(now)),
                first: now,
                last: now,
                spent: now,
                cells,
                admitted: cells,
            },
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.limit == 0
    }
}

/// One word is the start of a window plus the cells counted in it. A limit is less than the window's nanoseconds,
/// and a count is held below them, so the sum never reaches the next window, and a later window always has the
/// greater word.
impl Word for FixedWindow {
    fn pack(&self, state: &Count) -> u64 {
        match u64::from(state.cells).min(self.window - 1) {
            0 => 0,
            cells => state.start.0.saturating_add(cells),
        }
    }

    fn unpack(&self, word: u64) -> Count {
        let start = Nanos(self.start_of(Nanos(word)));
        let cells = count(word % self.window);
        Count {
            start,
            first: start,
            last: start,
            spent: start,
            cells,
            admitted: cells.min(self.limit),
        }
    }
}
