//! The tree's shared gate: [`RateGate`].

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
};

use foldhash::fast::RandomState;
use perennial_lifecycle::{ChildSpec, Count};
use tokio::sync::Notify;

use crate::{
    actor::RateGateActor,
    clock::Clock,
    config::{RateGateConfig, WhenFull},
    decision::{Decision, KeyStatus},
    error::{RateGateConfigError, WaitError},
    event::{self, Outcomes},
    fingerprint::{AsIs, Fingerprint, Printer, ScopePrinter},
    quota::Quota,
    rules::{Pin, Rule},
    store::{Ask, Store, Swept},
    wait::{self, Patience},
};

#[cfg(test)]
mod tests;

/// The gate before the calls of a tree: many quotas, and keys of any type.
///
/// A key belongs to a scope, the name of what is limited. Scopes come from
/// configuration: they label metrics and stay known for as long as the gate. Keys come
/// from callers: they are capped, and forgotten when idle.
///
/// A key is any value that hashes, such as `("config_update", user_id)`, and
/// is not kept: 128 bits of keyed hash of scope, type and value stand for it, so a check of
/// any key allocates nothing. The type is part of the key, a `u32` 7 is not a `u64` 7; only
/// `str`, `String` and `&'static str` are one (not so within a tuple). Odds of
/// two among a million keys sharing a quota are about 2^-89.
///
/// Clones share everything. What is spent lives in the gate and not in
/// its actor, which only sweeps: while the actor is away or
/// restarts, checks go on and nothing spent is forgotten.
///
/// # Examples
///
/// ```
/// use perennial_rate_limit::{Quota, RateGate};
///
/// let gate = RateGate::new();
/// let quota = Quota::per_minute(1);
/// let user_id = 7_u64;
///
/// assert!(gate.check("config_server", &("config_update", user_id), &quota).is_allowed());
/// assert!(!gate.check("config_server", &("config_update", user_id), &quota).is_allowed());
/// assert!(gate.check("config_server", &("config_read", user_id), &quota).is_allowed());
///
/// // Where the same scope and quota are asked often, resolve them once.
/// let updates = gate.limiter("config_server", quota);
/// assert!(!updates.check(&("config_update", user_id)).is_allowed());
/// ```
#[derive(Clone)]
pub struct RateGate {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store<Fingerprint, AsIs>,
    printer: Printer,
    scopes: RwLock<HashMap<Arc<str>, Arc<Scope>, RandomState>>,
    clock: Clock,
    config: RateGateConfig,
    /// Evictions that metrics were told of.
    evictions_told: AtomicU64,
    /// Tells those who wait for a cell.
    changed: Notify,
}

struct Scope {
    name: Arc<str>,
    printer: ScopePrinter,
    outcomes: Outcomes,
}

/// How often a scope has allowed and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeStatus {
    /// The scope.
    pub scope: Arc<str>,
    /// Checks allowed since the gate was made.
    pub allowed: u64,
    /// Checks refused since the gate was made.
    pub refused: u64,
}

