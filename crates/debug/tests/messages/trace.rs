//! The next messages of an actor.

use perennial_debug::TraceEntry;
use perennial_lifecycle::{Mail, Terms};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance};

use crate::support::{Job, SECOND, Shop};

fn told(entry: &TraceEntry) -> String {
    entry.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_trace_tells_of_the_next_messages_and_ends_after_the_last() {
    let shop = Shop::open().await;
    let trace = shop.debugger.trace("shop/scribe", 5, 60 * SECOND);
    let mut trace = trace.await.unwrap();
    let (begun, _wait) = oneshot::channel();
    shop.send("shop/scribe", Job::Slow(1, begun, 2 * SECOND));
    let expired = Terms {
        deadline: shop.scope.traffic().clock().now().after(SECOND),
        caller: None,
    };
    let scribe = shop.run("shop/scribe");
    scribe.offer_on(Job::Write(2), || expired).unwrap();
    shop.send("shop/scribe", Job::Fail);
    let mut entries = Vec::new();
    while let Some(entry) = trace.next().await {
        entries.push(told(&entry));
    }
    let mail = std::any::type_name::<Mail<Job>>();
    assert_eq!(
        entries,
        [
            format!("#1 {mail}, waited 0µs, handled after 2.0s"),
            format!("#1 {mail}, waited 2.0s, expired after 0µs"),
            format!("#1 {mail}, waited 2.0s, failed after 0µs: failed: as told"),
            // The trace goes on with the next runs.
            format!("#2 {mail}, waited 2.0s, failed after 0µs: failed: as told"),
            format!("#3 {mail}, waited 2.0s, failed after 0µs: failed: as told"),
        ]
    );
    assert!(trace.next().await.is_none());
    shop.send("shop/scribe", Job::Write(3));
    assert_eq!(shop.scribe.notes(2).await, [1, 3]);
    assert_eq!(shop.log(), ["trace 5 within 60s of shop/scribe".to_owned()]);
    shop.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_trace_ends_when_its_time_is_up() {
    let shop = Shop::open().await;
    let start = Instant::now();
    let trace = shop.debugger.trace("shop/clerk", 100, 10 * SECOND);
    let trace = trace.await.unwrap();
    shop.send("shop/clerk", Job::Write(1));
    let entries = trace.all().await;
    assert_eq!(start.elapsed(), 10 * SECOND);
    assert_eq!(entries.len(), 1);
    // A plain message does not say when it was sent.
    assert_eq!(entries[0].waited_us, None);
    assert!(entries[0].message_type.ends_with("Job"));
    // It is gone with its time.
    shop.send("shop/clerk", Job::Write(2));
    assert_eq!(shop.clerk.notes(2).await, [1, 2]);
    let none = shop.debugger.trace("shop/clerk", 0, 10 * SECOND).await;
    assert!(none.unwrap().all().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_trace_tells_of_a_message_that_was_cut_off() {
    let shop = Shop::open().await;
    let trace = shop.debugger.trace("shop/clerk", 1, 60 * SECOND);
    let trace = trace.await.unwrap();
    shop.occupy("shop/clerk", 60 * SECOND).await;
    advance(3 * SECOND).await;
    shop.debugger.kill("shop/clerk").await.unwrap();
    let entries = trace.all().await;
    assert_eq!(
        (entries[0].outcome, entries[0].took_us),
        ("cut off", 3_000_000)
    );
}

#[tokio::test(start_paused = true)]
async fn several_operators_trace_one_actor() {
    let shop = Shop::open().await;
    let one = shop.debugger.trace("shop/clerk", 2, 60 * SECOND).await;
    let other = shop.debugger.trace("shop/clerk", 3, 60 * SECOND).await;
    let dropped = shop.debugger.trace("shop/clerk", 3, 60 * SECOND).await;
    drop(dropped.unwrap());
    for number in 0..4 {
        shop.send("shop/clerk", Job::Write(number));
    }
    assert_eq!(one.unwrap().all().await.len(), 2);
    assert_eq!(other.unwrap().all().await.len(), 3);
}
