//! Places whose supervisor has forgotten the child, and where somebody still runs.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use perennial_lifecycle::{
    Backoff, ChildKind, ChildSpec, ChildState, ExitReason, Node, Scope, Shutdown, StartError,
    Started,
};
use perennial_supervisor::{
    ChildTemplate, DynamicSupervisor, DynamicSupervisorBuilder, RestartIntensity, StartChildError,
    Supervisor,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::yield_now;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// How many run at the same time, and how many there were at most.
#[derive(Clone, Default)]
struct Count(Arc<(AtomicU32, AtomicU32)>);

impl Count {
    fn most(&self) -> u32 {
        self.0.1.load(SeqCst)
    }
}

struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

/// Takes 20 s to stop.
struct SlowStop;

impl Actor for SlowStop {
    type Msg = ();
    type State = Counted;
    type Arguments = Count;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        count: Count,
    ) -> Result<Counted, ActorProcessingErr> {
        let now = count.0.0.fetch_add(1, SeqCst) + 1;
        count.0.1.fetch_max(now, SeqCst);
        Ok(Counted(count))
    }

    async fn post_stop(&self, _: ActorRef<()>, _: &mut Counted) -> Result<(), ActorProcessingErr> {
        sleep(20 * SECOND).await;
        Ok(())
    }
}

const PATIENT: Shutdown = Shutdown::Within(Duration::from_secs(30));

/// A dynamic supervisor whose children stop slowly, and decline to start while the flag says so.
fn dynamic(count: &Count, declines: &Arc<AtomicBool>) -> DynamicSupervisorBuilder<()> {
    let (count, declines) = (count.clone(), Arc::clone(declines));
    let template = ChildTemplate::from_fn("w", ChildKind::Worker, move |context, _: Arc<()>| {
        let (count, declines) = (count.clone(), declines.load(SeqCst));
        async move {
            if declines {
                return Ok(Started::Ignored);
            }
            Ok(context.spawn(SlowStop, count).await?.into())
        }
    });
    DynamicSupervisor::builder(template.shutdown(PATIENT))
}

/// Starts what declines at the place of `a`, and then what does not.
async fn decline_and_start(supervisor: &DynamicSupervisor<()>, declines: &AtomicBool) {
    declines.store(true, SeqCst);
    let declined = supervisor.start_child_named("a", ()).await;
    assert!(matches!(declined, Err(StartChildError::Ignored { .. })));
    let place = supervisor.node().child("a").unwrap();
    assert!(place.is_occupied() && place.is_retired());

    declines.store(false, SeqCst);
    let started = supervisor.start_child_named("a", ()).await.unwrap();
    assert!(Arc::ptr_eq(started.node(), &place));
    assert!(!place.is_retired());
}

async fn is_gone(supervisor: &Supervisor, place: &Node) {
    supervisor.count_children().await.unwrap();
    assert!(supervisor.node().child(place.path().id()).is_none());
}

#[tokio::test(start_paused = true)]
async fn life_3_a_tree_has_one_root() {
    let scope = Scope::new("t");
    let count = Count::default();
    let start = || {
        let count = count.clone();
        let child = ChildSpec::worker("w", move || (SlowStop, count.clone()));
        let root = Supervisor::builder().child(child).build().unwrap();
        let scope = scope.clone();
        async move { root.start_in(&scope).await }
    };
    let (first, second) = tokio::join!(start(), start());
    let root = first.unwrap();
    let taken = |refused: StartError| refused.to_string().contains("`t` has a root already");
    assert!(taken(second.unwrap_err()));
    assert!(taken(start().await.unwrap_err()));
    root.count_children().await.unwrap();
    // Who comes while it stops waits for its end.
    let ((), next) = tokio::join!(root.stop(ExitReason::Shutdown), async {
        yield_now().await;
        start().await
    });
    next.unwrap().count_children().await.unwrap();
    assert_eq!(count.most(), 1);
}

#[tokio::test(start_paused = true)]
async fn life_3_a_start_that_declines_does_not_forget_who_is_being_stopped_at_its_place() {
    let (count, declines) = <(Count, Arc<AtomicBool>)>::default();
    let supervisor = dynamic(&count, &declines).concurrent_starts(true);
    let supervisor = supervisor.build().unwrap().start("t").await.unwrap();
    let first = supervisor.start_child_named("a", ()).await.unwrap();
    let again = async {
        while !first.incarnation().is_ending() {
            yield_now().await;
        }
        decline_and_start(&supervisor, &declines).await;
    };
    let (terminated, ()) = tokio::join!(supervisor.terminate_child(&first), again);
    terminated.unwrap();
    assert_eq!(count.most(), 1);
    supervisor.terminate_child_named("a").await.unwrap();
    is_gone(supervisor.supervisor(), first.node()).await;
}

