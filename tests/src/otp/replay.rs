use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use perennial_lifecycle::{ChildKind, ChildSpec, Node, Shutdown};
use perennial_supervisor::{
    ChildCount, ChildInfo, ChildStatus, DeleteChildError, FailedToStartChild, RestartChildError,
    StartChildError, StartedChild, Supervisor, TerminateChildError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, timeout};

use super::Clock;
use super::compare::{canonical, events_agree, multisets_agree};
use super::dynamic;
use super::reason::{self, Reason};
use super::record::{Expectation, Init, Operation, Scenario};
use super::stage::{Command, Stage};
use super::story::Recorder;

/// No step may take longer, except by sleeping.
const LIMIT: Duration = Duration::from_secs(2);

/// Time between two looks at the tree.
const LOOK: Duration = Duration::from_millis(20);

/// Something that was not as recorded.
pub(crate) struct Mismatch {
    pub(crate) step: String,
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) seen: String,
}

/// Replays one scenario in a tree of its own.
pub(crate) fn run(scenario: &Scenario, clock: Clock) -> Result<(), Mismatch> {
    let mut builder = match clock {
        Clock::Paused => Builder::new_current_thread(),
        Clock::Real => Builder::new_multi_thread(),
    };
    if clock == Clock::Real {
        builder.worker_threads(2);
    }
    let runtime = builder
        .enable_time()
        .start_paused(clock == Clock::Paused)
        .build()
        .map_err(|error| Mismatch {
            step: "boot".to_owned(),
            what: "runtime",
            expected: "one".to_owned(),
            seen: error.to_string(),
        })?;
    runtime.block_on(async {
        let stage = Stage::new();
        let recorder = stage.record();
        let mut replay = Replay { stage, recorder };
        replay.boot(scenario).await?;
        for (number, step) in scenario.steps.iter().enumerate() {
            let label = format!("step {} {}", number + 1, step.text);
            replay.step(label, &step.operation, &step.expected).await?;
        }
        Ok(())
    })
}

struct Replay {
    stage: Arc<Stage>,
    recorder: Recorder,
}

/// What an operation gave back; the replies are those of a gated queue.
struct Answer {
    returned: Value,
    replies: Option<Vec<Value>>,
}

impl From<Value> for Answer {
    fn from(returned: Value) -> Self {
        Self {
            returned,
            replies: None,
        }
    }
}

impl Replay {
    async fn boot(&mut self, scenario: &Scenario) -> Result<(), Mismatch> {
        let start = async {
            // Only a start function can decline; the top supervisor has none, so nobody starts it.
            if scenario.flags.init == Some(Init::Ignore) {
                return json!("ignore");
            }
            let spec = match self.stage.build_root(&scenario.flags, &scenario.children) {
                Ok(spec) => spec,
                Err(error) => return json!({ "error": reason::bad_start(&error) }),
            };
            match spec.start_in(self.stage.scope()).await {
                Ok(()) => json!({ "ok": self.stage.instance(self.stage.scope().root(), 1) }),
                Err(error) => json!({ "error": reason::to_json(&error.reason) }),
            }
        };
        let returned = timeout(LIMIT, start).await.unwrap_or_else(|_| late());
        self.compare("boot".to_owned(), returned.into(), &scenario.boot)
            .await
    }

    async fn step(
        &mut self,
        label: String,
        operation: &Operation,
        expected: &Expectation,
    ) -> Result<(), Mismatch> {
        let answer = match operation {
            Operation::Gated {
                gate,
                trigger,
                queue,
            } => timeout(LIMIT, self.gated(gate, trigger, queue)).await,
            Operation::Sleep { ms } => {
                sleep(Duration::from_millis(*ms)).await;
                Ok(json!("ok").into())
            }
            operation => timeout(LIMIT, self.perform(operation))
                .await
                .map(Answer::from),
        };
        let answer = answer.unwrap_or_else(|_| late().into());
        self.compare(label, answer, expected).await
    }

