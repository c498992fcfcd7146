//! The reference host of the Perennial tree: the `perennial` binary, as a library so that tests and
//! benchmarks can use its parts.
//!
//! [`analyze`] is the main job: it walks source files, sends each as a typed message to a named actor, and
//! writes what the pool of analyzers finds through the pool of database workers.

pub mod analyze;
pub mod args;
pub mod check;
pub mod run;
pub mod say;
mod signals;
