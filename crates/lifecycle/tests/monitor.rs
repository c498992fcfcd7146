//! Notices of an end: one each, of the right run, whenever the monitor was made.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use perennial_lifecycle::{
    ChildKey, ChildState, Down, ExitReason, Incarnation, Monitor, Node, ParentLink, Scope,
    StartContext, StartError, WallTime,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

struct NoParent(Scope);

impl ParentLink for NoParent {
    fn scope(&self) -> &Scope {
        &self.0
    }

    fn child_ended(&self, _: ChildKey, _: Arc<Incarnation>, _: WallTime) {}
}

fn place(scope: &Scope, id: &str) -> Arc<Node> {
    scope.root().child_or_insert(id)
}

/// Starts an actor as a supervisor does.
async fn start<A: Actor<Arguments = ()>>(
    scope: &Scope,
    node: &Arc<Node>,
    actor: A,
) -> Result<Arc<Incarnation>, StartError> {
    node.set_state(ChildState::Starting);
    let context = StartContext::new(Arc::clone(node), Arc::new(NoParent(scope.clone())), 1, None);
    let number = context.incarnation();
    match context.spawn(actor, ()).await {
        Ok(child) => Ok(child.adopt().unwrap()),
        Err(error) => {
            node.note_failed_start(number, &error.reason);
            node.set_state(ChildState::Stopped);
            Err(error)
        }
    }
}

async fn run(scope: &Scope, node: &Arc<Node>) -> Arc<Incarnation> {
    start(scope, node, Puppet).await.unwrap()
}

fn send(run: &Incarnation, order: Order) {
    run.actor_ref().unwrap().send_message(order).unwrap();
}

/// The notice in short; the monitor must have nothing more to say.
async fn notice(mut monitor: Monitor) -> (u64, String) {
    assert!(!monitor.is_terminated());
    let down = (&mut monitor).await;
    assert!(monitor.is_terminated());
    assert!((&mut monitor).now_or_never().is_none(), "a second notice");
    assert_eq!(down.path, *monitor.path());
    (down.incarnation, down.reason.to_string())
}

#[tokio::test]
async fn life_7_every_way_out_gives_each_monitor_one_notice() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    type End = fn(&Incarnation);
    let ends: [(End, &str); 6] = [
        (|run| send(run, Order::Stop), "normal"),
        (|run| run.stop(ExitReason::Shutdown), "shutdown"),
        (|run| send(run, Order::Fail("broken")), "failed: broken"),
        (|run| send(run, Order::Panic("bang")), "panicked: bang"),
        (Incarnation::kill, "killed"),
        (|run| run.cell().kill(), "killed"),
    ];
    for (number, (end, reason)) in (1..).zip(ends) {
        let run = run(&scope, &node).await;
        let monitors = [node.monitor(), node.monitor(), node.monitor_run(&run)];
        // One that is given up is made again.
        drop(node.monitor());
        let again = node.monitor();
        end(&run);
        let expected = (number, reason.to_owned());
        for monitor in monitors.into_iter().chain([again]) {
            assert_eq!(notice(monitor).await, expected);
        }
        // It has ended by now.
        assert_eq!(notice(node.monitor()).await, expected);
        assert_eq!(notice(node.monitor_run(&run)).await, expected);
    }
}

#[test]
fn life_7_an_actor_whose_task_was_cancelled_gives_notice() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let runtime = build();
    let run = runtime.block_on(run(&scope, &node));
    let mut monitors = [node.monitor(), node.monitor_run(&run)];
    for monitor in &mut monitors {
        assert!(runtime.block_on(async { monitor.now_or_never() }).is_none());
    }
    drop(runtime);
    for monitor in monitors {
        assert_eq!(build().block_on(notice(monitor)), (1, "killed".to_owned()));
    }
}

