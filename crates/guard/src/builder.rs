use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::{Breaker, Outcome};
use perennial_rate_limit::{Quota, RateGate};

use crate::call::OwnKey;
use crate::environment::Service;
use crate::handle::failures_are_errors;
use crate::stage::{ChoosePool, Lend, NoPool};
use crate::{Bulkhead, Environment, Guard, GuardConfigError, GuardError};

/// The quota of a rate key that names none: 100 calls a minute.
const DEFAULT_QUOTA: Quota = Quota::per_minute(100);

/// Collects the stages of a guard.
///
/// | stage | default |
/// | --- | --- |
/// | rate limit | none; with a `rate_key` and no `quota`: 100 a minute |
/// | spend | [`Spend::AtGate`]: a cell stays spent when a later stage refuses |
/// | breaker | in a tree: the one named as the service; alone: none |
/// | bulkhead | none |
/// | pool | none: the operation is given `()` |
/// | deadline | none: a checkout waits as the pool's settings say, the operation takes as long as it likes |
/// | slow_after | none: nothing counts as slow |
#[must_use]
pub struct GuardBuilder<P = NoPool, K = ()> {
    service: Arc<str>,
    environment: Option<Environment>,
    gate: Option<RateGate>,
    key: Option<K>,
    quota: Option<Quota>,
    spend: Spend,
    breaker: BreakerChoice,
    bulkhead: Option<Bulkhead>,
    pool: P,
    deadline: Option<Duration>,
    slow_after: Option<Duration>,
}

/// When a call spends its cell of the quota.
///
/// Never more cells are spent than the quota has, either way, and critical memory pressure refuses before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Spend {
    /// At the gate: a cell stays spent when the breaker, the bulkhead or the pool refuses, or the caller goes away.
    /// Callers that hammer an open circuit use up their quota.
    #[default]
    AtGate,
    /// When the operation is begun: who is refused by a later stage keeps his cell. A caller without quota is still
    /// refused first, before it costs anything. The gate is asked twice, and of several callers that wait
    /// for workers at once, those for whom no cell is left are refused when they get one.
    WhenBegun,
}

enum BreakerChoice {
    /// The one named as the service, where there are breakers.
    ByService,
    This(Breaker),
    Without,
}

impl Guard {
    /// Begins a guard that is wired by hand, outside a tree.
    pub fn builder(service: &str) -> GuardBuilder<NoPool, ()> {
        GuardBuilder::new(service.into(), None)
    }
}

impl GuardBuilder<NoPool, ()> {
    pub(crate) fn in_environment(service: &str, environment: Environment) -> Self {
        Self::new(service.into(), Some(environment))
    }

    fn new(service: Arc<str>, environment: Option<Environment>) -> Self {
        Self {
            service,
            environment,
            gate: None,
            key: None,
            quota: None,
            spend: Spend::default(),
            breaker: BreakerChoice::ByService,
            bulkhead: None,
            pool: NoPool,
            deadline: None,
            slow_after: None,
        }
    }
}

impl<P, K> GuardBuilder<P, K> {
    /// Sets the gate at which the quota is spent (default: the tree's). One without a quota or a key is an error: it
    /// would limit nobody.
    pub fn gate(mut self, gate: RateGate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Sets whose quota is spent; any hashable value, such as `("config_update", user_id)`.
    pub fn rate_key<K2: Hash + Eq + 'static>(self, key: K2) -> GuardBuilder<P, K2> {
        GuardBuilder {
            service: self.service,
            environment: self.environment,
            gate: self.gate,
            key: Some(key),
            quota: self.quota,
            spend: self.spend,
            breaker: self.breaker,
            bulkhead: self.bulkhead,
            pool: self.pool,
            deadline: self.deadline,
            slow_after: self.slow_after,
        }
    }

    /// Sets the quota of each key; without a key all callers share one.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// Sets when a call spends its cell.
    pub fn spend(mut self, spend: Spend) -> Self {
        self.spend = spend;
        self
    }

