use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{Pool, PoolName, PoolStatus, PoolView, Worker};

/// The pools of one tree, by name; a handle that is cheap to clone.
///
/// ```
/// # use perennial_pool::{Pool, PoolConfig, PoolName, Pools, Worker, WorkerRef};
/// # use ractor::{Actor, ActorProcessingErr, ActorRef};
/// # struct Idle;
/// # impl Actor for Idle {
/// #     type Msg = ();
/// #     type State = ();
/// #     type Arguments = ();
/// #     async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> { Ok(()) }
/// # }
/// # struct IdleWorker;
/// # impl Worker for IdleWorker {
/// #     type Actor = Idle;
/// #     type Client = ();
/// #     fn actor(&self) -> (Idle, ()) { (Idle, ()) }
/// #     fn client(&self, _: WorkerRef<()>) {}
/// # }
/// const IDLE: PoolName<IdleWorker> = PoolName::new("idle");
///
/// let pools = Pools::default();
/// pools.insert(Pool::new(IDLE, IdleWorker, PoolConfig::new(2))?)?;
///
/// assert!(pools.get(IDLE).is_some());
/// assert_eq!(pools.status()[0].1.size, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Pools(Arc<RwLock<BTreeMap<Arc<str>, Entered>>>);

struct Entered {
    view: PoolView,
    /// The `Pool<W>`.
    pool: Arc<dyn Any + Send + Sync>,
}

/// Two pools of one name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool `{name}`: the name is taken")]
pub struct DuplicatePool {
    /// The name.
    pub name: Arc<str>,
}

impl Pools {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Files a pool under its name.
    ///
    /// # Errors
    ///
    /// [`DuplicatePool`] when the name is taken; the pool that has it stays.
    pub fn insert<W: Worker>(&self, pool: Pool<W>) -> Result<(), DuplicatePool> {
        let mut pools = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match pools.entry(Arc::clone(pool.name())) {
            Entry::Occupied(taken) => Err(DuplicatePool {
                name: Arc::clone(taken.key()),
            }),
            Entry::Vacant(free) => {
                free.insert(Entered {
                    view: pool.view(),
                    pool: Arc::new(pool),
                });
                Ok(())
            }
        }
    }

    /// Finds a pool by name; `None` also when the pool of this name lends another kind of worker.
    #[must_use]
    pub fn get<W: Worker>(&self, name: PoolName<W>) -> Option<Pool<W>> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(name.as_str())?.pool.downcast_ref().cloned()
    }

    /// Returns all pools, in order of name, without the kind of their workers.
    #[must_use]
    pub fn views(&self) -> Vec<PoolView> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().map(|entry| entry.view.clone()).collect()
    }

    /// Returns the status of every pool, in order of name.
    #[must_use]
    pub fn status(&self) -> Vec<(Arc<str>, PoolStatus)> {
        let views = self.views();
        let status = |view: &PoolView| (Arc::clone(view.name()), view.status());
        views.iter().map(status).collect()
    }

    /// Closes all pools, see [`Pool::close`].
    pub fn close(&self) {
        for view in self.views() {
            view.close();
        }
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.views()).finish()
    }
}
