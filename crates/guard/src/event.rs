//! The only place of this crate that emits tracing and metrics.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

/// How one protected operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationOutcome {
    /// It succeeded, or `classify` said that its result says nothing about the service.
    Success,
    /// It failed.
    Failure,
    /// It panicked.
    Panicked,
    /// It was begun and did not end by the deadline.
    DeadlineExceeded,
    /// Refused: memory pressure is critical.
    MemoryPressure,
    /// Refused by the rate limit.
    RateLimited,
    /// Refused by the breaker.
    CircuitOpen,
    /// Refused by the pool.
    NoWorker,
}

impl OperationOutcome {
    const ALL: [Self; 8] = [
        Self::Success,
        Self::Failure,
        Self::Panicked,
        Self::DeadlineExceeded,
        Self::MemoryPressure,
        Self::RateLimited,
        Self::CircuitOpen,
        Self::NoWorker,
    ];

    /// Says whether the operation was begun.
    #[must_use]
    pub fn was_begun(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failure | Self::Panicked | Self::DeadlineExceeded
        )
    }

    /// Names the outcome for metrics: the `error.type`, or `none`.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Success => "none",
            Self::Failure => "failure",
            Self::Panicked => "panic",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::MemoryPressure => "memory_pressure",
            Self::RateLimited => "rate_limited",
            Self::CircuitOpen => "circuit_open",
            Self::NoWorker => "no_worker",
        }
    }
}

/// The span of one protected operation.
pub(crate) fn span(service: &str) -> tracing::Span {
    tracing::debug_span!("guard.run", service)
}

/// The metrics of one service, registered once.
pub(crate) struct Meter {
    service: Arc<str>,
    counts: [Counter; OperationOutcome::ALL.len()],
    duration: Histogram,
}

impl Meter {
    pub(crate) fn new(service: &Arc<str>) -> Self {
        let counts = OperationOutcome::ALL.map(|outcome| {
            counter!(
                "perennial.guard.operation",
                "service" => service.to_string(),
                "error.type" => outcome.error_type(),
            )
        });
        Self {
            service: Arc::clone(service),
            counts,
            duration: histogram!("perennial.guard.operation.duration", "service" => service.to_string()),
        }
    }

    pub(crate) fn record(&self, outcome: OperationOutcome, took: Duration) {
        self.counts[outcome as usize].increment(1);
        if outcome.was_begun() {
            self.duration.record(took.as_secs_f64());
        }
        if outcome != OperationOutcome::Success {
            tracing::debug!(
                service = &*self.service,
                error.type = outcome.error_type(),
                "protected operation did not succeed"
            );
        }
    }
}
