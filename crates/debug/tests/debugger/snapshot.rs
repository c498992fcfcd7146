//! What a snapshot shows of actors and their restarts.

use std::time::Duration;

use perennial_debug::Level;
use perennial_lifecycle::{ChildKind, ChildState, Restart, Shutdown};
use tokio::time::{Instant, advance};

use crate::support::{PuppetMsg, Shop, names};

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_the_tree_in_start_order_with_its_specs() {
    let shop = Shop::open().await;
    advance(Duration::from_secs(90)).await;
    let snapshot = shop.snapshot().await;

    let paths: Vec<_> = snapshot.nodes().map(|it| it.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "shop",
            "shop/bank",
            "shop/bank/ledger",
            "shop/bank/audit",
            "shop/cache",
            "shop/debug"
        ]
    );
    assert!(snapshot.nodes().all(|it| it.state == ChildState::Running));
    assert_eq!(snapshot.summary(), "shop: 6 actors, 0 restarts, 0 down");
    let bank = snapshot.find("shop/bank").unwrap();
    assert_eq!(bank.kind, ChildKind::Supervisor);
    assert_eq!(bank.uptime_ms, Some(90_000));
    let audit = snapshot.find("shop/bank/audit").unwrap();
    let spec = audit.spec.unwrap();
    assert_eq!(spec.restart, Restart::Transient);
    assert_eq!(spec.shutdown, Shutdown::Within(Duration::from_secs(5)));
    assert!(audit.message_type.unwrap().ends_with("PuppetMsg"));
    assert_eq!(
        names(&snapshot),
        [
            "shop",
            "├── bank",
            "│   ├── ledger",
            "│   └── audit",
            "├── cache",
            "└── debug"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_shows_as_a_restart_with_its_cause_chain() {
    let mut shop = Shop::open().await;
    advance(Duration::from_secs(3)).await;
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    shop.send("shop/bank/ledger", PuppetMsg::Fail);
    shop.restarted("shop/bank/ledger").await;

    let snapshot = shop.snapshot().await;
    let ledger = snapshot.find("shop/bank/ledger").unwrap();
    assert_eq!(ledger.state, ChildState::Running);
    assert_eq!((ledger.restarts, ledger.incarnation), (1, Some(2)));
    let exit = ledger.last_exit.as_ref().unwrap();
    assert_eq!(
        (exit.class, exit.clean, exit.incarnation),
        ("failed", false, 1)
    );
    assert_eq!(exit.uptime_ms, 3_000);
    assert_eq!(exit.chain, ["failed: cannot write the ledger", "disk full"]);
    assert_eq!(snapshot.summary(), "shop: 6 actors, 1 restart, 0 down");

    let timeline = shop.debugger.timeline(3);
    let told: Vec<_> = timeline.iter().map(|it| (it.level, &*it.text)).collect();
    let cause = "failed: cannot write the ledger: disk full";
    assert_eq!(
        told,
        [
            (Level::Warn, &*format!("exited #1: {cause}")),
            (Level::Warn, &*format!("child_terminated ledger: {cause}")),
            (Level::Warn, "restarted as #2 (restart 1)"),
        ]
    );
    assert!(timeline.windows(2).all(|it| it[0].seq + 1 == it[1].seq));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_actor_is_seen_and_hangs_nothing() {
    let shop = Shop::open().await;
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    shop.hang("shop/bank/ledger").await;
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    advance(Duration::from_secs(12)).await;

    let before = Instant::now();
    let snapshot = shop.snapshot().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    let ledger = snapshot.find("shop/bank/ledger").unwrap();
    assert_eq!(ledger.in_hand_ms, Some(12_000));
    assert_eq!((ledger.mailbox_depth, ledger.handled), (2, 1));
    assert_eq!(snapshot.totals.problems, 1);
    assert!(snapshot.render().contains("! message in hand for 12.0s"));

    shop.debugger.kill("shop/bank/ledger").await.unwrap();
    let exit = shop.node("shop/bank/ledger").last_end().unwrap();
    assert_eq!(exit.reason.class(), "killed");
}
