//! The guard's order and rules.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use perennial_breaker::{BreakerConfig, Breakers, Outcome, Trip};
use perennial_guard::{
    Environment, Guard, GuardConfigError, GuardError, OperationOutcome, Recorder, Retry, Spend,
    Stage,
};
use perennial_lifecycle::{Backoff, ExitReason};
use perennial_pool::{CheckoutError, Object, ObjectPool, PoolConfig, Pools};
use perennial_rate_limit::{Quota, RateGate};
use tokio::time::Instant;

use crate::support::{ECHO, Seen, breaker, fail, ok, pool};

#[tokio::test(start_paused = true)]
async fn a_worker_is_lent_for_the_operation_and_comes_back() {
    let (supervisor, pool) = pool(PoolConfig::new(1)).await;
    let guard = Guard::builder("svc").pool(pool.clone()).build().unwrap();
    for _ in 0..3 {
        let answer = guard
            .run(|echo| async move { echo.call(|reply| reply).await })
            .await;
        assert_eq!(answer.unwrap(), 7);
    }
    assert_eq!(pool.status().in_use, 0);
    supervisor.stop(ExitReason::Shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_does_not_wait_for_a_worker() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let held = pool.checkout().await.unwrap();
    let breaker = breaker();
    breaker.force_open();
    let guard = Guard::builder("svc")
        .breaker(breaker)
        .pool(pool.clone())
        .build()
        .unwrap();
    let began = tokio::time::Instant::now();
    let refused = guard.run(|_| ok()).await.unwrap_err();
    assert!(matches!(refused, GuardError::CircuitOpen(_)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn grd_1_who_waited_for_a_worker_while_the_circuit_opened_is_refused_and_keeps_his_cell() {
    let (_supervisor, pool) = pool(PoolConfig::new(1).wait_timeout(Duration::from_secs(60))).await;
    let gate = RateGate::new();
    let quota = Quota::per_hour(100);
    let spent = gate.limiter("svc", quota);
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .gate(gate)
        .quota(quota)
        .spend(Spend::WhenBegun)
        .breaker(breaker.clone())
        .pool(pool.clone())
        .build()
        .unwrap();
    let runs = AtomicU32::new(0);
    let runs_of = &runs;
    let failing = |worker| async move {
        runs_of.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(worker);
        fail().await
    };
    let calls = || join_all((0..20).map(|_| guard.run(failing)));
    let by_the_breaker = |calls: Vec<Result<u32, GuardError<io::Error>>>| {
        let refused = |call: &Result<_, GuardError<_>>| {
            call.as_ref().unwrap_err().refused_by() == Some(Stage::Breaker)
        };
        calls.iter().filter(|call| refused(call)).count()
    };
    assert_eq!(by_the_breaker(calls().await), 19);
    assert_eq!((runs.load(SeqCst), spent.status(&()).spent), (1, 1));
    let status = breaker.status();
    assert_eq!((status.failures, status.late, status.cancelled), (1, 0, 0));

    // Of those who waited through the open time, as many go on as there are probes.
    breaker.reset();
    let held = pool.checkout().await.unwrap();
    let waiting = async {
        tokio::task::yield_now().await;
        breaker.trip();
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(held);
    };
    let (calls, ()) = tokio::join!(calls(), waiting);
    assert_eq!(by_the_breaker(calls), 19);
    assert_eq!((runs.load(SeqCst), spent.status(&()).spent), (2, 2));
    assert_eq!((breaker.status().failures, pool.status().in_use), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn only_the_operations_own_outcome_counts_for_the_breaker() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let held = pool.checkout().await.unwrap();
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .pool(pool)
        .deadline(Duration::from_secs(1))
        .build()
        .unwrap();
    let refused = guard.run(|_| ok()).await.unwrap_err();
    assert!(matches!(refused, GuardError::Pool(_)), "{refused:?}");
    assert!(refused.is_refusal() && refused.is_retryable());
    assert_eq!(breaker.status().failures, 0);
    drop(held);

    let failed = guard.run(|_| fail()).await.unwrap_err();
    assert!(matches!(failed, GuardError::Operation(_)));
    assert_eq!(breaker.status().failures, 1);
    assert!(matches!(
        guard.run(|_| ok()).await,
        Err(GuardError::CircuitOpen(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_rate_denial_costs_no_worker_and_no_breaker_count_and_says_when_to_come_back() {
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .gate(RateGate::new())
        .rate_key(("config_update", 7_u64))
        .quota(Quota::per_minute(1))
        .breaker(breaker.clone())
        .build()
        .unwrap();
    guard.run(|()| ok()).await.unwrap();
    let refused = guard.run(|()| ok()).await.unwrap_err();
    let wait = refused.retry_after().unwrap();
    assert_eq!(wait, Duration::from_secs(60));
    assert_eq!(breaker.status().successes, 1);
    assert_eq!(breaker.status().refused, 0);
    tokio::time::advance(wait).await;
    guard.run(|()| ok()).await.unwrap();
    // Another key has a quota of its own.
    guard
        .run_keyed(&("config_update", 8_u64), |()| ok(), |_| Outcome::Success)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_missed_deadline_drops_the_operation_and_counts_as_failure() {
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .deadline(Duration::from_secs(1))
        .build()
        .unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let on_drop = OnDrop(Arc::clone(&dropped));
    let missed = guard
        .run(|()| async move {
            let _on_drop = on_drop;
            std::future::pending::<Result<(), io::Error>>().await
        })
        .await
        .unwrap_err();
    assert!(matches!(missed, GuardError::DeadlineExceeded { .. }));
    assert!(dropped.load(SeqCst));
    assert_eq!(breaker.status().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_as_failure_and_goes_on_unwinding() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .pool(pool.clone())
        .build()
        .unwrap();
    let task = tokio::spawn(async move {
        guard
            .run(|_worker| async {
                if true {
                    panic!("no")
                } else {
                    Ok::<(), io::Error>(())
                }
            })
            .await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(breaker.status().failures, 1);
    assert_eq!(pool.status().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_says_nothing_of_the_service_and_keeps_nothing() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .pool(pool.clone());
    let guard = guard.build().unwrap();
    let unsure = guard.clone();
    let task = tokio::spawn(async move {
        let classify = |_: &Result<u32, io::Error>| -> Outcome { panic!("unknown") };
        unsure.run_with(|_worker| ok(), classify).await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(guard.status().count(OperationOutcome::Cancelled), 1);
    assert_eq!(
        (breaker.status().failures, breaker.status().cancelled),
        (0, 1)
    );
    assert_eq!(pool.status().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn an_environment_wires_every_stage_and_records_each_outcome_once() {
    let seen = Arc::new(Seen::default());
    let critical = Arc::new(AtomicBool::new(false));
    let breakers = Breakers::new();
    breakers
        .register(
            "svc",
            BreakerConfig::builder()
                .trip(Trip::Consecutive(1))
                .build()
                .unwrap(),
        )
        .unwrap();
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let pools = Pools::new();
    pools.insert(pool).unwrap();
    let environment = Environment::builder()
        .gate(RateGate::new())
        .breakers(breakers)
        .pools(pools)
        .critical_memory({
            let critical = Arc::clone(&critical);
            move || critical.load(SeqCst)
        })
        .recorders({
            let seen = Arc::clone(&seen);
            move |_| Arc::clone(&seen) as Arc<dyn Recorder>
        })
        .build();
    let guard = || {
        environment
            .guard("svc")
            .quota(Quota::per_minute(3))
            .pool(ECHO)
    };

    guard().run(|_| ok()).await.unwrap();
    critical.store(true, SeqCst);
    let refused = guard().run(|_| ok()).await.unwrap_err();
    assert!(matches!(refused, GuardError::MemoryPressure { .. }));
    critical.store(false, SeqCst);
    // Memory pressure refused before the gate spent anything: two are left of three.
    assert!(matches!(
        guard().run(|_| fail()).await,
        Err(GuardError::Operation(_))
    ));
    assert!(matches!(
        guard().run(|_| ok()).await,
        Err(GuardError::CircuitOpen(_))
    ));
    assert!(matches!(
        guard().run(|_| ok()).await,
        Err(GuardError::RateLimited { .. })
    ));
    assert_eq!(
        *seen.0.lock().unwrap(),
        [
            OperationOutcome::Success,
            OperationOutcome::MemoryPressure,
            OperationOutcome::Failure,
            OperationOutcome::CircuitOpen,
            OperationOutcome::RateLimited,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_misspelt_service_or_pool_is_an_error_and_not_an_unprotected_call() {
    let environment = Environment::builder()
        .gate(RateGate::new())
        .breakers(Breakers::new())
        .pools(Pools::new())
        .build();
    let error = environment.guard("svd").run(|()| ok()).await.unwrap_err();
    assert!(matches!(
        error,
        GuardError::Config(GuardConfigError::UnknownBreaker { .. })
    ));
    let error = environment
        .guard("svd")
        .without_breaker()
        .pool(ECHO)
        .build()
        .unwrap_err();
    assert!(matches!(error, GuardConfigError::UnknownPool { .. }));
    // Nothing of it stays, as would add up where names come from outside.
    assert_eq!(environment.status(), []);
    let error = Guard::builder("svc")
        .quota(Quota::per_second(1))
        .build()
        .unwrap_err();
    assert!(matches!(error, GuardConfigError::NoGate { .. }));
}

#[tokio::test(start_paused = true)]
async fn grd_6_a_guard_goes_by_the_breaker_that_has_the_name_when_it_is_built() {
    let breakers = Breakers::new();
    let environment = Environment::builder().breakers(breakers.clone()).build();
    breakers.register("svc", BreakerConfig::default()).unwrap();
    environment.guard("svc").run(|()| ok()).await.unwrap();

    breakers.remove("svc");
    let error = environment.guard("svc").run(|()| ok()).await.unwrap_err();
    assert!(matches!(
        error,
        GuardError::Config(GuardConfigError::UnknownBreaker { .. })
    ));
    let successor = breakers.register("svc", BreakerConfig::default()).unwrap();
    successor.force_open();
    let error = environment.guard("svc").run(|()| ok()).await.unwrap_err();
    assert!(matches!(error, GuardError::CircuitOpen(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn grd_7_guards_of_a_service_count_together_whenever_its_breaker_was_registered() {
    let breakers = Breakers::new();
    let environment = Environment::builder().breakers(breakers.clone()).build();
    let early = environment.guard("svc").without_breaker().build().unwrap();
    early.run(|()| ok()).await.unwrap();
    breakers.register("svc", BreakerConfig::default()).unwrap();
    environment.guard("svc").run(|()| ok()).await.unwrap();
    early.run(|()| ok()).await.unwrap();

    assert_eq!(environment.status(), [early.status()]);
    assert_eq!(early.status().offered(), 3);
}

#[tokio::test(start_paused = true)]
async fn grd_15_a_pool_of_plain_objects_lends_within_the_deadline_and_lists_where_the_guard_was_called()
 {
    let pool = ObjectPool::builder("numbers", [7]).build().unwrap();
    let second = Duration::from_secs(1);
    let guard = Guard::builder("svc").pool(pool.clone()).deadline(second);
    let guard = guard.build().unwrap();
    let look = async |number: Object<i32>| Ok::<_, io::Error>((*number, pool.holders()[0].line()));
    let (line, found) = (line!(), guard.run(look).await);
    assert_eq!(found.unwrap(), (7, line));

    let held = pool.checkout().await.unwrap();
    let began = Instant::now();
    let refused = guard.run(look).await.unwrap_err();
    assert_eq!(began.elapsed(), second);
    assert!(matches!(
        refused,
        GuardError::Pool(CheckoutError::TimedOut { in_use: 1, .. })
    ));
    drop(held);
    assert!(guard.run(look).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn grd_6_a_key_without_a_quota_is_an_error_and_not_an_unlimited_call() {
    let runs = AtomicU32::new(0);
    let work = |()| {
        runs.fetch_add(1, SeqCst);
        ok()
    };
    let judge = |_: &_| Outcome::Success;
    let told = "service `svc`: quota: a gate, or a key that comes with a call, limits nobody without; set `quota` or `rate_key`";
    let refused = Guard::builder("svc").gate(RateGate::new()).build();
    assert_eq!(refused.unwrap_err().to_string(), told);
    // A tree has a gate in any case.
    let environment = Environment::builder().gate(RateGate::new()).build();
    let guard = environment.guard("svc").build().unwrap();
    let refused = guard.run_keyed(&7, work, judge).await.unwrap_err();
    assert_eq!(refused.to_string(), told);
    assert!(refused.is_refusal() && !refused.is_retryable());
    // It is the guard that is wrong: nothing was offered to the service.
    assert_eq!((runs.load(SeqCst), guard.status().offered()), (0, 0));
    assert!(guard.run(work).await.is_ok());

    let retry = Retry::new(2, Backoff::constant(Duration::from_secs(1))).unwrap();
    let guard = guard.retrying(retry);
    let refused = guard.run_keyed(&7, work, judge, |_| true).await;
    assert!(matches!(
        refused,
        Err(GuardError::Config(GuardConfigError::NoQuota { .. }))
    ));
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn grd_15_a_pool_lists_where_the_guard_was_called() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let seen = || {
        let holders = pool.holders();
        assert_eq!(holders.len(), 1);
        let place = holders[0].location;
        assert_eq!(place.file(), file!());
        place.line()
    };
    let look = async |_| Ok::<_, io::Error>(seen());
    let builder = || {
        let guard = Guard::builder("svc").pool(pool.clone());
        guard.gate(RateGate::new()).quota(Quota::per_hour(100))
    };
    let judge = |_: &_| Outcome::Success;

    let (line, found) = (line!(), builder().run(look).await);
    assert_eq!(found.unwrap(), line);
    let (line, found) = (line!(), builder().run_with(look, judge).await);
    assert_eq!(found.unwrap(), line);

    let guard = builder().build().unwrap();
    let (line, found) = (line!(), guard.run(look).await);
    assert_eq!(found.unwrap(), line);
    let (line, found) = (line!(), guard.run_with(look, judge).await);
    assert_eq!(found.unwrap(), line);
    let (line, found) = (line!(), guard.run_keyed(&1, look, judge).await);
    assert_eq!(found.unwrap(), line);

    let retry = Retry::new(2, Backoff::constant(Duration::from_secs(1))).unwrap();
    let guard = guard.retrying(retry);
    let (line, found) = (line!(), guard.run(look).await);
    assert_eq!(found.unwrap(), line);
    let (line, found) = (line!(), guard.run_if(look, |_| true).await);
    assert_eq!(found.unwrap(), line);
    let run = guard.run_keyed(&1, look, judge, |_| true);
    let (line, found) = (line!() - 1, run.await);
    assert_eq!(found.unwrap(), line);
}