    /// Sets the breaker.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = BreakerChoice::This(breaker);
        self
    }

    /// Runs without a breaker.
    ///
    /// Nothing then says that the service is known. What an environment counts of each service it keeps, some 20 KB, and so
    /// does a recorder of metrics: let names come from code or configuration, not from single calls.
    pub fn without_breaker(mut self) -> Self {
        self.breaker = BreakerChoice::Without;
        self
    }

    /// Bounds how many operations run at once.
    pub fn bulkhead(mut self, bulkhead: Bulkhead) -> Self {
        self.bulkhead = Some(bulkhead);
        self
    }

    /// Sets the pool that lends a worker to the operation, by handle or by name.
    pub fn pool<P2: ChoosePool>(self, pool: P2) -> GuardBuilder<P2, K> {
        GuardBuilder {
            service: self.service,
            environment: self.environment,
            gate: self.gate,
            key: self.key,
            quota: self.quota,
            spend: self.spend,
            breaker: self.breaker,
            bulkhead: self.bulkhead,
            pool,
            deadline: self.deadline,
            slow_after: self.slow_after,
        }
    }

    /// Bounds the whole call: the wait for a place and for a worker, and the operation.
    ///
    /// It makes nothing wait longer: a bulkhead and a pool that have less patience refuse before.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Counts an operation that took at least so long, waiting included, as slow, whatever its outcome.
    pub fn slow_after(mut self, slow_after: Duration) -> Self {
        self.slow_after = Some(slow_after);
        self
    }
}

impl<P: ChoosePool, K: Hash + Eq + Send + Sync + 'static> GuardBuilder<P, K> {
    /// Resolves everything once.
    ///
    /// # Errors
    ///
    /// [`GuardConfigError`] names the service and the stage.
    pub fn build(self) -> Result<Guard<P::Stage, K>, GuardConfigError> {
        let service = self.service;
        if self.deadline == Some(Duration::ZERO) {
            return Err(GuardConfigError::ZeroDeadline { service });
        }
        if self.slow_after == Some(Duration::ZERO) {
            return Err(GuardConfigError::ZeroSlowAfter { service });
        }
        if self.deadline.is_some_and(|it| self.slow_after > Some(it)) {
            return Err(GuardConfigError::SlowAfterDeadline { service });
        }
        let parts = self.environment.as_ref().map(Environment::parts);
        let breaker = match self.breaker {
            BreakerChoice::This(breaker) => Some(breaker),
            BreakerChoice::Without => None,
            BreakerChoice::ByService => match parts.and_then(|parts| parts.breakers.as_ref()) {
                // Running unprotected because of a misspelt name is what a breaker must not do.
                Some(breakers) => match breakers.get(&service) {
                    Some(breaker) => Some(breaker),
                    None => return Err(GuardConfigError::UnknownBreaker { service }),
                },
                None => None,
            },
        };
        let of_tree = || parts.and_then(|parts| parts.gate.clone());
        let gate = match (self.key.is_some() || self.quota.is_some(), self.gate) {
            (false, None) => None,
            (false, Some(_)) => return Err(GuardConfigError::NoQuota { service }),
            (true, gate) => match gate.or_else(of_tree) {
                None => return Err(GuardConfigError::NoGate { service }),
                gate => gate,
            },
        };
        let pool = match self.pool.choose(parts.and_then(|it| it.pools.as_ref())) {
            Ok(pool) => pool,
            Err(pool) => return Err(GuardConfigError::UnknownPool { service, pool }),
        };
        // Only now: what is known of a service stays, and a name that leads nowhere is not to be among them.
        let quota = self.quota.unwrap_or(DEFAULT_QUOTA);
        let limiter = gate.map(|gate| gate.limiter(&service, quota));
        let service = match &self.environment {
            Some(environment) => environment.service(&service),
            None => Arc::new(Service::new(service, None)),
        };
        Ok(Guard {
            service,
            critical: parts.and_then(|parts| parts.critical.clone()),
            limiter,
            spend: self.spend,
            key: self.key,
            breaker,
            bulkhead: self.bulkhead,
            pool,
            deadline: self.deadline,
            slow_after: self.slow_after,
        })
    }

    /// Builds the guard and runs one operation; see [`Guard::run`].
    ///
    /// To look everything up takes longer than a call. Who calls often [builds](Self::build) the guard once, and gives keys
    /// that differ with each call to [`Guard::run_keyed`].
    ///
    /// # Errors
    ///
    /// [`GuardError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Guard::run`].
    #[track_caller]
    pub fn run<T, E, F, Fut>(self, operation: F) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnOnce(<P::Stage as Lend>::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_with(operation, failures_are_errors)
    }

    /// Builds the guard and runs one operation whose outcome `classify` judges.
    ///
    /// # Errors
    ///
    /// [`GuardError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Guard::run`].
    #[track_caller]
    pub fn run_with<T, E, F, Fut>(
        self,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnOnce(<P::Stage as Lend>::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let at = Location::caller();
        async move {
            let guard = self.build()?;
            let key = OwnKey(&guard.key);
            guard
                .attempt(at, key, &guard.deadline, operation, classify)
                .await
        }
    }
}

impl<P, K> fmt::Debug for GuardBuilder<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardBuilder")
            .field("service", &self.service)
            .field("quota", &self.quota)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
