//! What dynamic supervisors promise, one by one; the recordings of OTP's own supervisor check the rest.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_lifecycle::{
    Backoff, ChildKind, EventKind, ExitReason, Incarnation, Mailbox, Node, Restart, Scope,
    Shutdown, StartError, Started,
};
use perennial_supervisor::{
    AutoShutdown, ChildStatus, ChildTemplate, DeleteChildError, DynamicChild, DynamicSupervisor,
    DynamicSupervisorBuilder, RestartChildError, RestartIntensity, StartChildError, Supervisor,
    SupervisorSpecError, TerminateChildError,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn puppets() -> ChildTemplate<()> {
    ChildTemplate::worker("puppet", |(): &()| (Puppet, ()))
}

/// Children that take 10 ms to start.
fn slow() -> ChildTemplate<()> {
    ChildTemplate::from_fn("slow", ChildKind::Worker, |context, _: Arc<()>| async {
        sleep(10 * MILLISECOND).await;
        Ok(Started::from(context.spawn(Puppet, ()).await?))
    })
}

fn generous<Args: Send + Sync + 'static>(
    template: ChildTemplate<Args>,
) -> DynamicSupervisorBuilder<Args> {
    DynamicSupervisor::builder(template).intensity(RestartIntensity::new(1000, SECOND))
}

async fn start<Args: Send + Sync + 'static>(
    builder: DynamicSupervisorBuilder<Args>,
) -> DynamicSupervisor<Args> {
    builder.build().unwrap().start("t").await.unwrap()
}

fn order(child: &DynamicChild, order: Order) {
    let actor = child.incarnation().actor_ref().unwrap();
    assert!(actor.send_message(order).is_ok());
}

async fn crash(child: &DynamicChild) {
    order(child, Order::Fail("broken"));
    child.incarnation().ended().await;
}

/// Returns how many children are listed, behind everything that the supervisor was told before.
async fn listed<Args: Send + Sync + 'static>(supervisor: &DynamicSupervisor<Args>) -> usize {
    supervisor.which_children().await.unwrap().len()
}

/// Waits for the run that follows `child`.
async fn successor(child: &DynamicChild) -> Arc<Incarnation> {
    child.incarnation().ended().await;
    child.node().running().await
}

#[tokio::test(start_paused = true)]
async fn dyn_1_nothing_runs_at_first_and_a_restart_uses_the_same_arguments() {
    let journal = Journal::new();
    let seen = journal.clone();
    let template = ChildTemplate::worker("session", move |user: &String| {
        seen.push(user.clone());
        (Puppet, ())
    });
    let sessions = start(generous(template)).await;
    let count = sessions.count_children().await.unwrap();
    assert_eq!((count.specs, count.active, count.workers), (1, 0, 0));

    let ada = sessions.start_child("ada".to_owned()).await.unwrap();
    sessions.start_child("grace".to_owned()).await.unwrap();
    crash(&ada).await;
    assert_eq!(successor(&ada).await.number(), 2);
    assert_eq!(journal.entries(), ["ada", "grace", "ada"]);
    let ids: Vec<_> = sessions.which_children().await.unwrap();
    let ids: Vec<_> = ids.iter().map(|child| &*child.id).collect();
    assert_eq!(ids, ["session-2", "session-1"]);
}

