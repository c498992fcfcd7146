//! Replays recordings of ExRated against the fixed windows of a rate gate; `conformance/FORMAT-infra.md` describes
//! them.
//!
//! Everything goes through the public API. A counter of ExRated belongs to a key and the length of its windows, so each
//! length is a scope of the gate. Its clock is set by hand to the time of each step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use perennial_rate_limit::{Algorithm, Clock, Decision, KeyStatus, ManualClock, Quota, RateGate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::recording;

/// How many differences are printed.
const SHOWN: usize = 10;

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Outcome {
    passed: usize,
    skipped: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
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
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(f, "{difference}")?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "skipped, {reason}: {count}")?;
        }
        let skipped: usize = self.skipped.values().sum();
        let (passed, failed) = (self.passed, self.differences.len());
        let total = passed + failed + skipped;
        write!(
            f,
            "exrated: {passed} passed, {failed} failed, {skipped} skipped of {total}"
        )
    }
}

#[derive(Deserialize)]
struct Scenario {
    id: String,
    tags: Vec<String>,
    config: Config,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Config {
    lifetime: u64,
}

#[derive(Deserialize)]
struct Step {
    /// Milliseconds since the epoch.
    t: u64,
    #[serde(flatten)]
    operation: Operation,
    result: Value,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Operation {
    Check(Question),
    Inspect(Question),
    Delete { key: String },
    Prune,
}

#[derive(Deserialize)]
struct Question {
    key: String,
    /// The length of a window in milliseconds.
    scale: u64,
    /// Negative only where a recording is tagged as odd.
    limit: i64,
}

/// Replays every recording, each with a gate of its own.
///
/// # Errors
///
/// When the recordings cannot be read.
pub fn replay_all() -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    for record in recording::read("exrated")? {
        let id = record["id"].as_str().unwrap_or("without an id").to_owned();
        let scenario: Scenario = match serde_json::from_value(record) {
            Ok(scenario) => scenario,
            Err(error) => {
                outcome.differences.push(format!("{id}, reading: {error}"));
                continue;
            }
        };
        if let Some(reason) = skipped(&scenario) {
            *outcome.skipped.entry(reason).or_default() += 1;
            continue;
        }
        match replay(&scenario) {
            Ok(()) => outcome.passed += 1,
            Err(difference) => outcome.differences.push(difference),
        }
    }
    Ok(outcome)
}

/// Says why a recording is left out, if it is: the format allows all of it. A gate forgets a window when it is over and
/// never before.
fn skipped(scenario: &Scenario) -> Option<&'static str> {
    let is = |tag: &str| scenario.tags.iter().any(|it| it == tag);
    // The other quirk, a delete that removes several counters and calls that an error, is one of what is stored.
    if scenario.questions().any(|question| question.limit < 0) {
        return Some("quirk: a negative limit");
    }
    if is("clock_back") {
        return Some("clock_back: a window that is over is forgotten");
    }
    let forgets_running = scenario
        .questions()
        .any(|question| question.scale > scenario.config.lifetime);
    if is("prune") && forgets_running {
        return Some("prune: its lifetime would forget a running window");
    }
    None
}

impl Scenario {
    fn questions(&self) -> impl Iterator<Item = &Question> {
        self.steps.iter().filter_map(|step| match &step.operation {
            Operation::Check(question) | Operation::Inspect(question) => Some(question),
            Operation::Delete { .. } | Operation::Prune => None,
        })
    }
}

fn replay(scenario: &Scenario) -> Result<(), String> {
    let time = Clock::manual();
    let gate = RateGate::builder().clock(time.clock()).build();
    let gate = gate.map_err(|error| format!("{}: {error}", scenario.id))?;
    let stage = Stage {
        gate,
        time,
        scales: scenario.questions().map(|it| it.scale).collect(),
    };
    for (number, step) in scenario.steps.iter().enumerate() {
        let place = format!("{}, step {}", scenario.id, number + 1);
        let seen = stage
            .take(step)
            .map_err(|error| format!("{place}: {error}"))?;
        // What a delete and a prune remove depends on windows that are over and still stored: ours are not.
        if let Some(seen) = seen
            && seen != step.result
        {
            let expected = &step.result;
            return Err(format!("{place}\n  expected {expected}\n  seen     {seen}"));
        }
    }
    Ok(())
}

struct Stage {
    gate: RateGate,
    time: ManualClock,
    /// The lengths of the windows that the scenario has.
    scales: BTreeSet<u64>,
}

impl Stage {
    fn take(&self, step: &Step) -> Result<Option<Value>, String> {
        self.time.set(Duration::from_millis(step.t));
        match &step.operation {
            Operation::Check(question) => self.check(question).map(Some),
            Operation::Inspect(question) => self.inspect(question).map(Some),
            Operation::Delete { key } => {
                for scale in &self.scales {
                    self.gate.reset(&scope(*scale), key);
                }
                Ok(None)
            }
            Operation::Prune => {
                self.gate.sweep();
                Ok(None)
            }
        }
    }

    fn check(&self, question: &Question) -> Result<Value, String> {
        let (quota, limit) = (question.quota()?, question.limit);
        let decision = self
            .gate
            .check(&scope(question.scale), &question.key, &quota);
        Ok(match decision {
            // It is the n-th of its window.
            Decision::Allowed { remaining } => json!(["ok", limit - i64::from(remaining)]),
            Decision::Refused { .. } | Decision::Never => json!(["error", limit]),
        })
    }

    fn inspect(&self, question: &Question) -> Result<Value, String> {
        let quota = question.quota()?;
        let status: KeyStatus = self
            .gate
            .status(&scope(question.scale), &question.key, &quota);
        let millis = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            since.map(|since| since.as_millis()).unwrap_or_default()
        };
        Ok(json!([
            status.spent,
            status.remaining,
            status.resets_in.as_millis(),
            status.first_check.map(millis),
            status.last_check.map(millis),
        ]))
    }
}

impl Question {
    fn quota(&self) -> Result<Quota, String> {
        let limit = u32::try_from(self.limit).map_err(|error| format!("limit: {error}"))?;
        let quota = Quota::new(limit, Duration::from_millis(self.scale));
        let quota = quota.map_err(|error| format!("scale: {error}"))?;
        Ok(quota.algorithm(Algorithm::FixedWindow))
    }
}

fn scope(scale: u64) -> String {
    format!("{scale} ms")
}