    async fn compare(
        &mut self,
        step: String,
        answer: Answer,
        expected: &Expectation,
    ) -> Result<(), Mismatch> {
        let settled = self.settle().await;
        let (events, reports) = self.recorder.take();
        let differs = |what, expected: &Value, seen: &Value| {
            Err(Mismatch {
                step: step.clone(),
                what,
                expected: expected.to_string(),
                seen: seen.to_string(),
            })
        };
        if canonical(&answer.returned) != canonical(&expected.returned) {
            return differs("return", &expected.returned, &answer.returned);
        }
        let (wanted, replies) = (json!(expected.replies), json!(answer.replies));
        if canonical(&replies) != canonical(&wanted) {
            return differs("replies", &wanted, &replies);
        }
        if !events_agree(&expected.events, &events) {
            return differs("events", &json!(expected.events), &json!(events));
        }
        if !multisets_agree(&expected.reports, &reports) {
            return differs("reports", &json!(expected.reports), &json!(reports));
        }
        match settled {
            Ok(tree) if canonical(&tree) == canonical(&expected.tree) => Ok(()),
            Ok(tree) => differs("tree", &expected.tree, &tree),
            Err(unrest) => differs("quiescence", &json!("within 2 s"), &json!(unrest)),
        }
    }

    /// Waits until nothing moves any more, and returns the tree.
    ///
    /// Two looks in a row must find the tree at rest, with no event between them. The paused clock moves only
    /// when no task can run, so that on it every message that was sent has been taken at each look, and what
    /// remains are timers.
    async fn settle(&mut self) -> Result<Value, String> {
        let start = Instant::now();
        let mut calm = None;
        loop {
            sleep(LOOK).await;
            let before = self.recorder.read();
            let look = timeout(LIMIT, self.look()).await;
            let look = look.unwrap_or_else(|_| Err("a supervisor does not answer".to_owned()));
            let after = self.recorder.read();
            match look {
                Ok(tree) if calm == Some(after) => return Ok(tree),
                Ok(_) => calm = (before == after).then_some(after),
                Err(unrest) if start.elapsed() > LIMIT => return Err(unrest),
                Err(_) => calm = None,
            }
        }
    }

    /// Looks at the whole tree; an error says what is not at rest.
    async fn look(&self) -> Result<Value, String> {
        let mut listed = BTreeSet::new();
        let tree = match self.stage.supervisor(None) {
            Some(root) if root.incarnation().is_some() => {
                listed.insert("root#1".to_owned());
                self.tree(&root, &mut listed).await?
            }
            _ => Value::Null,
        };
        // A live process that nobody lists has lost its parent; a listed one that is dead was not noticed.
        if listed != *self.recorder.live() {
            let live = self.recorder.live();
            return Err(format!("listed as alive {listed:?}, alive {live:?}"));
        }
        Ok(tree)
    }

