//! Commands for breakers and pools.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may")]

use std::pin::pin;
use std::time::Duration;

use futures_util::poll;
use perennial_breaker::{BreakerConfig, BreakerState, Breakers};
use perennial_debug::{CommandError, Debugger};
use perennial_lifecycle::Scope;
use perennial_pool::{CheckoutError, Pool, PoolConfig, Pools, Worker, WorkerRef};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);
const MAIL: &str = "shop/breakers/mail";
const CARTS: &str = "shop/pools/carts";

struct Cart;

impl Actor for Cart {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct Carts;

impl Worker for Carts {
    type Actor = Cart;
    type Client = ();

    fn actor(&self) -> (Cart, ()) {
        (Cart, ())
    }

    fn client(&self, _: WorkerRef<()>) {}
}

/// `shop`, with a breaker `mail` and a pool `carts` of one worker.
struct Shop {
    debugger: Debugger,
    breakers: Breakers,
    pool: Pool<Carts>,
}

impl Shop {
    async fn open() -> Self {
        let scope = Scope::new("shop");
        let breakers = Breakers::new();
        let mail = breakers.register("mail", BreakerConfig::default()).unwrap();
        let pools = Pools::new();
        let pool = Pool::new("carts", Carts, PoolConfig::new(1)).unwrap();
        pools.insert(pool.clone()).unwrap();
        let place = |id| scope.root().path().child(id);
        let debugger = Debugger::new(&scope)
            .with_breakers(place("breakers"), &breakers)
            .with_pools(place("pools"), &pools);
        let below = |child| Supervisor::builder().child(child).build().unwrap();
        Supervisor::builder()
            .child(below(mail.child_spec()).into_child("breakers"))
            .child(below(pool.child_spec()).into_child("pools"))
            .child(debugger.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            debugger,
            breakers,
            pool,
        }
    }

    /// What the operators did, as the tree remembers it.
    fn log(&self) -> Vec<String> {
        let timeline = self.debugger.timeline(usize::MAX);
        let texts = timeline.into_iter().map(|entry| entry.text);
        texts
            .filter_map(|text| text.strip_prefix("operator: ").map(str::to_owned))
            .collect()
    }

