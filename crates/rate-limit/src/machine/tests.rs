use std::{sync::Barrier, time::Duration};

use proptest::prelude::*;

use super::{cell::Word, *};

mod defects;
mod models;

const SECOND: u64 = 1_000_000_000;

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Gcra,
    Algorithm::TokenBucket,
    Algorithm::LeakyBucket,
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
];

/// The engines of a quota under each algorithm.
fn engines(quota: Quota) -> [Engine; 5] {
    ALGORITHMS.map(|algorithm| Engine::new(&quota.algorithm(algorithm)))
}

impl State {
    fn renumber(&mut self) {
        match self {
            Self::Gcra(rule, _)
            | Self::TokenBucket(rule, _)
            | Self::FixedWindow(rule, _)
            | Self::SlidingWindow(rule, _) => *rule = 0,
        }
    }
}

/// A key under one engine.
#[derive(Clone, Debug)]
struct Key {
    engine: Engine,
    state: State,
}

impl Key {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            state: engine.fresh(0),
        }
    }

    fn spend(&mut self, n: u32, now: u64) -> Verdict {
        self.engine.spend(&mut self.state, n, Nanos(now))
    }

    /// Spends under an engine that may be another one.
    fn spend_under(&mut self, engine: &Engine, n: u32, now: u64) -> Verdict {
        const OTHER: u32 = 1;
        if *engine == self.engine {
            return self.spend(n, now);
        }
        let before = self.state.clone();
        let verdict = engine.spend_from(OTHER, &self.engine, &mut self.state, n, Nanos(now));
        if self.state.rule() == OTHER {
            self.state.renumber();
            self.engine = *engine;
        } else {
            assert_eq!(self.state, before);
        }
        verdict
    }

    fn ask(&self, n: u32, now: u64) -> Verdict {
        self.engine.ask(&self.state, n, Nanos(now))
    }

    /// How many of `tries` single checks at one instant are admitted.
    fn admitted(&mut self, tries: u32, now: u64) -> u32 {
        let tries = (0..tries).filter(|_| self.spend(1, now).is_allowed());
        u32::try_from(tries.count()).unwrap()
    }

    /// A refusal is exact: admitted at its instant, refused a nanosecond before. What a refused check counts as
    /// makes no difference.
    fn is_exact(&self, n: u32, at: Nanos) -> bool {
        self.ask(n, at.0).is_allowed() && !self.ask(n, at.0 - 1).is_allowed()
    }
}

fn quotas() -> impl Strategy<Value = Quota> {
    let periods = prop_oneof![
        1_000_u64..5_000,
        Just(SECOND),
        Just(60 * SECOND),
        1_000_000_u64..100_000_000,
    ];
    let limits = prop_oneof![4 => 1_u32..12, 1 => 65_u32..200];
    (limits, 1_u32..12, periods).prop_map(|(limit, burst, period)| {
        Quota::new(limit, Duration::from_nanos(period))
            .unwrap()
            .burst(burst)
    })
}

/// Cells, and a step of time in thousandths of the period, with a few nanoseconds.
fn asks() -> impl Strategy<Value = Vec<(u32, u64, u64)>> {
    let cells = prop_oneof![6 => Just(1_u32), 2 => 0_u32..6, 1 => 6_u32..80];
    let thousandths = prop_oneof![4 => 0_u64..300, 1 => 300_u64..3_000];
    prop::collection::vec((cells, thousandths, 0_u64..4), 1..200)
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0_u64), 0_u64..10_000, Just(1_700_000_000 * SECOND)]
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(&ALGORITHMS[..])
}

