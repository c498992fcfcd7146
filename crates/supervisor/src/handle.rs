use std::fmt;
use std::sync::Arc;

use perennial_lifecycle::{ActorPath, ChildKind, ChildSpec, Ended, ExitReason, Incarnation, Node};
use ractor::RpcReplyPort;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::message::SupervisorMsg;
use crate::{
    DeleteChildError, OwnEnd, RestartChildError, ResumeChildError, StartChildError,
    SupervisorBuilder, SupervisorDown, TerminateChildError,
};

/// A handle to a supervisor; cheap to clone, and still right after the supervisor was restarted.
///
/// It is made for a [dynamic supervisor](crate::DynamicSupervisor) as well: there it lists and counts, and
/// calls that need a child of its own spec are refused.
///
/// Calls are answered by the supervisor in turn, so they wait while it starts or stops a child: as in OTP, a child that
/// calls its own supervisor in its `pre_start` waits for itself. In `post_start` it may, or in a task of its own.
/// `count_children` and the others of a supervisor that ends meanwhile return [`SupervisorDown`].
#[derive(Clone)]
pub struct Supervisor {
    node: Arc<Node>,
}

/// How many children there are; `active` counts those that are alive at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCount {
    /// Children with a spec, running or not.
    pub specs: usize,
    /// Children with a live actor.
    pub active: usize,
    /// Children that are supervisors.
    pub supervisors: usize,
    /// Children that are not.
    pub workers: usize,
}

/// One child in the answer of [`Supervisor::which_children`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildInfo {
    /// The child's id.
    pub id: Arc<str>,
    /// Whether it is a supervisor.
    pub kind: ChildKind,
    /// Where it lives.
    pub node: Arc<Node>,
    /// Whether it has an actor.
    pub status: ChildStatus,
}

/// Whether a child has an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStatus {
    /// It has one.
    Alive {
        /// Which run it is.
        incarnation: u64,
    },
    /// A restart failed and will be tried again.
    Restarting,
    /// Its backoff puts the restart off.
    Delayed {
        /// Until when.
        due: Instant,
    },
    /// It ended too often and is parked.
    Quarantined {
        /// Until when; then a probe starts it again.
        due: Instant,
    },
    /// It has none.
    Stopped,
}

/// A child that was started by a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StartedChild {
    /// Where it lives; `None` when its start function declined to start anything.
    pub node: Option<Arc<Node>>,
    /// Which run of this place it is; 0 when nothing was started.
    pub incarnation: u64,
    /// What its start function had to say.
    pub info: Option<Arc<str>>,
}

impl StartedChild {
    pub(crate) fn ignored() -> Self {
        Self {
            node: None,
            incarnation: 0,
            info: None,
        }
    }
}

