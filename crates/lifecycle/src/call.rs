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
    pub(crate) struct Call<'a, F, T, Then> {
        #[pin]
        inner: Inner<F, T>,
        // Until it is through.
        life: Option<&'a mut Life>,
        then: Then,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F, T> {
        Made { #[pin] future: F },
        Done { result: Option<Result<T, Box<dyn Any + Send>>> },
    }
}

/// Makes the call; `make` may panic as well, or give the result itself where there is nothing to call.
pub(crate) fn call<'a, F, T, U, Then>(
    life: &'a mut Life,
    make: impl FnOnce() -> Result<F, T>,
    then: Then,
) -> Call<'a, F, T, Then>
where
    F: Future<Output = T>,
    Then: Fn(std::thread::Result<T>, &'a mut Life) -> U,
{
    let make = || match make() {
        Ok(future) => Inner::Made { future },
        Err(result) => Inner::Done {
            result: Some(Ok(result)),
        },
    };
    let inner = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|payload| Inner::Done {
        result: Some(Err(payload)),
    });
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

impl<'a, F, T, U, Then> Future for Call<'a, F, T, Then>
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
            InnerProjection::Done { result } => match result.take() {
                Some(result) => result,
                None => return Poll::Pending,
            },
        };
        match this.life.take() {
            Some(life) => Poll::Ready((this.then)(result, life)),
            None => Poll::Pending,
        }
    }
}
