use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Window, WindowStats};

/// When to raise an alert, and for which services.
///
/// # Examples
///
/// ```
/// use perennial_monitor::{AlertRule, AlertRuleError, Comparison, Metric, ServiceMatch, Severity};
///
/// let rule = AlertRule::builder("slow_database", Metric::LatencyP99, Comparison::Above, 50_000.0)
///     .service(ServiceMatch::Exact("database".to_owned()))
///     .severity(Severity::Critical)
///     .build()?;
/// assert_eq!(rule.name(), "slow_database");
/// # Ok::<(), AlertRuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AlertRuleBuilder", into = "AlertRuleBuilder")]
pub struct AlertRule {
    checked: AlertRuleBuilder,
}

impl AlertRule {
    /// Starts a rule for all services, over the last minute, with severity warning.
    pub fn builder(
        name: impl Into<String>,
        metric: Metric,
        comparison: Comparison,
        threshold: f64,
    ) -> AlertRuleBuilder {
        AlertRuleBuilder {
            name: name.into(),
            service: ServiceMatch::All,
            metric,
            comparison,
            threshold,
            window: Window::Minute,
            severity: Severity::Warning,
            hysteresis: default_hysteresis(),
            min_samples: default_min_samples(),
        }
    }

    /// `high_latency`: warns when the 95th percentile of latency is above 10,000 us. On by default.
    pub fn high_latency() -> Self {
        Self {
            checked: Self::builder(
                "high_latency",
                Metric::LatencyP95,
                Comparison::Above,
                10_000.0,
            ),
        }
    }

    /// `high_error_rate`: critical when more than 5 % of operations fail. On by default.
    pub fn high_error_rate() -> Self {
        let rule = Self::builder(
            "high_error_rate",
            Metric::ErrorRate,
            Comparison::Above,
            0.05,
        );
        Self {
            checked: rule.severity(Severity::Critical),
        }
    }

    /// `low_throughput`: warns below one operation per second. Off by default: an idle service is no fault.
    pub fn low_throughput() -> Self {
        Self {
            checked: Self::builder("low_throughput", Metric::Throughput, Comparison::Below, 1.0),
        }
    }

    /// The rules of a configuration that names none.
    pub fn defaults() -> Vec<Self> {
        vec![Self::high_latency(), Self::high_error_rate()]
    }

    /// The rule's name.
    pub fn name(&self) -> &str {
        &self.checked.name
    }

    /// The services it watches.
    pub fn service(&self) -> &ServiceMatch {
        &self.checked.service
    }

    /// What it looks at.
    pub fn metric(&self) -> Metric {
        self.checked.metric
    }

    /// On which side of the threshold trouble lies.
    pub fn comparison(&self) -> Comparison {
        self.checked.comparison
    }

    /// The value that must be crossed.
    pub fn threshold(&self) -> f64 {
        self.checked.threshold
    }

    /// Over which window.
    pub fn window(&self) -> Window {
        self.checked.window
    }

    /// How serious it is.
    pub fn severity(&self) -> Severity {
        self.checked.severity
    }

    /// How far back beyond the threshold the value must come to clear the alert, as a share of the threshold.
    pub fn hysteresis(&self) -> f64 {
        self.checked.hysteresis
    }

    /// How many operations the window must have before latency or error rate are judged.
    pub fn min_samples(&self) -> u64 {
        self.checked.min_samples
    }

    /// Whether `value` raises an alert.
    pub(crate) fn crossed(&self, value: f64) -> bool {
        match self.comparison() {
            Comparison::Above => value > self.threshold(),
            Comparison::Below => value < self.threshold(),
        }
    }

    /// Whether `value` clears an alert that is raised.
    pub(crate) fn cleared(&self, value: f64) -> bool {
        match self.comparison() {
            Comparison::Above => value <= self.threshold() * (1.0 - self.hysteresis()),
            Comparison::Below => {
                // No more operations fail than there are.
                let highest = match self.metric() {
                    Metric::ErrorRate => 1.0,
                    _ => f64::INFINITY,
                };
                value >= (self.threshold() * (1.0 + self.hysteresis())).min(highest)
            }
        }
    }

    /// The value that the rule judges; `None` if there is nothing to judge.
    ///
    /// `whole` says whether the service has been watched for the whole window: before that its throughput says nothing.
    pub(crate) fn value(&self, stats: &WindowStats, whole: bool) -> Option<f64> {
        let metric = self.metric();
        if metric == Metric::Throughput {
            return whole.then_some(stats.throughput);
        }
        if stats.count < self.min_samples() {
            return None;
        }
        let latency = stats.latency?;
        match metric {
            Metric::LatencyAvg => Some(latency.avg_us),
            Metric::LatencyP50 => Some(latency.p50_us),
            Metric::LatencyP95 => Some(latency.p95_us),
            Metric::LatencyP99 => Some(latency.p99_us),
            Metric::LatencyMax => Some(latency.max_us),
            Metric::ErrorRate => stats.error_rate,
            Metric::Throughput => Some(stats.throughput),
        }
    }
}

