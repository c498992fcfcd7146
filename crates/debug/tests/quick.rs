//! How long a snapshot of 100,000 live actors takes, and how long it holds up others.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may")]

use std::sync::Arc;
use std::time::Duration;

use perennial_debug::Debugger;
use perennial_lifecycle::{ChildSpec, Scope};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const GROUPS: u32 = 100;
const WORKERS: u32 = 999;
const ROUNDS: usize = 21;

struct Worker(Arc<Semaphore>);

impl Actor for Worker {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.add_permits(1);
        Ok(())
    }
}

/// Takes a snapshot again and again beside a task that is always ready, and returns the median of its times, and of the
/// longest times for which the other had no turn.
async fn measure(debugger: &Debugger, actors: u64) -> (Duration, Duration) {
    let (mut times, mut gaps) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let (mut turn, mut gap) = (start, Duration::ZERO);
        let mut reading = std::pin::pin!(debugger.snapshot());
        let snapshot = loop {
            tokio::select! {
                biased;
                snapshot = &mut reading => break snapshot.unwrap(),
                () = std::future::ready(()) => {
                    gap = gap.max(turn.elapsed());
                    turn = Instant::now();
                }
            }
        };
        times.push(start.elapsed());
        gaps.push(gap.max(turn.elapsed()));
        assert_eq!((snapshot.totals.actors, snapshot.totals.down), (actors, 0));
    }
    times.sort_unstable();
    gaps.sort_unstable();
    (times[ROUNDS / 2], gaps[ROUNDS / 2])
}

#[tokio::test]
#[ignore = "measures: run it in release, with --ignored --nocapture"]
async fn a_snapshot_of_a_hundred_thousand_actors_shows_all_of_them() {
    let scope = Scope::new("big");
    let debugger = Debugger::new(&scope);
    let handled = Arc::new(Semaphore::new(0));
    let mut root = Supervisor::builder();
    for group in 0..GROUPS {
        let mut supervisor = Supervisor::builder();
        for worker in 0..WORKERS {
            let handled = Arc::clone(&handled);
            let id = format!("worker_{worker}");
            let spec = ChildSpec::worker(id, move || (Worker(Arc::clone(&handled)), ()));
            supervisor = supervisor.child(spec);
        }
        root = root.child(
            supervisor
                .build()
                .unwrap()
                .into_child(format!("group_{group}")),
        );
    }
    root.build().unwrap().start_in(&scope).await.unwrap();
    let actors = u64::from(GROUPS * (WORKERS + 1) + 1);

    let (idle, gap) = measure(&debugger, actors).await;
    println!("no messages so far: {idle:?}, others wait {gap:?} at the longest");

    for group in scope.root().children() {
        for worker in group.children() {
            worker.current().unwrap().offer(()).unwrap();
        }
    }
    let all = handled.acquire_many(GROUPS * WORKERS).await.unwrap();
    drop(all);
    let (busy, gap) = measure(&debugger, actors).await;
    println!("a message each:     {busy:?}, others wait {gap:?} at the longest");

    let snapshot = debugger.snapshot().await.unwrap();
    let start = Instant::now();
    assert!(snapshot.troubled().is_empty());
    println!("troubled:           {:?}", start.elapsed());
}
