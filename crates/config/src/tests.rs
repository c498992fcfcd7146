use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, Trip};
use perennial_guard::{Guard, GuardError};
use perennial_lifecycle::{EventKind, ExitReason, Incarnation, Node, Scope};
use perennial_pool::{Pool, PoolConfig};
use perennial_rate_limit::{Quota, RateGate};
use perennial_supervisor::{RestartIntensity, Supervisor};
use perennial_workers::{DatabaseWorker, Statement, Synchronous};
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::oneshot;

use super::*;

const LIMIT: ConfigKey<u32> = ConfigKey::new("billing.limit");
const CURRENCY: ConfigKey<String> = ConfigKey::new("billing.currency");
const LEVEL: ConfigKey<u32> = ConfigKey::new("log.level");

/// Many restarts are what these tests are about.
const OFTEN: RestartIntensity = RestartIntensity::new(100_000, Duration::from_secs(1));

fn schema() -> Schema {
    Schema::builder()
        .entry(LIMIT, 10, |n| {
            if *n < 1000 {
                Ok(())
            } else {
                Err("must be below 1000".to_owned())
            }
        })
        .value(CURRENCY, "EUR".to_owned())
        .value(LEVEL, 3)
        .build()
        .unwrap()
}

fn database(worker: DatabaseWorker) -> Pool<DatabaseWorker> {
    Pool::new("database", worker, PoolConfig::new(4).max_overflow(4)).unwrap()
}

fn memory() -> Pool<DatabaseWorker> {
    database(DatabaseWorker::in_memory("test"))
}

/// A tree with a pool and a config server.
struct Tree {
    config: ConfigServer,
    pool: Pool<DatabaseWorker>,
    scope: Scope,
    _supervisor: Supervisor,
}

impl Tree {
    async fn start(pool: Pool<DatabaseWorker>) -> Self {
        Self::start_with(ConfigServer::builder(schema(), pool.clone()), pool).await
    }

    async fn start_with(config: ConfigServerBuilder, pool: Pool<DatabaseWorker>) -> Self {
        let config = config.build();
        let scope = Scope::new("test");
        let supervisor = Supervisor::builder()
            .intensity(OFTEN)
            .child(pool.child_spec())
            .child(config.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            config,
            pool,
            scope,
            _supervisor: supervisor,
        }
    }

    fn server(&self) -> Arc<Node> {
        self.scope.root().child(ConfigServer::ID).unwrap()
    }

    /// Waits for the successor of a run that is ending.
    async fn after(&self, run: &Incarnation) {
        run.ended().await;
        self.server().running().await;
    }

    async fn kill(&self) {
        let run = self.server().running().await;
        run.kill();
        self.after(&run).await;
    }