#[tokio::test(start_paused = true)]
async fn dyn_2_a_start_that_fails_or_declines_keeps_nothing() {
    let template =
        ChildTemplate::from_fn("job", ChildKind::Worker, |_, fails: Arc<bool>| async move {
            match *fails {
                true => Err(StartError::new(ExitReason::failed("no paper"))),
                false => Ok(Started::Ignored),
            }
        });
    for concurrent in [false, true] {
        let jobs = start(generous(template.clone()).concurrent_starts(concurrent)).await;
        let failed = jobs.start_child(true).await.unwrap_err();
        assert!(matches!(failed, StartChildError::Failed(_)), "{failed}");
        let declined = jobs.start_child_named("a", false).await.unwrap_err();
        assert!(matches!(declined, StartChildError::Ignored { id } if id == "a"));
        assert_eq!(listed(&jobs).await, 0);
        assert!(jobs.node().children().is_empty());
    }
    let panics = ChildTemplate::<()>::worker("job", |_| -> (Puppet, ()) { panic!("no paper") });
    let jobs = start(generous(panics)).await;
    let error = jobs.start_child(()).await.unwrap_err();
    assert!(
        matches!(&error, StartChildError::Failed(it) if matches!(it.reason, ExitReason::Panicked { .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn dyn_3_at_the_end_all_children_are_stopped_at_once() {
    let scope = Scope::new("t");
    let supervisor = generous(puppets().shutdown(Shutdown::Within(SECOND)))
        .build()
        .unwrap()
        .start_in(&scope)
        .await
        .unwrap();
    let mut children = Vec::new();
    for _ in 0..3 {
        let child = supervisor.start_child(()).await.unwrap();
        order(&child, Order::Hang);
        children.push(child);
    }
    let quick = supervisor.start_child(()).await.unwrap();
    let began = Instant::now();
    supervisor.stop(ExitReason::Shutdown).await;
    assert_eq!(began.elapsed(), SECOND);
    for child in children {
        assert!(matches!(
            child.incarnation().exit_reason(),
            Some(ExitReason::Killed)
        ));
    }
    assert!(matches!(
        quick.incarnation().exit_reason(),
        Some(ExitReason::Shutdown)
    ));
    let told = scope.events().recent();
    let told: Vec<_> = told
        .iter()
        .filter(|event| matches!(event.kind, EventKind::ShutdownErrors { .. }))
        .map(|event| event.kind.to_string())
        .collect();
    assert_eq!(told, ["shutdown_error puppet: killed (3 of them)"]);
}

#[tokio::test(start_paused = true)]
async fn dyn_4_a_child_is_terminated_by_its_run() {
    let supervisor = start(generous(puppets())).await;
    let first = supervisor.start_child(()).await.unwrap();
    crash(&first).await;
    let second = DynamicChild::new(Arc::clone(first.node()), successor(&first).await);
    // The run is over, and its successor none of its business.
    supervisor.terminate_child(&first).await.unwrap();
    assert!(second.incarnation().exit_reason().is_none());
    supervisor.terminate_child(&second).await.unwrap();
    assert!(second.incarnation().exit_reason().is_some());
    supervisor.terminate_child(&second).await.unwrap();
    assert_eq!(listed(&supervisor).await, 0);

    let other = start(generous(puppets())).await;
    let stranger = other.start_child(()).await.unwrap();
    assert!(matches!(
        supervisor.terminate_child(&stranger).await,
        Err(TerminateChildError::NotFound { id }) if id == "puppet-1"
    ));
    assert_eq!(listed(&other).await, 1);
    let spec = other.child_spec(&stranger).await.unwrap().unwrap();
    assert_eq!(&**spec.id(), "puppet");
    assert!(supervisor.child_spec(&stranger).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn dyn_5_a_given_id_is_unique_until_its_child_is_gone() {
    let supervisor = start(generous(puppets().temporary())).await;
    let first = supervisor.start_child_named("a", ()).await.unwrap();
    assert_eq!(first.node().path().as_str(), "t/a");
    let twice = supervisor.start_child_named("a", ()).await.unwrap_err();
    assert!(matches!(
        twice,
        StartChildError::AlreadyStarted { incarnation: 1, .. }
    ));
    let slash = supervisor.start_child_named("a/b", ()).await.unwrap_err();
    assert!(matches!(slash, StartChildError::Spec(_)), "{slash}");
    // A name may look like one of those that are made up.
    supervisor.start_child_named("puppet-1", ()).await.unwrap();
    assert_eq!(supervisor.start_child(()).await.unwrap().id(), "puppet-2");

    crash(&first).await;
    assert_eq!(listed(&supervisor).await, 2);
    supervisor.start_child_named("a", ()).await.unwrap();
    supervisor.terminate_child_named("a").await.unwrap();
    let gone = supervisor.terminate_child_named("a").await.unwrap_err();
    assert!(matches!(gone, TerminateChildError::NotFound { id } if id == "a"));
}

#[tokio::test(start_paused = true)]
async fn dyn_6_there_are_never_more_children_than_allowed() {
    let supervisor = start(generous(puppets()).max_children(2.try_into().unwrap())).await;
    let first = supervisor.start_child(()).await.unwrap();
    supervisor.start_child(()).await.unwrap();
    let third = supervisor.start_child(()).await.unwrap_err();
    assert_eq!(
        third.to_string(),
        "t has 2 children already, and may not have more"
    );
    crash(&first).await;
    successor(&first).await;
    supervisor.start_child(()).await.unwrap_err();
    supervisor.terminate_child_named(first.id()).await.unwrap();
    supervisor.start_child(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dyn_6_a_child_counts_until_its_actor_has_ended() {
    let template = puppets().shutdown(Shutdown::Within(SECOND));
    let builder = generous(template).max_children(2.try_into().unwrap());
    let supervisor = start(builder.concurrent_starts(true)).await;
    let slow = supervisor.start_child_named("a", ()).await.unwrap();
    let swift = supervisor.start_child(()).await.unwrap();
    order(&slow, Order::Hang);
    let terminated = supervisor.terminate_child(&slow);
    let others = async {
        assert_eq!(listed(&supervisor).await, 1);
        for refused in [
            supervisor.start_child(()).await,
            supervisor.start_child_named("a", ()).await,
        ] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, StartChildError::MaxChildren { .. }));
        }
        assert!(!slow.incarnation().has_ended());
        // Whoever is told that a child was terminated finds its place free.
        for _ in 0..10 {
            supervisor.terminate_child(&swift).await.unwrap();
            let next = supervisor.start_child(()).await.unwrap();
            supervisor.terminate_child(&next).await.unwrap();
        }
        supervisor.start_child(()).await.unwrap();
    };
    let (terminated, ()) = tokio::join!(terminated, others);
    terminated.unwrap();
    supervisor.start_child_named("a", ()).await.unwrap();
    supervisor.start_child(()).await.unwrap_err();
}

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

/// A supervisor over a dynamic one, and the place of the latter.
async fn nested(template: ChildTemplate<()>, concurrent: bool) -> (Supervisor, Arc<Node>) {
    let dynamic = generous(template).concurrent_starts(concurrent);
    let root = Supervisor::builder()
        .child(dynamic.build().unwrap().into_child("nested"))
        .build()
        .unwrap()
        .start("t")
        .await
        .unwrap();
    let place = root.node().child("nested").unwrap();
    (root, place)
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

#[tokio::test(start_paused = true)]
async fn dyn_12_the_common_handle_lists_and_refuses_what_needs_a_spec_of_its_own() {
    let dynamic = start(generous(puppets())).await;
    let child = dynamic.start_child(()).await.unwrap();
    let supervisor = Supervisor::at(dynamic.node()).unwrap();
    assert_eq!(supervisor.which_children().await.unwrap().len(), 1);
    let spec = supervisor.child_spec("puppet").await.unwrap().unwrap();
    assert!(matches!(
        supervisor.start_child(spec).await,
        Err(StartChildError::Dynamic { .. })
    ));
    let id = child.id();
    assert!(matches!(
        supervisor.terminate_child("nobody").await,
        Err(TerminateChildError::Dynamic { .. })
    ));
    assert!(matches!(
        supervisor.restart_child(id).await,
        Err(RestartChildError::Dynamic { .. })
    ));
    assert!(matches!(
        supervisor.delete_child(id).await,
        Err(DeleteChildError::Dynamic { .. })
    ));

    let mistaken = DynamicSupervisor::<String>::at(dynamic.node()).unwrap();
    let refused = mistaken.start_child("a".to_owned()).await.unwrap_err();
    assert!(matches!(refused, StartChildError::Arguments), "{refused}");
    let fixed = Supervisor::builder().build().unwrap();
    let fixed = fixed.start("u").await.unwrap();
    let mistaken = DynamicSupervisor::<()>::at(fixed.node()).unwrap();
    let refused = mistaken.start_child(()).await.unwrap_err();
    assert!(matches!(refused, StartChildError::Arguments), "{refused}");
}

#[test]
fn dyn_13_bad_settings_are_refused_when_they_are_built() {
    let refused = |builder: DynamicSupervisorBuilder<()>| builder.build().unwrap_err();
    let idle = refused(generous(puppets().transient().significant(true)));
    assert!(matches!(
        idle,
        SupervisorSpecError::SignificantWithoutAutoShutdown { id } if id == "puppet"
    ));
    let permanent = generous(puppets().significant(true));
    let permanent = refused(permanent.auto_shutdown(AutoShutdown::AnySignificant));
    assert_eq!(
        permanent.to_string(),
        "child `puppet`: significant needs restart transient or temporary"
    );
    let period = RestartIntensity::new(1, Duration::ZERO);
    let period = refused(generous(puppets()).intensity(period));
    assert!(matches!(period, SupervisorSpecError::ZeroPeriod));
}

#[tokio::test(start_paused = true)]
async fn dyn_24_children_have_the_mailbox_and_the_drain_limit_of_their_template() {
    let template = puppets().drain_within(SECOND).mailbox(Mailbox::bounded(7));
    let supervisor = start(generous(template)).await;
    let child = supervisor.start_child(()).await.unwrap();
    let node = child.node();
    let settings = |run: &Incarnation| (run.mailbox().capacity(), node.drain_limit());
    assert_eq!(settings(child.incarnation()), (7, Some(SECOND)));
    crash(&child).await;
    let next = node.running().await;
    assert_eq!(settings(&next), (7, Some(SECOND)));
    // Checked as those of a spec.
    let none = generous(puppets().mailbox(Mailbox::bounded(0))).build();
    let refused = none.unwrap_err().to_string();
    assert!(refused.contains("capacity must not be zero"), "{refused}");
}

/// Crashes 100 children that take 10 ms to start, and returns how long it takes until all are back.
async fn storm(concurrent: bool) -> Duration {
    let supervisor = start(generous(slow()).concurrent_starts(concurrent)).await;
    let mut children = Vec::new();
    for _ in 0..100 {
        children.push(supervisor.start_child(()).await.unwrap());
    }
    let began = Instant::now();
    for child in &children {
        crash(child).await;
    }
    if concurrent {
        // Answered while the children start.
        let list = supervisor.which_children().await.unwrap();
        let restarting = |it: &&_| matches!(it, ChildStatus::Restarting);
        let states: Vec<_> = list.iter().map(|child| child.status).collect();
        assert_eq!(states.iter().filter(restarting).count(), 100);
        let victim = children.pop().unwrap();
        supervisor.terminate_child(&victim).await.unwrap();
        assert!(began.elapsed() < 10 * MILLISECOND);
        let more = supervisor.start_child(()).await.unwrap();
        assert!(began.elapsed() < 20 * MILLISECOND);
        supervisor.terminate_child(&more).await.unwrap();
        assert!(victim.node().current().is_none());
    }
    for child in &children {
        assert_eq!(successor(child).await.number(), 2);
    }
    let took = began.elapsed();
    let count = supervisor.count_children().await.unwrap();
    assert_eq!(count.active, children.len());
    supervisor.stop(ExitReason::Shutdown).await;
    took
}

#[tokio::test(start_paused = true)]
async fn dyn_14_children_start_beside_the_queue_only_when_told_to() {
    let took = storm(true).await;
    assert!(took <= 30 * MILLISECOND, "{took:?}");
    let took = storm(false).await;
    assert!(took >= SECOND, "{took:?}");
}

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

/// Counts how many of its kind are up.
struct Counted;

struct Up(Arc<AtomicU32>);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Actor for Counted {
    type Msg = Order;
    type State = Up;
    type Arguments = Arc<AtomicU32>;

    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        up: Arc<AtomicU32>,
    ) -> Result<Up, ActorProcessingErr> {
        up.fetch_add(1, SeqCst);
        Ok(Up(up))
    }

    async fn handle(
        &self,
        _: ActorRef<Order>,
        _: Order,
        _: &mut Up,
    ) -> Result<(), ActorProcessingErr> {
        Err("broken".into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dyn_19_nobody_is_lost_when_all_happens_at_once() {
    for round in 0..20 {
        let up = Arc::new(AtomicU32::new(0));
        let template = {
            let up = Arc::clone(&up);
            ChildTemplate::from_fn("counted", ChildKind::Worker, move |context, _: Arc<()>| {
                let up = Arc::clone(&up);
                async move {
                    tokio::task::yield_now().await;
                    let child = context.spawn(Counted, up).await?;
                    tokio::task::yield_now().await;
                    Ok(Started::from(child))
                }
            })
        };
        let builder = DynamicSupervisor::builder(template).concurrent_starts(true);
        let supervisor = start(builder.intensity(RestartIntensity::new(10_000, SECOND))).await;
        let lives = (0..50).map(|number: u32| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move {
                let Ok(child) = supervisor.start_child(()).await else {
                    return;
                };
                for _ in 0..number % 4 {
                    if let Some(run) = child.node().current()
                        && let Some(actor) = run.actor_ref()
                    {
                        // It may have been stopped meanwhile.
                        drop(actor.send_message(Order::Stop));
                        run.ended().await;
                    }
                }
                if number.is_multiple_of(3) {
                    // The supervisor may have ended meanwhile.
                    drop(supervisor.terminate_child_named(child.id()).await);
                }
            })
        });
        let lives: Vec<_> = lives.collect();
        match round % 4 {
            0 => {}
            1 => sleep(MILLISECOND).await,
            _ => {
                for life in lives {
                    life.await.unwrap();
                }
            }
        }
        if round % 2 == 0 {
            supervisor.stop(ExitReason::Shutdown).await;
            assert_eq!(up.load(SeqCst), 0);
        } else {
            let whole = supervisor.supervisor().incarnation().unwrap();
            whole.kill();
            whole.ended().await;
            while up.load(SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
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

/// A source of chance that a seed makes repeatable.
#[derive(Clone)]
struct Chance(Arc<AtomicU64>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        )))
    }

    /// Returns a number below `limit`.
    fn below(&self, limit: u64) -> u64 {
        let next = |mut it: u64| {
            it ^= it << 13;
            it ^= it >> 7;
            it ^= it << 17;
            it
        };
        let last = self.0.fetch_update(SeqCst, SeqCst, |it| Some(next(it)));
        next(last.unwrap()) % limit
    }

    /// Waits for a turn or two, for a millisecond, or not at all.
    async fn dawdle(&self) {
        let turns = self.below(4);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if turns == 3 {
            sleep(MILLISECOND).await;
        }
    }
}

/// What a supervisor goes through whose two children are started, killed, crashed, terminated, resumed and bounced
/// while they start and stop.
struct Turmoil {
    supervisor: DynamicSupervisor<()>,
    /// What was done, to read when it goes wrong.
    done: Vec<&'static str>,
}

impl Turmoil {
    async fn go_through(seed: u64, concurrent: bool, restart: Restart) -> Self {
        let chance = Chance::new(seed);
        let dice = chance.clone();
        let template =
            ChildTemplate::from_fn("w", ChildKind::Worker, move |context, _: Arc<()>| {
                let dice = dice.clone();
                async move {
                    dice.dawdle().await;
                    if dice.below(10) == 0 {
                        return Err(StartError::new(ExitReason::failed("no paper")));
                    }
                    let child = context.spawn(Puppet, ()).await?;
                    dice.dawdle().await;
                    Ok(Started::from(child))
                }
            });
        let template = match restart {
            Restart::Temporary => template.temporary(),
            other => template
                .restart(other)
                .backoff(Backoff::constant(2 * MILLISECOND)),
        };
        let builder = DynamicSupervisor::builder(template)
            .intensity(RestartIntensity::new(1_000_000, SECOND))
            .concurrent_starts(concurrent);
        let supervisor = start(builder).await;
        let mut done = Vec::new();
        let mut calls = JoinSet::new();
        for _ in 0..12 {
            let id = ["a", "b"][usize::from(chance.below(2) == 0)];
            let it = supervisor.clone();
            let run = it.node().child(id).and_then(|place| place.current());
            // What comes of the calls is not of interest here.
            match chance.below(8) {
                0 | 1 => {
                    done.push("start");
                    calls.spawn(async move { drop(it.start_child_named(id, ()).await) });
                }
                2 => {
                    done.push("terminate");
                    calls.spawn(async move { drop(it.terminate_child_named(id).await) });
                }
                3 => {
                    done.push("resume");
                    calls.spawn(async move { drop(it.supervisor().resume_child(id).await) });
                }
                4 | 5 => {
                    done.push("bounce");
                    calls.spawn(async move { drop(it.supervisor().bounce_child(id).await) });
                }
                6 => {
                    done.push("kill");
                    run.inspect(|run| run.kill());
                }
                _ => {
                    done.push("crash");
                    let actor = run.and_then(|run| run.actor_ref());
                    drop(actor.map(|actor| actor.send_message(Order::Fail("broken"))));
                }
            }
            done.push(id);
            chance.dawdle().await;
        }
        calls.join_all().await;
        Self { supervisor, done }
    }

    /// Says what is wrong, once everybody has had the time to come back.
    async fn fault(&self) -> Option<String> {
        let list = self.supervisor.which_children().await.unwrap();
        for child in &list {
            let current = child.node.current().map(|run| run.number());
            let as_listed = match child.status {
                ChildStatus::Alive { incarnation } => Some(incarnation),
                _ => None,
            };
            if as_listed.is_none() || current != as_listed {
                return Some(format!("{child:?} has run {current:?}"));
            }
        }
        let places = self.supervisor.node().children();
        let mut places = places.iter();
        let stray = places.find(|place| !list.iter().any(|it| Arc::ptr_eq(&it.node, place)));
        stray.map(|place| format!("{place:?} is nobody's"))
    }

    async fn end(self) {
        self.supervisor.stop(ExitReason::Shutdown).await;
        for place in self.supervisor.node().children() {
            assert!(!place.is_occupied(), "{place:?}: {:?}", self.done);
        }
    }
}

const ALL_SORTS: [(bool, Restart); 6] = [
    (false, Restart::Permanent),
    (false, Restart::Transient),
    (false, Restart::Temporary),
    (true, Restart::Permanent),
    (true, Restart::Transient),
    (true, Restart::Temporary),
];

#[tokio::test(start_paused = true)]
async fn dyn_19_nobody_is_lost_or_listed_wrongly_in_any_turmoil() {
    for seed in 0..300 {
        for (concurrent, restart) in ALL_SORTS {
            let turmoil = Turmoil::go_through(seed, concurrent, restart).await;
            sleep(SECOND).await;
            let fault = turmoil.fault().await;
            assert_eq!(
                fault, None,
                "{seed} {concurrent} {restart:?} {:?}",
                turmoil.done
            );
            turmoil.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dyn_19_nobody_is_lost_or_listed_wrongly_in_any_turmoil_on_many_threads() {
    for seed in 0..150 {
        for concurrent in [false, true] {
            let turmoil = Turmoil::go_through(seed, concurrent, Restart::Permanent).await;
            let began = Instant::now();
            while let Some(fault) = turmoil.fault().await {
                let waited = began.elapsed();
                assert!(
                    waited < 10 * SECOND,
                    "{seed} {concurrent}: {fault} {:?}",
                    turmoil.done
                );
                tokio::task::yield_now().await;
            }
            turmoil.end().await;
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

#[test]
fn handles_can_be_sent_and_shared() {
    fn check<T: std::fmt::Debug + Send + Sync + Clone>() {}
    check::<DynamicSupervisor<std::cell::Cell<u8>>>();
    check::<DynamicSupervisorBuilder<()>>();
    check::<perennial_supervisor::DynamicSpec<()>>();
    check::<ChildTemplate<()>>();
    check::<DynamicChild>();
}
