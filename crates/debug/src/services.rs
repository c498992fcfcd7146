//! What operators command besides actors: breakers and pools.

use perennial_breaker::{Breaker, BreakerState, Breakers};
use perennial_lifecycle::ActorPath;
use perennial_pool::{PoolView, Pools};

use crate::actor::{Command, Done, Outcome};
use crate::handle::Shared;
use crate::nearest::{nearest, nearest_of};
use crate::{CommandError, Debugger};

/// What a breaker can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BreakerOrder {
    Trip,
    Isolate,
    Reset,
}

impl BreakerOrder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Isolate => "isolate",
            Self::Reset => "reset",
        }
    }
}

/// What a pool can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolOrder {
    Resize { size: usize, max_overflow: usize },
    Drain,
    ResumeLending,
}

impl PoolOrder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resize { .. } => "resize",
            Self::Drain => "drain",
            Self::ResumeLending => "resume lending of",
        }
    }
}

/// All of a kind, and the place that they are children of.
pub(crate) struct Below<T> {
    place: ActorPath,
    all: T,
}

impl<T> Below<T> {
    /// The child id in a path of a child.
    fn id<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.place.as_str())?.strip_prefix('/')
    }
}

impl Below<Breakers> {
    // By its path alone: one that was registered late has no actor in the tree, and one whose actor is down works on.
    fn find(&self, path: &str) -> Option<Breaker> {
        self.all.get(self.id(path)?)
    }

    fn places(&self) -> Vec<ActorPath> {
        let all = self.all.iter();
        all.map(|it| self.place.child(it.name())).collect()
    }
}

impl Below<Pools> {
    fn find(&self, path: &str) -> Option<PoolView> {
        let id = self.id(path)?;
        let all = self.all.views().into_iter();
        all.into_iter().find(|it| **it.name() == *id)
    }

    fn places(&self) -> Vec<ActorPath> {
        let all = self.all.views().into_iter();
        all.map(|it| self.place.child(it.name())).collect()
    }
}

/// Commands for breakers and pools.
impl Debugger {
    /// Says which breakers the tree has, and below which place their actors live. The first ones stand.
    #[must_use]
    pub fn with_breakers(self, place: ActorPath, breakers: &Breakers) -> Self {
        let all = breakers.clone();
        // Another handle may have set them.
        drop(self.shared.breakers.set(Below { place, all }));
        self
    }

    /// Says which pools the tree has, and below which place they live. The first ones stand.
    #[must_use]
    pub fn with_pools(self, place: ActorPath, pools: &Pools) -> Self {
        let all = pools.clone();
        // Another handle may have set them.
        drop(self.shared.pools.set(Below { place, all }));
        self
    }

    /// Opens the breaker at `path` for its open time, as failures would, and returns its state after.
    ///
    /// One that is open already stays so, and for no longer. The breaker's actor need not run.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] and [`CommandError::NotOne`] name the breaker that was probably meant.
    /// - [`CommandError::NotTripped`] when an operator has ordered it to admit all calls.
    /// - [`CommandError::TimedOut`] when the debug actor was not running until the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn trip(&self, path: &str) -> Result<BreakerState, CommandError> {
        self.command_breaker(BreakerOrder::Trip, path).await
    }

    /// Has the breaker at `path` refuse every call until it is [reset](Self::reset), and returns its state after.
    ///
    /// # Errors
    ///
    /// As [`trip`](Self::trip), but that it can always be done.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn isolate(&self, path: &str) -> Result<BreakerState, CommandError> {
        self.command_breaker(BreakerOrder::Isolate, path).await
    }

    /// Closes the breaker at `path` and lets it decide again, whatever its state; returns its state after.
    ///
    /// # Errors
    ///
    /// As [`isolate`](Self::isolate).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn reset(&self, path: &str) -> Result<BreakerState, CommandError> {
        self.command_breaker(BreakerOrder::Reset, path).await
    }

    async fn command_breaker(
        &self,
        order: BreakerOrder,
        path: &str,
    ) -> Result<BreakerState, CommandError> {
        match self.command(Command::Breaker(order), path).await? {
            Done::Breaker(state) => Ok(state),
            _ => Err(CommandError::CutOff {
                path: path.to_owned(),
                command: order.name(),
            }),
        }
    }

    /// Changes how many workers the pool at `path` keeps, and how many more it may start; see
    /// [`Pool::resize`](perennial_pool::Pool::resize).
    ///
    /// Returns before the workers have come or gone. The size holds until the next one is set, over restarts of the
    /// pool; the next process begins with that of its settings.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] and [`CommandError::NotOne`] name the pool that was probably meant.
    /// - [`CommandError::PoolConfig`] when there would be too many; nothing is changed then.
    /// - [`CommandError::TimedOut`] when the debug actor was not running until the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resize(
        &self,
        path: &str,
        size: usize,
        max_overflow: usize,
    ) -> Result<(), CommandError> {
        let order = PoolOrder::Resize { size, max_overflow };
        self.command(Command::Pool(order), path).await.map(drop)
    }

    /// Has the pool at `path` lend nothing more until it is told to [lend again](Self::resume_lending), and waits until
    /// all workers are back.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] and [`CommandError::NotOne`] name the pool that was probably meant.
    /// - [`CommandError::PoolClosed`] when it lends nothing as it is.
    /// - [`CommandError::TimedOut`] when not all workers were back by the deadline: the pool stays drained. Also when the
    ///   debug actor was not running until then.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn drain(&self, path: &str) -> Result<(), CommandError> {
        let command = Command::Pool(PoolOrder::Drain);
        self.command(command, path).await.map(drop)
    }

    /// Has the pool at `path` lend again after a [drain](Self::drain); one that was not drained is left as it is.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resume_lending(&self, path: &str) -> Result<(), CommandError> {
        let command = Command::Pool(PoolOrder::ResumeLending);
        self.command(command, path).await.map(drop)
    }
}

