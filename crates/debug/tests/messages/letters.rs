//! Messages that an operator sends, or sends again.

use perennial_debug::CommandError;
use perennial_lifecycle::{DeadReason, Mailbox};

use crate::support::{CLERK, Job, Shop};

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
    assert_eq!(listed("shop/clerk"), "fail flush");
    assert_eq!(listed("shop/scribe"), "flush");
    assert_eq!(listed("shop"), "");
    let snapshot = shop.snapshot().await;
    let clerk = snapshot.find("shop/clerk").unwrap();
    assert_eq!(clerk.debug_messages.join(" "), "fail flush");

    let debugger = &shop.debugger;
    debugger.send_declared("shop/clerk", "flush").await.unwrap();
    debugger
        .send_declared("shop/scribe", "flush")
        .await
        .unwrap();
    assert_eq!(shop.clerk.notes(1).await, [7]);
    assert_eq!(shop.scribe.notes(1).await, [1_000]);

    // By the place of the actor that was known by its name, and the other way about.
    debugger.declare_at("shop/clerk", "flush", || Job::Write(8));
    debugger.send_declared("shop/clerk", "flush").await.unwrap();
    assert_eq!(shop.clerk.notes(2).await, [7, 8]);
    debugger.declare(&CLERK, "flush", || Job::Write(9));
    debugger.send_declared("shop/clerk", "flush").await.unwrap();
    assert_eq!(shop.clerk.notes(3).await, [7, 8, 9]);

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
    let shop = Shop::open().await;
    let debugger = &shop.debugger;
    debugger.declare_at("shop/clerk", "number", || 7_u32);
    let refused = debugger.send_declared("shop/clerk", "number").await;
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`shop/clerk` takes messages::support::Job, and the debug message is none"
    );
    assert!(!refused.is_retryable());

    debugger.declare(&CLERK, "flush", || Job::Flush);
    shop.debugger.stop("shop/clerk").await.unwrap();
    let refused = debugger.send_declared("shop/clerk", "flush").await;
    assert!(matches!(refused, Err(CommandError::NotRunning { .. })));
}

#[tokio::test(start_paused = true)]
async fn msg_10_a_full_mailbox_holds_up_no_debug_message() {
    let full = || Mailbox::bounded(2);
    let key = |job: &Job| match job {
        Job::Write(number) => Some(*number),
        _ => None,
    };
    for (clerks, scribes) in [
        (full(), full()),
        (full().reject_when_full(), full().drop_newest()),
        (full().drop_newest(), full().drop_oldest::<Job>()),
        (full(), full().coalesce(key)),
    ] {
        let shop = Shop::with(clerks, scribes).await;
        let debugger = &shop.debugger;
        for (place, desk) in [("shop/clerk", &shop.clerk), ("shop/scribe", &shop.scribe)] {
            debugger.declare_at(place, "flush", || Job::Flush);
            debugger.pause(place).await.unwrap();
            shop.send(place, Job::Write(1));
            shop.send(place, Job::Write(2));
            debugger.send_declared(place, "flush").await.unwrap();
            let figures = shop.node(place).figures().unwrap();
            assert_eq!((figures.depth, figures.dead), (3, 0), "{figures:?}");
            debugger.resume_messages(place).await.unwrap();
            assert_eq!(desk.notes(3).await, [1, 2, 1_000]);
        }
        shop.assert_balanced();
    }
}

#[tokio::test(start_paused = true)]
async fn dbg_15_a_debug_message_whose_making_panics_is_refused_with_the_panic() {
    let shop = Shop::open().await;
    shop.debugger
        .declare(&CLERK, "oldest", || panic!("there is none"));
    let refused = shop.debugger.send_declared("shop/clerk", "oldest").await;
    let refused = refused.unwrap_err();
    let text = refused.to_string();
    let begin = "cannot send `oldest` to `shop/clerk`: the function that makes it panicked";
    assert!(text.starts_with(begin), "{text}");
    assert!(text.contains("there is none"), "{text}");
    assert!(!refused.is_retryable());
    assert_eq!(
        shop.log()[1],
        format!("send oldest to shop/clerk failed: {text}")
    );
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
    let shown = "messages::support::Job to shop/scribe: overflow";
    assert_eq!(letter.to_string(), shown);
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
