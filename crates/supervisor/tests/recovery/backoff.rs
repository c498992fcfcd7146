//! Restarts that are put off: SUP-16 and SUP-17.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use perennial_lifecycle::{Backoff, ChildState, ExitReason, Quarantine, Scope};
use perennial_supervisor::{
    ChildStatus, DeleteChildError, RestartChildError, RestartIntensity, ResumeChildError, Strategy,
    Supervisor,
};
use perennial_testkit::Order;
use tokio::time::{Instant, sleep};

use crate::support::{
    MS, SECOND, back_after, crash, generous, moody, node, order, puppet, runs, settled, start,
    status,
};

#[tokio::test(start_paused = true)]
async fn sup_16_a_backoff_grows_with_each_end_and_begins_anew_after_a_stable_time() {
    let backoff = Backoff::exponential(100 * MS)
        .cap(300 * MS)
        .reset_after(10 * SECOND);
    let scope = Scope::new("t");
    let supervisor = generous().child(puppet("w").backoff(backoff));
    let supervisor = supervisor.build().unwrap().start_in(&scope).await.unwrap();
    let child = node(&supervisor, "w");
    for (attempt, delay) in [(1, 100), (2, 200), (3, 300), (4, 300)] {
        crash(&supervisor, "w").await;
        assert_eq!(child.state(), ChildState::Restarting);
        assert_eq!(child.due(), Some(Instant::now() + delay * MS));
        assert_eq!(
            status(&supervisor, "w").await,
            ChildStatus::Delayed {
                due: Instant::now() + delay * MS
            }
        );
        let last = scope.events().recent().pop().unwrap();
        assert_eq!(
            last.kind.to_string(),
            format!("restart in {:?} (attempt {attempt})", delay * MS)
        );
        assert_eq!(back_after(&child).await, delay * MS);
        assert_eq!(child.due(), None);
    }
    assert_eq!(child.restarts(), 4);
    sleep(10 * SECOND).await;
    crash(&supervisor, "w").await;
    assert_eq!(back_after(&child).await, 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn sup_16_a_failed_restart_is_put_off_as_well_and_the_siblings_are_served() {
    let (moody, broken) = moody("moody");
    let supervisor = start(
        generous()
            .child(moody.backoff(Backoff::linear(SECOND)))
            .child(puppet("w")),
    )
    .await;
    broken.store(true, SeqCst);
    crash(&supervisor, "moody").await;
    let began = Instant::now();
    // One second, then two, then three.
    sleep(SECOND + 500 * MS).await;
    crash(&supervisor, "w").await;
    assert_eq!(node(&supervisor, "w").restarts(), 1);
    assert_eq!(node(&supervisor, "moody").incarnations(), 2);
    broken.store(false, SeqCst);
    node(&supervisor, "moody").running().await;
    assert_eq!(began.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn sup_16_a_group_does_not_wait_for_a_failed_restart_that_is_put_off() {
    for (strategy, x) in [(Strategy::OneForAll, 1), (Strategy::RestForOne, 0)] {
        let (moody, broken) = moody("w");
        let (other, other_broken) = self::moody("v");
        let supervisor = generous()
            .strategy(strategy)
            .child(puppet("x"))
            .child(moody.backoff(Backoff::constant(600 * SECOND)))
            .child(other.backoff(Backoff::constant(900 * SECOND)))
            .child(puppet("y"));
        let supervisor = start(supervisor).await;
        let runs = || runs(&supervisor, ["x", "w", "v", "y"]);
        crash(&supervisor, "w").await;
        assert_eq!(runs(), [Some(1), None, Some(1), Some(1)], "{strategy:?}");

        // Each attempt is a restart of the group; who does not come up keeps none of the others down.
        broken.store(true, SeqCst);
        other_broken.store(true, SeqCst);
        sleep(600 * SECOND + MS).await;
        settled(&supervisor).await;
        assert_eq!(runs(), [Some(1 + x), None, None, Some(2)], "{strategy:?}");
        let due = |id| node(&supervisor, id).due();
        let began = Instant::now() - MS;
        assert_eq!(due("w"), Some(began + 600 * SECOND));
        assert_eq!(due("v"), Some(began + 900 * SECOND));

        // Whom an operator takes down meanwhile stays down until the group is restarted.
        supervisor.terminate_child("y").await.unwrap();
        sleep(500 * SECOND).await;
        settled(&supervisor).await;
        assert_eq!(runs(), [Some(1 + x), None, None, None], "{strategy:?}");
        broken.store(false, SeqCst);
        other_broken.store(false, SeqCst);
        sleep(100 * SECOND).await;
        settled(&supervisor).await;
        let all = [Some(1 + 2 * x), Some(3), Some(3), Some(3)];
        assert_eq!(runs(), all, "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sup_16_a_delay_may_have_no_end() {
    let backoffs = [
        Backoff::constant(Duration::MAX),
        Backoff::exponential(Duration::MAX).jitter(1.0),
        Backoff::exponential(SECOND).factor(1e30),
        Backoff::exponential(SECOND).factor(1e30).cap(Duration::MAX),
    ];
    for backoff in backoffs {
        let parked = puppet("w").quarantine(Quarantine::new(backoff));
        let parked = parked.budget(RestartIntensity::new(0, SECOND));
        for child in [puppet("w").backoff(backoff), parked] {
            let supervisor = start(generous().child(child)).await;
            let child = node(&supervisor, "w");
            // The exponential ones begin with one second.
            for number in 1..=3 {
                crash(&supervisor, "w").await;
                assert!(child.due().is_some(), "{backoff:?}");
                supervisor.resume_child("w").await.unwrap();
                assert_eq!(child.current().unwrap().number(), number + 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sup_16_every_restart_counts_also_one_that_is_put_off() {
    let supervisor = start(
        Supervisor::builder()
            .intensity(RestartIntensity::new(1, 5 * SECOND))
            .child(puppet("w").backoff(Backoff::constant(SECOND))),
    )
    .await;
    crash(&supervisor, "w").await;
    node(&supervisor, "w").running().await;
    order(&node(&supervisor, "w"), Order::Fail("again"));
    assert!(matches!(supervisor.ended().await, ExitReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn sup_17_an_operator_can_skip_a_delay() {
    let child = puppet("w").backoff(Backoff::constant(3600 * SECOND));
    let supervisor = start(generous().child(child)).await;
    assert!(matches!(
        supervisor.resume_child("w").await,
        Err(ResumeChildError::NotWaiting { .. })
    ));
    assert!(matches!(
        supervisor.resume_child("x").await,
        Err(ResumeChildError::NotFound { .. })
    ));
    crash(&supervisor, "w").await;
    let began = Instant::now();
    supervisor.resume_child("w").await.unwrap();
    let run = node(&supervisor, "w").current().unwrap();
    assert_eq!((run.number(), began.elapsed()), (2, Duration::ZERO));
    assert_eq!(node(&supervisor, "w").due(), None);
    // The delay that was skipped does not come back.
    sleep(7200 * SECOND).await;
    settled(&supervisor).await;
    assert_eq!(node(&supervisor, "w").current().unwrap().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn sup_17_a_restart_that_was_put_off_never_revives_what_was_terminated() {
    let child = puppet("w").backoff(Backoff::constant(SECOND));
    let supervisor = start(generous().child(child)).await;
    crash(&supervisor, "w").await;
    assert!(matches!(
        supervisor.restart_child("w").await,
        Err(RestartChildError::Restarting { .. })
    ));
    assert!(matches!(
        supervisor.delete_child("w").await,
        Err(DeleteChildError::Restarting { .. })
    ));
    supervisor.terminate_child("w").await.unwrap();
    let child = node(&supervisor, "w");
    assert_eq!((child.state(), child.due()), (ChildState::Stopped, None));
    sleep(10 * SECOND).await;
    settled(&supervisor).await;
    assert!(child.current().is_none());
    assert_eq!(child.incarnations(), 1);
}

#[tokio::test(start_paused = true)]
async fn sup_17_a_restart_that_was_put_off_never_hits_a_successor() {
    // Started by hand, by a bounce, and with its group: each time the first delay is still on its way.
    let child = || puppet("w").backoff(Backoff::constant(SECOND));
    let by_hand = start(generous().child(child())).await;
    let by_bounce = start(generous().child(child())).await;
    let by_group = generous().strategy(Strategy::OneForAll);
    let by_group = start(by_group.child(child()).child(puppet("x"))).await;
    for supervisor in [&by_hand, &by_bounce, &by_group] {
        crash(supervisor, "w").await;
    }
    sleep(500 * MS).await;
    by_hand.terminate_child("w").await.unwrap();
    by_hand.restart_child("w").await.unwrap();
    by_bounce.bounce_child("w").await.unwrap();
    // The first waits anew, and is not to be woken by the delay before.
    crash(&by_hand, "w").await;
    crash(&by_group, "x").await;
    let hand = node(&by_hand, "w");
    let waited = Instant::now();
    hand.running().await;
    assert_eq!(waited.elapsed(), SECOND);
    for supervisor in [&by_bounce, &by_group] {
        let run = node(supervisor, "w").current().unwrap();
        assert_eq!(run.number(), 2);
        assert!(!run.is_ending());
    }
}
