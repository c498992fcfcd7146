use perennial_breaker::Breakers;
use perennial_lifecycle::{ActorPath, EventKind, Scope};
use perennial_monitor::{Alert, AlertEvent, PerformanceMonitor};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::keeper::TreeEnd;

/// Enters breaker moves and performance alerts into the tree's timeline, until the tree ends.
pub(crate) fn bridge_events(
    scope: &Scope,
    breakers: &Breakers,
    performance: &PerformanceMonitor,
    mut end: watch::Receiver<Option<TreeEnd>>,
) {
    let scope = scope.clone();
    let mut moves = breakers.events();
    let mut alerts = performance.subscribe();
    tokio::spawn(async move {
        let root = scope.root().path().clone();
        let breakers = root.child("breakers");
        let monitor = root.child("monitors").child("performance_monitor");
        loop {
            tokio::select! {
                moved = moves.recv() => match moved {
                    Ok(moved) => note(&scope, &breakers.child(moved.breaker()), "breaker", &moved.to_string()),
                    Err(RecvError::Lagged(missed)) => {
                        note(&scope, &breakers, "breaker", &format!("{missed} moves were not noted"));
                    }
                    Err(RecvError::Closed) => return,
                },
                alert = alerts.next() => match alert {
                    Some(AlertEvent::Raised(alert)) => {
                        note(&scope, &monitor, "alert", &format!("raised: {}", about(&alert)));
                    }
                    Some(AlertEvent::Cleared(alert)) => {
                        note(&scope, &monitor, "alert", &format!("cleared: {}", about(&alert)));
                    }
                    Some(_) => {}
                    None => return,
                },
                // Closed when the keeper is gone: then nothing more will happen.
                _ = end.wait_for(Option::is_some) => return,
            }
        }
    });
}

fn note(scope: &Scope, path: &ActorPath, source: &'static str, text: &str) {
    let text = text.into();
    scope.events().emit(path, EventKind::Noted { source, text });
}

fn about(alert: &Alert) -> String {
    format!(
        "{} of {} is {:.2}, threshold {}",
        alert.rule, alert.service, alert.value, alert.threshold
    )
}
