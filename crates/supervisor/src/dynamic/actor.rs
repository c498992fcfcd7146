//! The ractor shell of a dynamic supervisor, and how it deals with the ends of its children.

mod calls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use perennial_lifecycle::{
    Child, ChildKey, ChildState, Exit, ExitReason, Incarnation, Node, Scope, StartContext,
    StartError, WallTime,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::config::Settings;
use super::start::{Pending, Why};
use crate::child::{Next, Parent, comes_back, is_reported};
use crate::children::{ChildEntry, Children, Run};
use crate::intensity::RestartWindow;
use crate::left_behind::LeftBehind;
use crate::message::{QueueDoor, SupervisorMsg};
use crate::watchdog::Watchdogs;
use crate::{
    AutoShutdown, DeleteChildError, RestartChildError, StartChildError, TerminateChildError, event,
};

/// The ractor shell of a dynamic supervisor.
pub(super) struct DynamicActor;

impl DynamicActor {
    pub(super) async fn spawn(
        settings: Settings,
        context: StartContext,
    ) -> Result<Child, StartError> {
        let scope = context.scope().clone();
        let node = Arc::clone(context.node());
        context
            .spawn_with::<Self, QueueDoor>(Self, (settings, scope, node))
            .await
    }
}

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) parent: Parent,
    pub(super) children: Children,
    window: RestartWindow,
    watchdogs: Watchdogs,
    /// Starts beside the queue.
    pub(super) starting: HashMap<ChildKey, Pending>,
    /// How many of those, and of stops beside the queue, there were.
    pub(super) tickets: u64,
    /// Stops beside the queue; each says at which place.
    stopping: JoinSet<Arc<str>>,
    /// The children of those that have not been heard of, by ticket: their actors count as children.
    leaving: HashMap<u64, Leaving>,
    left_behind: LeftBehind,
}

/// A child that is being stopped beside the queue.
struct Leaving {
    child: ChildEntry,
    /// Those who asked for its stop as well.
    others: Vec<RpcReplyPort<Result<(), TerminateChildError>>>,
}

impl Drop for State {
    /// A supervisor that is killed cannot stop its children: they are asked to stop by themselves.
    fn drop(&mut self) {
        let orphans = self.children.iter().filter_map(ChildEntry::alive);
        self.parent.release(orphans.collect());
    }
}

