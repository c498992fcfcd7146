//! What goes into a step of the machine, and what comes of it.

use std::time::Duration;

use super::{Generation, Nanos};
use crate::tally::Met;
use crate::{BreakerConfig, BreakerState};

#[derive(Debug)]
pub(crate) enum Input {
    /// A call asks to run.
    Acquire,
    /// An admitted call has ended.
    Settle(Generation, Verdict, Timing),
    /// Something is known of the service from elsewhere.
    Report(Verdict),
    /// Somebody looks whether the open time is over.
    Tick,
    Command(Command),
    /// Other settings, and the seed of what they leave to chance if it is a new one.
    Configure(Box<BreakerConfig>, Option<u64>),
}

/// How long a call took.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timing {
    /// It was admitted at this time.
    Since(Nanos),
    Took(Nanos),
    /// Nobody has measured it.
    Unknown,
}

impl Timing {
    /// How long a call took that ends now, if that is known.
    pub(crate) fn took(self, now: impl FnOnce() -> Nanos) -> Option<Nanos> {
        match self {
            Self::Since(started) => Some(now().saturating_sub(started)),
            Self::Took(took) => Some(took),
            Self::Unknown => None,
        }
    }
}

/// How an admitted call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure,
    Cancelled,
}

/// What an operator may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Trip,
    ForceOpen,
    ForceClosed,
    Disable,
    OnlyMeasure,
    Reset,
}

/// What comes of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) answer: Answer,
    /// In order; at most two.
    pub(crate) moves: Vec<Move>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To `Acquire`: run.
    Admitted,
    /// To `Acquire`: do not run.
    Refused {
        state: BreakerState,
        retry_after: Option<Duration>,
        injected: bool,
    },
    /// To `Settle`: the call belongs to the present generation.
    Judged { slow: bool },
    /// To `Settle`: the breaker has moved since the call was admitted, so its result says nothing about now.
    Late,
    /// To everything else.
    Done,
}

/// The breaker went from one state to another, was reset where it stood, or met its trip condition without opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
    pub(crate) cause: Cause,
    /// How long an open breaker refuses.
    pub(crate) open_for: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    TripCondition(Met),
    ProbeFailed,
    ProbesSucceeded,
    OpenTimeOver,
    Command,
    Reconfigured,
}
