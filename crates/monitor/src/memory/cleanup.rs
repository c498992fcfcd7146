use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{Pressure, cell::MemoryCell};
use crate::{
    duration,
    event::{Event, emit},
    sync::{Boxed, Ended, Job, Overdue, lock, run_all},
};

/// How many clean-ups are remembered.
const REMEMBERED: usize = 10;

/// What a strategy reports when it fails.
pub type CleanupError = Box<dyn std::error::Error + Send + Sync>;

/// What a strategy's entry points return: how many bytes it gave up, 0 if it can't tell.
pub type CleanupFuture<'a> = Boxed<'a, Result<u64, CleanupError>>;

/// Something that can give up memory: a cache, a buffer, a history.
///
/// Each run is a task of its own. It never overlaps with another run of the same strategy, and what it returns, or that
/// it panics, affects no other strategy. At the clean-up timeout its future is dropped.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use perennial_monitor::{CleanupFuture, CleanupStrategy, MemoryManager};
///
/// struct Cache(Arc<Mutex<Vec<u8>>>);
///
/// impl Cache {
///     fn shrink(&self, keep: usize) -> CleanupFuture<'_> {
///         Box::pin(async move {
///             let mut cache = self.0.lock().map_err(|_| "the cache is poisoned")?;
///             let before = cache.len();
///             cache.truncate(keep);
///             Ok((before - cache.len()) as u64)
///         })
///     }
/// }
///
/// impl CleanupStrategy for Cache {
///     fn on_request(&self) -> CleanupFuture<'_> { self.shrink(1_000) }
///     fn proactive(&self) -> CleanupFuture<'_> { self.shrink(100) }
///     fn emergency(&self) -> CleanupFuture<'_> { self.shrink(0) }
/// }
///
/// let memory = MemoryManager::default();
/// memory.register("cache", Cache(Arc::default()));
/// assert_eq!(memory.strategies(), ["cache"]);
/// ```
pub trait CleanupStrategy: Send + Sync + 'static {
    /// Runs when somebody asked for it.
    fn on_request(&self) -> CleanupFuture<'_>;

    /// Runs at high pressure: gives up what is cheap to get back.
    fn proactive(&self) -> CleanupFuture<'_>;

    /// Runs at critical pressure: gives up all it can.
    fn emergency(&self) -> CleanupFuture<'_>;
}

/// Why a clean-up ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Somebody asked.
    OnRequest,
    /// Pressure was high.
    Proactive,
    /// Pressure was critical.
    Emergency,
}

impl Trigger {
    /// The trigger's name, as it is serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnRequest => "on_request",
            Self::Proactive => "proactive",
            Self::Emergency => "emergency",
        }
    }
}

/// One clean-up: what started it, and what each strategy made of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CleanupRecord {
    /// Why it ran.
    pub trigger: Trigger,
    /// The level when it began.
    pub level: Pressure,
    /// How long after the manager's creation it began, in seconds when serialized.
    #[serde(serialize_with = "duration::seconds::serialize")]
    pub began: Duration,
    /// How long it took, in seconds when serialized.
    #[serde(serialize_with = "duration::seconds::serialize")]
    pub took: Duration,
    /// What each strategy did, by name, in order of registration.
    pub strategies: Vec<(String, CleanupOutcome)>,
}

/// How one strategy's part in a clean-up ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CleanupOutcome {
    /// It gave up this many bytes.
    Freed(u64),
    /// It returned an error, shown here with its causes.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
    /// It was cut off at the clean-up timeout.
    TimedOut,
    /// It did not run, because its last run had not ended.
    StillRunning,
}

impl CleanupOutcome {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Freed(_) => "freed",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::TimedOut => "timed_out",
            Self::StillRunning => "still_running",
        }
    }
}

/// A registered strategy.
pub(crate) struct Slot {
    pub(crate) name: String,
    strategy: Box<dyn CleanupStrategy>,
    busy: AtomicBool,
}