#[tokio::test(start_paused = true)]
async fn life_3_a_start_that_declines_does_not_forget_the_orphan_at_its_place() {
    let (count, declines) = <(Count, Arc<AtomicBool>)>::default();
    let nested = dynamic(&count, &declines).build().unwrap();
    let root = Supervisor::builder().child(nested.into_child("nested"));
    let root = root.build().unwrap().start("t").await.unwrap();
    let place = root.node().child("nested").unwrap();
    let supervisor = DynamicSupervisor::at(&place).unwrap();
    supervisor.start_child_named("a", ()).await.unwrap();
    let killed = place.current().unwrap();
    killed.kill();
    killed.ended().await;
    place.running().await;
    decline_and_start(&supervisor, &declines).await;
    assert_eq!(count.most(), 1);
}

/// A supervisor that is killed when it has to stop, with a child that stops slowly.
fn abrupt(count: &Count) -> ChildSpec {
    let count = count.clone();
    let child = ChildSpec::worker("w", move || (SlowStop, count.clone())).shutdown(PATIENT);
    let nested = Supervisor::builder().child(child).build().unwrap();
    nested.into_child("nested").shutdown(Shutdown::BrutalKill)
}

#[tokio::test(start_paused = true)]
async fn life_3_a_supervisor_does_not_start_beside_the_children_of_one_that_was_forgotten() {
    for spec in [abrupt, |count: &Count| abrupt(count).temporary()] {
        let count = Count::default();
        let spec = spec(&count);
        let root = Supervisor::builder().build().unwrap();
        let root = root.start("t").await.unwrap();
        root.start_child(spec.clone()).await.unwrap();
        let place = root.node().child("nested").unwrap();
        root.terminate_child("nested").await.unwrap();
        // Of one that is temporary nothing is left to be deleted.
        drop(root.delete_child("nested").await);
        assert!(root.child_spec("nested").await.unwrap().is_none());
        assert!(Arc::ptr_eq(&root.node().child("nested").unwrap(), &place));

        root.start_child(spec).await.unwrap();
        assert_eq!(count.most(), 1);

        let child = place.child("w").unwrap().current().unwrap();
        root.terminate_child("nested").await.unwrap();
        drop(root.delete_child("nested").await);
        assert!(matches!(child.ended().await, ExitReason::Killed));
        is_gone(&root, &place).await;
    }
}

#[tokio::test(start_paused = true)]
async fn life_4_a_start_function_that_fails_or_declines_with_its_actor_up_leaves_no_run() {
    for declines in [false, true] {
        let count = Count::default();
        let up = count.clone();
        let spec = ChildSpec::from_fn("w", ChildKind::Worker, move |context| {
            let (up, number) = (up.clone(), context.incarnation());
            async move {
                let child = context.spawn(SlowStop, up).await?;
                match number {
                    2 if declines => Ok(Started::Ignored),
                    2 => Err(StartError::new(ExitReason::failed("no paper"))),
                    _ => Ok(child.into()),
                }
            }
        });
        let spec = spec
            .shutdown(PATIENT)
            .backoff(Backoff::constant(Duration::from_secs(100)));
        let supervisor = Supervisor::builder()
            .intensity(RestartIntensity::new(9, SECOND))
            .child(spec);
        let supervisor = supervisor.build().unwrap().start("t").await.unwrap();
        let place = supervisor.node().child("w").unwrap();
        place.current().unwrap().kill();
        sleep(105 * SECOND).await;
        // It stops, and nobody has been told of the failure.
        assert_eq!(place.current().unwrap().number(), 2);
        assert_eq!(place.state(), ChildState::Stopping);

        sleep(20 * SECOND).await;
        let history = place.history();
        let ends = history
            .iter()
            .map(|end| (end.incarnation, end.reason.to_string()));
        let mut expected = vec![(1, "killed".to_owned()), (2, "killed".to_owned())];
        if declines {
            assert_eq!(place.state(), ChildState::Stopped);
        } else {
            expected.push((2, "failed: no paper".to_owned()));
            assert_eq!(place.state(), ChildState::Restarting);
            assert!(place.due().is_some());
        }
        assert_eq!(ends.collect::<Vec<_>>(), expected);
        assert_eq!((place.is_occupied(), count.most()), (false, 1));
    }
}
