//! What a supervisor does because somebody asked.

use std::sync::Arc;

use perennial_lifecycle::{ChildKey, ChildKind, ChildSpec, Restart};

use super::State;
use crate::child::Start;
use crate::children::Run;
use crate::config::check_child;
use crate::handle::{ChildCount, ChildInfo, StartedChild};
use crate::{
    DeleteChildError, FailedToStartChild, RestartChildError, ResumeChildError, StartChildError,
    TerminateChildError, event,
};

impl State {
    pub(super) async fn start_child(
        &mut self,
        spec: ChildSpec,
    ) -> Result<StartedChild, StartChildError> {
        check_child(&spec, self.spec.auto_shutdown)?;
        if let Some(known) = self
            .find_child(spec.id())
            .and_then(|key| self.children.get(key))
        {
            let id = spec.id().to_string();
            return Err(match &known.run {
                Run::Alive(incarnation) => StartChildError::AlreadyStarted {
                    id,
                    node: Arc::clone(&known.node),
                    incarnation: incarnation.number(),
                },
                _ => StartChildError::AlreadyPresent { id },
            });
        }
        let temporary = spec.restart_type() == Restart::Temporary;
        let place = self.parent.node.child_at_end(spec.id());
        let key = self.add(spec, place);
        let started = self.start_by_call(key).await;
        let keep = match &started {
            Ok(started) => started.node.is_some() || !temporary,
            Err(_) => false,
        };
        if !keep {
            self.forget(key);
        }
        Ok(started?)
    }

    /// Starts a child because somebody asked; failures are the caller's, not the siblings'.
    async fn start_by_call(&mut self, key: ChildKey) -> Result<StartedChild, FailedToStartChild> {
        let started = self.start(key).await;
        let Some(child) = self.children.get(key) else {
            return Ok(StartedChild::ignored());
        };
        match started {
            Start::Running(incarnation, info) => {
                event::started(&self.parent.scope, &child.node, incarnation);
                Ok(StartedChild {
                    node: Some(Arc::clone(&child.node)),
                    incarnation,
                    info,
                })
            }
            Start::Ignored => Ok(StartedChild::ignored()),
            Start::Failed(reason) => {
                child.node.take_off_duty();
                Err(FailedToStartChild {
                    id: child.spec.id().to_string(),
                    reason,
                })
            }
        }
    }

    pub(super) async fn terminate_child(&mut self, id: &str) -> Result<(), TerminateChildError> {
        let Some(key) = self.find_child(id) else {
            return Err(TerminateChildError::NotFound { id: id.to_owned() });
        };
        self.stop(key).await;
        match self.children.get(key) {
            Some(child) if child.spec.restart_type() == Restart::Temporary => self.forget(key),
            Some(child) => child.node.dismiss(),
            None => {}
        }
        Ok(())
    }

    pub(super) async fn restart_child(
        &mut self,
        id: &str,
    ) -> Result<StartedChild, RestartChildError> {
        let id = id.to_owned();
        let key = self.find_child(&id);
        match key.and_then(|key| self.children.get(key)).map(|it| &it.run) {
            None => Err(RestartChildError::NotFound { id }),
            Some(Run::Alive(_)) => Err(RestartChildError::Running { id }),
            Some(Run::Restarting | Run::Waiting(_)) => Err(RestartChildError::Restarting { id }),
            Some(Run::Stopped) => Ok(self.start_by_call(key.unwrap_or_default()).await?),
        }
    }

    /// Stops a child and starts it again, whatever it was doing; costs no restart intensity.
    pub(super) async fn bounce_child(
        &mut self,
        id: &str,
    ) -> Result<StartedChild, RestartChildError> {
        let Some(key) = self.find_child(id) else {
            return Err(RestartChildError::NotFound { id: id.to_owned() });
        };
        let held_up = self.holds_up(key);
        self.stop(key).await;
        let temporary = self
            .children
            .get(key)
            .is_some_and(|child| child.spec.restart_type() == Restart::Temporary);
        let started = self.start_by_call(key).await;
        let runs = started.as_ref().is_ok_and(|it| it.node.is_some());
        if temporary && !runs {
            self.forget(key);
        }
        if held_up {
            // It is not tried again, whatever came of this.
            self.start_behind(Some(key)).await;
        }
        Ok(started?)
    }

    /// Begins a restart that is put off.
    pub(super) async fn resume_child(&mut self, id: &str) -> Result<(), ResumeChildError> {
        let id = id.to_owned();
        let Some(key) = self.find_child(&id) else {
            return Err(ResumeChildError::NotFound { id });
        };
        let child = self.children.get(key);
        if !child.is_some_and(|child| matches!(child.run, Run::Waiting(_))) {
            return Err(ResumeChildError::NotWaiting { id });
        }
        self.end_pause(key).await;
        match self.children.get(key) {
            Some(child) if matches!(child.run, Run::Restarting) => Err(child.failed().into()),
            _ => Ok(()),
        }
    }

    pub(super) fn delete_child(&mut self, id: &str) -> Result<(), DeleteChildError> {
        let id = id.to_owned();
        let Some(key) = self.find_child(&id) else {
            return Err(DeleteChildError::NotFound { id });
        };
        match self.children.get(key).map(|child| &child.run) {
            Some(Run::Alive(_)) => Err(DeleteChildError::Running { id }),
            Some(Run::Restarting | Run::Waiting(_)) => Err(DeleteChildError::Restarting { id }),
            _ => {
                self.forget(key);
                Ok(())
            }
        }
    }

    /// Lists the children, newest first.
    pub(super) fn which_children(&self) -> Vec<ChildInfo> {
        let mut list = Vec::with_capacity(self.children.len());
        let mut at = self.children.before(None);
        while let Some(key) = at {
            at = self.children.before(Some(key));
            if let Some(child) = self.children.get(key) {
                list.push(child.info());
            }
        }
        list
    }

    pub(super) fn count_children(&self) -> ChildCount {
        let mut count = ChildCount::default();
        for child in self.children.iter() {
            count.specs += 1;
            match child.spec.kind() {
                ChildKind::Supervisor => count.supervisors += 1,
                ChildKind::Worker => count.workers += 1,
            }
            if let Run::Alive(incarnation) = &child.run {
                // One that is dead while its notice still waits is not active.
                count.active += usize::from(incarnation.exit_reason().is_none());
            }
        }
        count
    }
}