    /// What the database holds, past everything else.
    async fn stored(&self) -> BTreeMap<String, String> {
        let db = self.pool.checkout().await.unwrap();
        db.query("SELECT path, value FROM perennial_config", |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .await
        .unwrap()
        .into_iter()
        .collect()
    }

    fn notes(&self) -> Vec<String> {
        let events = self.scope.events().recent();
        let note = |kind| match kind {
            EventKind::Noted {
                source: "config",
                text,
            } => Some(text.to_string()),
            _ => None,
        };
        events
            .into_iter()
            .filter_map(|event| note(event.kind))
            .collect()
    }
}

#[tokio::test]
async fn settings_have_their_defaults_until_they_are_changed() {
    let tree = Tree::start(memory()).await;
    let config = &tree.config;
    assert_eq!(config.get(LIMIT).unwrap(), 10);
    assert_eq!(*config.get_shared(CURRENCY).unwrap(), "EUR");
    assert_eq!(config.version(), 0);

    let change = config.update(LIMIT, 20, "alice").await.unwrap();
    assert_eq!(
        (&*change.path, change.old, change.new),
        ("billing.limit", json!(10), json!(20))
    );
    assert_eq!((change.version, &*change.user), (1, "alice"));
    let change = config
        .update("billing.currency", json!("CHF"), "bob")
        .await
        .unwrap();
    assert_eq!(change.version, 2);

    assert_eq!(config.get(LIMIT).unwrap(), 20);
    assert_eq!(config.get_value("billing.currency").unwrap(), "CHF");
    assert_eq!(config.version(), 2);
    let entries = config.entries();
    assert_eq!(
        entries.iter().filter(|entry| entry.set.is_none()).count(),
        1
    );
    assert_eq!(entries[1].set.as_ref().unwrap().version, 1);
    assert_eq!(entries[1].default, 10);
    assert_eq!(
        tree.notes(),
        [
            "billing.limit changed by alice in version 1",
            "billing.currency changed by bob in version 2"
        ]
    );
}

#[tokio::test]
async fn keys_are_checked_against_the_schema() {
    let tree = Tree::start(memory()).await;
    let error = tree
        .config
        .get(ConfigKey::<u32>::new("billing.limits"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no setting `billing.limits`, did you mean `billing.limit`?"
    );
    let error = tree
        .config
        .get(ConfigKey::<u64>::new("billing.limit"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "setting `billing.limit` is of type u32, not u64"
    );
    assert!(
        tree.config
            .get_shared(ConfigKey::<u64>::new("billing.limit"))
            .is_err()
    );
    assert!(tree.config.get_value("billing").is_err());
}

#[tokio::test]
async fn an_invalid_value_is_refused_and_changes_nothing() {
    let tree = Tree::start(memory()).await;
    let config = &tree.config;
    config.update(LIMIT, 20, "alice").await.unwrap();
    for (path, value) in [
        ("billing.limit", json!(1000)),
        ("billing.limit", json!("many")),
        ("billing.currency", json!(null)),
    ] {
        let error = config.update(path, value, "bob").await.unwrap_err();
        assert!(matches!(&error, UpdateError::Invalid { path: named, .. } if **named == *path));
        assert!(!error.is_retryable());
    }
    let error = config.update("billing.limt", 1, "bob").await.unwrap_err();
    assert!(
        matches!(&error, UpdateError::UnknownPath(unknown) if unknown.nearest.as_deref() == Some("billing.limit"))
    );
    assert_eq!((config.get(LIMIT).unwrap(), config.version()), (20, 1));
    assert_eq!(
        tree.stored().await,
        BTreeMap::from([("billing.limit".to_owned(), "20".to_owned())])
    );
}

#[tokio::test]
async fn history_is_listed_newest_first() {
    let tree = Tree::start(memory()).await;
    for (n, user) in [(1, "alice"), (2, "bob"), (3, "carol")] {
        tree.config.update(LIMIT, n, user).await.unwrap();
        tree.config.update(LEVEL, n, user).await.unwrap();
    }
    let history = tree.config.history(LIMIT, 2).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|it| (&it.old, &it.new, it.version, &*it.user))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(2), &json!(3), 5, "carol"),
            (&json!(1), &json!(2), 3, "bob")
        ]
    );
    let first = tree.config.history(LIMIT, 10).await.unwrap().pop().unwrap();
    assert_eq!(first.old, 10, "the default");
    assert!(matches!(
        tree.config.history("nothing", 1).await,
        Err(HistoryError::UnknownPath(_))
    ));
}

