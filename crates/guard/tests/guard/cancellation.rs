//! Every public future is dropped at every one of its polls, and nothing leaks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, OpenTime, Outcome, Trip};
use perennial_guard::{Bulkhead, Guard, GuardBuilder, OperationOutcome, Retry, Spend};
use perennial_lifecycle::Backoff;
use perennial_pool::{Checkout, Pool, PoolConfig};
use perennial_rate_limit::{GateLimiter, Quota, RateGate};
use perennial_supervisor::Supervisor;
use tokio::time::{advance, sleep};

use crate::support::{EchoWorker, pool, slept};

const MS: Duration = Duration::from_millis(1);
/// No cell comes back within the time of a test.
const PLENTY: Quota = Quota::per_hour(300);

/// What may be in a call's way before it is begun.
#[derive(Clone, Copy, Debug, PartialEq)]
enum InTheWay {
    Nothing,
    /// Another call has the only place in the bulkhead.
    Bulkhead,
    /// Another holder has the only worker.
    Pool,
}

/// One of everything: each leak is seen at once.
struct World {
    pool: Pool<EchoWorker>,
    breaker: Breaker,
    places: Bulkhead,
    gate: RateGate,
    limiter: GateLimiter,
    begun: Arc<AtomicU64>,
    _supervisor: Supervisor,
}

impl World {
    async fn new() -> Self {
        let (supervisor, pool) = pool(PoolConfig::new(1)).await;
        // Half-open for ever, with one place for a probe.
        let config = BreakerConfig::builder()
            .trip(Trip::Consecutive(1))
            .open_time(OpenTime::Constant(MS))
            .successes_to_close(1_000_000)
            .build();
        let breaker = Breaker::new("svc", config.unwrap());
        breaker.trip();
        advance(MS).await;
        let gate = RateGate::new();
        Self {
            pool,
            breaker,
            places: Bulkhead::new(1.try_into().unwrap()).wait_at_most(Duration::from_secs(60)),
            limiter: gate.limiter("svc", PLENTY),
            gate,
            begun: Arc::default(),
            _supervisor: supervisor,
        }
    }

    fn builder(&self, spend: Spend) -> GuardBuilder<Pool<EchoWorker>, ()> {
        Guard::builder("svc")
            .gate(self.gate.clone())
            .quota(PLENTY)
            .spend(spend)
            .breaker(self.breaker.clone())
            .bulkhead(self.places.clone())
            .pool(self.pool.clone())
            .deadline(Duration::from_secs(60))
    }

    /// An operation that waits, asks its worker, and waits again.
    fn operation(
        &self,
    ) -> impl Fn(Checkout<EchoWorker>) -> Pin<Box<dyn Future<Output = io::Result<u32>>>> + Clone + use<>
    {
        let begun = Arc::clone(&self.begun);
        move |echo| {
            begun.fetch_add(1, SeqCst);
            Box::pin(async move {
                sleep(MS).await;
                let answer = echo.call(|reply| reply).await;
                sleep(MS).await;
                answer.map_err(io::Error::other)
            })
        }
    }

    async fn put(&self, what: InTheWay) {
        match what {
            InTheWay::Nothing => {}
            InTheWay::Bulkhead => {
                let other = Guard::builder("other").bulkhead(self.places.clone());
                let other = other.build().unwrap();
                tokio::spawn(async move { other.run(|()| async { slept(3 * MS).await }).await });
            }
            InTheWay::Pool => {
                let held = self.pool.checkout().await.unwrap();
                tokio::spawn(async move {
                    sleep(3 * MS).await;
                    drop(held);
                });
            }
        }
        tokio::task::yield_now().await;
    }

    /// Everything is where it was.
    async fn is_whole(&self, when: &str) {
        // What was in the way is gone by then.
        sleep(10 * MS).await;
        let worker = self.pool.checkout().await.unwrap();
        assert_eq!(worker.call(|reply| reply).await.unwrap(), 7, "{when}");
        drop(worker);
        let status = self.pool.status();
        assert_eq!((status.in_use, status.waiting), (0, 0), "{when}");
        assert_eq!(self.places.in_use(), 0, "{when}");
        assert!(
            self.breaker.try_acquire().is_ok(),
            "{when}: the probe's place"
        );
    }
}

/// Polls a future so many times, with time passing in between, and drops it. Says whether it came to its end.
async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if futures_util::poll!(&mut future).is_ready() {
            return true;
        }
        // Lets workers and timers do their part.
        advance(MS / 2).await;
        tokio::task::yield_now().await;
    }
    false
}

