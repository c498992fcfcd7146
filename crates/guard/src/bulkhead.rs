use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bounds how many operations run at once; a handle that is cheap to clone.
///
/// Guards that share one share its places, so that a service that hangs cannot keep more of a host's tasks than this.
/// It stands behind the breaker and before the pool. Places are given first come, first served.
///
/// # Examples
///
/// ```
/// use perennial_guard::{Bulkhead, Guard, GuardError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let places = Bulkhead::new(1.try_into()?);
/// let guard = Guard::builder("geocoder").bulkhead(places.clone()).build()?;
///
/// let nested = guard
///     .run(|()| async {
///         assert_eq!(places.in_use(), 1);
///         guard.run(|()| async { Ok::<_, std::io::Error>(()) }).await
///     })
///     .await;
/// assert!(matches!(nested, Err(GuardError::Operation(GuardError::BulkheadFull { .. }))));
/// assert_eq!(places.in_use(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bulkhead {
    places: Arc<Semaphore>,
    max: u32,
    patience: Duration,
}

impl Bulkhead {
    /// Makes one with so many places; when all are taken it refuses at once.
    #[must_use]
    pub fn new(max: NonZeroU32) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let max = max.get().min(most);
        Self {
            places: Arc::new(Semaphore::new(max as usize)),
            max,
            patience: Duration::ZERO,
        }
    }

    /// Lets callers of this handle wait for a place, at most so long and never beyond their deadline.
    #[must_use]
    pub fn wait_at_most(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns how many places there are.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Returns how many places are taken.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        self.max.saturating_sub(free)
    }

    /// Takes a place if one is free and nobody waits for it.
    pub(crate) fn try_enter(&self) -> Option<Place<'_>> {
        self.places.try_acquire().ok().map(Place)
    }

    /// Waits for a place, at most so long and as long as this handle says.
    pub(crate) async fn enter(&self, left: Option<Duration>) -> Option<Place<'_>> {
        let patience = left.map_or(self.patience, |left| left.min(self.patience));
        if patience.is_zero() {
            return None;
        }
        let place = tokio::time::timeout(patience, self.places.acquire()).await;
        place.ok()?.ok().map(Place)
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("max", &self.max)
            .field("in_use", &self.in_use())
            .field("patience", &self.patience)
            .finish()
    }
}

/// One of the places; free again when it is dropped.
pub(crate) struct Place<'a>(#[expect(dead_code, reason = "held, not read")] SemaphorePermit<'a>);
