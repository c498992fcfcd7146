//! Settings of a breaker, checked when they are built or read.

mod duration;
mod trip;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::BreakerConfigError;

pub use self::trip::{Trip, Window};

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
///     .open_time_jitter(0.2)
///     .build()?;
///
/// let same: BreakerConfig = toml::from_str(r#"
///     trip.failure_rate = { ratio = 0.5, window.calls = 100, min_calls = 20 }
///     open_time = { first = "1s", factor = 2.0, cap = "1m" }
///     half_open_permits = 3
///     successes_to_close = 3
///     open_time_jitter = 0.2
/// "#)?;
/// assert_eq!(config, same);
///
/// let error = BreakerConfig::builder().trip(Trip::Consecutive(0)).build().unwrap_err();
/// assert_eq!(error.to_string(), "`trip.consecutive` must be at least 1, not 0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(try_from = "BreakerConfigBuilder")]
pub struct BreakerConfig(BreakerConfigBuilder);

impl BreakerConfig {
    /// Starts from the defaults.
    pub fn builder() -> BreakerConfigBuilder {
        BreakerConfigBuilder::default()
    }

    /// Returns the condition that opens the breaker.
    #[must_use]
    pub fn trip(&self) -> &Trip {
        &self.0.trip
    }

    /// Returns how long the breaker stays open.
    #[must_use]
    pub fn open_time(&self) -> OpenTime {
        self.0.open_time
    }

    /// Returns the largest share that chance takes away from an open time.
    #[must_use]
    pub fn open_time_jitter(&self) -> f64 {
        self.0.open_time_jitter
    }

    /// Returns what comes after the open time.
    #[must_use]
    pub fn after_open(&self) -> AfterOpen {
        self.0.after_open
    }

    /// Returns how many probes may run at once.
    #[must_use]
    pub fn half_open_permits(&self) -> u32 {
        self.0.half_open_permits
    }

    /// Returns how many probes must end well before the breaker closes.
    #[must_use]
    pub fn successes_to_close(&self) -> u32 {
        self.0.successes_to_close
    }

    /// Returns the share of calls that is refused on purpose.
    #[must_use]
    pub fn injected_refusals(&self) -> f64 {
        self.0.injected_refusals
    }

    /// Returns the seed of what is left to chance, or `None` if it differs from run to run.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.0.seed
    }
}

/// How long a breaker stays open before it admits a probe.
///
/// In a file a constant time is written plainly, as `"30s"`, a growing one as a table.
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

impl From<Duration> for OpenTime {
    fn from(time: Duration) -> Self {
        Self::Constant(time)
    }
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

/// What comes when the open time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterOpen {
    /// Half-open: a bounded number of probes decides.
    HalfOpen,
    /// Closed: every caller is let in at once, as Erlang's fuse does.
    ///
    /// For services that a probe tells nothing about. The open time must be constant: without probes there are no
    /// openings in a row for it to grow by. Nor is there anything for numbers of probes to say.
    Closed,
}

