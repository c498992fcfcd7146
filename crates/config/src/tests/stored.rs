//! What is kept, and what others have stored.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_supervisor::Supervisor;
use perennial_workers::{DatabaseWorker, Statement};
use serde_json::json;

use super::support::{CURRENCY, LEVEL, LIMIT, Tree, database, memory, schema};
use crate::{ConfigServer, Schema, UpdateError};

#[tokio::test]
async fn what_was_acknowledged_survives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let worker = || DatabaseWorker::sqlite(dir.path().join("test.db"));
    let tree = Tree::start(database(worker())).await;
    tree.config.update(LIMIT, 20, "alice").await.unwrap();
    tree.config.update(LIMIT, 30, "alice").await.unwrap();
    drop(tree);

    let tree = Tree::start(database(worker())).await;
    assert_eq!(
        (tree.config.get(LIMIT).unwrap(), tree.config.version()),
        (30, 2)
    );
    assert_eq!(
        tree.config.update(LEVEL, 1, "bob").await.unwrap().version,
        3
    );
}

#[tokio::test]
async fn a_stored_value_that_is_no_longer_valid_stays_stored_and_the_default_holds() {
    let pool = memory();
    let tree = Tree::start(pool.clone()).await;
    tree.config.update(LIMIT, 20, "alice").await.unwrap();
    tree.config.update(LEVEL, 5, "alice").await.unwrap();
    {
        let db = pool.checkout().await.unwrap();
        db.execute("UPDATE perennial_config SET value = '\"many\"' WHERE path = 'billing.limit'")
            .await
            .unwrap();
        let foreign =
            Statement::new("INSERT INTO perennial_config VALUES ('old.one', '1', 1, 'alice', 0)");
        db.execute(foreign).await.unwrap();
    }
    let mut changes = tree.config.subscribe("").unwrap();
    tree.kill().await;
    assert_eq!(tree.config.get(LIMIT).unwrap(), 10);
    assert_eq!(tree.config.get(LEVEL).unwrap(), 5);
    let change = changes.changed().await.unwrap();
    assert_eq!((&*change.path, change.new), ("billing.limit", json!(10)));
    assert_eq!(tree.stored().await["billing.limit"], "\"many\"");
    assert!(
        tree.notes()
            .iter()
            .any(|note| note.contains("stored value is refused")),
        "{:?}",
        tree.notes()
    );

    assert_eq!(
        tree.config.update(LIMIT, 40, "bob").await.unwrap().version,
        3
    );
    assert_eq!(tree.stored().await["billing.limit"], "40");
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn cfg_9_values_are_told_to_no_log_and_no_event() {
    let log = Log::default();
    let subscriber = {
        let log = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        subscriber.with_writer(move || log.clone()).finish()
    };
    // Of all threads: of a subscriber of one thread alone nothing is known where another one comes first to what is told.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let tree = Tree::start(memory()).await;
    tree.config
        .update(CURRENCY, "secret-1", "alice")
        .await
        .unwrap();
    // A setting that was text once.
    let wrong = tree.config.update("billing.limit", "secret-2", "bob").await;
    let wrong = wrong.unwrap_err();
    assert!(wrong.to_string().contains("secret-2"), "{wrong}");
    {
        let db = tree.pool.checkout().await.unwrap();
        let row =
            "INSERT INTO perennial_config VALUES ('billing.limit', '\"secret-3\"', 2, 'alice', 0)";
        db.execute(row).await.unwrap();
    }
    tree.kill().await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for told in [log, tree.notes().join("\n")] {
        assert!(told.contains("billing.limit"), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn a_value_that_its_check_refuses_once_it_is_stored_is_not_acknowledged() {
    // Of a change the check is asked twice: before it is stored, and when it is read back.
    let asked = AtomicU32::new(0);
    let check = move |n: &u32| match (*n, asked.fetch_add(1, Relaxed)) {
        (7, 4..) => Err("no longer".to_owned()),
        _ => Ok(()),
    };
    let schema = Schema::builder().entry(LIMIT, 10, check).build().unwrap();
    let pool = memory();
    let tree = Tree::start_with(ConfigServer::builder(schema, pool.clone()), pool).await;
    tree.config.update(LIMIT, 20, "alice").await.unwrap();
    let error = tree.config.update(LIMIT, 7, "bob").await.unwrap_err();
    assert!(matches!(error, UpdateError::Invalid { .. }), "{error:?}");
    assert_eq!(tree.config.get(LIMIT).unwrap(), 10, "the default");
}

#[tokio::test]
async fn what_others_have_stored_is_published_with_the_next_change() {
    let pool = memory();
    let tree = Tree::start(pool.clone()).await;
    tree.config.update(LIMIT, 20, "alice").await.unwrap();
    {
        // Another process on the same database.
        let db = pool.checkout().await.unwrap();
        db.batch(
            "INSERT INTO perennial_config VALUES ('log.level', '9', 2, 'other', 0);
             INSERT INTO perennial_config_log VALUES (2, 'log.level', '3', '9', 'other', 0);",
        )
        .await
        .unwrap();
    }
    let mut changes = tree.config.subscribe("").unwrap();
    let change = tree.config.update(LIMIT, 30, "alice").await.unwrap();
    assert_eq!((change.version, tree.config.get(LEVEL).unwrap()), (3, 9));
    assert_eq!(&*changes.changed().await.unwrap().user, "other");
    assert_eq!(changes.changed().await.unwrap(), change);
}

#[tokio::test]
async fn the_start_fails_without_a_database() {
    let pool = memory();
    let config = ConfigServer::builder(schema(), pool)
        .start_timeout(Duration::from_millis(1))
        .build();
    // Its pool is not started: nobody lends a worker.
    let tree = Supervisor::builder()
        .child(config.child_spec())
        .build()
        .unwrap();
    let failed = tree.start("test").await.unwrap_err();
    assert!(
        failed.to_string().contains("no connection to the database"),
        "{failed}"
    );
}
