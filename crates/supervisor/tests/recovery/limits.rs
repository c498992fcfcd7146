//! How much is too much, and what follows: SUP-18 to SUP-21.

use std::sync::atomic::Ordering::SeqCst;

use perennial_lifecycle::{Backoff, ChildSpec, ChildState, ExitReason, Quarantine};
use perennial_supervisor::{ChildStatus, RestartIntensity, Strategy, Supervisor};
use perennial_testkit::Order;
use tokio::time::{Instant, sleep};

use crate::support::{
    MS, SECOND, back_after, crash, generous, moody, node, order, puppet, runs, settled, start,
    status,
};

#[tokio::test(start_paused = true)]
async fn sup_18_a_child_that_exceeds_its_own_budget_ends_the_supervisor() {
    let supervisor = start(
        generous()
            .child(puppet("a").budget(RestartIntensity::new(2, 10 * SECOND)))
            .child(puppet("b")),
    )
    .await;
    for _ in 0..20 {
        crash(&supervisor, "b").await;
    }
    crash(&supervisor, "a").await;
    crash(&supervisor, "a").await;
    sleep(11 * SECOND).await;
    crash(&supervisor, "a").await;
    crash(&supervisor, "a").await;
    order(&node(&supervisor, "a"), Order::Fail("once too often"));
    assert!(matches!(supervisor.ended().await, ExitReason::Shutdown));
}

fn quarantined(id: &str) -> ChildSpec {
    let times = Backoff::exponential(30 * SECOND).cap(100 * SECOND);
    puppet(id)
        .budget(RestartIntensity::new(1, 5 * SECOND))
        .quarantine(Quarantine::new(times).trial(10 * SECOND))
}

