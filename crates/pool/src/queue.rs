//! deadpool's side of the pool.
//!
//! A worker that comes back while others wait is handed over through deadpool: each of those who wait asks
//! its unmanaged pool for an object, and one object is added for each worker given to the queue. deadpool so
//! keeps the line, first come, first served, wakes whose turn it is, and passes an object on when its
//! receiver was cancelled.
//!
//! The objects carry nothing. Which worker an object stands for is decided by the
//! [machine](crate::machine), for deadpool itself would lend a worker that is just being restarted, and
//! could neither lend in the order of idleness nor say which of two workers is for whom. A worker that is
//! idle when somebody comes is lent without deadpool: nobody waits then.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use deadpool::unmanaged::{Object, Pool, PoolConfig};
use tokio::sync::Notify;

use crate::config::MOST_WORKERS;

/// The line of those who wait.
#[derive(Debug)]
pub(crate) struct Queue(Pool<()>);

impl Queue {
    pub(crate) fn new() -> Self {
        // Units take no room, so that the largest pool costs no more than the smallest.
        Self(Pool::from_config(&PoolConfig::new(MOST_WORKERS)))
    }

    /// Waits for its turn, unless a `look` finds that there is nothing to wait for: at first, and again at all news.
    ///
    /// Whoever is cancelled after its turn came passes it on.
    pub(crate) async fn turn<E>(
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
    pub(crate) async fn next(&self) {
        match self.0.get().await {
            Ok(object) => Object::take(object),
            // It is never closed; a pool that closes says so to those who wait itself.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives the first in the line its turn.
    pub(crate) fn grant(&self) {
        // Fails only beyond the largest number of workers, each of which is granted once.
        self.0.try_add(()).ok();
    }

    /// Takes back a turn that nobody has taken yet.
    pub(crate) fn revoke(&self) {
        // One that is on its way is left to its receiver, who finds nothing and waits on.
        self.0.try_remove().ok();
    }
}
