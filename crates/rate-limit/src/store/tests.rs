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

/// Checks of one key under several quotas, and changes to one of them; some readings of the clock come late.
#[derive(Clone, Debug)]
struct Step {
    which: usize,
    cells: u32,
    thousandths: u64,
    late: u64,
    is_change: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let thousandths = prop_oneof![3 => Just(0_u64), 4 => 0_u64..100, 1 => 0_u64..1_500];
    let late = prop_oneof![9 => Just(0_u64), 1 => 0_u64..1_000_000];
    let step = (0_usize..3, 1_u32..4, thousandths, late, any::<u8>());
    prop::collection::vec(
        step.prop_map(|(which, cells, thousandths, late, change)| Step {
            which,
            cells,
            thousandths,
            late,
            is_change: change < 30,
        }),
        1..400,
    )
}

proptest! {
    /// In any time, no more than the greatest burst and what comes back at the highest rate; in any window that is as
    /// short as the shortest, no more than the greatest limit.
    #[test]
    fn several_quotas_for_a_key_admit_no_more_than_the_most_generous(
        algorithm in prop::sample::select(all().map(|quota| quota.metered_by()).to_vec()),
        quotas in prop::collection::vec((1_u32..30, 1_u32..12, 5_u64..40), 2..4),
        start in prop_oneof![Just(0_u64), Just(1_700_000_000 * SECOND)],
        steps in steps(),
    ) {
        let quotas: Vec<_> = quotas.into_iter().map(|(limit, burst, millis)| {
            Quota::new(limit, Duration::from_millis(millis)).unwrap().burst(burst).algorithm(algorithm)
        }).collect();
        let store = store(quotas[0], 10, WhenFull::Evict);
        let (mut latest, mut through) = (start, Vec::new());
        let in_time = steps.iter().all(|step| step.late == 0);
        for Step { which, cells, thousandths, late, is_change } in steps {
            latest += thousandths * 20_000;
            let (quota, now) = (quotas[which % quotas.len()], Nanos(latest.saturating_sub(late)));
            if is_change {
                store.set_quota(&quota, now);
            }
            let rule = (!is_change).then(|| store.rule(&quota));
            if store.check(&1, Ask { rule: rule.as_ref(), cells, now }).is_allowed() {
                through.push((now.0, latest, u64::from(cells)));
            }
        }
        let most = quotas.iter().map(|quota| u64::from(quota.max_at_once())).max().unwrap();
        let shortest = quotas.iter().map(|quota| quota.period_nanos()).min().unwrap();
        let back = |time: u64| {
            let cells = |quota: &Quota| u128::from(time) * u128::from(quota.limit()) / u128::from(quota.period_nanos());
            u64::try_from(quotas.iter().map(cells).max().unwrap()).unwrap()
        };
        let earliest = through.iter().map(|(reading, _, _)| reading).min().copied().unwrap_or(start);
        for (index, (reading, _, _)) in through.iter().enumerate() {
            let mut sum = 0;
            for (_, end, cells) in &through[index..] {
                sum += cells;
                // Who reads the clock late is told later what came back since.
                let time = end - reading;
                let within = match algorithm {
                    Algorithm::SlidingWindow if time < shortest => most,
                    Algorithm::SlidingWindow => u64::MAX,
                    // A window's end may be anywhere.
                    Algorithm::FixedWindow if time == 0 => most,
                    Algorithm::FixedWindow => most * (time / shortest + 2),
                    _ if in_time => most + back(time),
                    _ if index == 0 => most + back(end - earliest),
                    _ => u64::MAX,
                };
                prop_assert!(sum <= within, "{} from {} to {}, of {}", sum, reading, end, within);
            }
        }
    }
}

