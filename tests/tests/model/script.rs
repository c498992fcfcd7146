//! What a test case is made of: supervisors, children, and what is done to them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use perennial_lifecycle::{ExitReason, Restart, Shutdown};
use perennial_supervisor::{AutoShutdown, Strategy};

/// The id of a child or supervisor, unique in the whole tree: `b` is a child of the root, `b2` one of `b`.
pub(crate) type Id = &'static str;

/// The top supervisor.
pub(crate) const ROOT: Id = "root";

/// All ids of children: those of the root, each with those below it. The last of a row is for children that
/// are added later.
pub(crate) const IDS: [(Id, [Id; 4]); 5] = [
    ("a", ["a1", "a2", "a3", "a4"]),
    ("b", ["b1", "b2", "b3", "b4"]),
    ("c", ["c1", "c2", "c3", "c4"]),
    ("d", ["d1", "d2", "d3", "d4"]),
    ("e", ["e1", "e2", "e3", "e4"]),
];

/// Returns the id of this text.
pub(crate) fn id(text: &str) -> Option<Id> {
    let mut all = IDS
        .iter()
        .flat_map(|(id, below)| [id].into_iter().chain(below));
    if text == ROOT {
        return Some(ROOT);
    }
    all.find(|id| **id == text).copied()
}

/// Returns the supervisor whose child `id` is.
pub(crate) fn parent(id: Id) -> Id {
    IDS.iter()
        .find(|(_, below)| below.contains(&id))
        .map_or(ROOT, |(parent, _)| parent)
}

/// Returns the place in the tree.
pub(crate) fn path(id: Id) -> String {
    match (id, parent(id)) {
        (ROOT, _) => ROOT.to_owned(),
        (id, ROOT) => format!("{ROOT}/{id}"),
        (id, parent) => format!("{ROOT}/{parent}/{id}"),
    }
}

/// An exit reason without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Normal,
    Shutdown,
    ShutdownWith,
    Killed,
    Failed,
    Panicked,
}

impl Class {
    pub(crate) fn is_clean(self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownWith)
    }

    pub(crate) fn of(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Normal => Self::Normal,
            ExitReason::Shutdown => Self::Shutdown,
            ExitReason::ShutdownWith(_) => Self::ShutdownWith,
            ExitReason::Killed => Self::Killed,
            ExitReason::Failed(_) => Self::Failed,
            ExitReason::Panicked { .. } => Self::Panicked,
        }
    }
}

/// How a child ends of its own accord, or is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Fail,
    Panic,
    /// Somebody kills it.
    Kill,
    /// It ends with the reason `normal`.
    Normal,
    /// It stops itself through ractor.
    StopItself,
    Shutdown,
    ShutdownWith,
}

impl Exit {
    /// The reason with which a worker ends.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Fail => Class::Failed,
            Self::Panic => Class::Panicked,
            Self::Kill => Class::Killed,
            Self::Normal | Self::StopItself => Class::Normal,
            Self::Shutdown => Class::Shutdown,
            Self::ShutdownWith => Class::ShutdownWith,
        }
    }

    /// The reason for which a supervisor is asked to stop, by somebody who is not its parent.
    pub(crate) fn asked(self) -> Class {
        match self {
            Self::Panic | Self::Kill => Class::Failed,
            other => other.class(),
        }
    }
}

/// What a start function comes to. A list of them is for the next calls; after it all succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Up,
    Ignore,
    Fail,
    Panic,
    /// The actor ends during its `pre_start`.
    InitFail,
    InitNormal,
    InitPanic,
}

/// What the next starts of each child come to.
#[derive(Default)]
pub(crate) struct Outcomes(BTreeMap<Id, VecDeque<Outcome>>);

impl Outcomes {
    pub(crate) fn next(&mut self, id: Id) -> Outcome {
        let planned = self.0.get_mut(id).and_then(VecDeque::pop_front);
        planned.unwrap_or(Outcome::Up)
    }

    /// Replaces what was planned for this child, unless there is nothing new.
    pub(crate) fn plan(&mut self, id: Id, starts: &[Outcome]) {
        if !starts.is_empty() {
            self.0.insert(id, starts.iter().copied().collect());
        }
    }

