mod quotas;
mod room;

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    hash::{BuildHasherDefault, DefaultHasher},
    rc::Rc,
    sync::{Arc, Barrier, atomic::AtomicU32},
    time::Duration,
};

use proptest::prelude::*;

use super::{entries::Entries, *};
use crate::{
    fingerprint::AsIs,
    quota::{Algorithm, Quota},
};

/// Spreads keys the same way in every run.
type Fixed = BuildHasherDefault<DefaultHasher>;

const SECOND: u64 = 1_000_000_000;

fn store(quota: Quota, max_keys: usize, when_full: WhenFull) -> Store<u64, Fixed> {
    Store::new(
        &quota,
        NonZeroUsize::new(max_keys).unwrap(),
        when_full,
        Fixed::default(),
    )
}

fn at(now: u64) -> Ask<'static> {
    Ask {
        rule: None,
        cells: 1,
        now: Nanos(now),
    }
}

fn all() -> [Quota; 5] {
    [
        Algorithm::Gcra,
        Algorithm::TokenBucket,
        Algorithm::LeakyBucket,
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
    ]
    .map(|algorithm| Quota::per_hour(1).algorithm(algorithm))
}

#[test]
fn a_first_touch_by_many_threads_admits_one() {
    const THREADS: usize = 4;
    const KEYS: u64 = 3_000;
    for quota in all() {
        for (max_keys, when_full) in [(10_000, WhenFull::Evict), (3_000, WhenFull::Refuse)] {
            let store = store(quota, max_keys, when_full);
            let barrier = Barrier::new(THREADS);
            let through = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        barrier.wait();
                        for key in 0..KEYS {
                            if store.check(&key, at(SECOND)).is_allowed() {
                                through.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            let through = u64::from(through.into_inner());
            // A place that a racing first touch holds for a moment can turn
            // the last keys of a full store away, but never admits twice.
            assert!(through <= KEYS, "{through} through");
            assert!(max_keys == 3_000 || through == KEYS, "{through} through");
            assert_eq!(store.len() as u64, through);
        }
    }
}

#[test]
fn entries_are_short_while_all_are_metered_by_the_quota() {
    let is_short = |store: &Store<u64, Fixed>| {
        (0..store.shards.len()).all(|i| matches!(store.lock(i).entries, Entries::Short { .. }))
    };
    let day = Duration::from_secs(86_400);
    let (quick, slow) = (Quota::per_hour(2), Quota::new(2, day).unwrap());
    let store = store(quick, 1_000, WhenFull::Evict);
    for key in 0..500 {
        assert!(store.check(&key, at(SECOND)).is_allowed());
    }
    assert!(is_short(&store));
    // Who has spent under the quicker quota stays with it for now.
    store.set_quota(&slow, Nanos(SECOND));
    assert!(!is_short(&store));
    assert_eq!(store.status(&7, at(SECOND)).resets_in.as_secs(), 1800);
    assert!(store.check(&7, at(SECOND)).is_allowed());
    assert_eq!(store.status(&7, at(SECOND)).resets_in.as_secs(), 86_400);
    assert_eq!(store.sweep(usize::MAX, Nanos(1801 * SECOND)).removed, 499);
    assert!(is_short(&store));
    let status = store.status(&7, at(1801 * SECOND));
    assert_eq!(
        (status.spent, status.resets_in.as_secs()),
        (2, 86_400 - 1800)
    );
}

#[test]
fn a_key_that_is_whole_again_at_the_last_instant_of_the_clock_is_not_so_before() {
    let store = store(Quota::per_second(2), 10, WhenFull::Evict);
    let now = at(u64::MAX - SECOND);
    for remaining in [1, 0] {
        assert_eq!(store.check(&1, now), Decision::Allowed { remaining });
    }
    let wait = Duration::from_millis(500);
    assert_eq!(store.check(&1, now).retry_after(), Some(wait));
    assert_eq!(store.status(&1, now).resets_in, 2 * wait);
}

#[test]
fn a_late_reading_does_not_begin_a_forgotten_key_at_its_earlier_time() {
    let store = store(Quota::per_second(1), 10, WhenFull::Evict);
    assert!(store.check(&1, at(SECOND)).is_allowed());
    assert_eq!(store.sweep(usize::MAX, Nanos(2 * SECOND)).removed, 1);
    assert!(store.check(&1, at(SECOND + 1)).is_allowed());
    assert!(!store.check(&1, at(2 * SECOND + 1)).is_allowed());
    assert!(store.check(&1, at(3 * SECOND)).is_allowed());
}

#[test]
fn a_late_reading_does_not_begin_an_evicted_key_at_its_earlier_time() {
    let store = store(Quota::per_second(1), 1, WhenFull::Evict);
    assert!(store.check(&1, at(2 * SECOND)).is_allowed());
    // Who comes in reads late as well.
    assert!(store.check(&2, at(SECOND + 1)).is_allowed());
    assert_eq!(store.evicted(), 1);
    // Once more for the cell that it had spent, and no more.
    assert!(store.check(&1, at(SECOND + 1)).is_allowed());
    assert!(!store.check(&1, at(3 * SECOND - 1)).is_allowed());
    assert!(store.check(&1, at(3 * SECOND)).is_allowed());
}

#[test]
fn what_is_told_at_a_late_reading_counts_from_there() {
    for [mine, other] in [[1, 2], [2, 1]].map(|limits| limits.map(Quota::per_second)) {
        let store = store(mine, 10, WhenFull::Evict);
        assert!(store.check(&1, at(2 * SECOND)).is_allowed());
        let late = Ask {
            rule: Some(&store.rule(&other)),
            ..at(2 * SECOND - 5)
        };
        // Whichever is quicker gives the cell back.
        let wait = Duration::from_nanos(SECOND / 2 + 5);
        assert_eq!(store.status(&1, late).resets_in, wait);
    }
}

#[test]
fn a_closed_store_stores_nothing_and_forgets_nothing() {
    let shut = store(Quota::per_hour(0), 10, WhenFull::Evict);
    assert_eq!(shut.check(&1, at(SECOND)), Decision::Never);
    assert_eq!(shut.peek(&1, at(SECOND)), Decision::Never);
    assert_eq!(shut.len(), 0);

    let store = store(Quota::per_hour(2), 10, WhenFull::Evict);
    assert!(store.check(&1, at(SECOND)).is_allowed());
    store.set_quota(&Quota::per_hour(0), Nanos(SECOND));
    assert_eq!(store.check(&1, at(SECOND)), Decision::Never);
    assert_eq!(store.check(&2, at(SECOND)), Decision::Never);
    store.set_quota(&Quota::per_hour(3), Nanos(SECOND));
    let decision = store.check(&1, at(SECOND));
    assert_eq!(decision, Decision::Allowed { remaining: 1 });
}

#[test]
fn a_closed_window_still_tells_its_count_and_its_end() {
    let windows = |limit| Quota::per_hour(limit).algorithm(Algorithm::FixedWindow);
    let store = store(windows(2), 10, WhenFull::Evict);
    assert!(store.check(&1, at(SECOND)).is_allowed());
    store.set_quota(&windows(0), Nanos(SECOND));
    let status = store.status(&1, at(SECOND));
    assert_eq!((status.spent, status.remaining), (1, 0));
    assert_eq!(status.resets_in.as_secs(), 3599);
}

#[test]
fn what_spends_nothing_stores_nothing() {
    for quota in all() {
        let store = store(quota, 10, WhenFull::Evict);
        let none = Ask { cells: 0, ..at(1) };
        let many = Ask { cells: 2, ..at(1) };
        assert_eq!(store.check(&1, none), Decision::Allowed { remaining: 1 });
        assert_eq!(store.check(&1, many), Decision::Never);
        assert_eq!(store.peek(&1, at(1)), Decision::Allowed { remaining: 0 });
        assert_eq!(store.status(&1, at(1)).remaining, 1);
        assert!(!store.reset(&1));
        assert_eq!(store.len(), 0);
    }
}

#[test]
fn keys_spread_over_the_shards() {
    let store = store(Quota::per_hour(1), 100_000, WhenFull::Evict);
    let used: HashSet<_> = (0..10_000_u64)
        .map(|key| index(store.hasher.hash_one(key), store.shards.len()))
        .collect();
    assert_eq!(used.len(), store.shards.len());
}

#[test]
fn a_key_that_panics_leaves_the_others_in_order() {
    /// Panics at the second comparison with a touchy one.
    #[derive(Clone, Debug)]
    struct Touchy(u8, Arc<AtomicU32>);

    impl Hash for Touchy {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }

    impl PartialEq for Touchy {
        fn eq(&self, other: &Self) -> bool {
            for key in [self, other] {
                assert_ne!(key.1.fetch_add(1, Ordering::Relaxed), 1, "touched");
            }
            self.0 == other.0
        }
    }

    impl Eq for Touchy {}

    let calm = |id| Touchy(id, Arc::new(AtomicU32::new(100)));
    let store: Store<Touchy, Fixed> = Store::new(
        &Quota::per_hour(1),
        NonZeroUsize::new(10).unwrap(),
        WhenFull::Evict,
        Fixed::default(),
    );
    assert!(store.check(&calm(1), at(SECOND)).is_allowed());
    let touchy = Touchy(2, Arc::default());
    let touched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.check(&touchy, at(SECOND))
    }));
    assert!(touched.is_err());
    assert!(store.shards.iter().any(|shard| shard.0.is_poisoned()));

    assert!(!store.check(&calm(1), at(SECOND)).is_allowed());
    assert!(store.check(&calm(3), at(SECOND)).is_allowed());
    assert_eq!(store.len(), 2);
}

