//! The way of one message, be it to an address or to a group.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorName, Incarnation};
use ractor::{Message, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument as _;

use crate::policy::{WhenDown, after};
use crate::{CallError, CastError, Refusal, event};

/// How long a call waits to hear why its callee dropped the reply port: the end of an actor is recorded a
/// moment after its messages are dropped.
const END_GRACE: Duration = Duration::from_millis(20);

/// What messages are sent to.
pub(crate) trait Target<M: Message>: Sync {
    fn name(&self) -> &ActorName;

    fn when_down(&self) -> WhenDown;

    /// Asks the gate.
    fn admit(&self) -> Result<(), Refusal>;

    /// Hands the message to a run that is alive now, without asking the gate.
    fn deliver(&self, message: M) -> Result<Arc<Incarnation>, CastError<M>>;

    /// Waits until another try makes sense.
    fn back(&self) -> impl Future<Output = ()> + Send;
}

pub(crate) fn cast<M: Message>(target: &impl Target<M>, message: M) -> Result<(), CastError<M>> {
    let result = match target.admit() {
        Err(refusal) => Err(CastError { message, refusal }),
        Ok(()) => target.deliver(message).map(drop),
    };
    if let Err(error) = &result {
        event::refused(&error.refusal);
    }
    result
}

pub(crate) async fn send<M: Message>(
    target: &impl Target<M>,
    message: M,
    wait: Duration,
) -> Result<(), CastError<M>> {
    if let Err(refusal) = target.admit() {
        event::refused(&refusal);
        return Err(CastError { message, refusal });
    }
    deliver_by(target, message, after(wait))
        .await
        .map(drop)
        .inspect_err(|error| event::refused(&error.refusal))
}

pub(crate) async fn call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, CallError> {
    let span = event::call_span(target.name());
    let result = try_call(target, make, timeout).instrument(span).await;
    if let Err(error) = &result {
        event::call_failed(error);
    }
    result
}

async fn try_call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, CallError> {
    let deadline = after(timeout);
    target.admit()?;
    let (reply, mut answer) = oneshot::channel();
    let callee = deliver_by(target, make(reply.into()), deadline)
        .await
        .map_err(|error| error.refusal)?;
    let name = || target.name().clone();
    match timeout_at(deadline, callee.answer(&mut answer)).await {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(why_dropped(name(), &callee).await),
        Err(_) => Err(CallError::TimedOut {
            name: name(),
            timeout,
        }),
    }
}

async fn why_dropped(name: ActorName, callee: &Incarnation) -> CallError {
    match timeout(END_GRACE, callee.ended()).await {
        Ok(reason) => CallError::CalleeFailed { name, reason },
        Err(_) => CallError::NoReply { name },
    }
}

async fn deliver_by<M: Message>(
    target: &impl Target<M>,
    mut message: M,
    deadline: Instant,
) -> Result<Arc<Incarnation>, CastError<M>> {
    let mut until = None;
    loop {
        let error = match target.deliver(message) {
            Ok(incarnation) => return Ok(incarnation),
            Err(error) => error,
        };
        if !error.refusal.may_pass() {
            return Err(error);
        }
        // Asked for once, at the first refusal: most messages find their actor, and need no clock.
        let until = *until.get_or_insert_with(|| target.when_down().until(deadline));
        let Some(until) = until else {
            return Err(error);
        };
        if timeout_at(until, target.back()).await.is_err() {
            return Err(error);
        }
        message = error.message;
    }
}
