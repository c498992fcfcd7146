use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use serde::Serialize;

use super::{
    Baseline,
    window::{Bucket, Rings, STEP},
};
use crate::sync::lock;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Success,
    /// It failed, panicked or timed out.
    Failure,
}

/// More shards than this only cost memory: each lock is held for some 10 ns.
const MAX_SHARDS: usize = 4;

/// Aligned, so that no two threads write to one cache line.
#[repr(align(128))]
struct Shard(Mutex<Bucket>);

/// The samples of one service.
///
/// A sample goes into the histogram of its thread's shard. When a shard meets a new step, it hands the step before to
/// the rings; a reader makes every shard do so first. Nothing is allocated after creation.
pub(crate) struct Series {
    pub(crate) name: Arc<str>,
    shards: Box<[Shard]>,
    rings: Mutex<Rings>,
    baseline: Mutex<Option<(u64, Baseline)>>,
}

impl Series {
    pub(crate) fn new(name: Arc<str>, now: u64) -> Self {
        let shards = available_parallelism().map_or(1, |threads| threads.get().min(MAX_SHARDS));
        Self {
            name,
            shards: (0..shards)
                .map(|_| Shard(Mutex::new(Bucket::step())))
                .collect(),
            rings: Mutex::new(Rings::new(now)),
            baseline: Mutex::new(None),
        }
    }

    /// Records a sample of the moment `at`; `now` is asked for seldom.
    pub(crate) fn record(
        &self,
        at: u64,
        latency: u64,
        outcome: Outcome,
        now: impl FnOnce() -> u64,
    ) {
        let number = at / STEP;
        let shard = SHARD.with(|shard| *shard) % self.shards.len();
        let mut step = lock(&self.shards[shard].0);
        if step.number() != number {
            // What is to come would take the place of what was in the rings.
            let number = number.min(now() / STEP);
            if step.number() != number {
                lock(&self.rings).absorb(&mut step);
                step.begin(number);
            }
        }
        step.record(latency, outcome == Outcome::Failure);
    }

    /// Reads the rings, with everything in them that was recorded before.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Rings) -> T) -> T {
        for shard in &self.shards {
            let mut step = lock(&shard.0);
            lock(&self.rings).absorb(&mut step);
        }
        read(&lock(&self.rings))
    }

    pub(crate) fn baseline(&self) -> Option<(u64, Baseline)> {
        *lock(&self.baseline)
    }

    pub(crate) fn set_baseline(&self, now: u64, baseline: Baseline) {
        *lock(&self.baseline) = Some((now, baseline));
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let shard = lock(&self.shards[0].0).bytes();
        (lock(&self.rings).bytes(), shard * MAX_SHARDS)
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Numbers the threads, to spread them over the shards.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}
