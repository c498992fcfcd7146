use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Either;
use ractor::{Actor, SpawnErr};
use tokio::time::timeout;

use crate::adapter::{Nature, Seed, Supervised, SupervisedArguments};
use crate::newborn::Birth;
use crate::{
    ActorName, ActorPath, ExitReason, Incarnation, Mailbox, MessageType, Node, Scope, Shutdown,
    StopDoor, StopPort, WallTime, panic,
};

/// How long a start waits for an orphan at its place after killing it; and after asking it to stop, where its spec gives no
/// time for that.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// A supervisor's own key for one of its children.
pub type ChildKey = u64;

/// How an ended child reaches its supervisor: as one more message in the supervisor's only queue.
pub trait ParentLink: Send + Sync + 'static {
    /// Returns the scope of the tree that both belong to.
    fn scope(&self) -> &Scope;

    /// Tells the supervisor that a child ended. Called once per run, from the end of the child itself.
    ///
    /// `at` is when; why is in the run itself.
    fn child_ended(&self, key: ChildKey, run: Arc<Incarnation>, at: WallTime);

    /// Tells that a run is a restart, where that was [left](Incarnation::leave_restart_to_tell) to the run.
    fn child_restarted(&self, _: &Incarnation) {}
}

/// What a start function is given.
pub struct StartContext {
    pub(crate) node: Arc<Node>,
    pub(crate) link: Arc<dyn ParentLink>,
    pub(crate) key: ChildKey,
    pub(crate) name: Option<Arc<ActorName>>,
    pub(crate) groups: Option<Arc<[ActorName]>>,
    pub(crate) mailbox: Option<Arc<Mailbox>>,
    pub(crate) number: u64,
}

impl StartContext {
    /// Prepares one start of the actor that lives at `node`.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        link: Arc<dyn ParentLink>,
        key: ChildKey,
        name: Option<Arc<ActorName>>,
    ) -> Self {
        let number = node.next_incarnation();
        if link.scope().is_over() {
            node.retire();
        }
        Self {
            node,
            link,
            key,
            name,
            groups: None,
            mailbox: None,
            number,
        }
    }

    /// Makes what is started a member of these groups in the tree's directory.
    #[must_use]
    pub fn in_groups(mut self, groups: Option<Arc<[ActorName]>>) -> Self {
        self.groups = groups;
        self
    }

    /// Gives what is started a mailbox with these settings.
    #[must_use]
    pub fn with_mailbox(mut self, mailbox: Option<Arc<Mailbox>>) -> Self {
        self.mailbox = mailbox;
        self
    }

    /// Returns where the child lives.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.node.path()
    }

    /// Returns the number of this start: 1 for the first, then counting up, failed starts included.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.number
    }

    /// Returns the child's node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the tree's scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.link.scope()
    }

    /// Starts the actor under the supervisor and waits for its `pre_start`.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the child's name is taken, when a group of it takes other messages, or when `pre_start` fails
    /// or panics.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an actor that nobody took over is asked to stop.
    pub fn spawn<A: Actor>(
        self,
        actor: A,
        arguments: A::Arguments,
    ) -> impl Future<Output = Result<Child, StartError>> + Send {
        self.spawn_with::<A, StopPort>(actor, arguments)
    }

    /// Like [`spawn`](Self::spawn), for an actor that is asked to stop in another way.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancel safety
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_with<A: Actor, D: StopDoor>(
        self,
        actor: A,
        arguments: A::Arguments,
    ) -> impl Future<Output = Result<Child, StartError>> + Send {
        // Combinators, since each `async` block would store the future within it twice.
        let orphan = self.node.is_occupied().then(|| self.node.current());
        match orphan.flatten() {
            None => Either::Left(self.begin::<A, D>(actor, arguments)),
            Some(orphan) => Either::Right(Box::pin(async move {
                self.clear_place(orphan).await;
                self.begin::<A, D>(actor, arguments).await
            })),
        }
    }

    /// Starts the actor at a place where nobody lives.
    fn begin<A: Actor, D: StopDoor>(
        self,
        actor: A,
        arguments: A::Arguments,
    ) -> impl Future<Output = Result<Child, StartError>> + Send {
        let Self {
            node,
            link,
            key,
            name,
            groups,
            mailbox,
            number,
        } = self;
        let message = MessageType::of::<A::Msg>;
        if let (Some(name), Some(directory)) = (&name, link.scope().directory())
            && let Err(taken) = directory.bind(name, &node, message())
        {
            let error = StartError::new(ExitReason::failed(taken));
            return Either::Left(ready(Err(error)));
        }
        if let (Some(groups), Some(directory)) = (&groups, link.scope().directory()) {
            let mut joins = groups.iter().map(|it| directory.join(it, &node, message()));
            if let Some(mismatch) = joins.find_map(Result::err) {
                let error = StartError::new(ExitReason::failed(mismatch));
                return Either::Left(ready(Err(error)));
            }
        }
        if let Some(taking) = mailbox.as_ref().and_then(|it| it.misfit(message().id)) {
            let error = MailboxMisfit {
                takes: message().name,
                wanted: taking.message,
            };
            let error = StartError::new(ExitReason::failed(error));
            return Either::Left(ready(Err(error)));
        }
        let arguments = SupervisedArguments {
            inner: arguments,
            seed: Seed {
                link,
                key,
                number,
                nature: Nature::of::<A::Msg, D>(),
                node,
                mailbox,
            },
        };
        let spawned = Birth::of(Actor::spawn(None, Supervised(actor), arguments));
        Either::Right(spawned.map(|(spawned, run)| match spawned {
            // The task is detached: its end is reported by the state's drop guard.
            Ok((_actor, _task)) => Ok(Child(run)),
            Err(SpawnErr::StartupFailed(error)) => Err(match error.downcast::<StartError>() {
                Ok(error) => *error,
                Err(error) => StartError::new(ExitReason::from_processing_error(error)),
            }),
            Err(other) => Err(StartError::new(ExitReason::failed(other.to_string()))),
        }))
    }

    /// Makes sure that nobody else lives here: a supervisor that was killed has left orphans, which end by
    /// themselves beside its own restart; or one is being stopped. Two runs of one actor must not work side by side.
    ///
    /// It has as long for its stop as the spec of the place says.
    async fn clear_place(&self, orphan: Arc<Incarnation>) {
        orphan.stop(ExitReason::Killed);
        let spec = self.node.spec();
        let grace = match spec.map_or(Shutdown::Within(ORPHAN_GRACE), |(_, _, it)| it) {
            // It has lost its parent, which is no kill: a supervisor stops its children first.
            Shutdown::BrutalKill => ORPHAN_GRACE,
            Shutdown::Within(limit) => limit,
            // Longer than anybody waits.
            Shutdown::Infinity => Duration::MAX,
        };
        if timeout(grace, orphan.ended()).await.is_err() {
            orphan.kill();
            if timeout(ORPHAN_GRACE, orphan.ended()).await.is_err() {
                self.node
                    .abandon(self.scope(), &orphan, &ExitReason::Killed, || {});
            }
        }
    }
}

