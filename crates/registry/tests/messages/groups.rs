//! What becomes of messages to a group whose members have no room.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use perennial_lifecycle::Mailbox;
use perennial_registry::{CallError, Group, Name, Refusal, Route};
use tokio::time::Instant;

use crate::support::{CLERK, Desk, Door, Fixture, Job, SECOND, TELLER, Task, task};

const CLERKS: Name<Job> = Name::new("clerks");

/// A clerk and a teller, who are the members of a group.
struct Office {
    it: Fixture,
    group: Group<Job>,
    clerk: Arc<Desk>,
    teller: Arc<Desk>,
}

impl Office {
    async fn open(door: Door, mailbox: Mailbox) -> Self {
        let (clerk, teller) = (Arc::default(), Arc::default());
        let spec = |id, desk| {
            let spec = door.spec(id, desk).mailbox(mailbox.clone());
            spec.group(CLERKS.to_actor_name())
        };
        let specs = [spec("clerk", &clerk), spec("teller", &teller)];
        let it = Fixture::of(Arc::default(), specs).await;
        let group = it.registry.group(&CLERKS).unwrap();
        Self {
            it,
            group,
            clerk,
            teller,
        }
    }

    fn desk(&self, name: &Name<Job>) -> &Desk {
        match &*name.to_string() {
            "clerk" => &self.clerk,
            _ => &self.teller,
        }
    }

    /// Has a member wait in its handler, with `behind` messages behind that.
    async fn occupy(&self, name: &Name<Job>, behind: u32) {
        self.it.registry.cast(name.clone(), Job::Block).unwrap();
        self.desk(name).blocked.notified().await;
        for _ in 0..behind {
            self.it.registry.cast(name.clone(), Job::Write(0)).unwrap();
        }
    }

    async fn notes(&self, name: &Name<Job>) -> Vec<u32> {
        self.it.settled().await;
        self.desk(name).notes.lock().unwrap().clone()
    }

    fn refused_by(&self, id: &str) -> u64 {
        let node = self.it.supervisor.node().child(id).unwrap();
        node.figures().map_or(0, |it| it.refused)
    }

    fn refused(&self) -> u64 {
        self.it.scope.books().refused
    }

    /// Lets everybody go on, and ends the tree.
    async fn close(self) {
        self.clerk.go.notify_one();
        self.teller.go.notify_one();
        self.it.settled().await;
        self.it.finish().await;
    }
}

/// Returns a key of the clerk's: the teller has the others.
async fn key_of_clerk(it: &Office) -> Route {
    for key in 0..100 {
        let route = Route::key(&key);
        it.group.cast(route, Job::Write(key)).unwrap();
        if !it.notes(&CLERK).await.is_empty() {
            it.clerk.notes.lock().unwrap().clear();
            it.teller.notes.lock().unwrap().clear();
            return route;
        }
    }
    panic!("the clerk has no key");
}

