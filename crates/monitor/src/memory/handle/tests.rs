use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use ractor::{Actor, ActorRef};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{advance, sleep},
};

use super::*;
use crate::{
    CleanupFuture, CleanupOutcome, MemoryReading, Trigger,
    memory::{actor::MemoryMsg, cell::READ_WITHIN},
};

const PERIOD: Duration = Duration::from_secs(30);

/// Lets everything that is ready run; the clock moves only when nothing else can.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

async fn start(memory: &MemoryManager) -> (ActorRef<MemoryMsg>, JoinHandle<()>) {
    Actor::spawn(None, MemoryActor, memory.cell())
        .await
        .unwrap()
}

/// Memory that a test can fill, out of 100 bytes.
fn tank(config: MemoryConfig) -> (MemoryManager, Arc<AtomicU64>) {
    let memory = MemoryManager::new(config);
    let used = Arc::new(AtomicU64::new(0));
    let gauge = Arc::clone(&used);
    memory.set_reader(move || {
        Ok(MemoryReading {
            used: gauge.load(Ordering::SeqCst),
            limit: 100,
        })
    });
    (memory, used)
}

/// Counts its runs by entry point, and does in each what the test wants.
struct Probe<F> {
    runs: Arc<Mutex<Vec<Trigger>>>,
    work: F,
}

impl<F> Probe<F>
where
    F: Fn() -> CleanupFuture<'static> + Send + Sync + 'static,
{
    fn register(memory: &MemoryManager, name: &str, work: F) -> Arc<Mutex<Vec<Trigger>>> {
        let runs = Arc::default();
        let probe = Self {
            runs: Arc::clone(&runs),
            work,
        };
        assert!(!memory.register(name, probe));
        runs
    }

    fn run(&self, trigger: Trigger) -> CleanupFuture<'_> {
        self.runs.lock().unwrap().push(trigger);
        (self.work)()
    }
}

impl<F> CleanupStrategy for Probe<F>
where
    F: Fn() -> CleanupFuture<'static> + Send + Sync + 'static,
{
    fn on_request(&self) -> CleanupFuture<'_> {
        self.run(Trigger::OnRequest)
    }

    fn proactive(&self) -> CleanupFuture<'_> {
        self.run(Trigger::Proactive)
    }

    fn emergency(&self) -> CleanupFuture<'_> {
        self.run(Trigger::Emergency)
    }
}

fn frees(bytes: u64) -> impl Fn() -> CleanupFuture<'static> + Send + Sync {
    move || Box::pin(async move { Ok(bytes) })
}

fn runs(of: &Mutex<Vec<Trigger>>) -> Vec<Trigger> {
    of.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn without_a_manager_pressure_is_low_and_a_request_does_nothing() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(100, Ordering::SeqCst);
    let cache = Probe::register(&memory, "cache", frees(1));
    assert_eq!(memory.level(), Pressure::Low);
    assert!(!memory.request_cleanup());
    settle().await;
    assert_eq!(runs(&cache), []);
}

#[tokio::test(start_paused = true)]
async fn the_level_is_known_when_the_actor_has_started() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(75, Ordering::SeqCst);
    let _running = start(&memory).await;
    assert_eq!(memory.level(), Pressure::High);
    let stats = memory.stats();
    assert_eq!((stats.level, stats.checks), (Pressure::High, 1));
    assert_eq!(
        (stats.used, stats.limit, stats.ratio),
        (Some(75), Some(100), Some(0.75))
    );
}

#[tokio::test(start_paused = true)]
async fn the_level_follows_the_readings_and_the_configured_thresholds() {
    let config = MemoryConfig::builder()
        .medium(0.1)
        .warning(0.2)
        .critical(0.3);
    let (memory, used) = tank(config.build().unwrap());
    let _running = start(&memory).await;
    for (bytes, level) in [
        (5, Pressure::Low),
        (10, Pressure::Medium),
        (25, Pressure::High),
        (31, Pressure::Critical),
        (19, Pressure::Medium),
    ] {
        used.store(bytes, Ordering::SeqCst);
        sleep(PERIOD).await;
        settle().await;
        assert_eq!(memory.level(), level);
        assert_eq!(memory.stats().level, level, "there is one level");
    }
    memory.set_config(MemoryConfig::default());
    settle().await;
    assert_eq!(memory.level(), Pressure::Low);
}

