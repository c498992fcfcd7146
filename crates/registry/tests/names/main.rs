//! Names over restarts, as messages, watchers and groups see them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cancellation;
mod group;
mod policy;
mod support;
mod threads;
mod trees;
mod watch;