#[tokio::test(start_paused = true)]
async fn reg_18_a_key_stays_with_its_member_while_that_is_full() {
    for door in Door::BOTH {
        let it = Office::open(door, Mailbox::bounded(2)).await;
        let route = key_of_clerk(&it).await;
        it.occupy(&CLERK, 0).await;
        it.group.cast(route, Job::Write(1)).unwrap();
        it.group.cast(route, Job::Write(2)).unwrap();
        let full = it.group.cast(route, Job::Write(3)).unwrap_err();
        assert!(matches!(full.refusal, Refusal::Full { .. }), "{full:?}");
        let (sent, ()) = tokio::join!(it.group.send(route, Job::Write(4), SECOND), async {
            assert_eq!(it.notes(&CLERK).await, []);
            it.clerk.go.notify_one();
        });
        sent.unwrap();
        assert_eq!(it.notes(&CLERK).await, [1, 2, 4]);
        assert_eq!(it.notes(&TELLER).await, []);
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn reg_18_a_key_that_waits_for_room_goes_on_when_its_member_ends() {
    for door in Door::BOTH {
        let it = Office::open(door, Mailbox::bounded(1)).await;
        let route = key_of_clerk(&it).await;
        it.occupy(&CLERK, 1).await;
        let (sent, ()) = tokio::join!(it.group.send(route, Job::Write(1), 60 * SECOND), async {
            assert_eq!(it.notes(&TELLER).await, []);
            it.it.supervisor.terminate_child("clerk").await.unwrap();
        });
        sent.unwrap();
        assert_eq!(it.notes(&TELLER).await, [1]);
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_16_a_call_that_goes_on_to_another_member_keeps_its_envelope() {
    let it = Office::open(Door::Mail, Mailbox::bounded(1)).await;
    it.occupy(&CLERK, 1).await;
    // It is the clerk's turn in one of them.
    for _ in 0..2 {
        let call = it.group.call(Route::RoundRobin, Job::Look, SECOND);
        let envelope = call.await.unwrap();
        assert!(envelope.is_call);
        assert!(envelope.time_left.is_some());
    }
    it.close().await;
}

#[tokio::test(start_paused = true)]
async fn msg_2_a_call_that_goes_on_to_another_member_is_not_handled_again() {
    let it = Office::open(Door::Mail, Mailbox::bounded(1)).await;
    it.occupy(&CLERK, 1).await;
    let handled = Arc::new(AtomicU32::new(0));
    for calls in 1..=2 {
        let inside = Arc::clone(&handled);
        let fail = task(move || {
            inside.fetch_add(1, SeqCst);
            async { Err("no ink".into()) }
        });
        let ask = |reply| Job::Ask(fail, reply);
        let failed = it.group.call(Route::RoundRobin, ask, 60 * SECOND).await;
        assert!(
            matches!(failed, Err(CallError::CalleeFailed { .. })),
            "{failed:?}"
        );
        assert_eq!(handled.load(SeqCst), calls);
    }
    it.close().await;
}

#[tokio::test(start_paused = true)]
async fn reg_19_a_broadcast_says_who_was_full() {
    for door in Door::BOTH {
        let it = Office::open(door, Mailbox::bounded(1)).await;
        it.occupy(&CLERK, 1).await;
        let sent = it.group.broadcast_with(|_| Job::Write(7)).unwrap();
        assert_eq!((sent.delivered, sent.full, sent.missed), (1, 1, 0));
        assert_eq!(it.notes(&TELLER).await, [7]);
        assert_eq!((it.refused_by("clerk"), it.refused()), (1, 1));
        it.close().await;
    }
    // Where the settings make room there is some.
    let it = Office::open(Door::Mail, Mailbox::bounded(1).drop_newest()).await;
    it.occupy(&CLERK, 1).await;
    let sent = it.group.broadcast_with(|_| Job::Write(7)).unwrap();
    assert_eq!((sent.delivered, sent.full), (2, 0));
    assert_eq!((it.it.dead().total(), it.refused()), (1, 0));
    it.close().await;
}

#[tokio::test(start_paused = true)]
async fn msg_7_a_group_drops_nothing_while_a_member_has_room() {
    let two = || Mailbox::bounded(2);
    for (door, mailbox) in [
        (Door::Plain, two().drop_newest()),
        (Door::Mail, two().drop_newest()),
        (Door::Mail, two().drop_oldest::<Job>()),
    ] {
        let it = Office::open(door, mailbox).await;
        it.occupy(&CLERK, 2).await;
        for route in [Route::RoundRobin, Route::LeastQueued] {
            for n in 1..=4 {
                it.group.cast(route, Job::Write(n)).unwrap();
                it.it.settled().await;
            }
        }
        assert_eq!(it.notes(&TELLER).await, [1, 2, 3, 4, 1, 2, 3, 4]);
        assert_eq!(it.it.dead().total(), 0);

        // Where none has, somebody does: as many as have no room.
        it.occupy(&TELLER, 2).await;
        for _ in 0..3 {
            it.group.cast(Route::RoundRobin, Job::Write(5)).unwrap();
        }
        assert_eq!((it.it.dead().total(), it.refused()), (3, 0));
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_22_what_a_group_refuses_is_in_the_books_once() {
    for door in Door::BOTH {
        let it = Office::open(door, Mailbox::bounded(1)).await;
        it.occupy(&CLERK, 1).await;
        it.occupy(&TELLER, 1).await;
        let mut refused = 0;
        for route in [Route::RoundRobin, Route::LeastQueued, Route::key(&1)] {
            it.group.cast(route, Job::Write(1)).unwrap_err();
            let sent = it.group.send(route, Job::Write(1), SECOND).await;
            sent.unwrap_err();
            let called = it.group.call(route, Job::Read, SECOND).await;
            called.unwrap_err();
            refused += 3;
            assert_eq!(it.refused(), refused);
            // None of them in the books of the tree alone.
            let by_members = it.refused_by("clerk") + it.refused_by("teller");
            assert_eq!(by_members, refused);
        }
        it.clerk.go.notify_one();
        it.teller.go.notify_one();
        for id in ["clerk", "teller"] {
            it.it.supervisor.terminate_child(id).await.unwrap();
        }
        it.group.cast(Route::RoundRobin, Job::Write(1)).unwrap_err();
        assert_eq!(it.refused(), refused + 1);
        it.close().await;
    }
}

type Outcomes = Arc<Mutex<Vec<Result<(), Refusal>>>>;

/// Calls the group by each of the routes, in a handler, and notes the outcomes.
fn calls(it: &Office, routes: &[Route], outcomes: &Outcomes) -> Task {
    let (group, routes, outcomes) = (it.group.clone(), routes.to_vec(), Arc::clone(outcomes));
    task(move || {
        let (group, routes, outcomes) = (group.clone(), routes.clone(), Arc::clone(&outcomes));
        async move {
            for route in routes {
                let outcome = group.call(route, Job::Read, SECOND).await.map(drop);
                let outcome = outcome.map_err(|error| error.refusal().unwrap().clone());
                outcomes.lock().unwrap().push(outcome);
            }
            Ok(())
        }
    })
}

fn all_deadlocks(outcomes: &Outcomes) -> bool {
    let outcomes = outcomes.lock().unwrap();
    let is_deadlock = |it: &Result<(), _>| matches!(it, Err(Refusal::WouldDeadlock { .. }));
    outcomes.iter().all(is_deadlock) && !outcomes.is_empty()
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_member_that_calls_its_group_is_answered_by_another() {
    for door in Door::BOTH {
        let it = Office::open(door, Mailbox::default()).await;
        let key = key_of_clerk(&it).await;
        let clerk = it.it.registry.resolve(&CLERK).unwrap();
        let outcomes = Outcomes::default();
        let both = [Route::RoundRobin, Route::LeastQueued].repeat(4);
        let work = calls(&it, &both, &outcomes);
        let ask = |reply| Job::Ask(work, reply);
        assert_eq!(clerk.call(ask, 60 * SECOND).await.unwrap(), 7);
        let answered = std::mem::take(&mut *outcomes.lock().unwrap());
        assert_eq!(answered.len(), 8);
        assert!(answered.iter().all(Result::is_ok), "{answered:?}");
        // Its own key is nobody else's.
        let work = calls(&it, &[key], &outcomes);
        let ask = |reply| Job::Ask(work, reply);
        assert_eq!(clerk.call(ask, 60 * SECOND).await.unwrap(), 7);
        assert!(all_deadlocks(&outcomes), "{outcomes:?}");
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_call_to_a_group_whose_members_all_wait_for_the_caller_is_refused() {
    for door in Door::BOTH {
        let it = Office::open(door, Mailbox::default()).await;
        let outcomes = Outcomes::default();
        let both = [Route::RoundRobin, Route::LeastQueued].repeat(2);
        // The teller calls the clerk, who calls the group.
        let work = Mutex::new(Some(calls(&it, &both, &outcomes)));
        let registry = it.it.registry.clone();
        let through = task(move || {
            let (registry, work) = (registry.clone(), work.lock().unwrap().take().unwrap());
            async move {
                let ask = |reply| Job::Ask(work, reply);
                assert_eq!(registry.call(CLERK, ask, 60 * SECOND).await.unwrap(), 7);
                Ok(())
            }
        });
        let ask = |reply| Job::Ask(through, reply);
        let begin = Instant::now();
        let teller = it.it.registry.resolve(&TELLER).unwrap();
        assert_eq!(teller.call(ask, 60 * SECOND).await.unwrap(), 7);
        assert!(all_deadlocks(&outcomes), "{outcomes:?}");
        assert_eq!((begin, it.refused()), (Instant::now(), 4));
        it.close().await;
    }
}

/// Those who share the turns.
const SHARED: [Route; 2] = [Route::RoundRobin, Route::LeastQueued];

#[tokio::test(start_paused = true)]
async fn msg_5_who_sends_to_a_group_waits_for_room_at_any_member() {
    for (door, route) in Door::BOTH
        .into_iter()
        .flat_map(|it| SHARED.map(|to| (it, to)))
    {
        // Whose turn it is does not matter, nor who has room.
        for (name, turns) in [(CLERK, 0), (TELLER, 0), (CLERK, 1), (TELLER, 1)] {
            let it = Office::open(door, Mailbox::bounded(1)).await;
            for _ in 0..turns {
                it.group.call(route, Job::Read, SECOND).await.unwrap();
            }
            it.occupy(&CLERK, 1).await;
            it.occupy(&TELLER, 1).await;
            let begin = Instant::now();
            let sends = (1..=3).map(|n| it.group.send(route, Job::Write(n), SECOND));
            let sends = futures_util::future::join_all(sends);
            let call = it.group.call(route, Job::Read, SECOND);
            let (sent, called, ()) = tokio::join!(sends, call, async {
                it.it.settled().await;
                it.desk(&name).go.notify_one();
            });
            assert!(sent.iter().all(Result::is_ok), "{sent:?}");
            assert!(called.is_ok(), "{called:?}");
            assert!(begin.elapsed() < SECOND / 10);
            let mut notes = it.notes(&name).await;
            notes.sort_unstable();
            assert_eq!(notes, [0, 1, 2, 3]);
            it.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_who_waits_for_room_in_a_group_finds_a_member_that_joins() {
    for (door, route) in Door::BOTH
        .into_iter()
        .flat_map(|it| SHARED.map(|to| (it, to)))
    {
        let it = Office::open(door, Mailbox::bounded(1)).await;
        it.it.supervisor.terminate_child("teller").await.unwrap();
        it.occupy(&CLERK, 1).await;
        let (sent, ()) = tokio::join!(it.group.send(route, Job::Write(1), SECOND), async {
            it.it.settled().await;
            it.it.supervisor.restart_child("teller").await.unwrap();
        });
        sent.unwrap();
        assert_eq!(it.notes(&TELLER).await, [1]);
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_who_gives_up_to_wait_for_a_group_leaves_no_trace() {
    for (door, route) in Door::BOTH
        .into_iter()
        .flat_map(|it| SHARED.map(|to| (it, to)))
    {
        let it = Office::open(door, Mailbox::bounded(1)).await;
        it.occupy(&CLERK, 1).await;
        it.occupy(&TELLER, 1).await;
        let group = it.group.clone();
        // The first is told of room at both, and given up before it is polled: the others have their turn.
        let mut first = Box::pin(group.send(route, Job::Write(1), SECOND));
        let mut second = pin!(group.send(route, Job::Write(2), SECOND));
        let mut third = pin!(group.send(route, Job::Write(3), SECOND));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        it.clerk.go.notify_one();
        it.teller.go.notify_one();
        it.it.settled().await;
        drop(first);
        let begin = Instant::now();
        second.await.unwrap();
        third.await.unwrap();
        assert_eq!(begin, Instant::now());
        let mut notes = it.notes(&CLERK).await;
        notes.extend(it.notes(&TELLER).await);
        notes.sort_unstable();
        assert_eq!(notes, [0, 0, 2, 3]);
        // Nobody waits any more: there is room for whoever does not.
        it.group.cast(route, Job::Write(4)).unwrap();
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_one_that_waits_for_room_in_its_own_group_waits_for_the_others() {
    for (door, route) in Door::BOTH
        .into_iter()
        .flat_map(|it| SHARED.map(|to| (it, to)))
    {
        let it = Office::open(door, Mailbox::bounded(1)).await;
        let outcomes = Outcomes::default();
        // Both are full when the clerk calls.
        let work = calls(&it, &[route], &outcomes);
        it.occupy(&TELLER, 1).await;
        it.it.registry.cast(CLERK, Job::Do(work)).unwrap();
        it.it.registry.cast(CLERK, Job::Write(1)).unwrap_err();
        it.it.settled().await;
        it.it.registry.cast(CLERK, Job::Write(1)).unwrap();
        assert!(outcomes.lock().unwrap().is_empty());
        it.teller.go.notify_one();
        it.it.settled().await;
        let seen = std::mem::take(&mut *outcomes.lock().unwrap());
        assert!(matches!(seen[..], [Ok(())]), "{seen:?}");
        it.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn reg_16_a_place_of_another_tree_does_not_join() {
    let (home, away) = (
        Fixture::start(Mailbox::default()).await,
        Fixture::start(Mailbox::default()).await,
    );
    let group = home.registry.group(&CLERKS).unwrap();
    let refused = group.join(&away.node()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "t/scribe cannot join the group `clerks`, which is one of another tree"
    );
    // Nor does a run that begins only then.
    away.supervisor.terminate_child("scribe").await.unwrap();
    group.join(&away.node()).unwrap();
    away.supervisor.restart_child("scribe").await.unwrap();
    assert!(group.is_empty());
    home.finish().await;
    away.finish().await;
}

#[tokio::test(start_paused = true)]
async fn reg_16_a_place_joins_at_run_time_by_either_door() {
    for door in Door::BOTH {
        let desk = Arc::default();
        let it = Fixture::of(Arc::default(), [door.spec("clerk", &desk)]).await;
        let node = it.supervisor.node().child("clerk").unwrap();
        // One that takes something else leaves the group as it was.
        let others: Group<u8> = it.registry.group(&Name::new("others")).unwrap();
        others.join(&node).unwrap_err();
        it.registry.group(&Name::<Job>::new("others")).unwrap();

        let group = it.registry.group(&CLERKS).unwrap();
        group.join(&node).unwrap();
        group.cast(Route::RoundRobin, Job::Write(1)).unwrap();
        it.settled().await;
        assert_eq!(*desk.notes.lock().unwrap(), [1], "{door:?}");
        // Also where its spec says the same.
        let spec = door.spec("teller", &Arc::default());
        let spec = spec.group(CLERKS.to_actor_name());
        it.supervisor.start_child(spec).await.unwrap();
        group.join(&node).unwrap();
        assert_eq!(group.len(), 2);
        it.finish().await;
    }
}
