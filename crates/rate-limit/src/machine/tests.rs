use std::{collections::BTreeMap, num::NonZeroU32, sync::Barrier, time::Duration};

use proptest::prelude::*;
use ratelimit_meter::{DirectRateLimiter, clock::Clock};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn engine(quota: Quota) -> Engine {
    Engine::new(&quota)
}

fn fixed(quota: Quota) -> Engine {
    engine(quota.algorithm(Algorithm::FixedWindow))
}

fn allowed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allowed { .. })
}

/// How many of `tries` single checks at one instant are admitted.
fn admitted(engine: &Engine, cell: &Cell, tries: u32, now: Nanos) -> usize {
    (0..tries)
        .filter(|_| allowed(cell.spend(engine, 1, now)))
        .count()
}

/// A bucket that leaks one cell per interval, in plain signed arithmetic.
struct Bucket {
    interval: i128,
    size: i128,
    level: i128,
    at: i128,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        let period = i128::from(quota.period_nanos());
        let limit = i128::from(quota.limit());
        let interval = (period + limit - 1) / limit;
        Self {
            interval,
            size: interval * i128::from(quota.max_at_once()),
            level: 0,
            at: 0,
        }
    }

    /// `Ok` with what is left, or the wait.
    fn check(&mut self, n: u32, now: u64) -> Result<i128, Option<i128>> {
        let now = i128::from(now);
        self.level = (self.level - (now - self.at)).max(0);
        self.at = now;
        let full = self.level + i128::from(n) * self.interval;
        if i128::from(n) * self.interval > self.size {
            return Err(None);
        }
        if full > self.size {
            return Err(Some(full - self.size));
        }
        self.level = full;
        Ok((self.size - full) / self.interval)
    }
}

/// Counts per window number.
#[derive(Default)]
struct Windows(BTreeMap<u64, u64>);

impl Windows {
    fn check(&mut self, quota: Quota, n: u32, now: u64) -> Result<i128, Option<i128>> {
        let (window, limit) = (quota.period_nanos(), u64::from(quota.limit()));
        if u64::from(n) > limit {
            return Err(None);
        }
        // A late reading belongs to the latest window that was counted in.
        let current = now / window;
        let latest = self.0.keys().next_back().copied().unwrap_or(0).max(current);
        let counted = self.0.get(&latest).copied().unwrap_or(0);
        let fits = counted + u64::from(n) <= limit;
        if n > 0 && (fits || counted >= limit) {
            self.0.insert(latest, counted + u64::from(n));
        }
        if fits || n == 0 {
            Ok(i128::from(limit.saturating_sub(counted + u64::from(n))))
        } else {
            Err(Some(i128::from((latest + 1) * window) - i128::from(now)))
        }
    }
}

fn same(verdict: Verdict, now: u64, model: Result<i128, Option<i128>>) -> bool {
    match (verdict, model) {
        (Verdict::Allowed { remaining }, Ok(left)) => i128::from(remaining) == left,
        (Verdict::NotUntil(at), Err(Some(wait))) => i128::from(at.0) - i128::from(now) == wait,
        (Verdict::Never, Err(None)) => true,
        _ => false,
    }
}

/// A refusal is exact: admitted at its instant, refused a nanosecond before.
fn exact(engine: &Engine, cell: &Cell, n: u32, at: Nanos) -> bool {
    let word = cell.word();
    allowed(engine.step(word, n, at).verdict)
        && !allowed(engine.step(word, n, Nanos(at.0 - 1)).verdict)
}

fn quotas() -> impl Strategy<Value = Quota> {
    let periods = prop_oneof![
        1_000_u64..5_000,
        Just(SECOND),
        Just(60 * SECOND),
        1_000_000_u64..100_000_000,
    ];
    (1_u32..12, 1_u32..12, periods).prop_map(|(limit, burst, period)| {
        Quota::new(limit, Duration::from_nanos(period))
            .unwrap()
            .burst(burst)
    })
}

/// Cells, and a step of time in thousandths of the period, with a few nanoseconds.
fn asks() -> impl Strategy<Value = Vec<(u32, u64, u64)>> {
    let cells = prop_oneof![6 => Just(1_u32), 2 => 0_u32..6, 1 => 6_u32..20];
    let thousandths = prop_oneof![4 => 0_u64..300, 1 => 300_u64..3_000];
    prop::collection::vec((cells, thousandths, 0_u64..4), 1..200)
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0_u64), 0_u64..10_000, Just(1_700_000_000 * SECOND)]
}

