//! Starts, stops and restarts beside the queue: DYN-14 to DYN-18, and DYN-20.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_lifecycle::{ChildKind, EventKind, ExitReason, Scope, Shutdown, StartError, Started};
use perennial_supervisor::{
    ChildStatus, ChildTemplate, DynamicChild, DynamicSupervisor, StartChildError,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::support::{
    MILLISECOND, SECOND, generous, listed, nested, order, puppets, slow, start, successor,
};

#[tokio::test(start_paused = true)]
async fn dyn_15_a_stop_beside_the_queue_holds_up_nobody() {
    let template = puppets().shutdown(Shutdown::Within(SECOND));
    let supervisor = start(generous(template).concurrent_starts(true)).await;
    let stuck = supervisor.start_child_named("a", ()).await.unwrap();
    order(&stuck, Order::Hang);
    let began = Instant::now();
    let terminated = supervisor.terminate_child(&stuck);
    let others = async {
        supervisor.start_child(()).await.unwrap();
        assert_eq!(listed(&supervisor).await, 1);
        assert_eq!(began.elapsed(), Duration::ZERO);
        // The place is taken until the child has left it.
        let again = supervisor.start_child_named("a", ()).await.unwrap();
        assert_eq!(began.elapsed(), SECOND);
        assert_eq!(again.incarnation().number(), 2);
    };
    let (terminated, ()) = tokio::join!(terminated, others);
    terminated.unwrap();
    assert_eq!(listed(&supervisor).await, 2);
    assert!(supervisor.node().child("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn dyn_15_the_end_of_the_supervisor_waits_for_a_stop_beside_the_queue_and_leaves_no_place() {
    let template = puppets().shutdown(Shutdown::Within(SECOND));
    let supervisor = start(generous(template).concurrent_starts(true)).await;
    let stuck = supervisor.start_child(()).await.unwrap();
    order(&stuck, Order::Hang);
    let ending = async {
        settle().await;
        supervisor.stop(ExitReason::Shutdown).await;
        assert!(stuck.incarnation().has_ended());
    };
    let (terminated, ()) = tokio::join!(supervisor.terminate_child(&stuck), ending);
    terminated.unwrap();
    assert!(supervisor.node().children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dyn_16_a_child_that_ends_before_its_start_was_heard_of_is_noticed() {
    let early = Arc::new(AtomicBool::new(true));
    let template =
        ChildTemplate::from_fn("hasty", ChildKind::Worker, move |context, _: Arc<()>| {
            let early = early.swap(false, SeqCst);
            async move {
                let node = Arc::clone(context.node());
                let child = context.spawn(Puppet, ()).await?;
                if early && let Some(run) = node.current() {
                    run.kill();
                    run.ended().await;
                    sleep(MILLISECOND).await;
                }
                Ok(Started::from(child))
            }
        });
    let supervisor = start(generous(template).concurrent_starts(true)).await;
    let child = supervisor.start_child(()).await.unwrap();
    assert_eq!(successor(&child).await.number(), 2);
    assert_eq!(supervisor.count_children().await.unwrap().active, 1);
}

#[tokio::test(start_paused = true)]
async fn dyn_17_what_is_being_started_ends_with_the_supervisor() {
    for kill in [false, true] {
        let journal = Journal::new();
        let runs = journal.clone();
        let template =
            ChildTemplate::from_fn("half", ChildKind::Worker, move |context, _: Arc<()>| {
                let runs = runs.clone();
                async move {
                    let node = Arc::clone(context.node());
                    let child = context.spawn(Puppet, ()).await?;
                    runs.push(node.current());
                    // The actor is up; the start function has more to do.
                    std::future::pending::<()>().await;
                    Ok(Started::from(child))
                }
            });
        let (root, place) = nested(template, true).await;
        let supervisor = DynamicSupervisor::<()>::at(&place).unwrap();
        let starts = async {
            let started = tokio::join!(
                supervisor.start_child(()),
                supervisor.start_child_named("a", ())
            );
            assert!(matches!(started.0, Err(StartChildError::Down(_))));
            assert!(started.1.is_err());
        };
        let end = async {
            let runs = journal.wait_for(2).await;
            assert_eq!(listed(&supervisor).await, 0);
            match kill {
                true => place.current().unwrap().kill(),
                false => root.stop(ExitReason::Shutdown).await,
            }
            for run in runs.into_iter().flatten() {
                run.ended().await;
            }
        };
        tokio::join!(starts, end);
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_18_a_child_can_be_terminated_while_it_starts() {
    let supervisor = start(generous(slow()).concurrent_starts(true)).await;
    let started = supervisor.start_child_named("a", ());
    let terminated = async {
        sleep(MILLISECOND).await;
        supervisor.terminate_child_named("a").await
    };
    let (started, terminated) = tokio::join!(started, terminated);
    terminated.unwrap();
    assert!(matches!(started, Err(StartChildError::Failed(it)) if it.reason.is_clean()));
    sleep(SECOND).await;
    assert_eq!(listed(&supervisor).await, 0);
    assert!(supervisor.node().child("a").is_none());
}

/// Children whose start functions wait at a gate before they bring anybody up, and behind it.
fn gated(before: &Arc<Notify>, behind: &Arc<Notify>) -> ChildTemplate<()> {
    let (before, behind) = (Arc::clone(before), Arc::clone(behind));
    ChildTemplate::from_fn("gated", ChildKind::Worker, move |context, _: Arc<()>| {
        let (before, behind) = (Arc::clone(&before), Arc::clone(&behind));
        async move {
            before.notified().await;
            let child = context.spawn(Puppet, ()).await?;
            behind.notified().await;
            Ok(Started::from(child))
        }
    })
}

/// Lets all tasks come to where they wait, without time passing.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_19_a_bounce_that_meets_a_start_that_is_through_loses_nobody() {
    let (before, behind) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let template = gated(&before, &behind);
    let supervisor = start(generous(template).concurrent_starts(true)).await;
    let starting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.start_child_named("a", ()).await }
    });
    settle().await;
    before.notify_one();
    settle().await;
    behind.notify_one();
    // Asked before the start takes its last step, so that the word of it comes behind this.
    let common = supervisor.supervisor().clone();
    let mut bounce = Box::pin(async move { common.bounce_child("a").await });
    assert!((&mut bounce).now_or_never().is_none());
    assert!(matches!(
        starting.await.unwrap(),
        Err(StartChildError::Failed(it)) if it.reason.is_clean()
    ));
    settle().await;
    before.notify_one();
    settle().await;
    behind.notify_one();
    let bounced = bounce.await.unwrap();
    assert_eq!(bounced.incarnation, 2);
    let node = supervisor.node().child("a").unwrap();
    assert_eq!(node.current().unwrap().number(), 2);
    let list = supervisor.which_children().await.unwrap();
    assert_eq!(list[0].status, ChildStatus::Alive { incarnation: 2 });

    // It is still its supervisor's.
    let run = node.current().unwrap();
    run.kill();
    run.ended().await;
    settle().await;
    before.notify_one();
    settle().await;
    behind.notify_one();
    settle().await;
    assert_eq!(node.current().unwrap().number(), 3);
    supervisor.stop(ExitReason::Shutdown).await;
    assert!(!node.is_occupied());
}

#[tokio::test(start_paused = true)]
async fn dyn_18_an_actor_whose_start_is_given_up_is_stopped_as_any_other() {
    for end_of_all in [false, true] {
        let (before, behind) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        before.notify_one();
        let scope = Scope::new("t");
        let supervisor = generous(gated(&before, &behind))
            .concurrent_starts(true)
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        let starting = tokio::spawn({
            let supervisor = supervisor.clone();
            async move { supervisor.start_child_named("a", ()).await }
        });
        settle().await;
        let run = supervisor.node().child("a").unwrap().current().unwrap();
        if end_of_all {
            supervisor.stop(ExitReason::Shutdown).await;
        } else {
            supervisor.terminate_child_named("a").await.unwrap();
        }
        assert!(starting.await.unwrap().is_err());
        assert!(matches!(run.exit_reason(), Some(ExitReason::Shutdown)));
        let events = scope.events().recent();
        let is_error = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::Report { .. } | EventKind::ShutdownErrors { .. }
            )
        };
        assert!(
            !events.iter().any(|event| is_error(&event.kind)),
            "{events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_18_a_run_is_its_childs_also_while_the_start_that_brought_it_up_is_not_through() {
    let (before, behind) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    before.notify_one();
    behind.notify_one();
    let supervisor = start(generous(gated(&before, &behind)).concurrent_starts(true)).await;
    let child = supervisor.start_child(()).await.unwrap();
    order(&child, Order::Fail("broken"));
    before.notify_one();
    let second = DynamicChild::new(Arc::clone(child.node()), successor(&child).await);
    assert!(supervisor.child_spec(&second).await.unwrap().is_some());
    supervisor.terminate_child(&second).await.unwrap();
    let reason = second.incarnation().exit_reason();
    assert!(matches!(reason, Some(ExitReason::Shutdown)), "{reason:?}");
    assert_eq!(listed(&supervisor).await, 0);
}

/// Takes 20 s to stop.
struct SlowStop;

impl Actor for SlowStop {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        sleep(20 * SECOND).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_15_a_start_waits_for_a_stop_at_its_place_as_long_as_that_may_take() {
    let template = ChildTemplate::worker("w", |(): &()| (SlowStop, ()));
    for (shutdown, took) in [
        (Shutdown::Infinity, 20 * SECOND),
        (Shutdown::Within(30 * SECOND), 20 * SECOND),
        (Shutdown::Within(10 * SECOND), 10 * SECOND),
    ] {
        let template = template.clone().shutdown(shutdown);
        let supervisor = start(generous(template).concurrent_starts(true)).await;
        let first = supervisor.start_child_named("a", ()).await.unwrap();
        let began = Instant::now();
        let again = async {
            settle().await;
            assert!(!first.incarnation().has_ended());
            let again = supervisor.start_child_named("a", ()).await.unwrap();
            assert_eq!(again.incarnation().number(), 2);
            began.elapsed()
        };
        let terminated = supervisor.terminate_child_named("a");
        let (terminated, waited) = tokio::join!(terminated, again);
        terminated.unwrap();
        assert_eq!(waited, took);
        let reason = first.incarnation().exit_reason();
        match took == 20 * SECOND {
            true => assert!(matches!(reason, Some(ExitReason::Shutdown)), "{reason:?}"),
            false => assert!(matches!(reason, Some(ExitReason::Killed)), "{reason:?}"),
        }
    }
}

/// Takes 10 ms to come up, and ends at the first word.
struct LateRiser;

impl Actor for LateRiser {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        sleep(10 * MILLISECOND).await;
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Order>,
        _: Order,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Err("broken".into())
    }
}

/// A supervisor with 100 children that take 10 ms to come up, all of which have just crashed.
async fn crashed(concurrent: bool) -> (DynamicSupervisor<()>, Vec<DynamicChild>) {
    let template = ChildTemplate::worker("late", |(): &()| (LateRiser, ()));
    let supervisor = start(generous(template).concurrent_starts(concurrent)).await;
    let mut children = Vec::new();
    for _ in 0..100 {
        children.push(supervisor.start_child(()).await.unwrap());
    }
    for child in &children {
        order(child, Order::Fail("broken"));
    }
    for child in &children {
        child.incarnation().ended().await;
    }
    (supervisor, children)
}

/// Returns how long it takes from now until all of them are back.
async fn all_back(children: &[DynamicChild]) -> Duration {
    let began = Instant::now();
    for child in children {
        assert_eq!(successor(child).await.number(), 2);
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn dyn_20_a_hundred_children_that_crash_at_once_are_back_together_while_calls_are_answered() {
    let (supervisor, mut children) = crashed(true).await;
    let victim = children.pop().unwrap();
    let began = Instant::now();
    let calls = async {
        // None of these waits for anybody's start.
        let list = supervisor.which_children().await.unwrap();
        let restarting = |it: &_| matches!(it, ChildStatus::Restarting);
        assert_eq!(list.len(), 100);
        assert!(list.iter().all(|child| restarting(&child.status)));
        assert_eq!(supervisor.count_children().await.unwrap().active, 0);
        supervisor.terminate_child(&victim).await.unwrap();
        assert_eq!(listed(&supervisor).await, 99);
        assert_eq!(began.elapsed(), Duration::ZERO);
        // This one waits for its own.
        sleep(5 * MILLISECOND).await;
        let more = supervisor.start_child(()).await.unwrap();
        assert_eq!(began.elapsed(), 15 * MILLISECOND);
        more
    };
    let (more, took) = tokio::join!(calls, all_back(&children));
    assert!(took <= 30 * MILLISECOND, "{took:?}");
    assert!(victim.node().current().is_none());
    assert_eq!(supervisor.count_children().await.unwrap().active, 100);

    // Nor does the stop wait.
    order(&more, Order::Fail("broken"));
    more.incarnation().ended().await;
    let began = Instant::now();
    supervisor.stop(ExitReason::Shutdown).await;
    assert_eq!(began.elapsed(), Duration::ZERO);

    // One after the other, with the calls behind them.
    let (supervisor, children) = crashed(false).await;
    let began = Instant::now();
    let calls = async {
        listed(&supervisor).await;
        began.elapsed()
    };
    let (answered, took) = tokio::join!(calls, all_back(&children));
    assert!(took >= SECOND, "{took:?}");
    assert!(answered >= SECOND, "{answered:?}");
}

#[tokio::test(start_paused = true)]
async fn dyn_19_a_child_is_listed_while_it_is_bounced() {
    let template =
        ChildTemplate::worker("w", |(): &()| (SlowStop, ())).shutdown(Shutdown::Infinity);
    let supervisor = start(generous(template).concurrent_starts(true)).await;
    supervisor.start_child_named("a", ()).await.unwrap();
    let common = supervisor.supervisor();
    let listed = async {
        settle().await;
        let list = supervisor.which_children().await.unwrap();
        let count = supervisor.count_children().await.unwrap();
        (list[0].status, count.workers, count.active)
    };
    let (bounced, listed) = tokio::join!(common.bounce_child("a"), listed);
    assert_eq!(listed, (ChildStatus::Restarting, 1, 0));
    assert_eq!(bounced.unwrap().incarnation, 2);
    assert_eq!(common.count_children().await.unwrap().active, 1);
}

#[tokio::test(start_paused = true)]
async fn dyn_19_a_retry_behind_a_bounce_starts_nobody_beside_it() {
    let supervisor = Arc::new(OnceLock::<DynamicSupervisor<()>>::new());
    let bounced = Journal::new();
    let (known, results) = (Arc::clone(&supervisor), bounced.clone());
    let template = ChildTemplate::from_fn("w", ChildKind::Worker, move |context, _: Arc<()>| {
        let (known, results) = (Arc::clone(&known), results.clone());
        async move {
            if context.incarnation() == 2 {
                // Heard of before the failure is, and so before the retry that follows from that.
                tokio::spawn(async move {
                    let common = known.get().unwrap().supervisor();
                    results.push(common.bounce_child("a").await);
                });
                return Err(StartError::new(ExitReason::failed("no paper")));
            }
            Ok(Started::from(context.spawn(Puppet, ()).await?))
        }
    });
    let started = start(generous(template).concurrent_starts(true)).await;
    let started = supervisor.get_or_init(|| started);
    let child = started.start_child_named("a", ()).await.unwrap();
    order(&child, Order::Fail("broken"));
    let results = bounced.wait_for(1).await;
    assert_eq!(results[0].as_ref().unwrap().incarnation, 3);
    listed(started).await;
    assert_eq!(child.node().incarnations(), 3);
}

#[tokio::test(start_paused = true)]
async fn dyn_25_whoever_terminates_a_child_that_is_being_stopped_waits_for_the_same_end() {
    for concurrent in [false, true] {
        let template =
            ChildTemplate::worker("w", |(): &()| (SlowStop, ())).shutdown(Shutdown::Infinity);
        let supervisor = start(generous(template).concurrent_starts(concurrent)).await;
        let child = supervisor.start_child(()).await.unwrap();
        let terminate = async || {
            let answer = supervisor.terminate_child(&child).await;
            (answer.is_ok(), child.node().current().is_none())
        };
        let (first, second, third) = tokio::join!(terminate(), terminate(), terminate());
        assert_eq!([first, second, third], [(true, true); 3], "{concurrent}");
        assert_eq!(terminate().await, (true, true));
        // Who waits when the supervisor is stopped hears of the same end as well.
        let child = supervisor.start_child(()).await.unwrap();
        let terminate = async || supervisor.terminate_child(&child).await.is_ok();
        let stop = supervisor.stop(ExitReason::Shutdown);
        let (first, second, ()) = tokio::join!(terminate(), terminate(), stop);
        assert_eq!((first, second), (true, true), "{concurrent}");
    }
}
