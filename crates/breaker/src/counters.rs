//! How calls ended, counted without the callers getting in each other's way.

use std::sync::atomic::{AtomicU64, Ordering};

use perennial_lifecycle::Lane;

use crate::machine::{Nanos, Verdict};

/// The counters of one lane, on a cache line pair of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    successes: AtomicU64,
    failures: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

/// Each count is a sum over the stripes, exact as soon as the calls counted are over.
#[derive(Debug)]
pub(crate) struct Counters {
    stripes: [Stripe; Lane::COUNT],
    late: AtomicU64,
    /// Those of the late that were successes.
    late_successes: AtomicU64,
    slow: AtomicU64,
    injected: AtomicU64,
    reported: AtomicU64,
    /// The time of the last failure plus one; 0 if there was none.
    last_failure: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) cancelled: u64,
    pub(crate) refused: u64,
    pub(crate) late: u64,
    pub(crate) slow: u64,
    pub(crate) injected: u64,
    pub(crate) reported: u64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            stripes: std::array::from_fn(|_| Stripe::default()),
            late: AtomicU64::new(0),
            late_successes: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            injected: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            last_failure: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn ended(&self, verdict: Verdict) {
        let lane = Lane::current();
        let stripe = &self.stripes[lane.index()];
        let counter = match verdict {
            Verdict::Success => &stripe.successes,
            Verdict::Failure => &stripe.failures,
            Verdict::Cancelled => &stripe.cancelled,
        };
        lane.count(counter);
    }

    pub(crate) fn refused(&self, injected: bool) {
        let lane = Lane::current();
        lane.count(&self.stripes[lane.index()].refused);
        if injected {
            self.injected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one that is late; to be followed by [`ended`](Self::ended).
    pub(crate) fn late(&self, verdict: Verdict) {
        self.late.fetch_add(1, Ordering::Relaxed);
        if verdict == Verdict::Success {
            self.late_successes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many successes were not late.
    pub(crate) fn successes_in_time(&self) -> u64 {
        // A late one may be counted as such and not yet as a success.
        let late = self.late_successes.load(Ordering::Relaxed);
        self.sum(|stripe| &stripe.successes).saturating_sub(late)
    }

    fn sum(&self, counter: fn(&Stripe) -> &AtomicU64) -> u64 {
        let stripes = self.stripes.iter();
        stripes
            .map(|stripe| counter(stripe).load(Ordering::Relaxed))
            .sum()
    }

    pub(crate) fn slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reported(&self) {
        self.reported.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed_at(&self, now: Nanos) {
        self.last_failure
            .fetch_max(now.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn last_failure(&self) -> Option<Nanos> {
        self.last_failure.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            successes: self.sum(|stripe| &stripe.successes),
            failures: self.sum(|stripe| &stripe.failures),
            cancelled: self.sum(|stripe| &stripe.cancelled),
            refused: self.sum(|stripe| &stripe.refused),
            late: self.late.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
            injected: self.injected.load(Ordering::Relaxed),
            reported: self.reported.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_threads() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counters.ended(Verdict::Success);
                        counters.ended(Verdict::Failure);
                        counters.refused(false);
                    }
                    counters.ended(Verdict::Cancelled);
                });
            }
        });
        let expected = Totals {
            successes: 2_000,
            failures: 2_000,
            cancelled: 20,
            refused: 2_000,
            late: 0,
            slow: 0,
            injected: 0,
            reported: 0,
        };
        assert_eq!(counters.totals(), expected);
    }

    #[test]
    fn a_failure_at_time_zero_is_a_failure() {
        let counters = Counters::new();
        assert_eq!(counters.last_failure(), None);
        counters.failed_at(0);
        assert_eq!(counters.last_failure(), Some(0));
    }
}
