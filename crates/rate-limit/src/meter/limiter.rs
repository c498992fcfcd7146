//! Any algorithm for many keys: [`MeterLimiter`].

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, Hash},
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::quality::RandomState;
use ratelimit_meter::{
    InconsistentCapacity, NegativeMultiDecision, NonConformance,
    algorithms::{Algorithm, RateLimitState as _},
};

use crate::{
    clock::{Clock, Nanos},
    decision::Decision,
};

#[cfg(test)]
mod tests;

/// Shards of a limiter; each has its share of the cap.
const SHARDS: usize = 32;

type Keys<K, S> = HashMap<K, S, RandomState>;

/// Gives each key the same capacity, metered by any [`Algorithm`] over [`Nanos`].
///
/// It is for algorithms that [`KeyedLimiter`](crate::KeyedLimiter) does not know, and does less: a quota cannot
/// change, and at the cap a new key is refused until a known one is idle. Two first touches of one key by two
/// threads meet in one state, which the keyed limiter of `ratelimit_meter` does not promise. Clones share their
/// keys.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_rate_limit::Clock;
/// use perennial_rate_limit::meter::{MeterLimiter, Nanos, ShippedLeakyBucket};
///
/// let limiter: MeterLimiter<&str, ShippedLeakyBucket<Nanos>> =
///     MeterLimiter::new(20.try_into()?, Duration::from_secs(1), Clock::system())
///         .map_err(|error| error.to_string())?;
///
/// assert!(limiter.check(&"ada").is_allowed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MeterLimiter<K, A: Algorithm<Nanos>> {
    inner: Arc<Inner<K, A>>,
}

struct Inner<K, A: Algorithm<Nanos>> {
    algorithm: A,
    shards: [Mutex<Keys<K, A::BucketState>>; SHARDS],
    hasher: RandomState,
    keys_per_shard: usize,
    clock: Clock,
}

impl<K, A> MeterLimiter<K, A>
where
    K: Hash + Eq,
    A: Algorithm<Nanos>,
    A::NegativeDecision: NonConformance<Nanos>,
{
    /// Makes a limiter that allows `capacity` cells per `period`, for about 100,000 keys at most.
    ///
    /// # Errors
    ///
    /// Those of the algorithm, if it cannot work with this capacity.
    pub fn new(
        capacity: NonZeroU32,
        period: Duration,
        clock: Clock,
    ) -> Result<Self, InconsistentCapacity> {
        let algorithm = A::construct(capacity, NonZeroU32::MIN, period)?;
        Ok(Self::with(algorithm, crate::config::MAX_KEYS, clock))
    }

    /// Makes a limiter of an algorithm that was made elsewhere, for about `max_keys` keys at most: the cap is divided
    /// among 32 shards, and rounded up.
    #[must_use]
    pub fn with(algorithm: A, max_keys: NonZeroUsize, clock: Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                algorithm,
                shards: std::array::from_fn(|_| Mutex::default()),
                hasher: RandomState::default(),
                keys_per_shard: max_keys.get().div_ceil(SHARDS),
                clock,
            }),
        }
    }

    /// Spends one cell of the key, if there is one.
    pub fn check(&self, key: &K) -> Decision
    where
        K: Clone,
    {
        self.check_n(key, 1)
    }

    /// Spends `cells` of the key, all or none.
    ///
    /// The trait does not say what is left: of an allowed check `remaining` is 0.
    pub fn check_n(&self, key: &K, cells: u32) -> Decision
    where
        K: Clone,
    {
        // Outside of the lock: how a key is copied and dropped is its type's own code.
        let mut own = None;
        let (answer, now) = loop {
            let mut gone = Vec::new();
            let mut keys = self.shard(key);
            // Not before: a key that was forgotten meanwhile would begin anew at the earlier time.
            let now = self.inner.clock.now();
            let spend = |state: &_| self.inner.algorithm.test_n_and_update(state, cells, now);
            if let Some(state) = keys.get(key) {
                break (spend(state), now);
            }
            if let Err(until) = self.make_room(&mut keys, &mut gone, now) {
                return Decision::Refused {
                    retry_after: until.since(now),
                };
            }
            if let Some(own) = own.take() {
                break (spend(keys.entry(own).or_default()), now);
            }
            drop(keys);
            own = Some(key.clone());
        };
        match answer {
            Ok(()) => Decision::Allowed { remaining: 0 },
            Err(NegativeMultiDecision::BatchNonConforming(_, refusal)) => Decision::Refused {
                retry_after: refusal.earliest_possible().since(now),
            },
            Err(NegativeMultiDecision::InsufficientCapacity(_)) => Decision::Never,
        }
    }

    /// Makes the key as good as new; tells whether it was known.
    pub fn reset(&self, key: &K) -> bool {
        let known = self.shard(key).remove_entry(key);
        // Here, for the lock is free again.
        known.is_some()
    }

    /// Forgets all keys that are as good as new, a shard at a time; tells how many.
    pub fn sweep(&self) -> usize {
        self.inner.clock.correct();
        let forget = |shard| {
            let mut gone = Vec::new();
            let mut keys = lock(shard);
            self.forget_idle(&mut keys, &mut gone, self.inner.clock.now());
            drop(keys);
            gone.len()
        };
        self.inner.shards.iter().map(forget).sum()
    }

    /// Returns how many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.inner.shards.iter();
        shards.map(|shard| lock(shard).len()).sum()
    }

    /// Tells whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that there is a place for one key, or says when a known one is idle.
    fn make_room(
        &self,
        keys: &mut Keys<K, A::BucketState>,
        gone: &mut Vec<(K, A::BucketState)>,
        now: Nanos,
    ) -> Result<(), Nanos> {
        let is_full = |keys: &Keys<K, A::BucketState>| keys.len() >= self.inner.keys_per_shard;
        if is_full(keys) {
            self.forget_idle(keys, gone, now);
        }
        if is_full(keys) {
            let idle = keys.values().filter_map(|state| self.idle_at(state));
            return Err(idle.min().unwrap_or(now));
        }
        Ok(())
    }

    /// Those that are forgotten are to be dropped when the lock is free.
    fn forget_idle(
        &self,
        keys: &mut Keys<K, A::BucketState>,
        gone: &mut Vec<(K, A::BucketState)>,
        now: Nanos,
    ) {
        let is_idle = |_: &K, state: &mut _| self.idle_at(state).is_none_or(|idle| idle <= now);
        gone.extend(keys.extract_if(is_idle));
    }

    fn idle_at(&self, state: &A::BucketState) -> Option<Nanos> {
        state.last_touched(&self.inner.algorithm)
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Keys<K, A::BucketState>> {
        let middle = (self.inner.hasher.hash_one(key) >> 32) as usize;
        lock(&self.inner.shards[middle % SHARDS])
    }
}

/// A key whose `Hash` or `Eq` panics poisons its shard, whose map is sound after that.
fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, A: Algorithm<Nanos>> Clone for MeterLimiter<K, A> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K, A: Algorithm<Nanos>> fmt::Debug for MeterLimiter<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterLimiter")
            .field("algorithm", &self.inner.algorithm)
            .finish_non_exhaustive()
    }
}
