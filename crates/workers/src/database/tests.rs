use std::sync::{Mutex, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use perennial_lifecycle::{Cause, ExitReason, StartError};
use perennial_pool::{Checkout, Pool, PoolConfig, WorkerError};
use perennial_supervisor::{FailedToStartChild, RestartIntensity, Supervisor};
use rusqlite::ErrorCode;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;

/// Many restarts are what these tests are about.
const OFTEN: RestartIntensity = RestartIntensity::new(1000, Duration::from_secs(1));

/// Would run for hours, if nobody stopped it.
const ENDLESS: &str =
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c";

async fn pool(worker: DatabaseWorker, size: usize) -> (Pool<DatabaseWorker>, Supervisor) {
    let pool = Pool::new("database", worker, PoolConfig::new(size)).unwrap();
    let tree = Supervisor::builder()
        .intensity(OFTEN)
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("test")
        .await
        .unwrap();
    (pool, tree)
}

fn file() -> (TempDir, DatabaseWorker) {
    let dir = tempfile::tempdir().unwrap();
    let worker = DatabaseWorker::sqlite(dir.path().join("test.db"));
    (dir, worker)
}

fn counter(worker: DatabaseWorker) -> DatabaseWorker {
    worker.on_open(|connection| {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
             INSERT OR IGNORE INTO counter VALUES (1, 0);",
        )
    })
}

async fn count(db: &DatabaseClient) -> i64 {
    db.query_row("SELECT n FROM counter", |row| row.get(0))
        .await
        .unwrap()
}

