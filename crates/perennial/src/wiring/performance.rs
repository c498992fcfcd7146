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
        // A refusal says nothing about how the service performs.
        if outcome.was_begun() {
            let outcome = match outcome {
                OperationOutcome::Success => Outcome::Success,
                _ => Outcome::Failure,
            };
            self.0.record(outcome, took);
        }
    }
}
