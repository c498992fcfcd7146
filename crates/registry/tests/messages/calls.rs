//! Calls: their deadlines, their envelopes, and what a caller is told.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_lifecycle::{ChildSpec, ExitReason, Mailbox};
use perennial_registry::{CallError, CastError, Gate, GateRefused, Name, Refusal, WhenDown};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::{Instant, sleep};

use crate::support::{CLERK, Door, Envelope, Fixture, Job, SCRIBE, SECOND, task};

#[tokio::test(start_paused = true)]
async fn msg_15_a_message_whose_deadline_has_passed_is_skipped_and_counted() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    let noted = Arc::new(Mutex::new(0));
    let inside = Arc::clone(&noted);
    let work = task(move || {
        *inside.lock().unwrap() += 1;
        async { Ok(()) }
    });
    let ask = |reply| Job::Ask(work, reply);
    let call = it.registry.call(SCRIBE, ask, SECOND).await;
    assert!(
        matches!(
            call,
            Err(CallError::TimedOut {
                timeout: SECOND,
                ..
            })
        ),
        "{call:?}"
    );
    it.write([1]);
    it.go();
    assert_eq!(it.notes().await, [1]);
    assert_eq!(*noted.lock().unwrap(), 0);
    let figures = it.figures();
    // The block, the note and the read.
    assert_eq!((figures.expired, figures.handled), (1, 3));
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_15_a_call_whose_caller_has_gone_is_skipped_and_counted() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    {
        let mut call = pin!(it.registry.call(SCRIBE, Job::Look, 60 * SECOND));
        assert!(call.as_mut().now_or_never().is_none());
    }
    it.go();
    assert_eq!(it.notes().await, []);
    let figures = it.figures();
    assert_eq!((figures.expired, figures.handled), (1, 2));
    // The block and the reading.
    assert_eq!(it.desk.envelopes.lock().unwrap().len(), 2);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_19_a_call_is_woken_by_its_answer_whoever_has_polled_it_before() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::default()).await;
        let (registry, took) = (it.registry.clone(), Arc::new(Mutex::new(None)));
        let inside = Arc::clone(&took);
        let call = task(move || {
            let (registry, took) = (registry.clone(), Arc::clone(&inside));
            async move {
                let began = Instant::now();
                let slowly = task(|| async {
                    sleep(SECOND).await;
                    Ok(())
                });
                let ask = |reply| Job::Ask(slowly, reply);
                let mut call = pin!(registry.call(CLERK, ask, 60 * SECOND));
                // Nobody is woken by this look.
                assert!(call.as_mut().now_or_never().is_none());
                assert_eq!(call.await.unwrap(), 7);
                *took.lock().unwrap() = Some(began.elapsed());
                Ok(())
            }
        });
        it.ask(call).await.unwrap();
        assert_eq!(*took.lock().unwrap(), Some(SECOND));
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_16_a_handler_reads_what_is_written_on_the_envelope() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    let mut look = Box::pin(it.registry.call(SCRIBE, Job::Look, 10 * SECOND));
    assert!(look.as_mut().now_or_never().is_none());
    sleep(3 * SECOND).await;
    it.go();
    let expected = Envelope {
        time_left: Some(7 * SECOND),
        age: 3 * SECOND,
        sender: None,
        crashes: 0,
        is_call: true,
        is_abandoned: false,
    };
    assert_eq!(look.await.unwrap(), expected);
    // A cast from an actor: no deadline, and its sender.
    let registry = it.registry.clone();
    let tell = task(move || {
        registry.cast(SCRIBE, Job::Write(1)).unwrap();
        async { Ok(()) }
    });
    let ask = |reply| Job::Ask(tell, reply);
    it.registry.call(CLERK, ask, SECOND).await.unwrap();
    it.notes().await;
    let clerk = it.supervisor.node().child("clerk").unwrap();
    let expected = Envelope {
        sender: Some(clerk.path().clone()),
        ..Envelope::default()
    };
    assert_eq!(it.desk.envelopes.lock().unwrap()[2], expected);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_16_a_sender_in_another_tree_is_none_of_the_tree() {
    for door in Door::BOTH {
        let mailbox = Mailbox::bounded(2).drop_newest();
        let (it, other) = (
            Fixture::behind(door, mailbox).await,
            Fixture::start(Mailbox::default()).await,
        );
        let registry = it.registry.clone();
        let tell = task(move || {
            let registry = registry.clone();
            async move {
                registry.cast(SCRIBE, Job::Write(1)).unwrap();
                registry.call(SCRIBE, Job::Read, SECOND).await.unwrap();
                registry.cast(SCRIBE, Job::Block).unwrap();
                tokio::task::yield_now().await;
                (2..5).for_each(|n| registry.cast(SCRIBE, Job::Write(n)).unwrap());
                Ok(())
            }
        });
        // Its scribe lives at the same path.
        other.ask(tell).await.unwrap();
        let senders = |it: &Envelope| it.sender.is_some();
        assert!(!it.desk.envelopes.lock().unwrap().iter().any(senders));
        let dead = it.dead_list();
        assert!(
            !dead.is_empty() && dead.iter().all(|it| it.sender.is_none()),
            "{dead:?}"
        );
        it.go();
        it.settled().await;
        it.finish().await;
        other.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_16_a_handler_learns_that_its_caller_has_gone() {
    let it = Fixture::start(Mailbox::default()).await;
    let desk = Arc::clone(&it.desk);
    let wait = task(move || {
        let desk = Arc::clone(&desk);
        async move {
            desk.blocked.notify_one();
            desk.go.notified().await;
            Ok(())
        }
    });
    {
        let mut call = pin!(it.ask(wait));
        assert!(call.as_mut().now_or_never().is_none());
        it.desk.blocked.notified().await;
    }
    assert!(!it.desk.envelopes.lock().unwrap()[0].is_abandoned);
    it.go();
    it.notes().await;
    assert!(it.desk.left.lock().unwrap()[0].is_abandoned);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_17_a_call_in_a_handler_has_at_most_what_is_left_for_its_message() {
    let it = Fixture::start(Mailbox::default()).await;
    for (given, left) in [(60 * SECOND, 6 * SECOND), (2 * SECOND, 2 * SECOND)] {
        let registry = it.registry.clone();
        let seen = Arc::new(Mutex::new(None));
        let inside = Arc::clone(&seen);
        let pass_on = task(move || {
            let (registry, seen) = (registry.clone(), Arc::clone(&inside));
            async move {
                sleep(4 * SECOND).await;
                let look = registry.call(CLERK, Job::Look, given).await;
                *seen.lock().unwrap() = look.unwrap().time_left;
                Ok(())
            }
        });
        let ask = |reply| Job::Ask(pass_on, reply);
        it.registry.call(SCRIBE, ask, 10 * SECOND).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(left));
    }
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_17_a_call_to_another_tree_has_at_most_what_is_left_as_well() {
    let it = Fixture::start(Mailbox::default()).await;
    // By a clock of its own.
    sleep(7 * SECOND).await;
    let other = Fixture::start(Mailbox::default()).await;
    let (registry, seen) = (other.registry.clone(), Arc::new(Mutex::new(Vec::new())));
    let inside = Arc::clone(&seen);
    let pass_on = task(move || {
        let (registry, seen) = (registry.clone(), Arc::clone(&inside));
        async move {
            let clerk = registry.resolve(&CLERK).unwrap();
            let left = |look: Result<Envelope, CallError<Job>>| look.unwrap().time_left;
            for given in [60 * SECOND, 2 * SECOND] {
                let by_name = registry.call(CLERK, Job::Look, given).await;
                let held = clerk.call(Job::Look, given).await;
                seen.lock().unwrap().extend([left(by_name), left(held)]);
            }
            sleep(6 * SECOND).await;
            let never = registry.call(CLERK, Job::Look, 60 * SECOND).await;
            let refusal = never.unwrap_err().refusal().cloned();
            assert!(
                matches!(refusal, Some(Refusal::Expired { .. })),
                "{refusal:?}"
            );
            seen.lock().unwrap().push(None);
            Ok(())
        }
    });
    let ask = |reply| Job::Ask(pass_on, reply);
    let call = it.registry.call(SCRIBE, ask, 6 * SECOND).await;
    assert!(matches!(call, Err(CallError::TimedOut { .. })), "{call:?}");
    it.notes().await;
    let (six, two) = (Some(6 * SECOND), Some(2 * SECOND));
    assert_eq!(*seen.lock().unwrap(), [six, six, two, two, None]);
    it.finish().await;
    other.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_17_a_call_in_a_handler_ends_with_the_deadline_of_its_message() {
    let it = Fixture::start(Mailbox::default()).await;
    let (registry, seen) = (it.registry.clone(), Arc::new(Mutex::new(Vec::new())));
    let inside = Arc::clone(&seen);
    let calls = task(move || {
        let (registry, seen) = (registry.clone(), Arc::clone(&inside));
        async move {
            let begin = Instant::now();
            registry.cast(CLERK, Job::Block).unwrap();
            let late = registry.call(CLERK, Job::Look, 60 * SECOND).await;
            seen.lock().unwrap().push((late.map(drop), begin.elapsed()));
            let never = registry.call(CLERK, Job::Look, 60 * SECOND).await;
            seen.lock()
                .unwrap()
                .push((never.map(drop), begin.elapsed()));
            Ok(())
        }
    });
    let ask = |reply| Job::Ask(calls, reply);
    let call = it.registry.call(SCRIBE, ask, 5 * SECOND).await;
    assert!(matches!(call, Err(CallError::TimedOut { .. })), "{call:?}");
    it.notes().await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let [(Err(late), first), (Err(never), second)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(matches!(late, CallError::TimedOut { .. }), "{late:?}");
    // tokio's timers are in milliseconds, and wake up to one late.
    assert!(
        first.abs_diff(5 * SECOND) <= Duration::from_millis(1),
        "{first:?}"
    );
    assert_eq!(first, second);
    let CallError::Refused(CastError { message, refusal }) = never else {
        panic!("{never:?}");
    };
    assert!(matches!(
        (message, refusal),
        (Job::Look(_), Refusal::Expired { .. })
    ));
    it.finish().await;
}

/// A gate that is shut.
#[derive(Debug)]
struct Shut;

impl Gate for Shut {
    fn admit(&self) -> Result<(), GateRefused> {
        Err(GateRefused {
            retry_after: Some(SECOND),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn msg_20_what_is_refused_comes_back() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(1)).await;
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        let scribe = scribe.when_down(WhenDown::Fail);
        let back = async |kind: fn(&Refusal) -> bool| {
            let cast = scribe.cast(Job::Write(1)).unwrap_err();
            let send = scribe.send(Job::Write(2), SECOND).await.unwrap_err();
            assert!(matches!(
                (cast.message, send.message),
                (Job::Write(1), Job::Write(2))
            ));
            let call = scribe.call(Job::Read, SECOND).await.unwrap_err();
            let CallError::Refused(CastError {
                message: Job::Read(_),
                refusal: call,
            }) = call
            else {
                panic!("{call:?}");
            };
            for refusal in [cast.refusal, send.refusal, call] {
                assert!(kind(&refusal), "{refusal}");
            }
        };
        it.block().await;
        it.write([0]);
        back(|it| matches!(it, Refusal::Full { .. })).await;
        it.registry.set_gate(scribe.name(), Box::new(Shut));
        back(|it| matches!(it, Refusal::RateLimited { .. })).await;
        it.registry.clear_gate(scribe.name());
        it.run().kill();
        it.supervisor.terminate_child("scribe").await.unwrap();
        back(|it| matches!(it, Refusal::NotRunning { .. })).await;
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_21_a_caller_hears_why_its_callee_failed() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::default()).await;
        let begin = Instant::now();
        let failed = it.ask(task(|| async { Err("no ink".into()) })).await;
        let Err(CallError::CalleeFailed { reason, .. }) = failed else {
            panic!("{failed:?}");
        };
        assert!(reason.to_string().contains("no ink"), "{reason}");
        let panicked = it.ask(task(|| async { panic!("no paper") })).await;
        let Err(CallError::CalleeFailed { reason, .. }) = panicked else {
            panic!("{panicked:?}");
        };
        assert!(reason.to_string().contains("no paper"), "{reason}");
        let scribe = it.registry.resolve(&SCRIBE).unwrap();
        let kill = task(move || {
            scribe.incarnation().unwrap().kill();
            std::future::pending()
        });
        let killed = it.ask(kill).await;
        assert!(
            matches!(
                &killed,
                Err(CallError::CalleeFailed {
                    reason: ExitReason::Killed,
                    ..
                })
            ),
            "{killed:?}"
        );
        let forgot = it.registry.call(SCRIBE, Job::Forget, SECOND).await;
        assert!(
            matches!(forgot, Err(CallError::NoReply { .. })),
            "{forgot:?}"
        );
        // The last looks for an end, for a moment.
        assert!(begin.elapsed() < SECOND);
        // A call that was in hand is not handled again.
        assert_eq!(it.figures().redelivered, 0);
        it.finish().await;
    }
}

/// Fails at each message, and takes its time to go.
struct Lingerer;

struct Belongings;

impl Drop for Belongings {
    #[expect(clippy::disallowed_methods, reason = "this one is to block")]
    fn drop(&mut self) {
        // Much longer than a call waits for an end that nothing tells of.
        std::thread::sleep(Duration::from_millis(120));
    }
}

impl Actor for Lingerer {
    type Msg = RpcReplyPort<u32>;
    type State = Belongings;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Belongings, ActorProcessingErr> {
        Ok(Belongings)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        reply: Self::Msg,
        _: &mut Belongings,
    ) -> Result<(), ActorProcessingErr> {
        drop(reply);
        Err("no ink".into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msg_21_a_caller_hears_why_its_callee_failed_however_long_that_takes_to_go() {
    const LINGERER: Name<RpcReplyPort<u32>> = Name::new("lingerer");
    let spec = ChildSpec::worker("lingerer", || (Lingerer, ())).name(LINGERER.to_actor_name());
    let it = Fixture::of(Arc::default(), [spec]).await;
    let answer = it.registry.call(LINGERER, |reply| reply, 60 * SECOND).await;
    let Err(CallError::CalleeFailed { reason, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reason.to_string(), "failed: no ink");
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_21_a_call_that_waits_in_a_plain_mailbox_hears_of_the_end() {
    let it = Fixture::behind(Door::Plain, Mailbox::default()).await;
    it.cast(Job::Fail(1));
    let begin = Instant::now();
    let lost = it.registry.call(SCRIBE, Job::Read, 60 * SECOND).await;
    assert!(
        matches!(lost, Err(CallError::CalleeFailed { .. })),
        "{lost:?}"
    );
    assert!(begin.elapsed() < SECOND);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_21_a_call_that_waits_in_an_envelope_is_answered_by_the_next_run() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    it.cast(Job::Fail(1));
    let (first, second, ()) = tokio::join!(it.notes(), it.notes(), async { it.go() });
    assert_eq!((&first[..], &second[..]), (&[1, 1, 1][..], &[1, 1, 1][..]));
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_21_a_caller_hears_why_a_later_run_failed() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    let begin = Instant::now();
    let failed = it.ask(task(|| async { Err("no ink".into()) }));
    let (failed, ()) = tokio::join!(failed, async {
        it.run().kill();
        it.desk.blocked.notified().await;
        it.go();
    });
    let Err(CallError::CalleeFailed { reason, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!(reason.to_string().contains("no ink"), "{reason}");
    assert!(begin.elapsed() < SECOND);
    it.finish().await;
}

#[tokio::test(start_paused = true)]
async fn msg_21_a_call_that_waits_for_an_actor_that_is_gone_for_good_ends_by_its_deadline() {
    let it = Fixture::start(Mailbox::default()).await;
    it.block().await;
    let mut call = Box::pin(it.registry.call(SCRIBE, Job::Read, 5 * SECOND));
    assert!(call.as_mut().now_or_never().is_none());
    let begin = Instant::now();
    it.run().kill();
    it.supervisor.terminate_child("scribe").await.unwrap();
    assert!(call.await.is_err());
    assert!(begin.elapsed() <= 5 * SECOND + Duration::from_millis(2));
    it.finish().await;
}
