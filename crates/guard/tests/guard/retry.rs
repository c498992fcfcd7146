//! Trying again.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use perennial_breaker::Outcome;
use perennial_guard::{Bulkhead, Guard, GuardError, OperationOutcome, Retry, Stage};
use perennial_lifecycle::Backoff;
use perennial_rate_limit::{Quota, RateGate};
use tokio::time::{Instant, sleep};

use crate::support::{breaker, fail, ok};

const MS: Duration = Duration::from_millis(1);

fn retry(attempts: u32) -> Retry {
    Retry::new(attempts, Backoff::exponential(10 * MS)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_plain_guard_runs_an_operation_once_and_a_retrying_one_until_it_succeeds() {
    let runs = AtomicU32::new(0);
    let operation = |()| async {
        match runs.fetch_add(1, SeqCst) {
            0 | 1 => Err(io::Error::other("broken")),
            run => Ok(run),
        }
    };
    let guard = Guard::builder("svc").build().unwrap();
    guard.run(operation).await.unwrap_err();
    assert_eq!(runs.load(SeqCst), 1);

    runs.store(0, SeqCst);
    let began = Instant::now();
    let guard = guard.retrying(retry(5));
    assert_eq!(guard.run(operation).await.unwrap(), 2);
    assert_eq!(began.elapsed(), 30 * MS);
    let status = guard.guard().status();
    assert_eq!(status.count(OperationOutcome::Failure), 3);
    assert_eq!(status.count(OperationOutcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_returned_after_the_last_attempt_or_one_that_is_not_to_be_retried() {
    let guard = Guard::builder("svc").build().unwrap().retrying(retry(3));
    let runs = AtomicU32::new(0);
    let count = |()| {
        runs.fetch_add(1, SeqCst);
        fail()
    };
    assert!(matches!(
        guard.run(count).await,
        Err(GuardError::Operation(_))
    ));
    assert_eq!(runs.swap(0, SeqCst), 3);
    let never = guard
        .run_if(count, |error| error.to_string() != "broken")
        .await;
    assert!(matches!(never, Err(GuardError::Operation(_))));
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_again_not_before_it_says_and_a_final_one_never() {
    let gate = RateGate::new();
    let guard = Guard::builder("svc")
        .gate(gate.clone())
        .quota(Quota::per_second(1))
        .build()
        .unwrap()
        .retrying(retry(2));
    let began = Instant::now();
    guard.run(|()| ok()).await.unwrap();
    guard.run(|()| ok()).await.unwrap();
    // The gate's own second, and not the 10 ms of the backoff.
    assert_eq!(began.elapsed(), Duration::from_secs(1));

    let breaker = breaker();
    breaker.force_open();
    let closed = Guard::builder("closed")
        .gate(gate)
        .quota(Quota::per_second(0))
        .build()
        .unwrap();
    let forced = Guard::builder("svc").breaker(breaker).build().unwrap();
    for guard in [closed, forced] {
        let guard = guard.retrying(retry(9));
        let began = Instant::now();
        let refused = guard.run(|()| ok()).await.unwrap_err();
        assert!(refused.is_refusal() && !refused.is_retryable());
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(guard.guard().status().offered(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_and_pauses_share_the_deadline_and_a_pause_that_would_outlast_it_is_not_begun() {
    let guard = Guard::builder("svc")
        .deadline(100 * MS)
        .build()
        .unwrap()
        .retrying(retry(99));
    let began = Instant::now();
    let slow = |()| async {
        sleep(20 * MS).await;
        fail().await
    };
    // 20 + 10 + 20 + 20 + 20, and a pause of 40 would end after 130.
    let error = guard.run(slow).await.unwrap_err();
    assert!(matches!(error, GuardError::Operation(_)), "{error}");
    assert_eq!(began.elapsed(), 90 * MS);

    let began = Instant::now();
    let hang = |()| std::future::pending::<Result<(), io::Error>>();
    let error = guard.run(hang).await.unwrap_err();
    assert!(
        matches!(error, GuardError::DeadlineExceeded { .. }),
        "{error}"
    );
    assert_eq!(began.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_leaves_time_for_another_one_if_it_is_bounded_itself() {
    let runs = AtomicU32::new(0);
    let guard = Guard::builder("svc").deadline(100 * MS).build().unwrap();
    let guard = guard.retrying(retry(3).attempt_timeout(30 * MS).unwrap());
    let began = Instant::now();
    let answer = guard
        .run(|()| async {
            if runs.fetch_add(1, SeqCst) == 0 {
                std::future::pending::<()>().await;
            }
            ok().await
        })
        .await;
    assert_eq!(answer.unwrap(), 1);
    assert_eq!(began.elapsed(), 40 * MS);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_goes_through_all_stages_and_holds_nothing_in_between() {
    let gate = RateGate::new();
    let limiter = gate.limiter("svc", Quota::per_hour(9));
    let breaker = breaker();
    let places = Bulkhead::new(1.try_into().unwrap());
    let guard = Guard::builder("svc")
        .gate(gate)
        .rate_key("tenant")
        .quota(Quota::per_hour(9))
        .breaker(breaker.clone())
        .bulkhead(places.clone())
        .build()
        .unwrap()
        .retrying(retry(3));
    let call = tokio::spawn(async move {
        let ignore = |_: &Result<u32, io::Error>| Outcome::Ignored;
        let error = guard
            .run_keyed("tenant", |()| fail(), ignore, |_| true)
            .await;
        error.unwrap_err().refused_by()
    });
    sleep(5 * MS).await;
    assert_eq!((places.in_use(), limiter.status("tenant").spent), (0, 1));
    assert_eq!(call.await.unwrap(), None);
    assert_eq!(limiter.status("tenant").spent, 3);
    assert_eq!(breaker.status().cancelled, 3);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_meanwhile_ends_the_attempts_at_its_wait() {
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker)
        .deadline(Duration::from_secs(5));
    let guard = guard.build().unwrap().retrying(retry(9));
    let runs = AtomicU32::new(0);
    let refused = guard
        .run(|()| {
            runs.fetch_add(1, SeqCst);
            fail()
        })
        .await
        .unwrap_err();
    // It would be open for 30 s.
    assert_eq!(
        (refused.refused_by(), runs.load(SeqCst)),
        (Some(Stage::Breaker), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_without_end_leaves_the_caller_its_deadline_or_its_wait() {
    let retry = Retry::new(2, Backoff::constant(Duration::MAX)).unwrap();
    let guard = |deadline| {
        let guard = Guard::builder("svc").deadline(deadline).build().unwrap();
        guard.retrying(retry)
    };
    // Not begun where the deadline would pass.
    let began = Instant::now();
    let result = guard(3600 * 1000 * MS).run(|()| fail()).await;
    assert!(matches!(result, Err(GuardError::Operation(_))));
    assert_eq!(began.elapsed(), Duration::ZERO);
    // Where there is all the time in the world, it waits.
    let guard = guard(Duration::MAX);
    let waiting = tokio::time::timeout(3600 * 1000 * MS, guard.run(|()| fail()));
    waiting.await.unwrap_err();
}
