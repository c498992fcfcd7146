//! How much memory an idle child takes under our supervisor, and how much a bare ractor actor.
//!
//! It stands apart from `supervision`, because counting every allocation takes time.

use std::alloc::System;
use std::process::ExitCode;

use perennial::lifecycle::{ChildSpec, ExitReason};
use perennial::supervisor::Supervisor;
use perennial_tests::figures::{self, Figure};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::task::yield_now;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHILDREN: usize = 100_000;

/// Keeps one number, as its state.
struct Worker;

impl Actor for Worker {
    type Msg = ();
    type State = usize;
    type Arguments = usize;

    async fn pre_start(&self, _: ActorRef<()>, index: usize) -> Result<usize, ActorProcessingErr> {
        Ok(index)
    }
}

fn main() -> ExitCode {
    // One thread for all: what a second thread's stack and caches take is nobody's.
    let runtime = perennial_tests::runtime(0);
    // Whatever is made once per process is made here.
    runtime.block_on(ours(10));
    runtime.block_on(bare(10));
    let bare = runtime.block_on(bare(CHILDREN));
    let ours = runtime.block_on(ours(CHILDREN));
    println!("bytes per idle actor: ractor {bare}, Perennial {ours}");
    let figure =
        |contender, bytes: usize| Figure::of("memory", contender, CHILDREN, vec![bytes as u64]);
    match figures::save(
        "memory",
        &[figure("ractor", bare), figure("Perennial", ours)],
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the bytes that are in use.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    // Growing is entered among the allocations, shrinking among the frees.
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Supervised children, with their specs and ids.
async fn ours(children: usize) -> usize {
    let before = in_use();
    let supervisor = Supervisor::builder()
        .children(
            (0..children)
                .map(|index| ChildSpec::worker(index.to_string(), move || (Worker, index))),
        )
        .build()
        .expect("the ids differ")
        .start("bench")
        .await
        .expect("all children start");
    settle().await;
    let each = (in_use() - before) / children;
    supervisor.stop(ExitReason::Shutdown).await;
    each
}

/// Actors without a parent, in a list that is made before.
async fn bare(children: usize) -> usize {
    let mut actors = Vec::with_capacity(children);
    let before = in_use();
    for index in 0..children {
        let started = Actor::spawn(None, Worker, index).await;
        actors.push(started.expect("the actor starts").0);
    }
    settle().await;
    let each = (in_use() - before) / children;
    for actor in actors {
        actor.stop_and_wait(None, None).await.expect("it is up");
    }
    each
}

/// Lets every actor come to rest.
async fn settle() {
    for _ in 0..16 {
        yield_now().await;
    }
}
