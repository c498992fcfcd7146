//! deadpool's side of the pool.
//!
//! deadpool bounds how many borrow at once and queues the others, first come, first served. Its objects
//! are seats: one per worker that may be lent. Which worker sits on a seat is decided when it is taken, by
//! the [machine](crate::machine), for deadpool itself would lend a worker that is just being restarted,
//! could not wait for it, and keeps the errors of a failed start to itself.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleResult, Timeouts,
};

/// The right to one worker; goes to the next in the queue when it is dropped.
pub(crate) type Seat = Object<Seats>;

#[derive(Debug)]
pub(crate) struct Seats;

impl Manager for Seats {
    type Type = ();
    type Error = Infallible;

    async fn create(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn recycle(&self, (): &mut (), _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

/// The seats of one pool and the queue for them.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Pool<Seats>);

impl Queue {
    pub(crate) fn new(seats: usize) -> Self {
        let pool = Pool::builder(Seats)
            .max_size(seats)
            .queue_mode(QueueMode::Lifo)
            .build();
        Self(pool.expect("only timeouts need a runtime, and none is set"))
    }

    /// Takes a seat if one is free and nobody queues for it: no wait, no timer.
    pub(crate) fn try_take(&self) -> Option<Seat> {
        let timeouts = Timeouts {
            wait: Some(Duration::ZERO),
            ..Timeouts::default()
        };
        let take = pin!(self.0.timeout_get(&timeouts));
        // Seats are created and recycled without an await, so the first poll is the last.
        match take.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(seat) => seat.ok(),
            Poll::Pending => None,
        }
    }

    /// Waits for a seat; `None` only if the queue itself was closed.
    pub(crate) async fn take(&self) -> Option<Seat> {
        match self.0.get().await {
            Ok(seat) => Some(seat),
            Err(PoolError::Closed) => None,
            Err(PoolError::Backend(never)) => match never {},
            Err(_) => None,
        }
    }
}