proptest! {
    #[test]
    fn each_algorithm_decides_as_its_model(
        quota in quotas(),
        algorithm in algorithms(),
        start in starts(),
        asks in asks(),
    ) {
        let quota = quota.algorithm(algorithm);
        let (mut key, mut model) = (Key::new(Engine::new(&quota)), models::model(quota));
        let mut now = start;
        for (n, thousandths, more) in asks {
            now += quota.period_nanos() * thousandths / 1000 + more;
            let (asked, verdict) = (key.ask(n, now), key.spend(n, now));
            prop_assert_eq!(asked, verdict);
            let expected = model.check(n, now);
            prop_assert!(models::same(verdict, now, expected), "{:?} at {}, expected {:?}", verdict, now, expected);
        }
    }

    #[test]
    fn a_retry_is_admitted_at_the_instant_that_was_said_and_no_nanosecond_before(
        quota in quotas(),
        start in starts(),
        asks in asks(),
    ) {
        for engine in engines(quota) {
            let (mut key, mut now) = (Key::new(engine), start);
            for (n, thousandths, more) in &asks {
                now += quota.period_nanos() * thousandths / 1000 + more;
                if let Verdict::NotUntil(at) = key.spend(*n, now) {
                    prop_assert!(at > Nanos(now), "{:?}: {:?} at {}", engine, at, now);
                    prop_assert!(key.is_exact(*n, at), "{:?}: {:?} at {} is not exact", engine, at, now);
                }
            }
        }
    }

    #[test]
    fn readings_out_of_order_admit_no_more(
        quota in quotas(),
        algorithm in algorithms(),
        start in starts(),
        readings in prop::collection::vec(0_u64..5_000, 1..300),
    ) {
        let quota = quota.algorithm(algorithm);
        let period = quota.period_nanos();
        let mut key = Key::new(Engine::new(&quota));
        // By the time that all clocks agree on, a check is at the latest reading.
        let (mut latest, mut through) = (0, Vec::new());
        for reading in readings {
            let now = start + period * reading / 1000;
            latest = latest.max(now);
            if key.spend(1, now).is_allowed() {
                through.push(latest);
            }
        }
        models::assert_within(quota, start, latest, &through)?;
    }

    #[test]
    fn a_state_past_its_idle_time_is_as_good_as_new(
        quota in quotas(),
        algorithm in algorithms(),
        start in starts(),
        cells in prop::collection::vec((1_u32..4, 0_u64..500), 1..20),
        n in 0_u32..12,
    ) {
        let mut key = Key::new(Engine::new(&quota.algorithm(algorithm)));
        let mut now = start;
        for (n, thousandths) in cells {
            now += quota.period_nanos() * thousandths / 1000;
            key.spend(n, now);
        }
        let idle = key.engine.idle_at(&key.state).0.max(now);
        for now in [idle, idle + 1, idle + 7 * quota.period_nanos()] {
            prop_assert_eq!(key.ask(n, now), Key::new(key.engine).ask(n, now));
            prop_assert_eq!(key.engine.spent(&key.state, Nanos(now)), 0);
        }
    }

    #[test]
    fn a_change_of_quota_keeps_what_was_spent(
        from in quotas(),
        to in quotas(),
        algorithms in (algorithms(), algorithms()),
        start in starts(),
        tries in 0_u32..12,
    ) {
        let (from, to) = (from.algorithm(algorithms.0), to.algorithm(algorithms.1));
        let (to, mut key) = (Engine::new(&to), Key::new(Engine::new(&from)));
        // A denied check counts in a fixed window.
        let tries = match algorithms.0 {
            Algorithm::FixedWindow => tries.min(key.engine.most()),
            _ => tries,
        };
        let spent = key.admitted(tries, start);

        let now = Nanos(start);
        let left = to.remaining(&to.fresh(0), now).saturating_sub(spent);
        prop_assert_eq!(to.remaining_from(&key.engine, &key.state, now), left);
        prop_assert_eq!(key.spend_under(&to, 0, start), Verdict::Allowed { remaining: left });
        let span = crate::quota::LONGEST;
        prop_assert!(key.engine.idle_at(&key.state) <= Nanos(start.saturating_add(span)));

        let through = (0..left + 3).filter(|_| key.spend_under(&to, 1, start).is_allowed());
        prop_assert_eq!(through.count(), left as usize);
    }

    /// Under whichever of its quotas a key is asked for, and also when the others are asked meanwhile and refused.
    #[test]
    fn a_retry_under_one_of_several_quotas_is_exact(
        quotas in prop::collection::vec((quotas(), algorithms()), 2..4),
        start in starts(),
        asks in prop::collection::vec((0_usize..3, 1_u32..6, 0_u64..300), 1..60),
    ) {
        let engines: Vec<_> =
            quotas.into_iter().map(|(quota, algorithm)| Engine::new(&quota.algorithm(algorithm))).collect();
        let (mut key, mut now) = (Key::new(engines[0]), start);
        for (which, n, thousandths) in asks {
            let engine = engines[which % engines.len()];
            now += 1_000_000 * thousandths;
            let Verdict::NotUntil(at) = key.spend_under(&engine, n, now) else { continue };
            prop_assert!(at > Nanos(now));
            prop_assert!(!key.clone().spend_under(&engine, n, at.0 - 1).is_allowed());
            let mut asked = key.clone();
            for (step, other) in engines.iter().enumerate() {
                let between = now + (at.0 - now) / 4 * step as u64;
                // In a fixed window those who are refused count as well, and may use up a greater limit.
                let counts = matches!(other, Engine::FixedWindow(_));
                if !counts && !asked.clone().spend_under(other, 1, between).is_allowed() {
                    prop_assert!(!asked.spend_under(other, 1, between).is_allowed());
                }
            }
            for mut key in [key.clone(), asked] {
                prop_assert!(key.spend_under(&engine, n, at.0).is_allowed(), "{:?} at {:?}: {:?}", engine, at, key);
            }
        }
    }

    /// Quotas that are refused change nothing, or give back sooner.
    #[test]
    fn others_that_are_refused_do_not_starve_a_steady_caller(
        limits in prop::collection::vec((1_u32..50, 1_u32..50, 10_u64..10_000, 0_usize..3), 2..5),
        even in any::<bool>(),
        start in starts(),
        pause in 1_u64..400,
    ) {
        let engines: Vec<_> = limits.into_iter().map(|(limit, burst, millis, algorithm)| {
            let quota = Quota::new(limit, Duration::from_millis(millis)).unwrap().burst(burst);
            // A move between a window and the others begins the window anew.
            let algorithm = if even { ALGORITHMS[algorithm] } else { Algorithm::SlidingWindow };
            (quota, Engine::new(&quota.algorithm(algorithm)))
        }).collect();
        let (quota, engine) = engines[0];
        let (mut key, mut alone) = (Key::new(engine), Key::new(engine));
        let (mut through, mut expected) = (0, 0);
        for step in 0..300 {
            let now = start + step * quota.period_nanos() * pause / 1000;
            for (_, other) in &engines[1..] {
                if !key.clone().spend_under(other, 1, now).is_allowed() {
                    key.spend_under(other, 1, now);
                }
            }
            through += u32::from(key.spend_under(&engine, 1, now).is_allowed());
            expected += u32::from(alone.spend(1, now).is_allowed());
            // A move rounds up to a nanosecond, so that a cell may be late by a step.
            prop_assert!(through + 1 >= expected, "{} of {} after {} steps", through, expected, step);
        }
    }

    /// ITU-T I.371 calls them one algorithm: each checks the other.
    #[test]
    fn gcra_and_the_leaky_bucket_decide_alike(quota in quotas(), start in starts(), asks in asks()) {
        let [gcra, _, leaky, _, _] = engines(quota);
        let (mut one, mut other, mut now) = (Key::new(gcra), Key::new(leaky), start);
        for (n, thousandths, more) in asks {
            now += quota.period_nanos() * thousandths / 1000 + more;
            prop_assert_eq!(one.spend(n, now), other.spend(n, now));
        }
    }

    /// One word, stepped without a lock, decides as the whole state does.
    #[test]
    fn a_word_decides_as_the_state_that_it_stands_for(
        quota in quotas(),
        start in starts(),
        asks in asks(),
    ) {
        fn agree<M: Word>(meter: &M, start: u64, period: u64, asks: &[(u32, u64, u64)]) {
            let (cell, mut state, mut now) = (Cell::default(), M::State::default(), start);
            for (n, thousandths, more) in asks {
                now += period * thousandths / 1000 + more;
                let at = Nanos(now);
                assert_eq!(cell.spend(meter, *n, at), meter.spend(&mut state, *n, at));
            }
        }
        let period = quota.period_nanos();
        agree(&Gcra::new(&quota), start, period, &asks);
        let windows = quota.algorithm(Algorithm::FixedWindow);
        agree(&FixedWindow::new(&windows), start, period, &asks);
    }
}

