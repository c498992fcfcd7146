use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::CircuitOpen;
use perennial_pool::CheckoutError;

use crate::OperationOutcome;

/// Why a protected operation has no value to return: who refused, or what went wrong.
///
/// | | refused by | begun? | `retry_after` | `is_retryable` | `source` |
/// | --- | --- | --- | --- | --- | --- |
/// | `MemoryPressure` | memory | no | | yes | |
/// | `RateLimited` | rate limit | no | exact | unless the quota is zero | |
/// | `CircuitOpen` | breaker | no | where it is known | unless forced open | |
/// | `BulkheadFull` | bulkhead | no | | yes | |
/// | `Pool` | pool | no | | unless it is closed | why a worker did not start |
/// | `TooLate` | pool | no | | yes | |
/// | `DeadlineExceeded` | nobody | yes, and dropped | | yes | |
/// | `Operation` | nobody | yes | | the caller's to judge: no | the operation's error's own |
/// | `Config` | nobody | no | | no | |
///
/// It is a [`std::error::Error`] where `E` is one. A `Box<dyn Error>` is none: see [`GuardError::into_boxed`] and
/// [`GuardError::map_operation`].
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
    /// As many operations as the bulkhead allows are under way.
    #[error("`{service}` has {max} operations under way, as many as its bulkhead allows")]
    BulkheadFull {
        /// The service.
        service: Arc<str>,
        /// How many may be under way.
        max: u32,
    },
    /// No worker was to be had.
    #[error(transparent)]
    Pool(CheckoutError),
    /// A worker was to be had only when the deadline had passed; it was given back.
    #[error("`{service}` could not begin within {deadline:?}")]
    TooLate {
        /// The service.
        service: Arc<str>,
        /// The time that was given.
        deadline: Duration,
    },
    /// The operation did not end by the deadline; it was dropped.
    #[error("`{service}` did not finish within {deadline:?}")]
    DeadlineExceeded {
        /// The service.
        service: Arc<str>,
        /// The time that was given.
        deadline: Duration,
    },
    /// The operation itself failed. It reads as its own error does, and has that error's source.
    #[error(transparent)]
    Operation(E),
    /// The guard was asked for something that the tree does not have.
    #[error(transparent)]
    Config(#[from] GuardConfigError),
}

/// A stage of a guard that can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Memory pressure.
    Memory,
    /// The rate limit.
    RateLimit,
    /// The breaker.
    Breaker,
    /// The bulkhead.
    Bulkhead,
    /// The pool.
    Pool,
}

fn after(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(", retry after {wait:?}"))
}

