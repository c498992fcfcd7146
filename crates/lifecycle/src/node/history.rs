//! The last ends of a place.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Ended, Escalation};
use crate::reason::Plain;
use crate::{Cause, ExitReason, WallTime};

/// How many ends a place remembers.
const KEPT: usize = 8;

/// How many it has room for next: most places see few ends, and the first of them may come to very many at once.
const STEPS: [usize; 3] = [1, 4, KEPT];

/// The ends of a place.
///
/// To note one touches none of the others but the one whose room it takes: among many children they would be fetched from
/// memory that was not used for long.
#[derive(Default)]
pub(super) enum History {
    #[default]
    Empty,
    /// The only one so far: of most actors their supervisor stops them. A supervisor that stops very many would leave
    /// behind a small block of memory for each, between all the blocks that it frees.
    // Not a struct of the three: beside one there is no room for the variant, and each place would take a word more.
    Plain {
        reason: Plain,
        incarnation: u32,
        times: Times,
    },
    Many {
        /// Where the next one goes.
        next: u8,
        slots: Box<[Option<Kept>]>,
    },
}

/// An end that is remembered, in as little room as it needs.
pub(super) enum Kept {
    Plain {
        reason: Plain,
        incarnation: u32,
        times: Times,
    },
    Failed {
        cause: Cause,
        incarnation: u32,
        times: Times,
    },
    /// Of one that has more to say.
    Whole(Box<Whole>),
}

/// When a run ended, and how long it had run.
#[derive(Clone, Copy)]
pub(super) struct Times {
    at: WallTime,
    /// Nanoseconds.
    uptime: u64,
}

pub(super) struct Whole {
    ended: Ended,
    /// When the last run ended: a start that failed is an end, too, and none of a run.
    left: Option<SystemTime>,
}

impl Times {
    fn at(self) -> SystemTime {
        self.at.into()
    }

    fn ended(self, incarnation: u32, reason: ExitReason) -> Ended {
        Ended {
            incarnation: incarnation.into(),
            reason,
            at: self.at(),
            uptime: Duration::from_nanos(self.uptime),
            because: None,
        }
    }
}

impl Kept {
    /// Abridges the end of a run, if nothing of it is lost.
    #[inline]
    fn brief(incarnation: u64, reason: &ExitReason, times: Times) -> Option<Self> {
        let incarnation = u32::try_from(incarnation).ok()?;
        match (reason.plain(), reason) {
            (Some(reason), _) => Some(Self::Plain {
                reason,
                incarnation,
                times,
            }),
            (None, ExitReason::Failed(cause)) => Some(Self::Failed {
                cause: cause.clone(),
                incarnation,
                times,
            }),
            (None, _) => None,
        }
    }

    #[cold]
    fn whole(ended: Ended) -> Self {
        let left = Some(ended.at);
        Self::Whole(Box::new(Whole { ended, left }))
    }

    fn ended(&self) -> Ended {
        match self {
            Self::Plain {
                reason,
                incarnation,
                times,
            } => times.ended(*incarnation, reason.reason().clone()),
            Self::Failed {
                cause,
                incarnation,
                times,
            } => times.ended(*incarnation, ExitReason::Failed(cause.clone())),
            Self::Whole(whole) => whole.ended.clone(),
        }
    }

    fn left(&self) -> Option<SystemTime> {
        match self {
            Self::Plain { times, .. } | Self::Failed { times, .. } => Some(times.at()),
            Self::Whole(whole) => whole.left,
        }
    }
}

impl History {
    /// Notes the end of a run that has lasted so many nanoseconds, and returns what is forgotten for it.
    #[must_use]
    pub(super) fn push(
        &mut self,
        incarnation: u64,
        reason: &ExitReason,
        uptime: u64,
        at: WallTime,
        because: Option<Arc<Escalation>>,
    ) -> Option<Kept> {
        let brief = match because {
            None => Kept::brief(incarnation, reason, Times { at, uptime }),
            Some(_) => None,
        };
        let end = brief.unwrap_or_else(|| {
            Kept::whole(Ended {
                incarnation,
                reason: reason.clone(),
                at: at.into(),
                uptime: Duration::from_nanos(uptime),
                because,
            })
        });
        match (end, &self) {
            (
                Kept::Plain {
                    reason,
                    incarnation,
                    times,
                },
                Self::Empty,
            ) => {
                *self = Self::Plain {
                    reason,
                    incarnation,
                    times,
                };
                None
            }
            (end, _) => self.add(end),
        }
    }

    /// Notes the end of a start that failed; otherwise as [`push`](Self::push).
    #[must_use]
    pub(super) fn push_failed_start(&mut self, ended: Ended) -> Option<Kept> {
        let left = self.left();
        self.add(Kept::Whole(Box::new(Whole { ended, left })))
    }

    fn add(&mut self, end: Kept) -> Option<Kept> {
        if !self.has_room() {
            self.make_room();
        }
        // Now there is some.
        let Self::Many { next, slots } = self else {
            return None;
        };
        let slot = slots.get_mut(usize::from(*next))?;
        *next += 1;
        if usize::from(*next) == KEPT {
            *next = 0;
        }
        slot.replace(end)
    }

