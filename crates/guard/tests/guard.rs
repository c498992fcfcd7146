//! The guard's order and rules, with the real gate, breaker and pool.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, Breakers, Outcome, Trip};
use perennial_guard::{
    Environment, Guard, GuardConfigError, GuardError, OperationOutcome, Recorder,
};
use perennial_lifecycle::ExitReason;
use perennial_pool::{Pool, PoolConfig, PoolName, Pools, Worker, WorkerRef};
use perennial_rate_limit::{Quota, RateGate};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

const ECHO: PoolName<EchoWorker> = PoolName::new("echo");

struct Echo;

impl Actor for Echo {
    type Msg = RpcReplyPort<u32>;
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<Self::Msg>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        reply: Self::Msg,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(reply.send(7)?)
    }
}

struct EchoWorker;

impl Worker for EchoWorker {
    type Actor = Echo;
    type Client = WorkerRef<RpcReplyPort<u32>>;
    fn actor(&self) -> (Echo, ()) {
        (Echo, ())
    }
    fn client(&self, worker: WorkerRef<RpcReplyPort<u32>>) -> Self::Client {
        worker
    }
}

#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<OperationOutcome>>);

impl Recorder for Seen {
    fn record(&self, outcome: OperationOutcome, _: Duration) {
        self.0.lock().unwrap().push(outcome);
    }
}

fn breaker() -> Breaker {
    let trip = Trip::Consecutive(1);
    Breaker::new("svc", BreakerConfig::builder().trip(trip).build().unwrap())
}

async fn ok() -> Result<u32, io::Error> {
    Ok(1)
}

async fn fail() -> Result<u32, io::Error> {
    Err(io::Error::other("broken"))
}

async fn pool(config: PoolConfig) -> (Supervisor, Pool<EchoWorker>) {
    let pool = Pool::new(ECHO, EchoWorker, config).unwrap();
    let supervisor = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("t")
        .await
        .unwrap();
    (supervisor, pool)
}

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
async fn a_cell_spent_at_the_gate_stays_spent_when_the_breaker_refuses() {
    let breaker = breaker();
    breaker.force_open();
    let guard = Guard::builder("svc")
        .gate(RateGate::new())
        .quota(Quota::per_minute(1))
        .breaker(breaker.clone())
        .build()
        .unwrap();
    assert!(matches!(
        guard.run(|()| ok()).await,
        Err(GuardError::CircuitOpen(_))
    ));
    breaker.reset();
    assert!(matches!(
        guard.run(|()| ok()).await,
        Err(GuardError::RateLimited { .. })
    ));
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
async fn a_call_dropped_at_any_poll_gives_everything_back() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let breaker = Breaker::new("svc", BreakerConfig::default());
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .pool(pool.clone())
        .deadline(Duration::from_secs(5))
        .build()
        .unwrap();
    let began = Arc::new(AtomicUsize::new(0));
    for polls in 0..12 {
        let mut call = Box::pin(guard.run(|echo| {
            began.fetch_add(1, SeqCst);
            async move {
                tokio::task::yield_now().await;
                echo.call(|reply| reply).await
            }
        }));
        let mut done = false;
        for _ in 0..polls {
            done = futures_util::poll!(&mut call).is_ready();
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        // Still lends its one worker, within the time that a worker needs to come back.
        let worker = pool.checkout().await.unwrap();
        assert_eq!(worker.call(|reply| reply).await.unwrap(), 7);
        drop(worker);
        assert_eq!(pool.status().in_use, 0, "after {polls} polls, done: {done}");
    }
    assert!(began.load(SeqCst) > 0);
    let status = breaker.status();
    assert_eq!(status.failures, 0);
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
    let error = Guard::builder("svc")
        .quota(Quota::per_second(1))
        .build()
        .unwrap_err();
    assert!(matches!(error, GuardConfigError::NoGate { .. }));
}
