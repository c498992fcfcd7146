//! The only place of this crate that emits tracing and metrics.
//!
//! | metric | kind | attributes |
//! | --- | --- | --- |
//! | `perennial.guard.operation.duration` | histogram, seconds | `service`, `error.type` of a begun operation |
//! | `perennial.guard.operation.slow` | counter | `service` |
//! | `perennial.guard.refusal` | counter | `service`, `error.type` of an operation that was not begun |
//! | `perennial.guard.retry` | counter | `service` |

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::OperationOutcome;

/// The span of one protected operation.
pub(crate) fn span(service: &str) -> tracing::Span {
    tracing::debug_span!("guard.run", service)
}

/// The metrics of one service, registered once. Where nobody listens each is an empty handle.
pub(crate) struct Meter {
    ends: [End; OperationOutcome::ALL.len()],
    slow: Counter,
    retries: Counter,
}

enum End {
    Begun(Histogram),
    NotBegun(Counter),
}

impl Meter {
    pub(crate) fn new(service: &str) -> Self {
        let name = || ("service", service.to_owned());
        let end = |outcome: OperationOutcome| {
            let labels = [name(), ("error.type", outcome.error_type().to_owned())];
            if outcome.was_begun() {
                End::Begun(histogram!("perennial.guard.operation.duration", &labels))
            } else {
                End::NotBegun(counter!("perennial.guard.refusal", &labels))
            }
        };
        Self {
            ends: OperationOutcome::ALL.map(end),
            slow: counter!("perennial.guard.operation.slow", &[name()]),
            retries: counter!("perennial.guard.retry", &[name()]),
        }
    }

    pub(crate) fn ended(&self, service: &str, outcome: OperationOutcome, took: Duration) {
        match &self.ends[outcome as usize] {
            End::Begun(duration) => duration.record(took),
            End::NotBegun(refusals) => refusals.increment(1),
        }
        if outcome != OperationOutcome::Success {
            tracing::debug!(
                service,
                error.type = outcome.error_type(),
                "protected operation did not succeed"
            );
        }
    }

    #[cold]
    pub(crate) fn slow(&self, service: &str, took: Duration) {
        self.slow.increment(1);
        tracing::debug!(service, ?took, "protected operation was slow");
    }

    pub(crate) fn retried(&self, service: &str, attempt: u32, error: &str, pause: Duration) {
        self.retries.increment(1);
        tracing::debug!(
            service,
            attempt,
            error.type = error,
            ?pause,
            "protected operation is tried again"
        );
    }
}
