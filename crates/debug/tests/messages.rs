//! The messages of a tree, as an operator sees and commands them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may")]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_debug::{
    CommandError, DeadLately, Debugger, Severity, Snapshot, TraceEntry, TroubleKind,
};
use perennial_lifecycle::{
    ActorName, Backoff, Caller, ChildKind, ChildSpec, DeadReason, ExitReason, Incarnation, Mail,
    Mailbox, Moment, Node, Quarantine, Scope, StartError, Started, Terms,
};
use perennial_registry::{Name, Registry};
use perennial_supervisor::{RestartIntensity, Supervisor, SupervisorBuilder};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);
const CLERK: Name<Job> = Name::new("clerk");
const SCRIBE: Name<Job> = Name::new("scribe");

enum Job {
    Write(u32),
    /// Says that it has begun, takes this long, and notes it.
    Slow(u32, oneshot::Sender<()>, Duration),
    Fail,
    Flush,
}

/// What outlasts the runs.
#[derive(Default)]
struct Desk {
    notes: Mutex<Vec<u32>>,
    noted: Notify,
}

impl Desk {
    fn note(&self, number: u32) {
        self.notes.lock().unwrap().push(number);
        self.noted.notify_one();
    }

    /// Waits until so many are noted.
    async fn notes(&self, count: usize) -> Vec<u32> {
        loop {
            let notes = self.notes.lock().unwrap().clone();
            if notes.len() >= count {
                return notes;
            }
            self.noted.notified().await;
        }
    }

    async fn work(&self, job: &mut Job) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Write(number) => self.note(*number),
            Job::Slow(number, begun, time) => {
                let (mut other, _wait) = oneshot::channel();
                std::mem::swap(begun, &mut other);
                // Gone already where nobody waits for the beginning.
                other.send(()).ok();
                tokio::time::sleep(*time).await;
                self.note(*number);
            }
            Job::Fail => return Err("as told".into()),
            Job::Flush => self.note(1_000),
        }
        Ok(())
    }
}

/// Takes plain messages.
struct Clerk(Arc<Desk>);

impl Actor for Clerk {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Job>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        mut job: Job,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.work(&mut job).await
    }
}

/// Takes them in envelopes.
struct Scribe(Arc<Desk>);

impl Actor for Scribe {
    type Msg = Mail<Job>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mut job: Mail<Job>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.work(&mut job).await
    }
}

/// `shop` with `clerk`, `scribe` and `debug`.
struct Shop {
    scope: Scope,
    debugger: Debugger,
    clerk: Arc<Desk>,
    scribe: Arc<Desk>,
}

fn clerk(id: &str, desk: &Arc<Desk>) -> ChildSpec {
    let desk = Arc::clone(desk);
    let group = ActorName::host("staff");
    ChildSpec::worker(id, move || (Clerk(Arc::clone(&desk)), ()))
        .name(ActorName::host(id.to_owned()))
        .group(group)
}

fn supervisor() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(1_000, SECOND))
}

impl Shop {
    async fn open() -> Self {
        Self::open_with(Mailbox::bounded(10)).await
    }

    async fn open_with(mailbox: Mailbox) -> Self {
        let scope = Scope::new("shop");
        let names = Registry::new(&scope);
        let debugger = Debugger::new(&scope).with_names(&names);
        let (desk, inside) = <(Arc<Desk>, Arc<Desk>)>::default();
        let scribe = Arc::clone(&inside);
        let spec = ChildSpec::worker("scribe", move || (Scribe(Arc::clone(&inside)), ()))
            .name(SCRIBE.to_actor_name())
            .mailbox(mailbox.clone());
        supervisor()
            .child(clerk("clerk", &desk).mailbox(mailbox))
            .child(spec)
            .child(debugger.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            scope,
            debugger,
            clerk: desk,
            scribe,
        }
    }

    fn node(&self, path: &str) -> Arc<Node> {
        self.scope.root().find(path).unwrap()
    }

    fn run(&self, path: &str) -> Arc<Incarnation> {
        self.node(path).current().unwrap()
    }

    fn send(&self, path: &str, job: Job) {
        self.run(path).offer(job).unwrap();
    }

