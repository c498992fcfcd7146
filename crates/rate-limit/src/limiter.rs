//! One quota for many keys: [`KeyedLimiter`].

use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    marker::PhantomData,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    config::{MAX_KEYS, WhenFull},
    decision::{Decision, KeyStatus},
    error::WaitError,
    quota::Quota,
    store::{Ask, Store, Swept},
    wait::{self, Patience},
};

#[cfg(test)]
mod tests;

/// Gives each key the same quota.
///
/// Clones share their keys. A check runs in the caller, on shared memory; of a known key it holds the lock of a shard
/// for some nanoseconds and allocates nothing. A string key is looked up by `&str`, and cloned only when it is new.
///
/// How many keys are known at once is capped (default: 100,000), and
/// [`sweep`](Self::sweep) forgets those that are as good as new; call it
/// from time to time, or use a [`RateGate`](crate::RateGate), whose actor does.
///
/// # Examples
///
/// ```
/// use perennial_rate_limit::{Decision, KeyedLimiter, Quota};
///
/// let limiter = KeyedLimiter::new(Quota::per_minute(2));
///
/// assert_eq!(limiter.check("ada"), Decision::Allowed { remaining: 1 });
/// assert_eq!(limiter.check("ada"), Decision::Allowed { remaining: 0 });
/// assert!(limiter.check("ada").retry_after().is_some());
/// assert!(limiter.check("grace").is_allowed());
/// ```
pub struct KeyedLimiter<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    store: Store<K, RandomState>,
    clock: Clock,
    /// Held while a change of quota goes through the shards, so that two
    /// changes cannot leave half of the keys with either.
    quota: Mutex<Quota>,
    /// Tells those who wait for a cell.
    changed: Notify,
}

impl<K: Hash + Eq> KeyedLimiter<K> {
    /// Makes a limiter with default settings.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self::builder(quota).build()
    }

    /// Makes a builder, to change the settings.
    pub fn builder(quota: Quota) -> KeyedLimiterBuilder<K> {
        KeyedLimiterBuilder {
            quota,
            max_keys: MAX_KEYS,
            when_full: WhenFull::default(),
            clock: Clock::default(),
            key: PhantomData,
        }
    }

    /// Spends one cell of the key, if there is one.
    pub fn check<Q>(&self, key: &Q) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.inner.store.check(key, self.ask(1))
    }

    /// Spends `cells` of the key, all or none.
    ///
    /// None at all is allowed and changes nothing, unless the limit is 0.
    pub fn check_n<Q>(&self, key: &Q, cells: u32) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.inner.store.check(key, self.ask(cells))
    }

    /// Spends one cell of the key, waiting until there is one; returns how many more could be spent right after.
    ///
    /// It waits on tokio's clock, so with a [manual clock](crate::Clock::manual) it asks again after the time that the
    /// limiter said, whatever that clock shows then. A [`reset`](Self::reset) or a [change of quota](Self::set_quota) wakes all
    /// who wait, and they ask again. There is no queue: of several who wait for one key, any may be first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), perennial_rate_limit::WaitError> {
    /// use std::time::Duration;
    /// use perennial_rate_limit::{KeyedLimiter, Patience, Quota};
    ///
    /// let limiter = KeyedLimiter::new(Quota::per_second(1));
    /// let patience = Patience::within(Duration::from_secs(5)).jitter(Duration::from_millis(20));
    ///
    /// limiter.until_ready("ada", patience).await?;
    /// limiter.until_ready("ada", patience).await?; // a second later
    /// assert!(!limiter.check("ada").is_allowed());
    /// # Ok(())
    /// # }
    /// ```
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
    pub async fn until_ready<Q>(&self, key: &Q, patience: Patience) -> Result<u32, WaitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
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
    pub async fn until_n_ready<Q>(
        &self,
        key: &Q,
        cells: u32,
        patience: Patience,
    ) -> Result<u32, WaitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        wait::until(patience, &self.inner.changed, || self.check_n(key, cells)).await
    }

    /// Answers as [`check`](Self::check) would, without spending.
    ///
    /// Whether there is a place for a new key is not looked at: a full limiter with [`WhenFull::Refuse`] may still refuse its
    /// check.
    pub fn peek<Q>(&self, key: &Q) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.store.peek(key, self.ask(1))
    }

    /// Tells what is spent and left of the key's quota.
    pub fn status<Q>(&self, key: &Q) -> KeyStatus
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.store.status(key, self.ask(1))
    }

    /// Makes the key as good as new; tells whether it was known.
    pub fn reset<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let was_known = self.inner.store.reset(key);
        wait::tell(&self.inner.changed);
        was_known
    }

    /// Changes the quota of every key, keeping what each has spent.
    ///
    /// A key that has spent 4 of 10 has 16 left of 20. One that has spent more than the new quota allows at once has none
    /// left until the rest is back; nothing is forgiven, so quotas that change to and fro admit no more than the greatest of
    /// them.
    ///
    /// What was spent under a quicker quota comes back as it would have under that one, until the new one admits
    /// something of the key: a lowered quota locks nobody out for longer than the old one took to refill. A slower one
    /// is left at once. A limit of 0 refuses all, and forgets nothing. This walks all keys, a short lock at a time.
    pub fn set_quota(&self, quota: Quota) {
        let mut current = self.inner.quota();
        *current = quota;
        let now = self.inner.clock.now();
        self.inner.store.set_quota(&quota, now);
        drop(current);
        wait::tell(&self.inner.changed);
    }

    /// Returns the quota.
    #[must_use]
    pub fn quota(&self) -> Quota {
        *self.inner.quota()
    }

    /// Forgets keys that are as good as new, looking at about `budget` keys.
    ///
    /// The next call goes on where this one stopped. It locks some hundred keys at a time, for microseconds.
    pub fn sweep(&self, budget: usize) -> Swept {
        self.inner.clock.correct();
        self.inner.store.sweep(budget, self.inner.clock.now())
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

    fn ask(&self, cells: u32) -> Ask<'static> {
        Ask {
            rule: None,
            cells,
            now: self.inner.clock.now(),
        }
    }
}

