//! Rings of histograms: what happened in the last minute, hour and day.
//!
//! Time is a number of nanoseconds since the monitor's creation. It is cut into periods of one width, numbered from 0,
//! and a ring of `n` buckets holds the current period and the `n - 1` before it. A bucket that is met again `n` periods
//! later is emptied first, so that no timer and no actor is needed for a sample to leave.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::report::{LatencyStats, WindowStats};

const SECOND: u64 = 1_000_000_000;

/// Latencies from 64 ns to 60 s are told apart; above, only the exact maximum is kept.
const LOWEST: u64 = 64;
const HIGHEST: u64 = 60 * SECOND;

/// Significant digits: 1 % precision over the last minute, 7 % over the hour and the day.
const FINE: u8 = 2;
const COARSE: u8 = 1;

/// Width of the finest bucket: the widths of all rings are multiples of it.
pub(crate) const STEP: u64 = 5 * SECOND;

/// A span of time up to now.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// The last minute, in steps of 5 seconds.
    #[default]
    Minute,
    /// The last hour, in steps of 1 minute.
    Hour,
    /// The last day, in steps of 10 minutes.
    Day,
}

impl Window {
    /// Every window, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The window's name, as it is serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    pub(crate) const fn width(self) -> u64 {
        match self {
            Self::Minute => STEP,
            Self::Hour => 60 * SECOND,
            Self::Day => 600 * SECOND,
        }
    }

    const fn buckets(self) -> usize {
        match self {
            Self::Minute => 12,
            Self::Hour => 60,
            Self::Day => 144,
        }
    }

    const fn digits(self) -> u8 {
        match self {
            Self::Minute => FINE,
            Self::Hour | Self::Day => COARSE,
        }
    }

    /// The first instant that the window covers: never more than its length ago, and at most one step less.
    pub(crate) fn begin(self, now: u64) -> u64 {
        let current = now / self.width();
        let before = self.buckets() as u64 - 1;
        current.saturating_sub(before) * self.width()
    }
}

/// What was recorded in one period.
#[derive(Debug)]
pub(crate) struct Bucket {
    number: u64,
    errors: u64,
    sum: u64,
    min: u64,
    max: u64,
    latency: Histogram<u32>,
}

impl Bucket {
    pub(crate) fn new(number: u64, digits: u8) -> Self {
        Self {
            number,
            errors: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
            latency: Histogram::new_with_bounds(LOWEST, HIGHEST, digits)
                .expect("the bounds are constants that a histogram accepts"),
        }
    }

    /// The bucket of the finest width, as a place to record into.
    pub(crate) fn step() -> Self {
        Self::new(0, FINE)
    }

    /// The number of its period. A bucket that is empty may belong to any.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn count(&self) -> u64 {
        self.latency.len()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    pub(crate) fn record(&mut self, latency: u64, failed: bool) {
        self.latency.saturating_record(latency.min(HIGHEST));
        self.errors += u64::from(failed);
        self.sum = self.sum.saturating_add(latency);
        self.min = self.min.min(latency);
        self.max = self.max.max(latency);
    }

    pub(crate) fn begin(&mut self, number: u64) {
        self.number = number;
        if self.count() == 0 {
            return;
        }
        self.latency.reset();
        self.errors = 0;
        self.sum = 0;
        self.min = u64::MAX;
        self.max = 0;
    }

    fn add(&mut self, other: &Self) {
        let added = self.latency.add(&other.latency);
        debug_assert!(added.is_ok(), "all histograms have the same bounds");
        self.errors += other.errors;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The latency at `permille` of the order: the sample at place `floor(p * (n - 1))`, counted from 0.
    fn percentile(&self, permille: u64) -> u64 {
        let place = permille * (self.count() - 1) / 1_000;
        let mut seen = 0;
        for step in self.latency.iter_recorded() {
            seen += u64::from(step.count_at_value());
            if seen > place {
                let middle = self.latency.median_equivalent(step.value_iterated_to());
                return middle.clamp(self.min, self.max);
            }
        }
        self.max
    }

    fn latency_stats(&self) -> Option<LatencyStats> {
        let count = self.count();
        (count > 0).then(|| LatencyStats {
            min_us: micros(self.min),
            avg_us: micros(self.sum) / count as f64,
            max_us: micros(self.max),
            p50_us: micros(self.percentile(500)),
            p95_us: micros(self.percentile(950)),
            p99_us: micros(self.percentile(990)),
        })
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.latency.distinct_values() * size_of::<u32>()
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

/// The buckets of one window.
#[derive(Debug)]
struct Ring {
    window: Window,
    buckets: Box<[Bucket]>,
}

impl Ring {
    fn new(window: Window) -> Self {
        Self {
            window,
            buckets: (0..window.buckets() as u64)
                .map(|number| Bucket::new(number, window.digits()))
                .collect(),
        }
    }

    /// Adds what was recorded in the step that began at `at`, unless the ring is past it already.
    fn add(&mut self, at: u64, step: &Bucket) {
        let number = at / self.window.width();
        let slots = self.buckets.len() as u64;
        let slot = usize::try_from(number % slots).expect("less than the number of buckets");
        let bucket = &mut self.buckets[slot];
        if bucket.number < number {
            bucket.begin(number);
        }
        if bucket.number == number {
            bucket.add(step);
        }
    }

    fn total(&self, now: u64) -> Bucket {
        let oldest = self.window.begin(now) / self.window.width();
        let mut total = Bucket::new(0, self.window.digits());
        for bucket in &self.buckets {
            // A bucket may be newer than `now`: a recorder read its clock after the reader did.
            if bucket.number >= oldest && bucket.count() > 0 {
                total.add(bucket);
            }
        }
        total
    }
}

/// The three windows of one service.
#[derive(Debug)]
pub(crate) struct Rings {
    since: u64,
    count: u64,
    errors: u64,
    rings: [Ring; 3],
    last: u64,
}

impl Rings {
    /// Nothing, as seen from `since` on.
    pub(crate) fn new(since: u64) -> Self {
        Self {
            since,
            count: 0,
            errors: 0,
            rings: Window::ALL.map(Ring::new),
            last: since,
        }
    }

    /// Takes over the samples of one step and empties it.
    pub(crate) fn absorb(&mut self, step: &mut Bucket) {
        if step.count() == 0 {
            return;
        }
        let at = step.number() * STEP;
        self.count += step.count();
        self.errors += step.errors();
        self.last = self.last.max(at);
        for ring in &mut self.rings {
            ring.add(at, step);
        }
        step.begin(step.number());
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    /// When the service was first seen.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// When the step of the last sample began.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn stats(&self, window: Window, now: u64) -> WindowStats {
        let ring = &self.rings[window as usize];
        let total = ring.total(now);
        let count = total.count();
        let from = window.begin(now).max(self.since);
        // A service that is younger than a second has no rate per second yet.
        let seconds = (now.saturating_sub(from).max(SECOND)) as f64 / SECOND as f64;
        WindowStats {
            window,
            count,
            errors: total.errors(),
            error_rate: (count > 0).then(|| total.errors() as f64 / count as f64),
            throughput: count as f64 / seconds,
            latency: total.latency_stats(),
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let buckets = self.rings.iter().flat_map(|ring| ring.buckets.iter());
        size_of::<Self>() + buckets.map(Bucket::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
