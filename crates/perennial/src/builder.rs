use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::{BreakerConfig, Breakers};
use perennial_config::{ConfigServer, Schema};
use perennial_debug::Debugger;
use perennial_guard::Environment;
use perennial_lifecycle::{ActorName, ChildKind, ChildSpec, Node, Restart, Scope, Shutdown};
use perennial_monitor::{
    CleanupStrategy, HealthAggregator, HealthCheck, MemoryManager, PerformanceMonitor, Pressure,
};
use perennial_pool::{Pool, PoolConfig, PoolName, Pools, Worker};
use perennial_rate_limit::{Quota, RateGate};
use perennial_registry::{Name, Registry};
use perennial_supervisor::{Supervisor, SupervisorBuilder};
use perennial_workers::DatabaseWorker;
use serde::de::IgnoredAny;
use tokio::sync::watch;

use crate::keeper::Keeper;
use crate::tree::Parts;
use crate::wiring::{self, NameGate, OwnChecks};
use crate::{DATABASE, Settings, SettingsErrors, StartTreeError, Tree};

/// The size of the database pool when nobody says otherwise.
const DATABASE_POOL: usize = 2;

/// How long a shutdown drains when nobody says otherwise.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Collects what a tree runs; see [`Tree::builder`].
///
/// What a settings file says of a pool, a breaker or a quota goes before what the code says: the code has
/// the defaults, the file is the operator's.
#[must_use]
pub struct TreeBuilder {
    namespace: String,
    settings: Settings<()>,
    pools: Vec<Box<dyn PoolPlan>>,
    breakers: Vec<(String, BreakerConfig)>,
    /// With the tree that the name is one of, if it says so.
    quotas: Vec<(ActorName, Option<Arc<str>>, Quota)>,
    children: Vec<Box<ChildPlan>>,
    depends: BTreeMap<String, BTreeSet<String>>,
    checks: OwnChecks,
    schema: Schema,
    cleanups: Vec<(String, Box<CleanupPlan>)>,
    drain_deadline: Duration,
}

type ChildPlan = dyn FnOnce(&Tree) -> ChildSpec + Send;
/// Registers a strategy, and says whether it replaced another.
type CleanupPlan = dyn FnOnce(&MemoryManager, &str) -> bool + Send;

/// A pool that is made once the settings are known.
trait PoolPlan: Send {
    fn name(&self) -> &str;
    fn make(
        self: Box<Self>,
        pools: &Pools,
        configs: &mut BTreeMap<String, PoolConfig>,
    ) -> Result<ChildSpec, StartTreeError>;
}

struct Plan<W> {
    name: PoolName<W>,
    worker: W,
    config: PoolConfig,
}

impl<W: Worker> PoolPlan for Plan<W> {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn make(
        self: Box<Self>,
        pools: &Pools,
        configs: &mut BTreeMap<String, PoolConfig>,
    ) -> Result<ChildSpec, StartTreeError> {
        let config = configs.remove(self.name.as_str()).unwrap_or(self.config);
        let pool = Pool::new(self.name.as_str(), self.worker, config)?;
        let spec = pool.child_spec();
        pools.insert(pool)?;
        Ok(spec)
    }
}

