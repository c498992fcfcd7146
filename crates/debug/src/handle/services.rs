//! Commands for breakers and pools.

use perennial_breaker::BreakerState;

use super::Debugger;
use crate::CommandError;
use crate::command::{BreakerOrder, Command, Done, PoolOrder};

impl Debugger {
    /// Opens the breaker at `path` for its open time, as failures would, and returns its state after.
    ///
    /// One that is open already stays so, and for no longer. The breaker's actor need not run.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] and [`CommandError::NotOne`] name the breaker that was probably meant.
    /// - [`CommandError::NotTripped`] when an operator has ordered it to admit all calls.
    /// - [`CommandError::TimedOut`] when the debug actor was not running until the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn trip(&self, path: &str) -> Result<BreakerState, CommandError> {
        self.command_breaker(BreakerOrder::Trip, path).await
    }

    /// Has the breaker at `path` refuse every call until it is [reset](Self::reset), and returns its state after.
    ///
    /// # Errors
    ///
    /// As [`trip`](Self::trip), but that it can always be done.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn isolate(&self, path: &str) -> Result<BreakerState, CommandError> {
        self.command_breaker(BreakerOrder::Isolate, path).await
    }

    /// Closes the breaker at `path` and lets it decide again, whatever its state; returns its state after.
    ///
    /// # Errors
    ///
    /// As [`isolate`](Self::isolate).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn reset(&self, path: &str) -> Result<BreakerState, CommandError> {
        self.command_breaker(BreakerOrder::Reset, path).await
    }

    async fn command_breaker(
        &self,
        order: BreakerOrder,
        path: &str,
    ) -> Result<BreakerState, CommandError> {
        match self.command(Command::Breaker(order), path).await? {
            Done::Breaker(state) => Ok(state),
            _ => Err(CommandError::CutOff {
                path: path.to_owned(),
                command: order.name(),
            }),
        }
    }

    /// Changes how many workers the pool at `path` keeps, and how many more it may start; see
    /// [`Pool::resize`](perennial_pool::Pool::resize).
    ///
    /// Returns before the workers have come or gone. The size holds until the next one is set, over restarts of the
    /// pool; the next process begins with that of its settings.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] and [`CommandError::NotOne`] name the pool that was probably meant.
    /// - [`CommandError::PoolConfig`] when there would be too many; nothing is changed then.
    /// - [`CommandError::TimedOut`] when the debug actor was not running until the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resize(
        &self,
        path: &str,
        size: usize,
        max_overflow: usize,
    ) -> Result<(), CommandError> {
        let order = PoolOrder::Resize { size, max_overflow };
        self.command(Command::Pool(order), path).await.map(drop)
    }

    /// Has the pool at `path` lend nothing more until it is told to [lend again](Self::resume_lending), and waits until
    /// all workers are back.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] and [`CommandError::NotOne`] name the pool that was probably meant.
    /// - [`CommandError::PoolClosed`] when it lends nothing as it is.
    /// - [`CommandError::TimedOut`] when not all workers were back by the deadline: the pool stays drained. Also when the
    ///   debug actor was not running until then.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn drain(&self, path: &str) -> Result<(), CommandError> {
        let command = Command::Pool(PoolOrder::Drain);
        self.command(command, path).await.map(drop)
    }

    /// Has the pool at `path` lend again after a [drain](Self::drain); one that was not drained is left as it is.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resume_lending(&self, path: &str) -> Result<(), CommandError> {
        let command = Command::Pool(PoolOrder::ResumeLending);
        self.command(command, path).await.map(drop)
    }
}
