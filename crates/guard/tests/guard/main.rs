//! The guard, with the real gate, breaker and pool.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bulkhead;
mod cancellation;
mod deadline;
mod errors;
mod records;
mod retry;
mod rules;
mod spending;
mod support;
#[cfg(feature = "tower")]
mod tower;
