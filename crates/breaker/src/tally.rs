//! What a closed breaker remembers of recent results.

use std::collections::VecDeque;

use crate::machine::{Clock, Nanos, nanos};
use crate::{Trip, Window};

/// A window over time is kept in this many parts.
const PARTS: u64 = 16;

/// See [`Tally::waits_until`].
pub(crate) const NEVER: Nanos = 0;
/// See [`Tally::waits_until`].
pub(crate) const ALWAYS: Nanos = Nanos::MAX;

/// What a call that has ended says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) failed: bool,
    /// Unknown of what was reported without a permit, and where no condition asks for it.
    pub(crate) took: Option<Nanos>,
}

/// Which kind of condition is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    Failures,
    SlowCalls,
}

#[derive(Debug)]
pub(crate) enum Tally {
    Nothing,
    Consecutive {
        limit: u32,
        failures: u32,
    },
    /// The times of the last `limit` failures: more are never needed.
    Within {
        limit: usize,
        within: Nanos,
        last: VecDeque<Nanos>,
    },
    Rate {
        what: What,
        ratio: f64,
        min_calls: u32,
        results: Results,
    },
    AnyOf(Vec<Tally>),
}

/// What a rate is a share of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Failed,
    SlowerThan(Nanos),
}

#[derive(Debug)]
pub(crate) enum Results {
    /// The last `size` results, `true` for a bad one.
    Calls {
        size: usize,
        last: VecDeque<bool>,
        bad: u32,
    },
    /// The parts of the window in which there were results, oldest first.
    Time { width: Nanos, parts: VecDeque<Part> },
}

#[derive(Debug)]
pub(crate) struct Part {
    number: u64,
    calls: u64,
    bad: u64,
}

impl Tally {
    pub(crate) fn new(trip: &Trip) -> Self {
        match trip {
            Trip::Never => Self::Nothing,
            Trip::Consecutive(limit) => Self::Consecutive {
                limit: *limit,
                failures: 0,
            },
            Trip::Failures { count, within } => Self::Within {
                limit: usize::try_from(*count).unwrap_or(usize::MAX),
                within: nanos(*within),
                last: VecDeque::new(),
            },
            Trip::FailureRate {
                ratio,
                window,
                min_calls,
            } => Self::rate(What::Failed, *ratio, *window, *min_calls),
            Trip::SlowRate {
                slower_than,
                ratio,
                window,
                min_calls,
            } => {
                let what = What::SlowerThan(nanos(*slower_than));
                Self::rate(what, *ratio, *window, *min_calls)
            }
            Trip::AnyOf(conditions) => Self::AnyOf(conditions.iter().map(Self::new).collect()),
        }
    }

    fn rate(what: What, ratio: f64, window: Window, min_calls: u32) -> Self {
        Self::Rate {
            what,
            ratio,
            min_calls,
            results: Results::new(window),
        }
    }

    /// Until when it is enough to be told of successes [together](Self::succeed), before the next other result: until
    /// then none can meet the condition. [`NEVER`] where each has to be told at once, [`ALWAYS`] where time does not
    /// matter.
    ///
    /// A slow success is another result where slow calls are judged.
    pub(crate) fn waits_until(&self) -> Nanos {
        match self {
            Self::Nothing | Self::Consecutive { failures: 0, .. } | Self::Within { .. } => ALWAYS,
            Self::Consecutive { .. } => NEVER,
            Self::Rate {
                min_calls, results, ..
            } => results.waits_until(u64::from(*min_calls)),
            Self::AnyOf(tallies) => tallies
                .iter()
                .map(Self::waits_until)
                .min()
                .unwrap_or(ALWAYS),
        }
    }

    /// Takes in successes for which it could wait.
    pub(crate) fn succeed(&mut self, times: u64) {
        match self {
            Self::Nothing | Self::Consecutive { .. } | Self::Within { .. } => {}
            Self::Rate { results, .. } => results.succeed(times),
            Self::AnyOf(tallies) => tallies.iter_mut().for_each(|tally| tally.succeed(times)),
        }
    }

    /// Whether nothing is on record that would count at `now`.
    pub(crate) fn is_blank(&self, now: Nanos) -> bool {
        match self {
            Self::Nothing => true,
            Self::Consecutive { failures, .. } => *failures == 0,
            Self::Within { within, last, .. } => last
                .back()
                .is_none_or(|&at| now.saturating_sub(at) >= *within),
            Self::Rate { results, .. } => results.is_blank(now),
            Self::AnyOf(tallies) => tallies.iter().all(|tally| tally.is_blank(now)),
        }
    }

