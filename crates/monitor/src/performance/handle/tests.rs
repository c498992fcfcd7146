use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context, Wake, Waker};

use perennial_testkit::OnRegister;
use ractor::{Actor, ActorRef};
use tokio::{task::JoinHandle, time::sleep};

use super::*;
use crate::{
    Window,
    performance::{Comparison, Metric, ServiceMatch, Severity, actor::Evaluate},
};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

async fn start(monitor: &PerformanceMonitor) -> (ActorRef<Evaluate>, JoinHandle<()>) {
    Actor::spawn(None, PerformanceActor, monitor.cell())
        .await
        .unwrap()
}

fn record_many(monitor: &PerformanceMonitor, service: &str, count: usize, latency: Duration) {
    let recorder = monitor.recorder(service);
    for _ in 0..count {
        recorder.record(Outcome::Success, latency);
    }
}

#[tokio::test(start_paused = true)]
async fn rates_are_counts_divided_by_time() {
    let monitor = PerformanceMonitor::default();
    let recorder = monitor.recorder("database");
    for i in 0..100 {
        let outcome = if i % 10 == 0 {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        recorder.record(outcome, MS);
        sleep(100 * MS).await;
    }
    let report = monitor.report("database").unwrap();
    assert_eq!((report.total.count, report.total.errors), (100, 10));
    for window in Window::ALL {
        let stats = report.window(window);
        assert_eq!(stats.window, window);
        assert_eq!(stats.throughput, 10.0);
        assert_eq!(stats.error_rate, Some(0.1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_for_a_moment_to_come_counts_as_of_now() {
    let monitor = PerformanceMonitor::default();
    let recorder = monitor.recorder("database");
    let record = |at| recorder.record_at(at, Outcome::Success, MS);
    // At the first, the step of the recorder is the first of all.
    sleep(HOUR).await;
    let counts = || {
        let report = monitor.report("database").unwrap();
        Window::ALL.map(|window| report.window(window).count)
    };
    record(Instant::now());
    // As far ahead as one whole turn of each of the rings.
    for (before, ahead) in [60 * 1_000 * MS, HOUR, 24 * HOUR].into_iter().enumerate() {
        let before = 1 + 2 * before as u64;
        record(Instant::now() + ahead);
        assert_eq!(counts(), [before + 1; 3]);
        record(Instant::now());
        assert_eq!(counts(), [before + 2; 3]);
    }
    sleep(2 * HOUR).await;
    assert_eq!(counts(), [0, 0, 7]);
}

#[tokio::test(start_paused = true)]
async fn services_are_told_apart_by_their_whole_names() {
    let monitor = PerformanceMonitor::default();
    monitor.record("svc", Outcome::Success, MS);
    monitor.record("{:breaker, \"svc\"}", Outcome::Failure, MS);
    assert!(monitor.report("sv").is_none());
    assert_eq!(monitor.report("svc").unwrap().total.count, 1);
    assert_eq!(monitor.reports().len(), 2);
    assert!(serde_json::to_string(&monitor.reports()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn services_beyond_the_bound_share_one_entry() {
    let config = PerformanceConfig::builder().max_services(NonZeroUsize::new(2).unwrap());
    let monitor = PerformanceMonitor::new(config.build().unwrap());
    for i in 0..1_000 {
        monitor.record(&format!("s{i}"), Outcome::Success, MS);
    }
    let counts: Vec<_> = monitor
        .reports()
        .into_iter()
        .map(|report| (report.service, report.total.count))
        .collect();
    assert_eq!(
        counts,
        [
            ("(others)".to_owned(), 998),
            ("s0".to_owned(), 1),
            ("s1".to_owned(), 1)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_without_recorder_is_forgotten_after_a_day() {
    let config = PerformanceConfig::builder().evaluate_every(HOUR / 2);
    let monitor = PerformanceMonitor::new(config.build().unwrap());
    let _running = start(&monitor).await;
    let held = monitor.recorder("held");
    held.record(Outcome::Success, MS);
    monitor.record("passing", Outcome::Success, MS);
    sleep(23 * HOUR).await;
    assert_eq!(monitor.reports().len(), 2);
    sleep(2 * HOUR).await;
    let left: Vec<_> = monitor
        .reports()
        .into_iter()
        .map(|report| report.service)
        .collect();
    assert_eq!(left, ["held"]);
    assert_eq!(held.service(), "held");
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_raises_one_alert_and_clears_it_when_it_recovers() {
    let monitor = PerformanceMonitor::default();
    let mut events = monitor.subscribe();
    let _running = start(&monitor).await;

    record_many(&monitor, "slow", 20, 50 * MS);
    record_many(&monitor, "fast", 20, MS);
    let Some(AlertEvent::Raised(raised)) = events.next().await else {
        panic!("an alert is raised")
    };
    assert_eq!(
        (raised.rule.as_str(), raised.service.as_str()),
        ("high_latency", "slow")
    );
    assert_eq!(raised.severity, Severity::Warning);
    assert_eq!(monitor.alerts(), std::slice::from_ref(&raised));
    assert_eq!(monitor.report("slow").unwrap().alerts, monitor.alerts());
    assert_eq!(monitor.report("fast").unwrap().alerts, []);

    for _ in 0..6 {
        record_many(&monitor, "slow", 20, 50 * MS);
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(
        events.try_next(),
        None,
        "it is raised once, not at every look"
    );

    let cleared = events.next().await;
    assert_eq!(cleared, Some(AlertEvent::Cleared(raised)));
    assert_eq!(monitor.alerts(), []);
}

#[tokio::test(start_paused = true)]
async fn failing_operations_raise_a_critical_alert() {
    let monitor = PerformanceMonitor::default();
    let mut events = monitor.subscribe();
    let _running = start(&monitor).await;
    for _ in 0..10 {
        monitor.record("s", Outcome::Failure, MS);
    }
    let Some(AlertEvent::Raised(alert)) = events.next().await else {
        panic!("an alert is raised")
    };
    assert_eq!(alert.rule, "high_error_rate");
    assert_eq!((alert.severity, alert.value), (Severity::Critical, 1.0));
}

#[tokio::test(start_paused = true)]
async fn low_throughput_is_judged_only_when_asked_for_and_over_a_whole_window() {
    let monitor = PerformanceMonitor::default();
    let mut events = monitor.subscribe();
    let _running = start(&monitor).await;
    let _idle = monitor.recorder("idle");
    sleep(HOUR).await;
    assert_eq!(events.try_next(), None);

    monitor
        .set_rules(vec![AlertRule::low_throughput()])
        .unwrap();
    let _young = monitor.recorder("young");
    sleep(Duration::from_secs(30)).await;
    let services =
        |alerts: Vec<Alert>| -> Vec<_> { alerts.into_iter().map(|alert| alert.service).collect() };
    assert_eq!(services(monitor.alerts()), ["idle"]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(services(monitor.alerts()), ["idle", "young"]);
    monitor.set_rules(Vec::new()).unwrap();
    assert_eq!(monitor.alerts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_watch_one_service() {
    let rule = AlertRule::builder("r", Metric::LatencyMax, Comparison::Above, 10.0)
        .service(ServiceMatch::Exact("a".to_owned()))
        .min_samples(1)
        .build()
        .unwrap();
    let monitor = PerformanceMonitor::default();
    assert!(monitor.set_rules(vec![rule.clone(), rule.clone()]).is_err());
    assert_eq!(monitor.rules().len(), 2, "the defaults");
    monitor.set_rules(vec![rule.clone()]).unwrap();
    let mut events = monitor.subscribe();
    let _running = start(&monitor).await;
    monitor.record("a", Outcome::Success, MS);
    monitor.record("aa", Outcome::Success, MS);
    assert!(matches!(events.next().await, Some(AlertEvent::Raised(alert)) if alert.service == "a"));
    assert_eq!(monitor.alerts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_baseline_needs_ten_samples_and_is_renewed() {
    let monitor = PerformanceMonitor::default();
    let _running = start(&monitor).await;
    record_many(&monitor, "s", 9, MS);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(monitor.report("s").unwrap().baseline, None);
    record_many(&monitor, "s", 1, MS);
    sleep(Duration::from_secs(6)).await;
    let first = monitor.report("s").unwrap().baseline.unwrap();
    assert_eq!((first.samples, first.error_rate), (10, 0.0));

    record_many(&monitor, "s", 10, 3 * MS);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(monitor.report("s").unwrap().baseline, Some(first));
    sleep(Duration::from_secs(300)).await;
    let second = monitor.report("s").unwrap().baseline.unwrap();
    assert_eq!((second.samples, second.latency.avg_us), (20, 2_000.0));
}

#[tokio::test(start_paused = true)]
async fn a_kill_loses_nothing_and_the_successor_goes_on() {
    let monitor = PerformanceMonitor::default();
    let mut events = monitor.subscribe();
    let (actor, ended) = start(&monitor).await;
    record_many(&monitor, "s", 20, 50 * MS);
    let raised = events.next().await;
    assert!(matches!(raised, Some(AlertEvent::Raised(_))));
    let before = monitor.report("s").unwrap();

    actor.kill();
    ended.await.unwrap();
    assert_eq!(monitor.report("s").unwrap(), before);
    monitor.record("s", Outcome::Success, MS);
    assert_eq!(monitor.report("s").unwrap().total.count, 21);

    let _running = start(&monitor).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        events.try_next(),
        None,
        "what is raised is not raised again"
    );
    assert!(matches!(events.next().await, Some(AlertEvent::Cleared(_))));
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_an_alert_is_told_in_its_order() {
    let monitor = PerformanceMonitor::default();
    let mut events = monitor.subscribe();
    record_many(&monitor, "s", 20, 50 * MS);
    let cell = monitor.cell();
    let service = cell.find("s").unwrap();
    // Here as in another thread: an alert is cleared after it was raised, and before that was told.
    let hasty = OnRegister(|key: &metrics::Key| {
        if key.name() == "perennial.service.alert" {
            monitor.set_rules(Vec::new()).unwrap();
        }
        None
    });
    metrics::with_local_recorder(&hasty, || cell.evaluate(&service));
    assert_eq!(monitor.alerts(), []);
    assert!(matches!(events.try_next(), Some(AlertEvent::Raised(_))));
    assert!(matches!(events.try_next(), Some(AlertEvent::Cleared(_))));
    assert_eq!(events.try_next(), None);
}

/// Panics where it is woken.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_where_it_is_woken_keeps_nothing_from_others() {
    let monitor = PerformanceMonitor::default();
    let (mut events, mut hasty) = (monitor.subscribe(), monitor.subscribe());
    let mut waits = pin!(hasty.next());
    let waker = Waker::from(Arc::new(Bomb));
    assert!(
        waits
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    record_many(&monitor, "s", 20, 50 * MS);
    monitor.cell().evaluate(&monitor.cell().find("s").unwrap());
    monitor.set_rules(Vec::new()).unwrap();
    assert!(matches!(events.try_next(), Some(AlertEvent::Raised(_))));
    assert!(matches!(events.try_next(), Some(AlertEvent::Cleared(_))));
}

#[tokio::test(start_paused = true)]
async fn events_end_with_the_monitor() {
    let monitor = PerformanceMonitor::default();
    let mut events = monitor.subscribe();
    drop(monitor);
    assert_eq!(events.next().await, None);
}
