//! Makes up scripts.
//!
//! Children and steps are made independently of each other, and picks of ids are resolved only when both are
//! known; so each part shrinks by itself.

use perennial_lifecycle::{Restart, Shutdown};
use perennial_supervisor::{AutoShutdown, Strategy as Restarts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::script::{
    Body, Call, ChildPlan, Exit, IDS, Id, Kind, OnStop, Op, Outcome, PATIENCE, PHASE, ROOT, Script,
    Step, SupervisorPlan,
};

/// How many steps a script has at most. Most trees have ended by themselves before.
const STEPS: usize = 15;

/// A script for a tree of one static supervisor.
pub(crate) fn flat() -> impl Strategy<Value = Script> {
    script(supervisor(raw_worker(), 1..=4, false))
}

/// A script for a dynamic supervisor.
pub(crate) fn dynamic() -> impl Strategy<Value = Script> {
    script(supervisor(raw_worker(), 0..=3, true))
}

/// A script for a static supervisor, some of whose children are supervisors of either sort.
pub(crate) fn nested() -> impl Strategy<Value = Script> {
    let inner = prop_oneof![
        2 => supervisor(raw_worker(), 0..=3, false),
        1 => supervisor(raw_worker(), 0..=3, true),
    ];
    let child = (raw_worker(), prop::option::of(inner)).prop_map(|(child, inner)| RawChild {
        inner: inner.map(Box::new),
        ..child
    });
    script(supervisor(child, 1..=3, false))
}

/// A child that has no id yet, and whose settings need not fit its supervisor.
#[derive(Clone, Debug)]
struct RawChild {
    restart: Restart,
    significant: bool,
    shutdown: Shutdown,
    on_stop: OnStop,
    /// What its start comes to when the supervisor starts.
    at_boot: Vec<Outcome>,
    inner: Option<Box<RawSupervisor>>,
}

#[derive(Clone, Debug)]
struct RawSupervisor {
    strategy: Restarts,
    max_restarts: u32,
    period: u32,
    auto_shutdown: AutoShutdown,
    /// Of a dynamic one: what all children have in common.
    template: Option<RawChild>,
    children: Vec<RawChild>,
}

/// An operation whose ids are still to be picked.
#[derive(Clone, Debug)]
struct RawOp {
    what: What,
    at: Index,
    supervisor: Index,
    exit: Exit,
    starts: Vec<Outcome>,
    child: RawChild,
    /// Whether `child` may be a supervisor, when its place allows it.
    nests: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Exit,
    Start,
    Terminate,
    TerminateRun,
    Restart,
    Delete,
    Which,
    Count,
    Spec,
    Stop,
}

#[derive(Clone, Debug)]
enum RawStep {
    Do(Vec<RawOp>),
    Wait(u32),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Fail),
        1 => Just(Outcome::Up),
        1 => Just(Outcome::Ignore),
        1 => Just(Outcome::Panic),
        1 => Just(Outcome::InitFail),
        1 => Just(Outcome::InitNormal),
        1 => Just(Outcome::InitPanic),
    ]
}

/// What the next starts come to: mostly nothing special.
fn outcomes(special: f64) -> impl Strategy<Value = Vec<Outcome>> {
    prop::option::weighted(special, vec(outcome(), 1..=3)).prop_map(Option::unwrap_or_default)
}

fn raw_worker() -> impl Strategy<Value = RawChild> {
    let restart = prop_oneof![
        Just(Restart::Permanent),
        Just(Restart::Transient),
        Just(Restart::Temporary),
    ];
    let shutdown = prop_oneof![
        2 => Just(Shutdown::Within(PATIENCE)),
        1 => Just(Shutdown::Infinity),
        1 => Just(Shutdown::BrutalKill),
    ];
    let on_stop = prop_oneof![
        3 => Just(OnStop::Obey),
        1 => Just(OnStop::Linger),
        1 => Just(OnStop::Stall),
        1 => Just(OnStop::Normal),
        1 => Just(OnStop::Fail),
    ];
    (
        restart,
        prop::bool::weighted(0.6),
        shutdown,
        on_stop,
        outcomes(0.04),
    )
        .prop_map(
            |(restart, significant, shutdown, on_stop, at_boot)| RawChild {
                restart,
                significant,
                shutdown,
                on_stop,
                at_boot,
                inner: None,
            },
        )
}

