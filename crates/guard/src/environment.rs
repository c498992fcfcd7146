use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use perennial_breaker::Breakers;
use perennial_lifecycle::{Stopwatch, shield};
use perennial_pool::Pools;
use perennial_rate_limit::RateGate;

use crate::event::Meter;
use crate::ledger::Ledger;
use crate::{GuardBuilder, GuardStatus, NoPool, OperationOutcome};

/// Learns the outcome of each operation of one service, once.
///
/// Called in the caller's task at each end, so it must not wait. A panic in it ends there, and not the operation.
pub trait Recorder: Send + Sync + 'static {
    /// Records an operation that was begun, or one that was not (with the time until then).
    fn record(&self, outcome: OperationOutcome, took: Duration);
}

type Recorders = dyn Fn(&str) -> Arc<dyn Recorder> + Send + Sync;
type Critical = dyn Fn() -> bool + Send + Sync;

/// What the guards of one tree share; cheap to clone.
#[derive(Clone)]
pub struct Environment(Arc<Inner>);

struct Inner {
    parts: EnvironmentBuilder,
    services: Mutex<HashMap<Arc<str>, Arc<Service>>>,
}

/// What is looked up once per service.
pub(crate) struct Service {
    pub(crate) name: Arc<str>,
    recorder: Option<Arc<dyn Recorder>>,
    ledger: Ledger,
    meter: OnceLock<Meter>,
    pub(crate) stopwatch: Stopwatch,
}

impl Service {
    pub(crate) fn new(name: Arc<str>, recorder: Option<Arc<dyn Recorder>>) -> Self {
        Self {
            name,
            recorder,
            ledger: Ledger::new(),
            meter: OnceLock::new(),
            stopwatch: Stopwatch::new(),
        }
    }

    /// The one place where the end of a call is recorded.
    pub(crate) fn record(&self, outcome: OperationOutcome, took: Duration, slow: bool) {
        self.ledger.record(outcome, took, slow);
        shield(|| {
            let meter = self.meter();
            meter.ended(&self.name, outcome, took);
            if slow {
                meter.slow(&self.name, took);
            }
        });
        if let Some(recorder) = &self.recorder {
            shield(|| recorder.record(outcome, took));
        }
    }

    pub(crate) fn retried(&self, attempt: u32, outcome: OperationOutcome, pause: Duration) {
        let error = outcome.error_type();
        shield(|| self.meter().retried(&self.name, attempt, error, pause));
    }

    pub(crate) fn status(&self) -> GuardStatus {
        GuardStatus::new(Arc::clone(&self.name), self.ledger.sums())
    }

    fn meter(&self) -> &Meter {
        // Made at first use, by when a host has installed its recorder.
        self.meter.get_or_init(|| Meter::new(&self.name))
    }
}

/// Collects the parts of an [`Environment`].
#[derive(Default)]
#[must_use]
pub struct EnvironmentBuilder {
    pub(crate) gate: Option<RateGate>,
    pub(crate) breakers: Option<Breakers>,
    pub(crate) pools: Option<Pools>,
    pub(crate) critical: Option<Arc<Critical>>,
    pub(crate) recorders: Option<Arc<Recorders>>,
}

impl EnvironmentBuilder {
    /// Sets the gate at which quotas are spent.
    pub fn gate(mut self, gate: RateGate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Sets the breakers, found by service name.
    pub fn breakers(mut self, breakers: Breakers) -> Self {
        self.breakers = Some(breakers);
        self
    }

    /// Sets the pools, found by name and worker type.
    pub fn pools(mut self, pools: Pools) -> Self {
        self.pools = Some(pools);
        self
    }

    /// Sets the question whether memory pressure is critical.
    pub fn critical_memory(mut self, critical: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.critical = Some(Arc::new(critical));
        self
    }

    /// Sets who learns the outcomes of each service.
    pub fn recorders(
        mut self,
        recorders: impl Fn(&str) -> Arc<dyn Recorder> + Send + Sync + 'static,
    ) -> Self {
        self.recorders = Some(Arc::new(recorders));
        self
    }

    /// Makes the environment.
    #[must_use]
    pub fn build(self) -> Environment {
        Environment(Arc::new(Inner {
            parts: self,
            services: Mutex::default(),
        }))
    }
}

impl Environment {
    /// Collects the parts of an environment; a part that is left out is a stage that is skipped.
    pub fn builder() -> EnvironmentBuilder {
        EnvironmentBuilder::default()
    }

    /// Begins a guard for a service, wired to everything here.
    pub fn guard(&self, service: &str) -> GuardBuilder<NoPool, ()> {
        GuardBuilder::in_environment(service, self.clone())
    }

    /// Returns how the operations of every service that was guarded here have ended so far, by name.
    #[must_use]
    pub fn status(&self) -> Vec<GuardStatus> {
        let mut all: Vec<_> = self.services().values().map(|it| it.status()).collect();
        all.sort_by(|a, b| a.service.cmp(&b.service));
        all
    }

    pub(crate) fn parts(&self) -> &EnvironmentBuilder {
        &self.0.parts
    }

    /// Returns what is known of a service; made at its first use.
    ///
    /// Not its breaker, which may be removed and registered again: every guard asks the set for the present one.
    pub(crate) fn service(&self, name: &str) -> Arc<Service> {
        if let Some(service) = self.services().get(name) {
            return Arc::clone(service);
        }
        // Without the lock: it is the host's code that makes a recorder.
        let recorder = self.0.parts.recorders.as_ref().map(|make| make(name));
        let name: Arc<str> = name.into();
        let service = Arc::new(Service::new(Arc::clone(&name), recorder));
        // And that drops one: another thread may have been first, and then this one goes after the lock.
        let ours = Arc::clone(&service);
        Arc::clone(self.services().entry(name).or_insert(ours))
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Service>>> {
        let services = self.0.services.lock();
        services.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl fmt::Debug for EnvironmentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvironmentBuilder").finish_non_exhaustive()
    }
}
