//! Waiting for a cell: [`Patience`], and the loop that has it.

use std::{pin::pin, time::Duration};

use perennial_lifecycle::shield;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{decision::Decision, error::WaitError};

#[cfg(test)]
mod tests;

/// How long a caller waits for a cell, and how much later than necessary it may ask again.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use perennial_rate_limit::Patience;
///
/// let for_a_user = Patience::within(Duration::from_secs(2));
/// let for_a_batch = Patience::forever().jitter(Duration::from_millis(50));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "patience is for `until_ready`"]
pub struct Patience {
    limit: Limit,
    jitter: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Never,
    Within(Duration),
    Until(Instant),
}

impl Patience {
    /// Waits for as long as it takes.
    pub const fn forever() -> Self {
        Self::new(Limit::Never)
    }

    /// Waits no longer than this, from the first check on.
    pub const fn within(limit: Duration) -> Self {
        Self::new(Limit::Within(limit))
    }

    /// Waits until this deadline.
    pub const fn until(deadline: Instant) -> Self {
        Self::new(Limit::Until(deadline))
    }

    const fn new(limit: Limit) -> Self {
        Self {
            limit,
            jitter: Duration::ZERO,
        }
    }

    /// Adds a random time of up to this to each wait (default: none), so that those who were refused together do not
    /// come back together. It never carries a wait beyond the deadline.
    pub const fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    fn deadline(&self, begin: Instant) -> Option<Instant> {
        match self.limit {
            Limit::Never => None,
            // A time that no clock reaches is no deadline.
            Limit::Within(limit) => begin.checked_add(limit),
            Limit::Until(deadline) => Some(deadline),
        }
    }
}

/// Asks until it is allowed, and sleeps in between for as long as the refusal says, or until `changed` tells that another
/// answer may be had sooner. Nothing is held meanwhile.
pub(crate) async fn until(
    patience: Patience,
    changed: &Notify,
    mut check: impl FnMut() -> Decision,
) -> Result<u32, WaitError> {
    // From here on it hears of each change, which costs those nothing who need not wait.
    let mut change = pin!(changed.notified());
    let retry_after = match check() {
        Decision::Allowed { remaining } => return Ok(remaining),
        Decision::Never => return Err(WaitError::Never),
        Decision::Refused { retry_after } => retry_after,
    };
    // The clock is asked for only by those who have to wait.
    let begin = Instant::now();
    let deadline = patience.deadline(begin);
    let mut retry_after = retry_after;
    loop {
        let now = Instant::now();
        let pause = match (now.checked_add(retry_after), deadline) {
            (None, None) => sleep(retry_after),
            (Some(at), None) => sleep_until(later(at, patience.jitter)),
            (Some(at), Some(deadline)) if at <= deadline => {
                sleep_until(later(at, patience.jitter).min(deadline))
            }
            (_, Some(_)) => {
                return Err(WaitError::TimedOut {
                    waited: now - begin,
                    retry_after,
                });
            }
        };
        tokio::select! {
            () = change.as_mut() => change.set(changed.notified()),
            () = pause => {}
        }
        retry_after = match check() {
            Decision::Allowed { remaining } => return Ok(remaining),
            Decision::Never => return Err(WaitError::Never),
            Decision::Refused { retry_after } => retry_after,
        };
    }
}

/// Tells those who wait that another answer may be had sooner. What their wakers run is theirs, so no lock is held.
pub(crate) fn tell(changed: &Notify) {
    shield(|| changed.notify_waiters());
}

/// Some time within `most` after `at`.
fn later(at: Instant, most: Duration) -> Instant {
    if most.is_zero() {
        return at;
    }
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    let jitter = Duration::from_nanos(fastrand::u64(..=most));
    at.checked_add(jitter).unwrap_or(at)
}