fn panic_message(error: &DatabaseError) -> &str {
    match error {
        DatabaseError::Worker {
            source:
                WorkerError::Died {
                    reason: ExitReason::Panicked { message, .. },
                },
        } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn statements_bind_values_and_read_rows() {
    let (pool, _tree) = pool(DatabaseWorker::in_memory("test"), 1).await;
    let db = pool.checkout().await.unwrap();
    db.batch(
        "CREATE TABLE item (name TEXT, price REAL, note BLOB); CREATE INDEX i ON item (name);",
    )
    .await
    .unwrap();
    for (name, price) in [("tea", Some(3.5)), ("milk", None)] {
        let insert = Statement::new("INSERT INTO item VALUES (?1, ?2, ?3)")
            .bind(name)
            .bind(price)
            .bind(vec![1_u8, 2]);
        assert_eq!(db.execute(insert).await.unwrap(), 1);
    }
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
    let rows: Vec<(String, Option<f64>)> = db
        .query("SELECT name, price FROM item ORDER BY name", read)
        .await
        .unwrap();
    assert_eq!(
        rows,
        [("milk".to_owned(), None), ("tea".to_owned(), Some(3.5))]
    );

    let by_name = |name: &'static str| {
        Statement::from("SELECT name, price FROM item WHERE name = ?1".to_owned()).bind(name)
    };
    let tea: Option<(String, Option<f64>)> = db.query_optional(by_name("tea"), read).await.unwrap();
    assert_eq!(tea, Some(("tea".to_owned(), Some(3.5))));
    assert_eq!(db.query_optional(by_name("rum"), read).await.unwrap(), None);
    let error = db.query_row(by_name("rum"), read).await.unwrap_err();
    assert!(matches!(
        error,
        DatabaseError::Sql {
            source: rusqlite::Error::QueryReturnedNoRows
        }
    ));
    let error = db
        .execute("INSERT INTO nothing VALUES (1)")
        .await
        .unwrap_err();
    assert!(matches!(error, DatabaseError::Sql { .. }));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_statement_that_changes_no_rows_is_not_counted_as_the_one_before() {
    let (pool, _tree) = pool(DatabaseWorker::in_memory("test"), 1).await;
    let db = pool.checkout().await.unwrap();
    assert_eq!(db.execute("CREATE TABLE item (n)").await.unwrap(), 0);
    let three = "INSERT INTO item VALUES (1), (2), (3)";
    assert_eq!(db.execute(three).await.unwrap(), 3);
    assert_eq!(db.execute("CREATE INDEX i ON item (n)").await.unwrap(), 0);
    assert_eq!(db.execute("PRAGMA foreign_keys = 1").await.unwrap(), 0);
    let none = "UPDATE item SET n = 7 WHERE n = 4";
    assert_eq!(db.execute(none).await.unwrap(), 0);
    assert_eq!(db.execute("DELETE FROM item").await.unwrap(), 3);
    assert_eq!(db.execute("DROP TABLE item").await.unwrap(), 0);
}

#[tokio::test]
async fn a_statement_that_returns_rows_is_refused_before_it_changes_any() {
    let (pool, _tree) = pool(counter(DatabaseWorker::in_memory("test")), 1).await;
    let db = pool.checkout().await.unwrap();
    for statement in [
        "UPDATE counter SET n = 7 RETURNING n",
        "SELECT 1 WHERE false",
    ] {
        let error = db.execute(statement).await.unwrap_err();
        assert!(matches!(
            error,
            DatabaseError::Sql {
                source: rusqlite::Error::ExecuteReturnedResults
            }
        ));
    }
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn what_is_not_a_number_is_refused_and_not_stored_as_null() {
    let (pool, _tree) = pool(DatabaseWorker::in_memory("test"), 1).await;
    let db = pool.checkout().await.unwrap();
    db.batch("CREATE TABLE item (price REAL)").await.unwrap();
    let insert = |price: Option<f64>| Statement::new("INSERT INTO item VALUES (?1)").bind(price);
    let error = db.execute(insert(Some(f64::NAN))).await.unwrap_err();
    assert!(matches!(
        error,
        DatabaseError::Sql {
            source: rusqlite::Error::ToSqlConversionFailure(_)
        }
    ));
    for price in [Some(f64::INFINITY), Some(-0.0), None] {
        db.execute(insert(price)).await.unwrap();
    }
    let prices: Vec<Option<f64>> = db
        .query("SELECT price FROM item", |row| row.get(0))
        .await
        .unwrap();
    assert_eq!(prices, [Some(f64::INFINITY), Some(0.0), None]);
}

#[tokio::test]
async fn connections_are_opened_with_the_settings_that_are_promised() {
    async fn pragma<T: rusqlite::types::FromSql + Send + 'static>(
        db: &Checkout<DatabaseWorker>,
        name: &str,
    ) -> T {
        db.query_row(format!("PRAGMA {name}"), |row| row.get(0))
            .await
            .unwrap()
    }
    let (_dir, worker) = file();
    let (pool, _tree) = pool(worker.busy_timeout(Duration::from_millis(1234)), 1).await;
    let db = pool.checkout().await.unwrap();
    assert_eq!(pragma::<String>(&db, "journal_mode").await, "wal");
    assert_eq!(pragma::<i64>(&db, "synchronous").await, 2, "FULL");
    assert_eq!(pragma::<i64>(&db, "foreign_keys").await, 1);
    assert_eq!(pragma::<i64>(&db, "busy_timeout").await, 1234);
}

#[tokio::test]
async fn a_statement_may_wait_for_locks_without_end() {
    let worker = DatabaseWorker::in_memory("test").busy_timeout(Duration::MAX);
    let (pool, _tree) = pool(worker, 1).await;
    let db = pool.checkout().await.unwrap();
    let wait: i64 = db
        .query_row("PRAGMA busy_timeout", |row| row.get(0))
        .await
        .unwrap();
    assert_eq!(wait, i64::from(i32::MAX));
}

#[tokio::test]
async fn a_transaction_commits_on_ok_and_rolls_back_on_err() {
    let (pool, _tree) = pool(counter(DatabaseWorker::in_memory("test")), 1).await;
    let db = pool.checkout().await.unwrap();
    let add = |ok: bool| {
        move |tx: &rusqlite::Transaction<'_>| {
            tx.execute("UPDATE counter SET n = n + 1", [])?;
            if ok {
                Ok(())
            } else {
                Err(DatabaseError::abort("no"))
            }
        }
    };
    db.transaction(add(true)).await.unwrap();
    let error = db.transaction(add(false)).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Aborted { .. }));
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_panic_rolls_back_ends_the_worker_and_reaches_the_holder_with_its_message() {
    let (_dir, worker) = file();
    let (pool, _tree) = pool(counter(worker), 1).await;
    for round in 0..5 {
        let db = pool.checkout().await.unwrap();
        let error = db
            .transaction(move |tx| -> Result<(), _> {
                tx.execute("UPDATE counter SET n = n + 1", [])?;
                panic!("no change, {round}");
            })
            .await
            .unwrap_err();
        assert_eq!(panic_message(&error), format!("no change, {round}"));
        assert!(error.is_retryable());
        // This run of the worker is over; the next checkout gets another.
        assert!(db.execute("SELECT 1").await.is_err());
        drop(db);
        let db = pool.checkout().await.unwrap();
        assert_eq!(count(&db).await, 0);
    }
}

