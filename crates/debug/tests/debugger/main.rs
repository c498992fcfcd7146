//! The debug actor in live trees.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod commands;
mod recovery;
mod snapshot;
mod support;
