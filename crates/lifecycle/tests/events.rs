//! What a subscriber of a tree's events is told.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::{Stream, StreamExt};
use perennial_lifecycle::{ActorPath, Event, EventBus, EventKind, Events, Scope};

fn started(incarnation: u64) -> EventKind {
    EventKind::Started { incarnation }
}

fn emit(bus: &EventBus, count: u64) {
    let path = ActorPath::root("t");
    (0..count).for_each(|number| bus.emit(&path, started(number)));
}

/// What is there already: the number of each event, or how many were missed.
fn ready(events: &mut Events) -> Vec<Result<u64, u64>> {
    std::iter::from_fn(|| events.next_ready())
        .map(|item| item.map(|event| event.seq).map_err(|missed| missed.count))
        .collect()
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[test]
fn an_event_is_shown_with_whom_it_is_about() {
    let bus = EventBus::new(4);
    emit(&bus, 2);
    let shown: Vec<_> = bus.recent().iter().map(Event::to_string).collect();
    assert_eq!(shown, ["t: started #0", "t: started #1"]);
}

#[test]
fn event_1_a_slow_subscriber_is_told_how_many_it_missed_and_loses_nothing_else() {
    let bus = EventBus::new(4);
    let mut events = bus.subscribe();
    emit(&bus, 4);
    assert_eq!(ready(&mut events), [Ok(0), Ok(1), Ok(2), Ok(3)]);

    emit(&bus, 7);
    assert_eq!(
        events.next_ready().unwrap().unwrap_err().to_string(),
        "missed events: 3"
    );
    assert_eq!(ready(&mut events), [Ok(7), Ok(8), Ok(9), Ok(10)]);

    // It falls behind again between two events.
    emit(&bus, 2);
    assert_eq!(events.next_ready().unwrap().unwrap().seq, 11);
    emit(&bus, 6);
    assert_eq!(ready(&mut events), [Err(3), Ok(15), Ok(16), Ok(17), Ok(18)]);
    assert!(events.next_ready().is_none());
}

#[test]
fn event_2_subscribers_begin_now_or_with_the_remembered_events_or_after_a_known_one() {
    let bus = EventBus::new(3);
    emit(&bus, 5);
    let mut now = bus.subscribe();
    let mut recent = bus.subscribe_with_recent();
    let mut known = bus.subscribe_from(4);
    let mut forgotten = bus.subscribe_from(0);
    let mut future = bus.subscribe_from(6);
    emit(&bus, 1);
    assert_eq!(ready(&mut now), [Ok(5)]);
    // The sixth event has pushed one out that was remembered when it subscribed.
    assert_eq!(ready(&mut recent), [Err(1), Ok(3), Ok(4), Ok(5)]);
    assert_eq!(ready(&mut known), [Ok(4), Ok(5)]);
    assert_eq!(ready(&mut forgotten), [Err(3), Ok(3), Ok(4), Ok(5)]);
    assert_eq!(ready(&mut future), []);
    emit(&bus, 1);
    assert_eq!(ready(&mut future), [Ok(6)]);
    assert_eq!(seqs(&bus.recent()), [4, 5, 6]);
    assert_eq!(seqs(&bus.latest(2)), [5, 6]);
    assert_eq!(seqs(&bus.latest(0)), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn event_2_remembered_and_live_events_have_no_gap_and_no_double_under_concurrent_emits() {
    const EMITTERS: u64 = 3;
    const EACH: u64 = 2_000;
    const ALL: u64 = EMITTERS * EACH;
    let bus = EventBus::new(usize::try_from(ALL).unwrap());
    let begin = Arc::new(Barrier::new(usize::try_from(EMITTERS).unwrap() + 1));
    let emitters: Vec<_> = (0..EMITTERS)
        .map(|emitter| {
            let (bus, begin) = (bus.clone(), Arc::clone(&begin));
            std::thread::spawn(move || {
                let path = ActorPath::root("t").child(&emitter.to_string());
                begin.wait();
                (0..EACH).for_each(|number| bus.emit(&path, started(number)));
            })
        })
        .collect();
    begin.wait();
    let mut readers = Vec::new();
    // Each of them begins somewhere in the middle.
    for _ in 0..20 {
        let mut events = bus.subscribe_with_recent();
        readers.push(tokio::spawn(async move {
            let mut next = 0;
            let mut of_emitter = [0; 3];
            while next < ALL {
                let event = events.next().await.unwrap().unwrap();
                assert_eq!(event.seq, next);
                next += 1;
                // What one emitter says keeps its order.
                let emitter: usize = event.path.id().parse().unwrap();
                assert!(
                    matches!(event.kind, EventKind::Started { incarnation } if incarnation == of_emitter[emitter])
                );
                of_emitter[emitter] += 1;
            }
            assert!(events.next_ready().is_none());
        }));
        tokio::task::yield_now().await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
    emitters.into_iter().for_each(|it| it.join().unwrap());
    let recent = bus.recent();
    assert_eq!(seqs(&recent), (0..ALL).collect::<Vec<_>>());
    assert!(recent.is_sorted_by_key(|event| event.at));
}

#[test]
fn event_2_a_copy_of_the_remembered_events_has_no_gap_while_others_emit() {
    let bus = EventBus::new(200);
    let mut reader = bus.subscribe();
    let over = Arc::new(AtomicBool::new(false));
    let emitters: Vec<_> = (0..2)
        .map(|_| {
            let (bus, over) = (bus.clone(), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    emit(&bus, 10);
                }
            })
        })
        .collect();
    for _ in 0..4_000 {
        let full = bus.latest(1).first().is_some_and(|it| it.seq >= 200);
        let copy = bus.recent();
        assert!(copy.len() == 200 || (copy.len() < 200 && !full));
        assert!(copy.windows(2).all(|it| it[0].seq + 1 == it[1].seq));
    }
    over.store(true, Ordering::Relaxed);
    emitters.into_iter().for_each(|it| it.join().unwrap());
    // What was missed and what was read are everything, in order.
    let mut next = None;
    while let Some(item) = reader.next_ready() {
        let at = next.unwrap_or(0);
        next = Some(match item {
            Ok(event) => {
                assert_eq!(event.seq, at);
                at + 1
            }
            Err(missed) => at + missed.count,
        });
    }
    assert_eq!(next, bus.recent().last().map(|event| event.seq + 1));
}

#[tokio::test]
async fn event_3_a_stream_wakes_its_reader_and_ends_with_the_tree() {
    let scope = Scope::new("t");
    let path = scope.root().path().clone();
    let mut first = scope.events().subscribe();
    let mut second = scope.events().subscribe();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        // As a stream; the other by its own method.
        while let Some(event) = StreamExt::next(&mut first).await {
            seen.push(event.unwrap().seq);
        }
        assert!(first.next().await.is_none());
        seen
    });
    for seq in 0..3 {
        let (event, ()) = tokio::join!(second.next(), async {
            scope.events().emit(&path, started(1));
        });
        assert_eq!(event.unwrap().unwrap().seq, seq);
    }
    let clone = scope.clone();
    drop(scope);
    clone.events().emit(&path, started(1));
    assert_eq!(second.next().await.unwrap().unwrap().seq, 3);
    let mut late = clone.events().subscribe_from(3);
    // It waits when the tree goes.
    let (end, ()) = tokio::join!(second.next(), async { drop(clone) });
    assert!(end.is_none());
    // What was emitted before the end is still read.
    assert_eq!(late.next().await.unwrap().unwrap().seq, 3);
    assert!(late.next().await.is_none());
    assert_eq!(reader.await.unwrap(), [0, 1, 2, 3]);
}