#[tokio::test]
async fn concurrent_transactions_lose_nothing() {
    for (_dir, worker) in [(None, DatabaseWorker::in_memory("test")), {
        let (dir, worker) = file();
        (Some(dir), worker.synchronous(Synchronous::Normal))
    }] {
        let (pool, _tree) = pool(counter(worker), 4).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let pool = pool.clone();
            tasks.spawn(async move {
                for _ in 0..10 {
                    let db = pool.checkout().await.unwrap();
                    // Read, then write: with deferred transactions most of these would fail.
                    db.transaction(|tx| {
                        let n: i64 = tx.query_row("SELECT n FROM counter", [], |row| row.get(0))?;
                        tx.execute("UPDATE counter SET n = ?1", [n + 1])?;
                        Ok(())
                    })
                    .await
                    .unwrap();
                }
            });
        }
        tasks.join_all().await;
        let db = pool.checkout().await.unwrap();
        assert_eq!(count(&db).await, 80);
    }
}

#[tokio::test]
async fn a_writer_that_waits_too_long_is_told_that_it_may_try_again() {
    let (_dir, worker) = file();
    let worker = counter(worker.busy_timeout(Duration::from_millis(1)));
    let (pool, _tree) = pool(worker, 2).await;
    let holder = pool.checkout().await.unwrap();
    let other = pool.checkout().await.unwrap();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let holding = holder.transaction(move |_| {
        locked.send(()).unwrap();
        may_go.recv().unwrap();
        Ok(())
    });
    let refused = async {
        is_locked.await.unwrap();
        let error = other.execute("UPDATE counter SET n = 7").await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        // Readers do not wait for the writer.
        assert_eq!(count(&other).await, 0);
        go.send(()).unwrap();
    };
    let (held, ()) = tokio::join!(holding, refused);
    held.unwrap();
    assert_eq!(other.execute("UPDATE counter SET n = 7").await.unwrap(), 1);
}

