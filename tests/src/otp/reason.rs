use perennial_lifecycle::{Cause, ChildSpecError, ExitReason};
use perennial_supervisor::{FailedToStartChild, SupervisorSpecError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stage::BadSupervisor;

/// An exit reason as the recordings write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reason(Value);

impl Reason {
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_str()
    }

    /// Returns the message when the reason is a panic.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.0.get("panic")?.as_str()
    }

    pub(crate) fn to_exit(&self) -> ExitReason {
        if let Some(message) = self.panic() {
            return ExitReason::Panicked {
                message: message.into(),
                location: None,
            };
        }
        if let Some(detail) = self.0.get("shutdown") {
            return ExitReason::ShutdownWith(cause(detail));
        }
        match self.text() {
            Some("normal") => ExitReason::Normal,
            Some("shutdown") => ExitReason::Shutdown,
            Some("killed") => ExitReason::Killed,
            _ => ExitReason::Failed(cause(&self.0)),
        }
    }
}

/// A cause that is more than a text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Detail(Value);

fn cause(value: &Value) -> Cause {
    match value.as_str() {
        Some(text) => Cause::new(text),
        None => Cause::new(Detail(value.clone())),
    }
}

fn cause_to_json(cause: &Cause) -> Value {
    let error = cause.get();
    if let Some(failed) = error.downcast_ref::<FailedToStartChild>() {
        failed_to_start(failed)
    } else if let Some(error) = error.downcast_ref::<BadSupervisor>() {
        bad_start(error)
    } else if let Some(Detail(value)) = error.downcast_ref::<Detail>() {
        value.clone()
    } else {
        json!(error.to_string())
    }
}

/// Writes an exit reason as the recordings do.
pub(crate) fn to_json(reason: &ExitReason) -> Value {
    match reason {
        ExitReason::Normal => json!("normal"),
        ExitReason::Shutdown => json!("shutdown"),
        ExitReason::Killed => json!("killed"),
        ExitReason::Panicked { message, .. } => json!({ "panic": &**message }),
        ExitReason::ShutdownWith(cause) => json!({ "shutdown": cause_to_json(cause) }),
        ExitReason::Failed(cause) => cause_to_json(cause),
    }
}

fn failed_to_start(failed: &FailedToStartChild) -> Value {
    let reason = to_json(&failed.reason);
    json!({ "failed_to_start_child": { "id": &failed.id, "reason": reason } })
}

/// Writes why a supervisor refused its settings.
pub(crate) fn bad_start(error: &BadSupervisor) -> Value {
    match error {
        BadSupervisor::Spec(SupervisorSpecError::ZeroPeriod) => {
            json!({ "supervisor_data": { "invalid_period": 0 } })
        }
        BadSupervisor::Spec(error) => json!({ "start_spec": spec_error(error) }),
        BadSupervisor::Templates => json!("bad_start_spec"),
    }
}

/// Writes what is wrong with a child spec.
pub(crate) fn spec_error(error: &SupervisorSpecError) -> Value {
    match error {
        SupervisorSpecError::DuplicateChild { id } => json!({ "duplicate_child_name": id }),
        SupervisorSpecError::SignificantWithoutAutoShutdown { .. } => {
            json!({ "bad_combination": { "auto_shutdown": "never", "significant": true } })
        }
        SupervisorSpecError::Child(ChildSpecError::SignificantPermanent { .. }) => {
            json!({ "bad_combination": { "restart": "permanent", "significant": true } })
        }
        other => json!(other.to_string()),
    }
}
