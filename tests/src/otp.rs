//! Replays recordings of the supervisor of Erlang/OTP against ours; `conformance/FORMAT-otp.md` describes them.
//!
//! Everything goes through the public API: the children are plain ractor actors behind ordinary child
//! specs, and what happened is read from the tree's events.

mod compare;
mod dynamic;
mod reason;
mod record;
mod replay;
mod stage;
mod story;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use self::record::Scenario;
use crate::recording;

/// How many differences are printed.
const SHOWN: usize = 10;

/// Set to `threads`, replays on [`Clock::Real`].
const RUNTIME: &str = "PERENNIAL_CONFORMANCE_RUNTIME";

/// What a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// One thread, and a clock that moves only when nothing else can: exact and fast.
    Paused,
    /// Threads and real time: finds what only happens when actors run beside each other, but a machine that
    /// is too busy for the short timeouts of some scenarios shows differences that are none.
    Real,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Outcome {
    passed: usize,
    failed: usize,
    skipped: BTreeMap<&'static str, usize>,
    differences: Vec<Difference>,
}

impl Outcome {
    /// Says whether nothing differed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(f, "{difference}")?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "skipped, {reason}: {count}")?;
        }
        let skipped: usize = self.skipped.values().sum();
        let (passed, failed) = (self.passed, self.failed);
        let total = passed + failed + skipped;
        write!(
            f,
            "otp: {passed} passed, {failed} failed, {skipped} skipped of {total}"
        )
    }
}

/// The first thing in a scenario that was not as recorded.
#[derive(Debug)]
struct Difference {
    scenario: String,
    step: String,
    what: &'static str,
    expected: String,
    seen: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}: {}", self.scenario, self.step, self.what)?;
        writeln!(f, "  expected {}", self.expected)?;
        write!(f, "  seen     {}", self.seen)
    }
}

/// Replays every recording, several beside each other, each in a tree and a runtime of its own.
///
/// # Errors
///
/// When the recordings cannot be read.
pub fn replay_all() -> io::Result<Outcome> {
    let records = recording::read("otp")?;
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::with_capacity(records.len()));
    let mut threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let clock = match std::env::var_os(RUNTIME) {
        Some(runtime) if runtime == "threads" => Clock::Real,
        _ => Clock::Paused,
    };
    if clock == Clock::Real {
        // Most of the time goes by in waiting.
        threads *= 10;
    }
    std::thread::scope(|threads_of_replay| {
        for _ in 0..threads {
            threads_of_replay.spawn(|| {
                while let index = next.fetch_add(1, Relaxed)
                    && let Some(record) = records.get(index)
                {
                    let verdict = judge(record, clock);
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    verdicts.push((index, verdict));
                }
            });
        }
    });
    let mut verdicts = verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|(index, _)| *index);
    let mut outcome = Outcome::default();
    for (_, verdict) in verdicts {
        match verdict {
            Verdict::Passed => outcome.passed += 1,
            Verdict::Skipped(reason) => *outcome.skipped.entry(reason).or_default() += 1,
            Verdict::Failed(difference) => {
                outcome.failed += 1;
                outcome.differences.push(*difference);
            }
        }
    }
    Ok(outcome)
}

enum Verdict {
    Passed,
    Skipped(&'static str),
    Failed(Box<Difference>),
}

fn judge(record: &Value, clock: Clock) -> Verdict {
    if let Some(reason) = skipped(record) {
        return Verdict::Skipped(reason);
    }
    let id = record["id"].as_str().unwrap_or("without an id").to_owned();
    let result = Scenario::read(record)
        .map_err(|error| replay::Mismatch {
            step: "reading".to_owned(),
            what: "record",
            expected: "a record of format 1".to_owned(),
            seen: error,
        })
        .and_then(|scenario| {
            let replay = std::panic::AssertUnwindSafe(|| replay::run(&scenario, clock));
            std::panic::catch_unwind(replay).unwrap_or_else(|payload| {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
                Err(replay::Mismatch {
                    step: "replaying".to_owned(),
                    what: "panic",
                    expected: "none".to_owned(),
                    seen: text.unwrap_or("without a message").to_owned(),
                })
            })
        });
    match result {
        Ok(()) => Verdict::Passed,
        Err(mismatch) => Verdict::Failed(Box::new(Difference {
            scenario: id,
            step: mismatch.step,
            what: mismatch.what,
            expected: mismatch.expected,
            seen: mismatch.seen,
        })),
    }
}

/// Says why a recording is left out, if it is.
fn skipped(record: &Value) -> Option<&'static str> {
    let tags = record["tags"].as_array().map_or(&[][..], Vec::as_slice);
    // What a typed API cannot say; a label that ours derives; a plain defect of OTP.
    let allowed = ["untyped", "type_label", "otp_defect"];
    allowed
        .into_iter()
        .find(|tag| tags.iter().any(|it| it == tag))
}
