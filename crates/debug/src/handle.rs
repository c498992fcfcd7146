use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial_breaker::Breakers;
use perennial_lifecycle::{
    ActorPath, ChildKind, ChildSpec, DeadLetter, DeadLetterStream, Events, Incarnation, Node,
    Scope, StartContext, Started,
};
use perennial_pool::Pools;
use perennial_registry::{Name, Registry};
use ractor::Message;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::actor::{Command, DebugActor, DebugMsg, Done, Outcome};
use crate::declared::{Declaration, Declarations};
use crate::services::Below;
use crate::traffic::Around;
use crate::{CommandError, MessageTrace, Snapshot, SnapshotError, TimelineEntry};

/// The child id of the debug actor.
const ID: &str = "debug";

/// Longer than a worker that must be killed takes to stop.
const DEADLINE: Duration = Duration::from_secs(15);

/// A handle that looks at a tree and commands it; cheap to clone.
///
/// Snapshots, events and the timeline need no actor and work before the tree runs and after it ended.
/// Commands need the debug actor: put [`child_spec`](Self::child_spec) into the tree, once.
///
/// ```
/// use perennial_debug::Debugger;
/// use perennial_lifecycle::Scope;
/// use perennial_supervisor::Supervisor;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scope = Scope::new("shop");
/// let debugger = Debugger::new(&scope);
/// let tree = Supervisor::builder().child(debugger.child_spec()).build()?;
/// tree.start_in(&scope).await?;
///
/// // The debug actor is a child as any other: it can be killed through itself, and comes back.
/// debugger.kill("shop/debug").await?;
/// debugger.restart("shop/debug").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Debugger {
    pub(crate) shared: Arc<Shared>,
    deadline: Duration,
}

pub(crate) struct Shared {
    pub(crate) scope: Scope,
    pub(crate) names: OnceLock<Registry>,
    pub(crate) breakers: OnceLock<Below<Breakers>>,
    pub(crate) pools: OnceLock<Below<Pools>>,
    pub(crate) declared: Declarations,
    /// Where the debug actor lives, once it was started.
    home: watch::Sender<Option<Arc<Node>>>,
}

impl Shared {
    /// Says whether the debug actor lives here.
    pub(crate) fn is_home(&self, node: &Arc<Node>) -> bool {
        let home = self.home.borrow();
        home.as_ref().is_some_and(|it| Arc::ptr_eq(it, node))
    }
}

