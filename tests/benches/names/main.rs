//! What it costs to find an actor by its name, among ten thousand and among a hundred, beside two maps and ractor's own
//! registry.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench names
//! ```
//!
//! Each contender looks up the same names in the same order, in turn with the others, and medians over many rounds are
//! taken. Before its time is taken it looks up each of them once, so that what fits into the caches is there, and not
//! what the one before has left; "after other work" it finds the near caches full of something else. ractor's names are
//! strings of the whole process, so a name with a kind has to be put together for each look-up; it is measured with that
//! and without. With arguments for criterion (`-- resolve`) it is criterion's turn
//! instead, which compares each with its own last run. `PERENNIAL_BENCH_QUICK=1` makes fewer rounds and keeps nothing.

use std::env;
use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use criterion::Criterion;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use perennial::lifecycle::{ChildSpec, ExitReason, Scope};
use perennial::registry::{Address, Name, Registry, Route};
use perennial::supervisor::Supervisor;
use perennial_tests::figures::{self, Figure};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

/// Of how many names one is looked up: a tree of some size, and so few that all lie in the near caches.
const NAMES: [usize; 2] = [10_000, 100];
/// How many look-ups one sample is the mean of.
const BATCH: usize = 10_000;
/// More than the near caches hold.
const OTHER_WORK: usize = 16 << 20;

/// Takes messages and does nothing.
struct Worker;

impl Actor for Worker {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// All contenders with the same names in them.
struct Stage {
    registry: Registry,
    supervisor: Supervisor,
    /// In which order names are looked up: not the one in which everything was made and lies in memory.
    order: Vec<usize>,
    names: Vec<Name<()>>,
    texts: Vec<(String, String)>,
    addresses: Vec<Address<()>>,
    dashmap: DashMap<(String, String), Arc<u64>, RandomState>,
    papaya: papaya::HashMap<(String, String), Arc<u64>, RandomState>,
    /// Their names of ractor's, and the actors that keep them.
    ractors: Vec<(String, ActorRef<()>)>,
}

impl Stage {
    async fn set(count: usize) -> Self {
        let scope = Scope::new("bench");
        let registry = Registry::new(&scope);
        let mut order: Vec<usize> = (0..count).collect();
        fastrand::Rng::with_seed(7).shuffle(&mut order);
        let texts: Vec<_> = (0..count)
            .map(|number| ("worker".to_owned(), format!("service-{number}")))
            .collect();
        let name =
            |(kind, service): &(String, String)| Name::of_kind(kind.clone(), service.clone());
        let names: Vec<Name<()>> = texts.iter().map(name).collect();
        let specs = (0..count).map(|number| {
            let text = ("worker".to_owned(), format!("service-{number}"));
            let spec = ChildSpec::worker(number.to_string(), || (Worker, ()));
            let spec = spec.name(name(&text).to_actor_name());
            match number < 8 {
                true => spec.group(GROUP.to_actor_name()),
                false => spec,
            }
        });
        let built = Supervisor::builder().children(specs).build();
        let started = built.expect("the ids differ").start_in(&scope).await;
        let supervisor = started.expect("all start");
        let mut ractors = Vec::new();
        for (kind, service) in &texts {
            let name = format!("{count}:{kind}:{service}");
            let spawned = Actor::spawn(Some(name.clone()), Worker, ()).await;
            ractors.push((name, spawned.expect("it starts").0));
        }
        let values = || texts.iter().cloned().zip((0..).map(Arc::new));
        Self {
            addresses: names
                .iter()
                .map(|name| registry.resolve(name).expect("it runs"))
                .collect(),
            dashmap: values().collect(),
            papaya: values().collect(),
            registry,
            supervisor,
            order,
            names,
            texts,
            ractors,
        }
    }