impl Slot {
    pub(crate) fn new(name: String, strategy: Box<dyn CleanupStrategy>) -> Self {
        Self {
            name,
            strategy,
            busy: AtomicBool::new(false),
        }
    }

    /// The right to run the strategy, unless it runs already.
    fn claim(self: &Arc<Self>) -> Option<Claim> {
        let taken = self.busy.swap(true, Ordering::AcqRel);
        (!taken).then(|| Claim(Arc::clone(self)))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

/// Given back on drop: when the run ends, panics, or is cut off, and not before.
struct Claim(Arc<Slot>);

impl Claim {
    async fn run(self, trigger: Trigger) -> CleanupOutcome {
        let run = match trigger {
            Trigger::OnRequest => self.0.strategy.on_request(),
            Trigger::Proactive => self.0.strategy.proactive(),
            Trigger::Emergency => self.0.strategy.emergency(),
        };
        match run.await {
            Ok(bytes) => CleanupOutcome::Freed(bytes),
            Err(error) => CleanupOutcome::Failed(with_causes(error.as_ref())),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A clean-up that has claimed its strategies, ready to run.
pub(crate) struct Cleanup {
    trigger: Trigger,
    level: Pressure,
    parts: Vec<(String, Option<Claim>)>,
}

impl Cleanup {
    /// Claims every strategy that is not running; `None` if there is none.
    pub(crate) fn prepare(slots: &[Arc<Slot>], trigger: Trigger, level: Pressure) -> Option<Self> {
        let parts: Vec<_> = slots
            .iter()
            .map(|slot| (slot.name.clone(), slot.claim()))
            .collect();
        let any = parts.iter().any(|(_, claim)| claim.is_some());
        any.then_some(Self {
            trigger,
            level,
            parts,
        })
    }

    /// Runs the strategies at the same time and writes the record.
    pub(crate) async fn run(self, cell: Arc<MemoryCell>, timeout: Duration) {
        let started = Instant::now();
        let (mut names, mut jobs, mut ran) = (Vec::new(), Vec::new(), Vec::new());
        for (name, claim) in self.parts {
            names.push(name);
            ran.push(claim.is_some());
            if let Some(claim) = claim {
                jobs.push(Job {
                    work: Box::pin(claim.run(self.trigger)),
                    // The claim itself keeps a run that can't be cut off from a second one.
                    overdue: Overdue::default(),
                });
            }
        }
        let mut ended = run_all(jobs, timeout).await.into_iter();
        let outcomes = ran.into_iter().map(|ran| match ran {
            false => CleanupOutcome::StillRunning,
            true => match ended.next() {
                Some(Ended::Done(outcome)) => outcome,
                Some(Ended::Panicked(message)) => CleanupOutcome::Panicked(message),
                Some(Ended::TimedOut) | None => CleanupOutcome::TimedOut,
            },
        });
        let record = CleanupRecord {
            trigger: self.trigger,
            level: self.level,
            began: started.duration_since(cell.created),
            took: started.elapsed(),
            strategies: names.into_iter().zip(outcomes).collect(),
        };
        emit(Event::CleanupEnded { record: &record });
        cell.cleanup_ended(record);
    }
}

/// The last clean-ups, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    records: VecDeque<CleanupRecord>,
    pub(crate) total: u64,
}

impl History {
    pub(crate) fn push(&mut self, record: CleanupRecord) {
        if self.records.len() == REMEMBERED {
            self.records.pop_front();
        }
        self.records.push_back(record);
        self.total += 1;
    }

    pub(crate) fn to_vec(&self) -> Vec<CleanupRecord> {
        self.records.iter().cloned().collect()
    }
}

impl MemoryCell {
    fn cleanup_ended(&self, record: CleanupRecord) {
        lock(&self.history).push(record);
        // What was freed should count now, not at the next check.
        self.send(super::actor::MemoryMsg::Measure);
    }
}
