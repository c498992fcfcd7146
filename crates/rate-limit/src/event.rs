//! What is told to `tracing` and `metrics`, and the only place that tells it.
//!
//! | metric | kind | attributes |
//! | --- | --- | --- |
//! | `perennial.rate_limit.check` | counter | `rate_limit.scope`, `outcome` = `allowed` or `refused` |
//! | `perennial.rate_limit.key` | gauge | |
//! | `perennial.rate_limit.swept` | counter | |
//! | `perennial.rate_limit.evicted` | counter | |
//!
//! Attributes are names of scopes, which come from configuration; never keys.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{decision::Decision, store::Swept};

/// A count that is kept where it is counted and told from time to time.
///
/// A check would pay more for the look-up of a labelled metric than for itself.
#[derive(Default)]
pub(crate) struct Tally {
    total: AtomicU64,
    told: AtomicU64,
}

impl Tally {
    fn add_one(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// What came since the last time, each count once whoever asks.
    fn untold(&self, total: u64) -> u64 {
        total.saturating_sub(self.told.fetch_max(total, Ordering::Relaxed))
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.total().fmt(f)
    }
}

/// The answers given in one scope.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    allowed: Tally,
    refused: Tally,
}

impl Outcomes {
    pub(crate) fn record(&self, scope: &str, decision: Decision) {
        if decision.is_allowed() {
            self.allowed.add_one();
            return;
        }
        self.refused.add_one();
        tracing::debug!(
            rate_limit.scope = scope,
            retry_after = ?decision.retry_after(),
            "refused by rate limit"
        );
    }

    pub(crate) fn allowed(&self) -> u64 {
        self.allowed.total()
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.total()
    }

    pub(crate) fn publish(&self, scope: &str) {
        for (outcome, tally) in [("allowed", &self.allowed), ("refused", &self.refused)] {
            let untold = tally.untold(tally.total());
            if untold > 0 {
                metrics::counter!(
                    "perennial.rate_limit.check",
                    "rate_limit.scope" => scope.to_owned(),
                    "outcome" => outcome,
                )
                .increment(untold);
            }
        }
    }
}

pub(crate) fn swept(swept: Swept, keys: usize) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and keys are far below 2^52"
    )]
    metrics::gauge!("perennial.rate_limit.key").set(keys as f64);
    if swept.removed > 0 {
        metrics::counter!("perennial.rate_limit.swept").increment(swept.removed as u64);
        tracing::trace!(
            examined = swept.examined,
            removed = swept.removed,
            "swept idle keys"
        );
    }
}

/// Keys that had to make room for others since the last time.
pub(crate) fn evicted(tally: &Tally, total: u64, max_keys: usize) {
    let untold = tally.untold(total);
    if untold > 0 {
        metrics::counter!("perennial.rate_limit.evicted").increment(untold);
        tracing::warn!(
            evicted = untold,
            max_keys,
            "rate gate is full: keys that spent least were forgotten"
        );
    }
}
