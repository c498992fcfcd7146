//! Servers, workers and writes that end in the middle.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::ExitReason;
use perennial_workers::{DatabaseWorker, Synchronous};
use tokio::sync::oneshot;

use super::support::{LEVEL, LIMIT, Tree, database, memory};
use crate::UpdateError;

#[tokio::test]
async fn a_write_that_outlives_its_server_is_read_by_the_successor() {
    let dir = tempfile::tempdir().unwrap();
    let pool = database(DatabaseWorker::sqlite(dir.path().join("test.db")));
    let tree = Tree::start(pool).await;
    for round in 0..10_u32 {
        // The write lock is taken, so the write waits for it on its blocking thread.
        let holder = tree.pool.checkout().await.unwrap();
        let (locked, is_locked) = oneshot::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let holding = holder.transaction(move |_| {
            locked.send(()).unwrap();
            may_go.recv().unwrap();
            Ok(())
        });
        let killing = async {
            is_locked.await.unwrap();
            let run = tree.server().running().await;
            let update = tree.config.update(LIMIT, 100 + round, "alice");
            let kill = async {
                while run.in_hand().is_none() {
                    tokio::task::yield_now().await;
                }
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                run.kill();
                run.ended().await;
                go.send(()).unwrap();
            };
            let (updated, ()) = tokio::join!(update, kill);
            let error = updated.unwrap_err();
            assert!(
                matches!(
                    error,
                    UpdateError::ServerDown {
                        reason: Some(ExitReason::Killed)
                    }
                ),
                "{error}"
            );
            tree.after(&run).await;
        };
        let (held, ()) = tokio::join!(holding, killing);
        held.unwrap();
        let stored = tree.stored().await.get("billing.limit").cloned();
        let readable = tree.config.get(LIMIT).unwrap();
        assert_eq!(stored.unwrap_or("10".to_owned()), readable.to_string());
        // The successor writes on.
        tree.config.update(LEVEL, round, "bob").await.unwrap();
    }
}

#[tokio::test]
async fn a_server_reads_what_is_stored_only_when_no_write_is_under_way() {
    let tree = Tree::start(memory()).await;
    tree.config.update(LIMIT, 1, "alice").await.unwrap();
    let run = tree.server().running().await;
    // Stands for a write whose server is dead.
    let under_way = tree.config.0.cell.store.clone().lock_owned().await;
    run.kill();
    run.ended().await;
    let db = tree.pool.checkout().await.unwrap();
    db.batch(
        "UPDATE perennial_config SET value = '2', version = 2;
         INSERT INTO perennial_config_log VALUES (2, 'billing.limit', '1', '2', 'alice', 0);",
    )
    .await
    .unwrap();
    assert!(tree.server().current().is_none(), "started too early");
    drop(under_way);
    tree.server().running().await;
    assert_eq!(
        (tree.config.get(LIMIT).unwrap(), tree.config.version()),
        (2, 2)
    );
}

#[tokio::test]
async fn a_write_brings_back_what_it_holds_with_its_commit() {
    let pool = memory();
    let _tree = Tree::start(pool.clone()).await;
    let db = pool.checkout().await.unwrap();
    let held = Arc::new(());
    let write = crate::store::Write {
        path: "log.level".to_owned(),
        json: "7".to_owned(),
        user: "alice".to_owned(),
        at: std::time::SystemTime::now(),
        default: "3".to_owned(),
        known: 0,
    };
    let (rows, back) = crate::store::write(&db, write, Arc::clone(&held))
        .await
        .unwrap();
    assert_eq!((rows.len(), rows[0].version), (1, 1));
    assert!(Arc::ptr_eq(&held, &back));
}

#[tokio::test]
async fn the_death_of_a_database_worker_in_a_write_leaves_what_is_stored_readable() {
    let dir = tempfile::tempdir().unwrap();
    let worker =
        DatabaseWorker::sqlite(dir.path().join("test.db")).synchronous(Synchronous::Normal);
    let tree = Tree::start(database(worker)).await;
    for round in 0..20_u32 {
        let run = tree.server().running().await;
        let db = tree.pool.checkout().await.unwrap();
        let worker = Arc::clone(db.incarnation());
        let update = tree.config.write_through(db, LIMIT, 100 + round, "alice");
        let kill = async {
            while worker.in_hand().is_none() && worker.handled() == 0 {
                tokio::task::yield_now().await;
            }
            worker.kill();
        };
        let (updated, ()) = tokio::join!(update, kill);
        match updated {
            Ok(change) => assert_eq!(change.new, 100 + round),
            Err(error) => {
                assert!(matches!(error, UpdateError::Store { .. }), "{error:?}");
                assert!(error.is_retryable());
                // It ends by itself, to read what came of the write.
                let ended = tokio::time::timeout(Duration::from_secs(30), tree.after(&run)).await;
                ended.expect("restarted");
            }
        }
        let stored = tree.stored().await.get("billing.limit").cloned();
        let readable = tree.config.get(LIMIT).unwrap();
        assert_eq!(stored.unwrap_or("10".to_owned()), readable.to_string());
    }
}
