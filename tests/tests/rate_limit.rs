//! What a rate limiter costs, apart from time.

use std::alloc::System;

use perennial_rate_limit::{Algorithm, KeyedLimiter, Patience, Quota, RateGate};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test to this program: the allocator counts for all threads.
#[tokio::test(flavor = "current_thread")]
async fn a_check_of_a_known_key_allocates_nothing() {
    for algorithm in [
        Algorithm::Gcra,
        Algorithm::TokenBucket,
        Algorithm::LeakyBucket,
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
    ] {
        // Both are seen: what is allowed, and what is refused.
        let quota = Quota::per_hour(100).algorithm(algorithm);
        let limiter: KeyedLimiter<String> = KeyedLimiter::new(quota);
        let gate = RateGate::new();
        let resolved = gate.limiter("scope", quota);
        let user_id = 7_u64;
        let check = || {
            limiter.peek("ada").is_allowed()
                && limiter.check("ada").is_allowed()
                && limiter.check_n("ada", 3).is_allowed()
                && resolved.check(&("config_update", user_id)).is_allowed()
                && gate
                    .check("scope", &("config_update", user_id), &quota)
                    .is_allowed()
        };
        assert!(check());

        let region = Region::new(ALLOCATOR);
        let through = (0..200).filter(|_| check()).count();
        assert!((10..190).contains(&through), "{through} of 200");
        assert_eq!(region.change().allocations, 0, "{algorithm:?}");
        let ready = limiter.until_ready("grace", Patience::forever()).await;
        assert!(ready.is_ok());
        let region = Region::new(ALLOCATOR);
        assert!(
            limiter
                .until_ready("grace", Patience::forever())
                .await
                .is_ok()
        );
        assert_eq!(region.change().allocations, 0, "{algorithm:?}");
    }
}
