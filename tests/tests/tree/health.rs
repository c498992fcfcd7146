//! Health shows what is wrong, and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial::breaker::Trip;
use perennial::monitor::{ServiceHealth, Status};
use perennial::{
    Backoff, BreakerConfig, Check, CheckReport, ChildSpec, ChildState, DATABASE, DatabaseWorker,
    GuardError, Name, Overall, PoolConfig, Pressure, Quarantine, Quota, RestartIntensity, Tree,
};
use perennial_testkit::{Journal, Order};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;

use crate::support::{echoes, patient, puppet, shut_down, within};

async fn ask(tree: &Tree, service: &str) -> ServiceHealth {
    let health = within("health", tree.health().check()).await;
    let found = health.service(service);
    found
        .unwrap_or_else(|| panic!("no {service} in {health:?}"))
        .clone()
}

#[tokio::test]
async fn a_tree_in_which_all_is_well_is_healthy() {
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .depends_on("billing", "database")
        .start()
        .await
        .unwrap();
    let health = within("health", tree.health().check()).await;
    assert_eq!(
        health.overall(Pressure::Low),
        Overall::Healthy,
        "{health:?}"
    );
    let names: Vec<_> = health.services.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["billing", "config_server", "database"]);
    let quick = tree.health().quick();
    assert_eq!((quick.status, quick.alive), (Status::Healthy, 3));
    shut_down(&tree).await;
}

struct Slow(Journal<()>);

