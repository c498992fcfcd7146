//! The rules of a supervisor's calls.

use perennial_lifecycle::{ChildKind, Restart};
use perennial_supervisor::{AutoShutdown, ChildCount, ChildStatus};

use crate::child::{Child, Run};
use crate::rules::{Start, Supervisor};
use crate::script::{Body, Call, ChildPlan, Id};
use crate::seen::{Answer, Entry, Listed, Refusal};
use crate::world::World;

impl Supervisor {
    /// Answers a call; `process` is the run that `TerminateRun` is about.
    pub(crate) fn answer(
        &mut self,
        call: &Call,
        process: Option<u64>,
        world: &mut World,
    ) -> Answer {
        match call {
            Call::Start(plan) => self.start_child(plan, world),
            Call::Terminate(id) => match self.position(id) {
                Some(index) => self.terminate(index, world),
                None => Answer::Refused(Refusal::NotFound),
            },
            Call::TerminateRun(id) => self.terminate_run(id, process, world),
            Call::Restart(..) | Call::Delete(_) if self.plan.is_dynamic() => {
                Answer::Refused(Refusal::Dynamic)
            }
            Call::Restart(id, _) => match self.stopped(id) {
                // Rule 21: one that fails stays stopped and disturbs nobody.
                Ok(index) => self.start_by_call(index, world),
                Err(refusal) => Answer::Refused(refusal),
            },
            Call::Delete(id) => match self.stopped(id) {
                Ok(index) => {
                    self.forget(index, world);
                    Answer::Done
                }
                Err(refusal) => Answer::Refused(refusal),
            },
            Call::Which => Answer::Children(self.which_children()),
            Call::Count => Answer::Count(self.count_children()),
            Call::Spec(id) => Answer::Spec(self.position(id).and_then(|index| self.spec(index))),
        }
    }

    fn start_child(&mut self, plan: &ChildPlan, world: &mut World) -> Answer {
        let plan = self.plan.child(plan);
        // Rules 22 and 27: the spec is checked first.
        let auto_shutdown = self.plan.auto_shutdown != AutoShutdown::Never;
        if plan.significant && (!auto_shutdown || plan.restart == Restart::Permanent) {
            return Answer::Refused(Refusal::BadSpec);
        }
        // Rules 12 and 22, DYN-5.
        if let Some(known) = self.position(plan.id) {
            return Answer::Refused(match &self.children[known].run {
                Run::Alive(process) => Refusal::AlreadyStarted(process.run),
                Run::Restarting | Run::Stopped => Refusal::AlreadyPresent,
            });
        }
        // Rule 1: it is last in start order.
        world.add(plan.id);
        let index = self.add(&plan, world);
        let answer = self.start_by_call(index, world);
        match answer {
            Answer::Started(Some(_)) => {
                let last = self.children[index].last;
                world.started.push((plan.id, last));
            }
            // Rule 20; rule 29, DYN-2.
            Answer::Started(None) => self.forget_temporary(index, world),
            // Rule 21.
            _ => self.forget(index, world),
        }
        if answer == Answer::Started(None) && self.plan.is_dynamic() {
            return Answer::Refused(Refusal::Ignored);
        }
        answer
    }

    fn start_by_call(&mut self, index: usize, world: &mut World) -> Answer {
        match self.start(index, world) {
            Start::Up(run) => {
                let id = self.children[index].plan.id;
                world.log.push(Entry::Started(id, run));
                Answer::Started(Some(run))
            }
            Start::Ignored => Answer::Started(None),
            Start::Failed(reason) => Answer::Refused(Refusal::StartFailed(reason)),
        }
    }

    /// Rules 12 and 23: `ok`, whether it runs, is about to be restarted, or is stopped.
    fn terminate(&mut self, index: usize, world: &mut World) -> Answer {
        self.stop(index, world);
        self.forget_temporary(index, world);
        Answer::Done
    }

    /// Rule 29, DYN-4: a run that is over needs nothing, so that its successor stays.
    fn terminate_run(&mut self, id: Id, process: Option<u64>, world: &mut World) -> Answer {
        if !self.plan.is_dynamic() {
            return Answer::Refused(Refusal::NotFound);
        }
        match self.position(id) {
            Some(index) if Some(self.children[index].last) == process => {
                self.terminate(index, world)
            }
            _ => Answer::Done,
        }
    }

    /// Rules 12 and 23: `restart_child` and `delete_child` want a stopped child.
    fn stopped(&self, id: Id) -> Result<usize, Refusal> {
        let index = self.position(id).ok_or(Refusal::NotFound)?;
        match self.children[index].run {
            Run::Alive(_) => Err(Refusal::Running),
            Run::Restarting => Err(Refusal::Restarting),
            Run::Stopped => Ok(index),
        }
    }

    /// Rule 1: newest first. A dead child is listed as alive until its end is noticed.
    pub(crate) fn which_children(&self) -> Vec<Listed> {
        self.children.iter().rev().map(Child::listed).collect()
    }

    /// Rules 30 and 33: a static supervisor's `active` leaves out who is dead and not noticed yet.
    pub(crate) fn count_children(&self) -> ChildCount {
        let dynamic = self.plan.is_dynamic();
        let is_active = |it: &&Child| match &it.run {
            Run::Alive(process) => dynamic || process.ended.is_none(),
            Run::Restarting | Run::Stopped => false,
        };
        let is_worker = |it: &&Child| it.kind() == ChildKind::Worker;
        let workers = self.children.iter().filter(is_worker).count();
        ChildCount {
            specs: if dynamic { 1 } else { self.children.len() },
            active: self.children.iter().filter(is_active).count(),
            supervisors: self.children.len() - workers,
            workers,
        }
    }

    fn spec(
        &self,
        index: usize,
    ) -> Option<(Restart, bool, perennial_lifecycle::Shutdown, ChildKind)> {
        let child = &self.children[index];
        let plan = &child.plan;
        // Rule 29: dynamic children are not known by their ids.
        let known = !self.plan.is_dynamic();
        known.then(|| (plan.restart, plan.significant, plan.shutdown, child.kind()))
    }

    pub(crate) fn position(&self, id: Id) -> Option<usize> {
        self.children.iter().position(|it| it.plan.id == id)
    }
}

impl Child {
    fn listed(&self) -> Listed {
        let status = match &self.run {
            Run::Alive(process) => ChildStatus::Alive {
                incarnation: process.run,
            },
            Run::Restarting => ChildStatus::Restarting,
            Run::Stopped => ChildStatus::Stopped,
        };
        (self.plan.id, self.kind(), status)
    }

    fn kind(&self) -> ChildKind {
        match self.plan.body {
            Body::Worker(_) => ChildKind::Worker,
            Body::Supervisor(_) => ChildKind::Supervisor,
        }
    }
}