impl<K> Inner<K> {
    fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for KeyedLimiter<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K> fmt::Debug for KeyedLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter")
            .field("quota", &*self.inner.quota())
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`KeyedLimiter`] to be; none of them can be wrong.
///
/// # Examples
///
/// ```
/// use perennial_rate_limit::{KeyedLimiter, Quota, WhenFull};
///
/// let limiter: KeyedLimiter<u64> = KeyedLimiter::builder(Quota::per_second(5))
///     .max_keys(1000.try_into()?)
///     .when_full(WhenFull::Refuse)
///     .build();
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct KeyedLimiterBuilder<K> {
    quota: Quota,
    max_keys: NonZeroUsize,
    when_full: WhenFull,
    clock: Clock,
    key: PhantomData<fn(K)>,
}

impl<K: Hash + Eq> KeyedLimiterBuilder<K> {
    /// Sets how many keys are known at most (default: 100,000).
    pub fn max_keys(mut self, max_keys: NonZeroUsize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// Sets what happens to a new key then (default: [`WhenFull::Evict`]).
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets where the time comes from (default: [`Clock::system`]).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the limiter.
    #[must_use]
    pub fn build(self) -> KeyedLimiter<K> {
        // The quick variant of this hash leaves some shards without any of a thousand small numbers.
        let hasher = RandomState::default();
        KeyedLimiter {
            inner: Arc::new(Inner {
                store: Store::new(&self.quota, self.max_keys, self.when_full, hasher),
                clock: self.clock,
                quota: Mutex::new(self.quota),
                changed: Notify::new(),
            }),
        }
    }
}

impl<K> fmt::Debug for KeyedLimiterBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiterBuilder")
            .field("quota", &self.quota)
            .field("max_keys", &self.max_keys)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}
