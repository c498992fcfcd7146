//! What the monitors tell: the only place that emits tracing and metrics.

use std::io;

use metrics::{counter, gauge, histogram};
use perennial_lifecycle::shield;
use tracing::{debug, info, warn};

use crate::{
    AlertEvent, CleanupOutcome, CleanupRecord, MemoryReading, Pressure, ServiceHealth, Severity,
    Status, SystemHealth, Trigger, WindowStats,
};

/// One thing worth telling.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    MemoryMeasured {
        reading: MemoryReading,
        level: Pressure,
    },
    PressureChanged {
        from: Pressure,
        to: Pressure,
    },
    ReadingFailed {
        error: &'a io::Error,
    },
    CleanupStarted {
        trigger: Trigger,
        level: Pressure,
    },
    CleanupSkipped {
        trigger: Trigger,
        strategies: usize,
    },
    CleanupEnded {
        record: &'a CleanupRecord,
    },
    ServiceMeasured {
        service: &'a str,
        stats: &'a WindowStats,
    },
    Alert(&'a AlertEvent),
    HealthChecked {
        health: &'a SystemHealth,
        before: Option<&'a SystemHealth>,
    },
}

pub(crate) fn emit(event: Event<'_>) {
    shield(|| tell(event));
}

fn tell(event: Event<'_>) {
    match event {
        Event::MemoryMeasured { reading, level } => memory_measured(reading, level),
        Event::PressureChanged { from, to } => pressure_changed(from, to),
        Event::ReadingFailed { error } => {
            counter!("perennial.memory.reading.failures").increment(1);
            warn!(
                error = error as &dyn std::error::Error,
                "memory could not be read"
            );
        }
        Event::CleanupStarted { trigger, level } => {
            debug!(
                memory.trigger = trigger.as_str(),
                memory.pressure = level.as_str(),
                "memory clean-up started"
            );
        }
        Event::CleanupSkipped {
            trigger,
            strategies: 0,
        } => {
            debug!(
                memory.trigger = trigger.as_str(),
                "no memory clean-up: no strategy is registered"
            );
        }
        Event::CleanupSkipped { trigger, .. } => {
            warn!(
                memory.trigger = trigger.as_str(),
                "no memory clean-up: every strategy still runs"
            );
        }
        Event::CleanupEnded { record } => cleanup_ended(record),
        Event::ServiceMeasured { service, stats } => service_measured(service, stats),
        Event::Alert(event) => alert(event),
        Event::HealthChecked { health, before } => health_checked(health, before),
    }
}

