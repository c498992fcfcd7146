use std::time::Duration;

use serde::{Deserialize, Serialize};

/// More workers than any pool has use for: a larger number is a slip of the pen.
const MOST_WORKERS: usize = 1 << 20;

/// Which idle worker is lent next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolStrategy {
    /// The one that came back last: few workers stay warm.
    #[default]
    Lifo,
    /// The one that has been idle for longest: all take turns.
    Fifo,
}

/// The settings of a pool.
///
/// | setting | key | default |
/// | --- | --- | --- |
/// | workers started up front | `size` | required |
/// | workers started on demand | `max_overflow` | 0 |
/// | which idle worker is lent | `strategy` | `lifo` |
/// | how long a checkout waits | `wait_timeout` | "5s" |
/// | how many may wait at once | `max_waiting` | no limit |
///
/// ```
/// # use perennial_pool::{PoolConfig, PoolStrategy};
/// # use std::time::Duration;
/// let config = PoolConfig::new(10)
///     .max_overflow(5)
///     .strategy(PoolStrategy::Fifo)
///     .wait_timeout(Duration::from_millis(250))
///     .max_waiting(1_000);
/// assert_eq!(config, toml::from_str(
///     "size = 10\nmax_overflow = 5\nstrategy = 'fifo'\nwait_timeout = '250ms'\nmax_waiting = 1000",
/// )?);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct PoolConfig {
    pub(crate) size: usize,
    #[serde(default)]
    pub(crate) max_overflow: usize,
    #[serde(default)]
    pub(crate) strategy: PoolStrategy,
    #[serde(default = "default_wait_timeout", with = "humantime_serde")]
    pub(crate) wait_timeout: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_waiting: Option<usize>,
}

impl PoolConfig {
    /// Starts `size` workers up front, and none on demand.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            max_overflow: 0,
            strategy: PoolStrategy::default(),
            wait_timeout: default_wait_timeout(),
            max_waiting: None,
        }
    }

    /// Starts up to `max_overflow` workers more when all are in use.
    pub fn max_overflow(mut self, max_overflow: usize) -> Self {
        self.max_overflow = max_overflow;
        self
    }

    /// Sets which idle worker is lent next.
    pub fn strategy(mut self, strategy: PoolStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets how long a checkout waits for a worker.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.wait_timeout = wait_timeout;
        self
    }

    /// Refuses a checkout at once when `max_waiting` others wait already.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// Returns how many workers are started up front.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns how many more may be started on demand.
    #[must_use]
    pub fn overflow(&self) -> usize {
        self.max_overflow
    }

    /// Returns how long a checkout waits.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.wait_timeout
    }

    /// Checks the settings for the pool called `pool`.
    ///
    /// # Errors
    ///
    /// [`PoolConfigError`] names the pool and the field.
    pub fn validate(&self, pool: &str) -> Result<(), PoolConfigError> {
        let error = |field, expected| PoolConfigError {
            pool: pool.to_owned(),
            field,
            expected,
        };
        if pool.is_empty() || pool.contains('/') {
            return Err(error(PoolField::Name, "must not be empty or contain `/`"));
        }
        match self.size.checked_add(self.max_overflow) {
            Some(0) => Err(error(
                PoolField::Size,
                "size and max_overflow must not both be 0",
            )),
            Some(all) if all <= MOST_WORKERS => Ok(()),
            _ if self.size > MOST_WORKERS => {
                Err(error(PoolField::Size, "must be at most 1048576 workers"))
            }
            _ => Err(error(
                PoolField::MaxOverflow,
                "size and max_overflow must be at most 1048576 workers together",
            )),
        }
    }
}

/// A part of a pool's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolField {
    /// The pool's name.
    Name,
    /// `size`.
    Size,
    /// `max_overflow`.
    MaxOverflow,
}

impl std::fmt::Display for PoolField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::MaxOverflow => "max_overflow",
        })
    }
}

/// Settings of a pool that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool `{pool}`: {field}: {expected}")]
#[non_exhaustive]
pub struct PoolConfigError {
    /// The pool.
    pub pool: String,
    /// The field.
    pub field: PoolField,
    /// What was expected of it.
    pub expected: &'static str,
}

fn default_wait_timeout() -> Duration {
    Duration::from_secs(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_have_their_defaults_and_unknown_ones_are_refused() {
        assert_eq!(
            toml::from_str::<PoolConfig>("size = 3").unwrap(),
            PoolConfig::new(3)
        );
        let error = toml::from_str::<PoolConfig>("size = 3\noverflow = 1").unwrap_err();
        assert!(error.to_string().contains("overflow"), "{error}");
    }

    #[test]
    fn settings_survive_being_written_and_read() {
        let config = PoolConfig::new(1).wait_timeout(Duration::from_millis(7));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<PoolConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_pool_without_workers_is_refused_and_the_error_names_pool_and_field() {
        let error = PoolConfig::new(0).validate("db").unwrap_err();
        assert_eq!(error.field, PoolField::Size);
        assert_eq!(
            error.to_string(),
            "pool `db`: size: size and max_overflow must not both be 0"
        );
        assert!(PoolConfig::new(0).max_overflow(1).validate("db").is_ok());
        assert!(PoolConfig::new(1).validate("a/b").is_err());
        assert!(PoolConfig::new(usize::MAX).validate("db").is_err());
        let error = PoolConfig::new(1)
            .max_overflow(usize::MAX)
            .validate("db")
            .unwrap_err();
        assert_eq!(error.field, PoolField::MaxOverflow);
    }
}
