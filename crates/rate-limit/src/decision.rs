//! What a check answers.

use std::time::{Duration, SystemTime};

use crate::{clock::Nanos, error::CheckError, machine::Verdict};

/// The answer to a check: may this caller go on?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a check that nobody looks at limits nothing"]
pub enum Decision {
    /// Go on. The cells are spent.
    Allowed {
        /// How many cells could be spent right after this check.
        remaining: u32,
    },
    /// Not now. Nothing was spent, but a fixed window that is used up counts the check as well.
    Refused {
        /// How long until the same check is admitted, if nobody else spends
        /// from this key meanwhile: exact to the nanosecond.
        retry_after: Duration,
    },
    /// Not at any time: the quota's limit is 0, or the check asks for more
    /// cells than the quota ever has at once.
    Never,
}

impl Decision {
    pub(crate) fn from_verdict(verdict: Verdict, now: Nanos) -> Self {
        match verdict {
            Verdict::Allowed { remaining } => Self::Allowed { remaining },
            Verdict::NotUntil(at) => Self::Refused {
                retry_after: at.since(now),
            },
            Verdict::Never => Self::Never,
        }
    }

    /// Tells whether the caller may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// Returns how long to wait, if waiting helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after } => Some(*retry_after),
            Self::Allowed { .. } | Self::Never => None,
        }
    }

    /// Turns the answer into a result, for `?`: the remaining cells, or why not.
    ///
    /// # Errors
    ///
    /// - [`CheckError::Limited`] says how long to wait.
    /// - [`CheckError::Never`] is final while the quota stands.
    pub fn into_result(self) -> Result<u32, CheckError> {
        match self {
            Self::Allowed { remaining } => Ok(remaining),
            Self::Refused { retry_after } => Err(CheckError::Limited { retry_after }),
            Self::Never => Err(CheckError::Never),
        }
    }
}

/// What is spent and what is left of one key's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStatus {
    /// Cells spent and not yet given back. In a fixed window, the checks of
    /// this window, denied ones included.
    pub spent: u32,
    /// Cells that could be spent now.
    pub remaining: u32,
    /// How long until the key is as good as new. In a fixed window, until the
    /// next window begins.
    pub resets_in: Duration,
    /// In a fixed window, when the present window was first checked, by the limiter's clock; `None` if it was
    /// not, and for the other algorithms.
    pub first_check: Option<SystemTime>,
    /// In a fixed window, when the present window was last checked, denied checks included.
    pub last_check: Option<SystemTime>,
}
