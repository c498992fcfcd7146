use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use perennial_lifecycle::{ActorPath, ChildSpecError, ExitReason, Incarnation, Node};

/// Settings of a supervisor that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorSpecError {
    /// A child spec is bad by itself.
    #[error(transparent)]
    Child(#[from] ChildSpecError),
    /// Two children have the same id.
    #[error("child `{id}`: id is used twice")]
    DuplicateChild {
        /// The id.
        id: String,
    },
    /// A significant child needs a supervisor that shuts down by itself.
    #[error("child `{id}`: significant needs a supervisor with auto shutdown")]
    SignificantWithoutAutoShutdown {
        /// The child.
        id: String,
    },
    /// A restart window without length would never count a restart.
    #[error("restart intensity: period must not be zero")]
    ZeroPeriod,
}

/// The supervisor ended before it answered, or was not running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor {path} is down")]
pub struct SupervisorDown {
    /// Which supervisor.
    pub path: ActorPath,
}

/// A handler that would wait for the end of its own actor, or of a supervisor above it, which waits for the handler.
///
/// The request was not made. Make it from a task of its own, or stop the actor from within, by
/// [`ActorCell::stop`](ractor::ActorCell::stop) or by the handler's result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{caller} would wait in its handler for its own end, with that of {target}; ask from a task of its own"
)]
#[non_exhaustive]
pub struct OwnEnd {
    /// Whose handler asked.
    pub caller: ActorPath,
    /// What was to be stopped: the caller, or one above it.
    pub target: ActorPath,
}

impl OwnEnd {
    /// Refuses a stop of `target`, in the tree of this run, that a handler of it or of one below it would wait for.
    pub(crate) fn refuse(target: &ActorPath, tree: &Incarnation) -> Result<(), Self> {
        let Some(run) = Incarnation::current() else {
            return Ok(());
        };
        // Another tree may have the same paths.
        let is_here = Arc::ptr_eq(run.traffic(), tree.traffic());
        let caller = run.node().path();
        // Nobody waits for one that was left behind.
        if !is_here || !caller.starts_with(target) || run.is_detached() {
            return Ok(());
        }
        Err(Self {
            caller: caller.clone(),
            target: target.clone(),
        })
    }
}

/// Why a supervisor could not start: the child that failed.
///
/// Where that is a supervisor that could not start either, the text leads down to the child that is to blame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedToStartChild {
    /// The child.
    pub id: String,
    /// Why.
    pub reason: ExitReason,
}

impl FailedToStartChild {
    /// The child's own child that failed, where the child is a supervisor that could not start for it.
    fn below(&self) -> Option<&Self> {
        self.reason.cause()?.get().downcast_ref()
    }
}

impl fmt::Display for FailedToStartChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "child `{}", self.id)?;
        let mut last = self;
        while let Some(below) = last.below() {
            write!(f, "/{}", below.id)?;
            last = below;
        }
        write!(f, "` failed to start: {}", last.reason)
    }
}

impl Error for FailedToStartChild {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The reason's own text is in the message; what led to it follows.
        self.reason.cause()?.source()
    }
}

/// A child that could not be added.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartChildError {
    /// The spec is bad.
    #[error(transparent)]
    Spec(#[from] SupervisorSpecError),
    /// A child with this id runs.
    #[error("child `{id}` is already started, as #{incarnation}")]
    AlreadyStarted {
        /// The id.
        id: String,
        /// Where it lives.
        node: Arc<Node>,
        /// Its present run.
        incarnation: u64,
    },
    /// A child with this id is known, and does not run.
    #[error("child `{id}` is already present, and stopped")]
    AlreadyPresent {
        /// The id.
        id: String,
    },
    /// The start failed; nothing is kept.
    #[error(transparent)]
    Failed(#[from] FailedToStartChild),
    /// The start function of a dynamic child declined to start anything; nothing is kept.
    #[error("child `{id}`: its start function declined")]
    Ignored {
        /// The id.
        id: String,
    },
    /// A dynamic supervisor has as many children as it may have.
    #[error("{path} has {limit} children already, and may not have more")]
    MaxChildren {
        /// Which supervisor.
        path: ActorPath,
        /// Its limit.
        limit: NonZeroU32,
    },
    /// No template of this supervisor takes arguments of this type.
    #[error("the supervisor has no template for arguments of this type")]
    Arguments,
    /// The children of a dynamic supervisor have no specs of their own.
    #[error("{path} is a dynamic supervisor: its children have no specs of their own")]
    Dynamic {
        /// Which supervisor.
        path: ActorPath,
    },
    /// The supervisor is gone.
    #[error(transparent)]
    Down(#[from] SupervisorDown),
}

/// A child that could not be terminated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TerminateChildError {
    /// No child has this id.
    #[error("no child `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
    /// No child of a dynamic supervisor has this id.
    #[error("{path} is a dynamic supervisor, and has no child of this id")]
    Dynamic {
        /// Which supervisor.
        path: ActorPath,
    },
    /// A handler asked for its own end.
    #[error(transparent)]
    OwnEnd(#[from] OwnEnd),
    /// The supervisor is gone.
    #[error(transparent)]
    Down(#[from] SupervisorDown),
}

/// A stopped child that could not be started again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartChildError {
    /// No child has this id.
    #[error("no child `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
    /// It runs.
    #[error("child `{id}` is running")]
    Running {
        /// The id.
        id: String,
    },
    /// The supervisor is about to restart it.
    #[error("child `{id}` is restarting")]
    Restarting {
        /// The id.
        id: String,
    },
    /// The start failed; the child stays stopped.
    #[error(transparent)]
    Failed(#[from] FailedToStartChild),
    /// A handler asked for its own end.
    #[error(transparent)]
    OwnEnd(#[from] OwnEnd),
    /// The children of a dynamic supervisor have no specs of their own.
    #[error("{path} is a dynamic supervisor: its children have no specs of their own")]
    Dynamic {
        /// Which supervisor.
        path: ActorPath,
    },
    /// The supervisor is gone.
    #[error(transparent)]
    Down(#[from] SupervisorDown),
}

/// A child whose restart is put off and that could not be started at once.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeChildError {
    /// No child has this id.
    #[error("no child `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
    /// Its restart is not put off.
    #[error("child `{id}` does not wait for a restart")]
    NotWaiting {
        /// The id.
        id: String,
    },
    /// The start failed; what comes next is up to its backoff or quarantine.
    #[error(transparent)]
    Failed(#[from] FailedToStartChild),
    /// The supervisor is gone.
    #[error(transparent)]
    Down(#[from] SupervisorDown),
}

/// A child spec that could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteChildError {
    /// No child has this id.
    #[error("no child `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
    /// It runs.
    #[error("child `{id}` is running")]
    Running {
        /// The id.
        id: String,
    },
    /// The supervisor is about to restart it.
    #[error("child `{id}` is restarting")]
    Restarting {
        /// The id.
        id: String,
    },
    /// The children of a dynamic supervisor have no specs of their own.
    #[error("{path} is a dynamic supervisor: its children have no specs of their own")]
    Dynamic {
        /// Which supervisor.
        path: ActorPath,
    },
    /// The supervisor is gone.
    #[error(transparent)]
    Down(#[from] SupervisorDown),
}

/// The start of a root where the scope has one: it runs, or is being started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` has a root already")]
#[non_exhaustive]
pub struct RootTaken {
    /// Where.
    pub path: ActorPath,
}
