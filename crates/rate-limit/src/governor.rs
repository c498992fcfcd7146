//! governor as a second engine: [`GovernorLimiter`], under the feature `governor`.

use std::{fmt, hash::Hash, num::NonZeroU32, ops::Add, sync::Arc, time::Duration};

use governor::{
    RateLimiter,
    clock::Reference,
    middleware::StateInformationMiddleware,
    state::{
        NotKeyed, StateStore,
        keyed::{DashMapStateStore, ShrinkableKeyedStateStore},
    },
};
use tokio::sync::Notify;

use crate::{
    clock::{Clock, Nanos},
    decision::Decision,
    error::{QuotaError, WaitError},
    machine::{Gcra, Meter as _},
    quota::{Algorithm, Quota},
    wait::{self, Patience},
};

#[cfg(test)]
mod tests;

/// Gives each key the same quota, metered and kept by governor.
///
/// It answers as a [`KeyedLimiter`](crate::KeyedLimiter) with [`Algorithm::Gcra`] does, and does less: keys are not
/// capped, a quota cannot change, and no key can be looked at or reset. It is for hosts that have to run on governor. Clones
/// share their keys.
///
/// # Examples
///
/// ```
/// use perennial_rate_limit::{Clock, Decision, GovernorLimiter, Quota};
///
/// let limiter = GovernorLimiter::new(&Quota::per_minute(2), Clock::system())?;
///
/// assert_eq!(limiter.check(&"ada"), Decision::Allowed { remaining: 1 });
/// assert_eq!(limiter.check(&"ada"), Decision::Allowed { remaining: 0 });
/// assert!(limiter.check(&"ada").retry_after().is_some());
/// # Ok::<(), perennial_rate_limit::QuotaError>(())
/// ```
pub struct GovernorLimiter<K: Hash + Eq + Clone> {
    inner: Arc<Inner<K>>,
}

type Governor<K> = RateLimiter<K, Shared<K>, Clock, StateInformationMiddleware>;

struct Inner<K: Hash + Eq + Clone> {
    /// Nothing under a quota that admits nothing, which governor cannot say.
    governor: Option<Governor<K>>,
    keys: Shared<K>,
    /// How governor's states are to be read.
    gcra: Gcra,
    /// governor counts its time from here, or from some nanoseconds before.
    start: Nanos,
    clock: Clock,
}

/// governor's own states, which can be looked at beside it.
struct Shared<K: Hash + Eq + Clone>(Arc<DashMapStateStore<K>>);

impl<K: Hash + Eq + Clone> GovernorLimiter<K> {
    /// Makes a limiter.
    ///
    /// # Errors
    ///
    /// - [`QuotaError::OtherAlgorithm`] for a quota that is not metered by [`Algorithm::Gcra`].
    /// - [`QuotaError::PeriodTooShort`] for more than one cell per nanosecond.
    pub fn new(quota: &Quota, clock: Clock) -> Result<Self, QuotaError> {
        if quota.metered_by() != Algorithm::Gcra {
            return Err(QuotaError::OtherAlgorithm {
                algorithm: quota.metered_by(),
            });
        }
        let gcra = Gcra::new(quota);
        let keys = Shared(Arc::default());
        let governor = match NonZeroU32::new(gcra.most()) {
            None => None,
            Some(burst) => {
                // Rounded up and cut as ours: governor's own sums would overflow.
                let interval = Duration::from_nanos(gcra.interval());
                let period = quota.period();
                let quota = governor::Quota::with_period(interval)
                    .ok_or(QuotaError::PeriodTooShort { period })?;
                let quota = quota.allow_burst(burst);
                Some(Governor::new(quota, keys.clone(), clock.clone()))
            }
        };
        let inner = Inner {
            governor,
            keys,
            gcra,
            start: clock.now(),
            clock,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Spends one cell of the key, if there is one.
    pub fn check(&self, key: &K) -> Decision {
        self.check_n(key, 1)
    }

    /// Spends `cells` of the key, all or none.
    ///
    /// None at all is allowed and changes nothing, unless the limit is 0.
    pub fn check_n(&self, key: &K, cells: u32) -> Decision {
        let Some(governor) = &self.inner.governor else {
            return Decision::Never;
        };
        // The price of more than is ever had could overflow.
        if cells > self.inner.gcra.most() {
            return Decision::Never;
        }
        let Some(cells) = NonZeroU32::new(cells) else {
            let remaining = self.inner.remaining(key);
            return Decision::Allowed { remaining };
        };
        match governor.check_key_n(key, cells) {
            Ok(Ok(state)) => Decision::Allowed {
                remaining: state.remaining_burst_capacity(),
            },
            Ok(Err(refused)) => Decision::Refused {
                retry_after: refused.wait_time_from(self.inner.clock.now()),
            },
            Err(_) => Decision::Never,
        }
    }

    /// Spends one cell of the key, waiting until there is one, as
    /// [`KeyedLimiter::until_ready`](crate::KeyedLimiter::until_ready) does: on tokio's clock, and not on a timer of
    /// governor's own.
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
    pub async fn until_ready(&self, key: &K, patience: Patience) -> Result<u32, WaitError> {
        // Its quota stays as it is.
        let unchanged = Notify::new();
        wait::until(patience, &unchanged, || self.check(key)).await
    }

    /// Forgets all keys that are as good as new, and gives their memory back; a shard at a time.
    pub fn sweep(&self) {
        self.inner.clock.correct();
        if let Some(governor) = &self.inner.governor {
            governor.retain_recent();
            governor.shrink_to_fit();
        }
    }

    /// Returns how many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        let governor = self.inner.governor.as_ref();
        governor.map_or(0, RateLimiter::len)
    }

    /// Tells whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq + Clone> Inner<K> {
    /// What governor never says: the cells of a key that spends none.
    fn remaining(&self, key: &K) -> u32 {
        let now = Nanos::new(self.clock.now().get().saturating_sub(self.start.get()));
        let arrival = self.keys.0.get(key).and_then(|state| {
            // A measurement that is refused changes nothing.
            let refused = |arrival| Err::<((), _), _>(arrival);
            state
                .measure_and_replace(&NotKeyed::NonKey, refused)
                .err()
                .flatten()
        });
        let arrival = arrival.map_or(0, governor::nanos::Nanos::as_u64);
        self.gcra.remaining(&Nanos::new(arrival), now)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Shared<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<governor::nanos::Nanos>) -> Result<(T, governor::nanos::Nanos), E>,
    {
        self.0.measure_and_replace(key, measure)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Shared<K> {
    fn retain_recent(&self, drop_below: governor::nanos::Nanos) {
        self.0.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.0.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Hash + Eq + Clone> Clone for Shared<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Clock::now(self)
    }
}

impl Reference for Nanos {
    fn duration_since(&self, earlier: Self) -> governor::nanos::Nanos {
        self.get().saturating_sub(earlier.get()).into()
    }

    fn saturating_sub(&self, duration: governor::nanos::Nanos) -> Self {
        let earlier = self.get().checked_sub(duration.as_u64());
        earlier.map_or(*self, Nanos::new)
    }
}

impl Add<governor::nanos::Nanos> for Nanos {
    type Output = Nanos;

    fn add(self, rhs: governor::nanos::Nanos) -> Nanos {
        Nanos::new(self.get().saturating_add(rhs.as_u64()))
    }
}

impl<K: Hash + Eq + Clone> Clone for GovernorLimiter<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// Says nothing of the keys: they may be personal data, and many.
impl<K: Hash + Eq + Clone> fmt::Debug for GovernorLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernorLimiter").finish_non_exhaustive()
    }
}
