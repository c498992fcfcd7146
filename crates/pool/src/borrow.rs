//! How a borrower comes to a worker: at once, or after a wait.

use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use perennial_lifecycle::{ExitReason, StartError};
use perennial_supervisor::StartChildError;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::actor::Life;
use crate::cells::{Claim, Offer, Taken, Waiter};
use crate::checkout::Lease;
use crate::{Checkout, CheckoutError, Pool, Timeout, Worker, WorkerRef};

/// What came of starting a worker.
enum Started {
    Worker(Taken),
    Failed(StartError),
    /// The pool's supervisor is not up, or the worker has ended already and is brought up again.
    NotNow,
}

/// What a wait has come to.
enum Step {
    Offer(Offer),
    Turn,
    /// Too many wait already.
    Full,
    /// Nothing can be started in time.
    Hopeless(StartError),
}

impl<W: Worker> Pool<W> {
    pub(crate) async fn borrow(
        &self,
        limit: Timeout,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        // Before anything is taken: a permit that waits for its turn with the scheduler helps nobody.
        tokio::task::coop::consume_budget().await;
        if !self.cells.is_open() {
            return Err(self.cells.not_open());
        }
        // Without waiting first: a timer costs more than all the rest.
        let offer = self.cells.take(self.borrower(location));
        if let Offer::Worker(taken) = offer {
            self.cells.note_no_wait();
            let checkout = self.hand_over(taken, location)?;
            if !self.needs_check(&checkout) {
                return Ok(checkout);
            }
            return Box::pin(self.borrow_slowly(limit, location, Some(checkout))).await;
        }
        // A right to start one is dropped here and asked for again, under the deadline.
        drop(offer);
        // Boxed, so that who need not wait carries no room for it.
        Box::pin(self.borrow_slowly(limit, location, None)).await
    }

