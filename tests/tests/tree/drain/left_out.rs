//! Whom a drain does not wait for: who was terminated, and who was left behind.

use std::sync::mpsc;
use std::time::Duration;

use perennial::{ChildKind, ChildSpec, ChildState, EventKind, Started, Supervisor, Tree, Watchdog};
use perennial_testkit::assert_books_balance;
use tokio::time::Instant;

use super::support::{Desk, HOUR, Job, ONE, SECOND, TWO, begin, builder, hear};
use crate::support::{nothing_runs, patient, shut_down, within};

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
