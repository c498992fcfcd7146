//! What a dynamic supervisor does because somebody asked.

use std::any::Any;
use std::sync::Arc;

use perennial_lifecycle::{ChildKey, ChildKind, Exit, Incarnation, Node};
use ractor::RpcReplyPort;

use super::super::start::Why;
use super::State;
use crate::children::{ChildEntry, Run};
use crate::handle::{ChildCount, ChildInfo, StartedChild};
use crate::message::{DynamicMsg, SupervisorMsg};
use crate::{RestartChildError, ResumeChildError, StartChildError, TerminateChildError};

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
                // What is over needs no stop, whoever's child it was.
                None if run.exit_reason().is_some() => drop(reply.send(Ok(()))),
                None => {
                    let id = node.path().id().to_owned();
                    drop(reply.send(Err(TerminateChildError::NotFound { id })));
                }
            },
            DynamicMsg::ChildSpec((node, run), reply) => {
                let ours = self.find(&node, &run).is_some() || run.exit_reason().is_some();
                drop(reply.send(ours.then(|| self.settings.template.spec().clone())));
            }
            DynamicMsg::Launched(key, ticket) => self.launched_beside(key, ticket).await,
            DynamicMsg::Stopped(id) => {
                self.leaving -= 1;
                while self.stopping.try_join_next().is_some() {}
                self.vacate(&id);
            }
            DynamicMsg::Retry(key, number) => self.retry(key, number).await?,
        }
        Ok(())
    }

    /// Finds the child that `run` is, or was the last run of.
    fn find(&self, node: &Arc<Node>, run: &Incarnation) -> Option<ChildKey> {
        let key = self.find_child(node.path().id())?;
        let child = self.children.get(key)?;
        // Beside the queue it may have come up in a start that is not through.
        let is_its_own = child.is_last(run) || run.number() == node.incarnations();
        (Arc::ptr_eq(&child.node, node) && is_its_own).then_some(key)
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
            && u32::try_from(self.children.len() + self.leaving)
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
        id: &str,
        reply: RpcReplyPort<Result<StartedChild, RestartChildError>>,
    ) {
        let Some(key) = self.find_child(id) else {
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
        self.leaving += 1;
        self.stopping.spawn(async move {
            stop.await;
            // Before the answer, so that the place is empty for whoever heard it.
            let message = DynamicMsg::Stopped(Arc::clone(&id));
            drop(queue.send_message(SupervisorMsg::Dynamic(message)));
            drop(reply.send(Ok(())));
            id
        });
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
