use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    task::{Context, Waker},
};

use perennial_testkit::OnRegister;
use ractor::{Actor, ActorRef};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{Check, CheckReport, HealthFuture, Status, health::actor::Refresh, with_liveness};

const SECOND: Duration = Duration::from_secs(1);

async fn start(health: &HealthAggregator) -> (ActorRef<Refresh>, JoinHandle<()>) {
    Actor::spawn(None, HealthActor, health.cell())
        .await
        .unwrap()
}

/// Lets everything that is ready run; the clock moves only when nothing else can.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

fn well() -> Box<dyn HealthCheck> {
    Box::new(|| async { CheckReport::new().with(Check::alive(true)) })
}

fn taking(time: Duration) -> Box<dyn HealthCheck> {
    Box::new(move || async move {
        sleep(time).await;
        CheckReport::new().with(Check::alive(true))
    })
}

#[tokio::test(start_paused = true)]
async fn no_services_are_a_healthy_system() {
    let health = HealthAggregator::default();
    let report = health.check().await;
    assert_eq!((report.status, report.score), (Status::Healthy, 1.0));
    assert_eq!(health.overall(Pressure::Low), Overall::Healthy);
}

#[tokio::test(start_paused = true)]
async fn all_checks_run_at_the_same_time() {
    let health = HealthAggregator::default();
    for i in 0..50 {
        health.register(format!("s{i}"), taking(900 * Duration::from_millis(1)));
    }
    let started = Instant::now();
    let report = health.check().await;
    assert_eq!(report.status, Status::Healthy);
    assert_eq!(report.services.len(), 50);
    assert!(started.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_is_a_result() {
    let health = HealthAggregator::default();
    health.register("a_hangs", Box::new(std::future::pending));
    health.register("b_panics", Box::new(|| async { panic!("bad luck") }));
    health.register(
        "c_panics_early",
        Box::new(|| -> std::future::Ready<CheckReport> { panic!("worse") }),
    );
    health.register("d_is_well", well());
    let started = Instant::now();
    let report = health.check().await;
    assert!(started.elapsed() <= SECOND + Duration::from_millis(1));
    let causes: Vec<_> = report
        .services
        .iter()
        .map(|service| service.causes.clone())
        .collect();
    assert_eq!(
        causes,
        [
            vec!["answers: no answer within 1s".to_owned()],
            vec!["check: the check panicked: bad luck".to_owned()],
            vec!["check: the check panicked: worse".to_owned()],
            vec![],
        ]
    );
    assert_eq!((report.status, report.score), (Status::Unhealthy, 0.25));
    assert_eq!(report.service("d_is_well").unwrap().score, 1.0);
    assert!(serde_json::to_string(&report).is_ok());
}

/// A service whose first check blocks its thread until it is released.
struct Stuck {
    health: HealthAggregator,
    release: std::sync::mpsc::Sender<()>,
    started: Arc<AtomicUsize>,
    begun: tokio::sync::oneshot::Receiver<()>,
}

impl Stuck {
    fn new() -> Self {
        // Nothing here takes nearly as long.
        let long = 3600 * SECOND;
        let config = HealthConfig::builder().refresh_every(long).timeout(long);
        let health = HealthAggregator::new(config.build().unwrap());
        let (release, blocked) = std::sync::mpsc::channel();
        let (announce, begun) = tokio::sync::oneshot::channel();
        let first = Arc::new(std::sync::Mutex::new(Some((announce, blocked))));
        let started = Arc::new(AtomicUsize::new(0));
        let starts = Arc::clone(&started);
        health.register(
            "stuck",
            Box::new(move || {
                let (first, starts) = (Arc::clone(&first), Arc::clone(&starts));
                async move {
                    starts.fetch_add(1, Ordering::SeqCst);
                    let first = first.lock().unwrap().take();
                    if let Some((announce, blocked)) = first {
                        announce.send(()).unwrap();
                        blocked.recv().unwrap();
                    }
                    CheckReport::new().with(Check::alive(true))
                }
            }),
        );
        Self {
            health,
            release,
            started,
            begun,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_blocks_its_thread_is_not_started_twice() {
    let mut it = Stuck::new();
    // Given up once it blocks.
    tokio::select! {
        begun = &mut it.begun => begun.unwrap(),
        report = it.health.check() => panic!("{report:?}"),
    }
    for _ in 0..3 {
        let report = timeout(10 * SECOND, it.health.check()).await.unwrap();
        assert_eq!(
            report.services[0].causes,
            ["answers: an earlier check still blocks its thread"]
        );
    }
    assert_eq!(it.started.load(Ordering::SeqCst), 1);
    it.release.send(()).unwrap();
}

#[tokio::test]
async fn of_checks_at_the_same_time_one_at_most_blocks_its_thread() {
    let it = Stuck::new();
    let service = Arc::clone(&it.health.cell().services.lock().unwrap()[0]);
    let check = || Box::pin(Arc::clone(&service).check());
    let (mut first, mut second, mut third) = (check(), check(), check());
    let first = std::thread::spawn(move || {
        let poll = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        poll.is_ready()
    });
    it.begun.await.unwrap();
    for other in [&mut second, &mut third] {
        let poll = other.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    }
    assert_eq!(it.started.load(Ordering::SeqCst), 1);
    it.release.send(()).unwrap();
    assert!(first.join().unwrap());
    drop(tokio::join!(second, third));
    assert_eq!(it.started.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn checks_at_the_same_time_wait_side_by_side() {
    let health = HealthAggregator::default();
    health.register(
        "slow",
        Box::new(|| async {
            tokio::time::sleep(Duration::from_millis(900)).await;
            CheckReport::new().with(Check::alive(true))
        }),
    );
    let began = tokio::time::Instant::now();
    let (first, second) = tokio::join!(health.check(), health.check());
    assert_eq!(
        (first.status, second.status),
        (Status::Healthy, Status::Healthy)
    );
    assert_eq!(began.elapsed(), Duration::from_millis(900));
}

#[tokio::test(start_paused = true)]
async fn quick_asks_only_for_liveness() {
    let health = HealthAggregator::default();
    let up = Arc::new(AtomicBool::new(true));
    let alive = Arc::clone(&up);
    health.register(
        "switched",
        with_liveness(move || alive.load(Ordering::SeqCst), std::future::pending),
    );
    health.register("well", well());
    assert_eq!(health.quick().status, Status::Healthy);
    up.store(false, Ordering::SeqCst);
    let quick = health.quick();
    assert_eq!((quick.status, quick.alive), (Status::Degraded, 1));
    assert_eq!(quick.down, ["switched"]);
    assert_eq!(health.overall(Pressure::Low), Overall::Degraded);
    health.register("well", with_liveness(|| panic!("no"), std::future::pending));
    assert_eq!(health.quick().status, Status::Unhealthy);
    assert_eq!(health.overall(Pressure::Critical), Overall::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn services_are_replaced_and_removed_by_name_and_reported_in_order() {
    let health = HealthAggregator::default();
    assert!(!health.register("b", well()));
    assert!(!health.register("(pool, a)", well()));
    assert!(health.register("b", Box::new(|| async { CheckReport::new() })));
    assert_eq!(health.services(), ["(pool, a)", "b"]);
    let report = health.check().await;
    assert_eq!((report.status, report.score), (Status::Degraded, 0.5));
    assert!(health.unregister("b"));
    assert!(!health.unregister("b"));
    assert_eq!(health.check().await.status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_dropped_where_it_may_use_the_aggregator() {
    struct Nosy(Arc<HealthCell>, Arc<AtomicUsize>);
    impl HealthCheck for Nosy {
        fn check(&self) -> HealthFuture<'_> {
            Box::pin(async { CheckReport::new() })
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            // To wait for the lock here would be to wait for ever.
            assert!(self.0.services.try_lock().is_ok());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let health = HealthAggregator::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let nosy = || Box::new(Nosy(health.cell(), Arc::clone(&dropped)));
    health.register("s", nosy());
    health.register("s", nosy());
    health.unregister("s");
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_one_that_gave_up_is_told_of_no_thread_that_is_blocked() {
    let health = HealthAggregator::default();
    health.register("slow", taking(900 * Duration::from_millis(1)));
    for _ in 0..3 {
        let given_up = timeout(SECOND / 2, health.check());
        assert!(given_up.await.is_err());
        assert_eq!(health.check().await.status, Status::Healthy);
    }
}

#[tokio::test(start_paused = true)]
async fn the_actor_keeps_the_latest_report_fresh() {
    let health = HealthAggregator::default();
    let depth = Arc::new(AtomicUsize::new(0));
    let mailbox = Arc::clone(&depth);
    health.register(
        "s",
        Box::new(move || {
            let waiting = mailbox.load(Ordering::SeqCst);
            async move { CheckReport::new().with(Check::mailbox(waiting)) }
        }),
    );
    assert_eq!(health.latest(), None);
    assert_eq!(health.latest_age(), None);
    let _running = start(&health).await;
    assert_eq!(health.next_report().await.status, Status::Healthy);

    depth.store(Check::MAILBOX_LIMIT + 1, Ordering::SeqCst);
    let report = health.next_report().await;
    assert_eq!(report.services[0].status, Status::Degraded);
    assert_eq!(report.services[0].causes, ["mailbox: 1001 messages wait"]);
    assert_eq!(health.latest(), Some(report));
    sleep(SECOND).await;
    assert!(health.latest_age().unwrap() >= SECOND);
    assert_eq!(
        health.overall(Pressure::Low),
        Overall::Unhealthy,
        "none is healthy"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stuck_check_holds_up_neither_the_actor_nor_its_callers() {
    let health = HealthAggregator::default();
    health.register("stuck", Box::new(std::future::pending));
    let (actor, ended) = start(&health).await;
    for _ in 0..3 {
        let report = health.next_report().await;
        assert_eq!(report.status, Status::Unhealthy);
    }
    sleep(10 * SECOND - Duration::from_millis(500)).await;
    // In the midst of a refresh.
    actor.stop(None);
    let stopping = Instant::now();
    ended.await.unwrap();
    assert_eq!(stopping.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_removed_has_no_status_in_the_metrics_any_more() {
    // By service and state.
    let gauges = std::sync::Mutex::<BTreeMap<Vec<String>, Arc<AtomicU64>>>::default();
    let recorder = OnRegister(|key: &metrics::Key| {
        let is_status = key.name() == "perennial.health.service.status";
        let labels = key.labels().map(|label| label.value().to_owned());
        let mut gauges = gauges.lock().unwrap();
        is_status.then(|| Arc::clone(gauges.entry(labels.collect()).or_default()))
    });
    let _local = metrics::set_default_local_recorder(&recorder);
    let of = |service: &str, state: &str| {
        let gauges = gauges.lock().unwrap();
        f64::from_bits(gauges[&[service, state].map(String::from)[..]].load(Ordering::SeqCst))
    };
    let health = HealthAggregator::default();
    health.register("stays", well());
    health.register("goes", Box::new(|| async { CheckReport::new() }));
    let _running = start(&health).await;
    health.next_report().await;
    let goes = |state| of("goes", state);
    assert_eq!((goes("healthy"), goes("unhealthy")), (0.0, 1.0));
    health.unregister("goes");
    health.next_report().await;
    settle().await;
    assert_eq!((goes("healthy"), goes("unhealthy")), (0.0, 0.0));
    assert_eq!(of("stays", "healthy"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_kill_loses_nothing_and_the_successor_goes_on() {
    let health = HealthAggregator::default();
    health.register("s", well());
    let (actor, ended) = start(&health).await;
    let before = health.next_report().await;

    actor.kill();
    ended.await.unwrap();
    assert_eq!(health.latest(), Some(before));
    assert_eq!(health.services(), ["s"]);
    assert_eq!(health.check().await.status, Status::Healthy);

    health.register("t", Box::new(|| async { CheckReport::new() }));
    let _running = start(&health).await;
    let report = health.next_report().await;
    assert_eq!((report.status, report.score), (Status::Degraded, 0.5));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_check_aborts_what_it_started() {
    struct Gone(Arc<AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let health = HealthAggregator::default();
    let gone = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&gone);
    health.register(
        "s",
        Box::new(move || {
            let held = Gone(Arc::clone(&mark));
            async move {
                let _held = held;
                std::future::pending().await
            }
        }),
    );
    let checking = timeout(SECOND / 2, health.check());
    assert!(checking.await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert!(gone.load(Ordering::SeqCst));
}
