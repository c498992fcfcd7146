use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How often health is checked, and how long a check may take.
///
/// A value that exists is valid: no duration is zero, and the timeout is not longer than the period.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_monitor::HealthConfig;
///
/// let config = HealthConfig::builder().timeout(Duration::from_millis(250)).build()?;
/// assert_eq!(config.refresh_every(), Duration::from_secs(10));
/// # Ok::<(), perennial_monitor::HealthConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HealthConfigBuilder", into = "HealthConfigBuilder")]
pub struct HealthConfig {
    checked: HealthConfigBuilder,
}

impl HealthConfig {
    /// Starts from the defaults.
    pub fn builder() -> HealthConfigBuilder {
        HealthConfigBuilder::default()
    }

    /// The time between two refreshes of the latest report.
    pub fn refresh_every(&self) -> Duration {
        self.checked.refresh_every
    }

    /// How long all checks together, run at the same time, may take.
    pub fn timeout(&self) -> Duration {
        self.checked.timeout
    }
}

/// Collects the settings of a [`HealthConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct HealthConfigBuilder {
    #[serde(with = "humantime_serde")]
    refresh_every: Duration,
    #[serde(with = "humantime_serde")]
    timeout: Duration,
}

impl Default for HealthConfigBuilder {
    fn default() -> Self {
        Self {
            refresh_every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
        }
    }
}

impl HealthConfigBuilder {
    /// Sets the time between two refreshes of the latest report. Default: 10 seconds.
    pub fn refresh_every(mut self, period: Duration) -> Self {
        self.refresh_every = period;
        self
    }

    /// Sets the one deadline of all checks. Default: 1 second.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`HealthConfigError::ZeroDuration`] names the duration that is zero.
    /// - [`HealthConfigError::TimeoutTooLong`] if a refresh could still run when the next is due.
    pub fn build(self) -> Result<HealthConfig, HealthConfigError> {
        for (key, value) in [
            ("refresh_every", self.refresh_every),
            ("timeout", self.timeout),
        ] {
            if value.is_zero() {
                return Err(HealthConfigError::ZeroDuration { key });
            }
        }
        if self.timeout > self.refresh_every {
            return Err(HealthConfigError::TimeoutTooLong {
                timeout: self.timeout,
                refresh_every: self.refresh_every,
            });
        }
        Ok(HealthConfig { checked: self })
    }
}

impl TryFrom<HealthConfigBuilder> for HealthConfig {
    type Error = HealthConfigError;

    fn try_from(builder: HealthConfigBuilder) -> Result<Self, Self::Error> {
        builder.build()
    }
}

impl From<HealthConfig> for HealthConfigBuilder {
    fn from(config: HealthConfig) -> Self {
        config.checked
    }
}

/// Why settings are no [`HealthConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HealthConfigError {
    /// A duration is zero.
    #[error("{key} must be longer than zero")]
    ZeroDuration {
        /// The setting.
        key: &'static str,
    },
    /// The timeout is longer than the period.
    #[error("timeout {timeout:?} must not be longer than refresh_every {refresh_every:?}")]
    TimeoutTooLong {
        /// The timeout.
        timeout: Duration,
        /// The period.
        refresh_every: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked_like_a_builder() {
        assert_eq!(
            toml::from_str::<HealthConfig>("").unwrap(),
            HealthConfig::default()
        );
        assert!(toml::from_str::<HealthConfig>("timeuot = \"1s\"").is_err());
        let zero = toml::from_str::<HealthConfig>("timeout = 0").unwrap_err();
        assert!(zero.to_string().contains("timeout"));
        let long = toml::from_str::<HealthConfig>("timeout = \"11s\"").unwrap_err();
        assert!(long.to_string().contains("refresh_every"));
    }
}
