//! What a call that is let through allocates: nothing of the guard's own.
//!
//! The counter is the whole process's, so this file has one test.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::alloc::System;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial::guard::{Bulkhead, Environment, Lend, OperationOutcome, Recorder, Spend};
use perennial::{
    Breaker, BreakerConfig, CheckoutError, Guard, Outcome, Pool, PoolConfig, Quota, RateGate,
    Supervisor, Worker, WorkerRef,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: u64 = 1_000;
const QUOTA: Quota = Quota::per_second(100_000_000);

/// The least that lends something.
#[derive(Clone)]
struct Objects(Arc<Mutex<Vec<u64>>>);

struct Lent(Objects, u64);

impl Lend for Objects {
    type Item = Lent;

    async fn lend(&self, _: Option<Duration>) -> Result<Lent, CheckoutError> {
        let object = self.0.lock().unwrap().pop();
        Ok(Lent(self.clone(), object.unwrap()))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push(self.1);
    }
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

struct Ignore;

impl Recorder for Ignore {
    fn record(&self, _: OperationOutcome, _: Duration) {}
}

/// Counts the allocations of so many calls, after some that make what is made once.
///
/// The threads of the test harness allocate now and then, which only adds: the least of a few rounds is the calls' own.
async fn counted<T>(call: impl AsyncFn(u64) -> T) -> usize {
    let mut least = usize::MAX;
    for _ in 0..5 {
        for number in 0..10 {
            call(number).await;
        }
        let region = Region::new(ALLOCATOR);
        for number in 0..CALLS {
            call(number % 10).await;
        }
        let change = region.change();
        least = least.min(change.allocations + change.reallocations);
    }
    least
}

async fn ready(number: u64) -> Result<u64, io::Error> {
    Ok(number)
}

fn judge(result: &Result<u64, io::Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn grd_12_a_call_that_is_let_through_allocates_nothing_and_looks_nothing_up() {
    let pool = Pool::new("idle", IdleWorker, PoolConfig::new(2)).unwrap();
    let tree = Supervisor::builder().child(pool.child_spec());
    let _tree = tree.build().unwrap().start("t").await.unwrap();
    let environment = Environment::builder()
        .gate(RateGate::new())
        .critical_memory(|| false)
        .recorders(|_| Arc::new(Ignore))
        .build();
    for spend in [Spend::AtGate, Spend::WhenBegun] {
        let stages = || {
            environment
                .guard("svc")
                .rate_key(("tenant", 7_u64))
                .quota(QUOTA)
                .spend(spend)
                .breaker(Breaker::new("svc", BreakerConfig::default()))
                .bulkhead(Bulkhead::new(10.try_into().unwrap()))
                .deadline(Duration::from_secs(5))
                .slow_after(Duration::from_secs(5))
        };

        let guard = stages()
            .pool(Objects(Arc::new(Mutex::new(vec![1, 2]))))
            .build()
            .unwrap();
        let run = counted(async |number| guard.run(|_| ready(number)).await.unwrap()).await;
        assert_eq!(run, 0, "of {CALLS} calls");
        let keyed = async |number| {
            let key = ("tenant", number);
            guard
                .run_keyed(&key, |_| ready(number), judge)
                .await
                .unwrap()
        };
        assert_eq!(
            counted(keyed).await,
            0,
            "of {CALLS} calls, each with a key of its own"
        );

        // With a pool of workers it is the checkout that allocates, or does not.
        let bare = counted(async |_| drop(pool.checkout().await.unwrap())).await;
        let guard = stages().pool(pool.clone()).build().unwrap();
        let guarded = counted(async |number| guard.run(|_| ready(number)).await.unwrap()).await;
        println!("{bare} allocations of {CALLS} checkouts, {guarded} of {CALLS} guarded ones");
        assert_eq!(guarded, bare);
    }
    let guard = Guard::builder("bare").build().unwrap();
    assert_eq!(
        counted(async |number| guard.run(|()| ready(number)).await.unwrap()).await,
        0
    );
}
