use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_lifecycle::{
    ChildKind, ChildSpec, Exit, ExitReason, Node, Scope, StartContext, StartError, Started,
};
use perennial_supervisor::{
    DynamicChild, DynamicSupervisor, RestartIntensity, Supervisor, SupervisorBuilder,
    SupervisorSpecError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::dynamic::{self, AnySpec};
use super::reason::Reason;
use super::record::{Flags, Init, OnShutdown, Part, Plan, Spec, StartPlan};
use super::story::{CALLED, GONE, Mark, ROOT, Recorder, SUPERVISOR_UP, WORKER_UP, instance};

/// How often one start function is called at most; the recordings stay far below it.
const MAX_CALLS: usize = 2000;

/// What the children of one scenario share: who was started how often, and who is alive.
pub(crate) struct Stage {
    scope: Scope,
    cast: Mutex<Cast>,
}

#[derive(Default)]
struct Cast {
    calls: HashMap<String, usize>,
    /// The node that the last call for an id was made for.
    nodes: HashMap<String, Arc<Node>>,
    workers: HashMap<String, ActorRef<Command>>,
    /// Instance names by node and run. The node is kept, so that no other has its address.
    instances: HashMap<(usize, u64), (String, Arc<Node>)>,
    gate: Option<(String, Arc<Gate>)>,
    /// Supervisors whose children are dynamic.
    dynamic: BTreeSet<String>,
    /// The last run of a dynamic child that came up.
    runs: HashMap<String, DynamicChild>,
}

/// Why a supervisor cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSupervisor {
    #[error(transparent)]
    Spec(#[from] SupervisorSpecError),
    /// Ours takes one by its type, so that nobody gets as far as building it.
    #[error("a dynamic supervisor has one template")]
    Templates,
}

/// Blocks one call of a start function.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) reached: Notify,
    pub(crate) opened: Notify,
}

