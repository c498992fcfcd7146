//! Many actors of both kinds call and cast each other at random, crash and are restarted, and what they cannot handle is
//! sent to them once more: every call ends by its deadline, the books add up, and memory stays where it was.
//!
//! Takes a few seconds; `PERENNIAL_SOAK_SECONDS=30` goes on longer, and `PERENNIAL_SEED` chooses what happens.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use perennial::lifecycle::ReplayError;
use perennial::{
    CallError, ChildSpec, ExitReason, Mail, Mailbox, Name, Registry, RestartIntensity, Scope,
    Supervisor,
};
use perennial_testkit::assert_books_balance;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::time::{Instant, sleep, timeout};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ACTORS: usize = 200;
const DRIVERS: u64 = 8;
const CALL: Duration = Duration::from_millis(200);
/// By how much a call may miss its deadline on a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// What may live on more than before: what is remembered of each actor is bounded, and the table of names grows by steps.
const GROWTH: usize = 8 << 20;

struct Job {
    /// How many more actors it goes through.
    hops: u32,
    seed: u64,
    reply: Option<RpcReplyPort<u64>>,
}

struct World {
    scope: Scope,
    registry: Registry,
    names: Vec<Name<Job>>,
    calls: AtomicU64,
    answered: AtomicU64,
    crashes: AtomicU64,
    replays: AtomicU64,
}

impl World {
    async fn call(&self, random: &mut fastrand::Rng, hops: u32) {
        let name = random.choice(&self.names).unwrap().clone();
        let seed = random.u64(..);
        let begin = Instant::now();
        let make = |reply| Job {
            hops,
            seed,
            reply: Some(reply),
        };
        let answer = self.registry.call(name, make, CALL).await;
        let took = begin.elapsed();
        assert!(took < CALL + SLACK, "{took:?}: {answer:?}");
        self.calls.fetch_add(1, SeqCst);
        match answer {
            Ok(answer) => {
                assert_eq!(answer, seed);
                self.answered.fetch_add(1, SeqCst);
            }
            // A callee that lives on answers every call.
            Err(CallError::NoReply { name }) => panic!("{name} gave no answer"),
            Err(_) => {}
        }
    }

    fn cast(&self, random: &mut fastrand::Rng, hops: u32) {
        let name = random.choice(&self.names).unwrap().clone();
        let seed = random.u64(..);
        // One that is refused is counted by the books.
        drop(self.registry.cast(
            name,
            Job {
                hops,
                seed,
                reply: None,
            },
        ));
    }

    /// Sends one of the dead letters once more.
    fn replay(&self, random: &mut fastrand::Rng) {
        let dead = self.scope.traffic().dead_letters();
        let Some(letter) = random.choice(dead.list()) else {
            return;
        };
        match dead.replay(letter.id) {
            Ok(()) => drop(self.replays.fetch_add(1, SeqCst)),
            // Its actor is down or busy, it was a call, or another driver was faster.
            Err(
                ReplayError::NotRunning
                | ReplayError::Full
                | ReplayError::NotKept
                | ReplayError::Unknown,
            ) => {}
            Err(error) => panic!("{letter:?}: {error}"),
        }
    }

    /// What a handler does with a message.
    async fn work(&self, hops: u32, seed: u64) -> Result<(), ActorProcessingErr> {
        let mut random = fastrand::Rng::with_seed(seed);
        match random.u32(..100) {
            0 => {
                self.crashes.fetch_add(1, SeqCst);
                return Err("as told".into());
            }
            1 => {
                self.crashes.fetch_add(1, SeqCst);
                // Without the hook, which would print it.
                std::panic::resume_unwind(Box::new("as told"));
            }
            2..40 if hops > 0 => self.call(&mut random, hops - 1).await,
            40..70 if hops > 0 => self.cast(&mut random, hops - 1),
            70..75 => tokio::task::yield_now().await,
            _ => {}
        }
        Ok(())
    }
}

struct Plain(Arc<World>);

struct Mailed(Arc<World>);

