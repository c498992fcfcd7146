//! What a checkout costs, beside deadpool.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench pool
//! ```
//!
//! Ten objects each; ours are worker actors, deadpool's are units. Each contender takes turns in one process, in
//! short rounds of a fixed count, and the medians are compared. Ours has its timeout set, as production would;
//! deadpool is measured without any and with all of them.
//!
//! `PERENNIAL_BENCH_QUICK=1` makes fewer rounds and keeps nothing.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::io;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleResult};
use perennial::Supervisor;
use perennial::pool::{Pool, PoolConfig, Worker, WorkerRef};
use perennial_tests::figures::{self, Figure};
use perennial_tests::runtime;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const OBJECTS: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Checkouts per round, all tasks together.
const CHECKOUTS: usize = 20_000;
const ROUNDS: usize = 101;
const QUICK_ROUNDS: usize = 11;

const OURS: &str = "Perennial";
const DEADPOOL: &str = "deadpool";
const DEADPOOL_TIMEOUTS: &str = "deadpool with timeouts";

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct IdleWorker;

impl Worker for IdleWorker {
    type Actor = Idle;
    type Client = WorkerRef<()>;

    fn actor(&self) -> (Idle, ()) {
        (Idle, ())
    }

    fn client(&self, worker: WorkerRef<()>) -> WorkerRef<()> {
        worker
    }
}

struct Units;

impl Manager for Units {
    type Type = ();
    type Error = Infallible;

    async fn create(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn recycle(&self, (): &mut (), _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

type Deadpool = deadpool::managed::Pool<Units>;

fn deadpool(timeout: Option<Duration>) -> Deadpool {
    let builder = Deadpool::builder(Units).max_size(OBJECTS);
    let builder = builder.wait_timeout(timeout).create_timeout(timeout);
    let builder = builder.recycle_timeout(timeout);
    let builder = builder.runtime(deadpool::Runtime::Tokio1);
    builder.build().expect("it has a runtime")
}

/// Has `tasks` tasks check out and in, all together [`CHECKOUTS`] times; returns nanoseconds per checkout.
async fn round<T, F>(tasks: usize, checkout: impl Fn() -> F + Clone + Send + 'static) -> u64
where
    F: Future<Output = T> + Send + 'static,
    T: Send,
{
    let began = Instant::now();
    let each = CHECKOUTS / tasks;
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let checkout = checkout.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    black_box(checkout().await);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("nothing panics");
    }
    u64::try_from(began.elapsed().as_nanos() / CHECKOUTS as u128).unwrap_or(u64::MAX)
}

fn measure(runtime: &Runtime, threads: &str, tasks: usize, rounds: usize) -> Vec<Figure> {
    runtime.block_on(async {
        let config = PoolConfig::new(OBJECTS).wait_timeout(TIMEOUT);
        let ours = Pool::new("idle", IdleWorker, config).expect("it is small");
        let tree = Supervisor::builder().child(ours.child_spec());
        let tree = tree.build().expect("one child").start("bench").await;
        let tree = tree.expect("workers start");
        let (plain, timed) = (deadpool(None), deadpool(Some(TIMEOUT)));
        let mut samples = [const { Vec::new() }; 3];
        // The first round warms up.
        for number in 0..=rounds {
            let ours = ours.clone();
            let (plain, timed) = (plain.clone(), timed.clone());
            let taken = [
                round(tasks, move || {
                    let ours = ours.clone();
                    async move { drop(ours.checkout().await.expect("in time")) }
                })
                .await,
                round(tasks, move || {
                    let plain = plain.clone();
                    async move { drop(plain.get().await.expect("in time")) }
                })
                .await,
                round(tasks, move || {
                    let timed = timed.clone();
                    async move { drop(timed.get().await.expect("in time")) }
                })
                .await,
            ];
            for (samples, taken) in samples.iter_mut().zip(taken) {
                if number > 0 {
                    samples.push(taken);
                }
            }
        }
        tree.stop(perennial::ExitReason::Shutdown).await;
        let case = format!("checkout, {threads}");
        [OURS, DEADPOOL, DEADPOOL_TIMEOUTS]
            .into_iter()
            .zip(samples)
            .map(|(contender, samples)| Figure::of(&case, contender, tasks, samples))
            .collect()
    })
}

fn main() -> io::Result<()> {
    let quick = std::env::var_os("PERENNIAL_BENCH_QUICK").is_some();
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    let (one, two) = (runtime(0), runtime(2));
    let mut all = Vec::new();
    for (threads, runtime) in [("current_thread", &one), ("two workers", &two)] {
        for tasks in [1, 2, 50] {
            let figures = measure(runtime, threads, tasks, rounds);
            for figure in &figures {
                eprintln!(
                    "{:26} {:>3} tasks {:24} p50 {:>6} ns  {:.2} x deadpool",
                    figure.case,
                    tasks,
                    figure.contender,
                    figure.p50,
                    ratio(figure.p50, figures[1].p50)
                );
            }
            all.extend(figures);
        }
    }
    if quick {
        return Ok(());
    }
    figures::save("pool", &all)
}

#[expect(clippy::cast_precision_loss, reason = "two digits of it are shown")]
fn ratio(figure: u64, base: u64) -> f64 {
    figure as f64 / base as f64
}
