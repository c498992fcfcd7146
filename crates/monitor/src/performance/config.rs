use std::{collections::HashSet, num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::AlertRule;

/// What the performance monitor keeps, and when it looks at it.
///
/// A value that exists is valid: no duration is zero, and no two alert rules have one name.
///
/// # Examples
///
/// ```
/// use perennial_monitor::{AlertRule, PerformanceConfig};
///
/// let config = PerformanceConfig::builder().alert(AlertRule::low_throughput()).build()?;
/// assert_eq!(config.alerts().len(), 3);
/// # Ok::<(), perennial_monitor::PerformanceConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    try_from = "PerformanceConfigBuilder",
    into = "PerformanceConfigBuilder"
)]
pub struct PerformanceConfig {
    checked: PerformanceConfigBuilder,
}

impl PerformanceConfig {
    /// Starts from the defaults.
    pub fn builder() -> PerformanceConfigBuilder {
        PerformanceConfigBuilder::default()
    }

    /// The time between two judgements of the alert rules.
    pub fn evaluate_every(&self) -> Duration {
        self.checked.evaluate_every
    }

    /// The time after which a baseline is taken anew.
    pub fn baseline_every(&self) -> Duration {
        self.checked.baseline_every
    }

    /// How many operations a baseline needs.
    pub fn baseline_samples(&self) -> u64 {
        self.checked.baseline_samples
    }

    /// How many services have figures of their own.
    pub fn max_services(&self) -> usize {
        self.checked.max_services.get()
    }

    /// The alert rules at the start.
    pub fn alerts(&self) -> &[AlertRule] {
        &self.checked.alerts
    }
}

/// Collects the settings of a [`PerformanceConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct PerformanceConfigBuilder {
    #[serde(with = "humantime_serde")]
    evaluate_every: Duration,
    #[serde(with = "humantime_serde")]
    baseline_every: Duration,
    baseline_samples: u64,
    max_services: NonZeroUsize,
    alerts: Vec<AlertRule>,
}

impl Default for PerformanceConfigBuilder {
    fn default() -> Self {
        Self {
            evaluate_every: Duration::from_secs(5),
            baseline_every: Duration::from_secs(600),
            baseline_samples: 10,
            max_services: NonZeroUsize::new(128).expect("128 is not zero"),
            alerts: AlertRule::defaults(),
        }
    }
}

impl PerformanceConfigBuilder {
    /// Sets the time between two judgements of the alert rules. Default: 5 seconds.
    pub fn evaluate_every(mut self, period: Duration) -> Self {
        self.evaluate_every = period;
        self
    }

    /// Sets the time after which a baseline is taken anew. Default: 10 minutes.
    pub fn baseline_every(mut self, period: Duration) -> Self {
        self.baseline_every = period;
        self
    }

    /// Sets how many operations in the last hour a baseline needs. Default: 10.
    pub fn baseline_samples(mut self, samples: u64) -> Self {
        self.baseline_samples = samples;
        self
    }

    /// Sets how many services have figures of their own; all further ones share one. Default: 128.
    pub fn max_services(mut self, services: NonZeroUsize) -> Self {
        self.max_services = services;
        self
    }

    /// Adds an alert rule to the default ones.
    pub fn alert(mut self, rule: AlertRule) -> Self {
        self.alerts.push(rule);
        self
    }

    /// Replaces the alert rules. Default: [`AlertRule::defaults`].
    pub fn alerts(mut self, rules: Vec<AlertRule>) -> Self {
        self.alerts = rules;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`PerformanceConfigError::ZeroDuration`] names the duration that is zero.
    /// - [`PerformanceConfigError::SameName`] names the alert rule that is there twice.
    pub fn build(self) -> Result<PerformanceConfig, PerformanceConfigError> {
        for (key, value) in [
            ("evaluate_every", self.evaluate_every),
            ("baseline_every", self.baseline_every),
        ] {
            if value.is_zero() {
                return Err(PerformanceConfigError::ZeroDuration { key });
            }
        }
        check_names(&self.alerts)?;
        Ok(PerformanceConfig { checked: self })
    }
}

pub(crate) fn check_names(rules: &[AlertRule]) -> Result<(), PerformanceConfigError> {
    let mut names = HashSet::new();
    match rules.iter().find(|rule| !names.insert(rule.name())) {
        Some(twice) => Err(PerformanceConfigError::SameName {
            rule: twice.name().to_owned(),
        }),
        None => Ok(()),
    }
}

impl TryFrom<PerformanceConfigBuilder> for PerformanceConfig {
    type Error = PerformanceConfigError;

    fn try_from(builder: PerformanceConfigBuilder) -> Result<Self, Self::Error> {
        builder.build()
    }
}

impl From<PerformanceConfig> for PerformanceConfigBuilder {
    fn from(config: PerformanceConfig) -> Self {
        config.checked
    }
}

/// Why settings are no [`PerformanceConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PerformanceConfigError {
    /// A duration is zero.
    #[error("{key} must be longer than zero")]
    ZeroDuration {
        /// The setting.
        key: &'static str,
    },
    /// Two alert rules have one name.
    #[error("alerts: there are two rules of the name {rule:?}")]
    SameName {
        /// The name.
        rule: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metric, ServiceMatch, Window};

    #[test]
    fn the_defaults_survive_toml() {
        let defaults = PerformanceConfig::default();
        let written = toml::to_string(&defaults).unwrap();
        assert_eq!(
            toml::from_str::<PerformanceConfig>(&written).unwrap(),
            defaults
        );
        let names: Vec<_> = defaults.alerts().iter().map(AlertRule::name).collect();
        assert_eq!(names, ["high_latency", "high_error_rate"]);
    }

    #[test]
    fn a_rule_is_read_from_a_file() {
        let config: PerformanceConfig = toml::from_str(
            "[[alerts]]\nname = \"slow\"\nservice = \"database\"\nmetric = \"latency_p99\"\n\
             comparison = \"above\"\nthreshold = 5000\nwindow = \"hour\"\n",
        )
        .unwrap();
        let [rule] = config.alerts() else {
            panic!("one rule")
        };
        assert_eq!(rule.metric(), Metric::LatencyP99);
        assert_eq!(rule.window(), Window::Hour);
        assert_eq!(rule.service(), &ServiceMatch::Exact("database".to_owned()));
    }

    #[test]
    fn what_a_file_gets_wrong_is_named() {
        for (text, named) in [
            ("evaluate_evry = \"1s\"", "evaluate_evry"),
            ("evaluate_every = \"soon\"", "soon"),
            ("baseline_every = 0", "baseline_every"),
            ("max_services = 0", "max_services"),
            (
                "[[alerts]]\nname = \"a\"\nmetric = \"latency\"\ncomparison = \"above\"\nthreshold = 1",
                "latency_avg",
            ),
            (
                "[[alerts]]\nname = \"a\"\nmetric = \"error_rate\"\ncomparison = \"above\"\nthreshold = -1",
                "threshold",
            ),
            (
                "[[alerts]]\nname = \"a\"\nmetric = \"error_rate\"\ncomparison = \"above\"\nthreshold = 1",
                "threshold is never crossed at 1",
            ),
            (
                "[[alerts]]\nname = \"a\"\nmetric = \"throughput\"\ncomparison = \"below\"\nthreshold = 0",
                "threshold is never crossed at 0",
            ),
        ] {
            let error = toml::from_str::<PerformanceConfig>(text).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let twice = PerformanceConfig::builder()
            .alert(AlertRule::high_latency())
            .build();
        assert!(matches!(
            twice,
            Err(PerformanceConfigError::SameName { .. })
        ));
    }
}
