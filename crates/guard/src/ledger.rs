//! How the operations of one service ended and how long they took, counted without the callers getting in each
//! other's way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use perennial_lifecycle::Lane;

use crate::OperationOutcome;

const OUTCOMES: usize = OperationOutcome::ALL.len();

/// Each power of two is divided in so many steps, so a bucket is at most an eighth wide.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 3;
/// Longer than two hours counts as two hours.
const LONGEST: u64 = (1 << 43) - 1;
const BUCKETS: usize = bucket(LONGEST) + 1;

/// The counts of one lane, on cache lines of their own.
#[repr(align(128))]
struct Stripe {
    /// An operation that was begun adds to one bucket and, unless it succeeded, to its outcome: the common case is
    /// one addition.
    latency: [AtomicU64; BUCKETS],
    outcomes: [AtomicU64; OUTCOMES],
    slow: AtomicU64,
}

/// Each count is a sum over the stripes, exact as soon as the calls counted are over.
pub(crate) struct Ledger(Box<[Stripe]>);

/// All that a ledger holds, summed up.
pub(crate) struct Sums {
    pub(crate) outcomes: [u64; OUTCOMES],
    pub(crate) slow: u64,
    pub(crate) latency: Latency,
}

/// How long operations took, in buckets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Latency(Vec<u64>);

impl Ledger {
    pub(crate) fn new() -> Self {
        let stripe = |_| Stripe {
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            slow: AtomicU64::new(0),
        };
        Self((0..Lane::COUNT).map(stripe).collect())
    }

    pub(crate) fn record(&self, outcome: OperationOutcome, took: Duration, slow: bool) {
        let lane = Lane::current();
        let stripe = &self.0[lane.index()];
        if outcome.was_begun() {
            lane.count(&stripe.latency[bucket(nanos(took))]);
        }
        if outcome != OperationOutcome::Success {
            lane.count(&stripe.outcomes[outcome as usize]);
        }
        if slow {
            lane.count(&stripe.slow);
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        let sum = |count: &dyn Fn(&Stripe) -> &AtomicU64| -> u64 {
            self.0.iter().map(|it| count(it).load(Relaxed)).sum()
        };
        // Before the buckets, so that what is not yet in them is not taken for a success.
        let mut outcomes = OperationOutcome::ALL.map(|it| sum(&|on| &on.outcomes[it as usize]));
        let slow = sum(&|on| &on.slow);
        let latency = Latency((0..BUCKETS).map(|it| sum(&|on| &on.latency[it])).collect());
        let others = OperationOutcome::ALL
            .into_iter()
            .filter(|it| it.was_begun())
            .map(|it| outcomes[it as usize])
            .sum();
        outcomes[OperationOutcome::Success as usize] = latency.count().saturating_sub(others);
        Sums {
            outcomes,
            slow,
            latency,
        }
    }
}

impl Latency {
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns a time that this share of the operations did not exceed; at most an eighth above the true one.
    pub(crate) fn at(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank that is off by one in 2^53 moves no percentile"
        )]
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let index = self.0.iter().position(|it| {
            seen += it;
            seen >= rank
        })?;
        Some(Duration::from_nanos(upper_end(index as u64)))
    }
}

const fn bucket(nanos: u64) -> usize {
    let nanos = if nanos > LONGEST { LONGEST } else { nanos };
    let index = if nanos < STEPS {
        nanos
    } else {
        let power = nanos.ilog2();
        let step = (nanos >> (power - STEP_BITS)) % STEPS;
        (power - STEP_BITS + 1) as u64 * STEPS + step
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a few hundred buckets at most"
    )]
    return index as usize;
}

/// The longest time that falls into a bucket, in nanoseconds.
const fn upper_end(index: u64) -> u64 {
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((STEPS + index % STEPS + 1) << shift) - 1
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_lies_in_its_bucket_and_the_bucket_is_an_eighth_wide(nanos in 0..=LONGEST) {
            let index = bucket(nanos) as u64;
            let end = upper_end(index);
            prop_assert!(nanos <= end);
            prop_assert!(index == 0 || upper_end(index - 1) < nanos);
            prop_assert!(end - nanos <= nanos / STEPS);
        }

        #[test]
        fn percentiles_agree_with_a_sorted_list(
            mut times in prop::collection::vec(0_u64..10_000_000_000, 1..200),
            share in 0.0_f64..=1.0,
        ) {
            let ledger = Ledger::new();
            for nanos in &times {
                ledger.record(OperationOutcome::Success, Duration::from_nanos(*nanos), false);
            }
            times.sort_unstable();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank among 200")]
            let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len());
            let exact = times[rank - 1];
            let told = nanos(ledger.sums().latency.at(share).unwrap());
            prop_assert!(exact <= told && told <= exact + exact / STEPS, "{exact} {told}");
        }
    }

    #[test]
    fn outcomes_add_up_over_threads() {
        let ledger = Ledger::new();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for outcome in OperationOutcome::ALL {
                        for _ in 0..=outcome as usize {
                            ledger.record(outcome, Duration::from_micros(3), outcome.was_begun());
                        }
                    }
                });
            }
        });
        let sums = ledger.sums();
        for outcome in OperationOutcome::ALL {
            assert_eq!(
                sums.outcomes[outcome as usize],
                20 * (outcome as u64 + 1),
                "{outcome}"
            );
        }
        assert_eq!(sums.latency.count(), 20 * (1 + 2 + 3 + 4 + 5));
        assert_eq!(sums.slow, sums.latency.count());
    }

    #[test]
    fn a_time_beyond_the_last_bucket_counts_in_it() {
        let ledger = Ledger::new();
        ledger.record(OperationOutcome::Success, Duration::MAX, false);
        assert_eq!(
            ledger.sums().latency.at(0.5),
            Some(Duration::from_nanos(LONGEST))
        );
        assert_eq!(Ledger::new().sums().latency.at(0.5), None);
    }
}