fn supervisor(
    child: impl Strategy<Value = RawChild>,
    children: std::ops::RangeInclusive<usize>,
    dynamic: bool,
) -> impl Strategy<Value = RawSupervisor> {
    let strategy = prop_oneof![
        Just(Restarts::OneForOne),
        Just(Restarts::OneForAll),
        Just(Restarts::RestForOne),
    ];
    let auto_shutdown = prop_oneof![
        2 => Just(AutoShutdown::Never),
        1 => Just(AutoShutdown::AnySignificant),
        1 => Just(AutoShutdown::AllSignificant),
    ];
    let max_restarts = prop_oneof![1 => Just(0_u32), 3 => 1_u32..=2, 4 => 3_u32..=6];
    let template = raw_worker().prop_map(move |it| dynamic.then_some(it));
    let settings = (strategy, max_restarts, 1_u32..=4, auto_shutdown, template);
    // Now and then all children are significant: the last of them is what matters then.
    let crowd = prop::bool::weighted(0.3);
    (settings, vec(child, children), crowd).prop_map(
        |((strategy, max_restarts, period, auto_shutdown, template), children, crowd)| {
            let mut made = RawSupervisor {
                strategy,
                max_restarts,
                period,
                auto_shutdown,
                template,
                children,
            };
            if crowd {
                made.auto_shutdown = AutoShutdown::AllSignificant;
                for child in made.template.iter_mut().chain(&mut made.children) {
                    child.restart = Restart::Transient;
                    child.significant = true;
                }
            }
            made
        },
    )
}

fn raw_op() -> impl Strategy<Value = RawOp> {
    let what = prop_oneof![
        60 => Just(What::Exit),
        18 => Just(What::Start),
        12 => Just(What::Terminate),
        5 => Just(What::TerminateRun),
        12 => Just(What::Restart),
        8 => Just(What::Delete),
        4 => Just(What::Which),
        4 => Just(What::Count),
        2 => Just(What::Spec),
        1 => Just(What::Stop),
    ];
    let exit = prop_oneof![
        4 => Just(Exit::Fail),
        2 => Just(Exit::Normal),
        1 => Just(Exit::Kill),
        1 => Just(Exit::Panic),
        1 => Just(Exit::StopItself),
        1 => Just(Exit::Shutdown),
        1 => Just(Exit::ShutdownWith),
    ];
    let picks = (any::<Index>(), any::<Index>());
    let nests = prop::bool::weighted(0.15);
    (what, picks, exit, outcomes(0.45), raw_worker(), nests).prop_map(
        |(what, (at, supervisor), exit, starts, child, nests)| RawOp {
            what,
            at,
            supervisor,
            exit,
            starts,
            child,
            nests,
        },
    )
}

fn script(root: impl Strategy<Value = RawSupervisor>) -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        6 => vec(raw_op(), 1..=4).prop_map(RawStep::Do),
        1 => (1_u32..=3).prop_map(RawStep::Wait),
    ];
    (root, vec(step, 1..=STEPS)).prop_map(|(root, steps)| {
        let plan = root.plan(ROOT);
        let mut first = root.first_dynamic(ROOT);
        for (child, (id, _)) in root.children.iter().zip(IDS) {
            if let (None, Some(inner)) = (&root.template, &child.inner) {
                first.extend(inner.first_dynamic(id));
            }
        }
        let first = first.into_iter().map(|op| Step::Do(vec![op]));
        let steps = steps.iter().map(|step| match step {
            RawStep::Wait(ticks) => Step::Wait(*ticks),
            RawStep::Do(ops) => Step::Do(ops.iter().map(|op| op.resolve(&plan)).collect()),
        });
        Script {
            steps: first.chain(steps).collect(),
            root: plan,
        }
    })
}

/// The ids of a supervisor's children; the last is for one that is added later.
fn ids_below(supervisor: Id) -> Vec<Id> {
    match IDS.iter().find(|(id, _)| *id == supervisor) {
        Some((_, below)) => below.to_vec(),
        None => IDS.iter().map(|(id, _)| *id).collect(),
    }
}

impl RawSupervisor {
    fn plan(&self, id: Id) -> SupervisorPlan {
        let auto = self.auto_shutdown;
        let children = ids_below(id);
        let children = children.iter().zip(&self.children);
        SupervisorPlan {
            kind: match &self.template {
                None => Kind::Static(self.strategy),
                Some(template) => Kind::Dynamic {
                    restart: template.restart,
                    significant: template.is_significant(auto),
                    shutdown: template.shutdown,
                },
            },
            max_restarts: self.max_restarts,
            period: self.period,
            auto_shutdown: auto,
            children: match &self.template {
                None => children.map(|(id, child)| child.plan(id, auto)).collect(),
                Some(_) => Vec::new(),
            },
        }
    }

