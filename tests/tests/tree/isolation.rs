//! Nothing is global: trees in one process never meet.

use std::time::Duration;

use perennial::{
    BreakerConfig, BreakerState, ConfigKey, DATABASE, EventKind, Name, Quota, Schema, Tree,
};
use perennial_testkit::Order;
use tokio::task::JoinSet;

use crate::support::{
    DEADLINE, echoes, healed, nothing_runs, patient, places, puppet, shut_down, within,
};

const ACTOR: Name<Order> = Name::new("actor");
const SETTING: ConfigKey<u64> = ConfigKey::new("setting");

async fn twin() -> Tree {
    Tree::builder("twin")
        .settings(patient())
        .schema(Schema::builder().value(SETTING, 0).build().unwrap())
        .breaker("service", BreakerConfig::default())
        .child(puppet("actor"))
        .quota(&ACTOR, Quota::per_hour(3))
        .start()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_3_two_trees_with_the_same_names_never_meet() {
    let (one, two) = (twin().await, twin().await);
    let all = places(&one).await;
    assert_eq!(all, places(&two).await);
    let mut events = two.debug().events();

    // Everything that one tree can be told.
    one.cast(ACTOR, Order::Store(1)).unwrap();
    one.update_protected("setting", 1, "user").await.unwrap();
    one.breaker("service").unwrap().force_open();
    assert!(
        one.rate_gate()
            .check("scope", "key", &Quota::per_hour(1))
            .is_allowed()
    );
    let create = one.guard(DATABASE.as_str()).pool(DATABASE);
    create
        .run(|db| async move { db.batch("CREATE TABLE mine (x)").await })
        .await
        .unwrap();
    one.cast(ACTOR, Order::Store(1)).unwrap();
    one.cast(ACTOR, Order::Store(1)).unwrap();
    one.cast(ACTOR, Order::Store(1)).unwrap_err();
    for path in &all {
        one.debug().kill(path).await.unwrap();
        healed(&one, &all).await;
    }

    // None of it has reached the other.
    let load = |tree: Tree| async move { tree.call(ACTOR, Order::Load, DEADLINE).await };
    assert_eq!(load(two.clone()).await.unwrap(), 0);
    assert_eq!(
        (two.config().get(SETTING).unwrap(), two.config().version()),
        (0, 0)
    );
    assert_eq!(
        two.breaker("service").unwrap().state(),
        BreakerState::Closed
    );
    assert!(
        two.rate_gate()
            .check("scope", "key", &Quota::per_hour(1))
            .is_allowed()
    );
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'mine'";
    let look = two.guard(DATABASE.as_str()).pool(DATABASE);
    let found = look
        .run(|db| async move { db.query_row(tables, |row| row.get::<_, i64>(0)).await })
        .await;
    assert_eq!(found.unwrap(), 0);
    let snapshot = two.debug().snapshot().await.unwrap();
    assert_eq!(
        (snapshot.totals.restarts, snapshot.totals.down),
        (0, 0),
        "{}",
        snapshot.render()
    );

    shut_down(&one).await;
    nothing_runs(one.scope());
    echoes(&two, &ACTOR).await;
    while let Some(event) = events.next_ready() {
        let event = event.unwrap();
        assert!(!matches!(event.kind, EventKind::Exited { .. }), "{event:?}");
    }
    shut_down(&two).await;
}

#[test]
fn tree_3_twenty_trees_that_start_and_stop_together_leave_nothing_running() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut trees = JoinSet::new();
        for number in 0..20 {
            trees.spawn(async move {
                let tree = twin().await;
                tree.cast(ACTOR, Order::Store(number)).unwrap();
                tree.update_protected("setting", number, "user")
                    .await
                    .unwrap();
                let stored = tree.call(ACTOR, Order::Load, DEADLINE).await.unwrap();
                let set = tree.config().get(SETTING).unwrap();
                let report = tree.shutdown().await;
                (number, stored, set, report, tree.scope().clone())
            });
        }
        while let Some(ended) = within("the trees", trees.join_next()).await {
            let (number, stored, set, report, scope) = ended.unwrap();
            assert_eq!((stored, set), (number, number));
            assert!(report.is_clean(), "{report:?}");
            nothing_runs(&scope);
        }
    });
}

#[test]
fn tree_3_a_tree_that_has_stopped_leaves_no_task_behind() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tree = twin().await;
        shut_down(&tree).await;
        drop(tree);
        // Tasks are woken to end, and end in their own time, but soon.
        let metrics = tokio::runtime::Handle::current().metrics();
        let none = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let soon = tokio::time::timeout(Duration::from_secs(5), none).await;
        assert!(
            soon.is_ok(),
            "{} tasks are still alive",
            metrics.num_alive_tasks()
        );
    });
}
