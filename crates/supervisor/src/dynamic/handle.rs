use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use perennial_lifecycle::{ActorPath, ChildSpec, ExitReason, Incarnation, Monitor, Node};

use super::config::DynamicSupervisorBuilder;
use super::template::ChildTemplate;
use crate::message::{DynamicMsg, Run, SupervisorMsg};
use crate::{
    ChildCount, ChildInfo, OwnEnd, RestartChildError, StartChildError, StartedChild, Supervisor,
    SupervisorDown, TerminateChildError,
};

/// A handle to a supervisor whose children come and go, all from one template; OTP's `simple_one_for_one`.
///
/// Cheap to clone, and still right after the supervisor was restarted. Children are independent of each
/// other: each is restarted alone, with the arguments of its first start, and they share the intensity. At
/// the end they are all stopped at once, in no order.
///
/// | start function at a call | at a restart |
/// | --- | --- |
/// | starts: the child is kept | starts: the child is back |
/// | fails: nothing is kept, the caller is told | fails: counts, and is tried again |
/// | declines: nothing is kept, the caller is told | declines: the child is forgotten |
///
/// ```
/// # use ractor::{Actor, ActorProcessingErr, ActorRef};
/// # struct Session;
/// # impl Actor for Session {
/// #     type Msg = ();
/// #     type State = String;
/// #     type Arguments = String;
/// #     async fn pre_start(&self, _: ActorRef<()>, user: String) -> Result<String, ActorProcessingErr> {
/// #         Ok(user)
/// #     }
/// # }
/// use perennial_supervisor::{ChildTemplate, DynamicSupervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let session = ChildTemplate::worker("session", |user: &String| (Session, user.clone()));
/// let sessions = DynamicSupervisor::builder(session.transient())
///     .max_children(10_000.try_into()?)
///     .build()?
///     .start("shop")
///     .await?;
///
/// let ada = sessions.start_child("ada".to_owned()).await?;
/// sessions.start_child_named("grace", "grace".to_owned()).await?;
/// assert_eq!(sessions.count_children().await?.active, 2);
///
/// sessions.terminate_child(&ada).await?;
/// sessions.terminate_child_named("grace").await?;
/// assert_eq!(sessions.count_children().await?.active, 0);
/// # Ok(())
/// # }
/// ```
pub struct DynamicSupervisor<Args> {
    supervisor: Supervisor,
    arguments: PhantomData<fn(Args)>,
}

/// One run of a dynamic child: what OTP addresses by process.
///
/// Once the supervisor has restarted the child this stands for the run that is over; the place, and so the
/// child's id, stays the same.
#[derive(Clone, Debug)]
pub struct DynamicChild {
    pub(super) node: Arc<Node>,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) info: Option<Arc<str>>,
}

impl DynamicChild {
    /// Addresses the run of a child that is known by its place, such as the one that a restart began.
    #[must_use]
    pub fn new(node: Arc<Node>, incarnation: Arc<Incarnation>) -> Self {
        Self {
            node,
            incarnation,
            info: None,
        }
    }

    /// Returns the id: the name it was given, or one that the supervisor made up.
    #[must_use]
    pub fn id(&self) -> &str {
        self.node.path().id()
    }

    /// Returns where it lives.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the run.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.incarnation
    }

    /// Watches this run, also when it is over or was restarted meanwhile.
    #[track_caller]
    pub fn monitor(&self) -> Monitor {
        self.node.monitor_run(&self.incarnation)
    }

    /// Returns what its start function had to say.
    #[must_use]
    pub fn info(&self) -> Option<&Arc<str>> {
        self.info.as_ref()
    }

    fn run(&self) -> Run {
        (Arc::clone(&self.node), Arc::clone(&self.incarnation))
    }
}

