//! Notices of ends and of failed starts under real supervisors, and a subscriber that does not read.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_lifecycle::{
    ChildKind, ChildSpec, ExitReason, Monitor, Node, Scope, StartContext, StartError, Started,
};
use perennial_supervisor::{
    ChildTemplate, DynamicSupervisor, RestartIntensity, Supervisor, SupervisorBuilder,
};
use perennial_testkit::{Order, Puppet};

const SECOND: Duration = Duration::from_secs(1);

fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(10_000, SECOND))
}

fn puppet(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Puppet, ()))
}

/// A child whose start never comes to an end.
fn endless(id: &str) -> ChildSpec {
    ChildSpec::from_fn(id, ChildKind::Worker, |_: StartContext| {
        std::future::pending()
    })
}

async fn start_in(scope: &Scope, builder: SupervisorBuilder) -> Result<Supervisor, StartError> {
    builder.build().unwrap().start_in(scope).await
}

fn place(scope: &Scope, id: &str) -> Arc<Node> {
    scope.root().child_or_insert(id)
}

async fn notice(monitor: Monitor) -> (u64, String) {
    let down = tokio::time::timeout(60 * SECOND, monitor)
        .await
        .expect("no notice");
    (down.incarnation, down.reason.to_string())
}

/// Lets everything come to rest: paused time moves only then.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn life_8_a_monitor_does_not_follow_a_restart() {
    let scope = Scope::new("t");
    let root = start_in(&scope, generous().child(puppet("a")))
        .await
        .unwrap();
    let node = root.node().child("a").unwrap();
    for number in 1..=20 {
        let run = node.running().await;
        let monitor = node.monitor();
        run.actor_ref::<Order>()
            .unwrap()
            .cast(Order::Fail("broken"))
            .unwrap();
        assert_eq!(notice(monitor).await, (number, "failed: broken".to_owned()));
        // The supervisor has been told by now, and is at work on the next run or through with it.
        root.count_children().await.unwrap();
        let of_run = notice(node.monitor_run(&run)).await;
        assert_eq!(of_run, (number, "failed: broken".to_owned()));
    }
    let last = node.monitor();
    root.stop(ExitReason::Shutdown).await;
    assert_eq!(notice(last).await, (21, "shutdown".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn life_7_the_children_of_a_killed_supervisor_and_itself_give_notice() {
    let scope = Scope::new("t");
    let inner = generous().child(puppet("a")).build().unwrap();
    let root = start_in(&scope, generous().child(inner.into_child("inner")))
        .await
        .unwrap();
    let inner = root.node().child("inner").unwrap();
    let a = inner.child("a").unwrap();
    let monitors = [inner.monitor(), a.monitor()];
    inner.current().unwrap().kill();
    for monitor in monitors {
        assert_eq!(notice(monitor).await, (1, "killed".to_owned()));
    }
    // Those that came after them are others.
    rest().await;
    for node in [&inner, &a] {
        assert_eq!(node.current().unwrap().number(), 2);
        assert!(node.monitor().now_or_never().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn life_9_a_failed_start_is_told_to_those_who_watch_the_place() {
    let scope = Scope::new("t");
    let [a, b, c] = ["a", "b", "c"].map(|id| place(&scope, id));
    let monitors = [a.monitor(), b.monitor(), scope.root().monitor()];
    let mut unstarted = c.monitor();
    let panics = ChildSpec::from_fn("b", ChildKind::Worker, |_: StartContext| async {
        panic!("no luck");
    });
    let builder = generous()
        .child(puppet("a"))
        .child(panics)
        .child(puppet("c"));
    start_in(&scope, builder).await.unwrap_err();
    let mut told = Vec::new();
    for monitor in monitors {
        told.push(notice(monitor).await);
    }
    assert_eq!(told[0], (1, "shutdown".to_owned()), "stopped again");
    assert_eq!(told[1], (1, "panicked: no luck".to_owned()));
    assert_eq!(told[2].0, 1);
    assert!(told[2].1.starts_with("shutdown: "), "{}", told[2].1);
    // Nobody came to that one.
    assert!((&mut unstarted).now_or_never().is_none());
    for (node, told) in [a, b].iter().zip(&told) {
        assert_eq!(&notice(node.monitor()).await, told, "already gone");
    }
}

#[tokio::test(start_paused = true)]
async fn life_9_a_restart_that_fails_is_an_end_of_its_own() {
    let scope = Scope::new("t");
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let spec = ChildSpec::from_fn("a", ChildKind::Worker, move |context: StartContext| {
        let fails = switch.swap(false, SeqCst);
        async move {
            if fails {
                return Err(StartError::new(ExitReason::failed("no paper")));
            }
            Ok(Started::from(context.spawn(Puppet, ()).await?))
        }
    });
    let root = start_in(&scope, generous().child(spec)).await.unwrap();
    let node = root.node().child("a").unwrap();
    let first = node.current().unwrap();
    let monitor = node.monitor();
    broken.store(true, SeqCst);
    first.kill();
    first.ended().await;
    // The second start fails, the third does not.
    assert_eq!(node.running().await.number(), 3);
    assert_eq!(notice(monitor).await, (1, "killed".to_owned()));
    let ends: Vec<_> = node.history().iter().map(|it| it.incarnation).collect();
    assert_eq!(ends, [1, 2]);
    assert!(node.monitor().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn life_9_a_start_that_is_given_up_with_its_supervisor_gives_notice() {
    let scope = Scope::new("t");
    let root = start_in(&scope, generous().child(puppet("b")))
        .await
        .unwrap();
    let call = tokio::spawn({
        let root = root.clone();
        async move { root.start_child(endless("a")).await }
    });
    rest().await;
    let node = root.node().child("a").unwrap();
    let mut monitor = node.monitor();
    assert!((&mut monitor).now_or_never().is_none());
    root.kill();
    assert_eq!(notice(monitor).await, (1, "killed".to_owned()));
    call.await.unwrap().unwrap_err();
    assert_eq!(node.history().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn life_9_a_start_of_a_root_that_is_given_up_gives_notice() {
    let scope = Scope::new("t");
    let monitor = scope.root().monitor();
    let children = generous().child(puppet("a")).child(endless("b"));
    let start = start_in(&scope, children);
    assert!(tokio::time::timeout(SECOND, start).await.is_err());
    assert_eq!(notice(monitor).await, (1, "killed".to_owned()));
    assert_eq!(scope.root().history().len(), 1);
}

/// Starts the actor at once and never says so.
fn silent() -> ChildTemplate<()> {
    ChildTemplate::from_fn("silent", ChildKind::Worker, |context, _: Arc<()>| async {
        let _child = context.spawn(Puppet, ()).await?;
        std::future::pending().await
    })
}

#[tokio::test(start_paused = true)]
async fn life_9_a_start_that_is_terminated_gives_one_notice() {
    let never = ChildTemplate::from_fn("never", ChildKind::Worker, |_, _: Arc<()>| {
        std::future::pending::<Result<Started, StartError>>()
    });
    for template in [never, silent()] {
        let scope = Scope::new("t");
        let supervisor = DynamicSupervisor::builder(template)
            .concurrent_starts(true)
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        let call = tokio::spawn({
            let supervisor = supervisor.clone();
            async move { supervisor.start_child_named("a", ()).await }
        });
        rest().await;
        let node = supervisor.node().child("a").unwrap();
        let mut monitor = node.monitor();
        assert!((&mut monitor).now_or_never().is_none());
        supervisor.terminate_child_named("a").await.unwrap();
        let (number, reason) = notice(monitor).await;
        // Killed, or asked to stop when it was up already.
        assert_eq!(number, 1, "{reason}");
        call.await.unwrap().unwrap_err();
        rest().await;
        assert_eq!(node.history().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn life_8_a_dynamic_child_is_watched_as_one_run() {
    let template = ChildTemplate::worker("puppet", |(): &()| (Puppet, ()));
    let supervisor = DynamicSupervisor::builder(template)
        .build()
        .unwrap()
        .start("t")
        .await
        .unwrap();
    let child = supervisor.start_child(()).await.unwrap();
    let before = child.monitor();
    child.incarnation().kill();
    assert_eq!(notice(before).await, (1, "killed".to_owned()));
    assert_eq!(child.node().running().await.number(), 2);
    // The place is taken by the successor, the handle still stands for the run that is over.
    assert_eq!(notice(child.monitor()).await, (1, "killed".to_owned()));
    assert!(child.node().monitor().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn event_1_a_supervisor_goes_on_restarting_whatever_a_subscriber_does_not_read() {
    const RESTARTS: u64 = 3_000;
    let scope = Scope::new("t");
    let mut idle = scope.events().subscribe();
    // This one has waited once, and then never reads again.
    let mut waited = scope.events().subscribe();
    assert!(waited.next().now_or_never().is_none());
    let root = start_in(&scope, generous().child(puppet("a")))
        .await
        .unwrap();
    let node = root.node().child("a").unwrap();
    for number in 1..=RESTARTS {
        let run = node.running().await;
        assert_eq!(run.number(), number);
        run.actor_ref::<Order>()
            .unwrap()
            .cast(Order::Fail("broken"))
            .unwrap();
        run.ended().await;
        root.count_children().await.unwrap();
    }
    assert_eq!(node.restarts(), RESTARTS);
    // Two starts, and three events for each crash: its end, the report, the restart.
    let emitted = 2 + 3 * RESTARTS;
    for events in [&mut idle, &mut waited] {
        let missed = events.next_ready().unwrap().unwrap_err();
        let read = std::iter::from_fn(|| events.next_ready()).map(|it| it.unwrap().seq);
        let read: Vec<_> = read.collect();
        assert_eq!(read, (missed.count..emitted).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_9_no_failed_start_is_missed_by_those_who_begin_to_watch_meanwhile() {
    for _ in 0..300 {
        let scope = Scope::new("t");
        let node = place(&scope, "a");
        let begin = Arc::new(Barrier::new(3));
        let watchers = [(); 2].map(|()| {
            let (node, begin) = (Arc::clone(&node), Arc::clone(&begin));
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                begin.wait();
                runtime.block_on(async { notice(node.monitor()).await })
            })
        });
        let waits = Arc::clone(&begin);
        let spec = ChildSpec::from_fn("a", ChildKind::Worker, move |_: StartContext| {
            waits.wait();
            std::future::ready(Err::<Started, _>(StartError::new(ExitReason::failed(
                "no paper",
            ))))
        });
        let builder = generous().child(spec);
        let started = tokio::spawn(async move { start_in(&scope, builder).await });
        for watcher in watchers {
            assert_eq!(watcher.await.unwrap(), (1, "failed: no paper".to_owned()));
        }
        started.await.unwrap().unwrap_err();
    }
}
