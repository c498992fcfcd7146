//! Does what a script says to a real tree, and compares it with the model after every step.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial_lifecycle::{ChildKind, ChildSpec, Node};
use perennial_supervisor::{DynamicChild, DynamicSupervisor, Supervisor};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until, timeout};

use crate::expected::Tree;
use crate::observe::{self, Recorder};
use crate::script::{Call, Exit, Id, Op, PHASE, ROOT, Script, Step, TICK, parent, path};
use crate::seen::{Answer, Picture, Place, agree};
use crate::stage::{Command, GATE, Gate, Part, Stage, reason};

/// Runs a script; an error says what differs from the model, and where.
pub(crate) fn run(script: &Script) -> Result<(), String> {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut run = Run::boot(script).await?;
        for (number, step) in script.steps.iter().enumerate() {
            if run.model.supervisors().is_empty() {
                break;
            }
            let label = format!("step {}, {step:?}", number + 1);
            run.step(&label, step).await?;
        }
        // Whatever runs at the end is stopped in order.
        let stop = Step::Do(vec![Op::Stop(Exit::Shutdown)]);
        run.step("the end", &stop).await
    })
}

struct Run {
    stage: Arc<Stage>,
    model: Tree,
    recorder: Recorder,
    /// When the step at hand began.
    now: Instant,
    /// What the last successful `start_child` for a dynamic child returned.
    started: BTreeMap<Id, DynamicChild>,
}

/// What an operation comes to; for a dynamic child that was started also its run.
type Reply = BoxFuture<'static, (Answer, Option<DynamicChild>)>;

impl Run {
    async fn boot(script: &Script) -> Result<Self, String> {
        let stage = Stage::new();
        let recorder = Recorder::new(&stage.scope);
        stage.with_outcomes(|outcomes| outcomes.plan_all(&script.root.children));
        let now = Instant::now();
        let root = stage.supervisor(ROOT, &script.root);
        // Whether it started is in the events.
        drop(timeout(TICK / 2, root.start_in(&stage.scope)).await);
        let mut run = Self {
            stage,
            model: Tree::boot(&script.root),
            recorder,
            now,
            started: BTreeMap::new(),
        };
        run.pass(TICK).await;
        run.compare("the start").await?;
        Ok(run)
    }

    async fn step(&mut self, label: &str, step: &Step) -> Result<(), String> {
        match step {
            Step::Wait(ticks) => {
                self.model.wait(*ticks);
                self.pass(TICK * *ticks).await;
            }
            Step::Do(ops) => {
                let seen = self.perform(ops).await;
                let expected = self.model.step(ops);
                differs(label, "answers", &expected, &seen)?;
            }
        }
        self.compare(label).await
    }

    async fn pass(&mut self, time: Duration) {
        self.now += time;
        sleep_until(self.now).await;
    }

    /// Does all this while the supervisors are kept busy, then lets them go on one by one, innermost first.
    ///
    /// A single thing needs no such care: whatever follows from it happens in turn.
    async fn perform(&mut self, ops: &[Op]) -> Vec<Answer> {
        let mut held = Vec::new();
        if ops.len() > 1 {
            for id in self.model.supervisors() {
                held.push(self.hold(id).await);
            }
        }
        let mut replies = Vec::new();
        for op in ops {
            self.stage.with_outcomes(|outcomes| outcomes.plan_op(op));
            let mut reply = self.issue(op);
            // A call sends its message when it is first polled.
            let early = futures_util::poll!(&mut reply);
            replies.push(match early {
                Poll::Ready(done) => std::future::ready(done).boxed(),
                Poll::Pending if matches!(op, Op::Exit(..)) => {
                    let done = timeout(PHASE / 2, reply).await;
                    std::future::ready(done.unwrap_or_else(|_| late())).boxed()
                }
                Poll::Pending => reply,
            });
        }
        let begin = self.now;
        for (turn, (gate, _reply)) in (1..).zip(&held) {
            gate.opened.notify_one();
            sleep_until(begin + PHASE * turn).await;
        }
        self.pass(TICK).await;
        let mut answers = Vec::new();
        for (op, reply) in ops.iter().zip(replies) {
            let (answer, child) = reply.now_or_never().unwrap_or_else(late);
            if let (Some(child), Op::Call(_, Call::Start(plan))) = (child, op) {
                self.started.insert(plan.id, child);
            }
            answers.push(answer);
        }
        answers
    }

    /// Keeps a supervisor busy with the start of a child that declines when the gate opens.
    async fn hold(&self, id: Id) -> (Arc<Gate>, BoxFuture<'static, ()>) {
        let gate = Arc::new(Gate::default());
        let mut call = match self.node(id) {
            Some(node) if self.stage.is_dynamic(id) => {
                let part = Part::Gate(Arc::clone(&gate));
                async move {
                    if let Some(supervisor) = DynamicSupervisor::at(&node) {
                        drop(supervisor.start_child_named(GATE, part).await);
                    }
                }
                .boxed()
            }
            Some(node) => {
                let kept = Arc::clone(&gate);
                let start = move |_| {
                    let gate = Arc::clone(&kept);
                    async move { gate.pass().await }
                };
                let spec = ChildSpec::from_fn(GATE, ChildKind::Worker, start).temporary();
                async move {
                    if let Some(supervisor) = Supervisor::at(&node) {
                        drop(supervisor.start_child(spec).await);
                    }
                }
                .boxed()
            }
            None => std::future::ready(()).boxed(),
        };
        if futures_util::poll!(&mut call).is_pending() {
            // When it is not reached, the comparison shows what is wrong.
            drop(timeout(PHASE / 2, gate.reached.notified()).await);
        }
        (gate, call)
    }

