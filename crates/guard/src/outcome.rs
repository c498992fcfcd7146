use std::fmt;

/// How one protected operation ended; each is recorded once.
///
/// `offered = refused + given up + begun`, and `begun = succeeded + failed + panicked + too late + cancelled`.
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
    /// It was begun, and its caller went away.
    Cancelled,
    /// Refused: memory pressure is critical.
    MemoryPressure,
    /// Refused by the rate limit.
    RateLimited,
    /// Refused by the breaker.
    CircuitOpen,
    /// Refused by the bulkhead.
    BulkheadFull,
    /// Refused by the pool, or lent a worker only when the deadline had passed.
    NoWorker,
    /// The caller went away while it waited, before the operation was begun.
    GivenUp,
}

impl OperationOutcome {
    /// Every outcome, those of begun operations first.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::Failure,
        Self::Panicked,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::MemoryPressure,
        Self::RateLimited,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::NoWorker,
        Self::GivenUp,
    ];

    /// Says whether the operation was begun.
    #[must_use]
    pub fn was_begun(self) -> bool {
        matches!(
            self,
            Self::Success
                | Self::Failure
                | Self::Panicked
                | Self::DeadlineExceeded
                | Self::Cancelled
        )
    }

    /// Says whether a stage of the guard refused.
    #[must_use]
    pub fn was_refused(self) -> bool {
        !self.was_begun() && self != Self::GivenUp
    }

    /// Names the outcome for metrics: the `error.type`, or `none`.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Success => "none",
            Self::Failure => "failure",
            Self::Panicked => "panic",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::MemoryPressure => "memory_pressure",
            Self::RateLimited => "rate_limited",
            Self::CircuitOpen => "circuit_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::NoWorker => "no_worker",
            Self::GivenUp => "given_up",
        }
    }
}

impl fmt::Display for OperationOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.error_type())
    }
}
