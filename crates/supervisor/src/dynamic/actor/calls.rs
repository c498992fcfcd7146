//! What a dynamic supervisor does because somebody asked.

use std::any::Any;
use std::sync::Arc;

use perennial_lifecycle::{ChildKey, ChildKind, Exit, Incarnation, Node};
use ractor::RpcReplyPort;

use super::super::start::Why;
use super::{Leaving, State};
use crate::children::{ChildEntry, Run};
use crate::handle::{ChildCount, ChildInfo, StartedChild};
use crate::message::{DynamicMsg, SupervisorMsg};
use crate::{RestartChildError, ResumeChildError, StartChildError, TerminateChildError};

impl Leaving {
    /// Tells those who asked as well that it is gone.
    pub(super) fn answer(self) {
        for reply in self.others {
            drop(reply.send(Ok(())));
        }
    }
}

impl ChildEntry {
    /// Says whether `run` at `node` is its run, or was its last.
    fn has_run(&self, node: &Arc<Node>, run: &Incarnation) -> bool {
        // Beside the queue it may have come up in a start that is not through.
        let is_its_own = self.is_last(run) || run.number() == node.incarnations();
        Arc::ptr_eq(&self.node, node) && is_its_own
    }
}

impl State {
    pub(super) async fn dynamic(&mut self, message: DynamicMsg) -> Result<(), Exit> {
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
                None => self.terminate_again(&node, &run, reply),
            },
            DynamicMsg::Bounce((node, run), reply) => {
                // What is over is followed by another run anyway, or by none.
                let is_up = run.exit_reason().is_none();
                let key = self.find(&node, &run).filter(|_| is_up);
                self.bounce(key, node.path().id(), reply).await;
            }
            DynamicMsg::ChildSpec((node, run), reply) => {
                let ours = self.find(&node, &run).is_some() || run.exit_reason().is_some();
                drop(reply.send(ours.then(|| self.settings.template.spec().clone())));
            }
            DynamicMsg::Launched(key, ticket) => self.launched_beside(key, ticket).await,
            DynamicMsg::Stopped(ticket) => {
                while self.stopping.try_join_next().is_some() {}
                if let Some(leaving) = self.leaving.remove(&ticket) {
                    self.vacate(leaving.child.spec.id());
                    leaving.answer();
                }
            }
            DynamicMsg::Retry(key, number) => self.retry(key, number).await?,
        }
        Ok(())
    }

    /// Finds the child that `run` is, or was the last run of.
    fn find(&self, node: &Arc<Node>, run: &Incarnation) -> Option<ChildKey> {
        let key = self.find_child(node.path().id())?;
        self.children.get(key)?.has_run(node, run).then_some(key)
    }

    fn add(
        &mut self,
        id: Option<Arc<str>>,
        arguments: Box<dyn Any + Send>,
    ) -> Result<ChildKey, StartChildError> {
        if let Some(known) = id.as_ref().and_then(|id| self.find_child(id))
            && let Some(known) = self.children.get(known)
        {
            let id = known.spec.id().to_string();
            return Err(match &known.run {
                Run::Alive(incarnation) => StartChildError::AlreadyStarted {
                    id,
                    node: Arc::clone(&known.node),
                    incarnation: incarnation.number(),
                },
                _ => StartChildError::AlreadyPresent { id },
            });
        }
        if let Some(limit) = self.settings.max_children
            && u32::try_from(self.children.len() + self.leaving.len())
                .is_ok_and(|count| count >= limit.get())
        {
            let path = self.parent.node.path().clone();
            return Err(StartChildError::MaxChildren { path, limit });
        }
        let id = id.unwrap_or_else(|| self.free_id());
        let spec = self.settings.template.make(id, arguments);
        let spec = spec.ok_or(StartChildError::Arguments)?;
        spec.validate().map_err(crate::SupervisorSpecError::from)?;
        let node = self.parent.node.child_at_end(spec.id());
        node.set_spec(spec.kind(), spec.restart_type(), spec.shutdown_type());
        let watchdog = spec.watchdog_setting();
        let key = self.children.push(ChildEntry::new(spec, Arc::clone(&node)));
        if let Some(watchdog) = watchdog {
            self.watchdogs.watch(key, &node, watchdog, &self.parent);
        }
        Ok(key)
    }

    fn free_id(&self) -> Arc<str> {
        loop {
            let id = self.settings.template.next_id();
            // A name that somebody chose may look the same.
            if self.find_child(&id).is_none() {
                return id;
            }
        }
    }

    /// Begins a restart that is put off.
    pub(super) async fn resume(
        &mut self,
        id: &str,
        reply: RpcReplyPort<Result<(), ResumeChildError>>,
    ) {
        let id = id.to_owned();
        let key = self.find_child(&id);
        match key.and_then(|key| self.children.get(key)).map(|it| &it.run) {
            None => drop(reply.send(Err(ResumeChildError::NotFound { id }))),
            Some(Run::Waiting(_)) => {
                self.restart_now(key.unwrap_or_default(), Why::Resume(reply))
                    .await;
            }
            Some(_) => drop(reply.send(Err(ResumeChildError::NotWaiting { id }))),
        }
    }

    /// Stops a child and starts it again, whatever it was doing; costs no restart intensity.
    pub(super) async fn bounce(
        &mut self,
        key: Option<ChildKey>,
        id: &str,
        reply: RpcReplyPort<Result<StartedChild, RestartChildError>>,
    ) {
        let Some(key) = key else {
            let id = id.to_owned();
            drop(reply.send(Err(RestartChildError::NotFound { id })));
            return;
        };
        self.refuse_start(key).await;
        self.begin_anew(key, Why::Bounce(reply)).await;
    }

    /// Gives up a start beside the queue; who asked for it is told.
    async fn refuse_start(&mut self, key: ChildKey) {
        let given_up = self.give_up_start(key).await;
        if let (Some(why), Some(child)) = (given_up, self.children.get(key)) {
            why.give_up(child.spec.id());
        }
    }

    /// Stops a child and forgets it, in the queue or beside it.
    pub(super) async fn terminate(
        &mut self,
        key: ChildKey,
        reply: RpcReplyPort<Result<(), TerminateChildError>>,
    ) {
        self.refuse_start(key).await;
        let Some(mut child) = self.remove(key) else {
            return;
        };
        let id = Arc::clone(child.spec.id());
        let stop = self.parent.stop_and_report(&mut child);
        if !self.settings.concurrent {
            stop.await;
            self.vacate(&id);
            drop(reply.send(Ok(())));
            return;
        }
        let queue = self.parent.queue.clone();
        self.tickets += 1;
        let ticket = self.tickets;
        let others = Vec::new();
        self.leaving.insert(ticket, Leaving { child, others });
        self.stopping.spawn(async move {
            stop.await;
            // Before the answer, so that the place is empty for whoever heard it.
            let message = DynamicMsg::Stopped(ticket);
            drop(queue.send_message(SupervisorMsg::Dynamic(message)));
            drop(reply.send(Ok(())));
            id
        });
    }

    /// Answers who wants a run stopped that is no child any more; one that is being stopped beside the queue is waited for,
    /// as it would be in the queue.
    fn terminate_again(
        &mut self,
        node: &Arc<Node>,
        run: &Incarnation,
        reply: RpcReplyPort<Result<(), TerminateChildError>>,
    ) {
        let mut leaving = self.leaving.values_mut();
        if let Some(leaving) = leaving.find(|it| it.child.has_run(node, run)) {
            leaving.others.push(reply);
            return;
        }
        // What is over needs no stop, whoever's child it was.
        let answer = match run.exit_reason() {
            Some(_) => Ok(()),
            None => Err(TerminateChildError::NotFound {
                id: node.path().id().to_owned(),
            }),
        };
        drop(reply.send(answer));
    }

    /// Lists the children, newest first; one that was never up is not there yet.
    pub(super) fn which_children(&self) -> Vec<ChildInfo> {
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

    pub(super) fn count_children(&self) -> ChildCount {
        let mut count = ChildCount {
            specs: 1,
            ..ChildCount::default()
        };
        for child in self.children.iter() {
            let active = match child.run {
                // Also one that is dead while its notice still waits, as in OTP.
                Run::Alive(_) => 1,
                Run::Restarting | Run::Waiting(_) => 0,
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
