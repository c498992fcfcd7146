//! What a tree does before it stops.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use perennial::debug::CommandError;
use perennial::{
    Backoff, CallError, ChildKind, ChildSpec, ChildState, EventKind, Events, Mail, Name,
    Quarantine, Refusal, RestartIntensity, Route, Shutdown, Started, Supervisor, Tree, TreeBuilder,
    Watchdog,
};
use perennial_testkit::{Journal, assert_books_balance};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::support::{nothing_runs, patient, shut_down, within};

/// What the actors of these tests do.
enum Job {
    /// Note it.
    Note(u32),
    /// Say that it has begun, wait for the gate, then note it.
    Wait(u32),
    /// Wait for the gate, then have the other actor answer, and note the answer.
    Ask(Tree),
    Answer(RpcReplyPort<u32>),
    /// Wait for the gate, then send to each member of the group in each way, and note the answers.
    Spread(Tree),
    /// Never end.
    Hang,
    /// Say that it has begun, and do not yield until somebody says so.
    Block(Mutex<mpsc::Receiver<()>>),
    Fail,
}

const ONE: Name<Job> = Name::new("one");
const TWO: Name<Job> = Name::new("two");
const CLERKS: Name<Job> = Name::new("clerks");
const EMPTY: Name<Job> = Name::new("empty");
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// What the actors and the test share.
#[derive(Clone)]
struct Desk {
    begun: Journal<u32>,
    done: Journal<u32>,
    gate: watch::Sender<bool>,
}

impl Desk {
    fn new() -> Self {
        Self {
            begun: Journal::new(),
            done: Journal::new(),
            gate: watch::Sender::new(false),
        }
    }

    fn open(&self) {
        self.gate.send_replace(true);
    }

    async fn wait(&self) {
        self.begun.push(0);
        self.gate.subscribe().wait_for(|it| *it).await.unwrap();
    }

    fn plain(&self, id: &str) -> ChildSpec {
        let desk = self.clone();
        ChildSpec::worker(id, move || (Plain, desk.clone()))
    }

    fn mail(&self, id: &str) -> ChildSpec {
        let desk = self.clone();
        ChildSpec::worker(id, move || (Enveloped, desk.clone()))
    }

    async fn handle(&self, job: Job) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Note(number) => self.done.push(number),
            Job::Wait(number) => {
                self.wait().await;
                self.done.push(number);
            }
            Job::Ask(tree) => {
                self.wait().await;
                let second = Duration::from_secs(1);
                let answer = tree.call(TWO, Job::Answer, second).await;
                self.done.push(answer.map_err(|error| error.to_string())?);
            }
            Job::Spread(tree) => {
                self.wait().await;
                let clerks = tree.group(&CLERKS)?;
                clerks.cast(Route::RoundRobin, Job::Note(1))?;
                clerks.send(Route::RoundRobin, Job::Note(2), SECOND).await?;
                let answer = clerks.call(Route::LeastQueued, Job::Answer, SECOND).await;
                self.done.push(answer?);
                clerks.broadcast_with(|_| Job::Note(3))?;
            }
            Job::Answer(reply) => reply.send(42)?,
            Job::Block(release) => {
                self.begun.push(0);
                release.into_inner().unwrap().recv()?;
            }
            Job::Fail => return Err("as told".into()),
            Job::Hang => {
                self.begun.push(0);
                std::future::pending().await
            }
        }
        Ok(())
    }
}

struct Plain;

impl Actor for Plain {
    type Msg = Job;
    type State = Desk;
    type Arguments = Desk;

    async fn pre_start(&self, _: ActorRef<Job>, desk: Desk) -> Result<Desk, ActorProcessingErr> {
        Ok(desk)
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        job: Job,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        desk.handle(job).await
    }
}

struct Enveloped;

impl Actor for Enveloped {
    type Msg = Mail<Job>;
    type State = Desk;
    type Arguments = Desk;

    async fn pre_start(
        &self,
        _: ActorRef<Mail<Job>>,
        desk: Desk,
    ) -> Result<Desk, ActorProcessingErr> {
        Ok(desk)
    }

    async fn handle(
        &self,
        _: ActorRef<Mail<Job>>,
        job: Mail<Job>,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        desk.handle(job.into_inner()).await
    }
}

fn builder() -> TreeBuilder {
    Tree::builder("t").settings(patient())
}

