//! The named actor that takes source files.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use perennial::workers::analysis::FileReport;
use perennial::{
    ANALYZER, AnalyzerWorker, ChildSpec, ExitReason, Guard, GuardError, Name, Pool, Tree,
    WorkerError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::source::SourceFile;

/// The analysis actor.
pub const ANALYSIS: Name<AnalysisMsg> = Name::new("analysis");

/// How long one chunk may take: the wait for an analyzer, and the analysis.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// The most files that an analyzer is given at once, and the most bytes of source.
///
/// A file takes some two milliseconds to parse; to hand it over and back takes a good part of one where
/// threads are slow to wake.
const CHUNK: usize = 32;
const CHUNK_BYTES: usize = 256 * 1024;

/// Returns how many files the actor can make use of at the same time.
#[must_use]
pub fn in_flight(workers: usize) -> usize {
    // Each analyzer has a chunk, one chunk waits, and one gathers.
    CHUNK * (workers + 2)
}

/// What the analysis actor takes.
#[derive(Debug)]
pub enum AnalysisMsg {
    /// Analyze one file.
    Analyze(SourceFile, Reply),
    /// A chunk is through; the actor is told by the task that had it.
    ChunkDone,
}

/// Where the report of one file goes.
pub type Reply = RpcReplyPort<Result<FileReport, NotAnalyzed>>;

/// Why a file has not been analyzed.
#[derive(Clone, Debug)]
pub enum NotAnalyzed {
    /// It cannot be: asking again would end the same way.
    Failed(String),
    /// Nothing is known against the file; it should be sent again.
    Again {
        /// Not before this time has passed.
        after: Option<Duration>,
        /// What came in the way.
        why: String,
    },
}

/// Describes the analysis actor, for a tree that has the analyzer pool.
pub fn child_spec(tree: &Tree) -> ChildSpec {
    let tree = tree.clone();
    ChildSpec::worker("analysis", move || (AnalysisActor, tree.clone()))
}

/// Hands the files to the analyzer pool through protected operations: at once while an analyzer is free,
/// and otherwise in chunks of what has gathered meanwhile.
#[derive(Debug)]
pub struct AnalysisActor;

/// What the analysis actor holds.
#[derive(Debug)]
pub struct AnalysisState {
    guard: Guard<Pool<AnalyzerWorker>>,
    waiting: VecDeque<(SourceFile, Reply)>,
    /// Chunks under way, and how many there may be.
    busy: usize,
    most_busy: usize,
}

impl Actor for AnalysisActor {
    type Msg = AnalysisMsg;
    type State = AnalysisState;
    type Arguments = Tree;

    async fn pre_start(
        &self,
        _: ActorRef<AnalysisMsg>,
        tree: Tree,
    ) -> Result<AnalysisState, ActorProcessingErr> {
        let guard = tree.guard(ANALYZER.as_str()).pool(ANALYZER);
        let analyzers = tree.pool(ANALYZER).map_or(1, |pool| pool.config().size());
        Ok(AnalysisState {
            guard: guard.deadline(DEADLINE).build()?,
            waiting: VecDeque::new(),
            busy: 0,
            // One more than can be worked on: it is at hand when an analyzer becomes free.
            most_busy: analyzers + 1,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<AnalysisMsg>,
        message: AnalysisMsg,
        state: &mut AnalysisState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AnalysisMsg::Analyze(file, reply) => state.waiting.push_back((file, reply)),
            AnalysisMsg::ChunkDone => state.busy = state.busy.saturating_sub(1),
        }
        while state.busy < state.most_busy && !state.waiting.is_empty() {
            let chunk = state.next_chunk();
            let guard = state.guard.clone();
            let myself = myself.clone();
            state.busy += 1;
            // The task outlives this actor: what it was given is answered even when the actor is killed.
            tokio::spawn(async move {
                analyze_chunk(&guard, chunk).await;
                // Fails when this incarnation has ended: its successor counts anew.
                drop(myself.send_message(AnalysisMsg::ChunkDone));
            });
        }
        Ok(())
    }
}

impl AnalysisState {
    fn next_chunk(&mut self) -> Vec<(SourceFile, Reply)> {
        let mut bytes = 0;
        let mut files = 0;
        for (file, _) in self.waiting.iter().take(CHUNK) {
            bytes += file.text.len();
            if files > 0 && bytes > CHUNK_BYTES {
                break;
            }
            files += 1;
        }
        self.waiting.drain(..files).collect()
    }
}

/// Analyzes a chunk and answers for each of its files.
async fn analyze_chunk(guard: &Guard<Pool<AnalyzerWorker>>, chunk: Vec<(SourceFile, Reply)>) {
    let files: Vec<&SourceFile> = chunk.iter().map(|(file, _)| file).collect();
    match analyze(guard, &files).await {
        Ok(reports) => {
            for ((_, reply), report) in chunk.into_iter().zip(reports) {
                // Fails when the caller has gone.
                drop(reply.send(Ok(report)));
            }
        }
        // Some file is to blame: each by itself tells which.
        Err(NotAnalyzed::Failed(_)) if chunk.len() > 1 => {
            for (file, reply) in chunk {
                let result = analyze(guard, &[&file]).await;
                drop(reply.send(result.and_then(|reports| {
                    let report = reports.into_iter().next();
                    report.ok_or_else(|| NotAnalyzed::Failed("the analyzer gave no report".into()))
                })));
            }
        }
        Err(why) => {
            for (_, reply) in chunk {
                drop(reply.send(Err(why.clone())));
            }
        }
    }
}

async fn analyze(
    guard: &Guard<Pool<AnalyzerWorker>>,
    files: &[&SourceFile],
) -> Result<Vec<FileReport>, NotAnalyzed> {
    let files = files
        .iter()
        .map(|file| (file.language, Arc::clone(&file.text)))
        .collect();
    let result = guard
        .run(|analyzer| async move { analyzer.analyze_all(files).await })
        .await;
    result.map_err(|error| match error {
        GuardError::Operation(WorkerError::Died {
            reason: reason @ ExitReason::Panicked { .. },
        }) => NotAnalyzed::Failed(format!("the analyzer {reason}")),
        GuardError::DeadlineExceeded { .. } => NotAnalyzed::Failed(error.to_string()),
        other => NotAnalyzed::Again {
            after: other.retry_after(),
            why: other.to_string(),
        },
    })
}
