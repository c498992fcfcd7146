//! What happens to a breaker, and the only place that tells logs and metrics of it.

use std::sync::Arc;
use std::time::Duration;

use crate::BreakerState;
use crate::counters::Totals;
use crate::machine::{Cause, Move};

/// A breaker went from one state to another, or was reset.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerEvent {
    /// Calls are refused from now on.
    #[non_exhaustive]
    Opened {
        /// The breaker's name.
        breaker: Arc<str>,
        /// The state before: closed or half-open.
        from: BreakerState,
        /// What opened it.
        cause: OpenCause,
        /// For how long.
        open_for: Duration,
    },
    /// The open time is over; probes are admitted.
    #[non_exhaustive]
    HalfOpened {
        /// The breaker's name.
        breaker: Arc<str>,
    },
    /// Calls flow again; failures on record are forgotten.
    #[non_exhaustive]
    Closed {
        /// The breaker's name.
        breaker: Arc<str>,
        /// The state before; closed as well if a closed breaker was reset.
        from: BreakerState,
        /// What closed it.
        cause: CloseCause,
    },
    /// An operator took the decision away from the breaker.
    #[non_exhaustive]
    Forced {
        /// The breaker's name.
        breaker: Arc<str>,
        /// The state before.
        from: BreakerState,
        /// Forced open, forced closed or disabled.
        to: BreakerState,
    },
}

/// What opened a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenCause {
    /// The failures of its trip condition.
    Failures,
    /// A probe failed.
    ProbeFailed,
    /// Somebody tripped it.
    Tripped,
}

/// What closed a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// Enough probes ended well.
    ProbesSucceeded,
    /// Somebody reset it.
    Reset,
}

impl BreakerEvent {
    pub(crate) fn new(breaker: Arc<str>, moved: &Move) -> Self {
        let Move {
            from,
            to,
            cause,
            open_for,
        } = *moved;
        match to {
            BreakerState::Open => {
                let cause = match cause {
                    Cause::ProbeFailed => OpenCause::ProbeFailed,
                    Cause::Command => OpenCause::Tripped,
                    Cause::TripCondition | Cause::ProbesSucceeded | Cause::OpenTimeOver => {
                        OpenCause::Failures
                    }
                };
                Self::Opened {
                    breaker,
                    from,
                    cause,
                    open_for: open_for.unwrap_or_default(),
                }
            }
            BreakerState::HalfOpen => Self::HalfOpened { breaker },
            BreakerState::Closed => {
                let cause = if cause == Cause::Command {
                    CloseCause::Reset
                } else {
                    CloseCause::ProbesSucceeded
                };
                Self::Closed {
                    breaker,
                    from,
                    cause,
                }
            }
            BreakerState::ForcedOpen | BreakerState::ForcedClosed | BreakerState::Disabled => {
                Self::Forced { breaker, from, to }
            }
        }
    }

    /// Returns the name of the breaker.
    #[must_use]
    pub fn breaker(&self) -> &str {
        match self {
            Self::Opened { breaker, .. }
            | Self::HalfOpened { breaker }
            | Self::Closed { breaker, .. }
            | Self::Forced { breaker, .. } => breaker,
        }
    }

    /// Returns the state before.
    #[must_use]
    pub fn from(&self) -> BreakerState {
        match self {
            Self::Opened { from, .. } | Self::Closed { from, .. } | Self::Forced { from, .. } => {
                *from
            }
            Self::HalfOpened { .. } => BreakerState::Open,
        }
    }

    /// Returns the state after.
    #[must_use]
    pub fn to(&self) -> BreakerState {
        match self {
            Self::Opened { .. } => BreakerState::Open,
            Self::HalfOpened { .. } => BreakerState::HalfOpen,
            Self::Closed { .. } => BreakerState::Closed,
            Self::Forced { to, .. } => *to,
        }
    }
}

/// Tells logs and metrics of an event.
pub(crate) fn emit(event: &BreakerEvent) {
    let (name, from, to) = (event.breaker(), event.from().as_str(), event.to().as_str());
    match event {
        BreakerEvent::Opened {
            cause, open_for, ..
        } => {
            tracing::warn!(
                breaker.name = name,
                from,
                to,
                ?cause,
                ?open_for,
                "breaker opened"
            );
        }
        BreakerEvent::HalfOpened { .. } => {
            tracing::info!(breaker.name = name, from, to, "breaker half-open");
        }
        BreakerEvent::Closed { cause, .. } => {
            tracing::info!(breaker.name = name, from, to, ?cause, "breaker closed");
        }
        BreakerEvent::Forced { .. } => {
            tracing::warn!(breaker.name = name, from, to, "breaker forced by command");
        }
    }
    let name = match event {
        BreakerEvent::Opened { breaker, .. }
        | BreakerEvent::HalfOpened { breaker }
        | BreakerEvent::Closed { breaker, .. }
        | BreakerEvent::Forced { breaker, .. } => breaker,
    };
    metrics::counter!("perennial.breaker.transitions", "breaker.name" => Arc::clone(name), "breaker.state" => to)
        .increment(1);
    state(name, event.to());
}

/// Publishes how calls ended so far.
///
/// The counters are set to the totals rather than incremented by each call: that costs calls nothing, and a
/// publisher that was away for a while makes up for it.
pub(crate) fn totals(name: &Arc<str>, totals: &Totals) {
    let outcomes = [
        ("success", totals.successes),
        ("failure", totals.failures),
        ("cancelled", totals.cancelled),
        ("refused", totals.refused),
    ];
    for (outcome, total) in outcomes {
        metrics::counter!("perennial.breaker.calls", "breaker.name" => Arc::clone(name), "outcome" => outcome)
            .absolute(total);
    }
    metrics::counter!("perennial.breaker.late", "breaker.name" => Arc::clone(name))
        .absolute(totals.late);
}

/// Writes every state, so that no state stays set when the breaker has left it.
pub(crate) fn state(name: &Arc<str>, present: BreakerState) {
    for state in BreakerState::ALL {
        metrics::gauge!(
            "perennial.breaker.state",
            "breaker.name" => Arc::clone(name),
            "breaker.state" => state.as_str()
        )
        .set(if state == present { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests;
