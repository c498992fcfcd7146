//! What a breaker answers when asked how it is.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What a breaker does with the next call.
///
/// | state | the next call | outcomes |
/// | --- | --- | --- |
/// | `Closed` | runs | judged by the trip condition |
/// | `Open` | is refused until the open time ends | late, not judged |
/// | `HalfOpen` | runs as a probe if a place is free | a failure opens, enough successes close |
/// | `ForcedOpen` | is refused | late, not judged |
/// | `ForcedClosed` | runs | counted, not judged |
/// | `Disabled` | runs | neither counted nor judged |
/// | `MetricsOnly` | runs | judged, but the breaker only says when it would have opened |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls flow.
    Closed,
    /// Calls are refused until the open time ends.
    Open,
    /// A bounded number of calls probe whether the service is back.
    HalfOpen,
    /// Calls are refused until a command says otherwise.
    ForcedOpen,
    /// Calls flow, whatever their outcomes, until a command says otherwise.
    ForcedClosed,
    /// The breaker stands aside: calls flow and leave no trace.
    Disabled,
    /// Calls flow; events say when the breaker would have opened.
    MetricsOnly,
}

impl BreakerState {
    /// Every state, in the order of the table above.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::Disabled,
        Self::MetricsOnly,
    ];

    /// Returns the name used in logs and metrics, such as `half_open`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }

    /// Whether calls are admitted without a probe place.
    #[must_use]
    pub fn admits_all(self) -> bool {
        matches!(
            self,
            Self::Closed | Self::ForcedClosed | Self::Disabled | Self::MetricsOnly
        )
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
            Self::MetricsOnly => "metrics only",
            other => other.as_str(),
        })
    }
}

/// A breaker at one moment: its state, and what happened since it was made.
///
/// Every call that asked is refused, or admitted; every admitted call that has ended is a success, a failure or
/// cancelled. What is reported without a permit is a success, a failure or cancelled as well, and counted in
/// `reported`. Calls of a disabled breaker appear nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// The breaker's name.
    pub name: String,
    /// What it does with the next call.
    pub state: BreakerState,
    /// How long until a call may be admitted as a probe; `None` unless open.
    pub retry_after: Option<Duration>,
    /// Calls that ended well.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that were refused, and did not run.
    pub refused: u64,
    /// Those of the refused that were refused on purpose.
    pub injected: u64,
    /// Calls that were admitted and gave no result: dropped, or ignored by the classifier.
    pub cancelled: u64,
    /// Those of the results above that came after the state they were admitted in, and so were not judged.
    pub late: u64,
    /// Those of the results above that took longer than the trip condition's `slower_than`, where it has one and judged
    /// them: not the late ones, nor those of a breaker that was forced closed.
    pub slow: u64,
    /// Those of the results above that were reported without a permit.
    pub reported: u64,
    /// Changes from one state to another.
    pub transitions: u64,
    /// How long ago the last failure was reported.
    pub since_last_failure: Option<Duration>,
}
