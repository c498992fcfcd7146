//! Settings of a breaker, checked when they are built or read.

mod duration;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::BreakerConfigError;

/// The longest time a setting may name, 365 days: sums of such times stay far from the end of the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A window over calls keeps one entry a call.
const LARGEST_WINDOW: u32 = 1_000_000;

/// When a breaker opens, for how long, and how it closes again.
///
/// A value that exists has been checked. The default opens after 5 failures in a row, stays open for 30 s, and
/// closes when the one probe it then admits ends well.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_breaker::{BreakerConfig, OpenTime, Trip, Window};
///
/// let config = BreakerConfig::builder()
///     .trip(Trip::FailureRate { ratio: 0.5, window: Window::Calls(100), min_calls: 20 })
///     .open_time(OpenTime::Growing {
///         first: Duration::from_secs(1),
///         factor: 2.0,
///         cap: Duration::from_secs(60),
///     })
///     .half_open_permits(3)
///     .successes_to_close(3)
///     .build()?;
///
/// let same: BreakerConfig = toml::from_str(r#"
///     trip.failure_rate = { ratio = 0.5, window.calls = 100, min_calls = 20 }
///     open_time = { first = "1s", factor = 2.0, cap = "1m" }
///     half_open_permits = 3
///     successes_to_close = 3
/// "#)?;
/// assert_eq!(config, same);
///
/// let error = BreakerConfig::builder().trip(Trip::Consecutive(0)).build().unwrap_err();
/// assert_eq!(error.to_string(), "`trip.consecutive` must be at least 1, not 0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "BreakerConfigBuilder")]
pub struct BreakerConfig {
    trip: Trip,
    open_time: OpenTime,
    half_open_permits: u32,
    successes_to_close: u32,
}

impl BreakerConfig {
    /// Starts from the defaults.
    pub fn builder() -> BreakerConfigBuilder {
        BreakerConfigBuilder::default()
    }

    /// Returns the condition that opens the breaker.
    #[must_use]
    pub fn trip(&self) -> &Trip {
        &self.trip
    }

    /// Returns how long the breaker stays open.
    #[must_use]
    pub fn open_time(&self) -> OpenTime {
        self.open_time
    }

    /// Returns how many probes may run at once.
    #[must_use]
    pub fn half_open_permits(&self) -> u32 {
        self.half_open_permits
    }

    /// Returns how many probes must end well before the breaker closes.
    #[must_use]
    pub fn successes_to_close(&self) -> u32 {
        self.successes_to_close
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        let BreakerConfigBuilder {
            trip,
            open_time,
            half_open_permits,
            successes_to_close,
        } = BreakerConfigBuilder::default();
        Self {
            trip,
            open_time,
            half_open_permits,
            successes_to_close,
        }
    }
}

/// What opens a closed breaker.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Trip {
    /// This many failures in a row; a success in between starts the count anew.
    Consecutive(u32),
    /// A share of failures among the recent results.
    ///
    /// It is looked at after every result, so a success can be the one that completes `min_calls`.
    FailureRate {
        /// Opens when failures make up at least this share: above 0, at most 1.
        ratio: f64,
        /// Which results are recent.
        window: Window,
        /// Never opens on fewer recent results than this.
        min_calls: u32,
    },
}

/// Which results count as recent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Window {
    /// The last so many results.
    Calls(u32),
    /// The results of the last so much time, kept in sixteen parts that leave one at a time: a result counts for
    /// at least fifteen sixteenths of the time and never longer than all of it (rounded up to 16 ns).
    Time(#[serde(with = "humantime_serde")] Duration),
}

/// How long a breaker stays open before it admits a probe.
///
/// In a file a constant time is written plainly (`"30s"`, or a number of seconds), a growing one as a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OpenTime {
    /// The same time after every opening.
    Constant(Duration),
    /// Longer after every opening that follows another one without a close in between.
    Growing {
        /// The time after the first opening.
        first: Duration,
        /// What each further time is multiplied with, at least 1.
        factor: f64,
        /// The longest time.
        cap: Duration,
    },
}

impl OpenTime {
    /// The time after the `nth` opening in a row, counted from 1.
    pub(crate) fn after_opening(self, nth: u32) -> Duration {
        match self {
            Self::Constant(time) => time,
            Self::Growing { first, factor, cap } => {
                let exponent = i32::try_from(nth.saturating_sub(1)).unwrap_or(i32::MAX);
                let seconds = first.as_secs_f64() * factor.powi(exponent);
                // Also answers infinity with the cap.
                if seconds < cap.as_secs_f64() {
                    Duration::from_secs_f64(seconds)
                } else {
                    cap
                }
            }
        }
    }
}

