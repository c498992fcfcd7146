//! What operators can have done, on its way to the debug actor and back.

use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::BreakerState;
use perennial_lifecycle::Trace;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::CommandError;

/// What an operator can have done.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Kill,
    Restart,
    Stop,
    Resume,
    Pause,
    ResumeMessages,
    /// The debug message that was declared with this label.
    Send(Arc<str>),
    /// The dead letter with this id.
    Replay(u64),
    Trace {
        messages: u32,
        within: Duration,
    },
    Breaker(BreakerOrder),
    Pool(PoolOrder),
}

impl Command {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Resume => "resume",
            Self::Pause => "pause",
            Self::ResumeMessages => "resume messages of",
            Self::Send(_) => "send",
            Self::Replay(_) => "replay",
            Self::Trace { .. } => "trace",
            Self::Breaker(order) => order.name(),
            Self::Pool(order) => order.name(),
        }
    }

    /// Says it in full, with whom it is for.
    pub(crate) fn describe(&self, path: &str) -> String {
        let name = self.name();
        match self {
            Self::Send(label) => format!("{name} {label} to {path}"),
            Self::Replay(id) => format!("{name} {id} to {path}"),
            Self::Trace { messages, within } => {
                format!("{name} {messages} within {within:?} of {path}")
            }
            Self::Pool(PoolOrder::Resize { size, max_overflow }) => {
                format!("{name} {path} to {size} + {max_overflow}")
            }
            _ => format!("{name} {path}"),
        }
    }
}

/// What a breaker can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BreakerOrder {
    Trip,
    Isolate,
    Reset,
}

impl BreakerOrder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Isolate => "isolate",
            Self::Reset => "reset",
        }
    }
}

/// What a pool can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolOrder {
    Resize { size: usize, max_overflow: usize },
    Drain,
    ResumeLending,
}

impl PoolOrder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resize { .. } => "resize",
            Self::Drain => "drain",
            Self::ResumeLending => "resume lending of",
        }
    }
}

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Done {
    /// What it says.
    AsTold,
    /// It began the run of this number, if the start function started any.
    Started(Option<u64>),
    Traces(Trace),
    /// The breaker is in this state then.
    Breaker(BreakerState),
}

pub(crate) type Outcome = Result<Done, CommandError>;

pub(crate) struct DebugMsg {
    pub(crate) command: Command,
    pub(crate) path: String,
    /// Answered when the command is taken. Dropped unanswered, it was not and never will be.
    pub(crate) taken: oneshot::Sender<JoinHandle<Outcome>>,
}
