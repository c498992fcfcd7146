//! An event as the log keeps it.

use crate::reason::Plain;
use crate::{ActorPath, Cause, Event, EventKind, ExitReason, ReportContext, WallTime};

/// An event in as little room as it needs: less than a line of a processor's cache, where each restart brings three that
/// go through memory from one end of the log to the other.
pub(super) struct Record {
    at: WallTime,
    /// Of a child in a report, whose supervisor's path is the beginning of its own.
    path: ActorPath,
    what: What,
}

enum What {
    Started {
        incarnation: u64,
    },
    Restarted {
        incarnation: u32,
        restarts: u64,
    },
    Exited {
        incarnation: u32,
        reason: Reason,
    },
    Report {
        context: ReportContext,
        /// How long the supervisor's path is.
        supervisor: u32,
        reason: Reason,
    },
    /// What is rare, or has more to say.
    Other(Box<EventKind>),
}

/// The reasons of nearly all ends.
enum Reason {
    Plain(Plain),
    Failed(Cause),
}

impl Reason {
    #[inline(always)]
    fn of(reason: ExitReason) -> Result<Self, ExitReason> {
        match (reason.plain(), reason) {
            (Some(plain), _) => Ok(Self::Plain(plain)),
            (None, ExitReason::Failed(cause)) => Ok(Self::Failed(cause)),
            (None, reason) => Err(reason),
        }
    }

    fn whole(&self) -> ExitReason {
        match self {
            Self::Plain(plain) => plain.reason().clone(),
            Self::Failed(cause) => ExitReason::Failed(cause.clone()),
        }
    }
}

impl Record {
    /// In place, so that whoever knows what kind of event it is does not look.
    #[inline(always)]
    pub(super) fn new(path: &ActorPath, kind: EventKind) -> Self {
        let (about, what) = match kind {
            EventKind::Started { incarnation } => (None, What::Started { incarnation }),
            EventKind::Restarted {
                incarnation,
                restarts,
            } => (None, restarted(incarnation, restarts)),
            EventKind::Exited {
                incarnation,
                reason,
            } => (None, exited(incarnation, reason)),
            EventKind::Report {
                context,
                child,
                reason,
            } => report(path, context, child, reason),
            other => (None, What::Other(Box::new(other))),
        };
        Self {
            at: WallTime::default(),
            path: about.unwrap_or_else(|| path.clone()),
            what,
        }
    }

    #[inline(always)]
    pub(super) fn set_at(&mut self, at: WallTime) {
        self.at = at;
    }

    /// See [`ActorPath::look`].
    pub(super) fn look(&self) {
        self.path.look();
    }

    /// Says whether it is about this place or one below it.
    pub(super) fn is_below(&self, base: &ActorPath) -> bool {
        match self.supervisor() {
            Some(supervisor) => supervisor.starts_with(base),
            None => self.path.starts_with(base),
        }
    }

    fn supervisor(&self) -> Option<ActorPath> {
        let What::Report { supervisor, .. } = self.what else {
            return None;
        };
        let length = usize::try_from(supervisor).ok()?;
        self.path.as_str().get(..length).map(ActorPath::root)
    }

    /// Returns the event, which has this number.
    pub(super) fn event(&self, seq: u64) -> Event {
        let supervisor = self.supervisor();
        let path = supervisor.unwrap_or_else(|| self.path.clone());
        let kind = match &self.what {
            What::Started { incarnation } => EventKind::Started {
                incarnation: *incarnation,
            },
            What::Restarted {
                incarnation,
                restarts,
            } => EventKind::Restarted {
                incarnation: (*incarnation).into(),
                restarts: *restarts,
            },
            What::Exited {
                incarnation,
                reason,
            } => EventKind::Exited {
                incarnation: (*incarnation).into(),
                reason: reason.whole(),
            },
            What::Report {
                context, reason, ..
            } => EventKind::Report {
                context: *context,
                child: self.path.clone(),
                reason: reason.whole(),
            },
            What::Other(kind) => EventKind::clone(kind),
        };
        Event {
            seq,
            at: self.at.into(),
            path,
            kind,
        }
    }
}

