//! What waits for a name or a group is dropped at every poll, and nothing is lost or left behind.

use std::cell::RefCell;

use perennial_registry::{NameEvent, Route};
use tokio::sync::Mutex;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_send_or_call_that_is_dropped_while_it_waits_was_not_sent() {
    let it = Fixture::start([named("a"), member("m")]).await;
    let address = it.registry.resolve(&CLERK).unwrap();
    let group = it.registry.group(&CLERKS).unwrap();
    let stop = async || {
        it.stop("a").await;
        it.stop("m").await;
    };
    // It comes back behind the second poll.
    let restart = async |number: usize| {
        if number == 1 {
            it.restart("a").await;
            it.restart("m").await;
        }
    };
    // Whoever it was sent to has it, and nobody else.
    let sent = async |done: bool| {
        for id in ["a", "m"] {
            if it.supervisor.node().child(id).unwrap().current().is_none() {
                it.restart(id).await;
            }
        }
        let_others_run().await;
        let of_name = address.call(Msg::Who, SECOND).await.unwrap().1;
        let of_group = group.call(Route::LeastQueued, Msg::Who, SECOND).await;
        assert_eq!(of_name + of_group.unwrap().1, u64::from(done));
    };
    let by_name =
        || -> Job<'_> { Box::pin(async { address.send(Msg::Work, 60 * SECOND).await.unwrap() }) };
    let by_group = || -> Job<'_> {
        Box::pin(async {
            let sent = group.send(Route::RoundRobin, Msg::Work, 60 * SECOND).await;
            sent.unwrap();
        })
    };
    assert!(drop_at_every_poll(by_name, stop, restart, sent).await > 2);
    assert!(drop_at_every_poll(by_group, stop, restart, sent).await > 2);

    // Calls: dropped at any point, the next one is answered.
    let answers = async |_: bool| sent(false).await;
    let by_name = || -> Job<'_> {
        Box::pin(async {
            let called = it.registry.call(CLERK, Msg::Who, 60 * SECOND).await;
            called.unwrap();
        })
    };
    let by_group = || -> Job<'_> {
        Box::pin(async {
            let called = group.call(Route::key(&1), Msg::Who, 60 * SECOND).await;
            called.unwrap();
        })
    };
    assert!(drop_at_every_poll(by_name, stop, restart, answers).await > 2);
    assert!(drop_at_every_poll(by_group, stop, restart, answers).await > 2);
}

#[tokio::test(start_paused = true)]
async fn to_wait_for_a_name_and_give_up_leaves_nothing_behind() {
    let it = Fixture::start([]).await;
    let wait = || -> Job<'_> {
        Box::pin(async {
            let up = it.registry.wait_for(&CLERK).await.unwrap();
            assert_eq!(up.path.as_str(), "t/a");
        })
    };
    let start = async |number: usize| {
        if number == 1 {
            it.supervisor.start_child(named("a")).await.unwrap();
        }
    };
    let tidy = async |_: bool| {
        if it.supervisor.node().child("a").is_some() {
            it.stop("a").await;
            it.supervisor.delete_child("a").await.unwrap();
        }
        // Neither the name that nobody has had nor the one that is gone.
        assert_eq!(it.registry.sweep(), 1);
    };
    // A name is in the table only once somebody has polled.
    let prepare = async || drop(it.registry.watch(&CLERK).unwrap());
    assert!(drop_at_every_poll(wait, prepare, start, tidy).await > 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_wait_is_dropped_at_every_poll_misses_nothing() {
    let it = Fixture::start([named("a")]).await;
    let watch = Mutex::new(it.registry.watch(&CLERK).unwrap());
    let heard = RefCell::new(Vec::new());
    let crashes = RefCell::new(0_u64);
    let job = || -> Job<'_> {
        Box::pin(async {
            // Two events, so that one that was taken may be followed by a drop.
            for _ in 0..2 {
                let event = watch.lock().await.next().await;
                heard.borrow_mut().push(event.unwrap().unwrap());
            }
        })
    };
    let crash = async |_: usize| {
        it.crash("a").await;
        *crashes.borrow_mut() += 1;
    };
    let nothing = async || {};
    for _ in 0..10 {
        drop_at_every_poll(job, nothing, crash, async |_| {}).await;
    }
    let crashed = *crashes.borrow();
    let mut watch = watch.lock().await;
    while let Ok(event) = tokio::time::timeout(SECOND, watch.next()).await {
        heard.borrow_mut().push(event.unwrap().unwrap());
    }
    let heard = heard.borrow();
    assert_eq!(heard.len() as u64, 2 * crashed + 1);
    for (index, event) in (0_u64..).zip(&*heard) {
        assert_eq!(event.epoch(), index / 2 + 1);
        let is_up = matches!(event, NameEvent::Up(_));
        assert_eq!(is_up, index % 2 == 0, "{event}");
    }
}