#[tokio::test(start_paused = true)]
async fn a_configured_limit_counts_before_the_detected_one() {
    let limit = std::num::NonZeroU64::new(50).unwrap();
    let (memory, used) = tank(MemoryConfig::builder().limit_bytes(limit).build().unwrap());
    used.store(45, Ordering::SeqCst);
    let _running = start(&memory).await;
    assert_eq!(memory.level(), Pressure::Critical);
    assert_eq!(memory.stats().limit, Some(50));
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_fails_or_panics_leaves_the_level() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(60, Ordering::SeqCst);
    let _running = start(&memory).await;
    memory.set_reader(|| Err(io::Error::other("no /proc")));
    sleep(PERIOD).await;
    settle().await;
    assert_eq!(memory.level(), Pressure::Medium);
    assert_eq!(memory.stats().last_error.as_deref(), Some("no /proc"));
    memory.set_reader(|| -> io::Result<MemoryReading> { panic!("a bad reader") });
    sleep(PERIOD).await;
    memory.set_reader(|| Ok(MemoryReading { used: 1, limit: 0 }));
    sleep(PERIOD).await;
    settle().await;
    let stats = memory.stats();
    assert_eq!((stats.level, stats.failed_checks), (Pressure::Medium, 3));
    assert_eq!(stats.used, Some(60));
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_hangs_has_failed_and_holds_up_neither_the_start_nor_the_actor() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(95, Ordering::SeqCst);
    let cache = Probe::register(&memory, "cache", frees(7));
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    memory.set_reader(move || {
        begun.blocking_send(()).unwrap();
        blocked.lock().unwrap().recv().unwrap();
        Ok(MemoryReading {
            used: 95,
            limit: 100,
        })
    });
    let starting = memory.clone();
    let started = tokio::spawn(async move { start(&starting).await });
    has_begun.recv().await.unwrap();
    // The paused clock does not move by itself while a thread is blocked.
    advance(READ_WITHIN).await;
    let _running = started.await.unwrap();
    let stats = memory.stats();
    assert_eq!((stats.level, stats.failed_checks), (Pressure::Low, 1));
    assert_eq!(stats.last_error.as_deref(), Some("no answer within 5s"));

    // Requests are heard, and the one that hangs takes no second thread.
    assert!(memory.request_cleanup());
    while memory.stats().failed_checks < 3 {
        advance(READ_WITHIN).await;
    }
    assert_eq!(runs(&cache), [Trigger::OnRequest]);
    assert!(has_begun.try_recv().is_err());

    // Another reader does not wait for it.
    memory.set_reader(|| {
        Ok(MemoryReading {
            used: 60,
            limit: 100,
        })
    });
    while memory.stats().checks == 0 {
        advance(READ_WITHIN).await;
    }
    assert_eq!(memory.level(), Pressure::Medium);
    release.send(()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_throws_may_panic_itself() {
    struct Worse;
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    let (memory, used) = tank(MemoryConfig::default());
    used.store(60, Ordering::SeqCst);
    let (actor, _ended) = start(&memory).await;
    memory.set_reader(|| -> io::Result<MemoryReading> { std::panic::panic_any(Worse) });
    sleep(PERIOD).await;
    settle().await;
    assert_eq!(memory.stats().failed_checks, 1);
    assert_eq!(actor.get_status(), ractor::ActorStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn what_is_replaced_is_dropped_where_it_may_use_the_manager() {
    struct Nosy(MemoryManager, Arc<AtomicUsize>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            // To wait for a lock here would be to wait for ever.
            let cell = self.0.cell();
            assert!(cell.strategies.try_lock().is_ok() && cell.reader.try_lock().is_ok());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (memory, _used) = tank(MemoryConfig::default());
    let dropped = Arc::new(AtomicUsize::new(0));
    let nosy = || Nosy(memory.clone(), Arc::clone(&dropped));
    for _ in 0..2 {
        let nosy = nosy();
        let work = move || -> CleanupFuture<'static> {
            let _ = &nosy;
            Box::pin(async { Ok(0) })
        };
        let runs = Arc::default();
        memory.register("s", Probe { runs, work });
    }
    memory.unregister("s");
    let nosy = nosy();
    memory.set_reader(move || {
        let _ = &nosy;
        Ok(MemoryReading { used: 1, limit: 2 })
    });
    memory.set_reader(|| Ok(MemoryReading { used: 1, limit: 2 }));
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn each_level_calls_its_own_entry_point_at_each_check() {
    let (memory, used) = tank(MemoryConfig::default());
    let cache = Probe::register(&memory, "cache", frees(7));
    let _running = start(&memory).await;
    settle().await;
    assert_eq!(runs(&cache), []);

    for bytes in [60, 70, 90] {
        used.store(bytes, Ordering::SeqCst);
        sleep(PERIOD).await;
        settle().await;
    }
    assert!(memory.request_cleanup());
    settle().await;

    let expected = [Trigger::Proactive, Trigger::Emergency, Trigger::OnRequest];
    assert_eq!(runs(&cache), expected);
    let history = memory.history();
    let triggers: Vec<_> = history.iter().map(|record| record.trigger).collect();
    assert_eq!(triggers, expected);
    assert_eq!(history[1].level, Pressure::Critical);
    assert_eq!(
        history[1].strategies,
        [("cache".to_owned(), CleanupOutcome::Freed(7))]
    );
    assert_eq!(memory.stats().cleanups, 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_clean_up_freed_counts_at_once_and_starts_no_second_one() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(95, Ordering::SeqCst);
    let tank = Arc::clone(&used);
    let cache = Probe::register(&memory, "cache", move || {
        tank.store(75, Ordering::SeqCst);
        Box::pin(async { Ok(20) })
    });
    let _running = start(&memory).await;
    assert_eq!(memory.level(), Pressure::Critical);
    settle().await;
    assert_eq!(memory.level(), Pressure::High);
    assert_eq!(runs(&cache), [Trigger::Emergency]);
}

#[tokio::test(start_paused = true)]
async fn automatic_clean_ups_can_be_off_while_requests_work() {
    let config = MemoryConfig::builder().automatic_cleanup(false).build();
    let (memory, used) = tank(config.unwrap());
    used.store(99, Ordering::SeqCst);
    let cache = Probe::register(&memory, "cache", frees(0));
    let _running = start(&memory).await;
    sleep(PERIOD * 3).await;
    assert_eq!(runs(&cache), []);
    memory.request_cleanup();
    settle().await;
    assert_eq!(runs(&cache), [Trigger::OnRequest]);
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_fails_or_panics_stops_no_other() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(95, Ordering::SeqCst);
    Probe::register(&memory, "fails", || {
        Box::pin(async { Err("no room".into()) })
    });
    Probe::register(&memory, "panics", || Box::pin(async { panic!("oh no") }));
    Probe::register(&memory, "panics_early", || panic!("before its future"));
    Probe::register(&memory, "hangs", || Box::pin(std::future::pending()));
    Probe::register(&memory, "works", frees(3));
    let _running = start(&memory).await;
    // The next check comes before the time-out of the first clean-up.
    sleep(Duration::from_secs(61)).await;

    let of = |name: &str| -> Vec<_> {
        let history = memory.history();
        let strategies = history.iter().flat_map(|record| record.strategies.clone());
        strategies
            .filter(|(known, _)| known == name)
            .map(|(_, outcome)| outcome)
            .collect()
    };
    assert!(
        of("works")
            .iter()
            .all(|outcome| *outcome == CleanupOutcome::Freed(3))
    );
    assert_eq!(of("fails")[0], CleanupOutcome::Failed("no room".to_owned()));
    assert_eq!(
        of("panics")[0],
        CleanupOutcome::Panicked("oh no".to_owned())
    );
    assert_eq!(
        of("panics_early")[0],
        CleanupOutcome::Panicked("before its future".to_owned())
    );
    assert!(of("hangs").contains(&CleanupOutcome::TimedOut));
    assert!(of("hangs").contains(&CleanupOutcome::StillRunning));
}

#[tokio::test(start_paused = true)]
async fn a_strategy_never_runs_twice_at_once() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(75, Ordering::SeqCst);
    let (open, running) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let cache = {
        let (open, running) = (Arc::clone(&open), Arc::clone(&running));
        Probe::register(&memory, "cache", move || {
            let (open, running) = (Arc::clone(&open), Arc::clone(&running));
            Box::pin(async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                open.notified().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(0)
            })
        })
    };
    let _running = start(&memory).await;
    sleep(PERIOD).await;
    memory.request_cleanup();
    settle().await;
    assert_eq!(runs(&cache), [Trigger::Proactive]);
    open.notify_one();
    settle().await;
    assert_eq!(memory.history().len(), 1);
    memory.request_cleanup();
    settle().await;
    assert_eq!(runs(&cache), [Trigger::Proactive, Trigger::OnRequest]);
}

#[tokio::test(start_paused = true)]
async fn the_last_ten_clean_ups_are_remembered() {
    let (memory, _used) = tank(MemoryConfig::default());
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    Probe::register(&memory, "cache", move || {
        let run = counter.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(run) })
    });
    let _running = start(&memory).await;
    for _ in 0..13 {
        memory.request_cleanup();
        settle().await;
    }
    let freed: Vec<_> = memory
        .history()
        .into_iter()
        .map(|record| record.strategies[0].1.clone())
        .collect();
    assert_eq!(
        freed,
        (3..13).map(CleanupOutcome::Freed).collect::<Vec<_>>()
    );
    assert!(serde_json::to_string(&memory.history()).is_ok());
    assert!(serde_json::to_string(&memory.stats()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_kill_loses_nothing_and_the_successor_goes_on() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(95, Ordering::SeqCst);
    let open = Arc::new(Notify::new());
    let gate = Arc::clone(&open);
    Probe::register(&memory, "cache", move || {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.notified().await;
            Ok(1)
        })
    });
    let (actor, ended) = start(&memory).await;
    settle().await;

    actor.kill();
    ended.await.unwrap();
    assert_eq!(memory.level(), Pressure::Critical, "the level holds");
    assert_eq!(memory.strategies(), ["cache"]);
    open.notify_one();
    settle().await;
    assert_eq!(memory.history().len(), 1, "the clean-up under way went on");
    assert!(memory.request_cleanup(), "kept for the successor");

    used.store(10, Ordering::SeqCst);
    let _running = start(&memory).await;
    assert_eq!(memory.level(), Pressure::Low);
    open.notify_one();
    settle().await;
    assert_eq!(memory.history()[1].trigger, Trigger::OnRequest);
    assert_eq!(memory.stats().checks, 3, "two starts, one clean-up");
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_leaves_low_pressure_and_no_clean_up() {
    let (memory, used) = tank(MemoryConfig::default());
    used.store(95, Ordering::SeqCst);
    Probe::register(&memory, "hangs", || Box::pin(std::future::pending()));
    let (actor, ended) = start(&memory).await;
    settle().await;
    actor.stop(None);
    ended.await.unwrap();
    assert_eq!(memory.level(), Pressure::Low);
    assert!(!memory.request_cleanup());
    sleep(PERIOD * 4).await;
    assert_eq!(memory.history(), [], "it was cut off, not left to time out");
}

#[tokio::test(start_paused = true)]
async fn what_was_requested_before_an_orderly_stop_is_done_by_the_successor() {
    let (memory, _used) = tank(MemoryConfig::default());
    let cache = Probe::register(&memory, "cache", frees(1));
    let (actor, ended) = start(&memory).await;
    // The stop comes before all messages.
    assert!(memory.request_cleanup());
    actor.stop(None);
    ended.await.unwrap();
    assert_eq!(runs(&cache), []);

    let _running = start(&memory).await;
    settle().await;
    assert_eq!(runs(&cache), [Trigger::OnRequest]);
}

#[tokio::test(start_paused = true)]
async fn strategies_are_replaced_and_removed_by_name() {
    let (memory, _used) = tank(MemoryConfig::default());
    let old = Probe::register(&memory, "cache", frees(1));
    let new = Arc::default();
    let probe = Probe {
        runs: Arc::clone(&new),
        work: frees(2),
    };
    assert!(memory.register("cache", probe));
    let _running = start(&memory).await;
    memory.request_cleanup();
    settle().await;
    assert_eq!((runs(&old).len(), runs(&new).len()), (0, 1));
    assert!(memory.unregister("cache"));
    assert!(!memory.unregister("cache"));
    assert_eq!(memory.strategies(), [""; 0]);
}
