use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use perennial_lifecycle::{
    ChildKey, ChildSpec, ExitReason, Incarnation, Node, ParentLink, Scope, StopDoor, WallTime,
};
use ractor::{ActorCell, ActorRef, RpcReplyPort};

use crate::handle::{ChildCount, ChildInfo, StartedChild};
use crate::{
    DeleteChildError, DynamicChild, RestartChildError, ResumeChildError, StartChildError,
    TerminateChildError, event,
};

/// All that a supervisor hears of, in one queue.
///
/// Static and dynamic supervisors take the same messages, so that whoever finds one by its place can ask it.
pub(crate) enum SupervisorMsg {
    Ended {
        key: ChildKey,
        run: Arc<Incarnation>,
        at: WallTime,
    },
    /// A restart failed, and is to be tried again.
    Retry(ChildKey),
    /// The time for which a restart was put off is over.
    Due(ChildKey, u64),
    Stop(ExitReason),
    StartChild(
        Box<ChildSpec>,
        RpcReplyPort<Result<StartedChild, StartChildError>>,
    ),
    TerminateChild(Arc<str>, RpcReplyPort<Result<(), TerminateChildError>>),
    RestartChild(
        Arc<str>,
        RpcReplyPort<Result<StartedChild, RestartChildError>>,
    ),
    BounceChild(
        Arc<str>,
        RpcReplyPort<Result<StartedChild, RestartChildError>>,
    ),
    ResumeChild(Arc<str>, RpcReplyPort<Result<(), ResumeChildError>>),
    DeleteChild(Arc<str>, RpcReplyPort<Result<(), DeleteChildError>>),
    WhichChildren(RpcReplyPort<Vec<ChildInfo>>),
    CountChildren(RpcReplyPort<ChildCount>),
    ChildSpec(Arc<str>, RpcReplyPort<Option<ChildSpec>>),
    Dynamic(DynamicMsg),
}

/// Which run of which place: what addresses a dynamic child.
pub(crate) type Run = (Arc<Node>, Arc<Incarnation>);

/// What only a dynamic supervisor understands.
pub(crate) enum DynamicMsg {
    Start {
        id: Option<Arc<str>>,
        arguments: Box<dyn Any + Send>,
        reply: RpcReplyPort<Result<DynamicChild, StartChildError>>,
    },
    Terminate(Run, RpcReplyPort<Result<(), TerminateChildError>>),
    Bounce(Run, RpcReplyPort<Result<StartedChild, RestartChildError>>),
    ChildSpec(Run, RpcReplyPort<Option<ChildSpec>>),
    /// The start beside the queue with this ticket is through.
    Launched(ChildKey, u64),
    /// This attempt at a restart failed, and is to be followed by another.
    Retry(ChildKey, u64),
    /// The stop beside the queue with this ticket is through.
    Stopped(u64),
}

/// Puts the ends of children into the supervisor's queue.
pub(crate) struct Link {
    scope: Scope,
    queue: ActorRef<SupervisorMsg>,
    ends: AtomicU32,
    /// Whose the last ends were, each at the place of its number.
    whose: Box<[AtomicU64]>,
}

/// So many ends are known ahead of the queue, at the most.
const AHEAD: usize = 1_024;

impl Link {
    pub(crate) fn new(scope: Scope, queue: ActorRef<SupervisorMsg>, children: usize) -> Self {
        Self {
            scope,
            queue,
            ends: AtomicU32::new(0),
            whose: (0..children.min(AHEAD))
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Returns how many ends there were so far, with those that wait in the queue.
    pub(crate) fn ends(&self) -> u32 {
        self.ends.load(Relaxed)
    }

    fn count(&self, key: ChildKey) {
        let number = self.ends.fetch_add(1, Relaxed) as usize;
        if !self.whose.is_empty() {
            self.whose[number % self.whose.len()].store(key, Relaxed);
        }
    }

    /// Returns whose end has this number, counted from 0; `None` when there were not so many, or too many since.
    ///
    /// For a guess only: of ends at the same moment another may be the next in the queue.
    pub(crate) fn whose(&self, number: u32) -> Option<ChildKey> {
        let ahead = self.ends().wrapping_sub(number) as usize;
        let is_known = (1..=self.whose.len()).contains(&ahead);
        is_known.then(|| self.whose[number as usize % self.whose.len()].load(Relaxed))
    }
}

impl ParentLink for Link {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn child_ended(&self, key: ChildKey, run: Arc<Incarnation>, at: WallTime) {
        self.count(key);
        // Fails when the supervisor has ended: then nobody is left to care.
        drop(
            self.queue
                .send_message(SupervisorMsg::Ended { key, run, at }),
        );
    }

    fn child_restarted(&self, run: &Incarnation) {
        event::restarted(&self.scope, run.node(), run.number());
    }
}

/// The door through which a supervisor is asked to stop: behind what waits in its queue.
pub(crate) struct QueueDoor;

impl StopDoor for QueueDoor {
    const IS_MAILBOX: bool = true;

    fn knock(cell: &ActorCell, reason: ExitReason) {
        // Fails when it has ended: then it needs no stop.
        drop(cell.send_message(SupervisorMsg::Stop(reason)));
    }
}

/// Starts what stands for a supervisor in a test, and hears of nothing.
#[cfg(test)]
pub(crate) async fn deaf() -> ActorRef<SupervisorMsg> {
    use ractor::{Actor, ActorProcessingErr};

    struct Deaf;

    impl Actor for Deaf {
        type Msg = SupervisorMsg;
        type State = ();
        type Arguments = ();

        async fn pre_start(
            &self,
            _: ActorRef<SupervisorMsg>,
            (): (),
        ) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }
    let (queue, _task) = Actor::spawn(None, Deaf, ()).await.unwrap();
    queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whose_end_comes_is_known_as_far_ahead_as_there_were_children() {
        let link = Link::new(Scope::new("t"), deaf().await, 3);
        assert_eq!(link.whose(0), None);
        for (number, key) in (0..).zip(10..30) {
            link.count(key);
            let known: Vec<_> = (0..40).filter_map(|it| link.whose(it)).collect();
            assert_eq!(
                known,
                (10..=key).skip(number.max(2) - 2).collect::<Vec<_>>()
            );
        }
        let link = Link::new(Scope::new("t"), deaf().await, 0);
        link.count(10);
        assert_eq!(link.whose(0), None);
    }
}
