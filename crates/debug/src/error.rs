use std::time::Duration;

use perennial_breaker::BreakerState;
use perennial_lifecycle::{ActorPath, ChildState, ExitReason, ReplayError};
use perennial_pool::PoolConfigError;
use perennial_supervisor::{RestartChildError, ResumeChildError, TerminateChildError};

/// A snapshot that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No supervisor was ever started in this scope.
    #[error("the tree `{root}` was never started")]
    NotStarted {
        /// The root's path.
        root: ActorPath,
    },
}

/// An operator command that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Nothing lives at this path.
    #[error("no actor at `{path}`{}", did_you_mean(nearest.as_deref()))]
    NotFound {
        /// The path as given.
        path: String,
        /// The path that was probably meant.
        nearest: Option<String>,
    },
    /// There is nothing to kill.
    #[error("`{path}` is not running, it is {state}")]
    NotRunning {
        /// The path.
        path: ActorPath,
        /// What its supervisor last knew.
        state: ChildState,
    },
    /// The root has no supervisor that could stop it or start it again; it can only be killed.
    #[error("cannot {command} `{path}`: it is the root of the tree and has no supervisor")]
    Root {
        /// The root's path.
        path: ActorPath,
        /// The command.
        command: &'static str,
    },
    /// The parent is not a supervisor.
    #[error("cannot {command} `{path}`: its parent is no supervisor")]
    Unsupervised {
        /// The path.
        path: ActorPath,
        /// The command.
        command: &'static str,
    },
    /// A supervisor, or the debug actor itself: paused, it could not be told to go on.
    #[error("cannot pause `{path}`: it takes its orders as messages")]
    CannotPause {
        /// The path.
        path: ActorPath,
    },
    /// The debug actor itself, or a supervisor above it: stopped, nothing could be told to start it again.
    #[error("cannot stop `{path}`: the debug actor takes the command that would start it again")]
    CannotStop {
        /// The path.
        path: ActorPath,
    },
    /// No debug message of this name was declared for the actor.
    #[error("no debug message `{message}` is declared for `{path}`{}", did_you_mean(nearest.as_deref()))]
    NotDeclared {
        /// The path.
        path: ActorPath,
        /// The name as given.
        message: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The function that was declared for the debug message panicked, and made none.
    #[error("cannot send `{message}` to `{path}`: the function that makes it {reason}")]
    NotMade {
        /// The path.
        path: ActorPath,
        /// The name of the debug message.
        message: String,
        /// The panic.
        reason: ExitReason,
    },
    /// The tree is shutting down: it takes no more messages, and no actor of it is paused.
    #[error("`{path}` takes no more messages: its tree is shutting down")]
    ShuttingDown {
        /// The path.
        path: ActorPath,
    },
    /// The tree has ended, and nobody starts it again.
    #[error("cannot {command} `{path}`: its tree has ended")]
    Ended {
        /// The path as given.
        path: String,
        /// The command.
        command: &'static str,
    },
    /// The actor takes another type than the debug message that was declared for it.
    #[error("`{path}` takes {takes}, and the debug message is none")]
    OtherType {
        /// The path.
        path: ActorPath,
        /// What it takes.
        takes: &'static str,
    },
    /// The dead letter was not replayed.
    #[error("cannot replay dead letter {id}")]
    Replay {
        /// The id as given.
        id: u64,
        /// Why.
        source: ReplayError,
    },
    /// What lives at this path is not what the command is for.
    #[error("cannot {command} `{path}`: it is no {kind}{}", did_you_mean(nearest.as_ref().map(ActorPath::as_str)))]
    NotOne {
        /// The path.
        path: ActorPath,
        /// The command.
        command: &'static str,
        /// What it is for: `breaker` or `pool`.
        kind: &'static str,
        /// The path that was probably meant.
        nearest: Option<ActorPath>,
    },
    /// An operator has ordered the breaker to admit all calls.
    #[error("cannot trip `{path}`: it is {state} until it is reset")]
    NotTripped {
        /// The path.
        path: ActorPath,
        /// The state that it is in.
        state: BreakerState,
    },
    /// The pool lends nothing as it is: it was closed, or is not running.
    #[error("cannot {command} `{path}`: the pool is closed")]
    PoolClosed {
        /// The path.
        path: ActorPath,
        /// The command.
        command: &'static str,
    },
    /// The pool cannot be given these settings.
    #[error(transparent)]
    PoolConfig(#[from] PoolConfigError),
    /// The supervisor of the actor refused.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The outcome was not known in time.
    ///
    /// A command that the debug actor had taken is still carried out; one that it had not is withdrawn.
    #[error("{command} `{path}`: no outcome within {after:?}{}", whereabouts(*taken))]
    TimedOut {
        /// The path as given.
        path: String,
        /// The command.
        command: &'static str,
        /// Whether the debug actor had taken it.
        taken: bool,
        /// The deadline.
        after: Duration,
    },
    /// The command was cut off by the end of the runtime; how far it came is not known.
    #[error("{command} `{path}`: cut off before its outcome was known")]
    CutOff {
        /// The path as given.
        path: String,
        /// The command.
        command: &'static str,
    },
}

impl CommandError {
    /// Says whether the same command may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Root { .. }
            | Self::Unsupervised { .. }
            | Self::CannotPause { .. }
            | Self::CannotStop { .. }
            | Self::NotDeclared { .. }
            | Self::NotMade { .. }
            | Self::ShuttingDown { .. }
            | Self::Ended { .. }
            | Self::NotOne { .. }
            | Self::NotTripped { .. }
            | Self::PoolClosed { .. }
            | Self::PoolConfig(_)
            | Self::OtherType { .. } => false,
            Self::Replay { source, .. } => {
                matches!(source, ReplayError::NotRunning | ReplayError::Full)
            }
            Self::NotRunning { state, .. } => *state != ChildState::Stopped,
            Self::Supervisor(_) | Self::TimedOut { .. } | Self::CutOff { .. } => true,
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |it| format!("; did you mean `{it}`?"))
}

fn whereabouts(taken: bool) -> &'static str {
    match taken {
        true => ", it is still carried out",
        false => ": the debug actor has not taken it, and does not run or is busy",
    }
}

/// What a supervisor answered instead of doing as told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// To a restart.
    #[error(transparent)]
    Restart(#[from] RestartChildError),
    /// To a stop.
    #[error(transparent)]
    Terminate(#[from] TerminateChildError),
    /// To a resumption.
    #[error(transparent)]
    Resume(#[from] ResumeChildError),
}
