//! Histories by chance.

use std::collections::BTreeMap;

use perennial_workers::{DatabaseWorker, Synchronous};
use proptest::prelude::*;
use serde_json::json;

use super::support::{LEVEL, LIMIT, Tree, database};
use crate::ConfigKey;

/// Numbers that look random (D. H. Lehmer's generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        self.0 % n
    }
}

async fn nothing_acknowledged_is_lost(seed: u64) {
    const UPDATES: u32 = 25;
    const WRITERS: [ConfigKey<u32>; 2] = [LIMIT, LEVEL];

    let dir = tempfile::tempdir().unwrap();
    let worker =
        DatabaseWorker::sqlite(dir.path().join("test.db")).synchronous(Synchronous::Normal);
    let tree = Tree::start(database(worker)).await;
    let mut changes = tree.config.subscribe("").unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for key in WRITERS {
        let config = tree.config.clone();
        let server = tree.server();
        writers.spawn(async move {
            let mut versions = Vec::new();
            for n in 1..=UPDATES {
                // What was not acknowledged is tried again, so the last value holds at the end.
                loop {
                    match config.update(key, n, "writer").await {
                        Ok(change) => {
                            // Acknowledged, so readable, also if the server was killed since.
                            assert_eq!(config.get(key).unwrap(), n);
                            assert!(config.version() >= change.version);
                            versions.push(change.version);
                            break;
                        }
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                    server.running().await;
                }
            }
            versions
        });
    }
    let mut dice = Dice(seed + 1);
    let mut kills = 0;
    let acknowledged = loop {
        let run = tree.server().running().await;
        let wait = async {
            for _ in 0..dice.below(3) {
                changes.changed().await.ok();
            }
            for _ in 0..dice.below(200) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = wait => {}
            writer = writers.join_next() => {
                let mut versions = writer.unwrap().unwrap();
                // The others write on without being disturbed.
                for rest in std::mem::take(&mut writers).join_all().await {
                    assert!(versions.iter().all(|version| !rest.contains(version)));
                    assert!(rest.is_sorted_by(|a, b| a < b));
                    versions.extend(rest);
                }
                break versions;
            }
        }
        run.kill();
        kills += 1;
        run.ended().await;
    };
    assert!(kills > 0);
    assert_eq!(acknowledged.len(), WRITERS.len() * UPDATES as usize);

    let log: Vec<(i64, String)> = {
        let db = tree.pool.checkout().await.unwrap();
        let sql = "SELECT version, value FROM perennial_config_log ORDER BY version";
        db.query(sql, |row| Ok((row.get(0)?, row.get(1)?)))
            .await
            .unwrap()
    };
    let versions: Vec<u64> = log
        .iter()
        .map(|(version, _)| version.unsigned_abs())
        .collect();
    assert_eq!(versions, (1..=log.len() as u64).collect::<Vec<_>>());
    assert!(
        acknowledged
            .iter()
            .all(|version| versions.contains(version))
    );
    for key in WRITERS {
        assert_eq!(tree.config.get(key).unwrap(), UPDATES);
        assert_eq!(tree.stored().await[key.path()], UPDATES.to_string());
    }
    tree.kill().await;
    assert_eq!(tree.config.version(), *versions.last().unwrap());
    assert_eq!(tree.config.get(LIMIT).unwrap(), UPDATES);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_at_random() {
    for seed in 0..4 {
        nothing_acknowledged_is_lost(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_several_threads() {
    for seed in 4..8 {
        nothing_acknowledged_is_lost(seed).await;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Update(usize, u32),
    Kill,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 0_u32..1200).prop_map(|(path, n)| Step::Update(path, n)),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_server_agrees_with_a_map(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Restarting the tree must find the same database, so the worker outlives it.
            let worker = DatabaseWorker::in_memory("test");
            let mut tree = Tree::start(database(worker.clone())).await;
            let paths = ["billing.limit", "log.level", "billing.nothing"];
            let mut model = BTreeMap::from([(paths[0], 10), (paths[1], 3)]);
            let mut version = 0;
            for step in steps {
                match step {
                    Step::Update(path, n) => {
                        let path = paths[path];
                        let valid = match path {
                            "billing.limit" => n < 1000,
                            other => other == "log.level",
                        };
                        let result = tree.config.update(path, n, "model").await;
                        assert_eq!(result.is_ok(), valid, "{result:?}");
                        if let Ok(change) = result {
                            version += 1;
                            assert_eq!(change.version, version);
                            let old = model.insert(path, n);
                            assert_eq!((change.old, change.new), (json!(old.unwrap()), json!(n)));
                        }
                    }
                    Step::Kill => tree.kill().await,
                    Step::Restart => tree = Tree::start(database(worker.clone())).await,
                }
                assert_eq!(tree.config.version(), version);
                for (path, n) in &model {
                    assert_eq!(tree.config.get_value(path).unwrap(), *n);
                }
            }
        });
    }
}
