//! The ractor shell of a supervisor, and how it deals with the ends of its children.

mod calls;

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_lifecycle::{
    Child, ChildKey, ChildSpec, ChildState, Exit, ExitReason, Incarnation, Node, ReportContext,
    Restart, Scope, StartContext, StartError, WallTime,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tracing::Instrument as _;

use crate::child::{Next, Parent, Start, comes_back, is_reported, let_others_run};
use crate::children::{ChildEntry, Children, Run};
use crate::intensity::RestartWindow;
use crate::left_behind::LeftBehind;
use crate::message::{DynamicMsg, QueueDoor, SupervisorMsg};
use crate::watchdog::Watchdogs;
use crate::{
    AutoShutdown, FailedToStartChild, RestartChildError, StartChildError, Strategy, SupervisorSpec,
    TerminateChildError, event,
};

/// The ractor shell of a supervisor.
pub(crate) struct SupervisorActor;

impl SupervisorActor {
    pub(crate) async fn spawn(
        spec: SupervisorSpec,
        context: StartContext,
    ) -> Result<Child, StartError> {
        let scope = context.scope().clone();
        let node = Arc::clone(context.node());
        context
            .spawn_with::<Self, QueueDoor>(Self, (spec, scope, node))
            .await
    }
}

pub(crate) struct State {
    spec: SupervisorSpec,
    parent: Parent,
    children: Children,
    window: RestartWindow,
    watchdogs: Watchdogs,
    left_behind: LeftBehind,
    /// How many ends it has heard of.
    heard: u32,
}

impl Drop for State {
    /// A supervisor that is killed cannot stop its children: they are asked to stop by themselves.
    fn drop(&mut self) {
        let orphans = self.children.iter().filter_map(ChildEntry::alive);
        self.parent.release(orphans.collect());
    }
}

impl Actor for SupervisorActor {
    type Msg = SupervisorMsg;
    type State = State;
    type Arguments = (SupervisorSpec, Scope, Arc<Node>);

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        (spec, scope, node): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        node.expect_children(spec.children.len());
        let ids = || spec.children.iter().map(|child| &**child.id());
        let left_behind = {
            // Not made for a first start, where nothing can be left.
            let ids = LazyCell::new(|| ids().collect::<HashSet<_>>());
            LeftBehind::clear(&node, |id| ids.contains(id))
        };
        let mut arranged = node.arrange_children(ids());
        let mut state = State {
            parent: Parent::new(scope, node, myself, spec.children.len()),
            window: RestartWindow::new(spec.intensity),
            children: Children::with_capacity(spec.children.len()),
            watchdogs: Watchdogs::default(),
            left_behind,
            heard: 0,
            spec,
        };
        let specs = Arc::clone(&state.spec.children);
        for child in specs.iter() {
            // Where it is there already it has its place in the order.
            let place = state.parent.node.add_arranged(&mut arranged, child.id());
            let key = state.add(child.clone(), place);
            match state.start(key).await {
                Start::Running(number, _) => state.note_started(key, number),
                Start::Ignored => {
                    if child.restart_type() == Restart::Temporary {
                        state.forget(key);
                    }
                }
                Start::Failed(reason) => {
                    if let Some(child) = state.children.get(key) {
                        state.report(ReportContext::StartError, &child.node, &reason);
                    }
                    // It holds nothing to stop; like the others it keeps its node for the next attempt.
                    state.stop_all().await;
                    let failed = FailedToStartChild {
                        id: child.id().to_string(),
                        reason,
                    };
                    let cause = perennial_lifecycle::Cause::new(failed);
                    return Err(Exit(ExitReason::ShutdownWith(cause)).into());
                }
            }
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Ended { key, run, at } => {
                state.heard = state.heard.wrapping_add(1);
                state.expect_ends();
                state.child_ended(key, &run, at).await?;
            }
            // Boxed, like all that is rare below: an end would carry the room for it from hand to hand.
            message => state.take(message).boxed().await?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMsg>,
        _: SupervisionEvent,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Children are not linked by ractor, which would kill them with their parent; their own ends
        // report them.
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

fn refuse(message: DynamicMsg) {
    match message {
        DynamicMsg::Start {
            arguments, reply, ..
        } => {
            drop(arguments);
            drop(reply.send(Err(StartChildError::Arguments)));
        }
        DynamicMsg::Terminate((node, _), reply) => {
            let id = node.path().id().to_owned();
            drop(reply.send(Err(TerminateChildError::NotFound { id })));
        }
        DynamicMsg::Bounce((node, _), reply) => {
            let id = node.path().id().to_owned();
            drop(reply.send(Err(RestartChildError::NotFound { id })));
        }
        DynamicMsg::ChildSpec(_, reply) => drop(reply.send(None)),
        DynamicMsg::Launched(..) | DynamicMsg::Retry(..) | DynamicMsg::Stopped(_) => {}
    }
}

impl State {
    /// Takes any message but that of an end.
    async fn take(&mut self, message: SupervisorMsg) -> Result<(), Exit> {
        self.left_behind.sweep(&self.parent.node, &self.children);
        // An answer that nobody waits for any more is dropped: the caller gave up.
        match message {
            // Dealt with before.
            SupervisorMsg::Ended { .. } => {}
            SupervisorMsg::Retry(key) => self.retry(key).await?,
            SupervisorMsg::Due(key, ticket) => self.due(key, ticket).await,
            SupervisorMsg::Stop(reason) => {
                self.stop_all().await;
                return Err(Exit(reason));
            }
            SupervisorMsg::StartChild(spec, reply) => {
                drop(reply.send(self.start_child(*spec).await));
            }
            SupervisorMsg::TerminateChild(id, reply) => {
                drop(reply.send(self.terminate_child(&id).await));
            }
            SupervisorMsg::RestartChild(id, reply) => {
                drop(reply.send(self.restart_child(&id).await));
            }
            SupervisorMsg::BounceChild(id, reply) => {
                drop(reply.send(self.bounce_child(&id).await));
            }
            SupervisorMsg::ResumeChild(id, reply) => {
                drop(reply.send(self.resume_child(&id).await));
            }
            SupervisorMsg::DeleteChild(id, reply) => drop(reply.send(self.delete_child(&id))),
            SupervisorMsg::WhichChildren(reply) => drop(reply.send(self.which_children())),
            SupervisorMsg::CountChildren(reply) => drop(reply.send(self.count_children())),
            SupervisorMsg::ChildSpec(id, reply) => {
                let key = self.find_child(&id);
                let spec = key.and_then(|key| self.children.get(key));
                drop(reply.send(spec.map(|child| child.spec.clone())));
            }
            // Only a handle that was made for the wrong place sends one.
            SupervisorMsg::Dynamic(message) => refuse(message),
        }
        Ok(())
    }

    fn find_child(&self, id: &str) -> Option<ChildKey> {
        self.children.find(&self.parent.node, id)
    }

    fn add(&mut self, spec: ChildSpec, node: Arc<Node>) -> ChildKey {
        node.set_spec(spec.kind(), spec.restart_type(), spec.shutdown_type());
        let watchdog = spec.watchdog_setting();
        let key = self.children.push(ChildEntry::new(spec, Arc::clone(&node)));
        if let Some(watchdog) = watchdog {
            self.watchdogs.watch(key, &node, watchdog, &self.parent);
        }
        key
    }

    fn forget(&mut self, key: ChildKey) {
        self.watchdogs.forget(key);
        if let Some(child) = self.children.remove(key) {
            self.left_behind.vacate(&self.parent.node, child.spec.id());
        }
    }

    fn report(&self, context: ReportContext, child: &Node, reason: &ExitReason) {
        self.parent.report(context, child, reason);
    }

    fn note_started(&self, key: ChildKey, incarnation: u64) {
        if let Some(child) = self.children.get(key) {
            event::started(&self.parent.scope, &child.node, incarnation);
        }
    }

    /// Starts a child and records what came of it; a failed one is left stopped.
    async fn start(&mut self, key: ChildKey) -> Start {
        let Some(child) = self.children.get(key) else {
            return Start::Ignored;
        };
        let launch = self.parent.start(key, child, &child.node).await;
        let landed = launch.settle();
        match self.children.get_mut(key) {
            Some(child) => self.parent.settle(child, landed),
            None => Start::Ignored,
        }
    }

    /// Looks at the children whose ends are next in the queue, where many have ended at once: so each is brought from
    /// memory in three steps, none of which waits for another, while those before it are started.
    fn expect_ends(&self) {
        if self.heard == self.parent.ends() {
            return;
        }
        let coming = |ahead| {
            let key = self.parent.whose_end(self.heard.wrapping_add(ahead))?;
            self.children.get(key)
        };
        if let Some(child) = coming(2) {
            std::hint::black_box((child.restart, child.is_plain));
        }
        if let Some(child) = coming(1) {
            std::hint::black_box(child.spec.kind());
            if let Run::Alive(run) = &child.run {
                run.look();
            }
            child.node.look();
        }
        if let Some(child) = coming(0)
            && let Run::Alive(run) = &child.run
        {
            run.expect_end();
        }
    }

    async fn child_ended(
        &mut self,
        key: ChildKey,
        ended: &Arc<Incarnation>,
        at: WallTime,
    ) -> Result<(), Exit> {
        let (Some(child), Some(reason)) = (self.children.get_mut(key), ended.exit_reason()) else {
            return Ok(());
        };
        // Stopped by us, or by a group restart, before the notice was read: it has been dealt with.
        if !child.is_run(ended) {
            return Ok(());
        }
        // Let go with the notice, when all is done.
        let _before = std::mem::replace(&mut child.run, Run::Stopped);
        let restart = child.restart;
        // A restart will need it: so it is on its way from memory.
        std::hint::black_box((child.is_plain, child.spec.kind()));
        if is_reported(restart, reason) {
            self.parent.report_end(&child.node, reason, at);
        }
        if comes_back(restart, reason) {
            let ran = child.ran(ended);
            let span = event::restart_span(&self.parent.node, &child.spec, reason);
            if span.is_none() {
                return self.restart(key, ran).await;
            }
            return self.restart(key, ran).instrument(span).boxed().await;
        }
        let significant = child.spec.is_significant();
        let node = Arc::clone(&child.node);
        if restart == Restart::Temporary {
            self.forget(key);
        } else {
            // Only an operator, or a restart of its group, would start it again.
            node.retire();
        }
        if significant && self.shuts_down_by_itself() {
            self.parent.node.escalate(&node);
            self.stop_all().boxed().await;
            return Err(Exit(ExitReason::Shutdown));
        }
        Ok(())
    }

    /// Says whether the end of a significant child ends the supervisor.
    fn shuts_down_by_itself(&self) -> bool {
        match self.spec.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self
                .children
                .iter()
                .any(|child| child.spec.is_significant() && !matches!(child.run, Run::Stopped)),
        }
    }

    async fn retry(&mut self, key: ChildKey) -> Result<(), Exit> {
        if !self.run_is(key, |run| matches!(run, Run::Restarting)) {
            // Restarted with its group, bounced, terminated or deleted meanwhile.
            return Ok(());
        }
        let holds_up = self.holds_up(key);
        self.restart(key, Duration::ZERO).await?;
        if holds_up && self.run_is(key, |run| matches!(run, Run::Waiting(_))) {
            // Nobody waits for what is put off.
            self.start_behind(Some(key)).await;
        }
        Ok(())
    }

    /// The time for which a restart was put off is over.
    async fn due(&mut self, key: ChildKey, ticket: u64) {
        match self.children.get(key).map(|child| &child.run) {
            Some(Run::Waiting(pause)) if pause.ticket == ticket => self.end_pause(key).await,
            // Restarted with its group, resumed, terminated or deleted meanwhile.
            _ => {}
        }
    }

    /// Decides about the restart of a child that had run for `ran`; zero for a start that failed.
    async fn restart(&mut self, key: ChildKey, ran: Duration) -> Result<(), Exit> {
        let Some(child) = self.children.get_mut(key) else {
            return Ok(());
        };
        match self.parent.decide(key, child, &mut self.window, ran) {
            Next::Restart => self.restart_now(key).await,
            Next::Later => {}
            Next::GiveUp => {
                self.stop_all().boxed().await;
                return Err(Exit(ExitReason::Shutdown));
            }
        }
        Ok(())
    }

    /// Begins a restart that was put off.
    async fn end_pause(&mut self, key: ChildKey) {
        match self.children.get_mut(key) {
            // Its group went on without it, and is not disturbed by a probe.
            Some(child) if child.is_quarantined() => {
                child.run = Run::Stopped;
                self.start_again(key, false).await;
            }
            _ => self.restart_now(key).await,
        }
    }

    async fn restart_now(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        // Whatever it waited for, it no longer does.
        child.run = Run::Stopped;
        if self.spec.strategy != Strategy::OneForOne {
            // Others are stopped first.
            child.node.set_state(ChildState::Restarting);
        }
        match self.spec.strategy {
            Strategy::OneForOne => {
                self.start_again(key, false).await;
            }
            Strategy::OneForAll => self.restart_group(None).boxed().await,
            Strategy::RestForOne => {
                let before = self.children.before(Some(key));
                self.restart_group(before).boxed().await;
            }
        }
    }

    /// Restarts every child behind `before` (all of them for `None`): stop in reverse order, start in order.
    ///
    /// One that is in quarantine stays there.
    async fn restart_group(&mut self, before: Option<ChildKey>) {
        let mut at = self.children.before(None);
        while let Some(key) = at {
            if at == before {
                break;
            }
            at = self.children.before(Some(key));
            if self.is_quarantined(key) {
                continue;
            }
            self.stop(key).await;
            let temporary = self
                .children
                .get(key)
                .is_some_and(|child| child.spec.restart_type() == Restart::Temporary);
            if temporary {
                self.forget(key);
            }
        }
        self.start_behind(before).await;
    }

    /// Starts all behind `before` (all children for `None`) that are stopped, in order, up to one that fails.
    async fn start_behind(&mut self, before: Option<ChildKey>) {
        let mut at = self.children.after(before);
        while let Some(key) = at {
            let is_stopped = self.run_is(key, |run| matches!(run, Run::Stopped));
            if is_stopped && !self.start_again(key, true).await {
                return;
            }
            at = self.children.after(Some(key));
        }
    }

    fn run_is(&self, key: ChildKey, is: impl FnOnce(&Run) -> bool) -> bool {
        self.children.get(key).is_some_and(|child| is(&child.run))
    }

    /// Says whether those behind it in its group wait until it is restarted.
    fn holds_up(&self, key: ChildKey) -> bool {
        let child = self.children.get(key);
        child.is_some_and(|child| matches!(child.run, Run::Restarting) && child.holds_up)
    }

    fn is_quarantined(&self, key: ChildKey) -> bool {
        self.children
            .get(key)
            .is_some_and(ChildEntry::is_quarantined)
    }

    /// Starts a child as part of a restart; on failure it is `Restarting` and a retry is queued, for which those
    /// behind it wait if it `holds_up` its group.
    async fn start_again(&mut self, key: ChildKey, holds_up: bool) -> bool {
        match self.start(key).await {
            Start::Running(number, _) => {
                self.note_restarted(key, number).await;
                true
            }
            Start::Ignored => true,
            Start::Failed(reason) => {
                if let Some(child) = self.children.get_mut(key) {
                    child.run = Run::Restarting;
                    child.holds_up = holds_up;
                    child.node.set_state(ChildState::Restarting);
                    let node = Arc::clone(&child.node);
                    self.report(ReportContext::StartError, &node, &reason);
                }
                // Behind what waits already. Fails only when this supervisor is ending.
                let retry = SupervisorMsg::Retry(key);
                drop(self.parent.queue.send_message(retry));
                false
            }
        }
    }

    /// Tells that a child was restarted, or lets its run do so.
    async fn note_restarted(&self, key: ChildKey, incarnation: u64) {
        let (Some(child), scope) = (self.children.get(key), &self.parent.scope) else {
            return;
        };
        child.node.count_restart();
        if self.spec.strategy != Strategy::OneForOne || self.heard != self.parent.ends() {
            event::restarted(scope, &child.node, incarnation);
            return;
        }
        // Nobody else waits for this supervisor: so whoever waits for the child comes before what is left to be done here,
        // be it only that the queue is looked into.
        match &child.run {
            // In a log the restart belongs to its span, which the run knows nothing of.
            Run::Alive(run) if !event::is_logged() && run.leave_restart_to_tell() => {
                let_others_run().await;
                if run.take_restart_to_tell() {
                    event::restarted(scope, &child.node, incarnation);
                }
            }
            _ => {
                event::restarted(scope, &child.node, incarnation);
                let_others_run().await;
            }
        }
    }

    /// Stops a child by its spec and waits for its end.
    async fn stop(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        self.parent.stop_and_report(child).await;
    }

    /// Stops all children in reverse start order, one at a time, and forgets them.
    async fn stop_all(&mut self) {
        while let Some(key) = self.children.before(None) {
            self.stop(key).await;
            self.watchdogs.forget(key);
            // The node stays: a supervisor that starts anew lives at the same places.
            drop(self.children.remove(key));
        }
    }
}
