//! The only place of this crate that emits events and tracing.

use perennial_lifecycle::{ActorPath, EventKind, Scope, shield};

use crate::CommandError;
use crate::command::Command;

/// Whose voice an operator command has in the event log.
const OPERATOR: &str = "operator";

/// Logs a command that was taken, before it is carried out.
pub(crate) fn taken(scope: &Scope, command: &Command, path: &str) {
    let text = command.describe(path);
    shield(
        || tracing::info!(actor.name = %path, command = command.name(), "operator command: {text}"),
    );
    note(scope, path, text);
}

/// Logs the command's failure.
pub(crate) fn failed(scope: &Scope, command: &Command, path: &str, error: &CommandError) {
    let mut text = format!("{} failed: {error}", command.describe(path));
    shield(
        || tracing::warn!(actor.name = %path, command = command.name(), error = %error, "operator command failed"),
    );
    if let CommandError::Replay { source, .. } = error {
        // Other errors say it all by themselves.
        text.push_str(&format!(": {source}"));
    }
    note(scope, path, text);
}

fn note(scope: &Scope, path: &str, text: String) {
    let node = scope.root().find(path);
    // What concerns nobody concerns the tree.
    let about: &ActorPath = node.as_ref().unwrap_or(scope.root()).path();
    scope.events().emit(
        about,
        EventKind::Noted {
            source: OPERATOR,
            text: text.into(),
        },
    );
}
