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

use perennial_lifecycle::{Lane, shield};

use crate::{decision::Decision, store::Swept};

// Counts are kept where they are counted and told from time to time: a check would pay more for the look-up of a
// labelled metric than for itself.

/// The answers given in one scope, by lane: checks of different keys on different threads would otherwise meet in one
/// cache line.
#[derive(Default)]
pub(crate) struct Outcomes {
    stripes: [Stripe; Lane::COUNT],
    told: [AtomicU64; 2],
}

#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    allowed: AtomicU64,
    refused: AtomicU64,
}

impl Outcomes {
    /// Counts an answer.
    #[inline]
    pub(crate) fn record(&self, scope: &str, decision: &Decision) {
        let lane = Lane::current();
        let stripe = &self.stripes[lane.index()];
        if decision.is_allowed() {
            lane.count(&stripe.allowed);
            return;
        }
        lane.count(&stripe.refused);
        refused(scope, decision);
    }

    pub(crate) fn allowed(&self) -> u64 {
        self.total(|stripe| &stripe.allowed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.total(|stripe| &stripe.refused)
    }

    fn total(&self, count: impl Fn(&Stripe) -> &AtomicU64) -> u64 {
        let counts = self.stripes.iter().map(count);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn publish(&self, scope: &str) {
        let [told_allowed, told_refused] = &self.told;
        for (outcome, total, told) in [
            ("allowed", self.allowed(), told_allowed),
            ("refused", self.refused(), told_refused),
        ] {
            let untold = untold(total, told);
            if untold > 0 {
                shield(|| {
                    metrics::counter!(
                        "perennial.rate_limit.check",
                        "rate_limit.scope" => scope.to_owned(),
                        "outcome" => outcome,
                    )
                    .increment(untold);
                });
            }
        }
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes")
            .field("allowed", &self.allowed())
            .field("refused", &self.refused())
            .finish()
    }
}

/// What came since the last time, each count once whoever asks.
fn untold(total: u64, told: &AtomicU64) -> u64 {
    total.saturating_sub(told.fetch_max(total, Ordering::Relaxed))
}

fn refused(scope: &str, decision: &Decision) {
    tracing::debug!(
        rate_limit.scope = scope,
        retry_after = ?decision.retry_after(),
        "refused by rate limit"
    );
}

pub(crate) fn swept(swept: Swept, keys: usize) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and keys are far below 2^52"
    )]
    shield(|| metrics::gauge!("perennial.rate_limit.key").set(keys as f64));
    if swept.removed > 0 {
        shield(|| metrics::counter!("perennial.rate_limit.swept").increment(swept.removed as u64));
        shield(|| {
            tracing::trace!(
                examined = swept.examined,
                removed = swept.removed,
                "swept idle keys"
            );
        });
    }
}

/// Keys that had to make room for others since the last time.
pub(crate) fn evicted(told: &AtomicU64, total: u64, max_keys: usize) {
    let untold = untold(total, told);
    if untold > 0 {
        shield(|| metrics::counter!("perennial.rate_limit.evicted").increment(untold));
        shield(|| {
            tracing::warn!(
                evicted = untold,
                max_keys,
                "rate gate is full: keys that spent least were forgotten"
            );
        });
    }
}
