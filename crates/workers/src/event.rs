//! The only place of this crate that emits tracing.

use std::fmt::Display;

use perennial_lifecycle::ExitReason;

pub(crate) fn opened(database: &dyn Display, journal: &str) {
    tracing::debug!(database.name = %database, database.journal = journal, "connection opened");
}

pub(crate) fn open_is_busy(database: &dyn Display) {
    tracing::debug!(database.name = %database, "database is busy, connection not opened yet");
}

pub(crate) fn transaction_left_open(database: &dyn Display) {
    tracing::warn!(database.name = %database, "transaction was left open, rolled back");
}

pub(crate) fn work_panicked(worker: &'static str, reason: &ExitReason) {
    tracing::warn!(worker.kind = worker, exit.reason = %reason, "work panicked and ends its worker");
}
