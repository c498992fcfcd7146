//! A root that was lost is brought back, or the tree says that it can't be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perennial::{ChildKind, ChildSpec, Event, EventKind, ExitReason, StartError, Tree};
use perennial_testkit::{Journal, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::support::{nothing_runs, patient, puppet, random, shut_down, within};

/// A child whose starts fail from the second to that of this number.
fn fails_until(number: u64) -> ChildSpec {
    let starts = Arc::new(AtomicU64::new(0));
    ChildSpec::from_fn("frail", ChildKind::Worker, move |context| {
        let start = starts.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if (2..=number).contains(&start) {
                return Err(StartError::new(ExitReason::failed("no disk")));
            }
            Ok(context.spawn(Puppet, ()).await?.into())
        }
    })
}

/// A tree whose root is killed, and does not start again before its child does.
async fn lost(until: u64) -> Tree {
    let tree = Tree::builder("t").child(fails_until(until)).start().await;
    let tree = tree.unwrap();
    tree.root().incarnation().unwrap().kill();
    tree
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
    let began = Instant::now();
    let tree = lost(4).await;
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
    let tree = lost(u64::MAX).await;
    let reason = tree.ended().await.expect("it was not told to stop");
    assert!(!reason.is_clean());
    assert!(reason.to_string().contains("no disk"), "{reason}");
    let all = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
    assert_eq!(delays(&tree), all);
    nothing_runs(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn tree_7_a_shutdown_does_not_wait_for_a_root_that_is_to_be_started_again() {
    let tree = lost(u64::MAX).await;
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

async fn shutdowns_meet_restarts_of_the_root(seed: u64) {
    let mut random = random(seed);
    for round in 0..30 {
        let tree = Tree::builder("t")
            .settings(patient())
            .child(puppet("a"))
            .start()
            .await
            .unwrap();
        let run = tree.root().incarnation().unwrap();
        run.kill();
        if random.bool() {
            within("the end of the root", run.ended()).await;
        }
        for _ in 0..random.u32(0..200) {
            tokio::task::yield_now().await;
        }
        let report = shut_down(&tree).await;
        // What was in hand when the root was lost is cut off, and said so; nobody was killed.
        assert!(report.killed.is_empty(), "round {round}: {report:?}");
        nothing_runs(tree.scope());
        // And nothing comes back.
        let before = tree.scope().root().incarnations();
        drop(tree.ended().await);
        tokio::task::yield_now().await;
        assert_eq!(tree.scope().root().incarnations(), before);
        nothing_runs(tree.scope());
    }
}

#[tokio::test]
async fn tree_4_a_shutdown_on_one_thread_leaves_nothing_while_the_root_is_being_restarted() {
    shutdowns_meet_restarts_of_the_root(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tree_4_a_shutdown_on_many_threads_leaves_nothing_while_the_root_is_being_restarted() {
    shutdowns_meet_restarts_of_the_root(2).await;
}

/// Starts once, and never again.
struct StartsOnce(Journal<u64>);

impl Actor for StartsOnce {
    type Msg = ();
    type State = ();
    type Arguments = u64;

    async fn pre_start(&self, _: ActorRef<()>, number: u64) -> Result<(), ActorProcessingErr> {
        self.0.push(number);
        if number > 1 {
            std::future::pending().await
        }
        Ok(())
    }
}

#[tokio::test]
async fn tree_4_a_shutdown_does_not_wait_for_a_start_that_never_ends() {
    let starts = Journal::new();
    let spec = {
        let starts = starts.clone();
        ChildSpec::from_fn("once", ChildKind::Worker, move |context| {
            let starts = starts.clone();
            async move {
                let number = context.incarnation();
                Ok(context.spawn(StartsOnce(starts), number).await?.into())
            }
        })
    };
    let mut settings = patient();
    settings.supervision.shutdown_deadline = Duration::from_millis(200);
    let tree = Tree::builder("t")
        .settings(settings)
        .child(spec)
        .start()
        .await
        .unwrap();
    tree.root().kill();
    within("the second start", starts.wait_for(2)).await;
    shut_down(&tree).await;
    nothing_runs(tree.scope());
}
