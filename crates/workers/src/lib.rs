//! Workers for pools: [`DatabaseWorker`] over SQLite, and [`AnalyzerWorker`] over tree-sitter.
//!
//! Both are what a [`perennial_pool::Pool`] lends: supervised actors, each with something that only one
//! may use at a time. Their work blocks, so they do it on blocking threads, and the runtime goes on.
//!
//! ```
//! use perennial_pool::{Pool, PoolConfig};
//! use perennial_supervisor::Supervisor;
//! use perennial_workers::analysis::Language;
//! use perennial_workers::{AnalyzerWorker, DatabaseWorker, Statement};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Pool::new("database", DatabaseWorker::in_memory("demo"), PoolConfig::new(2))?;
//! let analyzer = Pool::new("analyzer", AnalyzerWorker::new(), PoolConfig::new(2))?;
//! let pools = Supervisor::builder().child(database.child_spec()).child(analyzer.child_spec());
//! let pools = pools.build()?.start("pools").await?;
//!
//! let worker = analyzer.checkout().await?;
//! let report = worker.analyze(Language::Rust, "fn main() {}\n").await?;
//!
//! let db = database.checkout().await?;
//! db.batch("CREATE TABLE file (path TEXT PRIMARY KEY, functions INTEGER NOT NULL)").await?;
//! let insert = Statement::new("INSERT INTO file VALUES (?1, ?2)")
//!     .bind("main.rs")
//!     .bind(u32::try_from(report.functions().count())?);
//! assert_eq!(db.execute(insert).await?, 1);
//!
//! let functions: i64 = db.query_row("SELECT sum(functions) FROM file", |row| row.get(0)).await?;
//! assert_eq!(functions, 1);
//! # drop((worker, db));
//! # pools.stop(perennial_lifecycle::ExitReason::Shutdown).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Nothing blocks the runtime: not a slow statement, not a large file, not the opening of a database.
//! - A panic in work that a holder gave ends the worker, and nothing else: the holder gets a typed error
//!   with the panic's message, and the pool starts another worker.
//! - A worker that is killed leaves nothing behind: its statement is interrupted, or rolled back when it comes
//!   to its end after a wait for a lock, its parser stops, its connection is closed by the thread that still
//!   used it.
//! - A commit that was acknowledged is on the disk (see [`Synchronous`]).
//! - A worker comes back without a transaction of the holder before.
//!
//! # What it does not do
//!
//! It tries nothing again: whether that is safe is the caller's to know, and
//! [`DatabaseError::is_retryable`] says whether it may help. It maps no rows to structures and keeps no
//! migrations.

pub mod analysis;
pub mod analyzer;
mod blocking;
pub mod database;
mod event;

pub use analyzer::{AnalyzerClient, AnalyzerWorker};
pub use database::{
    DatabaseClient, DatabaseError, DatabaseWorker, OpenDatabaseError, Statement, Synchronous,
};
/// The SQLite library behind [`DatabaseWorker`], whose rows, values and transactions closures see.
pub use rusqlite;