impl Actor for Slow {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.push(());
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_handler_that_is_stuck_shows_while_it_is() {
    let entered = Journal::new();
    let journal = entered.clone();
    let tree = Tree::builder("t")
        .child(ChildSpec::worker("slow", move || {
            (Slow(journal.clone()), ())
        }))
        .start()
        .await
        .unwrap();
    tree.cast(Name::<()>::new("slow"), ()).unwrap();
    within("the message in hand", entered.wait_for(1)).await;
    assert_eq!(ask(&tree, "slow").await.status, Status::Healthy);

    // From here on time passes only by hand.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    let slow = ask(&tree, "slow").await;
    assert_eq!(slow.status, Status::Degraded, "{slow:?}");
    assert!(
        slow.causes[0].starts_with("answers in time: a message is in hand"),
        "{slow:?}"
    );

    tokio::time::advance(Duration::from_secs(10)).await;
    let slow = ask(&tree, "slow").await;
    assert_eq!(slow.status, Status::Unhealthy, "{slow:?}");
    tokio::time::resume();

    tree.debug().kill("t/host/slow").await.unwrap();
    within(
        "the restart",
        tree.host().node().child("slow").unwrap().running(),
    )
    .await;
    assert_eq!(ask(&tree, "slow").await.status, Status::Healthy);
    shut_down(&tree).await;
}

#[tokio::test]
async fn an_open_breaker_shows_at_its_service_and_at_whoever_depends_on_it() {
    let tree = Tree::builder("t")
        .breaker(
            "geocoder",
            BreakerConfig::builder()
                .trip(Trip::Consecutive(1))
                .build()
                .unwrap(),
        )
        .child(puppet("billing"))
        .child(puppet("apart"))
        .depends_on("billing", "geocoder")
        .start()
        .await
        .unwrap();
    let guard = tree.guard("geocoder");
    guard
        .run(|()| async { Err::<(), _>("no") })
        .await
        .unwrap_err();
    let geocoder = ask(&tree, "geocoder").await;
    assert_eq!(
        (geocoder.status, &*geocoder.causes),
        (
            Status::Degraded,
            &["breaker: the circuit is open".to_owned()][..]
        )
    );
    let billing = ask(&tree, "billing").await;
    assert_eq!(billing.causes, ["depends on geocoder: the circuit is open"]);
    assert_eq!(ask(&tree, "apart").await.status, Status::Healthy);
    tree.breaker("geocoder").unwrap().reset();
    assert_eq!(ask(&tree, "billing").await.status, Status::Healthy);
    shut_down(&tree).await;
}

#[tokio::test]
async fn a_dependency_that_is_down_or_unknown_shows() {
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .child(puppet("orders"))
        .child(puppet("misspelt"))
        .depends_on("orders", "billing")
        .depends_on("misspelt", "bliling")
        .start()
        .await
        .unwrap();
    assert_eq!(ask(&tree, "orders").await.status, Status::Healthy);
    let misspelt = ask(&tree, "misspelt").await;
    assert_eq!(misspelt.status, Status::Unhealthy);
    assert_eq!(
        misspelt.causes,
        ["depends on bliling: the tree has no such service"]
    );

    tree.debug().stop("t/host/billing").await.unwrap();
    let billing = ask(&tree, "billing").await;
    assert_eq!(
        (billing.status, &*billing.causes[0]),
        (Status::Unhealthy, "alive: it is not running")
    );
    let orders = ask(&tree, "orders").await;
    assert_eq!(orders.status, Status::Unhealthy, "{orders:?}");
    assert_eq!(orders.causes, ["depends on billing: it is not running"]);
    assert_eq!(tree.health().quick().down, ["billing"]);
    shut_down(&tree).await;
}

#[tokio::test]
async fn health_8_the_hosts_own_checks_are_added_to_those_of_the_tree() {
    let is_sold_out = Arc::new(AtomicBool::new(false));
    let shelf = {
        let is_sold_out = Arc::clone(&is_sold_out);
        move || {
            let is_sold_out = is_sold_out.load(Ordering::SeqCst);
            async move {
                CheckReport::new().with(match is_sold_out {
                    true => Check::degraded("shelf", "sold out"),
                    false => Check::healthy("shelf"),
                })
            }
        }
    };
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .child(puppet("orders"))
        .health_check("billing", shelf.clone())
        .health_check("supplier", shelf)
        .depends_on("orders", "billing")
        .depends_on("supplier", "database")
        .depends_on("database", "supplier")
        .start()
        .await
        .unwrap();
    let health = within("health", tree.health().check()).await;
    assert_eq!(health.status, Status::Healthy, "{health}");
    let names: Vec<_> = health.services.iter().map(|it| &*it.name).collect();
    let all = ["billing", "config_server", "database", "orders", "supplier"];
    assert_eq!(names, all);
    let billing = health.service("billing").unwrap();
    let aspects: Vec<_> = billing.checks.iter().map(|it| &*it.name).collect();
    assert_eq!(aspects, ["alive", "mailbox", "answers in time", "shelf"]);

    is_sold_out.store(true, Ordering::SeqCst);
    let health = within("health", tree.health().check()).await;
    assert_eq!(
        health.to_string(),
        "degraded, score 0.60\n  \
         billing: degraded: shelf: sold out\n  \
         database: degraded: depends on supplier: shelf: sold out\n  \
         orders: degraded: depends on billing: shelf: sold out\n  \
         supplier: degraded: shelf: sold out"
    );
    shut_down(&tree).await;
}

#[tokio::test]
async fn health_8_a_check_of_the_host_that_panics_or_says_nothing_is_an_answer() {
    let silent = || async { CheckReport::new() };
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .health_check("billing", || async { panic!("no shelf") })
        .health_check("supplier", silent)
        .depends_on("config_server", "supplier")
        .start()
        .await
        .unwrap();
    let causes = async |service| ask(&tree, service).await.causes;
    assert_eq!(
        causes("billing").await,
        ["check: the check panicked: no shelf"]
    );
    let nothing = "the check looked at nothing";
    assert_eq!(causes("supplier").await, [format!("check: {nothing}")]);
    assert_eq!(
        causes("config_server").await,
        [format!("depends on supplier: {nothing}")]
    );
    shut_down(&tree).await;
}

#[tokio::test]
async fn a_transient_actor_that_has_done_its_work_is_not_missed() {
    let tree = Tree::builder("t")
        .child(puppet("job").transient())
        .start()
        .await
        .unwrap();
    let run = tree.host().node().child("job").unwrap().current().unwrap();
    tree.cast(Name::new("job"), Order::Stop).unwrap();
    within("the end of the job", run.ended()).await;
    assert_eq!(ask(&tree, "job").await.status, Status::Healthy);
    shut_down(&tree).await;
}

/// Tells when its start begins, and starts when it may.
struct Late(Journal<Tree>, Arc<Notify>);

impl Actor for Late {
    type Msg = ();
    type State = ();
    type Arguments = Tree;

