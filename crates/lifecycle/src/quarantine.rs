use std::time::Duration;

use crate::{Backoff, ChildSpecError};

/// What becomes of a child that ends too often, instead of the end of its supervisor: it is parked.
///
/// While it is parked nothing runs, its name answers that it is unavailable and until when, and its health is
/// degraded; the siblings go on, also through a restart of the group. Then a probe starts it again, and it alone,
/// whatever the strategy. A probe that fails, or that ends badly within [`trial`](Self::trial), parks it again, for
/// longer if the times grow. One that lasts that long frees it, with its restart budget unspent.
///
/// ```
/// use perennial_lifecycle::{Backoff, Quarantine};
/// use std::time::Duration;
///
/// let times = Backoff::exponential(Duration::from_secs(30)).cap(Duration::from_secs(600));
/// let quarantine = Quarantine::new(times).trial(Duration::from_secs(10));
/// assert_eq!(quarantine.times().first(), Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Quarantine {
    times: Backoff,
    trial: Duration,
}

impl Quarantine {
    /// Parks the child for these times in turn; they begin anew when a probe has lasted.
    pub const fn new(times: Backoff) -> Self {
        Self {
            times,
            trial: Duration::from_secs(60),
        }
    }

    /// Sets how long a probe must run for the child to be free again. Default: 60 s.
    pub const fn trial(mut self, trial: Duration) -> Self {
        self.trial = trial;
        self
    }

    /// Returns for how long the child is parked.
    pub const fn times(&self) -> Backoff {
        self.times
    }

    /// Returns how long a probe must run for the child to be free again.
    #[must_use]
    pub const fn trial_time(&self) -> Duration {
        self.trial
    }

    pub(crate) fn validate(&self, id: &str) -> Result<(), ChildSpecError> {
        self.times.validate(id, "quarantine")
    }
}
