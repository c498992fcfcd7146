//! The rules that users lean on most, one by one; the recordings of OTP's own supervisor check the rest.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use perennial_lifecycle::{
    ChildKind, ChildSpec, EventKind, Events, ExitReason, Incarnation, Scope, Shutdown, StartError,
    Started,
};
use perennial_supervisor::{
    AutoShutdown, RestartIntensity, StartChildError, Strategy, Supervisor, SupervisorBuilder,
    SupervisorSpecError,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// An actor that writes its start and its end into a journal.
struct Diarist;

type Diary = (String, Journal<String>);

impl Actor for Diarist {
    type Msg = Order;
    type State = Diary;
    type Arguments = Diary;
    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        diary: Diary,
    ) -> Result<Diary, ActorProcessingErr> {
        diary.1.push(format!("+{}", diary.0));
        Ok(diary)
    }
    async fn handle(
        &self,
        _: ActorRef<Order>,
        order: Order,
        _: &mut Diary,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail(text) => Err(text.into()),
            Order::Panic(text) => panic!("{text}"),
            Order::Hang => std::future::pending().await,
            _ => Ok(()),
        }
    }
    async fn post_stop(
        &self,
        _: ActorRef<Order>,
        diary: &mut Diary,
    ) -> Result<(), ActorProcessingErr> {
        diary.1.push(format!("-{}", diary.0));
        Ok(())
    }
}

fn diarist(id: &str, journal: &Journal<String>) -> ChildSpec {
    let diary = (id.to_owned(), journal.clone());
    ChildSpec::worker(id, move || (Diarist, diary.clone()))
}

fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(100, SECOND))
}

async fn start(builder: SupervisorBuilder) -> Supervisor {
    builder.build().unwrap().start("t").await.unwrap()
}

fn run(supervisor: &Supervisor, id: &str) -> Arc<Incarnation> {
    supervisor.node().child(id).unwrap().current().unwrap()
}

fn order(supervisor: &Supervisor, id: &str, order: Order) -> Arc<Incarnation> {
    let run = run(supervisor, id);
    assert!(run.actor_ref().unwrap().send_message(order).is_ok());
    run
}

