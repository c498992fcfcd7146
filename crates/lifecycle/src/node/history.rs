//! The last ends of a place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Ended;
use crate::reason::Plain;

/// How many ends a place remembers.
const KEPT: u8 = 8;

/// How many more there are before they are let go: few enough that an allocator keeps them at hand.
const MORE: u8 = 4;

/// The ends of a place, the last one first, each pointing to the one before it.
///
/// To note one touches none of the others, which among many children would be fetched from memory that was not used for
/// long; those that are no longer remembered are let go a few at a time.
#[derive(Default)]
pub(super) enum History {
    #[default]
    Empty,
    /// The only one so far: of most actors their supervisor stops them. A supervisor that stops very many would leave
    /// behind a small block of memory for each, between all the blocks that it frees.
    Plain(Brief),
    Kept(Box<Kept>),
}

/// The end of a run that needs no other words.
#[derive(Clone, Copy)]
pub(super) struct Brief {
    reason: Plain,
    incarnation: u32,
    /// Nanoseconds, since 1970.
    at: u64,
    /// Nanoseconds.
    uptime: u64,
}

/// An end that is remembered, and what it points to.
pub(super) struct Kept {
    ended: Ended,
    /// When the last run ended: a start that failed is an end, too, and none of a run.
    left: Option<SystemTime>,
    earlier: Option<Box<Kept>>,
}

impl Brief {
    /// Abridges an end, if nothing of it is lost.
    fn of(ended: &Ended) -> Option<Self> {
        if ended.because.is_some() {
            return None;
        }
        let at = ended.at.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            reason: ended.reason.plain()?,
            incarnation: ended.incarnation.try_into().ok()?,
            at: at.as_nanos().try_into().ok()?,
            uptime: ended.uptime.as_nanos().try_into().ok()?,
        })
    }

    fn at(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.at)
    }

    fn ended(self) -> Ended {
        Ended {
            incarnation: self.incarnation.into(),
            reason: self.reason.reason().clone(),
            at: self.at(),
            uptime: Duration::from_nanos(self.uptime),
            because: None,
        }
    }
}

impl History {
    /// Notes the end of a run.
    ///
    /// `count` is how many there are, kept beside this so that the last one need not be looked at for it. Returns what is
    /// forgotten.
    #[must_use]
    pub(super) fn push(&mut self, ended: Ended, count: &mut u8) -> Option<Box<Kept>> {
        if matches!(self, Self::Empty)
            && let Some(brief) = Brief::of(&ended)
        {
            *self = Self::Plain(brief);
            *count = 1;
            return None;
        }
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
        let earlier = match std::mem::take(self) {
            Self::Empty => None,
            Self::Plain(brief) => Some(Box::new(Kept {
                ended: brief.ended(),
                left: Some(brief.at()),
                earlier: None,
            })),
            Self::Kept(earlier) => Some(earlier),
        };
        let mut last = Box::new(Kept {
            ended,
            left,
            earlier,
        });
        *count += 1;
        let forgotten = (*count == KEPT + MORE).then(|| {
            *count = KEPT;
            last.forget()
        });
        *self = Self::Kept(last);
        forgotten.flatten()
    }

    fn kept(&self) -> Option<&Kept> {
        match self {
            Self::Kept(last) => Some(last),
            Self::Empty | Self::Plain(_) => None,
        }
    }

    pub(super) fn last(&self) -> Option<Ended> {
        match self {
            Self::Empty => None,
            Self::Plain(brief) => Some(brief.ended()),
            Self::Kept(last) => Some(last.ended.clone()),
        }
    }

    /// Returns when the last run ended.
    pub(super) fn left(&self) -> Option<SystemTime> {
        match self {
            Self::Empty => None,
            Self::Plain(brief) => Some(brief.at()),
            Self::Kept(last) => last.left,
        }
    }

    /// Copies the ends, oldest first.
    pub(super) fn in_order(&self) -> Vec<Ended> {
        if let Self::Plain(brief) = self {
            return vec![brief.ended()];
        }
        let all = std::iter::successors(self.kept(), |it| it.earlier.as_deref());
        let last = all.take(usize::from(KEPT));
        let mut ends: Vec<_> = last.map(|it| it.ended.clone()).collect();
        ends.reverse();
        ends
    }
}

impl Kept {
    /// Gives up those that are not among the last.
    fn forget(&mut self) -> Option<Box<Self>> {
        let mut oldest = self;
        for _ in 1..KEPT {
            oldest = oldest.earlier.as_mut()?;
        }
        oldest.earlier.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ActorPath, Escalation, ExitReason};

    fn ended(incarnation: u64) -> Ended {
        ended_with(incarnation, ExitReason::Normal)
    }

    fn ended_with(incarnation: u64, reason: ExitReason) -> Ended {
        Ended {
            incarnation,
            reason,
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
            let held = std::iter::successors(history.kept(), |it| it.earlier.as_deref());
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

    #[test]
    fn a_plain_end_stays_as_it_was_whatever_comes_after_it() {
        for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Killed] {
            let plain = Ended {
                at: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
                uptime: Duration::new(3, 987_654_321),
                ..ended_with(7, reason)
            };
            let is_plain = |end: &Ended| {
                (end.incarnation, end.at, end.uptime) == (7, plain.at, plain.uptime)
                    && end.reason.class() == plain.reason.class()
            };
            let mut history = History::default();
            let mut count = 0;
            drop(history.push(plain.clone(), &mut count));
            assert!(matches!(history, History::Plain(_)));
            assert!(history.in_order().iter().all(is_plain) && history.in_order().len() == 1);
            assert!(is_plain(&history.last().unwrap()));
            assert_eq!((count, history.left()), (1, Some(plain.at)));

            drop(history.push_failed_start(ended_with(8, ExitReason::failed("x")), &mut count));
            assert_eq!((count, history.left()), (2, Some(plain.at)));
            assert!(is_plain(&history.in_order()[0]));
            assert_eq!(history.last().unwrap().incarnation, 8);
        }
    }

    #[test]
    fn an_end_that_has_more_to_say_is_kept_whole() {
        let because = Arc::new(Escalation {
            child: ActorPath::root("t").child("a"),
            ended: ended(3),
        });
        let whole = [
            ended_with(1, ExitReason::failed("x")),
            Ended {
                incarnation: u64::MAX,
                ..ended(1)
            },
            Ended {
                at: SystemTime::UNIX_EPOCH - Duration::from_secs(1),
                ..ended(1)
            },
            Ended {
                uptime: Duration::MAX,
                ..ended(1)
            },
            Ended {
                because: Some(because),
                ..ended(1)
            },
        ];
        for end in whole {
            let mut history = History::default();
            drop(history.push(end.clone(), &mut 0));
            let last = history.last().unwrap();
            assert_eq!(last.chain(), end.chain());
            assert_eq!((last.at, last.uptime), (end.at, end.uptime));
            assert_eq!(last.incarnation, end.incarnation);
        }
    }
}