#[test]
fn a_limit_of_zero_and_a_burst_of_zero_are_closed() {
    for engine in engines(Quota::per_second(0))
        .into_iter()
        .chain(engines(Quota::per_second(0).burst(5)))
    {
        assert!(engine.is_closed(), "{engine:?}");
        let mut key = Key::new(engine);
        assert_eq!(key.spend(1, SECOND), Verdict::Never);
        assert_eq!(key.state, engine.fresh(0));
    }
    let closed = engines(Quota::per_second(5).burst(0)).map(|engine| engine.is_closed());
    assert_eq!(closed, [true, true, true, false, false]);
}

#[test]
fn rates_above_one_per_nanosecond_are_held_there() {
    let short = Quota::new(u32::MAX, Duration::from_micros(1)).unwrap();
    let [gcra, tokens, leaky, windows, _] = engines(short.burst(1000));
    let fast = &engines(Quota::per_second(u32::MAX).burst(3))[..3];
    // A sliding window has no rate: the limit may be spent at once.
    for engine in [gcra, tokens, leaky, windows].iter().chain(fast) {
        let mut key = Key::new(*engine);
        assert!(key.admitted(5_000, SECOND) > 0);
        let more = key.admitted(5_000, SECOND + 1);
        assert!(more <= 1_000, "{engine:?} admitted {more} more");
    }
}

