//! `perennial run`: the tree, its configured host actors, and nothing else until a signal comes.

mod actors;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial::{ANALYZER, AnalyzerWorker, Node, PoolConfig, Settings, Tree};
use serde::Deserialize;
use tokio::time::sleep;

use crate::args::RunArgs;
use crate::say::{chain, complain};
use crate::signals::Stops;
pub use actors::{ActorId, ActorSettings};

/// Exit code: stopped in order.
const STOPPED: u8 = 0;
/// Exit code: could not run, or the tree gave up.
const COULD_NOT_RUN: u8 = 1;
/// Exit code: something was cut off at the end, a message or an actor.
const CUT_OFF: u8 = 3;

/// The `[host]` section of the reference host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HostSettings {
    /// The host's actors by name.
    pub actors: BTreeMap<ActorId, ActorSettings>,
}

/// Runs the command and returns the exit code.
pub async fn main(args: RunArgs) -> u8 {
    let settings = match &args.config {
        Some(file) => Settings::<HostSettings>::load(file),
        None => Ok(Settings::default()),
    };
    let (settings, host) = match settings {
        Ok(settings) => settings.split(),
        Err(errors) => {
            complain(errors);
            return COULD_NOT_RUN;
        }
    };
    // Before the tree: a signal that comes while it starts ends the start, in order, too.
    let mut stops = match Stops::listen() {
        Ok(stops) => stops,
        Err(error) => {
            complain(format_args!(
                "perennial: cannot listen for signals: {error}"
            ));
            return COULD_NOT_RUN;
        }
    };
    let shutdown_deadline = settings.supervision.shutdown_deadline;
    let begun = Arc::new(OnceLock::new());
    tracing::info!("starting; stop with SIGINT or SIGTERM");
    // Dropped with this statement: a start that was given up goes no further.
    let started = tokio::select! {
        started = start(settings, host, &begun) => Some(started),
        () = stops.asked() => None,
    };
    let tree = match started {
        Some(Ok(tree)) => tree,
        Some(Err(error)) => {
            complain(format_args!(
                "perennial: the tree did not start: {}",
                chain(&error)
            ));
            return COULD_NOT_RUN;
        }
        None => {
            let ended = async {
                if let Some(tree) = begun.get() {
                    all_ended(tree.root().node()).await;
                }
            };
            return tokio::select! {
                () = ended => STOPPED,
                () = sleep(shutdown_deadline) => cut_off_in_start("did not stop in time"),
                () = stops.asked() => cut_off_in_start("had no time to stop"),
            };
        }
    };
    tracing::info!("running; stop with SIGINT or SIGTERM");
    tokio::select! {
        () = stops.asked() => {}
        reason = tree.ended() => {
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            complain(format_args!("perennial: the tree gave up{reason}"));
            return COULD_NOT_RUN;
        }
    }
    let report = tokio::select! {
        report = tree.shutdown() => report,
        // Again: whoever sends it does not want to wait for the drain.
        () = stops.asked() => tree.shutdown_within(Duration::ZERO).await,
    };
    if report.is_clean() {
        tracing::info!("{report}");
        return STOPPED;
    }
    complain(format_args!("perennial: {report}"));
    // Before the signal came, or while it was drained.
    if report.gave_up.is_some() {
        return COULD_NOT_RUN;
    }
    CUT_OFF
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

fn cut_off_in_start(how: &str) -> u8 {
    complain(format_args!(
        "perennial: cut off by the shutdown: what had started {how}"
    ));
    CUT_OFF
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