impl Stage {
    pub(crate) fn new() -> Arc<Self> {
        let stage = Self {
            scope: Scope::new(ROOT),
            cast: Mutex::default(),
        };
        let root = Arc::clone(stage.scope.root());
        let mut cast = stage.cast();
        cast.instances
            .insert(address(&root, 1), (instance(ROOT, 1), Arc::clone(&root)));
        cast.nodes.insert(ROOT.to_owned(), root);
        drop(cast);
        Arc::new(stage)
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn record(&self) -> Recorder {
        Recorder::new(self.scope.events())
    }

    /// Returns the place where the process of this id lives now.
    pub(crate) fn node(&self, id: &str) -> Option<Arc<Node>> {
        self.cast().nodes.get(id).cloned()
    }

    pub(crate) fn supervisor(&self, id: Option<&str>) -> Option<Supervisor> {
        Supervisor::at(&self.node(id.unwrap_or(ROOT))?)
    }

    pub(crate) fn dynamic_supervisor(&self, id: Option<&str>) -> Option<DynamicSupervisor<Part>> {
        DynamicSupervisor::at(&self.node(id.unwrap_or(ROOT))?)
    }

    pub(crate) fn is_dynamic(&self, id: &str) -> bool {
        self.cast().dynamic.contains(id)
    }

    /// Returns the last run of a dynamic child that came up, dead or alive.
    pub(crate) fn run(&self, name: &str) -> Option<DynamicChild> {
        self.cast().runs.get(name).cloned()
    }

    pub(crate) fn worker(&self, id: &str) -> Option<ActorRef<Command>> {
        self.cast().workers.get(id).cloned()
    }

    /// Names the run of the actor at `node` as the recordings do.
    pub(crate) fn instance(&self, node: &Arc<Node>, incarnation: u64) -> Value {
        let cast = self.cast();
        let known = cast.instances.get(&address(node, incarnation));
        known.map_or_else(
            || json!(format!("{} unknown run {incarnation}", node.path())),
            |(name, _)| json!(name),
        )
    }

    /// Makes the next call of the start function of `id` block.
    pub(crate) fn arm(&self, id: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.cast().gate = Some((id.to_owned(), Arc::clone(&gate)));
        gate
    }

    /// Builds the top supervisor.
    pub(crate) fn build_root(
        self: &Arc<Self>,
        flags: &Flags,
        children: &[Spec],
    ) -> Result<AnySpec, BadSupervisor> {
        self.build(ROOT, flags, children)
    }

    fn build(
        self: &Arc<Self>,
        id: &str,
        flags: &Flags,
        children: &[Spec],
    ) -> Result<AnySpec, BadSupervisor> {
        // Another spec may have had the id before.
        self.cast().dynamic.remove(id);
        if let Some(Plan::Dynamic(_)) = flags.strategy {
            self.cast().dynamic.insert(id.to_owned());
            let [template] = children else {
                // Settings are checked before children.
                return Err(match flags.period_s {
                    Some(0) => SupervisorSpecError::ZeroPeriod.into(),
                    _ => BadSupervisor::Templates,
                });
            };
            return Ok(AnySpec::Dynamic(dynamic::build(self, flags, template)?));
        }
        let mut builder = settings(flags);
        for child in children {
            builder = builder.child(self.child(child));
        }
        Ok(AnySpec::Static(builder.build()?))
    }

    /// Turns a recorded child spec into ours; what is not recorded is not set.
    pub(crate) fn child(self: &Arc<Self>, spec: &Spec) -> ChildSpec {
        let stage = Arc::clone(self);
        let shared = Arc::new(spec.clone());
        let kind = spec.kind.unwrap_or(ChildKind::Worker);
        let mut child = ChildSpec::from_fn(spec.id.as_str(), kind, move |context| {
            let (stage, spec) = (Arc::clone(&stage), Arc::clone(&shared));
            async move { stage.start(&spec, context).await }
        });
        if let Some(restart) = spec.restart {
            child = child.restart(restart);
        }
        if let Some(significant) = spec.significant {
            child = child.significant(significant);
        }
        if let Some(shutdown) = spec.shutdown {
            child = child.shutdown(shutdown);
        }
        child
    }

    /// The start function of every child.
    pub(crate) async fn start(
        self: &Arc<Self>,
        spec: &Spec,
        context: StartContext,
    ) -> Result<Started, StartError> {
        let (call, gate) = self.enter(spec, &context);
        if let Some(gate) = gate {
            gate.reached.notify_one();
            gate.opened.notified().await;
        }
        if call > MAX_CALLS {
            // A supervisor that never gives up would never let the clock move on.
            std::future::pending::<()>().await;
        }
        let info = match spec.plan(call) {
            StartPlan::Ok => None,
            StartPlan::Info(info) => Some(info.as_str().into()),
            StartPlan::Ignore => return Ok(Started::Ignored),
            StartPlan::Error(reason) => return Err(StartError::new(reason.to_exit())),
            StartPlan::Panic(message) => panic!("{message}"),
            StartPlan::InitExit(reason) => {
                let child = context.spawn(Stillborn, reason.clone()).await?;
                return Ok(child.into());
            }
        };
        let node = Arc::clone(context.node());
        let child = match &spec.flags {
            None => {
                let worker = Worker {
                    id: spec.id.clone(),
                    on_shutdown: spec.on_shutdown.clone(),
                };
                let arguments = (Arc::clone(self), Mark::new(&context, spec, call));
                context.spawn(worker, arguments).await?
            }
            Some(flags) => {
                if flags.init == Some(Init::Ignore) {
                    return Ok(Started::Ignored);
                }
                let nested = self
                    .build(&spec.id, flags, &spec.children)
                    .map_err(|error| StartError::new(ExitReason::failed(error)))?
                    .into_child(spec.id.as_str());
                let mark = Mark::new(&context, spec, call);
                let Started::Running { child, .. } = (nested.start_fn())(context).await? else {
                    return Ok(Started::Ignored);
                };
                mark.note(SUPERVISOR_UP);
                child
            }
        };
        if let (Some(_), Some(run)) = (&spec.template, node.current()) {
            let run = DynamicChild::new(node, run);
            self.cast().runs.insert(spec.id.clone(), run);
        }
        Ok(Started::Running { child, info })
    }

    /// Counts a call of the start function of a child, and says where it is made.
    fn enter(&self, spec: &Spec, context: &StartContext) -> (usize, Option<Arc<Gate>>) {
        let mut cast = self.cast();
        let call = cast.calls.entry(spec.id.clone()).or_default();
        *call += 1;
        let call = *call;
        let node = Arc::clone(context.node());
        cast.instances.insert(
            address(&node, context.incarnation()),
            (instance(&spec.id, call), Arc::clone(&node)),
        );
        cast.nodes.insert(spec.id.clone(), node);
        // Another spec may have had the id before, and its process was a worker.
        cast.workers.remove(&spec.id);
        let gate = match cast.gate.take() {
            Some((id, gate)) if id == spec.id => Some(gate),
            other => {
                cast.gate = other;
                None
            }
        };
        drop(cast);
        Mark::new(context, spec, call).note(CALLED);
        (call, gate)
    }

    fn cast(&self) -> MutexGuard<'_, Cast> {
        self.cast.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(node: &Arc<Node>, incarnation: u64) -> (usize, u64) {
    (Arc::as_ptr(node).addr(), incarnation)
}

fn settings(flags: &Flags) -> SupervisorBuilder {
    let mut builder = Supervisor::builder();
    if let Some(Plan::Static(strategy)) = flags.strategy {
        builder = builder.strategy(strategy);
    }
    if let Some(intensity) = intensity(flags) {
        builder = builder.intensity(intensity);
    }
    if let Some(auto_shutdown) = flags.auto_shutdown {
        builder = builder.auto_shutdown(auto_shutdown);
    }
    builder
}

/// Returns the recorded intensity, if any of it was recorded.
pub(crate) fn intensity(flags: &Flags) -> Option<RestartIntensity> {
    if flags.intensity.is_none() && flags.period_s.is_none() {
        return None;
    }
    let default = RestartIntensity::default();
    let max = flags.intensity.unwrap_or(default.max());
    let period = flags.period_s.map_or(default.period(), Duration::from_secs);
    Some(RestartIntensity::new(max, period))
}

/// A worker's state. It notes that the process has ended: it is dropped on every way out.
struct Hold {
    mark: Mark,
    /// It ends by itself, so that it reacts to no stop request any more.
    leaving: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.mark.note(GONE);
    }
}

/// Tells a worker to end by itself.
#[derive(Debug)]
pub(crate) struct Command(pub(crate) Reason);

/// Ends as told, and reacts to a stop request as its spec says.
struct Worker {
    id: String,
    on_shutdown: OnShutdown,
}

impl Actor for Worker {
    type Msg = Command;
    type State = Hold;
    type Arguments = (Arc<Stage>, Mark);

