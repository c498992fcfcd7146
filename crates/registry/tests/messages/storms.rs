//! Many senders, many crashes, on many threads: each message has one fate, and the books say which.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{DeadReason, ExitReason, Mailbox};
use perennial_registry::{CallError, CastError, Refusal};

use crate::support::{Door, Fixture, Job, SCRIBE, SECOND};

const SENDERS: u32 = 4;
const EACH: u32 = 100;

fn job(n: u32) -> Job {
    match n % 20 {
        7 => Job::Fail(n),
        13 => Job::Once(n),
        _ => Job::Write(n),
    }
}

async fn storm(door: Door, mailbox: Mailbox) -> Fixture {
    let it = Fixture::behind(door, mailbox).await;
    let scribe = Arc::new(it.registry.resolve(&SCRIBE).unwrap());
    let senders = (0..SENDERS).map(|sender| {
        let scribe = Arc::clone(&scribe);
        tokio::spawn(async move {
            for n in sender * EACH..(sender + 1) * EACH {
                match n % 10 {
                    3 => {
                        // Given up at once, mostly while it waits.
                        let call = scribe.call(Job::Read, Duration::from_micros(u64::from(n)));
                        drop(call.await);
                    }
                    5 => match scribe.call(Job::Read, 60 * SECOND).await {
                        Ok(_) => {}
                        Err(error) => assert!(is_to_be_expected(&error), "{error:?}"),
                    },
                    _ => match scribe.send(job(n), 60 * SECOND).await {
                        Ok(())
                        | Err(CastError {
                            refusal: Refusal::Full { .. },
                            ..
                        }) => {}
                        Err(error) => panic!("{error:?}"),
                    },
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    it
}

/// What is before a call made its run fail, or there was no room for it, at once or later.
fn is_to_be_expected(error: &CallError<Job>) -> bool {
    matches!(
        error,
        CallError::CalleeFailed { .. }
            | CallError::Dropped { .. }
            | CallError::Refused(CastError {
                refusal: Refusal::Full { .. },
                ..
            })
    )
}

/// Returns what was noted by the time that nothing waits.
async fn rest(it: &Fixture) -> Vec<u32> {
    loop {
        match it.registry.call(SCRIBE, Job::Read, 60 * SECOND).await {
            Ok(notes) => return notes,
            Err(error) => assert!(is_to_be_expected(&error), "{error:?}"),
        }
    }
}

/// Returns what was noted, and how many were stuck in the port of a run that had ended: they wait, or came out of it
/// when nobody was there any more.
async fn weather(door: Door, mailbox: Mailbox) -> (Vec<u32>, u64) {
    let it = storm(door, mailbox).await;
    rest(&it).await;
    // The answer is there a moment before its handler is through; the end is behind it.
    let supervisor = it.supervisor.clone();
    supervisor.stop(ExitReason::Shutdown).await;
    let dead = it.dead_list().into_iter();
    let stopped = dead.filter(|it| it.reason == DeadReason::Stopped && it.is_kept);
    let stuck = stopped.count() as u64 + it.scope.books().waiting;
    let notes = it.desk.notes.lock().unwrap().clone();
    it.finish().await;
    (notes, stuck)
}

#[tokio::test(start_paused = true)]
async fn msg_22_the_books_balance_after_a_storm() {
    for door in Door::BOTH {
        weather(door, Mailbox::bounded(4)).await;
        weather(door, Mailbox::bounded(4).drop_newest()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msg_22_the_books_balance_after_a_storm_on_many_threads() {
    for door in Door::BOTH {
        weather(door, Mailbox::bounded(4)).await;
        weather(door, Mailbox::bounded(4).drop_newest()).await;
    }
    weather(Door::Mail, Mailbox::bounded(4).drop_oldest::<Job>()).await;
    let key = |job: &Job| match job {
        Job::Write(n) => n % 8,
        Job::Fail(n) | Job::Once(n) => 100 + n,
        _ => 8,
    };
    weather(Door::Mail, Mailbox::bounded(400).coalesce(key)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msg_1_no_message_is_lost_on_many_threads() {
    let mailbox = Mailbox::bounded(16).poison_after(2);
    let (mut notes, stuck) = weather(Door::Mail, mailbox).await;
    notes.sort_unstable();
    notes.dedup();
    let sent = (0..SENDERS * EACH).filter(|n| !matches!(n % 10, 3 | 5));
    let missing = sent.filter(|n| notes.binary_search(n).is_err()).count();
    // A message that is on its way into the port of a run while that ends may be stuck there, as long as somebody
    // holds the run. It is not lost.
    assert_eq!(missing as u64, stuck);
}
