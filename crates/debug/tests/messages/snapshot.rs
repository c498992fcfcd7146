//! What a snapshot shows of messages.

use std::sync::Arc;

use perennial_debug::DeadLately;
use perennial_lifecycle::{Caller, DeadReason, Moment, Terms};
use tokio::time::advance;

use crate::support::{Job, SECOND, Shop, below};

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_the_mailbox_of_each_actor_and_the_books_of_all() {
    let shop = Shop::open().await;
    shop.send("shop/scribe", Job::Write(1));
    shop.send("shop/scribe", Job::Write(2));
    shop.scribe.notes(2).await;
    let expired = Terms {
        deadline: Moment::default(),
        caller: None::<Caller>,
    };
    let scribe = shop.run("shop/scribe");
    scribe.offer_on(Job::Write(3), || expired).unwrap();
    shop.occupy("shop/scribe", 100 * SECOND).await;
    shop.send("shop/scribe", Job::Write(4));
    shop.send("shop/scribe", Job::Write(5));
    advance(3 * SECOND).await;

    let snapshot = shop.snapshot().await;
    let scribe = snapshot.find("shop/scribe").unwrap();
    assert_eq!(scribe.mailbox_depth, 2);
    let json = serde_json::to_string_pretty(&scribe.mailbox).unwrap();
    let expected = r#"{
  "capacity": 10,
  "oldest_at_least_ms": 3000,
  "handled": 2,
  "failed": 0,
  "expired": 1,
  "returned": 0,
  "refused": 0,
  "dead": 0,
  "redelivered": 0,
  "times": {
    "p50_us": 1,
    "p99_us": 1,
    "max_us": 1
  }
}"#;
    assert_eq!(json, expected);
    assert_eq!(snapshot.find("shop/clerk").unwrap().mailbox, None);
    let books = serde_json::to_string(&snapshot.books).unwrap();
    let expected = "{\"waiting\":2,\"in_hand\":1,\"handled\":2,\"failed\":0,\"expired\":1,\"returned\":0,\
                    \"refused\":0,\"dead\":0}";
    assert_eq!(books, expected);
    shop.assert_balanced();

    advance(100 * SECOND).await;
    shop.scribe.notes(5).await;
    let snapshot = shop.snapshot().await;
    let mailbox = snapshot.find("shop/scribe").unwrap().mailbox.unwrap();
    let times = mailbox.times.unwrap();
    assert_eq!((mailbox.handled, times.p50_us), (5, 1));
    // The first is timed, and then one in sixteen: the slow one is not among them.
    assert_eq!((times.p99_us, times.max_us), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_groups_waits_and_dead_letters() {
    let shop = Shop::open().await;
    let (clerk, scribe) = (shop.node("shop/clerk"), shop.node("shop/scribe"));
    let waits = Arc::clone(shop.scope.traffic().waits());
    let _waiting = waits.begin(clerk.path(), scribe.path()).unwrap();
    for _ in 0..2 {
        shop.send("shop/scribe", Job::Fail);
    }
    let mut dead = shop.debugger.follow_dead_letters();
    for _ in 0..2 {
        assert_eq!(
            dead.next().await.unwrap().unwrap().reason,
            DeadReason::Poison
        );
    }
    advance(2 * SECOND).await;

    let snapshot = shop.snapshot().await;
    let staff = &snapshot.groups[0];
    assert_eq!(
        (&*staff.name, &*staff.members),
        ("staff", &[clerk.path().clone()][..])
    );
    let wait = &snapshot.waits[0];
    assert_eq!(
        (&wait.caller, &wait.callee, wait.for_ms, wait.calls),
        (clerk.path(), scribe.path(), 2_000, 1)
    );
    let dead = &snapshot.dead_letters;
    assert_eq!((dead.total, dead.kept, dead.last.len()), (2, 2, 2));
    let last = &dead.last[1];
    assert_eq!(
        (last.id, last.reason, last.crashes),
        (1, DeadReason::Poison, 3)
    );
    let DeadLately { poison, others, .. } = dead.lately[0];
    assert_eq!((poison, others), (2, 0));
    assert_eq!(
        below(&snapshot),
        "\
shop: 4 actors, 6 restarts, 0 down
waits:
  shop/clerk -> shop/scribe for 2.0s
2 dead letters, the last a messages::support::Job to shop/scribe: poison
"
    );
}
