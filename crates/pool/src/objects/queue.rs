//! deadpool's side of a pool of plain objects.
//!
//! An object that comes back while others wait is handed over through deadpool: each of those who wait asks its
//! unmanaged pool for a turn, and one turn is added for each object that is meant for them. deadpool so keeps the line,
//! first come, first served, wakes whose turn it is, and passes a turn on when its receiver was cancelled.
//!
//! The turns carry nothing: the objects themselves lie where the threads that gave them back find them fastest. One that
//! is free when somebody comes is lent without deadpool: nobody waits then.
//!
//! Those who wait for a worker stand in the [machine](crate::machine)'s own queue instead. Its books name each of them
//! anyway, for its deadline and for which of several workers it is given, so that deadpool's line would be a second one;
//! and where fifty tasks share ten workers, and so everybody waits, that cost an eighth of a whole call to a worker.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use deadpool::unmanaged::{Object, Pool, PoolConfig};
use tokio::sync::Notify;

use crate::config::MOST_WORKERS;

/// The line of those who wait.
#[derive(Debug)]
pub(super) struct Queue(Pool<()>);

impl Queue {
    pub(super) fn new() -> Self {
        // Units take no room, so that the largest pool costs no more than the smallest.
        Self(Pool::from_config(&PoolConfig::new(MOST_WORKERS)))
    }

    /// Waits for its turn, unless a `look` finds that there is nothing to wait for: at first, and again at all news.
    ///
    /// Whoever is cancelled after its turn came passes it on.
    pub(super) async fn turn<E>(
        &self,
        news: &Notify,
        look: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut turn = pin!(self.next());
        // Waits for one turn, through any number of news.
        loop {
            // Before the look, so that nothing after it is missed.
            let mut news = pin!(news.notified());
            let turned = poll_fn(|context| {
                // First of all: a turn that was taken must be used, or it is lost to who waits behind.
                if let Err(over) = look() {
                    return Poll::Ready(Err(over));
                }
                match turn.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Ok(true)),
                    Poll::Pending => news.as_mut().poll(context).map(|()| Ok(false)),
                }
            });
            if turned.await? {
                return Ok(());
            }
        }
    }

    /// Waits for its turn, whatever else there may be.
    async fn next(&self) {
        match self.0.get().await {
            Ok(object) => Object::take(object),
            // It is never closed; a pool that closes says so to those who wait itself.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives the first in the line its turn.
    pub(super) fn grant(&self) {
        // Fails only beyond the largest number of objects, each of which is granted once.
        self.0.try_add(()).ok();
    }

    /// Takes back a turn that nobody has taken yet.
    pub(super) fn revoke(&self) {
        // One that is on its way is left to its receiver, who finds nothing and waits on.
        self.0.try_remove().ok();
    }
}
