//! How a borrower comes to a worker: at once, or after a wait.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{ExitReason, Incarnation, Moment, StartError};
use perennial_supervisor::StartChildError;
use tokio::time::Instant;

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

/// What somebody has who cannot go on at once.
enum Begin<'a, W: Worker> {
    Claim(Claim),
    Waiter(Waiter<'a>),
    /// It is to be asked first whether it is in order.
    Unchecked(Box<Checkout<W>>),
}

/// What somebody who waits goes by.
///
/// It is lent to the futures within, and those who wait are blocks rather than `async fn`, which keep what they are
/// given twice. All of a wait together is less than a kilobyte, beyond which allocators are slow.
struct Terms {
    location: &'static Location<'static>,
    began: Moment,
    deadline: Option<Instant>,
}

/// Why a wait is over before its turn came.
enum Over {
    /// The pool lends nothing any more.
    Shut,
    /// Nothing can be started in time.
    Hopeless(Box<StartError>),
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
        let began = self.cells.now();
        let begin = match self.begin(location, began)? {
            Ok(checkout) => {
                self.cells.note_no_wait();
                if !self.needs_check(&checkout) {
                    return Ok(checkout);
                }
                Begin::Unchecked(Box::new(checkout))
            }
            Err(begin) => begin,
        };
        // Boxed, so that who need not wait carries no room for it.
        Box::pin(self.borrow_slowly(limit, location, began, begin)).await
    }

    /// Takes what there is: a worker, the right to start one, or a place in the queue.
    #[inline]
    fn begin(
        &self,
        location: &'static Location<'static>,
        now: Moment,
    ) -> Result<Result<Checkout<W>, Begin<'_, W>>, CheckoutError> {
        match self.cells.take_or_join(self.borrower(location), now) {
            Ok(Offer::Worker(taken)) => self.hand_over(taken, location).map(Ok),
            Ok(Offer::Start(claim)) => Ok(Err(Begin::Claim(claim))),
            Err(Some(waiter)) => Ok(Err(Begin::Waiter(waiter))),
            Err(None) => Err(self.cells.exhausted(self.cells.since(now))),
        }
    }

    fn begin_again(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Begin<'_, W>, CheckoutError> {
        let begin = self.begin(location, self.cells.now())?;
        Ok(begin.map_or_else(|begin| begin, |checkout| Begin::Unchecked(checkout.into())))
    }

    fn borrow_slowly<'a>(
        &'a self,
        limit: Timeout,
        location: &'static Location<'static>,
        began: Moment,
        begin: Begin<'a, W>,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + 'a {
        let terms = Terms {
            location,
            began,
            // One that is too far away to be told is no deadline.
            deadline: match limit {
                Timeout::Never => None,
                Timeout::After(limit) => {
                    let left = limit.saturating_sub(self.cells.since(began));
                    Instant::now().checked_add(left)
                }
            },
        };
        async move {
            let outcome = {
                let mut wait = pin!(self.wait(&terms, begin));
                let span = tracing::debug_span!("pool.checkout", pool.name = &*self.cells.name);
                // Where nobody listens, entering and leaving the span at each poll would cost for nothing.
                let wait = poll_fn(|context| {
                    let _entered = (!span.is_disabled()).then(|| span.enter());
                    wait.as_mut().poll(context)
                });
                match terms.deadline {
                    Some(deadline) => tokio::time::timeout_at(deadline, wait).await,
                    None => Ok(wait.await),
                }
            };
            outcome.unwrap_or_else(|_| Err(self.cells.timed_out(self.cells.since(terms.began))))
        }
    }

    pub(crate) async fn borrow_now(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        tokio::task::coop::consume_budget().await;
        let began = self.cells.now();
        let limit = self.cells.config.wait_timeout;
        loop {
            if !self.cells.is_open() {
                return Err(self.cells.not_open());
            }
            let taken = match self.cells.take(self.borrower(location), self.cells.now()) {
                Some(Offer::Worker(taken)) => taken,
                Some(Offer::Start(claim)) => {
                    let start = async { Ok(self.start(claim, location).await) };
                    let left = limit.saturating_sub(self.cells.since(began));
                    let started = tokio::time::timeout(left, self.unless_shut(start)).await;
                    let waited = self.cells.since(began);
                    return match started {
                        Ok(Ok(Started::Worker(taken))) => self.hand_over(taken, location),
                        Ok(Ok(Started::Failed(source))) => Err(self.cells.no_start(waited, source)),
                        Ok(Ok(Started::NotNow)) => Err(self.cells.exhausted(waited)),
                        Ok(Err(shut)) => Err(shut),
                        Err(_) => Err(self.cells.timed_out(waited)),
                    };
                }
                None if self.cells.has_room_soon() => {
                    // Part of the start, which the same time bounds.
                    let begin = self.begin_again(location)?;
                    let slowly = self.borrow_slowly(limit.into(), location, began, begin);
                    return Box::pin(slowly).await;
                }
                None => {
                    let waited = self.cells.since(began);
                    // Now is the only time for this call.
                    return Err(match self.cells.hopeless_before(Some(Instant::now())) {
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
    fn wait<'a>(
        &'a self,
        terms: &'a Terms,
        mut begin: Begin<'a, W>,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + 'a {
        let cells = &self.cells;
        let mut since = terms.began;
        async move {
            loop {
                let checkout = match begin {
                    Begin::Unchecked(checkout) => *checkout,
                    Begin::Waiter(waiter) => match self.served(terms, since, waiter).await? {
                        Offer::Worker(taken) => self.hand_over(taken, terms.location)?,
                        Offer::Start(claim) => {
                            begin = Begin::Claim(claim);
                            continue;
                        }
                    },
                    Begin::Claim(claim) => {
                        // Rare, and large.
                        let start = Box::pin(async { Ok(self.start(claim, terms.location).await) });
                        match self.unless_shut(start).await? {
                            Started::Worker(taken) => {
                                cells.note_wait(cells.since(since));
                                self.hand_over(taken, terms.location)?
                            }
                            Started::Failed(source) => {
                                return Err(cells.no_start(cells.since(since), source));
                            }
                            Started::NotNow => {
                                begin = self.begin_again(terms.location)?;
                                if let Begin::Unchecked(_) = begin {
                                    cells.note_wait(cells.since(since));
                                }
                                continue;
                            }
                        }
                    }
                };
                if !self.needs_check(&checkout) {
                    return Ok(checkout);
                }
                let check = Box::pin(async { Ok(self.checked(checkout).await) });
                if let Some(checkout) = self.unless_shut(check).await? {
                    return Ok(checkout);
                }
                since = cells.now();
                begin = self.begin_again(terms.location)?;
            }
        }
    }

    /// Waits for the turn of one who stands in the queue.
    fn served<'a>(
        &'a self,
        terms: &'a Terms,
        since: Moment,
        mut waiter: Waiter<'a>,
    ) -> impl Future<Output = Result<Offer, CheckoutError>> + Send + 'a {
        let cells = &self.cells;
        async move {
            let look = || {
                if !cells.is_open() {
                    return Err(Over::Shut);
                }
                match cells.hopeless_before(terms.deadline) {
                    Some(source) => Err(Over::Hopeless(source.into())),
                    None => Ok(()),
                }
            };
            loop {
                match cells.queue.turn(&cells.news, look).await {
                    Ok(()) => {}
                    Err(Over::Shut) => {
                        drop(waiter);
                        return Err(cells.not_open());
                    }
                    Err(Over::Hopeless(source)) => {
                        // It counts those who wait beside it.
                        drop(waiter);
                        return Err(cells.no_start(cells.since(since), *source));
                    }
                }
                if let Some(offer) = cells.serve(&mut waiter, self.borrower(terms.location), since)
                {
                    return Ok(offer);
                }
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

    #[inline]
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
        // Whoever is polled by a handler borrows for its actor.
        if let Some(actor) = Incarnation::current_path() {
            lease.lent.desk.note_borrower(lease.lent.loan, actor);
        }
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
        let why = {
            let mut check = pin!(async { self.worker.check(&checkout).await });
            // One that panics has failed: given back as in order, the worker would meet the next borrower so too.
            let check = poll_fn(|context| {
                let check = || check.as_mut().poll(context);
                match catch_unwind(AssertUnwindSafe(check)) {
                    Ok(outcome) => outcome.map(|it| it.map_err(|why| why.to_string())),
                    Err(_) => Poll::Ready(Err("the check panicked".to_owned())),
                }
            });
            match tokio::time::timeout(limit, check).await {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some(format!("no answer within {limit:?}")),
            }
        };
        let Some(why) = why else {
            return Some(checkout);
        };
        checkout.discard_as_unfit(&why);
        None
    }
}
