use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, ExitReason, StartError};

/// A worker, or a plain object, that could not be borrowed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckoutError {
    /// No worker became free in time.
    #[error(
        "pool `{pool}`: none free within {waited:?}: {in_use} in use of {size} + {max_overflow}, {waiting} waiting{}",
        because(.last_start_error)
    )]
    TimedOut {
        /// The pool.
        pool: Arc<str>,
        /// How long this call has waited.
        waited: Duration,
        /// How many others wait.
        waiting: usize,
        /// How many workers are on loan.
        in_use: usize,
        /// How many workers the pool keeps.
        size: usize,
        /// How many more it may start.
        max_overflow: usize,
        /// Why the last worker did not start, unless one has started since.
        last_start_error: Option<ExitReason>,
    },
    /// Nothing is idle, and the caller did not want to wait, or too many wait already.
    #[error(
        "pool `{pool}`: none to be had: {in_use} in use of {size} + {max_overflow}, {waiting} waiting{}",
        because(.last_start_error)
    )]
    Exhausted {
        /// The pool.
        pool: Arc<str>,
        /// How long this call has waited.
        waited: Duration,
        /// How many wait.
        waiting: usize,
        /// How many workers are on loan.
        in_use: usize,
        /// How many workers the pool keeps.
        size: usize,
        /// How many more it may start.
        max_overflow: usize,
        /// Why the last worker did not start, unless one has started since.
        last_start_error: Option<ExitReason>,
    },
    /// The pool is [drained](crate::Pool::drain): it lends again when it is resumed.
    #[error("pool `{pool}`: drained, {in_use} still in use")]
    Drained {
        /// The pool.
        pool: Arc<str>,
        /// How many workers are still on loan.
        in_use: usize,
    },
    /// The pool was closed, or its tree is shutting down.
    #[error("pool `{pool}`: closed")]
    Closed {
        /// The pool.
        pool: Arc<str>,
    },
    /// The worker that would have been lent did not start, or no worker is up and the next attempt to start
    /// one comes too late for this call.
    #[error(
        "pool `{pool}`: a worker did not start: {in_use} in use of {size} + {max_overflow}, {waiting} waiting"
    )]
    Start {
        /// The pool.
        pool: Arc<str>,
        /// How long this call has waited.
        waited: Duration,
        /// How many others wait.
        waiting: usize,
        /// How many workers are on loan.
        in_use: usize,
        /// How many workers the pool keeps.
        size: usize,
        /// How many more it may start.
        max_overflow: usize,
        /// Why.
        source: StartError,
    },
}

impl CheckoutError {
    /// Says whether a later attempt may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }

    /// Returns the name of the pool that refused.
    #[must_use]
    pub fn pool(&self) -> &str {
        match self {
            Self::TimedOut { pool, .. }
            | Self::Exhausted { pool, .. }
            | Self::Drained { pool, .. }
            | Self::Closed { pool }
            | Self::Start { pool, .. } => pool,
        }
    }
}

fn because(last_start_error: &Option<ExitReason>) -> String {
    last_start_error
        .as_ref()
        .map_or_else(String::new, |reason| {
            format!("; a worker did not start: {reason}")
        })
}

/// A message to a borrowed worker that was not answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The worker ended before it answered; the work may have been done or not.
    #[error("the worker died: {reason}")]
    Died {
        /// Why it ended.
        reason: ExitReason,
    },
    /// The worker lives on and dropped the reply, or is ending and takes no more messages.
    #[error("the worker gave no reply")]
    NoReply,
    /// The worker was checked in: the reference is no longer good.
    #[error("the worker was checked in")]
    CheckedIn,
    /// The call was made in a handler, and the worker waits for its actor, directly or not: neither would ever go on.
    #[error("a call to the worker would never be answered: {}", cycle(path))]
    WouldDeadlock {
        /// The caller, the worker, whom the worker waits for, and so on back to the caller.
        path: Vec<ActorPath>,
    },
}

fn cycle(path: &[ActorPath]) -> String {
    let path: Vec<_> = path.iter().map(ActorPath::as_str).collect();
    path.join(" -> ")
}