#[inline(always)]
fn restarted(incarnation: u64, restarts: u64) -> What {
    match u32::try_from(incarnation) {
        Ok(incarnation) => What::Restarted {
            incarnation,
            restarts,
        },
        Err(_) => What::Other(Box::new(EventKind::Restarted {
            incarnation,
            restarts,
        })),
    }
}

#[inline(always)]
fn exited(number: u64, reason: ExitReason) -> What {
    let reason = match u32::try_from(number) {
        Ok(incarnation) => match Reason::of(reason) {
            Ok(reason) => {
                return What::Exited {
                    incarnation,
                    reason,
                };
            }
            Err(reason) => reason,
        },
        Err(_) => reason,
    };
    What::Other(Box::new(EventKind::Exited {
        incarnation: number,
        reason,
    }))
}

/// Returns whose path says all, if it is not that of the event, and what is to be said.
#[inline(always)]
fn report(
    path: &ActorPath,
    context: ReportContext,
    child: ActorPath,
    reason: ExitReason,
) -> (Option<ActorPath>, What) {
    let path = path.as_str();
    let supervisor = u32::try_from(path.len()).ok();
    let supervisor = supervisor.filter(|_| child.as_str().starts_with(path));
    let reason = match supervisor {
        Some(supervisor) => match Reason::of(reason) {
            Ok(reason) => {
                let report = What::Report {
                    context,
                    supervisor,
                    reason,
                };
                return (Some(child), report);
            }
            Err(reason) => reason,
        },
        None => reason,
    };
    let whole = EventKind::Report {
        context,
        child,
        reason,
    };
    (None, What::Other(Box::new(whole)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn text(kind: &EventKind) -> String {
        format!("{kind:?} {kind}")
    }

    fn reasons() -> impl Iterator<Item = ExitReason> {
        let panicked = ExitReason::Panicked {
            message: Arc::from("x"),
            location: None,
        };
        [
            ExitReason::Normal,
            ExitReason::Shutdown,
            ExitReason::ShutdownWith(Cause::new("x")),
            ExitReason::Killed,
            ExitReason::failed("x"),
            panicked,
        ]
        .into_iter()
    }

    #[test]
    fn an_event_comes_out_as_it_went_in() {
        let root = ActorPath::root("t");
        let numbers = [1, u64::from(u32::MAX), u64::MAX];
        let places = [
            root.clone(),
            root.child("a"),
            root.child("a").child("a-child-of-a-long-name"),
            ActorPath::root("other"),
        ];
        let exits = numbers.into_iter().flat_map(|incarnation| {
            reasons().map(move |reason| EventKind::Exited {
                incarnation,
                reason,
            })
        });
        let starts = numbers.into_iter().flat_map(|number| {
            let restarted = EventKind::Restarted {
                incarnation: number,
                restarts: number,
            };
            let incarnation = number;
            [
                restarted,
                EventKind::Started { incarnation },
                EventKind::Ignored { incarnation },
            ]
        });
        let reports = places.iter().flat_map(|child| {
            reasons().map(|reason| EventKind::Report {
                context: ReportContext::ChildTerminated,
                child: child.clone(),
                reason,
            })
        });
        for kind in exits.chain(starts).chain(reports) {
            for path in &places {
                let mut record = Record::new(path, kind.clone());
                let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
                record.set_at(at.into());
                let event = record.event(7);
                assert_eq!((event.seq, event.at, &event.path), (7, at, path));
                assert_eq!(text(&event.kind), text(&kind));
                for base in &places {
                    assert_eq!(record.is_below(base), path.starts_with(base));
                }
            }
        }
    }

    #[test]
    fn a_record_is_smaller_than_a_line() {
        assert_eq!(size_of::<Record>(), 56);
    }
}
