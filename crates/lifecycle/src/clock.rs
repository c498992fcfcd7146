//! The time of one tree, cheap enough to be read for every message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
/// Made where tokio's time is paused, as in a test, it follows tokio's time. Elsewhere it is the machine's monotonic
/// clock, and [`recent`](Self::recent) stays with that when tokio's time is paused later: a test pauses it before it
/// makes a tree.
#[derive(Debug)]
pub struct Clock {
    source: Source,
    /// What the cheap reading may be late, in nanoseconds.
    grain: u64,
}

#[derive(Debug)]
enum Source {
    /// Both at the same moment.
    #[cfg(target_os = "linux")]
    Machine {
        begin: u64,
        instant: Instant,
    },
    Tokio(Instant),
}

impl Clock {
    /// Makes a clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        #[cfg(target_os = "linux")]
        if is_tokio_real() {
            let (begin, instant) = (machine::read(machine::EXACT), Instant::now());
            let source = Source::Machine { begin, instant };
            let grain = machine::grain();
            return Self { source, grain };
        }
        Self {
            source: Source::Tokio(Instant::now()),
            grain: 0,
        }
    }

    /// Returns the present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(match &self.source {
            #[cfg(target_os = "linux")]
            // Tokio's, which may be paused later.
            Source::Machine { instant, .. } => nanos(instant.elapsed()),
            Source::Tokio(begin) => nanos(begin.elapsed()),
        })
    }

    /// Returns a moment that is at most [`grain`](Self::grain) ago, in a sixth of the time.
    #[inline]
    #[must_use]
    pub fn recent(&self) -> Moment {
        match &self.source {
            #[cfg(target_os = "linux")]
            Source::Machine { begin, .. } => {
                Moment(machine::read(machine::COARSE).saturating_sub(*begin))
            }
            Source::Tokio(begin) => since(*begin),
        }
    }

    /// Returns how late [`recent`](Self::recent) may be: some milliseconds, and nothing where tokio's time is followed.
    #[must_use]
    pub fn grain(&self) -> Duration {
        Duration::from_nanos(self.grain)
    }

    /// Returns the moment so long after a [`recent`](Self::recent) one, or a little later: never too early, though that
    /// may have been late.
    #[inline]
    #[must_use]
    pub fn after(&self, recent: Moment, time: Duration) -> Moment {
        Moment(
            recent
                .0
                .saturating_add(nanos(time).saturating_add(self.grain)),
        )
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

    /// Returns a moment on tokio's clock; no clock is read for it.
    ///
    /// [`Moment::NEVER`] is centuries away.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        let begin = match self.source {
            #[cfg(target_os = "linux")]
            Source::Machine { instant, .. } => instant,
            Source::Tokio(begin) => begin,
        };
        begin + Duration::from_nanos(moment.0)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads tokio's clock; apart, so that where that is not followed, a cheap reading needs little room on the stack.
#[cold]
fn since(begin: Instant) -> Moment {
    Moment(nanos(begin.elapsed()))
}

/// The machine's monotonic clock: exact, and as of the last tick of its timer.
#[cfg(target_os = "linux")]
mod machine {
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    pub(super) const EXACT: ClockId = ClockId::Monotonic;
    pub(super) const COARSE: ClockId = ClockId::MonotonicCoarse;
    const WALL: ClockId = ClockId::RealtimeCoarse;

    #[inline]
    pub(super) fn read(clock: ClockId) -> u64 {
        nanos(clock_gettime(clock))
    }

    pub(super) fn grain() -> u64 {
        nanos(clock_getres(COARSE))
    }

    /// The calendar's time; `None` before 1970.
    #[inline]
    pub(super) fn wall() -> Option<u64> {
        let time = clock_gettime(WALL);
        (time.tv_sec >= 0).then(|| nanos(time))
    }

    #[inline]
    fn nanos(time: Timespec) -> u64 {
        // Since the machine was started, or since 1970, so it is not negative, and 64 bits hold five centuries.
        (time.tv_sec * 1_000_000_000 + time.tv_nsec).cast_unsigned()
    }
}

/// The calendar's time as histories and events keep it: nanoseconds since 1970. What is before that begins there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u64);

impl WallTime {
    /// Returns the time of some milliseconds ago at most, in a fraction of the time that the exact one takes.
    #[inline]
    #[must_use]
    pub fn recent() -> Self {
        #[cfg(target_os = "linux")]
        if let Some(nanos) = machine::wall() {
            return Self(nanos);
        }
        SystemTime::now().into()
    }

    /// Returns the present time.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for WallTime {
    fn from(time: SystemTime) -> Self {
        Self(nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl From<WallTime> for SystemTime {
    fn from(time: WallTime) -> Self {
        UNIX_EPOCH + Duration::from_nanos(time.0)
    }
}

fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(time.subsec_nanos().into())
}

/// Tells whether tokio's clock is the machine's, and not paused as in a test.
///
/// Tokio does not say so, but a paused clock does not read the same as the machine's between two readings of the
/// machine's.
#[must_use]
#[expect(
    clippy::disallowed_types,
    reason = "it is compared with tokio's, to find out whether that is paused"
)]
pub fn is_tokio_real() -> bool {
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
        assert_eq!(clock.recent(), clock.now());
        assert_eq!(clock.until(begin.after(2 * MINUTE)), MINUTE);
        assert_eq!(Instant::now() - clock.instant(begin), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_is_recognised_also_after_it_moved() {
        assert!(!is_tokio_real());
        tokio::time::advance(MINUTE).await;
        assert!(!is_tokio_real());
        tokio::time::resume();
        tokio::time::pause();
        assert!(!is_tokio_real());
    }

    #[test]
    fn a_recent_calendar_time_is_recent() {
        let before = SystemTime::now();
        let recent = SystemTime::from(WallTime::recent());
        assert!(recent <= SystemTime::now());
        // Far more than any timer's tick, and far less than what is wrong about another clock.
        assert!(recent + MINUTE >= before);
    }

    #[test]
    fn it_goes_with_the_machine_and_a_recent_moment_is_recent() {
        let clock = Clock::new();
        let (begin, instant) = (clock.now(), Instant::now());
        for _ in 0..1_000 {
            let (recent, now) = (clock.recent(), clock.now());
            // The two beginnings are a moment apart.
            assert!(
                recent <= now.after(Duration::from_millis(1)),
                "{recent:?} {now:?}"
            );
        }
        let (took, true_time) = (clock.since(begin), instant.elapsed());
        assert!(
            took >= true_time.saturating_sub(clock.grain()),
            "{took:?} {true_time:?}"
        );
        let soon = clock.after(begin, MINUTE);
        assert_eq!(soon, begin.after(MINUTE).after(clock.grain()));
        assert_eq!(clock.after(begin, Duration::MAX), Moment::NEVER);
    }
}
