//! How a borrower comes to a worker: at once, or after a wait.

use std::future::poll_fn;
use std::mem;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use perennial_lifecycle::{Count, ExitReason, Incarnation, Moment, StartError, catch_panic};
use perennial_supervisor::StartChildError;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::actor::Life;
use crate::cells::{Claim, Joined, Offer, Taken, Turn, Waiter};
use crate::checkout::Lease;
use crate::machine::Wait;
use crate::{Checkout, CheckoutError, Pool, Timeout, Worker, WorkerRef};

/// What came of starting a worker.
enum Started {
    Worker(Offer),
    Failed(StartError),
    /// The pool's supervisor is not up, or the worker has ended already and is brought up again.
    NotNow,
}

/// What somebody has who asked for a worker, and does not have one yet; the number is his place in line, if what he has
/// comes to nothing.
enum Begin<W: Worker> {
    Asked,
    Claim(Box<Claim>, u64),
    /// It is to be asked first whether it is in order.
    Unchecked(Box<Checkout<W>>, u64),
    /// What he had has come to nothing.
    Again(u64),
}

/// What somebody who waits goes by.
#[derive(Clone, Copy)]
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

    fn of(wait: Wait, location: &'static Location<'static>) -> Self {
        Self {
            location,
            began: wait.since,
            deadline: wait.deadline,
        }
    }

    fn wait_since(&self, since: Moment) -> Wait {
        let deadline = self.deadline;
        Wait { since, deadline }
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

/// A checkout under way.
///
/// By hand, so that it is polled in place and its worker is written once where it is wanted: an `async fn` hands
/// it on from await to await, and to read at once what was just written in parts takes longer than the rest of a loan.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Borrow<'a, W: Worker> {
    pool: &'a Pool<W>,
    location: &'static Location<'static>,
    stage: Stage<'a, W>,
}

#[repr(u64)]
enum Stage<'a, W: Worker> {
    Asked(Timeout, Option<Count>),
    Waiting(Waiter<'a>),
    /// Boxed, so that who need not wait, or just for its turn, carries no room for it.
    Slow(Pin<Box<dyn Future<Output = Result<Checkout<W>, CheckoutError>> + Send + 'a>>),
    Over,
}

impl<W: Worker> Future for Borrow<'_, W> {
    type Output = Result<Checkout<W>, CheckoutError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let pool = this.pool;
        let cells = &pool.cells;
        let (terms, ticket, offer) = match &mut this.stage {
            Stage::Asked(limit, count) => {
                // Before anything is taken: a permit that waits for its turn with the scheduler helps nobody.
                if pin!(consume_budget()).poll(context).is_pending() {
                    *count = None;
                    return Poll::Pending;
                }
                let began = cells.at(*count);
                let terms = Terms::new(*limit, this.location, began);
                let borrower = pool.borrower(this.location);
                let wait = terms.wait_since(terms.began);
                match cells.take_or_join(borrower, terms.began, wait, context.waker()) {
                    Turn::Now(Offer::Worker(taken)) => {
                        cells.note_no_wait();
                        return Poll::Ready(pool.hand_over(taken, this.location));
                    }
                    Turn::Now(offer) => {
                        if !matches!(offer, Offer::Start(_)) {
                            cells.note_no_wait();
                        }
                        (terms, 0, offer)
                    }
                    Turn::Later(joined) => return this.wait(terms, wait, &joined, context),
                    Turn::Never => {
                        return Poll::Ready(Err(cells.exhausted(cells.since(terms.began))));
                    }
                    Turn::Shut => return Poll::Ready(Err(cells.not_open())),
                }
            }
            Stage::Waiting(waiter) => {
                let terms = Terms::of(waiter.wait, this.location);
                let ticket = waiter.ticket;
                match ready!(pool.poll_turn(&terms, waiter, context)) {
                    Ok(offer) => (terms, ticket, offer),
                    Err(over) => return Poll::Ready(Err(this.give_up(over, terms))),
                }
            }
            Stage::Slow(rest) => return rest.as_mut().poll(context),
            Stage::Over => return Poll::Pending,
        };
        match offer {
            Offer::Worker(taken) => Poll::Ready(pool.hand_over(taken, this.location)),
            offer => this.go_on(terms, ticket, offer, context),
        }
    }
}

impl<'a, W: Worker> Borrow<'a, W> {
    /// Waits for its turn from now on.
    #[inline(always)]
    fn wait(
        &mut self,
        terms: Terms,
        wait: Wait,
        joined: &Joined,
        context: &mut Context<'_>,
    ) -> Poll<Result<Checkout<W>, CheckoutError>> {
        let pool = self.pool;
        // Where it is to stay: to move it would take as long as all of this.
        self.stage = Stage::Waiting(Waiter::new(&pool.cells, joined.ticket, wait));
        let Stage::Waiting(waiter) = &mut self.stage else {
            unreachable!("just written")
        };
        waiter.begin(joined);
        if !pool.span().is_disabled() {
            return self.wait_in_span(terms, context);
        }
        let turn = match waiter.poll_timer(context) {
            Poll::Ready(_) => Poll::Ready(Over::Late),
            Poll::Pending => pool.poll_over(&terms),
        };
        turn.map(|over| Err(self.give_up(over, terms)))
    }

