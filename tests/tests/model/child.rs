//! One child of a supervisor, and how it is stopped.

use std::time::Duration;

use perennial_lifecycle::{Restart, Shutdown};

use crate::rules::Supervisor;
use crate::script::{Body, ChildPlan, Class, Id, LINGERS, OnStop, STALLS};
use crate::seen::Entry;
use crate::world::World;

pub(crate) struct Child {
    /// Tells it from another child of the same id, before or after.
    pub(crate) key: u64,
    pub(crate) plan: ChildPlan,
    pub(crate) run: Run,
    /// The last process that came up.
    pub(crate) last: u64,
}

/// What the supervisor knows of a child.
pub(crate) enum Run {
    Alive(Process),
    /// A restart failed, and a retry is in the queue.
    Restarting,
    Stopped,
}

pub(crate) struct Process {
    pub(crate) key: u64,
    pub(crate) run: u64,
    /// Why it ended, when the supervisor has not noticed yet.
    pub(crate) ended: Option<Class>,
    /// When the child is a supervisor.
    pub(crate) inner: Option<Supervisor>,
}

impl Child {
    /// Stops it if it runs, and returns why it ended.
    pub(crate) fn stop(&mut self, world: &mut World) -> Option<Class> {
        let id = self.plan.id;
        let run = std::mem::replace(&mut self.run, Run::Stopped);
        let Run::Alive(mut process) = run else {
            return None;
        };
        // Rule 8: it is dead already, and its notice is swallowed.
        if let Some(reason) = process.ended {
            return Some(reason);
        }
        let reason = match (&mut process.inner, &self.plan.body) {
            (Some(inner), _) => {
                inner.stop_all(world);
                Class::Shutdown
            }
            (None, Body::Worker(on_stop)) => {
                if self.plan.shutdown != Shutdown::BrutalKill {
                    world.log.push(Entry::PostStop(id));
                }
                let (reason, time) = stopped(self.plan.shutdown, *on_stop);
                world.now += time;
                reason
            }
            (None, Body::Supervisor(_)) => unreachable!("it runs, so it has an inside"),
        };
        process.end(id, reason, world);
        Some(reason)
    }

    /// Rule 28 and section 5.2: whether a child that was stopped may end for this reason.
    pub(crate) fn is_expected(&self, reason: Class) -> bool {
        let asked = match self.plan.shutdown {
            Shutdown::BrutalKill => Class::Killed,
            Shutdown::Within(_) | Shutdown::Infinity => Class::Shutdown,
        };
        reason == asked || (self.plan.restart != Restart::Permanent && reason.is_clean())
    }
}

/// Rule 28, SUP-7: what a worker that is stopped ends with, and after which time.
fn stopped(shutdown: Shutdown, on_stop: OnStop) -> (Class, Duration) {
    let (reason, time) = match on_stop {
        OnStop::Obey => (Class::Shutdown, Duration::ZERO),
        OnStop::Linger => (Class::Shutdown, LINGERS),
        OnStop::Stall => (Class::Shutdown, STALLS),
        OnStop::Normal => (Class::Normal, Duration::ZERO),
        OnStop::Fail => (Class::Failed, Duration::ZERO),
    };
    match shutdown {
        Shutdown::BrutalKill => (Class::Killed, Duration::ZERO),
        Shutdown::Within(limit) if time > limit => (Class::Killed, limit),
        Shutdown::Within(_) | Shutdown::Infinity => (reason, time),
    }
}

impl Process {
    pub(crate) fn end(&mut self, id: Id, reason: Class, world: &mut World) {
        // A worker lets go of its state before anybody hears of its end.
        if self.inner.take().is_none() {
            world.log.push(Entry::Gone(id, world.now));
        }
        world.log.push(Entry::Exited(id, reason));
        self.ended = Some(reason);
    }
}
