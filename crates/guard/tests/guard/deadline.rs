//! One deadline over everything.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use perennial_guard::{
    Bulkhead, ChoosePool, Guard, GuardError, Lend, OperationOutcome, Spend, Stage,
};
use perennial_pool::{CheckoutError, ObjectPool, PoolConfig};
use perennial_rate_limit::{Quota, RateGate};
use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep};

use crate::support::{breaker, ok, pool, slept};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_waits_for_a_place_and_a_worker_and_the_operation_share_one_deadline() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let places = Bulkhead::new(1.try_into().unwrap()).wait_at_most(60 * SECOND);
    let guard = Guard::builder("svc")
        .bulkhead(places.clone())
        .pool(pool.clone())
        .deadline(3 * SECOND)
        .build()
        .unwrap();
    // One second for the place, one for the worker, and one is left for the operation.
    let holder = Guard::builder("other").bulkhead(places).build().unwrap();
    tokio::spawn(async move { holder.run(|()| slept(SECOND)).await });
    let worker = pool.checkout().await.unwrap();
    tokio::spawn(async move {
        sleep(2 * SECOND).await;
        drop(worker);
    });
    tokio::task::yield_now().await;

    let began = Instant::now();
    let late = guard
        .run(|_| async {
            assert_eq!(began.elapsed(), 2 * SECOND);
            slept(5 * SECOND).await
        })
        .await
        .unwrap_err();
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert!(
        matches!(late, GuardError::DeadlineExceeded { deadline, .. } if deadline == 3 * SECOND)
    );
    assert!(late.is_retryable() && !late.is_refusal());
    assert_eq!(pool.status().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn grd_8_a_deadline_makes_nobody_wait_longer_for_a_worker_than_the_pool_says() {
    async fn refused_after<P: Lend>(
        pool: impl ChoosePool<Stage = P>,
        deadline: Duration,
    ) -> Duration {
        let guard = Guard::builder("svc").pool(pool).deadline(deadline);
        let began = Instant::now();
        let refused = guard.run(|_| ok()).await.unwrap_err();
        let out_of_time = matches!(refused, GuardError::Pool(CheckoutError::TimedOut { .. }));
        assert!(out_of_time, "{refused:?}");
        began.elapsed()
    }

    let patience = SECOND / 4;
    let (_supervisor, workers) = pool(PoolConfig::new(1).wait_timeout(patience)).await;
    let objects = ObjectPool::builder("objects", [7]).wait_timeout(patience);
    let objects = objects.build().unwrap();
    let _held = (workers.checkout().await.unwrap(), objects.try_checkout());
    for (deadline, expected) in [(SECOND, patience), (SECOND / 10, SECOND / 10)] {
        assert_eq!(refused_after(workers.clone(), deadline).await, expected);
        assert_eq!(refused_after(objects.clone(), deadline).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_the_queue_is_a_refusal_by_the_pool() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let _held = pool.checkout().await.unwrap();
    let guard = Guard::builder("svc")
        .pool(pool)
        .deadline(SECOND)
        .build()
        .unwrap();
    let began = Instant::now();
    let refused = guard.run(|_| ok()).await.unwrap_err();
    assert_eq!(
        (began.elapsed(), refused.refused_by()),
        (SECOND, Some(Stage::Pool))
    );
}

async fn never_begun() -> Result<u32, io::Error> {
    panic!("begun without any time left")
}

#[tokio::test(start_paused = true)]
async fn grd_8_who_gets_a_place_only_as_his_time_ends_is_refused_and_the_service_did_not_fail() {
    let (breaker, places) = (breaker(), Bulkhead::new(1.try_into().unwrap()));
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .bulkhead(places.clone().wait_at_most(60 * SECOND))
        .deadline(SECOND)
        .build()
        .unwrap();
    let holder = Guard::builder("other")
        .bulkhead(places.clone())
        .build()
        .unwrap();
    let mut held = Box::pin(holder.run(|()| slept(60 * SECOND)));
    assert!(poll!(&mut held).is_pending());
    let mut late = Box::pin(guard.run(|()| never_begun()));
    assert!(poll!(&mut late).is_pending());
    advance(SECOND).await;
    drop(held);
    let refused = late.await.unwrap_err();
    assert!(matches!(refused, GuardError::BulkheadFull { .. }));
    assert_eq!((breaker.status().failures, places.in_use()), (0, 0));
    assert_eq!(guard.status().count(OperationOutcome::BulkheadFull), 1);
}

#[tokio::test(start_paused = true)]
async fn grd_8_who_gets_a_worker_only_as_his_time_ends_is_refused_and_the_service_did_not_fail() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let (breaker, gate) = (breaker(), RateGate::new());
    let quota = Quota::per_hour(5);
    let limiter = gate.limiter("svc", quota);
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .gate(gate)
        .quota(quota)
        .spend(Spend::WhenBegun)
        .pool(pool.clone())
        .deadline(SECOND)
        .build()
        .unwrap();
    let worker = pool.checkout().await.unwrap();
    let mut late = Box::pin(guard.run(|_| never_begun()));
    assert!(poll!(&mut late).is_pending());
    // It is lent to him in time, but he comes to it late.
    drop(worker);
    advance(SECOND).await;
    let refused = late.await.unwrap_err();
    assert!(matches!(refused, GuardError::TooLate { deadline, .. } if deadline == SECOND));
    assert_eq!(refused.to_string(), "`svc` could not begin within 1s");
    assert_eq!(refused.refused_by(), Some(Stage::Pool));
    assert!(refused.is_refusal() && refused.is_retryable());
    assert_eq!((breaker.status().failures, pool.status().in_use), (0, 0));
    assert_eq!(limiter.status(&()).spent, 0);
    assert_eq!(guard.status().count(OperationOutcome::NoWorker), 1);
}

// On the real clock: paused time stands still while anything is ready to run.
#[tokio::test]
async fn an_operation_that_uses_up_its_budget_at_each_poll_does_not_outrun_the_deadline() {
    let deadline = Duration::from_millis(20);
    let guard = Guard::builder("svc").deadline(deadline).build().unwrap();
    let began = Instant::now();
    let busy = || {
        // Takes all of what tokio gives a task before it has to yield, and wants to go on at once.
        poll_fn(move |context| {
            while has_budget_remaining() && pin!(consume_budget()).poll(context).is_ready() {}
            if began.elapsed() > 100 * deadline {
                return Poll::Ready(Ok::<(), io::Error>(()));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    };
    let late = guard.run(|()| busy()).await;
    assert!(matches!(late, Err(GuardError::DeadlineExceeded { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_the_end_of_time_is_none() {
    let guard = Guard::builder("svc")
        .deadline(Duration::MAX)
        .build()
        .unwrap();
    guard.run(|()| slept(SECOND)).await.unwrap();
}

#[test]
fn a_call_has_no_room_of_its_own_for_what_takes_long() {
    let guard = Guard::builder("svc").deadline(SECOND).build().unwrap();
    let call = guard.run(|()| ok());
    // A timer alone takes over a hundred bytes, and the queue of a bulkhead twice as much.
    let size = size_of_val(&call);
    assert!(size < 500, "{size} bytes");
}

#[tokio::test]
async fn an_operation_that_does_not_wait_needs_no_timer() {
    // A runtime without timers panics where one is made.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let guard = Guard::builder("svc").deadline(SECOND).build().unwrap();
        runtime.block_on(guard.run(|()| ok())).unwrap();
        // Nor does one that only lets others go first.
        let polite = || async {
            yield_now().await;
            ok().await
        };
        runtime.block_on(guard.run(|()| polite())).unwrap();
    })
    .join()
    .unwrap();
}
