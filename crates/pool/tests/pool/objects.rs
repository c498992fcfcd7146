//! Pools of plain objects.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use perennial_pool::{CheckoutError, Object, ObjectPool, PoolStrategy, Timeout};
use tokio::time::Instant;

use crate::support::{let_others_run, poll};

const SECOND: Duration = Duration::from_secs(1);

/// Counts those of its kind, and sees that it is used by one at a time.
#[derive(Debug)]
struct Tool {
    used: AtomicBool,
    alive: Arc<AtomicUsize>,
}

impl Tool {
    fn use_it(&self) {
        assert!(!self.used.swap(true, SeqCst));
        self.used.store(false, SeqCst);
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
    }
}

struct Fixture {
    pool: ObjectPool<Tool>,
    alive: Arc<AtomicUsize>,
}

impl Fixture {
    fn new(size: usize) -> Self {
        let alive = Arc::new(AtomicUsize::new(0));
        let tools = (0..size).map(|_| tool(&alive));
        let pool = ObjectPool::builder("tools", tools).wait_timeout(5 * SECOND);
        Self {
            pool: pool.build().unwrap(),
            alive,
        }
    }

    /// Checks that all are there, and can be lent at once.
    fn lends_all(&self, size: usize) {
        let status = self.pool.status();
        let counts = (status.size, status.idle, status.in_use, status.waiting);
        assert_eq!(counts, (size, size, 0, 0));
        let all: Vec<_> = (0..size)
            .map(|_| self.pool.try_checkout().unwrap())
            .collect();
        assert!(self.pool.try_checkout().is_err());
        drop(all);
        assert_eq!(self.pool.status(), status);
    }
}