    fn tree<'a>(
        &'a self,
        supervisor: &'a Supervisor,
        listed: &'a mut BTreeSet<String>,
    ) -> BoxFuture<'a, Result<Value, String>> {
        let walk = async move {
            let down = |error: perennial_supervisor::SupervisorDown| error.to_string();
            let list = supervisor.which_children().await.map_err(down)?;
            let count = supervisor.count_children().await.map_err(down)?;
            let mut children = Vec::new();
            let dynamic = self.stage.is_dynamic(supervisor.path().id());
            for child in &list {
                let mut entry = child_entry(&self.stage, child, dynamic);
                match child.status {
                    ChildStatus::Alive { .. } => {
                        let instance = entry["inst"].as_str().unwrap_or_default();
                        listed.insert(instance.to_owned());
                        if self.stage.worker(&child.id).is_none()
                            && let Some(nested) = Supervisor::at(&child.node)
                        {
                            entry["tree"] = self.tree(&nested, listed).await?;
                        }
                    }
                    ChildStatus::Stopped => {}
                    status => return Err(format!("{} is {status:?}", child.id)),
                }
                children.push(entry);
            }
            Ok(json!({ "count": child_count(count), "children": children }))
        };
        walk.boxed()
    }

    /// Sends things to a supervisor that a blocked start function keeps busy.
    async fn gated(&self, id: &str, trigger: &Operation, queue: &[Operation]) -> Answer {
        let gate = self.stage.arm(id);
        let trigger = self.issue(trigger).await;
        gate.reached.notified().await;
        let mut issued = Vec::with_capacity(queue.len());
        for operation in queue {
            issued.push(self.issue(operation).await);
        }
        gate.opened.notify_one();
        let returned = trigger.await;
        let mut replies = Vec::with_capacity(issued.len());
        for reply in issued {
            replies.push(reply.await);
        }
        Answer {
            returned,
            replies: Some(replies),
        }
    }

    /// Brings an operation into its supervisor's queue, and returns what waits for the reply.
    async fn issue(&self, operation: &Operation) -> BoxFuture<'static, Value> {
        let mut reply = self.perform(operation);
        match operation {
            // The end of the process is the last that these wait for, and its notice is sent before.
            Operation::Exit { .. } | Operation::Kill { .. } => {
                let done = reply.await;
                std::future::ready(done).boxed()
            }
            // Everything else sends its message when it is first polled.
            _ => match futures_util::poll!(&mut reply) {
                std::task::Poll::Ready(done) => std::future::ready(done).boxed(),
                std::task::Poll::Pending => reply,
            },
        }
    }

    fn perform(&self, operation: &Operation) -> BoxFuture<'static, Value> {
        let stage = Arc::clone(&self.stage);
        let on = |sup: &Option<String>| stage.supervisor(sup.as_deref());
        match operation {
            Operation::Exit { child, reason } => {
                exit(stage.node(child), stage.worker(child), reason.clone()).boxed()
            }
            Operation::Kill { child } => kill(stage.node(child)).boxed(),
            Operation::StopSup { reason } => match reason.text() {
                Some("kill") => kill(stage.node("root")).boxed(),
                _ => {
                    let (root, reason) = (on(&None), reason.to_exit());
                    async move {
                        let Some(root) = root else { return down() };
                        root.stop(reason).await;
                        json!("ok")
                    }
                    .boxed()
                }
            },
            Operation::StrayExit { sup, reason } => stray_exit(on(sup), reason.clone()).boxed(),
            Operation::StartChild { sup, spec } => {
                let (sup, child) = (on(sup), stage.child(spec));
                async move { start_child(&stage, sup, child).await }.boxed()
            }
            Operation::TerminateChild { sup, id } => terminate_child(on(sup), id.clone()).boxed(),
            Operation::RestartChild { sup, id } => {
                let (sup, id) = (on(sup), id.clone());
                async move { restart_child(&stage, sup, id).await }.boxed()
            }
            Operation::DeleteChild { sup, id } => delete_child(on(sup), id.clone()).boxed(),
            Operation::GetChildspec { sup, id } => get_childspec(on(sup), id.clone()).boxed(),
            Operation::WhichChildren { sup } => {
                let sup = on(sup);
                async move { which_children(&stage, sup).await }.boxed()
            }
            Operation::CountChildren { sup } => count_children(on(sup)).boxed(),
            Operation::StartDynamic { sup, part } => {
                let sup = stage.dynamic_supervisor(sup.as_deref());
                dynamic::start_child(Arc::clone(&stage), sup, part.clone()).boxed()
            }
            Operation::TerminateDynamic { sup, name } => {
                let sup = stage.dynamic_supervisor(sup.as_deref());
                dynamic::terminate_child(sup, stage.run(name)).boxed()
            }
            Operation::TerminateForeign { sup } => {
                dynamic::terminate_foreign(stage.dynamic_supervisor(sup.as_deref())).boxed()
            }
            Operation::GetChildspecDynamic { sup, name } => {
                let sup = stage.dynamic_supervisor(sup.as_deref());
                dynamic::child_spec(sup, stage.run(name)).boxed()
            }
            Operation::Sleep { .. } | Operation::Gated { .. } => {
                std::future::ready(json!("not here")).boxed()
            }
        }
    }
}

