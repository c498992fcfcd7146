//! The only place of this crate that emits events, tracing and metrics.

use std::sync::Arc;

use std::time::Duration;

use perennial_lifecycle::{
    ChildSpec, EventKind, ExitReason, Incarnation, Node, ReportContext, Scope, WallTime, shield,
};
use tracing::level_filters::LevelFilter;

/// The span of one restart, its own root: what led to the crash is another story.
pub(crate) fn restart_span(
    supervisor: &Node,
    child: &ChildSpec,
    reason: &ExitReason,
) -> tracing::Span {
    tracing::info_span!(
        parent: None, "supervisor.restart",
        actor.name = %supervisor.path(), child.id = &**child.id(), exit.reason = %reason,
    )
}

/// Says whether anybody may want to read of a restart.
pub(crate) fn is_logged() -> bool {
    LevelFilter::current() >= LevelFilter::WARN
}

pub(crate) fn started(scope: &Scope, node: &Node, incarnation: u64) {
    shield(|| tracing::info!(actor.name = %node.path(), incarnation, "started"));
    scope
        .events()
        .emit(node.path(), EventKind::Started { incarnation });
}

/// Tells of a restart that the place has counted.
pub(crate) fn restarted(scope: &Scope, node: &Node, incarnation: u64) {
    let restarts = node.restarts();
    shield(
        || tracing::warn!(actor.name = %node.path(), incarnation, restart.count = restarts, "restarted"),
    );
    shield(|| metrics::counter!("perennial.supervisor.restart").increment(1));
    scope.events().emit(
        node.path(),
        EventKind::Restarted {
            incarnation,
            restarts,
        },
    );
}

pub(crate) fn ignored(scope: &Scope, node: &Node, incarnation: u64) {
    shield(|| tracing::info!(actor.name = %node.path(), "start ignored"));
    scope
        .events()
        .emit(node.path(), EventKind::Ignored { incarnation });
}

pub(crate) fn start_failed(scope: &Scope, node: &Node, incarnation: u64, reason: &ExitReason) {
    node.note_failed_start(incarnation, reason);
    shield(|| tracing::warn!(actor.name = %node.path(), exit.reason = %reason, "start failed"));
    shield(|| metrics::counter!("perennial.supervisor.start_failure").increment(1));
    scope.events().emit(
        node.path(),
        EventKind::StartFailed {
            incarnation,
            reason: reason.clone(),
        },
    );
}

/// Reports what OTP's supervisor would log.
pub(crate) fn report(
    scope: &Scope,
    supervisor: &Node,
    context: ReportContext,
    child: &Node,
    reason: &ExitReason,
) {
    let child = child.path();
    if context == ReportContext::Shutdown {
        shield(|| {
            tracing::error!(
                actor.name = %supervisor.path(), child.id = child.id(), exit.reason = %reason,
                "restart intensity exceeded"
            )
        });
    } else {
        shield(|| {
            tracing::warn!(
                actor.name = %supervisor.path(), child.id = child.id(), exit.reason = %reason,
                "{context}"
            )
        });
    }
    scope.events().emit(
        supervisor.path(),
        EventKind::Report {
            context,
            child: child.clone(),
            reason: reason.clone(),
        },
    );
}

/// Reports that a child ended by itself; the time is that of the end.
pub(crate) fn child_terminated(
    scope: &Scope,
    supervisor: &Node,
    child: &Node,
    reason: &ExitReason,
    at: WallTime,
) {
    let child = child.path();
    let context = ReportContext::ChildTerminated;
    shield(|| {
        tracing::warn!(
            actor.name = %supervisor.path(), child.id = child.id(), exit.reason = %reason, "{context}"
        )
    });
    let report = EventKind::Report {
        context,
        child: child.clone(),
        reason: reason.clone(),
    };
    scope.events().emit_at(supervisor.path(), report, at);
}

/// Reports together what many children did that were stopped at once.
pub(crate) fn shutdown_errors(
    scope: &Scope,
    supervisor: &Node,
    child: &Arc<str>,
    reason: &ExitReason,
    count: usize,
) {
    shield(|| {
        tracing::warn!(
            actor.name = %supervisor.path(), child.id = %child, exit.reason = %reason, child.count = count,
            "{}", ReportContext::ShutdownError
        )
    });
    scope.events().emit(
        supervisor.path(),
        EventKind::ShutdownErrors {
            child: Arc::clone(child),
            reason: reason.clone(),
            count,
        },
    );
}

pub(crate) fn delayed(scope: &Scope, node: &Node, attempt: u32, delay: Duration) {
    shield(
        || tracing::warn!(actor.name = %node.path(), restart.attempt = attempt, ?delay, "restart put off"),
    );
    scope
        .events()
        .emit(node.path(), EventKind::RestartDelayed { attempt, delay });
}

pub(crate) fn quarantined(scope: &Scope, node: &Node, attempt: u32, delay: Duration) {
    shield(
        || tracing::error!(actor.name = %node.path(), restart.attempt = attempt, ?delay, "quarantined"),
    );
    shield(|| metrics::counter!("perennial.supervisor.quarantine").increment(1));
    scope
        .events()
        .emit(node.path(), EventKind::Quarantined { attempt, delay });
}

pub(crate) fn stuck(scope: &Scope, node: &Node, run: &Incarnation, age: Duration) {
    let message = run.message_type().name;
    shield(|| tracing::error!(actor.name = %node.path(), message, ?age, "handler is stuck"));
    shield(|| metrics::counter!("perennial.supervisor.stuck").increment(1));
    scope.events().emit(
        node.path(),
        EventKind::Stuck {
            incarnation: run.number(),
            message,
            age,
        },
    );
}

/// The event itself comes from the node, which knows whether the run ended at that moment.
pub(crate) fn detached(node: &Node) {
    shield(|| tracing::error!(actor.name = %node.path(), "does not yield to a kill; left behind"));
    shield(|| metrics::counter!("perennial.supervisor.detached").increment(1));
}
