//! The real side's children: actors that do what the script says, and tell what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use perennial_lifecycle::{
    ActorPath, Cause, ChildKind, ChildSpec, EventKind, ExitReason, Scope, StartContext, StartError,
    Started,
};
use perennial_supervisor::{
    ChildTemplate, DynamicSpec, DynamicSupervisor, RestartIntensity, Supervisor, SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::script::{
    Body, ChildPlan, Exit, Id, Kind, LINGERS, OnStop, Outcome, Outcomes, ROOT, STALLS,
    SupervisorPlan, TEMPLATE, TICK,
};

/// How often start functions are called at most. Behind that they hang, so that a supervisor which never
/// gives up is found out instead of keeping the clock from moving.
const MAX_STARTS: usize = 1000;

/// The text of all failures, which dynamic supervisors report together when they are the same.
const BROKEN: &str = "broken";

/// The id of the child whose start keeps a supervisor busy.
pub(crate) const GATE: &str = "gate";

/// What the sources of the notes in the tree's events are called.
pub(crate) const UP: &str = "up";
pub(crate) const GONE: &str = "gone";
pub(crate) const POST_STOP: &str = "post_stop";
pub(crate) const OVERLAP: &str = "overlap";

/// What the children of one tree share.
pub(crate) struct Stage {
    pub(crate) scope: Scope,
    begin: Instant,
    cast: Mutex<Cast>,
}

#[derive(Default)]
struct Cast {
    outcomes: Outcomes,
    starts: usize,
    /// Workers that hold their state.
    holding: BTreeMap<Id, usize>,
    /// Supervisors whose children are dynamic.
    dynamic: BTreeSet<Id>,
}

/// The arguments of a dynamic child.
pub(crate) enum Part {
    Child(ChildPlan),
    Gate(Arc<Gate>),
}

/// Blocks a start function until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) reached: Notify,
    pub(crate) opened: Notify,
}

impl Gate {
    pub(crate) async fn pass(&self) -> Result<Started, StartError> {
        self.reached.notify_one();
        self.opened.notified().await;
        Ok(Started::Ignored)
    }
}

pub(crate) enum Spec {
    Static(SupervisorSpec),
    Dynamic(DynamicSpec<Part>),
}

impl Spec {
    pub(crate) async fn start_in(self, scope: &Scope) -> Result<(), StartError> {
        match self {
            Self::Static(spec) => spec.start_in(scope).await.map(drop),
            Self::Dynamic(spec) => spec.start_in(scope).await.map(drop),
        }
    }

    fn into_child(self, id: Id) -> ChildSpec {
        match self {
            Self::Static(spec) => spec.into_child(id),
            Self::Dynamic(spec) => spec.into_child(id),
        }
    }
}

impl Stage {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            scope: Scope::new(ROOT),
            begin: Instant::now(),
            cast: Mutex::default(),
        })
    }

    pub(crate) fn with_outcomes<T>(&self, f: impl FnOnce(&mut Outcomes) -> T) -> T {
        f(&mut self.cast().outcomes)
    }

    pub(crate) fn is_dynamic(&self, supervisor: Id) -> bool {
        self.cast().dynamic.contains(supervisor)
    }

    pub(crate) fn supervisor(self: &Arc<Self>, id: Id, plan: &SupervisorPlan) -> Spec {
        let period = TICK * plan.period;
        let intensity = RestartIntensity::new(plan.max_restarts, period);
        match plan.kind {
            Kind::Static(strategy) => {
                self.cast().dynamic.remove(id);
                let spec = Supervisor::builder()
                    .strategy(strategy)
                    .intensity(intensity)
                    .auto_shutdown(plan.auto_shutdown)
                    .children(plan.children.iter().map(|it| self.child(it)))
                    .build();
                Spec::Static(spec.unwrap())
            }
            Kind::Dynamic {
                restart,
                significant,
                shutdown,
            } => {
                self.cast().dynamic.insert(id);
                let stage = Arc::clone(self);
                let start = move |context, part: Arc<Part>| {
                    let stage = Arc::clone(&stage);
                    async move {
                        match &*part {
                            Part::Child(plan) => stage.start(plan, context).await,
                            Part::Gate(gate) => gate.pass().await,
                        }
                    }
                };
                let template = ChildTemplate::from_fn(TEMPLATE, ChildKind::Worker, start)
                    .restart(restart)
                    .significant(significant)
                    .shutdown(shutdown);
                let spec = DynamicSupervisor::builder(template)
                    .intensity(intensity)
                    .auto_shutdown(plan.auto_shutdown)
                    .build();
                Spec::Dynamic(spec.unwrap())
            }
        }
    }

    pub(crate) fn child(self: &Arc<Self>, plan: &ChildPlan) -> ChildSpec {
        let kind = match &plan.body {
            Body::Worker(_) => ChildKind::Worker,
            Body::Supervisor(_) => ChildKind::Supervisor,
        };
        let (stage, shared) = (Arc::clone(self), Arc::new(plan.clone()));
        let spec = ChildSpec::from_fn(plan.id, kind, move |context| {
            let (stage, plan) = (Arc::clone(&stage), Arc::clone(&shared));
            async move { stage.start(&plan, context).await }
        });
        spec.restart(plan.restart)
            .significant(plan.significant)
            .shutdown(plan.shutdown)
    }

    /// The start function of every child.
    async fn start(
        self: &Arc<Self>,
        plan: &ChildPlan,
        context: StartContext,
    ) -> Result<Started, StartError> {
        let outcome = self.enter(plan.id);
        let Some(outcome) = outcome else {
            return std::future::pending().await;
        };
        let init = match outcome {
            Outcome::Up => Exit::Normal,
            Outcome::Ignore => return Ok(Started::Ignored),
            Outcome::Fail => return Err(StartError::new(ExitReason::failed(BROKEN))),
            Outcome::Panic => panic_quietly(),
            Outcome::InitFail => Exit::Fail,
            Outcome::InitNormal => Exit::Normal,
            Outcome::InitPanic => Exit::Panic,
        };
        if outcome != Outcome::Up {
            return Ok(context.spawn(Stillborn, init).await?.into());
        }
        match &plan.body {
            Body::Worker(on_stop) => {
                let worker = Worker {
                    id: plan.id,
                    on_stop: *on_stop,
                };
                let arguments = (Arc::clone(self), context.node().path().clone());
                Ok(context.spawn(worker, arguments).await?.into())
            }
            Body::Supervisor(inner) => {
                let spec = self.supervisor(plan.id, inner).into_child(plan.id);
                (spec.start_fn())(context).await
            }
        }
    }

    fn enter(&self, id: Id) -> Option<Outcome> {
        let mut cast = self.cast();
        cast.starts += 1;
        (cast.starts <= MAX_STARTS).then(|| cast.outcomes.next(id))
    }

    /// Tells what happens at this place, among the events of the tree, and when.
    fn note(&self, source: &'static str, path: &ActorPath) {
        let text = self.begin.elapsed().as_millis().to_string().into();
        let note = EventKind::Noted { source, text };
        self.scope.events().emit(path, note);
    }

    fn cast(&self) -> MutexGuard<'_, Cast> {
        self.cast.lock().unwrap()
    }
}

