use std::{num::NonZeroU64, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the memory manager measures against, and where its levels begin.
///
/// A value that exists is valid: `0 < medium < warning < critical <= 1`, and no duration is zero.
///
/// # Examples
///
/// ```
/// use std::{num::NonZeroU64, time::Duration};
/// use perennial_monitor::{MemoryConfig, MemoryConfigError};
///
/// let config = MemoryConfig::builder()
///     .warning(0.75)
///     .limit_bytes(NonZeroU64::new(512 << 20).unwrap())
///     .check_every(Duration::from_secs(10))
///     .build()?;
/// assert_eq!(config.warning(), 0.75);
///
/// let upside_down = MemoryConfig::builder().medium(0.8).build();
/// assert!(matches!(upside_down, Err(MemoryConfigError::Thresholds { .. })));
/// # Ok::<(), MemoryConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "MemoryConfigBuilder", into = "MemoryConfigBuilder")]
pub struct MemoryConfig {
    checked: MemoryConfigBuilder,
}

impl MemoryConfig {
    /// Starts from the defaults.
    pub fn builder() -> MemoryConfigBuilder {
        MemoryConfigBuilder::default()
    }

    /// The share of the limit at which pressure becomes medium.
    pub fn medium(&self) -> f64 {
        self.checked.medium
    }

    /// The share of the limit at which pressure becomes high.
    pub fn warning(&self) -> f64 {
        self.checked.warning
    }

    /// The share of the limit at which pressure becomes critical.
    pub fn critical(&self) -> f64 {
        self.checked.critical
    }

    /// The time between two checks.
    pub fn check_every(&self) -> Duration {
        self.checked.check_every
    }

    /// The limit that usage is measured against.
    pub fn limit(&self) -> MemoryLimit {
        self.checked
            .limit_bytes
            .map_or(MemoryLimit::Detected, MemoryLimit::Bytes)
    }

    /// Whether high and critical pressure start clean-ups.
    pub fn automatic_cleanup(&self) -> bool {
        self.checked.automatic_cleanup
    }

    /// How long one clean-up may run before it is cut off.
    pub fn cleanup_timeout(&self) -> Duration {
        self.checked.cleanup_timeout
    }
}

/// The limit that memory usage is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// What the reader finds: the control group's limit, or else the host's memory.
    Detected,
    /// This many bytes.
    Bytes(NonZeroU64),
}

/// Collects the settings of a [`MemoryConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct MemoryConfigBuilder {
    medium: f64,
    warning: f64,
    critical: f64,
    #[serde(with = "humantime_serde")]
    check_every: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<NonZeroU64>,
    automatic_cleanup: bool,
    #[serde(with = "humantime_serde")]
    cleanup_timeout: Duration,
}

impl Default for MemoryConfigBuilder {
    fn default() -> Self {
        Self {
            medium: 0.5,
            warning: 0.7,
            critical: 0.9,
            check_every: Duration::from_secs(30),
            limit_bytes: None,
            automatic_cleanup: true,
            cleanup_timeout: Duration::from_secs(60),
        }
    }
}

impl MemoryConfigBuilder {
    /// Sets the share of the limit at which pressure becomes medium. Default: 0.5.
    pub fn medium(mut self, ratio: f64) -> Self {
        self.medium = ratio;
        self
    }

    /// Sets the share of the limit at which pressure becomes high. Default: 0.7.
    pub fn warning(mut self, ratio: f64) -> Self {
        self.warning = ratio;
        self
    }

    /// Sets the share of the limit at which pressure becomes critical. Default: 0.9.
    pub fn critical(mut self, ratio: f64) -> Self {
        self.critical = ratio;
        self
    }

    /// Sets the time between two checks. Default: 30 seconds.
    pub fn check_every(mut self, period: Duration) -> Self {
        self.check_every = period;
        self
    }

    /// Measures against this limit. Default: the limit that the reader detects.
    pub fn limit_bytes(mut self, limit: NonZeroU64) -> Self {
        self.limit_bytes = Some(limit);
        self
    }