impl Debugger {
    /// Makes the debugger of the tree that `scope` describes.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        Self {
            shared: Arc::new(Shared {
                scope: scope.clone(),
                names: OnceLock::new(),
                breakers: OnceLock::new(),
                pools: OnceLock::new(),
                declared: Declarations::default(),
                home: watch::Sender::new(None),
            }),
            deadline: DEADLINE,
        }
    }

    /// Says which names the tree has, for groups and for debug messages that are declared by name. The first names
    /// stand.
    #[must_use]
    pub fn with_names(self, names: &Registry) -> Self {
        // Another handle may have set them.
        drop(self.shared.names.set(names.clone()));
        self
    }

    /// Sets how long this handle waits for the outcome of a command. Default: 15 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Describes the debug actor: a permanent worker with the id `debug`.
    pub fn child_spec(&self) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        ChildSpec::from_fn(ID, ChildKind::Worker, move |context: StartContext| {
            let shared = Arc::clone(&shared);
            async move {
                shared.home.send_replace(Some(Arc::clone(context.node())));
                let shared = Arc::clone(&shared);
                let child = context.spawn(DebugActor, shared).await?;
                Ok(Started::from(child))
            }
        })
    }

    /// Reads the whole tree from its shared cells.
    ///
    /// No actor is asked, so none can hold it up: not a stuck one, not one that is being restarted, not
    /// the debug actor itself.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NotStarted`] before the root was started for the first time. A tree that ended can
    /// still be looked at.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let root = self.shared.scope.root();
        if root.incarnations() == 0 {
            let root = root.path().clone();
            return Err(SnapshotError::NotStarted { root });
        }
        let declared = self.declared_by_place();
        let around = Around::read(&self.shared.scope, self.shared.names.get(), declared);
        Ok(Snapshot::read(root, around).await)
    }

    /// Receives every event of the tree from now on.
    ///
    /// A subscriber that is too slow is told how many events it [`Missed`](perennial_lifecycle::Missed),
    /// and holds up nobody.
    ///
    /// ```
    /// # use perennial_debug::{Debugger, TimelineEntry};
    /// # use perennial_supervisor::Supervisor;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scope = perennial_lifecycle::Scope::new("shop");
    /// let debugger = Debugger::new(&scope);
    /// let mut events = debugger.events();
    /// Supervisor::builder().build()?.start_in(&scope).await?;
    /// while let Some(event) = events.next().await {
    ///     let entry = TimelineEntry::from(&event?);
    ///     assert_eq!(entry.text, "started #1");
    ///     # break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        self.shared.scope.events().subscribe()
    }

    /// Receives the events that the tree remembers, oldest first, and then every event from now on,
    /// without a gap between them.
    pub fn events_with_recent(&self) -> Events {
        self.shared.scope.events().subscribe_with_recent()
    }

    /// Returns the last `limit` events that the tree remembers, oldest first.
    #[must_use]
    pub fn timeline(&self, limit: usize) -> Vec<TimelineEntry> {
        let latest = self.shared.scope.events().latest(limit);
        latest.iter().map(TimelineEntry::from).collect()
    }

    /// Kills the actor at `path` and waits for its end; its supervisor then decides as after any failure.
    ///
    /// The handler in hand is dropped at its next await. The children of a killed supervisor are asked to
    /// stop. The root may be killed, too; no supervisor here brings it back, only who started it can.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] names the path that was probably meant.
    /// - [`CommandError::NotRunning`] when there is nothing to kill.
    /// - [`CommandError::TimedOut`] when the debug actor was not running, or the handler in hand did not
    ///   yield, until the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a command that the debug actor has not taken yet. One that it has
    /// taken is carried out.
    pub async fn kill(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Kill, path).await.map(drop)
    }

    /// Stops the actor at `path` in order, starts it again, and returns the number of the new run.
    ///
    /// Costs no restart intensity. An actor that is stopped is started. `None` means that its start function
    /// declined to start anything.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] names the path that was probably meant.
    /// - [`CommandError::Root`]: the root has no supervisor to start it again.
    /// - [`CommandError::Supervisor`] carries what the supervisor answered, such as a start that failed.
    /// - [`CommandError::TimedOut`] when the debug actor was not running, or the restart not through, until
    ///   the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn restart(&self, path: &str) -> Result<Option<u64>, CommandError> {
        match self.command(Command::Restart, path).await? {
            Done::Started(run) => Ok(run),
            _ => Ok(None),
        }
    }

    /// Stops the actor at `path` in order; it stays down until it is restarted.
    ///
    /// A temporary child is forgotten. An actor that is stopped already stays so.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn stop(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Stop, path).await.map(drop)
    }

    /// Starts the actor at `path` now whose restart is put off by a backoff or a quarantine.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart); also when its restart is not put off.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resume(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Resume, path).await.map(drop)
    }

    /// Lets the actor at `path` take no message until it is told to [go on](Self::resume_messages), or ends.
    ///
    /// The message in hand is finished; the others wait, and its mailbox fills up as ever. A stop, a kill and a restart
    /// take effect at once, and the next run is not paused. One message may be held back on its way to the handler: at
    /// a stop it is one of those that waited. Events of actors that it has linked by ractor's own means, and a stop by
    /// ractor's own means, wait as well.
    ///
    /// A shutdown of the tree ends all pauses, so that what they held back is handled before the actors stop.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] names the path that was probably meant.
    /// - [`CommandError::NotRunning`] when there is nothing to pause.
    /// - [`CommandError::CannotPause`] for a supervisor and for the debug actor.
    /// - [`CommandError::ShuttingDown`] when the tree is shutting down.
    /// - [`CommandError::TimedOut`] when the debug actor was not running until the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn pause(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Pause, path).await.map(drop)
    }

    /// Lets the actor at `path` take messages again; one that is not paused is left as it is.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resume_messages(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::ResumeMessages, path).await.map(drop)
    }

    /// Follows the next `messages` messages of the actor at `path`, those of later runs included, but none that is taken
    /// more than `within` from now.
    ///
    /// The actor does not wait for whoever reads.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`] names the path that was probably meant; [`CommandError::TimedOut`] as for
    /// [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the trace.
    pub async fn trace(
        &self,
        path: &str,
        messages: u32,
        within: Duration,
    ) -> Result<MessageTrace, CommandError> {
        match self
            .command(Command::Trace { messages, within }, path)
            .await?
        {
            Done::Traces(trace) => Ok(MessageTrace::new(trace)),
            _ => Err(CommandError::CutOff {
                path: path.to_owned(),
                command: "trace",
            }),
        }
    }

    /// Declares a message that operators may send to a named actor, by a name of its own.
    ///
    /// The name is looked up when the message is sent, so the actor need not have been started yet. A later declaration
    /// of the same name for the same actor stands. Needs [`with_names`](Self::with_names).
    ///
    /// ```
    /// # use perennial_debug::Debugger;
    /// # use perennial_lifecycle::Scope;
    /// # use perennial_registry::{Name, Registry};
    /// enum CacheMsg {
    ///     Flush,
    /// }
    /// const CACHE: Name<CacheMsg> = Name::new("cache");
    ///
    /// let scope = Scope::new("shop");
    /// let names = Registry::new(&scope);
    /// let debugger = Debugger::new(&scope).with_names(&names);
    /// debugger.declare(&CACHE, "flush", || CacheMsg::Flush);
    /// ```
    pub fn declare<M: Message>(
        &self,
        name: &Name<M>,
        message: &str,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) {
        let declaration = Declaration::of_name(name, message, make);
        self.shared.declared.add(declaration);
    }

    /// Declares a message that operators may send to the actor at `path`, as [`declare`](Self::declare) does.
    pub fn declare_at<M: Message>(
        &self,
        path: &str,
        message: &str,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) {
        let declaration = Declaration::of_path(path, message, make);
        self.shared.declared.add(declaration);
    }

    /// Lists the debug messages that are declared for the actor at `path`, in the order of their declaration.
    #[must_use]
    pub fn declared(&self, path: &str) -> Vec<Arc<str>> {
        let mut all = self.declared_by_place();
        all.remove(&ActorPath::root(path)).unwrap_or_default()
    }

    fn declared_by_place(&self) -> std::collections::HashMap<ActorPath, Vec<Arc<str>>> {
        self.shared.declared.by_place(self.shared.names.get())
    }

    /// Sends the actor at `path` the debug message that was [declared](Self::declare) by this name.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotDeclared`] names the debug message that was probably meant.
    /// - [`CommandError::NotMade`] when the function that makes it panicked.
    /// - [`CommandError::MailboxFull`] when there is no room for it.
    /// - [`CommandError::OtherType`] when the actor takes other messages than it was declared for.
    /// - [`CommandError::NotFound`], [`CommandError::NotRunning`] and [`CommandError::TimedOut`] as for
    ///   [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn send_declared(&self, path: &str, message: &str) -> Result<(), CommandError> {
        let command = Command::Send(message.into());
        self.command(command, path).await.map(drop)
    }

    /// Lists the messages that nobody handled, as far as they are kept, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shared.scope.traffic().dead_letters().list()
    }

    /// Follows the messages that nobody handles, from now on.
    pub fn follow_dead_letters(&self) -> DeadLetterStream {
        self.shared.scope.traffic().dead_letters().subscribe()
    }

    /// Sends the message of a dead letter to the place that it was for, once more.
    ///
    /// # Errors
    ///
    /// [`CommandError::Replay`] says why not; the letter is still there, unless it is unknown.
    /// [`CommandError::TimedOut`] as for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn replay(&self, id: u64) -> Result<(), CommandError> {
        let letters = self.dead_letters();
        let letter = letters.iter().find(|it| it.id == id);
        // For the log.
        let target = letter.map_or(self.shared.scope.root().path(), |it| &it.target);
        let command = Command::Replay(id);
        self.command(command, target.as_str()).await.map(drop)
    }

    pub(crate) async fn command(&self, command: Command, path: &str) -> Outcome {
        let name = command.name();
        let outcome = async {
            loop {
                let run = tokio::select! {
                    biased;
                    run = self.debug_actor() => run,
                    // Where nobody runs and nobody will there is nothing to wait for.
                    () = self.shared.scope.root().retired() => {
                        return Err(CommandError::Ended {
                            path: path.to_owned(),
                            command: name,
                        });
                    }
                };
                if let Some(work) = submit(&run, command.clone(), path).await {
                    return work.await.unwrap_or_else(|_| {
                        Err(CommandError::CutOff {
                            path: path.to_owned(),
                            command: name,
                        })
                    });
                }
                // This run ended without having taken it: it is for the next one.
                run.ended().await;
            }
        };
        timeout(self.deadline, outcome).await.unwrap_or_else(|_| {
            Err(CommandError::TimedOut {
                path: path.to_owned(),
                command: name,
                after: self.deadline,
            })
        })
    }

    /// Waits until the debug actor runs.
    async fn debug_actor(&self) -> Arc<Incarnation> {
        let mut home = self.shared.home.subscribe();
        loop {
            let node = home.borrow_and_update().clone();
            let running = async {
                match node {
                    Some(node) => node.running().await,
                    None => std::future::pending().await,
                }
            };
            // A supervisor that forgot its children starts the debug actor at a new node.
            tokio::select! {
                biased;
                run = running => return run,
                _ = home.changed() => {}
            }
        }
    }
}

/// Sends the command and returns its work; `None` when this run did not take it.
async fn submit(run: &Incarnation, command: Command, path: &str) -> Option<JoinHandle<Outcome>> {
    let (taken, mut answer) = oneshot::channel();
    let message = DebugMsg {
        command,
        path: path.to_owned(),
        taken,
    };
    run.post(message).ok()?;
    run.answer(&mut answer).await
}

impl fmt::Debug for Debugger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debugger")
            .field("scope", &self.shared.scope)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
