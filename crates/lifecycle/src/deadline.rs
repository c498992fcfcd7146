//! Moments to come, on tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

/// Far enough away: what is added to a moment, or multiplied with a share, must not come out beyond the clock.
pub(crate) const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Returns the moment that is so far away, or 30 years if that is sooner: a time may be `Duration::MAX`, the clock ends
/// before that.
#[must_use]
pub fn after(time: Duration) -> Instant {
    Instant::now() + time.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_time_is_a_moment_too() {
        let second = Duration::from_secs(1);
        assert_eq!(after(second), Instant::now() + second);
        assert!(after(Duration::MAX) > after(FAR - second));
    }
}
