//! How a dynamic supervisor starts a child: in its queue, or beside it.

use std::sync::Arc;

use perennial_lifecycle::{ChildKey, ChildState, ExitReason, Incarnation, ReportContext};
use ractor::RpcReplyPort;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::actor::State;
use super::handle::DynamicChild;
use crate::child::{Launch, Start};
use crate::children::Run;
use crate::message::{DynamicMsg, SupervisorMsg};
use crate::{FailedToStartChild, StartChildError, event};

/// On whose behalf a child is started.
pub(super) enum Why {
    Call(RpcReplyPort<Result<DynamicChild, StartChildError>>),
    Restart,
}

/// A start beside the queue.
pub(super) struct Pending {
    why: Option<Why>,
    task: JoinHandle<()>,
    /// The end of what was started, when it is heard of before the start.
    pub(super) ended: Option<(Arc<Incarnation>, ExitReason)>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// Starts a child, in the queue or beside it.
    pub(super) async fn begin(&mut self, key: ChildKey, why: Why) {
        let Some(child) = self.children.get(key) else {
            return;
        };
        let start = self.parent.start(key, child);
        if !self.settings.concurrent {
            let launch = start.await;
            self.launched(key, why, launch);
            return;
        }
        let myself = self.myself.clone();
        let task = tokio::spawn(
            async move {
                let message = DynamicMsg::Launched(key, start.await);
                // Fails when the supervisor has ended: what was started is asked to stop with the message.
                drop(myself.send_message(SupervisorMsg::Dynamic(message)));
            }
            .in_current_span(),
        );
        let pending = Pending {
            why: Some(why),
            task,
            ended: None,
        };
        self.starting.insert(key, pending);
    }

    fn launched(&mut self, key: ChildKey, why: Why, launch: Launch) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let id = Arc::clone(child.spec.id());
        let scope = &self.parent.scope;
        match (self.parent.settle(child, launch), why) {
            (Start::Running(incarnation, info), Why::Call(reply)) => {
                event::started(scope, &child.node, incarnation.number());
                let node = Arc::clone(&child.node);
                drop(reply.send(Ok(DynamicChild {
                    node,
                    incarnation,
                    info,
                })));
            }
            (Start::Running(incarnation, _), Why::Restart) => {
                event::restarted(scope, &child.node, incarnation.number());
            }
            (Start::Ignored, why) => {
                self.forget(key);
                if let Why::Call(reply) = why {
                    let id = id.to_string();
                    drop(reply.send(Err(StartChildError::Ignored { id })));
                }
            }
            (Start::Failed(reason), Why::Call(reply)) => {
                self.forget(key);
                let id = id.to_string();
                drop(reply.send(Err(FailedToStartChild { id, reason }.into())));
            }
            (Start::Failed(reason), Why::Restart) => {
                child.run = Run::Restarting;
                child.node.set_state(ChildState::Restarting);
                self.parent.report(ReportContext::StartError, &id, &reason);
                // Behind what waits already. Fails only when this supervisor is ending.
                drop(self.myself.send_message(SupervisorMsg::Retry(key)));
            }
        }
    }

    /// Takes over what a start beside the queue has come to.
    pub(super) fn launched_beside(&mut self, key: ChildKey, launch: Launch) {
        // Without an entry it was given up: whatever was started is asked to stop with the launch.
        let Some(mut pending) = self.starting.remove(&key) else {
            return;
        };
        if let Some(why) = pending.why.take() {
            self.launched(key, why, launch);
        }
        if let Some((incarnation, reason)) = pending.ended.take() {
            // Fails only when this supervisor is ending.
            drop(self.myself.send_message(SupervisorMsg::Ended {
                key,
                incarnation,
                reason,
            }));
        }
    }

    /// Gives up a start beside the queue; what it has started already is then the child's run.
    pub(super) async fn give_up_start(&mut self, key: ChildKey) -> Option<Why> {
        let mut pending = self.starting.remove(&key)?;
        pending.task.abort();
        // Either way it has ended.
        drop((&mut pending.task).await);
        let child = self.children.get_mut(key)?;
        if let Some(run) = child.node.current() {
            child.run = Run::Alive(run);
        }
        pending.why.take()
    }
}
