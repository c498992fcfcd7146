//! The model's tree: what each step should come to.

use std::collections::BTreeMap;

use perennial_lifecycle::ChildState;

use crate::child::{Process, Run};
use crate::rules::{Message, Supervisor};
use crate::script::{Call, Class, Exit, Id, Op, ROOT, SupervisorPlan, TICK, parent};
use crate::seen::{Answer, Entry, Picture};
use crate::world::World;

pub(crate) struct Tree {
    world: World,
    root: Option<Supervisor>,
    /// The process that the last successful `start_child` for an id returned.
    started: BTreeMap<Id, u64>,
}

impl Tree {
    /// Starts the top supervisor.
    pub(crate) fn boot(plan: &SupervisorPlan) -> Self {
        let mut world = World::default();
        world.outcomes.plan_all(&plan.children);
        let root = match Supervisor::boot(ROOT, plan, &mut world) {
            Ok(root) => {
                world.log.push(Entry::Started(ROOT, 1));
                Some(root)
            }
            Err(reason) => {
                world.log.push(Entry::StartFailed(ROOT, reason));
                None
            }
        };
        world.now = TICK;
        let started = BTreeMap::new();
        Self {
            world,
            root,
            started,
        }
    }

    pub(crate) fn wait(&mut self, ticks: u32) {
        self.world.now += TICK * ticks;
    }

    /// Does all this at once, lets the supervisors deal with it, and returns what it came to.
    pub(crate) fn step(&mut self, ops: &[Op]) -> Vec<Answer> {
        let begin = self.world.now;
        self.world.answers = vec![None; ops.len()];
        self.world.phase = (ops.len() > 1).then_some(begin);
        for (number, op) in ops.iter().enumerate() {
            self.world.outcomes.plan_op(op);
            if let Some(answer) = self.issue(number, op) {
                self.world.answers[number] = Some(answer);
            }
        }
        if let Some(root) = &mut self.root
            && let Some(reason) = root.settle(&mut self.world)
        {
            self.world.log.push(Entry::Exited(ROOT, reason));
            self.root = None;
        }
        assert!(self.world.now < begin + TICK, "a tick was too short");
        self.world.now = begin + TICK;
        self.started.extend(self.world.started.drain(..));
        let answers = std::mem::take(&mut self.world.answers);
        // Whom nobody answered: the supervisor has ended.
        let down = |answer: Option<Answer>| answer.unwrap_or(Answer::Down);
        answers.into_iter().map(down).collect()
    }

    /// Does one thing; the answer, if it is known at once.
    fn issue(&mut self, number: usize, op: &Op) -> Option<Answer> {
        match op {
            Op::Exit(id, exit, _) => Some(self.exit(id, *exit)),
            Op::Stop(exit) => Some(match &mut self.root {
                Some(root) => {
                    root.ask(exit.asked());
                    Answer::Done
                }
                None => Answer::Nobody,
            }),
            Op::Call(id, call) => {
                let process = match call {
                    Call::TerminateRun(id) => match self.started.get(id) {
                        Some(process) => Some(*process),
                        None => return Some(Answer::Nobody),
                    },
                    _ => None,
                };
                let Some(supervisor) = self.find(id) else {
                    return Some(Answer::Down);
                };
                let message = Message::Call(number, call.clone(), process);
                supervisor.queue.push_back(message);
                None
            }
        }
    }

    /// Rule 2: a worker's end is in its supervisor's queue at once; a supervisor is asked to stop.
    fn exit(&mut self, id: Id, exit: Exit) -> Answer {
        let Self { world, root, .. } = self;
        let parent = root.as_mut().and_then(|root| root.find(parent(id)));
        let Some(parent) = parent else {
            return Answer::Nobody;
        };
        let Some(process) = parent.process(id) else {
            return Answer::Nobody;
        };
        if let Some(inner) = &mut process.inner {
            inner.ask(exit.asked());
            return Answer::Done;
        }
        let reason = exit.class();
        if reason.is_clean() {
            world.log.push(Entry::PostStop(id));
        }
        process.end(id, reason, world);
        let ended = Message::Ended(process.key);
        parent.queue.push_back(ended);
        Answer::Done
    }

    /// Returns what happened since the last call.
    pub(crate) fn take_log(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.world.log)
    }

    /// Lists the supervisors that run, innermost first.
    pub(crate) fn supervisors(&self) -> Vec<Id> {
        let mut ids = Vec::new();
        if let Some(root) = &self.root {
            root.visit(&mut |supervisor| ids.push(supervisor.id));
        }
        ids
    }

    fn find(&mut self, id: Id) -> Option<&mut Supervisor> {
        self.root.as_mut()?.find(id)
    }

    /// The state at rest.
    pub(crate) fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        let mut places = self.world.places.clone();
        if let Some(root) = &self.root {
            root.visit(&mut |supervisor| {
                let list = Answer::Children(supervisor.which_children());
                let count = Answer::Count(supervisor.count_children());
                picture.supervisors.push((supervisor.id, list, count));
                for child in &supervisor.children {
                    for (id, place) in &mut places {
                        let is_alive = matches!(child.run, Run::Alive(_));
                        place.occupied |= is_alive && *id == child.plan.id;
                    }
                }
            });
        }
        for (_, place) in &mut places {
            place.state = Some(match place.occupied {
                true => ChildState::Running,
                false => ChildState::Stopped,
            });
        }
        // Of those below one supervisor the order stays.
        places.sort_by_key(|(id, _)| parent(id));
        picture.places = places;
        picture
    }
}

impl Supervisor {
    /// Somebody asks it to stop: behind what waits already; the first reason stands.
    fn ask(&mut self, reason: Class) {
        if !self.asked {
            self.asked = true;
            self.queue.push_back(Message::Stop(reason));
        }
    }

    /// Finds a supervisor that runs, here or below.
    fn find(&mut self, id: Id) -> Option<&mut Self> {
        if self.id == id {
            return Some(self);
        }
        let below = self.children.iter_mut().filter_map(|it| match &mut it.run {
            Run::Alive(process) => process.inner.as_mut(),
            Run::Restarting | Run::Stopped => None,
        });
        below.into_iter().find_map(|inner| inner.find(id))
    }

    /// Finds the process of a child, if it is alive.
    fn process(&mut self, id: Id) -> Option<&mut Process> {
        let index = self.position(id)?;
        match &mut self.children[index].run {
            Run::Alive(process) if process.ended.is_none() => Some(process),
            _ => None,
        }
    }

    /// Visits all that run, innermost first.
    fn visit(&self, look: &mut impl FnMut(&Self)) {
        for child in &self.children {
            if let Run::Alive(process) = &child.run
                && let Some(inner) = &process.inner
            {
                inner.visit(look);
            }
        }
        look(self);
    }
}