    async fn borrow_slowly(
        &self,
        limit: Timeout,
        location: &'static Location<'static>,
        unchecked: Option<Checkout<W>>,
    ) -> Result<Checkout<W>, CheckoutError> {
        let began = Instant::now();
        // One that is too far away to be told is no deadline.
        let deadline = match limit {
            Timeout::Never => None,
            Timeout::After(limit) => began.checked_add(limit),
        };
        let came_late = unchecked.is_none();
        let span = tracing::debug_span!("pool.checkout", pool.name = &*self.cells.name);
        let wait = self.wait(location, began, deadline, unchecked);
        let wait = self.unless_shut(wait).instrument(span);
        let outcome = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, wait).await,
            None => Ok(wait.await),
        };
        match outcome {
            Ok(Ok(checkout)) => {
                if came_late {
                    self.cells.note_wait(began.elapsed());
                }
                Ok(checkout)
            }
            Ok(Err(refused)) => Err(refused),
            Err(_) => Err(self.cells.timed_out(began.elapsed())),
        }
    }

    pub(crate) async fn borrow_now(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        tokio::task::coop::consume_budget().await;
        let began = Instant::now();
        let limit = self.cells.config.wait_timeout;
        loop {
            if !self.cells.is_open() {
                return Err(self.cells.not_open());
            }
            let taken = match self.cells.take(self.borrower(location)) {
                Offer::Worker(taken) => taken,
                Offer::Start(claim) => {
                    let start = async { Ok(self.start(claim, location).await) };
                    let left = limit.saturating_sub(began.elapsed());
                    let started = tokio::time::timeout(left, self.unless_shut(start)).await;
                    let waited = began.elapsed();
                    return match started {
                        Ok(Ok(Started::Worker(taken))) => self.hand_over(taken, location),
                        Ok(Ok(Started::Failed(source))) => Err(self.cells.no_start(waited, source)),
                        Ok(Ok(Started::NotNow)) => Err(self.cells.exhausted(waited)),
                        Ok(Err(shut)) => Err(shut),
                        Err(_) => Err(self.cells.timed_out(waited)),
                    };
                }
                Offer::Wait if self.cells.has_room_soon() => {
                    // Part of the start, which the same time bounds.
                    return Box::pin(self.borrow_slowly(limit.into(), location, None)).await;
                }
                Offer::Wait => {
                    let waited = began.elapsed();
                    // Now is the only time for this call.
                    return Err(match self.cells.hopeless_before(Some(began)) {
                        Some(source) => self.cells.no_start(waited, source),
                        None => self.cells.exhausted(waited),
                    });
                }
            };
            self.cells.note_no_wait();
            let checkout = self.hand_over(taken, location)?;
            if !self.needs_check(&checkout) {
                return Ok(checkout);
            }
            if let Some(checkout) = self.checked(checkout).await {
                return Ok(checkout);
            }
        }
    }

    /// Goes on with `wait` until it is over, or the pool lends nothing any more.
    async fn unless_shut<T>(
        &self,
        wait: impl Future<Output = Result<T, CheckoutError>>,
    ) -> Result<T, CheckoutError> {
        tokio::select! {
            biased;
            () = self.cells.shut() => Err(self.cells.not_open()),
            outcome = wait => outcome,
        }
    }

    /// Waits for a worker that is in order.
    async fn wait(
        &self,
        location: &'static Location<'static>,
        began: Instant,
        deadline: Option<Instant>,
        mut unchecked: Option<Checkout<W>>,
    ) -> Result<Checkout<W>, CheckoutError> {
        loop {
            let checkout = match unchecked.take() {
                Some(checkout) => checkout,
                None => {
                    let taken = self.find(location, began, deadline).await?;
                    self.hand_over(taken, location)?
                }
            };
            if !self.needs_check(&checkout) {
                return Ok(checkout);
            }
            if let Some(checkout) = self.checked(checkout).await {
                return Ok(checkout);
            }
        }
    }

    /// Waits for a worker.
    async fn find(
        &self,
        location: &'static Location<'static>,
        began: Instant,
        deadline: Option<Instant>,
    ) -> Result<Taken, CheckoutError> {
        let cells = &self.cells;
        let borrower = self.borrower(location);
        // Dropped last: a turn that came is passed on before the place in the queue is left.
        let mut waiter: Option<Waiter> = None;
        loop {
            let step = {
                let mut turn = pin!(cells.queue.turn());
                // Waits for one turn, through any number of news.
                loop {
                    // Before the looks, so that nothing after them is missed.
                    let news = cells.news();
                    if waiter.is_none() {
                        match cells.take_or_join(borrower) {
                            None => break Step::Full,
                            Some(Ok(offer)) => break Step::Offer(offer),
                            Some(Err(joined)) => waiter = Some(joined),
                        }
                    }
                    if let Some(source) = cells.hopeless_before(deadline) {
                        break Step::Hopeless(source);
                    }
                    tokio::select! {
                        biased;
                        () = &mut turn => break Step::Turn,
                        () = news => {}
                    }
                }
            };
            let offer = match (step, &mut waiter) {
                (Step::Offer(offer), _) => offer,
                (Step::Turn, Some(waiter)) => cells.serve(waiter, borrower),
                (Step::Turn, None) => continue,
                (Step::Full, _) => return Err(cells.exhausted(began.elapsed())),
                (Step::Hopeless(source), _) => {
                    // It counts those who wait beside it.
                    drop(waiter);
                    return Err(cells.no_start(began.elapsed(), source));
                }
            };
            if waiter.as_ref().is_some_and(Waiter::is_served) {
                waiter = None;
            }
            let claim = match offer {
                Offer::Worker(taken) => return Ok(taken),
                Offer::Start(claim) => claim,
                Offer::Wait => continue,
            };
            match self.start(claim, location).await {
                Started::Worker(taken) => return Ok(taken),
                Started::Failed(source) => return Err(cells.no_start(began.elapsed(), source)),
                Started::NotNow => {}
            }
        }
    }

    async fn start(&self, mut claim: Claim, location: &'static Location<'static>) -> Started {
        let life = Life::new(&self.cells, claim.place, claim.life);
        claim.asked = true;
        match self.cells.start(life).await {
            Ok(()) => claim
                .redeem(self.borrower(location))
                .map_or(Started::NotNow, Started::Worker),
            Err(StartChildError::Failed(failed)) => Started::Failed(StartError::new(failed.reason)),
            Err(StartChildError::Down(_) | StartChildError::Ignored { .. }) => Started::NotNow,
            Err(other) => Started::Failed(StartError::new(ExitReason::failed(other))),
        }
    }

    fn hand_over(
        &self,
        taken: Taken,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        // First of all: from here on the worker comes back whatever happens, also in the worker's own code.
        let lease = Lease {
            lent: taken.lent,
            since: taken.since,
            location,
            unfit: false,
        };
        match WorkerRef::new(&lease.lent.desk, lease.lent.loan) {
            Some(worker) => Ok(Checkout::new(self.worker.client(worker), lease)),
            None => {
                let reason = ExitReason::failed("the worker takes another type of message");
                Err(self.cells.no_start(Duration::ZERO, StartError::new(reason)))
            }
        }
    }

    /// Says whether a worker was idle for so long that it is to be asked whether it is in order.
    fn needs_check(&self, checkout: &Checkout<W>) -> bool {
        self.cells
            .config
            .check_after
            .is_some_and(|limit| checkout.was_idle_for() >= limit)
    }

    /// Gives the checkout back if its worker is in order; else the worker is discarded.
    async fn checked(&self, checkout: Checkout<W>) -> Option<Checkout<W>> {
        let limit = self.cells.config.check_timeout;
        let check = self.worker.check(&checkout);
        let why = match tokio::time::timeout(limit, check).await {
            Ok(Ok(())) => return Some(checkout),
            Ok(Err(why)) => why.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        checkout.discard_as_unfit(&why);
        None
    }
}
