//! What goes beyond OTP when a child ends: backoff, a budget of its own, quarantine, and the cause of an
//! escalation.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use perennial_lifecycle::{
    Backoff, ChildKind, ChildSpec, ChildState, ExitReason, Incarnation, Node, Quarantine, Restart,
    Scope, StartError, Started,
};
use perennial_supervisor::{
    ChildStatus, ChildTemplate, DeleteChildError, DynamicSupervisor, RestartChildError,
    RestartIntensity, ResumeChildError, Strategy, Supervisor, SupervisorBuilder,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn puppet(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Puppet, ()))
}

/// A child that does not start while the flag says so.
fn moody(id: &str) -> (ChildSpec, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&broken);
    let spec = ChildSpec::from_fn(id, ChildKind::Worker, move |context| {
        let broken = flag.load(SeqCst);
        async move {
            if broken {
                return Err(StartError::new(ExitReason::failed("no database")));
            }
            Ok(context.spawn(Puppet, ()).await?.into())
        }
    });
    (spec, broken)
}

fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(100, SECOND))
}

async fn start(builder: SupervisorBuilder) -> Supervisor {
    builder.build().unwrap().start("t").await.unwrap()
}

fn node(supervisor: &Supervisor, id: &str) -> Arc<Node> {
    supervisor.node().child(id).unwrap()
}

fn order(node: &Node, order: Order) -> Arc<Incarnation> {
    let run = node.current().unwrap();
    assert!(run.actor_ref().unwrap().send_message(order).is_ok());
    run
}

/// Crashes a child and waits until its supervisor has dealt with that.
async fn crash(supervisor: &Supervisor, id: &str) {
    order(&node(supervisor, id), Order::Fail("broken"))
        .ended()
        .await;
    settled(supervisor).await;
}

/// Answered behind everything that the supervisor was told before.
async fn settled(supervisor: &Supervisor) {
    supervisor.count_children().await.unwrap();
}

async fn status(supervisor: &Supervisor, id: &str) -> ChildStatus {
    let children = supervisor.which_children().await.unwrap();
    children
        .into_iter()
        .find(|it| *it.id == *id)
        .unwrap()
        .status
}

/// Waits until the child runs, and says after how long.
async fn back_after(node: &Node) -> Duration {
    let began = Instant::now();
    node.running().await;
    began.elapsed()
}

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