impl Supervisor {
    /// Collects the settings of a supervisor.
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder::default()
    }

    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Returns the handle of the supervisor at `node`, or `None` when something else lives there.
    #[must_use]
    pub fn at(node: &Arc<Node>) -> Option<Self> {
        let (kind, ..) = node.spec()?;
        // A child of that kind need not be one of these supervisors; a run that is there tells.
        let other = node
            .current()
            .is_some_and(|run| run.actor_ref::<SupervisorMsg>().is_none());
        (kind == ChildKind::Supervisor && !other).then(|| Self::new(Arc::clone(node)))
    }

    /// Returns where it lives.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.node.path()
    }

    /// Returns its node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the run that is alive now.
    #[must_use]
    pub fn incarnation(&self) -> Option<Arc<Incarnation>> {
        self.node.current()
    }

    /// Adds a child and starts it.
    ///
    /// # Errors
    ///
    /// [`StartChildError`]; a failed start keeps nothing and disturbs no sibling.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<StartedChild, StartChildError> {
        self.call(|reply| SupervisorMsg::StartChild(Box::new(spec), reply))
            .await?
    }

    /// Stops a child; its spec stays unless it is temporary.
    ///
    /// # Errors
    ///
    /// [`TerminateChildError`] when there is no such child, or when a handler of the child, or of one below it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn terminate_child(&self, id: &str) -> Result<(), TerminateChildError> {
        self.refuse_own_end(id)?;
        self.call(|reply| SupervisorMsg::TerminateChild(id.into(), reply))
            .await?
    }

    /// Starts a child that is stopped.
    ///
    /// # Errors
    ///
    /// [`RestartChildError`] when it is not stopped, or fails to start.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn restart_child(&self, id: &str) -> Result<StartedChild, RestartChildError> {
        self.call(|reply| SupervisorMsg::RestartChild(id.into(), reply))
            .await?
    }

    /// Stops a child in order and starts it again, at no cost to the restart intensity.
    ///
    /// One that then fails to start is left stopped, and forgotten if it is temporary. A dynamic supervisor, which keeps
    /// no child that is stopped, goes on trying as after any restart that failed, unless the child is temporary.
    ///
    /// # Errors
    ///
    /// [`RestartChildError`] when there is no such child, when it fails to start, or when a handler of the child, or of
    /// one below it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn bounce_child(&self, id: &str) -> Result<StartedChild, RestartChildError> {
        self.refuse_own_end(id)?;
        self.call(|reply| SupervisorMsg::BounceChild(id.into(), reply))
            .await?
    }

    /// Starts a child now whose restart is put off by a backoff or a quarantine.
    ///
    /// A child in quarantine is still on trial. One that fails to start is treated as if its time had come.
    ///
    /// # Errors
    ///
    /// [`ResumeChildError`] when it does not wait, or fails to start.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn resume_child(&self, id: &str) -> Result<(), ResumeChildError> {
        self.call(|reply| SupervisorMsg::ResumeChild(id.into(), reply))
            .await?
    }

    /// Forgets a child that is stopped.
    ///
    /// # Errors
    ///
    /// [`DeleteChildError`] when it is not stopped.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn delete_child(&self, id: &str) -> Result<(), DeleteChildError> {
        self.call(|reply| SupervisorMsg::DeleteChild(id.into(), reply))
            .await?
    }

    /// Lists the children, newest first.
    ///
    /// # Errors
    ///
    /// [`SupervisorDown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, SupervisorDown> {
        self.call(SupervisorMsg::WhichChildren).await
    }

    /// Counts the children.
    ///
    /// # Errors
    ///
    /// [`SupervisorDown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn count_children(&self) -> Result<ChildCount, SupervisorDown> {
        self.call(SupervisorMsg::CountChildren).await
    }

    /// Returns the spec of a child.
    ///
    /// # Errors
    ///
    /// [`SupervisorDown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn child_spec(&self, id: &str) -> Result<Option<ChildSpec>, SupervisorDown> {
        self.call(|reply| SupervisorMsg::ChildSpec(id.into(), reply))
            .await
    }

    /// Stops the supervisor, its children first, and waits for its end.
    ///
    /// A handler of it, or of an actor below it, asks and does not wait: the supervisor waits for the handler. One that has to
    /// know of the end waits in a task of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait, not the stop.
    pub async fn stop(&self, reason: ExitReason) {
        if let Some(current) = self.node.current() {
            current.stop(reason);
            if OwnEnd::refuse(self.path(), &current).is_ok() {
                current.ended().await;
            }
        }
    }

    /// Kills the supervisor; its children are asked to stop by themselves.
    pub fn kill(&self) {
        if let Some(current) = self.node.current() {
            current.kill();
        }
    }

    /// Waits for the end of the present run and says why; answers at once when there is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn ended(&self) -> ExitReason {
        match self.node.current() {
            Some(current) => current.ended().await,
            None => self
                .node
                .last_end()
                .map_or(ExitReason::Normal, |Ended { reason, .. }| reason),
        }
    }

    /// Refuses a handler that would wait for its own end with that of a child.
    fn refuse_own_end(&self, id: &str) -> Result<(), OwnEnd> {
        // One that is down stops nobody.
        let current = self.node.current();
        current.map_or(Ok(()), |it| OwnEnd::refuse(&self.path().child(id), &it))
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> SupervisorMsg,
    ) -> Result<T, SupervisorDown> {
        let down = || SupervisorDown {
            path: self.path().clone(),
        };
        let current = self.node.current().ok_or_else(down)?;
        let (reply, mut answer) = oneshot::channel();
        if current.post(message(reply.into())).is_err() {
            return Err(down());
        }
        current.answer(&mut answer).await.ok_or_else(down)
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("path", self.path())
            .finish_non_exhaustive()
    }
}
