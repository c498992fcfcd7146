use std::hash::Hash;
use std::panic::Location;
use std::time::Duration;

use perennial_breaker::Outcome;
use perennial_lifecycle::{Backoff, Growth};
use tokio::time::Instant;

use crate::call::{OwnKey, Payer, ThisKey};
use crate::handle::failures_are_errors;
use crate::stage::{Lend, NoPool};
use crate::{Guard, GuardError};

/// How often, and after which pauses, a [`Retrying`] guard tries again; checked when it is made.
///
/// # Examples
///
/// ```
/// use perennial_guard::Retry;
/// use perennial_lifecycle::Backoff;
/// use std::time::Duration;
///
/// let pauses = Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(1)).jitter(0.5);
/// let retry = Retry::new(4, pauses)?.attempt_timeout(Duration::from_secs(2))?;
/// assert_eq!(retry.max_attempts(), 4);
///
/// let error = Retry::new(0, pauses).unwrap_err();
/// assert_eq!(error.to_string(), "retry: max_attempts: must be at least 1");
/// # Ok::<(), perennial_guard::RetryConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Retry {
    max_attempts: u32,
    backoff: Backoff,
    attempt_timeout: Option<Duration>,
}

/// Settings of a [`Retry`] that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("retry: {field}: {expected}")]
#[non_exhaustive]
pub struct RetryConfigError {
    /// The setting.
    pub field: &'static str,
    /// What was expected of it.
    pub expected: &'static str,
}

impl Retry {
    /// Makes at most `max_attempts` attempts, the first included, with pauses between them.
    ///
    /// Of the backoff, `reset_after` has no meaning here. With a seed the pauses of all calls are alike: callers that failed
    /// together come back together, so it is for tests.
    ///
    /// # Errors
    ///
    /// [`RetryConfigError`] names the setting that is out of range.
    pub fn new(max_attempts: u32, backoff: Backoff) -> Result<Self, RetryConfigError> {
        let wrong = |field, expected| Err(RetryConfigError { field, expected });
        if max_attempts == 0 {
            return wrong("max_attempts", "must be at least 1");
        }
        if backoff.first().is_zero() {
            return wrong("backoff", "the first pause must not be zero");
        }
        if let Growth::Exponential { factor } = backoff.growth()
            && !(factor.is_finite() && factor >= 1.0)
        {
            return wrong("backoff.factor", "must be a number of at least 1");
        }
        if backoff.longest().is_some_and(|cap| cap < backoff.first()) {
            return wrong("backoff.cap", "must not be shorter than the first pause");
        }
        if !(0.0..=1.0).contains(&backoff.jitter_share()) {
            return wrong("backoff.jitter", "must lie between 0 and 1");
        }
        Ok(Self {
            max_attempts,
            backoff,
            attempt_timeout: None,
        })
    }

    /// Bounds each attempt by itself, within the guard's deadline. Default: not.
    ///
    /// Without it an attempt that hangs leaves no time for another one.
    ///
    /// # Errors
    ///
    /// [`RetryConfigError`]: no attempt can succeed in no time.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Result<Self, RetryConfigError> {
        if timeout.is_zero() {
            return Err(RetryConfigError {
                field: "attempt_timeout",
                expected: "must be longer than zero",
            });
        }
        self.attempt_timeout = Some(timeout);
        Ok(self)
    }

    /// Returns how many attempts are made at most.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let Self { backoff, .. } = *self;
        let seed = backoff.jitter_seed();
        let mut random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        backoff.delays().map(move |delay| {
            let share = 1.0 - backoff.jitter_share() * random.f64();
            delay.mul_f64(share)
        })
    }
}

/// A guard that tries again; made by [`Guard::retrying`].
///
/// **The operation may run more than once**, also when an earlier run of it did its work and only its answer was
/// lost. Use it for what is safe to repeat. A plain [`Guard`] never does this.
///
/// Each attempt goes through all stages: it is asked for memory, spends a cell, is seen by the breaker, borrows a
/// worker, and is recorded; between attempts nothing is held. Tried again is
///
/// - a refusal, unless it is [final](GuardError::is_retryable), not before its `retry_after`;
/// - an attempt that ran into [`Retry::attempt_timeout`];
/// - an error of the operation that `retry_if` accepts.
///
/// All attempts and pauses together have the guard's deadline. A pause that would outlast it is not begun: the last
/// error is returned at once. A panic is not tried again.
///
/// # Examples
///
/// ```
/// use perennial_guard::{Guard, Retry};
/// use perennial_lifecycle::Backoff;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retry = Retry::new(3, Backoff::exponential(Duration::from_millis(1)))?;
/// let guard = Guard::builder("geocoder").deadline(Duration::from_secs(2)).build()?.retrying(retry);
///
/// let runs = AtomicU32::new(0);
/// let answer = guard
///     .run(|()| async {
///         match runs.fetch_add(1, Ordering::Relaxed) {
///             0 => Err(std::io::Error::other("busy")),
///             _ => Ok("52.5 N 13.4 E"),
///         }
///     })
///     .await?;
/// assert_eq!((answer, runs.into_inner()), ("52.5 N 13.4 E", 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Retrying<P = NoPool, K = ()> {
    guard: Guard<P, K>,
    retry: Retry,
}

impl<P, K> Retrying<P, K> {
    pub(crate) fn new(guard: Guard<P, K>, retry: Retry) -> Self {
        Self { guard, retry }
    }

    /// Returns the guard of each attempt.
    #[must_use]
    pub fn guard(&self) -> &Guard<P, K> {
        &self.guard
    }
}