#[test]
fn a_quota_tells_how_many_it_admits_at_once() {
    let longest = crate::quota::LONGEST;
    for period in [
        1_000,
        1_001,
        4_321,
        SECOND,
        3_600 * SECOND,
        longest - 1,
        longest,
    ] {
        for limit in [0, 1, 2, 7, 999, 1_000, 1_001, u32::MAX - 1, u32::MAX] {
            for burst in [0, 1, 5, 1_000_000, u32::MAX] {
                let quota = Quota::new(limit, Duration::from_nanos(period)).unwrap();
                for algorithm in ALGORITHMS {
                    let quota = quota.burst(burst).algorithm(algorithm);
                    let engine = Engine::new(&quota);
                    assert_eq!(quota.max_at_once(), engine.most(), "{quota:?}");
                }
            }
        }
    }
}

#[test]
fn extremes_neither_panic_nor_admit_too_much() {
    let longest = Duration::from_nanos(crate::quota::LONGEST);
    for quota in [
        Quota::new(u32::MAX, longest).unwrap().burst(u32::MAX),
        Quota::new(1, longest).unwrap().burst(u32::MAX),
        Quota::new(1, longest).unwrap(),
        Quota::new(3, Duration::from_micros(1)).unwrap(),
    ] {
        for engine in engines(quota) {
            let times = [
                0,
                1,
                1_700_000_000 * SECOND,
                u64::MAX / 2,
                u64::MAX - 1,
                u64::MAX,
            ];
            for now in times {
                let mut key = Key::new(engine);
                for n in [1, u32::MAX, 0, 7, u32::MAX, u32::MAX] {
                    for now in [now, now / 2, now.saturating_add(1)] {
                        key.spend(n, now);
                        engine.spent(&key.state, Nanos(now));
                        engine.remaining(&key.state, Nanos(now));
                        engine.resets_at(&key.state, Nanos(now));
                        engine.idle_at(&key.state);
                    }
                }
            }
        }
    }
    let one = Quota::new(1, longest).unwrap().burst(u32::MAX);
    for engine in engines(one) {
        assert_eq!(Key::new(engine).admitted(10, SECOND), 1, "{engine:?}");
    }
}

#[test]
fn a_token_bucket_loses_no_fraction_of_a_token() {
    // A third of a second is no whole number of nanoseconds.
    let quota = Quota::per_second(3).algorithm(Algorithm::TokenBucket);
    let mut key = Key::new(Engine::new(&quota));
    let mut through = 0;
    for millisecond in 0..3_600_000_u64 {
        through += u32::from(key.spend(1, SECOND + millisecond * 1_000_000).is_allowed());
    }
    // The burst, and what came back until a millisecond before the hour.
    assert_eq!(through, 3 + 3 * 3600 - 1);
    assert_eq!(
        key.spend(1, 3601 * SECOND - 1),
        Verdict::NotUntil(Nanos(3601 * SECOND))
    );
}