/// Collects the settings of an [`AlertRule`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct AlertRuleBuilder {
    name: String,
    #[serde(default)]
    service: ServiceMatch,
    metric: Metric,
    comparison: Comparison,
    threshold: f64,
    #[serde(default)]
    window: Window,
    #[serde(default)]
    severity: Severity,
    #[serde(default = "default_hysteresis")]
    hysteresis: f64,
    #[serde(default = "default_min_samples")]
    min_samples: u64,
}

fn default_hysteresis() -> f64 {
    0.1
}

fn default_min_samples() -> u64 {
    10
}

impl AlertRuleBuilder {
    /// Sets which services it watches. Default: all.
    pub fn service(mut self, service: ServiceMatch) -> Self {
        self.service = service;
        self
    }

    /// Sets the window. Default: the last minute.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Sets the severity. Default: warning.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Sets how far back beyond the threshold the value must come to clear the alert. Default: 0.1, a tenth of it.
    pub fn hysteresis(mut self, share: f64) -> Self {
        self.hysteresis = share;
        self
    }

    /// Sets how many operations the window must have before latency or error rate are judged. Default: 10.
    pub fn min_samples(mut self, samples: u64) -> Self {
        self.min_samples = samples;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`AlertRuleError::NoName`] if the name is empty.
    /// - [`AlertRuleError::Threshold`] if the threshold is negative or no number.
    /// - [`AlertRuleError::NeverMet`] if no value can lie on that side of the threshold.
    /// - [`AlertRuleError::Hysteresis`] unless the hysteresis is at least 0 and below 1.
    pub fn build(self) -> Result<AlertRule, AlertRuleError> {
        if self.name.is_empty() {
            return Err(AlertRuleError::NoName);
        }
        let name = || self.name.clone();
        if !(self.threshold.is_finite() && self.threshold >= 0.0) {
            return Err(AlertRuleError::Threshold {
                rule: name(),
                threshold: self.threshold,
            });
        }
        // No figure is negative, and no more operations fail than there are.
        let is_never_met = match self.comparison {
            Comparison::Above => self.metric == Metric::ErrorRate && self.threshold >= 1.0,
            Comparison::Below => self.threshold == 0.0,
        };
        if is_never_met {
            return Err(AlertRuleError::NeverMet {
                rule: name(),
                threshold: self.threshold,
            });
        }
        if !(0.0..1.0).contains(&self.hysteresis) {
            return Err(AlertRuleError::Hysteresis {
                rule: name(),
                hysteresis: self.hysteresis,
            });
        }
        Ok(AlertRule { checked: self })
    }
}

impl TryFrom<AlertRuleBuilder> for AlertRule {
    type Error = AlertRuleError;

    fn try_from(builder: AlertRuleBuilder) -> Result<Self, Self::Error> {
        builder.build()
    }
}

impl From<AlertRule> for AlertRuleBuilder {
    fn from(rule: AlertRule) -> Self {
        rule.checked
    }
}

/// Why settings are no [`AlertRule`].
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum AlertRuleError {
    /// The name is empty.
    #[error("an alert rule needs a name")]
    NoName,
    /// The threshold can't be compared with.
    #[error("alert rule {rule:?}: threshold must be a number from 0 up, not {threshold}")]
    Threshold {
        /// The rule.
        rule: String,
        /// Its threshold.
        threshold: f64,
    },
    /// No value can lie on that side of the threshold, so no alert would ever be raised.
    #[error("alert rule {rule:?}: threshold is never crossed at {threshold}")]
    NeverMet {
        /// The rule.
        rule: String,
        /// Its threshold.
        threshold: f64,
    },
    /// The hysteresis is out of range.
    #[error("alert rule {rule:?}: hysteresis must be at least 0 and below 1, not {hysteresis}")]
    Hysteresis {
        /// The rule.
        rule: String,
        /// Its hysteresis.
        hysteresis: f64,
    },
}

/// The services that a rule watches, written as the exact name, or `"*"` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ServiceMatch {
    /// Every service, each on its own.
    #[default]
    All,
    /// The service of exactly this name.
    Exact(String),
}

impl ServiceMatch {
    /// Whether `service` is one of them.
    pub fn matches(&self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(name) => name == service,
        }
    }
}

impl From<String> for ServiceMatch {
    fn from(text: String) -> Self {
        match text.as_str() {
            "*" => Self::All,
            _ => Self::Exact(text),
        }
    }
}

impl From<ServiceMatch> for String {
    fn from(service: ServiceMatch) -> Self {
        match service {
            ServiceMatch::All => "*".to_owned(),
            ServiceMatch::Exact(name) => name,
        }
    }
}

/// What a rule looks at. Latencies are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The mean latency.
    LatencyAvg,
    /// The median latency.
    LatencyP50,
    /// The 95th percentile of latency.
    LatencyP95,
    /// The 99th percentile of latency.
    LatencyP99,
    /// The longest latency.
    LatencyMax,
    /// The share of operations that failed, from 0 to 1.
    ErrorRate,
    /// Operations per second.
    Throughput,
}

/// On which side of a threshold trouble lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// More is worse.
    Above,
    /// Less is worse.
    Below,
}

/// How serious an alert is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth a look.
    #[default]
    Warning,
    /// Worth waking somebody.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}