    /// Takes over what the plans of these children and of those below them say.
    pub(crate) fn plan_all(&mut self, children: &[ChildPlan]) {
        for child in children {
            self.plan(child.id, &child.starts);
            if let Body::Supervisor(plan) = &child.body {
                self.plan_all(&plan.children);
            }
        }
    }

    /// Takes over what an operation says of coming starts.
    pub(crate) fn plan_op(&mut self, op: &Op) {
        match op {
            Op::Exit(id, _, starts) | Op::Call(_, Call::Restart(id, starts)) => {
                self.plan(id, starts);
            }
            Op::Call(_, Call::Start(plan)) => self.plan_all(std::slice::from_ref(plan)),
            _ => {}
        }
    }
}

/// What a worker does when it is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStop {
    Obey,
    /// Takes a while, but less than [`PATIENCE`].
    Linger,
    /// Takes longer than [`PATIENCE`].
    Stall,
    /// Ends at once, with the reason `normal`.
    Normal,
    Fail,
}

pub(crate) const PATIENCE: Duration = Duration::from_millis(100);
pub(crate) const LINGERS: Duration = Duration::from_millis(30);
pub(crate) const STALLS: Duration = Duration::from_millis(250);

/// How much time a step takes, and the unit of restart periods: far more than all that happens in a step.
pub(crate) const TICK: Duration = Duration::from_secs(1000);
/// How much of it each supervisor has for its queue when several things happen at once.
pub(crate) const PHASE: Duration = Duration::from_secs(100);

#[derive(Clone)]
pub(crate) struct ChildPlan {
    pub(crate) id: Id,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) shutdown: Shutdown,
    /// What the next starts come to, from when the plan is used.
    pub(crate) starts: Vec<Outcome>,
    pub(crate) body: Body,
}

#[derive(Clone)]
pub(crate) enum Body {
    Worker(OnStop),
    Supervisor(SupervisorPlan),
}

#[derive(Clone)]
pub(crate) struct SupervisorPlan {
    pub(crate) kind: Kind,
    pub(crate) max_restarts: u32,
    /// In ticks.
    pub(crate) period: u32,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) children: Vec<ChildPlan>,
}

/// Which children a supervisor has. A dynamic one takes from its template all but id and behaviour.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Static(Strategy),
    Dynamic {
        restart: Restart,
        significant: bool,
        shutdown: Shutdown,
    },
}

/// The id of each template.
pub(crate) const TEMPLATE: &str = "template";

impl SupervisorPlan {
    /// The child that `call` asks a supervisor for: its own plan, or what the template makes of it.
    pub(crate) fn child(&self, call: &ChildPlan) -> ChildPlan {
        match self.kind {
            Kind::Static(_) => call.clone(),
            Kind::Dynamic {
                restart,
                significant,
                shutdown,
            } => ChildPlan {
                restart,
                significant,
                shutdown,
                ..call.clone()
            },
        }
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        matches!(self.kind, Kind::Dynamic { .. })
    }
}

/// One thing that is done to the tree.
#[derive(Clone)]
pub(crate) enum Op {
    /// A child ends; its next starts come to these outcomes.
    Exit(Id, Exit, Vec<Outcome>),
    /// A call to a supervisor.
    Call(Id, Call),
    /// Whoever started the top supervisor stops it.
    Stop(Exit),
}

#[derive(Clone)]
pub(crate) enum Call {
    Start(ChildPlan),
    Terminate(Id),
    /// Of a dynamic supervisor: the run that the last successful `Start` for this id returned.
    TerminateRun(Id),
    Restart(Id, Vec<Outcome>),
    Delete(Id),
    Which,
    Count,
    Spec(Id),
}

#[derive(Clone)]
pub(crate) enum Step {
    /// All of it reaches the supervisors before they do anything.
    Do(Vec<Op>),
    /// So many ticks go by.
    Wait(u32),
}

/// A test case.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) root: SupervisorPlan,
    pub(crate) steps: Vec<Step>,
}
