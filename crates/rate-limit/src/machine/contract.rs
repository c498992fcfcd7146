//! Our meters under `ratelimit_meter`'s contract.

use std::{fmt, num::NonZeroU32, time::Duration};

use ratelimit_meter::{
    GCRA, InconsistentCapacity, NegativeMultiDecision, NonConformance,
    algorithms::{Algorithm, RateLimitState},
};

use super::{
    Cell, FixedWindow, Gcra, Locked, Log, Meter as _, SlidingWindow, Taken, TokenBucket, Verdict,
    cell::Word as _,
};
use crate::clock::{Nanos, nanos};

/// The instant before which a retry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUntil(pub(crate) Nanos);

impl fmt::Display for NotUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not until {} ns after the epoch", self.0.0)
    }
}

impl NonConformance<Nanos> for NotUntil {
    fn earliest_possible(&self) -> Nanos {
        self.0
    }
}

/// The verdict on `n` cells in the words of `ratelimit_meter`.
fn for_batch(verdict: Verdict, n: u32) -> Result<(), NegativeMultiDecision<NotUntil>> {
    match verdict {
        Verdict::Allowed { .. } => Ok(()),
        Verdict::NotUntil(at) => Err(NegativeMultiDecision::BatchNonConforming(n, NotUntil(at))),
        Verdict::Never => Err(NegativeMultiDecision::InsufficientCapacity(n)),
    }
}

/// How many cells of this weight are allowed.
fn cells(capacity: NonZeroU32, weight: NonZeroU32) -> Result<u32, InconsistentCapacity> {
    // Only the library can make its error, so its own algorithm judges the weight; it divides by a time that
    // must not be zero.
    GCRA::<Nanos>::construct(capacity, weight, Duration::from_secs(1))?;
    Ok(capacity.get() / weight.get())
}

/// Implements the trait over a state that is stepped without a lock, or under one.
macro_rules! algorithm {
    ($meter:ty, $state:ty, $spend:expr, $idle_at:expr) => {
        impl Algorithm<Nanos> for $meter {
            type BucketState = $state;
            type NegativeDecision = NotUntil;

            fn construct(
                capacity: NonZeroU32,
                cell_weight: NonZeroU32,
                per_time_unit: Duration,
            ) -> Result<Self, InconsistentCapacity> {
                let cells = cells(capacity, cell_weight)?;
                Ok(Self::with(nanos(per_time_unit), cells, cells))
            }

            fn test_n_and_update(
                &self,
                state: &$state,
                n: u32,
                at: Nanos,
            ) -> Result<(), NegativeMultiDecision<NotUntil>> {
                for_batch($spend(self, state, n, at), n)
            }
        }

        impl RateLimitState<$meter, Nanos> for $state {
            fn last_touched(&self, meter: &$meter) -> Option<Nanos> {
                $idle_at(meter, self)
            }
        }
    };
}

/// For a meter whose state fits into a word.
macro_rules! lock_free {
    ($meter:ty) => {
        algorithm!(
            $meter,
            Cell<$meter>,
            |meter: &$meter, cell: &Cell<$meter>, n, at| cell.spend(meter, n, at),
            |meter: &$meter, cell: &Cell<$meter>| match cell.word() {
                0 => None,
                word => Some(meter.idle_at(&meter.unpack(word))),
            }
        );
    };
}

/// For a meter whose state does not.
macro_rules! locked {
    ($meter:ty, $state:ty) => {
        algorithm!(
            $meter,
            Locked<$state>,
            |meter: &$meter, cell: &Locked<$state>, n, at| {
                cell.with(|state| meter.spend(state, n, at))
            },
            |meter: &$meter, cell: &Locked<$state>| {
                cell.with(|state| (*state != <$state>::default()).then(|| meter.idle_at(state)))
            }
        );
    };
}

lock_free!(Gcra);
lock_free!(FixedWindow);
locked!(TokenBucket, Taken);
locked!(SlidingWindow, Log);
