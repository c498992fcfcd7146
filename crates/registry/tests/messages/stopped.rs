//! Places that were given up.

use std::sync::Arc;

use futures_util::FutureExt as _;
use perennial_lifecycle::{DeadReason, ExitReason, Mailbox};
use perennial_registry::{CallError, CastError, Name, Refusal};
use tokio::time::{Instant, timeout};

use crate::support::{CLERK, Desk, Door, Fixture, Job, SCRIBE, SECOND};

#[tokio::test(start_paused = true)]
async fn msg_25_what_is_sent_to_an_actor_that_is_not_started_again_is_refused_at_once() {
    for door in Door::BOTH {
        for is_temporary in [true, false] {
            let desk = Arc::new(Desk::default());
            let spec = door.spec("scribe", &desk);
            let spec = match is_temporary {
                true => spec.temporary(),
                false => spec.transient(),
            };
            let it = Fixture::of(desk, [spec]).await;
            let scribe = it.registry.resolve(&SCRIBE).unwrap();
            it.block().await;
            it.write([1]);
            let begin = Instant::now();
            let waiting = it.registry.call(SCRIBE, Job::Read, 60 * SECOND);
            let (call, ()) = tokio::join!(waiting, async {
                it.run().stop(ExitReason::Normal);
                it.go();
            });
            assert!(
                matches!(call, Err(CallError::CalleeFailed { .. })),
                "{call:?}"
            );
            // Also one that came between the end and the supervisor's word.
            let send = scribe.send(Job::Write(2), 60 * SECOND).await.unwrap_err();
            let cast = it.registry.cast(SCRIBE, Job::Write(2)).unwrap_err();
            for CastError { message, refusal } in [send, cast] {
                assert!(matches!(message, Job::Write(2)));
                assert!(matches!(refusal, Refusal::Stopped { .. }), "{refusal}");
                assert!(!refusal.is_retryable());
            }
            assert!(begin.elapsed() < SECOND);
            assert!(
                it.dead_reasons()
                    .iter()
                    .all(|it| *it == DeadReason::Stopped)
            );
            assert_eq!(it.dead().total(), 2);
            it.assert_balanced();
            // The held address reaches whoever is started later.
            match is_temporary {
                true => {
                    let again = door.spec("scribe", &it.desk);
                    drop(it.supervisor.start_child(again).await.unwrap());
                }
                false => drop(it.supervisor.restart_child("scribe").await.unwrap()),
            }
            assert_eq!(scribe.call(Job::Read, SECOND).await.unwrap(), []);
            it.finish().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn msg_25_a_terminated_child_keeps_its_mail_until_it_is_deleted_or_the_tree_ends() {
    for is_deleted in [true, false] {
        let it = Fixture::start(Mailbox::default()).await;
        it.block().await;
        it.write([1]);
        it.run().kill();
        it.supervisor.terminate_child("scribe").await.unwrap();
        it.supervisor.restart_child("scribe").await.unwrap();
        it.desk.blocked.notified().await;
        it.supervisor.terminate_child("scribe").now_or_never();
        it.go();
        it.supervisor.terminate_child("scribe").await.unwrap();
        assert_eq!(it.dead().total(), 0);
        let begin = Instant::now();
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        let send = scribe.send(Job::Write(2), 60 * SECOND);
        let (send, ()) = tokio::join!(send, async {
            it.settled().await;
            match is_deleted {
                true => it.supervisor.delete_child("scribe").await.unwrap(),
                false => it.supervisor.stop(ExitReason::Shutdown).await,
            }
        });
        let refusal = send.unwrap_err().refusal;
        assert!(matches!(refusal, Refusal::Stopped { .. }), "{refusal}");
        assert!(begin.elapsed() < SECOND);
        assert_eq!(it.dead_reasons(), [DeadReason::Stopped]);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn tree_9_what_begins_after_the_end_of_its_tree_is_given_up_as_well() {
    let it = Fixture::start(Mailbox::default()).await;
    it.scope.give_up();
    assert!(it.node().is_retired());
    // A supervisor that goes itself may come to an end that it has just heard of.
    it.run().kill();
    it.settled().await;
    assert_eq!(it.run().number(), 2);
    assert!(it.node().is_retired());
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_25_who_waits_for_a_name_hears_that_its_tree_was_given_up() {
    let it = Fixture::start(Mailbox::default()).await;
    for id in ["scribe", "clerk"] {
        it.supervisor.terminate_child(id).await.unwrap();
    }
    // Its place is no longer in the tree.
    it.supervisor.delete_child("clerk").await.unwrap();
    let told = [
        (SCRIBE, "`scribe` has stopped for good"),
        (CLERK, "`clerk` has stopped for good"),
        (Name::new("nobody"), "no actor is named `nobody`"),
    ];
    let waits = told.clone().map(|(name, text)| {
        let registry = it.registry.clone();
        let wait = async move { registry.wait_for(&name).await.map(drop) };
        (tokio::spawn(wait), text)
    });
    it.settled().await;
    it.scope.give_up();
    for (wait, text) in waits {
        let told = timeout(60 * SECOND, wait).await.unwrap().unwrap();
        assert_eq!(told.unwrap_err().to_string(), text);
    }
    for (name, text) in told {
        let told = timeout(60 * SECOND, it.registry.wait_for(&name)).await;
        assert_eq!(told.unwrap().unwrap_err().to_string(), text);
    }
}
