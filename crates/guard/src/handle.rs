use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use perennial_breaker::{Breaker, Outcome};
use perennial_lifecycle::early;
use perennial_rate_limit::{Decision, GateLimiter};
use tracing::Instrument as _;

use crate::call::{Call, OwnKey, Payer, ThisKey};
use crate::environment::Service;
use crate::stage::{Lend, NoPool};
use crate::{
    Bulkhead, GuardConfigError, GuardError, GuardStatus, OperationOutcome, Retry, Retrying, Spend,
    event,
};

/// A protected operation's stages, resolved once and used for any number of calls.
pub struct Guard<P = NoPool, K = ()> {
    pub(crate) service: Arc<Service>,
    pub(crate) critical: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    pub(crate) limiter: Option<GateLimiter>,
    pub(crate) spend: Spend,
    pub(crate) key: Option<K>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) bulkhead: Option<Bulkhead>,
    pub(crate) pool: P,
    pub(crate) deadline: Option<Duration>,
    pub(crate) slow_after: Option<Duration>,
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
    /// A panic of the operation goes on unwinding, after it was counted as a failure. It panics as well if there is
    /// something to wait for, and a deadline, outside of a tokio runtime with its time enabled.
    ///
    /// # Cancel safety
    ///
    /// As safe as the operation: dropping the future drops the operation, checks the worker in, leaves the bulkhead
    /// and frees the breaker's permit (counted as cancelled). What was spent at the gate stays spent, unless the
    /// guard [spends when the operation begins](Spend::WhenBegun) and it was not begun.
    #[track_caller]
    pub fn run<T, E, F, Fut>(&self, operation: F) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_with(operation, failures_are_errors)
    }

    /// Runs an operation whose outcome `classify` judges for the breaker.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run). A panic of `classify` goes on unwinding, and says nothing of the service: the call counts as
    /// cancelled.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_with<T, E, F, Fut>(
        &self,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = OwnKey(&self.key);
        self.attempt(Location::caller(), key, &self.deadline, operation, classify)
    }

    /// Runs an operation and spends the quota of `key`, which may differ from call to call.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and [`GuardConfigError::NoQuota`] if the guard was built without a quota: nobody is limited
    /// by a key alone.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_keyed<K2, T, E, F, Fut>(
        &self,
        key: &K2,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        K2: Hash + Eq + ?Sized + 'static,
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = ThisKey(key);
        self.attempt(Location::caller(), key, &self.deadline, operation, classify)
    }

    /// Makes the guard try again what was refused or failed; see [`Retrying`].
    ///
    /// The operation may then run more than once.
    pub fn retrying(self, retry: Retry) -> Retrying<P, K> {
        Retrying::new(self, retry)
    }

    /// Runs an operation once, within a time that counts from the first poll.
    #[expect(
        clippy::manual_async_fn,
        reason = "one copies what it is given, and reads at once as a whole what was just written in parts"
    )]
    pub(crate) fn attempt<T, E, F, Fut>(
        &self,
        at: &'static Location<'static>,
        payer: impl Payer,
        deadline: &Option<Duration>,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        async move {
            // Pinned here, so that neither way moves it: it is as large as the operation.
            let stages = pin!(self.stages(at, payer, deadline, operation, classify));
            let span = event::span(&self.service.name);
            // Where nobody listens, entering and leaving the span at each poll would cost for nothing.
            if span.is_disabled() {
                stages.await
            } else {
                stages.instrument(span).await
            }
        }
    }

    /// All in one: what a stage hands over, such as an item or a permit, is not carried from future to future.
    #[expect(clippy::manual_async_fn, reason = "as for `attempt`")]
    fn stages<T, E, F, Fut>(
        &self,
        at: &'static Location<'static>,
        payer: impl Payer,
        deadline: &Option<Duration>,
        operation: F,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> impl Future<Output = Result<T, GuardError<E>>>
    where
        F: FnOnce(P::Item) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        async move {
            self.has_quota_for(&payer)?;
            let mut call = Call::new(&self.service, &self.slow_after);
            if self.critical.as_ref().is_some_and(|critical| critical()) {
                call.ends(OperationOutcome::MemoryPressure);
                return Err(self.memory_pressure());
            }
            let mut unpaid = None;
            if let Some(limiter) = &self.limiter {
                // Who is over quota is refused, and counted, by the check.
                if self.spend == Spend::WhenBegun && payer.peek(limiter).is_allowed() {
                    unpaid = Some(limiter);
                } else if let Some(refused) = self.over_quota(payer.check(limiter, call.began_at()))
                {
                    call.ends(OperationOutcome::RateLimited);
                    return Err(refused);
                }
            }
            if let Some(breaker) = &self.breaker {
                // The call is measured anyhow.
                match breaker.try_acquire_untimed() {
                    Ok(permit) => call.permit = Some(permit),
                    Err(open) => {
                        call.ends(OperationOutcome::CircuitOpen);
                        return Err(GuardError::CircuitOpen(open));
                    }
                }
            }
            let mut has_waited = false;
            let mut _place = None;
            // What lending needs goes with it, and what comes after has its room: where many calls wait, a smaller future
            // is faster, since more of them are at hand. So all that takes long anyway is boxed.
            let item = {
                let mut left = *deadline;
                if let Some(bulkhead) = &self.bulkhead {
                    _place = bulkhead.try_enter();
                    if _place.is_none() {
                        has_waited = true;
                        _place = Box::pin(bulkhead.enter(left)).await;
                        let waited = call.elapsed();
                        left = left.map(|left| left.saturating_sub(waited));
                        // Who gets one only as his time ends has waited in vain as well.
                        if _place.is_none() || left == Some(Duration::ZERO) {
                            call.ends(OperationOutcome::BulkheadFull);
                            return Err(self.bulkhead_full(bulkhead));
                        }
                        // An open circuit does not wait for a worker.
                        if let Err(open) = call.readmit() {
                            call.ends(OperationOutcome::CircuitOpen);
                            return Err(GuardError::CircuitOpen(open));
                        }
                    }
                }
                // After a wait it was read too long ago.
                let count = if has_waited { None } else { call.began_at() };
                let lending = Noted {
                    wait: pin!(self.pool.lend_at(left, at, count)),
                    has_waited: &mut has_waited,
                };
                match lending.await {
                    Ok(item) => item,
                    Err(refused) => {
                        call.ends(OperationOutcome::NoWorker);
                        return Err(GuardError::Pool(refused));
                    }
                }
            };
            if has_waited && let Err(open) = call.readmit() {
                call.ends(OperationOutcome::CircuitOpen);
                return Err(GuardError::CircuitOpen(open));
            }
            let mut waited = Duration::ZERO;
            if has_waited {
                waited = call.begins_late();
                // An operation without any time left would fail by that, and not by the service.
                if deadline.is_some_and(|deadline| waited >= deadline) {
                    call.ends(OperationOutcome::NoWorker);
                    return Err(self.too_late(deadline));
                }
            }
            if let Some(limiter) = unpaid
                && let Some(refused) = self.over_quota(payer.check(limiter, None))
            {
                call.ends(OperationOutcome::RateLimited);
                return Err(refused);
            }
            let mut work = pin!(call.operate(|| operation(item)));
            let result = match deadline {
                None => Some(poll_fn(|context| call.operate(|| work.as_mut().poll(context))).await),
                Some(deadline) => {
                    // The timer costs more than all the rest of a guard, so it is made only for an operation that takes some
                    // milliseconds: many end at once, and one that asks an actor next door is answered soon.
                    let left = deadline.saturating_sub(waited);
                    let first = early(left, |context| call.operate(|| work.as_mut().poll(context)));
                    match first.await {
                        Some(result) => Some(result),
                        None => Box::pin(call.finish(work, *deadline)).await,
                    }
                }
            };
            match result {
                Some(result) => {
                    call.judged(classify(&result));
                    result.map_err(GuardError::Operation)
                }
                None => {
                    call.ends(OperationOutcome::DeadlineExceeded);
                    Err(self.deadline_exceeded(deadline))
                }
            }
        }
    }
}

