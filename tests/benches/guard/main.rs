//! What a protected operation costs, beside the same wired by hand from governor, deadpool and failsafe.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench guard
//! cargo run --release -p perennial-tests --bin performance_page
//! ```
//!
//! The contenders take turns in one process, in an order that changes; a turn is a fixed number of operations, and a
//! sample is the time of a turn by the number of its operations. `PERENNIAL_BENCH_QUICK=1` makes fewer turns and keeps
//! nothing, and `PERENNIAL_BENCH_ONLY="worker actors, two workers, 50"` makes those of one case.
//!
//! Everybody limits a thousand keys, has ten objects or workers to lend, and counts failures in a row. "With timeouts"
//! bounds the wait for an object and the operation by five seconds each, as a host would; the guard has a deadline of
//! five seconds over all of it, and counts outcomes and latencies besides.

use std::env;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use perennial_tests::figures::{self, Figure};
use perennial_tests::runtime;
use tokio::time::Instant;

mod by_hand;
mod ours;
mod plain_pool;
mod worker;

/// Asks for fewer turns.
const QUICK: &str = "PERENNIAL_BENCH_QUICK";
/// Asks for the cases that have this in their names; nothing is kept then.
const ONLY: &str = "PERENNIAL_BENCH_ONLY";
/// Whoever has a rate limit limits so many keys, and reaches no limit.
const KEYS: u64 = 1_000;
const PER_SECOND: u32 = 100_000_000;
const OBJECTS: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(5);
const SERVICE: &str = "bench";

/// Somebody who takes part.
trait Contender: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn start() -> impl Future<Output = Self> + Send;

    /// One protected operation on the quota of a key; returns a number, lest it be optimised away.
    fn operation(&self, key: u64) -> impl Future<Output = u64> + Send;
}

/// One turn of so many tasks of so many operations.
type Turn = Box<dyn Fn(usize, u64) -> BoxFuture<'static, Duration> + Send + Sync>;

struct Entrant {
    name: &'static str,
    turn: Turn,
    samples: Vec<u64>,
}

impl Entrant {
    async fn start<C: Contender>() -> Self {
        let contender = C::start().await;
        Self {
            name: C::NAME,
            turn: Box::new(move |tasks, operations| {
                Box::pin(turn(contender.clone(), tasks, operations))
            }),
            samples: Vec::new(),
        }
    }
}

async fn turn<C: Contender>(contender: C, tasks: usize, operations: u64) -> Duration {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..tasks as u64)
        .map(|task| {
            let contender = contender.clone();
            tokio::spawn(async move {
                let mut sum = 0_u64;
                for number in 0..operations {
                    let key = (task * 7919 + number * 31) % KEYS;
                    sum = sum.wrapping_add(contender.operation(key).await);
                }
                sum
            })
        })
        .collect();
    for task in tasks {
        std::hint::black_box(task.await.expect("it does not panic"));
    }
    begin.elapsed()
}

fn main() -> io::Result<()> {
    let quick = env::var_os(QUICK).is_some();
    let only = env::var(ONLY).ok();
    // As many in a turn either way: fewer would not use up a task's budget.
    let (rounds, operations) = (if quick { 11 } else { 101 }, 20_000);
    let mut all = Vec::new();
    for (threads, runtime_name) in [(0, "current_thread"), (2, "two workers")] {
        for tasks in [1, 2, 50] {
            for what in ["plain objects", "worker actors"] {
                let case = format!("{what}, {runtime_name}");
                let asked = |only: &String| format!("{case}, {tasks}").contains(only);
                if !only.as_ref().is_none_or(asked) {
                    continue;
                }
                let figures = runtime(threads).block_on(async move {
                    let driver = compare(what, case, tasks, operations, rounds);
                    tokio::spawn(driver).await.expect("it does not panic")
                });
                print(&figures);
                all.extend(figures);
            }
        }
    }
    if quick || only.is_some() {
        return Ok(());
    }
    figures::save("guard", &all)
}

async fn compare(
    what: &'static str,
    case: String,
    tasks: usize,
    operations: u64,
    rounds: usize,
) -> Vec<Figure> {
    let mut entrants = match what {
        "plain objects" => vec![
            Entrant::start::<ours::Plain>().await,
            Entrant::start::<ours::PlainManaged>().await,
            Entrant::start::<by_hand::Plain>().await,
            Entrant::start::<by_hand::PlainWithTimeouts>().await,
        ],
        _ => vec![
            Entrant::start::<ours::Workers>().await,
            Entrant::start::<by_hand::Workers>().await,
            Entrant::start::<by_hand::WorkersWithTimeouts>().await,
        ],
    };
    let each = (operations / tasks as u64).max(1);
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..=rounds {
        random.shuffle(&mut entrants);
        for entrant in &mut entrants {
            let took = (entrant.turn)(tasks, each).await;
            // The first round only warms up.
            if round > 0 {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                entrant.samples.push(nanos / (each * tasks as u64));
            }
        }
    }
    entrants.sort_by_key(|it| it.name);
    let figure = |it: Entrant| Figure::of(&case, it.name, tasks, it.samples);
    entrants.into_iter().map(figure).collect()
}

fn print(figures: &[Figure]) {
    for figure in figures {
        eprintln!(
            "{:32} {:>3} tasks  {:28} p50 {:>6} ns",
            figure.case, figure.children, figure.contender, figure.p50
        );
    }
}
