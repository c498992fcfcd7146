//! The passes: what is measured, how often, and who takes part.

use std::time::Duration;

use futures_util::future::BoxFuture;
use perennial::lifecycle::install_panic_hook;
use perennial_tests::figures::Figure;
use perennial_tests::runtime;
use tokio::time::Instant;

use crate::fleet::{Contender, End, Fleet, Measured};
use crate::hand_written::HandWritten;
use crate::linked::Linked;

/// Nobody is waited for longer than this; who would start so many children more slowly takes no part.
const PATIENCE: Duration = Duration::from_secs(60);
/// A contender's turn: so many restarts in a row, as far as they fit into the time.
const TURN: usize = 50;
const TURN_LIMIT: Duration = Duration::from_millis(20);
/// Who takes longer than this to start and to stop is measured once.
const SLOW: Duration = Duration::from_secs(3);

/// What hears of a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Rust's own, which writes to stderr.
    Default,
    /// Perennial's, for all contenders: it writes nothing.
    Ours,
}

/// One kind of measurement, in a process of its own.
pub(crate) struct Pass {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    case: &'static str,
    /// Worker threads of the runtime; 0 for the one that runs on the calling thread.
    threads: usize,
    job: Job,
}

/// Which child is ended.
#[derive(Clone, Copy)]
enum Victim {
    /// Another one each time: among many it has left the processor's caches.
    Any,
    /// Always the same.
    Same,
}

enum Job {
    /// Among so many children.
    Restart(End, Victim, &'static [usize]),
    StartStop,
    Storm,
}

const ALL_SIZES: &[usize] = &[1, 1_000, 10_000, 100_000];

pub(crate) const PASSES: &[Pass] = &[
    Pass {
        name: "restart-error",
        hook: Hook::Ours,
        case: "restart after an error",
        threads: 0,
        job: Job::Restart(End::Error, Victim::Any, ALL_SIZES),
    },
    Pass {
        name: "restart-error-same-child",
        hook: Hook::Ours,
        case: "restart after an error, same child",
        threads: 0,
        job: Job::Restart(End::Error, Victim::Same, &[1, 100_000]),
    },
    Pass {
        name: "restart-panic",
        hook: Hook::Ours,
        case: "restart after a panic, silent hook",
        threads: 0,
        job: Job::Restart(End::Panic, Victim::Any, ALL_SIZES),
    },
    Pass {
        name: "restart-panic-default-hook",
        hook: Hook::Default,
        case: "restart after a panic, default hook",
        threads: 0,
        job: Job::Restart(End::Panic, Victim::Any, &[1, 10_000]),
    },
    Pass {
        name: "restart-error-two-threads",
        hook: Hook::Ours,
        case: "restart after an error, two threads",
        threads: 2,
        job: Job::Restart(End::Error, Victim::Any, &[1, 10_000]),
    },
    Pass {
        name: "start-stop",
        hook: Hook::Ours,
        case: "start",
        threads: 0,
        job: Job::StartStop,
    },
    Pass {
        name: "storm",
        hook: Hook::Ours,
        case: "storm",
        threads: 0,
        job: Job::Storm,
    },
];

impl Pass {
    pub(crate) fn run(&self, quick: bool) -> Vec<Figure> {
        if self.hook == Hook::Ours {
            install_panic_hook();
        }
        let case = self.case;
        let scale = if quick { 10 } else { 1 };
        match self.job {
            Job::Restart(end, victim, sizes) => {
                let sizes = if quick { &[1, 1_000] } else { sizes };
                let rounds = 400 / scale;
                run_on(self.threads, restart(case, end, victim, sizes, rounds))
            }
            Job::StartStop => run_on(self.threads, start_stop(100_000 / scale, 7)),
            Job::Storm => run_on(self.threads, storm(case, 10_000 / scale, 50 / scale)),
        }
    }
}

/// Runs a future as a task: what is spawned beside it is then its equal.
pub(crate) fn run_on<T: Send + 'static>(
    threads: usize,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime(threads).block_on(async { tokio::spawn(future).await.expect("it does not panic") })
}

/// A fleet that is up, and how long that took.
type Start = (Box<dyn Measured>, Duration);

/// Somebody who takes part, as long as he is not too slow.
struct Entrant {
    name: &'static str,
    start: fn(usize) -> BoxFuture<'static, Start>,
    last: Option<(usize, Duration)>,
}

impl Entrant {
    fn new<C: Contender>() -> Self {
        Self {
            name: C::NAME,
            start: |children| {
                Box::pin(async move {
                    let (fleet, took) = Fleet::<C>::start(children).await;
                    (Box::new(fleet) as Box<dyn Measured>, took)
                })
            },
            last: None,
        }
    }

    /// Says how long a start would take at worst: by the square of the number of children.
    fn expected(&self, children: usize) -> Duration {
        // The first few children tell nothing but what is made once.
        let last = self.last.filter(|(known, _)| *known >= 1_000);
        last.map_or(Duration::ZERO, |(known, took)| {
            let times = u32::try_from(children / known).unwrap_or(u32::MAX);
            took.saturating_mul(times).saturating_mul(times)
        })
    }

