use std::{sync::Arc, time::Duration};

use perennial_lifecycle::ChildSpec;
use serde::Serialize;

use super::{
    CleanupRecord, CleanupStrategy, MemoryConfig, MemoryReader, Pressure, SystemMemory,
    actor::MemoryActor,
    cell::{MemoryCell, Source, ratio},
    cleanup::Slot,
};
use crate::{duration, sync::lock};

/// The memory manager: how much pressure there is, and who can relieve it.
///
/// The handle is cheap to clone, and all clones share one cell. The actor of [`child_spec`](Self::child_spec) checks at
/// its start and then at every [`check_every`](MemoryConfig::check_every). What the cell holds (level, readings,
/// strategies, history) survives every restart of that actor. Before its first start, and after an orderly stop, the
/// level is low.
#[derive(Debug, Clone)]
pub struct MemoryManager {
    cell: Arc<MemoryCell>,
}

impl MemoryManager {
    /// Prepares a manager that reads this process.
    pub fn new(config: MemoryConfig) -> Self {
        Self {
            cell: Arc::new(MemoryCell::new(config, SystemMemory::new())),
        }
    }

    /// Tells the current level: one atomic load.
    pub fn level(&self) -> Pressure {
        self.cell.level()
    }

    /// Tells the level together with the reading behind it.
    pub fn stats(&self) -> MemoryStats {
        let facts = lock(&self.cell.facts);
        let reading = facts.reading.map(|(_, reading)| reading);
        MemoryStats {
            level: self.cell.level(),
            used: reading.map(|reading| reading.used),
            limit: reading.map(|reading| reading.limit),
            ratio: reading.map(ratio),
            since_reading: facts.reading.map(|(at, _)| at.elapsed()),
            checks: facts.checks,
            failed_checks: facts.failed_checks,
            last_error: facts.last_error.clone(),
            cleanups: lock(&self.cell.history).total,
        }
    }

    /// Asks for a clean-up of every strategy that is not running, and does not wait for it.
    ///
    /// Returns whether there is a manager to do it. A request that the manager has not come to when it ends is kept for
    /// its successor, as is one made while it is being restarted; requests that arrive together become one clean-up.
    pub fn request_cleanup(&self) -> bool {
        self.cell.request_cleanup()
    }

    /// Tells the last ten clean-ups, oldest first.
    pub fn history(&self) -> Vec<CleanupRecord> {
        lock(&self.cell.history).to_vec()
    }

    /// Registers a strategy; one of the same name is replaced. Returns whether one was.
    pub fn register(&self, name: impl Into<String>, strategy: impl CleanupStrategy) -> bool {
        let slot = Arc::new(Slot::new(name.into(), Box::new(strategy)));
        let mut slots = lock(&self.cell.strategies);
        let known = slots.iter_mut().find(|known| known.name == slot.name);
        let replaced = match known {
            Some(known) => Some(std::mem::replace(known, slot)),
            None => {
                slots.push(slot);
                None
            }
        };
        // Before what was replaced, which the host's code drops.
        drop(slots);
        replaced.is_some()
    }

    /// Removes a strategy. Returns whether it was there; a run of it that has begun goes on.
    pub fn unregister(&self, name: &str) -> bool {
        let mut slots = lock(&self.cell.strategies);
        let at = slots.iter().position(|slot| slot.name == name);
        let removed = at.map(|at| slots.remove(at));
        // As above.
        drop(slots);
        removed.is_some()
    }

    /// Tells the names of the registered strategies, in order of registration.
    pub fn strategies(&self) -> Vec<String> {
        let slots = lock(&self.cell.strategies);
        slots.iter().map(|slot| slot.name.clone()).collect()
    }

    /// Tells the settings in force.
    pub fn config(&self) -> MemoryConfig {
        lock(&self.cell.config).clone()
    }

    /// Replaces the settings, and measures by them at once. A new period holds from the next check on.
    pub fn set_config(&self, config: MemoryConfig) {
        *lock(&self.cell.config) = config;
        self.cell.send(super::actor::MemoryMsg::Measure);
    }

    /// Reads memory through `reader` from the next check on.
    pub fn set_reader(&self, reader: impl MemoryReader) {
        let before = std::mem::replace(&mut *lock(&self.cell.reader), Source::new(reader));
        // Not under the lock: the host's code drops it.
        drop(before);
    }

    /// Describes the manager's actor, `memory_manager`, to a supervisor.
    pub fn child_spec(&self) -> ChildSpec {
        let cell = Arc::clone(&self.cell);
        ChildSpec::worker("memory_manager", move || (MemoryActor, Arc::clone(&cell)))
    }

    #[cfg(test)]
    pub(crate) fn cell(&self) -> Arc<MemoryCell> {
        Arc::clone(&self.cell)
    }
}

impl Default for MemoryManager {
    fn default() -> Self {
        Self::new(MemoryConfig::default())
    }
}

/// What the memory manager knows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The level, by the configured thresholds.
    pub level: Pressure,
    /// Bytes in use at the last reading.
    pub used: Option<u64>,
    /// The limit that they count against.
    pub limit: Option<u64>,
    /// `used / limit`.
    pub ratio: Option<f64>,
    /// The age of the last reading, in seconds when serialized.
    #[serde(serialize_with = "duration::maybe_seconds::serialize")]
    pub since_reading: Option<Duration>,
    /// Readings that succeeded.
    pub checks: u64,
    /// Readings that failed.
    pub failed_checks: u64,
    /// Why the last reading failed, if it did.
    pub last_error: Option<String>,
    /// Clean-ups that ended.
    pub cleanups: u64,
}

#[cfg(test)]
mod tests;
