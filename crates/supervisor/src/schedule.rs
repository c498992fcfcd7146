//! The delays of a backoff, one after the other.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Backoff};

type Delays = Box<dyn Iterator<Item = Duration> + Send + Sync>;

/// Where a child is in its backoff.
pub(crate) struct Schedule {
    backoff: Backoff,
    delays: Delays,
    random: fastrand::Rng,
    attempt: u32,
}

impl Schedule {
    pub(crate) fn new(backoff: Backoff, place: &ActorPath) -> Self {
        let random = backoff
            .jitter_seed()
            .map_or_else(fastrand::Rng::new, |seed| {
                // Siblings of one spec that crash together must not come back together.
                let mut hasher = DefaultHasher::new();
                (seed, place).hash(&mut hasher);
                fastrand::Rng::with_seed(hasher.finish())
            });
        Self {
            delays: backoff.delays(),
            backoff,
            random,
            attempt: 0,
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff
    }

    /// Returns the next delay, and which one in a row it is.
    pub(crate) fn next(&mut self) -> (Duration, u32) {
        self.attempt = self.attempt.saturating_add(1);
        // The schedules have no end.
        let delay = self.delays.next().unwrap_or(self.backoff.first());
        let share = 1.0 - self.backoff.jitter_share() * self.random.f64();
        (tidy(delay.mul_f64(share)), self.attempt)
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        if self.attempt > 0 {
            self.attempt = 0;
            self.delays = self.backoff.delays();
        }
    }
}

/// Rounds away what a product of floating-point numbers leaves behind: a delay of 200.000003 ms.
fn tidy(delay: Duration) -> Duration {
    let step = if delay < Duration::from_secs(1) {
        1_000
    } else {
        1_000_000
    };
    let nanos = delay.as_nanos();
    let rounded = (nanos + step / 2) / step * step;
    u64::try_from(rounded).map_or(delay, Duration::from_nanos)
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("backoff", &self.backoff)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn first(count: usize, backoff: Backoff) -> Vec<u128> {
        let mut schedule = Schedule::new(backoff, &ActorPath::root("t"));
        (0..count).map(|_| schedule.next().0.as_millis()).collect()
    }

    #[test]
    fn delays_grow_as_asked_and_stop_at_the_cap() {
        assert_eq!(first(3, Backoff::constant(7 * MS)), [7, 7, 7]);
        assert_eq!(first(4, Backoff::linear(10 * MS)), [10, 20, 30, 40]);
        let linear = Backoff::linear(10 * MS).cap(25 * MS);
        assert_eq!(first(4, linear), [10, 20, 25, 25]);
        assert_eq!(
            first(4, Backoff::exponential(100 * MS)),
            [100, 200, 400, 800]
        );
        let exponential = Backoff::exponential(100 * MS).factor(3.0).cap(500 * MS);
        assert_eq!(first(4, exponential), [100, 300, 500, 500]);
    }

    #[test]
    fn a_schedule_that_is_reset_begins_anew() {
        let mut schedule = Schedule::new(Backoff::linear(MS), &ActorPath::root("t"));
        assert_eq!((schedule.next(), schedule.next()), ((MS, 1), (2 * MS, 2)));
        schedule.reset();
        assert_eq!(schedule.next(), (MS, 1));
    }

    #[test]
    fn jitter_with_a_seed_is_repeatable_and_differs_between_siblings() {
        let backoff = Backoff::constant(1000 * MS).jitter(0.5).seed(7);
        let delays = |id: &str| {
            let mut schedule = Schedule::new(backoff, &ActorPath::root("t").child(id));
            [(); 8].map(|()| schedule.next().0)
        };
        assert_eq!(delays("a"), delays("a"));
        assert_ne!(delays("a"), delays("b"));
    }

    proptest! {
        /// Whatever is asked for: no delay exceeds the cap, and jitter takes away no more than its share.
        #[test]
        fn delays_stay_within_cap_and_jitter(
            kind in 0..3,
            first in 1_u64..100_000,
            factor in 1.0_f64..10.0,
            above in 1_u32..1000,
            jitter in 0.0_f64..=1.0,
            seed in any::<u64>(),
        ) {
            let base = Duration::from_micros(first);
            let cap = base * above;
            let backoff = match kind {
                0 => Backoff::constant(base),
                1 => Backoff::linear(base),
                _ => Backoff::exponential(base).factor(factor),
            };
            let place = ActorPath::root("t");
            let mut plain = Schedule::new(backoff.cap(cap), &place);
            let mut shaken = Schedule::new(backoff.cap(cap).jitter(jitter).seed(seed), &place);
            let mut last = Duration::ZERO;
            for _ in 0..50 {
                let (delay, _) = plain.next();
                let (short, _) = shaken.next();
                // Rounding moves either by half a millisecond at most.
                let slack = Duration::from_millis(1);
                prop_assert!(delay <= cap + slack && delay + slack >= last && delay + slack >= base);
                prop_assert!(short <= delay + slack);
                prop_assert!(short + slack >= delay.mul_f64(1.0 - jitter));
                last = delay;
            }
        }
    }
}