fn late() -> Value {
    json!("nothing within 2 s")
}

pub(crate) fn down() -> Value {
    json!("supervisor_down")
}

pub(crate) fn error(error: impl Into<Value>) -> Value {
    json!({ "error": error.into() })
}

/// Lets a process end by itself: a worker is told to, a supervisor is asked to stop.
async fn exit(node: Option<Arc<Node>>, worker: Option<ActorRef<Command>>, reason: Reason) -> Value {
    let Some(current) = node.and_then(|node| node.current()) else {
        return json!("nobody there");
    };
    match worker {
        Some(worker) => {
            if worker.send_message(Command(reason)).is_err() {
                return json!("nobody there");
            }
        }
        None => current.stop(reason.to_exit()),
    }
    current.ended().await;
    json!("ok")
}

async fn kill(node: Option<Arc<Node>>) -> Value {
    let Some(current) = node.and_then(|node| node.current()) else {
        return json!("nobody there");
    };
    current.kill();
    current.ended().await;
    json!("ok")
}

/// Ends next to a supervisor that it made itself a child of, behind the supervisor's back.
struct Stranger;

impl Actor for Stranger {
    type Msg = Command;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Command>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Command>,
        Command(reason): Command,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let reason = reason.to_exit();
        if reason.is_clean() {
            myself.stop(Some(reason.to_string()));
            return Ok(());
        }
        Err(reason.to_string().into())
    }
}

async fn stray_exit(sup: Option<Supervisor>, reason: Reason) -> Value {
    let Some(current) = sup.and_then(|sup| sup.incarnation()) else {
        return json!("nobody there");
    };
    let linked = Actor::spawn_linked(None, Stranger, (), current.cell().clone()).await;
    let Ok((stranger, end)) = linked else {
        return json!("the stranger did not start");
    };
    if stranger.send_message(Command(reason)).is_err() || end.await.is_err() {
        return json!("the stranger did not end in order");
    }
    json!("ok")
}

async fn start_child(stage: &Stage, sup: Option<Supervisor>, child: ChildSpec) -> Value {
    let Some(sup) = sup else { return down() };
    match sup.start_child(child).await {
        Ok(started) => started_child(stage, started),
        Err(StartChildError::Spec(bad)) => error(reason::spec_error(&bad)),
        Err(StartChildError::AlreadyStarted {
            node, incarnation, ..
        }) => error(json!({ "already_started": stage.instance(&node, incarnation) })),
        Err(StartChildError::AlreadyPresent { .. }) => error("already_present"),
        Err(StartChildError::Failed(FailedToStartChild { id, reason, .. })) => {
            let reason = reason::to_json(&reason);
            error(json!({ "start_failed": { "id": id, "reason": reason } }))
        }
        Err(StartChildError::Down(_)) => down(),
        Err(other) => error(other.to_string()),
    }
}

fn started_child(stage: &Stage, started: StartedChild) -> Value {
    let Some(node) = &started.node else {
        return json!({ "ok": null });
    };
    let instance = stage.instance(node, started.incarnation);
    match started.info {
        Some(info) => json!({ "ok": instance, "info": &*info }),
        None => json!({ "ok": instance }),
    }
}

async fn terminate_child(sup: Option<Supervisor>, id: String) -> Value {
    let Some(sup) = sup else { return down() };
    match sup.terminate_child(&id).await {
        Ok(()) => json!("ok"),
        Err(TerminateChildError::NotFound { .. }) => error("not_found"),
        Err(TerminateChildError::Dynamic { .. }) => error("simple_one_for_one"),
        Err(TerminateChildError::Down(_)) => down(),
        Err(other) => error(other.to_string()),
    }
}

