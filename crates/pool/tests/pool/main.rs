//! Pools under a real supervisor, on tokio's paused clock. Nothing here sleeps to synchronise.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod cancellation;
mod checks;
mod config;
mod deaths;
mod hammer;
mod keeping;
mod late;
mod lending;
mod objects;
mod places;
mod recorder;
mod resets;
mod support;
mod wakers;
