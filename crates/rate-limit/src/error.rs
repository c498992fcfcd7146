//! What can go wrong, one enum per operation family.

use std::time::Duration;

use crate::quota::Algorithm;

/// Why a [`Quota`](crate::Quota) cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The period is zero, or below a microsecond.
    #[error("period {period:?} is too short, the shortest is 1 microsecond")]
    PeriodTooShort {
        /// The period that was asked for.
        period: Duration,
    },
    /// The period is longer than the limiter can count.
    #[error("period {period:?} is too long, the longest is 73 years")]
    PeriodTooLong {
        /// The period that was asked for.
        period: Duration,
    },
    /// A window, fixed or sliding, admits its limit at once, whatever a burst says.
    #[error("burst: {algorithm:?} has no use for one, and admits its limit of {limit} at once")]
    BurstOfWindow {
        /// The limit.
        limit: u32,
        /// The algorithm that was asked for.
        algorithm: Algorithm,
    },
    /// governor meters by the generic cell rate algorithm alone.
    #[error("governor cannot meter by {algorithm:?}, only by Gcra")]
    OtherAlgorithm {
        /// The algorithm that was asked for.
        algorithm: Algorithm,
    },
}

/// Why a [`RateGate`](crate::RateGate) cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateGateConfigError {
    /// The time between two sweeps is zero, or below a millisecond.
    #[error("`sweep_interval` must be at least 1 millisecond")]
    SweepIntervalTooShort,
}

/// Why a check was not allowed, as an error value.
///
/// Made by [`Decision::into_result`](crate::Decision::into_result).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The quota is spent for now.
    #[error("rate limited, retry in {retry_after:?}")]
    Limited {
        /// How long until a retry is admitted, if nobody else spends meanwhile.
        retry_after: Duration,
    },
    /// The quota cannot admit this at any time.
    #[error("the quota never admits this")]
    Never,
}

impl CheckError {
    /// Tells whether a later attempt may succeed under the same quota.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Limited { .. })
    }
}

/// Why waiting for a cell came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The next cell comes back only after the deadline. Nothing was spent.
    #[error("no cell within the deadline, waited {waited:?}, retry in {retry_after:?}")]
    TimedOut {
        /// How long it has waited.
        waited: Duration,
        /// How long until a retry is admitted, if nobody else spends meanwhile.
        retry_after: Duration,
    },
    /// The quota cannot admit this at any time.
    #[error("the quota never admits this")]
    Never,
}

impl WaitError {
    /// Tells whether a later attempt may succeed under the same quota.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}
