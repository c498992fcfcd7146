use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use perennial_lifecycle::ExitReason;
use perennial_pool::{CheckoutError, Pool, Timeout, WorkerError};
use perennial_supervisor::Supervisor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::support::{Fixture, Msg, ProbeWorker, config, let_others_run, poll, status};

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_idle_is_replaced() {
    let mut it = Fixture::start(config(2, 0)).await;
    let first = it.run("worker-1");
    first.kill();
    first.ended().await;
    // At once, whether or not it is up again: the other one is idle.
    assert_eq!(it.pool.checkout().await.unwrap().worker().id(), "worker-2");
    it.until(|it| it.pool.status().idle == 2).await;
    assert_eq!(it.run("worker-1").number(), 2);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_is_not_lent_before_it_is_up_again() {
    let mut it = Fixture::start(config(1, 0)).await;
    it.worker.start.shut();
    let first = it.run("worker-1");
    first.kill();
    it.worker.start.reached().await;
    assert_eq!((it.pool.status().idle, it.pool.status().down), (0, 1));
    let refused = it.pool.try_checkout().await.unwrap_err();
    assert!(matches!(refused, CheckoutError::Exhausted { .. }));
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    it.worker.start.open();
    let held = waiting.await.unwrap();
    assert_eq!(held.incarnation().number(), 2);
    drop(held);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_lent_a_worker_that_dies_on_the_way_stands_where_it_stood() {
    let mut it = Fixture::start(config(1, 0)).await;
    let pool = it.pool.clone();
    for (round, is_missed) in [false, true].into_iter().enumerate() {
        let held = pool.checkout().await.unwrap();
        let mut first = Box::pin(pool.checkout());
        assert!(poll(first.as_mut()).is_pending());
        let mut second = Box::pin(pool.checkout());
        assert!(poll(second.as_mut()).is_pending());
        it.worker.start.shut();
        let run = Arc::clone(held.incarnation());
        drop(held);
        assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 1));
        run.kill();
        if is_missed {
            it.worker.start.reached().await;
        }
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        it.until(|it| it.pool.status().down == 1).await;
        assert_eq!((it.pool.status().in_use, it.pool.status().waiting), (0, 2));
        it.worker.start.open();
        let held = first.await.unwrap();
        assert!(!Arc::ptr_eq(held.incarnation(), &run));
        assert!(poll(second.as_mut()).is_pending());
        drop(held);
        drop(second.await.unwrap());
        let stats = it.pool.stats();
        let rounds = round as u64 + 1;
        assert_eq!((stats.checkouts, stats.waits), (3 * rounds, 2 * rounds));
    }
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_restart_takes_a_worker_that_comes_back_sooner() {
    let mut it = Fixture::start(config(2, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    it.worker.start.shut();
    it.run("worker-2").kill();
    it.worker.start.reached().await;
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    drop(held);
    let held = waiting.await.unwrap();
    assert_eq!(held.worker().id(), "worker-1");
    drop(held);
    it.worker.start.open();
    it.lends_all().await;
    assert_eq!(it.pool.stats().timeouts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_on_loan_ends_the_call_with_its_reason() {
    let mut it = Fixture::start(config(1, 0)).await;
    let until = Arc::new(Notify::new());

    let held = it.pool.checkout().await.unwrap();
    let run = Arc::clone(held.incarnation());
    let mut call = Box::pin(held.hold(&until));
    assert!(poll(call.as_mut()).is_pending());
    let_others_run().await;
    run.kill();
    let error = call.await.unwrap_err();
    assert!(
        matches!(&error, WorkerError::Died { reason } if reason.class() == "killed"),
        "{error:?}"
    );
    // The holder has the run that died; the next one has its successor.
    assert!(held.echo(1).await.is_err());
    drop(held);

    let held = it.pool.checkout().await.unwrap();
    let error = held.0.call(Msg::Fail).await.unwrap_err();
    assert_eq!(error.to_string(), "the worker died: failed: told to fail");
    drop(held);

    let held = it.pool.checkout().await.unwrap();
    let error = held.0.call(Msg::Panic).await.unwrap_err();
    assert!(matches!(&error, WorkerError::Died { reason } if reason.class() == "panicked"));
    drop(held);

    let held = it.pool.checkout().await.unwrap();
    let error = held.0.call(Msg::Stop).await.unwrap_err();
    assert!(matches!(&error, WorkerError::Died { reason } if reason.class() == "normal"));
    drop(held);
    it.lends_all().await;
    assert_eq!(it.pool.stats().retired, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lives_on_without_an_answer_is_told_apart() {
    let mut it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let error = held.0.call(Msg::Forget).await.unwrap_err();
    assert!(matches!(error, WorkerError::NoReply), "{error:?}");
    assert_eq!(held.echo(5).await.unwrap(), 5);
    drop(held);
    assert_eq!(it.pool.stats().retired, 0);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_on_loan_frees_its_place_at_its_death() {
    let mut it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    held.incarnation().kill();
    it.until(|it| it.node("worker-1").restarts() == 1).await;
    // Its successor can be lent while the holder still has what is left of it.
    assert_eq!(it.pool.status(), status(&it.pool, 1, 0, 0, 0));
    let next = it.pool.checkout().await.unwrap();
    assert_eq!(next.incarnation().number(), 2);
    drop(held);
    assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 0));
    assert_eq!(next.echo(1).await.unwrap(), 1);
    drop(next);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn an_overflow_worker_that_dies_on_loan_frees_its_place() {
    let mut it = Fixture::start(config(0, 1)).await;
    let held = it.pool.checkout().await.unwrap();
    held.incarnation().kill();
    held.incarnation().ended().await;
    drop(held);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_its_supervisor_left_to_an_abandoned_call_keeps_nobody_waiting() {
    let mut it = Fixture::start(config(1, 0)).await;
    let until = Arc::new(Notify::new());
    let held = it.pool.checkout().await.unwrap();
    let mut call = Box::pin(held.hold(&until));
    assert!(poll(call.as_mut()).is_pending());
    let_others_run().await;
    let supervisor = it.scope.root().child("db").unwrap().current().unwrap();
    supervisor.kill();
    supervisor.ended().await;
    let_others_run().await;
    // It was asked to stop, and its place is not free before it has.
    assert!(!held.incarnation().has_ended());
    let begin = Instant::now();
    drop(call);
    drop(held);
    it.lends_all().await;
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_in_the_middle_of_an_abandoned_call_is_not_lent() {
    let mut it = Fixture::start(config(1, 0)).await;
    let until = Arc::new(Notify::new());
    let held = it.pool.checkout().await.unwrap();
    let run = Arc::clone(held.incarnation());
    {
        let mut call = Box::pin(held.hold(&until));
        assert!(poll(call.as_mut()).is_pending());
        let_others_run().await;
    }
    drop(held);
    assert_eq!(it.pool.status().idle, 0);
    let next = it.pool.checkout().await.unwrap();
    assert_eq!(next.incarnation().number(), 2);
    assert_eq!(run.exit_reason().unwrap().class(), "killed");
    assert_eq!(next.echo(1).await.unwrap(), 1);
    drop(next);
    assert_eq!(it.pool.stats().retired, 1);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_got_over_an_abandoned_call_is_kept() {
    let mut it = Fixture::start(config(1, 0)).await;
    let until = Arc::new(Notify::new());
    let held = it.pool.checkout().await.unwrap();
    {
        let mut call = Box::pin(held.hold(&until));
        assert!(poll(call.as_mut()).is_pending());
    }
    until.notify_one();
    assert_eq!(held.echo(1).await.unwrap(), 1);
    drop(held);
    assert_eq!(it.pool.stats().retired, 0);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_pool_supervisor_comes_back_with_all_workers() {
    let mut it = Fixture::start(config(2, 1)).await;
    let until = Arc::new(Notify::new());

    // Idle.
    let before = it.supervisor().incarnation().unwrap();
    it.supervisor().kill();
    before.ended().await;
    assert_eq!(it.pool.checkout().await.unwrap().echo(1).await.unwrap(), 1);
    it.until(|it| {
        it.supervisor()
            .incarnation()
            .is_some_and(|run| run.number() == 2)
    })
    .await;
    it.lends_all().await;

    // On loan: the call in hand is finished, the next one finds the worker dead.
    let held = it.pool.checkout().await.unwrap();
    let mut call = Box::pin(held.hold(&until));
    assert!(poll(call.as_mut()).is_pending());
    let_others_run().await;
    it.supervisor().kill();
    let_others_run().await;
    until.notify_one();
    assert_eq!(call.await.unwrap(), 0);
    it.until(|it| {
        it.supervisor()
            .incarnation()
            .is_some_and(|run| run.number() == 3)
    })
    .await;
    held.incarnation().ended().await;
    assert!(matches!(held.echo(1).await, Err(WorkerError::Died { .. })));
    drop(held);
    it.lends_all().await;

    // While others wait.
    let all = [
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
    ];
    let pool = it.pool.clone();
    let waiting = tokio::spawn(async move { pool.checkout().await.unwrap().echo(9).await });
    let_others_run().await;
    it.supervisor().kill();
    it.until(|it| {
        it.supervisor()
            .incarnation()
            .is_some_and(|run| run.number() == 4)
    })
    .await;
    drop(all);
    assert_eq!(waiting.await.unwrap().unwrap(), 9);
    it.lends_all().await;
    assert_eq!(it.pool.stats().timeouts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_checkout_in_the_gap_of_a_restart_waits() {
    let mut it = Fixture::start(config(1, 1)).await;
    it.worker.start.shut();
    it.supervisor().kill();
    it.worker.start.reached().await;
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    it.worker.start.open();
    assert_eq!(waiting.await.unwrap().echo(1).await.unwrap(), 1);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_a_killed_supervisor_left_undone_says_nothing_of_its_successor() {
    let mut it = Fixture::start(config(1, 1)).await;
    let pool = it.pool.clone();
    let first = pool.checkout().await.unwrap();
    // Asks for an overflow worker, and hears only after the restart that its supervisor was killed.
    let mut second = Box::pin(pool.checkout());
    assert!(poll(second.as_mut()).is_pending());
    it.supervisor().kill();
    it.until(|it| {
        it.supervisor()
            .incarnation()
            .is_some_and(|run| run.number() == 2)
    })
    .await;
    it.until(|it| it.pool.status().idle == 1).await;
    drop(first);
    let_others_run().await;
    assert_eq!(second.await.unwrap().echo(1).await.unwrap(), 1);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn killing_the_keeper_changes_nothing() {
    let mut it = Fixture::start(config(1, 0)).await;
    it.run("keeper").kill();
    it.until(|it| it.node("keeper").restarts() == 1).await;
    assert!(!it.pool.is_closed());
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_was_killed_leaves_nothing_that_ticks_on() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut it = Fixture::start(config(1, 0).idle_timeout(DAY)).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let_others_run().await;
    let before = tasks();
    for restarts in 1..4 {
        it.run("keeper").kill();
        it.until(|it| it.node("keeper").restarts() == restarts)
            .await;
        let_others_run().await;
        assert_eq!(tasks(), before);
    }
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_come_back_does_not_take_the_tree_with_it() {
    let mut it = Fixture::start(config(1, 0)).await;
    it.worker.failing.store(true, SeqCst);
    let run = it.run("worker-1");
    run.kill();
    run.ended().await;
    let error = it
        .pool
        .checkout_within(Duration::from_secs(60))
        .await
        .unwrap_err();
    // As soon as it is clear that the next attempt comes too late.
    let CheckoutError::Start { waited, source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(*waited > Duration::from_secs(59) && *waited < Duration::from_secs(60));
    assert_eq!(source.to_string(), "start failed: failed: no connection");
    assert_eq!(
        error.to_string(),
        "pool `db`: a worker did not start: 0 in use of 1 + 0, 0 waiting"
    );
    assert!(it.worker.made.load(SeqCst) < 200, "it spins");
    it.worker.failing.store(false, SeqCst);
    it.until(|it| it.pool.status().down == 0).await;
    assert_eq!(it.supervisor().incarnation().unwrap().number(), 1);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_workers_do_not_start_fails_the_start_of_its_tree() {
    let worker = ProbeWorker::default();
    worker.failing.store(true, SeqCst);
    let pool = Pool::new("db", worker, config(2, 0)).unwrap();
    let started = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("test")
        .await;
    let reason: ExitReason = started.unwrap_err().reason;
    assert!(reason.to_string().contains("no connection"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn pool_8_a_supervisor_that_is_killed_while_no_worker_starts_does_not_take_the_tree_with_it()
{
    let worker = ProbeWorker::default();
    let pool = Pool::new("db", worker.clone(), config(2, 1)).unwrap();
    let root = Supervisor::builder().child(pool.child_spec()).build();
    let root = root.unwrap().start("test").await.unwrap();
    let held = pool.checkout().await.unwrap();
    let mut waits = Box::pin(pool.checkout_within(Timeout::Never));
    worker.failing.store(true, SeqCst);
    let run = root.node().child("db").unwrap().current().unwrap();
    run.kill();
    run.ended().await;
    drop(held);
    let refused = pool.checkout_within(Duration::from_millis(50)).await;
    assert!(
        matches!(refused, Err(CheckoutError::Start { .. })),
        "{refused:?}"
    );
    assert!(poll(waits.as_mut()).is_pending());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(root.node().restarts(), 0);
    assert_eq!((pool.status().idle, pool.is_closed()), (0, false));
    assert!(worker.made.load(SeqCst) < 400, "it spins");

    worker.failing.store(false, SeqCst);
    assert_eq!(waits.await.unwrap().echo(3).await.unwrap(), 3);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.status().idle, 2);
    root.stop(ExitReason::Shutdown).await;
}