    /// Takes a result in and answers whether the breaker must open, and why.
    pub(crate) fn record(&mut self, sample: Sample, now: Clock<'_>) -> Option<Met> {
        match self {
            Self::Nothing => None,
            Self::Consecutive { limit, failures } => {
                *failures = if sample.failed {
                    failures.saturating_add(1)
                } else {
                    0
                };
                (*failures >= *limit).then_some(Met::Failures)
            }
            Self::Within {
                limit,
                within,
                last,
            } => {
                if !sample.failed {
                    return None;
                }
                let now = now();
                while last.len() >= *limit
                    || last
                        .front()
                        .is_some_and(|&at| now.saturating_sub(at) >= *within)
                {
                    last.pop_front();
                }
                last.push_back(now);
                (last.len() >= *limit).then_some(Met::Failures)
            }
            Self::Rate {
                what,
                ratio,
                min_calls,
                results,
            } => {
                let (is_bad, met) = match *what {
                    What::Failed => (sample.failed, Met::Failures),
                    What::SlowerThan(time) => (sample.took? > time, Met::SlowCalls),
                };
                let (calls, bad) = results.record(is_bad, now);
                (calls >= u64::from(*min_calls) && share(bad, calls) >= *ratio).then_some(met)
            }
            // Each hears of it, also after one has said yes.
            Self::AnyOf(tallies) => tallies
                .iter_mut()
                .fold(None, |met, tally| met.or(tally.record(sample, now))),
        }
    }
}

impl Results {
    fn new(window: Window) -> Self {
        match window {
            Window::Calls(size) => Self::Calls {
                size: usize::try_from(size).unwrap_or(usize::MAX),
                last: VecDeque::new(),
                bad: 0,
            },
            Window::Time(time) => Self::Time {
                width: nanos(time).div_ceil(PARTS),
                parts: VecDeque::new(),
            },
        }
    }

    fn is_blank(&self, now: Nanos) -> bool {
        match self {
            Self::Calls { last, .. } => last.is_empty(),
            Self::Time { width, parts } => parts
                .back()
                .is_none_or(|part| part.number + PARTS <= now / *width),
        }
    }

    /// A good result lowers the share of bad ones, so it meets the condition only as the last that `min_calls` asks
    /// for, or as the first after other good ones grew too old.
    fn waits_until(&self, min_calls: u64) -> Nanos {
        match self {
            Self::Calls { last, bad, .. } => {
                let may_wait = *bad == 0 || last.len() as u64 >= min_calls;
                if may_wait { ALWAYS } else { NEVER }
            }
            Self::Time { width, parts } => {
                let (calls, bad) = sums(parts);
                match parts.back() {
                    Some(part) if bad == 0 || calls >= min_calls => {
                        (part.number + 1).saturating_mul(*width)
                    }
                    _ => NEVER,
                }
            }
        }
    }

    /// Takes in good results of the time of the last result.
    fn succeed(&mut self, times: u64) {
        match self {
            Self::Calls { size, last, bad } => {
                if times >= *size as u64 {
                    last.clear();
                    last.resize(*size, false);
                    *bad = 0;
                    return;
                }
                for _ in 0..times {
                    push(last, bad, *size, false);
                }
            }
            Self::Time { parts, .. } => {
                if let Some(part) = parts.back_mut() {
                    part.calls += times;
                }
            }
        }
    }

    /// Takes a result in and returns (results, bad ones) of the window.
    fn record(&mut self, is_bad: bool, now: Clock<'_>) -> (u64, u64) {
        match self {
            Self::Calls { size, last, bad } => {
                push(last, bad, *size, is_bad);
                (last.len() as u64, u64::from(*bad))
            }
            Self::Time { width, parts } => {
                let number = now() / *width;
                while parts
                    .front()
                    .is_some_and(|part| part.number + PARTS <= number)
                {
                    parts.pop_front();
                }
                match parts.back_mut() {
                    Some(part) if part.number == number => {
                        part.calls += 1;
                        part.bad += u64::from(is_bad);
                    }
                    _ => parts.push_back(Part {
                        number,
                        calls: 1,
                        bad: u64::from(is_bad),
                    }),
                }
                sums(parts)
            }
        }
    }
}

/// Returns (results, bad ones).
fn sums(parts: &VecDeque<Part>) -> (u64, u64) {
    parts.iter().fold((0, 0), |(calls, bad), part| {
        (calls + part.calls, bad + part.bad)
    })
}

/// Takes a result into a window over calls.
fn push(last: &mut VecDeque<bool>, bad: &mut u32, size: usize, is_bad: bool) {
    if last.len() == size && last.pop_front() == Some(true) {
        *bad -= 1;
    }
    last.push_back(is_bad);
    *bad += u32::from(is_bad);
}

/// A division, not `ratio * calls`: 0.55 * 100 is above 55, while 55 / 100 is the very number that 0.55 reads as.
#[expect(clippy::cast_precision_loss, reason = "no window holds 2^53 results")]
fn share(bad: u64, calls: u64) -> f64 {
    bad as f64 / calls as f64
}
