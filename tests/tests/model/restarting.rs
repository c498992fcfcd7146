//! A significant child that is about to be restarted counts as present (rules 25 and 30): no recording shows it,
//! and few scripts that are made at random do.

use perennial_lifecycle::{Restart, Shutdown};
use perennial_supervisor::{AutoShutdown, Strategy};

use crate::expected::Tree;
use crate::run::run;
use crate::script::{
    Body, Call, ChildPlan, Exit, Id, Kind, OnStop, Op, Outcome, ROOT, Script, Step, SupervisorPlan,
};
use crate::seen::Answer;

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

fn dynamic() -> Kind {
    Kind::Dynamic {
        restart: Restart::Transient,
        significant: true,
        shutdown: Shutdown::Infinity,
    }
}

fn start(id: Id) -> Step {
    Step::Do(vec![Op::Call(ROOT, Call::Start(child(id)))])
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
    check(
        supervisor(dynamic(), Vec::new()),
        vec![start("a"), start("b")],
    );
}

/// Here OTP loses count for good (rule 31).
#[test]
fn dyn_10_counts_are_right_after_a_child_is_terminated_that_was_restarting() {
    let count = || Op::Call(ROOT, Call::Count);
    let meanwhile = vec![
        Op::Exit("a", Exit::Fail, vec![Outcome::Fail]),
        count(),
        Op::Call(ROOT, Call::Terminate("a")),
        count(),
    ];
    let counts = |answers: Vec<Answer>| -> Vec<(usize, usize)> {
        let counts = answers.into_iter().filter_map(|answer| match answer {
            Answer::Count(count) => Some((count.active, count.workers)),
            _ => None,
        });
        counts.collect()
    };
    let first = [start("a"), start("b")];
    let mut model = Tree::boot(&supervisor(dynamic(), Vec::new()));
    for step in &first {
        if let Step::Do(ops) = step {
            drop(model.step(ops));
        }
    }
    assert_eq!(counts(model.step(&meanwhile)), [(1, 2), (1, 1)]);
    let mut steps = first.to_vec();
    steps.extend([Step::Do(meanwhile), Step::Do(vec![count()]), start("c")]);
    run(&Script {
        root: supervisor(dynamic(), Vec::new()),
        steps,
    })
    .unwrap();
}
