//! The last ends of a place.

use std::time::SystemTime;

use super::Ended;

/// How many ends a place remembers.
const KEPT: u8 = 8;

/// How many more there are before they are let go: few enough that an allocator keeps them at hand.
const MORE: u8 = 4;

/// The ends of a place, the last one first, each pointing to the one before it.
///
/// To note one touches none of the others, which among many children would be fetched from memory that was not used for
/// long; those that are no longer remembered are let go a few at a time.
#[derive(Default)]
pub(super) struct History(Option<Box<Kept>>);

/// An end that is remembered, and what it points to.
pub(super) struct Kept {
    ended: Ended,
    /// When the last run ended: a start that failed is an end, too, and none of a run.
    left: Option<SystemTime>,
    earlier: Option<Box<Kept>>,
}

impl History {
    /// Notes the end of a run.
    ///
    /// `count` is how many there are, kept beside this so that the last one need not be looked at for it. Returns what is
    /// forgotten.
    #[must_use]
    pub(super) fn push(&mut self, ended: Ended, count: &mut u8) -> Option<Box<Kept>> {
        let left = Some(ended.at);
        self.add(ended, left, count)
    }

    /// Notes the end of a start that failed; otherwise as [`push`](Self::push).
    #[must_use]
    pub(super) fn push_failed_start(&mut self, ended: Ended, count: &mut u8) -> Option<Box<Kept>> {
        let left = self.left();
        self.add(ended, left, count)
    }

    fn add(&mut self, ended: Ended, left: Option<SystemTime>, count: &mut u8) -> Option<Box<Kept>> {
        let earlier = self.0.take();
        self.0 = Some(Box::new(Kept {
            ended,
            left,
            earlier,
        }));
        *count += 1;
        if *count < KEPT + MORE {
            return None;
        }
        *count = KEPT;
        let mut oldest = self.0.as_mut()?;
        for _ in 1..KEPT {
            oldest = oldest.earlier.as_mut()?;
        }
        oldest.earlier.take()
    }

    pub(super) fn last(&self) -> Option<&Ended> {
        self.0.as_ref().map(|it| &it.ended)
    }

    /// Returns when the last run ended.
    pub(super) fn left(&self) -> Option<SystemTime> {
        self.0.as_ref()?.left
    }

    /// Copies the ends, oldest first.
    pub(super) fn in_order(&self) -> Vec<Ended> {
        let all = std::iter::successors(self.0.as_deref(), |it| it.earlier.as_deref());
        let last = all.take(usize::from(KEPT));
        let mut ends: Vec<_> = last.map(|it| it.ended.clone()).collect();
        ends.reverse();
        ends
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::ExitReason;

    fn ended(incarnation: u64) -> Ended {
        Ended {
            incarnation,
            reason: ExitReason::Normal,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(incarnation),
            uptime: Duration::ZERO,
            because: None,
        }
    }

    #[test]
    fn the_last_ends_are_there_in_order_however_many_there_were() {
        let mut history = History::default();
        let mut count = 0;
        for incarnation in 1..=100 {
            drop(history.push(ended(incarnation), &mut count));
            let known: Vec<_> = history.in_order().iter().map(|it| it.incarnation).collect();
            let oldest = incarnation.saturating_sub(8) + 1;
            assert_eq!(known, (oldest..=incarnation).collect::<Vec<_>>());
            assert_eq!(history.last().unwrap().incarnation, incarnation);
            let held = std::iter::successors(history.0.as_deref(), |it| it.earlier.as_deref());
            assert!(held.count() < usize::from(KEPT + MORE));
        }
    }

    #[test]
    fn failed_starts_leave_the_time_of_the_last_run_alone() {
        let mut history = History::default();
        let mut count = 0;
        assert_eq!(history.left(), None);
        drop(history.push_failed_start(ended(1), &mut count));
        assert_eq!(history.left(), None);
        drop(history.push(ended(2), &mut count));
        for incarnation in 3..=50 {
            drop(history.push_failed_start(ended(incarnation), &mut count));
        }
        assert_eq!(history.left(), Some(ended(2).at));
    }
}