    async fn start(&mut self, children: usize) -> Option<Start> {
        let expected = self.expected(children);
        if expected > PATIENCE {
            eprintln!(
                "  {}: {children} children would take {expected:?}",
                self.name
            );
            return None;
        }
        let (fleet, took) = (self.start)(children).await;
        self.last = Some((children, took));
        Some((fleet, took))
    }
}

/// Whose figures they are.
#[cfg(not(feature = "ractor-supervisor"))]
pub(crate) const FIGURES: &str = "supervision";
#[cfg(feature = "ractor-supervisor")]
pub(crate) const FIGURES: &str = "ractor-supervisor";

#[cfg(not(feature = "ractor-supervisor"))]
fn supervisors() -> Vec<Entrant> {
    vec![
        Entrant::new::<crate::ours::Ours>(),
        Entrant::new::<HandWritten>(),
        Entrant::new::<crate::kameo::Kameo>(),
    ]
}

#[cfg(feature = "ractor-supervisor")]
fn supervisors() -> Vec<Entrant> {
    vec![
        Entrant::new::<HandWritten>(),
        Entrant::new::<crate::ractor_supervisor::RactorSupervisor>(),
    ]
}

/// A fleet and what was measured on it.
struct Subject {
    fleet: Box<dyn Measured>,
    samples: Vec<u64>,
}

async fn start_all(entrants: &mut [Entrant], children: usize) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for entrant in entrants {
        if let Some((fleet, _)) = entrant.start(children).await {
            let samples = Vec::new();
            subjects.push(Subject { fleet, samples });
        }
    }
    subjects
}

/// The fleets end with their runtime: some take a long time to stop in order.
fn evaluate(subjects: Vec<Subject>, case: &str, children: usize) -> Vec<Figure> {
    let figure = |it: Subject| Figure::of(case, it.fleet.name(), children, it.samples);
    subjects.into_iter().map(figure).collect()
}

/// Ends a child and waits until it is back.
async fn restart(
    case: &'static str,
    end: End,
    victim: Victim,
    sizes: &'static [usize],
    rounds: usize,
) -> Vec<Figure> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut entrants = supervisors();
    let mut figures = Vec::new();
    for &children in sizes {
        let mut subjects = start_all(&mut entrants, children).await;
        for round in 0..=rounds {
            random.shuffle(&mut subjects);
            for Subject { fleet, samples } in &mut subjects {
                let begin = Instant::now();
                for _ in 0..TURN {
                    let index = match victim {
                        Victim::Any => random.usize(0..children),
                        Victim::Same => children / 2,
                    };
                    let took = fleet.crash(index, end).await;
                    // The first round only warms up.
                    if round > 0 {
                        samples.push(nanoseconds(took));
                    }
                    if begin.elapsed() > TURN_LIMIT {
                        break;
                    }
                }
            }
        }
        figures.extend(evaluate(subjects, case, children));
    }
    figures
}

/// Ends every tenth child at once and waits until all are back.
async fn storm(case: &'static str, children: usize, rounds: usize) -> Vec<Figure> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut subjects = start_all(&mut supervisors(), children).await;
    let mut victims: Vec<usize> = (0..children).collect();
    for round in 0..=rounds {
        random.shuffle(&mut subjects);
        random.shuffle(&mut victims);
        for Subject { fleet, samples } in &mut subjects {
            let took = fleet.storm(&victims[..children / 10], End::Error).await;
            if round > 0 {
                samples.push(nanoseconds(took));
            }
        }
    }
    evaluate(subjects, case, children)
}

/// Starts a fleet and stops it again.
async fn start_stop(children: usize, rounds: usize) -> Vec<Figure> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut runs: Vec<(Entrant, Vec<u64>, Vec<u64>)> = supervisors()
        .into_iter()
        .chain([Entrant::new::<Linked>()])
        .map(|entrant| (entrant, Vec::new(), Vec::new()))
        .collect();
    for size in [children / 100, children / 10] {
        for (entrant, ..) in &mut runs {
            if let Some((fleet, _)) = entrant.start(size).await {
                fleet.stop().await;
            }
        }
    }
    for round in 0..rounds {
        random.shuffle(&mut runs);
        for (entrant, starts, stops) in &mut runs {
            let once: u64 = starts.first().into_iter().chain(stops.first()).sum();
            if round > 0 && once > nanoseconds(SLOW) {
                continue;
            }
            if let Some((fleet, took)) = entrant.start(children).await {
                starts.push(nanoseconds(took));
                stops.push(nanoseconds(fleet.stop().await));
            }
        }
    }
    let measured = runs.into_iter().filter(|(_, starts, _)| !starts.is_empty());
    measured
        .flat_map(|(entrant, starts, stops)| {
            [
                Figure::of("start", entrant.name, children, starts),
                Figure::of("stop", entrant.name, children, stops),
            ]
        })
        .collect()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
