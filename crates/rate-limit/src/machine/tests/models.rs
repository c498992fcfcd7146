//! What the algorithms are to decide, written down as plainly as can be.

use std::collections::BTreeMap;

use proptest::test_runner::TestCaseError;

use super::*;

/// `Ok` with what is left, or the wait; `None` for ever.
type Answer = Result<i128, Option<i128>>;

pub(super) trait Model {
    fn check(&mut self, n: u32, now: u64) -> Answer;
}

pub(super) fn model(quota: Quota) -> Box<dyn Model> {
    match quota.metered_by() {
        Algorithm::Gcra | Algorithm::LeakyBucket => Box::new(Bucket::new(quota)),
        Algorithm::TokenBucket => Box::new(Tokens::new(quota)),
        Algorithm::FixedWindow => Box::new(Windows {
            quota,
            counts: BTreeMap::new(),
        }),
        Algorithm::SlidingWindow => Box::new(Log {
            quota,
            spent: Vec::new(),
        }),
    }
}

pub(super) fn same(verdict: Verdict, now: u64, model: Answer) -> bool {
    match (verdict, model) {
        (Verdict::Allowed { remaining }, Ok(left)) => i128::from(remaining) == left,
        (Verdict::NotUntil(at), Err(Some(wait))) => i128::from(at.0) - i128::from(now) == wait,
        (Verdict::Never, Err(None)) => true,
        _ => false,
    }
}

/// Checks that no more was admitted than the algorithm may, whatever the order of the readings.
pub(super) fn assert_within(
    quota: Quota,
    start: u64,
    latest: u64,
    through: &[u64],
) -> Result<(), TestCaseError> {
    let (period, limit) = (quota.period_nanos(), u64::from(quota.limit()));
    match quota.metered_by() {
        Algorithm::Gcra | Algorithm::LeakyBucket | Algorithm::TokenBucket => {
            let back = u128::from(latest.saturating_sub(start)) * u128::from(limit);
            let most = u128::from(quota.max_at_once()) + back / u128::from(period);
            prop_assert!(
                through.len() as u128 <= most,
                "{} of {}",
                through.len(),
                most
            );
        }
        Algorithm::FixedWindow => {
            let mut windows = BTreeMap::<u64, u64>::new();
            for at in through {
                *windows.entry(at / period).or_default() += 1;
            }
            prop_assert!(windows.values().all(|n| *n <= limit), "{:?}", windows);
        }
        Algorithm::SlidingWindow => {
            for begin in through {
                let inside = through
                    .iter()
                    .filter(|at| (*begin..begin + period).contains(at));
                prop_assert!(inside.count() as u64 <= limit, "{:?}", through);
            }
        }
    }
    Ok(())
}

/// A bucket that leaks one cell per interval, in plain signed arithmetic.
struct Bucket {
    interval: i128,
    size: i128,
    level: i128,
    at: i128,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        let period = i128::from(quota.period_nanos());
        let limit = i128::from(quota.limit());
        let interval = (period + limit - 1) / limit;
        Self {
            interval,
            size: interval * i128::from(quota.max_at_once()),
            level: 0,
            at: 0,
        }
    }
}

impl Model for Bucket {
    fn check(&mut self, n: u32, now: u64) -> Answer {
        let now = i128::from(now);
        self.level = (self.level - (now - self.at)).max(0);
        self.at = now;
        let full = self.level + i128::from(n) * self.interval;
        if i128::from(n) * self.interval > self.size {
            return Err(None);
        }
        if full > self.size {
            return Err(Some(full - self.size));
        }
        self.level = full;
        Ok((self.size - full) / self.interval)
    }
}

/// Parts of a token: the limit's share of a period comes back each nanosecond, and a period makes a token. What
/// is missing from a full bucket is rounded to whole tokens against the caller.
struct Tokens {
    limit: i128,
    period: i128,
    burst: i128,
    missing_parts: i128,
    at: i128,
}

impl Tokens {
    fn new(quota: Quota) -> Self {
        Self {
            limit: i128::from(quota.limit()),
            period: i128::from(quota.period_nanos()),
            burst: i128::from(quota.max_at_once()),
            missing_parts: 0,
            at: 0,
        }
    }
}

impl Model for Tokens {
    fn check(&mut self, n: u32, now: u64) -> Answer {
        let (n, now) = (i128::from(n), i128::from(now));
        self.missing_parts = (self.missing_parts - (now - self.at) * self.limit).max(0);
        self.at = now;
        if n > self.burst {
            return Err(None);
        }
        let wanted = self.missing_parts + n * self.period;
        let most = self.burst * self.period;
        if n > 0 && wanted > most {
            return Err(Some((wanted - most + self.limit - 1) / self.limit));
        }
        self.missing_parts = wanted;
        Ok((most - wanted).div_euclid(self.period))
    }
}

/// Counts per window number.
struct Windows {
    quota: Quota,
    counts: BTreeMap<u64, u64>,
}

impl Model for Windows {
    fn check(&mut self, n: u32, now: u64) -> Answer {
        let (window, limit) = (self.quota.period_nanos(), u64::from(self.quota.limit()));
        if u64::from(n) > limit {
            return Err(None);
        }
        let current = now / window;
        let counted = self.counts.get(&current).copied().unwrap_or(0);
        let fits = counted + u64::from(n) <= limit;
        if n > 0 && (fits || counted >= limit) {
            self.counts.insert(current, counted + u64::from(n));
        }
        if fits || n == 0 {
            Ok(i128::from(limit.saturating_sub(counted + u64::from(n))))
        } else {
            Err(Some(i128::from((current + 1) * window) - i128::from(now)))
        }
    }
}

/// Every cell with the time at which it was spent. Above a limit of 64 a cell stands for all of its 64th of the
/// period, and leaves with the last of them.
struct Log {
    quota: Quota,
    spent: Vec<u64>,
}

impl Log {
    fn leaves(&self, at: u64) -> u64 {
        let period = self.quota.period_nanos();
        let slot = period.div_ceil(64);
        let together = self
            .spent
            .iter()
            .filter(|other| **other / slot == at / slot);
        let last = match self.quota.limit() {
            0..=64 => at,
            _ => together.copied().max().unwrap_or(at),
        };
        last + period
    }
}

impl Model for Log {
    fn check(&mut self, n: u32, now: u64) -> Answer {
        let limit = self.quota.limit() as usize;
        let n = n as usize;
        if n > limit {
            return Err(None);
        }
        let mut leaves: Vec<_> = self.spent.iter().map(|at| self.leaves(*at)).collect();
        leaves.sort_unstable();
        let gone = leaves.iter().filter(|at| **at <= now).count();
        let inside = leaves.len() - gone;
        if n == 0 || inside + n <= limit {
            // Who shares a 64th leaves together, so the first ones to come are the first to leave.
            self.spent.drain(..gone);
            self.spent.extend(std::iter::repeat_n(now, n));
            return Ok((limit - inside - n) as i128);
        }
        let at = leaves[gone + inside + n - limit - 1];
        Err(Some(i128::from(at) - i128::from(now)))
    }
}
