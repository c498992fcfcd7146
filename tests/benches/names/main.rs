//! What it costs to find an actor by its name, among ten thousand, beside two maps and ractor's own registry.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench names
//! ```
//!
//! Each contender looks up the same names in the same order, in turn with the others, and medians over many rounds are
//! taken. ractor's names are strings of the whole process, so a name with a kind has to be put together for each
//! look-up; it is measured with that and without. With arguments for criterion (`-- resolve`) it is criterion's turn
//! instead, which compares us with our own last run. `PERENNIAL_BENCH_QUICK=1` makes fewer rounds and keeps nothing.

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

/// How many names there are.
const NAMES: usize = 10_000;
/// How many look-ups one sample is the mean of.
const BATCH: usize = 5_000;

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
    async fn set() -> Self {
        let scope = Scope::new("bench");
        let registry = Registry::new(&scope);
        let mut order: Vec<usize> = (0..NAMES).collect();
        fastrand::Rng::with_seed(7).shuffle(&mut order);
        let texts: Vec<_> = (0..NAMES)
            .map(|number| ("worker".to_owned(), format!("service-{number}")))
            .collect();
        let name =
            |(kind, service): &(String, String)| Name::of_kind(kind.clone(), service.clone());
        let names: Vec<Name<()>> = texts.iter().map(name).collect();
        let specs = (0..NAMES).map(|number| {
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
            let name = format!("bench:{kind}:{service}");
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
        let name = format!("bench:{kind}:{service}");
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("it needs no thread");
    let stage = runtime.block_on(Stage::set());
    let result = if env::args().skip(1).all(|argument| argument == "--bench") {
        compare(&stage, &runtime)
    } else {
        regression(&stage);
        Ok(())
    };
    runtime.block_on(stage.strike());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(stage: &Stage, runtime: &tokio::runtime::Runtime) -> io::Result<()> {
    let quick = env::var_os("PERENNIAL_BENCH_QUICK").is_some();
    let rounds = if quick { 20 } else { 400 };
    let mut figures = Vec::new();
    for (case, threads) in [("look-up", 1), ("look-up on two threads", 2)] {
        let mut samples = vec![Vec::new(); CONTENDERS.len()];
        for round in 0..rounds {
            for (samples, (_, find)) in samples.iter_mut().zip(CONTENDERS) {
                let begin = round * 97;
                samples.push(picoseconds(on_threads(threads, |at| {
                    let begin = begin + at * (NAMES / 2);
                    for step in 0..BATCH {
                        find(stage, stage.order[(begin + step) % NAMES]);
                    }
                })));
            }
        }
        let named = CONTENDERS.iter().zip(samples);
        figures.extend(named.map(|((contender, _), it)| Figure::of(case, contender, NAMES, it)));
    }
    let group = stage.registry.group(&GROUP).expect("it takes this type");
    let address = &stage.addresses[0];
    let mut samples = vec![Vec::new(); ROUTES.len() + 1];
    for _ in 0..rounds {
        let sends = ROUTES
            .map(|(_, route)| Some(route))
            .into_iter()
            .chain([None]);
        for (samples, route) in samples.iter_mut().zip(sends) {
            samples.push(picoseconds(on_threads(1, |_| {
                for _ in 0..BATCH {
                    let sent = match route {
                        Some(route) => group.cast(route, ()),
                        None => address.cast(()),
                    };
                    drop(black_box(sent));
                }
            })));
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
            p50,
            p99,
            ..
        } = figure;
        eprintln!("{case:26} {contender:28} p50 {p50:>8} ps  p99 {p99:>8} ps");
    }
    if quick {
        return Ok(());
    }
    figures::save("names", &figures)
}

/// Runs `work` on so many threads at once, and returns how long the slowest took.
fn on_threads(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    if threads == 1 {
        let begin = Instant::now();
        work(0);
        return begin.elapsed();
    }
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|at| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
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
    let mut criterion = Criterion::default().configure_from_args();
    for (name, find) in &CONTENDERS[..2] {
        let mut index = 0;
        criterion.bench_function(&format!("resolve/{name}"), |bench| {
            bench.iter(|| {
                index = (index + 1) % NAMES;
                find(stage, stage.order[index]);
            });
        });
    }
    criterion.final_summary();
}
