//! How a borrower comes to a worker: at once, or after a wait.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{ExitReason, Incarnation, Moment, StartError, catch_panic};
use perennial_supervisor::StartChildError;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

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

/// What somebody has who asked for a worker.
enum Begin<W: Worker> {
    /// Nothing yet.
    Asked {
        has_waited: bool,
    },
    Claim(Claim),
    /// It is to be asked first whether it is in order.
    Unchecked(Box<Checkout<W>>),
}

/// What somebody who waits goes by.
struct Terms {
    location: &'static Location<'static>,
    began: Moment,
    /// Until when it waits; [`Moment::NEVER`]: for as long as it takes.
    deadline: Moment,
}

impl Terms {
    fn new(limit: Timeout, location: &'static Location<'static>, began: Moment) -> Self {
        let deadline = match limit {
            Timeout::Never => Moment::NEVER,
            Timeout::After(limit) => began.after(limit),
        };
        Self {
            location,
            began,
            deadline,
        }
    }
}

/// Why a wait is over before its turn came.
enum Over {
    /// The pool lends nothing any more.
    Shut,
    /// Nothing can be started in time.
    Hopeless(Box<StartError>),
    Late,
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
        let cells = &self.cells;
        let terms = Terms::new(limit, location, cells.now());
        let mut offer = self.take_or_join(&terms, terms.began).await;
        let is_at_once = offer.is_ok();
        if let Err(Some(waiter)) = offer {
            offer = Ok(self.served(&terms, terms.began, waiter).await?);
        }
        let begin = match offer {
            Ok(Offer::Worker(taken)) => {
                if is_at_once {
                    cells.note_no_wait();
                }
                let checkout = self.hand_over(taken, location)?;
                if !self.needs_check(&checkout) {
                    return Ok(checkout);
                }
                Begin::Unchecked(Box::new(checkout))
            }
            Ok(Offer::Start(claim)) => Begin::Claim(claim),
            Err(_) => return Err(cells.exhausted(cells.since(terms.began))),
        };
        // Boxed, so that who need not wait, or just for its turn, carries no room for it.
        Box::pin(self.wait(&terms, begin)).await
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
                    let terms = Terms::new(limit.into(), location, began);
                    return Box::pin(self.wait(&terms, Begin::Asked { has_waited: false })).await;
                }
                None => {
                    let waited = self.cells.since(began);
                    // Now is the only time for this call.
                    return Err(match self.cells.hopeless_before(self.cells.now()) {
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

    /// Goes on with `work` until it is done, its time is over, or the pool lends nothing any more.
    ///
    /// Boxed, for it is rare, and large.
    fn in_time<'a, T: Send + 'a>(
        &'a self,
        terms: &'a Terms,
        work: impl Future<Output = T> + Send + 'a,
    ) -> Pin<Box<impl Future<Output = Result<T, CheckoutError>> + Send + 'a>> {
        let work = self.unless_shut(async { Ok(work.await) });
        let left = terms.deadline.since(self.cells.now());
        // One that is too far away to be told is no deadline.
        let end = Instant::now().checked_add(left);
        Box::pin(async move {
            match end.filter(|_| terms.deadline != Moment::NEVER) {
                None => work.await,
                Some(end) => {
                    let outcome = tokio::time::timeout_at(end, work).await;
                    outcome.unwrap_or_else(|_| Err(self.too_late(terms)))
                }
            }
        })
    }

    /// Called when the one that gave up has left the queue.
    fn too_late(&self, terms: &Terms) -> CheckoutError {
        self.cells.timed_out(self.cells.since(terms.began))
    }

    /// Waits for a worker that is in order.
    async fn wait(&self, terms: &Terms, begin: Begin<W>) -> Result<Checkout<W>, CheckoutError> {
        self.wait_for(terms, begin).instrument(self.span()).await
    }

    /// Not an `async fn`, which keeps what it is given twice.
    fn wait_for<'a>(
        &'a self,
        terms: &'a Terms,
        mut begin: Begin<W>,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send + 'a {
        let cells = &self.cells;
        let mut since = terms.began;
        async move {
            loop {
                let checkout = match begin {
                    Begin::Asked { has_waited } => {
                        let offer = match self.take_or_join(terms, cells.now()).await {
                            Ok(offer) => {
                                if has_waited && matches!(offer, Offer::Worker(_)) {
                                    cells.note_wait(cells.since(since));
                                }
                                offer
                            }
                            Err(Some(waiter)) => self.served(terms, since, waiter).await?,
                            Err(None) => return Err(cells.exhausted(cells.since(since))),
                        };
                        match offer {
                            Offer::Worker(taken) => self.hand_over(taken, terms.location)?,
                            Offer::Start(claim) => {
                                begin = Begin::Claim(claim);
                                continue;
                            }
                        }
                    }
                    Begin::Unchecked(checkout) => *checkout,
                    Begin::Claim(claim) => {
                        let start = self.start(claim, terms.location);
                        match self.in_time(terms, start).await? {
                            Started::Worker(taken) => {
                                cells.note_wait(cells.since(since));
                                self.hand_over(taken, terms.location)?
                            }
                            Started::Failed(source) => {
                                return Err(cells.no_start(cells.since(since), source));
                            }
                            Started::NotNow => {
                                begin = Begin::Asked { has_waited: true };
                                continue;
                            }
                        }
                    }
                };
                if !self.needs_check(&checkout) {
                    return Ok(checkout);
                }
                if let Some(checkout) = self.in_time(terms, self.checked(checkout)).await? {
                    return Ok(checkout);
                }
                since = cells.now();
                begin = Begin::Asked { has_waited: false };
            }
        }
    }

    fn span(&self) -> Span {
        tracing::debug_span!("pool.checkout", pool.name = &*self.cells.name)
    }

    /// Takes what there is: a worker, or the right to start one; else a place in the queue, from where it is called. Waits
    /// for nothing.
    #[inline]
    fn take_or_join<'a>(
        &'a self,
        terms: &Terms,
        now: Moment,
    ) -> impl Future<Output = Result<Offer, Option<Waiter<'a>>>> + Send + use<'a, W> {
        let (cells, borrower) = (&self.cells, self.borrower(terms.location));
        let deadline = terms.deadline;
        poll_fn(move |context| {
            Poll::Ready(cells.take_or_join(borrower, now, deadline, context.waker()))
        })
    }

    /// Waits for the turn of one who stands in the queue.
    async fn served<'a>(
        &'a self,
        terms: &Terms,
        since: Moment,
        mut waiter: Waiter<'a>,
    ) -> Result<Offer, CheckoutError> {
        let cells = &self.cells;
        let span = self.span();
        let begin = poll_fn(|context| {
            // Where nobody listens, entering and leaving the span at each poll would cost for nothing.
            let _entered = (!span.is_disabled()).then(|| span.enter());
            if !cells.is_open() {
                return Poll::Ready(Err(Over::Shut));
            }
            match waiter.poll_turn(context, self.borrower(terms.location), since) {
                Poll::Ready(Some(offer)) => return Poll::Ready(Ok(offer)),
                Poll::Ready(None) => return Poll::Ready(Err(Over::Late)),
                Poll::Pending => {}
            }
            // What came before it could be called is to be seen now.
            if !cells.is_open() {
                return Poll::Ready(Err(Over::Shut));
            }
            match cells.hopeless_before(terms.deadline) {
                Some(source) => Poll::Ready(Err(Over::Hopeless(source.into()))),
                None => Poll::Pending,
            }
        });
        let begin = begin.await;
        begin.map_err(|over| {
            // Before the refusal, which counts those who wait beside it.
            drop(waiter);
            self.refuse(over, terms, since)
        })
    }

    fn refuse(&self, over: Over, terms: &Terms, since: Moment) -> CheckoutError {
        let cells = &self.cells;
        match over {
            Over::Shut => cells.not_open(),
            Over::Hopeless(source) => cells.no_start(cells.since(since), *source),
            Over::Late => self.too_late(terms),
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
                Err(self
                    .cells
                    .unstarted(Duration::ZERO, StartError::new(reason)))
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
                match catch_panic(check) {
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
