use std::fmt;
use std::sync::Arc;

use crate::cells::Cells;
use crate::{Holder, PoolConfig, PoolConfigError, PoolStats, PoolStatus, PoolWorker};

/// A handle to a pool that only looks at it, whatever kind of worker it lends.
#[derive(Clone)]
pub struct PoolView {
    pub(crate) cells: Arc<Cells>,
}

impl PoolView {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.cells.name
    }

    /// Returns the settings.
    pub fn config(&self) -> &PoolConfig {
        &self.cells.config
    }

    /// See [`Pool::status`](crate::Pool::status).
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.cells.status()
    }

    /// See [`Pool::stats`](crate::Pool::stats).
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.cells.stats()
    }

    /// See [`Pool::holders`](crate::Pool::holders).
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.cells.holders()
    }

    /// See [`Pool::workers`](crate::Pool::workers).
    #[must_use]
    pub fn workers(&self) -> Vec<PoolWorker> {
        self.cells.workers()
    }

    /// See [`Pool::resize`](crate::Pool::resize).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resize(&self, size: usize, max_overflow: usize) -> Result<(), PoolConfigError> {
        PoolConfig::new(size)
            .max_overflow(max_overflow)
            .wait_timeout(self.config().wait_timeout)
            .validate(self.name())?;
        self.cells.resize(size, max_overflow);
        Ok(())
    }

    /// See [`Pool::drain`](crate::Pool::drain).
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn drain(&self) {
        self.cells.drain();
        self.cells.returned().await;
    }

    /// See [`Pool::resume`](crate::Pool::resume).
    pub fn resume(&self) {
        self.cells.resume();
    }

    /// See [`Pool::is_drained`](crate::Pool::is_drained).
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.cells.is_drained()
    }

    /// See [`Pool::is_closed`](crate::Pool::is_closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cells.is_closed()
    }

    /// See [`Pool::close`](crate::Pool::close).
    pub(crate) fn close(&self) {
        self.cells.close();
    }
}

impl fmt::Debug for PoolView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolView")
            .field("name", self.name())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