impl RateGate {
    /// Makes a gate with default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::from_valid(RateGateConfig::default(), Clock::default())
    }

    /// Makes a builder, to change the settings.
    pub fn builder() -> RateGateBuilder {
        RateGateBuilder {
            config: RateGateConfig::default(),
            clock: Clock::default(),
        }
    }

    fn from_valid(config: RateGateConfig, clock: Clock) -> Self {
        // Every check brings its quota, so the store's own is never asked.
        let closed = Quota::per_second(0);
        Self {
            inner: Arc::new(Inner {
                store: Store::new(&closed, config.max_keys, config.when_full, AsIs),
                printer: Printer::default(),
                scopes: RwLock::default(),
                clock,
                config,
                evictions_told: AtomicU64::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// Spends one cell of the key in this scope, if there is one.
    ///
    /// A key that was checked with another quota before keeps what it has spent, as with
    /// [`KeyedLimiter::set_quota`](crate::KeyedLimiter::set_quota). Whoever shares a key shares what is spent: reads of 100 a
    /// minute and writes of 10 admit 100 together, and no write once reads have spent ten. To give each its own, put them into
    /// the key. A check that is refused holds up no other quota of the key, except in fixed windows, where it counts.
    ///
    /// A quota may be computed for each check. The gate remembers those that its keys are metered by, and of others no more
    /// than a thousand, or as many as there are keys.
    pub fn check<K>(&self, scope: &str, key: &K, quota: &Quota) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        self.check_n(scope, key, quota, 1)
    }

    /// Spends `cells` of the key in this scope, all or none.
    ///
    /// None at all is allowed and changes nothing, unless the limit is 0.
    pub fn check_n<K>(&self, scope: &str, key: &K, quota: &Quota, cells: u32) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let scope = self.inner.scope(scope);
        let rule = self.inner.store.rule(quota);
        self.inner.check(&scope, key, self.inner.ask(&rule, cells))
    }

    /// Answers as [`check`](Self::check) would, without spending or counting, as
    /// [`KeyedLimiter::peek`](crate::KeyedLimiter::peek) does.
    pub fn peek<K>(&self, scope: &str, key: &K, quota: &Quota) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let print = self.inner.printer.scope(scope).print(key);
        let rule = self.inner.store.rule(quota);
        let ask = self.inner.ask(&rule, 1);
        self.inner.store.peek(&print, ask)
    }

    /// Tells what is spent and left of the key's quota in this scope.
    pub fn status<K>(&self, scope: &str, key: &K, quota: &Quota) -> KeyStatus
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let print = self.inner.printer.scope(scope).print(key);
        let rule = self.inner.store.rule(quota);
        let ask = self.inner.ask(&rule, 1);
        self.inner.store.status(&print, ask)
    }

    /// Makes the key as good as new in this scope; tells whether it was known.
    pub fn reset<K>(&self, scope: &str, key: &K) -> bool
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        self.inner
            .reset(&self.inner.printer.scope(scope).print(key))
    }

    /// Resolves a scope and a quota once, for a path that checks often.
    #[must_use]
    pub fn limiter(&self, scope: &str, quota: Quota) -> GateLimiter {
        let (rule, pin) = self.inner.store.pinned_rule(&quota);
        GateLimiter {
            scope: self.inner.scope(scope),
            rule,
            _pin: pin,
            inner: Arc::clone(&self.inner),
            quota,
        }
    }

    /// Returns how many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.store.len()
    }

    /// Tells whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counts of every scope that was ever checked, by name.
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeStatus> {
        let mut scopes: Vec<_> = self
            .inner
            .all_scopes()
            .iter()
            .map(|scope| ScopeStatus {
                scope: Arc::clone(&scope.name),
                allowed: scope.outcomes.allowed(),
                refused: scope.outcomes.refused(),
            })
            .collect();
        scopes.sort_by(|a, b| a.scope.cmp(&b.scope));
        scopes
    }

    /// Takes one step of the sweep: forgets idle keys among the next few.
    ///
    /// The gate's actor does this at an interval, and nobody else need.
    pub fn sweep(&self) -> Swept {
        self.inner.clock.correct();
        let budget = self.inner.config.sweep_budget.get();
        self.inner.store.sweep(budget, self.inner.clock.now())
    }

    /// Describes the actor that sweeps, to be a child of the tree named `rate_gate`.
    pub fn child_spec(&self) -> ChildSpec {
        let gate = self.clone();
        ChildSpec::worker("rate_gate", move || (RateGateActor, gate.clone()))
    }

    pub(crate) fn config(&self) -> &RateGateConfig {
        &self.inner.config
    }

    /// Tells metrics what they have not been told.
    pub(crate) fn publish(&self, swept: Swept) {
        let store = &self.inner.store;
        event::swept(swept, store.len());
        event::evicted(
            &self.inner.evictions_told,
            store.evicted(),
            store.max_keys(),
        );
        for scope in self.inner.all_scopes() {
            scope.outcomes.publish(&scope.name);
        }
    }
}

impl Inner {
    #[inline]
    fn check<K>(&self, scope: &Scope, key: &K, ask: Ask<'_>) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let print = scope.printer.print(key);
        let decision = self.store.check(&print, ask);
        scope.outcomes.record(&scope.name, &decision);
        decision
    }

    #[inline]
    fn ask<'a>(&self, rule: &'a Rule, cells: u32) -> Ask<'a> {
        Ask {
            rule: Some(rule),
            cells,
            now: self.clock.now(),
        }
    }

    fn reset(&self, print: &Fingerprint) -> bool {
        let was_known = self.store.reset(print);
        wait::tell(&self.changed);
        was_known
    }

    fn scope(&self, name: &str) -> Arc<Scope> {
        let known = self
            .scopes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        known.unwrap_or_else(|| self.add_scope(name))
    }

    #[cold]
    fn add_scope(&self, name: &str) -> Arc<Scope> {
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        let scope = scopes.entry(Arc::clone(&name)).or_insert_with(|| {
            Arc::new(Scope {
                printer: self.printer.scope(&name),
                outcomes: Outcomes::default(),
                name,
            })
        });
        Arc::clone(scope)
    }

    fn all_scopes(&self) -> Vec<Arc<Scope>> {
        let scopes = self.scopes.read().unwrap_or_else(PoisonError::into_inner);
        scopes.values().cloned().collect()
    }
}

