//! A pool of plain objects: what needs no actor to be looked after.

mod builder;
mod line;
mod object;
mod queue;
mod shelf;
mod shelves;
mod status;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub use self::builder::ObjectPoolBuilder;
use self::line::Phase;
pub use self::object::Object;
use self::shelves::Shelves;
pub use self::status::{ObjectPoolStats, ObjectPoolStatus};
use crate::{CheckoutError, Timeout, event};

/// A pool of plain objects, such as clients or buffers; cheap to clone.
///
/// It lends what it was given, first come, first served, and knows nothing of what that is: nothing supervises the
/// objects, checks or replaces them. For what can fail by itself there is [`Pool`](crate::Pool), whose workers are
/// actors. A holder that finds an object broken puts another in its place through the [`Object`], which can be written
/// to, or [takes it out](Object::take) of the pool.
///
/// # Examples
///
/// ```
/// use perennial_pool::ObjectPool;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffers = ObjectPool::builder("buffers", [vec![0_u8; 64], vec![0_u8; 64]]).build()?;
///
/// let mut first = buffers.checkout().await?;
/// first[0] = 7;
/// let second = buffers.try_checkout()?;
/// let refused = buffers.try_checkout().unwrap_err();
/// assert_eq!(refused.to_string(), "pool `buffers`: none to be had: 2 in use of 2 + 0, 0 waiting");
/// assert_eq!(buffers.holders()[0].file(), file!());
///
/// // Dropping it checks it in.
/// drop(first);
/// assert_eq!(buffers.checkout().await?[0], 7);
/// # drop(second);
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// - An object is lent to one holder at a time, and comes back on every way out: return, error, panic,
///   cancellation at any await.
/// - Borrowers are served first come, first served; the strategy only says which idle object is lent.
/// - Objects are dropped with the last handle and the last loan.
pub struct ObjectPool<T>(Arc<Shelves<T>>);

impl<T> ObjectPool<T> {
    /// Begins a pool of these objects.
    pub fn builder(
        name: impl Into<Arc<str>>,
        objects: impl IntoIterator<Item = T>,
    ) -> ObjectPoolBuilder<T> {
        ObjectPoolBuilder::new(name.into(), objects.into_iter().collect())
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.line.name
    }

    /// Borrows an object, waiting until one is free or the pool's wait timeout passes.
    ///
    /// Dropping the returned [`Object`] checks it in. The time counts from the first poll.
    ///
    /// # Errors
    ///
    /// - [`CheckoutError::TimedOut`] says how the pool stood when the time ran out.
    /// - [`CheckoutError::Exhausted`] when `max_waiting` others wait already.
    /// - [`CheckoutError::Drained`] when the pool was drained.
    /// - [`CheckoutError::Closed`] when the pool was closed.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with its time enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future gives up the place in the queue; an object already on its way is
    /// checked in, not lost.
    #[track_caller]
    pub fn checkout(&self) -> impl Future<Output = Result<Object<T>, CheckoutError>> + '_ {
        self.checkout_at(None, Location::caller())
    }

    /// Borrows an object, waiting at most this long whatever the pool's own settings say:
    /// a [`Duration`], or [`Timeout::Never`].
    ///
    /// # Errors
    ///
    /// As [`checkout`](Self::checkout).
    ///
    /// # Cancel safety
    ///
    /// As [`checkout`](Self::checkout).
    #[track_caller]
    pub fn checkout_within(
        &self,
        limit: impl Into<Timeout>,
    ) -> impl Future<Output = Result<Object<T>, CheckoutError>> {
        let (limit, location) = (limit.into(), Location::caller());
        async move { self.0.borrow(|| limit, location).await }
    }

    /// Borrows an object for who is listed as its holder: a place in the code, other than the one that calls this.
    ///
    /// Waits at most for `limit`, and no longer than the pool's own settings say.
    ///
    /// # Errors
    ///
    /// As [`checkout`](Self::checkout).
    ///
    /// # Cancel safety
    ///
    /// As [`checkout`](Self::checkout).
    pub async fn checkout_at(
        &self,
        limit: Option<Duration>,
        location: &'static Location<'static>,
    ) -> Result<Object<T>, CheckoutError> {
        let own = || self.0.wait_timeout;
        let limit = || limit.map_or_else(own, |limit| limit.min(own())).into();
        self.0.borrow(limit, location).await
    }

    /// Borrows an object if one is idle.
    ///
    /// # Errors
    ///
    /// - [`CheckoutError::Exhausted`] when all are on loan, or meant for who waits.
    /// - [`CheckoutError::Drained`] and [`CheckoutError::Closed`] as for [`checkout`](Self::checkout).
    #[track_caller]
    pub fn try_checkout(&self) -> Result<Object<T>, CheckoutError> {
        self.0.borrow_now(Location::caller())
    }

    /// Adds an object: it is lent to who has waited longest, or is idle.
    ///
    /// # Errors
    ///
    /// The object, when the pool is closed.
    pub fn add(&self, object: T) -> Result<(), T> {
        self.0.add(object)
    }

    /// Counts objects and waiters, exactly, at this moment.
    #[must_use]
    pub fn status(&self) -> ObjectPoolStatus {
        self.0.status()
    }

    /// Says what the pool has done so far.
    #[must_use]
    pub fn stats(&self) -> ObjectPoolStats {
        self.0.stats()
    }

    /// Lists where the objects on loan were checked out.
    ///
    /// For how long is not known: a pool of plain objects reads no clock for who does not wait.
    #[must_use]
    pub fn holders(&self) -> Vec<&'static Location<'static>> {
        self.0.holders()
    }

    /// Lends nothing more, and waits until all objects are back, or the pool is [resumed](Self::resume).
    ///
    /// Who waits and who comes is refused with [`CheckoutError::Drained`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait; the pool stays drained until it is resumed.
    pub async fn drain(&self) {
        let drained = |phase| (phase == Phase::Open).then_some(Phase::Drained);
        if self.0.line.go_on(drained) {
            event::drained(self.name());
        }
        self.0.returned().await;
    }

    /// Lends again after a [drain](Self::drain).
    pub fn resume(&self) {
        if self.0.resume() {
            event::opened(self.name());
        }
    }

    /// Says whether the pool was drained and not resumed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.0.phase() == Phase::Drained
    }

    /// Closes the pool for good: who waits and who comes is refused, and idle objects are dropped. Loans go on
    /// until they are dropped, and their objects with them.
    pub fn close(&self) {
        let closed = |phase| (phase != Phase::Closed).then_some(Phase::Closed);
        if self.0.line.go_on(closed) {
            event::closed(self.name(), true);
            self.0.clear();
        }
    }

    /// Says whether the pool was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.phase() == Phase::Closed
    }
}

impl<T> Clone for ObjectPool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for ObjectPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPool")
            .field("name", self.name())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
