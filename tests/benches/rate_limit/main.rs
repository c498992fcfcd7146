//! What a keyed check costs, beside governor's.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench rate_limit
//! ```
//!
//! The contenders take turns; a sample is the time of a thousand checks of keys in no order, per thread. The clock is
//! each one's own: governor's default reads the processor's counter, as ours does. A second table shows the worst
//! single check while new keys arrive.
//!
//! `PERENNIAL_BENCH_QUICK=1` makes fewer and smaller rounds and keeps nothing.

use std::env;
use std::hint::black_box;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Barrier;

use perennial_rate_limit::{GateLimiter, KeyedLimiter, Quota, RateGate};
use perennial_tests::figures::{self, Figure};
use tokio::time::Instant;

/// Asks for fewer and smaller rounds.
const QUICK: &str = "PERENNIAL_BENCH_QUICK";

const OURS: &str = "Perennial";
const GATE: &str = "Perennial, gate";
const GOVERNOR: &str = "governor";

/// So many that none is refused: what is measured is the way through.
const PER_SECOND: u32 = 1_000_000_000;

fn main() -> io::Result<()> {
    // Asked for by `cargo test --benches`.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let quick = env::var_os(QUICK).is_some();
    let (rounds, checks) = if quick { (5, 20_000) } else { (41, 200_000) };
    let mut all = Vec::new();
    for keys in [1, 1_000, 100_000, 1_000_000] {
        for threads in [1, 2] {
            let numbers = Contenders::new(keys, |key| key);
            all.extend(numbers.compare("u64", keys, threads, rounds, checks));
        }
    }
    for threads in [1, 2] {
        let strings = Contenders::new(1_000, |key| format!("customer-{key:07}"));
        all.extend(strings.compare("String", 1_000, threads, rounds, checks));
    }
    all.extend(arrivals(if quick { 1 } else { 9 }));
    for figure in &all {
        println!(
            "{:44} {:>8} {:16} p50 {:>9} ns  p99 {:>9} ns",
            figure.case, figure.children, figure.contender, figure.p50, figure.p99
        );
    }
    if quick {
        return Ok(());
    }
    figures::save("rate_limit", &all)
}

/// The same keys known to each.
struct Contenders<K: Key> {
    keys: Vec<K>,
    ours: KeyedLimiter<K>,
    gate: GateLimiter,
    governor: governor::DefaultKeyedRateLimiter<K>,
}

/// Tells whether one check of a key was allowed.
type Check<'a, K> = &'a (dyn Fn(&K) -> bool + Sync);

trait Key: std::hash::Hash + Eq + Clone + Send + Sync + 'static {}
impl Key for u64 {}
impl Key for String {}

impl<K: Key> Contenders<K> {
    fn new(keys: u64, key: impl Fn(u64) -> K) -> Self {
        let keys: Vec<K> = (0..keys).map(key).collect();
        let cap = NonZeroUsize::new(2_000_000).unwrap_or(NonZeroUsize::MIN);
        let quota = Quota::per_second(PER_SECOND);
        let gate = RateGate::builder().max_keys(cap).build();
        let gate = gate.unwrap_or_default().limiter("bench", quota);
        let ours = KeyedLimiter::builder(quota).max_keys(cap).build();
        let governor = governor::RateLimiter::keyed(governors_quota());
        for key in &keys {
            black_box(ours.check(key).is_allowed());
            black_box(gate.check(key).is_allowed());
            black_box(governor.check_key(key).is_ok());
        }
        Self {
            keys,
            ours,
            gate,
            governor,
        }
    }

    fn compare(
        &self,
        of: &str,
        keys: u64,
        threads: usize,
        rounds: usize,
        checks: u64,
    ) -> Vec<Figure> {
        let contenders: [(&str, Check<'_, K>); 3] = [
            (OURS, &|key| self.ours.check(key).is_allowed()),
            (GATE, &|key| self.gate.check(key).is_allowed()),
            (GOVERNOR, &|key| self.governor.check_key(key).is_ok()),
        ];
        let mut samples = [const { Vec::new() }; 3];
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                // Nobody is always first after somebody else.
                let turn = (turn + round) % contenders.len();
                samples[turn].push(self.run(contenders[turn].1, threads, checks));
            }
        }
        let case = format!("1,000 checks, {of}, {threads} threads");
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        contenders
            .iter()
            .zip(samples)
            .map(|((name, _), samples)| Figure::of(&case, name, keys, samples))
            .collect()
    }

    /// Nanoseconds of a thousand checks on each of some threads.
    fn run(&self, check: Check<'_, K>, threads: usize, checks: u64) -> u64 {
        let barrier = Barrier::new(threads);
        let one = |seed: u64| {
            barrier.wait();
            let begin = Instant::now();
            let mut random = seed;
            for _ in 0..checks {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let key = (random >> 33) as usize % self.keys.len();
                black_box(check(&self.keys[key]));
            }
            begin.elapsed()
        };
        let slowest = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|thread| scope.spawn(move || one(thread as u64 * 7919)))
                .collect();
            let mine = one(1);
            let theirs = others.into_iter().filter_map(|it| it.join().ok());
            theirs.fold(mine, |slowest, it| slowest.max(it))
        });
        u64::try_from(slowest.as_nanos()).unwrap_or(u64::MAX) * 1000 / checks
    }
}

fn governors_quota() -> governor::Quota {
    governor::Quota::per_second(NonZeroU32::new(PER_SECOND).unwrap_or(NonZeroU32::MIN))
}

/// The worst single check while a million new keys arrive: with room for all, and with room for a tenth.
fn arrivals(rounds: usize) -> Vec<Figure> {
    const KEYS: u64 = 1_000_000;
    let quota = Quota::per_second(100);
    let mut samples = [const { Vec::new() }; 3];
    let limiter = |cap: u64| {
        let cap = usize::try_from(cap).ok().and_then(NonZeroUsize::new);
        KeyedLimiter::<u64>::builder(quota).max_keys(cap.unwrap_or(NonZeroUsize::MIN))
    };
    for _ in 0..rounds {
        let roomy = limiter(KEYS).build();
        samples[0].push(worst(KEYS, |key| roomy.check(&key).is_allowed()));
        let tight = limiter(KEYS / 10).build();
        samples[1].push(worst(KEYS, |key| tight.check(&key).is_allowed()));
        let governor = governor::DefaultKeyedRateLimiter::keyed(governors_quota());
        samples[2].push(worst(KEYS, |key| governor.check_key(&key).is_ok()));
    }
    let names = [OURS, "Perennial, cap at a tenth", GOVERNOR];
    let figures = names.into_iter().zip(samples);
    figures
        .map(|(name, samples)| Figure::of("worst check, new keys", name, 1_000_000, samples))
        .collect()
}

fn worst(keys: u64, check: impl Fn(u64) -> bool) -> u64 {
    let mut worst = 0;
    let mut before = Instant::now();
    for key in 0..keys {
        black_box(check(key));
        let now = Instant::now();
        worst = worst.max((now - before).as_nanos());
        before = now;
    }
    u64::try_from(worst).unwrap_or(u64::MAX)
}
