//! The decisions: (word, cells, now) -> (answer, word). No clock, no map, no lock.
//!
//! All that is known of a key is one 64-bit word, and a [`Meter`] says what a
//! word means. The word of a new key is zero, and a word only ever grows, but for
//! a change of the quota. [`Cell`] makes a step atomic.
//!
//! The meters implement `ratelimit_meter`'s `Algorithm` over [`Nanos`], so they
//! run wherever that trait is asked for.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use ratelimit_meter::{
    NegativeMultiDecision, NonConformance,
    algorithms::{Algorithm as MeterAlgorithm, RateLimitState},
};

use crate::{
    clock::Nanos,
    quota::{Algorithm, Quota},
};

mod fixed_window;
mod gcra;
#[cfg(test)]
mod tests;

pub(crate) use self::{fixed_window::FixedWindow, gcra::Gcra};

/// The answer of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed { remaining: u32 },
    NotUntil(Nanos),
    Never,
}

impl Verdict {
    /// The verdict on `n` cells in the words of `ratelimit_meter`.
    fn for_batch(self, n: u32) -> Result<(), NegativeMultiDecision<NotUntil>> {
        match self {
            Self::Allowed { .. } => Ok(()),
            Self::NotUntil(at) => Err(NegativeMultiDecision::BatchNonConforming(n, NotUntil(at))),
            Self::Never => Err(NegativeMultiDecision::InsufficientCapacity(n)),
        }
    }
}

/// What a step of a meter comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) verdict: Verdict,
    /// The word from now on; the word before if nothing is to be written.
    pub(crate) word: u64,
}

/// The meaning of a key's word.
pub(crate) trait Meter {
    /// Asks for `n` cells at `now`. Asking for 0 cells changes nothing.
    fn step(&self, word: u64, n: u32, now: Nanos) -> Step;

    /// Cells spent and not yet given back, rounded up.
    fn spent(&self, word: u64, now: Nanos) -> u32;

    /// Cells that could be spent now.
    fn remaining(&self, word: u64, now: Nanos) -> u32;

    /// When the quota is whole again.
    fn resets_at(&self, word: u64, now: Nanos) -> Nanos;

    /// From when on the word means the same as a new key's.
    fn idle_at(&self, word: u64) -> Nanos;

    /// The word of a key that has spent `cells` by `now`.
    fn word_with(&self, cells: u32, now: Nanos) -> u64;
}

/// One key's word.
///
/// Everything about the key is in this one word and nothing else is published
/// through it, so relaxed ordering is enough: the modification order of a
/// single atomic is total, and a step is lost or applied as a whole.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn new(word: u64) -> Self {
        Self(AtomicU64::new(word))
    }

    pub(crate) fn word(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn spend(&self, meter: &impl Meter, n: u32, now: Nanos) -> Verdict {
        let mut word = self.word();
        loop {
            let step = meter.step(word, n, now);
            if step.word == word {
                return step.verdict;
            }
            match self.0.compare_exchange_weak(
                word,
                step.word,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return step.verdict,
                Err(seen) => word = seen,
            }
        }
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word()
    }
}

impl Eq for Cell {}

impl<M> RateLimitState<M, Nanos> for Cell
where
    M: Meter + MeterAlgorithm<Nanos>,
{
    fn last_touched(&self, meter: &M) -> Option<Nanos> {
        match self.word() {
            0 => None,
            word => Some(meter.idle_at(word)),
        }
    }
}

/// The instant before which a retry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUntil(pub(crate) Nanos);

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

/// A meter chosen at run time, ready to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Gcra(Gcra),
    FixedWindow(FixedWindow),
}

impl Engine {
    pub(crate) fn new(quota: &Quota) -> Self {
        match quota.metered_by() {
            Algorithm::Gcra => Self::Gcra(Gcra::new(quota)),
            Algorithm::FixedWindow => Self::FixedWindow(FixedWindow::new(quota)),
        }
    }

    /// Tells whether this refuses everything at all times.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Gcra(meter) => meter.is_closed(),
            Self::FixedWindow(meter) => meter.is_closed(),
        }
    }

    /// Translates a word of `from` into one of this meter, keeping what was spent.
    ///
    /// Debt above the new burst is forgiven, so that a lowered quota locks
    /// nobody out for longer than it takes to refill.
    pub(crate) fn carry(&self, from: &Engine, word: u64, now: Nanos) -> u64 {
        match (from, self) {
            _ if from == self => word,
            (Self::Gcra(from), Self::Gcra(to)) => to.carry(from, word, now),
            (Self::FixedWindow(from), Self::FixedWindow(to)) if from.same_windows(to) => word,
            _ => self.word_with(from.spent(word, now), now),
        }
    }
}

impl Meter for Engine {
    fn step(&self, word: u64, n: u32, now: Nanos) -> Step {
        match self {
            Self::Gcra(meter) => meter.step(word, n, now),
            Self::FixedWindow(meter) => meter.step(word, n, now),
        }
    }

    fn spent(&self, word: u64, now: Nanos) -> u32 {
        match self {
            Self::Gcra(meter) => meter.spent(word, now),
            Self::FixedWindow(meter) => meter.spent(word, now),
        }
    }

    fn remaining(&self, word: u64, now: Nanos) -> u32 {
        match self {
            Self::Gcra(meter) => meter.remaining(word, now),
            Self::FixedWindow(meter) => meter.remaining(word, now),
        }
    }

    fn resets_at(&self, word: u64, now: Nanos) -> Nanos {
        match self {
            Self::Gcra(meter) => meter.resets_at(word, now),
            Self::FixedWindow(meter) => meter.resets_at(word, now),
        }
    }

    fn idle_at(&self, word: u64) -> Nanos {
        match self {
            Self::Gcra(meter) => meter.idle_at(word),
            Self::FixedWindow(meter) => meter.idle_at(word),
        }
    }

    fn word_with(&self, cells: u32, now: Nanos) -> u64 {
        match self {
            Self::Gcra(meter) => meter.word_with(cells, now),
            Self::FixedWindow(meter) => meter.word_with(cells, now),
        }
    }
}

/// Counts are reported in 32 bits; what does not fit is reported as the most that does.
fn count(cells: u64) -> u32 {
    u32::try_from(cells).unwrap_or(u32::MAX)
}
