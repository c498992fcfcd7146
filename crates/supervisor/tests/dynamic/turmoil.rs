//! Everything at once: DYN-19.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use perennial_lifecycle::{Backoff, ChildKind, ExitReason, Restart, StartError, Started};
use perennial_supervisor::{ChildStatus, ChildTemplate, DynamicSupervisor, RestartIntensity};
use perennial_testkit::{Order, Puppet};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{MILLISECOND, SECOND, start};

/// Counts how many of its kind are up.
struct Counted;

struct Up(Arc<AtomicU32>);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Actor for Counted {
    type Msg = Order;
    type State = Up;
    type Arguments = Arc<AtomicU32>;

    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        up: Arc<AtomicU32>,
    ) -> Result<Up, ActorProcessingErr> {
        up.fetch_add(1, SeqCst);
        Ok(Up(up))
    }

    async fn handle(
        &self,
        _: ActorRef<Order>,
        _: Order,
        _: &mut Up,
    ) -> Result<(), ActorProcessingErr> {
        Err("broken".into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dyn_19_nobody_is_lost_when_all_happens_at_once() {
    for round in 0..20 {
        let up = Arc::new(AtomicU32::new(0));
        let template = {
            let up = Arc::clone(&up);
            ChildTemplate::from_fn("counted", ChildKind::Worker, move |context, _: Arc<()>| {
                let up = Arc::clone(&up);
                async move {
                    tokio::task::yield_now().await;
                    let child = context.spawn(Counted, up).await?;
                    tokio::task::yield_now().await;
                    Ok(Started::from(child))
                }
            })
        };
        let builder = DynamicSupervisor::builder(template).concurrent_starts(true);
        let supervisor = start(builder.intensity(RestartIntensity::new(10_000, SECOND))).await;
        let lives = (0..50).map(|number: u32| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move {
                let Ok(child) = supervisor.start_child(()).await else {
                    return;
                };
                for _ in 0..number % 4 {
                    if let Some(run) = child.node().current()
                        && let Some(actor) = run.actor_ref()
                    {
                        // It may have been stopped meanwhile.
                        drop(actor.send_message(Order::Stop));
                        run.ended().await;
                    }
                }
                if number.is_multiple_of(3) {
                    // The supervisor may have ended meanwhile.
                    drop(supervisor.terminate_child_named(child.id()).await);
                }
            })
        });
        let lives: Vec<_> = lives.collect();
        match round % 4 {
            0 => {}
            1 => sleep(MILLISECOND).await,
            _ => {
                for life in lives {
                    life.await.unwrap();
                }
            }
        }
        if round % 2 == 0 {
            supervisor.stop(ExitReason::Shutdown).await;
            assert_eq!(up.load(SeqCst), 0);
        } else {
            let whole = supervisor.supervisor().incarnation().unwrap();
            whole.kill();
            whole.ended().await;
            while up.load(SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A source of chance that a seed makes repeatable.
#[derive(Clone)]
struct Chance(Arc<AtomicU64>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        )))
    }

    /// Returns a number below `limit`.
    fn below(&self, limit: u64) -> u64 {
        let next = |mut it: u64| {
            it ^= it << 13;
            it ^= it >> 7;
            it ^= it << 17;
            it
        };
        let last = self.0.fetch_update(SeqCst, SeqCst, |it| Some(next(it)));
        next(last.unwrap()) % limit
    }

    /// Waits for a turn or two, for a millisecond, or not at all.
    async fn dawdle(&self) {
        let turns = self.below(4);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if turns == 3 {
            sleep(MILLISECOND).await;
        }
    }
}

/// What a supervisor goes through whose two children are started, killed, crashed, terminated, resumed and bounced
/// while they start and stop.
struct Turmoil {
    supervisor: DynamicSupervisor<()>,
    /// What was done, to read when it goes wrong.
    done: Vec<&'static str>,
}