/// A panic that the panic hook does not print.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new(BROKEN))
}

/// Tells a worker to end by itself.
#[derive(Debug)]
pub(crate) struct Command(pub(crate) Exit);

fn end(exit: Exit) -> Result<(), ActorProcessingErr> {
    let reason = match exit {
        Exit::Panic => panic_quietly(),
        Exit::Normal | Exit::StopItself => ExitReason::Normal,
        other => reason(other),
    };
    Err(perennial_lifecycle::Exit(reason).into())
}

/// The reason with which a supervisor is asked to stop.
pub(crate) fn reason(exit: Exit) -> ExitReason {
    match exit {
        Exit::Fail | Exit::Panic | Exit::Kill => ExitReason::failed(BROKEN),
        Exit::Normal | Exit::StopItself => ExitReason::Normal,
        Exit::Shutdown => ExitReason::Shutdown,
        Exit::ShutdownWith => ExitReason::ShutdownWith(Cause::new("enough")),
    }
}

struct Worker {
    id: Id,
    on_stop: OnStop,
}

/// A worker's state: while it exists, no other run of the same child may.
struct Hold {
    id: Id,
    stage: Arc<Stage>,
    path: ActorPath,
    /// It ends by itself, so that it reacts to no stop request any more.
    leaving: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        *self.stage.cast().holding.entry(self.id).or_default() -= 1;
        self.stage.note(GONE, &self.path);
    }
}

impl Actor for Worker {
    type Msg = Command;
    type State = Hold;
    type Arguments = (Arc<Stage>, ActorPath);

    async fn pre_start(
        &self,
        _: ActorRef<Command>,
        (stage, path): Self::Arguments,
    ) -> Result<Hold, ActorProcessingErr> {
        let holding = {
            let mut cast = stage.cast();
            let holding = cast.holding.entry(self.id).or_default();
            *holding += 1;
            *holding
        };
        stage.note(if holding == 1 { UP } else { OVERLAP }, &path);
        Ok(Hold {
            id: self.id,
            stage,
            path,
            leaving: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Command>,
        Command(exit): Command,
        hold: &mut Hold,
    ) -> Result<(), ActorProcessingErr> {
        hold.leaving = true;
        match exit {
            Exit::StopItself => {
                myself.stop(None);
                Ok(())
            }
            exit => end(exit),
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Command>,
        hold: &mut Hold,
    ) -> Result<(), ActorProcessingErr> {
        hold.stage.note(POST_STOP, &hold.path);
        if hold.leaving {
            return Ok(());
        }
        match self.on_stop {
            OnStop::Obey => {}
            OnStop::Linger => sleep(LINGERS).await,
            OnStop::Stall => sleep(STALLS).await,
            OnStop::Normal => return end(Exit::Normal),
            OnStop::Fail => return end(Exit::Fail),
        }
        Ok(())
    }
}

/// Ends during its initialisation.
struct Stillborn;

impl Actor for Stillborn {
    type Msg = Command;
    type State = ();
    type Arguments = Exit;

    async fn pre_start(&self, _: ActorRef<Command>, exit: Exit) -> Result<(), ActorProcessingErr> {
        end(exit)
    }
}
