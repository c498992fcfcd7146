//! Kill any box of the tree: it heals, and nothing that others rely on is lost.

use std::collections::HashSet;
use std::time::Duration;

use perennial::breaker::Trip;
use perennial::workers::analysis::Language;
use perennial::workers::database::Statement;
use perennial::{
    ANALYZER, AnalyzerWorker, BreakerConfig, BreakerState, BreakerStatus, ConfigKey, DATABASE,
    DatabaseWorker, Decision, GuardError, Name, OpenTime, PoolConfig, Quota, Refusal, Schema,
    Settings, Tree,
};
use perennial_testkit::Order;

use crate::support::{
    DEADLINE, Folder, echoes, healed, patient, places, puppet, random, running, shut_down, within,
};

const ALPHA: Name<Order> = Name::new("alpha");
const BETA: Name<Order> = Name::new("beta");
const LIMITED: Name<Order> = Name::new("limited");
const SETTING: ConfigKey<u64> = ConfigKey::new("billing.max_items");
const HOURLY: Quota = Quota::per_hour(1);
/// A key whose quota is spent.
const SPENT: (&str, u64) = ("exports", 7);
const FAILURES: u32 = 3;

/// A tree with something to lose in every cell.
struct World {
    tree: Tree,
    places: Vec<String>,
    breakers: Vec<BreakerStatus>,
    /// What was acknowledged last: value and version of the setting, and how many rows.
    value: u64,
    version: u64,
    rows: u64,
    _folder: Folder,
}

impl World {
    async fn start(namespace: &str) -> Self {
        let folder = Folder::new(namespace);
        let mut settings = patient();
        settings.database.path = Some(folder.file("tree.db"));
        // Each write below is by a user of its own; one user has spent everything.
        settings.config.update_quota = HOURLY;
        let breaker = BreakerConfig::builder()
            .trip(Trip::Consecutive(FAILURES))
            .open_time(OpenTime::Constant(Duration::from_secs(3600)))
            .build()
            .unwrap();
        let tree = Tree::builder(namespace)
            .settings(settings)
            .schema(Schema::builder().value(SETTING, 0).build().unwrap())
            .pool(ANALYZER, AnalyzerWorker::new(), PoolConfig::new(2))
            .breaker("tripped", breaker.clone())
            .breaker("failing", breaker)
            .breaker("orders", BreakerConfig::default())
            .child(puppet("alpha"))
            .child(puppet("beta"))
            .child(puppet("limited"))
            .quota(&LIMITED, HOURLY)
            .start()
            .await
            .unwrap();

        let sql = "CREATE TABLE orders (number INTEGER PRIMARY KEY)";
        let create = tree.guard("orders").pool(DATABASE);
        create
            .run(|db| async move { db.batch(sql).await })
            .await
            .unwrap();
        tree.cast(LIMITED, Order::Store(1)).unwrap();
        assert!(tree.rate_gate().check("api", &SPENT, &HOURLY).is_allowed());
        let change = tree
            .update_protected(SETTING.path(), 1, "greedy")
            .await
            .unwrap();
        fail(&tree, "tripped", FAILURES).await;
        fail(&tree, "failing", FAILURES - 1).await;

        let mut world = Self {
            places: places(&tree).await,
            breakers: Vec::new(),
            value: 1,
            version: change.version,
            rows: 0,
            tree,
            _folder: folder,
        };
        world.breakers = world.breakers_at_rest();
        world.holds("the start").await;
        world
    }

    /// The breakers that nothing below calls.
    fn breakers_at_rest(&self) -> Vec<BreakerStatus> {
        let mut list = self.tree.breakers().status();
        list.retain(|it| matches!(&*it.name, "tripped" | "failing"));
        for status in &mut list {
            // These go on with time, and with each refusal.
            (
                status.retry_after,
                status.since_last_failure,
                status.refused,
            ) = (None, None, 0);
        }
        list
    }

    /// What the cells answer, whether the actors run or not.
    async fn answers_at_once(&self, after: &str) {
        let tree = &self.tree;
        assert_eq!(tree.config().get(SETTING).unwrap(), self.value, "{after}");
        assert!(tree.config().version() >= self.version, "{after}");
        let peeked = tree.rate_gate().peek("api", &SPENT, &HOURLY);
        assert!(
            matches!(peeked, Decision::Refused { .. }),
            "{after}: {peeked:?}"
        );
        let cast = tree.cast(LIMITED, Order::Store(2)).unwrap_err().refusal;
        assert!(
            matches!(cast, Refusal::RateLimited { .. }),
            "{after}: {cast:?}"
        );
        let update = tree.update_protected(SETTING.path(), 0, "greedy").await;
        assert!(
            matches!(update, Err(GuardError::RateLimited { .. })),
            "{after}: {update:?}"
        );
        let call = tree
            .guard("tripped")
            .run(|()| async { Ok::<_, ()>(()) })
            .await;
        assert!(
            matches!(call, Err(GuardError::CircuitOpen(_))),
            "{after}: {call:?}"
        );
        assert_eq!(self.breakers_at_rest(), self.breakers, "{after}");
        for name in [ALPHA, BETA, LIMITED] {
            assert!(tree.resolve(&name).is_ok(), "{after}: {name}");
        }
    }

