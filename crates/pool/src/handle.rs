use std::fmt;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ChildSpec, ExitReason, StartError};
use perennial_supervisor::{StartChildError, Supervisor};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::actor::{self, Delivery, Recipient};
use crate::cells::{Cells, Claim, Offer, Taken};
use crate::checkout::Lease;
use crate::seat::{Queue, Seat};
use crate::{
    Checkout, CheckoutError, Holder, PoolConfig, PoolConfigError, PoolStats, PoolStatus, Worker,
    WorkerRef,
};

/// A pool of supervised workers; cheap to clone, and still good after any of its actors was restarted.
///
/// See the [crate's example](crate).
pub struct Pool<W: Worker> {
    worker: Arc<W>,
    cells: Arc<Cells>,
    queue: Queue,
}

/// What came of starting an overflow worker.
enum Started {
    Worker(Taken),
    Failed(StartError),
    /// The pool's supervisor is not up.
    Down,
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
        let queue = Queue::new(config.size + config.max_overflow);
        Ok(Self {
            worker: Arc::new(worker),
            cells: Cells::new(name, config),
            queue,
        })
    }

    /// Describes the pool's supervisor, to be started once, in one tree.
    ///
    /// Its id is the pool's name. Its children are the workers `worker-1`, `worker-2` and so on, the
    /// overflow workers while there are any, and last the keeper, which closes the pool when it is told to
    /// stop.
    ///
    /// # Panics
    ///
    /// Never: the ids of the children are fixed.
    pub fn child_spec(&self) -> ChildSpec {
        actor::pool_spec(&self.worker, &self.cells)
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.cells.name
    }

    /// Returns the settings.
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
    ///   own error.
    /// - [`CheckoutError::Closed`] when the pool was closed or its tree is shutting down.
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
    /// assert_eq!(refused.to_string(), "pool `idle`: no worker to be had: 1 in use of 1 + 0, 0 waiting");
    ///
    /// drop(worker);
    /// assert_eq!(pool.status().idle, 1);
    /// # tree.stop(perennial_lifecycle::ExitReason::Shutdown).await;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn checkout(&self) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + '_ {
        self.borrow_within(self.cells.config.wait_timeout, Location::caller())
    }

    /// Borrows a worker, waiting at most this long whatever the pool's own settings say.
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
        limit: Duration,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + '_ {
        self.borrow_within(limit, Location::caller())
    }

    /// Borrows a worker if one is to be had now, and never waits for one to come back.
    ///
    /// It is async because an overflow worker may be started, which the pool's wait timeout bounds.
    ///
    /// # Errors
    ///
    /// - [`CheckoutError::Exhausted`] when all workers are on loan or being restarted.
    /// - [`CheckoutError::TimedOut`] when an overflow worker did not start in time.
    /// - [`CheckoutError::Start`] and [`CheckoutError::Closed`] as for [`checkout`](Self::checkout).
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
        let checkout = self.borrow_within(self.cells.config.wait_timeout, Location::caller());
        async move { Ok(work(checkout.await?).await) }
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

    async fn borrow_within(
        &self,
        limit: Duration,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        if self.cells.is_closed() {
            return Err(self.cells.closed());
        }
        // Without waiting first: a timer costs more than all the rest.
        let mut seat = self.queue.try_take();
        if let Some(free) = seat {
            match self.cells.take(location) {
                Offer::Worker(taken) => {
                    self.cells.note_no_wait();
                    return self.hand_over(free, taken, location);
                }
                // A claim is dropped here and made again below, under the deadline.
                Offer::Start(_) | Offer::Wait => seat = Some(free),
            }
        }
        let Some(waiter) = self.cells.join() else {
            return Err(self.cells.exhausted());
        };
        let span = tracing::debug_span!("pool.checkout", pool.name = &*self.cells.name);
        let wait = self.wait(seat, location).instrument(span);
        let outcome = tokio::time::timeout(limit, wait).await;
        let waited = waiter.waited();
        drop(waiter);
        match outcome {
            Ok(Ok(checkout)) => {
                self.cells.note_wait(waited);
                Ok(checkout)
            }
            Ok(Err(refused)) => Err(refused),
            Err(_) => Err(self.cells.timed_out(waited)),
        }
    }

    async fn borrow_now(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        if self.cells.is_closed() {
            return Err(self.cells.closed());
        }
        let Some(seat) = self.queue.try_take() else {
            return Err(self.cells.exhausted());
        };
        let claim = match self.cells.take(location) {
            Offer::Worker(taken) => {
                self.cells.note_no_wait();
                return self.hand_over(seat, taken, location);
            }
            Offer::Start(claim) => claim,
            Offer::Wait => return Err(self.cells.exhausted()),
        };
        let began = Instant::now();
        let start = self.start_overflow(claim, location);
        match tokio::time::timeout(self.cells.config.wait_timeout, start).await {
            Ok(Started::Worker(taken)) => self.hand_over(seat, taken, location),
            Ok(Started::Failed(source)) => Err(self.start_failed(source)),
            Ok(Started::Down) => Err(self.cells.exhausted()),
            Err(_) => Err(self.cells.timed_out(began.elapsed())),
        }
    }

    /// Waits for a seat, then for a worker to sit on it.
    async fn wait(
        &self,
        seat: Option<Seat>,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        let closing = pin!(self.cells.closing());
        // Only now: a close between the first look and the line above would not be heard.
        if self.cells.is_closed() {
            return Err(self.cells.closed());
        }
        tokio::select! {
            biased;
            () = closing => Err(self.cells.closed()),
            outcome = self.find(seat, location) => outcome,
        }
    }

    async fn find(
        &self,
        seat: Option<Seat>,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        let seat = match seat {
            Some(seat) => seat,
            None => match self.queue.take().await {
                Some(seat) => seat,
                None => return Err(self.cells.closed()),
            },
        };
        let _seated = self.cells.sit_down();
        loop {
            // Before the look, so that no change after it is missed.
            let changed = pin!(self.cells.changed());
            match self.cells.take(location) {
                Offer::Worker(taken) => return self.hand_over(seat, taken, location),
                Offer::Start(claim) => match self.start_overflow(claim, location).await {
                    Started::Worker(taken) => return self.hand_over(seat, taken, location),
                    Started::Failed(source) => return Err(self.start_failed(source)),
                    Started::Down => {}
                },
                Offer::Wait => {}
            }
            changed.await;
        }
    }

    async fn start_overflow(&self, claim: Claim, location: &'static Location<'static>) -> Started {
        // One that was dismissed may still be ending: it counts until it is gone.
        let Ok(permit) = Arc::clone(&self.cells.overflow).acquire_owned().await else {
            return Started::Down;
        };
        let Some(supervisor) = self
            .cells
            .home()
            .and_then(|(_, node)| Supervisor::at(&node))
        else {
            return Started::Down;
        };
        let delivery = Delivery::default();
        let id = self.cells.next_overflow_id();
        let spec = actor::overflow_spec(&self.worker, id, &delivery, permit);
        let recipient = Recipient(delivery.clone());
        let began = Instant::now();
        let started = supervisor.start_child(spec).await;
        let run = delivery.accept();
        drop(recipient);
        let reason = match (started, run) {
            (Ok(started), Some(run)) => {
                if let Some(node) = started.node
                    && let Some(taken) = claim.redeem(node, run, location, began.elapsed())
                {
                    return Started::Worker(taken);
                }
                return Started::Down;
            }
            // It ended the moment it was up.
            (Ok(started), None) => started
                .node
                .and_then(|node| node.last_end())
                .map_or(ExitReason::Killed, |end| end.reason),
            (Err(StartChildError::Failed(failed)), _) => failed.reason,
            (Err(StartChildError::Down(_)), run) => {
                if let Some(orphan) = run {
                    orphan.stop(ExitReason::Shutdown);
                }
                return Started::Down;
            }
            (Err(other), _) => ExitReason::failed(other),
        };
        self.cells.start_failed(&reason);
        Started::Failed(StartError::new(reason))
    }

    fn start_failed(&self, source: StartError) -> CheckoutError {
        CheckoutError::Start {
            pool: Arc::clone(&self.cells.name),
            source,
        }
    }

    fn hand_over(
        &self,
        seat: Seat,
        taken: Taken,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        // First of all: from here on the worker comes back whatever happens, also in the worker's own code.
        let lease = Lease {
            cells: Arc::clone(&self.cells),
            loan: taken.loan,
            place: taken.place,
            since: taken.since,
            location,
            _seat: seat,
        };
        match WorkerRef::new(&lease.loan) {
            Some(worker) => Ok(Checkout::new(self.worker.client(worker), lease)),
            None => Err(self.start_failed(StartError::new(ExitReason::failed(
                "the worker takes another type of message",
            )))),
        }
    }
}

impl<W: Worker> Clone for Pool<W> {
    fn clone(&self) -> Self {
        Self {
            worker: Arc::clone(&self.worker),
            cells: Arc::clone(&self.cells),
            queue: self.queue.clone(),
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

/// A handle to a pool that only looks at it, whatever kind of worker it lends.
#[derive(Clone)]
pub struct PoolView {
    cells: Arc<Cells>,
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

    /// See [`Pool::status`].
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.cells.status()
    }

    /// See [`Pool::stats`].
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.cells.stats()
    }

    /// See [`Pool::holders`].
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.cells.holders()
    }

    /// See [`Pool::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cells.is_closed()
    }

    /// See [`Pool::close`].
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
