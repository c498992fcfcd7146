use std::time::Duration;

/// How many restarts there may be within a sliding window: of all children of a supervisor before it gives
/// up, or of one child as its own budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RestartIntensity {
    max: u32,
    period: Duration,
}

impl RestartIntensity {
    /// Allows `max` restarts within `period`; 0 allows none.
    #[must_use]
    pub const fn new(max: u32, period: Duration) -> Self {
        Self { max, period }
    }

    /// Returns the number of restarts allowed.
    #[must_use]
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// Returns the length of the window.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }
}

impl Default for RestartIntensity {
    /// One restart within five seconds, as in OTP.
    fn default() -> Self {
        Self::new(1, Duration::from_secs(5))
    }
}