impl Turmoil {
    async fn go_through(seed: u64, concurrent: bool, restart: Restart) -> Self {
        let chance = Chance::new(seed);
        let dice = chance.clone();
        let template =
            ChildTemplate::from_fn("w", ChildKind::Worker, move |context, _: Arc<()>| {
                let dice = dice.clone();
                async move {
                    dice.dawdle().await;
                    if dice.below(10) == 0 {
                        return Err(StartError::new(ExitReason::failed("no paper")));
                    }
                    let child = context.spawn(Puppet, ()).await?;
                    dice.dawdle().await;
                    Ok(Started::from(child))
                }
            });
        let template = match restart {
            Restart::Temporary => template.temporary(),
            other => template
                .restart(other)
                .backoff(Backoff::constant(2 * MILLISECOND)),
        };
        let builder = DynamicSupervisor::builder(template)
            .intensity(RestartIntensity::new(1_000_000, SECOND))
            .concurrent_starts(concurrent);
        let supervisor = start(builder).await;
        let mut done = Vec::new();
        let mut calls = JoinSet::new();
        for _ in 0..12 {
            let id = ["a", "b"][usize::from(chance.below(2) == 0)];
            let it = supervisor.clone();
            let run = it.node().child(id).and_then(|place| place.current());
            // What comes of the calls is not of interest here.
            match chance.below(8) {
                0 | 1 => {
                    done.push("start");
                    calls.spawn(async move { drop(it.start_child_named(id, ()).await) });
                }
                2 => {
                    done.push("terminate");
                    calls.spawn(async move { drop(it.terminate_child_named(id).await) });
                }
                3 => {
                    done.push("resume");
                    calls.spawn(async move { drop(it.supervisor().resume_child(id).await) });
                }
                4 | 5 => {
                    done.push("bounce");
                    calls.spawn(async move { drop(it.supervisor().bounce_child(id).await) });
                }
                6 => {
                    done.push("kill");
                    run.inspect(|run| run.kill());
                }
                _ => {
                    done.push("crash");
                    let actor = run.and_then(|run| run.actor_ref());
                    drop(actor.map(|actor| actor.send_message(Order::Fail("broken"))));
                }
            }
            done.push(id);
            chance.dawdle().await;
        }
        calls.join_all().await;
        Self { supervisor, done }
    }

    /// Says what is wrong, once everybody has had the time to come back.
    async fn fault(&self) -> Option<String> {
        let list = self.supervisor.which_children().await.unwrap();
        for child in &list {
            let current = child.node.current().map(|run| run.number());
            let as_listed = match child.status {
                ChildStatus::Alive { incarnation } => Some(incarnation),
                _ => None,
            };
            if as_listed.is_none() || current != as_listed {
                return Some(format!("{child:?} has run {current:?}"));
            }
        }
        let places = self.supervisor.node().children();
        let mut places = places.iter();
        let stray = places.find(|place| !list.iter().any(|it| Arc::ptr_eq(&it.node, place)));
        stray.map(|place| format!("{place:?} is nobody's"))
    }

    async fn end(self) {
        self.supervisor.stop(ExitReason::Shutdown).await;
        for place in self.supervisor.node().children() {
            assert!(!place.is_occupied(), "{place:?}: {:?}", self.done);
        }
    }
}

const ALL_SORTS: [(bool, Restart); 6] = [
    (false, Restart::Permanent),
    (false, Restart::Transient),
    (false, Restart::Temporary),
    (true, Restart::Permanent),
    (true, Restart::Transient),
    (true, Restart::Temporary),
];

#[tokio::test(start_paused = true)]
async fn dyn_19_nobody_is_lost_or_listed_wrongly_in_any_turmoil() {
    for seed in 0..300 {
        for (concurrent, restart) in ALL_SORTS {
            let turmoil = Turmoil::go_through(seed, concurrent, restart).await;
            sleep(SECOND).await;
            let fault = turmoil.fault().await;
            assert_eq!(
                fault, None,
                "{seed} {concurrent} {restart:?} {:?}",
                turmoil.done
            );
            turmoil.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dyn_19_nobody_is_lost_or_listed_wrongly_in_any_turmoil_on_many_threads() {
    for seed in 0..150 {
        for concurrent in [false, true] {
            let turmoil = Turmoil::go_through(seed, concurrent, Restart::Permanent).await;
            let began = Instant::now();
            while let Some(fault) = turmoil.fault().await {
                let waited = began.elapsed();
                assert!(
                    waited < 10 * SECOND,
                    "{seed} {concurrent}: {fault} {:?}",
                    turmoil.done
                );
                tokio::task::yield_now().await;
            }
            turmoil.end().await;
        }
    }
}
