use std::fmt;
use std::sync::Arc;

use perennial_pool::{Worker, WorkerRef};

use super::{AnalyzerActor, AnalyzerClient, AnalyzerMsg};
use crate::analysis::{Analyzer, FileReport, Language};

/// Workers that own an [`Analyzer`] each, for a pool.
///
/// Files are parsed on blocking threads, never on the runtime. A panic ends the worker with its message:
/// the pool puts another in its place, and the holder gets the
/// [`WorkerError`](perennial_pool::WorkerError).
#[derive(Clone, Default)]
#[must_use]
pub struct AnalyzerWorker {
    custom: Option<Arc<Custom>>,
}

type Custom = dyn Fn(Language, &str) -> FileReport + Send + Sync;

impl AnalyzerWorker {
    /// Prepares workers that parse with tree-sitter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Prepares workers that report with a function of the caller's: another parser, or one that fails
    /// on demand in a test.
    ///
    /// ```
    /// use perennial_workers::AnalyzerWorker;
    /// use perennial_workers::analysis::Analyzer;
    ///
    /// let worker = AnalyzerWorker::with(|language, source| {
    ///     assert!(!source.contains("bomb"), "will not touch that");
    ///     Analyzer::new().analyze(language, source)
    /// });
    /// # let _ = worker;
    /// ```
    pub fn with(report: impl Fn(Language, &str) -> FileReport + Send + Sync + 'static) -> Self {
        Self {
            custom: Some(Arc::new(report)),
        }
    }

    pub(super) fn analysis(self) -> Analysis {
        match self.custom {
            Some(report) => Analysis::Custom(report),
            None => Analysis::Parse(Box::default()),
        }
    }
}

/// What one worker analyzes with.
pub(super) enum Analysis {
    Parse(Box<Analyzer>),
    Custom(Arc<Custom>),
}

impl Analysis {
    /// Reports on a source, unless `go_on` says to stop; only a parser asks.
    pub(super) fn report(
        &mut self,
        language: Language,
        source: &str,
        go_on: impl FnMut() -> bool,
    ) -> Option<FileReport> {
        match self {
            Self::Parse(analyzer) => analyzer.analyze_while(language, source, go_on),
            Self::Custom(report) => Some(report(language, source)),
        }
    }
}

impl Worker for AnalyzerWorker {
    type Actor = AnalyzerActor;
    type Client = AnalyzerClient;

    fn actor(&self) -> (AnalyzerActor, AnalyzerWorker) {
        (AnalyzerActor, self.clone())
    }

    fn client(&self, worker: WorkerRef<AnalyzerMsg>) -> AnalyzerClient {
        AnalyzerClient::new(worker)
    }
}

impl fmt::Debug for AnalyzerWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyzerWorker")
            .field("custom", &self.custom.is_some())
            .finish()
    }
}
