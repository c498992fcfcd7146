use proptest::prelude::*;

use super::*;
use crate::KeyedLimiter;

proptest! {
    #[test]
    fn it_answers_as_our_own_does(
        limit in 1_u32..12,
        burst in 1_u32..12,
        asks in prop::collection::vec((0_u8..3, 0_u32..14, 0_u64..600_000_000), 1..100),
    ) {
        let quota = Quota::per_second(limit).burst(burst);
        let time = Clock::manual();
        time.set(Duration::from_secs(1_700_000_000));
        let theirs = GovernorLimiter::new(&quota, time.clock()).unwrap();
        let ours = KeyedLimiter::builder(quota).clock(time.clock()).build();
        for (key, cells, by) in asks {
            time.advance(Duration::from_nanos(by));
            prop_assert_eq!(theirs.check_n(&key, cells), ours.check_n(&key, cells));
        }
        prop_assert_eq!(theirs.len(), ours.len());
    }
}

#[test]
fn extremes_are_answered_as_by_our_own() {
    let year = Duration::from_secs(365 * 86_400);
    for quota in [
        Quota::new(1, 70 * year).unwrap().burst(1_000),
        Quota::new(1, 60 * year).unwrap().burst(u32::MAX),
        Quota::new(u32::MAX, Duration::from_micros(1)).unwrap(),
        Quota::per_second(u32::MAX),
        Quota::per_hour(1).burst(u32::MAX),
    ] {
        let time = Clock::manual();
        time.set(Duration::from_secs(1_700_000_000));
        let theirs = GovernorLimiter::new(&quota, time.clock()).unwrap();
        let ours = KeyedLimiter::builder(quota).clock(time.clock()).build();
        for cells in [0, 1, 0, 2, u32::MAX, 1_000, 0, u32::MAX, 1] {
            time.advance(Duration::from_nanos(1));
            let expected = ours.check_n(&1, cells);
            assert_eq!(theirs.check_n(&1, cells), expected, "{cells} of {quota:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_does_so_on_tokios_clock() {
    let limiter = GovernorLimiter::new(&Quota::per_second(2), Clock::system()).unwrap();
    let begin = tokio::time::Instant::now();
    for _ in 0..4 {
        assert!(limiter.until_ready(&1, Patience::forever()).await.is_ok());
    }
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
}

#[test]
fn idle_keys_are_swept() {
    let time = Clock::manual();
    let limiter = GovernorLimiter::new(&Quota::per_second(1), time.clock()).unwrap();
    for key in 0..100_u8 {
        assert!(limiter.check(&key).is_allowed());
    }
    time.advance(Duration::from_millis(999));
    limiter.sweep();
    assert_eq!(limiter.clone().len(), 100);
    time.advance(Duration::from_secs(2));
    limiter.sweep();
    assert!(limiter.is_empty());
}

#[test]
fn a_closed_quota_admits_nothing_and_other_algorithms_are_refused() {
    let closed = GovernorLimiter::new(&Quota::per_second(0), Clock::system()).unwrap();
    assert_eq!(closed.check(&1), Decision::Never);
    assert_eq!(closed.check_n(&1, 0), Decision::Never);
    assert!(closed.is_empty());
    let open = GovernorLimiter::new(&Quota::per_second(1), Clock::system()).unwrap();
    assert!(open.check_n(&1, 0).is_allowed());
    assert!(open.is_empty());
    let windows = Quota::per_second(1).algorithm(Algorithm::FixedWindow);
    assert_eq!(
        GovernorLimiter::<u8>::new(&windows, Clock::system()).unwrap_err(),
        QuotaError::OtherAlgorithm {
            algorithm: Algorithm::FixedWindow
        }
    );
}
