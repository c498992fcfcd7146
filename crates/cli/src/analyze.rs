//! `perennial analyze`: the main job.

pub mod actor;
mod chaos;
mod pipeline;
mod render;
pub mod report;
pub mod source;
pub mod store;

use std::fmt;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use perennial::{
    ANALYZER, AnalyzerWorker, BreakerConfig, DATABASE, DatabaseWorker, ExitReason, OpenTime,
    PoolConfig, Quota, Settings, SettingsErrors, StartTreeError, Tree,
};
use tokio::time::Instant;

use crate::args::AnalyzeArgs;
use crate::run::HostSettings;
use crate::say::{chain, complain};
pub use crate::signals::Signal;
use crate::signals::Stops;
use pipeline::Options;
pub use pipeline::{Counts, StoreFailed};
use report::Report;
use source::BadPath;

/// Exit code: some files failed.
const SOME_FAILED: u8 = 2;

/// Restarts that chaos may cause before a supervisor gives up, within ten seconds.
const CHAOS_RESTARTS: u32 = 10_000;

/// Why nothing could be analyzed.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    /// A path is not there.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The database cannot be written.
    #[error("cannot write the database {}: {source}", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The settings are bad.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// The tree did not start.
    #[error("the tree did not start: {}", chain(.0))]
    Tree(#[from] StartTreeError),
    /// The tree ended before all was analyzed.
    #[error("the tree gave up: {0}")]
    GaveUp(ExitReason),
    /// The database failed while it was used.
    #[error("{}: {source}", file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: StoreFailed,
    },
}

