//! Orders of an operator.

use std::time::Duration;

use perennial_debug::{CommandError, Debugger, Snapshot};
use perennial_lifecycle::{ChildState, EventKind, ExitReason, Scope};
use perennial_supervisor::Supervisor;
use tokio::time::Instant;

use crate::support::Shop;

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
    let root = Supervisor::at(shop.scope.root()).unwrap();
    root.terminate_child("debug").await.unwrap();
    let start = Instant::now();
    let hasty = shop.debugger.clone().deadline(Duration::from_secs(2));
    let refused = hasty.kill("shop/bank/ledger").await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(
        refused.to_string(),
        "kill `shop/bank/ledger`: no outcome within 2s: the debug actor has not taken it, and does not run or is busy"
    );
    assert!(refused.is_retryable());
    let snapshot = shop.snapshot().await;
    assert_eq!(
        snapshot.find("shop/debug").unwrap().state,
        ChildState::Stopped
    );

    // One that waits finds it as soon as it is back.
    let (killed, _) = tokio::join!(
        shop.debugger.kill("shop/bank/ledger"),
        root.restart_child("debug"),
    );
    killed.unwrap();
    assert_eq!(ledger.ended().await.class(), "killed");
}

#[tokio::test(start_paused = true)]
async fn dbg_20_the_debug_actor_is_not_stopped_by_command() {
    let shop = Shop::open().await;
    let refused = shop.debugger.stop("shop/debug").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot stop `shop/debug`: the debug actor takes the command that would start it again"
    );
    assert!(!refused.is_retryable());
    // Whatever else is done to it, it takes the next command.
    shop.debugger.restart("shop/debug").await.unwrap();
    shop.debugger.kill("shop/debug").await.unwrap();
    shop.debugger.stop("shop/bank/ledger").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dbg_20_what_is_above_the_debug_actor_is_not_stopped_by_command() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let operators = Supervisor::builder().child(debugger.child_spec());
    let operators = operators.build().unwrap().into_child("operators");
    let root = Supervisor::builder().child(operators).build().unwrap();
    root.start_in(&scope).await.unwrap();
    let refused = debugger.stop("shop/operators").await.unwrap_err();
    assert!(
        matches!(refused, CommandError::CannotStop { .. }),
        "{refused}"
    );
    debugger.restart("shop/operators").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_to_a_tree_that_has_ended_is_refused_at_once() {
    let shop = Shop::open().await;
    let root = Supervisor::at(shop.scope.root()).unwrap();
    root.terminate_child("debug").await.unwrap();
    let start = Instant::now();
    let (waiting, ()) = tokio::join!(
        shop.debugger.kill("shop/bank/ledger"),
        root.stop(ExitReason::Shutdown),
    );
    for refused in [waiting, shop.debugger.kill("shop/bank/ledger").await] {
        let refused = refused.unwrap_err();
        let text = "cannot kill `shop/bank/ledger`: its tree has ended";
        assert_eq!(refused.to_string(), text);
        assert!(!refused.is_retryable());
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
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
