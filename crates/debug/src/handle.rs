use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{
    ChildKind, ChildSpec, Events, Incarnation, Node, Scope, StartContext, Started,
};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::actor::{Command, DebugActor, DebugMsg, Outcome};
use crate::{CommandError, Snapshot, SnapshotError, TimelineEntry};

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
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    scope: Scope,
    /// Where the debug actor lives, once it was started.
    home: watch::Sender<Option<Arc<Node>>>,
}

impl Debugger {
    /// Makes the debugger of the tree that `scope` describes.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        Self {
            shared: Arc::new(Shared {
                scope: scope.clone(),
                home: watch::Sender::new(None),
            }),
            deadline: DEADLINE,
        }
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
                let child = context.spawn(DebugActor, shared.scope.clone()).await?;
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
        Ok(Snapshot::read(root, self.shared.scope.detached()).await)
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
        self.command(Command::Restart, path).await
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

    async fn command(&self, command: Command, path: &str) -> Outcome {
        let outcome = async {
            loop {
                let run = self.debug_actor().await;
                if let Some(work) = submit(&run, command, path).await {
                    return work.await.unwrap_or_else(|_| {
                        Err(CommandError::CutOff {
                            path: path.to_owned(),
                            command: command.name(),
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
                command: command.name(),
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