#[tokio::test]
async fn life_8_a_monitor_tells_of_one_run_only() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    let first = run(&scope, &node).await;
    let of_first = [node.monitor(), node.monitor_run(&first)];
    send(&first, Order::Fail("one"));
    first.ended().await;
    let between = node.monitor();
    let second = run(&scope, &node).await;
    let mut of_second = node.monitor();
    // The first ended before anybody asked; the second one's life changes nothing.
    for monitor in of_first
        .into_iter()
        .chain([between, node.monitor_run(&first)])
    {
        assert_eq!(notice(monitor).await, (1, "failed: one".to_owned()));
    }
    assert!((&mut of_second).now_or_never().is_none());
    send(&second, Order::Fail("two"));
    assert_eq!(notice(of_second).await, (2, "failed: two".to_owned()));
    // Longer ago than the place remembers.
    for _ in 0..10 {
        let run = run(&scope, &node).await;
        run.kill();
        run.ended().await;
    }
    assert_eq!(
        notice(node.monitor_run(&first)).await,
        (1, "failed: one".to_owned())
    );
    assert_eq!(notice(node.monitor()).await.0, 12);
}

#[tokio::test]
async fn life_8_a_monitor_of_an_empty_place_tells_of_its_first_run() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    let mut polled = node.monitor();
    assert!((&mut polled).now_or_never().is_none());
    let [late, later] = [node.monitor(), node.monitor()];
    let first = run(&scope, &node).await;
    assert!((&mut polled).now_or_never().is_none());
    first.kill();
    first.ended().await;
    let second = run(&scope, &node).await;
    // Not polled before the first run was gone and the second there.
    assert_eq!(notice(late).await, (1, "killed".to_owned()));
    assert_eq!(notice(polled).await, (1, "killed".to_owned()));
    assert!(node.monitor().now_or_never().is_none());
    second.kill();
    second.ended().await;
    assert_eq!(notice(later).await, (1, "killed".to_owned()));
}

#[tokio::test]
async fn life_8_a_monitor_of_an_empty_place_tells_of_its_first_run_however_late_it_is_polled() {
    for first_start_fails in [false, true] {
        let scope = Scope::new("t");
        let node = place(&scope, "a");
        let monitor = node.monitor();
        let expected = if first_start_fails {
            let (say, go) = oneshot::channel();
            say.send("fail").unwrap();
            let slow = Slow(std::sync::Mutex::new(Some(go)));
            start(&scope, &node, slow).await.unwrap_err();
            "failed: no licence"
        } else {
            let run = run(&scope, &node).await;
            send(&run, Order::Fail("broken"));
            run.ended().await;
            "failed: broken"
        };
        // More than the place remembers.
        for _ in 0..20 {
            let run = run(&scope, &node).await;
            run.kill();
            run.ended().await;
        }
        assert!(node.history()[0].incarnation > 1);
        assert_eq!(notice(monitor).await, (1, expected.to_owned()));
    }
}

