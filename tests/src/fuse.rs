//! Replays recordings of Erlang's fuse against our breakers; `conformance/FORMAT-infra.md` describes them.
//!
//! Everything goes through the public API: a fuse is a breaker that opens on so many failures within some time and
//! closes by itself.

mod record;
mod replay;
mod stage;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde_json::Value;

use self::record::Scenario;
use self::replay::Mismatch;
use crate::recording;

/// How many differences are printed.
const SHOWN: usize = 10;

/// Scenarios that the format allows to leave out: odd, and better not copied.
const LEFT_OUT: &str = "quirk";

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Outcome {
    passed: usize,
    failed: usize,
    skipped: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
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
            "fuse: {passed} passed, {failed} failed, {skipped} skipped of {total}"
        )
    }
}

/// Replays every recording, each with breakers and a clock of its own.
///
/// # Errors
///
/// When the recordings cannot be read.
pub fn replay_all() -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    for record in recording::read("fuse")? {
        match judge(&record) {
            Verdict::Passed => outcome.passed += 1,
            Verdict::Skipped(reason) => *outcome.skipped.entry(reason).or_default() += 1,
            Verdict::Failed(mismatch) => {
                outcome.failed += 1;
                let id = record["id"].as_str().unwrap_or("without an id");
                outcome.differences.push(format!("{id}, {mismatch}"));
            }
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
    let has_tag = |tags: &Vec<Value>| tags.iter().any(|tag| tag == LEFT_OUT);
    if record["tags"].as_array().is_some_and(has_tag) {
        return Verdict::Skipped(LEFT_OUT);
    }
    let scenario = match Scenario::read(record) {
        Ok(scenario) => scenario,
        Err(error) => return Verdict::Failed(Mismatch::unreadable(&error)),
    };
    match replay::run(&scenario) {
        Ok(()) => Verdict::Passed,
        Err(mismatch) => Verdict::Failed(mismatch),
    }
}
