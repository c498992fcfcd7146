//! Workers that analyze source files, and what their holders do with them.

mod actor;
mod client;
mod worker;

pub use actor::{AnalyzerActor, AnalyzerMsg, AnalyzerState};
pub use client::AnalyzerClient;
pub use worker::AnalyzerWorker;

#[cfg(test)]
mod tests;
