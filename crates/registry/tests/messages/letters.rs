//! Dead letters, and the books.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use perennial_lifecycle::{
    AtRestart, DeadReason, EventKind, Events, Mail, Mailbox, ReplayError, Watchdog,
};
use perennial_registry::{Name, Route};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::support::{CLERK, Desk, Door, Fixture, Job, SCRIBE, SECOND, task};

#[tokio::test(start_paused = true)]
async fn msg_23_a_dead_letter_says_what_is_known_of_it() {
    let it = Fixture::start(Mailbox::default().poison_after(2)).await;
    let mut news = it.dead().subscribe();
    it.block().await;
    let registry = it.registry.clone();
    let tell = task(move || {
        registry.cast(SCRIBE, Job::Fail(1)).unwrap();
        async { Ok(()) }
    });
    it.registry.cast(CLERK, Job::Do(tell)).unwrap();
    sleep(3 * SECOND).await;
    it.go();
    assert_eq!(it.notes().await, [1, 1]);
    let letter = news.next().await.unwrap().unwrap();
    let node = it.node();
    assert_eq!((letter.id, &letter.target), (0, node.path()));
    assert!(letter.message_type.ends_with("Job"));
    assert_eq!(letter.reason, DeadReason::Poison);
    let clerk = it.supervisor.node().child("clerk").unwrap();
    assert_eq!(letter.sender.as_ref(), Some(clerk.path()));
    assert_eq!(letter.age, Some(3 * SECOND));
    assert_eq!(
        (letter.crashes, letter.messages, letter.is_kept),
        (2, 1, true)
    );
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_23_the_last_dead_letters_are_kept_and_all_are_counted() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(1).drop_newest()).await;
        it.dead().set_capacity(3);
        let mut news = it.dead().subscribe();
        it.block().await;
        it.write(0..11);
        assert_eq!(it.dead().total(), 10);
        let ids: Vec<_> = it.dead_list().iter().map(|it| it.id).collect();
        assert_eq!(ids, [7, 8, 9]);
        for id in 0..10 {
            assert_eq!(news.next().await.unwrap().unwrap().id, id);
        }
        // A replay that fails keeps the place, and the bound.
        assert_eq!(it.dead().replay(0), Err(ReplayError::Unknown));
        it.go();
        it.settled().await;
        assert_eq!(it.notes().await, [0]);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_23_a_subscriber_that_does_not_keep_up_learns_how_many_it_missed() {
    let it = Fixture::start(Mailbox::bounded(1).drop_newest()).await;
    let mut news = it.dead().subscribe();
    it.block().await;
    it.write(0..2_000);
    let missed = news.next().await.unwrap().unwrap_err().count;
    let mut seen = 0;
    while seen + missed < 1_999 {
        news.next().await.unwrap().unwrap();
        seen += 1;
    }
    assert!(missed > 0 && seen > 0);
    it.go();
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_23_what_a_mailbox_replaces_is_one_letter_that_counts() {
    let any = |_: &Job| ();
    let it = Fixture::start(Mailbox::bounded(3).coalesce(any)).await;
    it.dead().set_capacity(2);
    let mut news = it.dead().subscribe();
    it.block().await;
    it.write([0, 1]);
    let first = news.next().await.unwrap().unwrap();
    assert_eq!((first.reason, first.messages), (DeadReason::Replaced, 1));
    sleep(3 * SECOND).await;
    let registry = it.registry.clone();
    let tell = task(move || {
        registry.cast(SCRIBE, Job::Write(2)).unwrap();
        async { Ok(()) }
    });
    it.registry.cast(CLERK, Job::Do(tell)).unwrap();
    it.settled().await;
    it.write([3]);
    let letters = it.dead_list();
    let [letter] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!((letter.id, letter.messages, letter.is_kept), (0, 3, false));
    assert_eq!(&letter.target, it.node().path());
    assert_eq!(letter.sender.as_ref().unwrap().id(), "clerk");
    assert!(letter.age.unwrap() < SECOND);
    assert_eq!(it.dead().replay(0), Err(ReplayError::NotKept));
    assert_eq!((it.figures().dead, it.dead().total()), (3, 3));
    // One that is forgotten counts no more: the next is another.
    it.dead().set_capacity(0);
    it.dead().set_capacity(2);
    it.write([4, 5]);
    let letters: Vec<_> = it.dead_list().iter().map(|it| it.messages).collect();
    assert_eq!((letters, it.dead().total()), (vec![2], 5));
    it.go();
    it.settled().await;
    assert_eq!(it.notes().await, [5]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_24_a_dead_letter_is_replayed_or_taken() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(1).drop_newest()).await;
        it.block().await;
        it.write(0..4);
        it.go();
        it.settled().await;
        assert_eq!(it.notes().await, [0]);
        it.dead().replay(1).unwrap();
        it.settled().await;
        assert_eq!(it.notes().await, [0, 2]);
        assert_eq!(it.dead().replay(1), Err(ReplayError::Unknown));
        assert!(matches!(it.dead().take::<Job>(0), Ok(Job::Write(1))));
        assert!(matches!(
            it.dead().take::<Job>(0),
            Err(ReplayError::Unknown)
        ));
        // To an actor that is down, and to a place that is gone.
        it.supervisor.terminate_child("scribe").await.unwrap();
        assert_eq!(it.dead().replay(2), Err(ReplayError::NotRunning));
        it.supervisor.restart_child("scribe").await.unwrap();
        it.dead().replay(2).unwrap();
        it.settled().await;
        assert_eq!(it.notes().await, [0, 2, 3]);
        assert_eq!(it.dead_list().len(), 0);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_24_a_dead_letter_is_not_replayed_where_something_would_be_dropped_for_it() {
    let two = || Mailbox::bounded(2);
    for (door, mailbox, kept) in [
        (Door::Plain, two().drop_newest(), [0, 1]),
        (Door::Mail, two().drop_newest(), [0, 1]),
        (Door::Mail, two().drop_oldest::<Job>(), [1, 2]),
    ] {
        let it = Fixture::behind(door, mailbox).await;
        it.block().await;
        it.write(0..3);
        assert_eq!(it.dead().replay(0), Err(ReplayError::Full));
        assert_eq!((it.dead_list().len(), it.dead().total()), (1, 1));
        it.go();
        it.settled().await;
        it.dead().replay(0).unwrap();
        let replayed = 3 - kept[0] - kept[1];
        assert_eq!(it.notes().await, [kept[0], kept[1], replayed]);
        assert!(it.dead_list().is_empty());
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_24_a_call_is_known_and_not_kept() {
    let it = Fixture::start(Mailbox::bounded(1).drop_oldest::<Job>()).await;
    it.block().await;
    let (call, ()) = tokio::join!(it.registry.call(SCRIBE, Job::Read, SECOND), async {
        it.write([1]);
    });
    assert!(call.is_err());
    assert_eq!(it.dead().replay(0), Err(ReplayError::NotKept));
    assert!(matches!(
        it.dead().take::<Job>(0),
        Err(ReplayError::NotKept)
    ));
    assert!(!it.dead_list()[0].is_kept);
    it.go();
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_22_the_figures_of_a_place_say_what_became_of_each_message() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(8)).await;
        assert!(it.node().figures().is_none());
        it.block().await;
        it.write(0..2);
        it.write([2]);
        sleep(2 * SECOND).await;
        let figures = it.figures();
        assert_eq!((figures.depth, figures.in_hand, figures.handled), (3, 1, 0));
        assert!(figures.is_balanced());
        // The first that waits has nobody before it, so the second is looked at.
        assert_eq!(figures.oldest_at_least, Some(2 * SECOND));
        it.go();
        it.notes().await;
        let figures = it.figures();
        assert_eq!((figures.depth, figures.in_hand, figures.handled), (0, 0, 5));
        assert_eq!(figures.oldest_at_least, None);
        // The first is timed, and then one in sixteen.
        assert_eq!(figures.times.count(), 1);
        assert!(figures.times.quantile(1.0).unwrap() >= 2 * SECOND);
        assert!(figures.times.quantile(1.0).unwrap() <= 3 * SECOND + Duration::from_millis(100));
        it.cast(Job::Once(9));
        it.settled().await;
        it.notes().await;
        let figures = it.figures();
        assert_eq!((figures.failed, figures.handled), (1, 6));
        assert!(figures.is_balanced());
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_are_timed_less_often_once_much_is_known_of_them() {
    let it = Fixture::behind(Door::Plain, Mailbox::default()).await;
    it.write(1..2_048);
    it.notes().await;
    // One in sixteen of the first half, and one in sixty-four of the second.
    assert_eq!(it.figures().times.count(), 64 + 16);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_22_the_age_of_the_oldest_is_never_that_of_one_that_is_gone() {
    let it = Fixture::behind(Door::Plain, Mailbox::default()).await;
    it.block().await;
    it.write(0..9);
    it.run().kill();
    it.settled().await;
    sleep(9 * SECOND).await;
    it.block().await;
    it.write(0..2);
    sleep(SECOND).await;
    assert_eq!(it.figures().oldest_at_least, Some(SECOND));
    it.go();
    it.notes().await;
    it.finish().await;

    // What waits in the framework has its time written on it.
    let it = Fixture::start(Mailbox::bounded(2).drop_oldest::<Job>()).await;
    it.block().await;
    for n in 0..9 {
        it.write([n]);
        sleep(SECOND).await;
    }
    assert_eq!(it.figures().oldest_at_least, Some(2 * SECOND));
    it.go();
    it.notes().await;
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_22_one_that_waits_alone_is_looked_at_from_when_somebody_asks() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::default()).await;
        it.block().await;
        let oldest = || it.figures().oldest_at_least;
        assert_eq!(oldest(), None);
        it.write([1]);
        sleep(SECOND).await;
        assert_eq!(oldest(), Some(Duration::ZERO));
        sleep(SECOND).await;
        it.write([2]);
        assert_eq!(oldest(), Some(SECOND));
        it.go();
        assert_eq!(it.notes().await, [1, 2]);
        assert_eq!(oldest(), None);
        // Not from when those before it were looked at.
        it.block().await;
        it.write([3]);
        assert_eq!(oldest(), Some(Duration::ZERO));
        it.go();
        assert_eq!(it.notes().await, [1, 2, 3]);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_22_what_was_skipped_is_not_counted_as_handled() {
    let it = Fixture::start(Mailbox::default()).await;
    for _ in 0..3 {
        it.block().await;
        assert!(it.registry.call(SCRIBE, Job::Look, SECOND).await.is_err());
        it.go();
        it.notes().await;
        it.assert_balanced();
    }
    let figures = it.figures();
    assert_eq!((figures.expired, figures.handled), (3, 6));
    assert_eq!(it.run().handled(), 6);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_22_an_envelope_that_is_sent_as_a_message_is_counted_as_one() {
    const ENVELOPES: Name<Mail<Job>> = Name::new("scribe");
    let it = Fixture::start(Mailbox::default()).await;
    it.write([0]);
    for n in 1..4 {
        it.registry
            .cast(ENVELOPES, Mail::from(Job::Write(n)))
            .unwrap();
    }
    assert_eq!(it.figures().depth, 4);
    assert_eq!(it.notes().await, [0, 1, 2, 3]);
    let figures = it.figures();
    assert_eq!((figures.depth, figures.uncounted), (0, 0));
    it.finish().await;
}

/// Waits until the tree tells of such an event.
async fn heard(events: &mut Events, wanted: impl Fn(&EventKind) -> bool) {
    loop {
        let event = events.next().await.unwrap().unwrap();
        if wanted(&event.kind) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn msg_22_a_run_that_was_left_behind_stays_in_the_books() {
    let desk = Arc::new(Desk::default());
    let watchdog = Watchdog::replace(Duration::from_millis(20)).grace(Duration::from_millis(1));
    let spec = Door::Mail.spec("scribe", &desk).watchdog(watchdog);
    let it = Fixture::of(desk, [spec]).await;
    let mut events = it.scope.events().subscribe();
    let (release, held) = mpsc::channel();
    let held = Mutex::new(held);
    // Does not yield until it is told to.
    it.cast(Job::Do(task(move || {
        held.lock().unwrap().recv().unwrap();
        async { Ok(()) }
    })));
    heard(&mut events, |it| matches!(it, EventKind::Restarted { .. })).await;
    assert_eq!(it.run().number(), 2);
    it.write([1]);
    assert_eq!(it.notes().await, [1]);
    assert_eq!(it.figures().failed, 0);

    release.send(()).unwrap();
    heard(&mut events, |it| matches!(it, EventKind::Reclaimed { .. })).await;
    // The one who lives here now is not concerned.
    it.write([2]);
    assert_eq!(it.notes().await, [1, 2]);
    let stopped = it.supervisor.terminate_child("scribe").await;
    stopped.unwrap();
    let figures = it.figures();
    assert_eq!((figures.in_hand, figures.failed), (0, 1));
    it.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn msg_22_what_a_run_that_was_left_behind_has_put_down_is_not_its_successors() {
    let desk = Arc::new(Desk::default());
    let watchdog = Watchdog::replace(Duration::from_millis(20)).grace(Duration::from_millis(1));
    let spec = Door::Mail.spec("scribe", &desk).watchdog(watchdog);
    let it = Fixture::of(desk, [spec]).await;
    let mut events = it.scope.events().subscribe();
    let (release, held) = mpsc::channel();
    it.cast(Job::Stick(Arc::new(Mutex::new(held))));
    heard(&mut events, |it| matches!(it, EventKind::Restarted { .. })).await;
    // Takes its message out and fails with it: nothing is to come back.
    it.cast(Job::Once(1));
    heard(&mut events, |it| matches!(it, EventKind::Restarted { .. })).await;
    it.write([2]);
    assert_eq!(it.notes().await, [1, 2]);

    release.send(()).unwrap();
    heard(&mut events, |it| matches!(it, EventKind::Reclaimed { .. })).await;
    let stopped = it.supervisor.terminate_child("scribe").await;
    stopped.unwrap();
    let figures = it.figures();
    assert_eq!((figures.failed, figures.in_hand), (2, 0));
    assert!(figures.is_balanced(), "{figures:?}");
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_22_what_comes_to_nobody_is_refused_in_the_books_of_the_tree() {
    const NOBODY: Name<Job> = Name::new("nobody");
    let it = Fixture::start(Mailbox::default()).await;
    it.registry.cast(NOBODY, Job::Write(1)).unwrap_err();
    let called = it.registry.call(NOBODY, Job::Read, SECOND).await;
    called.unwrap_err();
    assert_eq!(it.scope.books().refused, 2);
    // A group that nobody has joined.
    let group = it.registry.group(&NOBODY).unwrap();
    group.cast(Route::LeastQueued, Job::Write(1)).unwrap_err();
    assert_eq!(it.scope.books().refused, 3);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_22_what_a_place_refuses_that_has_left_the_tree_is_in_the_books() {
    for door in Door::BOTH {
        let spec = door.spec("clerk", &Arc::default()).temporary();
        let it = Fixture::of(Arc::default(), [spec]).await;
        let clerk = it.registry.resolve(&CLERK).unwrap();
        clerk.incarnation().unwrap().kill();
        it.settled().await;
        clerk.cast(Job::Write(1)).unwrap_err();
        assert_eq!(it.scope.books().refused, 1);
        it.finish().await;
    }
}

/// Starts a scribe whose first run does not yield, with as much in its mailbox as that holds, and waits until the second
/// run is up; whoever releases the first waits until it has ended.
async fn with_stuck_messages(mailbox: Mailbox) -> (Fixture, impl AsyncFnOnce()) {
    let desk = Arc::new(Desk::default());
    // Long enough for all to be sent.
    let watchdog = Watchdog::replace(Duration::from_millis(300)).grace(Duration::from_millis(1));
    let spec = Door::Mail.spec("scribe", &desk).mailbox(mailbox);
    let it = Fixture::of(desk, [spec.watchdog(watchdog)]).await;
    let mut events = it.scope.events().subscribe();
    let (release, held) = mpsc::channel();
    let (held, began) = (Mutex::new(held), Arc::new(Notify::new()));
    let begins = Arc::clone(&began);
    it.cast(Job::Do(task(move || {
        begins.notify_one();
        held.lock().unwrap().recv().unwrap();
        async { Ok(()) }
    })));
    began.notified().await;
    it.write(0..2);
    it.cast(Job::Hold(2));
    heard(&mut events, |it| matches!(it, EventKind::Restarted { .. })).await;
    let release = async move || {
        release.send(()).unwrap();
        heard(&mut events, |it| matches!(it, EventKind::Reclaimed { .. })).await;
    };
    (it, release)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn msg_1_what_is_stuck_behind_a_run_that_was_left_behind_takes_up_no_room() {
    let (it, release) = with_stuck_messages(Mailbox::bounded(3)).await;
    assert_eq!(it.figures().depth, 3);
    it.write([3]);
    assert_eq!(it.notes().await, [3]);
    release().await;
    it.desk.blocked.notified().await;
    it.go();
    assert_eq!(it.notes().await, [3, 0, 1, 2]);
    // There is room for no more than there was.
    it.block().await;
    it.write(4..7);
    assert!(it.registry.cast(SCRIBE, Job::Write(7)).is_err());
    it.go();
    assert_eq!(it.notes().await, [3, 0, 1, 2, 4, 5, 6]);
    let stopped = it.supervisor.terminate_child("scribe").await;
    stopped.unwrap();
    it.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn msg_12_what_is_stuck_behind_a_run_that_was_left_behind_is_returned_as_well() {
    let mailbox = Mailbox::bounded(3).at_restart(AtRestart::Return);
    let (it, release) = with_stuck_messages(mailbox).await;
    let mut dead = it.dead().subscribe();
    release().await;
    for _ in 0..3 {
        let letter = dead.next().await.unwrap().unwrap();
        assert_eq!(letter.reason, DeadReason::Returned);
    }
    assert_eq!(it.notes().await, []);
    let stopped = it.supervisor.terminate_child("scribe").await;
    stopped.unwrap();
    it.finish().await;
}
