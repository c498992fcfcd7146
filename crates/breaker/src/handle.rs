//! The handle.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Weak};

use perennial_lifecycle::ChildSpec;
use tokio::sync::{broadcast, watch};

use crate::actor::BreakerActor;
use crate::cell::{Cell, Place};
use crate::machine::Command;
use crate::{
    BreakerConfig, BreakerEvent, BreakerState, BreakerStatus, CallError, CircuitOpen, Outcome,
    OwnedPermit, Permit,
};

/// A circuit breaker before one service; a handle that is cheap to clone.
///
/// Every clone shares one cell. Everything here acts on it directly, in the caller's task: nothing waits for an
/// actor, and commands hold even while the breaker's actor is being restarted.
///
/// Who moves the breaker, by a call or a command, tells of it before he goes on: those who [watch](Self::watch) it, its
/// [events](Self::events), logs and metrics. Where another thread is just telling of an earlier move, that one does, so that
/// all hear of the moves in their order: then a command may return a moment before its event is sent.
///
/// # Examples
///
/// ```
/// use perennial_breaker::{Breaker, BreakerConfig, BreakerState};
///
/// let mail = Breaker::new("mail", BreakerConfig::default());
///
/// let permit = mail.try_acquire()?;
/// // ... the call goes here ...
/// permit.success();
///
/// mail.force_open();
/// assert_eq!(mail.try_acquire().unwrap_err().to_string(), "circuit of `mail` is forced open");
/// mail.reset();
/// assert_eq!(mail.state(), BreakerState::Closed);
/// # Ok::<(), perennial_breaker::CircuitOpen>(())
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Cell>);