    /// Says whether the next one has a slot, be it that of another.
    fn has_room(&self) -> bool {
        match self {
            Self::Many { next, slots } => usize::from(*next) < slots.len(),
            Self::Empty | Self::Plain { .. } => false,
        }
    }

    #[cold]
    fn make_room(&mut self) {
        let known = match std::mem::take(self) {
            Self::Empty => Vec::new(),
            Self::Plain {
                reason,
                incarnation,
                times,
            } => vec![Some(Kept::Plain {
                reason,
                incarnation,
                times,
            })],
            Self::Many { slots, .. } => slots.into_vec(),
        };
        let room = STEPS.into_iter().find(|it| *it > known.len());
        let room = room.unwrap_or(KEPT);
        let mut slots = Vec::with_capacity(room);
        let next = u8::try_from(known.len()).unwrap_or_default();
        slots.extend(known);
        slots.resize_with(room, || None);
        *self = Self::Many {
            next,
            slots: slots.into_boxed_slice(),
        };
    }

    /// Returns those that are in slots, oldest first.
    fn kept(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        let (newer, older) = match self {
            Self::Many { next, slots } => slots.split_at(usize::from(*next)),
            Self::Empty | Self::Plain { .. } => (&[][..], &[][..]),
        };
        older.iter().chain(newer).flatten()
    }

    pub(super) fn last(&self) -> Option<Ended> {
        match self {
            Self::Plain {
                reason,
                incarnation,
                times,
            } => Some(times.ended(*incarnation, reason.reason().clone())),
            _ => self.kept().next_back().map(Kept::ended),
        }
    }

    /// Returns when the last run ended.
    pub(super) fn left(&self) -> Option<SystemTime> {
        match self {
            Self::Plain { times, .. } => Some(times.at()),
            _ => self.kept().next_back().and_then(Kept::left),
        }
    }

    /// Copies the ends, oldest first.
    pub(super) fn in_order(&self) -> Vec<Ended> {
        match self {
            Self::Plain { .. } => self.last().into_iter().collect(),
            _ => self.kept().map(Kept::ended).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActorPath;

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

    fn push(history: &mut History, end: Ended) -> Option<Kept> {
        let uptime = u64::try_from(end.uptime.as_nanos()).unwrap();
        history.push(
            end.incarnation,
            &end.reason,
            uptime,
            end.at.into(),
            end.because,
        )
    }

    #[test]
    fn the_last_ends_are_there_in_order_however_many_there_were() {
        let end = |incarnation: u64, kinds: u64| {
            let reason = match incarnation % kinds {
                0 => ExitReason::Normal,
                1 => ExitReason::failed(format!("failed {incarnation}")),
                _ => ExitReason::ShutdownWith(Cause::new(format!("down {incarnation}"))),
            };
            ended_with(incarnation, reason)
        };
        let text = |end: &Ended| (end.incarnation, end.reason.to_string(), end.at);
        for kinds in 1..=3 {
            let mut history = History::default();
            for incarnation in 1..=100 {
                let forgotten = push(&mut history, end(incarnation, kinds));
                let forgotten = forgotten.map(|it| it.ended().incarnation);
                assert_eq!(forgotten, incarnation.checked_sub(8).filter(|it| *it > 0));
                let oldest = incarnation.saturating_sub(8) + 1;
                let known: Vec<_> = history.in_order().iter().map(text).collect();
                let all = (oldest..=incarnation).map(|it| text(&end(it, kinds)));
                assert_eq!(known, all.collect::<Vec<_>>());
                assert_eq!(history.last().as_ref().map(text), known.last().cloned());
                assert_eq!(history.left(), Some(end(incarnation, kinds).at));
            }
        }
    }

    #[test]
    fn failed_starts_leave_the_time_of_the_last_run_alone() {
        let mut history = History::default();
        assert_eq!(history.left(), None);
        drop(history.push_failed_start(ended(1)));
        assert_eq!(history.left(), None);
        drop(push(&mut history, ended(2)));
        for incarnation in 3..=50 {
            drop(history.push_failed_start(ended(incarnation)));
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
            drop(push(&mut history, plain.clone()));
            assert!(matches!(history, History::Plain { .. }));
            assert!(history.in_order().iter().all(is_plain) && history.in_order().len() == 1);
            assert!(is_plain(&history.last().unwrap()));
            assert_eq!(history.left(), Some(plain.at));

            drop(history.push_failed_start(ended_with(8, ExitReason::failed("x"))));
            assert_eq!(
                (history.in_order().len(), history.left()),
                (2, Some(plain.at))
            );
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
                because: Some(because),
                ..ended(1)
            },
        ];
        for end in whole {
            let mut history = History::default();
            drop(push(&mut history, end.clone()));
            let last = history.last().unwrap();
            assert_eq!(last.chain(), end.chain());
            assert_eq!((last.at, last.uptime), (end.at, end.uptime));
            assert_eq!(last.incarnation, end.incarnation);
        }
    }
}
