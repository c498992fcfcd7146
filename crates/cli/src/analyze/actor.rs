//! The named actor that takes source files.

use std::time::Duration;

use perennial::workers::analysis::FileReport;
use perennial::{
    ANALYZER, ActorName, AnalyzerWorker, ChildSpec, ExitReason, Guard, GuardError, Name, Outcome,
    Pool, Tree, WorkerError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::source::SourceFile;

/// The analysis actor.
pub const ANALYSIS: Name<AnalysisMsg> = Name::new("analysis");

/// How long one file may take: the wait for an analyzer, and the analysis.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the analysis actor takes.
#[derive(Debug)]
pub enum AnalysisMsg {
    /// Analyze one file.
    Analyze(SourceFile, RpcReplyPort<Result<FileReport, NotAnalyzed>>),
}

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

/// Hands each file to the analyzer pool through a protected operation, in a task of its own, so that one
/// slow file holds up no other.
#[derive(Debug)]
pub struct AnalysisActor;

impl Actor for AnalysisActor {
    type Msg = AnalysisMsg;
    type State = Guard<Pool<AnalyzerWorker>>;
    type Arguments = Tree;

    async fn pre_start(
        &self,
        _: ActorRef<AnalysisMsg>,
        tree: Tree,
    ) -> Result<Self::State, ActorProcessingErr> {
        let guard = tree.guard(ANALYZER.as_str()).pool(ANALYZER);
        Ok(guard.deadline(DEADLINE).build()?)
    }

    async fn handle(
        &self,
        _: ActorRef<AnalysisMsg>,
        AnalysisMsg::Analyze(file, reply): AnalysisMsg,
        guard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let guard = guard.clone();
        // The task outlives this actor: what it was given is answered even when the actor is killed.
        tokio::spawn(async move {
            let result = analyze(&guard, &file).await;
            // Fails when the caller has gone.
            drop(reply.send(result));
        });
        Ok(())
    }
}

async fn analyze(
    guard: &Guard<Pool<AnalyzerWorker>>,
    file: &SourceFile,
) -> Result<FileReport, NotAnalyzed> {
    let (language, text) = (file.language, file.text.clone());
    let result = guard
        .run_with(
            |analyzer| async move { analyzer.analyze(language, text).await },
            |result| match result {
                Ok(_) => Outcome::Success,
                Err(_) => Outcome::Failure,
            },
        )
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

/// The name that a quota for the actor is attached to.
#[must_use]
pub fn actor_name() -> ActorName {
    ANALYSIS.to_actor_name()
}
