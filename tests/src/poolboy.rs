//! Replays recordings of poolboy against our pool; `conformance/FORMAT-infra.md` describes them.
//!
//! Everything goes through the public API: the workers are plain ractor actors, the clients tasks of their
//! own that hold checkouts, run transactions, and are aborted when they die.

mod client;
mod record;
mod replay;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde_json::Value;

use self::record::Scenario;
use self::replay::Mismatch;
use crate::recording;

/// How many differences are printed.
const SHOWN: usize = 10;

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Outcome {
    passed: usize,
    skipped: BTreeMap<&'static str, usize>,
    differences: Vec<(String, Mismatch)>,
}

impl Outcome {
    /// Says whether nothing differed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scenario, mismatch) in self.differences.iter().take(SHOWN) {
            writeln!(f, "{scenario}, {mismatch}")?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "skipped, {reason}: {count}")?;
        }
        let skipped: usize = self.skipped.values().sum();
        let (passed, failed) = (self.passed, self.differences.len());
        let total = passed + failed + skipped;
        write!(
            f,
            "poolboy: {passed} passed, {failed} failed, {skipped} skipped of {total}"
        )
    }
}

/// Replays every recording, each in a tree and a runtime of its own.
///
/// # Errors
///
/// When the recordings cannot be read.
pub fn replay_all() -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    for record in recording::read("poolboy")? {
        let id = record["id"].as_str().unwrap_or("without an id").to_owned();
        match judge(&record) {
            Verdict::Passed => outcome.passed += 1,
            Verdict::Skipped(reason) => *outcome.skipped.entry(reason).or_default() += 1,
            Verdict::Failed(mismatch) => outcome.differences.push((id, mismatch)),
        }
    }
    Ok(outcome)
}

enum Verdict {
    Passed,
    Skipped(&'static str),
    Failed(Mismatch),
}

fn judge(record: &Value) -> Verdict {
    let scenario = match Scenario::read(record) {
        Ok(scenario) => scenario,
        Err(error) => return Verdict::Failed(Mismatch::unreadable(error)),
    };
    if let Some(reason) = scenario.cannot_be_replayed() {
        return Verdict::Skipped(reason);
    }
    let run = std::panic::AssertUnwindSafe(|| replay::run(&scenario));
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(mismatch)) => Verdict::Failed(mismatch),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Verdict::Failed(Mismatch::panicked(text.unwrap_or("without a message")))
        }
    }
}
