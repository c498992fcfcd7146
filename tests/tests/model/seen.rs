//! What can be seen of a tree: the words in which the model and the real one are compared.

use std::time::Duration;

use perennial_lifecycle::{ChildKind, ChildState, ReportContext, Restart, Shutdown};
use perennial_supervisor::{ChildCount, ChildStatus};

use crate::script::{Class, Id};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A worker's `pre_start` is through.
    Up(Id),
    /// A worker's `post_stop` was called.
    PostStop(Id),
    /// A worker has let go of its state; the time since the start of the test.
    Gone(Id, Duration),
    Exited(Id, Class),
    /// A supervisor tells of a start: the run.
    Started(Id, u64),
    /// A supervisor tells of a restart: the run, and how many restarts there were.
    Restarted(Id, u64, u64),
    StartFailed(Id, Class),
    Ignored(Id),
    /// A supervisor's report about a child.
    Report(Id, ReportContext, Id, Class),
    /// A dynamic supervisor's report about so many children that it has stopped.
    ShutdownErrors(Id, Class, usize),
    /// These happened in any order.
    Together(Vec<Self>),
    /// A run began before the one before it was over, or something that has no name here happened.
    Odd(String),
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    /// The child that should end does not run.
    Nobody,
    /// The supervisor does not run, or ended before it answered.
    Down,
    /// A child was started: the run. `None` when its start function declined.
    Started(Option<u64>),
    Refused(Refusal),
    /// Newest first.
    Children(Vec<Listed>),
    Count(ChildCount),
    Spec(Option<(Restart, bool, Shutdown, ChildKind)>),
    /// Something that has no name here, such as no answer at all.
    Odd(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refusal {
    BadSpec,
    AlreadyStarted(u64),
    AlreadyPresent,
    StartFailed(Class),
    Ignored,
    NotFound,
    Running,
    Restarting,
    Dynamic,
}

pub(crate) type Listed = (Id, ChildKind, ChildStatus);

/// The state of a tree at rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Picture {
    /// The answers of the supervisors that run, innermost first.
    pub(crate) supervisors: Vec<(Id, Answer, Answer)>,
    /// What is known of each place in the tree: those below one supervisor in start order.
    pub(crate) places: Vec<(Id, Place)>,
}

/// A place in the tree, over all runs of the actor that lives there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) runs: u64,
    pub(crate) restarts: u64,
    pub(crate) occupied: bool,
    /// What the supervisor says of it; not told in the middle of a step.
    pub(crate) state: Option<ChildState>,
}

/// Says whether what was seen is what was expected.
pub(crate) fn agree(expected: &[Entry], seen: &[Entry]) -> bool {
    let mut rest = seen;
    expected.iter().all(|entry| match entry {
        Entry::Together(entries) => {
            let Some((now, later)) = rest.split_at_checked(entries.len()) else {
                return false;
            };
            rest = later;
            sorted(entries) == sorted(now)
        }
        entry => {
            let Some((now, later)) = rest.split_first() else {
                return false;
            };
            rest = later;
            entry == now
        }
    }) && rest.is_empty()
}

fn sorted(entries: &[Entry]) -> Vec<String> {
    let mut texts: Vec<_> = entries.iter().map(|it| format!("{it:?}")).collect();
    texts.sort_unstable();
    texts
}