/// Builds a [`BreakerConfig`].
///
/// | setting | default |
/// | --- | --- |
/// | [`trip`](Self::trip) | 5 failures in a row |
/// | [`open_time`](Self::open_time) | constant, 30 s |
/// | [`open_time_jitter`](Self::open_time_jitter) | 0 |
/// | [`after_open`](Self::after_open) | half-open |
/// | [`half_open_permits`](Self::half_open_permits) | 1 |
/// | [`successes_to_close`](Self::successes_to_close) | 1 |
/// | [`injected_refusals`](Self::injected_refusals) | 0 |
/// | [`seed`](Self::seed) | none |
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct BreakerConfigBuilder {
    trip: Trip,
    open_time: OpenTime,
    open_time_jitter: f64,
    after_open: AfterOpen,
    half_open_permits: u32,
    successes_to_close: u32,
    injected_refusals: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

impl Default for BreakerConfigBuilder {
    fn default() -> Self {
        Self {
            trip: Trip::Consecutive(5),
            open_time: OpenTime::Constant(Duration::from_secs(30)),
            open_time_jitter: 0.0,
            after_open: AfterOpen::HalfOpen,
            half_open_permits: 1,
            successes_to_close: 1,
            injected_refusals: 0.0,
            seed: None,
        }
    }
}

impl BreakerConfigBuilder {
    /// Sets what opens the breaker.
    pub fn trip(mut self, trip: Trip) -> Self {
        self.trip = trip;
        self
    }

    /// Sets how long the breaker stays open: an [`OpenTime`], or a `Duration` that is the same each time.
    pub fn open_time(mut self, open_time: impl Into<OpenTime>) -> Self {
        self.open_time = open_time.into();
        self
    }

    /// Sets how much of each open time chance may take away, from 0 (none) to 1 (all of it), so that breakers that
    /// opened together do not probe together.
    pub fn open_time_jitter(mut self, share: f64) -> Self {
        self.open_time_jitter = share;
        self
    }

    /// Sets what comes when the open time is over.
    pub fn after_open(mut self, after_open: AfterOpen) -> Self {
        self.after_open = after_open;
        self
    }

    /// Sets how many probes may run at once when the open time is over.
    ///
    /// A probe keeps its place until it ends or is dropped, however long that takes: an operation that may hang needs a
    /// timeout within the call, as a guard's deadline is, or nothing else is admitted until it ends.
    pub fn half_open_permits(mut self, permits: u32) -> Self {
        self.half_open_permits = permits;
        self
    }

    /// Sets how many probes must end well before the breaker closes.
    pub fn successes_to_close(mut self, successes: u32) -> Self {
        self.successes_to_close = successes;
        self
    }

    /// Sets which share of calls, from 0 to 1, is refused on purpose while the breaker is closed: to see how callers
    /// take it.
    pub fn injected_refusals(mut self, share: f64) -> Self {
        self.injected_refusals = share;
        self
    }

    /// Sets the seed of jitter and injected refusals, which are then the same in each run for a breaker's name.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`BreakerConfigError`] names the first setting that is out of range.
    pub fn build(self) -> Result<BreakerConfig, BreakerConfigError> {
        self.trip.check("trip")?;
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
                if self.after_open == AfterOpen::Closed {
                    let expected = "`half_open` for an open time that grows";
                    return Err(refuse("after_open", expected, &"`closed`"));
                }
            }
        }
        a_share("open_time_jitter", self.open_time_jitter)?;
        for (field, given) in [
            ("half_open_permits", self.half_open_permits),
            ("successes_to_close", self.successes_to_close),
        ] {
            at_least_one(field, given)?;
            if given > 1 && self.after_open == AfterOpen::Closed {
                let expected = "1 where `after_open` is `closed`, which admits no probes";
                return Err(refuse(field, expected, &given));
            }
        }
        a_share("injected_refusals", self.injected_refusals)?;
        Ok(BreakerConfig(self))
    }
}

impl TryFrom<BreakerConfigBuilder> for BreakerConfig {
    type Error = BreakerConfigError;

    fn try_from(builder: BreakerConfigBuilder) -> Result<Self, Self::Error> {
        builder.build()
    }
}

fn at_least_one(field: impl Into<String>, given: u32) -> Result<(), BreakerConfigError> {
    if given == 0 {
        Err(refuse(field, "at least 1", &given))
    } else {
        Ok(())
    }
}

fn a_share(field: &str, given: f64) -> Result<(), BreakerConfigError> {
    // NaN is in no range.
    if (0.0..=1.0).contains(&given) {
        Ok(())
    } else {
        Err(refuse(field, "from 0 to 1", &given))
    }
}

fn a_time(field: impl Into<String>, given: Duration) -> Result<(), BreakerConfigError> {
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
    field: impl Into<String>,
    expected: &'static str,
    given: &impl ToString,
) -> BreakerConfigError {
    BreakerConfigError {
        field: field.into(),
        expected,
        given: given.to_string(),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
