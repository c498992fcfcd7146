//! How long something took, cheaply.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Moment, is_tokio_real};

/// Measures how long things take, for whoever does so at each of many calls.
///
/// Made where tokio's time is paused, as in a test, it follows tokio's time. Elsewhere it reads the processor's
/// counter, in a third of the time; that is off by some millionths, so its moments are compared with each other only,
/// and nothing that must be in time goes by it alone. It does so as well when tokio's time is paused later: a test pauses it
/// first.
#[derive(Debug)]
pub struct Stopwatch(Source);

/// What a stopwatch showed; only it can tell what that means.
#[derive(Clone, Copy, Debug)]
pub struct Reading(u64);

/// What the processor's counter showed, for another clock that goes by it.
#[derive(Clone, Copy, Debug)]
pub struct Count(u64);

impl Count {
    /// Returns the bare number.
    #[inline]
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
enum Source {
    Counter { clock: quanta::Clock, begin: u64 },
    Tokio(Instant),
}

impl Stopwatch {
    /// Makes one that begins now.
    ///
    /// The first one of a process takes about a millisecond to learn the rate of the processor's counter.
    #[must_use]
    pub fn new() -> Self {
        Self(if is_tokio_real() {
            let clock = quanta::Clock::new();
            let begin = clock.raw();
            Source::Counter { clock, begin }
        } else {
            Source::Tokio(Instant::now())
        })
    }

    /// Returns the present moment, since this stopwatch was made.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_nanos(match &self.0 {
            Source::Counter { clock, begin } => clock.delta_as_nanos(*begin, clock.raw()),
            Source::Tokio(begin) => u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX),
        })
    }

    /// Returns the moment at which the processor's counter showed this, or the present one where it is not the counter
    /// that is read. What was before this stopwatch was made is its beginning.
    #[inline]
    #[must_use]
    pub fn at(&self, count: Count) -> Moment {
        match &self.0 {
            Source::Counter { clock, begin } => {
                Moment::from_nanos(clock.delta_as_nanos(*begin, count.0))
            }
            Source::Tokio(_) => self.now(),
        }
    }

    /// Reads it, for [`since`](Self::since) alone; a little cheaper than [`now`](Self::now).
    #[inline]
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading(match &self.0 {
            Source::Counter { clock, .. } => clock.raw(),
            Source::Tokio(_) => self.now().as_nanos(),
        })
    }

    /// Returns what the processor's counter showed; `None` if it was not the counter that was read.
    #[inline]
    #[must_use]
    pub fn count(&self, reading: Reading) -> Option<Count> {
        match &self.0 {
            Source::Counter { .. } => Some(Count(reading.0)),
            Source::Tokio(_) => None,
        }
    }

    /// Returns the time from one reading to a later one.
    #[inline]
    #[must_use]
    pub fn between(&self, earlier: Reading, later: Reading) -> Duration {
        Duration::from_nanos(match &self.0 {
            Source::Counter { clock, .. } => clock.delta_as_nanos(earlier.0, later.0),
            Source::Tokio(_) => later.0.saturating_sub(earlier.0),
        })
    }

    /// Returns how long ago it was read.
    #[must_use]
    pub fn since(&self, reading: Reading) -> Duration {
        self.between(reading, self.read())
    }
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_follows_paused_time() {
        let watch = Stopwatch::new();
        let (begin, reading) = (watch.now(), watch.read());
        tokio::time::advance(MINUTE).await;
        assert_eq!(watch.now().since(begin), MINUTE);
        assert_eq!(watch.since(reading), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_a_moment_of_each_stopwatch() {
        // One was made where tokio's time is not paused.
        let other = std::thread::spawn(Stopwatch::new).join().unwrap();
        let before = other.now();
        let count = other.count(other.read()).unwrap();
        let after = other.now();
        assert!((before..=after).contains(&other.at(count)));
        let late = std::thread::spawn(Stopwatch::new).join().unwrap();
        assert_eq!(late.at(count), Moment::default());

        let paused = Stopwatch::new();
        tokio::time::advance(MINUTE).await;
        assert_eq!(paused.at(count), paused.now());
    }

    #[test]
    fn it_goes_with_the_clock() {
        let watch = Stopwatch::new();
        assert!(matches!(watch.0, Source::Counter { .. }));
        let (begin, reading, instant) = (watch.now(), watch.read(), Instant::now());
        while instant.elapsed() < Duration::from_millis(20) {}
        let took = [watch.now().since(begin), watch.since(reading)];
        let true_time = instant.elapsed();
        assert!(
            took.iter()
                .all(|took| took.abs_diff(true_time) < true_time / 2),
            "{took:?} {true_time:?}"
        );
    }
}
