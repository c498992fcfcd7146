//! How a dynamic supervisor starts a child: in its queue, or beside it.

use std::pin::pin;
use std::sync::Arc;

use perennial_lifecycle::{ChildKey, ChildState, ExitReason, Incarnation, ReportContext, WallTime};
use ractor::RpcReplyPort;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::actor::State;
use super::handle::DynamicChild;
use crate::child::{Launch, Start, ask_to_stop, comes_back};
use crate::children::Run;
use crate::handle::StartedChild;
use crate::message::{DynamicMsg, SupervisorMsg};
use crate::{FailedToStartChild, RestartChildError, ResumeChildError, StartChildError, event};

/// On whose behalf a child is started.
pub(super) enum Why {
    Call(RpcReplyPort<Result<DynamicChild, StartChildError>>),
    Restart,
    Resume(RpcReplyPort<Result<(), ResumeChildError>>),
    Bounce(RpcReplyPort<Result<StartedChild, RestartChildError>>),
}

impl Why {
    /// Tells whoever asked what came of the start; one who gave up the wait is not there any more.
    fn answer(self, started: Result<DynamicChild, StartChildError>) {
        match self {
            Self::Restart => {}
            Self::Call(reply) => drop(reply.send(started)),
            Self::Resume(reply) => {
                let answer = match started {
                    Err(StartChildError::Failed(failed)) => Err(failed.into()),
                    _ => Ok(()),
                };
                drop(reply.send(answer));
            }
            Self::Bounce(reply) => {
                let answer = match started {
                    Ok(child) => Ok(StartedChild {
                        node: Some(child.node),
                        incarnation: child.incarnation.number(),
                        info: child.info,
                    }),
                    Err(StartChildError::Failed(failed)) => Err(failed.into()),
                    Err(_) => Ok(StartedChild::ignored()),
                };
                drop(reply.send(answer));
            }
        }
    }

    /// Tells whoever asked that the start was given up.
    pub(super) fn give_up(self, id: &str) {
        let id = id.to_owned();
        let reason = ExitReason::Shutdown;
        self.answer(Err(FailedToStartChild { id, reason }.into()));
    }
}

/// A start beside the queue.
pub(super) struct Pending {
    /// Tells it from an earlier one of the same child, whose message may still be in the queue.
    ticket: u64,
    why: Option<Why>,
    /// Without a result when it was given up before it was through.
    task: JoinHandle<Option<Launch>>,
    give_up: Arc<Notify>,
    /// The end of what was started, when it is heard of before the start.
    pub(super) ended: Option<(Arc<Incarnation>, WallTime)>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// Starts a child, in the queue or beside it.
    pub(super) async fn begin(&mut self, key: ChildKey, why: Why) {
        if let Some(child) = self.children.get(key) {
            let start = self.parent.start(key, child, Arc::clone(&child.node));
            self.carry_out(start, key, why).await;
        }
    }

