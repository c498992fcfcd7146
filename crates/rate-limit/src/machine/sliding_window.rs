//! The sliding window: never more than the limit in any period, wherever it begins.

use std::collections::VecDeque;

use super::{Debt, Meter, Verdict, count};
use crate::{clock::Nanos, quota::Quota};

/// How many instants a log tells apart.
const INSTANTS: u32 = 64;

/// The sliding window as a log: of any period, wherever it begins, no more than the limit is admitted.
///
/// A cell is given back one period after it was spent. The log keeps when cells were spent: exactly for limits up to
/// 64; of a greater limit, cells spent within one 64th of the period are given back together, with the last of them. So
/// a log has at most 65 entries, and what it rounds it rounds against the caller.
///
/// The cheaper sliding counter (two fixed windows, weighted) would let nearly twice the limit through around an
/// edge, as a fixed window does.
///
/// A reading that comes late is taken for the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlidingWindow {
    /// Length in nanoseconds.
    window: u64,
    limit: u32,
}

/// When cells were spent, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    runs: VecDeque<Run>,
    /// The cells of all runs.
    cells: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// When the last of these cells was spent.
    at: Nanos,
    cells: u32,
}

#[cfg(test)]
impl Log {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.runs.capacity()
    }
}

impl SlidingWindow {
    pub(super) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit(), quota.limit())
    }

    pub(super) fn with(window: u64, limit: u32, _: u32) -> Self {
        Self {
            window: window.max(1),
            limit,
        }
    }

    /// A log that holds all that will come without another allocation.
    pub(super) fn fresh(&self) -> Log {
        Log {
            runs: VecDeque::with_capacity(self.most_runs()),
            cells: 0,
        }
    }

    pub(super) fn is_longer(&self, other: &Self) -> bool {
        self.window > other.window
    }

    /// The log without what is given back.
    pub(super) fn kept(&self, log: &Log, now: Nanos) -> Log {
        let mut kept = log.clone();
        self.forget_old(&mut kept, Self::latest(log, now));
        kept
    }

    /// The same log, for another limit or another time: what was spent was spent when it was.
    pub(super) fn regrouped(&self, log: &Log) -> Log {
        let mut regrouped = self.fresh();
        for run in &log.runs {
            self.append(&mut regrouped, *run);
        }
        regrouped.cells = log.cells;
        regrouped
    }

    fn most_runs(&self) -> usize {
        // One of them began before the window did.
        self.limit.min(INSTANTS) as usize + 1
    }

    fn ends_at(&self, run: &Run) -> Nanos {
        Nanos(run.at.0.saturating_add(self.window))
    }

    /// The latest reading that the log knows of.
    fn latest(log: &Log, now: Nanos) -> Nanos {
        log.runs.back().map_or(now, |run| now.max(run.at))
    }

    /// Cells that are given back by `now`.
    fn given_back(&self, log: &Log, now: Nanos) -> u64 {
        let old = log.runs.iter().take_while(|run| self.ends_at(run) <= now);
        old.map(|run| u64::from(run.cells)).sum()
    }

    fn inside(&self, log: &Log, now: Nanos) -> u64 {
        log.cells - self.given_back(log, Self::latest(log, now))
    }

    fn forget_old(&self, log: &mut Log, now: Nanos) {
        while let Some(oldest) = log.runs.front()
            && self.ends_at(oldest) <= now
        {
            log.cells -= u64::from(oldest.cells);
            log.runs.pop_front();
        }
    }

    fn append(&self, log: &mut Log, run: Run) {
        if let Some(newest) = log.runs.back_mut()
            && (newest.at == run.at || self.is_one_slot(newest.at, run.at))
        {
            newest.at = run.at;
            newest.cells = newest.cells.saturating_add(run.cells);
            return;
        }
        log.runs.push_back(run);
    }

    /// Whether these two are too close to be told apart.
    fn is_one_slot(&self, one: Nanos, other: Nanos) -> bool {
        let slot = self.window.div_ceil(u64::from(INSTANTS));
        self.limit > INSTANTS && one.0 / slot == other.0 / slot
    }
}

impl Meter for SlidingWindow {
    type State = Log;

    fn ask(&self, log: &Log, n: u32, now: Nanos) -> Verdict {
        let now = Self::latest(log, now);
        let (n, limit) = (u64::from(n), u64::from(self.limit));
        let left = limit.saturating_sub(self.inside(log, now));
        if n == 0 {
            let remaining = count(left);
            return Verdict::Allowed { remaining };
        }
        if n > limit {
            return Verdict::Never;
        }
        if n <= left {
            let remaining = count(left - n);
            return Verdict::Allowed { remaining };
        }
        // The oldest runs that free enough; all of them together free the limit.
        let mut wanted = log.cells + n - limit;
        for run in &log.runs {
            wanted = wanted.saturating_sub(u64::from(run.cells));
            if wanted == 0 {
                return Verdict::NotUntil(self.ends_at(run));
            }
        }
        Verdict::Never
    }

    fn spend(&self, log: &mut Log, n: u32, now: Nanos) -> Verdict {
        let at = Self::latest(log, now);
        self.forget_old(log, at);
        let verdict = self.ask(log, n, at);
        if n > 0 && verdict.is_allowed() {
            log.cells += u64::from(n);
            self.append(log, Run { at, cells: n });
        }
        verdict
    }

    fn spent(&self, log: &Log, now: Nanos) -> u32 {
        count(self.inside(log, now))
    }

    fn remaining(&self, log: &Log, now: Nanos) -> u32 {
        count(u64::from(self.limit).saturating_sub(self.inside(log, now)))
    }

    fn idle_at(&self, log: &Log) -> Nanos {
        log.runs
            .back()
            .map_or(Nanos(0), |newest| self.ends_at(newest))
    }

    fn most(&self) -> u32 {
        self.limit
    }

    fn debt(&self, log: &Log, now: Nanos) -> Debt {
        Debt::whole(self.inside(log, now))
    }

    fn falls_to(&self, log: &Log, cells: u32) -> Nanos {
        let mut left = log.cells;
        let mut at = Nanos(0);
        for run in &log.runs {
            if left <= u64::from(cells) {
                break;
            }
            left -= u64::from(run.cells);
            at = self.ends_at(run);
        }
        at
    }

    fn owing(&self, debt: Debt, now: Nanos) -> Log {
        let mut log = self.fresh();
        let cells = debt.cells();
        if cells > 0 {
            log.cells = u64::from(cells);
            log.runs.push_back(Run { at: now, cells });
        }
        log
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.limit == 0
    }
}
