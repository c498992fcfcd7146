//! Where time comes from: [`Clock`], and [`ManualClock`] for tests.

use std::{
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use ratelimit_meter::clock::Reference;
use tokio::time::Instant;

/// An instant: nanoseconds since the Unix epoch, up to the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    /// The time from `earlier` to here, or zero if `earlier` is not earlier.
    pub(crate) fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole nanoseconds, held at what 64 bits can say.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Nanos {
    type Output = Nanos;

    fn add(self, rhs: Duration) -> Nanos {
        Nanos(self.0.saturating_add(nanos(rhs)))
    }
}

impl Reference for Nanos {
    fn duration_since(&self, earlier: Self) -> Duration {
        self.since(earlier)
    }

    fn saturating_sub(&self, duration: Duration) -> Self {
        // The trait asks for the reading itself, not for zero, on underflow.
        self.0.checked_sub(nanos(duration)).map_or(*self, Nanos)
    }
}

/// Where a limiter reads the time.
///
/// The default, [`Clock::system`], is steady: it asks the wall clock once, when
/// it is made, and from then on adds what [`tokio::time::Instant`] measures. So
/// fixed windows line up with the epoch, a wall clock that is set back or
/// forward moves no quota, and a test under tokio's paused time moves the
/// limiter's time with its own.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_rate_limit::{Clock, KeyedLimiter, Quota};
///
/// let time = Clock::manual();
/// let limiter = KeyedLimiter::builder(Quota::per_second(1)).clock(time.clock()).build();
///
/// assert!(limiter.check("ada").is_allowed());
/// assert!(!limiter.check("ada").is_allowed());
/// time.advance(Duration::from_secs(1));
/// assert!(limiter.check("ada").is_allowed());
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { origin: Instant, epoch: Nanos },
    Manual(ManualClock),
}

impl Clock {
    /// A clock that follows tokio's time, aligned with the wall clock as it is now.
    #[must_use]
    pub fn system() -> Self {
        // A wall clock before 1970 aligns windows with the moment of the start.
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(Source::System {
            origin: Instant::now(),
            epoch: Nanos(nanos(wall)),
        })
    }

    /// A clock that stands at the Unix epoch until it is moved by hand.
    #[must_use]
    pub fn manual() -> ManualClock {
        ManualClock::default()
    }

    pub(crate) fn now(&self) -> Nanos {
        match &self.0 {
            Source::System { origin, epoch } => {
                *epoch + Instant::now().saturating_duration_since(*origin)
            }
            Source::Manual(manual) => Nanos(manual.now.load(Ordering::SeqCst)),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// The hand on a manual [`Clock`]; all clones move the same one.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
}

impl ManualClock {
    /// Returns the clock that this hand moves.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// Sets the clock to a time since the Unix epoch, in the past too.
    pub fn set(&self, since_epoch: Duration) {
        self.now.store(nanos(since_epoch), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_follows_paused_time() {
        let clock = Clock::system();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(90));
    }

    #[test]
    fn the_system_clock_starts_at_the_wall_clock() {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(Clock::system().now() >= Nanos(nanos(wall)));
    }

    #[test]
    fn subtraction_keeps_the_contract_of_the_reference_trait() {
        let at = Nanos(5);
        assert_eq!(at.duration_since(Nanos(9)), Duration::ZERO);
        assert_eq!(at.saturating_sub(Duration::from_nanos(2)), Nanos(3));
        assert_eq!(at.saturating_sub(Duration::from_nanos(6)), at);
        assert_eq!(Nanos(u64::MAX) + Duration::MAX, Nanos(u64::MAX));
    }
}
