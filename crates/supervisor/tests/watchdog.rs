//! Handlers that take too long.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial_lifecycle::{
    ChildKind, ChildSpec, Event, EventKind, ExitReason, Incarnation, Node, Scope, Shutdown,
    StartContext, StartError, Started, Watchdog,
};
use perennial_supervisor::{
    ChildTemplate, DynamicSupervisor, RestartIntensity, Supervisor, SupervisorBuilder,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(100, SECOND))
}

async fn start(scope: &Scope, builder: SupervisorBuilder) -> Supervisor {
    builder.build().unwrap().start_in(scope).await.unwrap()
}

fn run(supervisor: &Supervisor, id: &str) -> Arc<Incarnation> {
    supervisor.node().child(id).unwrap().current().unwrap()
}

fn stuck(scope: &Scope) -> Vec<(u64, &'static str, Duration)> {
    let events = scope.events().recent();
    let stuck = events.into_iter().filter_map(|event| match event.kind {
        EventKind::Stuck {
            incarnation,
            message,
            age,
        } => Some((incarnation, message, age)),
        _ => None,
    });
    stuck.collect()
}

#[tokio::test(start_paused = true)]
async fn sup_22_a_handler_that_takes_too_long_is_reported_once_with_its_message_type() {
    let scope = Scope::new("t");
    let watched =
        |id: &str, limit| ChildSpec::worker(id, || (Puppet, ())).watchdog(Watchdog::report(limit));
    let builder = generous()
        .child(watched("patient", 100 * SECOND))
        .child(watched("w", SECOND))
        .child(ChildSpec::worker("unwatched", || (Puppet, ())));
    let supervisor = start(&scope, builder).await;
    let tell = |id: &str, order| {
        let actor = run(&supervisor, id).actor_ref().unwrap();
        assert!(actor.send_message(order).is_ok());
    };
    let (done, first) = oneshot::channel();
    tell("w", Order::Work(900 * MS, done.into()));
    first.await.unwrap();
    assert!(stuck(&scope).is_empty());

    let (done, second) = oneshot::channel();
    tell("w", Order::Work(10 * SECOND, done.into()));
    tell("w", Order::Hang);
    tell("patient", Order::Hang);
    tell("unwatched", Order::Hang);
    second.await.unwrap();
    let reported = stuck(&scope);
    assert_eq!(reported.len(), 1, "{reported:?}");
    let (incarnation, message, age) = reported[0];
    assert_eq!(incarnation, 1);
    assert!(message.ends_with("Order"), "{message}");
    assert!(age >= SECOND && age <= SECOND + SECOND / 4, "{age:?}");

    // The next message is another case.
    sleep(10 * SECOND).await;
    assert_eq!(stuck(&scope).len(), 2);
    assert!(!run(&supervisor, "w").is_ending());
}

#[tokio::test(start_paused = true)]
async fn sup_23_a_stuck_actor_that_yields_to_its_kill_is_restarted_as_after_any_kill() {
    let scope = Scope::new("t");
    let watched = ChildSpec::worker("w", || (Puppet, ())).watchdog(Watchdog::replace(SECOND));
    let supervisor = start(&scope, generous().child(watched)).await;
    let first = run(&supervisor, "w");
    assert!(first.actor_ref().unwrap().send_message(Order::Hang).is_ok());
    assert!(matches!(first.ended().await, ExitReason::Killed));
    supervisor.count_children().await.unwrap();
    let node = supervisor.node().child("w").unwrap();
    assert_eq!((node.restarts(), scope.detached()), (1, 0));
    assert_eq!(stuck(&scope).len(), 1);
}

/// Does not yield until somebody says so.
struct Blocked(Arc<Mutex<mpsc::Receiver<()>>>);

impl Actor for Blocked {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.lock().unwrap().recv()?;
        Ok(())
    }
}

struct Watched {
    scope: Scope,
    supervisor: Supervisor,
    release: mpsc::Sender<()>,
}

impl Watched {
    /// Follows a stuck actor from its replacement to its late end.
    async fn follow(self) {
        let mut events = self.scope.events().subscribe();
        let mut wait_for = async |wanted: fn(&EventKind) -> bool| -> Event {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if wanted(&event.kind) {
                    return event;
                }
            }
        };
        let node = self.supervisor.node().child("w").unwrap();
        let first = node.current().unwrap();
        assert!(first.actor_ref().unwrap().send_message(()).is_ok());
        let detached = wait_for(|kind| matches!(kind, EventKind::Detached { .. })).await;
        assert_eq!(detached.path, *node.path());
        assert!(detached.kind.to_string().contains("did not yield"));
        wait_for(|kind| matches!(kind, EventKind::Restarted { .. })).await;
        assert_eq!(self.scope.detached(), 1);
        // For everybody else the first run is over.
        assert!(matches!(first.ended().await, ExitReason::Failed(_)));
        assert!(first.is_detached());
        assert_eq!(node.current().unwrap().number(), 2);
        assert_eq!(node.history().len(), 1);

