//! Groups in a drain.

use std::time::Duration;

use perennial::{CallError, Refusal, Route};
use perennial_testkit::assert_books_balance;

use super::support::{CLERKS, Desk, EMPTY, HOUR, Job, ONE, begin, builder};
use crate::support::{shut_down, within};

#[tokio::test(start_paused = true)]
async fn tree_6_a_group_is_refused_to_outsiders_and_reached_by_handlers() {
    for door in [Desk::plain, Desk::mail] {
        let desk = Desk::new();
        let clerk = |id| door(&desk, id).group(CLERKS.to_actor_name());
        let tree = builder()
            .child(desk.plain("one"))
            .child(clerk("left"))
            .child(clerk("right"))
            .start()
            .await
            .unwrap();
        let clerks = tree.group(&CLERKS).unwrap();
        tree.cast(ONE, Job::Spread(tree.clone())).unwrap();
        desk.begun.wait_for(1).await;
        let stopping = begin(&tree).await;

        let is_final = |it: &Refusal| matches!(it, Refusal::ShuttingDown { .. });
        let back = clerks.cast(Route::RoundRobin, Job::Note(9)).unwrap_err();
        assert!(is_final(&back.refusal) && matches!(back.message, Job::Note(9)));
        let sent = clerks.send(Route::LeastQueued, Job::Note(9), HOUR).await;
        let back = sent.unwrap_err();
        assert!(is_final(&back.refusal) && matches!(back.message, Job::Note(9)));
        let called = clerks.call(Route::key(&1), Job::Answer, HOUR).await;
        assert!(matches!(called, Err(CallError::Refused(back)) if is_final(&back.refusal)));
        let refusal = clerks.broadcast_with(|_| Job::Note(9)).unwrap_err();
        assert!(is_final(&refusal), "{refusal}");

        desk.open();
        let report = within("the end", stopping).await.unwrap();
        assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
        let mut done = desk.done.entries();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 3, 42]);
        assert_books_balance!(tree.scope());
    }
}

#[tokio::test(start_paused = true)]
async fn tree_6_who_waits_for_a_member_is_refused_when_the_shutdown_begins() {
    let tree = builder().start().await.unwrap();
    let empty = tree.group(&EMPTY).unwrap();
    let waiting = tokio::spawn({
        let empty = empty.clone();
        async move {
            empty
                .send(Route::RoundRobin, Job::Note(3), Duration::MAX)
                .await
        }
    });
    // It waits: nothing else can go on.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let report = shut_down(&tree).await;
    assert!(report.is_clean() && !report.ran_out_of_time, "{report}");
    let back = within("the refusal", waiting).await.unwrap().unwrap_err();
    assert!(matches!(back.refusal, Refusal::ShuttingDown { .. }));
    assert!(matches!(back.message, Job::Note(3)));
}
