//! Workers that are asked whether they are in order.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use perennial_pool::{CheckoutError, PoolStats};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::support::{Fixture, Msg, When, config, poll};

const MINUTE: Duration = Duration::from_secs(60);

/// So many workers, that are asked whenever they are lent and answer to nothing `until` then.
async fn silent(workers: usize, until: &Arc<Notify>) -> Fixture {
    let checked = config(workers, 0)
        .check_after(Duration::ZERO)
        .check_timeout(Duration::from_secs(2));
    let it = Fixture::start(checked).await;
    for number in 1..=workers {
        let (reply, _) = oneshot::channel();
        let busy = Msg::Hold(Arc::clone(until), reply.into());
        assert!(it.run(&format!("worker-{number}")).post(busy).is_ok());
    }
    it
}

#[tokio::test(start_paused = true)]
async fn pool_15_who_does_not_want_to_wait_asks_workers_no_longer_than_others_wait() {
    let mut it = silent(3, &Arc::default()).await;
    let began = Instant::now();
    let refused = it.pool.try_checkout().await.unwrap_err();
    assert!(
        matches!(refused, CheckoutError::TimedOut { .. }),
        "{refused:?}"
    );
    // The third was being asked, at two seconds each.
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(it.pool.stats().timeouts, 1);
    it.lends_all().await;
    assert_eq!(it.pool.stats().retired, 3);
}

#[tokio::test(start_paused = true)]
async fn pool_13_a_drain_refuses_who_does_not_want_to_wait_while_a_worker_is_asked() {
    let until = Arc::default();
    let mut it = silent(1, &until).await;
    let mut asks = Box::pin(it.pool.try_checkout());
    assert!(poll(asks.as_mut()).is_pending());
    assert!(poll(pin!(it.pool.drain())).is_pending());
    until.notify_one();
    let refused = asks.await.unwrap_err();
    assert!(
        matches!(refused, CheckoutError::Drained { .. }),
        "{refused:?}"
    );
    it.pool.resume();
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_not_in_order_is_replaced_and_the_borrower_gets_another() {
    let mut it = Fixture::start(config(1, 0).check_after(MINUTE)).await;
    drop(it.pool.checkout().await.unwrap());
    assert_eq!(it.worker.checks.load(SeqCst), 0, "it was not idle for long");
    sleep(MINUTE).await;
    drop(it.pool.checkout().await.unwrap());
    assert_eq!(it.worker.checks.load(SeqCst), 1);
    sleep(MINUTE).await;
    it.worker.unfit.store(true, SeqCst);
    let first = it.run("worker-1");
    let held = it.pool.checkout().await.unwrap();
    assert_eq!(held.incarnation().number(), 2);
    assert_eq!(first.ended().await.class(), "killed");
    assert_eq!(it.pool.stats().retired, 1);
    drop(held);
    it.lends_all().await;
    // The same for who does not want to wait: there is no other one.
    sleep(MINUTE).await;
    it.worker.unfit.store(true, SeqCst);
    let refused = it.pool.try_checkout().await.unwrap_err();
    assert!(
        matches!(refused, CheckoutError::Exhausted { .. }),
        "{refused:?}"
    );
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn pool_15_a_checkout_is_counted_once_whatever_its_check_comes_to() {
    let mut it = Fixture::start(config(1, 0).check_after(MINUTE)).await;
    let counts = |it: &Fixture| {
        let PoolStats {
            checkouts,
            refused,
            timeouts,
            ..
        } = it.pool.stats();
        (checkouts, refused, timeouts)
    };
    // The borrower gets another worker.
    sleep(MINUTE).await;
    it.worker.unfit.store(true, SeqCst);
    drop(it.pool.checkout().await.unwrap());
    assert_eq!(counts(&it), (1, 0, 0));
    // There is no other for one that does not want to wait.
    sleep(MINUTE).await;
    it.worker.unfit.store(true, SeqCst);
    it.pool.try_checkout().await.unwrap_err();
    assert_eq!(counts(&it), (1, 1, 0));
    it.until(|it| it.pool.status().idle == 1).await;
    // It goes away while the worker is asked; its time runs out meanwhile; the pool is drained meanwhile.
    for (what, expected) in [
        ("drop", (1, 1, 0)),
        ("late", (1, 1, 1)),
        ("drain", (1, 2, 1)),
    ] {
        sleep(MINUTE).await;
        let (reply, _answer) = tokio::sync::oneshot::channel();
        let busy = crate::support::Msg::Hold(Arc::default(), reply.into());
        assert!(it.run("worker-1").post(busy).is_ok());
        let mut wait = Box::pin(it.pool.checkout_within(Duration::from_millis(5)));
        assert!(poll(wait.as_mut()).is_pending());
        match what {
            "drop" => drop(wait),
            "late" => drop(wait.await.unwrap_err()),
            _ => {
                let (refused, ()) = tokio::join!(wait, it.pool.drain());
                drop(refused.unwrap_err());
                it.pool.resume();
            }
        }
        assert_eq!(counts(&it), expected, "{what}");
        it.until(|it| it.pool.status().idle == 1).await;
    }
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn pool_15_a_check_that_panics_has_failed() {
    let mut it = Fixture::start(config(1, 0).check_after(MINUTE)).await;
    for (run, when) in [(1, When::AtOnce), (2, When::Later)] {
        sleep(MINUTE).await;
        *it.worker.panics.lock().unwrap() = Some(when);
        let unfit = it.run("worker-1");
        assert_eq!(unfit.number(), run);
        let held = it.pool.checkout().await.unwrap();
        assert_eq!(held.incarnation().number(), run + 1);
        assert_eq!(unfit.ended().await.class(), "killed");
        assert_eq!(it.pool.stats().retired, run);
    }
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_takes_too_long_has_failed() {
    let checked = config(1, 0)
        .check_after(MINUTE)
        .check_timeout(Duration::from_secs(2));
    let mut it = Fixture::start(checked).await;
    let until = Arc::new(Notify::new());
    let held = it.pool.checkout().await.unwrap();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    let busy = crate::support::Msg::Hold(Arc::clone(&until), reply.into());
    held.0.cast(busy).unwrap();
    drop(held);
    sleep(MINUTE).await;
    let began = Instant::now();
    let held = it.pool.checkout().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(held.incarnation().number(), 2);
    drop(held);
    it.lends_all().await;
}
