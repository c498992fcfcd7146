//! How a handler hears of the answer that it waits for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::unconstrained;

use super::{Answered, Waiting};

/// A handler that waits for an answer, and listens to its channel: the answer itself ends the wait.
#[derive(Debug)]
#[must_use = "dropped, the caller no longer waits"]
pub struct Listening<'a> {
    waiting: Waiting<'a>,
    answered: Arc<Answered>,
    waker: Waker,
}

impl<'a> Waiting<'a> {
    /// Listens to the channel of the answer, on behalf of a task.
    ///
    /// Who has answered may call the caller in the next moment, before the task of the caller has run and dropped the
    /// wait; that call closes no cycle and must not be refused. So the answer ends the wait in the task that gives it. The
    /// channel must be listened to before the call is sent, or the answer may be there before.
    pub fn listen<T>(self, answer: &mut oneshot::Receiver<T>, task: &Waker) -> Listening<'a> {
        let answered = self.answered(task);
        let waker = Waker::from(Arc::clone(&answered));
        drop(poll_with(answer, &waker));
        Listening {
            waiting: self,
            answered,
            waker,
        }
    }
}

/// Polls for an answer; of a call that was made in a handler, as one who listens.
pub fn poll_answer<T>(
    answer: &mut oneshot::Receiver<T>,
    listening: Option<&mut Listening<'_>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, RecvError>> {
    let Some(listening) = listening else {
        return Pin::new(answer).poll(cx);
    };
    // Somebody else may have polled the call before, or the same task with another waker.
    if !listening.answered.then.will_wake(cx.waker()) {
        listening.answered = listening.waiting.answered(cx.waker());
        listening.waker = Waker::from(Arc::clone(&listening.answered));
    }
    poll_with(answer, &listening.waker)
}

/// Polls with a waker that ends the wait. Only the answer may wake it, and not tokio, that would have a task yield
/// which has done much at a stretch.
fn poll_with<T>(answer: &mut oneshot::Receiver<T>, waker: &Waker) -> Poll<Result<T, RecvError>> {
    Pin::new(&mut unconstrained(answer)).poll(&mut Context::from_waker(waker))
}