    async fn pre_start(&self, _: ActorRef<()>, tree: Tree) -> Result<(), ActorProcessingErr> {
        self.0.push(tree);
        self.1.notified().await;
        Ok(())
    }
}

#[tokio::test]
async fn health_1_an_actor_whose_first_start_takes_long_is_not_missed() {
    let (begun, go) = (Journal::new(), Arc::new(Notify::new()));
    let late = (begun.clone(), Arc::clone(&go));
    let start = Tree::builder("t")
        .child(puppet("early"))
        .child_with(|tree| {
            let tree = tree.clone();
            let (begun, go) = late;
            ChildSpec::worker("late", move || {
                (Late(begun.clone(), Arc::clone(&go)), tree.clone())
            })
        });
    let start = tokio::spawn(start.start());
    within("the start", begun.wait_for(1)).await;
    let tree = begun.entries().remove(0);
    let late = ask(&tree, "late").await;
    assert_eq!(late.status, Status::Healthy, "{late:?}");
    go.notify_one();
    within("the start", start).await.unwrap().unwrap();

    // From now on it is missed.
    tree.debug().kill("t/host/late").await.unwrap();
    within("the start", begun.wait_for(2)).await;
    assert_eq!(ask(&tree, "late").await.status, Status::Unhealthy);
    go.notify_one();
    shut_down(&tree).await;
}

#[tokio::test]
async fn a_pool_whose_callers_wait_shows() {
    let tree = Tree::builder("t")
        .pool(DATABASE, DatabaseWorker::in_memory("t"), PoolConfig::new(1))
        .child(puppet("billing"))
        .depends_on("billing", "database")
        .start()
        .await
        .unwrap();
    let pool = tree.pool(DATABASE).unwrap();
    let held = pool.checkout().await.unwrap();
    let mut waiting = std::pin::pin!(pool.checkout());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let database = ask(&tree, "database").await;
    assert_eq!(database.causes, ["pool: 1 callers wait for a worker"]);
    assert_eq!(ask(&tree, "billing").await.status, Status::Degraded);
    drop(held);
    drop(within("a checkout", waiting).await.unwrap());
    assert_eq!(ask(&tree, "database").await.status, Status::Healthy);
    shut_down(&tree).await;
}

#[tokio::test]
async fn the_outcomes_of_protected_operations_are_counted_by_service() {
    let tree = Tree::builder("t")
        .settings(patient())
        .breaker(
            "orders",
            BreakerConfig::builder()
                .trip(Trip::Consecutive(2))
                .build()
                .unwrap(),
        )
        .start()
        .await
        .unwrap();
    let one = ("user", 1);
    let guard = tree
        .guard("orders")
        .rate_key(one)
        .quota(Quota::per_hour(6))
        .build()
        .unwrap();
    for _ in 0..3 {
        guard.run(|()| async { Ok::<_, ()>(()) }).await.unwrap();
    }
    for _ in 0..2 {
        guard
            .run(|()| async { Err::<(), _>("no") })
            .await
            .unwrap_err();
    }
    let open = guard.run(|()| async { Ok::<_, ()>(()) }).await;
    assert!(matches!(open, Err(GuardError::CircuitOpen(_))), "{open:?}");
    let over = guard.run(|()| async { Ok::<_, ()>(()) }).await;
    assert!(
        matches!(over, Err(GuardError::RateLimited { .. })),
        "{over:?}"
    );
    // A refusal says nothing about how the service performs.
    let orders = tree.performance().report("orders").unwrap();
    assert_eq!((orders.total.count, orders.total.errors), (5, 2));
    assert_eq!((orders.minute.count, orders.minute.errors), (5, 2));
    let database = tree.guard("database").pool(DATABASE);
    database
        .run(|db| async move { db.batch("SELECT 1").await })
        .await
        .unwrap();
    let reports = tree.performance().reports();
    let counts: Vec<_> = reports
        .iter()
        .map(|it| (&*it.service, it.total.count))
        .collect();
    assert_eq!(
        counts,
        [("config_server", 0), ("database", 1), ("orders", 5)]
    );
    shut_down(&tree).await;
}

#[tokio::test]
async fn an_actor_in_quarantine_degrades_its_service_and_whoever_depends_on_it() {
    let times = Backoff::constant(Duration::from_secs(30));
    let parked = puppet("rates")
        .budget(RestartIntensity::new(0, Duration::from_secs(1)))
        .quarantine(Quarantine::new(times));
    let tree = Tree::builder("t")
        .child(parked)
        .child(puppet("billing"))
        .depends_on("billing", "rates")
        .start()
        .await
        .unwrap();
    let node = tree.host().node().child("rates").unwrap();
    tokio::time::pause();
    let crash = Order::Fail("no rates");
    tree.cast(Name::<Order>::new("rates"), crash).unwrap();
    while node.state() != ChildState::Quarantined {
        let changed = node.changed();
        if node.state() != ChildState::Quarantined {
            changed.await;
        }
    }
    for (service, aspect) in [("rates", "alive"), ("billing", "depends on rates")] {
        let health = ask(&tree, service).await;
        assert_eq!(health.status, Status::Degraded, "{health:?}");
        let cause = format!("{aspect}: in quarantine for another 30s");
        assert_eq!(health.causes, [cause]);
    }
    let shown = tree.debug().snapshot().await.unwrap().render();
    assert!(
        shown.contains("quarantined for another 30.0s: failed: no rates"),
        "{shown}"
    );
    tree.debug().resume("t/host/rates").await.unwrap();
    echoes(&tree, &Name::new("rates")).await;
    assert_eq!(ask(&tree, "rates").await.status, Status::Healthy);
    tokio::time::resume();
    shut_down(&tree).await;
}