/// Begins a shutdown, and returns once the tree takes nothing from outside any more.
async fn begin(tree: &Tree) -> tokio::task::JoinHandle<perennial::ShutdownReport> {
    let stopping = tokio::spawn({
        let tree = tree.clone();
        async move { tree.shutdown().await }
    });
    let traffic = tree.scope().traffic().clone();
    within("the refusal", traffic.refusal()).await;
    stopping
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_tree_handles_what_waits_before_it_stops() {
    let desk = Desk::new();
    let tree = builder()
        .child(desk.plain("one"))
        .child(desk.mail("two"))
        .start()
        .await
        .unwrap();
    for name in [ONE, TWO] {
        tree.cast(name.clone(), Job::Wait(1)).unwrap();
        tree.cast(name, Job::Note(2)).unwrap();
    }
    desk.begun.wait_for(2).await;
    let stopping = begin(&tree).await;
    desk.open();
    let report = within("the end", stopping).await.unwrap();
    assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
    assert_eq!(desk.done.entries().len(), 4);
    assert!(report.to_string().starts_with("stopped in order in "));
    nothing_runs(tree.scope());
    assert_books_balance!(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn dbg_13_a_shutdown_ends_all_pauses_and_what_they_held_back_is_handled() {
    let desk = Desk::new();
    let tree = builder()
        .child(desk.plain("one"))
        .child(desk.mail("two"))
        .start()
        .await
        .unwrap();
    for (name, path) in [(ONE, "t/host/one"), (TWO, "t/host/two")] {
        tree.debug().pause(path).await.unwrap();
        tree.cast(name.clone(), Job::Note(1)).unwrap();
        tree.cast(name, Job::Note(2)).unwrap();
    }
    // Until each holds one back.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(desk.done.entries().is_empty());
    let began = Instant::now();
    let report = shut_down(&tree).await;
    assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(desk.done.entries().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn dbg_13_nobody_is_paused_during_a_shutdown() {
    let desk = Desk::new();
    let tree = builder()
        .child(desk.plain("one"))
        .child(desk.mail("two"))
        .start()
        .await
        .unwrap();
    tree.cast(ONE, Job::Ask(tree.clone())).unwrap();
    desk.begun.wait_for(1).await;
    let stopping = begin(&tree).await;
    let refused = tree.debug().pause("t/host/two").await.unwrap_err();
    assert!(
        matches!(refused, CommandError::ShuttingDown { .. }),
        "{refused}"
    );
    let two = tree.host().node().child("two").unwrap();
    assert_eq!(two.current().unwrap().paused(), None);
    desk.open();
    let report = within("the end", stopping).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(desk.done.entries(), [42]);
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_handler_may_call_another_actor_while_outsiders_are_refused() {
    let desk = Desk::new();
    let tree = builder()
        .child(desk.plain("one"))
        .child(desk.mail("two"))
        .start()
        .await
        .unwrap();
    tree.cast(ONE, Job::Ask(tree.clone())).unwrap();
    desk.begun.wait_for(1).await;
    let stopping = begin(&tree).await;
    for name in [ONE, TWO] {
        let back = tree.cast(name.clone(), Job::Note(9)).unwrap_err();
        assert!(matches!(back.refusal, Refusal::ShuttingDown { .. }));
        assert!(!back.refusal.is_retryable());
        assert!(matches!(back.message, Job::Note(9)));
        let second = Duration::from_secs(1);
        let refused = tree.call(name, Job::Answer, second).await.unwrap_err();
        assert!(matches!(refused, CallError::Refused(_)), "{refused}");
    }
    desk.open();
    let report = within("the end", stopping).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(desk.done.entries(), [42]);
    // And afterwards, too.
    let back = tree.cast(ONE, Job::Note(9)).unwrap_err();
    assert!(matches!(back.refusal, Refusal::ShuttingDown { .. }));
    assert_books_balance!(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn tree_6_what_waits_outside_is_refused_when_the_shutdown_begins() {
    let desk = Desk::new();
    let mailbox = perennial::Mailbox::bounded(1);
    let tree = builder()
        .child(desk.plain("one").mailbox(mailbox))
        .child(desk.plain("two").transient())
        .start()
        .await
        .unwrap();
    tree.cast(ONE, Job::Wait(1)).unwrap();
    desk.begun.wait_for(1).await;
    tree.cast(ONE, Job::Note(2)).unwrap();
    tree.host().terminate_child("two").await.unwrap();
    let waiting: Vec<_> = [ONE, TWO]
        .into_iter()
        .map(|name| {
            let address = tree.resolve(&name).unwrap();
            tokio::spawn(async move { address.send(Job::Note(3), Duration::MAX).await })
        })
        .collect();
    // They wait: nothing else can go on.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let stopping = begin(&tree).await;
    for sender in waiting {
        let back = within("the refusal", sender).await.unwrap().unwrap_err();
        assert!(matches!(back.message, Job::Note(3)));
    }
    desk.open();
    let report = within("the end", stopping).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(desk.done.entries(), [1, 2]);
    assert_books_balance!(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_drain_ends_at_its_deadline_and_the_report_says_what_was_cut_off() {
    let desk = Desk::new();
    let soon = Shutdown::Within(Duration::from_secs(1));
    let tree = builder()
        .drain_deadline(Duration::from_secs(3))
        .child(desk.plain("one").shutdown(soon))
        .start()
        .await
        .unwrap();
    tree.cast(ONE, Job::Hang).unwrap();
    desk.begun.wait_for(1).await;
    tree.cast(ONE, Job::Note(1)).unwrap();
    tree.cast(ONE, Job::Note(2)).unwrap();
    let began = Instant::now();
    let report = shut_down(&tree).await;
    assert!(began.elapsed() >= Duration::from_secs(4));
    assert!(report.ran_out_of_time && !report.is_clean());
    let [cut_off] = &report.cut_off[..] else {
        panic!("{report}");
    };
    assert_eq!(cut_off.path.as_str(), "t/host/one");
    assert_eq!((cut_off.waiting, cut_off.killed), (2, true));
    assert!(cut_off.in_hand.unwrap().ends_with("Job") && !cut_off.left_behind);
    assert!(
        report.to_string().contains("2 messages waiting"),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_child_beyond_its_own_limit_is_not_waited_for() {
    for (limit, least) in [(0, 0), (2, 2)] {
        let desk = Desk::new();
        let spec = desk.mail("two").drain_within(Duration::from_secs(limit));
        let tree = builder().child(spec).start().await.unwrap();
        tree.cast(TWO, Job::Wait(1)).unwrap();
        desk.begun.wait_for(1).await;
        tree.cast(TWO, Job::Note(2)).unwrap();
        let stopping = begin(&tree).await;
        let began = Instant::now();
        // It is asked to stop then, and finishes what it has in hand.
        let opener = tokio::spawn({
            let desk = desk.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(limit + 1)).await;
                desk.open();
            }
        });
        let report = within("the end", stopping).await.unwrap();
        opener.await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(least));
        assert!(!report.ran_out_of_time, "{report}");
        assert_eq!(report.cut_off.len(), 1, "{report}");
        let cut_off = &report.cut_off[0];
        assert_eq!((cut_off.waiting, cut_off.in_hand), (1, None), "{report}");
        assert_eq!(desk.done.entries(), [1]);
        assert_books_balance!(tree.scope());
    }
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_child_whose_restart_is_put_off_is_waited_for_where_messages_wait_for_it() {
    const DELAY: Duration = Duration::from_secs(8);
    // Where it comes after the deadline, waiting would be in vain.
    for (deadline, expected, drained_for) in [
        (2 * DELAY, &[1][..], DELAY),
        (DELAY / 2, &[], Duration::ZERO),
    ] {
        let desk = Desk::new();
        let spec = desk.mail("two").backoff(Backoff::constant(DELAY));
        let tree = builder().child(spec).drain_deadline(deadline);
        let tree = tree.start().await.unwrap();
        let mut events = tree.scope().events().subscribe();
        tree.cast(TWO, Job::Fail).unwrap();
        tree.cast(TWO, Job::Note(1)).unwrap();
        let put_off = async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if matches!(event.kind, EventKind::RestartDelayed { .. }) {
                    return;
                }
            }
        };
        within("the crash", put_off).await;
        let report = shut_down(&tree).await;
        assert_eq!(desk.done.entries(), expected);
        assert_eq!(report.is_clean(), !expected.is_empty(), "{report}");
        assert!(!report.ran_out_of_time, "{report}");
        let drained_for = drained_for..drained_for + SECOND;
        assert!(drained_for.contains(&report.drained_for), "{report:?}");
        let waiting: u64 = report.cut_off.iter().map(|it| it.waiting).sum();
        assert_eq!(waiting, 1 - expected.len() as u64, "{report}");
        assert_books_balance!(tree.scope());
    }
}

#[tokio::test(start_paused = true)]
async fn tree_6_what_waits_for_a_restart_after_the_deadline_is_reported_at_once() {
    let desk = Desk::new();
    let hour = Backoff::constant(HOUR);
    // In quarantine; and in order itself, below a supervisor that is put off.
    let parked = desk
        .mail("one")
        .budget(RestartIntensity::new(0, SECOND))
        .quarantine(Quarantine::new(hour));
    let shelf = Supervisor::builder().child(desk.mail("two").name(TWO.to_actor_name()));
    let shelf = shelf.build().unwrap().into_child("shelf").backoff(hour);
    let tree = builder().child(parked).child(shelf);
    let tree = tree.start().await.unwrap();
    let node = |id: &str| tree.host().node().child(id).unwrap();
    tree.cast(ONE, Job::Fail).unwrap();
    tree.cast(ONE, Job::Note(1)).unwrap();
    tree.cast(TWO, Job::Wait(1)).unwrap();
    desk.begun.wait_for(1).await;
    tree.cast(TWO, Job::Note(2)).unwrap();
    node("shelf").current().unwrap().kill();
    // It is asked to stop by the time that it goes on.
    tokio::time::sleep(SECOND).await;
    desk.open();
    tokio::time::sleep(SECOND).await;
    let states = ["one", "shelf"].map(|id| node(id).state());
    assert_eq!(states, [ChildState::Quarantined, ChildState::Restarting]);
    assert!(node("shelf").child("two").unwrap().current().is_none());
    let report = shut_down(&tree).await;
    assert!(report.took < SECOND && !report.ran_out_of_time, "{report}");
    let cut_off: Vec<_> = report.cut_off.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(cut_off, ["t/host/one", "t/host/shelf/two"], "{report}");
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_crash_in_the_drain_whose_restart_comes_too_late_is_not_waited_for() {
    let desk = Desk::new();
    let spec = desk.mail("two").backoff(Backoff::constant(HOUR));
    let tree = builder().child(spec).start().await.unwrap();
    tree.cast(TWO, Job::Wait(1)).unwrap();
    desk.begun.wait_for(1).await;
    tree.cast(TWO, Job::Fail).unwrap();
    tree.cast(TWO, Job::Note(2)).unwrap();
    let stopping = begin(&tree).await;
    // After the second look.
    tokio::time::sleep(Duration::from_millis(100)).await;
    desk.open();
    let report = within("the end", stopping).await.unwrap();
    assert!(report.took < SECOND && !report.ran_out_of_time, "{report}");
    assert_eq!(report.cut_off.len(), 1, "{report}");
    assert_eq!(desk.done.entries(), [1]);
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_second_shutdown_may_cut_the_drain_short_and_a_dropped_one_goes_on() {
    let desk = Desk::new();
    let brief = Shutdown::Within(Duration::from_millis(10));
    let tree = builder()
        .drain_deadline(Duration::from_secs(3_600))
        .child(desk.plain("one").shutdown(brief))
        .start()
        .await
        .unwrap();
    tree.cast(ONE, Job::Hang).unwrap();
    desk.begun.wait_for(1).await;
    let first = begin(&tree).await;
    first.abort();
    let began = Instant::now();
    let report = tree.shutdown_within(Duration::ZERO).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(report.ran_out_of_time && !report.is_clean(), "{report}");
    assert!(tree.ended().await.is_none());
    nothing_runs(tree.scope());
}

#[tokio::test]
async fn tree_6_an_idle_tree_does_not_wait_for_its_deadline() {
    let desk = Desk::new();
    let tree = builder()
        .drain_deadline(Duration::from_secs(3_600))
        .child(desk.plain("one"))
        .start()
        .await
        .unwrap();
    let report = shut_down(&tree).await;
    assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
}

/// Waits for an event of this kind.
async fn hear(events: &mut Events, wanted: fn(&EventKind) -> bool) {
    let heard = async { while !wanted(&events.next().await.unwrap().unwrap().kind) {} };
    within("the event", heard).await;
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_group_is_refused_to_outsiders_and_reached_by_handlers() {
    for door in [Desk::plain, Desk::mail] {
        let desk = Desk::new();
        let clerk = |id| door(&desk, id).group(CLERKS.to_actor_name());
        let tree = builder()
            .child(desk.plain("one"))
            .child(clerk("left"))
            .child(clerk("right"))
            .start()
            .await
            .unwrap();
        let clerks = tree.group(&CLERKS).unwrap();
        tree.cast(ONE, Job::Spread(tree.clone())).unwrap();
        desk.begun.wait_for(1).await;
        let stopping = begin(&tree).await;

        let is_final = |it: &Refusal| matches!(it, Refusal::ShuttingDown { .. });
        let back = clerks.cast(Route::RoundRobin, Job::Note(9)).unwrap_err();
        assert!(is_final(&back.refusal) && matches!(back.message, Job::Note(9)));
        let sent = clerks.send(Route::LeastQueued, Job::Note(9), HOUR).await;
        let back = sent.unwrap_err();
        assert!(is_final(&back.refusal) && matches!(back.message, Job::Note(9)));
        let called = clerks.call(Route::key(&1), Job::Answer, HOUR).await;
        assert!(matches!(called, Err(CallError::Refused(back)) if is_final(&back.refusal)));
        let refusal = clerks.broadcast_with(|_| Job::Note(9)).unwrap_err();
        assert!(is_final(&refusal), "{refusal}");

        desk.open();
        let report = within("the end", stopping).await.unwrap();
        assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
        let mut done = desk.done.entries();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 3, 42]);
        assert_books_balance!(tree.scope());
    }
}

#[tokio::test(start_paused = true)]
async fn tree_6_who_waits_for_a_member_is_refused_when_the_shutdown_begins() {
    let tree = builder().start().await.unwrap();
    let empty = tree.group(&EMPTY).unwrap();
    let waiting = tokio::spawn({
        let empty = empty.clone();
        async move {
            empty
                .send(Route::RoundRobin, Job::Note(3), Duration::MAX)
                .await
        }
    });
    // It waits: nothing else can go on.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let report = shut_down(&tree).await;
    assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
    let back = within("the refusal", waiting).await.unwrap().unwrap_err();
    assert!(matches!(back.refusal, Refusal::ShuttingDown { .. }));
    assert!(matches!(back.message, Job::Note(3)));
}

#[tokio::test(start_paused = true)]
async fn tree_6_what_waits_for_a_child_that_was_terminated_is_reported_and_not_waited_for() {
    let desk = Desk::new();
    let sub = Supervisor::builder().child(desk.mail("two")).build();
    let spec = sub.unwrap().into_child("sub");
    for (id, spec) in [("two", desk.mail("two")), ("sub", spec)] {
        for is_during_the_drain in [false, true] {
            let desk = desk.clone();
            desk.gate.send_replace(false);
            let begun = desk.begun.entries().len();
            let tree = builder().drain_deadline(HOUR).child(spec.clone());
            let tree = tree.start().await.unwrap();
            let place = match id {
                "two" => "t/host/two",
                _ => "t/host/sub/two",
            };
            let two = tree.scope().root().find(place).unwrap();
            let run = two.current().unwrap();
            assert!(run.offer(Job::Wait(1)).is_ok() && run.offer(Job::Note(2)).is_ok());
            desk.begun.wait_for(begun + 1).await;
            let terminate = || {
                let host = tree.host().clone();
                tokio::spawn(async move { host.terminate_child(id).await })
            };
            let (stopping, terminated) = if is_during_the_drain {
                let stopping = begin(&tree).await;
                (stopping, terminate())
            } else {
                let terminated = terminate();
                // It is asked to stop: nothing else can go on.
                tokio::time::sleep(Duration::from_millis(1)).await;
                (begin(&tree).await, terminated)
            };
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            desk.open();
            within("the termination", terminated)
                .await
                .unwrap()
                .unwrap();
            let report = stopping.await.unwrap();
            assert!(began.elapsed() < SECOND, "{id}: {:?}", began.elapsed());
            assert!(!report.ran_out_of_time, "{report}");
            let [cut_off] = &report.cut_off[..] else {
                panic!("{report}");
            };
            assert_eq!((cut_off.path.as_str(), cut_off.waiting), (place, 1));
            assert!(!cut_off.killed && cut_off.in_hand.is_none(), "{report}");
            assert_books_balance!(tree.scope());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_child_that_was_terminated_and_restarted_is_waited_for() {
    let desk = Desk::new();
    let tree = builder().drain_deadline(HOUR).child(desk.mail("two"));
    let tree = tree.start().await.unwrap();
    tree.host().terminate_child("two").await.unwrap();
    tree.host().restart_child("two").await.unwrap();
    // The supervisor is busy, and hears of no end.
    let slow = desk.clone();
    let slow = ChildSpec::from_fn("slow", ChildKind::Worker, move |_| {
        let slow = slow.clone();
        async move {
            slow.wait().await;
            Ok(Started::Ignored)
        }
    });
    let host = tree.host().clone();
    let starting = tokio::spawn(async move { host.start_child(slow).await });
    desk.begun.wait_for(1).await;
    let run = tree.resolve(&TWO).unwrap().incarnation().unwrap();
    tree.cast(TWO, Job::Fail).unwrap();
    tree.cast(TWO, Job::Note(1)).unwrap();
    within("the crash", run.ended()).await;

    let place = run.node();
    assert_eq!(place.state(), ChildState::Stopped);
    assert!(place.standing().is_busy);
    desk.open();
    within("the start", starting).await.unwrap().unwrap();
    let report = shut_down(&tree).await;
    assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
    assert_eq!(desk.done.entries(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn tree_6_an_actor_that_was_left_behind_is_named_and_not_waited_for() {
    for yields_before in [true, false] {
        let desk = Desk::new();
        let watchdog = Watchdog::replace(Duration::from_millis(50)).grace(Duration::from_millis(1));
        let tree = builder()
            .drain_deadline(HOUR)
            .child(desk.plain("one").watchdog(watchdog))
            .start()
            .await
            .unwrap();
        let mut events = tree.scope().events().subscribe();
        let (release, held) = mpsc::channel();
        tree.cast(ONE, Job::Block(held.into())).unwrap();
        hear(&mut events, |it| matches!(it, EventKind::Restarted { .. })).await;
        assert_eq!(tree.scope().detached(), 1);
        if yields_before {
            release.send(()).unwrap();
            hear(&mut events, |it| matches!(it, EventKind::Reclaimed { .. })).await;
        }
        tree.cast(ONE, Job::Note(1)).unwrap();
        let report = shut_down(&tree).await;
        assert!(!report.ran_out_of_time, "{report}");
        assert_eq!(desk.done.entries(), [1]);
        if yields_before {
            assert!(report.is_clean(), "{report}");
            continue;
        }
        let [cut_off] = &report.cut_off[..] else {
            panic!("{report}");
        };
        assert!(cut_off.left_behind && !cut_off.killed, "{report}");
        assert!(cut_off.in_hand.unwrap().ends_with("Job"), "{report}");
        release.send(()).unwrap();
        hear(&mut events, |it| matches!(it, EventKind::Reclaimed { .. })).await;
        assert_books_balance!(tree.scope());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn tree_6_an_actor_that_does_not_yield_to_the_shutdown_is_left_behind_and_named() {
    let desk = Desk::new();
    let mut settings = patient();
    settings.supervision.shutdown_deadline = Duration::from_millis(10);
    let tree = Tree::builder("t")
        .settings(settings)
        .drain_deadline(Duration::from_millis(10))
        .child(desk.plain("one"))
        .start()
        .await
        .unwrap();
    let run = tree.resolve(&ONE).unwrap().incarnation().unwrap();
    let (release, held) = mpsc::channel();
    tree.cast(ONE, Job::Block(held.into())).unwrap();
    desk.begun.wait_for(1).await;
    tree.cast(ONE, Job::Note(1)).unwrap();
    let report = within("the end", tree.shutdown()).await;
    assert!(report.ran_out_of_time && !report.is_clean(), "{report}");
    let one = report.cut_off.iter().find(|it| it.path.id() == "one");
    let one = one.unwrap();
    assert!(one.left_behind && one.killed, "{report}");
    assert_eq!(one.waiting, 1, "{report}");
    assert!(one.in_hand.unwrap().ends_with("Job"), "{report}");
    let text = report.to_string();
    assert!(
        text.contains("left behind, since it does not yield"),
        "{text}"
    );
    release.send(()).unwrap();
    within("its end", run.ended()).await;
    nothing_runs(tree.scope());
}
