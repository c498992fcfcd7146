//! One call of an actor's function, with a panic of it caught.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// A future that gives what the call came to, a panic included, to a function.
    ///
    /// By hand, since an `async` block would store the inner future twice: every idle actor carries the largest of
    /// these in its task.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Call<F, Then> {
        #[pin]
        inner: Inner<F>,
        then: Option<Then>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F> {
        Made { #[pin] future: F },
        Panicked { payload: Option<Box<dyn Any + Send>> },
    }
}

/// Makes the call; `make` may panic as well.
pub(crate) fn call<F, T, U, Then>(make: impl FnOnce() -> F, then: Then) -> Call<F, Then>
where
    F: Future<Output = T>,
    Then: FnOnce(std::thread::Result<T>) -> U,
{
    let inner = match catch_unwind(AssertUnwindSafe(make)) {
        Ok(future) => Inner::Made { future },
        Err(payload) => Inner::Panicked {
            payload: Some(payload),
        },
    };
    Call {
        inner,
        then: Some(then),
    }
}

impl<F, T, U, Then> Future for Call<F, Then>
where
    F: Future<Output = T>,
    Then: FnOnce(std::thread::Result<T>) -> U,
{
    type Output = U;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        let this = self.project();
        let result = match this.inner.project() {
            InnerProjection::Made { future } => {
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(result)) => Ok(result),
                    Err(payload) => Err(payload),
                }
            }
            InnerProjection::Panicked { payload } => match payload.take() {
                Some(payload) => Err(payload),
                None => return Poll::Pending,
            },
        };
        match this.then.take() {
            Some(then) => Poll::Ready(then(result)),
            // Polled after it was ready.
            None => Poll::Pending,
        }
    }
}
