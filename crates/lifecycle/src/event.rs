use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::mailbox::letterbox::SetAside;
use crate::{ActorPath, ExitReason, Incarnation, Node, Scope, shield};

/// Something that happened in a tree.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Counts up by one per event of the tree.
    pub seq: u64,
    /// Wall-clock time, some milliseconds late at most, and never before that of the event before.
    pub at: SystemTime,
    /// Whom it is about.
    pub path: ActorPath,
    /// What happened.
    pub kind: EventKind,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.kind)
    }
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A supervisor has taken over a child that is up: its start function is through.
    ///
    /// The end of one that ended before that, or in its `post_start`, may be told first.
    Started {
        /// The run that began.
        incarnation: u64,
    },
    /// A start failed.
    StartFailed {
        /// The run that did not begin.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
    },
    /// A start function declined to start anything.
    Ignored {
        /// The run that did not begin.
        incarnation: u64,
    },
    /// An actor ended.
    Exited {
        /// The run that ended.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
    },
    /// A supervisor brought a child back. As with a start, the end of a short life may be told first.
    Restarted {
        /// The run that began.
        incarnation: u64,
        /// How often this child was restarted so far.
        restarts: u64,
    },
    /// A restart is put off by a backoff.
    RestartDelayed {
        /// Which end or failed start in a row it is.
        attempt: u32,
        /// For how long.
        delay: Duration,
    },
    /// A child that ended too often is parked.
    Quarantined {
        /// Which time in a row.
        attempt: u32,
        /// Until a probe starts it again.
        delay: Duration,
    },
    /// A handler has run for longer than its watchdog allows.
    Stuck {
        /// The run.
        incarnation: u64,
        /// The type of message in hand.
        message: &'static str,
        /// For how long it has been in hand.
        age: Duration,
    },
    /// A message was in hand at too many crashes in a row, and is a dead letter; the next run goes on without it.
    SetAside {
        /// The run that was the last to end with it.
        incarnation: u64,
        /// Its type.
        message: &'static str,
        /// At how many crashes it was in hand.
        crashes: u32,
        /// The id of the dead letter, by which it can be replayed.
        dead_letter: u64,
    },
    /// An actor that does not yield to a kill was left behind.
    Detached {
        /// The run that was left behind.
        incarnation: u64,
        /// Why it was to end.
        reason: ExitReason,
    },
    /// An actor that was left behind has yielded at last.
    Reclaimed {
        /// The run that was left behind.
        incarnation: u64,
    },
    /// What OTP's supervisor would log.
    Report {
        /// When.
        context: ReportContext,
        /// Whom it is about.
        child: ActorPath,
        /// Why.
        reason: ExitReason,
    },
    /// What OTP's supervisor would log when it has stopped all dynamic children at once: those that ended
    /// with the same unexpected reason.
    ShutdownErrors {
        /// The template that they were started from.
        child: Arc<str>,
        /// Why they ended.
        reason: ExitReason,
        /// How many.
        count: usize,
    },
    /// Something that another part of the tree has to say: a breaker that moved, a refusal, a new setting.
    Noted {
        /// The part, such as `breaker`.
        source: &'static str,
        /// What it says.
        text: Arc<str>,
    },
}

/// The occasions on which OTP's supervisor writes a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportContext {
    /// A child ended by itself and is permanent, or its reason is not clean.
    ChildTerminated,
    /// A start failed while the supervisor started, or while it restarted a child.
    StartError,
    /// The supervisor gives up.
    Shutdown,
    /// A child that was asked to stop ended with an unexpected reason.
    ShutdownError,
}

impl fmt::Display for ReportContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChildTerminated => "child_terminated",
            Self::StartError => "start_error",
            Self::Shutdown => "shutdown",
            Self::ShutdownError => "shutdown_error",
        })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { incarnation } => write!(f, "started #{incarnation}"),
            Self::StartFailed {
                incarnation,
                reason,
            } => write!(f, "start #{incarnation} failed: {reason}"),
            Self::Ignored { incarnation } => write!(f, "start #{incarnation} ignored"),
            Self::Exited {
                incarnation,
                reason,
            } => write!(f, "exited #{incarnation}: {reason}"),
            Self::Restarted {
                incarnation,
                restarts,
            } => write!(f, "restarted as #{incarnation} (restart {restarts})"),
            Self::RestartDelayed { attempt, delay } => {
                write!(f, "restart in {delay:?} (attempt {attempt})")
            }
            Self::Quarantined { attempt, delay } => {
                write!(f, "quarantined for {delay:?} (time {attempt})")
            }
            Self::Stuck {
                incarnation,
                message,
                age,
            } => write!(
                f,
                "#{incarnation} is stuck: a {message} in hand for {age:?}"
            ),
            Self::SetAside {
                incarnation,
                message,
                crashes,
                dead_letter,
            } => write!(
                f,
                "#{incarnation} ended with {message}, in hand at {crashes} crashes: set aside as dead letter {dead_letter}"
            ),
            Self::Detached {
                incarnation,
                reason,
            } => write!(f, "left #{incarnation} behind: {reason}"),
            Self::Reclaimed { incarnation } => {
                write!(f, "#{incarnation}, left behind, has ended")
            }
            Self::Report {
                context,
                child,
                reason,
            } => write!(f, "{context} {}: {reason}", child.id()),
            Self::ShutdownErrors {
                child,
                reason,
                count,
            } => write!(
                f,
                "{} {child}: {reason} ({count} of them)",
                ReportContext::ShutdownError
            ),
            Self::Noted { source, text } => write!(f, "{source}: {text}"),
        }
    }
}

/// Tells of a message that a run has ended with once too often.
pub(crate) fn set_aside(scope: &Scope, node: &Node, run: &Incarnation, set_aside: SetAside) {
    let SetAside {
        message,
        crashes,
        dead_letter,
    } = set_aside;
    shield(|| {
        tracing::warn!(actor.name = %node.path(), message, crashes, dead_letter, "message set aside");
    });
    let set_aside = EventKind::SetAside {
        incarnation: run.number(),
        message,
        crashes,
        dead_letter,
    };
    scope.events().emit(node.path(), set_aside);
}
