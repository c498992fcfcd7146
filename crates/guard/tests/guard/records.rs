//! Every end is recorded once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial_breaker::Outcome;
use perennial_guard::{Bulkhead, Environment, OperationOutcome, Recorder, Retry};
use perennial_lifecycle::Backoff;
use perennial_pool::{PoolConfig, Pools};
use perennial_rate_limit::{Quota, RateGate};
use perennial_testkit::under_panicking_metrics;

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

struct Panicking;

impl Recorder for Panicking {
    fn record(&self, _: OperationOutcome, _: Duration) {
        panic!("the recorder")
    }
}

#[tokio::test(start_paused = true)]
async fn grd_16_a_recorder_that_panics_takes_nothing_away() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let pools = Pools::new();
    pools.insert(pool.clone()).unwrap();
    let environment = Environment::builder()
        .pools(pools)
        .recorders(|_| Arc::new(Panicking))
        .build();
    let breaker = breaker();
    let builder = environment.guard("svc").breaker(breaker.clone()).pool(ECHO);
    let guard = builder.build().unwrap();

    assert_eq!(guard.run(|_| ok()).await.unwrap(), 1);
    let failed = guard.run(|_| fail()).await.unwrap_err();
    assert!(failed.into_operation().is_some());
    assert!(guard.run(|_| ok()).await.unwrap_err().is_refusal());
    breaker.reset();
    // A panic while another one unwinds must not be the end of the process.
    let panicking = guard.clone();
    let panicked = async move { panicking.run(|_| async { panic_now() }).await };
    let panic = tokio::spawn(panicked).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"no"));

    let counts = guard.status();
    assert_eq!((counts.begun(), counts.refused()), (3, 1));
    let (status, counts) = (breaker.status(), counts.count(OperationOutcome::Panicked));
    assert_eq!((status.successes, status.failures, counts), (1, 2, 1));
    assert_eq!(pool.status().in_use, 0);
}

#[test]
fn grd_16_metrics_that_panic_take_nothing_away_nor_a_retry() {
    under_panicking_metrics(tells_of_a_retry);
}

async fn tells_of_a_retry() {
    let seen = Arc::new(Seen::default());
    let recorder: Arc<dyn Recorder> = Arc::clone(&seen) as _;
    let environment = Environment::builder()
        .recorders(move |_| Arc::clone(&recorder))
        .build();
    let guard = environment.guard("svc").build().unwrap();
    let guard = guard.retrying(Retry::new(2, Backoff::constant(MS)).unwrap());
    let mut runs = 0;
    let run = guard.run(|()| {
        runs += 1;
        let first = runs == 1;
        async move { if first { fail().await } else { ok().await } }
    });
    assert_eq!(run.await.unwrap(), 1);
    let told = [OperationOutcome::Failure, OperationOutcome::Success];
    assert_eq!(*seen.0.lock().unwrap(), told);
}

#[test]
fn grd_16_a_recorder_is_made_where_the_environment_can_be_used() {
    let seen = Arc::new(Seen::default());
    let environment = Arc::new(OnceLock::<Environment>::new());
    let made = Environment::builder().recorders({
        let environment = Arc::clone(&environment);
        move |service| {
            let environment = environment.get().unwrap();
            if service == "svc" {
                environment.guard("audit").build().unwrap();
            }
            Arc::clone(&seen) as Arc<dyn Recorder>
        }
    });
    let environment = environment.get_or_init(|| made.build());
    environment.guard("svc").build().unwrap();
    let names: Vec<_> = environment
        .status()
        .into_iter()
        .map(|it| it.service)
        .collect();
    assert_eq!(names, ["audit".into(), "svc".into()]);
}

/// Looks at the environment where it is dropped.
struct Looks(Arc<OnceLock<Environment>>);

impl Recorder for Looks {
    fn record(&self, _: OperationOutcome, _: Duration) {}
}

impl Drop for Looks {
    fn drop(&mut self) {
        let environment = self.0.get().unwrap();
        assert_eq!(environment.status().len(), 1);
    }
}

#[test]
fn grd_16_a_recorder_that_came_second_is_dropped_where_the_environment_can_be_used() {
    let environment = Arc::new(OnceLock::<Environment>::new());
    let is_first = AtomicBool::new(true);
    let made = Environment::builder().recorders({
        let environment = Arc::clone(&environment);
        move |service| {
            // As another thread may, meanwhile.
            if is_first.swap(false, SeqCst) {
                let environment = environment.get().unwrap();
                environment.guard(service).build().unwrap();
            }
            Arc::new(Looks(Arc::clone(&environment))) as Arc<dyn Recorder>
        }
    });
    let of_svc = environment.get_or_init(|| made.build());
    of_svc.guard("svc").build().unwrap();
    assert_eq!(of_svc.status().len(), 1);
}

fn panic_now() -> Result<(), io::Error> {
    panic!("no")
}
