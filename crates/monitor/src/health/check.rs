use std::future::Future;

use serde::Serialize;

use super::Status;
use crate::sync::Boxed;

/// What a [`HealthCheck`] returns.
pub type HealthFuture<'a> = Boxed<'a, CheckReport>;

/// How one service is asked whether it can do its work.
///
/// Each check runs in a task of its own, at the same time as all others. A check that panics, or is not done at the
/// deadline, makes its service unhealthy and touches nothing else.
///
/// A closure that returns a future is a check.
///
/// # Examples
///
/// ```
/// use perennial_monitor::{Check, CheckReport, HealthAggregator, HealthConfig, Status};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let health = HealthAggregator::new(HealthConfig::default());
/// health.register("database", Box::new(|| async {
///     CheckReport::new()
///         .with(Check::alive(true))
///         .with(Check::mailbox(1_200))
/// }));
///
/// let report = health.check().await;
/// assert_eq!(report.services[0].status, Status::Degraded);
/// assert_eq!(report.services[0].causes, ["mailbox: 1200 messages wait"]);
/// # });
/// ```
pub trait HealthCheck: Send + Sync + 'static {
    /// Looks at every aspect of the service.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at the deadline, so it must be cancel safe.
    fn check(&self) -> HealthFuture<'_>;

    /// Tells at once whether the service is there at all, for [`quick`](super::HealthAggregator::quick).
    fn is_alive(&self) -> bool {
        true
    }
}

impl<F, Fut> HealthCheck for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = CheckReport> + Send + 'static,
{
    fn check(&self) -> HealthFuture<'_> {
        Box::pin(self())
    }
}

impl HealthCheck for Box<dyn HealthCheck> {
    fn check(&self) -> HealthFuture<'_> {
        (**self).check()
    }

    fn is_alive(&self) -> bool {
        (**self).is_alive()
    }
}

/// Makes a check of two closures: one that tells at once whether the service is there, one that looks closely.
pub fn with_liveness<F, Fut>(
    is_alive: impl Fn() -> bool + Send + Sync + 'static,
    check: F,
) -> Box<dyn HealthCheck>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = CheckReport> + Send + 'static,
{
    struct WithLiveness<A, F>(A, F);

    impl<A, F> HealthCheck for WithLiveness<A, F>
    where
        A: Fn() -> bool + Send + Sync + 'static,
        F: HealthCheck,
    {
        fn check(&self) -> HealthFuture<'_> {
            self.1.check()
        }

        fn is_alive(&self) -> bool {
            self.0()
        }
    }

    Box::new(WithLiveness(is_alive, check))
}

/// What a check found, aspect by aspect.
///
/// A report without a single aspect is unhealthy: it shows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[must_use]
pub struct CheckReport {
    /// The aspects, in the order in which they were looked at.
    pub checks: Vec<Check>,
}

impl CheckReport {
    /// Starts with no aspect.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an aspect.
    pub fn with(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }
}

impl FromIterator<Check> for CheckReport {
    fn from_iter<I: IntoIterator<Item = Check>>(checks: I) -> Self {
        Self {
            checks: checks.into_iter().collect(),
        }
    }
}

/// One aspect of a service: is it alive, does it answer, how long is its mailbox, is its breaker closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The aspect.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// Why it is no better.
    pub cause: Option<String>,
}

impl Check {
    /// How many waiting messages [`mailbox`](Self::mailbox) accepts as healthy.
    pub const MAILBOX_LIMIT: usize = 1_000;

    /// An aspect that is well.
    pub fn healthy(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: Status::Healthy,
            cause: None,
        }
    }

    /// An aspect that works with limits.
    pub fn degraded(name: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: Status::Degraded,
            cause: Some(cause.into()),
        }
    }

    /// An aspect that does not work.
    pub fn unhealthy(name: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: Status::Unhealthy,
            cause: Some(cause.into()),
        }
    }

    /// `alive`: unhealthy unless the service is there.
    pub fn alive(alive: bool) -> Self {
        if alive {
            Self::healthy("alive")
        } else {
            Self::unhealthy("alive", "it is not running")
        }
    }

    /// `mailbox`: degraded above [`MAILBOX_LIMIT`](Self::MAILBOX_LIMIT) waiting messages.
    pub fn mailbox(waiting: usize) -> Self {
        if waiting > Self::MAILBOX_LIMIT {
            Self::degraded("mailbox", format!("{waiting} messages wait"))
        } else {
            Self::healthy("mailbox")
        }
    }
}
