//! The only place of this crate that emits tracing and metrics.

use perennial_lifecycle::{ActorName, shield};

use crate::{CallError, Refusal};

/// The span of one call, from sending to the answer.
pub(crate) fn call_span(name: &ActorName) -> tracing::Span {
    tracing::debug_span!("actor.call", actor.name = %name)
}

pub(crate) fn refused(refusal: &Refusal) {
    let kind = match refusal {
        Refusal::Unknown { .. } => "unknown",
        Refusal::NotRunning { .. } => "not_running",
        Refusal::Stopped { .. } => "stopped",
        Refusal::NoMember { .. } => "no_member",
        Refusal::OtherTree { .. } => "other_tree",
        Refusal::Unavailable { .. } => "unavailable",
        Refusal::RateLimited { .. } => "rate_limited",
        Refusal::Full { .. } => "full",
        Refusal::ShuttingDown { .. } => "shutting_down",
        Refusal::Expired { .. } => "expired",
        Refusal::WouldDeadlock { .. } => "would_deadlock",
        Refusal::WrongType { .. } => "wrong_type",
    };
    shield(|| tracing::debug!(error.type = kind, "message refused: {refusal}"));
    shield(|| metrics::counter!("perennial.message.refused", "error.type" => kind).increment(1));
}

pub(crate) fn call_failed<M>(error: &CallError<M>) {
    let kind = match error {
        CallError::Refused(error) => return refused(&error.refusal),
        CallError::TimedOut { .. } => "timed_out",
        CallError::CalleeFailed { .. } => "callee_failed",
        CallError::Dropped { .. } => "dropped",
        CallError::NoReply { .. } => "no_reply",
    };
    shield(|| tracing::debug!(error.type = kind, "call failed: {error}"));
    shield(|| metrics::counter!("perennial.call.failed", "error.type" => kind).increment(1));
}

pub(crate) fn size(names: usize) {
    // A gauge is a float; names beyond 2^53 are not a concern.
    #[allow(clippy::cast_precision_loss, reason = "a count of names")]
    shield(|| metrics::gauge!("perennial.registry.name").set(names as f64));
}
