//! What a caller may do: [`Quota`] and the [`Algorithm`] that meters it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock::nanos, error::QuotaError};

const SECOND: u64 = 1_000_000_000;
const SHORTEST: Duration = Duration::from_micros(1);
/// The longest time that any state may reach into the future: twice this, added to any present time, still fits the
/// limiter's 64 bits.
pub(crate) const LONGEST: u64 = 1 << 61;

/// How a [`Quota`] is metered.
///
/// | algorithm | admits | gives back | source |
/// | --- | --- | --- | --- |
/// | `Gcra` | a burst at once, then one cell every `period / limit` | cell by cell | ITU-T I.371, annex A, virtual scheduling |
/// | `TokenBucket` | the same, but the rate is kept as a fraction: no rounding of the interval adds up | token by token | RFC 2697; Turner 1986 |
/// | `LeakyBucket` | the same as `Gcra` | evenly | ITU-T I.371, annex A, continuous-state leaky bucket |
/// | `FixedWindow` | `limit` cells per window; windows start at multiples of the period since the Unix epoch | all at once, when the window ends | ExRated |
/// | `SlidingWindow` | `limit` cells in any period, wherever it begins | each cell one period after it was spent | a log; above a limit of 64, in steps of a 64th of the period |
///
/// Around the edge of a fixed window twice the limit may pass within one period; that is what fixed windows do. A
/// burst and what comes back meanwhile are admitted by the first three, so within one period after a rest
/// `burst + limit` cells may pass. A sliding window never lets more than the limit through, at the price of up to
/// one kilobyte per key.
///
/// With the shortest state and the quickest step, `Gcra` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// The generic cell rate algorithm (the default).
    #[default]
    Gcra,
    /// Whole tokens that come back at the exact rate.
    TokenBucket,
    /// A bucket that fills with cells and drains evenly.
    LeakyBucket,
    /// Windows aligned to the epoch; a denied check counts as well.
    FixedWindow,
    /// A window that ends now, wherever now is.
    SlidingWindow,
}

impl Algorithm {
    /// Tells whether it has no use for a burst.
    fn is_window(self) -> bool {
        matches!(self, Self::FixedWindow | Self::SlidingWindow)
    }
}

/// How many cells a key may spend per period, and how many of them at once.
///
/// A limit of 0 always refuses. The burst (by default the limit) is what may be spent at once after a rest, and
/// a burst of 0 always refuses too; the two windows have no use for it. [`Algorithm::Gcra`] and
/// [`Algorithm::LeakyBucket`] round an interval between cells that is no whole number of nanoseconds up, so a quota
/// is never exceeded. A rate above one cell per nanosecond is held at that.
///
/// In a configuration file a quota is a table; only `limit` and
/// `period` are required, and a burst beside a window is an error:
///
/// ```
/// use perennial_rate_limit::{Algorithm, Quota};
///
/// let quota: Quota = serde_json::from_str(
///     r#"{ "limit": 10, "period": "1m", "burst": 3, "algorithm": "gcra" }"#,
/// )?;
/// assert_eq!(quota, Quota::per_minute(10).burst(3));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_rate_limit::{Algorithm, Quota};
///
/// let logins = Quota::per_minute(10);
/// let exports = Quota::new(100, Duration::from_secs(6 * 3600))?.algorithm(Algorithm::FixedWindow);
/// assert_eq!(logins.period(), Duration::from_secs(60));
/// assert_eq!(exports.limit(), 100);
/// # Ok::<(), perennial_rate_limit::QuotaError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "QuotaTable", into = "QuotaTable")]
pub struct Quota {
    limit: u32,
    burst: u32,
    period: u64,
    algorithm: Algorithm,
}

impl Quota {
    /// Allows `limit` cells per `period`.
    ///
    /// # Errors
    ///
    /// - [`QuotaError::PeriodTooShort`] for a period of zero, or below a microsecond.
    /// - [`QuotaError::PeriodTooLong`] for one of more than 73 years.
    pub fn new(limit: u32, period: Duration) -> Result<Self, QuotaError> {
        if period < SHORTEST {
            return Err(QuotaError::PeriodTooShort { period });
        }
        if period > Duration::from_nanos(LONGEST) {
            return Err(QuotaError::PeriodTooLong { period });
        }
        Ok(Self::of(limit, nanos(period)))
    }

    /// Allows `limit` cells per second.
    #[must_use]
    pub const fn per_second(limit: u32) -> Self {
        Self::of(limit, SECOND)
    }

    /// Allows `limit` cells per minute.
    #[must_use]
    pub const fn per_minute(limit: u32) -> Self {
        Self::of(limit, 60 * SECOND)
    }

    /// Allows `limit` cells per hour.
    #[must_use]
    pub const fn per_hour(limit: u32) -> Self {
        Self::of(limit, 3600 * SECOND)
    }

    const fn of(limit: u32, period: u64) -> Self {
        Self {
            limit,
            burst: limit,
            period,
            algorithm: Algorithm::Gcra,
        }
    }

    /// Sets how many cells may be spent at once after a rest (default: the limit).
    ///
    /// A burst that would take more than 73 years to refill is cut to what
    /// does not.
    #[must_use]
    pub const fn burst(mut self, cells: u32) -> Self {
        self.burst = cells;
        self
    }