/// An actor whose mailbox needs it to take its messages in a [`Mail`](crate::Mail), and that does not.
#[derive(Debug, thiserror::Error)]
#[error("its mailbox needs `type Msg = Mail<{wanted}>`, and it takes {takes}")]
struct MailboxMisfit {
    takes: &'static str,
    wanted: &'static str,
}

impl fmt::Debug for StartContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartContext")
            .field("path", self.path())
            .field("incarnation", &self.number)
            .finish_non_exhaustive()
    }
}

/// A child that has just been started.
///
/// A supervisor takes it over with [`adopt`](Self::adopt). One that is dropped before is asked to stop.
#[derive(Debug)]
#[must_use]
pub struct Child(Option<Arc<Incarnation>>);

impl Child {
    /// Takes responsibility for stopping the child.
    #[must_use]
    pub fn adopt(mut self) -> Option<Arc<Incarnation>> {
        self.0.take()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(orphan) = self.0.take() {
            orphan.stop(ExitReason::Killed);
        }
    }
}

/// What came of a start that did not fail.
#[derive(Debug)]
pub enum Started {
    /// The child runs.
    Running {
        /// The child.
        child: Child,
        /// What the start function has to say to the caller of `start_child`.
        info: Option<Arc<str>>,
    },
    /// There is nothing to start now.
    Ignored,
}

impl From<Child> for Started {
    fn from(child: Child) -> Self {
        Self::Running { child, info: None }
    }
}

/// A start that failed.
#[derive(Clone, Debug)]
pub struct StartError {
    /// Why.
    pub reason: ExitReason,
}

impl StartError {
    /// Makes a start error with this reason.
    #[must_use]
    pub fn new(reason: ExitReason) -> Self {
        Self { reason }
    }

    /// Makes the error of a start function that failed, from any error or text.
    ///
    /// ```
    /// use perennial_lifecycle::StartError;
    ///
    /// fn port(text: &str) -> Result<u16, StartError> {
    ///     text.parse().map_err(StartError::failed)
    /// }
    /// let error = port("none").unwrap_err();
    /// assert_eq!(error.to_string(), "start failed: failed: invalid digit found in string");
    /// ```
    #[must_use]
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ExitReason::failed(error))
    }

    /// Makes the error of a start function that panicked, from what `catch_unwind` caught.
    #[must_use]
    pub fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        Self::new(panic::caught(payload))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            // A supervisor stops in order when a child of it does not start; what counts is the child.
            ExitReason::ShutdownWith(cause) => write!(f, "start failed: {cause}"),
            reason => write!(f, "start failed: {reason}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The reason's own text is in the message; what led to it follows.
        self.reason.cause()?.source()
    }
}
