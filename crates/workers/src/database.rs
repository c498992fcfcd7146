//! Workers that own one connection to an SQLite database each, and what their holders do with them.

mod actor;
mod client;
mod connection;
mod error;
mod statement;
mod worker;

pub use actor::{DatabaseActor, DatabaseMsg, DatabaseState};
pub use client::DatabaseClient;
pub use error::{DatabaseError, OpenDatabaseError};
pub use statement::Statement;
pub use worker::{DatabaseWorker, Synchronous};

#[cfg(test)]
mod tests;
