//! Ends in a drain after which somebody comes back, and ends after which nobody does.

use std::time::Duration;

use perennial::{AtRestart, Mailbox, Settings, Strategy, Tree};
use perennial_testkit::assert_books_balance;
use tokio::time::sleep;

use super::support::{Desk, Job, ONE, TWO, begin};
use crate::support::{nothing_runs, patient, within};

/// Time for all that can go on.
const MOMENT: Duration = Duration::from_millis(1);

/// Has the second fail, with a message behind that, and the first have one in hand and one that waits.
async fn crowded(settings: Settings<()>, mailbox: Mailbox) -> (Tree, Desk, Desk) {
    let (first, second) = (Desk::new(), Desk::new());
    let tree = Tree::builder("t")
        .settings(settings)
        .child(first.mail("one").mailbox(mailbox))
        .child(second.mail("two"))
        .start()
        .await
        .unwrap();
    tree.cast(ONE, Job::Wait(1)).unwrap();
    tree.cast(ONE, Job::Note(2)).unwrap();
    tree.cast(TWO, Job::Wait(3)).unwrap();
    tree.cast(TWO, Job::Fail).unwrap();
    tree.cast(TWO, Job::Note(4)).unwrap();
    first.begun.wait_for(1).await;
    second.begun.wait_for(1).await;
    (tree, first, second)
}

#[tokio::test(start_paused = true)]
async fn tree_6_what_a_restart_of_the_group_hands_on_is_not_reported() {
    for at_restart in [AtRestart::Keep, AtRestart::Return] {
        a_group_is_restarted(at_restart).await;
    }
}

async fn a_group_is_restarted(at_restart: AtRestart) {
    let mut settings = patient();
    settings.supervision.host_strategy = Strategy::OneForAll;
    let mailbox = Mailbox::default().at_restart(at_restart);
    let (tree, first, second) = crowded(settings, mailbox).await;
    let one = tree.host().node().child("one").unwrap();
    let before = one.current().unwrap();
    let stopping = begin(&tree).await;
    second.open();
    sleep(MOMENT).await;
    // It is stopped with its group, and has a message that waits.
    assert!(before.asked().is_some() && before.mailbox_depth() == 1);
    first.open();
    let report = within("the end", stopping).await.unwrap();
    assert_eq!(second.done.entries(), [3, 4]);
    // It was stopped, so what waits is returned where its spec says so.
    let is_kept = at_restart == AtRestart::Keep;
    let done = if is_kept { &[1, 2][..] } else { &[1] };
    assert_eq!(first.done.entries(), done);
    let waiting: Vec<_> = report.cut_off.iter().map(|it| it.waiting).collect();
    assert_eq!(waiting, if is_kept { &[][..] } else { &[1] }, "{report}");
    assert_books_balance!(tree.scope());
}

#[tokio::test(start_paused = true)]
async fn tree_6_a_tree_that_gives_up_in_its_drain_says_so_and_what_waited() {
    let mut settings = Settings::default();
    settings.supervision.max_restarts = 0;
    let (tree, first, second) = crowded(settings, Mailbox::default()).await;
    let stopping = begin(&tree).await;
    second.open();
    sleep(MOMENT).await;
    first.open();
    let report = within("the end", stopping).await.unwrap();
    assert!(!report.is_clean(), "{report}");
    let cut_off: Vec<_> = report
        .cut_off
        .iter()
        .map(|it| (it.path.as_str(), it.waiting))
        .collect();
    assert_eq!(cut_off, [("t/host/one", 1), ("t/host/two", 1)], "{report}");
    let reason = report.gave_up.as_ref().unwrap().to_string();
    assert!(
        report
            .to_string()
            .starts_with(&format!("the tree gave up: {reason}:\n"))
    );
    assert_eq!(tree.ended().await.unwrap().to_string(), reason);
    nothing_runs(tree.scope());
    assert_books_balance!(tree.scope());
}
