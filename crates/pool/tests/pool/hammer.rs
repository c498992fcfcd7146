//! Many borrowers on two threads, while every actor of the pool is killed again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use perennial_pool::CheckoutError;
use tokio::sync::Notify;

use crate::support::{Fixture, config};

const TASKS: u64 = 16;
const ROUNDS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_and_the_counts_add_up() {
    let mut it = Fixture::start(config(3, 2).wait_timeout(Duration::from_secs(60))).await;
    let never = Arc::new(Notify::new());
    let (lent, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let pool = it.pool.clone();
            let (lent, refused) = (Arc::clone(&lent), Arc::clone(&refused));
            let never = Arc::clone(&never);
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let held = match (task + round) % 4 {
                        0 => pool.try_checkout().await,
                        _ => pool.checkout().await,
                    };
                    let held = match held {
                        Ok(held) => held,
                        Err(CheckoutError::Exhausted { .. }) => {
                            refused.fetch_add(1, SeqCst);
                            continue;
                        }
                        Err(other) => panic!("{other:?}"),
                    };
                    lent.fetch_add(1, SeqCst);
                    // An error says that the worker was killed: nothing else is wrong here.
                    drop(held.echo(1).await);
                    if (task + round) % 16 == 0 {
                        tokio::select! {
                            biased;
                            _ = held.hold(&never) => {}
                            () = tokio::task::yield_now() => {}
                        }
                    }
                }
            })
        })
        .collect();
    let done = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (root, done) = (it.scope.root().child("db").unwrap(), Arc::clone(&done));
        async move {
            let mut turn = 0_usize;
            while !done.load(SeqCst) {
                let children = root.children();
                turn += 1;
                let victim = match turn % 7 {
                    0 => Some(&root),
                    _ => children.get(turn % children.len().max(1)),
                };
                if let Some(run) = victim.and_then(|node| node.current()) {
                    run.kill();
                    run.ended().await;
                }
                tokio::task::yield_now().await;
            }
            turn
        }
    });
    for task in tasks {
        task.await.unwrap();
    }
    done.store(true, SeqCst);
    let kills = killer.await.unwrap();
    assert!(kills > 10, "{kills}");
    let stats = it.pool.stats();
    assert_eq!(stats.checkouts, lent.load(SeqCst));
    assert_eq!(stats.refused, refused.load(SeqCst));
    assert_eq!(stats.checkouts + stats.refused, TASKS * ROUNDS);
    assert_eq!(stats.timeouts, 0);
    assert!(stats.peak_in_use <= 5);
    it.lends_all().await;
    it.stop().await;
}
