//! The decisions: (state, cells, now) -> (answer, state). No clock, no map, no lock.
//!
//! A [`Meter`] says what the state of a key means. The states of [`Gcra`] and [`FixedWindow`] fit into one 64-bit word,
//! and [`Cell`] makes a step on such a word atomic; the others keep theirs behind [`Locked`]. The store needs neither: its
//! shard is locked anyway, and holds the [`State`] as it is.
//!
//! All meters implement `ratelimit_meter`'s `Algorithm` over [`Nanos`], so they run wherever that trait is asked
//! for.

use crate::{
    clock::Nanos,
    quota::{Algorithm, Quota},
};

mod cell;
mod contract;
mod fixed_window;
mod gcra;
mod sliding_window;
#[cfg(test)]
mod tests;
mod token_bucket;

pub use self::{
    cell::{Cell, Locked},
    contract::NotUntil,
    fixed_window::FixedWindow,
    gcra::{Gcra, LeakyBucket},
    sliding_window::{Log, SlidingWindow},
    token_bucket::{Taken, TokenBucket},
};

/// The answer of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed { remaining: u32 },
    NotUntil(Nanos),
    Never,
}

impl Verdict {
    pub(crate) fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// What is told of a key whose checks are counted by window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) first: Nanos,
    pub(crate) last: Nanos,
}

/// Cells that are still to be given back: the whole ones, and a part of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    whole: u64,
    /// So many `of`ths of a cell; less than one.
    part: u64,
    of: u64,
}

impl Debt {
    /// A fraction of this many cells.
    fn new(parts: u128, of: u64) -> Self {
        let fits = |parts| u64::try_from(parts).unwrap_or(u64::MAX);
        Self {
            whole: fits(parts / u128::from(of)),
            part: fits(parts % u128::from(of)),
            of,
        }
    }

    fn whole(cells: u64) -> Self {
        Self::new(u128::from(cells), 1)
    }

    fn cells(self) -> u32 {
        count(self.whole.saturating_add(u64::from(self.part > 0)))
    }

    /// The time that it takes at one cell per interval.
    fn time(self, interval: u64) -> u64 {
        let part = scaled_up(self.part, interval, self.of);
        self.whole.saturating_mul(interval).saturating_add(part)
    }
}

/// The meaning of a key's state. The state of a new key is the default one.
pub(crate) trait Meter {
    type State: Clone + Default;

    /// Answers as `spend` would. Asking for 0 cells is allowed.
    fn ask(&self, state: &Self::State, n: u32, now: Nanos) -> Verdict;

    /// Takes `n` cells at `now`, all or none. Taking 0 cells changes nothing.
    fn spend(&self, state: &mut Self::State, n: u32, now: Nanos) -> Verdict;

    /// Cells spent and not yet given back, rounded up.
    fn spent(&self, state: &Self::State, now: Nanos) -> u32;

    /// Cells that could be spent now.
    fn remaining(&self, state: &Self::State, now: Nanos) -> u32;

    /// From when on the state means the same as a new key's, if nothing more is spent.
    fn idle_at(&self, state: &Self::State) -> Nanos;

    /// When the quota is whole again.
    fn resets_at(&self, state: &Self::State, now: Nanos) -> Nanos {
        self.idle_at(state).max(now)
    }

    /// The most that can be spent at once.
    fn most(&self) -> u32;

    /// Cells admitted and not yet given back, exactly.
    fn debt(&self, state: &Self::State, now: Nanos) -> Debt;

    /// When no more than so many cells are still to be given back, if nothing more is spent.
    fn falls_to(&self, state: &Self::State, cells: u32) -> Nanos;

    /// The state of a key with this debt at `now`, rounded against the caller.
    fn owing(&self, debt: Debt, now: Nanos) -> Self::State;

    /// Tells whether nothing can be spent at any time.
    fn is_closed(&self) -> bool;
}

/// A meter chosen at run time, ready to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Engine {
    Gcra(Gcra),
    TokenBucket(TokenBucket),
    FixedWindow(FixedWindow),
    SlidingWindow(SlidingWindow),
}

/// The state of a key under an [`Engine`], of the same variant, with the number of its rule.
///
/// What every key has is kept as short as can be, for many keys are slow by their size: a tag, a number and one word
/// make two words, and whatever needs more is boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Gcra(u32, <Gcra as Meter>::State),
    TokenBucket(u32, Box<<TokenBucket as Meter>::State>),
    FixedWindow(u32, Box<<FixedWindow as Meter>::State>),
    SlidingWindow(u32, Box<<SlidingWindow as Meter>::State>),
}