    /// All that must be so when the tree has healed: everything above, and everything works.
    async fn holds(&mut self, after: &str) {
        self.answers_at_once(after).await;
        healed(&self.tree, &self.places).await;
        self.answers_at_once(after).await;
        let snapshot = self.tree.debug().snapshot().await.unwrap();
        assert_eq!(snapshot.totals.down, 0, "{after}:\n{}", snapshot.render());

        echoes(&self.tree, &ALPHA).await;
        echoes(&self.tree, &BETA).await;
        self.writes_a_row(after).await;
        self.changes_the_setting(after).await;
        let analyze = self
            .tree
            .guard("analyzer")
            .pool(ANALYZER)
            .deadline(DEADLINE);
        let report = analyze
            .run(|worker| async move { worker.analyze(Language::Rust, "fn f() {}").await })
            .await;
        assert_eq!(report.unwrap().definitions.len(), 1, "{after}");
    }

    async fn writes_a_row(&mut self, after: &str) {
        let number = self.rows + 1;
        let insert = Statement::new("INSERT INTO orders VALUES (?1)").bind(number.cast_signed());
        let guard = self.tree.guard("orders").pool(DATABASE).deadline(DEADLINE);
        let rows = guard
            .run(|db| async move {
                db.execute(insert).await?;
                db.query_row("SELECT count(*) FROM orders", |row| row.get::<_, i64>(0))
                    .await
            })
            .await;
        self.rows += 1;
        assert_eq!(rows.unwrap(), self.rows.cast_signed(), "{after}");
    }

    async fn changes_the_setting(&mut self, after: &str) {
        let value = self.value + 1;
        let user = format!("user {value}");
        let update = self.tree.update_protected(SETTING.path(), value, &user);
        let change = update
            .await
            .unwrap_or_else(|error| panic!("{after}: {error:?}"));
        assert!(change.version > self.version, "{after}");
        (self.value, self.version) = (value, change.version);
    }

