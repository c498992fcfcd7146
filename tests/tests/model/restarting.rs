//! A significant child that is about to be restarted counts as present (rules 25 and 30): no recording shows it,
//! and few scripts that are made at random do.

use perennial_lifecycle::{Restart, Shutdown};
use perennial_supervisor::{AutoShutdown, Strategy};

use crate::expected::Tree;
use crate::run::run;
use crate::script::{
    Body, Call, ChildPlan, Exit, Id, Kind, OnStop, Op, Outcome, ROOT, Script, Step, SupervisorPlan,
};

fn child(id: Id) -> ChildPlan {
    ChildPlan {
        id,
        restart: Restart::Transient,
        significant: true,
        shutdown: Shutdown::Infinity,
        starts: Vec::new(),
        body: Body::Worker(OnStop::Obey),
    }
}

fn supervisor(kind: Kind, children: Vec<ChildPlan>) -> SupervisorPlan {
    SupervisorPlan {
        kind,
        max_restarts: 2,
        period: 1,
        auto_shutdown: AutoShutdown::AllSignificant,
        children,
    }
}

/// `a` crashes, and its restart fails; `b` ends for good before the retry.
fn last_but_one() -> Step {
    Step::Do(vec![
        Op::Exit("a", Exit::Fail, vec![Outcome::Fail]),
        Op::Exit("b", Exit::Normal, Vec::new()),
    ])
}

/// Follows the script in the model alone, and says whether the supervisor still runs.
fn survives(script: &Script) -> bool {
    let mut model = Tree::boot(&script.root);
    for step in &script.steps {
        match step {
            Step::Do(ops) => drop(model.step(ops)),
            Step::Wait(ticks) => model.wait(*ticks),
        }
    }
    model.supervisors() == [ROOT]
}

fn check(root: SupervisorPlan, first: Vec<Step>) {
    let mut script = Script { root, steps: first };
    script.steps.push(last_but_one());
    assert!(survives(&script), "{script:?}");
    run(&script).unwrap();
    // Once it is back, its own end is that of the last.
    let last = Op::Exit("a", Exit::Normal, Vec::new());
    script.steps.push(Step::Do(vec![last]));
    assert!(!survives(&script), "{script:?}");
    run(&script).unwrap();
}

#[test]
fn sup_9_a_child_that_is_restarting_holds_up_the_shutdown() {
    let kind = Kind::Static(Strategy::OneForOne);
    check(supervisor(kind, vec![child("a"), child("b")]), Vec::new());
}

#[test]
fn dyn_8_a_child_that_is_restarting_holds_up_the_shutdown() {
    let kind = Kind::Dynamic {
        restart: Restart::Transient,
        significant: true,
        shutdown: Shutdown::Infinity,
    };
    let start = |id| Step::Do(vec![Op::Call(ROOT, Call::Start(child(id)))]);
    check(supervisor(kind, Vec::new()), vec![start("a"), start("b")]);
}