const _: () = assert!(size_of::<State>() == 16);

impl State {
    /// The number of the rule that this is the state of.
    #[inline]
    pub(crate) fn rule(&self) -> u32 {
        match self {
            Self::Gcra(rule, _)
            | Self::TokenBucket(rule, _)
            | Self::FixedWindow(rule, _)
            | Self::SlidingWindow(rule, _) => *rule,
        }
    }
}

/// Calls the meter with its own kind of state.
macro_rules! meter {
    ($engine:expr, $state:expr, |$meter:ident, $its:ident| $call:expr) => {
        match ($engine, $state) {
            (Engine::Gcra($meter), State::Gcra(_, $its)) => $call,
            (Engine::TokenBucket($meter), State::TokenBucket(_, $its)) => $call,
            (Engine::FixedWindow($meter), State::FixedWindow(_, $its)) => $call,
            (Engine::SlidingWindow($meter), State::SlidingWindow(_, $its)) => $call,
            // A state is made and carried over together with its engine.
            (engine, state) => unreachable!("{engine:?} does not meter {state:?}"),
        }
    };
}

impl Engine {
    pub(crate) fn new(quota: &Quota) -> Self {
        match quota.metered_by() {
            Algorithm::Gcra | Algorithm::LeakyBucket => Self::Gcra(Gcra::new(quota)),
            Algorithm::TokenBucket => Self::TokenBucket(TokenBucket::new(quota)),
            Algorithm::FixedWindow => Self::FixedWindow(FixedWindow::new(quota)),
            Algorithm::SlidingWindow => Self::SlidingWindow(SlidingWindow::new(quota)),
        }
    }

    /// The state of a new key, under the rule of this number.
    pub(crate) fn fresh(&self, rule: u32) -> State {
        match self {
            Self::Gcra(_) => State::Gcra(rule, Default::default()),
            Self::TokenBucket(_) => State::TokenBucket(rule, Default::default()),
            Self::FixedWindow(_) => State::FixedWindow(rule, Default::default()),
            Self::SlidingWindow(meter) => State::SlidingWindow(rule, Box::new(meter.fresh())),
        }
    }

