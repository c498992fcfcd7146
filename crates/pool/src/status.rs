use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Incarnation};

/// How a pool stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Workers that the pool keeps.
    pub size: usize,
    /// Workers that it may start beyond them.
    pub max_overflow: usize,
    /// Workers that are alive and not on loan, those included that are kept for who waits.
    pub idle: usize,
    /// Workers on loan, those included that came back and are on their way to who waited.
    pub in_use: usize,
    /// How many more there are than the pool keeps: on loan, idle, or being started.
    pub overflow: usize,
    /// Workers that are missing: not started yet, or between an end and the restart.
    pub down: usize,
    /// Checkouts that wait: for their turn, for a worker to come back up, or for one to start.
    pub waiting: usize,
}

/// What a pool has done so far. Counts go on over restarts of its actors.
///
/// A checkout is counted when it is over: as one of `checkouts`, `timeouts`, `refused` or `not_started`. One whose caller
/// went away while it waited is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Checkouts that got a worker.
    pub checkouts: u64,
    /// Checkouts whose time ran out.
    pub timeouts: u64,
    /// Checkouts that were refused: nothing was free at once, or the pool lends nothing now.
    pub refused: u64,
    /// Checkouts that ended because a worker did not start, or could not in time.
    pub not_started: u64,
    /// Checkouts that had to wait and got a worker.
    pub waits: u64,
    /// How long they waited, all together.
    pub wait_total: Duration,
    /// How long the one waited that waited longest, also if it went away just as it was lent a worker.
    pub wait_max: Duration,
    /// Workers started: first starts, restarts and overflow.
    pub created: u64,
    /// Overflow workers sent home because nobody waited.
    pub dismissed: u64,
    /// Workers killed because their holder gave up in the middle of a call, or because they were not in order.
    pub retired: u64,
    /// Workers replaced because they were too old, or idle for too long.
    pub renewed: u64,
    /// The most workers that were on loan at once.
    pub peak_in_use: usize,
}

/// Who holds a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Holder {
    /// The id of the worker within its pool, such as `worker-3`.
    pub worker: Arc<str>,
    /// The run of the worker.
    pub incarnation: u64,
    /// For how long.
    pub held_for: Duration,
    /// Where it was checked out.
    pub location: &'static Location<'static>,
    /// The actor in whose handler it was checked out, or another one [on whose behalf](crate::Pool::on_behalf_of).
    ///
    /// What a handler has given to a task of its own is no part of it: there nobody is known, unless it is said. Nor is an
    /// actor of another tree, which may have the same paths.
    pub actor: Option<ActorPath>,
    /// The span in which it was checked out; disabled when nobody records spans.
    pub span: tracing::Span,
}

/// A worker that is up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolWorker {
    /// Its id within the pool, such as `worker-3`.
    pub id: Arc<str>,
    /// Which run.
    pub incarnation: Arc<Incarnation>,
    /// What it is doing.
    pub state: PoolWorkerState,
}

/// What a worker that is up is doing, as the pool sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolWorkerState {
    /// It can be lent.
    Idle,
    /// It is kept for who waits.
    Reserved,
    /// It is on loan.
    Lent,
}
