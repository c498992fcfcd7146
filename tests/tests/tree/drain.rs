//! What a tree does before it stops.

use std::time::Duration;

use perennial::{
    Backoff, CallError, ChildSpec, EventKind, Mail, Name, Refusal, Shutdown, Tree, TreeBuilder,
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
    /// Never end.
    Hang,
    Fail,
}

const ONE: Name<Job> = Name::new("one");
const TWO: Name<Job> = Name::new("two");

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
            Job::Answer(reply) => reply.send(42)?,
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
    nothing_runs(tree.scope().root());
    assert_books_balance!(tree.scope());
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
    for (deadline, expected) in [(2 * DELAY, &[1][..]), (DELAY / 2, &[])] {
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
        assert_eq!(report.ran_out_of_time, expected.is_empty());
        let waiting: u64 = report.cut_off.iter().map(|it| it.waiting).sum();
        assert_eq!(waiting, 1 - expected.len() as u64, "{report}");
        assert_books_balance!(tree.scope());
    }
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
    nothing_runs(tree.scope().root());
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
