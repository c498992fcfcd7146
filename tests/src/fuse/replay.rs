//! Carries a recording out and compares every step.

use std::fmt;
use std::io;

use super::record::Scenario;
use super::stage::{Ran, Stage};

/// The first thing in a scenario that was not as recorded.
#[derive(Debug)]
pub(super) struct Mismatch {
    place: String,
    what: &'static str,
    expected: String,
    seen: String,
}

impl Mismatch {
    pub(super) fn unreadable(error: &str) -> Self {
        Self {
            place: "reading".to_owned(),
            what: "record",
            expected: "one of the known format".to_owned(),
            seen: error.to_owned(),
        }
    }

    fn no_clock(error: &io::Error) -> Self {
        Self {
            place: "before the first step".to_owned(),
            what: "clock",
            expected: "a paused one".to_owned(),
            seen: error.to_string(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.place, self.what)?;
        writeln!(f, "  expected {}", self.expected)?;
        write!(f, "  seen     {}", self.seen)
    }
}

pub(super) fn run(scenario: &Scenario) -> Result<(), Mismatch> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Mismatch::no_clock(&error))?
        .block_on(play(scenario))
}

async fn play(scenario: &Scenario) -> Result<(), Mismatch> {
    let mut stage = Stage::new();
    for (number, step) in scenario.steps.iter().enumerate() {
        let Ran { result, body_ran } = stage.perform(&step.op).await;
        let place = || format!("step {} {:?}", number + 1, step.op);
        same(place, "result", &step.result, &result)?;
        same(place, "ran", &step.ran, &body_ran)?;
        same(place, "time", &step.t, &stage.time())?;
        same(place, "events", &step.events, &stage.events())?;
        same(place, "state", &step.state, &stage.states())?;
        if let Some(alarms) = &step.alarms {
            same(place, "alarms", alarms, &stage.alarms())?;
        }
    }
    let place = || "after the last step".to_owned();
    same(place, "stats", &scenario.stats, &stage.stats())
}

fn same<T: PartialEq + fmt::Debug>(
    place: impl FnOnce() -> String,
    what: &'static str,
    expected: &T,
    seen: &T,
) -> Result<(), Mismatch> {
    if expected == seen {
        return Ok(());
    }
    Err(Mismatch {
        place: place(),
        what,
        expected: format!("{expected:?}"),
        seen: format!("{seen:?}"),
    })
}
