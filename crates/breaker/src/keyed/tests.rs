use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::{Trip, Window};

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

fn open<K>(breakers: &KeyedBreakers<K>) -> usize {
    let status = breakers.status();
    let open = status.iter().filter(|it| it.state == BreakerState::Open);
    open.count()
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
fn brk_16_a_flood_forgets_no_open_breaker_where_every_other_has_something_on_record() {
    let trip = Trip::FailureRate {
        ratio: 0.5,
        window: Window::Calls(10),
        min_calls: 2,
    };
    let config = BreakerConfig::builder().trip(trip).build().unwrap();
    let breakers = KeyedBreakers::<u32>::new("shards", config, 100.try_into().unwrap());
    fail(&breakers, &0, 2);
    for key in 1_000..2_000 {
        breakers.try_acquire(&key).unwrap().success();
    }
    assert_eq!(breakers.get(&0).state(), BreakerState::Open);
    assert_eq!(breakers.unkept(), 0);
}

#[test]
fn brk_16_a_flood_forgets_no_open_breaker_however_many_there_are_in_a_row() {
    let breakers = keyed::<u32>(100);
    for key in 0..60 {
        fail(&breakers, &key, 2);
    }
    for key in 1_000..2_000 {
        breakers.try_acquire(&key).unwrap().success();
    }
    assert_eq!(open(&breakers), 60);
    assert_eq!((breakers.len(), breakers.unkept()), (100, 0));
}

#[test]
fn brk_16_a_key_for_which_there_is_no_room_is_let_through_without_a_place() {
    let breakers = keyed::<u32>(3);
    let held = breakers.get(&0);
    fail(&breakers, &1, 2);
    breakers.get(&2).force_closed();
    let mut events = breakers.events();
    for key in 3..200 {
        // As new at each use, so the failures do not add up.
        fail(&breakers, &key, 2);
        assert_eq!(breakers.get(&key).status().failures, 0);
    }
    assert_eq!((breakers.len(), breakers.unkept()), (3, 3 * 197));
    breakers.get(&3).trip();
    assert!(events.try_recv().is_err(), "it belongs to no set");

    breakers.get(&1).reset();
    fail(&breakers, &3, 2);
    assert_eq!(breakers.get(&3).state(), BreakerState::Open);
    assert_eq!(breakers.get(&2).state(), BreakerState::ForcedClosed);
    held.report(crate::Outcome::Failure);
    assert_eq!(breakers.get(&0).status().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn brk_16_one_whose_open_time_is_over_goes_where_no_closed_one_is_left() {
    let breakers = keyed::<u32>(3);
    fail(&breakers, &0, 2);
    fail(&breakers, &1, 2);
    advance(Duration::from_secs(30)).await;
    fail(&breakers, &2, 2);
    let probe = breakers.try_acquire(&0).unwrap();
    for key in 3..10 {
        fail(&breakers, &key, 2);
    }
    let states = [0, 2, 3].map(|key| breakers.get(&key).state());
    use BreakerState::{HalfOpen, Open};
    assert_eq!(states, [HalfOpen, Open, Open]);
    drop(probe);

    // A closed one goes before it.
    breakers.get(&3).reset();
    fail(&breakers, &20, 1);
    let states = [0, 2].map(|key| breakers.get(&key).state());
    assert_eq!(states, [HalfOpen, Open]);
    assert_eq!(breakers.get(&20).status().failures, 1);
}

#[test]
fn brk_16_among_many_that_are_open_the_one_that_closes_is_found() {
    let breakers = keyed::<u32>(3_000);
    for key in 0..3_000 {
        fail(&breakers, &key, 2);
    }
    breakers.get(&2_999).reset();
    // It is stepped past so many at a time, and none of them twice.
    for key in 10_000..10_200 {
        breakers.get(&key);
    }
    assert_eq!(open(&breakers), 2_999);
    assert!(breakers.unkept() < 5, "{}", breakers.unkept());
    // The same place goes round among those that come.
    assert_eq!(breakers.get(&10_199).status().name, "shards[10199]");
    assert_eq!(breakers.len(), 3_000);
}

#[test]
fn brk_16_whoever_looks_at_all_keeps_no_places() {
    let breakers = keyed::<u32>(50);
    let mut keys = 0..;
    for key in keys.by_ref().take(50) {
        breakers.get(&key);
    }
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            for _ in 0..500 {
                assert!(breakers.status().len() <= 50);
            }
        });
        while !looking.is_finished() {
            breakers.get(&keys.next().unwrap());
        }
    });
    assert_eq!(breakers.unkept(), 0);
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

thread_local! {
    /// What is done where a [`Telling`] key is dropped on this thread.
    static ON_DROP: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// A key with a destructor that may do anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Telling(u64);

impl Drop for Telling {
    fn drop(&mut self) {
        ON_DROP.with_borrow(|told| told.iter().for_each(|told| told()));
    }
}

#[test]
fn a_key_may_use_the_breakers_where_it_is_dropped() {
    let breakers = keyed::<Telling>(5);
    let (dropped, locked) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let told = (breakers.clone(), Rc::clone(&dropped), Rc::clone(&locked));
    ON_DROP.set(Some(Box::new(move || {
        let (breakers, dropped, locked) = &told;
        dropped.set(dropped.get() + 1);
        // To wait for the lock here would be to wait for ever.
        let is_locked = breakers.0.entries.try_write().is_err();
        locked.set(locked.get() + u32::from(is_locked));
    })));
    let asked: Vec<Telling> = (0..9).map(Telling).collect();
    for key in &asked {
        breakers.get(key);
    }
    // Of each there are two, one in its place and one in the queue.
    assert_eq!((breakers.len(), dropped.get()), (5, 8));
    let removed = asked.iter().filter_map(|key| breakers.remove(key));
    assert_eq!(removed.count(), 5);
    assert_eq!((dropped.get(), locked.get()), (18, 0));
    ON_DROP.set(None);
}
