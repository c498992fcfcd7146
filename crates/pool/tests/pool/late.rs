//! Who waits, and until when.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::future::join_all;
use perennial_pool::{CheckoutError, Timeout};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::support::{Fixture, config, let_others_run, poll};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn another_runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn pool_22_each_gives_up_at_its_own_time_in_whatever_order_they_came() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let mut patient = Box::pin(it.pool.checkout_within(Timeout::Never));
    assert!(poll(patient.as_mut()).is_pending());
    let mut waits = Vec::new();
    for limit in [300, 100, 400, 100, 250, 0].map(ms) {
        let pool = it.pool.clone();
        waits.push(tokio::spawn(async move {
            let began = Instant::now();
            let error = pool.checkout_within(limit).await.unwrap_err();
            assert!(matches!(error, CheckoutError::TimedOut { .. }), "{error:?}");
            // tokio's timers go by milliseconds.
            let late = began.elapsed() - limit;
            assert!(late <= ms(1), "{limit:?} + {late:?}");
        }));
        // Those who came before are looked after by now.
        let_others_run().await;
    }
    for wait in join_all(waits).await {
        wait.unwrap();
    }
    assert_eq!((it.pool.status().waiting, it.pool.stats().timeouts), (1, 6));
    drop(held);
    drop(patient.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn pool_22_who_comes_when_all_others_have_gone_gives_up_in_time() {
    let it = Fixture::start(config(1, 0)).await;
    for limit in [500, 200, 300].map(ms) {
        let held = it.pool.checkout().await.unwrap();
        let mut served = Box::pin(it.pool.checkout_within(limit));
        assert!(poll(served.as_mut()).is_pending());
        drop(held);
        let held = served.await.unwrap();
        // Between those times at which the ones before would have given up, and after.
        for limit in [150, 1, 700].map(ms) {
            let began = Instant::now();
            assert!(it.pool.checkout_within(limit).await.is_err());
            assert!(began.elapsed() - limit <= ms(1), "{:?}", began.elapsed());
        }
        drop(held);
        let_others_run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pool_22_who_waits_in_another_runtime_gives_up_there() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let mut patient = Box::pin(it.pool.checkout_within(ms(60_000)));
    assert!(poll(patient.as_mut()).is_pending());
    // This runtime stands still meanwhile.
    let pool = it.pool.clone();
    let elsewhere = std::thread::spawn(move || {
        another_runtime().block_on(async { pool.checkout_within(ms(200)).await.map(drop) })
    });
    let error = elsewhere.join().unwrap().unwrap_err();
    assert!(matches!(error, CheckoutError::TimedOut { .. }), "{error:?}");
    drop(held);
    drop(patient.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn pool_22_who_goes_over_from_a_runtime_that_has_ended_gives_up_in_time() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let elsewhere = another_runtime();
    // The first that waits there, and the last: nobody is left there to look at the time.
    let mut wait = Box::pin(it.pool.checkout_within(ms(200)));
    {
        let _entered = elsewhere.enter();
        assert!(poll(wait.as_mut()).is_pending());
    }
    let gone = std::thread::spawn(move || drop(elsewhere));
    gone.join().unwrap();
    // When exactly cannot be told: two clocks that stand still do not show the same time.
    assert!(wait.await.is_err());
    // And who comes from now on.
    let began = Instant::now();
    assert!(it.pool.checkout_within(ms(300)).await.is_err());
    assert_eq!(began.elapsed(), ms(300));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn pool_22_a_runtime_without_timers_is_told_so_by_each_who_would_wait_there() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let timeless = Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        let mut wait = Box::pin(it.pool.checkout_within(ms(200)));
        let _entered = timeless.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| poll(wait.as_mut()).is_pending()));
        assert!(polled.is_err(), "it would wait for ever");
    }
    let gone = std::thread::spawn(move || drop(timeless));
    gone.join().unwrap();
    // Nobody else is the worse for it.
    assert_eq!(it.pool.status().waiting, 0);
    let began = Instant::now();
    assert!(it.pool.checkout_within(ms(300)).await.is_err());
    assert_eq!(began.elapsed(), ms(300));
    drop(held);
    assert!(it.pool.checkout().await.is_ok());
}
