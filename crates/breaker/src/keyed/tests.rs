use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::{BreakerState, Trip};

fn keyed<K>(max_keys: usize) -> KeyedBreakers<K> {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(2))
        .build()
        .unwrap();
    KeyedBreakers::new("shards", config, max_keys.try_into().unwrap())
}

fn fail<K: Hash + Eq + Clone + fmt::Debug>(breakers: &KeyedBreakers<K>, key: &K, times: u32) {
    for _ in 0..times {
        breakers.try_acquire(key).unwrap().failure();
    }
}

#[test]
fn brk_16_keys_do_not_touch_each_other() {
    let breakers = keyed::<(&str, u32)>(10);
    let mut events = breakers.events();
    fail(&breakers, &("read", 1), 2);
    assert_eq!(breakers.get(&("read", 1)).state(), BreakerState::Open);
    assert_eq!(breakers.get(&("read", 2)).state(), BreakerState::Closed);
    let opened = events.try_recv().unwrap();
    assert_eq!(opened.breaker(), "shards[(\"read\", 1)]");
    assert_eq!(breakers.len(), 2);
}

#[test]
fn brk_16_many_threads_that_touch_a_key_first_share_one_breaker() {
    for round in 0..50 {
        let breakers = keyed::<u32>(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| breakers.get(&round).report(crate::Outcome::Failure));
            }
        });
        assert_eq!(breakers.len(), 1);
        assert_eq!(breakers.get(&round).status().failures, 4);
        assert_eq!(breakers.get(&round).state(), BreakerState::Open);
    }
}

#[test]
fn brk_16_a_flood_of_keys_stays_within_the_cap_and_forgets_no_open_breaker() {
    let breakers = keyed::<u32>(100);
    for key in 0..10 {
        fail(&breakers, &key, 2);
    }
    for key in 1_000..21_000 {
        breakers.try_acquire(&key).unwrap().success();
        assert!(breakers.len() <= 100);
    }
    for key in 0..10 {
        assert_eq!(breakers.get(&key).state(), BreakerState::Open, "{key}");
    }
}

#[test]
fn brk_16_the_cap_holds_when_every_breaker_is_open_or_in_use() {
    let breakers = keyed::<u32>(3);
    let held: Vec<_> = (0..3).map(|key| breakers.get(&key)).collect();
    for key in 3..200 {
        fail(&breakers, &key, 2);
        assert_eq!(breakers.len(), 3);
    }
    // Whoever holds one that had to go can go on with it.
    held[0].try_acquire().unwrap().success();
    assert_eq!(held[0].status().successes, 1);
}

#[test]
fn brk_16_a_breaker_that_is_held_or_was_used_lately_keeps_its_place() {
    let breakers = keyed::<u32>(3);
    let held = breakers.get(&0);
    for key in 10..30 {
        breakers.get(&key);
        breakers.get(&1);
    }
    held.report(crate::Outcome::Failure);
    assert_eq!(breakers.get(&0).status().failures, 1);
    breakers.get(&1).report(crate::Outcome::Failure);
    breakers.get(&30);
    assert_eq!(breakers.get(&1).status().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn brk_16_a_key_that_was_forgotten_comes_back_as_new() {
    let config = BreakerConfig::builder()
        .trip(Trip::Failures {
            count: 2,
            within: Duration::from_secs(1),
        })
        .build()
        .unwrap();
    let breakers = KeyedBreakers::<u32>::new("shards", config, 1.try_into().unwrap());
    fail(&breakers, &0, 1);
    advance(Duration::from_secs(1)).await;
    breakers.get(&1);
    assert_eq!(breakers.get(&0).status().failures, 0);

    let removed = breakers.remove(&0).unwrap();
    removed.trip();
    assert!(breakers.is_empty());
    assert_eq!(breakers.get(&0).state(), BreakerState::Closed);
    assert!(breakers.remove(&7).is_none());
}

#[tokio::test]
async fn brk_16_other_settings_hold_for_the_keys_that_are_there_and_those_to_come() {
    let breakers = keyed::<String>(10);
    breakers.get("a");
    let touchy = BreakerConfig::builder().trip(Trip::Consecutive(1));
    breakers.reconfigure(touchy.build().unwrap());
    for key in ["a", "b"] {
        let answer = breakers.call(key, async { Err::<(), _>("no") }).await;
        assert_eq!(answer, Err(CallError::Failed("no")));
    }
    let open = |status: &BreakerStatus| status.state == BreakerState::Open;
    assert!(breakers.status().iter().all(open));
    assert_eq!(breakers.status().len(), 2);
}
