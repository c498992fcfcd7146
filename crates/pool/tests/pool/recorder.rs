//! A recorder of metrics is not ours: what it does is nobody's business here.

use std::time::Duration;

use perennial_pool::CheckoutError;
use perennial_testkit::under_panicking_metrics;

use crate::support::{Fixture, config};

async fn lends_and_refuses() {
    let mut it = Fixture::start(config(1, 1)).await;
    let held = (
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
    );
    let late = it.pool.checkout_within(Duration::from_millis(1)).await;
    assert!(matches!(late, Err(CheckoutError::TimedOut { .. })));
    let (pool, waits) = (it.pool.clone(), it.pool.clone());
    let waits = tokio::spawn(async move { waits.checkout().await.map(drop) });
    while pool.status().waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(held);
    waits.await.unwrap().unwrap();
    it.lends_all().await;
    assert_eq!(it.pool.stats().timeouts, 1);
    assert_eq!(it.root.node().restarts(), 0);
    for child in it.root.node().children() {
        assert_eq!(child.restarts(), 0, "{}", child.path());
    }
    it.stop().await;
}

#[test]
fn tree_8_metrics_that_panic_take_nothing_away() {
    under_panicking_metrics(lends_and_refuses);
}
