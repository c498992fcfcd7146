//! What the algorithms that ship with ratelimit_meter get wrong, done right by each of ours, through the same trait
//! and the same limiter.

use std::num::NonZeroU32;

use ratelimit_meter::{
    DirectRateLimiter, NonConformance as _,
    algorithms::{Algorithm as Metered, RateLimitState as _},
    clock::Clock,
};

use super::*;

#[derive(Clone, Debug, Default)]
struct Zero;

impl Clock for Zero {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos(0)
    }
}

const AT: Nanos = Nanos(1_700_000_000 * SECOND);
const TWENTY: NonZeroU32 = NonZeroU32::new(20).unwrap();

fn limiter<A: Metered<Nanos>>() -> DirectRateLimiter<A, Zero> {
    DirectRateLimiter::per_second(TWENTY)
}

/// Of a hundred checks at one instant.
fn admitted<A: Metered<Nanos>>(at: Nanos) -> usize {
    let mut limiter = limiter::<A>();
    (0..100).filter(|_| limiter.check_at(at).is_ok()).count()
}

#[test]
fn a_burst_is_the_limit_and_not_one_more() {
    assert_eq!(admitted::<Gcra>(AT), 20);
    assert_eq!(admitted::<TokenBucket>(AT), 20);
    assert_eq!(admitted::<LeakyBucket>(AT), 20);
    assert_eq!(admitted::<FixedWindow>(AT), 20);
    assert_eq!(admitted::<SlidingWindow>(AT), 20);
    // The reason why it is not our default.
    assert_eq!(admitted::<ratelimit_meter::GCRA<Nanos>>(AT), 21);
}

#[test]
fn the_reported_wait_is_one_interval_and_not_a_whole_window() {
    fn run<A: Metered<Nanos, NegativeDecision = NotUntil>>() {
        let mut limiter = limiter::<A>();
        assert!(limiter.check_n_at(20, AT).is_ok());
        let refusal = limiter.check_at(AT).unwrap_err();
        assert_eq!(refusal.wait_time_from(AT), Duration::from_millis(50));
        let almost = AT + Duration::from_nanos(49_999_999);
        assert!(limiter.check_at(almost).is_err());
        assert!(limiter.check_at(AT + Duration::from_millis(50)).is_ok());
    }
    run::<Gcra>();
    run::<TokenBucket>();
    run::<LeakyBucket>();
}

#[test]
fn a_batch_is_charged_once() {
    fn run<A: Metered<Nanos>>() {
        let mut limiter = limiter::<A>();
        assert!(limiter.check_n_at(10, AT).is_ok());
        assert!(limiter.check_n_at(10, AT).is_ok());
        assert!(limiter.check_at(AT).is_err());
    }
    run::<Gcra>();
    run::<TokenBucket>();
    run::<LeakyBucket>();
    run::<FixedWindow>();
    run::<SlidingWindow>();
}

#[test]
fn a_batch_of_nothing_resets_nothing() {
    fn run<A: Metered<Nanos>>() {
        let mut limiter = limiter::<A>();
        assert!(limiter.check_n_at(20, AT).is_ok());
        assert!(limiter.check_n_at(0, AT).is_ok());
        assert!(limiter.check_at(AT).is_err());
    }
    run::<Gcra>();
    run::<TokenBucket>();
    run::<LeakyBucket>();
    run::<FixedWindow>();
    run::<SlidingWindow>();
}

#[test]
fn a_clock_near_zero_admits_the_whole_burst() {
    for at in [Nanos(0), Nanos(1), Nanos(1000)] {
        assert_eq!(admitted::<Gcra>(at), 20);
        assert_eq!(admitted::<TokenBucket>(at), 20);
        assert_eq!(admitted::<LeakyBucket>(at), 20);
        assert_eq!(admitted::<FixedWindow>(at), 20);
        assert_eq!(admitted::<SlidingWindow>(at), 20);
    }
}

#[test]
fn readings_to_and_fro_admit_no_more_than_the_burst() {
    fn run<A: Metered<Nanos>>() {
        let mut limiter = limiter::<A>();
        // Two readings of one instant, a second apart, over and over.
        let (late, early) = (AT, Nanos(AT.0 - SECOND));
        assert!(limiter.check_at(late).is_ok());
        let readings = [early, late].into_iter().cycle().take(1000);
        let through = readings.filter(|at| limiter.check_at(*at).is_ok());
        assert_eq!(through.count(), 19);
    }
    run::<Gcra>();
    run::<TokenBucket>();
    run::<LeakyBucket>();
    run::<FixedWindow>();
    run::<SlidingWindow>();
}

#[test]
fn a_cell_heavier_than_the_capacity_is_refused() {
    fn run<A: Metered<Nanos>>() {
        let (one, two) = (NonZeroU32::MIN, NonZeroU32::new(2).unwrap());
        for period in [Duration::ZERO, Duration::from_secs(1)] {
            assert!(A::construct(one, two, period).is_err());
            assert!(A::construct(two, one, period).is_ok());
        }
    }
    run::<Gcra>();
    run::<TokenBucket>();
    run::<LeakyBucket>();
    run::<FixedWindow>();
    run::<SlidingWindow>();
}

#[test]
fn the_state_says_when_it_stops_mattering() {
    fn run<A: Metered<Nanos>>(after: Duration) {
        let algorithm = A::construct(TWENTY, NonZeroU32::MIN, Duration::from_secs(1)).unwrap();
        let state = A::BucketState::default();
        assert_eq!(state.last_touched(&algorithm), None);
        assert!(algorithm.test_and_update(&state, AT).is_ok());
        assert_eq!(state.last_touched(&algorithm), Some(AT + after));
        assert_ne!(state, A::BucketState::default());
    }
    run::<Gcra>(Duration::from_millis(50));
    run::<TokenBucket>(Duration::from_millis(50));
    run::<LeakyBucket>(Duration::from_millis(50));
    run::<FixedWindow>(Duration::from_secs(1));
    run::<SlidingWindow>(Duration::from_secs(1));
}
