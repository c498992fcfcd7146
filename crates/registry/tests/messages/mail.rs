//! Messages in envelopes.

use perennial_lifecycle::{DeadReason, Mailbox};

use crate::support::{Fixture, Job, SCRIBE};

#[tokio::test(start_paused = true)]
async fn msg_1_what_waits_at_a_crash_is_handled_by_the_next_run_in_order() {
    let it = Fixture::start(Mailbox::default().poison_after(1)).await;
    it.block().await;
    for n in 0..10 {
        let job = if n % 3 == 0 {
            Job::Fail(n)
        } else {
            Job::Write(n)
        };
        it.registry.cast(SCRIBE, job).unwrap();
    }
    it.desk.go.notify_one();
    assert_eq!(it.notes().await, (0..10).collect::<Vec<_>>());
    it.assert_balanced();
    let dead = it.scope.traffic().dead_letters().list();
    assert_eq!(dead.len(), 4);
    assert!(dead.iter().all(|it| it.reason == DeadReason::Poison));
}

#[tokio::test(start_paused = true)]
async fn msg_2_a_message_that_is_in_hand_at_three_crashes_is_set_aside() {
    let it = Fixture::start(Mailbox::default()).await;
    it.registry.cast(SCRIBE, Job::Fail(1)).unwrap();
    it.registry.cast(SCRIBE, Job::Write(2)).unwrap();
    assert_eq!(it.notes().await, [1, 1, 1, 2]);
    let dead = it.scope.traffic().dead_letters().list();
    assert_eq!((dead.len(), dead[0].crashes), (1, 3));
    it.assert_balanced();
    drop(it.supervisor);
}
