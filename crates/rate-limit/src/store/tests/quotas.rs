//! Several quotas in one store, and quotas that change.

use super::*;

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