#[test]
fn a_caller_who_asks_steadily_does_not_starve() {
    for engine in engines(Quota::per_second(10)) {
        let mut key = Key::new(engine);
        let mut through = 0;
        for tick in 0..1_000_u64 {
            through += u32::from(key.spend(1, SECOND + tick * 10_000_000).is_allowed());
        }
        // Ten seconds at ten per second, and what may pass at once.
        assert!(
            (100..=110).contains(&through),
            "{engine:?} admitted {through}"
        );
    }
}

#[test]
fn a_sliding_window_has_no_edge() {
    let quota = Quota::per_second(5).algorithm(Algorithm::SlidingWindow);
    let mut key = Key::new(Engine::new(&quota));
    // All at the end of a calendar second: a fixed window would take five more right after.
    assert_eq!(key.admitted(9, 2 * SECOND - 1), 5);
    assert_eq!(key.admitted(9, 2 * SECOND), 0);
    assert_eq!(key.admitted(9, 3 * SECOND - 2), 0);
    assert_eq!(key.admitted(9, 3 * SECOND - 1), 5);
}

#[test]
fn a_sliding_window_tells_checks_of_one_instant_apart() {
    let quota = Quota::per_second(5).algorithm(Algorithm::SlidingWindow);
    assert_eq!(Key::new(Engine::new(&quota)).admitted(1_000, SECOND), 5);
}

#[test]
fn the_log_of_a_sliding_window_stays_short() {
    for limit in [64, 65, 100_000] {
        let quota = Quota::per_second(limit).algorithm(Algorithm::SlidingWindow);
        let engine = Engine::new(&quota);
        let mut key = Key::new(engine);
        let State::SlidingWindow(_, log) = &key.state else {
            panic!("{key:?}");
        };
        let capacity = log.capacity();
        for step in 0..100_000 {
            key.spend(1, SECOND + step * 31_000);
        }
        let State::SlidingWindow(_, log) = &key.state else {
            panic!("{key:?}");
        };
        assert!(log.len() <= 66, "{} for {limit}", log.len());
        assert_eq!(log.capacity(), capacity, "a check allocated");
    }
}

#[test]
fn a_denied_check_counts_in_a_fixed_window() {
    let fixed = |limit| Engine::new(&Quota::per_second(limit).algorithm(Algorithm::FixedWindow));
    let mut key = Key::new(fixed(2));
    assert_eq!(key.admitted(5, 0), 2);
    assert_eq!(key.engine.spent(&key.state, Nanos(0)), 5);
    // A greater limit for the same windows finds all five of them.
    let wider = fixed(6);
    assert_eq!(
        key.spend_under(&wider, 0, 0),
        Verdict::Allowed { remaining: 1 }
    );
}

#[test]
fn a_denied_batch_leaves_the_rest_to_smaller_ones() {
    for engine in engines(Quota::per_second(5)) {
        let mut key = Key::new(engine);
        assert!(key.spend(3, SECOND).is_allowed());
        assert!(matches!(key.spend(3, SECOND), Verdict::NotUntil(_)));
        assert!(key.spend(2, SECOND).is_allowed());
        assert_eq!(key.spend(6, SECOND), Verdict::Never);
    }
}

#[test]
fn windows_are_aligned_to_multiples_of_their_length() {
    let engine = Engine::new(&Quota::per_second(1).algorithm(Algorithm::FixedWindow));
    let mut key = Key::new(engine);
    assert_eq!(key.admitted(1, SECOND - 1), 1);
    assert_eq!(key.admitted(2, SECOND), 1);
    let resets = engine.resets_at(&key.state, Nanos(SECOND + 300));
    assert_eq!(resets, Nanos(2 * SECOND));
}

#[test]
fn threads_on_one_cell_admit_exactly_the_quota() {
    fn run<M: Word + Sync + std::fmt::Debug>(meter: &M) {
        const THREADS: usize = 8;
        let (cell, barrier) = (Cell::default(), Barrier::new(THREADS));
        let through: usize = std::thread::scope(|scope| {
            let check = || {
                barrier.wait();
                let tries = (0..500).map(|_| cell.spend(meter, 1, Nanos(SECOND)));
                tries.filter(|verdict| verdict.is_allowed()).count()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(check)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(through, 1000, "{meter:?}");
    }
    let quota = Quota::per_hour(1000);
    run(&Gcra::new(&quota));
    run(&FixedWindow::new(&quota.algorithm(Algorithm::FixedWindow)));
}