#[test]
fn a_quota_that_changes_at_a_late_reading_gives_nothing_back_twice() {
    const START: u64 = 1_700_000_000 * SECOND;
    let slow = Quota::new(1, Duration::from_millis(5)).unwrap().burst(3);
    let quick = Quota::new(21, Duration::from_millis(39)).unwrap().burst(4);
    for (spent, left) in [(3, 1), (2, 2)] {
        // Whether the change is the limiter's or comes with a check.
        for is_limiters in [true, false] {
            let store = store(slow, 10, WhenFull::Evict);
            let rule = store.rule(&quick);
            let ask = |rule, cells, nanos| {
                let now = Nanos(nanos);
                store.check(&1, Ask { rule, cells, now })
            };
            let rule = Some(&rule);
            assert!(ask(None, spent, START).is_allowed());
            let late = START - 313_637;
            if is_limiters {
                store.set_quota(&quick, Nanos(late));
            } else {
                assert!(!ask(rule, left + 1, late).is_allowed());
            }
            assert!(ask(rule, left, START).is_allowed());
            // One comes back in 1.857143 ms, and no sooner.
            let back = START + 1_857_143;
            assert!(
                !ask(rule, 1, back - 1).is_allowed(),
                "{spent} {is_limiters}"
            );
            assert!(ask(rule, 1, back).is_allowed());
        }
    }
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
fn quotas_that_no_key_is_metered_by_are_forgotten() {
    let store = store(Quota::per_hour(1), 100_000, WhenFull::Evict);
    let hour = Duration::from_secs(3600).as_micros();
    let quota = |more: u64| {
        let micros = u64::try_from(hour).unwrap() + more;
        Quota::new(2, Duration::from_micros(micros)).unwrap()
    };
    let check = |key: u64, rule| {
        let ask = Ask {
            rule: Some(&rule),
            ..at(SECOND)
        };
        store.check(&key, ask).is_allowed()
    };
    let (pinned, _pin) = store.pinned_rule(&quota(0));
    let late = store.rule(&quota(1));
    for key in 0..10 {
        assert!(check(key, store.rule(&quota(2 + key))));
    }
    for more in 100..20_000 {
        check(99, store.rule(&quota(more)));
        assert!(store.rules.known().len() <= crate::rules::FEW);
    }
    // Keys go on under their quotas, also forgotten ones, with what they had spent.
    for key in 0..10 {
        let rules = [store.rule(&quota(2 + key)), pinned, late];
        let through = rules.map(|rule| check(key, rule));
        assert_eq!(through, [true, false, false]);
    }
    assert_eq!(store.pinned_rule(&quota(0)).0.id, pinned.id);
    assert_ne!(store.rule(&quota(1)).id, late.id);
    assert!(check(50, late));
    assert_eq!(store.status(&50, at(SECOND)).spent, 1);
}

#[test]
fn quotas_are_forgotten_while_threads_bring_new_ones() {
    const THREADS: u64 = 4;
    let store = store(Quota::per_hour(1), 1_000, WhenFull::Evict);
    let through = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, through) = (&store, &through);
            scope.spawn(move || {
                for step in 0..5_000_u64 {
                    let algorithm = all()[(step % 5) as usize].metered_by();
                    let period = Duration::from_secs(3600 * 24 + step * THREADS + thread);
                    let quota = Quota::new(10, period).unwrap().algorithm(algorithm);
                    let rule = store.rule(&quota);
                    let ask = Ask {
                        rule: Some(&rule),
                        ..at(SECOND)
                    };
                    if store.check(&(step % 7), ask).is_allowed() {
                        through.fetch_add(1, Ordering::Relaxed);
                    }
                    if step % 100 == 0 {
                        store.set_quota(&quota, Nanos(SECOND));
                    }
                }
            });
        }
    });
    assert_eq!(through.into_inner(), 7 * 10);
    // While one thread forgot, others may have brought any number; whoever comes later finds them.
    for more in 0..100_000 {
        store.rule(&Quota::new(1, Duration::from_secs(1 + more)).unwrap());
    }
    assert!(store.rules.known().len() <= crate::rules::FEW);
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

thread_local! {
    /// What is done where a [`Telling`] key is dropped on this thread.
    static ON_DROP: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// A key with a destructor that may do anything.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Telling(u64);

impl Drop for Telling {
    fn drop(&mut self) {
        ON_DROP.with_borrow(|told| told.iter().for_each(|told| told()));
    }
}

#[test]
fn a_key_may_use_the_store_where_it_is_dropped() {
    for quota in [Quota::per_second(1), Quota::per_hour(1)] {
        let cap = NonZeroUsize::new(40).unwrap();
        let store = Arc::new(Store::new(&quota, cap, WhenFull::Evict, Fixed::default()));
        let (dropped, locked) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let told = (Arc::clone(&store), Rc::clone(&dropped), Rc::clone(&locked));
        ON_DROP.set(Some(Box::new(move || {
            let (store, dropped, locked) = &told;
            dropped.set(dropped.get() + 1);
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
        ON_DROP.set(None);
    }
}