impl<E> GuardError<E> {
    /// Says which stage refused; `None` if the operation was begun or the guard could not be built.
    #[must_use]
    pub fn refused_by(&self) -> Option<Stage> {
        match self {
            Self::MemoryPressure { .. } => Some(Stage::Memory),
            Self::RateLimited { .. } => Some(Stage::RateLimit),
            Self::CircuitOpen(_) => Some(Stage::Breaker),
            Self::BulkheadFull { .. } => Some(Stage::Bulkhead),
            Self::Pool(_) | Self::TooLate { .. } => Some(Stage::Pool),
            Self::DeadlineExceeded { .. } | Self::Operation(_) | Self::Config(_) => None,
        }
    }

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
            Self::MemoryPressure { .. }
            | Self::BulkheadFull { .. }
            | Self::TooLate { .. }
            | Self::DeadlineExceeded { .. } => true,
            Self::RateLimited { retry_after, .. } => retry_after.is_some(),
            Self::CircuitOpen(open) => open.is_retryable(),
            Self::Pool(error) => error.is_retryable(),
            Self::Operation(_) | Self::Config(_) => false,
        }
    }

    /// Returns the operation's own error, if it was begun and failed.
    #[must_use]
    pub fn into_operation(self) -> Option<E> {
        match self {
            Self::Operation(error) => Some(error),
            _ => None,
        }
    }

    /// Makes another error of the operation's own, and leaves all others as they are.
    #[must_use]
    pub fn map_operation<F>(self, map: impl FnOnce(E) -> F) -> GuardError<F> {
        match self.operation_or() {
            Ok(error) => GuardError::Operation(map(error)),
            Err(other) => other,
        }
    }

    /// Puts it into a box, as `tower`'s layers and `anyhow` want their errors.
    ///
    /// The operation's own error is boxed as it is, or handed on if it is a box already. All others are found in the box
    /// as `GuardError<Infallible>`, whatever the operation's error is.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::error::Error;
    /// use perennial_guard::{Guard, GuardError};
    /// use perennial_rate_limit::{Quota, RateGate};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    /// let guard = Guard::builder("svc").gate(RateGate::new()).quota(Quota::per_minute(1)).build()?;
    /// let parse = |text: &'static str| {
    ///     guard.run(move |()| async move { Ok::<i32, Box<dyn Error + Send + Sync>>(text.parse()?) })
    /// };
    /// let error = parse("seven").await.unwrap_err().into_boxed();
    /// assert!(error.is::<std::num::ParseIntError>());
    /// let error = parse("7").await.unwrap_err().into_boxed();
    /// assert!(matches!(error.downcast_ref(), Some(GuardError::<Infallible>::RateLimited { .. })));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn into_boxed(self) -> Box<dyn Error + Send + Sync>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.operation_or::<Infallible>() {
            Ok(error) => error.into(),
            Err(other) => Box::new(other),
        }
    }

    /// Returns the operation's own error, or the guard's, which is of any type.
    fn operation_or<F>(self) -> Result<E, GuardError<F>> {
        Err(match self {
            Self::Operation(error) => return Ok(error),
            Self::MemoryPressure { service } => GuardError::MemoryPressure { service },
            Self::RateLimited {
                service,
                retry_after,
            } => GuardError::RateLimited {
                service,
                retry_after,
            },
            Self::CircuitOpen(open) => GuardError::CircuitOpen(open),
            Self::BulkheadFull { service, max } => GuardError::BulkheadFull { service, max },
            Self::Pool(error) => GuardError::Pool(error),
            Self::TooLate { service, deadline } => GuardError::TooLate { service, deadline },
            Self::DeadlineExceeded { service, deadline } => {
                GuardError::DeadlineExceeded { service, deadline }
            }
            Self::Config(error) => GuardError::Config(error),
        })
    }

    /// Names it for logs, in the words of the metrics.
    pub(crate) fn outcome(&self) -> OperationOutcome {
        match self {
            Self::MemoryPressure { .. } => OperationOutcome::MemoryPressure,
            Self::RateLimited { .. } => OperationOutcome::RateLimited,
            Self::CircuitOpen(_) => OperationOutcome::CircuitOpen,
            Self::BulkheadFull { .. } => OperationOutcome::BulkheadFull,
            Self::Pool(_) | Self::TooLate { .. } => OperationOutcome::NoWorker,
            Self::DeadlineExceeded { .. } => OperationOutcome::DeadlineExceeded,
            Self::Operation(_) | Self::Config(_) => OperationOutcome::Failure,
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
    #[error(
        "service `{service}`: no pool `{pool}` of this worker type; add it to the tree, or give the guard a handle"
    )]
    UnknownPool {
        /// The service.
        service: Arc<str>,
        /// The pool asked for.
        pool: String,
    },
    /// A rate key or quota was given, and no gate to check it.
    #[error("service `{service}`: quota: needs a rate gate; give the guard one with `gate`")]
    NoGate {
        /// The service.
        service: Arc<str>,
    },
    /// A gate was given, or a key with a call, and the guard has no quota: nobody would be limited.
    #[error(
        "service `{service}`: quota: a gate, or a key that comes with a call, limits nobody without; set `quota` or `rate_key`"
    )]
    NoQuota {
        /// The service.
        service: Arc<str>,
    },
    /// A deadline of zero refuses everything.
    #[error("service `{service}`: deadline: must be longer than zero")]
    ZeroDeadline {
        /// The service.
        service: Arc<str>,
    },
    /// An operation that takes no time at all is not slow.
    #[error("service `{service}`: slow_after: must be longer than zero")]
    ZeroSlowAfter {
        /// The service.
        service: Arc<str>,
    },
    /// An operation is over by the deadline, so none would ever be slow.
    #[error("service `{service}`: slow_after: must not be longer than the deadline")]
    SlowAfterDeadline {
        /// The service.
        service: Arc<str>,
    },
}
