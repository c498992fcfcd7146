//! Actors that an operator holds up.

use std::time::Duration;

use perennial_debug::CommandError;
use tokio::time::{Instant, advance};

use crate::support::{Job, SECOND, Shop};

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
