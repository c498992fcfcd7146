use std::{sync::Barrier, time::Duration};

use perennial_lifecycle::Stopwatch;

use super::*;
use crate::{clock::ManualClock, quota::Algorithm};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Gcra,
    Algorithm::TokenBucket,
    Algorithm::LeakyBucket,
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
];

fn gate() -> (RateGate, ManualClock) {
    let time = Clock::manual();
    time.set(Duration::from_secs(1_700_000_000));
    let gate = RateGate::builder().clock(time.clock()).build().unwrap();
    (gate, time)
}

#[test]
fn tuple_keys_are_limited_each_for_itself() {
    let (gate, time) = gate();
    let quota = Quota::per_minute(10);
    for remaining in (0..10).rev() {
        let decision = gate.check("config", &("config_update", 7_u64), &quota);
        assert_eq!(decision, Decision::Allowed { remaining });
    }
    let refused = gate.check("config", &("config_update", 7_u64), &quota);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(6)));
    assert!(
        gate.check("config", &("config_update", 8_u64), &quota)
            .is_allowed()
    );
    assert!(
        gate.check("billing", &("config_update", 7_u64), &quota)
            .is_allowed()
    );

    time.advance(Duration::from_secs(6));
    assert!(
        gate.check("config", &("config_update", 7_u64), &quota)
            .is_allowed()
    );
}

#[test]
fn a_check_at_a_count_is_one_at_the_time_when_the_counter_showed_it() {
    let gate = RateGate::new();
    let limiter = gate.limiter("s", Quota::per_hour(1));
    let stopwatch = Stopwatch::new();
    let count = stopwatch.count(stopwatch.read()).unwrap();
    assert!(limiter.check_at(&1, count).is_allowed());
    // The very same time, and so the whole hour.
    let refused = limiter.check_at(&1, count);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(3600)));
    // Later by what has passed meanwhile.
    let refused = limiter.check(&1).retry_after().unwrap();
    assert!(refused < Duration::from_secs(3600) && refused > Duration::from_secs(3000));
}

#[test]
fn a_clock_that_does_not_go_by_the_counter_knows_no_counts() {
    let (gate, time) = gate();
    let limiter = gate.limiter("s", Quota::per_hour(1));
    let stopwatch = Stopwatch::new();
    let count = stopwatch.count(stopwatch.read()).unwrap();
    assert!(limiter.check_at(&1, count).is_allowed());
    assert!(!limiter.check_at(&1, count).is_allowed());
    time.advance(Duration::from_secs(3600));
    assert!(limiter.check_at(&1, count).is_allowed());
}

#[test]
fn keys_that_read_alike_when_joined_do_not_meet() {
    let (gate, _) = gate();
    let once = Quota::per_minute(1);
    assert!(gate.check("a_b", "c", &once).is_allowed());
    assert!(gate.check("a", "b_c", &once).is_allowed());
    assert!(gate.check("s", &("a:b", "c"), &once).is_allowed());
    assert!(gate.check("s", &("a", "b:c"), &once).is_allowed());
    assert_eq!(gate.len(), 4);
}

#[test]
fn a_resolved_limiter_shares_its_keys_with_the_gate() {
    let (gate, _) = gate();
    let quota = Quota::per_minute(3);
    let limiter = gate.limiter("s", quota);
    assert!(limiter.check("ada").is_allowed());
    assert!(gate.check("s", "ada", &quota).is_allowed());
    assert!(
        gate.clone()
            .limiter("s", quota)
            .check(&"ada".to_owned())
            .is_allowed()
    );
    assert!(!limiter.check("ada").is_allowed());
    assert_eq!(gate.len(), 1);
}

#[test]
fn peek_and_status_spend_nothing_and_reset_gives_all_back() {
    let (gate, _) = gate();
    let quota = Quota::per_minute(2);
    let limiter = gate.limiter("s", quota);
    assert_eq!(
        gate.peek("s", "ada", &quota),
        Decision::Allowed { remaining: 1 }
    );
    assert!(gate.is_empty());
    assert!(limiter.check("ada").is_allowed());
    assert_eq!(limiter.peek("ada"), Decision::Allowed { remaining: 0 });
    let status = limiter.status("ada");
    assert_eq!((status.spent, status.remaining), (1, 1));
    assert_eq!(status.resets_in, Duration::from_secs(30));
    assert_eq!(gate.status("s", "ada", &quota), status);

    assert!(limiter.check("ada").is_allowed());
    assert!(!limiter.peek("ada").is_allowed());
    assert!(gate.reset("s", "ada"));
    assert!(!limiter.reset("ada"));
    assert_eq!(
        limiter.check_n("ada", 2),
        Decision::Allowed { remaining: 0 }
    );
    assert_eq!(limiter.check_n("ada", 3), Decision::Never);
}