    /// Gives the actor a job for this long, and waits until it is in hand.
    async fn occupy(&self, path: &str, time: Duration) {
        let (begun, wait) = oneshot::channel();
        self.send(path, Job::Slow(0, begun, time));
        wait.await.unwrap();
    }

    async fn snapshot(&self) -> Snapshot {
        self.debugger.snapshot().await.unwrap()
    }

    fn log(&self) -> Vec<String> {
        let timeline = self.debugger.timeline(usize::MAX);
        let texts = timeline.into_iter().map(|entry| entry.text);
        texts
            .filter_map(|text| text.strip_prefix("operator: ").map(str::to_owned))
            .collect()
    }

    fn assert_balanced(&self) {
        let books = self.scope.books();
        assert!(books.is_balanced(), "{books:?}");
    }
}

/// The lines below the tree.
fn below(snapshot: &Snapshot) -> String {
    let text = snapshot.render();
    let (_, below) = text.split_once("\n\n").unwrap();
    below.to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_the_mailbox_of_each_actor_and_the_books_of_all() {
    let shop = Shop::open().await;
    shop.send("shop/scribe", Job::Write(1));
    shop.send("shop/scribe", Job::Write(2));
    shop.scribe.notes(2).await;
    let expired = Terms {
        deadline: Moment::default(),
        caller: None::<Caller>,
    };
    let scribe = shop.run("shop/scribe");
    scribe.offer_on(Job::Write(3), || expired).unwrap();
    shop.occupy("shop/scribe", 100 * SECOND).await;
    shop.send("shop/scribe", Job::Write(4));
    shop.send("shop/scribe", Job::Write(5));
    advance(3 * SECOND).await;

    let snapshot = shop.snapshot().await;
    let scribe = snapshot.find("shop/scribe").unwrap();
    assert_eq!(scribe.mailbox_depth, 2);
    let json = serde_json::to_string_pretty(&scribe.mailbox).unwrap();
    let expected = r#"{
  "capacity": 10,
  "oldest_at_least_ms": 3000,
  "handled": 2,
  "failed": 0,
  "expired": 1,
  "returned": 0,
  "refused": 0,
  "dead": 0,
  "redelivered": 0,
  "times": {
    "p50_us": 1,
    "p99_us": 1,
    "max_us": 1
  }
}"#;
    assert_eq!(json, expected);
    assert_eq!(snapshot.find("shop/clerk").unwrap().mailbox, None);
    let books = serde_json::to_string(&snapshot.books).unwrap();
    let expected = "{\"waiting\":2,\"in_hand\":1,\"handled\":2,\"failed\":0,\"expired\":1,\"returned\":0,\
                    \"refused\":0,\"dead\":0}";
    assert_eq!(books, expected);
    shop.assert_balanced();

    advance(100 * SECOND).await;
    shop.scribe.notes(5).await;
    let snapshot = shop.snapshot().await;
    let mailbox = snapshot.find("shop/scribe").unwrap().mailbox.unwrap();
    let times = mailbox.times.unwrap();
    assert_eq!((mailbox.handled, times.p50_us), (5, 1));
    // The first is timed, and then one in sixteen: the slow one is not among them.
    assert_eq!((times.p99_us, times.max_us), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_groups_waits_and_dead_letters() {
    let shop = Shop::open().await;
    let (clerk, scribe) = (shop.node("shop/clerk"), shop.node("shop/scribe"));
    let waits = Arc::clone(shop.scope.traffic().waits());
    let _waiting = waits.begin(clerk.path(), scribe.path()).unwrap();
    for _ in 0..2 {
        shop.send("shop/scribe", Job::Fail);
    }
    let mut dead = shop.debugger.follow_dead_letters();
    for _ in 0..2 {
        assert_eq!(
            dead.next().await.unwrap().unwrap().reason,
            DeadReason::Poison
        );
    }
    advance(2 * SECOND).await;

    let snapshot = shop.snapshot().await;
    let staff = &snapshot.groups[0];
    assert_eq!(
        (&*staff.name, &*staff.members),
        ("staff", &[clerk.path().clone()][..])
    );
    let wait = &snapshot.waits[0];
    assert_eq!(
        (&wait.caller, &wait.callee, wait.for_ms, wait.calls),
        (clerk.path(), scribe.path(), 2_000, 1)
    );
    let dead = &snapshot.dead_letters;
    assert_eq!((dead.total, dead.kept, dead.last.len()), (2, 2, 2));
    let last = &dead.last[1];
    assert_eq!(
        (last.id, last.reason, last.crashes),
        (1, DeadReason::Poison, 3)
    );
    let DeadLately { poison, others, .. } = dead.lately[0];
    assert_eq!((poison, others), (2, 0));
    assert_eq!(
        below(&snapshot),
        "\
shop: 4 actors, 6 restarts, 0 down
waits:
  shop/clerk -> shop/scribe for 2.0s
2 dead letters, the last a messages::Job to shop/scribe: poison
"
    );
}

#[tokio::test(start_paused = true)]
async fn troubled_lists_what_needs_a_look_worst_first() {
    let scope = Scope::new("shop");
    let names = Registry::new(&scope);
    let debugger = Debugger::new(&scope).with_names(&names);
    let desk = Arc::<Desk>::default();
    let hour = Duration::from_secs(3600);
    let never = RestartIntensity::new(0, hour);
    let tree = supervisor()
        .child(clerk("gone", &desk).temporary())
        .child(clerk("fine", &desk))
        .child(
            clerk("parked", &desk)
                .budget(never)
                .quarantine(Quarantine::new(Backoff::constant(hour))),
        )
        .child(clerk("late", &desk).backoff(Backoff::constant(hour)))
        .child(clerk("busy", &desk))
        .child(clerk("busier", &desk).mailbox(Mailbox::bounded(10)))
        .child(clerk("full", &desk).mailbox(Mailbox::bounded(2)))
        .child(clerk("shaky", &desk))
        .child(clerk("resting", &desk))
        .child(clerk("caller", &desk))
        .child(debugger.child_spec());
    let tree = tree.build().unwrap().start_in(&scope).await.unwrap();
    let shop = Shop {
        scope,
        debugger,
        clerk: Arc::clone(&desk),
        scribe: desk,
    };
    assert_eq!(
        shop.snapshot().await.troubled().render(),
        "nothing needs a look\n"
    );

    for id in ["parked", "late"] {
        shop.debugger.kill(&format!("shop/{id}")).await.unwrap();
    }
    for _ in 0..3 {
        shop.debugger.kill("shop/shaky").await.unwrap();
        tree.count_children().await.unwrap();
        shop.node("shop/shaky").running().await;
    }
    let path = |id: &str| shop.node(&format!("shop/{id}")).path().clone();
    let waits = Arc::clone(shop.scope.traffic().waits());
    let (caller, busy, busier) = (path("caller"), path("busy"), path("busier"));
    shop.occupy("shop/caller", hour).await;
    let _one = waits.begin(&caller, &busier).unwrap();
    let _two = waits.begin(&busier, &busy).unwrap();
    shop.occupy("shop/busier", hour).await;
    for number in 0..8 {
        shop.send("shop/busier", Job::Write(number));
    }
    shop.occupy("shop/full", hour).await;
    for number in 0..2 {
        shop.send("shop/full", Job::Write(number));
    }
    advance(5 * SECOND).await;
    shop.occupy("shop/busy", hour).await;
    shop.debugger.pause("shop/resting").await.unwrap();
    advance(7 * SECOND).await;

    let troubled = shop.snapshot().await.troubled();
    assert_eq!(
        troubled.render(),
        "\
critical  shop/parked   quarantined for another 59m48s: killed
critical  shop/full     message in hand for 12.0s
critical  shop/busy     message in hand for 7.0s
critical  shop/full     mailbox 2 of 2
warning   shop/late     restart in 59m48s: killed
warning   shop/shaky    3 bad ends within 10 min
warning   shop/caller   waits for 12.0s: shop/caller -> shop/busier -> shop/busy
warning   shop/busier   mailbox 8 of 10
warning   shop/busier   a message has waited for 12.0s at least
warning   shop/full     a message has waited for 12.0s at least
notice    shop/resting  paused for 7.0s, 0 messages waiting

4 critical, 6 warning, 1 notice
"
    );
    let kinds: Vec<_> = troubled.troubles.iter().map(|it| it.kind).collect();
    assert!(kinds.is_sorted());
    assert_eq!(kinds[0], TroubleKind::Quarantined);
    assert!(
        troubled
            .troubles
            .is_sorted_by(|a, b| a.severity >= b.severity)
    );
    assert_eq!(troubled.count(Severity::Notice), 1);
    assert!(!troubled.is_empty());
}

#[tokio::test(start_paused = true)]
async fn troubled_begins_with_who_is_down() {
    let shop = Shop::open().await;
    shop.debugger.pause("shop/clerk").await.unwrap();
    shop.debugger.kill("shop").await.unwrap();
    let troubled = shop.snapshot().await.troubled();
    assert_eq!(
        (
            troubled.troubles[0].kind,
            troubled.troubles[0].path.as_str()
        ),
        (TroubleKind::Down, "shop")
    );
    assert!(troubled.render().starts_with("critical  shop"));
}

#[tokio::test(start_paused = true)]
async fn dbg_12_an_actor_that_an_operator_stopped_after_a_crash_is_no_trouble() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let desk = Arc::<Desk>::default();
    let hour = Backoff::constant(Duration::from_secs(3600));
    let shelf = supervisor().child(clerk("late", &desk).backoff(hour));
    let fails = Arc::new(AtomicBool::new(false));
    let broken = ChildSpec::from_fn("broken", ChildKind::Worker, {
        let (desk, fails) = (Arc::clone(&desk), Arc::clone(&fails));
        move |context| {
            let (clerk, fails) = (Clerk(Arc::clone(&desk)), fails.load(SeqCst));
            async move {
                if fails {
                    return Err(StartError::new(ExitReason::failed("no licence")));
                }
                Ok(Started::from(context.spawn(clerk, ()).await?))
            }
        }
    });
    let tree = supervisor()
        .child(clerk("late", &desk).backoff(hour))
        .child(shelf.build().unwrap().into_child("shelf"))
        .child(broken)
        .child(debugger.child_spec());
    let tree = tree.build().unwrap().start_in(&scope).await.unwrap();
    let troubled = async || debugger.snapshot().await.unwrap().troubled().render();
    for path in ["shop/late", "shop/shelf/late"] {
        debugger.kill(path).await.unwrap();
    }
    advance(SECOND).await;
    assert_eq!(troubled().await.matches("restart in").count(), 2);
    // The one itself, the other with its supervisor.
    for path in ["shop/late", "shop/shelf", "shop/broken"] {
        debugger.stop(path).await.unwrap();
    }
    let snapshot = debugger.snapshot().await.unwrap();
    let late = snapshot.find("shop/late").unwrap();
    assert!(late.dismissed && !late.last_exit.as_ref().unwrap().clean);
    assert_eq!(troubled().await, "nothing needs a look\n");
    // One that was to start again, and could not, is down though nobody wants it so.
    fails.store(true, SeqCst);
    tree.restart_child("broken").await.unwrap_err();
    let found = troubled().await;
    assert!(
        found.starts_with("critical  shop/broken  down: failed: no licence"),
        "{found}"
    );
    fails.store(false, SeqCst);
    for id in ["late", "shelf", "broken"] {
        tree.restart_child(id).await.unwrap();
    }
    let snapshot = debugger.snapshot().await.unwrap();
    assert!(snapshot.nodes().all(|node| !node.dismissed));
    debugger.kill("shop/late").await.unwrap();
    advance(SECOND).await;
    assert_eq!(troubled().await.matches("restart in").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_actor_handles_nothing_until_it_goes_on() {
    for (path, name) in [("shop/clerk", "clerk"), ("shop/scribe", "scribe")] {
        let shop = Shop::open().await;
        let desk = if name == "clerk" {
            &shop.clerk
        } else {
            &shop.scribe
        };
        shop.debugger.pause(path).await.unwrap();
        for number in 0..10 {
            shop.send(path, Job::Write(number));
        }
        // The one that the pause holds back still takes its room.
        assert!(shop.run(path).offer(Job::Write(10)).is_err());
        advance(60 * SECOND).await;
        // Other actors have their turns.
        shop.debugger.restart("shop/debug").await.unwrap();
        assert!(desk.notes.lock().unwrap().is_empty());
        let snapshot = shop.snapshot().await;
        let node = snapshot.find(path).unwrap();
        assert_eq!(
            (node.paused_ms, node.mailbox_depth, node.in_hand_ms),
            (Some(60_000), 10, None)
        );
        assert!(snapshot.render().contains("! paused for 1m00s"));

        shop.debugger.resume_messages(path).await.unwrap();
        assert_eq!(desk.notes(10).await, (0..10).collect::<Vec<_>>());
        shop.debugger.resume_messages(path).await.unwrap();
        shop.assert_balanced();
        let snapshot = shop.snapshot().await;
        assert_eq!(snapshot.find(path).unwrap().paused_ms, None);
        assert_eq!(
            shop.log(),
            [
                format!("pause {path}"),
                "restart shop/debug".to_owned(),
                format!("resume messages of {path}"),
                format!("resume messages of {path}"),
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_lets_the_message_in_hand_be_finished() {
    let shop = Shop::open().await;
    shop.occupy("shop/clerk", SECOND).await;
    shop.debugger.pause("shop/clerk").await.unwrap();
    shop.send("shop/clerk", Job::Write(1));
    advance(SECOND).await;
    assert_eq!(shop.clerk.notes(1).await, [0]);
    shop.debugger.resume_messages("shop/clerk").await.unwrap();
    assert_eq!(shop.clerk.notes(2).await, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn stop_kill_and_restart_work_at_once_on_a_paused_actor() {
    let shop = Shop::open().await;
    let start = Instant::now();
    for path in ["shop/clerk", "shop/scribe"] {
        for ended_by in ["restart", "kill", "stop"] {
            shop.debugger.pause(path).await.unwrap();
            for number in 0..3 {
                shop.send(path, Job::Write(number));
            }
            // Until one is held back.
            tokio::task::yield_now().await;
            let run = shop.run(path);
            match ended_by {
                "restart" => drop(shop.debugger.restart(path).await.unwrap()),
                "kill" => shop.debugger.kill(path).await.unwrap(),
                _ => shop.debugger.stop(path).await.unwrap(),
            }
            run.ended().await;
            if ended_by != "stop" {
                // The next run is not paused.
                let run = shop.node(path).running().await;
                assert_eq!(run.paused(), None);
            }
        }
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    // What was held back was not lost: the next run has handled it, in order, and the last is dead.
    assert_eq!(shop.scribe.notes(6).await, [0, 1, 2, 0, 1, 2]);
    assert!(shop.clerk.notes.lock().unwrap().is_empty());
    shop.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_tree_with_a_paused_actor_stops_at_once() {
    let shop = Shop::open().await;
    for path in ["shop/clerk", "shop/scribe"] {
        shop.debugger.pause(path).await.unwrap();
        shop.send(path, Job::Write(1));
    }
    tokio::task::yield_now().await;
    let start = Instant::now();
    let root = shop.run("shop");
    root.stop(perennial_lifecycle::ExitReason::Shutdown);
    root.ended().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    shop.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn supervisors_and_the_debug_actor_cannot_be_paused() {
    let shop = Shop::open().await;
    for path in ["shop", "shop/debug"] {
        let refused = shop.debugger.pause(path).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("cannot pause `{path}`: it takes its orders as messages")
        );
        assert!(!refused.is_retryable());
    }
    shop.debugger.stop("shop/clerk").await.unwrap();
    assert!(matches!(
        shop.debugger.pause("shop/clerk").await,
        Err(CommandError::NotRunning { .. })
    ));
}

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

#[tokio::test(start_paused = true)]
async fn declared_debug_messages_are_listed_and_sent() {
    let shop = Shop::open().await;
    shop.debugger.declare(&CLERK, "flush", || Job::Flush);
    shop.debugger.declare(&CLERK, "fail", || Job::Fail);
    // A later one stands.
    shop.debugger.declare(&CLERK, "flush", || Job::Write(7));
    shop.debugger
        .declare_at("shop/scribe", "flush", || Job::Flush);
    let listed = |path: &str| shop.debugger.declared(path).join(" ");
    assert_eq!(listed("shop/clerk"), "flush fail");
    assert_eq!(listed("shop/scribe"), "flush");
    assert_eq!(listed("shop"), "");
    let snapshot = shop.snapshot().await;
    let clerk = snapshot.find("shop/clerk").unwrap();
    assert_eq!(clerk.debug_messages.join(" "), "flush fail");

    let debugger = &shop.debugger;
    debugger.send_declared("shop/clerk", "flush").await.unwrap();
    debugger
        .send_declared("shop/scribe", "flush")
        .await
        .unwrap();
    assert_eq!(shop.clerk.notes(1).await, [7]);
    assert_eq!(shop.scribe.notes(1).await, [1_000]);

    let refused = debugger.send_declared("shop/clerk", "flsuh").await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "no debug message `flsuh` is declared for `shop/clerk`; did you mean `flush`?"
    );
    let refused = debugger.send_declared("shop/debug", "flush").await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "no debug message `flush` is declared for `shop/debug`"
    );
    let refused = debugger.send_declared("shop/clark", "flush").await;
    assert!(matches!(refused, Err(CommandError::NotFound { .. })));
    assert_eq!(
        shop.log()[..2],
        ["send flush to shop/clerk", "send flush to shop/scribe"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_debug_message_that_cannot_be_sent_is_refused() {
    let shop = Shop::open_with(Mailbox::bounded(1)).await;
    let debugger = &shop.debugger;
    debugger.declare_at("shop/clerk", "number", || 7_u32);
    let refused = debugger.send_declared("shop/clerk", "number").await;
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`shop/clerk` takes messages::Job, and the debug message is none"
    );
    assert!(!refused.is_retryable());

    debugger.declare(&CLERK, "flush", || Job::Flush);
    shop.debugger.pause("shop/clerk").await.unwrap();
    shop.send("shop/clerk", Job::Write(1));
    let refused = debugger.send_declared("shop/clerk", "flush").await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.to_string(), "the mailbox of `shop/clerk` is full");
    assert!(refused.is_retryable());

    shop.debugger.stop("shop/clerk").await.unwrap();
    let refused = debugger.send_declared("shop/clerk", "flush").await;
    assert!(matches!(refused, Err(CommandError::NotRunning { .. })));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_listed_followed_and_replayed() {
    let shop = Shop::open_with(Mailbox::bounded(2).drop_newest()).await;
    let mut news = shop.debugger.follow_dead_letters();
    shop.debugger.pause("shop/scribe").await.unwrap();
    for number in 0..4 {
        shop.send("shop/scribe", Job::Write(number));
    }
    let letter = news.next().await.unwrap().unwrap();
    assert_eq!((letter.id, letter.reason), (0, DeadReason::Overflow));
    assert_eq!(shop.debugger.dead_letters().len(), 2);
    shop.debugger.resume_messages("shop/scribe").await.unwrap();
    assert_eq!(shop.scribe.notes(2).await, [0, 1]);

    shop.debugger.replay(1).await.unwrap();
    assert_eq!(shop.scribe.notes(3).await, [0, 1, 3]);
    let refused = shop.debugger.replay(1).await.unwrap_err();
    assert_eq!(refused.to_string(), "cannot replay dead letter 1");
    assert!(!refused.is_retryable());
    shop.debugger.stop("shop/scribe").await.unwrap();
    let refused = shop.debugger.replay(0).await.unwrap_err();
    assert!(refused.is_retryable());
    let unknown = "no dead letter has this id, or it has been forgotten or taken";
    assert_eq!(
        shop.log()[2..],
        [
            "replay 1 to shop/scribe".to_owned(),
            "replay 1 to shop".to_owned(),
            format!("replay 1 to shop failed: cannot replay dead letter 1: {unknown}"),
            "stop shop/scribe".to_owned(),
            "replay 0 to shop/scribe".to_owned(),
            "replay 0 to shop/scribe failed: cannot replay dead letter 0: its actor is not running"
                .to_owned(),
        ]
    );
}