impl Breaker {
    /// Makes a closed breaker that belongs to no [`Breakers`](crate::Breakers) set.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, config: BreakerConfig) -> Self {
        Self::placed(name.into(), config, Place::Alone)
    }

    pub(crate) fn placed(name: Arc<str>, config: BreakerConfig, place: Place) -> Self {
        Self(Arc::new(Cell::new(name, config, place)))
    }

    pub(crate) fn cell(&self) -> &Cell {
        &self.0
    }

    pub(crate) fn weak(&self) -> Weak<Cell> {
        Arc::downgrade(&self.0)
    }

    /// Whether somebody else has this breaker too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> BreakerConfig {
        self.0.config()
    }

    /// Asks to make one call.
    ///
    /// Does not wait. The permit must be kept for as long as the call runs, and is told its outcome.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] if the breaker is open, forced open, or half-open with every probe place taken.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, CircuitOpen> {
        Ok(Permit::new(&self.0, self.0.acquire()?))
    }

    /// Asks to make one call, for a caller who measures the operation and will say how long it took with
    /// [`record_timed`](Permit::record_timed).
    ///
    /// Reads no clock where [`try_acquire`](Self::try_acquire) has to, for a condition on slow calls. Such a condition does not
    /// count what is ended in another way.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_untimed(&self) -> Result<Permit<'_>, CircuitOpen> {
        Ok(Permit::new(&self.0, self.0.acquire_untimed()?))
    }

    /// Asks to make one call, for a permit that goes where this handle cannot be borrowed.
    ///
    /// Costs one more reference count than [`try_acquire`](Self::try_acquire).
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, CircuitOpen> {
        let ticket = self.0.acquire()?;
        Ok(OwnedPermit::new(Arc::clone(&self.0), ticket))
    }

    /// Runs an operation if the breaker admits it; its `Err` counts as a failure.
    ///
    /// The operation runs in the caller's task. A panic in it counts as a failure and goes on unwinding.
    ///
    /// # Errors
    ///
    /// - [`CallError::Refused`]: the breaker refused, and the operation has not been polled.
    /// - [`CallError::Failed`] carries the operation's own error.
    ///
    /// # Cancel safety
    ///
    /// As safe as the operation. Dropping the future drops the operation, counts as cancelled, and frees its probe
    /// place; so does a timeout put around this call. A timeout put around the operation can count as a failure.
    pub async fn call<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        let classify = |result: &Result<T, E>| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        };
        self.call_with(classify, operation)
            .await?
            .map_err(CallError::Failed)
    }

    /// Runs an operation if the breaker admits it; `classify` says what its output means.
    ///
    /// A panic in the operation counts as a failure and goes on unwinding. One in `classify` goes on unwinding as well; as
    /// nothing was said of the service, the call counts as cancelled.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`]: the breaker refused, and the operation has not been polled.
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    ///
    /// # Examples
    ///
    /// ```
    /// # use perennial_breaker::{Breaker, BreakerConfig, Outcome};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perennial_breaker::CircuitOpen> {
    /// let web = Breaker::new("web", BreakerConfig::default());
    /// let classify = |status: &u16| match status {
    ///     500.. => Outcome::Failure,
    ///     429 => Outcome::Ignored,
    ///     _ => Outcome::Success,
    /// };
    /// assert_eq!(web.call_with(classify, async { 503 }).await?, 503);
    /// assert_eq!(web.status().failures, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call_with<T>(
        &self,
        classify: impl FnOnce(&T) -> Outcome,
        operation: impl Future<Output = T>,
    ) -> Result<T, CircuitOpen> {
        let permit = self.try_acquire()?;
        let mut operation = pin!(operation);
        // Each poll is caught, so that a panic of the operation is told apart from one elsewhere in the task that
        // drops this future on its way.
        let ended = poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| operation.as_mut().poll(context))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => std::task::Poll::Ready(Err(panic)),
            }
        })
        .await;
        match ended {
            Ok(output) => {
                permit.record(classify(&output));
                Ok(output)
            }
            Err(panic) => {
                permit.failure();
                resume_unwind(panic)
            }
        }
    }

    /// Reports what is known of the service from elsewhere, such as a health check, without a permit.
    ///
    /// The trip condition hears of it as of a call's result, except that a condition on slow calls does not count it.
    /// It is no probe and decides nothing about a half-open breaker; while the breaker is open it changes nothing but
    /// may be told as [`BreakerEvent::ConditionMet`]. [`Outcome::Ignored`] is counted as cancelled.
    pub fn report(&self, outcome: Outcome) {
        self.0.report(outcome.into());
    }

    /// Takes other settings from now on. Returns the state after.
    ///
    /// The breaker closes, as [`reset`](Self::reset) does it, since it was opened by other settings; forced states,
    /// disabled and metrics only stay. The totals of [`status`](Self::status) go on.
    pub fn reconfigure(&self, config: BreakerConfig) -> BreakerState {
        self.0.configure(config)
    }

    /// Lets an open time that is over end now, as the next call would, so that it is told. Returns the state after.
    ///
    /// The breaker's [actor](Self::child_spec) does this on time. A breaker that nobody looks at heals all the same.
    pub fn look(&self) -> BreakerState {
        self.0.tick();
        self.state()
    }

    /// Opens a closed or half-open breaker for its open time, as failures would.
    ///
    /// Does not prolong an open time, and does not overrule a forced or disabled state. Returns the state after.
    pub fn trip(&self) -> BreakerState {
        self.0.command(Command::Trip)
    }

    /// Refuses every call until another command. Returns the state after.
    pub fn force_open(&self) -> BreakerState {
        self.0.command(Command::ForceOpen)
    }

    /// Admits every call, counts outcomes and judges none, until another command. Returns the state after.
    pub fn force_closed(&self) -> BreakerState {
        self.0.command(Command::ForceClosed)
    }

    /// Stands aside until another command: every call is admitted, and none is counted. Returns the state after.
    pub fn disable(&self) -> BreakerState {
        self.0.command(Command::Disable)
    }

    /// Admits every call and judges it, but only says when it would have opened, until another command. Returns the
    /// state after.
    ///
    /// For trying a trip condition out: see [`BreakerEvent::ConditionMet`]. After it the condition starts anew.
    pub fn metrics_only(&self) -> BreakerState {
        self.0.command(Command::OnlyMeasure)
    }

    /// Closes the breaker and lets it decide again, whatever its state.
    ///
    /// Failures on record are forgotten, a growing open time starts over, and results of calls that are still
    /// running will not be judged. The totals of [`status`](Self::status) go on. Returns the state after.
    pub fn reset(&self) -> BreakerState {
        self.0.command(Command::Reset)
    }

    /// Returns what the next call meets.
    ///
    /// Half-open as soon as the open time is over, even before anybody has noticed.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.0.state()
    }

    /// Returns the state and the totals.
    ///
    /// Counts of calls that end meanwhile may or may not be in.
    #[must_use]
    pub fn status(&self) -> BreakerStatus {
        self.0.status()
    }

    /// Watches the state as it moves.
    ///
    /// The end of an open time is a move when a call, or the breaker's actor, comes upon it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BreakerState> {
        self.0.watch()
    }

    /// Subscribes to the events of this breaker from now on.
    ///
    /// A subscriber that falls far behind misses the oldest and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<BreakerEvent> {
        self.0.events()
    }

    /// Describes the actor that announces the end of open times and publishes metrics, named like the service.
    ///
    /// The breaker protects with and without it. Every incarnation goes on with the state of this cell.
    pub fn child_spec(&self) -> ChildSpec {
        let cell = Arc::clone(&self.0);
        ChildSpec::worker(self.name(), move || (BreakerActor, Arc::clone(&cell)))
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
