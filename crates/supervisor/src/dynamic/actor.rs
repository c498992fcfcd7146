use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use perennial_lifecycle::{
    Child, ChildKey, ChildKind, ChildState, Exit, ExitReason, Incarnation, Node, ReportContext,
    Scope, StartContext, StartError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::config::Settings;
use super::start::{Pending, Why};
use crate::child::{Parent, comes_back, is_reported};
use crate::children::{ChildEntry, Children, Run};
use crate::handle::{ChildCount, ChildInfo};
use crate::intensity::RestartWindow;
use crate::message::{self, DynamicMsg, SupervisorMsg};
use crate::{
    AutoShutdown, DeleteChildError, FailedToStartChild, RestartChildError, StartChildError,
    TerminateChildError, event,
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
            .spawn_with(Self, (settings, scope, node), message::door())
            .await
    }
}

pub(super) struct State {
    pub(super) myself: ActorRef<SupervisorMsg>,
    pub(super) settings: Settings,
    pub(super) parent: Parent,
    pub(super) children: Children,
    window: RestartWindow,
    /// Starts beside the queue.
    pub(super) starting: HashMap<ChildKey, Pending>,
    /// Stops beside the queue.
    stopping: JoinSet<()>,
    /// Places whose actors a killed predecessor has left behind; they stay until they are empty, so that
    /// nobody starts at such a place beside the actor that is still there.
    left_behind: Vec<Arc<Node>>,
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
        let mut left_behind = node.children();
        left_behind.retain(|child| child.current().is_some());
        node.retain_children(|id| left_behind.iter().any(|child| child.path().id() == id));
        Ok(State {
            parent: Parent::new(scope, node, myself.clone()),
            window: RestartWindow::new(settings.intensity),
            children: Children::default(),
            starting: HashMap::new(),
            stopping: JoinSet::new(),
            left_behind,
            myself,
            settings,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let path = || state.parent.node.path().clone();
        // An answer that nobody waits for any more is dropped: the caller gave up.
        match message {
            SupervisorMsg::Ended {
                key,
                incarnation,
                reason,
            } => state.child_ended(key, incarnation, reason).await?,
            SupervisorMsg::Retry(key) => state.retry(key).await?,
            SupervisorMsg::Stop(reason) => {
                state.stop_all().await;
                return Err(Exit(reason).into());
            }
            SupervisorMsg::Dynamic(message) => state.dynamic(message).await,
            SupervisorMsg::WhichChildren(reply) => drop(reply.send(state.which_children())),
            SupervisorMsg::CountChildren(reply) => drop(reply.send(state.count_children())),
            SupervisorMsg::ChildSpec(id, reply) => {
                let template = state.settings.template.spec();
                drop(reply.send((*template.id() == id).then(|| template.clone())));
            }
            SupervisorMsg::StartChild(_, reply) => {
                drop(reply.send(Err(StartChildError::Dynamic { path: path() })));
            }
            SupervisorMsg::TerminateChild(_, reply) => {
                drop(reply.send(Err(TerminateChildError::Dynamic { path: path() })));
            }
            SupervisorMsg::RestartChild(_, reply) | SupervisorMsg::BounceChild(_, reply) => {
                drop(reply.send(Err(RestartChildError::Dynamic { path: path() })));
            }
            SupervisorMsg::DeleteChild(_, reply) => {
                drop(reply.send(Err(DeleteChildError::Dynamic { path: path() })));
            }
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
    async fn dynamic(&mut self, message: DynamicMsg) {
        match message {
            DynamicMsg::Start {
                id,
                arguments,
                reply,
            } => match self.add(id, arguments) {
                Ok(key) => self.begin(key, Why::Call(reply)).await,
                Err(error) => drop(reply.send(Err(error))),
            },
            DynamicMsg::Terminate((node, run), reply) => match self.find(&node, &run) {
                Some(key) => self.terminate(key, reply).await,
                // What is over needs no stop, whoever's child it was.
                None if run.exit_reason().is_some() => drop(reply.send(Ok(()))),
                None => {
                    let id = node.path().id().to_owned();
                    drop(reply.send(Err(TerminateChildError::NotFound { id })));
                }
            },
            DynamicMsg::TerminateNamed(id, reply) => match self.children.find(&id) {
                Some(key) => self.terminate(key, reply).await,
                None => {
                    let id = id.to_string();
                    drop(reply.send(Err(TerminateChildError::NotFound { id })));
                }
            },
            DynamicMsg::ChildSpec((node, run), reply) => {
                let ours = self.find(&node, &run).is_some() || run.exit_reason().is_some();
                drop(reply.send(ours.then(|| self.settings.template.spec().clone())));
            }
            DynamicMsg::Launched(key, launch) => self.launched_beside(key, launch),
            DynamicMsg::Stopped(id) => {
                while self.stopping.try_join_next().is_some() {}
                self.vacate(&id);
            }
        }
    }

    /// Finds the child that `run` is, or was the last run of.
    fn find(&self, node: &Arc<Node>, run: &Incarnation) -> Option<ChildKey> {
        let key = self.children.find(node.path().id())?;
        let child = self.children.get(key)?;
        (Arc::ptr_eq(&child.node, node) && child.last == run.number()).then_some(key)
    }

    fn add(
        &mut self,
        id: Option<Arc<str>>,
        arguments: Box<dyn Any + Send>,
    ) -> Result<ChildKey, StartChildError> {
        if let Some(known) = id.as_ref().and_then(|id| self.children.find(id))
            && let Some(known) = self.children.get(known)
        {
            let id = known.spec.id().to_string();
            return Err(match &known.run {
                Run::Alive(incarnation) => StartChildError::AlreadyStarted {
                    id,
                    node: Arc::clone(&known.node),
                    incarnation: incarnation.number(),
                },
                Run::Restarting | Run::Stopped => StartChildError::AlreadyPresent { id },
            });
        }
        if let Some(limit) = self.settings.max_children
            && u32::try_from(self.children.len()).is_ok_and(|count| count >= limit.get())
        {
            let path = self.parent.node.path().clone();
            return Err(StartChildError::MaxChildren { path, limit });
        }
        let id = id.unwrap_or_else(|| self.free_id());
        let spec = self.settings.template.make(id, arguments);
        let spec = spec.ok_or(StartChildError::Arguments)?;
        spec.validate().map_err(crate::SupervisorSpecError::from)?;
        self.sweep();
        let node = self.parent.node.child_at_end(spec.id());
        node.set_spec(spec.kind(), spec.restart_type(), spec.shutdown_type());
        Ok(self.children.push(ChildEntry {
            spec,
            node,
            run: Run::Stopped,
            last: 0,
        }))
    }

    fn free_id(&self) -> Arc<str> {
        loop {
            let id = self.settings.template.next_id();
            // A name that somebody chose may look the same.
            if self.children.find(&id).is_none() {
                return id;
            }
        }
    }

    /// Removes the places that a predecessor left and that are empty by now.
    fn sweep(&mut self) {
        let left = std::mem::take(&mut self.left_behind);
        let (still, empty): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|node| node.current().is_some());
        self.left_behind = still;
        for node in empty {
            self.vacate(node.path().id());
        }
    }

    /// Removes a place, unless somebody lives there by now.
    fn vacate(&self, id: &str) {
        if self.children.find(id).is_none() {
            self.parent.node.remove_child(id);
        }
    }

    pub(super) fn forget(&mut self, key: ChildKey) -> Option<ChildEntry> {
        let child = self.children.remove(key)?;
        self.vacate(child.spec.id());
        Some(child)
    }

    async fn child_ended(
        &mut self,
        key: ChildKey,
        ended: Arc<Incarnation>,
        reason: ExitReason,
    ) -> Result<(), Exit> {
        if let Some(pending) = self.starting.get_mut(&key) {
            pending.ended = Some((ended, reason));
            return Ok(());
        }
        let Some(child) = self.children.get_mut(key) else {
            return Ok(());
        };
        if !matches!(&child.run, Run::Alive(current) if Arc::ptr_eq(current, &ended)) {
            return Ok(());
        }
        let id = Arc::clone(child.spec.id());
        let restart = child.spec.restart_type();
        if is_reported(restart, &reason) {
            self.parent
                .report(ReportContext::ChildTerminated, &id, &reason);
        }
        if comes_back(restart, &reason) {
            child.run = Run::Restarting;
            let span = event::restart_span(&self.parent.node, &id, &reason);
            return self.restart(key).instrument(span).await;
        }
        let significant = child.spec.is_significant();
        self.forget(key);
        if significant && self.shuts_down_by_itself() {
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

    async fn retry(&mut self, key: ChildKey) -> Result<(), Exit> {
        match self.children.get(key) {
            Some(child) if matches!(child.run, Run::Restarting) => self.restart(key).await,
            // Terminated meanwhile.
            _ => Ok(()),
        }
    }

    async fn restart(&mut self, key: ChildKey) -> Result<(), Exit> {
        if !self.window.allow(Instant::now()) {
            if let Some(child) = self.forget(key) {
                child.node.set_state(ChildState::Stopped);
                let exceeded = ExitReason::failed("reached_max_restart_intensity");
                self.parent
                    .report(ReportContext::Shutdown, child.spec.id(), &exceeded);
            }
            self.stop_all().await;
            return Err(Exit(ExitReason::Shutdown));
        }
        if let Some(child) = self.children.get(key) {
            child.node.set_state(ChildState::Restarting);
        }
        self.begin(key, Why::Restart).await;
        Ok(())
    }

    /// Stops a child and forgets it, in the queue or beside it.
    async fn terminate(
        &mut self,
        key: ChildKey,
        reply: RpcReplyPort<Result<(), TerminateChildError>>,
    ) {
        let given_up = self.give_up_start(key).await;
        let Some(mut child) = self.children.remove(key) else {
            return;
        };
        let id = Arc::clone(child.spec.id());
        if let Some(Why::Call(reply)) = given_up {
            let id = id.to_string();
            let reason = ExitReason::Shutdown;
            drop(reply.send(Err(FailedToStartChild { id, reason }.into())));
        }
        let stop = self.parent.stop(&mut child);
        let parent = self.parent.clone();
        let stop = async move {
            if let Some(unexpected) = stop.await {
                parent.report(ReportContext::ShutdownError, child.spec.id(), &unexpected);
            }
        };
        if !self.settings.concurrent {
            stop.await;
            self.vacate(&id);
            drop(reply.send(Ok(())));
            return;
        }
        let myself = self.myself.clone();
        self.stopping.spawn(async move {
            stop.await;
            // Before the answer, so that the place is empty for whoever heard it.
            let message = DynamicMsg::Stopped(id);
            drop(myself.send_message(SupervisorMsg::Dynamic(message)));
            drop(reply.send(Ok(())));
        });
    }

    /// Stops all children at once and waits for all of them: their timeouts begin together.
    async fn stop_all(&mut self) {
        let starting: Vec<ChildKey> = self.starting.keys().copied().collect();
        for key in starting {
            // Callers that still wait hear that the supervisor is down.
            drop(self.give_up_start(key).await);
        }
        let mut stops = Vec::with_capacity(self.children.len());
        while let Some(key) = self.children.after(None) {
            if let Some(mut child) = self.children.remove(key) {
                let stop = self.parent.stop(&mut child);
                let id = Arc::clone(child.spec.id());
                stops.push(async move { (id, stop.await) });
            }
        }
        let mut errors: Vec<(ExitReason, usize)> = Vec::new();
        for (id, unexpected) in join_all(stops).await {
            self.vacate(&id);
            let Some(reason) = unexpected else { continue };
            let text = reason.to_string();
            match errors.iter_mut().find(|(it, _)| it.to_string() == text) {
                Some((_, count)) => *count += 1,
                None => errors.push((reason, 1)),
            }
        }
        while self.stopping.join_next().await.is_some() {}
        let template = self.settings.template.spec().id();
        for (reason, count) in errors {
            let Parent { scope, node, .. } = &self.parent;
            event::shutdown_errors(scope, node, template, &reason, count);
        }
    }

    /// Lists the children, newest first; one that was never up is not there yet.
    fn which_children(&self) -> Vec<ChildInfo> {
        let mut list = Vec::with_capacity(self.children.len());
        let mut at = self.children.before(None);
        while let Some(key) = at {
            at = self.children.before(Some(key));
            if let Some(child) = self.children.get(key)
                && !matches!(child.run, Run::Stopped)
            {
                list.push(child.info());
            }
        }
        list
    }

    fn count_children(&self) -> ChildCount {
        let mut count = ChildCount {
            specs: 1,
            ..ChildCount::default()
        };
        for child in self.children.iter() {
            let active = match child.run {
                // Also one that is dead while its notice still waits, as in OTP.
                Run::Alive(_) => 1,
                Run::Restarting => 0,
                Run::Stopped => continue,
            };
            count.active += active;
            match child.spec.kind() {
                ChildKind::Supervisor => count.supervisors += 1,
                ChildKind::Worker => count.workers += 1,
            }
        }
        count
    }
}