    fn node(&self, id: Id) -> Option<Arc<Node>> {
        let node = self.stage.scope.root().find(&path(id))?;
        node.current().is_some().then_some(node)
    }

    fn issue(&self, op: &Op) -> Reply {
        match op {
            Op::Exit(id, exit, _) => exit_of(self.node(id), *exit).map(alone).boxed(),
            Op::Stop(exit) => {
                let answer = match self.node(ROOT).and_then(|node| node.current()) {
                    Some(root) => {
                        root.stop(reason(*exit));
                        Answer::Done
                    }
                    None => Answer::Nobody,
                };
                std::future::ready(alone(answer)).boxed()
            }
            Op::Call(id, call) => self.call(id, call.clone()),
        }
    }

    fn call(&self, id: Id, call: Call) -> Reply {
        let known = match &call {
            Call::TerminateRun(child) => match self.started.get(child) {
                Some(run) => Some(run.clone()),
                None => return std::future::ready(alone(Answer::Nobody)).boxed(),
            },
            _ => None,
        };
        let Some(node) = self.node(id) else {
            return std::future::ready(alone(Answer::Down)).boxed();
        };
        let Some(supervisor) = Supervisor::at(&node) else {
            return std::future::ready(alone(Answer::Down)).boxed();
        };
        let Some(dynamic) = DynamicSupervisor::<Part>::at(&node) else {
            return std::future::ready(alone(Answer::Down)).boxed();
        };
        let is_dynamic = self.stage.is_dynamic(id);
        let stage = Arc::clone(&self.stage);
        async move {
            alone(match call {
                Call::Start(plan) if is_dynamic => {
                    let started = dynamic.start_child_named(plan.id, Part::Child(plan)).await;
                    let child = started.as_ref().ok().cloned();
                    return (observe::dynamic_started(started), child);
                }
                Call::Start(plan) => {
                    observe::started(supervisor.start_child(stage.child(&plan)).await)
                }
                Call::Terminate(id) if is_dynamic => {
                    observe::terminated(dynamic.terminate_child_named(id).await)
                }
                Call::Terminate(id) => observe::terminated(supervisor.terminate_child(id).await),
                Call::TerminateRun(_) => match known {
                    Some(run) => observe::terminated(dynamic.terminate_child(&run).await),
                    None => Answer::Nobody,
                },
                Call::Restart(id, _) => observe::restarted(supervisor.restart_child(id).await),
                Call::Delete(id) => observe::deleted(supervisor.delete_child(id).await),
                Call::Which => observe::children(supervisor.which_children().await),
                Call::Count => observe::count(supervisor.count_children().await),
                Call::Spec(id) => observe::spec(supervisor.child_spec(id).await),
            })
        }
        .boxed()
    }

    /// Compares what happened since the last time, and what is there now.
    async fn compare(&mut self, label: &str) -> Result<(), String> {
        let (expected, seen) = (self.model.take_log(), self.recorder.take());
        if !agree(&expected, &seen) {
            differs(label, "what happened", &expected, &seen)?;
        }
        let expected = self.model.picture();
        let seen = self.picture().await;
        differs(
            label,
            "supervisors",
            &expected.supervisors,
            &seen.supervisors,
        )?;
        differs(label, "places", &expected.places, &seen.places)
    }

    /// Asks each supervisor, and looks at each place.
    async fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        self.look(self.stage.scope.root(), &mut picture).await;
        picture.places.sort_by_key(|(id, _)| parent(id));
        picture
    }

    fn look<'a>(&'a self, node: &'a Arc<Node>, picture: &'a mut Picture) -> BoxFuture<'a, ()> {
        async move {
            for child in node.children() {
                let place = Place {
                    runs: child.incarnations(),
                    restarts: child.restarts(),
                    occupied: child.current().is_some(),
                    state: Some(child.state()),
                };
                picture.places.push((observe::id_at(&child), place));
                self.look(&child, picture).await;
            }
            let Some(supervisor) = Supervisor::at(node) else {
                return;
            };
            if supervisor.incarnation().is_none() {
                return;
            }
            let calls = async {
                let list = observe::children(supervisor.which_children().await);
                (list, observe::count(supervisor.count_children().await))
            };
            let odd = || Answer::Odd("no answer".to_owned());
            let answers = timeout(PHASE, calls).await;
            let (list, count) = answers.unwrap_or_else(|_| (odd(), odd()));
            picture
                .supervisors
                .push((observe::id_at(node), list, count));
        }
        .boxed()
    }
}

fn alone(answer: Answer) -> (Answer, Option<DynamicChild>) {
    (answer, None)
}

fn late() -> (Answer, Option<DynamicChild>) {
    alone(Answer::Odd("no answer".to_owned()))
}

/// Lets a worker end and waits for it; asks a supervisor to stop.
async fn exit_of(node: Option<Arc<Node>>, exit: Exit) -> Answer {
    let Some(current) = node.and_then(|node| node.current()) else {
        return Answer::Nobody;
    };
    let Some(worker) = current.actor_ref::<Command>() else {
        current.stop(reason(exit));
        return Answer::Done;
    };
    match exit {
        Exit::Kill => current.kill(),
        exit => drop(worker.send_message(Command(exit))),
    }
    current.ended().await;
    Answer::Done
}

fn differs<T: Debug + PartialEq>(
    label: &str,
    what: &str,
    expected: &T,
    seen: &T,
) -> Result<(), String> {
    if expected == seen {
        return Ok(());
    }
    Err(format!(
        "{label}: {what}\n  expected {expected:?}\n  seen     {seen:?}"
    ))
}
