use std::fmt;

use perennial_pool::WorkerRef;
use rusqlite::{
    Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params_from_iter,
};

use super::{DatabaseError, DatabaseMsg, Statement};

/// What the holder of a [`DatabaseWorker`](super::DatabaseWorker) works with.
///
/// Each call is one message to the worker, which does the work on a blocking thread. What must happen as
/// a whole belongs in one [`transaction`](Self::transaction): a call that leaves a transaction open has
/// it rolled back.
///
/// # Errors
///
/// All functions fail with [`DatabaseError`]: `Sql` when SQLite refuses, `Worker` when the worker ends
/// before it answers.
///
/// # Cancel safety
///
/// Work that the worker has not begun when the future of a function is dropped is skipped. Work that it has
/// begun may still take effect, a transaction as a whole or not at all. The pool replaces a worker whose
/// holder leaves in the middle of a call, and the statement is interrupted then.
pub struct DatabaseClient {
    worker: WorkerRef<DatabaseMsg>,
}

impl DatabaseClient {
    pub(super) fn new(worker: WorkerRef<DatabaseMsg>) -> Self {
        Self { worker }
    }

    /// Runs one statement and returns how many rows it changed.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]; a statement that returns rows is refused, and changes nothing.
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety).
    pub async fn execute(&self, statement: impl Into<Statement>) -> Result<usize, DatabaseError> {
        let statement = statement.into();
        self.with_connection(move |connection| Ok(statement.execute(connection)?))
            .await
    }

    /// Runs statements that are separated by semicolons, each by itself.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]; the statements before the one that failed have taken effect.
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety).
    pub async fn batch(&self, sql: impl Into<String>) -> Result<(), DatabaseError> {
        let sql = sql.into();
        self.with_connection(move |connection| Ok(connection.execute_batch(&sql)?))
            .await
    }

    /// Runs a query and returns what `read` makes of each row.
    ///
    /// ```
    /// # use perennial_workers::{DatabaseClient, DatabaseError, Statement};
    /// # async fn example(db: DatabaseClient) -> Result<(), DatabaseError> {
    /// let cheap = Statement::new("SELECT name FROM item WHERE price < ?1").bind(10);
    /// let names: Vec<String> = db.query(cheap, |row| row.get(0)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], also when `read` fails for a row.
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety).
    pub async fn query<T, F>(
        &self,
        statement: impl Into<Statement>,
        read: F,
    ) -> Result<Vec<T>, DatabaseError>
    where
        T: Send + 'static,
        F: FnMut(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let statement = statement.into();
        self.with_connection(move |connection| {
            Ok(statement.prepare(connection, |prepared, values| {
                prepared
                    .query_map(params_from_iter(values), read)?
                    .collect()
            })?)
        })
        .await
    }

    /// Runs a query and returns what `read` makes of its first row.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], `Sql` with [`rusqlite::Error::QueryReturnedNoRows`] when there is no row.
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety).
    pub async fn query_row<T, F>(
        &self,
        statement: impl Into<Statement>,
        read: F,
    ) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let statement = statement.into();
        self.with_connection(move |connection| {
            Ok(statement.prepare(connection, |prepared, values| {
                prepared.query_row(params_from_iter(values), read)
            })?)
        })
        .await
    }

    /// Runs a query and returns what `read` makes of its first row, or `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety).
    pub async fn query_optional<T, F>(
        &self,
        statement: impl Into<Statement>,
        read: F,
    ) -> Result<Option<T>, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let statement = statement.into();
        self.with_connection(move |connection| {
            Ok(statement.prepare(connection, |prepared, values| {
                prepared
                    .query_row(params_from_iter(values), read)
                    .optional()
            })?)
        })
        .await
    }

    /// Does several things as a whole: commits when `work` returns `Ok`, and rolls back when it returns
    /// `Err` or panics.
    ///
    /// The transaction holds the write lock from its beginning, so nothing that it has read can change
    /// before it commits, and it cannot fail for being busy half-way through. When this returns `Ok`, the
    /// commit is as durable as [`Synchronous`](super::Synchronous) says.
    ///
    /// ```
    /// # use perennial_workers::{DatabaseClient, DatabaseError};
    /// # async fn example(db: DatabaseClient) -> Result<(), DatabaseError> {
    /// let left = db
    ///     .transaction(|tx| {
    ///         tx.execute("UPDATE account SET balance = balance - 5 WHERE id = ?1", [7])?;
    ///         let left: i64 = tx.query_row("SELECT balance FROM account WHERE id = ?1", [7], |row| row.get(0))?;
    ///         if left < 0 {
    ///             return Err(DatabaseError::abort("insufficient funds"));
    ///         }
    ///         Ok(left)
    ///     })
    ///     .await?;
    /// # let _ = left;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]; `Aborted` when `work` called it off with [`DatabaseError::abort`].
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety): a transaction happens as a whole or not at all.
    pub async fn transaction<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    {
        self.with_connection(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let made = work(&transaction)?;
            transaction.commit()?;
            Ok(made)
        })
        .await
    }

    /// Runs `work` on the connection itself, on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]; `TransactionLeftOpen` when `work` returns inside of a transaction.
    ///
    /// # Cancel safety
    ///
    /// As for [all functions](Self#cancel-safety).
    pub async fn with_connection<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    {
        self.worker
            .call(|reply| DatabaseMsg::new(work, reply))
            .await?
    }
}

impl fmt::Debug for DatabaseClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseClient").finish_non_exhaustive()
    }
}
