use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

use perennial_lifecycle::{ChildKind, ChildSpec, Node, Scope, StartError, Started};

use super::handle::PartitionedSupervisor;
use crate::actor::SupervisorActor;
use crate::root::start_root;
use crate::{
    ChildTemplate, DynamicSupervisor, DynamicSupervisorBuilder, RestartIntensity, Strategy,
    Supervisor, SupervisorSpec, SupervisorSpecError,
};

/// Collects the settings of a partitioned supervisor; see [`PartitionedSupervisor::builder`].
#[must_use]
pub struct PartitionedSupervisorBuilder<Args> {
    partition: DynamicSupervisorBuilder<Args>,
    partitions: Option<NonZeroU32>,
    intensity_above: RestartIntensity,
}

impl<Args: Send + Sync + 'static> PartitionedSupervisorBuilder<Args> {
    pub(super) fn new(template: ChildTemplate<Args>) -> Self {
        Self {
            partition: DynamicSupervisor::builder(template),
            partitions: None,
            intensity_above: RestartIntensity::default(),
        }
    }

    /// Sets the number of partitions, for good. Default: what the machine runs in parallel, as seen when the
    /// settings are checked.
    pub fn partitions(mut self, count: NonZeroU32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// Sets the restart intensity of each partition, which its children share. Default: 1 restart within 5 s.
    pub fn intensity_per_partition(mut self, intensity: RestartIntensity) -> Self {
        self.partition = self.partition.intensity(intensity);
        self
    }

    /// Sets the restart intensity of the supervisor above: how often partitions that gave up, or were killed,
    /// are brought back. Default: 1 restart within 5 s.
    pub fn intensity_above(mut self, intensity: RestartIntensity) -> Self {
        self.intensity_above = intensity;
        self
    }

    /// Sets how many children there may be at a time in each partition. Default: any number.
    ///
    /// Keys do not spread exactly evenly, so one partition may be full while another is not.
    pub fn max_children_per_partition(mut self, limit: NonZeroU32) -> Self {
        self.partition = self.partition.max_children(limit);
        self
    }

    /// Starts, restarts and terminates children beside the queue of their partition instead of in it; see
    /// [`DynamicSupervisorBuilder::concurrent_starts`]. Default: off.
    pub fn concurrent_starts(mut self, concurrent: bool) -> Self {
        self.partition = self.partition.concurrent_starts(concurrent);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`SupervisorSpecError`] names the template and the field. A template cannot be significant here: the
    /// end of a partition is never the end of the others.
    pub fn build(self) -> Result<PartitionedSpec<Args>, SupervisorSpecError> {
        let partition = self.partition.build()?;
        let count = self.partitions.unwrap_or_else(parallelism);
        let partitions =
            (0..count.get()).map(|index| partition.clone().into_child(index.to_string()));
        let supervisor = Supervisor::builder()
            .strategy(Strategy::OneForOne)
            .intensity(self.intensity_above)
            .children(partitions)
            .build()?;
        Ok(PartitionedSpec {
            supervisor,
            count,
            arguments: PhantomData,
        })
    }
}

fn parallelism() -> NonZeroU32 {
    let known = std::thread::available_parallelism().ok();
    known
        .and_then(|known| known.try_into().ok())
        .unwrap_or(NonZeroU32::MIN)
}

impl<Args> Clone for PartitionedSupervisorBuilder<Args> {
    fn clone(&self) -> Self {
        Self {
            partition: self.partition.clone(),
            ..*self
        }
    }
}

impl<Args> fmt::Debug for PartitionedSupervisorBuilder<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionedSupervisorBuilder")
            .field("partition", &self.partition)
            .field("partitions", &self.partitions)
            .field("intensity_above", &self.intensity_above)
            .finish()
    }
}

/// Checked settings of a partitioned supervisor, ready to be started any number of times.
pub struct PartitionedSpec<Args> {
    supervisor: SupervisorSpec,
    count: NonZeroU32,
    arguments: PhantomData<fn(Args)>,
}

impl<Args: Send + Sync + 'static> PartitionedSpec<Args> {
    /// Starts the supervisor, with empty partitions, as the root of a new tree.
    ///
    /// # Errors
    ///
    /// [`StartError`] when an actor could not be started.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a supervisor that nobody took over is asked to stop.
    pub async fn start(self, namespace: &str) -> Result<PartitionedSupervisor<Args>, StartError> {
        self.start_in(&Scope::new(namespace)).await
    }

    /// Starts the supervisor as the root of the tree that `scope` describes.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`RootTaken`](crate::RootTaken) where a root runs, or is being started, that nobody
    /// has asked to stop.
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Self::start).
    pub async fn start_in(self, scope: &Scope) -> Result<PartitionedSupervisor<Args>, StartError> {
        let count = self.count;
        start_root(scope, async |context| {
            reserve(&self.supervisor, context.node());
            SupervisorActor::spawn(self.supervisor, context).await
        })
        .await?;
        Ok(PartitionedSupervisor::new(scope.root(), count))
    }

    /// Makes the spec of a nested supervisor; [`PartitionedSupervisor::at`] finds its handle.
    ///
    /// Restarted by its own supervisor it has as many partitions as before, all of them empty.
    pub fn into_child(self, id: impl Into<Arc<str>>) -> ChildSpec {
        ChildSpec::from_fn(id, ChildKind::Supervisor, move |context| {
            let spec = self.supervisor.clone();
            async move {
                reserve(&spec, context.node());
                let child = SupervisorActor::spawn(spec, context).await?;
                Ok(Started::from(child))
            }
        })
    }
}

/// Makes the places of all partitions before any of them starts, the first place last: whoever finds that one
/// counts them all, and so routes as everybody will later.
fn reserve(spec: &SupervisorSpec, node: &Node) {
    for partition in spec.children.iter().rev() {
        let place = node.child_or_insert(partition.id());
        place.set_spec(
            partition.kind(),
            partition.restart_type(),
            partition.shutdown_type(),
        );
    }
}

impl<Args> Clone for PartitionedSpec<Args> {
    fn clone(&self) -> Self {
        Self {
            supervisor: self.supervisor.clone(),
            ..*self
        }
    }
}

impl<Args> fmt::Debug for PartitionedSpec<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionedSpec")
            .field("partitions", &self.count)
            .field("supervisor", &self.supervisor)
            .finish()
    }
}
