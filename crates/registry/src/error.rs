use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use perennial_lifecycle::{ActorName, ActorPath, ExitReason, GroupMismatch};
use tokio::time::Instant;

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No actor was ever started under this name.
    #[error("no actor is named `{name}`")]
    Unknown {
        /// The name.
        name: ActorName,
    },
    /// The actor is down now; its supervisor may bring it back.
    #[error("`{name}` is not running{}", attempt(*next_attempt))]
    NotRunning {
        /// The name.
        name: ActorName,
        /// When its last run ended; `None` when none ever began, and while one is ending.
        since: Option<SystemTime>,
        /// When it will be started again, where a backoff puts that off; `None` when its start is under way, or
        /// nobody will start it.
        next_attempt: Option<Instant>,
    },
    /// The actor has ended, and its supervisor has no reason to start it again: it has given the place up, or has
    /// ended for good itself.
    ///
    /// A later actor of the same name is found again.
    #[error("`{name}` has stopped for good")]
    Stopped {
        /// The name.
        name: ActorName,
    },
    /// The group has no member at this moment.
    #[error("the group `{name}` has no member")]
    NoMember {
        /// The group.
        name: ActorName,
    },
    /// The name is one of another tree.
    #[error("`{name}` is a name of {namespace}, not of {tree}")]
    OtherTree {
        /// The name.
        name: ActorName,
        /// The namespace in the name.
        namespace: Arc<str>,
        /// The tree that was asked.
        tree: Arc<str>,
    },
    /// The actor ended too often and is parked; a probe will start it again.
    #[error("`{name}` is unavailable, in quarantine for another {:?}", until.saturating_duration_since(Instant::now()))]
    Unavailable {
        /// The name.
        name: ActorName,
        /// When it will be started again.
        until: Instant,
    },
    /// The name's gate refused.
    #[error("`{name}` is rate limited, {}", admission(*retry_after))]
    RateLimited {
        /// The name.
        name: ActorName,
        /// When a message would be admitted; `None` when none ever is, as with a quota of zero.
        retry_after: Option<Duration>,
    },
    /// The mailbox is full.
    #[error("the mailbox of `{name}` is full: it holds {capacity}")]
    Full {
        /// The name.
        name: ActorName,
        /// How many messages it holds.
        capacity: u64,
    },
    /// The tree is shutting down: it takes messages from its own handlers only, and soon from nobody.
    #[error("`{name}` takes no more messages: its tree is shutting down")]
    ShuttingDown {
        /// The name.
        name: ActorName,
    },
    /// The call was made in a handler, for a message whose own deadline has passed.
    #[error("`{name}` was not called: the deadline of the message in hand has passed")]
    Expired {
        /// The name.
        name: ActorName,
    },
    /// The actor waits for the caller, directly or not: neither would ever go on.
    #[error("a call to `{name}` would never be answered: {}", cycle(path))]
    WouldDeadlock {
        /// The name.
        name: ActorName,
        /// The caller, the callee, whom the callee waits for, and so on back to the caller.
        path: Vec<ActorPath>,
    },
    /// The actor takes another type of message: the name was made at run time.
    #[error("`{name}` takes {takes}, not {given}")]
    WrongType {
        /// The name.
        name: ActorName,
        /// What the actor takes.
        takes: &'static str,
        /// What it was given.
        given: &'static str,
    },
}

impl Refusal {
    /// Says whether the same message may be delivered later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. }
                | Self::NoMember { .. }
                | Self::Full { .. }
                | Self::Unavailable { .. }
                | Self::RateLimited {
                    retry_after: Some(_),
                    ..
                }
        )
    }

    /// Says whether a message may wait for it to pass.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::NoMember { .. })
    }

    /// Says when to come back, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            Self::Unavailable { until, .. }
            | Self::NotRunning {
                next_attempt: Some(until),
                ..
            } => Some(until.saturating_duration_since(Instant::now())),
            _ => None,
        }
    }
}

fn attempt(next: Option<Instant>) -> String {
    let left = next.map(|next| next.saturating_duration_since(Instant::now()));
    left.map_or_else(String::new, |left| format!(", next attempt in {left:?}"))
}

fn admission(after: Option<Duration>) -> String {
    after.map_or_else(
        || "and its quota admits nothing".to_owned(),
        |after| format!("retry after {after:?}"),
    )
}

fn cycle(path: &[ActorPath]) -> String {
    let path: Vec<_> = path.iter().map(ActorPath::as_str).collect();
    path.join(" -> ")
}

/// A message that was not delivered; it comes back.
pub struct CastError<M> {
    /// The message.
    pub message: M,
    /// Why.
    pub refusal: Refusal,
}

impl<M> fmt::Display for CastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.refusal, f)
    }
}

impl<M> fmt::Debug for CastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CastError")
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<M> std::error::Error for CastError<M> {}

/// A call that brought no answer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CallError<M> {
    /// The message was not delivered, and comes back; its reply port leads nowhere any more.
    #[error("{}", .0.refusal)]
    Refused(CastError<M>),
    /// No answer came in time. The actor may still handle the message.
    #[error("`{name}` did not answer within {timeout:?}")]
    TimedOut {
        /// The name.
        name: ActorName,
        /// The time given.
        timeout: Duration,
    },
    /// The actor ended while it held the message.
    #[error("`{name}` ended before it answered: {reason}")]
    CalleeFailed {
        /// The name.
        name: ActorName,
        /// Why it ended.
        reason: ExitReason,
    },
    /// The mailbox dropped the call, for a later message for which there was no room, or with the same key.
    #[error("the mailbox of `{name}` dropped the call for a later message")]
    Dropped {
        /// The name.
        name: ActorName,
    },
    /// The actor handled the message without answering.
    #[error("`{name}` dropped the call without an answer")]
    NoReply {
        /// The name.
        name: ActorName,
    },
}

impl<M> CallError<M> {
    /// Returns why the message was not delivered, where it was not.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(error) => Some(&error.refusal),
            _ => None,
        }
    }

    /// Says whether asking again may help, without saying that it is safe to do the work twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(error) => error.refusal.is_retryable(),
            Self::TimedOut { .. } | Self::CalleeFailed { .. } | Self::Dropped { .. } => true,
            Self::NoReply { .. } => false,
        }
    }
}

impl<M> From<CastError<M>> for CallError<M> {
    fn from(error: CastError<M>) -> Self {
        Self::Refused(error)
    }
}

impl<M> fmt::Debug for CallError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.debug_tuple("Refused").field(&error.refusal).finish(),
            other => write!(f, "CallError({other})"),
        }
    }
}

/// A place that cannot be a member of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The place, or the members, take another type of message.
    #[error(transparent)]
    Mismatch(#[from] GroupMismatch),
    /// The place is one of another tree.
    #[error("{place} cannot join the group `{group}`, which is one of another tree")]
    OtherTree {
        /// The group.
        group: ActorName,
        /// The place.
        place: ActorPath,
    },
}

/// A name that does not lead to an actor of the type asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ResolveError(#[from] pub Refusal);
