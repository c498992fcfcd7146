//! What a closed breaker remembers of recent results.

use std::collections::VecDeque;

use crate::machine::{Nanos, nanos};
use crate::{Trip, Window};

/// A window over time is kept in this many parts.
const PARTS: u64 = 16;

#[derive(Debug)]
pub(crate) enum Tally {
    Consecutive {
        limit: u32,
        failures: u32,
    },
    Rate {
        ratio: f64,
        min_calls: u32,
        results: Results,
    },
}

#[derive(Debug)]
pub(crate) enum Results {
    /// The last `size` results, `true` for a failure.
    Calls {
        size: usize,
        last: VecDeque<bool>,
        failures: u32,
    },
    /// The parts of the window in which there were results, oldest first.
    Time { width: Nanos, parts: VecDeque<Part> },
}

#[derive(Debug)]
pub(crate) struct Part {
    number: u64,
    calls: u64,
    failures: u64,
}

impl Tally {
    pub(crate) fn new(trip: &Trip) -> Self {
        match *trip {
            Trip::Consecutive(limit) => Self::Consecutive { limit, failures: 0 },
            Trip::FailureRate {
                ratio,
                window,
                min_calls,
            } => {
                let results = match window {
                    Window::Calls(size) => Results::Calls {
                        size: usize::try_from(size).unwrap_or(usize::MAX),
                        last: VecDeque::new(),
                        failures: 0,
                    },
                    Window::Time(time) => Results::Time {
                        width: nanos(time).div_ceil(PARTS),
                        parts: VecDeque::new(),
                    },
                };
                Self::Rate {
                    ratio,
                    min_calls,
                    results,
                }
            }
        }
    }

    /// Whether a success would change nothing here.
    pub(crate) fn ignores_success(&self) -> bool {
        matches!(self, Self::Consecutive { failures: 0, .. })
    }

    /// Takes a result in and answers whether the breaker must open.
    pub(crate) fn record(&mut self, failed: bool, now: Nanos) -> bool {
        match self {
            Self::Consecutive { limit, failures } => {
                *failures = if failed {
                    failures.saturating_add(1)
                } else {
                    0
                };
                *failures >= *limit
            }
            Self::Rate {
                ratio,
                min_calls,
                results,
            } => {
                let (calls, failures) = results.record(failed, now);
                calls >= u64::from(*min_calls) && share(failures, calls) >= *ratio
            }
        }
    }
}

impl Results {
    /// Takes a result in and returns (results, failures) of the window.
    fn record(&mut self, failed: bool, now: Nanos) -> (u64, u64) {
        match self {
            Self::Calls {
                size,
                last,
                failures,
            } => {
                if last.len() == *size && last.pop_front() == Some(true) {
                    *failures -= 1;
                }
                last.push_back(failed);
                *failures += u32::from(failed);
                (last.len() as u64, u64::from(*failures))
            }
            Self::Time { width, parts } => {
                let number = now / *width;
                while parts
                    .front()
                    .is_some_and(|part| part.number + PARTS <= number)
                {
                    parts.pop_front();
                }
                match parts.back_mut() {
                    Some(part) if part.number == number => {
                        part.calls += 1;
                        part.failures += u64::from(failed);
                    }
                    _ => parts.push_back(Part {
                        number,
                        calls: 1,
                        failures: u64::from(failed),
                    }),
                }
                parts.iter().fold((0, 0), |(calls, failures), part| {
                    (calls + part.calls, failures + part.failures)
                })
            }
        }
    }
}

/// A division, not `ratio * calls`: 0.55 * 100 is above 55, while 55 / 100 is the very number that 0.55 reads as.
#[expect(clippy::cast_precision_loss, reason = "no window holds 2^53 results")]
fn share(failures: u64, calls: u64) -> f64 {
    failures as f64 / calls as f64
}