#[tokio::test]
async fn a_subscriber_hears_of_the_settings_below_its_path() {
    let tree = Tree::start(memory()).await;
    let mut all = tree.config.subscribe("").unwrap();
    let mut billing = tree.config.subscribe("billing").unwrap();
    let mut limit = tree.config.subscribe(LIMIT).unwrap();
    assert!(tree.config.subscribe("bill").is_err());
    for path in ["log.level", "billing.limit"] {
        tree.config.update(path, 7, "alice").await.unwrap();
    }
    tree.config.update(CURRENCY, "CHF", "alice").await.unwrap();
    assert_eq!(&*all.changed().await.unwrap().path, "log.level");
    assert_eq!(&*billing.changed().await.unwrap().path, "billing.limit");
    assert_eq!(&*billing.changed().await.unwrap().path, "billing.currency");
    assert_eq!(limit.changed().await.unwrap().version, 2);
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_told_so() {
    let tree = Tree::start(memory()).await;
    let mut slow = tree.config.subscribe("").unwrap();
    for n in 0..300 {
        tree.config.update(LEVEL, n, "alice").await.unwrap();
    }
    let Err(SubscriptionError::Lagged { missed }) = slow.changed().await else {
        panic!("not told");
    };
    assert_eq!(slow.changed().await.unwrap().version, missed + 1);
}

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
        .timeout(Duration::from_millis(1))
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

#[tokio::test]
async fn an_update_without_a_server_fails_at_once_and_reading_goes_on() {
    let pool = memory();
    let config = ConfigServer::builder(schema(), pool.clone()).build();
    let _tree = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("test")
        .await
        .unwrap();
    let error = config.update(LIMIT, 1, "alice").await.unwrap_err();
    assert!(matches!(error, UpdateError::ServerDown { reason: None }));
    assert!(error.is_retryable());
    assert_eq!(config.get(LIMIT).unwrap(), 10);
}

#[tokio::test]
async fn a_protected_update_is_limited_per_user_and_an_invalid_one_costs_nothing() {
    let pool = memory();
    let breaker = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .build()
        .unwrap();
    let breaker = Breaker::new("config_server", breaker);
    let guard = Guard::builder("config_server")
        .gate(RateGate::new())
        .quota(Quota::per_hour(2))
        .breaker(breaker.clone())
        .pool(pool.clone())
        .build()
        .unwrap();
    let builder = ConfigServer::builder(schema(), pool.clone()).guard(guard);
    let tree = Tree::start_with(builder, pool).await;
    let config = &tree.config;
    for _ in 0..5 {
        let error = config
            .update_protected(LIMIT, 5000, "alice")
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            GuardError::Operation(UpdateError::Invalid { .. })
        ));
    }
    for n in 1..=2_u32 {
        assert_eq!(
            config
                .update_protected(LIMIT, n, "alice")
                .await
                .unwrap()
                .version,
            u64::from(n)
        );
    }
    let error = config
        .update_protected(LIMIT, 3, "alice")
        .await
        .unwrap_err();
    assert!(matches!(error, GuardError::RateLimited { .. }), "{error}");
    config.update_protected(LIMIT, 3, "bob").await.unwrap();

    breaker.trip();
    let error = config
        .update_protected(LIMIT, 4, "carol")
        .await
        .unwrap_err();
    assert!(matches!(error, GuardError::CircuitOpen(_)), "{error}");
    assert_eq!((config.get(LIMIT).unwrap(), config.version()), (3, 3));
}

#[tokio::test]
async fn a_caller_that_brings_its_own_worker_gives_it_back() {
    let tree = Tree::start(memory()).await;
    let db = tree.pool.checkout().await.unwrap();
    let change = tree
        .config
        .write_through(db, LIMIT, 20, "alice")
        .await
        .unwrap();
    assert_eq!(change.version, 1);
    assert_eq!(tree.pool.status().in_use, 0);
}

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

#[test]
fn public_types_are_debug_send_and_sync() {
    fn check<T: std::fmt::Debug + Send + Sync>() {}
    check::<ConfigServer>();
    check::<ConfigServerBuilder>();
    check::<ConfigEntry>();
    check::<ConfigChange>();
    check::<ConfigKey<u32>>();
    check::<Schema>();
    check::<SchemaBuilder>();
    check::<Subscription>();
    check::<UpdateError>();
    check::<GetError>();
    check::<HistoryError>();
}
