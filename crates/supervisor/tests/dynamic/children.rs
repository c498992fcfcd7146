//! Children come and go: DYN-1 to DYN-6, and what their template says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use perennial_lifecycle::{
    ChildKind, EventKind, ExitReason, Incarnation, Mailbox, Scope, Shutdown, StartError, Started,
};
use perennial_supervisor::{
    AutoShutdown, ChildTemplate, DeleteChildError, DynamicChild, DynamicSupervisor,
    DynamicSupervisorBuilder, RestartChildError, RestartIntensity, StartChildError, Supervisor,
    SupervisorSpecError, TerminateChildError,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::support::{SECOND, crash, generous, listed, order, puppets, start, successor};

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
    let text = "shutdown_error puppet: killed (3 of them)";
    assert_eq!(shutdown_errors(&scope), [text]);
}

fn shutdown_errors(scope: &Scope) -> Vec<String> {
    let told = scope.events().recent().into_iter();
    let told = told.filter(|it| matches!(it.kind, EventKind::ShutdownErrors { .. }));
    told.map(|it| it.kind.to_string()).collect()
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

#[test]
fn handles_can_be_sent_and_shared() {
    fn check<T: std::fmt::Debug + Send + Sync + Clone>() {}
    check::<DynamicSupervisor<std::cell::Cell<u8>>>();
    check::<DynamicSupervisorBuilder<()>>();
    check::<perennial_supervisor::DynamicSpec<()>>();
    check::<ChildTemplate<()>>();
    check::<DynamicChild>();
}

/// Ends with an error of its own.
struct Sour;

#[derive(Debug, thiserror::Error)]
#[error("{}", .told.tell())]
struct SourError {
    told: Told,
}

#[derive(Clone, Debug)]
enum Told {
    /// The number of the child, and how often anybody has asked for it.
    Number(u32, Arc<AtomicU32>),
    Never,
}

impl Told {
    fn tell(&self) -> String {
        match self {
            Self::Number(number, asked) => {
                asked.fetch_add(1, Relaxed);
                format!("connection {number} is lost")
            }
            Self::Never => panic!("no text"),
        }
    }
}

impl Actor for Sour {
    type Msg = ();
    type State = Told;
    type Arguments = Told;

    async fn pre_start(&self, _: ActorRef<()>, told: Told) -> Result<Told, ActorProcessingErr> {
        Ok(told)
    }

    async fn post_stop(&self, _: ActorRef<()>, told: &mut Told) -> Result<(), ActorProcessingErr> {
        let told = told.clone();
        Err(SourError { told }.into())
    }
}

fn sour() -> DynamicSupervisorBuilder<Told> {
    generous(ChildTemplate::worker("sour", |told: &Told| {
        (Sour, told.clone())
    }))
}

#[tokio::test(start_paused = true)]
async fn at_the_end_equal_errors_are_found_without_a_look_at_all_others() {
    let scope = Scope::new("t");
    let supervisor = sour().build().unwrap().start_in(&scope).await.unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    for number in 0..400 {
        let told = Told::Number(number % 200, Arc::clone(&asked));
        supervisor.start_child(told).await.unwrap();
    }
    supervisor.stop(ExitReason::Shutdown).await;
    let asked = asked.load(Relaxed);
    assert!(asked <= 2 * 400, "{asked}");
    let text =
        |number| format!("shutdown_error sour: failed: connection {number} is lost (2 of them)");
    assert_eq!(
        shutdown_errors(&scope),
        (0..200).map(text).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_end_an_error_whose_text_panics_harms_nobody() {
    let scope = Scope::new("t");
    let spec = sour().build().unwrap();
    let supervisor = spec.start_in(&scope).await.unwrap();
    supervisor.start_child(Told::Never).await.unwrap();
    supervisor.stop(ExitReason::Shutdown).await;
    let end = scope.root().last_end().unwrap().reason;
    assert!(matches!(end, ExitReason::Shutdown), "{end}");
    let text = "shutdown_error sour: failed: an error whose text panics (1 of them)";
    assert_eq!(shutdown_errors(&scope), [text]);
}
