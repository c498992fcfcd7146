//! Recorders of metrics that use the breakers themselves.

use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use perennial_breaker::{BreakerConfig, Breakers, KeyedBreakers, Trip};

/// Does something at the first metric that it is given, and notes the gauges that are set to one.
#[derive(Clone)]
struct Meddling(Arc<Inner>);

struct Inner {
    first: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    set: Mutex<Vec<String>>,
}

impl Meddling {
    fn new(first: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            first: Mutex::new(Some(Box::new(first))),
            set: Mutex::default(),
        }))
    }

    fn meddle(&self) {
        let first = self.0.first.lock().unwrap().take();
        if let Some(first) = first {
            first();
        }
    }
}

struct State(Meddling, String);

impl GaugeFn for State {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        let mut set = self.0.0.set.lock().unwrap();
        set.retain(|state| *state != self.1);
        if value > 0.0 {
            set.push(self.1.clone());
        }
    }
}

impl Recorder for Meddling {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.meddle();
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.meddle();
        let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
        Gauge::from_arc(Arc::new(State(self.clone(), labels.join(" "))))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn opens_after(failures: u32) -> BreakerConfig {
    let config = BreakerConfig::builder().trip(Trip::Consecutive(failures));
    config.build().unwrap()
}

#[test]
fn a_name_that_is_taken_again_while_its_breaker_goes_keeps_its_metrics() {
    let breakers = Breakers::new();
    breakers.register("mail", opens_after(1)).unwrap().trip();
    let recorder = Meddling::new({
        let breakers = breakers.clone();
        move || {
            breakers.register("mail", opens_after(2)).unwrap().trip();
        }
    });
    metrics::with_local_recorder(&recorder, || breakers.remove("mail").unwrap());
    assert_eq!(breakers.get("mail").unwrap().config(), opens_after(2));
    assert_eq!(*recorder.0.set.lock().unwrap(), ["mail open"]);
}

#[test]
fn brk_16_settings_that_are_given_while_others_are_being_given_hold_for_all_keys() {
    let shards = KeyedBreakers::<u32>::new("shards", opens_after(1), 9.try_into().unwrap());
    for shard in 0..9 {
        shards.get(&shard).trip();
    }
    let recorder = Meddling::new({
        let shards = shards.clone();
        move || shards.reconfigure(opens_after(3))
    });
    metrics::with_local_recorder(&recorder, || shards.reconfigure(opens_after(2)));
    for shard in 0..9 {
        assert_eq!(shards.get(&shard).config(), opens_after(3), "{shard}");
    }
}
