//! How many operations run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use perennial_breaker::{Breaker, BreakerConfig, BreakerState, Trip, Window};
use perennial_guard::{Bulkhead, Guard, GuardError, Stage};
use perennial_pool::PoolConfig;
use tokio::time::{Instant, sleep};

use crate::support::{breaker, fail, ok, pool};

#[tokio::test(start_paused = true)]
async fn no_more_operations_run_at_once_than_there_are_places() {
    let places = Bulkhead::new(3.try_into().unwrap()).wait_at_most(Duration::from_secs(60));
    let guard = Guard::builder("svc")
        .bulkhead(places.clone())
        .build()
        .unwrap();
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (guard, running, most) = (guard.clone(), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let operation = |()| async {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    sleep(Duration::from_millis(10)).await;
                    running.fetch_sub(1, SeqCst);
                    ok().await
                };
                guard.run(operation).await
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((most.load(SeqCst), places.in_use()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_at_once_or_after_its_patience_and_never_beyond_the_deadline() {
    for (patience, deadline, refused_after) in [(0, 5, 0), (2, 5, 2), (9, 5, 5)] {
        let breaker = breaker();
        let places = Bulkhead::new(1.try_into().unwrap());
        let guard = Guard::builder("svc")
            .breaker(breaker.clone())
            .bulkhead(places.clone().wait_at_most(Duration::from_secs(patience)))
            .deadline(Duration::from_secs(deadline))
            .build()
            .unwrap();
        let holder = Guard::builder("other")
            .bulkhead(places.clone())
            .build()
            .unwrap();
        let held = tokio::spawn(async move {
            holder
                .run(|()| async { std::future::pending::<Result<(), ()>>().await })
                .await
        });
        tokio::task::yield_now().await;

        let began = Instant::now();
        let refused = guard.run(|()| ok()).await.unwrap_err();
        assert_eq!(
            began.elapsed(),
            Duration::from_secs(refused_after),
            "{patience} s"
        );
        assert!(matches!(refused, GuardError::BulkheadFull { max: 1, .. }));
        assert_eq!(refused.refused_by(), Some(Stage::Bulkhead));
        assert!(refused.is_refusal() && refused.is_retryable());
        assert_eq!(breaker.status().failures, 0);
        held.abort();
        assert!(held.await.unwrap_err().is_cancelled());
        assert_eq!(places.in_use(), 0);
        guard.run(|()| ok()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_does_not_wait_for_a_place() {
    let places = Bulkhead::new(1.try_into().unwrap()).wait_at_most(Duration::from_secs(5));
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .bulkhead(places)
        .build()
        .unwrap();
    let nested = guard
        .run(|()| async {
            breaker.force_open();
            let began = Instant::now();
            let refused = guard.run(|()| ok()).await.unwrap_err();
            assert_eq!(began.elapsed(), Duration::ZERO);
            Ok::<_, ()>(refused.refused_by())
        })
        .await;
    assert_eq!(nested.unwrap(), Some(Stage::Breaker));
}

#[tokio::test(start_paused = true)]
async fn grd_1_who_waited_for_a_place_while_the_circuit_opened_is_refused() {
    let places = Bulkhead::new(1.try_into().unwrap()).wait_at_most(Duration::from_secs(60));
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .bulkhead(places.clone())
        .build()
        .unwrap();
    let runs = AtomicU32::new(0);
    let failing = |()| async {
        runs.fetch_add(1, SeqCst);
        sleep(Duration::from_millis(10)).await;
        fail().await
    };
    let calls = join_all((0..20).map(|_| guard.run(failing))).await;
    let refused = calls.iter().filter(|call| {
        let error = call.as_ref().unwrap_err();
        error.refused_by() == Some(Stage::Breaker) && error.retry_after().is_some()
    });
    assert_eq!((refused.count(), runs.load(SeqCst)), (19, 1));
    assert_eq!((guard.status().refused(), places.in_use()), (19, 0));
    let status = breaker.status();
    assert_eq!((status.failures, status.refused), (1, 19));
    assert_eq!((status.late, status.cancelled), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn grd_1_who_waited_for_a_place_while_the_circuit_opened_waits_for_no_worker() {
    let places = Bulkhead::new(1.try_into().unwrap()).wait_at_most(Duration::from_secs(60));
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let _held = pool.checkout().await.unwrap();
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .bulkhead(places.clone())
        .pool(pool.clone())
        .build()
        .unwrap();
    let other = Guard::builder("other")
        .bulkhead(places.clone())
        .build()
        .unwrap();
    let opening = |()| async {
        sleep(Duration::from_millis(10)).await;
        breaker.trip();
        ok().await
    };
    let began = Instant::now();
    let (opened, refused) = tokio::join!(other.run(opening), guard.run(|_| ok()));
    opened.unwrap();
    assert_eq!(refused.unwrap_err().refused_by(), Some(Stage::Breaker));
    assert_eq!(began.elapsed(), Duration::from_millis(10));
    assert_eq!(places.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn grd_14_only_the_operation_counts_as_slow_for_the_breaker_and_not_the_wait_before_it() {
    let trip = Trip::SlowRate {
        slower_than: Duration::from_secs(1),
        ratio: 1.0,
        window: Window::Calls(1),
        min_calls: 1,
    };
    let config = BreakerConfig::builder().trip(trip).build().unwrap();
    let breaker = Breaker::new("svc", config);
    let places = Bulkhead::new(1.try_into().unwrap()).wait_at_most(Duration::from_secs(60));
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .bulkhead(places.clone())
        .build()
        .unwrap();
    let holder = Guard::builder("other").bulkhead(places).build().unwrap();
    let ten_seconds = |()| async {
        sleep(Duration::from_secs(10)).await;
        ok().await
    };
    let (held, waited) = tokio::join!(holder.run(ten_seconds), guard.run(|()| ok()));
    held.unwrap();
    waited.unwrap();
    assert_eq!(
        breaker.state(),
        BreakerState::Closed,
        "it waited for ten seconds"
    );
    assert_eq!(breaker.status().slow, 0);

    guard.run(ten_seconds).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Open, "it took ten seconds");
}
