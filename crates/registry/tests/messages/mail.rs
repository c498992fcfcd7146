//! Messages in envelopes, over crashes and restarts.

use std::sync::{Arc, Mutex};

use perennial_lifecycle::{
    AtRestart, ChildKind, ChildSpec, DeadReason, EventKind, ExitReason, Mail, Mailbox,
    StartContext, Started,
};
use perennial_registry::CallError;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::support::{Desk, Door, Fixture, Job, SCRIBE, SECOND, Scribe};

#[tokio::test(start_paused = true)]
async fn msg_1_what_waits_at_a_crash_is_handled_by_the_next_run_in_order() {
    let it = Fixture::start(Mailbox::default().poison_after(1)).await;
    it.block().await;
    for n in 0..10 {
        it.cast(if n % 3 == 0 {
            Job::Fail(n)
        } else {
            Job::Write(n)
        });
    }
    it.go();
    assert_eq!(it.notes().await, (0..10).collect::<Vec<_>>());
    assert_eq!(it.dead_reasons(), [DeadReason::Poison; 4]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_1_what_comes_while_nobody_runs_comes_behind_what_waits() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    it.write(0..3);
    it.run().kill();
    // It waits for the next run outside, behind those that are inside.
    let scribe = it.registry.resolve(&SCRIBE).unwrap();
    let late = scribe.send(Job::Write(3), SECOND);
    it.desk.blocked.notified().await;
    it.go();
    late.await.unwrap();
    assert_eq!(it.notes().await, [0, 1, 2, 3]);
    assert_eq!(it.figures().redelivered, 1);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_2_a_message_that_is_in_hand_at_three_crashes_is_set_aside() {
    for job in [Job::Fail as fn(u32) -> Job, Job::Panic] {
        let it = Fixture::start(Mailbox::default()).await;
        it.cast(job(1));
        it.write([2]);
        assert_eq!(it.notes().await, [1, 1, 1, 2]);
        let dead = it.dead_list();
        assert_eq!((dead.len(), dead[0].crashes), (1, 3));
        assert_eq!(dead[0].reason, DeadReason::Poison);
        let crashes = |at: usize| it.desk.envelopes.lock().unwrap()[at].crashes;
        assert_eq!([0, 1, 2, 3].map(crashes), [0, 1, 2, 0]);
        let figures = it.figures();
        assert_eq!(
            (figures.redelivered, figures.dead, figures.failed),
            (2, 1, 0)
        );
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_2_a_message_that_is_in_hand_at_three_kills_is_set_aside() {
    let it = Fixture::start(Mailbox::default()).await;
    it.cast(Job::Hold(1));
    it.write([2]);
    for _ in 0..3 {
        it.desk.blocked.notified().await;
        it.run().kill();
    }
    assert_eq!(it.notes().await, [1, 1, 1, 2]);
    assert_eq!(it.dead_reasons(), [DeadReason::Poison]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_2_the_events_tell_of_a_message_that_is_set_aside_before_the_end_of_its_run() {
    let it = Fixture::start(Mailbox::default().poison_after(2)).await;
    let mut events = it.scope.events().subscribe();
    it.cast(Job::Fail(1));
    it.cast(Job::Hold(2));
    it.desk.blocked.notified().await;
    it.run().kill();
    it.desk.blocked.notified().await;
    it.run().kill();
    assert_eq!(it.notes().await, [1, 1, 2, 2]);
    let mut told = Vec::new();
    while let Some(event) = events.next_ready() {
        match event.unwrap().kind {
            EventKind::SetAside {
                incarnation,
                crashes,
                dead_letter,
                message,
            } => {
                assert!(message.ends_with("Job"));
                told.push(format!("{incarnation} {crashes} {dead_letter}"));
            }
            EventKind::Exited { incarnation, .. } => told.push(format!("end of {incarnation}")),
            _ => {}
        }
    }
    assert_eq!(
        told,
        [
            "end of 1", "2 2 0", "end of 2", "end of 3", "4 2 1", "end of 4"
        ]
    );
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_2_the_number_of_crashes_is_chosen() {
    for (chosen, times) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
        let it = Fixture::start(Mailbox::default().poison_after(chosen)).await;
        it.cast(Job::Fail(1));
        it.write([2]);
        let mut expected = vec![1; times];
        expected.push(2);
        assert_eq!(it.notes().await, expected);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_3_a_message_that_was_taken_out_is_handled_at_most_once() {
    let it = Fixture::start(Mailbox::default()).await;
    it.cast(Job::Once(1));
    it.write([2]);
    assert_eq!(it.notes().await, [1, 2]);
    assert_eq!(it.dead().total(), 0);
    let figures = it.figures();
    assert_eq!((figures.failed, figures.redelivered), (1, 0));
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_12_what_waits_is_returned_where_the_spec_says_so() {
    let it = Fixture::start(Mailbox::default().at_restart(AtRestart::Return)).await;
    it.block().await;
    it.write(0..3);
    let waiting = it.registry.call(SCRIBE, Job::Read, 60 * SECOND);
    let kill = async { it.run().kill() };
    let (answer, ()) = tokio::join!(waiting, kill);
    assert!(
        matches!(
            &answer,
            Err(CallError::CalleeFailed {
                reason: ExitReason::Killed,
                ..
            })
        ),
        "{answer:?}"
    );
    // The one in hand is returned as well.
    assert_eq!(it.dead_reasons(), [DeadReason::Returned; 5]);
    let figures = it.figures();
    assert_eq!((figures.returned, figures.redelivered), (5, 0));
    assert_eq!(it.notes().await, []);
    let kept = it.dead_list();
    let kept = kept.iter().filter(|it| it.is_kept && it.crashes == 0);
    for letter in kept {
        it.dead().replay(letter.id).unwrap();
    }
    assert_eq!(it.notes().await, [0, 1, 2]);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_13_a_plain_mailbox_is_lost_at_a_crash_and_counted() {
    for job in [Job::Fail as fn(u32) -> Job, Job::Panic, Job::Hold] {
        let it = Fixture::behind(Door::Plain, Mailbox::default()).await;
        it.block().await;
        it.cast(job(1));
        it.write(2..7);
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        let monitor = scribe.monitor().unwrap();
        it.go();
        if matches!(job(1), Job::Hold(_)) {
            it.desk.blocked.notified().await;
            it.run().kill();
        }
        monitor.await;
        assert_eq!(it.notes().await, [1]);
        let figures = it.figures();
        assert_eq!((figures.failed, figures.dead), (1, 5));
        let dead = it.dead_list();
        assert_eq!((dead.len(), dead[0].messages, it.dead().total()), (1, 5, 5));
        assert_eq!(
            (dead[0].reason, dead[0].is_kept),
            (DeadReason::Stopped, false)
        );
        it.finish().await;
    }
}

/// A message that is not a job.
struct Other;

struct OtherActor;

impl Actor for OtherActor {
    type Msg = Mail<Other>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn msg_14_what_waits_for_an_actor_of_another_type_becomes_dead_letters() {
    let desk = Arc::new(Desk::default());
    let inside = Arc::clone(&desk);
    let start = move |context: StartContext| {
        let desk = Arc::clone(&inside);
        async move {
            Ok::<_, perennial_lifecycle::StartError>(Started::from(match context.incarnation() {
                2 => context.spawn(OtherActor, ()).await?,
                _ => context.spawn(Scribe(desk), ()).await?,
            }))
        }
    };
    let spec = ChildSpec::from_fn("scribe", ChildKind::Worker, start).name(SCRIBE.to_actor_name());
    let it = Fixture::of(desk, [spec]).await;
    it.block().await;
    it.write(0..2);
    // Who holds it holds its letterbox, too: the books count both.
    let first = it.run();
    first.kill();
    it.settled().await;
    let present = it.run();
    assert_eq!((first.number(), present.number()), (1, 2));
    assert_eq!(it.dead_reasons(), [DeadReason::OtherType; 3]);
    let id = it.dead_list()[1].id;
    let refused = it.dead().replay(id);
    assert_eq!(refused, Err(perennial_lifecycle::ReplayError::OtherType));
    it.assert_balanced();
    drop(first);
    it.assert_balanced();

    present.kill();
    it.settled().await;
    assert_eq!(it.run().number(), 3);
    it.dead().replay(id).unwrap();
    assert_eq!(it.notes().await, [0]);
    it.finish().await;
}

/// Keeps the envelopes that it is given.
struct Hoarder(Arc<Mutex<Vec<Mail<Job>>>>);

impl Actor for Hoarder {
    type Msg = Mail<Job>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        job: Mail<Job>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Job::Fail(_) = *job {
            return Err("as told".into());
        }
        self.0.lock().unwrap().push(job);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn msg_3_a_message_that_was_put_away_is_handled_as_far_as_the_books_go() {
    let kept: Arc<Mutex<Vec<Mail<Job>>>> = Arc::default();
    let inside = Arc::clone(&kept);
    let spec = ChildSpec::worker("scribe", move || (Hoarder(Arc::clone(&inside)), ()))
        .name(SCRIBE.to_actor_name())
        .mailbox(Mailbox::default().poison_after(1));
    let it = Fixture::of(Arc::default(), [spec]).await;
    it.write(0..2);
    it.cast(Job::Fail(2));
    it.write([3]);
    it.settled().await;
    assert_eq!(kept.lock().unwrap().len(), 3);
    let figures = it.figures();
    assert_eq!((figures.handled, figures.dead), (3, 1));
    let mut all = std::mem::take(&mut *kept.lock().unwrap());
    assert!(matches!(all.remove(0).into_inner(), Job::Write(0)));
    drop(all);
    it.finish().await;
}