    async fn pre_start(
        &self,
        myself: ActorRef<Command>,
        (stage, mark): Self::Arguments,
    ) -> Result<Hold, ActorProcessingErr> {
        stage.cast().workers.insert(self.id.clone(), myself);
        mark.note(WORKER_UP);
        Ok(Hold {
            mark,
            leaving: false,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Command>,
        Command(reason): Command,
        hold: &mut Hold,
    ) -> Result<(), ActorProcessingErr> {
        hold.leaving = true;
        end(&reason)
    }

    async fn post_stop(
        &self,
        _: ActorRef<Command>,
        hold: &mut Hold,
    ) -> Result<(), ActorProcessingErr> {
        if hold.leaving {
            return Ok(());
        }
        match &self.on_shutdown {
            OnShutdown::Stop | OnShutdown::NoTrap => Ok(()),
            OnShutdown::Ignore => std::future::pending().await,
            OnShutdown::DelayMs(delay) => {
                tokio::time::sleep(Duration::from_millis(*delay)).await;
                Ok(())
            }
            OnShutdown::Exit(reason) => end(reason),
        }
    }
}

/// Ends during its initialisation.
struct Stillborn;

impl Actor for Stillborn {
    type Msg = Command;
    type State = ();
    type Arguments = Reason;

    async fn pre_start(
        &self,
        _: ActorRef<Command>,
        reason: Reason,
    ) -> Result<(), ActorProcessingErr> {
        end(&reason)
    }
}

fn end(reason: &Reason) -> Result<(), ActorProcessingErr> {
    if let Some(message) = reason.panic() {
        panic!("{message}");
    }
    Err(Exit(reason.to_exit()).into())
}
