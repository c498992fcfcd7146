use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::future::try_join_all;
use perennial_lifecycle::{ActorPath, ExitReason, Node};

use super::config::PartitionedSupervisorBuilder;
use super::route::route;
use crate::{
    ChildCount, ChildInfo, ChildTemplate, DynamicChild, DynamicSupervisor, StartChildError,
    Supervisor, SupervisorDown, TerminateChildError,
};

/// A handle to dynamic supervisors side by side, among which keys are divided; Elixir's `PartitionSupervisor`
/// over dynamic supervisors.
///
/// One dynamic supervisor starts and restarts its children one after the other. Of these partitions each has
/// a queue of its own, so what is slow or crashes in one holds up no other. The handle is cheap to clone,
/// and still right after the partitions or the supervisor above them were restarted.
///
/// # Routing
///
/// A key belongs to one partition: the same key to the same one, through every handle and over every
/// restart, since the hash has no seed and the number of partitions never changes. A named child belongs to
/// the partition of its id, with `str` as the type of the key.
///
/// This holds within one build of a program. Which partition it is may differ in another: do not store it.
/// Nor is the hash a secret: who may choose keys freely can choose a partition.
///
/// # Ends
///
/// | what ends | what follows |
/// | --- | --- |
/// | a child | its partition restarts it, by its restart type |
/// | a partition: killed, or restarts in it were too many | the supervisor above restarts it, and it is empty: dynamic children are lost; those in other partitions notice nothing |
/// | the supervisor: killed, or restarts of partitions were too many | all partitions end; its own supervisor restarts it, empty |
///
/// At the end the partitions stop one after the other, each with all its children at once.
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
/// use perennial_supervisor::{ChildTemplate, PartitionedSupervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let session = ChildTemplate::worker("session", |user: &String| (Session, user.clone()));
/// let sessions = PartitionedSupervisor::builder(session.transient())
///     .partitions(4.try_into()?)
///     .build()?
///     .start("shop")
///     .await?;
///
/// // By a key of any type, or by the child's own id.
/// let ada = sessions.start_child(&42, "ada".to_owned()).await?;
/// sessions.start_child_named("grace", "grace".to_owned()).await?;
/// assert_eq!(sessions.count_children().await?.active, 2);
/// assert_eq!(sessions.partition_of(&42).count_children().await?.active, 1);
///
/// sessions.terminate_child(&ada).await?;
/// sessions.terminate_child_named("grace").await?;
/// assert_eq!(sessions.count_children().await?.active, 0);
/// # Ok(())
/// # }
/// ```
pub struct PartitionedSupervisor<Args> {
    supervisor: Supervisor,
    count: NonZeroU32,
    /// As many as `count` says.
    partitions: Arc<[DynamicSupervisor<Args>]>,
}

/// One child in the answer of [`PartitionedSupervisor::which_children`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartitionedChildInfo {
    /// The index of the partition that it lives in.
    pub partition: u32,
    /// The child.
    pub child: ChildInfo,
}

