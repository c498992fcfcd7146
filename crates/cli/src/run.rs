//! `perennial run`: the tree, its configured host actors, and nothing else until a signal comes.

mod actors;

use std::collections::BTreeMap;
use std::time::Duration;

use perennial::{ANALYZER, AnalyzerWorker, PoolConfig, Settings, Tree};
use serde::Deserialize;

use crate::args::RunArgs;
use crate::signals::{self, Interrupts, Terminations};
pub use actors::ActorSettings;

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
    pub actors: BTreeMap<String, ActorSettings>,
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
            eprintln!("{errors}");
            return COULD_NOT_RUN;
        }
    };
    // Before the tree: a signal that comes while it starts stops it in order, too.
    let (mut interrupts, mut terminations) = match listen() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("perennial: cannot listen for signals: {error}");
            return COULD_NOT_RUN;
        }
    };
    let tree = match start(settings, host).await {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("perennial: the tree did not start: {error}");
            return COULD_NOT_RUN;
        }
    };
    tracing::info!("running; stop with SIGINT or SIGTERM");
    tokio::select! {
        _ = interrupts.recv() => tracing::info!("SIGINT: stopping"),
        _ = terminations.recv() => tracing::info!("SIGTERM: stopping"),
        reason = tree.ended() => {
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            eprintln!("perennial: the tree gave up{reason}");
            return COULD_NOT_RUN;
        }
    }
    let report = tokio::select! {
        report = tree.shutdown() => report,
        // Again: whoever sends it does not want to wait for the drain.
        Some(()) = interrupts.recv() => tree.shutdown_within(Duration::ZERO).await,
        Some(()) = terminations.recv() => tree.shutdown_within(Duration::ZERO).await,
    };
    if report.is_clean() {
        return STOPPED;
    }
    eprintln!("perennial: {report}");
    CUT_OFF
}

async fn start(
    settings: Settings<()>,
    host: HostSettings,
) -> Result<Tree, perennial::StartTreeError> {
    let mut builder = Tree::builder("perennial")
        .settings(settings)
        .pool(
            ANALYZER,
            AnalyzerWorker::new(),
            PoolConfig::new(1).max_overflow(1),
        )
        .child_with(crate::analyze::actor::child_spec);
    for (name, actor) in host.actors {
        builder = builder.child_with(move |tree| actor.child_spec(&name, tree));
    }
    builder.start().await
}

fn listen() -> std::io::Result<(Interrupts, Terminations)> {
    Ok((signals::interrupts()?, signals::terminations()?))
}
