//! How long something took, cheaply.

use std::time::Duration;

use perennial_lifecycle::is_tokio_real;
use tokio::time::Instant;

/// Measures times of one service.
///
/// Made where tokio's time is paused, as in a test, it follows tokio's time. Elsewhere it reads the processor's
/// counter, in a third of the time; that is off by some millionths, and deadlines are never measured by it alone.
#[derive(Debug)]
pub(crate) enum Stopwatch {
    Counter(quanta::Clock),
    Tokio(Instant),
}

/// A reading; only its own stopwatch can tell what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading(u64);

impl Stopwatch {
    /// The first one of a process takes about a millisecond to learn the rate of the processor's counter.
    pub(crate) fn new() -> Self {
        if is_tokio_real() {
            Self::Counter(quanta::Clock::new())
        } else {
            Self::Tokio(Instant::now())
        }
    }

    pub(crate) fn read(&self) -> Reading {
        Reading(match self {
            Self::Counter(clock) => clock.raw(),
            Self::Tokio(origin) => nanos(origin.elapsed()),
        })
    }

    pub(crate) fn since(&self, begin: Reading) -> Duration {
        let Reading(now) = self.read();
        Duration::from_nanos(match self {
            Self::Counter(clock) => clock.delta_as_nanos(begin.0, now),
            Self::Tokio(_) => now.saturating_sub(begin.0),
        })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_follows_paused_time() {
        let watch = Stopwatch::new();
        let begin = watch.read();
        tokio::time::advance(MINUTE).await;
        assert_eq!(watch.since(begin), MINUTE);
    }

    #[test]
    fn it_goes_with_the_clock() {
        let watch = Stopwatch::new();
        assert!(matches!(watch, Stopwatch::Counter(_)));
        let (begin, instant) = (watch.read(), Instant::now());
        while instant.elapsed() < Duration::from_millis(20) {}
        let (took, true_time) = (watch.since(begin), instant.elapsed());
        assert!(
            took.abs_diff(true_time) < true_time / 2,
            "{took:?} {true_time:?}"
        );
    }
}