impl<Args: Send + Sync + 'static> PartitionedSupervisor<Args> {
    /// Collects the settings of a supervisor whose children are made by `template`.
    pub fn builder(template: ChildTemplate<Args>) -> PartitionedSupervisorBuilder<Args> {
        PartitionedSupervisorBuilder::new(template)
    }

    pub(super) fn new(node: &Arc<Node>, count: NonZeroU32) -> Self {
        let partitions = (0..count.get())
            .map(|index| DynamicSupervisor::new(node.child_or_insert(&index.to_string())));
        Self {
            supervisor: Supervisor::new(Arc::clone(node)),
            count,
            partitions: partitions.collect(),
        }
    }

    /// Returns the handle of the supervisor at `node`, or `None` when something else lives there, or nothing
    /// was ever started there.
    ///
    /// Whether its template takes these arguments shows at the first start.
    #[must_use]
    pub fn at(node: &Arc<Node>) -> Option<Self> {
        let supervisor = Supervisor::at(node)?;
        // By their ids: a supervisor that starts anew moves one place after the other to the end.
        let place = |index: u32| DynamicSupervisor::at(&node.child(&index.to_string())?);
        // The first place is made last, so that with it all are there to be counted.
        place(0)?;
        let children = node.children();
        // A child that somebody has added to the supervisor above is no partition, whatever it looks like.
        let is_partition = |child: &&Arc<Node>| {
            let id = child.path().id();
            let is_index = id.parse::<u32>().is_ok_and(|it| it.to_string() == id);
            is_index && Supervisor::at(child).is_some()
        };
        let count = children.iter().filter(is_partition).count();
        let count = u32::try_from(count).ok()?;
        Some(Self {
            supervisor,
            count: NonZeroU32::new(count)?,
            partitions: (0..count).map(place).collect::<Option<_>>()?,
        })
    }

    /// Returns the handle that all supervisors have in common, of the supervisor whose children are the
    /// partitions.
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

    /// Returns the number of partitions.
    #[must_use]
    pub fn partitions(&self) -> NonZeroU32 {
        self.count
    }

    /// Returns the partition of this index, counted from 0.
    #[must_use]
    pub fn partition(&self, index: u32) -> Option<&DynamicSupervisor<Args>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Returns the partition that `key` belongs to.
    ///
    /// For keys that are equal, of types that hash alike, it is the same one: `"a"`, `String` and `Arc<str>`
    /// do, `1_u32` and `1_u64` do not.
    ///
    /// # Panics
    ///
    /// Never, unless the key's own hash does.
    #[must_use]
    pub fn partition_of<K: Hash + ?Sized>(&self, key: &K) -> &DynamicSupervisor<Args> {
        &self.partitions[route(key, self.count) as usize]
    }

    /// Starts a child in the partition of `key`, under an id that the partition makes up.
    ///
    /// No two of these ids are alike, but they do not route: the child is found by what is returned here, or
    /// in its own partition.
    ///
    /// # Errors
    ///
    /// [`StartChildError`]; a start that failed or was declined keeps nothing and disturbs nobody. While the
    /// partition is being restarted it is down.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn start_child<K: Hash + ?Sized>(
        &self,
        key: &K,
        arguments: Args,
    ) -> Result<DynamicChild, StartChildError> {
        self.partition_of(key).start_child(arguments).await
    }

    /// Starts a child in the partition of `id`, under this id, unique among the named children of all partitions.
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
        let id = id.into();
        let partition = self.partition_of(&*id);
        partition.start_child_named(id, arguments).await
    }

    /// Stops a child and forgets it, whichever partition it is in.
    ///
    /// A run that is over needs nothing, so that the successor of a restarted child stays; a child that
    /// is about to be restarted is forgotten.
    ///
    /// # Errors
    ///
    /// [`TerminateChildError`] when it runs and is not a child of any partition, or when a handler of it, or of one below
    /// it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn terminate_child(&self, child: &DynamicChild) -> Result<(), TerminateChildError> {
        match self.partition_around(child.node()) {
            Some(partition) => partition.terminate_child(child).await,
            // As a partition answers it.
            None if child.incarnation().exit_reason().is_some() => Ok(()),
            None => {
                let id = child.id().to_owned();
                Err(TerminateChildError::NotFound { id })
            }
        }
    }

    /// Returns the partition in which the place of a child is, going by its path.
    fn partition_around(&self, child: &Node) -> Option<&DynamicSupervisor<Args>> {
        let path = child.path().as_str().strip_prefix(self.path().as_str())?;
        let (index, _) = path.strip_prefix('/')?.split_once('/')?;
        self.partition(index.parse().ok()?)
    }

    /// Stops the child that was started under this id, whichever run it is in, and forgets it.
    ///
    /// # Errors
    ///
    /// [`TerminateChildError`] when there is no such child, or when a handler of it, or of one below it, asks.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the request is on its way and is carried out.
    pub async fn terminate_child_named(&self, id: &str) -> Result<(), TerminateChildError> {
        self.partition_of(id).terminate_child_named(id).await
    }

    /// Lists the children by partition, newest first in each.
    ///
    /// All partitions are asked at once; each answers in its turn, so the list need not be of one moment.
    ///
    /// # Errors
    ///
    /// [`SupervisorDown`] names a partition that was down; it may be about to come back.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn which_children(&self) -> Result<Vec<PartitionedChildInfo>, SupervisorDown> {
        let lists = self.partitions.iter().map(|it| it.which_children());
        let lists = (0..).zip(try_join_all(lists).await?);
        let children = lists.flat_map(|(partition, list)| {
            let entry = move |child| PartitionedChildInfo { partition, child };
            list.into_iter().map(entry)
        });
        Ok(children.collect())
    }

    /// Counts the children of all partitions; `specs` is 1, the template.
    ///
    /// Partitions do not count themselves: [`supervisor`](Self::supervisor) counts them.
    ///
    /// # Errors
    ///
    /// As [`which_children`](Self::which_children).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn count_children(&self) -> Result<ChildCount, SupervisorDown> {
        let counts = self.partitions.iter().map(|it| it.count_children());
        let mut sum = ChildCount {
            specs: 1,
            ..ChildCount::default()
        };
        for count in try_join_all(counts).await? {
            sum.active += count.active;
            sum.supervisors += count.supervisors;
            sum.workers += count.workers;
        }
        Ok(sum)
    }

    /// Stops the supervisor, its partitions and their children first, and waits for its end.
    ///
    /// In a handler of it, or of an actor below it, as [`Supervisor::stop`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait, not the stop.
    pub async fn stop(&self, reason: ExitReason) {
        self.supervisor.stop(reason).await;
    }

    /// Kills the supervisor above; its partitions are asked to stop by themselves, with their children.
    pub fn kill(&self) {
        self.supervisor.kill();
    }

    /// Waits for the end of the present run of the supervisor above and says why; answers at once when there
    /// is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn ended(&self) -> ExitReason {
        self.supervisor.ended().await
    }
}

impl<Args> Clone for PartitionedSupervisor<Args> {
    fn clone(&self) -> Self {
        Self {
            supervisor: self.supervisor.clone(),
            count: self.count,
            partitions: Arc::clone(&self.partitions),
        }
    }
}

impl<Args> fmt::Debug for PartitionedSupervisor<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionedSupervisor")
            .field("path", self.supervisor.path())
            .field("partitions", &self.count)
            .finish_non_exhaustive()
    }
}