        self.release.send(()).unwrap();
        wait_for(|kind| matches!(kind, EventKind::Reclaimed { incarnation: 1 })).await;
        assert_eq!(self.scope.detached(), 0);
        self.supervisor.count_children().await.unwrap();
        let second = node.current().unwrap();
        assert_eq!((second.number(), second.is_ending()), (2, false));
        assert_eq!(node.history().len(), 1);
        self.supervisor.stop(ExitReason::Shutdown).await;
    }
}

const WATCHDOG: Watchdog = Watchdog::replace(Duration::from_millis(20)).grace(MS);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_a_stuck_actor_that_does_not_yield_is_left_behind_and_counted() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let held = Arc::new(Mutex::new(held));
    let child = ChildSpec::worker("w", move || (Blocked(Arc::clone(&held)), ()));
    let supervisor = start(&scope, generous().child(child.watchdog(WATCHDOG))).await;
    let watched = Watched {
        scope,
        supervisor,
        release,
    };
    watched.follow().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_a_stuck_dynamic_child_is_left_behind_as_well() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let held = Arc::new(Mutex::new(held));
    let template = ChildTemplate::worker("w", move |(): &()| (Blocked(Arc::clone(&held)), ()));
    let dynamic = DynamicSupervisor::builder(template.watchdog(WATCHDOG));
    let dynamic = dynamic.build().unwrap().start_in(&scope).await.unwrap();
    dynamic.start_child_named("w", ()).await.unwrap();
    let watched = Watched {
        supervisor: Supervisor::at(dynamic.node()).unwrap(),
        scope,
        release,
    };
    watched.follow().await;
}

/// A child that is given all the time it takes to stop, with a watchdog.
fn patient(held: mpsc::Receiver<()>) -> ChildSpec {
    let held = Arc::new(Mutex::new(held));
    let child = ChildSpec::worker("w", move || (Blocked(Arc::clone(&held)), ()));
    child.shutdown(Shutdown::Infinity).watchdog(WATCHDOG)
}

/// Has it do what it does not yield in.
async fn block(run: &Incarnation) {
    assert!(run.actor_ref().unwrap().send_message(()).is_ok());
    while run.in_hand().is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_a_stuck_actor_is_left_behind_although_its_supervisor_waits_for_its_stop() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let supervisor = start(&scope, generous().child(patient(held))).await;
    let first = run(&supervisor, "w");
    block(&first).await;
    let terminated = timeout(60 * SECOND, supervisor.terminate_child("w")).await;
    terminated.expect("it waits for ever").unwrap();
    assert!(first.is_detached());
    assert_eq!(scope.detached(), 1);
    // The end was dealt with by the stop.
    supervisor.count_children().await.unwrap();
    assert_eq!(supervisor.node().child("w").unwrap().restarts(), 0);
    release.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_a_stuck_actor_is_left_behind_although_the_next_supervisor_waits_for_its_place() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let nested = Supervisor::builder().child(patient(held)).build().unwrap();
    let root = start(&scope, generous().child(nested.into_child("nested"))).await;
    let nested = root.node().child("nested").unwrap();
    let place = nested.child("w").unwrap();
    let first = place.current().unwrap();
    block(&first).await;
    Supervisor::at(&nested).unwrap().kill();
    let over = timeout(60 * SECOND, first.ended()).await;
    over.expect("it waits for ever");
    assert_eq!(place.running().await.number(), 2);
    assert_eq!(scope.detached(), 1);
    release.send(()).unwrap();
}

/// A start function that does not yield until somebody says so, and then brings its actor up all the same.
fn blocked_start(
    held: mpsc::Receiver<()>,
    late: &Journal<Arc<Incarnation>>,
) -> impl Fn(StartContext) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync + use<>
{
    let held = Arc::new(Mutex::new(held));
    let late = late.clone();
    move |context| {
        let (held, late) = (Arc::clone(&held), late.clone());
        async move {
            held.lock().unwrap().recv().unwrap();
            let node = Arc::clone(context.node());
            let child = context.spawn(Puppet, ()).await?;
            late.push(node.current().unwrap());
            Ok(Started::from(child))
        }
        .boxed()
    }
}

/// Waits until an actor has had a turn. One that has not may be bound to the thread on which it was started, and would
/// wait there for ever if that one is blocked.
async fn had_a_turn(run: &Incarnation) {
    let (reply, loaded) = oneshot::channel();
    let order = Order::Load(reply.into());
    assert!(run.actor_ref().unwrap().send_message(order).is_ok());
    loaded.await.unwrap();
}

