//! `perennial run`: the tree, its configured host actors, and nothing else until a signal comes.

mod actors;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial::{ANALYZER, AnalyzerWorker, Node, PoolConfig, Settings, ShutdownReport, Tree};
use serde::Deserialize;
use tokio::time::sleep;

use crate::args::RunArgs;
use crate::say::{chain, complain};
use crate::signals::Stops;
pub use actors::{ActorId, ActorSettings};

/// The `[host]` section of the reference host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HostSettings {
    /// The host's actors by name.
    pub actors: BTreeMap<ActorId, ActorSettings>,
}

/// Runs the command and returns the exit code.
pub async fn main(args: RunArgs) -> ExitCode {
    let settings = match &args.config {
        Some(file) => Settings::<HostSettings>::load(file),
        None => Ok(Settings::default()),
    };
    let (settings, host) = match settings {
        Ok(settings) => settings.split(),
        Err(errors) => {
            complain(errors);
            return ExitCode::FAILURE;
        }
    };
    // Before the tree: a signal that comes while it starts ends the start, in order, too.
    let mut stops = match Stops::listen() {
        Ok(stops) => stops,
        Err(error) => {
            complain(format_args!(
                "perennial: cannot listen for signals: {error}"
            ));
            return ExitCode::FAILURE;
        }
    };
    let shutdown_deadline = settings.supervision.shutdown_deadline;
    let begun = Arc::new(OnceLock::new());
    tracing::info!("starting; stop with SIGINT or SIGTERM");
    // Dropped with this statement: a start that was given up goes no further.
    let started = tokio::select! {
        started = start(settings, host, &begun) => Some(started),
        _ = stops.asked() => None,
    };
    let tree = match started {
        Some(Ok(tree)) => tree,
        Some(Err(error)) => {
            complain(format_args!(
                "perennial: the tree did not start: {}",
                chain(&error)
            ));
            return ExitCode::FAILURE;
        }
        None => return end_of_start(begun.get(), shutdown_deadline, &mut stops).await,
    };
    tracing::info!("running; stop with SIGINT or SIGTERM");
    tokio::select! {
        _ = stops.asked() => {}
        _ = tree.ended() => {}
    }
    let report = tokio::select! {
        report = tree.shutdown() => report,
        // Again: whoever sends it does not want to wait for the drain.
        _ = stops.asked() => tree.shutdown_within(Duration::ZERO).await,
    };
    if report.is_clean() {
        tracing::info!("{report}");
    } else {
        complain(format_args!("perennial: {report}"));
    }
    report.exit_code()
}

/// Waits for the end of what a start had started that a signal ended.
async fn end_of_start(begun: Option<&Tree>, deadline: Duration, stops: &mut Stops) -> ExitCode {
    let mut report = ShutdownReport::default();
    let Some(tree) = begun else {
        return report.exit_code();
    };
    let how = tokio::select! {
        () = all_ended(tree.root().node()) => return report.exit_code(),
        () = sleep(deadline) => "did not stop in time",
        _ = stops.asked() => "had no time to stop",
    };
    complain(format_args!(
        "perennial: cut off by the shutdown: what had started {how}"
    ));
    // It ends after all others; now it does with the process.
    report.killed.push(tree.root().path().clone());
    report.exit_code()
}

/// Waits until nothing runs at a place and below it.
async fn all_ended(root: &Arc<Node>) {
    let mut open = vec![Arc::clone(root)];
    while let Some(node) = open.pop() {
        if let Some(run) = node.current() {
            run.ended().await;
        }
        open.extend(node.children());
    }
}

/// Starts the tree, and enters it as soon as it begins.
async fn start(
    settings: Settings<()>,
    host: HostSettings,
    begun: &Arc<OnceLock<Tree>>,
) -> Result<Tree, perennial::StartTreeError> {
    let begun = Arc::clone(begun);
    let mut builder = Tree::builder("perennial")
        .settings(settings)
        .pool(
            ANALYZER,
            AnalyzerWorker::new(),
            PoolConfig::new(1).max_overflow(1),
        )
        .child_with(move |tree| {
            begun.get_or_init(|| tree.clone());
            crate::analyze::actor::child_spec(tree)
        });
    for (name, actor) in host.actors {
        builder = builder.child_with(move |tree| actor.child_spec(name.as_str(), tree));
    }
    builder.start().await
}
