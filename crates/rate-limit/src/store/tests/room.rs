//! The cap, the sweep, and who comes in where a store is full.

use super::*;

#[test]
fn the_cap_holds_while_threads_bring_new_keys() {
    const THREADS: u64 = 4;
    let store = store(Quota::per_hour(5), 100, WhenFull::Evict);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for key in 0..2_000 {
                    assert!(store.check(&(thread << 32 | key), at(SECOND)).is_allowed());
                    assert!(store.len() <= 100);
                }
            });
        }
    });
    let stored: usize = (0..store.shards.len())
        .map(|i| store.lock(i).entries.len())
        .sum();
    assert_eq!(stored, store.len());
    assert_eq!(store.evicted(), THREADS * 2_000 - stored as u64);
}

#[test]
fn a_flood_does_not_push_out_a_key_near_its_limit() {
    let store = store(Quota::per_hour(5), 50, WhenFull::Evict);
    for _ in 0..5 {
        assert!(store.check(&0, at(SECOND)).is_allowed());
    }
    for key in 1..5_000 {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    assert_eq!(store.len(), 50);
    assert!(!store.check(&0, at(SECOND)).is_allowed());
}

#[test]
fn a_full_store_may_refuse_until_a_key_is_idle() {
    let store = store(Quota::per_second(1), 10, WhenFull::Refuse);
    for key in 0..10 {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    let refused = store.check(&99, at(SECOND));
    assert_eq!(
        refused.retry_after(),
        Some(std::time::Duration::from_secs(1))
    );
    assert_eq!(store.len(), 10);
    assert!(!store.check(&99, at(2 * SECOND - 1)).is_allowed());
    assert!(store.check(&99, at(2 * SECOND)).is_allowed());
    assert!(store.len() <= 10);
}

#[test]
fn a_sweep_takes_steps_and_removes_only_what_is_idle() {
    let store = store(Quota::per_second(1), 100_000, WhenFull::Evict);
    for key in 0..10_000 {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    let early = store.sweep(usize::MAX, Nanos(2 * SECOND - 1));
    assert_eq!((early.examined, early.removed), (10_000, 0));

    let mut removed = 0;
    let mut steps = 0;
    while store.len() > 0 {
        let swept = store.sweep(100, Nanos(2 * SECOND));
        assert!(swept.examined <= 100, "{swept:?} for a budget of 100");
        removed += swept.removed;
        steps += 1;
    }
    assert_eq!(removed, 10_000);
    assert!(steps > 10, "{steps} steps");
    assert_eq!(store.sweep(100, Nanos(2 * SECOND)), Swept::default());
}

#[test]
fn room_is_made_among_a_few_keys_and_not_among_all() {
    // All in one shard and all idle: each newcomer clears away what it looks at.
    let store = store(Quota::per_second(1), 4_000, WhenFull::Evict);
    for key in 0..4_000 {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    assert!(store.check(&4_000, at(2 * SECOND)).is_allowed());
    let removed = 4_001 - store.len();
    assert!((1..=SAMPLE).contains(&removed), "{removed} removed");
    assert_eq!(store.evicted(), 0);
}

#[test]
fn a_newcomer_that_was_refused_comes_in_when_it_was_told_to() {
    let store = store(Quota::per_second(1), 1_000, WhenFull::Refuse);
    for key in 0..1_000 {
        assert!(store.check(&key, at(SECOND + key)).is_allowed());
    }
    for newcomer in 1_000..1_100 {
        let wait = store.check(&newcomer, at(SECOND + 1_000)).retry_after();
        let when = SECOND + 1_000 + u64::try_from(wait.unwrap().as_nanos()).unwrap();
        assert!(store.check(&newcomer, at(when)).is_allowed());
        assert!(store.reset(&newcomer));
        // Fill the place again, and what else was cleared away.
        for key in 0..1_000 {
            let _refilled = store.check(&key, at(SECOND + 1_000));
        }
    }
}

#[test]
fn a_newcomer_that_asks_again_comes_to_the_one_idle_key_wherever_it_is() {
    for max_keys in [64, 4_000] {
        for idle in [0, max_keys / 2, max_keys - 1] {
            let store = store(Quota::per_second(1), max_keys, WhenFull::Refuse);
            let keys = || 0..max_keys as u64;
            for key in keys() {
                assert!(store.check(&key, at(SECOND)).is_allowed());
            }
            for key in keys().filter(|key| *key != idle as u64) {
                assert!(store.check(&key, at(3 * SECOND)).is_allowed());
            }
            // Each refusal goes through the next few keys of one of the 32 shards, which have some 125 keys.
            let asked = (0..320).position(|_| store.check(&99_999, at(3 * SECOND)).is_allowed());
            assert!(asked.is_some(), "{idle} of {max_keys} was not found");
            assert!(!store.check(&99_998, at(3 * SECOND)).is_allowed());
        }
    }
}

/// Numbers are their own hashes.
type AsTheyAre = Store<u64, AsIs>;

#[test]
fn a_newcomer_comes_in_for_the_key_it_waits_for_wherever_that_has_moved() {
    let max_keys = NonZeroUsize::new(200).unwrap();
    let store = AsTheyAre::new(&Quota::per_hour(10), max_keys, WhenFull::Refuse, AsIs);
    let spend = |key: u64, cells| {
        store.check(
            &key,
            Ask {
                cells,
                ..at(SECOND)
            },
        )
    };
    // 262 lies in the bucket after its own of 256, as long as 6 is there.
    for key in (0..7).chain([262]).chain(8..200) {
        assert!(spend(key, if key == 262 { 1 } else { 9 }).is_allowed());
    }
    let wait = Duration::from_secs(360);
    let told = (0..20).any(|_| spend(300, 1).retry_after() == Some(wait));
    assert!(told, "it has not come to 262");

    assert!(store.reset(&6));
    assert!(spend(301, 9).is_allowed());
    assert!(store.check(&300, at(SECOND + 360 * SECOND)).is_allowed());
}

#[test]
fn a_sweep_comes_to_every_key_that_moves_up() {
    let max_keys = NonZeroUsize::new(1_000).unwrap();
    let store = AsTheyAre::new(&Quota::per_hour(10), max_keys, WhenFull::Evict, AsIs);
    // All want the last bucket, or the one before; the rest of them begin anew at the first.
    for key in (1..100).map(|key| key * 256 - 1 - key % 2) {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    assert_eq!(store.sweep(usize::MAX, Nanos(3600 * SECOND)).removed, 99);
}

#[test]
fn a_sweep_and_new_keys_meet_on_many_threads() {
    let store = store(Quota::per_second(1), 5_000, WhenFull::Evict);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let store = &store;
            scope.spawn(move || {
                for key in 0..20_000 {
                    let now = SECOND + key * 1_000_000;
                    assert!(store.check(&(thread << 32 | key), at(now)).is_allowed());
                    if key % 16 == 0 {
                        store.sweep(64, Nanos(now));
                    }
                }
            });
        }
    });
    let stored: usize = (0..store.shards.len())
        .map(|i| store.lock(i).entries.len())
        .sum();
    assert_eq!(stored, store.len());
    store.sweep(usize::MAX, Nanos(100 * SECOND));
    assert_eq!(store.len(), 0);
}

#[test]
fn memory_of_a_flood_is_given_back() {
    let store = store(Quota::per_second(1), 100_000, WhenFull::Evict);
    for key in 0..50_000 {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    store.sweep(usize::MAX, Nanos(9 * SECOND));
    let capacity: usize = (0..store.shards.len())
        .map(|i| store.lock(i).entries.num_buckets())
        .sum();
    assert_eq!(capacity, 0);
}
