//! Updates that are limited, and whoever brings a worker.

use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, Trip};
use perennial_guard::{Guard, GuardError};
use perennial_rate_limit::{Quota, RateGate};
use perennial_supervisor::Supervisor;

use super::support::{LIMIT, Tree, memory, schema};
use crate::{ConfigServer, UpdateError};

#[tokio::test]
async fn an_update_without_a_server_fails_at_once_and_reading_goes_on() {
    let pool = memory();
    let config = ConfigServer::builder(schema(), pool.clone()).build();
    let _tree = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("test")
        .await
        .unwrap();
    let error = config.update(LIMIT, 1, "alice").await.unwrap_err();
    assert!(matches!(error, UpdateError::ServerDown { reason: None }));
    assert!(error.is_retryable());
    assert_eq!(config.get(LIMIT).unwrap(), 10);

    // Nor does it wait for a worker that it could do nothing with.
    let mut lent = Vec::new();
    for _ in 0..pool.config().size() + pool.config().overflow() {
        lent.push(pool.checkout().await.unwrap());
    }
    let update = config.update(LIMIT, 1, "alice");
    let at_once = tokio::time::timeout(Duration::ZERO, update).await;
    let error = at_once.expect("it waits").unwrap_err();
    assert!(matches!(error, UpdateError::ServerDown { reason: None }));
}

#[tokio::test]
async fn a_protected_update_is_limited_per_user_and_an_invalid_one_costs_nothing() {
    let pool = memory();
    let breaker = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .build()
        .unwrap();
    let breaker = Breaker::new("config_server", breaker);
    let guard = Guard::builder("config_server")
        .gate(RateGate::new())
        .quota(Quota::per_hour(2))
        .breaker(breaker.clone())
        .pool(pool.clone())
        .build()
        .unwrap();
    let builder = ConfigServer::builder(schema(), pool.clone()).guard(guard);
    let tree = Tree::start_with(builder, pool).await;
    let config = &tree.config;
    for _ in 0..5 {
        let error = config
            .update_protected(LIMIT, 5000, "alice")
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            GuardError::Operation(UpdateError::Invalid { .. })
        ));
    }
    for n in 1..=2_u32 {
        assert_eq!(
            config
                .update_protected(LIMIT, n, "alice")
                .await
                .unwrap()
                .version,
            u64::from(n)
        );
    }
    let error = config
        .update_protected(LIMIT, 3, "alice")
        .await
        .unwrap_err();
    assert!(matches!(error, GuardError::RateLimited { .. }), "{error}");
    config.update_protected(LIMIT, 3, "bob").await.unwrap();

    breaker.trip();
    let error = config
        .update_protected(LIMIT, 4, "carol")
        .await
        .unwrap_err();
    assert!(matches!(error, GuardError::CircuitOpen(_)), "{error}");
    assert_eq!((config.get(LIMIT).unwrap(), config.version()), (3, 3));
}

#[tokio::test]
async fn a_caller_that_brings_its_own_worker_gives_it_back() {
    let tree = Tree::start(memory()).await;
    let db = tree.pool.checkout().await.unwrap();
    let change = tree
        .config
        .write_through(db, LIMIT, 20, "alice")
        .await
        .unwrap();
    assert_eq!(change.version, 1);
    assert_eq!(tree.pool.status().in_use, 0);
}
