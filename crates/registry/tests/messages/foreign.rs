//! What the host's own code does where the framework drops a message, or wakes somebody.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use perennial_lifecycle::{AtRestart, Incarnation, Mailbox};
use tokio::time::timeout;

use super::support::*;

/// Counts its drops, which panic.
struct Grenade(Arc<AtomicUsize>);

impl Drop for Grenade {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        panic!("thrown");
    }
}

#[derive(Default)]
struct Grenades(Arc<AtomicUsize>);

impl Grenades {
    fn job(&self) -> Job {
        let grenade = Grenade(Arc::clone(&self.0));
        Job::Do(task(move || {
            let _ = &grenade;
            async { Ok(()) }
        }))
    }

    fn thrown(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A scribe that is busy, with so many messages waiting whose drop panics; no dead letter is kept.
async fn busy(door: Door, mailbox: Mailbox, waiting: usize) -> (Fixture, Grenades) {
    let it = Fixture::behind(door, mailbox).await;
    it.dead().set_capacity(0);
    let grenades = Grenades::default();
    it.block().await;
    for _ in 0..waiting {
        it.cast(grenades.job());
    }
    (it, grenades)
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(60 * SECOND, work).await.expect("it hangs")
}

/// Waits for the run that follows.
async fn next_after(it: &Fixture, run: &Incarnation) -> Arc<Incarnation> {
    in_time(async {
        run.ended().await;
        loop {
            let current = it.node().running().await;
            if current.number() > run.number() {
                return current;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn msg_30_a_message_whose_drop_panics_after_it_was_handled_harms_nobody() {
    let it = Fixture::start(Mailbox::default()).await;
    let grenades = Grenades::default();
    it.cast(grenades.job());
    it.write([1]);
    assert_eq!(in_time(it.notes()).await, [1]);
    assert_eq!((grenades.thrown(), it.run().number()), (1, 1));
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_30_messages_whose_drop_panics_hold_up_no_end() {
    let mailbox = Mailbox::default().at_restart(AtRestart::Return);
    let (it, grenades) = busy(Door::Mail, mailbox, 3).await;
    let run = it.run();
    run.kill();
    next_after(&it, &run).await;
    assert_eq!((grenades.thrown(), it.figures().returned), (3, 4));
    it.write([1]);
    assert_eq!(in_time(it.notes()).await, [1]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_30_messages_whose_drop_panics_harm_no_supervisor() {
    let (it, grenades) = busy(Door::Mail, Mailbox::default(), 3).await;
    in_time(it.supervisor.terminate_child("scribe"))
        .await
        .unwrap();
    in_time(it.supervisor.delete_child("scribe")).await.unwrap();
    assert_eq!(grenades.thrown(), 3);
    assert_eq!(it.supervisor.which_children().await.unwrap().len(), 2);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_30_dead_letters_whose_drop_panics_go_with_their_tree() {
    let (it, grenades) = busy(Door::Mail, Mailbox::default(), 2).await;
    it.dead().set_capacity(10);
    in_time(it.supervisor.terminate_child("scribe"))
        .await
        .unwrap();
    in_time(it.supervisor.delete_child("scribe")).await.unwrap();
    let dead = Arc::downgrade(it.scope.traffic());
    assert_eq!((it.dead_list().len(), grenades.thrown()), (3, 0));
    it.finish().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!((dead.strong_count(), grenades.thrown()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn msg_30_a_message_whose_drop_panics_harms_no_sender_of_another() {
    for (door, mailbox) in [
        (Door::Mail, Mailbox::bounded(1).drop_oldest::<Job>()),
        (Door::Mail, Mailbox::bounded(1).coalesce(|_: &Job| ())),
        (Door::Plain, Mailbox::bounded(1).drop_newest()),
        (Door::Mail, Mailbox::bounded(1).drop_newest()),
    ] {
        let (it, grenades) = busy(door, mailbox, 0).await;
        it.cast(grenades.job());
        it.cast(grenades.job());
        assert_eq!(grenades.thrown(), 1);
        it.desk.go.notify_one();
        it.settled().await;
        it.assert_balanced();
    }
}

#[tokio::test(start_paused = true)]
async fn msg_30_a_call_whose_drop_panics_fails_as_its_callee_did() {
    let it = Fixture::start(Mailbox::default()).await;
    let grenades = Grenades::default();
    let grenade = Grenade(Arc::clone(&grenades.0));
    let run = it.run();
    let failed = it
        .ask(task(move || {
            let _ = &grenade;
            async { Err("as told".into()) }
        }))
        .await;
    assert_eq!(
        failed.unwrap_err().to_string(),
        "`scribe` ended before it answered: failed: as told"
    );
    next_after(&it, &run).await;
    assert_eq!(grenades.thrown(), 1);
    it.finish().await;
}

/// Panics where it is woken.
#[derive(Default)]
struct Bomb(AtomicUsize);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
        panic!("woken");
    }
}

#[tokio::test(start_paused = true)]
async fn msg_30_who_panics_where_it_is_woken_holds_up_no_end_and_no_restart() {
    for which in 0..9 {
        let it = Fixture::start(Mailbox::bounded(1)).await;
        let (node, run) = (it.node(), it.run());
        let mut events = it.scope.events().subscribe();
        let mut dead = it.dead().subscribe();
        let mut watch = it.registry.watch(&SCRIBE).unwrap();
        drop(watch.next().await);
        let mut next = it.registry.watch(&SCRIBE).unwrap();
        let monitor = node.monitor();
        it.block().await;
        it.cast(Job::Fail(1));
        let registry = it.registry.clone();
        let send = registry.send(SCRIBE, Job::Write(2), 600 * SECOND);
        let mut wait: Pin<Box<dyn Future<Output = ()>>> = match which {
            0 => Box::pin(node.changed()),
            1 => Box::pin(async { drop(run.ended().await) }),
            2 => Box::pin(async { drop(events.next().await) }),
            3 => Box::pin(async { drop(dead.next().await) }),
            4 => Box::pin(async { drop(watch.next().await) }),
            5 => Box::pin(node.retired()),
            6 => Box::pin(async { drop(monitor.await) }),
            7 => Box::pin(async { drop(send.await) }),
            _ => Box::pin(async { while next.next().await.is_some() {} }),
        };
        let bomb = Arc::new(Bomb::default());
        let waker = Waker::from(Arc::clone(&bomb));
        let mut context = Context::from_waker(&waker);
        assert!(wait.as_mut().poll(&mut context).is_pending());
        it.go();
        next_after(&it, &run).await;
        assert_eq!(run.exit_reason().unwrap().to_string(), "failed: as told");
        it.settled().await;
        assert!(bomb.0.load(SeqCst) > 0, "{which}");
        drop(wait);
        assert_eq!(in_time(it.notes()).await, [1, 1, 1]);
        it.finish().await;
    }
}
