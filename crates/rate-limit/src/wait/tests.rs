use std::{
    future::Future as _,
    pin::pin,
    task::{Context, Waker},
};

use super::*;
use crate::{KeyedLimiter, Quota, RateGate};

fn limiter(quota: Quota) -> KeyedLimiter<String> {
    KeyedLimiter::new(quota)
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_when_the_next_cell_is_back() {
    let limiter = limiter(Quota::per_second(2));
    let begin = Instant::now();
    let mut left = Vec::new();
    for _ in 0..5 {
        left.push(limiter.until_ready("ada", Patience::forever()).await);
    }
    assert_eq!(left, [Ok(1), Ok(0), Ok(0), Ok(0), Ok(0)]);
    assert_eq!(begin.elapsed(), Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cannot_be_met_is_refused_at_once_and_spends_nothing() {
    let limiter = limiter(Quota::per_second(1));
    assert!(limiter.check("ada").is_allowed());
    let begin = Instant::now();
    let almost = Duration::from_nanos(999_999_999);
    for patience in [
        Patience::within(almost),
        Patience::until(begin + almost),
        Patience::within(Duration::ZERO),
    ] {
        let refused = limiter.until_ready("ada", patience).await;
        let expected = WaitError::TimedOut {
            waited: Duration::ZERO,
            retry_after: Duration::from_secs(1),
        };
        assert_eq!(refused, Err(expected));
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(limiter.status("ada").spent, 1);
    let just = Patience::within(Duration::from_secs(1));
    assert_eq!(limiter.until_ready("ada", just).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_again_and_again_gives_up_at_the_deadline() {
    let limiter = limiter(Quota::per_second(1));
    assert!(limiter.check("ada").is_allowed());
    let greedy = limiter.clone();
    // Whoever asks right when a cell is back, but earlier, has it.
    let patience = Patience::within(Duration::from_millis(2500));
    let mut begin = None;
    let waited = until(patience, || {
        begin.get_or_insert_with(Instant::now);
        let _taken = greedy.check("ada");
        limiter.check("ada")
    });
    let error = waited.await.unwrap_err();
    assert_eq!(
        error,
        WaitError::TimedOut {
            waited: Duration::from_secs(2),
            retry_after: Duration::from_secs(1),
        }
    );
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn jitter_comes_later_and_not_after_the_deadline() {
    let (second, most) = (Duration::from_secs(1), Duration::from_millis(300));
    let mut waits = Vec::new();
    for _ in 0..50 {
        let limiter = limiter(Quota::per_second(1));
        assert!(limiter.check("ada").is_allowed());
        let begin = Instant::now();
        let patience = Patience::within(second + most / 2).jitter(most);
        assert!(limiter.until_ready("ada", patience).await.is_ok());
        waits.push(begin.elapsed());
    }
    // Tokio's timers count in milliseconds.
    let tick = Duration::from_millis(1);
    let allowed = second..=second + most / 2 + tick;
    assert!(waits.iter().all(|wait| allowed.contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 5, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_never_can_be_is_told_at_once() {
    let limiter = limiter(Quota::per_second(5));
    let never = limiter.until_n_ready("ada", 6, Patience::forever()).await;
    assert_eq!(never, Err(WaitError::Never));
    assert!(!WaitError::Never.is_retryable());
    let five = limiter.until_n_ready("ada", 5, Patience::forever()).await;
    assert_eq!(five, Ok(0));
    limiter.set_quota(Quota::per_second(0));
    let closed = limiter.until_ready("ada", Patience::forever()).await;
    assert_eq!(closed, Err(WaitError::Never));
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_opens_while_somebody_waits_is_seen_at_the_retry() {
    let limiter = limiter(Quota::per_minute(1));
    assert!(limiter.check("ada").is_allowed());
    let begin = Instant::now();
    let waiter = {
        let limiter = limiter.clone();
        tokio::spawn(async move { limiter.until_ready("ada", Patience::forever()).await })
    };
    tokio::task::yield_now().await;
    limiter.set_quota(Quota::per_minute(60));
    assert!(waiter.await.unwrap().is_ok());
    assert_eq!(begin.elapsed(), Duration::from_secs(60));
}

/// Drops a future after each number of polls until it is done earlier.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_at_any_poll_has_spent_nothing() {
    let gate = RateGate::new();
    let limiter = gate.limiter("s", Quota::per_second(1));
    for polls in 0..4_u32 {
        limiter.reset("ada");
        assert!(limiter.check("ada").is_allowed());
        {
            let mut waiting = pin!(limiter.until_ready("ada", Patience::forever()));
            for poll in 0..polls {
                let ready = std::future::poll_fn(|_| {
                    let mut context = Context::from_waker(Waker::noop());
                    std::task::Poll::Ready(waiting.as_mut().poll(&mut context).is_ready())
                });
                assert!(!ready.await, "ready at poll {poll}");
            }
        }
        assert_eq!(limiter.status("ada").spent, 1);
        assert_eq!(limiter.status("ada").resets_in, Duration::from_secs(1));
    }
    assert!(
        limiter
            .until_ready("ada", Patience::forever())
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_pass_at_the_rate_and_not_faster() {
    let gate = RateGate::new();
    let limiter = gate.limiter("s", Quota::per_second(10).burst(1));
    let begin = Instant::now();
    let waiters: Vec<_> = (0..30)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.until_ready("ada", Patience::forever()).await })
        })
        .collect();
    for waiter in waiters {
        assert!(waiter.await.unwrap().is_ok());
    }
    assert_eq!(begin.elapsed(), Duration::from_millis(2900));
}
