//! A holder that is dropped at any poll leaks nothing.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use perennial_pool::{Checkout, Dismissal, Pool, Timeout};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::{Fixture, ProbeWorker, config, let_others_run, poll};

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// Runs `job` anew for each number of polls after which it is dropped, until it gets through; others run
/// between the polls, and `meanwhile` is called before each.
async fn drop_at_every_poll(
    it: &mut Fixture,
    job: impl Fn(Pool<ProbeWorker>) -> Job,
    meanwhile: impl AsyncFn(&Fixture, usize),
) -> usize {
    for polls in 0..100 {
        let mut run = job(it.pool.clone());
        let mut done = false;
        for number in 0..polls {
            meanwhile(it, number).await;
            if let Poll::Ready(()) = poll(run.as_mut()) {
                done = true;
                break;
            }
            let_others_run().await;
        }
        drop(run);
        it.lends_all().await;
        if done {
            return polls;
        }
    }
    panic!("it never gets through");
}

fn borrow_and_call(pool: Pool<ProbeWorker>) -> Job {
    Box::pin(async move {
        let held = pool.checkout().await.unwrap();
        assert_eq!(held.echo(4).await.unwrap(), 4);
        assert_eq!(held.echo(5).await.unwrap(), 5);
    })
}

#[tokio::test(start_paused = true)]
async fn with_an_idle_worker() {
    let mut it = Fixture::start(config(1, 0)).await;
    drop_at_every_poll(&mut it, borrow_and_call, async |_, _| {}).await;
}

#[tokio::test(start_paused = true)]
async fn with_an_overflow_worker_that_must_be_started() {
    let mut it = Fixture::start(config(0, 2)).await;
    drop_at_every_poll(&mut it, borrow_and_call, async |_, _| {}).await;
}