    /// The first children of a dynamic supervisor.
    fn first_dynamic(&self, supervisor: Id) -> Vec<Op> {
        if self.template.is_none() {
            return Vec::new();
        }
        let (ids, plan) = (ids_below(supervisor), self.plan(supervisor));
        let calls = ids.iter().zip(&self.children).map(|(id, child)| {
            let child = child.plan(id, AutoShutdown::Never);
            Op::Call(supervisor, Call::Start(plan.child(&child)))
        });
        calls.collect()
    }
}

impl RawChild {
    fn is_significant(&self, auto_shutdown: AutoShutdown) -> bool {
        let may = auto_shutdown != AutoShutdown::Never && self.restart != Restart::Permanent;
        self.significant && may
    }

    fn plan(&self, id: Id, auto_shutdown: AutoShutdown) -> ChildPlan {
        ChildPlan {
            id,
            restart: self.restart,
            significant: self.is_significant(auto_shutdown),
            shutdown: match (&self.inner, self.shutdown) {
                (None, shutdown) => shutdown,
                // A supervisor that is killed leaves its children to end beside what follows.
                (Some(_), Shutdown::Infinity) => Shutdown::Infinity,
                (Some(_), _) => Shutdown::Within(PHASE),
            },
            starts: self.at_boot.clone(),
            body: match &self.inner {
                None => Body::Worker(self.on_stop),
                Some(inner) => Body::Supervisor(inner.plan(id)),
            },
        }
    }
}

impl RawOp {
    fn resolve(&self, root: &SupervisorPlan) -> Op {
        let mut supervisors = vec![(ROOT, root)];
        supervisors.extend(root.children.iter().filter_map(|child| match &child.body {
            Body::Supervisor(plan) => Some((child.id, plan)),
            Body::Worker(_) => None,
        }));
        let (supervisor, plan) = supervisors[self.supervisor.index(supervisors.len())];
        let ids = known(supervisor, plan);
        let id = ids[self.at.index(ids.len())];
        let starts = self.starts.clone();
        let call = match self.what {
            What::Exit => {
                // Mostly those that are there from the start.
                let all = supervisors.iter().flat_map(|(id, plan)| {
                    let ids = known(id, plan);
                    let added = usize::from(!self.nests && ids.len() > 1);
                    ids.into_iter().rev().skip(added).rev().collect::<Vec<_>>()
                });
                let all: Vec<Id> = all.collect();
                let id = all[self.at.index(all.len())];
                return Op::Exit(id, self.exit, starts);
            }
            What::Stop => return Op::Stop(self.exit),
            What::Start => {
                let mut child = self.child.plan(id, plan.auto_shutdown);
                // A bad spec now and then.
                child.significant |= self.child.significant && self.nests && plan.max_restarts == 3;
                child.starts = starts;
                if self.nests && supervisor == ROOT && !plan.is_dynamic() {
                    child = self.nest(child);
                }
                Call::Start(plan.child(&child))
            }
            What::Terminate => Call::Terminate(id),
            What::TerminateRun if plan.is_dynamic() => Call::TerminateRun(id),
            What::TerminateRun => Call::Terminate(id),
            What::Restart => Call::Restart(id, starts),
            What::Delete => Call::Delete(id),
            What::Which => Call::Which,
            What::Count => Call::Count,
            What::Spec => Call::Spec(id),
        };
        Op::Call(supervisor, call)
    }

    /// Makes a supervisor of a child that is added later, with one child of its own.
    fn nest(&self, child: ChildPlan) -> ChildPlan {
        let inner = RawSupervisor {
            strategy: Restarts::OneForOne,
            max_restarts: 1,
            period: 1,
            auto_shutdown: AutoShutdown::Never,
            template: None,
            children: vec![self.child.clone()],
        };
        ChildPlan {
            shutdown: Shutdown::Infinity,
            body: Body::Supervisor(inner.plan(child.id)),
            ..child
        }
    }
}

/// The ids that a supervisor's children have or may get.
fn known(supervisor: Id, plan: &SupervisorPlan) -> Vec<Id> {
    let ids = ids_below(supervisor);
    let many = match plan.kind {
        Kind::Static(_) => plan.children.len() + 1,
        Kind::Dynamic { .. } => 4,
    };
    ids.into_iter().take(many).collect()
}
