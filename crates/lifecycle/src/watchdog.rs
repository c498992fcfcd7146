use std::time::Duration;

/// Watches for a handler that takes too long.
///
/// A message in hand for longer than the limit is reported as an event with its type, once per message. On request
/// the actor is replaced as well: it is killed, and when it does not yield to that within
/// [`grace`](Self::grace), it is left behind ("detached") and a successor starts. Rust cannot pre-empt it: what was left
/// behind keeps its thread until it yields, and is counted until then.
///
/// The supervisor looks four times within the limit, and at most once a millisecond. Handlers are watched, not the start and the stop of an actor.
///
/// ```
/// use perennial_lifecycle::Watchdog;
/// use std::time::Duration;
///
/// let watchdog = Watchdog::replace(Duration::from_secs(30));
/// assert!(watchdog.replaces());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Watchdog {
    limit: Duration,
    replace: bool,
    grace: Duration,
}

impl Watchdog {
    /// Reports a handler that runs for longer than `limit`.
    pub const fn report(limit: Duration) -> Self {
        Self {
            limit,
            replace: false,
            grace: Duration::from_secs(1),
        }
    }

    /// Reports it, and replaces its actor.
    pub const fn replace(limit: Duration) -> Self {
        let mut watchdog = Self::report(limit);
        watchdog.replace = true;
        watchdog
    }

    /// Sets how long a stuck actor that was killed may take to yield before it is left behind. Default: 1 s.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Returns how long a handler may take.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Says whether a stuck actor is replaced.
    #[must_use]
    pub const fn replaces(&self) -> bool {
        self.replace
    }

    /// Returns how long a stuck actor that was killed may take to yield.
    #[must_use]
    pub const fn grace_time(&self) -> Duration {
        self.grace
    }
}

/// Why a stuck actor that did not yield to its kill ended, as far as its supervisor is concerned.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a {message} was in hand for longer than {limit:?}, and the actor did not yield to a kill")]
#[non_exhaustive]
pub struct StuckHandler {
    /// The type of message in hand.
    pub message: &'static str,
    /// How long a handler may take.
    pub limit: Duration,
}

impl StuckHandler {
    /// Describes a handler that exceeded its limit.
    #[must_use]
    pub fn new(message: &'static str, limit: Duration) -> Self {
        Self { message, limit }
    }
}
