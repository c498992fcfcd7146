//! A root that was lost is brought back, or the tree says that it can't be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perennial::{ChildSpec, Event, EventKind, ExitReason, Tree};
use perennial_testkit::Puppet;
use tokio::time::Instant;

use crate::support::nothing_runs;

/// A child whose starts fail from the second to that of this number.
fn fails_until(number: u64) -> ChildSpec {
    let starts = Arc::new(AtomicU64::new(0));
    ChildSpec::from_fn("frail", perennial::ChildKind::Worker, move |context| {
        let start = starts.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if (2..=number).contains(&start) {
                return Err(perennial::StartError::new(ExitReason::failed("no disk")));
            }
            Ok(context.spawn(Puppet, ()).await?.into())
        }
    })
}

/// The waits before the root was started again, in milliseconds.
fn delays(tree: &Tree) -> Vec<u128> {
    let delay = |event: &Event| match event.kind {
        EventKind::RestartDelayed { delay, .. } if event.path == *tree.root().path() => {
            Some(delay.as_millis())
        }
        _ => None,
    };
    tree.scope()
        .events()
        .recent()
        .iter()
        .filter_map(delay)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn tree_7_a_root_that_does_not_start_again_is_tried_more_and_more_seldom() {
    let tree = Tree::builder("t")
        .child(fails_until(4))
        .start()
        .await
        .unwrap();
    let began = Instant::now();
    tree.root().incarnation().unwrap().kill();
    let mut events = tree.debug().events();
    while tree.root().node().restarts() == 0 {
        events.next().await.unwrap().unwrap();
    }
    assert_eq!(delays(&tree), [100, 200, 400]);
    assert!(began.elapsed() >= Duration::from_millis(700));
    tree.shutdown().await;
    nothing_runs(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn tree_7_a_root_that_never_starts_again_ends_the_tree_which_says_why() {
    let tree = Tree::builder("t")
        .child(fails_until(u64::MAX))
        .start()
        .await
        .unwrap();
    tree.root().incarnation().unwrap().kill();
    let reason = tree.ended().await.expect("it was not told to stop");
    assert!(!reason.is_clean());
    assert!(reason.to_string().contains("no disk"), "{reason}");
    let all = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
    assert_eq!(delays(&tree), all);
    nothing_runs(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn tree_7_a_shutdown_does_not_wait_for_a_root_that_is_to_be_started_again() {
    let tree = Tree::builder("t")
        .child(fails_until(u64::MAX))
        .start()
        .await
        .unwrap();
    tree.root().incarnation().unwrap().kill();
    let mut events = tree.debug().events();
    while delays(&tree).len() < 7 {
        events.next().await.unwrap().unwrap();
    }
    let began = Instant::now();
    tree.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(tree.ended().await.is_none());
    nothing_runs(tree.scope());
}
