//! The time of one tree, cheap enough to be read for every message.

use std::time::Duration;

use tokio::time::Instant;

/// A moment on the clock of a tree: nanoseconds since the clock was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than all others: the deadline of what has none.
    pub const NEVER: Self = Self(u64::MAX);

    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to here, or zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment so much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

/// The clock of one tree.
///
/// Made where tokio's time is paused, as in a test, it follows tokio's time. Elsewhere it reads the processor's
/// counter, in a third of the time that a reading of the machine's clock takes; that is off by some millionths.
#[derive(Debug)]
pub struct Clock(Source);

#[derive(Debug)]
enum Source {
    Counter { clock: quanta::Clock, begin: u64 },
    Tokio(Instant),
}

impl Clock {
    /// Makes a clock that begins now.
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

    /// Returns the present moment.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(match &self.0 {
            Source::Counter { clock, begin } => clock.delta_as_nanos(*begin, clock.raw()),
            Source::Tokio(begin) => nanos(begin.elapsed()),
        })
    }

    /// Returns how long ago a moment was; zero for one that is to come.
    #[must_use]
    pub fn since(&self, moment: Moment) -> Duration {
        self.now().since(moment)
    }

    /// Returns how long it is until a moment; zero for one that is past.
    #[must_use]
    pub fn until(&self, moment: Moment) -> Duration {
        moment.since(self.now())
    }

    /// Returns a past moment on tokio's clock.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.since(moment)).unwrap_or(now)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells whether tokio's clock is the machine's. Tokio does not say whether its time is paused, but a paused clock
/// does not read the same as the machine's between two readings of the machine's.
#[expect(
    clippy::disallowed_types,
    reason = "it is compared with tokio's, to find out whether that is paused"
)]
fn is_tokio_real() -> bool {
    let before = std::time::Instant::now();
    let tokio = Instant::now().into_std();
    before <= tokio && tokio <= std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_follows_paused_time() {
        let clock = Clock::new();
        let begin = clock.now();
        tokio::time::advance(MINUTE).await;
        assert_eq!(clock.since(begin), MINUTE);
        assert_eq!(clock.until(begin.after(2 * MINUTE)), MINUTE);
        assert_eq!(Instant::now() - clock.instant(begin), MINUTE);
    }

    #[test]
    fn it_goes_with_the_machine() {
        let clock = Clock::new();
        assert!(matches!(clock.0, Source::Counter { .. }));
        let (begin, instant) = (clock.now(), Instant::now());
        while instant.elapsed() < Duration::from_millis(20) {}
        let (took, true_time) = (clock.since(begin), instant.elapsed());
        assert!(
            took.abs_diff(true_time) < true_time / 2,
            "{took:?} {true_time:?}"
        );
    }
}
