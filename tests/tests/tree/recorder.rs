//! A recorder of metrics that panics harms nobody.

use std::sync::Arc;
use std::time::Duration;

use perennial::{BreakerConfig, ConfigKey, DATABASE, Name, Node, Quota, Schema, Tree};
use perennial_testkit::{Order, under_panicking_metrics};

use crate::support::{echoes, healed, puppet, shut_down};

const ALPHA: Name<Order> = Name::new("alpha");
const SETTING: ConfigKey<u64> = ConfigKey::new("billing.max_items");

/// How often the actors at a place and below it were restarted.
fn restarts(node: &Arc<Node>) -> u64 {
    let below = node.children().iter().map(restarts).sum::<u64>();
    node.restarts() + below
}

async fn lives() {
    let tree = Tree::builder("t")
        .schema(Schema::builder().value(SETTING, 0).build().unwrap())
        .breaker("orders", BreakerConfig::default())
        .child(puppet("alpha"))
        .quota(&Name::<Order>::new("limited"), Quota::per_hour(1))
        .child(puppet("limited"))
        .start()
        .await
        .unwrap();
    // Restarts, refusals, changes.
    let down = tree.monitor(&ALPHA).unwrap();
    tree.cast(ALPHA, Order::Fail("broken")).unwrap();
    down.await;
    healed(&tree, &["t/host/alpha".to_owned()]).await;
    echoes(&tree, &ALPHA).await;
    assert!(
        tree.cast(Name::<Order>::new("nobody"), Order::Store(1))
            .is_err()
    );
    tree.update_protected(SETTING.path(), 1, "ann")
        .await
        .unwrap();
    assert_eq!(tree.config().get(SETTING).unwrap(), 1);
    let orders = tree.guard("orders").pool(DATABASE);
    let query = orders.run(|db| async move { db.batch("SELECT 1").await });
    query.await.unwrap();
    tree.breaker("orders").unwrap().trip();
    // All that tells from time to time does.
    tokio::time::sleep(Duration::from_secs(180)).await;
    assert_eq!(restarts(tree.root().node()), 1);
    assert!(shut_down(&tree).await.killed.is_empty());
}

#[test]
fn tree_8_metrics_that_panic_harm_nobody() {
    under_panicking_metrics(lives);
}
