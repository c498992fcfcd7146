//! Actors that would wait for each other.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial_lifecycle::{ChildSpec, Mailbox};
use perennial_registry::{CallError, Name, Refusal, Registry, Route};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::consume_budget;
use tokio::time::{Instant, sleep};

use crate::support::{CLERK, Desk, Door, Fixture, Job, SCRIBE, SECOND, TELLER, Task, task};

const ALL: [Name<Job>; 3] = [SCRIBE, CLERK, TELLER];
const CLERKS: Name<Job> = Name::new("clerks");

/// What the last call of a chain came to.
type Outcome = Arc<Mutex<Vec<Result<u32, CallError<Job>>>>>;

/// Calls the first in its handler, which calls the next in its own, and so on; notes what the last came to.
fn chain(registry: &Registry, way: &'static [usize], outcome: &Outcome) -> Task {
    let (registry, outcome) = (registry.clone(), Arc::clone(outcome));
    task(move || link(registry.clone(), way, Arc::clone(&outcome)))
}

fn link(
    registry: Registry,
    way: &'static [usize],
    outcome: Outcome,
) -> BoxFuture<'static, Result<(), ractor::ActorProcessingErr>> {
    async move {
        let [next, rest @ ..] = way else {
            return Ok(());
        };
        let work = chain(&registry, rest, &outcome);
        let ask = |reply| Job::Ask(work, reply);
        let result = registry.call(ALL[*next].clone(), ask, 60 * SECOND).await;
        if result.is_err() || rest.is_empty() {
            outcome.lock().unwrap().push(result);
        }
        Ok(())
    }
    .boxed()
}

