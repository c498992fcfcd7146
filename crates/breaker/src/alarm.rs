//! Alarms of circuits that do not close: raised at once, cleared only after a while.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{BreakerState, Breakers};

/// Which breakers were seen not to let calls through, and have not been seen to do so often enough since.
///
/// Whoever looks once a minute, say, raises no alarm of an outage between two looks, and does not clear and raise one
/// alarm again and again of a circuit that opens and closes all the time.
///
/// # Examples
///
/// ```
/// use perennial_breaker::{AlarmChange, Alarms, BreakerState};
///
/// let mut alarms = Alarms::new(2.try_into()?);
/// let changes = alarms.look([("mail".into(), BreakerState::Open)]);
/// assert_eq!(changes, [AlarmChange::Raised("mail".into())]);
///
/// assert!(alarms.look([("mail".into(), BreakerState::Closed)]).is_empty());
/// let changes = alarms.look([("mail".into(), BreakerState::Closed)]);
/// assert_eq!(changes, [AlarmChange::Cleared("mail".into())]);
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Alarms {
    clear_after: NonZeroU32,
    /// The looks that are still needed to clear each alarm.
    looks_left: BTreeMap<Arc<str>, u32>,
}

/// What a look at the breakers changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlarmChange {
    /// This breaker did not let calls through.
    Raised(Arc<str>),
    /// This breaker let calls through at enough looks in a row, or is no more.
    Cleared(Arc<str>),
}

impl Alarms {
    /// Starts without any alarm; one is cleared by so many looks in a row that see calls flow.
    #[must_use]
    pub fn new(clear_after: NonZeroU32) -> Self {
        Self {
            clear_after,
            looks_left: BTreeMap::new(),
        }
    }

    /// Looks at the breakers. What is not among them keeps the alarm that it has.
    pub fn look(
        &mut self,
        states: impl IntoIterator<Item = (Arc<str>, BreakerState)>,
    ) -> Vec<AlarmChange> {
        let mut changes = Vec::new();
        for (name, state) in states {
            if !state.admits_all() {
                let clear_after = self.clear_after.get();
                if self
                    .looks_left
                    .insert(Arc::clone(&name), clear_after)
                    .is_none()
                {
                    changes.push(AlarmChange::Raised(name));
                }
            } else if let Some(left) = self.looks_left.get_mut(&name) {
                *left -= 1;
                if *left == 0 {
                    self.looks_left.remove(&name);
                    changes.push(AlarmChange::Cleared(name));
                }
            }
        }
        changes
    }

    /// Looks at the breakers of a set; one that was removed from it leaves no alarm behind.
    pub fn look_at(&mut self, breakers: &Breakers) -> Vec<AlarmChange> {
        let states: BTreeMap<Arc<str>, BreakerState> = breakers
            .iter()
            .map(|breaker| (Arc::clone(breaker.cell().name()), breaker.state()))
            .collect();
        let is_gone = |name: &&Arc<str>| !states.contains_key(*name);
        let gone: Vec<_> = self.looks_left.keys().filter(is_gone).cloned().collect();
        let mut changes = self.look(states);
        for name in gone {
            self.looks_left.remove(&name);
            changes.push(AlarmChange::Cleared(name));
        }
        changes
    }

    /// Drops the alarm of a breaker that is no more; answers whether it had one.
    pub fn forget(&mut self, name: &str) -> bool {
        self.looks_left.remove(name).is_some()
    }

    /// Goes through the breakers with an alarm, by name.
    pub fn raised(&self) -> impl Iterator<Item = &str> {
        self.looks_left.keys().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests;