/// Runs the command and returns the exit code.
pub async fn main(args: AnalyzeArgs) -> ExitCode {
    let (json, with_tree) = (args.json, args.tree);
    match run(args).await {
        Ok(report) => {
            let text = if json {
                format!("{}\n", report.to_json(with_tree))
            } else if with_tree {
                format!(
                    "{}\n{}\n",
                    render::tables(&report),
                    report.snapshot.render()
                )
            } else {
                render::tables(&report)
            };
            if let Err(error) = print(&text) {
                complain(format_args!(
                    "perennial: the report cannot be printed: {error}"
                ));
                ExitCode::FAILURE
            } else if let Some(signal) = report.interrupted {
                ExitCode::from(signal.exit_code())
            } else if report.failures.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(SOME_FAILED)
            }
        }
        Err(error) => {
            complain(format_args!("perennial: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed the other end has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Starts the tree, analyzes what the arguments name, and stops the tree.
///
/// # Errors
///
/// [`AnalyzeError`] when nothing could be analyzed.
pub async fn run(args: AnalyzeArgs) -> Result<Report, AnalyzeError> {
    run_with(args, AnalyzerWorker::new()).await
}

/// Does what [`run`] does with analyzers of the caller's.
///
/// # Errors
///
/// [`AnalyzeError`] when nothing could be analyzed.
pub async fn run_with(args: AnalyzeArgs, analyzer: AnalyzerWorker) -> Result<Report, AnalyzeError> {
    let began = Instant::now();
    let settings = match &args.config {
        Some(file) => Settings::<HostSettings>::load(file)?.split().0,
        None => Settings::default(),
    };
    let paths = args.paths.clone();
    let found = tokio::task::spawn_blocking(move || source::find(&paths));
    let found = Arc::new(found.await.expect("the walk does not panic")?);
    store::check_writable(&args.db).map_err(|source| AnalyzeError::Database {
        file: args.db.clone(),
        source,
    })?;
    let workers = args.workers.map_or_else(cores, usize::from);
    let tree = start_tree(&args, settings, analyzer, workers).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::new(OnceLock::new());
    let interrupt = match Stops::listen() {
        Ok(stops) => {
            let interrupt = interrupt(stops, Arc::clone(&interrupted), Arc::clone(&stop));
            tokio::spawn(interrupt)
        }
        // A signal ends the process, as it does without us.
        Err(_) => tokio::spawn(std::future::ready(())),
    };
    let kills = Arc::new(AtomicU64::new(0));
    let chaos = args
        .chaos
        .map(|seed| tokio::spawn(chaos::run(tree.clone(), seed, Arc::clone(&kills))));
    let options = Options {
        max_bytes: args.max_bytes,
        in_flight: actor::in_flight(workers),
    };
    let bar = progress_bar(found.files.len() as u64, args.quiet);
    let failed = |source| AnalyzeError::Store {
        file: args.db.clone(),
        source,
    };
    let worked = async {
        let worked = work(&tree, &found, options, &stop, &bar).await;
        worked.map_err(failed)
    };
    let worked = until_it_gives_up(&tree, worked).await;
    bar.finish_and_clear();
    if let Some(chaos) = chaos {
        chaos.abort();
        // Only its end matters: no kill may hit the tree while it is looked at.
        drop(chaos.await);
    }
    let outcome = match worked {
        Ok((counts, removed)) => {
            let summary =
                summarize(&tree, &found, counts, removed, interrupted.get().copied()).await;
            summary.map_err(failed)
        }
        Err(error) => Err(error),
    };
    let report = outcome.map(|report| Report {
        elapsed: began.elapsed(),
        kills: kills.load(Relaxed),
        ..report
    });
    tree.shutdown().await;
    // Until here a second signal ends the process, whatever it is at: no other does any more.
    interrupt.abort();
    report
}

/// Does some work in a tree, unless that gives up before: then every file would be tried until its patience is over.
async fn until_it_gives_up<T>(
    tree: &Tree,
    work: impl Future<Output = Result<T, AnalyzeError>>,
) -> Result<T, AnalyzeError> {
    tokio::select! {
        biased;
        Some(reason) = tree.ended() => Err(AnalyzeError::GaveUp(reason)),
        worked = work => worked,
    }
}

async fn start_tree(
    args: &AnalyzeArgs,
    mut settings: Settings<()>,
    analyzer: AnalyzerWorker,
    workers: usize,
) -> Result<Tree, AnalyzeError> {
    // The command line goes before the file.
    if args.workers.is_some() {
        settings.pools.remove(ANALYZER.as_str());
    }
    if args.rate.is_some() {
        settings
            .quotas
            .remove(actor::ANALYSIS.as_actor_name().service());
    }
    if args.chaos.is_some() {
        settings.supervision.max_restarts = CHAOS_RESTARTS;
    }
    // A file is tried again soon: a circuit that opens is a pause, not the end of the run.
    let breaker = BreakerConfig::builder()
        .open_time(OpenTime::Constant(Duration::from_millis(100)))
        .build()
        .expect("checked values");
    let mut builder = Tree::builder("perennial")
        .settings(settings)
        .pool(
            DATABASE,
            DatabaseWorker::sqlite(&args.db),
            PoolConfig::new(1).max_overflow(1),
        )
        .pool(
            ANALYZER,
            analyzer,
            PoolConfig::new(workers).wait_timeout(actor::DEADLINE),
        )
        .breaker(DATABASE.as_str(), breaker.clone())
        .breaker(ANALYZER.as_str(), breaker)
        .depends_on("analysis", ANALYZER.as_str())
        .child_with(actor::child_spec);
    if let Some(rate) = args.rate {
        // One file at a time: a burst would make the first second twice as fast.
        builder = builder.quota(&actor::ANALYSIS, Quota::per_second(rate).burst(1));
    }
    Ok(builder.start().await?)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Sets `stop` at the first signal, and says by which; the second one ends the process.
async fn interrupt(mut stops: Stops, by: Arc<OnceLock<Signal>>, stop: Arc<AtomicBool>) {
    let first = stops.asked().await;
    by.get_or_init(|| first);
    // Whoever sees this sees by which.
    stop.store(true, Release);
    complain(
        "perennial: stopping; press Ctrl-C again, or send another signal, to give up what is in flight",
    );
    let again = stops.asked().await;
    std::process::exit(i32::from(again.exit_code()));
}

fn progress_bar(files: u64, quiet: bool) -> ProgressBar {
    let target = if quiet || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let style = ProgressStyle::with_template(
        "{bar:30} {pos}/{len} files  {rate}  {elapsed_precise}, {eta} left",
    )
    .expect("every run makes it, so a bad one fails every test")
    .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
        // Writing to a string does not fail.
        write!(out, "{:.0} files/s", state.per_sec()).unwrap_or_default();
    });
    ProgressBar::with_draw_target(Some(files), target).with_style(style)
}

async fn work(
    tree: &Tree,
    found: &Arc<source::Found>,
    options: Options,
    stop: &Arc<AtomicBool>,
    bar: &ProgressBar,
) -> Result<(Counts, usize), StoreFailed> {
    let known = pipeline::in_database(tree, |transaction| {
        store::prepare(transaction)?;
        store::known(transaction)
    })
    .await?;
    let counts = pipeline::run(tree, Arc::clone(found), known, options, Arc::clone(stop), {
        let bar = bar.clone();
        move || bar.inc(1)
    })
    .await?;
    if stop.load(Acquire) {
        return Ok((counts, 0));
    }
    let found = Arc::clone(found);
    let removed = pipeline::in_database(tree, move |transaction| {
        store::remove_gone(transaction, &found, &source::names(&found.files))
    })
    .await?;
    Ok((counts, removed))
}

/// Brings the analysis of some paths in a running tree's database up to date; `missing` is told of those that are not there,
/// each of which counts as failed.
///
/// # Errors
///
/// [`StoreFailed`] when the database cannot be used.
pub async fn refresh(
    tree: &Tree,
    paths: Vec<PathBuf>,
    max_bytes: u64,
    stop: Arc<AtomicBool>,
    missing: impl Fn(&BadPath),
) -> Result<Counts, StoreFailed> {
    let walk = tokio::task::spawn_blocking(move || {
        let mut found = source::Found::default();
        let walked = paths.iter().map(|path| found.walk(path));
        let absent: Vec<_> = walked.filter_map(Result::err).collect();
        (Arc::new(found), absent)
    });
    let (found, absent) = walk.await.expect("the walk does not panic");
    absent.iter().for_each(missing);
    let options = Options {
        max_bytes,
        in_flight: actor::in_flight(1),
    };
    let (mut counts, _removed) = work(tree, &found, options, &stop, &ProgressBar::hidden()).await?;
    counts.failed += absent.len() as u64;
    Ok(counts)
}

async fn summarize(
    tree: &Tree,
    found: &Arc<source::Found>,
    counts: Counts,
    removed: usize,
    interrupted: Option<Signal>,
) -> Result<Report, StoreFailed> {
    let totals = {
        let found = Arc::clone(found);
        pipeline::in_database(tree, move |transaction| store::totals(transaction, &found)).await?
    };
    let refused = tree
        .rate_gate()
        .scopes()
        .iter()
        .map(|it| it.refused)
        .sum::<u64>()
        + tree
            .breakers()
            .status()
            .iter()
            .map(|it| it.refused)
            .sum::<u64>();
    let snapshot = tree
        .debug()
        .snapshot()
        .await
        .map_err(|error| StoreFailed::new(error.to_string()))?;
    Ok(Report {
        directory: std::env::current_dir().unwrap_or_default(),
        found: found.files.len() as u64,
        counts,
        removed: removed as u64,
        totals: totals.languages,
        most_complex: totals.most_complex,
        failures: totals.failures,
        interrupted,
        refused,
        restarts: snapshot.totals.restarts,
        pools: tree.pools(),
        snapshot,
        kills: 0,
        elapsed: Duration::ZERO,
    })
}

/// Shortens a path below the current directory, for people.
fn shorten<'a>(path: &'a str, directory: &Path) -> &'a str {
    Path::new(path)
        .strip_prefix(directory)
        .ok()
        .and_then(Path::to_str)
        .filter(|it| !it.is_empty())
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use clap::Parser as _;
    use perennial::workers::analysis::Analyzer;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_is_under_way_ends_with_a_tree_that_gives_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.rs");
        std::fs::write(&file, "fn main() {}").unwrap();
        let mut args = AnalyzeArgs::parse_from([PathBuf::from("analyze"), file]);
        args.db = dir.path().join("a.db");
        // Its only file stays with the analyzer.
        let (go_on, held) = mpsc::channel::<()>();
        let (held, begun) = (Mutex::new(held), Arc::new(Notify::new()));
        let begin = Arc::clone(&begun);
        let analyzer = AnalyzerWorker::with(move |language, source| {
            begin.notify_one();
            held.lock().unwrap().recv().unwrap_err();
            Analyzer::new().analyze(language, source)
        });
        let mut settings = Settings::default();
        settings.supervision.max_restarts = 0;
        let tree = start_tree(&args, settings, analyzer, 1).await.unwrap();

        let found = Arc::new(source::find(&args.paths).unwrap());
        let options = Options {
            max_bytes: args.max_bytes,
            in_flight: 1,
        };
        let (stop, bar) = (Arc::default(), ProgressBar::hidden());
        let work = async { Ok(work(&tree, &found, options, &stop, &bar).await.unwrap()) };
        let end = async {
            begun.notified().await;
            tree.host().kill();
        };
        let (worked, ()) = tokio::join!(until_it_gives_up(&tree, work), end);
        assert!(matches!(worked, Err(AnalyzeError::GaveUp(_))), "{worked:?}");
        drop(go_on);
        tree.shutdown().await;
    }
}
