//! How long handlers took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use once_cell::race::OnceBox;

/// Two buckets for each doubling, from 128 ns to about 9 minutes; the last holds all that is longer.
const BUCKETS: usize = 64;
const FIRST: u32 = 7;

/// The times of an actor's handlers, written by the actor alone and read by anybody.
///
/// Made by the first that is handled: an actor that fails at its first message is back sooner without.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// A bit for each bucket that is not empty: few are, and whoever reads the times of many actors waits for memory.
    filled: AtomicU64,
    counts: OnceBox<[AtomicU64; BUCKETS]>,
}

impl Times {
    #[inline]
    pub(crate) fn record(&self, nanos: u64) {
        let counts = self
            .counts
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]));
        let bucket = bucket(nanos);
        // One writer: a plain store is enough, and cheaper than a read-modify-write.
        let count = &counts[bucket];
        count.store(count.load(Relaxed) + 1, Relaxed);
        self.filled
            .store(self.filled.load(Relaxed) | 1 << bucket, Relaxed);
    }

    pub(crate) fn read(&self) -> HandlerTimes {
        let mut times = HandlerTimes {
            filled: self.filled.load(Relaxed),
            counts: [0; BUCKETS],
        };
        if let Some(counts) = self.counts.get() {
            for bucket in bits(times.filled) {
                times.counts[bucket] = counts[bucket].load(Relaxed);
            }
        }
        times
    }
}

/// Goes over the buckets that are not empty.
fn bits(mut filled: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bucket = (filled != 0).then(|| filled.trailing_zeros())?;
        filled &= filled - 1;
        usize::try_from(bucket).ok()
    })
}

#[inline]
fn bucket(nanos: u64) -> usize {
    let octave = (nanos | 1).ilog2();
    if octave < FIRST {
        return 0;
    }
    let half = (nanos >> (octave - 1)) & 1;
    let index = 2 * u64::from(octave - FIRST) + half + 1;
    usize::try_from(index).map_or(BUCKETS - 1, |it| it.min(BUCKETS - 1))
}

/// Returns the shortest time that no longer belongs to a bucket.
fn limit(bucket: usize) -> Duration {
    let halves = u32::try_from(bucket).unwrap_or(u32::MAX);
    let octave = 1_u64 << (FIRST + halves / 2);
    Duration::from_nanos(if halves % 2 == 0 {
        octave
    } else {
        octave / 2 * 3
    })
}

/// A histogram of the times that handlers took, exact to half a doubling.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HandlerTimes {
    filled: u64,
    counts: [u64; BUCKETS],
}

impl HandlerTimes {
    /// Returns how many were measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        bits(self.filled).map(|bucket| self.counts[bucket]).sum()
    }

    /// Returns the time within which this share of the handlers were through, 0.5 for the median; the limit above, so
    /// at most half as long again as the true value. `None` when none was measured.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count that is far below 2^52"
        )]
        let rank = ((count as f64) * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        (count > 0).then_some(())?;
        let at = bits(self.filled).find(|bucket| {
            seen += self.counts[*bucket];
            seen >= rank
        });
        at.map(limit)
    }

    /// Goes over the buckets that are not empty: the time below which its handlers stayed, and how many they were.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        bits(self.filled).map(|bucket| (limit(bucket), self.counts[bucket]))
    }
}

impl std::fmt::Debug for HandlerTimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_below_the_limit_of_its_bucket_and_not_below_that_of_the_one_before() {
        for shift in 0..40 {
            for nanos in [
                1_u64 << shift,
                (1 << shift) + 1,
                (3 << shift) / 2,
                (2 << shift) - 1,
            ] {
                let bucket = bucket(nanos);
                let time = Duration::from_nanos(nanos);
                assert!(bucket == BUCKETS - 1 || time < limit(bucket), "{time:?}");
                assert!(bucket == 0 || time >= limit(bucket - 1), "{time:?}");
            }
        }
    }

    #[test]
    fn a_quantile_is_at_most_half_as_long_again() {
        let times = Times::default();
        assert_eq!(times.read().quantile(0.5), None);
        for micros in 1..=1_000 {
            times.record(micros * 1_000);
        }
        let times = times.read();
        assert_eq!(times.count(), 1_000);
        for (share, micros) in [(0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let (seen, exact) = (
                times.quantile(share).unwrap(),
                Duration::from_micros(micros),
            );
            assert!(seen >= exact && seen <= exact * 3 / 2, "{share}: {seen:?}");
        }
    }
}
