use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial_breaker::Breakers;
use perennial_lifecycle::{
    ActorPath, ChildKind, ChildSpec, DeadLetter, DeadLetterStream, Events, Scope, StartContext,
    Started,
};
use perennial_pool::Pools;
use perennial_registry::{Name, Registry};
use ractor::Message;
use tokio::sync::watch;

use crate::actor::DebugActor;
use crate::declared::{Declaration, Declarations};
use crate::shared::{Below, Shared};
use crate::traffic::Around;
use crate::{Snapshot, SnapshotError, TimelineEntry};

mod commands;
mod services;

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

    /// Says which breakers the tree has, and below which place their actors live. The first ones stand.
    #[must_use]
    pub fn with_breakers(self, place: ActorPath, breakers: &Breakers) -> Self {
        let all = breakers.clone();
        // Another handle may have set them.
        drop(self.shared.breakers.set(Below { place, all }));
        self
    }

    /// Says which pools the tree has, and below which place they live. The first ones stand.
    #[must_use]
    pub fn with_pools(self, place: ActorPath, pools: &Pools) -> Self {
        let all = pools.clone();
        // Another handle may have set them.
        drop(self.shared.pools.set(Below { place, all }));
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

    /// Lists the messages that nobody handled, as far as they are kept, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shared.scope.traffic().dead_letters().list()
    }

    /// Follows the messages that nobody handles, from now on.
    pub fn follow_dead_letters(&self) -> DeadLetterStream {
        self.shared.scope.traffic().dead_letters().subscribe()
    }
}

impl fmt::Debug for Debugger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debugger")
            .field("scope", &self.shared.scope)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