pub(crate) fn command_breaker(shared: &Shared, order: BreakerOrder, path: &str) -> Outcome {
    let breakers = shared.breakers.get();
    let Some(breaker) = breakers.and_then(|it| it.find(path)) else {
        let places = breakers.map_or_else(Vec::new, Below::<Breakers>::places);
        return Err(no_such(shared, path, order.name(), "breaker", &places));
    };
    let state = match order {
        BreakerOrder::Trip => breaker.trip(),
        BreakerOrder::Isolate => breaker.force_open(),
        BreakerOrder::Reset => breaker.reset(),
    };
    match (order, state) {
        (
            BreakerOrder::Trip,
            BreakerState::ForcedClosed | BreakerState::Disabled | BreakerState::MetricsOnly,
        ) => Err(CommandError::NotTripped {
            path: ActorPath::root(path),
            state,
        }),
        _ => Ok(Done::Breaker(state)),
    }
}

pub(crate) async fn command_pool(shared: &Shared, order: PoolOrder, path: &str) -> Outcome {
    let pools = shared.pools.get();
    let Some(pool) = pools.and_then(|it| it.find(path)) else {
        let places = pools.map_or_else(Vec::new, Below::<Pools>::places);
        return Err(no_such(shared, path, order.name(), "pool", &places));
    };
    match order {
        PoolOrder::Resize { size, max_overflow } => pool.resize(size, max_overflow)?,
        _ if pool.is_closed() => {
            return Err(CommandError::PoolClosed {
                path: ActorPath::root(path),
                command: order.name(),
            });
        }
        PoolOrder::Drain => pool.drain().await,
        PoolOrder::ResumeLending => pool.resume(),
    }
    Ok(Done::AsTold)
}

/// Says that what lives at a path is none of these, or that nothing does.
fn no_such(
    shared: &Shared,
    path: &str,
    command: &'static str,
    kind: &'static str,
    places: &[ActorPath],
) -> CommandError {
    let asked = ActorPath::root(path);
    // Of the same name, around it, as the pool of a worker, or below it.
    let is_near =
        |it: &&ActorPath| it.id() == asked.id() || asked.starts_with(it) || it.starts_with(&asked);
    let near = places.iter().find(is_near).cloned();
    let meant = near.or_else(|| nearest_of(path, places.iter().cloned()));
    let root = shared.scope.root();
    match root.find(path) {
        Some(node) => CommandError::NotOne {
            path: node.path().clone(),
            command,
            kind,
            nearest: meant,
        },
        None => CommandError::NotFound {
            path: path.to_owned(),
            nearest: meant
                .map(|it| it.to_string())
                .or_else(|| nearest(root, path)),
        },
    }
}