proptest! {
    #[test]
    fn gcra_is_a_leaking_bucket(quota in quotas(), start in starts(), asks in asks()) {
        let (engine, cell, mut model) = (engine(quota), Cell::default(), Bucket::new(quota));
        let mut now = start;
        for (n, thousandths, more) in asks {
            now += quota.period_nanos() * thousandths / 1000 + more;
            let verdict = cell.spend(&engine, n, Nanos(now));
            let expected = model.check(n, now);
            prop_assert!(same(verdict, now, expected), "{verdict:?} at {now}, expected {expected:?}");
            if let Verdict::NotUntil(at) = verdict {
                prop_assert!(exact(&engine, &cell, n, at), "{verdict:?} at {now} is not exact");
            }
        }
    }

    #[test]
    fn a_fixed_window_counts_per_window(quota in quotas(), start in starts(), asks in asks()) {
        let (engine, cell, mut model) = (fixed(quota), Cell::default(), Windows::default());
        let mut now = start;
        for (n, thousandths, more) in asks {
            now += quota.period_nanos() * thousandths / 1000 + more;
            let verdict = cell.spend(&engine, n, Nanos(now));
            let expected = model.check(quota, n, now);
            prop_assert!(same(verdict, now, expected), "{verdict:?} at {now}, expected {expected:?}");
            if let Verdict::NotUntil(at) = verdict {
                prop_assert!(exact(&engine, &cell, n, at), "{verdict:?} at {now} is not exact");
            }
        }
    }

    #[test]
    fn readings_out_of_order_admit_no_more(
        quota in quotas(),
        start in starts(),
        readings in prop::collection::vec(0_u64..5_000, 1..300),
    ) {
        let period = quota.period_nanos();
        let (gcra, cell) = (engine(quota), Cell::default());
        let (window, counts) = (fixed(quota), Cell::default());
        let (mut through, mut per_window) = (0, BTreeMap::<u64, u32>::new());
        let mut latest = 0;
        for reading in readings {
            let now = start + period * reading / 1000;
            latest = latest.max(now);
            through += u64::from(allowed(cell.spend(&gcra, 1, Nanos(now))));
            if allowed(counts.spend(&window, 1, Nanos(now))) {
                // By the time that all clocks agree on, it is the latest window.
                *per_window.entry(latest / period).or_default() += 1;
            }
        }
        let interval = period.div_ceil(u64::from(quota.limit()));
        let most = u64::from(quota.max_at_once()) + (latest - start) / interval;
        prop_assert!(through <= most, "{through} of at most {most}");
        prop_assert!(per_window.values().all(|n| *n <= quota.limit()), "{per_window:?}");
    }

    #[test]
    fn a_word_past_its_idle_time_is_as_good_as_new(
        quota in quotas(),
        windows in any::<bool>(),
        start in starts(),
        cells in prop::collection::vec(1_u32..4, 1..20),
        n in 0_u32..12,
    ) {
        let engine = if windows { fixed(quota) } else { engine(quota) };
        let cell = Cell::default();
        for n in cells {
            cell.spend(&engine, n, Nanos(start));
        }
        let idle = engine.idle_at(cell.word());
        for now in [idle, Nanos(idle.0 + 1), Nanos(idle.0 + 7 * quota.period_nanos())] {
            let now = now.max(Nanos(start));
            prop_assert_eq!(
                engine.step(cell.word(), n, now).verdict,
                engine.step(0, n, now).verdict
            );
        }
    }

    #[test]
    fn a_change_of_quota_keeps_what_was_spent(
        from in quotas(),
        to in quotas(),
        windows in any::<[bool; 2]>(),
        start in starts(),
        tries in 0_u32..12,
    ) {
        let pick = |windows, quota| if windows { fixed(quota) } else { engine(quota) };
        let (from, to) = (pick(windows[0], from), pick(windows[1], to));
        let (cell, now) = (Cell::default(), Nanos(start));
        let spent = u32::try_from(admitted(&from, &cell, tries, now)).unwrap();
        prop_assume!(windows == [false, false] || spent == tries);

        let word = to.carry(&from, cell.word(), now);
        let whole = to.remaining(0, now);
        prop_assert_eq!(to.remaining(word, now), whole.saturating_sub(spent));
        prop_assert!(to.idle_at(word) <= Nanos(start.saturating_add(Quota::longest_span())));
    }
}

