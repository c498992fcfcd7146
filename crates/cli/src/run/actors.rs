//! The actors that the reference host can be configured to run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perennial::{ActorPath, ChildSpec, Tree};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::analyze::{self, source::BadPath};

/// Files larger than this are reported as failed unless the file says otherwise.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// How often an actor may do its work: more often would leave no time for anything else.
const SHORTEST: Duration = Duration::from_millis(100);

/// The name of a configured host actor, which is also its id in the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ActorId(String);

impl ActorId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ActorId {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name.is_empty() || name.contains('/') {
            Err("the name of an actor must not be empty or contain `/`")
        } else if name == analyze::actor::ANALYSIS.as_actor_name().service() {
            Err("the host has an actor of this name already")
        } else {
            Ok(Self(name))
        }
    }
}

/// One configured host actor.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Section")]
#[non_exhaustive]
pub enum ActorSettings {
    /// Logs a summary of the tree.
    Report {
        /// How often.
        every: Duration,
    },
    /// Keeps the analysis of some paths in the tree's database up to date.
    Analyze {
        /// Files and directories.
        paths: Vec<PathBuf>,
        /// How often they are looked at.
        every: Duration,
        /// Larger files are reported as failed.
        max_bytes: u64,
    },
}

/// What a file says of an actor. An enum tagged with `kind` would lose the place of each key, and errors
/// could not name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    kind: Kind,
    #[serde(with = "humantime_serde")]
    every: Duration,
    paths: Option<Vec<PathBuf>>,
    max_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Report,
    Analyze,
}

impl TryFrom<Section> for ActorSettings {
    type Error = &'static str;

    fn try_from(section: Section) -> Result<Self, Self::Error> {
        let Section {
            kind,
            every,
            paths,
            max_bytes,
        } = section;
        if every < SHORTEST {
            return Err("`every` must be at least 100ms");
        }
        match (kind, paths, max_bytes) {
            (Kind::Report, None, None) => Ok(Self::Report { every }),
            (Kind::Report, ..) => Err("`paths` and `max_bytes` are for the kind `analyze`"),
            (Kind::Analyze, Some(paths), max_bytes) => Ok(Self::Analyze {
                paths,
                every,
                max_bytes: max_bytes.unwrap_or(MAX_BYTES),
            }),
            (Kind::Analyze, None, _) => Err("missing field `paths`"),
        }
    }
}

impl ActorSettings {
    /// Describes the actor.
    pub fn child_spec(self, name: &str, tree: &Tree) -> ChildSpec {
        let job = Job {
            place: tree.host().path().child(name),
            settings: self,
            tree: tree.clone(),
        };
        ChildSpec::worker(name, move || (Periodic, job.clone()))
    }

    fn every(&self) -> Duration {
        match self {
            Self::Report { every } | Self::Analyze { every, .. } => *every,
        }
    }
}

/// Does its work at every tick, in a task of its own; a tick that comes while it works is left out.
struct Periodic;

struct Tick;

/// What an actor does, over and over.
#[derive(Clone)]
struct Job {
    place: ActorPath,
    settings: ActorSettings,
    tree: Tree,
}

struct State {
    job: Job,
    work: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    ticks: JoinHandle<()>,
}

impl Actor for Periodic {
    type Msg = Tick;
    type State = State;
    type Arguments = Job;

    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        job: Job,
    ) -> Result<State, ActorProcessingErr> {
        myself.send_message(Tick)?;
        let ticks = myself.send_interval(job.settings.every(), || Tick);
        Ok(State {
            ticks,
            job,
            work: None,
            stop: Arc::default(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Tick>,
        Tick: Tick,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if state.work.as_ref().is_none_or(JoinHandle::is_finished) {
            let work = work(state.job.clone(), Arc::clone(&state.stop));
            state.work = Some(tokio::spawn(work));
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Tick>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.stop.store(true, Relaxed);
        if let Some(work) = state.work.take() {
            work.await?;
        }
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A kill leaves no time to wait, but nothing new is begun.
        self.stop.store(true, Relaxed);
        // ractor's timer would outlive the actor by one tick.
        self.ticks.abort();
    }
}

async fn work(job: Job, stop: Arc<AtomicBool>) {
    let Job {
        place,
        settings,
        tree,
    } = job;
    match settings {
        ActorSettings::Report { .. } => match tree.debug().snapshot().await {
            Ok(snapshot) => {
                tracing::info!(actor.name = %place, "{}", snapshot.summary());
            }
            Err(error) => tracing::warn!(actor.name = %place, "no snapshot: {error}"),
        },
        ActorSettings::Analyze {
            paths, max_bytes, ..
        } => {
            let missing =
                |path: &BadPath| tracing::warn!(actor.name = %place, "not analyzed: {path}");
            match analyze::refresh(&tree, paths, max_bytes, stop, missing).await {
                Ok(counts) => tracing::info!(
                    analyzed = counts.analyzed,
                    unchanged = counts.unchanged,
                    failed = counts.failed,
                    actor.name = %place,
                    "analysis is up to date"
                ),
                Err(error) => tracing::warn!(actor.name = %place, "analysis failed: {error}"),
            }
        }
    }
}
