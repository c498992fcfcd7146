use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, ChildSpec};
use perennial_pool::{CheckoutError, Holder, Pool, PoolConfig, PoolStrategy};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;

use crate::support::{Fixture, Msg, ProbeWorker, config, let_others_run, poll, status};

#[tokio::test(start_paused = true)]
async fn size_is_started_up_front() {
    let it = Fixture::start(config(3, 2)).await;
    assert_eq!(it.worker.made.load(SeqCst), 3);
    assert_eq!(it.pool.status(), status(&it.pool, 3, 0, 0, 0));
    assert_eq!(it.pool.stats().created, 3);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn overflow_is_started_on_demand_and_dismissed_when_nobody_waits() {
    let mut it = Fixture::start(config(1, 2)).await;
    let first = it.pool.checkout().await.unwrap();
    let second = it.pool.checkout().await.unwrap();
    let third = it.pool.try_checkout().await.unwrap();
    assert_eq!(it.pool.status(), status(&it.pool, 0, 3, 2, 0));
    assert_eq!(second.worker().as_str(), "test/db/worker-2");
    assert_eq!(third.worker().as_str(), "test/db/worker-3");

    drop(first);
    assert_eq!(it.pool.status(), status(&it.pool, 1, 2, 2, 0));
    let gone = Arc::clone(second.incarnation());
    drop(second);
    assert_eq!(it.pool.status(), status(&it.pool, 1, 1, 1, 0));
    assert_eq!(gone.ended().await.class(), "shutdown");
    drop(third);
    it.at_rest().await;
    assert_eq!(it.pool.stats().dismissed, 2);
    assert_eq!(it.pool.stats().peak_in_use, 3);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn an_overflow_worker_goes_to_who_waits() {
    let mut it = Fixture::start(config(0, 1)).await;
    let held = it.pool.checkout().await.unwrap();
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    let run = Arc::clone(held.incarnation());
    drop(held);
    let next = waiting.await.unwrap();
    assert!(Arc::ptr_eq(&run, next.incarnation()));
    drop(next);
    it.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_overflow_worker_whose_waiter_left_is_dismissed() {
    let mut it = Fixture::start(config(0, 1)).await;
    let held = it.pool.checkout().await.unwrap();
    let run = Arc::clone(held.incarnation());
    {
        let mut waiting = Box::pin(it.pool.checkout());
        assert!(poll(waiting.as_mut()).is_pending());
        // Goes to the one that waits, who leaves before it has seen it.
        drop(held);
        assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 1, 0));
    }
    it.at_rest().await;
    assert_eq!(run.ended().await.class(), "shutdown");
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn overflow_never_exceeds_its_limit_while_one_is_still_ending() {
    let mut it = Fixture::start(config(0, 1)).await;
    let until = Arc::new(Notify::new());
    let held = it.pool.checkout().await.unwrap();
    let first = Arc::clone(held.incarnation());
    let (reply, _answer) = tokio::sync::oneshot::channel();
    let busy = Msg::Hold(Arc::clone(&until), reply.into());
    held.0.cast(busy).unwrap();
    let_others_run().await;
    drop(held);
    // Dismissed, with a message in hand that it may finish.
    let mut next = Box::pin(it.pool.checkout());
    assert!(poll(next.as_mut()).is_pending());
    let_others_run().await;
    assert!(poll(next.as_mut()).is_pending());
    assert_eq!(it.worker.made.load(SeqCst), 1);
    until.notify_one();
    let next = next.await.unwrap();
    assert_eq!(first.exit_reason().unwrap().class(), "shutdown");
    assert_eq!(it.worker.made.load(SeqCst), 2);
    drop(next);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn strategy_says_which_idle_worker_is_lent() {
    for (strategy, expected) in [
        (PoolStrategy::Fifo, ["worker-1", "worker-2", "worker-3"]),
        (PoolStrategy::Lifo, ["worker-3", "worker-3", "worker-3"]),
    ] {
        let it = Fixture::start(config(3, 0).strategy(strategy)).await;
        for id in expected {
            assert_eq!(it.pool.checkout().await.unwrap().worker().id(), id);
        }
        it.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_first_come_first_served() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..5)
        .map(|number| {
            let (pool, order) = (it.pool.clone(), Arc::clone(&order));
            tokio::spawn(async move {
                let held = pool.checkout().await.unwrap();
                order.lock().unwrap().push(number);
                held.echo(1).await.unwrap();
            })
        })
        .collect();
    let_others_run().await;
    assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 5));
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(it.pool.stats().waits, 5);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_explains_itself() {
    let mut it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let began = tokio::time::Instant::now();
    let error = it
        .pool
        .checkout_within(Duration::from_millis(300))
        .await
        .unwrap_err();
    assert_eq!(began.elapsed().as_millis(), 300);
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        "pool `db`: none free within 300ms: 1 in use of 1 + 0, 0 waiting"
    );
    assert_eq!(it.pool.stats().timeouts, 1);
    let error = it.pool.try_checkout().await.unwrap_err();
    assert!(
        matches!(error, CheckoutError::Exhausted { in_use: 1, .. }),
        "{error:?}"
    );
    drop(held);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_may_be_bounded() {
    let it = Fixture::start(config(1, 0).max_waiting(1)).await;
    let held = it.pool.checkout().await.unwrap();
    let mut first = Box::pin(it.pool.checkout());
    assert!(poll(first.as_mut()).is_pending());
    let error = it.pool.checkout().await.unwrap_err();
    assert!(
        matches!(error, CheckoutError::Exhausted { waiting: 1, .. }),
        "{error:?}"
    );
    drop(held);
    drop(first.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_overflow_worker_that_does_not_start_is_an_error_to_its_caller_alone() {
    let mut it = Fixture::start(config(1, 1)).await;
    let held = it.pool.checkout().await.unwrap();
    it.worker.failing.store(true, SeqCst);
    let error = it.pool.checkout().await.unwrap_err();
    let CheckoutError::Start { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(source.to_string(), "start failed: failed: no connection");
    assert_eq!(it.pool.status(), status(&it.pool, 0, 1, 0, 0));
    assert_eq!(held.echo(7).await.unwrap(), 7);
    drop(held);
    it.worker.failing.store(false, SeqCst);
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn holders_are_listed_with_their_call_site() {
    let it = Fixture::start(config(2, 0)).await;
    let line = line!() + 1;
    let first = it.pool.checkout().await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let second = it.pool.try_checkout().await.unwrap();
    let holders = it.pool.holders();
    assert_eq!(
        (&*holders[0].worker, &*holders[1].worker),
        ("worker-1", "worker-2")
    );
    assert_eq!(holders[0].location.line(), line);
    assert_eq!(holders[0].location.file(), file!());
    assert_eq!(holders[0].held_for, Duration::from_secs(2));
    assert_eq!(first.held_for(), Duration::from_secs(2));
    drop((first, second));
    assert!(it.pool.holders().is_empty());
}

/// Borrows a worker in its handler, in its own name or another's, and holds it until it is told to go on.
struct Clerk(Pool<ProbeWorker>);

enum Errand {
    Wait(Arc<Notify>),
    Now(Arc<Notify>),
    Aside(Arc<Notify>),
}

impl Actor for Clerk {
    type Msg = Errand;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Errand>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Errand>,
        errand: Errand,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (held, ()) = match errand {
            Errand::Wait(done) => (self.0.checkout().await?, done.notified().await),
            Errand::Now(done) => (self.0.try_checkout().await?, done.notified().await),
            Errand::Aside(done) => {
                let pool = self.0.clone();
                let aside = async move { (pool.checkout().await, done.notified().await) };
                let (held, ()) = tokio::spawn(aside).await?;
                (held?, ())
            }
        };
        drop(held);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn pool_10_who_borrows_in_a_handler_is_listed_as_its_actor() {
    let it = Fixture::start(config(1, 1)).await;
    let pool = it.pool.clone();
    let clerk = ChildSpec::worker("clerk", move || (Clerk(pool.clone()), ()));
    it.root.start_child(clerk).await.unwrap();
    let run = it.scope.root().find("test/clerk").unwrap().current();
    let send = |errand| run.as_ref().unwrap().post(errand).map_err(drop).unwrap();
    let listed = || {
        let of = |holder: Holder| (holder.worker.to_string(), holder.actor);
        it.pool.holders().into_iter().map(of).collect::<Vec<_>>()
    };
    let clerk = Some(ActorPath::root("test").child("clerk"));
    let done = Arc::new(Notify::new());

    send(Errand::Wait(Arc::clone(&done)));
    let_others_run().await;
    assert_eq!(listed(), [("worker-1".into(), clerk.clone())]);
    // Nobody's: there is no handler.
    let held = it.pool.checkout().await.unwrap();
    assert_eq!(listed()[1], ("worker-2".into(), None));
    done.notify_one();
    let_others_run().await;

    // After a wait, and with a worker that is started for it.
    let other = it.pool.checkout().await.unwrap();
    send(Errand::Wait(Arc::clone(&done)));
    let_others_run().await;
    assert_eq!(it.pool.status().waiting, 1);
    drop(held);
    let_others_run().await;
    assert_eq!(listed()[1], ("worker-2".into(), clerk.clone()));
    done.notify_one();
    let_others_run().await;
    send(Errand::Now(Arc::clone(&done)));
    let_others_run().await;
    assert_eq!(listed()[1], ("worker-2".into(), clerk));
    done.notify_one();
    let_others_run().await;

    // A task of its own is no part of its handler, unless it says so.
    send(Errand::Aside(Arc::clone(&done)));
    let_others_run().await;
    assert_eq!(listed()[1], ("worker-2".into(), None));
    done.notify_one();
    drop(other);
    let_others_run().await;

    // Another tree has the same paths.
    let pool = it.pool.clone();
    let clerk = ChildSpec::worker("clerk", move || (Clerk(pool.clone()), ()));
    let other = Supervisor::builder().child(clerk).build().unwrap();
    let other = other.start("test").await.unwrap();
    let run = other.node().child("clerk").unwrap().current();
    run.unwrap()
        .post(Errand::Wait(Arc::clone(&done)))
        .map_err(drop)
        .unwrap();
    let_others_run().await;
    assert_eq!(listed(), [("worker-1".into(), None)]);
    done.notify_one();
    let_others_run().await;

    let behalf = ActorPath::root("shop").child("billing");
    let _held = it.pool.on_behalf_of(behalf.clone()).checkout().await;
    assert_eq!(listed(), [("worker-1".into(), Some(behalf))]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_gives_back_on_return_and_on_panic() {
    let mut it = Fixture::start(config(1, 0)).await;
    let sum = it
        .pool
        .transaction(|client| async move { client.echo(3).await.unwrap() + 1 })
        .await;
    assert_eq!(sum.unwrap(), 4);
    let pool = it.pool.clone();
    let panicked = tokio::spawn(async move {
        pool.transaction(|client| async move {
            client.echo(1).await.unwrap();
            panic!("in the middle of it");
        })
        .await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    it.lends_all().await;
    assert_eq!(it.pool.stats().retired, 0);
}

#[tokio::test(start_paused = true)]
async fn casts_are_handled_before_the_next_holder_is_served() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    for _ in 0..3 {
        held.0.cast(Msg::Count).unwrap();
    }
    drop(held);
    let held = it.pool.checkout().await.unwrap();
    assert_eq!(held.0.call(Msg::Counted).await.unwrap(), 3);
    assert_eq!(it.pool.stats().retired, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reference_ends_with_its_loan() {
    let it = Fixture::start(config(1, 0)).await;
    let client = it.pool.checkout().await.unwrap().clone();
    let error = client.echo(1).await.unwrap_err();
    assert_eq!(error.to_string(), "the worker was checked in");
    assert!(client.0.cast(Msg::Count).is_err());
}

#[tokio::test(start_paused = true)]
async fn two_pools_do_not_touch_each_other() {
    let mut one = Fixture::start(config(1, 0)).await;
    let other = Pool::new("other", ProbeWorker::default(), PoolConfig::new(1)).unwrap();
    one.root.start_child(other.child_spec()).await.unwrap();
    let held = one.pool.checkout().await.unwrap();
    assert_eq!(other.status().idle, 1);
    let theirs = other.checkout().await.unwrap();
    assert_eq!(theirs.worker().as_str(), "test/other/worker-1");
    other.close();
    assert_eq!(held.echo(1).await.unwrap(), 1);
    drop(held);
    one.lends_all().await;
    drop(theirs);
    assert_eq!((other.stats().checkouts, other.status().idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_every_wait() {
    let it = Fixture::start(config(1, 0)).await;
    let held = it.pool.checkout().await.unwrap();
    let mut waiting = Box::pin(it.pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    it.pool.close();
    let error = waiting.await.unwrap_err();
    assert!(matches!(error, CheckoutError::Closed { .. }) && !error.is_retryable());
    assert!(it.pool.checkout().await.is_err());
    assert!(it.pool.try_checkout().await.is_err());
    assert_eq!(held.echo(2).await.unwrap(), 2);
    drop(held);
    assert_eq!(it.pool.status(), status(&it.pool, 1, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_refused_when_the_tree_shuts_down() {
    let it = Fixture::start(config(1, 1)).await;
    let until = Arc::new(Notify::new());
    let (first, _second) = (
        it.pool.checkout().await.unwrap(),
        it.pool.checkout().await.unwrap(),
    );
    let call = tokio::spawn({
        let until = Arc::clone(&until);
        async move { first.hold(&until).await }
    });
    let pool = it.pool.clone();
    let waiting = tokio::spawn(async move { pool.checkout().await.map(drop) });
    let_others_run().await;
    let began = tokio::time::Instant::now();
    let pool = it.pool.clone();
    let stopping = tokio::spawn(async move { it.stop().await });
    let refused = waiting.await.unwrap();
    assert!(
        matches!(refused, Err(CheckoutError::Closed { .. })),
        "{refused:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "not by its deadline"
    );
    until.notify_one();
    assert_eq!(call.await.unwrap().unwrap(), 0);
    stopping.await.unwrap();
    assert!(pool.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_started_again_is_open_again() {
    let mut it = Fixture::start(config(2, 0)).await;
    it.root.terminate_child("db").await.unwrap();
    assert!(matches!(
        it.pool.checkout().await,
        Err(CheckoutError::Closed { .. })
    ));
    it.root.restart_child("db").await.unwrap();
    it.lends_all().await;
    // Not at the same node.
    it.root.terminate_child("db").await.unwrap();
    it.root.delete_child("db").await.unwrap();
    it.root.start_child(it.pool.child_spec()).await.unwrap();
    it.lends_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_checkout_waits_for_the_pool_to_be_started() {
    let worker = ProbeWorker::default();
    let pool = Pool::new("db", worker, config(1, 0)).unwrap();
    let mut early = Box::pin(pool.checkout());
    assert!(poll(early.as_mut()).is_pending());
    let root = perennial_supervisor::Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("test")
        .await
        .unwrap();
    assert_eq!(early.await.unwrap().echo(1).await.unwrap(), 1);
    root.stop(perennial_lifecycle::ExitReason::Shutdown).await;
}
