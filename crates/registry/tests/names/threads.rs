//! Names and groups on several threads, while their actors come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use perennial_registry::{CallError, NameEvent, Refusal, Route};
use tokio::sync::watch;

use crate::support::*;

const ROUNDS: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reg_14_many_watchers_hear_of_every_run_once_while_the_actor_comes_and_goes() {
    let it = Fixture::start([named("a")]).await;
    let watchers: Vec<_> = (0..4)
        .map(|_| {
            let registry = it.registry.clone();
            tokio::spawn(async move {
                // Beginning at any time.
                let mut watch = registry.watch(&CLERK).unwrap();
                let mut last = 0;
                let mut up = false;
                let mut runs = 0;
                while last < ROUNDS {
                    match within("an event", watch.next()).await.unwrap() {
                        Ok(event @ NameEvent::Up(_)) => {
                            assert!(!up);
                            assert!(last == 0 || event.epoch() == last + 1);
                            (up, last) = (true, event.epoch());
                        }
                        Ok(down) => {
                            assert!(up && down.epoch() == last);
                            (up, runs) = (false, runs + 1);
                        }
                        Err(missed) => {
                            assert!(!up && last > 0);
                            last += missed.runs;
                        }
                    }
                }
                runs
            })
        })
        .collect();
    while it
        .registry
        .resolve(&CLERK)
        .unwrap()
        .present()
        .unwrap()
        .epoch
        < ROUNDS
    {
        it.crash("a").await;
    }
    for watcher in watchers {
        assert!(within("a watcher", watcher).await.unwrap() < ROUNDS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reg_16_a_group_takes_every_message_while_its_members_restart() {
    let ids = ["a", "b", "c", "d"];
    let it = Arc::new(Fixture::start(ids.map(member)).await);
    let group = it.registry.group(&CLERKS).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let answered = watch::Sender::new(0_u64);
    let senders: Vec<_> = (0..4_u64)
        .map(|sender| {
            let (group, over) = (group.clone(), Arc::clone(&over));
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut number = 0_u64;
                while !over.load(SeqCst) {
                    number += 1;
                    let route = match number % 3 {
                        0 => Route::RoundRobin,
                        1 => Route::LeastQueued,
                        _ => Route::key(&(sender, number)),
                    };
                    let called = group.call(route, Msg::Who, 30 * SECOND).await;
                    match called {
                        Ok(_) => answered.send_modify(|count| *count += 1),
                        // It ended with the message in hand or in its mailbox.
                        Err(CallError::CalleeFailed { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    let count = group.broadcast_with(|_| Msg::Work).unwrap();
                    assert!(count.delivered + count.full + count.missed <= 4);
                }
            })
        })
        .collect();
    for round in 0..ROUNDS {
        let id = ids[usize::try_from(round).unwrap() % ids.len()];
        it.crash(id).await;
        // What is up is a member, and nothing else is.
        assert_eq!(group.len(), 4);
        let before = *answered.borrow();
        if round % 20 == 0 {
            let mut news = answered.subscribe();
            let more = news.wait_for(|count| *count > before);
            within("answers", more).await.unwrap();
        }
    }
    over.store(true, SeqCst);
    for sender in senders {
        within("a sender", sender).await.unwrap();
    }
    let members = group.members();
    let mut paths: Vec<_> = members.iter().map(|it| it.path().id()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reg_2_of_many_that_start_at_once_one_has_the_name() {
    let below = |id: String| generous().build().unwrap().into_child(id);
    let it = Fixture::start((0..4).map(|id| below(id.to_string()))).await;
    let handles: Vec<_> = (0..4)
        .map(|id: u32| it.supervisor.node().child(&id.to_string()).unwrap())
        .map(|node| perennial_supervisor::Supervisor::at(&node).unwrap())
        .collect();
    for _ in 0..ROUNDS / 2 {
        let starts = handles.iter().map(|it| it.start_child(named("x")));
        let started = futures_util::future::join_all(starts).await;
        let won: Vec<_> = (0..4).filter(|at| started[*at].is_ok()).collect();
        assert!(won.len() <= 1, "{started:?}");
        let holder = it.registry.resolve(&CLERK).map(|it| it.present());
        for at in won {
            let path = holder.as_ref().unwrap().as_ref().unwrap().path.clone();
            assert_eq!(path.as_str(), format!("t/{at}/x"));
            handles[at].terminate_child("x").await.unwrap();
            handles[at].delete_child("x").await.unwrap();
        }
        for error in started.into_iter().filter_map(Result::err) {
            assert!(error.to_string().contains("is held by t/"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reg_10_who_does_not_wait_is_refused_or_delivered_to_and_nothing_else() {
    let it = Fixture::start([named("a")]).await;
    let address = it.registry.resolve(&CLERK).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (address, over) = (address.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    if let Err(error) = address.cast(Msg::Work) {
                        assert!(matches!(error.message, Msg::Work));
                        // Three that send without a pause may be faster than one that handles.
                        let refusal = &error.refusal;
                        let expected =
                            matches!(refusal, Refusal::NotRunning { .. } | Refusal::Full { .. });
                        assert!(expected, "{error}");
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..ROUNDS {
        it.crash("a").await;
    }
    over.store(true, SeqCst);
    for sender in senders {
        within("a sender", sender).await.unwrap();
    }
}
