//! One call of an actor's function, with a panic of it caught.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::adapter::Life;
use crate::current;

pin_project! {
    /// A future that gives what the call came to, a panic included, to a function.
    ///
    /// By hand, since an `async` block would store the inner future twice: every idle actor carries the largest of
    /// these in its task.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Call<'a, F, Then> {
        #[pin]
        inner: Inner<F>,
        // Until it is through.
        life: Option<&'a mut Life>,
        then: Then,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F> {
        Made { #[pin] future: F },
        Failed { payload: Option<Box<dyn Any + Send>> },
    }
}

/// Makes the call; `make` may panic as well.
pub(crate) fn call<'a, F, T, U, Then>(
    life: &'a mut Life,
    make: impl FnOnce() -> F,
    then: Then,
) -> Call<'a, F, Then>
where
    F: Future<Output = T>,
    Then: Fn(std::thread::Result<T>, &'a mut Life) -> U,
{
    let inner = match catch_unwind(AssertUnwindSafe(make)) {
        Ok(future) => Inner::Made { future },
        Err(payload) => Inner::Failed {
            payload: Some(payload),
        },
    };
    Call {
        inner,
        life: Some(life),
        then,
    }
}

/// Does something of an actor's own, and catches its panic.
///
/// The run is lent to the thread meanwhile, so that its handles need not be counted.
#[inline]
fn on_behalf_of<T>(life: &mut Life, work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let outer = current::replace(life.run.take());
    let result = catch_unwind(AssertUnwindSafe(work));
    life.run = current::replace(outer);
    result
}

impl<'a, F, T, U, Then> Future for Call<'a, F, Then>
where
    F: Future<Output = T>,
    Then: Fn(std::thread::Result<T>, &'a mut Life) -> U,
{
    type Output = U;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        let this = self.project();
        let Some(life) = this.life else {
            return Poll::Pending;
        };
        let result = match this.inner.project() {
            InnerProjection::Made { future } => match on_behalf_of(life, || future.poll(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(result)) => Ok(result),
                Err(payload) => Err(payload),
            },
            InnerProjection::Failed { payload } => match payload.take() {
                Some(payload) => Err(payload),
                None => return Poll::Pending,
            },
        };
        match this.life.take() {
            Some(life) => Poll::Ready((this.then)(result, life)),
            None => Poll::Pending,
        }
    }
}
