//! The messages of a tree, as an operator sees and commands them.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod letters;
mod pause;
mod snapshot;
mod support;
mod trace;
mod troubled;