    /// Stops a child, and only then calls its start function; in the queue or beside it.
    pub(super) async fn begin_anew(&mut self, key: ChildKey, why: Why) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let stop = self.parent.stop_and_report(child);
        if child.was_up() {
            // Meanwhile it is listed.
            child.run = Run::Restarting;
        }
        let (spec, node) = (child.spec.clone(), Arc::clone(&child.node));
        let parent = self.parent.clone();
        let start = async move {
            stop.await;
            parent
                .start_by(key, Some(&spec), spec.start_fn(), node)
                .await
        };
        self.carry_out(start, key, why).await;
    }

    async fn carry_out(
        &mut self,
        start: impl Future<Output = Launch> + Send + 'static,
        key: ChildKey,
        why: Why,
    ) {
        if !self.settings.concurrent {
            let launch = start.await;
            self.launched(key, why, launch);
            return;
        }
        let Some(child) = self.children.get(key) else {
            return;
        };
        let (node, shutdown) = (Arc::clone(&child.node), child.spec.shutdown_type());
        let queue = self.parent.queue.clone();
        let give_up = Arc::new(Notify::new());
        let given_up = Arc::clone(&give_up);
        self.tickets += 1;
        let ticket = self.tickets;
        let task = tokio::spawn(
            async move {
                let mut start = pin!(start);
                let launch = tokio::select! {
                    biased;
                    launch = &mut start => launch,
                    () = given_up.notified() => {
                        // Before the start is dropped, which would ask what it has brought up to stop as if its
                        // supervisor were lost.
                        if let Some(run) = node.current() {
                            ask_to_stop(&run, shutdown);
                        }
                        return None;
                    }
                };
                let message = DynamicMsg::Launched(key, ticket);
                // Fails when the supervisor has ended: what was started is asked to stop with the result.
                drop(queue.send_message(SupervisorMsg::Dynamic(message)));
                Some(launch)
            }
            .in_current_span(),
        );
        let pending = Pending {
            ticket,
            why: Some(why),
            task,
            give_up,
            ended: None,
        };
        self.starting.insert(key, pending);
    }

    fn launched(&mut self, key: ChildKey, why: Why, launch: Launch) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let id = Arc::clone(child.spec.id());
        let (scope, queue) = (&self.parent.scope, &self.parent.queue);
        match self.parent.settle(child, launch.settle()) {
            Start::Running(number, info) => {
                match &why {
                    Why::Restart | Why::Resume(_) => {
                        child.node.count_restart();
                        event::restarted(scope, &child.node, number);
                    }
                    Why::Call(_) | Why::Bounce(_) => event::started(scope, &child.node, number),
                }
                if let Some(incarnation) = child.alive() {
                    let node = Arc::clone(&child.node);
                    why.answer(Ok(DynamicChild {
                        node,
                        incarnation,
                        info,
                    }));
                }
            }
            Start::Ignored => {
                self.forget(key);
                let id = id.to_string();
                why.answer(Err(StartChildError::Ignored { id }));
            }
            Start::Failed(reason) => {
                let again = match why {
                    Why::Restart | Why::Resume(_) => true,
                    // It was up, so it is the restart type that decides.
                    Why::Bounce(_) => child.was_up() && comes_back(child.restart, &reason),
                    Why::Call(_) => false,
                };
                if again {
                    child.run = Run::Restarting;
                    child.node.set_state(ChildState::Restarting);
                    let node = &child.node;
                    self.parent.report(ReportContext::StartError, node, &reason);
                    // Behind what waits already. Fails only when this supervisor is ending.
                    let retry = DynamicMsg::Retry(key, child.node.incarnations());
                    drop(queue.send_message(SupervisorMsg::Dynamic(retry)));
                } else {
                    self.forget(key);
                }
                let id = id.to_string();
                why.answer(Err(FailedToStartChild { id, reason }.into()));
            }
        }
    }

    /// Takes over what a start beside the queue has come to.
    pub(super) async fn launched_beside(&mut self, key: ChildKey, ticket: u64) {
        let is_present = |pending: &Pending| pending.ticket == ticket;
        if !self.starting.get(&key).is_some_and(is_present) {
            // It was given up when it was through already, and perhaps another one has begun.
            return;
        }
        let Some(mut pending) = self.starting.remove(&key) else {
            return;
        };
        // At its last step.
        let launch = (&mut pending.task).await.ok().flatten();
        if let (Some(why), Some(launch)) = (pending.why.take(), launch) {
            self.launched(key, why, launch);
        }
        if let Some((run, at)) = pending.ended.take() {
            // Fails only when this supervisor is ending.
            let ended = SupervisorMsg::Ended { key, run, at };
            drop(self.parent.queue.send_message(ended));
        }
    }

    /// Gives up a start beside the queue; what it has started already is then the child's run.
    pub(super) async fn give_up_start(&mut self, key: ChildKey) -> Option<Why> {
        let mut pending = self.starting.remove(&key)?;
        pending.give_up.notify_one();
        let launch = (&mut pending.task).await.ok().flatten();
        let child = self.children.get_mut(key)?;
        if let Some(launch) = launch {
            self.parent.settle(child, launch.settle());
        } else if let Some(run) = child.node.current() {
            child.run = Run::Alive(run);
        }
        pending.why.take()
    }
}
