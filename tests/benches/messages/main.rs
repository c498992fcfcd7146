//! What a message costs, one way and with a reply, beside the same on bare ractor.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench messages
//! cargo run --release -p perennial-tests --bin performance_page
//! ```
//!
//! The contenders take turns in one process, in an order that changes; a turn is a fixed number of messages, and a
//! sample is the time of a turn by the number of its messages, handling included. Casts go out in batches, and the
//! last of a batch has a reply port, so that its sender hears when all were handled; calls go out one after the other.
//! `PERENNIAL_BENCH_QUICK=1` makes fewer and smaller turns and keeps nothing.
//!
//! Everybody sends the same messages to the same actor: the bare one is spawned by itself, ours is supervised in a
//! tree. Our calls have a deadline always, ractor's only in "with timeout".
//!
//! Not to be run with the feature `ractor-supervisor`: that crate switches on ractor's span propagation, which costs
//! everybody about 100 ns a message and makes the ratios look better than they are.

use std::env;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use perennial_tests::figures::{self, Figure};
use perennial_tests::runtime;
use tokio::time::Instant;

mod bare;
mod counter;
mod ours;

use crate::counter::Message;

/// Asks for fewer and smaller turns.
const QUICK: &str = "PERENNIAL_BENCH_QUICK";
/// Of a call, where it has one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody who takes part.
trait Contender: Send + Sync + 'static {
    const NAME: &'static str;

    fn start() -> impl Future<Output = Self> + Send;

    fn cast(&self, message: Message);

    /// Asks for the count of messages.
    fn call(&self) -> impl Future<Output = u64> + Send;
}

/// What is done in a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Sends so many messages, and waits until all are handled.
    Cast(u64),
    Call,
}

impl Work {
    const ALL: [Self; 3] = [Self::Cast(100), Self::Cast(1_000), Self::Call];

    fn name(self) -> &'static str {
        match self {
            Self::Cast(_) => "cast",
            Self::Call => "call",
        }
    }

    /// How many messages go out at a time.
    fn batch(self) -> u64 {
        match self {
            Self::Cast(batch) => batch,
            Self::Call => 1,
        }
    }

    /// Sends so many messages and returns how long that took.
    async fn turn<C: Contender>(self, contender: &C, messages: u64) -> Duration {
        let begin = Instant::now();
        match self {
            Self::Cast(batch) => {
                for _ in 0..messages / batch {
                    for _ in 1..batch {
                        contender.cast(Message::Count);
                    }
                    let (last, handled) = tokio::sync::oneshot::channel();
                    contender.cast(Message::Total(last.into()));
                    std::hint::black_box(handled.await.expect("the actor lives"));
                }
            }
            Self::Call => {
                for _ in 0..messages {
                    std::hint::black_box(contender.call().await);
                }
            }
        }
        begin.elapsed()
    }
}

/// One turn of so many messages.
type Turn<'a> = Box<dyn Fn(u64) -> BoxFuture<'a, Duration> + Send + Sync + 'a>;

struct Entrant<'a> {
    name: &'static str,
    turn: Turn<'a>,
    samples: Vec<u64>,
}

impl<'a> Entrant<'a> {
    fn new<C: Contender>(contender: &'a C, work: Work) -> Self {
        Self {
            name: C::NAME,
            turn: Box::new(move |messages| Box::pin(work.turn(contender, messages))),
            samples: Vec::new(),
        }
    }
}

fn main() -> io::Result<()> {
    let quick = env::var_os(QUICK).is_some();
    let (rounds, messages) = if quick { (7, 5_000) } else { (201, 10_000) };
    let mut all = Vec::new();
    for (threads, runtime_name) in [(0, "current_thread"), (2, "two workers")] {
        for work in Work::ALL {
            let case = format!("{}, {runtime_name}", work.name());
            let figures = runtime(threads).block_on(async move {
                let driver = compare(work, case, messages, rounds);
                tokio::spawn(driver).await.expect("it does not panic")
            });
            print(&figures);
            all.extend(figures);
        }
    }
    if quick {
        return Ok(());
    }
    figures::save("messages", &all)
}

async fn compare(work: Work, case: String, messages: u64, rounds: usize) -> Vec<Figure> {
    let bare = bare::Actor::start().await;
    let with_timeout = bare::WithTimeout::start().await;
    let address = ours::Held::start().await;
    let mailed = ours::Mailed::start().await;
    let name = ours::Named::start().await;
    let mut entrants = vec![
        Entrant::new(&bare, work),
        Entrant::new(&address, work),
        Entrant::new(&mailed, work),
        Entrant::new(&name, work),
    ];
    if work == Work::Call {
        entrants.push(Entrant::new(&with_timeout, work));
    }
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..=rounds {
        random.shuffle(&mut entrants);
        for entrant in &mut entrants {
            let took = (entrant.turn)(messages).await;
            // The first round only warms up.
            if round > 0 {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                entrant.samples.push(nanos / messages);
            }
        }
    }
    entrants.sort_by_key(|it| it.name);
    let batch = usize::try_from(work.batch()).unwrap_or(usize::MAX);
    let figure = |it: Entrant<'_>| Figure::of(&case, it.name, batch, it.samples);
    entrants.into_iter().map(figure).collect()
}

fn print(figures: &[Figure]) {
    for figure in figures {
        eprintln!(
            "{:22} {:>5} at a time  {:24} p50 {:>6} ns  p99 {:>6} ns",
            figure.case, figure.children, figure.contender, figure.p50, figure.p99
        );
    }
}
