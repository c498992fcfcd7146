use std::fmt;
use std::sync::Arc;

use perennial_pool::{WorkerError, WorkerRef};

use super::AnalyzerMsg;
use crate::analysis::{FileReport, Language};

/// What the holder of an [`AnalyzerWorker`](super::AnalyzerWorker) works with.
#[derive(Clone)]
pub struct AnalyzerClient {
    worker: WorkerRef<AnalyzerMsg>,
}

impl AnalyzerClient {
    pub(super) fn new(worker: WorkerRef<AnalyzerMsg>) -> Self {
        Self { worker }
    }

    /// Reports on a source file.
    ///
    /// A source that does not parse is no error: the report says so. With an `Arc<str>` a second attempt
    /// after a worker's end costs no copy.
    ///
    /// # Errors
    ///
    /// [`WorkerError`] when the worker ends before it answers: it was killed or stopped, or the analysis
    /// panicked, and then the reason holds the panic's message.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future stops the parser. The pool replaces a worker whose holder leaves
    /// in the middle of a call.
    pub async fn analyze(
        &self,
        language: Language,
        source: impl Into<Arc<str>>,
    ) -> Result<FileReport, WorkerError> {
        let mut reports = self.analyze_all(vec![(language, source.into())]).await?;
        reports.pop().ok_or(WorkerError::NoReply)
    }

    /// Reports on several source files, in their order, with one message.
    ///
    /// To hand a file to another thread and its report back can take as long as to parse a small one, so
    /// many files are better sent together.
    ///
    /// # Errors
    ///
    /// As [`analyze`](Self::analyze); which of the files made the analysis panic is not known.
    ///
    /// # Cancel safety
    ///
    /// As [`analyze`](Self::analyze).
    pub async fn analyze_all(
        &self,
        files: Vec<(Language, Arc<str>)>,
    ) -> Result<Vec<FileReport>, WorkerError> {
        self.worker.call(|reply| AnalyzerMsg { files, reply }).await
    }
}

impl fmt::Debug for AnalyzerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyzerClient").finish_non_exhaustive()
    }
}
