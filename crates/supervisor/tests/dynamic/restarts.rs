//! What follows the end of a child, or of the supervisor: DYN-7 to DYN-11.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use perennial_lifecycle::{ChildKind, ExitReason, StartError, Started};
use perennial_supervisor::{
    AutoShutdown, ChildStatus, ChildTemplate, DynamicChild, DynamicSupervisor, RestartIntensity,
    StartChildError,
};
use perennial_testkit::{Order, Puppet};
use tokio::time::{Instant, sleep};

use crate::support::{
    MILLISECOND, SECOND, crash, generous, listed, nested, order, puppets, start, successor,
};

#[tokio::test(start_paused = true)]
async fn dyn_7_children_share_the_intensity() {
    let supervisor =
        start(DynamicSupervisor::builder(puppets()).intensity(RestartIntensity::new(2, SECOND)))
            .await;
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(supervisor.start_child(()).await.unwrap());
    }
    let whole = supervisor.supervisor().incarnation().unwrap();
    for child in &children {
        crash(child).await;
    }
    assert!(matches!(whole.ended().await, ExitReason::Shutdown));
    let down = supervisor.start_child(()).await.unwrap_err();
    assert!(matches!(down, StartChildError::Down(_)));
}

#[tokio::test(start_paused = true)]
async fn dyn_8_the_end_of_the_last_significant_child_ends_the_supervisor() {
    let supervisor = start(
        generous(puppets().transient().significant(true))
            .auto_shutdown(AutoShutdown::AllSignificant),
    )
    .await;
    let first = supervisor.start_child(()).await.unwrap();
    let second = supervisor.start_child(()).await.unwrap();
    let third = supervisor.start_child(()).await.unwrap();
    order(&first, Order::Stop);
    first.incarnation().ended().await;
    crash(&second).await;
    let second = DynamicChild::new(Arc::clone(second.node()), successor(&second).await);
    assert_eq!(listed(&supervisor).await, 2);
    let whole = supervisor.supervisor().incarnation().unwrap();
    order(&second, Order::Stop);
    second.incarnation().ended().await;
    // Terminating is not an end by itself: with one child left, and with none.
    assert_eq!(listed(&supervisor).await, 1);
    supervisor.terminate_child(&third).await.unwrap();
    assert_eq!(listed(&supervisor).await, 0);
    let last = supervisor.start_child(()).await.unwrap();
    order(&last, Order::Stop);
    assert!(matches!(whole.ended().await, ExitReason::Shutdown));
}

/// Makes children that start, fail to start, or decline to, as the switch says.
fn switched(fails: &Arc<AtomicU32>) -> ChildTemplate<()> {
    let fails = Arc::clone(fails);
    ChildTemplate::from_fn("odd", ChildKind::Worker, move |context, _: Arc<()>| {
        let fails = fails.load(SeqCst);
        async move {
            match fails {
                0 => Ok(Started::from(context.spawn(Puppet, ()).await?)),
                1 => Ok(Started::Ignored),
                _ => {
                    sleep(MILLISECOND).await;
                    Err(StartError::new(ExitReason::failed("no paper")))
                }
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn dyn_9_a_child_whose_restart_declines_is_forgotten() {
    for concurrent in [false, true] {
        let switch = Arc::new(AtomicU32::new(0));
        let supervisor = start(generous(switched(&switch)).concurrent_starts(concurrent)).await;
        let child = supervisor.start_child(()).await.unwrap();
        switch.store(1, SeqCst);
        crash(&child).await;
        sleep(MILLISECOND).await;
        assert_eq!(listed(&supervisor).await, 0);
        assert!(supervisor.node().children().is_empty());
        supervisor.stop(ExitReason::Shutdown).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_10_a_restart_that_keeps_failing_is_tried_again_until_it_is_terminated() {
    for concurrent in [false, true] {
        let switch = Arc::new(AtomicU32::new(0));
        let supervisor = start(generous(switched(&switch)).concurrent_starts(concurrent)).await;
        let child = supervisor.start_child(()).await.unwrap();
        switch.store(2, SeqCst);
        crash(&child).await;
        sleep(10 * MILLISECOND).await;
        let list = supervisor.which_children().await.unwrap();
        assert_eq!(list[0].status, ChildStatus::Restarting);
        assert_eq!(supervisor.count_children().await.unwrap().active, 0);
        supervisor.terminate_child(&child).await.unwrap();
        let attempts = child.node().incarnations();
        assert!(attempts > 5, "{attempts}");
        switch.store(0, SeqCst);
        sleep(SECOND).await;
        assert_eq!(child.node().incarnations(), attempts);
        assert_eq!(listed(&supervisor).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_11_a_killed_supervisor_comes_back_empty_and_its_children_end_by_themselves() {
    let (root, place) = nested(puppets(), false).await;
    let supervisor = DynamicSupervisor::<()>::at(&place).unwrap();
    let busy = supervisor.start_child_named("a", ()).await.unwrap();
    let other = supervisor.start_child(()).await.unwrap();
    let (reply, done) = tokio::sync::oneshot::channel();
    order(&busy, Order::Work(SECOND, reply.into()));
    sleep(MILLISECOND).await;
    let killed = place.current().unwrap();
    killed.kill();
    killed.ended().await;
    root.count_children().await.unwrap();
    assert_eq!(place.running().await.number(), 2);
    assert_eq!(listed(&supervisor).await, 0);
    assert!(matches!(
        other.incarnation().ended().await,
        ExitReason::Killed
    ));
    assert_ne!(supervisor.start_child(()).await.unwrap().id(), other.id());

    // A new run at the same place waits for the one that is still there.
    let began = Instant::now();
    let again = supervisor.start_child_named("a", ()).await.unwrap();
    assert!(began.elapsed() > SECOND / 2);
    assert!(busy.incarnation().exit_reason().is_some());
    assert_eq!(again.incarnation().number(), 2);
    done.await.unwrap();
}