#[tokio::test]
async fn a_transaction_that_is_left_open_is_rolled_back_and_said() {
    let (pool, _tree) = pool(counter(DatabaseWorker::in_memory("test")), 1).await;
    let db = pool.checkout().await.unwrap();
    let error = db
        .batch("BEGIN; UPDATE counter SET n = 7")
        .await
        .unwrap_err();
    assert!(matches!(error, DatabaseError::TransactionLeftOpen));
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn a_worker_that_is_killed_at_work_leaves_the_database_usable() {
    let (_dir, worker) = file();
    let (pool, _tree) = pool(counter(worker), 1).await;
    let db = pool.checkout().await.unwrap();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let endless = db.with_connection(move |connection| {
        begun.send(()).unwrap();
        Ok(connection.execute_batch(ENDLESS)?)
    });
    let kill = async {
        has_begun.await.unwrap();
        db.incarnation().kill();
    };
    let (ended, ()) = tokio::join!(endless, kill);
    assert!(matches!(
        ended.unwrap_err(),
        DatabaseError::Worker {
            source: WorkerError::Died {
                reason: ExitReason::Killed
            }
        }
    ));
    drop(db);
    let db = pool.checkout().await.unwrap();
    assert_eq!(db.execute("UPDATE counter SET n = n + 1").await.unwrap(), 1);
}

#[tokio::test]
async fn work_that_a_kill_interrupts_is_said_to_have_been_killed_also_within_a_transaction() {
    let (pool, _tree) = pool(DatabaseWorker::in_memory("test"), 1).await;
    // Who hears of the kill first, the caller or the work, is left to chance.
    for _ in 0..100 {
        let db = pool.checkout().await.unwrap();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let endless = db.with_connection(move |connection| {
            connection.execute_batch("BEGIN")?;
            begun.send(()).unwrap();
            Ok(connection.execute_batch(ENDLESS)?)
        });
        let kill = async {
            has_begun.await.unwrap();
            db.incarnation().kill();
        };
        let (ended, ()) = tokio::join!(endless, kill);
        let error = ended.unwrap_err();
        assert!(matches!(error, DatabaseError::Worker { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_waits_for_a_lock_changes_nothing() {
    let (_dir, worker) = file();
    let (pool, _tree) = pool(counter(worker), 2).await;
    let holder = pool.checkout().await.unwrap();
    let other = pool.checkout().await.unwrap();
    let (locked, is_locked) = oneshot::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (late, is_late) = oneshot::channel();
    let holding = holder.transaction(move |_| {
        locked.send(()).unwrap();
        may_go.recv().unwrap();
        Ok(())
    });
    let killed = async {
        is_locked.await.unwrap();
        let (begun, has_begun) = oneshot::channel();
        let update = other.with_connection(move |connection| {
            begun.send(()).unwrap();
            let changed = connection.execute("UPDATE counter SET n = 7", []);
            late.send(changed.is_ok()).unwrap();
            Ok(changed?)
        });
        let kill = async {
            has_begun.await.unwrap();
            other.incarnation().kill();
        };
        let (ended, ()) = tokio::join!(update, kill);
        assert!(matches!(ended, Err(DatabaseError::Worker { .. })));
        // Its caller may have tried again elsewhere by now.
        go.send(()).unwrap();
        assert!(!is_late.await.unwrap());
    };
    let (held, ()) = tokio::join!(holding, killed);
    held.unwrap();
    assert_eq!(count(&holder).await, 0);
}

#[tokio::test]
async fn a_connection_is_not_closed_on_the_runtime() {
    struct Closed(Option<oneshot::Sender<ThreadId>>);
    impl Drop for Closed {
        fn drop(&mut self) {
            let here = std::thread::current().id();
            self.0.take().unwrap().send(here).unwrap();
        }
    }
    let (closed, mut where_closed) = oneshot::channel();
    let closed = Mutex::new(Some(closed));
    let worker = DatabaseWorker::in_memory("test").on_open(move |connection| {
        // SQLite drops it when it closes the connection.
        let closed = Closed(closed.lock().unwrap().take());
        connection.rollback_hook(Some(move || {
            let _ = &closed;
        }))
    });
    let (_pool, tree) = pool(worker, 1).await;
    tree.stop(ExitReason::Shutdown).await;
    // There is one thread for all tasks: this one.
    let thread = where_closed.try_recv().expect("closed by then");
    assert_ne!(thread, std::thread::current().id());
}

#[tokio::test]
async fn work_that_its_caller_has_given_up_is_not_begun() {
    let (pool, _tree) = pool(counter(DatabaseWorker::in_memory("test")), 1).await;
    let db = pool.checkout().await.unwrap();
    let (go, may_go) = mpsc::channel::<()>();
    let first = db.with_connection(move |_| {
        may_go.recv().unwrap();
        Ok(())
    });
    let second = async {
        {
            let mut second = std::pin::pin!(db.execute("UPDATE counter SET n = 7"));
            // Polled once: its message waits behind the first.
            assert!(poll_once(second.as_mut()).await.is_none());
        }
        go.send(()).unwrap();
    };
    let (first, ()) = tokio::join!(first, second);
    first.unwrap();
    assert_eq!(count(&db).await, 0);
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_in_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.db");
    std::fs::write(
        &text,
        "This is no database, but a text of some length.".repeat(100),
    )
    .unwrap();
    let missing = dir.path().join("missing").join("app.db");
    for (path, code) in [
        (dir.path().to_owned(), ErrorCode::CannotOpen),
        (missing, ErrorCode::CannotOpen),
        (text, ErrorCode::NotADatabase),
    ] {
        let pool = Pool::new(
            "database",
            DatabaseWorker::sqlite(&path),
            PoolConfig::new(1),
        )
        .unwrap();
        let tree = Supervisor::builder()
            .child(pool.child_spec())
            .build()
            .unwrap();
        let failed: StartError = tree.start("test").await.unwrap_err();
        let cause = innermost(&failed.reason);
        let error: &OpenDatabaseError = cause.get().downcast_ref().expect("typed");
        assert_eq!(
            error.to_string(),
            format!("cannot open database `{}`", path.display())
        );
        assert_eq!(
            error.source.sqlite_error_code(),
            Some(code),
            "{:?}",
            error.source
        );
    }
}

#[tokio::test]
async fn a_name_by_which_each_connection_has_a_database_of_its_own_is_refused() {
    for path in ["", ":memory:"] {
        let worker = DatabaseWorker::sqlite(path);
        let pool = Pool::new("database", worker, PoolConfig::new(2)).unwrap();
        let tree = Supervisor::builder().child(pool.child_spec());
        let failed = tree.build().unwrap().start("test").await.unwrap_err();
        let cause = innermost(&failed.reason);
        let error: &OpenDatabaseError = cause.get().downcast_ref().expect("typed");
        assert_eq!(error.database, path);
        assert_eq!(
            error.source.sqlite_error_code(),
            Some(ErrorCode::CannotOpen)
        );
    }
}

/// The cause of a failed start, below the supervisors that it went through.
fn innermost(reason: &ExitReason) -> &Cause {
    let cause = reason.cause().unwrap();
    match cause.get().downcast_ref::<FailedToStartChild>() {
        Some(child) => innermost(&child.reason),
        None => cause,
    }
}

#[tokio::test]
async fn an_error_when_opening_fails_the_start() {
    let worker = DatabaseWorker::in_memory("test")
        .on_open(|connection| connection.execute_batch("NONSENSE"));
    let pool = Pool::new("database", worker, PoolConfig::new(1)).unwrap();
    let tree = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap();
    let error = tree.start("test").await.unwrap_err();
    assert!(error.to_string().contains("test (in memory)"), "{error:?}");
}

#[tokio::test]
async fn two_databases_in_memory_are_two_whatever_their_names() {
    let (one, _tree) = pool(counter(DatabaseWorker::in_memory("same")), 1).await;
    let (two, _tree2) = pool(counter(DatabaseWorker::in_memory("same")), 1).await;
    let db = one.checkout().await.unwrap();
    db.execute("UPDATE counter SET n = 7").await.unwrap();
    assert_eq!(count(&two.checkout().await.unwrap()).await, 0);
}

#[test]
fn public_types_are_debug_send_and_sync() {
    fn check<T: std::fmt::Debug + Send + Sync>() {}
    check::<DatabaseWorker>();
    check::<DatabaseClient>();
    check::<DatabaseError>();
    check::<OpenDatabaseError>();
    check::<Statement>();
    check::<Synchronous>();
}