#[test]
fn another_quota_for_a_key_keeps_what_it_has_spent() {
    let (gate, _) = gate();
    assert!(
        gate.check_n("s", "ada", &Quota::per_minute(10), 4)
            .is_allowed()
    );
    let wider = Quota::per_minute(20);
    assert_eq!(
        gate.check("s", "ada", &wider),
        Decision::Allowed { remaining: 15 }
    );
    let windows = wider.algorithm(Algorithm::FixedWindow);
    assert_eq!(
        gate.check("s", "ada", &windows),
        Decision::Allowed { remaining: 14 }
    );
    let narrow = Quota::per_minute(3);
    let refused = gate.check("s", "ada", &narrow);
    // When the window ends, 40 seconds from now.
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(40)));
}

#[test]
fn two_quotas_for_one_key_admit_what_the_larger_one_does() {
    for algorithm in ALGORITHMS {
        let (gate, time) = gate();
        let reads = gate.limiter("s", Quota::per_minute(100).algorithm(algorithm));
        let writes = gate.limiter("s", Quota::per_minute(10).algorithm(algorithm));
        let mut through = 0;
        for _ in 0..2_000 {
            through += u32::from(writes.check("ada").is_allowed());
            through += u32::from(reads.check("ada").is_allowed());
        }
        match algorithm {
            // The writes that were refused count there, as any that is refused.
            Algorithm::FixedWindow => assert!(through <= 100, "{through}"),
            _ => assert_eq!(through, 100, "{algorithm:?}"),
        }

        // Writes are refused until reads have left room for one, and hold up no read meanwhile.
        let wait = writes.check("ada").retry_after().unwrap();
        assert!(wait <= Duration::from_secs(60), "{algorithm:?}: {wait:?}");
        time.advance(wait);
        assert!(writes.check("ada").is_allowed(), "{algorithm:?}");
    }
}

#[test]
fn scopes_are_counted_by_name() {
    let (gate, _) = gate();
    let once = Quota::per_minute(1);
    let allowed = ["ada", "ada", "grace"].map(|key| gate.check("b", key, &once).is_allowed());
    assert_eq!(allowed, [true, false, true]);
    assert_eq!(
        gate.check("a", "ada", &Quota::per_minute(0)),
        Decision::Never
    );
    assert!(gate.peek("c", "ada", &once).is_allowed());
    let counts: Vec<_> = gate
        .scopes()
        .into_iter()
        .map(|s| (s.scope.to_string(), s.allowed, s.refused))
        .collect();
    assert_eq!(counts, [("a".to_owned(), 0, 1), ("b".to_owned(), 2, 1)]);
}

#[test]
fn threads_on_one_key_admit_exactly_the_quota_while_it_is_swept() {
    const THREADS: usize = 4;
    let (gate, _) = gate();
    let quota = Quota::per_hour(500);
    let barrier = Barrier::new(THREADS);
    let through: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    (0..1000)
                        .filter(|_| {
                            gate.sweep();
                            gate.check("s", &("k", 1_u8), &quota).is_allowed()
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(through, 500);
    let status = &gate.scopes()[0];
    assert_eq!((status.allowed, status.refused), (500, 3500));
}

#[test]
fn settings_are_read_strictly_and_an_interval_of_zero_is_refused() {
    assert!(serde_json::from_str::<RateGateConfig>(r#"{"max_key":1}"#).is_err());
    assert!(serde_json::from_str::<RateGateConfig>(r#"{"max_keys":0}"#).is_err());
    let config: RateGateConfig = serde_json::from_str(r#"{"sweep_interval":"0s"}"#).unwrap();
    assert_eq!(
        RateGate::builder().config(config).build().unwrap_err(),
        RateGateConfigError::SweepIntervalTooShort
    );
}
