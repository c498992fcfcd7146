use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, ChildSpec, Count};

use crate::cells::{Borrower, Cells};
use crate::{
    Checkout, CheckoutError, Holder, PoolConfig, PoolConfigError, PoolStats, PoolStatus, PoolView,
    PoolWorker, Timeout, Worker, actor,
};

/// A pool of supervised workers; cheap to clone, and still good after any of its actors was restarted.
///
/// See the [crate's example](crate).
pub struct Pool<W: Worker> {
    pub(crate) worker: Arc<W>,
    pub(crate) cells: Arc<Cells>,
    actor: Option<ActorPath>,
}

impl<W: Worker> Pool<W> {
    /// Makes a pool. It has workers once its [`child_spec`](Self::child_spec) is started.
    ///
    /// # Errors
    ///
    /// [`PoolConfigError`] names the field.
    pub fn new(
        name: impl Into<Arc<str>>,
        worker: W,
        config: PoolConfig,
    ) -> Result<Self, PoolConfigError> {
        let name = name.into();
        config.validate(&name)?;
        Ok(Self {
            worker: Arc::new(worker),
            cells: Cells::new(name, config),
            actor: None,
        })
    }

    /// Describes the pool's supervisor, to be started once, in one tree.
    ///
    /// Its id is the pool's name. Its children are the workers `worker-1`, `worker-2` and so on, those beyond
    /// the pool's size only while there are any, and the `keeper`, which looks after their times.
    ///
    /// # Panics
    ///
    /// Never: the settings of the children are fixed.
    pub fn child_spec(&self) -> ChildSpec {
        actor::pool_spec(&self.worker, &self.cells)
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.cells.name
    }

    /// Returns the settings that it was made with; [`status`](Self::status) says how large it is now.
    pub fn config(&self) -> &PoolConfig {
        &self.cells.config
    }