#[test]
fn a_limit_of_zero_and_a_burst_of_zero_are_closed() {
    assert!(engine(Quota::per_second(0)).is_closed());
    assert!(engine(Quota::per_second(0).burst(5)).is_closed());
    assert!(fixed(Quota::per_second(0)).is_closed());
    assert!(engine(Quota::per_second(5).burst(0)).is_closed());
    assert!(!fixed(Quota::per_second(5).burst(0)).is_closed());
    for engine in [engine(Quota::per_second(0)), fixed(Quota::per_second(0))] {
        let cell = Cell::default();
        assert_eq!(cell.spend(&engine, 1, Nanos(SECOND)), Verdict::Never);
        assert_eq!(cell, Cell::default());
    }
}

#[test]
fn rates_above_one_per_nanosecond_are_held_there() {
    for engine in [
        engine(Quota::per_second(u32::MAX).burst(3)),
        engine(
            Quota::new(u32::MAX, Duration::from_micros(1))
                .unwrap()
                .burst(1000),
        ),
        fixed(Quota::new(u32::MAX, Duration::from_micros(1)).unwrap()),
    ] {
        let (cell, now) = (Cell::default(), Nanos(SECOND));
        assert!(admitted(&engine, &cell, 5_000, now) > 0);
        let more = admitted(&engine, &cell, 5_000, Nanos(now.0 + 1));
        assert!(more <= 1_000, "{engine:?} admitted {more} more");
    }
}

#[test]
fn extremes_neither_panic_nor_admit_too_much() {
    let longest = Duration::from_nanos(Quota::longest_span());
    for quota in [
        Quota::new(u32::MAX, longest).unwrap().burst(u32::MAX),
        Quota::new(1, longest).unwrap().burst(u32::MAX),
        Quota::new(1, longest).unwrap(),
        Quota::new(3, Duration::from_micros(1)).unwrap(),
    ] {
        for engine in [engine(quota), fixed(quota)] {
            for now in [
                0,
                1,
                1_700_000_000 * SECOND,
                u64::MAX / 2,
                u64::MAX - 1,
                u64::MAX,
            ] {
                let cell = Cell::default();
                for n in [1, u32::MAX, 0, 7] {
                    cell.spend(&engine, n, Nanos(now));
                    let word = cell.word();
                    engine.spent(word, Nanos(now));
                    engine.remaining(word, Nanos(now));
                    engine.resets_at(word, Nanos(now));
                    engine.idle_at(word);
                }
            }
        }
    }
    let one = engine(Quota::new(1, longest).unwrap().burst(u32::MAX));
    assert_eq!(admitted(&one, &Cell::default(), 10, Nanos(SECOND)), 1);
}

#[test]
fn a_denied_check_counts_in_a_fixed_window() {
    let quota = Quota::per_second(2);
    let (engine, cell) = (fixed(quota), Cell::default());
    assert_eq!(admitted(&engine, &cell, 5, Nanos(0)), 2);
    assert_eq!(engine.spent(cell.word(), Nanos(0)), 5);
    // A greater limit for the same windows finds all five of them.
    let wider = fixed(Quota::per_second(6));
    let word = wider.carry(&engine, cell.word(), Nanos(0));
    assert_eq!(wider.remaining(word, Nanos(0)), 1);
}

#[test]
fn a_denied_batch_leaves_the_rest_to_smaller_ones() {
    for engine in [engine(Quota::per_second(5)), fixed(Quota::per_second(5))] {
        let (cell, now) = (Cell::default(), Nanos(SECOND));
        assert!(allowed(cell.spend(&engine, 3, now)));
        assert!(matches!(cell.spend(&engine, 3, now), Verdict::NotUntil(_)));
        assert!(allowed(cell.spend(&engine, 2, now)));
        assert_eq!(cell.spend(&engine, 6, now), Verdict::Never);
    }
}

#[test]
fn windows_are_aligned_to_multiples_of_their_length() {
    let engine = fixed(Quota::per_second(1));
    let cell = Cell::default();
    assert_eq!(admitted(&engine, &cell, 1, Nanos(SECOND - 1)), 1);
    assert_eq!(admitted(&engine, &cell, 2, Nanos(SECOND)), 1);
    assert_eq!(
        engine.resets_at(cell.word(), Nanos(SECOND + 300)),
        Nanos(2 * SECOND)
    );
}

#[test]
fn threads_on_one_cell_admit_exactly_the_quota() {
    const THREADS: usize = 8;
    for engine in [engine(Quota::per_hour(1000)), fixed(Quota::per_hour(1000))] {
        let (cell, barrier) = (Cell::default(), Barrier::new(THREADS));
        let through: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        admitted(&engine, &cell, 500, Nanos(SECOND))
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(through, 1000, "{engine:?}");
    }
}