#[tokio::test(start_paused = true)]
async fn sup_19_a_child_that_ends_too_often_is_parked_and_brought_back_by_probes() {
    let supervisor = start(generous().child(quarantined("w")).child(puppet("x"))).await;
    let child = node(&supervisor, "w");
    crash(&supervisor, "w").await;
    crash(&supervisor, "w").await;
    let due = Instant::now() + 30 * SECOND;
    assert_eq!(
        (child.state(), child.due()),
        (ChildState::Quarantined, Some(due))
    );
    assert_eq!(
        status(&supervisor, "w").await,
        ChildStatus::Quarantined { due }
    );
    // The sibling is served meanwhile.
    crash(&supervisor, "x").await;
    assert_eq!(node(&supervisor, "x").restarts(), 1);

    // Each probe that fails within its trial parks it for longer.
    assert_eq!(back_after(&child).await, 30 * SECOND);
    sleep(9 * SECOND).await;
    crash(&supervisor, "w").await;
    assert_eq!(back_after(&child).await, 60 * SECOND);
    crash(&supervisor, "w").await;
    assert_eq!(back_after(&child).await, 100 * SECOND);

    // One that lasts frees it, with an unspent budget, and the times begin anew.
    sleep(10 * SECOND).await;
    crash(&supervisor, "w").await;
    assert_eq!(child.state(), ChildState::Running);
    crash(&supervisor, "w").await;
    assert_eq!(back_after(&child).await, 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn sup_19_a_quarantine_spares_the_supervisor_whose_intensity_is_spent() {
    let child = puppet("w").quarantine(Quarantine::new(Backoff::constant(SECOND)));
    let supervisor = start(Supervisor::builder().child(child).child(puppet("x"))).await;
    crash(&supervisor, "w").await;
    crash(&supervisor, "w").await;
    assert_eq!(node(&supervisor, "w").state(), ChildState::Quarantined);
    supervisor.resume_child("w").await.unwrap();
    assert_eq!(node(&supervisor, "w").state(), ChildState::Running);
    // A sibling without one still ends it.
    order(&node(&supervisor, "x"), Order::Fail("broken"));
    assert!(matches!(supervisor.ended().await, ExitReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn sup_19_a_probe_that_fails_to_start_parks_the_child_again() {
    let (moody, broken) = moody("w");
    let moody = moody
        .budget(RestartIntensity::new(0, SECOND))
        .quarantine(Quarantine::new(Backoff::linear(SECOND)));
    let supervisor = start(Supervisor::builder().child(moody)).await;
    let child = node(&supervisor, "w");
    crash(&supervisor, "w").await;
    broken.store(true, SeqCst);
    let failed = supervisor.resume_child("w").await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "child `w` failed to start: failed: no database"
    );
    settled(&supervisor).await;
    assert_eq!(child.state(), ChildState::Quarantined);
    assert_eq!(child.due(), Some(Instant::now() + 2 * SECOND));
    broken.store(false, SeqCst);
    assert_eq!(back_after(&child).await, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn sup_19_a_probe_starts_its_own_child_and_disturbs_no_sibling() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let (moody, broken) = moody("w");
        let moody = moody
            .budget(RestartIntensity::new(0, SECOND))
            .quarantine(Quarantine::new(Backoff::constant(30 * SECOND)).trial(10 * SECOND));
        let supervisor = generous().strategy(strategy).child(puppet("x"));
        let supervisor = start(supervisor.child(moody).child(puppet("y"))).await;
        let runs = || runs(&supervisor, ["x", "w", "y"]);
        crash(&supervisor, "w").await;
        let parked = node(&supervisor, "w");
        for _ in 0..3 {
            // One that fails to start, ...
            broken.store(true, SeqCst);
            sleep(30 * SECOND + MS).await;
            settled(&supervisor).await;
            assert_eq!(parked.state(), ChildState::Quarantined, "{strategy:?}");
            assert_eq!(runs(), [Some(1), None, Some(1)], "{strategy:?}");
            // ... one that an operator begins and that fails, ...
            supervisor.resume_child("w").await.unwrap_err();
            settled(&supervisor).await;
            assert_eq!(runs(), [Some(1), None, Some(1)], "{strategy:?}");
            // ... and one that ends within its trial.
            broken.store(false, SeqCst);
            parked.running().await;
            crash(&supervisor, "w").await;
            assert_eq!(parked.state(), ChildState::Quarantined, "{strategy:?}");
        }
        supervisor.terminate_child("y").await.unwrap();
        parked.running().await;
        assert_eq!(runs(), [Some(1), Some(11), None], "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sup_20_a_group_restart_goes_on_once_the_child_that_failed_is_parked() {
    for (strategy, x) in [(Strategy::OneForAll, 1), (Strategy::RestForOne, 0)] {
        let (moody, broken) = moody("w");
        let moody = moody
            .budget(RestartIntensity::new(2, 60 * SECOND))
            .quarantine(Quarantine::new(Backoff::constant(30 * SECOND)));
        let supervisor = generous().strategy(strategy).child(puppet("x"));
        let supervisor = start(supervisor.child(moody).child(puppet("y"))).await;
        let runs = || runs(&supervisor, ["x", "w", "y"]);
        broken.store(true, SeqCst);
        crash(&supervisor, "w").await;
        settled(&supervisor).await;
        // Two attempts within its budget, at which those behind it wait as in OTP; then they do no longer.
        let parked = node(&supervisor, "w");
        assert_eq!(parked.state(), ChildState::Quarantined, "{strategy:?}");
        assert_eq!(parked.incarnations(), 3, "{strategy:?}");
        assert_eq!(runs(), [Some(1 + 2 * x), None, Some(2)], "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sup_20_a_group_restart_leaves_a_child_in_quarantine_alone() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let builder = generous().strategy(strategy);
        let builder = builder.child(puppet("x")).child(quarantined("w"));
        let supervisor = start(builder.child(puppet("y"))).await;
        crash(&supervisor, "w").await;
        crash(&supervisor, "w").await;
        let parked = node(&supervisor, "w");
        assert_eq!(parked.state(), ChildState::Quarantined, "{strategy:?}");
        let before = node(&supervisor, "y").current().unwrap().number();
        crash(&supervisor, "x").await;
        assert_eq!(
            node(&supervisor, "y").current().unwrap().number(),
            before + 1
        );
        assert_eq!(parked.state(), ChildState::Quarantined, "{strategy:?}");
        assert_eq!(back_after(&parked).await, 30 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn sup_21_an_escalation_keeps_the_cause_all_the_way_up() {
    let inner = Supervisor::builder()
        .intensity(RestartIntensity::new(0, SECOND))
        .child(puppet("w"))
        .build()
        .unwrap();
    let middle = Supervisor::builder()
        .intensity(RestartIntensity::new(0, SECOND))
        .child(inner.into_child("inner"))
        .build()
        .unwrap();
    let supervisor = start(generous().child(middle.into_child("middle"))).await;
    let middle = node(&supervisor, "middle");
    let worker = middle.child("inner").unwrap().child("w").unwrap();
    let run = middle.current().unwrap();
    order(&worker, Order::Fail("no paper"));
    run.ended().await;
    settled(&supervisor).await;
    let history = middle.history();
    assert_eq!(history.len(), 1);
    assert_eq!(
        history[0].chain(),
        [
            "shutdown",
            "t/middle/inner #1: shutdown",
            "t/middle/inner/w #1: failed: no paper"
        ]
    );
    let cause = history[0].because.as_ref().unwrap();
    let cause = cause.ended.because.as_ref().unwrap();
    assert!(matches!(cause.ended.reason, ExitReason::Failed(_)));
    // An end that nobody else caused has no such chain.
    let run = middle.current().unwrap();
    run.stop(ExitReason::Shutdown);
    run.ended().await;
    assert_eq!(middle.last_end().unwrap().chain(), ["shutdown"]);
}