/// Waits in its start until it is told how to end it.
struct Slow(std::sync::Mutex<Option<oneshot::Receiver<&'static str>>>);

impl Actor for Slow {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        let go = self.0.lock().unwrap().take();
        match go.unwrap().await? {
            "fail" => Err("no licence".into()),
            "panic" => panic!("no luck"),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn life_9_a_start_that_fails_or_panics_gives_notice() {
    for (how, reason) in [
        ("fail", "failed: no licence"),
        ("panic", "panicked: no luck"),
    ] {
        let expected = (1, reason.to_owned());
        let scope = Scope::new("t");
        let node = place(&scope, "a");
        let before = node.monitor();
        let (go, wait) = oneshot::channel();
        let changed = node.changed();
        let starting = tokio::spawn({
            let (scope, node) = (scope.clone(), Arc::clone(&node));
            async move { start(&scope, &node, Slow(Some(wait).into())).await }
        });
        changed.await;
        assert_eq!(node.state(), ChildState::Starting);
        let mut during = node.monitor();
        assert!((&mut during).now_or_never().is_none());
        go.send(how).unwrap();
        assert_eq!(notice(during).await, expected);
        assert_eq!(notice(before).await, expected);
        assert!(starting.await.unwrap().is_err());
        let after = node.monitor();
        assert_eq!(notice(after).await, expected);
        // While it is started again, the last end is still the one that failed.
        node.set_state(ChildState::Starting);
        assert_eq!(notice(node.monitor()).await, expected);
    }
}

/// Makes a monitor and waits for its notice at the same time as others do other things.
fn watcher(
    begin: &Arc<Barrier>,
    make: impl FnOnce() -> Monitor + Send + 'static,
) -> tokio::task::JoinHandle<(u64, String)> {
    let begin = Arc::clone(begin);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        begin.wait();
        let wait = async { tokio::time::timeout(Duration::from_secs(30), notice(make())).await };
        runtime.block_on(wait).expect("no notice")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_7_monitors_made_at_the_moment_of_the_end_give_one_notice_each() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    for number in 1..=400 {
        let run = run(&scope, &node).await;
        let begin = Arc::new(Barrier::new(4));
        let expected = if number % 2 == 0 {
            "killed"
        } else {
            "failed: now"
        };
        let watchers: Vec<_> = [true, true, false]
            .map(|by_place| {
                let (node, run) = (Arc::clone(&node), Arc::clone(&run));
                watcher(&begin, move || match by_place {
                    true => node.monitor(),
                    false => node.monitor_run(&run),
                })
            })
            .into();
        let early = node.monitor();
        let ender = Arc::clone(&run);
        let end = tokio::task::spawn_blocking(move || {
            begin.wait();
            match number % 2 {
                0 => ender.kill(),
                _ => send(&ender, Order::Fail("now")),
            }
        });
        for watcher in watchers {
            assert_eq!(watcher.await.unwrap(), (number, expected.to_owned()));
        }
        assert_eq!(notice(early).await, (number, expected.to_owned()));
        end.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_9_monitors_made_during_a_first_start_give_one_notice_each() {
    let scope = Scope::new("t");
    for round in 0..400 {
        let node = place(&scope, &round.to_string());
        let begin = Arc::new(Barrier::new(4));
        let watchers: Vec<_> = (0..3)
            .map(|_| {
                let node = Arc::clone(&node);
                watcher(&begin, move || node.monitor())
            })
            .collect();
        let runtime = tokio::runtime::Handle::current();
        let (scope, starts) = (scope.clone(), Arc::clone(&node));
        let starter = tokio::task::spawn_blocking(move || {
            begin.wait();
            runtime.block_on(async {
                if round % 2 == 0 {
                    let (go, wait) = oneshot::channel();
                    go.send("fail").unwrap();
                    let failed = start(&scope, &starts, Slow(Some(wait).into())).await;
                    assert!(failed.is_err());
                } else {
                    run(&scope, &starts).await.kill();
                }
            });
        });
        let expected = if round % 2 == 0 {
            "failed: no licence"
        } else {
            "killed"
        };
        for watcher in watchers {
            assert_eq!(watcher.await.unwrap(), (1, expected.to_owned()));
        }
        starter.await.unwrap();
    }
}

/// Notes the notices that it is sent, and stops at a message without one.
struct Receiver;

impl Actor for Receiver {
    type Msg = Option<Down>;
    type State = Journal<String>;
    type Arguments = Journal<String>;

    async fn pre_start(
        &self,
        _: ActorRef<Option<Down>>,
        journal: Journal<String>,
    ) -> Result<Journal<String>, ActorProcessingErr> {
        Ok(journal)
    }

    async fn handle(
        &self,
        myself: ActorRef<Option<Down>>,
        down: Option<Down>,
        journal: &mut Journal<String>,
    ) -> Result<(), ActorProcessingErr> {
        match down {
            Some(down) => journal.push(down.to_string()),
            None => myself.stop(None),
        }
        Ok(())
    }
}

#[tokio::test]
async fn life_10_an_actor_gets_the_notice_as_an_ordinary_message_once() {
    let scope = Scope::new("t");
    let [a, b] = ["a", "b"].map(|id| place(&scope, id));
    let run_a = run(&scope, &a).await;
    let run_b = run(&scope, &b).await;
    let journal = Journal::new();
    let (receiver, _) = Actor::spawn(None, Receiver, journal.clone()).await.unwrap();
    // What is returned is not needed.
    drop(a.monitor().send_to(&receiver, Some));
    b.monitor().send_to(&receiver, Some);
    run_a.kill();
    assert_eq!(journal.wait_for(1).await, ["t/a #1 is down: killed"]);
    send(&run_b, Order::Fail("broken"));
    // Also of one that is gone already.
    run_b.ended().await;
    b.monitor().send_to(&receiver, Some);
    let all = journal.wait_for(3).await;
    assert_eq!(all[1..], ["t/b #1 is down: failed: broken"; 2]);
    // A monitor that has given its notice sends none.
    let mut given = a.monitor();
    assert_eq!((&mut given).await.incarnation, 1);
    let (held, over) = oneshot::channel::<()>();
    given.send_to(&receiver, move |down| {
        drop(held);
        Some(down)
    });
    over.await.unwrap_err();
    receiver.cast(None).unwrap();
    receiver.wait(None).await.unwrap();
    assert_eq!(journal.entries().len(), 3);
}

#[tokio::test]
async fn life_10_a_watch_ends_with_its_receiver_or_when_it_is_stopped() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    let run = run(&scope, &node).await;
    for stopped in [false, true] {
        let journal = Journal::new();
        let (receiver, _) = Actor::spawn(None, Receiver, journal.clone()).await.unwrap();
        // Dropped with the watch.
        let (held, over) = oneshot::channel::<()>();
        let watching = node.monitor().send_to(&receiver, move |down| {
            drop(held);
            Some(down)
        });
        tokio::task::yield_now().await;
        assert!(!watching.is_over());
        if stopped {
            watching.stop();
        } else {
            receiver.cast(None).unwrap();
        }
        over.await.unwrap_err();
        tokio::task::yield_now().await;
        assert!(watching.is_over());
        assert!(journal.entries().is_empty());
    }
    run.kill();
}

#[tokio::test]
async fn life_7_a_monitor_in_a_loop_of_selects_loses_nothing_and_fires_once() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    let run = run(&scope, &node).await;
    let mut monitor = node.monitor();
    let mut notices = 0;
    for round in 0..20 {
        if round == 10 {
            run.kill();
            run.ended().await;
        }
        tokio::select! {
            biased;
            down = &mut monitor => {
                assert_eq!((down.incarnation, round), (1, 10));
                notices += 1;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(notices, 1);
}

#[tokio::test]
async fn life_12_a_place_lists_its_monitors_until_their_notice_or_their_end() {
    let scope = Scope::new("t");
    let node = place(&scope, "a");
    let waits_for = |node: &Node| -> Vec<_> {
        let watchers = node.watchers().into_iter();
        watchers
            .inspect(|it| assert_eq!((&it.actor, it.location.file()), (&None, file!())))
            .map(|it| it.incarnation)
            .collect()
    };
    assert_eq!(waits_for(&node), []);
    let before = node.monitor();
    let first = run(&scope, &node).await;
    let of_first = node.monitor();
    drop(node.monitor());
    assert_eq!(waits_for(&node), [None, Some(1)]);

    // One goes on into the task that waits for it.
    let receiver = place(&scope, "b");
    let receiver = run(&scope, &receiver).await;
    let target = receiver.actor_ref().unwrap();
    let [stopped, ended] = [(); 2].map(|()| node.monitor().send_to(&target, |_| Order::Stop));
    assert_eq!(waits_for(&node), [None, Some(1), Some(1), Some(1)]);
    stopped.stop();
    while !stopped.is_over() {
        tokio::task::yield_now().await;
    }
    assert_eq!(waits_for(&node), [None, Some(1), Some(1)]);

    send(&first, Order::Fail("one"));
    receiver.ended().await;
    assert!(ended.is_over());
    assert_eq!(waits_for(&node), [None, Some(1)]);
    notice(before).await;
    assert_eq!(waits_for(&node), [Some(1)]);
    run(&scope, &node).await;
    let of_second = node.monitor();
    assert_eq!(waits_for(&node), [Some(1), Some(2)]);
    notice(of_first).await;
    drop(of_second);
    assert_eq!(waits_for(&node), []);
}
