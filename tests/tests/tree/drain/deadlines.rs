//! How long a drain waits, and for whom it does not.

use std::time::Duration;

use perennial::{
    Backoff, ChildState, EventKind, Quarantine, RestartIntensity, Shutdown, Supervisor,
};
use perennial_testkit::assert_books_balance;
use tokio::time::Instant;

use super::support::{Desk, HOUR, Job, ONE, SECOND, TWO, begin, builder};
use crate::support::{nothing_runs, shut_down, within};

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
    assert_books_balance!(tree.scope());
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
