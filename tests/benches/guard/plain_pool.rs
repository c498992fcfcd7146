//! Plain objects in deadpool's pool, and how a guard lends them.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use deadpool::managed::{self, Manager, Metrics, RecycleResult, Timeouts};
use perennial::CheckoutError;
use perennial::guard::Lend;
use tokio::task::coop::consume_budget;

use crate::OBJECTS;

/// Counts how often it was used.
#[derive(Debug, Default)]
pub(crate) struct Plain(u64);

impl Plain {
    pub(crate) fn work(&mut self, number: u64) -> u64 {
        self.0 += 1;
        self.0 ^ number
    }
}

/// Makes them.
#[derive(Debug)]
pub(crate) struct Objects;

impl Manager for Objects {
    type Type = Plain;
    type Error = Infallible;

    async fn create(&self) -> Result<Plain, Infallible> {
        Ok(Plain::default())
    }

    async fn recycle(&self, _: &mut Plain, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

pub(crate) fn managed() -> managed::Pool<Objects> {
    let builder = managed::Pool::builder(Objects).max_size(OBJECTS);
    let builder = builder.runtime(deadpool::Runtime::Tokio1);
    builder.build().expect("a runtime is set")
}

/// Nobody waits for so long in a benchmark.
fn refused() -> CheckoutError {
    CheckoutError::Closed {
        pool: "plain".into(),
    }
}

/// deadpool's managed pool as the stage of a guard, as a host would write it.
#[derive(Clone)]
pub(crate) struct Managed(pub(crate) managed::Pool<Objects>);

impl Lend for Managed {
    type Item = managed::Object<Objects>;

    async fn lend(&self, left: Option<Duration>) -> Result<Self::Item, CheckoutError> {
        consume_budget().await;
        let at_once = Timeouts::wait_millis(0);
        {
            let get = pin!(self.0.timeout_get(&at_once));
            // Making and recycling do not wait here, so the first poll is the last.
            if let Poll::Ready(Ok(object)) = get.poll(&mut Context::from_waker(Waker::noop())) {
                return Ok(object);
            }
        }
        let timeouts = Timeouts {
            wait: left,
            ..Timeouts::default()
        };
        let object = self.0.timeout_get(&timeouts).await;
        object.map_err(|_| refused())
    }
}
