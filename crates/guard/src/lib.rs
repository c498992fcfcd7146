//! The protected operation: one call that goes through rate limit, breaker and pool, under one deadline.
//!
//! ```text
//! memory pressure -> rate limit -> breaker -> bulkhead -> pool -> operation
//! ```
//!
//! Each stage is optional. The breaker is asked before bulkhead and pool, so an open circuit never waits for
//! a worker; and again after a wait, so who queued while it opened does not go on. Only the operation's own
//! outcome (an error, a panic, no answer by the deadline) counts for the breaker; a refusal by another stage
//! does not. A cell that was spent at the gate stays spent when a later stage refuses, unless the guard is
//! told to spend it [when the operation begins](Spend::WhenBegun).
//!
//! ```
//! use perennial_guard::{Guard, GuardError};
//! use perennial_rate_limit::{Quota, RateGate};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gate = RateGate::new();
//! let guard = Guard::builder("geocoder")
//!     .gate(gate)
//!     .rate_key("tenant-7")
//!     .quota(Quota::per_minute(1))
//!     .deadline(Duration::from_secs(2))
//!     .build()?;
//!
//! let answer = guard.run(|()| async { Ok::<_, std::io::Error>(42) }).await?;
//! assert_eq!(answer, 42);
//!
//! let refused = guard.run(|()| async { Ok::<_, std::io::Error>(42) }).await.unwrap_err();
//! assert!(matches!(refused, GuardError::RateLimited { .. }));
//! assert!(refused.retry_after().is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - The operation runs in the caller's task. Dropping the call gives everything back: the breaker's
//!   permit, the place in the bulkhead, the worker, the place in the queue.
//! - Every way out is one [`GuardError`] that says who refused and when to come back, and is recorded once.
//! - A guard that was built does no look-up and no allocation of its own per call that is let through. No
//!   timer is made for an operation that does not have to wait.
//!
//! # What it does not do
//!
//! It never runs an operation twice, unless it was [made to](Guard::retrying): whether that is safe is the
//! caller's to know.

mod builder;
mod bulkhead;
mod call;
mod environment;
mod error;
mod event;
mod handle;
mod ledger;
mod outcome;
mod retry;
mod stage;
mod status;
#[cfg(feature = "tower")]
pub mod tower;

pub use builder::{GuardBuilder, Spend};
pub use bulkhead::Bulkhead;
pub use environment::{Environment, EnvironmentBuilder, Recorder};
pub use error::{GuardConfigError, GuardError, Stage};
pub use handle::Guard;
pub use outcome::OperationOutcome;
pub use retry::{Retry, RetryConfigError, Retrying};
pub use stage::{ChoosePool, Lend, NoPool};
pub use status::GuardStatus;
