use std::error::Error;

use perennial_pool::WorkerError;
use rusqlite::ErrorCode;

/// Work on a database that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// SQLite refused a statement or a value; an open transaction was rolled back.
    #[error("SQLite failed")]
    Sql {
        /// What SQLite says.
        #[from]
        source: rusqlite::Error,
    },
    /// The closure of a transaction decided against it; nothing was changed.
    #[error("transaction aborted")]
    Aborted {
        /// The reason given to [`DatabaseError::abort`].
        source: Box<dyn Error + Send + Sync>,
    },
    /// A statement began a transaction and left it open; it was rolled back.
    ///
    /// The next holder of the worker must not find it. Use
    /// [`DatabaseClient::transaction`](super::DatabaseClient::transaction).
    #[error("a transaction was left open and is rolled back")]
    TransactionLeftOpen,
    /// The worker ended before it answered: a closure panicked, or the worker was killed or stopped.
    ///
    /// Whether a change took effect is not known, except after a panic in the closure of a transaction:
    /// that was rolled back.
    #[error("the database worker did not answer")]
    Worker {
        /// What became of the worker.
        #[from]
        source: WorkerError,
    },
}

impl DatabaseError {
    /// Makes the error with which the closure of a transaction calls it off.
    ///
    /// ```
    /// # use perennial_workers::DatabaseError;
    /// let error = DatabaseError::abort("insufficient funds");
    /// assert!(matches!(&error, DatabaseError::Aborted { source } if source.to_string() == "insufficient funds"));
    /// assert!(!error.is_retryable());
    /// ```
    pub fn abort(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Aborted {
            source: reason.into(),
        }
    }

    /// Says whether the same work may succeed later: the database was busy, or the worker ended.
    ///
    /// After [`Worker`](Self::Worker) a change may have taken effect already.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Sql { source } => is_busy(source),
            Self::Worker { .. } => true,
            Self::Aborted { .. } | Self::TransactionLeftOpen => false,
        }
    }
}

/// Says whether another connection held a lock for longer than the busy timeout.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// A database that could not be opened for writing; a worker's start fails with it.
#[derive(Debug, thiserror::Error)]
#[error("cannot open database `{database}`")]
#[non_exhaustive]
pub struct OpenDatabaseError {
    /// The file, or the name of a database in memory.
    pub database: String,
    /// What SQLite says.
    pub source: rusqlite::Error,
}
