use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// More workers than any pool has use for: a larger number is a slip of the pen.
pub(crate) const MOST_WORKERS: usize = 1 << 20;

/// Which idle worker is lent next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolStrategy {
    /// The one that came back last: few workers stay warm. Where threads borrow side by side, each is lent the one that
    /// came back on it last, if that is among the last few.
    #[default]
    Lifo,
    /// The one that has been idle for longest: all take turns.
    Fifo,
}

/// Which worker is ended when one comes back, nobody waits, and there are more than the pool keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dismissal {
    /// Only a worker that was started beyond the size: those of the first hour live on.
    #[default]
    Overflow,
    /// The one that has just come back, whichever it is: what poolboy does.
    Returned,
}

/// How long a checkout waits.
///
/// ```
/// # use perennial_pool::Timeout;
/// # use std::time::Duration;
/// assert_eq!(Timeout::from(Duration::from_secs(1)), Timeout::After(Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timeout {
    /// As long as it takes.
    Never,
    /// At most so long.
    After(Duration),
}

impl From<Duration> for Timeout {
    fn from(limit: Duration) -> Self {
        Self::After(limit)
    }
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
/// | how many are started beside each other when the pool starts | `warm_up` | all |
/// | which surplus worker is ended | `dismissal` | `overflow` |
/// | how long a surplus worker may be idle before | `overflow_ttl` | not at all |
/// | when an idle worker is replaced | `idle_timeout` | never |
/// | when a worker is replaced, at its next checkin or when idle | `max_lifetime` | never |
/// | by how much at random a lifetime is shorter | `lifetime_jitter` | "0s" |
/// | after how much idleness a worker is checked when it is lent | `check_after` | never |
/// | how long such a check may take | `check_timeout` | "1s" |
/// | when a worker on loan is warned about | `hold_warning` | never |
///
/// The three times of idleness and life, and the warning, are looked at ten times within the shortest of them.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warm_up: Option<NonZeroUsize>,
    #[serde(default)]
    pub(crate) dismissal: Dismissal,
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) overflow_ttl: Option<Duration>,
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) idle_timeout: Option<Duration>,
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) max_lifetime: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    pub(crate) lifetime_jitter: Duration,
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) check_after: Option<Duration>,
    #[serde(default = "default_check_timeout", with = "humantime_serde")]
    pub(crate) check_timeout: Duration,
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) hold_warning: Option<Duration>,
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
            warm_up: None,
            dismissal: Dismissal::default(),
            overflow_ttl: None,
            idle_timeout: None,
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            check_after: None,
            check_timeout: default_check_timeout(),
            hold_warning: None,
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

    /// Sets how long a checkout waits for a worker. Zero: not at all; then no worker is started on demand or checked.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.wait_timeout = wait_timeout;
        self
    }

    /// Refuses a checkout at once when `max_waiting` others wait already.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// Starts so many workers beside each other when the pool starts, instead of all.
    pub fn warm_up(mut self, at_once: NonZeroUsize) -> Self {
        self.warm_up = Some(at_once);
        self
    }

    /// Sets which worker is ended when there is one too many.
    pub fn dismissal(mut self, dismissal: Dismissal) -> Self {
        self.dismissal = dismissal;
        self
    }

    /// Ends a surplus worker only when it has been idle for so long, instead of at once.
    pub fn overflow_ttl(mut self, ttl: Duration) -> Self {
        self.overflow_ttl = Some(ttl);
        self
    }

    /// Replaces a worker that has been idle for so long.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Replaces a worker that has lived for so long; one on loan when it comes back.
    pub fn max_lifetime(mut self, limit: Duration) -> Self {
        self.max_lifetime = Some(limit);
        self
    }

    /// Shortens each worker's lifetime by a random part of this, so that not all are replaced at once.
    pub fn lifetime_jitter(mut self, jitter: Duration) -> Self {
        self.lifetime_jitter = jitter;
        self
    }

    /// Asks a worker that has been idle for so long whether it is [in order](crate::Worker::check) before it is
    /// lent. One that is not is replaced, and the borrower gets another.
    pub fn check_after(mut self, idle: Duration) -> Self {
        self.check_after = Some(idle);
        self
    }

    /// Sets how long a worker may take to say that it is in order.
    pub fn check_timeout(mut self, limit: Duration) -> Self {
        self.check_timeout = limit;
        self
    }

    /// Warns, once per loan, when a worker has been on loan for so long.
    pub fn hold_warning(mut self, after: Duration) -> Self {
        self.hold_warning = Some(after);
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

    /// Returns how often somebody must look at the times, if any is set.
    pub(crate) fn tick(&self) -> Option<Duration> {
        let times = [
            self.overflow_ttl,
            self.idle_timeout,
            self.max_lifetime.map(|all| all - self.lifetime_jitter),
            self.hold_warning,
        ];
        let shortest = times.into_iter().flatten().min()?;
        Some((shortest / 10).max(Duration::from_millis(1)))
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
        let times = [
            (PoolField::OverflowTtl, self.overflow_ttl),
            (PoolField::IdleTimeout, self.idle_timeout),
            (PoolField::MaxLifetime, self.max_lifetime),
            (PoolField::CheckTimeout, Some(self.check_timeout)),
            (PoolField::HoldWarning, self.hold_warning),
        ];
        if let Some((field, _)) = times.iter().find(|(_, it)| *it == Some(Duration::ZERO)) {
            return Err(error(*field, "must not be zero"));
        }
        if self.lifetime_jitter > Duration::ZERO
            && self
                .max_lifetime
                .is_none_or(|all| all <= self.lifetime_jitter)
        {
            return Err(error(
                PoolField::LifetimeJitter,
                "must be shorter than max_lifetime",
            ));
        }
        if self.wait_timeout.is_zero() && (self.max_overflow > 0 || self.check_after.is_some()) {
            return Err(error(
                PoolField::WaitTimeout,
                "must not be zero with max_overflow or check_after: no worker is started or checked in no time",
            ));
        }
        let longest = [self.idle_timeout, self.max_lifetime];
        if let Some(idle) = self.check_after
            && longest.into_iter().flatten().any(|limit| idle >= limit)
        {
            return Err(error(
                PoolField::CheckAfter,
                "must be shorter than idle_timeout and max_lifetime, or nobody is checked",
            ));
        }
        match self.size.checked_add(self.max_overflow) {
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
    /// `wait_timeout`.
    WaitTimeout,
    /// `overflow_ttl`.
    OverflowTtl,
    /// `idle_timeout`.
    IdleTimeout,
    /// `max_lifetime`.
    MaxLifetime,
    /// `lifetime_jitter`.
    LifetimeJitter,
    /// `check_after`.
    CheckAfter,
    /// `check_timeout`.
    CheckTimeout,
    /// `hold_warning`.
    HoldWarning,
}

impl std::fmt::Display for PoolField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::MaxOverflow => "max_overflow",
            Self::WaitTimeout => "wait_timeout",
            Self::OverflowTtl => "overflow_ttl",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxLifetime => "max_lifetime",
            Self::LifetimeJitter => "lifetime_jitter",
            Self::CheckAfter => "check_after",
            Self::CheckTimeout => "check_timeout",
            Self::HoldWarning => "hold_warning",
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

pub(crate) fn default_wait_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_check_timeout() -> Duration {
    Duration::from_secs(1)
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
    fn settings_that_cannot_be_used_are_refused_and_the_error_names_pool_and_field() {
        let second = Duration::from_secs(1);
        let jitter = PoolConfig::new(1)
            .max_lifetime(second)
            .lifetime_jitter(second);
        assert_eq!(
            jitter.validate("db").unwrap_err().to_string(),
            "pool `db`: lifetime_jitter: must be shorter than max_lifetime"
        );
        assert!(
            PoolConfig::new(1)
                .lifetime_jitter(second)
                .validate("db")
                .is_err()
        );
        let error = PoolConfig::new(1)
            .idle_timeout(Duration::ZERO)
            .validate("db");
        assert_eq!(error.unwrap_err().field, PoolField::IdleTimeout);
        for config in [
            PoolConfig::new(1).idle_timeout(second),
            PoolConfig::new(1).max_lifetime(second),
        ] {
            let checked = |after| config.clone().check_after(after).validate("db");
            assert!(checked(second / 2).is_ok());
            assert_eq!(checked(second).unwrap_err().field, PoolField::CheckAfter);
        }
        let hasty = PoolConfig::new(1).wait_timeout(Duration::ZERO);
        assert!(hasty.validate("db").is_ok());
        for config in [hasty.clone().max_overflow(1), hasty.check_after(second)] {
            let error = config.validate("db").unwrap_err();
            assert_eq!(error.field, PoolField::WaitTimeout);
        }
        // A pool without workers may be resized later.
        assert!(PoolConfig::new(0).validate("db").is_ok());
        assert!(PoolConfig::new(1).validate("a/b").is_err());
        assert!(PoolConfig::new(usize::MAX).validate("db").is_err());
        let error = PoolConfig::new(1)
            .max_overflow(usize::MAX)
            .validate("db")
            .unwrap_err();
        assert_eq!(error.field, PoolField::MaxOverflow);
    }
}
