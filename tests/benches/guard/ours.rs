//! The guard: gate, breaker, pool, deadline, counts.

use std::convert::Infallible;
use std::sync::Arc;

use deadpool::managed;
use perennial::breaker::Trip;
use perennial::guard::GuardBuilder;
use perennial::pool::Object;
use perennial::{
    Breaker, BreakerConfig, Guard, ObjectPool, Outcome, Pool, PoolConfig, Quota, RateGate,
    Supervisor,
};

use crate::plain_pool::{self, Managed, Objects};
use crate::worker::{Square, SquareWorker};
use crate::{Contender, OBJECTS, PER_SECOND, SERVICE, TIMEOUT};

pub(crate) const NAME: &str = "Perennial";
pub(crate) const MANAGED: &str = "Perennial, managed pool";

fn builder() -> GuardBuilder {
    let config = BreakerConfig::builder().trip(Trip::Consecutive(5)).build();
    Guard::builder(SERVICE)
        .gate(RateGate::new())
        .quota(Quota::per_second(PER_SECOND))
        .breaker(Breaker::new(SERVICE, config.expect("valid")))
        .deadline(TIMEOUT)
}

/// With plain objects.
#[derive(Clone)]
pub(crate) struct Plain(Arc<Guard<ObjectPool<plain_pool::Plain>>>);

impl Contender for Plain {
    const NAME: &'static str = NAME;

    async fn start() -> Self {
        let objects = (0..OBJECTS).map(|_| plain_pool::Plain::default());
        let pool = ObjectPool::builder("plain", objects).build();
        let builder = builder().pool(pool.expect("valid"));
        Self(Arc::new(builder.build().expect("all stages are given")))
    }

    async fn operation(&self, key: u64) -> u64 {
        let work = |mut object: Object<plain_pool::Plain>| async move {
            Ok::<u64, Infallible>(object.work(key))
        };
        let result = self.0.run_keyed(&key, work, failures_are_errors).await;
        result.expect("nothing refuses")
    }
}

/// With objects of deadpool's managed pool.
#[derive(Clone)]
pub(crate) struct PlainManaged(Arc<Guard<Managed>>);

impl Contender for PlainManaged {
    const NAME: &'static str = MANAGED;

    async fn start() -> Self {
        let builder = builder().pool(Managed(plain_pool::managed()));
        Self(Arc::new(builder.build().expect("all stages are given")))
    }

    async fn operation(&self, key: u64) -> u64 {
        let work = |mut object: managed::Object<Objects>| async move {
            Ok::<u64, Infallible>(object.work(key))
        };
        let result = self.0.run_keyed(&key, work, failures_are_errors).await;
        result.expect("nothing refuses")
    }
}

fn failures_are_errors<T, E>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}

/// With a pool of supervised worker actors, and one call to the worker.
#[derive(Clone)]
pub(crate) struct Workers {
    guard: Arc<Guard<Pool<SquareWorker>>>,
    // The workers end with it.
    _tree: Arc<Supervisor>,
}

impl Contender for Workers {
    const NAME: &'static str = NAME;

    async fn start() -> Self {
        let pool = Pool::new("squarers", SquareWorker, PoolConfig::new(OBJECTS)).expect("valid");
        let tree = Supervisor::builder().child(pool.child_spec());
        let tree = tree.build().expect("valid").start("bench").await;
        let guard = builder().pool(pool).build().expect("all stages are given");
        Self {
            guard: Arc::new(guard),
            _tree: Arc::new(tree.expect("it starts")),
        }
    }

    async fn operation(&self, key: u64) -> u64 {
        let work = |worker: perennial::Checkout<SquareWorker>| async move {
            worker.call(|reply| Square(key, reply)).await
        };
        let result = self.guard.run_keyed(&key, work, failures_are_errors).await;
        result.expect("nothing refuses")
    }
}
