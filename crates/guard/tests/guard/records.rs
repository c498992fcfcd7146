//! Every end is recorded once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::Outcome;
use perennial_guard::{Bulkhead, Environment, OperationOutcome, Recorder};
use perennial_pool::{PoolConfig, Pools};
use perennial_rate_limit::{Quota, RateGate};

use crate::support::{ECHO, Seen, breaker, fail, ok, pool, slept};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn every_end_is_recorded_once_and_the_counts_add_up() {
    let seen = Arc::new(Seen::default());
    let (_supervisor, pool) = pool(PoolConfig::new(2)).await;
    let pools = Pools::new();
    pools.insert(pool.clone()).unwrap();
    let environment = Environment::builder()
        .gate(RateGate::new())
        .pools(pools)
        .recorders({
            let seen = Arc::clone(&seen);
            move |_| Arc::clone(&seen) as Arc<dyn Recorder>
        })
        .build();
    let breaker = breaker();
    let guard = environment
        .guard("svc")
        .quota(Quota::per_hour(10))
        .breaker(breaker.clone())
        .bulkhead(Bulkhead::new(1.try_into().unwrap()))
        .pool(ECHO)
        .deadline(100 * MS)
        .slow_after(10 * MS)
        .build()
        .unwrap();
    let slowly = || slept(20 * MS);
    let for_ever = || std::future::pending::<Result<(), io::Error>>();
    let ignore = |_: &Result<u32, io::Error>| Outcome::Ignored;

    guard.run(|_| ok()).await.unwrap();
    guard.run(|_| slowly()).await.unwrap();
    guard.run_with(|_| fail(), ignore).await.unwrap_err();
    // Full: one is under way.
    let nested = guard.run(|_| guard.run(|_| ok())).await;
    nested.unwrap_err().into_operation().unwrap();
    breaker.reset();
    guard.run(|_| for_ever()).await.unwrap_err();
    breaker.reset();
    let panicking = guard.clone();
    let panicked = async move { panicking.run(|_| async { panic_now() }).await };
    assert!(tokio::spawn(panicked).await.unwrap_err().is_panic());
    guard.run(|_| ok()).await.unwrap_err();
    breaker.reset();
    // Dropped in the operation, and while it waits for a worker.
    let given_up = tokio::time::timeout(MS, guard.run(|_| for_ever())).await;
    assert!(given_up.is_err());
    let held = (
        pool.checkout().await.unwrap(),
        pool.checkout().await.unwrap(),
    );
    assert!(tokio::time::timeout(MS, guard.run(|_| ok())).await.is_err());
    drop(held);
    // Over quota.
    guard.run(|_| ok()).await.unwrap_err();

    use OperationOutcome::{
        BulkheadFull, Cancelled, CircuitOpen, DeadlineExceeded, Failure, GivenUp, Panicked,
        RateLimited, Success,
    };
    let told = [
        Success,
        Success,
        Success,
        BulkheadFull,
        Failure,
        DeadlineExceeded,
        Panicked,
        CircuitOpen,
        Cancelled,
        GivenUp,
        RateLimited,
    ];
    assert_eq!(*seen.0.lock().unwrap(), told);
    let status = guard.status();
    for outcome in OperationOutcome::ALL {
        let times = told.iter().filter(|it| **it == outcome).count();
        assert_eq!(status.count(outcome), times as u64, "{outcome}");
    }
    assert_eq!(
        (status.begun(), status.refused(), status.offered()),
        (7, 3, 11)
    );
    assert_eq!(status, environment.status()[0]);
    // The one that slept and the one that ran into the deadline.
    assert_eq!(status.slow, 2);
    let most = status.latency(1.0).unwrap();
    assert!(100 * MS <= most && most <= 113 * MS, "{most:?}");
    assert!(status.latency(0.5).unwrap() < MS);
    assert_eq!(pool.status().in_use, 0);
}

fn panic_now() -> Result<(), io::Error> {
    panic!("no")
}
