//! What happens to a breaker, and the only place that tells logs and metrics of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::BreakerState;
use crate::counters::Totals;
use crate::machine::{Cause, Move};
use crate::tally::Met;

/// What happened to a breaker; mostly that it went from one state to another.
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
        /// Forced open, forced closed, disabled or metrics only.
        to: BreakerState,
    },
    /// The trip condition was met in a state in which that opens nothing.
    ///
    /// Metrics only: it would have opened. Open: what is [reported](crate::Breaker::report) without a permit goes on
    /// being bad; the open time is not prolonged.
    #[non_exhaustive]
    ConditionMet {
        /// The breaker's name.
        breaker: Arc<str>,
        /// Metrics only or open.
        state: BreakerState,
        /// What would have opened it.
        cause: OpenCause,
    },
    /// A set of breakers has a new one, closed.
    #[non_exhaustive]
    Registered {
        /// The breaker's name.
        breaker: Arc<str>,
    },
    /// A set of breakers has one less.
    #[non_exhaustive]
    Removed {
        /// The breaker's name.
        breaker: Arc<str>,
        /// The state that it was in.
        state: BreakerState,
    },
}

/// What opened a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenCause {
    /// The failures of its trip condition.
    Failures,
    /// The slow calls of its trip condition.
    SlowCalls,
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
    /// The open time is over, and the settings ask for no probes.
    OpenTimeOver,
    /// Somebody reset it.
    Reset,
    /// It was given other settings.
    Reconfigured,
}

impl BreakerEvent {
    pub(crate) fn new(breaker: Arc<str>, moved: &Move) -> Self {
        let Move {
            from,
            to,
            cause,
            open_for,
        } = *moved;
        let opened_by = match cause {
            Cause::TripCondition(Met::SlowCalls) => OpenCause::SlowCalls,
            Cause::ProbeFailed => OpenCause::ProbeFailed,
            Cause::Command => OpenCause::Tripped,
            Cause::TripCondition(Met::Failures)
            | Cause::ProbesSucceeded
            | Cause::OpenTimeOver
            | Cause::Reconfigured => OpenCause::Failures,
        };
        if from == to && matches!(cause, Cause::TripCondition(_)) {
            return Self::ConditionMet {
                breaker,
                state: to,
                cause: opened_by,
            };
        }
        match to {
            BreakerState::Open => Self::Opened {
                breaker,
                from,
                cause: opened_by,
                open_for: open_for.unwrap_or_default(),
            },
            BreakerState::HalfOpen => Self::HalfOpened { breaker },
            BreakerState::Closed => {
                let cause = match cause {
                    Cause::Command => CloseCause::Reset,
                    Cause::OpenTimeOver => CloseCause::OpenTimeOver,
                    Cause::Reconfigured => CloseCause::Reconfigured,
                    Cause::TripCondition(_) | Cause::ProbeFailed | Cause::ProbesSucceeded => {
                        CloseCause::ProbesSucceeded
                    }
                };
                Self::Closed {
                    breaker,
                    from,
                    cause,
                }
            }
            BreakerState::ForcedOpen
            | BreakerState::ForcedClosed
            | BreakerState::Disabled
            | BreakerState::MetricsOnly => Self::Forced { breaker, from, to },
        }
    }

    pub(crate) fn registered(breaker: Arc<str>) -> Self {
        Self::Registered { breaker }
    }

    pub(crate) fn removed(breaker: Arc<str>, state: BreakerState) -> Self {
        Self::Removed { breaker, state }
    }

    /// Returns the name of the breaker.
    #[must_use]
    pub fn breaker(&self) -> &str {
        self.name()
    }

    fn name(&self) -> &Arc<str> {
        match self {
            Self::Opened { breaker, .. }
            | Self::HalfOpened { breaker }
            | Self::Closed { breaker, .. }
            | Self::Forced { breaker, .. }
            | Self::ConditionMet { breaker, .. }
            | Self::Registered { breaker }
            | Self::Removed { breaker, .. } => breaker,
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
            Self::ConditionMet { state, .. } | Self::Removed { state, .. } => *state,
            Self::Registered { .. } => BreakerState::Closed,
        }
    }

    /// Returns the state after; of a breaker that was removed, its last.
    #[must_use]
    pub fn to(&self) -> BreakerState {
        match self {
            Self::Opened { .. } => BreakerState::Open,
            Self::HalfOpened { .. } => BreakerState::HalfOpen,
            Self::Closed { .. } | Self::Registered { .. } => BreakerState::Closed,
            Self::Forced { to, .. } => *to,
            Self::ConditionMet { state, .. } | Self::Removed { state, .. } => *state,
        }
    }
}

/// As in a timeline, without the breaker's name.
impl fmt::Display for BreakerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConditionMet { state, .. } => write!(f, "trip condition met while {state}"),
            Self::Registered { .. } => f.write_str("registered"),
            Self::Removed { state, .. } => write!(f, "removed while {state}"),
            moved => write!(f, "{} -> {}", moved.from(), moved.to()),
        }
    }
}

/// Writes an event to the log.
pub(crate) fn log(event: &BreakerEvent) {
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
        BreakerEvent::ConditionMet {
            state: BreakerState::MetricsOnly,
            cause,
            ..
        } => {
            tracing::warn!(breaker.name = name, ?cause, "breaker would have opened");
        }
        BreakerEvent::ConditionMet { cause, .. } => {
            tracing::debug!(
                breaker.name = name,
                ?cause,
                "breaker hears of more while open"
            );
        }
        BreakerEvent::Registered { .. } => {
            tracing::info!(breaker.name = name, "breaker registered");
        }
        BreakerEvent::Removed { .. } => {
            tracing::info!(breaker.name = name, from, "breaker removed");
        }
    }
}

/// Counts a move, or a trip condition that was met without one.
pub(crate) fn count(name: &Arc<str>, event: &BreakerEvent) {
    match event {
        BreakerEvent::ConditionMet { state, .. } => {
            metrics::counter!("perennial.breaker.condition_met", "breaker.name" => Arc::clone(name), "breaker.state" => state.as_str())
                .increment(1);
        }
        BreakerEvent::Registered { .. } | BreakerEvent::Removed { .. } => {}
        moved => {
            metrics::counter!("perennial.breaker.transitions", "breaker.name" => Arc::clone(name), "breaker.state" => moved.to().as_str())
                .increment(1);
        }
    }
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
    for (metric, total) in [
        ("perennial.breaker.late", totals.late),
        ("perennial.breaker.slow", totals.slow),
        ("perennial.breaker.injected", totals.injected),
        ("perennial.breaker.reported", totals.reported),
    ] {
        metrics::counter!(metric, "breaker.name" => Arc::clone(name)).absolute(total);
    }
}

/// Leaves no state set of a breaker that is no more.
pub(crate) fn gone(name: &Arc<str>) {
    states(name, None);
}

/// Writes every state, so that no state stays set when the breaker has left it.
pub(crate) fn state(name: &Arc<str>, present: BreakerState) {
    states(name, Some(present));
}

fn states(name: &Arc<str>, present: Option<BreakerState>) {
    for state in BreakerState::ALL {
        metrics::gauge!(
            "perennial.breaker.state",
            "breaker.name" => Arc::clone(name),
            "breaker.state" => state.as_str()
        )
        .set(if Some(state) == present { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests;
