use std::{sync::Arc, time::Duration};

use perennial_lifecycle::ChildSpec;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use super::{
    Alert, AlertEvent, AlertRule, Outcome, PerformanceConfig, PerformanceConfigError,
    ServicePerformance, actor::PerformanceActor, cell::PerformanceCell, config::check_names,
    series::Series,
};
use crate::{duration::nanos, sync::lock};

/// The performance monitor: what each service did in the last minute, hour and day, and whether that is well.
///
/// The handle is cheap to clone, and all clones share one cell. Recording and reading go to that cell and need no actor;
/// the actor of [`child_spec`](Self::child_spec) judges the alert rules and takes the baselines. Figures, baselines and
/// raised alerts survive its restarts.
///
/// A service takes up to 570 KiB, all of it when it is first seen, and there are at most
/// [`max_services`](PerformanceConfig::max_services) of them: further ones are counted together as `(others)`. A service
/// that recorded nothing for a day, and has no [`Recorder`] left, is forgotten.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_monitor::{Outcome, PerformanceConfig, PerformanceMonitor};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let monitor = PerformanceMonitor::new(PerformanceConfig::default());
/// let database = monitor.recorder("database");
/// database.record(Outcome::Success, Duration::from_millis(2));
/// database.record(Outcome::Failure, Duration::from_millis(4));
///
/// let minute = monitor.report("database").unwrap().minute;
/// assert_eq!((minute.count, minute.errors), (2, 1));
/// assert_eq!(minute.latency.unwrap().avg_us, 3_000.0);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct PerformanceMonitor {
    cell: Arc<PerformanceCell>,
}

impl PerformanceMonitor {
    /// Prepares a monitor that has seen nothing.
    pub fn new(config: PerformanceConfig) -> Self {
        Self {
            cell: Arc::new(PerformanceCell::new(config)),
        }
    }

    /// Resolves a service once, for recording without a look-up.
    pub fn recorder(&self, service: &str) -> Recorder {
        Recorder {
            series: self.cell.find_or_create(service),
            created: self.cell.created,
        }
    }

    /// Records one operation, looking its service up by name.
    pub fn record(&self, service: &str, outcome: Outcome, latency: Duration) {
        let series = self.cell.find_or_create(service);
        let now = self.cell.now();
        series.record(now, nanos(latency), outcome, || now);
    }

    /// Tells what is known about the service of exactly this name; `None` if it was never seen.
    pub fn report(&self, service: &str) -> Option<ServicePerformance> {
        let series = self.cell.find(service)?;
        Some(self.cell.report(&series))
    }

    /// Tells what is known about every service, by name.
    pub fn reports(&self) -> Vec<ServicePerformance> {
        let all = self.cell.all();
        all.iter().map(|series| self.cell.report(series)).collect()
    }

    /// Tells the alerts that are raised, the most serious first, then the oldest.
    pub fn alerts(&self) -> Vec<Alert> {
        lock(&self.cell.alerts).list(|_| true)
    }

    /// Subscribes to what becomes of alerts from now on.
    pub fn subscribe(&self) -> AlertEvents {
        AlertEvents {
            events: self.cell.events.subscribe(),
        }
    }

    /// Tells the alert rules in force.
    pub fn rules(&self) -> Vec<AlertRule> {
        lock(&self.cell.alerts).rules().to_vec()
    }

    /// Replaces the alert rules; alerts of rules that are gone or changed are cleared.
    ///
    /// # Errors
    ///
    /// [`PerformanceConfigError::SameName`] if two rules have one name; the rules in force then stay.
    pub fn set_rules(&self, rules: Vec<AlertRule>) -> Result<(), PerformanceConfigError> {
        check_names(&rules)?;
        self.cell.change_alerts(|book| book.set_rules(rules));
        Ok(())
    }

    /// Tells the settings.
    pub fn config(&self) -> &PerformanceConfig {
        &self.cell.config
    }

    /// Describes the monitor's actor, `performance_monitor`, to a supervisor.
    pub fn child_spec(&self) -> ChildSpec {
        let cell = Arc::clone(&self.cell);
        ChildSpec::worker("performance_monitor", move || {
            (PerformanceActor, Arc::clone(&cell))
        })
    }

    #[cfg(test)]
    pub(crate) fn cell(&self) -> Arc<PerformanceCell> {
        Arc::clone(&self.cell)
    }
}

impl Default for PerformanceMonitor {
    fn default() -> Self {
        Self::new(PerformanceConfig::default())
    }
}

/// Records the operations of one service.
///
/// Recording takes one lock, which only threads of the same shard and readers share, for the time of a few additions; it
/// never allocates and never waits for the actor.
#[derive(Debug, Clone)]
pub struct Recorder {
    series: Arc<Series>,
    created: Instant,
}

impl Recorder {
    /// The service under which is recorded.
    pub fn service(&self) -> &str {
        &self.series.name
    }

    /// Records an operation that ends now.
    pub fn record(&self, outcome: Outcome, latency: Duration) {
        self.record_at(Instant::now(), outcome, latency);
    }

    /// Records an operation that ended at `now`, for a caller that has read the clock. One that is still to come is taken
    /// for the present.
    pub fn record_at(&self, now: Instant, outcome: Outcome, latency: Duration) {
        let at = |moment: Instant| nanos(moment.saturating_duration_since(self.created));
        let present = || at(Instant::now());
        self.series
            .record(at(now), nanos(latency), outcome, present);
    }
}

/// What becomes of alerts, as it happens.
#[derive(Debug)]
pub struct AlertEvents {
    events: broadcast::Receiver<AlertEvent>,
}

impl AlertEvents {
    /// Waits for the next event; `None` when the monitor is gone.
    ///
    /// A subscriber that falls behind by more than 256 events misses the oldest; [`PerformanceMonitor::alerts`] tells
    /// what is raised.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<AlertEvent> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Takes the next event if there is one.
    pub fn try_next(&mut self) -> Option<AlertEvent> {
        loop {
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