/// Drops one kind of call at each of its polls until one comes to its end.
async fn at_every_poll<F, Fut, T>(spend: Spend, way: InTheWay, call: F)
where
    F: Fn(&World) -> Fut,
    Fut: Future<Output = T>,
{
    let world = World::new().await;
    let spent = || u64::from(world.limiter.status(&()).spent);
    let (mut before_any, mut in_operation) = (0, 0);
    for polls in 0.. {
        assert!(polls < 200, "never ends");
        world.put(way).await;
        let (spent_before, begun_before) = (spent(), world.begun.load(SeqCst));
        let done = dropped_after(polls, call(&world)).await;
        let begun = world.begun.load(SeqCst) - begun_before;
        let paid = spent() - spent_before;
        match spend {
            // The gate is the first question of the first poll.
            Spend::AtGate => assert!(
                paid >= begun && (polls == 0) == (paid == 0),
                "{polls}: {paid}"
            ),
            Spend::WhenBegun => assert_eq!(paid, begun, "after {polls} polls"),
        }
        before_any += u32::from(polls > 0 && begun == 0);
        in_operation += u32::from(begun > 0 && !done);
        world
            .is_whole(&format!("{spend:?}, {way:?}, after {polls} polls"))
            .await;
        if done {
            break;
        }
    }
    // It was dropped in the waits and in the operation.
    assert!(in_operation > 2, "{in_operation}");
    assert!(
        way == InTheWay::Nothing || before_any > 2,
        "{way:?}: {before_any}"
    );
    // The probes that were dropped or came in vain are not results.
    assert_eq!(world.breaker.status().failures, 0);
}

async fn every_way<F, Fut, T>(call: F)
where
    F: Fn(&World, Spend) -> Fut,
    Fut: Future<Output = T>,
{
    for spend in [Spend::AtGate, Spend::WhenBegun] {
        for way in [InTheWay::Nothing, InTheWay::Bulkhead, InTheWay::Pool] {
            at_every_poll(spend, way, |world| call(world, spend)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn run_dropped_at_any_poll_gives_everything_back() {
    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap();
        let operation = world.operation();
        async move { guard.run(operation).await }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn run_with_dropped_at_any_poll_gives_everything_back() {
    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap();
        let operation = world.operation();
        async move { guard.run_with(operation, |_| Outcome::Success).await }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn run_of_a_builder_dropped_at_any_poll_gives_everything_back() {
    every_way(|world, spend| {
        let (builder, operation) = (world.builder(spend), world.operation());
        async move { builder.run(operation).await }
    })
    .await;
    every_way(|world, spend| {
        let (builder, operation) = (world.builder(spend), world.operation());
        async move { builder.run_with(operation, |_| Outcome::Success).await }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn run_keyed_dropped_at_any_poll_gives_everything_back() {
    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap();
        let operation = world.operation();
        async move { guard.run_keyed(&(), operation, |_| Outcome::Success).await }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_retrying_run_dropped_at_any_poll_gives_everything_back() {
    let retry = Retry::new(3, Backoff::constant(2 * MS)).unwrap();
    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap().retrying(retry);
        let operation = world.operation();
        let runs = AtomicU32::new(0);
        async move {
            let twice = |echo| {
                let (answer, run) = (operation(echo), runs.fetch_add(1, SeqCst));
                async move {
                    let answer = answer.await?;
                    if run == 0 {
                        Err(io::Error::other("again"))
                    } else {
                        Ok(answer)
                    }
                }
            };
            let ignore = |_: &_| Outcome::Ignored;
            guard.run_keyed(&(), twice, ignore, |_| true).await
        }
    })
    .await;
    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap().retrying(retry);
        let operation = world.operation();
        async move { guard.run(operation).await }
    })
    .await;
    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap().retrying(retry);
        let operation = world.operation();
        async move { guard.run_if(operation, |_| true).await }
    })
    .await;
}

#[cfg(feature = "tower")]
#[tokio::test(start_paused = true)]
async fn a_request_dropped_at_any_poll_gives_everything_back() {
    use perennial_guard::tower::GuardLayer;
    use tower::{Layer as _, ServiceExt as _, service_fn};

    every_way(|world, spend| {
        let guard = world.builder(spend).build().unwrap();
        let begun = Arc::clone(&world.begun);
        let service = GuardLayer::new(guard).layer(service_fn(move |()| {
            begun.fetch_add(1, SeqCst);
            async { slept(2 * MS).await }
        }));
        service.oneshot(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_counted_as_given_up_or_cancelled() {
    let world = World::new().await;
    let guard = world.builder(Spend::AtGate).build().unwrap();
    let mut offered = 0;
    for polls in 1.. {
        offered += 1;
        world.put(InTheWay::Pool).await;
        let done = dropped_after(polls, guard.run(world.operation())).await;
        sleep(10 * MS).await;
        let status = guard.status();
        assert_eq!(status.offered(), offered);
        assert_eq!(status.begun(), world.begun.load(SeqCst));
        if done {
            break;
        }
    }
    let status = guard.status();
    assert!(status.count(OperationOutcome::GivenUp) > 2, "{status:?}");
    assert!(status.count(OperationOutcome::Cancelled) > 2, "{status:?}");
    assert_eq!(status.count(OperationOutcome::Success), 1);
    // The breaker counts those that had its permit.
    let breaker = world.breaker.status();
    assert_eq!(
        breaker.successes + breaker.failures + breaker.cancelled,
        offered
    );
}