/// The number of each child's run; `None` for one that is down.
fn runs<const N: usize>(supervisor: &Supervisor, ids: [&str; N]) -> [Option<u64>; N] {
    ids.map(|id| node(supervisor, id).current().map(|run| run.number()))
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

#[tokio::test(start_paused = true)]
async fn sup_24_settings_that_cannot_work_are_refused_and_name_child_and_field() {
    let refused = |spec: ChildSpec| {
        let error = generous().child(spec).build().unwrap_err();
        error.to_string()
    };
    let backoff = |backoff: Backoff| refused(puppet("w").backoff(backoff));
    assert_eq!(
        backoff(Backoff::constant(Duration::ZERO)),
        "child `w`: backoff: the first delay must not be zero"
    );
    assert_eq!(
        backoff(Backoff::exponential(SECOND).factor(0.5)),
        "child `w`: backoff: factor must be a number of at least 1"
    );
    assert_eq!(
        backoff(Backoff::exponential(SECOND).factor(f64::NAN)),
        "child `w`: backoff: factor must be a number of at least 1"
    );
    assert_eq!(
        backoff(Backoff::linear(SECOND).cap(MS)),
        "child `w`: backoff: cap must not be shorter than the first delay"
    );
    assert_eq!(
        backoff(Backoff::linear(SECOND).jitter(1.5)),
        "child `w`: backoff: jitter must lie between 0 and 1"
    );
    let times = Quarantine::new(Backoff::constant(Duration::ZERO));
    assert_eq!(
        refused(puppet("w").quarantine(times)),
        "child `w`: quarantine: the first delay must not be zero"
    );
    assert_eq!(
        refused(puppet("w").budget(RestartIntensity::new(1, Duration::ZERO))),
        "child `w`: budget: period must not be zero"
    );
    assert_eq!(
        refused(puppet("w").watchdog(perennial_lifecycle::Watchdog::report(Duration::ZERO))),
        "child `w`: watchdog: limit must not be zero"
    );
    assert_eq!(
        refused(puppet("w").temporary().backoff(Backoff::constant(SECOND))),
        "child `w`: backoff: a temporary child is never restarted"
    );
}

#[tokio::test(start_paused = true)]
async fn dyn_21_dynamic_children_have_backoff_budget_and_quarantine_each_of_its_own() {
    for concurrent in [false, true] {
        let times = Backoff::constant(30 * SECOND);
        let template = ChildTemplate::worker("w", |(): &()| (Puppet, ()))
            .backoff(Backoff::linear(SECOND))
            .budget(RestartIntensity::new(2, 60 * SECOND))
            .quarantine(Quarantine::new(times));
        let dynamic = DynamicSupervisor::builder(template)
            .intensity(RestartIntensity::new(100, SECOND))
            .concurrent_starts(concurrent)
            .build()
            .unwrap()
            .start("t")
            .await
            .unwrap();
        let a = dynamic.start_child_named("a", ()).await.unwrap();
        dynamic.start_child_named("b", ()).await.unwrap();
        let supervisor = Supervisor::at(dynamic.node()).unwrap();
        for delay in [SECOND, 2 * SECOND, 30 * SECOND] {
            crash(&supervisor, "a").await;
            // The sibling's schedule is its own.
            assert_eq!(supervisor.count_children().await.unwrap().active, 1);
            assert_eq!(a.node().due(), Some(Instant::now() + delay));
            assert_eq!(back_after(a.node()).await, delay);
        }
        crash(&supervisor, "b").await;
        let b = node(&supervisor, "b");
        assert_eq!(back_after(&b).await, SECOND);
        // One that waits is forgotten when it is terminated.
        crash(&supervisor, "a").await;
        dynamic.terminate_child_named("a").await.unwrap();
        sleep(60 * SECOND).await;
        assert_eq!(supervisor.which_children().await.unwrap().len(), 1);
        assert!(dynamic.node().child("a").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_22_an_operator_can_bounce_resume_and_terminate_dynamic_children_by_id() {
    for concurrent in [false, true] {
        let template = ChildTemplate::worker("w", |(): &()| (Puppet, ()))
            .backoff(Backoff::constant(3600 * SECOND));
        let dynamic = DynamicSupervisor::builder(template)
            .intensity(RestartIntensity::new(100, SECOND))
            .concurrent_starts(concurrent)
            .build()
            .unwrap()
            .start("t")
            .await
            .unwrap();
        let child = dynamic.start_child_named("a", ()).await.unwrap();
        let supervisor = Supervisor::at(dynamic.node()).unwrap();
        let started = supervisor.bounce_child("a").await.unwrap();
        assert_eq!(started.incarnation, 2);
        assert!(child.incarnation().exit_reason().is_some());
        assert_eq!(child.node().restarts(), 0);
        crash(&supervisor, "a").await;
        supervisor.resume_child("a").await.unwrap();
        assert_eq!(child.node().current().unwrap().number(), 3);
        assert!(matches!(
            supervisor.resume_child("a").await,
            Err(ResumeChildError::NotWaiting { .. })
        ));
        supervisor.terminate_child("a").await.unwrap();
        assert!(matches!(
            supervisor.bounce_child("a").await,
            Err(RestartChildError::NotFound { .. })
        ));
        assert!(dynamic.which_children().await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn sup_30_a_temporary_child_whose_bounce_fails_is_forgotten() {
    let (moody, broken) = moody("w");
    let supervisor = start(generous().child(moody.clone().temporary())).await;
    assert_eq!(supervisor.bounce_child("w").await.unwrap().incarnation, 2);
    broken.store(true, SeqCst);
    supervisor.bounce_child("w").await.unwrap_err();
    assert!(supervisor.which_children().await.unwrap().is_empty());
    broken.store(false, SeqCst);
    supervisor.start_child(moody).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sup_30_a_dynamic_child_whose_bounce_fails_is_restarted_if_its_type_says_so() {
    for concurrent in [false, true] {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            let broken = Arc::new(AtomicBool::new(false));
            let is_broken = Arc::clone(&broken);
            let template =
                ChildTemplate::from_fn("w", ChildKind::Worker, move |context, _: Arc<()>| {
                    // Only once.
                    let fails = is_broken.swap(false, SeqCst);
                    async move {
                        if fails {
                            return Err(StartError::new(ExitReason::failed("no paper")));
                        }
                        Ok(Started::from(context.spawn(Puppet, ()).await?))
                    }
                });
            let dynamic = DynamicSupervisor::builder(template.restart(restart))
                .intensity(RestartIntensity::new(100, SECOND))
                .concurrent_starts(concurrent);
            let dynamic = dynamic.build().unwrap().start("t").await.unwrap();
            dynamic.start_child_named("a", ()).await.unwrap();
            broken.store(true, SeqCst);
            dynamic.supervisor().bounce_child("a").await.unwrap_err();
            sleep(SECOND).await;
            let list = dynamic.which_children().await.unwrap();
            let alive = list.iter().map(|child| child.status);
            let alive: Vec<_> = alive.collect();
            match restart {
                Restart::Temporary => assert!(list.is_empty()),
                _ => assert_eq!(alive, [ChildStatus::Alive { incarnation: 3 }]),
            }
            assert_eq!(dynamic.node().children().len(), list.len());
        }
    }
}

/// Writes down when its state is gone.
struct Tenant;

struct Stay(Journal<&'static str>);

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.push("gone");
    }
}

impl Actor for Tenant {
    type Msg = ();
    type State = Stay;
    type Arguments = Journal<&'static str>;
    async fn pre_start(
        &self,
        _: ActorRef<()>,
        journal: Journal<&'static str>,
    ) -> Result<Stay, ActorProcessingErr> {
        Ok(Stay(journal))
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_23_a_bounced_child_is_made_anew_only_once_the_old_run_is_gone() {
    for concurrent in [false, true] {
        let journal = Journal::new();
        let template = ChildTemplate::worker("w", |journal: &Journal<&'static str>| {
            journal.push("made");
            (Tenant, journal.clone())
        });
        let dynamic = DynamicSupervisor::builder(template)
            .concurrent_starts(concurrent)
            .build()
            .unwrap()
            .start("t")
            .await
            .unwrap();
        dynamic
            .start_child_named("a", journal.clone())
            .await
            .unwrap();
        let supervisor = Supervisor::at(dynamic.node()).unwrap();
        supervisor.bounce_child("a").await.unwrap();
        assert_eq!(journal.entries(), ["made", "gone", "made"]);
    }
}