    #[cold]
    fn wait_in_span(
        &mut self,
        terms: Terms,
        context: &mut Context<'_>,
    ) -> Poll<Result<Checkout<W>, CheckoutError>> {
        let pool = self.pool;
        let Stage::Waiting(waiter) = mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("it waits")
        };
        let ticket = waiter.ticket;
        let begin = async move {
            match pool.served(&terms, terms.began, waiter).await? {
                Offer::Worker(taken) => pool.hand_over(taken, terms.location),
                offer => pool.wait(terms, pool.begin(offer, &terms, ticket)?).await,
            }
        };
        self.slowly(Box::pin(begin), context)
    }

    #[cold]
    fn give_up(&mut self, over: Over, terms: Terms) -> CheckoutError {
        // Before the refusal, which counts those who wait beside it.
        self.stage = Stage::Over;
        self.pool.refuse(over, &terms, terms.began)
    }

    /// Goes on with something else than a worker that is in order.
    #[cold]
    fn go_on(
        &mut self,
        terms: Terms,
        ticket: u64,
        offer: Offer,
        context: &mut Context<'_>,
    ) -> Poll<Result<Checkout<W>, CheckoutError>> {
        let pool = self.pool;
        match pool.begin(offer, &terms, ticket) {
            Ok(begin) => self.slowly(Box::pin(pool.wait(terms, begin)), context),
            Err(refused) => Poll::Ready(Err(refused)),
        }
    }

    fn slowly(
        &mut self,
        mut rest: Pin<Box<dyn Future<Output = Result<Checkout<W>, CheckoutError>> + Send + 'a>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Checkout<W>, CheckoutError>> {
        let polled = rest.as_mut().poll(context);
        self.stage = Stage::Slow(rest);
        polled
    }
}