    /// Sets whether high and critical pressure start clean-ups. Default: they do.
    ///
    /// Clean-ups on request run either way.
    pub fn automatic_cleanup(mut self, enabled: bool) -> Self {
        self.automatic_cleanup = enabled;
        self
    }

    /// Sets how long one clean-up may run before it is cut off. Default: 60 seconds.
    pub fn cleanup_timeout(mut self, limit: Duration) -> Self {
        self.cleanup_timeout = limit;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`MemoryConfigError::Thresholds`] unless `0 < medium < warning < critical <= 1`.
    /// - [`MemoryConfigError::ZeroDuration`] names the duration that is zero.
    pub fn build(self) -> Result<MemoryConfig, MemoryConfigError> {
        let ordered = 0.0 < self.medium
            && self.medium < self.warning
            && self.warning < self.critical
            && self.critical <= 1.0;
        if !ordered {
            return Err(MemoryConfigError::Thresholds {
                medium: self.medium,
                warning: self.warning,
                critical: self.critical,
            });
        }
        for (key, value) in [
            ("check_every", self.check_every),
            ("cleanup_timeout", self.cleanup_timeout),
        ] {
            if value.is_zero() {
                return Err(MemoryConfigError::ZeroDuration { key });
            }
        }
        Ok(MemoryConfig { checked: self })
    }
}

impl TryFrom<MemoryConfigBuilder> for MemoryConfig {
    type Error = MemoryConfigError;

    fn try_from(builder: MemoryConfigBuilder) -> Result<Self, Self::Error> {
        builder.build()
    }
}

impl From<MemoryConfig> for MemoryConfigBuilder {
    fn from(config: MemoryConfig) -> Self {
        config.checked
    }
}

/// Why settings are no [`MemoryConfig`].
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MemoryConfigError {
    /// The levels are not in order, or not shares of the limit.
    #[error(
        "memory thresholds must satisfy 0 < medium < warning < critical <= 1, \
         not medium = {medium}, warning = {warning}, critical = {critical}"
    )]
    Thresholds {
        /// Where medium would begin.
        medium: f64,
        /// Where high would begin.
        warning: f64,
        /// Where critical would begin.
        critical: f64,
    },
    /// A duration is zero.
    #[error("{key} must be longer than zero")]
    ZeroDuration {
        /// The setting.
        key: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_toml() {
        let defaults = MemoryConfig::builder().build().unwrap();
        assert_eq!(defaults, MemoryConfig::default());
        let written = toml::to_string(&defaults).unwrap();
        assert_eq!(toml::from_str::<MemoryConfig>(&written).unwrap(), defaults);
        assert_eq!(toml::from_str::<MemoryConfig>("").unwrap(), defaults);
    }

    #[test]
    fn thresholds_out_of_order_or_range_are_refused() {
        for (medium, warning, critical) in [
            (0.0, 0.7, 0.9),
            (0.7, 0.7, 0.9),
            (0.5, 0.9, 0.9),
            (0.5, 0.7, 1.01),
            (f64::NAN, 0.7, 0.9),
            (0.5, 0.7, f64::NAN),
        ] {
            let built = MemoryConfig::builder()
                .medium(medium)
                .warning(warning)
                .critical(critical)
                .build();
            assert!(
                matches!(built, Err(MemoryConfigError::Thresholds { .. })),
                "{medium} {warning} {critical}"
            );
        }
    }

    #[test]
    fn a_file_is_checked_like_a_builder() {
        let unknown = toml::from_str::<MemoryConfig>("warnign = 0.7").unwrap_err();
        assert!(unknown.to_string().contains("warnign"));
        let zero = toml::from_str::<MemoryConfig>("check_every = \"0s\"").unwrap_err();
        assert!(zero.to_string().contains("check_every"));
        let good = toml::from_str::<MemoryConfig>("check_every = \"5s\"\nlimit_bytes = 1024");
        assert_eq!(
            good.unwrap().limit(),
            MemoryLimit::Bytes(NonZeroU64::new(1024).unwrap())
        );
    }
}
