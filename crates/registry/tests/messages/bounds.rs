//! How much a mailbox holds, and what happens where it holds no more.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use perennial_lifecycle::{self as lifecycle, DeadReason, ExitReason, Mailbox, Terms};
use perennial_registry::{CallError, CastError, Refusal};
use perennial_supervisor::Supervisor;
use tokio::time::Instant;

use crate::support::{Desk, Door, Fixture, Job, SCRIBE, SECOND};

fn number(error: &CastError<Job>) -> u32 {
    match error {
        CastError {
            message: Job::Write(n),
            refusal: Refusal::Full { capacity: 3, .. },
        } => *n,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn msg_4_a_mailbox_is_bounded_unless_asked_otherwise() {
    assert_eq!(Mailbox::default().capacity(), 10_000);
    for door in Door::BOTH {
        for (mailbox, holds) in [
            (Mailbox::default(), Some(10_000)),
            (Mailbox::bounded(3), Some(3)),
            (Mailbox::unbounded(), None),
        ] {
            let it = Fixture::behind(door, mailbox).await;
            it.block().await;
            let begin = Instant::now();
            it.write(0..holds.unwrap_or(20_000));
            let refused = it.registry.cast(SCRIBE, Job::Write(0));
            match (refused, holds) {
                (Ok(()), None) => {}
                (
                    Err(CastError {
                        refusal: Refusal::Full { capacity, .. },
                        ..
                    }),
                    Some(holds),
                ) => {
                    assert_eq!(capacity, u64::from(holds));
                    assert_eq!(it.figures().refused, 1);
                }
                (other, _) => panic!("{other:?}"),
            }
            assert_eq!(begin, Instant::now());
            it.assert_balanced();
            it.go();
            it.finish().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_let_in_and_is_not_sent_gives_its_room_back() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(1)).await;
        let run = it.registry.resolve(&SCRIBE).unwrap().incarnation().unwrap();
        let way_in = lifecycle::Door::<Job>::new(run);
        it.block().await;
        let entry = way_in.enter_quickly().unwrap();
        assert!(way_in.enter_quickly().is_none());
        drop(entry);
        it.assert_balanced();
        let entry = way_in.enter_quickly().unwrap();
        assert!(entry.send(Job::Write(0), |_| Terms::default()).is_ok());
        assert!(way_in.enter_quickly().is_none());
        it.assert_balanced();
        // To what takes other messages there is no way in.
        let other = lifecycle::Door::<u32>::new(Arc::clone(way_in.run()));
        assert!(other.enter_quickly().is_none());
        it.go();
        assert_eq!(it.notes().await, [0]);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_a_send_waits_for_room_to_its_deadline() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3)).await;
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        it.block().await;
        it.write(0..3);
        // In vain.
        let begin = Instant::now();
        let late = scribe.send(Job::Write(99), SECOND).await.unwrap_err();
        assert_eq!((number(&late), begin.elapsed()), (99, SECOND));
        let by_name = it.registry.send(SCRIBE, Job::Write(98), SECOND);
        assert_eq!(number(&by_name.await.unwrap_err()), 98);
        assert_eq!(begin.elapsed(), 2 * SECOND);
        it.assert_balanced();
        // To be served.
        let sends = (3..8).map(|n| scribe.send(Job::Write(n), SECOND));
        let mut sends = pin!(futures_util::future::join_all(sends));
        assert!(sends.as_mut().now_or_never().is_none());
        let registry = it.registry.clone();
        let mut by_name = pin!(registry.send(SCRIBE, Job::Write(8), SECOND));
        assert!(by_name.as_mut().now_or_never().is_none());
        it.go();
        assert!(sends.await.iter().all(Result::is_ok));
        by_name.await.unwrap();
        assert_eq!(it.notes().await, (0..9).collect::<Vec<_>>());
        assert_eq!(it.figures().refused, 2);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_a_call_waits_for_room_to_its_deadline() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3)).await;
        it.block().await;
        it.write(0..3);
        let late = it.registry.call(SCRIBE, Job::Read, SECOND).await;
        let Err(CallError::Refused(CastError { message, refusal })) = late else {
            panic!("{late:?}");
        };
        assert!(matches!(message, Job::Read(_)));
        assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
        let (notes, ()) = tokio::join!(it.notes(), async { it.go() });
        assert_eq!(notes, [0, 1, 2]);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_waiters_that_give_up_leave_no_trace() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3)).await;
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        it.block().await;
        it.write(0..3);
        {
            let mut first = pin!(scribe.send(Job::Write(90), SECOND));
            let mut second = pin!(scribe.send(Job::Write(91), SECOND));
            assert!(first.as_mut().now_or_never().is_none());
            assert!(second.as_mut().now_or_never().is_none());
        }
        // One that is told of room and given up before it is polled: its turn is the next one's.
        let mut third = Box::pin(scribe.send(Job::Write(92), SECOND));
        let mut fourth = pin!(scribe.send(Job::Write(3), SECOND));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(fourth.as_mut().now_or_never().is_none());
        it.go();
        tokio::task::yield_now().await;
        drop(third);
        fourth.await.unwrap();
        assert_eq!(it.notes().await, [0, 1, 2, 3]);
        assert_eq!(it.figures().refused, 0);
        // Nobody waits: casts find room again.
        it.block().await;
        it.write(4..7);
        it.go();
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_the_end_of_the_run_wakes_those_who_wait_for_room() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3)).await;
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        it.block().await;
        it.write(0..3);
        let sends = (3..6).map(|n| scribe.send(Job::Write(n), 60 * SECOND));
        let mut sends = pin!(futures_util::future::join_all(sends));
        assert!(sends.as_mut().now_or_never().is_none());
        let begin = Instant::now();
        it.run().kill();
        if door == Door::Mail {
            it.desk.blocked.notified().await;
            it.go();
        }
        assert!(sends.await.iter().all(Result::is_ok));
        assert_eq!(begin, Instant::now());
        let expected: &[u32] = match door {
            Door::Plain => &[3, 4, 5],
            Door::Mail => &[0, 1, 2, 3, 4, 5],
        };
        assert_eq!(it.notes().await, expected);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_6_a_mailbox_may_refuse_whoever_could_wait() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3).reject_when_full()).await;
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        it.block().await;
        it.write(0..3);
        let begin = Instant::now();
        assert_eq!(number(&scribe.cast(Job::Write(3)).unwrap_err()), 3);
        assert_eq!(
            number(&scribe.send(Job::Write(4), SECOND).await.unwrap_err()),
            4
        );
        let call = scribe.call(Job::Read, SECOND).await.unwrap_err();
        assert!(matches!(call.refusal(), Some(Refusal::Full { .. })));
        assert_eq!((begin, it.figures().refused), (Instant::now(), 3));
        it.go();
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_5_a_restart_puts_no_deadline_off() {
    let it = Fixture::start(Mailbox::bounded(3)).await;
    let scribe = it.registry.resolve(&SCRIBE).unwrap();
    let begin = Instant::now();
    it.block().await;
    it.write(0..3);
    let restart = async {
        tokio::time::sleep(40 * SECOND).await;
        it.run().kill();
        it.desk.blocked.notified().await;
    };
    let (late, ()) = tokio::join!(scribe.send(Job::Write(7), 60 * SECOND), restart);
    assert_eq!(number(&late.unwrap_err()), 7);
    assert_eq!(begin.elapsed(), 60 * SECOND);
    it.go();
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_7_a_mailbox_may_drop_what_is_newest() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3).drop_newest()).await;
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        it.block().await;
        it.write(0..5);
        scribe.send(Job::Write(5), SECOND).await.unwrap();
        let begin = Instant::now();
        // A caller waits for an answer: it is told, and has its message back.
        let call = scribe.call(Job::Read, SECOND).await;
        let Err(CallError::Refused(CastError { message, refusal })) = call else {
            panic!("{call:?}");
        };
        assert!(matches!(message, Job::Read(_)));
        assert!(matches!(refusal, Refusal::Full { capacity: 3, .. }));
        assert_eq!(begin, Instant::now());
        assert_eq!(
            (it.dead_reasons(), it.figures().refused),
            (vec![DeadReason::Overflow; 3], 1)
        );
        it.assert_balanced();
        it.go();
        it.settled().await;
        assert_eq!(it.notes().await, [0, 1, 2]);
        it.dead().replay(it.dead_list()[2].id).unwrap();
        assert_eq!(it.notes().await, [0, 1, 2, 5]);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_8_a_mailbox_may_drop_what_is_oldest() {
    for capacity in [1, 3] {
        let mailbox = Mailbox::bounded(capacity).drop_oldest::<Job>();
        let it = Fixture::start(mailbox).await;
        it.block().await;
        it.write(0..10);
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        scribe.send(Job::Write(10), SECOND).await.unwrap();
        let dropped = 11 - capacity;
        assert_eq!(
            it.dead_reasons(),
            vec![DeadReason::Overflow; dropped as usize]
        );
        assert_eq!(it.figures().depth, capacity.into());
        it.assert_balanced();
        // What is in hand comes back in front, and is over what there is room for.
        it.run().kill();
        it.desk.blocked.notified().await;
        it.go();
        it.settled().await;
        let notes = it.notes().await;
        assert_eq!(notes, (dropped..11).collect::<Vec<_>>());
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_29_a_call_that_its_mailbox_drops_fails_at_once() {
    let any = |_: &Job| ();
    for mailbox in [
        Mailbox::bounded(1).drop_oldest::<Job>(),
        Mailbox::bounded(1).coalesce(any),
    ] {
        let it = Fixture::start(mailbox).await;
        it.block().await;
        let begin = Instant::now();
        let (call, ()) = tokio::join!(it.registry.call(SCRIBE, Job::Read, SECOND), async {
            it.write([1]);
        });
        assert!(matches!(call, Err(CallError::Dropped { .. })), "{call:?}");
        assert!(call.unwrap_err().is_retryable());
        assert_eq!(begin, Instant::now());
        it.assert_balanced();
        it.go();
        it.settled().await;
        assert_eq!(it.notes().await, [1]);
        it.finish().await;
    }
}

fn by_ten(job: &Job) -> Option<u32> {
    match job {
        Job::Write(n) | Job::Hold(n) => Some(n / 10),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn msg_9_a_mailbox_may_keep_only_the_last_of_a_key() {
    let it = Fixture::start(Mailbox::bounded(3).coalesce(by_ten)).await;
    let scribe = it.registry.resolve(&SCRIBE).unwrap();
    it.block().await;
    it.write([10, 20, 30, 11, 31, 12]);
    assert_eq!(
        (it.figures().depth, it.figures().dead, it.dead().total()),
        (3, 3, 3)
    );
    assert_eq!(number(&scribe.cast(Job::Write(40)).unwrap_err()), 40);
    it.assert_balanced();
    // A crash keeps the places and the keys.
    it.run().kill();
    it.desk.blocked.notified().await;
    it.write([21, 32]);
    let mut late = pin!(scribe.send(Job::Write(40), SECOND));
    assert!(late.as_mut().now_or_never().is_none());
    it.go();
    late.await.unwrap();
    assert_eq!(it.notes().await, [12, 21, 32, 40]);
    it.write([22, 22]);
    it.write([33]);
    assert_eq!(it.notes().await, [12, 21, 32, 40, 22, 33]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_9_a_message_that_comes_back_leaves_a_later_one_its_key() {
    let it = Fixture::start(Mailbox::bounded(9).coalesce(by_ten)).await;
    it.cast(Job::Hold(10));
    it.desk.blocked.notified().await;
    it.write([11]);
    // The one in hand goes in front of the other, and is in hand again.
    it.run().kill();
    it.desk.blocked.notified().await;
    it.write([12]);
    assert_eq!(it.figures().depth, 1);
    it.go();
    assert_eq!(it.notes().await, [10, 10, 12]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_10_a_full_mailbox_holds_up_no_stop() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3)).await;
        it.block().await;
        it.write(0..3);
        let run = it.run();
        let stop = it.supervisor.terminate_child("scribe");
        let (stopped, ()) = tokio::join!(stop, async {
            it.settled().await;
            assert!(run.is_ending());
            it.go();
        });
        stopped.unwrap();
        assert!(matches!(run.exit_reason(), Some(ExitReason::Shutdown)));
        // Ahead of all that waits.
        assert_eq!(*it.desk.notes.lock().unwrap(), []);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_10_a_full_mailbox_holds_up_no_kill() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(3)).await;
        it.block().await;
        it.write(0..3);
        let run = it.run();
        run.kill();
        assert!(matches!(run.ended().await, ExitReason::Killed));
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_10_a_full_mailbox_holds_up_nothing_of_the_framework_nor_of_the_actor_itself() {
    let it = Fixture::behind(Door::Plain, Mailbox::bounded(3)).await;
    it.block().await;
    it.write(0..3);
    let run = it.run();
    run.post(Job::Write(3)).map_err(drop).unwrap();
    let own = run.actor_ref::<Job>().unwrap();
    own.send_message(Job::Write(4)).unwrap();
    it.go();
    let scribe = it.registry.resolve(&SCRIBE).unwrap();
    scribe.send(Job::Write(5), SECOND).await.unwrap();
    assert_eq!(it.notes().await, [0, 1, 2, 3, 4, 5]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_10_an_actor_may_send_itself_more_than_there_is_room_for() {
    let it = Fixture::start(Mailbox::bounded(3)).await;
    it.block().await;
    it.write(0..3);
    let own = it
        .run()
        .actor_ref::<perennial_lifecycle::Mail<Job>>()
        .unwrap();
    for n in 3..6 {
        own.send_message(Job::Write(n).into()).unwrap();
    }
    it.go();
    let scribe = it.registry.resolve(&SCRIBE).unwrap();
    scribe.send(Job::Write(6), SECOND).await.unwrap();
    assert_eq!(it.notes().await, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(it.figures().uncounted, 3);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_11_settings_that_cannot_work_are_errors() {
    let desk = std::sync::Arc::new(Desk::default());
    for door in Door::BOTH {
        for capacity in [0, 1 << 31, u32::MAX] {
            let spec = door.spec("scribe", &desk);
            let spec = spec.mailbox(Mailbox::bounded(capacity));
            let refused = Supervisor::builder().child(spec).build().unwrap_err();
            assert!(refused.to_string().contains("capacity"), "{refused}");
        }
        for mailbox in [Mailbox::bounded((1 << 31) - 1), Mailbox::unbounded()] {
            let spec = door.spec("scribe", &desk).mailbox(mailbox);
            assert!(Supervisor::builder().child(spec).build().is_ok());
        }
    }
    for mailbox in [
        Mailbox::bounded(3).drop_oldest::<Job>(),
        Mailbox::bounded(3).coalesce(by_ten),
        Mailbox::bounded(3).coalesce(|n: &u32| *n),
    ] {
        let it = Fixture::behind(Door::Mail, Mailbox::default()).await;
        let spec = Door::Plain.spec("plain", &desk).mailbox(mailbox);
        let refused = it.supervisor.start_child(spec).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("type Msg = Mail<"), "{text}");
        it.finish().await;
    }
    // An envelope for other messages does not do either.
    let it = Fixture::behind(Door::Mail, Mailbox::default()).await;
    let spec = Door::Mail.spec("other", &desk);
    let spec = spec.mailbox(Mailbox::bounded(3).drop_oldest::<u32>());
    assert!(it.supervisor.start_child(spec).await.is_err());
    it.finish().await;
}
