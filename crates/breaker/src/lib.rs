//! May I call this service? Closed, open, half-open.
//!
//! A service that fails keeps its callers waiting and is kept down by their retries. A [`Breaker`] stands before
//! it: while calls end well they flow (closed); after too many failures they are refused at once (open); when the
//! open time is over a few are let through to look (half-open), and their outcome closes the breaker or opens it
//! again.
//!
//! ```
//! use perennial_breaker::{Breaker, BreakerConfig, BreakerState, CallError, Trip};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = BreakerConfig::builder().trip(Trip::Consecutive(2)).build()?;
//! let database = Breaker::new("database", config);
//!
//! for _ in 0..2 {
//!     let answer = database.call(async { Err::<(), _>("connection refused") }).await;
//!     assert_eq!(answer, Err(CallError::Failed("connection refused")));
//! }
//!
//! assert_eq!(database.state(), BreakerState::Open);
//! let answer = database.call(async { Ok::<_, &str>("not run") }).await;
//! assert!(matches!(answer, Err(CallError::Refused(refusal)) if refusal.retry_after.is_some()));
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - The operation runs in the caller's task, any number at a time. Asking a closed breaker takes no lock, sends no
//!   message, reads no clock and writes nothing. Reporting a success adds to a counter of the caller's thread, and no
//!   more where failures in a row are counted and none is on record, or a share of the last calls and there were
//!   `min_calls`: such a share takes in the successes so far with the next failure. One over time reads the clock as
//!   well, and takes a lock once in each sixteenth of it. Only a condition on slow calls reads the clock when it is asked.
//! - The time of opening is stored, and half-open follows from it: the first caller after the open time is itself
//!   the first probe. No timer has to fire for a breaker to heal.
//! - Half-open admits a bounded number of calls. Their places are reserved before they run and come back when the
//!   [`Permit`] goes, however it goes: a cancelled or panicking probe cannot leave the breaker half-open for ever.
//! - A result counts only in the state in which its call was admitted. One that comes later is counted in the
//!   totals and judged neither way.
//! - The state lives in a cell that every [`Breaker`] shares, not in an actor. [`Breaker::child_spec`] describes an
//!   actor that announces the end of open times and publishes metrics; it may be killed at any moment.
//! - What is left to chance (jitter of open times, refusals on purpose) follows from a seed if one is given.
//! - [`KeyedBreakers`] hold no more breakers than they were told to, and forget no open one for a new key.
//! - A name that is not registered in [`Breakers`] is `None`. There is no breaker made on first use, and no call
//!   unprotected by mistake.
//!
//! # What it does not do
//!
//! With [`Trip::Failures`] and [`AfterOpen::Closed`] a breaker does what Erlang's fuse does, recordings of which are
//! replayed against it; [`Alarms`] are those of fuse's monitor. Not copied: a fuse that is removed leaves its timer
//! behind, and its alarm.
//!
//! It has no timeouts, retries or queues: a deadline belongs around the operation, and when it drops the operation
//! that counts as cancelled unless the caller reports a failure. It does not guess which results are failures.

#![cfg_attr(
    loom,
    allow(
        dead_code,
        missing_docs,
        reason = "the model checker is given the admission cell alone"
    )
)]

#[cfg(not(loom))]
mod actor;
#[cfg(not(loom))]
mod alarm;
#[cfg(not(loom))]
mod breakers;
#[cfg(not(loom))]
mod cell;
mod config;
#[cfg(not(loom))]
mod counters;
mod error;
#[cfg(not(loom))]
mod event;
mod gate;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod keyed;
mod machine;
#[cfg(test)]
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod permit;
mod status;
mod sync;
mod tally;

#[cfg(not(loom))]
pub use alarm::{AlarmChange, Alarms};
#[cfg(not(loom))]
pub use breakers::Breakers;
pub use config::{AfterOpen, BreakerConfig, BreakerConfigBuilder, OpenTime, Trip, Window};
pub use error::{BreakerConfigError, CallError, CircuitOpen, DuplicateBreaker};
#[cfg(not(loom))]
pub use event::{BreakerEvent, CloseCause, OpenCause};
#[cfg(not(loom))]
pub use handle::Breaker;
#[cfg(not(loom))]
pub use keyed::KeyedBreakers;
#[cfg(not(loom))]
pub use permit::{Outcome, OwnedPermit, Permit};
pub use status::{BreakerState, BreakerStatus};
