//! What a snapshot of 100,000 live actors costs, and for how long it holds up others.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench snapshot
//! ```
//!
//! Each snapshot is taken beside a task that is always ready, on one thread: the longest time for which that one had no
//! turn is what others wait. With arguments for criterion (`-- idle`) it is criterion's turn instead, which compares us
//! with our own last run. `PERENNIAL_BENCH_QUICK=1` makes fewer rounds and keeps nothing.

use std::env;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use perennial::debug::{Debugger, Snapshot};
use perennial::lifecycle::{ChildSpec, ExitReason, Scope};
use perennial::supervisor::Supervisor;
use perennial_tests::figures::{self, Figure};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const GROUPS: u32 = 100;
const WORKERS: u32 = 999;
/// The groups, their workers, and the root.
const ACTORS: u32 = GROUPS * (WORKERS + 1) + 1;

/// Tells of each message that it takes.
struct Worker(Arc<Semaphore>);

impl Actor for Worker {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.add_permits(1);
        Ok(())
    }
}

/// Supervisors of workers, below one root.
struct Fleet {
    scope: Scope,
    supervisor: Supervisor,
    debugger: Debugger,
    handled: Arc<Semaphore>,
}

impl Fleet {
    async fn start() -> Self {
        let scope = Scope::new("fleet");
        let handled = Arc::new(Semaphore::new(0));
        let group = |group: u32| {
            let worker = |worker: u32| {
                let handled = Arc::clone(&handled);
                ChildSpec::worker(worker.to_string(), move || {
                    (Worker(Arc::clone(&handled)), ())
                })
            };
            let built = Supervisor::builder()
                .children((0..WORKERS).map(worker))
                .build();
            built.expect("the ids differ").into_child(group.to_string())
        };
        let root = Supervisor::builder()
            .children((0..GROUPS).map(group))
            .build();
        let started = root.expect("the ids differ").start_in(&scope).await;
        Self {
            supervisor: started.expect("all start"),
            debugger: Debugger::new(&scope),
            scope,
            handled,
        }
    }

    /// Has each worker handle one message.
    async fn work(&self) {
        for group in self.scope.root().children() {
            for worker in group.children() {
                let run = worker.current().expect("all run");
                assert!(run.offer(()).is_ok(), "its mailbox is empty");
            }
        }
        let all = self.handled.acquire_many(GROUPS * WORKERS).await;
        drop(all.expect("nobody closes it"));
    }

    async fn snapshot(&self) -> Snapshot {
        let taken = self.debugger.snapshot().await;
        let snapshot = taken.expect("the tree runs");
        let totals = snapshot.totals;
        assert_eq!((totals.actors, totals.down), (u64::from(ACTORS), 0));
        snapshot
    }

    /// Takes a snapshot, and returns how long it took and for how long others had no turn.
    async fn measure(&self) -> [Duration; 2] {
        let start = Instant::now();
        let (mut turn, mut gap) = (start, Duration::ZERO);
        let mut reading = pin!(self.snapshot());
        let snapshot = loop {
            tokio::select! {
                biased;
                snapshot = &mut reading => break snapshot,
                () = std::future::ready(()) => {
                    gap = gap.max(turn.elapsed());
                    turn = Instant::now();
                }
            }
        };
        let took = start.elapsed();
        gap = gap.max(turn.elapsed());
        drop(snapshot);
        [took, gap]
    }
}

/// Before any message was sent, and after each worker has handled one.
const CASES: [&str; 2] = ["no messages so far", "a message handled by each"];

fn main() -> ExitCode {
    let runtime = perennial_tests::runtime(0);
    let fleet = runtime.block_on(Fleet::start());
    let result = if env::args().skip(1).all(|argument| argument == "--bench") {
        measure(&fleet, &runtime)
    } else {
        regression(&fleet, &runtime);
        Ok(())
    };
    runtime.block_on(fleet.supervisor.stop(ExitReason::Shutdown));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(fleet: &Fleet, runtime: &Runtime) -> io::Result<()> {
    let quick = env::var_os("PERENNIAL_BENCH_QUICK").is_some();
    let rounds = if quick { 3 } else { 101 };
    let mut figures = Vec::new();
    for case in CASES {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let times = runtime.block_on(fleet.measure());
            for (samples, time) in samples.iter_mut().zip(times) {
                samples.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        for (who, samples) in ["Perennial", "others wait"].into_iter().zip(samples) {
            let figure = Figure::of(case, who, ACTORS as usize, samples);
            eprintln!(
                "{case:26} {who:12} p50 {:>10} ns  p99 {:>10} ns",
                figure.p50, figure.p99
            );
            figures.push(figure);
        }
        runtime.block_on(fleet.work());
    }
    if quick {
        return Ok(());
    }
    figures::save("snapshot", &figures)
}

fn regression(fleet: &Fleet, runtime: &Runtime) {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    for case in CASES {
        criterion.bench_function(case, |bench| {
            bench.iter(|| runtime.block_on(fleet.snapshot()));
        });
        runtime.block_on(fleet.work());
    }
    criterion.final_summary();
}
