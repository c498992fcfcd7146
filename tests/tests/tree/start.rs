//! How trees start, and when they give up.

use std::task::Poll;
use std::time::Duration;

use perennial::lifecycle::ReportContext;
use perennial::monitor::CleanupFuture;
use perennial::{
    BreakerConfig, ChildSpec, CleanupStrategy, Event, EventKind, ExitReason, Name, Quota, Scope,
    Strategy, Tree,
};
use perennial_testkit::{Journal, Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::support::{
    DEADLINE, echoes, healed, nothing_runs, patient, places, puppet, running, shut_down, within,
};

const A: Name<Order> = Name::new("a");

/// Starts, and fails at once, always.
struct Crashes;

impl Actor for Crashes {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_start(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        Err("always".into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_5_a_host_actor_that_always_crashes_takes_host_and_root_with_it() {
    let mut settings = patient();
    settings.supervision.max_restarts = 3;
    settings.supervision.within = Duration::from_secs(60);
    let tree = Tree::builder("t")
        .settings(settings)
        .child(puppet("a"))
        .child(ChildSpec::worker("crashes", || (Crashes, ())))
        .start()
        .await
        .unwrap();
    let reason = within("the end of the tree", tree.ended()).await;
    assert!(reason.is_some_and(|it| it.is_clean()));
    nothing_runs(tree.scope());
    // The host's supervisor gives up four times, then the root does.
    let gave_up = |event: &Event| match &event.kind {
        EventKind::Report {
            context: ReportContext::Shutdown,
            child,
            ..
        } => Some((event.path.to_string(), child.id().to_owned())),
        _ => None,
    };
    let recent = tree.scope().events().recent();
    let gave_up: Vec<_> = recent.iter().filter_map(gave_up).collect();
    let pair = |supervisor: &str, child: &str| (supervisor.to_owned(), child.to_owned());
    let mut expected = vec![pair("t/host", "crashes"); 4];
    expected.push(pair("t", "host"));
    assert_eq!(gave_up, expected);
    let crashes = tree.scope().root().find("t/host/crashes").unwrap();
    // One start and three restarts in each of four runs of the host's supervisor.
    assert_eq!(crashes.incarnations(), 16);
    let host = tree.host().node();
    assert_eq!(
        (host.incarnations(), tree.scope().root().incarnations()),
        (4, 1)
    );
    // The services beside it were not touched.
    assert_eq!(
        tree.scope()
            .root()
            .find("t/registry")
            .unwrap()
            .incarnations(),
        1
    );
    let report = shut_down(&tree).await;
    assert!(!report.is_clean());
    assert_eq!(report.to_string(), "the tree gave up: shutdown");
    assert!(tree.ended().await.is_some());
}

#[tokio::test]
async fn tree_5_a_tree_whose_first_start_fails_leaves_nothing() {
    struct Refuses;
    impl Actor for Refuses {
        type Msg = ();
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Err("no licence".into())
        }
    }
    let kept: Journal<perennial::Scope> = Journal::new();
    let scopes = kept.clone();
    let error = Tree::builder("t")
        .child_with(move |tree| {
            scopes.push(tree.scope().clone());
            puppet("a")
        })
        .child(ChildSpec::worker("refuses", || (Refuses, ())))
        .start()
        .await
        .unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(
        text.contains("no licence") && text.contains("refuses"),
        "{text}"
    );
    nothing_runs(&kept.entries()[0]);
}

#[tokio::test]
async fn tree_4_the_strategy_of_the_host_is_the_hosts_choice() {
    let mut settings = patient();
    settings.supervision.host_strategy = Strategy::OneForAll;
    let tree = Tree::builder("t")
        .settings(settings)
        .child(puppet("a"))
        .child(ChildSpec::worker("b", || (Puppet, ())))
        .start()
        .await
        .unwrap();
    let a = tree.host().node().child("a").unwrap().current().unwrap();
    tree.cast(Name::new("b"), Order::Fail("on purpose"))
        .unwrap();
    let reason = within("the end of the sibling", a.ended()).await;
    assert!(matches!(reason, ExitReason::Shutdown), "{reason}");
    let answer = tree.call(A, Order::Load, DEADLINE).await;
    assert_eq!(answer.unwrap(), 0);
    assert!(running(tree.scope().root()).len() > 10);
    shut_down(&tree).await;
}

#[tokio::test]
async fn tree_5_a_start_that_is_dropped_anywhere_leaves_nothing() {
    // More polls than any start takes.
    for polls in 0..10_000 {
        let scopes: Journal<Scope> = Journal::new();
        let journal = scopes.clone();
        let start = Tree::builder("t")
            .child_with(move |tree| {
                journal.push(tree.scope().clone());
                puppet("a")
            })
            .start();
        let mut start = Box::pin(start);
        let mut started = None;
        for _ in 0..polls {
            if let Poll::Ready(tree) = futures_util::poll!(&mut start) {
                started = Some(tree.unwrap());
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(start);
        let done = started.is_some();
        drop(started);
        if let Some(scope) = scopes.entries().first() {
            loop {
                let runs = running(scope.root());
                if runs.is_empty() {
                    break;
                }
                for run in runs {
                    within("the end of an actor", run.ended()).await;
                }
            }
            nothing_runs(scope);
        }
        if done {
            return;
        }
    }
    panic!("the tree never started");
}

#[tokio::test]
async fn tree_5_a_namespace_may_be_any_text() {
    for namespace in [" ", "a/b", "/", "ü b", "host"] {
        let tree = Tree::builder(namespace)
            .settings(patient())
            .child(puppet("a"))
            .start()
            .await
            .unwrap();
        let all = places(&tree).await;
        for path in &all {
            tree.debug().kill(path).await.unwrap();
            healed(&tree, &all).await;
        }
        echoes(&tree, &A).await;
        shut_down(&tree).await;
    }
}

/// Frees nothing.
struct Nothing;

impl CleanupStrategy for Nothing {
    fn on_request(&self) -> CleanupFuture<'_> {
        Box::pin(async { Ok(0) })
    }

    fn proactive(&self) -> CleanupFuture<'_> {
        self.on_request()
    }

    fn emergency(&self) -> CleanupFuture<'_> {
        self.on_request()
    }
}

#[tokio::test]
async fn tree_10_what_the_code_says_amiss_is_told_before_anything_starts() {
    let builder = || Tree::builder("t").child(puppet("a"));
    let quota = Quota::per_minute(1);
    let trip = BreakerConfig::default();
    for (builder, message) in [
        (
            Tree::builder(""),
            "a tree must have a name: its namespace is empty",
        ),
        (
            builder()
                .breaker("geocoder", trip.clone())
                .breaker("geocoder", trip),
            "a breaker named `geocoder` is registered already",
        ),
        (
            builder().quota(&A, quota).quota(&A, quota),
            "`a`: two quotas for one name",
        ),
        (
            builder()
                .cleanup("cache", Nothing)
                .cleanup("cache", Nothing),
            "clean-up `cache`: two strategies of one name",
        ),
        (
            builder().depends_on("aa", "database"),
            "health: there is no service `aa` that could depend on `database`, only a, config_server, database",
        ),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
