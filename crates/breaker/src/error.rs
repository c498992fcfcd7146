//! What can be refused, and why.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::BreakerState;

/// The breaker refused the call, which has not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("circuit of `{breaker}` is {state}{}{}", on_purpose(*.injected), after(*.retry_after))]
pub struct CircuitOpen {
    /// The name of the breaker that refused.
    pub breaker: Arc<str>,
    /// What it was doing: open, half-open with every probe place taken, forced open, or closed if `injected`.
    pub state: BreakerState,
    /// How long until a call may be admitted as a probe.
    ///
    /// `None` if no time is known: the probes of a half-open breaker end when they end, and a breaker that was
    /// forced open stays so until it is told otherwise.
    pub retry_after: Option<Duration>,
    /// Whether the breaker would have admitted the call, had its settings not asked for
    /// [refusals on purpose](crate::BreakerConfigBuilder::injected_refusals).
    pub injected: bool,
}

fn on_purpose(injected: bool) -> &'static str {
    match injected {
        true => ", and refuses some calls on purpose",
        false => "",
    }
}

fn after(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(", retry after {wait:?}"))
}

impl CircuitOpen {
    /// Whether trying again later can succeed without somebody giving a command.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.state != BreakerState::ForcedOpen
    }
}

/// Why [`Breaker::call`](crate::Breaker::call) has no value to return.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The breaker refused; the operation has not run.
    #[error(transparent)]
    Refused(#[from] CircuitOpen),
    /// The operation ran and failed.
    #[error("the protected operation failed")]
    Failed(#[source] E),
}

impl<E> CallError<E> {
    /// Whether the breaker refused and may admit a later attempt.
    ///
    /// Whether a failed operation may be tried again only its own error can say.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_retryable())
    }
}

/// A breaker of this name is registered already, with its own settings and history.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("a breaker named `{name}` is registered already")]
pub struct DuplicateBreaker {
    /// The name that is taken.
    pub name: String,
}

/// A setting is outside of what a breaker can work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("`{field}` must be {expected}, not {given}")]
pub struct BreakerConfigError {
    /// The path of the setting, as in a configuration file: `trip.failure_rate.ratio`.
    pub field: String,
    /// What would be accepted.
    pub expected: &'static str,
    /// What was given.
    pub given: String,
}