    /// Tells whether this refuses everything at all times.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Gcra(meter) => meter.is_closed(),
            Self::TokenBucket(meter) => meter.is_closed(),
            Self::FixedWindow(meter) => meter.is_closed(),
            Self::SlidingWindow(meter) => meter.is_closed(),
        }
    }

    pub(crate) fn ask(&self, state: &State, n: u32, now: Nanos) -> Verdict {
        meter!(self, state, |meter, state| meter.ask(state, n, now))
    }

    #[inline]
    pub(crate) fn spend(&self, state: &mut State, n: u32, now: Nanos) -> Verdict {
        // Quotas are metered so unless somebody chose otherwise: a check that is through in a few steps does not make room for
        // what the others need.
        if let (Self::Gcra(meter), State::Gcra(_, state)) = (self, &mut *state) {
            return meter.spend(state, n, now);
        }
        self.spend_otherwise(state, n, now)
    }

    #[inline(never)]
    fn spend_otherwise(&self, state: &mut State, n: u32, now: Nanos) -> Verdict {
        meter!(self, state, |meter, state| meter.spend(state, n, now))
    }

    pub(crate) fn spent(&self, state: &State, now: Nanos) -> u32 {
        meter!(self, state, |meter, state| meter.spent(state, now))
    }

    pub(crate) fn remaining(&self, state: &State, now: Nanos) -> u32 {
        meter!(self, state, |meter, state| meter.remaining(state, now))
    }

    pub(crate) fn resets_at(&self, state: &State, now: Nanos) -> Nanos {
        meter!(self, state, |meter, state| meter.resets_at(state, now))
    }

    pub(crate) fn idle_at(&self, state: &State) -> Nanos {
        meter!(self, state, |meter, state| meter.idle_at(state))
    }

    /// When the present window was first and last asked for, where windows are fixed.
    pub(crate) fn times(&self, state: &State, now: Nanos) -> Option<Times> {
        match (self, state) {
            (Self::FixedWindow(meter), State::FixedWindow(_, state)) => meter.times(state, now),
            _ => None,
        }
    }

    fn debt(&self, state: &State, now: Nanos) -> Debt {
        meter!(self, state, |meter, state| meter.debt(state, now))
    }

    fn falls_to(&self, state: &State, cells: u32) -> Nanos {
        meter!(self, state, |meter, state| meter.falls_to(state, cells))
    }

    fn most(&self) -> u32 {
        match self {
            Self::Gcra(meter) => meter.most(),
            Self::TokenBucket(meter) => meter.most(),
            Self::FixedWindow(meter) => meter.most(),
            Self::SlidingWindow(meter) => meter.most(),
        }
    }

    fn owing(&self, rule: u32, debt: Debt, now: Nanos) -> State {
        match self {
            Self::Gcra(meter) => State::Gcra(rule, meter.owing(debt, now)),
            Self::TokenBucket(meter) => State::TokenBucket(rule, Box::new(meter.owing(debt, now))),
            Self::FixedWindow(meter) => State::FixedWindow(rule, Box::new(meter.owing(debt, now))),
            Self::SlidingWindow(meter) => {
                State::SlidingWindow(rule, Box::new(meter.owing(debt, now)))
            }
        }
    }

    /// The state of another meter as one of this meter and its rule, if that keeps nobody waiting longer.
    ///
    /// What is still to be given back stays the same, fractions included. `None` leaves the state with `from`, which gives
    /// back sooner, until something is spent under this meter. Only fixed windows read each other's counts as they are,
    /// also longer ones: who could wait for the ends of several would get more than under any.
    pub(crate) fn take_over(
        &self,
        rule: u32,
        from: &Engine,
        state: &State,
        now: Nanos,
    ) -> Option<State> {
        match (from, self, state) {
            (_, Self::FixedWindow(_), State::FixedWindow(_, count)) => {
                return Some(State::FixedWindow(rule, count.clone()));
            }
            (Self::SlidingWindow(from), Self::SlidingWindow(to), State::SlidingWindow(_, log))
                if !to.is_longer(from) =>
            {
                return Some(State::SlidingWindow(rule, Box::new(to.regrouped(log))));
            }
            _ => {}
        }
        let debt = from.debt(state, now);
        let taken = self.owing(rule, debt, now);
        let Some(fewer) = debt.cells().checked_sub(1) else {
            return Some(taken);
        };
        let next = from.falls_to(state, fewer);
        // Of two that give back evenly, who is first to give back one cell is first with all. A window is ahead at all
        // times only if it has given back all by then.
        let sooner = if from.is_even() && self.is_even() {
            self.falls_to(&taken, fewer) < next
        } else {
            self.idle_at(&taken) < next
        };
        sooner.then_some(taken)
    }

    /// Spends as `spend` does, from a state of another meter.
    ///
    /// What is refused changes nothing, unless this meter is quicker: a slower quota that refuses must not slow down
    /// another one of the same key, nor the retry that it was told.
    pub(crate) fn spend_from(
        &self,
        rule: u32,
        from: &Engine,
        state: &mut State,
        n: u32,
        now: Nanos,
    ) -> Verdict {
        if let Some(taken) = self.take_over(rule, from, state, now) {
            *state = taken;
            return self.spend(state, n, now);
        }
        let debt = from.debt(state, now);
        let left = self.most().saturating_sub(debt.cells());
        if n == 0 {
            return Verdict::Allowed { remaining: left };
        }
        let Some(most) = self.most().checked_sub(n) else {
            return Verdict::Never;
        };
        if n > left {
            return Verdict::NotUntil(from.falls_to(state, most));
        }
        *state = match (from, self, &*state) {
            (Self::SlidingWindow(from), Self::SlidingWindow(to), State::SlidingWindow(_, log)) => {
                State::SlidingWindow(rule, Box::new(to.regrouped(&from.kept(log, now))))
            }
            _ => self.owing(rule, debt, now),
        };
        self.spend(state, n, now)
    }

    /// Cells that could be spent now from a state of another meter.
    pub(crate) fn remaining_from(&self, from: &Engine, state: &State, now: Nanos) -> u32 {
        self.most().saturating_sub(from.debt(state, now).cells())
    }

    /// Tells whether cells come back one by one at an even pace.
    fn is_even(&self) -> bool {
        match self {
            Self::Gcra(_) | Self::TokenBucket(_) => true,
            Self::FixedWindow(_) | Self::SlidingWindow(_) => false,
        }
    }
}

/// Counts are reported in 32 bits; what does not fit is reported as the most that does.
fn count(cells: u64) -> u32 {
    u32::try_from(cells).unwrap_or(u32::MAX)
}

/// `a * b / by`, rounded down, without overflow on the way.
fn scaled(a: u64, b: u64, by: u64) -> u64 {
    if let Some(product) = a.checked_mul(b) {
        return product / by;
    }
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(by)).unwrap_or(u64::MAX)
}

/// `a * b / by`, rounded up, without overflow on the way.
fn scaled_up(a: u64, b: u64, by: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    u64::try_from(product.div_ceil(u128::from(by))).unwrap_or(u64::MAX)
}
