//! The conditions that open a breaker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LARGEST_WINDOW, a_time, at_least_one, refuse};
use crate::BreakerConfigError;

/// What opens a closed breaker.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Trip {
    /// Nothing but a command.
    Never,
    /// This many failures in a row; a success in between starts the count anew.
    Consecutive(u32),
    /// So many failures within some time, however many calls end well meanwhile.
    ///
    /// Each failure counts for exactly this time: one that is as old as `within` counts no more.
    Failures {
        /// Opens at this many: from 1 to 1,000,000.
        count: u32,
        /// For how long a failure counts.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
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
    /// A share of slow calls among the recent results, whether they ended well or not.
    ///
    /// A probe that is slow counts as one that failed. What is cancelled is not judged, however long it ran.
    SlowRate {
        /// A call is slow that took longer than this, from its admission until its result was reported.
        #[serde(with = "humantime_serde")]
        slower_than: Duration,
        /// Opens when slow calls make up at least this share: above 0, at most 1.
        ratio: f64,
        /// Which results are recent.
        window: Window,
        /// Never opens on fewer recent results than this.
        min_calls: u32,
    },
    /// Any of these conditions, each of which hears of every result.
    AnyOf(Vec<Trip>),
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

impl Trip {
    /// The shortest time that makes a call slow, if any does.
    pub(crate) fn slow_threshold(&self) -> Option<Duration> {
        match self {
            Self::SlowRate { slower_than, .. } => Some(*slower_than),
            Self::AnyOf(conditions) => conditions.iter().filter_map(Self::slow_threshold).min(),
            Self::Never
            | Self::Consecutive(_)
            | Self::Failures { .. }
            | Self::FailureRate { .. } => None,
        }
    }

    /// Whether a condition counts successes.
    pub(crate) fn counts_successes(&self) -> bool {
        match self {
            Self::FailureRate { .. } | Self::SlowRate { .. } => true,
            Self::AnyOf(conditions) => conditions.iter().any(Self::counts_successes),
            Self::Never | Self::Consecutive(_) | Self::Failures { .. } => false,
        }
    }

    /// Checks the numbers; `path` is where the condition stands.
    pub(super) fn check(&self, path: &str) -> Result<(), BreakerConfigError> {
        match self {
            Self::Never => Ok(()),
            Self::Consecutive(failures) => at_least_one(format!("{path}.consecutive"), *failures),
            Self::Failures { count, within } => {
                if !(1..=LARGEST_WINDOW).contains(count) {
                    let field = format!("{path}.failures.count");
                    return Err(refuse(field, "from 1 to 1000000", count));
                }
                a_time(format!("{path}.failures.within"), *within)
            }
            Self::FailureRate {
                ratio,
                window,
                min_calls,
            } => rate(&format!("{path}.failure_rate"), *ratio, *window, *min_calls),
            Self::SlowRate {
                slower_than,
                ratio,
                window,
                min_calls,
            } => {
                a_time(format!("{path}.slow_rate.slower_than"), *slower_than)?;
                rate(&format!("{path}.slow_rate"), *ratio, *window, *min_calls)
            }
            Self::AnyOf(conditions) => {
                let path = format!("{path}.any_of");
                if conditions.is_empty() {
                    return Err(refuse(path, "at least one condition", &"none"));
                }
                for (index, condition) in conditions.iter().enumerate() {
                    let place = format!("{path}[{index}]");
                    if matches!(condition, Self::AnyOf(_)) {
                        return Err(refuse(place, "a condition of its own", &"another `any_of`"));
                    }
                    condition.check(&place)?;
                }
                Ok(())
            }
        }
    }
}

fn rate(path: &str, ratio: f64, window: Window, min_calls: u32) -> Result<(), BreakerConfigError> {
    // Written so that NaN is refused as well.
    if !(ratio > 0.0 && ratio <= 1.0) {
        let field = format!("{path}.ratio");
        return Err(refuse(field, "above 0 and at most 1", &ratio));
    }
    at_least_one(format!("{path}.min_calls"), min_calls)?;
    match window {
        Window::Calls(calls) => {
            if !(1..=LARGEST_WINDOW).contains(&calls) {
                let field = format!("{path}.window.calls");
                return Err(refuse(field, "from 1 to 1000000", &calls));
            }
            if min_calls > calls {
                let expected = "at most `window.calls`, or the breaker never opens";
                return Err(refuse(format!("{path}.min_calls"), expected, &min_calls));
            }
            Ok(())
        }
        Window::Time(time) => a_time(format!("{path}.window.time"), time),
    }
}
