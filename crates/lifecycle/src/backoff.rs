use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder, ExponentialBuilder};

use crate::ChildSpecError;
use crate::deadline::FAR;

/// How long a child that ended is left alone before it is started again.
///
/// The first delay follows the first end. The delays grow with each end, or failed start, in a row; a run that
/// lasted [`reset_after`](Self::reset_after) begins them anew. The siblings are served meanwhile: where they are to be
/// restarted with the child, they are when its delay is over, at each attempt, and run on when it fails.
///
/// | kind | delays |
/// | --- | --- |
/// | [`constant`](Self::constant) | d, d, d, ... |
/// | [`linear`](Self::linear) | d, 2d, 3d, ... |
/// | [`exponential`](Self::exponential) | d, fd, f²d, ... with [`factor`](Self::factor) f |
///
/// No delay is longer than 30 years: one of `Duration::MAX` is for good, or until somebody resumes the child.
///
/// ```
/// use perennial_lifecycle::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_millis(100))
///     .factor(3.0)
///     .cap(Duration::from_secs(30))
///     .jitter(0.2)
///     .reset_after(Duration::from_secs(300));
/// assert_eq!(backoff.longest(), Some(Duration::from_secs(30)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Backoff {
    growth: Growth,
    first: Duration,
    cap: Option<Duration>,
    jitter: f64,
    seed: Option<u64>,
    reset_after: Duration,
}

/// How the delays of a [`Backoff`] grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// Not at all.
    Constant,
    /// By the first delay each time.
    Linear,
    /// By a factor each time.
    Exponential {
        /// The factor; 2 unless told otherwise.
        factor: f64,
    },
}

impl Backoff {
    /// Waits equally long each time.
    pub const fn constant(delay: Duration) -> Self {
        Self::new(Growth::Constant, delay)
    }

    /// Waits longer by `first` each time.
    pub const fn linear(first: Duration) -> Self {
        Self::new(Growth::Linear, first)
    }

    /// Waits twice as long each time, or [`factor`](Self::factor) times as long.
    pub const fn exponential(first: Duration) -> Self {
        Self::new(Growth::Exponential { factor: 2.0 }, first)
    }

    const fn new(growth: Growth, first: Duration) -> Self {
        Self {
            growth,
            first,
            cap: None,
            jitter: 0.0,
            seed: None,
            reset_after: Duration::from_secs(60),
        }
    }

    /// Sets by what an exponential backoff grows; the others do not care. Default: 2.
    pub const fn factor(mut self, factor: f64) -> Self {
        if let Growth::Exponential { .. } = self.growth {
            self.growth = Growth::Exponential { factor };
        }
        self
    }

    /// Sets the longest delay. Default: none.
    pub const fn cap(mut self, longest: Duration) -> Self {
        self.cap = Some(longest);
        self
    }

    /// Shortens each delay by a random part of it, from nothing up to this share. Default: 0.
    ///
    /// What crashed together then does not come back together. The cap holds all the same.
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Makes the jitter repeatable: the same delays for the same seed and place in the tree.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets how long a run must have lasted for the delays to begin anew at its end. Default: 60 s.
    pub const fn reset_after(mut self, stable: Duration) -> Self {
        self.reset_after = stable;
        self
    }

    /// Returns how the delays grow.
    #[must_use]
    pub const fn growth(&self) -> Growth {
        self.growth
    }

    /// Returns the first delay, before jitter.
    #[must_use]
    pub const fn first(&self) -> Duration {
        self.first
    }

    /// Returns the longest delay there can be, if there is such.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        match self.growth {
            Growth::Constant => Some(self.cap.map_or(self.first, |cap| cap.min(self.first))),
            Growth::Linear | Growth::Exponential { .. } => self.cap,
        }
    }

    /// Returns the share of a delay that jitter may take away.
    #[must_use]
    pub const fn jitter_share(&self) -> f64 {
        self.jitter
    }

    /// Returns the seed of the jitter.
    #[must_use]
    pub const fn jitter_seed(&self) -> Option<u64> {
        self.seed
    }

    /// Returns how long a run must have lasted for the delays to begin anew.
    #[must_use]
    pub const fn stable_after(&self) -> Duration {
        self.reset_after
    }

    /// Returns the delays one after the other, without jitter and without end.
    ///
    /// None is longer than 30 years.
    pub fn delays(&self) -> Box<dyn Iterator<Item = Duration> + Send + Sync> {
        let first = self.first;
        let cap = self.longest().map_or(FAR, |longest| longest.min(FAR));
        match self.growth {
            Growth::Constant => {
                let builder = ConstantBuilder::default().with_delay(cap);
                Box::new(builder.without_max_times().build())
            }
            Growth::Linear => {
                Box::new((1..).map(move |times| first.saturating_mul(times).min(cap)))
            }
            Growth::Exponential { factor } => {
                #[allow(clippy::cast_possible_truncation, reason = "what backon takes")]
                let factor = factor as f32;
                let builder = ExponentialBuilder::default()
                    .with_factor(factor)
                    .with_min_delay(first)
                    .with_max_delay(cap)
                    .without_max_times();
                Box::new(builder.build().map(move |delay| delay.min(cap)))
            }
        }
    }

    pub(crate) fn validate(&self, id: &str, field: &'static str) -> Result<(), ChildSpecError> {
        let factor = match self.growth {
            Growth::Exponential { factor } => factor,
            Growth::Constant | Growth::Linear => 1.0,
        };
        let wrong = if self.first.is_zero() {
            "the first delay must not be zero"
        } else if !(factor.is_finite() && factor >= 1.0) {
            "factor must be a number of at least 1"
        } else if self.cap.is_some_and(|cap| cap < self.first) {
            "cap must not be shorter than the first delay"
        } else if !(0.0..=1.0).contains(&self.jitter) {
            "jitter must lie between 0 and 1"
        } else {
            return Ok(());
        };
        Err(ChildSpecError::Setting {
            id: id.to_owned(),
            field,
            wrong,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_delay_leads_beyond_the_clock() {
        let second = Duration::from_secs(1);
        for backoff in [
            Backoff::constant(Duration::MAX),
            Backoff::linear(Duration::MAX),
            Backoff::exponential(Duration::MAX),
            Backoff::exponential(second).factor(1e30),
            Backoff::exponential(second).factor(f64::MAX),
            Backoff::exponential(second).factor(1e30).cap(Duration::MAX),
        ] {
            let now = tokio::time::Instant::now();
            let far = now + Duration::from_secs(86_400 * 365 * 29);
            for delay in backoff.delays().skip(1).take(4) {
                let due = now.checked_add(delay.mul_f64(1.0));
                assert!(due.is_some_and(|due| due > far), "{backoff:?}");
            }
        }
    }
}
