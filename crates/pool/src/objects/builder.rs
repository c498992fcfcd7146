use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ObjectPool;
use super::shelves::Shelves;
use crate::config::{MOST_WORKERS, default_wait_timeout};
use crate::{PoolConfigError, PoolField, PoolStrategy};

/// The settings of an [`ObjectPool`].
///
/// | setting | default |
/// | --- | --- |
/// | which idle object is lent | [`PoolStrategy::Lifo`] |
/// | how long a checkout waits | 5 s |
/// | how many may wait at once | no limit |
///
/// ```
/// # use perennial_pool::{ObjectPool, PoolField, PoolStrategy};
/// # use std::time::Duration;
/// let pool = ObjectPool::builder("numbers", 0..3)
///     .strategy(PoolStrategy::Fifo)
///     .wait_timeout(Duration::from_millis(250))
///     .max_waiting(1_000)
///     .build()?;
/// assert_eq!(*pool.try_checkout()?, 0);
///
/// let error = ObjectPool::builder("a/b", 0..3).build().unwrap_err();
/// assert_eq!(error.field, PoolField::Name);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct ObjectPoolBuilder<T> {
    pub(super) name: Arc<str>,
    pub(super) objects: Vec<T>,
    pub(super) strategy: PoolStrategy,
    pub(super) wait_timeout: Duration,
    pub(super) max_waiting: Option<usize>,
}

impl<T> ObjectPoolBuilder<T> {
    pub(super) fn new(name: Arc<str>, objects: Vec<T>) -> Self {
        Self {
            name,
            objects,
            strategy: PoolStrategy::default(),
            wait_timeout: default_wait_timeout(),
            max_waiting: None,
        }
    }

    /// Sets which idle object is lent next.
    pub fn strategy(mut self, strategy: PoolStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets how long a checkout waits for an object.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.wait_timeout = wait_timeout;
        self
    }

    /// Refuses a checkout at once when `max_waiting` others wait already.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// Makes the pool. One without objects may be given some [later](ObjectPool::add).
    ///
    /// # Errors
    ///
    /// [`PoolConfigError`] names the field.
    pub fn build(self) -> Result<ObjectPool<T>, PoolConfigError> {
        let error = |field, expected| PoolConfigError {
            pool: self.name.to_string(),
            field,
            expected,
        };
        if self.name.is_empty() || self.name.contains('/') {
            return Err(error(PoolField::Name, "must not be empty or contain `/`"));
        }
        if self.objects.len() > MOST_WORKERS {
            return Err(error(PoolField::Size, "must be at most 1048576 objects"));
        }
        Ok(ObjectPool(Arc::new(Shelves::new(self))))
    }
}

impl<T> fmt::Debug for ObjectPoolBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPoolBuilder")
            .field("name", &self.name)
            .field("size", &self.objects.len())
            .finish_non_exhaustive()
    }
}