async fn restart_child(stage: &Stage, sup: Option<Supervisor>, id: String) -> Value {
    let Some(sup) = sup else { return down() };
    match sup.restart_child(&id).await {
        Ok(started) => started_child(stage, started),
        Err(RestartChildError::NotFound { .. }) => error("not_found"),
        Err(RestartChildError::Dynamic { .. }) => error("simple_one_for_one"),
        Err(RestartChildError::Running { .. }) => error("running"),
        Err(RestartChildError::Restarting { .. }) => error("restarting"),
        Err(RestartChildError::Failed(failed)) => error(reason::to_json(&failed.reason)),
        Err(RestartChildError::Down(_)) => down(),
        Err(other) => error(other.to_string()),
    }
}

async fn delete_child(sup: Option<Supervisor>, id: String) -> Value {
    let Some(sup) = sup else { return down() };
    match sup.delete_child(&id).await {
        Ok(()) => json!("ok"),
        Err(DeleteChildError::NotFound { .. }) => error("not_found"),
        Err(DeleteChildError::Dynamic { .. }) => error("simple_one_for_one"),
        Err(DeleteChildError::Running { .. }) => error("running"),
        Err(DeleteChildError::Restarting { .. }) => error("restarting"),
        Err(DeleteChildError::Down(_)) => down(),
        Err(other) => error(other.to_string()),
    }
}

async fn get_childspec(sup: Option<Supervisor>, id: String) -> Value {
    let Some(sup) = sup else { return down() };
    match sup.child_spec(&id).await {
        Ok(spec) => child_spec(spec.as_ref()),
        Err(_) => down(),
    }
}

/// Writes the answer to a question for a spec.
pub(crate) fn child_spec(spec: Option<&ChildSpec>) -> Value {
    let Some(spec) = spec else {
        return error("not_found");
    };
    json!({ "ok": {
        "id": &**spec.id(),
        "restart": spec.restart_type().to_string(),
        "significant": spec.is_significant(),
        "shutdown": match spec.shutdown_type() {
            Shutdown::BrutalKill => json!("brutal_kill"),
            Shutdown::Infinity => json!("infinity"),
            Shutdown::Within(limit) => json!(limit.as_millis()),
        },
        "type": kind(spec.kind()),
    }})
}

async fn which_children(stage: &Stage, sup: Option<Supervisor>) -> Value {
    let Some(sup) = sup else { return down() };
    let dynamic = stage.is_dynamic(sup.path().id());
    match sup.which_children().await {
        Ok(list) => {
            let entries = list.iter().map(|child| child_entry(stage, child, dynamic));
            entries.collect()
        }
        Err(_) => down(),
    }
}

async fn count_children(sup: Option<Supervisor>) -> Value {
    let Some(sup) = sup else { return down() };
    match sup.count_children().await {
        Ok(count) => child_count(count),
        Err(_) => down(),
    }
}

fn child_entry(stage: &Stage, child: &ChildInfo, dynamic: bool) -> Value {
    let (state, instance) = match child.status {
        ChildStatus::Alive { incarnation } => ("alive", stage.instance(&child.node, incarnation)),
        ChildStatus::Stopped => ("undefined", Value::Null),
        _ => ("restarting", Value::Null),
    };
    let id = (!dynamic).then_some(&*child.id);
    json!({ "id": id, "state": state, "inst": instance, "type": kind(child.kind) })
}

fn child_count(count: ChildCount) -> Value {
    json!({
        "specs": count.specs,
        "active": count.active,
        "supervisors": count.supervisors,
        "workers": count.workers,
    })
}

fn kind(kind: ChildKind) -> &'static str {
    match kind {
        ChildKind::Worker => "worker",
        ChildKind::Supervisor => "supervisor",
    }
}