/// Follows a supervisor that is left behind in the start of a child, with another one that runs.
async fn follow_a_supervisor(
    scope: &Scope,
    place: &Arc<Node>,
    running: Arc<Incarnation>,
    release: mpsc::Sender<()>,
    late: Journal<Arc<Incarnation>>,
) {
    // Its predecessor cannot ask it, which does not yield; the successor does.
    running.ended().await;
    assert_eq!(scope.detached(), 1);
    let second = place.running().await;
    assert_eq!(second.number(), 2);

    release.send(()).unwrap();
    // The one that did not yield knows that it is over, although a successor lives at its place.
    for run in late.wait_for(1).await {
        run.ended().await;
    }
    assert!(!second.is_ending());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_the_children_of_a_dynamic_supervisor_that_was_left_behind_are_stopped() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let late = Journal::new();
    let blocks = blocked_start(held, &late);
    let template = ChildTemplate::from_fn("w", ChildKind::Worker, move |context, blocked| {
        if *blocked {
            return blocks(context);
        }
        async { Ok(Started::from(context.spawn(Puppet, ()).await?)) }.boxed()
    });
    let dynamic = DynamicSupervisor::builder(template).build().unwrap();
    let nested = dynamic.into_child("nested").watchdog(WATCHDOG);
    let root = start(&scope, generous().child(nested)).await;
    let place = root.node().child("nested").unwrap();
    let dynamic = DynamicSupervisor::<bool>::at(&place).unwrap();
    let running = dynamic.start_child(false).await.unwrap();
    let running = Arc::clone(running.incarnation());
    had_a_turn(&running).await;
    let blocked = tokio::spawn({
        let dynamic = dynamic.clone();
        async move { drop(dynamic.start_child(true).await) }
    });
    follow_a_supervisor(&scope, &place, running, release, late).await;
    blocked.await.unwrap();
    // The places are empty, and go with the next start.
    dynamic.start_child(false).await.unwrap();
    assert_eq!(dynamic.node().children().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_the_children_of_a_static_supervisor_that_was_left_behind_are_stopped() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let late = Journal::new();
    let nested = Supervisor::builder().build().unwrap();
    let nested = nested.into_child("nested").watchdog(WATCHDOG);
    let root = start(&scope, generous().child(nested)).await;
    let place = root.node().child("nested").unwrap();
    let nested = Supervisor::at(&place).unwrap();
    let added = ChildSpec::worker("added", || (Puppet, ()));
    nested.start_child(added.clone()).await.unwrap();
    let running = run(&nested, "added");
    had_a_turn(&running).await;
    let blocked = ChildSpec::from_fn("late", ChildKind::Worker, blocked_start(held, &late));
    let blocked = tokio::spawn({
        let nested = nested.clone();
        async move { drop(nested.start_child(blocked).await) }
    });
    follow_a_supervisor(&scope, &place, running, release, late).await;
    blocked.await.unwrap();
    // The places are empty, and go with the next call.
    nested.start_child(added).await.unwrap();
    assert_eq!(nested.node().children().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_the_children_of_a_temporary_supervisor_that_was_left_behind_are_stopped() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let late = Journal::new();
    let nested = Supervisor::builder().child(ChildSpec::worker("w", || (Puppet, ())));
    let nested = nested.build().unwrap().into_child("nested").temporary();
    let root = start(&scope, generous().child(nested.watchdog(WATCHDOG))).await;
    let place = root.node().child("nested").unwrap();
    let nested = Supervisor::at(&place).unwrap();
    let running = run(&nested, "w");
    had_a_turn(&running).await;
    let blocked = ChildSpec::from_fn("late", ChildKind::Worker, blocked_start(held, &late));
    let blocked = tokio::spawn(async move { drop(nested.start_child(blocked).await) });
    let over = timeout(60 * SECOND, running.ended()).await;
    over.expect("nobody asks it to stop");
    assert_eq!(scope.detached(), 1);
    root.count_children().await.unwrap();
    assert!(root.node().child("nested").is_none());

    release.send(()).unwrap();
    for run in late.wait_for(1).await {
        run.ended().await;
    }
    blocked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sup_23_a_supervisor_that_was_left_behind_watches_nobody_any_more() {
    let scope = Scope::new("t");
    let (release, held) = mpsc::channel();
    let late = Journal::new();
    let watched = ChildSpec::worker("w", || (Puppet, ()));
    let watched = watched.watchdog(Watchdog::report(20 * MS));
    let nested = Supervisor::builder().child(watched).build().unwrap();
    let nested = nested.into_child("nested").watchdog(WATCHDOG);
    let root = start(&scope, generous().child(nested)).await;
    let place = root.node().child("nested").unwrap();
    let nested = Supervisor::at(&place).unwrap();
    let first = run(&nested, "w");
    had_a_turn(&first).await;
    let blocked = ChildSpec::from_fn("late", ChildKind::Worker, blocked_start(held, &late));
    let blocked = tokio::spawn({
        let nested = nested.clone();
        async move { drop(nested.start_child(blocked).await) }
    });
    first.ended().await;
    assert_eq!(place.running().await.number(), 2);

    let mut events = scope.events().subscribe();
    let second = run(&nested, "w");
    let hang = second.actor_ref().unwrap().send_message(Order::Hang);
    assert!(hang.is_ok());
    let is_report = |event: &Event| {
        event.path == *second.node().path() && matches!(event.kind, EventKind::Stuck { .. })
    };
    while !is_report(&events.next().await.unwrap().unwrap()) {}
    // Time enough for another one to look.
    sleep(50 * MS).await;
    let recent = scope.events().recent();
    assert_eq!(recent.iter().filter(|it| is_report(it)).count(), 1);
    release.send(()).unwrap();
    blocked.await.unwrap();
}
