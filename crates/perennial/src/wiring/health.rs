use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::{Breaker, Breakers};
use perennial_config::ConfigServer;
use perennial_lifecycle::{ChildSpec, ChildState, Node, Restart};
use perennial_monitor::{Check, CheckReport, HealthCheck, Status, with_liveness};
use perennial_pool::{PoolStatus, Pools};
use tokio::time::Instant;

use crate::{StartTreeError, Tree};

/// A handler that takes longer than this does not answer in time.
const SLOW: Duration = Duration::from_secs(1);
/// A handler that takes longer than this is taken for stuck.
const STUCK: Duration = Duration::from_secs(10);

/// The host's own checks, by service.
pub(crate) type OwnChecks = BTreeMap<String, Box<dyn HealthCheck>>;

/// Registers a check for each of the host's actors, each breaker's service, each pool, and what the host checks itself.
///
/// All checks but the host's read shared cells, so a stuck actor cannot hold them up. Fails where `depends` speaks of a
/// service that there is not.
pub(crate) fn register_health(
    tree: &Tree,
    hosted: &[ChildSpec],
    depends: &BTreeMap<String, BTreeSet<String>>,
    own: OwnChecks,
) -> Result<(), StartTreeError> {
    // What the host alone checks has no place in the tree.
    let mut services: BTreeMap<String, Option<Arc<Node>>> =
        own.keys().map(|name| (name.clone(), None)).collect();
    let root = tree.scope().root();
    let config = root.child_or_insert(ConfigServer::ID);
    services.insert(ConfigServer::ID.to_owned(), Some(config));
    let pools = root.child_or_insert("pools");
    for (pool, _) in tree.pools() {
        services.insert(pool.to_string(), Some(pools.child_or_insert(&pool)));
    }
    let breakers = root.child_or_insert("breakers");
    for breaker in tree.breakers().iter() {
        let place = services.entry(breaker.name().to_owned()).or_default();
        place.get_or_insert_with(|| breakers.child_or_insert(breaker.name()));
    }
    let host = tree.host().node();
    for spec in hosted {
        services.insert(spec.id().to_string(), Some(host.child_or_insert(spec.id())));
    }
    for (service, dependencies) in depends {
        if let (None, Some(dependency)) = (services.get(service), dependencies.first()) {
            return Err(StartTreeError::UnknownService {
                service: service.clone(),
                dependency: dependency.clone(),
                known: services.into_keys().collect(),
            });
        }
    }
    let (services, own) = (Arc::new(services), Arc::new(own));
    for (name, node) in &*services {
        let service = Service {
            node: node.clone(),
            own: Arc::clone(&own),
            breaker: tree.breaker(name),
            pools: tree.0.pools.clone(),
            breakers: tree.breakers().clone(),
            depends: depends.get(name).cloned().unwrap_or_default(),
            services: Arc::clone(&services),
            name: name.clone(),
        };
        let service = Arc::new(service);
        let alive = Arc::clone(&service);
        tree.health().register(
            name,
            with_liveness(
                move || alive.is_alive(),
                move || {
                    let service = Arc::clone(&service);
                    async move { service.report().await }
                },
            ),
        );
    }
    Ok(())
}

struct Service {
    name: String,
    node: Option<Arc<Node>>,
    own: Arc<OwnChecks>,
    breaker: Option<Breaker>,
    pools: Pools,
    breakers: Breakers,
    depends: BTreeSet<String>,
    services: Arc<BTreeMap<String, Option<Arc<Node>>>>,
}

impl Service {
    fn is_alive(&self) -> bool {
        let own = self.own.get(&self.name);
        self.node.as_deref().is_none_or(is_alive) && own.is_none_or(|it| it.is_alive())
    }