fn tool(alive: &Arc<AtomicUsize>) -> Tool {
    alive.fetch_add(1, SeqCst);
    Tool {
        used: AtomicBool::new(false),
        alive: Arc::clone(alive),
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_first_come_first_served() {
    let it = Fixture::new(1);
    let held = it.pool.checkout().await.unwrap();
    let mut waiters: Vec<Pin<Box<dyn Future<Output = _>>>> = Vec::new();
    for _ in 0..3 {
        let mut waiter = Box::pin(it.pool.checkout());
        assert!(poll(waiter.as_mut()).is_pending());
        waiters.push(waiter);
    }
    assert_eq!(it.pool.status().waiting, 3);
    drop(held);
    for mut waiter in waiters {
        // Who comes later does not come first.
        assert!(it.pool.try_checkout().is_err());
        let mut late = Box::pin(it.pool.checkout());
        assert!(poll(late.as_mut()).is_pending());
        let Poll::Ready(held) = poll(waiter.as_mut()) else {
            panic!("it is the first");
        };
        held.unwrap().use_it();
        drop(late);
    }
    it.lends_all(1);
}

#[test]
fn a_fifo_pool_lends_what_was_idle_for_longest() {
    let pool = ObjectPool::builder("numbers", 0..3).strategy(PoolStrategy::Fifo);
    let pool = pool.build().unwrap();
    let order: Vec<_> = (0..5).map(|_| *pool.try_checkout().unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 0, 1]);
}

#[test]
fn a_lifo_pool_lends_what_came_back_last() {
    let pool = ObjectPool::builder("numbers", 0..3).build().unwrap();
    let all: Vec<_> = (0..3).map(|_| pool.try_checkout().unwrap()).collect();
    for held in all {
        let number = *held;
        drop(held);
        assert_eq!(*pool.try_checkout().unwrap(), number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_explains_itself() {
    let it = Fixture::new(1);
    let held = it.pool.checkout().await.unwrap();
    let mut other = pin!(it.pool.checkout());
    assert!(poll(other.as_mut()).is_pending());
    let began = Instant::now();
    let error = it.pool.checkout_within(SECOND).await.unwrap_err();
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(
        error.to_string(),
        "pool `tools`: none free within 1s: 1 in use of 1 + 0, 1 waiting"
    );
    assert!(error.is_retryable());
    let refused = it.pool.try_checkout().unwrap_err();
    assert!(matches!(
        refused,
        CheckoutError::Exhausted { waiting: 1, .. }
    ));
    drop(held);
    drop(other.await.unwrap());
    let stats = it.pool.stats();
    assert_eq!((stats.checkouts, stats.waits), (2, 1));
    assert_eq!((stats.timeouts, stats.refused), (1, 1));
    assert_eq!((stats.wait_max, stats.wait_total), (SECOND, SECOND));
    it.lends_all(1);
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may() {
    let pool = ObjectPool::builder("numbers", 0..1).max_waiting(1);
    let pool = pool.build().unwrap();
    let held = pool.checkout().await.unwrap();
    let mut waits = pin!(pool.checkout_within(Timeout::Never));
    assert!(poll(waits.as_mut()).is_pending());
    let refused = pool.checkout().await.unwrap_err();
    assert!(matches!(
        refused,
        CheckoutError::Exhausted { waiting: 1, .. }
    ));
    drop(held);
    drop(waits.await.unwrap());
}

#[tokio::test]
async fn holders_are_listed_with_their_call_site() {
    let it = Fixture::new(2);
    let held = it.pool.checkout().await.unwrap();
    let here = std::panic::Location::caller();
    assert_eq!(Object::location(&held).file(), here.file());
    assert_eq!(it.pool.holders(), [Object::location(&held)]);
    let other = it.pool.checkout_at(None, here).await.unwrap();
    assert!(it.pool.holders().contains(&here));
    drop((held, other));
    assert!(it.pool.holders().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_all_and_waits_for_what_is_out() {
    let it = Fixture::new(2);
    let (first, second) = (it.pool.checkout().await, it.pool.checkout().await);
    let mut waits = pin!(it.pool.checkout());
    assert!(poll(waits.as_mut()).is_pending());
    let mut drained = pin!(it.pool.drain());
    assert!(poll(drained.as_mut()).is_pending());
    assert!(it.pool.is_drained());
    let refused = waits.await.unwrap_err();
    assert_eq!(refused.to_string(), "pool `tools`: drained, 2 still in use");
    assert!(matches!(
        it.pool.try_checkout(),
        Err(CheckoutError::Drained { .. })
    ));
    drop(first);
    assert!(poll(drained.as_mut()).is_pending());
    // What is taken out is not waited for.
    drop(Object::take(second.unwrap()));
    assert!(poll(drained.as_mut()).is_ready());
    it.pool.resume();
    it.lends_all(1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_pool_is_resumed_and_who_waits_is_served() {
    let it = Fixture::new(1);
    let held = it.pool.checkout().await.unwrap();
    let mut waits = pin!(it.pool.checkout());
    assert!(poll(waits.as_mut()).is_pending());
    let mut drained = pin!(it.pool.drain());
    assert!(poll(drained.as_mut()).is_pending());
    // It did not look meanwhile.
    it.pool.resume();
    assert!(poll(drained.as_mut()).is_ready());
    drop(held);
    drop(waits.await.unwrap());
    it.lends_all(1);
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_refuses_all_and_drops_what_comes_back() {
    let it = Fixture::new(3);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(it.pool.checkout().await.unwrap());
    }
    let mut waits = pin!(it.pool.checkout());
    assert!(poll(waits.as_mut()).is_pending());
    all.pop();
    // One is on its way to who waits, and is dropped; no one else had it.
    it.pool.close();
    it.pool.close();
    assert!(it.pool.is_closed());
    let refused = waits.await.unwrap_err();
    assert!(matches!(refused, CheckoutError::Closed { .. }) && !refused.is_retryable());
    assert!(it.pool.try_checkout().is_err());
    assert_eq!((it.alive.load(SeqCst), it.pool.status().size), (2, 2));
    drop(all);
    assert_eq!((it.alive.load(SeqCst), it.pool.status().size), (0, 0));
    assert!(it.pool.add(tool(&it.alive)).is_err());
    assert_eq!((it.alive.load(SeqCst), it.pool.status().size), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_added_goes_to_who_waits() {
    let it = Fixture::new(0);
    let mut waits = pin!(it.pool.checkout());
    assert!(poll(waits.as_mut()).is_pending());
    it.pool.add(tool(&it.alive)).unwrap();
    it.pool.add(tool(&it.alive)).unwrap();
    drop(waits.await.unwrap());
    it.lends_all(2);
}

#[test]
fn objects_are_dropped_with_the_last_handle_and_the_last_loan() {
    let it = Fixture::new(2);
    let held = it.pool.try_checkout().unwrap();
    let alive = Arc::clone(&it.alive);
    drop(it);
    held.use_it();
    drop(held);
    assert_eq!(alive.load(SeqCst), 0);
}

/// Runs `job` anew for each number of polls after which it is dropped, until it gets through, with an object given
/// back before each of the polls.
async fn drop_at_every_poll<F: Future>(size: usize, job: impl Fn(ObjectPool<Tool>) -> F) {
    for given_back in 0..4 {
        for polls in 0..10 {
            let it = Fixture::new(size);
            let mut held: Vec<_> = (0..size).map(|_| it.pool.try_checkout().unwrap()).collect();
            let mut run = Box::pin(job(it.pool.clone()));
            let mut behind = Box::pin(it.pool.checkout());
            for number in 0..polls {
                if number >= given_back {
                    held.pop();
                }
                if poll(run.as_mut()).is_ready() {
                    break;
                }
                assert!(poll(behind.as_mut()).is_pending());
                let_others_run().await;
            }
            drop(run);
            held.clear();
            // Whatever it had goes to who stands behind it.
            drop(behind.await.unwrap());
            it.lends_all(size);
            assert_eq!(it.alive.load(SeqCst), size);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_borrower_that_is_dropped_at_any_poll_leaks_nothing() {
    for size in [1, 2] {
        drop_at_every_poll(size, |pool| async move {
            pool.checkout().await.unwrap().use_it();
        })
        .await;
        drop_at_every_poll(size, |pool| async move {
            let held = pool.checkout_within(Timeout::Never).await.unwrap();
            tokio::task::yield_now().await;
            held.use_it();
        })
        .await;
        drop_at_every_poll(size, |pool| async move {
            drop(pool.checkout_within(Duration::ZERO).await);
            pool.checkout().await.unwrap().use_it();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_dropped_at_any_poll_leaks_nothing() {
    for polls in 0..4 {
        let it = Fixture::new(2);
        let mut held: Vec<_> = (0..2).map(|_| it.pool.try_checkout().unwrap()).collect();
        let mut run = Box::pin(it.pool.drain());
        for _ in 0..polls {
            if poll(run.as_mut()).is_ready() {
                break;
            }
            held.pop();
        }
        drop(run);
        held.clear();
        it.pool.resume();
        it.lends_all(2);
    }
}

const TASKS: usize = 16;
const ROUNDS: usize = 4_000;

/// On several threads, so that objects lie on several shelves; with few objects, so that many wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_leaks_and_nobody_waits_in_vain() {
    for size in [1, 3, 15] {
        let it = Fixture::new(size);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let pool = it.pool.clone();
                tokio::spawn(async move {
                    for round in 0..ROUNDS {
                        match (task + round) % 8 {
                            0 => {
                                if let Ok(held) = pool.try_checkout() {
                                    held.use_it();
                                }
                            }
                            1 => {
                                // Gives up at once, or after it was given something.
                                let mut run = Box::pin(pool.checkout());
                                let first = poll(run.as_mut()).is_ready();
                                if !first && round % 2 == 0 {
                                    tokio::task::yield_now().await;
                                }
                            }
                            2 => {
                                let held = Object::take(pool.checkout().await.unwrap());
                                held.use_it();
                                pool.add(held).unwrap();
                            }
                            3 => {
                                let held = pool.checkout().await.unwrap();
                                tokio::task::yield_now().await;
                                held.use_it();
                            }
                            // One that nobody served in an hour was forgotten.
                            _ => pool.checkout_within(3_600 * SECOND).await.unwrap().use_it(),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let stats = it.pool.stats();
        assert!(stats.checkouts >= (TASKS * ROUNDS / 2) as u64 && stats.timeouts == 0);
        it.lends_all(size);
        assert_eq!(it.alive.load(SeqCst), size);
    }
}

/// Two threads want one object at the same moment, again and again: the one that finds nothing must not miss what the
/// other puts back just then, for nobody else comes to put it right.
#[test]
fn what_comes_back_while_somebody_joins_the_line_is_not_missed() {
    const TIMES: usize = 20_000;

    let it = Fixture::new(1);
    let (arrived, missed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let borrow = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(async {
            for round in 1..=TIMES {
                arrived.fetch_add(1, SeqCst);
                let mut looks = 0;
                while arrived.load(SeqCst) < 2 * round {
                    if missed.load(SeqCst) {
                        return;
                    }
                    looks += 1;
                    // Looking is what makes them go on together; the other may wait for this processor.
                    if looks % 1_000 == 0 {
                        std::thread::yield_now();
                    }
                    std::hint::spin_loop();
                }
                match it.pool.checkout().await {
                    Ok(held) => held.use_it(),
                    Err(_) => missed.store(true, SeqCst),
                }
            }
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(borrow);
        scope.spawn(borrow);
    });
    assert!(!missed.load(SeqCst));
    it.lends_all(1);
}

#[tokio::test(start_paused = true)]
async fn all_objects_take_turns_also_one_that_came_back_for_who_had_gone() {
    let pool = ObjectPool::builder("numbers", 0..2)
        .strategy(PoolStrategy::Fifo)
        .build()
        .unwrap();
    let first = pool.try_checkout().unwrap();
    let second = pool.try_checkout().unwrap();
    let mut waiting = Box::pin(pool.checkout());
    assert!(poll(waiting.as_mut()).is_pending());
    drop(first);
    drop(waiting);
    drop(second);
    let turns: Vec<_> = (0..4).map(|_| *pool.try_checkout().unwrap()).collect();
    assert_eq!(turns, [0, 1, 0, 1]);

    // What comes back while nothing is lent has its turn in that order.
    let held = [pool.try_checkout().unwrap(), pool.try_checkout().unwrap()];
    let mut drain = Box::pin(pool.drain());
    assert!(poll(drain.as_mut()).is_pending());
    drop(held);
    drain.await;
    pool.resume();
    let turns: Vec<_> = (0..4).map(|_| *pool.try_checkout().unwrap()).collect();
    assert_eq!(turns, [0, 1, 0, 1]);
}