#[tokio::test(start_paused = true)]
async fn with_an_overflow_worker_that_starts_slowly() {
    let mut it = Fixture::start(config(1, 1)).await;
    for polls in 0..6 {
        let held = it.pool.checkout().await.unwrap();
        it.worker.start.shut();
        let mut run = borrow_and_call(it.pool.clone());
        for _ in 0..polls {
            assert!(poll(run.as_mut()).is_pending());
            let_others_run().await;
        }
        drop(run);
        // The start goes on without its caller; nothing of it may stay.
        it.worker.start.open();
        drop(held);
        it.lends_all().await;
        let_others_run().await;
        assert_eq!(it.supervisor().count_children().await.unwrap().workers, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_for_its_turn() {
    for size in [0, 1] {
        let mut it = Fixture::start(config(size, 1 - size)).await;
        for released_at in 0..4 {
            for polls in 0..8 {
                let mut held = Some(it.pool.checkout().await.unwrap());
                let mut run = borrow_and_call(it.pool.clone());
                for number in 0..polls {
                    if number == released_at {
                        held = None;
                    }
                    if poll(run.as_mut()).is_ready() {
                        break;
                    }
                    let_others_run().await;
                }
                drop(run);
                drop(held);
                it.lends_all().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_to_who_is_dropped_goes_to_the_next() {
    let it = Fixture::start(config(2, 0)).await;
    for dropped in [vec![0], vec![1], vec![0, 1]] {
        let mut held = vec![it.pool.checkout().await.unwrap()];
        held.push(it.pool.checkout().await.unwrap());
        let mut first: Vec<_> = (0..2)
            .map(|_| Some(borrow_and_call(it.pool.clone())))
            .collect();
        for run in first.iter_mut().flatten() {
            assert!(poll(run.as_mut()).is_pending());
        }
        // Polled only when it is called.
        let pool = it.pool.clone();
        let next = tokio::spawn(async move { pool.checkout().await.map(drop) });
        let_others_run().await;
        assert_eq!(it.pool.status().waiting, 3);
        held.clear();
        for at in dropped {
            first[at] = None;
        }
        // At once: at the end of its time it would look by itself.
        let began = Instant::now();
        next.await.unwrap().unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        first.clear();
        assert_eq!(it.pool.status().idle, 2);
    }
}

/// A thread that gives back what it is sent, at the same moment as somebody does something else.
fn giver() -> (
    Arc<Barrier>,
    mpsc::Sender<Checkout<ProbeWorker>>,
    JoinHandle<()>,
) {
    let both = Arc::new(Barrier::new(2));
    let (lend, lent) = mpsc::channel();
    let giver = std::thread::spawn({
        let both = Arc::clone(&both);
        move || {
            for held in lent {
                both.wait();
                drop(held);
            }
        }
    });
    (both, lend, giver)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_comes_back_on_another_thread_just_as_somebody_goes_or_looks_is_not_lost() {
    const ROUNDS: usize = 2_000;

    let mut it = Fixture::start(config(1, 0).wait_timeout(Duration::from_secs(20))).await;
    let (both, lend, giver) = giver();
    for round in 0..ROUNDS {
        let held = it.pool.checkout().await.unwrap();
        let pool = it.pool.clone();
        let mut first = Box::pin(pool.checkout());
        assert!(poll(first.as_mut()).is_pending());
        let mut next = Box::pin(pool.checkout());
        assert!(poll(next.as_mut()).is_pending());
        lend.send(held).unwrap();
        both.wait();
        for _ in 0..round % 50 {
            std::hint::spin_loop();
        }
        if round % 2 == 0
            && let Poll::Ready(held) = poll(first.as_mut())
        {
            drop(held.unwrap());
        }
        drop(first);
        drop(next.await.unwrap());
    }
    drop(lend);
    giver.join().unwrap();
    it.lends_all().await;
    assert_eq!(it.pool.stats().timeouts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_looks_again_and_again_finds_what_comes_back_meanwhile() {
    const ROUNDS: usize = 2_000;

    let mut it = Fixture::start(config(1, 0).wait_timeout(Duration::from_secs(20))).await;
    let (both, lend, giver) = giver();
    let pool = it.pool.clone();
    // Else tokio would have the task yield which looks so often.
    tokio::task::unconstrained(async {
        for _ in 0..ROUNDS {
            let held = pool.checkout().await.unwrap();
            let mut next = Box::pin(pool.checkout());
            assert!(poll(next.as_mut()).is_pending());
            lend.send(held).unwrap();
            both.wait();
            loop {
                if let Poll::Ready(held) = poll(next.as_mut()) {
                    drop(held.unwrap());
                    break;
                }
            }
        }
    })
    .await;
    drop(lend);
    giver.join().unwrap();
    it.lends_all().await;
    assert_eq!(it.pool.stats().timeouts, 0);
}

#[tokio::test(start_paused = true)]
async fn in_the_gap_of_a_restart() {
    let mut it = Fixture::start(config(1, 1)).await;
    let kill_first = async |it: &Fixture, number: usize| {
        if number == 0 {
            let run = it.run("worker-1");
            run.kill();
            run.ended().await;
        }
    };
    drop_at_every_poll(&mut it, borrow_and_call, kill_first).await;
    let kill_supervisor = async |it: &Fixture, number: usize| {
        if number == 0 {
            let run = it.supervisor().incarnation().unwrap();
            it.supervisor().kill();
            run.ended().await;
        }
    };
    drop_at_every_poll(&mut it, borrow_and_call, kill_supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_call() {
    let mut it = Fixture::start(config(2, 1)).await;
    let until = Arc::new(Notify::new());
    let job = |pool: Pool<ProbeWorker>| {
        let until = Arc::clone(&until);
        Box::pin(async move {
            let held = pool.checkout().await.unwrap();
            held.hold(&until).await.unwrap();
            pool.transaction(|held| async move { held.echo(1).await.unwrap() })
                .await
                .unwrap();
        }) as Job
    };
    let release_late = async |_: &Fixture, number: usize| {
        if number == 5 {
            until.notify_one();
        }
    };
    let polls = drop_at_every_poll(&mut it, job, release_late).await;
    assert!(polls > 5 && it.pool.stats().retired >= 3);
}

#[tokio::test(start_paused = true)]
async fn with_a_worker_that_is_not_in_order() {
    let mut it = Fixture::start(config(1, 0).check_after(Duration::ZERO)).await;
    let spoil = async |it: &Fixture, number: usize| {
        if number == 0 {
            it.worker.unfit.store(true, SeqCst);
        }
    };
    let polls = drop_at_every_poll(&mut it, borrow_and_call, spoil).await;
    assert!(polls > 3 && it.pool.stats().retired >= 3);
}

#[tokio::test(start_paused = true)]
async fn with_a_deadline_around_everything() {
    let mut it = Fixture::start(config(1, 1)).await;
    let until = Arc::new(Notify::new());
    for _ in 0..10 {
        let pool = it.pool.clone();
        let work = pool.transaction(|held| {
            let until = Arc::clone(&until);
            async move { held.hold(&until).await }
        });
        let late = tokio::time::timeout(Duration::from_millis(10), work).await;
        assert!(late.is_err());
    }
    it.lends_all().await;
    assert_eq!(it.pool.stats().retired, 10);
}

/// All the ways to wait that the tests above do not take.
#[tokio::test(start_paused = true)]
async fn every_other_way_to_wait() {
    fn try_it(pool: Pool<ProbeWorker>) -> Job {
        Box::pin(async move {
            let held = pool.try_checkout().await.unwrap();
            held.echo(1).await.unwrap();
            held.discard();
        })
    }
    fn within(pool: Pool<ProbeWorker>) -> Job {
        Box::pin(async move {
            let held = pool.checkout_within(Timeout::Never).await.unwrap();
            let other = pool.checkout_within(Duration::from_secs(1)).await.unwrap();
            other.echo(2).await.unwrap();
            drop(held);
        })
    }
    fn at(pool: Pool<ProbeWorker>) -> Job {
        Box::pin(async move {
            let here = Location::caller();
            let held = pool.checkout_at(None, here, None).await.unwrap();
            let limit = Some(Duration::from_secs(1));
            let other = pool.checkout_at(limit, here, None).await.unwrap();
            other.echo(2).await.unwrap();
            drop(held);
        })
    }
    fn transact(pool: Pool<ProbeWorker>) -> Job {
        Box::pin(async move {
            let work = async |held: Checkout<ProbeWorker>| held.echo(3).await.unwrap();
            let limit = Duration::from_secs(1);
            assert_eq!(pool.transaction_within(limit, work).await.unwrap(), 3);
            assert_eq!(pool.transaction(work).await.unwrap(), 3);
        })
    }
    fn drain(pool: Pool<ProbeWorker>) -> Job {
        Box::pin(async move {
            let held = pool.checkout().await.unwrap();
            let release = async {
                tokio::task::yield_now().await;
                drop(held);
            };
            tokio::join!(pool.drain(), release);
        })
    }
    fn drain_by_view(pool: Pool<ProbeWorker>) -> Job {
        Box::pin(async move {
            let held = pool.checkout().await.unwrap();
            let release = async {
                tokio::task::yield_now().await;
                drop(held);
            };
            let view = pool.view();
            tokio::join!(view.drain(), release);
        })
    }
    for dismissal in [Dismissal::Overflow, Dismissal::Returned] {
        for (size, more) in [(2, 0), (1, 1), (0, 2)] {
            for job in [try_it, within, at, transact, drain, drain_by_view] {
                // Every checkout of a worker that was idle asks it whether it is in order.
                for check in [false, true] {
                    let mut config = config(size, more).dismissal(dismissal);
                    if check {
                        config = config.check_after(Duration::from_nanos(1));
                    }
                    let mut it = Fixture::start(config).await;
                    let resume = async |it: &Fixture, number: usize| {
                        if number == 0 {
                            it.pool.resume();
                        }
                    };
                    let job = |pool: Pool<ProbeWorker>| {
                        let resumed = Resumed(pool.clone());
                        let job = job(pool);
                        Box::pin(async move {
                            let _resumed = resumed;
                            job.await;
                        }) as Job
                    };
                    let polls = drop_at_every_poll(&mut it, job, resume).await;
                    assert!(polls > 1);
                }
            }
        }
    }
}

/// Has a pool lend again when a drain was given up.
struct Resumed(Pool<ProbeWorker>);

impl Drop for Resumed {
    fn drop(&mut self) {
        self.0.resume();
    }
}
