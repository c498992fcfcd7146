//! The only place of this crate that emits tracing, metrics and events of the tree.
//!
//! Values are not told, nor why one is refused, which may quote it: they may be secrets.

use std::time::Duration;

use perennial_lifecycle::{ActorPath, EventKind, Scope, shield};

use crate::machine::Skipped;
use crate::{ConfigChange, UpdateError};

/// Where the events of one config server go.
pub(crate) struct Events {
    pub(crate) scope: Scope,
    pub(crate) path: ActorPath,
}

impl Events {
    pub(crate) fn loaded(&self, settings: usize, version: u64) {
        shield(|| tracing::info!(config.version = version, settings, "configuration loaded"));
        gauge(version);
    }

    pub(crate) fn changed(&self, change: &ConfigChange) {
        let ConfigChange {
            path,
            version,
            user,
            ..
        } = change;
        shield(
            || tracing::info!(config.path = %path, config.version = version, user = %user, "setting changed"),
        );
        self.note(format!("{path} changed by {user} in version {version}"));
        gauge(*version);
    }

    pub(crate) fn skipped(&self, skipped: &Skipped) {
        match skipped {
            Skipped::Invalid { path } => {
                shield(
                    || tracing::warn!(config.path = %path, "stored value is refused, default holds"),
                );
                self.note(format!("{path}: stored value is refused, default holds"));
            }
            Skipped::Unknown { path } => {
                shield(
                    || tracing::debug!(config.path = %path, "stored setting is not in the schema"),
                );
            }
        }
    }

    fn note(&self, text: String) {
        let kind = EventKind::Noted {
            source: "config",
            text: text.into(),
        };
        self.scope.events().emit(&self.path, kind);
    }
}

/// Tells how an update ended, from its caller's point of view.
pub(crate) fn updated(result: &Result<ConfigChange, UpdateError>, took: Duration) {
    let outcome = result.as_ref().map_or_else(class, |_| "none");
    if let Err(error) = result {
        not_changed(error);
    }
    shield(|| {
        metrics::histogram!("perennial.config.update.duration", "error.type" => outcome)
            .record(took);
    });
}

/// Tells of an update that was refused before it began.
pub(crate) fn refused(error: &UpdateError) {
    let class = class(error);
    not_changed(error);
    shield(|| {
        metrics::counter!("perennial.config.update.refused", "error.type" => class).increment(1);
    });
}

fn not_changed(error: &UpdateError) {
    let class = class(error);
    match error {
        UpdateError::Invalid { path, .. } => {
            shield(
                || tracing::debug!(error.type = class, config.path = %path, "setting not changed"),
            );
        }
        _ => shield(|| tracing::debug!(error.type = class, "setting not changed: {error}")),
    }
}

fn class(error: &UpdateError) -> &'static str {
    match error {
        UpdateError::UnknownPath(_) => "unknown_path",
        UpdateError::Invalid { .. } => "invalid",
        UpdateError::Store { .. } => "store",
        UpdateError::ServerDown { .. } => "server_down",
        UpdateError::TimedOut { .. } => "timed_out",
    }
}

fn gauge(version: u64) {
    #[allow(
        clippy::cast_precision_loss,
        reason = "versions beyond 2^53 are not in reach"
    )]
    shield(|| metrics::gauge!("perennial.config.version").set(version as f64));
}
