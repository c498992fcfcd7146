//! One call on its way through a guard: whose cell it spends, and what is owed on every way out.

use std::future::poll_fn;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use perennial_breaker::{CircuitOpen, Outcome, Permit};
use perennial_lifecycle::{Count, Reading};
use perennial_rate_limit::{Decision, GateLimiter};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::OperationOutcome;
use crate::environment::Service;

/// Whose cell a call spends.
pub(crate) trait Payer {
    /// It was named for this call, so there must be a quota for it.
    const IS_NAMED: bool;

    /// Spends a cell; `count` was read just now, if it was the processor's counter that was read.
    fn check(&self, limiter: &GateLimiter, count: Option<Count>) -> Decision;
    fn peek(&self, limiter: &GateLimiter) -> Decision;
}

/// The guard's own key; without one all callers pay together.
pub(crate) struct OwnKey<'a, K>(pub(crate) &'a Option<K>);

/// A key that came with the call.
pub(crate) struct ThisKey<'a, K: ?Sized>(pub(crate) &'a K);

impl<K: Hash + Eq + 'static> Payer for OwnKey<'_, K> {
    const IS_NAMED: bool = false;

    fn check(&self, limiter: &GateLimiter, count: Option<Count>) -> Decision {
        match self.0 {
            Some(key) => ThisKey(key).check(limiter, count),
            None => ThisKey(&()).check(limiter, count),
        }
    }

    fn peek(&self, limiter: &GateLimiter) -> Decision {
        match self.0 {
            Some(key) => limiter.peek(key),
            None => limiter.peek(&()),
        }
    }
}

impl<K: Hash + Eq + ?Sized + 'static> Payer for ThisKey<'_, K> {
    const IS_NAMED: bool = true;

    fn check(&self, limiter: &GateLimiter, count: Option<Count>) -> Decision {
        match count {
            Some(count) => limiter.check_at(self.0, count),
            None => limiter.check(self.0),
        }
    }

    fn peek(&self, limiter: &GateLimiter) -> Decision {
        limiter.peek(self.0)
    }
}

impl<T: Payer> Payer for &T {
    const IS_NAMED: bool = T::IS_NAMED;

    fn check(&self, limiter: &GateLimiter, count: Option<Count>) -> Decision {
        T::check(self, limiter, count)
    }

    fn peek(&self, limiter: &GateLimiter) -> Decision {
        T::peek(self, limiter)
    }
}

/// What is owed when a call ends: a record, and a verdict for the breaker.
///
/// It is paid on drop, so on every way out once. Nothing here is moved after it was made: a copy of what was just
/// written costs more than the writing.
pub(crate) struct Call<'a> {
    service: &'a Service,
    slow_after: &'a Option<Duration>,
    began: Reading,
    /// When the operation began, where that was later: something was waited for.
    begun_late: Option<Reading>,
    /// Dropped without a result it counts as cancelled and frees its place.
    pub(crate) permit: Option<Permit<'a>>,
    /// What the call counts as if it is dropped now.
    outcome: OperationOutcome,
    /// How long it took, if that is known before it is dropped.
    took: Option<Duration>,
}

impl<'a> Call<'a> {
    #[inline(always)]
    pub(crate) fn new(service: &'a Service, slow_after: &'a Option<Duration>) -> Self {
        Self {
            service,
            slow_after,
            began: service.stopwatch.read(),
            begun_late: None,
            permit: None,
            outcome: OperationOutcome::GivenUp,
            took: None,
        }
    }

    /// Returns what the processor's counter showed when the call began.
    pub(crate) fn began_at(&self) -> Option<Count> {
        self.service.stopwatch.count(self.began)
    }

    /// Returns how long the call has been under way.
    pub(crate) fn elapsed(&self) -> Duration {
        self.service.stopwatch.since(self.began)
    }

    /// Asks the breaker again, after something was waited for.
    #[inline]
    pub(crate) fn readmit(&mut self) -> Result<(), CircuitOpen> {
        // Mostly it has not moved meanwhile.
        if let Some(permit) = self.permit.take_if(|permit| !permit.is_current()) {
            self.permit = Some(permit.renew()?);
        }
        Ok(())
    }

    /// The operation begins only now: the breaker judges how long it takes, and not what was waited for before. Returns
    /// how long that took.
    #[inline]
    pub(crate) fn begins_late(&mut self) -> Duration {
        let stopwatch = &self.service.stopwatch;
        let now = stopwatch.read();
        self.begun_late = Some(now);
        stopwatch.between(self.began, now)
    }

    /// Tells the breaker of the operation, which ended now. Returns how long the whole call took.
    fn report(&mut self, verdict: Outcome) -> Duration {
        let stopwatch = &self.service.stopwatch;
        // One reading for the breaker and the record.
        let now = stopwatch.read();
        let took = stopwatch.between(self.began, now);
        if let Some(permit) = self.permit.take() {
            let begun_late = self.begun_late;
            let took = begun_late.map_or(took, |begun| stopwatch.between(begun, now));
            permit.record_timed(verdict, took);
        }
        took
    }

    /// The call ends like this, as soon as it is dropped.
    pub(crate) fn ends(&mut self, outcome: OperationOutcome) {
        self.outcome = outcome;
    }

    /// The operation has returned, and this is what its result says of the service.
    pub(crate) fn judged(&mut self, verdict: Outcome) {
        self.took = Some(self.report(verdict));
        self.outcome = match verdict {
            Outcome::Failure => OperationOutcome::Failure,
            _ => OperationOutcome::Success,
        };
    }

    /// Runs code of the operation. A panic in it drops the call before the mark is taken back; one elsewhere in the
    /// task that drops this call on its way finds no such mark.
    #[inline(always)]
    pub(crate) fn operate<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.outcome = OperationOutcome::Panicked;
        let result = work();
        self.outcome = OperationOutcome::Cancelled;
        result
    }

    /// Waits for an operation that takes longer; `None` if the deadline passed first.
    pub(crate) async fn finish<F: Future>(
        &mut self,
        mut work: Pin<&mut F>,
        deadline: Duration,
    ) -> Option<F::Output> {
        let left = deadline.saturating_sub(self.elapsed());
        // A deadline beyond the end of time is none.
        let until = Instant::now().checked_add(left);
        let mut timer = pin!(until.map(sleep_until));
        poll_fn(|context| {
            if let Poll::Ready(output) = self.operate(|| work.as_mut().poll(context)) {
                return Poll::Ready(Some(output));
            }
            let Some(timer) = timer.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            // An operation that uses up the task's budget at each poll must not outrun its deadline.
            pin!(unconstrained(timer)).poll(context).map(|()| None)
        })
        .await
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome;
        let took = match outcome {
            OperationOutcome::Panicked | OperationOutcome::DeadlineExceeded => {
                self.report(Outcome::Failure)
            }
            _ => self.took.unwrap_or_else(|| self.elapsed()),
        };
        let slow = self.slow_after.is_some_and(|limit| took >= limit) && outcome.was_begun();
        self.service.record(outcome, took, slow);
    }
}