impl Default for RateGate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RateGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateGate")
            .field("store", &self.inner.store)
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// One scope of a [`RateGate`] with one quota, looked up once.
///
/// It shares its keys with every other way to the same scope of the same gate.
#[derive(Clone)]
pub struct GateLimiter {
    inner: Arc<Inner>,
    scope: Arc<Scope>,
    rule: Rule,
    _pin: Pin,
    quota: Quota,
}

impl GateLimiter {
    /// Spends one cell of the key, if there is one.
    pub fn check<K>(&self, key: &K) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        self.check_n(key, 1)
    }

    /// Spends one cell of the key, if there was one when the processor's counter showed `count`, which was just now.
    ///
    /// For who has read the counter already, which is a large part of a check.
    #[inline]
    pub fn check_at<K>(&self, key: &K, count: Count) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let ask = Ask {
            rule: Some(&self.rule),
            cells: 1,
            now: self.inner.clock.at(count),
        };
        self.inner.check(&self.scope, key, ask)
    }

    /// Spends `cells` of the key, all or none.
    pub fn check_n<K>(&self, key: &K, cells: u32) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let ask = self.inner.ask(&self.rule, cells);
        self.inner.check(&self.scope, key, ask)
    }

    /// Spends one cell of the key, waiting until there is one, as
    /// [`KeyedLimiter::until_ready`](crate::KeyedLimiter::until_ready) does; returns how many more could be spent right after.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] at once if the next cell comes back only after the deadline.
    /// - [`WaitError::Never`] if the quota's limit is 0.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with its time enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A cell is spent in the poll that returns it, so a future that is dropped has spent nothing.
    pub async fn until_ready<K>(&self, key: &K, patience: Patience) -> Result<u32, WaitError>
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        self.until_n_ready(key, 1, patience).await
    }

    /// Spends `cells` of the key, all or none, waiting as [`until_ready`](Self::until_ready) does.
    ///
    /// # Errors
    ///
    /// As [`until_ready`](Self::until_ready), and [`WaitError::Never`] if the quota never has so many at once.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with its time enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Cells are spent in the poll that returns them.
    pub async fn until_n_ready<K>(
        &self,
        key: &K,
        cells: u32,
        patience: Patience,
    ) -> Result<u32, WaitError>
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        wait::until(patience, &self.inner.changed, || self.check_n(key, cells)).await
    }

    /// Answers as [`check`](Self::check) would, without spending or counting, as
    /// [`KeyedLimiter::peek`](crate::KeyedLimiter::peek) does.
    pub fn peek<K>(&self, key: &K) -> Decision
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let print = self.scope.printer.print(key);
        self.inner.store.peek(&print, self.inner.ask(&self.rule, 1))
    }

    /// Tells what is spent and left of the key's quota.
    pub fn status<K>(&self, key: &K) -> KeyStatus
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        let print = self.scope.printer.print(key);
        self.inner
            .store
            .status(&print, self.inner.ask(&self.rule, 1))
    }

    /// Makes the key as good as new; tells whether it was known.
    pub fn reset<K>(&self, key: &K) -> bool
    where
        K: Hash + Eq + ?Sized + 'static,
    {
        self.inner.reset(&self.scope.printer.print(key))
    }

    /// Returns the name of the scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope.name
    }

    /// Returns the quota.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }
}

impl fmt::Debug for GateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateLimiter")
            .field("scope", &self.scope.name)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`RateGate`] to be.
///
/// # Examples
///
/// ```
/// use perennial_rate_limit::{RateGate, WhenFull};
///
/// let gate = RateGate::builder()
///     .max_keys(5000.try_into()?)
///     .when_full(WhenFull::Refuse)
///     .build()?;
/// assert!(gate.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct RateGateBuilder {
    config: RateGateConfig,
    clock: Clock,
}

impl RateGateBuilder {
    /// Takes all settings from a configuration.
    pub fn config(mut self, config: RateGateConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets how many keys are known at most (default: 100,000).
    pub fn max_keys(mut self, max_keys: NonZeroUsize) -> Self {
        self.config.max_keys = max_keys;
        self
    }

    /// Sets what happens to a new key then (default: [`WhenFull::Evict`]).
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.config.when_full = when_full;
        self
    }

    /// Sets where the time comes from (default: [`Clock::system`]).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the gate.
    ///
    /// # Errors
    ///
    /// [`RateGateConfigError::SweepIntervalTooShort`] if the configuration sweeps more often than every millisecond.
    pub fn build(self) -> Result<RateGate, RateGateConfigError> {
        self.config.validate()?;
        Ok(RateGate::from_valid(self.config, self.clock))
    }
}