    /// What can be seen only by ending it.
    async fn ends(self) {
        // The failures on record count: one more is too many.
        fail(&self.tree, "failing", 1).await;
        let failing = self.tree.breaker("failing").unwrap();
        assert_eq!(failing.state(), BreakerState::Open);
        let history = self.tree.config().history(SETTING, 10_000).await.unwrap();
        let values: HashSet<u64> = history.iter().filter_map(|it| it.new.as_u64()).collect();
        let lost: Vec<u64> = (1..=self.value).filter(|it| !values.contains(it)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        let report = shut_down(&self.tree).await;
        assert!(report.is_clean(), "{report:?}");
    }
}

async fn fail(tree: &Tree, service: &str, times: u32) {
    let guard = tree.guard(service).build().unwrap();
    for _ in 0..times {
        guard
            .run(|()| async { Err::<(), _>("no") })
            .await
            .unwrap_err();
    }
}

async fn each_box_is_killed_in_turn(namespace: &str) {
    let mut world = World::start(namespace).await;
    for expected in [
        "",
        "/registry",
        "/rate_gate",
        "/breakers",
        "/breakers/tripped",
        "/breakers/config_server",
        "/pools",
        "/pools/database",
        "/pools/database/worker-1",
        "/pools/analyzer/worker-2",
        "/config_server",
        "/monitors",
        "/monitors/memory_manager",
        "/monitors/performance_monitor",
        "/monitors/health_aggregator",
        "/host",
        "/host/alpha",
        "/debug",
    ] {
        let path = format!("{namespace}{expected}");
        assert!(
            world.places.contains(&path),
            "{path} is not in {:?}",
            world.places
        );
    }
    for path in world.places.clone() {
        let node = world.tree.scope().root().find(&path).unwrap();
        let before = node.incarnations();
        within(&path, world.tree.debug().kill(&path)).await.unwrap();
        world.holds(&path).await;
        assert!(node.incarnations() > before, "{path} was not killed");
    }
    world.ends().await;
}

#[tokio::test]
async fn tree_1_a_tree_on_one_thread_survives_the_kill_of_each_of_its_boxes() {
    each_box_is_killed_in_turn("one_thread").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tree_1_a_tree_on_many_threads_survives_the_kill_of_each_of_its_boxes() {
    each_box_is_killed_in_turn("many_threads").await;
}

/// Kills two or three boxes at the same moment, fifty times.
async fn boxes_are_killed_together(namespace: &str, seed: u64) {
    let mut random = random(seed);
    let mut world = World::start(namespace).await;
    for round in 0..50 {
        let count = random.usize(2..=3);
        let paths = random.choose_multiple(world.places.clone(), count);
        let root = world.tree.scope().root();
        let nodes: Vec<_> = paths.iter().map(|path| root.find(path).unwrap()).collect();
        let runs: Vec<_> = nodes.iter().filter_map(|node| node.current()).collect();
        assert_eq!(runs.len(), count);
        runs.iter().for_each(|run| run.kill());
        for run in runs {
            within("the end of what was killed", run.ended()).await;
        }
        world.holds(&format!("round {round}: {paths:?}")).await;
    }
    world.ends().await;
}

#[tokio::test]
async fn tree_1_a_tree_on_one_thread_survives_kills_of_several_boxes_at_once() {
    boxes_are_killed_together("one_thread", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tree_1_a_tree_on_many_threads_survives_kills_of_several_boxes_at_once() {
    boxes_are_killed_together("many_threads", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tree_1_calls_and_protected_operations_go_on_while_everything_around_them_is_killed() {
    let world = World::start("under_load").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (tree, stopped) = (world.tree.clone(), stopped.clone());
        load.spawn(async move {
            let mut done = 0_u64;
            while !*stopped.borrow() {
                match tree
                    .call(ALPHA, |reply| Order::Echo(done, reply), DEADLINE)
                    .await
                {
                    Ok(answer) => assert_eq!(answer, done),
                    // The callee was killed with the message in its mailbox.
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
                let guard = tree.guard("config_server").without_breaker().pool(DATABASE);
                let one =
                    guard
                        .deadline(DEADLINE)
                        .run(|db| async move {
                            db.query_row("SELECT 1", |row| row.get::<_, i64>(0)).await
                        })
                        .await;
                match one {
                    Ok(one) => assert_eq!(one, 1),
                    Err(GuardError::Operation(error)) => assert!(error.is_retryable(), "{error}"),
                    Err(error) => panic!("{error:?}"),
                }
                done += 1;
            }
            done
        });
    }
    let mut random = random(3);
    for _ in 0..50 {
        let path = random.choice(&world.places).unwrap();
        let Some(run) = world
            .tree
            .scope()
            .root()
            .find(path)
            .and_then(|it| it.current())
        else {
            panic!("{path} does not run");
        };
        run.kill();
        within(path, run.ended()).await;
        healed(&world.tree, &world.places).await;
    }
    stop.send_replace(true);
    while let Some(done) = within("the load", load.join_next()).await {
        assert!(done.unwrap() > 0);
    }
    let report = shut_down(&world.tree).await;
    assert!(report.is_clean(), "{report:?}");
    assert!(running(world.tree.scope().root()).is_empty());
}

/// Why a database pool of one worker lends none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lends {
    /// It is on loan.
    NoMore,
    /// An operator has drained the pool.
    Nothing,
    /// An operator has stopped it.
    NotUp,
}

/// The config server reads what is stored at each start, for which it needs a worker.
#[tokio::test]
async fn tree_1_a_config_server_that_finds_no_worker_waits_for_one_and_ends_no_tree() {
    const POOL: &str = "t/pools/database";
    let full = PoolConfig::new(1).max_waiting(0);
    let mut hasty = Settings::<()>::default();
    hasty.config.update_deadline = Duration::from_millis(1);
    for (settings, pool, lends) in [
        (Settings::default(), PoolConfig::new(1), Lends::Nothing),
        (Settings::default(), PoolConfig::new(1), Lends::NotUp),
        (Settings::default(), full, Lends::NoMore),
        (hasty, PoolConfig::new(1), Lends::NoMore),
    ] {
        let tree = Tree::builder("t")
            .settings(settings)
            .pool(DATABASE, DatabaseWorker::in_memory("t"), pool)
            .start()
            .await
            .unwrap();
        let (all, debug) = (places(&tree).await, tree.debug());
        let pool = tree.pool(DATABASE).unwrap();
        let mut held = None;
        match lends {
            Lends::NoMore => held = Some(pool.checkout().await.unwrap()),
            Lends::Nothing => debug.drain(POOL).await.unwrap(),
            Lends::NotUp => debug.stop(POOL).await.unwrap(),
        }
        debug.kill("t/config_server").await.unwrap();
        // More time than that of all restarts that are not too many.
        let a_while = Duration::from_millis(200);
        let ended = tokio::time::timeout(a_while, tree.ended()).await;
        assert!(ended.is_err(), "{lends:?}: {ended:?}: {pool:?}");
        match lends {
            Lends::NoMore => drop(held),
            Lends::Nothing => debug.resume_lending(POOL).await.unwrap(),
            Lends::NotUp => drop(debug.restart(POOL).await.unwrap()),
        }
        healed(&tree, &all).await;
        assert!(shut_down(&tree).await.is_clean());
    }
}
