//! The only place of this crate that emits tracing.

use std::fmt::Display;

use perennial_lifecycle::{ExitReason, shield};

pub(crate) fn opened(database: &dyn Display, journal: &str) {
    shield(
        || tracing::debug!(database.name = %database, database.journal = journal, "connection opened"),
    );
}

pub(crate) fn open_is_busy(database: &dyn Display) {
    shield(
        || tracing::debug!(database.name = %database, "database is busy, connection not opened yet"),
    );
}

pub(crate) fn transaction_left_open(database: &dyn Display) {
    shield(|| tracing::warn!(database.name = %database, "transaction was left open, rolled back"));
}

pub(crate) fn work_panicked(worker: &'static str, reason: &ExitReason) {
    shield(
        || tracing::warn!(worker.kind = worker, exit.reason = %reason, "work panicked and ends its worker"),
    );
}
