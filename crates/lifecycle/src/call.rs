//! One call of an actor's function, with a panic of it caught.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::{Incarnation, current};

pin_project! {
    /// A future that gives what the call came to, a panic included, to a function.
    ///
    /// By hand, since an `async` block would store the inner future twice: every idle actor carries the largest of
    /// these in its task.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Call<F, T, Then> {
        #[pin]
        inner: Inner<F, T>,
        // Whose call it is; lent to the thread that polls, so that it need not be counted.
        run: Option<Arc<Incarnation>>,
        then: Option<Then>,
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
pub(crate) fn call<F, T, U, Then>(
    run: Option<Arc<Incarnation>>,
    make: impl FnOnce() -> Result<F, T>,
    then: Then,
) -> Call<F, T, Then>
where
    F: Future<Output = T>,
    Then: FnOnce(std::thread::Result<T>, Option<Arc<Incarnation>>) -> U,
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
        run,
        then: Some(then),
    }
}

/// Does something of an actor's own, and catches its panic.
#[inline]
fn on_behalf_of<T>(
    run: &mut Option<Arc<Incarnation>>,
    work: impl FnOnce() -> T,
) -> std::thread::Result<T> {
    let outer = current::replace(run.take());
    let result = catch_unwind(AssertUnwindSafe(work));
    *run = current::replace(outer);
    result
}

impl<F, T, U, Then> Future for Call<F, T, Then>
where
    F: Future<Output = T>,
    Then: FnOnce(std::thread::Result<T>, Option<Arc<Incarnation>>) -> U,
{
    type Output = U;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        let this = self.project();
        let result = match this.inner.project() {
            InnerProjection::Made { future } => match on_behalf_of(this.run, || future.poll(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(result)) => Ok(result),
                Err(payload) => Err(payload),
            },
            InnerProjection::Done { result } => match result.take() {
                Some(result) => result,
                None => return Poll::Pending,
            },
        };
        match this.then.take() {
            Some(then) => Poll::Ready(then(result, this.run.take())),
            // Polled after it was ready.
            None => Poll::Pending,
        }
    }
}
