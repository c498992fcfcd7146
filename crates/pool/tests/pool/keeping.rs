//! How many workers there are, how long they live, and what a pool does when they do not start.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, EventKind};
use perennial_pool::{CheckoutError, Dismissal, Pool, PoolWorkerState, Timeout};
use perennial_supervisor::Supervisor;
use perennial_testkit::OnRegister;
use tokio::time::{Instant, advance, sleep};

use crate::support::{Fixture, ProbeWorker, config, let_others_run, poll, status};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_pool_that_grows_serves_who_waits_and_one_that_shrinks_ends_what_comes_back() {
    let mut it = Fixture::start(config(1, 0)).await;
    let first = it.pool.checkout().await.unwrap();
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    it.pool.resize(2, 1).unwrap();
    let second = waiting.await.unwrap();
    let third = it.pool.try_checkout().await.unwrap();
    assert_eq!(it.pool.status(), status(&it.pool, 0, 3, 1, 0));
    it.pool.resize(1, 0).unwrap();
    assert_eq!(it.pool.status(), status(&it.pool, 0, 3, 2, 0));
    drop((second, third));
    assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 0));
    assert!(it.pool.try_checkout().await.is_err());
    drop(first);
    it.lends_all().await;
    // Idle ones go at once, and the last too.
    it.pool.resize(3, 0).unwrap();
    it.until(|it| it.pool.status().idle == 3).await;
    it.pool.resize(0, 0).unwrap();
    assert_eq!(it.pool.status().idle, 0);
    let refused = it.pool.checkout_within(Duration::from_secs(1)).await;
    assert!(matches!(
        refused,
        Err(CheckoutError::TimedOut { size: 0, .. })
    ));
    assert!(it.pool.resize(usize::MAX, 1).is_err());
    it.pool.resize(2, 2).unwrap();
    it.until(|it| it.pool.status().idle == 2).await;
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_size_outlives_the_supervisor() {
    let mut it = Fixture::start(config(1, 0)).await;
    it.pool.resize(3, 1).unwrap();
    it.until(|it| it.pool.status().idle == 3).await;
    let run = it.supervisor().incarnation().unwrap();
    it.supervisor().kill();
    run.ended().await;
    it.until(|it| it.pool.status().idle == 3).await;
    it.lends_all().await;
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pool_12_a_supervisor_bears_as_much_as_befits_the_new_size() {
    // More than one worker alone may end in a second.
    const WORKERS: usize = 250;
    let mut it = Fixture::start(config(1, 0)).await;
    it.pool.resize(WORKERS, 0).unwrap();
    it.until(|it| it.pool.status().idle == WORKERS).await;
    // The one that grew, and its successor.
    for next in [false, true] {
        let run = it.supervisor().incarnation().unwrap();
        if next {
            it.supervisor().kill();
            run.ended().await;
            it.until(|it| it.pool.status().idle == WORKERS).await;
        }
        let supervisor = it.supervisor().incarnation().unwrap();
        for worker in it.pool.workers() {
            worker.incarnation.kill();
        }
        it.until(|it| it.pool.status().idle == WORKERS).await;
        assert!(supervisor.exit_reason().is_none());
    }
    // One that shrinks bears what its many workers have come to, and one more end.
    let supervisor = it.supervisor().incarnation().unwrap();
    it.pool.resize(1, 0).unwrap();
    it.at_rest().await;
    it.run("worker-1").kill();
    it.until(|it| it.pool.status().down == 1).await;
    it.until(|it| it.pool.status().idle == 1).await;
    assert!(supervisor.exit_reason().is_none());
    it.lends_all().await;
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_all_and_waits_for_what_is_out() {
    let mut it = Fixture::start(config(2, 0)).await;
    let (first, second) = (
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
    );
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    let pool = it.pool.clone();
    let drain = tokio::spawn(async move { pool.drain().await });
    let refused = waiting.await.unwrap_err();
    assert_eq!(refused.to_string(), "pool `db`: drained, 2 still in use");
    assert!(refused.is_retryable() && it.pool.is_drained() && !it.pool.is_closed());
    assert!(it.pool.try_checkout().await.is_err());
    drop(first);
    let_others_run().await;
    assert!(!drain.is_finished());
    drop(second);
    drain.await.unwrap();
    assert_eq!(it.pool.status().idle, 2);
    it.pool.resume();
    it.lends_all().await;
    // One that is resumed meanwhile is over.
    let held = it.pool.checkout().await.unwrap();
    let pool = it.pool.clone();
    let drain = tokio::spawn(async move { pool.drain().await });
    let_others_run().await;
    it.pool.resume();
    drain.await.unwrap();
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn pool_13_a_drain_ends_with_the_last_loan_whatever_becomes_of_the_pool() {
    let it = Fixture::start(config(1, 0)).await;
    let drain = || {
        let pool = it.pool.clone();
        tokio::spawn(async move { pool.drain().await })
    };
    // The worker dies on loan, which ends the loan, and its holder keeps what is left of it.
    let held = it.pool.checkout().await.unwrap();
    let drained = drain();
    let_others_run().await;
    held.incarnation().kill();
    drained.await.unwrap();
    it.pool.resume();
    drop(held);

    // The pool is closed while it is drained, or before.
    let held = it.pool.checkout().await.unwrap();
    let before = drain();
    let_others_run().await;
    it.pool.close();
    let after = drain();
    let_others_run().await;
    assert!(!before.is_finished() && !after.is_finished());
    drop(held);
    before.await.unwrap();
    after.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pool_13_a_drain_waits_for_what_is_out_and_not_for_those_who_wait() {
    let mut it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    // Their tasks have other things to do, and look at nothing meanwhile.
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(it.pool.checkout())).collect();
    assert!(waits.iter_mut().all(|it| poll(it.as_mut()).is_pending()));
    let mut drained = Box::pin(it.pool.drain());
    assert!(poll(drained.as_mut()).is_pending());
    drop(held);
    assert_eq!(it.pool.status().in_use, 0);
    assert!(poll(drained.as_mut()).is_ready());
    for wait in waits {
        let refused = wait.await.unwrap_err();
        assert!(
            matches!(refused, CheckoutError::Drained { .. }),
            "{refused:?}"
        );
    }
    let stats = it.pool.stats();
    assert_eq!((stats.checkouts, stats.refused, stats.waits), (1, 3, 0));
    drop(drained);

    // Who comes to look only when it is resumed has waited on.
    it.pool.resume();
    let held = it.pool.checkout().await.unwrap();
    let mut wait = Box::pin(it.pool.checkout());
    assert!(poll(wait.as_mut()).is_pending());
    let mut drained = Box::pin(it.pool.drain());
    assert!(poll(drained.as_mut()).is_pending());
    drop(held);
    it.pool.resume();
    drop((wait.await.unwrap(), drained));
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn pool_13_a_drained_pool_that_is_stopped_is_closed_and_drained_when_it_is_back() {
    let it = Fixture::start(config(1, 0)).await;
    it.pool.drain().await;
    it.root.terminate_child("db").await.unwrap();
    assert!(it.pool.is_closed() && it.pool.is_drained());
    let refused = it.pool.checkout().await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
    it.root.restart_child("db").await.unwrap();
    assert!(!it.pool.is_closed() && it.pool.is_drained());
    let refused = it.pool.checkout().await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");

    // To lend again is not to start again.
    it.root.terminate_child("db").await.unwrap();
    it.pool.resume();
    let refused = it.pool.checkout().await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
    it.root.restart_child("db").await.unwrap();
    assert!(it.pool.checkout().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_overflow_worker_with_a_ttl_stays_for_who_comes_within_it() {
    let it = Fixture::start(config(1, 1).overflow_ttl(MINUTE)).await;
    let first = it.pool.checkout().await.unwrap();
    let second = it.pool.checkout().await.unwrap();
    let run = Arc::clone(second.incarnation());
    drop((first, second));
    assert_eq!(it.pool.status(), status(&it.pool, 2, 0, 1, 0));
    sleep(MINUTE / 2).await;
    let again = [
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
    ];
    assert!(Arc::ptr_eq(again[1].incarnation(), &run));
    drop(again);
    sleep(MINUTE * 9 / 10).await;
    assert_eq!(it.pool.status().overflow, 1);
    sleep(MINUTE / 5).await;
    assert_eq!(it.pool.status(), status(&it.pool, 1, 0, 0, 0));
    assert_eq!(run.ended().await.class(), "shutdown");
    it.stop().await;
}

/// Keeps how many workers are idle.
fn idle_in(gauge: &Arc<AtomicU64>) -> OnRegister<impl Fn(&metrics::Key) -> Option<Arc<AtomicU64>>> {
    OnRegister(|key: &metrics::Key| {
        let is_idle = key.labels().any(|label| label.value() == "idle");
        is_idle.then(|| Arc::clone(gauge))
    })
}

#[tokio::test(start_paused = true)]
async fn the_gauges_are_set_again_where_nobody_borrows() {
    let gauge = Arc::new(AtomicU64::new(0));
    let recorder = idle_in(&gauge);
    let _local = metrics::set_default_local_recorder(&recorder);
    let it = Fixture::start(config(2, 0)).await;
    // Two threads may come to set it in the wrong order, and nobody after them for long.
    gauge.store(7.0_f64.to_bits(), SeqCst);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(f64::from_bits(gauge.load(SeqCst)), 2.0);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_gauges_show_workers_that_nobody_borrows() {
    let gauge = Arc::new(AtomicU64::new(0));
    let recorder = idle_in(&gauge);
    let _local = metrics::set_default_local_recorder(&recorder);
    let idle = || f64::from_bits(gauge.load(SeqCst));
    let mut it = Fixture::start(config(2, 2).overflow_ttl(MINUTE)).await;
    assert_eq!(idle(), 2.0);
    it.worker.start.shut();
    it.run("worker-1").kill();
    it.until(|it| it.pool.status().down == 1).await;
    it.worker.start.reached().await;
    assert_eq!(idle(), 1.0);
    it.worker.start.open();
    it.until(|it| it.pool.status().idle == 2).await;
    assert_eq!(idle(), 2.0);

    let held = [
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
    ];
    drop(held);
    assert_eq!(idle(), 3.0);
    sleep(2 * MINUTE).await;
    assert_eq!(idle(), 2.0, "one was dismissed");
    it.pool.resize(1, 0).unwrap();
    assert_eq!(idle(), 1.0);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_idle_for_too_long_is_replaced() {
    let it = Fixture::start(config(1, 0).idle_timeout(MINUTE)).await;
    let first = it.run("worker-1");
    sleep(MINUTE * 9 / 10).await;
    assert!(Arc::ptr_eq(&it.run("worker-1"), &first));
    drop(it.pool.checkout().await.unwrap());
    sleep(MINUTE * 9 / 10).await;
    assert!(Arc::ptr_eq(&it.run("worker-1"), &first), "it was in use");
    sleep(MINUTE / 5).await;
    assert_eq!(it.run("worker-1").number(), 2);
    assert_eq!(first.exit_reason().unwrap().class(), "shutdown");
    assert_eq!(it.pool.stats().renewed, 1);
    // In order, at no cost to the intensity.
    assert_eq!(it.node("worker-1").restarts(), 0);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_too_old_is_replaced_when_idle_or_when_it_comes_back() {
    let it = Fixture::start(config(2, 0).max_lifetime(MINUTE)).await;
    let held = it.pool.checkout().await.unwrap();
    sleep(MINUTE * 11 / 10).await;
    assert_eq!(it.run("worker-2").number(), 2);
    assert_eq!(it.run("worker-1").number(), 1, "it is on loan");
    assert_eq!(held.echo(1).await.unwrap(), 1);
    drop(held);
    let_others_run().await;
    assert_eq!(it.run("worker-1").number(), 2);
    assert_eq!(it.pool.status().idle, 2);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lifetimes_differ_by_the_jitter_and_no_more() {
    const WORKERS: usize = 20;
    let lives = config(WORKERS, 0)
        .max_lifetime(MINUTE)
        .lifetime_jitter(MINUTE / 2);
    let it = Fixture::start(lives).await;
    let ended = |it: &Fixture| it.pool.stats().renewed;
    sleep(MINUTE / 2 - Duration::from_secs(1)).await;
    assert_eq!(ended(&it), 0);
    sleep(MINUTE / 4).await;
    let half = ended(&it);
    assert!(
        (5..=15).contains(&half),
        "{half} of {WORKERS} after half of the jitter"
    );
    sleep(MINUTE / 4 + MINUTE / 10).await;
    assert!(ended(&it) >= 20);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_discarded_worker_is_replaced() {
    let mut it = Fixture::start(config(1, 0)).await;
    it.pool.checkout().await.unwrap().discard();
    let held = it.pool.checkout().await.unwrap();
    assert_eq!(held.incarnation().number(), 2);
    drop(held);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn workers_start_beside_each_other_or_as_many_at_once_as_was_said() {
    for (at_once, expected) in [(None, 4), (NonZeroUsize::new(2), 2)] {
        let worker = ProbeWorker::default();
        worker.start.shut();
        let mut config = config(4, 0);
        if let Some(at_once) = at_once {
            config = config.warm_up(at_once);
        }
        let pool = Pool::new("db", worker.clone(), config).unwrap();
        let spec = Supervisor::builder()
            .child(pool.child_spec())
            .build()
            .unwrap();
        let start = tokio::spawn(spec.start("test"));
        let_others_run().await;
        assert_eq!(worker.made.load(SeqCst), expected);
        assert_eq!(pool.status().down, 4);
        worker.start.open();
        let root = start.await.unwrap().unwrap();
        assert_eq!(pool.status().idle, 4);
        root.stop(perennial_lifecycle::ExitReason::Shutdown).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_holds_a_worker_for_long_is_told_of_once() {
    let mut it = Fixture::start(config(1, 0).hold_warning(MINUTE)).await;
    let pool = it
        .pool
        .on_behalf_of(ActorPath::root("shop").child("billing"));
    let line = line!() + 1;
    let held = pool.checkout().await.unwrap();
    let holder = it.pool.holders().remove(0);
    assert_eq!(holder.actor.unwrap().as_str(), "shop/billing");
    sleep(3 * MINUTE).await;
    let mut notes = Vec::new();
    while let Poll::Ready(Some(event)) = poll(Box::pin(it.events.next()).as_mut()) {
        let event = event.unwrap();
        if let EventKind::Noted {
            source: "pool",
            text,
        } = event.kind
        {
            notes.push((event.path.as_str().to_owned(), text.to_string()));
        }
    }
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0].0, "test/db/worker-1");
    let place = format!("checked out at {}:{line}:", file!());
    assert!(notes[0].1.contains(&place), "{notes:?}");
    assert!(
        notes[0].1.ends_with("on behalf of shop/billing"),
        "{notes:?}"
    );
    drop(held);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_one_that_comes_back_is_dismissed_if_so_set() {
    let it = Fixture::start(config(1, 1).dismissal(Dismissal::Returned)).await;
    let first = it.pool.checkout().await.unwrap();
    let second = it.pool.checkout().await.unwrap();
    let (kept, young) = (
        Arc::clone(first.incarnation()),
        Arc::clone(second.incarnation()),
    );
    drop(first);
    assert_eq!(kept.ended().await.class(), "shutdown");
    assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 0));
    drop(second);
    let workers = it.pool.workers();
    assert!(Arc::ptr_eq(&workers[0].incarnation, &young));
    assert_eq!(
        (workers.len(), workers[0].state),
        (1, PoolWorkerState::Idle)
    );
    // The one that is left is brought back as one of the first would be.
    let_others_run().await;
    young.kill();
    let next = it.pool.checkout().await.unwrap();
    assert_eq!(next.echo(1).await.unwrap(), 1);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_does_not_spin_and_refuses_at_once_who_cannot_wait_so_long() {
    let it = Fixture::start(config(0, 1)).await;
    it.worker.failing.store(true, SeqCst);
    let began = Instant::now();
    // Each that waits for its turn to try has its own attempt; those that cannot wait do not try at all.
    let mut refused = 0;
    while began.elapsed() < Duration::from_secs(60) {
        let error = it
            .pool
            .checkout_within(Duration::from_millis(3))
            .await
            .unwrap_err();
        let CheckoutError::Start { source, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(source.to_string(), "start failed: failed: no connection");
        let error = it.pool.try_checkout().await.unwrap_err();
        assert!(matches!(error, CheckoutError::Start { .. }), "{error:?}");
        refused += 2;
        advance(Duration::from_millis(10)).await;
    }
    let made = it.worker.made.load(SeqCst);
    assert!(
        refused > 10_000 && made < 200,
        "{made} attempts for {refused} calls"
    );
    it.worker.failing.store(false, SeqCst);
    assert_eq!(it.pool.checkout().await.unwrap().echo(1).await.unwrap(), 1);
    let stats = it.pool.stats();
    assert_eq!((stats.checkouts, stats.not_started), (1, refused));
    assert_eq!((stats.refused, stats.timeouts), (0, 0));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_through_failures_gets_the_first_worker_that_starts() {
    let mut it = Fixture::start(config(0, 2)).await;
    it.worker.failing.store(true, SeqCst);
    assert!(it.pool.try_checkout().await.is_err());
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    it.worker.failing.store(false, SeqCst);
    assert_eq!(waiting.await.unwrap().echo(1).await.unwrap(), 1);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_will_not_come_back_refuses_who_waits() {
    // Killed, and temporary.
    let worker = ProbeWorker::default();
    let pool = Pool::new("db", worker.clone(), config(1, 0)).unwrap();
    let root = Supervisor::builder()
        .build()
        .unwrap()
        .start("test")
        .await
        .unwrap();
    root.start_child(pool.child_spec().temporary())
        .await
        .unwrap();
    let held = pool.checkout().await.unwrap();
    let mut waiting = Box::pin(pool.checkout_within(Timeout::Never));
    assert!(poll(waiting.as_mut()).is_pending());
    root.node().child("db").unwrap().current().unwrap().kill();
    assert!(matches!(waiting.await, Err(CheckoutError::Closed { .. })));
    assert!(pool.is_closed());
    drop(held);

    // The tree is gone, by the end of its root.
    let pool = Pool::new("db", worker, config(1, 0)).unwrap();
    let root = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap();
    let root = root.start("test").await.unwrap();
    let held = pool.checkout().await.unwrap();
    let mut waiting = Box::pin(pool.checkout_within(Timeout::Never));
    assert!(poll(waiting.as_mut()).is_pending());
    root.kill();
    assert!(matches!(waiting.await, Err(CheckoutError::Closed { .. })));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_an_operator_ends_is_replaced() {
    let mut it = Fixture::start(config(2, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    it.supervisor().terminate_child("worker-1").await.unwrap();
    it.supervisor().terminate_child("worker-2").await.unwrap();
    it.until(|it| it.pool.status().idle == 2).await;
    drop(held);
    it.lends_all().await;
    it.supervisor().bounce_child("worker-1").await.unwrap();
    it.lends_all().await;
}
