use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::OperationOutcome;
use crate::ledger::{Latency, Sums};

/// How the operations of one service have ended so far, and how long they took.
///
/// All guards of a service in one [`Environment`](crate::Environment) count together. Calls that end meanwhile may
/// or may not be in.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuardStatus {
    /// The service.
    pub service: Arc<str>,
    /// Of the operations that were begun, those that took at least their guard's
    /// [`slow_after`](crate::GuardBuilder::slow_after).
    pub slow: u64,
    outcomes: [u64; OperationOutcome::ALL.len()],
    latency: Latency,
}

impl GuardStatus {
    pub(crate) fn new(service: Arc<str>, sums: Sums) -> Self {
        Self {
            service,
            slow: sums.slow,
            outcomes: sums.outcomes,
            latency: sums.latency,
        }
    }

    /// Returns how many ended like this.
    #[must_use]
    pub fn count(&self, outcome: OperationOutcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Returns how many were begun and have ended, one way or another.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.sum(OperationOutcome::was_begun)
    }

    /// Returns how many were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.sum(OperationOutcome::was_refused)
    }

    /// Returns how many calls there were: begun, refused, and given up while they waited.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.sum(|_| true)
    }

    /// Returns a time that this share (0 to 1) of the begun operations did not exceed; `None` before the first.
    ///
    /// It is measured from the first question to the end of the operation, waiting included, and at most an eighth
    /// too long.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Duration> {
        self.latency.at(share)
    }

    fn sum(&self, counts: impl Fn(OperationOutcome) -> bool) -> u64 {
        let all = OperationOutcome::ALL.into_iter();
        all.filter(|it| counts(*it)).map(|it| self.count(it)).sum()
    }
}

impl fmt::Debug for GuardStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("GuardStatus");
        text.field("service", &self.service);
        for outcome in OperationOutcome::ALL {
            text.field(outcome.error_type(), &self.count(outcome));
        }
        text.field("slow", &self.slow)
            .field("p50", &self.latency(0.5))
            .field("p99", &self.latency(0.99))
            .finish_non_exhaustive()
    }
}