impl Actor for DynamicActor {
    type Msg = SupervisorMsg;
    type State = State;
    type Arguments = (Settings, Scope, Arc<Node>);

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        (settings, scope, node): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let left_behind = LeftBehind::clear(&node, |_| false);
        Ok(State {
            parent: Parent::new(scope, node, myself, 0),
            window: RestartWindow::new(settings.intensity),
            children: Children::default(),
            watchdogs: Watchdogs::default(),
            starting: HashMap::new(),
            tickets: 0,
            stopping: JoinSet::new(),
            leaving: HashMap::new(),
            left_behind,
            settings,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if !matches!(message, SupervisorMsg::Ended { .. }) {
            let (left_behind, parent) = (&mut state.left_behind, &state.parent);
            left_behind.sweep(&parent.node, &state.children);
        }
        let path = || state.parent.node.path().clone();
        // An answer that nobody waits for any more is dropped: the caller gave up.
        match message {
            SupervisorMsg::Ended { key, run, at } => state.child_ended(key, run, at).await?,
            SupervisorMsg::Due(key, ticket) => state.due(key, ticket).await,
            SupervisorMsg::Stop(reason) => {
                state.stop_all().await;
                return Err(Exit(reason).into());
            }
            SupervisorMsg::Dynamic(message) => state.dynamic(message).await?,
            SupervisorMsg::WhichChildren(reply) => drop(reply.send(state.which_children())),
            SupervisorMsg::CountChildren(reply) => drop(reply.send(state.count_children())),
            SupervisorMsg::ChildSpec(id, reply) => {
                let template = state.settings.template.spec();
                drop(reply.send((*template.id() == id).then(|| template.clone())));
            }
            SupervisorMsg::StartChild(_, reply) => {
                drop(reply.send(Err(StartChildError::Dynamic { path: path() })));
            }
            SupervisorMsg::TerminateChild(id, reply) => match state.find_child(&id) {
                Some(key) => state.terminate(key, reply).await,
                None => drop(reply.send(Err(TerminateChildError::Dynamic { path: path() }))),
            },
            SupervisorMsg::BounceChild(id, reply) => {
                let key = state.find_child(&id);
                state.bounce(key, &id, reply).await;
            }
            SupervisorMsg::ResumeChild(id, reply) => state.resume(&id, reply).await,
            SupervisorMsg::RestartChild(_, reply) => {
                drop(reply.send(Err(RestartChildError::Dynamic { path: path() })));
            }
            SupervisorMsg::DeleteChild(_, reply) => {
                drop(reply.send(Err(DeleteChildError::Dynamic { path: path() })));
            }
            // Only a static supervisor sends itself one.
            SupervisorMsg::Retry(..) => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMsg>,
        _: SupervisionEvent,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Children are not linked by ractor; their own ends report them.
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<SupervisorMsg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Only when somebody stopped it through ractor: every other way out has stopped them already.
        state.stop_all().await;
        Ok(())
    }
}

impl State {
    fn find_child(&self, id: &str) -> Option<ChildKey> {
        self.children.find(&self.parent.node, id)
    }

    /// Removes a place, unless it is a child's by now.
    fn vacate(&mut self, id: &str) {
        if self.find_child(id).is_none() {
            self.left_behind.vacate(&self.parent.node, id);
        }
    }

    pub(super) fn remove(&mut self, key: ChildKey) -> Option<ChildEntry> {
        self.watchdogs.forget(key);
        self.children.remove(key)
    }

    pub(super) fn forget(&mut self, key: ChildKey) -> Option<ChildEntry> {
        let child = self.remove(key)?;
        self.vacate(child.spec.id());
        Some(child)
    }

    async fn child_ended(
        &mut self,
        key: ChildKey,
        ended: Arc<Incarnation>,
        at: WallTime,
    ) -> Result<(), Exit> {
        if let Some(pending) = self.starting.get_mut(&key) {
            pending.ended = Some((ended, at));
            return Ok(());
        }
        let (Some(child), Some(reason)) = (self.children.get_mut(key), ended.exit_reason()) else {
            return Ok(());
        };
        if !child.is_run(&ended) {
            return Ok(());
        }
        let restart = child.spec.restart_type();
        if is_reported(restart, reason) {
            self.parent.report_end(&child.node, reason, at);
        }
        if comes_back(restart, reason) {
            let ran = child.ran(&ended);
            child.run = Run::Restarting;
            let span = event::restart_span(&self.parent.node, &child.spec, reason);
            return self.restart(key, ran).instrument(span).await;
        }
        let significant = child.spec.is_significant();
        let node = Arc::clone(&child.node);
        self.forget(key);
        if significant && self.shuts_down_by_itself() {
            self.parent.node.escalate(&node);
            self.stop_all().await;
            return Err(Exit(ExitReason::Shutdown));
        }
        Ok(())
    }

    /// Says whether the end of a significant child ends the supervisor.
    fn shuts_down_by_itself(&self) -> bool {
        match self.settings.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => self.children.len() == 0,
        }
    }

    pub(super) async fn retry(&mut self, key: ChildKey, number: u64) -> Result<(), Exit> {
        // Bounced meanwhile, beside the queue.
        if self.starting.contains_key(&key) {
            return Ok(());
        }
        match self.children.get(key) {
            Some(child)
                if matches!(child.run, Run::Restarting) && child.node.incarnations() == number =>
            {
                self.restart(key, Duration::ZERO).await
            }
            // Terminated meanwhile, or bounced, which may have failed as well and has its own message then.
            _ => Ok(()),
        }
    }

    /// The time for which a restart was put off is over.
    async fn due(&mut self, key: ChildKey, ticket: u64) {
        match self.children.get(key).map(|child| &child.run) {
            Some(Run::Waiting(pause)) if pause.ticket == ticket => {
                self.restart_now(key, Why::Restart).await;
            }
            // Resumed or terminated meanwhile.
            _ => {}
        }
    }

    /// Decides about the restart of a child that had run for `ran`; zero for a start that failed.
    async fn restart(&mut self, key: ChildKey, ran: Duration) -> Result<(), Exit> {
        let Some(child) = self.children.get_mut(key) else {
            return Ok(());
        };
        if let Some(max) = &self.settings.max_restarts {
            self.window.set_max(max());
        }
        match self.parent.decide(key, child, &mut self.window, ran) {
            Next::Restart => self.restart_now(key, Why::Restart).await,
            Next::Later => {}
            Next::GiveUp => {
                self.forget(key);
                self.stop_all().await;
                return Err(Exit(ExitReason::Shutdown));
            }
        }
        Ok(())
    }

    async fn restart_now(&mut self, key: ChildKey, why: Why) {
        if let Some(child) = self.children.get_mut(key) {
            // Whatever it waited for, it no longer does.
            child.run = Run::Restarting;
            child.node.set_state(ChildState::Restarting);
        }
        self.begin(key, why).await;
    }

    /// Stops all children at once and waits for all of them: their timeouts begin together.
    async fn stop_all(&mut self) {
        let starting: Vec<ChildKey> = self.starting.keys().copied().collect();
        for key in starting {
            // Callers that still wait hear that the supervisor is down.
            drop(self.give_up_start(key).await);
        }
        let mut stops = Vec::with_capacity(self.children.len());
        // The youngest is asked first, as in a static supervisor; nobody waits for it before the others are.
        while let Some(key) = self.children.before(None) {
            if let Some(mut child) = self.remove(key) {
                let stop = self.parent.stop(&mut child);
                let id = Arc::clone(child.spec.id());
                stops.push(async move { (id, stop.await) });
            }
        }
        let mut errors: Vec<(ExitReason, usize)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        // The eldest first again, so that the reports are in the order of the starts.
        for (id, unexpected) in join_all(stops).await.into_iter().rev() {
            self.vacate(&id);
            let Some(reason) = unexpected else { continue };
            let at = *known.entry(reason.to_string()).or_insert(errors.len());
            match errors.get_mut(at) {
                Some((_, count)) => *count += 1,
                None => errors.push((reason, 1)),
            }
        }
        // Nobody will hear of these any more.
        while let Some(stopped) = self.stopping.join_next().await {
            if let Ok(id) = stopped {
                self.vacate(&id);
            }
        }
        for (_, leaving) in self.leaving.drain() {
            leaving.answer();
        }
        let template = self.settings.template.spec().id();
        for (reason, count) in errors {
            let Parent { scope, node, .. } = &self.parent;
            event::shutdown_errors(scope, node, template, &reason, count);
        }
    }
}