impl TreeBuilder {
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            settings: Settings::default(),
            pools: Vec::new(),
            breakers: Vec::new(),
            quotas: Vec::new(),
            children: Vec::new(),
            depends: BTreeMap::new(),
            checks: OwnChecks::new(),
            schema: Schema::builder().build().expect("nothing to check"),
            cleanups: Vec::new(),
            drain_deadline: DRAIN_DEADLINE,
        }
    }

    /// Reads the settings from a TOML file; a `[host]` section is left to the host.
    ///
    /// # Errors
    ///
    /// [`SettingsErrors`] lists everything that is wrong with the file, up to a hundred things, each with line and key.
    pub fn config_file(self, file: impl AsRef<Path>) -> Result<Self, SettingsErrors> {
        let settings = Settings::<Anything>::load(file)?;
        Ok(self.settings(settings.split().0))
    }

    /// Takes settings that were read before; [`Settings::split`] separates the host's own.
    pub fn settings(mut self, settings: Settings<()>) -> Self {
        self.settings = settings;
        self
    }

    /// Adds a pool of workers, and a breaker of the same name unless one is given.
    pub fn pool<W: Worker>(
        mut self,
        name: impl Into<PoolName<W>>,
        worker: W,
        config: PoolConfig,
    ) -> Self {
        self.pools.push(Box::new(Plan {
            name: name.into(),
            worker,
            config,
        }));
        self
    }

    /// Adds a breaker for a service.
    pub fn breaker(mut self, service: impl Into<String>, config: BreakerConfig) -> Self {
        self.breakers.push((service.into(), config));
        self
    }

    /// Puts a quota before every cast and call to a named actor.
    ///
    /// It is the quota of each key that senders give ([`Name::for_key`]); those that give none share one.
    pub fn quota<M>(mut self, name: &Name<M>, quota: Quota) -> Self {
        let namespace = name.namespace().cloned();
        self.quotas.push((name.to_actor_name(), namespace, quota));
        self
    }

    /// Adds one of the host's own actors. It is entered under its id, unless its spec has a name.
    pub fn child(self, spec: ChildSpec) -> Self {
        self.child_with(|_| spec)
    }

    /// Adds an actor that uses the tree itself: `make` is given a handle before anything runs.
    ///
    /// A handle that the actor keeps counts: such a tree ends by [`Tree::shutdown`] only.
    pub fn child_with(mut self, make: impl FnOnce(&Tree) -> ChildSpec + Send + 'static) -> Self {
        self.children.push(Box::new(make));
        self
    }

    /// Says that a service's health depends on another one's, be it a pool, a breaker, or one of the host's own actors.
    ///
    /// A dependency that the tree does not have makes the service unhealthy, and the cause says so. A service that the tree
    /// does not have is an error at the start.
    pub fn depends_on(mut self, service: &str, dependency: &str) -> Self {
        let dependencies = self.depends.entry(service.to_owned()).or_default();
        dependencies.insert(dependency.to_owned());
        self
    }

    /// Adds what the host checks of a service itself to what the tree checks of it: of a pool, a breaker, or one of the
    /// host's own actors. By any other name it is a service of its own. A later check of the same service stands.
    ///
    /// A check that keeps a [`Tree`] keeps it running until [`Tree::shutdown`]. What comes and goes while the tree runs
    /// belongs to [`HealthAggregator::register`].
    ///
    /// ```
    /// use perennial::{Check, CheckReport, Tree};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tree = Tree::builder("shop")
    ///     .health_check("licence", || async {
    ///         CheckReport::new().with(Check::degraded("valid", "for 3 more days"))
    ///     })
    ///     .start()
    ///     .await?;
    /// let health = tree.health().check().await;
    /// assert!(health.to_string().ends_with("licence: degraded: valid: for 3 more days"));
    /// # tree.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn health_check(mut self, service: impl Into<String>, check: impl HealthCheck) -> Self {
        self.checks.insert(service.into(), Box::new(check));
        self
    }

    /// Sets which live settings there are; see [`Schema`]. Default: none.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = schema;
        self
    }

    /// Registers what frees memory under pressure.
    pub fn cleanup(mut self, name: &str, strategy: impl CleanupStrategy) -> Self {
        let register: Box<CleanupPlan> = Box::new(|memory, name| memory.register(name, strategy));
        self.cleanups.push((name.to_owned(), register));
        self
    }

    /// Sets how long a shutdown waits until the tree has handled what it was sent, unless the settings say so; zero does
    /// not wait. Default: 5 s.
    pub fn drain_deadline(mut self, drain_deadline: Duration) -> Self {
        self.drain_deadline = drain_deadline;
        self
    }

    /// Starts the tree.
    ///
    /// A test that pauses tokio's time does so before: what measures short times in a tree goes by the clock that it
    /// finds here.
    ///
    /// # Errors
    ///
    /// [`StartTreeError`]; what had started was stopped again.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one whose timers are not enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a tree that nobody took over is asked to stop.
    pub async fn start(mut self) -> Result<Tree, StartTreeError> {
        // Panics here and now where there are no timers. Each actor that needs one would, after its start.
        drop(tokio::time::sleep(Duration::ZERO));
        if self.namespace.is_empty() {
            return Err(StartTreeError::NoName);
        }
        let scope = Scope::new(&self.namespace);
        let settings = std::mem::take(&mut self.settings);
        let intensity = settings.supervision.intensity();
        let group = || Supervisor::builder().intensity(intensity);

        let registry = Registry::new(&scope);
        let gate = RateGate::builder()
            .config(settings.rate_gate.clone())
            .build()
            .map_err(StartTreeError::RateGate)?;
        let (pools, pool_specs) = self.make_pools(&settings)?;
        let breakers = self.make_breakers(&settings, &pools)?;
        let memory = MemoryManager::new(settings.memory.clone());
        for (name, register) in std::mem::take(&mut self.cleanups) {
            if register(&memory, &name) {
                return Err(StartTreeError::DuplicateCleanup { name });
            }
        }
        let performance = PerformanceMonitor::new(settings.performance.clone());
        let health = HealthAggregator::new(settings.health.clone());
        let place = |id| scope.root().path().child(id);
        let debug = Debugger::new(&scope)
            .with_names(&registry)
            .with_breakers(place("breakers"), &breakers)
            .with_pools(place("pools"), &pools);
        let database = pools.get(DATABASE).ok_or(StartTreeError::DatabasePool)?;
        if database.config().size() == 0 && database.config().overflow() == 0 {
            return Err(StartTreeError::EmptyDatabasePool);
        }
        let environment = Environment::builder()
            .gate(gate.clone())
            .breakers(breakers.clone())
            .pools(pools.clone())
            .critical_memory({
                let memory = memory.clone();
                move || memory.level() == Pressure::Critical
            })
            .recorders(wiring::recorders(&performance))
            .build();
        let updates = environment
            .guard(ConfigServer::ID)
            .quota(settings.config.update_quota)
            .pool(database.clone())
            .deadline(settings.config.update_deadline)
            .build()?;
        let config = ConfigServer::builder(self.schema.clone(), database)
            .guard(updates)
            .timeout(settings.config.update_deadline)
            .build();
        let (stop, stopping) = watch::channel(None);
        let own = settings.supervision.drain_deadline;
        let drain_deadline = own.unwrap_or(self.drain_deadline);
        let (ending, end) = watch::channel(None);
        wiring::bridge_events(&scope, &breakers, &performance, end.clone());
        let root = supervisor_at(scope.root());
        let host = supervisor_at(&scope.root().child_or_insert(&Arc::from("host")));
        let tree = Tree(Arc::new(Parts {
            scope: scope.clone(),
            root: root.clone(),
            host,
            registry: registry.clone(),
            gate: gate.clone(),
            breakers: breakers.clone(),
            pools,
            config: config.clone(),
            memory: memory.clone(),
            performance: performance.clone(),
            health: health.clone(),
            debug: debug.clone(),
            environment,
            stop,
            drain_deadline,
            end,
        }));

        for (name, quota) in self.all_quotas(&settings)? {
            registry.set_gate(&name, Box::new(NameGate::new(&gate, &name, quota)));
        }
        let hosted: Vec<ChildSpec> = std::mem::take(&mut self.children)
            .into_iter()
            .map(|make| make(&tree).name_if_none(|id| ActorName::host(id.to_owned())))
            .collect();
        let checks = std::mem::take(&mut self.checks);
        wiring::register_health(&tree, &hosted, &self.depends, checks)?;

        let spec = group()
            .child(registry.child_spec())
            .child(gate.child_spec())
            .child(nested(
                "breakers",
                group().children(breakers.iter().map(|it| it.child_spec())),
            )?)
            .child(nested("pools", group().children(pool_specs))?)
            .child(config.child_spec())
            .child(nested(
                "monitors",
                group()
                    .child(memory.child_spec())
                    .child(performance.child_spec())
                    .child(health.child_spec()),
            )?)
            .child(nested(
                "host",
                group()
                    .strategy(settings.supervision.host_strategy)
                    .children(hosted),
            )?)
            .child(debug.child_spec())
            .build()?;
        spec.clone().start_in(&scope).await?;
        let keeper = Keeper {
            scope,
            spec,
            root,
            shutdown_deadline: settings.supervision.shutdown_deadline,
            drain_deadline,
        };
        // Ends with the tree: the handle tells it when to stop, and waits for it.
        tokio::spawn(keeper.run(stopping, ending));
        Ok(tree)
    }

    fn make_pools(
        &mut self,
        settings: &Settings<()>,
    ) -> Result<(Pools, Vec<ChildSpec>), StartTreeError> {
        let mut plans = std::mem::take(&mut self.pools);
        if !plans.iter().any(|plan| plan.name() == DATABASE.as_str()) {
            let worker = match &settings.database.path {
                Some(path) => DatabaseWorker::sqlite(path),
                None => DatabaseWorker::in_memory(&self.namespace),
            };
            plans.insert(
                0,
                Box::new(Plan {
                    name: DATABASE,
                    worker,
                    config: PoolConfig::new(DATABASE_POOL).max_overflow(DATABASE_POOL),
                }),
            );
        }
        let mut configs = settings.pools.clone();
        let pools = Pools::default();
        let mut specs = Vec::new();
        for plan in plans {
            specs.push(plan.make(&pools, &mut configs)?);
        }
        if let Some((name, _)) = configs.pop_first() {
            let known = pools.status().into_iter();
            return Err(StartTreeError::UnknownPool {
                name,
                known: known.map(|(pool, _)| pool.to_string()).collect(),
            });
        }
        Ok((pools, specs))
    }

    fn make_breakers(
        &mut self,
        settings: &Settings<()>,
        pools: &Pools,
    ) -> Result<Breakers, StartTreeError> {
        let mut configs = settings.breakers.clone();
        let breakers = Breakers::new();
        for (service, config) in std::mem::take(&mut self.breakers) {
            let config = configs.remove(&service).unwrap_or(config);
            breakers.register(service, config)?;
        }
        for (service, config) in configs {
            breakers.register(service, config)?;
        }
        let pools = pools.status().into_iter().map(|(pool, _)| pool.to_string());
        for service in pools.chain([ConfigServer::ID.to_owned()]) {
            if breakers.get(&service).is_none() {
                breakers.register(service, BreakerConfig::default())?;
            }
        }
        Ok(breakers)
    }

    fn all_quotas(
        &mut self,
        settings: &Settings<()>,
    ) -> Result<HashMap<ActorName, Quota>, StartTreeError> {
        let mut quotas = HashMap::new();
        for (name, namespace, quota) in std::mem::take(&mut self.quotas) {
            if let Some(namespace) = namespace.filter(|it| **it != *self.namespace) {
                return Err(StartTreeError::QuotaOfOtherTree { name, namespace });
            }
            if quotas.insert(name.clone(), quota).is_some() {
                return Err(StartTreeError::DuplicateQuota { name });
            }
        }
        let from_file = settings.quotas.iter();
        quotas.extend(from_file.map(|(name, quota)| (ActorName::host(name.clone()), *quota)));
        Ok(quotas)
    }
}

fn nested(id: &str, builder: SupervisorBuilder) -> Result<ChildSpec, StartTreeError> {
    Ok(builder.build()?.into_child(id))
}

/// Returns the handle of a supervisor that is not running yet.
fn supervisor_at(node: &Arc<Node>) -> Supervisor {
    node.set_spec(
        ChildKind::Supervisor,
        Restart::Permanent,
        Shutdown::Infinity,
    );
    Supervisor::at(node).expect("a supervisor by its spec, set just now")
}

/// A `[host]` section of which nothing is known here.
#[derive(Default, serde::Deserialize)]
#[serde(from = "IgnoredAny")]
struct Anything;

impl From<IgnoredAny> for Anything {
    fn from(_: IgnoredAny) -> Self {
        Self
    }
}

impl std::fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeBuilder")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "timers are disabled")]
    fn a_runtime_without_timers_is_refused_by_the_start() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let tree = runtime.unwrap().block_on(Tree::builder("timeless").start());
        // Only where there was no panic.
        tree.unwrap();
    }
}