/// Answered behind everything that the supervisor was told before.
async fn settled(supervisor: &Supervisor) {
    supervisor.count_children().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sup_1_children_start_in_order_and_stop_in_reverse() {
    let journal = Journal::new();
    let children = ["a", "b", "c"].map(|id| diarist(id, &journal));
    let supervisor = start(Supervisor::builder().children(children)).await;
    supervisor.stop(ExitReason::Shutdown).await;
    assert_eq!(journal.entries(), ["+a", "+b", "+c", "-c", "-b", "-a"]);
    assert!(supervisor.count_children().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn sup_2_a_start_that_fails_is_rolled_back_and_names_the_child() {
    let journal = Journal::new();
    let failing = ChildSpec::from_fn("b", ChildKind::Worker, |_| async {
        Err(StartError::new(ExitReason::failed("no database")))
    });
    let spec = Supervisor::builder()
        .child(diarist("a", &journal))
        .child(failing)
        .child(diarist("c", &journal))
        .build()
        .unwrap();
    let error = spec.start("t").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "start failed: child `b` failed to start: failed: no database"
    );
    assert_eq!(journal.entries(), ["+a", "-a"]);
}

#[tokio::test(start_paused = true)]
async fn sup_2_a_start_that_fails_far_below_says_where_and_why_once() {
    let failing = ChildSpec::from_fn("bank", ChildKind::Worker, |_| async {
        Err(StartError::failed("no database"))
    });
    let inner = Supervisor::builder().child(failing).build().unwrap();
    let middle = Supervisor::builder().child(inner.into_child("books"));
    let middle = middle.build().unwrap();
    let outer = Supervisor::builder().child(middle.into_child("host"));
    let error = outer.build().unwrap().start("t").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "start failed: child `host/books/bank` failed to start: failed: no database"
    );
}

#[tokio::test(start_paused = true)]
async fn sup_3_restart_types_follow_the_exit_reason() {
    let supervisor = start(
        generous()
            .child(ChildSpec::worker("permanent", || (Puppet, ())))
            .child(ChildSpec::worker("transient", || (Puppet, ())).transient())
            .child(ChildSpec::worker("temporary", || (Puppet, ())).temporary()),
    )
    .await;
    for id in ["permanent", "transient", "temporary"] {
        order(&supervisor, id, Order::Stop).ended().await;
    }
    settled(&supervisor).await;
    let node = |id| supervisor.node().child(id);
    assert_eq!(node("permanent").unwrap().restarts(), 1);
    assert!(node("transient").unwrap().current().is_none());
    assert!(node("temporary").is_none());

    supervisor.restart_child("transient").await.unwrap();
    order(&supervisor, "transient", Order::Panic("bang"))
        .ended()
        .await;
    settled(&supervisor).await;
    assert_eq!(node("transient").unwrap().restarts(), 1);
}

#[tokio::test(start_paused = true)]
async fn sup_4_strategies_choose_who_shares_the_fate() {
    for (strategy, expected) in [
        (Strategy::OneForOne, vec!["+b"]),
        (Strategy::OneForAll, vec!["-c", "-a", "+a", "+b", "+c"]),
        (Strategy::RestForOne, vec!["-c", "+b", "+c"]),
    ] {
        let journal = Journal::new();
        let children = ["a", "b", "c"].map(|id| diarist(id, &journal));
        let supervisor = start(generous().strategy(strategy).children(children)).await;
        order(&supervisor, "b", Order::Fail("broken")).ended().await;
        settled(&supervisor).await;
        assert_eq!(journal.entries()[3..], expected, "{strategy:?}");
        supervisor.stop(ExitReason::Shutdown).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sup_5_too_many_restarts_within_the_window_end_the_supervisor() {
    let journal = Journal::new();
    let supervisor = start(
        Supervisor::builder()
            .intensity(RestartIntensity::new(2, SECOND))
            .child(diarist("a", &journal))
            .child(diarist("b", &journal)),
    )
    .await;
    for _ in 0..2 {
        order(&supervisor, "b", Order::Fail("broken")).ended().await;
        settled(&supervisor).await;
    }
    // The window slides: once the two have left it there is room again.
    tokio::time::advance(SECOND + Duration::from_millis(1)).await;
    for _ in 0..2 {
        order(&supervisor, "b", Order::Fail("broken")).ended().await;
        settled(&supervisor).await;
    }
    let last = order(&supervisor, "b", Order::Fail("broken"));
    let gave_up = supervisor.incarnation().unwrap();
    last.ended().await;
    assert!(matches!(gave_up.ended().await, ExitReason::Shutdown));
    assert_eq!(journal.entries().last().unwrap(), "-a");
}

#[tokio::test(start_paused = true)]
async fn sup_6_a_failed_restart_is_tried_again_behind_what_waits() {
    let broken = Arc::new(AtomicBool::new(false));
    let attempts = Arc::new(AtomicU32::new(0));
    let spec = {
        let (broken, attempts) = (Arc::clone(&broken), Arc::clone(&attempts));
        ChildSpec::from_fn("a", ChildKind::Worker, move |context| {
            let (broken, attempts) = (Arc::clone(&broken), Arc::clone(&attempts));
            async move {
                if broken.load(SeqCst) {
                    // The database is back at the third attempt.
                    broken.store(attempts.fetch_add(1, SeqCst) < 2, SeqCst);
                    return Err(StartError::new(ExitReason::failed("no database")));
                }
                Ok(Started::from(context.spawn(Puppet, ()).await?))
            }
        })
    };
    let supervisor = start(generous().child(spec)).await;
    broken.store(true, SeqCst);
    let node = supervisor.node().child("a").unwrap();
    let first = run(&supervisor, "a");
    first.kill();
    first.ended().await;
    let back = node.running().await;
    assert_eq!((attempts.load(SeqCst), back.number()), (3, 5));
    let last = node.last_end().unwrap();
    assert_eq!(last.reason.to_string(), "failed: no database");
    settled(&supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn sup_7_a_child_that_does_not_stop_in_time_is_killed() {
    let supervisor = start(
        Supervisor::builder()
            .child(ChildSpec::worker("slow", || (Puppet, ())).shutdown(Shutdown::Within(SECOND)))
            .child(ChildSpec::worker("brutal", || (Puppet, ())).shutdown(Shutdown::BrutalKill)),
    )
    .await;
    let began = tokio::time::Instant::now();
    let brutal = order(&supervisor, "brutal", Order::Hang);
    let slow = order(&supervisor, "slow", Order::Hang);
    supervisor.stop(ExitReason::Shutdown).await;
    assert!(matches!(brutal.ended().await, ExitReason::Killed));
    assert!(matches!(slow.ended().await, ExitReason::Killed));
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn sup_8_children_of_a_killed_supervisor_stop_in_order_and_come_back() {
    let journal = Journal::new();
    let nested = generous()
        .child(diarist("a", &journal))
        .build()
        .unwrap()
        .into_child("nested");
    let supervisor = start(generous().child(nested)).await;
    let place = supervisor.node().child("nested").unwrap();
    place.current().unwrap().kill();
    assert_eq!(journal.wait_for(3).await, ["+a", "-a", "+a"]);
    settled(&supervisor).await;
    assert_eq!(place.restarts(), 1);
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
        tokio::time::sleep(20 * SECOND).await;
        Ok(())
    }
}

fn slow(id: &str, shutdown: Shutdown) -> ChildSpec {
    ChildSpec::worker(id, || (SlowStop, ())).shutdown(shutdown)
}

#[tokio::test(start_paused = true)]
async fn children_keep_their_order_while_their_supervisor_starts_them_again() {
    let (starts, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let slow = {
        let (starts, gate) = (Arc::clone(&starts), Arc::clone(&gate));
        ChildSpec::from_fn("b", ChildKind::Worker, move |_| {
            let (is_first, gate) = (starts.fetch_add(1, SeqCst) == 0, Arc::clone(&gate));
            async move {
                if !is_first {
                    gate.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(Started::Ignored)
            }
        })
    };
    let declines = |id: &str| {
        let start = |_| async { Ok(Started::Ignored) };
        ChildSpec::from_fn(id, ChildKind::Worker, start)
    };
    let builder = Supervisor::builder().child(declines("a")).child(slow);
    let nested = builder.child(declines("c")).build().unwrap();
    let root = Supervisor::builder().child(nested.into_child("s"));
    let root = root.build().unwrap().start("t").await.unwrap();
    let place = root.node().child("s").unwrap();
    let order = || {
        let children = place.children();
        let ids = children.iter().map(|it| it.path().id().to_owned());
        ids.collect::<String>()
    };
    Supervisor::at(&place)
        .unwrap()
        .delete_child("a")
        .await
        .unwrap();
    assert_eq!(order(), "bc");

    place.current().unwrap().kill();
    gate.notified().await;
    // It has come to the second child, and never comes to the third.
    assert_eq!(order(), "abc");
}

#[tokio::test(start_paused = true)]
async fn sup_8_a_child_of_a_killed_supervisor_has_as_long_for_its_stop_as_its_spec_says() {
    for (shutdown, took) in [
        (Shutdown::Infinity, 20 * SECOND),
        (Shutdown::Within(30 * SECOND), 20 * SECOND),
        (Shutdown::Within(10 * SECOND), 10 * SECOND),
        (Shutdown::BrutalKill, 5 * SECOND),
    ] {
        let nested = Supervisor::builder().child(slow("w", shutdown));
        let nested = nested.build().unwrap().into_child("nested");
        let supervisor = start(generous().child(nested)).await;
        let place = supervisor.node().child("nested").unwrap();
        let child = place.child("w").unwrap();
        let (first, began) = (child.current().unwrap(), Instant::now());
        place.current().unwrap().kill();
        first.ended().await;
        assert_eq!(child.running().await.number(), 2);
        assert_eq!(began.elapsed(), took);
        supervisor.stop(ExitReason::Shutdown).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sup_8_a_child_that_was_added_is_seen_until_it_has_ended_and_no_other_runs_beside_it() {
    let nested = Supervisor::builder().build().unwrap().into_child("nested");
    let supervisor = start(generous().child(nested)).await;
    let place = supervisor.node().child("nested").unwrap();
    let nested = Supervisor::at(&place).unwrap();
    for id in ["a", "b"] {
        let added = slow(id, Shutdown::Infinity);
        nested.start_child(added).await.unwrap();
    }
    let first = place.child("a").unwrap().current().unwrap();
    let killed = place.current().unwrap();
    killed.kill();
    killed.ended().await;
    settled(&supervisor).await;
    assert_eq!(place.running().await.number(), 2);
    assert!(nested.which_children().await.unwrap().is_empty());
    let left = place.children();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|it| it.is_occupied() && it.is_retired()));

    let began = Instant::now();
    nested
        .start_child(slow("a", Shutdown::Infinity))
        .await
        .unwrap();
    assert!(first.has_ended());
    assert_eq!(began.elapsed(), 20 * SECOND);
    let child = place.child("a").unwrap();
    assert_eq!(
        (child.current().unwrap().number(), child.is_retired()),
        (2, false)
    );
    // What is empty goes with the next call.
    assert_eq!(nested.which_children().await.unwrap().len(), 1);
    assert_eq!(place.children().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn sup_9_the_end_of_a_significant_child_can_end_the_supervisor() {
    let supervisor = start(
        Supervisor::builder()
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(
                ChildSpec::worker("job", || (Puppet, ()))
                    .transient()
                    .significant(true),
            ),
    )
    .await;
    let whole = supervisor.incarnation().unwrap();
    order(&supervisor, "job", Order::Stop);
    assert!(matches!(whole.ended().await, ExitReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn sup_10_a_start_function_that_panics_harms_nobody_else() {
    let supervisor = start(generous().child(ChildSpec::worker("a", || (Puppet, ())))).await;
    let panics = ChildSpec::from_fn("b", ChildKind::Worker, |_| async { panic!("no paper") });
    let error = supervisor.start_child(panics).await.unwrap_err();
    assert!(
        matches!(&error, StartChildError::Failed(failed) if matches!(failed.reason, ExitReason::Panicked { .. })),
        "{error}"
    );
    assert_eq!(supervisor.count_children().await.unwrap().active, 1);
}

/// What is thrown, and panics once more when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("and once more");
    }
}

#[tokio::test(start_paused = true)]
async fn sup_10_what_a_start_function_throws_may_panic_itself() {
    let supervisor = start(generous().child(ChildSpec::worker("a", || (Puppet, ())))).await;
    let in_future = ChildSpec::from_fn("b", ChildKind::Worker, |_| async { panic_any(Grenade) });
    let in_factory = ChildSpec::worker("b", || -> (Puppet, ()) { panic_any(Grenade) });
    for spec in [in_future, in_factory] {
        let error = supervisor.start_child(spec).await.unwrap_err();
        assert!(
            matches!(&error, StartChildError::Failed(failed) if matches!(failed.reason, ExitReason::Panicked { .. })),
            "{error}"
        );
    }
    assert_eq!(supervisor.count_children().await.unwrap().active, 1);
    assert_eq!(supervisor.node().restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn sup_11_bad_specs_are_refused_when_they_are_built() {
    let worker = |id: &str| ChildSpec::worker(id, || (Puppet, ()));
    let refused = |builder: SupervisorBuilder| builder.build().unwrap_err();
    let twice = refused(Supervisor::builder().child(worker("a")).child(worker("a")));
    assert!(matches!(twice, SupervisorSpecError::DuplicateChild { ref id } if id == "a"));
    let slash = refused(Supervisor::builder().child(worker("a/b")));
    assert_eq!(
        slash.to_string(),
        "child `a/b`: id must not be empty or contain `/`"
    );
    let idle = refused(Supervisor::builder().child(worker("a").transient().significant(true)));
    assert!(matches!(
        idle,
        SupervisorSpecError::SignificantWithoutAutoShutdown { ref id } if id == "a"
    ));
}

#[tokio::test(start_paused = true)]
async fn sup_12_events_tell_the_story_in_order() {
    let supervisor = start(generous().child(ChildSpec::worker("a", || (Puppet, ())))).await;
    let node = supervisor.node().child("a").unwrap();
    order(&supervisor, "a", Order::Fail("broken")).ended().await;
    node.running().await;
    supervisor.bounce_child("a").await.unwrap();
    settled(&supervisor).await;
    let history: Vec<String> = node
        .history()
        .iter()
        .map(|it| it.reason.to_string())
        .collect();
    assert_eq!(history, ["failed: broken", "shutdown"]);
    assert_eq!(node.restarts(), 1);
    assert_eq!(node.current().unwrap().number(), 3);
}

/// Says what it handles, and fails with it. All runs but the first and the last send themselves a message.
struct Hasty(u32, Scope);

impl Actor for Hasty {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        if (2..4).contains(&self.0) {
            myself.send_message(())?;
        }
        Ok(())
    }
    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        let (source, text) = ("it", "hurries".into());
        let events = self.1.events();
        events.emit(self.1.root().path(), EventKind::Noted { source, text });
        Err("hasty".into())
    }
}

/// Reads events as text, up to one.
async fn story(events: &mut Events, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|it| it != last) {
        let event = events.next().await.unwrap().unwrap();
        seen.push(format!("{} {}", event.path, event.kind));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn sup_12_a_restart_is_told_before_what_the_run_does_and_how_it_ends() {
    let scope = Scope::new("t");
    let mut live = scope.events().subscribe();
    let (runs, known) = (AtomicU32::new(0), scope.clone());
    let child = ChildSpec::worker("a", move || {
        (Hasty(runs.fetch_add(1, SeqCst) + 1, known.clone()), ())
    });
    let supervisor = generous().child(child).build().unwrap();
    let supervisor = supervisor.start_in(&scope).await.unwrap();
    let first = supervisor.node().child("a").unwrap().current().unwrap();
    first.actor_ref::<()>().unwrap().send_message(()).unwrap();
    let seen = story(&mut live, "t/a restarted as #4 (restart 3)").await;
    assert_eq!(
        seen[2..],
        [
            "t it: hurries",
            "t/a exited #1: failed: hasty",
            "t child_terminated a: failed: hasty",
            "t/a restarted as #2 (restart 1)",
            "t it: hurries",
            "t/a exited #2: failed: hasty",
            "t child_terminated a: failed: hasty",
            "t/a restarted as #3 (restart 2)",
            "t it: hurries",
            "t/a exited #3: failed: hasty",
            "t child_terminated a: failed: hasty",
            "t/a restarted as #4 (restart 3)",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn sup_12_a_restart_is_told_before_the_end_of_a_run_that_never_had_its_turn() {
    let scope = Scope::new("t");
    let mut live = scope.events().subscribe();
    let (runs, is_up) = (AtomicU32::new(0), Arc::new(Notify::new()));
    let bell = Arc::clone(&is_up);
    let child = ChildSpec::worker("a", move || {
        if runs.fetch_add(1, SeqCst) == 1 {
            // Whoever waits for it is ready before the actor is.
            bell.notify_one();
        }
        (Puppet, ())
    });
    let supervisor = generous().child(child).build().unwrap();
    let supervisor = supervisor.start_in(&scope).await.unwrap();
    let node = supervisor.node().child("a").unwrap();
    let place = Arc::clone(&node);
    tokio::spawn(async move {
        is_up.notified().await;
        place.current().unwrap().kill();
    });
    settled(&supervisor).await;
    order(&supervisor, "a", Order::Fail("broken")).ended().await;
    let seen = story(&mut live, "t/a restarted as #3 (restart 2)").await;
    assert_eq!(
        seen[2..],
        [
            "t/a exited #1: failed: broken",
            "t child_terminated a: failed: broken",
            "t/a restarted as #2 (restart 1)",
            "t/a exited #2: killed",
            "t child_terminated a: killed",
            "t/a restarted as #3 (restart 2)",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn events_reach_a_subscriber_and_are_remembered() {
    let scope = Scope::new("t");
    let mut live = scope.events().subscribe();
    let supervisor = generous()
        .child(ChildSpec::worker("a", || (Puppet, ())))
        .build()
        .unwrap()
        .start_in(&scope)
        .await
        .unwrap();
    order(&supervisor, "a", Order::Panic("bang")).ended().await;
    settled(&supervisor).await;
    let mut seen = Vec::new();
    while let Some(event) = live.next_ready() {
        let event = event.unwrap();
        seen.push(format!("{} {}", event.path, event.kind));
    }
    assert_eq!(
        seen,
        [
            "t/a started #1",
            "t started #1",
            "t/a exited #1: panicked: bang",
            "t child_terminated a: panicked: bang",
            "t/a restarted as #2 (restart 1)",
        ]
    );
    let remembered = scope.events().recent();
    assert_eq!(remembered.len(), seen.len());
    assert!(matches!(
        remembered[0].kind,
        EventKind::Started { incarnation: 1 }
    ));
}
