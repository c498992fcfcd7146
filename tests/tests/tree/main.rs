//! Whole trees, through the facade.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod cycles;
mod drain;
mod health;
mod isolation;
mod kills;
mod memory;
mod operators;
mod public_types;
mod recorder;
mod root;
mod settings;
mod shutdown;
mod sigkill;
mod start;
mod support;