#[test]
fn a_key_that_panics_where_others_are_removed_leaves_the_count_right() {
    thread_local! {
        /// So many keys are hashed before one panics.
        static HASHED: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    #[derive(Clone, PartialEq, Eq)]
    struct Touchy(u64);

    impl Hash for Touchy {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            HASHED.set(HASHED.get().checked_sub(1).expect("touched"));
            // Few homes, so that who is removed has others behind.
            (self.0 / 2 % 4).hash(state);
        }
    }

    type Act = fn(&Store<Touchy, Fixed>);
    const NOW: u64 = 1_000 * SECOND;

    let touched = |hashed, act: Act| {
        HASHED.set(u32::MAX);
        let cap = NonZeroUsize::new(40).unwrap();
        let store = Store::new(
            &Quota::per_second(1),
            cap,
            WhenFull::Evict,
            Fixed::default(),
        );
        for key in 0..40 {
            // Every other one is idle by now.
            let then = if key % 2 == 0 { SECOND } else { NOW };
            assert!(store.check(&Touchy(key), at(then)).is_allowed());
        }
        HASHED.set(hashed);
        let act = std::panic::AssertUnwindSafe(|| act(&store));
        let touched = std::panic::catch_unwind(act).is_err();
        HASHED.set(u32::MAX);
        let there = |index| store.lock(index).entries.len();
        let there: usize = (0..store.shards.len()).map(there).sum();
        assert_eq!(store.len(), there, "after {hashed}");
        touched
    };
    let acts: [Act; 2] = [
        |store| assert!(store.sweep(usize::MAX, Nanos(NOW)).removed > 0),
        |store| assert!(store.check(&Touchy(40), at(NOW)).is_allowed()),
    ];
    for act in acts {
        let touched = (0..).take_while(|hashed| touched(*hashed, act));
        assert!(touched.count() > 3);
    }
}

