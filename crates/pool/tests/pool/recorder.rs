//! A recorder of metrics is not ours: what it does is nobody's business here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use perennial_pool::{CheckoutError, ObjectPool, Timeout};
use perennial_testkit::under_panicking_metrics;

use crate::support::{Fixture, config, poll};

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

type Act = Box<dyn FnOnce() + Send>;

/// A gauge that does something before it takes its next value, as another thread may meanwhile.
#[derive(Default)]
struct Slow {
    act: Mutex<Option<Act>>,
    shown: Mutex<f64>,
}

impl GaugeFn for Slow {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        let act = self.act.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
        *self.shown.lock().unwrap() = value;
    }
}

struct Recorder(Arc<Slow>);

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(&self.0))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn what_waits_for_an_object_is_shown_right_whoever_is_the_first_to_show_it() {
    let slow = Arc::new(Slow::default());
    metrics::with_local_recorder(&Recorder(Arc::clone(&slow)), || {
        let pool = ObjectPool::builder("numbers", [7]).build().unwrap();
        let held = pool.try_checkout().unwrap();
        let waits = || {
            let pool = pool.clone();
            let mut waits = Box::pin(async move {
                let object = pool.checkout_within(Timeout::Never).await;
                object.map(drop)
            });
            assert!(poll(waits.as_mut()).is_pending());
            waits
        };
        let (first, second) = (waits(), waits());
        assert_eq!(*slow.shown.lock().unwrap(), 2.0);
        *slow.act.lock().unwrap() = Some(Box::new(move || drop(second)));
        drop(first);
        assert_eq!(
            (pool.status().waiting, *slow.shown.lock().unwrap()),
            (0, 0.0)
        );
        drop(held);
    });
}
