use std::fmt;
use std::time::Duration;

use perennial_lifecycle::{Trace, Traced, TracedOutcome};
use serde::Serialize;

use crate::render::duration;
use crate::time::{epoch_ms, millis};

/// The next messages of one actor, as they are handled; made by [`Debugger::trace`](crate::Debugger::trace).
///
/// Dropped, it traces no more.
#[derive(Debug)]
#[must_use = "dropped, it traces nothing"]
pub struct MessageTrace(Trace);

/// One message that was traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TraceEntry {
    /// The run that handled it.
    pub incarnation: u64,
    /// What the actor takes.
    pub message_type: &'static str,
    /// When it was taken, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long it had waited by then, where that is written on its envelope.
    pub waited_us: Option<u64>,
    /// How long the handler had it.
    pub took_us: u64,
    /// What became of it: `handled`, `failed`, `expired` or `cut off`.
    pub outcome: &'static str,
    /// Why the handler failed.
    pub reason: Option<String>,
}

impl MessageTrace {
    pub(crate) fn new(trace: Trace) -> Self {
        Self(trace)
    }

    /// Waits for the next message that was handled; `None` after the last one, and once the time is up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Option<TraceEntry> {
        self.0.next().await.as_ref().map(TraceEntry::from)
    }

    /// Waits for all that are to come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the trace.
    pub async fn all(mut self) -> Vec<TraceEntry> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await {
            all.push(entry);
        }
        all
    }
}

impl From<&Traced> for TraceEntry {
    fn from(traced: &Traced) -> Self {
        let (outcome, reason) = match &traced.outcome {
            TracedOutcome::Handled => ("handled", None),
            TracedOutcome::Failed(reason) => ("failed", Some(reason.to_string())),
            TracedOutcome::Expired => ("expired", None),
            TracedOutcome::CutOff => ("cut off", None),
            _ => ("unknown", None),
        };
        Self {
            incarnation: traced.incarnation,
            message_type: traced.message_type,
            at_ms: epoch_ms(traced.at),
            waited_us: traced.waited.map(micros),
            took_us: micros(traced.took),
            outcome,
            reason,
        }
    }
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |us| time(Duration::from_micros(us));
        write!(f, "#{} {}", self.incarnation, self.message_type)?;
        if let Some(waited) = self.waited_us {
            write!(f, ", waited {}", time(waited))?;
        }
        write!(f, ", {} after {}", self.outcome, time(self.took_us))?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// As everywhere, but what is shorter than a millisecond in microseconds.
fn time(time: Duration) -> String {
    match millis(time) {
        0 => format!("{}µs", time.as_micros()),
        _ => duration(time),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
