//! The debug actor in live trees.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may")]

use std::sync::Arc;
use std::time::Duration;

use perennial_debug::{CommandError, Debugger, Level, Snapshot};
use perennial_lifecycle::{
    Backoff, ChildKind, ChildSpec, ChildState, Event, EventKind, Events, Incarnation, Node,
    Quarantine, Restart, Scope, Shutdown,
};
use perennial_supervisor::{
    ChildTemplate, DynamicSupervisor, RestartIntensity, Supervisor, SupervisorBuilder,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance};

/// Does as it is told.
struct Puppet;

enum PuppetMsg {
    Work,
    Fail,
    /// Says that it has begun, and never ends.
    Hang(oneshot::Sender<()>),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the ledger")]
struct LedgerError(#[source] std::io::Error);

impl Actor for Puppet {
    type Msg = PuppetMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<PuppetMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<PuppetMsg>,
        message: PuppetMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PuppetMsg::Work => Ok(()),
            PuppetMsg::Fail => Err(LedgerError(std::io::Error::other("disk full")).into()),
            PuppetMsg::Hang(begun) => {
                begun.send(()).expect("the test waits");
                std::future::pending().await
            }
        }
    }
}

fn puppet(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Puppet, ()))
}

fn supervisor() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(1_000, Duration::from_secs(1)))
}

/// `shop`, with `bank` of `ledger` and `audit`, then `cache`, then `debug`.
struct Shop {
    scope: Scope,
    debugger: Debugger,
    events: Events,
}

impl Shop {
    async fn open() -> Self {
        let scope = Scope::new("shop");
        let debugger = Debugger::new(&scope);
        let events = debugger.events();
        let bank = supervisor()
            .child(puppet("ledger"))
            .child(puppet("audit").transient())
            .build()
            .unwrap();
        supervisor()
            .child(bank.into_child("bank"))
            .child(puppet("cache").temporary().shutdown(Shutdown::BrutalKill))
            .child(debugger.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            scope,
            debugger,
            events,
        }
    }

    fn node(&self, path: &str) -> Arc<Node> {
        self.scope.root().find(path).unwrap()
    }

    fn run(&self, path: &str) -> Arc<Incarnation> {
        self.node(path).current().unwrap()
    }

    fn send(&self, path: &str, message: PuppetMsg) {
        self.run(path).offer(message).unwrap();
    }

    async fn hang(&self, path: &str) {
        let (begun, wait) = oneshot::channel();
        self.send(path, PuppetMsg::Hang(begun));
        wait.await.unwrap();
    }

    async fn expect(&mut self, path: &str, wanted: impl Fn(&EventKind) -> bool) -> Event {
        loop {
            let event = self.events.next().await.unwrap().unwrap();
            if event.path.as_str() == path && wanted(&event.kind) {
                return event;
            }
        }
    }

    async fn restarted(&mut self, path: &str) {
        self.expect(path, |kind| matches!(kind, EventKind::Restarted { .. }))
            .await;
    }

    /// What the operators did, as the tree remembers it.
    fn log(&self) -> Vec<String> {
        let timeline = self.debugger.timeline(usize::MAX);
        let texts = timeline.into_iter().map(|entry| entry.text);
        texts
            .filter_map(|text| text.strip_prefix("operator: ").map(str::to_owned))
            .collect()
    }

    async fn snapshot(&self) -> Snapshot {
        self.debugger.snapshot().await.unwrap()
    }
}

