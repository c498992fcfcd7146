//! What a drain waits for.

use std::time::Duration;

use perennial::debug::CommandError;
use perennial::{CallError, Refusal};
use perennial_testkit::assert_books_balance;
use tokio::time::Instant;

use super::support::{Desk, Job, ONE, SECOND, TWO, begin, builder};
use crate::support::{nothing_runs, shut_down, within};

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
    assert_books_balance!(tree.scope());
}