fn bit(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn memory_measured(reading: MemoryReading, level: Pressure) {
    gauge!("perennial.memory.usage").set(reading.used as f64);
    gauge!("perennial.memory.limit").set(reading.limit as f64);
    pressure_gauge(level);
    debug!(
        memory.used = reading.used,
        memory.limit = reading.limit,
        memory.pressure = level.as_str(),
        "memory measured"
    );
}

fn pressure_gauge(level: Pressure) {
    for state in Pressure::ALL {
        gauge!("perennial.memory.pressure", "state" => state.as_str()).set(bit(state == level));
    }
}

fn pressure_changed(from: Pressure, to: Pressure) {
    if from == to {
        return;
    }
    pressure_gauge(to);
    let (before, now) = (from.as_str(), to.as_str());
    if to > from && to >= Pressure::High {
        warn!(
            memory.pressure = now,
            memory.before = before,
            "memory pressure rose"
        );
    } else {
        info!(
            memory.pressure = now,
            memory.before = before,
            "memory pressure changed"
        );
    }
}

fn cleanup_ended(record: &CleanupRecord) {
    let trigger = record.trigger.as_str();
    histogram!("perennial.memory.cleanup.duration", "trigger" => trigger)
        .record(record.took.as_secs_f64());
    for (name, outcome) in &record.strategies {
        counter!(
            "perennial.memory.cleanup.runs",
            "strategy" => name.clone(),
            "trigger" => trigger,
            "outcome" => outcome.as_str(),
        )
        .increment(1);
        match outcome {
            CleanupOutcome::Freed(bytes) => debug!(
                memory.strategy = name.as_str(),
                memory.trigger = trigger,
                memory.freed = bytes,
                "memory clean-up done"
            ),
            outcome => warn!(
                memory.strategy = name.as_str(),
                memory.trigger = trigger,
                memory.outcome = ?outcome,
                "memory clean-up failed"
            ),
        }
    }
}

fn service_measured(service: &str, stats: &WindowStats) {
    let name = || service.to_owned();
    gauge!("perennial.service.throughput", "service" => name()).set(stats.throughput);
    // Without operations there is neither: a gauge that stayed where it was would claim one.
    let rate = stats.error_rate.unwrap_or(f64::NAN);
    gauge!("perennial.service.error_rate", "service" => name()).set(rate);
    let latency = |pick: fn(&crate::LatencyStats) -> f64| {
        stats
            .latency
            .as_ref()
            .map_or(f64::NAN, |us| pick(us) / 1_000_000.0)
    };
    for (quantile, seconds) in [
        ("0.5", latency(|us| us.p50_us)),
        ("0.95", latency(|us| us.p95_us)),
        ("0.99", latency(|us| us.p99_us)),
    ] {
        gauge!("perennial.service.latency", "service" => name(), "quantile" => quantile)
            .set(seconds);
    }
}

fn alert(event: &AlertEvent) {
    let (alert, raised) = match event {
        AlertEvent::Raised(alert) => (alert, true),
        AlertEvent::Cleared(alert) => (alert, false),
    };
    gauge!(
        "perennial.service.alert",
        "rule" => alert.rule.clone(),
        "service" => alert.service.clone(),
    )
    .set(bit(raised));
    let (rule, service) = (alert.rule.as_str(), alert.service.as_str());
    match (raised, alert.severity) {
        (true, Severity::Critical) => tracing::error!(
            alert.rule = rule,
            service.name = service,
            alert.value = alert.value,
            alert.threshold = alert.threshold,
            "alert raised"
        ),
        (true, Severity::Warning) => warn!(
            alert.rule = rule,
            service.name = service,
            alert.value = alert.value,
            alert.threshold = alert.threshold,
            "alert raised"
        ),
        (false, _) => info!(alert.rule = rule, service.name = service, "alert cleared"),
    }
}

fn health_checked(health: &SystemHealth, before: Option<&SystemHealth>) {
    gauge!("perennial.health.score").set(health.score);
    histogram!("perennial.health.check.duration").record(health.took.as_secs_f64());
    for state in Status::ALL {
        gauge!("perennial.health.status", "state" => state.as_str())
            .set(bit(state == health.status));
    }
    for service in &health.services {
        service_status_gauge(&service.name, Some(service.status));
        service_health_changed(
            service,
            before.and_then(|health| health.service(&service.name)),
        );
    }
    // One that was removed has no status: a gauge that stayed where it was would claim one.
    for service in before.iter().flat_map(|before| &before.services) {
        if health.service(&service.name).is_none() {
            service_status_gauge(&service.name, None);
        }
    }
    let was = before.map_or(Status::Healthy, |health| health.status);
    if was != health.status {
        let (now, before) = (health.status.as_str(), was.as_str());
        if health.status > was {
            warn!(
                health.status = now,
                health.before = before,
                "the system's health fell"
            );
        } else {
            info!(
                health.status = now,
                health.before = before,
                "the system's health rose"
            );
        }
    }
}

fn service_status_gauge(service: &str, status: Option<Status>) {
    for state in Status::ALL {
        gauge!(
            "perennial.health.service.status",
            "service" => service.to_owned(),
            "state" => state.as_str(),
        )
        .set(bit(status == Some(state)));
    }
}

fn service_health_changed(service: &ServiceHealth, before: Option<&ServiceHealth>) {
    let was = before.map_or(Status::Healthy, |before| before.status);
    let (name, now) = (service.name.as_str(), service.status.as_str());
    if service.status > was {
        warn!(
            service.name = name,
            health.status = now,
            health.causes = ?service.causes,
            "a service's health fell"
        );
    } else if service.status < was {
        info!(
            service.name = name,
            health.status = now,
            "a service's health rose"
        );
    }
}