#[test]
fn event_4_a_subscriber_of_a_place_hears_of_it_and_of_what_is_below() {
    let bus = EventBus::new(300);
    let root = ActorPath::root("t");
    let bill = root.child("bill");
    let paths = [
        root.clone(),
        bill.clone(),
        root.child("billing"),
        bill.child("w"),
        root.child("x"),
    ];
    let mut events = bus.subscribe().below(&bill);
    paths.iter().for_each(|path| bus.emit(path, started(1)));
    assert_eq!(ready(&mut events), [Ok(1), Ok(3)]);
    // A long way of others' events.
    (0..200).for_each(|_| bus.emit(&paths[4], started(1)));
    bus.emit(&bill, started(2));
    assert_eq!(ready(&mut events), [Ok(205)]);
    // Nobody knows any more of which places these were.
    (0..400).for_each(|_| bus.emit(&paths[4], started(1)));
    assert_eq!(ready(&mut events), [Err(100)]);
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_subscriber_that_is_dropped_or_moved_leaves_no_waker_behind() {
    let wakes = |count: &Arc<Count>| count.0.load(Ordering::SeqCst);
    let bus = EventBus::new(4);
    let [old, new] = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    let mut events = bus.subscribe();
    for count in [&old, &old, &new] {
        let waker = Waker::from(Arc::clone(count));
        let polled = Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Pending));
    }
    // Only the last task that polled is woken, once.
    assert_eq!(Arc::strong_count(&old), 1);
    emit(&bus, 2);
    assert_eq!((wakes(&old), wakes(&new)), (0, 1));
    assert_eq!(ready(&mut events), [Ok(0), Ok(1)]);

    let waker = Waker::from(Arc::clone(&new));
    let polled = Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    drop((events, waker));
    assert_eq!(Arc::strong_count(&new), 1);
    emit(&bus, 1);
    assert_eq!(wakes(&new), 1);
}

/// A waker whose end is the end of a subscriber, as that of a task that nobody else holds.
struct Holds {
    _events: Events,
}

impl Wake for Holds {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_holds_a_subscriber_locks_nothing_up() {
    let bus = EventBus::new(4);
    let mut events = bus.subscribe();
    for _ in 0..3 {
        let mut held = bus.subscribe();
        let polled = Pin::new(&mut held).poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        // Entered in place of the one before, which is dropped with its subscriber.
        let waker = Waker::from(Arc::new(Holds { _events: held }));
        let polled = Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Pending));
    }
    drop(events);
    emit(&bus, 1);
    assert_eq!(bus.recent().len(), 1);
}

/// An error whose destructor emits.
#[derive(Debug)]
struct LastWords(EventBus);

impl std::fmt::Display for LastWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("last words")
    }
}

impl std::error::Error for LastWords {}

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.emit(&ActorPath::root("t"), started(9));
    }
}

#[test]
fn an_event_whose_error_emits_when_it_is_forgotten_locks_nothing_up() {
    let bus = EventBus::new(1);
    let reason = perennial_lifecycle::ExitReason::failed(LastWords(bus.clone()));
    let incarnation = 1;
    bus.emit(
        &ActorPath::root("t"),
        EventKind::Exited {
            incarnation,
            reason,
        },
    );
    // Dropped a few at a time: with those behind it.
    emit(&bus, 32);
    assert_eq!(seqs(&bus.recent()), [33], "1, its last words, and 32");
}

#[tokio::test]
async fn a_reader_that_always_finds_events_lets_others_run() {
    let bus = EventBus::new(4096);
    emit(&bus, 4096);
    let mut events = bus.subscribe_with_recent();
    let others = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&others);
    tokio::spawn(async move {
        other.fetch_add(1, Ordering::SeqCst);
    });
    for _ in 0..4096 {
        events.next().await.unwrap().unwrap();
    }
    assert_eq!(others.load(Ordering::SeqCst), 1);
}
