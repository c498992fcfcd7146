use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u16),
    Remove(u16),
    Change(u16),
    Shrink,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u16..200).prop_map(Step::Insert),
        5 => (0_u16..200).prop_map(Step::Remove),
        2 => (0_u16..200).prop_map(Step::Change),
        1 => Just(Step::Shrink),
    ];
    prop::collection::vec(step, 1..600)
}

/// Some keys have one home, some that of a neighbour, and some one at the end, from where they go on at the beginning.
fn hash(key: u16) -> u64 {
    match key % 4 {
        0 => u64::from(key / 8),
        1 => u64::from(key % 16),
        2 => u64::MAX - u64::from(key % 3),
        _ => u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

proptest! {
    #[test]
    fn it_holds_what_a_map_holds(steps in steps()) {
        let mut table = Table::<(u16, usize)>::new();
        let mut model = BTreeMap::new();
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(key) if !model.contains_key(&key) => {
                    table.insert(hash(key), (key, count), |entry| hash(entry.0));
                    model.insert(key, count);
                }
                Step::Insert(key) | Step::Change(key) => {
                    let found = table.find_mut(hash(key), |entry| entry.0 == key);
                    prop_assert_eq!(found.is_some(), model.contains_key(&key));
                    if let Some(entry) = found {
                        entry.1 = count;
                        model.insert(key, count);
                    }
                }
                Step::Remove(key) => {
                    let found = table.position(hash(key), |entry| entry.0 == key);
                    prop_assert_eq!(found.is_some(), model.remove(&key).is_some());
                    if let Some(bucket) = found {
                        table.remove(bucket, |entry| hash(entry.0));
                    }
                }
                Step::Shrink => table.shrink(|entry| hash(entry.0)),
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty());
        }
        for key in 0..200 {
            let found = table.find_mut(hash(key), |entry| entry.0 == key);
            prop_assert_eq!(found.map(|entry| entry.1), model.get(&key).copied());
        }
        let mut all: Vec<_> = table.iter().copied().collect();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(model));
    }
}

#[test]
fn keys_that_come_and_go_need_no_more_buckets() {
    let mut table = Table::<u64>::new();
    let hash = |key: &u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    for key in 0..100_000 {
        table.insert(hash(&key), key, hash);
        if let Some(old) = key.checked_sub(100) {
            let bucket = table.position(hash(&old), |entry| *entry == old);
            table.remove(bucket.unwrap(), hash);
        }
    }
    assert_eq!(table.len(), 100);
    assert!(table.num_buckets() <= 256, "{}", table.num_buckets());
}

#[test]
fn removing_all_leaves_nothing_to_search_through() {
    let mut table = Table::<u64>::new();
    for key in 0..100 {
        table.insert(key / 8, key, |key| key / 8);
    }
    for bucket in 0..table.num_buckets() {
        while table.get(bucket).is_some() {
            table.remove(bucket, |key| key / 8);
        }
    }
    assert!(table.is_empty() && table.iter().next().is_none());
    table.shrink(|key| key / 8);
    assert_eq!(table.num_buckets(), 0);
}

#[test]
fn a_hasher_that_panics_while_it_grows_loses_nothing() {
    let mut table = Table::<u64>::new();
    let grown = (0..100).find(|key| {
        let insert = || table.insert(*key, *key, |_| panic!("no hash"));
        catch_unwind(AssertUnwindSafe(insert)).is_err() && *key > 0
    });
    let grown = grown.unwrap();
    assert!((0..grown).all(|key| table.position(key, |entry| *entry == key).is_some()));
    table.insert(grown, grown, |key| *key);
    assert_eq!(table.len(), usize::try_from(grown).unwrap() + 1);
}

#[test]
fn a_hasher_that_panics_while_others_move_up_loses_nobody_else() {
    let mut table = Table::<u64>::new();
    for key in 0..20 {
        table.insert(0, key, |_| 0);
    }
    let hasher = |key: &u64| {
        assert_ne!(*key, 12, "no hash");
        0
    };
    let bucket = table.position(0, |key| *key == 5).unwrap();
    let remove = AssertUnwindSafe(|| table.remove(bucket, hasher));
    assert!(catch_unwind(remove).is_err());
    assert_eq!(table.len(), table.iter().count());
    for it in (0..20).filter(|key| *key != 5) {
        assert!(table.position(0, |key| *key == it).is_some(), "{it}");
    }
}
