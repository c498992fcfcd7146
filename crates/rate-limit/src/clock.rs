//! Where time comes from: [`Clock`], and [`ManualClock`] for tests.

use std::{
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use perennial_lifecycle::{Count, is_tokio_real};
use ratelimit_meter::clock::Reference;
use tokio::time::Instant;

/// An instant: nanoseconds since the Unix epoch, up to the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub(crate) u64);

impl Nanos {
    /// The instant so many nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn new(since_epoch: u64) -> Self {
        Self(since_epoch)
    }

    /// Returns how many nanoseconds it is after the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same on the calendar.
    pub(crate) fn on_calendar(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)
    }

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
/// The default, [`Clock::system`], is steady: it asks the wall clock once, when it is made, and from then on adds what
/// a monotonic clock measures. So fixed windows line up with the epoch, and a wall clock that is set back or forward
/// moves no quota.
///
/// Made where tokio's time is paused, as in a test, it follows tokio's time. Elsewhere it reads the processor's
/// counter, in a third of the time; what the counter drifts is corrected at each sweep. So it does when tokio's time is
/// paused later, and sees what has passed there only at a sweep: a test pauses it first, or takes
/// [`Clock::tokio`].
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
    Counter(Arc<Counter>),
    Tokio(Origin),
    Manual(ManualClock),
}

/// A moment on tokio's clock and on the calendar.
#[derive(Clone, Copy, Debug)]
struct Origin {
    instant: Instant,
    epoch: Nanos,
}

impl Origin {
    fn new() -> Self {
        // A wall clock before 1970 aligns windows with the moment of the start.
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            instant: Instant::now(),
            epoch: Nanos(nanos(wall)),
        }
    }

    // Out of the way of the counter, which is read unless tokio's time is paused.
    #[cold]
    fn now(&self) -> Nanos {
        self.epoch + Instant::now().saturating_duration_since(self.instant)
    }
}

/// The processor's counter, and what to add to it.
#[derive(Debug)]
struct Counter {
    clock: quanta::Clock,
    begin: u64,
    origin: Origin,
    /// The reading is `offset` plus what the counter measured since `begin`.
    offset: AtomicU64,
}

impl Counter {
    fn new(origin: Origin) -> Self {
        let clock = quanta::Clock::new();
        let counter = Self {
            begin: clock.raw(),
            clock,
            origin,
            offset: AtomicU64::new(origin.epoch.0),
        };
        counter.correct();
        counter
    }

    fn measured(&self) -> u64 {
        self.clock.delta_as_nanos(self.begin, self.clock.raw())
    }

    #[inline]
    fn at(&self, count: u64) -> Nanos {
        let measured = self.clock.delta_as_nanos(self.begin, count);
        Nanos(self.offset.load(Ordering::Relaxed).wrapping_add(measured))
    }

    /// The counter's rate is known to some millionths only, which would be seconds a day.
    fn correct(&self) {
        // A pause of this thread between the readings would count as drift: the closest of a few pairs is taken.
        let pairs = (0..4).map(|_| {
            let (before, now, after) = (self.measured(), self.origin.now(), self.measured());
            (
                after.saturating_sub(before),
                now.0.wrapping_sub(before.midpoint(after)),
            )
        });
        if let Some((_, offset)) = pairs.min() {
            self.offset.store(offset, Ordering::Relaxed);
        }
    }
}

impl Clock {
    /// A steady clock, aligned with the wall clock as it is now.
    ///
    /// The first one of a process takes about a millisecond to learn the rate of the processor's counter.
    #[must_use]
    pub fn system() -> Self {
        let origin = Origin::new();
        Self(if is_tokio_real() {
            Source::Counter(Arc::new(Counter::new(origin)))
        } else {
            Source::Tokio(origin)
        })
    }

    /// A clock that follows tokio's time, aligned with the wall clock as it is now.
    ///
    /// Use it where tokio's time is paused only after the limiter was made.
    #[must_use]
    pub fn tokio() -> Self {
        Self(Source::Tokio(Origin::new()))
    }

    /// A clock that stands at the Unix epoch until it is moved by hand.
    #[must_use]
    pub fn manual() -> ManualClock {
        ManualClock::default()
    }

    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        match &self.0 {
            Source::Counter(counter) => counter.at(counter.clock.raw()),
            Source::Tokio(origin) => origin.now(),
            Source::Manual(manual) => Nanos(manual.now.load(Ordering::SeqCst)),
        }
    }

    /// Tells the time when the processor's counter showed this, and the present time if it does not go by that.
    #[inline]
    pub(crate) fn at(&self, count: Count) -> Nanos {
        match &self.0 {
            Source::Counter(counter) => counter.at(count.get()),
            Source::Tokio(_) | Source::Manual(_) => self.now(),
        }
    }

    #[cfg(test)]
    pub(crate) fn drift(&self, by: Duration) {
        if let Source::Counter(counter) = &self.0 {
            counter.offset.fetch_add(nanos(by), Ordering::Relaxed);
        }
    }

    /// Takes out what the clock has drifted.
    pub(crate) fn correct(&self) {
        if let Source::Counter(counter) = &self.0 {
            counter.correct();
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

    #[tokio::test]
    async fn the_counter_reads_as_the_machine_does() {
        assert!(is_tokio_real());
        let clock = Clock::system();
        let Source::Counter(counter) = &clock.0 else {
            panic!("{clock:?}");
        };
        let differences = (0..100).map(|_| {
            clock.correct();
            let (theirs, ours) = (counter.origin.now(), clock.now());
            ours.since(theirs).max(theirs.since(ours))
        });
        // Of a hundred tries one is not interrupted.
        let least = differences.min().unwrap();
        assert!(least < Duration::from_micros(50), "{least:?}");
    }

    #[test]
    fn the_system_clock_starts_at_the_wall_clock() {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        // The counter's rate is known to some millionths.
        let slack = Duration::from_millis(1);
        assert!(Clock::system().now() + slack >= Nanos(nanos(wall)));
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
