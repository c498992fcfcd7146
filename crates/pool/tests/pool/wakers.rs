//! A waker is not ours: what it does is nobody's business here.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use perennial_pool::{CheckoutError, ObjectPool, Timeout};

use crate::support::{Fixture, config, poll, status};

/// Does something where it is woken, and counts how often.
struct Does<F>(F, AtomicUsize);

impl<F: Fn() + Send + Sync + 'static> Does<F> {
    fn new(act: F) -> Arc<Self> {
        Arc::new(Self(act, AtomicUsize::new(0)))
    }

    fn times(&self) -> usize {
        self.1.load(SeqCst)
    }

    fn poll<W: Future + ?Sized>(self: &Arc<Self>, future: Pin<&mut W>) -> Poll<W::Output> {
        let waker = Waker::from(Arc::clone(self));
        future.poll(&mut Context::from_waker(&waker))
    }
}

impl<F: Fn() + Send + Sync + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, SeqCst);
        (self.0)();
    }
}

#[tokio::test(start_paused = true)]
async fn pool_24_who_waits_for_a_worker_may_use_the_pool_where_he_is_woken() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let pool = it.pool.clone();
    let busy = Does::new(move || assert_eq!(pool.status().size, 1));
    let mut waits = Box::pin(it.pool.checkout());
    assert!(busy.poll(waits.as_mut()).is_pending());
    drop(held);
    assert_eq!(busy.times(), 1);
    assert!(busy.poll(waits.as_mut()).is_ready());
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pool_24_who_panics_where_he_is_woken_takes_nothing_from_the_others() {
    let mut it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let panics = Does::new(|| panic!("woken"));
    let other = Does::new(|| {});
    let mut first = Box::pin(it.pool.checkout());
    let mut second = Box::pin(it.pool.checkout());
    assert!(panics.poll(first.as_mut()).is_pending());
    assert!(other.poll(second.as_mut()).is_pending());
    // Both are told.
    assert!(poll(pin!(it.pool.drain())).is_pending());
    assert_eq!((panics.times(), other.times()), (1, 1));
    let over = other.poll(second.as_mut());
    assert!(matches!(
        over,
        Poll::Ready(Err(CheckoutError::Drained { .. }))
    ));
    it.pool.resume();
    assert!(panics.poll(first.as_mut()).is_pending());

    drop(held);
    assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 0));
    let Poll::Ready(Ok(held)) = panics.poll(first.as_mut()) else {
        panic!("it was lent a worker");
    };
    let mut drain = Box::pin(it.pool.drain());
    assert!(panics.poll(drain.as_mut()).is_pending());
    drop(held);
    assert!(panics.poll(drain.as_mut()).is_ready());
    assert_eq!(panics.times(), 3);
    drop((first, second, drain));
    it.pool.resume();
    it.lends_all().await;
    it.stop().await;
}

#[test]
fn pool_24_who_waits_for_an_object_may_use_the_pool_where_he_is_woken() {
    let pool = ObjectPool::builder("numbers", [7]).build().unwrap();
    let held = pool.try_checkout().unwrap();
    let asked = pool.clone();
    let busy = Does::new(move || assert_eq!(asked.status().size, 1));
    let mut waits = pin!(pool.checkout_within(Timeout::Never));
    assert!(busy.poll(waits.as_mut()).is_pending());
    drop(held);
    assert_eq!(busy.times(), 1);
    assert!(matches!(busy.poll(waits.as_mut()), Poll::Ready(Ok(object)) if *object == 7));
    assert_eq!(pool.status().idle, 1);
}
