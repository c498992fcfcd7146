use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::CircuitOpen;
use perennial_pool::CheckoutError;

/// Why a protected operation has no value to return: who refused, or what went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError<E> {
    /// The process is short of memory; nothing was spent.
    #[error("`{service}` refuses work: memory pressure is critical")]
    MemoryPressure {
        /// The service.
        service: Arc<str>,
    },
    /// The caller is over its quota.
    #[error("`{service}` is rate limited{}", after(*retry_after))]
    RateLimited {
        /// The service.
        service: Arc<str>,
        /// When a call would be admitted; `None`: never, the quota is zero.
        retry_after: Option<Duration>,
    },
    /// The service's breaker is not closed.
    #[error(transparent)]
    CircuitOpen(CircuitOpen),
    /// No worker was to be had.
    #[error(transparent)]
    Pool(CheckoutError),
    /// The operation did not end by the deadline; it was dropped.
    #[error("`{service}` did not finish within {deadline:?}")]
    DeadlineExceeded {
        /// The service.
        service: Arc<str>,
        /// The time that was given.
        deadline: Duration,
    },
    /// The operation itself failed.
    #[error("{0}")]
    Operation(#[source] E),
    /// The guard was asked for something that the tree does not have.
    #[error(transparent)]
    Config(#[from] GuardConfigError),
}

fn after(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(", retry after {wait:?}"))
}

impl<E> GuardError<E> {
    /// Says when to come back, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            Self::CircuitOpen(open) => open.retry_after,
            _ => None,
        }
    }

    /// Says whether the operation was never begun, so that trying again cannot do its work twice.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::DeadlineExceeded { .. } | Self::Operation(_))
    }

    /// Says whether a later try may succeed. The operation's own errors are for the caller to judge.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::MemoryPressure { .. } | Self::DeadlineExceeded { .. } => true,
            Self::RateLimited { retry_after, .. } => retry_after.is_some(),
            Self::CircuitOpen(open) => open.is_retryable(),
            Self::Pool(error) => error.is_retryable(),
            Self::Operation(_) | Self::Config(_) => false,
        }
    }
}

/// A guard that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardConfigError {
    /// No breaker has the service's name. A guard without one says so: `without_breaker`.
    #[error("service `{service}`: no breaker of this name; register one or use `without_breaker`")]
    UnknownBreaker {
        /// The service.
        service: Arc<str>,
    },
    /// No pool has this name and type.
    #[error("service `{service}`: no pool `{pool}` of this worker type")]
    UnknownPool {
        /// The service.
        service: Arc<str>,
        /// The pool asked for.
        pool: String,
    },
    /// A rate key or quota was given, and no gate to check it.
    #[error("service `{service}`: quota: needs a rate gate")]
    NoGate {
        /// The service.
        service: Arc<str>,
    },
    /// A deadline of zero refuses everything.
    #[error("service `{service}`: deadline: must be longer than zero")]
    ZeroDeadline {
        /// The service.
        service: Arc<str>,
    },
}
