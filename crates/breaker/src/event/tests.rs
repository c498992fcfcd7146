use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use metrics::Key;
use perennial_testkit::OnRegister;
use ractor::Actor;

use crate::actor::BreakerActor;
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

#[test]
fn the_state_gauge_writes_every_state_and_the_counters_are_the_totals() {
    // The values by the name and the last label of each metric.
    let notes = Mutex::new(BTreeMap::<String, Arc<AtomicU64>>::new());
    let recorder = OnRegister(|key: &Key| {
        let labels: Vec<_> = key.labels().collect();
        let first = (labels[0].key(), labels[0].value());
        assert_eq!(first, ("breaker.name", "touchy"));
        let name = format!("{} {}", key.name(), labels.last().unwrap().value());
        Some(Arc::clone(notes.lock().unwrap().entry(name).or_default()))
    });
    let count = |name: &str| notes.lock().unwrap()[name].load(Relaxed);
    let breaker = touchy();
    metrics::with_local_recorder(&recorder, || {
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
        let gauge = count(&format!("perennial.breaker.state {}", state.as_str()));
        assert_eq!(f64::from_bits(gauge), expected);
    }
    for name in [
        "calls success",
        "calls failure",
        "calls refused",
        "transitions open",
        "transitions closed",
    ] {
        assert_eq!(count(&format!("perennial.breaker.{name}")), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn brk_24_what_was_counted_when_the_actor_stops_is_published() {
    let successes = Arc::new(AtomicU64::new(0));
    let recorder = OnRegister(|key: &Key| {
        let is_success = key.labels().any(|it| it.value() == "success");
        (is_success && key.name() == "perennial.breaker.calls").then(|| Arc::clone(&successes))
    });
    let _local = metrics::set_default_local_recorder(&recorder);
    let breaker = touchy();
    let cell = breaker.weak().upgrade().unwrap();
    let (actor, ended) = Actor::spawn(None, BreakerActor, cell).await.unwrap();
    for _ in 0..3 {
        breaker.try_acquire().unwrap().success();
    }
    assert_eq!(successes.load(Relaxed), 0);
    actor.stop(None);
    ended.await.unwrap();
    assert_eq!(successes.load(Relaxed), 3);
}
