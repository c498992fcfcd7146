//! governor before deadpool before failsafe.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Pool, RecycleResult, Timeouts};
use failsafe::StateMachine;
use failsafe::backoff::Constant;
use failsafe::failure_policy::ConsecutiveFailures;
use failsafe::futures::CircuitBreaker as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ractor::rpc::CallResult;
use ractor::{Actor as _, ActorProcessingErr, ActorRef};

use crate::plain_pool::{self, Objects};
use crate::worker::{Square, Squarer};
use crate::{Contender, OBJECTS, PER_SECOND, TIMEOUT};

pub(crate) const NAME: &str = "by hand";
pub(crate) const WITH_TIMEOUTS: &str = "by hand, with timeouts";

const ALL_TIMEOUTS: Timeouts = Timeouts {
    wait: Some(TIMEOUT),
    create: Some(TIMEOUT),
    recycle: Some(TIMEOUT),
};

struct Stages<M: Manager> {
    limiter: DefaultKeyedRateLimiter<u64>,
    pool: Pool<M>,
    breaker: StateMachine<ConsecutiveFailures<Constant>, ()>,
}

impl<M: Manager> Stages<M> {
    fn new(pool: Pool<M>) -> Arc<Self> {
        let limit = NonZeroU32::new(PER_SECOND).expect("not zero");
        let backoff = failsafe::backoff::constant(Duration::from_secs(30));
        let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
        Arc::new(Self {
            limiter: RateLimiter::keyed(Quota::per_second(limit)),
            pool,
            breaker: failsafe::Config::new().failure_policy(policy).build(),
        })
    }

    fn check(&self, key: u64) {
        self.limiter.check_key(&key).expect("nobody is over quota");
    }
}

/// With objects of deadpool.
#[derive(Clone)]
pub(crate) struct Plain(Arc<Stages<Objects>>);

impl Contender for Plain {
    const NAME: &'static str = NAME;

    async fn start() -> Self {
        Self(Stages::new(plain_pool::managed()))
    }

    async fn operation(&self, key: u64) -> u64 {
        self.0.check(key);
        let mut object = self.0.pool.get().await.expect("an object is free");
        let work = async { Ok::<u64, Infallible>(object.work(key)) };
        self.0.breaker.call(work).await.expect("closed")
    }
}

/// The same with a timeout at each await.
#[derive(Clone)]
pub(crate) struct PlainWithTimeouts(Arc<Stages<Objects>>);

impl Contender for PlainWithTimeouts {
    const NAME: &'static str = WITH_TIMEOUTS;

    async fn start() -> Self {
        Self(Stages::new(plain_pool::managed()))
    }

    async fn operation(&self, key: u64) -> u64 {
        self.0.check(key);
        let object = self.0.pool.timeout_get(&ALL_TIMEOUTS).await;
        let mut object = object.expect("an object is free");
        let work = async { Ok::<u64, Infallible>(object.work(key)) };
        let answer = tokio::time::timeout(TIMEOUT, self.0.breaker.call(work)).await;
        answer.expect("in time").expect("closed")
    }
}

/// Starts worker actors.
#[derive(Debug)]
pub(crate) struct Squarers;

impl Manager for Squarers {
    type Type = ActorRef<Square>;
    type Error = ActorProcessingErr;

    async fn create(&self) -> Result<ActorRef<Square>, ActorProcessingErr> {
        let (worker, _) = Squarer::spawn(None, Squarer, ()).await?;
        Ok(worker)
    }

    async fn recycle(
        &self,
        worker: &mut ActorRef<Square>,
        _: &Metrics,
    ) -> RecycleResult<ActorProcessingErr> {
        match worker.get_status() {
            ractor::ActorStatus::Running => Ok(()),
            _ => Err(deadpool::managed::RecycleError::message("dead")),
        }
    }
}

async fn call(worker: &ActorRef<Square>, key: u64) -> Result<u64, ActorProcessingErr> {
    match worker.call(|reply| Square(key, reply), None).await? {
        CallResult::Success(answer) => Ok(answer),
        CallResult::Timeout | CallResult::SenderError => Err("no answer".into()),
    }
}

async fn workers() -> Arc<Stages<Squarers>> {
    let builder = Pool::builder(Squarers).max_size(OBJECTS);
    let pool = builder.runtime(deadpool::Runtime::Tokio1).build();
    let pool = pool.expect("a runtime is set");
    // All are started before the first turn.
    let mut started = Vec::new();
    for _ in 0..OBJECTS {
        started.push(pool.get().await.expect("it starts"));
    }
    drop(started);
    Stages::new(pool)
}

/// With worker actors, and one call to the worker.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Stages<Squarers>>);

impl Contender for Workers {
    const NAME: &'static str = NAME;

    async fn start() -> Self {
        Self(workers().await)
    }

    async fn operation(&self, key: u64) -> u64 {
        self.0.check(key);
        let worker = self.0.pool.get().await.expect("a worker is free");
        let answer = self.0.breaker.call(call(&worker, key)).await;
        answer.expect("closed, and the worker lives")
    }
}

/// The same with a timeout at each await.
#[derive(Clone)]
pub(crate) struct WorkersWithTimeouts(Arc<Stages<Squarers>>);

impl Contender for WorkersWithTimeouts {
    const NAME: &'static str = WITH_TIMEOUTS;

    async fn start() -> Self {
        Self(workers().await)
    }

    async fn operation(&self, key: u64) -> u64 {
        self.0.check(key);
        let worker = self.0.pool.timeout_get(&ALL_TIMEOUTS).await;
        let worker = worker.expect("a worker is free");
        let work = self.0.breaker.call(call(&worker, key));
        let answer = tokio::time::timeout(TIMEOUT, work).await;
        answer
            .expect("in time")
            .expect("closed, and the worker lives")
    }
}
