//! The `perennial` binary from the outside: what it prints, what it writes, and what it survives.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it unwraps; clippy knows test functions, not their helpers"
)]

mod again;
mod agreement;
mod analyze;
mod chaos;
mod config;
mod corpus;
mod failures;
mod help;
mod json;
mod panics;
mod place;
mod refusals;
mod rows;
mod run;

#[cfg(unix)]
mod interrupt;
#[cfg(unix)]
mod kills;
#[cfg(unix)]
mod service;
#[cfg(unix)]
mod signals;
