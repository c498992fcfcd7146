//! The same for dynamic children: DYN-7, DYN-21 to DYN-23.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use perennial_lifecycle::{Backoff, Quarantine};
use perennial_supervisor::{
    ChildTemplate, DynamicChild, DynamicSupervisor, RestartChildError, RestartIntensity,
    ResumeChildError, Supervisor,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

use crate::support::{SECOND, back_after, crash, node, order};

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
async fn dyn_22_a_run_that_is_over_is_not_bounced_and_its_successor_stays() {
    for concurrent in [false, true] {
        let template = ChildTemplate::worker("w", |(): &()| (Puppet, ()));
        let dynamic = DynamicSupervisor::builder(template)
            .intensity(RestartIntensity::new(100, SECOND))
            .concurrent_starts(concurrent);
        let dynamic = dynamic.build().unwrap().start("t").await.unwrap();
        let first = dynamic.start_child_named("a", ()).await.unwrap();
        let (supervisor, node) = (dynamic.supervisor(), first.node());
        crash(supervisor, "a").await;
        back_after(node).await;
        let second = DynamicChild::new(Arc::clone(node), node.current().unwrap());
        assert!(matches!(
            dynamic.bounce_child(&first).await,
            Err(RestartChildError::NotFound { .. })
        ));
        assert!(second.incarnation().exit_reason().is_none());
        let bounced = dynamic.bounce_child(&second).await.unwrap();
        assert_eq!((bounced.incarnation, node.restarts()), (3, 1));
        assert_eq!(second.incarnation().ended().await.class(), "shutdown");
    }
}

#[tokio::test(start_paused = true)]
async fn dyn_7_how_many_restarts_there_may_be_is_asked_at_each() {
    let max = Arc::new(AtomicU32::new(0));
    let asked = Arc::clone(&max);
    let template = ChildTemplate::worker("w", |(): &()| (Puppet, ()));
    let dynamic = DynamicSupervisor::builder(template)
        .intensity(RestartIntensity::new(100, SECOND))
        .max_restarts_by(move || asked.load(SeqCst));
    let dynamic = dynamic.build().unwrap().start("t").await.unwrap();
    dynamic.start_child_named("a", ()).await.unwrap();
    for allowed in 1..4 {
        max.store(allowed, SeqCst);
        crash(dynamic.supervisor(), "a").await;
        assert_eq!(dynamic.count_children().await.unwrap().active, 1);
    }
    order(&node(dynamic.supervisor(), "a"), Order::Fail("broken"));
    assert_eq!(dynamic.ended().await.class(), "shutdown");
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