/// The names in the first column.
fn names(snapshot: &Snapshot) -> Vec<String> {
    let text = snapshot.render();
    let rows = text.lines().skip(1).take_while(|row| !row.is_empty());
    rows.filter_map(|row| row.split("  worker").next()?.split("  supervisor").next())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_the_tree_in_start_order_with_its_specs() {
    let shop = Shop::open().await;
    advance(Duration::from_secs(90)).await;
    let snapshot = shop.snapshot().await;

    let paths: Vec<_> = snapshot.nodes().map(|it| it.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "shop",
            "shop/bank",
            "shop/bank/ledger",
            "shop/bank/audit",
            "shop/cache",
            "shop/debug"
        ]
    );
    assert!(snapshot.nodes().all(|it| it.state == ChildState::Running));
    assert_eq!(snapshot.summary(), "shop: 6 actors, 0 restarts, 0 down");
    let bank = snapshot.find("shop/bank").unwrap();
    assert_eq!(bank.kind, ChildKind::Supervisor);
    assert_eq!(bank.uptime_ms, Some(90_000));
    let audit = snapshot.find("shop/bank/audit").unwrap();
    let spec = audit.spec.unwrap();
    assert_eq!(spec.restart, Restart::Transient);
    assert_eq!(spec.shutdown, Shutdown::Within(Duration::from_secs(5)));
    assert!(audit.message_type.unwrap().ends_with("PuppetMsg"));
    assert_eq!(
        names(&snapshot),
        [
            "shop",
            "├── bank",
            "│   ├── ledger",
            "│   └── audit",
            "├── cache",
            "└── debug"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_shows_as_a_restart_with_its_cause_chain() {
    let mut shop = Shop::open().await;
    advance(Duration::from_secs(3)).await;
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    shop.send("shop/bank/ledger", PuppetMsg::Fail);
    shop.restarted("shop/bank/ledger").await;

    let snapshot = shop.snapshot().await;
    let ledger = snapshot.find("shop/bank/ledger").unwrap();
    assert_eq!(ledger.state, ChildState::Running);
    assert_eq!((ledger.restarts, ledger.incarnation), (1, Some(2)));
    let exit = ledger.last_exit.as_ref().unwrap();
    assert_eq!(
        (exit.class, exit.clean, exit.incarnation),
        ("failed", false, 1)
    );
    assert_eq!(exit.uptime_ms, 3_000);
    assert_eq!(exit.chain, ["failed: cannot write the ledger", "disk full"]);
    assert_eq!(snapshot.summary(), "shop: 6 actors, 1 restart, 0 down");

    let timeline = shop.debugger.timeline(3);
    let told: Vec<_> = timeline.iter().map(|it| (it.level, &*it.text)).collect();
    let cause = "failed: cannot write the ledger: disk full";
    assert_eq!(
        told,
        [
            (Level::Warn, &*format!("exited #1: {cause}")),
            (Level::Warn, &*format!("child_terminated ledger: {cause}")),
            (Level::Warn, "restarted as #2 (restart 1)"),
        ]
    );
    assert!(timeline.windows(2).all(|it| it[0].seq + 1 == it[1].seq));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_actor_is_seen_and_hangs_nothing() {
    let shop = Shop::open().await;
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    shop.hang("shop/bank/ledger").await;
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    shop.send("shop/bank/ledger", PuppetMsg::Work);
    advance(Duration::from_secs(12)).await;

    let before = Instant::now();
    let snapshot = shop.snapshot().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    let ledger = snapshot.find("shop/bank/ledger").unwrap();
    assert_eq!(ledger.in_hand_ms, Some(12_000));
    assert_eq!((ledger.mailbox_depth, ledger.handled), (2, 1));
    assert_eq!(snapshot.totals.problems, 1);
    assert!(snapshot.render().contains("! message in hand for 12.0s"));

    shop.debugger.kill("shop/bank/ledger").await.unwrap();
    let exit = shop.node("shop/bank/ledger").last_end().unwrap();
    assert_eq!(exit.reason.class(), "killed");
}

#[tokio::test(start_paused = true)]
async fn a_slow_command_holds_up_no_other() {
    let shop = Shop::open().await;
    shop.hang("shop/bank/ledger").await;
    let start = Instant::now();
    let (slow, quick) = tokio::join!(
        async {
            let run = shop.debugger.restart("shop/bank/ledger").await;
            (run.unwrap(), start.elapsed())
        },
        async {
            shop.debugger.restart("shop/debug").await.unwrap();
            start.elapsed()
        },
    );
    // The stuck handler is given its shutdown time, then killed.
    assert_eq!(slow, (Some(2), Duration::from_secs(5)));
    assert_eq!(quick, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn kill_leaves_the_rest_to_the_supervisor() {
    let mut shop = Shop::open().await;
    shop.debugger.kill("shop/bank/audit").await.unwrap();
    shop.restarted("shop/bank/audit").await;
    assert_eq!(shop.run("shop/bank/audit").number(), 2);

    // A temporary child is forgotten.
    let cache = shop.run("shop/cache");
    shop.debugger.kill("shop/cache").await.unwrap();
    assert_eq!(cache.ended().await.class(), "killed");
    assert!(matches!(
        shop.debugger.restart("shop/cache").await,
        Err(CommandError::NotFound { .. } | CommandError::Supervisor(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn kill_of_a_supervisor_brings_back_its_children() {
    let mut shop = Shop::open().await;
    let ledger = shop.run("shop/bank/ledger");
    shop.debugger.kill("shop/bank").await.unwrap();
    shop.restarted("shop/bank").await;
    ledger.ended().await;
    assert!(shop.run("shop/bank/ledger").number() > 1);
    assert_eq!(shop.snapshot().await.totals.down, 0);
}

#[tokio::test(start_paused = true)]
async fn restart_stops_in_order_and_starts_again() {
    let shop = Shop::open().await;
    let run = shop.debugger.restart("shop/bank/audit").await.unwrap();
    assert_eq!(run, Some(2));
    let exit = shop.node("shop/bank/audit").last_end().unwrap();
    assert_eq!(exit.reason.class(), "shutdown");
    // A whole branch, and one that is stopped.
    assert_eq!(shop.debugger.restart("shop/bank").await.unwrap(), Some(2));
    shop.debugger.stop("shop/bank/audit").await.unwrap();
    let run = shop.debugger.restart("shop/bank/audit").await.unwrap();
    assert_eq!(run, Some(shop.run("shop/bank/audit").number()));
}

#[tokio::test(start_paused = true)]
async fn stop_keeps_an_actor_down() {
    let shop = Shop::open().await;
    shop.debugger.stop("shop/bank/ledger").await.unwrap();
    shop.debugger.stop("shop/bank/ledger").await.unwrap();
    let snapshot = shop.snapshot().await;
    let ledger = snapshot.find("shop/bank/ledger").unwrap();
    assert_eq!(
        (ledger.state, ledger.incarnation),
        (ChildState::Stopped, None)
    );
    // Somebody wanted it so.
    assert_eq!(ledger.problem(), None);
    assert_eq!(snapshot.summary(), "shop: 6 actors, 0 restarts, 1 down");

    let refused = shop.debugger.kill("shop/bank/ledger").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`shop/bank/ledger` is not running, it is stopped"
    );
    assert!(!refused.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_path_suggests_the_nearest() {
    let shop = Shop::open().await;
    let refused = shop.debugger.kill("shop/bank/legder").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no actor at `shop/bank/legder`; did you mean `shop/bank/ledger`?"
    );
    let refused = shop.debugger.stop("audit").await.unwrap_err();
    assert!(matches!(
        refused,
        CommandError::NotFound { nearest: Some(path), .. } if path == "shop/bank/audit"
    ));
    let refused = shop.debugger.restart("quite/another").await.unwrap_err();
    assert_eq!(refused.to_string(), "no actor at `quite/another`");
}

#[tokio::test(start_paused = true)]
async fn the_root_can_be_killed_only() {
    let shop = Shop::open().await;
    let refused = shop.debugger.restart("shop").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot restart `shop`: it is the root of the tree and has no supervisor"
    );
    assert!(matches!(
        shop.debugger.stop("shop").await,
        Err(CommandError::Root {
            command: "stop",
            ..
        })
    ));

    let actors: Vec<_> = ["shop/bank", "shop/cache", "shop/debug"]
        .map(|path| shop.run(path))
        .into();
    shop.debugger.kill("shop").await.unwrap();
    for actor in actors {
        actor.ended().await;
    }
    let snapshot = shop.snapshot().await;
    assert_eq!(snapshot.root.state, ChildState::Stopped);
    assert!(snapshot.render().contains("! down: killed"));
}

#[tokio::test(start_paused = true)]
async fn commands_are_logged_before_their_effects_and_failures_after() {
    let mut shop = Shop::open().await;
    shop.debugger.kill("shop/bank/ledger").await.unwrap();
    shop.debugger.kill("shop/nobody").await.unwrap_err();
    let note = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::Noted {
                source: "operator",
                ..
            }
        )
    };
    let noted = shop.expect("shop/bank/ledger", note).await;
    let exited = |kind: &EventKind| matches!(kind, EventKind::Exited { .. });
    let exited = shop.expect("shop/bank/ledger", exited).await;
    assert!(noted.seq < exited.seq);
    assert_eq!(
        shop.log(),
        [
            "kill shop/bank/ledger",
            "kill shop/nobody",
            "kill shop/nobody failed: no actor at `shop/nobody`"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_debug_actor_can_be_killed_through_itself() {
    let shop = Shop::open().await;
    for round in 1..=20 {
        shop.debugger.kill("shop/debug").await.unwrap();
        let run = shop.debugger.restart("shop/bank/audit").await.unwrap();
        assert_eq!(run, Some(round + 1));
    }
    assert_eq!(shop.node("shop/debug").restarts(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_debug_actor_did_not_get_to_is_taken_by_its_successor() {
    let shop = Shop::open().await;
    let debug = shop.run("shop/debug");
    // The command is sent first, and the kill overtakes it.
    let (run, ()) = tokio::join!(biased; shop.debugger.restart("shop/bank/audit"), async {
        debug.kill();
    });
    assert_eq!(run.unwrap(), Some(2));
    assert_eq!(debug.handled(), 0);
    assert_eq!(shop.log(), ["restart shop/bank/audit"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_survives_the_end_of_the_debug_actor_and_is_carried_out_once() {
    let shop = Shop::open().await;
    let commands: Vec<_> = (0..50)
        .map(|_| {
            let debugger = shop.debugger.clone();
            tokio::spawn(async move { debugger.restart("shop/bank/audit").await })
        })
        .collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
        if let Some(run) = shop.node("shop/debug").current() {
            run.kill();
        }
    }
    let mut runs = Vec::new();
    for command in commands {
        runs.push(command.await.unwrap().unwrap());
    }
    runs.sort_unstable();
    let expected: Vec<_> = (2..=51).map(Some).collect();
    assert_eq!(runs, expected);
    assert_eq!(shop.log().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn without_a_debug_actor_commands_time_out_and_snapshots_work() {
    let shop = Shop::open().await;
    let ledger = shop.run("shop/bank/ledger");
    shop.debugger.stop("shop/debug").await.unwrap();
    let start = Instant::now();
    let hasty = shop.debugger.clone().deadline(Duration::from_secs(2));
    let refused = hasty.kill("shop/bank/ledger").await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(
        refused.to_string(),
        "kill `shop/bank/ledger`: no outcome within 2s"
    );
    assert!(refused.is_retryable());
    let snapshot = shop.snapshot().await;
    assert_eq!(
        snapshot.find("shop/debug").unwrap().state,
        ChildState::Stopped
    );

    // One that waits finds it as soon as it is back.
    let root = Supervisor::at(shop.scope.root()).unwrap();
    let (killed, _) = tokio::join!(
        shop.debugger.kill("shop/bank/ledger"),
        root.restart_child("debug"),
    );
    killed.unwrap();
    assert_eq!(ledger.ended().await.class(), "killed");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_dropped_before_it_was_taken_is_withdrawn() {
    let shop = Shop::open().await;
    tokio::select! {
        biased;
        _ = shop.debugger.kill("shop/bank/ledger") => panic!("needs the debug actor's turn"),
        () = std::future::ready(()) => {}
    }
    shop.debugger.restart("shop/bank/audit").await.unwrap();
    assert_eq!(shop.log(), ["restart shop/bank/audit"]);
    assert_eq!(shop.run("shop/bank/ledger").number(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_dropped_after_it_was_taken_is_carried_out() {
    let mut shop = Shop::open().await;
    shop.hang("shop/bank/ledger").await;
    let debugger = shop.debugger.clone();
    let command = tokio::spawn(async move { debugger.restart("shop/bank/ledger").await });
    let note = |kind: &EventKind| matches!(kind, EventKind::Noted { .. });
    shop.expect("shop/bank/ledger", note).await;
    command.abort();
    let again = |kind: &EventKind| matches!(kind, EventKind::Started { incarnation: 2 });
    shop.expect("shop/bank/ledger", again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_operators_on_many_threads_lose_no_command() {
    let shop = Shop::open().await;
    let paths = [
        "shop/debug",
        "shop/bank/ledger",
        "shop/bank",
        "shop/bank/audit",
    ];
    let operators: Vec<_> = (0..8)
        .map(|operator| {
            let debugger = shop.debugger.clone();
            tokio::spawn(async move {
                for round in 0..50 {
                    let path = paths[(operator + round) % paths.len()];
                    let outcome = match round % 3 {
                        0 => debugger.kill(path).await,
                        _ => debugger.restart(path).await.map(drop),
                    };
                    // Another operator may just have ended it, or its supervisor.
                    assert!(
                        match &outcome {
                            Ok(()) => true,
                            Err(CommandError::NotFound { .. }) => false,
                            Err(CommandError::TimedOut { .. }) => false,
                            Err(_) => true,
                        },
                        "{outcome:?}"
                    );
                    assert!(debugger.snapshot().await.unwrap().totals.actors >= 5);
                }
            })
        })
        .collect();
    for operator in operators {
        operator.await.unwrap();
    }
    let taken = shop.log();
    let taken = taken.iter().filter(|it| !it.contains(" failed: "));
    assert_eq!(taken.count(), 8 * 50);
}

#[test]
fn public_types_are_debug_send_and_sync() {
    fn check<T: std::fmt::Debug + Send + Sync>() {}
    check::<Debugger>();
    check::<Snapshot>();
    check::<perennial_debug::TimelineEntry>();
    check::<CommandError>();
    check::<perennial_debug::SnapshotError>();
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_put_off_shows_and_can_be_begun() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let hour = Duration::from_secs(3600);
    let ledger = puppet("ledger").backoff(Backoff::constant(hour));
    let rates = puppet("rates")
        .budget(RestartIntensity::new(0, hour))
        .quarantine(Quarantine::new(Backoff::constant(hour)));
    let tree = supervisor().child(ledger).child(rates);
    let tree = tree.child(debugger.child_spec()).build().unwrap();
    let tree = tree.start_in(&scope).await.unwrap();
    for id in ["ledger", "rates"] {
        debugger.kill(&format!("shop/{id}")).await.unwrap();
    }
    tree.count_children().await.unwrap();
    advance(hour / 2).await;
    let snapshot = debugger.snapshot().await.unwrap();
    let problem = |id: &str| snapshot.find(&format!("shop/{id}")).unwrap().problem();
    assert_eq!(problem("ledger").unwrap(), "restart in 30m00s: killed");
    let parked = problem("rates").unwrap();
    assert_eq!(parked, "quarantined for another 30m00s: killed");
    let ledger = snapshot.find("shop/ledger").unwrap();
    assert_eq!(ledger.due_ms, Some(1_800_000));
    assert_eq!(
        snapshot.summary(),
        "shop: 4 actors, 0 restarts, 2 down, 2 problems"
    );

    debugger.resume("shop/ledger").await.unwrap();
    debugger.restart("shop/rates").await.unwrap();
    let snapshot = debugger.snapshot().await.unwrap();
    assert_eq!(snapshot.totals.problems, 0);
    assert_eq!(snapshot.find("shop/ledger").unwrap().due_ms, None);
    let refused = debugger.resume("shop/ledger").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "child `ledger` does not wait for a restart"
    );
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gave_up_shows_the_end_that_it_could_not_bear_and_all_before() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let bank = Supervisor::builder().child(puppet("ledger"));
    let bank = bank.build().unwrap().into_child("bank");
    let tree = supervisor().child(bank).child(debugger.child_spec());
    let tree = tree.build().unwrap().start_in(&scope).await.unwrap();
    let ledger = scope.root().find("shop/bank/ledger").unwrap();
    let bank = scope.root().find("shop/bank").unwrap();
    for round in 0..4 {
        let (run, parent) = (ledger.current().unwrap(), bank.current().unwrap());
        run.actor_ref()
            .unwrap()
            .send_message(PuppetMsg::Fail)
            .unwrap();
        run.ended().await;
        if round % 2 == 1 {
            // The second in a row is one too many.
            parent.ended().await;
        }
        tree.count_children().await.unwrap();
        ledger.running().await;
    }
    let snapshot = debugger.snapshot().await.unwrap();
    let shown = snapshot.find("shop/bank").unwrap();
    let chain = |run| {
        [
            "shutdown".to_owned(),
            format!("shop/bank/ledger #{run}: failed: cannot write the ledger"),
            "disk full".to_owned(),
        ]
    };
    assert_eq!(shown.last_exit.as_ref().unwrap().chain, chain(4));
    assert_eq!(shown.earlier_exits.len(), 1);
    assert_eq!(shown.earlier_exits[0].chain, chain(2));
    let shown = snapshot.find("shop/bank/ledger").unwrap();
    let runs = shown.earlier_exits.iter().map(|exit| exit.incarnation);
    assert_eq!(runs.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn commands_reach_dynamic_children() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let template = ChildTemplate::worker("session", |(): &()| (Puppet, ()));
    let sessions = DynamicSupervisor::builder(template).build().unwrap();
    let tree = supervisor().child(sessions.into_child("sessions"));
    let tree = tree.child(debugger.child_spec()).build().unwrap();
    tree.start_in(&scope).await.unwrap();
    let sessions = scope.root().find("shop/sessions").unwrap();
    let sessions = DynamicSupervisor::<()>::at(&sessions).unwrap();
    sessions.start_child_named("ada", ()).await.unwrap();
    assert_eq!(
        debugger.restart("shop/sessions/ada").await.unwrap(),
        Some(2)
    );
    debugger.stop("shop/sessions/ada").await.unwrap();
    assert!(sessions.which_children().await.unwrap().is_empty());
    assert!(matches!(
        debugger.restart("shop/sessions/ada").await,
        Err(CommandError::NotFound { .. })
    ));
}