    /// Waits until the pool has so many workers, all of them idle.
    async fn idle(&self, workers: usize) {
        soon(|| self.pool.status().idle == workers).await;
    }
}

/// Gives everybody turns until something is so.
async fn soon(is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never");
}

#[tokio::test(start_paused = true)]
async fn dbg_18_an_operator_trips_isolates_and_resets_a_breaker() {
    let shop = Shop::open().await;
    let mail = shop.breakers.get("mail").unwrap();
    let debug = &shop.debugger;

    assert_eq!(debug.trip(MAIL).await.unwrap(), BreakerState::Open);
    assert!(mail.try_acquire().is_err());
    // For its open time, as after failures.
    advance(30 * SECOND).await;
    assert_eq!(mail.state(), BreakerState::HalfOpen);

    assert_eq!(debug.isolate(MAIL).await.unwrap(), BreakerState::ForcedOpen);
    assert_eq!(debug.trip(MAIL).await.unwrap(), BreakerState::ForcedOpen);
    advance(3_600 * SECOND).await;
    assert_eq!(mail.state(), BreakerState::ForcedOpen);
    assert!(mail.try_acquire().is_err());

    assert_eq!(debug.reset(MAIL).await.unwrap(), BreakerState::Closed);
    assert!(mail.try_acquire().is_ok());
    let log = ["trip", "isolate", "trip", "reset"].map(|it| format!("{it} {MAIL}"));
    assert_eq!(shop.log(), log);
}

#[tokio::test(start_paused = true)]
async fn dbg_18_a_breaker_is_commanded_whether_its_actor_runs_or_not() {
    let shop = Shop::open().await;
    shop.debugger.stop(MAIL).await.unwrap();
    let state = shop.debugger.isolate(MAIL).await.unwrap();
    assert_eq!(state, BreakerState::ForcedOpen);

    let config = BreakerConfig::default();
    let late = shop.breakers.register("late", config).unwrap();
    shop.debugger.trip("shop/breakers/late").await.unwrap();
    assert_eq!(late.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn dbg_18_a_command_that_is_not_for_a_breaker_says_why() {
    let shop = Shop::open().await;
    let mail = shop.breakers.get("mail").unwrap();
    let trip = async |path: &str| shop.debugger.trip(path).await.unwrap_err();

    let error = trip("shop/breakers/mial").await;
    assert_eq!(
        error.to_string(),
        format!("no actor at `shop/breakers/mial`; did you mean `{MAIL}`?")
    );
    let error = trip(CARTS).await;
    assert_eq!(
        error.to_string(),
        format!("cannot trip `{CARTS}`: it is no breaker")
    );
    for (state, text) in [
        (mail.force_closed(), "forced closed"),
        (mail.disable(), "disabled"),
        (mail.metrics_only(), "metrics only"),
    ] {
        mail.reset();
        match state {
            BreakerState::ForcedClosed => mail.force_closed(),
            BreakerState::Disabled => mail.disable(),
            _ => mail.metrics_only(),
        };
        let error = trip(MAIL).await;
        assert_eq!(
            error.to_string(),
            format!("cannot trip `{MAIL}`: it is {text} until it is reset")
        );
        assert!(!error.is_retryable());
        assert_eq!(mail.state(), state);
    }
    let log = shop.log();
    assert!(log.contains(&format!(
        "trip {MAIL} failed: cannot trip `{MAIL}`: it is disabled until it is reset"
    )));
}

#[tokio::test(start_paused = true)]
async fn dbg_19_an_operator_resizes_a_pool() {
    let shop = Shop::open().await;
    shop.debugger.resize(CARTS, 3, 2).await.unwrap();
    shop.idle(3).await;
    let status = shop.pool.status();
    assert_eq!((status.size, status.max_overflow), (3, 2));

    let lent = shop.pool.checkout().await.unwrap();
    shop.debugger.resize(CARTS, 1, 0).await.unwrap();
    drop(lent);
    shop.idle(1).await;
    assert_eq!(
        shop.log(),
        [
            format!("resize {CARTS} to 3 + 2"),
            format!("resize {CARTS} to 1 + 0")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn dbg_19_an_operator_drains_a_pool_and_has_it_lend_again() {
    let shop = Shop::open().await;
    let lent = shop.pool.checkout().await.unwrap();
    let mut drain = pin!(shop.debugger.drain(CARTS));
    assert!(poll!(&mut drain).is_pending());
    soon(|| shop.pool.is_drained()).await;
    assert!(poll!(&mut drain).is_pending());
    let refused = shop.pool.checkout().await.unwrap_err();
    assert!(matches!(refused, CheckoutError::Drained { in_use: 1, .. }));
    drop(lent);
    drain.await.unwrap();

    // It waits for nobody, and so do those that come after it.
    shop.debugger.drain(CARTS).await.unwrap();
    shop.debugger.resume_lending(CARTS).await.unwrap();
    assert!(shop.pool.checkout().await.is_ok());
    shop.debugger.resume_lending(CARTS).await.unwrap();
    assert_eq!(shop.log()[2], format!("resume lending of {CARTS}"));
}

#[tokio::test(start_paused = true)]
async fn dbg_19_a_pool_stays_drained_when_a_worker_does_not_come_back_in_time() {
    let shop = Shop::open().await;
    let lent = shop.pool.checkout().await.unwrap();
    let hasty = shop.debugger.clone().deadline(SECOND);
    let error = hasty.drain(CARTS).await.unwrap_err();
    assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    assert!(shop.pool.is_drained());

    shop.debugger.resume_lending(CARTS).await.unwrap();
    drop(lent);
    assert!(shop.pool.checkout().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn dbg_19_a_command_that_is_not_for_a_pool_says_why() {
    let shop = Shop::open().await;
    let error = shop.debugger.resize("shop/pool/carts", 1, 0).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("no actor at `shop/pool/carts`; did you mean `{CARTS}`?")
    );
    for path in ["shop/pools", "shop/pools/carts/worker-1"] {
        let error = shop.debugger.drain(path).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot drain `{path}`: it is no pool; did you mean `{CARTS}`?")
        );
    }
    let error = shop.debugger.resize(CARTS, usize::MAX, 0).await;
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pool `carts`: size: must be at most 1048576 workers"
    );
    assert!(!error.is_retryable());
    assert_eq!(shop.pool.status().size, 1);

    shop.pool.close();
    for error in [
        shop.debugger.drain(CARTS).await.unwrap_err(),
        shop.debugger.resume_lending(CARTS).await.unwrap_err(),
    ] {
        assert!(matches!(error, CommandError::PoolClosed { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_breakers_and_pools_their_commands_say_so() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    Supervisor::builder()
        .child(debugger.child_spec())
        .build()
        .unwrap()
        .start_in(&scope)
        .await
        .unwrap();
    let error = debugger.reset("shop/debug").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot reset `shop/debug`: it is no breaker"
    );
    let error = debugger.resize("shop/debug", 1, 0).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot resize `shop/debug`: it is no pool"
    );
}