    async fn report(&self) -> CheckReport {
        let mut report = CheckReport::new();
        if let Some(node) = &self.node {
            report = report.with(alive("alive", node));
        }
        if let Some(current) = self.node.as_ref().and_then(|it| it.current()) {
            let waiting = usize::try_from(current.mailbox_depth()).unwrap_or(usize::MAX);
            report = report
                .with(Check::mailbox(waiting))
                .with(answers_in_time(current.in_hand()));
        }
        if let Some(breaker) = &self.breaker {
            report = report.with(circuit("breaker", breaker));
        }
        if let Some((_, status)) = self.pool(&self.name) {
            report = report.with(workers("pool", &status));
        }
        for dependency in &self.depends {
            report = report.with(self.dependency(dependency).await);
        }
        if let Some(own) = self.own.get(&self.name) {
            report.checks.extend(own.check().await.checks);
        }
        report
    }

    async fn dependency(&self, name: &str) -> Check {
        let label = format!("depends on {name}");
        let Some(node) = self.services.get(name) else {
            return Check::unhealthy(label, "the tree has no such service");
        };
        if let Some(node) = node {
            let lives = alive(&label, node);
            if lives.cause.is_some() {
                return lives;
            }
        }
        if let Some(breaker) = self.breakers.get(name) {
            let check = circuit(&label, &breaker);
            if check.cause.is_some() {
                return check;
            }
        }
        if let Some((_, status)) = self.pool(name) {
            let check = workers(&label, &status);
            if check.cause.is_some() {
                return check;
            }
        }
        match self.own.get(name) {
            Some(own) => worst(label, own.check().await),
            None => Check::healthy(label),
        }
    }

    fn pool(&self, name: &str) -> Option<(Arc<str>, PoolStatus)> {
        self.pools
            .status()
            .into_iter()
            .find(|(it, _)| **it == *name)
    }
}

/// Makes one aspect of all that a check found.
fn worst(label: String, report: CheckReport) -> Check {
    let worst = report.checks.into_iter().max_by_key(|it| it.status);
    let Some(worst) = worst else {
        return Check::unhealthy(label, "the check looked at nothing");
    };
    let cause = match worst.cause {
        Some(cause) => format!("{}: {cause}", worst.name),
        None => worst.name,
    };
    match worst.status {
        Status::Healthy => Check::healthy(label),
        Status::Degraded => Check::degraded(label, cause),
        Status::Unhealthy => Check::unhealthy(label, cause),
    }
}

fn is_alive(node: &Node) -> bool {
    let is_first_start = || node.state() == ChildState::Starting && node.last_end().is_none();
    if node.incarnations() == 0 || is_first_start() {
        // The tree is starting, and has not come to it or is at it; a start that fails is an end.
        return true;
    }
    // A child that is not restarted after a clean end has done its work.
    let done = node.state() == ChildState::Stopped
        && node
            .spec()
            .is_some_and(|(_, restart, _)| restart != Restart::Permanent)
        && node.last_end().is_some_and(|end| end.reason.is_clean());
    done || node.is_occupied()
}

fn alive(label: &str, node: &Node) -> Check {
    if is_alive(node) {
        return Check::healthy(label);
    }
    match (node.state(), node.due()) {
        (ChildState::Quarantined, Some(due)) => {
            let left = due.saturating_duration_since(Instant::now());
            Check::degraded(label, format!("in quarantine for another {left:?}"))
        }
        _ => Check::unhealthy(label, "it is not running"),
    }
}

fn answers_in_time(in_hand: Option<Duration>) -> Check {
    match in_hand {
        Some(age) if age >= STUCK => Check::unhealthy(
            "answers in time",
            format!("a message is in hand for {age:?}"),
        ),
        Some(age) if age >= SLOW => Check::degraded(
            "answers in time",
            format!("a message is in hand for {age:?}"),
        ),
        _ => Check::healthy("answers in time"),
    }
}

fn circuit(label: &str, breaker: &Breaker) -> Check {
    let state = breaker.state();
    if state.admits_all() {
        Check::healthy(label)
    } else {
        Check::degraded(label, format!("the circuit is {state}"))
    }
}

fn workers(label: &str, status: &PoolStatus) -> Check {
    if status.down > 0 && status.idle + status.in_use == 0 {
        Check::unhealthy(label, format!("all {} workers are down", status.down))
    } else if status.waiting > 0 {
        Check::degraded(
            label,
            format!("{} callers wait for a worker", status.waiting),
        )
    } else {
        Check::healthy(label)
    }
}
