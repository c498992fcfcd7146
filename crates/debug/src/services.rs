//! Carries out what operators command besides actors: breakers and pools.

use perennial_breaker::{BreakerState, Breakers};
use perennial_lifecycle::ActorPath;
use perennial_pool::Pools;

use crate::CommandError;
use crate::command::{BreakerOrder, Done, Outcome, PoolOrder};
use crate::nearest::{nearest, nearest_of};
use crate::shared::{Below, Shared};

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
