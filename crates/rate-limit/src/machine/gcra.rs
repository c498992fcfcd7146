//! The generic cell rate algorithm, in whole nanoseconds.

use std::{num::NonZeroU32, time::Duration};

use ratelimit_meter::{
    GCRA, InconsistentCapacity, NegativeMultiDecision, algorithms::Algorithm as MeterAlgorithm,
};

use super::{Cell, Meter, NotUntil, Step, Verdict, count};
use crate::{
    clock::{Nanos, nanos},
    quota::Quota,
};

/// The word is the theoretical arrival time: the instant at which every cell
/// spent so far is given back. A key whose instant has passed is as good as new,
/// so zero needs no special case, at whatever reading the clock begins.
///
/// A reading that comes late (two threads, one clock) sees the instant further
/// away than it is and is served less, never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gcra {
    /// Time to give one cell back; at least 1.
    interval: u64,
    /// Time to give a whole burst back; a multiple of the interval. With zero
    /// there is nothing to spend, ever.
    span: u64,
}

impl Gcra {
    pub(super) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit(), quota.max_at_once())
    }

    fn with(period: u64, limit: u32, burst: u32) -> Self {
        let interval = period.div_ceil(u64::from(limit.max(1))).max(1);
        let most = (Quota::longest_span() / interval).max(1);
        Self {
            interval,
            span: interval * u64::from(burst).min(most),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.span == 0
    }

    /// How far the arrival time lies ahead.
    fn ahead(word: u64, now: Nanos) -> u64 {
        word.saturating_sub(now.0)
    }

    /// Keeps the spent cells, fractions included, at the new interval.
    pub(super) fn carry(&self, from: &Self, word: u64, now: Nanos) -> u64 {
        let spent = u128::from(Self::ahead(word, now)) * u128::from(self.interval);
        let ahead = spent.div_ceil(u128::from(from.interval));
        match u64::try_from(ahead).unwrap_or(u64::MAX).min(self.span) {
            0 => 0,
            ahead => now.0.saturating_add(ahead),
        }
    }
}

impl Meter for Gcra {
    fn step(&self, word: u64, n: u32, now: Nanos) -> Step {
        let refuse = |verdict| Step { verdict, word };
        if n == 0 {
            let remaining = self.remaining(word, now);
            return refuse(Verdict::Allowed { remaining });
        }
        let Some(price) = u64::from(n)
            .checked_mul(self.interval)
            .filter(|price| *price <= self.span)
        else {
            return refuse(Verdict::Never);
        };
        let ahead = Self::ahead(word, now);
        // What is free of the span decides; sums with `now` could overflow.
        match self.span.saturating_sub(ahead).checked_sub(price) {
            Some(left) => Step {
                verdict: Verdict::Allowed {
                    remaining: count(left / self.interval),
                },
                word: word.max(now.0).saturating_add(price),
            },
            None => refuse(Verdict::NotUntil(Nanos(word - (self.span - price)))),
        }
    }

    fn spent(&self, word: u64, now: Nanos) -> u32 {
        count(Self::ahead(word, now).div_ceil(self.interval))
    }

    fn remaining(&self, word: u64, now: Nanos) -> u32 {
        count(self.span.saturating_sub(Self::ahead(word, now)) / self.interval)
    }

    fn resets_at(&self, word: u64, now: Nanos) -> Nanos {
        Nanos(word).max(now)
    }

    fn idle_at(&self, word: u64) -> Nanos {
        Nanos(word)
    }

    fn word_with(&self, cells: u32, now: Nanos) -> u64 {
        match u64::from(cells).saturating_mul(self.interval) {
            0 => 0,
            ahead => now.0.saturating_add(ahead.min(self.span)),
        }
    }
}

impl MeterAlgorithm<Nanos> for Gcra {
    type BucketState = Cell;
    type NegativeDecision = NotUntil;

    fn construct(
        capacity: NonZeroU32,
        cell_weight: NonZeroU32,
        per_time_unit: Duration,
    ) -> Result<Self, InconsistentCapacity> {
        // Only the library can make its error, so its own algorithm judges the weight.
        GCRA::<Nanos>::construct(capacity, cell_weight, per_time_unit)?;
        let cells = capacity.get() / cell_weight.get();
        Ok(Self::with(nanos(per_time_unit), cells, cells))
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
