//! The last ends of a place.

use std::time::SystemTime;

use arrayvec::ArrayVec;

use super::Ended;

/// How many ends a place remembers.
const KEPT: usize = 8;

/// Each end in a slot of its own, the oldest overwritten: noting one touches no other, which among many children would
/// be fetched from memory that was not used for long.
#[derive(Default)]
pub(super) struct History {
    ends: ArrayVec<Ended, KEPT>,
    /// Where the next end goes once all slots are taken.
    oldest: usize,
    /// When the last run ended: a start that failed is an end, too, and none of a run.
    pub(super) left: Option<SystemTime>,
}

impl History {
    /// Notes an end, and returns the one that is forgotten for it.
    #[must_use]
    pub(super) fn push(&mut self, ended: Ended) -> Option<Ended> {
        if !self.ends.is_full() {
            self.ends.push(ended);
            return None;
        }
        let slot = &mut self.ends[self.oldest];
        self.oldest = (self.oldest + 1) % KEPT;
        Some(std::mem::replace(slot, ended))
    }

    pub(super) fn last(&self) -> Option<&Ended> {
        let (later, earlier) = self.ends.split_at(self.oldest);
        later.last().or(earlier.last())
    }

    /// Copies the ends, oldest first.
    pub(super) fn in_order(&self) -> Vec<Ended> {
        let (later, earlier) = self.ends.split_at(self.oldest);
        [earlier, later].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::ExitReason;

    #[test]
    fn the_last_ends_are_there_in_order_however_many_there_were() {
        let mut history = History::default();
        for incarnation in 1..=100 {
            drop(history.push(Ended {
                incarnation,
                reason: ExitReason::Normal,
                at: SystemTime::UNIX_EPOCH,
                uptime: Duration::ZERO,
                because: None,
            }));
            let known: Vec<_> = history.in_order().iter().map(|it| it.incarnation).collect();
            let oldest = incarnation.saturating_sub(8) + 1;
            assert_eq!(known, (oldest..=incarnation).collect::<Vec<_>>());
            assert_eq!(history.last().unwrap().incarnation, incarnation);
        }
    }
}