// What the algorithms that ship with ratelimit_meter get wrong, done right
// through the same trait and the same limiter.
mod measured_defects {
    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Zero;

    impl Clock for Zero {
        type Instant = Nanos;

        fn now(&self) -> Nanos {
            Nanos(0)
        }
    }

    fn limiter<A: MeterAlgorithm<Nanos>>() -> DirectRateLimiter<A, Zero> {
        DirectRateLimiter::per_second(NonZeroU32::new(20).unwrap())
    }

    const AT: Nanos = Nanos(1_700_000_000 * SECOND);

    #[test]
    fn a_burst_is_the_limit_and_not_one_more() {
        let mut gcra = limiter::<Gcra>();
        assert_eq!((0..100).filter(|_| gcra.check_at(AT).is_ok()).count(), 20);
        let mut windows = limiter::<FixedWindow>();
        assert_eq!(
            (0..100).filter(|_| windows.check_at(AT).is_ok()).count(),
            20
        );
    }

    #[test]
    fn the_reported_wait_is_one_interval_and_not_a_whole_window() {
        let mut gcra = limiter::<Gcra>();
        assert!(gcra.check_n_at(20, AT).is_ok());
        let refusal = gcra.check_at(AT).unwrap_err();
        assert_eq!(refusal.wait_time_from(AT), Duration::from_millis(50));
        let almost = AT + Duration::from_nanos(49_999_999);
        assert!(gcra.check_at(almost).is_err());
        assert!(gcra.check_at(AT + Duration::from_millis(50)).is_ok());
    }

    #[test]
    fn a_batch_is_charged_once() {
        let mut gcra = limiter::<Gcra>();
        assert!(gcra.check_n_at(10, AT).is_ok());
        assert!(gcra.check_n_at(10, AT).is_ok());
        assert!(gcra.check_at(AT).is_err());
    }

    #[test]
    fn a_batch_of_nothing_resets_nothing() {
        let mut gcra = limiter::<Gcra>();
        assert!(gcra.check_n_at(20, AT).is_ok());
        assert!(gcra.check_n_at(0, AT).is_ok());
        assert!(gcra.check_at(AT).is_err());
        let mut windows = limiter::<FixedWindow>();
        assert!(windows.check_n_at(20, AT).is_ok());
        assert!(windows.check_n_at(0, AT).is_ok());
        assert!(windows.check_at(AT).is_err());
    }

    #[test]
    fn a_clock_near_zero_admits_the_whole_burst() {
        for at in [Nanos(0), Nanos(1), Nanos(1000)] {
            let mut gcra = limiter::<Gcra>();
            assert_eq!((0..100).filter(|_| gcra.check_at(at).is_ok()).count(), 20);
            let mut windows = limiter::<FixedWindow>();
            assert_eq!(
                (0..100).filter(|_| windows.check_at(at).is_ok()).count(),
                20
            );
        }
    }

    #[test]
    fn readings_to_and_fro_admit_no_more_than_the_burst() {
        let mut gcra = limiter::<Gcra>();
        let mut windows = limiter::<FixedWindow>();
        // Two readings of one instant, a second apart, over and over.
        let (late, early) = (AT, Nanos(AT.0 - SECOND));
        assert!(gcra.check_at(late).is_ok());
        assert!(windows.check_at(late).is_ok());
        let readings = [early, late].into_iter().cycle().take(1000);
        let mut through = (0, 0);
        for at in readings {
            through.0 += u32::from(gcra.check_at(at).is_ok());
            through.1 += u32::from(windows.check_at(at).is_ok());
        }
        assert_eq!(through, (19, 19));
    }

    #[test]
    fn a_cell_heavier_than_the_capacity_is_refused() {
        let (one, two) = (NonZeroU32::new(1).unwrap(), NonZeroU32::new(2).unwrap());
        let second = Duration::from_secs(1);
        assert!(<Gcra as MeterAlgorithm<Nanos>>::construct(one, two, second).is_err());
        assert!(<FixedWindow as MeterAlgorithm<Nanos>>::construct(one, two, second).is_err());
    }

    #[test]
    fn the_state_says_when_it_stops_mattering() {
        let cell = Cell::default();
        let twenty = NonZeroU32::new(20).unwrap();
        let one = NonZeroU32::MIN;
        let gcra = Gcra::construct(twenty, one, Duration::from_secs(1)).unwrap();
        assert_eq!(cell.last_touched(&gcra), None);
        assert!(gcra.test_and_update(&cell, AT).is_ok());
        assert_eq!(
            cell.last_touched(&gcra),
            Some(AT + Duration::from_millis(50))
        );
    }
}