    /// Sets how the quota is metered (default: [`Algorithm::Gcra`]).
    #[must_use]
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Returns how many cells are allowed per period.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns the period.
    #[must_use]
    pub const fn period(&self) -> Duration {
        Duration::from_nanos(self.period)
    }

    /// Returns how many cells may be spent at once, as they are metered: a [burst](Quota::burst) that was cut, or a rate that is
    /// held, is told as it is.
    ///
    /// In a window, fixed or sliding, this is the limit, whatever [`Quota::burst`] was set to.
    #[must_use]
    pub const fn max_at_once(&self) -> u32 {
        let (limit, period) = (self.limit as u128, self.period as u128);
        let longest = LONGEST as u128;
        let (asked, most) = match self.algorithm {
            Algorithm::SlidingWindow => return self.limit,
            // Less than one cell per nanosecond.
            Algorithm::FixedWindow => (self.limit, period - 1),
            _ if limit == 0 => return 0,
            Algorithm::Gcra | Algorithm::LeakyBucket => {
                (self.burst, longest / period.div_ceil(limit))
            }
            Algorithm::TokenBucket => {
                let rate = if limit < period { limit } else { period };
                (self.burst, longest * rate / period)
            }
        };
        if asked as u128 <= most {
            return asked;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "less than what was asked for"
        )]
        let most = most as u32;
        // One comes back at some time, however long that takes.
        if most == 0 { 1 } else { most }
    }

    /// Returns how the quota is metered.
    #[must_use]
    pub const fn metered_by(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) const fn period_nanos(&self) -> u64 {
        self.period
    }
}

/// The form of a quota in a configuration file.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Quota", deny_unknown_fields)]
struct QuotaTable {
    limit: u32,
    #[serde(with = "humantime_serde")]
    period: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(default)]
    algorithm: Algorithm,
}

impl TryFrom<QuotaTable> for Quota {
    type Error = QuotaError;

    fn try_from(table: QuotaTable) -> Result<Self, QuotaError> {
        let QuotaTable {
            limit,
            period,
            burst,
            algorithm,
        } = table;
        let quota = Quota::new(limit, period)?.algorithm(algorithm);
        match burst {
            None => Ok(quota),
            Some(_) if algorithm.is_window() => Err(QuotaError::BurstOfWindow { limit, algorithm }),
            Some(burst) => Ok(quota.burst(burst)),
        }
    }
}

impl From<Quota> for QuotaTable {
    fn from(quota: Quota) -> Self {
        Self {
            limit: quota.limit,
            period: quota.period(),
            burst: (quota.burst != quota.limit && !quota.algorithm.is_window())
                .then_some(quota.burst),
            algorithm: quota.algorithm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Quota, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_period_of_zero_is_refused() {
        assert!(matches!(
            Quota::new(1, Duration::ZERO),
            Err(QuotaError::PeriodTooShort { .. })
        ));
        assert!(matches!(
            Quota::new(1, Duration::MAX),
            Err(QuotaError::PeriodTooLong { .. })
        ));
        assert!(Quota::new(1, SHORTEST).is_ok());
        assert!(Quota::new(1, Duration::from_nanos(LONGEST)).is_ok());
        assert!(Quota::new(1, Duration::from_nanos(LONGEST + 1)).is_err());
    }

    #[test]
    fn the_table_needs_a_limit_and_one_period() {
        assert_eq!(
            parse(r#"{"limit":10,"period":"1m"}"#),
            Ok(Quota::per_minute(10))
        );
        assert!(parse(r#"{"limit":10}"#).unwrap_err().contains("period"));
        assert!(
            parse(r#"{"limit":10,"period":"0s"}"#)
                .unwrap_err()
                .contains("too short")
        );
        assert!(
            parse(r#"{"limit":10,"period":"1ms","brust":3}"#)
                .unwrap_err()
                .contains("brust")
        );
        assert!(parse(r#"{"limit":-1,"period":"1ms"}"#).is_err());
    }

    #[test]
    fn a_burst_beside_a_window_is_refused_by_name_and_not_ignored() {
        for (algorithm, window) in [
            ("fixed_window", Algorithm::FixedWindow),
            ("sliding_window", Algorithm::SlidingWindow),
        ] {
            let written =
                format!(r#"{{"limit":10,"period":"1m","burst":3,"algorithm":"{algorithm}"}}"#);
            let error = parse(&written).unwrap_err();
            assert!(
                error.starts_with("burst") && error.contains("10"),
                "{error}"
            );
            // Nor is one written that could not be read.
            let quota = Quota::per_minute(10).algorithm(window);
            let text = serde_json::to_string(&quota.burst(3)).unwrap();
            assert_eq!(parse(&text), Ok(quota));
        }
    }

    #[test]
    fn a_quota_survives_the_way_through_a_file() {
        for quota in [
            Quota::per_second(7),
            Quota::per_hour(0).burst(3),
            Quota::per_hour(4).algorithm(Algorithm::FixedWindow),
            Quota::per_minute(5).algorithm(Algorithm::TokenBucket),
            Quota::per_minute(5)
                .burst(9)
                .algorithm(Algorithm::LeakyBucket),
            Quota::per_minute(5).algorithm(Algorithm::SlidingWindow),
            Quota::new(3, Duration::from_nanos(1_500_001)).unwrap(),
        ] {
            let text = serde_json::to_string(&quota).unwrap();
            assert_eq!(parse(&text), Ok(quota), "{text}");
        }
    }
}
