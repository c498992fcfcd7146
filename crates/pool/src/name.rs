use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The name of a pool, with the kind of worker that it lends.
///
/// ```
/// # use perennial_pool::PoolName;
/// # struct DatabaseWorker;
/// const DATABASE: PoolName<DatabaseWorker> = PoolName::new("database");
/// assert_eq!(DATABASE.as_str(), "database");
/// ```
pub struct PoolName<W> {
    name: &'static str,
    worker: PhantomData<fn() -> W>,
}

impl<W> PoolName<W> {
    /// Names a pool.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            worker: PhantomData,
        }
    }

    /// Returns the name as text.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.name
    }
}

impl<W> Clone for PoolName<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for PoolName<W> {}

impl<W> fmt::Debug for PoolName<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolName").field(&self.name).finish()
    }
}

impl<W> fmt::Display for PoolName<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<W> From<PoolName<W>> for Arc<str> {
    fn from(name: PoolName<W>) -> Self {
        Self::from(name.name)
    }
}
