use std::{sync::Arc, time::Duration};

use perennial_lifecycle::ChildSpec;

use super::{
    HealthCheck, HealthConfig, Overall, QuickHealth, SystemHealth, actor::HealthActor,
    cell::HealthCell,
};
use crate::Pressure;

/// The health aggregator: asks every registered service, and joins the answers.
///
/// The handle is cheap to clone, and all clones share one cell. [`check`](Self::check) runs in the caller's task and
/// needs no actor. The actor of [`child_spec`](Self::child_spec) refreshes [`latest`](Self::latest) at its start and then
/// at every [`refresh_every`](HealthConfig::refresh_every); registrations and the latest report survive its restarts.
#[derive(Debug, Clone)]
pub struct HealthAggregator {
    cell: Arc<HealthCell>,
}

impl HealthAggregator {
    /// Prepares an aggregator without services.
    pub fn new(config: HealthConfig) -> Self {
        Self {
            cell: Arc::new(HealthCell::new(config)),
        }
    }

    /// Registers a service; one of the same name is replaced. Returns whether one was.
    pub fn register(&self, name: impl Into<String>, check: Box<dyn HealthCheck>) -> bool {
        self.cell.register(name.into(), check)
    }

    /// Removes a service. Returns whether it was there.
    pub fn unregister(&self, name: &str) -> bool {
        self.cell.unregister(name)
    }

    /// Tells the names of the registered services, sorted.
    pub fn services(&self) -> Vec<String> {
        self.cell.names()
    }

    /// Checks every service now, all at the same time, under one deadline.
    ///
    /// A service whose check panics or is not done at the [`timeout`](HealthConfig::timeout) is unhealthy, with that as
    /// its cause.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future aborts the checks that it started.
    pub async fn check(&self) -> SystemHealth {
        self.cell.check().await
    }

    /// Asks every service only whether it is there, without waiting.
    pub fn quick(&self) -> QuickHealth {
        self.cell.quick()
    }

    /// Tells the latest report of the actor; `None` before its first.
    pub fn latest(&self) -> Option<Arc<SystemHealth>> {
        let latest = self.cell.latest.borrow();
        latest.as_ref().map(|latest| Arc::clone(&latest.health))
    }

    /// Tells the age of the latest report; `None` before the first.
    pub fn latest_age(&self) -> Option<Duration> {
        let latest = self.cell.latest.borrow();
        latest.as_ref().map(|latest| latest.at.elapsed())
    }

    /// Waits for the actor's next report.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; a later call waits for a later report.
    pub async fn next_report(&self) -> Arc<SystemHealth> {
        let mut reports = self.cell.latest.subscribe();
        loop {
            // The sender lives in the cell that `self` holds, so the wait ends only with a report.
            let changed = reports.changed().await;
            let report = reports.borrow_and_update().clone();
            if let (Ok(()), Some(latest)) = (changed, report) {
                return latest.health;
            }
        }
    }

    /// Joins the latest report with the memory level; before the first report, the [`quick`](Self::quick) one.
    pub fn overall(&self, memory: Pressure) -> Overall {
        let status = match self.latest() {
            Some(health) => health.status,
            None => self.quick().status,
        };
        Overall::of(status, memory)
    }

    /// Tells the settings.
    pub fn config(&self) -> &HealthConfig {
        &self.cell.config
    }

    /// Describes the aggregator's actor, `health_aggregator`, to a supervisor.
    pub fn child_spec(&self) -> ChildSpec {
        let cell = Arc::clone(&self.cell);
        ChildSpec::worker("health_aggregator", move || {
            (HealthActor, Arc::clone(&cell))
        })
    }

    #[cfg(test)]
    pub(crate) fn cell(&self) -> Arc<HealthCell> {
        Arc::clone(&self.cell)
    }
}

impl Default for HealthAggregator {
    fn default() -> Self {
        Self::new(HealthConfig::default())
    }
}

#[cfg(test)]
mod tests;
