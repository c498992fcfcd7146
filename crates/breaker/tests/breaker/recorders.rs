//! Recorders of metrics that use the breakers themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use metrics::{Key, Label};
use perennial_breaker::{BreakerConfig, Breakers, KeyedBreakers, Trip};
use perennial_testkit::OnRegister;

/// Does `work` under a recorder that does something else at the first metric that it is given. Returns which metrics have a
/// value then, by their labels.
fn with_meddling<T>(first: impl FnOnce(), work: impl FnOnce() -> T) -> Vec<String> {
    let first = Mutex::new(Some(first));
    let kept = Mutex::new(BTreeMap::<String, Arc<AtomicU64>>::new());
    let recorder = OnRegister(|key: &Key| {
        let first = first.lock().unwrap().take();
        if let Some(first) = first {
            first();
        }
        let labels: Vec<_> = key.labels().map(Label::value).collect();
        let is_state = key.name() == "perennial.breaker.state";
        is_state.then(|| Arc::clone(kept.lock().unwrap().entry(labels.join(" ")).or_default()))
    });
    metrics::with_local_recorder(&recorder, || drop(work()));
    let kept = kept.into_inner().unwrap().into_iter();
    kept.filter(|(_, value)| f64::from_bits(value.load(Relaxed)) > 0.0)
        .map(|(labels, _)| labels)
        .collect()
}

fn opens_after(failures: u32) -> BreakerConfig {
    let config = BreakerConfig::builder().trip(Trip::Consecutive(failures));
    config.build().unwrap()
}

#[test]
fn a_name_that_is_taken_again_while_its_breaker_goes_keeps_its_metrics() {
    let breakers = Breakers::new();
    breakers.register("mail", opens_after(1)).unwrap().trip();
    let taken_again = || {
        breakers.register("mail", opens_after(2)).unwrap().trip();
    };
    let set = with_meddling(taken_again, || breakers.remove("mail").unwrap());
    assert_eq!(breakers.get("mail").unwrap().config(), opens_after(2));
    assert_eq!(set, ["mail open"]);
}

#[test]
fn brk_16_settings_that_are_given_while_others_are_being_given_hold_for_all_keys() {
    let shards = KeyedBreakers::<u32>::new("shards", opens_after(1), 9.try_into().unwrap());
    for shard in 0..9 {
        shards.get(&shard).trip();
    }
    with_meddling(
        || shards.reconfigure(opens_after(3)),
        || shards.reconfigure(opens_after(2)),
    );
    for shard in 0..9 {
        assert_eq!(shards.get(&shard).config(), opens_after(3), "{shard}");
    }
}
