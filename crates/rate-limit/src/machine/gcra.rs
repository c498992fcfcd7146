//! The generic cell rate algorithm as virtual scheduling, in whole nanoseconds; the leaky bucket is the same.

use super::{Debt, Meter, Verdict, cell::Word, count};
use crate::{
    clock::Nanos,
    quota::{LONGEST, Quota},
};

/// The generic cell rate algorithm: ITU-T I.371, annex A, as virtual scheduling.
///
/// The state is the theoretical arrival time: the instant at which every cell spent so far is given back. A key
/// whose instant has passed is as good as new, so zero needs no special case, at whatever reading the clock begins.
///
/// A reading that comes late (two threads, one clock) sees the instant further away than it is and is served
/// less, never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gcra {
    /// Time to give one cell back; at least 1.
    interval: u64,
    /// Time to give a whole burst back; a multiple of the interval. With zero there is nothing to spend, ever.
    span: u64,
}

/// The leaky bucket as a meter: ITU-T I.371, annex A, the continuous-state leaky bucket.
///
/// A cell pours one interval into the bucket, the bucket drains one nanosecond per nanosecond, and what would not fit is
/// refused. The standard calls it and [`Gcra`] the same algorithm: one looks at a level, the other at an arrival time. Of a
/// level and its time only their sum matters, the instant at which the bucket runs dry, and that is the arrival time.
pub type LeakyBucket = Gcra;

impl Gcra {
    pub(crate) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit(), quota.max_at_once())
    }

    pub(super) fn with(period: u64, limit: u32, burst: u32) -> Self {
        let interval = period.div_ceil(u64::from(limit.max(1))).max(1);
        let most = (LONGEST / interval).max(1);
        Self {
            interval,
            span: interval * u64::from(burst).min(most),
        }
    }

    /// Time to give one cell back.
    #[cfg(feature = "governor")]
    pub(crate) fn interval(&self) -> u64 {
        self.interval
    }

    /// How far the arrival time lies ahead.
    fn ahead(state: Nanos, now: Nanos) -> u64 {
        state.0.saturating_sub(now.0)
    }

    /// The verdict, and the arrival time once the cells are taken.
    #[inline]
    fn step(&self, state: Nanos, n: u32, now: Nanos) -> (Verdict, Nanos) {
        if n == 0 {
            let remaining = self.remaining(&state, now);
            return (Verdict::Allowed { remaining }, state);
        }
        let Some(price) = u64::from(n)
            .checked_mul(self.interval)
            .filter(|price| *price <= self.span)
        else {
            return (Verdict::Never, state);
        };
        // What is free of the span decides; sums with `now` could overflow.
        let free = self.span.saturating_sub(Self::ahead(state, now));
        match free.checked_sub(price) {
            Some(left) => {
                let remaining = count(left / self.interval);
                let next = Nanos(state.max(now).0.saturating_add(price));
                (Verdict::Allowed { remaining }, next)
            }
            None => {
                let at = Nanos(state.0 - (self.span - price));
                (Verdict::NotUntil(at), state)
            }
        }
    }
}

impl Meter for Gcra {
    type State = Nanos;

    fn ask(&self, state: &Nanos, n: u32, now: Nanos) -> Verdict {
        self.step(*state, n, now).0
    }

    #[inline]
    fn spend(&self, state: &mut Nanos, n: u32, now: Nanos) -> Verdict {
        let (verdict, next) = self.step(*state, n, now);
        *state = next;
        verdict
    }

    fn spent(&self, state: &Nanos, now: Nanos) -> u32 {
        count(Self::ahead(*state, now).div_ceil(self.interval))
    }

    fn remaining(&self, state: &Nanos, now: Nanos) -> u32 {
        count(self.span.saturating_sub(Self::ahead(*state, now)) / self.interval)
    }

    fn idle_at(&self, state: &Nanos) -> Nanos {
        *state
    }

    fn most(&self) -> u32 {
        count(self.span / self.interval)
    }

    fn debt(&self, state: &Nanos, now: Nanos) -> Debt {
        Debt::new(u128::from(Self::ahead(*state, now)), self.interval)
    }

    fn falls_to(&self, state: &Nanos, cells: u32) -> Nanos {
        let still_out = self.interval.saturating_mul(u64::from(cells));
        Nanos(state.0.saturating_sub(still_out))
    }

    fn owing(&self, debt: Debt, now: Nanos) -> Nanos {
        match debt.time(self.interval) {
            0 => Nanos(0),
            ahead => Nanos(now.0.saturating_add(ahead)),
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.span == 0
    }
}

impl Word for Gcra {
    fn pack(&self, state: &Nanos) -> u64 {
        state.0
    }

    fn unpack(&self, word: u64) -> Nanos {
        Nanos(word)
    }
}
