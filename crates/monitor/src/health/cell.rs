use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::ready,
};

use perennial_lifecycle::catch_panic;
use tokio::{sync::watch, time::Instant};

use super::{
    Check, CheckReport, HealthCheck, HealthConfig, QuickHealth, ServiceHealth, SystemHealth,
    machine,
};
use crate::{
    event::{Event, emit},
    sync::{Job, Overdue, lock, run_all},
};

/// All that outlives the actor.
pub(crate) struct HealthCell {
    pub(crate) config: HealthConfig,
    pub(crate) services: Mutex<Vec<Arc<Service>>>,
    pub(crate) latest: watch::Sender<Option<Latest>>,
}

/// A report and when it was finished.
#[derive(Debug, Clone)]
pub(crate) struct Latest {
    pub(crate) at: Instant,
    pub(crate) health: Arc<SystemHealth>,
}

pub(crate) struct Service {
    name: String,
    check: Box<dyn HealthCheck>,
    /// Of several checks at the same time one is at work at a time: so no more than one can block its thread.
    turn: tokio::sync::Mutex<()>,
    overdue: Overdue,
}

impl HealthCell {
    pub(crate) fn new(config: HealthConfig) -> Self {
        Self {
            config,
            services: Mutex::default(),
            latest: watch::Sender::new(None),
        }
    }

    pub(crate) fn register(&self, name: String, check: Box<dyn HealthCheck>) -> bool {
        let service = Arc::new(Service {
            name,
            check,
            turn: tokio::sync::Mutex::default(),
            overdue: Overdue::default(),
        });
        let mut services = lock(&self.services);
        // Kept in order, so that two reports compare line by line.
        let replaced = match find(&services, &service.name) {
            Ok(at) => Some(std::mem::replace(&mut services[at], service)),
            Err(at) => {
                services.insert(at, service);
                None
            }
        };
        // Before what was replaced, which the host's code drops.
        drop(services);
        replaced.is_some()
    }

    pub(crate) fn unregister(&self, name: &str) -> bool {
        let mut services = lock(&self.services);
        let removed = find(&services, name).map(|at| services.remove(at));
        // As above.
        drop(services);
        removed.is_ok()
    }

    fn services(&self) -> Vec<Arc<Service>> {
        lock(&self.services).clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.services)
            .iter()
            .map(|service| service.name.clone())
            .collect()
    }

    pub(crate) async fn check(&self) -> SystemHealth {
        let started = Instant::now();
        let timeout = self.config.timeout();
        let services = self.services();
        let jobs = services.iter().map(|service| Job {
            work: Box::pin(Arc::clone(service).check()),
            overdue: service.overdue.clone(),
        });
        let ended = run_all(jobs.collect(), timeout).await;
        let judged: Vec<ServiceHealth> = services
            .iter()
            .zip(ended)
            .map(|(service, ended)| machine::service(service.name.clone(), ended, timeout))
            .collect();
        machine::system(judged, started.elapsed())
    }

    pub(crate) fn quick(&self) -> QuickHealth {
        machine::quick(self.services().into_iter().map(|service| {
            // A check that panics is a result here as well.
            let alive = catch_panic(|| service.check.is_alive());
            (service.name.clone(), alive.unwrap_or(false))
        }))
    }

    /// Checks, and shows the result as the latest.
    pub(crate) async fn refresh(&self) {
        let health = Arc::new(self.check().await);
        let latest = Latest {
            at: Instant::now(),
            health: Arc::clone(&health),
        };
        let before = self.latest.send_replace(Some(latest));
        let before = before.map(|before| before.health);
        emit(Event::HealthChecked {
            health: &health,
            before: before.as_deref(),
        });
    }
}

/// Finds a service, or where it belongs.
fn find(services: &[Arc<Service>], name: &str) -> Result<usize, usize> {
    services.binary_search_by(|known| known.name.as_str().cmp(name))
}

impl Service {
    pub(super) async fn check(self: Arc<Self>) -> CheckReport {
        if self.overdue.any() {
            // What was just given up may only not have been dropped yet.
            tokio::task::yield_now().await;
        }
        if self.overdue.any() {
            // A check that blocks its thread can't be cut off; a second one would block a second thread.
            return CheckReport::new().with(Check::unhealthy(
                "answers",
                "an earlier check still blocks its thread",
            ));
        }
        let mut check = {
            let _turn = self.turn.lock().await;
            self.check.check()
        };
        let mut turn = Box::pin(self.turn.lock());
        poll_fn(|cx| {
            let at_work = ready!(turn.as_mut().poll(cx));
            let report = check.as_mut().poll(cx);
            drop(at_work);
            // For the next time.
            turn.set(self.turn.lock());
            report
        })
        .await
    }
}

impl fmt::Debug for HealthCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCell")
            .field("config", &self.config)
            .field("services", &self.names())
            .finish_non_exhaustive()
    }
}
