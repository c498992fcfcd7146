//! Who stands where in line, when what he was given comes to nothing.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};

use crate::support::{Fixture, config};

type Served = Arc<Mutex<Vec<&'static str>>>;

/// Borrows a worker in a task of its own, and gives it back.
fn comes(it: &Fixture, served: &Served, who: &'static str) -> JoinHandle<()> {
    let (pool, served) = (it.pool.clone(), Arc::clone(served));
    tokio::spawn(async move {
        let held = pool.checkout().await.unwrap();
        served.lock().unwrap().push(who);
        drop(held);
    })
}

#[tokio::test(start_paused = true)]
async fn pool_15_who_gets_a_worker_that_is_not_in_order_keeps_his_place_in_line() {
    let served = Served::default();
    let mut it = Fixture::start(config(1, 0).check_after(Duration::ZERO)).await;
    it.worker.unfit.store(true, SeqCst);
    let first = comes(&it, &served, "who found it idle");
    let second = comes(&it, &served, "who came next");
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(it.pool.stats().retired, 1);

    let held = it.pool.checkout().await.unwrap();
    let first = comes(&it, &served, "who waited for it");
    let second = comes(&it, &served, "who waited behind");
    yield_now().await;
    assert_eq!(it.pool.status().waiting, 2);
    it.worker.unfit.store(true, SeqCst);
    drop(held);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(it.pool.stats().retired, 2);

    let expected = [
        "who found it idle",
        "who came next",
        "who waited for it",
        "who waited behind",
    ];
    assert_eq!(*served.lock().unwrap(), expected);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn pool_15_who_gets_a_worker_that_is_not_in_order_gets_another_where_nobody_may_wait() {
    let checked = config(1, 0).check_after(Duration::ZERO).max_waiting(0);
    let it = Fixture::start(checked).await;
    it.worker.unfit.store(true, SeqCst);
    let held = it.pool.checkout().await.unwrap();
    assert_eq!(held.incarnation().number(), 2);
    it.pool.checkout().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn pool_7_whose_start_of_a_worker_came_to_nothing_keeps_his_place_in_line() {
    let served = Served::default();
    let mut it = Fixture::start(config(0, 1)).await;
    it.worker.start.shut();
    let first = comes(&it, &served, "who starts it");
    it.worker.start.reached().await;
    let second = comes(&it, &served, "who came next");
    yield_now().await;
    assert_eq!(it.pool.status().waiting, 2);
    it.supervisor().kill();
    it.worker.start.open();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(*served.lock().unwrap(), ["who starts it", "who came next"]);
    it.lends_all().await;
}
