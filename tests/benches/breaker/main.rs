//! What a closed breaker costs a call that ends well, beside failsafe.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench breaker
//! ```
//!
//! The contenders take turns, so that what the machine does meanwhile hits all of them. A figure is the time of
//! 1,000 calls as each thread saw it.

use std::hint::black_box;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::time::Duration;

use failsafe::CircuitBreaker as _;
use perennial::breaker::{Breaker, BreakerConfig, KeyedBreakers, Trip, Window};
use perennial_tests::figures::{self, Figure};
use tokio::time::Instant;

/// Of a figure.
const CALLS: u32 = 1_000;
/// Of a round: long enough that threads that start together run beside each other.
const CALLS_OF_ROUND: u32 = 50_000;
/// Of a service that has a breaker for each.
const KEYS: u32 = 1_000;
const OURS: &str = "Perennial";
const FAILSAFE: &str = "failsafe";
/// Asks for fewer rounds.
const QUICK: &str = "PERENNIAL_BENCH_QUICK";

/// Lets one call through a breaker, and tells it that the call ended well.
type Call<'a> = dyn Fn(u32) -> u64 + Sync + 'a;

fn main() -> io::Result<()> {
    let is_quick = std::env::var_os(QUICK).is_some();
    let rounds = if is_quick { 10 } else { 300 };
    let consecutive = breaker(Trip::Consecutive(5));
    let failures = |window| Trip::FailureRate {
        ratio: 0.5,
        window,
        min_calls: 20,
    };
    let rate = breaker(failures(Window::Calls(100)));
    let rate_of_time = breaker(failures(Window::Time(Duration::from_secs(10))));
    let slow = breaker(Trip::SlowRate {
        slower_than: Duration::from_secs(1),
        ratio: 0.5,
        window: Window::Time(Duration::from_secs(10)),
        min_calls: 20,
    });
    let keyed = KeyedBreakers::new(
        "measured",
        BreakerConfig::default(),
        NonZeroUsize::new(10_000).expect("it is more than zero"),
    );
    let policy = failsafe::failure_policy::consecutive_failures(
        5,
        failsafe::backoff::constant(Duration::from_secs(30)),
    );
    let theirs = failsafe::Config::new().failure_policy(policy).build();

    // Each loop is compiled for its contender: what is called through a pointer is a thousand calls.
    let ours = |of: u32| (0..of).filter(|_| ours(&consecutive)).count() as u64;
    let by_rate = |of: u32| (0..of).filter(|_| self::ours(&rate)).count() as u64;
    let by_rate_of_time = |of: u32| (0..of).filter(|_| self::ours(&rate_of_time)).count() as u64;
    let by_slow = |of: u32| (0..of).filter(|_| self::ours(&slow)).count() as u64;
    let theirs = |of: u32| {
        let call = || theirs.call(|| Ok::<u32, ()>(black_box(1))).is_ok();
        (0..of).filter(|_| call()).count() as u64
    };
    let by_key = |of: u32| (0..of).filter(|of| ours_of_key(&keyed, of % KEYS)).count() as u64;
    let contenders: [(&str, &Call<'_>); 6] = [
        (OURS, &ours),
        (FAILSAFE, &theirs),
        ("Perennial, by failure rate", &by_rate),
        ("Perennial, by failure rate of 10 s", &by_rate_of_time),
        ("Perennial, by slow calls of 10 s", &by_slow),
        ("Perennial, one of 1,000 keys", &by_key),
    ];

    let mut all = Vec::new();
    for threads in [1, 2] {
        let mut samples = [const { Vec::new() }; 6];
        for _ in 0..rounds {
            for ((_, call), samples) in contenders.iter().zip(&mut samples) {
                samples.extend(round(*call, threads));
            }
        }
        let case = format!("1,000 calls of a closed breaker, {threads} threads");
        for ((name, _), samples) in contenders.iter().zip(samples) {
            all.push(Figure::of(&case, name, 1, samples));
        }
    }
    for pair in all.chunks(contenders.len()) {
        let theirs = pair[1].p50 as f64;
        for figure in pair {
            let each = figure.p50 as f64 / f64::from(CALLS);
            let ratio = figure.p50 as f64 / theirs;
            println!(
                "{:46} {:36} {each:6.1} ns  {ratio:.2}",
                figure.case, figure.contender
            );
        }
    }
    if is_quick {
        return Ok(());
    }
    figures::save("breaker", &all)
}

fn breaker(trip: Trip) -> Breaker {
    let config = BreakerConfig::builder().trip(trip).build();
    Breaker::new("measured", config.expect("the settings are in range"))
}

#[inline]
fn ours(breaker: &Breaker) -> bool {
    match breaker.try_acquire() {
        Ok(permit) => {
            black_box(1);
            permit.success();
            true
        }
        Err(_) => false,
    }
}

#[inline]
fn ours_of_key(breakers: &KeyedBreakers<u32>, key: u32) -> bool {
    match breakers.try_acquire(&key) {
        Ok(permit) => {
            black_box(1);
            permit.success();
            true
        }
        Err(_) => false,
    }
}

/// Times a round on each of so many threads at once; answers with the nanoseconds of [`CALLS`] calls.
fn round(call: &Call<'_>, threads: usize) -> Vec<u64> {
    let start = Barrier::new(threads);
    let timed = || {
        start.wait();
        let begin = Instant::now();
        let admitted = call(CALLS_OF_ROUND);
        let took = begin.elapsed() / (CALLS_OF_ROUND / CALLS);
        assert_eq!(
            admitted,
            u64::from(CALLS_OF_ROUND),
            "a closed breaker refused"
        );
        u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
    };
    if threads == 1 {
        return vec![timed()];
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
        let ended = others.into_iter().map(|it| it.join());
        ended.map(|it| it.expect("no thread panics")).collect()
    })
}
