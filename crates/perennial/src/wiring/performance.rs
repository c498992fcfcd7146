use std::sync::Arc;
use std::time::Duration;

use perennial_guard::{OperationOutcome, Recorder};
use perennial_monitor::{Outcome, PerformanceMonitor};

/// Hands the outcomes of protected operations to the performance monitor.
pub(crate) fn recorders(
    monitor: &PerformanceMonitor,
) -> impl Fn(&str) -> Arc<dyn Recorder> + Send + Sync + 'static {
    let monitor = monitor.clone();
    move |service| Arc::new(Recorded(monitor.recorder(service)))
}

struct Recorded(perennial_monitor::Recorder);

impl Recorder for Recorded {
    fn record(&self, outcome: OperationOutcome, took: Duration) {
        let outcome = match outcome {
            OperationOutcome::Success => Outcome::Success,
            // Neither a refusal nor a caller that went away says how the service performs.
            OperationOutcome::Cancelled => return,
            begun if begun.was_begun() => Outcome::Failure,
            _ => return,
        };
        self.0.record(outcome, took);
    }
}
