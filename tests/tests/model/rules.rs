//! The rules of a supervisor, as plainly as they can be said.
//!
//! A supervisor is a list of children, a list of the instants of its restarts, and a queue. Nothing here is
//! fast, asynchronous or shared. The numbers are those of the rules in `conformance/FORMAT-otp.md`, the ids
//! those of the guarantees in `docs/semantics.md`.

use std::collections::VecDeque;
use std::time::Duration;

use perennial_lifecycle::{ReportContext, Restart};
use perennial_supervisor::{AutoShutdown, Strategy};

use crate::child::{Child, Process, Run};
use crate::script::{Body, Call, ChildPlan, Class, Id, Kind, Outcome, PHASE, SupervisorPlan, TICK};
use crate::seen::Entry;
use crate::world::World;

/// A supervisor that runs.
pub(crate) struct Supervisor {
    pub(crate) id: Id,
    pub(crate) plan: SupervisorPlan,
    /// In start order.
    pub(crate) children: Vec<Child>,
    /// When it restarted a child, or a group.
    restarts: Vec<Duration>,
    /// Rule 2: ends of children, calls, the parent's stop and retries, in order of arrival.
    pub(crate) queue: VecDeque<Message>,
    /// Somebody has asked it to stop; the first reason stands.
    pub(crate) asked: bool,
}

pub(crate) enum Message {
    /// This process has ended.
    Ended(u64),
    /// The restart of this child is to be tried again.
    Retry(u64),
    /// The parent, or somebody in its place, wants the supervisor to end.
    Stop(Class),
    /// The operation of this number in the step; for `TerminateRun` the process.
    Call(usize, Call, Option<u64>),
}

/// What came of a start.
pub(crate) enum Start {
    Up(u64),
    Ignored,
    Failed(Class),
}

/// The supervisor ends with this reason.
pub(crate) struct Ends(Class);

impl Supervisor {
    /// Starts a supervisor and its children; an error is the reason why it could not start.
    pub(crate) fn boot(id: Id, plan: &SupervisorPlan, world: &mut World) -> Result<Self, Class> {
        // Rule 18: a fresh history, and the original specs; children added later are lost.
        world.forget_others(id, plan);
        // DBG-3: the places that a run before has left are in the order of the specs at once.
        world.arrange(id, plan);
        let mut supervisor = Self {
            id,
            plan: plan.clone(),
            children: Vec::new(),
            restarts: Vec::new(),
            queue: VecDeque::new(),
            asked: false,
        };
        // Rule 1, SUP-1: in the order of the specs.
        for child in &plan.children {
            world.place(child.id);
            let index = supervisor.add(child, world);
            match supervisor.start(index, world) {
                Start::Up(run) => world.log.push(Entry::Started(child.id, run)),
                // Rule 20.
                Start::Ignored => supervisor.forget_temporary(index, world),
                // Rule 19, SUP-2: not tried again; those started so far are stopped in reverse order.
                Start::Failed(reason) => {
                    supervisor.report(ReportContext::StartError, child.id, reason, world);
                    supervisor.stop_all(world);
                    return Err(Class::ShutdownWith);
                }
            }
        }
        Ok(supervisor)
    }

    /// Works off the queues, those of nested supervisors first, and returns the reason if this one ends.
    pub(crate) fn settle(&mut self, world: &mut World) -> Option<Class> {
        for child in &mut self.children {
            if let Run::Alive(process) = &mut child.run
                && let Some(inner) = &mut process.inner
                && let Some(reason) = inner.settle(world)
            {
                process.end(child.plan.id, reason, world);
                self.queue.push_back(Message::Ended(process.key));
            }
        }
        world.begin_phase(PHASE);
        while let Some(message) = self.queue.pop_front() {
            if let Err(Ends(reason)) = self.handle(message, world) {
                return Some(reason);
            }
        }
        None
    }

    fn handle(&mut self, message: Message, world: &mut World) -> Result<(), Ends> {
        match message {
            Message::Ended(process) => self.child_ended(process, world),
            Message::Retry(key) => {
                // Rule 13: unless it was started, terminated or deleted meanwhile.
                let of = |it: &Child| it.key == key && matches!(it.run, Run::Restarting);
                match self.children.iter().position(of) {
                    Some(index) => self.restart(index, world),
                    None => Ok(()),
                }
            }
            // Rule 3: whatever the reason, the children are asked with `shutdown`.
            Message::Stop(reason) => {
                self.stop_all(world);
                Err(Ends(reason))
            }
            Message::Call(number, call, process) => {
                let answer = self.answer(&call, process, world);
                world.answers[number] = Some(answer);
                Ok(())
            }
        }
    }