fn path_of(outcome: &Outcome) -> Vec<String> {
    match &outcome.lock().unwrap()[..] {
        [Err(CallError::Refused(error))] => match &error.refusal {
            Refusal::WouldDeadlock { path, .. } => {
                assert!(matches!(error.message, Job::Ask(..) | Job::Read(_)));
                let path = path.iter().map(|it| it.as_str());
                path.map(|it| it.rsplit('/').next().unwrap().to_owned())
                    .collect()
            }
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_call_that_would_never_be_answered_is_refused_at_once() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::default()).await;
        for (way, path) in [
            (&[0][..], &["scribe", "scribe"][..]),
            (&[1, 0], &["clerk", "scribe", "clerk"]),
            (&[1, 2, 0], &["teller", "scribe", "clerk", "teller"]),
            (&[1, 2, 1], &["teller", "clerk", "teller"]),
        ] {
            let outcome = Outcome::default();
            let begin = Instant::now();
            it.ask(chain(&it.registry, way, &outcome)).await.unwrap();
            assert_eq!(path_of(&outcome), path);
            assert_eq!(begin, Instant::now());
            it.assert_balanced();
        }
        // Nothing of it is left: the same calls one after the other are well.
        let outcome = Outcome::default();
        it.ask(chain(&it.registry, &[1, 2], &outcome))
            .await
            .unwrap();
        assert!(matches!(outcome.lock().unwrap()[..], [Ok(7)]));
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_cycle_through_two_trees_is_refused_at_once() {
    for door in Door::BOTH {
        let home = Fixture::behind(door, Mailbox::default()).await;
        let away = Fixture::behind(door, Mailbox::default()).await;
        let outcome = Outcome::default();
        let (there, back, inside) = (
            away.registry.clone(),
            home.registry.clone(),
            Arc::clone(&outcome),
        );
        // To one that lives at the same path in its own tree.
        let over = task(move || {
            let (there, work) = (there.clone(), chain(&back, &[1, 0], &inside));
            async move {
                let ask = |reply| Job::Ask(work, reply);
                assert_eq!(there.call(SCRIBE, ask, 60 * SECOND).await.unwrap(), 7);
                Ok(())
            }
        });
        let begin = Instant::now();
        home.ask(over).await.unwrap();
        assert_eq!(path_of(&outcome), ["clerk", "scribe", "scribe", "clerk"]);
        assert_eq!(begin, Instant::now());
        home.finish().await;
        away.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_cycle_is_seen_over_a_restart() {
    let it = Fixture::start(Mailbox::default()).await;
    // The clerk is busy when it is called, and killed; its next run calls back first of all.
    let (registry, outcome) = (it.registry.clone(), Outcome::default());
    let (inside, runs) = (Arc::clone(&outcome), Arc::new(Mutex::new(0)));
    let desk = Arc::clone(&it.desk);
    let call_back = task(move || {
        let (registry, outcome) = (registry.clone(), Arc::clone(&inside));
        let is_first = {
            let mut runs = runs.lock().unwrap();
            *runs += 1;
            *runs == 1
        };
        let desk = Arc::clone(&desk);
        async move {
            if is_first {
                desk.blocked.notify_one();
                std::future::pending::<()>().await;
            }
            let result = registry.call(SCRIBE, Job::Read, 60 * SECOND).await;
            outcome.lock().unwrap().push(result.map(|_| 0));
            Ok(())
        }
    });
    it.registry.cast(CLERK, Job::Do(call_back)).unwrap();
    it.desk.blocked.notified().await;
    let through = Outcome::default();
    let ask = it.ask(chain(&it.registry, &[1], &through));
    let begin = Instant::now();
    let (answer, ()) = tokio::join!(ask, async {
        it.settled().await;
        assert_eq!(it.scope.traffic().waits().list().len(), 1);
        let clerk = it.registry.resolve(&CLERK).unwrap();
        clerk.incarnation().unwrap().kill();
    });
    answer.unwrap();
    assert_eq!(path_of(&outcome), ["clerk", "scribe", "clerk"]);
    assert!(matches!(through.lock().unwrap()[..], [Ok(7)]));
    assert!(begin.elapsed() < SECOND);
    it.finish().await;
}

/// Fails with each message, and when it is started again calls the scribe before it is up.
struct Returning {
    registry: Arc<OnceLock<Registry>>,
    /// How long it thinks about it.
    after: Duration,
    outcome: Outcome,
}

impl Actor for Returning {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Job>, (): ()) -> Result<(), ActorProcessingErr> {
        if let Some(registry) = self.registry.get() {
            sleep(self.after).await;
            let read = registry.call(SCRIBE, Job::Read, 60 * SECOND).await;
            self.outcome.lock().unwrap().push(read.map(|_| 0));
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        job: Job,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Ask(_, reply) => Ok(reply.send(7)?),
            _ => Err("as told".into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_who_waits_for_an_actor_to_come_up_waits_for_it() {
    for (door, after) in Door::BOTH.into_iter().zip([Duration::ZERO, SECOND]) {
        let (desk, cell) = (Arc::new(Desk::default()), Arc::new(OnceLock::new()));
        let of_start = Outcome::default();
        let (inside, registry) = (Arc::clone(&of_start), Arc::clone(&cell));
        let returning = move || Returning {
            registry: Arc::clone(&registry),
            after,
            outcome: Arc::clone(&inside),
        };
        let returning = ChildSpec::worker("clerk", move || (returning(), ()));
        let returning = returning.name(CLERK.to_actor_name());
        let it = Fixture::of(Arc::clone(&desk), [door.spec("scribe", &desk), returning]).await;
        cell.set(it.registry.clone()).unwrap();

        let (registry, of_call) = (it.registry.clone(), Outcome::default());
        let inside = Arc::clone(&of_call);
        let call = task(move || {
            let (registry, outcome) = (registry.clone(), Arc::clone(&inside));
            async move {
                registry.cast(CLERK, Job::Write(1)).unwrap();
                // By now it is being started again.
                sleep(SECOND / 2).await;
                let ask = |reply| Job::Ask(task(|| async { Ok(()) }), reply);
                let answer = registry.call(CLERK, ask, 60 * SECOND).await;
                outcome.lock().unwrap().push(answer);
                Ok(())
            }
        });
        let began = Instant::now();
        it.ask(call).await.unwrap();
        assert_eq!(began.elapsed(), after.max(SECOND / 2));
        // Whoever comes second is refused, and the other is answered.
        let (refused, way, answered) = match after {
            Duration::ZERO => (&of_call, ["scribe", "clerk", "scribe"], &of_start),
            _ => (&of_start, ["clerk", "scribe", "clerk"], &of_call),
        };
        assert_eq!(path_of(refused), way);
        it.settled().await;
        assert!(matches!(answered.lock().unwrap()[..], [Ok(_)]));
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_cycle_is_seen_through_a_group() {
    for door in Door::BOTH {
        let desk = Arc::new(Desk::default());
        let member = door.spec("clerk", &Arc::default());
        let member = member.group(CLERKS.to_actor_name());
        let it = Fixture::of(Arc::clone(&desk), [door.spec("scribe", &desk), member]).await;
        for route in [Route::RoundRobin, Route::LeastQueued, Route::key(&7)] {
            let (registry, outcome) = (it.registry.clone(), Outcome::default());
            let inside = Arc::clone(&outcome);
            let through_group = task(move || {
                let (registry, outcome) = (registry.clone(), Arc::clone(&inside));
                async move {
                    let clerks = registry.group(&CLERKS).unwrap();
                    let back = chain(&registry, &[0], &outcome);
                    let ask = |reply| Job::Ask(back, reply);
                    assert_eq!(clerks.call(route, ask, 60 * SECOND).await.unwrap(), 7);
                    Ok(())
                }
            });
            it.ask(through_group).await.unwrap();
            assert_eq!(path_of(&outcome), ["clerk", "scribe", "clerk"]);
        }
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_one_that_waits_for_room_waits_for_the_actor() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::bounded(1)).await;
        // The scribe calls the clerk; the clerk waits until somebody fills the scribe's mailbox, and calls it.
        let (registry, outcome) = (it.registry.clone(), Outcome::default());
        let inside = Arc::clone(&outcome);
        let fill = task(move || {
            registry.cast(SCRIBE, Job::Write(1)).unwrap();
            link(registry.clone(), &[0], Arc::clone(&inside))
        });
        let fill = Mutex::new(Some(fill));
        let registry = it.registry.clone();
        let begin = Instant::now();
        let call = task(move || {
            let (registry, fill) = (registry.clone(), fill.lock().unwrap().take().unwrap());
            async move {
                let ask = |reply| Job::Ask(fill, reply);
                assert_eq!(registry.call(CLERK, ask, 60 * SECOND).await.unwrap(), 7);
                Ok(())
            }
        });
        it.ask(call).await.unwrap();
        assert_eq!(path_of(&outcome), ["clerk", "scribe", "clerk"]);
        assert_eq!(begin, Instant::now());
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_cycle_is_seen_also_where_a_task_has_done_much_at_a_stretch() {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::default()).await;
        let (registry, outcome) = (it.registry.clone(), Outcome::default());
        let inside = Arc::clone(&outcome);
        let busy = task(move || {
            let (registry, outcome) = (registry.clone(), Arc::clone(&inside));
            async move {
                // Until tokio would have it yield: its channels answer nothing any more.
                while consume_budget().now_or_never().is_some() {}
                let back = {
                    let (registry, outcome) = (registry.clone(), Arc::clone(&outcome));
                    task(move || {
                        let back = link(registry.clone(), &[0], Arc::clone(&outcome));
                        async {
                            sleep(SECOND).await;
                            back.await
                        }
                    })
                };
                let ask = |reply| Job::Ask(back, reply);
                assert_eq!(registry.call(CLERK, ask, 60 * SECOND).await.unwrap(), 7);
                Ok(())
            }
        });
        let begin = Instant::now();
        it.ask(busy).await.unwrap();
        assert_eq!(path_of(&outcome), ["clerk", "scribe", "clerk"]);
        assert_eq!(begin.elapsed(), SECOND);
        it.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn msg_19_the_callee_may_call_back_right_after_its_answer() {
    calls_back(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msg_19_the_callee_may_call_back_right_after_its_answer_on_many_threads() {
    calls_back(300).await;
}

async fn calls_back(times: u32) {
    for door in Door::BOTH {
        let it = Fixture::behind(door, Mailbox::default()).await;
        for _ in 0..times {
            // The clerk answers, and calls back with its next message, which is there already.
            let (registry, outcome) = (it.registry.clone(), Outcome::default());
            let inside = Arc::clone(&outcome);
            let both = task(move || {
                let (registry, outcome) = (registry.clone(), Arc::clone(&inside));
                async move {
                    let ask = |reply| Job::Ask(task(|| async { Ok(()) }), reply);
                    let call = registry.call(CLERK, ask, 60 * SECOND);
                    let back = chain(&registry, &[0], &outcome);
                    let then = async {
                        registry.cast(CLERK, Job::Do(back)).unwrap();
                    };
                    let (answer, ()) = tokio::join!(call, then);
                    assert_eq!(answer.unwrap(), 7);
                    Ok(())
                }
            });
            it.ask(both).await.unwrap();
            let ask = |reply| Job::Ask(task(|| async { Ok(()) }), reply);
            it.registry.call(CLERK, ask, 60 * SECOND).await.unwrap();
            let seen = outcome.lock().unwrap();
            assert!(matches!(seen[..], [Ok(7)]), "{seen:?}");
        }
        // The reply of a call may be there a moment before its handler is through.
        it.supervisor
            .stop(perennial_lifecycle::ExitReason::Shutdown)
            .await;
        it.finish().await;
    }
}
