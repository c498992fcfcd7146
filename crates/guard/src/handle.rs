use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_breaker::{Breaker, Outcome};
use perennial_rate_limit::GateLimiter;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::environment::Service;
use crate::stage::{Lend, NoPool};
use crate::{GuardError, OperationOutcome, event};

/// A protected operation's stages, resolved once and used for any number of calls.
pub struct Guard<P = NoPool, K = ()> {
    pub(crate) service: Arc<Service>,
    pub(crate) critical: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    pub(crate) limiter: Option<GateLimiter>,
    pub(crate) key: Option<K>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) pool: P,
    pub(crate) deadline: Option<Duration>,
}

impl<P: Lend, K: Hash + Eq + 'static> Guard<P, K> {
    /// Runs an operation through all stages; its `Err`, a panic and a missed deadline count as failures.
    ///
    /// # Errors
    ///
    /// [`GuardError`] says who refused and until when, or carries the operation's own error.
    ///
    /// # Panics
    ///
    /// A panic of the operation goes on unwinding, after it was counted as a failure.
    ///
    /// # Cancel safety
    ///
    /// As safe as the operation: dropping the future drops the operation, checks the worker in, and frees
    /// the breaker's permit (counted as cancelled). What was spent at the gate stays spent.
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, GuardError<E>>
    where
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_with(operation, |result| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        })
        .await
    }

    /// Runs an operation whose outcome `classify` judges for the breaker.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_with<T, E, F, Fut>(
        &self,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> Result<T, GuardError<E>>
    where
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match &self.key {
            Some(key) => self.run_keyed(key, operation, classify).await,
            None => self.run_keyed(&(), operation, classify).await,
        }
    }

    /// Runs an operation and spends the quota of `key`, which may differ from call to call.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_keyed<K2, T, E, F, Fut>(
        &self,
        key: &K2,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> Result<T, GuardError<E>>
    where
        K2: Hash + Eq + ?Sized + 'static,
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let span = event::span(&self.service.name);
        self.stages(key, operation, classify).instrument(span).await
    }

    async fn stages<K2, T, E, F, Fut>(
        &self,
        key: &K2,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> Result<T, GuardError<E>>
    where
        K2: Hash + Eq + ?Sized + 'static,
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let began = Instant::now();
        if self.critical.as_ref().is_some_and(|critical| critical()) {
            self.note(OperationOutcome::MemoryPressure, began);
            return Err(GuardError::MemoryPressure {
                service: Arc::clone(&self.service.name),
            });
        }
        if let Some(limiter) = &self.limiter {
            let decision = limiter.check(key);
            if !decision.is_allowed() {
                self.note(OperationOutcome::RateLimited, began);
                return Err(GuardError::RateLimited {
                    service: Arc::clone(&self.service.name),
                    retry_after: decision.retry_after(),
                });
            }
        }
        // Dropped on any way out without a result, it counts as cancelled and frees its place.
        let permit = match self.breaker.as_ref().map(Breaker::try_acquire).transpose() {
            Ok(permit) => permit,
            Err(open) => {
                self.note(OperationOutcome::CircuitOpen, began);
                return Err(GuardError::CircuitOpen(open));
            }
        };
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_sub(began.elapsed()));
        let item = match self.pool.lend(left).await {
            Ok(item) => item,
            Err(error) => {
                self.note(OperationOutcome::NoWorker, began);
                return Err(GuardError::Pool(error));
            }
        };
        let work = AssertUnwindSafe(async { operation(item).await }).catch_unwind();
        let result = match self.deadline {
            Some(deadline) => match tokio::time::timeout_at(began + deadline, work).await {
                Ok(result) => result,
                Err(_) => {
                    if let Some(permit) = permit {
                        permit.failure();
                    }
                    self.note(OperationOutcome::DeadlineExceeded, began);
                    return Err(GuardError::DeadlineExceeded {
                        service: Arc::clone(&self.service.name),
                        deadline,
                    });
                }
            },
            None => work.await,
        };
        let result = match result {
            Ok(result) => result,
            Err(panic) => {
                if let Some(permit) = permit {
                    permit.failure();
                }
                self.note(OperationOutcome::Panicked, began);
                resume_unwind(panic)
            }
        };
        let outcome = classify(&result);
        if let Some(permit) = permit {
            permit.record(outcome);
        }
        self.note(
            match outcome {
                Outcome::Failure => OperationOutcome::Failure,
                _ => OperationOutcome::Success,
            },
            began,
        );
        result.map_err(GuardError::Operation)
    }

    /// Returns the service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service.name
    }

    /// The one place where an outcome is recorded.
    fn note(&self, outcome: OperationOutcome, began: Instant) {
        let took = began.elapsed();
        self.service.meter.record(outcome, took);
        if let Some(recorder) = &self.service.recorder {
            recorder.record(outcome, took);
        }
    }
}

impl<P: Clone, K: Clone> Clone for Guard<P, K> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            critical: self.critical.clone(),
            limiter: self.limiter.clone(),
            key: self.key.clone(),
            breaker: self.breaker.clone(),
            pool: self.pool.clone(),
            deadline: self.deadline,
        }
    }
}

impl<P, K> fmt::Debug for Guard<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("service", &self.service.name)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
