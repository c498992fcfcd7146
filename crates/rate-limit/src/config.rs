//! Settings: [`RateGateConfig`] and [`WhenFull`].

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::RateGateConfigError;

/// The default cap on keys, some 10 MB of them.
pub(crate) const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// What happens to a new key when as many keys are known as may be.
///
/// Idle keys make room first; this is about what comes after. A few dozen keys
/// are looked at, not all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Forgets the key that has spent the fewest cells (the default).
    ///
    /// A flood of new keys then pushes out the flood, and not the keys that are
    /// near their limit. A key that is pushed out and comes back may be admitted
    /// once more for each cell that it had spent.
    #[default]
    Evict,
    /// Refuses the new key until a known one is idle.
    ///
    /// No quota is ever exceeded, at the price that a flood of new keys locks
    /// out whoever is not known yet. The `retry_after` of such a refusal is when
    /// the first of the keys that were looked at, now and before, among the
    /// newcomer's neighbours will be idle: a retry then is admitted, if that key
    /// spends nothing until then and nobody else takes its place. A retry before
    /// looks at other keys, and may find one that is idle.
    Refuse,
}

/// The settings of a [`RateGate`](crate::RateGate).
///
/// ```
/// use perennial_rate_limit::{RateGateConfig, WhenFull};
///
/// let config: RateGateConfig =
///     serde_json::from_str(r#"{ "max_keys": 5000, "when_full": "refuse" }"#)?;
/// assert_eq!(config.max_keys.get(), 5000);
/// assert_eq!(config.when_full, WhenFull::Refuse);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RateGateConfig {
    /// How many keys are known at most (default: 100,000).
    pub max_keys: NonZeroUsize,
    /// What happens to a new key then (default: evict).
    pub when_full: WhenFull,
    /// The time between two steps of the sweep (default: 250 ms).
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// Keys looked at in one step (default: 8,192).
    pub sweep_budget: NonZeroUsize,
}

impl Default for RateGateConfig {
    fn default() -> Self {
        const BUDGET: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
        Self {
            max_keys: MAX_KEYS,
            when_full: WhenFull::default(),
            sweep_interval: Duration::from_millis(250),
            sweep_budget: BUDGET,
        }
    }
}

impl RateGateConfig {
    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// [`RateGateConfigError`] names the field.
    pub fn validate(&self) -> Result<(), RateGateConfigError> {
        if self.sweep_interval < Duration::from_millis(1) {
            return Err(RateGateConfigError::SweepIntervalTooShort);
        }
        Ok(())
    }
}