type Told = Box<dyn Fn(bool)>;

thread_local! {
    /// What is done where a [`Telling`] key is copied or dropped on this thread.
    static TOLD: RefCell<Option<Told>> = const { RefCell::new(None) };
}

/// A key that may do anything where it is copied, or dropped.
#[derive(PartialEq, Eq, Hash)]
struct Telling(u64);

impl Clone for Telling {
    fn clone(&self) -> Self {
        TOLD.with_borrow(|told| told.iter().for_each(|told| told(false)));
        Self(self.0)
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TOLD.with_borrow(|told| told.iter().for_each(|told| told(true)));
    }
}

#[test]
fn a_key_may_use_the_store_where_it_is_copied_and_where_it_is_dropped() {
    for quota in [Quota::per_second(1), Quota::per_hour(1)] {
        let cap = NonZeroUsize::new(40).unwrap();
        let store = Arc::new(Store::new(&quota, cap, WhenFull::Evict, Fixed::default()));
        let (dropped, locked) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let told = (Arc::clone(&store), Rc::clone(&dropped), Rc::clone(&locked));
        TOLD.set(Some(Box::new(move |is_dropped| {
            let (store, dropped, locked) = &told;
            dropped.set(dropped.get() + u32::from(is_dropped));
            // To wait for a lock here would be to wait for ever.
            let taken = store.shards.iter().filter(|it| it.0.try_lock().is_err());
            locked.set(locked.get() + taken.count());
        })));
        let asked: Vec<Telling> = (0..60).map(Telling).collect();
        // Room is made for a third of them, of keys that are idle or not.
        for (second, key) in (0..).zip(&asked) {
            assert!(store.check(key, at(second * SECOND)).is_allowed());
        }
        assert!(dropped.get() >= 20, "{}", dropped.get());
        let known = store.len();
        let reset = asked.iter().filter(|key| store.reset(*key)).take(3);
        assert_eq!(reset.count(), 3);
        assert_eq!(store.sweep(100, Nanos(100_000 * SECOND)).removed, known - 3);
        assert_eq!((dropped.get(), locked.get()), (60, 0));
        TOLD.set(None);
    }
}
