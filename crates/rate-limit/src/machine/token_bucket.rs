//! The token bucket, which counts whole tokens and loses no fraction of one.

use super::{Debt, Meter, Verdict, count, scaled, scaled_up};
use crate::{
    clock::Nanos,
    quota::{LONGEST, Quota},
};

/// The token bucket: J. Turner, "New directions in communications", 1986; RFC 2697 counts its tokens like this.
///
/// A bucket holds at most a burst of tokens, and a check takes some out. From the moment at which a full bucket is
/// touched, the k-th token comes back after `k * period / limit`, computed as a fraction and not as k rounded
/// intervals: 3 per second are 10,800 per hour, not one less, and a steady caller loses no remainder.
///
/// A reading from before that moment finds no token back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenBucket {
    period: u64,
    /// Tokens that come back per period; at least 1.
    limit: u32,
    /// Tokens in a full bucket. With zero there is nothing to spend, ever.
    burst: u32,
}

/// Tokens taken since a full bucket was touched. With none taken the bucket is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    since: Nanos,
    tokens: u64,
}

impl TokenBucket {
    pub(super) fn new(quota: &Quota) -> Self {
        Self::with(quota.period_nanos(), quota.limit(), quota.max_at_once())
    }

    pub(super) fn with(period: u64, limit: u32, burst: u32) -> Self {
        let period = period.max(1);
        // No more than one token per nanosecond, so that the time of each is an instant of its own.
        let limit = limit.clamp(1, count(period));
        let most = scaled(LONGEST, u64::from(limit), period).max(1);
        Self {
            period,
            limit,
            burst: burst.min(count(most)),
        }
    }

    /// Tokens missing from the bucket.
    #[inline]
    fn missing(&self, state: &Taken, now: Nanos) -> u64 {
        let passed = now.0.saturating_sub(state.since.0);
        // No product for those who come after a rest.
        if state.tokens == 0 {
            return 0;
        }
        let back = scaled(passed, u64::from(self.limit), self.period);
        state.tokens.saturating_sub(back)
    }

    /// When the `k`-th token is back.
    fn back_at(&self, state: &Taken, k: u64) -> Nanos {
        let wait = scaled_up(k, self.period, u64::from(self.limit));
        Nanos(state.since.0.saturating_add(wait))
    }
}

impl Meter for TokenBucket {
    type State = Taken;

    fn ask(&self, state: &Taken, n: u32, now: Nanos) -> Verdict {
        let mut state = *state;
        self.spend(&mut state, n, now)
    }

    #[inline]
    fn spend(&self, state: &mut Taken, n: u32, now: Nanos) -> Verdict {
        let missing = self.missing(state, now);
        let (n, burst) = (u64::from(n), u64::from(self.burst));
        let left = burst.saturating_sub(missing);
        if n == 0 {
            let remaining = count(left);
            return Verdict::Allowed { remaining };
        }
        if n > burst {
            return Verdict::Never;
        }
        if n > left {
            let back = state.tokens.saturating_add(n) - burst;
            return Verdict::NotUntil(self.back_at(state, back));
        }
        if missing == 0 {
            *state = Taken {
                since: now.max(state.since),
                tokens: n,
            };
        } else {
            // A whole period gives back exactly the limit, so counting may begin anew there.
            let periods = now.0.saturating_sub(state.since.0) / self.period;
            state.since.0 += periods * self.period;
            state.tokens = state.tokens - periods * u64::from(self.limit) + n;
        }
        Verdict::Allowed {
            remaining: count(left - n),
        }
    }

    fn spent(&self, state: &Taken, now: Nanos) -> u32 {
        count(self.missing(state, now))
    }

    fn remaining(&self, state: &Taken, now: Nanos) -> u32 {
        count(u64::from(self.burst).saturating_sub(self.missing(state, now)))
    }

    fn idle_at(&self, state: &Taken) -> Nanos {
        match state.tokens {
            0 => Nanos(0),
            tokens => self.back_at(state, tokens),
        }
    }

    fn most(&self) -> u32 {
        self.burst
    }

    fn debt(&self, state: &Taken, now: Nanos) -> Debt {
        let passed = now.0.saturating_sub(state.since.0);
        let taken = u128::from(state.tokens) * u128::from(self.period);
        let back = u128::from(passed) * u128::from(self.limit);
        Debt::new(taken.saturating_sub(back), self.period)
    }

    fn falls_to(&self, state: &Taken, cells: u32) -> Nanos {
        match state.tokens.saturating_sub(u64::from(cells)) {
            0 => Nanos(0),
            tokens => self.back_at(state, tokens),
        }
    }

    /// The part of a token that is back already is time that has passed.
    fn owing(&self, debt: Debt, now: Nanos) -> Taken {
        let tokens = debt.whole.saturating_add(u64::from(debt.part > 0));
        if tokens == 0 {
            return Taken::default();
        }
        let passed = match debt.part {
            0 => 0,
            part => {
                let back = u128::from(debt.of - part) * u128::from(self.period);
                back / (u128::from(debt.of) * u128::from(self.limit))
            }
        };
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        Taken {
            since: Nanos(now.0.saturating_sub(passed)),
            tokens,
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.burst == 0
    }
}