    /// Borrows a worker, waiting until one is free or the pool's wait timeout passes.
    ///
    /// Before the pool is started, and while its workers or its supervisor are restarted, it waits as well.
    /// Dropping the returned [`Checkout`] checks the worker in.
    ///
    /// # Errors
    ///
    /// - [`CheckoutError::TimedOut`] says how the pool stood when the time ran out.
    /// - [`CheckoutError::Exhausted`] when `max_waiting` others wait already.
    /// - [`CheckoutError::Start`] when a worker had to be started and was not; its source is the worker's
    ///   own error. At once when no worker is up and the next attempt comes after the deadline.
    /// - [`CheckoutError::Drained`] when the pool was drained.
    /// - [`CheckoutError::Closed`] when the pool was closed or its tree is shutting down.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with its time enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future gives up the place in the queue; a worker already on its way is
    /// checked in, not lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use perennial_pool::{Pool, PoolConfig, Worker, WorkerRef};
    /// # use perennial_supervisor::Supervisor;
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
    /// #     type Client = WorkerRef<()>;
    /// #     fn actor(&self) -> (Idle, ()) { (Idle, ()) }
    /// #     fn client(&self, worker: WorkerRef<()>) -> WorkerRef<()> { worker }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::new("idle", IdleWorker, PoolConfig::new(1))?;
    /// let tree = Supervisor::builder().child(pool.child_spec()).build()?.start("demo").await?;
    ///
    /// let worker = pool.checkout().await?;
    /// assert_eq!(pool.status().in_use, 1);
    /// assert_eq!(pool.holders()[0].location.file(), file!());
    ///
    /// let refused = pool.try_checkout().await.unwrap_err();
    /// assert_eq!(refused.to_string(), "pool `idle`: none to be had: 1 in use of 1 + 0, 0 waiting");
    ///
    /// drop(worker);
    /// assert_eq!(pool.status().idle, 1);
    /// # tree.stop(perennial_lifecycle::ExitReason::Shutdown).await;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn checkout(&self) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + '_ {
        self.borrow(
            self.cells.config.wait_timeout.into(),
            Location::caller(),
            None,
        )
    }

    /// Borrows a worker, waiting at most this long whatever the pool's own settings say:
    /// a [`Duration`](std::time::Duration), or [`Timeout::Never`].
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
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send {
        self.borrow(limit.into(), Location::caller(), None)
    }

    /// Borrows a worker for who is listed as its holder: a place in the code, other than the one that calls this.
    ///
    /// Waits at most for `limit`, and no longer than the pool's own settings say. `count` is what the processor's counter
    /// showed just now, for who has read it: to read it again would take longer than to lend.
    ///
    /// # Errors
    ///
    /// As [`checkout`](Self::checkout).
    ///
    /// # Cancel safety
    ///
    /// As [`checkout`](Self::checkout).
    pub fn checkout_at(
        &self,
        limit: Option<Duration>,
        location: &'static Location<'static>,
        count: Option<Count>,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send {
        let own = self.cells.config.wait_timeout;
        let limit = limit.map_or(own, |limit| limit.min(own));
        self.borrow(limit.into(), location, count)
    }

    /// Borrows a worker if one is to be had now, and never waits for one to come back.
    ///
    /// It is async because an overflow worker may be started, or one that was idle be asked whether it is in order; the
    /// pool's wait timeout bounds both.
    ///
    /// # Errors
    ///
    /// - [`CheckoutError::Exhausted`] when all workers are on loan or being restarted.
    /// - [`CheckoutError::TimedOut`] when an overflow worker did not start in time, or no worker was found in order.
    /// - [`CheckoutError::Start`] when a worker had to be started and was not, or may not be started yet after
    ///   failures.
    /// - [`CheckoutError::Drained`] and [`CheckoutError::Closed`] as for [`checkout`](Self::checkout).
    ///
    /// # Cancel safety
    ///
    /// As [`checkout`](Self::checkout).
    #[track_caller]
    pub fn try_checkout(
        &self,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + '_ {
        self.borrow_now(Location::caller())
    }

    /// Borrows a worker, runs `work` with it and checks it in: on return, on panic, and when the future is
    /// dropped.
    ///
    /// The pool's wait timeout bounds the wait, not the work.
    ///
    /// # Errors
    ///
    /// As [`checkout`](Self::checkout); then `work` is not run.
    ///
    /// # Cancel safety
    ///
    /// As safe as `work` itself: wherever it is dropped, the worker is checked in.
    #[track_caller]
    pub fn transaction<'a, T, F, Fut>(
        &'a self,
        work: F,
    ) -> impl Future<Output = Result<T, CheckoutError>> + use<'a, W, T, F, Fut>
    where
        F: FnOnce(Checkout<W>) -> Fut,
        Fut: Future<Output = T>,
    {
        let checkout = self.borrow(
            self.cells.config.wait_timeout.into(),
            Location::caller(),
            None,
        );
        async move { Ok(work(checkout.await?).await) }
    }

    /// As [`transaction`](Self::transaction), waiting at most this long for the worker: a
    /// [`Duration`](std::time::Duration), or [`Timeout::Never`].
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// As [`transaction`](Self::transaction).
    #[track_caller]
    pub fn transaction_within<'a, L, T, F, Fut>(
        &'a self,
        limit: L,
        work: F,
    ) -> impl Future<Output = Result<T, CheckoutError>> + use<'a, W, L, T, F, Fut>
    where
        L: Into<Timeout>,
        F: FnOnce(Checkout<W>) -> Fut,
        Fut: Future<Output = T>,
    {
        let checkout = self.borrow(limit.into(), Location::caller(), None);
        async move { Ok(work(checkout.await?).await) }
    }

    /// Returns a handle whose checkouts are listed as those of this actor.
    ///
    /// Without it a checkout in a handler is listed as its actor's; a task that an actor has started needs this.
    #[must_use]
    pub fn on_behalf_of(&self, actor: ActorPath) -> Self {
        Self {
            actor: Some(actor),
            ..self.clone()
        }
    }

    /// Counts workers and waiters, exactly, at this moment.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.cells.status()
    }

    /// Says what the pool has done so far.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.cells.stats()
    }

    /// Lists who holds a worker, the longest first.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.cells.holders()
    }

    /// Lists the workers that are up: first the idle ones, the longest idle first, those on loan last.
    #[must_use]
    pub fn workers(&self) -> Vec<PoolWorker> {
        self.cells.workers()
    }

    /// Changes how many workers the pool keeps, and how many more it may start.
    ///
    /// Missing workers are started in the background. Those that are one too many are ended: the idle ones now,
    /// the others when they come back. Nobody who waits is sent away. The size outlives restarts of the
    /// pool's supervisor.
    ///
    /// # Errors
    ///
    /// [`PoolConfigError`] when there would be too many, or the pool's wait timeout is zero and leaves no time to start one
    /// on demand; nothing is changed then.
    pub fn resize(&self, size: usize, max_overflow: usize) -> Result<(), PoolConfigError> {
        self.view().resize(size, max_overflow)
    }

    /// Lends nothing more, and waits until all workers are back, or the pool is [resumed](Self::resume).
    ///
    /// Who waits and who comes is refused with [`CheckoutError::Drained`]. Workers live on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait; the pool stays drained until it is resumed.
    pub async fn drain(&self) {
        self.view().drain().await;
    }

    /// Lends again after a [drain](Self::drain).
    pub fn resume(&self) {
        self.cells.resume();
    }

    /// Says whether the pool was drained and not resumed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.cells.is_drained()
    }

    /// Closes the pool for good: who waits and who comes is refused. Loans go on until they are dropped.
    ///
    /// The workers end with the pool's supervisor.
    pub fn close(&self) {
        self.cells.close();
    }

    /// Says whether checkouts are refused: the pool was closed, or its supervisor was told to stop.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cells.is_closed()
    }

    /// Returns a handle that only looks, without the kind of worker.
    #[must_use]
    pub fn view(&self) -> PoolView {
        PoolView {
            cells: Arc::clone(&self.cells),
        }
    }

    pub(crate) fn borrower(&self, location: &'static Location<'static>) -> Borrower<'_> {
        Borrower {
            location,
            actor: self.actor.as_ref(),
        }
    }
}

impl<W: Worker> Clone for Pool<W> {
    fn clone(&self) -> Self {
        Self {
            worker: Arc::clone(&self.worker),
            cells: Arc::clone(&self.cells),
            actor: self.actor.clone(),
        }
    }
}

impl<W: Worker> fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", self.name())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
