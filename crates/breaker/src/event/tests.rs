use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};

use crate::{Breaker, BreakerConfig, BreakerState, Trip};

fn touchy() -> Breaker {
    Breaker::new(
        "touchy",
        BreakerConfig::builder()
            .trip(Trip::Consecutive(1))
            .build()
            .unwrap(),
    )
}

/// Keeps the last value of every metric, by name and last label.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<BTreeMap<String, f64>>>);

struct Note(Notes, String);

impl Note {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
    }
}

impl CounterFn for Note {
    fn increment(&self, value: u64) {
        self.change(|kept| *kept += value as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|kept| *kept = kept.max(value as f64));
    }
}

impl GaugeFn for Note {
    fn increment(&self, value: f64) {
        self.change(|kept| *kept += value);
    }

    fn decrement(&self, value: f64) {
        self.change(|kept| *kept -= value);
    }

    fn set(&self, value: f64) {
        self.change(|kept| *kept = value);
    }
}

impl Notes {
    fn note(&self, key: &Key) -> Arc<Note> {
        let labels: Vec<_> = key.labels().collect();
        assert_eq!(
            (labels[0].key(), labels[0].value()),
            ("breaker.name", "touchy")
        );
        let last = labels.last().unwrap().value();
        Arc::new(Note(self.clone(), format!("{} {last}", key.name())))
    }

    fn read(&self, key: &str) -> f64 {
        self.0.lock().unwrap()[key]
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.note(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn the_state_gauge_writes_every_state_and_the_counters_are_the_totals() {
    let notes = Notes::default();
    let breaker = touchy();
    metrics::with_local_recorder(&notes, || {
        breaker.try_acquire().unwrap().success();
        breaker.try_acquire().unwrap().failure();
        assert!(breaker.try_acquire().is_err());
        breaker.reset();
    });
    for state in BreakerState::ALL {
        let expected = if state == BreakerState::Closed {
            1.0
        } else {
            0.0
        };
        assert_eq!(
            notes.read(&format!("perennial.breaker.state {}", state.as_str())),
            expected
        );
    }
    for outcome in ["success", "failure", "refused"] {
        assert_eq!(
            notes.read(&format!("perennial.breaker.calls {outcome}")),
            1.0,
            "{outcome}"
        );
    }
    assert_eq!(notes.read("perennial.breaker.transitions open"), 1.0);
    assert_eq!(notes.read("perennial.breaker.transitions closed"), 1.0);
}