/// Builds a [`BreakerConfig`].
///
/// | setting | default |
/// | --- | --- |
/// | [`trip`](Self::trip) | 5 failures in a row |
/// | [`open_time`](Self::open_time) | constant, 30 s |
/// | [`half_open_permits`](Self::half_open_permits) | 1 |
/// | [`successes_to_close`](Self::successes_to_close) | 1 |
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct BreakerConfigBuilder {
    trip: Trip,
    open_time: OpenTime,
    half_open_permits: u32,
    successes_to_close: u32,
}

impl Default for BreakerConfigBuilder {
    fn default() -> Self {
        Self {
            trip: Trip::Consecutive(5),
            open_time: OpenTime::Constant(Duration::from_secs(30)),
            half_open_permits: 1,
            successes_to_close: 1,
        }
    }
}

impl BreakerConfigBuilder {
    /// Sets what opens the breaker.
    pub fn trip(mut self, trip: Trip) -> Self {
        self.trip = trip;
        self
    }

    /// Sets how long the breaker stays open.
    pub fn open_time(mut self, open_time: OpenTime) -> Self {
        self.open_time = open_time;
        self
    }

    /// Sets how many probes may run at once when the open time is over.
    pub fn half_open_permits(mut self, permits: u32) -> Self {
        self.half_open_permits = permits;
        self
    }

    /// Sets how many probes must end well before the breaker closes.
    pub fn successes_to_close(mut self, successes: u32) -> Self {
        self.successes_to_close = successes;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`BreakerConfigError`] names the first setting that is out of range.
    pub fn build(self) -> Result<BreakerConfig, BreakerConfigError> {
        match &self.trip {
            Trip::Consecutive(failures) => at_least_one("trip.consecutive", *failures)?,
            Trip::FailureRate {
                ratio,
                window,
                min_calls,
            } => {
                // Written so that NaN is refused as well.
                if !(*ratio > 0.0 && *ratio <= 1.0) {
                    return Err(refuse(
                        "trip.failure_rate.ratio",
                        "above 0 and at most 1",
                        ratio,
                    ));
                }
                at_least_one("trip.failure_rate.min_calls", *min_calls)?;
                match window {
                    Window::Calls(calls) => {
                        if !(1..=LARGEST_WINDOW).contains(calls) {
                            return Err(refuse(
                                "trip.failure_rate.window.calls",
                                "from 1 to 1000000",
                                calls,
                            ));
                        }
                        if min_calls > calls {
                            let expected = "at most `window.calls`, or the breaker never opens";
                            return Err(refuse("trip.failure_rate.min_calls", expected, min_calls));
                        }
                    }
                    Window::Time(time) => a_time("trip.failure_rate.window.time", *time)?,
                }
            }
        }
        match self.open_time {
            OpenTime::Constant(time) => a_time("open_time", time)?,
            OpenTime::Growing { first, factor, cap } => {
                a_time("open_time.first", first)?;
                if !(factor >= 1.0 && factor.is_finite()) {
                    return Err(refuse("open_time.factor", "at least 1 and finite", &factor));
                }
                a_time("open_time.cap", cap)?;
                if cap < first {
                    return Err(refuse(
                        "open_time.cap",
                        "at least `open_time.first`",
                        &humantime::format_duration(cap),
                    ));
                }
            }
        }
        at_least_one("half_open_permits", self.half_open_permits)?;
        at_least_one("successes_to_close", self.successes_to_close)?;
        let Self {
            trip,
            open_time,
            half_open_permits,
            successes_to_close,
        } = self;
        Ok(BreakerConfig {
            trip,
            open_time,
            half_open_permits,
            successes_to_close,
        })
    }
}

impl TryFrom<BreakerConfigBuilder> for BreakerConfig {
    type Error = BreakerConfigError;

    fn try_from(builder: BreakerConfigBuilder) -> Result<Self, Self::Error> {
        builder.build()
    }
}

fn at_least_one(field: &'static str, given: u32) -> Result<(), BreakerConfigError> {
    if given == 0 {
        Err(refuse(field, "at least 1", &given))
    } else {
        Ok(())
    }
}

fn a_time(field: &'static str, given: Duration) -> Result<(), BreakerConfigError> {
    if given.is_zero() || given > LONGEST {
        return Err(refuse(
            field,
            "above 0 and at most 365 days",
            &humantime::format_duration(given),
        ));
    }
    Ok(())
}

fn refuse(
    field: &'static str,
    expected: &'static str,
    given: &impl ToString,
) -> BreakerConfigError {
    BreakerConfigError {
        field,
        expected,
        given: given.to_string(),
    }
}

#[cfg(test)]
mod tests;