impl<Args: Send + Sync + 'static> DynamicSupervisor<Args> {
    /// Collects the settings of a supervisor whose children are made by `template`.
    pub fn builder(template: ChildTemplate<Args>) -> DynamicSupervisorBuilder<Args> {
        DynamicSupervisorBuilder::new(template)
    }

    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self {
            supervisor: Supervisor::new(node),
            arguments: PhantomData,
        }
    }

    /// Returns the handle of the supervisor at `node`, or `None` when no supervisor lives there.
    ///
    /// Whether its template takes these arguments shows at the first start.
    #[must_use]
    pub fn at(node: &Arc<Node>) -> Option<Self> {
        let supervisor = Supervisor::at(node)?;
        Some(Self {
            supervisor,
            arguments: PhantomData,
        })
    }

    /// Returns the handle that all supervisors have in common.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Returns where it lives.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.supervisor.path()
    }

    /// Returns its node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        self.supervisor.node()
    }

    /// Starts a child under an id that the supervisor makes up.
    ///
    /// # Errors
    ///
    /// [`StartChildError`]; a start that failed or was declined keeps nothing and disturbs nobody.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn start_child(&self, arguments: Args) -> Result<DynamicChild, StartChildError> {
        self.start(None, arguments).await
    }

    /// Starts a child under this id, unique among the children.
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child); also when a child of this id exists, or the id is empty or
    /// holds a `/`.
    ///
    /// # Cancel safety
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn start_child_named(
        &self,
        id: impl Into<Arc<str>>,
        arguments: Args,
    ) -> Result<DynamicChild, StartChildError> {
        self.start(Some(id.into()), arguments).await
    }

    async fn start(
        &self,
        id: Option<Arc<str>>,
        arguments: Args,
    ) -> Result<DynamicChild, StartChildError> {
        let arguments = Box::new(arguments);
        self.call(|reply| DynamicMsg::Start {
            id,
            arguments,
            reply,
        })
        .await?
    }

    /// Stops a child and forgets it.
    ///
    /// A run that is over needs nothing, so that the successor of a restarted child stays; a child that
    /// is about to be restarted is forgotten.
    ///
    /// # Errors
    ///
    /// [`TerminateChildError`] when it runs and is not a child of this supervisor, or when a handler of it, or of one below
    /// it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn terminate_child(&self, child: &DynamicChild) -> Result<(), TerminateChildError> {
        if !child.incarnation().has_ended() {
            OwnEnd::refuse(child.node().path(), child.incarnation())?;
        }
        self.call(|reply| DynamicMsg::Terminate(child.run(), reply))
            .await?
    }

    /// Stops this run of a child in order and starts the child again, at no cost to the restart intensity; see
    /// [`Supervisor::bounce_child`], which takes whichever run there is.
    ///
    /// # Errors
    ///
    /// [`RestartChildError`] when the run is over, so that its successor stays, or is not a child of this supervisor; when
    /// the child fails to start; or when a handler of it, or of one below it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn bounce_child(
        &self,
        child: &DynamicChild,
    ) -> Result<StartedChild, RestartChildError> {
        if !child.incarnation().has_ended() {
            OwnEnd::refuse(child.node().path(), child.incarnation())?;
        }
        self.call(|reply| DynamicMsg::Bounce(child.run(), reply))
            .await?
    }

    /// Stops the child of this id, whichever run it is in, and forgets it.
    ///
    /// # Errors
    ///
    /// [`TerminateChildError`] when there is no such child, or when a handler of it, or of one below it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn terminate_child_named(&self, id: &str) -> Result<(), TerminateChildError> {
        match self.supervisor.terminate_child(id).await {
            Err(TerminateChildError::Dynamic { .. }) => {
                Err(TerminateChildError::NotFound { id: id.to_owned() })
            }
            other => other,
        }
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
        self.supervisor.which_children().await
    }

    /// Counts the children; `specs` is 1, the template.
    ///
    /// # Errors
    ///
    /// [`SupervisorDown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn count_children(&self) -> Result<ChildCount, SupervisorDown> {
        self.supervisor.count_children().await
    }

    /// Returns the template's spec, which is that of every child; `None` for what runs elsewhere.
    ///
    /// # Errors
    ///
    /// [`SupervisorDown`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn child_spec(
        &self,
        child: &DynamicChild,
    ) -> Result<Option<ChildSpec>, SupervisorDown> {
        self.call(|reply| DynamicMsg::ChildSpec(child.run(), reply))
            .await
    }

    /// Stops the supervisor, its children first, and waits for its end.
    ///
    /// In a handler of it, or of an actor below it, as [`Supervisor::stop`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait, not the stop.
    pub async fn stop(&self, reason: ExitReason) {
        self.supervisor.stop(reason).await;
    }

    /// Kills the supervisor; its children are asked to stop by themselves.
    pub fn kill(&self) {
        self.supervisor.kill();
    }

    /// Waits for the end of the present run and says why; answers at once when there is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn ended(&self) -> ExitReason {
        self.supervisor.ended().await
    }

    async fn call<T: Send + 'static>(
        &self,
        message: impl FnOnce(ractor::RpcReplyPort<T>) -> DynamicMsg,
    ) -> Result<T, SupervisorDown> {
        self.supervisor
            .call(|reply| SupervisorMsg::Dynamic(message(reply)))
            .await
    }
}

impl<Args> Clone for DynamicSupervisor<Args> {
    fn clone(&self) -> Self {
        Self {
            supervisor: self.supervisor.clone(),
            arguments: PhantomData,
        }
    }
}

impl<Args> fmt::Debug for DynamicSupervisor<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynamicSupervisor")
            .field(&self.supervisor)
            .finish()
    }
}
