//! The accepting path alone, for counting its instructions: `accepting_path CASE TIMES`.
//!
//! `.ci/instructions` runs each case under callgrind, which collects within `counted` only: without what is done once.
//! `accepting_path` alone lists the cases.

use std::convert::Infallible;
use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, Outcome, Trip};
use perennial_guard::{ChoosePool, Guard, GuardBuilder};
use perennial_pool::{ObjectPool, Pool, PoolConfig, Worker, WorkerRef};
use perennial_rate_limit::{Quota, RateGate};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::{Builder, Runtime};

const CASES: &[&str] = &[
    "gate.check",
    "breaker.permit",
    "pool.checkout",
    "pool.plain_object",
    "guard.nothing",
    "guard.deadline",
    "guard.gate_breaker",
    "guard.plain_objects",
    "guard.workers",
];

const KEYS: u64 = 1_000;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(case), Some(times)) = (arguments.next(), arguments.next()) else {
        println!("{}", CASES.join("\n"));
        return ExitCode::SUCCESS;
    };
    let Ok(times) = times.parse() else {
        eprintln!("`{times}` is not a number");
        return ExitCode::FAILURE;
    };
    let runtime = Builder::new_current_thread().enable_time().build();
    if make(&case, &runtime.expect("a runtime can be made"), times) {
        return ExitCode::SUCCESS;
    }
    eprintln!("there is no case `{case}`");
    ExitCode::FAILURE
}

fn make(case: &str, runtime: &Runtime, times: u64) -> bool {
    let gate = RateGate::new();
    let quota = Quota::per_second(100_000_000);
    let breaker = Breaker::new("service", consecutive());
    let gated = || Guard::builder("service").gate(gate.clone()).quota(quota);
    match case {
        "gate.check" => {
            let limiter = gate.limiter("service", quota);
            measure(runtime, times, async |key| {
                black_box(limiter.check(&key).is_allowed());
            });
        }
        "breaker.permit" => measure(runtime, times, async |_| {
            black_box(&breaker).try_acquire().expect("closed").success();
        }),
        "pool.checkout" => {
            let (_tree, pool) = runtime.block_on(workers());
            measure(runtime, times, async |_| {
                drop(black_box(pool.checkout().await.expect("one is free")));
            });
        }
        "pool.plain_object" => {
            let pool = objects();
            measure(runtime, times, async |_| {
                drop(black_box(pool.checkout().await.expect("one is free")));
            });
        }
        "guard.nothing" => run_unlimited(runtime, times, Guard::builder("service")),
        "guard.deadline" => run_unlimited(runtime, times, deadline(Guard::builder("service"))),
        "guard.gate_breaker" => run(runtime, times, deadline(gated().breaker(breaker))),
        "guard.plain_objects" => {
            let stages = gated().breaker(breaker).pool(objects());
            run(runtime, times, deadline(stages));
        }
        "guard.workers" => {
            let (_tree, pool) = runtime.block_on(workers());
            run(
                runtime,
                times,
                deadline(gated().breaker(breaker).pool(pool)),
            );
        }
        _ => return false,
    }
    true
}

/// Runs a ready operation so many times.
fn run<P: ChoosePool>(runtime: &Runtime, times: u64, stages: GuardBuilder<P>) {
    let guard = stages.build().expect("all stages are given");
    measure(runtime, times, async |key| {
        let work = |item| async move {
            black_box(&item);
            Ok::<u64, Infallible>(key)
        };
        let result = guard.run_keyed(&key, work, |_| Outcome::Success).await;
        black_box(result.is_ok());
    });
}

/// As [`run`], of a guard without a quota.
fn run_unlimited(runtime: &Runtime, times: u64, stages: GuardBuilder) {
    let guard = stages.build().expect("all stages are given");
    measure(runtime, times, async |key| {
        let work = |()| async move { Ok::<u64, Infallible>(key) };
        let result = guard.run_with(work, |_| Outcome::Success).await;
        black_box(result.is_ok());
    });
}

fn measure(runtime: &Runtime, times: u64, once: impl AsyncFn(u64)) {
    // The first time everything is made that is made once.
    runtime.block_on(async {
        for key in 0..KEYS {
            once(key).await;
        }
    });
    counted(runtime, async {
        for number in 0..times {
            once(number % KEYS).await;
        }
    });
}

/// Within this, and whatever it calls, instructions are counted.
#[inline(never)]
fn counted(runtime: &Runtime, work: impl Future<Output = ()>) {
    runtime.block_on(work);
}

fn deadline<P>(stages: GuardBuilder<P>) -> GuardBuilder<P> {
    stages.deadline(Duration::from_secs(5))
}

fn consecutive() -> BreakerConfig {
    let config = BreakerConfig::builder().trip(Trip::Consecutive(5));
    config.build().expect("valid")
}

fn objects() -> ObjectPool<u64> {
    ObjectPool::builder("objects", 0..10)
        .build()
        .expect("valid")
}

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct IdleWorker;

impl Worker for IdleWorker {
    type Actor = Idle;
    type Client = WorkerRef<()>;

    fn actor(&self) -> (Idle, ()) {
        (Idle, ())
    }

    fn client(&self, worker: WorkerRef<()>) -> WorkerRef<()> {
        worker
    }
}

async fn workers() -> (Supervisor, Pool<IdleWorker>) {
    let pool = Pool::new("workers", IdleWorker, PoolConfig::new(10)).expect("valid");
    let tree = Supervisor::builder().child(pool.child_spec()).build();
    let tree = tree.expect("valid").start("example").await;
    (tree.expect("it starts"), pool)
}
