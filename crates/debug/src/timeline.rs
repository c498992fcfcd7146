use std::fmt;

use perennial_lifecycle::{ActorPath, Event, EventKind, ExitReason, ReportContext};
use serde::Serialize;

use crate::time::epoch_ms;

/// One event of a tree, as people and programs outside read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TimelineEntry {
    /// Counts up by one per event of the tree.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whom it is about.
    pub path: ActorPath,
    /// What happened, with all causes.
    pub text: String,
    /// How much it matters.
    pub level: Level,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A life changed state.
    Info,
    /// Something went wrong and was dealt with.
    Warn,
    /// Someone must act.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

impl From<&Event> for TimelineEntry {
    fn from(event: &Event) -> Self {
        let mut text = event.kind.to_string();
        // The first link of the chain is the reason's own text, which is there already.
        for cause in reason(&event.kind).iter().flat_map(|it| it.chain()).skip(1) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        Self {
            seq: event.seq,
            at_ms: epoch_ms(event.at),
            path: event.path.clone(),
            text,
            level: level(&event.kind),
        }
    }
}

fn reason(kind: &EventKind) -> Option<&ExitReason> {
    match kind {
        EventKind::StartFailed { reason, .. }
        | EventKind::Exited { reason, .. }
        | EventKind::Detached { reason, .. }
        | EventKind::Report { reason, .. } => Some(reason),
        _ => None,
    }
}

fn level(kind: &EventKind) -> Level {
    match kind {
        EventKind::Report {
            context: ReportContext::Shutdown,
            ..
        }
        | EventKind::Quarantined { .. }
        | EventKind::Stuck { .. }
        | EventKind::Detached { .. } => Level::Error,
        EventKind::StartFailed { .. }
        | EventKind::Restarted { .. }
        | EventKind::RestartDelayed { .. }
        | EventKind::SetAside { .. }
        | EventKind::Report { .. } => Level::Warn,
        EventKind::Exited { reason, .. } if !reason.is_clean() => Level::Warn,
        _ => Level::Info,
    }
}

#[cfg(test)]
mod tests {
    use perennial_lifecycle::Scope;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::fmt::Error);

    fn entry(kind: EventKind) -> TimelineEntry {
        let scope = Scope::new("t");
        scope.events().emit(scope.root().path(), kind);
        TimelineEntry::from(&scope.events().recent()[0])
    }

    #[test]
    fn an_exit_tells_its_whole_chain_once() {
        let entry = entry(EventKind::Exited {
            incarnation: 2,
            reason: ExitReason::failed(Outer(std::fmt::Error)),
        });
        let cause = std::fmt::Error.to_string();
        assert_eq!(entry.text, format!("exited #2: failed: outer: {cause}"));
        assert_eq!(entry.level, Level::Warn);
    }

    #[test]
    fn a_clean_exit_is_no_warning_and_a_supervisor_that_gives_up_is_an_error() {
        let clean = EventKind::Exited {
            incarnation: 1,
            reason: ExitReason::Shutdown,
        };
        assert_eq!(entry(clean).level, Level::Info);
        let gives_up = EventKind::Report {
            context: ReportContext::Shutdown,
            child: perennial_lifecycle::ActorPath::root("t").child("w"),
            reason: ExitReason::failed("too often"),
        };
        assert_eq!(entry(gives_up).level, Level::Error);
    }

    #[test]
    fn a_message_that_is_set_aside_is_a_warning() {
        let entry = entry(EventKind::SetAside {
            incarnation: 3,
            message: "Order",
            crashes: 3,
            dead_letter: 7,
        });
        assert_eq!(
            entry.text,
            "#3 ended with Order, in hand at 3 crashes: set aside as dead letter 7"
        );
        assert_eq!(entry.level, Level::Warn);
    }
}
