//! How trees stop.

use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use perennial::debug::CommandError;
use perennial::{
    CallError, ChildKind, ChildSpec, ChildState, ChildTemplate, DATABASE, DatabaseWorker,
    DynamicSupervisor, EventKind, ExitReason, Name, PoolConfig, Refusal, Schema, Shutdown,
    ShutdownReport, Started, Tree,
};
use perennial_testkit::{Journal, Order, assert_books_balance};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::support::{
    DEADLINE, Folder, echoes, nothing_runs, patient, places, puppet, shut_down, within,
    workers_by_name,
};

const A: Name<Order> = Name::new("a");
const NOBODY: Name<Order> = Name::new("nobody");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_a_tree_stops_in_reverse_start_order() {
    let tree = Tree::builder("ordered")
        .child(puppet("a"))
        .child(puppet("b"))
        .start()
        .await
        .unwrap();
    let mut expected = places(&tree).await;
    expected.reverse();
    let mut events = tree.debug().events();
    let report = shut_down(&tree).await;
    assert!(report.is_clean(), "{report:?}");
    let mut ended = Vec::new();
    while let Some(event) = events.next_ready() {
        let event = event.unwrap();
        if let EventKind::Exited { reason, .. } = event.kind {
            assert!(
                matches!(reason, ExitReason::Shutdown),
                "{}: {reason}",
                event.path
            );
            ended.push(event.path.to_string());
        }
    }
    assert_eq!(workers_by_name(ended), workers_by_name(expected));
    nothing_runs(tree.scope());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_a_shutdown_in_order_makes_no_dead_letters() {
    let tree = Tree::builder("t").child(puppet("a")).start().await;
    let tree = tree.unwrap();
    assert!(shut_down(&tree).await.is_clean());
    // Not even of what the tree's own parts tell each other, as a pool does that misses its workers.
    assert_eq!(tree.scope().traffic().dead_letters().list().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_config_server_that_waits_for_a_worker_holds_up_no_shutdown() {
    let database = DatabaseWorker::in_memory("t");
    let tree = Tree::builder("t").pool(DATABASE, database, PoolConfig::new(1));
    let tree = tree.start().await.unwrap();
    let held = tree.pool(DATABASE).unwrap().checkout().await.unwrap();
    let config = tree.root().node().child("config_server").unwrap();
    let run = config.current().unwrap();
    run.kill();
    run.ended().await;
    // Its successor waits for the only worker.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(config.state(), ChildState::Starting);
    let report = tree.shutdown_within(Duration::ZERO).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.took, Duration::ZERO);
    drop(held);
    assert_books_balance!(tree.scope());
}

/// Starts an actor, and returns once it is in the middle of a message that it never finishes.
async fn stuck(tree: &Tree, id: &str) {
    let journal = Journal::new();
    let entered = journal.clone();
    let node = tree.host().node().child(id).unwrap();
    tree.cast(Name::new("stuck"), Stick(entered)).unwrap();
    within("the message in hand", journal.wait_for(1)).await;
    assert!(node.current().unwrap().in_hand().is_some());
}

struct Stuck;
struct Stick(Journal<()>);

impl Actor for Stuck {
    type Msg = Stick;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Stick>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Stick>,
        Stick(entered): Stick,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        entered.push(());
        std::future::pending().await
    }
}

fn stuck_spec(shutdown: Shutdown) -> ChildSpec {
    ChildSpec::worker("stuck", || (Stuck, ())).shutdown(shutdown)
}

#[tokio::test]
async fn tree_4_a_host_actor_that_never_stops_is_killed_after_its_own_deadline_and_named() {
    let limit = Duration::from_millis(200);
    let tree = Tree::builder("t")
        .child(puppet("before"))
        .drain_deadline(Duration::ZERO)
        .child(stuck_spec(Shutdown::Within(limit)))
        .child(puppet("after"))
        .start()
        .await
        .unwrap();
    stuck(&tree, "stuck").await;
    let began = tokio::time::Instant::now();
    let report = shut_down(&tree).await;
    assert!(began.elapsed() >= limit);
    assert_eq!(
        report
            .killed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["t/host/stuck"]
    );
    assert!(!report.is_clean());
    nothing_runs(tree.scope());
}

#[tokio::test]
async fn tree_4_what_waits_for_ever_is_killed_after_the_deadline_of_the_tree_and_named() {
    let mut settings = patient();
    settings.supervision.shutdown_deadline = Duration::from_millis(200);
    let tree = Tree::builder("t")
        .settings(settings)
        .child(puppet("before"))
        .drain_deadline(Duration::ZERO)
        .child(stuck_spec(Shutdown::Infinity))
        .start()
        .await
        .unwrap();
    stuck(&tree, "stuck").await;
    let report = shut_down(&tree).await;
    let killed: Vec<_> = report.killed.iter().map(ToString::to_string).collect();
    assert!(killed.contains(&"t/host/stuck".to_owned()), "{killed:?}");
    nothing_runs(tree.scope());
}

#[tokio::test]
async fn tree_4_an_actor_that_is_to_be_killed_is_not_reported_as_late() {
    let tree = Tree::builder("t")
        .child(puppet("a").shutdown(Shutdown::BrutalKill))
        .start()
        .await
        .unwrap();
    let report = shut_down(&tree).await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn tree_4_a_report_names_what_was_killed_among_thousands() {
    let mut builder = Tree::builder("t");
    for number in 0..5_000 {
        builder = builder.child(puppet(&format!("actor-{number}")));
    }
    let tree = builder
        .drain_deadline(Duration::ZERO)
        .child(stuck_spec(Shutdown::Within(Duration::from_millis(10))))
        .start()
        .await
        .unwrap();
    stuck(&tree, "stuck").await;
    let report = shut_down(&tree).await;
    assert_eq!(
        report
            .killed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["t/host/stuck"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_the_drop_of_the_last_handle_stops_the_tree_in_order() {
    let folder = Folder::new("drop");
    let file = folder.file("tree.db");
    let mut settings = patient();
    settings.database.path = Some(file.clone());
    // Of two connections that close at once each may see the other and leave the log to whoever opens the file next.
    settings
        .pools
        .insert("database".to_owned(), PoolConfig::new(1));
    let tree = Tree::builder("dropped")
        .settings(settings)
        .child(puppet("a"))
        .start()
        .await
        .unwrap();
    let scope = tree.scope().clone();
    let mut order = places(&tree).await;
    order.reverse();
    let mut events = tree.debug().events();
    let root = tree.root().clone();
    let another = tree.clone();
    drop(tree);
    echoes(&another, &A).await;
    drop(another);
    let reason = within("the end of the tree", root.ended()).await;
    assert!(matches!(reason, ExitReason::Shutdown), "{reason}");
    nothing_runs(&scope);
    let mut ended = Vec::new();
    while let Some(event) = events.next_ready() {
        let event = event.unwrap();
        if let EventKind::Exited { .. } = event.kind {
            ended.push(event.path.to_string());
        }
    }
    assert_eq!(workers_by_name(ended), workers_by_name(order));
    // The last connection has been closed in order: its write-ahead log is gone.
    assert!(file.exists());
    assert!(!folder.file("tree.db-wal").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_a_second_shutdown_waits_for_the_same_end() {
    let tree = Tree::builder("t")
        .drain_deadline(Duration::ZERO)
        .child(stuck_spec(Shutdown::Within(Duration::from_millis(50))))
        .start()
        .await
        .unwrap();
    stuck(&tree, "stuck").await;
    let other = tree.clone();
    let (one, two) = tokio::join!(tree.shutdown(), other.shutdown());
    let third = shut_down(&tree).await;
    assert_eq!(one.killed.len(), 1);
    assert_eq!((&one.killed, &one.killed), (&two.killed, &third.killed));
    assert!(within("the end", tree.ended()).await.is_none());
    nothing_runs(tree.scope());
}

/// Drops it after its first poll, then after its second, and so on until it comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_a_shutdown_that_is_dropped_at_any_poll_goes_on() {
    let limit = Duration::from_millis(5);
    for polls in 1.. {
        assert!(polls < 100, "never ends");
        let tree = Tree::builder("t")
            .drain_deadline(limit)
            .child(stuck_spec(Shutdown::Within(limit)))
            .start()
            .await
            .unwrap();
        stuck(&tree, "stuck").await;
        let done = {
            let mut shutdown = std::pin::pin!(tree.shutdown());
            let mut polled = 0;
            within(
                "so many polls",
                poll_fn(|context| {
                    polled += 1;
                    match shutdown.as_mut().poll(context) {
                        Poll::Ready(_) => Poll::Ready(true),
                        Poll::Pending if polled == polls => Poll::Ready(false),
                        Poll::Pending => Poll::Pending,
                    }
                }),
            )
            .await
        };
        assert!(within("the end", tree.ended()).await.is_none());
        let report = shut_down(&tree).await;
        let killed: Vec<_> = report.killed.iter().map(ToString::to_string).collect();
        assert_eq!(killed, ["t/host/stuck"], "after {polls} polls");
        nothing_runs(tree.scope());
        if done {
            assert!(polls > 1, "it was never dropped");
            break;
        }
    }
}

#[tokio::test]
async fn tree_4_a_tree_that_has_ended_refuses_and_does_not_wait() {
    let tree = Tree::builder("t").child(puppet("a")).start().await.unwrap();
    let inside = tree.clone();
    let waits = tokio::spawn(async move { inside.wait_for(&NOBODY).await });
    tokio::task::yield_now().await;
    shut_down(&tree).await;
    let refused = within("who waits", waits).await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "no actor is named `nobody`");
    assert!(tree.cast(A, Order::Store(1)).is_err());
    let refused = within("who comes", tree.wait_for(&A)).await.unwrap_err();
    assert_eq!(refused.to_string(), "`a` has stopped for good");
    let pool = tree.pool(perennial::DATABASE).unwrap();
    let refused = within("a checkout", pool.checkout()).await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
    // What the cells know can still be read.
    let snapshot = tree.debug().snapshot().await.unwrap();
    assert_eq!(snapshot.totals.down, snapshot.totals.actors);
}

#[test]
fn tree_9_a_tree_that_lost_its_runtime_refuses_and_does_not_wait() {
    for workers in [0, 2] {
        let runtime = perennial_tests::runtime(workers);
        let start = Tree::builder("t").child(puppet("a")).start();
        let tree = runtime.block_on(start).unwrap();
        drop(runtime);
        perennial_tests::runtime(0).block_on(async {
            refuses_at_once(&tree).await;
            let report = tree.shutdown().await;
            assert!(!report.is_clean(), "{report}");
            assert_eq!(
                report.to_string(),
                "the tree gave up: failed: its runtime was shut down"
            );
            assert_books_balance!(tree.scope());
        });
    }
}

/// All but the cast would wait for the next run until their deadline.
async fn refuses_at_once(tree: &Tree) {
    assert!(tree.cast(A, Order::Store(1)).is_err());
    let call = tree.call(A, Order::Load, DEADLINE).await.unwrap_err();
    let CallError::Refused(refused) = call else {
        panic!("{call:?}");
    };
    assert!(matches!(refused.refusal, Refusal::Stopped { .. }));
    let refused = tree.wait_for(&A).await.unwrap_err();
    assert!(matches!(refused.0, Refusal::Stopped { .. }));
    let command = tree.debug().restart("t/host/a").await.unwrap_err();
    assert!(matches!(command, CommandError::Ended { .. }), "{command}");
    let pool = tree.pool(DATABASE).unwrap();
    let refused = pool.checkout().await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
    // Nobody has looked at what the runtime cut off.
    let reason = tree.ended().await.expect("it was not told to stop");
    assert_eq!(reason.to_string(), "failed: its runtime was shut down");
}

/// What the process would end with.
fn exit_code(report: &ShutdownReport) -> String {
    format!("{:?}", report.exit_code())
}

#[tokio::test]
async fn tree_11_a_host_waits_for_its_signal_or_for_the_end_of_the_tree() {
    let tree = Tree::builder("t").child(puppet("a")).start().await.unwrap();
    let signal = Notify::new();
    let (report, ()) = tokio::join!(tree.run_until(signal.notified()), async {
        echoes(&tree, &A).await;
        signal.notify_one();
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!(exit_code(&report), format!("{:?}", ExitCode::SUCCESS));
    assert_books_balance!(tree.scope());

    let mut settings = patient();
    settings.supervision.max_restarts = 0;
    let tree = Tree::builder("t").settings(settings).child(puppet("a"));
    let tree = tree.start().await.unwrap();
    tree.cast(A, Order::Fail("broken")).unwrap();
    let report = within("the end", tree.run_until(std::future::pending::<()>())).await;
    assert!(report.gave_up.is_some(), "{report}");
    assert_eq!(exit_code(&report), format!("{:?}", ExitCode::from(1)));
    assert_books_balance!(tree.scope());

    let stubborn = puppet("a").shutdown(Shutdown::BrutalKill);
    let tree = Tree::builder("t").child(stubborn).start().await.unwrap();
    tree.cast(A, Order::Hang).unwrap();
    tree.cast(A, Order::Store(1)).unwrap();
    let told = tree.run_until(std::future::ready(()));
    let (report, _) = tokio::join!(told, tree.shutdown_within(Duration::ZERO));
    assert!(!report.is_clean());
    assert_eq!(exit_code(&report), format!("{:?}", ExitCode::from(3)));
    assert_books_balance!(tree.scope());
}

/// Writes its last words to the database.
struct Writes;

impl Actor for Writes {
    type Msg = ();
    type State = Tree;
    type Arguments = Tree;

    async fn pre_start(&self, _: ActorRef<()>, tree: Tree) -> Result<Tree, ActorProcessingErr> {
        Ok(tree)
    }

    async fn post_stop(&self, _: ActorRef<()>, tree: &mut Tree) -> Result<(), ActorProcessingErr> {
        let sql = "CREATE TABLE last (words TEXT); INSERT INTO last VALUES ('bye')";
        let guard = tree.guard("database").pool(DATABASE);
        guard.run(|db| async move { db.batch(sql).await }).await?;
        tree.update_protected("words", "bye", "actor").await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_an_actor_has_its_tree_while_it_stops() {
    let folder = Folder::new("last_words");
    let start = |spec: fn(&Tree) -> ChildSpec| {
        let mut settings = patient();
        settings.database.path = Some(folder.file("tree.db"));
        let schema = Schema::builder().value("words", String::new());
        let builder = Tree::builder("t").settings(settings);
        builder
            .schema(schema.build().unwrap())
            .child_with(spec)
            .start()
    };
    let tree = start(|tree| {
        let tree = tree.clone();
        ChildSpec::worker("writes", move || (Writes, tree.clone()))
    });
    let report = within("shutdown", tree.await.unwrap().shutdown()).await;
    assert!(report.is_clean(), "{report:?}");

    let tree = start(|_| puppet("a")).await.unwrap();
    let words = tree.guard("database").pool(DATABASE);
    let words = words
        .run(|db| async move {
            db.query_row("SELECT words FROM last", |row| row.get::<_, String>(0))
                .await
        })
        .await;
    assert_eq!(words.unwrap(), "bye");
    assert_eq!(tree.config().get_value("words").unwrap(), "bye");
    shut_down(&tree).await;
}

/// Ends once it is told to, and not before.
struct Leaving;

impl Actor for Leaving {
    type Msg = Order;
    type State = Arc<Notify>;
    type Arguments = Arc<Notify>;

    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        released: Arc<Notify>,
    ) -> Result<Arc<Notify>, ActorProcessingErr> {
        Ok(released)
    }

    async fn post_stop(
        &self,
        _: ActorRef<Order>,
        released: &mut Arc<Notify>,
    ) -> Result<(), ActorProcessingErr> {
        released.notified().await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_4_a_tree_waits_for_an_orphan_although_a_start_at_its_place_has_declined() {
    let (released, declines) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (end, is_over) = (Arc::clone(&released), Arc::clone(&declines));
    let session =
        ChildTemplate::from_fn("session", ChildKind::Worker, move |context, _: Arc<()>| {
            let (end, declines) = (Arc::clone(&end), is_over.load(SeqCst));
            async move {
                if declines {
                    return Ok(Started::Ignored);
                }
                Ok(context.spawn(Leaving, end).await?.into())
            }
        });
    let sessions = DynamicSupervisor::builder(session.shutdown(Shutdown::Infinity));
    let tree = Tree::builder("orphaned")
        .child(sessions.build().unwrap().into_child("sessions"))
        .start()
        .await
        .unwrap();
    let place = tree.host().node().child("sessions").unwrap();
    let sessions = DynamicSupervisor::<()>::at(&place).unwrap();
    let orphan = sessions.start_child_named("a", ()).await.unwrap();
    let killed = place.current().unwrap();
    killed.kill();
    killed.ended().await;
    within("the next supervisor", place.running()).await;
    declines.store(true, SeqCst);
    sessions.start_child_named("a", ()).await.unwrap_err();

    let root = tree.root().clone();
    tokio::spawn(async move {
        root.ended().await;
        // Time enough for a shutdown that does not wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        released.notify_one();
    });
    let report = shut_down(&tree).await;
    assert!(report.killed.is_empty(), "{report:?}");
    assert!(orphan.incarnation().has_ended());
    nothing_runs(tree.scope());
}
