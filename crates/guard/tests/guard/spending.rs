//! Who pays at the gate, and when.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use perennial_breaker::Breaker;
use perennial_guard::{Bulkhead, Guard, GuardBuilder, GuardError, NoPool, Spend, Stage};
use perennial_pool::PoolConfig;
use perennial_rate_limit::{Quota, RateGate};

use crate::support::{breaker, fail, ok, pool};

const HOURLY: Quota = Quota::per_hour(5);

/// A guard with a gate, and how many cells its key has spent.
fn guard(spend: Spend) -> (GuardBuilder<NoPool, ()>, impl Fn() -> u32) {
    let gate = RateGate::new();
    let limiter = gate.limiter("svc", HOURLY);
    let builder = Guard::builder("svc").gate(gate).quota(HOURLY).spend(spend);
    (builder, move || limiter.status(&()).spent)
}

fn open() -> Breaker {
    let breaker = breaker();
    breaker.force_open();
    breaker
}

#[tokio::test(start_paused = true)]
async fn a_cell_spent_at_the_gate_stays_spent_when_a_later_stage_refuses() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let (builder, spent) = guard(Spend::default());
    let refused = builder.breaker(open()).run(|()| ok()).await.unwrap_err();
    assert_eq!((refused.refused_by(), spent()), (Some(Stage::Breaker), 1));

    let _held = pool.checkout().await.unwrap();
    let (builder, spent) = guard(Spend::AtGate);
    let builder = builder.pool(pool).deadline(Duration::from_secs(1));
    let refused = builder.run(|_| ok()).await.unwrap_err();
    assert_eq!((refused.refused_by(), spent()), (Some(Stage::Pool), 1));

    let (builder, spent) = guard(Spend::AtGate);
    let guard = builder
        .bulkhead(Bulkhead::new(1.try_into().unwrap()))
        .build()
        .unwrap();
    let nested = guard.run(|()| guard.run(|()| ok())).await.unwrap_err();
    let refused = nested.into_operation().unwrap();
    assert_eq!((refused.refused_by(), spent()), (Some(Stage::Bulkhead), 2));
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_is_spent_when_the_operation_begins_is_kept_by_whoever_a_later_stage_refuses() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let (builder, spent) = guard(Spend::WhenBegun);
    let refused = builder.breaker(open()).run(|()| ok()).await.unwrap_err();
    assert_eq!((refused.refused_by(), spent()), (Some(Stage::Breaker), 0));

    let held = pool.checkout().await.unwrap();
    let (builder, spent) = guard(Spend::WhenBegun);
    let guarded = builder
        .pool(pool.clone())
        .deadline(Duration::from_secs(1))
        .build()
        .unwrap();
    let refused = guarded.run(|_| ok()).await.unwrap_err();
    assert_eq!((refused.refused_by(), spent()), (Some(Stage::Pool), 0));
    drop(held);
    // Begun is begun, whatever comes of it.
    guarded.run(|_| ok()).await.unwrap();
    guarded.run(|_| fail()).await.unwrap_err();
    assert_eq!(spent(), 2);

    let (builder, spent) = guard(Spend::WhenBegun);
    let guarded = builder
        .bulkhead(Bulkhead::new(1.try_into().unwrap()))
        .build()
        .unwrap();
    let nested = guarded.run(|()| guarded.run(|()| ok())).await.unwrap_err();
    let refused = nested.into_operation().unwrap();
    assert_eq!((refused.refused_by(), spent()), (Some(Stage::Bulkhead), 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_quota_is_refused_first_and_keeps_no_worker_either_way() {
    for spend in [Spend::AtGate, Spend::WhenBegun] {
        let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
        let (builder, spent) = guard(spend);
        let breaker = breaker();
        let guarded = builder
            .breaker(breaker.clone())
            .pool(pool.clone())
            .build()
            .unwrap();
        for _ in 0..5 {
            guarded.run(|_| ok()).await.unwrap();
        }
        let _held = pool.checkout().await.unwrap();
        let refused = guarded.run(|_| ok()).await.unwrap_err();
        assert_eq!(
            refused.retry_after(),
            Some(Duration::from_secs(720)),
            "{spend:?}"
        );
        assert_eq!((spent(), breaker.status().cancelled), (5, 0), "{spend:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_that_wait_for_a_worker_only_those_with_a_cell_begin() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let (builder, spent) = guard(Spend::WhenBegun);
    let guarded = builder.pool(pool.clone()).build().unwrap();
    let held = pool.checkout().await.unwrap();
    let mut calls: Vec<_> = (0..8).map(|_| Box::pin(guarded.run(|_| ok()))).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    assert_eq!((pool.status().waiting, spent()), (8, 0));
    drop(held);
    let mut begun = 0;
    for call in join_all(calls).await {
        match call {
            Ok(_) => begun += 1,
            Err(refused) => assert!(
                matches!(refused, GuardError::RateLimited { .. }),
                "{refused}"
            ),
        }
    }
    assert_eq!((begun, spent(), pool.status().in_use), (5, 5, 0));
}
