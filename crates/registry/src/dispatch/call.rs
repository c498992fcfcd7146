//! A message that carries a reply port, and the wait for the reply.

mod late;

use std::pin::Pin;
use std::time::Duration;

use perennial_lifecycle::{Caller, Incarnation, Terms, early};
use ractor::{Message, RpcReplyPort};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use self::late::{Limits, Wait};
use super::{Callee, Target, refused};
use crate::{CallError, event};

/// Calls, and tells of a call that brought no answer.
pub(crate) async fn call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, CallError<M>> {
    let span = event::call_span(target.name());
    let make = || {
        let (reply, answer) = oneshot::channel();
        (make(reply.into()), answer)
    };
    let result = if !span.is_disabled() {
        // Boxed, since the future of each call would have room for this as well.
        let late = late::send(target, make, timeout).instrument(span);
        Box::pin(late).await
    } else if Incarnation::is_any_current() {
        late::send(target, make, timeout).await
    } else {
        let (message, mut answer) = make();
        // Each by itself: put together, they would be moved at once, and read as they were just written in parts.
        let mut ticket = Ticket(None);
        match send_at_once(target, message, timeout, &mut ticket) {
            Ok(callee) => {
                // Nearly all calls are sent at once, by nobody's handler, and answered soon.
                let answered = early(timeout, |cx| Pin::new(&mut answer).poll(cx)).await;
                if let Some(Ok(value)) = answered {
                    return Ok(value);
                }
                let limits = Limits::of(timeout);
                let wait = Wait::new(target, callee, ticket, answer, limits);
                wait.end(answered.is_some()).await
            }
            Err(message) => late::send(target, || (message, answer), timeout).await,
        }
    };
    result.map_err(|error| {
        failed(target, &error);
        *error
    })
}

#[cold]
fn failed<M: Message>(target: &impl Target<M>, error: &CallError<M>) {
    match error {
        CallError::Refused(error) => refused(target, &error.refusal),
        error => event::call_failed(error),
    }
}

/// Hands the message of a call over at once, if nothing stands in its way: of one from outside of all handlers, which
/// nobody is made to wait for in a cycle.
#[inline(always)]
fn send_at_once<'a, M: Message>(
    target: &'a impl Target<M>,
    message: M,
    timeout: Duration,
    ticket: &mut Ticket,
) -> Result<Callee<'a>, M> {
    let traffic = target.traffic();
    let terms = |now| {
        let (own, other) = Caller::pair(traffic);
        ticket.0 = Some(own);
        Terms {
            deadline: Limits::of(timeout).deadline(now, traffic.clock()),
            caller: Some(other),
        }
    };
    // A look at the message only after the step that lets it in: see `Entry`.
    match target.enter_quickly() {
        Some((entry, run)) => entry.send(message, terms).map(|()| Callee::Lent(run)),
        None => target.deliver_quickly(message, terms),
    }
}

/// What a call leaves behind when it is given up: its message need not be handled any more.
///
/// Made when the message gets an envelope, which is where it is written.
struct Ticket(Option<Caller>);

impl Ticket {
    fn is_taken(&self) -> bool {
        self.0.as_ref().is_some_and(Caller::is_taken)
    }

    fn was_dropped(&self) -> bool {
        self.0.as_ref().is_some_and(Caller::was_dropped)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(caller) = self.0.take() {
            caller.leave();
        }
    }
}
