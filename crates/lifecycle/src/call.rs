//! One call of an actor's function, with a panic of it caught.

use std::future::{Future, Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::adapter::Life;
use crate::current;

/// What a call came to: `Err` is a panic.
pub(crate) type Ended<T> = std::thread::Result<T>;

pin_project! {
    /// A future that gives what the call came to, a panic included, to a function.
    ///
    /// By hand, since an `async` block would store the inner future twice: every idle actor carries the largest of
    /// these in its task, and ractor moves that of a message twice before it polls it.
    #[must_use = "futures do nothing unless polled"]
    #[project = Projection]
    pub(crate) enum Call<'a, F, Then, B> {
        Made {
            #[pin]
            future: F,
            // Not optional, so that the enum needs no word for its tag.
            life: &'a mut Life,
            then: Then,
        },
        /// What is rare, and must not make the others larger.
        Boxed { future: Pin<Box<B>> },
    }
}

/// Makes the call; `make` may panic as well, and what that comes to is boxed.
#[inline]
pub(crate) fn call<'a, F, T, U, Then, B>(
    life: &'a mut Life,
    make: impl FnOnce() -> F,
    then: Then,
    boxed: impl FnOnce(Ready<U>) -> B,
) -> Call<'a, F, Then, B>
where
    F: Future<Output = T>,
    Then: Fn(Ended<T>, &mut Life) -> U,
{
    // Left where it is made: what is returned through the catch is moved once more, right after it was written.
    let mut future = None;
    let made = catch_unwind(AssertUnwindSafe(|| future = Some(make())));
    match (made, future) {
        (Ok(()), Some(future)) => Call::Made { future, life, then },
        (made, _) => {
            let payload = made.expect_err("nothing was made");
            fail(then(Err(payload), life), boxed)
        }
    }
}

#[cold]
#[inline(never)]
fn fail<'a, F, U, Then, B>(with: U, boxed: impl FnOnce(Ready<U>) -> B) -> Call<'a, F, Then, B> {
    Call::Boxed {
        future: Box::pin(boxed(ready(with))),
    }
}

/// Does something of an actor's own, and catches its panic.
///
/// The run is lent to the thread meanwhile, so that its handles need not be counted.
#[inline(always)]
fn on_behalf_of<T>(life: &mut Life, work: impl FnOnce() -> T) -> Ended<T> {
    let outer = current::replace(life.run.take());
    let result = catch_unwind(AssertUnwindSafe(work));
    life.run = current::replace(outer);
    result
}

impl<F, T, U, Then, B> Future for Call<'_, F, Then, B>
where
    F: Future<Output = T>,
    Then: Fn(Ended<T>, &mut Life) -> U,
    B: Future<Output = U>,
{
    type Output = U;

    /// In place, or what it comes to is written in parts and read as a whole at once, for which the processor waits.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        match self.project() {
            Projection::Made { future, life, then } => {
                let ended = match on_behalf_of(life, || future.poll(cx)) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(result)) => Ok(result),
                    Err(payload) => Err(payload),
                };
                Poll::Ready(then(ended, life))
            }
            Projection::Boxed { future } => future.as_mut().poll(cx),
        }
    }
}