    async fn strike(self) {
        for (_, actor) in &self.ractors {
            actor.stop(None);
        }
        self.supervisor.stop(ExitReason::Shutdown).await;
    }
}

const GROUP: Name<()> = Name::new("group");

/// One way to find something by the name of this index.
type Find = fn(&Stage, usize);

const CONTENDERS: [(&str, Find); 6] = [
    ("Perennial", |stage, index| {
        drop(black_box(
            stage.registry.resolve(black_box(&stage.names[index])),
        ));
    }),
    ("Perennial, held address", |stage, index| {
        drop(black_box(stage.addresses[index].incarnation()));
    }),
    ("dashmap", |stage, index| {
        let found = stage.dashmap.get(black_box(&stage.texts[index]));
        drop(black_box(found.map(|it| Arc::clone(&it))));
    }),
    ("papaya", |stage, index| {
        let guard = stage.papaya.guard();
        let found = stage.papaya.get(black_box(&stage.texts[index]), &guard);
        drop(black_box(found.cloned()));
    }),
    ("ractor, name at hand", |stage, index| {
        let name = black_box(&stage.ractors[index].0);
        drop(black_box(ractor::registry::where_is(name.clone())));
    }),
    ("ractor, name put together", |stage, index| {
        let (kind, service) = black_box(&stage.texts[index]);
        let name = format!("{}:{kind}:{service}", stage.texts.len());
        drop(black_box(ractor::registry::where_is(name)));
    }),
];

/// How a group chooses one of its eight members and hands it a message.
const ROUTES: [(&str, Route); 3] = [
    ("round robin", Route::RoundRobin),
    ("least queued", Route::LeastQueued),
    ("by key", Route::Key(7)),
];

fn main() -> ExitCode {
    let runtime = perennial_tests::runtime(0);
    let stages = NAMES.map(|count| runtime.block_on(Stage::set(count)));
    let result = if env::args().skip(1).all(|argument| argument == "--bench") {
        compare(&stages, &runtime)
    } else {
        stages.iter().for_each(regression);
        Ok(())
    };
    for stage in stages {
        runtime.block_on(stage.strike());
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(stages: &[Stage], runtime: &tokio::runtime::Runtime) -> io::Result<()> {
    let quick = env::var_os("PERENNIAL_BENCH_QUICK").is_some();
    let rounds = if quick { 20 } else { 200 };
    let mut figures = Vec::new();
    for stage in stages {
        for (case, threads) in [("look-up", 1), ("look-up on two threads", 2)] {
            figures.extend(look_up(stage, case, threads, rounds, false));
        }
    }
    let stage = &stages[0];
    figures.extend(look_up(stage, "look-up after other work", 1, rounds, true));
    let group = stage.registry.group(&GROUP).expect("it takes this type");
    let address = &stage.addresses[0];
    let mut samples = vec![Vec::new(); ROUTES.len() + 1];
    for _ in 0..rounds {
        let sends = ROUTES
            .map(|(_, route)| Some(route))
            .into_iter()
            .chain([None]);
        for (samples, route) in samples.iter_mut().zip(sends) {
            samples.push(picoseconds(on_threads(
                1,
                |_| (),
                |_| {
                    for _ in 0..BATCH {
                        let sent = match route {
                            Some(route) => group.cast(route, ()),
                            None => address.cast(()),
                        };
                        drop(black_box(sent));
                    }
                },
            )));
            // The mailboxes are emptied apart from the clock.
            runtime.block_on(async {
                for _ in 0..64 {
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    let names = ROUTES.iter().map(|(name, _)| *name).chain(["one address"]);
    let cast = names.zip(samples);
    figures.extend(cast.map(|(name, it)| Figure::of("cast to a group of eight", name, 8, it)));
    for figure in &figures {
        let Figure {
            case,
            contender,
            children,
            p50,
            p99,
            ..
        } = figure;
        eprintln!("{case:26} {children:>6} {contender:28} p50 {p50:>8} ps  p99 {p99:>8} ps");
    }
    if quick {
        return Ok(());
    }
    figures::save("names", &figures)
}

/// Compares the contenders, each after a look at all names or after something else that fills the caches.
fn look_up(stage: &Stage, case: &str, threads: usize, rounds: usize, is_cold: bool) -> Vec<Figure> {
    let names = stage.order.len();
    let mut other_work = vec![1_u8; if is_cold { OTHER_WORK } else { 0 }];
    let mut samples = vec![Vec::new(); CONTENDERS.len()];
    for round in 0..rounds {
        for turn in 0..CONTENDERS.len() {
            // Nobody is always first after somebody else.
            let turn = (turn + round) % CONTENDERS.len();
            let find = CONTENDERS[turn].1;
            let all = |at: usize, count: usize| {
                let begin = round * 97 + at * (names / 2);
                for step in 0..count {
                    find(stage, stage.order[(begin + step) % names]);
                }
            };
            let batch = if is_cold { names.min(BATCH) } else { BATCH };
            let ready = |at| {
                if !is_cold {
                    all(at, names)
                }
            };
            let lines = other_work.iter_mut().step_by(64);
            lines.for_each(|it| *it = black_box(*it).wrapping_add(1));
            let took = on_threads(threads, ready, |at| all(at, batch));
            samples[turn].push(picoseconds(took));
        }
    }
    let named = CONTENDERS.iter().zip(samples);
    let named = named.map(|((contender, _), it)| Figure::of(case, contender, names, it));
    named.collect()
}

/// Runs `work` on so many threads at once, each after it has got `ready`, and returns how long the slowest took.
fn on_threads(
    threads: usize,
    ready: impl Fn(usize) + Sync,
    work: impl Fn(usize) + Sync,
) -> Duration {
    if threads == 1 {
        ready(0);
        let begin = Instant::now();
        work(0);
        return begin.elapsed();
    }
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|at| {
                let (start, ready, work) = (&start, &ready, &work);
                scope.spawn(move || {
                    ready(at);
                    start.wait();
                    let begin = Instant::now();
                    work(at);
                    begin.elapsed()
                })
            })
            .collect();
        let times = running.into_iter();
        let times = times.map(|it| it.join().expect("it does not panic"));
        times.max().unwrap_or_default()
    })
}

/// Returns the time of one operation: whole nanoseconds would be too coarse.
fn picoseconds(batch: Duration) -> u64 {
    u64::try_from(batch.as_nanos() * 1000 / BATCH as u128).unwrap_or(u64::MAX)
}

fn regression(stage: &Stage) {
    let names = stage.order.len();
    let mut criterion = Criterion::default().configure_from_args();
    for (name, find) in &CONTENDERS {
        let mut index = 0;
        criterion.bench_function(&format!("resolve/{names}/{name}"), |bench| {
            bench.iter(|| {
                index = (index + 1) % names;
                find(stage, stage.order[index]);
            });
        });
    }
    criterion.final_summary();
}