    fn child_ended(&mut self, process: u64, world: &mut World) -> Result<(), Ends> {
        // Rule 8: the notice of a process that was stopped since costs nothing.
        let Some((index, reason)) = self.find_ended(process) else {
            return Ok(());
        };
        let ChildPlan {
            id,
            restart,
            significant,
            ..
        } = self.children[index].plan;
        if restart == Restart::Permanent || !reason.is_clean() {
            self.report(ReportContext::ChildTerminated, id, reason, world);
        }
        // Rule 4, SUP-3.
        let comes_back = match restart {
            Restart::Permanent => true,
            Restart::Transient => !reason.is_clean(),
            Restart::Temporary => false,
        };
        if comes_back {
            return self.restart(index, world);
        }
        // Rule 5; rule 4 for temporary ones. A dynamic supervisor keeps nobody who does not run.
        self.children[index].run = Run::Stopped;
        self.forget_temporary(index, world);
        // Rules 24 to 26, SUP-9, DYN-8: only a significant child's own end without a restart.
        if significant && self.shuts_down() {
            self.stop_all(world);
            return Err(Ends(Class::Shutdown));
        }
        Ok(())
    }

    fn shuts_down(&self) -> bool {
        // Rule 25: a child that is about to be restarted counts as present.
        let present = |it: &Child| it.plan.significant && !matches!(it.run, Run::Stopped);
        match self.plan.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.children.iter().any(present),
        }
    }

    fn restart(&mut self, index: usize, world: &mut World) -> Result<(), Ends> {
        // Rules 10, 14 to 16, SUP-5, SUP-6, DYN-7: each attempt counts, a group once. The window slides, and
        // a restart exactly one period old is still in it.
        self.restarts.push(world.now);
        let period = TICK * self.plan.period;
        let recent = |at: &&Duration| world.now - **at <= period;
        let recent = self.restarts.iter().filter(recent).count();
        if recent > self.plan.max_restarts as usize {
            // Rule 17.
            let id = self.children[index].plan.id;
            self.children[index].run = Run::Stopped;
            self.report(ReportContext::Shutdown, id, Class::Failed, world);
            self.stop_all(world);
            return Err(Ends(Class::Shutdown));
        }
        // Rule 6, SUP-4.
        let from = match self.plan.kind {
            Kind::Static(Strategy::OneForOne) | Kind::Dynamic { .. } => {
                self.start_again(index, world);
                return Ok(());
            }
            Kind::Static(Strategy::OneForAll) => 0,
            Kind::Static(Strategy::RestForOne) => index,
        };
        self.children[index].run = Run::Stopped;
        for member in (from..self.children.len()).rev() {
            self.stop(member, world);
            self.forget_temporary(member, world);
        }
        // Rule 11: those behind one that fails stay stopped; the retry goes on from it.
        for member in from..self.children.len() {
            if !self.start_again(member, world) {
                break;
            }
        }
        Ok(())
    }

    /// Starts a child as part of a restart, and says whether that did not fail.
    fn start_again(&mut self, index: usize, world: &mut World) -> bool {
        let id = self.children[index].plan.id;
        match self.start(index, world) {
            Start::Up(run) => {
                let place = world.place(id);
                place.restarts += 1;
                let restarted = Entry::Restarted(id, run, place.restarts);
                world.log.push(restarted);
                true
            }
            // Rule 9; rule 32, DYN-9: a dynamic child is forgotten.
            Start::Ignored => {
                self.forget_temporary(index, world);
                true
            }
            // Rule 10: the retry goes behind what waits already.
            Start::Failed(reason) => {
                let child = &mut self.children[index];
                child.run = Run::Restarting;
                self.queue.push_back(Message::Retry(child.key));
                self.report(ReportContext::StartError, id, reason, world);
                false
            }
        }
    }

    /// Starts a child; one that is not up is stopped.
    pub(crate) fn start(&mut self, index: usize, world: &mut World) -> Start {
        let child = &mut self.children[index];
        child.run = Run::Stopped;
        let id = child.plan.id;
        let place = world.place(id);
        place.runs += 1;
        let run = place.runs;
        let started = match (world.next_outcome(id), &child.plan.body) {
            (Outcome::Up, Body::Worker(_)) => {
                world.log.push(Entry::Up(id));
                Ok(None)
            }
            (Outcome::Up, Body::Supervisor(plan)) => Self::boot(id, plan, world).map(Some),
            (Outcome::Ignore, _) => {
                world.log.push(Entry::Ignored(id));
                return Start::Ignored;
            }
            (Outcome::Fail | Outcome::InitFail, _) => Err(Class::Failed),
            // Rule 10: a failed start fails, also for a clean reason.
            (Outcome::InitNormal, _) => Err(Class::Normal),
            // SUP-10.
            (Outcome::Panic | Outcome::InitPanic, _) => Err(Class::Panicked),
        };
        match started {
            Ok(inner) => {
                let key = world.key();
                let ended = None;
                child.last = key;
                child.run = Run::Alive(Process {
                    key,
                    run,
                    ended,
                    inner,
                });
                Start::Up(run)
            }
            Err(reason) => {
                world.log.push(Entry::StartFailed(id, reason));
                Start::Failed(reason)
            }
        }
    }

    /// Stops a child and waits for its end, if it runs.
    pub(crate) fn stop(&mut self, index: usize, world: &mut World) {
        let child = &mut self.children[index];
        let id = child.plan.id;
        if let Some(reason) = child.stop(world)
            && !child.is_expected(reason)
        {
            self.report(ReportContext::ShutdownError, id, reason, world);
        }
    }

    /// Stops all children.
    pub(crate) fn stop_all(&mut self, world: &mut World) {
        if self.plan.is_dynamic() {
            return self.stop_all_at_once(world);
        }
        // Rule 1, SUP-1: in reverse order, each awaited before the next.
        for index in (0..self.children.len()).rev() {
            self.stop(index, world);
        }
        self.children.clear();
    }

    /// Rule 30, DYN-3: all at once, under one deadline; the reasons are reported together.
    fn stop_all_at_once(&mut self, world: &mut World) {
        let (before, begin) = (world.log.len(), world.now);
        let mut last = begin;
        let mut errors: Vec<(Class, usize)> = Vec::new();
        for mut child in std::mem::take(&mut self.children) {
            world.forget(child.plan.id);
            world.now = begin;
            let Some(reason) = child.stop(world) else {
                continue;
            };
            last = last.max(world.now);
            if child.is_expected(reason) {
                continue;
            }
            match errors.iter_mut().find(|(it, _)| *it == reason) {
                Some((_, count)) => *count += 1,
                None => errors.push((reason, 1)),
            }
        }
        let together = world.log.split_off(before);
        world.log.push(Entry::Together(together));
        world.now = last;
        for (reason, count) in errors {
            world
                .log
                .push(Entry::ShutdownErrors(self.id, reason, count));
        }
    }

    /// Adds a child, whose place is there, behind the others and returns its index.
    pub(crate) fn add(&mut self, plan: &ChildPlan, world: &mut World) -> usize {
        self.children.push(Child {
            key: world.key(),
            plan: plan.clone(),
            run: Run::Stopped,
            last: 0,
        });
        self.children.len() - 1
    }

    pub(crate) fn forget(&mut self, index: usize, world: &mut World) {
        world.forget(self.children.remove(index).plan.id);
    }

    /// Rule 4, rule 20: a temporary child that does not run is forgotten, and so is any dynamic one.
    pub(crate) fn forget_temporary(&mut self, index: usize, world: &mut World) {
        if self.plan.is_dynamic() || self.children[index].plan.restart == Restart::Temporary {
            self.forget(index, world);
        }
    }

    fn find_ended(&self, process: u64) -> Option<(usize, Class)> {
        let mut children = self.children.iter().enumerate();
        children.find_map(|(index, child)| match &child.run {
            Run::Alive(it) if it.key == process => Some((index, it.ended?)),
            _ => None,
        })
    }

    fn report(&self, context: ReportContext, child: Id, reason: Class, world: &mut World) {
        let report = Entry::Report(self.id, context, child, reason);
        world.log.push(report);
    }
}
