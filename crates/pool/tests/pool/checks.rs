//! Workers that are asked whether they are in order, for who does not want to wait.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use perennial_pool::CheckoutError;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::support::{Fixture, Msg, config, poll};

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