impl Actor for Plain {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Job>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        job: Job,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.work(job.hops, job.seed).await?;
        if let Some(reply) = job.reply {
            // The caller may have gone.
            drop(reply.send(job.seed));
        }
        Ok(())
    }
}

impl Actor for Mailed {
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
        self.0.work(job.hops, job.seed).await?;
        let job = job.into_inner();
        if let Some(reply) = job.reply {
            drop(reply.send(job.seed));
        }
        Ok(())
    }
}

fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Drives the actors for a while from several tasks, then waits until all is done.
async fn drive(world: &Arc<World>, time: Duration, seed: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let drivers: Vec<_> = (0..DRIVERS)
        .map(|at| {
            let (world, stop) = (Arc::clone(world), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed ^ (at << 32));
                while !stop.load(SeqCst) {
                    match random.u32(..50) {
                        0 => {
                            let name = random.choice(&world.names).unwrap();
                            let run = world.registry.resolve(name).unwrap().incarnation();
                            if let Some(run) = run {
                                run.kill();
                            }
                        }
                        1 => world.replay(&mut random),
                        2..15 => world.cast(&mut random, 3),
                        _ => world.call(&mut random, 3).await,
                    }
                }
            })
        })
        .collect();
    // The only sleep: it stands for the time that this goes on.
    sleep(time).await;
    stop.store(true, SeqCst);
    for driver in drivers {
        timeout(SLACK + CALL, driver)
            .await
            .expect("a call hangs")
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_nothing_is_lost_and_memory_stays_where_it_was() {
    let seconds = std::env::var("PERENNIAL_SOAK_SECONDS").map_or(3, |it| it.parse().unwrap());
    let seed = std::env::var("PERENNIAL_SEED").map_or(7, |it| it.parse().unwrap());
    println!("PERENNIAL_SEED={seed}");
    let scope = Scope::new("soak");
    let name = |at: usize| Name::of_kind("actor", format!("a{at}"));
    let world = Arc::new(World {
        scope: scope.clone(),
        registry: Registry::new(&scope),
        names: (0..ACTORS).map(name).collect(),
        calls: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        crashes: AtomicU64::new(0),
        replays: AtomicU64::new(0),
    });
    let specs = (0..ACTORS).map(|at| {
        let inside = Arc::clone(&world);
        let id = format!("a{at}");
        let spec = match at % 2 {
            0 => ChildSpec::worker(id, move || (Plain(Arc::clone(&inside)), ())),
            _ => ChildSpec::worker(id, move || (Mailed(Arc::clone(&inside)), ())),
        };
        let capacity = if at % 3 == 0 { 4 } else { 1_000 };
        spec.name(world.names[at].to_actor_name())
            .mailbox(Mailbox::bounded(capacity))
    });
    let supervisor = Supervisor::builder()
        .intensity(RestartIntensity::new(100_000_000, Duration::from_secs(1)))
        .children(specs);
    let supervisor = supervisor.build().unwrap().start_in(&scope).await.unwrap();

    let time = Duration::from_secs(seconds);
    drive(&world, time / 3, seed).await;
    let before = live();
    drive(&world, time - time / 3, !seed).await;
    let after = live();
    supervisor.stop(ExitReason::Shutdown).await;

    assert_books_balance!(&scope);
    let books = scope.books();
    assert_eq!(books.in_hand, 0, "{books:?}");
    let dead = scope.traffic().dead_letters();
    // A plain mailbox that is lost takes along what is being put into it, and gives that back after all.
    assert!(dead.total() >= books.dead + books.returned, "{books:?}");
    let letters = dead.list();
    assert!(letters.is_sorted_by(|one, next| one.id < next.id));
    let count = |counter: &AtomicU64| counter.load(SeqCst);
    println!(
        "{} calls, {} answered, {} crashes, {} of {} dead letters replayed; {} bytes before, {} after; {books:?}",
        count(&world.calls),
        count(&world.answered),
        count(&world.crashes),
        count(&world.replays),
        dead.total(),
        before,
        after
    );
    assert!(count(&world.answered) > 0 && count(&world.replays) > 0);
    assert!(after < before + GROWTH, "{before} bytes grew to {after}");
}
