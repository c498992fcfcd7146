//! How a run that has come up gets to whoever starts it.
//!
//! A run is made in its actor's `pre_start`, where ractor's handle of it is known first. ractor polls that within the
//! poll of the start, and gives nothing of it back but success; so the run is left with the thread in between.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::Incarnation;

thread_local! {
    static NEWBORN: Cell<Option<Arc<Incarnation>>> = const { Cell::new(None) };
}

/// Leaves a run for whoever starts it. The last thing in its `pre_start`.
pub(crate) fn present(run: Arc<Incarnation>) {
    NEWBORN.set(Some(run));
}

pin_project! {
    /// A start; gives the run that came up beside what came of it.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Birth<F> {
        #[pin]
        start: F,
    }
}

impl<F> Birth<F> {
    pub(crate) fn of(start: F) -> Self {
        Self { start }
    }
}

impl<F: Future> Future for Birth<F> {
    type Output = (F::Output, Option<Arc<Incarnation>>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = ready!(self.project().start.poll(cx));
        // Whatever is started within a `pre_start` has been taken before that one's end.
        Poll::Ready((output, NEWBORN.take()))
    }
}