impl<W: Worker> Pool<W> {
    pub(crate) fn borrow(
        &self,
        limit: Timeout,
        location: &'static Location<'static>,
        count: Option<Count>,
    ) -> Borrow<'_, W> {
        Borrow {
            pool: self,
            location,
            stage: Stage::Asked(limit, count),
        }
    }

    /// Begins with what was given to who had this ticket, or who has just come (0).
    fn begin(&self, offer: Offer, terms: &Terms, ticket: u64) -> Result<Begin<W>, CheckoutError> {
        Ok(match offer {
            Offer::Worker(taken) | Offer::Unchecked(taken) => {
                let ticket = self.cells.note_check(ticket);
                let checkout = self.hand_over(taken, terms.location)?;
                Begin::Unchecked(Box::new(checkout), ticket)
            }
            Offer::Start(claim) => Begin::Claim(claim, self.cells.place_in_line(ticket)),
        })
    }

    pub(crate) async fn borrow_now(
        &self,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        consume_budget().await;
        let began = self.cells.now();
        let limit = self.cells.config.wait_timeout;
        let terms = Terms::new(limit.into(), location, began);
        loop {
            let taken = match self.cells.take(self.borrower(location), self.cells.now()) {
                Some(Offer::Worker(taken)) => {
                    self.cells.note_no_wait();
                    return self.hand_over(taken, location);
                }
                Some(Offer::Unchecked(taken)) => taken,
                Some(Offer::Start(claim)) => {
                    let start = async { Ok(self.start(claim, location).await) };
                    let left = limit.saturating_sub(self.cells.since(began));
                    let started = tokio::time::timeout(left, self.unless_shut(start)).await;
                    let waited = self.cells.since(began);
                    return match started {
                        Ok(Ok(Started::Worker(Offer::Worker(it) | Offer::Unchecked(it)))) => {
                            self.hand_over(it, location)
                        }
                        Ok(Ok(Started::Failed(source))) => Err(self.cells.no_start(waited, source)),
                        Ok(Ok(Started::NotNow)) if !self.cells.is_open() => {
                            Err(self.cells.not_open())
                        }
                        Ok(Ok(Started::Worker(Offer::Start(_)) | Started::NotNow)) => {
                            Err(self.cells.exhausted(waited))
                        }
                        Ok(Err(shut)) => Err(shut),
                        Err(_) => Err(self.cells.timed_out(waited)),
                    };
                }
                None if !self.cells.is_open() => return Err(self.cells.not_open()),
                None if self.cells.has_room_soon() => {
                    // Part of the start, which the same time bounds.
                    return Box::pin(self.wait(terms, Begin::Asked)).await;
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
            self.cells.note_check(0);
            let checkout = self.hand_over(taken, location)?;
            if let Some(checkout) = self.in_time(&terms, self.checked(checkout)).await? {
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
    async fn wait(&self, terms: Terms, begin: Begin<W>) -> Result<Checkout<W>, CheckoutError> {
        self.wait_for(&terms, begin).instrument(self.span()).await
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
                let (ticket, offer) = match begin {
                    Begin::Asked => match self.take_or_join(terms, since).await {
                        Turn::Now(offer) => (0, offer),
                        Turn::Later(joined) => {
                            let mut waiter =
                                Waiter::new(cells, joined.ticket, terms.wait_since(since));
                            waiter.begin(&joined);
                            (joined.ticket, self.served(terms, since, waiter).await?)
                        }
                        Turn::Never => return Err(cells.exhausted(cells.since(since))),
                        Turn::Shut => return Err(cells.not_open()),
                    },
                    Begin::Again(ticket) => {
                        let wait = terms.wait_since(since);
                        let borrower = self.borrower(terms.location);
                        let waiter = cells.stand_again(ticket, wait, borrower);
                        (ticket, self.served(terms, since, waiter).await?)
                    }
                    Begin::Unchecked(checkout, ticket) => {
                        if let Some(checkout) = self.in_time(terms, self.checked(*checkout)).await?
                        {
                            return Ok(checkout);
                        }
                        since = cells.now();
                        begin = Begin::Again(ticket);
                        continue;
                    }
                    Begin::Claim(claim, ticket) => {
                        let start = self.start(claim, terms.location);
                        match self.in_time(terms, start).await? {
                            Started::Worker(offer) => {
                                cells.note_wait(cells.since(since));
                                (ticket, offer)
                            }
                            Started::Failed(source) => {
                                return Err(cells.no_start(cells.since(since), source));
                            }
                            Started::NotNow => {
                                begin = Begin::Again(ticket);
                                continue;
                            }
                        }
                    }
                };
                if let Offer::Worker(taken) = offer {
                    return self.hand_over(taken, terms.location);
                }
                begin = self.begin(offer, terms, ticket)?;
            }
        }
    }

    fn span(&self) -> Span {
        tracing::debug_span!("pool.checkout", pool.name = &*self.cells.name)
    }

    /// Takes what there is: a worker, or the right to start one; else a place in the queue, from where it is called. Waits
    /// for nothing.
    fn take_or_join<'a>(
        &'a self,
        terms: &Terms,
        since: Moment,
    ) -> impl Future<Output = Turn> + Send + use<'a, W> {
        let (cells, borrower) = (&self.cells, self.borrower(terms.location));
        let wait = terms.wait_since(since);
        poll_fn(move |context| {
            Poll::Ready(cells.take_or_join(borrower, cells.now(), wait, context.waker()))
        })
    }

    /// Waits for the turn of one who stands in the queue.
    #[inline(always)]
    fn poll_turn(
        &self,
        terms: &Terms,
        waiter: &mut Waiter<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Offer, Over>> {
        if !self.cells.is_open() {
            return Poll::Ready(Err(Over::Shut));
        }
        match waiter.poll_turn(context, self.borrower(terms.location)) {
            Poll::Ready(offer) => Poll::Ready(offer.ok_or(Over::Late)),
            Poll::Pending => self.poll_over(terms).map(Err),
        }
    }

    /// Looks for what came before who waits could be called.
    fn poll_over(&self, terms: &Terms) -> Poll<Over> {
        if !self.cells.is_open() {
            return Poll::Ready(Over::Shut);
        }
        match self.cells.hopeless_before(terms.deadline) {
            Some(source) => Poll::Ready(Over::Hopeless(source.into())),
            None => Poll::Pending,
        }
    }

    /// As [`poll_turn`](Self::poll_turn), with a span.
    async fn served<'a>(
        &'a self,
        terms: &Terms,
        since: Moment,
        mut waiter: Waiter<'a>,
    ) -> Result<Offer, CheckoutError> {
        let turn = poll_fn(|context| self.poll_turn(terms, &mut waiter, context));
        let offer = turn.instrument(self.span()).await;
        offer.map_err(|over| {
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

    async fn start(&self, mut claim: Box<Claim>, location: &'static Location<'static>) -> Started {
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

    #[inline(always)]
    fn hand_over(
        &self,
        taken: Taken,
        location: &'static Location<'static>,
    ) -> Result<Checkout<W>, CheckoutError> {
        // First of all: from here on the worker comes back whatever happens, also in the worker's own code.
        let Taken { desk, loan, since } = taken;
        let lease = Lease {
            desk,
            loan,
            since,
            location,
        };
        // Whoever is polled by a handler borrows for its actor.
        if let Some(caller) = Incarnation::current() {
            lease.desk.note_borrower(lease.loan, caller);
        }
        match WorkerRef::new(&lease.desk, lease.loan) {
            Some(worker) => Ok(Checkout::new(self.worker.client(worker), lease)),
            None => {
                let reason = ExitReason::failed("the worker takes another type of message");
                Err(self
                    .cells
                    .unstarted(Duration::ZERO, StartError::new(reason)))
            }
        }
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
            self.cells.note_checked();
            return Some(checkout);
        };
        checkout.discard_as_unfit(&why);
        None
    }
}
