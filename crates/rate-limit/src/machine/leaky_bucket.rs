//! The leaky bucket, which fills with cells and drains evenly.

use super::{Debt, Meter, Verdict, cell::Word, count};
use crate::{
    clock::Nanos,
    quota::{LONGEST, Quota},
};

/// The leaky bucket as a meter: ITU-T I.371, annex A, the continuous-state leaky bucket.
///
/// A cell pours one interval into the bucket, the bucket drains one nanosecond per nanosecond, and what would not
/// fit is refused. The standard calls it and [`Gcra`](super::Gcra) the same algorithm: one looks at a level, the other at
/// an arrival time.
///
/// The state is the instant at which the bucket runs dry: of a level and its time only their sum matters. A reading
/// that comes late sees the bucket fuller than it is, and is served less, never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeakyBucket {
    /// What one cell pours in: the time it takes to drain; at least 1.
    interval: u64,
    /// What the bucket holds; a multiple of the interval. With zero nothing fits, ever.
    size: u64,
}

impl LeakyBucket {
    pub(in crate::machine) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit(), quota.max_at_once())
    }

    pub(super) fn with(period: u64, limit: u32, burst: u32) -> Self {
        let interval = period.div_ceil(u64::from(limit.max(1))).max(1);
        let most = (LONGEST / interval).max(1);
        Self {
            interval,
            size: interval * u64::from(burst).min(most),
        }
    }

    /// How full the bucket is.
    fn level(dry_at: Nanos, now: Nanos) -> u64 {
        dry_at.0.saturating_sub(now.0)
    }
}

impl Meter for LeakyBucket {
    type State = Nanos;

    fn ask(&self, dry_at: &Nanos, n: u32, now: Nanos) -> Verdict {
        let mut dry_at = *dry_at;
        self.spend(&mut dry_at, n, now)
    }

    #[inline]
    fn spend(&self, dry_at: &mut Nanos, n: u32, now: Nanos) -> Verdict {
        let level = Self::level(*dry_at, now);
        let free = self.size.saturating_sub(level);
        if n == 0 {
            let remaining = count(free / self.interval);
            return Verdict::Allowed { remaining };
        }
        let Some(poured) = u64::from(n)
            .checked_mul(self.interval)
            .filter(|poured| *poured <= self.size)
        else {
            return Verdict::Never;
        };
        match free.checked_sub(poured) {
            Some(left) => {
                *dry_at = Nanos(now.0.saturating_add(level + poured));
                Verdict::Allowed {
                    remaining: count(left / self.interval),
                }
            }
            None => Verdict::NotUntil(Nanos(
                now.0
                    .saturating_add(level.saturating_add(poured) - self.size),
            )),
        }
    }

    fn spent(&self, dry_at: &Nanos, now: Nanos) -> u32 {
        count(Self::level(*dry_at, now).div_ceil(self.interval))
    }

    fn remaining(&self, dry_at: &Nanos, now: Nanos) -> u32 {
        count(self.size.saturating_sub(Self::level(*dry_at, now)) / self.interval)
    }

    fn idle_at(&self, dry_at: &Nanos) -> Nanos {
        *dry_at
    }

    fn most(&self) -> u32 {
        count(self.size / self.interval)
    }

    fn debt(&self, dry_at: &Nanos, now: Nanos) -> Debt {
        Debt::new(u128::from(Self::level(*dry_at, now)), self.interval)
    }

    fn falls_to(&self, dry_at: &Nanos, cells: u32) -> Nanos {
        let level = self.interval.saturating_mul(u64::from(cells));
        Nanos(dry_at.0.saturating_sub(level))
    }

    fn owing(&self, debt: Debt, now: Nanos) -> Nanos {
        match debt.time(self.interval) {
            0 => Nanos(0),
            level => Nanos(now.0.saturating_add(level)),
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.size == 0
    }
}

impl Word for LeakyBucket {
    fn pack(&self, dry_at: &Nanos) -> u64 {
        dry_at.0
    }

    fn unpack(&self, word: u64) -> Nanos {
        Nanos(word)
    }
}