impl<P: Lend, K: Hash + Eq + 'static> Retrying<P, K> {
    /// Runs an operation, and again after any `Err` of its own.
    ///
    /// # Errors
    ///
    /// The [`GuardError`] of the last attempt.
    ///
    /// # Panics
    ///
    /// As [`Guard::run`].
    ///
    /// # Cancel safety
    ///
    /// As [`Guard::run`]; dropped during a pause there is nothing to give back.
    #[track_caller]
    pub fn run<T, E, F, Fut>(&self, operation: F) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnMut(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_if(operation, |_| true)
    }

    /// Runs an operation, and again after those of its own errors that `retry_if` accepts.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_if<T, E, F, Fut>(
        &self,
        operation: F,
        retry_if: impl FnMut(&E) -> bool,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnMut(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let own = OwnKey(&self.guard.key);
        let at = Location::caller();
        self.attempts(at, own, operation, failures_are_errors, retry_if)
    }

    /// Runs an operation on the quota of `key`; `classify` judges each attempt for the breaker, `retry_if` each error.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and [`GuardConfigError::NoQuota`](crate::GuardConfigError::NoQuota) if the guard was built
    /// without a quota.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_keyed<K2, T, E, F, Fut>(
        &self,
        key: &K2,
        operation: F,
        classify: impl FnMut(&Result<T, E>) -> Outcome,
        retry_if: impl FnMut(&E) -> bool,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        K2: Hash + Eq + ?Sized + 'static,
        F: FnMut(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let at = Location::caller();
        self.attempts(at, ThisKey(key), operation, classify, retry_if)
    }

    async fn attempts<T, E, F, Fut>(
        &self,
        at: &'static Location<'static>,
        payer: impl Payer,
        mut operation: F,
        mut classify: impl FnMut(&Result<T, E>) -> Outcome,
        mut retry_if: impl FnMut(&E) -> bool,
    ) -> Result<T, GuardError<E>>
    where
        F: FnMut(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let guard = &self.guard;
        let mut began = Instant::now();
        let until = guard.deadline.and_then(|given| began.checked_add(given));
        let mut pauses = None;
        for attempt in 1.. {
            let left = until.map(|until| until.saturating_duration_since(began));
            let given = [left, self.retry.attempt_timeout]
                .into_iter()
                .flatten()
                .min();
            let result = guard.attempt(at, &payer, &given, &mut operation, &mut classify);
            let error = match result.await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let again = match &error {
                GuardError::Operation(error) => retry_if(error),
                other => other.is_retryable(),
            };
            if !again || attempt >= self.retry.max_attempts {
                return Err(error);
            }
            let pauses = pauses.get_or_insert_with(|| self.retry.pauses());
            let pause = pauses.next().unwrap_or(self.retry.backoff.first());
            let pause = pause.max(error.retry_after().unwrap_or_default());
            let now = Instant::now();
            // Not begun where it would leave no time for the attempt after it.
            let Some(next) = now.checked_add(pause) else {
                return Err(error);
            };
            if until.is_some_and(|until| next >= until) {
                return Err(error);
            }
            guard.service.retried(attempt, error.outcome(), pause);
            tokio::time::sleep_until(next).await;
            began = Instant::now();
            if until.is_some_and(|until| began >= until) {
                return Err(error);
            }
        }
        unreachable!("the last attempt returns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pauses(backoff: Backoff) -> Vec<u128> {
        let retry = Retry::new(9, backoff).unwrap();
        retry.pauses().take(4).map(|it| it.as_millis()).collect()
    }

    #[test]
    fn pauses_grow_as_asked_and_stop_at_the_cap() {
        assert_eq!(pauses(Backoff::constant(7 * MS)), [7, 7, 7, 7]);
        assert_eq!(
            pauses(Backoff::linear(10 * MS).cap(25 * MS)),
            [10, 20, 25, 25]
        );
        assert_eq!(pauses(Backoff::exponential(4 * MS)), [4, 8, 16, 32]);
    }

    #[test]
    fn jitter_with_a_seed_is_repeatable_and_only_shortens() {
        let backoff = Backoff::constant(1000 * MS).jitter(0.5);
        assert_eq!(pauses(backoff.seed(3)), pauses(backoff.seed(3)));
        assert_ne!(pauses(backoff.seed(3)), pauses(backoff.seed(4)));
        assert!(pauses(backoff).iter().all(|it| (500..=1000).contains(it)));
    }

    #[test]
    fn pauses_without_end_lead_beyond_no_clock() {
        let second = Duration::from_secs(1);
        for backoff in [
            Backoff::constant(Duration::MAX),
            Backoff::linear(Duration::MAX).jitter(1.0),
            Backoff::exponential(second).factor(1e30),
        ] {
            let pauses = Retry::new(9, backoff).unwrap().pauses().take(4);
            let now = Instant::now();
            assert_eq!(
                pauses.filter_map(|it| now.checked_add(it)).count(),
                4,
                "{backoff:?}"
            );
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let field = |backoff| Retry::new(1, backoff).unwrap_err().field;
        assert_eq!(field(Backoff::constant(Duration::ZERO)), "backoff");
        assert_eq!(
            field(Backoff::exponential(MS).factor(0.5)),
            "backoff.factor"
        );
        assert_eq!(
            field(Backoff::exponential(MS).factor(f64::NAN)),
            "backoff.factor"
        );
        assert_eq!(field(Backoff::linear(2 * MS).cap(MS)), "backoff.cap");
        assert_eq!(field(Backoff::linear(MS).jitter(1.5)), "backoff.jitter");
        let retry = Retry::new(2, Backoff::constant(MS)).unwrap();
        let error = retry.attempt_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(
            error.to_string(),
            "retry: attempt_timeout: must be longer than zero"
        );
    }
}