/// Waits in place, and notes that it had to.
struct Noted<'a, F> {
    wait: Pin<&'a mut F>,
    has_waited: &'a mut bool,
}

impl<F: Future> Future for Noted<'_, F> {
    type Output = F::Output;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let item = self.wait.as_mut().poll(context);
        *self.has_waited |= item.is_pending();
        item
    }
}

impl<P, K> Guard<P, K> {
    /// Who names a key means to be limited: without a quota he would not be.
    fn has_quota_for<T: Payer>(&self, _: &T) -> Result<(), GuardConfigError> {
        if T::IS_NAMED && self.limiter.is_none() {
            let service = Arc::clone(&self.service.name);
            return Err(GuardConfigError::NoQuota { service });
        }
        Ok(())
    }

    #[cold]
    fn memory_pressure<E>(&self) -> GuardError<E> {
        GuardError::MemoryPressure {
            service: Arc::clone(&self.service.name),
        }
    }

    fn over_quota<E>(&self, decision: Decision) -> Option<GuardError<E>> {
        (!decision.is_allowed()).then(|| GuardError::RateLimited {
            service: Arc::clone(&self.service.name),
            retry_after: decision.retry_after(),
        })
    }

    #[cold]
    fn bulkhead_full<E>(&self, bulkhead: &Bulkhead) -> GuardError<E> {
        GuardError::BulkheadFull {
            service: Arc::clone(&self.service.name),
            max: bulkhead.max(),
        }
    }

    #[cold]
    fn too_late<E>(&self, deadline: &Option<Duration>) -> GuardError<E> {
        GuardError::TooLate {
            service: Arc::clone(&self.service.name),
            deadline: deadline.unwrap_or_default(),
        }
    }

    #[cold]
    fn deadline_exceeded<E>(&self, deadline: &Option<Duration>) -> GuardError<E> {
        GuardError::DeadlineExceeded {
            service: Arc::clone(&self.service.name),
            deadline: deadline.unwrap_or_default(),
        }
    }
}

pub(crate) fn failures_are_errors<T, E>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}

impl<P, K> Guard<P, K> {
    /// Returns the service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service.name
    }

    /// Returns how the operations of this service have ended so far, and how long they took.
    ///
    /// It sums up counts of many threads, and is meant for people and tests, not for every call.
    #[must_use]
    pub fn status(&self) -> GuardStatus {
        self.service.status()
    }
}

impl<P: Clone, K: Clone> Clone for Guard<P, K> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            critical: self.critical.clone(),
            limiter: self.limiter.clone(),
            spend: self.spend,
            key: self.key.clone(),
            breaker: self.breaker.clone(),
            bulkhead: self.bulkhead.clone(),
            pool: self.pool.clone(),
            deadline: self.deadline,
            slow_after: self.slow_after,
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
