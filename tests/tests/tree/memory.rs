//! What memory pressure does to a tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use perennial::monitor::{CleanupFuture, MemoryReading, Trigger};
use perennial::{CleanupStrategy, Decision, GuardError, Overall, Pressure, Quota, Tree};
use perennial_testkit::Journal;

use crate::support::{patient, shut_down, within};

/// Notes how it was run.
struct Cache(Journal<Trigger>);

impl Cache {
    fn note(&self, trigger: Trigger) -> CleanupFuture<'_> {
        self.0.push(trigger);
        Box::pin(async { Ok(1) })
    }
}

impl CleanupStrategy for Cache {
    fn on_request(&self) -> CleanupFuture<'_> {
        self.note(Trigger::OnRequest)
    }

    fn proactive(&self) -> CleanupFuture<'_> {
        self.note(Trigger::Proactive)
    }

    fn emergency(&self) -> CleanupFuture<'_> {
        self.note(Trigger::Emergency)
    }
}

/// A tree whose process uses as many per cent of its memory as the counter says.
async fn tree_with(used: &Arc<AtomicU64>, runs: &Journal<Trigger>) -> Tree {
    let tree = Tree::builder("t")
        .settings(patient())
        .cleanup("cache", Cache(runs.clone()))
        .start()
        .await
        .unwrap();
    let used = Arc::clone(used);
    tree.memory().set_reader(move || {
        Ok(MemoryReading {
            used: used.load(Ordering::SeqCst),
            limit: 100,
        })
    });
    tree
}

/// Makes the memory manager look now: it does at each start.
async fn look(tree: &Tree) {
    let node = tree
        .scope()
        .root()
        .find("t/monitors/memory_manager")
        .unwrap();
    tree.debug()
        .kill("t/monitors/memory_manager")
        .await
        .unwrap();
    within("the memory manager", node.running()).await;
}

#[tokio::test]
async fn at_critical_pressure_the_guard_refuses_before_it_spends_anything() {
    let (used, runs) = (Arc::new(AtomicU64::new(10)), Journal::new());
    let tree = tree_with(&used, &runs).await;
    let quota = Quota::per_hour(1);
    let guard = tree
        .guard("database")
        .rate_key("key")
        .quota(quota)
        .build()
        .unwrap();

    used.store(95, Ordering::SeqCst);
    look(&tree).await;
    assert_eq!(tree.memory().level(), Pressure::Critical);
    let refused = guard
        .run(|()| async { Ok::<_, std::io::Error>(()) })
        .await
        .unwrap_err();
    assert!(
        matches!(refused, GuardError::MemoryPressure { .. }),
        "{refused:?}"
    );
    assert_eq!(
        refused.to_string(),
        "`database` refuses work: memory pressure is critical"
    );
    assert!(refused.is_refusal() && refused.is_retryable());
    let peeked = tree.rate_gate().peek("database", "key", &quota);
    assert_eq!(peeked, Decision::Allowed { remaining: 0 });
    assert_eq!(tree.breaker("database").unwrap().status().cancelled, 0);
    let update = tree.update_protected("none", 1, "user").await.unwrap_err();
    assert!(
        matches!(update, GuardError::Operation(_)),
        "an invalid value is refused first: {update:?}"
    );
    let health = within("health", tree.health().check()).await;
    assert_eq!(health.overall(tree.memory().level()), Overall::Critical);

    used.store(10, Ordering::SeqCst);
    look(&tree).await;
    guard.run(|()| async { Ok::<_, ()>(()) }).await.unwrap();
    shut_down(&tree).await;
}

#[tokio::test]
async fn clean_ups_run_at_high_and_at_critical_pressure() {
    let (used, runs) = (Arc::new(AtomicU64::new(10)), Journal::new());
    let tree = tree_with(&used, &runs).await;
    for (percent, level) in [(10, Pressure::Low), (60, Pressure::Medium)] {
        used.store(percent, Ordering::SeqCst);
        look(&tree).await;
        assert_eq!((tree.memory().level(), runs.entries().len()), (level, 0));
    }
    used.store(75, Ordering::SeqCst);
    look(&tree).await;
    assert_eq!(tree.memory().level(), Pressure::High);
    assert_eq!(
        within("a clean-up", runs.wait_for(1)).await,
        [Trigger::Proactive]
    );

    used.store(95, Ordering::SeqCst);
    look(&tree).await;
    let ran = within("a clean-up", runs.wait_for(2)).await;
    assert_eq!(ran, [Trigger::Proactive, Trigger::Emergency]);
    assert!(tree.memory().request_cleanup());
    assert_eq!(
        within("a clean-up", runs.wait_for(3)).await[2],
        Trigger::OnRequest
    );
    shut_down(&tree).await;
}
