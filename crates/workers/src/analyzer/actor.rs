use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use perennial_lifecycle::{Exit, ExitReason};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::AnalyzerWorker;
use super::worker::Analysis;
use crate::analysis::{FileReport, Language};
use crate::blocking::{self, Panicked};
use crate::event;

/// The actor of an [`AnalyzerWorker`]: it owns one analyzer.
#[derive(Debug)]
pub struct AnalyzerActor;

/// What an [`AnalyzerActor`] takes: files to report on. An
/// [`AnalyzerClient`](super::AnalyzerClient) makes it.
#[derive(Debug)]
pub struct AnalyzerMsg {
    pub(super) files: Vec<(Language, Arc<str>)>,
    pub(super) reply: RpcReplyPort<Vec<FileReport>>,
}

/// What an [`AnalyzerActor`] holds.
pub struct AnalyzerState {
    /// Out while a file is parsed on a blocking thread.
    analysis: Option<Analysis>,
    /// Dropped with the state, at the end of the actor.
    unanswered: Option<Box<dyn Send>>,
}

impl Actor for AnalyzerActor {
    type Msg = AnalyzerMsg;
    type State = AnalyzerState;
    type Arguments = AnalyzerWorker;

    async fn pre_start(
        &self,
        _: ActorRef<AnalyzerMsg>,
        worker: AnalyzerWorker,
    ) -> Result<AnalyzerState, ActorProcessingErr> {
        Ok(AnalyzerState {
            analysis: Some(worker.analysis()),
            unanswered: None,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<AnalyzerMsg>,
        message: AnalyzerMsg,
        state: &mut AnalyzerState,
    ) -> Result<(), ActorProcessingErr> {
        let AnalyzerMsg { files, reply } = message;
        // Never out here: an analysis that does not come back ends the actor.
        let analysis = state.analysis.take().ok_or(Exit(ExitReason::Killed))?;
        let running = Running::default();
        let wanted = Arc::clone(&running.0);
        let done = blocking::run(move || {
            blocking::answer(analysis, reply, |analysis, reply| {
                // Neither a caller nor an actor that has gone wants the rest.
                let go_on = || wanted.load(Relaxed) && !reply.is_closed();
                let reports = files.iter().map(|(language, source)| {
                    // A parser asks only within a file that is not small.
                    go_on().then(|| analysis.report(*language, source, go_on))?
                });
                reports.collect()
            })
        })
        .await;
        match done.map_err(Exit)? {
            Ok(analysis) => {
                state.analysis = Some(analysis);
                Ok(())
            }
            Err(Panicked { reason, unanswered }) => {
                event::work_panicked("analyzer", &reason);
                state.unanswered = Some(unanswered);
                Err(Exit(reason).into())
            }
        }
    }
}

/// Tells the parser to stop when the actor is killed.
struct Running(Arc<AtomicBool>);

impl Default for Running {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl fmt::Debug for AnalyzerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyzerState").finish_non_exhaustive()
    }
}
